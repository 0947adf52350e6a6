//! The control socket: where a running process takes commands from its own machine's user.
//!
//! A Unix socket in the process's folder; one connection carries one request and one answer, each
//! a line of JSON. Guarantees: a request is at most [`LINE_BYTES_MAX`] and must arrive within
//! [`LINE_TIME_MAX`]; at most [`WAITING_MAX`] wait. Assumes that the folder is the user's own,
//! which is what keeps others out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_runtime::real::RealRuntime;
use cairn_runtime::{Runtime, Task};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::failure::{Failure, FailureKind, OrFail};

/// Longest line either way; the longest answer is the table of 128 nodes.
const LINE_BYTES_MAX: u64 = 256 << 10;
/// How long the other end may take to send its line.
const LINE_TIME_MAX: Duration = Duration::from_secs(5);
/// Requests that wait to be taken.
const WAITING_MAX: usize = 16;
/// Longest path of a socket that Linux takes.
const PATH_BYTES_MAX: usize = 107;

/// A request and where its answer goes.
#[derive(Debug)]
pub(crate) struct Call<R> {
    /// What is asked.
    pub(crate) request: R,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Result<Value, Failure>>,
}

/// What goes back over the socket.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Done(Value),
    Failed { exit_code: u8, error: String },
}

/// The socket of this process; removed when dropped.
#[derive(Debug)]
pub(crate) struct ControlSocket<R> {
    path: PathBuf,
    calls: mpsc::Receiver<Call<R>>,
    _accepts: Task<()>,
}

impl<R: DeserializeOwned + Send + 'static> ControlSocket<R> {
    /// Listens at `path`, in place of a socket that a process before left there. The caller holds
    /// the lock of the folder, so no such process runs.
    ///
    /// # Errors
    ///
    /// Of kind usage when the path is too long, storage when the socket can't be made.
    pub(crate) fn listen(runtime: &RealRuntime, path: &Path) -> Result<Self, Failure> {
        check_length(path)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).or_fail(FailureKind::Storage, path.display());
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).or_fail(
            FailureKind::Storage,
            format!("{} can't be made", path.display()),
        )?;
        let (sender, calls) = mpsc::channel(WAITING_MAX);
        let accepts = runtime.spawn("control socket", accept(runtime.clone(), listener, sender));
        Ok(Self {
            path: path.to_owned(),
            calls,
            _accepts: accepts,
        })
    }

    /// The next request.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no request.
    pub(crate) async fn next(&mut self) -> Option<Call<R>> {
        self.calls.recv().await
    }
}

impl<R> Drop for ControlSocket<R> {
    fn drop(&mut self) {
        // A socket that stays behind is replaced at the next start.
        std::fs::remove_file(&self.path).ok();
    }
}

fn check_length(path: &Path) -> Result<(), Failure> {
    let found = path.as_os_str().len();
    if found > PATH_BYTES_MAX {
        let text = format!(
            "{}: expected at most {PATH_BYTES_MAX} bytes in the path of a socket, found {found}",
            path.display()
        );
        return Err(Failure::say(FailureKind::Usage, text).hint("use a folder with a shorter path"));
    }
    Ok(())
}

/// Takes connections one after the other; each is served by a task, as many as may wait.
async fn accept<R: DeserializeOwned + Send + 'static>(
    runtime: RealRuntime,
    listener: UnixListener,
    sender: mpsc::Sender<Call<R>>,
) {
    let mut serving: Vec<Task<()>> = Vec::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        serving.retain(|task| !task.is_finished());
        if serving.len() < WAITING_MAX {
            let served = serve(runtime.clone(), stream, sender.clone());
            serving.push(runtime.spawn("control request", served));
        }
    }
}

/// Serves one connection. A peer that breaks the protocol or leaves is not answered.
async fn serve<R: DeserializeOwned>(
    runtime: RealRuntime,
    mut stream: UnixStream,
    sender: mpsc::Sender<Call<R>>,
) {
    let Ok(Ok(line)) = runtime.timeout(LINE_TIME_MAX, read_line(&mut stream)).await else {
        return;
    };
    let reply = match serde_json::from_str(&line) {
        Ok(request) => {
            let (answer, answered) = oneshot::channel();
            let asked = sender.send(Call { request, answer }).await.is_ok();
            match answered.await {
                Ok(result) if asked => reply(result),
                _ => stopping(),
            }
        }
        Err(error) => Reply::Failed {
            exit_code: FailureKind::Usage.code(),
            error: format!("the request is not understood: {error}"),
        },
    };
    let mut line = serde_json::to_vec(&reply).unwrap_or_default();
    line.push(b'\n');
    // Whoever asked may have left.
    stream.write_all(&line).await.ok();
}

fn reply(result: Result<Value, Failure>) -> Reply {
    match result {
        Ok(value) => Reply::Done(value),
        Err(failure) => Reply::Failed {
            exit_code: failure.kind().code(),
            error: failure.cause(),
        },
    }
}

fn stopping() -> Reply {
    Reply::Failed {
        exit_code: FailureKind::Network.code(),
        error: "the process is stopping".to_owned(),
    }
}

async fn read_line(stream: &mut UnixStream) -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX))
        .read_line(&mut line)
        .await?;
    Ok(line)
}

/// A process to ask.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// Its socket.
    pub(crate) path: PathBuf,
    /// What starts it.
    pub(crate) start: String,
}

/// Asks the process that listens there, and waits at most `limit` for the answer.
///
/// # Errors
///
/// Of kind network, with what starts it, when nothing runs there; otherwise of the kind that the
/// process says.
pub(crate) async fn ask<R: Serialize>(
    runtime: &RealRuntime,
    listener: &Listener,
    request: &R,
    limit: Duration,
) -> Result<Value, Failure> {
    let path = &listener.path;
    check_length(path)?;
    let mut stream = UnixStream::connect(path)
        .await
        .or_fail(
            FailureKind::Network,
            format!("nothing answers at {}", path.display()),
        )
        .map_err(|failure| failure.hint(&listener.start))?;
    let mut line = serde_json::to_vec(request).or_fail(FailureKind::Usage, "the request")?;
    line.push(b'\n');
    let exchange = async {
        stream.write_all(&line).await?;
        read_line(&mut stream).await
    };
    let line = runtime
        .timeout(limit, exchange)
        .await
        .or_fail(FailureKind::Network, "the process does not answer")?
        .or_fail(FailureKind::Network, "the process does not answer")?;
    match serde_json::from_str(&line).or_fail(FailureKind::Network, "the answer is cut short")? {
        Reply::Done(value) => Ok(value),
        Reply::Failed { exit_code, error } => Err(Failure::say(kind_of(exit_code), error)),
    }
}

const fn kind_of(exit_code: u8) -> FailureKind {
    match exit_code {
        1 => FailureKind::NotSo,
        2 => FailureKind::Usage,
        4 => FailureKind::Storage,
        _ => FailureKind::Network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    enum Question {
        Double(u32),
        Refuse,
    }

    fn answer(request: &Question) -> Result<Value, Failure> {
        match request {
            Question::Double(number) => Ok(serde_json::json!(number * 2)),
            Question::Refuse => Err(Failure::say(FailureKind::NotSo, "no such number")),
        }
    }

    #[test]
    fn a_request_gets_its_answer_and_a_stranger_none() {
        RealRuntime::run(|runtime| async move {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("control.sock");
            std::fs::write(&path, "left behind").unwrap();
            let mut socket = ControlSocket::<Question>::listen(&runtime, &path).unwrap();
            let served = runtime.spawn("answers", async move {
                for _ in 0..2 {
                    let call = socket.next().await.unwrap();
                    call.answer.send(answer(&call.request)).ok();
                }
                socket
            });
            let limit = Duration::from_secs(10);
            let listener = Listener {
                path: path.clone(),
                start: "start it".to_owned(),
            };
            let garbage = ask(&runtime, &listener, &"what", limit).await.unwrap_err();
            assert_eq!(garbage.kind(), FailureKind::Usage);
            let double = ask(&runtime, &listener, &Question::Double(21), limit).await;
            assert_eq!(double.unwrap(), 42);
            let refused = ask(&runtime, &listener, &Question::Refuse, limit)
                .await
                .unwrap_err();
            assert_eq!(refused.kind(), FailureKind::NotSo);
            assert_eq!(refused.to_string(), "error: no such number");
            drop(served.join().await);
            let gone = ask(&runtime, &listener, &Question::Refuse, limit)
                .await
                .unwrap_err();
            assert_eq!(gone.kind(), FailureKind::Network);
            assert!(gone.to_string().ends_with("hint: start it"), "{gone}");
            assert!(!path.exists());
        })
        .unwrap();
    }

    #[test]
    fn a_path_longer_than_sockets_take_is_usage() {
        let long = PathBuf::from(format!("/{}", "a".repeat(PATH_BYTES_MAX)));
        assert_eq!(check_length(&long).unwrap_err().kind(), FailureKind::Usage);
        let most = PathBuf::from(format!("/{}", "a".repeat(PATH_BYTES_MAX - 1)));
        check_length(&most).unwrap();
    }
}
