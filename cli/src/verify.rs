//! `cairn verify`: checks a receipt without a network.

use std::fmt::Write;

use cairn_core::{LedgerId, NodeId};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::VerifyArgs;
use crate::failure::{Failure, FailureKind};
use crate::output::count;
use crate::receipt::{Checked, Receipt, signers_needed};

/// Whose word counts, and who says so.
struct Trusted {
    signers: Vec<NodeId>,
    ledger: LedgerId,
    origin: &'static str,
}

/// Checks it.
pub(crate) fn run(app: &App, args: &VerifyArgs) -> Result<(), Failure> {
    let receipt = Receipt::read(&args.receipt)?;
    let trusted = trusted(app, args, &receipt)?;
    let groups = receipt.check(&trusted.signers, trusted.ledger)?;
    let json = json!({
        "durable": groups.iter().all(Checked::is_durable),
        "ledger": trusted.ledger.to_string(),
        "signers_needed": signers_needed(trusted.signers.len()),
        "signers_known": trusted.signers.len(),
        "signers_from": trusted.origin,
        "groups": groups.iter().map(group_json).collect::<Vec<_>>(),
    });
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
    app.output.answer(&json, || text(&trusted, &groups))
}

/// The signers from the command line, or those who answer for the ledger of the known network.
fn trusted(app: &App, args: &VerifyArgs, receipt: &Receipt) -> Result<Trusted, Failure> {
    if !args.signer.is_empty() {
        let mut signers = args.signer.clone();
        signers.sort_unstable();
        signers.dedup();
        return Ok(Trusted {
            signers,
            ledger: receipt.ledger,
            origin: "command line",
        });
    }
    let network = app.network().map_err(|failure| {
        failure
            .while_doing("it is not known whose signature counts")
            .hint("give --signer ID for each of the network's ledger_peers, or --network FILE")
    })?;
    Ok(Trusted {
        signers: network.ledger_peers,
        ledger: network.ledger,
        origin: "network file",
    })
}

fn group_json(group: &Checked<'_>) -> Value {
    let proof = group.proof;
    json!({
        "group": proof.group.to_string(),
        "owner": proof.owner.to_string(),
        "code": proof.code.to_string(),
        "revision": proof.revision.number.get(),
        "last_segment": group.last_segment.get(),
        "as_of_epoch": group.as_of().get(),
        "signers": group.signers.iter().map(NodeId::to_string).collect::<Vec<_>>(),
        "slots_proven": group.proven_count(),
        "slots_needed": proof.code.k(),
        "height": proof.height.get(),
        "time_ms": proof.time.get(),
        "tip": proof.tip.to_string(),
    })
}

fn text(trusted: &Trusted, groups: &[Checked<'_>]) -> String {
    let mut text = String::from("The receipt holds.\n");
    for group in groups {
        let proof = group.proof;
        writeln!(
            text,
            "group {}: proven as of epoch {} by {} of {}, {} needed, with segments up to {}; block {}, {}; \
             signed by {}",
            proof.group,
            group.as_of(),
            group.proven_count(),
            count(proof.code.n(), "slot", "slots"),
            proof.code.k(),
            group.last_segment,
            proof.height,
            proof.time,
            count(group.signers.len(), "key", "keys"),
        )
        .unwrap_or_default();
    }
    writeln!(
        text,
        "for ledger {}; whose signatures count is what the {} says\n{}\n\
         The proofs are not in the receipt. Which segments hold a file only its link tells.",
        trusted.ledger,
        trusted.origin,
        worth(trusted.signers.len()),
    )
    .unwrap_or_default();
    text
}

/// What the word of a ledger's signers is worth, of which there are so many.
fn worth(known: usize) -> String {
    if known == 1 {
        return "What this shows: one who answers for the ledger says that these nodes answered \
                their challenges.\nIt is that one party's word."
            .to_owned();
    }
    let needed = signers_needed(known);
    format!(
        "What this shows: at least {needed} of {known} validators say that these nodes answered \
         their challenges.\nOne of them at least is honest where fewer than a third of all lie: it \
         is their word, of a block that the ledger's validators agreed on, without their certificate."
    )
}
