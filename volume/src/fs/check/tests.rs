//! Each flaw is told, and alone where it stands alone.

use super::{FLAWS_MAX, Flaw, check};
use crate::fs::tests::{World, at};
use crate::fs::{
    Caller, Entries, FsError, New, NewXattr, Open, Place, SetMode, Touch, attributes, set_xattr,
    unlink,
};
use crate::key::{InodeNumber, Key, SegmentId};
use crate::value::{
    Attributes, Counters, Entry, Extent, Kind, Orphan, Source, Type, decode, encode,
};

const ROOT: InodeNumber = InodeNumber::ROOT;

/// A tree with one of everything: a directory in the root with a file in it that has another name, a file
/// that is open and has none.
struct Sound {
    world: World,
    directory: InodeNumber,
    file: InodeNumber,
    orphan: InodeNumber,
}

impl Sound {
    fn new() -> Self {
        let mut world = World::new();
        let directory = world.make(b"d", New::Directory);
        let file = world.make_in(directory, b"f", New::File).unwrap().inode;
        let orphan = world.make(b"o", New::File);
        let caller = &Caller::SUPERUSER;
        let touch = Touch {
            caller,
            inode: file,
            now: at(2),
        };
        world.write(touch, 10, b"content").unwrap();
        let new = NewXattr {
            name: b"user.long",
            value: &[b'v'; 9_000],
            mode: SetMode::Any,
        };
        world
            .change(|edit| set_xattr(edit, file, new, at(2)))
            .unwrap();
        let place = Place {
            directory: ROOT,
            name: b"o",
        };
        world
            .change(|edit| unlink(edit, caller, place, Open::Yes, at(2)))
            .unwrap();
        world.check();
        Self {
            world,
            directory,
            file,
            orphan,
        }
    }

    fn put(&mut self, key: Key, value: Option<Box<[u8]>>) -> &mut Self {
        self.world.map.apply(vec![(key, value)]);
        self
    }

    fn change(&mut self, inode: InodeNumber, change: impl FnOnce(&mut Attributes)) -> &mut Self {
        let mut changed = attributes(&self.world.map, inode).unwrap();
        change(&mut changed);
        self.put(Key::attributes(inode), Some(encode(&changed)))
    }

    fn count(&mut self, change: impl FnOnce(&mut Counters)) -> &mut Self {
        let counters = self.world.map.get(&Key::counters()).unwrap().unwrap();
        let mut counters = decode(&counters).unwrap();
        change(&mut counters);
        self.put(Key::counters(), Some(encode(&counters)))
    }

    /// All flaws, which must have this one among them.
    fn has(&self, flaw: &Flaw) -> Vec<Flaw> {
        let flaws = check(&self.world.map).unwrap();
        assert!(flaws.contains(flaw), "{flaw}: {flaws:?}");
        flaws
    }

    /// There is this flaw and no other.
    fn has_only(&self, flaw: Flaw) {
        assert_eq!(self.has(&flaw), [flaw]);
    }
}

#[test]
fn wrong_counters_are_told() {
    let counter = |what, expected, found| Flaw::Counter {
        what,
        expected,
        found,
    };
    let mut sound = Sound::new();
    sound.count(|counters| counters.inodes += 1);
    sound.has_only(counter("inodes", 4, 5));
    let mut sound = Sound::new();
    sound.count(|counters| counters.allocated -= 1);
    sound.has_only(counter("bytes of files", 7, 6));
    let mut sound = Sound::new();
    let inode = sound.orphan;
    sound.count(|counters| counters.next_inode = inode.get());
    let next = inode.get();
    sound.has_only(Flaw::Number { inode, next });
    let mut sound = Sound::new();
    sound.put(Key::counters(), None).has_only(Flaw::NoCounters);
}

#[test]
fn wrong_counts_of_an_inode_are_told() {
    let count = |inode, what, expected, found| Flaw::Count {
        inode,
        what,
        expected,
        found,
    };
    let mut sound = Sound::new();
    let (directory, file) = (sound.directory, sound.file);
    sound
        .change(file, |file| file.links = 2)
        .has_only(count(file, "links", 1, 2));
    let mut sound = Sound::new();
    sound
        .change(ROOT, |root| root.links = 2)
        .has_only(count(ROOT, "links", 3, 2));
    let mut sound = Sound::new();
    sound
        .change(file, |file| file.allocated = 8)
        .has(&count(file, "bytes", 7, 8));
    let mut sound = Sound::new();
    let (parent, entries) = (ROOT, 2);
    sound
        .change(directory, |directory| {
            directory.kind = Kind::Directory { parent, entries };
        })
        .has_only(count(directory, "entries", 1, 2));
    // A second name of a directory.
    let mut sound = Sound::new();
    let second = Entry {
        inode: directory,
        kind: Type::Directory,
    };
    sound
        .put(Key::entry(ROOT, b"second"), Some(encode(&second)))
        .has(&count(directory, "names", 1, 2));
}

#[test]
fn bad_attributes_are_told() {
    let mut sound = Sound::new();
    let (directory, inode) = (sound.directory, sound.file);
    let what = "mode";
    sound
        .change(inode, |file| file.mode = 0o10_000)
        .has_only(Flaw::Attribute { inode, what });
    let mut sound = Sound::new();
    let what = "time";
    sound
        .change(inode, |file| file.modified.nanos = 1_000_000_000)
        .has_only(Flaw::Attribute { inode, what });
    let mut sound = Sound::new();
    let what = "size";
    sound
        .change(directory, |directory| directory.size = 1)
        .has_only(Flaw::Attribute {
            inode: directory,
            what,
        });
}

#[test]
fn entries_and_parents_that_disagree_are_told() {
    let mut sound = Sound::new();
    let (directory, inode) = (sound.directory, sound.file);
    let wrong = Entry {
        inode,
        kind: Type::Fifo,
    };
    let key = Key::entry(directory, b"f");
    sound
        .put(key.clone(), Some(encode(&wrong)))
        .has_only(Flaw::Entry { directory, inode });
    let inode = InodeNumber::new(99);
    let kind = Type::File;
    sound.put(key, Some(encode(&Entry { inode, kind })));
    sound.has(&Flaw::Entry { directory, inode });
    sound.has(&Flaw::NoAttributes { inode });

    let mut sound = Sound::new();
    let (found, entries) = (InodeNumber::new(77), 1);
    sound.change(directory, |changed| {
        let parent = found;
        changed.kind = Kind::Directory { parent, entries };
    });
    sound.has(&Flaw::Parent {
        inode: directory,
        expected: Some(ROOT),
        found,
    });
    sound.has(&Flaw::Loose { inode: directory });
}

#[test]
fn a_circle_of_directories_is_told() {
    let mut sound = Sound::new();
    let outer = sound.directory;
    let inner = sound
        .world
        .make_in(outer, b"inner", New::Directory)
        .unwrap();
    let inner = inner.inode;
    // The outer one is in the inner one, and no longer in the root.
    sound.put(Key::entry(ROOT, b"d"), None);
    let entry = Entry {
        inode: outer,
        kind: Type::Directory,
    };
    sound.put(Key::entry(inner, b"d"), Some(encode(&entry)));
    sound.change(inner, |inner| {
        inner.links = 3;
        inner.kind = Kind::Directory {
            parent: outer,
            entries: 1,
        };
    });
    sound.change(outer, |outer| {
        outer.kind = Kind::Directory {
            parent: inner,
            entries: 2,
        };
    });
    sound.change(ROOT, |root| {
        root.links = 2;
        root.kind = Kind::Directory {
            parent: ROOT,
            entries: 0,
        };
    });
    let loose = |inode| Flaw::Loose { inode };
    let flaws = check(&sound.world.map).unwrap();
    assert_eq!(flaws, [loose(outer), loose(inner)]);
}

#[test]
fn wrong_extents_are_told() {
    let extent = |bytes| {
        let source = Source::Zeros;
        Some(encode(&Extent { bytes, source }))
    };
    let mut sound = Sound::new();
    let (directory, file) = (sound.directory, sound.file);
    let key = Key::extent(file, 12);
    sound.put(key.clone(), extent(9)).has(&Flaw::Extent { key });
    // Data behind the end.
    let mut sound = Sound::new();
    let key = Key::extent(file, 10);
    sound
        .change(file, |file| file.size = 16)
        .has_only(Flaw::Extent { key });
    let mut sound = Sound::new();
    let key = Key::extent(directory, 0);
    sound
        .put(key.clone(), extent(1))
        .has_only(Flaw::Misplaced { key });
    let mut sound = Sound::new();
    let key = Key::extent(file, 50);
    sound
        .put(key.clone(), extent(0))
        .has_only(Flaw::Unreadable { key });
}

#[test]
fn bytes_of_the_journal_that_two_extents_share_are_told() {
    let file = Sound::new().file;
    let value = Sound::new().world.map.get(&Key::extent(file, 10)).unwrap();
    let extent: Extent = decode(&value.unwrap()).unwrap();
    for (skip, bytes) in [(0, 7), (0, 1), (6, 1), (3, 2)] {
        let mut sound = Sound::new();
        let source = extent.source.advance(skip).unwrap();
        for (offset, taken) in [(50, false), (5, true)] {
            let key = Key::extent(file, offset);
            sound.put(key, Some(encode(&Extent { bytes, source })));
            let flaws = check(&sound.world.map).unwrap();
            let shared = flaws
                .iter()
                .filter(|flaw| matches!(flaw, Flaw::Shared { .. }));
            assert_eq!(shared.count(), 1 + usize::from(taken), "{skip} {bytes}");
        }
    }
    // Beside them there are others.
    let mut sound = Sound::new();
    let (source, bytes) = (extent.source.advance(7).unwrap(), 9);
    let key = Key::extent(file, 50);
    sound.put(key, Some(encode(&Extent { bytes, source })));
    let flaws = check(&sound.world.map).unwrap();
    assert!(!flaws.iter().any(|flaw| matches!(flaw, Flaw::Shared { .. })));
}

#[test]
fn wrong_parts_of_xattrs_are_told() {
    let name = b"user.long";
    let file = Sound::new().file;
    for number in 1..=2 {
        let key = Key::xattr_part(file, name, number);
        let mut sound = Sound::new();
        sound
            .put(key.clone(), None)
            .has_only(Flaw::XattrPart { key: key.clone() });
        sound
            .put(key.clone(), Some(Box::from([1, 2])))
            .has_only(Flaw::XattrPart { key });
    }
    let key = Key::xattr_part(file, name, 3);
    let mut sound = Sound::new();
    sound
        .put(key.clone(), Some(Box::from([1, 2])))
        .has_only(Flaw::XattrPart { key });
}

#[test]
fn wrong_orphans_are_told() {
    let mut sound = Sound::new();
    let (inode, named) = (sound.orphan, sound.file);
    sound
        .put(Key::orphan(inode), None)
        .has_only(Flaw::Orphan { inode });
    let mut sound = Sound::new();
    let note = Some(encode(&Orphan { since: at(1) }));
    sound
        .put(Key::orphan(named), note.clone())
        .has_only(Flaw::Orphan { inode: named });
    let inode = InodeNumber::new(99);
    let mut sound = Sound::new();
    sound
        .put(Key::orphan(inode), note)
        .has_only(Flaw::Orphan { inode });
}

#[test]
fn what_cannot_be_read_is_told() {
    let segment = SegmentId {
        group: 0,
        number: 1,
    };
    let keys = [
        Key::from_bytes(b"short"),
        Key::from_bytes(&[0xff; 9]),
        Key::usage(segment),
        Key::snapshot(1),
    ];
    for key in keys {
        let mut sound = Sound::new();
        sound
            .put(key.clone(), Some(Box::from([7])))
            .has_only(Flaw::Unreadable { key });
    }
}

#[test]
fn flaws_are_counted_up_to_a_limit() {
    let mut sound = Sound::new();
    for number in 0..=u64::try_from(FLAWS_MAX).unwrap() {
        sound.put(Key::snapshot(number), Some(Box::from([7])));
    }
    assert_eq!(check(&sound.world.map).unwrap().len(), FLAWS_MAX);
    sound.world.map.lose_page_in(3);
    let absent = check(&sound.world.map);
    assert!(matches!(absent, Err(FsError::Absent(_))));
}
