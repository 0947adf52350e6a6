//! What the tests of the file system share: entries in a map, and a small world around them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use super::extents::layout;
use super::{
    Caller, Changes, Edit, Entries, Found, FsError, Making, Move, New, Place, Privilege, Rooting,
    Touch, check, format, make, relocate, usage_delta, write,
};
use crate::key::{InodeNumber, Key, SegmentId};
use crate::run::{RunRef, SaltBytes};
use crate::tree::Absent;
use crate::value::{JournalRef, Source, Time};

mod model;
mod names;
mod random;
mod steps;

/// Entries in memory; a call may be told to find a page missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Map {
    keys: BTreeMap<Key, Box<[u8]>>,
    /// Reads and visits until a page is missing.
    absent_in: Cell<Option<u32>>,
}

impl Map {
    pub(super) fn apply(&mut self, changes: Changes) {
        for (key, value) in changes {
            match value {
                Some(value) => self.keys.insert(key, value),
                None => self.keys.remove(&key),
            };
        }
    }

    /// The read or visit after so many more finds a page missing.
    pub(super) fn lose_page_in(&self, reads: u32) {
        self.absent_in.set(Some(reads));
    }

    fn step(&self) -> Result<(), Absent> {
        match self.absent_in.get() {
            Some(0) => {
                self.absent_in.set(None);
                Err(Absent(run_of(0, 1)))
            }
            Some(left) => {
                self.absent_in.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Entries for Map {
    fn get(&self, key: &Key) -> Result<Option<Box<[u8]>>, Absent> {
        self.step()?;
        Ok(self.keys.get(key).cloned())
    }

    fn scan<F>(&self, range: Range<&Key>, mut visit: F) -> Result<(), Absent>
    where
        F: FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    {
        self.step()?;
        for (key, value) in self.keys.range::<Key, _>(range) {
            if visit(key.as_bytes(), value).is_break() {
                break;
            }
            self.step()?;
        }
        Ok(())
    }

    fn last_at_or_before(&self, key: &Key) -> Result<Option<(Key, Box<[u8]>)>, Absent> {
        self.step()?;
        let last = self.keys.range::<Key, _>(..=key).next_back();
        Ok(last.map(|(key, value)| (key.clone(), value.clone())))
    }
}

/// A run, different for each `number`.
pub(super) fn run_of(number: u32, bytes: u32) -> RunRef {
    RunRef {
        segment: SegmentId {
            group: 0,
            number: number % 3,
        },
        salt: SaltBytes([7; 16]),
        offset: number,
        bytes,
        stored: bytes,
        key: 0,
    }
}

pub(super) fn at(second: i64) -> Time {
    Time {
        seconds: second,
        nanos: 5,
    }
}

/// A caller without privilege.
pub(super) fn plain(uid: u32, groups: &[u32]) -> Caller {
    Caller {
        uid,
        gid: uid,
        groups: groups.to_vec(),
        privilege: Privilege::Plain,
    }
}

/// A volume with a root directory that anybody may write, and what its extents refer to.
#[derive(Debug)]
pub(super) struct World {
    pub(super) map: Map,
    journal: Vec<u8>,
    runs: BTreeMap<RunRef, Vec<u8>>,
    usage: BTreeMap<SegmentId, i64>,
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            map: Map::default(),
            journal: Vec::new(),
            runs: BTreeMap::new(),
            usage: BTreeMap::new(),
        };
        let root = Rooting {
            uid: 0,
            gid: 0,
            mode: 0o777,
            generation: 1,
        };
        world.change(|edit| format(edit, root, at(0))).unwrap();
        world
    }

    /// Makes a change; when it fails nothing has changed.
    pub(super) fn change<T>(
        &mut self,
        call: impl FnOnce(&mut Edit<'_, Map>) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        let mut edit = Edit::new(&self.map);
        let result = call(&mut edit)?;
        let changes = edit.finish();
        for (key, new) in &changes {
            let old = self.map.keys.get(key).map(|value| &**value);
            for (segment, delta) in usage_delta(key, old, new.as_deref()) {
                *self.usage.entry(segment).or_default() += delta;
            }
        }
        self.map.apply(changes);
        Ok(result)
    }

    /// Makes an inode in the root directory.
    pub(super) fn make(&mut self, name: &[u8], new: New<'_>) -> InodeNumber {
        let found = self.make_in(InodeNumber::ROOT, name, new);
        found.unwrap().inode
    }

    pub(super) fn make_in(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        new: New<'_>,
    ) -> Result<Found, FsError> {
        let making = Making {
            new,
            mode: 0o755,
            generation: 9,
        };
        let place = Place { directory, name };
        self.change(|edit| make(edit, &Caller::SUPERUSER, place, making, at(1)))
    }

    /// Puts bytes into the journal.
    pub(super) fn journaled(&mut self, bytes: &[u8]) -> Source {
        // Records do not follow each other without a gap.
        self.journal.push(0xee);
        let offset = u64::try_from(self.journal.len()).unwrap();
        self.journal.extend_from_slice(bytes);
        Source::Journal(JournalRef { file: 1, offset })
    }

    /// Writes all of `bytes`, step by step.
    pub(super) fn write(
        &mut self,
        touch: Touch<'_>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, FsError> {
        let source = self.journaled(bytes);
        let all = u64::try_from(bytes.len()).unwrap();
        let mut done = 0;
        loop {
            let source = source.advance(done).unwrap();
            done += self.change(|edit| write(edit, touch, offset + done, all - done, source))?;
            if done == all {
                return Ok(done);
            }
        }
    }

    /// Bytes that a source has.
    pub(super) fn bytes_of(&self, source: Source, bytes: u64) -> Vec<u8> {
        let bytes = usize::try_from(bytes).unwrap();
        let (all, skip) = match source {
            Source::Run { run, skip } => (&self.runs[&run], u64::from(skip)),
            Source::Journal(JournalRef { offset, .. }) => (&self.journal, offset),
            Source::Zeros => return vec![0; bytes],
        };
        let skip = usize::try_from(skip).unwrap();
        all[skip..skip + bytes].to_vec()
    }

    /// Moves the bytes of a file that `which` picks into a run of their own; says how many extents it has
    /// after that.
    pub(super) fn pack(&mut self, inode: InodeNumber, which: impl Fn(Source) -> bool) -> usize {
        let mut packed = Vec::new();
        let mut moves = Vec::new();
        for span in layout(&self.map, inode, 0..1_000_000, 100_000).unwrap() {
            let Some(from) = span.source.filter(|source| which(*source)) else {
                continue;
            };
            moves.push((span.offset..span.offset + span.bytes, from, packed.len()));
            packed.extend(self.bytes_of(from, span.bytes));
        }
        let number = u32::try_from(self.runs.len()).unwrap() + 1;
        let run = run_of(number, u32::try_from(packed.len()).unwrap());
        self.runs.insert(run, packed);
        for (range, from, skip) in moves {
            let skip = u32::try_from(skip).unwrap();
            let bytes = range.end - range.start;
            let moved = Move {
                inode,
                range,
                from,
                to: Source::Run { run, skip },
            };
            let done = self.change(|edit| relocate(edit, &moved)).unwrap();
            assert_eq!((done.bytes, done.end), (bytes, moved.range.end));
        }
        let spans = layout(&self.map, inode, 0..1_000_000, 100_000).unwrap();
        spans.iter().filter(|span| span.source.is_some()).count()
    }

    /// The tree is a file system, and the use of segments was followed rightly.
    pub(super) fn check(&self) {
        assert_eq!(check(&self.map).unwrap(), []);
        let mut usage: BTreeMap<SegmentId, i64> = BTreeMap::new();
        for (key, value) in &self.map.keys {
            for (segment, delta) in usage_delta(key, None, Some(value)) {
                *usage.entry(segment).or_default() += delta;
            }
        }
        let followed = self.usage.iter().filter(|(_, bytes)| **bytes != 0);
        assert!(followed.eq(usage.iter()));
    }
}
