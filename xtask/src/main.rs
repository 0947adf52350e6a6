//! The project's own checks and tasks: `cargo xtask TASK`.
//!
//! `tidy` checks what no linter knows, `fmt` formats as the project does, `bench` runs the
//! measurements. Exit code 0: done; 1: the check found something; 2: usage.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;

mod tidy;

/// What every task is and does.
const USAGE: &str = "usage: cargo xtask TASK

tasks:
  tidy [ROOT]      check crate edges, words, file budgets and the other rules of the project
  fmt [--check]    format every crate, imports grouped and merged by module
  bench [ARGS]     run the measurements in release mode; ARGS go to the bench program
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["tidy"] => workspace_root().and_then(|root| tidy_task(&root)),
        ["tidy", root] => tidy_task(Path::new(root)),
        ["fmt"] => fmt_task(&[]),
        ["fmt", "--check"] => fmt_task(&["--check"]),
        ["bench", rest @ ..] => bench_task(rest),
        _ => {
            complain(USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

fn tidy_task(root: &Path) -> anyhow::Result<ExitCode> {
    let problems = tidy::check(root)?;
    let mut out = io::stdout().lock();
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    if problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    complain(&format!("error: tidy found {} problems\n", problems.len()));
    Ok(ExitCode::FAILURE)
}

/// The two options are not stable in `rustfmt.toml`, but the stable formatter obeys them from the
/// command line.
fn fmt_task(more: &[&str]) -> anyhow::Result<ExitCode> {
    let imports = "group_imports=StdExternalCrate,imports_granularity=Module";
    cargo(
        Command::new("cargo")
            .args(["fmt", "--all", "--"])
            .args(more)
            .args(["--config", imports]),
    )
}

fn bench_task(rest: &[&str]) -> anyhow::Result<ExitCode> {
    let mut command = Command::new("cargo");
    cargo(
        command
            .args(["run", "--release", "--package", "cairn-bench", "--"])
            .args(rest),
    )
}

/// Runs cargo in the workspace's root and passes its verdict on.
fn cargo(command: &mut Command) -> anyhow::Result<ExitCode> {
    let status = command
        .current_dir(workspace_root()?)
        .status()
        .context("cargo did not start")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The folder above this crate's own, as cargo says when it runs us: builds of several checkouts
/// may share a target folder.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let own = env::var_os("CARGO_MANIFEST_DIR").context("run it as `cargo xtask`")?;
    Path::new(&own)
        .parent()
        .map(Path::to_owned)
        .context("the crate has a folder above it")
}

/// Says something to the person; a closed standard error is no reason to stop.
fn complain(text: &str) {
    io::stderr().write_all(text.as_bytes()).ok();
}
