//! The one binary: `cairn`. This file is the table of its verbs.
//!
//! What was typed is in [`args`]; each verb has a module; what a verb ends with is a [`Failure`],
//! whose kind is the exit code.

use std::process::ExitCode;

use cairn_runtime::real::RealRuntime;
use clap::Parser;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

mod account;
mod app;
mod args;
mod cat;
mod change_file;
mod client_failure;
mod completions;
mod control;
mod credits;
mod dev;
mod draft_file;
mod failure;
mod files;
mod fund;
mod genesis;
mod genesis_file;
mod get;
mod home;
mod init;
mod key_file;
mod ledger;
mod ledger_peer;
mod network_file;
mod node;
mod notarise;
mod open_files;
mod output;
mod part;
mod pay;
mod put;
mod range;
mod receipt;
#[cfg(test)]
mod reference;
mod rm;
mod session;
mod sink;
mod stat;
mod stop;
mod term_file;
mod validator;
mod verify;
mod walk;
mod watched_file;

use app::App;
use args::{Args, SharedArgs, Verb};
use failure::{Failure, FailureKind, OrFail};
use output::{Format, Loudness, Output};
use stop::until_stopped;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return unparsed(&error),
    };
    let output = app::output(&args.shared);
    open_files::allow_many();
    let done = start_logs(&args.shared).and_then(|()| {
        RealRuntime::run(|runtime| async move {
            let done = run(runtime, args).await;
            if let Err(failure) = &done
                && failure.kind().is_stop()
            {
                stop(output, failure);
            }
            done
        })
        .or_fail(FailureKind::Storage, "the system gives no threads")?
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the bytes has seen enough, or says itself what is wrong.
        Err(failure) if failure.is_closed_stream() => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit_code()
        }
    }
}

async fn run(runtime: RealRuntime, args: Args) -> Result<(), Failure> {
    let app = App::new(runtime, args.shared)?;
    match args.verb {
        Verb::Init(args) => init::run(&app, &args).await,
        Verb::Completions(args) => completions::run(&args),
        Verb::Dev(args) => dev::run(&app, &args).await,
        Verb::Node(args) => node::run(&app, &args).await,
        Verb::Put(args) => until_stopped(Box::pin(put::run(&app, &args))).await,
        Verb::Get(args) => until_stopped(Box::pin(get::run(&app, &args))).await,
        Verb::Cat(args) => until_stopped(Box::pin(cat::run(&app, &args))).await,
        Verb::Stat(args) => until_stopped(Box::pin(stat::run(&app, &args))).await,
        Verb::Verify(args) => verify::run(&app, &args),
        Verb::Account => until_stopped(Box::pin(account::run(&app))).await,
        Verb::Pay(args) => until_stopped(Box::pin(pay::run(&app, &args))).await,
        Verb::Notarise(args) => until_stopped(Box::pin(notarise::run(&app, &args))).await,
        Verb::Fund => until_stopped(Box::pin(fund::run(&app))).await,
        Verb::Ledger(args) => until_stopped(Box::pin(ledger::run(&app, &args))).await,
        Verb::Rm(args) => until_stopped(Box::pin(rm::run(&app, &args))).await,
        Verb::Validator(args) => validator::run(&app, &args).await,
        Verb::Genesis(args) => genesis::run(&app, &args),
    }
}

/// Ends the process without waiting for a read that may never return, such as that of a terminal.
/// Whatever is half done elsewhere is as after a kill, which everything here stands.
#[expect(clippy::exit, reason = "threads that block can't be asked to end")]
fn stop(output: Output, failure: &Failure) -> ! {
    output.failure(failure);
    std::process::exit(failure.kind().code().into())
}

/// Says what is wrong with the command line, or prints the help that was asked for.
fn unparsed(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && wants_json {
        let text = error.render().to_string();
        let text = text.trim().trim_start_matches("error: ");
        let failure = Failure::say(FailureKind::Usage, text);
        Output::new(Format::Json, Loudness::Quiet).failure(&failure);
        return failure.exit_code();
    }
    // A closed output is no reason for another error.
    error.print().ok();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Logs go to standard error, in the form of `--json` or for people.
fn start_logs(shared: &SharedArgs) -> Result<(), Failure> {
    let filter: Targets = shared.log.parse().or_fail(
        FailureKind::Usage,
        format!("{:?} is no log filter", shared.log),
    )?;
    let filtered = tracing_subscriber::registry().with(filter);
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    if shared.json {
        filtered.with(logs.json()).init();
    } else {
        filtered.with(logs).init();
    }
    Ok(())
}
