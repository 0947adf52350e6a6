//! `cairn validator run`: runs a validator until it is told to stop.

use std::path::Path;

use cairn_consensus::validator::{BLOCK_INTERVAL, IDLE};
use cairn_consensus::{KeyPart, Validator, ValidatorConfig};
use cairn_core::{NodeId, PublicKey};
use cairn_ledger::Ledger;
use cairn_runtime::real::RealRuntime;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::ceremony_files::CeremonyFiles;
use super::votes::{Rejoin, Votes};
use super::{Request, folder, lock};
use crate::app::App;
use crate::args::ValidatorRunArgs;
use crate::control::ControlSocket;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files;
use crate::genesis_file::{GenesisFile, ValidatorPlace};
use crate::ledger_peer::LedgerPeer;
use crate::node::{self, Folder, Parent};

/// Runs the validator.
pub(super) async fn run(app: &App, args: &ValidatorRunArgs) -> Result<(), Failure> {
    let folder = folder(app, &args.place)?;
    let _lock = lock(app, &folder)?;
    let mut socket = ControlSocket::listen(&app.runtime, &folder.control_socket())?;
    let kept = CeremonyFiles::of(&folder);
    let file = GenesisFile::read(args.genesis.as_ref().unwrap_or(&kept.genesis))?;
    let own = own_place(app, &folder, &file)?;
    let config = config(app, &folder, args, &file, &own)?;
    let rejoin = if args.rejoin {
        Rejoin::Asked
    } else {
        Rejoin::Unasked
    };
    let ledger = file.genesis.ledger_id();
    let votes = Votes::of(&folder);
    votes
        .ensure(app, (ledger, file.places.len()), rejoin)
        .await?;
    let validator = Validator::open(app.runtime.clone(), config)
        .await
        .or_fail(FailureKind::Storage, "the validator does not start")?;
    votes.mark(ledger)?;
    let listen = match (args.listen.as_slice(), own.peer) {
        ([], Some(peer)) => vec![peer],
        (listen, _) => listen.to_vec(),
    };
    let mut others = file.peers();
    others.retain(|peer| peer.node.key() != own.identity);
    let peer = LedgerPeer::start(app, &folder, &listen, others, validator.clone()).await?;
    let network_file = folder.path().join("network.toml");
    peer.network(&validator, file.profile)
        .write(&network_file)?;
    let key = match file.agreement() {
        Some(_) => "agreed",
        None => "dealt",
    };
    let running = Running { validator, key };
    let mut ready = running.status().await?;
    ready["ready"] = true.into();
    ready["network_file"] = network_file.display().to_string().into();
    app.output.answer(&ready, || node::table(&ready))?;
    let served = serve(app, args, &running, &mut socket).await;
    peer.shutdown().await;
    running.validator.close().await;
    served
}

/// Where the genesis says that this validator is.
fn own_place(app: &App, folder: &Folder, file: &GenesisFile) -> Result<ValidatorPlace, Failure> {
    let identity: PublicKey = node::node_key(app, folder)?.public();
    let own = file.places.iter().find(|place| place.identity == identity);
    own.cloned().ok_or_else(|| {
        let text = format!("the genesis does not name this validator, {identity}");
        Failure::say(FailureKind::Usage, text)
    })
}

fn config(
    app: &App,
    folder: &Folder,
    args: &ValidatorRunArgs,
    file: &GenesisFile,
    own: &ValidatorPlace,
) -> Result<ValidatorConfig, Failure> {
    let places = file.places.iter();
    Ok(ValidatorConfig {
        folder: folder.path().join("ledger"),
        part: part(
            args.part
                .as_ref()
                .unwrap_or(&CeremonyFiles::of(folder).part),
        )?,
        key: node::node_key(app, folder)?,
        listen: args.bind.unwrap_or(own.address),
        genesis: file.genesis.clone(),
        peers: places
            .map(|place| (place.identity, place.address))
            .collect(),
        block_interval: BLOCK_INTERVAL,
        idle: IDLE,
    })
}

fn part(path: &Path) -> Result<KeyPart, Failure> {
    let shown = path.display();
    let text = files::read(path)?
        .map(Zeroizing::new)
        .ok_or_else(|| Failure::say(FailureKind::Usage, format!("{shown} is not there")))?;
    let bytes = HEXLOWER
        .decode(text.trim().as_bytes())
        .map(Zeroizing::new)
        .or_fail(FailureKind::Usage, format!("{shown} is not hexadecimal"))?;
    Ok(KeyPart::from_bytes(&bytes))
}

/// Answers the control socket until something says stop.
async fn serve(
    app: &App,
    args: &ValidatorRunArgs,
    running: &Running,
    socket: &mut ControlSocket<Request>,
) -> Result<(), Failure> {
    let parent = if args.until_stdin_ends {
        Parent::MayDie
    } else {
        Parent::Alive
    };
    let mut stop = std::pin::pin!(node::told_to_stop(parent));
    let mut ended = std::pin::pin!(running.validator.ended());
    loop {
        tokio::select! {
            reason = &mut stop => {
                app.output.note(&format!("Stopping: {}.", reason?));
                return Ok(());
            }
            () = &mut ended => {
                let text = "the validator has stopped by itself; its log says why";
                return Err(Failure::say(FailureKind::Storage, text));
            }
            call = socket.next() => {
                let Some(call) = call else {
                    return Ok(());
                };
                let Request::Status = call.request;
                // Whoever asked may have left.
                call.answer.send(running.status().await).ok();
            }
        }
    }
}

/// A running validator, and how its key was made.
struct Running {
    validator: Validator<RealRuntime>,
    key: &'static str,
}

impl Running {
    async fn status(&self) -> Result<Value, Failure> {
        let ledger = self
            .validator
            .status()
            .await
            .or_fail(FailureKind::Network, "the ledger does not answer")?;
        let engine = self.validator.status_now();
        let shut_out = self.validator.shut_out().into_iter();
        let shut_out = shut_out.map(|key| NodeId::new(key).to_string());
        Ok(json!({
            "ledger": ledger.ledger.to_string(),
            "key": self.key,
            "shut_out": shut_out.collect::<Vec<_>>(),
            "view": engine.view,
            "height": ledger.height.get(),
            "known_height": engine.known_height.get(),
            "tip": ledger.tip.to_string(),
            "time_unix_ms": ledger.time.get(),
            "epoch": ledger.epoch.get(),
        }))
    }
}
