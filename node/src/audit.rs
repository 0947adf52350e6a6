//! Audits between epochs' proofs: we ask the nodes that the ledger drew for us to show a block, and
//! show a block of ours to those that it drew for us.
//!
//! Neither needs more than the ledger: a ticket is drawn from its state, so the asking node says only
//! which of its tickets it means, and the asked one draws the same (docs/protocol/ledger.md#audits).
//! What we say of others counts as little as theirs of us; so we say of a node that it failed only after
//! it has failed each of several attempts over a good part of the epoch, while another that we asked
//! showed what it was to show: else the trouble may be ours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cairn_core::message::DataResponse;
use cairn_core::{Bounded, EpochNumber, ErrorCode, NodeId, Record};
use cairn_ledger::port::Ledger;
use cairn_ledger::{AUDITS_MAX, AuditReport, AuditTicket, LedgerError, Vote};
use cairn_net::data::{DataConn, DataError, Pace};
use cairn_net::{NetError, Network};
use cairn_proofs::{Proof, ProofError, verify};
use cairn_runtime::Runtime;
use futures::future::join_all;
use tokio::sync::{Notify, Semaphore};

use crate::access::Refusal;
use crate::core::Core;
use crate::prove::{make, random_part};

/// A node that does not show what it is to show is asked so often.
const ATTEMPTS: u32 = 3;
/// Pause between two attempts, as a part of an epoch: the last is well before the next one begins.
const PAUSE_PARTS: u32 = 5;
/// Longest that one attempt takes; a short epoch's pause if that is less.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);
/// Others that we show something at once. Each costs a question to the ledger and a read; who comes
/// beyond waits in line.
const SHOWN_AT_ONCE: usize = 16;

/// Reports that are kept: of the epoch before, which goes with our proof, and of the one that runs, whose
/// audits may begin before that.
const REPORTS_KEPT: usize = 2;

/// What we know of audits.
#[derive(Debug)]
pub(crate) struct Audits {
    state: Mutex<AuditState>,
    woken: Notify,
    showing: Semaphore,
}

#[derive(Debug, Default)]
struct AuditState {
    /// How the audits of the last epochs ended, at most [`REPORTS_KEPT`].
    reports: BTreeMap<EpochNumber, AuditReport>,
    /// Our own score as last seen.
    score: Option<u8>,
}

impl Default for Audits {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            woken: Notify::new(),
            showing: Semaphore::new(SHOWN_AT_ONCE),
        }
    }
}

impl Audits {
    fn state(&self) -> MutexGuard<'_, AuditState> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// The seed of an epoch may be known.
    pub(crate) fn epoch_opened(&self) {
        self.woken.notify_one();
    }

    /// What we say with our proof of `epoch`: how the audits of the epoch before it ended.
    pub(crate) fn report(&self, epoch: EpochNumber) -> AuditReport {
        let before = epoch.get().checked_sub(1).map(EpochNumber::new);
        let state = self.state();
        let report = before.and_then(|before| state.reports.get(&before).copied());
        report.unwrap_or_default()
    }

    /// How the audits of `epoch` stand.
    fn note(&self, epoch: EpochNumber, report: AuditReport) {
        let mut state = self.state();
        state.reports.insert(epoch, report);
        while state.reports.len() > REPORTS_KEPT {
            state.reports.pop_first();
        }
    }

    /// Our own score as last seen.
    pub(crate) fn score(&self) -> Option<u8> {
        self.state().score
    }
}

/// Why a node did not pass.
#[derive(Debug, thiserror::Error)]
enum AuditFailure {
    /// It can't be asked, or does not answer.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Not in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// What it sent is no proof.
    #[error("what it sent is no proof")]
    Malformed,
    /// It is not the proof.
    #[error("the proof is wrong: {0}")]
    Wrong(#[from] ProofError),
}

impl From<NetError> for AuditFailure {
    fn from(error: NetError) -> Self {
        Self::Data(DataError::Net(error))
    }
}

/// Audits in every epoch, until the task is aborted.
pub(crate) async fn audit_on<R: Runtime, N: Network, L: Ledger>(core: Arc<Core<R, N, L>>) {
    // What a node has said of others in an epoch stays said, however often it hears that it runs.
    let mut finished = None;
    loop {
        core.audits.woken.notified().await;
        let Some((epoch, length)) = core.proofs.running() else {
            continue;
        };
        if finished == Some(epoch) {
            continue;
        }
        match audit_epoch(&core, epoch, length).await {
            Ok(Audited::Whole) => finished = Some(epoch),
            Ok(Audited::NotYet) => {}
            Err(error) => {
                tracing::debug!(%epoch, %error, "the audits of the epoch are not done");
            }
        }
    }
}

/// What is known so far of the audits of an epoch.
#[derive(Debug, Default)]
struct Progress {
    report: AuditReport,
    /// Tickets that were not passed, and at how many attempts on end.
    failing: BTreeMap<u8, (AuditTicket, u32)>,
}

impl Progress {
    fn is_open(&self, ticket: &AuditTicket) -> bool {
        self.report.vote(ticket.number).is_none()
    }

    fn passed(&mut self, ticket: &AuditTicket) {
        self.failing.remove(&ticket.number);
        self.report.note(ticket.number, Vote::Passed);
    }

    /// A ticket that has changed is another one.
    fn failed(&mut self, ticket: &AuditTicket) {
        let entry = self.failing.entry(ticket.number);
        let (of, count) = entry.or_insert((*ticket, 0));
        if *of != *ticket {
            (*of, *count) = (*ticket, 0);
        }
        *count = count.saturating_add(1);
    }

    /// What we say of the epoch, when these tickets are still to be shown at its end.
    fn finish(mut self, tickets: &[AuditTicket]) -> AuditReport {
        let hears_others = self.report.passed != 0;
        let has_failed = |ticket: &&AuditTicket| {
            let failing = self.failing.get(&ticket.number);
            failing.is_some_and(|(of, count)| of == *ticket && *count >= ATTEMPTS)
        };
        let failed: Vec<u8> = tickets
            .iter()
            .filter(has_failed)
            .map(|ticket| ticket.number)
            .collect();
        if hears_others {
            for number in failed {
                self.report.note(number, Vote::Failed);
            }
        }
        self.report
    }
}

/// How far the audits of an epoch came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audited {
    /// All of them have ended.
    Whole,
    /// There are no tickets yet, or no more.
    NotYet,
}

/// Asks whom the ledger drew for us, those who don't pass again later.
async fn audit_epoch<R: Runtime, N: Network, L: Ledger>(
    core: &Arc<Core<R, N, L>>,
    epoch: EpochNumber,
    length: Duration,
) -> Result<Audited, LedgerError> {
    let entry = core.ledger.node(core.id).await?;
    core.audits.state().score = entry.map(|entry| entry.score.at(epoch));
    let pause = length / PAUSE_PARTS;
    let limit = pause.min(ATTEMPT_LIMIT);
    core.runtime.sleep(random_part(core, length)).await;
    let mut progress = Progress::default();
    for attempt in 1..=ATTEMPTS {
        let Some(tickets) = tickets(core, epoch).await? else {
            return Ok(Audited::NotYet);
        };
        let open = tickets.iter().filter(|ticket| progress.is_open(ticket));
        let asked: Vec<AuditTicket> = open.copied().collect();
        let answers = asked
            .iter()
            .map(|ticket| ask(core, (epoch, *ticket), limit));
        for (ticket, answer) in asked.iter().zip(join_all(answers).await) {
            match answer {
                Ok(()) => progress.passed(ticket),
                Err(error) => {
                    tracing::debug!(node = %ticket.audited, %epoch, attempt, %error, "an audit is not passed");
                    progress.failed(ticket);
                }
            }
        }
        // Known as soon as it is: the rest of the epoch may be short.
        core.audits.note(epoch, progress.report);
        if progress.failing.is_empty() {
            return Ok(Audited::Whole);
        }
        if attempt < ATTEMPTS {
            core.runtime.sleep(pause).await;
        }
    }
    // What is not to be shown any more was perhaps not there any more.
    if let Some(tickets) = tickets(core, epoch).await? {
        let report = progress.finish(&tickets);
        if report.failed != 0 {
            tracing::info!(%epoch, ?report, "nodes failed their audits");
        }
        core.audits.note(epoch, report);
    }
    Ok(Audited::Whole)
}

/// Our tickets of an epoch while it runs, at most [`AUDITS_MAX`].
async fn tickets<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    epoch: EpochNumber,
) -> Result<Option<Vec<AuditTicket>>, LedgerError> {
    let mut tickets = Vec::new();
    // One after the other: of several bad answers at once each would turn another end away.
    for number in (0..=u8::MAX).take(AUDITS_MAX) {
        let view = core.ledger.audit_ticket(core.id, number).await?;
        let Some(view) = view.filter(|view| view.epoch == epoch) else {
            return Ok(None);
        };
        tickets.extend(view.ticket);
    }
    Ok(Some(tickets))
}

/// Asks a node to show what a ticket names.
async fn ask<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    (epoch, ticket): (EpochNumber, AuditTicket),
    limit: Duration,
) -> Result<(), AuditFailure> {
    let asking = ask_once(core, (epoch, ticket), limit);
    let asked = core.runtime.timeout(limit, asking).await;
    asked.map_err(|_| AuditFailure::Late(limit))?
}

async fn ask_once<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    (epoch, ticket): (EpochNumber, AuditTicket),
    limit: Duration,
) -> Result<(), AuditFailure> {
    let node = ticket.audited;
    let challenge = ticket.challenge(epoch).ok_or(AuditFailure::Malformed)?;
    let stream = core.network.connect(node, limit).await?;
    let mut conn = DataConn::new(stream, node, core.runtime.clone(), Pace::CLIENT);
    let bytes = conn.audit(epoch, ticket.number).await?;
    let proof = Proof::decode(&bytes).map_err(|_| AuditFailure::Malformed)?;
    verify(&challenge, &proof)?;
    // It has shown it, however the stream ends.
    let _closed = conn.close().await;
    Ok(())
}

/// Shows a peer what one of its tickets names, if the ledger drew us for it.
pub(crate) async fn show<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    auditor: NodeId,
    (epoch, number): (EpochNumber, u8),
) -> Result<DataResponse, Refusal> {
    let turn = core.audits.showing.acquire().await;
    let _turn = turn.expect("the semaphore is never closed");
    let view = core.ledger.audit_ticket(auditor, number).await;
    let view = view.map_err(|error| {
        tracing::debug!(%auditor, %error, "the ledger does not answer");
        Refusal::new(ErrorCode::Busy, "the ledger does not answer")
    })?;
    let challenge = view
        .filter(|view| view.epoch == epoch)
        .and_then(|view| view.ticket)
        .filter(|ticket| ticket.audited == core.id)
        .and_then(|ticket| ticket.challenge(epoch))
        .ok_or_else(|| {
            let text = format!("the ledger has no audit {number} of yours for us in epoch {epoch}");
            Refusal::new(ErrorCode::NotAuthorised, text)
        })?;
    let proof = make(core, challenge).await.map_err(|error| {
        tracing::warn!(%auditor, %error, "we fail an audit");
        Refusal::new(ErrorCode::NoSuchShard, "the shard can't be read")
    })?;
    let encoded = Bounded::new(proof.encode());
    Ok(DataResponse::Audited(
        encoded.expect("a proof of one sample fits"),
    ))
}

#[cfg(test)]
mod tests {
    use cairn_core::{
        ByteCount, Digest, GroupId, GroupRevision, GroupRoot, RevisionNumber, SecretKey, SlotIndex,
    };
    use cairn_ledger::FrozenSlot;

    use super::*;

    fn ticket(number: u8, slot: u8) -> AuditTicket {
        AuditTicket {
            number,
            audited: NodeId::new(SecretKey::from_bytes(&[number; 32]).public()),
            slot: FrozenSlot {
                revision: GroupRevision {
                    group: GroupId::default(),
                    number: RevisionNumber::new(1),
                    segment_count: 1,
                    slot_bytes: ByteCount::new(1),
                    group_root: GroupRoot::default(),
                },
                slot: SlotIndex::new(slot),
                slot_count: 4,
            },
            seed: Digest::default(),
        }
    }

    /// After failing so often with ticket 1, passing ticket 0.
    fn failing(attempts: u32) -> Progress {
        let mut progress = Progress::default();
        progress.passed(&ticket(0, 0));
        for _ in 0..attempts {
            progress.failed(&ticket(1, 0));
        }
        progress
    }

    #[test]
    fn a_node_has_failed_when_it_failed_every_attempt_and_is_still_to_show_the_same() {
        let now = [ticket(0, 0), ticket(1, 0)];
        assert_eq!(failing(ATTEMPTS).finish(&now).failed, 0b10);
        assert_eq!(failing(ATTEMPTS - 1).finish(&now).failed, 0);
        // It has another slot to show now, or nothing.
        let moved = [ticket(0, 0), ticket(1, 2)];
        assert_eq!(failing(ATTEMPTS).finish(&moved).failed, 0);
        assert_eq!(failing(ATTEMPTS).finish(&now[..1]).failed, 0);
        // It passed in the end, or was asked for the other less often.
        let mut progress = failing(ATTEMPTS - 1);
        progress.passed(&ticket(1, 0));
        assert_eq!(progress.finish(&now).passed, 0b11);
        let mut progress = failing(ATTEMPTS - 1);
        progress.failed(&ticket(1, 2));
        assert_eq!(progress.finish(&moved).failed, 0);
    }

    #[test]
    fn who_hears_nobody_blames_nobody() {
        let mut progress = failing(ATTEMPTS);
        progress.report.passed = 0;
        let report = progress.finish(&[ticket(0, 0), ticket(1, 0)]);
        assert_eq!(report, AuditReport::default());
    }

    #[test]
    fn a_proof_says_how_the_audits_of_the_epoch_before_ended_and_of_no_other() {
        let audits = Audits::default();
        let report = AuditReport {
            passed: 1,
            failed: 2,
        };
        audits.note(EpochNumber::new(7), report);
        for other in [0, 7, 9] {
            let said = audits.report(EpochNumber::new(other));
            assert_eq!(said, AuditReport::default());
        }
        // Audits of the next epoch have begun before our proof of it is sent.
        audits.note(EpochNumber::new(8), AuditReport::default());
        assert_eq!(audits.report(EpochNumber::new(8)), report);
        for later in 9..20 {
            audits.note(EpochNumber::new(later), report);
        }
        assert_eq!(audits.state().reports.len(), REPORTS_KEPT);
    }
}
