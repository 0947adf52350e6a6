//! `genesis.toml`: where a ledger of validators begins, and where they are reached.
//!
//! ```toml
//! time_unix_ms = 1764000000000
//! epoch_ms = 3600000
//! # Public side of the key that the validators hold together.
//! key = "<hexadecimal>"
//! profile = "standard"
//!
//! [[validator]]
//! identity = "<64 hexadecimal digits>"
//! # Where the other validators reach it.
//! address = "203.0.113.7:4710"
//! # Where clients and nodes do.
//! peer = "/ip4/203.0.113.7/tcp/4700"
//!
//! [[endowed]]
//! account = "<64 hexadecimal digits>"
//! micro_credits = 1000000
//! ```
//!
//! Everything but the addresses and the profile is part of the ledger's identity.

use std::net::SocketAddr;
use std::path::Path;

use cairn_core::{AccountId, Amount, Bounded, NodeId, Profile, PublicKey, UnixMillis};
use cairn_ledger::{Genesis, LedgerKey, Parameters, State, Validators};
use cairn_net::PeerAddress;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};
use crate::network_file::NetworkFile;

/// The file, as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    time_unix_ms: u64,
    epoch_ms: u64,
    key: String,
    profile: String,
    validator: Vec<WrittenValidator>,
    #[serde(default)]
    endowed: Vec<WrittenBalance>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenValidator {
    identity: String,
    address: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBalance {
    account: String,
    micro_credits: u64,
}

/// Where a validator is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValidatorPlace {
    /// Its identity, also as a peer of the network.
    pub(crate) identity: PublicKey,
    /// Where it listens for the other validators.
    pub(crate) address: SocketAddr,
    /// Multiaddress at which it answers clients and nodes.
    pub(crate) peer: Option<String>,
}

/// What a new ledger begins with, its validators aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// The ledger's first time.
    pub(crate) time: UnixMillis,
    /// Length of an epoch in milliseconds; 0 for a ledger without.
    pub(crate) epoch_millis: u64,
    /// Balances.
    pub(crate) endowed: Vec<(AccountId, Amount)>,
}

/// Where a ledger of validators begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GenesisFile {
    /// The genesis.
    pub(crate) genesis: Genesis,
    /// Where each validator is reached.
    pub(crate) places: Vec<ValidatorPlace>,
    /// The code that uploads get when none is asked for.
    pub(crate) profile: Profile,
}

impl GenesisFile {
    /// A new ledger's.
    ///
    /// # Errors
    ///
    /// Of kind usage when there are too many balances, or one account twice.
    pub(crate) fn new(
        beginning: Beginning,
        validators: Validators,
        places: Vec<ValidatorPlace>,
        profile: Profile,
    ) -> Result<Self, Failure> {
        let mut endowed = beginning.endowed;
        endowed.sort_by_key(|(account, _)| *account);
        let genesis = Genesis {
            time: beginning.time,
            parameters: Parameters {
                epoch_millis: beginning.epoch_millis,
                seed_lag_views: cairn_consensus::SEED_LAG,
                ..Parameters::default()
            },
            endowed: Bounded::new(endowed).or_fail(FailureKind::Usage, "balances")?,
            validators: Some(validators),
        };
        if State::genesis(&genesis).is_none() {
            let text = "the balances are of one account twice, or too much together";
            return Err(Failure::say(FailureKind::Usage, text));
        }
        Ok(Self {
            genesis,
            places,
            profile,
        })
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is none or it is wrong.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = files::read(path)?.ok_or_else(|| {
            Failure::say(FailureKind::Usage, format!("{shown} is not there"))
                .hint("cairn genesis makes one")
        })?;
        Self::parse(&text).map_err(|failure| failure.while_doing(format!("{shown} is wrong")))
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let written: Written = toml::from_str(text).or_fail(FailureKind::Usage, "no genesis")?;
        let key = HEXLOWER
            .decode(written.key.as_bytes())
            .or_fail(FailureKind::Usage, "key is not hexadecimal")?;
        let place = |validator: &WrittenValidator| {
            Ok(ValidatorPlace {
                identity: identity(&validator.identity)?,
                address: validator.address,
                peer: validator.peer.clone(),
            })
        };
        let places = written.validator.iter().map(place);
        let places = places.collect::<Result<Vec<_>, Failure>>()?;
        let mut identities: Vec<PublicKey> = places.iter().map(|place| place.identity).collect();
        identities.sort_unstable();
        let validators = Validators {
            identities: Bounded::new(identities).or_fail(FailureKind::Usage, "validators")?,
            key: Bounded::new(key).or_fail(FailureKind::Usage, "key")?,
        };
        let endowed = written.endowed.iter().map(|balance| {
            let account = AccountId::new(identity(&balance.account)?);
            Ok((account, Amount::from_micro(balance.micro_credits)))
        });
        let beginning = Beginning {
            time: UnixMillis::new(written.time_unix_ms),
            epoch_millis: written.epoch_ms,
            endowed: endowed.collect::<Result<Vec<_>, Failure>>()?,
        };
        let profile = written.profile.parse();
        let profile = profile.or_fail(FailureKind::Usage, "profile")?;
        Self::new(beginning, validators, places, profile)
    }

    /// Writes the file, where there is none.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is one, storage when it can't be written.
    pub(crate) fn create(&self, path: &Path) -> Result<(), Failure> {
        if files::create(path, Access::Shared, self.to_text()?.as_bytes())? {
            return Ok(());
        }
        let text = format!("{} is there already", path.display());
        Err(Failure::say(FailureKind::Usage, text))
    }

    /// How clients and nodes reach the ledger's network, through every validator whose address is
    /// known.
    ///
    /// # Errors
    ///
    /// Of kind usage when the validators' key is malformed.
    pub(crate) fn network(&self) -> Result<NetworkFile, Failure> {
        let key = cairn_consensus::key_of(&self.genesis);
        Ok(self.network_by(key.or_fail(FailureKind::Usage, "the genesis")?))
    }

    fn network_by(&self, ledger_key: LedgerKey) -> NetworkFile {
        NetworkFile {
            ledger_peers: self.places.iter().map(peer_of).collect(),
            ledger: self.genesis.ledger_id(),
            ledger_key,
            profile: self.profile,
            bootstrap: self.peers(),
        }
    }

    /// Where validators are reached as peers.
    pub(crate) fn peers(&self) -> Vec<PeerAddress> {
        let address = |place: &ValidatorPlace| {
            let address = place.peer.clone()?;
            let node = peer_of(place);
            Some(PeerAddress { node, address })
        };
        self.places.iter().filter_map(address).collect()
    }

    fn to_text(&self) -> Result<String, Failure> {
        let key = self.genesis.validators.as_ref();
        let validator = |place: &ValidatorPlace| WrittenValidator {
            identity: place.identity.to_string(),
            address: place.address,
            peer: place.peer.clone(),
        };
        let balance = |(account, amount): &(AccountId, Amount)| WrittenBalance {
            account: account.to_string(),
            micro_credits: amount.micro(),
        };
        let written = Written {
            time_unix_ms: self.genesis.time.get(),
            epoch_ms: self.genesis.parameters.epoch_millis,
            key: key.map_or_else(String::new, |it| HEXLOWER.encode(&it.key)),
            profile: self.profile.to_string(),
            validator: self.places.iter().map(validator).collect(),
            endowed: self.genesis.endowed.iter().map(balance).collect(),
        };
        toml::to_string(&written).or_fail(FailureKind::Usage, "the genesis has no form")
    }
}

fn peer_of(place: &ValidatorPlace) -> NodeId {
    NodeId::new(place.identity)
}

/// A key from its 64 digits.
///
/// # Errors
///
/// Of kind usage when it is none.
pub(crate) fn identity(text: &str) -> Result<PublicKey, Failure> {
    let id = text.parse::<NodeId>();
    id.map(|id| id.key())
        .or_fail(FailureKind::Usage, format!("{text:?} is no key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn file() -> GenesisFile {
        let validators = Validators {
            identities: Bounded::new(vec![key(1), key(2)]).unwrap(),
            key: Bounded::new(vec![1, 2, 3]).unwrap(),
        };
        let place = |number, peer: Option<&str>| ValidatorPlace {
            identity: key(number),
            address: "127.0.0.1:4710".parse().unwrap(),
            peer: peer.map(str::to_owned),
        };
        let beginning = Beginning {
            time: UnixMillis::new(1_764_000_000_000),
            epoch_millis: 10_000,
            endowed: vec![(AccountId::new(key(5)), Amount::from_micro(7))],
        };
        let places = vec![place(2, Some("/ip4/127.0.0.1/tcp/4700")), place(1, None)];
        GenesisFile::new(beginning, validators, places, Profile::Dev4).unwrap()
    }

    #[test]
    fn a_written_genesis_reads_back() {
        let file = file();
        let text = file.to_text().unwrap();
        assert_eq!(GenesisFile::parse(&text).unwrap(), file);
        for wrong in [
            format!("surprise = 1\n{text}"),
            text.replace("0202", "02x2"),
            text.replace("010203", "01020"),
            text.replace("127.0.0.1:4710", "127.0.0.1"),
            text.replace("dev4", "dev5"),
        ] {
            let failure = GenesisFile::parse(&wrong).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Usage, "{wrong}");
        }
    }

    #[test]
    fn the_network_is_reached_through_every_validator_that_has_an_address() {
        let refused = file().network().unwrap_err();
        assert_eq!(refused.kind(), FailureKind::Usage, "its key is none");
        let network = file().network_by(LedgerKey::Sequencer(key(3)));
        let peers = [key(2), key(1)].map(NodeId::new);
        assert_eq!(network.ledger_peers, peers);
        let bootstrap: Vec<NodeId> = network.bootstrap.iter().map(|peer| peer.node).collect();
        assert_eq!(bootstrap, peers[..1]);
    }
}
