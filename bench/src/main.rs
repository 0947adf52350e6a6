//! `cairn-bench`: prints measurements as Markdown, or as JSON.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use cairn_bench::e2e::{self, Settings};
use cairn_bench::primitives::{cipher, coding, proofs, store, transport};
use cairn_bench::report::Report;
use cairn_bench::scale::{churn, week};
use cairn_core::{ByteCount, Profile};
use clap::{Parser, Subcommand};

/// Measures Cairn: its primitives alone and the whole path.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Print JSON instead of Markdown.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure one primitive.
    Primitives {
        #[command(subcommand)]
        primitive: Primitive,
    },
    /// Measure the whole path: upload, download, a cold range, in processes of their own.
    E2e(EndToEnd),
    /// The ledger of a whole network for a simulated time.
    Scale {
        #[command(subcommand)]
        scale: Scale,
    },
    /// One process of a measured network.
    #[command(name = e2e::MEMBER_COMMAND, hide = true)]
    Member {
        /// How it is set up, as JSON.
        setup: String,
    },
}

#[derive(clap::Args)]
struct EndToEnd {
    /// Bytes of the file.
    #[arg(long, default_value = "1GiB")]
    size: ByteCount,
    /// Nodes.
    #[arg(long, default_value_t = 8)]
    nodes: usize,
    /// Code and shard size.
    #[arg(long, default_value = "dev8")]
    profile: Profile,
    /// Rounds, each with a network of its own.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Small files of a further upload and download.
    #[arg(long, default_value_t = 10_000)]
    files: u32,
    /// Where the network keeps its data, on a real disk.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Where the source is made, in memory.
    #[arg(long, default_value = "/dev/shm")]
    source_dir: PathBuf,
}

#[derive(Subcommand)]
enum Scale {
    /// Nodes prove and owners revise: history, state, CPU.
    Week {
        /// Nodes.
        #[arg(long, default_value_t = 400)]
        nodes: u32,
        /// Bytes of all slots in units of 10^12.
        #[arg(long, default_value_t = 1_000)]
        terabytes: u32,
        /// Hours, each an epoch.
        #[arg(long, default_value_t = 168)]
        hours: u32,
        /// Groups that are revised in each hour.
        #[arg(long, default_value_t = 32)]
        revised: u32,
    },
    /// Nodes leave and slots are rebuilt: bytes moved, and how near groups come to their end.
    Churn {
        /// Nodes.
        #[arg(long, default_value_t = 160)]
        nodes: u32,
        /// Groups of 20-of-40.
        #[arg(long, default_value_t = 80)]
        groups: u32,
        /// Hours that are measured, after one mean life.
        #[arg(long, default_value_t = 17_520)]
        hours: u32,
    },
}

#[derive(Subcommand)]
enum Primitive {
    /// The frame cipher at several frame sizes.
    Cipher,
    /// The erasure code, every profile, beside BLAKE3 and the library.
    Coding,
    /// Slot trees, ranges of shards and proofs.
    Proofs,
    /// The shard store beside a raw append with the same syncs.
    Store {
        /// Folder on the disk to measure; needs 5 GB.
        #[arg(long, default_value = ".")]
        folder: PathBuf,
    },
    /// Moving bytes: TCP, TLS, the data plane over TLS and over libp2p.
    Transport {
        /// Only the stacks whose names contain this.
        #[arg(long, default_value = "")]
        only: String,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    let reports = match args.command {
        Command::Primitives { primitive } => primitives(&primitive)?,
        Command::E2e(args) => e2e::measure(&Settings {
            size: args.size,
            node_count: args.nodes,
            profile: args.profile,
            rounds: args.rounds,
            file_count: args.files,
            folder: args.dir,
            source_folder: args.source_dir,
        })?,
        Command::Scale { scale } => scale_reports(&scale)?,
        Command::Member { setup } => return e2e::run_member(&setup),
    };
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &reports)?;
        writeln!(out)?;
    } else {
        for report in reports {
            writeln!(out, "{report}")?;
        }
    }
    Ok(())
}

fn primitives(primitive: &Primitive) -> Result<Vec<Report>> {
    match primitive {
        Primitive::Cipher => Ok(vec![cipher::frames()?]),
        Primitive::Coding => Ok(vec![coding::codes()?, coding::kernels()?]),
        Primitive::Proofs => Ok(vec![
            proofs::slot_trees()?,
            proofs::ranges()?,
            proofs::proofs()?,
        ]),
        Primitive::Store { folder } => Ok(vec![
            store::puts(folder)?,
            store::reads(folder)?,
            store::opening(folder)?,
        ]),
        Primitive::Transport { only } => Ok(vec![transport::transports(only)?]),
    }
}

fn scale_reports(scale: &Scale) -> Result<Vec<Report>> {
    match *scale {
        Scale::Week {
            nodes,
            terabytes,
            hours,
            revised,
        } => week::measure(&week::Settings {
            node_count: nodes,
            terabytes,
            hours,
            revised,
        }),
        Scale::Churn {
            nodes,
            groups,
            hours,
        } => Ok(vec![churn::measure(nodes, groups, hours)?]),
    }
}
