//! Links: `cairn:` and what a reader needs, key included.
//!
//! ```text
//! cairn: base64url( kind u16 | version u8 | suite u8
//!                 | owner (32) | content key (32) | expires at (u64 ms)
//!                 | count u32, then per group: group (32), owner's signature (64)
//!                 | index: count u32, segments (26 each); offset u32; bytes u64
//!                 | first 4 bytes of BLAKE3 of all before )
//! ```
//!
//! A signature is that of the [`CapabilityLink`] which gives [`Right::Read`] on the group until
//! the link expires, held by a key that is derived from the content key. The parts that both
//! sides know are left out. The reader delegates from that holder to its own peer key, so a node
//! never sees a key that opens anything.
//!
//! Who has a link reads all of the upload. `Display` gives the whole link, for that is its
//! purpose; `Debug` leaves the key out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    AccountId, Blame, Bounded, Capability, CapabilityError, CapabilityLink, DecodeError, Digest,
    GroupId, PublicKey, Record, RecordKind, Retry, Right, Scope, SecretKey, Signature, Signed,
    UnixMillis,
};
use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use crate::cipher::Suite;
use crate::index::{GROUPS_MAX, SegmentRef};
use crate::key::ContentKey;

/// What a link's text begins with.
pub const LINK_SCHEME: &str = "cairn:";
/// How long a link is good for when nothing else is asked: 90 days.
pub const LINK_LIFETIME_DEFAULT: Duration = Duration::from_secs(90 * 24 * 3_600);
/// Most segments that an index may take: 64 MiB at the smallest profile's 2 MiB, and one more for
/// each end.
pub const INDEX_SEGMENTS_MAX: usize = 40;
/// Bytes of the checksum against slips of the pen.
const CHECK_BYTES: usize = 4;

/// Where an upload's index lies.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct IndexExtent {
    /// The segments that hold it, in order.
    pub segments: Bounded<SegmentRef, INDEX_SEGMENTS_MAX>,
    /// Its first byte in the first segment's plaintext.
    pub offset: u32,
    /// Its size.
    pub bytes: u64,
}

/// A group and the owner's signature that lets the link's holder read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct LinkGroup {
    group: GroupId,
    signature: Signature,
}

/// All that is in a link, as it is encoded.
#[derive(BorshSerialize, BorshDeserialize)]
struct Body {
    suite: Suite,
    owner: AccountId,
    key: [u8; 32],
    expires_at: UnixMillis,
    groups: Bounded<LinkGroup, GROUPS_MAX>,
    index: IndexExtent,
}

impl Drop for Body {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
    }
}

impl Record for Body {
    const KIND: RecordKind = RecordKind::Link;
    /// 2 since frames are of 8 KiB: a link of version 1 names frames of 64 KiB.
    const VERSION: u8 = 2;
    const BYTES_MAX: usize = 2_048 + 96 * GROUPS_MAX;

    fn is_well_formed(&self) -> bool {
        let held: u64 = self
            .index
            .segments
            .iter()
            .map(|segment| u64::from(segment.plain_bytes))
            .sum();
        let known = |segment: &SegmentRef| {
            segment.plain_bytes > 0 && usize::from(segment.group) < self.groups.len()
        };
        let end = u64::from(self.index.offset).checked_add(self.index.bytes);
        self.index.bytes > 0
            && end.is_some_and(|end| end <= held)
            && self.index.segments.iter().all(known)
    }
}

/// The right to read one upload, and the key to it.
#[derive(Clone)]
pub struct Link {
    owner: AccountId,
    key: ContentKey,
    expires_at: UnixMillis,
    groups: Vec<LinkGroup>,
    index: IndexExtent,
}

/// Why a text is not a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseLinkError {
    /// It does not begin with [`LINK_SCHEME`].
    #[error("expected a link that begins with \"cairn:\"")]
    Scheme,
    /// A character that no link has, or a length that no link has.
    #[error(
        "expected letters, digits, - and _ after \"cairn:\", found something else at {position}"
    )]
    Alphabet {
        /// Where, counted after the scheme.
        position: usize,
    },
    /// The checksum does not match: cut short, or a character was changed.
    #[error("the link is damaged or cut short: its checksum does not match")]
    Checksum,
    /// What the text holds is no link that this software knows.
    #[error("the link can't be read: {0}")]
    Record(#[from] DecodeError),
    /// The owner did not sign it.
    #[error("the link is not signed by its owner: {0}")]
    Signature(CapabilityError),
}

impl ParseLinkError {
    /// What to do about it: the text stays what it is.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        Retry::Never
    }

    /// Whose fault it is: that of whoever gave the text.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        Blame::Caller
    }
}

impl Link {
    /// A link to an upload, good until `expires_at`.
    ///
    /// # Panics
    ///
    /// When there are more than [`GROUPS_MAX`] groups: an upload has no more.
    #[must_use]
    pub fn issue(
        owner: &SecretKey,
        key: ContentKey,
        groups: &[GroupId],
        index: IndexExtent,
        expires_at: UnixMillis,
    ) -> Self {
        assert!(groups.len() <= GROUPS_MAX, "an upload has no more groups");
        let holder = key.holder().public();
        let groups = groups
            .iter()
            .map(|group| LinkGroup {
                group: *group,
                signature: Signed::sign(right(*group, holder, expires_at), owner).signature(),
            })
            .collect();
        Self {
            owner: AccountId::new(owner.public()),
            key,
            expires_at,
            groups,
            index,
        }
    }

    /// This link with another expiry: to renew it, or to give away less.
    ///
    /// # Errors
    ///
    /// [`NotTheOwner`] when `owner` is not the key that issued this link.
    pub fn reissue(&self, owner: &SecretKey, expires_at: UnixMillis) -> Result<Self, NotTheOwner> {
        let found = AccountId::new(owner.public());
        if found != self.owner {
            return Err(NotTheOwner {
                expected: self.owner,
                found,
            });
        }
        Ok(Self::issue(
            owner,
            self.key.clone(),
            &self.groups().collect::<Vec<_>>(),
            self.index.clone(),
            expires_at,
        ))
    }

    /// Who owns the upload.
    #[must_use]
    pub const fn owner(&self) -> AccountId {
        self.owner
    }

    /// When the link ends.
    #[must_use]
    pub const fn expires_at(&self) -> UnixMillis {
        self.expires_at
    }

    /// The groups that the upload is in.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.groups.iter().map(|entry| entry.group)
    }

    /// The key to the upload's frames.
    #[must_use]
    pub const fn key(&self) -> &ContentKey {
        &self.key
    }

    /// Where the upload's index lies.
    #[must_use]
    pub const fn index(&self) -> &IndexExtent {
        &self.index
    }

    /// The capability to read `group`, held by the link's own key; `None` when the upload is not
    /// in that group.
    ///
    /// # Panics
    ///
    /// Never: one link is a chain.
    #[must_use]
    pub fn capability(&self, group: GroupId) -> Option<Capability> {
        let entry = self.groups.iter().find(|entry| entry.group == group)?;
        let holder = self.key.holder().public();
        let body = right(group, holder, self.expires_at);
        let signed = Signed::from_parts(body, self.owner.key(), entry.signature);
        Some(Capability::from_links(vec![signed]).expect("one link is a chain"))
    }

    /// The capability to read `group`, handed on to `peer`.
    ///
    /// # Panics
    ///
    /// Never: two links are within the bound.
    #[must_use]
    pub fn capability_for(&self, group: GroupId, peer: PublicKey) -> Option<Capability> {
        let held = self.capability(group)?;
        let holder = self.key.holder();
        let handed_on = held.delegate(&holder, peer, Right::Read, self.expires_at);
        Some(handed_on.expect("two links are within the bound"))
    }

    /// The record that the text encodes, for vectors.
    #[cfg(test)]
    pub(crate) fn record_bytes(&self) -> Vec<u8> {
        self.body().encode()
    }

    fn body(&self) -> Body {
        Body {
            suite: Suite::XChaCha20Poly1305,
            owner: self.owner,
            key: *self.key.as_bytes(),
            expires_at: self.expires_at,
            groups: Bounded::new(self.groups.clone()).expect("checked when it was made"),
            index: self.index.clone(),
        }
    }
}

/// Another key than the owner's was used where only the owner's will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the key of owner {expected}, found that of {found}")]
pub struct NotTheOwner {
    /// The owner.
    pub expected: AccountId,
    /// Whose key it is.
    pub found: AccountId,
}

/// What the owner signs for each group of a link.
const fn right(group: GroupId, holder: PublicKey, expires_at: UnixMillis) -> CapabilityLink {
    CapabilityLink {
        scope: Scope::Group(group),
        right: Right::Read,
        holder,
        expires_at,
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Zeroizing::new(self.body().encode());
        let check = Digest::of(&bytes);
        bytes.extend_from_slice(&check.as_bytes()[..CHECK_BYTES]);
        f.write_str(LINK_SCHEME)?;
        f.write_str(&BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for Link {
    type Err = ParseLinkError;

    fn from_str(text: &str) -> Result<Self, ParseLinkError> {
        let encoded = text
            .trim()
            .strip_prefix(LINK_SCHEME)
            .ok_or(ParseLinkError::Scheme)?;
        let bytes = BASE64URL_NOPAD
            .decode(encoded.as_bytes())
            .map_err(|error| ParseLinkError::Alphabet {
                position: error.position,
            })?;
        let bytes = Zeroizing::new(bytes);
        let (record, check) = bytes
            .split_last_chunk::<CHECK_BYTES>()
            .ok_or(ParseLinkError::Checksum)?;
        if !Digest::of(record).as_bytes().starts_with(check) {
            return Err(ParseLinkError::Checksum);
        }
        let body = Body::decode(record)?;
        let link = Self {
            owner: body.owner,
            key: ContentKey::from_bytes(&body.key),
            expires_at: body.expires_at,
            groups: body.groups.to_vec(),
            index: body.index.clone(),
        };
        let holder = link.key.holder().public();
        for group in link.groups() {
            let capability = link.capability(group).expect("it is one of its groups");
            capability
                .verify(link.owner, holder, UnixMillis::new(0))
                .map_err(ParseLinkError::Signature)?;
        }
        Ok(link)
    }
}

impl PartialEq for Link {
    /// Compares what the links hold. Not in constant time: for tests and lists of one's own links.
    fn eq(&self, other: &Self) -> bool {
        self.owner == other.owner
            && self.key.as_bytes() == other.key.as_bytes()
            && self.expires_at == other.expires_at
            && self.groups == other.groups
            && self.index == other.index
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("owner", &self.owner)
            .field("expires_at", &self.expires_at)
            .field("groups", &self.groups().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
