//! File content made from a seed, so that no copy of it has to be kept.

use cairn_runtime::sim::SimRng;

/// A file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Decides every byte.
    pub seed: u64,
    /// How many bytes.
    pub bytes: usize,
}

impl Content {
    /// The bytes.
    #[must_use]
    pub fn make(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        SimRng::labelled(self.seed, "content").fill(&mut bytes);
        bytes
    }
}
