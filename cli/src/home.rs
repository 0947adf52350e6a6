//! The user's folder: key, network, journals of interrupted uploads, the development network.
//!
//! ```text
//! home/                 --home, CAIRN_HOME, or ~/.cairn
//! ├ key.toml            the owner's seed
//! ├ network.toml        the network that commands use; written by `cairn dev` too
//! ├ owner/              the owner's groups, and uploads that are not done
//! ├ dev/                the development network
//! └ node/               a node, where no other folder is given
//! ```

use std::path::{Path, PathBuf};

use crate::failure::{Failure, FailureKind};

/// The folder's paths.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    folder: PathBuf,
}

impl Home {
    /// The folder given, or `.cairn` in the user's own.
    ///
    /// # Errors
    ///
    /// Of kind usage when none is given and the user has none.
    pub(crate) fn find(given: Option<&Path>) -> Result<Self, Failure> {
        if let Some(folder) = given {
            let folder = std::path::absolute(folder)
                .map_err(|error| Failure::new(FailureKind::Usage, error))?;
            return Ok(Self { folder });
        }
        let user = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let user = user.ok_or_else(|| {
            Failure::say(FailureKind::Usage, "HOME is not set").hint("give --home DIR")
        })?;
        Ok(Self {
            folder: PathBuf::from(user).join(".cairn"),
        })
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The owner's key file.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.join("key.toml")
    }

    /// How to reach the network.
    pub(crate) fn network_file(&self) -> PathBuf {
        self.folder.join("network.toml")
    }

    /// The owner's groups, and uploads that are not done.
    pub(crate) fn owner(&self) -> PathBuf {
        self.folder.join("owner")
    }

    /// The development network.
    pub(crate) fn dev(&self) -> PathBuf {
        self.folder.join("dev")
    }

    /// The node that is meant when no folder is given.
    pub(crate) fn node(&self) -> PathBuf {
        self.folder.join("node")
    }

    /// The default validator's folder.
    pub(crate) fn validator(&self) -> PathBuf {
        self.folder.join("validator")
    }
}
