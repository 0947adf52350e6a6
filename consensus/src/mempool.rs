//! Transactions that wait to be ordered. Bounded in all, per account and per peer.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use cairn_core::{AccountId, Digest, EpochNumber, Height, NodeId, Record, Signed, TxId};
use cairn_ledger::block::{BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, LOST_MAX, TXS_MAX};
use cairn_ledger::{LedgerError, Tx, TxBody, TxError, TxOutcome, Witness};
use tokio::sync::oneshot;

/// Most transactions that wait: eight full blocks.
pub(crate) const COUNT_MAX: usize = 8 * TXS_MAX;
/// Most bytes that wait.
pub(crate) const BYTES_MAX: usize = 16 << 20;
/// Most transactions of one account that wait, so that one can't fill the pool.
pub(crate) const COUNT_PER_ACCOUNT_MAX: usize = 256;
/// Most bytes of one peer's transactions that are not final yet: three of the largest, at most four
/// blocks' worth, so that a peer delays the others by no more.
pub(crate) const BYTES_PER_PEER_MAX: usize = 512 << 10;
/// Proofs of one account and epoch that wait: the first is judged, so another is not worth its bytes.
pub(crate) const PROOFS_PER_ACCOUNT_AND_EPOCH_MAX: usize = 1;
/// Most bytes of proofs that wait: those of 400 nodes with 32 samples each.
pub(crate) const WITNESS_BYTES_WAITING_MAX: usize = 32 << 20;
/// Most bytes of one peer's proofs that are not final yet: a few of the largest.
pub(crate) const WITNESS_BYTES_PER_PEER_MAX: usize = 2 << 20;
/// Most bytes of the proofs of one block: about 30 proofs of 32 samples, 10 milliseconds of checks,
/// and so few that they are with all validators within a turn.
pub(crate) const WITNESS_BYTES_PER_BLOCK_MAX: usize = 2 << 20;
/// Most bytes of the transactions of one block, so that whatever else is in it fits.
pub(crate) const TXS_BYTES_PER_BLOCK_MAX: usize =
    BLOCK_BYTES_MAX - BLOCK_HEADER_BYTES - 32 * LOST_MAX;
/// Most callers that wait for one transaction or lost node.
pub(crate) const WAITERS_MAX: usize = 16;
/// Most nodes that wait to be called lost.
pub(crate) const LOST_WAITING_MAX: usize = 64 * LOST_MAX;

/// Where the outcome of a transaction goes.
pub(crate) type TxWaiter = oneshot::Sender<Result<TxOutcome, LedgerError>>;
/// Where the height of a lost node's block goes.
pub(crate) type LostWaiter = oneshot::Sender<Result<Height, LedgerError>>;

/// Where a transaction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// This process.
    Process,
    /// A peer.
    Peer(NodeId),
    /// Another validator, which passes on what came to it.
    Validator {
        /// Which.
        validator: NodeId,
        /// How many validators there are: it gets one part of so many.
        count: NonZeroUsize,
    },
}

impl Source {
    /// Most that waits of it.
    const fn share(self) -> Load {
        match self {
            Self::Process => Load::ALL,
            Self::Peer(_) => Load {
                txs: BYTES_PER_PEER_MAX,
                witnesses: WITNESS_BYTES_PER_PEER_MAX,
                ..Load::ALL
            },
            Self::Validator { count, .. } => Load {
                count: Load::ALL.count / count.get(),
                txs: Load::ALL.txs / count.get(),
                witnesses: Load::ALL.witnesses / count.get(),
            },
        }
    }
}

/// A transaction and the proof that it needs, if it does.
#[derive(Clone, Debug)]
pub(crate) struct Submitted {
    pub(crate) tx: Signed<Tx>,
    pub(crate) witness: Option<Witness>,
}

impl Submitted {
    /// Bytes of the transaction and of the proof.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let witness_bytes = self.witness.as_ref().map_or(0, |witness| witness.len());
        (self.tx.encode().len(), witness_bytes)
    }

    /// Whether the proof is the one that the transaction names.
    pub(crate) fn check_witness(&self) -> Result<(), TxError> {
        check_witness(self.tx.unverified(), self.witness.as_ref())
    }
}

/// Whether a transaction comes with the witness that it names, if it names one.
pub(crate) fn check_witness(tx: &Tx, witness: Option<&Witness>) -> Result<(), TxError> {
    let named = match tx.body {
        TxBody::ProofSubmit { witness, .. } => Some(witness),
        _ => None,
    };
    match (named, witness) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(TxError::Malformed),
        (Some(witness), None) => Err(TxError::Unwitnessed { witness }),
        (Some(expected), Some(bytes)) => {
            let found = Digest::of(bytes);
            if found == expected {
                Ok(())
            } else {
                Err(TxError::Witness { expected, found })
            }
        }
    }
}

/// A transaction that waits.
#[derive(Debug)]
struct Entry {
    submitted: Submitted,
    id: TxId,
    source: Source,
    load: Load,
    cost: u128,
    waiters: Vec<TxWaiter>,
}

impl Entry {
    fn account(&self) -> AccountId {
        self.submitted.tx.unverified().account
    }
}

/// What of an account is not final yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Waiting {
    /// How many transactions.
    pub(crate) count: usize,
    /// What they take from the balance together.
    pub(crate) cost: u128,
}

/// Of what is not final yet: how many transactions, their bytes and those of their witnesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Load {
    count: usize,
    txs: usize,
    witnesses: usize,
}

impl Load {
    /// Most of everyone's.
    const ALL: Self = Self {
        count: COUNT_MAX,
        txs: BYTES_MAX,
        witnesses: WITNESS_BYTES_WAITING_MAX,
    };

    /// Whether there is room for one more within `share`.
    fn check(self, more: Self, share: Self) -> Result<(), Full> {
        let bounds = [
            (self.count, share.count),
            (self.txs.saturating_add(more.txs), share.txs),
            (
                self.witnesses.saturating_add(more.witnesses),
                share.witnesses,
            ),
        ];
        match bounds.into_iter().find(|(found, max)| found >= max) {
            Some((_, max)) => Err(Full { max }),
            None => Ok(()),
        }
    }

    fn add(&mut self, more: Self) {
        self.count = self.count.saturating_add(more.count);
        self.txs = self.txs.saturating_add(more.txs);
        self.witnesses = self.witnesses.saturating_add(more.witnesses);
    }

    fn take(&mut self, less: Self) {
        self.count = self.count.saturating_sub(less.count);
        self.txs = self.txs.saturating_sub(less.txs);
        self.witnesses = self.witnesses.saturating_sub(less.witnesses);
    }
}

/// What is ordered next.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) txs: Vec<Signed<Tx>>,
    /// The proofs that come with those of them that need one, in the same order.
    pub(crate) witnesses: Vec<Witness>,
    pub(crate) lost: Vec<NodeId>,
}

/// A bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// The bound.
    pub(crate) max: usize,
}

/// Transactions that are not final yet, in the order in which they came. They stay until they are:
/// a block that they were put into may come to nothing.
#[derive(Debug, Default)]
pub(crate) struct Mempool {
    queue: BTreeMap<u64, Entry>,
    next: u64,
    load: Load,
    /// Their places in the queue.
    places: BTreeMap<TxId, u64>,
    per_account: BTreeMap<AccountId, Waiting>,
    per_source: BTreeMap<Source, Load>,
    /// Who waits to prove which epoch.
    proving: BTreeSet<(AccountId, EpochNumber)>,
    lost: BTreeMap<NodeId, Vec<LostWaiter>>,
}

impl Mempool {
    /// Whether something waits that is not one of `taken`.
    pub(crate) fn has_beyond(&self, taken: &BTreeSet<TxId>) -> bool {
        !self.lost.is_empty() || self.places.keys().any(|id| !taken.contains(id))
    }

    /// What of an account is not final yet.
    pub(crate) fn waiting_of(&self, account: AccountId) -> Waiting {
        self.per_account.get(&account).copied().unwrap_or_default()
    }

    fn load_of(&self, source: Source) -> Load {
        self.per_source.get(&source).copied().unwrap_or_default()
    }

    /// A transaction that is here.
    pub(crate) fn get(&self, id: TxId) -> Option<&Tx> {
        let place = self.places.get(&id)?;
        Some(self.queue.get(place)?.submitted.tx.unverified())
    }

    /// Whether a transaction is here and not final yet.
    pub(crate) fn contains(&self, id: TxId) -> bool {
        self.places.contains_key(&id)
    }

    /// Adds a waiter to a transaction that is here.
    ///
    /// # Panics
    ///
    /// When it is not.
    pub(crate) fn wait_for(&mut self, id: TxId, waiter: TxWaiter) -> Result<(), Full> {
        let entry = self
            .places
            .get(&id)
            .and_then(|place| self.queue.get_mut(place))
            .expect("the caller has looked");
        if entry.waiters.len() >= WAITERS_MAX {
            return Err(Full { max: WAITERS_MAX });
        }
        entry.waiters.push(waiter);
        Ok(())
    }

    /// Whether there is room for a transaction of this account and size, and its proof's.
    pub(crate) fn check_room(
        &self,
        account: AccountId,
        source: Source,
        (txs, witnesses): (usize, usize),
    ) -> Result<(), Full> {
        if self.waiting_of(account).count >= COUNT_PER_ACCOUNT_MAX {
            return Err(Full {
                max: COUNT_PER_ACCOUNT_MAX,
            });
        }
        let more = Load {
            count: 1,
            txs,
            witnesses,
        };
        self.load.check(more, Load::ALL)?;
        self.load_of(source).check(more, source.share())
    }

    /// Whether a transaction may wait beside the others of its account: of an epoch's proofs one is
    /// judged, and the others would take room from those of other accounts.
    pub(crate) fn check_alone(&self, tx: &Tx) -> Result<(), Full> {
        let max = PROOFS_PER_ACCOUNT_AND_EPOCH_MAX;
        match proves(tx) {
            Some(proving) if self.proving.contains(&proving) => Err(Full { max }),
            Some(_) | None => Ok(()),
        }
    }

    /// Adds a transaction that was checked.
    pub(crate) fn push(
        &mut self,
        id: TxId,
        submitted: Submitted,
        source: Source,
        waiter: Option<TxWaiter>,
    ) -> Result<(), Full> {
        let (txs, witnesses) = submitted.sizes();
        let tx = submitted.tx.unverified();
        let (account, cost) = (tx.account, tx.cost());
        self.check_room(account, source, (txs, witnesses))?;
        self.check_alone(tx)?;
        self.proving.extend(proves(tx));
        let load = Load {
            count: 1,
            txs,
            witnesses,
        };
        self.load.add(load);
        let waiting = self.per_account.entry(account).or_default();
        waiting.count = waiting.count.saturating_add(1);
        waiting.cost = waiting.cost.saturating_add(cost);
        self.per_source.entry(source).or_default().add(load);
        self.places.insert(id, self.next);
        let entry = Entry {
            submitted,
            id,
            source,
            load,
            cost,
            waiters: waiter.into_iter().collect(),
        };
        self.queue.insert(self.next, entry);
        self.next = self.next.saturating_add(1);
        Ok(())
    }

    /// Adds a node to be called lost.
    pub(crate) fn push_lost(&mut self, node: NodeId, waiter: LostWaiter) -> Result<(), Full> {
        let is_new = !self.lost.contains_key(&node);
        if is_new && self.lost.len() >= LOST_WAITING_MAX {
            return Err(Full {
                max: LOST_WAITING_MAX,
            });
        }
        let waiters = self.lost.entry(node).or_default();
        if waiters.len() >= WAITERS_MAX {
            return Err(Full { max: WAITERS_MAX });
        }
        waiters.push(waiter);
        Ok(())
    }

    /// As much as fits one block, in order, without what is `taken` already. It goes on waiting.
    pub(crate) fn select(&self, taken: &BTreeSet<TxId>) -> Batch {
        let mut batch = Batch {
            lost: self.lost.keys().take(LOST_MAX).copied().collect(),
            ..Batch::default()
        };
        let mut left = Load {
            count: TXS_MAX,
            txs: TXS_BYTES_PER_BLOCK_MAX,
            witnesses: WITNESS_BYTES_PER_BLOCK_MAX,
        };
        let open = |entry: &&Entry| !taken.contains(&entry.id);
        for entry in self.queue.values().filter(open).take(TXS_MAX) {
            if entry.load.txs > left.txs || entry.load.witnesses > left.witnesses {
                break;
            }
            left.take(entry.load);
            batch.txs.push(entry.submitted.tx.clone());
            batch.witnesses.extend(entry.submitted.witness.clone());
        }
        batch
    }

    /// A transaction is final, or never will be; nothing happens when it is not here.
    pub(crate) fn settle(&mut self, id: TxId, result: &Result<TxOutcome, LedgerError>) {
        let Some(entry) = self
            .places
            .remove(&id)
            .and_then(|place| self.queue.remove(&place))
        else {
            return;
        };
        self.give_room(&entry);
        for waiter in entry.waiters {
            // A caller that no longer waits does not want to know.
            drop(waiter.send(result.clone()));
        }
    }

    fn give_room(&mut self, entry: &Entry) {
        self.load.take(entry.load);
        if let Some(proving) = proves(entry.submitted.tx.unverified()) {
            self.proving.remove(&proving);
        }
        if let Some(waiting) = self.per_account.get_mut(&entry.account()) {
            waiting.count = waiting.count.saturating_sub(1);
            waiting.cost = waiting.cost.saturating_sub(entry.cost);
            if waiting.count == 0 {
                self.per_account.remove(&entry.account());
            }
        }
        if let Some(used) = self.per_source.get_mut(&entry.source) {
            used.take(entry.load);
            if used.count == 0 {
                self.per_source.remove(&entry.source);
            }
        }
    }

    /// Of transactions that came too early, those that can still be done: whatever their accounts have
    /// to do before them waits here too. `early` has each with the account's next nonce.
    pub(crate) fn still_to_come(&self, early: &[(TxId, u64)]) -> BTreeSet<TxId> {
        let is_whole = |(id, next): &&(TxId, u64)| {
            self.get(*id).is_some_and(|tx| {
                let before = self.queue.values().filter(|entry| {
                    let other = entry.submitted.tx.unverified();
                    other.account == tx.account && (*next..tx.nonce).contains(&other.nonce)
                });
                let nonces: BTreeSet<u64> = before
                    .map(|entry| entry.submitted.tx.unverified().nonce)
                    .collect();
                u64::try_from(nonces.len()) == Ok(tx.nonce.saturating_sub(*next))
            })
        };
        let whole = early.iter().filter(is_whole);
        whole.map(|(id, _)| *id).collect()
    }

    /// Those whose nonce an account has used for another transaction, which a validator did that
    /// had not heard of them: they can't be done any more.
    pub(crate) fn overtaken(&self, next_nonce: impl Fn(AccountId) -> u64) -> Vec<(TxId, Tx)> {
        self.queue
            .values()
            .map(|entry| (entry.id, entry.submitted.tx.unverified()))
            .filter(|(_, tx)| tx.nonce < next_nonce(tx.account))
            .map(|(id, tx)| (id, tx.clone()))
            .collect()
    }

    /// The first `count_max` that came here, not by another validator, before a mark; and the mark that
    /// parts those that are here now from those to come.
    pub(crate) fn own_before(&self, mark: u64, count_max: usize) -> (Vec<Submitted>, u64) {
        let is_own = |entry: &&Entry| !matches!(entry.source, Source::Validator { .. });
        let before = self.queue.range(..mark).map(|(_, entry)| entry);
        let own = before.filter(is_own).take(count_max);
        (
            own.map(|entry| entry.submitted.clone()).collect(),
            self.next,
        )
    }

    /// A node is called lost, in the block of this height.
    pub(crate) fn settle_lost(&mut self, node: NodeId, height: Height) {
        let waiters = self.lost.remove(&node).unwrap_or_default();
        tell_lost(waiters, &Ok(height));
    }

    /// Ends everything that waits with `error`.
    pub(crate) fn fail_all(&mut self, error: &LedgerError) {
        let result = Err(error.clone());
        let waiting: Vec<TxId> = self.places.keys().copied().collect();
        for id in waiting {
            self.settle(id, &result);
        }
        while let Some((_, waiters)) = self.lost.pop_first() {
            tell_lost(waiters, &Err(error.clone()));
        }
    }
}

/// Whose proof of which epoch a transaction is.
const fn proves(tx: &Tx) -> Option<(AccountId, EpochNumber)> {
    match tx.body {
        TxBody::ProofSubmit { epoch, .. } => Some((tx.account, epoch)),
        _ => None,
    }
}

/// Tells those who wait for a lost node.
fn tell_lost(waiters: Vec<LostWaiter>, result: &Result<Height, LedgerError>) {
    for waiter in waiters {
        // A caller that no longer waits does not want to know.
        drop(waiter.send(result.clone()));
    }
}

#[cfg(test)]
mod tests;
