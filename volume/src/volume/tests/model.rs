//! Random operations on a volume, and what of a volume they are compared by.

use std::collections::BTreeMap;

use cairn_runtime::sim::SimRng;

use super::{TestVolume, noise, whole};
use crate::fs::{
    self, Caller, FsError, Making, New, NewXattr, Open, Place, RenameMode, Renaming, SetMode, Touch,
};
use crate::key::InodeNumber;
use crate::value::{Attributes, Time, Type};
use crate::volume::{CleanPolicy, VolumeError};

/// Names that operations choose among.
const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
/// Longest write; it never crosses the end of a run.
const WRITE_BYTES_MAX: u64 = 8_000;

/// What is done.
#[derive(Clone, Debug)]
pub(super) enum Doing {
    Make(usize, usize, bool),
    Write(usize, usize, u64, usize),
    Truncate(usize, usize, u64),
    Unlink(usize, usize),
    Rmdir(usize),
    Link((usize, usize), (usize, usize)),
    Rename((usize, usize), (usize, usize)),
    Xattr(usize, usize, usize),
    Sync,
    Commit,
    Clean,
}

/// Operations of a seed. Directories are the root (0) and those in it by their names (1 and up).
pub(super) fn doings(rng: &mut SimRng, count: usize) -> Vec<Doing> {
    let mut below = |max: u64| usize::try_from(rng.next_u64() % max).unwrap();
    // Three directories and some files, so that most of what follows finds something.
    let folders = (1..4).map(|name| Doing::Make(0, name, true));
    let files = (0..12).map(|at| Doing::Make(at % 4, at % 5, false));
    let begin: Vec<Doing> = folders.chain(files).collect();
    let more = count.saturating_sub(begin.len());
    let rest = (0..more)
        .map(|_| {
            let place = (below(4), below(5));
            let other = (below(4), below(5));
            match below(30) {
                0..5 => Doing::Make(place.0, place.1, below(8) == 0),
                5..13 => {
                    let offset = u64::try_from(below(8_000)).unwrap();
                    let bytes = 1 + below(WRITE_BYTES_MAX);
                    Doing::Write(place.0, place.1, offset, bytes)
                }
                13 | 14 => {
                    let size = u64::try_from(below(20_000)).unwrap();
                    Doing::Truncate(place.0, place.1, size)
                }
                15 | 16 => Doing::Unlink(place.0, place.1),
                17 => Doing::Rmdir(place.1),
                18 => Doing::Link(place, other),
                19 | 20 => Doing::Rename(place, other),
                21 => Doing::Xattr(place.0, place.1, below(6_000)),
                22 | 23 => Doing::Sync,
                24 => Doing::Clean,
                _ => Doing::Commit,
            }
        })
        .collect();
    [begin, rest].concat()
}

/// What a volume is, times and generations aside: by path, attributes, content and xattrs.
pub(super) type Dump = BTreeMap<Vec<u8>, (Attributes, Vec<u8>, Vec<Vec<u8>>)>;

pub(super) async fn dump(volume: &TestVolume) -> Dump {
    let mut found = Dump::new();
    let mut left = vec![(Vec::new(), InodeNumber::ROOT)];
    while let Some((path, inode)) = left.pop() {
        let attributes = volume.view(|view| fs::attributes(view, inode)).await;
        let mut attributes = attributes.unwrap();
        let times = [
            &mut attributes.accessed,
            &mut attributes.modified,
            &mut attributes.changed,
            &mut attributes.born,
        ];
        for time in times {
            *time = Time::default();
        }
        attributes.generation = 0;
        let mut content = Vec::new();
        match attributes.kind.type_of() {
            Type::File => content = whole(volume, inode).await,
            Type::Directory => {
                let listed = volume.view(|view| fs::read_directory(view, inode, b"", 1_000));
                for entry in listed.await.unwrap() {
                    let path = [&path[..], b"/", &entry.name].concat();
                    left.push((path, entry.inode));
                }
            }
            _ => {}
        }
        let names = volume.view(|view| fs::list_xattrs(view, inode)).await;
        let mut xattrs = Vec::new();
        for name in names.unwrap() {
            let value = volume.view(|view| fs::xattr(view, inode, &name)).await;
            xattrs.push([&name[..], b"=", &value.unwrap()].concat());
        }
        found.insert(path, (attributes, content, xattrs));
    }
    found
}

async fn directory(volume: &TestVolume, number: usize) -> Result<InodeNumber, VolumeError> {
    if number == 0 {
        return Ok(InodeNumber::ROOT);
    }
    let place = Place {
        directory: InodeNumber::ROOT,
        name: NAMES[number],
    };
    let found = volume.view(|view| fs::lookup(view, place)).await?;
    Ok(found.inode)
}

async fn inode(volume: &TestVolume, at: (usize, usize)) -> Result<InodeNumber, VolumeError> {
    let place = Place {
        directory: directory(volume, at.0).await?,
        name: NAMES[at.1],
    };
    let found = volume.view(|view| fs::lookup(view, place)).await?;
    Ok(found.inode)
}

/// Does one thing. What the file system refuses is done too.
pub(super) async fn act(
    volume: &TestVolume,
    doing: &Doing,
    turn: usize,
) -> Result<(), VolumeError> {
    match attempt(volume, doing, turn).await {
        Err(VolumeError::Fs(FsError::Damaged { key })) => panic!("damaged: {key:?}"),
        Err(VolumeError::Fs(_)) => Ok(()),
        done => done,
    }
}

async fn attempt(volume: &TestVolume, doing: &Doing, turn: usize) -> Result<(), VolumeError> {
    let seed = u8::try_from(turn % 256).unwrap();
    match *doing {
        Doing::Write(of, name, offset, bytes) => {
            let file = inode(volume, (of, name)).await?;
            volume
                .write(&Caller::SUPERUSER, file, offset, &noise(bytes, seed))
                .await
        }
        Doing::Truncate(of, name, size) => {
            let inode = inode(volume, (of, name)).await?;
            let cut = volume.edit(&[], |edit, moment| {
                let touch = Touch {
                    caller: &Caller::SUPERUSER,
                    inode,
                    now: moment.now,
                };
                fs::truncate(edit, touch, size)
            });
            cut.await.map(|_| ())
        }
        Doing::Xattr(of, name, bytes) => {
            let inode = inode(volume, (of, name)).await?;
            let value = noise(bytes, seed);
            let set = volume.edit(&[], |edit, moment| {
                let new = NewXattr {
                    name: b"user.x",
                    value: &value,
                    mode: SetMode::Any,
                };
                fs::set_xattr(edit, inode, new, moment.now)
            });
            set.await
        }
        Doing::Rename(from, to) => rename(volume, from, to).await,
        Doing::Sync => volume.sync_local().await,
        Doing::Commit => volume.commit().await.map(|_| ()),
        Doing::Clean => {
            let policy = CleanPolicy {
                live_percent_max: 90,
                segments_max: 20,
            };
            volume.clean(policy).await.map(|_| ())
        }
        Doing::Make(..) | Doing::Unlink(..) | Doing::Rmdir(_) | Doing::Link(..) => {
            change_names(volume, doing).await
        }
    }
}

async fn change_names(volume: &TestVolume, doing: &Doing) -> Result<(), VolumeError> {
    let caller = Caller::SUPERUSER;
    let at = match *doing {
        Doing::Make(of, name, _) | Doing::Unlink(of, name) => (of, name),
        Doing::Link(_, to) => to,
        Doing::Rmdir(name) => (0, name),
        _ => return Ok(()),
    };
    let place = Place {
        directory: directory(volume, at.0).await?,
        name: NAMES[at.1],
    };
    let linked = match *doing {
        Doing::Link(from, _) => Some(inode(volume, from).await?),
        _ => None,
    };
    let changed = volume.edit(&[], |edit, moment| {
        match (doing, linked) {
            (Doing::Make(_, _, is_directory), _) => {
                let making = Making {
                    new: if *is_directory {
                        New::Directory
                    } else {
                        New::File
                    },
                    mode: 0o700,
                    generation: moment.entropy,
                };
                fs::make(edit, &caller, place, making, moment.now).map(|_| ())?;
            }
            (_, Some(inode)) => fs::link(edit, inode, place, moment.now).map(|_| ())?,
            (Doing::Rmdir(_), _) => {
                fs::rmdir(edit, &caller, place, Open::No, moment.now).map(|_| ())?;
            }
            _ => fs::unlink(edit, &caller, place, Open::No, moment.now).map(|_| ())?,
        }
        Ok(())
    });
    changed.await
}

async fn rename(
    volume: &TestVolume,
    from: (usize, usize),
    to: (usize, usize),
) -> Result<(), VolumeError> {
    let from = Place {
        directory: directory(volume, from.0).await?,
        name: NAMES[from.1],
    };
    let to = Place {
        directory: directory(volume, to.0).await?,
        name: NAMES[to.1],
    };
    let renamed = volume.edit(&[], |edit, moment| {
        let renaming = Renaming {
            mode: RenameMode::Replace,
            open: Open::No,
            now: moment.now,
        };
        fs::rename(edit, &Caller::SUPERUSER, from, to, renaming)
    });
    renamed.await.map(|_| ())
}
