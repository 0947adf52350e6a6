//! The memory budget: segment buffers by the byte, handed out in order and used again.
//!
//! A [`SegmentBuffer`] is a loan: its bytes count against the budget until its last holder drops
//! it, be that the last of n puts that share it as [`bytes::Bytes`]. Buffers go back to a free
//! list, which counts as well: in use and free together never exceed the budget. Reads fill
//! buffers of their own kind under a [`Memory::hold`], which go back when the last slice of their
//! plaintext is dropped: fresh memory of a segment costs a page fault for every 4 KiB, which is as
//! much as hashing it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use cairn_core::ByteCount;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Default budget of a client: DESIGN.md section 10.
pub const MEMORY_BYTES_DEFAULT: ByteCount = ByteCount::new(160 << 20);

/// Least size of a read's buffer that is kept for the next. Smaller ones come from the allocator
/// without a call of the system.
const READ_BUFFER_BYTES_MIN: usize = 128 << 10;

/// A request is larger than the whole budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a buffer of at most {max} bytes, the memory budget, found {found}")]
pub struct OverBudget {
    /// The budget in bytes.
    pub max: usize,
    /// Bytes asked for.
    pub found: usize,
}

/// A budget of memory. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    bytes_max: usize,
    available: Arc<Semaphore>,
    free: Mutex<Free>,
}

/// Buffers that nobody uses.
#[derive(Default)]
struct Free {
    segments: Vec<Vec<u8>>,
    /// Empty, with the capacity that they were made with.
    reads: Vec<BytesMut>,
}

impl Free {
    fn bytes(&self) -> usize {
        let segments = self.segments.iter().map(Vec::len);
        segments
            .chain(self.reads.iter().map(BytesMut::capacity))
            .sum()
    }
}

impl Shared {
    fn free(&self) -> MutexGuard<'_, Free> {
        // A list of buffers is whole after each change.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: ByteCount) -> Self {
        // Permits are counted in u32 per request; 4 GiB is far above any sensible budget.
        let bytes_max = u32::try_from(bytes.get()).unwrap_or(u32::MAX);
        let bytes_max = crate::width::index(bytes_max).min(Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                bytes_max,
                available: Arc::new(Semaphore::new(bytes_max)),
                free: Mutex::default(),
            }),
        }
    }

    /// The budget.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.shared.bytes_max
    }

    /// Bytes in use now.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.shared.bytes_max - self.shared.available.available_permits()
    }

    /// A buffer of `bytes` bytes of unspecified content. Waits in line until the budget allows it.
    ///
    /// # Errors
    ///
    /// [`OverBudget`] when it never will.
    ///
    /// # Panics
    ///
    /// Never: the semaphore is not closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the place in line is lost.
    pub async fn buffer(&self, bytes: usize) -> Result<SegmentBuffer, OverBudget> {
        let permit = self.permit(bytes).await?;
        Ok(SegmentBuffer {
            bytes: self.take(bytes),
            permit: Some(permit),
            shared: Arc::clone(&self.shared),
        })
    }

    /// Holds `bytes` of the budget without a buffer: for memory that others allocate. Waits in
    /// line.
    ///
    /// # Errors
    ///
    /// [`OverBudget`] when the budget never allows it.
    ///
    /// # Panics
    ///
    /// Never: the semaphore is not closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the place in line is lost.
    pub async fn hold(&self, bytes: usize) -> Result<OwnedSemaphorePermit, OverBudget> {
        let permit = self.permit(bytes).await?;
        drop(self.trim());
        Ok(permit)
    }

    async fn permit(&self, bytes: usize) -> Result<OwnedSemaphorePermit, OverBudget> {
        let over = OverBudget {
            max: self.shared.bytes_max,
            found: bytes,
        };
        if bytes > self.shared.bytes_max {
            return Err(over);
        }
        let count = u32::try_from(bytes).map_err(|_| over)?;
        Ok(Arc::clone(&self.shared.available)
            .acquire_many_owned(count)
            .await
            .expect("the semaphore is never closed"))
    }

    /// A free buffer of that size, or a fresh one; makes the free list fit what is left.
    fn take(&self, bytes: usize) -> Vec<u8> {
        let found = {
            let mut free = self.shared.free();
            let fits = |buffer: &Vec<u8>| buffer.len() == bytes;
            let found = free.segments.iter().rposition(fits);
            found.map(|at| free.segments.swap_remove(at))
        };
        drop(self.trim());
        found.unwrap_or_else(|| vec![0; bytes])
    }

    /// An empty buffer with room for `bytes`, for a read that holds as much of the budget.
    pub(crate) fn read_buffer(&self, bytes: usize) -> BytesMut {
        let mut free = self.shared.free();
        let fits = |buffer: &BytesMut| buffer.capacity() == bytes;
        let found = free.reads.iter().rposition(fits);
        let found = found.map(|at| free.reads.swap_remove(at));
        drop(free);
        found.unwrap_or_else(|| BytesMut::with_capacity(bytes))
    }

    /// A read's bytes, to be handed up; their memory comes back with the last slice.
    pub(crate) fn share(&self, bytes: BytesMut) -> Bytes {
        if bytes.capacity() < READ_BUFFER_BYTES_MIN {
            return bytes.freeze();
        }
        Bytes::from_owner(ReadBuffer {
            bytes,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Takes out free buffers until the rest fits beside what is in use.
    fn trim(&self) -> Free {
        let available = self.shared.available.available_permits();
        let mut free = self.shared.free();
        let mut total = free.bytes();
        let mut dropped = Free::default();
        while total > available {
            if let Some(buffer) = free.segments.pop() {
                total -= buffer.len();
                dropped.segments.push(buffer);
            } else if let Some(buffer) = free.reads.pop() {
                total -= buffer.capacity();
                dropped.reads.push(buffer);
            } else {
                break;
            }
        }
        dropped
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("bytes_max", &self.bytes_max())
            .field("bytes_used", &self.bytes_used())
            .finish()
    }
}

/// A buffer on loan from a [`Memory`].
pub struct SegmentBuffer {
    bytes: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

impl Deref for SegmentBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for SegmentBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for SegmentBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for SegmentBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegmentBuffer({} bytes)", self.bytes.len())
    }
}

impl Drop for SegmentBuffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.shared.free().segments.push(bytes);
        self.permit = None;
    }
}

/// A read's buffer while slices of it are about.
struct ReadBuffer {
    bytes: BytesMut,
    shared: Arc<Shared>,
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.shared.free().reads.push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn loans_are_counted_and_buffers_used_again() {
        let memory = Memory::new(ByteCount::new(100));
        let first = memory.buffer(60).now_or_never().unwrap().unwrap();
        assert_eq!(memory.bytes_used(), 60);
        assert!(memory.buffer(60).now_or_never().is_none());
        let address = first.as_ptr();
        drop(first);
        let again = memory.buffer(60).now_or_never().unwrap().unwrap();
        assert_eq!(again.as_ptr(), address);
        drop(again);
        assert_eq!(memory.bytes_used(), 0);
        let held = memory.hold(50).now_or_never().unwrap().unwrap();
        assert_eq!(
            memory.shared.free().bytes(),
            0,
            "60 free bytes do not fit beside 50"
        );
        drop(held);
        assert!(memory.buffer(101).now_or_never().unwrap().is_err());
    }

    #[test]
    fn a_buffer_shared_as_bytes_returns_with_its_last_slice() {
        let memory = Memory::new(ByteCount::new(100));
        let buffer = memory.buffer(100).now_or_never().unwrap().unwrap();
        let bytes = Bytes::from_owner(buffer);
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(memory.bytes_used(), 100);
        drop(part);
        assert_eq!(memory.bytes_used(), 0);
    }

    #[test]
    fn the_memory_of_a_read_is_used_again_within_the_budget() {
        const SIZE: usize = READ_BUFFER_BYTES_MIN;
        let memory = Memory::new(ByteCount::new(3 * crate::width::wide(SIZE)));
        let held = memory.hold(2 * SIZE).now_or_never().unwrap().unwrap();
        let mut buffer = memory.read_buffer(SIZE);
        let mut rest = buffer.split_off(SIZE / 2);
        buffer.resize(SIZE / 2, 1);
        rest.resize(SIZE / 2, 2);
        buffer.unsplit(rest);
        let address = buffer.as_ptr();
        let bytes = memory.share(buffer);
        let part = bytes.slice(SIZE - 1..);
        drop(bytes);
        assert_eq!(memory.shared.free().bytes(), 0);
        assert_eq!(part[..], [2]);
        drop(part);
        assert_eq!(memory.shared.free().bytes(), SIZE);
        let again = memory.read_buffer(SIZE);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        assert_ne!(memory.read_buffer(SIZE + 1).as_ptr(), address);
        drop(memory.share(again));
        let all = memory.hold(SIZE).now_or_never().unwrap().unwrap();
        assert_eq!(
            memory.shared.free().bytes(),
            0,
            "all of the budget is held by others"
        );
        drop((held, all));
    }
}
