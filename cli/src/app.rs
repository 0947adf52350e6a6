//! What every command has: the world, the home, the flags of every command, a place to speak.

use std::fmt;
use std::io::{self, IsTerminal};

use cairn_client::key::OwnerKeys;
use cairn_core::AccountId;
use cairn_runtime::real::RealRuntime;
use zeroize::Zeroizing;

use crate::args::SharedArgs;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files;
use crate::home::Home;
use crate::key_file::LockedKey;
use crate::network_file::NetworkFile;
use crate::output::{Format, Loudness, Output};

/// What every command has.
#[derive(Clone)]
pub(crate) struct App {
    /// Clock, entropy, disk and tasks.
    pub(crate) runtime: RealRuntime,
    /// The user's folder.
    pub(crate) home: Home,
    /// Where to speak.
    pub(crate) output: Output,
    /// Flags of every command.
    pub(crate) shared: SharedArgs,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

/// The output that the flags ask for.
pub(crate) const fn output(shared: &SharedArgs) -> Output {
    let format = if shared.json {
        Format::Json
    } else {
        Format::Text
    };
    let loudness = if shared.quiet {
        Loudness::Quiet
    } else {
        Loudness::Normal
    };
    Output::new(format, loudness)
}

impl App {
    /// What the flags ask for.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is no home.
    pub(crate) fn new(runtime: RealRuntime, shared: SharedArgs) -> Result<Self, Failure> {
        Ok(Self {
            runtime,
            home: Home::find(shared.home.as_deref())?,
            output: output(&shared),
            shared,
        })
    }

    /// How to reach the network.
    ///
    /// # Errors
    ///
    /// Of kind usage when nothing says it.
    pub(crate) fn network(&self) -> Result<NetworkFile, Failure> {
        let path = match &self.shared.network {
            Some(path) => path.clone(),
            None => self.home.network_file(),
        };
        NetworkFile::read(&path)
    }

    /// The owner's keys, asking for the passphrase when there is one.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is no key file or it does not open.
    pub(crate) fn owner(&self) -> Result<OwnerKeys, Failure> {
        LockedKey::read(&self.home.key_file())?.open(|| self.passphrase("Passphrase: "))
    }

    /// The owner's account. No passphrase is needed for it.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is no key file.
    pub(crate) fn owner_account(&self) -> Result<AccountId, Failure> {
        LockedKey::read(&self.home.key_file())?.account()
    }

    /// A new passphrase, typed twice or from the file given.
    ///
    /// # Errors
    ///
    /// Of kind usage when it is empty or the two differ.
    pub(crate) fn new_passphrase(&self) -> Result<Zeroizing<String>, Failure> {
        let first = self.passphrase("New passphrase: ")?;
        if first.is_empty() {
            return Err(Failure::say(FailureKind::Usage, "the passphrase is empty")
                .hint("give --no-passphrase if the key file shall have none"));
        }
        if self.shared.passphrase_file.is_none() && *first != *self.passphrase("Again: ")? {
            return Err(Failure::say(
                FailureKind::Usage,
                "the two passphrases differ",
            ));
        }
        Ok(first)
    }

    /// The passphrase from the file given, or typed at the terminal.
    fn passphrase(&self, prompt: &str) -> Result<Zeroizing<String>, Failure> {
        if let Some(path) = &self.shared.passphrase_file {
            let shown = path.display();
            let text = files::read(path)?.map(Zeroizing::new).ok_or_else(|| {
                Failure::say(FailureKind::Usage, format!("there is no file {shown}"))
            })?;
            let line = text.lines().next().unwrap_or_default();
            return Ok(Zeroizing::new(line.to_owned()));
        }
        if !io::stderr().is_terminal() {
            let text = "the key file needs a passphrase and there is no terminal to ask at";
            return Err(Failure::say(FailureKind::Usage, text)
                .hint("give --passphrase-file FILE, or make the key file with --no-passphrase"));
        }
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .or_fail(
                FailureKind::Usage,
                "the passphrase can't be read from the terminal",
            )
    }
}
