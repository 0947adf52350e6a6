//! The state with which the newest term began, fetched in parts from whoever has it.

use cairn_core::{LedgerTransport, Record};

use super::RemoteLedger;
use crate::attestation::{Attestation, Attested};
use crate::port::LedgerError;
use crate::snapshot::SnapshotPart;
use crate::state::State;
use crate::term::Term;
use crate::wire::{Answer, LedgerRequest};

impl<T: LedgerTransport> RemoteLedger<T> {
    /// The state with which the term of validators began that runs, and the attestation of its height;
    /// `None` in the first term, which begins with the genesis, and when a sequencer orders the ledger.
    /// An end that gives a part that is no good is left, and the next asked for all of them.
    ///
    /// Takes memory for the state and its encoding, and once the time to decode it.
    ///
    /// # Errors
    ///
    /// [`LedgerError::NoSnapshot`] when nobody who was asked has it, such as when another term has begun
    /// meanwhile; [`LedgerError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn snapshot(&self) -> Result<Option<(State, Attestation)>, LedgerError> {
        let Some(term) = self.term().await?.filter(|term| term.number > 0) else {
            return Ok(None);
        };
        let fetched = self.each(|| self.fetch(&term)).await?;
        Ok(Some(fetched))
    }

    /// The state with which a term began, all of it from whoever is asked now.
    async fn fetch(&self, term: &Term) -> Result<(State, Attestation), LedgerError> {
        let (first, mut end) = self.part(term.number, 0).await?;
        let attested = self.check(&first.attestation)?;
        if attested.height != term.base.height {
            return Err(LedgerError::Answer);
        }
        let (attestation, total) = (first.attestation, first.total);
        let mut encoded = first.bytes.into_vec();
        while end < total {
            let (part, next) = self.part(term.number, end).await?;
            if part.total != total || part.attestation != attestation {
                return Err(LedgerError::Answer);
            }
            encoded.extend_from_slice(&part.bytes);
            end = next;
        }
        let state = State::decode(&encoded).map_err(|_| LedgerError::Answer)?;
        if is_behind_border(&state, &attested, term) {
            Ok((state, attestation))
        } else {
            Err(LedgerError::Answer)
        }
    }

    /// The part from `offset` on, and where it ends.
    async fn part(&self, term: u32, offset: u64) -> Result<(SnapshotPart, u64), LedgerError> {
        let request = LedgerRequest::Snapshot { term, offset };
        let Answer::Snapshot(part) = self.call(&request).await? else {
            return Err(LedgerError::Answer);
        };
        let end = part.end(offset).ok_or(LedgerError::Answer)?;
        Ok((*part, end))
    }
}

/// Whether a state is the one attested, and the term began with it.
fn is_behind_border(state: &State, attested: &Attested, term: &Term) -> bool {
    let begun = state.term();
    state.attested() == *attested
        && begun.is_some_and(|begun| begun.number == term.number && begun.base == term.base)
}
