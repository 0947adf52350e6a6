//! Validators that make their key together.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;

use cairn_core::NodeId;
use serde_json::Value;

use super::{KeyFrom, ValidatorNetwork, home};

impl ValidatorNetwork {
    /// Makes the draft of a ledger of `count` validators with `more` arguments of `cairn genesis`;
    /// they have no key.
    ///
    /// # Panics
    ///
    /// When a command fails.
    #[must_use]
    pub fn drafted(count: usize, more: &[&str]) -> Self {
        let network = Self::identified(count, KeyFrom::Ceremony);
        let drafted = network.make_genesis(more);
        assert!(drafted["draft"].is_string(), "{drafted}");
        network
    }

    /// A validator's identity.
    #[must_use]
    pub fn identity(&self, number: usize) -> NodeId {
        self.members[number].identity
    }

    /// Has a validator take part in the ceremony.
    ///
    /// # Panics
    ///
    /// When it can't be started.
    #[must_use]
    pub fn agree(&self, number: usize, limit: &str) -> Child {
        let home = self.text(&home(number));
        let draft = self.text("genesis/draft.toml");
        let args = [
            "validator",
            "agree",
            &draft,
            "--folder",
            &home,
            "--limit",
            limit,
        ];
        self.spawn(&agree_log(number), &args)
    }

    /// What a validator said in the ceremony.
    #[must_use]
    pub fn agree_log(&self, number: usize) -> String {
        std::fs::read_to_string(self.path(&agree_log(number))).unwrap_or_default()
    }

    /// Takes the ledger that the ceremony made, after checks of what each validator has of it.
    ///
    /// # Panics
    ///
    /// When it does not hold.
    pub fn adopt(&mut self) {
        let mut geneses = BTreeSet::new();
        let mut parts = BTreeSet::new();
        for number in 0..self.members.len() {
            let folder = self.path(&home(number));
            let read = |name: &str| std::fs::read_to_string(folder.join(name));
            geneses.insert(read("genesis.toml").expect("a genesis"));
            parts.insert(read("key.part").expect("a part of the key"));
            let part = std::fs::metadata(folder.join("key.part")).expect("a part of the key");
            assert_eq!(part.permissions().mode() & 0o777, 0o600);
            for gone in ["ceremony.toml", "ceremony"] {
                assert!(!folder.join(gone).exists(), "{gone} of validator {number}");
            }
            let said = self.agree_log(number);
            let ledger = said.lines().find_map(|line| line.strip_prefix("ledger "));
            self.ledger = ledger.expect("the ledger's id").parse().expect("an id");
        }
        assert_eq!(geneses.len(), 1, "one genesis, byte for byte");
        assert_eq!(parts.len(), self.members.len(), "everyone's own part");
        let network = self.path("genesis/network.toml");
        let clients = self.path(&home(0)).join("clients.toml");
        std::fs::copy(clients, network).expect("clients' file is copied");
        let genesis = self.path(&home(0)).join("genesis.toml");
        self.make_wires(&genesis);
    }

    /// What `cairn validator status` says; nothing while it does not answer.
    #[must_use]
    pub fn status(&self, number: usize) -> Value {
        let folder = self.text(&home(number));
        let ran = self.run(&["--json", "validator", "status", "--folder", &folder]);
        serde_json::from_slice(&ran.stdout).unwrap_or_default()
    }
}

fn agree_log(number: usize) -> String {
    format!("agree-{number}.log")
}
