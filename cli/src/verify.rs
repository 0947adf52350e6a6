//! `cairn verify`: checks a receipt without a network.

use std::fmt::Write;
use std::path::Path;

use cairn_core::{Digest, LedgerId};
use cairn_ledger::{DigestSet, Evidence, LedgerKey};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::VerifyArgs;
use crate::failure::{Failure, FailureKind};
use crate::notarise::digest_of;
use crate::output::count;
use crate::receipt::{About, CheckedGroup, GroupReceipt, Receipt, check_digest};

/// Whose attestation counts, and who says so.
struct Trusted {
    key: LedgerKey,
    ledger: LedgerId,
    origin: &'static str,
}

/// Checks it.
pub(crate) fn run(app: &App, args: &VerifyArgs) -> Result<(), Failure> {
    let receipt = Receipt::read(&args.receipt)?;
    let trusted = trusted(app, args, &receipt)?;
    match (&receipt.about, &args.file) {
        (About::Groups(groups), None) => durability(app, groups, &trusted),
        (About::Digest { digests, evidence }, Some(file)) => {
            notarisation(app, file, (digests, evidence), &trusted)
        }
        (About::Groups(_), Some(_)) => {
            let text = "the receipt is of an upload and not of a file: it is verified alone";
            Err(Failure::say(FailureKind::Usage, text).hint("cairn verify RECEIPT"))
        }
        (About::Digest { .. }, None) => {
            let text = "the receipt is of a file: give the file too";
            Err(Failure::say(FailureKind::Usage, text).hint("cairn verify RECEIPT FILE"))
        }
    }
}

/// The ledger's key from the command line, or of the known network.
fn trusted(app: &App, args: &VerifyArgs, receipt: &Receipt) -> Result<Trusted, Failure> {
    if let Some(key) = args.ledger_key {
        return Ok(Trusted {
            key,
            ledger: receipt.ledger,
            origin: "command line",
        });
    }
    let network = app.network().map_err(|failure| {
        failure
            .while_doing("it is not known whose attestation counts")
            .hint("give --ledger-key KEY, the ledger_key of the network file, or --network FILE")
    })?;
    Ok(Trusted {
        key: network.ledger_key,
        ledger: network.ledger,
        origin: "network file",
    })
}

fn durability(app: &App, groups: &[GroupReceipt], trusted: &Trusted) -> Result<(), Failure> {
    let check = |group: &GroupReceipt| group.check(trusted.ledger, &trusted.key);
    let groups: Vec<CheckedGroup> = groups.iter().map(check).collect::<Result<_, _>>()?;
    if let Some(short) = groups.iter().find(|group| !group.is_durable()) {
        let text = format!(
            "group {}: {} of {} slots proven as of epoch {}, {} needed",
            short.proof.group,
            short.proven_count(),
            short.proof.code.n(),
            short.as_of(),
            short.proof.code.k(),
        );
        return Err(Failure::say(FailureKind::NotSo, text));
    }
    let json = json!({
        "durable": true,
        "ledger": trusted.ledger.to_string(),
        "attested_by": attested_by(&trusted.key),
        "key_from": trusted.origin,
        "groups": groups.iter().map(group_json).collect::<Vec<_>>(),
    });
    app.output.answer(&json, || text(trusted, &groups))
}

fn notarisation(
    app: &App,
    file: &Path,
    shown: (&DigestSet, &Evidence),
    trusted: &Trusted,
) -> Result<(), Failure> {
    let digest: Digest = digest_of(file)?;
    let (kept, attested) = check_digest(digest, shown, trusted.ledger, &trusted.key)?;
    let json = json!({
        "digest": digest.to_string(),
        "ledger": trusted.ledger.to_string(),
        "attested_by": attested_by(&trusted.key),
        "key_from": trusted.origin,
        "account": kept.account.to_string(),
        "height": kept.height.get(),
        "time_ms": kept.time.get(),
        "attested_height": attested.height.get(),
    });
    app.output.answer(&json, || {
        format!(
            "The receipt holds.\n{} was there as it is on {}: account {} had it recorded in block {} \
             of ledger {}; {}, whose key is what the {} says.\n",
            file.display(),
            kept.time,
            kept.account,
            kept.height,
            trusted.ledger,
            worth(&trusted.key),
            trusted.origin,
        )
    })
}

fn group_json(group: &CheckedGroup) -> Value {
    let proof = &group.proof;
    json!({
        "group": proof.group.to_string(),
        "owner": proof.owner.to_string(),
        "code": proof.code.to_string(),
        "revision": proof.revision.number.get(),
        "last_segment": group.last_segment.get(),
        "as_of_epoch": group.as_of().get(),
        "slots_proven": group.proven_count(),
        "slots_needed": proof.code.k(),
        "height": proof.height.get(),
        "time_ms": proof.time.get(),
        "tip": proof.tip.to_string(),
    })
}

fn text(trusted: &Trusted, groups: &[CheckedGroup]) -> String {
    let mut text = String::from("The receipt holds.\n");
    for group in groups {
        let proof = &group.proof;
        writeln!(
            text,
            "group {}: proven as of epoch {} by {} of {}, {} needed, with segments up to {}; block {}, {}",
            proof.group,
            group.as_of(),
            group.proven_count(),
            count(proof.code.n(), "slot", "slots"),
            proof.code.k(),
            group.last_segment,
            proof.height,
            proof.time,
        )
        .unwrap_or_default();
    }
    writeln!(
        text,
        "for ledger {}: {}, whose key is what the {} says.\n\
         The nodes' proofs are not in the receipt. Which segments hold a file only its link tells.",
        trusted.ledger,
        worth(&trusted.key),
        trusted.origin,
    )
    .unwrap_or_default();
    text
}

const fn attested_by(key: &LedgerKey) -> &'static str {
    match key {
        LedgerKey::Sequencer(_) => "sequencer",
        LedgerKey::Validators(_) => "validators",
    }
}

/// Whose word it is.
const fn worth(key: &LedgerKey) -> &'static str {
    match key {
        LedgerKey::Sequencer(_) => "it is the word of the one that orders it",
        LedgerKey::Validators(_) => "more than two thirds of its validators have signed that",
    }
}
