//! Transactions that wait to be ordered. Bounded in all and per account.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairn_core::{AccountId, Height, NodeId, Record, Signed, TxId};
use cairn_ledger::block::{BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, LOST_MAX, TXS_MAX};
use cairn_ledger::{LedgerError, Tx, TxOutcome};
use tokio::sync::oneshot;

/// Most transactions that wait: eight full blocks.
pub(crate) const COUNT_MAX: usize = 8 * TXS_MAX;
/// Most bytes that wait.
pub(crate) const BYTES_MAX: usize = 16 << 20;
/// Most transactions of one account that wait, so that one can't fill the pool.
pub(crate) const COUNT_PER_ACCOUNT_MAX: usize = 256;
/// Most callers that wait for one transaction or lost node.
pub(crate) const WAITERS_MAX: usize = 16;
/// Most nodes that wait to be called lost.
pub(crate) const LOST_WAITING_MAX: usize = 64 * LOST_MAX;

/// Where the outcome of a transaction goes.
pub(crate) type TxWaiter = oneshot::Sender<Result<TxOutcome, LedgerError>>;
/// Where the height of a lost node's block goes.
pub(crate) type LostWaiter = oneshot::Sender<Result<Height, LedgerError>>;

/// A transaction that waits.
#[derive(Debug)]
struct Entry {
    tx: Signed<Tx>,
    bytes: usize,
    ticket: Ticket,
}

/// What is ordered next.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) txs: Vec<Signed<Tx>>,
    /// Who waits for each of them, in the same order.
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) lost: BTreeMap<NodeId, Vec<LostWaiter>>,
}

/// Who waits for a transaction that was taken.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) id: TxId,
    account: AccountId,
    waiters: Vec<TxWaiter>,
}

/// A bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// The bound.
    pub(crate) max: usize,
}

/// Transactions that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Mempool {
    queue: VecDeque<Entry>,
    bytes: usize,
    /// Those that wait, and those in the block being made.
    ids: BTreeSet<TxId>,
    /// How many of each account, those in the block being made included.
    per_account: BTreeMap<AccountId, usize>,
    lost: BTreeMap<NodeId, Vec<LostWaiter>>,
    /// Callers who asked again for a transaction in the block being made.
    late_waiters: BTreeMap<TxId, Vec<TxWaiter>>,
}

impl Mempool {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.lost.is_empty()
    }

    /// How many transactions of an account are not final yet.
    pub(crate) fn waiting_of(&self, account: AccountId) -> usize {
        self.per_account.get(&account).copied().unwrap_or(0)
    }

    /// Whether a transaction is here and not final yet.
    pub(crate) fn contains(&self, id: TxId) -> bool {
        self.ids.contains(&id)
    }

    /// Adds a waiter to a transaction that is here.
    pub(crate) fn wait_for(&mut self, id: TxId, waiter: TxWaiter) -> Result<(), Full> {
        let queued = self.queue.iter_mut().find(|entry| entry.ticket.id == id);
        let waiters = match queued {
            Some(entry) => &mut entry.ticket.waiters,
            None => self.late_waiters.entry(id).or_default(),
        };
        if waiters.len() >= WAITERS_MAX {
            return Err(Full { max: WAITERS_MAX });
        }
        waiters.push(waiter);
        Ok(())
    }

    /// Adds a transaction that was checked.
    pub(crate) fn push(&mut self, id: TxId, tx: Signed<Tx>, waiter: TxWaiter) -> Result<(), Full> {
        let account = tx.unverified().account;
        let bytes = tx.encode().len();
        let bounds = [
            (self.ids.len(), COUNT_MAX),
            (self.waiting_of(account), COUNT_PER_ACCOUNT_MAX),
            (self.bytes.saturating_add(bytes), BYTES_MAX),
        ];
        if let Some((_, max)) = bounds.into_iter().find(|(count, max)| count >= max) {
            return Err(Full { max });
        }
        self.ids.insert(id);
        self.bytes = self.bytes.saturating_add(bytes);
        let count = self.per_account.entry(account).or_default();
        *count = count.saturating_add(1);
        self.queue.push_back(Entry {
            tx,
            bytes,
            ticket: Ticket {
                id,
                account,
                waiters: vec![waiter],
            },
        });
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

    /// Takes as much as fits one block, in order. What is taken counts as waiting until
    /// [`Self::settle`].
    pub(crate) fn take(&mut self) -> Batch {
        let mut batch = Batch::default();
        while batch.lost.len() < LOST_MAX {
            let Some((node, waiters)) = self.lost.pop_first() else {
                break;
            };
            batch.lost.insert(node, waiters);
        }
        let mut left = BLOCK_BYTES_MAX - BLOCK_HEADER_BYTES - 32 * LOST_MAX;
        while batch.txs.len() < TXS_MAX {
            let fits = |entry: &&Entry| entry.bytes <= left;
            if self.queue.front().filter(fits).is_none() {
                break;
            }
            let Some(entry) = self.queue.pop_front() else {
                break;
            };
            left = left.saturating_sub(entry.bytes);
            self.bytes = self.bytes.saturating_sub(entry.bytes);
            batch.txs.push(entry.tx);
            batch.tickets.push(entry.ticket);
        }
        batch
    }

    /// A transaction that was taken is final, or never will be.
    pub(crate) fn settle(&mut self, ticket: Ticket, result: &Result<TxOutcome, LedgerError>) {
        self.ids.remove(&ticket.id);
        if let Some(count) = self.per_account.get_mut(&ticket.account) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_account.remove(&ticket.account);
            }
        }
        let late = self.late_waiters.remove(&ticket.id).unwrap_or_default();
        for waiter in ticket.waiters.into_iter().chain(late) {
            // A caller that no longer waits does not want to know.
            drop(waiter.send(result.clone()));
        }
    }

    /// Ends everything that waits with `error`.
    pub(crate) fn fail_all(&mut self, error: &LedgerError) {
        let result = Err(error.clone());
        while let Some(entry) = self.queue.pop_front() {
            self.settle(entry.ticket, &result);
        }
        self.bytes = 0;
        while let Some((_, waiters)) = self.lost.pop_first() {
            tell_lost(waiters, &Err(error.clone()));
        }
    }
}

/// Tells those who wait for a lost node.
pub(crate) fn tell_lost(waiters: Vec<LostWaiter>, result: &Result<Height, LedgerError>) {
    for waiter in waiters {
        // A caller that no longer waits does not want to know.
        drop(waiter.send(result.clone()));
    }
}

#[cfg(test)]
mod tests;
