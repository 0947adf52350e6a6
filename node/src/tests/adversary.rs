//! Peers that lie, send garbage, stop, or open too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cairn_core::{NodeId, Right, UnixMillis};
use cairn_net::sim::{Passing, Tamper};
use cairn_net::{DhtMode, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cluster::{Cluster, dev4, dev8, key, run};

/// Flips a byte in large parts of streams that a peer sends.
fn flips_bits(cluster: &Cluster, liar: NodeId) -> Arc<AtomicUsize> {
    let flipped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&flipped);
    cluster.net.set_tamper(move |passing| {
        if let Passing::Part { from, bytes, .. } = passing
            && *from == liar
            && bytes.len() > 2000
        {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Tamper::Pass
    });
    flipped
}

#[test]
fn i2_i3_siblings_that_serve_other_bytes_are_named_and_left_out() {
    run(1, async |sim| {
        let mut cluster = Cluster::new(sim, 8, dev8()).await;
        for bytes in [200_000, 900_000] {
            cluster.upload(bytes, &[]).await;
        }
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let holders = cluster.holders().await;
        let wiped = cluster.index_of(holders[0]);
        // The next one by distance is asked first.
        let flipped = flips_bits(&cluster, holders[1]);
        cluster.wipe(wiped).await;
        cluster.sim.sleep(Duration::from_secs(3)).await;
        cluster.wait_acknowledged().await;
        cluster.net.clear_tamper();
        assert!(flipped.load(Ordering::Relaxed) > 0, "nobody asked the liar");
        cluster.check_all(&detail).await;
    });
}

#[test]
fn i3_with_too_many_liars_it_does_not_finish() {
    run(2, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(200_000, &[]).await;
        cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let holders = cluster.holders().await;
        let wiped = cluster.index_of(holders[0]);
        cluster.net.set_tamper(move |passing| {
            if let Passing::Part { bytes, .. } = passing
                && bytes.len() > 2000
            {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            }
            Tamper::Pass
        });
        cluster.wipe(wiped).await;
        cluster.sim.sleep(Duration::from_secs(60)).await;
        let group = cluster.group().await;
        assert_eq!(group.deals[0].acknowledged.get(), 0);
        let handle = cluster.nodes[wiped].handle.as_ref().unwrap();
        let status = handle.status().await.unwrap();
        assert_eq!(status.slots[0].lacking_count, 1);
        assert!(status.slots[0].problem.is_some());
        // When they stop lying, it does.
        cluster.net.clear_tamper();
        cluster.wait_acknowledged().await;
    });
}

#[test]
fn i9_garbage_and_silence_cost_nobody_else() {
    run(3, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(300_000, &[]).await;
        let holder = cluster.holders().await[0];
        let bad = key("bad", 0);
        let runtime = cluster.sim.machine("bad").runtime();
        let id = NodeId::new(bad.public());
        let peer = cluster.net.join(&runtime, id, DhtMode::Client);
        let limit = Duration::from_secs(5);
        let mut streams = Vec::new();
        for number in 0..200_u32 {
            let Ok(mut stream) = peer.connect(holder, limit).await else {
                continue;
            };
            let bytes = blake3::hash(&number.to_le_bytes());
            let length = 32 * (number % 3);
            let mut garbage = length.to_le_bytes().to_vec();
            garbage.extend_from_slice(bytes.as_bytes());
            // A node that has had enough of us closes its end.
            let _written = stream.write_all(&garbage).await;
            streams.push(stream);
        }
        for number in 0..50_u32 {
            let message = blake3::hash(&number.to_le_bytes()).as_bytes().to_vec();
            let _answered = peer.request(holder, message, limit).await;
        }
        let before = cluster.sim.elapsed();
        cluster.upload(300_000, &[]).await;
        let got = cluster.owner.get(holder, 0, 1, None).await.unwrap();
        assert_eq!(got.len(), 150_000);
        assert!(cluster.sim.elapsed() - before < Duration::from_secs(5));
        drop(streams);
    });
}

#[test]
fn i9_a_reader_that_never_reads_is_given_up_and_holds_its_share_only() {
    run(4, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(6_000_000, &[]).await;
        let holder = cluster.holders().await[0];
        let slow = key("slow", 0);
        let runtime = cluster.sim.machine("slow").runtime();
        let id = NodeId::new(slow.public());
        let peer = cluster.net.join(&runtime, id, DhtMode::Client);
        let right = Right::Read;
        let capability = cluster
            .owner
            .capability_for(&slow, right, UnixMillis::new(u64::MAX));
        let limit = Duration::from_secs(5);
        let mut streams = Vec::new();
        for _ in 0..12 {
            let Ok(mut stream) = peer.connect(holder, limit).await else {
                continue;
            };
            let present = cairn_core::message::DataRequest::Present(capability.clone());
            let get = cairn_core::message::DataRequest::Get {
                group: cluster.owner.group,
                slot: cairn_core::SlotIndex::new(0),
                segment: cairn_core::SegmentNumber::ZERO,
                range: cairn_core::message::ShardRange {
                    offset: 0,
                    bytes: 3_000_000,
                },
                record: cairn_core::message::WithRecord::No,
            };
            for request in [present, get] {
                let message = cairn_core::Record::encode(&request);
                let length = u32::try_from(message.len()).unwrap();
                stream.write_all(&length.to_le_bytes()).await.unwrap();
                stream.write_all(&message).await.unwrap();
            }
            streams.push(stream);
        }
        cluster.sim.sleep(Duration::from_secs(1)).await;
        let before = cluster.sim.elapsed();
        let got = cluster.owner.get(holder, 0, 0, None).await.unwrap();
        assert_eq!(got.len(), 3_000_000);
        assert!(cluster.sim.elapsed() - before < Duration::from_secs(5));
        // In the end they are closed, and what they held is free.
        cluster.sim.sleep(Duration::from_secs(1200)).await;
        let index = cluster.index_of(holder);
        let handle = cluster.nodes[index].handle.as_ref().unwrap();
        assert_eq!(handle.free_memory_kib(), 64 << 10);
        for mut stream in streams {
            let mut bytes = Vec::new();
            let read = stream.read_to_end(&mut bytes).await;
            assert!(read.is_err() || bytes.len() < 3_000_000);
        }
    });
}
