//! `cairn pay`: credits for an account or a node.

use cairn_ledger::{Ledger, TxBody, submit_body};
use serde_json::json;

use crate::app::App;
use crate::args::PayArgs;
use crate::credits::credits;
use crate::failure::Failure;
use crate::session::Session;

/// Pays; returns when the payment is final.
pub(crate) async fn run(app: &App, args: &PayArgs) -> Result<(), Failure> {
    let keys = app.owner()?;
    let session = Session::open(app).await?;
    let body = TxBody::Transfer {
        to: args.to,
        amount: args.amount,
    };
    let paid = submit_body(&session.ledger, keys.identity(), body).await;
    let left = session.ledger.account(keys.account()).await;
    session.close().await;
    let (paid, left) = (paid?, left?.balance);
    let json = json!({
        "to": args.to.to_string(),
        "paid_micro_credits": args.amount.micro(),
        "transaction": paid.id.to_string(),
        "balance_micro_credits": left.micro(),
    });
    app.output.answer(&json, || {
        format!(
            "paid {} credits to {}; {} are left\n",
            credits(args.amount),
            args.to,
            credits(left)
        )
    })
}
