//! A world in one thread from one seed: machines with clock, entropy, tasks and disk.
//!
//! Same seed, same run: the seed decides which task runs next, what entropy machines draw, what a
//! loss of power leaves of a disk; time is virtual and jumps to the next timer when nothing can
//! run. [`Sim::trace_digest`] shows that two runs took the same steps.
//!
//! What code must do to keep it so: wait only for what this crate, `tokio::sync`, `tokio::io`
//! traits or `futures` give; start `tokio::select!` with `biased;` and not use `futures::select!`
//! (both else draw from the system's entropy); not iterate over hash maps; not start threads.
//! In which order tasks are woken in one poll does not count: a `tokio::sync::watch` wakes its
//! receivers in an order from the system's entropy. So no one task may wait for two receivers of
//! one `watch` through a `FuturesUnordered`, which polls in the order of the wakes.
//! Tasks started past this crate panic, since no tokio runtime is running.
//!
//! A panic in any task goes through [`Sim::run`]: in a release build it would have ended the
//! process.
//!
//! ```
//! use std::path::Path;
//! use std::time::Duration;
//!
//! use cairn_runtime::{Disk, Runtime, Sim};
//!
//! let sim = Sim::new(7);
//! sim.run(async |sim| {
//!     let machine = sim.machine("one");
//!     let runtime = machine.runtime();
//!     let task = runtime.spawn("writes", {
//!         let runtime = runtime.clone();
//!         async move {
//!             runtime.sleep(Duration::from_secs(3600)).await;
//!             let path = Path::new("/data");
//!             runtime.disk().replace_file(path, b"durable")
//!         }
//!     });
//!     task.join().await.unwrap().unwrap();
//!     machine.crash();
//!     let runtime = machine.restart();
//!     let content = runtime.disk().read_file(Path::new("/data"), 100);
//!     assert_eq!(content.unwrap(), b"durable");
//! });
//! ```

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::Task;

mod disk;
mod executor;
mod machine;
mod rng;
mod trace;

pub use disk::{
    DiskFault, DiskFaults, DiskSpeed, MachineDown, SimDisk, SimFile, SimLock, is_machine_down,
};
use executor::Executor;
pub use executor::SimSleep;
pub(crate) use executor::SimTask;
use machine::MachineShared;
pub use machine::{ClockError, Machine, MachineId, SimRuntime};
pub use rng::SimRng;
pub use trace::TraceEvent;

/// A simulated world. Cheap to clone; all clones are the same world.
#[derive(Clone, Debug)]
pub struct Sim {
    world: Arc<World>,
}

struct World {
    seed: u64,
    executor: Arc<Executor>,
    machines: Mutex<Vec<Arc<MachineShared>>>,
    down_hooks: Mutex<Vec<Arc<DownHook>>>,
}

/// Called with a machine that has just gone down.
type DownHook = dyn Fn(MachineId) + Send + Sync;

impl Sim {
    /// The world of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            world: Arc::new(World {
                seed,
                executor: Arc::new(Executor::new(seed)),
                machines: Mutex::default(),
                down_hooks: Mutex::default(),
            }),
        }
    }

    /// The seed that all follows from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.world.seed
    }

    /// Runs `main` to its end, and with it the tasks of all machines. What tasks remain then are
    /// dropped.
    ///
    /// # Panics
    ///
    /// When any task panics; when nothing can run and no timer is set; when tasks run millions of
    /// times without time moving on; when called inside a tokio runtime.
    pub fn run<T>(&self, main: impl AsyncFnOnce(Self) -> T) -> T {
        assert!(
            tokio::runtime::Handle::try_current().is_err(),
            "a simulated world runs outside of tokio"
        );
        let executor = &self.world.executor;
        let _on_panic = SayHowToRepeat { sim: self };
        let main = pin!(main(self.clone()));
        let output = executor.run(main, || self.settle_power_cuts());
        executor.end();
        output
    }

    /// The machine of that name; made, and up, when there was none.
    #[must_use]
    pub fn machine(&self, name: &str) -> Machine {
        let mut machines = self.lock_machines();
        let found = machines.iter().find(|machine| machine.name() == name);
        let shared = match found {
            Some(found) => Arc::clone(found),
            None => {
                let id = MachineId::new(machines.len());
                let executor = Arc::clone(&self.world.executor);
                let made = Arc::new(MachineShared::new(id, name, self.world.seed, executor));
                machines.push(Arc::clone(&made));
                made
            }
        };
        Machine::new(self.clone(), shared)
    }

    /// All machines, in the order in which they were made.
    #[must_use]
    pub fn machines(&self) -> Vec<Machine> {
        let machines = self.lock_machines();
        machines
            .iter()
            .map(|shared| Machine::new(self.clone(), Arc::clone(shared)))
            .collect()
    }

    fn lock_machines(&self) -> MutexGuard<'_, Vec<Arc<MachineShared>>> {
        let machines = self.world.machines.lock();
        machines.expect("no panic while listing machines")
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.world.executor.now()
    }

    /// Waits in virtual time.
    pub fn sleep(&self, how_long: Duration) -> SimSleep {
        self.world.executor.sleep(how_long)
    }

    /// Waits until a point in virtual time; not at all when it has passed.
    pub fn sleep_until(&self, deadline: Duration) -> SimSleep {
        self.world.executor.sleep_until(deadline)
    }

    /// Starts a task that belongs to no machine and so survives their crashes: for what makes up
    /// the world between machines, and for tests.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Task::sim(self.world.executor.spawn(None, name, task))
    }

    /// A stream of choices for `label`, the same in every run of this seed.
    #[must_use]
    pub fn rng(&self, label: &str) -> SimRng {
        SimRng::labelled(self.world.seed, label)
    }

    /// Adds an event to the trace, with the virtual time. At most four words count.
    pub fn note(&self, kind: &'static str, words: &[u64], bytes: &[u8]) {
        self.world.executor.note(kind, words, bytes);
    }

    /// The digest of all events so far.
    #[must_use]
    pub fn trace_digest(&self) -> u64 {
        self.world.executor.trace.digest()
    }

    /// Keeps the last `most` events from now on: to find where two runs part.
    pub fn keep_events(&self, most: usize) {
        self.world.executor.trace.keep(most);
    }

    /// Takes the events kept so far, oldest first.
    #[must_use]
    pub fn take_events(&self) -> Vec<TraceEvent> {
        self.world.executor.trace.take_kept()
    }

    /// Calls `hook` whenever a machine has gone down, after its tasks are gone.
    ///
    /// # Panics
    ///
    /// Does not: the list is never held while a hook runs.
    pub fn on_down(&self, hook: impl Fn(MachineId) + Send + Sync + 'static) {
        let mut hooks = self
            .world
            .down_hooks
            .lock()
            .expect("no panic while listing");
        hooks.push(Arc::new(hook));
    }

    /// Ends what belongs to a machine that went down.
    fn settle_down(&self, machine: &MachineShared) {
        let owner = Some((machine.id(), machine.incarnation()));
        self.world.executor.abort_tasks(|task| task == owner);
        let hooks = self
            .world
            .down_hooks
            .lock()
            .expect("no panic while listing");
        let hooks: Vec<Arc<DownHook>> = hooks.clone();
        for hook in hooks {
            hook(machine.id());
        }
    }

    /// Ends what belongs to machines whose power went out in a disk call.
    fn settle_power_cuts(&self) {
        if !self.world.executor.take_power_cut() {
            return;
        }
        let machines: Vec<Arc<MachineShared>> = self.lock_machines().clone();
        for machine in machines {
            if machine.take_power_cut() {
                self.settle_down(&machine);
            }
        }
    }
}

/// Says on a panic which run it was.
struct SayHowToRepeat<'a> {
    sim: &'a Sim,
}

impl Drop for SayHowToRepeat<'_> {
    #[expect(
        clippy::print_stderr,
        reason = "a failed simulation says how to repeat it, beside the panic's own message"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, elapsed) = (self.sim.seed(), self.sim.elapsed());
            eprintln!("simulation failed: seed {seed}, after {elapsed:?} of virtual time");
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
