//! What people look at, over a transport.

use cairn_core::{
    AccountId, Digest, GroupId, Height, LedgerTransport, NodeId, PublicKey, TxId, VolumeId,
};

use super::RemoteLedger;
use crate::node::NodeEntry;
use crate::port::LedgerError;
use crate::query::{Question, Seen};
use crate::registry::{Grant, Notarisation, Volume};
use crate::seal::BlockSeal;
use crate::term::Term;
use crate::view::{
    BlockSummary, EarningsView, EpochView, GrantView, GroupProof, GroupSummary, TxLookup,
    VolumeView,
};
use crate::wire::{Answer, LedgerRequest};

impl<T: LedgerTransport> RemoteLedger<T> {
    /// The epoch that runs.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe, as with all of these.
    pub async fn epoch_view(&self) -> Result<EpochView, LedgerError> {
        expect_seen!(self.ask(Question::Epoch).await?, Epoch)
    }

    /// A page of the nodes, rising above `after`. Fewer than [`crate::view::NODES_PAGE_MAX`] are the
    /// last.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn nodes_page(&self, after: Option<NodeId>) -> Result<Vec<NodeEntry>, LedgerError> {
        expect_seen!(self.ask(Question::Nodes { after }).await?, Nodes)
    }

    /// A page of an owner's or all groups, rising above `after`. Fewer than
    /// [`crate::view::GROUPS_PAGE_MAX`] are the last.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn groups_page(
        &self,
        owner: Option<AccountId>,
        after: Option<GroupId>,
    ) -> Result<Vec<GroupSummary>, LedgerError> {
        expect_seen!(self.ask(Question::Groups { owner, after }).await?, Groups)
    }

    /// What a node earned and spent, in numbers that add up to its balance; `None` when it never
    /// registered.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn earnings(&self, node: NodeId) -> Result<Option<EarningsView>, LedgerError> {
        let view = expect_seen!(self.ask(Question::Earnings(node)).await?, Earnings)?;
        Ok(view.map(|view| *view))
    }

    /// How a group is proven; `None` when it is unknown.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn group_proof(&self, group: GroupId) -> Result<Option<GroupProof>, LedgerError> {
        expect_seen!(self.ask(Question::Proven(group)).await?, Proven)
    }

    /// Final blocks from a height on, as many as fit an answer; none when there is none yet.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Forgotten`] when blocks that old are no longer remembered; [`LedgerError`].
    pub async fn blocks(&self, from: Height) -> Result<Vec<BlockSummary>, LedgerError> {
        let ask = || async {
            match self.call(&LedgerRequest::Blocks { from }).await? {
                Answer::Blocks(chained) => self.blocks_of(*chained, from, BlockSeal::has_summary),
                _ => Err(LedgerError::Answer),
            }
        };
        self.each(ask).await
    }

    /// A transaction of a block that is remembered. That there is none is believed.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn tx(&self, id: TxId) -> Result<TxLookup, LedgerError> {
        let look_into = |evidence| {
            let (seal, summary) = self.look_into(id, &evidence)?;
            Ok((seal.height, seal.time, Box::new(summary)))
        };
        let ask = || async {
            let Answer::Tx { oldest, found } = self.call(&LedgerRequest::Tx(id)).await? else {
                return Err(LedgerError::Answer);
            };
            Ok(TxLookup {
                oldest,
                found: found.map(|evidence| look_into(*evidence)).transpose()?,
            })
        };
        self.each(ask).await
    }

    /// All volumes of an account, rising.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn volumes(&self, owner: AccountId) -> Result<Vec<Volume>, LedgerError> {
        expect_seen!(self.ask(Question::Volumes(owner)).await?, Volumes)
    }

    /// A volume with its lease and anchors; `None` when it is unknown.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn volume(&self, id: VolumeId) -> Result<Option<VolumeView>, LedgerError> {
        expect_seen!(self.ask(Question::Volume(id)).await?, Volume)
    }

    /// All grants of a volume and its revocations, rising by holder; none when it is unknown.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn grants(&self, volume: VolumeId) -> Result<Vec<Grant>, LedgerError> {
        expect_seen!(self.ask(Question::Grants(volume)).await?, Grants)
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
        expect_seen!(self.ask(Question::Grant { volume, holder }).await?, Grant)
    }

    /// A digest's notarisation; `None` when it is not recorded, or no longer.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn notarisation(&self, digest: Digest) -> Result<Option<Notarisation>, LedgerError> {
        expect_seen!(
            self.ask(Question::Notarisation(digest)).await?,
            Notarisation
        )
    }

    /// The term of validators that runs; `None` when a sequencer orders the ledger.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn term(&self) -> Result<Option<Term>, LedgerError> {
        let term = expect_seen!(self.ask(Question::Term).await?, Term)?;
        Ok(term.map(|term| *term))
    }
}
