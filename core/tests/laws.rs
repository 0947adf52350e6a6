//! Laws that hold for every input: one encoding per value, no panic on any bytes, capabilities
//! only ever narrower, money conserved by rounding that is named.

#![expect(clippy::unwrap_used, reason = "a failed test")]

use cairn_core::message::{ControlRequest, ControlResponse, DataRequest, DataResponse};
use cairn_core::{
    Amount, Bounded, ByteCount, Capability, CapabilityError, CapabilityLink, Code, Digest,
    ErrorCode, GroupId, GroupRecord, GroupRevision, NodeRecord, Profile, Receipt, Record,
    RevisionDetail, Right, Scope, SecretKey, SegmentNumber, SegmentRecord, ShardRoot, Signed, Text,
    UnixMillis,
};
use proptest::prelude::*;

fn segment_records() -> impl Strategy<Value = SegmentRecord> {
    (
        1u8..20,
        1u8..20,
        1u32..1 << 20,
        any::<u32>(),
        any::<[u8; 32]>(),
    )
        .prop_map(|(k, parity, payload_bytes, number, seed)| {
            let code = Code::new(k, k + parity).unwrap();
            let roots = (0..code.n())
                .map(|slot| ShardRoot::new(Digest::of(&[&seed[..], &[slot]].concat())))
                .collect();
            SegmentRecord {
                group: GroupId::new(Digest::new(seed)),
                number: SegmentNumber::new(number),
                code,
                payload_bytes,
                shard_roots: Bounded::new(roots).unwrap(),
            }
        })
}

/// Whatever decodes, encodes to the very bytes it came from.
fn canonical<T: Record>(bytes: &[u8]) {
    if let Ok(record) = T::decode(bytes) {
        assert_eq!(record.encode(), bytes);
    }
}

fn canonical_in_all(bytes: &[u8]) {
    canonical::<SegmentRecord>(bytes);
    canonical::<Signed<SegmentRecord>>(bytes);
    canonical::<GroupRevision>(bytes);
    canonical::<RevisionDetail>(bytes);
    canonical::<Signed<Receipt>>(bytes);
    canonical::<CapabilityLink>(bytes);
    canonical::<Capability>(bytes);
    canonical::<Signed<NodeRecord>>(bytes);
    canonical::<Signed<GroupRecord>>(bytes);
    canonical::<DataRequest>(bytes);
    canonical::<DataResponse>(bytes);
    canonical::<ControlRequest>(bytes);
    canonical::<ControlResponse>(bytes);
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(record in segment_records()) {
        let bytes = record.encode();
        prop_assert_eq!(SegmentRecord::decode(&bytes).unwrap(), record);
    }

    #[test]
    fn cut_or_extended_records_are_refused(record in segment_records(), cut in any::<prop::sample::Index>()) {
        let mut bytes = record.encode();
        let short = cut.index(bytes.len());
        prop_assert!(SegmentRecord::decode(&bytes[..short]).is_err());
        bytes.push(0);
        prop_assert!(SegmentRecord::decode(&bytes).is_err());
    }

    #[test]
    fn a_flipped_bit_breaks_the_signature(record in segment_records(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let key = SecretKey::from_bytes(&[9; 32]);
        let mut bytes = Signed::sign(record, &key).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let believed = Signed::<SegmentRecord>::decode(&bytes)
            .is_ok_and(|signed| signed.verify_by(key.public()).is_ok());
        prop_assert!(!believed, "byte {} bit {}", at, bit);
    }

    #[test]
    fn random_bytes_never_panic(kind in 0u16..32, body in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.push(1);
        bytes.extend_from_slice(&body);
        canonical_in_all(&bytes);
        canonical_in_all(&body);
    }

    #[test]
    fn mutated_records_never_panic(record in segment_records(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = record.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        canonical_in_all(&bytes);
    }

    #[test]
    fn rounding_is_as_named(micro in any::<u64>(), part in 0u64..1 << 40, whole in 1u64..1 << 40) {
        let amount = Amount::from_micro(micro);
        let exact = u128::from(micro) * u128::from(part);
        let whole_wide = u128::from(whole);
        match amount.prorate_floor(part, whole) {
            Some(floor) => prop_assert_eq!(u128::from(floor.micro()), exact / whole_wide),
            None => prop_assert!(exact / whole_wide > u128::from(u64::MAX)),
        }
        match amount.prorate_ceil(part, whole) {
            Some(ceil) => prop_assert_eq!(u128::from(ceil.micro()), exact.div_ceil(whole_wide)),
            None => prop_assert!(exact.div_ceil(whole_wide) > u128::from(u64::MAX)),
        }
    }

    #[test]
    fn sizes_parse_in_every_unit(count in 0u64..1 << 20) {
        prop_assert_eq!(format!("{count}KiB").parse::<ByteCount>().unwrap().get(), count << 10);
        prop_assert_eq!(format!("{count} MB").parse::<ByteCount>().unwrap().get(), count * 1_000_000);
        prop_assert_eq!(count.to_string().parse::<ByteCount>().unwrap().get(), count);
    }

    #[test]
    fn texts_are_cut_at_whole_characters(text in "\\PC{0,80}") {
        let cut = Text::<20>::cut(&text);
        prop_assert!(text.starts_with(cut.as_str()));
        prop_assert!(cut.as_str().len() <= 20);
        prop_assert!(cut.as_str().len() > 16 || cut.as_str() == text);
    }
}

#[test]
fn a_claimed_length_allocates_nothing() {
    // A list that claims 2^32 - 1 items, and one that claims the most allowed, in a few bytes.
    for count in [u32::MAX, 65_536] {
        let mut bytes = 3u16.to_le_bytes().to_vec();
        bytes.push(1);
        bytes.extend_from_slice(&[0; 84]);
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        assert!(RevisionDetail::decode(&bytes).is_err());
    }
}

#[test]
fn every_profile_is_consistent() {
    for profile in Profile::ALL {
        let code = profile.code();
        assert_eq!(Code::new(code.k(), code.n()), Ok(code));
        assert!(profile.lazy_threshold() < code.n());
        assert!(profile.urgent_threshold() <= profile.lazy_threshold());
        assert!(profile.urgent_threshold() > code.k());
        assert_eq!(profile.name().parse(), Ok(profile));
        assert!(code.durable_count() <= code.shard_count());
    }
    assert_eq!(Profile::Dev8.code().durable_count(), 7);
    assert_eq!(Profile::Standard.code().durable_count(), 34);
    assert_eq!(Profile::fitting(3), None);
    assert_eq!(Profile::fitting(8), Some(Profile::Dev8));
    assert_eq!(Profile::fitting(400), Some(Profile::Standard));
}

#[test]
fn codes_outside_the_limits_are_refused() {
    for (k, n) in [(0, 4), (4, 4), (5, 4), (1, 129), (128, 255)] {
        assert!(Code::new(k, n).is_err(), "{k}-of-{n}");
    }
    for (k, n) in [(1, 2), (127, 128), (1, 128)] {
        assert!(Code::new(k, n).is_ok(), "{k}-of-{n}");
    }
}

#[test]
fn error_codes_keep_their_numbers() {
    for code in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_number(code.number()), *code);
    }
    assert_eq!(ErrorCode::from_number(999), ErrorCode::Unknown(999));
}

mod capabilities {
    use super::*;

    const NOW: UnixMillis = UnixMillis::new(1_000);

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_bytes(&[seed; 32])
    }

    fn link(right: Right, holder: u8, expires_at: u64) -> CapabilityLink {
        CapabilityLink {
            scope: Scope::Group(GroupId::new(Digest::of(b"group"))),
            right,
            holder: key(holder).public(),
            expires_at: UnixMillis::new(expires_at),
        }
    }

    #[test]
    fn a_chain_from_the_owner_to_the_peer_holds() {
        let chain = Capability::issue(link(Right::Write, 2, 2_000), &key(1))
            .delegate(
                &key(2),
                key(3).public(),
                Right::Read,
                UnixMillis::new(9_000),
            )
            .unwrap();
        let last = chain
            .verify(key(1).public().into(), key(3).public(), NOW)
            .unwrap();
        assert_eq!(last.right, Right::Read);
        assert_eq!(
            last.expires_at,
            UnixMillis::new(2_000),
            "cut down to the link before"
        );
        assert!(last.allows(last.scope, Right::Read, NOW).is_ok());
        assert!(matches!(
            last.allows(last.scope, Right::Write, NOW),
            Err(CapabilityError::Right { .. })
        ));
        let other = Scope::Group(GroupId::new(Digest::of(b"other")));
        assert!(matches!(
            last.allows(other, Right::Read, NOW),
            Err(CapabilityError::Scope { .. })
        ));
    }

    #[test]
    fn stale_stolen_and_forged_capabilities_are_named() {
        let chain = Capability::issue(link(Right::Write, 2, 2_000), &key(1));
        let owner = key(1).public().into();
        let late = chain.verify(owner, key(2).public(), UnixMillis::new(2_000));
        assert!(matches!(late, Err(CapabilityError::Expired { .. })));
        let stolen = chain.verify(owner, key(3).public(), NOW);
        assert!(matches!(stolen, Err(CapabilityError::Holder { .. })));
        let forged = Capability::issue(link(Right::Write, 3, 2_000), &key(3));
        let forged = forged.verify(owner, key(3).public(), NOW);
        assert!(matches!(
            forged,
            Err(CapabilityError::Signature { index: 0, .. })
        ));
        let usurped = chain
            .delegate(
                &key(4),
                key(4).public(),
                Right::Read,
                UnixMillis::new(2_000),
            )
            .unwrap();
        let usurped = usurped.verify(owner, key(4).public(), NOW);
        assert!(matches!(
            usurped,
            Err(CapabilityError::Signature { index: 1, .. })
        ));
    }

    #[test]
    fn a_full_chain_takes_no_further_link() {
        let mut chain = Capability::issue(link(Right::Write, 1, 2_000), &key(1));
        for _ in 0..3 {
            chain = chain
                .delegate(
                    &key(1),
                    key(1).public(),
                    Right::Write,
                    UnixMillis::new(2_000),
                )
                .unwrap();
        }
        let more = chain.delegate(
            &key(1),
            key(1).public(),
            Right::Read,
            UnixMillis::new(2_000),
        );
        assert_eq!(more, Err(CapabilityError::Length { found: 5 }));
    }

    /// `delegate` cuts down by itself, so a wider link has to be made from bytes.
    #[test]
    fn a_wider_link_is_refused() {
        let narrow = Capability::issue(link(Right::Read, 2, 2_000), &key(1)).encode();
        for wide in [link(Right::Write, 3, 2_000), link(Right::Read, 3, 2_001)] {
            let mut bytes = narrow.clone();
            bytes[3..7].copy_from_slice(&2u32.to_le_bytes());
            bytes.extend_from_slice(&Signed::sign(wide, &key(2)).encode()[3..]);
            let chain = Capability::decode(&bytes).unwrap();
            let verdict = chain.verify(key(1).public().into(), key(3).public(), NOW);
            assert_eq!(verdict, Err(CapabilityError::Wider { index: 1 }));
        }
    }
}
