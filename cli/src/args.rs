//! What was typed: the command line, and nothing done about it.

mod validator;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cairn_core::{AccountId, ByteCount, GroupId, NodeId, Profile, TxId};
use clap::{Args as ArgGroup, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use self::validator::{
    GenesisArgs, ValidatorAgreeArgs, ValidatorArgs, ValidatorChangeArgs, ValidatorEnactArgs,
    ValidatorInitArgs, ValidatorPlaceArgs, ValidatorRunArgs, ValidatorVerb,
};
use crate::range::ByteRange;

mod money;
mod receipts;

pub(crate) use money::{CollateralArgs, CollateralVerb, MaintainArgs, NodePayArgs, PayArgs};
pub(crate) use receipts::{NotariseArgs, StatArgs, VerifyArgs};

/// Shortest epoch: a proof takes a block or two.
const EPOCH_MIN: Duration = Duration::from_secs(1);
/// Longest epoch.
const EPOCH_MAX: Duration = Duration::from_secs(24 * 3600);

/// Decentralized file storage: keep files on other people's disks, encrypted and spread so that
/// half of them may be lost.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "cairn",
    version,
    propagate_version = true,
    subcommand_required = true
)]
#[command(
    after_help = "Exit codes: 0 done, 1 what was asked for is not so, 2 usage or config, \
    3 network or node, 4 local storage, 130 or 143 stopped by a signal."
)]
pub(crate) struct Args {
    /// Flags of every command.
    #[command(flatten)]
    pub(crate) shared: SharedArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every command.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct SharedArgs {
    /// Folder of keys, settings and journals [default: ~/.cairn].
    #[arg(long, value_name = "DIR", env = "CAIRN_HOME", global = true)]
    pub(crate) home: Option<PathBuf>,
    /// File that says how to reach the network [default: network.toml in the home].
    #[arg(long, value_name = "FILE", env = "CAIRN_NETWORK", global = true)]
    pub(crate) network: Option<PathBuf>,
    /// File whose first line is the passphrase of the key file, instead of asking.
    #[arg(
        long,
        value_name = "FILE",
        env = "CAIRN_PASSPHRASE_FILE",
        global = true
    )]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Print data and errors as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but data and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Least level of logs on standard error: error, warn, info, debug, trace, or a filter such
    /// as `cairn_node=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        env = "CAIRN_LOG",
        default_value = "error",
        global = true
    )]
    pub(crate) log: String,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make the owner's key file: new, or from 24 words.
    Init(InitArgs),
    /// Store a file, a folder or standard input; prints its link.
    Put(PutArgs),
    /// Fetch what a link names into a file or folder, or to standard output.
    Get(GetArgs),
    /// Write a file, or a range of it, to standard output.
    Cat(CatArgs),
    /// Show how a link's data stands: segments, slots, nodes, and what is proven.
    Stat(StatArgs),
    /// Check a receipt without a network.
    Verify(VerifyArgs),
    /// Have the ledger record that files are there, as they are.
    Notarise(NotariseArgs),
    /// Delete what a link names from the network.
    Rm(LinkArgs),
    /// Run a network of nodes on this machine.
    Dev(DevArgs),
    /// Run a node, and look after it.
    Node(NodeArgs),
    /// Show your own account: its balance, and how long what is stored is paid for.
    Account,
    /// Give credits to an account or a node.
    Pay(PayArgs),
    /// Keep what you stored paid for: prolong terms and fill escrows up. To be run now and then.
    Fund,
    /// Show what the ledger holds: blocks, transactions, accounts, groups, nodes.
    Ledger(LedgerArgs),
    /// Run a validator of the ledger, and look after it.
    Validator(ValidatorArgs),
    /// Write the draft of a ledger of validators.
    Genesis(GenesisArgs),
    /// Print the completions of a shell.
    Completions(CompletionsArgs),
}

/// Arguments of `init`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct InitArgs {
    /// Read the 24 words from standard input instead of making new ones.
    #[arg(long)]
    pub(crate) restore: bool,
    /// Keep the seed in the key file as it is: whoever reads the file has the keys.
    #[arg(long, conflicts_with = "passphrase_file")]
    pub(crate) no_passphrase: bool,
}

/// Arguments of `put`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct PutArgs {
    /// File or folder to store; - is standard input.
    pub(crate) path: PathBuf,
    /// Store a folder and everything below it.
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// Erasure code: dev4, dev8, compact, standard, wide or critical [default: the network's].
    #[arg(long, value_parser = str::parse::<Profile>)]
    pub(crate) profile: Option<Profile>,
}

/// Arguments of `get`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct GetArgs {
    /// Link that `put` printed.
    pub(crate) link: String,
    /// File or folder to make; standard output without it, or with -.
    pub(crate) path: Option<PathBuf>,
    /// Replace the file if it exists.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `cat`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct CatArgs {
    /// Link that `put` printed.
    pub(crate) link: String,
    /// Bytes from A up to but not including B, with units: 1MiB..2MiB, 4096.., ..64KiB.
    #[arg(
        long,
        value_name = "A..B",
        value_parser = str::parse::<ByteRange>,
        allow_hyphen_values = true
    )]
    pub(crate) range: Option<ByteRange>,
}

/// Arguments of commands on a link.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct LinkArgs {
    /// Link that `put` printed.
    pub(crate) link: String,
}

/// Arguments of `ledger`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct LedgerArgs {
    /// What to show.
    #[command(subcommand)]
    pub(crate) verb: LedgerVerb,
}

/// What to show of the ledger.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum LedgerVerb {
    /// Show its height, its time and its numbers.
    Status,
    /// Show the epoch that runs, and how many nodes have proven.
    Epoch,
    /// List blocks, the last ones unless --from is given.
    Blocks(BlocksArgs),
    /// Show what became of a transaction of a recent block.
    Tx(TxArgs),
    /// Show an account.
    Account(AccountArgs),
    /// Show a group: its escrow, its slots and what is proven.
    Group(GroupArgs),
    /// Show a node: its offer and how it stands with its proofs.
    Node(NodeIdArgs),
    /// List groups.
    Groups(GroupsArgs),
    /// List nodes.
    Nodes(NodesArgs),
}

/// Arguments of `ledger blocks`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct BlocksArgs {
    /// Height of the first block.
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) from: Option<u64>,
    /// How many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) count: u32,
    /// List the transactions of each too.
    #[arg(long)]
    pub(crate) txs: bool,
}

/// Arguments of `ledger tx`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct TxArgs {
    /// Id of the transaction.
    #[arg(value_name = "TX", value_parser = str::parse::<TxId>)]
    pub(crate) id: TxId,
}

/// Arguments of `ledger account`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct AccountArgs {
    /// Id of the account.
    #[arg(value_name = "ACCOUNT", value_parser = str::parse::<AccountId>)]
    pub(crate) id: AccountId,
}

/// Arguments of `ledger group`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct GroupArgs {
    /// Id of the group.
    #[arg(value_name = "GROUP", value_parser = str::parse::<GroupId>)]
    pub(crate) id: GroupId,
}

/// Arguments of `ledger node`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct NodeIdArgs {
    /// Id of the node.
    #[arg(value_name = "NODE", value_parser = str::parse::<NodeId>)]
    pub(crate) id: NodeId,
}

/// Arguments of `ledger groups`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct GroupsArgs {
    /// Those of this account only.
    #[arg(long, value_name = "ACCOUNT", value_parser = str::parse::<AccountId>)]
    pub(crate) owner: Option<AccountId>,
    /// Go on after this one.
    #[arg(long, value_name = "GROUP", value_parser = str::parse::<GroupId>)]
    pub(crate) after: Option<GroupId>,
    /// How many.
    #[command(flatten)]
    pub(crate) page: PageArgs,
}

/// Arguments of `ledger nodes`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct NodesArgs {
    /// Go on after this one.
    #[arg(long, value_name = "NODE", value_parser = str::parse::<NodeId>)]
    pub(crate) after: Option<NodeId>,
    /// How many.
    #[command(flatten)]
    pub(crate) page: PageArgs,
}

/// How much of a table is shown.
#[derive(Clone, Copy, Debug, ArgGroup)]
pub(crate) struct PageArgs {
    /// Most that are listed.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=65536))]
    limit: u32,
}

impl PageArgs {
    /// Most that are listed; at least one.
    pub(crate) fn limit(self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }
}

/// Arguments of `dev`.
#[derive(Clone, Debug, ArgGroup)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DevArgs {
    /// What to do with the running network.
    #[command(subcommand)]
    pub(crate) verb: Option<DevVerb>,
    /// How many nodes [default: 8, or as many as the folder has]; 0 for a network whose nodes are
    /// all on other machines.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(0..=128))]
    pub(crate) nodes: Option<u16>,
    /// Erasure code that `put` uses here [default: the widest that fits the nodes].
    #[arg(long, value_parser = str::parse::<Profile>)]
    pub(crate) profile: Option<Profile>,
    /// Most bytes that each node takes on the disk [default: 16GiB, or what the folder has].
    #[arg(long, value_name = "SIZE", value_parser = str::parse::<ByteCount>)]
    pub(crate) capacity: Option<ByteCount>,
    /// How long an epoch is, such as 10s or 1h: in each, every node proves what it holds. Fixed when
    /// the network is made [default: no epochs].
    #[arg(long, value_name = "TIME", value_parser = epoch)]
    pub(crate) epoch: Option<Duration>,
    /// Multiaddress that others join the network through, on other machines too; may be given
    /// again [default: that of the last time, or a free port of the loopback interface].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<String>,
    /// Run every node in this process instead of one process each.
    #[arg(long)]
    pub(crate) in_process: bool,
}

/// What to do with a running development network.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DevVerb {
    /// Show the nodes.
    Status,
    /// Kill a node, as a power cut would (kill -9).
    Kill(DevNodeArgs),
    /// Start a node again that was killed.
    Start(DevNodeArgs),
    /// Have the ledger call a node lost: other nodes are drawn for its slots.
    Lost(DevNodeArgs),
    /// Give an account credits to spend, or a node collateral.
    Fund(DevFundArgs),
}

/// Arguments of `dev fund`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct DevFundArgs {
    /// The account or node [default: the account of this folder's key file].
    #[arg(value_name = "ACCOUNT", value_parser = str::parse::<AccountId>)]
    pub(crate) account: Option<AccountId>,
    /// How many credits.
    #[arg(long, value_name = "COUNT", default_value_t = crate::dev::GRANT_CREDITS)]
    pub(crate) credits: u64,
}

/// Arguments of commands on a node of the development network.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct DevNodeArgs {
    /// Numbers of the nodes, from 1.
    #[arg(required = true)]
    pub(crate) numbers: Vec<u16>,
}

/// Arguments of `node`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct NodeArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: NodeVerb,
}

/// What to do with a node.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Make a node's folder: its key and its config file.
    Init(NodeInitArgs),
    /// Run the node until it is told to stop (SIGTERM, Ctrl-C).
    Run(NodeRunArgs),
    /// Show how a running node stands.
    Status(FolderArgs),
    /// Show what a node earned and spent, per epoch and cause.
    Earnings(EarningsArgs),
    /// Have a running node read every shard it keeps and check it.
    Scrub(FolderArgs),
    /// Have a running node leave the network: successors copy its slots first.
    Drain(FolderArgs),
    /// Have a running node announce that it will be away: epochs without proofs then cost nothing.
    Maintain(MaintainArgs),
    /// Have a running node put collateral down, or take it back.
    Collateral(CollateralArgs),
    /// Have a running node pay out of its balance.
    Pay(NodePayArgs),
}

/// Which node.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct FolderArgs {
    /// The node's folder [default: node in the home].
    #[arg(long, value_name = "DIR", env = "CAIRN_NODE_FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}

/// Arguments of `node earnings`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct EarningsArgs {
    /// Id of the node, when it is not that of the folder.
    #[arg(value_name = "NODE", value_parser = str::parse::<NodeId>)]
    pub(crate) node: Option<NodeId>,
    /// Which node.
    #[command(flatten)]
    pub(crate) place: FolderArgs,
    /// Print lines of comma-separated values, for a spreadsheet.
    #[arg(long)]
    pub(crate) csv: bool,
}

/// Arguments of `node init`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct NodeInitArgs {
    /// Which node.
    #[command(flatten)]
    pub(crate) place: FolderArgs,
    /// What goes into the config file.
    #[command(flatten)]
    pub(crate) keys: NodeKeyArgs,
    /// Have the owner's account answer for the node; the node's own does otherwise.
    #[arg(long)]
    pub(crate) operate: bool,
}

/// Arguments of `node run`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct NodeRunArgs {
    /// Which node.
    #[command(flatten)]
    pub(crate) place: FolderArgs,
    /// What overrides the config file.
    #[command(flatten)]
    pub(crate) keys: NodeKeyArgs,
    /// Print the config in effect with the origin of each value, and exit.
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Stop when standard input ends: for a parent process that may die.
    #[arg(long, hide = true)]
    pub(crate) until_stdin_ends: bool,
}

/// Keys of a node's config file.
#[derive(Clone, Debug, Default, ArgGroup)]
pub(crate) struct NodeKeyArgs {
    /// Multiaddress to listen on for the control plane; may be given again.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "CAIRN_NODE_LISTEN",
        value_delimiter = ','
    )]
    pub(crate) listen: Option<Vec<String>>,
    /// Address to listen on for shard bytes.
    #[arg(long, value_name = "IP:PORT", env = "CAIRN_NODE_DATA_LISTEN")]
    pub(crate) data_listen: Option<SocketAddr>,
    /// Most bytes that the node takes on the disk; it offers seven eighths of them.
    #[arg(long, value_name = "SIZE", env = "CAIRN_NODE_CAPACITY", value_parser = str::parse::<ByteCount>)]
    pub(crate) capacity: Option<ByteCount>,
    /// Price asked, in micro-credits per GiB and epoch.
    #[arg(long, value_name = "MICRO", env = "CAIRN_NODE_PRICE")]
    pub(crate) price: Option<u64>,
}

/// Arguments of `completions`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: Shell,
}

/// Parses the length of an epoch.
fn epoch(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if length < EPOCH_MIN || length > EPOCH_MAX {
        return Err("expected a time from 1s to 1day".to_owned());
    }
    Ok(length)
}
