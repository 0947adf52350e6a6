//! Uploads and reads in a small world.

mod crashes;
mod faults;
mod funds;
mod ranges;
mod reads;
mod resumes;
mod segments;
mod uploads;

use std::path::Path;

use cairn_runtime::RealRuntime;
use tokio::runtime::Builder;

use crate::index::EntryPath;
use crate::testing::World;
use crate::upload::{EntryMeta, EntryMetaKind};

/// Runs a test on the real runtime with a folder that goes away.
fn run<F: AsyncFnOnce(World<RealRuntime>, &Path)>(nodes: u8, test: F) {
    run_in(|runtime| World::new(runtime, nodes), test);
}

/// The same, in a world of its own.
fn run_in<F: AsyncFnOnce(World<RealRuntime>, &Path)>(
    world: impl FnOnce(RealRuntime) -> World<RealRuntime>,
    test: F,
) {
    let folder = tempfile::tempdir().unwrap();
    let tokio = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(async {
        let world = world(RealRuntime::current());
        test(world, folder.path()).await;
    });
}

fn file(name: &str) -> EntryMeta {
    EntryMeta {
        path: EntryPath::new(name).unwrap(),
        kind: EntryMetaKind::File,
        mode: 0o644,
        modified_ms: 1_700_000_000_000,
    }
}
