//! Where the seeds of a sequencer's blocks come from.

use cairn_core::{Bounded, Digest, LedgerId, SecretKey, ViewNumber};
use cairn_ledger::ViewSeed;
use cairn_runtime::Disk;

use crate::store::Loaded;

/// Domain of what is signed.
const ROUND_CONTEXT: &str = "cairn 1 sequencer round";

/// Makes each view's seed from a secret key and the view: a deterministic signature. Nobody without
/// the key can know it before a block carries it; its holder knows all of them, and is trusted not
/// to use that (docs/adr/0001-sequencer-before-bft.md).
#[derive(Clone, Debug)]
pub(crate) struct SeedSource {
    key: SecretKey,
    ledger: LedgerId,
}

impl SeedSource {
    /// That of a sequencer's folder; `None` when it is none.
    pub(crate) fn of<D: Disk>(loaded: &Loaded<D>) -> Option<Self> {
        Some(Self {
            key: loaded.key.clone()?,
            ledger: loaded.state.ledger_id(),
        })
    }

    /// The seed of a view.
    pub(crate) fn seed(&self, view: ViewNumber) -> ViewSeed {
        let mut round = [0; Digest::BYTES + 8];
        let (ledger, number) = round.split_at_mut(Digest::BYTES);
        ledger.copy_from_slice(self.ledger.as_bytes());
        number.copy_from_slice(&view.get().to_le_bytes());
        let message = Digest::keyed(ROUND_CONTEXT, &round);
        let signature = self.key.sign(message.as_bytes());
        ViewSeed {
            view,
            signature: Bounded::new(signature.as_bytes().to_vec()).expect("64 bytes"),
        }
    }
}
