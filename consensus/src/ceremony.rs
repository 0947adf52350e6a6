//! The ceremony by which validators make their key together, in the ledger's types: what they agree
//! on and sign is the ledger's id.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cairn_core::{Bounded, Digest, LedgerId, PublicKey, SecretKey};
use cairn_engine::ceremony::{self as engine, Draft, Made};
pub use cairn_engine::ceremony::{CeremonyError, FaultKind, Lack};
use cairn_engine::{Committee, CommitteeError, KeyPart};
use cairn_ledger::Validators;
use cairn_runtime::Runtime;
use zeroize::Zeroizing;

/// Bytes of a validator's signature under the genesis.
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
    /// The ledger whose genesis it signed in an earlier ceremony that may have come to its end.
    pub kept: Option<LedgerId>,
    /// What was agreed on, when it is here only for others that have not heard of it.
    pub agreement: Option<Agreement>,
}

/// What all have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The ledger.
    pub ledger: LedgerId,
    /// Everyone's signature, in the rising order of their identities.
    pub signatures: Vec<[u8; SIGNATURE_BYTES]>,
}

/// Keeps what comes of a ceremony. Called on a thread that may wait.
pub trait Keeper: Send + 'static {
    /// Makes a genesis of these validators and our part of their key outlive a crash, in place of
    /// what was made before: the ledger's id, which is then signed.
    ///
    /// # Errors
    ///
    /// When it can't; the ceremony ends.
    fn keep(
        &mut self,
        validators: Validators,
        part: &KeyPart,
    ) -> Result<LedgerId, Box<dyn Error + Send + Sync>>;

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

/// Whether a signature under a ledger's genesis is that of one of its validators, which then has
/// its part of their key.
#[must_use]
pub fn is_agreed(
    identity: &PublicKey,
    ledger: LedgerId,
    signature: &[u8; SIGNATURE_BYTES],
) -> bool {
    engine::is_agreed(identity.as_bytes(), ledger.as_bytes(), signature)
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
    let raw = |(key, address): &(PublicKey, SocketAddr)| (*key.as_bytes(), *address);
    let peers: Vec<([u8; 32], SocketAddr)> = config.participants.iter().map(raw).collect();
    let config = engine::CeremonyConfig {
        draft: Draft {
            digest: *config.draft.as_bytes(),
            participants: peers.iter().map(|(identity, _)| *identity).collect(),
        },
        secret: config.key.to_bytes(),
        entropy,
        listen: config.listen,
        peers,
        folder: config.folder,
        limit: config.limit,
        kept: config.kept.map(|ledger| *ledger.as_bytes()),
        agreement: config.agreement.map(|agreement| engine::Agreement {
            digest: *agreement.ledger.as_bytes(),
            signatures: agreement.signatures,
        }),
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
            ledger: LedgerId::new(Digest::new(agreement.digest)),
            signatures: agreement.signatures.clone(),
        }
    }
}

/// Puts a keeper's types into the engine's.
struct Keeping<K>(K);

impl<K: Keeper> engine::Keeper for Keeping<K> {
    fn keep(&mut self, made: &Made) -> Result<[u8; 32], Box<dyn Error + Send + Sync>> {
        let validators = validators(&made.committee)?;
        Ok(*self.0.keep(validators, &made.part)?.as_bytes())
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
