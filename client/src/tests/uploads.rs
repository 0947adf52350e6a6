//! Uploads.

use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_core::{Blame, Bounded, ByteCount, Digest, ErrorCode, Retry, SegmentNumber, SlotIndex};
use cairn_runtime::{RealRuntime, Runtime};

use crate::client::ClientConfig;
use crate::index::{EntryKind, EntryPath};
use crate::link::Link;
use crate::owner::OwnerConfig;
use crate::read::{ReadError, TreeItem};
use crate::testing::{Behaviour, Lie, TestClient, World, noise, small};
use crate::tests::resumes::Breaks;
use crate::tests::{file, run};
use crate::upload::{
    EntryMeta, EntryMetaKind, PutFailure, ReviseAt, SourceError, StreamSource, Tree, TreeEntry,
    TreeSource, UploadError, UploadOptions, UploadProgress, reader_source,
};

/// All of a link's one file.
pub(super) async fn download<R: Runtime>(
    client: &TestClient<R>,
    link: &Link,
) -> Result<Vec<u8>, ReadError> {
    let open = client.open(link).await?.only_file().unwrap();
    let mut stream = open.stream(0, open.bytes())?;
    let mut found = Vec::new();
    while let Some(part) = stream.next().await? {
        found.extend_from_slice(&part);
    }
    Ok(found)
}

fn quiet(_: &UploadProgress) {}

fn resumable() -> UploadOptions {
    UploadOptions {
        source: Some(Digest::new([3; 32])),
        revise: ReviseAt::End,
    }
}

#[test]
fn what_was_uploaded_comes_back() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        for bytes in [0, 1, 8_192, 8_193, 5 << 20, 9_000_001] {
            let text = noise(bytes, 1);
            let source = reader_source(file("a file"), Cursor::new(text.clone()));
            let done = owner
                .upload(source, UploadOptions::default(), quiet)
                .await
                .unwrap();
            assert_eq!(
                done.progress.bytes_durable,
                u64::try_from(text.len()).unwrap()
            );
            assert!(done.slots.iter().all(|slot| slot.left_count == 0));
            let link = done.link.to_string().parse().unwrap();
            let found = download(&world.client(9), &link).await.unwrap();
            assert!(found == text, "{bytes} bytes");
        }
        owner.close().await.unwrap();
        assert_eq!(owner.client().memory().bytes_used(), 0);
    });
}

#[test]
fn a_stream_is_uploaded_and_told_of() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let text = noise(6_000_000, 2);
        let source = StreamSource::new(file("stdin"), Cursor::new(text.clone()));
        let told = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&told);
        let progress = move |at: &UploadProgress| ear.lock().unwrap().push(*at);
        let done = owner
            .upload(source, UploadOptions::default(), progress)
            .await
            .unwrap();
        let told = told.lock().unwrap().clone();
        assert!(told.is_sorted_by_key(|at| (at.bytes_read, at.bytes_durable)));
        assert_eq!(told.last(), Some(&done.progress));
        assert_eq!(done.progress.bytes_read, 6_000_000);
        let found = download(&world.client(9), &done.link).await.unwrap();
        assert!(found == text);
    });
}

/// I1: an acknowledged byte stays readable while at most n - k slots are lost or lag.
#[test]
fn i1_no_silent_loss_with_one_absent_at_upload_and_three_lost_later() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let ids: Vec<_> = world.nodes.keys().copied().collect();
        let text = noise(3 << 20, 3);
        let before = upload(&owner, &text).await;
        world.kill(ids[0]);
        let done = upload(&owner, &text).await;
        let left: Vec<_> = done
            .slots
            .iter()
            .filter(|slot| slot.left_count > 0)
            .collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].node, Some(ids[0]));
        assert!(left[0].last_failure.is_some());
        for id in &ids[1..4] {
            world.kill(*id);
        }
        for link in [&before.link, &done.link] {
            assert!(download(&world.client(9), link).await.unwrap() == text);
        }
        world.kill(ids[4]);
        let error = download(&world.client(10), &done.link).await.unwrap_err();
        let ReadError::TooFewSlots {
            needed,
            expected,
            missing,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((*needed, *expected, missing.len()), (4, 8, 5));
        assert!(
            missing
                .iter()
                .all(|slot| ids[..5].contains(&slot.node.unwrap()))
        );
        assert_eq!((error.retry(), error.blame()), (Retry::Later, Blame::World));
        assert!(
            error.to_string().contains("5 of 8 slots missing"),
            "{error}"
        );
    });
}

pub(super) async fn upload<R: Runtime>(
    owner: &crate::testing::TestOwner<R>,
    text: &[u8],
) -> crate::upload::Uploaded {
    let source = reader_source(file("a"), Cursor::new(text.to_vec()));
    owner
        .upload(source, UploadOptions::default(), quiet)
        .await
        .unwrap()
}

#[test]
fn too_few_receipts_name_the_slots() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        upload(&owner, b"opens the group").await;
        let ids: Vec<_> = world.nodes.keys().copied().collect();
        world.kill(ids[0]);
        world.node(ids[1]).behave(Behaviour {
            refuses_puts: Some(ErrorCode::DiskFull),
            ..Behaviour::default()
        });
        let source = reader_source(file("a"), Cursor::new(noise(100, 4)));
        let error = owner
            .upload(source, UploadOptions::default(), quiet)
            .await
            .unwrap_err();
        let UploadError::NotDurable(error) = error else {
            panic!("{error}");
        };
        assert_eq!((error.expected, error.found), (7, 6));
        let nodes: Vec<_> = error
            .failures
            .iter()
            .filter_map(|failed| failed.node)
            .collect();
        assert_eq!(nodes.len(), 2);
        assert!(nodes.contains(&ids[0]) && nodes.contains(&ids[1]));
        // The number that was used is emptied, and the group goes on.
        world.hub.bring_up(ids[0]);
        let done = upload(&owner, b"again").await;
        assert_eq!(
            download(&world.client(9), &done.link).await.unwrap(),
            b"again"
        );
    });
}

/// The nodes went away while a segment was put: its leaf is emptied by a revision that none of
/// them is told of, and the next detail tells them.
#[test]
fn slots_are_told_later_what_was_emptied_while_they_were_away() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let first = upload(&owner, b"opens the group").await;
        let group = first.link.groups().next().unwrap();
        let ids: Vec<_> = world.nodes.keys().copied().collect();
        ids.iter().for_each(|id| world.kill(*id));
        let source = reader_source(file("a"), Cursor::new(noise(100, 4)));
        let failed = owner.upload(source, UploadOptions::default(), quiet).await;
        let error = failed.unwrap_err();
        assert!(matches!(error, UploadError::NotDurable(_)), "{error}");
        owner.sync().await.unwrap();
        let emptied = SegmentNumber::new(1);
        assert_eq!(
            world
                .ledger
                .group_now(group)
                .unwrap()
                .revision
                .segment_count,
            2
        );
        for id in &ids {
            world.hub.bring_up(*id);
        }
        upload(&owner, b"again").await;
        for (slot, deal) in (0..)
            .map(SlotIndex::new)
            .zip(&world.ledger.group_now(group).unwrap().deals)
        {
            let detail = world.node(deal.node).detail(group, slot).unwrap();
            assert_eq!(detail.emptied.to_vec(), [emptied], "slot {slot}");
        }
    });
}

#[test]
fn a_node_with_false_receipts_does_not_count() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let liar = *world.nodes.keys().next().unwrap();
        world.node(liar).behave(Lie::FalseReceipts.behaviour());
        let done = upload(&owner, &noise(1_000, 5)).await;
        let of_liar: Vec<_> = done
            .slots
            .iter()
            .filter(|slot| slot.node == Some(liar))
            .collect();
        assert_eq!(of_liar[0].put_count, 0);
        assert_eq!(
            of_liar[0].last_failure,
            Some(PutFailure::Receipt { node: liar })
        );
    });
}

async fn interrupted(
    world: &World<RealRuntime>,
    folder: &Path,
    text: &[u8],
    at: usize,
) -> UploadError {
    let owner = world.owner(folder);
    let source = reader_source(
        file("a"),
        Breaks {
            text: Cursor::new(text.to_vec()),
            left: at,
        },
    );
    owner.upload(source, resumable(), quiet).await.unwrap_err()
}

#[test]
fn an_interrupted_upload_goes_on_where_it_was() {
    run(8, async |world, folder| {
        let text = noise(30 << 20, 6);
        let error = interrupted(&world, folder, &text, 22 << 20).await;
        assert!(error.to_string().contains("pulled out"), "{error}");
        let puts: usize = world.nodes.values().map(|node| node.put_count()).sum();
        let owner = world.owner(folder);
        let source = reader_source(file("a"), Cursor::new(text.clone()));
        let done = owner.upload(source, resumable(), quiet).await.unwrap();
        let kept = done.progress.segments_kept;
        assert!(kept >= 1, "{:?}", done.progress);
        let more: usize = world
            .nodes
            .values()
            .map(|node| node.put_count())
            .sum::<usize>()
            - puts;
        let segments = usize::try_from(done.progress.segments_durable - kept).unwrap();
        assert!(more <= segments * 8, "{more} puts for {segments} segments");
        assert!(download(&world.client(9), &done.link).await.unwrap() == text);
        // It is done: the next upload of the source begins anew.
        let source = reader_source(file("a"), Cursor::new(text));
        let again = owner.upload(source, resumable(), quiet).await.unwrap();
        assert_eq!(again.progress.segments_kept, 0);
    });
}

#[test]
fn a_changed_source_is_put_again_under_a_fresh_salt() {
    run(8, async |world, folder| {
        let mut text = noise(30 << 20, 7);
        interrupted(&world, folder, &text, 25 << 20).await;
        text[10] ^= 1;
        let owner = world.owner(folder);
        let source = reader_source(file("a"), Cursor::new(text.clone()));
        let done = owner.upload(source, resumable(), quiet).await.unwrap();
        let opened = world.client(9).open(&done.link).await.unwrap();
        let salts: std::collections::BTreeSet<_> = opened
            .index()
            .segments
            .iter()
            .map(|segment| *segment.salt.as_bytes())
            .collect();
        assert_eq!(salts.len(), opened.index().segments.len());
        assert!(download(&world.client(9), &done.link).await.unwrap() == text);
    });
}

#[test]
fn revisions_reach_ledger_and_slots_and_removal_empties() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let kept = upload(&owner, &noise(5 << 20, 8)).await;
        let gone = upload(&owner, &noise(9 << 20, 9)).await;
        let group = kept.link.groups().next().unwrap();
        let on_ledger = world.ledger.group_now(group).unwrap();
        assert_eq!(on_ledger.revision.number.get(), 2);
        for deal in 0..8 {
            let slot = SlotIndex::new(deal);
            let node = on_ledger.deal(slot).unwrap().node;
            let detail = world.node(node).detail(group, slot).unwrap();
            assert_eq!(detail.revision, on_ledger.revision);
            let held = world.node(node).segments(group, slot).len();
            assert_eq!(
                u32::try_from(held).unwrap(),
                on_ledger.revision.segment_count
            );
        }
        let removed = owner.remove(&gone.link).await.unwrap();
        assert_eq!(removed.segment_count, 3);
        assert_eq!(owner.remove(&gone.link).await.unwrap().segment_count, 0);
        let after = world.ledger.group_now(group).unwrap();
        assert_eq!(
            after.revision.segment_count,
            on_ledger.revision.segment_count
        );
        assert!(after.revision.slot_bytes < on_ledger.revision.slot_bytes);
        assert!(download(&world.client(9), &gone.link).await.is_err());
        assert_eq!(
            download(&world.client(9), &kept.link).await.unwrap(),
            noise(5 << 20, 8)
        );
        let stat = world.client(9).stat(&kept.link).await.unwrap();
        assert_eq!(stat.groups[0].healthy_count(), 8);
        let contents = stat.contents.unwrap();
        assert_eq!(
            (contents.bytes, contents.segment_count, stat.node_count),
            (5 << 20, 2, 8)
        );
    });
}

#[test]
fn a_lost_answer_of_the_ledger_does_no_harm() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let first = upload(&owner, b"one").await;
        world.ledger.lose_next_answer();
        let source = reader_source(file("a"), Cursor::new(b"two".to_vec()));
        let error = owner
            .upload(source, UploadOptions::default(), quiet)
            .await
            .unwrap_err();
        assert!(matches!(error, UploadError::Revise(_)), "{error}");
        let third = upload(&owner, b"three").await;
        drop(owner);
        let owner = world.owner(folder);
        let fourth = upload(&owner, b"four").await;
        for (link, text) in [(&first, "one"), (&third, "three"), (&fourth, "four")] {
            let found = download(&world.client(9), &link.link).await.unwrap();
            assert_eq!(found, text.as_bytes());
        }
        assert_eq!(first.link.groups().next(), fourth.link.groups().next());
    });
}

#[test]
fn a_stream_larger_than_a_group_goes_on_in_another() {
    run(8, async |world, folder| {
        let config = OwnerConfig {
            slot_capacity: ByteCount::new(5 << 19),
            ..small()
        };
        let owner = world.owner_with(folder, &world.client(1), config);
        let text = noise(25 << 20, 10);
        let done = upload(&owner, &text).await;
        assert_eq!(done.link.groups().count(), 4);
        assert!(download(&world.client(9), &done.link).await.unwrap() == text);
        owner.sync().await.unwrap();
        for group in done.link.groups() {
            assert!(
                world
                    .ledger
                    .group_now(group)
                    .unwrap()
                    .revision
                    .segment_count
                    > 0
            );
        }
    });
}

#[test]
fn two_processes_write_different_groups() {
    run(8, async |world, folder| {
        let (one, two) = (world.owner(folder), world.owner(folder));
        let (first, second) = (upload(&one, b"one").await, upload(&two, b"two").await);
        let third = upload(&one, b"three").await;
        assert_ne!(first.link.groups().next(), second.link.groups().next());
        assert_eq!(first.link.groups().next(), third.link.groups().next());
    });
}

#[test]
fn memory_stays_within_the_budget_with_slow_nodes() {
    run(8, async |world, folder| {
        let budget = ByteCount::new(40 << 20);
        let config = ClientConfig {
            memory: budget,
            ..ClientConfig::default()
        };
        let client = world.client_with(1, config);
        let owner = world.owner_with(folder, &client, small());
        let slow = *world.nodes.keys().next().unwrap();
        world.node(slow).behave(Behaviour {
            delay: Duration::from_millis(700),
            ..Behaviour::default()
        });
        let text = noise(40 << 20, 11);
        let memory = client.memory().clone();
        let source = reader_source(file("a"), Cursor::new(text.clone()));
        let progress = move |_: &UploadProgress| assert!(memory.bytes_used() <= 40 << 20);
        let began = world.runtime.monotonic();
        let done = owner
            .upload(source, UploadOptions::default(), progress)
            .await
            .unwrap();
        let took = world.runtime.monotonic() - began;
        let report = done
            .slots
            .iter()
            .find(|slot| slot.node == Some(slow))
            .unwrap();
        assert!(
            report.left_count + report.put_count > 0,
            "{report:?} in {took:?}"
        );
        assert_eq!(client.memory().bytes_used(), 0);
        assert!(download(&world.client(9), &done.link).await.unwrap() == text);
    });
}

/// A tree in memory.
struct Files(std::vec::IntoIter<(EntryMeta, Option<Vec<u8>>)>);

impl Tree for Files {
    type Reader = Cursor<Vec<u8>>;

    fn next(&mut self) -> Result<Option<TreeEntry<Self::Reader>>, SourceError> {
        Ok(self.0.next().map(|(meta, text)| TreeEntry {
            meta,
            reader: text.map(Cursor::new),
        }))
    }

    fn kind(&self) -> crate::index::UploadKind {
        crate::index::UploadKind::Folder
    }
}

fn entry(path: &str, kind: EntryMetaKind) -> EntryMeta {
    EntryMeta {
        path: EntryPath::new(path).unwrap(),
        kind,
        ..file("x")
    }
}

#[test]
fn a_folder_of_small_files_shares_segments() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let mut entries = vec![(entry("d", EntryMetaKind::Directory), None)];
        let target = Bounded::new(b"../elsewhere".to_vec()).unwrap();
        entries.push((entry("d/link", EntryMetaKind::Symlink(target)), None));
        for number in 0..2_000_u32 {
            let path = format!("d/{number:05}");
            let text = noise(usize::try_from(number % 300).unwrap(), u64::from(number));
            entries.push((entry(&path, EntryMetaKind::File), Some(text)));
        }
        let source = TreeSource::new(Files(entries.into_iter()));
        let done = owner
            .upload(source, UploadOptions::default(), quiet)
            .await
            .unwrap();
        assert_eq!(
            done.progress.segments_durable, 1,
            "2,000 files and their index in one"
        );
        let opened = world.client(9).open(&done.link).await.unwrap();
        assert!(opened.only_file().is_none());
        let one = opened.file(b"d/01234").unwrap();
        assert_eq!(
            one.read_range(0, one.bytes()).await.unwrap(),
            noise(34, 1_234)
        );
        assert!(opened.file(b"d").is_err());
        let mut tree = opened.tree();
        let (mut files, mut present) = (0, None);
        let mut order = Vec::new();
        while let Some(item) = tree.next().await.unwrap() {
            match item {
                TreeItem::Entry(found) => {
                    order.push(found.kind.clone());
                    if matches!(found.kind, EntryKind::File { .. }) {
                        files += 1;
                        present = Some((found.path.to_string(), Vec::new()));
                    }
                }
                TreeItem::Bytes(bytes) => {
                    let (path, text) = present.as_mut().unwrap();
                    text.extend_from_slice(&bytes);
                    let number: u32 = path[2..].parse().unwrap();
                    let expected = noise(usize::try_from(number % 300).unwrap(), u64::from(number));
                    if text.len() == expected.len() {
                        assert_eq!(*text, expected);
                    }
                }
            }
        }
        assert_eq!(files, 2_000);
        assert_eq!(order.first(), Some(&EntryKind::Directory));
        assert!(matches!(order.last(), Some(EntryKind::Symlink { .. })));
    });
}

#[test]
fn a_path_named_twice_is_refused() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let twice = vec![
            (entry("a", EntryMetaKind::File), Some(vec![1])),
            (entry("a", EntryMetaKind::File), Some(vec![2])),
        ];
        let source = TreeSource::new(Files(twice.into_iter()));
        let error = owner
            .upload(source, UploadOptions::default(), quiet)
            .await
            .unwrap_err();
        assert!(matches!(error, UploadError::PathTwice { .. }), "{error}");
        assert_eq!(error.blame(), Blame::Caller);
    });
}
