//! Arguments of commands that move credits.

use cairn_core::{AccountId, Amount};
use clap::{Args as ArgGroup, Subcommand};

use super::FolderArgs;
use crate::credits::parse_credits;

/// Arguments of `pay`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct PayArgs {
    /// The account, or the id of a node.
    #[arg(value_name = "ACCOUNT", value_parser = str::parse::<AccountId>)]
    pub(crate) to: AccountId,
    /// How many credits, with up to six decimals.
    #[arg(value_name = "CREDITS", value_parser = parse_credits)]
    pub(crate) amount: Amount,
}

/// Arguments of `node pay`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct NodePayArgs {
    /// To whom, and how much.
    #[command(flatten)]
    pub(crate) pay: PayArgs,
    /// Which node.
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
}

/// Arguments of `node collateral`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct CollateralArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: CollateralVerb,
}

/// What to do with a node's collateral.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CollateralVerb {
    /// Put a part of the node's balance down.
    Add(CollateralAmountArgs),
    /// Take some of what no slot has locked back into the node's balance.
    Take(CollateralAmountArgs),
}

/// How much collateral, and whose.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct CollateralAmountArgs {
    /// How many credits, with up to six decimals.
    #[arg(value_name = "CREDITS", value_parser = parse_credits)]
    pub(crate) amount: Amount,
    /// Which node.
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
}

/// Arguments of `node maintain`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct MaintainArgs {
    /// How many epochs the node may be away, from the one that runs.
    #[arg(value_name = "EPOCHS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) epochs: u32,
    /// Which node.
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
}
