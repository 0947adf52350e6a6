//! What a process has used of the machine, as it says itself.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Unit of the times in `/proc/self/stat`: `USER_HZ`, 100 on every Linux that we run on.
const TICK: Duration = Duration::from_millis(10);

/// What a process has used since its start.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Figures {
    /// CPU time of all its threads, to the nanosecond.
    pub(super) cpu: Duration,
    /// Of that, time in the kernel, to 10 ms.
    pub(super) kernel: Duration,
    /// Most resident memory at any time, in bytes.
    pub(super) memory_peak: u64,
    /// Page faults that needed no disk.
    pub(super) faults: u64,
    /// Times that a thread gave its processor up to wait.
    pub(super) waits: u64,
}

impl Figures {
    /// Of this process, as of now.
    pub(super) fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
        // The name in brackets may hold blanks; what follows it does not.
        let (_, fields) = stat.rsplit_once(") ").context("the fields of stat")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |at: usize| -> Result<u64> {
            let text = fields.get(at).context("a field of stat")?;
            Ok(text.parse()?)
        };
        let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
        let kib = line(&status, "VmHWM:")?;
        let ticks = u32::try_from(field(12)?)?;
        Ok(Self {
            cpu: process_cpu_time(),
            kernel: TICK.saturating_mul(ticks),
            memory_peak: kib.saturating_mul(1024),
            faults: field(7)?,
            waits: waits()?,
        })
    }

    /// What was used between `earlier` and this; the peak is that of the whole life.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            kernel: self.kernel.saturating_sub(earlier.kernel),
            memory_peak: self.memory_peak,
            faults: self.faults.saturating_sub(earlier.faults),
            waits: self.waits.saturating_sub(earlier.waits),
        }
    }

    /// What both used together; the peak is the larger one.
    pub(super) fn with(&self, other: &Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            kernel: self.kernel.saturating_add(other.kernel),
            memory_peak: self.memory_peak.max(other.memory_peak),
            faults: self.faults.saturating_add(other.faults),
            waits: self.waits.saturating_add(other.waits),
        }
    }
}

/// CPU time of this process since its start.
///
/// # Panics
///
/// If the operating system's clock is negative.
pub(crate) fn process_cpu_time() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// Time since some fixed point; never goes back.
pub(crate) fn wall_time() -> Duration {
    clock(ClockId::Monotonic)
}

fn clock(id: ClockId) -> Duration {
    Duration::try_from(clock_gettime(id)).expect("these clocks count up from 0")
}

/// Waits of all threads that live now.
fn waits() -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // A thread that has ended meanwhile.
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else {
            continue;
        };
        sum += line(&status, "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

/// The number on the line that begins with `name`.
fn line(text: &str, name: &str) -> Result<u64> {
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("{name} in /proc"))?;
    let number = rest.split_whitespace().next().context("a number")?;
    Ok(number.parse()?)
}
