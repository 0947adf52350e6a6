//! A validator that votes for two blocks in every view: what tests of real processes run in one
//! validator's place, with its port, its identity and its part of the key. It makes no blocks and
//! keeps nothing.
//!
//! `equivocator LEDGER KEY SECRET PART IP:PORT IDENTITY@IP:PORT...`, all but addresses in
//! hexadecimal: the ledger's id, the public side of the validators' key, this one's secret and
//! part, where it listens, and all validators.

#![expect(clippy::unwrap_used, reason = "a test's wrong arguments")]

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use commonware_codec::{DecodeExt as _, Encode as _, Read as _};
use commonware_consensus::simplex::scheme::bls12381_threshold::vrf;
use commonware_consensus::simplex::types::{Finalize, Notarize, Proposal, Vote};
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::sharing::{ModeVersion, Sharing};
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::{Blake3, ChaCha20Poly1305, Hasher as _, blake3, ed25519};
use commonware_p2p::authenticated::lookup::{Config, Network};
use commonware_p2p::{Address, AddressableManager as _, Receiver as _, Recipients, Sender as _};
use commonware_runtime::tokio::{Config as RunnerConfig, Context, Runner};
use commonware_runtime::{Quota, Runner as _, Supervisor as _};
use commonware_stream::cups::{self, Cups};
use commonware_stream::sake::{self, Sake};
use commonware_utils::ordered::{Map, Set};

type Scheme = vrf::Scheme<ed25519::PublicKey, MinSig>;
type Ballot = Vote<Scheme, blake3::Digest>;

/// Domain of what validators sign (docs/protocol/ledger.md#validators).
const NAMESPACE: &[u8] = b"cairn 1 consensus ";
/// Its term: that of the genesis' validators.
const TERM: u32 = 0;
/// Far above any message of a test.
const MESSAGE_BYTES_MAX: u32 = 16 << 20;
const MAILBOX_SIZE: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// The validators' channels: of votes the first.
const CHANNELS: [u64; 6] = [0, 1, 2, 3, 4, 5];
const RATE: NonZeroU32 = NonZeroU32::new(256).unwrap();

struct Place {
    namespace: Vec<u8>,
    scheme: Scheme,
    signer: ed25519::PrivateKey,
    listen: SocketAddr,
    validators: Map<ed25519::PublicKey, Address>,
}

fn bytes(text: &str) -> Vec<u8> {
    let digits = (0..text.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(text.get(at..at.saturating_add(2)).unwrap(), 16).unwrap())
        .collect()
}

fn place(args: &[String]) -> Place {
    let [ledger, key, secret, part, listen, validators @ ..] = args else {
        panic!("expected LEDGER KEY SECRET PART IP:PORT IDENTITY@IP:PORT...");
    };
    let validators: Vec<(ed25519::PublicKey, Address)> = validators
        .iter()
        .map(|text| {
            let (identity, address) = text.split_once('@').unwrap();
            let address: SocketAddr = address.parse().unwrap();
            let key = ed25519::PublicKey::decode(bytes(identity)).unwrap();
            (key, Address::from(address))
        })
        .collect();
    let validators = Map::try_from(validators).unwrap();
    let identities: Set<ed25519::PublicKey> = validators.keys().clone();
    let count = u32::try_from(identities.len()).unwrap();
    let limits = (NonZeroU32::new(count).unwrap(), ModeVersion::v0());
    let mut key = bytes::Bytes::from(bytes(key));
    let sharing = Sharing::<MinSig>::read_cfg(&mut key, &limits).unwrap();
    let part = Share::decode(bytes(part)).unwrap();
    let namespace = [NAMESPACE, &bytes(ledger), &TERM.to_be_bytes()].concat();
    Place {
        scheme: Scheme::signer(&namespace, identities, sharing, part).unwrap(),
        signer: ed25519::PrivateKey::decode(bytes(secret)).unwrap(),
        listen: listen.parse().unwrap(),
        namespace,
        validators,
    }
}

fn config(place: &Place) -> Config<Cups<Sake<ed25519::PrivateKey>, ChaCha20Poly1305>> {
    let handshake = Cups::new(
        Sake {
            signer: place.signer.clone(),
            synchrony_bound: Duration::from_secs(10),
            max_handshake_age: Duration::from_secs(10),
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let count = NonZeroUsize::new(place.validators.len()).unwrap();
    let mut config = Config::local(
        handshake,
        &place.namespace,
        place.listen,
        count,
        MESSAGE_BYTES_MAX,
        MAILBOX_SIZE,
    );
    config.bypass_ip_check = true;
    config
}

/// The two votes that a vote of another is answered by: for its block and for one that nobody made.
fn both(scheme: &Scheme, theirs: Ballot) -> Vec<Ballot> {
    let other = |of: &Proposal<blake3::Digest>| {
        Proposal::new(of.round, of.parent, Blake3::hash(&[b"another"]))
    };
    match theirs {
        Vote::Notarize(theirs) => [other(&theirs.proposal), theirs.proposal]
            .map(|proposal| Vote::Notarize(Notarize::sign(scheme, proposal).unwrap()))
            .into(),
        Vote::Finalize(theirs) => [other(&theirs.proposal), theirs.proposal]
            .map(|proposal| Vote::Finalize(Finalize::sign(scheme, proposal).unwrap()))
            .into(),
        Vote::Nullify(_) => Vec::new(),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let place = place(&args);
    Runner::new(RunnerConfig::new()).start(async move |context: Context| {
        let (mut network, mut oracle) = Network::new(context.child("network"), config(&place));
        let _taken = oracle.track(0, place.validators.clone());
        let mut channels: Vec<_> = CHANNELS
            .map(|number| network.register(number, Quota::per_second(RATE)))
            .into();
        let _network = network.start();
        let (mut sender, mut receiver) = channels.remove(0);
        while let Ok((_, message)) = receiver.recv().await {
            let Ok(theirs) = Ballot::decode(message) else {
                continue;
            };
            for vote in both(&place.scheme, theirs) {
                drop(sender.send(Recipients::All, vote.encode(), true));
            }
        }
    });
}
