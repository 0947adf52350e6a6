//! The one binary: `cairn`. This file is the table of its verbs.
//!
//! What was typed is in [`args`]; each verb has a module; what a verb ends with is a [`Failure`],
//! whose kind is the exit code.

use std::process::ExitCode;

use cairn_runtime::real::RealRuntime;
use clap::Parser;
use tracing_subscriber::EnvFilter;

mod app;
mod args;
mod cat;
mod client_failure;
mod completions;
mod control;
mod dev;
mod failure;
mod files;
mod get;
mod home;
mod init;
mod key_file;
mod network_file;
mod node;
mod output;
mod part;
mod put;
mod range;
#[cfg(test)]
mod reference;
mod rm;
mod session;
mod sink;
mod stat;
mod walk;

use app::App;
use args::{Args, Verb};
use failure::{Failure, FailureKind, OrFail};

fn main() -> ExitCode {
    let args = Args::parse();
    let output = app::output(&args.shared);
    let done = start_logs(&args.shared.log).and_then(|()| {
        RealRuntime::run(|runtime| run(runtime, args))
            .or_fail(FailureKind::Storage, "the system gives no threads")?
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit_code()
        }
    }
}

async fn run(runtime: RealRuntime, args: Args) -> Result<(), Failure> {
    let app = App::new(runtime, args.shared)?;
    match args.verb {
        Verb::Init(args) => init::run(&app, &args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Dev(args) => dev::run(&app, &args).await,
        Verb::Node(args) => node::run(&app, &args).await,
        Verb::Put(args) => put::run(&app, &args).await,
        Verb::Get(args) => get::run(&app, &args).await,
        Verb::Cat(args) => cat::run(&app, &args).await,
        Verb::Stat(args) => stat::run(&app, &args).await,
        Verb::Rm(args) => rm::run(&app, &args).await,
    }
}

/// Logs go to standard error, in the form of `--json` or for people.
fn start_logs(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .or_fail(FailureKind::Usage, format!("{filter:?} is no log filter"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    Ok(())
}
