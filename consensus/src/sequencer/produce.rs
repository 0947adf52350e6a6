//! The task that makes blocks.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_core::{Bounded, Record};
use cairn_ledger::{Block, Effect, LedgerError, State, TxBody, TxOutcome, Verdict};
use cairn_runtime::{DiskError, Runtime};

use super::core::{Core, Phase};
use crate::mempool::{Batch, tell_lost};

/// Whether there will be another block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Another,
    None,
}

/// Makes blocks until the sequencer stops or its disk fails.
pub(super) async fn run<R: Runtime>(core: Arc<Core<R>>) {
    let mut last = None;
    while core.phase() == Phase::Running {
        if !core.has_work() {
            core.wait_for_work().await;
            continue;
        }
        if let Some(last) = last {
            let passed = core.runtime.monotonic().saturating_sub(last);
            let left = core.config().block_interval.saturating_sub(passed);
            core.runtime.sleep(left).await;
        }
        last = Some(core.runtime.monotonic());
        let worker = Arc::clone(&core);
        let next = core.runtime.blocking(move || make_block(&worker)).await;
        if next == Next::None {
            break;
        }
    }
    let worker = Arc::clone(&core);
    core.runtime.blocking(move || worker.finish()).await;
}

/// Makes one block of what waits, makes it durable, applies it and tells who waits.
fn make_block<R: Runtime>(core: &Core<R>) -> Next {
    let mut batch = core.mempool().take();
    let Some(block) = assemble(core, &mut batch) else {
        give_up(core, batch);
        return Next::None;
    };
    let appended = {
        let mut store = core.store.lock().expect("no holder panics");
        store.as_mut().map(|store| store.append(&block))
    };
    match appended {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            tracing::error!(%error, height = %block.height, "no more blocks: the disk failed");
            give_up(core, batch);
            return Next::None;
        }
        None => {
            give_up(core, batch);
            return Next::None;
        }
    }
    finalize(core, &block, batch);
    if let Err(error) = write_state_if_due(core) {
        tracing::error!(%error, "no more blocks: the disk failed");
        core.stop();
        return Next::None;
    }
    Next::Another
}

/// The next block of the batch; `None` past the last height.
fn assemble<R: Runtime>(core: &Core<R>, batch: &mut Batch) -> Option<Block> {
    let now = core.now();
    let (height, parent, time, verdicts) = core.read(|state| {
        let verdicts = judge(state, batch);
        (state.height().next(), state.tip(), state.time(), verdicts)
    });
    let height = height?;
    Some(Block {
        height,
        parent,
        // The clock may go back; the ledger's time does not.
        time: now.max(time),
        seed: core.seeds.seed(height),
        lost: Bounded::new(batch.lost.keys().copied().collect()).ok()?,
        txs: Bounded::new(std::mem::take(&mut batch.txs)).ok()?,
        verdicts: Bounded::new(verdicts).ok()?,
    })
}

/// What the proofs of a batch say, the first of each node. One that has no place in the block is refused there.
fn judge(state: &State, batch: &Batch) -> Vec<Verdict> {
    let proofs = batch.txs.iter().zip(&batch.witnesses);
    let proofs = proofs.filter_map(|(tx, witness)| {
        let tx = tx.unverified();
        matches!(tx.body, TxBody::ProofSubmit { .. }).then_some((tx, witness))
    });
    let mut judged_of = BTreeSet::new();
    proofs
        .map(|(tx, witness)| {
            if !judged_of.insert(tx.account) {
                return Verdict::Missing;
            }
            let judged = witness.as_ref().map(|bytes| state.judge(tx, bytes));
            judged.and_then(Result::ok).unwrap_or(Verdict::Missing)
        })
        .collect()
}

/// Applies a durable block and tells who waits.
fn finalize<R: Runtime>(core: &Core<R>, block: &Block, batch: Batch) {
    let height = block.height;
    let mut mempool = core.mempool();
    let mut view = core.view.write().expect("no holder panics");
    let effects = view
        .state
        .apply_checked(block)
        .expect("a block made from the state follows it");
    let results = effects.iter().filter_map(|effect| match effect {
        Effect::TxDone { result, .. } => Some(result.clone()),
        _ => None,
    });
    for (ticket, result) in batch.tickets.into_iter().zip(results) {
        let id = ticket.id;
        let outcome = result
            .map(|()| TxOutcome { id, height })
            .map_err(LedgerError::Refused);
        mempool.settle(ticket, &outcome);
    }
    view.history.push(block, effects);
    for waiters in batch.lost.into_values() {
        tell_lost(waiters, &Ok(height));
    }
    core.progress
        .send_modify(|progress| progress.height = height);
}

fn give_up<R: Runtime>(core: &Core<R>, batch: Batch) {
    core.stop();
    let mut mempool = core.mempool();
    for ticket in batch.tickets {
        mempool.settle(ticket, &Err(LedgerError::Stopped));
    }
    for waiters in batch.lost.into_values() {
        tell_lost(waiters, &Err(LedgerError::Stopped));
    }
}

fn write_state_if_due<R: Runtime>(core: &Core<R>) -> Result<(), DiskError> {
    let mut store = core.store.lock().expect("no holder panics");
    let Some(store) = store.as_mut() else {
        return Ok(());
    };
    let interval = core.config().state_interval_blocks;
    let height = core.read(State::height);
    if !store.is_state_due(height, interval) {
        return Ok(());
    }
    let encoded = core.read(Record::encode);
    store.write_state(height, &encoded)
}
