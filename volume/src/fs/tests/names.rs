//! Names and directories, case by case: what the model's few names never reach.

use std::ops::ControlFlow;

use super::{Map, World, at, plain};
use crate::fs::{
    Caller, Edit, Entries, FsError, Making, New, Open, Place, RenameMode, Renaming, Rooting,
    SetAttributes, SetTime, Touch, attributes, check, format, link, lookup, make, note_access,
    read_link, rename, rmdir, set_attributes, truncate, unlink, write,
};
use crate::key::{InodeNumber, Key};
use crate::value::{Attributes, FILE_BYTES_MAX, Source, TARGET_BYTES_MAX, Time, encode};

const ROOT: InodeNumber = InodeNumber::ROOT;

fn root(name: &[u8]) -> Place<'_> {
    Place {
        directory: ROOT,
        name,
    }
}

fn symlink(world: &mut World, name: &[u8], target: &[u8]) -> Result<InodeNumber, FsError> {
    let found = world.make_in(ROOT, name, New::Symlink { target })?;
    Ok(found.inode)
}

/// Sets what a call would never set.
fn force(world: &mut World, inode: InodeNumber, change: impl FnOnce(&mut Attributes)) {
    let mut forced = attributes(&world.map, inode).unwrap();
    change(&mut forced);
    let change = (Key::attributes(inode), Some(encode(&forced)));
    world.map.apply(vec![change]);
}

#[test]
fn a_volume_is_formatted_once() {
    let mut world = World::new();
    world.check();
    let again = Rooting {
        uid: 1,
        gid: 1,
        mode: 0o700,
        generation: 2,
    };
    let found = world.change(|edit| format(edit, again, at(1)));
    assert_eq!(found, Err(FsError::Exists));
    assert_eq!(attributes(&world.map, ROOT).unwrap().mode, 0o777);
    let volume = InodeNumber::VOLUME;
    let missing = Err(FsError::NoInode { inode: volume });
    assert_eq!(attributes(&world.map, volume), missing);
}

#[test]
fn dots_are_looked_up() {
    let mut world = World::new();
    let outer = world.make(b"outer", New::Directory);
    let inner = world.make_in(outer, b"inner", New::Directory).unwrap();
    let inner = inner.inode;
    let found = |world: &World, directory, name: &[u8]| {
        let place = Place { directory, name };
        lookup(&world.map, place).map(|found| found.inode)
    };
    assert_eq!(found(&world, ROOT, b".."), Ok(ROOT));
    assert_eq!(found(&world, inner, b"."), Ok(inner));
    assert_eq!(found(&world, inner, b".."), Ok(outer));
    // A directory that is open outlives the one that it was in.
    let caller = &Caller::SUPERUSER;
    let place = Place {
        directory: outer,
        name: b"inner",
    };
    world
        .change(|edit| rmdir(edit, caller, place, Open::Yes, at(2)))
        .unwrap();
    assert_eq!(found(&world, inner, b".."), Ok(outer));
    world
        .change(|edit| rmdir(edit, caller, root(b"outer"), Open::No, at(2)))
        .unwrap();
    assert_eq!(found(&world, inner, b".."), Err(FsError::NoEntry));
    assert_eq!(found(&world, inner, b"."), Ok(inner));
    let refused = world.make_in(inner, b"late", New::File);
    assert_eq!(refused, Err(FsError::NoEntry));
    world.check();
}

#[test]
fn names_have_limits() {
    let mut world = World::new();
    let longest = [b'n'; 255];
    world.make(&longest, New::File);
    let bad: [&[u8]; 5] = [b"", b".", b"..", b"a/b", b"a\0"];
    for name in bad {
        let found = world.make_in(ROOT, name, New::File);
        assert_eq!(found, Err(FsError::BadName), "{name:?}");
    }
    let error = FsError::NameTooLong {
        found: 256,
        max: 255,
    };
    let found = world.make_in(ROOT, &[b'n'; 256], New::File);
    assert_eq!(found, Err(error.clone()));
    assert_eq!(lookup(&world.map, root(&[b'n'; 256])), Err(error));
    let odd: [&[u8]; 3] = [b"\n", b"\xff", b"..."];
    for name in odd {
        world.make(name, New::File);
    }
    world.check();
}

#[test]
fn targets_have_limits() {
    let mut world = World::new();
    let longest = vec![b't'; TARGET_BYTES_MAX];
    let inode = symlink(&mut world, b"long", &longest).unwrap();
    assert_eq!(read_link(&world.map, inode), Ok(longest));
    assert_eq!(attributes(&world.map, inode).unwrap().size, 4_095);
    let too_long = vec![b't'; TARGET_BYTES_MAX + 1];
    let error = FsError::NameTooLong {
        found: 4_096,
        max: 4_095,
    };
    assert_eq!(symlink(&mut world, b"more", &too_long), Err(error));
    let empty = symlink(&mut world, b"empty", b"");
    assert_eq!(empty, Err(FsError::NoEntry));
    let nul = symlink(&mut world, b"nul", b"a\0b");
    assert_eq!(nul, Err(FsError::BadName));
    let file = world.make(b"file", New::File);
    let not = read_link(&world.map, file);
    assert!(matches!(not, Err(FsError::Invalid { .. })));
    world.check();
}

#[test]
fn links_have_a_limit() {
    let mut world = World::new();
    let file = world.make(b"file", New::File);
    force(&mut world, file, |file| file.links = u32::MAX - 1);
    let linked = world.change(|edit| link(edit, file, root(b"last"), at(1)));
    assert_eq!(linked.unwrap().links, u32::MAX);
    let refused = world.change(|edit| link(edit, file, root(b"more"), at(1)));
    assert_eq!(refused, Err(FsError::TooManyLinks));

    let full = world.make(b"full", New::Directory);
    force(&mut world, full, |full| full.links = u32::MAX);
    let refused = world.make_in(full, b"more", New::Directory);
    assert_eq!(refused, Err(FsError::TooManyLinks));
    world.make_in(full, b"file", New::File).unwrap();
    world.make(b"moved", New::Directory);
    let to = Place {
        directory: full,
        name: b"moved",
    };
    let renaming = Renaming {
        mode: RenameMode::Replace,
        open: Open::No,
        now: at(1),
    };
    let caller = &Caller::SUPERUSER;
    let refused = world.change(|edit| rename(edit, caller, root(b"moved"), to, renaming));
    assert_eq!(refused, Err(FsError::TooManyLinks));
}

#[test]
fn files_have_a_limit() {
    let mut world = World::new();
    let inode = world.make(b"file", New::File);
    let touch = Touch {
        caller: &Caller::SUPERUSER,
        inode,
        now: at(1),
    };
    let zeros = Source::Zeros;
    let last = FILE_BYTES_MAX - 1;
    let wrote = world.change(|edit| write(edit, touch, last, 1, zeros));
    assert_eq!(wrote, Ok(1));
    assert_eq!(attributes(&world.map, inode).unwrap().size, FILE_BYTES_MAX);
    world.check();
    let error = FsError::FileTooLarge {
        max: FILE_BYTES_MAX,
    };
    for offset in [last, FILE_BYTES_MAX, u64::MAX] {
        let wrote = world.change(|edit| write(edit, touch, offset, 2, zeros));
        assert_eq!(wrote, Err(error.clone()));
    }
    let cut = world.change(|edit| truncate(edit, touch, FILE_BYTES_MAX + 1));
    assert_eq!(cut, Err(error));
    // More than all files can be said to have.
    let mut full = Ok(0);
    for name in [b"a", b"b", b"c"] {
        let inode = world.make(name, New::File);
        let touch = Touch { inode, ..touch };
        full = world.change(|edit| write(edit, touch, 0, FILE_BYTES_MAX, zeros));
    }
    let what = "bytes of files";
    assert_eq!(full, Err(FsError::NoSpace { what }));
}

#[test]
fn only_owners_set_times() {
    let mut world = World::new();
    let file = world.make(b"file", New::File);
    let set = SetAttributes {
        modified: SetTime::At(at(77)),
        ..SetAttributes::default()
    };
    let stranger = plain(5, &[]);
    let refused = world.change(|edit| set_attributes(edit, &stranger, file, &set, at(2)));
    assert_eq!(refused, Err(FsError::NotPermitted));
    let now = SetAttributes {
        modified: SetTime::Now,
        ..SetAttributes::default()
    };
    let (found, _) = world
        .change(|edit| set_attributes(edit, &stranger, file, &now, at(2)))
        .unwrap();
    assert_eq!(found.modified, at(2));
    let no_time = Time {
        seconds: 0,
        nanos: 1_000_000_000,
    };
    let set = SetAttributes {
        accessed: SetTime::At(no_time),
        ..SetAttributes::default()
    };
    let caller = &Caller::SUPERUSER;
    let refused = world.change(|edit| set_attributes(edit, caller, file, &set, at(2)));
    assert!(matches!(refused, Err(FsError::Invalid { .. })));
}

#[test]
fn reads_are_noted_when_it_matters() {
    let mut world = World::new();
    let file = world.make(b"file", New::File);
    let mut read = |second| {
        world
            .change(|edit| note_access(edit, file, at(second)))
            .unwrap();
        attributes(&world.map, file).unwrap().accessed
    };
    assert_eq!(read(10), at(10));
    assert_eq!(read(20), at(10));
    assert_eq!(read(86_409), at(10));
    assert_eq!(read(86_410), at(86_410));
}

#[test]
fn a_damaged_tree_is_told() {
    let mut world = World::new();
    let file = world.make(b"file", New::File);
    let key = Key::attributes(file);
    let bad: Box<[u8]> = Box::from([9]);
    world.map.apply(vec![(key.clone(), Some(bad))]);
    let damaged = Err(FsError::Damaged { key: key.clone() });
    assert_eq!(attributes(&world.map, file), damaged);
    world.map.apply(vec![(key.clone(), None)]);
    let gone = lookup(&world.map, root(b"file"));
    assert_eq!(gone, Err(FsError::Damaged { key }));
    let missing = Err(FsError::NoInode { inode: file });
    assert_eq!(attributes(&world.map, file), missing);
    assert!(!check(&world.map).unwrap().is_empty());
}

#[test]
fn an_edit_reads_what_it_changed() {
    let mut world = World::new();
    world.make(b"b", New::File);
    world.make(b"d", New::File);
    let caller = &Caller::SUPERUSER;
    let mut edit = Edit::new(&world.map);
    let making = Making {
        new: New::File,
        mode: 0o644,
        generation: 3,
    };
    let (made, taken): ([&[u8]; 3], [&[u8]; 2]) = ([b"a", b"c", b"e"], [b"b", b"e"]);
    for name in made {
        make(&mut edit, caller, root(name), making, at(1)).unwrap();
    }
    for name in taken {
        unlink(&mut edit, caller, root(name), Open::No, at(1)).unwrap();
    }
    let key = |name: &[u8]| Key::entry(ROOT, name);
    let last = |edit: &Edit<'_, Map>, name: &[u8]| {
        let found = edit.last_at_or_before(&key(name)).unwrap();
        found.map(|(key, _)| key)
    };
    assert_eq!(last(&edit, b"z"), Some(key(b"d")));
    assert_eq!(last(&edit, b"cc"), Some(key(b"c")));
    assert_eq!(last(&edit, b"b"), Some(key(b"a")));
    let mut names = Vec::new();
    let range = (key(b""), key(b"z"));
    edit.scan(&range.0..&range.1, |key, _| {
        names.push(key[9..].to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(names, [b"a", b"c", b"d"]);
    assert_eq!(edit.get(&key(b"b")).unwrap(), None);
    assert!(edit.finish().is_sorted_by(|a, b| a.0 < b.0));
}
