//! `cairn dev`: a whole network on this machine.
//!
//! The sequencer runs in this process, each node in a child process of the same binary, or with
//! `--in-process` in this one too. Guarantees: what the network holds is in the folder and comes
//! back at the next start; nothing that died is started again unless asked; nodes stop with this
//! process, however it ends.
//!
//! ```text
//! home/dev/
//! ├ dev.toml            how many nodes, which profile
//! ├ network.toml        how to reach it; copied to home/network.toml
//! ├ control.sock        where this process takes commands
//! ├ sequencer/          the ledger, its key, its DHT records
//! └ node-1/ ...         a folder of `cairn node` each, with its log
//! ```

use std::path::PathBuf;
use std::time::Duration;

use cairn_core::AccountId;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::{DevArgs, DevVerb};
use crate::failure::Failure;
use crate::home::Home;
use crate::key_file::LockedKey;
use crate::{control, node};

mod child;
mod member;
mod money;
mod plan;
mod run;
mod sequencer;

pub(crate) use money::GRANT_CREDITS;
pub(crate) use plan::millis;

/// How long the network may take to answer: a node that starts is given this long too.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);

/// What is asked of a running development network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    /// How its nodes stand.
    Status,
    /// Kill nodes, by number.
    Kill(Vec<u16>),
    /// Start killed nodes, by number.
    Start(Vec<u16>),
    /// Have the ledger call nodes lost, by number.
    Lost(Vec<u16>),
    /// Give an account so many credits.
    Fund {
        /// The account.
        account: String,
        /// How many.
        credits: u64,
    },
    /// Give an account something to spend, unless it has some.
    Welcome {
        /// The account.
        account: String,
    },
}

/// Paths of a development network.
#[derive(Clone, Debug)]
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn of(home: &Home) -> Self {
        Self { path: home.dev() }
    }

    fn plan_file(&self) -> PathBuf {
        self.path.join("dev.toml")
    }

    fn network_file(&self) -> PathBuf {
        self.path.join("network.toml")
    }

    fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    fn lock_file(&self) -> PathBuf {
        self.path.join("lock")
    }

    fn sequencer(&self) -> PathBuf {
        self.path.join("sequencer")
    }

    fn node(&self, number: u16) -> node::Folder {
        node::Folder::at(self.path.join(format!("node-{number}")))
    }
}

/// The table of verbs.
pub(crate) async fn run(app: &App, args: &DevArgs) -> Result<(), Failure> {
    match &args.verb {
        None => run::run(app, args).await,
        Some(DevVerb::Status) => ask(app, Request::Status).await,
        Some(DevVerb::Kill(args)) => ask(app, Request::Kill(args.numbers.clone())).await,
        Some(DevVerb::Start(args)) => ask(app, Request::Start(args.numbers.clone())).await,
        Some(DevVerb::Lost(args)) => ask(app, Request::Lost(args.numbers.clone())).await,
        Some(DevVerb::Fund(args)) => {
            let account = match args.account {
                Some(account) => account,
                None => LockedKey::read(&app.home.key_file())?.account()?,
            };
            let request = Request::Fund {
                account: account.to_string(),
                credits: args.credits,
            };
            ask(app, request).await
        }
    }
}

/// Has the development network of this home, if one runs, give an account something to spend.
/// Whether it did.
pub(crate) async fn welcome(app: &App, account: AccountId) -> bool {
    let folder = Folder::of(&app.home);
    let listener = control::Listener {
        path: folder.control_socket(),
        start: "cairn dev".to_owned(),
    };
    let request = Request::Welcome {
        account: account.to_string(),
    };
    let asked = control::ask(&app.runtime, &listener, &request, ANSWER_TIME_MAX);
    folder.control_socket().exists() && asked.await.is_ok()
}

/// Asks the running network and prints its table.
async fn ask(app: &App, request: Request) -> Result<(), Failure> {
    let folder = Folder::of(&app.home);
    let listener = control::Listener {
        path: folder.control_socket(),
        start: "cairn dev".to_owned(),
    };
    let answer = control::ask(&app.runtime, &listener, &request, ANSWER_TIME_MAX).await?;
    app.output.answer(&answer, || member::table(&answer))
}
