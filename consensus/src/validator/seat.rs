//! A validator's part in agreeing on blocks: makes them, votes on them and takes them.
//!
//! Votes are on order, not on what comes of it: a transaction that the state refuses changes
//! nothing, so a block follows its parent whatever it does. What is checked before a vote is all
//! that can be checked without the state: form, time, seeds, signatures and the witnesses' digests.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_core::{Bounded, Digest, Height, Record, TxId, UnixMillis, ViewNumber};
use cairn_engine::{Application, BoxFuture, Committee, Final, Seed, Turn, Vote, seed_views};
use cairn_ledger::block::SEEDS_MAX;
use cairn_ledger::{TermStart, ViewSeed};
use cairn_runtime::Runtime;

use super::forward::Inbox;
use super::open_blocks::{OpenBlocks, Place};
use super::proposal::Proposal;
use crate::core::Core;
use crate::mempool::Batch;

/// How far a block's time may be ahead of our clock before we wait with the vote.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_millis(500);

/// What a block's turn must be like, besides its transactions.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) committee: Committee,
    /// Identity of the ledger, to which seeds are bound.
    pub(super) ledger: [u8; 32],
    /// The number of the term, to which seeds are bound too.
    pub(super) term: u32,
    /// The last block before the term, from which the engine counts heights and views.
    pub(super) base: TermStart,
    /// Least time between a block and its parent, the same for all validators.
    pub(super) block_interval: Duration,
    /// How long a leader waits for something to put into a block.
    pub(super) idle: Duration,
}

/// What a block needs to know of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    /// Of its bytes.
    digest: Digest,
    time: UnixMillis,
}

/// A validator's part.
pub(super) struct Seat<R: Runtime> {
    shared: Arc<Shared<R>>,
}

struct Shared<R: Runtime> {
    core: Arc<Core<R>>,
    /// What other validators send goes here.
    inbox: Arc<Inbox>,
    rules: Rules,
    open: Mutex<OpenBlocks>,
}

impl<R: Runtime> fmt::Debug for Seat<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("rules", &self.shared.rules)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime> Seat<R> {
    pub(super) fn new(core: Arc<Core<R>>, inbox: Arc<Inbox>, rules: Rules) -> Self {
        Self {
            shared: Arc::new(Shared {
                core,
                inbox,
                rules,
                open: Mutex::default(),
            }),
        }
    }

    fn core(&self) -> &Core<R> {
        &self.shared.core
    }

    /// Runs work that blocks.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared<R>) -> T + Send + 'static,
    ) -> T {
        let shared = Arc::clone(&self.shared);
        self.core().runtime.blocking(move || work(&shared)).await
    }

    /// Waits until the block interval is over and there is something to order, or for so long
    /// that the others should hear from us.
    async fn wait_for_work(&self, parent: Parent, taken: &BTreeSet<TxId>) {
        let core = self.core();
        let rules = &self.shared.rules;
        let left = core.until(self.shared.earliest_after(parent));
        let left = left.min(rules.block_interval);
        core.runtime.sleep(left).await;
        let work = async {
            while !core.has_work_beyond(taken) {
                core.wait_for_work().await;
            }
        };
        // Idle or not, it is time.
        core.runtime.timeout(rules.idle, work).await.ok();
    }

    async fn make(&self, turn: Turn) -> Option<Vec<u8>> {
        let (turn, parent, taken) = self
            .blocking(move |shared| {
                let parent = shared.parent(&turn)?;
                let taken = shared.open().above(parent.digest);
                Some((turn, parent, taken))
            })
            .await?;
        self.wait_for_work(parent, &taken).await;
        self.blocking(move |shared| shared.assemble(&turn, parent, &taken))
            .await
    }

    async fn judge(&self, turn: Turn, bytes: Vec<u8>) -> Vote {
        let checked = self
            .blocking(move |shared| {
                let parent = shared.parent(&turn)?;
                shared.check(&turn, parent, &bytes)
            })
            .await;
        let Some(time) = checked else {
            return Vote::No;
        };
        // Our clock or the leader's may be wrong: a vote against it would be for ever.
        let core = self.core();
        let ahead = core.until(time).saturating_sub(CLOCK_DIFFERENCE_MAX);
        core.runtime.sleep(ahead).await;
        Vote::Yes
    }

    async fn take(&self, block: Final) {
        let taken = self.blocking(move |shared| shared.take(&block)).await;
        if !taken {
            // Not durable here: nothing may follow it until we are started anew.
            self.core().stop();
            std::future::pending::<()>().await;
        }
        self.core().wake.notify_one();
    }
}

impl<R: Runtime> Application for Seat<R> {
    fn propose(&self, turn: Turn) -> BoxFuture<'_, Option<Vec<u8>>> {
        Box::pin(self.make(turn))
    }

    fn vote(&self, turn: Turn, block: Vec<u8>) -> BoxFuture<'_, Vote> {
        Box::pin(self.judge(turn, block))
    }

    fn finalize(&self, block: Final) -> BoxFuture<'_, ()> {
        Box::pin(self.take(block))
    }

    fn receive(&self, from: [u8; 32], message: Vec<u8>) {
        let now = self.core().runtime.monotonic();
        // Without room it is dropped.
        self.shared.inbox.offer(from, message, now);
    }
}

impl<R: Runtime> Shared<R> {
    fn open(&self) -> std::sync::MutexGuard<'_, OpenBlocks> {
        self.open.lock().expect("no holder panics")
    }

    /// The parent of a turn's block; `None` when it is none of this software, which can't be where
    /// more than two thirds of the validators are honest.
    fn parent(&self, turn: &Turn) -> Option<Parent> {
        let digest = Digest::of(&turn.parent);
        let time = match turn.height {
            1 => Some(self.rules.base.time),
            _ => self.open().time(digest),
        };
        let time = match time {
            Some(time) => time,
            None => {
                let proposal = Proposal::decode(&turn.parent).ok()?;
                let place = Place {
                    height: turn.height.saturating_sub(1),
                    digest,
                    // Of one that was not seen here before, neither were those below it.
                    parent: Digest::default(),
                };
                self.open().note(place, &proposal);
                proposal.time
            }
        };
        Some(Parent { digest, time })
    }

    /// The block of our turn.
    fn assemble(&self, turn: &Turn, parent: Parent, taken: &BTreeSet<TxId>) -> Option<Vec<u8>> {
        let mut batch = if self.is_over() {
            Batch::default()
        } else {
            self.core.select(taken)
        };
        if !self.is_alone() {
            // Alone, it decides by itself which nodes are lost.
            batch.lost.clear();
        }
        let seeds = turn.seeds.iter().map(|seed| self.rules.seed(seed));
        let proposal = Proposal {
            // The clock may go back; the ledger's time does not.
            time: self.core.now().max(self.earliest_after(parent)),
            view: self.rules.view(turn.view),
            seeds: Bounded::new(seeds.collect()).ok()?,
            ..Proposal::of(batch)?
        };
        let bytes = proposal.encode();
        self.note(turn, parent, &bytes, &proposal);
        Some(bytes)
    }

    fn note(&self, turn: &Turn, parent: Parent, bytes: &[u8], proposal: &Proposal) {
        let place = Place {
            height: turn.height,
            digest: Digest::of(bytes),
            parent: parent.digest,
        };
        self.open().note(place, proposal);
    }

    /// The earliest time of a block. Since nobody votes for one before its time, no leader makes more
    /// of them than one an interval.
    fn earliest_after(&self, parent: Parent) -> UnixMillis {
        parent.time.saturating_add(self.rules.block_interval)
    }

    /// Whether the border of the term has passed here. Blocks beyond it are made and voted on like
    /// others, since that is how the one at the border becomes final where it is not; nothing is done
    /// by them.
    fn is_over(&self) -> bool {
        self.core.term() != Some(self.rules.term)
    }

    fn is_alone(&self) -> bool {
        self.rules.committee.validators().len() == 1
    }

    /// Whether another's block follows; its time if it does.
    fn check(&self, turn: &Turn, parent: Parent, bytes: &[u8]) -> Option<UnixMillis> {
        let proposal = Proposal::decode(bytes).ok()?;
        let follows = proposal.view == self.rules.view(turn.view)
            && proposal.time >= self.earliest_after(parent)
            // Who is lost follows from lapses; only one alone may call others so.
            && proposal.lost.is_empty();
        let holds = follows
            && self.has_true_seeds(turn, &proposal.seeds)
            && proposal.txs.iter().all(|tx| self.core.is_signed(tx));
        if !holds {
            return None;
        }
        self.note(turn, parent, bytes, &proposal);
        Some(proposal.time)
    }

    /// Whether these are the seeds of just the views that a block of this turn carries.
    fn has_true_seeds(&self, turn: &Turn, seeds: &Bounded<ViewSeed, SEEDS_MAX>) -> bool {
        let rules = &self.rules;
        let expected = seed_views(turn.parent_view, turn.view).map(|view| rules.view(view));
        let views = seeds.iter().map(|seed| seed.view);
        let is_true = |seed: &ViewSeed| {
            let Ok(bytes) = <[u8; 48]>::try_from(&*seed.signature) else {
                return false;
            };
            let view = seed.view.get().saturating_sub(rules.base.view.get());
            let seed = Seed { view, bytes };
            turn.seeds.contains(&seed) || rules.committee.is_seed(&rules.ledger, rules.term, &seed)
        };
        views.eq(expected) && seeds.iter().all(is_true)
    }

    /// Makes the next final block durable and applies it: whether that went well.
    fn take(&self, block: &Final) -> bool {
        let height = self.rules.height(block.height).get();
        let ours = self.core.height().get();
        if height <= ours || self.is_over() {
            // Taken before a crash, or beyond the border: the next term begins at that.
            return true;
        }
        let is_next = ours.checked_add(1) == Some(height);
        let ledger_block = Proposal::decode(&block.block)
            .ok()
            .filter(|_| is_next)
            .and_then(|proposal| self.core.read(|state| proposal.block(state)));
        let Some(ledger_block) = ledger_block else {
            // The engine's files are ahead of our blocks, or it is none of this software.
            tracing::error!(height, ours, "a final block does not follow ours");
            return false;
        };
        let committed = self.core.commit(&ledger_block);
        self.open().forget_below(block.height);
        if let Err(error) = &committed {
            tracing::error!(%error, height, "a final block is not durable");
        }
        committed.is_ok()
    }
}

impl Rules {
    /// A view of the ledger, by the engine's.
    fn view(&self, view: u64) -> ViewNumber {
        ViewNumber::new(self.base.view.get().saturating_add(view))
    }

    /// A height of the ledger, by the engine's.
    fn height(&self, height: u64) -> Height {
        Height::new(self.base.height.get().saturating_add(height))
    }

    fn seed(&self, seed: &Seed) -> ViewSeed {
        ViewSeed {
            view: self.view(seed.view),
            signature: Bounded::new(seed.bytes.to_vec()).expect("48 bytes"),
        }
    }
}
