//! A plain model of a file system: what each call must return, and what must be there after it.

use std::collections::BTreeMap;

use super::{World, at};
use crate::fs::extents::layout;
use crate::fs::{
    Caller, CopyRange, Fate, FsError, Making, New, NewXattr, Open, Place, RenameMode, Renaming,
    Seek, SetAttributes, SetMode, SetTime, SizeRule, Sought, Span, Unlinked, attributes,
    list_xattrs, lookup, orphans, read_directory, spans, xattr,
};
use crate::key::InodeNumber;
use crate::value::{Attributes, Kind, Source, Time, Type};

/// Longer than any file of the test.
const LONG: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Hole,
    Zero,
    Byte(u8),
}

/// An inode of the model.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Type,
    mode: u16,
    uid: u32,
    gid: u32,
    links: u32,
    size: usize,
    cells: Vec<Cell>,
    target: Vec<u8>,
    parent: u64,
    entries: BTreeMap<Vec<u8>, u64>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    accessed: Time,
    modified: Time,
    changed: Time,
    born: Time,
    generation: u64,
}

/// The model.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) nodes: BTreeMap<u64, Node>,
    next: u64,
    pub(super) now: Time,
}

/// A directory and a name in it.
pub(super) type At<'a> = (u64, &'a [u8]);

/// How a range of a file is filled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fill {
    Punch,
    Zero(SizeRule),
    Allocate(SizeRule),
}

fn invalid() -> FsError {
    FsError::Invalid { what: "" }
}

impl Node {
    fn new(kind: Type, now: Time) -> Self {
        Self {
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            links: if kind == Type::Directory { 2 } else { 1 },
            size: 0,
            cells: Vec::new(),
            target: Vec::new(),
            parent: 0,
            entries: BTreeMap::new(),
            xattrs: BTreeMap::new(),
            accessed: now,
            modified: now,
            changed: now,
            born: now,
            generation: 0,
        }
    }

    fn attributes(&self) -> Attributes {
        let device = 5;
        Attributes {
            kind: match self.kind {
                Type::File => Kind::File,
                Type::Directory => Kind::Directory {
                    parent: InodeNumber::new(self.parent),
                    entries: u64::try_from(self.entries.len()).unwrap(),
                },
                Type::Symlink => Kind::Symlink {
                    target: self.target.clone(),
                },
                Type::Fifo => Kind::Fifo,
                Type::Socket => Kind::Socket,
                Type::Character => Kind::Character { device },
                Type::Block => Kind::Block { device },
            },
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            links: self.links,
            size: u64::try_from(self.size).unwrap(),
            allocated: self
                .cells
                .iter()
                .map(|cell| u64::from(*cell != Cell::Hole))
                .sum(),
            accessed: self.accessed,
            modified: self.modified,
            changed: self.changed,
            born: self.born,
            generation: self.generation,
        }
    }

    fn cell(&self, offset: usize) -> Cell {
        self.cells.get(offset).copied().unwrap_or(Cell::Hole)
    }

    fn put(&mut self, offset: usize, cell: Cell) {
        if self.cells.len() <= offset {
            self.cells.resize(offset + 1, Cell::Hole);
        }
        self.cells[offset] = cell;
    }

    fn is_directory(&self) -> bool {
        self.kind == Type::Directory
    }
}

impl Model {
    pub(super) fn new() -> Self {
        let mut root = Node::new(Type::Directory, at(0));
        root.mode = 0o777;
        root.parent = 1;
        root.generation = 1;
        Self {
            nodes: BTreeMap::from([(1, root)]),
            next: 2,
            now: at(0),
        }
    }

    fn node(&self, inode: u64) -> Result<&Node, FsError> {
        let missing = FsError::NoInode {
            inode: InodeNumber::new(inode),
        };
        self.nodes.get(&inode).ok_or(missing)
    }

    fn node_mut(&mut self, inode: u64) -> &mut Node {
        self.nodes.get_mut(&inode).unwrap()
    }

    fn directory(&self, inode: u64) -> Result<&Node, FsError> {
        let node = self.node(inode)?;
        if node.is_directory() {
            Ok(node)
        } else {
            Err(FsError::NotDirectory)
        }
    }

    pub(super) fn file(&self, inode: u64) -> Result<&Node, FsError> {
        let node = self.node(inode)?;
        match node.kind {
            Type::File => Ok(node),
            Type::Directory => Err(FsError::IsDirectory),
            _ => Err(invalid()),
        }
    }

    fn check_name(name: &[u8]) -> Result<(), FsError> {
        if name.len() > 255 {
            return Err(FsError::NameTooLong { found: 0, max: 0 });
        }
        let bad = matches!(name, b"" | b"." | b"..") || name.contains(&b'/');
        if bad { Err(FsError::BadName) } else { Ok(()) }
    }

    fn entry(&self, (directory, name): At<'_>) -> Option<u64> {
        self.nodes[&directory].entries.get(name).copied()
    }

    fn sticky(&self, caller: &Caller, directory: u64, victim: u64) -> Result<(), FsError> {
        let (directory, victim) = (&self.nodes[&directory], &self.nodes[&victim]);
        let owners = [0, directory.uid, victim.uid];
        if directory.mode & 0o1000 != 0 && !owners.contains(&caller.uid) {
            return Err(FsError::NotPermitted);
        }
        Ok(())
    }

    fn add(&mut self, (directory, name): At<'_>, inode: u64) {
        let now = self.now;
        let is_directory = self.nodes[&inode].is_directory();
        if is_directory {
            self.node_mut(inode).parent = directory;
        }
        let directory = self.node_mut(directory);
        directory.entries.insert(name.to_vec(), inode);
        directory.links += u32::from(is_directory);
        directory.modified = now;
        directory.changed = now;
    }

    fn take(&mut self, (directory, name): At<'_>) {
        let now = self.now;
        let inode = self.entry((directory, name)).unwrap();
        let is_directory = self.nodes[&inode].is_directory();
        let directory = self.node_mut(directory);
        directory.entries.remove(name);
        directory.links -= u32::from(is_directory);
        directory.modified = now;
        directory.changed = now;
    }

    fn drop_name(&mut self, inode: u64, open: Open) -> Unlinked {
        let now = self.now;
        let node = self.node_mut(inode);
        node.links = if node.is_directory() {
            0
        } else {
            node.links - 1
        };
        node.changed = now;
        let fate = match (node.links, open) {
            (0, Open::Yes) => Fate::Open,
            (0, Open::No) => Fate::Gone,
            _ => Fate::Named,
        };
        if fate == Fate::Gone {
            self.nodes.remove(&inode);
        }
        let inode = InodeNumber::new(inode);
        Unlinked { inode, fate }
    }

    pub(super) fn make(
        &mut self,
        caller: &Caller,
        at: At<'_>,
        making: Making<'_>,
    ) -> Result<u64, FsError> {
        Self::check_name(at.1)?;
        let parent = self.directory(at.0)?;
        if parent.links == 0 {
            return Err(FsError::NoEntry);
        }
        if self.entry(at).is_some() {
            return Err(FsError::Exists);
        }
        let kind = match making.new {
            New::File => Type::File,
            New::Directory => Type::Directory,
            New::Symlink { .. } => Type::Symlink,
            New::Fifo => Type::Fifo,
            New::Socket => Type::Socket,
            New::Character { .. } => Type::Character,
            New::Block { .. } => Type::Block,
        };
        if matches!(kind, Type::Character | Type::Block) && caller.uid != 0 {
            return Err(FsError::NotPermitted);
        }
        let mut node = Node::new(kind, self.now);
        (node.mode, node.gid) = caller.mode_of_new(&parent.attributes(), kind, making.mode);
        node.uid = caller.uid;
        node.generation = making.generation;
        if let New::Symlink { target } = making.new {
            node.target = target.to_vec();
            node.size = target.len();
        }
        let inode = self.next;
        self.next += 1;
        self.nodes.insert(inode, node);
        self.add(at, inode);
        Ok(inode)
    }

    pub(super) fn link(&mut self, inode: u64, at: At<'_>) -> Result<(), FsError> {
        Self::check_name(at.1)?;
        if self.directory(at.0)?.links == 0 {
            return Err(FsError::NoEntry);
        }
        if self.entry(at).is_some() {
            return Err(FsError::Exists);
        }
        let now = self.now;
        let node = self.node(inode)?;
        if node.is_directory() {
            return Err(FsError::NotPermitted);
        }
        if node.links == 0 {
            return Err(FsError::NoEntry);
        }
        self.node_mut(inode).links += 1;
        self.node_mut(inode).changed = now;
        self.add(at, inode);
        Ok(())
    }

    pub(super) fn remove(
        &mut self,
        caller: &Caller,
        at: At<'_>,
        what: Type,
        open: Open,
    ) -> Result<Unlinked, FsError> {
        Self::check_name(at.1)?;
        self.directory(at.0)?;
        let inode = self.entry(at).ok_or(FsError::NoEntry)?;
        self.sticky(caller, at.0, inode)?;
        let victim = &self.nodes[&inode];
        match (what, victim.is_directory()) {
            (Type::Directory, false) => return Err(FsError::NotDirectory),
            (Type::Directory, true) if !victim.entries.is_empty() => {
                return Err(FsError::NotEmpty);
            }
            (Type::File, true) => return Err(FsError::IsDirectory),
            _ => {}
        }
        self.take(at);
        Ok(self.drop_name(inode, open))
    }

    fn is_within(&self, directory: u64, of: u64) -> bool {
        let mut at = directory;
        while at != of && at != 1 {
            at = self.nodes[&at].parent;
        }
        at == of
    }

    pub(super) fn rename(
        &mut self,
        caller: &Caller,
        from: At<'_>,
        to: At<'_>,
        renaming: Renaming,
    ) -> Result<Option<Unlinked>, FsError> {
        Self::check_name(from.1)?;
        Self::check_name(to.1)?;
        self.directory(from.0)?;
        let live = self.directory(to.0)?.links > 0;
        let source = self.entry(from).ok_or(FsError::NoEntry)?;
        if !live {
            return Err(FsError::NoEntry);
        }
        let target = self.entry(to);
        let exchange = renaming.mode == RenameMode::Exchange;
        match target {
            Some(_) if renaming.mode == RenameMode::NoReplace => return Err(FsError::Exists),
            None if exchange => return Err(FsError::NoEntry),
            _ => {}
        }
        if self.is_within(to.0, source)
            || target.is_some_and(|target| exchange && self.is_within(from.0, target))
        {
            return Err(invalid());
        }
        if target == Some(source) {
            return Ok(None);
        }
        self.sticky(caller, from.0, source)?;
        if let Some(target) = target {
            self.sticky(caller, to.0, target)?;
        }
        let mut unlinked = None;
        if let Some(target) = target {
            let (old, new) = (&self.nodes[&source], &self.nodes[&target]);
            match (old.is_directory(), new.is_directory()) {
                _ if exchange => {}
                (true, false) => return Err(FsError::NotDirectory),
                (false, true) => return Err(FsError::IsDirectory),
                (true, true) if !new.entries.is_empty() => return Err(FsError::NotEmpty),
                _ => {}
            }
            self.take(to);
            if !exchange {
                unlinked = Some(self.drop_name(target, renaming.open));
            }
        }
        self.take(from);
        self.add(to, source);
        self.node_mut(source).changed = self.now;
        if let (Some(target), true) = (target, exchange) {
            self.add(from, target);
            self.node_mut(target).changed = self.now;
        }
        Ok(unlinked)
    }

    /// After a change of content.
    fn settle(&mut self, caller: &Caller, inode: u64) {
        let now = self.now;
        let node = self.node_mut(inode);
        node.mode = caller.mode_after_write(&node.attributes());
        node.modified = now;
        node.changed = now;
    }

    pub(super) fn set(
        &mut self,
        caller: &Caller,
        inode: u64,
        set: &SetAttributes,
    ) -> Result<(), FsError> {
        let node = self.node(inode)?;
        let root = caller.uid == 0;
        let owns = root || caller.uid == node.uid;
        let keeps_user = set.uid.is_none_or(|uid| owns && uid == node.uid);
        let joins = |gid| gid == node.gid || gid == caller.gid || caller.groups.contains(&gid);
        let keeps_group = set.gid.is_none_or(|gid| owns && joins(gid));
        let may = root || (keeps_user && keeps_group);
        if !may {
            return Err(FsError::NotPermitted);
        }
        if set.mode.is_some() && node.kind == Type::Symlink {
            return Err(FsError::NotSupported);
        }
        let explicit = |time| matches!(time, SetTime::At(_));
        let sets_times = explicit(set.accessed) || explicit(set.modified);
        if !owns && (set.mode.is_some() || sets_times) {
            return Err(FsError::NotPermitted);
        }
        if *set == SetAttributes::default() {
            return Ok(());
        }
        if let Some(size) = set.size {
            self.file(inode)?;
            let size = usize::try_from(size).unwrap();
            let node = self.node_mut(inode);
            if size <= node.size {
                node.cells.truncate(size);
            }
            node.size = size;
            self.settle(caller, inode);
        }
        let now = self.now;
        let node = self.node_mut(inode);
        if set.uid.is_some() || set.gid.is_some() {
            node.mode = caller.mode_after_chown(&node.attributes());
        }
        node.uid = set.uid.unwrap_or(node.uid);
        node.gid = set.gid.unwrap_or(node.gid);
        if let Some(mode) = set.mode {
            let in_group = root || node.gid == caller.gid || caller.groups.contains(&node.gid);
            node.mode = if in_group { mode } else { mode & !0o2000 };
        }
        for (time, set) in [
            (&mut node.accessed, set.accessed),
            (&mut node.modified, set.modified),
        ] {
            match set {
                SetTime::Omit => {}
                SetTime::Now => *time = now,
                SetTime::At(at) => *time = at,
            }
        }
        node.changed = now;
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        caller: &Caller,
        inode: u64,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), FsError> {
        self.file(inode)?;
        if !bytes.is_empty() {
            let cells: Vec<Cell> = bytes.iter().map(|byte| Cell::Byte(*byte)).collect();
            self.put_all(inode, offset, &cells);
            self.settle(caller, inode);
        }
        Ok(())
    }

    fn put_all(&mut self, inode: u64, offset: usize, cells: &[Cell]) {
        let node = self.node_mut(inode);
        for (index, cell) in cells.iter().enumerate() {
            node.put(offset + index, *cell);
        }
        node.size = node.size.max(offset + cells.len());
    }

    pub(super) fn fill(
        &mut self,
        caller: &Caller,
        inode: u64,
        (start, bytes): (usize, usize),
        fill: Fill,
    ) -> Result<(), FsError> {
        self.file(inode)?;
        if bytes == 0 {
            return Err(invalid());
        }
        let node = self.node_mut(inode);
        let end = start + bytes;
        for offset in start..end {
            match (fill, node.cell(offset)) {
                (Fill::Punch, _) => node.put(offset, Cell::Hole),
                (Fill::Zero(_), _) | (Fill::Allocate(_), Cell::Hole) => {
                    node.put(offset, Cell::Zero);
                }
                (Fill::Allocate(_), Cell::Zero | Cell::Byte(_)) => {}
            }
        }
        if let Fill::Zero(SizeRule::Grow) | Fill::Allocate(SizeRule::Grow) = fill {
            node.size = node.size.max(end);
        }
        self.settle(caller, inode);
        Ok(())
    }

    pub(super) fn copy(
        &mut self,
        caller: &Caller,
        to: u64,
        copy: CopyRange,
    ) -> Result<usize, FsError> {
        let from = self.file(copy.from.get())?;
        self.file(to)?;
        let number = |number: u64| usize::try_from(number).unwrap();
        let (start, target) = (number(copy.from_offset), number(copy.to_offset));
        let bytes = number(copy.bytes);
        let overlap = start < target + bytes && target < start + bytes;
        if copy.from.get() == to && overlap {
            return Err(invalid());
        }
        let range = start..(start + bytes).min(from.size);
        let cells: Vec<Cell> = range.map(|offset| from.cell(offset)).collect();
        if !cells.is_empty() {
            self.put_all(to, target, &cells);
            self.settle(caller, to);
        }
        Ok(cells.len())
    }

    pub(super) fn set_xattr(&mut self, inode: u64, new: NewXattr<'_>) -> Result<(), FsError> {
        check_xattr_name(new.name)?;
        let now = self.now;
        let node = self.node_mut(inode);
        match (new.mode, node.xattrs.contains_key(new.name)) {
            (SetMode::Create, true) => return Err(FsError::Exists),
            (SetMode::Replace, false) => return Err(FsError::NoXattr),
            _ => {}
        }
        node.xattrs.insert(new.name.to_vec(), new.value.to_vec());
        node.changed = now;
        Ok(())
    }

    pub(super) fn remove_xattr(&mut self, inode: u64, name: &[u8]) -> Result<(), FsError> {
        check_xattr_name(name)?;
        let now = self.now;
        let node = self.node_mut(inode);
        node.xattrs.remove(name).ok_or(FsError::NoXattr)?;
        node.changed = now;
        Ok(())
    }

    pub(super) fn forget(&mut self, inode: u64) -> Result<(), FsError> {
        if self.node(inode)?.links > 0 {
            return Err(invalid());
        }
        self.nodes.remove(&inode);
        Ok(())
    }

    pub(super) fn seek(&self, inode: u64, offset: usize, what: Seek) -> Result<Sought, FsError> {
        let node = self.file(inode)?;
        let is_data = |offset: &usize| matches!(node.cell(*offset), Cell::Byte(_));
        if offset >= node.size {
            return Err(FsError::NothingThere);
        }
        let mut range = offset..node.size;
        let found = match what {
            Seek::Data => range.find(is_data).ok_or(FsError::NothingThere)?,
            Seek::Hole => range.find(|offset| !is_data(offset)).unwrap_or(node.size),
        };
        Ok(Sought::At(u64::try_from(found).unwrap()))
    }

    /// Everything there is, and nothing else.
    pub(super) fn agrees(&self, world: &World) {
        world.check();
        let mut without_names = Vec::new();
        for (number, node) in &self.nodes {
            let inode = InodeNumber::new(*number);
            assert_eq!(
                attributes(&world.map, inode),
                Ok(node.attributes()),
                "{inode}"
            );
            let names = node.xattrs.keys().map(|name| name.as_slice().into());
            let names: Vec<Box<[u8]>> = names.collect();
            assert_eq!(list_xattrs(&world.map, inode), Ok(names));
            for (name, value) in &node.xattrs {
                assert_eq!(xattr(&world.map, inode, name).as_ref(), Ok(value));
            }
            if node.is_directory() {
                self.agrees_on_directory(world, inode, node);
            }
            if node.kind == Type::File {
                assert_eq!(cells(world, inode), without_tail(&node.cells));
                let read = spans(&world.map, inode, 0..LONG, 10_000).unwrap();
                let bytes: u64 = read.iter().map(|span| span.bytes).sum();
                assert_eq!(usize::try_from(bytes).unwrap(), node.size);
            }
            if node.links == 0 {
                without_names.push(inode);
            }
        }
        let found = orphans(&world.map, InodeNumber::VOLUME, 10_000).unwrap();
        assert_eq!(found, without_names);
    }

    fn agrees_on_directory(&self, world: &World, directory: InodeNumber, node: &Node) {
        let mut after = Vec::new();
        for (name, inode) in &node.entries {
            let read = read_directory(&world.map, directory, &after, 1).unwrap();
            assert_eq!(read.len(), 1);
            assert_eq!((&*read[0].name, read[0].inode.get()), (&**name, *inode));
            assert_eq!(read[0].kind, self.nodes[inode].kind);
            let found = lookup(&world.map, Place { directory, name }).unwrap();
            assert_eq!(found.inode.get(), *inode);
            after.clone_from(name);
        }
        let end = read_directory(&world.map, directory, &after, 1).unwrap();
        assert_eq!(end, []);
    }
}

fn check_xattr_name(name: &[u8]) -> Result<(), FsError> {
    match name.len() {
        0 => Err(FsError::BadName),
        256.. => Err(FsError::NameTooLong { found: 0, max: 0 }),
        _ => Ok(()),
    }
}

/// What a file has, byte by byte, beyond its end too, without holes at the end.
fn cells(world: &World, inode: InodeNumber) -> Vec<Cell> {
    let mut cells = Vec::new();
    for Span { bytes, source, .. } in layout(&world.map, inode, 0..LONG, 10_000).unwrap() {
        let count = usize::try_from(bytes).unwrap();
        match source {
            None => cells.extend(vec![Cell::Hole; count]),
            Some(Source::Zeros) => cells.extend(vec![Cell::Zero; count]),
            Some(source) => cells.extend(world.bytes_of(source, bytes).into_iter().map(Cell::Byte)),
        }
    }
    without_tail(&cells)
}

fn without_tail(cells: &[Cell]) -> Vec<Cell> {
    let data = cells.iter().rposition(|cell| *cell != Cell::Hole);
    cells[..data.map_or(0, |last| last + 1)].to_vec()
}
