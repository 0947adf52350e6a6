//! A node in a process of its own.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use cairn_runtime::Runtime;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Folder;
use crate::app::App;
use crate::failure::{Failure, FailureKind, OrFail};

/// How long a node may take from its start to its ready line: it recovers its store first.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// How long it may take to stop when its standard input ends; then it is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// Longest ready line.
const READY_BYTES_MAX: u64 = 64 << 10;

/// A running child process. Its standard input is held open; when this process ends, however it
/// does, the kernel closes it and the child stops.
#[derive(Debug)]
pub(super) struct ChildNode {
    child: Child,
}

impl ChildNode {
    /// Starts the node's process and waits until it is ready.
    ///
    /// # Errors
    ///
    /// Of kind network, naming the node's log, when it ends or is silent.
    pub(super) async fn start(app: &App, folder: &Folder, number: u16) -> Result<Self, Failure> {
        let place = folder.node(number);
        let log_path = place.path().join("log");
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.or_fail(FailureKind::Storage, log_path.display())?;
        let binary = std::env::current_exe().or_fail(
            FailureKind::Storage,
            "the path of this program is not known",
        )?;
        let mut child = Command::new(binary)
            .args(["--quiet", "--log", &app.shared.log])
            .arg("--home")
            .arg(app.home.folder())
            .arg("--network")
            .arg(folder.network_file())
            .args(["node", "run", "--until-stdin-ends", "--folder"])
            .arg(place.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .or_fail(
                FailureKind::Storage,
                format!("node {number} can't be started"),
            )?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            let mut output = BufReader::new(output.take(READY_BYTES_MAX));
            let read = output.read_line(&mut line);
            app.runtime.timeout(READY_TIME_MAX, read).await.ok();
        }
        if !line.ends_with('\n') {
            let text = format!("node {number} did not get ready");
            return Err(Failure::say(FailureKind::Network, text)
                .hint(format!("see {}", log_path.display())));
        }
        Ok(Self { child })
    }

    /// Its process id; `None` when it has ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(Some(status)) => Some(status.to_string()),
            Ok(None) => None,
            Err(error) => Some(error.to_string()),
        }
    }

    /// Kills it, as a power cut would, and waits until it is gone.
    pub(super) async fn kill(mut self) -> Result<(), Failure> {
        self.child
            .kill()
            .await
            .or_fail(FailureKind::Network, "the node can't be killed")
    }

    /// Has it stop in its own time, and kills it when that is over.
    pub(super) async fn stop(mut self, app: &App) -> Result<(), Failure> {
        drop(self.child.stdin.take());
        match app.runtime.timeout(STOP_TIME_MAX, self.child.wait()).await {
            Ok(ended) => ended
                .map(|_| ())
                .or_fail(FailureKind::Network, "the node can't be waited for"),
            Err(_) => self.kill().await,
        }
    }
}
