//! Values of the volume's tree. Encoded as borsh; what does not decode was damaged or forged.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::key::InodeNumber;
use crate::run::RunRef;

/// Longest target of a symlink, as on Linux.
pub const TARGET_BYTES_MAX: usize = 4_095;
/// Longest value of an xattr, as on Linux.
pub const XATTR_BYTES_MAX: usize = 65_536;
/// Bytes of an xattr's value in one key; longer ones go on in further keys
/// ([`crate::key::Key::xattr_part`]). Several fit a page, so that pages fill well.
pub const XATTR_PART_BYTES: usize = 4_096;
/// Largest file: offsets are signed 64-bit numbers to whoever calls.
pub const FILE_BYTES_MAX: u64 = i64::MAX.unsigned_abs();

/// A time since 1970-01-01T00:00:00Z; before it the seconds are negative.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, BorshSerialize, BorshDeserialize,
)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds of the second, below 1,000,000,000.
    pub nanos: u32,
}

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory {
        /// The directory that it is in; the root's is itself.
        parent: InodeNumber,
        /// Entries in it.
        entries: u64,
    },
    /// A symlink.
    Symlink {
        /// What it points to, 1 to [`TARGET_BYTES_MAX`] bytes without NUL.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    Character {
        /// Its device number.
        device: u64,
    },
    /// A block device.
    Block {
        /// Its device number.
        device: u64,
    },
}

/// The type of an inode, as entries say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Type {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    Character,
    /// A block device.
    Block,
}

impl Kind {
    /// The type.
    #[must_use]
    pub const fn type_of(&self) -> Type {
        match self {
            Self::File => Type::File,
            Self::Directory { .. } => Type::Directory,
            Self::Symlink { .. } => Type::Symlink,
            Self::Fifo => Type::Fifo,
            Self::Socket => Type::Socket,
            Self::Character { .. } => Type::Character,
            Self::Block { .. } => Type::Block,
        }
    }
}

/// An inode's attributes.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Attributes {
    /// What it is.
    pub kind: Kind,
    /// Permissions, set-user-id, set-group-id and sticky: the low 12 bits of a mode.
    pub mode: u16,
    /// Who owns it.
    pub uid: u32,
    /// Whose group it is.
    pub gid: u32,
    /// Names that it has; of a directory, 2 and one for each directory in it.
    pub links: u32,
    /// Bytes of a file or a symlink's target; 0 of others.
    pub size: u64,
    /// Bytes of a file that are not holes.
    pub allocated: u64,
    /// When it was last read, as far as that is kept.
    pub accessed: Time,
    /// When its content changed last.
    pub modified: Time,
    /// When anything of it changed last.
    pub changed: Time,
    /// When it was made.
    pub born: Time,
    /// Drawn when it was made: two inodes of one number differ in it, and so do their keys.
    pub generation: u64,
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Entry {
    /// The inode that it names.
    pub inode: InodeNumber,
    /// That inode's type.
    pub kind: Type,
}

/// Bytes in the journal of this machine, not yet in a segment.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct JournalRef {
    /// Number of the journal's file.
    pub file: u64,
    /// Where the bytes begin in it.
    pub offset: u64,
}

/// Where an extent's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Source {
    /// In a run, from a byte of its plaintext on.
    Run {
        /// The run.
        run: RunRef,
        /// The first byte of the run's plaintext that is the extent's.
        skip: u32,
    },
    /// In this machine's journal. Never in a page that is written.
    Journal(JournalRef),
    /// Nowhere: they are zeros that take room (`fallocate`).
    Zeros,
}

impl Source {
    /// Where the bytes from `bytes` further on are; `None` when nothing can be there.
    #[must_use]
    pub fn advance(self, bytes: u64) -> Option<Self> {
        Some(match self {
            Self::Run { run, skip } => Self::Run {
                run,
                skip: skip.checked_add(u32::try_from(bytes).ok()?)?,
            },
            Self::Journal(JournalRef { file, offset }) => Self::Journal(JournalRef {
                file,
                offset: offset.checked_add(bytes)?,
            }),
            Self::Zeros => Self::Zeros,
        })
    }
}

/// A piece of a file; where it begins is in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Extent {
    /// Bytes, at least 1.
    pub bytes: u64,
    /// Where they are.
    pub source: Source,
}

/// An extended attribute, or what its first key has of it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Xattr {
    /// Bytes of the whole value, up to [`XATTR_BYTES_MAX`].
    pub bytes: u32,
    /// The first of them, up to [`XATTR_PART_BYTES`]; the rest is in parts of so many.
    pub first: Vec<u8>,
}

/// What the volume counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Counters {
    /// The number of the next inode.
    pub next_inode: u64,
    /// Inodes that there are.
    pub inodes: u64,
    /// Bytes of files that are not holes.
    pub allocated: u64,
    /// The number of the next snapshot.
    pub next_snapshot: u64,
}

/// How much of a segment is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Usage {
    /// Bytes of plaintext in it, its summary aside.
    pub bytes: u32,
    /// Of these, bytes that the newest tree refers to; more when it refers to some twice.
    pub live: u64,
    /// Bytes that only snapshots refer to.
    pub held: u64,
    /// The head with which it came.
    pub born: u64,
}

/// A snapshot that is kept.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Snapshot {
    /// Its name, 1 to 255 bytes of UTF-8.
    pub name: String,
    /// When it was made.
    pub made: Time,
    /// When it goes by itself.
    pub expires: Option<Time>,
    /// Number of the head that it is.
    pub head: u64,
    /// Where that head's superblock is.
    pub superblock: RunRef,
}

/// An inode without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Orphan {
    /// When it lost its last name.
    pub since: Time,
}

/// Encodes a value.
///
/// # Panics
///
/// Never: memory takes it.
#[must_use]
pub fn encode<T: BorshSerialize>(value: &T) -> Box<[u8]> {
    let bytes = borsh::to_vec(value).expect("memory takes it");
    bytes.into_boxed_slice()
}

/// Decodes a value; `None` when it is none of that type.
#[must_use]
pub fn decode<T: BorshDeserialize>(bytes: &[u8]) -> Option<T> {
    borsh::from_slice(bytes).ok()
}
