//! Transactions pass from the validator that got them to all others: whoever leads next has them.
//!
//! What others send waits in an [`Inbox`] until it is read, off the engine's threads.

mod inbox;

use std::sync::Arc;
use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Bounded, Record, RecordKind, Signed};
use cairn_ledger::{Tx, WITNESS_BYTES_MAX, Witness};
use cairn_runtime::Runtime;
use tokio::sync::mpsc;

pub(super) use self::inbox::Inbox;
use self::inbox::{Message, Subject};
use super::attest::{AttestationNews, Attesting};
use super::proposal::submitted;
use crate::core::Core;
use crate::mempool::{Source, Submitted};

/// Most transactions of one message.
const TXS_MAX: usize = 256;
/// Most bytes of one message: the largest transaction with the largest witness, and some more.
const BYTES_MAX: usize = WITNESS_BYTES_MAX + (256 << 10);
/// Most bytes of whatever validators send each other besides votes and blocks.
pub(super) const MESSAGE_BYTES_MAX: usize = BYTES_MAX;
/// Most bytes of the transactions and witnesses of one message; leaves room for the envelope, the
/// counts and the witnesses' lengths.
const CONTENT_BYTES_MAX: usize = BYTES_MAX - 16 - 4 * TXS_MAX;
/// Transactions that wait to be passed on. One that finds no room is ordered when its own
/// validator leads.
pub(super) const WAITING_MAX: usize = 4096;

/// What has waited for at least so long, and at most twice as long, is passed on again: most is final
/// before.
const AGAIN: Duration = Duration::from_secs(1);

// The largest transaction fits.
const _: () = assert!(<Signed<Tx> as Record>::BYTES_MAX + WITNESS_BYTES_MAX <= CONTENT_BYTES_MAX);
// So does a message where a proposal does.
const _: () = assert!(BYTES_MAX <= super::proposal::PROPOSAL_BYTES_MAX);
// What attests is smaller.
const _: () = assert!(<AttestationNews as Record>::BYTES_MAX <= MESSAGE_BYTES_MAX);

/// Transactions on their way to the other validators.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct ForwardedTxs {
    txs: Bounded<Signed<Tx>, TXS_MAX>,
    /// The witnesses of those of them that are proofs, in the same order.
    witnesses: Bounded<Witness, TXS_MAX>,
}

impl Record for ForwardedTxs {
    const KIND: RecordKind = RecordKind::ForwardedTxs;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = BYTES_MAX;

    fn is_well_formed(&self) -> bool {
        self.txs.iter().all(Record::is_well_formed)
    }
}

impl ForwardedTxs {
    /// Each transaction with its witness.
    pub(super) fn into_submitted(self) -> impl Iterator<Item = Submitted> {
        submitted(self.txs.into_vec(), self.witnesses.into_vec())
    }
}

/// Passes on what comes in, as much at a time as there is, and what waits for long again: nobody may
/// have been there when it was sent. Until nothing more can come.
///
/// # Cancel safety
///
/// Dropping it loses what it holds; its own validator still has it.
pub(super) async fn run<R: Runtime>(
    core: &Core<R>,
    send: impl Fn(Vec<u8>) -> bool,
    mut waiting: mpsc::Receiver<Submitted>,
) {
    let mut txs = Vec::new();
    let mut mark = 0;
    let mut next_look = core.runtime.monotonic().saturating_add(AGAIN);
    loop {
        let left = next_look.saturating_sub(core.runtime.monotonic());
        let received = waiting.recv_many(&mut txs, TXS_MAX);
        match core.runtime.timeout(left, received).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(_) => {
                next_look = core.runtime.monotonic().saturating_add(AGAIN);
                (txs, mark) = core.mempool().own_before(mark, TXS_MAX);
            }
        }
        for message in messages(std::mem::take(&mut txs)) {
            // Without room it is ordered when this validator leads, or passed on again.
            send(message.encode());
        }
    }
}

/// Transactions in their order, in as few messages as hold them.
pub(super) fn messages(txs: Vec<Submitted>) -> Vec<ForwardedTxs> {
    let mut messages = Vec::new();
    let mut next = Vec::new();
    let mut left = CONTENT_BYTES_MAX;
    for submitted in txs {
        let (tx_bytes, witness_bytes) = submitted.sizes();
        let bytes = tx_bytes.saturating_add(witness_bytes);
        if bytes > left || next.len() == TXS_MAX {
            messages.extend(message(std::mem::take(&mut next)));
            left = CONTENT_BYTES_MAX;
        }
        left = left.saturating_sub(bytes);
        next.push(submitted);
    }
    messages.extend(message(next));
    messages
}

/// One message; none of nothing.
fn message(content: Vec<Submitted>) -> Option<ForwardedTxs> {
    let (mut txs, mut witnesses) = (Vec::new(), Vec::new());
    for Submitted { tx, witness } in content {
        txs.push(tx);
        witnesses.extend(witness);
    }
    let txs = Bounded::new(txs).ok().filter(|txs| !txs.is_empty())?;
    let witnesses = Bounded::new(witnesses).ok()?;
    Some(ForwardedTxs { txs, witnesses })
}

/// Reads what the other validators send, off the engine's threads, until it is dropped.
///
/// # Cancel safety
///
/// Dropping it loses what waits; nothing depends on one message.
pub(super) async fn read<R: Runtime>(
    core: &Arc<Core<R>>,
    attesting: &Arc<Attesting>,
    inbox: &Arc<Inbox>,
) {
    loop {
        let message = inbox.next().await;
        let (attesting, inbox) = (Arc::clone(attesting), Arc::clone(inbox));
        let worker = Arc::clone(core);
        core.runtime
            .blocking(move || take(&worker, &attesting, &inbox, &message))
            .await;
    }
}

fn take<R: Runtime>(core: &Core<R>, attesting: &Attesting, inbox: &Inbox, message: &Message) {
    match message.subject {
        Subject::Attestations => {
            // One that is malformed says nothing.
            if let Ok(told) = AttestationNews::decode(&message.bytes) {
                attesting.receive(core, message.from, told);
            }
        }
        Subject::Transactions => take_txs(core, inbox, message.from, &message.bytes),
    }
}

fn take_txs<R: Runtime>(core: &Core<R>, inbox: &Inbox, from: [u8; 32], message: &[u8]) {
    if let Err(fault) = queue(core, inbox.source(from), message) {
        inbox.distrust(from, fault, core.runtime.monotonic());
    }
}

/// What no honest validator passes on: it has checked what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    /// It is no message that is known here.
    #[error("the message is malformed")]
    Malformed,
    /// A transaction's signature or proof is not what it says.
    #[error("a transaction is not signed by its account, or without the proof that it names")]
    Signature,
}

/// Queues what another validator passed on, up to the first fault.
fn queue<R: Runtime>(core: &Core<R>, source: Source, message: &[u8]) -> Result<(), Fault> {
    let message = ForwardedTxs::decode(message).map_err(|_| Fault::Malformed)?;
    for submitted in message.into_submitted() {
        core.queue_forwarded(submitted, source)
            .map_err(|_| Fault::Signature)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
