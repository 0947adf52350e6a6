//! What the other validators say of the ledger, for one that is not in its term: it was away at a border,
//! or comes at the next one. They need not be trusted: what they say is attested under the ledger's key.

use std::time::Duration;

use cairn_consensus::Validator;
use cairn_core::{LedgerTransport as _, TransportError};
use cairn_ledger::{Attestation, LedgerError, RemoteLedger, State, Term};
use cairn_net::{LedgerPeers, RealNetwork};
use cairn_runtime::Runtime;
use cairn_runtime::real::RealRuntime;

use super::known::{KnownTerms, Sources, Standing};
use crate::failure::{Failure, FailureKind};
use crate::ledger_peer::LedgerPeer;

/// How often they are asked, and a validator's height is looked at.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long no block comes before the others are asked whether their term is another: five times as long
/// as a leader waits that has nothing to order.
const QUIET: Duration = Duration::from_secs(10);
/// How long the state of a term may take: 4 GiB at 2.5 MB/s. Then another is asked for it.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(1800);
/// How long one question may take.
const ASK_LIMIT: Duration = Duration::from_secs(20);

/// The state with which a term began, as others show it.
pub(super) type Snapshot = Box<(State, Attestation)>;

/// What is to be done with what the others say.
#[derive(Debug)]
pub(super) enum Found {
    /// To go on in a later term, from the state with which it began.
    Later(u32, Snapshot),
    /// To end: others go on in this term.
    Over(u32),
}

/// The other validators.
#[derive(Clone, Debug)]
pub(super) struct Others {
    runtime: RealRuntime,
    peers: LedgerPeers<RealNetwork>,
    ledger: RemoteLedger<LedgerPeers<RealNetwork>>,
    are_known: bool,
    sources: Sources,
}

impl Others {
    /// Those whom the terms of a folder name.
    ///
    /// # Errors
    ///
    /// Of kind usage when the genesis' key is malformed.
    pub(super) fn of(
        runtime: &RealRuntime,
        peer: &LedgerPeer,
        (sources, known): (&Sources, &KnownTerms),
    ) -> Result<Self, Failure> {
        let nodes = known.other_nodes();
        let peers = peer.way_to(&nodes);
        let key = known.genesis.ledger_key()?;
        Ok(Self {
            runtime: runtime.clone(),
            ledger: RemoteLedger::new(peers.clone(), known.ledger(), key),
            peers,
            are_known: !nodes.is_empty(),
            sources: sources.clone(),
        })
    }

    /// Whether the address of one of them is known.
    pub(super) const fn are_known(&self) -> bool {
        self.are_known
    }

    /// Waits until no block comes to a validator and others are in a later term.
    ///
    /// # Errors
    ///
    /// As [`Self::look`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(super) async fn beyond(
        &self,
        validator: &Validator<RealRuntime>,
    ) -> Result<Found, Failure> {
        let mut height = validator.status_now().height;
        let mut since = self.runtime.monotonic();
        loop {
            self.runtime.sleep(ASK_INTERVAL).await;
            let now = self.runtime.monotonic();
            let found = validator.status_now().height;
            if found != height {
                (height, since) = (found, now);
                continue;
            }
            let is_quiet = now.saturating_sub(since) >= QUIET;
            if !is_quiet {
                continue;
            }
            if !self.are_known {
                tracing::warn!(
                    "no block comes, and no address is known at which another validator says which term runs: \
                     `peer` of one that stays is needed in genesis.toml or term-N.toml"
                );
                since = now;
                continue;
            }
            since = now;
            if let Some(found) = self.look(validator.term()).await? {
                return Ok(found);
            }
        }
    }

    /// Waits until the term begins in which this validator has a part, or others go on without it.
    ///
    /// # Errors
    ///
    /// As [`Self::look`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(super) async fn after(&self, term: u32) -> Result<Found, Failure> {
        loop {
            if let Some(found) = self.look(term).await? {
                return Ok(found);
            }
            self.runtime.sleep(ASK_INTERVAL).await;
        }
    }

    /// What the others show that is later than a term; `None` when it is nothing, or nothing for now.
    ///
    /// # Errors
    ///
    /// Of kind usage when the ledger is in a term that names this validator, whose part is not here, or
    /// the folder's files are wrong.
    async fn look(&self, term: u32) -> Result<Option<Found>, Failure> {
        let Some(shown) = self.term().await.filter(|shown| shown.number > term) else {
            // Another may have seen more.
            self.peers.turn_away();
            return Ok(None);
        };
        let number = shown.number;
        // There may have been a ceremony since the validator began.
        match self.sources.read()?.standing(&shown) {
            Standing::Later => Ok(None),
            Standing::Over => Ok(Some(Found::Over(number))),
            Standing::Lacking => {
                let text = format!(
                    "the ledger is in term {number}, which names this validator, and its part of the key is \
                     not in its folder"
                );
                Err(Failure::say(FailureKind::Usage, text).hint(format!(
                    "put term-{number}.toml and term-{number}.part back; or have the others change to \
                     validators without this one, and then add it"
                )))
            }
            Standing::Ours => match self.snapshot().await {
                Ok(Some((state, attestation))) => {
                    let begun = state.term().map_or(number, |term| term.number);
                    Ok(Some(Found::Later(begun, Box::new((state, attestation)))))
                }
                // They have handed over again, or none of them has it all: they are asked anew.
                Ok(None) => Ok(None),
                Err(error) => {
                    tracing::warn!(%error, term = number, "the state of a term is not to be had yet");
                    self.peers.turn_away();
                    Ok(None)
                }
            },
        }
    }

    /// The state with which the newest term began, from one of them, if it comes in time.
    async fn snapshot(&self) -> Result<Option<(State, Attestation)>, LedgerError> {
        let asked = self.runtime.timeout(SNAPSHOT_LIMIT, self.ledger.snapshot());
        asked.await.unwrap_or(Err(LedgerError::Unavailable {
            cause: TransportError::TimedOut,
        }))
    }

    /// The term that the others show, if one does.
    async fn term(&self) -> Option<Term> {
        match self.runtime.timeout(ASK_LIMIT, self.ledger.term()).await {
            Ok(Ok(term)) => term,
            Ok(Err(error)) => {
                say_unless_usual(&error);
                None
            }
            Err(_) => None,
        }
    }
}

/// Logs what is more than that nobody is there.
fn say_unless_usual(error: &LedgerError) {
    let is_usual = matches!(
        error,
        LedgerError::Unavailable { .. } | LedgerError::Stopped | LedgerError::Behind { .. }
    );
    if !is_usual {
        tracing::warn!(%error, "the other validators do not say which term runs");
    }
}
