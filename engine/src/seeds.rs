//! The seeds of recent views, taken from the engine's certificates.

use std::collections::BTreeMap;
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

/// Seeds kept: many more than a block can need, since views go on while no block is made.
const KEPT_MAX: usize = 1024;

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
    by_view: Mutex<BTreeMap<u64, [u8; 48]>>,
    added: Notify,
}

impl Seeds {
    fn by_view(&self) -> MutexGuard<'_, BTreeMap<u64, [u8; 48]>> {
        self.known.by_view.lock().expect("no holder panics")
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
        self.by_view().range(views).map(seed).collect()
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
        self.by_view().last_key_value().map_or(0, |(view, _)| *view)
    }

    fn add(&self, view: u64, certificate: &Certificate) {
        // A certificate that was checked always decodes.
        let Some(signature) = certificate.get() else {
            return;
        };
        let encoded = signature.seed_signature.encode();
        let Ok(bytes) = <[u8; 48]>::try_from(&encoded[..]) else {
            return;
        };
        let mut by_view = self.by_view();
        by_view.insert(view, bytes);
        while by_view.len() > KEPT_MAX {
            by_view.pop_first();
        }
        drop(by_view);
        self.known.added.notify_waiters();
    }
}

impl Reporter for Seeds {
    type Activity = Activity<Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        match &activity {
            Activity::Notarization(it) | Activity::Certification(it) => {
                self.add(it.view().get(), &it.certificate);
            }
            Activity::Nullification(it) => self.add(it.view().get(), &it.certificate),
            Activity::Finalization(it) => self.add(it.view().get(), &it.certificate),
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
