//! Who deals and who is dealt to in a ceremony: all deal to all when a key is made; when it is dealt
//! anew, those who hold it deal to those who hold it next.
//!
//! A key that is dealt anew stays the same: each dealer deals its own part of it, and what the first
//! parts that hold come to, weighted by their places, is the whole (Desmedt, Jajodia 1997). Who
//! leaves only deals, who comes is only dealt to, and who stays does both.

use std::num::NonZeroU32;

use commonware_codec::{Copying, Read as _, Write as _};
use commonware_cryptography::bls12381::dkg::feldman_desmedt::{Info, Output, Reveal};
use commonware_cryptography::bls12381::primitives::group;
use commonware_cryptography::bls12381::primitives::sharing::{Mode, ModeVersion};
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_utils::N3f1;
use commonware_utils::ordered::{Quorum as _, Set};

use super::attempt::Sum;
use super::message::Id;
use super::outcome::{Draft, DraftError, Made, Previous};
use super::{CeremonyError, Key, key_bytes_of};
use crate::committee::{self, Committee, KeyPart};

/// The sides of a ceremony.
#[derive(Clone, Debug)]
pub(super) struct Sides {
    /// All who take part: who deals and who is dealt to.
    pub(super) participants: Set<Key>,
    pub(super) dealers: Set<Key>,
    /// Who has a part of what is made.
    pub(super) holders: Set<Key>,
    /// The key that is dealt anew.
    previous: Option<Previous>,
    /// Our part of it, when we deal.
    pub(super) part: Option<KeyPart>,
}

impl Sides {
    /// Those of a draft.
    ///
    /// # Errors
    ///
    /// [`CeremonyError::Participants`], [`CeremonyError::Draft`].
    pub(super) fn of(draft: &Draft) -> Result<Self, CeremonyError> {
        let Some(previous) = &draft.previous else {
            let all = committee::identities(&draft.participants)?;
            return Ok(Self {
                dealers: all.clone(),
                holders: all.clone(),
                participants: all,
                previous: None,
                part: None,
            });
        };
        let holders = committee::identities(&previous.next)?;
        // As nobody is a stranger, they are at most as many as both sets have.
        let participants = committee::keys(&draft.participants)?;
        let before = previous.committee.set();
        let is_stranger =
            |key: &&Key| before.position(key).is_none() && holders.position(key).is_none();
        if let Some(stranger) = participants.iter().find(is_stranger) {
            let participant = key_bytes_of(stranger);
            return Err(DraftError::Stranger { participant }.into());
        }
        let is_absent = |key: &&Key| participants.position(key).is_none();
        if let Some(absent) = holders.iter().find(is_absent) {
            let participant = key_bytes_of(absent);
            return Err(DraftError::Absent { participant }.into());
        }
        let dealers = before.iter().filter(|key| !is_absent(key)).cloned();
        let dealers = Set::from_iter_dedup(dealers);
        let required = previous.committee.quorum();
        if dealers.len() < required {
            let found = dealers.len();
            return Err(DraftError::TooFewDealers { found, required }.into());
        }
        Ok(Self {
            participants,
            dealers,
            holders,
            previous: Some(previous.clone()),
            part: None,
        })
    }

    /// Takes our part of the key that is dealt anew. Who does not deal needs none.
    ///
    /// # Errors
    ///
    /// [`CeremonyError::Part`] when we deal and it is not ours.
    pub(super) fn hold(
        &mut self,
        draft: &Id,
        me: &Key,
        part: Option<&KeyPart>,
    ) -> Result<(), CeremonyError> {
        let Some(previous) = self.previous.as_ref().filter(|_| self.deals(me)) else {
            return Ok(());
        };
        let is_ours = |part: &&KeyPart| {
            let signer = previous.committee.signer(draft, previous.term, me, part);
            signer.is_ok()
        };
        let part = part.filter(is_ours).ok_or(CeremonyError::Part)?;
        self.part = Some(part.clone());
        Ok(())
    }

    /// Whether a participant deals.
    pub(super) fn deals(&self, key: &Key) -> bool {
        self.dealers.position(key).is_some()
    }

    /// Whether a participant is dealt to.
    pub(super) fn is_dealt_to(&self, key: &Key) -> bool {
        self.holders.position(key).is_some()
    }

    /// What we deal: our part of the key that is dealt anew, or `None` for a key of our own.
    ///
    /// # Errors
    ///
    /// [`CeremonyError::Part`] when it is not here.
    pub(super) fn dealt(&self) -> Result<Option<group::Share>, CeremonyError> {
        if self.previous.is_none() {
            return Ok(None);
        }
        let part = self.part.as_ref().and_then(KeyPart::decode);
        part.map(Some).ok_or(CeremonyError::Part)
    }

    /// What dealings are bound to, in an attempt that `namespace` names.
    pub(super) fn info(&self, namespace: &[u8]) -> Result<Info<MinSig, Key>, CeremonyError> {
        let previous = self.previous.as_ref();
        let previous = previous.map(|it| output_of(&it.committee)).transpose()?;
        Info::new::<N3f1>(
            namespace,
            u64::from(self.term()),
            previous,
            Mode::NonZeroCounter,
            Reveal::V1,
            self.dealers.clone(),
            self.holders.clone(),
        )
        .map_err(|_| CeremonyError::Ours)
    }

    /// Most dealings that can be left out.
    pub(super) fn bad_max(&self) -> u32 {
        let mut needed = self.dealers.quorum::<N3f1>();
        if let Some(previous) = &self.previous {
            needed = needed.max(previous.committee.set().quorum::<N3f1>());
        }
        let count = u32::try_from(self.dealers.len()).unwrap_or(u32::MAX);
        count.saturating_sub(needed)
    }

    /// What the dealings come to, checked: a key that was dealt anew is still the same, and our part
    /// is ours.
    ///
    /// # Errors
    ///
    /// [`CeremonyError::Ours`].
    pub(super) fn made(
        &self,
        draft: &Id,
        me: &Key,
        (output, share): &Sum,
    ) -> Result<Made, CeremonyError> {
        let committee = Committee::of(self.holders.clone(), output.public().clone());
        let key = committee.group_key();
        let before = self.previous.as_ref();
        let is_same = before.is_none_or(|before| before.committee.group_key() == key);
        let part = share.as_ref().map(KeyPart::of);
        // What is not checked now would be found out by the ledger that can't begin.
        let is_ours = |part: &KeyPart| committee.signer(draft, self.term(), me, part).is_ok();
        let holds = is_same && part.as_ref().is_none_or(is_ours);
        if !holds {
            return Err(CeremonyError::Ours);
        }
        Ok(Made { committee, part })
    }

    /// The term of those who have a part of what is made.
    fn term(&self) -> u32 {
        let previous = self.previous.as_ref();
        previous.map_or(0, |previous| previous.term.saturating_add(1))
    }
}

/// A committee as what came of the dealing by which it has its key. Of that dealing only the key and
/// its holders matter now; for the rest all have the same in its place.
fn output_of(committee: &Committee) -> Result<Output<MinSig, Key>, CeremonyError> {
    let holders = committee.set();
    let count = u32::try_from(holders.len()).ok();
    let count = count.and_then(NonZeroU32::new).ok_or(CeremonyError::Ours)?;
    let mut bytes = Vec::new();
    // Its digest, key, dealers, holders and those whose parts were shown.
    Id::default().write(&mut bytes);
    committee.sharing().write(&mut bytes);
    holders.write(&mut bytes);
    holders.write(&mut bytes);
    Set::<Key>::default().write(&mut bytes);
    let mut buffer = Copying(bytes.as_slice());
    Output::read_cfg(&mut buffer, &(count, ModeVersion::v0())).map_err(|_| CeremonyError::Ours)
}
