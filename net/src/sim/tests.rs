//! The simulated network's promises: time, loss, parts, limits, ends of streams, the DHT.

use std::future::Future;
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::time::Duration;

use cairn_core::{Bounded, NodeId, NodeRecord, Record, SecretKey, Signed, UnixMillis};
use cairn_runtime::{Runtime, Sim, SimRuntime, Task};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::WINDOW_BYTES;
use super::{Link, Passing, SimNet, SimPeer, SimStream, Tamper, Traffic};
use crate::real::RealLimits;
use crate::{CONTROL_BYTES_MAX, DhtMode, NetError, Network, RECORD_BYTES_MAX, RecordKey};

mod data;

const LIMIT: Duration = Duration::from_secs(10);

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn id(number: u8) -> NodeId {
    NodeId::new(secret(number).public())
}

/// Peers 1 and 2 on machines of their own.
struct Pair {
    sim: Sim,
    net: SimNet,
    one: SimPeer,
    two: SimPeer,
}

fn join(net: &SimNet, sim: &Sim, number: u8) -> SimPeer {
    let runtime = sim.machine(&format!("machine {number}")).runtime();
    net.join(&runtime, id(number), DhtMode::Server)
}

fn with_pair<T, F: Future<Output = T>>(seed: u64, work: impl FnOnce(Pair) -> F) -> T {
    Sim::new(seed).run(async |sim| {
        let net = SimNet::new(&sim);
        let (one, two) = (join(&net, &sim, 1), join(&net, &sim, 2));
        work(Pair { sim, net, one, two }).await
    })
}

impl Pair {
    fn runtime(&self, number: u8) -> SimRuntime {
        self.sim.machine(&format!("machine {number}")).runtime()
    }

    /// Peer 2 answers requests with their bytes in reverse.
    fn answer(&self) -> Task<()> {
        let two = self.two.clone();
        self.runtime(2).spawn("answers", async move {
            while let Some(mut request) = two.next_request().await {
                request.message.reverse();
                // The asker may have given up.
                drop(request.answer.send(request.message));
            }
        })
    }

    /// Both ends of a stream from peer 1 to peer 2.
    async fn stream(&self) -> (SimStream, SimStream) {
        let near = self.one.connect(id(2), LIMIT).await.unwrap();
        let (from, far) = self.two.accept().await.unwrap();
        assert_eq!(from, id(1));
        (near, far)
    }
}

#[test]
fn a_request_takes_two_trips_and_is_counted() {
    with_pair(1, async |pair| {
        let _answers = pair.answer();
        pair.net.set_link(Link {
            jitter: Duration::ZERO,
            ..Link::DEFAULT
        });
        let before = pair.sim.elapsed();
        let answer = pair.one.request(id(2), b"abc".to_vec(), LIMIT).await;
        assert_eq!(answer.unwrap(), b"cba");
        assert_eq!(pair.sim.elapsed() - before, Duration::from_millis(20));
        let expected = Traffic {
            messages: 1,
            message_bytes: 3,
            ..Traffic::default()
        };
        assert_eq!(pair.net.traffic(id(1), id(2)), expected);
        assert_eq!(pair.net.sent_to(id(1)), expected);
        assert_eq!(pair.net.sent().bytes(), 6);
    });
}

#[test]
fn lost_and_parted_requests_time_out() {
    with_pair(1, async |pair| {
        let _answers = pair.answer();
        let ask = async || pair.one.request(id(2), vec![1], LIMIT).await;
        let timeout = NetError::Timeout {
            peer: id(2),
            limit: LIMIT,
        };
        let lossy = Link {
            loss_per_million: 1_000_000,
            ..Link::DEFAULT
        };
        pair.net.set_link_between(id(1), id(2), lossy);
        let before = pair.sim.elapsed();
        assert_eq!(ask().await, Err(timeout.clone()));
        assert_eq!(pair.sim.elapsed() - before, LIMIT);
        pair.net.set_links_of(id(1), Link::DEFAULT);
        pair.net.part(&[&[id(1)]]);
        assert_eq!(ask().await, Err(timeout.clone()));
        let refused = pair.one.connect(id(2), LIMIT).await;
        assert_eq!(refused.unwrap_err(), timeout);
        pair.net.part(&[&[id(1), id(2)], &[id(3)]]);
        assert_eq!(ask().await, Ok(vec![1]));
        pair.net.heal();
        assert_eq!(ask().await, Ok(vec![1]));
    });
}

#[test]
fn nothing_listens_on_a_machine_that_is_down() {
    with_pair(1, async |pair| {
        let unknown = pair.one.request(id(9), vec![], LIMIT).await;
        assert_eq!(unknown, Err(NetError::UnknownPeer { peer: id(9) }));
        let machine = pair.sim.machine("machine 2");
        machine.crash();
        let refused = pair.one.request(id(2), vec![], LIMIT).await;
        assert!(matches!(refused, Err(NetError::Unreachable { .. })));
        let refused = pair.one.connect(id(2), LIMIT).await;
        assert!(matches!(refused, Err(NetError::Unreachable { .. })));
        // The old peer is dead for good, also after the restart.
        let fresh = pair.net.join(&machine.restart(), id(2), DhtMode::Server);
        let closed = pair.two.request(id(1), vec![], LIMIT).await;
        assert_eq!(closed, Err(NetError::Closed));
        assert!(pair.two.accept().await.is_none());
        let near = pair.one.connect(id(2), LIMIT).await.unwrap();
        let (_, far) = fresh.accept().await.unwrap();
        assert_eq!(near.number(), far.number());
    });
}

#[test]
fn shutting_down_ends_what_waits() {
    with_pair(1, async |pair| {
        let (mut near, _far) = pair.stream().await;
        let waits = pair.runtime(2).spawn("waits", {
            let two = pair.two.clone();
            async move { two.next_request().await.is_none() }
        });
        pair.two.shutdown().await;
        assert_eq!(waits.join().await, Ok(true));
        assert!(pair.two.accept().await.is_none());
        let error = near.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let refused = pair.one.request(id(2), vec![], LIMIT).await;
        assert!(matches!(refused, Err(NetError::Unreachable { .. })));
        let found = pair.two.find(RecordKey::Node(id(1))).await;
        assert_eq!(found, Err(NetError::Closed));
    });
}

#[test]
fn dropping_the_last_handle_shuts_down() {
    with_pair(1, async |pair| {
        let Pair { net, one, two, .. } = pair;
        drop(two);
        let refused = one.request(id(2), vec![], LIMIT).await;
        assert!(matches!(refused, Err(NetError::Unreachable { .. })));
        assert_eq!(net.stream_count(), 0);
    });
}

#[test]
fn a_stream_carries_bytes_in_order_at_its_link_s_pace() {
    for loss_per_million in [0, 50_000] {
        with_pair(2, async |pair| {
            pair.net.set_link(Link {
                loss_per_million,
                bytes_per_second: NonZeroU64::new(1 << 20),
                ..Link::DEFAULT
            });
            let (mut near, mut far) = pair.stream().await;
            let bytes: Vec<u8> = (0..=250).cycle().take(1 << 20).collect();
            let sent = bytes.clone();
            let sends = pair.runtime(1).spawn("sends", async move {
                near.write_all(&sent).await.unwrap();
                near.shutdown().await.unwrap();
                // Held until the other end has read all.
                near.read_u8().await.unwrap_err().kind()
            });
            let before = pair.sim.elapsed();
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            assert!(received == bytes);
            let took = pair.sim.elapsed() - before;
            assert!(took >= Duration::from_secs(1), "{took:?}");
            let most = if loss_per_million == 0 { 1100 } else { 60_000 };
            assert!(took <= Duration::from_millis(most), "{took:?}");
            drop(far);
            assert_eq!(sends.join().await, Ok(ErrorKind::UnexpectedEof));
            let traffic = pair.net.sent_by(id(1));
            assert_eq!((traffic.stream_bytes, traffic.streams), (1 << 20, 1));
            assert_eq!((traffic.turns, pair.net.sent_by(id(2)).turns), (1, 0));
            assert_eq!(pair.net.stream_count(), 0);
        });
    }
}

#[test]
fn turns_count_round_trips() {
    with_pair(1, async |pair| {
        let (mut near, mut far) = pair.stream().await;
        for _ in 0..3 {
            near.write_all(&[1, 2]).await.unwrap();
            near.write_all(&[3]).await.unwrap();
            far.read_exact(&mut [0; 3]).await.unwrap();
            far.write_all(&[4]).await.unwrap();
            near.read_u8().await.unwrap();
        }
        assert_eq!(pair.net.traffic(id(1), id(2)).turns, 3);
        assert_eq!(pair.net.traffic(id(2), id(1)).turns, 3);
    });
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer() {
    with_pair(1, async |pair| {
        let runtime = pair.runtime(1);
        let (mut near, mut far) = pair.stream().await;
        // At the limit, and one above.
        near.write_all(&vec![1; WINDOW_BYTES]).await.unwrap();
        assert!(runtime.timeout(LIMIT, near.write_u8(1)).await.is_err());
        let mut bytes = vec![0; WINDOW_BYTES];
        far.read_exact(&mut bytes).await.unwrap();
        near.write_u8(2).await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), 2);
    });
}

#[test]
fn streams_end_as_their_peers_do() {
    with_pair(1, async |pair| {
        // Finished: the end, after all bytes.
        let (mut near, mut far) = pair.stream().await;
        near.write_u8(1).await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), 1);
        assert_eq!(far.read(&mut [0; 9]).await.unwrap(), 0);
        far.write_u8(2).await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), 2);
        let error = near.write_u8(1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        // Dropped without a word: all bytes, then an error.
        let (mut near, mut far) = pair.stream().await;
        near.write_u8(1).await.unwrap();
        drop(near);
        assert_eq!(far.read_u8().await.unwrap(), 1);
        let error = far.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        let error = far.write_u8(1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        // Reset on the way.
        let (mut near, mut far) = pair.stream().await;
        near.write_u8(1).await.unwrap();
        pair.net.reset_streams(id(1), id(2));
        for stream in [&mut near, &mut far] {
            let error = stream.read_u8().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(stream.write_u8(1).await.is_err());
        }
        // The machine of the other is gone, while we wait.
        let (mut near, far) = pair.stream().await;
        let reads =
            pair.runtime(1).spawn(
                "reads",
                async move { near.read_u8().await.unwrap_err().kind() },
            );
        pair.sim.sleep(Duration::from_secs(1)).await;
        pair.sim.machine("machine 2").crash();
        assert_eq!(reads.join().await, Ok(ErrorKind::ConnectionReset));
        drop(far);
    });
}

#[test]
fn a_parted_stream_stands_still_and_goes_on() {
    with_pair(1, async |pair| {
        let (mut near, mut far) = pair.stream().await;
        near.write_u8(1).await.unwrap();
        pair.net.part(&[&[id(1)]]);
        near.write_u8(2).await.unwrap();
        let runtime = pair.runtime(2);
        assert!(runtime.timeout(LIMIT, far.read_u8()).await.is_err());
        pair.net.heal();
        assert_eq!(far.read_u16().await.unwrap(), 0x0102);
    });
}

#[test]
fn streams_and_requests_have_bounds() {
    with_pair(1, async |pair| {
        let most = RealLimits::DEFAULT.peer_streams_max;
        let mut streams = Vec::new();
        for _ in 0..most {
            streams.push(pair.stream().await);
        }
        let refused = pair.one.connect(id(2), LIMIT).await;
        assert!(matches!(refused, Err(NetError::Unreachable { .. })));
        streams.pop();
        streams.push(pair.stream().await);
        drop(streams);
        assert_eq!(pair.net.stream_count(), 0);
        // Nobody answers.
        let mut asks = Vec::new();
        for _ in 0..=RealLimits::DEFAULT.peer_requests_max {
            let one = pair.one.clone();
            let ask = async move { one.request(id(2), vec![1], LIMIT).await };
            asks.push(pair.runtime(1).spawn("asks", ask));
        }
        let mut refused = 0;
        for ask in asks {
            match ask.join().await.unwrap() {
                Err(NetError::Disconnected { .. }) => refused += 1,
                Err(NetError::Timeout { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused, 1);
        let large = vec![0; CONTROL_BYTES_MAX + 1];
        let refused = pair.one.request(id(2), large, LIMIT).await;
        assert!(matches!(refused, Err(NetError::TooLarge { .. })));
    });
}

#[test]
fn an_answer_that_is_too_large_or_missing_is_told() {
    with_pair(1, async |pair| {
        let two = pair.two.clone();
        let _answers = pair.runtime(2).spawn("answers badly", async move {
            let request = two.next_request().await.unwrap();
            request.answer.send(vec![0; CONTROL_BYTES_MAX + 1]).unwrap();
            drop(two.next_request().await.unwrap());
            std::future::pending::<()>().await;
        });
        let ask = async || pair.one.request(id(2), vec![1], LIMIT).await;
        assert!(matches!(ask().await, Err(NetError::Protocol { .. })));
        assert!(matches!(ask().await, Err(NetError::Disconnected { .. })));
    });
}

#[test]
fn tampering_changes_cuts_stalls_and_resets() {
    with_pair(1, async |pair| {
        let _answers = pair.answer();
        pair.net.set_tamper(|passing| {
            let (Passing::Request { bytes, .. }
            | Passing::Answer { bytes, .. }
            | Passing::Part { bytes, .. }) = passing;
            bytes[0] ^= 0x80;
            match bytes[0] & 0x7f {
                1 => Tamper::Cut,
                2 => Tamper::Stall,
                3 => Tamper::Reset,
                _ => Tamper::Pass,
            }
        });
        let answer = pair.one.request(id(2), vec![9, 9], LIMIT).await;
        assert_eq!(answer.unwrap(), [0x89, 0x89]);
        let lost = pair.one.request(id(2), vec![1], LIMIT).await;
        assert!(matches!(lost, Err(NetError::Timeout { .. })));
        let (mut near, mut far) = pair.stream().await;
        near.write_u8(8).await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), 0x88);
        near.write_u8(1).await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), 0x81);
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
        let (mut near, mut far) = pair.stream().await;
        near.write_u8(8).await.unwrap();
        near.write_u8(2).await.unwrap();
        near.write_u8(8).await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), 0x88);
        let runtime = pair.runtime(2);
        assert!(runtime.timeout(LIMIT, far.read_u8()).await.is_err());
        let (mut near, mut far) = pair.stream().await;
        assert!(near.write_u8(3).await.is_err());
        let error = far.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        pair.net.clear_tamper();
        let answer = pair.one.request(id(2), vec![1], LIMIT).await;
        assert_eq!(answer.unwrap(), [1]);
    });
}

fn node_record(of: u8, signed_by: u8, made_at: UnixMillis) -> Vec<u8> {
    let record = NodeRecord {
        node: id(of),
        made_at,
        control: Bounded::empty(),
        data: Bounded::empty(),
    };
    Signed::sign(record, &secret(signed_by)).encode()
}

#[test]
fn the_dht_keeps_the_newest_valid_record() {
    with_pair(1, async |pair| {
        let key = RecordKey::Node(id(1));
        let now = UnixMillis::from_unix(pair.runtime(1).now());
        let older = node_record(1, 1, now);
        let newer = node_record(1, 1, now.saturating_add(Duration::from_secs(1)));
        let forged = node_record(1, 2, now.saturating_add(Duration::from_secs(2)));
        assert_eq!(pair.two.find(key).await, Ok(None));
        pair.one.publish(key, older.clone()).await.unwrap();
        assert_eq!(pair.two.find(key).await, Ok(Some(older.clone())));
        pair.one.publish(key, newer.clone()).await.unwrap();
        for refused in [older, forged, vec![], vec![0; RECORD_BYTES_MAX]] {
            let result = pair.two.publish(key, refused).await;
            assert!(matches!(result, Err(NetError::Dht { .. })));
        }
        let large = vec![0; RECORD_BYTES_MAX + 1];
        let result = pair.two.publish(key, large).await;
        assert!(matches!(result, Err(NetError::TooLarge { .. })));
        assert_eq!(pair.two.find(key).await, Ok(Some(newer.clone())));
        // Kept through a crash, lost with the disks of all who keep it.
        let machine = pair.sim.machine("machine 2");
        machine.crash();
        let two = pair.net.join(&machine.restart(), id(2), DhtMode::Server);
        assert_eq!(two.find(key).await, Ok(Some(newer)));
        pair.net.forget_records(id(1));
        pair.net.forget_records(id(2));
        assert_eq!(two.find(key).await, Ok(None));
    });
}

#[test]
fn clients_keep_no_records() {
    Sim::new(1).run(async |sim| {
        let net = SimNet::new(&sim);
        let runtime = sim.machine("one").runtime();
        let one = net.join(&runtime, id(1), DhtMode::Client);
        let now = UnixMillis::from_unix(runtime.now());
        let key = RecordKey::Node(id(1));
        let result = one.publish(key, node_record(1, 1, now)).await;
        assert!(matches!(result, Err(NetError::Dht { .. })));
        assert_eq!(one.find(key).await, Ok(None));
    });
}

#[test]
fn i10_same_seed_same_network() {
    let run = |seed| {
        let lossy = Link {
            loss_per_million: 100_000,
            reset_per_million: 20_000,
            jitter: Duration::from_millis(50),
            ..Link::DEFAULT
        };
        with_pair(seed, async |pair| {
            let _answers = pair.answer();
            pair.net.set_link(lossy);
            let mut ends = Vec::new();
            for round in 0..20 {
                let limit = Duration::from_secs(1);
                let answer = pair.one.request(id(2), vec![round], limit).await;
                ends.push(answer.is_ok());
                let (mut near, mut far) = pair.stream().await;
                let sends = pair.runtime(1).spawn("sends", async move {
                    let sent = near.write_all(&vec![round; 300_000]).await;
                    sent.and(near.shutdown().await).is_ok()
                });
                let mut bytes = Vec::new();
                ends.push(far.read_to_end(&mut bytes).await.is_ok());
                ends.push(sends.join().await.unwrap());
            }
            assert!(ends.contains(&true) && ends.contains(&false));
            (ends, pair.sim.trace_digest(), pair.sim.elapsed())
        })
    };
    let first = run(7);
    assert_eq!(first, run(7));
    assert_ne!(first.1, run(8).1);
}
