//! The rolling digest of all that happens in a simulated run.
//!
//! Two runs with the same digest took the same steps: every task started and polled, timer,
//! entropy draw, disk call with its bytes, and message is in it, each with its virtual time. To
//! find where two runs part, keep the last events of both and compare.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

/// The digest and, on demand, the last events in words.
#[derive(Debug)]
pub(super) struct Trace {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    digest: u64,
    events: u64,
    kept: VecDeque<String>,
    kept_max: usize,
}

impl Trace {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                digest: mix(0xcbf2_9ce4_8422_2325, seed),
                events: 0,
                kept: VecDeque::new(),
                kept_max: 0,
            }),
        }
    }

    pub(super) fn feed(&self, at: Duration, kind: &str, words: &[u64], bytes: &[u8]) {
        let mut state = self.state.lock().expect("no panic while tracing");
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let mut digest = mix(state.digest, nanos);
        digest = feed_bytes(digest, kind.as_bytes());
        for word in words {
            digest = mix(digest, *word);
        }
        state.digest = feed_bytes(digest, bytes);
        state.events += 1;
        if state.kept_max > 0 {
            if state.kept.len() == state.kept_max {
                state.kept.pop_front();
            }
            let mut line = format!("{at:?} {kind}");
            for word in words {
                write!(line, " {word}").expect("writing to memory does not fail");
            }
            let content = feed_bytes(0, bytes);
            write!(line, " {} bytes {content:016x}", bytes.len())
                .expect("writing to memory does not fail");
            state.kept.push_back(line);
        }
    }

    pub(super) fn digest(&self) -> u64 {
        let state = self.state.lock().expect("no panic while tracing");
        mix(state.digest, state.events)
    }

    pub(super) fn keep(&self, most: usize) {
        self.state.lock().expect("no panic while tracing").kept_max = most;
    }

    pub(super) fn kept(&self) -> Vec<String> {
        let state = self.state.lock().expect("no panic while tracing");
        state.kept.iter().cloned().collect()
    }
}

/// One step of the digest.
const fn mix(digest: u64, word: u64) -> u64 {
    let mixed = (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// Folds bytes in, eight at a time, and their count.
fn feed_bytes(digest: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut digest = digest;
    for word in words {
        digest = mix(digest, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    digest = mix(digest, u64::from_le_bytes(last));
    let count = u64::try_from(bytes.len()).expect("usize fits in u64 on our systems");
    mix(digest, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_event_counts() {
        let base: (u64, &str, &[u64], &[u8]) = (1, "disk", &[1, 2], b"12345678 9");
        let cases = [
            base,
            (2, "disk", &[1, 2], b"12345678 9"),
            (1, "task", &[1, 2], b"12345678 9"),
            (1, "disk", &[1, 3], b"12345678 9"),
            (1, "disk", &[2, 1], b"12345678 9"),
            (1, "disk", &[1, 2], b"12345678 9\0"),
            (1, "disk", &[1, 2], b"12345679 9"),
        ];
        let mut digests = Vec::new();
        for (nanos, kind, words, bytes) in cases {
            let trace = Trace::new(7);
            trace.feed(Duration::from_nanos(nanos), kind, words, bytes);
            digests.push(trace.digest());
        }
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), cases.len());
        assert_ne!(Trace::new(1).digest(), Trace::new(2).digest());
    }

    #[test]
    fn keeps_the_last_events() {
        let trace = Trace::new(7);
        trace.feed(Duration::ZERO, "lost", &[], b"");
        trace.keep(2);
        for word in 0..3 {
            trace.feed(Duration::ZERO, "kept", &[word], b"");
        }
        let kept = trace.kept();
        assert_eq!(kept.len(), 2);
        assert!(kept[0].starts_with("0ns kept 1"), "{kept:?}");
    }
}
