//! Volumes, leases, grants and notarisations in the state.

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    AccountId, Bounded, Digest, FencingNumber, Height, PublicKey, Right, TxId, UnixMillis, VolumeId,
};

use super::State;
use super::audit::Unsound;
use super::entries::List;
use super::table::{OwnVolume, Table};
use crate::effect::Effect;
use crate::registry::{
    Access, Anchor, GRANT_MILLIS_MAX, GRANTS_PER_VOLUME_MAX, Grant, Lease, Notarisation,
    RegistryTx, VOLUMES_PER_ACCOUNT_MAX, Volume, Writer, volume_id,
};

/// Most transactions of a block, each of which can begin one lease.
const TXS_MAX: u64 = 1_024;
const _: () = assert!(crate::block::TXS_MAX == 1_024);

/// The tables. Bounded by the [`crate::Parameters`].
#[derive(Clone, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Registry {
    pub(super) volumes: Table<VolumeId, Volume>,
    pub(super) grants: Table<(VolumeId, PublicKey), Grant>,
    pub(super) notarisations: Table<Digest, Notarisation>,
}

/// What follows from the tables.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct RegistryIndex {
    /// Volumes of each owner.
    pub(super) volumes: Table<(AccountId, VolumeId), OwnVolume>,
    /// Notarisations, the oldest first.
    pub(super) notarised: BTreeSet<(Height, Digest)>,
}

impl Registry {
    /// The grants of a volume, rising by holder.
    pub(super) fn grants_of(&self, volume: VolumeId) -> impl Iterator<Item = &Grant> {
        let first = PublicKey::from_bytes([0; 32]);
        let last = PublicKey::from_bytes([u8::MAX; 32]);
        let range = self.grants.range((volume, first)..=(volume, last));
        range.map(|(_, grant)| grant)
    }

    /// Until when an account may write a volume, if it may; for ever when it owns it.
    pub(super) fn may_write_until(
        &self,
        volume: &Volume,
        account: AccountId,
        now: UnixMillis,
    ) -> Option<UnixMillis> {
        if account == volume.owner {
            return Some(UnixMillis::new(u64::MAX));
        }
        let grant = self.grants.get(&(volume.id, account.key()))?;
        (grant.right(now) == Some(Right::Write)).then_some(grant.expires_at)
    }

    pub(super) fn index(&self) -> RegistryIndex {
        let mut index = RegistryIndex::default();
        for volume in self.volumes.values() {
            index.volumes.insert((volume.owner, volume.id), OwnVolume);
        }
        for kept in self.notarisations.values() {
            index.notarised.insert((kept.height, kept.digest));
        }
        index
    }
}

impl State {
    /// A volume; `None` when it is unknown or closed.
    #[must_use]
    pub fn volume(&self, id: VolumeId) -> Option<&Volume> {
        self.registry.volumes.get(&id)
    }

    /// A key's grant or its revocation, expired or not; `None` when there is none.
    #[must_use]
    pub fn grant(&self, volume: VolumeId, holder: PublicKey) -> Option<&Grant> {
        self.registry.grants.get(&(volume, holder))
    }

    /// A digest's notarisation; `None` when it has none or it is no longer kept.
    #[must_use]
    pub fn notarisation(&self, digest: Digest) -> Option<&Notarisation> {
        self.registry.notarisations.get(&digest)
    }

    /// Volumes of an account.
    pub(super) fn volume_count_of(&self, owner: AccountId) -> usize {
        let own = List::of(owner, None);
        self.index.registry.volumes.range(own.range()).count()
    }

    /// Until when a lease lasts that the account has from now on; `None` when it may not write.
    fn lease_until(&self, id: VolumeId, account: AccountId, millis: u64) -> Option<UnixMillis> {
        let until = UnixMillis::new(self.time.get().saturating_add(millis));
        let may_until = self
            .registry
            .may_write_until(self.volume(id)?, account, self.time)?;
        Some(until.min(may_until))
    }

    /// Does what was checked.
    pub(super) fn commit_registry(
        &mut self,
        id: TxId,
        account: AccountId,
        tx: &RegistryTx,
        effects: &mut Vec<Effect>,
    ) {
        match tx {
            RegistryTx::VolumeRegister { descriptor } => {
                let volume = Volume {
                    id: volume_id(id),
                    owner: account,
                    descriptor: descriptor.clone(),
                    registered: self.height,
                    fencing: FencingNumber::ZERO,
                    lease: None,
                    anchors: Bounded::empty(),
                };
                self.register_volume(volume, effects);
            }
            RegistryTx::VolumeDescribe { volume, descriptor } => {
                if let Some(volume) = self.registry.volumes.get_mut(volume) {
                    volume.descriptor = descriptor.clone();
                    effects.push(Effect::VolumeChanged(volume.id));
                }
            }
            RegistryTx::VolumeClose { volume } => self.close_volume(*volume, effects),
            RegistryTx::VolumeAnchor {
                volume,
                fencing,
                number,
                digest,
            } => {
                let anchor = Anchor {
                    fencing: *fencing,
                    number: *number,
                    digest: *digest,
                    height: self.height,
                    time: self.time,
                };
                if let Some(found) = self.registry.volumes.get_mut(volume) {
                    found.keep(anchor);
                    effects.push(Effect::Anchored {
                        volume: *volume,
                        fencing: *fencing,
                        number: *number,
                    });
                }
            }
            RegistryTx::GrantMake { .. } | RegistryTx::GrantRevoke { .. } => {
                self.commit_grant(tx, effects);
            }
            RegistryTx::Notarise { digest } => self.notarise(account, *digest, effects),
            RegistryTx::LeaseTake { .. }
            | RegistryTx::LeaseAsk { .. }
            | RegistryTx::LeaseRenew { .. }
            | RegistryTx::LeaseRelease { .. }
            | RegistryTx::LeaseHandOver { .. } => self.commit_lease(account, tx, effects),
        }
    }

    fn commit_grant(&mut self, tx: &RegistryTx, effects: &mut Vec<Effect>) {
        match tx {
            RegistryTx::GrantMake {
                volume,
                holder,
                right,
                expires_at,
            } => {
                let grant = Grant {
                    volume: *volume,
                    holder: *holder,
                    access: Access::Granted(*right),
                    expires_at: *expires_at,
                    since: self.height,
                };
                self.set_grant(grant, effects);
            }
            RegistryTx::GrantRevoke {
                volume,
                holder,
                expires_at,
            } => {
                let before = self.grant(*volume, *holder);
                let expires_at =
                    before.map_or(*expires_at, |grant| grant.expires_at.max(*expires_at));
                let grant = Grant {
                    volume: *volume,
                    holder: *holder,
                    access: Access::Revoked,
                    expires_at,
                    since: self.height,
                };
                self.set_grant(grant, effects);
            }
            // Asked of `commit_registry`.
            _ => {}
        }
    }

    fn commit_lease(&mut self, account: AccountId, tx: &RegistryTx, effects: &mut Vec<Effect>) {
        match tx {
            RegistryTx::LeaseTake {
                volume,
                key,
                millis,
            } => {
                let writer = Writer { account, key: *key };
                self.begin_lease(*volume, writer, *millis, effects);
            }
            RegistryTx::LeaseHandOver {
                volume, to, millis, ..
            } => self.begin_lease(*volume, *to, *millis, effects),
            RegistryTx::LeaseAsk { volume, key } => {
                let writer = Writer { account, key: *key };
                self.change_lease(*volume, |lease| lease.asked = Some(writer));
                effects.push(Effect::LeaseAsked {
                    volume: *volume,
                    asked_by: writer,
                });
            }
            RegistryTx::LeaseRenew { volume, millis, .. } => {
                let until = self.lease_until(*volume, account, *millis);
                self.change_lease(*volume, |lease| {
                    lease.until = until.unwrap_or(lease.until);
                });
                self.tell_lease(*volume, effects);
            }
            RegistryTx::LeaseRelease { volume, .. } => {
                if let Some(volume) = self.registry.volumes.get_mut(volume) {
                    volume.lease = None;
                }
                self.tell_lease(*volume, effects);
            }
            // Asked of `commit_registry`.
            _ => {}
        }
    }

    fn register_volume(&mut self, volume: Volume, effects: &mut Vec<Effect>) {
        let own = (volume.owner, volume.id);
        self.index.registry.volumes.insert(own, OwnVolume);
        effects.push(Effect::VolumeChanged(volume.id));
        self.registry.volumes.insert(volume.id, volume);
    }

    fn close_volume(&mut self, id: VolumeId, effects: &mut Vec<Effect>) {
        let holders = self.registry.grants_of(id).map(|grant| grant.holder);
        for holder in holders.collect::<Vec<_>>() {
            self.registry.grants.remove(&(id, holder));
        }
        let Some(volume) = self.registry.volumes.remove(&id) else {
            return;
        };
        self.index.registry.volumes.remove(&(volume.owner, id));
        effects.push(Effect::VolumeClosed(id));
    }

    /// A lease with the next fencing number.
    fn begin_lease(
        &mut self,
        id: VolumeId,
        writer: Writer,
        millis: u64,
        effects: &mut Vec<Effect>,
    ) {
        let until = self.lease_until(id, writer.account, millis);
        let (Some(until), Some(volume)) = (until, self.registry.volumes.get_mut(&id)) else {
            return;
        };
        // There are fewer leases than transactions.
        volume.fencing = volume.fencing.next().unwrap_or(volume.fencing);
        volume.lease = Some(Lease {
            writer,
            until,
            asked: None,
        });
        self.tell_lease(id, effects);
    }

    fn change_lease(&mut self, id: VolumeId, change: impl FnOnce(&mut Lease)) {
        let volume = self.registry.volumes.get_mut(&id);
        if let Some(lease) = volume.and_then(|volume| volume.lease.as_mut()) {
            change(lease);
        }
    }

    fn tell_lease(&self, id: VolumeId, effects: &mut Vec<Effect>) {
        if let Some(volume) = self.volume(id) {
            effects.push(Effect::LeaseChanged {
                volume: id,
                fencing: volume.fencing,
            });
        }
    }

    /// Puts a grant or revocation in the place of what the key had. A lease of the key ends with its
    /// right to write, or with the grant. What has expired of the volume's grants is forgotten.
    fn set_grant(&mut self, grant: Grant, effects: &mut Vec<Effect>) {
        let Grant { volume, holder, .. } = grant;
        let now = self.time;
        let others = self.registry.grants_of(volume);
        let expired = others.filter(|other| other.has_expired(now));
        for other in expired.map(|other| other.holder).collect::<Vec<_>>() {
            self.registry.grants.remove(&(volume, other));
        }
        self.registry.grants.insert((volume, holder), grant);
        effects.push(Effect::GrantChanged { volume, holder });
        self.limit_lease(volume, AccountId::new(holder), effects);
    }

    /// Shortens or ends the lease of an account whose right has changed.
    fn limit_lease(&mut self, id: VolumeId, account: AccountId, effects: &mut Vec<Effect>) {
        let Some(volume) = self.volume(id) else {
            return;
        };
        let may_until = self.registry.may_write_until(volume, account, self.time);
        let Some(volume) = self.registry.volumes.get_mut(&id) else {
            return;
        };
        let of_account = |lease: &&mut Lease| lease.writer.account == account;
        let Some(lease) = volume.lease.as_mut().filter(of_account) else {
            return;
        };
        match may_until {
            Some(until) if lease.until <= until => return,
            Some(until) => lease.until = until,
            None => volume.lease = None,
        }
        self.tell_lease(id, effects);
    }

    fn notarise(&mut self, account: AccountId, digest: Digest, effects: &mut Vec<Effect>) {
        if super::count(self.registry.notarisations.len()) >= self.parameters.notarisations_max
            && let Some((_, oldest)) = self.index.registry.notarised.pop_first()
        {
            self.registry.notarisations.remove(&oldest);
        }
        let kept = Notarisation {
            digest,
            account,
            height: self.height,
            time: self.time,
        };
        self.registry.notarisations.insert(digest, kept);
        self.index.registry.notarised.insert((self.height, digest));
        effects.push(Effect::Notarised(digest));
    }

    /// The registry's part of [`Self::audit`].
    pub(super) fn audit_registry(&self) -> Result<(), Unsound> {
        for (id, volume) in self.registry.volumes.iter() {
            if *id != volume.id || !self.is_volume_sound(volume) {
                return Err(Unsound::Volume { volume: *id });
            }
        }
        let grants_max = UnixMillis::new(self.time.get().saturating_add(GRANT_MILLIS_MAX));
        let mut last = None;
        for ((volume, holder), grant) in self.registry.grants.iter() {
            let is_sound = (*volume, *holder) == (grant.volume, grant.holder)
                && grant.expires_at <= grants_max
                && grant.since <= self.height
                && self.registry.volumes.contains_key(volume)
                && (last == Some(*volume)
                    || self.registry.grants_of(*volume).count() <= GRANTS_PER_VOLUME_MAX);
            if !is_sound {
                return Err(Unsound::Volume { volume: *volume });
            }
            last = Some(*volume);
        }
        let is_sound = |(digest, kept): (&Digest, &Notarisation)| {
            *digest == kept.digest && kept.height <= self.height && kept.time <= self.time
        };
        if self.registry.notarisations.iter().all(is_sound) {
            Ok(())
        } else {
            Err(Unsound::Notarisations)
        }
    }

    fn is_volume_sound(&self, volume: &Volume) -> bool {
        let (now, longest) = (self.time, self.parameters.lease_millis_max);
        let lease_max = UnixMillis::new(now.get().saturating_add(longest));
        let is_entitled = volume.live_lease(now).is_none_or(|lease| {
            let account = lease.writer.account;
            let may_until = self.registry.may_write_until(volume, account, now);
            lease.until <= lease_max && may_until.is_some_and(|until| lease.until <= until)
        });
        let txs = self.height.get().saturating_mul(TXS_MAX);
        volume.is_well_formed()
            && volume.fencing.get() <= txs
            && is_entitled
            && volume.registered <= self.height
            && volume
                .anchors
                .iter()
                .all(|anchor| anchor.height <= self.height)
            && self.volume_count_of(volume.owner) <= VOLUMES_PER_ACCOUNT_MAX
    }
}
