//! Transactions that wait to be ordered. Bounded in all, per account and per peer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairn_core::{AccountId, Digest, Height, NodeId, Record, Signed, TxId};
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
/// Most bytes of proofs that wait: those of 400 nodes with 32 samples each.
pub(crate) const WITNESS_BYTES_WAITING_MAX: usize = 32 << 20;
/// Most bytes of one peer's proofs that are not final yet: a few of the largest.
pub(crate) const WITNESS_BYTES_PER_PEER_MAX: usize = 2 << 20;
/// Most bytes of the proofs of one block: about 60 proofs of 32 samples, 20 milliseconds of checks.
pub(crate) const WITNESS_BYTES_PER_BLOCK_MAX: usize = 4 << 20;
/// Most callers that wait for one transaction or lost node.
pub(crate) const WAITERS_MAX: usize = 16;
/// Most nodes that wait to be called lost.
pub(crate) const LOST_WAITING_MAX: usize = 64 * LOST_MAX;

/// Where the outcome of a transaction goes.
pub(crate) type TxWaiter = oneshot::Sender<Result<TxOutcome, LedgerError>>;
/// Where the height of a lost node's block goes.
pub(crate) type LostWaiter = oneshot::Sender<Result<Height, LedgerError>>;

/// Where a transaction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This process.
    Process,
    /// A peer.
    Peer(NodeId),
}

/// A transaction and the proof that it needs, if it does.
#[derive(Debug)]
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
        let named = match self.tx.unverified().body {
            TxBody::ProofSubmit { witness, .. } => Some(witness),
            _ => None,
        };
        match (named, &self.witness) {
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
}

/// A transaction that waits.
#[derive(Debug)]
struct Entry {
    tx: Signed<Tx>,
    /// The proof that comes with it, if it needs one.
    witness: Option<Witness>,
    ticket: Ticket,
}

/// What of an account is not final yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Waiting {
    /// How many transactions.
    pub(crate) count: usize,
    /// What they take from the balance together.
    pub(crate) cost: u128,
}

/// Bytes of a peer that are not final yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Bytes {
    txs: usize,
    witnesses: usize,
}

/// What is ordered next.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) txs: Vec<Signed<Tx>>,
    /// The proofs that come with them, in the same order.
    pub(crate) witnesses: Vec<Option<Witness>>,
    /// Who waits for each of them, in the same order.
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) lost: BTreeMap<NodeId, Vec<LostWaiter>>,
}

/// Who waits for a transaction that was taken.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) id: TxId,
    account: AccountId,
    source: Source,
    bytes: usize,
    witness_bytes: usize,
    cost: u128,
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
    /// Of each account, those in the block being made included.
    per_account: BTreeMap<AccountId, Waiting>,
    /// Bytes from each peer, those in the block being made included.
    per_peer: BTreeMap<NodeId, Bytes>,
    /// Bytes of all proofs, those in the block being made included.
    witness_bytes: usize,
    lost: BTreeMap<NodeId, Vec<LostWaiter>>,
    /// Callers who asked again for a transaction in the block being made.
    late_waiters: BTreeMap<TxId, Vec<TxWaiter>>,
}

impl Mempool {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.lost.is_empty()
    }

    /// What of an account is not final yet.
    pub(crate) fn waiting_of(&self, account: AccountId) -> Waiting {
        self.per_account.get(&account).copied().unwrap_or_default()
    }

    fn bytes_of(&self, source: Source) -> Bytes {
        match source {
            Source::Process => Bytes::default(),
            Source::Peer(peer) => self.per_peer.get(&peer).copied().unwrap_or_default(),
        }
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

    /// Whether there is room for a transaction of this account and size, and its proof's.
    pub(crate) fn check_room(
        &self,
        account: AccountId,
        source: Source,
        (bytes, witness_bytes): (usize, usize),
    ) -> Result<(), Full> {
        let of_peer = self.bytes_of(source);
        let bounds = [
            (self.ids.len(), COUNT_MAX),
            (self.waiting_of(account).count, COUNT_PER_ACCOUNT_MAX),
            (self.bytes.saturating_add(bytes), BYTES_MAX),
            (of_peer.txs.saturating_add(bytes), BYTES_PER_PEER_MAX),
            (
                witness_bytes.saturating_add(self.witness_bytes),
                WITNESS_BYTES_WAITING_MAX,
            ),
            (
                witness_bytes.saturating_add(of_peer.witnesses),
                WITNESS_BYTES_PER_PEER_MAX,
            ),
        ];
        match bounds.into_iter().find(|(found, max)| found >= max) {
            Some((_, max)) => Err(Full { max }),
            None => Ok(()),
        }
    }

    /// Adds a transaction that was checked.
    pub(crate) fn push(
        &mut self,
        id: TxId,
        submitted: Submitted,
        source: Source,
        waiter: TxWaiter,
    ) -> Result<(), Full> {
        let (bytes, witness_bytes) = submitted.sizes();
        let Submitted { tx, witness } = submitted;
        let account = tx.unverified().account;
        let cost = tx.unverified().cost();
        self.check_room(account, source, (bytes, witness_bytes))?;
        self.ids.insert(id);
        self.bytes = self.bytes.saturating_add(bytes);
        self.witness_bytes = self.witness_bytes.saturating_add(witness_bytes);
        let waiting = self.per_account.entry(account).or_default();
        waiting.count = waiting.count.saturating_add(1);
        waiting.cost = waiting.cost.saturating_add(cost);
        if let Source::Peer(peer) = source {
            let used = self.per_peer.entry(peer).or_default();
            used.txs = used.txs.saturating_add(bytes);
            used.witnesses = used.witnesses.saturating_add(witness_bytes);
        }
        self.queue.push_back(Entry {
            tx,
            witness,
            ticket: Ticket {
                id,
                account,
                source,
                bytes,
                witness_bytes,
                cost,
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
        let mut witness_left = WITNESS_BYTES_PER_BLOCK_MAX;
        while batch.txs.len() < TXS_MAX {
            let fits = |entry: &&Entry| {
                entry.ticket.bytes <= left && entry.ticket.witness_bytes <= witness_left
            };
            if self.queue.front().filter(fits).is_none() {
                break;
            }
            let Some(entry) = self.queue.pop_front() else {
                break;
            };
            left = left.saturating_sub(entry.ticket.bytes);
            witness_left = witness_left.saturating_sub(entry.ticket.witness_bytes);
            self.bytes = self.bytes.saturating_sub(entry.ticket.bytes);
            batch.txs.push(entry.tx);
            batch.witnesses.push(entry.witness);
            batch.tickets.push(entry.ticket);
        }
        batch
    }

    /// A transaction that was taken is final, or never will be.
    pub(crate) fn settle(&mut self, ticket: Ticket, result: &Result<TxOutcome, LedgerError>) {
        self.ids.remove(&ticket.id);
        self.give_room(&ticket);
        let late = self.late_waiters.remove(&ticket.id).unwrap_or_default();
        for waiter in ticket.waiters.into_iter().chain(late) {
            // A caller that no longer waits does not want to know.
            drop(waiter.send(result.clone()));
        }
    }

    fn give_room(&mut self, ticket: &Ticket) {
        self.witness_bytes = self.witness_bytes.saturating_sub(ticket.witness_bytes);
        if let Some(waiting) = self.per_account.get_mut(&ticket.account) {
            waiting.count = waiting.count.saturating_sub(1);
            waiting.cost = waiting.cost.saturating_sub(ticket.cost);
            if waiting.count == 0 {
                self.per_account.remove(&ticket.account);
            }
        }
        if let Source::Peer(peer) = ticket.source
            && let Some(used) = self.per_peer.get_mut(&peer)
        {
            used.txs = used.txs.saturating_sub(ticket.bytes);
            used.witnesses = used.witnesses.saturating_sub(ticket.witness_bytes);
            if *used == Bytes::default() {
                self.per_peer.remove(&peer);
            }
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
