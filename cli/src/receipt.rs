//! Durability receipts: what the ledger says of the proofs of an upload's groups, signed by
//! whoever orders the ledger, in a file that is checked without a network.
//!
//! ```json
//! { "format": "cairn durability receipt 1", "ledger": "<id>", "signer": "<node id>",
//!   "groups": [ { "last_segment": 4, "signed": "<base64url of the signed group proof>" } ] }
//! ```
//!
//! What a receipt shows: the signer says that at a height of its ledger these slots' nodes had
//! answered their challenges. It does not hold the proofs themselves, and nobody else signs it. Which
//! segments are meant is what whoever has the link wrote into it; the signer knows no files.

use std::path::Path;

use cairn_core::{EpochNumber, LedgerId, NodeId, Record, SegmentNumber, Signed};
use cairn_ledger::GroupProof;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};

/// The format's name and version.
const FORMAT: &str = "cairn durability receipt 1";
/// Most bytes of a receipt's file: that of an upload of 1,024 groups of 128 slots has 11 MB.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The file as written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    ledger: String,
    signer: String,
    groups: Vec<WrittenGroup>,
}

/// One group as written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGroup {
    last_segment: u32,
    signed: String,
}

/// A receipt whose signatures hold or are still to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The ledger that it is of.
    pub(crate) ledger: LedgerId,
    /// Whose signatures it claims to have.
    pub(crate) signer: NodeId,
    /// The groups; at least one.
    pub(crate) groups: Vec<SignedGroup>,
}

/// A group of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedGroup {
    /// The last segment that is meant.
    pub(crate) last_segment: SegmentNumber,
    /// What the ledger says of it.
    pub(crate) proof: Signed<GroupProof>,
}

/// A group of a receipt whose signature holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked<'a> {
    /// What the ledger said.
    pub(crate) proof: &'a GroupProof,
    /// The last segment that is meant.
    pub(crate) last_segment: SegmentNumber,
}

impl Checked<'_> {
    /// Slots proven with all segments that are meant.
    pub(crate) fn proven_count(&self) -> usize {
        self.proof.proven(Some(self.last_segment)).count()
    }

    /// Whether as many are proven as give every byte back.
    pub(crate) fn is_durable(&self) -> bool {
        self.proven_count() >= self.proof.code.data_count()
    }

    /// The epoch as of which they are.
    pub(crate) const fn as_of(&self) -> EpochNumber {
        self.proof.as_of()
    }
}

impl Receipt {
    /// Writes the file, which is replaced if it is there.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let group = |group: &SignedGroup| WrittenGroup {
            last_segment: group.last_segment.get(),
            signed: BASE64URL_NOPAD.encode(&group.proof.encode()),
        };
        let written = Written {
            format: FORMAT.to_owned(),
            ledger: self.ledger.to_string(),
            signer: self.signer.to_string(),
            groups: self.groups.iter().map(group).collect(),
        };
        let mut text = serde_json::to_string_pretty(&written)
            .or_fail(FailureKind::Usage, "the receipt has no form")?;
        text.push('\n');
        files::write(path, Access::Shared, text.as_bytes())
    }

    /// Reads a file, whose signatures are not checked yet.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is none or it is no receipt.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = files::read_up_to(path, FILE_BYTES_MAX)?
            .ok_or_else(|| Failure::say(FailureKind::Usage, format!("there is no file {shown}")))?;
        Self::parse(&text).map_err(|failure| {
            failure
                .while_doing(format!("{shown} is no durability receipt"))
                .hint("cairn stat LINK --receipt FILE makes one")
        })
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let written: Written =
            serde_json::from_str(text).or_fail(FailureKind::Usage, "malformed JSON")?;
        if written.format != FORMAT {
            let text = format!("expected format {FORMAT:?}, found {:?}", written.format);
            return Err(Failure::say(FailureKind::Usage, text));
        }
        if written.groups.is_empty() {
            return Err(Failure::say(FailureKind::Usage, "it has no groups"));
        }
        let groups = written.groups.iter().map(|group| {
            let bytes = BASE64URL_NOPAD
                .decode(group.signed.as_bytes())
                .or_fail(FailureKind::Usage, "a signed group proof is not base64url")?;
            Ok(SignedGroup {
                last_segment: SegmentNumber::new(group.last_segment),
                proof: Signed::decode(&bytes)
                    .or_fail(FailureKind::Usage, "a signed group proof does not decode")?,
            })
        });
        Ok(Self {
            ledger: written
                .ledger
                .parse()
                .or_fail(FailureKind::Usage, "malformed ledger id")?,
            signer: written
                .signer
                .parse()
                .or_fail(FailureKind::Usage, "malformed signer")?,
            groups: groups.collect::<Result<_, Failure>>()?,
        })
    }

    /// The groups, when `signer` signed each of them for `ledger`.
    ///
    /// # Errors
    ///
    /// Of kind not-so when one is another's, of another ledger, or was changed.
    pub(crate) fn check(
        &self,
        signer: NodeId,
        ledger: LedgerId,
    ) -> Result<Vec<Checked<'_>>, Failure> {
        let check = |group: &SignedGroup| {
            let id = group.proof.unverified().group;
            group
                .proof
                .verify_for(signer.key(), ledger)
                .map(|_| ())
                .or_fail(
                    FailureKind::NotSo,
                    format!("group {id}: {signer} did not sign this for ledger {ledger}"),
                )
        };
        self.groups.iter().try_for_each(check)?;
        let checked = self.groups.iter().map(|group| Checked {
            proof: group.proof.unverified(),
            last_segment: group.last_segment,
        });
        Ok(checked.collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use cairn_core::{
        AccountId, Bounded, Code, Digest, GroupId, Height, RevisionNumber, SecretKey, SlotIndex,
        UnixMillis,
    };
    use cairn_ledger::SlotProof;
    use cairn_ledger::group::empty_revision;

    use super::*;

    fn key(number: u8) -> SecretKey {
        SecretKey::from_bytes(&[number; 32])
    }

    fn node(number: u8) -> NodeId {
        NodeId::new(key(number).public())
    }

    fn ledger() -> LedgerId {
        LedgerId::new(Digest::of(b"a ledger"))
    }

    /// A receipt of one group of 1 of 2 slots; slot `n` was proven in epoch `epochs[n]`.
    pub(crate) fn receipt(epochs: &[u64]) -> Receipt {
        let group = GroupId::new(Digest::of(b"a group"));
        let slot = |(slot, epoch): (u8, &u64)| SlotProof {
            slot: SlotIndex::new(slot),
            node: node(20 + slot),
            epoch: EpochNumber::new(*epoch),
            revision: RevisionNumber::new(1),
            segment_count: 3,
        };
        let mut revision = empty_revision(group);
        revision.number = RevisionNumber::new(1);
        revision.segment_count = 3;
        let proof = GroupProof {
            height: Height::new(50),
            time: UnixMillis::new(1_700_000_000_000),
            tip: Digest::of(b"a block"),
            epoch: EpochNumber::new(9),
            group,
            owner: AccountId::new(key(1).public()),
            code: Code::new(1, 2).unwrap(),
            revision,
            slots: Bounded::new((0..).zip(epochs).map(slot).collect()).unwrap(),
        };
        Receipt {
            ledger: ledger(),
            signer: node(7),
            groups: vec![SignedGroup {
                last_segment: SegmentNumber::new(2),
                proof: Signed::sign_for(proof, ledger(), &key(7)),
            }],
        }
    }

    #[test]
    fn a_receipt_comes_back_from_its_file_and_counts_what_was_proven_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipt.json");
        let made = receipt(&[8, 7]);
        made.write(&path).unwrap();
        let read = Receipt::read(&path).unwrap();
        assert_eq!(read, made);
        let checked = read.check(node(7), ledger()).unwrap();
        assert_eq!(checked[0].as_of(), EpochNumber::new(8));
        assert_eq!(checked[0].proven_count(), 1);
        assert!(checked[0].is_durable());
        let old = receipt(&[7, 7]);
        assert!(!old.check(node(7), ledger()).unwrap()[0].is_durable());
        // Segment 3 came after what was proven.
        let mut more = receipt(&[8, 8]);
        more.groups[0].last_segment = SegmentNumber::new(3);
        assert!(!more.check(node(7), ledger()).unwrap()[0].is_durable());
    }

    #[test]
    fn a_changed_byte_another_signer_or_another_ledger_is_refused() {
        let made = receipt(&[8, 8]);
        let kind = |failure: Failure| failure.kind();
        let other = LedgerId::new(Digest::of(b"another ledger"));
        let refused = made.check(node(8), ledger()).unwrap_err();
        assert_eq!(kind(refused), FailureKind::NotSo);
        let refused = made.check(node(7), other).unwrap_err();
        assert_eq!(kind(refused), FailureKind::NotSo);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipt.json");
        let encoded = made.groups[0].proof.encode();
        for at in 0..encoded.len() {
            let mut bytes = encoded.clone();
            bytes[at] ^= 1;
            let Ok(proof) = Signed::decode(&bytes) else {
                continue;
            };
            let mut forged = made.clone();
            forged.groups[0].proof = proof;
            assert!(forged.check(node(7), ledger()).is_err(), "byte {at}");
        }
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(Receipt::read(&path).unwrap_err().kind(), FailureKind::Usage);
        let mut none = receipt(&[8, 8]);
        none.groups.clear();
        none.write(&path).unwrap();
        assert_eq!(Receipt::read(&path).unwrap_err().kind(), FailureKind::Usage);
    }
}
