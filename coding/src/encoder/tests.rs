//! Ranges of columns against whole shards.

use cairn_core::Code;

use super::*;

/// Every width gives the shards that encoding the whole gives, each column once.
#[test]
fn ranges_add_up_to_the_shards() {
    let code = Code::new(5, 12).unwrap();
    let coder = Coder::new(code);
    let payload: Vec<u8> = (0..5 * 1000 - 3)
        .map(|i: u32| i.to_le_bytes()[0] ^ 0x35)
        .collect();
    let slots: Vec<SlotIndex> = code.slots().collect();
    let mut shards = vec![vec![0; 1000]; slots.len()];
    coder.encode_slots(&payload, &slots, &mut shards).unwrap();
    for width in [1, 7, 128, 999, 1000, 1001, usize::MAX / 16] {
        let mut encoder = coder.encoder(&payload, width).unwrap();
        assert_eq!(encoder.shard_bytes(), 1000);
        let mut next = 0;
        while let Some(encoded) = encoder.next_columns() {
            let columns = encoded.columns();
            assert_eq!(columns, next..(next + width.min(1000)).min(1000));
            for slot in &slots {
                let bytes = encoded.shard(*slot).unwrap();
                assert_eq!(bytes.as_ref(), &shards[slot.index()][columns.clone()]);
            }
            assert_eq!(encoded.shard(SlotIndex::new(12)), None);
            next = columns.end;
        }
        assert_eq!(next, 1000);
        assert!(encoder.next_columns().is_none());
    }
}

#[test]
fn memory_is_the_width_times_the_parity() {
    let coder = Coder::new(Code::new(20, 40).unwrap());
    let payload = vec![1; 20 << 16];
    let encoder = coder.encoder(&payload, 4096).unwrap();
    assert_eq!(encoder.parity.len(), 20 * 4096);
    let encoder = coder.encoder(&payload, usize::MAX).unwrap();
    assert_eq!(encoder.parity.len(), 20 << 16);
}

#[test]
fn an_empty_payload_is_refused() {
    let coder = Coder::new(Code::new(2, 4).unwrap());
    let expected_max = 8 << 20;
    let found = 0;
    assert_eq!(
        coder.encoder(&[], 1).err(),
        Some(EncodeError::PayloadBytes {
            expected_max,
            found
        })
    );
}
