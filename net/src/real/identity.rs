//! One identity in two forms: our [`NodeId`] and libp2p's peer id, both an Ed25519 key.

use cairn_core::{NodeId, PublicKey, SecretKey};
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey as Libp2pKey, ed25519};

/// Multihash code of the identity function: the peer ids of Ed25519 keys hold the key itself.
const MULTIHASH_IDENTITY: u64 = 0;

/// The key pair in libp2p's form.
pub(super) fn keypair(key: &SecretKey) -> Keypair {
    let mut secret = key.to_bytes();
    Keypair::ed25519_from_bytes(secret.as_mut_slice()).expect("any 32 bytes are an Ed25519 secret")
}

/// A node's peer id; `None` when its bytes are no point of the curve.
pub(super) fn peer_id(node: NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(Libp2pKey::from(key).to_peer_id())
}

/// The node behind a peer id; `None` when its key is not Ed25519.
pub(super) fn node_id(peer: &PeerId) -> Option<NodeId> {
    let hash = peer.as_ref();
    if hash.code() != MULTIHASH_IDENTITY {
        return None;
    }
    let key = Libp2pKey::try_decode_protobuf(hash.digest()).ok()?;
    let key = key.try_into_ed25519().ok()?;
    Some(NodeId::new(PublicKey::from_bytes(key.to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_convert_both_ways() {
        let secret = SecretKey::from_bytes(&[7; 32]);
        let node = NodeId::new(secret.public());
        let peer = keypair(&secret).public().to_peer_id();
        assert_eq!(peer_id(node), Some(peer));
        assert_eq!(node_id(&peer), Some(node));
    }

    #[test]
    fn other_identities_are_refused() {
        let foreign =
            PeerId::from_multihash(libp2p::multihash::Multihash::wrap(0x12, &[1; 32]).unwrap());
        assert_eq!(node_id(&foreign.unwrap()), None);
    }
}
