//! `cairn fund`: keeps what the owner stored paid for.

use cairn_client::owner::GroupFunds;
use cairn_ledger::Ledger;
use serde_json::{Value, json};

use crate::app::App;
use crate::credits::credits;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::output::count;
use crate::session::Session;

/// Prolongs and fills up what needs it, and says until when each group is paid.
pub(crate) async fn run(app: &App) -> Result<(), Failure> {
    let keys = app.owner()?;
    let account = keys.account();
    let session = Session::open(app).await?;
    let owner = session.owner(app, keys, None)?;
    let funds = owner.keep_paid().await;
    let status = session.ledger.status().await;
    let balance = session.ledger.account(account).await;
    session.close().await;
    let funds = funds.or_fail(FailureKind::Network, "not all groups are paid")?;
    let (status, balance) = (status?, balance?.balance);
    let json = json!({
        "epoch": status.epoch.get(),
        "balance_micro_credits": balance.micro(),
        "groups": funds.iter().map(group_json).collect::<Vec<Value>>(),
    });
    app.output.answer(&json, || {
        let mut text = format!(
            "epoch {}; {} credits are left\n",
            status.epoch,
            credits(balance)
        );
        for group in &funds {
            text.push_str(&line(group));
        }
        text
    })
}

fn group_json(funds: &GroupFunds) -> Value {
    json!({
        "group": funds.group.to_string(),
        "paid_until_epoch": funds.paid_until.get(),
        "ends_epoch": funds.ends.get(),
        "escrow_micro_credits": funds.escrow.micro(),
        "epoch_cost_micro_credits": funds.epoch_cost.micro(),
        "added_epochs": funds.added.epochs,
        "added_micro_credits": funds.added.escrow.micro(),
    })
}

fn line(funds: &GroupFunds) -> String {
    let added = if funds.added == Default::default() {
        String::new()
    } else {
        format!(
            "; added {} and {} credits",
            count(u64::from(funds.added.epochs), "epoch", "epochs"),
            credits(funds.added.escrow)
        )
    };
    format!(
        "  group {} is paid until epoch {}: {} credits in escrow, {} an epoch{added}\n",
        funds.group,
        funds.paid_until,
        credits(funds.escrow),
        credits(funds.epoch_cost),
    )
}
