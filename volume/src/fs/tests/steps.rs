//! Calls that take more than one step, and calls that find a page missing.

use super::{World, at, run_of};
use crate::fs::extents::layout;
use crate::fs::{
    Caller, Check, Copied, CopyRange, Edit, Fate, FsError, New, NewXattr, Open, Place, RenameMode,
    Renaming, STEP_KEYS_MAX, Seek, SetMode, SizeRule, Sought, Step, Touch, Unlinked, allocate,
    attributes, check, copy_range, counters, forget_orphan, orphans, punch_hole, read_directory,
    rename, seek, set_xattr, spans, truncate, unlink, write, zero_range,
};
use crate::key::InodeNumber;

/// Extents of a file that takes three steps.
const MANY: usize = 2 * STEP_KEYS_MAX + 100;
/// Its bytes: every second one is a hole.
const END: u64 = 2 * 2_148;

static SUPERUSER: Caller = Caller::SUPERUSER;

fn touch(inode: InodeNumber) -> Touch<'static> {
    Touch {
        caller: &SUPERUSER,
        inode,
        now: at(2),
    }
}

/// A file with a byte at every even offset below [`END`].
fn comb(world: &mut World, name: &[u8]) -> InodeNumber {
    let inode = world.make(name, New::File);
    let source = world.journaled(&[b'x'; 5_000]);
    for offset in (0..END).step_by(2) {
        let source = source.advance(offset).unwrap();
        let wrote = world.change(|edit| write(edit, touch(inode), offset, 1, source));
        assert_eq!(wrote, Ok(1));
    }
    assert_eq!(extents(world, inode), MANY);
    inode
}

fn extents(world: &World, inode: InodeNumber) -> usize {
    let spans = layout(&world.map, inode, 0..10_000, 10_000).unwrap();
    spans.iter().filter(|span| span.source.is_some()).count()
}

/// Calls again from where the call before came to, until `end`; says how often.
fn in_steps(end: u64, mut call: impl FnMut(u64) -> Result<u64, FsError>) -> usize {
    let (mut done, mut steps) = (0, 0);
    while done < end {
        let next = call(done).unwrap();
        assert!(next > done && next <= end);
        (done, steps) = (next, steps + 1);
    }
    steps
}

#[test]
fn ranges_with_many_extents_are_changed_in_steps() {
    let mut world = World::new();
    let file = comb(&mut world, b"allocated");
    let steps = in_steps(END, |from| {
        world.change(|edit| allocate(edit, touch(file), from..END, SizeRule::Keep))
    });
    assert_eq!(steps, 3);
    world.check();
    assert_eq!(attributes(&world.map, file).unwrap().allocated, END);

    let steps = in_steps(END, |from| {
        world.change(|edit| zero_range(edit, touch(file), from..END, SizeRule::Keep))
    });
    assert!(steps >= 3);
    world.check();
    assert_eq!(extents(&world, file), 1);

    let file = comb(&mut world, b"punched");
    let steps = in_steps(END, |from| {
        world.change(|edit| punch_hole(edit, touch(file), from..END))
    });
    assert_eq!(steps, 3);
    world.check();
    assert_eq!(extents(&world, file), 0);

    let file = comb(&mut world, b"written");
    let bytes = vec![b'y'; usize::try_from(END).unwrap()];
    assert_eq!(world.write(touch(file), 0, &bytes), Ok(END));
    world.check();
    assert_eq!(attributes(&world.map, file).unwrap().allocated, END);
    // What was written in steps lies in one place.
    assert_eq!(extents(&world, file), 1);
}

#[test]
fn a_long_file_is_cut_in_steps_that_leave_it_whole() {
    let mut world = World::new();
    let file = comb(&mut world, b"f");
    let mut sizes = Vec::new();
    loop {
        let step = world.change(|edit| truncate(edit, touch(file), 3)).unwrap();
        world.check();
        sizes.push(attributes(&world.map, file).unwrap().size);
        if step == Step::Done {
            break;
        }
    }
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
    assert_eq!((sizes.len(), sizes.last()), (3, Some(&3)));
    assert_eq!(extents(&world, file), 2);
}

#[test]
fn an_orphan_is_forgotten_in_steps() {
    let mut world = World::new();
    let file = comb(&mut world, b"f");
    for number in 0..1_500_u32 {
        let name = format!("user.{number}");
        let new = NewXattr {
            name: name.as_bytes(),
            value: b"value",
            mode: SetMode::Create,
        };
        world
            .change(|edit| set_xattr(edit, file, new, at(2)))
            .unwrap();
    }
    world.check();
    let place = Place {
        directory: InodeNumber::ROOT,
        name: b"f",
    };
    let unlinked = world.change(|edit| unlink(edit, &SUPERUSER, place, Open::No, at(3)));
    let fate = Fate::Going;
    assert_eq!(unlinked, Ok(Unlinked { inode: file, fate }));
    let mut steps = 1;
    loop {
        world.check();
        assert_eq!(orphans(&world.map, InodeNumber::VOLUME, 10), Ok(vec![file]));
        steps += 1;
        let step = world.change(|edit| forget_orphan(edit, file)).unwrap();
        if step == Step::Done {
            break;
        }
    }
    world.check();
    // Three for the extents, the last of which takes xattrs too.
    assert_eq!(steps, 4);
    let missing = Err(FsError::NoInode { inode: file });
    assert_eq!(attributes(&world.map, file), missing);
    assert_eq!(orphans(&world.map, InodeNumber::VOLUME, 10), Ok(Vec::new()));
    let counters = counters(&world.map).unwrap();
    assert_eq!((counters.inodes, counters.allocated), (1, 0));
}

#[test]
fn a_copy_of_many_extents_takes_steps_and_keeps_files_apart() {
    let mut world = World::new();
    let file = comb(&mut world, b"file");
    let other = world.make(b"other", New::File);
    let copy = |done: u64| CopyRange {
        from: file,
        from_offset: done,
        to_offset: done + 10_000,
        bytes: END - done,
    };
    // Bytes of the journal are one extent's.
    for to in [file, other] {
        let found = world.change(|edit| copy_range(edit, touch(to), copy(0)));
        assert_eq!(found, Ok(Copied::ToWrite(1)));
    }
    // Holes are not kept anywhere.
    let hole = CopyRange {
        bytes: 1,
        ..copy(1)
    };
    let found = world.change(|edit| copy_range(edit, touch(other), hole));
    assert_eq!(found, Ok(Copied::Shared(1)));

    world.pack(file, |_| true);
    let found = world.change(|edit| copy_range(edit, touch(other), copy(0)));
    assert_eq!(found, Ok(Copied::ToWrite(1)));
    // The file grows with the first step, so that its last hole is copied too.
    let steps = in_steps(END, |done| {
        match world.change(|edit| copy_range(edit, touch(file), copy(done)))? {
            Copied::Shared(bytes) => Ok(done + bytes),
            other => panic!("{other:?}"),
        }
    });
    assert!(steps >= 3);
    world.check();
    let size = 10_000 + END;
    assert_eq!(attributes(&world.map, file).unwrap().size, size);
}

/// Whatever page is missing, the call fails with it, and made again it does the same.
#[test]
fn a_missing_page_changes_nothing() {
    let mut world = World::new();
    let directory = world.make(b"d", New::Directory);
    let from = world.make_in(directory, b"from", New::File).unwrap().inode;
    world.write(touch(from), 0, b"some bytes").unwrap();
    world.make(b"to", New::File);
    let renaming = Renaming {
        mode: RenameMode::Replace,
        open: Open::No,
        now: at(9),
    };
    let old = Place {
        directory,
        name: b"from",
    };
    let new = Place {
        directory: InodeNumber::ROOT,
        name: b"to",
    };
    let source = world.journaled(b"more");
    let call = |world: &World| -> Result<_, FsError> {
        let mut edit = Edit::new(&world.map);
        let done = rename(&mut edit, &SUPERUSER, old, new, renaming)?;
        write(&mut edit, touch(from), 3, 4, source)?;
        Ok((done, edit.finish()))
    };
    let expected = call(&world);
    assert!(expected.is_ok());
    let mut reads = 0;
    loop {
        world.map.lose_page_in(reads);
        match call(&world) {
            Err(error) => assert_eq!(error, FsError::Absent(run_of(0, 1))),
            found => {
                assert_eq!(found, expected);
                break;
            }
        }
        assert_eq!(call(&world), expected);
        reads += 1;
    }
    assert!(reads > 10);
}

/// Reads of many keys come on although a page is missing.
#[test]
fn a_missing_page_ends_a_read_early() {
    let mut world = World::new();
    for name in [b"a", b"b", b"c"] {
        world.make(name, New::File);
    }
    let file = world.make(b"f", New::File);
    for offset in [0, 2, 4] {
        world.write(touch(file), offset, b"x").unwrap();
    }
    let root = InodeNumber::ROOT;
    let absent = FsError::Absent(run_of(0, 1));

    world.map.lose_page_in(3);
    let read = read_directory(&world.map, root, b"", 10).unwrap();
    assert_eq!(read.len(), 2);
    world.map.lose_page_in(1);
    let read = read_directory(&world.map, root, &read[1].name, 10);
    assert_eq!(read, Err(absent.clone()));

    world.map.lose_page_in(3);
    let read = spans(&world.map, file, 0..5, 10).unwrap();
    let bytes: u64 = read.iter().map(|span| span.bytes).sum();
    assert!((1..5).contains(&bytes), "{read:?}");

    world.write(touch(file), 0, b"xxxxx").unwrap();
    for offset in [1, 3] {
        world.write(touch(file), offset, b"y").unwrap();
    }
    world.map.lose_page_in(3);
    let sought = seek(&world.map, file, 0, Seek::Hole).unwrap();
    let Sought::Beyond(offset) = sought else {
        panic!("{sought:?}");
    };
    assert!((1..5).contains(&offset));
    assert_eq!(
        seek(&world.map, file, offset, Seek::Hole),
        Ok(Sought::At(5))
    );
}

/// A check goes on where a page was missing.
#[test]
fn a_check_goes_on_behind_a_missing_page() {
    let mut world = World::new();
    world.make(b"a", New::File);
    world.make(b"b", New::Directory);
    let mut checked = Check::new();
    let mut missing = 0;
    loop {
        world.map.lose_page_in(2);
        match checked.scan(&world.map) {
            Ok(()) => break,
            Err(error) => assert_eq!(error, FsError::Absent(run_of(0, 1))),
        }
        missing += 1;
    }
    assert!(missing > 2);
    assert_eq!(checked.finish(), []);
    world.map.lose_page_in(1_000);
    assert_eq!(check(&world.map), Ok(Vec::new()));
}
