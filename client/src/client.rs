//! What reading and writing share: peers, pooled streams, memory, views of groups.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_coding::Coder;
use cairn_core::{AccountId, ByteCount, Code, GroupId, UnixMillis};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_net::pool::{DataPool, PoolLimits};
use cairn_runtime::Runtime;

use crate::group_view::{Freshness, GroupError, GroupView, GroupViews};
use crate::memory::{MEMORY_BYTES_DEFAULT, Memory};
use crate::peers::Peers;
use crate::read::Faults;
use crate::read::hedge::HedgeBudget;
use crate::record_cache::RecordCache;

/// Most coders kept: one for each code that is in use, of which there are six profiles.
const CODERS_MAX: usize = 16;

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// Budget of segment buffers. What a process needs besides is about 64 MiB.
    pub memory: ByteCount,
    /// Streams to nodes.
    pub pool: PoolLimits,
    /// Longest wait for one answer of a node, connection included. A node that is slower is given
    /// up for that request, and others are asked.
    pub request_limit: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            memory: MEMORY_BYTES_DEFAULT,
            pool: PoolLimits::DEFAULT,
            request_limit: Duration::from_secs(10),
        }
    }
}

/// A client of a Cairn network. Opens links, and is what an [`crate::owner::Owner`] uploads with.
/// Cheap to clone; clones share connections, memory and what was learned of nodes.
pub struct Client<R: Runtime, N: Network, L: Ledger> {
    pub(crate) shared: Arc<Shared<R, N, L>>,
}

pub(crate) struct Shared<R: Runtime, N: Network, L: Ledger> {
    pub(crate) runtime: R,
    pub(crate) network: N,
    pub(crate) ledger: L,
    pub(crate) pool: DataPool<N, R>,
    pub(crate) memory: Memory,
    pub(crate) peers: Peers,
    pub(crate) config: ClientConfig,
    pub(crate) records: RecordCache,
    pub(crate) hedges: HedgeBudget,
    pub(crate) faults: Faults,
    views: GroupViews,
    coders: Mutex<BTreeMap<Code, Coder>>,
}

impl<R: Runtime, N: Network, L: Ledger> Clone for Client<R, N, L> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<R: Runtime, N: Network, L: Ledger> fmt::Debug for Client<R, N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("local", &self.shared.network.local())
            .field("memory", &self.shared.memory)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime, N: Network, L: Ledger> Client<R, N, L> {
    /// A client on a machine, a network and a ledger.
    #[must_use]
    pub fn new(runtime: R, network: N, ledger: L, config: ClientConfig) -> Self {
        let pool = DataPool::new(network.clone(), runtime.clone(), config.pool);
        Self {
            shared: Arc::new(Shared {
                runtime,
                network,
                ledger,
                pool,
                memory: Memory::new(config.memory),
                peers: Peers::default(),
                config,
                records: RecordCache::default(),
                hedges: HedgeBudget::default(),
                faults: Faults::default(),
                views: GroupViews::default(),
                coders: Mutex::default(),
            }),
        }
    }

    /// The machine that it runs on.
    #[must_use]
    pub fn runtime(&self) -> &R {
        &self.shared.runtime
    }

    /// The network that it is a peer of.
    #[must_use]
    pub fn network(&self) -> &N {
        &self.shared.network
    }

    /// The ledger that it asks.
    #[must_use]
    pub fn ledger(&self) -> &L {
        &self.shared.ledger
    }

    /// Its memory budget.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }
}

impl<R: Runtime, N: Network, L: Ledger> Shared<R, N, L> {
    /// The time by the machine's clock.
    pub(crate) fn now(&self) -> UnixMillis {
        UnixMillis::from_unix(self.runtime.now())
    }

    /// Where a group's slots are.
    pub(crate) async fn view(
        &self,
        group: GroupId,
        owner: AccountId,
        freshness: Freshness,
    ) -> Result<Arc<GroupView>, GroupError> {
        let world = (&self.ledger, &self.network, self.runtime.monotonic());
        self.views.get(world, group, owner, freshness).await
    }

    /// The coder of a code, prepared once.
    pub(crate) fn coder(&self, code: Code) -> Coder {
        let mut coders = self.coders.lock().unwrap_or_else(PoisonError::into_inner);
        if coders.len() >= CODERS_MAX {
            coders.clear();
        }
        coders
            .entry(code)
            .or_insert_with(|| Coder::new(code))
            .clone()
    }
}
