//! An encrypted file system on a log of segments.
//!
//! All that a volume has is a tree of keys and values ([`key`], [`value`]), kept in pages that are copied
//! when they change ([`tree`]). An operation reads what it must know and says which keys change ([`fs`]); the
//! change goes into the journal of this machine ([`journal`]) and into the tree in memory. A commit seals
//! file data and changed pages into segments ([`log`]) of a store
//! ([`cairn_client::segment_store::SegmentStore`]) and then publishes the head: before it the old volume is
//! whole, after it the new one.

pub mod fs;
pub mod head;
pub mod journal;
pub mod key;
pub mod keyring;
pub mod log;
pub mod memory_store;
pub mod page;
pub mod run;
pub mod tree;
pub mod value;
pub mod volume;

pub use volume::{Access, CleanPolicy, Cleaned, Volume, VolumeConfig, VolumeError, World};
