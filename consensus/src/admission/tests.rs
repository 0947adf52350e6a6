//! Shares at, below and above their bounds.

use cairn_core::Digest;

use super::*;

fn peer(number: usize) -> NodeId {
    let number = u64::try_from(number).unwrap();
    let digest = Digest::of(&number.to_le_bytes());
    NodeId::new(cairn_core::PublicKey::from_bytes(*digest.as_bytes()))
}

const fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn full<T>(result: Result<T, Full>) -> Option<usize> {
    result.err().map(|full| full.max)
}

#[test]
fn one_peer_has_so_many_requests_under_way_and_others_are_not_touched() {
    let admission = Admission::default();
    let enter = |number, wait| admission.enter(peer(number), wait, at(0));
    let mut passes = Vec::new();
    for _ in 0..POLLS_PER_PEER_MAX {
        passes.push(enter(1, Wait::Poll).unwrap());
    }
    assert_eq!(full(enter(1, Wait::Poll)), Some(POLLS_PER_PEER_MAX));
    for _ in POLLS_PER_PEER_MAX..REQUESTS_PER_PEER_MAX {
        passes.push(enter(1, Wait::Answer).unwrap());
    }
    assert_eq!(full(enter(1, Wait::Answer)), Some(REQUESTS_PER_PEER_MAX));
    assert_eq!(full(enter(2, Wait::Answer)), None);
    passes.pop();
    assert_eq!(full(enter(1, Wait::Answer)), None);
    passes.clear();
    assert!(
        admission.peers().is_empty(),
        "nothing is left of idle peers"
    );
}

#[test]
fn attempts_run_out_and_come_back_with_time() {
    let admission = Admission::default();
    let _pass = admission.enter(peer(1), Wait::Answer, at(0)).unwrap();
    let attempt = |millis| full(admission.attempt(peer(1), at(millis)));
    let all = usize::try_from(ATTEMPTS_MAX).unwrap();
    for _ in 0..ATTEMPTS_MAX {
        assert_eq!(attempt(0), None);
    }
    assert_eq!(attempt(0), Some(all));
    assert_eq!(attempt(124), Some(all), "a moment too early");
    assert_eq!(attempt(125), None);
    assert_eq!(attempt(125), Some(all));
    assert_eq!(attempt(300), None, "what passed before counts");
    assert_eq!(attempt(300), Some(all));
    admission.give_back(peer(1));
    assert_eq!(attempt(300), None);
    for _ in 0..ATTEMPTS_MAX {
        assert_eq!(attempt(1_000_000), None);
    }
    assert_eq!(attempt(1_000_000), Some(all), "never more than the store");
}

#[test]
fn a_peer_without_attempts_is_remembered_until_it_has_them_again() {
    let admission = Admission::default();
    for number in 0..PEERS_MAX {
        let _pass = admission.enter(peer(number), Wait::Answer, at(0)).unwrap();
        assert_eq!(full(admission.attempt(peer(number), at(0))), None);
    }
    assert_eq!(admission.peers().len(), PEERS_MAX);
    let new = |millis| full(admission.enter(peer(PEERS_MAX), Wait::Answer, at(millis)));
    assert_eq!(new(124), Some(PEERS_MAX));
    assert_eq!(new(125), None, "the others are idle");
    assert!(admission.peers().is_empty());
}
