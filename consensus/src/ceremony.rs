//! The ceremony by which validators make their key together or deal it anew to the next, in the
//! ledger's types: what they agree on and sign is the ledger's id, or the digest of the next term.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cairn_core::{Bounded, Digest, PublicKey, SecretKey};
use cairn_engine::ceremony::{self as engine, Draft, Made};
pub use cairn_engine::ceremony::{CeremonyError, DraftError, FaultKind, Lack};
use cairn_engine::{Committee, CommitteeError, KeyPart};
use cairn_ledger::Validators;
use cairn_runtime::Runtime;
use zeroize::Zeroizing;

use crate::validator::committee_of;

/// Bytes of a validator's signature under what all agree on.
pub const SIGNATURE_BYTES: usize = 64;

/// How a validator takes part.
#[derive(Clone, Debug)]
pub struct CeremonyConfig {
    /// Digest of all that the participants must have alike.
    pub draft: Digest,
    /// The validator's identity.
    pub key: SecretKey,
    /// Where it listens for the others.
    pub listen: SocketAddr,
    /// Who takes part, this one included, and where they listen.
    pub participants: Vec<(PublicKey, SocketAddr)>,
    /// A folder that nobody else uses; nothing of it is needed afterwards.
    pub folder: PathBuf,
    /// When it gives up.
    pub limit: Duration,
    /// What it signed in an earlier ceremony that may have come to its end.
    pub kept: Option<Digest>,
    /// What was agreed on, when it is here only for others that have not heard of it.
    pub agreement: Option<Agreement>,
    /// When the validators of a ledger change: those that it has. `None` when a genesis is made.
    pub previous: Option<Previous>,
}

/// The validators of a ledger, when others are to take their place. The ledger's key stays the same,
/// and the parts of it are dealt anew.
#[derive(Clone, Debug)]
pub struct Previous {
    /// Those in office. Those of them that take part deal; they are at least a quorum.
    pub validators: Validators,
    /// Their term. That of the next is one more.
    pub term: u32,
    /// The next, in any order. All of them take part, and nobody else but the dealers does.
    pub next: Vec<PublicKey>,
    /// This validator's part of the key, if it is in office.
    pub part: Option<KeyPart>,
}

/// What all have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// What they signed: the ledger's id, or the digest of the next term.
    pub digest: Digest,
    /// The signatures of all who took part, in the rising order of their identities.
    pub signatures: Vec<[u8; SIGNATURE_BYTES]>,
}

/// Keeps what comes of a ceremony. Called on a thread that may wait.
pub trait Keeper: Send + 'static {
    /// Makes a genesis or a next term of these validators and our part of their key outlive a crash,
    /// in place of what was made before: the ledger's id or the term's digest, which is then signed.
    /// There is no part for a validator that leaves.
    ///
    /// # Errors
    ///
    /// When it can't; the ceremony ends.
    fn keep(
        &mut self,
        validators: Validators,
        part: Option<&KeyPart>,
    ) -> Result<Digest, Box<dyn Error + Send + Sync>>;

    /// All have signed what was kept last.
    ///
    /// # Errors
    ///
    /// When it can't be kept; the ceremony ends.
    fn agreed(&mut self, agreement: &Agreement) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Others are waited for.
    fn waiting(&mut self, missing: &[(PublicKey, Lack)]);
}

/// What came of a ceremony.
#[derive(Debug)]
pub struct Held {
    /// What was agreed on, or why nothing.
    pub agreement: Result<Agreement, CeremonyError>,
    /// Who did what on the way.
    pub faults: Vec<(PublicKey, FaultKind)>,
}

/// Whether a signature under a ledger's id or the digest of a term is that of a validator which took
/// part; it then has its part of the key.
#[must_use]
pub fn is_agreed(identity: &PublicKey, digest: Digest, signature: &[u8; SIGNATURE_BYTES]) -> bool {
    engine::is_agreed(identity.as_bytes(), digest.as_bytes(), signature)
}

/// Takes part in a ceremony to its end.
///
/// # Cancel safety
///
/// Dropping it does not end the ceremony, which may still agree and keep what was agreed on; only
/// the end of the process does.
pub async fn hold<R: Runtime>(runtime: &R, config: CeremonyConfig, keeper: impl Keeper) -> Held {
    let mut entropy = Zeroizing::new([0; 32]);
    runtime.fill(entropy.as_mut_slice());
    let config = match engine_config(config, entropy) {
        Ok(config) => config,
        Err(error) => {
            return Held {
                agreement: Err(error.into()),
                faults: Vec::new(),
            };
        }
    };
    let mut keeper = Keeping(keeper);
    let engine::Held { agreement, faults } = runtime
        .blocking(move || engine::hold(&config, &mut keeper))
        .await;
    Held {
        agreement: agreement.map(|agreement| Agreement::of(&agreement)),
        faults: faults
            .into_iter()
            .map(|(key, kind)| (key_of(key), kind))
            .collect(),
    }
}

fn engine_config(
    config: CeremonyConfig,
    entropy: Zeroizing<[u8; 32]>,
) -> Result<engine::CeremonyConfig, CommitteeError> {
    let raw = |(key, address): &(PublicKey, SocketAddr)| (*key.as_bytes(), *address);
    let peers: Vec<([u8; 32], SocketAddr)> = config.participants.iter().map(raw).collect();
    let (previous, part) = match config.previous {
        Some(previous) => (
            Some(engine::Previous {
                committee: committee_of(&previous.validators)?,
                term: previous.term,
                next: previous.next.iter().map(|key| *key.as_bytes()).collect(),
            }),
            previous.part,
        ),
        None => (None, None),
    };
    Ok(engine::CeremonyConfig {
        draft: Draft {
            digest: *config.draft.as_bytes(),
            participants: peers.iter().map(|(identity, _)| *identity).collect(),
            previous,
        },
        secret: config.key.to_bytes(),
        part,
        entropy,
        listen: config.listen,
        peers,
        folder: config.folder,
        limit: config.limit,
        kept: config.kept.map(|digest| *digest.as_bytes()),
        agreement: config.agreement.map(|agreement| engine::Agreement {
            digest: *agreement.digest.as_bytes(),
            signatures: agreement.signatures,
        }),
    })
}

/// The validators of a committee, as a genesis has them.
///
/// # Errors
///
/// [`CommitteeError`] when they are more than a ledger has.
pub(crate) fn validators(committee: &Committee) -> Result<Validators, CommitteeError> {
    let identities = committee.validators().into_iter().map(key_of).collect();
    Ok(Validators {
        identities: Bounded::new(identities).map_err(|_| CommitteeError::Key)?,
        key: Bounded::new(committee.key()).map_err(|_| CommitteeError::Key)?,
    })
}

fn key_of(bytes: [u8; 32]) -> PublicKey {
    PublicKey::from_bytes(bytes)
}

impl Agreement {
    fn of(agreement: &engine::Agreement) -> Self {
        Self {
            digest: Digest::new(agreement.digest),
            signatures: agreement.signatures.clone(),
        }
    }
}

/// Puts a keeper's types into the engine's.
struct Keeping<K>(K);

impl<K: Keeper> engine::Keeper for Keeping<K> {
    fn keep(&mut self, made: &Made) -> Result<[u8; 32], Box<dyn Error + Send + Sync>> {
        let validators = validators(&made.committee)?;
        let digest = self.0.keep(validators, made.part.as_ref())?;
        Ok(*digest.as_bytes())
    }

    fn agreed(
        &mut self,
        agreement: &engine::Agreement,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0.agreed(&Agreement::of(agreement))
    }

    fn waiting(&mut self, missing: &[([u8; 32], Lack)]) {
        let missing = missing.iter().map(|(key, lack)| (key_of(*key), *lack));
        self.0.waiting(&missing.collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests;
