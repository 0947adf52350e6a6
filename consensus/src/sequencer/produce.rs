//! The task that makes blocks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_core::Bounded;
use cairn_ledger::Block;
use cairn_runtime::Runtime;

use crate::core::{Core, Phase, judge};
use crate::seed::SeedSource;

/// Whether there will be another block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Another,
    None,
}

/// Makes blocks until the sequencer stops or its disk fails.
pub(super) async fn run<R: Runtime>(core: Arc<Core<R>>, seeds: SeedSource, interval: Duration) {
    let mut last = None;
    while core.phase() == Phase::Running {
        if !core.has_work_beyond(&BTreeSet::new()) {
            core.wait_for_work().await;
            continue;
        }
        if let Some(last) = last {
            let passed = core.runtime.monotonic().saturating_sub(last);
            core.runtime.sleep(interval.saturating_sub(passed)).await;
        }
        last = Some(core.runtime.monotonic());
        let worker = Arc::clone(&core);
        let seeds = seeds.clone();
        let make = move || make_block(&worker, &seeds);
        if core.runtime.blocking(make).await == Next::None {
            break;
        }
    }
    let worker = Arc::clone(&core);
    core.runtime.blocking(move || worker.finish()).await;
}

/// Makes one block of what waits, makes it durable, applies it and tells who waits.
fn make_block<R: Runtime>(core: &Core<R>, seeds: &SeedSource) -> Next {
    let committed = assemble(core, seeds).map(|block| core.commit(&block));
    match committed {
        Some(Ok(())) => Next::Another,
        Some(Err(error)) => {
            tracing::error!(%error, "no more blocks");
            core.stop();
            Next::None
        }
        // The last height is reached.
        None => {
            core.stop();
            Next::None
        }
    }
}

/// The next block of what waits; `None` past the last height.
fn assemble<R: Runtime>(core: &Core<R>, seeds: &SeedSource) -> Option<Block> {
    let batch = core.select(&BTreeSet::new());
    let (height, parent, time, parent_view, verdicts) = core.read(|state| {
        (
            state.height().next(),
            state.tip(),
            state.time(),
            state.view(),
            judge(state, &batch.txs, &batch.witnesses),
        )
    });
    Some(Block {
        height: height?,
        parent,
        // The clock may go back; the ledger's time does not.
        time: core.now().max(time),
        // No attempt fails, so that each view has a block.
        view: parent_view.next()?,
        seeds: Bounded::new(vec![seeds.seed(parent_view)]).ok()?,
        lost: Bounded::new(batch.lost).ok()?,
        txs: Bounded::new(batch.txs).ok()?,
        verdicts: Bounded::new(verdicts).ok()?,
    })
}
