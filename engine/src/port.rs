//! What the engine asks of whoever uses it, in plain types.

use std::fmt;
use std::pin::Pin;

/// A future of the [`Application`].
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes blocks, votes on them and takes them. Called from many tasks at a time.
///
/// Any of its futures may be dropped before its end, when the engine no longer needs the answer.
pub trait Application: fmt::Debug + Send + Sync + 'static {
    /// Makes the block of a turn that is this validator's; `None` to skip it. May take its time, but
    /// less than [`crate::Config::turn_limit`]: then the others give the turn up.
    fn propose(&self, turn: Turn) -> BoxFuture<'_, Option<Vec<u8>>>;

    /// Votes on another validator's block. Where one honest validator says [`Vote::No`], all must;
    /// what may change with time is waited for.
    fn vote(&self, turn: Turn, block: Vec<u8>) -> BoxFuture<'_, Vote>;

    /// Takes the next final block, and returns when it is durable here. After a crash, blocks come
    /// again from some height at or below the first that was not taken.
    fn finalize(&self, block: Final) -> BoxFuture<'_, ()>;

    /// Takes a message that another validator sent with [`crate::Engine::forward`], of at most
    /// [`crate::Config::forwarded_bytes_max`] bytes, from anyone of them and however malformed.
    /// Called on the engine's own threads: it does not wait, nor does it check what it takes.
    fn receive(&self, from: [u8; 32], message: Vec<u8>);
}

/// A turn of one validator to make a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The view: the engine's attempts to make a block, counted from 1. Rises with every block and
    /// every attempt that failed.
    pub view: u64,
    /// Identity of the validator whose turn it is.
    pub leader: [u8; 32],
    /// The block's height: one more than the parent's.
    pub height: u64,
    /// The view in which the parent was made; 0 for the genesis.
    pub parent_view: u64,
    /// The parent's bytes; those given as genesis for the first block.
    pub parent: Vec<u8>,
    /// Seeds of the views that [`crate::seed_views`] names, rising: all of them when this is to
    /// be proposed, those that are known here when it is voted on.
    pub seeds: Vec<Seed>,
}

/// A view's seed: a threshold signature of the validators over its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The view.
    pub view: u64,
    /// The signature.
    pub bytes: [u8; 48],
}

/// What an application says of another validator's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It follows its parent.
    Yes,
    /// It never can follow it.
    No,
    /// It can't be told any more: the ledger has gone on.
    Abstain,
}

/// A final block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final {
    /// Its height, from 1.
    pub height: u64,
    /// Its bytes, as they were proposed.
    pub block: Vec<u8>,
}
