//! An owner's side: groups to write to, revisions, and the folder that remembers them.
//!
//! ```text
//! <state folder>/groups/<group id>/{journal, lock}     the book of each group, see `book`
//! <state folder>/uploads/<source id>/{journal, lock}   uploads that can be resumed
//! ```
//!
//! Several processes may share a state folder: each group is written by one at a time, and one
//! that finds all groups taken opens another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_core::{
    Amount, ByteCount, Capability, CapabilityLink, GroupId, Profile, Right, Scope, UnixMillis,
};
use cairn_ledger::{Ledger, LedgerError, TxBody, TxError, TxOutcome, submit_body};
use cairn_net::Network;
use cairn_runtime::{Disk, EntryKind, Runtime};

use crate::book::{Book, BookError, Opened};
use crate::client::Client;
use crate::key::OwnerKeys;
use crate::link::LINK_LIFETIME_DEFAULT;
use crate::segment::{Layout, LayoutError};

mod error;
mod fund;
mod open;
mod remove;
mod revise;
mod segments;
pub(crate) mod writer;

pub use error::{CloseError, OpenGroupError, RemoveError, ReviseError};
pub use fund::{Added, FundError, GroupFunds};
pub use remove::Removed;
pub use segments::SegmentError;
use segments::Segments;
use writer::{Writer, lock};

/// Tries to submit when other processes of the owner submit too.
const NONCE_ATTEMPTS: usize = 8;
/// How long a write capability is good for.
const WRITE_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// A write capability is renewed when it ends within this time.
const WRITE_RENEW: Duration = Duration::from_secs(3_600);
/// Share of the memory budget that one segment may take: two are encoded, two are under way.
const SEGMENTS_IN_BUDGET: usize = 4;

/// How an owner's uploads behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerConfig {
    /// Code and shard size of new groups.
    pub profile: Profile,
    /// Capacity of each slot of a new group; halved as often as needed when nodes have less room.
    pub slot_capacity: ByteCount,
    /// Most that a node may ask, in micro-credits per GiB and epoch.
    pub price_max: Amount,
    /// Term of a new group in epochs. It is prolonged while the group is written to.
    pub term_epochs: u32,
    /// A new group's escrow pays for so many epochs of full slots at the highest price, if the
    /// owner's balance does; it is filled up while the group is written to.
    pub escrow_epochs: u32,
    /// A group is revised at least this often while it is written to: once per epoch at least.
    pub revise_interval: Duration,
    /// How long failing nodes are tried again while a segment has too few receipts.
    pub put_patience: Duration,
    /// How long links are good for.
    pub link_lifetime: Duration,
}

impl OwnerConfig {
    /// The usual, for groups of `profile`.
    #[must_use]
    pub const fn new(profile: Profile) -> Self {
        Self {
            profile,
            slot_capacity: ByteCount::new(16 << 30),
            price_max: Amount::from_micro(1_000_000),
            term_epochs: 24 * 365,
            // A month of hours.
            escrow_epochs: 24 * 30,
            // Half an epoch of an hour.
            revise_interval: Duration::from_secs(1_800),
            put_patience: Duration::from_secs(10),
            link_lifetime: LINK_LIFETIME_DEFAULT,
        }
    }
}

/// An owner: keys, state folder, and the groups that this process writes. Cheap to clone.
pub struct Owner<R: Runtime, N: Network, L: Ledger> {
    pub(crate) shared: Arc<OwnerShared<R, N, L>>,
}

pub(crate) struct OwnerShared<R: Runtime, N: Network, L: Ledger> {
    pub(crate) client: Client<R, N, L>,
    pub(crate) keys: OwnerKeys,
    pub(crate) folder: PathBuf,
    pub(crate) config: OwnerConfig,
    writers: tokio::sync::Mutex<Writers<R::Disk>>,
    /// One transaction at a time, for their numbering.
    submitting: tokio::sync::Mutex<()>,
    capabilities: Mutex<BTreeMap<GroupId, (Capability, UnixMillis)>>,
    /// Segments of volumes that are under way.
    segments: Mutex<Segments<R>>,
}

struct Writers<D: Disk> {
    open: BTreeMap<GroupId, Arc<Writer<D>>>,
    /// Groups that were looked at and are not for this process: taken, or unknown to the ledger.
    passed_over: BTreeSet<GroupId>,
}

impl<R: Runtime, N: Network, L: Ledger> Clone for Owner<R, N, L> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<R: Runtime, N: Network, L: Ledger> fmt::Debug for Owner<R, N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner")
            .field("keys", &self.shared.keys)
            .field("folder", &self.shared.folder)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime, N: Network, L: Ledger> Owner<R, N, L> {
    /// An owner whose state is in `folder`, which must exist.
    #[must_use]
    pub fn new(
        client: Client<R, N, L>,
        keys: OwnerKeys,
        folder: &Path,
        config: OwnerConfig,
    ) -> Self {
        Self {
            shared: Arc::new(OwnerShared {
                client,
                keys,
                folder: folder.to_owned(),
                config,
                writers: tokio::sync::Mutex::new(Writers {
                    open: BTreeMap::new(),
                    passed_over: BTreeSet::new(),
                }),
                submitting: tokio::sync::Mutex::new(()),
                capabilities: Mutex::default(),
                segments: Mutex::default(),
            }),
        }
    }

    /// The client that it works with.
    #[must_use]
    pub fn client(&self) -> &Client<R, N, L> {
        &self.shared.client
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &OwnerKeys {
        &self.shared.keys
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &OwnerConfig {
        &self.shared.config
    }

    /// Revises every group of this owner that has unrevised segments and that no other process
    /// writes: what was uploaded is then committed to on the ledger.
    ///
    /// # Errors
    ///
    /// [`ReviseError`] of the first group that failed; the others are revised all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; some groups may not be revised.
    pub async fn sync(&self) -> Result<(), ReviseError> {
        self.shared.load_all().await?;
        let mut first = Ok(());
        for writer in self.shared.open_writers().await {
            let done = self.shared.revise(&writer).await;
            first = first.and(done.map(|_| ()));
        }
        first
    }

    /// Keeps every group paid whose book is in the folder: prolongs its term and fills its escrow
    /// up when either will not do for half of what a new group gets, as far as the balance allows.
    /// An owner does it now and then as long as its data is wanted; [`Self::close`] does it too.
    ///
    /// # Errors
    ///
    /// [`FundError`] of the first group that failed; those before are paid.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; some groups may not be paid.
    pub async fn keep_paid(&self) -> Result<Vec<GroupFunds>, FundError> {
        self.shared.keep_all_paid().await
    }

    /// Revises what this process wrote, keeps the owner's groups paid, and lets those written go.
    ///
    /// # Errors
    ///
    /// [`CloseError`]; the groups are let go all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; some groups may not be revised or let go.
    pub async fn close(&self) -> Result<(), CloseError> {
        let mut first = Ok(());
        let mut looked_after = BTreeSet::new();
        for writer in self.shared.open_writers().await {
            let revised = self.shared.revise(&writer).await;
            if revised.is_ok() {
                looked_after.insert(writer.opened.group);
            }
            let runtime = self.shared.client.runtime();
            let closed = writer.with_book(runtime, Book::close).await;
            first = first
                .and(revised.map(|_| ()).map_err(CloseError::from))
                .and(closed.map_err(CloseError::from));
        }
        self.shared.writers.lock().await.open.clear();
        // What was written is safe for now; who wants to know calls `keep_paid`.
        if let Err(error) = self.shared.keep_others_paid(&looked_after).await {
            tracing::warn!(%error, "the groups' escrows and terms are not all renewed");
        }
        first
    }
}

impl<R: Runtime, N: Network, L: Ledger> OwnerShared<R, N, L> {
    fn groups_folder(&self) -> PathBuf {
        self.folder.join("groups")
    }

    pub(crate) async fn open_writers(&self) -> Vec<Arc<Writer<R::Disk>>> {
        self.writers.lock().await.open.values().cloned().collect()
    }

    /// The writer of a group, opened when no other process has it.
    pub(crate) async fn writer_of(
        &self,
        group: GroupId,
    ) -> Result<Arc<Writer<R::Disk>>, OpenGroupError> {
        let mut writers = self.writers.lock().await;
        if let Some(writer) = writers.open.get(&group) {
            return Ok(Arc::clone(writer));
        }
        let writer = self.load(group).await?;
        writers.open.insert(group, Arc::clone(&writer));
        Ok(writer)
    }

    /// A group with room for a full segment: one that is open, else one in the folder, else a new
    /// one.
    pub(crate) async fn writer_with_room(&self) -> Result<Arc<Writer<R::Disk>>, OpenGroupError> {
        let mut writers = self.writers.lock().await;
        let open: Vec<_> = writers.open.values().cloned().collect();
        for writer in open {
            if self.has_room(&writer).await? {
                return Ok(writer);
            }
        }
        for group in self.kept_groups().await? {
            if writers.open.contains_key(&group) || writers.passed_over.contains(&group) {
                continue;
            }
            match self.load(group).await {
                Ok(writer) => {
                    let fits = self.has_room(&writer).await?;
                    if fits {
                        writers.open.insert(group, Arc::clone(&writer));
                        return Ok(writer);
                    }
                    let runtime = self.client.runtime();
                    let is_dirty = writer
                        .with_book(runtime, |book| Ok(book.is_dirty()))
                        .await?;
                    if is_dirty {
                        writers.open.insert(group, writer);
                    } else {
                        writers.passed_over.insert(group);
                    }
                }
                Err(error) if error.is_passing() => {
                    tracing::debug!(%group, %error, "passed over");
                    writers.passed_over.insert(group);
                }
                Err(error) => return Err(error),
            }
        }
        let writer = self.open_group().await?;
        writers
            .open
            .insert(writer.opened.group, Arc::clone(&writer));
        Ok(writer)
    }

    /// Opens every group in the folder that no other process has.
    async fn load_all(&self) -> Result<(), OpenGroupError> {
        let mut writers = self.writers.lock().await;
        for group in self.kept_groups().await? {
            if writers.open.contains_key(&group) {
                continue;
            }
            match self.load(group).await {
                Ok(writer) => {
                    writers.open.insert(group, writer);
                }
                Err(error) if error.is_passing() => {
                    tracing::debug!(%group, %error, "passed over");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn has_room(&self, writer: &Arc<Writer<R::Disk>>) -> Result<bool, OpenGroupError> {
        let wanted = self.layout()?;
        if writer.layout != wanted {
            return Ok(false);
        }
        let shard_bytes = wanted.shard_bytes();
        let room = writer
            .with_book(self.client.runtime(), move |book| {
                Ok(book.has_room(shard_bytes))
            })
            .await?;
        Ok(room)
    }

    /// The groups whose books are in the folder.
    async fn kept_groups(&self) -> Result<Vec<GroupId>, OpenGroupError> {
        let folder = self.groups_folder();
        let runtime = self.client.runtime();
        let disk = runtime.disk().clone();
        let names = runtime
            .blocking(move || {
                disk.create_dir_all(&folder)?;
                disk.list(&folder)
            })
            .await
            .map_err(BookError::from)?;
        Ok(names
            .into_iter()
            .filter(|entry| entry.kind == EntryKind::Directory)
            .filter_map(|entry| entry.name.parse().ok())
            .collect())
    }

    async fn load(&self, group: GroupId) -> Result<Arc<Writer<R::Disk>>, OpenGroupError> {
        let folder = self.groups_folder().join(group.to_string());
        let runtime = self.client.runtime();
        let disk = runtime.disk().clone();
        let book = runtime.blocking(move || Book::open(&disk, &folder)).await?;
        let found = self.client.ledger().group(group).await?;
        let Some(found) = found.filter(|group| group.is_placed() && group.is_open()) else {
            return Err(OpenGroupError::Refunded { group });
        };
        let layout = self.layout_of(book.opened())?;
        let writer = Writer::new(book, layout, found.relaxed.clone());
        let revision = found.revision;
        writer
            .with_book(runtime, move |book| book.settle(&revision))
            .await?;
        *lock(&writer.revised_at) = self.client.runtime().monotonic();
        Ok(Arc::new(writer))
    }

    pub(crate) fn layout(&self) -> Result<Layout, LayoutError> {
        let profile = self.config.profile;
        let share = self.client.memory().bytes_max() / SEGMENTS_IN_BUDGET;
        Layout::new(profile.code(), profile.shard_bytes_max(), share)
    }

    fn layout_of(&self, opened: &Opened) -> Result<Layout, LayoutError> {
        let share = self.client.memory().bytes_max() / SEGMENTS_IN_BUDGET;
        Layout::new(opened.code, opened.shard_bytes_max, share)
    }

    /// Submits one transaction of the owner and waits until it is final.
    pub(crate) async fn submit(&self, body: TxBody) -> Result<TxOutcome, LedgerError> {
        let _line = self.submitting.lock().await;
        let ledger = self.client.ledger();
        let mut last = submit_body(ledger, self.keys.identity(), body.clone()).await;
        for _ in 1..NONCE_ATTEMPTS {
            // Another process of this owner was faster.
            if !matches!(last, Err(LedgerError::Refused(TxError::Nonce { .. }))) {
                break;
            }
            last = submit_body(ledger, self.keys.identity(), body.clone()).await;
        }
        last
    }

    /// The capability with which this peer writes to a group.
    pub(crate) fn write_capability(&self, group: GroupId) -> Capability {
        let now = self.client.shared.now();
        let mut kept = lock(&self.capabilities);
        if let Some((capability, expires_at)) = kept.get(&group)
            && now.saturating_add(WRITE_RENEW) < *expires_at
        {
            return capability.clone();
        }
        let expires_at = now.saturating_add(WRITE_LIFETIME);
        let link = CapabilityLink {
            scope: Scope::Group(group),
            right: Right::Write,
            holder: self.client.network().local().key(),
            expires_at,
        };
        let capability = Capability::issue(link, self.keys.identity());
        kept.insert(group, (capability.clone(), expires_at));
        capability
    }
}
