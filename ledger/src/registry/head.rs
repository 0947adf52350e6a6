//! Whether a head that somebody shows agrees with what is anchored.

use std::cmp::Ordering;

use cairn_core::{Digest, FencingNumber, HeadNumber};

use super::{Anchor, Volume};

/// How a head stands to the anchors of its volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadStanding {
    /// It is the newest that is anchored.
    Anchored,
    /// It is newer than all that is anchored, and nothing speaks against it.
    Ahead,
    /// It is older than the newest anchor: whoever shows it as the newest rolls the volume back.
    Behind,
    /// It is no head of the volume: another is anchored under its number, it was written by a
    /// writer that was fenced, or under a lease that there is not.
    Foreign,
}

impl Volume {
    /// How a head stands to what is anchored.
    #[must_use]
    pub fn standing_of(
        &self,
        fencing: FencingNumber,
        number: HeadNumber,
        digest: Digest,
    ) -> HeadStanding {
        if fencing > self.fencing || fencing == FencingNumber::ZERO {
            return HeadStanding::Foreign;
        }
        let Some(newest) = self.anchor() else {
            return HeadStanding::Ahead;
        };
        let anchored = self.anchors.iter().find(|anchor| anchor.number == number);
        if let Some(anchor) = anchored {
            return if anchor.fencing != fencing || anchor.digest != digest {
                HeadStanding::Foreign
            } else if anchor == newest {
                HeadStanding::Anchored
            } else {
                HeadStanding::Behind
            };
        }
        // Numbers rise with leases: each anchor must lie on the same side of both.
        let agrees = |anchor: &Anchor| match anchor.fencing.cmp(&fencing) {
            Ordering::Less => anchor.number < number,
            Ordering::Equal => true,
            Ordering::Greater => anchor.number > number,
        };
        if !self.anchors.iter().all(agrees) {
            return HeadStanding::Foreign;
        }
        if number > newest.number {
            HeadStanding::Ahead
        } else {
            HeadStanding::Behind
        }
    }
}
