//! `cairn validator run`: runs a validator until it is told to stop, in one term after the other.
//!
//! Each term has a validator of its own, which ends by itself behind the border; then the next is opened
//! in the same folder. One that is not where the others are (it comes, or it was away at a border) gets
//! the state with which their term began from them. One that the next term has no place for ends.

use std::pin::Pin;
use std::time::Duration;

use cairn_consensus::validator::{BLOCK_INTERVAL, IDLE, install};
use cairn_consensus::{Validator, ValidatorConfig, ValidatorError};
use cairn_core::{LedgerId, NodeId};
use cairn_ledger::{Ledger, NextTerm, RemoteLedger};
use cairn_runtime::Runtime;
use cairn_runtime::real::RealRuntime;
use serde_json::{Value, json};

use super::desk::{Desk, Near};
use super::known::{FirstTerm, KnownTerms, Sources};
use super::others::{Found, Others, Snapshot};
use super::term_files::TermFiles;
use super::votes::{Rejoin, Votes};
use super::{Request, folder, lock};
use crate::app::App;
use crate::args::ValidatorRunArgs;
use crate::control::{Call, ControlSocket};
use crate::failure::{Failure, FailureKind, OrFail};
use crate::ledger_peer::LedgerPeer;
use crate::node::{self, Folder, Parent};

/// How long a running validator's own ledger may take to show which term is next.
const NEXT_LIMIT: Duration = Duration::from_millis(500);

/// Runs the validator.
pub(super) async fn run(app: &App, args: &ValidatorRunArgs) -> Result<(), Failure> {
    let folder = folder(app, &args.place)?;
    let _lock = lock(app, &folder)?;
    let socket = ControlSocket::listen(&app.runtime, &folder.control_socket())?;
    let sources = sources(app, args, &folder)?;
    let known = sources.read()?;
    let own = known.own_place()?;
    let rejoin = if args.rejoin {
        Rejoin::Asked
    } else {
        Rejoin::Unasked
    };
    let votes = Votes::of(&folder);
    votes.ensure(app, &known, rejoin).await?;
    let listen = match (args.listen.as_slice(), &own.peer) {
        ([], Some(peer)) => vec![peer.clone()],
        (listen, _) => listen.to_vec(),
    };
    let desk = Desk::new(app.runtime.clone(), known.ledger());
    let peer = LedgerPeer::start(app, &folder, &listen, known.others(), desk.clone()).await?;
    let network_file = folder.path().join("network.toml");
    let ledger = (known.ledger(), known.genesis.ledger_key()?);
    peer.network(ledger, known.genesis.profile)
        .write(&network_file)?;
    let parent = if args.until_stdin_ends {
        Parent::MayDie
    } else {
        Parent::Alive
    };
    let mut process = Process {
        app,
        args,
        folder: &folder,
        sources,
        votes,
        peer,
        desk,
        told: Told {
            stop: Box::pin(node::told_to_stop(parent)),
            socket,
        },
        ready: Some(network_file.display().to_string()),
    };
    let lived = Box::pin(process.live()).await;
    process.desk.seat(None);
    process.peer.shutdown().await;
    lived
}

/// Where the terms are read from.
fn sources(app: &App, args: &ValidatorRunArgs, folder: &Folder) -> Result<Sources, Failure> {
    let own = FirstTerm::of(folder);
    Ok(Sources {
        files: TermFiles::of(folder),
        identity: node::node_key(app, folder)?.public(),
        first: FirstTerm {
            genesis: args.genesis.clone().unwrap_or(own.genesis),
            part: args.part.clone().unwrap_or(own.part),
        },
    })
}

/// The running process.
struct Process<'a> {
    app: &'a App,
    args: &'a ValidatorRunArgs,
    folder: &'a Folder,
    sources: Sources,
    votes: Votes,
    peer: LedgerPeer,
    desk: Desk,
    told: Told,
    /// The network file, until it is said that the process is ready.
    ready: Option<String>,
}

/// What comes of an attempt to open the folder's validator.
enum Opened {
    /// It runs, with its parts of the key as in one of the ways that are known.
    Runs(Validator<RealRuntime>, usize),
    /// The folder is in a term in which it can't.
    Apart(Apart),
}

/// Why a validator does not run in the term that its folder is in.
#[derive(Clone, Copy)]
enum Apart {
    /// The term's validators are others.
    Unnamed(u32),
    /// It is one of them, and its part of the key is not here.
    Lacking(u32),
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The folder is opened again.
    Again,
    /// The process ends.
    End,
}

impl Process<'_> {
    /// Goes from term to term.
    async fn live(&mut self) -> Result<(), Failure> {
        loop {
            // Others may have come by an agreement meanwhile.
            let known = self.sources.read()?;
            let turn = match self.open(&known).await? {
                Opened::Runs(validator, way) => {
                    let running = self.begin(&known, validator, way).await?;
                    self.serve(&known, &running).await?
                }
                Opened::Apart(apart) => {
                    self.desk.seat(None);
                    self.wait(&known, apart).await?
                }
            };
            if turn == Turn::End {
                return Ok(());
            }
        }
    }

    /// Opens the validator in the term that its folder is in. Where several things were signed for that
    /// term, only one part of the key is the one.
    async fn open(&self, known: &KnownTerms) -> Result<Opened, Failure> {
        let failed = |error: ValidatorError| {
            let text = "the validator does not start";
            Failure::new(FailureKind::Storage, error).while_doing(text)
        };
        let (mut lacking, mut cause) = (None, None);
        for way in 0..known.way_count() {
            let config = self.config(known, way)?;
            match Box::pin(Validator::open(self.app.runtime.clone(), config)).await {
                Ok(validator) => return Ok(Opened::Runs(validator, way)),
                Err(ValidatorError::NotInTerm { term }) => {
                    return Ok(Opened::Apart(Apart::Unnamed(term)));
                }
                Err(ValidatorError::NoPlace { term }) => lacking = Some(term),
                Err(error @ ValidatorError::Start(_)) => {
                    cause.get_or_insert(error);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        match (cause, lacking) {
            (Some(cause), _) => Err(failed(cause)),
            (None, Some(term)) => Ok(Opened::Apart(Apart::Lacking(term))),
            (None, None) => Err(Failure::say(FailureKind::Usage, "no term is known")),
        }
    }

    fn config(&self, known: &KnownTerms, way: usize) -> Result<ValidatorConfig, Failure> {
        Ok(ValidatorConfig {
            folder: self.folder.path().join("ledger"),
            genesis: known.genesis.genesis.clone(),
            key: node::node_key(self.app, self.folder)?,
            terms: known.places(way, self.args.bind),
            block_interval: BLOCK_INTERVAL,
            idle: IDLE,
        })
    }

    /// Does what is due when a validator runs in its term: the mark of its votes, the files that follow
    /// from the term, and a word to whoever started it.
    async fn begin(
        &mut self,
        known: &KnownTerms,
        validator: Validator<RealRuntime>,
        way: usize,
    ) -> Result<Running, Failure> {
        let number = validator.term();
        self.votes.mark(known.ledger(), number)?;
        let term = known.in_way(way, number);
        if let Some(term) = term.filter(|_| number > 0) {
            let network = known.genesis.network_of(&term.places)?;
            network.write(self.sources.files.clients())?;
            self.forget_before(number)?;
        }
        self.desk.seat(Some(validator.clone()));
        let running = Running {
            runtime: self.app.runtime.clone(),
            validator,
            identity: NodeId::new(known.identity()),
            key: match known.genesis.agreement() {
                Some(_) => "agreed",
                None => "dealt",
            },
            count: term.map_or(0, |term| term.places.len()),
        };
        match self.ready.take() {
            Some(network_file) => {
                let mut ready = running.status().await?;
                ready["ready"] = true.into();
                ready["network_file"] = network_file.into();
                self.app.output.answer(&ready, || node::table(&ready))?;
            }
            None => {
                let text = format!("Term {number} has begun, and this validator goes on in it.");
                self.app.output.note(&text);
            }
        }
        Ok(running)
    }

    /// Forgets the parts of the key of terms that are over.
    fn forget_before(&self, number: u32) -> Result<(), Failure> {
        if self.sources.files.forget_before(number)? > 0 {
            let text = "This validator's parts of the key of the terms before are removed.";
            self.app.output.note(text);
        }
        Ok(())
    }

    /// Serves until something says stop, the validator ends, or the others are in a later term.
    async fn serve(&mut self, known: &KnownTerms, running: &Running) -> Result<Turn, Failure> {
        let others = Others::of(&self.app.runtime, &self.peer, (&self.sources, known))?;
        let validator = &running.validator;
        let work = async {
            tokio::select! {
                () = validator.ended() => Ok(None),
                found = others.beyond(validator) => found.map(Some),
            }
        };
        let at = At::Running(running);
        let done = self.told.during(self.app, work, at).await;
        let hands_over = matches!(done, Ok(Some(Ok(None)))) && validator.next_term().is_some();
        if !hands_over {
            self.desk.seat(None);
        }
        validator.close().await;
        match done? {
            None => Ok(Turn::End),
            Some(found) => match found? {
                Some(found) => self.go_on(known, found).await,
                None if hands_over => Ok(Turn::Again),
                None => {
                    let text = "the validator has stopped by itself; its log says why";
                    Err(Failure::say(FailureKind::Storage, text))
                }
            },
        }
    }

    /// Waits for the term in which this validator has a part, if there is one to come.
    async fn wait(&mut self, known: &KnownTerms, apart: Apart) -> Result<Turn, Failure> {
        let (Apart::Unnamed(term) | Apart::Lacking(term)) = apart;
        let next = known.last_place().filter(|last| *last > term);
        let Some(next) = next else {
            return match apart {
                Apart::Unnamed(_) => self.end_with(term),
                Apart::Lacking(_) => Err(self.lacking(term)),
            };
        };
        let others = Others::of(&self.app.runtime, &self.peer, (&self.sources, known))?;
        if !others.are_known() {
            let text = "no address is known at which another validator answers";
            return Err(Failure::say(FailureKind::Usage, text).hint(
                "a validator that comes needs `peer` of one that stays, in genesis.toml or term-N.toml",
            ));
        }
        let text =
            format!("Waiting for term {next} to begin; this validator has no part in term {term}.");
        self.app.output.note(&text);
        let at = At::Waiting {
            ledger: known.ledger(),
            term,
            next,
        };
        let work = others.after(term);
        match self.told.during(self.app, work, at).await? {
            None => Ok(Turn::End),
            Some(found) => self.go_on(known, found?).await,
        }
    }

    async fn go_on(&self, known: &KnownTerms, found: Found) -> Result<Turn, Failure> {
        match found {
            Found::Later(term, snapshot) => self.take(known, term, snapshot).await,
            Found::Over(term) => self.end_with(term),
        }
    }

    /// Takes the state with which a term began in place of the blocks before it.
    async fn take(
        &self,
        known: &KnownTerms,
        term: u32,
        snapshot: Snapshot,
    ) -> Result<Turn, Failure> {
        self.app.output.note(&format!(
            "The others are in term {term}; the state with which it began comes from them."
        ));
        let folder = self.folder.path().join("ledger");
        let genesis = &known.genesis.genesis;
        let installed = install(&self.app.runtime, &folder, genesis, *snapshot).await;
        installed.or_fail(
            FailureKind::Storage,
            format!("the state of term {term} can't be kept"),
        )?;
        Ok(Turn::Again)
    }

    /// A term has begun in which others go on without this validator.
    fn end_with(&self, term: u32) -> Result<Turn, Failure> {
        self.app.output.note(&format!(
            "Term {term} has begun without this validator: others order the ledger, and nothing is left to do \
             here."
        ));
        self.forget_before(term)?;
        Ok(Turn::End)
    }

    fn lacking(&self, term: u32) -> Failure {
        let path = match term {
            0 => self.sources.first.part.clone(),
            _ => self.sources.files.part(term),
        };
        let text = format!(
            "{} is not there: this validator's part of the validators' key in term {term}",
            path.display()
        );
        Failure::say(FailureKind::Usage, text)
            .hint("cairn validator agree DRAFT makes it; a dealt one is given by --part FILE")
    }
}

/// What others want of the process meanwhile.
struct Told {
    stop: Pin<Box<dyn Future<Output = Result<&'static str, Failure>> + Send>>,
    socket: ControlSocket<Request>,
}

impl Told {
    /// Answers the control socket until `work` is done, or something says stop: then there is nothing.
    async fn during<T>(
        &mut self,
        app: &App,
        work: impl Future<Output = T>,
        at: At<'_>,
    ) -> Result<Option<T>, Failure> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                reason = &mut self.stop => {
                    app.output.note(&format!("Stopping: {}.", reason?));
                    return Ok(None);
                }
                done = &mut work => return Ok(Some(done)),
                call = self.socket.next() => match call {
                    Some(call) => reply(call, at).await,
                    None => return Ok(None),
                },
            }
        }
    }
}

async fn reply(call: Call<Request>, at: At<'_>) {
    let Request::Status = call.request;
    let status = match at {
        At::Running(running) => running.status_with_next().await,
        At::Waiting { ledger, term, next } => Ok(json!({
            "ledger": ledger.to_string(),
            "term": term,
            "waits_for_term": next,
        })),
    };
    // Whoever asked may have left.
    call.answer.send(status).ok();
}

/// How the process stands.
#[derive(Clone, Copy)]
enum At<'a> {
    /// Its validator runs.
    Running(&'a Running),
    /// It waits for a term.
    Waiting {
        ledger: LedgerId,
        term: u32,
        next: u32,
    },
}

/// A running validator, how its key was made, and how many there are.
struct Running {
    runtime: RealRuntime,
    validator: Validator<RealRuntime>,
    identity: NodeId,
    key: &'static str,
    count: usize,
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
            "term": self.validator.term(),
            "validators": self.count,
            "shut_out": shut_out.collect::<Vec<_>>(),
            "view": engine.view,
            "height": ledger.height.get(),
            "known_height": engine.known_height.get(),
            "tip": ledger.tip.to_string(),
            "time_unix_ms": ledger.time.get(),
            "epoch": ledger.epoch.get(),
        }))
    }

    /// The same with the next term, when that is named and the ledger can show it.
    async fn status_with_next(&self) -> Result<Value, Failure> {
        let mut status = self.status().await?;
        if let Some(next) = self.next().await {
            status["next_validators"] = next.validators.identities.len().into();
            status["next_border"] = next.border.map_or(Value::Null, |it| it.get().into());
        }
        Ok(status)
    }

    async fn next(&self) -> Option<NextTerm> {
        let near = Near(self.validator.clone(), self.identity);
        let ledger = RemoteLedger::new(near, self.validator.id(), self.validator.key());
        let shown = self.runtime.timeout(NEXT_LIMIT, ledger.term()).await;
        shown.ok()?.ok()??.next
    }
}
