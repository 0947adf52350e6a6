//! Golden vectors: `tests/vectors/proofs.json` freezes roots, challenges and proofs.
//!
//! Each root is made twice: by the crate, and by a second construction in [`naive`] that follows
//! the words of `docs/protocol/proofs.md` and shares no code with it.
//!
//! Set `CAIRN_WRITE_VECTORS=1` to write the file anew; a commit that changes it carries a
//! `Format-Change:` trailer.

#![expect(clippy::unwrap_used, reason = "a failed test")]

use std::collections::BTreeMap;
use std::fmt::Write;

use cairn_core::message::ShardRange;
use cairn_core::{
    ByteCount, Digest, EpochNumber, GroupId, GroupRevision, NodeId, PublicKey, Record,
    RevisionNumber, SegmentNumber, SlotIndex, SlotRoot,
};
use cairn_proofs::{
    AcknowledgedSlot, Challenge, Draw, Frontier, Leaf, Outboard, Proof, ProofSource, SlotTree,
    group_path, group_root, hash_shard, prove, prove_range, verify, verify_range,
};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/proofs.json");
/// Shard sizes of the slot: emptied, one block, both sides of a span, several spans.
const SIZES: [usize; 7] = [1, 1_024, 0, 16_384, 16_385, 40_000, 102_400];
/// BLAKE3 of the bytes i mod 251, from the test vectors that the designers of BLAKE3 publish.
const PUBLISHED: [(usize, &str); 4] = [
    (
        1,
        "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    ),
    (
        1_024,
        "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    ),
    (
        1_025,
        "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    ),
    (
        102_400,
        "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
    ),
];

/// The specification again, by the book.
mod naive {
    pub(crate) fn keyed(name: &str, parts: &[&[u8]]) -> blake3::Hasher {
        let mut key = name.as_bytes().to_vec();
        key.resize(32, 0);
        let mut hasher = blake3::Hasher::new_keyed(&key.try_into().unwrap());
        hasher.update(&parts.concat());
        hasher
    }

    fn digest(name: &str, parts: &[&[u8]]) -> [u8; 32] {
        *keyed(name, parts).finalize().as_bytes()
    }

    fn split<T>(list: &[T]) -> (&[T], &[T]) {
        let mut left = 1;
        while left * 2 < list.len() {
            left *= 2;
        }
        list.split_at(left)
    }

    fn slot_top(shards: &[Vec<u8>]) -> ([u8; 32], u64) {
        match shards {
            [] => ([0; 32], 0),
            [shard] if shard.is_empty() => (digest("cairn 1 slot empty leaf", &[]), 0),
            [shard] => {
                let bytes = u32::try_from(shard.len()).unwrap();
                let root = blake3::hash(shard);
                let parts: [&[u8]; 2] = [&bytes.to_le_bytes(), root.as_bytes()];
                (digest("cairn 1 slot leaf", &parts), bytes.into())
            }
            many => {
                let (left, right) = split(many);
                let (left, right) = (slot_top(left), slot_top(right));
                let sums = (left.1.to_le_bytes(), right.1.to_le_bytes());
                let parts: [&[u8]; 4] = [&left.0, &sums.0, &right.0, &sums.1];
                (digest("cairn 1 slot inner", &parts), left.1 + right.1)
            }
        }
    }

    pub(crate) fn slot_root(shards: &[Vec<u8>]) -> [u8; 32] {
        let (hash, sum) = slot_top(shards);
        let count = u32::try_from(shards.len()).unwrap();
        let parts: [&[u8]; 3] = [&count.to_le_bytes(), &sum.to_le_bytes(), &hash];
        digest("cairn 1 slot root", &parts)
    }

    fn group_top(roots: &[[u8; 32]]) -> [u8; 32] {
        match roots {
            [one] => *one,
            many => {
                let (left, right) = split(many);
                digest(
                    "cairn 1 group inner",
                    &[&group_top(left), &group_top(right)],
                )
            }
        }
    }

    pub(crate) fn group_root(roots: &[[u8; 32]]) -> [u8; 32] {
        let count = u8::try_from(roots.len()).unwrap();
        digest("cairn 1 group root", &[&[count], &group_top(roots)])
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// `bytes` bytes of the input of BLAKE3's published vectors.
fn input(bytes: usize) -> Vec<u8> {
    (0..=250).cycle().take(bytes).collect()
}

fn shards(sizes: &[usize]) -> Vec<Vec<u8>> {
    sizes.iter().map(|bytes| input(*bytes)).collect()
}

fn leaf(shard: &[u8]) -> Leaf {
    hash_shard(shard).map_or(Leaf::EMPTY, |hashed| {
        Leaf::new(hashed.outboard.shard_bytes(), hashed.root).unwrap()
    })
}

/// A node that keeps one slot of `SIZES`: slot 2 of 5.
struct Kept {
    tree: SlotTree,
    slot_roots: Vec<SlotRoot>,
    shards: Vec<Vec<u8>>,
}

impl Kept {
    fn new() -> Self {
        let shards = shards(&SIZES);
        let tree = SlotTree::from_leaves(shards.iter().map(|shard| leaf(shard))).unwrap();
        let mut slot_roots: Vec<SlotRoot> = (0..5)
            .map(|slot| SlotRoot::new(Digest::of(&[slot])))
            .collect();
        slot_roots[2] = tree.root();
        Self {
            tree,
            slot_roots,
            shards,
        }
    }

    fn acknowledged(&self) -> AcknowledgedSlot {
        AcknowledgedSlot {
            revision: GroupRevision {
                group: GroupId::new(Digest::new([1; 32])),
                number: RevisionNumber::new(1),
                segment_count: self.tree.count(),
                slot_bytes: ByteCount::new(self.tree.sum()),
                group_root: group_root(&self.slot_roots).unwrap(),
            },
            slot: SlotIndex::new(2),
            slot_count: 5,
        }
    }

    fn shard(&self, number: SegmentNumber) -> &[u8] {
        &self.shards[usize::try_from(number.get()).unwrap()]
    }
}

impl ProofSource for Kept {
    type Error = std::convert::Infallible;

    fn slot_roots(&self, _: &AcknowledgedSlot) -> Result<Vec<SlotRoot>, Self::Error> {
        Ok(self.slot_roots.clone())
    }

    fn with_tree<T>(
        &self,
        _: &AcknowledgedSlot,
        read: impl FnOnce(&SlotTree) -> T,
    ) -> Result<T, Self::Error> {
        Ok(read(&self.tree))
    }

    fn outboard(
        &self,
        _: &AcknowledgedSlot,
        number: SegmentNumber,
        _: Leaf,
    ) -> Result<Outboard, Self::Error> {
        Ok(hash_shard(self.shard(number)).unwrap().outboard)
    }

    fn read(
        &self,
        _: &AcknowledgedSlot,
        number: SegmentNumber,
        range: ShardRange,
    ) -> Result<Vec<u8>, Self::Error> {
        Ok(part(self.shard(number), range).to_vec())
    }
}

fn part(shard: &[u8], range: ShardRange) -> &[u8] {
    let start = usize::try_from(range.offset).unwrap();
    &shard[start..start + usize::try_from(range.bytes).unwrap()]
}

/// 8 samples of the slot.
fn draw() -> Draw {
    Draw {
        seed: Digest::new([2; 32]),
        node: NodeId::new(PublicKey::from_bytes([3; 32])),
        epoch: EpochNumber::new(4),
        sample_count: 8,
    }
}

fn roots(all: &mut BTreeMap<String, String>) {
    for (bytes, published) in PUBLISHED {
        let root = hash_shard(&input(bytes)).unwrap().root;
        assert_eq!(root.to_string(), published);
        all.insert(format!("shard root of {bytes} bytes"), published.to_owned());
    }
    let shards = shards(&SIZES);
    let mut frontier = Frontier::new();
    for count in 0..=shards.len() {
        let own = &shards[..count];
        let tree = SlotTree::from_leaves(own.iter().map(|shard| leaf(shard))).unwrap();
        assert_eq!(tree.root().as_bytes(), &naive::slot_root(own));
        assert_eq!(tree.root(), frontier.root());
        all.insert(
            format!("slot root of {count} leaves"),
            hex(tree.root().as_bytes()),
        );
        if let Some(shard) = shards.get(count) {
            frontier.append(leaf(shard)).unwrap();
        }
    }
    all.insert(
        "frontier of 7 leaves".to_owned(),
        hex(borsh::to_vec(&frontier).unwrap()),
    );
    for count in [1_u8, 2, 3, 5, 40, 128] {
        let slot_roots: Vec<[u8; 32]> = (0..count).map(|slot| [slot; 32]).collect();
        let typed: Vec<SlotRoot> = slot_roots
            .iter()
            .map(|root| SlotRoot::new(Digest::new(*root)))
            .collect();
        let root = group_root(&typed).unwrap();
        assert_eq!(root.as_bytes(), &naive::group_root(&slot_roots));
        all.insert(format!("group root of {count} slots"), hex(root.as_bytes()));
    }
}

fn ranges(all: &mut BTreeMap<String, String>) {
    let shard = input(102_400);
    let hashed = hash_shard(&shard).unwrap();
    all.insert(
        "outboard of 102400 bytes".to_owned(),
        hex(hashed.outboard.to_bytes()),
    );
    for (offset, bytes) in [
        (0, 1_024),
        (101_376, 1_024),
        (16_384, 65_536),
        (5_120, 30_720),
    ] {
        let range = ShardRange { offset, bytes };
        let read = |range| Ok::<_, ()>(part(&shard, range));
        let proof = prove_range(102_400, range, &hashed.outboard, read).unwrap();
        let content = part(&shard, range);
        assert_eq!(
            verify_range(hashed.root, 102_400, range, content, proof.as_bytes()),
            Ok(())
        );
        let name = format!("range proof of {bytes} bytes at {offset} of 102400");
        all.insert(name, hex(proof.as_bytes()));
    }
}

fn proofs(all: &mut BTreeMap<String, String>) {
    let kept = Kept::new();
    let slot = kept.acknowledged();
    let challenge = Challenge::draw(&draw(), &[slot]).unwrap();
    // The samples by the book.
    let mut stream = [0; 8 * 16];
    let epoch = 4_u64.to_le_bytes();
    naive::keyed("cairn 1 challenge", &[&[2; 32], &[3; 32], &epoch])
        .finalize_xof()
        .fill(&mut stream);
    let mut samples: Vec<u64> = stream
        .chunks_exact(16)
        .map(|sample| u128::from_le_bytes(sample.try_into().unwrap()) % u128::from(kept.tree.sum()))
        .map(|sample| u64::try_from(sample).unwrap())
        .collect();
    samples.sort_unstable();
    samples.dedup();
    let [sampled] = challenge.slots() else {
        panic!("one slot, one entry");
    };
    assert_eq!(sampled.positions, samples);
    let positions: Vec<u8> = samples
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    all.insert("challenge positions".to_owned(), hex(positions));
    let proof = prove(&challenge, &kept).unwrap();
    assert_eq!(verify(&challenge, &proof), Ok(()));
    all.insert("proof".to_owned(), hex(proof.encode()));
    let path = group_path(&kept.slot_roots, slot.slot).unwrap();
    all.insert(
        "group path of slot 2 of 5".to_owned(),
        hex(borsh::to_vec(&path).unwrap()),
    );
}

#[test]
fn roots_and_proofs_are_as_the_golden_vectors_say() {
    let mut made = BTreeMap::new();
    roots(&mut made);
    ranges(&mut made);
    proofs(&mut made);
    if std::env::var_os("CAIRN_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        std::fs::write(PATH, text).unwrap();
    }
    let text = std::fs::read_to_string(PATH).unwrap();
    let golden: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    for (name, hex) in &made {
        assert_eq!(golden.get(name), Some(hex), "vector {name:?} changed");
    }
    assert_eq!(
        golden.len(),
        made.len(),
        "a vector that nothing makes any more"
    );
}

/// The golden proof, from the file alone, answers the golden challenge.
#[test]
fn the_golden_proof_holds() {
    let text = std::fs::read_to_string(PATH).unwrap();
    let golden: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    let digits = &golden["proof"];
    let bytes: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect();
    let proof = Proof::decode(&bytes).unwrap();
    let challenge = Challenge::draw(&draw(), &[Kept::new().acknowledged()]).unwrap();
    assert_eq!(verify(&challenge, &proof), Ok(()));
}
