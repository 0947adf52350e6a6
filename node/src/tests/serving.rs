//! Put, get, receipts, capabilities.

use std::sync::Arc;
use std::time::Duration;

use cairn_consensus::Sequencer;
use cairn_core::message::{ControlRequest, ControlResponse, ShardRange};
use cairn_core::{Bounded, ErrorCode, NodeId, Record, Right, Signed, SlotIndex, UnixMillis};
use cairn_ledger::{Ledger, RemoteLedger};
use cairn_net::data::{DataConn, DataError};
use cairn_net::pool::{DataPool, PoolLimits};
use cairn_net::{DhtMode, LedgerPeers, Network, RecordKey};
use cairn_runtime::SimRuntime;
use futures::future::BoxFuture;

use super::cluster::{Cluster, PACE, dev4, encode, key, payload, run};
use crate::{LedgerServer, start};

fn code_of<T: std::fmt::Debug>(result: Result<T, DataError>) -> ErrorCode {
    match result.unwrap_err() {
        DataError::Remote { code, .. } => code,
        error => panic!("{error}"),
    }
}

#[test]
fn i1_shards_are_put_revised_acknowledged_and_served() {
    run(1, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        for bytes in [1, 3000, 100_000, 300_000] {
            cluster.upload(bytes, &[]).await;
        }
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
        let holders = cluster.holders().await;
        let range = ShardRange {
            offset: 70_000,
            bytes: 5000,
        };
        let got = cluster
            .owner
            .get(holders[3], 3, 3, Some(range))
            .await
            .unwrap();
        let whole = cluster.owner.segments[3].as_ref().unwrap()[3].clone();
        assert_eq!(got, whole[68 << 10..74 << 10][..got.len()]);
        assert_eq!(got.len(), 6 << 10);
    });
}

#[test]
fn i1_everything_is_there_after_all_nodes_lost_power() {
    run(2, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        for bytes in [5000, 80_000] {
            cluster.upload(bytes, &[]).await;
        }
        cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        cluster.upload(7000, &[]).await;
        for index in 0..4 {
            cluster.crash(index);
        }
        for index in 0..4 {
            cluster.restart(index).await;
        }
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}

#[test]
fn i2_puts_that_do_not_fit_are_refused_by_name() {
    run(3, async |sim| {
        let mut cluster = Cluster::new(sim, 5, dev4()).await;
        cluster.upload(4000, &[]).await;
        let holders = cluster.holders().await;
        let owner = &cluster.owner;
        let shards = encode(dev4(), &payload(9, 4000));
        let record = owner.record(1, 4000, &shards);
        // Another shard's bytes.
        let put = owner.put(holders[0], 0, &record, &shards[1]).await;
        assert_eq!(code_of(put), ErrorCode::RootMismatch);
        // Another node's slot.
        let put = owner.put(holders[0], 1, &record, &shards[1]).await;
        assert_eq!(code_of(put), ErrorCode::NotMySlot);
        // Signed by somebody else.
        let forged = Signed::sign(record.unverified().clone(), &key("stranger", 0));
        let put = owner.put(holders[0], 0, &forged, &shards[0]).await;
        assert_eq!(code_of(put), ErrorCode::BadRecord);
        // Of another size than the code gives.
        let mut wrong = record.unverified().clone();
        wrong.code = cairn_core::Code::new(3, 4).unwrap();
        wrong.payload_bytes = 6000;
        let wrong = Signed::sign(wrong, &owner.key);
        let put = owner.put(holders[0], 0, &wrong, &shards[0]).await;
        assert_eq!(code_of(put), ErrorCode::BadRecord);
        // Too far ahead.
        let ahead = owner.record(1 << 19, 4000, &shards);
        let put = owner.put(holders[0], 0, &ahead, &shards[0]).await;
        assert_eq!(code_of(put), ErrorCode::OutOfRange);
        // The stream was good all the time; a right one is taken, twice with one result.
        owner.put(holders[0], 0, &record, &shards[0]).await.unwrap();
        owner.put(holders[0], 0, &record, &shards[0]).await.unwrap();
        // A revised number has its shard for good.
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let other = cluster.owner.record(0, 4000, &shards);
        let put = cluster.owner.put(holders[0], 0, &other, &shards[0]).await;
        assert_eq!(code_of(put), ErrorCode::Conflict);
        assert_eq!(detail.revision.segment_count, 1);
    });
}

#[test]
fn capabilities_are_checked_for_holder_right_and_time() {
    run(4, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(4000, &[]).await;
        let holder = cluster.holders().await[0];
        let runtime = cluster.sim.machine("reader").runtime();
        let reader = key("reader", 0);
        let id = NodeId::new(reader.public());
        let peer = cluster.net.join(&runtime, id, DhtMode::Client);
        let pool = DataPool::new(peer.clone(), runtime.clone(), PoolLimits::DEFAULT);
        let limit = Duration::from_secs(10);
        let owner = &cluster.owner;
        // One that belongs to the owner's peer.
        let theirs = owner.capability(Right::Read);
        let taken = pool.take(holder, &theirs, limit).await;
        assert_eq!(code_of(taken), ErrorCode::NotAuthorised);
        // One that has ended.
        let ended = owner.capability_for(&reader, Right::Read, UnixMillis::new(1000));
        let taken = pool.take(holder, &ended, limit).await;
        assert_eq!(code_of(taken), ErrorCode::CapabilityExpired);
        // One that it issued itself, which only a sibling's deal gives force.
        let own = super::super::catch_up::source::own_capability(&reader, &cluster.group().await);
        let taken = pool.take(holder, &own, limit).await;
        assert_eq!(code_of(taken), ErrorCode::NotAuthorised);
        // One to read: it reads and does not write.
        let read = owner.capability_for(&reader, Right::Read, UnixMillis::new(u64::MAX));
        let mut conn = pool.take(holder, &read, limit).await.unwrap();
        let group = cluster.group().await.id;
        let (entries, count) = conn.records(group, Default::default(), 10).await.unwrap();
        assert_eq!((entries.len(), count), (1, 1));
        let shards = encode(dev4(), &payload(9, 4000));
        let record = owner.record(1, 4000, &shards);
        let put = conn.put(SlotIndex::new(0), &record, &shards[0]).await;
        assert_eq!(code_of(put), ErrorCode::NotAuthorised);
        // None at all.
        let stream = peer.connect(holder, limit).await.unwrap();
        let mut bare = DataConn::new(stream, holder, runtime, PACE);
        let records = bare.records(group, Default::default(), 10).await;
        assert_eq!(code_of(records), ErrorCode::NotAuthorised);
    });
}

#[test]
fn a_group_record_outlives_its_owner_and_is_usurped_by_nobody() {
    run(5, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(100, &[]).await;
        let group = cluster.owner.group;
        let owner = cluster.owner.key.public().into();
        let key = RecordKey::Group { group, owner };
        let record = |height, slots: Vec<NodeId>| cairn_core::GroupRecord {
            group,
            height: cairn_core::Height::new(height),
            code: dev4(),
            slots: Bounded::new(slots).unwrap(),
        };
        let holders = cluster.holders().await;
        let genuine = Signed::sign(record(1, holders.clone()), &cluster.owner.key).encode();
        // Only one slot's node hears of it.
        let first = cluster.nodes[0].id();
        cluster
            .net
            .part(&[&[NodeId::new(cluster.owner.key.public()), first]]);
        let publish = cluster.owner.peer.publish(key, genuine.clone());
        publish.await.unwrap();
        cluster.net.heal();
        // A stranger and a holder would have every reader come to them.
        for usurper in [
            super::cluster::key("usurper", 0),
            cluster.nodes[0].key.clone(),
        ] {
            let everywhere = vec![NodeId::new(usurper.public()); 4];
            let signed = Signed::sign(record(u64::MAX, everywhere), &usurper).encode();
            let refused = cluster.owner.peer.publish(key, signed.clone()).await;
            assert!(refused.is_err(), "{refused:?}");
            let own = RecordKey::Group {
                group,
                owner: usurper.public().into(),
            };
            cluster.owner.peer.publish(own, signed).await.unwrap();
        }
        let found = cluster.owner.peer.find(key).await.unwrap();
        assert_eq!(found, Some(genuine.clone()));
        // The owner does nothing more: the nodes keep it, also when that one goes.
        for _ in 0..40 {
            cluster.sim.sleep(Duration::from_secs(30)).await;
        }
        cluster.net.part(&[&[first]]);
        let found = cluster.owner.peer.find(key).await.unwrap();
        assert_eq!(found, Some(genuine));
    });
}

#[test]
fn figures_agree_and_a_clean_shutdown_leaves_nothing_to_recover() {
    run(6, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        for bytes in [5000, 80_000] {
            cluster.upload(bytes, &[]).await;
        }
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let node = &mut cluster.nodes[0];
        let handle = node.handle.take().unwrap();
        let status = handle.status().await.unwrap();
        assert_eq!(status.slots.len(), 1);
        assert_eq!(status.slots[0].reached, detail.revision.number);
        assert_eq!(status.slots[0].lacking_count, 0);
        assert_eq!(status.store.shard_count, 2);
        let used = status.store.used.get();
        let on_disk = node.machine.disk_used_bytes();
        assert!(
            used <= on_disk && on_disk < used + (32 << 10),
            "{used} {on_disk}"
        );
        let scrub = handle.scrub().await.unwrap();
        assert_eq!((scrub.shard_count, scrub.damaged_count), (2, 0));
        handle.shutdown().await.unwrap();
        cluster.restart(0).await;
        let report = cluster.nodes[0]
            .handle
            .as_ref()
            .unwrap()
            .open_report()
            .clone();
        assert_eq!((report.shard_count, report.torn_count), (2, 0));
        cluster.check_all(&detail).await;
    });
}

#[test]
fn a_ledger_request_is_refused_by_a_node_that_serves_none() {
    run(7, async |sim| {
        let cluster = Cluster::new(sim, 4, dev4()).await;
        let holder = cluster.holders().await[0];
        let request = ControlRequest::Ledger(Bounded::empty()).encode();
        let limit = Duration::from_secs(5);
        let answer = cluster.owner.peer.request(holder, request, limit).await;
        match ControlResponse::decode(&answer.unwrap()).unwrap() {
            ControlResponse::Error { code, .. } => assert_eq!(code, ErrorCode::Unsupported),
            other => panic!("{other:?}"),
        }
    });
}

/// The sequencer, as the process that runs it serves it.
#[derive(Debug)]
struct Serves(Sequencer<SimRuntime>);

impl LedgerServer for Serves {
    fn answer(&self, peer: NodeId, request: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(async move { self.0.answer(peer, &request).await })
    }
}

#[test]
fn nodes_follow_a_ledger_that_another_node_serves() {
    run(8, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(50_000, &[]).await;
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        // The first node serves the ledger from now on, the second reaches it through the first.
        let server = cluster.nodes[0].id();
        cluster.nodes[0].serves = Some(Arc::new(Serves(cluster.ledger.clone())));
        cluster.restart(0).await;
        let slow = cluster.nodes[1].id();
        let slot = cluster
            .holders()
            .await
            .iter()
            .position(|node| *node == slow);
        cluster.nodes[1].handle = None;
        let runtime = cluster.nodes[1].machine.restart();
        let peer = cluster.net.join(&runtime, slow, DhtMode::Server);
        let through = LedgerPeers::new(peer.clone(), &[server]);
        let ledger = RemoteLedger::new(through, cluster.ledger.id(), cluster.ledger.key());
        let config = cluster.config(&cluster.nodes[1]);
        let handle = start(runtime, peer, ledger, config).await.unwrap();
        let slot = u8::try_from(slot.unwrap()).unwrap();
        cluster.upload(9000, &[slot]).await;
        let newer = cluster.revise(&[], &[slot]).await;
        assert!(newer.revision.number > detail.revision.number);
        cluster.wait_acknowledged().await;
        cluster.check_all(&newer).await;
        let status = handle.status().await.unwrap();
        assert_eq!(status.slots[0].reached, newer.revision.number);
        handle.shutdown().await.unwrap();
    });
}
