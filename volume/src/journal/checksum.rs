//! Checksums of the journal. They detect accident; keys keep data that others chose from being taken for
//! records.

/// Domain of the keys of files.
const KEY_CONTEXT: &str = "cairn 1 volume journal file key";

/// The key of a file's checksums.
pub(super) type FileKey = [u8; 32];
/// The first bytes of a digest.
pub(super) type Checksum = [u8; 8];

/// The key of a new file: nobody who brings data knows it.
pub(super) fn file_key(entropy: &[u8; 16], number: u64) -> FileKey {
    let mut hasher = blake3::Hasher::new_derive_key(KEY_CONTEXT);
    hasher.update(entropy).update(&number.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// The checksum of parts that follow each other, under a file's key.
pub(super) fn keyed(key: &FileKey, parts: &[&[u8]]) -> Checksum {
    over(blake3::Hasher::new_keyed(key), parts)
}

/// The checksum of parts that follow each other, in a domain.
pub(super) fn in_domain(context: &str, parts: &[&[u8]]) -> Checksum {
    over(blake3::Hasher::new_derive_key(context), parts)
}

fn over(mut hasher: blake3::Hasher, parts: &[&[u8]]) -> Checksum {
    for part in parts {
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let first = digest.as_bytes().first_chunk();
    *first.expect("a digest has 32 bytes")
}
