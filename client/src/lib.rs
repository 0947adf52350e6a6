//! The owner's library: groups, segments, upload, download, links.
//!
//! An application opens a [`Client`] on a machine ([`cairn_runtime::Runtime`]), a network
//! ([`cairn_net::Network`]) and a ledger ([`cairn_ledger::Ledger`]). With a link alone it reads:
//! [`Client::open`]. With an owner's keys it writes: [`Owner::upload`], which returns a [`Link`].
//!
//! ```
//! # use std::io::Cursor;
//! # use std::path::Path;
//! use cairn_client::upload::{EntryMeta, EntryMetaKind, UploadOptions, UploadProgress, reader_source};
//! use cairn_client::{Client, ClientConfig, EntryPath, Link, Owner, OwnerConfig, OwnerKeys};
//! use cairn_core::Profile;
//! # use cairn_ledger::Ledger;
//! # use cairn_net::Network;
//! # use cairn_runtime::Runtime;
//!
//! /// Uploads a text and reads its first five bytes back, as somebody else would.
//! async fn there_and_back<R: Runtime, N: Network, L: Ledger>(
//!     runtime: R,
//!     network: N,
//!     ledger: L,
//! ) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
//!     let client = Client::new(runtime, network, ledger, ClientConfig::default());
//!     let keys = OwnerKeys::from_seed(&[7; 32]); // the entropy of 24 words
//!     let config = OwnerConfig::new(Profile::Dev8);
//!     let owner = Owner::new(client.clone(), keys, Path::new("/var/lib/cairn/owner"), config);
//!
//!     let meta = EntryMeta {
//!         path: EntryPath::new("hello.txt")?,
//!         kind: EntryMetaKind::File,
//!         mode: 0o644,
//!         modified_ms: 0,
//!     };
//!     let source = reader_source(meta, Cursor::new(b"hello, world".to_vec()));
//!     let show = |at: &UploadProgress| tracing::info!("{at}");
//!     let uploaded = owner.upload(source, UploadOptions::default(), show).await?;
//!     owner.close().await?;
//!
//!     // A link is a text; who has it can read until it expires.
//!     let link: Link = uploaded.link.to_string().parse()?;
//!     let opened = client.open(&link).await?;
//!     let file = opened.only_file().ok_or("a link to one file")?;
//!     Ok(file.read_range(0, 5).await?.to_vec())
//! }
//! ```
//!
//! **The way of a byte up**: [`upload::Source`] reads it into a segment's memory
//! ([`memory`]), [`cipher`] encrypts it there, `cairn_coding` makes parity beside it, each shard is
//! hashed once, [`upload`] puts the shards from there to n nodes, [`book`] remembers the segment,
//! and a revision commits to it on the ledger. **And down**: [`read`] gets it from the node that
//! has it, or from any k others, verifies it against the record that the owner signed, decrypts
//! it in place and hands that memory up.
//!
//! **Guarantees.** What [`Owner::upload`] reports as durable stays readable while at most n - k
//! slots are lost or lag (I1). No unverified byte is handed up, and who served it is named (I2). Memory
//! is bounded by [`ClientConfig::memory`] (I9). Nodes see neither plaintext nor names, sizes of files or
//! keys (I8). A crash at any disk call loses nothing that was reported, and an interrupted upload goes
//! on where it was. **Fails** with one error type per operation; each says with `retry()` what to do
//! and with `blame()` whose fault it is.
//!
//! Formats are drafts, in `docs/protocol/client-formats.md`.

pub mod book;
pub mod cipher;
pub mod client;
pub mod group_view;
pub mod index;
pub mod journal;
pub mod key;
pub mod link;
pub mod memory;
pub mod owner;
mod peers;
pub mod read;
mod record_cache;
pub mod segment;
pub mod segment_store;
pub mod stat;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod upload;
#[cfg(test)]
mod vectors;
mod width;

pub use client::{Client, ClientConfig};
pub use index::{Entry, EntryKind, EntryPath, FileIndex, UploadKind};
pub use key::OwnerKeys;
pub use link::{Link, ParseLinkError};
pub use owner::{Owner, OwnerConfig, Removed};
pub use read::{ByteStream, OpenFile, Opened, ReadError, TreeItem, TreeStream};
pub use stat::Stat;
pub use upload::{UploadError, UploadOptions, UploadProgress, Uploaded};
