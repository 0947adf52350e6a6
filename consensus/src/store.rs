//! The folder of a ledger's blocks.
//!
//! ```text
//! lock                       held while the folder is in use
//! seed.key                   checksum (32), secret key (32); a sequencer's only
//! genesis                    the genesis record; written last, so that it marks a whole folder
//! state-00000000000000004096 checksum (32), state after the block of that height
//! blocks-00000000000000004097 blocks from that height on, see `block_log`
//! border-0000000003          state behind the border at which that term of validators began
//! attested-0000000003        attestation of that height
//! ```
//!
//! Opening reads the newest state that is whole and applies the blocks behind it. Blocks are kept
//! for ever; of states the newest two.

use std::path::{Path, PathBuf};

use cairn_core::{Bounded, DecodeError, Digest, Height, LedgerId, Record, SecretKey};
use cairn_ledger::snapshot::{SNAPSHOT_PART_BYTES, SnapshotPart};
use cairn_ledger::{Attestation, Block, BlockError, Effect, Genesis, State};
use cairn_runtime::{Disk, DiskError, DiskFile, EntryKind, OpenMode};
use zeroize::Zeroizing;

use crate::block_log::{self, BlockLog, End, LogError};
use crate::history::History;

const LOCK_FILE: &str = "lock";
const KEY_FILE: &str = "seed.key";
const GENESIS_FILE: &str = "genesis";
const STATE_PREFIX: &str = "state-";
const BLOCKS_PREFIX: &str = "blocks-";
const BORDER_PREFIX: &str = "border-";
const ATTESTED_PREFIX: &str = "attested-";
/// Digits of a term in a file's name.
const TERM_DIGITS: usize = 10;
/// States kept: a second one in case the newest is damaged.
const STATES_KEPT: usize = 2;
/// Digits of a height in a file's name, so that names sort as heights do.
const HEIGHT_DIGITS: usize = 20;
/// Domain of the checksums of key and state.
const CHECKSUM_CONTEXT: &str = "cairn 1 sequencer file";
/// Most bytes of a state file.
const STATE_BYTES_MAX: u64 = 4 << 30;
/// Most bytes of an attestation's file.
const ATTESTATION_BYTES_MAX: u64 = 1024;

/// Why the sequencer's folder can't be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another process has the folder.
    #[error("{} is in use by another process", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder holds no ledger.
    #[error("{} holds no ledger", folder.display())]
    NotCreated {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder holds a ledger already.
    #[error("{} holds a ledger already", folder.display())]
    AlreadyCreated {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder holds the ledger of another genesis.
    #[error("{} holds ledger {found}, expected {expected}", folder.display())]
    OtherLedger {
        /// The folder.
        folder: PathBuf,
        /// The ledger that was asked for.
        expected: LedgerId,
        /// The one in it.
        found: LedgerId,
    },
    /// The folder was made for a ledger that is ordered in another way.
    #[error("{} is not of a ledger that is ordered in this way", folder.display())]
    OtherOrder {
        /// The folder.
        folder: PathBuf,
    },
    /// The genesis is none that a ledger can begin with.
    #[error("the genesis is malformed: its balances are out of order or too much")]
    Genesis,
    /// The file does not hold what it should.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: DecodeError,
    },
    /// The key file is damaged, or missing.
    #[error("{}: damaged or missing key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// A file of blocks is damaged before its end. Put back a copy of it; nothing was changed.
    #[error("{}: damaged at byte {offset}, and more blocks follow", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
    },
    /// The blocks do not follow from the state or from each other.
    #[error("{}: {cause}", path.display())]
    Block {
        /// The file.
        path: PathBuf,
        /// What does not follow.
        cause: BlockError,
    },
}

impl From<LogError> for OpenError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Disk(error) => Self::Disk(error),
            LogError::Damaged { path, offset } => Self::Damaged { path, offset },
        }
    }
}

/// The open folder. After an error of [`Self::append`] it must be opened anew.
#[derive(Debug)]
pub(crate) struct Store<D: Disk> {
    disk: D,
    folder: PathBuf,
    log: BlockLog<D::File>,
    /// Height and size of the newest state file.
    state: (Height, u64),
    _lock: D::Lock,
}

/// What opening finds.
#[derive(Debug)]
pub(crate) struct Loaded<D: Disk> {
    pub(crate) store: Store<D>,
    pub(crate) state: State,
    pub(crate) history: History,
    /// A sequencer's key.
    pub(crate) key: Option<SecretKey>,
}

/// Whether the folder holds a ledger.
pub(crate) fn is_created<D: Disk>(disk: &D, folder: &Path) -> Result<bool, DiskError> {
    match disk.list(folder) {
        Ok(entries) => Ok(entries.iter().any(|entry| entry.name == GENESIS_FILE)),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the folder of a new ledger.
pub(crate) fn create<D: Disk>(
    disk: &D,
    folder: &Path,
    genesis: &Genesis,
    key: Option<&SecretKey>,
) -> Result<(), OpenError> {
    State::genesis(genesis).ok_or(OpenError::Genesis)?;
    disk.create_dir_all(folder)?;
    let _lock = lock(disk, folder)?;
    if is_created(disk, folder)? {
        return Err(OpenError::AlreadyCreated {
            folder: folder.to_owned(),
        });
    }
    if let Some(key) = key {
        let secret = key.to_bytes();
        let content = Zeroizing::new(with_checksum(secret.as_slice()));
        disk.replace_file(&folder.join(KEY_FILE), &content)?;
    }
    BlockLog::create(disk, &blocks_path(folder, Height::new(1)))?;
    disk.replace_file(&folder.join(GENESIS_FILE), &genesis.encode())?;
    // The folder's own name.
    disk.sync_dir(folder.parent().unwrap_or_else(|| Path::new(".")))?;
    Ok(())
}

/// Opens the folder of a validator, made when there is none; and of a state at the border at which its
/// term began, the attestation, if it is here.
pub(crate) fn open_or_create<D: Disk>(
    disk: &D,
    folder: &Path,
    genesis: &Genesis,
) -> Result<(Loaded<D>, Option<Attestation>), OpenError> {
    if !is_created(disk, folder)? {
        create(disk, folder, genesis, None)?;
    }
    let loaded = open(disk, folder)?;
    let (expected, found) = (genesis.ledger_id(), loaded.state.ledger_id());
    if expected != found {
        return Err(OpenError::OtherLedger {
            folder: folder.to_owned(),
            expected,
            found,
        });
    }
    if loaded.key.is_some() {
        return Err(OpenError::OtherOrder {
            folder: folder.to_owned(),
        });
    }
    let state = &loaded.state;
    let at_border = state
        .term()
        .filter(|term| term.base.height == state.height());
    let attestation = match at_border {
        Some(term) => border_attestation(disk, folder, term.number)?,
        None => None,
    };
    Ok((loaded, attestation))
}

/// Opens the folder: takes its lock, reads the newest whole state and applies the blocks after it.
pub(crate) fn open<D: Disk>(disk: &D, folder: &Path) -> Result<Loaded<D>, OpenError> {
    if !is_created(disk, folder)? {
        return Err(OpenError::NotCreated {
            folder: folder.to_owned(),
        });
    }
    let lock = lock(disk, folder)?;
    let genesis = read_genesis(disk, folder)?;
    let key = read_key(disk, folder)?;
    let begin = State::genesis(&genesis).ok_or(OpenError::Genesis)?;
    let newest = newest_state(disk, folder, begin.ledger_id())?;
    let (mut state, state_bytes) = newest.unwrap_or((begin, 0));
    let state_file = (state.height(), state_bytes);
    let mut history = History::after(state.height(), state.chain());
    let log = replay(disk, folder, &mut state, &mut history)?;
    let store = Store {
        disk: disk.clone(),
        folder: folder.to_owned(),
        log,
        state: state_file,
        _lock: lock,
    };
    Ok(Loaded {
        store,
        state,
        history,
        key,
    })
}

impl<D: Disk> Store<D> {
    /// Makes a block durable.
    pub(crate) fn append(&mut self, block: &Block) -> Result<(), DiskError> {
        self.log.append(block)
    }

    /// Whether it is time to write the state: `interval` blocks after the last one, and at least
    /// as many bytes, so that states never cost more than blocks.
    pub(crate) fn is_state_due(&self, height: Height, interval: u64) -> bool {
        let (last, bytes) = self.state;
        height.get().saturating_sub(last.get()) >= interval && self.log.bytes() >= bytes
    }

    /// Writes the state, begins a new file of blocks and removes old states.
    ///
    /// # Errors
    ///
    /// When the new file of blocks is not surely there: the folder must be opened anew, since
    /// blocks appended to the old file might not be read. Other failures only leave more to apply
    /// at the next opening, or an old file.
    pub(crate) fn write_state(&mut self, height: Height, encoded: &[u8]) -> Result<(), DiskError> {
        let content = with_checksum(encoded);
        let path = self.folder.join(numbered(STATE_PREFIX, height));
        if let Err(error) = self.disk.replace_file(&path, &content) {
            tracing::warn!(%error, "the state was not written");
            return Ok(());
        }
        self.state = (height, u64::try_from(content.len()).unwrap_or(u64::MAX));
        let next = height.next().unwrap_or(height);
        self.log = BlockLog::create(&self.disk, &blocks_path(&self.folder, next))?;
        if let Err(error) = self.remove_old_states() {
            tracing::warn!(%error, "an old state was not removed");
        }
        Ok(())
    }

    /// Keeps the state with which a term began, for those who are to join in it, and removes that of
    /// terms before.
    pub(crate) fn keep_border(&self, term: u32, encoded: &[u8]) -> Result<(), DiskError> {
        keep_border(&self.disk, &self.folder, term, encoded)
    }

    /// Keeps the attestation of the border at which a term began.
    pub(crate) fn keep_border_attestation(
        &self,
        term: u32,
        attestation: &Attestation,
    ) -> Result<(), DiskError> {
        keep_attestation(&self.disk, &self.folder, term, attestation)
    }

    fn remove_old_states(&self) -> Result<(), DiskError> {
        let mut states = heights(&self.disk, &self.folder, STATE_PREFIX)?;
        states.truncate(states.len().saturating_sub(STATES_KEPT));
        for old in states {
            self.disk
                .remove_file(&self.folder.join(numbered(STATE_PREFIX, old)))?;
        }
        Ok(())
    }
}

/// The attestation of the border at which a term began, if it is here and whole.
pub(crate) fn border_attestation<D: Disk>(
    disk: &D,
    folder: &Path,
    term: u32,
) -> Result<Option<Attestation>, DiskError> {
    let path = of_term(folder, ATTESTED_PREFIX, term);
    match disk.read_file(&path, ATTESTATION_BYTES_MAX) {
        Ok(bytes) => {
            let content = without_checksum(&bytes);
            Ok(content.and_then(|content| borsh::from_slice(content).ok()))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A part of the state with which a term began, if that and its attestation are here. Whoever asks
/// sees whether it is whole.
pub(crate) fn border_part<D: Disk>(
    disk: &D,
    folder: &Path,
    (term, offset): (u32, u64),
) -> Result<Option<SnapshotPart>, DiskError> {
    let there = |result: Result<_, DiskError>| match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    };
    let attested = border_attestation(disk, folder, term)?;
    let path = of_term(folder, BORDER_PREFIX, term);
    let (Some(attestation), Some(file)) = (attested, there(disk.open(&path, OpenMode::Read))?)
    else {
        return Ok(None);
    };
    let checksum = u64::try_from(Digest::BYTES).unwrap_or(u64::MAX);
    let total = file.len()?.saturating_sub(checksum);
    let left = usize::try_from(total.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; left.min(SNAPSHOT_PART_BYTES)];
    if bytes.is_empty() {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, checksum.saturating_add(offset))?;
    Ok(Some(SnapshotPart {
        attestation,
        total,
        offset,
        bytes: Bounded::new(bytes).expect("at most a part's bytes"),
    }))
}

fn keep_border<D: Disk>(
    disk: &D,
    folder: &Path,
    term: u32,
    encoded: &[u8],
) -> Result<(), DiskError> {
    let path = of_term(folder, BORDER_PREFIX, term);
    disk.replace_file(&path, &with_checksum(encoded))?;
    if let Some(before) = term.checked_sub(1) {
        for prefix in [BORDER_PREFIX, ATTESTED_PREFIX] {
            match disk.remove_file(&of_term(folder, prefix, before)) {
                Err(error) if !error.is_not_found() => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

fn keep_attestation<D: Disk>(
    disk: &D,
    folder: &Path,
    term: u32,
    attestation: &Attestation,
) -> Result<(), DiskError> {
    let encoded = borsh::to_vec(attestation).expect("memory takes it");
    let path = of_term(folder, ATTESTED_PREFIX, term);
    disk.replace_file(&path, &with_checksum(&encoded))
}

fn of_term(folder: &Path, prefix: &str, term: u32) -> PathBuf {
    folder.join(format!("{prefix}{term:0TERM_DIGITS$}"))
}

/// Puts the state with which a term began into a folder, made when there is none: opening goes on
/// from there. Blocks that are there stay; those between them and the state are not had.
pub(crate) fn install<D: Disk>(
    disk: &D,
    folder: &Path,
    genesis: &Genesis,
    (state, attestation): (&State, &Attestation),
) -> Result<(), OpenError> {
    if !is_created(disk, folder)? {
        create(disk, folder, genesis, None)?;
    }
    let lock = lock(disk, folder)?;
    let (expected, found) = (genesis.ledger_id(), state.ledger_id());
    if expected != found || read_genesis(disk, folder)?.ledger_id() != found {
        return Err(OpenError::OtherLedger {
            folder: folder.to_owned(),
            expected,
            found,
        });
    }
    let encoded = state.encode();
    let next = state.height().next().unwrap_or(state.height());
    if let Some(term) = state.term() {
        keep_border(disk, folder, term.number, &encoded)?;
        keep_attestation(disk, folder, term.number, attestation)?;
    }
    // Opening takes the newest state, and of the blocks those behind it.
    let path = folder.join(numbered(STATE_PREFIX, state.height()));
    disk.replace_file(&path, &with_checksum(&encoded))?;
    BlockLog::create(disk, &blocks_path(folder, next))?;
    drop(lock);
    Ok(())
}

fn lock<D: Disk>(disk: &D, folder: &Path) -> Result<D::Lock, OpenError> {
    disk.lock(&folder.join(LOCK_FILE)).map_err(|error| {
        if error.source.kind() == std::io::ErrorKind::WouldBlock {
            OpenError::InUse {
                folder: folder.to_owned(),
            }
        } else {
            OpenError::Disk(error)
        }
    })
}

fn read_genesis<D: Disk>(disk: &D, folder: &Path) -> Result<Genesis, OpenError> {
    let path = folder.join(GENESIS_FILE);
    let bytes_max = u64::try_from(Genesis::BYTES_MAX).unwrap_or(u64::MAX);
    let bytes = disk.read_file(&path, bytes_max)?;
    Genesis::decode(&bytes).map_err(|cause| OpenError::File { path, cause })
}

fn read_key<D: Disk>(disk: &D, folder: &Path) -> Result<Option<SecretKey>, OpenError> {
    let path = folder.join(KEY_FILE);
    let bytes = match disk.read_file(&path, 64) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let secret = without_checksum(&bytes).and_then(|secret| <&[u8; 32]>::try_from(secret).ok());
    let key = secret.map(SecretKey::from_bytes);
    key.map(Some).ok_or(OpenError::Key { path })
}

/// The newest state that is whole and of this ledger, and its file's size.
fn newest_state<D: Disk>(
    disk: &D,
    folder: &Path,
    ledger: LedgerId,
) -> Result<Option<(State, u64)>, OpenError> {
    for height in heights(disk, folder, STATE_PREFIX)?.into_iter().rev() {
        let path = folder.join(numbered(STATE_PREFIX, height));
        let bytes = disk.read_file(&path, STATE_BYTES_MAX)?;
        let state = without_checksum(&bytes).and_then(|bytes| State::decode(bytes).ok());
        match state {
            Some(state) if state.ledger_id() == ledger && state.height() == height => {
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                return Ok(Some((state, size)));
            }
            Some(_) | None => {
                tracing::warn!(path = %path.display(), "damaged state file passed over");
            }
        }
    }
    Ok(None)
}

/// Applies the blocks above the state, and gives the last file to append to.
fn replay<D: Disk>(
    disk: &D,
    folder: &Path,
    state: &mut State,
    history: &mut History,
) -> Result<BlockLog<D::File>, OpenError> {
    let first = state.height().next().unwrap_or(state.height());
    let starts = heights(disk, folder, BLOCKS_PREFIX)?;
    let needed = starts
        .iter()
        .rposition(|start| *start <= first)
        .unwrap_or(0);
    let files = starts.get(needed..).unwrap_or_default();
    let mut last = None;
    for (number, start) in files.iter().enumerate() {
        let path = blocks_path(folder, *start);
        let is_last = number.saturating_add(1) == files.len();
        let end = if is_last { End::MaybeTorn } else { End::Whole };
        let opened = block_log::open(disk, &path, end, |block| {
            let began = replay_block(&block, state, history).map_err(|cause| OpenError::Block {
                path: path.clone(),
                cause,
            })?;
            if let Some(term) = began {
                // A crash came before that was done.
                keep_border(disk, folder, term, &state.encode())?;
            }
            Ok::<_, OpenError>(())
        })?;
        if opened.cut_bytes > 0 {
            let bytes = opened.cut_bytes;
            tracing::warn!(path = %path.display(), bytes, "cut off a torn block");
        }
        last = Some(opened.log);
    }
    match last {
        Some(log) => Ok(log),
        None => Ok(BlockLog::create(disk, &blocks_path(folder, first))?),
    }
}

/// Applies a block, if it is not part of the state; gives the term that begins behind it.
fn replay_block(
    block: &Block,
    state: &mut State,
    history: &mut History,
) -> Result<Option<u32>, BlockError> {
    if block.height <= state.height() {
        return Ok(None);
    }
    let effects = state.apply_checked(block)?;
    let began = term_begun(&effects);
    history.push(block, effects);
    Ok(began)
}

/// The term that a block's effects say to begin.
pub(crate) fn term_begun(effects: &[Effect]) -> Option<u32> {
    effects.iter().find_map(|effect| match effect {
        Effect::TermBegan { number } => Some(*number),
        _ => None,
    })
}

fn blocks_path(folder: &Path, first: Height) -> PathBuf {
    folder.join(numbered(BLOCKS_PREFIX, first))
}

fn numbered(prefix: &str, height: Height) -> String {
    format!("{prefix}{:0HEIGHT_DIGITS$}", height.get())
}

/// The heights in the names of the files with a prefix, rising.
fn heights<D: Disk>(disk: &D, folder: &Path, prefix: &str) -> Result<Vec<Height>, DiskError> {
    let height = |name: &str| {
        let digits = name.strip_prefix(prefix)?;
        let is_height = digits.len() == HEIGHT_DIGITS && digits.bytes().all(|c| c.is_ascii_digit());
        is_height.then(|| digits.parse().ok().map(Height::new))?
    };
    let mut heights: Vec<Height> = disk
        .list(folder)?
        .iter()
        .filter(|entry| entry.kind == EntryKind::File)
        .filter_map(|entry| height(&entry.name))
        .collect();
    heights.sort_unstable();
    Ok(heights)
}

fn with_checksum(content: &[u8]) -> Vec<u8> {
    let checksum = Digest::keyed(CHECKSUM_CONTEXT, content);
    [checksum.as_bytes().as_slice(), content].concat()
}

fn without_checksum(bytes: &[u8]) -> Option<&[u8]> {
    let (checksum, content) = bytes.split_first_chunk::<{ Digest::BYTES }>()?;
    (Digest::keyed(CHECKSUM_CONTEXT, content).as_bytes() == checksum).then_some(content)
}
