//! A validator that votes for two blocks in every view.

use commonware_codec::{DecodeExt as _, Encode as _};
use commonware_consensus::simplex::types::{Notarize, Proposal, Vote as Ballot};
use commonware_cryptography::{Blake3, Hasher as _};
use commonware_p2p::Recipients;

use super::*;
use crate::block::Digest;
use crate::committee::Scheme;

/// Votes, wherever another votes for a block, for that block and for one that nobody made.
async fn vote_twice(
    scheme: Scheme,
    (mut sender, mut receiver): (
        impl commonware_p2p::Sender<PublicKey = ed25519::PublicKey>,
        impl commonware_p2p::Receiver<PublicKey = ed25519::PublicKey>,
    ),
) {
    while let Ok((_, message)) = receiver.recv().await {
        let Ok(Ballot::Notarize(theirs)) = Ballot::<Scheme, Digest>::decode(message) else {
            continue;
        };
        let (round, parent) = (theirs.proposal.round, theirs.proposal.parent);
        let other = Proposal::new(round, parent, Blake3::hash(&[b"another"]));
        for proposal in [other, theirs.proposal] {
            let vote = Notarize::sign(&scheme, proposal).expect("it holds a part");
            let vote = Ballot::<Scheme, Digest>::Notarize(vote).encode();
            drop(sender.send(Recipients::All, vote, true));
        }
    }
}

#[test]
fn an_equivocator_is_shut_out_and_the_others_go_on() {
    let config = deterministic::Config::new()
        .with_seed(8)
        .with_timeout(Some(Duration::from_secs(600)));
    deterministic::Runner::new(config).start(async |world: World| {
        let mut team = Team::new(world, 4).await;
        for number in 0..3 {
            team.start(number).await;
        }
        let traitor = team.members[3].key.clone();
        let committee = &team.dealing.committee;
        let scheme = committee.signer(&LEDGER, TERM, &traitor, &team.dealing.parts[3]);
        let (channel, rate) = CHANNELS[0];
        let control = team.oracle.control(traitor.clone());
        let votes = control.register(channel, quota(rate)).await.unwrap();
        let voting = vote_twice(scheme.unwrap(), votes);
        let _voting = team.world.child("traitor").spawn(|_| voting);
        let blocked = |by: &ed25519::PublicKey, of: &ed25519::PublicKey, pairs: &[Pair]| {
            pairs.contains(&(by.clone(), of.clone()))
        };
        loop {
            let pairs = team.oracle.blocked().await.unwrap();
            let is_out = |member: &Member| blocked(&member.key, &traitor, &pairs);
            if team.members[..3].iter().all(is_out) {
                assert!(pairs.iter().all(|(_, of)| *of == traitor), "nobody else");
                break;
            }
            team.world.sleep(Duration::from_millis(50)).await;
        }
        let height = team.heights()[0];
        team.reach(height + 10).await;
        team.check();
    });
}

type Pair = (ed25519::PublicKey, ed25519::PublicKey);
