//! The pure ledger: `apply(state, block)` gives the next state and its effects.
//!
//! Knows accounts, nodes, groups and their slots, and of volumes who may write them; never files, shards, peers or a clock. Whoever
//! orders transactions into blocks (`consensus`) drives a [`State`]; everyone else asks through
//! the [`Ledger`] trait, in process or over a [`cairn_core::LedgerTransport`] with [`RemoteLedger`].
//!
//! Guarantees: equal blocks give equal states, byte for byte; a transaction that is not done
//! changes nothing but its fee and nonce, and not even these without a valid charge; no block or transaction, however malformed, makes it panic; credits are conserved
//! (I4), asserted after every transaction. Rules and bytes are those of
//! `docs/protocol/ledger.md`. Formats are drafts.

#![cfg_attr(
    not(any(test, fuzzing)),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

pub mod attestation;
pub mod block;
pub mod earnings;
pub mod effect;
pub mod epoch;
pub mod evidence;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod genesis;
pub mod group;
mod head;
pub mod movement;
pub mod node;
pub mod notary;
pub mod placement;
pub mod port;
pub mod query;
pub mod registry;
pub mod remote;
#[cfg(any(test, fuzzing))]
pub mod sample;
pub mod score;
pub mod seal;
pub mod snapshot;
pub mod state;
pub mod term;
pub mod ticket;
mod trie;
pub mod tx;
pub mod tx_error;
#[cfg(test)]
mod vectors;
pub mod view;
pub mod wire;

pub use attestation::{Attestation, Attested, LedgerKey};
pub use block::{Block, BlockError, Verdict, ViewSeed};
pub use earnings::{CauseSum, Earnings, EarningsLine};
pub use effect::{BlockEffects, Effect};
pub use epoch::{ChallengePage, Epoch, Frozen, FrozenSlot, FrozenStanding, KeptRevision, Standing};
pub use evidence::{Evidence, EvidenceError, StateTrie};
pub use genesis::{Genesis, Parameters, Validators};
pub use group::{Cap, Deal, DealState, Due, Group, Leaver, RelaxedCap};
pub use movement::{Cause, Direction, Movement, movements};
pub use node::{NodeEntry, NodeStatus};
pub use notary::DigestSet;
pub use port::{
    Ledger, LedgerError, LedgerStatus, TxOutcome, WITNESS_BYTES_MAX, Witness, challenge_of,
    submit_body, submit_proof_of,
};
pub use query::{Question, Seen};
pub use registry::{
    Access, Anchor, Descriptor, Grant, HeadStanding, Lease, Notarisation, RegistryError,
    RegistryTx, Volume, Writer, volume_id,
};
pub use remote::RemoteLedger;
pub use score::{AuditReport, SCORE_MAX, Score, Vote, VoteCount};
pub use seal::{BlockSeal, Chained};
pub use snapshot::SnapshotPart;
pub use state::{Account, Expected, State, VerdictError, check_signature};
pub use term::{
    BORDER_LAG, NextTerm, PastTerm, Term, TermError, TermSignature, TermStart, term_digest,
};
pub use ticket::{AUDITS_MAX, AuditTicket, AuditView};
pub use trie::LeftOut;
pub use tx::{NodeTerms, SlotRef, SlotRevision, Tx, TxBody, operator_consent, tx_id};
pub use tx_error::{TableKind, TxError};
pub use view::{
    BlockSummary, EarningsView, EpochView, GrantView, GroupProof, GroupSummary, SlotProof, TxKind,
    TxLookup, TxSummary, VolumeView,
};
pub use wire::{Answer, LedgerRequest, LedgerResponse, TxEvidence};
