//! `cairn node earnings`: what a node earned and spent, as the ledger has it.
//!
//! The numbers are of one state of the ledger and add up to the balance in it; an answer whose
//! numbers do not is refused. The node need not run.

use std::fmt::Write;

use cairn_core::NodeId;
use cairn_ledger::{Cause, EarningsView};
use serde_json::{Value, json};

use super::{Folder, node_key};
use crate::app::App;
use crate::args::EarningsArgs;
use crate::credits::{self, credits, signed_credits};
use crate::failure::{Failure, FailureKind};
use crate::output::write_out;
use crate::session::Session;

/// A line of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    /// First and last epoch; `None` for what was there before the node registered.
    epochs: Option<(u64, u64)>,
    /// Why; `None` for what was there before.
    cause: Option<Cause>,
    /// Signed micro-credits.
    micro: i128,
}

/// Shows them.
pub(super) async fn run(app: &App, args: &EarningsArgs) -> Result<(), Failure> {
    if args.csv && app.shared.json {
        let text = "expected --csv or --json, found both";
        return Err(Failure::say(FailureKind::Usage, text));
    }
    let node = match args.node {
        Some(node) => node,
        None => own_node(app, args)?,
    };
    let session = Session::open(app).await?;
    let view = session.ledger.earnings(node).await;
    session.close().await;
    let Some(view) = view? else {
        let text = format!("the ledger has no node {node}");
        return Err(Failure::say(FailureKind::NotSo, text)
            .hint("a node registers when it runs for the first time: cairn node run"));
    };
    let lines = lines(&view);
    if args.csv {
        return write_out(csv(&lines).as_bytes());
    }
    app.output
        .answer(&to_json(&view, &lines), || text(&view, &lines))
}

/// The node of the folder.
fn own_node(app: &App, args: &EarningsArgs) -> Result<NodeId, Failure> {
    let folder = Folder::of(app, &args.place)?;
    if !folder.key_file().exists() {
        let text = format!("there is no node in {}", folder.path().display());
        return Err(Failure::say(FailureKind::Usage, text)
            .hint("give --folder DIR, or the id of a node: cairn node earnings NODE"));
    }
    Ok(NodeId::new(node_key(app, &folder)?.public()))
}

/// Every line, oldest first; their sum is the balance.
fn lines(view: &EarningsView) -> Vec<Line> {
    let earnings = &view.earnings;
    let opening = Line {
        epochs: None,
        cause: None,
        micro: i128::from(earnings.opening.micro()),
    };
    let through = earnings.before_through.map_or(0, |epoch| epoch.get());
    let before = earnings.before.iter().map(|sum| Line {
        epochs: Some((0, through)),
        cause: Some(sum.cause),
        micro: credits::signed(sum.cause, sum.micro),
    });
    let newest = earnings.lines.iter().map(|line| Line {
        epochs: Some((line.epoch.get(), line.epoch.get())),
        cause: Some(line.cause),
        micro: credits::signed(line.cause, line.micro),
    });
    [opening].into_iter().chain(before).chain(newest).collect()
}

fn name(line: &Line) -> &'static str {
    line.cause.map_or("opening", Cause::name)
}

/// For spreadsheets. The sum of a column of credits is the balance.
fn csv(lines: &[Line]) -> String {
    let mut text = String::from("from_epoch,to_epoch,cause,micro_credits,credits\n");
    for line in lines {
        let (from, to) = line
            .epochs
            .map(|(from, to)| (from.to_string(), to.to_string()))
            .unwrap_or_default();
        let (micro, credits) = (line.micro, signed_credits(line.micro));
        writeln!(text, "{from},{to},{},{micro},{credits}", name(line)).unwrap_or_default();
    }
    text
}

fn to_json(view: &EarningsView, lines: &[Line]) -> Value {
    let line = |line: &Line| {
        json!({
            "from_epoch": line.epochs.map(|(from, _)| from),
            "to_epoch": line.epochs.map(|(_, to)| to),
            "cause": name(line),
            "micro_credits": credits::json(line.micro),
        })
    };
    let total = |cause: Cause, micro| {
        let micro = credits::json(credits::signed(cause, micro));
        (cause.name().to_owned(), micro)
    };
    let totals = view.earnings.totals().into_iter();
    let totals: serde_json::Map<_, _> = totals.map(|sum| total(sum.cause, sum.micro)).collect();
    json!({
        "node": view.node.to_string(),
        "height": view.height.get(),
        "time_ms": view.time.get(),
        "epoch": view.epoch.get(),
        "balance_micro_credits": view.balance.micro(),
        "totals_micro_credits": totals,
        "lines": lines.iter().map(line).collect::<Vec<_>>(),
    })
}

fn text(view: &EarningsView, lines: &[Line]) -> String {
    let mut text = format!(
        "node     {}\nbalance  {} credits in block {}, {}, epoch {}\n\n{:<12} {:<16} {:>20}\n",
        view.node,
        credits(view.balance),
        view.height,
        view.time,
        view.epoch,
        "epoch",
        "cause",
        "credits"
    );
    for line in lines {
        let epochs = match line.epochs {
            None => "before".to_owned(),
            Some((from, to))
                if from == to
                    && view
                        .earnings
                        .before_through
                        .is_none_or(|through| through.get() != to) =>
            {
                to.to_string()
            }
            Some((_, to)) => format!("up to {to}"),
        };
        let credits = signed_credits(line.micro);
        writeln!(text, "{epochs:<12} {:<16} {credits:>20}", name(line)).unwrap_or_default();
    }
    let sum = lines
        .iter()
        .fold(0_i128, |sum, line| sum.saturating_add(line.micro));
    writeln!(text, "{:<12} {:<16} {:>20}", "sum", "", signed_credits(sum)).unwrap_or_default();
    text
}

#[cfg(test)]
mod tests {
    use cairn_core::{Amount, EpochNumber, Height, PublicKey, UnixMillis};
    use cairn_ledger::{CauseSum, Earnings, EarningsLine};

    use super::*;

    fn view() -> EarningsView {
        let line = |epoch, cause, micro| EarningsLine {
            epoch: EpochNumber::new(epoch),
            cause,
            micro,
        };
        EarningsView {
            node: NodeId::new(PublicKey::from_bytes([7; 32])),
            height: Height::new(9),
            time: UnixMillis::new(1_700_000_000_000),
            epoch: EpochNumber::new(6),
            balance: Amount::from_micro(4_500_000),
            earnings: Earnings {
                opening: Amount::from_micro(1_000_000),
                before_through: Some(EpochNumber::new(4)),
                before: vec![CauseSum {
                    cause: Cause::Pay,
                    micro: 3_000_000,
                }],
                lines: vec![
                    line(5, Cause::Pay, 750_000),
                    line(5, Cause::Fee, 100_000),
                    line(6, Cause::Sent, 150_000),
                ],
            },
        }
    }

    #[test]
    fn every_form_has_lines_that_add_up_to_the_balance() {
        let view = view();
        assert_eq!(view.earnings.closing(), Some(view.balance));
        let lines = lines(&view);
        let expected = "from_epoch,to_epoch,cause,micro_credits,credits\n\
            ,,opening,1000000,1\n\
            0,4,pay,3000000,3\n\
            5,5,pay,750000,0.75\n\
            5,5,fee,-100000,-0.1\n\
            6,6,sent,-150000,-0.15\n";
        assert_eq!(csv(&lines), expected);
        let json = to_json(&view, &lines);
        let listed = json["lines"].as_array().unwrap();
        let sum: i64 = listed
            .iter()
            .map(|line| line["micro_credits"].as_i64().unwrap())
            .sum();
        assert_eq!(json["balance_micro_credits"], sum);
        assert_eq!(json["totals_micro_credits"]["pay"], 3_750_000);
        assert_eq!(json["totals_micro_credits"]["fee"], -100_000);
        let text = text(&view, &lines);
        assert!(
            text.contains("up to 4      pay                                 3\n"),
            "{text}"
        );
        assert!(
            text.contains("5            fee                              -0.1\n"),
            "{text}"
        );
        assert!(text.ends_with(" 4.5\n"), "{text}");
    }
}
