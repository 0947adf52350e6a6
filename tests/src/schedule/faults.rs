//! What goes wrong in a day, within the fault model.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_core::NodeId;
use cairn_net::sim::Link;
use cairn_runtime::sim::{ClockError, SimRng};

use super::actors::Actors;
use super::check::lagging;
use super::{Board, DayConfig, IMPAIRED_MAX};
use crate::adversary::{
    FalseReceipts, FlipsBits, ForgesDetails, ForgesRecords, LyingNode, ServesOther, SlowLoris,
    TruncatesStreams,
};
use crate::cluster::Cluster;
use crate::watch::Trouble;

/// Longest time that a fault lasts before it is mended.
const FAULT_TIME_MAX: Duration = Duration::from_secs(1_800);
/// An epoch of this length is enough for a node to prove over a lossy link: what is lost costs half
/// a minute each time.
const LOSSY_EPOCH_MIN: Duration = Duration::from_secs(1_800);
/// How long a lagging network is left alone before the next try to inject something.
const PATIENCE: Duration = Duration::from_secs(30);

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    PowerCut,
    Kill,
    Wipe,
    Partition,
    BitRot,
    DiskFull,
    ClockJump,
    LossyLink,
    LedgerRestart,
    OwnerCrash,
    Redraw,
    Lies,
}

const FAULTS: [Fault; 12] = [
    Fault::PowerCut,
    Fault::Kill,
    Fault::Wipe,
    Fault::Partition,
    Fault::BitRot,
    Fault::DiskFull,
    Fault::ClockJump,
    Fault::LossyLink,
    Fault::LedgerRestart,
    Fault::OwnerCrash,
    Fault::Redraw,
    Fault::Lies,
];

/// What a node may turn into for a while. One that drops what it gave receipts for is not among
/// them: it has lost those shards for good, which the ledger learns from proofs.
fn liar(rng: &mut SimRng) -> Arc<dyn LyingNode> {
    let liars: [Arc<dyn LyingNode>; 7] = [
        Arc::new(FlipsBits),
        Arc::new(ServesOther),
        Arc::new(ForgesRecords),
        Arc::new(ForgesDetails),
        Arc::new(TruncatesStreams),
        Arc::new(SlowLoris),
        Arc::new(FalseReceipts),
    ];
    liars[rng.index(liars.len())].clone()
}

/// A fault that waits for its mending.
#[derive(Clone, Debug)]
struct Standing {
    fault: Fault,
    nodes: Vec<usize>,
    until: Duration,
}

/// Injects faults until the day is over, each mended after a while.
pub(super) async fn inject(
    cluster: &mut Cluster,
    board: &Board,
    actors: &Actors,
    config: DayConfig,
) {
    let sim = cluster.world.sim.clone();
    let mut rng = sim.rng("faults");
    let mut standing: Vec<Standing> = Vec::new();
    let end = sim.elapsed() + config.length;
    let mut next = sim.elapsed();
    while sim.elapsed() < end {
        mend_due(cluster, &mut standing).await;
        if sim.elapsed() >= next {
            let impaired = impaired(cluster, board, &standing).await;
            if impaired.len() < IMPAIRED_MAX {
                let room = IMPAIRED_MAX - impaired.len();
                let nodes = choose(cluster, &mut rng, &impaired, room);
                let fault = FAULTS[rng.index(FAULTS.len())];
                let standing_now = begin(cluster, board, actors, &mut rng, (fault, nodes)).await;
                standing.extend(standing_now);
                board.lock().tally.faults += 1;
                next = sim.elapsed() + rng.up_to(config.fault_gap * 2);
            } else {
                next = sim.elapsed() + PATIENCE;
            }
        }
        sim.sleep(Duration::from_secs(5)).await;
    }
}

/// Nodes that count as impaired: those of standing faults, and those that lag by the ledger.
async fn impaired(cluster: &Cluster, board: &Board, standing: &[Standing]) -> BTreeSet<NodeId> {
    let faulty = standing.iter().flat_map(|fault| &fault.nodes);
    let faulty = faulty.map(|index| cluster.members[*index].id);
    let groups = board.lock().groups.clone();
    let mut all = lagging(cluster, &groups).await;
    all.extend(faulty);
    all
}

/// Up to `room` nodes that are not impaired.
fn choose(
    cluster: &Cluster,
    rng: &mut SimRng,
    impaired: &BTreeSet<NodeId>,
    room: usize,
) -> Vec<usize> {
    let mut well: Vec<usize> = (0..cluster.members.len())
        .filter(|index| !impaired.contains(&cluster.members[*index].id))
        .collect();
    let count = 1 + rng.index(room);
    let mut chosen = Vec::new();
    for _ in 0..count.min(well.len()) {
        chosen.push(well.swap_remove(rng.index(well.len())));
    }
    chosen
}

/// Begins a fault. Returns what has to be mended later.
async fn begin(
    cluster: &mut Cluster,
    board: &Board,
    actors: &Actors,
    rng: &mut SimRng,
    (fault, mut nodes): (Fault, Vec<usize>),
) -> Option<Standing> {
    // Damage that shows only when it is looked for, and loss for good, one node at a time.
    if matches!(fault, Fault::Wipe | Fault::BitRot | Fault::Redraw) {
        nodes.truncate(1);
    }
    cluster
        .world
        .sim
        .note("fault", &[], format!("{fault:?}").as_bytes());
    match fault {
        Fault::PowerCut | Fault::Wipe => nodes.iter().for_each(|index| cluster.crash(*index)),
        Fault::Kill => nodes.iter().for_each(|index| cluster.kill(*index)),
        Fault::Partition => {
            let apart: Vec<NodeId> = nodes
                .iter()
                .map(|index| cluster.members[*index].id)
                .collect();
            cluster.world.net.part(&[&apart]);
            let watch = &cluster.watch;
            apart
                .iter()
                .for_each(|node| watch.begin(*node, Trouble::Away));
        }
        Fault::BitRot => {
            for index in &nodes {
                let node = cluster.members[*index].id;
                cluster.watch.begin(node, Trouble::Lost);
                rot(cluster, rng, *index);
            }
        }
        Fault::DiskFull => {
            for index in &nodes {
                let machine = &cluster.members[*index].machine;
                machine.set_disk_bytes(machine.disk_used_bytes() + (64 << 10));
            }
        }
        Fault::ClockJump => nodes.iter().for_each(|index| jump(cluster, rng, *index)),
        Fault::LossyLink => nodes.iter().for_each(|index| fray(cluster, *index)),
        Fault::LedgerRestart => {
            cluster.restart_ledger().await;
            return None;
        }
        Fault::OwnerCrash => {
            // It boots at once, and its owner goes on: one that stayed down would end the uploads.
            let machine = &actors.machines[rng.index(actors.machines.len())];
            machine.crash();
            machine.restart();
            return None;
        }
        Fault::Redraw => {
            let node = cluster.members[nodes[0]].id;
            cluster.watch.call_lost(node);
            let declared = cluster.sequencer().declare_lost(node).await;
            declared.expect("the sequencer takes it");
            board.lock().tally.redrawn += 1;
        }
        Fault::Lies => lie(cluster, board, rng, &nodes).await,
    }
    let until = cluster.world.sim.elapsed() + rng.up_to(FAULT_TIME_MAX);
    Some(Standing {
        fault,
        nodes,
        until,
    })
}

/// Turns nodes into liars.
async fn lie(cluster: &mut Cluster, board: &Board, rng: &mut SimRng, nodes: &[usize]) {
    for index in nodes {
        let liar = liar(rng);
        let name = format!("{liar:?}");
        cluster.world.sim.note("liar", &[], name.as_bytes());
        cluster.corrupt(*index, liar).await;
        board.lock().tally.liars += 1;
    }
}

/// Makes a node's links lose a part of what passes.
fn fray(cluster: &Cluster, index: usize) {
    let lossy = Link {
        latency: Duration::from_millis(300),
        loss_per_million: 200_000,
        reset_per_million: 1_000,
        ..Link::DEFAULT
    };
    let node = cluster.members[index].id;
    cluster.world.net.set_links_of(node, lossy);
    if cluster.epoch() < LOSSY_EPOCH_MIN {
        cluster.watch.begin(node, Trouble::Away);
    }
}

/// Sets a node's clock wrong by up to an hour.
fn jump(cluster: &Cluster, rng: &mut SimRng, index: usize) {
    let off = rng.up_to(Duration::from_secs(3_600));
    let clock = if rng.index(2) == 0 {
        ClockError::Ahead(off)
    } else {
        ClockError::Behind(off)
    };
    cluster.members[index].machine.set_clock(clock);
}

/// Flips bits in a few places of a node's packs.
fn rot(cluster: &Cluster, rng: &mut SimRng, index: usize) {
    let machine = &cluster.members[index].machine;
    let files = machine.disk_files();
    let packs: Vec<_> = files
        .iter()
        .filter(|(path, bytes)| path.extension().is_some_and(|end| end == "pack") && *bytes > 8192)
        .collect();
    if packs.is_empty() {
        return;
    }
    for _ in 0..3 {
        let (path, bytes) = packs[rng.index(packs.len())];
        let within = usize::try_from(bytes - 4096).unwrap_or(1);
        let from = 4096 + u64::try_from(rng.index(within)).unwrap_or(0);
        let to = (from + 512).min(*bytes);
        let flipped = machine.flip_bits(path, from..to, 2);
        flipped.expect("the file is there");
    }
}

/// Mends what has lasted long enough.
async fn mend_due(cluster: &mut Cluster, standing: &mut Vec<Standing>) {
    let now = cluster.world.sim.elapsed();
    let (due, rest) = standing
        .drain(..)
        .partition(|fault: &Standing| fault.until <= now);
    *standing = rest;
    for fault in due {
        mend(cluster, &fault).await;
    }
}

async fn mend(cluster: &mut Cluster, standing: &Standing) {
    match standing.fault {
        Fault::PowerCut | Fault::Kill => {
            for index in &standing.nodes {
                cluster.restart(*index).await;
            }
        }
        Fault::Wipe => {
            for index in &standing.nodes {
                cluster.restart_empty(*index).await;
            }
        }
        Fault::Partition => {
            cluster.world.net.heal();
            for index in &standing.nodes {
                cluster.watch.end(cluster.members[*index].id);
            }
        }
        Fault::BitRot => {
            for index in &standing.nodes {
                if let Some(node) = cluster.members[*index].node() {
                    node.scrub().await.expect("scrub reads the whole store");
                }
                cluster.watch.end(cluster.members[*index].id);
            }
        }
        Fault::DiskFull => {
            for index in &standing.nodes {
                cluster.members[*index].machine.set_disk_bytes(u64::MAX);
            }
        }
        Fault::ClockJump => {
            for index in &standing.nodes {
                cluster.members[*index].machine.set_clock(ClockError::None);
            }
        }
        Fault::LossyLink => {
            for index in &standing.nodes {
                let node = cluster.members[*index].id;
                cluster.world.net.set_links_of(node, Link::DEFAULT);
                cluster.watch.end(node);
            }
        }
        Fault::Redraw => {
            // The node is back with the ledger as a new one would be.
            for index in &standing.nodes {
                cluster.crash(*index);
                cluster.restart_empty(*index).await;
            }
        }
        Fault::Lies => {
            for index in &standing.nodes {
                cluster.reform(*index).await;
            }
        }
        Fault::OwnerCrash | Fault::LedgerRestart => {}
    }
}

/// Mends everything, whatever stands.
pub(super) async fn mend_all(cluster: &mut Cluster, actors: &Actors) {
    cluster.world.net.heal();
    cluster.world.net.set_link(Link::DEFAULT);
    for machine in &actors.machines {
        if !machine.is_up() {
            machine.restart();
        }
    }
    for index in 0..cluster.members.len() {
        let member = &cluster.members[index];
        member.machine.set_clock(ClockError::None);
        member.machine.set_disk_bytes(u64::MAX);
        cluster.world.net.set_links_of(member.id, Link::DEFAULT);
        if member.lies() {
            cluster.reform(index).await;
        } else if member.node().is_none() {
            cluster.restart(index).await;
        }
        if let Some(node) = cluster.members[index].node() {
            node.scrub().await.expect("scrub reads the whole store");
        }
        cluster.watch.end(cluster.members[index].id);
    }
}
