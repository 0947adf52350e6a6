//! The whole path, end to end: a sequencer, n nodes and a client, each a process of its own on this
//! machine, with data on its disk and every byte over TLS on the loopback interface.
//!
//! **Measured**: CPU time of every process by its own clock (user and kernel, all threads), peak
//! memory (`VmHWM`), wall time, data plane bytes and round trips. **Counted as the path's cost**:
//! everything that client, nodes and sequencer use from the order to its end: for an upload until
//! every slot has acknowledged the revision. **Not counted**: making the source, reading it, and
//! comparing what comes back with it, which are timed on their threads and taken off; the kernel's
//! own threads, which the file system's last writes may fall to; the first use of a page of a
//! virtual machine's memory, which is its host's work: that much is used once before. **Assumes**
//! nothing else of this user's on the loopback interface; other work on the machine makes figures
//! worse, so medians of several rounds count.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cairn_client::cipher::FRAME_PLAIN_BYTES_MAX;
use cairn_core::{ByteCount, Profile};

use crate::report::Report;

mod client;
mod counted;
mod figures;
mod member;
mod node;
mod plain_tls;
mod primitives;
mod sequencer;
mod tables;

use figures::{Figures, wall_time};
use member::{Address, Answer, Member, Moved, Order, Role, Setup, Uploaded};
pub use member::{MEMBER_COMMAND, run_member};
use primitives::Primitives;

/// Offered by each node: room for the slots of several groups, whatever the file's size.
const CAPACITY_BYTES: u64 = 256 << 30;
/// Bytes of the ranges that are read.
const RANGE_BYTES: u64 = 64 << 10;

/// Memory that a process of the network takes at most, beside the page cache.
const PROCESS_BYTES: u64 = 128 << 20;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of the file.
    pub size: ByteCount,
    /// Nodes.
    pub node_count: usize,
    /// Code and shard size.
    pub profile: Profile,
    /// Rounds, each with a network of its own; medians count.
    pub rounds: usize,
    /// Small files of a further upload and download; none when 0.
    pub file_count: u32,
    /// Where the network's data goes, on a real disk.
    pub folder: PathBuf,
    /// Where the source goes, in memory.
    pub source_folder: PathBuf,
}

/// One step of a round: what each class of processes used for it.
#[derive(Clone, Copy, Debug)]
struct Step {
    bytes: u64,
    wall: Duration,
    /// Taken off the client's CPU time.
    aside: Duration,
    client: Figures,
    nodes: Figures,
    /// The node with the largest memory.
    node_peak: u64,
    sequencer: Figures,
    traffic: counted::Traffic,
}

impl Step {
    /// CPU time of all processes, without what is not the path's.
    fn cpu(&self) -> Duration {
        let all = self.client.cpu + self.nodes.cpu + self.sequencer.cpu;
        all.saturating_sub(self.aside)
    }
}

/// One round.
#[derive(Clone, Debug)]
struct Round {
    upload: Step,
    /// From the order to the revision's finality, as the client saw it.
    durable_wall: Duration,
    segments: u64,
    left_behind: u64,
    download: Step,
    /// 64 KiB from the middle, at a frame's start, and half a frame later.
    ranges: Vec<Moved>,
    files: Option<(Step, Step)>,
    primitives: Primitives,
    /// Nodes' CPU time in a second without work.
    idle: Duration,
}

/// Runs all rounds and gives the tables.
///
/// # Errors
///
/// When a process does not start, or anything it is told to do fails: wrong bytes included.
pub fn measure(settings: &Settings) -> Result<Vec<Report>> {
    let source = tempfile::tempdir_in(&settings.source_folder)?;
    let file = source.path().join("file");
    client::make_file(&file, settings.size.get())?;
    let files = source.path().join("files");
    let files_bytes = client::make_folder(&files, settings.file_count)?;
    let mut rounds = Vec::new();
    for number in 1..=settings.rounds {
        let folder = tempfile::tempdir_in(&settings.folder)?;
        let network = Network::start(settings, folder.path())?;
        let round = network.round(&file, &files)?;
        eprint_round(number, &round)?;
        rounds.push(round);
    }
    Ok(tables::reports(settings, &rounds, files_bytes))
}

/// Says how a round went, while others follow.
fn eprint_round(number: usize, round: &Round) -> Result<()> {
    use std::io::Write;
    let mut out = io::stderr().lock();
    let speed = |step: &Step| tables::megabytes_per_cpu_second(step);
    writeln!(
        out,
        "round {number}: {:.0} MB per CPU-second up, {:.0} down",
        speed(&round.upload),
        speed(&round.download)
    )?;
    Ok(())
}

/// A running network.
struct Network<'a> {
    settings: &'a Settings,
    folder: &'a Path,
    address: Address,
    sequencer: Member,
    nodes: Vec<Member>,
}

/// What nodes and sequencer had used at some time.
struct Before {
    wall: Duration,
    nodes: Vec<Figures>,
    sequencer: Figures,
}

impl<'a> Network<'a> {
    fn start(settings: &'a Settings, folder: &'a Path) -> Result<Self> {
        let place = |name: String| -> Result<PathBuf> {
            let place = folder.join(name);
            fs::create_dir(&place)?;
            Ok(place)
        };
        let mut sequencer = Member::start(&Setup {
            role: Role::Sequencer,
            folder: place("sequencer".to_owned())?,
        })?;
        let address = sequencer.address.clone().context("it has an address")?;
        let mut nodes = Vec::new();
        for number in 0..settings.node_count {
            nodes.push(Member::start(&Setup {
                role: Role::Node {
                    number,
                    capacity_bytes: CAPACITY_BYTES,
                    sequencer: address.clone(),
                },
                folder: place(format!("node-{number}"))?,
            })?);
        }
        let count = settings.node_count;
        expect_done(sequencer.order(&Order::AwaitNodes { count })?)?;
        Ok(Self {
            settings,
            folder,
            address,
            sequencer,
            nodes,
        })
    }

    fn round(mut self, file: &Path, files: &Path) -> Result<Round> {
        let idle = self.idle()?;
        touch_memory(self.folder, self.memory_bytes()?)?;
        let (upload, uploaded) = self.upload(file)?;
        let download = self.download(&uploaded.link, file)?;
        let middle = self.settings.size.get() / 2 / RANGE_BYTES * RANGE_BYTES;
        let half_frame = u64::try_from(FRAME_PLAIN_BYTES_MAX / 2)?;
        let ranges = [middle, middle + half_frame]
            .into_iter()
            .map(|offset| self.read(&uploaded.link, file, offset))
            .collect::<Result<_>>()?;
        let files = if self.settings.file_count == 0 {
            None
        } else {
            let (upload, uploaded) = self.upload(files)?;
            Some((upload, self.download(&uploaded.link, files)?))
        };
        let folder = self.folder;
        let profile = self.settings.profile;
        // The network ends first: nothing of ours runs beside the primitives.
        drop(self);
        Ok(Round {
            upload,
            durable_wall: uploaded.moved.wall,
            segments: uploaded.segments,
            left_behind: uploaded.left_behind,
            download,
            ranges,
            files,
            primitives: primitives::measure(profile, folder)?,
            idle,
        })
    }

    /// Memory that an upload of the file takes at most: its shards in the page cache, and that of
    /// the processes.
    fn memory_bytes(&self) -> Result<u64> {
        let code = self.settings.profile.code();
        let data = u64::try_from(code.data_count())?;
        let all = u64::try_from(code.shard_count())?;
        let processes = u64::try_from(self.nodes.len())? + 2;
        Ok(self.settings.size.get() * all / data + processes * PROCESS_BYTES)
    }

    /// CPU time of all nodes in a second in which nothing is asked of them.
    fn idle(&mut self) -> Result<Duration> {
        // Joining has its own work, which ends soon.
        expect_done(self.sequencer.order(&Order::Rest)?)?;
        let before = self.before()?;
        expect_done(self.sequencer.order(&Order::Rest)?)?;
        let wall = wall_time().saturating_sub(before.wall);
        let (nodes, _) = self.nodes_since(&before)?;
        Ok(nodes.cpu.div_f64(wall.as_secs_f64()))
    }

    fn client(&self) -> Result<Member> {
        Member::start(&Setup {
            role: Role::Client {
                profile: self.settings.profile.to_string(),
                sequencer: self.address.clone(),
            },
            folder: tempfile::tempdir_in(self.folder)?.keep(),
        })
    }

    fn before(&mut self) -> Result<Before> {
        Ok(Before {
            wall: wall_time(),
            nodes: self
                .nodes
                .iter_mut()
                .map(Member::figures)
                .collect::<Result<_>>()?,
            sequencer: self.sequencer.figures()?,
        })
    }

    /// What the nodes have used since, together, and the largest memory of one.
    fn nodes_since(&mut self, before: &Before) -> Result<(Figures, u64)> {
        let mut sum = Figures::default();
        for (node, before) in self.nodes.iter_mut().zip(&before.nodes) {
            sum = sum.with(&node.figures()?.since(before));
        }
        Ok((sum, sum.memory_peak))
    }

    fn step(&mut self, before: &Before, moved: &Moved) -> Result<Step> {
        let wall = wall_time().saturating_sub(before.wall);
        let (nodes, node_peak) = self.nodes_since(before)?;
        Ok(Step {
            bytes: moved.bytes,
            wall,
            aside: moved.aside,
            client: moved.figures,
            nodes,
            node_peak,
            sequencer: self.sequencer.figures()?.since(&before.sequencer),
            traffic: moved.traffic,
        })
    }

    fn upload(&mut self, source: &Path) -> Result<(Step, Uploaded)> {
        let before = self.before()?;
        let source = source.to_owned();
        let uploaded = match self.client()?.order(&Order::Upload { source })? {
            Answer::Uploaded(uploaded) => uploaded,
            other => bail!("expected an upload, found {other:?}"),
        };
        let groups = uploaded.groups.clone();
        expect_done(self.sequencer.order(&Order::AwaitSlots { groups })?)?;
        let step = self.step(&before, &uploaded.moved)?;
        Ok((step, uploaded))
    }

    fn download(&mut self, link: &str, source: &Path) -> Result<Step> {
        let before = self.before()?;
        let order = Order::Download {
            link: link.to_owned(),
            source: source.to_owned(),
        };
        let moved = expect_moved(self.client()?.order(&order)?)?;
        self.step(&before, &moved)
    }

    /// A cold client opens the link and reads one range.
    fn read(&mut self, link: &str, source: &Path, offset: u64) -> Result<Moved> {
        let order = Order::Read {
            link: link.to_owned(),
            source: source.to_owned(),
            offset,
            count: RANGE_BYTES,
        };
        expect_moved(self.client()?.order(&order)?)
    }
}

/// Uses so many bytes of memory as page cache and gives them back. In a virtual machine the first
/// use of a page is its host's work and shows as ours, 2.5 CPU-seconds per GiB on the machine of
/// the recorded results, ten times what writing costs. What is measured next gets these pages; the
/// host takes them back after some seconds.
fn touch_memory(folder: &Path, bytes: u64) -> Result<()> {
    let path = folder.join("touched");
    let mut file = File::create(&path)?;
    io::copy(&mut io::repeat(1).take(bytes), &mut file)?;
    drop(file);
    fs::remove_file(&path)?;
    Ok(())
}

fn expect_done(answer: Answer) -> Result<()> {
    ensure!(
        matches!(answer, Answer::Done),
        "expected that it is so, found {answer:?}"
    );
    Ok(())
}

fn expect_moved(answer: Answer) -> Result<Moved> {
    match answer {
        Answer::Moved(moved) => Ok(moved),
        other => bail!("expected bytes moved, found {other:?}"),
    }
}
