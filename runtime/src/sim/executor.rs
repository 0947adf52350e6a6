//! The simulated machine park's only thread: tasks, timers and virtual time.
//!
//! Of the tasks that can run, the seed picks the next. When none can, time jumps to the next
//! timer. Nothing here looks at a wall clock, an address or a thread.
//!
//! Lock order: `state`, then the ready list inside a waker. No lock is held while a future is
//! polled or dropped, or a waker called, since those call back.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::oneshot;

use super::machine::MachineId;
use super::rng::SimRng;
use super::trace::Trace;

/// Most polls without time moving on. A run that needs more spins without waiting for anything.
const POLLS_PER_INSTANT_MAX: u64 = 5_000_000;
/// Timers fire at multiples of this and at least one later: time moves on in every loop that
/// sleeps, even for no time.
const TIMER_GRAIN: Duration = Duration::from_micros(1);

/// What a task belongs to: a machine in one incarnation, or the world.
pub(super) type Owner = Option<(MachineId, u64)>;

type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tasks, timers and time of one simulated world.
pub(super) struct Executor {
    state: Mutex<State>,
    ready: Arc<Ready>,
    /// Some machine's power went out in the poll that runs.
    power_cut: AtomicBool,
    pub(super) trace: Trace,
}

struct State {
    now: Duration,
    next_id: u64,
    tasks: BTreeMap<u64, Entry>,
    timers: BTreeMap<(Duration, u64), Waker>,
    rng: SimRng,
    polls: u64,
}

struct Entry {
    header: Arc<Header>,
    /// Absent while it is polled.
    future: Option<TaskFuture>,
}

#[derive(Default)]
struct Ready {
    /// At most one entry per task, by rising id: in which order tasks were woken must not count,
    /// since wakers are kept by others (`tokio::sync::watch` wakes in an order from the system's
    /// entropy; test `the_order_of_wakes_does_not_count`).
    list: Mutex<Vec<Arc<Header>>>,
}

/// What a task's waker, handle and owner share.
pub(super) struct Header {
    /// 0 is the main future.
    id: u64,
    name: &'static str,
    owner: Owner,
    queued: AtomicBool,
    aborted: AtomicBool,
    finished: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Header {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let mut list = self.ready.list.lock().expect("no panic while queueing");
            let place = list.partition_point(|other| other.id < self.id);
            list.insert(place, Arc::clone(self));
        }
    }
}

impl Executor {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                now: Duration::ZERO,
                next_id: 1,
                tasks: BTreeMap::new(),
                timers: BTreeMap::new(),
                rng: SimRng::labelled(seed, "executor"),
                polls: 0,
            }),
            ready: Arc::default(),
            power_cut: AtomicBool::new(false),
            trace: Trace::new(seed),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in here ends the run; what is dropped then still has timers to take out.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Virtual time since the start.
    pub(super) fn now(&self) -> Duration {
        self.state().now
    }

    /// Notes an event with its time.
    pub(super) fn note(&self, kind: &'static str, words: &[u64], bytes: &[u8]) {
        self.trace.feed(self.now(), kind, words, bytes);
    }

    /// Starts a task.
    pub(super) fn spawn<F>(&self, owner: Owner, name: &'static str, task: F) -> SimTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (sender, output) = oneshot::channel();
        let future: TaskFuture = Box::pin(async move {
            // The output is lost when nobody joins.
            drop(sender.send(task.await));
        });
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        let header = self.header(id, name, owner);
        let entry = Entry {
            header: Arc::clone(&header),
            future: Some(future),
        };
        state.tasks.insert(id, entry);
        drop(state);
        self.note("spawn", &[id], name.as_bytes());
        header.wake_by_ref();
        SimTask { output, header }
    }

    /// A task that never runs: its machine is down.
    pub(super) fn stillborn<T>(&self, name: &'static str) -> SimTask<T> {
        let (sender, output) = oneshot::channel();
        drop(sender);
        let header = self.header(u64::MAX, name, None);
        header.finished.store(true, Ordering::Relaxed);
        // Never queued again: there is nothing to poll.
        header.queued.store(true, Ordering::Relaxed);
        SimTask { output, header }
    }

    fn header(&self, id: u64, name: &'static str, owner: Owner) -> Arc<Header> {
        Arc::new(Header {
            id,
            name,
            owner,
            queued: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            ready: Arc::clone(&self.ready),
        })
    }

    /// Polls `main` and all tasks until `main` is done. `between` runs after every poll.
    pub(super) fn run<F: Future>(&self, mut main: Pin<&mut F>, between: impl Fn()) -> F::Output {
        let header = self.header(0, "main", None);
        let waker = Waker::from(Arc::clone(&header));
        header.wake_by_ref();
        loop {
            let Some(next) = self.pick() else {
                assert!(
                    self.advance(),
                    "the simulation is stuck: nothing can run and no timer is set"
                );
                continue;
            };
            next.queued.store(false, Ordering::Relaxed);
            if next.id == 0 {
                let polled = main.as_mut().poll(&mut Context::from_waker(&waker));
                if let Poll::Ready(output) = polled {
                    return output;
                }
            } else {
                self.poll_task(&next);
            }
            between();
        }
    }

    /// One of those that can run, by the seed.
    fn pick(&self) -> Option<Arc<Header>> {
        let mut state = self.state();
        let mut list = self.ready.list.lock().expect("no panic while queueing");
        if list.is_empty() {
            return None;
        }
        let index = state.rng.index(list.len());
        let header = list.remove(index);
        drop(list);
        state.polls += 1;
        assert!(
            state.polls <= POLLS_PER_INSTANT_MAX,
            "{} polls without time moving on; the last one of task {:?}",
            state.polls,
            header.name
        );
        let now = state.now;
        drop(state);
        let name = header.name.as_bytes();
        self.trace.feed(now, "poll", &[header.id], name);
        Some(header)
    }

    fn poll_task(&self, header: &Arc<Header>) {
        let taken = match self.state().tasks.get_mut(&header.id) {
            Some(entry) => entry.future.take(),
            None => return,
        };
        let Some(mut future) = taken else {
            return;
        };
        if !header.aborted.load(Ordering::Relaxed) {
            let waker = Waker::from(Arc::clone(header));
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            let mut state = self.state();
            // Gone from the list when it was aborted while it ran.
            if polled.is_pending()
                && let Some(entry) = state.tasks.get_mut(&header.id)
            {
                entry.future = Some(future);
                return;
            }
            drop(state);
        }
        drop(future);
        self.state().tasks.remove(&header.id);
        header.finished.store(true, Ordering::Relaxed);
        self.note("end", &[header.id], &[]);
    }

    /// Moves time to the next timers and wakes what waits for them; false when there is none.
    fn advance(&self) -> bool {
        let mut state = self.state();
        let Some((&(next, _), _)) = state.timers.first_key_value() else {
            return false;
        };
        assert!(state.now <= next, "time does not go back");
        state.now = next;
        state.polls = 0;
        let mut due = Vec::new();
        while let Some(timer) = state.timers.first_entry() {
            if timer.key().0 > next {
                break;
            }
            let ((_, id), waker) = timer.remove_entry();
            due.push((id, waker));
        }
        drop(state);
        for (id, waker) in due {
            self.trace.feed(next, "timer", &[id], &[]);
            waker.wake();
        }
        true
    }

    /// Drops the tasks that `chosen` picks by their owner.
    pub(super) fn abort_tasks(&self, chosen: impl Fn(Owner) -> bool) {
        let mut state = self.state();
        let ids: Vec<u64> = state
            .tasks
            .iter()
            .filter(|(_, entry)| chosen(entry.header.owner))
            .map(|(id, _)| *id)
            .collect();
        let entries: Vec<Entry> = ids.iter().filter_map(|id| state.tasks.remove(id)).collect();
        drop(state);
        for entry in entries {
            entry.header.aborted.store(true, Ordering::Relaxed);
            entry.header.finished.store(true, Ordering::Relaxed);
            self.note("abort", &[entry.header.id], &[]);
            drop(entry.future);
        }
    }

    /// Drops all tasks and timers: the world ends.
    pub(super) fn end(&self) {
        self.abort_tasks(|_| true);
        let timers = std::mem::take(&mut self.state().timers);
        drop(timers);
        let ready = std::mem::take(&mut *self.ready.list.lock().expect("no panic while queueing"));
        drop(ready);
    }

    pub(super) fn flag_power_cut(&self) {
        self.power_cut.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_power_cut(&self) -> bool {
        self.power_cut.swap(false, Ordering::Relaxed)
    }

    /// A timer for `how_long` from now.
    pub(super) fn sleep(self: &Arc<Self>, how_long: Duration) -> SimSleep {
        self.sleep_until(self.now().saturating_add(how_long.max(TIMER_GRAIN)))
    }

    /// A timer for a point in virtual time; at once when it has passed.
    pub(super) fn sleep_until(self: &Arc<Self>, deadline: Duration) -> SimSleep {
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        SimSleep {
            executor: Arc::clone(self),
            deadline: round_up(deadline),
            id,
        }
    }
}

/// Timers fire on the grain.
fn round_up(deadline: Duration) -> Duration {
    let grain = TIMER_GRAIN.as_nanos();
    let nanos = deadline.as_nanos().div_ceil(grain).saturating_mul(grain);
    u64::try_from(nanos).map_or(Duration::from_nanos(u64::MAX), Duration::from_nanos)
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").finish_non_exhaustive()
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} {:?} of {:?}", self.id, self.name, self.owner)
    }
}

/// A wait in virtual time.
#[derive(Debug)]
#[must_use = "it waits only when awaited"]
pub struct SimSleep {
    executor: Arc<Executor>,
    deadline: Duration,
    id: u64,
}

impl SimSleep {
    /// When it ends, in virtual time since the start.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }
}

impl Future for SimSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.executor.state();
        let key = (self.deadline, self.id);
        if state.now >= self.deadline {
            let old = state.timers.remove(&key);
            drop(state);
            drop(old);
            return Poll::Ready(());
        }
        let old = state.timers.insert(key, context.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl Drop for SimSleep {
    fn drop(&mut self) {
        let old = self
            .executor
            .state()
            .timers
            .remove(&(self.deadline, self.id));
        drop(old);
    }
}

/// A task's output to come, and the way to end it.
pub(crate) struct SimTask<T> {
    output: oneshot::Receiver<T>,
    header: Arc<Header>,
}

impl<T> SimTask<T> {
    /// Its output; `None` when it was aborted.
    pub(crate) async fn output(&mut self) -> Option<T> {
        (&mut self.output).await.ok()
    }

    /// Drops it when it is its turn.
    pub(crate) fn abort(&self) {
        if !self.is_finished() {
            self.header.aborted.store(true, Ordering::Relaxed);
            self.header.wake_by_ref();
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.header.finished.load(Ordering::Relaxed)
    }
}
