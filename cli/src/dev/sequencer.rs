//! The sequencer of a development network: orders the ledger's transactions in this process and
//! answers for the ledger as a peer of the network, the one that others join through.

use std::path::Path;
use std::time::Duration;

use cairn_consensus::{Config, Sequencer as Order};
use cairn_core::{AccountId, Amount, Bounded, NodeId, Profile, UnixMillis};
use cairn_ledger::{Genesis, Ledger};
use cairn_runtime::Runtime;
use cairn_runtime::real::RealRuntime;

use super::money::{self, SUPPLY, Treasury};
use super::plan::Plan;
use crate::app::App;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::ledger_peer::LedgerPeer;
use crate::network_file::NetworkFile;
use crate::{files, node};

/// The running sequencer.
pub(super) struct Sequencer {
    order: Order<RealRuntime>,
    peer: LedgerPeer,
    treasury: Treasury,
}

impl Sequencer {
    /// Opens the ledger in `folder`, made when there is none, and answers for it at the addresses
    /// of `listen`, or on a free port of the loopback interface when there are none.
    ///
    /// # Errors
    ///
    /// Of kind storage when the ledger can't be opened, network when no port can be listened on.
    pub(super) async fn start(app: &App, folder: &Path, plan: &Plan) -> Result<Self, Failure> {
        let home = node::Folder::at(folder);
        files::make_folder(folder)?;
        let key = node::node_key(app, &home)?;
        let account = AccountId::new(key.public());
        let order = open(app, &folder.join("ledger"), plan.epoch, account).await?;
        let peer = LedgerPeer::start(app, &home, &plan.listen, Vec::new(), order.clone()).await?;
        Ok(Self {
            order,
            peer,
            treasury: Treasury::new(key),
        })
    }

    /// The ledger.
    pub(super) const fn ledger(&self) -> &Order<RealRuntime> {
        &self.order
    }

    /// Gives an account credits.
    ///
    /// # Errors
    ///
    /// Of kind network when the ledger refuses.
    pub(super) async fn grant(&self, to: AccountId, amount: Amount) -> Result<(), Failure> {
        self.treasury.grant(&self.order, to, amount).await
    }

    /// Gives an owner of this machine something to spend, and puts collateral down for the nodes.
    ///
    /// # Errors
    ///
    /// As [`Self::grant`].
    pub(super) async fn fund(
        &self,
        owner: Option<AccountId>,
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> Result<(), Failure> {
        if let Some(owner) = owner {
            self.treasury.grant_first(&self.order, owner).await?;
        }
        for node in nodes {
            self.treasury.secure(&self.order, node).await?;
        }
        Ok(())
    }

    /// How to reach the network through this peer.
    pub(super) fn network(&self, profile: Profile) -> NetworkFile {
        let ledger = (self.order.id(), self.order.key());
        self.peer.network(ledger, profile)
    }

    /// Has the ledger call a node lost: its slots are drawn anew.
    ///
    /// # Errors
    ///
    /// Of kind network when the ledger refuses.
    pub(super) async fn declare_lost(&self, node: NodeId) -> Result<(), Failure> {
        self.order.declare_lost(node).await.map(|_| ()).or_fail(
            FailureKind::Network,
            "the ledger does not call the node lost",
        )
    }

    /// Stops in order.
    pub(super) async fn shutdown(&self) {
        self.order.close().await;
        self.peer.shutdown().await;
    }
}

/// Opens the ledger, made when there is none. All credits are `treasury`'s.
async fn open(
    app: &App,
    folder: &Path,
    epoch: Option<Duration>,
    treasury: AccountId,
) -> Result<Order<RealRuntime>, Failure> {
    let shown = folder.display();
    let wrong = format!("the ledger in {shown} can't be opened");
    let runtime = &app.runtime;
    let is_created = Order::is_created(runtime, folder).await;
    if !is_created.or_fail(FailureKind::Storage, &wrong)? {
        let genesis = Genesis {
            time: UnixMillis::from_unix(runtime.now()),
            parameters: money::parameters(epoch),
            endowed: Bounded::new(vec![(treasury, SUPPLY)]).expect("one account"),
            validators: None,
        };
        Order::create(runtime, folder, &genesis).await.or_fail(
            FailureKind::Storage,
            format!("the ledger in {shown} can't be made"),
        )?;
    }
    Order::open(runtime.clone(), Config::new(folder))
        .await
        .or_fail(FailureKind::Storage, wrong)
}
