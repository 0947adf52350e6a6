//! `cairn validator agree`: takes part in the ceremony that makes the validators' key, or in one that
//! deals it anew (`agree_term`).

use std::collections::BTreeSet;
use std::fs;

use cairn_consensus::ceremony::{
    self, Agreement, CeremonyConfig, CeremonyError, FaultKind, Held, Keeper, Lack,
};
use cairn_core::{Digest, NodeId, PublicKey};
use cairn_runtime::real::RealRuntime;
use serde_json::{Value, json};

use super::ceremony_files::{Before, CeremonyFiles, FolderKeeper};
use super::{agree_term, folder, lock};
use crate::app::App;
use crate::args::ValidatorAgreeArgs;
use crate::change_file::ChangeFile;
use crate::draft_file::DraftFile;
use crate::failure::{Failure, FailureKind};
use crate::node;

/// Takes part to the end.
pub(super) async fn run(app: &App, args: &ValidatorAgreeArgs) -> Result<(), Failure> {
    if ChangeFile::is_at(&args.draft)? {
        return Box::pin(agree_term::run(app, args)).await;
    }
    let folder = folder(app, &args.place)?;
    let _lock = lock(app, &folder)?;
    let draft = DraftFile::read(&args.draft)?;
    let key = node::node_key(app, &folder)?;
    let own = draft.places().iter().find(|it| it.identity == key.public());
    let own = own.ok_or_else(|| unnamed(key.public()))?;
    let files = CeremonyFiles::of(&folder);
    let past = Past::of(files.before(&draft)?);
    past.say(app, "The genesis is made.");
    let places = draft.places().iter();
    let config = CeremonyConfig {
        draft: draft.digest()?,
        key,
        listen: args.bind.unwrap_or(own.address),
        participants: places.map(|it| (it.identity, it.address)).collect(),
        folder: files.engine.clone(),
        limit: args.limit,
        kept: past.kept,
        agreement: past.agreement,
        previous: None,
    };
    let keeper = FolderKeeper {
        files: files.clone(),
        draft: draft.clone(),
        output: app.output,
        said: BTreeSet::new(),
    };
    let (agreement, named) = hold(app, config, keeper).await?;
    let ledger = agreement.digest.to_string();
    let made = json!({
        "ledger": ledger,
        "genesis_file": files.genesis,
        "part_file": files.part,
        "network_file": files.clients,
        "named": named.to_json(),
    });
    app.output.answer(&made, || format!("ledger {ledger}\n"))?;
    named.say(app);
    app.output.note(&format!(
        "All validators have signed this ledger's genesis, {}, and each has its own part of their \
         key. `cairn validator run` begins; {} is for clients and nodes.",
        files.genesis.display(),
        files.clients.display()
    ));
    Ok(())
}

/// A draft has nothing for this validator.
pub(super) fn unnamed(identity: PublicKey) -> Failure {
    let text = format!("the draft does not name this validator, {identity}");
    Failure::say(FailureKind::Usage, text)
}

/// What an earlier process left, as the ceremony takes it.
pub(super) struct Past {
    pub(super) kept: Option<Digest>,
    pub(super) agreement: Option<Agreement>,
}

impl Past {
    pub(super) fn of(before: Before) -> Self {
        let (kept, agreement) = match before {
            Before::Nothing => (None, None),
            Before::Signed(digest) => (Some(digest), None),
            Before::Agreed(agreement) => (Some(agreement.digest), Some(agreement)),
        };
        Self { kept, agreement }
    }

    /// Says that nothing is to be made any more, where that is so.
    pub(super) fn say(&self, app: &App, what: &str) {
        if self.agreement.is_some() {
            app.output.note(&format!(
                "{what} This process is here for those that have not heard of it; stop it when all have."
            ));
        }
    }
}

/// Whoever is to be named after a ceremony, each with what it did.
pub(super) struct Named(Vec<(String, FaultKind)>);

impl Named {
    pub(super) fn to_json(&self) -> Vec<Value> {
        let named = self.0.iter();
        named
            .map(|(key, kind)| json!({ "validator": key, "what": kind.to_string() }))
            .collect()
    }

    fn lines(&self) -> Vec<String> {
        let named = self.0.iter();
        named.map(|(key, kind)| format!("{key} {kind}")).collect()
    }

    pub(super) fn say(&self, app: &App) {
        for line in self.lines() {
            app.output.note(&format!("Named: {line}."));
        }
    }
}

/// Takes part in a ceremony: what all agreed on, and who is to be named.
///
/// # Errors
///
/// Why nothing was agreed on, with everyone who is to be named.
pub(super) async fn hold(
    app: &App,
    config: CeremonyConfig,
    keeper: impl Keeper,
) -> Result<(Agreement, Named), Failure> {
    let engine = config.folder.clone();
    let Held { agreement, faults } =
        ceremony::hold::<RealRuntime>(&app.runtime, config, keeper).await;
    // Nothing of it matters; what can't be removed is in nobody's way.
    fs::remove_dir_all(&engine).ok();
    let faults = faults
        .into_iter()
        .map(|(key, kind)| (NodeId::new(key).to_string(), kind));
    let named = Named(faults.collect());
    match agreement {
        Ok(agreement) => Ok((agreement, named)),
        Err(error) => Err(failure(error, &named.lines())),
    }
}

/// What the command ends with, with everyone who is to be named.
fn failure(error: CeremonyError, named: &[String]) -> Failure {
    let (kind, hint) = match &error {
        CeremonyError::Identity | CeremonyError::Participants(_) | CeremonyError::Draft(_) => {
            (FailureKind::Usage, "look through the draft")
        }
        CeremonyError::Part => (
            FailureKind::Usage,
            "find the part of the key with which this validator votes now",
        ),
        CeremonyError::Listen { .. } => (
            FailureKind::Usage,
            "stop what listens there, or give --bind",
        ),
        CeremonyError::PartGone { .. } => (
            FailureKind::Usage,
            "find the folder in which this validator signed that, or make a new draft; if it is of \
             another draft, leave out whoever says that it is of this one",
        ),
        CeremonyError::Time { .. } => (
            FailureKind::Network,
            "run it again everywhere at about the same time, with clocks that differ by less than \
             10 s; whoever never comes must be left out of the draft",
        ),
        CeremonyError::TwoFaced { .. }
        | CeremonyError::Restless { .. }
        | CeremonyError::TooFewGood { .. } => (
            FailureKind::Network,
            "make a draft without those who are named, and begin anew",
        ),
        CeremonyError::Revealed { .. } => (
            FailureKind::Network,
            "run it again everywhere; leave out whoever is named again",
        ),
        CeremonyError::Network | CeremonyError::Ours => {
            (FailureKind::Network, "run it again everywhere")
        }
        CeremonyError::Thread(_) | CeremonyError::Keep(_) => {
            (FailureKind::Storage, "mend the disk and run it again")
        }
    };
    let mut details = lacks(&error);
    details.extend(named.iter().cloned());
    Failure::new(kind, error).details(details).hint(hint)
}

/// Whom an error names, each with what it says of it.
fn lacks(error: &CeremonyError) -> Vec<String> {
    let name = |key: &[u8; 32]| NodeId::new(PublicKey::from_bytes(*key)).to_string();
    match error {
        CeremonyError::Time { missing } => {
            let line = |(key, lack): &([u8; 32], Lack)| format!("{} {lack}", name(key));
            missing.iter().map(line).collect()
        }
        CeremonyError::PartGone { said_by, .. } => {
            let line = |key: &[u8; 32]| format!("{} says that it is of this draft", name(key));
            said_by.iter().map(line).collect()
        }
        CeremonyError::Revealed { participants } => {
            let line = |key: &[u8; 32]| format!("{} was not heard by the dealers", name(key));
            participants.iter().map(line).collect()
        }
        _ => Vec::new(),
    }
}
