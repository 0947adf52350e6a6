//! The processes of a measured network: this binary again, told what to do by lines of JSON on
//! their standard input, answering each with a line on their standard output.

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cairn_core::Profile;
use cairn_runtime::{RealRuntime, Runtime};
use serde::{Deserialize, Serialize};

use super::counted::Traffic;
use super::figures::Figures;

/// Name of the hidden command that a member is started by.
pub const MEMBER_COMMAND: &str = "member";

/// What a member is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Role {
    /// Orders the ledger's transactions.
    Sequencer,
    /// Keeps slots; the number is for its labels on the ledger.
    Node {
        number: usize,
        capacity_bytes: u64,
        sequencer: Address,
    },
    /// Uploads and downloads.
    Client { profile: String, sequencer: Address },
}

/// How a member is set up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) role: Role,
    /// Where it keeps what it keeps.
    pub(super) folder: PathBuf,
}

/// Where a peer's control plane answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Address {
    pub(super) node: String,
    pub(super) address: String,
    /// By which the answers of the ledger are checked, where one answers for it.
    pub(super) ledger_key: Option<String>,
}

/// What a member is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Say what it has used.
    Figures,
    /// The sequencer: wait until so many nodes are registered.
    AwaitNodes { count: usize },
    /// The sequencer: wait for a second.
    Rest,
    /// The sequencer: wait until every slot of the groups is acknowledged.
    AwaitSlots { groups: Vec<String> },
    /// A client: upload a file, or all files of a folder.
    Upload { source: PathBuf },
    /// A client: download and compare with what was uploaded.
    Download { link: String, source: PathBuf },
    /// A client: read ranges and compare.
    Read {
        link: String,
        source: PathBuf,
        offset: u64,
        count: u64,
    },
}

/// What a member answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It runs.
    Ready { address: Option<Address> },
    /// What it has used.
    Figures(Figures),
    /// It has come so.
    Done,
    /// An upload.
    Uploaded(Uploaded),
    /// A download or a range.
    Moved(Moved),
    /// It went wrong.
    Failed { cause: String },
}

/// An upload, as its client saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Uploaded {
    pub(super) link: String,
    pub(super) groups: Vec<String>,
    pub(super) segments: u64,
    /// Shards that slow nodes were left to catch up with.
    pub(super) left_behind: u64,
    pub(super) moved: Moved,
}

/// Bytes moved by a client, and what it used for that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Moved {
    /// Bytes of files.
    pub(super) bytes: u64,
    /// From the order to its end.
    pub(super) wall: Duration,
    /// CPU time for reading the source or comparing with it, which is not the client's work.
    pub(super) aside: Duration,
    pub(super) traffic: Traffic,
    /// Of the whole process, from its start.
    pub(super) figures: Figures,
}

/// A running member, seen from the process that measures. Ends when it is dropped.
pub(super) struct Member {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Where it answers, once it runs.
    pub(super) address: Option<Address>,
}

impl Member {
    /// Starts a member and waits until it runs.
    pub(super) fn start(setup: &Setup) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(MEMBER_COMMAND)
            .arg(serde_json::to_string(setup)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a member's process")?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().context("it is piped")?;
        let mut member = Self {
            child,
            orders,
            answers: BufReader::new(answers),
            address: None,
        };
        match member.answer()? {
            Answer::Ready { address } => member.address = address,
            other => bail!("expected a member that runs, found {other:?}"),
        }
        Ok(member)
    }

    /// Tells it to do something and waits for the answer.
    pub(super) fn order(&mut self, order: &Order) -> Result<Answer> {
        let orders = self.orders.as_mut().context("it takes orders")?;
        serde_json::to_writer(&mut *orders, order)?;
        writeln!(orders)?;
        orders.flush()?;
        self.answer()
    }

    /// What it has used.
    pub(super) fn figures(&mut self) -> Result<Figures> {
        match self.order(&Order::Figures)? {
            Answer::Figures(figures) => Ok(figures),
            other => bail!("expected figures, found {other:?}"),
        }
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("a member ended: {:?}", self.child.wait()?);
        }
        match serde_json::from_str(&line)? {
            Answer::Failed { cause } => bail!("a member failed: {cause}"),
            answer => Ok(answer),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It ends with its orders.
        drop(self.orders.take());
        if self.child.wait().is_err() {
            // It is no child of ours any more: nothing to wait for.
        }
    }
}

/// Runs the member that `setup` says, until its orders end.
///
/// # Errors
///
/// When it can't start, or nobody takes its answers.
pub fn run_member(setup: &str) -> Result<()> {
    let setup: Setup = serde_json::from_str(setup)?;
    RealRuntime::run(|runtime| async move {
        let started = match &setup.role {
            Role::Sequencer => super::sequencer::run(&runtime, &setup.folder).await,
            Role::Node { .. } => super::node::run(&runtime, &setup).await,
            Role::Client { profile, sequencer } => {
                let profile: Profile = profile.parse()?;
                super::client::run(&runtime, &setup.folder, profile, sequencer).await
            }
        };
        if let Err(error) = &started {
            let cause = format!("{error:#}");
            say(&Answer::Failed { cause })?;
        }
        started
    })?
}

/// Says that it runs, then does what it is told until there are no more orders.
pub(super) async fn obey<F>(
    runtime: &RealRuntime,
    address: Option<Address>,
    mut act: impl FnMut(Order) -> F,
) -> Result<()>
where
    F: Future<Output = Result<Answer>>,
{
    say(&Answer::Ready { address })?;
    while let Some(order) = runtime.blocking(next_order).await? {
        let answer = match order {
            Order::Figures => Answer::Figures(Figures::now()?),
            order => act(order).await.unwrap_or_else(|error| Answer::Failed {
                cause: format!("{error:#}"),
            }),
        };
        say(&answer)?;
    }
    Ok(())
}

fn next_order() -> Result<Option<Order>> {
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

fn say(answer: &Answer) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    writeln!(out)?;
    Ok(out.flush()?)
}
