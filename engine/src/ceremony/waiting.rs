//! Who keeps a participant waiting, by what it did not do, and when waiting is in vain.

use std::time::Duration;

use super::message::{Id, State};
use super::{Ceremony, CeremonyError, Key, Lack, key_bytes_of};

impl Ceremony {
    /// Who keeps us waiting.
    pub(crate) fn missing(&self) -> Vec<([u8; 32], Lack)> {
        if self.agreement.is_some() {
            return Vec::new();
        }
        let lack = |key: &Key| Some((key_bytes_of(key), self.lack(key)?));
        let mut missing: Vec<_> = self.others().filter_map(lack).collect();
        // Who is at the first step that is not done keeps the others from the next.
        let first = missing.iter().map(|(_, lack)| lack.step()).min();
        missing.retain(|(_, lack)| Some(lack.step()) == first);
        missing
    }

    fn lack(&self, key: &Key) -> Option<Lack> {
        let Some(state) = self.peers.get(key) else {
            return Some(Lack::Absent);
        };
        if state.draft != self.draft {
            return Some(Lack::OtherDraft);
        }
        if state.is_done && self.gone.contains_key(key) {
            return Some(Lack::Done);
        }
        let Some(attempt) = &self.attempt else {
            return Some(Lack::Apart);
        };
        if !state.is_done && state.attempt != Some(attempt.id) {
            return Some(self.apart(state));
        }
        if self.sides.deals(key) && !attempt.logs.contains_key(key) {
            return Some(Lack::Log);
        }
        match (attempt.signatures.get(key), attempt.signed) {
            (None, _) => Some(Lack::Signature),
            (Some((theirs, _)), Some(ours)) if *theirs != ours => Some(Lack::OtherGenesis),
            (Some(_), _) => None,
        }
    }

    /// What keeps one in another attempt than ours. The nonces that it heard name that attempt, so
    /// one of them is not what we heard, or it has not heard them all.
    fn apart(&self, state: &State) -> Lack {
        let differs = |key: &Key, theirs: Option<Id>| {
            let both = self.nonce_of(key).zip(theirs);
            both.is_some_and(|(ours, theirs)| ours != theirs)
        };
        let mut heard = self.sides.participants.iter().zip(&state.heard);
        let of = heard.find_map(|(key, theirs)| differs(key, *theirs).then(|| key_bytes_of(key)));
        of.map_or(Lack::Apart, |of| Lack::HeardOther { of })
    }

    /// Whether waiting is in vain, when nothing is agreed on.
    ///
    /// # Errors
    ///
    /// [`CeremonyError::Time`], or [`CeremonyError::PartGone`]: at the limit when anyone says so,
    /// which may be a lie, and before it when all others do.
    pub(super) fn check_hope(&self, now: Duration) -> Result<(), CeremonyError> {
        let is_late = now >= self.limit;
        let others = self.others().count();
        match self.told_gone() {
            Some((digest, said_by)) if is_late || said_by.len() == others => {
                Err(CeremonyError::PartGone { digest, said_by })
            }
            _ if is_late => Err(CeremonyError::Time {
                missing: self.missing(),
            }),
            _ => Ok(()),
        }
    }

    /// What most of those who say that all have agreed before say that it was on, and who they are.
    fn told_gone(&self) -> Option<(Id, Vec<[u8; 32]>)> {
        let said_by = |digest: &Id| {
            let all = self.gone.iter().filter(|(_, said)| *said == digest);
            all.map(|(key, _)| key_bytes_of(key)).collect::<Vec<_>>()
        };
        let told = self.gone.values().map(|digest| (*digest, said_by(digest)));
        told.max_by_key(|(_, said_by)| said_by.len())
    }
}
