//! A simulated machine, and its runtime in one incarnation.
//!
//! A machine that goes down loses its tasks at once; what code still holds its old runtime can
//! start nothing, and its disk calls fail. [`Machine::restart`] begins the next incarnation over
//! the same disk, with other entropy.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use super::disk::{DiskFault, DiskFaults, DiskShared, DiskSpeed, SimDisk};
use super::executor::Executor;
use super::rng::SimRng;
use super::{Sim, SimSleep};
use crate::{Runtime, Task};

/// When a simulated world begins by an exact clock: 2026-01-01T00:00:00Z.
const WORLD_START: Duration = Duration::from_secs(1_767_225_600);
/// Domain of machines' entropy.
const ENTROPY_CONTEXT: &str = "cairn 1 entropy of a simulated machine";

/// A machine's number in its world, from 0 in the order of making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(u32);

impl MachineId {
    /// # Panics
    ///
    /// When there are 2^32 machines.
    pub(super) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer than 2^32 machines"))
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// How wrong a machine's clock is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockError {
    /// Right.
    #[default]
    None,
    /// In the future by so much.
    Ahead(Duration),
    /// In the past by so much.
    Behind(Duration),
}

/// Whether a machine is up, and which incarnation it is.
#[derive(Debug)]
pub(super) struct Power {
    up: AtomicBool,
    incarnation: AtomicU64,
    /// Power went out in a disk call, and its tasks are not ended yet.
    cut: AtomicBool,
}

impl Power {
    /// Whether that incarnation is the one that runs.
    pub(super) fn is_up(&self, incarnation: u64) -> bool {
        self.up.load(Ordering::Relaxed) && self.incarnation.load(Ordering::Relaxed) == incarnation
    }

    /// Goes out at once; tasks end when the running one waits.
    pub(super) fn cut(&self) {
        self.up.store(false, Ordering::Relaxed);
        self.cut.store(true, Ordering::Relaxed);
    }
}

/// What all handles of a machine share.
#[derive(Debug)]
pub(super) struct MachineShared {
    id: MachineId,
    name: String,
    seed: u64,
    executor: Arc<Executor>,
    power: Arc<Power>,
    disk: Arc<DiskShared>,
    state: Mutex<MachineState>,
}

#[derive(Debug)]
struct MachineState {
    entropy: blake3::OutputReader,
    started_at: Duration,
    clock: ClockError,
}

impl MachineShared {
    pub(super) fn new(id: MachineId, name: &str, seed: u64, executor: Arc<Executor>) -> Self {
        let power = Arc::new(Power {
            up: AtomicBool::new(true),
            incarnation: AtomicU64::new(0),
            cut: AtomicBool::new(false),
        });
        let rng = SimRng::labelled(seed, &format!("disk of {name}"));
        let disk = DiskShared::new(id, Arc::clone(&power), Arc::clone(&executor), rng);
        let state = MachineState {
            entropy: entropy(seed, name, 0),
            started_at: executor.now(),
            clock: ClockError::None,
        };
        Self {
            id,
            name: name.to_owned(),
            seed,
            executor,
            power,
            disk: Arc::new(disk),
            state: Mutex::new(state),
        }
    }

    pub(super) const fn id(&self) -> MachineId {
        self.id
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.power.incarnation.load(Ordering::Relaxed)
    }

    pub(super) fn take_power_cut(&self) -> bool {
        self.power.cut.swap(false, Ordering::Relaxed)
    }

    fn note(&self, kind: &'static str) {
        let words = [u64::from(self.id.number()), self.incarnation()];
        self.executor.note(kind, &words, self.name.as_bytes());
    }
}

/// The entropy that an incarnation draws.
fn entropy(seed: u64, name: &str, incarnation: u64) -> blake3::OutputReader {
    let mut hasher = blake3::Hasher::new_derive_key(ENTROPY_CONTEXT);
    hasher.update(&seed.to_le_bytes());
    hasher.update(&incarnation.to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.finalize_xof()
}

/// A simulated machine, up or down. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Machine {
    sim: Sim,
    shared: Arc<MachineShared>,
}

impl Machine {
    pub(super) const fn new(sim: Sim, shared: Arc<MachineShared>) -> Self {
        Self { sim, shared }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> MachineId {
        self.shared.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The world that it is in.
    #[must_use]
    pub const fn sim(&self) -> &Sim {
        &self.sim
    }

    /// Whether it is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.power.is_up(self.shared.incarnation())
    }

    /// The runtime of the newest incarnation; dead when the machine is down.
    #[must_use]
    pub fn runtime(&self) -> SimRuntime {
        let incarnation = self.shared.incarnation();
        SimRuntime {
            machine: self.clone(),
            incarnation,
            disk: SimDisk::new(Arc::clone(&self.shared.disk), incarnation),
        }
    }

    /// Takes its power: its tasks are dropped here and now, its locks are free, and of what was
    /// not synced to disk the seed decides what is left. Nothing when it is down.
    ///
    /// The caller holds no lock that its tasks take when dropped.
    pub fn crash(&self) {
        if self.go_down("crash") {
            self.shared.disk.lose_power();
            self.sim.settle_down(&self.shared);
        }
    }

    /// Ends its process as `kill -9` does: as [`Self::crash`], but all that was written stays,
    /// synced or not.
    pub fn kill(&self) {
        if self.go_down("kill") {
            self.shared.disk.lose_process();
            self.sim.settle_down(&self.shared);
        }
    }

    fn go_down(&self, how: &'static str) -> bool {
        self.sim.settle_power_cuts();
        let was_up = self.shared.power.up.swap(false, Ordering::Relaxed);
        if was_up {
            self.shared.note(how);
        }
        was_up
    }

    /// Begins its next incarnation; crashes it first when it is up.
    ///
    /// # Panics
    ///
    /// Does not: its state is never held across calls.
    pub fn restart(&self) -> SimRuntime {
        self.crash();
        let shared = &self.shared;
        let incarnation = shared.power.incarnation.fetch_add(1, Ordering::Relaxed) + 1;
        let mut state = shared.state.lock().expect("no panic in a machine's state");
        state.entropy = entropy(shared.seed, &shared.name, incarnation);
        state.started_at = shared.executor.now();
        drop(state);
        shared.power.up.store(true, Ordering::Relaxed);
        shared.note("restart");
        self.runtime()
    }

    /// Crashes it and puts an empty disk in place of its own.
    pub fn wipe(&self) {
        self.crash();
        self.shared.note("wipe");
        self.shared.disk.wipe();
    }

    /// Sets how wrong its clock is, which also lets it jump. Its monotonic clock does not mind.
    ///
    /// # Panics
    ///
    /// Does not: its state is never held across calls.
    pub fn set_clock(&self, clock: ClockError) {
        let state = self.shared.state.lock();
        state.expect("no panic in a machine's state").clock = clock;
    }

    /// How many disk calls it has made in all its incarnations. Counts on over crashes.
    #[must_use]
    pub fn disk_calls(&self) -> u64 {
        self.shared.disk.calls()
    }

    /// Plans a fault for the disk call that comes after the next `after` ones: 0 is the next.
    pub fn plan_disk_fault(&self, after: u64, fault: DiskFault) {
        self.shared.disk.plan(after, fault);
    }

    /// Drops the faults planned and not met.
    pub fn clear_disk_faults(&self) {
        self.shared.disk.unplan();
    }

    /// Sets how often disk calls go wrong by themselves.
    pub fn set_disk_faults(&self, faults: DiskFaults) {
        self.shared.disk.set_faults(faults);
    }

    /// Lets every disk call fail from now on.
    pub fn break_disk(&self) {
        self.shared.disk.break_all();
    }

    /// Ends [`Self::break_disk`].
    pub fn mend_disk(&self) {
        self.shared.disk.mend();
    }

    /// Sets how long disk calls take.
    pub fn set_disk_speed(&self, speed: DiskSpeed) {
        self.shared.disk.set_speed(speed);
    }

    /// Sets the size of its disk in bytes, rounded down to pages of 4 KiB.
    pub fn set_disk_bytes(&self, bytes: u64) {
        self.shared.disk.set_capacity(bytes);
    }

    /// Bytes that its files take.
    #[must_use]
    pub fn disk_used_bytes(&self) -> u64 {
        self.shared.disk.used_bytes()
    }

    /// The files on its disk and their sizes in bytes, in order of their paths.
    #[must_use]
    pub fn disk_files(&self) -> Vec<(PathBuf, u64)> {
        self.shared.disk.files()
    }

    /// Flips `count` bits at places of a file's range that the seed picks; how many met bytes and
    /// not a hole.
    ///
    /// # Errors
    ///
    /// When there is no such file.
    pub fn flip_bits(&self, path: &Path, range: Range<u64>, count: u32) -> io::Result<u32> {
        self.shared.disk.flip_bits(path, range, count)
    }
}

/// The runtime of one incarnation of a simulated machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SimRuntime {
    machine: Machine,
    incarnation: u64,
    disk: SimDisk,
}

impl SimRuntime {
    /// Its machine.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Whether this incarnation still runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.machine.shared.power.is_up(self.incarnation)
    }

    /// Runs `work` as a task of the machine; `None` when it went down first.
    ///
    /// # Cancel safety
    ///
    /// Dropping it aborts the task.
    pub async fn run<F>(&self, name: &'static str, work: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn(name, work).join().await.ok()
    }
}

impl Runtime for SimRuntime {
    type Disk = SimDisk;

    fn now(&self) -> Duration {
        let shared = &self.machine.shared;
        let exact = WORLD_START.saturating_add(shared.executor.now());
        let state = shared.state.lock().expect("no panic in a machine's state");
        match state.clock {
            ClockError::None => exact,
            ClockError::Ahead(error) => exact.saturating_add(error),
            ClockError::Behind(error) => exact.saturating_sub(error),
        }
    }

    /// Time since the incarnation began: like that of a real machine, worth nothing after it.
    fn monotonic(&self) -> Duration {
        let shared = &self.machine.shared;
        let state = shared.state.lock().expect("no panic in a machine's state");
        shared.executor.now().saturating_sub(state.started_at)
    }

    fn sleep(&self, how_long: Duration) -> impl Future<Output = ()> + Send {
        let sleep: SimSleep = self.machine.shared.executor.sleep(how_long);
        sleep
    }

    fn fill(&self, bytes: &mut [u8]) {
        let shared = &self.machine.shared;
        let mut state = shared.state.lock().expect("no panic in a machine's state");
        state.entropy.fill(bytes);
        drop(state);
        let words = [u64::from(shared.id.number()), self.incarnation];
        shared.executor.note("entropy", &words, bytes);
    }

    fn spawn<F>(&self, name: &'static str, task: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let executor = &self.machine.shared.executor;
        if self.is_up() {
            let owner = Some((self.machine.id(), self.incarnation));
            Task::sim(executor.spawn(owner, name, task))
        } else {
            Task::sim(executor.stillborn(name))
        }
    }

    /// Runs `work` in place, then waits until the disk is done with it in virtual time, or at
    /// least lets others run.
    async fn blocking<T, W>(&self, work: W) -> T
    where
        W: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let shared = &self.machine.shared;
        let output = work();
        let busy_until = shared.disk.busy_until();
        if busy_until > shared.executor.now() {
            shared.executor.sleep_until(busy_until).await;
        } else {
            LetOthersRun::default().await;
        }
        output
    }

    fn disk(&self) -> &SimDisk {
        &self.disk
    }
}

/// Waits for the next turn.
#[derive(Debug, Default)]
struct LetOthersRun {
    waited: bool,
}

impl Future for LetOthersRun {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.waited {
            return Poll::Ready(());
        }
        self.waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
