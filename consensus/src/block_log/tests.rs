//! Torn ends and damage at every byte.

use cairn_core::{Height, UnixMillis, ViewNumber};
use cairn_runtime::{Runtime, Sim};

use super::*;

fn block(height: u64) -> Block {
    Block {
        height: Height::new(height),
        parent: Digest::of(&height.to_le_bytes()),
        time: UnixMillis::new(height),
        view: ViewNumber::new(height),
        seeds: cairn_core::Bounded::empty(),
        lost: cairn_core::Bounded::empty(),
        txs: cairn_core::Bounded::empty(),
        verdicts: cairn_core::Bounded::empty(),
    }
}

/// Bytes of a record of [`block`].
fn record_bytes() -> usize {
    HEADER_BYTES + block(1).encode().len()
}

/// The content of a file of three blocks.
fn three<D: Disk>(disk: &D, path: &Path) -> Vec<u8> {
    let mut log = BlockLog::create(disk, path).unwrap();
    for height in 1..=3 {
        log.append(&block(height)).unwrap();
    }
    let content = disk.read_file(path, 1 << 20).unwrap();
    assert_eq!(u64::try_from(content.len()), Ok(log.bytes()));
    assert_eq!(content.len(), 3 * record_bytes());
    content
}

/// The heights that a file of this content gives, and the bytes cut off.
fn opened<D: Disk>(
    disk: &D,
    path: &Path,
    content: &[u8],
    end: End,
) -> Result<(Vec<u64>, u64), LogError> {
    disk.replace_file(path, content).unwrap();
    let mut heights = Vec::new();
    let opened = open(disk, path, end, |block| {
        heights.push(block.height.get());
        Ok::<_, LogError>(())
    })?;
    let left = u64::try_from(content.len()).unwrap() - opened.cut_bytes;
    assert_eq!(opened.log.bytes(), left);
    assert_eq!(opened.log.file.len().unwrap(), left);
    Ok((heights, opened.cut_bytes))
}

#[test]
fn a_file_cut_anywhere_gives_the_blocks_before_the_cut() {
    Sim::new(1).run(async |sim| {
        let disk = sim.machine("one").runtime().disk().clone();
        let path = Path::new("/blocks");
        let content = three(&disk, path);
        for cut in 0..=content.len() {
            let whole = cut / record_bytes();
            let expected: Vec<u64> = (1..=3).take(whole).collect();
            let torn = u64::try_from(cut % record_bytes()).unwrap();
            let found = opened(&disk, path, &content[..cut], End::MaybeTorn).unwrap();
            assert_eq!(found, (expected, torn));
            // A file with another behind it is never cut.
            let needed = opened(&disk, path, &content[..cut], End::Whole);
            assert_eq!(needed.is_ok(), torn == 0);
        }
    });
}

#[test]
fn a_changed_byte_is_damage_or_a_torn_end() {
    Sim::new(1).run(async |sim| {
        let disk = sim.machine("one").runtime().disk().clone();
        let path = Path::new("/blocks");
        let content = three(&disk, path);
        for at in 0..content.len() {
            let mut other = content.clone();
            other[at] ^= 1 << (at % 8);
            let record = at / record_bytes();
            let found = opened(&disk, path, &other, End::MaybeTorn);
            if record == 2 {
                // The last: nothing tells it from one that was torn.
                assert_eq!(found.unwrap().0, [1, 2]);
                continue;
            }
            let offset = u64::try_from(record * record_bytes()).unwrap();
            assert!(
                matches!(found, Err(LogError::Damaged { offset: found, .. }) if found == offset),
                "byte {at}"
            );
            let now = disk.read_file(path, 1 << 20).unwrap();
            assert_eq!(now, other, "damage is left as it is");
        }
    });
}

#[test]
fn more_than_one_record_of_garbage_is_no_torn_end() {
    Sim::new(1).run(async |sim| {
        let disk = sim.machine("one").runtime().disk().clone();
        let path = Path::new("/blocks");
        let mut content = three(&disk, path);
        let whole = content.len();
        content.resize(whole + RECORD_BYTES_MAX, 0);
        let found = opened(&disk, path, &content, End::MaybeTorn).unwrap();
        assert_eq!(found.0, [1, 2, 3]);
        content.push(0);
        let found = opened(&disk, path, &content, End::MaybeTorn);
        assert!(matches!(found, Err(LogError::Damaged { .. })));
    });
}

/// Who makes a block may put a whole record into it: it is not taken for one when the block is torn.
#[test]
fn a_torn_block_may_have_a_record_in_it() {
    Sim::new(1).run(async |sim| {
        let disk = sim.machine("one").runtime().disk().clone();
        let path = Path::new("/blocks");
        let whole = three(&disk, path);
        let empty = [
            &MAGIC[..],
            &0_u32.to_le_bytes(),
            checksum(&[]).as_bytes().as_slice(),
        ]
        .concat();
        let seed = cairn_ledger::ViewSeed {
            view: ViewNumber::new(3),
            signature: cairn_core::Bounded::new(empty).unwrap(),
        };
        let crafted = Block {
            seeds: cairn_core::Bounded::new(vec![seed]).unwrap(),
            ..block(4)
        };
        let mut log = open(&disk, path, End::MaybeTorn, |_| Ok::<_, LogError>(()))
            .unwrap()
            .log;
        log.append(&crafted).unwrap();
        let content = disk.read_file(path, 1 << 20).unwrap();
        assert_eq!(
            opened(&disk, path, &content, End::MaybeTorn).unwrap().0,
            [1, 2, 3, 4]
        );
        for cut in whole.len()..content.len() {
            let found = opened(&disk, path, &content[..cut], End::MaybeTorn).unwrap();
            assert_eq!(found.0, [1, 2, 3], "cut at {cut}");
        }
    });
}
