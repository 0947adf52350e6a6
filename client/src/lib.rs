//! The owner's library: groups, segments, upload, download, links.

pub mod book;
pub mod cipher;
pub mod client;
pub mod group_view;
pub mod index;
pub mod journal;
pub mod key;
pub mod ledger_transport;
pub mod link;
pub mod memory;
pub mod owner;
mod peers;
pub mod read;
mod record_cache;
pub mod segment;
pub mod stat;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod upload;
mod width;

pub use client::{Client, ClientConfig};
pub use index::{Entry, EntryKind, EntryPath, FileIndex, UploadKind};
pub use key::OwnerKeys;
pub use link::{Link, ParseLinkError};
pub use owner::{Owner, OwnerConfig, Removed};
pub use read::{ByteStream, OpenFile, Opened, ReadError, TreeItem, TreeStream};
pub use stat::Stat;
pub use upload::{UploadError, UploadOptions, UploadProgress, Uploaded};
