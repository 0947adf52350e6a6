//! Where the seeds of blocks come from.

use cairn_core::{Digest, Height, LedgerId, SecretKey};

/// Domain of what is signed.
const ROUND_CONTEXT: &str = "cairn 1 sequencer round";
/// Domain of the seed.
const SEED_CONTEXT: &str = "cairn 1 sequencer seed";

/// Makes each block's seed from a secret key and the height: the digest of a deterministic
/// signature. Nobody without the key can know it before the block is final; its holder knows all
/// of them, and is trusted not to use that (docs/adr/0001-sequencer-before-bft.md).
#[derive(Clone, Debug)]
pub(crate) struct SeedSource {
    key: SecretKey,
    ledger: LedgerId,
}

impl SeedSource {
    pub(crate) const fn new(key: SecretKey, ledger: LedgerId) -> Self {
        Self { key, ledger }
    }

    /// The seed of the block at `height`.
    pub(crate) fn seed(&self, height: Height) -> Digest {
        let mut round = [0; Digest::BYTES + 8];
        let (ledger, number) = round.split_at_mut(Digest::BYTES);
        ledger.copy_from_slice(self.ledger.as_bytes());
        number.copy_from_slice(&height.get().to_le_bytes());
        let message = Digest::keyed(ROUND_CONTEXT, &round);
        Digest::keyed(SEED_CONTEXT, self.key.sign(message.as_bytes()).as_bytes())
    }
}
