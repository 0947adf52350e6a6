//! Arguments of `validator` and `genesis`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cairn_core::Profile;
use clap::{Args as ArgGroup, Subcommand};

use super::epoch;

/// Arguments of `validator`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct ValidatorArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: ValidatorVerb,
}

/// What to do with a validator.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ValidatorVerb {
    /// Make a validator's identity; prints it.
    Init(ValidatorInitArgs),
    /// Make the validators' key together with all others of a draft, so that nobody ever has the
    /// whole, and the genesis that all of them sign; or deal it anew to the next validators, and make
    /// the term that all of them sign.
    Agree(ValidatorAgreeArgs),
    /// Write the draft of a change of validators, which go on under the same key.
    Change(ValidatorChangeArgs),
    /// Have the ledger take the validators of a term that all of them have signed; anyone may.
    Enact(ValidatorEnactArgs),
    /// Run the validator until it is told to stop (SIGTERM, Ctrl-C).
    Run(ValidatorRunArgs),
    /// Show how a running validator stands.
    Status(ValidatorPlaceArgs),
}

/// Which validator.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct ValidatorPlaceArgs {
    /// The validator's folder [default: validator in the home].
    #[arg(long, value_name = "DIR", env = "CAIRN_VALIDATOR_FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}

/// Arguments of `validator init`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct ValidatorInitArgs {
    /// Which validator.
    #[command(flatten)]
    pub(crate) place: ValidatorPlaceArgs,
    /// Where it will listen for the other validators and, after a comma, the multiaddress at which it
    /// will answer clients and nodes: prints what `genesis --validator` takes.
    #[arg(long, value_name = "IP:PORT[,ADDRESS]")]
    pub(crate) at: Option<String>,
}

/// Arguments of `validator agree`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct ValidatorAgreeArgs {
    /// Which validator.
    #[command(flatten)]
    pub(crate) place: ValidatorPlaceArgs,
    /// The draft, as `genesis` or `validator change` wrote it: the same file for all validators.
    #[arg(value_name = "DRAFT")]
    pub(crate) draft: PathBuf,
    /// Address to listen on for the others of the draft [default: that of the draft].
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) bind: Option<SocketAddr>,
    /// How long to wait for the others, such as 10m or 1h.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = epoch)]
    pub(crate) limit: Duration,
}

/// Arguments of `validator change`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct ValidatorChangeArgs {
    /// Which validator: one of those of now, whose folder has the genesis and the newest term.
    #[command(flatten)]
    pub(crate) place: ValidatorPlaceArgs,
    /// A validator that comes: its identity, where it will listen for the others and, after a comma, the
    /// multiaddress at which it will answer clients and nodes. One that is there already gets these
    /// addresses. May be given again.
    #[arg(long, value_name = "IDENTITY@IP:PORT[,ADDRESS]")]
    pub(crate) add: Vec<String>,
    /// A validator that leaves; may be given again.
    #[arg(long, value_name = "IDENTITY")]
    pub(crate) remove: Vec<String>,
    /// A validator that leaves and does not take part in the ceremony, since it is gone; may be given
    /// again, for less than a third of the validators.
    #[arg(long, value_name = "IDENTITY")]
    pub(crate) absent: Vec<String>,
    /// Where one of those who take part is met in the ceremony, beside the validator that runs; may be
    /// given again [default: a validator's address, with the next port].
    #[arg(long, value_name = "IDENTITY@IP:PORT")]
    pub(crate) meet: Vec<String>,
    /// Number of the term that is to begin, when it is not the one behind the newest that the folder
    /// has: another draft, in place of one that was signed and is not to come into force.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) term: Option<u32>,
    /// File to write the draft to.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// Arguments of `validator enact`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct ValidatorEnactArgs {
    /// The term, as `validator agree` wrote it to the folder of everyone who took part: term-1.toml.
    #[arg(value_name = "TERM_FILE")]
    pub(crate) term: PathBuf,
    /// Wait until the term has begun.
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Arguments of `validator run`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct ValidatorRunArgs {
    /// Which validator.
    #[command(flatten)]
    pub(crate) place: ValidatorPlaceArgs,
    /// Where the ledger begins [default: genesis.toml in the folder, as `validator agree` wrote it].
    /// The terms behind the first are those of term-N.toml in the folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    /// This validator's part of the validators' key in the first term [default: key.part in the folder,
    /// as `validator agree` wrote it].
    #[arg(long, value_name = "FILE")]
    pub(crate) part: Option<PathBuf>,
    /// Address to listen on for the other validators [default: that of the genesis or the term].
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) bind: Option<SocketAddr>,
    /// Multiaddress to answer clients and nodes at; may be given again [default: that of the genesis
    /// or the newest term, or a free port of the loopback interface].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<String>,
    /// Begin anew where the folder's blocks and votes are lost: gets the blocks from the others, and
    /// votes when no view is open that it may have voted in before.
    #[arg(long)]
    pub(crate) rejoin: bool,
    /// Stop when standard input ends: for a parent process that may die.
    #[arg(long, hide = true)]
    pub(crate) until_stdin_ends: bool,
}

/// Arguments of `genesis`.
#[derive(Clone, Debug, ArgGroup)]
pub(crate) struct GenesisArgs {
    /// A validator: its identity, where it listens for the others and, after a comma, the
    /// multiaddress at which it answers clients and nodes; may be given again.
    #[arg(long, value_name = "IDENTITY@IP:PORT[,ADDRESS]", required = true)]
    pub(crate) validator: Vec<String>,
    /// An account and what it begins with, in micro-credits; may be given again.
    #[arg(long, value_name = "ACCOUNT=MICROCREDITS")]
    pub(crate) endow: Vec<String>,
    /// How long an epoch is, such as 10s or 1h: in each, every node proves what it holds [default:
    /// no epochs].
    #[arg(long, value_name = "TIME", value_parser = epoch)]
    pub(crate) epoch: Option<Duration>,
    /// Erasure code that `put` uses on this network.
    #[arg(long, default_value = "dev8", value_parser = str::parse::<Profile>)]
    pub(crate) profile: Profile,
    /// Be a trusted dealer, for tests and for one operator of all validators: make the key here, and the
    /// genesis, the network file and everyone's part of the key in place of the draft. Whoever keeps
    /// what this command saw can forge the ledger.
    #[arg(long)]
    pub(crate) deal: bool,
    /// Folder to write the draft to.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}
