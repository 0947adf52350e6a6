//! What other validators sent and nobody has read yet. Each has room of its own, so that none
//! takes another's, and they are read in turn.
//!
//! What finds no room is dropped: a transaction is ordered when its own validator leads, and of
//! the next height there is another attestation. Whoever passed on what no honest validator does
//! is not believed for a while: its transactions are dropped unread.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use cairn_core::{NodeId, PublicKey, Record};
use tokio::sync::Notify;

use super::super::attest::AttestationNews;
use super::{Fault, MESSAGE_BYTES_MAX};
use crate::mempool::Source;

/// What waits of one validator about attestations: a part of each of some seconds' heights.
const NEWS_MAX: Room = Room {
    count: 64,
    bytes: 64 * <AttestationNews as Record>::BYTES_MAX,
};
/// What waits of one validator's transactions: two of the largest messages, or what comes in about
/// a second one by one.
const TXS_MAX: Room = Room {
    count: 128,
    bytes: 2 * MESSAGE_BYTES_MAX,
};
/// Messages about attestations that are read before one with transactions is: they are small, and
/// others wait for what comes of them.
const NEWS_IN_A_ROW_MAX: usize = 32;
/// How long a validator is not believed.
const DISTRUST: Duration = Duration::from_secs(60);

/// Of a validator.
type Identity = [u8; 32];

/// What messages take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    count: usize,
    bytes: usize,
}

/// What a message is about, as far as can be told before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Attestations.
    Attestations,
    /// Transactions, or nothing that is known here.
    Transactions,
}

impl Subject {
    fn of(message: &[u8]) -> Self {
        let is_short = message.len() <= <AttestationNews as Record>::BYTES_MAX;
        let kind = AttestationNews::KIND.number().to_le_bytes();
        if is_short && message.starts_with(&kind) {
            Self::Attestations
        } else {
            Self::Transactions
        }
    }
}

/// A message of another validator.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) from: Identity,
    pub(super) subject: Subject,
    pub(super) bytes: Vec<u8>,
}

/// Messages of the validators that wait to be read, by one reader.
#[derive(Debug)]
pub(in crate::validator) struct Inbox {
    /// How many validators there are.
    count: NonZeroUsize,
    waiting: Mutex<Waiting>,
    /// Wakes the reader.
    arrived: Notify,
}

impl Inbox {
    /// Of these validators, and nobody else.
    pub(in crate::validator) fn new(validators: impl IntoIterator<Item = Identity>) -> Self {
        let standings: BTreeMap<_, _> = validators
            .into_iter()
            .map(|validator| (validator, Standing::default()))
            .collect();
        Self {
            count: NonZeroUsize::new(standings.len()).unwrap_or(NonZeroUsize::MIN),
            waiting: Mutex::new(Waiting {
                news: Lane::new(NEWS_MAX),
                txs: Lane::new(TXS_MAX),
                news_in_a_row: 0,
                standings,
            }),
            arrived: Notify::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder panics")
    }

    /// Takes a message, if there is room in its validator's: whether there was. `now` is by the
    /// monotonic clock. Does not wait.
    pub(in crate::validator) fn offer(
        &self,
        from: Identity,
        message: Vec<u8>,
        now: Duration,
    ) -> bool {
        let is_taken = self.waiting().offer(from, message, now);
        if is_taken {
            self.arrived.notify_one();
        }
        is_taken
    }

    /// The next message, as soon as there is one.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(super) async fn next(&self) -> Message {
        loop {
            let message = self.waiting().take();
            if let Some(message) = message {
                return message;
            }
            self.arrived.notified().await;
        }
    }

    /// What a validator's transactions are told to come from.
    pub(super) const fn source(&self, from: Identity) -> Source {
        Source::Validator {
            validator: NodeId::new(PublicKey::from_bytes(from)),
            count: self.count,
        }
    }

    /// Does not believe a validator for a while from now on.
    pub(super) fn distrust(&self, from: Identity, fault: Fault, now: Duration) {
        if self.waiting().distrust(from, now) == 1 {
            let from = data_encoding::HEXLOWER.encode(&from);
            tracing::warn!(%from, %fault, "a validator passed on what no honest one does");
        }
    }
}

#[derive(Debug)]
struct Waiting {
    news: Lane,
    txs: Lane,
    /// Messages about attestations that were read since the last one with transactions.
    news_in_a_row: usize,
    /// Of every validator.
    standings: BTreeMap<Identity, Standing>,
}

/// Whether a validator is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// How often it passed on what no honest validator does.
    faults: u64,
    /// It is not believed before then, by the monotonic clock.
    believed_from: Duration,
}

impl Waiting {
    fn offer(&mut self, from: Identity, message: Vec<u8>, now: Duration) -> bool {
        let Some(standing) = self.standings.get(&from) else {
            return false;
        };
        match Subject::of(&message) {
            // A wrong one is found out by itself.
            Subject::Attestations => self.news.offer(from, message),
            Subject::Transactions => now >= standing.believed_from && self.txs.offer(from, message),
        }
    }

    fn take(&mut self) -> Option<Message> {
        let is_txs_turn = self.news_in_a_row >= NEWS_IN_A_ROW_MAX && !self.txs.by_sender.is_empty();
        if !is_txs_turn && let Some((from, bytes)) = self.news.take() {
            self.news_in_a_row = self.news_in_a_row.saturating_add(1);
            return Some(Message {
                from,
                subject: Subject::Attestations,
                bytes,
            });
        }
        self.news_in_a_row = 0;
        let (from, bytes) = self.txs.take()?;
        Some(Message {
            from,
            subject: Subject::Transactions,
            bytes,
        })
    }

    /// How often it was at fault, this time included; 0 for one that is no validator.
    fn distrust(&mut self, from: Identity, now: Duration) -> u64 {
        self.txs.by_sender.remove(&from);
        let Some(standing) = self.standings.get_mut(&from) else {
            return 0;
        };
        standing.faults = standing.faults.saturating_add(1);
        standing.believed_from = now.saturating_add(DISTRUST);
        standing.faults
    }
}

/// Messages about one subject.
#[derive(Debug)]
struct Lane {
    /// Most of each sender.
    max: Room,
    /// Of those of whom something waits.
    by_sender: BTreeMap<Identity, Queue>,
    /// Whose was read last.
    last: Identity,
}

/// What waits of one sender.
#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Lane {
    const fn new(max: Room) -> Self {
        Self {
            max,
            by_sender: BTreeMap::new(),
            last: [0; 32],
        }
    }

    /// Takes a message if there is room in its sender's: whether there was.
    fn offer(&mut self, from: Identity, message: Vec<u8>) -> bool {
        let (count, bytes) = match self.by_sender.get(&from) {
            Some(queue) => (queue.messages.len(), queue.bytes),
            None => (0, 0),
        };
        let bytes = bytes.saturating_add(message.len());
        if count >= self.max.count || bytes > self.max.bytes {
            return false;
        }
        let queue = self.by_sender.entry(from).or_default();
        queue.messages.push_back(message);
        queue.bytes = bytes;
        true
    }

    /// The oldest message of the sender whose turn it is.
    fn take(&mut self) -> Option<(Identity, Vec<u8>)> {
        let after = (Bound::Excluded(self.last), Bound::Unbounded);
        let mut senders = self
            .by_sender
            .range::<Identity, _>(after)
            .chain(&self.by_sender);
        let from = senders.next().map(|(from, _)| *from)?;
        let queue = self.by_sender.get_mut(&from)?;
        let message = queue.messages.pop_front()?;
        queue.bytes = queue.bytes.saturating_sub(message.len());
        if queue.messages.is_empty() {
            self.by_sender.remove(&from);
        }
        self.last = from;
        Some((from, message))
    }
}

#[cfg(test)]
mod tests;
