//! An upload whose machine loses power in the n-th disk call, for every n: the next attempt ends
//! well, and what the one before was told is durable is not put again.

use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cairn_core::Digest;
use cairn_runtime::sim::DiskFault;
use cairn_runtime::{Disk, Runtime, Sim, SimRuntime};

use crate::owner::{Owner, OwnerConfig};
use crate::testing::{TestOwner, World, noise, small};
use crate::tests::file;
use crate::tests::uploads::download;
use crate::upload::{ReviseAt, UploadOptions, UploadProgress, Uploaded, reader_source};

const FOLDER: &str = "/owner";
const BYTES: usize = 6_000_000;

fn owner(world: &World<SimRuntime>, runtime: &SimRuntime, number: u8) -> TestOwner<SimRuntime> {
    let client = world.client_on(runtime.clone(), number);
    let config = OwnerConfig {
        profile: cairn_core::Profile::Dev4,
        ..small()
    };
    // Fails when the machine is down, and then so does what follows.
    drop(runtime.disk().create_dir_all(Path::new(FOLDER)));
    Owner::new(client, world.keys.clone(), Path::new(FOLDER), config)
}

async fn attempt(
    owner: &TestOwner<SimRuntime>,
    text: &[u8],
    last: Arc<Mutex<UploadProgress>>,
) -> Option<Uploaded> {
    let source = reader_source(file("a"), Cursor::new(text.to_vec()));
    let options = UploadOptions {
        source: Some(Digest::new([3; 32])),
        revise: ReviseAt::End,
    };
    let progress = move |at: &UploadProgress| *last.lock().unwrap() = *at;
    let done = owner.upload(source, options, progress).await.ok()?;
    owner.close().await.ok()?;
    Some(done)
}

#[test]
fn an_upload_survives_a_crash_at_any_disk_call() {
    let text = noise(BYTES, 1);
    let mut call = 0;
    loop {
        let mut is_over = false;
        Sim::new(call).run(async |sim| {
            let world = World::new(sim.machine("nodes").runtime(), 4);
            let machine = sim.machine("owner");
            machine.plan_disk_fault(call, DiskFault::PowerLoss);
            let runtime = machine.runtime();
            let last = Arc::new(Mutex::new(UploadProgress::default()));
            let first = owner(&world, &runtime, 1);
            let ear = Arc::clone(&last);
            let body = text.clone();
            let task = runtime.run("upload", async move { attempt(&first, &body, ear).await });
            is_over = task.await.flatten().is_some();
            machine.clear_disk_faults();
            machine.crash();
            let told = *last.lock().unwrap();
            let runtime = machine.restart();
            let second = owner(&world, &runtime, 2);
            let again = Arc::new(Mutex::new(UploadProgress::default()));
            let done = attempt(&second, &text, again).await.unwrap();
            if !is_over && told.segments_durable < 3 {
                // The last segment holds the index as well, which names other segments now.
                let kept = done.progress.segments_kept + 1;
                assert!(
                    kept >= told.segments_durable,
                    "call {call}: {kept} of {told:?}"
                );
            }
            let found = download(&world.client(9), &done.link).await.unwrap();
            assert!(found == text, "call {call}");
            for group in done.link.groups() {
                let found = world.ledger.group_now(group).unwrap();
                assert!(found.revision.segment_count > 0);
            }
        });
        if is_over {
            break;
        }
        call += 1;
        assert!(call < 500, "the upload ends");
    }
    assert!(call > 20, "an upload makes disk calls: {call}");
}

/// I10: same seed, same upload, byte for byte.
#[test]
fn i10_the_same_seed_gives_the_same_link() {
    let link = |seed: u64| {
        let mut link = String::new();
        Sim::new(seed).run(async |sim| {
            let world = World::new(sim.machine("nodes").runtime(), 4);
            let runtime = sim.machine("owner").runtime();
            let owner = owner(&world, &runtime, 1);
            let last = Arc::new(Mutex::new(UploadProgress::default()));
            let done = attempt(&owner, &noise(3_000_000, 2), last).await.unwrap();
            link = done.link.to_string();
        });
        link
    };
    assert_eq!(link(1), link(1));
    assert_ne!(link(1), link(2));
}
