//! Removing an upload: its leaves are emptied by a revision.

use std::collections::BTreeMap;

use cairn_core::{GroupId, SegmentNumber};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_runtime::Runtime;

use crate::link::Link;
use crate::owner::{Owner, RemoveError};

/// An upload that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Segments whose leaves were emptied; those that were before are not counted.
    pub segment_count: u64,
    /// Their plaintext.
    pub bytes: u64,
}

impl<R: Runtime, N: Network, L: Ledger> Owner<R, N, L> {
    /// Removes the upload of a link: empties the leaves of its segments, which belong to no other
    /// upload, and revises their groups. Nodes drop the bytes when the revision is final and no
    /// challenge on the one before can come. Removing it again does nothing.
    ///
    /// # Errors
    ///
    /// [`RemoveError`].
    ///
    /// # Panics
    ///
    /// Never: the owner was compared before.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe: what is emptied goes into the next revision.
    pub async fn remove(&self, link: &Link) -> Result<Removed, RemoveError> {
        let owner = &self.shared;
        if link.owner() != owner.keys.account() {
            return Err(RemoveError::NotTheOwner {
                expected: owner.keys.account(),
                found: link.owner(),
            });
        }
        // A link that has expired still says what to remove.
        let fresh_until = owner
            .client
            .shared
            .now()
            .saturating_add(owner.config.link_lifetime);
        let fresh = link
            .reissue(owner.keys.identity(), fresh_until)
            .expect("the link is this owner's");
        let groups: Vec<GroupId> = link.groups().collect();
        if self.is_removed(link, &groups).await? {
            return Ok(Removed {
                segment_count: 0,
                bytes: 0,
            });
        }
        let opened = self.client().open(&fresh).await.map_err(Box::new)?;
        let of_index = opened.index().segments.iter();
        let mut wanted: BTreeMap<GroupId, BTreeMap<SegmentNumber, u32>> = BTreeMap::new();
        for segment in of_index.chain(link.index().segments.iter()) {
            if let Some(group) = groups.get(usize::from(segment.group)) {
                let numbers = wanted.entry(*group).or_default();
                numbers.insert(segment.number, segment.plain_bytes);
            }
        }
        let mut removed = Removed {
            segment_count: 0,
            bytes: 0,
        };
        let runtime = self.client().runtime();
        let mut writers = Vec::new();
        for (group, numbers) in wanted {
            let writer = owner
                .writer_of(group)
                .await
                .map_err(|cause| RemoveError::Group { group, cause })?;
            let (count, bytes) = writer
                .with_book(runtime, move |book| {
                    let kept: Vec<(SegmentNumber, u32)> = numbers
                        .into_iter()
                        .filter(|(number, _)| book.is_kept(*number))
                        .collect();
                    let numbers: Vec<SegmentNumber> = kept.iter().map(|kept| kept.0).collect();
                    book.empty(&numbers)?;
                    let bytes: u64 = kept.iter().map(|kept| u64::from(kept.1)).sum();
                    Ok((numbers.len(), bytes))
                })
                .await?;
            removed.segment_count += crate::width::wide(count);
            removed.bytes += bytes;
            writers.push(writer);
        }
        for writer in writers {
            owner.revise(&writer).await?;
        }
        Ok(removed)
    }

    /// Whether the leaves of a link's index are emptied already.
    async fn is_removed(&self, link: &Link, groups: &[GroupId]) -> Result<bool, RemoveError> {
        for segment in link.index().segments.iter() {
            let Some(group) = groups.get(usize::from(segment.group)).copied() else {
                continue;
            };
            let writer = self
                .shared
                .writer_of(group)
                .await
                .map_err(|cause| RemoveError::Group { group, cause })?;
            let number = segment.number;
            let is_kept = writer
                .with_book(
                    self.client().runtime(),
                    move |book| Ok(book.is_kept(number)),
                )
                .await?;
            if is_kept {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
