//! The key of a store: found, or made for an empty folder.

use std::path::Path;

use cairn_core::Record;
use cairn_runtime::{Disk, DiskFile};

use super::super::error::StoreError;
use super::super::format::{CHECKSUM_BYTES, PAGE_BYTES, StoreIdentity, StoreKey};
use super::super::pack::{PackFiles, PackName};

/// Name of the file with the store's key.
const IDENTITY_FILE: &str = "identity";
/// Most bytes of that file.
const IDENTITY_BYTES_MAX: u64 = 4096;

/// The store's key: from its file, else from a pack, else fresh in an empty folder.
pub(super) fn identify<D: Disk>(
    disk: &D,
    folder: &Path,
    packs: &PackFiles<D>,
    fresh: StoreKey,
) -> Result<StoreKey, StoreError> {
    let path = folder.join(IDENTITY_FILE);
    let found = match disk.read_file(&path, IDENTITY_BYTES_MAX) {
        Ok(bytes) => parse_identity(&bytes),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(key) = found {
        return Ok(key);
    }
    let mut any = false;
    let mut key = None;
    for name in packs.list()? {
        if let PackName::Pack(number) = name {
            let page = packs.first_page(number)?;
            any |= page.is_some() || packs.file(number)?.len()? > u64::from(PAGE_BYTES);
            key = key.or_else(|| page.map(|page| page.store.key()));
        }
    }
    let key = match key {
        Some(key) => key,
        None if any => {
            let folder = folder.display().to_string();
            return Err(StoreError::Foreign { folder });
        }
        None => fresh,
    };
    disk.replace_file(&path, &key.seal(&StoreIdentity::new(key)))?;
    Ok(key)
}

/// Reads the identity, which proves itself with the key that it has.
fn parse_identity(bytes: &[u8]) -> Option<StoreKey> {
    let (record, _) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    let key = StoreIdentity::decode(record).ok()?.key();
    key.open::<StoreIdentity>(bytes)
        .map(|identity| identity.key())
}
