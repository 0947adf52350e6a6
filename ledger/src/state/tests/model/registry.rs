//! The registry's part of the model: volumes, leases, anchors, grants and notarisations.

use std::collections::BTreeMap;

use cairn_core::{Digest, Right, UnixMillis, VolumeId};
use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof};
use proptest::test_runner::TestCaseError;

use crate::registry::{Access, RegistryTx, volume_id};
use crate::sample::{World, account, ask};
use crate::state::tests::registry::{
    anchor, ask, grant, hand_over, notarise, note, public, release, renew, revoke, take, writer,
};
use crate::tx::TxBody;

/// What is asked of a volume, by its place among those that are not closed. `by` is a party; without,
/// it is the one who may most likely do it. `back` is how far the fencing number is behind.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Register {
        by: u8,
        note: u8,
    },
    Describe {
        volume: usize,
        by: Option<u8>,
        note: u8,
    },
    Close {
        volume: usize,
        by: Option<u8>,
    },
    Anchor {
        volume: usize,
        by: Option<u8>,
        back: u64,
        step: u64,
    },
    Take {
        volume: usize,
        by: u8,
        machine: u8,
        millis: u64,
    },
    Ask {
        volume: usize,
        by: u8,
        machine: u8,
    },
    Renew {
        volume: usize,
        by: Option<u8>,
        back: u64,
        millis: u64,
    },
    Release {
        volume: usize,
        by: Option<u8>,
        back: u64,
    },
    HandOver {
        volume: usize,
        by: Option<u8>,
        back: u64,
        to: (u8, u8),
        millis: u64,
    },
    Grant {
        volume: usize,
        by: Option<u8>,
        holder: u8,
        right: Option<Right>,
        millis: u64,
    },
    Notarise {
        by: u8,
        text: u8,
    },
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let owner = || 1..=4_u8;
    let volume = || 0..2_usize;
    let by = || proptest::option::weighted(0.15, 1..=4_u8);
    let machine = || 50..52_u8;
    let back = || prop_oneof![6 => Just(0_u64), 1 => Just(1)];
    let millis = || prop_oneof![1 => Just(0_u64), 8 => 1..16_u64];
    let grant_millis = || prop_oneof![1 => Just(0_u64), 6 => 1..12_u64, 10 => 12..80_u64];
    let right = || {
        prop_oneof![
            Just(None),
            Just(Some(Right::Read)),
            Just(Some(Right::Write)),
            Just(Some(Right::Write))
        ]
    };
    prop_oneof![
        2 => (owner(), 0..9_u8).prop_map(|(by, note)| Op::Register { by, note }),
        1 => (volume(), by(), 0..9_u8)
            .prop_map(|(volume, by, note)| Op::Describe { volume, by, note }),
        1 => (volume(), by()).prop_map(|(volume, by)| Op::Close { volume, by }),
        8 => (volume(), by(), back(), 0..4_u64)
            .prop_map(|(volume, by, back, step)| Op::Anchor { volume, by, back, step }),
        6 => (volume(), owner(), machine(), millis())
            .prop_map(|(volume, by, machine, millis)| Op::Take { volume, by, machine, millis }),
        2 => (volume(), owner(), machine())
            .prop_map(|(volume, by, machine)| Op::Ask { volume, by, machine }),
        3 => (volume(), by(), back(), millis())
            .prop_map(|(volume, by, back, millis)| Op::Renew { volume, by, back, millis }),
        1 => (volume(), by(), back())
            .prop_map(|(volume, by, back)| Op::Release { volume, by, back }),
        3 => (volume(), by(), back(), (owner(), machine()), millis())
            .prop_map(|(volume, by, back, to, millis)| {
                Op::HandOver { volume, by, back, to, millis }
            }),
        10 => (volume(), by(), owner(), right(), grant_millis())
            .prop_map(|(volume, by, holder, right, millis)| {
                Op::Grant { volume, by, holder, right, millis }
            }),
        2 => (owner(), 0..6_u8).prop_map(|(by, text)| Op::Notarise { by, text }),
    ]
}

/// Party, machine, when it is over, who asked.
#[derive(Clone, Copy, Debug)]
struct Lease {
    by: u8,
    machine: u8,
    until: u64,
    asked: Option<(u8, u8)>,
}

#[derive(Clone, Debug, Default)]
struct Volume {
    id: VolumeId,
    owner: u8,
    note: u8,
    fencing: u64,
    lease: Option<Lease>,
    /// Every anchor there was: fencing number, head number.
    anchors: Vec<(u64, u64)>,
    /// Of each holder what it was given last, nothing for a revocation, and until when.
    grants: BTreeMap<u8, (Option<Right>, u64)>,
}

impl Volume {
    fn may_write_until(&self, party: u8, now: u64) -> Option<u64> {
        if party == self.owner {
            return Some(u64::MAX);
        }
        let (right, until) = self.grants.get(&party)?;
        (*right == Some(Right::Write) && now < *until).then_some(*until)
    }

    fn holder(&self) -> u8 {
        self.lease.map_or(self.owner, |lease| lease.by)
    }

    fn newest(&self) -> u64 {
        self.anchors.last().map_or(0, |anchor| anchor.1)
    }

    /// Whether the party has the lease of this number, over or not.
    fn has_lease(&self, party: u8, back: u64) -> bool {
        back == 0 && self.lease.is_some_and(|lease| lease.by == party)
    }

    fn is_live(&self, now: u64) -> bool {
        self.lease.is_some_and(|lease| now < lease.until)
    }

    fn begin_lease(&mut self, by: u8, machine: u8, until: u64) {
        self.fencing += 1;
        self.lease = Some(Lease {
            by,
            machine,
            until,
            asked: None,
        });
    }

    fn until(&self, party: u8, now: u64, millis: u64) -> u64 {
        let may_until = self.may_write_until(party, now);
        may_until.unwrap_or(0).min(now + millis)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Time of the next block.
    pub(super) now: u64,
    /// Those that are not closed, in the order of registration.
    volumes: Vec<Volume>,
    notarised: BTreeMap<u8, u8>,
}

impl Model {
    fn place(&self, volume: usize) -> Option<usize> {
        volume.checked_rem(self.volumes.len())
    }

    fn volume(&self, volume: usize) -> Option<&Volume> {
        self.volumes.get(self.place(volume)?)
    }

    /// Who sends what, and whether it will be done; `None` when it can't be asked.
    pub(super) fn plan(&self, op: &Op) -> Option<(u8, TxBody, bool)> {
        let (by, asked, is_done) = match *op {
            Op::Register { by, note: text } => {
                let descriptor = note(&[text]);
                (by, RegistryTx::VolumeRegister { descriptor }, true)
            }
            Op::Notarise { by, text } => {
                (by, notarise(&[text]), !self.notarised.contains_key(&text))
            }
            Op::Describe {
                volume,
                by,
                note: text,
            } => {
                let found = self.volume(volume)?;
                let descriptor = note(&[text]);
                let by = by.unwrap_or(found.owner);
                let volume = found.id;
                (
                    by,
                    RegistryTx::VolumeDescribe { volume, descriptor },
                    by == found.owner,
                )
            }
            Op::Close { volume, by } => {
                let found = self.volume(volume)?;
                let by = by.unwrap_or(found.owner);
                let volume = found.id;
                (by, RegistryTx::VolumeClose { volume }, by == found.owner)
            }
            Op::Grant {
                volume,
                by,
                holder,
                right,
                millis,
            } => {
                let found = self.volume(volume)?;
                let (by, until) = (by.unwrap_or(found.owner), self.now + millis);
                let asked = match right {
                    Some(right) => grant(found.id, holder, right, until),
                    None => revoke(found.id, holder, until),
                };
                (by, asked, by == found.owner && millis > 0)
            }
            _ => return self.plan_lease(op),
        };
        Some((by, TxBody::Registry(asked), is_done))
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each op")]
    fn plan_lease(&self, op: &Op) -> Option<(u8, TxBody, bool)> {
        let now = self.now;
        let (by, asked, is_done) = match *op {
            Op::Anchor {
                volume,
                by,
                back,
                step,
            } => {
                let found = self.volume(volume)?;
                let by = by.unwrap_or(found.holder());
                let fencing = found.fencing.checked_sub(back)?;
                let asked = anchor(found.id, fencing, found.newest() + step);
                let is_done = found.has_lease(by, back) && found.is_live(now) && step > 0;
                (by, asked, is_done)
            }
            Op::Take {
                volume,
                by,
                machine,
                millis,
            } => {
                let found = self.volume(volume)?;
                let is_own = found
                    .lease
                    .is_some_and(|l| (l.by, l.machine) == (by, machine));
                let is_free = is_own || !found.is_live(now);
                let may = found.may_write_until(by, now).is_some();
                (
                    by,
                    take(found.id, machine, millis),
                    is_free && may && millis > 0,
                )
            }
            Op::Ask {
                volume,
                by,
                machine,
            } => {
                let found = self.volume(volume)?;
                let is_own = found
                    .lease
                    .is_some_and(|l| (l.by, l.machine) == (by, machine));
                let may = found.may_write_until(by, now).is_some();
                (
                    by,
                    ask(found.id, machine),
                    may && found.is_live(now) && !is_own,
                )
            }
            Op::Renew {
                volume,
                by,
                back,
                millis,
            } => {
                let found = self.volume(volume)?;
                let by = by.unwrap_or(found.holder());
                let asked = renew(found.id, found.fencing.checked_sub(back)?, millis);
                let may = found.may_write_until(by, now).is_some();
                (by, asked, found.has_lease(by, back) && may && millis > 0)
            }
            Op::Release { volume, by, back } => {
                let found = self.volume(volume)?;
                let by = by.unwrap_or(found.holder());
                let asked = release(found.id, found.fencing.checked_sub(back)?);
                (by, asked, found.has_lease(by, back))
            }
            Op::HandOver {
                volume,
                by,
                back,
                to,
                millis,
            } => {
                let found = self.volume(volume)?;
                let by = by.unwrap_or(found.holder());
                let fencing = found.fencing.checked_sub(back)?;
                let asked = hand_over(found.id, fencing, writer(to.0, to.1), millis);
                let may = found.may_write_until(to.0, now).is_some();
                (by, asked, found.has_lease(by, back) && may && millis > 0)
            }
            _ => return None,
        };
        Some((by, TxBody::Registry(asked), is_done))
    }

    /// Does what was planned.
    #[expect(clippy::too_many_lines, reason = "one arm for each op")]
    pub(super) fn act(&mut self, op: &Op, id: VolumeId) {
        let now = self.now;
        let place = match *op {
            Op::Register { by, note } => {
                self.volumes.push(Volume {
                    id,
                    owner: by,
                    note,
                    ..Volume::default()
                });
                return;
            }
            Op::Notarise { by, text } => {
                self.notarised.insert(text, by);
                return;
            }
            Op::Close { volume, .. } => {
                self.volumes.remove(self.place(volume).unwrap());
                return;
            }
            Op::Describe { volume, .. }
            | Op::Anchor { volume, .. }
            | Op::Take { volume, .. }
            | Op::Ask { volume, .. }
            | Op::Renew { volume, .. }
            | Op::Release { volume, .. }
            | Op::HandOver { volume, .. }
            | Op::Grant { volume, .. } => volume,
        };
        let place = self.place(place).unwrap();
        let volume = &mut self.volumes[place];
        match *op {
            Op::Describe { note, .. } => volume.note = note,
            Op::Anchor { step, .. } => {
                let number = volume.newest() + step;
                volume.anchors.push((volume.fencing, number));
            }
            Op::Take {
                by,
                machine,
                millis,
                ..
            } => {
                volume.begin_lease(by, machine, volume.until(by, now, millis));
            }
            Op::HandOver { to, millis, .. } => {
                volume.begin_lease(to.0, to.1, volume.until(to.0, now, millis));
            }
            Op::Ask { by, machine, .. } => {
                volume.lease.as_mut().unwrap().asked = Some((by, machine));
            }
            Op::Renew { millis, .. } => {
                let until = volume.until(volume.holder(), now, millis);
                volume.lease.as_mut().unwrap().until = until;
            }
            Op::Release { .. } => volume.lease = None,
            Op::Grant {
                holder,
                right,
                millis,
                ..
            } => {
                let before = volume.grants.get(&holder);
                let longer = before.map_or(0, |grant| grant.1);
                let until = now + millis;
                let until = if right.is_none() {
                    until.max(longer)
                } else {
                    until
                };
                volume.grants.insert(holder, (right, until));
                let may_until = volume.may_write_until(holder, now);
                volume.lease = volume.lease.and_then(|lease| match may_until {
                    _ if lease.by != holder => Some(lease),
                    Some(until) => Some(Lease {
                        until: lease.until.min(until),
                        ..lease
                    }),
                    None => None,
                });
            }
            Op::Register { .. } | Op::Notarise { .. } | Op::Close { .. } => {}
        }
    }

    pub(super) fn compare(&self, world: &World) -> Result<(), TestCaseError> {
        let state = &world.state;
        let now = state.time().get();
        prop_assert_eq!(state.registry.volumes.len(), self.volumes.len());
        for volume in &self.volumes {
            let found = state.volume(volume.id).unwrap();
            prop_assert_eq!(found.owner, account(volume.owner));
            prop_assert_eq!(&found.descriptor, &note(&[volume.note]));
            prop_assert_eq!(found.fencing.get(), volume.fencing);
            let lease = found
                .lease
                .map(|lease| (lease.writer, lease.until.get(), lease.asked));
            let expected = volume.lease.map(|lease| {
                let asked = lease.asked.map(|(by, machine)| writer(by, machine));
                (writer(lease.by, lease.machine), lease.until, asked)
            });
            prop_assert_eq!(lease, expected);
            let newest = found.anchor().map(|a| (a.fencing.get(), a.number.get()));
            prop_assert_eq!(newest, volume.anchors.last().copied());
            // The newest of each lease, the last eight.
            let mut last: BTreeMap<u64, u64> = volume.anchors.iter().copied().collect();
            while last.len() > 8 {
                last.pop_first();
            }
            let kept: Vec<_> = found
                .anchors
                .iter()
                .map(|anchor| (anchor.fencing.get(), anchor.number.get()))
                .collect();
            prop_assert_eq!(kept, last.into_iter().collect::<Vec<_>>());
            for (holder, (right, until)) in &volume.grants {
                let found = state.grant(volume.id, public(*holder));
                if now < *until {
                    let found = found.unwrap();
                    let access = right.map_or(Access::Revoked, Access::Granted);
                    prop_assert_eq!(found.access, access);
                    prop_assert_eq!(found.expires_at, UnixMillis::new(*until));
                } else {
                    // Kept or forgotten: it is void.
                    let right = found.and_then(|grant| grant.right(state.time()));
                    prop_assert_eq!(right, None);
                }
            }
            prop_assert!(ask!(state, Grants(volume.id)).len() <= volume.grants.len());
        }
        prop_assert_eq!(state.registry.notarisations.len(), self.notarised.len());
        for (text, by) in &self.notarised {
            let found = state.notarisation(Digest::of(&[*text])).unwrap();
            prop_assert_eq!(found.account, account(*by));
        }
        Ok(())
    }
}

/// The volume that a transaction registered, by the id of the group it could have opened.
pub(super) fn id_of(id: cairn_core::GroupId) -> VolumeId {
    volume_id(cairn_core::TxId::new(id.digest()))
}
