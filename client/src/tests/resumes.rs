//! Uploads that break off anywhere, on machines as slow as they like: what was under way is brought
//! to its end, and the next attempt sends none of it again.

use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_core::{ByteCount, Digest};
use cairn_runtime::sim::{DiskSpeed, Machine, SimRng};
use cairn_runtime::{Disk, Runtime, Sim, SimRuntime};

use crate::client::ClientConfig;
use crate::testing::{Behaviour, TestOwner, World, noise, small};
use crate::tests::file;
use crate::tests::uploads::download;
use crate::upload::{
    ReviseAt, UploadError, UploadOptions, UploadProgress, Uploaded, reader_source,
};

const FOLDER: &str = "/owner";
/// Memory for four segments, so that reading has to wait for it.
const MEMORY: ByteCount = ByteCount::new(4 << 20);
/// Plaintext of a segment under that memory at 4-of-8: 63 frames.
const SEGMENT: usize = 63 << 13;
/// Ten segments and a bit.
const BYTES: usize = 10 * SEGMENT + 1_000;
const SEEDS: u64 = 40;

/// Ends with an error after so many bytes.
pub(super) struct Breaks {
    pub(super) text: Cursor<Vec<u8>>,
    pub(super) left: usize,
}

impl Read for Breaks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("pulled out"));
        }
        let most = into.len().min(self.left);
        let count = self.text.read(&mut into[..most])?;
        self.left -= count;
        Ok(count)
    }
}

fn owner(world: &World<SimRuntime>, machine: &Machine, number: u8) -> TestOwner<SimRuntime> {
    let runtime = machine.runtime();
    runtime.disk().create_dir_all(Path::new(FOLDER)).unwrap();
    let config = ClientConfig {
        memory: MEMORY,
        ..ClientConfig::default()
    };
    let client = world.client_of(runtime, number, config);
    world.owner_with(Path::new(FOLDER), &client, small())
}

/// Uploads until `left` bytes are read, and says what it was told last.
async fn attempt(
    owner: &TestOwner<SimRuntime>,
    text: &[u8],
    left: usize,
) -> (Result<Uploaded, UploadError>, UploadProgress) {
    let reader = Breaks {
        text: Cursor::new(text.to_vec()),
        left,
    };
    let options = UploadOptions {
        source: Some(Digest::new([3; 32])),
        revise: ReviseAt::End,
    };
    let told = Arc::new(Mutex::new(UploadProgress::default()));
    let ear = Arc::clone(&told);
    let progress = move |at: &UploadProgress| *ear.lock().unwrap() = *at;
    let source = reader_source(file("a"), reader);
    let done = owner.upload(source, options, progress).await;
    let told = *told.lock().unwrap();
    (done, told)
}

fn puts(world: &World<SimRuntime>) -> usize {
    world.nodes.values().map(|node| node.put_count()).sum()
}

/// A machine with a slow disk, and nodes each slow in its own way.
fn slow_world(sim: &Sim, rng: &mut SimRng) -> (World<SimRuntime>, Machine) {
    let world = World::new(sim.machine("nodes").runtime(), 8);
    for node in world.nodes.values() {
        node.behave(Behaviour {
            delay: rng.up_to(Duration::from_millis(700)),
            ..Behaviour::default()
        });
    }
    let machine = sim.machine("owner");
    machine.set_disk_speed(DiskSpeed {
        per_sync: rng.up_to(Duration::from_millis(300)),
        ..DiskSpeed::default()
    });
    (world, machine)
}

/// Wherever the source breaks, all that was read in whole is put, and nothing of it again.
#[test]
fn what_was_read_before_a_break_is_put_once() {
    let text = noise(BYTES, 6);
    for seed in 0..SEEDS {
        Sim::new(seed).run(async |sim| {
            let mut rng = sim.rng("resumes");
            let (world, machine) = slow_world(&sim, &mut rng);
            let left = rng.index(BYTES);
            let first = owner(&world, &machine, 1);
            let (broken, told) = attempt(&first, &text, left).await;
            let error = broken.unwrap_err();
            assert!(error.to_string().contains("pulled out"), "{seed}: {error}");
            drop(first);
            let before = puts(&world);
            sim.sleep(Duration::from_secs(60)).await;
            assert_eq!(puts(&world), before, "{seed}: a put after the end");

            let second = owner(&world, &machine, 1);
            let (done, _) = attempt(&second, &text, usize::MAX).await;
            let done = done.unwrap();
            let whole = u64::try_from(left / SEGMENT).unwrap();
            assert_eq!(told.segments_durable, whole, "{seed}: {left} bytes read");
            assert_eq!(done.progress.segments_kept, whole, "{seed}: {left} bytes");
            let fresh = done.progress.segments_durable - whole;
            let more = u64::try_from(puts(&world) - before).unwrap();
            assert!(more <= fresh * 8, "{seed}: {more} puts of {fresh} segments");
            let found = download(&world.client(9), &done.link).await.unwrap();
            assert!(found == text, "{seed}");
            second.close().await.unwrap();
            assert_eq!(second.client().memory().bytes_used(), 0);
        });
    }
}

/// Nodes go away at any moment and come back: what was told to be durable is not put again.
#[test]
fn what_was_durable_when_nodes_went_away_is_kept() {
    let text = noise(BYTES, 7);
    let mut broken_count = 0;
    for seed in 0..SEEDS {
        Sim::new(seed).run(async |sim| {
            let mut rng = sim.rng("resumes");
            let (world, machine) = slow_world(&sim, &mut rng);
            let world = Arc::new(world);
            let at = rng.up_to(Duration::from_secs(12));
            let (killer, clock) = (Arc::clone(&world), sim.sleep(at));
            let kill = sim.spawn("kill", async move {
                clock.await;
                let gone: Vec<_> = killer.nodes.keys().copied().take(2).collect();
                gone.iter().for_each(|id| killer.kill(*id));
                gone
            });
            let first = owner(&world, &machine, 1);
            let (broken, told) = attempt(&first, &text, usize::MAX).await;
            let gone = kill.join().await.unwrap();
            let Err(error) = broken else {
                return;
            };
            broken_count += 1;
            assert!(
                matches!(error, UploadError::NotDurable(_) | UploadError::Group(_)),
                "{seed}: {error}"
            );
            drop(first);
            gone.iter().for_each(|id| world.hub.bring_up(*id));
            let second = owner(&world, &machine, 1);
            let (done, _) = attempt(&second, &text, usize::MAX).await;
            let done = done.unwrap();
            // A segment that ended the stream holds an index of the first attempt.
            let kept = told.segments_durable.min(10);
            assert_eq!(done.progress.segments_kept, kept, "{seed}: {told:?}");
            let found = download(&world.client(9), &done.link).await.unwrap();
            assert!(found == text, "{seed}");
        });
    }
    assert!(broken_count > 0, "nodes went away during uploads");
}
