//! Where downloaded bytes go: a file or standard output, written behind the reading.
//!
//! Bytes are gathered to [`BATCH_BYTES`] and written by a thread for blocking work while the next
//! are fetched; one batch is being written and one gathered at a time.

use std::fs::File;
use std::io::{self, Write};

use bytes::Bytes;
use cairn_runtime::real::RealRuntime;
use cairn_runtime::{Runtime, Task};

use crate::failure::{Failure, FailureKind};

/// Bytes of one write: few enough to hold twice, many enough to make the switch of threads cheap.
const BATCH_BYTES: usize = 2 << 20;

/// What is written to.
#[derive(Debug)]
pub(crate) enum Target {
    /// A file, from where it is.
    File(File),
    /// Standard output.
    Output,
}

impl Target {
    fn write(&mut self, parts: &[Bytes]) -> io::Result<()> {
        match self {
            Self::File(file) => parts.iter().try_for_each(|part| file.write_all(part)),
            Self::Output => {
                let mut output = io::stdout().lock();
                parts.iter().try_for_each(|part| output.write_all(part))?;
                output.flush()
            }
        }
    }

    fn failure(&self, error: io::Error) -> Failure {
        match self {
            Self::File(_) => {
                Failure::new(FailureKind::Storage, error).while_doing("the bytes can't be written")
            }
            Self::Output => Failure::stream(error),
        }
    }
}

/// Bytes on their way to a target.
#[derive(Debug)]
pub(crate) struct Sink {
    runtime: RealRuntime,
    /// Here between batches.
    target: Option<Target>,
    writing: Option<Task<Result<Target, Failure>>>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
}

impl Sink {
    /// A sink into `target`.
    pub(crate) fn new(runtime: &RealRuntime, target: Target) -> Self {
        Self {
            runtime: runtime.clone(),
            target: Some(target),
            writing: None,
            gathered: Vec::new(),
            gathered_bytes: 0,
        }
    }

    /// Takes bytes; returns when there is room for more.
    ///
    /// # Errors
    ///
    /// Of kind storage; any part of the bytes may have been written.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.gathered_bytes = self.gathered_bytes.saturating_add(bytes.len());
        self.gathered.push(bytes);
        if self.gathered_bytes >= BATCH_BYTES {
            self.hand_over().await?;
        }
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub(crate) async fn finish(mut self) -> Result<Target, Failure> {
        self.hand_over().await?;
        self.take_back().await
    }

    /// Starts to write what is gathered, when what was before is written.
    async fn hand_over(&mut self) -> Result<(), Failure> {
        let mut target = self.take_back().await?;
        let parts = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        let runtime = self.runtime.clone();
        self.writing = Some(self.runtime.spawn("writes", async move {
            let write = move || match target.write(&parts) {
                Ok(()) => Ok(target),
                Err(error) => Err(target.failure(error)),
            };
            runtime.blocking(write).await
        }));
        Ok(())
    }

    /// The target, when nothing is being written to it any more.
    async fn take_back(&mut self) -> Result<Target, Failure> {
        if let Some(target) = self.target.take() {
            return Ok(target);
        }
        let ended = || Failure::say(FailureKind::Storage, "writing has ended");
        let writing = self.writing.take().ok_or_else(ended)?;
        writing.join().await.map_err(|_| ended())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_whatever_their_number() {
        RealRuntime::run(|runtime| async move {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut sink = Sink::new(&runtime, Target::File(file.reopen().unwrap()));
            let mut expected = Vec::new();
            for index in 0..100_u8 {
                let part = vec![index; 65_000];
                expected.extend_from_slice(&part);
                sink.write(Bytes::from(part)).await.unwrap();
            }
            sink.finish().await.unwrap();
            assert!(std::fs::read(file.path()).unwrap() == expected);
        })
        .unwrap();
    }

    #[test]
    fn a_target_that_takes_nothing_is_a_storage_failure() {
        RealRuntime::run(|runtime| async move {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let mut sink = Sink::new(&runtime, Target::File(full));
            sink.write(Bytes::from_static(b"x")).await.unwrap();
            let failure = sink.finish().await.unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Storage);
        })
        .unwrap();
    }
}
