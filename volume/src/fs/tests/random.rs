//! Random calls on a file system and on its model agree, in what they return and in all that is there after
//! each.

use std::fmt::Debug;
use std::mem::discriminant;

use proptest::prelude::*;

use super::model::{At, Fill, Model};
use super::{World, at, plain};
use crate::fs::{
    Caller, Copied, CopyRange, FsError, Making, New, NewXattr, Open, Place, RenameMode, Renaming,
    Seek, SetAttributes, SetMode, SetTime, SizeRule, Step, Touch, allocate, attributes, copy_range,
    forget_orphan, link, make, punch_hole, remove_xattr, rename, rmdir, seek, set_attributes,
    set_xattr, spans, unlink, zero_range,
};
use crate::key::InodeNumber;
use crate::value::{Source, Type};

/// A directory and a name, by numbers that pick them.
type Pick = (u8, u8);

/// A call. Numbers pick from what there is.
#[derive(Clone, Debug)]
enum Call {
    Make(Pick, u8, u16),
    Link(u8, Pick),
    Remove(Pick, Type, Open),
    Rename(Pick, Pick, RenameMode, Open),
    Write(u8, u8, Vec<u8>),
    Fill(u8, (u8, u8), Fill),
    Copy((u8, u8), u8, (u8, u8)),
    Set(u8, SetAttributes),
    SetXattr(u8, u8, usize, SetMode),
    RemoveXattr(u8, u8),
    Seek(u8, u8, Seek),
    Forget(u8),
    /// Puts what is in the journal into a run, as a commit does.
    Commit(u8),
    /// Puts what is in runs into a new one, as a cleaner does.
    Clean(u8),
}

fn sets() -> impl Strategy<Value = SetAttributes> {
    let maybe = |rarely: u32| prop_oneof![rarely => Just(None), 1 => (0..3_u32).prop_map(Some)];
    let time = || {
        prop_oneof![
            2 => Just(SetTime::Omit),
            1 => Just(SetTime::Now),
            1 => (-9..9_i64).prop_map(|second| SetTime::At(at(second))),
        ]
    };
    let mode = prop_oneof![Just(None), (0..0o10000_u16).prop_map(Some)];
    let size = prop_oneof![Just(None), (0..300_u64).prop_map(Some)];
    let all = (mode, maybe(4), maybe(2), size, time(), time());
    all.prop_map(|(mode, uid, gid, size, accessed, modified)| SetAttributes {
        mode,
        uid,
        gid,
        size,
        accessed,
        modified,
    })
}

fn fills() -> impl Strategy<Value = Fill> {
    use SizeRule::{Grow, Keep};
    prop_oneof![
        Just(Fill::Punch),
        Just(Fill::Zero(Keep)),
        Just(Fill::Zero(Grow)),
        Just(Fill::Allocate(Keep)),
        Just(Fill::Allocate(Grow)),
    ]
}

fn name_calls() -> impl Strategy<Value = Call> {
    let number = any::<u8>;
    let place = || (any::<u8>(), any::<u8>());
    let open = || prop_oneof![Just(Open::Yes), Just(Open::No)];
    let kind = prop_oneof![Just(Type::Directory), Just(Type::File)];
    let mode = prop_oneof![
        1 => Just(RenameMode::NoReplace),
        1 => Just(RenameMode::Exchange),
        2 => Just(RenameMode::Replace),
    ];
    prop_oneof![
        6 => (place(), 0..9_u8, 0..0o10000_u16)
            .prop_map(|(at, new, mode)| Call::Make(at, new, mode)),
        2 => (number(), place()).prop_map(|(inode, at)| Call::Link(inode, at)),
        3 => (place(), kind, open()).prop_map(|(at, kind, open)| Call::Remove(at, kind, open)),
        6 => (place(), place(), mode, open())
            .prop_map(|(from, to, mode, open)| Call::Rename(from, to, mode, open)),
        1 => number().prop_map(Call::Forget),
    ]
}

fn content_calls() -> impl Strategy<Value = Call> {
    let number = any::<u8>;
    let bytes = proptest::collection::vec(any::<u8>(), 0..60);
    let what = prop_oneof![Just(Seek::Data), Just(Seek::Hole)];
    prop_oneof![
        6 => (number(), 0..200_u8, bytes)
            .prop_map(|(file, offset, bytes)| Call::Write(file, offset, bytes)),
        6 => (number(), (0..250_u8, 0..100_u8), fills())
            .prop_map(|(file, range, fill)| Call::Fill(file, range, fill)),
        3 => ((number(), number()), 0..100_u8, (0..200_u8, 0..200_u8))
            .prop_map(|(files, bytes, offsets)| Call::Copy(files, bytes, offsets)),
        2 => (number(), number(), what)
            .prop_map(|(file, offset, what)| Call::Seek(file, offset, what)),
        2 => number().prop_map(Call::Commit),
        1 => number().prop_map(Call::Clean),
    ]
}

fn attribute_calls() -> impl Strategy<Value = Call> {
    let number = any::<u8>;
    let bytes = prop_oneof![0..20_usize, 0..20_000_usize];
    let mode = prop_oneof![
        Just(SetMode::Any),
        Just(SetMode::Create),
        Just(SetMode::Replace),
    ];
    prop_oneof![
        4 => (number(), sets()).prop_map(|(inode, set)| Call::Set(inode, set)),
        3 => (number(), number(), bytes, mode)
            .prop_map(|(inode, name, bytes, mode)| Call::SetXattr(inode, name, bytes, mode)),
        1 => (number(), number()).prop_map(|(inode, name)| Call::RemoveXattr(inode, name)),
    ]
}

fn calls() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => name_calls(),
        4 => content_calls(),
        1 => attribute_calls(),
    ]
}

/// Both results are good and alike, or fail alike.
fn alike<T: PartialEq + Debug>(found: &Result<T, FsError>, expected: &Result<T, FsError>) {
    if let (Err(found), Err(expected)) = (found, expected) {
        let same = discriminant(found) == discriminant(expected);
        assert!(same, "{found}; expected {expected}");
    } else {
        assert_eq!(found, expected);
    }
}

fn place_of(at: &(u64, Vec<u8>)) -> Place<'_> {
    Place {
        directory: InodeNumber::new(at.0),
        name: &at.1,
    }
}

fn at_of(at: &(u64, Vec<u8>)) -> At<'_> {
    (at.0, at.1.as_slice())
}

/// Both sides, and who calls.
#[derive(Debug)]
struct Pair {
    world: World,
    model: Model,
    caller: Caller,
}

impl Pair {
    /// The inode that a number picks; mostly one of that type, if there is one.
    fn pick(&self, index: u8, kind: Type) -> u64 {
        let all: Vec<u64> = self.model.nodes.keys().copied().collect();
        let mut of_kind = all.clone();
        of_kind.retain(|inode| self.model.nodes[inode].kind == kind);
        let index = usize::from(index);
        if index % 16 == 15 || of_kind.is_empty() {
            all[index / 16 % all.len()]
        } else {
            of_kind[index % of_kind.len()]
        }
    }

    fn place(&self, (directory, name): Pick) -> (u64, Vec<u8>) {
        let name = match name % 32 {
            0 => b"..".to_vec(),
            1 => Vec::new(),
            2 => b"a/b".to_vec(),
            3 => vec![b'n'; 256],
            4 => vec![b'n'; 255],
            5 => vec![0xff, 1],
            name => vec![b'a' + name % 4],
        };
        (self.pick(directory, Type::Directory), name)
    }

    fn run(&mut self, call: &Call) {
        match call.clone() {
            Call::Make(at, new, mode) => self.make(at, new, mode),
            Call::Link(inode, at) => self.link(inode, at),
            Call::Remove(at, kind, open) => self.remove(at, kind, open),
            Call::Rename(from, to, mode, open) => self.rename(from, to, mode, open),
            Call::Write(file, offset, bytes) => self.write(file, offset, &bytes),
            Call::Fill(file, range, fill) => self.fill(file, range, fill),
            Call::Copy(files, bytes, offsets) => self.copy(files, bytes, offsets),
            Call::Set(inode, set) => self.set(inode, &set),
            Call::SetXattr(inode, name, bytes, mode) => self.set_xattr(inode, name, bytes, mode),
            Call::RemoveXattr(inode, name) => self.remove_xattr(inode, name),
            Call::Seek(file, offset, what) => self.seek(file, offset, what),
            Call::Forget(inode) => self.forget(inode),
            Call::Commit(file) => {
                self.pack(file, |source| matches!(source, Source::Journal(_)));
            }
            Call::Clean(file) => {
                self.pack(file, |source| matches!(source, Source::Run { .. }));
            }
        }
    }

    fn make(&mut self, at: Pick, new: u8, mode: u16) {
        let at = self.place(at);
        let device = 5;
        let making = Making {
            new: match new {
                0..3 => New::File,
                3..5 => New::Directory,
                5 => New::Symlink { target: b"../a" },
                6 => New::Fifo,
                7 => New::Socket,
                _ if mode.is_multiple_of(2) => New::Character { device },
                _ => New::Block { device },
            },
            mode,
            generation: mode.into(),
        };
        let (caller, now) = (&self.caller, self.model.now);
        let place = place_of(&at);
        let found = self
            .world
            .change(|edit| make(edit, caller, place, making, now));
        let found = found.map(|found| found.inode.get());
        alike(&found, &self.model.make(caller, at_of(&at), making));
    }

    fn link(&mut self, inode: u8, at: Pick) {
        let (inode, at) = (self.pick(inode, Type::File), self.place(at));
        let (number, now) = (InodeNumber::new(inode), self.model.now);
        let place = place_of(&at);
        let found = self.world.change(|edit| link(edit, number, place, now));
        let found = found.map(|_| ());
        alike(&found, &self.model.link(inode, at_of(&at)));
    }

    fn remove(&mut self, at: Pick, kind: Type, open: Open) {
        let at = self.place(at);
        let (caller, now) = (&self.caller, self.model.now);
        let place = place_of(&at);
        let found = self.world.change(|edit| match kind {
            Type::Directory => rmdir(edit, caller, place, open, now),
            _ => unlink(edit, caller, place, open, now),
        });
        let expected = self.model.remove(caller, at_of(&at), kind, open);
        alike(&found, &expected);
    }

    fn rename(&mut self, from: Pick, to: Pick, mode: RenameMode, open: Open) {
        let (from, to) = (self.place(from), self.place(to));
        let now = self.model.now;
        let renaming = Renaming { mode, open, now };
        let caller = &self.caller;
        let (old, new) = (place_of(&from), place_of(&to));
        let found = self
            .world
            .change(|edit| rename(edit, caller, old, new, renaming));
        let (old, new) = (at_of(&from), at_of(&to));
        alike(&found, &self.model.rename(caller, old, new, renaming));
    }

    fn write(&mut self, file: u8, offset: u8, bytes: &[u8]) {
        let inode = self.pick(file, Type::File);
        let caller = &self.caller;
        let touch = Touch {
            caller,
            inode: InodeNumber::new(inode),
            now: self.model.now,
        };
        let found = self.world.write(touch, offset.into(), bytes).map(|_| ());
        let expected = self.model.write(caller, inode, offset.into(), bytes);
        alike(&found, &expected);
    }

    fn fill(&mut self, file: u8, (start, bytes): (u8, u8), fill: Fill) {
        let inode = self.pick(file, Type::File);
        let caller = &self.caller;
        let touch = Touch {
            caller,
            inode: InodeNumber::new(inode),
            now: self.model.now,
        };
        let from = u64::from(start);
        let range = from..from + u64::from(bytes);
        let end = range.end;
        let found = self.world.change(|edit| match fill {
            Fill::Punch => punch_hole(edit, touch, range),
            Fill::Zero(rule) => zero_range(edit, touch, range, rule),
            Fill::Allocate(rule) => allocate(edit, touch, range, rule),
        });
        let range = (start.into(), bytes.into());
        let expected = self.model.fill(caller, inode, range, fill);
        alike(&found, &expected.map(|()| end));
    }

    fn copy(&mut self, (from, to): (u8, u8), bytes: u8, offsets: (u8, u8)) {
        let (from, to) = (self.pick(from, Type::File), self.pick(to, Type::File));
        let caller = &self.caller;
        let touch = Touch {
            caller,
            inode: InodeNumber::new(to),
            now: self.model.now,
        };
        let copy = CopyRange {
            from: InodeNumber::new(from),
            from_offset: offsets.0.into(),
            to_offset: offsets.1.into(),
            bytes: bytes.into(),
        };
        let found = copied(&mut self.world, touch, copy);
        let expected = self.model.copy(caller, to, copy);
        alike(&found, &expected);
    }

    fn set(&mut self, inode: u8, set: &SetAttributes) {
        let inode = self.pick(inode, Type::File);
        let (number, now) = (InodeNumber::new(inode), self.model.now);
        let caller = &self.caller;
        let found = self
            .world
            .change(|edit| set_attributes(edit, caller, number, set, now));
        let expected = self.model.set(caller, inode, set);
        alike(&found.map(|(_, step)| step), &expected.map(|()| Step::Done));
    }

    fn set_xattr(&mut self, inode: u8, name: u8, bytes: usize, mode: SetMode) {
        let inode = self.pick(inode, Type::File);
        let (number, now) = (InodeNumber::new(inode), self.model.now);
        let new = NewXattr {
            name: &xattr_name(name),
            value: &vec![name; bytes],
            mode,
        };
        let found = self.world.change(|edit| set_xattr(edit, number, new, now));
        alike(&found, &self.model.set_xattr(inode, new));
    }

    fn remove_xattr(&mut self, inode: u8, name: u8) {
        let inode = self.pick(inode, Type::File);
        let (number, now) = (InodeNumber::new(inode), self.model.now);
        let name = xattr_name(name);
        let found = self
            .world
            .change(|edit| remove_xattr(edit, number, &name, now));
        alike(&found, &self.model.remove_xattr(inode, &name));
    }

    fn seek(&self, file: u8, offset: u8, what: Seek) {
        let inode = self.pick(file, Type::File);
        let number = InodeNumber::new(inode);
        let found = seek(&self.world.map, number, offset.into(), what);
        alike(&found, &self.model.seek(inode, offset.into(), what));
    }

    fn forget(&mut self, inode: u8) {
        let inode = self.pick(inode, Type::File);
        let number = InodeNumber::new(inode);
        let found = self.world.change(|edit| forget_orphan(edit, number));
        let expected = self.model.forget(inode);
        alike(&found, &expected.map(|()| Step::Done));
    }

    fn pack(&mut self, file: u8, which: impl Fn(Source) -> bool) {
        let inode = self.pick(file, Type::File);
        if self.model.file(inode).is_ok() {
            self.world.pack(InodeNumber::new(inode), which);
        }
    }
}

fn xattr_name(name: u8) -> Vec<u8> {
    match name % 16 {
        0 => Vec::new(),
        1 => vec![b'n'; 256],
        // One name is the beginning of the next.
        name => vec![1; usize::from(name % 3 + 1)],
    }
}

/// Copies all, whether it can be shared or not.
fn copied(world: &mut World, touch: Touch<'_>, copy: CopyRange) -> Result<usize, FsError> {
    let mut done = 0;
    // A copy within a file may make it longer: what was not there at the beginning is not copied.
    let there = attributes(&world.map, copy.from)?.size;
    let bytes = there.saturating_sub(copy.from_offset).min(copy.bytes);
    loop {
        let rest = CopyRange {
            from: copy.from,
            from_offset: copy.from_offset + done,
            to_offset: copy.to_offset + done,
            bytes: if done == 0 { copy.bytes } else { bytes - done },
        };
        match world.change(|edit| copy_range(edit, touch, rest))? {
            Copied::Shared(bytes) => done += bytes,
            Copied::ToWrite(bytes) => {
                let range = rest.from_offset..rest.from_offset + bytes;
                let mut read = Vec::new();
                for span in spans(&world.map, copy.from, range, 100).unwrap() {
                    read.extend(world.bytes_of(span.source.unwrap(), span.bytes));
                }
                done += world.write(touch, rest.to_offset, &read)?;
            }
            Copied::Nothing => return Ok(usize::try_from(done).unwrap()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn calls_agree_with_the_model(
        all in proptest::collection::vec((calls(), 0..4_u8), 1..80),
    ) {
        let mut pair = Pair {
            world: World::new(),
            model: Model::new(),
            caller: Caller::SUPERUSER,
        };
        for (second, (call, who)) in (1..).zip(&all) {
            pair.model.now = at(second);
            pair.caller = match who {
                0 => plain(1, &[]),
                1 => plain(2, &[1]),
                _ => Caller::SUPERUSER,
            };
            pair.run(call);
            pair.model.agrees(&pair.world);
        }
    }
}
