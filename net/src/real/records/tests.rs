//! The record store: what it keeps, refuses and forgets.

use cairn_core::{
    AccountId, Bounded, Code, GroupId, GroupRecord, Height, NodeId, NodeRecord, Record, SecretKey,
    Signed,
};
use cairn_runtime::{RealDisk, RealRuntime};

use super::log::RecordLog;
use super::*;
use crate::RecordKey;

/// Room for this many records in the tests of bounds.
const COUNT_MAX: usize = 8;

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn node(key: &SecretKey) -> NodeId {
    NodeId::new(key.public())
}

fn peer(number: u8) -> PeerId {
    crate::real::identity::keypair(&secret(number))
        .public()
        .to_peer_id()
}

fn node_record(key: &SecretKey, made_at: UnixMillis) -> (Digest, Vec<u8>) {
    let record = NodeRecord {
        node: node(key),
        made_at,
        control: Bounded::empty(),
        data: Bounded::empty(),
    };
    let digest = RecordKey::Node(node(key)).digest();
    (digest, Signed::sign(record, key).encode())
}

fn group_record(height: u64, signer: &SecretKey, slots: &[&SecretKey]) -> (Digest, Vec<u8>) {
    let group = GroupId::new(Digest::of(b"group"));
    let record = GroupRecord {
        group,
        height: Height::new(height),
        code: Code::new(1, 2).unwrap(),
        slots: Bounded::new(slots.iter().map(|key| node(key)).collect()).unwrap(),
    };
    let owner = AccountId::from(signer.public());
    let digest = RecordKey::Group { group, owner }.digest();
    (digest, Signed::sign(record, signer).encode())
}

fn records(runtime: &RealRuntime) -> Records<RealRuntime> {
    Records::new(runtime.clone(), peer(0), COUNT_MAX, 1 << 20)
}

fn now(runtime: &RealRuntime) -> UnixMillis {
    UnixMillis::from_unix(runtime.now())
}

#[tokio::test]
async fn a_node_record_is_taken_from_its_node_only() {
    let runtime = RealRuntime::current();
    let mut kept = records(&runtime);
    let (key, value) = node_record(&secret(1), now(&runtime));
    kept.insert(key, &value, Origin::Others).unwrap();
    assert_eq!(kept.value(key), Some(value.as_slice()));

    let forged = Signed::sign(
        NodeRecord {
            node: node(&secret(1)),
            made_at: now(&runtime).saturating_add(Duration::from_secs(9)),
            control: Bounded::empty(),
            data: Bounded::empty(),
        },
        &secret(2),
    );
    let refused = kept.insert(key, &forged.encode(), Origin::Others);
    assert!(
        matches!(refused, Err(RecordError::Signature(_))),
        "{refused:?}"
    );

    let elsewhere = RecordKey::Node(node(&secret(3))).digest();
    let refused = kept.insert(elsewhere, &value, Origin::Others);
    assert_eq!(refused, Err(RecordError::Key));
    assert_eq!(kept.value(key), Some(value.as_slice()));
}

#[tokio::test]
async fn the_newest_node_record_wins() {
    let runtime = RealRuntime::current();
    let mut kept = records(&runtime);
    let now = now(&runtime);
    let later = now.saturating_add(Duration::from_secs(5));
    let (key, old) = node_record(&secret(1), now);
    let (_, new) = node_record(&secret(1), later);
    kept.insert(key, &new, Origin::Others).unwrap();
    assert_eq!(
        kept.insert(key, &old, Origin::Others),
        Err(RecordError::Older)
    );
    assert_eq!(kept.value(key), Some(new.as_slice()));
    kept.insert(key, &new, Origin::Others).unwrap();
}

#[tokio::test]
async fn records_from_other_times_are_refused() {
    let runtime = RealRuntime::current();
    let mut kept = records(&runtime);
    let now = now(&runtime);
    let (key, future) = node_record(&secret(1), now.saturating_add(Duration::from_secs(7_200)));
    let refused = kept.insert(key, &future, Origin::Others);
    assert!(matches!(refused, Err(RecordError::Future { .. })));
    let (key, past) = node_record(&secret(1), UnixMillis::new(now.get() - 49 * 3_600_000));
    let refused = kept.insert(key, &past, Origin::Others);
    assert!(matches!(refused, Err(RecordError::Expired { .. })));
}

#[tokio::test]
async fn a_group_record_of_anybody_but_the_owner_is_under_another_key() {
    let runtime = RealRuntime::current();
    let mut kept = records(&runtime);
    let slots = [&secret(1), &secret(2)];
    let owner = secret(5);
    let (key, genuine) = group_record(5, &owner, &slots);
    kept.insert(key, &genuine, Origin::Others).unwrap();
    // A stranger, and a node that the record names, each with itself in every slot.
    for usurper in [&secret(7), &secret(1)] {
        let (other, false_one) = group_record(u64::MAX, usurper, &[usurper, usurper]);
        assert_ne!(other, key);
        assert_eq!(
            kept.insert(key, &false_one, Origin::Others),
            Err(RecordError::Key)
        );
        kept.insert(other, &false_one, Origin::Others).unwrap();
    }
    assert_eq!(kept.value(key), Some(genuine.as_slice()));
    let (_, newer) = group_record(6, &owner, &slots);
    kept.insert(key, &newer, Origin::Others).unwrap();
    assert_eq!(
        kept.insert(key, &genuine, Origin::Others),
        Err(RecordError::Older)
    );
    assert_eq!(kept.value(key), Some(newer.as_slice()));
}

#[tokio::test]
async fn garbage_is_refused() {
    let runtime = RealRuntime::current();
    let mut kept = records(&runtime);
    let (key, value) = node_record(&secret(1), now(&runtime));
    for end in 0..value.len() {
        assert!(kept.insert(key, &value[..end], Origin::Others).is_err());
    }
    for at in 0..value.len() {
        let mut flipped = value.clone();
        flipped[at] ^= 1;
        assert!(
            kept.insert(key, &flipped, Origin::Others).is_err(),
            "byte {at}"
        );
    }
    let huge = vec![0; crate::RECORD_BYTES_MAX + 1];
    let refused = kept.insert(key, &huge, Origin::Others);
    assert!(matches!(refused, Err(RecordError::TooLarge { .. })));
    assert_eq!(kept.count(), 0);
}

#[tokio::test]
async fn the_farthest_goes_when_full_and_ours_stays() {
    let runtime = RealRuntime::current();
    let mut kept = records(&runtime);
    let now = now(&runtime);
    let mut all: Vec<_> = (1..=20)
        .map(|number| node_record(&secret(number), now))
        .collect();
    let local = KBucketKey::from(peer(0));
    all.sort_by_key(|(key, _)| local.distance(&KBucketKey::new(key.as_bytes().to_vec())));
    let (farthest, value) = all.last().unwrap().clone();
    kept.insert(farthest, &value, Origin::Ours).unwrap();
    for (key, value) in all.iter().rev() {
        // Those that are farther than what is kept find no room.
        let _kept_or_not = kept.insert(*key, value, Origin::Others);
    }
    assert_eq!(kept.count(), COUNT_MAX);
    assert!(kept.value(farthest).is_some(), "ours stays");
    for (key, _) in &all[..COUNT_MAX - 1] {
        assert!(kept.value(*key).is_some(), "the nearest stay");
    }
    let (key, value) = &all[COUNT_MAX + 1];
    assert_eq!(
        kept.insert(*key, value, Origin::Others),
        Err(RecordError::NoRoom)
    );
}

#[tokio::test]
async fn the_log_brings_records_back_and_cuts_a_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    let runtime = RealRuntime::current();
    let mut kept = records(&runtime);
    let disk = RealDisk::new();
    let (mut log, entries) = RecordLog::open(disk.clone(), &path, 1 << 20).unwrap();
    assert_eq!(entries, Vec::new());

    let (first, value) = node_record(&secret(1), now(&runtime));
    kept.insert(first, &value, Origin::Ours).unwrap();
    log.append(&kept.take_dirty()).unwrap();
    let (second, value) = node_record(&secret(2), now(&runtime));
    kept.insert(second, &value, Origin::Others).unwrap();
    log.append(&kept.take_dirty()).unwrap();
    assert_eq!(kept.take_dirty(), Vec::new());
    drop(log);

    let content = std::fs::read(&path).unwrap();
    for end in 0..=content.len() {
        std::fs::write(&path, &content[..end]).unwrap();
        let (_, entries) = RecordLog::open(disk.clone(), &path, 1 << 20).unwrap();
        let mut back = records(&runtime);
        back.restore(entries);
        let expected = usize::from(end >= content.len() / 2) + usize::from(end == content.len());
        assert_eq!(back.count(), expected, "cut at {end} of {}", content.len());
    }
    std::fs::write(&path, &content).unwrap();
    let (mut log, entries) = RecordLog::open(disk.clone(), &path, 1 << 20).unwrap();
    let mut back = records(&runtime);
    back.restore(entries);
    assert_eq!(back.ours(), vec![first]);
    log.rewrite(&back.snapshot()).unwrap();
    let (_, entries) = RecordLog::open(disk, &path, 1 << 20).unwrap();
    assert_eq!(entries.len(), 2);
}
