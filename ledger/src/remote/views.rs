//! What people look at, over a transport.

use cairn_core::{AccountId, Bounded, GroupId, Height, NodeId, Signed, TxId};

use super::{LedgerTransport, RemoteLedger};
use crate::node::NodeEntry;
use crate::port::LedgerError;
use crate::view::{
    BLOCKS_PAGE_MAX, BlockSummary, EarningsView, EpochView, GROUPS_PAGE_MAX, GroupProof,
    GroupSummary, NODES_PAGE_MAX, TxLookup, View, ViewRequest,
};
use crate::wire::{Answer, LedgerRequest};

/// Takes one kind of view out, or says that the other end broke the protocol.
macro_rules! expect_view {
    ($view:expr, $kind:ident) => {
        if let View::$kind(value) = $view {
            Ok(value)
        } else {
            Err(LedgerError::Answer)
        }
    };
}

mod registry;

/// Gives what was answered if it is of what was asked.
fn check<T>(view: T, is_right: impl FnOnce(&T) -> bool) -> Result<T, LedgerError> {
    if is_right(&view) {
        Ok(view)
    } else {
        Err(LedgerError::Answer)
    }
}

impl<T: LedgerTransport> RemoteLedger<T> {
    async fn view(&self, request: ViewRequest) -> Result<View, LedgerError> {
        match self.ask(LedgerRequest::View(request)).await? {
            Answer::View(view) => Ok(view),
            _ => Err(LedgerError::Answer),
        }
    }

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
        expect_view!(self.view(ViewRequest::Epoch).await?, Epoch)
    }

    /// A page of the nodes, rising above `after`. Fewer than [`NODES_PAGE_MAX`] are the last.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn nodes_page(
        &self,
        after: Option<NodeId>,
    ) -> Result<Bounded<NodeEntry, NODES_PAGE_MAX>, LedgerError> {
        let page = expect_view!(self.view(ViewRequest::Nodes { after }).await?, Nodes)?;
        check(page, |page| {
            page.first().is_none_or(|first| Some(first.node) > after)
        })
    }

    /// A page of an owner's or all groups, rising above `after`. Fewer than [`GROUPS_PAGE_MAX`]
    /// are the last.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn groups_page(
        &self,
        owner: Option<AccountId>,
        after: Option<GroupId>,
    ) -> Result<Bounded<GroupSummary, GROUPS_PAGE_MAX>, LedgerError> {
        let request = ViewRequest::Groups { owner, after };
        let page = expect_view!(self.view(request).await?, Groups)?;
        check(page, |page| {
            page.first().is_none_or(|first| Some(first.id) > after)
                && page
                    .iter()
                    .all(|group| owner.is_none_or(|owner| group.owner == owner))
        })
    }

    /// What a node earned and spent, in numbers that add up to its balance; `None` when it never
    /// registered.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; `Answer` when they do not add up.
    pub async fn earnings(&self, node: NodeId) -> Result<Option<EarningsView>, LedgerError> {
        let view = self.view(ViewRequest::Earnings(node)).await?;
        let view = expect_view!(view, Earnings)?.map(|view| *view);
        check(view, |view| {
            view.as_ref().is_none_or(|view| {
                view.node == node && view.earnings.closing() == Some(view.balance)
            })
        })
    }

    /// How a group is proven; `None` when it is unknown.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn group_proof(&self, group: GroupId) -> Result<Option<GroupProof>, LedgerError> {
        let view = self.view(ViewRequest::Proven(group)).await?;
        let proof = expect_view!(view, Proven)?.map(|proof| *proof);
        check(proof, |proof| {
            proof.as_ref().is_none_or(|proof| proof.group == group)
        })
    }

    /// The same, signed for this ledger by `signer`; `None` when the group is unknown.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; `Request` when whoever answers signs nothing, `Answer` when the signature
    /// is another's or does not hold.
    pub async fn group_receipt(
        &self,
        group: GroupId,
        signer: NodeId,
    ) -> Result<Option<Signed<GroupProof>>, LedgerError> {
        let view = self.view(ViewRequest::Receipt(group)).await?;
        let signed = expect_view!(view, Receipt)?.map(|signed| *signed);
        check(signed, |signed| {
            signed.as_ref().is_none_or(|signed| {
                let proof = signed.verify_for(signer.key(), self.id);
                proof.is_ok_and(|proof| proof.group == group)
            })
        })
    }

    /// Final blocks from a height on, as many as fit an answer; none when there is none yet.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Forgotten`] when blocks that old are no longer remembered; [`LedgerError`].
    pub async fn blocks(
        &self,
        from: Height,
    ) -> Result<Bounded<BlockSummary, BLOCKS_PAGE_MAX>, LedgerError> {
        let page = expect_view!(self.view(ViewRequest::Blocks { from }).await?, Blocks)?;
        check(page, |page| {
            page.first().is_none_or(|first| first.height == from)
        })
    }

    /// A transaction of a block that is remembered.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn tx(&self, id: TxId) -> Result<TxLookup, LedgerError> {
        let lookup = expect_view!(self.view(ViewRequest::Tx(id)).await?, Tx)?;
        check(lookup, |lookup| {
            let found = lookup.found.as_ref();
            found.is_none_or(|(_, _, summary)| summary.id == id)
        })
    }
}
