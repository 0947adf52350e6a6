//! How much of the sequencer's work one peer gets: requests under way, polls, and attempts.
//!
//! Each transaction takes one *attempt* from its peer's store, before any work but the cheapest is
//! done on it. The attempt comes back when the transaction is done, or was paid for; it does not
//! when the work was for nothing (a wrong signature, a refusal without a fee) or when the
//! transaction began an account. The store refills with time; while it is empty the peer's
//! transactions are turned away.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use cairn_core::NodeId;

use crate::mempool::Full;

/// Most requests of one peer that are answered at once: a node has a poll, a transaction and a
/// few reads under way, a client at most as many reads as groups.
pub(crate) const REQUESTS_PER_PEER_MAX: usize = 128;
/// Most of them that wait for a block.
pub(crate) const POLLS_PER_PEER_MAX: usize = 8;
/// Most attempts that a peer has in store.
pub(crate) const ATTEMPTS_MAX: u32 = 64;
/// Time in which a peer gets one more: eight a second, each about a millisecond of work at most.
pub(crate) const ATTEMPT_REFILL: Duration = Duration::from_millis(125);
/// Most peers that are remembered: those with requests under way or without all their attempts.
pub(crate) const PEERS_MAX: usize = 4096;

/// What one peer has under way and in store.
#[derive(Clone, Copy, Debug)]
struct Share {
    requests: usize,
    polls: usize,
    attempts: u32,
    /// Up to when attempts were added.
    refilled: Duration,
}

impl Share {
    const fn new(now: Duration) -> Self {
        Self {
            requests: 0,
            polls: 0,
            attempts: ATTEMPTS_MAX,
            refilled: now,
        }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.refilled).as_nanos();
        let added = passed.checked_div(ATTEMPT_REFILL.as_nanos()).unwrap_or(0);
        let added = u32::try_from(added).unwrap_or(u32::MAX);
        self.attempts = self.attempts.saturating_add(added).min(ATTEMPTS_MAX);
        self.refilled = if self.attempts == ATTEMPTS_MAX {
            now
        } else {
            self.refilled
                .saturating_add(ATTEMPT_REFILL.saturating_mul(added))
        };
    }

    const fn is_idle(&self) -> bool {
        self.requests == 0 && self.attempts == ATTEMPTS_MAX
    }
}

/// What every peer has under way and in store.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    peers: Mutex<BTreeMap<NodeId, Share>>,
}

/// What a request does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It waits for a block.
    Poll,
    /// It waits for nothing, or for its own transaction.
    Answer,
}

/// A request of a peer that is under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    admission: &'a Admission,
    peer: NodeId,
    wait: Wait,
}

impl Admission {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Share>> {
        self.peers.lock().expect("no holder panics")
    }

    /// Lets a request in.
    pub(crate) fn enter(&self, peer: NodeId, wait: Wait, now: Duration) -> Result<Pass<'_>, Full> {
        let mut peers = self.peers();
        if peers.len() >= PEERS_MAX && !peers.contains_key(&peer) {
            peers.retain(|_, share| {
                share.refill(now);
                !share.is_idle()
            });
            if peers.len() >= PEERS_MAX {
                return Err(Full { max: PEERS_MAX });
            }
        }
        let share = peers.entry(peer).or_insert_with(|| Share::new(now));
        if share.requests >= REQUESTS_PER_PEER_MAX {
            return Err(Full {
                max: REQUESTS_PER_PEER_MAX,
            });
        }
        if wait == Wait::Poll {
            if share.polls >= POLLS_PER_PEER_MAX {
                return Err(Full {
                    max: POLLS_PER_PEER_MAX,
                });
            }
            share.polls = share.polls.saturating_add(1);
        }
        share.requests = share.requests.saturating_add(1);
        drop(peers);
        Ok(Pass {
            admission: self,
            peer,
            wait,
        })
    }

    /// Takes one attempt of the peer.
    pub(crate) fn attempt(&self, peer: NodeId, now: Duration) -> Result<(), Full> {
        let mut peers = self.peers();
        let Some(share) = peers.get_mut(&peer) else {
            // It has no request under way, which only a test does.
            return Ok(());
        };
        share.refill(now);
        match share.attempts.checked_sub(1) {
            Some(left) => {
                share.attempts = left;
                Ok(())
            }
            None => Err(Full {
                max: usize::try_from(ATTEMPTS_MAX).unwrap_or(usize::MAX),
            }),
        }
    }

    /// Gives one attempt back.
    pub(crate) fn give_back(&self, peer: NodeId) {
        if let Some(share) = self.peers().get_mut(&peer) {
            share.attempts = share.attempts.saturating_add(1).min(ATTEMPTS_MAX);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut peers = self.admission.peers();
        let Some(share) = peers.get_mut(&self.peer) else {
            return;
        };
        share.requests = share.requests.saturating_sub(1);
        if self.wait == Wait::Poll {
            share.polls = share.polls.saturating_sub(1);
        }
        if share.is_idle() {
            peers.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests;
