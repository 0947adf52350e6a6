//! Owners that upload and remove, and a reader that reads what was acknowledged.

use std::time::Duration;

use cairn_client::upload::{EntryMeta, EntryMetaKind, UploadError, reader_source};
use cairn_client::{EntryPath, Link, ReadError, UploadOptions, UploadProgress};
use cairn_core::{Blame, Digest};
use cairn_runtime::sim::SimRng;
use cairn_runtime::{Machine, Task};

use super::{Board, DayConfig, FILES_MAX, PROFILES, Stored};
use crate::cluster::{Cluster, ClusterClient, ClusterOwner, World};
use crate::content::Content;

/// How long a read may take until it succeeds, retries included: a restart of the ledger, a few
/// hedges, and a node or two that hang.
const READ_LIMIT: Duration = Duration::from_secs(180);
/// Pause between two attempts at one read.
const READ_PAUSE: Duration = Duration::from_secs(2);

/// The actors, and the machines of the owners.
#[derive(Debug)]
pub(super) struct Actors {
    pub(super) machines: Vec<Machine>,
    tasks: Vec<Task<()>>,
}

/// Starts one owner per profile, and a reader.
pub(super) fn start(cluster: &Cluster, board: &Board, config: DayConfig) -> Actors {
    let mut actors = Actors {
        machines: Vec::new(),
        tasks: Vec::new(),
    };
    let world = &cluster.world;
    for index in 0..PROFILES.len() {
        let name = format!("owner {index}");
        let machine = world.sim.machine(&name);
        actors.machines.push(machine.clone());
        let actor = OwnerActor {
            world: world.clone(),
            board: board.clone(),
            config,
            rng: world.sim.rng(&name),
            machine,
            index,
        };
        actors.tasks.push(world.sim.spawn("owner", actor.run()));
    }
    let reader = read_all_day(world.clone(), board.clone(), config);
    actors.tasks.push(world.sim.spawn("reader", reader));
    actors
}

/// Waits for the actors to end.
pub(super) async fn finish(actors: Actors) {
    for task in actors.tasks {
        let ended = task.join().await;
        ended.expect("an actor runs outside the machines and is not aborted");
    }
}

struct OwnerActor {
    world: World,
    board: Board,
    config: DayConfig,
    rng: SimRng,
    machine: Machine,
    index: usize,
}

/// What came of an upload.
enum Attempt {
    Done(Box<Link>),
    Failed,
    /// The machine went down.
    Cut,
}

impl OwnerActor {
    async fn run(mut self) {
        let mut count = 0_u64;
        let mut owner = self.come_back().await;
        while !self.board.lock().ended {
            let gap = self.rng.up_to(self.config.upload_gap * 2);
            self.world.sim.sleep(gap).await;
            count += 1;
            let content = Content {
                seed: self.config.seed ^ (count << 8) ^ u64::try_from(self.index).unwrap_or(0),
                bytes: self.file_bytes(),
            };
            owner = self.store(owner, content).await;
            owner = self.remove_oldest(owner).await;
        }
    }

    fn owner(&self) -> ClusterOwner {
        let name = format!("owner {}", self.index);
        self.world
            .owner_on(&self.machine, &name, PROFILES[self.index])
    }

    /// Sizes at the borders of frames and segments are as likely as all others together.
    fn file_bytes(&mut self) -> usize {
        const BORDERS: [usize; 6] = [0, 1, 65_535, 65_536, 65_537, 4 * 65_536];
        if self.rng.index(2) == 0 {
            BORDERS[self.rng.index(BORDERS.len())].min(self.config.file_bytes_max)
        } else {
            self.rng.index(self.config.file_bytes_max)
        }
    }

    /// Uploads a file, beginning again after each crash of the machine, until it is stored or the
    /// network refuses.
    async fn store(&mut self, mut owner: ClusterOwner, content: Content) -> ClusterOwner {
        loop {
            if !owner.client().runtime().is_up() {
                owner = self.come_back().await;
            }
            match self.attempt(&owner, content).await {
                Attempt::Done(link) => {
                    let mut known = self.board.lock();
                    known.tally.uploads += 1;
                    known.groups.extend(link.groups());
                    known.groups.sort_unstable();
                    known.groups.dedup();
                    known.files.push(Stored {
                        link: *link,
                        content,
                        owner: self.index,
                    });
                    return owner;
                }
                Attempt::Failed => {
                    self.board.lock().tally.uploads_failed += 1;
                    return owner;
                }
                Attempt::Cut => {
                    self.board.lock().tally.uploads_cut += 1;
                    owner = self.come_back().await;
                }
            }
        }
    }

    /// The owner again once its machine is up.
    async fn come_back(&self) -> ClusterOwner {
        while !self.machine.is_up() {
            self.world.sim.sleep(Duration::from_secs(1)).await;
        }
        self.owner()
    }

    async fn attempt(&self, owner: &ClusterOwner, content: Content) -> Attempt {
        let options = UploadOptions {
            source: Some(Digest::of(&content.seed.to_le_bytes())),
            ..UploadOptions::default()
        };
        let owner = owner.clone();
        let work = async move {
            let meta = EntryMeta {
                path: EntryPath::new("file").expect("a short name"),
                kind: EntryMetaKind::File,
                mode: 0o644,
                modified_ms: 0,
            };
            let source = reader_source(meta, std::io::Cursor::new(content.make()));
            owner.upload(source, options, |_: &UploadProgress| {}).await
        };
        match self.machine.runtime().run("upload", work).await {
            None => Attempt::Cut,
            Some(Ok(uploaded)) => {
                assert_eq!(
                    owner_bytes(&uploaded.progress),
                    content.bytes,
                    "all was read"
                );
                Attempt::Done(Box::new(uploaded.link))
            }
            Some(Err(error)) if !self.machine.is_up() => {
                tracing::debug!(%error, "an upload ended with its machine");
                Attempt::Cut
            }
            Some(Err(error)) => {
                assert_blameless(&error);
                Attempt::Failed
            }
        }
    }

    async fn remove_oldest(&mut self, owner: ClusterOwner) -> ClusterOwner {
        let oldest = {
            let mut known = self.board.lock();
            let mine = known.files.iter().filter(|file| file.owner == self.index);
            if mine.count() <= FILES_MAX / PROFILES.len() {
                return owner;
            }
            let at = known.files.iter().position(|file| file.owner == self.index);
            known.files.remove(at.expect("there are some"))
        };
        let removing = owner.clone();
        let work = async move { removing.remove(&oldest.link).await };
        match self.machine.runtime().run("remove", work).await {
            // Cut off or failed: its segments stay, which costs room and harms nobody.
            None => self.come_back().await,
            Some(Err(error)) => {
                assert!(error.blame() != Blame::Us, "remove: {error}");
                owner
            }
            Some(Ok(_)) => {
                self.board.lock().tally.removals += 1;
                owner
            }
        }
    }
}

fn owner_bytes(progress: &UploadProgress) -> usize {
    usize::try_from(progress.bytes_read).expect("small files")
}

/// An upload may fail for want of nodes or of the ledger, never by our own fault.
fn assert_blameless(error: &UploadError) {
    assert!(
        error.blame() != Blame::Us,
        "an upload failed by our own fault: {error:?}"
    );
    tracing::debug!(%error, "an upload failed");
}

/// Reads random ranges of acknowledged files until the day has ended.
async fn read_all_day(world: World, board: Board, config: DayConfig) {
    let mut rng = world.sim.rng("reader");
    let (_machine, client) = world.client("reader");
    while !board.lock().ended {
        world.sim.sleep(rng.up_to(config.read_gap * 2)).await;
        let file = {
            let known = board.lock();
            if known.files.is_empty() {
                continue;
            }
            known.files[rng.index(known.files.len())].clone()
        };
        let (from, to) = range(&mut rng, file.content.bytes);
        read_back(&world, &board, &client, &file, from..to).await;
    }
}

fn range(rng: &mut SimRng, bytes: usize) -> (usize, usize) {
    if bytes == 0 || rng.index(4) == 0 {
        return (0, bytes);
    }
    let from = rng.index(bytes);
    (from, from + 1 + rng.index(bytes - from))
}

/// Reads a range of an acknowledged file until it succeeds: I1 and I2.
///
/// # Panics
///
/// When the bytes are wrong, or do not come in time although the file is still there.
pub(super) async fn read_back(
    world: &World,
    board: &Board,
    client: &ClusterClient,
    file: &Stored,
    range: std::ops::Range<usize>,
) {
    let begun = world.sim.elapsed();
    loop {
        match read_once(client, &file.link, &range).await {
            Ok(bytes) => {
                let expected = file.content.make();
                assert!(
                    bytes == expected[range],
                    "I2: wrong bytes of {:?}",
                    file.content
                );
                board.lock().tally.reads += 1;
                return;
            }
            Err(error) => {
                let kept = board
                    .lock()
                    .files
                    .iter()
                    .any(|kept| kept.content == file.content);
                if !kept {
                    return;
                }
                let waited = world.sim.elapsed().saturating_sub(begun);
                assert!(
                    waited < READ_LIMIT,
                    "I1: {:?} after {waited:?}: {error:?}",
                    file.content
                );
                world.sim.sleep(READ_PAUSE).await;
            }
        }
    }
}

async fn read_once(
    client: &ClusterClient,
    link: &Link,
    range: &std::ops::Range<usize>,
) -> Result<Vec<u8>, ReadError> {
    let opened = client.open(link).await?;
    let file = opened.only_file().expect("one file was uploaded");
    let offset = u64::try_from(range.start).unwrap_or(u64::MAX);
    let count = u64::try_from(range.len()).unwrap_or(u64::MAX);
    Ok(file.read_range(offset, count).await?.to_vec())
}
