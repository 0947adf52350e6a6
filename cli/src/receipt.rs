//! Durability receipts: what the ledger says of the proofs of an upload's groups, signed by
//! those who answer for the ledger, in a file that is checked without a network.
//!
//! ```json
//! { "format": "cairn durability receipt 2", "ledger": "<id>",
//!   "groups": [ { "last_segment": 4, "signed": ["<base64url of a signed group proof>"] } ] }
//! ```
//!
//! What a receipt shows: each of its signers says that at a height of the ledger these slots' nodes had
//! answered their challenges. With validators more of them sign than may lie, so that one at least
//! is honest; a sequencer signs alone. The proofs themselves are not in it. Which
//! segments are meant is what whoever has the link wrote into it; the signers know no files.

use std::collections::BTreeMap;
use std::path::Path;

use cairn_core::{EpochNumber, LedgerId, NodeId, Record, SegmentNumber, Signed};
use cairn_ledger::GroupProof;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};

/// The format's name and version.
const FORMAT: &str = "cairn durability receipt 2";
/// Most bytes of a receipt's file: that of an upload of 1,024 groups of 128 slots has 11 MB for each
/// of at most 34 signers.
const FILE_BYTES_MAX: u64 = 384 << 20;

/// The file as written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    ledger: String,
    groups: Vec<WrittenGroup>,
}

/// One group as written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGroup {
    last_segment: u32,
    signed: Vec<String>,
}

/// A receipt whose signatures hold or are still to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The ledger that it is of.
    pub(crate) ledger: LedgerId,
    /// The groups; at least one.
    pub(crate) groups: Vec<SignedGroup>,
}

/// A group of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedGroup {
    /// The last segment that is meant.
    pub(crate) last_segment: SegmentNumber,
    /// What each signer says of it.
    pub(crate) proofs: Vec<Signed<GroupProof>>,
}

/// A group of a receipt that enough have signed.
#[derive(Clone, Debug)]
pub(crate) struct Checked<'a> {
    /// What was said by the signer that says least.
    pub(crate) proof: &'a GroupProof,
    /// Those whose signatures count, rising.
    pub(crate) signers: Vec<NodeId>,
    /// The last segment that is meant.
    pub(crate) last_segment: SegmentNumber,
}

/// How many of those who answer for a ledger must sign, so that one at least is honest where
/// fewer than a third are not.
pub(crate) const fn signers_needed(count: usize) -> usize {
    count.saturating_sub(1).saturating_div(3).saturating_add(1)
}

/// Slots proven with all segments up to `last`.
pub(crate) fn proven_count(proof: &GroupProof, last: SegmentNumber) -> usize {
    proof.proven(Some(last)).count()
}

/// Whether as many slots are proven, with all segments up to `last`, as give every byte back.
pub(crate) fn is_durable(proof: &GroupProof, last: SegmentNumber) -> bool {
    proven_count(proof, last) >= proof.code.data_count()
}

impl Checked<'_> {
    /// Slots proven with all segments that are meant.
    pub(crate) fn proven_count(&self) -> usize {
        proven_count(self.proof, self.last_segment)
    }

    /// Whether as many are proven as give every byte back.
    pub(crate) fn is_durable(&self) -> bool {
        is_durable(self.proof, self.last_segment)
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
            signed: group
                .proofs
                .iter()
                .map(|proof| BASE64URL_NOPAD.encode(&proof.encode()))
                .collect(),
        };
        let written = Written {
            format: FORMAT.to_owned(),
            ledger: self.ledger.to_string(),
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
        let proof = |text: &String| {
            let bytes = BASE64URL_NOPAD
                .decode(text.as_bytes())
                .or_fail(FailureKind::Usage, "a signed group proof is not base64url")?;
            Signed::decode(&bytes)
                .or_fail(FailureKind::Usage, "a signed group proof does not decode")
        };
        let groups = written.groups.iter().map(|group| {
            Ok(SignedGroup {
                last_segment: SegmentNumber::new(group.last_segment),
                proofs: group.signed.iter().map(proof).collect::<Result<_, _>>()?,
            })
        });
        Ok(Self {
            ledger: written
                .ledger
                .parse()
                .or_fail(FailureKind::Usage, "malformed ledger id")?,
            groups: groups.collect::<Result<_, Failure>>()?,
        })
    }

    /// The groups, when enough of `signers` signed each of them for `ledger`: of all who answer for
    /// the ledger, or of those that the caller trusts.
    ///
    /// # Errors
    ///
    /// Of kind not-so when fewer did.
    pub(crate) fn check(
        &self,
        signers: &[NodeId],
        ledger: LedgerId,
    ) -> Result<Vec<Checked<'_>>, Failure> {
        let check = |group| check_group(group, signers, ledger);
        self.groups.iter().map(check).collect()
    }
}

/// A group, when enough signed it.
fn check_group<'a>(
    group: &'a SignedGroup,
    signers: &[NodeId],
    ledger: LedgerId,
) -> Result<Checked<'a>, Failure> {
    let last = group.last_segment;
    let meant = group.proofs.first().map(|proof| proof.unverified().group);
    let meant = meant.ok_or_else(|| Failure::say(FailureKind::NotSo, "a group is not signed"))?;
    let holds = |signed: &'a Signed<GroupProof>| {
        let signer = signers.iter().find(|it| it.key() == signed.signer())?;
        let proof = signed.verify_for(signer.key(), ledger).ok()?;
        (proof.group == meant).then_some((*signer, proof))
    };
    let said: BTreeMap<NodeId, &GroupProof> = group.proofs.iter().filter_map(holds).collect();
    let needed = signers_needed(signers.len());
    let weakest = said
        .values()
        .min_by_key(|proof| (proven_count(proof, last), proof.as_of()));
    match weakest {
        Some(&proof) if said.len() >= needed => Ok(Checked {
            proof,
            signers: said.into_keys().collect(),
            last_segment: last,
        }),
        Some(_) | None => {
            let text = format!(
                "group {meant}: of {} whose signatures count, {} signed this for ledger {ledger}, {needed} needed",
                signers.len(),
                said.len(),
            );
            Err(Failure::say(FailureKind::NotSo, text))
        }
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
            groups: vec![SignedGroup {
                last_segment: SegmentNumber::new(2),
                proofs: vec![Signed::sign_for(proof, ledger(), &key(7))],
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
        let checked = read.check(&[node(7)], ledger()).unwrap();
        assert_eq!(checked[0].as_of(), EpochNumber::new(8));
        assert_eq!(checked[0].proven_count(), 1);
        assert!(checked[0].is_durable());
        let old = receipt(&[7, 7]);
        assert!(!old.check(&[node(7)], ledger()).unwrap()[0].is_durable());
        // Segment 3 came after what was proven.
        let mut more = receipt(&[8, 8]);
        more.groups[0].last_segment = SegmentNumber::new(3);
        assert!(!more.check(&[node(7)], ledger()).unwrap()[0].is_durable());
    }

    #[test]
    fn a_changed_byte_another_signer_or_another_ledger_is_refused() {
        let made = receipt(&[8, 8]);
        let kind = |failure: Failure| failure.kind();
        let other = LedgerId::new(Digest::of(b"another ledger"));
        let refused = made.check(&[node(8)], ledger()).unwrap_err();
        assert_eq!(kind(refused), FailureKind::NotSo);
        let refused = made.check(&[node(7)], other).unwrap_err();
        assert_eq!(kind(refused), FailureKind::NotSo);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipt.json");
        let encoded = made.groups[0].proofs[0].encode();
        for at in 0..encoded.len() {
            let mut bytes = encoded.clone();
            bytes[at] ^= 1;
            let Ok(proof) = Signed::decode(&bytes) else {
                continue;
            };
            let mut forged = made.clone();
            forged.groups[0].proofs[0] = proof;
            assert!(forged.check(&[node(7)], ledger()).is_err(), "byte {at}");
        }
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(Receipt::read(&path).unwrap_err().kind(), FailureKind::Usage);
        let mut none = receipt(&[8, 8]);
        none.groups.clear();
        none.write(&path).unwrap();
        assert_eq!(Receipt::read(&path).unwrap_err().kind(), FailureKind::Usage);
    }

    #[test]
    fn of_four_validators_two_must_sign_and_the_weaker_word_counts() {
        assert_eq!(
            [1, 3, 4, 6, 7, 100].map(signers_needed),
            [1, 1, 2, 2, 3, 34]
        );
        let four = [node(5), node(6), node(7), node(8)];
        let refused = |receipt: &Receipt| receipt.check(&four, ledger()).unwrap_err().kind();
        let mut made = receipt(&[8, 8]);
        assert_eq!(refused(&made), FailureKind::NotSo, "one alone");
        let said = made.groups[0].proofs[0].clone();
        made.groups[0].proofs.push(said);
        assert_eq!(refused(&made), FailureKind::NotSo, "the same one twice");
        let weaker = receipt(&[8, 7]).groups[0].proofs[0].unverified().clone();
        let mut of_another = weaker.clone();
        of_another.group = GroupId::new(Digest::of(b"another group"));
        for (proof, number) in [(&of_another, 8), (&weaker, 9)] {
            let signed = Signed::sign_for(proof.clone(), ledger(), &key(number));
            made.groups[0].proofs.push(signed);
        }
        assert_eq!(
            refused(&made),
            FailureKind::NotSo,
            "another group, a stranger"
        );
        let signed = Signed::sign_for(weaker, ledger(), &key(8));
        made.groups[0].proofs.push(signed);
        let checked = made.check(&four, ledger()).unwrap();
        let mut signers = vec![node(7), node(8)];
        signers.sort_unstable();
        assert_eq!(checked[0].signers, signers);
        assert_eq!(checked[0].proven_count(), 1);
    }
}
