//! Receipts: what the ledger has, with what shows it to anyone who knows the ledger's key, in a file
//! that is checked without a network.
//!
//! ```json
//! { "format": "cairn durability receipt 3", "ledger": "<id>",
//!   "groups": [ { "group": "<id>", "last_segment": 4, "evidence": "<base64url>" } ] }
//! { "format": "cairn notarisation receipt 1", "ledger": "<id>",
//!   "digests": "<base64url>", "evidence": "<base64url>" }
//! ```
//!
//! The evidence is a part of the ledger's state and an attestation: the signature of those who order
//! the ledger over the root of all of it. Which segments are meant is what whoever has the link wrote
//! into it; the ledger knows no files. Of the digests that were recorded together the file has the
//! part that shows one of them.

use std::path::Path;

use cairn_core::{Digest, EpochNumber, GroupId, LedgerId, Record, SegmentNumber};
use cairn_ledger::{
    Attested, DigestSet, Evidence, GroupProof, LedgerKey, Notarisation, Question, Seen,
};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};

/// Most bytes of a receipt's file: 1,024 groups of 128 slots have less.
const FILE_BYTES_MAX: u64 = 384 << 20;

/// The file as written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "format", deny_unknown_fields)]
enum Written {
    #[serde(rename = "cairn durability receipt 3")]
    Durability {
        ledger: String,
        groups: Vec<WrittenGroup>,
    },
    #[serde(rename = "cairn notarisation receipt 1")]
    Notarisation {
        ledger: String,
        digests: String,
        evidence: String,
    },
}

/// One group as written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGroup {
    group: String,
    last_segment: u32,
    evidence: String,
}

/// A receipt that is still to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The ledger that it is of.
    pub(crate) ledger: LedgerId,
    /// What it is about.
    pub(crate) about: About,
}

/// What a receipt is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// That these groups are proven; at least one.
    Groups(Vec<GroupReceipt>),
    /// That a digest was recorded.
    Digest {
        /// The part of the digests recorded together that shows it.
        digests: DigestSet,
        /// That they were.
        evidence: Box<Evidence>,
    },
}

/// A group of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupReceipt {
    /// The group.
    pub(crate) group: GroupId,
    /// The last segment that is meant.
    pub(crate) last_segment: SegmentNumber,
    /// What shows how it is proven.
    pub(crate) evidence: Evidence,
}

/// A group of a receipt that is the ledger's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckedGroup {
    /// How it is proven.
    pub(crate) proof: GroupProof,
    /// The last segment that is meant.
    pub(crate) last_segment: SegmentNumber,
}

/// Slots proven with all segments up to `last`.
pub(crate) fn proven_count(proof: &GroupProof, last: SegmentNumber) -> usize {
    proof.proven(Some(last)).count()
}

/// Whether as many slots are proven, with all segments up to `last`, as give every byte back.
pub(crate) fn is_durable(proof: &GroupProof, last: SegmentNumber) -> bool {
    proven_count(proof, last) >= proof.code.data_count()
}

impl CheckedGroup {
    /// Slots proven with all segments that are meant.
    pub(crate) fn proven_count(&self) -> usize {
        proven_count(&self.proof, self.last_segment)
    }

    /// Whether as many are proven as give every byte back.
    pub(crate) fn is_durable(&self) -> bool {
        is_durable(&self.proof, self.last_segment)
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
        let ledger = self.ledger.to_string();
        let written = match &self.about {
            About::Groups(groups) => Written::Durability {
                ledger,
                groups: groups.iter().map(GroupReceipt::to_written).collect(),
            },
            About::Digest { digests, evidence } => Written::Notarisation {
                ledger,
                digests: BASE64URL_NOPAD.encode(&digests.encode()),
                evidence: BASE64URL_NOPAD.encode(&evidence.encode()),
            },
        };
        let mut text = serde_json::to_string_pretty(&written)
            .or_fail(FailureKind::Usage, "the receipt has no form")?;
        text.push('\n');
        files::write(path, Access::Shared, text.as_bytes())
    }

    /// Reads a file, which is not checked yet.
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
                .while_doing(format!("{shown} is no receipt"))
                .hint("cairn stat LINK --receipt FILE makes one, and cairn notarise FILE another")
        })
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let written: Written = serde_json::from_str(text)
            .or_fail(FailureKind::Usage, "malformed, or of an unknown format")?;
        let (ledger, about) = match written {
            Written::Durability { ledger, groups } => {
                if groups.is_empty() {
                    return Err(Failure::say(FailureKind::Usage, "it has no groups"));
                }
                let groups = groups.iter().map(GroupReceipt::parse);
                (ledger, About::Groups(groups.collect::<Result<_, _>>()?))
            }
            Written::Notarisation {
                ledger,
                digests,
                evidence,
            } => {
                let digests = decode(&digests, "the digests")?;
                let evidence = Box::new(decode(&evidence, "the evidence")?);
                (ledger, About::Digest { digests, evidence })
            }
        };
        Ok(Self {
            ledger: ledger
                .parse()
                .or_fail(FailureKind::Usage, "malformed ledger id")?,
            about,
        })
    }
}

impl GroupReceipt {
    fn to_written(&self) -> WrittenGroup {
        WrittenGroup {
            group: self.group.to_string(),
            last_segment: self.last_segment.get(),
            evidence: BASE64URL_NOPAD.encode(&self.evidence.encode()),
        }
    }

    fn parse(written: &WrittenGroup) -> Result<Self, Failure> {
        Ok(Self {
            group: written
                .group
                .parse()
                .or_fail(FailureKind::Usage, "malformed group id")?,
            last_segment: SegmentNumber::new(written.last_segment),
            evidence: decode(&written.evidence, "the evidence")?,
        })
    }

    /// How the group is proven, when that is what `key` attests of `ledger`.
    ///
    /// # Errors
    ///
    /// Of kind not-so when it is not.
    pub(crate) fn check(&self, ledger: LedgerId, key: &LedgerKey) -> Result<CheckedGroup, Failure> {
        let question = Question::Proven(self.group);
        let doing = || format!("group {}", self.group);
        let (seen, _) = self
            .evidence
            .check(question, ledger, key)
            .or_fail(FailureKind::NotSo, doing())?;
        match seen {
            Seen::Proven(Some(proof)) => Ok(CheckedGroup {
                proof,
                last_segment: self.last_segment,
            }),
            _ => Err(Failure::say(
                FailureKind::NotSo,
                format!("{}: the ledger did not have it", doing()),
            )),
        }
    }
}

/// When a digest was recorded, when that is what `key` attests of `ledger`.
///
/// # Errors
///
/// Of kind not-so when it is not.
pub(crate) fn check_digest(
    digest: Digest,
    (digests, evidence): (&DigestSet, &Evidence),
    ledger: LedgerId,
    key: &LedgerKey,
) -> Result<(Notarisation, Attested), Failure> {
    if digests.contains(digest) != Ok(true) {
        let text = format!("the receipt is not of these bytes, whose digest is {digest}");
        return Err(Failure::say(FailureKind::NotSo, text));
    }
    let (seen, attested) = evidence
        .check(Question::Notarisation(digests.root()), ledger, key)
        .or_fail(FailureKind::NotSo, "the receipt does not hold")?;
    match seen {
        Seen::Notarisation(Some(kept)) => Ok((kept, *attested)),
        _ => Err(Failure::say(
            FailureKind::NotSo,
            "the ledger did not have the digest",
        )),
    }
}

fn decode<T: Record>(text: &str, what: &str) -> Result<T, Failure> {
    let bytes = BASE64URL_NOPAD
        .decode(text.as_bytes())
        .or_fail(FailureKind::Usage, format!("{what}: not base64url"))?;
    T::decode(&bytes).or_fail(FailureKind::Usage, format!("{what}: malformed"))
}

#[cfg(test)]
mod tests;
