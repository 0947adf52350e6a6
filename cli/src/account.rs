//! `cairn account`: the owner's own account on the ledger, and how long what is stored is paid for.

use cairn_ledger::Ledger;
use serde_json::{Value, json};

use crate::app::App;
use crate::credits::credits;
use crate::failure::Failure;
use crate::ledger::{groups_of, summary_json, summary_line};
use crate::output::count;
use crate::session::Session;

/// Shows it. The account is public: no passphrase is asked for.
pub(crate) async fn run(app: &App) -> Result<(), Failure> {
    let id = app.owner_account()?;
    let session = Session::open(app).await?;
    let account = session.ledger.account(id).await;
    let table = groups_of(&session, id).await;
    session.close().await;
    let (account, table) = (account?, table?);
    let json = json!({
        "account": id.to_string(),
        "balance_micro_credits": account.balance.micro(),
        "nonce": account.nonce,
        "escrow_micro_credits": table.escrow().micro(),
        "epoch_cost_micro_credits": table.epoch_cost().micro(),
        "groups": table.groups.iter().map(summary_json).collect::<Vec<Value>>(),
    });
    app.output.answer(&json, || {
        let mut text = format!(
            "account  {id}\nbalance  {} credits\nnonce    {}\nescrow   {} credits in {}, of which an epoch takes {}\n",
            credits(account.balance),
            account.nonce,
            credits(table.escrow()),
            count(table.groups.len(), "group", "groups"),
            credits(table.epoch_cost()),
        );
        for group in &table.groups {
            text.push_str("  ");
            text.push_str(&summary_line(group));
        }
        text
    })
}
