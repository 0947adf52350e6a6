//! `cairn validator`: a validator's folder, its running process, and looking after it.
//!
//! ```text
//! folder/            --folder, or validator in the home
//! ├ node.key         the identity, also as a peer of the network
//! ├ lock             held by the running process
//! ├ ceremony.lock    held by one that takes part in a ceremony beside it
//! ├ control.sock     where it takes commands
//! ├ ceremony.toml    a genesis and its part of the key, until all have signed it
//! ├ genesis.toml     where the ledger begins, signed by all validators
//! ├ key.part         this validator's part of their key, until a later term begins
//! ├ signed-1-0.toml  what it signed for term 1, and its part, until a later term begins
//! ├ term-1.toml      the validators of term 1, signed by all who took part in the change
//! ├ term-1.part      this validator's part of the key in term 1
//! ├ clients.toml     how clients and nodes reach the network through all validators
//! ├ network.toml     how to reach the network through it
//! ├ net/             DHT records and known peers
//! ├ voted            the ledger that it has voted in
//! └ ledger/          blocks, and the engine's files with its votes
//! ```

mod agree;
mod agree_term;
mod ceremony_files;
mod change;
mod desk;
mod enact;
mod known;
mod others;
mod run;
mod term_files;
mod votes;

use std::path::PathBuf;
use std::time::Duration;

use cairn_core::NodeId;
use cairn_runtime::{Disk, RealDisk, Runtime};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::App;
use crate::args::{ValidatorArgs, ValidatorInitArgs, ValidatorPlaceArgs, ValidatorVerb};
use crate::failure::{Failure, FailureKind, OrFail};
use crate::node::{self, Folder};
use crate::stop::until_stopped;
use crate::{control, files, genesis};

/// How long a running validator may take to say how it stands.
const STATUS_TIME_MAX: Duration = Duration::from_secs(10);

/// What is asked of a running validator over its control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// How it stands.
    Status,
}

/// The table of verbs.
pub(crate) async fn run(app: &App, args: &ValidatorArgs) -> Result<(), Failure> {
    match &args.verb {
        ValidatorVerb::Init(args) => init(app, args),
        ValidatorVerb::Agree(args) => until_stopped(Box::pin(agree::run(app, args))).await,
        ValidatorVerb::Change(args) => change::run(app, args),
        ValidatorVerb::Enact(args) => until_stopped(Box::pin(enact::run(app, args))).await,
        ValidatorVerb::Run(args) => run::run(app, args).await,
        ValidatorVerb::Status(args) => status(app, args).await,
    }
}

/// The folder that the arguments mean.
fn folder(app: &App, args: &ValidatorPlaceArgs) -> Result<Folder, Failure> {
    let path: PathBuf = args.folder.clone().unwrap_or_else(|| app.home.validator());
    let path = std::path::absolute(path).or_fail(FailureKind::Usage, "the folder")?;
    Ok(Folder::at(path))
}

/// Makes the folder and the identity in it.
fn init(app: &App, args: &ValidatorInitArgs) -> Result<(), Failure> {
    let folder = folder(app, &args.place)?;
    files::make_folder(folder.path())?;
    let key = node::node_key(app, &folder)?;
    let identity = NodeId::new(key.public()).to_string();
    let mut made = json!({ "identity": identity });
    let mut line = identity.clone();
    if let Some(at) = &args.at {
        line = format!("{identity}@{at}");
        genesis::place(&line)?;
        made["validator"] = line.clone().into();
    }
    app.output.answer(&made, || format!("{line}\n"))?;
    app.output.note(
        "Whoever writes the draft (`cairn genesis`, or `cairn validator change`) needs this identity and \
         the address that the other validators reach this machine at.",
    );
    Ok(())
}

/// Makes the folder, and holds it for this process alone.
fn lock(app: &App, folder: &Folder) -> Result<<RealDisk as Disk>::Lock, Failure> {
    files::make_folder(folder.path())?;
    let shown = folder.path().display();
    app.runtime
        .disk()
        .lock(&folder.lock_file())
        .map_err(|error| {
            let text = format!("another process runs the validator in {shown}");
            files::lock_failure(error, text)
                .hint_otherwise(&format!("cairn validator status --folder {shown}"))
        })
}

/// Asks the running validator and prints its answer.
async fn status(app: &App, args: &ValidatorPlaceArgs) -> Result<(), Failure> {
    let folder = folder(app, args)?;
    let listener = control::Listener {
        path: folder.control_socket(),
        start: format!("cairn validator run --folder {}", folder.path().display()),
    };
    let answer = control::ask(&app.runtime, &listener, &Request::Status, STATUS_TIME_MAX).await?;
    app.output.answer(&answer, || node::table(&answer))
}
