//! `cairn validator agree`: takes part in the ceremony that makes the validators' key.

use std::collections::BTreeSet;
use std::fs;

use cairn_consensus::ceremony::{self, CeremonyConfig, CeremonyError, FaultKind, Held, Lack};
use cairn_core::{NodeId, PublicKey};
use cairn_runtime::real::RealRuntime;
use serde_json::json;

use super::ceremony_files::{Before, CeremonyFiles, FolderKeeper};
use super::{folder, lock};
use crate::app::App;
use crate::args::ValidatorAgreeArgs;
use crate::draft_file::DraftFile;
use crate::failure::{Failure, FailureKind};
use crate::node;

/// Takes part to the end.
pub(super) async fn run(app: &App, args: &ValidatorAgreeArgs) -> Result<(), Failure> {
    let folder = folder(app, &args.place)?;
    let _lock = lock(app, &folder)?;
    let draft = DraftFile::read(&args.draft)?;
    let key = node::node_key(app, &folder)?;
    let own = draft.places().iter().find(|it| it.identity == key.public());
    let own = own.ok_or_else(|| {
        let text = format!("the draft does not name this validator, {}", key.public());
        Failure::say(FailureKind::Usage, text)
    })?;
    let files = CeremonyFiles::of(&folder);
    let before = files.before(&draft)?;
    if matches!(before, Before::Agreed(_)) {
        app.output.note(
            "The genesis is made. This process is here for those that have not heard of it; stop it \
             when all have.",
        );
    }
    let (kept, agreement) = match before {
        Before::Nothing => (None, None),
        Before::Signed(ledger) => (Some(ledger), None),
        Before::Agreed(agreement) => (Some(agreement.ledger), Some(agreement)),
    };
    let places = draft.places().iter();
    let config = CeremonyConfig {
        draft: draft.digest()?,
        key,
        listen: args.bind.unwrap_or(own.address),
        participants: places.map(|it| (it.identity, it.address)).collect(),
        folder: files.engine.clone(),
        limit: args.limit,
        kept,
        agreement,
    };
    let keeper = FolderKeeper {
        files: files.clone(),
        draft: draft.clone(),
        output: app.output,
        said: BTreeSet::new(),
    };
    let held = hold(app, config, keeper).await;
    // Nothing of it matters; what can't be removed is in nobody's way.
    fs::remove_dir_all(&files.engine).ok();
    answer(app, &files, held)
}

async fn hold(app: &App, config: CeremonyConfig, keeper: FolderKeeper) -> Held {
    ceremony::hold::<RealRuntime>(&app.runtime, config, keeper).await
}

fn answer(app: &App, files: &CeremonyFiles, held: Held) -> Result<(), Failure> {
    let Held { agreement, faults } = held;
    let faults: Vec<(String, FaultKind)> = faults
        .into_iter()
        .map(|(key, kind)| (NodeId::new(key).to_string(), kind))
        .collect();
    let named = faults.iter().map(|(key, kind)| format!("{key} {kind}"));
    let named: Vec<String> = named.collect();
    let agreement = agreement.map_err(|error| failure(error, &named))?;
    let named_json = faults
        .iter()
        .map(|(key, kind)| json!({ "validator": key, "what": kind.to_string() }));
    let ledger = agreement.ledger.to_string();
    let made = json!({
        "ledger": ledger,
        "genesis_file": files.genesis,
        "part_file": files.part,
        "network_file": files.clients,
        "named": named_json.collect::<Vec<_>>(),
    });
    app.output.answer(&made, || format!("ledger {ledger}\n"))?;
    for named in named {
        app.output.note(&format!("Named: {named}."));
    }
    app.output.note(&format!(
        "All validators have signed this ledger's genesis, {}, and each has its own part of their \
         key. `cairn validator run` begins; {} is for clients and nodes.",
        files.genesis.display(),
        files.clients.display()
    ));
    Ok(())
}

/// What the command ends with, with everyone who is to be named.
fn failure(error: CeremonyError, named: &[String]) -> Failure {
    let (kind, hint) = match &error {
        CeremonyError::Identity | CeremonyError::Participants(_) => {
            (FailureKind::Usage, "look through the draft")
        }
        CeremonyError::Listen { .. } => (
            FailureKind::Usage,
            "stop what listens there, or give --bind",
        ),
        CeremonyError::PartGone { .. } => (
            FailureKind::Usage,
            "find the folder in which this validator signed, or make a new draft",
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
        CeremonyError::Revealed { participants } => {
            let line = |key: &[u8; 32]| format!("{} was not heard by the dealers", name(key));
            participants.iter().map(line).collect()
        }
        _ => Vec::new(),
    }
}
