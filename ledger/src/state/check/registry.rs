//! Whether what is asked of the registry would be done.

use cairn_core::{AccountId, Digest, FencingNumber, HeadNumber, PublicKey, UnixMillis, VolumeId};

use crate::registry::{
    GRANT_MILLIS_MAX, GRANTS_PER_VOLUME_MAX, HEAD_STEP_MAX, Lease, RegistryError, RegistryTx,
    VOLUMES_PER_ACCOUNT_MAX, Volume, Writer,
};
use crate::state::{State, count};
use crate::tx_error::{TableKind, TxError};

/// A bound as errors say it.
fn bound(max: usize) -> u32 {
    u32::try_from(max).unwrap_or(u32::MAX)
}

impl State {
    pub(super) fn check_registry(
        &self,
        account: AccountId,
        tx: &RegistryTx,
    ) -> Result<(), TxError> {
        match tx {
            RegistryTx::VolumeRegister { .. } => self.check_volume_register(account)?,
            RegistryTx::VolumeDescribe { volume, .. } | RegistryTx::VolumeClose { volume } => {
                self.check_volume_owner(account, *volume)?;
            }
            RegistryTx::VolumeAnchor {
                volume,
                fencing,
                number,
                ..
            } => self.check_anchor(account, *volume, *fencing, *number)?,
            RegistryTx::LeaseTake {
                volume,
                key,
                millis,
            } => {
                let writer = Writer { account, key: *key };
                self.check_take(*volume, writer, *millis)?;
            }
            RegistryTx::LeaseAsk { volume, key } => {
                let writer = Writer { account, key: *key };
                self.check_ask(*volume, writer)?;
            }
            RegistryTx::LeaseRenew {
                volume,
                fencing,
                millis,
            } => {
                let (volume, _) = self.check_lease(account, *volume, *fencing)?;
                self.check_right(volume, account)?;
                self.check_lease_millis(*millis)?;
            }
            RegistryTx::LeaseRelease { volume, fencing } => {
                self.check_lease(account, *volume, *fencing)?;
            }
            RegistryTx::LeaseHandOver {
                volume,
                fencing,
                to,
                millis,
            } => {
                let (volume, _) = self.check_lease(account, *volume, *fencing)?;
                self.check_right(volume, to.account)?;
                self.check_lease_millis(*millis)?;
            }
            RegistryTx::GrantMake {
                volume,
                holder,
                expires_at,
                ..
            }
            | RegistryTx::GrantRevoke {
                volume,
                holder,
                expires_at,
            } => self.check_grant(account, *volume, *holder, *expires_at)?,
            RegistryTx::Notarise { digest } => self.check_notarise(*digest)?,
        }
        Ok(())
    }

    fn check_volume(&self, volume: VolumeId) -> Result<&Volume, RegistryError> {
        self.volume(volume)
            .ok_or(RegistryError::UnknownVolume { volume })
    }

    fn check_volume_owner(
        &self,
        account: AccountId,
        volume: VolumeId,
    ) -> Result<&Volume, RegistryError> {
        let found = self.check_volume(volume)?;
        if found.owner != account {
            return Err(RegistryError::NotOwner {
                volume,
                expected: found.owner,
                found: account,
            });
        }
        Ok(found)
    }

    fn check_volume_register(&self, account: AccountId) -> Result<(), TxError> {
        if self.volume_count_of(account) >= VOLUMES_PER_ACCOUNT_MAX {
            return Err(TxError::Registry(RegistryError::VolumeCount {
                account,
                max: bound(VOLUMES_PER_ACCOUNT_MAX),
            }));
        }
        let max = self.parameters.volumes_max;
        if count(self.registry.volumes.len()) >= max {
            let table = TableKind::Volumes;
            return Err(TxError::TableFull { table, max });
        }
        Ok(())
    }

    /// Whether the fencing number is the current one and its lease the account's, over or not.
    fn check_lease(
        &self,
        account: AccountId,
        id: VolumeId,
        fencing: FencingNumber,
    ) -> Result<(&Volume, &Lease), RegistryError> {
        let volume = self.check_volume(id)?;
        if fencing != volume.fencing {
            return Err(RegistryError::Fenced {
                volume: id,
                expected: volume.fencing,
                found: fencing,
            });
        }
        let lease = volume.lease.as_ref().ok_or(RegistryError::NoLease {
            volume: id,
            fencing,
        })?;
        if lease.writer.account != account {
            return Err(RegistryError::NotWriter {
                volume: id,
                expected: lease.writer.account,
                found: account,
            });
        }
        Ok((volume, lease))
    }

    fn check_anchor(
        &self,
        account: AccountId,
        id: VolumeId,
        fencing: FencingNumber,
        number: HeadNumber,
    ) -> Result<(), RegistryError> {
        let (volume, lease) = self.check_lease(account, id, fencing)?;
        check_live(volume, lease, self.time)?;
        let newest = volume.anchor().map_or(0, |anchor| anchor.number.get());
        let min = HeadNumber::new(newest.saturating_add(1));
        let max = HeadNumber::new(newest.saturating_add(HEAD_STEP_MAX));
        if number.get() <= newest || number > max {
            return Err(RegistryError::HeadNumber {
                volume: id,
                min,
                max,
                found: number,
            });
        }
        Ok(())
    }

    fn check_take(&self, id: VolumeId, writer: Writer, millis: u64) -> Result<(), RegistryError> {
        let volume = self.check_volume(id)?;
        self.check_right(volume, writer.account)?;
        let other = volume.live_lease(self.time);
        if let Some(lease) = other.filter(|lease| lease.writer != writer) {
            return Err(held(volume, lease));
        }
        self.check_lease_millis(millis)
    }

    fn check_ask(&self, id: VolumeId, writer: Writer) -> Result<(), RegistryError> {
        let volume = self.check_volume(id)?;
        self.check_right(volume, writer.account)?;
        let lease = volume.lease.as_ref().ok_or(RegistryError::NoLease {
            volume: id,
            fencing: volume.fencing,
        })?;
        check_live(volume, lease, self.time)?;
        if lease.writer == writer {
            return Err(held(volume, lease));
        }
        Ok(())
    }

    fn check_right(&self, volume: &Volume, account: AccountId) -> Result<(), RegistryError> {
        self.registry
            .may_write_until(volume, account, self.time)
            .map(|_| ())
            .ok_or(RegistryError::NoRight {
                volume: volume.id,
                account,
            })
    }

    fn check_lease_millis(&self, found: u64) -> Result<(), RegistryError> {
        let max = self.parameters.lease_millis_max;
        if found == 0 || found > max {
            return Err(RegistryError::LeaseMillis { max, found });
        }
        Ok(())
    }

    fn check_grant(
        &self,
        account: AccountId,
        id: VolumeId,
        holder: PublicKey,
        expires_at: UnixMillis,
    ) -> Result<(), TxError> {
        self.check_volume_owner(account, id)?;
        let now = self.time;
        let max = UnixMillis::new(now.get().saturating_add(GRANT_MILLIS_MAX));
        if expires_at <= now || expires_at > max {
            return Err(TxError::Registry(RegistryError::Expiry {
                after: now,
                max,
                found: expires_at,
            }));
        }
        if self.grant(id, holder).is_some() {
            return Ok(());
        }
        let live = self.registry.grants_of(id);
        if live.filter(|grant| !grant.has_expired(now)).count() >= GRANTS_PER_VOLUME_MAX {
            return Err(TxError::Registry(RegistryError::GrantCount {
                volume: id,
                max: bound(GRANTS_PER_VOLUME_MAX),
            }));
        }
        let max = self.parameters.grants_max;
        if count(self.registry.grants.len()) >= max {
            let table = TableKind::Grants;
            return Err(TxError::TableFull { table, max });
        }
        Ok(())
    }

    fn check_notarise(&self, digest: Digest) -> Result<(), TxError> {
        if let Some(kept) = self.notarisation(digest) {
            return Err(TxError::Registry(RegistryError::Notarised {
                digest,
                height: kept.height,
            }));
        }
        let max = self.parameters.notarisations_max;
        if count(self.registry.notarisations.len()) < max {
            return Ok(());
        }
        let oldest = self.index.registry.notarised.first();
        let oldest = oldest.and_then(|(_, digest)| self.notarisation(*digest));
        let keep = self.parameters.notarisation_keep_millis;
        let may_go = |time: UnixMillis| time.get().saturating_add(keep) <= self.time.get();
        if oldest.is_some_and(|oldest| may_go(oldest.time)) {
            return Ok(());
        }
        let table = TableKind::Notarisations;
        Err(TxError::TableFull { table, max })
    }
}

fn held(volume: &Volume, lease: &Lease) -> RegistryError {
    RegistryError::LeaseHeld {
        volume: volume.id,
        holder: lease.writer,
        fencing: volume.fencing,
        until: lease.until,
    }
}

fn check_live(volume: &Volume, lease: &Lease, now: UnixMillis) -> Result<(), RegistryError> {
    if lease.is_over(now) {
        return Err(RegistryError::LeaseOver {
            volume: volume.id,
            fencing: volume.fencing,
            until: lease.until,
        });
    }
    Ok(())
}
