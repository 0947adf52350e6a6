//! `cairn-bench`: prints measurements as Markdown, or as JSON.

use std::io::{self, Write};

use anyhow::Result;
use cairn_bench::primitives::{coding, proofs};
use cairn_bench::report::Report;
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
}

#[derive(Subcommand)]
enum Primitive {
    /// The erasure code, every profile, beside BLAKE3 and the library.
    Coding,
    /// Slot trees, ranges of shards and proofs.
    Proofs,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let reports = match args.command {
        Command::Primitives { primitive } => primitives(&primitive)?,
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
        Primitive::Coding => Ok(vec![coding::codes()?, coding::kernels()?]),
        Primitive::Proofs => Ok(vec![
            proofs::slot_trees()?,
            proofs::ranges()?,
            proofs::proofs()?,
        ]),
    }
}
