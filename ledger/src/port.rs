//! The seam between the ledger and everyone who uses it.

use std::fmt;
use std::future::Future;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    AccountId, Amount, Blame, Bounded, Digest, EpochNumber, GroupId, Height, LedgerId, NodeId,
    Record, Retry, SecretKey, Signed, TransportError, TxId, UnixMillis,
};
use cairn_proofs::{AcknowledgedSlot, Challenge, Draw, Proof};

use crate::effect::BlockEffects;
#[cfg(doc)]
use crate::effect::Effect;
use crate::epoch::{ChallengePage, FrozenSlot};
use crate::genesis::Parameters;
use crate::group::Group;
use crate::node::NodeEntry;
use crate::score::AuditReport;
use crate::state::Account;
use crate::ticket::AuditView;
use crate::tx::{SlotRef, Tx, TxBody};
use crate::tx_error::TxError;

/// A way to the ledger: in process, or over a transport. Cheap to clone. Answers are of final
/// blocks only. Nothing is retried inside.
pub trait Ledger: Clone + fmt::Debug + Send + Sync + 'static {
    /// Which ledger it is: what transactions are signed for.
    fn id(&self) -> LedgerId;

    /// Submits a transaction and waits until it is final. Submitting the same one again is safe:
    /// it is done once, and the second call gives the outcome of the first as long as the ledger
    /// remembers it (the blocks that [`Self::effects`] still has).
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; unless it is [`LedgerError::Refused`] the transaction may still become
    /// final.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the transaction may still become final.
    fn submit(&self, tx: Signed<Tx>)
    -> impl Future<Output = Result<TxOutcome, LedgerError>> + Send;

    /// Submits a `ProofSubmit` and the encoding of its proof, and waits until the verdict is final.
    /// Done means that the ledger has the verdict, whatever it is; [`Effect::Judged`] says which.
    ///
    /// # Errors
    ///
    /// As [`Self::submit`]; [`TxError::Witness`] when the bytes are not those that it names.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::submit`]'s.
    fn submit_proof(
        &self,
        tx: Signed<Tx>,
        witness: Witness,
    ) -> impl Future<Output = Result<TxOutcome, LedgerError>> + Send;

    /// An account; one with nothing when it is unknown.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    fn account(&self, id: AccountId) -> impl Future<Output = Result<Account, LedgerError>> + Send;

    /// A node; `None` when it never registered.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    fn node(
        &self,
        id: NodeId,
    ) -> impl Future<Output = Result<Option<NodeEntry>, LedgerError>> + Send;

    /// A group; `None` when it is unknown, or was refunded.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    fn group(&self, id: GroupId)
    -> impl Future<Output = Result<Option<Group>, LedgerError>> + Send;

    /// The slots that a node holds, rising, with those that it is leaving (there `deal.node` is
    /// another and `deal.leaver` is this node).
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    fn slots_of(
        &self,
        node: NodeId,
    ) -> impl Future<Output = Result<Vec<SlotRef>, LedgerError>> + Send;

    /// A page of what a node must prove in the epoch that runs, as
    /// [`crate::State::challenge_page`]. For all of it see [`challenge_of`].
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    fn challenge_page(
        &self,
        node: NodeId,
        after: Option<SlotRef>,
    ) -> impl Future<Output = Result<Option<ChallengePage>, LedgerError>> + Send;

    /// What a number of a node's audit tickets stands for in the epoch that runs, as
    /// [`crate::State::audit_ticket`].
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    fn audit_ticket(
        &self,
        auditor: NodeId,
        number: u8,
    ) -> impl Future<Output = Result<Option<AuditView>, LedgerError>> + Send;

    /// How the ledger stands.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    fn status(&self) -> impl Future<Output = Result<LedgerStatus, LedgerError>> + Send;

    /// The blocks at and above `from` with their effects, rising and without a gap, as many as
    /// fit an answer. Waits until there is one, but not for ever: it gives none after its limit,
    /// and the caller asks again.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Forgotten`] when blocks that old are no longer remembered: the caller reads
    /// what it cares about afresh and goes on above [`LedgerStatus::height`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    fn effects(
        &self,
        from: Height,
    ) -> impl Future<Output = Result<Vec<BlockEffects>, LedgerError>> + Send;

    /// The highest height of which something was seen; no later answer is of a lower one. 0 of a
    /// ledger in this process, which never goes back.
    fn seen(&self) -> Height {
        Height::ZERO
    }

    /// Refuses answers of lower heights than this from now on ([`LedgerError::Behind`]). What a caller
    /// has seen before it was started anew is not to be unsaid to it.
    fn expect_at_least(&self, height: Height) {
        // A ledger in this process has no other past to show.
        let _ = height;
    }
}

/// The encoding of a proof, on its way beside its transaction.
pub type Witness = Bounded<u8, WITNESS_BYTES_MAX>;

/// Most bytes of a witness: those of a proof of 256 samples.
pub const WITNESS_BYTES_MAX: usize = <Proof as Record>::BYTES_MAX;

/// A transaction is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TxOutcome {
    /// Which.
    pub id: TxId,
    /// Height of its block.
    pub height: Height,
}

/// How the ledger stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LedgerStatus {
    /// Height of the last final block.
    pub height: Height,
    /// Its time.
    pub time: UnixMillis,
    /// Which ledger it is: the digest of the genesis.
    pub ledger: LedgerId,
    /// Digest of the last final block.
    pub tip: Digest,
    /// The epoch that runs; 0 without epochs.
    pub epoch: EpochNumber,
    /// Nodes ever registered.
    pub node_count: u64,
    /// Nodes that are drawn for slots.
    pub active_node_count: u64,
    /// Groups.
    pub group_count: u64,
    /// Slots that wait for a node with room.
    pub waiting_slot_count: u64,
    /// All credits.
    pub supply: Amount,
    /// The numbers it runs by.
    pub parameters: Parameters,
}

/// Why the ledger did not do or answer it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, thiserror::Error)]
pub enum LedgerError {
    /// The ledger refuses the transaction.
    #[error("the ledger refuses the transaction: {0}")]
    Refused(TxError),
    /// Too many transactions wait, of everyone or of this account.
    #[error("the ledger is busy: {max} transactions wait")]
    Busy {
        /// The bound that is reached.
        max: u64,
    },
    /// The ledger can't be reached.
    #[error("the ledger can't be reached: {cause}")]
    Unavailable {
        /// What was met on the way.
        cause: TransportError,
    },
    /// Blocks that old are no longer remembered.
    #[error("effects are remembered from height {oldest} on, found {found}")]
    Forgotten {
        /// The first height that is.
        oldest: Height,
        /// What was asked for.
        found: Height,
    },
    /// Whoever answers is behind what was seen of the ledger before.
    #[error("expected an answer of height {expected} or later, found {found}")]
    Behind {
        /// The height that was seen.
        expected: Height,
        /// The height that it is at.
        found: Height,
    },
    /// The ledger is shutting down or its disk failed.
    #[error("the ledger has stopped")]
    Stopped,
    /// The question is not one that this ledger understands.
    #[error("the ledger does not understand the request")]
    Request,
    /// The answer is not one to the question, or malformed.
    #[error("the ledger's answer breaks the protocol")]
    Answer,
    /// The other end serves another ledger than the one that was asked.
    #[error("expected ledger {expected}, found {found}")]
    OtherLedger {
        /// The one that was asked.
        expected: LedgerId,
        /// The one that answers.
        found: LedgerId,
    },
    /// Whoever answers does not have the state with which a term began.
    #[error("the state with which term {term} began is not kept there")]
    NoSnapshot {
        /// The term.
        term: u32,
    },
}

impl LedgerError {
    /// What to do about it.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Refused(error) => error.retry(),
            Self::Busy { .. } => Retry::Later,
            Self::Unavailable { cause } => cause.retry(),
            Self::Forgotten { .. } | Self::Request => Retry::Never,
            Self::Behind { .. }
            | Self::Stopped
            | Self::Answer
            | Self::OtherLedger { .. }
            | Self::NoSnapshot { .. } => Retry::Elsewhere,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Refused(error) => error.blame(),
            Self::Busy { .. } | Self::Behind { .. } | Self::Stopped | Self::NoSnapshot { .. } => {
                Blame::World
            }
            Self::Unavailable { cause } => cause.blame(),
            Self::Forgotten { .. } => Blame::Caller,
            Self::Request => Blame::Us,
            Self::Answer | Self::OtherLedger { .. } => Blame::Peer,
        }
    }
}

/// Signs `body` with `key` under the account's next nonce and the least fee, submits it and waits
/// until it is final. For one writer per account: two at a time get [`TxError::Nonce`].
///
/// # Errors
///
/// [`LedgerError`].
///
/// # Cancel safety
///
/// As [`Ledger::submit`].
pub async fn submit_body<L: Ledger>(
    ledger: &L,
    key: &SecretKey,
    body: TxBody,
) -> Result<TxOutcome, LedgerError> {
    let signed = sign_next(ledger, key, body).await?;
    ledger.submit(signed).await
}

/// As [`submit_body`], for the proof of an epoch, with what the node says of the audits of the epoch
/// before: [`Ledger::submit_proof`].
///
/// # Errors
///
/// [`LedgerError`].
///
/// # Cancel safety
///
/// As [`Ledger::submit`].
pub async fn submit_proof_of<L: Ledger>(
    ledger: &L,
    key: &SecretKey,
    (epoch, audits): (EpochNumber, AuditReport),
    proof: &Proof,
) -> Result<TxOutcome, LedgerError> {
    let encoded = proof.encode();
    let body = TxBody::ProofSubmit {
        epoch,
        witness: Digest::of(&encoded),
        audits,
    };
    let witness = Witness::new(encoded).map_err(|_| LedgerError::Request)?;
    let signed = sign_next(ledger, key, body).await?;
    ledger.submit_proof(signed, witness).await
}

/// The account's next transaction, under the least fee.
async fn sign_next<L: Ledger>(
    ledger: &L,
    key: &SecretKey,
    body: TxBody,
) -> Result<Signed<Tx>, LedgerError> {
    let account = AccountId::new(key.public());
    let nonce = ledger.account(account).await?.nonce;
    let fee = ledger.status().await?.parameters.fee_min_of(&body);
    let tx = Tx {
        account,
        nonce,
        fee,
        body,
    };
    Ok(Signed::sign_for(tx, ledger.id(), key))
}

/// Most pages of one node's challenge: 4 million slots, all that a ledger can have.
const PAGES_MAX: usize = 1 << 18;

/// What a node must prove in the epoch that runs, drawn from what the ledger answers, with the
/// epoch's number. `None` when there is nothing to prove (yet), see [`crate::State::challenge`].
///
/// # Errors
///
/// [`LedgerError`]; `Answer` too when another epoch began meanwhile: the caller asks again.
///
/// # Cancel safety
///
/// Dropping it is safe.
pub async fn challenge_of<L: Ledger>(
    ledger: &L,
    node: NodeId,
) -> Result<Option<(EpochNumber, Challenge)>, LedgerError> {
    let mut slots: Vec<FrozenSlot> = Vec::new();
    let (mut first, mut after) = (None, None);
    for _ in 0..PAGES_MAX {
        let Some(page) = ledger.challenge_page(node, after).await? else {
            return Ok(None);
        };
        let draw = Draw {
            seed: page.seed,
            node,
            epoch: page.epoch,
            sample_count: page.sample_count,
        };
        if *first.get_or_insert(draw) != draw {
            return Err(LedgerError::Answer);
        }
        slots.extend(page.slots.into_vec());
        after = page.next;
        if after.is_none() {
            let slots: Vec<AcknowledgedSlot> = slots.into_iter().map(Into::into).collect();
            let challenge = Challenge::draw(&draw, &slots).map_err(|_| LedgerError::Answer)?;
            return Ok(Some((page.epoch, challenge)));
        }
    }
    Err(LedgerError::Answer)
}
