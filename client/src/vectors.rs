//! Golden vectors: `tests/vectors/client.json` freezes the formats of this crate.
//!
//! Set `CAIRN_WRITE_VECTORS=1` to write the file anew; a commit that changes it carries a
//! `Format-Change:` trailer.

use std::collections::BTreeMap;

use cairn_core::{
    Bounded, ByteCount, Code, Digest, GroupId, GroupRevision, GroupRoot, Record, RevisionDetail,
    RevisionNumber, SegmentNumber, SegmentRecord, ShardRoot, Signed, SlotRoot,
};
use data_encoding::HEXLOWER;

use crate::book::{BookEntry, FinishedSegment, Opened, UploadHeader};
use crate::cipher::{Salt, SegmentCipher, TAG_BYTES};
use crate::key::{ContentKey, OwnerKeys, UploadId};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/client.json");

fn group() -> GroupId {
    GroupId::new(Digest::new([7; 32]))
}

fn keys() -> OwnerKeys {
    OwnerKeys::from_seed(&[1; 32])
}

fn hex<T: Record + PartialEq + std::fmt::Debug>(record: &T) -> String {
    let bytes = record.encode();
    assert_eq!(T::decode(&bytes).as_ref(), Ok(record));
    HEXLOWER.encode(&bytes)
}

/// A frame of 40 bytes 0, 1, 2 ... under a key, salt, place and number that are all given.
fn frame() -> String {
    let key = ContentKey::from_bytes(&[2; 32]);
    let cipher = SegmentCipher::new(&key, group(), SegmentNumber::new(5), Salt::new([3; 16]));
    let mut buffer: Vec<u8> = (0..40).collect();
    buffer.extend_from_slice(&[0; TAG_BYTES]);
    cipher.seal(9, &mut buffer);
    HEXLOWER.encode(&buffer)
}

fn entries() -> Vec<(&'static str, BookEntry)> {
    let code = Code::new(2, 4).unwrap();
    let opened = Opened {
        group: group(),
        owner: keys().account(),
        code,
        slot_capacity: ByteCount::new(1 << 30),
        shard_bytes_max: 1 << 20,
    };
    let roots = (0..4).map(|n| ShardRoot::new(Digest::new([n; 32])));
    let record = SegmentRecord {
        group: group(),
        number: SegmentNumber::new(3),
        code,
        payload_bytes: 116,
        shard_roots: Bounded::new(roots.collect()).unwrap(),
    };
    let finished = FinishedSegment {
        upload: UploadId::new([4; 16]),
        position: 1_000,
        plain_bytes: 100,
        salt: Salt::new([5; 16]),
        record: Signed::sign(record, keys().identity()),
    };
    let revision = GroupRevision {
        group: group(),
        number: RevisionNumber::new(2),
        segment_count: 4,
        slot_bytes: ByteCount::new(58),
        group_root: GroupRoot::new(Digest::new([8; 32])),
    };
    let roots = (0..4).map(|n| SlotRoot::new(Digest::new([n; 32])));
    let detail = RevisionDetail {
        revision,
        slot_roots: Bounded::new(roots.collect()).unwrap(),
        emptied: Bounded::new(vec![SegmentNumber::new(1)]).unwrap(),
    };
    let emptied = Bounded::new(vec![SegmentNumber::new(1), SegmentNumber::new(2)]).unwrap();
    let header = UploadHeader {
        upload: UploadId::new([4; 16]),
        source: Digest::new([6; 32]),
        code,
    };
    vec![
        ("book opened", BookEntry::Opened(opened)),
        ("book reserved", BookEntry::Reserved(64)),
        ("book finished", BookEntry::Finished(finished)),
        ("book emptied", BookEntry::Emptied(emptied)),
        ("book revising", BookEntry::Revising(detail)),
        ("book revised", BookEntry::Revised(revision)),
        ("book delivered", BookEntry::Delivered(revision.number)),
        ("book closed", BookEntry::Closed(4)),
        ("book upload", BookEntry::Upload(header)),
        ("book upload group", BookEntry::UploadGroup(group())),
    ]
}

fn vectors() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut put = |name: &str, value: String| {
        assert!(
            found.insert(name.to_owned(), value).is_none(),
            "{name} twice"
        );
    };
    let content = keys().content_key(UploadId::new([4; 16]));
    put("owner seed", HEXLOWER.encode(&[1; 32]));
    put("owner account", keys().account().to_string());
    put("content key", HEXLOWER.encode(content.as_bytes()));
    put("link holder", content.holder().public().to_string());
    put("frame", frame());
    put("file index", hex(&crate::index::tests::sample()));
    let link = crate::link::tests::sample(2);
    put("link", HEXLOWER.encode(&link.record_bytes()));
    put("link text", link.to_string());
    for (name, entry) in entries() {
        put(name, hex(&entry));
    }
    found
}

#[test]
fn formats_are_frozen() {
    let mut text = serde_json::to_string_pretty(&vectors()).unwrap();
    text.push('\n');
    if std::env::var_os("CAIRN_WRITE_VECTORS").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let frozen = std::fs::read_to_string(PATH).unwrap();
    assert_eq!(text, frozen, "a format changed: see the head of this file");
}

/// The frame's vector against the library that names the cipher.
#[test]
fn the_frame_vector_is_the_library_s() {
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

    let mut nonce = [3; 24];
    nonce[16..].copy_from_slice(&9_u64.to_le_bytes());
    let mut aad = vec![1];
    aad.extend_from_slice(group().as_bytes());
    aad.extend_from_slice(&5_u32.to_le_bytes());
    aad.extend_from_slice(&9_u64.to_le_bytes());
    let msg: Vec<u8> = (0..40).collect();
    let payload = Payload {
        msg: &msg,
        aad: &aad,
    };
    let sealed = XChaCha20Poly1305::new(&Key::from([2; 32])).encrypt(&XNonce::from(nonce), payload);
    assert_eq!(HEXLOWER.encode(&sealed.unwrap()), frame());
}
