//! What lies between two simulated peers, and what has passed.

use std::num::NonZeroU64;
use std::time::Duration;

use cairn_core::NodeId;

use super::State;

/// How long a lost part of a stream takes to be sent again: Linux' least retransmission timeout.
const RETRANSMIT_TIME: Duration = Duration::from_millis(200);

/// One direction of the way between two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Time that every byte takes.
    pub latency: Duration,
    /// Most time that some take besides, drawn for each message and each part of a stream. What
    /// a stream carries stays in order.
    pub jitter: Duration,
    /// How many in a million messages are lost, and how many parts of streams must be sent again.
    pub loss_per_million: u32,
    /// How many in a million parts of streams break their stream.
    pub reset_per_million: u32,
    /// Bytes per second; `None` for no limit.
    pub bytes_per_second: Option<NonZeroU64>,
}

impl Link {
    /// A good way between two cities: 10 ms, nothing lost.
    pub const DEFAULT: Self = Self {
        latency: Duration::from_millis(10),
        jitter: Duration::from_millis(2),
        loss_per_million: 0,
        reset_per_million: 0,
        bytes_per_second: None,
    };

    /// No time, nothing lost.
    pub const PERFECT: Self = Self {
        latency: Duration::ZERO,
        jitter: Duration::ZERO,
        ..Self::DEFAULT
    };
}

/// What has passed from one peer to another. Counted when it is sent, lost or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Control requests and answers.
    pub messages: u64,
    /// Bytes of control requests and answers.
    pub message_bytes: u64,
    /// Streams opened.
    pub streams: u64,
    /// Bytes on streams.
    pub stream_bytes: u64,
    /// How often an end of a stream sent after it had received, or for the first time: the round
    /// trips that it asked for.
    pub turns: u64,
}

impl Traffic {
    /// Everything in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.message_bytes + self.stream_bytes
    }

    /// The sum of two.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            message_bytes: self.message_bytes + other.message_bytes,
            streams: self.streams + other.streams,
            stream_bytes: self.stream_bytes + other.stream_bytes,
            turns: self.turns + other.turns,
        }
    }
}

/// What becomes of a part of a stream.
pub(super) enum Passage {
    /// It arrives at this time, if nothing before it is later.
    Arrives(Duration),
    /// The stream breaks.
    Breaks,
}

impl State {
    pub(super) fn link_of(&self, from: NodeId, to: NodeId) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or(self.link)
    }

    /// Whether two peers are in the same part of the network.
    pub(super) fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        let part = |node| self.parts.get(&node).copied().unwrap_or_default();
        part(from) == part(to)
    }

    pub(super) fn traffic_of(&mut self, from: NodeId, to: NodeId) -> &mut Traffic {
        self.traffic.entry((from, to)).or_default()
    }

    /// When `bytes` that are sent now arrive.
    fn arrival(&mut self, from: NodeId, to: NodeId, bytes: usize, now: Duration) -> Duration {
        let link = self.link_of(from, to);
        let jitter = self.rng.up_to(link.jitter);
        let sent_at = match link.bytes_per_second {
            None => now,
            Some(rate) => {
                let bytes = u128::try_from(bytes).expect("usize fits in u128");
                let nanos = bytes.saturating_mul(1_000_000_000) / u128::from(rate.get());
                let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
                let busy_until = self.busy_until.entry((from, to)).or_default();
                *busy_until = now
                    .max(*busy_until)
                    .saturating_add(Duration::from_nanos(nanos));
                *busy_until
            }
        };
        sent_at.saturating_add(link.latency).saturating_add(jitter)
    }

    /// When a message that is sent now arrives; `None` when it never does.
    pub(super) fn send_message(
        &mut self,
        from: NodeId,
        to: NodeId,
        bytes: usize,
        now: Duration,
    ) -> Option<Duration> {
        let traffic = self.traffic_of(from, to);
        traffic.messages += 1;
        traffic.message_bytes += count(bytes);
        let lost = self.link_of(from, to).loss_per_million;
        let arrival = self.arrival(from, to, bytes, now);
        if !self.is_open(from, to) || self.rng.chance(lost) {
            return None;
        }
        Some(arrival)
    }

    /// What becomes of a part of a stream that is sent now.
    pub(super) fn send_part(
        &mut self,
        from: NodeId,
        to: NodeId,
        bytes: usize,
        now: Duration,
    ) -> Passage {
        self.traffic_of(from, to).stream_bytes += count(bytes);
        let link = self.link_of(from, to);
        if self.rng.chance(link.reset_per_million) {
            return Passage::Breaks;
        }
        let mut arrival = self.arrival(from, to, bytes, now);
        // Sent again until it gets through; a link that loses all is as good as parted.
        let mut wait = RETRANSMIT_TIME;
        for _ in 0..8 {
            if !self.rng.chance(link.loss_per_million) {
                break;
            }
            arrival = arrival.saturating_add(wait);
            wait = wait.saturating_mul(2);
        }
        Passage::Arrives(arrival)
    }
}

pub(super) fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize fits in u64 on our systems")
}
