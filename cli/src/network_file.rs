//! `network.toml`: how to reach a network.
//!
//! ```toml
//! ledger_peers = ["<node id>"]
//! ledger = "<ledger id>"
//! ledger_key = "<its key>"
//! profile = "dev8"
//!
//! [[bootstrap]]
//! peer = "<node id>"
//! address = "/ip4/203.0.113.7/tcp/4700"
//! ```

use std::path::Path;

use cairn_core::{LedgerId, NodeId, Profile};
use cairn_ledger::{LedgerKey, RemoteLedger};
use cairn_net::{LedgerPeers, PeerAddress, RealNetwork};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};

/// How to reach a network, as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    ledger_peers: Vec<String>,
    ledger: String,
    ledger_key: String,
    profile: String,
    bootstrap: Vec<BootstrapPeer>,
}

/// A peer to ask for others first, as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BootstrapPeer {
    peer: String,
    address: String,
}

/// How to reach a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkFile {
    /// Who answers for the ledger: its validators or its sequencer. The first that answers is asked.
    pub(crate) ledger_peers: Vec<NodeId>,
    /// Which ledger that is. Another that answers is refused.
    pub(crate) ledger: LedgerId,
    /// By which its answers are checked: the sequencer's key, or that which the validators hold
    /// together.
    pub(crate) ledger_key: LedgerKey,
    /// The code that uploads get when none is asked for.
    pub(crate) profile: Profile,
    /// Peers to ask for others first.
    pub(crate) bootstrap: Vec<PeerAddress>,
}

impl NetworkFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is none or it says nothing of use.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = files::read(path)?.ok_or_else(|| {
            Failure::say(
                FailureKind::Usage,
                format!("no network is known: {shown} is not there"),
            )
            .hint("cairn dev starts one on this machine; or give --network FILE")
        })?;
        Self::parse(&text).map_err(|failure| failure.while_doing(format!("{shown} is wrong")))
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let written: Written = toml::from_str(text).or_fail(FailureKind::Usage, "no network")?;
        let id = |text: &str| {
            text.parse::<NodeId>()
                .or_fail(FailureKind::Usage, format!("{text:?} is no node id"))
        };
        let peers = written.bootstrap.iter().map(|peer| {
            Ok(PeerAddress {
                node: id(&peer.peer)?,
                address: peer.address.clone(),
            })
        });
        if written.ledger_peers.is_empty() {
            let text = "ledger_peers names nobody";
            return Err(Failure::say(FailureKind::Usage, text));
        }
        let ledger_peers = written.ledger_peers.iter().map(|text| id(text));
        Ok(Self {
            ledger_peers: ledger_peers.collect::<Result<_, Failure>>()?,
            ledger: written
                .ledger
                .parse()
                .or_fail(FailureKind::Usage, "ledger is no ledger id")?,
            ledger_key: written
                .ledger_key
                .parse()
                .or_fail(FailureKind::Usage, "ledger_key is no ledger's key")?,
            profile: written
                .profile
                .parse()
                .or_fail(FailureKind::Usage, "profile")?,
            bootstrap: peers.collect::<Result<_, Failure>>()?,
        })
    }

    /// The ledger, as its peers show it.
    pub(crate) fn ledger(&self, net: RealNetwork) -> RemoteLedger<LedgerPeers<RealNetwork>> {
        let peers = LedgerPeers::new(net, &self.ledger_peers);
        RemoteLedger::new(peers, self.ledger, self.ledger_key)
    }

    /// Writes the file in one step.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        files::write(path, Access::Shared, self.to_text()?.as_bytes())
    }

    fn to_text(&self) -> Result<String, Failure> {
        let peers = self.bootstrap.iter().map(|peer| BootstrapPeer {
            peer: peer.node.to_string(),
            address: peer.address.clone(),
        });
        let written = Written {
            ledger_peers: self.ledger_peers.iter().map(NodeId::to_string).collect(),
            ledger: self.ledger.to_string(),
            ledger_key: self.ledger_key.to_string(),
            profile: self.profile.to_string(),
            bootstrap: peers.collect(),
        };
        toml::to_string(&written).or_fail(FailureKind::Usage, "the network has no form")
    }
}

#[cfg(test)]
mod tests {
    use cairn_core::{Digest, PublicKey};

    use super::*;

    fn network() -> NetworkFile {
        let node = NodeId::new(PublicKey::from_bytes([7; 32]));
        NetworkFile {
            ledger_peers: vec![node],
            ledger: LedgerId::new(Digest::new([8; 32])),
            ledger_key: LedgerKey::Sequencer(PublicKey::from_bytes([9; 32])),
            profile: Profile::Dev8,
            bootstrap: vec![PeerAddress {
                node,
                address: "/ip4/127.0.0.1/tcp/4700".to_owned(),
            }],
        }
    }

    #[test]
    fn a_written_network_reads_back() {
        let text = network().to_text().unwrap();
        assert_eq!(NetworkFile::parse(&text).unwrap(), network());
    }

    #[test]
    fn an_unknown_key_or_a_wrong_value_is_usage() {
        let text = network().to_text().unwrap();
        let wrong = [
            format!("surprise = 1\n{text}"),
            text.replace("dev8", "dev9"),
            text.replace("0707", "07x7"),
            text.replace(&format!("[\"{}\"]", network().ledger_peers[0]), "[]"),
            text.replace("0808", "08x8"),
            text.replace("0909", "09x9"),
            text.replace("ledger = ", "# ledger = "),
            String::new(),
        ];
        for text in wrong {
            let failure = NetworkFile::parse(&text).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Usage, "{text}");
        }
    }

    #[test]
    fn a_missing_file_hints_at_the_development_network() {
        let folder = tempfile::tempdir().unwrap();
        let failure = NetworkFile::read(&folder.path().join("network.toml")).unwrap_err();
        assert!(failure.to_string().contains("hint: cairn dev"));
    }
}
