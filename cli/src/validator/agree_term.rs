//! `cairn validator agree` of a change: the validators of now deal the key anew to the next, beside the
//! processes that run them.

use std::collections::BTreeSet;
use std::error::Error;

use cairn_consensus::KeyPart;
use cairn_consensus::ceremony::{Agreement, CeremonyConfig, Keeper, Lack, Previous};
use cairn_core::{Digest, PublicKey};
use cairn_ledger::Validators;
use cairn_runtime::{Disk, RealDisk, Runtime};
use serde_json::json;

use super::agree::{Past, hold, unnamed};
use super::ceremony_files::{cause, say_waiting};
use super::folder;
use super::known::{FirstTerm, KnownTerms};
use super::term_files::TermFiles;
use crate::app::App;
use crate::args::ValidatorAgreeArgs;
use crate::change_file::ChangeFile;
use crate::failure::{Failure, FailureKind};
use crate::files;
use crate::node::{self, Folder};
use crate::output::Output;

/// Takes part to the end.
pub(super) async fn run(app: &App, args: &ValidatorAgreeArgs) -> Result<(), Failure> {
    let folder = folder(app, &args.place)?;
    let files = TermFiles::of(&folder);
    let _lock = lock(app, &folder, &files)?;
    let draft = ChangeFile::read(&args.draft)?;
    draft.check_key()?;
    let key = node::node_key(app, &folder)?;
    let identity = key.public();
    let mut participants = draft.participants().iter();
    let own = participants.find(|(it, _)| *it == identity);
    let (_, own) = *own.ok_or_else(|| unnamed(identity))?;
    let past = Past::of(files.before(&draft)?);
    past.say(app, &format!("Term {} is made.", draft.number()));
    let part = match past.agreement {
        // Nothing is dealt any more.
        Some(_) => None,
        None => part_of_now(&folder, &files, identity, &draft)?,
    };
    tell(app, &draft);
    let config = CeremonyConfig {
        draft: draft.digest()?,
        key,
        listen: args.bind.unwrap_or(own),
        participants: draft.participants().to_vec(),
        folder: files.engine(),
        limit: args.limit,
        kept: past.kept,
        agreement: past.agreement,
        previous: Some(Previous {
            validators: draft.now().clone(),
            term: draft.number().saturating_sub(1),
            next: draft.places().iter().map(|it| it.identity).collect(),
            part,
        }),
    };
    let keeper = TermKeeper {
        files: files.clone(),
        draft: draft.clone(),
        identity,
        output: app.output,
        said: BTreeSet::new(),
    };
    let (agreement, named) = hold(app, config, keeper).await?;
    let number = draft.number();
    let term_file = files.term(number).display().to_string();
    let part_file = draft.is_next(&identity).then(|| files.part(number));
    let made = json!({
        "ledger": draft.genesis().genesis.ledger_id().to_string(),
        "term": number,
        "digest": agreement.digest.to_string(),
        "term_file": term_file,
        "part_file": part_file,
        "named": named.to_json(),
    });
    app.output.answer(&made, || format!("term {number}\n"))?;
    named.say(app);
    app.output.note(&format!(
        "All who took part have signed term {number}, {term_file}, and each of its validators has its own \
         part of their key. It begins when the ledger is told: cairn validator enact {term_file}, by \
         anyone."
    ));
    if draft.is_next(&identity) {
        app.output.note(
            "`cairn validator run` goes on in it; whoever comes starts it now, and it waits for the term.",
        );
    }
    Ok(())
}

/// Holds the ceremony of this folder for this process alone.
fn lock(
    app: &App,
    folder: &Folder,
    files: &TermFiles,
) -> Result<<RealDisk as Disk>::Lock, Failure> {
    files::make_folder(folder.path())?;
    let shown = folder.path().display();
    app.runtime.disk().lock(&files.lock()).map_err(|error| {
        let text = format!("another process takes part in a ceremony for {shown}");
        files::lock_failure(error, text).hint_otherwise("wait for its end, or stop it")
    })
}

/// Says what is to be agreed on.
fn tell(app: &App, draft: &ChangeFile) {
    app.output.note(&format!(
        "Term {} of ledger {}: {} validators.",
        draft.number(),
        draft.genesis().genesis.ledger_id(),
        draft.places().len()
    ));
    for comes in draft.joins() {
        app.output.note(&format!("Comes: {comes}."));
    }
    for leaves in draft.leaves() {
        app.output.note(&format!("Leaves: {leaves}."));
    }
}

/// This validator's part of the key that is dealt anew, after a check that the draft begins with what its
/// folder knows; `None` of one that comes.
fn part_of_now(
    folder: &Folder,
    files: &TermFiles,
    identity: PublicKey,
    draft: &ChangeFile,
) -> Result<Option<KeyPart>, Failure> {
    let usage = |text: String| Failure::say(FailureKind::Usage, text);
    let shown = folder.path().display();
    let first = FirstTerm::of(folder);
    let is_of_now = draft.now().contains(&identity);
    if !first.genesis.exists() && !is_of_now {
        return Ok(None);
    }
    let known = KnownTerms::read(files, identity, &first)?;
    let (expected, found) = (known.ledger(), draft.genesis().genesis.ledger_id());
    if expected != found {
        let text = format!("{shown} is of ledger {expected}, and the draft of ledger {found}");
        return Err(usage(text).hint("take another --folder"));
    }
    if !is_of_now {
        return Ok(None);
    }
    let before = draft.number().saturating_sub(1);
    let term = known.find(before, draft.now()).ok_or_else(|| {
        let text = format!(
            "the draft has other validators in term {before} than {shown}, or another key of theirs"
        );
        usage(text).hint("cairn validator change, on one whose folder has the newest term")
    })?;
    let part = term.part.clone().ok_or_else(|| {
        let path = files.part(before);
        let text = format!(
            "this validator's part of the key of term {before} is not there: {}",
            path.display()
        );
        usage(text).hint("put it there; or have a draft without this validator: --absent IDENTITY")
    })?;
    Ok(Some(part))
}

/// Keeps what a ceremony makes in a validator's folder.
#[derive(Debug)]
struct TermKeeper {
    files: TermFiles,
    draft: ChangeFile,
    identity: PublicKey,
    output: Output,
    /// Who was said to be waited for, and for what.
    said: BTreeSet<(PublicKey, Lack)>,
}

impl Keeper for TermKeeper {
    fn keep(
        &mut self,
        validators: Validators,
        part: Option<&KeyPart>,
    ) -> Result<Digest, Box<dyn Error + Send + Sync>> {
        if part.is_none() && self.draft.is_next(&self.identity) {
            return Err("every validator of a term has a part of its key".into());
        }
        let term = self.draft.term(validators);
        self.files.keep(&self.draft, term, part).map_err(cause)
    }

    fn agreed(&mut self, agreement: &Agreement) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.files.agree(&self.draft, agreement).map_err(cause)
    }

    fn waiting(&mut self, missing: &[(PublicKey, Lack)]) {
        say_waiting(self.output, &mut self.said, missing);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::change_file::tests::{change, genesis, identity_of};

    fn part(folder: &Folder, number: u8, draft: &ChangeFile) -> Result<Option<KeyPart>, Failure> {
        let files = TermFiles::of(folder);
        part_of_now(folder, &files, identity_of(number), draft)
    }

    #[test]
    fn who_deals_needs_its_part_of_the_term_that_the_draft_begins_with() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::at(place.path());
        let draft = change(&[1, 2, 3, 4], &[2, 3, 4, 5], &[1, 2, 3, 4, 5]).unwrap();
        assert_eq!(part(&folder, 5, &draft).unwrap(), None, "one that comes");
        assert!(part(&folder, 1, &draft).is_err(), "it has no genesis");
        let first = FirstTerm::of(&folder);
        genesis(&[1, 2, 3, 4]).create(&first.genesis).unwrap();
        assert_eq!(
            part(&folder, 5, &draft).unwrap(),
            None,
            "it was here before"
        );
        let said = part(&folder, 1, &draft).unwrap_err().to_string();
        assert!(said.contains("key.part"), "{said}");
        fs::write(&first.part, "07").unwrap();
        let found = part(&folder, 1, &draft).unwrap();
        assert_eq!(found, Some(KeyPart::from_bytes(&[7])));
        let other = change(&[1, 2, 3], &[1, 2, 3, 5], &[1, 2, 3, 5]).unwrap();
        let said = part(&folder, 1, &other).unwrap_err().to_string();
        assert!(said.contains("of ledger"), "{said}");
    }
}
