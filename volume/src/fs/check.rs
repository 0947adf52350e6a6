//! Whether a tree is a file system: every rule that holds after every call.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use borsh::BorshDeserialize;

use super::FsError;
use super::caller::MODE_BITS;
use super::directory::DIRECTORY_LINKS;
use super::entries::Entries;
use super::extents::Placed;
use super::xattr::later_parts;
use crate::key::{InodeNumber, KEY_BYTES_MAX, Key, KeyKind};
use crate::value::{
    Attributes, Counters, Entry, Extent, FILE_BYTES_MAX, JournalRef, Kind, Orphan, Snapshot,
    Source, Type, Usage, XATTR_BYTES_MAX, XATTR_PART_BYTES, Xattr, decode,
};

mod flaw;

pub use flaw::Flaw;

/// Most flaws that are kept: who has more needs no longer list.
pub const FLAWS_MAX: usize = 1_000;

/// A check of a tree. What it keeps grows with the inodes that there are.
#[derive(Debug, Default)]
pub struct Check {
    /// Where to go on: behind the last key that was seen.
    from: Vec<u8>,
    counters: Option<Counters>,
    inodes: BTreeMap<InodeNumber, Seen>,
    orphans: BTreeSet<InodeNumber>,
    /// Parts of xattrs that are still to come, and their bytes.
    parts: BTreeMap<Key, usize>,
    /// Bytes of the journal that extents refer to: where they begin, and how many.
    journal: BTreeMap<JournalRef, u64>,
    flaws: Vec<Flaw>,
}

/// What is known of an inode.
#[derive(Debug, Default)]
struct Seen {
    attributes: Option<Known>,
    /// Entries that it has.
    entries: u64,
    /// Of these, directories.
    directories: u64,
    /// Bytes of its extents.
    allocated: u64,
    /// End of the last of them.
    end: u64,
    /// Entries that name it.
    names: u64,
    /// The last directory that has such an entry, and the type that the entry says.
    named: Option<(InodeNumber, Type)>,
}

/// What its attributes say.
#[derive(Debug)]
struct Known {
    kind: Type,
    /// The directory that it says to be in, and its entries.
    directory: Option<(InodeNumber, u64)>,
    links: u32,
    size: u64,
    allocated: u64,
}

/// Checks a whole tree, all of which is in memory; otherwise a [`Check`] does it page by page.
///
/// # Errors
///
/// [`FsError::Absent`].
pub fn check<E: Entries>(entries: &E) -> Result<Vec<Flaw>, FsError> {
    let mut check = Check::new();
    check.scan(entries)?;
    Ok(check.finish())
}

impl Check {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at what was not looked at yet, to the end.
    ///
    /// # Errors
    ///
    /// [`FsError::Absent`]: fetch the page and go on.
    pub fn scan<E: Entries>(&mut self, entries: &E) -> Result<(), FsError> {
        let from = Key::from_bytes(&self.from);
        let end = Key::from_bytes(&[u8::MAX; KEY_BYTES_MAX]);
        entries.scan(&from..&end, |key, value| {
            self.from.clear();
            self.from.extend_from_slice(key);
            self.from.push(0);
            self.visit(&Key::from_bytes(key), value);
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    /// What is wrong, at most [`FLAWS_MAX`].
    #[must_use]
    pub fn finish(mut self) -> Vec<Flaw> {
        self.judge_volume();
        let inodes = std::mem::take(&mut self.inodes);
        for (inode, seen) in &inodes {
            self.judge(*inode, seen);
        }
        self.judge_paths(&inodes);
        for key in std::mem::take(&mut self.parts).into_keys() {
            self.flaw(Flaw::XattrPart { key });
        }
        self.flaws
    }

    fn flaw(&mut self, flaw: Flaw) {
        if self.flaws.len() < FLAWS_MAX {
            self.flaws.push(flaw);
        }
    }

    fn read<T: BorshDeserialize>(&mut self, key: &Key, value: &[u8]) -> Option<T> {
        let decoded = decode(value);
        if decoded.is_none() {
            self.flaw(Flaw::Unreadable { key: key.clone() });
        }
        decoded
    }

    /// Looks at a value that only must be readable.
    fn see<T: BorshDeserialize>(&mut self, key: &Key, value: &[u8]) {
        let _read = self.read::<T>(key, value);
    }

    fn seen(&mut self, inode: InodeNumber) -> &mut Seen {
        self.inodes.entry(inode).or_default()
    }

    fn visit(&mut self, key: &Key, value: &[u8]) {
        match key.kind() {
            Some(KeyKind::Attributes(inode)) => {
                if let Some(attributes) = self.read::<Attributes>(key, value) {
                    self.see_attributes(inode, attributes);
                }
            }
            Some(KeyKind::Entry(inode, _)) => {
                if let Some(entry) = self.read::<Entry>(key, value) {
                    self.see_entry(inode, entry);
                }
            }
            Some(KeyKind::Xattr(inode, name)) => {
                if let Some(xattr) = self.read::<Xattr>(key, value) {
                    self.see_xattr(inode, name, &xattr);
                }
            }
            Some(KeyKind::XattrPart(inode, ..)) => self.see_part(inode, key, value),
            Some(KeyKind::Extent(inode, offset)) => {
                if let Some(extent) = self.read::<Extent>(key, value) {
                    self.see_extent(inode, (key, offset), extent);
                }
            }
            Some(KeyKind::Counters) => self.counters = self.read(key, value),
            Some(KeyKind::Orphan(inode)) => {
                if self.read::<Orphan>(key, value).is_some() {
                    self.orphans.insert(inode);
                }
            }
            Some(KeyKind::Usage(_)) => self.see::<Usage>(key, value),
            Some(KeyKind::Snapshot(_)) => self.see::<Snapshot>(key, value),
            // Whoever keeps snapshots knows what these say.
            Some(KeyKind::Held(..)) => {}
            None => self.flaw(Flaw::Unreadable { key: key.clone() }),
        }
    }

    fn see_attributes(&mut self, inode: InodeNumber, attributes: Attributes) {
        let Attributes { mode, size, .. } = attributes;
        let mut bad = |found: bool, what| {
            if found {
                self.flaw(Flaw::Attribute { inode, what });
            }
        };
        let times = [
            attributes.accessed,
            attributes.modified,
            attributes.changed,
            attributes.born,
        ];
        bad(mode & !MODE_BITS != 0, "mode");
        bad(times.iter().any(|time| time.nanos >= 1_000_000_000), "time");
        let largest = match &attributes.kind {
            Kind::File => FILE_BYTES_MAX,
            Kind::Symlink { target } => u64::try_from(target.len()).unwrap_or(u64::MAX),
            Kind::Directory { .. }
            | Kind::Fifo
            | Kind::Socket
            | Kind::Character { .. }
            | Kind::Block { .. } => 0,
        };
        let exact = attributes.kind != Kind::File;
        bad(size > largest || (exact && size != largest), "size");
        let kind = attributes.kind.type_of();
        let directory = if let Kind::Directory { parent, entries } = attributes.kind {
            Some((parent, entries))
        } else {
            None
        };
        self.seen(inode).attributes = Some(Known {
            kind,
            directory,
            links: attributes.links,
            size,
            allocated: attributes.allocated,
        });
    }

    fn see_entry(&mut self, directory: InodeNumber, entry: Entry) {
        let is_directory = entry.kind == Type::Directory;
        let seen = self.seen(directory);
        seen.entries += 1;
        seen.directories += u64::from(is_directory);
        let named = self.seen(entry.inode);
        named.names += 1;
        let before = named.named.replace((directory, entry.kind));
        if before.is_some_and(|(_, kind)| kind != entry.kind) {
            let inode = entry.inode;
            self.flaw(Flaw::Entry { directory, inode });
        }
    }

    fn see_xattr(&mut self, inode: InodeNumber, name: &[u8], xattr: &Xattr) {
        let bytes = usize::try_from(xattr.bytes).unwrap_or(usize::MAX);
        let first = bytes.min(XATTR_PART_BYTES);
        if bytes > XATTR_BYTES_MAX || xattr.first.len() != first {
            let key = Key::xattr(inode, name);
            return self.flaw(Flaw::XattrPart { key });
        }
        let mut left = bytes - first;
        for number in later_parts(bytes) {
            let part = left.min(XATTR_PART_BYTES);
            left -= part;
            self.parts
                .insert(Key::xattr_part(inode, name, number), part);
        }
    }

    fn see_part(&mut self, inode: InodeNumber, key: &Key, value: &[u8]) {
        let expected = self.parts.remove(key);
        // Of an orphan some may be gone.
        let known = self.seen(inode).attributes.as_ref();
        let orphan = known.is_some_and(|known| known.links == 0);
        if expected != Some(value.len()) && !orphan {
            self.flaw(Flaw::XattrPart { key: key.clone() });
        }
    }

    fn see_extent(&mut self, inode: InodeNumber, (key, offset): (&Key, u64), extent: Extent) {
        let seen = self.seen(inode);
        let size = match &seen.attributes {
            Some(known) if known.kind == Type::File => known.size,
            Some(_) => return self.flaw(Flaw::Misplaced { key: key.clone() }),
            // That is told of the inode.
            None => FILE_BYTES_MAX,
        };
        let Some(placed) = Placed::from_parts(offset, extent) else {
            return self.flaw(Flaw::Unreadable { key: key.clone() });
        };
        let overlaps = offset < seen.end;
        seen.allocated = seen.allocated.saturating_add(placed.bytes);
        seen.end = placed.end();
        if overlaps || (placed.is_data() && placed.end() > size) {
            self.flaw(Flaw::Extent { key: key.clone() });
        }
        if let Source::Journal(at) = extent.source
            && !self.is_first(at, extent.bytes)
        {
            self.flaw(Flaw::Shared { key: key.clone() });
        }
    }

    /// Whether no other extent has any of these bytes of the journal.
    fn is_first(&mut self, at: JournalRef, bytes: u64) -> bool {
        let before = self.journal.range(..=at).next_back();
        let after = self.journal.range(at..).next();
        let ends = |from: &JournalRef, bytes: &u64| from.offset.saturating_add(*bytes);
        let free = before
            .is_none_or(|(from, bytes)| from.file != at.file || ends(from, bytes) <= at.offset)
            && after
                .is_none_or(|(from, _)| from.file != at.file || ends(&at, &bytes) <= from.offset);
        let kept = self.journal.entry(at).or_default();
        *kept = bytes.max(*kept);
        free
    }

    fn judge_volume(&mut self) {
        let Some(counters) = self.counters else {
            return self.flaw(Flaw::NoCounters);
        };
        let known = self
            .inodes
            .iter()
            .filter_map(|(inode, seen)| Some((*inode, seen.attributes.as_ref()?)));
        let (mut inodes, mut allocated, mut last) = (0, 0_u64, InodeNumber::VOLUME);
        for (inode, known) in known {
            inodes += 1;
            allocated = allocated.saturating_add(known.allocated);
            last = inode;
        }
        for (what, expected, found) in [
            ("inodes", inodes, counters.inodes),
            ("bytes of files", allocated, counters.allocated),
        ] {
            if expected != found {
                self.flaw(Flaw::Counter {
                    what,
                    expected,
                    found,
                });
            }
        }
        let next = counters.next_inode;
        if last.get() >= next {
            self.flaw(Flaw::Number { inode: last, next });
        }
        for inode in std::mem::take(&mut self.orphans) {
            let seen = self.inodes.get(&inode);
            let known = seen.and_then(|seen| seen.attributes.as_ref());
            if known.is_none_or(|known| known.links != 0) {
                self.flaw(Flaw::Orphan { inode });
            } else {
                self.orphans.insert(inode);
            }
        }
    }

    fn judge(&mut self, inode: InodeNumber, seen: &Seen) {
        if let Some((directory, kind)) = seen.named
            && seen
                .attributes
                .as_ref()
                .is_none_or(|known| known.kind != kind)
        {
            self.flaw(Flaw::Entry { directory, inode });
        }
        let Some(known) = &seen.attributes else {
            return self.flaw(Flaw::NoAttributes { inode });
        };
        let orphan = known.links == 0;
        if orphan != self.orphans.contains(&inode) {
            self.flaw(Flaw::Orphan { inode });
        }
        let entries = known.directory.map_or(0, |(_, entries)| entries);
        let named_once = u64::from(inode != InodeNumber::ROOT && !orphan);
        let links = match known.directory {
            Some(_) if orphan => 0,
            Some(_) => u64::from(DIRECTORY_LINKS) + seen.directories,
            None => seen.names,
        };
        let names = known.directory.map_or(seen.names, |_| named_once);
        for (what, expected, found) in [
            ("entries", seen.entries, entries),
            ("links", links, u64::from(known.links)),
            ("names", names, seen.names),
            ("bytes", seen.allocated, known.allocated),
        ] {
            if expected != found {
                self.flaw(Flaw::Count {
                    inode,
                    what,
                    expected,
                    found,
                });
            }
        }
        let expected = match seen.named {
            _ if inode == InodeNumber::ROOT => Some(inode),
            named => named.map(|(directory, _)| directory),
        };
        if let Some((found, _)) = known.directory
            && expected != Some(found)
            && !orphan
        {
            self.flaw(Flaw::Parent {
                inode,
                expected,
                found,
            });
        }
    }

    /// Every directory with a name must be below the root.
    fn judge_paths(&mut self, inodes: &BTreeMap<InodeNumber, Seen>) {
        let parent = |inode: InodeNumber| {
            let known = inodes.get(&inode)?.attributes.as_ref()?;
            let (parent, _) = known.directory?;
            (known.links > 0).then_some(parent)
        };
        let mut below = BTreeSet::from([InodeNumber::ROOT]);
        let mut loose = BTreeSet::new();
        for inode in inodes.keys() {
            let mut path = BTreeSet::new();
            let mut at = *inode;
            let mut up = parent(at);
            while let Some(next) = up
                && !below.contains(&at)
                && !loose.contains(&at)
                && path.insert(at)
            {
                at = next;
                up = parent(at);
            }
            if below.contains(&at) {
                below.extend(path);
            } else {
                loose.extend(path);
            }
        }
        for inode in loose {
            self.flaw(Flaw::Loose { inode });
        }
    }
}

#[cfg(test)]
mod tests;
