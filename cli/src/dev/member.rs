//! The nodes of a development network, running or not.

use cairn_core::NodeId;
use serde::Serialize;

use super::Folder;
use super::child::ChildNode;
use crate::app::App;
use crate::args::NodeKeyArgs;
use crate::failure::{Failure, FailureKind};
use crate::network_file::NetworkFile;
use crate::node::{NodeProcess, Settings};

/// Where nodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Each in a process of its own.
    Processes,
    /// All in this one.
    InProcess,
}

/// A running node.
enum Running {
    Child(ChildNode),
    Inside(Box<NodeProcess>),
}

/// One node.
pub(super) struct Member {
    /// From 1.
    pub(super) number: u16,
    /// Its identity.
    pub(super) node: NodeId,
    running: Option<Running>,
    /// Why it does not run.
    ended: Option<String>,
}

/// How a node stands, for the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MemberStatus {
    number: u16,
    node: String,
    state: String,
    pid: Option<u32>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// A node that does not run yet.
    pub(super) const fn new(number: u16, node: NodeId) -> Self {
        Self {
            number,
            node,
            running: None,
            ended: None,
        }
    }

    /// Whether it runs.
    pub(super) const fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// Of kind usage when it runs already.
    pub(super) async fn start(
        &mut self,
        app: &App,
        folder: &Folder,
        place: Place,
    ) -> Result<(), Failure> {
        if self.runs() {
            let text = format!("node {} runs already", self.number);
            return Err(Failure::say(FailureKind::NotSo, text));
        }
        let running = match place {
            Place::Processes => Running::Child(ChildNode::start(app, folder, self.number).await?),
            Place::InProcess => {
                let network = NetworkFile::read(&folder.network_file())?;
                let home = folder.node(self.number);
                let settings = Settings::read(&home, &NodeKeyArgs::default())?;
                let process = NodeProcess::start(app, &home, &settings, &network).await?;
                Running::Inside(Box::new(process))
            }
        };
        self.running = Some(running);
        self.ended = None;
        Ok(())
    }

    /// Kills it as a power cut would.
    ///
    /// # Errors
    ///
    /// Of kind not-so when it does not run.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        match self.running.take() {
            Some(Running::Child(child)) => child.kill().await?,
            Some(Running::Inside(process)) => process.kill().await,
            None => {
                let text = format!("node {} does not run", self.number);
                return Err(Failure::say(FailureKind::NotSo, text));
            }
        }
        self.ended = Some("killed".to_owned());
        Ok(())
    }

    /// Has it stop in its own time.
    pub(super) async fn stop(&mut self, app: &App) -> Result<(), Failure> {
        match self.running.take() {
            Some(Running::Child(child)) => child.stop(app).await,
            Some(Running::Inside(process)) => process.shutdown().await,
            None => Ok(()),
        }
    }

    /// Looks whether its process has ended by itself; if so, how, once.
    pub(super) fn look(&mut self) -> Option<String> {
        let Some(Running::Child(child)) = &mut self.running else {
            return None;
        };
        let how = child.ended()?;
        self.running = None;
        self.ended = Some(how.clone());
        Some(how)
    }

    /// How it stands.
    pub(super) fn status(&self) -> MemberStatus {
        let state = match (&self.running, &self.ended) {
            (Some(_), _) => "running".to_owned(),
            (None, Some(how)) => how.clone(),
            (None, None) => "not started".to_owned(),
        };
        let pid = match &self.running {
            Some(Running::Child(child)) => child.pid(),
            Some(Running::Inside(_)) => Some(std::process::id()),
            None => None,
        };
        MemberStatus {
            number: self.number,
            node: self.node.to_string(),
            state,
            pid,
        }
    }
}

/// The table of nodes for people, from its JSON.
pub(super) fn table(answer: &serde_json::Value) -> String {
    let mut text = String::from("node  state      pid      id\n");
    for member in answer["nodes"].as_array().into_iter().flatten() {
        let pid = member["pid"]
            .as_u64()
            .map(|pid| pid.to_string())
            .unwrap_or_default();
        let number = member["number"].as_u64().unwrap_or_default();
        let state = member["state"].as_str().unwrap_or_default();
        let node = member["node"].as_str().unwrap_or_default();
        text.push_str(&format!("{number:<5} {state:<10} {pid:<8} {node}\n"));
    }
    text
}
