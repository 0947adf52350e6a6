//! The data plane over a stream in memory.

use std::time::Duration;

use bytes::BytesMut;
use cairn_core::message::{
    DATA_MESSAGE_BYTES_MAX, DataRequest, RecordEntry, ShardRange, WithRecord,
};
use cairn_core::{
    Bounded, Capability, CapabilityLink, Code, Digest, GroupId, NodeId, PublicKey, Receipt, Right,
    Scope, SecretKey, SegmentNumber, SegmentRecord, ShardRoot, Signed, SlotIndex, UnixMillis,
};
use cairn_runtime::{RealRuntime, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::NetError;

type Asking = DataConn<DuplexStream, RealRuntime>;
type Answering = ServerConn<DuplexStream, RealRuntime>;

/// Sizes at which blocks, reads and steps begin and end: one byte, around a block, around a read,
/// around a body step, and the largest shard.
const SIZES: [usize; 11] = [
    1,
    1_023,
    1_024,
    1_025,
    (64 << 10) - 1,
    64 << 10,
    (64 << 10) + 1,
    128 << 10,
    (128 << 10) + 1,
    1 << 20,
    4 << 20,
];

/// Short, for tests that wait for it.
const HASTY: Pace = Pace {
    idle: Duration::from_millis(60),
    stall: Duration::from_millis(60),
    bytes_per_second_min: 1 << 30,
};

fn peer() -> NodeId {
    NodeId::new(PublicKey::from_bytes([3; 32]))
}

/// Both ends of a stream whose buffer holds `bytes`.
fn pair(bytes: usize, pace: Pace) -> (Asking, Answering) {
    let (near, far) = tokio::io::duplex(bytes);
    let runtime = RealRuntime::current();
    (
        DataConn::new(near, peer(), runtime.clone(), pace),
        ServerConn::new(far, peer(), runtime, pace),
    )
}

/// One end, and the other one raw.
fn half(pace: Pace) -> (Asking, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 20);
    (
        DataConn::new(near, peer(), RealRuntime::current(), pace),
        far,
    )
}

fn shard(bytes: usize) -> Vec<u8> {
    (0..=250_u8).cycle().take(bytes).collect()
}

fn record(shard: &[u8]) -> Signed<SegmentRecord> {
    let root = ShardRoot::new(Digest::of(shard));
    let record = SegmentRecord {
        group: group(),
        number: SegmentNumber::new(3),
        code: Code::new(1, 2).unwrap(),
        payload_bytes: u32::try_from(shard.len()).unwrap(),
        shard_roots: Bounded::new(vec![root, root]).unwrap(),
    };
    Signed::sign(record, &SecretKey::from_bytes(&[9; 32]))
}

fn group() -> GroupId {
    GroupId::new(Digest::of(b"group"))
}

fn receipt(shard: &[u8]) -> Signed<Receipt> {
    let receipt = Receipt {
        node: peer(),
        group: group(),
        slot: SlotIndex::new(1),
        segment: SegmentNumber::new(3),
        shard_root: ShardRoot::new(Digest::of(shard)),
        shard_bytes: u32::try_from(shard.len()).unwrap(),
    };
    Signed::sign(receipt, &SecretKey::from_bytes(&[3; 32]))
}

fn capability() -> Capability {
    let link = CapabilityLink {
        scope: Scope::Group(group()),
        right: Right::Write,
        holder: PublicKey::from_bytes([4; 32]),
        expires_at: UnixMillis::new(u64::MAX),
    };
    Capability::issue(link, &SecretKey::from_bytes(&[9; 32]))
}

fn wanted(offset: u32, bytes: u32) -> ShardWanted {
    ShardWanted {
        group: group(),
        slot: SlotIndex::new(1),
        segment: SegmentNumber::new(3),
        range: ShardRange { offset, bytes },
        record: WithRecord::No,
    }
}

#[tokio::test]
async fn shards_of_every_size_go_both_ways() {
    for buffer in [7, 1 << 20] {
        for bytes in SIZES {
            if bytes > 128 << 10 && buffer == 7 {
                continue;
            }
            put_and_get(buffer, bytes).await;
        }
    }
}

async fn put_and_get(buffer: usize, bytes: usize) {
    let (mut asking, mut answering) = pair(buffer, Pace::CLIENT);
    let sent = shard(bytes);
    let asks = async {
        let given = asking
            .put(SlotIndex::new(1), &record(&sent), &sent)
            .await
            .unwrap();
        assert_eq!(given, receipt(&sent));
        let mut into = BytesMut::new();
        let whole = wanted(0, u32::try_from(bytes).unwrap());
        let got = asking.get(&whole, &mut into).await.unwrap();
        assert!(into == sent[..]);
        assert_eq!(got.range, whole.range);
        assert_eq!(got.proof, b"proof");
        assert!(asking.is_reusable());
    };
    let answers = async {
        let Some(DataRequest::Put { record: got, slot }) = answering.next().await.unwrap() else {
            panic!("expected a put");
        };
        assert_eq!((got, slot), (record(&sent), SlotIndex::new(1)));
        let mut body = BytesMut::with_capacity(answering.body_left());
        while answering.read_body(&mut body).await.unwrap() > 0 {}
        assert!(body == sent[..]);
        let response = DataResponse::Receipt(receipt(&sent));
        answering.respond(&response).await.unwrap();
        let Some(DataRequest::Get { .. }) = answering.next().await.unwrap() else {
            panic!("expected a get");
        };
        answering
            .respond_shard(None, 0, b"proof", &sent)
            .await
            .unwrap();
    };
    tokio::join!(asks, answers);
}

#[tokio::test]
async fn the_callers_buffer_is_reused() {
    let (mut asking, mut answering) = pair(1 << 16, Pace::CLIENT);
    let sent = shard(1 << 16);
    let asks = async {
        let mut into = BytesMut::with_capacity(1 << 16);
        let place = into.as_ptr();
        for _ in 0..4 {
            asking.get(&wanted(0, 1 << 16), &mut into).await.unwrap();
            assert!(into == sent[..]);
            assert_eq!(into.as_ptr(), place);
        }
    };
    let answers = async {
        for _ in 0..4 {
            answering.next().await.unwrap().unwrap();
            answering.respond_shard(None, 0, &[], &sent).await.unwrap();
        }
    };
    tokio::join!(asks, answers);
}

#[tokio::test]
async fn present_and_records_are_answered() {
    let (mut asking, mut answering) = pair(64, Pace::CLIENT);
    let entry = RecordEntry::Kept(record(b"shard"));
    let entries = Bounded::new(vec![RecordEntry::Emptied(SegmentNumber::new(0)), entry]).unwrap();
    let expected = entries.clone();
    let asks = async {
        asking.present(&capability()).await.unwrap();
        let page = asking.records(group(), SegmentNumber::ZERO, 2).await;
        assert_eq!(page, Ok((expected, 7)));
        asking.close().await.unwrap();
    };
    let answers = async {
        let request = answering.next().await.unwrap();
        assert_eq!(request, Some(DataRequest::Present(capability())));
        answering.respond(&DataResponse::Done).await.unwrap();
        answering.next().await.unwrap().unwrap();
        let page = DataResponse::Records {
            entries,
            segment_count: 7,
        };
        answering.respond(&page).await.unwrap();
        assert_eq!(answering.next().await, Ok(None));
    };
    tokio::join!(asks, answers);
}

#[tokio::test]
async fn a_refused_put_leaves_the_stream_in_step() {
    let (mut asking, mut answering) = pair(1 << 10, Pace::CLIENT);
    let sent = shard(300_000);
    let asks = async {
        for _ in 0..2 {
            let refused = asking.put(SlotIndex::new(1), &record(&sent), &sent).await;
            let expected = DataError::Remote {
                peer: peer(),
                code: ErrorCode::DiskFull,
                text: "full".to_owned(),
            };
            assert_eq!(refused, Err(expected));
            assert!(asking.is_reusable());
        }
    };
    let answers = async {
        for steps in 0..2 {
            answering.next().await.unwrap().unwrap();
            let mut body = BytesMut::new();
            for _ in 0..steps {
                answering.read_body(&mut body).await.unwrap();
            }
            let code = ErrorCode::DiskFull;
            answering.respond_error(code, "full").await.unwrap();
        }
    };
    tokio::join!(asks, answers);
}

#[tokio::test]
async fn a_protocol_error_ends_the_stream_on_both_ends() {
    let (mut asking, mut answering) = pair(1 << 10, Pace::CLIENT);
    let asks = async {
        let refused = asking.present(&capability()).await;
        assert!(matches!(refused, Err(DataError::Remote { .. })));
        assert!(!asking.is_reusable());
        let again = asking.present(&capability()).await;
        assert_eq!(again, Err(DataError::OutOfStep { peer: peer() }));
    };
    let answers = async {
        answering.next().await.unwrap().unwrap();
        let code = ErrorCode::Unsupported;
        answering.respond_error(code, "").await.unwrap();
        assert_eq!(answering.next().await, Ok(None));
    };
    tokio::join!(asks, answers);
}

#[tokio::test]
async fn a_shard_of_another_size_is_not_sent() {
    let (mut asking, mut far) = half(Pace::CLIENT);
    let refused = asking
        .put(SlotIndex::new(1), &record(&shard(10)), &shard(11))
        .await;
    let expected = DataError::ShardBytes {
        expected: 10,
        found: 11,
    };
    assert_eq!(refused, Err(expected));
    assert!(asking.is_reusable());
    drop(asking);
    let mut sent = Vec::new();
    far.read_to_end(&mut sent).await.unwrap();
    assert_eq!(sent, Vec::<u8>::new());
}

#[tokio::test]
async fn a_dropped_request_leaves_the_stream_unusable() {
    let (mut asking, _far) = half(Pace::CLIENT);
    let runtime = RealRuntime::current();
    let mut into = BytesMut::new();
    let first = wanted(0, 1);
    let asked = asking.get(&first, &mut into);
    let dropped = runtime.timeout(Duration::from_millis(5), asked).await;
    assert!(dropped.is_err());
    assert!(!asking.is_reusable());
    let again = asking.get(&wanted(0, 1), &mut into).await;
    assert_eq!(again, Err(DataError::OutOfStep { peer: peer() }));
}

#[tokio::test]
async fn only_the_range_asked_for_is_taken() {
    // Asked for offset and bytes; answered offset and bytes; whether it fits.
    let cases = [
        ((0, 1), (0, 1_024), true),
        ((0, 1), (0, 1), true),
        ((0, 1), (0, 1_025), false),
        ((1_023, 2), (0, 2_048), true),
        ((1_023, 2), (0, 1_025), true),
        ((1_023, 2), (0, 1_024), false),
        ((1_024, 1), (1_024, 600), true),
        ((1_024, 1), (1_023, 600), false),
        ((1_024, 1), (0, 2_048), false),
        ((2_000, 100), (1_024, 1_076), true),
        ((2_000, 100), (2_000, 100), false),
        ((0, 4 << 20), (0, 4 << 20), true),
        ((u32::MAX, 1), (0, 1), false),
        ((u32::MAX, u32::MAX), (0, 1_024), false),
    ];
    for ((offset, bytes), (offset_found, bytes_found), fits) in cases {
        let (mut asking, mut answering) = pair(1 << 20, Pace::CLIENT);
        let body = shard(usize::try_from(bytes_found).unwrap());
        let asks = async {
            let mut into = BytesMut::new();
            let got = asking.get(&wanted(offset, bytes), &mut into).await;
            let found = ShardRange {
                offset: offset_found,
                bytes: bytes_found,
            };
            assert_eq!(got.is_ok(), fits, "{offset} {bytes} {found:?}: {got:?}");
            assert_eq!(asking.is_reusable(), fits);
            drop(asking);
        };
        let answers = async {
            answering.next().await.unwrap().unwrap();
            // The asking end may hang up on a wrong range.
            let _sent = answering
                .respond_shard(None, offset_found, &[], &body)
                .await;
        };
        tokio::join!(asks, answers);
    }
}

#[tokio::test]
async fn a_message_over_its_bound_is_refused_before_it_is_read() {
    let (mut asking, mut far) = half(Pace::CLIENT);
    let max = DataResponse::BYTES_MAX;
    let claimed = u32::try_from(max + 1).unwrap();
    far.write_all(&claimed.to_le_bytes()).await.unwrap();
    let refused = asking.present(&capability()).await;
    let expected = DataError::TooLong {
        peer: peer(),
        max,
        found: claimed,
    };
    assert_eq!(refused, Err(expected));
    assert!(max <= DATA_MESSAGE_BYTES_MAX);
}

/// The bytes of a whole answer.
fn answer(response: &DataResponse, body: &[u8]) -> Vec<u8> {
    let message = response.encode();
    let mut bytes = u32::try_from(message.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(&message);
    bytes.extend_from_slice(body);
    bytes
}

fn shard_answer(body: &[u8]) -> Vec<u8> {
    let range = ShardRange {
        offset: 0,
        bytes: u32::try_from(body.len()).unwrap(),
    };
    let response = DataResponse::Shard {
        record: Some(record(body)),
        range,
        proof_bytes: 0,
    };
    answer(&response, body)
}

#[tokio::test]
async fn an_answer_cut_anywhere_is_an_error() {
    let body = shard(100);
    let whole = shard_answer(&body);
    for end in 0..=whole.len() {
        let (mut asking, mut far) = half(Pace::CLIENT);
        far.write_all(&whole[..end]).await.unwrap();
        far.shutdown().await.unwrap();
        let mut into = BytesMut::new();
        let got = asking.get(&wanted(0, 100), &mut into).await;
        if end == whole.len() {
            assert!(got.is_ok(), "{got:?}");
        } else {
            let cut = matches!(got, Err(DataError::Net(NetError::Disconnected { .. })));
            assert!(cut, "cut at {end}: {got:?}");
            assert!(!asking.is_reusable());
        }
    }
}

#[tokio::test]
async fn an_answer_with_a_flipped_bit_is_an_error_or_another_answer() {
    let body = shard(100);
    let whole = shard_answer(&body);
    for at in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        let (mut asking, mut far) = half(Pace::CLIENT);
        far.write_all(&flipped).await.unwrap();
        drop(far);
        let mut into = BytesMut::new();
        // A bit of the record or the body passes here: they are verified above.
        if asking.get(&wanted(0, 100), &mut into).await.is_ok() {
            assert_eq!(into.len(), 100);
        }
    }
}

#[tokio::test]
async fn another_kind_of_answer_is_named() {
    let (mut asking, mut far) = half(Pace::CLIENT);
    far.write_all(&answer(&DataResponse::Done, &[]))
        .await
        .unwrap();
    let mut into = BytesMut::new();
    let got = asking.get(&wanted(0, 1), &mut into).await;
    let expected = DataError::Unexpected {
        peer: peer(),
        expected: "Shard",
        found: "Done",
    };
    assert_eq!(got, Err(expected));
    assert!(!asking.is_reusable());
}

#[tokio::test]
async fn garbage_requests_are_answered_with_their_code() {
    let version = {
        let mut message = DataRequest::Present(capability()).encode();
        message[2] = 9;
        message
    };
    let cases: [(&[u8], ErrorCode); 4] = [
        (b"", ErrorCode::Malformed),
        (b"\x0d", ErrorCode::Malformed),
        (b"\x0d\x00\x01\xff\xff\xff", ErrorCode::Malformed),
        (&version, ErrorCode::Unsupported),
    ];
    for (message, code) in cases {
        let (near, far) = tokio::io::duplex(1 << 16);
        let mut asking = near;
        let length = u32::try_from(message.len()).unwrap().to_le_bytes();
        asking.write_all(&length).await.unwrap();
        asking.write_all(message).await.unwrap();
        let runtime = RealRuntime::current();
        let mut answering = ServerConn::new(far, peer(), runtime, Pace::SERVER);
        let refused = answering.next().await;
        assert!(matches!(refused, Err(DataError::Malformed { .. })));
        drop(answering);
        let mut told = Vec::new();
        asking.read_to_end(&mut told).await.unwrap();
        let told = DataResponse::decode(&told[4..]).unwrap();
        assert!(matches!(told, DataResponse::Error { code: found, .. } if found == code));
    }
}

#[tokio::test]
async fn a_peer_that_never_sends_is_given_up() {
    let (mut asking, _far) = half(HASTY);
    let stalled = asking.present(&capability()).await;
    assert!(
        matches!(stalled, Err(DataError::Stalled { .. })),
        "{stalled:?}"
    );

    let (near, far) = tokio::io::duplex(1 << 10);
    let mut answering = ServerConn::new(far, peer(), RealRuntime::current(), HASTY);
    let stalled = answering.next().await;
    assert!(
        matches!(stalled, Err(DataError::Stalled { .. })),
        "{stalled:?}"
    );
    drop(near);
}

#[tokio::test]
async fn a_peer_that_trickles_is_given_up() {
    let (near, mut far) = tokio::io::duplex(1 << 10);
    let runtime = RealRuntime::current();
    let mut answering = ServerConn::new(near, peer(), runtime.clone(), HASTY);
    let request = DataRequest::Put {
        slot: SlotIndex::new(1),
        record: record(&shard(1_000)),
    };
    let message = request.encode();
    far.write_all(&u32::try_from(message.len()).unwrap().to_le_bytes())
        .await
        .unwrap();
    far.write_all(&message).await.unwrap();
    let trickles = async {
        while far.write_all(&[1]).await.is_ok() {
            runtime.sleep(Duration::from_millis(10)).await;
        }
    };
    let receives = async {
        answering.next().await.unwrap().unwrap();
        let mut body = BytesMut::new();
        let given_up = answering.read_body(&mut body).await;
        assert!(matches!(given_up, Err(DataError::Stalled { .. })));
        drop(answering);
    };
    tokio::join!(trickles, receives);
}

#[tokio::test]
async fn our_own_slowness_is_not_blamed_on_the_peer() {
    let (mut asking, mut answering) = pair(1 << 20, HASTY);
    let sent = shard(500_000);
    let asks = async {
        // The asking end waits for the answering one, which is the slow one here.
        let done = asking.put(SlotIndex::new(1), &record(&sent), &sent).await;
        assert!(matches!(done, Err(DataError::Stalled { .. })), "{done:?}");
    };
    let answers = async {
        answering.next().await.unwrap().unwrap();
        let mut body = BytesMut::new();
        while answering.read_body(&mut body).await.unwrap() > 0 {
            RealRuntime::current()
                .sleep(Duration::from_millis(40))
                .await;
        }
        assert_eq!(body.len(), sent.len());
    };
    tokio::join!(asks, answers);
}

#[tokio::test]
async fn a_peer_that_gives_up_says_why() {
    // The other end answers and hangs up while the body is still on its way.
    let (mut asking, mut far) = {
        let (near, far) = tokio::io::duplex(1 << 10);
        let runtime = RealRuntime::current();
        (DataConn::new(near, peer(), runtime, Pace::CLIENT), far)
    };
    let asks = async {
        let sent = shard(1 << 20);
        let refused = asking.put(SlotIndex::new(1), &record(&sent), &sent).await;
        let busy = matches!(
            refused,
            Err(DataError::Remote {
                code: ErrorCode::Busy,
                ..
            })
        );
        assert!(busy, "{refused:?}");
    };
    let refuses = async {
        far.write_all(&refusal()).await.unwrap();
        let mut some = [0; 100];
        far.read_exact(&mut some).await.unwrap();
        drop(far);
    };
    tokio::join!(asks, refuses);
}
