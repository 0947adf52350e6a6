//! What a client or node asks of the registry, over a transport.

use cairn_core::{AccountId, Bounded, Digest, NodeId, PublicKey, Signed, VolumeId};

use super::check;
use crate::port::LedgerError;
use crate::registry::{
    GRANTS_PER_VOLUME_MAX, Grant, Notarisation, VOLUMES_PER_ACCOUNT_MAX, Volume,
};
use crate::remote::{LedgerTransport, RemoteLedger};
use crate::view::{GrantView, View, ViewRequest, VolumeView};

impl<T: LedgerTransport> RemoteLedger<T> {
    /// All volumes of an account, rising.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe, as with all of these.
    pub async fn volumes(
        &self,
        owner: AccountId,
    ) -> Result<Bounded<Volume, VOLUMES_PER_ACCOUNT_MAX>, LedgerError> {
        let volumes = expect_view!(self.view(ViewRequest::Volumes(owner)).await?, Volumes)?;
        check(volumes, |volumes| {
            volumes.iter().all(|volume| volume.owner == owner)
        })
    }

    /// A volume with its lease and anchors; `None` when it is unknown.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn volume(&self, id: VolumeId) -> Result<Option<VolumeView>, LedgerError> {
        let view = expect_view!(self.view(ViewRequest::Volume(id)).await?, Volume)?;
        check(view.map(|view| *view), |view| {
            view.as_ref().is_none_or(|view| view.volume.id == id)
        })
    }

    /// All grants of a volume and its revocations, rising by holder; none when it is unknown.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn grants(
        &self,
        volume: VolumeId,
    ) -> Result<Bounded<Grant, GRANTS_PER_VOLUME_MAX>, LedgerError> {
        let grants = expect_view!(self.view(ViewRequest::Grants(volume)).await?, Grants)?;
        check(grants, |grants| {
            grants.iter().all(|grant| grant.volume == volume)
        })
    }

    /// A key's right to a volume; `None` when the volume is unknown.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn grant(
        &self,
        volume: VolumeId,
        holder: PublicKey,
    ) -> Result<Option<GrantView>, LedgerError> {
        let view = self.view(ViewRequest::Grant { volume, holder }).await?;
        let view = expect_view!(view, Grant)?.map(|view| *view);
        let asked = (volume, holder);
        check(view, |view| {
            view.is_none_or(|view| {
                let grant = view.grant;
                (view.volume, view.holder) == asked
                    && grant.is_none_or(|grant| (grant.volume, grant.holder) == asked)
            })
        })
    }

    /// A digest's notarisation; `None` when it is not recorded, or no longer.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn notarisation(&self, digest: Digest) -> Result<Option<Notarisation>, LedgerError> {
        let view = self.view(ViewRequest::Notarisation(digest)).await?;
        check(expect_view!(view, Notarisation)?, |kept| {
            kept.is_none_or(|kept| kept.digest == digest)
        })
    }

    /// The same, signed for this ledger by `signer`: a receipt that needs no network.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; `Request` when whoever answers signs nothing, `Answer` when the signature
    /// is another's or does not hold.
    pub async fn notarisation_receipt(
        &self,
        digest: Digest,
        signer: NodeId,
    ) -> Result<Option<Signed<Notarisation>>, LedgerError> {
        let view = self.view(ViewRequest::NotarisationReceipt(digest)).await?;
        let signed = expect_view!(view, NotarisationReceipt)?.map(|signed| *signed);
        check(signed, |signed| {
            signed.as_ref().is_none_or(|signed| {
                let kept = signed.verify_for(signer.key(), self.id);
                kept.is_ok_and(|kept| kept.digest == digest)
            })
        })
    }
}
