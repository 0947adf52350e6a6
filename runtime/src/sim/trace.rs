//! The rolling digest of all that happens in a simulated run.
//!
//! Two runs with the same digest took the same steps: every task started and polled, timer,
//! entropy draw, disk call with its bytes, and message is in it, each with its virtual time. To
//! find where two runs part, keep the last events of both and compare.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

/// Most numbers of one event.
const WORDS_MAX: usize = 4;
/// How many of an event's bytes are kept to be shown: a task's name, a path's beginning.
const SHOWN_MAX: usize = 24;

/// Something that happened in a simulated run. Of its bytes it keeps the first and a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    at: Duration,
    kind: &'static str,
    words: [u64; WORDS_MAX],
    word_count: usize,
    bytes: usize,
    shown: [u8; SHOWN_MAX],
    content: u64,
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.at, self.kind)?;
        for word in &self.words[..self.word_count] {
            write!(f, " {word}")?;
        }
        let shown = &self.shown[..self.bytes.min(SHOWN_MAX)];
        match str::from_utf8(shown) {
            Ok("") => Ok(()),
            Ok(text) if self.bytes == shown.len() => write!(f, " {text:?}"),
            Ok(_) | Err(_) => {
                write!(f, ", {} bytes {:016x}: ", self.bytes, self.content)?;
                write!(f, "{}", shown.escape_ascii())
            }
        }
    }
}

/// The digest and, on demand, the last events.
#[derive(Debug)]
pub(super) struct Trace {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    digest: u64,
    events: u64,
    kept: VecDeque<TraceEvent>,
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

    /// Takes an event in. Of more than [`WORDS_MAX`] words those beyond do not count.
    pub(super) fn feed(&self, at: Duration, kind: &'static str, words: &[u64], bytes: &[u8]) {
        debug_assert!(words.len() <= WORDS_MAX, "{kind}: {words:?}");
        let word_count = words.len().min(WORDS_MAX);
        let mut event = TraceEvent {
            at,
            kind,
            words: [0; WORDS_MAX],
            word_count,
            bytes: bytes.len(),
            shown: [0; SHOWN_MAX],
            content: feed_bytes(0, bytes),
        };
        event.words[..word_count].copy_from_slice(&words[..word_count]);
        let shown_count = bytes.len().min(SHOWN_MAX);
        event.shown[..shown_count].copy_from_slice(&bytes[..shown_count]);
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let mut state = self.state.lock().expect("no panic while tracing");
        let mut digest = mix(state.digest, nanos);
        digest = feed_bytes(digest, kind.as_bytes());
        for word in event.words {
            digest = mix(digest, word);
        }
        state.digest = mix(digest, event.content);
        state.events += 1;
        if state.kept_max > 0 {
            if state.kept.len() == state.kept_max {
                state.kept.pop_front();
            }
            state.kept.push_back(event);
        }
    }

    pub(super) fn digest(&self) -> u64 {
        let state = self.state.lock().expect("no panic while tracing");
        mix(state.digest, state.events)
    }

    pub(super) fn keep(&self, most: usize) {
        self.state.lock().expect("no panic while tracing").kept_max = most;
    }

    pub(super) fn take_kept(&self) -> Vec<TraceEvent> {
        let mut state = self.state.lock().expect("no panic while tracing");
        std::mem::take(&mut state.kept).into()
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
        let base: (u64, &'static str, &[u64], &[u8]) = (1, "disk", &[1, 2], b"12345678 9");
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
        let kept = trace.take_kept();
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[0].to_string(), "0ns kept 1");
        assert_eq!(trace.take_kept(), []);
    }
}
