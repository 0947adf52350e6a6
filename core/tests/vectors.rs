//! Golden vectors: `tests/vectors/core.json` freezes the encoding of every record of this crate.
//!
//! Set `CAIRN_WRITE_VECTORS=1` to write the file anew; a commit that changes it carries a
//! `Format-Change:` trailer.

#![expect(clippy::unwrap_used, reason = "a failed test")]

use std::collections::BTreeMap;

use cairn_core::message::{
    ControlRequest, ControlResponse, DataRequest, DataResponse, RecordEntry, ShardRange,
    SlotStatus, WithRecord,
};
use cairn_core::{
    Bounded, ByteCount, Capability, CapabilityLink, Code, Digest, EpochNumber, ErrorCode,
    FencingNumber, GroupId, GroupRecord, GroupRevision, GroupRoot, HeadNumber, Height, NodeId,
    NodeRecord, Profile, Receipt, Record, RevisionDetail, RevisionNumber, Right, Scope, SecretKey,
    SegmentNumber, SegmentRecord, ShardRoot, Signed, SlotIndex, SlotRoot, Text, UnixMillis,
    VolumeHead, VolumeId,
};
use data_encoding::HEXLOWER;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/core.json");

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

fn digest(seed: u8) -> Digest {
    Digest::of(&[seed])
}

fn group() -> GroupId {
    GroupId::new(digest(1))
}

fn segment_record() -> SegmentRecord {
    let code = Profile::Dev4.code();
    let roots = (0..4)
        .map(|slot| ShardRoot::new(digest(10 + slot)))
        .collect();
    SegmentRecord {
        group: group(),
        number: SegmentNumber::new(7),
        code,
        payload_bytes: 131_073,
        shard_roots: Bounded::new(roots).unwrap(),
    }
}

fn revision() -> GroupRevision {
    GroupRevision {
        group: group(),
        number: RevisionNumber::new(3),
        segment_count: 9,
        slot_bytes: ByteCount::new(590_000),
        group_root: GroupRoot::new(digest(2)),
    }
}

fn detail() -> RevisionDetail {
    let roots = (0..4)
        .map(|slot| SlotRoot::new(digest(20 + slot)))
        .collect();
    RevisionDetail {
        revision: revision(),
        slot_roots: Bounded::new(roots).unwrap(),
        emptied: Bounded::new(vec![SegmentNumber::new(1), SegmentNumber::new(4)]).unwrap(),
    }
}

fn capability() -> Capability {
    let link = CapabilityLink {
        scope: Scope::Group(group()),
        right: Right::Write,
        holder: key(2).public(),
        expires_at: UnixMillis::new(1_800_000_000_000),
    };
    Capability::issue(link, &key(1))
        .delegate(
            &key(2),
            key(3).public(),
            Right::Read,
            UnixMillis::new(1_700_000_000_000),
        )
        .unwrap()
}

fn receipt() -> Receipt {
    Receipt {
        node: NodeId::new(key(4).public()),
        group: group(),
        slot: SlotIndex::new(2),
        segment: SegmentNumber::new(7),
        shard_root: ShardRoot::new(digest(12)),
        shard_bytes: 65_537,
    }
}

fn volume_head() -> VolumeHead {
    VolumeHead {
        volume: VolumeId::new(digest(13)),
        number: HeadNumber::new(9),
        fencing: FencingNumber::new(2),
        salt: [14; 16],
        sealed: Bounded::new(vec![15; 86]).unwrap(),
    }
}

fn node_record() -> NodeRecord {
    NodeRecord {
        node: NodeId::new(key(4).public()),
        made_at: UnixMillis::new(1_764_000_000_000),
        control: Bounded::new(vec![Text::new("/ip4/192.0.2.1/tcp/4001").unwrap()]).unwrap(),
        data: Bounded::new(vec![Text::new("192.0.2.1:4002").unwrap()]).unwrap(),
    }
}

fn group_record() -> GroupRecord {
    let slots = (4..8).map(|seed| NodeId::new(key(seed).public())).collect();
    GroupRecord {
        group: group(),
        height: Height::new(77),
        code: Profile::Dev4.code(),
        slots: Bounded::new(slots).unwrap(),
    }
}

fn status() -> SlotStatus {
    SlotStatus {
        revision: RevisionNumber::new(3),
        slot_root: SlotRoot::new(digest(22)),
        shard_count: 7,
        slot_bytes: ByteCount::new(590_000),
        lacking_count: 1,
    }
}

/// Checks that `record` encodes, decodes to itself, and returns the hex of its encoding.
fn hex<T: Record + PartialEq + std::fmt::Debug>(record: &T) -> String {
    let bytes = record.encode();
    assert_eq!(&T::decode(&bytes).unwrap(), record);
    HEXLOWER.encode(&bytes)
}

fn signed<T: Record + Clone + PartialEq + std::fmt::Debug>(record: T, seed: u8) -> Signed<T> {
    let signed = Signed::sign(record.clone(), &key(seed));
    assert_eq!(signed.verify_by(key(seed).public()).unwrap(), &record);
    assert!(signed.verify_by(key(seed + 1).public()).is_err());
    signed
}

fn data_messages() -> Vec<(&'static str, String)> {
    let record = signed(segment_record(), 1);
    let present = DataRequest::Present(capability());
    let put = DataRequest::Put {
        slot: SlotIndex::new(2),
        record: record.clone(),
    };
    let range = ShardRange {
        offset: 1_024,
        bytes: 65_536,
    };
    let get = DataRequest::Get {
        group: group(),
        slot: SlotIndex::new(2),
        segment: SegmentNumber::new(7),
        range,
        record: WithRecord::Yes,
    };
    let records = DataRequest::Records {
        group: group(),
        from: SegmentNumber::new(2),
        count: 64,
    };
    let page = vec![
        RecordEntry::Emptied(SegmentNumber::new(2)),
        RecordEntry::Missing(SegmentNumber::new(3)),
        RecordEntry::Kept(record.clone()),
    ];
    let page = DataResponse::Records {
        entries: Bounded::new(page).unwrap(),
        segment_count: 9,
    };
    let shard = DataResponse::Shard {
        record: Some(record),
        range,
        proof_bytes: 640,
    };
    let error = DataResponse::Error {
        code: ErrorCode::NoSuchShard,
        text: Text::new("segment 7").unwrap(),
    };
    let audit = DataRequest::Audit {
        epoch: EpochNumber::new(9),
        number: 3,
    };
    let audited = DataResponse::Audited(Bounded::new(b"a proof".to_vec()).unwrap());
    vec![
        ("data request present", hex(&present)),
        ("data request put", hex(&put)),
        ("data request get", hex(&get)),
        ("data request records", hex(&records)),
        ("data request audit", hex(&audit)),
        ("data response done", hex(&DataResponse::Done)),
        (
            "data response receipt",
            hex(&DataResponse::Receipt(signed(receipt(), 4))),
        ),
        ("data response shard", hex(&shard)),
        ("data response records", hex(&page)),
        ("data response error", hex(&error)),
        ("data response audited", hex(&audited)),
    ]
}

fn control_messages() -> Vec<(&'static str, String)> {
    let slot = SlotIndex::new(2);
    let ledger = Bounded::new(vec![1, 2, 3]).unwrap();
    let error = ControlResponse::Error {
        code: ErrorCode::Unknown(999),
        text: Text::new("x").unwrap(),
    };
    vec![
        (
            "control request revise",
            hex(&ControlRequest::Revise {
                slot,
                detail: signed(detail(), 4),
            }),
        ),
        (
            "control request detail",
            hex(&ControlRequest::Detail { group: group() }),
        ),
        (
            "control request slot",
            hex(&ControlRequest::Slot {
                group: group(),
                slot,
            }),
        ),
        (
            "control request ledger",
            hex(&ControlRequest::Ledger(ledger.clone())),
        ),
        (
            "control response slot",
            hex(&ControlResponse::Slot(status())),
        ),
        (
            "control response detail",
            hex(&ControlResponse::Detail(signed(detail(), 4))),
        ),
        (
            "control response ledger",
            hex(&ControlResponse::Ledger(ledger)),
        ),
        ("control response error", hex(&error)),
    ]
}

fn vectors() -> BTreeMap<String, String> {
    let link = CapabilityLink {
        scope: Scope::Group(group()),
        right: Right::Read,
        holder: key(3).public(),
        expires_at: UnixMillis::new(1_700_000_000_000),
    };
    let mut all = vec![
        ("segment", hex(&segment_record())),
        ("signed segment", hex(&signed(segment_record(), 1))),
        ("group revision", hex(&revision())),
        ("revision detail", hex(&detail())),
        ("receipt", hex(&signed(receipt(), 4))),
        ("volume head", hex(&signed(volume_head(), 1))),
        ("capability link", hex(&link)),
        ("capability", hex(&capability())),
        ("node", hex(&signed(node_record(), 4))),
        ("group", hex(&signed(group_record(), 4))),
        (
            "cid of a shard root",
            ShardRoot::new(Digest::of(b"cairn")).to_cid().to_string(),
        ),
    ];
    all.extend(data_messages());
    all.extend(control_messages());
    all.into_iter()
        .map(|(name, hex)| (name.to_owned(), hex))
        .collect()
}

#[test]
fn records_encode_as_the_golden_vectors_say() {
    let made = vectors();
    if std::env::var_os("CAIRN_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        std::fs::write(PATH, text).unwrap();
    }
    let text = std::fs::read_to_string(PATH).unwrap();
    let golden: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    for (name, hex) in &made {
        assert_eq!(golden.get(name), Some(hex), "vector {name:?} changed");
    }
    assert_eq!(golden.len(), made.len(), "a vector has no record any more");
}

/// CID of the text `cairn`, from an independent construction: version 1, raw, blake3, 32 bytes.
#[test]
fn cids_are_cidv1_raw_blake3() {
    let mut bytes = vec![0x01, 0x55, 0x1e, 0x20];
    bytes.extend_from_slice(blake3::hash(b"cairn").as_bytes());
    let expected = format!(
        "b{}",
        data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase()
    );
    let root = ShardRoot::new(Digest::of(b"cairn"));
    assert_eq!(root.to_cid().to_string(), expected);
    assert_eq!(ShardRoot::from_cid(&root.to_cid()), Some(root));
}

#[test]
fn a_code_of_the_widest_records_stays_under_every_bound() {
    let code = Code::new(64, 128).unwrap();
    let roots = (0..128).map(|slot| ShardRoot::new(digest(slot))).collect();
    let record = SegmentRecord {
        group: group(),
        number: SegmentNumber::new(u32::MAX),
        code,
        payload_bytes: 64 << 22,
        shard_roots: Bounded::new(roots).unwrap(),
    };
    let record = signed(record, 1);
    let page = vec![RecordEntry::Kept(record.clone()); 64];
    assert!(!hex(&record).is_empty());
    let response = DataResponse::Records {
        entries: Bounded::new(page).unwrap(),
        segment_count: 1,
    };
    assert!(!hex(&response).is_empty());
    let emptied = (0..1 << 16).map(SegmentNumber::new).collect();
    let slot_roots = (0..128).map(|slot| SlotRoot::new(digest(slot))).collect();
    let revision = GroupRevision {
        segment_count: 1 << 20,
        ..revision()
    };
    let detail = RevisionDetail {
        revision,
        slot_roots: Bounded::new(slot_roots).unwrap(),
        emptied: Bounded::new(emptied).unwrap(),
    };
    assert!(
        !hex(&ControlRequest::Revise {
            slot: SlotIndex::new(127),
            detail: signed(detail, 4)
        })
        .is_empty()
    );
}
