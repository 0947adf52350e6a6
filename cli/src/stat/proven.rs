//! What the ledger says of the proofs of an upload's groups.

use cairn_client::stat::{GroupStat, Stat};
use cairn_core::{SegmentNumber, UnixMillis};
use cairn_ledger::{Evidence, GroupProof, Ledger, Question, Seen};

use super::{ProvenStanding, Standing};
use crate::failure::{Failure, FailureKind};
use crate::output::count;
use crate::receipt::{About, GroupReceipt, Receipt, is_durable, proven_count};
use crate::session::Session;

/// For when too little is proven for a receipt.
const WAIT_HINT: &str =
    "nodes prove in each epoch what they had when it began; cairn stat LINK shows when they have";

/// What the ledger says of each group.
///
/// # Errors
///
/// Of kind network when it does not answer, not-so when it has no epochs or not all groups.
pub(super) async fn proofs(session: &Session, stat: &Stat) -> Result<Vec<GroupProof>, Failure> {
    check_epochs(session).await?;
    let mut proofs = Vec::new();
    for group in &stat.groups {
        let proof = session.ledger.group_proof(group.group).await?;
        proofs.push(proof.ok_or_else(|| unknown(group))?);
    }
    Ok(proofs)
}

/// The receipt of all groups.
///
/// # Errors
///
/// As [`proofs`]; of kind not-so too when the list of files can't be read, so that it is not known
/// which segments are meant, and when not as many slots are proven as give every byte back.
pub(super) async fn receipt(session: &Session, stat: &Stat) -> Result<Receipt, Failure> {
    check_epochs(session).await?;
    if stat.contents.is_err() {
        let text = "the list of files can't be read, so its segments are not known";
        return Err(Failure::say(FailureKind::NotSo, text).while_doing("there is no receipt"));
    }
    let mut groups = Vec::new();
    for group in &stat.groups {
        let Some(last_segment) = group.last_segment else {
            // None of the upload's segments are in it.
            continue;
        };
        groups.push(GroupReceipt {
            group: group.group,
            last_segment,
            evidence: evidence(session, group, last_segment).await?,
        });
    }
    Ok(Receipt {
        ledger: session.ledger.id(),
        about: About::Groups(groups),
    })
}

/// What shows that a group is durable.
async fn evidence(
    session: &Session,
    group: &GroupStat,
    last: SegmentNumber,
) -> Result<Evidence, Failure> {
    let question = Question::Proven(group.group);
    let (evidence, seen) = session.ledger.evidence(question).await?;
    let Seen::Proven(Some(proof)) = seen else {
        return Err(unknown(group));
    };
    if is_durable(&proof, last) {
        return Ok(evidence);
    }
    let text = format!(
        "group {}: {} proven as of epoch {}, {} needed",
        group.group,
        count(proven_count(&proof, last), "slot", "slots"),
        proof.as_of(),
        group.code.k()
    );
    Err(Failure::say(FailureKind::NotSo, text)
        .while_doing("there is no receipt yet")
        .hint(WAIT_HINT))
}

async fn check_epochs(session: &Session) -> Result<(), Failure> {
    let status = session.ledger.status().await?;
    if status.parameters.epoch_millis == 0 {
        let text = "the ledger has no epochs, so nobody proves";
        return Err(Failure::say(FailureKind::NotSo, text));
    }
    Ok(())
}

fn unknown(group: &GroupStat) -> Failure {
    let text = format!("the ledger has no group {}", group.group);
    Failure::say(FailureKind::NotSo, text)
}

/// Adds it to the standing; or why it is not known.
pub(super) fn add(standing: &mut Standing, stat: &Stat, proofs: Result<Vec<GroupProof>, Failure>) {
    let proofs = match proofs {
        Ok(proofs) => proofs,
        Err(failure) => {
            standing.proven_cause = Some(failure.cause());
            return;
        }
    };
    let groups = standing.groups.iter_mut().zip(&stat.groups);
    for ((shown, group), proof) in groups.zip(&proofs) {
        shown.proven = Some(ProvenStanding {
            as_of_epoch: proof.as_of().get(),
            slots: proof.proven(group.last_segment).count(),
            height: proof.height.get(),
            time_ms: proof.time.get(),
        });
        for slot in &mut shown.slots {
            let proven = proof
                .slots
                .iter()
                .find(|found| found.slot.get() == slot.slot);
            slot.proven_epoch = proven.map(|found| found.epoch.get());
        }
    }
}

/// One group's, for people.
pub(super) fn line(proven: &ProvenStanding, needed: u8) -> String {
    format!(
        "  proven as of epoch {} by {}, {needed} needed; known from block {}, {}",
        proven.as_of_epoch,
        count(proven.slots, "slot", "slots"),
        proven.height,
        UnixMillis::new(proven.time_ms),
    )
}
