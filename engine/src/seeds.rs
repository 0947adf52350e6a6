//! The seeds of recent views, taken from the engine's certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

use commonware_actor::Feedback;
use commonware_codec::Encode as _;
use commonware_consensus::simplex::types::Activity;
use commonware_consensus::{Reporter, Viewable as _};
use tokio::sync::Notify;

use crate::block::Digest;
use crate::committee::{Certificate, Scheme};
use crate::port::Seed;

/// Views between the block that asks for something to be drawn and the view whose seed draws it.
/// The view is named by the block, so nobody chooses it, and lies so far ahead that the block is
/// final before f + 1 honest validators vote in that view, which is when its seed can first be
/// known.
pub const SEED_LAG: u64 = 8;

/// Seeds kept. Views go on while no block is made, so that a block may need older ones than the
/// newest of so many: those it may need are kept before all others.
const KEPT_MAX: usize = 1024;
/// Notarized views above the last certified one that are remembered. More than a third of all
/// validators are honest and have the block of each: it is got from them within moments and
/// certified here, and then the views below it no longer matter.
const OPEN_MAX: usize = 64;
/// Views whose seeds a block above one parent may carry.
const VIEWS_PER_PARENT: usize = 9;

// There is always a seed to forget that no block needs.
const _: () = assert!(SEED_LAG == 8 && (OPEN_MAX + 1) * VIEWS_PER_PARENT < KEPT_MAX);

/// The views whose seeds a block of `view` carries when its parent is of `parent_view`: from the
/// parent's on, as far as something that the parent or a block before it asked for can be due.
#[must_use]
pub fn seed_views(parent_view: u64, view: u64) -> RangeInclusive<u64> {
    let last = parent_view.saturating_add(SEED_LAG);
    parent_view.max(1)..=last.min(view.saturating_sub(1))
}

/// Recent seeds by view. A clone is another handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seeds {
    known: Arc<Known>,
}

#[derive(Debug, Default)]
struct Known {
    kept: Mutex<Kept>,
    added: Notify,
}

impl Seeds {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.known.kept.lock().expect("no holder panics")
    }

    /// Those of the views that are known.
    pub(crate) fn known(&self, views: RangeInclusive<u64>) -> Vec<Seed> {
        if views.is_empty() {
            return Vec::new();
        }
        let seed = |(view, bytes): (&u64, &[u8; 48])| Seed {
            view: *view,
            bytes: *bytes,
        };
        self.kept().by_view.range(views).map(seed).collect()
    }

    /// All of the views, as soon as they are known.
    pub(crate) async fn all(&self, views: RangeInclusive<u64>) -> Vec<Seed> {
        let count = views.clone().count();
        loop {
            let added = self.known.added.notified();
            let known = self.known(views.clone());
            if known.len() == count {
                return known;
            }
            added.await;
        }
    }

    /// The highest view that is over.
    #[cfg(not(test))]
    pub(crate) fn last_view(&self) -> u64 {
        let kept = self.kept();
        kept.by_view.last_key_value().map_or(0, |(view, _)| *view)
    }

    fn add(&self, view: u64, outcome: Outcome, certificate: &Certificate) {
        self.kept().note(view, outcome);
        // A certificate that was checked always decodes.
        let Some(signature) = certificate.get() else {
            return;
        };
        let encoded = signature.seed_signature.encode();
        let Ok(bytes) = <[u8; 48]>::try_from(&encoded[..]) else {
            return;
        };
        self.kept().add(view, bytes);
        self.known.added.notify_waiters();
    }
}

/// How a view ended, as far as a certificate tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Without a block, unless another certificate names one.
    Nullified,
    /// With a block that the next may follow once it is certified here.
    Notarized,
    /// With a block that is certified here or final: the next follows it or a later one.
    Settled,
}

/// The seeds that are kept: those that our next block may need and the newest, together at most
/// [`KEPT_MAX`].
///
/// Our next block follows the highest view that is certified here or final. That is `settled`, or
/// one of the `open` ones, which may be certified yet; a view that is only nullified has no block
/// to follow. So however many views pass, a block needs seeds of [`OPEN_MAX`] + 1 parents at most,
/// [`VIEWS_PER_PARENT`] each. A block of another validator is judged without kept seeds.
///
/// After a crash the engine reports, in the order of the views, every certificate from some views
/// before the last final one on: among them those of the seeds that are kept here.
#[derive(Debug, Default)]
struct Kept {
    by_view: BTreeMap<u64, [u8; 48]>,
    /// The highest view that is certified here or final; 0 for the genesis.
    settled: u64,
    /// Notarized views above it.
    open: BTreeSet<u64>,
}

impl Kept {
    /// Notes how a view ended.
    fn note(&mut self, view: u64, outcome: Outcome) {
        match outcome {
            Outcome::Nullified => {}
            Outcome::Notarized => {
                if view > self.settled {
                    self.open.insert(view);
                }
                if self.open.len() > OPEN_MAX {
                    self.open.pop_first();
                }
            }
            Outcome::Settled => {
                self.settled = self.settled.max(view);
                self.open = self.open.split_off(&self.settled.saturating_add(1));
            }
        }
    }

    /// Adds a view's seed, and forgets the oldest that no next block needs when there are too many.
    fn add(&mut self, view: u64, seed: [u8; 48]) {
        self.by_view.insert(view, seed);
        if self.by_view.len() > KEPT_MAX {
            let mut views = self.by_view.keys().copied();
            if let Some(oldest) = views.find(|view| !self.may_need(*view)) {
                self.by_view.remove(&oldest);
            }
        }
    }

    /// Whether our next block may carry a view's seed.
    fn may_need(&self, view: u64) -> bool {
        let parents = view.saturating_sub(SEED_LAG)..=view;
        parents.contains(&self.settled) || self.open.range(parents).next().is_some()
    }
}

impl Reporter for Seeds {
    type Activity = Activity<Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        match &activity {
            Activity::Notarization(it) => {
                self.add(it.view().get(), Outcome::Notarized, &it.certificate);
            }
            Activity::Certification(it) => {
                self.add(it.view().get(), Outcome::Settled, &it.certificate);
            }
            Activity::Nullification(it) => {
                self.add(it.view().get(), Outcome::Nullified, &it.certificate);
            }
            Activity::Finalization(it) => {
                self.add(it.view().get(), Outcome::Settled, &it.certificate);
            }
            Activity::Notarize(_)
            | Activity::Nullify(_)
            | Activity::Finalize(_)
            | Activity::ConflictingNotarize(_)
            | Activity::ConflictingFinalize(_)
            | Activity::NullifyFinalize(_) => {}
        }
        Feedback::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 48] = [7; 48];

    /// Views that end so, one after another.
    fn pass(kept: &mut Kept, views: RangeInclusive<u64>, outcome: Outcome) {
        for view in views {
            kept.note(view, outcome);
            kept.add(view, SEED);
            assert!(kept.by_view.len() <= KEPT_MAX);
            assert!(kept.open.len() <= OPEN_MAX);
        }
    }

    /// Whether a block of a view has all its seeds.
    fn has(kept: &Kept, parent_view: u64, view: u64) -> bool {
        let mut views = seed_views(parent_view, view);
        views.all(|view| kept.by_view.contains_key(&view))
    }

    #[test]
    fn the_next_block_has_its_seeds_however_many_views_had_none() {
        let mut kept = Kept::default();
        pass(&mut kept, 1..=20, Outcome::Settled);
        pass(&mut kept, 21..=9_999, Outcome::Nullified);
        for view in [21, 28, 29, 1_500, 10_000] {
            assert!(has(&kept, 20, view), "view {view}");
        }
        assert_eq!(kept.by_view.len(), KEPT_MAX);
        assert!(kept.by_view.contains_key(&9_999), "the newest is there");
        assert!(!kept.by_view.contains_key(&19), "no block needs it");
        assert!(!kept.by_view.contains_key(&29), "no block needs it");
    }

    #[test]
    fn so_has_the_first_block() {
        let mut kept = Kept::default();
        pass(&mut kept, 1..=5_000, Outcome::Nullified);
        assert!(has(&kept, 0, 5_001));
    }

    /// One that is notarized is the parent as soon as it is certified here, which may be late.
    #[test]
    fn a_notarized_block_may_be_the_parent() {
        let mut kept = Kept::default();
        pass(&mut kept, 1..=20, Outcome::Settled);
        pass(&mut kept, 21..=49, Outcome::Nullified);
        pass(&mut kept, 50..=50, Outcome::Notarized);
        pass(&mut kept, 50..=5_000, Outcome::Nullified);
        assert!(has(&kept, 20, 5_001));
        assert!(has(&kept, 50, 5_001));
        kept.note(50, Outcome::Settled);
        pass(&mut kept, 5_001..=9_000, Outcome::Nullified);
        assert!(has(&kept, 50, 9_001));
        assert!(!kept.by_view.contains_key(&20), "it is no parent any more");
        // What is told again of an old view changes nothing.
        pass(&mut kept, 20..=20, Outcome::Settled);
        pass(&mut kept, 20..=20, Outcome::Notarized);
        assert_eq!((kept.settled, kept.open.len()), (50, 0));
    }

    #[test]
    fn many_notarized_blocks_take_no_more_room() {
        let mut kept = Kept::default();
        pass(&mut kept, 1..=20, Outcome::Settled);
        pass(&mut kept, 21..=29, Outcome::Nullified);
        // As far apart as it takes for each to need seeds of its own.
        for view in (30..30_000).step_by(10) {
            pass(&mut kept, view..=view, Outcome::Notarized);
            pass(&mut kept, view..=view + 9, Outcome::Nullified);
        }
        assert_eq!(kept.open.len(), OPEN_MAX);
        pass(&mut kept, 30_000..=33_000, Outcome::Nullified);
        assert!(has(&kept, 20, 33_001), "the last certified one's stay");
        for open in &kept.open {
            assert!(has(&kept, *open, 33_001), "above {open}");
        }
        assert!(kept.by_view.contains_key(&33_000), "so does the newest");
    }

    /// Who was away gets the certificates of the views that it missed last.
    #[test]
    fn a_seed_that_comes_late_stays_when_the_next_block_needs_it() {
        let mut kept = Kept::default();
        pass(&mut kept, 1..=20, Outcome::Settled);
        pass(&mut kept, 3_000..=5_000, Outcome::Nullified);
        pass(&mut kept, 21..=2_999, Outcome::Nullified);
        assert!(has(&kept, 20, 5_001));
    }
}
