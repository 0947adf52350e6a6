//! Runs a development network until it is told to stop.

use std::time::Duration;

use cairn_core::AccountId;
use cairn_ledger::Ledger;
use cairn_runtime::{Disk, Runtime};
use futures::StreamExt;
use serde_json::{Value, json};

use super::member::{self, Member, Place};
use super::plan::Plan;
use super::sequencer::Sequencer;
use super::{Folder, Request, money};
use crate::app::App;
use crate::args::DevArgs;
use crate::control::ControlSocket;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::key_file::LockedKey;
use crate::network_file::NetworkFile;
use crate::node::Parent;
use crate::{files, node};

/// How often is looked whether a node has ended by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the nodes may take to register on the ledger.
const REGISTER_TIME_MAX: Duration = Duration::from_secs(60);
/// Most nodes that start at once: more would only wait for each other's processor and disk.
const STARTS_MAX: usize = 8;
/// How often is looked whether they have.
const REGISTER_INTERVAL: Duration = Duration::from_millis(100);

/// How to use a network of this machine.
const USERS: &str = "
In another terminal:
  cairn init                once, for a key
  cairn put FILE            prints a link
  cairn get LINK FILE
  cairn dev kill 1          as a power cut would
  cairn dev start 1
Ctrl-C stops the nodes; what they hold stays.";
/// How to add nodes to a network that has none here.
const OPERATORS: &str = "
On each machine that is to run a node, with a copy of the network file above as
~/.cairn/network.toml:
  cairn node init
  cairn node run
Files can be put when as many nodes run as the profile needs.
Ctrl-C stops the ledger; nodes go on and wait for it.";

/// A running network.
struct Network<'a> {
    app: &'a App,
    folder: Folder,
    plan: Plan,
    place: Place,
    sequencer: &'a Sequencer,
    members: Vec<Member>,
    /// The network file as last written.
    offered: Option<NetworkFile>,
}

/// Runs the network.
pub(super) async fn run(app: &App, args: &DevArgs) -> Result<(), Failure> {
    let folder = Folder::of(&app.home);
    files::make_folder(&folder.path)?;
    let _lock = app
        .runtime
        .disk()
        .lock(&folder.lock_file())
        .map_err(|error| {
            let text = format!("a network runs in {} already", folder.path.display());
            files::lock_failure(error, text).hint_otherwise("cairn dev status")
        })?;
    let plan = Plan::settle(&folder.plan_file(), args)?;
    let mut socket = ControlSocket::listen(&app.runtime, &folder.control_socket())?;
    let sequencer = Sequencer::start(app, &folder.sequencer(), &plan).await?;
    let place = if args.in_process {
        Place::InProcess
    } else {
        Place::Processes
    };
    let mut network = Network {
        app,
        folder,
        plan,
        place,
        sequencer: &sequencer,
        members: Vec::new(),
        offered: None,
    };
    let done = network.run(&mut socket).await;
    sequencer.shutdown().await;
    done
}

impl Network<'_> {
    /// From the first node's start to the last one's end.
    async fn run(&mut self, socket: &mut ControlSocket<Request>) -> Result<(), Failure> {
        self.offer()?;
        let mut stop = std::pin::pin!(node::told_to_stop(Parent::Alive));
        let started = tokio::select! {
            biased;
            reason = &mut stop => reason.map(Some),
            started = self.start() => started.map(|()| None),
        };
        let served = match started {
            Ok(None) => self.serve(socket, stop).await,
            Ok(Some(reason)) => {
                self.app.output.note(&format!("Stopping: {reason}."));
                Ok(())
            }
            Err(failure) => Err(failure),
        };
        let stopped = self.stop().await;
        served.and(stopped)
    }

    /// Writes how the network is reached, where that is not written yet: the system names the
    /// addresses of "any" one after the other, and they change with its interfaces. Commands find
    /// this network by default, unless the home has another already.
    fn offer(&mut self) -> Result<(), Failure> {
        let network = self.sequencer.network(self.plan.profile);
        if self.offered.as_ref() == Some(&network) {
            return Ok(());
        }
        let own = self.folder.network_file();
        network.write(&own)?;
        let path = self.app.home.network_file();
        let is_other = path.exists()
            && NetworkFile::read(&path)
                .map_or(true, |found| found.ledger_peers != network.ledger_peers);
        if !is_other {
            network.write(&path)?;
        } else if self.offered.is_none() {
            let (path, own) = (path.display(), own.display());
            self.app.output.note(&format!(
                "{path} names another network; for this one, --network {own}"
            ));
        }
        self.offered = Some(network);
        Ok(())
    }

    /// Starts every node and waits until the ledger has them.
    async fn start(&mut self) -> Result<(), Failure> {
        for number in 1..=self.plan.node_count {
            let keys = node::loopback(self.plan.capacity, self.plan.price());
            let id = node::make_folder(self.app, &self.folder.node(number), &keys)?;
            self.members.push(Member::new(number, id));
        }
        let progress = self.app.output.progress("starting nodes", None);
        let (app, folder, place) = (self.app, &self.folder, self.place);
        let starts = self
            .members
            .iter_mut()
            .map(|member| member.start(app, folder, place));
        let mut starts = futures::stream::iter(starts).buffer_unordered(STARTS_MAX);
        while let Some(started) = starts.next().await {
            started?;
        }
        drop(starts);
        drop(progress);
        let registered = self.registered();
        self.app
            .runtime
            .timeout(REGISTER_TIME_MAX, registered)
            .await
            .or_fail(
                FailureKind::Network,
                "the nodes did not register on the ledger",
            )??;
        let key_file = self.app.home.key_file();
        let owner = LockedKey::read(&key_file)
            .and_then(|key| key.account())
            .ok();
        let nodes = self.members.iter().map(|member| member.node);
        self.sequencer.fund(owner, nodes).await
    }

    async fn registered(&self) -> Result<(), Failure> {
        let ledger = self.sequencer.ledger();
        for member in &self.members {
            loop {
                let entry = ledger
                    .node(member.node)
                    .await
                    .or_fail(FailureKind::Network, "the ledger does not answer")?;
                if entry.is_some() {
                    break;
                }
                self.app.runtime.sleep(REGISTER_INTERVAL).await;
            }
        }
        Ok(())
    }

    /// Says what runs and how to use it.
    fn greet(&mut self) -> Result<(), Failure> {
        self.offer()?;
        let plan = &self.plan;
        let mut status = self.status();
        status["ready"] = true.into();
        status["profile"] = plan.profile.to_string().into();
        status["network_file"] = self.folder.network_file().display().to_string().into();
        self.app.output.answer(&status, || {
            let code = plan.profile.code();
            format!(
                "{} nodes, profile {} ({code}: any {} of {} slots give every byte back), in {}\n\n{}",
                plan.node_count,
                plan.profile,
                code.k(),
                code.n(),
                self.folder.path.display(),
                if plan.node_count == 0 {
                    format!("network file {}\n", self.folder.network_file().display())
                } else {
                    member::table(&status)
                }
            )
        })?;
        let usage = if plan.node_count == 0 {
            OPERATORS
        } else {
            USERS
        };
        self.app.output.note(usage);
        Ok(())
    }

    /// Answers the control socket until something says stop.
    async fn serve(
        &mut self,
        socket: &mut ControlSocket<Request>,
        mut stop: impl Future<Output = Result<&'static str, Failure>> + Unpin,
    ) -> Result<(), Failure> {
        self.greet()?;
        loop {
            tokio::select! {
                reason = &mut stop => {
                    self.app.output.note(&format!("Stopping: {}.", reason?));
                    return Ok(());
                }
                call = socket.next() => {
                    let Some(call) = call else {
                        return Ok(());
                    };
                    let answer = self.answer(call.request).await;
                    // Whoever asked may have left.
                    call.answer.send(answer).ok();
                }
                () = self.app.runtime.sleep(LOOK_INTERVAL) => self.look(),
            }
        }
    }

    /// Says which nodes have ended by themselves, and takes new addresses into the network file.
    fn look(&mut self) {
        if let Err(failure) = self.offer() {
            self.app.output.note(&failure.to_string());
        }
        for member in &mut self.members {
            if let Some(how) = member.look() {
                let number = member.number;
                self.app.output.note(&format!(
                    "Node {number} has ended: {how}. cairn dev start {number} starts it again."
                ));
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Result<Value, Failure> {
        self.look();
        match request {
            Request::Status => {}
            Request::Kill(numbers) => {
                for number in numbers {
                    self.member(number)?.kill().await?;
                }
            }
            Request::Start(numbers) => {
                let (app, folder, place) = (self.app, self.folder.clone(), self.place);
                for number in numbers {
                    self.member(number)?.start(app, &folder, place).await?;
                }
            }
            Request::Lost(numbers) => {
                for number in numbers {
                    let node = self.member(number)?.node;
                    self.sequencer.declare_lost(node).await?;
                }
            }
            Request::Fund { account, credits } => {
                let amount = money::credits(credits);
                self.sequencer.grant(parse(&account)?, amount).await?;
            }
            Request::Welcome { account } => {
                self.sequencer.fund(Some(parse(&account)?), []).await?;
            }
        }
        Ok(self.status())
    }

    fn member(&mut self, number: u16) -> Result<&mut Member, Failure> {
        let count = self.members.len();
        self.members
            .iter_mut()
            .find(|member| member.number == number)
            .ok_or_else(|| {
                let text = format!("expected a node from 1 to {count}, found {number}");
                Failure::say(FailureKind::NotSo, text)
            })
    }

    fn status(&self) -> Value {
        let nodes: Vec<_> = self.members.iter().map(Member::status).collect();
        json!({ "nodes": nodes })
    }

    /// Stops every node; the first failure is said after all are stopped.
    async fn stop(&mut self) -> Result<(), Failure> {
        let app = self.app;
        let stops = self.members.iter_mut().map(|member| member.stop(app));
        let mut done = Ok(());
        for stopped in futures::future::join_all(stops).await {
            done = done.and(stopped);
        }
        done
    }
}

fn parse(account: &str) -> Result<AccountId, Failure> {
    let wrong = format!("expected an account, found {account:?}");
    account.parse().or_fail(FailureKind::Usage, wrong)
}
