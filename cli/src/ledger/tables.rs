//! The ledger's accounts, groups and nodes.

use std::fmt::Write;

use cairn_core::{AccountId, Amount, ByteCount, GroupId, NodeId, SlotIndex};
use cairn_ledger::view::{GROUPS_PAGE_MAX, NODES_PAGE_MAX};
use cairn_ledger::{
    Deal, DealState, Epoch, Group, GroupProof, GroupSummary, Ledger, NodeEntry, SCORE_MAX,
    SlotProof, Verdict, VoteCount,
};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::{GroupsArgs, NodesArgs};
use crate::credits::credits;
use crate::failure::{Failure, FailureKind};
use crate::output::count;
use crate::session::Session;

/// Most groups of one owner that are listed: 64 pages.
const GROUPS_LISTED_MAX: usize = 64 * GROUPS_PAGE_MAX;

/// An owner's groups, and what is locked in them.
#[derive(Debug)]
pub(crate) struct GroupTable {
    /// The groups, rising by id.
    pub(crate) groups: Vec<GroupSummary>,
}

impl GroupTable {
    /// What is locked in their escrows.
    pub(crate) fn escrow(&self) -> Amount {
        self.sum(|group| group.escrow)
    }

    /// What an epoch takes out of them.
    pub(crate) fn epoch_cost(&self) -> Amount {
        self.sum(|group| group.epoch_cost)
    }

    fn sum(&self, part: impl Fn(&GroupSummary) -> Amount) -> Amount {
        let micro = self.groups.iter().map(|group| part(group).micro());
        Amount::from_micro(micro.fold(0, u64::saturating_add))
    }
}

/// All groups of an owner.
///
/// # Errors
///
/// Of kind network when the ledger does not answer.
pub(crate) async fn groups_of(session: &Session, owner: AccountId) -> Result<GroupTable, Failure> {
    let mut groups: Vec<GroupSummary> = Vec::new();
    while groups.len() < GROUPS_LISTED_MAX {
        let after = groups.last().map(|group| group.id);
        let page = session.ledger.groups_page(Some(owner), after).await?;
        let is_last = page.len() < GROUPS_PAGE_MAX;
        groups.extend(page);
        if is_last {
            break;
        }
    }
    Ok(GroupTable { groups })
}

/// `cairn ledger account`.
pub(super) async fn account(app: &App, session: &Session, id: AccountId) -> Result<(), Failure> {
    let account = session.ledger.account(id).await?;
    let table = groups_of(session, id).await?;
    let node = session.ledger.node(NodeId::new(id.key())).await?;
    let is_empty = account.balance == Amount::ZERO && account.nonce == 0;
    if is_empty && table.groups.is_empty() && node.is_none() {
        let text = format!("the ledger has no account {id}");
        return Err(Failure::say(FailureKind::NotSo, text)
            .hint("an account begins with the first credits that it gets"));
    }
    let json = json!({
        "account": id.to_string(),
        "balance_micro_credits": account.balance.micro(),
        "nonce": account.nonce,
        "groups": table.groups.len(),
        "escrow_micro_credits": table.escrow().micro(),
        "node": node.as_ref().map(|entry| entry.status.to_string()),
    });
    app.output.answer(&json, || {
        let node = node.map_or_else(
            || "no".to_owned(),
            |entry| format!("yes, {}: cairn ledger node {id}", entry.status),
        );
        format!(
            "account  {id}\nbalance  {} credits\nnonce    {}\ngroups   {}, with {} credits in escrow\nnode     {node}\n",
            credits(account.balance),
            account.nonce,
            table.groups.len(),
            credits(table.escrow()),
        )
    })
}

/// `cairn ledger groups`.
pub(super) async fn groups(app: &App, session: &Session, args: &GroupsArgs) -> Result<(), Failure> {
    let mut groups: Vec<GroupSummary> = Vec::new();
    let mut has_more = true;
    while has_more && groups.len() < args.page.limit() {
        let after = groups.last().map_or(args.after, |group| Some(group.id));
        let page = session.ledger.groups_page(args.owner, after).await?;
        has_more = page.len() == GROUPS_PAGE_MAX;
        groups.extend(page);
    }
    let next = (has_more || groups.len() > args.page.limit())
        .then(|| groups.get(args.page.limit().saturating_sub(1)))
        .flatten()
        .map(|group| group.id.to_string());
    groups.truncate(args.page.limit());
    let list: Vec<Value> = groups.iter().map(summary_json).collect();
    app.output
        .answer(&json!({ "groups": list, "next": next }), || {
            let mut text = String::new();
            for group in &groups {
                text.push_str(&summary_line(group));
            }
            text.push_str(&more(groups.len(), "group", "groups", next.as_deref()));
            text
        })
}

/// `cairn ledger nodes`.
pub(super) async fn nodes(app: &App, session: &Session, args: &NodesArgs) -> Result<(), Failure> {
    let epoch = session.ledger.epoch_view().await?.epoch;
    let mut nodes: Vec<NodeEntry> = Vec::new();
    let mut has_more = true;
    while has_more && nodes.len() < args.page.limit() {
        let after = nodes.last().map_or(args.after, |entry| Some(entry.node));
        let page = session.ledger.nodes_page(after).await?;
        has_more = page.len() == NODES_PAGE_MAX;
        nodes.extend(page);
    }
    let next = (has_more || nodes.len() > args.page.limit())
        .then(|| nodes.get(args.page.limit().saturating_sub(1)))
        .flatten()
        .map(|entry| entry.node.to_string());
    nodes.truncate(args.page.limit());
    let list: Vec<Value> = nodes.iter().map(|entry| node_json(entry, &epoch)).collect();
    app.output
        .answer(&json!({ "nodes": list, "next": next }), || {
            let mut text = String::new();
            for entry in &nodes {
                let line = format!(
                    "{} {:<8} {} of {}, {} credits per GiB and epoch, {}",
                    entry.node,
                    entry.status,
                    entry.used,
                    entry.terms.capacity,
                    credits(entry.terms.price),
                    count(entry.standing.lapses(&epoch), "lapse", "lapses"),
                );
                writeln!(text, "{line}").unwrap_or_default();
            }
            text.push_str(&more(nodes.len(), "node", "nodes", next.as_deref()));
            text
        })
}

/// How many are shown, and how to see more.
fn more(shown: usize, one: &str, many: &str, next: Option<&str>) -> String {
    let shown = count(shown, one, many);
    next.map_or_else(
        || format!("{shown}\n"),
        |next| format!("{shown}; more: --after {next}\n"),
    )
}

/// `cairn ledger node`.
pub(super) async fn node(app: &App, session: &Session, id: NodeId) -> Result<(), Failure> {
    let Some(entry) = session.ledger.node(id).await? else {
        let text = format!("the ledger has no node {id}");
        return Err(Failure::say(FailureKind::NotSo, text)
            .hint("cairn ledger nodes lists those that it has"));
    };
    let epoch = session.ledger.epoch_view().await?.epoch;
    app.output
        .answer(&node_json(&entry, &epoch), || node_text(&entry, &epoch))
}

fn node_json(entry: &NodeEntry, epoch: &Epoch) -> Value {
    let standing = &entry.standing;
    let votes = entry.score.votes();
    json!({
        "node": entry.node.to_string(),
        "operator": entry.operator.to_string(),
        "status": entry.status.to_string(),
        "capacity_bytes": entry.terms.capacity.get(),
        "used_bytes": entry.used.get(),
        "price_micro_credits_per_gib_epoch": entry.terms.price.micro(),
        "network_prefix": entry.terms.network.to_string(),
        "hosting_provider": entry.terms.provider.to_string(),
        "region": entry.terms.region.to_string(),
        "collateral_micro_credits": entry.collateral.micro(),
        "locked_micro_credits": entry.locked.micro(),
        "lapses": standing.lapses(epoch),
        "epochs_proven": standing.proven,
        "last_verdict": standing.verdict.map(|(_, found)| verdict(found)),
        "last_verdict_epoch": standing.verdict.map(|(epoch, _)| epoch.get()),
        "score": entry.score.at(epoch.number),
        "audits_passed": votes.passed_count,
        "audits_failed": votes.failed_count,
        "audits_epoch": votes.epoch.get(),
    })
}

const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Invalid => "invalid",
        Verdict::Missing => "missing",
    }
}

fn node_text(entry: &NodeEntry, epoch: &Epoch) -> String {
    let standing = &entry.standing;
    let last = standing.verdict.map_or_else(
        || "none".to_owned(),
        |(epoch, found)| format!("{} in epoch {epoch}", verdict(found)),
    );
    format!(
        "node      {}\noperator  {}\nstatus    {}\nslots     {} of {} given out\n\
         price     {} credits per GiB and epoch\nlocked    {} of {} credits of collateral\nnetwork   {}\nprovider  {}\nregion    {}\n\
         proven    {}, last verdict {last}\nlapses    {}\nscore     {} of {SCORE_MAX}, {}\n",
        entry.node,
        entry.operator,
        entry.status,
        entry.used,
        entry.terms.capacity,
        credits(entry.terms.price),
        credits(entry.locked),
        credits(entry.collateral),
        entry.terms.network,
        entry.terms.provider,
        entry.terms.region,
        count(standing.proven, "epoch", "epochs"),
        standing.lapses(epoch),
        entry.score.at(epoch.number),
        audits_text(&entry.score.votes()),
    )
}

/// What others said last of a node's audits.
fn audits_text(votes: &VoteCount) -> String {
    let VoteCount {
        epoch,
        passed_count,
        failed_count,
    } = votes;
    if passed_count.saturating_add(*failed_count) == 0 {
        return "nobody has audited it yet".to_owned();
    }
    format!("audits {passed_count} passed and {failed_count} failed as of epoch {epoch}")
}

/// `cairn ledger group`.
pub(super) async fn group(app: &App, session: &Session, id: GroupId) -> Result<(), Failure> {
    let group = session.ledger.group(id).await?;
    let proof = session.ledger.group_proof(id).await?;
    let (Some(group), Some(proof)) = (group, proof) else {
        let text = format!("the ledger has no group {id}");
        return Err(Failure::say(FailureKind::NotSo, text)
            .hint("it never was, or it has ended; cairn ledger groups lists those that it has"));
    };
    let mut json = summary_json(&group.summary());
    let slots = group.code.slots().zip(&group.deals);
    let slots = slots.map(|(slot, deal)| deal_json(slot, deal, slot_proof(&proof, slot)));
    json["slots"] = slots.collect();
    app.output.answer(&json, || group_text(&group, &proof))
}

fn slot_proof(proof: &GroupProof, slot: SlotIndex) -> Option<&SlotProof> {
    proof.slots.iter().find(|proven| proven.slot == slot)
}

fn deal_json(slot: SlotIndex, deal: &Deal, proven: Option<&SlotProof>) -> Value {
    json!({
        "slot": slot.get(),
        "node": deal.node.to_string(),
        "state": state(deal),
        "since_height": deal.since.get(),
        "price_micro_credits_per_gib_epoch": deal.price.micro(),
        "collateral_micro_credits": deal.collateral.micro(),
        "bounty_micro_credits": deal.bounty.micro(),
        "acknowledged_revision": deal.acknowledged.get(),
        "leaver": deal.leaver.map(|leaver| leaver.node.to_string()),
        "proven_epoch": proven.map(|proven| proven.epoch.get()),
        "proven_revision": proven.map(|proven| proven.revision.get()),
    })
}

const fn state(deal: &Deal) -> &'static str {
    match deal.state {
        DealState::Held => "held",
        DealState::Leaving => "leaving",
        DealState::Vacant => "vacant",
        DealState::Idle => "idle",
    }
}

fn group_text(group: &Group, proof: &GroupProof) -> String {
    let summary = group.summary();
    let mut text = format!(
        "group     {}\nowner     {}\ncode      {}\nopened    in block {}\nrevision  {}, {} of {} per slot\n\
         escrow    {} credits, {}\n",
        group.id,
        group.owner,
        group.code,
        group.opened,
        group.revision.number,
        group.revision.slot_bytes,
        group.slot_capacity,
        credits(group.escrow),
        lasts(&summary),
    );
    for (slot, deal) in group.code.slots().zip(&group.deals) {
        let mut line = format!(
            "  slot {slot:<3} {:<7} {} revision {}",
            state(deal),
            deal.node,
            deal.acknowledged
        );
        if let Some(proven) = slot_proof(proof, slot) {
            let (epoch, revision) = (proven.epoch, proven.revision);
            write!(line, ", proven {revision} in epoch {epoch}").unwrap_or_default();
        }
        if let Some(leaver) = deal.leaver {
            write!(line, ", copies from {}", leaver.node).unwrap_or_default();
        }
        writeln!(text, "{line}").unwrap_or_default();
    }
    text
}

/// How long an escrow lasts.
pub(crate) fn lasts(group: &GroupSummary) -> String {
    group.epochs_left().map_or_else(
        || "which nothing is taken out of at present".to_owned(),
        |epochs| {
            let cost = credits(group.epoch_cost);
            let epochs = count(epochs, "epoch", "epochs");
            format!("which lasts {epochs} at the present {cost} each")
        },
    )
}

pub(crate) fn summary_json(group: &GroupSummary) -> Value {
    json!({
        "group": group.id.to_string(),
        "owner": group.owner.to_string(),
        "code": group.code.to_string(),
        "opened_height": group.opened.get(),
        "revision": group.revision.get(),
        "slot_bytes": group.slot_bytes.get(),
        "slot_capacity_bytes": group.slot_capacity.get(),
        "slots_drawn": group.slot_count,
        "slots_current": group.current_count,
        "term_ends_epoch": group.ends.get(),
        "ends": group.ending.is_some(),
        "price_max_micro_credits_per_gib_epoch": group.price_max.micro(),
        "escrow_micro_credits": group.escrow.micro(),
        "epoch_cost_micro_credits": group.epoch_cost.micro(),
        "epochs_left": group.epochs_left(),
    })
}

pub(crate) fn summary_line(group: &GroupSummary) -> String {
    let bytes: ByteCount = group.slot_bytes;
    format!(
        "{} {} revision {}, {} of {} slots current, {bytes} each; escrow {} credits, {}\n",
        group.id,
        group.code,
        group.revision,
        group.current_count,
        group.code.n(),
        credits(group.escrow),
        lasts(group),
    )
}
