//! What a client has learned of nodes: how fast they answer, which fail, which served wrong bytes.
//!
//! Kept in memory only and bounded by [`PEERS_MAX`]; what is forgotten is learned again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_core::NodeId;

/// Most nodes that are remembered: 1,000 groups' worth at small sizes, under 1 MiB.
const PEERS_MAX: usize = 4_096;
/// How long a node that failed once is passed over while others serve. Doubles with each failure.
const AWAY_FIRST: Duration = Duration::from_millis(1_500);
/// Longest time that a failing node is passed over.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// How long a node that served wrong bytes is passed over.
const WRONG_AWAY: Duration = Duration::from_secs(600);
/// Answers up to this size are timed as small ones, larger ones per byte.
const SMALL_BYTES: u32 = 256 << 10;
/// Expected time of a small answer before anything is known: a far node over a slow link.
const SMALL_FIRST: Duration = Duration::from_millis(150);
/// Expected time of a whole shard before anything is known.
const LARGE_FIRST: Duration = Duration::from_millis(600);
/// Least delay before another source is asked: below it, hedging costs more than waiting.
const HEDGE_MIN: Duration = Duration::from_millis(15);
/// Longest delay before another source is asked.
const HEDGE_MAX: Duration = Duration::from_secs(3);

/// Smoothed mean and deviation of a time, in microseconds, as TCP keeps them.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    mean: u64,
    deviation: u64,
}

impl Estimate {
    fn first(expected: Duration) -> Self {
        let mean = micros(expected);
        Self {
            mean,
            deviation: mean / 2,
        }
    }

    fn add(&mut self, sample: Duration) {
        let sample = micros(sample);
        let error = self.mean.abs_diff(sample);
        self.deviation = (3 * self.deviation + error) / 4;
        self.mean = (7 * self.mean + sample) / 8;
    }

    /// A time that nearly all answers stay below: mean and four deviations.
    fn high(&self) -> Duration {
        Duration::from_micros(self.mean.saturating_add(self.deviation.saturating_mul(4)))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros())
        .unwrap_or(u64::MAX)
        .min(3_600_000_000)
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    small: Estimate,
    large: Estimate,
    /// Failures since the last success.
    failures: u32,
    away_until: Duration,
    /// Passed over until then whatever it answers: it served wrong bytes.
    wrong_until: Duration,
    /// Puts under way.
    puts: usize,
    used_at: Duration,
}

impl Peer {
    fn new() -> Self {
        Self {
            small: Estimate::first(SMALL_FIRST),
            large: Estimate::first(LARGE_FIRST),
            failures: 0,
            away_until: Duration::ZERO,
            wrong_until: Duration::ZERO,
            puts: 0,
            used_at: Duration::ZERO,
        }
    }
}

/// What is known of nodes. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers {
    by_id: Arc<Mutex<BTreeMap<NodeId, Peer>>>,
}

impl Peers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        // Each change is whole.
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, node: NodeId, now: Duration, change: impl FnOnce(&mut Peer)) {
        let mut peers = self.lock();
        if peers.len() >= PEERS_MAX && !peers.contains_key(&node) {
            let oldest = peers
                .iter()
                .filter(|(_, peer)| peer.puts == 0)
                .min_by_key(|(_, peer)| peer.used_at)
                .map(|(node, _)| *node);
            if let Some(oldest) = oldest {
                peers.remove(&oldest);
            }
        }
        let peer = peers.entry(node).or_insert_with(Peer::new);
        peer.used_at = now;
        change(peer);
    }

    /// An answer of `bytes` took `time`.
    pub(crate) fn answered(&self, node: NodeId, now: Duration, bytes: u32, time: Duration) {
        self.change(node, now, |peer| {
            if bytes <= SMALL_BYTES {
                peer.small.add(time);
            } else {
                peer.large.add(time);
            }
            peer.failures = 0;
            peer.away_until = Duration::ZERO;
        });
    }

    /// The node did a put.
    pub(crate) fn served(&self, node: NodeId, now: Duration) {
        self.change(node, now, |peer| {
            peer.failures = 0;
            peer.away_until = Duration::ZERO;
        });
    }

    /// The node failed: it is passed over for a while.
    pub(crate) fn failed(&self, node: NodeId, now: Duration) {
        self.change(node, now, |peer| {
            let away = AWAY_FIRST.saturating_mul(1 << peer.failures.min(10));
            peer.failures = peer.failures.saturating_add(1);
            peer.away_until = now.saturating_add(away.min(AWAY_MAX)).max(peer.away_until);
        });
    }

    /// The node served wrong bytes. A right answer to another question does not undo that: it may
    /// have been under way, or be what the node gains its trust by.
    pub(crate) fn lied(&self, node: NodeId, now: Duration) {
        self.change(node, now, |peer| {
            peer.failures = peer.failures.saturating_add(1);
            peer.wrong_until = now.saturating_add(WRONG_AWAY);
        });
    }

    /// Whether the node is passed over at present.
    pub(crate) fn is_away(&self, node: NodeId, now: Duration) -> bool {
        self.lock()
            .get(&node)
            .is_some_and(|peer| peer.away_until.max(peer.wrong_until) > now)
    }

    /// After which time without an answer of `bytes` another source is asked.
    pub(crate) fn hedge_delay(&self, node: NodeId, bytes: u32) -> Duration {
        let peer = self.lock().get(&node).copied().unwrap_or_else(Peer::new);
        let estimate = if bytes <= SMALL_BYTES {
            peer.small
        } else {
            peer.large
        };
        estimate
            .high()
            .saturating_mul(2)
            .clamp(HEDGE_MIN, HEDGE_MAX)
    }

    /// Expected time of an answer of `bytes`, to choose among sources.
    pub(crate) fn expected(&self, node: NodeId, bytes: u32) -> Duration {
        let peer = self.lock().get(&node).copied().unwrap_or_else(Peer::new);
        let estimate = if bytes <= SMALL_BYTES {
            peer.small
        } else {
            peer.large
        };
        Duration::from_micros(estimate.mean)
    }

    /// Puts under way to the node.
    pub(crate) fn puts(&self, node: NodeId) -> usize {
        self.lock().get(&node).map_or(0, |peer| peer.puts)
    }

    /// Counts a put until the guard is dropped.
    pub(crate) fn put(&self, node: NodeId, now: Duration) -> PutGuard {
        self.change(node, now, |peer| peer.puts += 1);
        PutGuard {
            peers: self.clone(),
            node,
        }
    }
}

/// A put under way.
#[derive(Debug)]
pub(crate) struct PutGuard {
    peers: Peers,
    node: NodeId,
}

impl Drop for PutGuard {
    fn drop(&mut self) {
        if let Some(peer) = self.peers.lock().get_mut(&self.node) {
            peer.puts = peer.puts.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_core::PublicKey;

    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::new(PublicKey::from_bytes([byte; 32]))
    }

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_hedge_delay_follows_the_node() {
        let peers = Peers::default();
        let before = peers.hedge_delay(node(1), 65_536);
        for _ in 0..50 {
            peers.answered(node(1), at(0), 65_536, at(2));
        }
        assert!(peers.hedge_delay(node(1), 65_536) < at(30));
        assert_eq!(peers.hedge_delay(node(2), 65_536), before);
        for _ in 0..50 {
            peers.answered(node(1), at(0), 65_536, at(400));
        }
        assert!(peers.hedge_delay(node(1), 65_536) >= at(800));
        assert!(peers.expected(node(1), 65_536) > at(350));
    }

    #[test]
    fn a_failing_node_is_passed_over_ever_longer() {
        let peers = Peers::default();
        peers.failed(node(1), at(0));
        assert!(peers.is_away(node(1), at(1_000)));
        assert!(!peers.is_away(node(1), at(1_600)));
        peers.failed(node(1), at(2_000));
        assert!(peers.is_away(node(1), at(4_900)));
        peers.served(node(1), at(5_000));
        assert!(!peers.is_away(node(1), at(5_000)));
        peers.lied(node(1), at(5_000));
        peers.answered(node(1), at(5_001), 65_536, at(2));
        assert!(peers.is_away(node(1), at(500_000)));
        assert!(!peers.is_away(node(1), at(606_000)));
    }

    #[test]
    fn memory_is_bounded() {
        let peers = Peers::default();
        let guard = peers.put(node(0), at(0));
        for n in 0..5_000_u64 {
            let mut bytes = [1; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            peers.failed(NodeId::new(PublicKey::from_bytes(bytes)), at(n));
        }
        assert_eq!(peers.lock().len(), PEERS_MAX);
        assert_eq!(peers.puts(node(0)), 1);
        drop(guard);
        assert_eq!(peers.puts(node(0)), 0);
    }
}
