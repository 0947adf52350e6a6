//! Capabilities: signed, narrowing rights that nodes check offline.
//!
//! A capability is a chain of links. The first is signed by the owner of the scope, each further
//! one by the holder of the one before; each has the same scope, no more rights and no later
//! expiry. The last link's holder is the peer that presents it, so a chain that leaks is of no use
//! to others; a share link carries the secret key of its last holder, with which the reader adds
//! a link to its own peer key.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::bounded::Bounded;
use crate::id::{AccountId, GroupId};
use crate::key::{PublicKey, SecretKey};
use crate::record::{Record, RecordKind, SIGNATURE_BYTES, SignatureError, Signed};
use crate::time::UnixMillis;

/// Longest chain: owner to writer's machine, to a link, to the reader's peer, and one to spare.
pub const LINKS_MAX: usize = 4;

/// What a capability is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]

pub enum Scope {
    /// One group.
    Group(GroupId),
}

/// A right, each including those before it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]

pub enum Right {
    /// Get shards.
    Read,
    /// Put shards and revise.
    Write,
}

/// One step of delegation. Signed by the owner or by the holder before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CapabilityLink {
    /// What it is about.
    pub scope: Scope,
    /// What the holder may do.
    pub right: Right,
    /// Who may use it or hand it on.
    pub holder: PublicKey,
    /// Not valid at or after this time.
    pub expires_at: UnixMillis,
}

impl Record for CapabilityLink {
    const KIND: RecordKind = RecordKind::CapabilityLink;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 96;
}

/// A chain of links from the owner to the holder.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Capability {
    links: Bounded<Signed<CapabilityLink>, LINKS_MAX>,
}

impl Record for Capability {
    const KIND: RecordKind = RecordKind::Capability;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 16 + LINKS_MAX * (CapabilityLink::BYTES_MAX + SIGNATURE_BYTES);

    fn is_well_formed(&self) -> bool {
        !self.links.is_empty()
    }
}

/// Why a capability does not allow what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// The chain has no link, or more than [`LINKS_MAX`].
    #[error("expected 1 to {LINKS_MAX} links, found {found}")]
    Length {
        /// Links in the chain.
        found: usize,
    },
    /// A link's signature is not that of the owner or of the holder before.
    #[error("link {index}: {cause}")]
    Signature {
        /// Which link, from 0.
        index: usize,
        /// What is wrong.
        cause: SignatureError,
    },
    /// A link allows more than the one before.
    #[error("link {index} is wider than the one before")]
    Wider {
        /// Which link, from 0.
        index: usize,
    },
    /// Another scope than the one asked for.
    #[error("expected a capability for {expected:?}, found {found:?}")]
    Scope {
        /// What was asked for.
        expected: Scope,
        /// What it is about.
        found: Scope,
    },
    /// Less than the right asked for.
    #[error("expected the right to {expected:?}, found {found:?}")]
    Right {
        /// What was asked for.
        expected: Right,
        /// What it allows.
        found: Right,
    },
    /// Presented by someone else than its holder.
    #[error("expected holder {expected}, presented by {found}")]
    Holder {
        /// Its holder.
        expected: PublicKey,
        /// Who presented it.
        found: PublicKey,
    },
    /// Too late.
    #[error("expired at {expired_at}, now {now}")]
    Expired {
        /// When it ended.
        expired_at: UnixMillis,
        /// The time of the check.
        now: UnixMillis,
    },
}

impl Capability {
    /// A chain of one link, signed by the owner.
    ///
    /// # Panics
    ///
    /// Never: one link is within the bound.
    #[must_use]
    pub fn issue(link: CapabilityLink, owner: &SecretKey) -> Self {
        let links = Bounded::new(vec![Signed::sign(link, owner)]).expect("one link is allowed");
        Self { links }
    }

    /// A chain of these links, unverified.
    ///
    /// # Errors
    ///
    /// [`CapabilityError::Length`] when there is none or more than [`LINKS_MAX`].
    pub fn from_links(links: Vec<Signed<CapabilityLink>>) -> Result<Self, CapabilityError> {
        let found = links.len();
        let links = Bounded::new(links).map_err(|_| CapabilityError::Length { found })?;
        if links.is_empty() {
            return Err(CapabilityError::Length { found });
        }
        Ok(Self { links })
    }

    /// Its links from the owner on, unverified.
    #[must_use]
    pub fn links(&self) -> &[Signed<CapabilityLink>] {
        &self.links
    }

    /// This chain with one more link to `holder`, signed by the present holder's key. The right
    /// and the expiry are cut down to what the chain allows.
    ///
    /// # Errors
    ///
    /// [`CapabilityError::Length`] when the chain is full.
    pub fn delegate(
        &self,
        key: &SecretKey,
        holder: PublicKey,
        right: Right,
        expires_at: UnixMillis,
    ) -> Result<Self, CapabilityError> {
        let last = *self.last()?;
        let link = CapabilityLink {
            scope: last.scope,
            right: right.min(last.right),
            holder,
            expires_at: expires_at.min(last.expires_at),
        };
        let mut links = self.links.to_vec();
        links.push(Signed::sign(link, key));
        let found = links.len();
        let links = Bounded::new(links).map_err(|_| CapabilityError::Length { found })?;
        Ok(Self { links })
    }

    /// The last link, unverified.
    fn last(&self) -> Result<&CapabilityLink, CapabilityError> {
        let link = self
            .links
            .last()
            .ok_or(CapabilityError::Length { found: 0 })?;
        Ok(link.unverified())
    }

    /// What it is about, unverified: for routing.
    ///
    /// # Errors
    ///
    /// [`CapabilityError::Length`] when the chain is empty.
    pub fn scope(&self) -> Result<Scope, CapabilityError> {
        Ok(self.last()?.scope)
    }

    /// Checks the whole chain: signatures from `owner` on, each link no wider than the one before,
    /// the last held by `peer`, not expired at `now`. Returns the last link.
    ///
    /// # Errors
    ///
    /// [`CapabilityError`] names the first thing that is wrong.
    pub fn verify(
        &self,
        owner: AccountId,
        peer: PublicKey,
        now: UnixMillis,
    ) -> Result<CapabilityLink, CapabilityError> {
        let mut signer = owner.key();
        let mut before: Option<CapabilityLink> = None;
        for (index, signed) in self.links.iter().enumerate() {
            let link = *signed
                .verify_by(signer)
                .map_err(|cause| CapabilityError::Signature { index, cause })?;
            let wider = before.is_some_and(|wide| {
                link.scope != wide.scope
                    || link.right > wide.right
                    || link.expires_at > wide.expires_at
            });
            if wider {
                return Err(CapabilityError::Wider { index });
            }
            signer = link.holder;
            before = Some(link);
        }
        let link = before.ok_or(CapabilityError::Length { found: 0 })?;
        if link.holder != peer {
            return Err(CapabilityError::Holder {
                expected: link.holder,
                found: peer,
            });
        }
        if now >= link.expires_at {
            return Err(CapabilityError::Expired {
                expired_at: link.expires_at,
                now,
            });
        }
        Ok(link)
    }
}

impl CapabilityLink {
    /// Whether this verified link allows `right` on `scope`.
    ///
    /// # Errors
    ///
    /// [`CapabilityError::Scope`], [`CapabilityError::Right`], [`CapabilityError::Expired`].
    pub fn allows(
        &self,
        scope: Scope,
        right: Right,
        now: UnixMillis,
    ) -> Result<(), CapabilityError> {
        if self.scope != scope {
            return Err(CapabilityError::Scope {
                expected: scope,
                found: self.scope,
            });
        }
        if self.right < right {
            return Err(CapabilityError::Right {
                expected: right,
                found: self.right,
            });
        }
        if now >= self.expires_at {
            return Err(CapabilityError::Expired {
                expired_at: self.expires_at,
                now,
            });
        }
        Ok(())
    }
}
