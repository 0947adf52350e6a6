//! Pages in memory that are as they were written.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Node;
use crate::page::{PAGE_BYTES_MAX, PageError, decode};
use crate::run::RunRef;

/// Parts of the cache that are locked one by one: more than there are processors as a rule.
const PARTS: usize = 16;
/// Least bytes of a part: what one operation asks for must be there together, even if all of it falls into
/// one part.
const PART_BYTES_MIN: usize = 16 * PAGE_BYTES_MAX;
/// Memory of an entry of a page besides its bytes: two pointers with lengths, and what the allocator adds.
const ENTRY_BYTES: usize = 64;

/// Pages in memory, as they were written. Bounded; clones are one cache.
#[derive(Clone)]
pub struct Pages {
    parts: Arc<[Mutex<Part>]>,
    part_bytes_max: usize,
}

#[derive(Default)]
struct Part {
    kept: BTreeMap<RunRef, Kept>,
    /// Those that came or were asked for longest ago are first.
    order: VecDeque<RunRef>,
    bytes: usize,
}

struct Kept {
    node: Arc<Node>,
    bytes: usize,
    /// Asked for since it was last first in line: it goes to the end once more.
    is_used: bool,
}

impl Pages {
    /// A cache of so many bytes of memory, of 8 MiB at least.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            part_bytes_max: (bytes_max / PARTS).max(PART_BYTES_MIN),
        }
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| lock(part).bytes).sum()
    }

    /// Takes a page that was fetched, decrypted and verified.
    ///
    /// # Errors
    ///
    /// [`PageError`] when it is none.
    pub fn admit(&self, at: RunRef, plain: &[u8]) -> Result<(), PageError> {
        let (level, content) = decode(plain)?;
        self.insert(at, Arc::new(Node::of(level, content)));
        Ok(())
    }

    pub(super) fn insert(&self, at: RunRef, node: Arc<Node>) {
        let bytes = node.bytes + ENTRY_BYTES * node.len();
        let mut part = self.part(&at);
        let kept = Kept {
            node,
            bytes,
            is_used: false,
        };
        part.bytes += bytes;
        match part.kept.insert(at, kept) {
            Some(old) => part.bytes -= old.bytes,
            None => part.order.push_back(at),
        }
        part.evict(self.part_bytes_max, &at);
    }

    pub(super) fn get(&self, at: &RunRef) -> Option<Arc<Node>> {
        let mut part = self.part(at);
        let kept = part.kept.get_mut(at)?;
        kept.is_used = true;
        Some(Arc::clone(&kept.node))
    }

    fn part(&self, at: &RunRef) -> MutexGuard<'_, Part> {
        let mixed = u64::from(at.offset)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(u64::from(at.segment.number).wrapping_mul(0xc2b2_ae3d_27d4_eb4f));
        let place = usize::try_from(mixed >> 60).expect("four bits");
        lock(&self.parts[place])
    }
}

impl Part {
    /// Lets go what was not asked for lately, but for the page that has just come.
    fn evict(&mut self, bytes_max: usize, newest: &RunRef) {
        // Each is moved at most once before it goes, so this ends.
        for _ in 0..2 * self.order.len() {
            if self.bytes <= bytes_max || self.order.len() <= 1 {
                return;
            }
            let Some(first) = self.order.pop_front() else {
                return;
            };
            let Some(kept) = self.kept.get_mut(&first) else {
                continue;
            };
            if kept.is_used || first == *newest {
                kept.is_used = false;
                self.order.push_back(first);
                continue;
            }
            self.bytes -= kept.bytes;
            self.kept.remove(&first);
        }
    }
}

/// Each change of a part is whole.
fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
