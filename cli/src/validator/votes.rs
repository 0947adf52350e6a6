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
        (ledger, count): (LedgerId, usize),
        rejoin: Rejoin,
    ) -> Result<(), Failure> {
        let marked = files::read(&self.mark)?;
        let is_marked = marked.is_some_and(|text| text.trim() == ledger.to_string());
        let are_here = is_filled(&self.ledger) && is_filled(&self.ledger.join("engine"));
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

    /// Marks that it votes from now on.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(super) fn mark(&self, ledger: LedgerId) -> Result<(), Failure> {
        let text = format!("{ledger}\n");
        files::write(&self.mark, Access::Shared, text.as_bytes())
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
