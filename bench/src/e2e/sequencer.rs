//! The process that orders the ledger's transactions, and that the others join through.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cairn_consensus::{Config, Sequencer};
use cairn_core::message::{ControlRequest, ControlResponse};
use cairn_core::{Bounded, ErrorCode, GroupId, LedgerId, Record, SecretKey, Text, UnixMillis};
use cairn_ledger::{Genesis, Ledger, Parameters, RemoteLedger};
use cairn_net::{DhtMode, InboundRequest, LedgerPeers, Network, RealConfig, RealNetwork};
use cairn_runtime::{RealRuntime, Runtime};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::member::{Address, Answer, Order, obey};

/// Most requests being answered at once.
const ANSWERS_MAX: usize = 256;
/// Between two looks at the state, which is in this process's own memory.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Where the ledger begins: the same for all members, which know its id by it.
fn genesis() -> Genesis {
    Genesis {
        time: UnixMillis::new(0),
        parameters: Parameters::default(),
        endowed: Bounded::empty(),
        validators: None,
    }
}

/// Which ledger it is.
fn ledger_id() -> LedgerId {
    genesis().ledger_id()
}

/// Runs it until its orders end.
pub(super) async fn run(runtime: &RealRuntime, folder: &Path) -> Result<()> {
    let ledger_folder = folder.join("ledger");
    Sequencer::create(runtime, &ledger_folder, &genesis()).await?;
    let sequencer = Sequencer::open(runtime.clone(), Config::new(ledger_folder)).await?;
    let config = RealConfig::loopback(fresh_key(runtime), DhtMode::Server);
    let net = RealNetwork::start(config, runtime.clone()).await?;
    let address = Address {
        ledger_key: Some(sequencer.key().to_string()),
        ..address_of(&net)?
    };
    let _serving = runtime.spawn("answers", serve(net.clone(), sequencer.clone()));
    obey(runtime, Some(address), |order| {
        act(runtime, &sequencer, order)
    })
    .await?;
    sequencer.close().await;
    net.shutdown().await;
    Ok(())
}

/// A key for a member that lives as long as its process.
pub(super) fn fresh_key(runtime: &RealRuntime) -> SecretKey {
    let mut secret = [0; 32];
    runtime.fill(&mut secret);
    SecretKey::from_bytes(&secret)
}

/// The ledger as a member reaches it.
pub(super) fn ledger_at<N: Network>(
    net: N,
    sequencer: &Address,
) -> Result<RemoteLedger<LedgerPeers<N>>> {
    let peers = LedgerPeers::new(net, &[sequencer.node.parse()?]);
    let key = sequencer
        .ledger_key
        .as_deref()
        .context("the ledger's key")?;
    Ok(RemoteLedger::new(peers, ledger_id(), key.parse()?))
}

/// Where a peer's control plane answers.
pub(super) fn address_of(net: &RealNetwork) -> Result<Address> {
    let address = net.listen_addresses().into_iter().next();
    Ok(Address {
        node: net.local().to_string(),
        address: address.context("it listens")?,
        ledger_key: None,
    })
}

async fn act(
    runtime: &RealRuntime,
    sequencer: &Sequencer<RealRuntime>,
    order: Order,
) -> Result<Answer> {
    match order {
        Order::AwaitNodes { count } => loop {
            let active = sequencer.status().await?.active_node_count;
            if usize::try_from(active)? >= count {
                return Ok(Answer::Done);
            }
            runtime.sleep(LOOK_INTERVAL).await;
        },
        Order::Rest => {
            runtime.sleep(Duration::from_secs(1)).await;
            Ok(Answer::Done)
        }
        Order::AwaitSlots { groups } => {
            for group in groups {
                await_slots(runtime, sequencer, group.parse()?).await?;
            }
            Ok(Answer::Done)
        }
        other => bail!("a sequencer does not {other:?}"),
    }
}

async fn await_slots(
    runtime: &RealRuntime,
    sequencer: &Sequencer<RealRuntime>,
    id: GroupId,
) -> Result<()> {
    loop {
        let group = sequencer.group(id).await?.context("a group of the link")?;
        let newest = group.revision.number;
        if group.deals.iter().all(|deal| deal.acknowledged >= newest) {
            return Ok(());
        }
        runtime.sleep(LOOK_INTERVAL).await;
    }
}

/// Answers for the ledger until the network is shut down.
async fn serve(net: RealNetwork, sequencer: Sequencer<RealRuntime>) {
    let mut answering = FuturesUnordered::new();
    loop {
        tokio::select! {
            request = net.next_request(), if answering.len() < ANSWERS_MAX => {
                let Some(request) = request else { return };
                answering.push(answer(&sequencer, request));
            }
            Some(()) = answering.next(), if !answering.is_empty() => {}
        }
    }
}

async fn answer(sequencer: &Sequencer<RealRuntime>, request: InboundRequest) {
    let answered = match ControlRequest::decode(&request.message) {
        Ok(ControlRequest::Ledger(message)) => {
            Bounded::new(sequencer.answer(request.peer, &message).await)
                .map(ControlResponse::Ledger)
                .map_err(|_| ErrorCode::Internal)
        }
        Ok(
            ControlRequest::Revise { .. }
            | ControlRequest::Detail { .. }
            | ControlRequest::Slot { .. },
        ) => Err(ErrorCode::NotMySlot),
        Err(_) => Err(ErrorCode::Malformed),
    };
    let response = answered.unwrap_or_else(|code| ControlResponse::Error {
        code,
        text: Text::cut("this is the sequencer"),
    });
    if request.answer.send(response.encode()).is_err() {
        // Whoever asked has left.
    }
}
