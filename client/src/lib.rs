//! The owner's library: groups, segments, upload, download, links.

pub mod cipher;
pub mod index;
pub mod key;
pub mod link;
pub mod memory;
mod width;
