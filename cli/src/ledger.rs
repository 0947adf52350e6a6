//! `cairn ledger`: what the ledger holds, as whoever answers for it says.

use std::fmt::Write;

use cairn_core::{Height, TxId, UnixMillis};
use cairn_ledger::view::BlockSummary;
use cairn_ledger::{EpochView, Ledger, LedgerStatus, TxSummary};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::{BlocksArgs, LedgerArgs, LedgerVerb};
use crate::credits::credits;
use crate::failure::{Failure, FailureKind};
use crate::output::count;
use crate::session::Session;

mod tables;

pub(crate) use tables::{groups_of, summary_json, summary_line};

/// Shows what is asked for.
pub(crate) async fn run(app: &App, args: &LedgerArgs) -> Result<(), Failure> {
    let session = Session::open(app).await?;
    let shown = show(app, &session, &args.verb).await;
    session.close().await;
    shown
}

async fn show(app: &App, session: &Session, verb: &LedgerVerb) -> Result<(), Failure> {
    match verb {
        LedgerVerb::Status => status(app, session).await,
        LedgerVerb::Epoch => epoch(app, session).await,
        LedgerVerb::Blocks(args) => blocks(app, session, args).await,
        LedgerVerb::Tx(args) => tx(app, session, args.id).await,
        LedgerVerb::Account(args) => tables::account(app, session, args.id).await,
        LedgerVerb::Group(args) => tables::group(app, session, args.id).await,
        LedgerVerb::Node(args) => tables::node(app, session, args.id).await,
        LedgerVerb::Groups(args) => tables::groups(app, session, args).await,
        LedgerVerb::Nodes(args) => tables::nodes(app, session, args).await,
    }
}

async fn status(app: &App, session: &Session) -> Result<(), Failure> {
    let status = session.ledger.status().await?;
    let parameters = &status.parameters;
    let json = json!({
        "ledger": status.ledger.to_string(),
        "height": status.height.get(),
        "time_ms": status.time.get(),
        "tip": status.tip.to_string(),
        "epoch": status.epoch.get(),
        "epoch_ms": parameters.epoch_millis,
        "nodes": status.node_count,
        "nodes_active": status.active_node_count,
        "groups": status.group_count,
        "slots_waiting": status.waiting_slot_count,
        "supply_micro_credits": status.supply.micro(),
        "fee_min_micro_credits": parameters.fee_min.micro(),
        "escrow_percent": parameters.escrow_percent,
        "lost_after_epochs": parameters.lost_after_epochs,
    });
    app.output.answer(&json, || status_text(&status))
}

fn status_text(status: &LedgerStatus) -> String {
    let parameters = &status.parameters;
    let epoch = if parameters.epoch_millis == 0 {
        "none: nobody proves on this ledger".to_owned()
    } else {
        let length = span(parameters.epoch_millis);
        format!("{}, of {length} each", status.epoch)
    };
    format!(
        "ledger        {}\nheight        {}\ntime          {}\ntip           {}\nepoch         {epoch}\n\
         nodes         {} active of {} ever registered\ngroups        {}\nslots waiting {}\n\
         supply        {} credits\nleast fee     {} credits\nlost after    {}\n",
        status.ledger,
        status.height,
        status.time,
        status.tip,
        status.active_node_count,
        status.node_count,
        status.group_count,
        status.waiting_slot_count,
        credits(status.supply),
        credits(parameters.fee_min),
        count(parameters.lost_after_epochs, "epoch", "epochs"),
    )
}

async fn epoch(app: &App, session: &Session) -> Result<(), Failure> {
    let view = session.ledger.epoch_view().await?;
    if view.epoch_millis == 0 {
        return Err(
            Failure::say(FailureKind::NotSo, "this ledger has no epochs")
                .hint("a network is made with them by cairn dev --epoch TIME"),
        );
    }
    let ends = ends(&view);
    let json = json!({
        "epoch": view.epoch.number.get(),
        "began_ms": view.began.get(),
        "ends_ms": ends.get(),
        "time_ms": view.time.get(),
        "seed": view.epoch.seed.map(|seed| seed.to_string()),
        "open_ms": view.epoch.open_millis,
        "epochs_judged": view.epoch.judged,
        "nodes_active": view.active_node_count,
        "proofs_valid": view.valid_count,
        "proofs_invalid": view.invalid_count,
    });
    app.output.answer(&json, || {
        let seed = view.epoch.seed.map_or_else(
            || "not known yet: nobody can prove".to_owned(),
            |seed| seed.to_string(),
        );
        format!(
            "epoch    {}\nbegan    {}\nends     {ends}\nseed     {seed}\nproofs   {} valid, {} invalid, of {}\n\
             judged   {} before it\n",
            view.epoch.number,
            view.began,
            view.valid_count,
            view.invalid_count,
            count(view.active_node_count, "active node", "active nodes"),
            count(view.epoch.judged, "epoch", "epochs"),
        )
    })
}

const fn ends(view: &EpochView) -> UnixMillis {
    UnixMillis::new(view.began.get().saturating_add(view.epoch_millis))
}

/// A length of time for people.
fn span(millis: u64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(millis)).to_string()
}

async fn blocks(app: &App, session: &Session, args: &BlocksArgs) -> Result<(), Failure> {
    let blocks = fetch_blocks(session, args).await?;
    let json: Vec<Value> = blocks.iter().map(block_json).collect();
    app.output
        .answer(&json!({ "blocks": json }), || blocks_text(&blocks, args))
}

/// The blocks asked for, as many pages as it takes. By default the last ones that are remembered.
async fn fetch_blocks(session: &Session, args: &BlocksArgs) -> Result<Vec<BlockSummary>, Failure> {
    let wanted = u64::from(args.count);
    let first = match args.from {
        Some(from) => from,
        None => {
            let last = session.ledger.status().await?.height.get();
            let oldest = oldest_height(session).await?.get();
            last.saturating_add(1).saturating_sub(wanted).max(oldest)
        }
    };
    let mut blocks: Vec<BlockSummary> = Vec::new();
    while blocks.len() < usize::try_from(wanted).unwrap_or(usize::MAX) {
        let from = blocks
            .last()
            .map_or(Some(Height::new(first)), |last| last.height.next());
        let Some(from) = from else {
            break;
        };
        let page = session.ledger.blocks(from).await?;
        if page.is_empty() {
            break;
        }
        blocks.extend(page);
    }
    blocks.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
    if let (Some(from), true) = (args.from, blocks.is_empty()) {
        let last = session.ledger.status().await?.height;
        let text = format!("there is no block {from} yet: the last is {last}");
        return Err(Failure::say(FailureKind::NotSo, text));
    }
    Ok(blocks)
}

/// The first height that the ledger remembers.
async fn oldest_height(session: &Session) -> Result<Height, Failure> {
    Ok(session.ledger.tx(TxId::default()).await?.oldest)
}

fn block_json(block: &BlockSummary) -> Value {
    json!({
        "height": block.height.get(),
        "time_ms": block.time.get(),
        "digest": block.digest.to_string(),
        "effects": block.effect_count,
        "nodes_lost": block.lost_count,
        "txs": block.txs.iter().map(tx_json).collect::<Vec<_>>(),
    })
}

fn tx_json(tx: &TxSummary) -> Value {
    json!({
        "tx": tx.id.to_string(),
        "kind": tx.kind.name(),
        "account": tx.account.to_string(),
        "nonce": tx.nonce,
        "fee_micro_credits": tx.fee.micro(),
        "done": tx.result.is_ok(),
        "refusal": tx.result.as_ref().err().map(ToString::to_string),
    })
}

fn blocks_text(blocks: &[BlockSummary], args: &BlocksArgs) -> String {
    let mut text = String::new();
    if blocks.is_empty() {
        text.push_str("no block is remembered yet since the ledger was started again\n");
    }
    for block in blocks {
        let refused = block.txs.iter().filter(|tx| tx.result.is_err()).count();
        let txs = count(block.txs.len(), "tx", "txs");
        write!(text, "block {:<8} {} {txs}", block.height, block.time).unwrap_or_default();
        if refused > 0 {
            write!(text, ", {refused} refused").unwrap_or_default();
        }
        if block.lost_count > 0 {
            let lost = count(block.lost_count, "node", "nodes");
            write!(text, ", {lost} called lost").unwrap_or_default();
        }
        writeln!(text, ", digest {}", block.digest).unwrap_or_default();
        for tx in block.txs.iter().filter(|_| args.txs) {
            let said = match &tx.result {
                Ok(()) => String::new(),
                Err(error) => format!(" refused: {error}"),
            };
            writeln!(text, "  tx {} {}{said}", tx.id, tx.kind.name()).unwrap_or_default();
        }
    }
    text
}

async fn tx(app: &App, session: &Session, id: TxId) -> Result<(), Failure> {
    let lookup = session.ledger.tx(id).await?;
    let Some((height, time, tx)) = lookup.found else {
        let oldest = lookup.oldest;
        let text = format!("no block that the ledger remembers has transaction {id}");
        return Err(Failure::say(FailureKind::NotSo, text).hint(format!(
            "blocks are remembered from height {oldest} on; cairn ledger blocks --txs lists transactions"
        )));
    };
    let mut json = tx_json(&tx);
    json["height"] = height.get().into();
    json["time_ms"] = time.get().into();
    app.output.answer(&json, || {
        let outcome = match &tx.result {
            Ok(()) => "done".to_owned(),
            Err(error) => format!("refused: {error}"),
        };
        format!(
            "tx       {id}\nkind     {}\noutcome  {outcome}\nblock    {height}, {time}\naccount  {}\nnonce    {}\nfee      {} credits\n",
            tx.kind.name(),
            tx.account,
            tx.nonce,
            credits(tx.fee)
        )
    })
}
