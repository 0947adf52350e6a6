//! `cairn node`: a node's folder, its running process, and looking after it.
//!
//! ```text
//! folder/               --folder, or node in the home
//! ├ node.toml           the config file
//! ├ node.key            the node's identity
//! ├ lock                held by the running process
//! ├ pid                 of the running process
//! ├ control.sock        where it takes commands
//! ├ net/                DHT records and known peers
//! └ store/              the shards, and how far the ledger was seen: store/height
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::{CollateralVerb, FolderArgs, NodeArgs, NodeVerb};
use crate::control;
use crate::failure::Failure;
use crate::stop::until_stopped;

mod earnings;
mod init;
mod process;
mod run;
mod settings;

pub(crate) use init::{make_folder, node_key};
pub(crate) use process::NodeProcess;
pub(crate) use run::{Parent, told_to_stop};
pub(crate) use settings::{Settings, loopback};

/// How long a running node may take to say how it stands.
const STATUS_TIME_MAX: Duration = Duration::from_secs(10);
/// How long it may take to read everything it keeps: 16 TiB at 200 MB/s.
const SCRUB_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// What is asked of a running node over its control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// How it stands.
    Status,
    /// Read every shard and check it.
    Scrub,
    /// Leave the network.
    Drain,
    /// Announce that it will be away.
    Maintain {
        /// For so many epochs.
        epochs: u32,
    },
    /// Put collateral down.
    AddCollateral {
        /// How much.
        micro_credits: u64,
    },
    /// Take collateral back.
    TakeCollateral {
        /// How much.
        micro_credits: u64,
    },
    /// Pay out of the node's balance.
    Pay {
        /// To whom: an account.
        to: String,
        /// How much.
        micro_credits: u64,
    },
}

/// Paths of a node's folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder that the arguments mean.
    fn of(app: &App, args: &FolderArgs) -> Result<Self, Failure> {
        let path = args.folder.clone().unwrap_or_else(|| app.home.node());
        let path = std::path::absolute(path)
            .map_err(|error| Failure::new(crate::failure::FailureKind::Usage, error))?;
        Ok(Self { path })
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The config file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.path.join("node.toml")
    }

    /// The node's secret key.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.path.join("node.key")
    }

    /// The lock of the running process.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// The id of the running process.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.path.join("pid")
    }

    /// The control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// What the network layer keeps.
    pub(crate) fn net(&self) -> PathBuf {
        self.path.join("net")
    }

    /// The shards.
    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("store")
    }
}

/// The table of verbs.
pub(crate) async fn run(app: &App, args: &NodeArgs) -> Result<(), Failure> {
    match &args.verb {
        NodeVerb::Init(args) => init::run(app, args),
        NodeVerb::Run(args) => run::run(app, args).await,
        NodeVerb::Status(args) => ask(app, args, Request::Status, STATUS_TIME_MAX).await,
        NodeVerb::Earnings(args) => until_stopped(Box::pin(earnings::run(app, args))).await,
        NodeVerb::Scrub(args) => ask(app, args, Request::Scrub, SCRUB_TIME_MAX).await,
        NodeVerb::Drain(args) => ask(app, args, Request::Drain, STATUS_TIME_MAX).await,
        NodeVerb::Maintain(args) => {
            let request = Request::Maintain {
                epochs: args.epochs,
            };
            ask(app, &args.folder, request, STATUS_TIME_MAX).await
        }
        NodeVerb::Collateral(args) => {
            let (args, request) = match &args.verb {
                CollateralVerb::Add(args) => {
                    let micro_credits = args.amount.micro();
                    (args, Request::AddCollateral { micro_credits })
                }
                CollateralVerb::Take(args) => {
                    let micro_credits = args.amount.micro();
                    (args, Request::TakeCollateral { micro_credits })
                }
            };
            ask(app, &args.folder, request, STATUS_TIME_MAX).await
        }
        NodeVerb::Pay(args) => {
            let request = Request::Pay {
                to: args.pay.to.to_string(),
                micro_credits: args.pay.amount.micro(),
            };
            ask(app, &args.folder, request, STATUS_TIME_MAX).await
        }
    }
}

/// Asks the running node and prints its answer.
async fn ask(
    app: &App,
    args: &FolderArgs,
    request: Request,
    limit: Duration,
) -> Result<(), Failure> {
    let folder = Folder::of(app, args)?;
    let listener = control::Listener {
        path: folder.control_socket(),
        start: format!("cairn node run --folder {}", folder.path().display()),
    };
    let answer = control::ask(&app.runtime, &listener, &request, limit).await?;
    app.output.answer(&answer, || table(&answer))
}

/// A JSON object as lines of `key: value`.
pub(crate) fn table(answer: &serde_json::Value) -> String {
    let Some(object) = answer.as_object() else {
        return answer.to_string();
    };
    let line = |(key, value): (&String, &serde_json::Value)| {
        let shown = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        format!("{}: {shown}\n", key.replace('_', " "))
    };
    object.iter().map(line).collect()
}
