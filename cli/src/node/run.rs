//! `cairn node run`: runs a node until it is told to stop.

use std::io::Read;

use cairn_runtime::{Disk, Runtime};
use serde::Serialize;
use tokio::sync::oneshot;

use super::process::NodeProcess;
use super::{Folder, Request, Settings};
use crate::app::App;
use crate::args::NodeRunArgs;
use crate::control::ControlSocket;
use crate::failure::Failure;
use crate::files::{self, Access};
use crate::stop::{StopSignal, stop_signal};

/// What is printed when the node is ready.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    node: String,
    control: Vec<String>,
    data: Option<String>,
}

/// Runs the node.
pub(super) async fn run(app: &App, args: &NodeRunArgs) -> Result<(), Failure> {
    let folder = Folder::of(app, &args.place)?;
    let settings = Settings::read(&folder, &args.keys)?;
    if args.check_config {
        let json = settings.to_json();
        return app.output.answer(&json, || settings.with_origins());
    }
    let network = app.network()?;
    let _lock = app
        .runtime
        .disk()
        .lock(&folder.lock_file())
        .map_err(|error| {
            let shown = folder.path().display();
            let text = format!("another process runs the node in {shown}");
            files::lock_failure(error, text)
                .hint_otherwise(&format!("cairn node status --folder {shown}"))
        })?;
    let pid = std::process::id().to_string();
    files::write(&folder.pid_file(), Access::Shared, pid.as_bytes())?;
    let mut socket = ControlSocket::listen(&app.runtime, &folder.control_socket())?;
    let process = NodeProcess::start(app, &folder, &settings, &network).await?;
    let addresses = process.addresses();
    let ready = Ready {
        ready: true,
        node: process.node().to_string(),
        control: addresses.control,
        data: addresses.data,
    };
    app.output.answer(&ready, || {
        let data = ready.data.as_deref().unwrap_or("none");
        format!(
            "ready node {} control {} data {data}\n",
            ready.node,
            ready.control.join(" ")
        )
    })?;
    let stopped = serve(app, args, &process, &mut socket).await;
    process.shutdown().await?;
    std::fs::remove_file(folder.pid_file()).ok();
    stopped
}

/// Answers the control socket until something says stop.
async fn serve(
    app: &App,
    args: &NodeRunArgs,
    process: &NodeProcess,
    socket: &mut ControlSocket<Request>,
) -> Result<(), Failure> {
    let parent = if args.until_stdin_ends {
        Parent::MayDie
    } else {
        Parent::Alive
    };
    let mut stop = std::pin::pin!(told_to_stop(parent));
    let mut answers = Vec::new();
    loop {
        tokio::select! {
            reason = &mut stop => {
                app.output.note(&format!("Stopping: {}.", reason?));
                break;
            }
            call = socket.next() => {
                let Some(call) = call else {
                    break;
                };
                let answer = process.answer(call.request);
                answers.retain(|task: &cairn_runtime::Task<()>| !task.is_finished());
                answers.push(app.runtime.spawn("control answer", async move {
                    // Whoever asked may have left.
                    call.answer.send(answer.await).ok();
                }));
            }
        }
    }
    // The node can be shut down in order when nobody asks it any more.
    for task in answers {
        task.abort();
        task.join().await.ok();
    }
    Ok(())
}

/// Whether the process that started this one may end before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// It stays, or its end does not matter.
    Alive,
    /// It may; it holds our standard input open as long as it lives.
    MayDie,
}

/// Waits for SIGTERM, SIGINT, or the end of standard input where that counts. Says which.
pub(crate) async fn told_to_stop(parent: Parent) -> Result<&'static str, Failure> {
    let parent_gone = async {
        match parent {
            Parent::MayDie => stdin_ends().await,
            Parent::Alive => std::future::pending().await,
        }
    };
    tokio::select! {
        signal = stop_signal() => Ok(match signal? {
            StopSignal::Terminate => "asked to terminate",
            StopSignal::Interrupt => "interrupted",
        }),
        () = parent_gone => Ok("the parent process is gone"),
    }
}

/// Waits for the end of standard input. The read blocks until then, so it has a thread of its own,
/// which nobody waits for: a process that stops for another reason ends it.
async fn stdin_ends() {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let mut byte = [0; 1];
        let mut input = std::io::stdin().lock();
        while input.read(&mut byte).is_ok_and(|count| count > 0) {}
        ended.send(()).ok();
    });
    end.await.ok();
}
