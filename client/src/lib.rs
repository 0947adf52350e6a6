//! The owner's library: groups, segments, upload, download, links.
