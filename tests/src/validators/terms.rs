//! Validators that change: some leave, others come.

use std::process::Child;
use std::time::Duration;

use serde_json::Value;

use super::{KeyFrom, PATIENCE, ValidatorNetwork, home, log};
use crate::system::{real_sleep, real_time};

/// A change of validators, by their numbers.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Who writes the draft: one of those of now.
    pub by: usize,
    /// Who comes.
    pub add: &'a [usize],
    /// Who leaves.
    pub remove: &'a [usize],
    /// Who leaves and is gone already.
    pub absent: &'a [usize],
}

impl ValidatorNetwork {
    /// Makes a ledger of `count` validators, whose key is dealt, with `more` arguments of `cairn
    /// genesis`, and the identities of `spare` ones that may come. None is started; they reach each
    /// other without wires, and have what they need in their folders.
    ///
    /// # Panics
    ///
    /// When a command fails.
    #[must_use]
    pub fn with_spare(count: usize, spare: usize, more: &[&str]) -> Self {
        let mut network = Self::identified(count + spare, KeyFrom::Ceremony);
        let spare = network.members.split_off(count);
        let made = network.make_genesis(&[&["--deal"], more].concat());
        let ledger = made["ledger"].as_str().expect("the ledger's id");
        network.ledger = ledger.parse().expect("the ledger's id");
        for (number, member) in network.members.iter().enumerate() {
            let folder = network.path(&home(number));
            let part = network.path(&format!("genesis/{}.part", member.identity));
            std::fs::rename(part, folder.join("key.part")).expect("its part is handed over");
            let genesis = network.path("genesis/genesis.toml");
            std::fs::copy(genesis, folder.join("genesis.toml")).expect("the genesis is copied");
        }
        network.members.extend(spare);
        network
    }

    /// Drafts a change, and has all who must take part in its ceremony, beside the validators that run.
    /// Gives the path of the term's file.
    ///
    /// # Panics
    ///
    /// When a command fails or does not end.
    #[must_use]
    pub fn agree_on(&self, now: &[usize], change: Change<'_>) -> String {
        let stays = |number: &usize| !change.absent.contains(number);
        let participants: Vec<usize> = now
            .iter()
            .chain(change.add)
            .copied()
            .filter(stays)
            .collect();
        let (draft, number) = self.draft(&participants, change);
        let begun: Vec<(usize, Child)> = participants
            .iter()
            .map(|number| (*number, self.agree_to(*number, &draft)))
            .collect();
        for (number, child) in begun {
            self.end_of(child, &agree_log(number));
        }
        let term = format!("{}/term-{number}.toml", home(change.by));
        self.text(&term)
    }

    /// Writes the draft of a change: its path, and the number of the term that is to begin.
    fn draft(&self, participants: &[usize], change: Change<'_>) -> (String, u64) {
        let folder = self.text(&home(change.by));
        let draft = self.text(&format!("change-{}.toml", change.by));
        // Of a change before.
        let _gone = std::fs::remove_file(&draft);
        let mut args = ["--json", "validator", "change", "--folder", &folder]
            .map(str::to_owned)
            .to_vec();
        args.extend(["--out".to_owned(), draft.clone()]);
        for number in change.add {
            let member = &self.members[*number];
            let (identity, bind, peer) = (member.identity, member.bind, &member.peer);
            args.extend(["--add".to_owned(), format!("{identity}@{bind},{peer}")]);
        }
        for (flag, numbers) in [("--remove", change.remove), ("--absent", change.absent)] {
            for number in numbers {
                let identity = self.members[*number].identity;
                args.extend([flag.to_owned(), identity.to_string()]);
            }
        }
        for number in participants {
            let member = &self.members[*number];
            let met = format!("{}@{}", member.identity, member.meet);
            args.extend(["--meet".to_owned(), met]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let drafted: Value = serde_json::from_str(&self.run(&args).text()).expect("JSON");
        (draft, drafted["term"].as_u64().expect("the term's number"))
    }

    fn agree_to(&self, number: usize, draft: &str) -> Child {
        let home = self.text(&home(number));
        let args = ["validator", "agree", draft, "--folder", &home];
        let limited = [&args[..], &["--limit", "90s"]].concat();
        self.spawn(&agree_log(number), &limited)
    }

    /// Has the ledger take the validators of a term: what the command prints.
    ///
    /// # Panics
    ///
    /// When it fails.
    #[must_use]
    pub fn enact(&self, term: &str, more: &[&str]) -> Value {
        let args = [&["--json", "validator", "enact", term], more].concat();
        serde_json::from_str(&self.run(&args).text()).expect("it prints JSON")
    }

    /// The term that a running validator says that it is in.
    #[must_use]
    pub fn term(&self, number: usize) -> Option<u64> {
        let status = self.status(number);
        // One that waits says which term its folder is in.
        status["height"].as_u64().and(status["term"].as_u64())
    }

    /// Waits until these validators run in a term.
    ///
    /// # Panics
    ///
    /// When they do not in time.
    pub fn reach_term(&self, numbers: &[usize], term: u64) {
        let begun = real_time();
        for number in numbers {
            while self.term(*number) != Some(term) {
                let log = || std::fs::read_to_string(self.path(&log(*number)));
                assert!(
                    begun.elapsed() < PATIENCE,
                    "validator {number} is not in term {term}: {}\n{}",
                    self.status(*number),
                    log().unwrap_or_default()
                );
                real_sleep(Duration::from_millis(100));
            }
        }
    }

    /// Waits until a validator ends by itself, as one that leaves does: what it said.
    ///
    /// # Panics
    ///
    /// When it does not, or ends otherwise.
    pub fn leaves(&mut self, number: usize) -> String {
        let child = self.members[number].process.take().expect("it was begun");
        self.end_of(child, &log(number))
    }

    /// Waits until a process has ended well: its log.
    fn end_of(&self, mut child: Child, log: &str) -> String {
        let begun = real_time();
        let said = || std::fs::read_to_string(self.path(log)).unwrap_or_default();
        let ended = loop {
            if let Some(ended) = child.try_wait().expect("it is ours") {
                break ended;
            }
            if begun.elapsed() >= PATIENCE {
                child.kill().expect("it is ours");
                child.wait().expect("it ends");
                panic!("{log}: it does not end in {PATIENCE:?}\n{}", said());
            }
            real_sleep(Duration::from_millis(100));
        };
        assert!(ended.success(), "{log}: {ended}\n{}", said());
        said()
    }

    /// Whether a validator's folder has a file.
    #[must_use]
    pub fn has(&self, number: usize, file: &str) -> bool {
        self.path(&home(number)).join(file).exists()
    }

    /// By which answers are checked, as the file says that a validator has for clients.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn clients_key(&self, number: usize) -> String {
        let path = self.path(&home(number)).join("clients.toml");
        key_line(&std::fs::read_to_string(path).expect("clients' file"))
    }

    /// The same as the file says that was made with the genesis.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn first_key(&self) -> String {
        let path = self.path("genesis/network.toml");
        key_line(&std::fs::read_to_string(path).expect("the network file"))
    }
}

fn key_line(file: &str) -> String {
    let mut lines = file.lines();
    let key = lines.find(|line| line.starts_with("ledger_key = "));
    key.expect("the ledger's key").to_owned()
}

fn agree_log(number: usize) -> String {
    format!("agree-term-{number}.log")
}
