//! `cairn verify`: checks a receipt without a network.

use std::fmt::Write;

use cairn_core::{LedgerId, NodeId};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::VerifyArgs;
use crate::failure::{Failure, FailureKind};
use crate::output::count;
use crate::receipt::{Checked, Receipt};

/// Whose word counts, and who says so.
struct Trusted {
    signer: NodeId,
    ledger: LedgerId,
    origin: &'static str,
}

/// Checks it.
pub(crate) fn run(app: &App, args: &VerifyArgs) -> Result<(), Failure> {
    let receipt = Receipt::read(&args.receipt)?;
    let trusted = trusted(app, args, &receipt)?;
    let groups = receipt.check(trusted.signer, trusted.ledger)?;
    let json = json!({
        "durable": groups.iter().all(Checked::is_durable),
        "ledger": trusted.ledger.to_string(),
        "signer": trusted.signer.to_string(),
        "signer_from": trusted.origin,
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

/// The signer from the command line, or the sequencer of the known network and its ledger.
fn trusted(app: &App, args: &VerifyArgs, receipt: &Receipt) -> Result<Trusted, Failure> {
    if let Some(signer) = args.signer {
        return Ok(Trusted {
            signer,
            ledger: receipt.ledger,
            origin: "command line",
        });
    }
    let network = app.network().map_err(|failure| {
        failure
            .while_doing("it is not known whose signature counts")
            .hint("give --signer ID, the key of the network's sequencer, or --network FILE")
    })?;
    Ok(Trusted {
        signer: *network.ledger_peers.first().expect("it names someone"),
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
        "signed by {} for ledger {}; that this key counts is what the {} says\n\
         What this shows: the ledger's sequencer says that these nodes answered their challenges.\n\
         It is that one party's word: the proofs are not in the receipt, and no validators sign it yet.\n\
         Which segments hold a file only its link tells.",
        trusted.signer, trusted.ledger, trusted.origin
    )
    .unwrap_or_default();
    text
}
