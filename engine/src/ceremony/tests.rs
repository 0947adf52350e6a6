//! Participants in one process, whose messages go where a test lets them.

mod reshare;

use std::collections::{BTreeMap, BTreeSet};

use commonware_codec::Encode as _;
use commonware_cryptography::bls12381::dkg::feldman_desmedt::{DealerPrivMsg, SignedDealerLog};
use commonware_cryptography::bls12381::primitives::variant::MinSig;

use super::message::{PARTICIPANTS_MAX, message_bytes_max};
use super::*;
use crate::committee::{Committee, NotOurs, identity};

const LIMIT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(500);
const DRAFT: [u8; 32] = [9; 32];

/// What a participant's process keeps on its disk.
#[derive(Debug, Default)]
struct Disk {
    kept: Option<([u8; 32], Made)>,
    agreement: Option<Agreement>,
}

/// What became of a participant's process.
#[derive(Debug)]
enum End {
    Over,
    Failed(CeremonyError),
}

/// What happens to a message on its way.
#[derive(Clone, Debug)]
enum Fate {
    Arrives,
    Lost,
    /// Something else arrives in its place.
    Becomes(Vec<Bytes>),
}

struct Table {
    secrets: Vec<[u8; 32]>,
    keys: Vec<Key>,
    draft: Draft,
    /// What each has of the key that is dealt anew.
    parts: Vec<Option<KeyPart>>,
    running: BTreeMap<usize, Ceremony>,
    disks: Vec<Disk>,
    ended: BTreeMap<usize, End>,
    now: Duration,
    started: u8,
    /// Messages that were sent, by sender: what a replay has.
    sent: Vec<(usize, Bytes)>,
}

impl Table {
    /// Participants `0..count` by rising identity, none of them started.
    fn new(count: u8) -> Self {
        Self::of(1..=count)
    }

    /// Participants of these secrets, by rising identity.
    fn of(secrets: impl IntoIterator<Item = u8>) -> Self {
        let mut members: Vec<([u8; 32], [u8; 32])> = secrets
            .into_iter()
            .map(|secret| (identity(&[secret; 32]).unwrap(), [secret; 32]))
            .collect();
        members.sort_unstable();
        let participants: Vec<[u8; 32]> = members.iter().map(|(identity, _)| *identity).collect();
        let key = |identity: &[u8; 32]| committee::public_key(identity).unwrap();
        Self {
            keys: participants.iter().map(key).collect(),
            disks: members.iter().map(|_| Disk::default()).collect(),
            parts: members.iter().map(|_| None).collect(),
            secrets: members.into_iter().map(|(_, secret)| secret).collect(),
            draft: Draft {
                digest: DRAFT,
                participants,
                previous: None,
            },
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            now: Duration::ZERO,
            started: 0,
            sent: Vec::new(),
        }
    }

    fn start(&mut self, number: usize) {
        self.start_with(number, &self.draft.clone());
    }

    fn start_with(&mut self, number: usize, draft: &Draft) {
        self.started += 1;
        let entropy = [self.started; 32];
        let limit = self.now + LIMIT;
        let ceremony = Ceremony::new(draft, &self.secrets[number], entropy, limit).unwrap();
        let ceremony = ceremony.holding(self.parts[number].as_ref()).unwrap();
        let disk = &self.disks[number];
        let mut ceremony = ceremony.keeping(disk.kept.as_ref().map(|(digest, _)| *digest));
        if let Some(agreement) = disk.agreement.clone() {
            ceremony = ceremony.after(agreement);
        }
        self.ended.remove(&number);
        self.running.insert(number, ceremony);
    }

    fn start_all(&mut self) {
        for number in 0..self.keys.len() {
            self.start(number);
        }
    }

    fn end(&mut self, number: usize, end: End) {
        self.running.remove(&number);
        self.ended.insert(number, end);
    }

    /// Lets half a second pass, and every message that is sent in it meet its fate, by sender,
    /// receiver and bytes.
    fn step(&mut self, fate: &mut impl FnMut(usize, usize, &Bytes) -> Fate) {
        self.now += STEP;
        for number in 0..self.keys.len() {
            let now = self.now;
            self.do_with(number, |ceremony| ceremony.tick(now));
        }
        while self.exchange(fate) {}
        for number in 0..self.keys.len() {
            let ceremony = self.running.get(&number);
            if ceremony.is_some_and(|ceremony| ceremony.is_over(self.now)) {
                self.end(number, End::Over);
            }
        }
    }

    /// Delivers what waits to be sent; gives whether there was anything.
    fn exchange(&mut self, fate: &mut impl FnMut(usize, usize, &Bytes) -> Fate) -> bool {
        let mut deliveries = Vec::new();
        for (from, ceremony) in &mut self.running {
            for Sending { to, bytes } in ceremony.outbox() {
                let max = usize::try_from(message_bytes_max()).unwrap();
                assert!(bytes.len() <= max, "{} of {max} bytes", bytes.len());
                self.sent.push((*from, bytes.clone()));
                let is_for = |key: &Key| match &to {
                    Audience::All => *key != self.keys[*from],
                    Audience::One(one) => key == one,
                };
                let receivers = (0..self.keys.len()).filter(|to| is_for(&self.keys[*to]));
                deliveries.extend(receivers.map(|to| (*from, to, bytes.clone())));
            }
        }
        for (from, to, bytes) in &deliveries {
            match fate(*from, *to, bytes) {
                Fate::Arrives => self.deliver(*from, *to, bytes.clone()),
                Fate::Lost => {}
                Fate::Becomes(others) => {
                    for bytes in others {
                        self.deliver(*from, *to, bytes);
                    }
                }
            }
        }
        !deliveries.is_empty()
    }

    fn deliver(&mut self, from: usize, to: usize, bytes: Bytes) {
        let (now, key) = (self.now, self.keys[from].clone());
        self.do_with(to, |ceremony| ceremony.receive(now, &key, bytes));
    }

    /// Has a participant do something, and does then what its process does.
    fn do_with(
        &mut self,
        number: usize,
        what: impl FnOnce(&mut Ceremony) -> Result<(), CeremonyError>,
    ) {
        let Some(ceremony) = self.running.get_mut(&number) else {
            return;
        };
        let disk = &mut self.disks[number];
        let done = what(ceremony).and_then(|()| {
            let Some(made) = ceremony.made() else {
                return Ok(());
            };
            let digest = digest_of(&made.committee);
            disk.kept = Some((digest, made));
            ceremony.sign(self.now, digest)
        });
        disk.agreement = ceremony.agreement().cloned();
        if let Err(error) = done {
            self.end(number, End::Failed(error));
        }
    }

    /// Steps until every process has ended.
    fn run(&mut self, fate: &mut impl FnMut(usize, usize, &Bytes) -> Fate) {
        while !self.running.is_empty() {
            self.step(fate);
        }
    }

    fn failure(&self, number: usize) -> &CeremonyError {
        match &self.ended[&number] {
            End::Failed(error) => error,
            End::Over => panic!("participant {number} agreed"),
        }
    }

    /// All agreed on one thing, and each has its own part of one key that makes certificates.
    fn check(&self) {
        let (digest, made) = self.disks[0].kept.as_ref().unwrap();
        let agreement = self.disks[0].agreement.as_ref().unwrap();
        assert_eq!(agreement.digest, *digest);
        let mut parts = BTreeSet::new();
        for (number, disk) in self.disks.iter().enumerate() {
            assert!(matches!(self.ended[&number], End::Over), "{number}");
            let (theirs, kept) = disk.kept.as_ref().unwrap();
            assert_eq!(theirs, digest);
            assert_eq!(disk.agreement.as_ref(), Some(agreement));
            assert_eq!(kept.committee, made.committee);
            let part = kept.part.as_ref().unwrap();
            assert!(parts.insert(part.bytes().to_vec()), "a part twice");
            for (other, key) in self.keys.iter().enumerate() {
                let signer = made.committee.signer(&DRAFT, 0, key, part);
                assert_eq!(signer.is_ok(), other == number);
                assert!(other == number || signer.err() == Some(NotOurs::Part));
            }
            let identity = &self.draft.participants[number];
            assert!(is_agreed(identity, digest, &agreement.signatures[number]));
            assert!(!is_agreed(
                identity,
                &[1; 32],
                &agreement.signatures[number]
            ));
        }
    }

    fn faults(&self, number: usize) -> Vec<([u8; 32], FaultKind)> {
        self.running[&number].faults()
    }
}

/// What stands for a genesis in these tests.
fn digest_of(committee: &Committee) -> [u8; 32] {
    id_of(&[&committee.key()])
}

fn arrives(_: usize, _: usize, _: &Bytes) -> Fate {
    Fate::Arrives
}

fn decode(bytes: &Bytes, count: usize) -> Message {
    let count = NonZeroU32::new(u32::try_from(count).unwrap()).unwrap();
    Message::decode(bytes.clone(), count).unwrap()
}

/// The dealing of the message with another private side, if it is one.
fn spoilt(bytes: &Bytes, count: usize) -> Option<Bytes> {
    let Message::Dealing {
        attempt, public, ..
    } = decode(bytes, count)
    else {
        return None;
    };
    let private = DealerPrivMsg::decode(vec![5; 32]).unwrap();
    let dealing = Message::Dealing {
        attempt,
        public,
        private,
    };
    Some(dealing.bytes())
}

#[test]
fn all_make_one_key_and_each_has_its_own_part_of_it() {
    for count in [1, 2, 3, 4, 7] {
        let mut table = Table::new(count);
        table.start_all();
        table.run(&mut arrives);
        table.check();
        assert!(table.now < DEALING_LIMIT, "nobody is waited for");
    }
}

#[test]
fn two_ceremonies_make_two_keys() {
    let key = |started: u8| {
        let mut table = Table::new(4);
        table.started = started;
        table.start_all();
        table.run(&mut arrives);
        table.disks[0]
            .kept
            .as_ref()
            .unwrap()
            .1
            .committee
            .group_key()
    };
    assert_ne!(key(0), key(100));
}

#[test]
fn messages_lost_and_doubled_only_delay() {
    let mut rng = StdRng::from_seed([5; 32]);
    let mut table = Table::new(4);
    table.start_all();
    table.run(&mut |_, _, bytes| match rng.next_u32() % 4 {
        0 => Fate::Lost,
        1 => Fate::Becomes(vec![bytes.clone(), bytes.clone()]),
        _ => Fate::Arrives,
    });
    table.check();
}

#[test]
fn a_bad_part_names_its_dealer_and_is_made_good_before_all() {
    let mut table = Table::new(4);
    table.start_all();
    let mut fate = |from: usize, to: usize, bytes: &Bytes| match spoilt(bytes, 4) {
        Some(bad) if (from, to) == (2, 0) => Fate::Becomes(vec![bad]),
        _ => Fate::Arrives,
    };
    while table.disks[0].agreement.is_none() {
        table.step(&mut fate);
    }
    assert!(table.now >= DEALING_LIMIT, "it had its time to mend");
    let dealer = table.draft.participants[2];
    let to = table.draft.participants[0];
    assert!(table.faults(0).contains(&(dealer, FaultKind::BadDealing)));
    for number in [0, 1, 3] {
        let faults = table.faults(number);
        assert!(faults.contains(&(dealer, FaultKind::Shown { to })));
    }
    table.run(&mut fate);
    table.check();
}

/// Spoils the dealings of `dealer` for these, and its log, by a function of it that it signs anew.
fn cheat(
    dealer: usize,
    victims: &'static [usize],
) -> impl FnMut(usize, usize, &Bytes) -> Fate + use<> {
    move |from, to, bytes| match spoilt(bytes, 4) {
        Some(bad) if from == dealer && victims.contains(&to) => Fate::Becomes(vec![bad]),
        _ => Fate::Arrives,
    }
}

#[test]
fn a_dealer_that_deals_badly_to_too_many_is_named_and_left_out() {
    let mut table = Table::new(4);
    table.start_all();
    let mut fate = cheat(0, &[1, 2]);
    while table.disks[1].agreement.is_none() {
        table.step(&mut fate);
    }
    let dealer = table.draft.participants[0];
    for number in 1..4 {
        assert!(table.faults(number).contains(&(dealer, FaultKind::Refused)));
    }
    assert!(!table.faults(3).contains(&(dealer, FaultKind::BadDealing)));
    table.run(&mut fate);
    table.check();
}

#[test]
fn too_many_bad_dealers_make_no_key() {
    let mut table = Table::new(4);
    table.start_all();
    let (mut first, mut second) = (cheat(0, &[2, 3]), cheat(1, &[2, 3]));
    table.run(&mut |from, to, bytes| match from {
        0 => first(from, to, bytes),
        _ => second(from, to, bytes),
    });
    for number in 0..4 {
        assert!(matches!(
            table.failure(number),
            CeremonyError::TooFewGood { bad: 2, bad_max: 1 }
        ));
        assert!(table.disks[number].kept.is_none(), "nothing is kept");
    }
}

#[test]
fn a_part_that_all_dealers_had_to_show_is_not_agreed_on() {
    let mut table = Table::new(4);
    table.start_all();
    // Nobody hears from the last that a dealing is good.
    table.run(&mut |from, _, bytes| match decode(bytes, 4) {
        Message::Taken { .. } if from == 3 => Fate::Lost,
        _ => Fate::Arrives,
    });
    let shown = vec![table.draft.participants[3]];
    for number in 0..4 {
        let CeremonyError::Revealed { participants } = table.failure(number) else {
            panic!("{:?}", table.failure(number));
        };
        assert_eq!(*participants, shown);
        assert!(table.disks[number].kept.is_none());
    }
}

#[test]
fn who_is_not_here_in_time_is_named_and_nothing_is_kept() {
    let mut table = Table::new(4);
    for number in 0..3 {
        table.start(number);
    }
    table.run(&mut arrives);
    for number in 0..3 {
        let CeremonyError::Time { missing } = table.failure(number) else {
            panic!("{:?}", table.failure(number));
        };
        assert_eq!(*missing, vec![(table.draft.participants[3], Lack::Absent)]);
        assert!(table.disks[number].kept.is_none());
    }
}

#[test]
fn one_that_falls_silent_is_named_by_what_it_did_not_do() {
    for (silent_after, lack) in [("deal", Lack::Log), ("log", Lack::Signature)] {
        let mut table = Table::new(4);
        table.start_all();
        table.run(&mut |from, _, bytes| match decode(bytes, 4) {
            Message::Log { log, .. } if from == 3 || is_by(&log, 3) => {
                if silent_after == "deal" {
                    Fate::Lost
                } else {
                    Fate::Arrives
                }
            }
            Message::Signed { .. } | Message::Agreed { .. } if from == 3 => Fate::Lost,
            _ => Fate::Arrives,
        });
        let silent = table.draft.participants[3];
        let CeremonyError::Time { missing } = table.failure(0) else {
            panic!("{:?}", table.failure(0));
        };
        assert_eq!(*missing, vec![(silent, lack)]);
    }
}

fn is_by(log: &SignedDealerLog<MinSig, Key>, number: usize) -> bool {
    let table = Table::new(4);
    log.encode()[..32] == table.draft.participants[number]
}

#[test]
fn another_draft_is_told_from_silence() {
    let mut table = Table::new(4);
    for number in 0..3 {
        table.start(number);
    }
    let mut other = table.draft.clone();
    other.digest = [8; 32];
    table.start_with(3, &other);
    table.run(&mut arrives);
    let CeremonyError::Time { missing } = table.failure(0) else {
        panic!("{:?}", table.failure(0));
    };
    let expected = vec![(table.draft.participants[3], Lack::OtherDraft)];
    assert_eq!(*missing, expected);
    // Of another number of participants too.
    let mut table = Table::new(4);
    table.start(0);
    let mut fewer = table.draft.clone();
    fewer.digest = [7; 32];
    fewer.participants.pop();
    table.start_with(1, &fewer);
    table.run(&mut arrives);
    let CeremonyError::Time { missing } = table.failure(0) else {
        panic!("{:?}", table.failure(0));
    };
    assert!(missing.contains(&(table.draft.participants[1], Lack::OtherDraft)));
}

#[test]
fn a_crash_at_any_moment_is_begun_anew() {
    for crash_at in 0.. {
        let mut table = Table::new(4);
        table.start_all();
        // The process ends after so many messages to it, and starts anew with its disk.
        let mut count = 0;
        while !table.running.is_empty() && count <= crash_at {
            table.step(&mut |from, to, _| {
                let has_ended = count > crash_at;
                count += usize::from(to == 2);
                if has_ended && (to == 2 || from == 2) {
                    Fate::Lost
                } else {
                    Fate::Arrives
                }
            });
        }
        if count <= crash_at {
            assert!(crash_at > 15, "a ceremony is more messages than {crash_at}");
            return;
        }
        table.running.remove(&2);
        table.start(2);
        table.run(&mut arrives);
        table.check();
    }
}

#[test]
fn one_that_missed_the_end_hears_of_it_from_any_that_did_not() {
    let mut table = Table::new(4);
    table.start_all();
    // Nobody's last signature reaches the last participant, and then all are gone.
    table.run(&mut |_, to, bytes| match decode(bytes, 4) {
        Message::Signed { .. } | Message::Agreed { .. } if to == 3 => Fate::Lost,
        _ => Fate::Arrives,
    });
    assert!(matches!(table.failure(3), CeremonyError::Time { .. }));
    assert!(table.disks[3].agreement.is_none());
    table.start(3);
    table.start(1);
    table.run(&mut arrives);
    table.check();
}

#[test]
fn what_was_said_in_one_attempt_means_nothing_in_the_next() {
    let mut earlier = Table::new(4);
    earlier.start_all();
    earlier.run(&mut arrives);
    let said = earlier.sent.clone();
    let mut later = Table::new(4);
    later.started = 50;
    later.start_all();
    // Before each message comes all that its sender said then. How one stands now can't be said by
    // another: it is the connection's to see to that.
    later.run(&mut |from, _, bytes| {
        let again = said.iter().filter(|(sender, bytes)| {
            let message = decode(bytes, 4);
            *sender == from && !matches!(message, Message::State(_) | Message::Agreed { .. })
        });
        let again = again.map(|(_, bytes)| bytes.clone());
        Fate::Becomes(again.chain([bytes.clone()]).collect())
    });
    later.check();
    let digest = |table: &Table| table.disks[0].agreement.as_ref().unwrap().digest;
    assert_ne!(digest(&earlier), digest(&later));
}

/// What a participant that has finished sends to one that has not.
fn agreed(agreement: &Agreement) -> Bytes {
    let signature = |bytes: &[u8; 64]| ed25519::Signature::decode(bytes.to_vec()).unwrap();
    let message = Message::Agreed {
        digest: agreement.digest,
        signatures: agreement.signatures.iter().map(signature).collect(),
    };
    message.bytes()
}

/// What the same participants agreed on in another draft.
fn agreement_of_another_draft() -> Agreement {
    let mut table = Table::new(4);
    table.draft.digest = [8; 32];
    table.start_all();
    table.run(&mut arrives);
    table.disks[0].agreement.clone().unwrap()
}

/// Who says that a participant's part of this is gone, when that ended it.
fn gone(table: &Table, number: usize, expected: [u8; 32]) -> Vec<[u8; 32]> {
    let CeremonyError::PartGone { digest, said_by } = table.failure(number) else {
        panic!("{number}: {:?}", table.failure(number));
    };
    assert_eq!(*digest, expected);
    said_by.clone()
}

#[test]
fn what_all_agreed_on_is_not_made_again_by_who_lost_its_part() {
    let mut table = Table::new(4);
    table.start_all();
    table.run(&mut arrives);
    table.disks[0] = Disk::default();
    let before = table.now;
    table.start_all();
    while table.running.contains_key(&0) {
        table.step(&mut arrives);
    }
    assert!(table.now - before < DEALING_LIMIT, "all others say so");
    let digest = table.disks[1].agreement.as_ref().unwrap().digest;
    let others = table.draft.participants[1..].to_vec();
    assert_eq!(gone(&table, 0, digest), others);
    assert!(table.disks[0].kept.is_none());
}

#[test]
fn two_that_lost_their_parts_are_told_so_at_the_limit() {
    let mut table = Table::new(4);
    table.start_all();
    table.run(&mut arrives);
    let digest = table.disks[2].agreement.as_ref().unwrap().digest;
    for number in [0, 1] {
        table.disks[number] = Disk::default();
    }
    let before = table.now;
    table.start_all();
    table.step(&mut arrives);
    let said_by = table.draft.participants[2..].to_vec();
    let done: Vec<_> = said_by.iter().map(|who| (*who, Lack::Done)).collect();
    for number in [0, 1] {
        let missing = table.running[&number].missing();
        assert!(done.iter().all(|it| missing.contains(it)), "{missing:?}");
    }
    table.run(&mut arrives);
    assert!(table.now - before >= LIMIT);
    for number in [0, 1] {
        assert_eq!(gone(&table, number, digest), said_by);
    }
}

#[test]
fn signatures_of_another_draft_end_nothing() {
    let agreement = agreement_of_another_draft();
    let mut wrong = agreement.clone();
    wrong.signatures.swap(0, 1);
    let told = [agreed(&wrong), agreed(&agreement)];
    let mut table = Table::new(4);
    table.started = 50;
    table.start_all();
    table.run(&mut |from, _, bytes| match from {
        3 => Fate::Becomes(told.iter().chain([bytes]).cloned().collect()),
        _ => Fate::Arrives,
    });
    table.check();
    assert_ne!(
        table.disks[0].agreement.as_ref().unwrap().digest,
        agreement.digest
    );
}

#[test]
fn one_that_says_that_another_draft_was_this_one_is_named_at_the_limit() {
    let agreement = agreement_of_another_draft();
    let told = agreed(&agreement);
    let mut table = Table::new(4);
    table.started = 50;
    table.start_all();
    // It takes the signatures of the others and gives none.
    let mut fate = |from: usize, _: usize, bytes: &Bytes| match decode(bytes, 4) {
        Message::Signed { .. } | Message::Agreed { .. } if from == 3 => Fate::Lost,
        _ if from == 3 => Fate::Becomes(vec![told.clone(), bytes.clone()]),
        _ => Fate::Arrives,
    };
    while table.disks[3].agreement.is_none() {
        table.step(&mut fate);
    }
    table.step(&mut fate);
    let liar = table.draft.participants[3];
    for number in 0..3 {
        assert_eq!(
            table.running[&number].missing(),
            vec![(liar, Lack::Done)],
            "{number}"
        );
    }
    table.run(&mut fate);
    assert!(table.now >= LIMIT);
    for number in 0..3 {
        assert_eq!(gone(&table, number, agreement.digest), vec![liar]);
    }
}

#[test]
fn one_that_stays_after_one_draft_does_not_disturb_another() {
    let mut table = Table::new(4);
    table.start_all();
    table.run(&mut arrives);
    let first = table.disks[3].agreement.as_ref().unwrap().digest;
    let mut second = table.draft.clone();
    second.digest = [8; 32];
    table.start(3);
    for number in 0..3 {
        table.disks[number] = Disk::default();
        table.start_with(number, &second);
    }
    let before = table.sent.len();
    for _ in 0..8 {
        table.step(&mut arrives);
    }
    let tells = |(_, bytes): &(usize, Bytes)| matches!(decode(bytes, 4), Message::Agreed { .. });
    assert!(!table.sent[before..].iter().any(tells), "of another draft");
    let expected = vec![(table.draft.participants[3], Lack::OtherDraft)];
    for number in 0..3 {
        assert_eq!(table.running[&number].missing(), expected);
    }
    table.disks[3] = Disk::default();
    table.start_with(3, &second);
    table.run(&mut arrives);
    table.check();
    assert_ne!(table.disks[3].agreement.as_ref().unwrap().digest, first);
}

#[test]
fn one_that_tells_two_nonces_is_named_with_whoever_heard_the_other() {
    let mut table = Table::new(4);
    table.start_all();
    let other = [7; 32];
    table.run(&mut |from, to, bytes| match decode(bytes, 4) {
        Message::State(mut state) if (from, to) == (3, 1) => {
            state.nonce = other;
            state.heard[3] = Some(other);
            state.attempt = None;
            Fate::Becomes(vec![Message::State(state).bytes()])
        }
        _ => Fate::Arrives,
    });
    let name = |number: usize| table.draft.participants[number];
    let heard = Lack::HeardOther { of: name(3) };
    let missing = |number: usize| match table.failure(number) {
        CeremonyError::Time { missing } => missing.clone(),
        error => panic!("{number}: {error:?}"),
    };
    for number in [0, 2] {
        assert_eq!(missing(number), vec![(name(1), heard)]);
    }
    let expected = vec![(name(0), heard), (name(2), heard), (name(3), Lack::Apart)];
    assert_eq!(missing(1), expected);
}

#[test]
fn bytes_that_are_no_message_are_passed_over_and_named() {
    let mut rng = StdRng::from_seed([6; 32]);
    let mut table = Table::new(4);
    table.start_all();
    let mut fate = |from: usize, _: usize, bytes: &Bytes| {
        if from != 1 {
            return Fate::Arrives;
        }
        let mut cut = bytes.to_vec();
        cut.truncate(usize::try_from(rng.next_u32()).unwrap() % bytes.len());
        let mut longer = bytes.to_vec();
        longer.push(0);
        let mut noise = vec![0; 100];
        rng.fill_bytes(&mut noise);
        let bad = [cut, longer, noise, Vec::new()].map(Bytes::from);
        let mut all = bad.to_vec();
        all.push(bytes.clone());
        Fate::Becomes(all)
    };
    while table.disks[0].agreement.is_none() {
        table.step(&mut fate);
    }
    let sender = table.draft.participants[1];
    assert!(table.faults(0).contains(&(sender, FaultKind::Malformed)));
    table.run(&mut fate);
    table.check();
}

#[test]
fn any_changed_byte_of_any_message_harms_nobody() {
    let mut rng = StdRng::from_seed([8; 32]);
    let mut table = Table::new(4);
    table.start_all();
    table.run(&mut |_, _, bytes| {
        let mut changed = bytes.to_vec();
        let place = usize::try_from(rng.next_u32()).unwrap() % changed.len();
        changed[place] ^= 1 << (rng.next_u32() % 8);
        // How one stands may be told wrong by it; then it is as if it began anew.
        let is_state = matches!(bytes[0], 1);
        let changed = (!is_state).then(|| Bytes::from(changed));
        Fate::Becomes(changed.into_iter().chain([bytes.clone()]).collect())
    });
    table.check();
}

#[test]
fn a_dealer_that_signs_two_logs_is_named_by_all() {
    let mut table = Table::new(4);
    table.start_all();
    // The last is given another log of the first than the others are.
    table.run(&mut |from, to, bytes| match decode(bytes, 4) {
        Message::Log { attempt, log } if (from, to) == (0, 3) && is_by(&log, 0) => {
            Fate::Becomes(vec![another_log(0, attempt)])
        }
        _ => Fate::Arrives,
    });
    let cheat = table.draft.participants[0];
    for number in 1..4 {
        let CeremonyError::TwoFaced { participant } = table.failure(number) else {
            panic!("{number}: {:?}", table.failure(number));
        };
        assert_eq!(*participant, cheat);
        assert!(table.disks[number].agreement.is_none());
    }
}

/// Another log that the same dealer signed in the same attempt.
fn another_log(dealer: usize, attempt: Id) -> Bytes {
    let table = Table::new(4);
    let signer = committee::signer(&table.secrets[dealer]).unwrap();
    let sides = Sides::of(&table.draft).unwrap();
    let mut rng = StdRng::from_seed([99; 32]);
    let mut other = Attempt::new(attempt, signer, sides, &mut rng).unwrap();
    other.begun = Some(Duration::ZERO);
    assert!(other.close(DEALING_LIMIT, &mut rng));
    let log = Box::new(other.logs.values().next().unwrap().log.clone());
    Message::Log { attempt, log }.bytes()
}

#[test]
fn a_process_that_starts_again_and_again_ends_it_by_name() {
    let mut table = Table::new(2);
    table.start_all();
    while table.running.contains_key(&0) {
        table.step(&mut |from, _, bytes| match decode(bytes, 2) {
            Message::State(mut state) if from == 1 => {
                let mut all = Vec::new();
                for nonce in 0..=u8::try_from(ATTEMPTS_MAX).unwrap() {
                    state.nonce = [nonce; 32];
                    all.push(Message::State(state.clone()).bytes());
                }
                Fate::Becomes(all)
            }
            _ => Fate::Arrives,
        });
    }
    let CeremonyError::Restless { participant } = table.failure(0) else {
        panic!("{:?}", table.failure(0));
    };
    assert_eq!(*participant, table.draft.participants[1]);
}

#[test]
fn a_nonce_that_is_taken_again_does_not_make_an_honest_dealer_sign_twice() {
    let mut table = Table::new(2);
    table.start_all();
    let mut first = None;
    while table.running.contains_key(&0) && table.disks[0].agreement.is_none() {
        table.step(&mut |from, _, bytes| match decode(bytes, 2) {
            Message::State(state) if from == 1 && state.attempt.is_some() && first.is_none() => {
                // Away and back again.
                first = Some(state.nonce);
                let mut other = state.clone();
                other.nonce = [7; 32];
                let back = bytes.clone();
                Fate::Becomes(vec![back.clone(), Message::State(other).bytes(), back])
            }
            _ => Fate::Arrives,
        });
    }
    assert!(first.is_some());
    table.run(&mut arrives);
    table.check();
}

#[test]
fn messages_have_room_for_the_most_participants() {
    let signature = committee::signer(&[1; 32]).unwrap().sign(AGREED, &[2; 32]);
    let place = |place: usize| u32::try_from(place).unwrap();
    let messages = [
        Message::State(State {
            draft: DRAFT,
            nonce: [1; 32],
            heard: vec![Some([5; 32]); PARTICIPANTS_MAX],
            attempt: Some([2; 32]),
            logs: vec![[3; 16]; PARTICIPANTS_MAX],
            signatures: vec![true; PARTICIPANTS_MAX],
            is_done: true,
        }),
        Message::Signed {
            attempt: [2; 32],
            digest: [4; 32],
            signatures: (0..PARTICIPANTS_MAX)
                .map(|number| (place(number), signature.clone()))
                .collect(),
        },
        Message::Agreed {
            digest: [4; 32],
            signatures: vec![signature.clone(); PARTICIPANTS_MAX],
        },
    ];
    for message in messages {
        let bytes = message.bytes();
        assert!(bytes.len() <= usize::try_from(message_bytes_max()).unwrap());
        assert_eq!(decode(&bytes, PARTICIPANTS_MAX).bytes(), bytes);
    }
}
