//! What an interrupted upload left: its id, and the segments that are finished.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cairn_core::{Code, Digest, GroupId};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_runtime::{Disk, Runtime};

use crate::book::{BookEntry, FinishedSegment, UploadHeader};
use crate::journal::{Journal, JournalError};
use crate::key::UploadId;
use crate::owner::OwnerShared;
use crate::upload::UploadError;

/// An upload under way, remembered on disk when its source has an id.
pub(crate) struct Remembered<D: Disk> {
    pub(crate) upload: UploadId,
    /// Finished segments of an earlier attempt, by position in the stream.
    pub(crate) kept: BTreeMap<u64, (GroupId, FinishedSegment)>,
    on_disk: Option<OnDisk<D>>,
}

struct OnDisk<D: Disk> {
    journal: Journal<D, BookEntry>,
    folder: PathBuf,
    groups: Vec<GroupId>,
    _lock: D::Lock,
}

impl<D: Disk> OnDisk<D> {
    fn open(disk: &D, folder: PathBuf) -> Result<(Self, Option<UploadHeader>), UploadError> {
        disk.create_dir_all(&folder)
            .map_err(JournalError::from)
            .map_err(book)?;
        for above in folder.ancestors().skip(1).take(2) {
            disk.sync_dir(above)
                .map_err(JournalError::from)
                .map_err(book)?;
        }
        let lock = disk.lock(&folder.join("lock")).map_err(|error| {
            if error.source.kind() == std::io::ErrorKind::WouldBlock {
                UploadError::Locked
            } else {
                book(JournalError::from(error))
            }
        })?;
        let mut header = None;
        let mut groups = Vec::new();
        let journal = Journal::open(disk, &folder.join("journal"), |entry| match entry {
            BookEntry::Upload(found) => header = Some(found),
            BookEntry::UploadGroup(group) => groups.push(group),
            BookEntry::Opened(_)
            | BookEntry::Reserved(_)
            | BookEntry::Finished(_)
            | BookEntry::Emptied(_)
            | BookEntry::Revising(_)
            | BookEntry::Revised(_)
            | BookEntry::Delivered(_)
            | BookEntry::Closed(_) => {}
        })
        .map_err(book)?;
        let on_disk = Self {
            journal,
            folder,
            groups,
            _lock: lock,
        };
        Ok((on_disk, header))
    }
}

fn book(error: JournalError) -> UploadError {
    UploadError::Book(error.into())
}

/// Begins an upload, or takes up one of the same source that was interrupted.
pub(crate) async fn begin<R: Runtime, N: Network, L: Ledger>(
    owner: &OwnerShared<R, N, L>,
    source: Option<Digest>,
    code: Code,
) -> Result<Remembered<R::Disk>, UploadError> {
    let runtime = owner.client.runtime();
    let mut bytes = [0; 16];
    runtime.fill(&mut bytes);
    let fresh = UploadId::new(bytes);
    let Some(source) = source else {
        return Ok(Remembered {
            upload: fresh,
            kept: BTreeMap::new(),
            on_disk: None,
        });
    };
    let folder = owner.folder.join("uploads").join(source.to_string());
    let disk = runtime.disk().clone();
    let opened = runtime
        .blocking(move || {
            let (mut on_disk, header) = OnDisk::open(&disk, folder)?;
            let header = header.filter(|header| header.code == code);
            let upload = header.map_or(fresh, |header| header.upload);
            if header.is_none() {
                let header = UploadHeader {
                    upload,
                    source,
                    code,
                };
                on_disk
                    .journal
                    .append(&[BookEntry::Upload(header)])
                    .map_err(book)?;
            }
            Ok::<_, UploadError>((on_disk, upload))
        })
        .await;
    let (on_disk, upload) = opened?;
    let mut kept = BTreeMap::new();
    for group in on_disk.groups.clone() {
        let writer = match owner.writer_of(group).await {
            Ok(writer) => writer,
            // Another process writes it, or the ledger does not have it: nothing to be had there.
            Err(error) if error.is_passing() => continue,
            Err(error) => return Err(error.into()),
        };
        let found = writer
            .with_book(runtime, move |book| book.segments_of(upload))
            .await?;
        kept.extend(
            found
                .into_iter()
                .map(|segment| (segment.position, (group, segment))),
        );
    }
    Ok(Remembered {
        upload,
        kept,
        on_disk: Some(on_disk),
    })
}

impl<D: Disk> Remembered<D> {
    /// The upload has segments in `group` from now on. To be called before the first is put.
    pub(crate) fn joins(&mut self, group: GroupId) -> Result<(), UploadError> {
        let Some(on_disk) = &mut self.on_disk else {
            return Ok(());
        };
        if on_disk.groups.contains(&group) {
            return Ok(());
        }
        on_disk
            .journal
            .append(&[BookEntry::UploadGroup(group)])
            .map_err(book)?;
        on_disk.groups.push(group);
        Ok(())
    }

    /// Whether nothing needs to be remembered for that group.
    pub(crate) fn has_joined(&self, group: GroupId) -> bool {
        self.on_disk
            .as_ref()
            .is_none_or(|on_disk| on_disk.groups.contains(&group))
    }

    /// The upload is done: nothing is left to resume.
    pub(crate) fn forget(self, disk: &D) -> Result<(), UploadError> {
        let Some(on_disk) = self.on_disk else {
            return Ok(());
        };
        let folder = on_disk.folder.clone();
        drop(on_disk);
        disk.remove_dir_all(&folder)
            .map_err(JournalError::from)
            .map_err(book)
    }
}
