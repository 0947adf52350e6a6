//! That a validator's votes are not forgotten.
//!
//! What it voted for is on its disk, below `ledger/`. One that lost that and voted again in the same
//! view could vote against itself, as those do who mean harm. So a mark beside the folder says that
//! there are votes; where they are gone nothing is begun anew without `--rejoin`, and then only when
//! every view is over that it may have voted in.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_consensus::validator::TURN_LIMIT;
use cairn_core::LedgerId;
use cairn_runtime::Runtime;

use super::known::KnownTerms;
use crate::app::App;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};
use crate::node::Folder;

/// How long after its start one that lost its votes goes on: a view whose leader is silent is over
/// after three turns, while the others go on.
const FORGOTTEN_AFTER: Duration = TURN_LIMIT.saturating_mul(4);

/// Whether `--rejoin` was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejoin {
    /// It was.
    Asked,
    /// It was not.
    Unasked,
}

/// What a validator has below `ledger/`, and that it once had.
#[derive(Clone, Debug)]
pub(super) struct Votes {
    folder: PathBuf,
    ledger: PathBuf,
    mark: PathBuf,
}

impl Votes {
    /// Those of a validator's folder.
    pub(super) fn of(folder: &Folder) -> Self {
        Self {
            folder: folder.path().to_owned(),
            ledger: folder.path().join("ledger"),
            mark: folder.path().join("voted"),
        }
    }

    /// Makes sure that its votes are here, or that it has none, or none that matter any more.
    ///
    /// # Errors
    ///
    /// Of kind usage when they are lost and nothing is said of that, or nothing is lost and
    /// `--rejoin` was given; storage.
    pub(super) async fn ensure(
        &self,
        app: &App,
        known: &KnownTerms,
        rejoin: Rejoin,
    ) -> Result<(), Failure> {
        let marked = self.marked(known.ledger())?;
        let is_marked = marked.is_some();
        let term = marked.and_then(|term| known.get(term)).or(known.get(0));
        let count = term.map_or(0, |term| term.places.len());
        let are_here = is_filled(&self.ledger) && self.has_votes_of(marked.unwrap_or(0));
        let shown = self.folder.display();
        match (is_marked && !are_here, rejoin) {
            (false, Rejoin::Unasked) => {}
            (false, Rejoin::Asked) => {
                let text = format!("nothing of the validator in {shown} is lost");
                let hint = format!("cairn validator run --folder {shown}");
                return Err(Failure::say(FailureKind::Usage, text).hint(hint));
            }
            (true, _) if count == 1 => {
                let text = format!(
                    "{} is lost, and with it the ledger: its only validator can't begin it anew \
                     where others have seen it; put back a copy of the folder",
                    self.ledger.display()
                );
                return Err(Failure::say(FailureKind::Storage, text));
            }
            (true, Rejoin::Unasked) => {
                let text = format!(
                    "{} is lost, and with it what this validator voted for; it can get the blocks \
                     from the others, if they run",
                    self.ledger.display()
                );
                let hint = format!("cairn validator run --folder {shown} --rejoin");
                return Err(Failure::say(FailureKind::Storage, text).hint(hint));
            }
            (true, Rejoin::Asked) => {
                let seconds = FORGOTTEN_AFTER.as_secs();
                app.output.note(&format!(
                    "Waiting {seconds} s, until no view is open that it may have voted in."
                ));
                app.runtime.sleep(FORGOTTEN_AFTER).await;
                self.clear()?;
            }
        }
        Ok(())
    }

    /// Marks that it votes in a term from now on.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(super) fn mark(&self, ledger: LedgerId, term: u32) -> Result<(), Failure> {
        let text = format!("{ledger} {term}\n");
        files::write(&self.mark, Access::Shared, text.as_bytes())
    }

    /// The last term of the ledger that it is known to have voted in.
    fn marked(&self, ledger: LedgerId) -> Result<Option<u32>, Failure> {
        let text = files::read(&self.mark)?.unwrap_or_default();
        let mut words = text.split_whitespace();
        let is_its = words.next() == Some(ledger.to_string().as_str());
        let term = words.next().and_then(|term| term.parse().ok());
        Ok(is_its.then_some(term.unwrap_or(0)))
    }

    /// Whether the engine's files of a term or of a later one are here.
    fn has_votes_of(&self, term: u32) -> bool {
        let terms = fs::read_dir(self.ledger.join("engine"));
        let names = terms.into_iter().flatten().flatten();
        let numbers = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        numbers.max().is_some_and(|newest| newest >= term)
    }

    /// Removes what is left of blocks and votes: they would not fit together.
    fn clear(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.ledger) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let text = format!("{} can't be removed", self.ledger.display());
                Err(error).or_fail(FailureKind::Storage, text)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Whether a folder is there and has something in it.
fn is_filled(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use cairn_core::Digest;

    use super::*;

    #[test]
    fn the_mark_says_of_which_ledger_and_term_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let votes = Votes::of(&Folder::at(folder.path()));
        let [ledger, other] = [b"one", b"two"].map(|name| LedgerId::new(Digest::of(name)));
        assert_eq!(votes.marked(ledger).unwrap(), None);
        votes.mark(ledger, 3).unwrap();
        assert_eq!(votes.marked(ledger).unwrap(), Some(3));
        assert_eq!(votes.marked(other).unwrap(), None);
        // As it was before there were terms.
        fs::write(&votes.mark, format!("{ledger}\n")).unwrap();
        assert_eq!(votes.marked(ledger).unwrap(), Some(0));
    }

    #[test]
    fn votes_of_an_earlier_term_are_not_those_of_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let votes = Votes::of(&Folder::at(folder.path().to_owned()));
        assert!(!votes.has_votes_of(0));
        fs::create_dir_all(votes.ledger.join("engine/0")).unwrap();
        assert!(votes.has_votes_of(0));
        assert!(!votes.has_votes_of(1));
        fs::create_dir_all(votes.ledger.join("engine/2")).unwrap();
        assert!(votes.has_votes_of(1));
    }
}
