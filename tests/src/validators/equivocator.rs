//! A validator of another make, that votes for two blocks in every view.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{ValidatorNetwork, home};
use crate::system::cairn_binary;

impl ValidatorNetwork {
    /// Starts, in a validator's place, a process that has its identity and its part of the key and
    /// votes twice.
    ///
    /// # Panics
    ///
    /// When it is not built or can't be started.
    pub fn start_equivocator(&mut self, number: usize) {
        let binary = cairn_binary()
            .with_file_name("examples")
            .join("equivocator");
        assert!(
            binary.exists(),
            "{} is missing: cargo build -p cairn-engine --example equivocator",
            binary.display()
        );
        let read = |path: String| {
            let text = std::fs::read_to_string(self.path(&path));
            text.expect("what the dealer wrote").trim().to_owned()
        };
        let genesis = read("genesis/genesis.toml".to_owned());
        let member = &self.members[number];
        let key = genesis.lines().find_map(|line| line.strip_prefix("key = "));
        let mut command = Command::new(binary);
        command
            .arg(self.ledger.to_string())
            .arg(key.expect("the validators' key").trim_matches('"'))
            .arg(read(format!("{}/node.key", home(number))))
            .arg(read(format!("genesis/{}.part", member.identity)))
            .arg(member.bind.to_string())
            .stdin(Stdio::null());
        for member in &self.members {
            command.arg(format!("{}@{}", member.identity, member.bind));
        }
        let child = command.spawn().expect("it starts");
        self.nodes.push(child);
    }

    /// Whom a validator says that it shut out.
    #[must_use]
    pub fn shut_out(&self, number: usize) -> Vec<String> {
        let shut_out = self.status(number)["shut_out"].clone();
        let names = shut_out.as_array().cloned().unwrap_or_default();
        names
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    }
}
