//! What was typed for receipts.

use std::path::PathBuf;

use cairn_ledger::LedgerKey;
use clap::Args as ArgGroup;

/// Arguments of `stat`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct StatArgs {
    /// Link that `put` printed.
    pub(crate) link: String,
    /// File to write a durability receipt to: the ledger's word that the data is proven, which
    /// `cairn verify` checks without a network.
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
}

/// Arguments of `verify`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct VerifyArgs {
    /// File that `stat --receipt` or `notarise` wrote.
    pub(crate) receipt: PathBuf,
    /// The file that `notarise` was given.
    pub(crate) file: Option<PathBuf>,
    /// Whose attestation counts [default: the `ledger_key` of the network file].
    #[arg(long, value_name = "KEY", value_parser = str::parse::<LedgerKey>)]
    pub(crate) ledger_key: Option<LedgerKey>,
}

/// Arguments of `notarise`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct NotariseArgs {
    /// Files to record, all by one digest. Each gets a receipt beside it, named FILE.notarised.json.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
}
