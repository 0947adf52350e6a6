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
//! # Its signature under the ledger's id, when the validators made the key together.
//! signature = "<128 hexadecimal digits>"
//!
//! [[endowed]]
//! account = "<64 hexadecimal digits>"
//! micro_credits = 1000000
//! ```
//!
//! Everything but the addresses, the signatures and the profile is part of the ledger's identity. Either
//! all validators have signed, or none has and a trusted dealer made the key.

use std::net::SocketAddr;
use std::path::Path;

use cairn_consensus::ceremony::{Agreement, SIGNATURE_BYTES, is_agreed};
use cairn_core::{AccountId, Amount, Bounded, NodeId, Profile, PublicKey, UnixMillis};
use cairn_ledger::{Genesis, LedgerKey, Parameters, State, Validators};
use cairn_net::PeerAddress;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};
use crate::network_file::NetworkFile;

/// The file, as written; without a key, that of a draft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    time_unix_ms: u64,
    epoch_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    profile: String,
    validator: Vec<WrittenValidator>,
    #[serde(default)]
    endowed: Vec<WrittenBalance>,
}

/// A validator, as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenValidator {
    identity: String,
    address: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBalance {
    account: String,
    micro_credits: u64,
}

impl Written {
    /// What is written of a draft.
    pub(crate) fn of(beginning: &Beginning, places: &[ValidatorPlace], profile: Profile) -> Self {
        let balance = |(account, amount): &(AccountId, Amount)| WrittenBalance {
            account: account.to_string(),
            micro_credits: amount.micro(),
        };
        Self {
            time_unix_ms: beginning.time.get(),
            epoch_ms: beginning.epoch_millis,
            key: None,
            profile: profile.to_string(),
            validator: places.iter().map(WrittenValidator::of).collect(),
            endowed: beginning.endowed.iter().map(balance).collect(),
        }
    }

    /// # Errors
    ///
    /// Of kind usage when the text is none of this form.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        toml::from_str(text).or_fail(FailureKind::Usage, "no genesis")
    }

    /// All but the key.
    ///
    /// # Errors
    ///
    /// Of kind usage when a field is wrong.
    pub(crate) fn draft(&self) -> Result<(Beginning, Vec<ValidatorPlace>, Profile), Failure> {
        let places = self.validator.iter().map(WrittenValidator::place);
        let places = places.collect::<Result<Vec<_>, Failure>>()?;
        let endowed = self.endowed.iter().map(|balance| {
            let account = AccountId::new(identity(&balance.account)?);
            Ok((account, Amount::from_micro(balance.micro_credits)))
        });
        let beginning = Beginning {
            time: UnixMillis::new(self.time_unix_ms),
            epoch_millis: self.epoch_ms,
            endowed: endowed.collect::<Result<Vec<_>, Failure>>()?,
        };
        let profile = self.profile.parse();
        let profile = profile.or_fail(FailureKind::Usage, "profile")?;
        Ok((beginning, places, profile))
    }

    /// # Errors
    ///
    /// When it has no form, which none that was parsed has.
    pub(crate) fn to_text(&self) -> Result<String, Failure> {
        toml::to_string(self).or_fail(FailureKind::Usage, "the genesis has no form")
    }
}

impl WrittenValidator {
    /// What is written of a validator.
    pub(crate) fn of(place: &ValidatorPlace) -> Self {
        Self {
            identity: place.identity.to_string(),
            address: place.address,
            peer: place.peer.clone(),
            signature: place.signature.map(|bytes| HEXLOWER.encode(&bytes)),
        }
    }

    /// # Errors
    ///
    /// Of kind usage when a field is wrong.
    pub(crate) fn place(&self) -> Result<ValidatorPlace, Failure> {
        Ok(ValidatorPlace {
            identity: identity(&self.identity)?,
            address: self.address,
            peer: self.peer.clone(),
            signature: self.signature.as_deref().map(signature).transpose()?,
        })
    }
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
    /// Its signature under the ledger's id.
    pub(crate) signature: Option<[u8; SIGNATURE_BYTES]>,
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
        let genesis = genesis(&beginning, Some(validators))?;
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

    /// The genesis of a text.
    ///
    /// # Errors
    ///
    /// Of kind usage when it is none, or a signature does not hold.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let written = Written::parse(text)?;
        let key = written.key.as_ref().ok_or_else(|| {
            let text = "key is not there: this is a draft, whose validators have not made it";
            Failure::say(FailureKind::Usage, text).hint("cairn validator agree DRAFT")
        })?;
        let (beginning, places, profile) = written.draft()?;
        let validators = validators_of(places.iter().map(|place| place.identity), key)?;
        let file = Self::new(beginning, validators, places, profile)?;
        file.check_signatures()?;
        Ok(file)
    }

    /// Either nobody has signed, or all have and nothing else.
    fn check_signatures(&self) -> Result<(), Failure> {
        if self.places.iter().all(|place| place.signature.is_none()) {
            return Ok(());
        }
        let digest = self.genesis.ledger_id().digest();
        let is_signed = |place: &ValidatorPlace| {
            let signature = place.signature.as_ref();
            signature.is_some_and(|signature| is_agreed(&place.identity, digest, signature))
        };
        match self.places.iter().find(|place| !is_signed(place)) {
            None => Ok(()),
            Some(place) => {
                let text = format!("validator {} has not signed this genesis", place.identity);
                Err(Failure::say(FailureKind::Usage, text))
            }
        }
    }

    /// What all validators have signed; `None` when a dealer made the key.
    pub(crate) fn agreement(&self) -> Option<Agreement> {
        let mut signed: Vec<_> = self
            .places
            .iter()
            .map(|place| Some((place.identity, place.signature?)))
            .collect::<Option<_>>()?;
        signed.sort_unstable_by_key(|(identity, _)| *identity);
        Some(Agreement {
            digest: self.genesis.ledger_id().digest(),
            signatures: signed.into_iter().map(|(_, signature)| signature).collect(),
        })
    }

    /// With the signatures of all.
    pub(crate) fn signed(mut self, agreement: &Agreement) -> Self {
        let mut identities: Vec<PublicKey> = self.places.iter().map(|it| it.identity).collect();
        identities.sort_unstable();
        for (identity, signature) in identities.iter().zip(&agreement.signatures) {
            let place = self.places.iter_mut().find(|it| it.identity == *identity);
            if let Some(place) = place {
                place.signature = Some(*signature);
            }
        }
        self
    }

    /// What the ledger begins with, its validators aside.
    pub(crate) fn beginning(&self) -> Beginning {
        Beginning {
            time: self.genesis.time,
            epoch_millis: self.genesis.parameters.epoch_millis,
            endowed: self.genesis.endowed.to_vec(),
        }
    }

    /// Writes the file, where there is none.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is one, storage when it can't be written.
    pub(crate) fn create(&self, path: &Path) -> Result<(), Failure> {
        files::create_new(path, Access::Shared, self.to_text()?.as_bytes())
    }

    /// How clients and nodes reach the ledger's network, through every validator whose address is
    /// known.
    ///
    /// # Errors
    ///
    /// Of kind usage when the validators' key is malformed.
    pub(crate) fn network(&self) -> Result<NetworkFile, Failure> {
        self.network_of(&self.places)
    }

    /// The same through the validators of a later term; the ledger's key is for ever that of the
    /// genesis.
    ///
    /// # Errors
    ///
    /// As [`Self::network`].
    pub(crate) fn network_of(&self, places: &[ValidatorPlace]) -> Result<NetworkFile, Failure> {
        Ok(self.network_by(places, self.ledger_key()?))
    }

    /// By which the ledger's answers are checked.
    ///
    /// # Errors
    ///
    /// Of kind usage when the validators' key is malformed.
    pub(crate) fn ledger_key(&self) -> Result<LedgerKey, Failure> {
        let key = cairn_consensus::key_of(&self.genesis);
        key.or_fail(FailureKind::Usage, "the genesis")
    }

    fn network_by(&self, places: &[ValidatorPlace], ledger_key: LedgerKey) -> NetworkFile {
        NetworkFile {
            ledger_peers: places.iter().map(peer_of).collect(),
            ledger: self.genesis.ledger_id(),
            ledger_key,
            profile: self.profile,
            bootstrap: peers_of(places),
        }
    }

    /// # Errors
    ///
    /// When it has no form, which none that was read has.
    pub(crate) fn to_text(&self) -> Result<String, Failure> {
        let key = self.genesis.validators.as_ref();
        let mut written = Written::of(&self.beginning(), &self.places, self.profile);
        written.key = key.map(|it| HEXLOWER.encode(&it.key));
        written.to_text()
    }
}

/// A genesis of what it begins with.
fn genesis(beginning: &Beginning, validators: Option<Validators>) -> Result<Genesis, Failure> {
    let mut endowed = beginning.endowed.clone();
    endowed.sort_by_key(|(account, _)| *account);
    let genesis = Genesis {
        time: beginning.time,
        parameters: Parameters {
            epoch_millis: beginning.epoch_millis,
            seed_lag_views: cairn_consensus::SEED_LAG,
            ..Parameters::default()
        },
        endowed: Bounded::new(endowed).or_fail(FailureKind::Usage, "balances")?,
        validators,
    };
    if State::genesis(&genesis).is_none() {
        let text = "the balances are of one account twice, or too much together";
        return Err(Failure::say(FailureKind::Usage, text));
    }
    Ok(genesis)
}

/// Whether a ledger can begin with these balances, whatever its validators' key.
///
/// # Errors
///
/// Of kind usage when it can't.
pub(crate) fn check_balances(beginning: &Beginning) -> Result<(), Failure> {
    genesis(beginning, None).map(drop)
}

fn peer_of(place: &ValidatorPlace) -> NodeId {
    NodeId::new(place.identity)
}

/// Where validators are reached as peers, those whose address is known.
pub(crate) fn peers_of(places: &[ValidatorPlace]) -> Vec<PeerAddress> {
    let address = |place: &ValidatorPlace| {
        let address = place.peer.clone()?;
        let node = peer_of(place);
        Some(PeerAddress { node, address })
    };
    places.iter().filter_map(address).collect()
}

/// Validators in the order that a ledger has them in, with the hexadecimal public side of their key.
///
/// # Errors
///
/// Of kind usage when they are too many, or the key is none.
pub(crate) fn validators_of(
    identities: impl IntoIterator<Item = PublicKey>,
    key: &str,
) -> Result<Validators, Failure> {
    let key = HEXLOWER
        .decode(key.as_bytes())
        .or_fail(FailureKind::Usage, "key is not hexadecimal")?;
    let mut identities: Vec<PublicKey> = identities.into_iter().collect();
    identities.sort_unstable();
    Ok(Validators {
        identities: Bounded::new(identities).or_fail(FailureKind::Usage, "validators")?,
        key: Bounded::new(key).or_fail(FailureKind::Usage, "key")?,
    })
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

/// A signature from its 128 digits.
///
/// # Errors
///
/// Of kind usage when it is none.
pub(crate) fn signature(text: &str) -> Result<[u8; SIGNATURE_BYTES], Failure> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    bytes
        .and_then(|bytes| <[u8; SIGNATURE_BYTES]>::try_from(bytes).ok())
        .ok_or_else(|| Failure::say(FailureKind::Usage, format!("{text:?} is no signature")))
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
            signature: None,
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
            text.replace("key = ", "# key = "),
            // Nobody's signature.
            text.replacen(
                "peer = ",
                &format!("signature = \"{}\"\npeer = ", "11".repeat(64)),
                1,
            ),
        ] {
            let failure = GenesisFile::parse(&wrong).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Usage, "{wrong}");
        }
    }

    #[test]
    fn the_network_is_reached_through_every_validator_that_has_an_address() {
        let refused = file().network().unwrap_err();
        assert_eq!(refused.kind(), FailureKind::Usage, "its key is none");
        let file = file();
        let network = file.network_by(&file.places, LedgerKey::Sequencer(key(3)));
        let peers = [key(2), key(1)].map(NodeId::new);
        assert_eq!(network.ledger_peers, peers);
        let bootstrap: Vec<NodeId> = network.bootstrap.iter().map(|peer| peer.node).collect();
        assert_eq!(bootstrap, peers[..1]);
    }
}
