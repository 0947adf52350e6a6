//! A key that is dealt anew, to others who hold it next.

use commonware_cryptography::bls12381::dkg::feldman_desmedt;
use commonware_cryptography::bls12381::primitives::ops;
use commonware_cryptography::bls12381::primitives::sharing::Mode;
use commonware_cryptography::bls12381::primitives::variant::Variant;
use commonware_utils::N3f1;

use super::*;
use crate::committee::{Dealing, deal};
use crate::threshold::{SIGNATURE_BYTES, SignaturePart};

const TERM: u32 = 6;
const DOMAIN: &[u8] = b"a test";
const MESSAGE: &[u8] = b"a message";

/// A key and who holds it.
struct Holders {
    committee: Committee,
    /// By identity.
    parts: BTreeMap<[u8; 32], KeyPart>,
}

fn identities(secrets: &[u8]) -> Vec<[u8; 32]> {
    let identity = |secret: &u8| identity(&[*secret; 32]).unwrap();
    secrets.iter().map(identity).collect()
}

/// A key of the participants with these secrets, from one hand.
fn dealt(secrets: &[u8], entropy: u8) -> Holders {
    let Dealing { committee, parts } = deal(&identities(secrets), &[entropy; 32]).unwrap();
    let parts = committee.validators().into_iter().zip(parts).collect();
    Holders { committee, parts }
}

/// Where these of a key's holders deal it anew to the next, all by their secrets.
fn anew(previous: &Holders, dealers: &[u8], next: &[u8]) -> Table {
    let secrets: BTreeSet<u8> = dealers.iter().chain(next).copied().collect();
    let mut table = Table::of(secrets);
    table.draft.previous = Some(Previous {
        committee: previous.committee.clone(),
        term: TERM,
        next: identities(next),
    });
    let part = |identity: &[u8; 32]| previous.parts.get(identity).cloned();
    table.parts = table.draft.participants.iter().map(part).collect();
    table
}

/// The participant with this secret.
fn number_of(table: &Table, secret: u8) -> usize {
    let mut secrets = table.secrets.iter();
    secrets.position(|it| *it == [secret; 32]).unwrap()
}

/// Has a participant that was started deal another key than its part.
fn corrupt(table: &mut Table, secret: u8) -> usize {
    let number = number_of(table, secret);
    let other = dealt(&[secret], 43);
    let part = other.parts.into_values().next();
    table.running.get_mut(&number).unwrap().sides.part = part;
    number
}

/// All agreed: it is still the same key, each of the next has its own part of it, and nobody else
/// has one.
fn check(table: &Table, previous: &Holders, next: &[u8]) -> Holders {
    let (digest, made) = table.disks[0].kept.as_ref().unwrap();
    let agreement = table.disks[0].agreement.as_ref().unwrap();
    let committee = made.committee.clone();
    let mut expected = identities(next);
    expected.sort_unstable();
    assert_eq!(committee.validators(), expected);
    assert_eq!(committee.group_key(), previous.committee.group_key());
    assert_ne!(committee.key(), previous.committee.key(), "dealt anew");
    let read = Committee::new(&expected, &committee.key());
    assert_eq!(read.as_ref(), Ok(&committee));
    assert_eq!(agreement.signatures.len(), table.keys.len());
    let mut parts = BTreeMap::new();
    for (number, disk) in table.disks.iter().enumerate() {
        assert!(matches!(table.ended[&number], End::Over), "{number}");
        let (identity, key) = (table.draft.participants[number], &table.keys[number]);
        let (theirs, kept) = disk.kept.as_ref().unwrap();
        assert_eq!(theirs, digest);
        assert_eq!(kept.committee, committee);
        assert_eq!(disk.agreement.as_ref(), Some(agreement));
        assert!(is_agreed(&identity, digest, &agreement.signatures[number]));
        assert_eq!(kept.part.is_some(), expected.contains(&identity));
        let Some(part) = &kept.part else {
            continue;
        };
        assert!(committee.signer(&DRAFT, TERM + 1, key, part).is_ok());
        let before = previous.committee.signer(&DRAFT, TERM, key, part);
        assert!(before.is_err(), "none of before");
        parts.insert(identity, part.clone());
    }
    assert_eq!(parts.len(), next.len());
    Holders { committee, parts }
}

/// What parts sign together, as those of a committee.
fn signed<'a>(
    committee: &Committee,
    parts: impl Iterator<Item = &'a KeyPart>,
) -> [u8; SIGNATURE_BYTES] {
    let parts: Vec<SignaturePart> = parts
        .map(|part| part.sign(DOMAIN, MESSAGE).unwrap())
        .collect();
    committee.put_together(&parts).unwrap()
}

/// Whether a signature is that of all of a committee together.
fn is_signed(committee: &Committee, signature: [u8; SIGNATURE_BYTES]) -> bool {
    type Signature = <MinSig as Variant>::Signature;
    let signature = Signature::decode(Copying(signature.as_slice())).unwrap();
    let key = committee.sharing().public();
    ops::verify_message::<MinSig>(key, DOMAIN, MESSAGE, &signature).is_ok()
}

#[test]
fn a_key_stays_the_same_when_others_hold_it() {
    let cases: [(&[u8], &[u8], &[u8]); 7] = [
        // One comes.
        (&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4, 5]),
        // One is replaced and not here.
        (&[1, 2, 3, 4], &[1, 2, 3], &[1, 2, 3, 5]),
        // One leaves.
        (&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5], &[1, 2, 3, 4]),
        // From one to four and back.
        (&[1], &[1], &[1, 2, 3, 4]),
        (&[1, 2, 3, 4], &[1, 2, 3, 4], &[1]),
        // All others.
        (&[1, 2, 3, 4], &[1, 2, 3, 4], &[5, 6, 7, 8]),
        // The same.
        (&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4]),
    ];
    for (before, dealers, next) in cases {
        let previous = dealt(before, 42);
        let mut table = anew(&previous, dealers, next);
        table.start_all();
        table.run(&mut arrives);
        assert!(table.now < DEALING_LIMIT, "nobody is waited for");
        let held = check(&table, &previous, next);
        let quorum = held.committee.quorum();
        let signature = signed(&held.committee, held.parts.values().take(quorum));
        assert!(is_signed(&previous.committee, signature));
    }
}

#[test]
fn a_key_is_handed_on_from_term_to_term() {
    let mut held = dealt(&[1], 42);
    let key = held.committee.group_key();
    let changes: [(&[u8], &[u8]); 3] = [
        (&[1], &[1, 2, 3, 4]),
        (&[1, 2, 3, 4], &[2, 3, 4, 5]),
        (&[2, 3, 5], &[2, 3, 5, 6, 7]),
    ];
    for (dealers, next) in changes {
        let mut table = anew(&held, dealers, next);
        table.start_all();
        table.run(&mut arrives);
        held = check(&table, &held, next);
    }
    assert_eq!(held.committee.group_key(), key);
}

#[test]
fn parts_of_before_and_after_do_not_mix() {
    let previous = dealt(&[1, 2, 3, 4], 42);
    let next = [1, 2, 3, 5];
    let mut table = anew(&previous, &[1, 2, 3, 4], &next);
    table.start_all();
    table.run(&mut arrives);
    let held = check(&table, &previous, &next);
    // Of three places, as many as a quorum.
    let (old, new) = (previous.parts.values(), held.parts.values());
    let mixed = old.clone().take(2).chain(new.clone().skip(2).take(1));
    for committee in [&previous.committee, &held.committee] {
        assert!(!is_signed(committee, signed(committee, mixed.clone())));
    }
    for (old, new) in old.zip(new) {
        let [old, new] = [old, new].map(|part| part.sign(DOMAIN, MESSAGE).unwrap());
        assert!(previous.committee.is_part(&old, DOMAIN, MESSAGE));
        assert!(!previous.committee.is_part(&new, DOMAIN, MESSAGE));
        assert!(held.committee.is_part(&new, DOMAIN, MESSAGE));
        assert!(!held.committee.is_part(&old, DOMAIN, MESSAGE));
    }
}

#[test]
fn a_dealer_that_deals_another_key_than_its_part_is_named_and_left_out() {
    let previous = dealt(&[1, 2, 3, 4], 42);
    // All see it: who stays, who comes and who leaves.
    let next = [1, 2, 3, 5];
    let mut table = anew(&previous, &[1, 2, 3, 4], &next);
    table.start_all();
    let cheat = corrupt(&mut table, 1);
    while table.disks[cheat].agreement.is_none() {
        table.step(&mut arrives);
    }
    let dealer = table.draft.participants[cheat];
    for number in (0..5).filter(|number| *number != cheat) {
        let faults = table.faults(number);
        assert!(faults.contains(&(dealer, FaultKind::OtherPart)), "{number}");
    }
    table.run(&mut arrives);
    check(&table, &previous, &next);
}

#[test]
fn a_quorum_of_dealers_that_are_not_all_good_hands_nothing_over() {
    let previous = dealt(&[1, 2, 3, 4], 42);
    let mut table = anew(&previous, &[1, 2, 3], &[1, 2, 3, 5]);
    table.start_all();
    corrupt(&mut table, 1);
    corrupt(&mut table, 3);
    table.run(&mut arrives);
    for number in 0..4 {
        assert!(matches!(
            table.failure(number),
            CeremonyError::TooFewGood { bad: 2, bad_max: 0 }
        ));
        assert!(table.disks[number].kept.is_none(), "nothing is kept");
    }
}

#[test]
fn as_many_good_dealings_are_needed_as_a_quorum_of_all_who_hold_the_key() {
    let previous = dealt(&[1, 2, 3, 4, 5, 6, 7], 42);
    for (dealers, bad_max) in [(5, 0), (6, 1), (7, 2)] {
        let dealers: Vec<u8> = (1..=dealers).collect();
        let table = anew(&previous, &dealers, &[1, 2, 3, 8]);
        assert_eq!(Sides::of(&table.draft).unwrap().bad_max(), bad_max);
    }
}

#[test]
fn a_dealer_that_does_not_come_is_named_and_nothing_is_kept() {
    let previous = dealt(&[1, 2, 3, 4], 42);
    let mut table = anew(&previous, &[1, 2, 3, 4], &[1, 2, 3, 5]);
    let absent = number_of(&table, 4);
    let here = (0..5).filter(|number| *number != absent);
    for number in here.clone() {
        table.start(number);
    }
    table.run(&mut arrives);
    for number in here {
        let CeremonyError::Time { missing } = table.failure(number) else {
            panic!("{:?}", table.failure(number));
        };
        let expected = vec![(table.draft.participants[absent], Lack::Absent)];
        assert_eq!(*missing, expected);
        assert!(table.disks[number].kept.is_none());
    }
}

#[test]
fn who_has_no_part_deals_nothing() {
    let previous = dealt(&[1, 2, 3, 4], 42);
    let next = [1, 2, 3, 4, 5];
    let mut table = anew(&previous, &[1, 2, 3, 4], &next);
    table.start_all();
    let (dealer, comer) = (number_of(&table, 1), number_of(&table, 5));
    // Before all that it says, the one who comes deals what a dealer dealt.
    let mut dealing = None;
    let mut fate = |from: usize, _: usize, bytes: &Bytes| {
        if from == dealer && matches!(decode(bytes, 5), Message::Dealing { .. }) {
            dealing = Some(bytes.clone());
        }
        match &dealing {
            Some(dealing) if from == comer => Fate::Becomes(vec![dealing.clone(), bytes.clone()]),
            _ => Fate::Arrives,
        }
    };
    while table.disks[comer].agreement.is_none() {
        table.step(&mut fate);
    }
    let named = (table.draft.participants[comer], FaultKind::BadDealing);
    assert!(table.faults(dealer).contains(&named));
    table.run(&mut fate);
    check(&table, &previous, &next);
}

#[test]
fn a_crash_on_the_way_leaves_one_part() {
    let previous = dealt(&[1, 2, 3, 4], 42);
    let next = [2, 3, 4, 5];
    for crash_at in (0..48).step_by(8) {
        let mut table = anew(&previous, &[1, 2, 3, 4], &next);
        table.start_all();
        // Of one who stays, and of one who leaves.
        let crashing = number_of(&table, if crash_at % 16 == 0 { 2 } else { 1 });
        let mut count = 0;
        table.step(&mut |from, to, _| {
            count += usize::from(to == crashing);
            if count > crash_at && (from == crashing || to == crashing) {
                Fate::Lost
            } else {
                Fate::Arrives
            }
        });
        table.running.remove(&crashing);
        table.start(crashing);
        table.run(&mut arrives);
        check(&table, &previous, &next);
    }
}

#[test]
fn a_draft_that_can_not_hand_a_key_over_is_refused() {
    let previous = dealt(&[1, 2, 3, 4], 42);
    let refused = |draft: &Draft| match Ceremony::new(draft, &[1; 32], [0; 32], LIMIT) {
        Err(CeremonyError::Draft(error)) => error,
        other => panic!("{other:?}"),
    };
    let draft = anew(&previous, &[1, 2], &[1, 2, 5]).draft;
    let (found, required) = (2, 3);
    let expected = DraftError::TooFewDealers { found, required };
    assert_eq!(refused(&draft), expected);
    let good = anew(&previous, &[1, 2, 3], &[1, 2, 3, 5]).draft;
    let participant = identities(&[9])[0];
    let mut draft = good.clone();
    draft.participants.push(participant);
    assert_eq!(refused(&draft), DraftError::Stranger { participant });
    let participant = identities(&[5])[0];
    let mut draft = good.clone();
    draft.participants.retain(|it| *it != participant);
    assert_eq!(refused(&draft), DraftError::Absent { participant });
    let mut draft = good;
    draft.previous.as_mut().unwrap().next.clear();
    let empty = Ceremony::new(&draft, &[1; 32], [0; 32], LIMIT);
    assert!(matches!(empty, Err(CeremonyError::Participants(_))));
}

#[test]
fn a_dealer_needs_its_own_part_and_who_comes_needs_none() {
    let previous = dealt(&[1, 2, 3, 4], 42);
    let other = dealt(&[1, 2, 3, 4], 43);
    let table = anew(&previous, &[1, 2, 3, 4], &[1, 2, 3, 5]);
    let ceremony = |secret: u8| {
        let secret = [secret; 32];
        Ceremony::new(&table.draft, &secret, [0; 32], LIMIT).unwrap()
    };
    let part = |holders: &Holders, secret: u8| {
        let identity = identity(&[secret; 32]).unwrap();
        Some(holders.parts[&identity].clone())
    };
    assert!(ceremony(5).holding(None).is_ok());
    let ours = part(&previous, 1);
    assert!(ceremony(1).holding(ours.as_ref()).is_ok());
    for wrong in [None, part(&previous, 2), part(&other, 1)] {
        let found = ceremony(1).holding(wrong.as_ref());
        assert!(matches!(found, Err(CeremonyError::Part)));
    }
}

#[test]
fn another_key_than_the_one_that_is_dealt_anew_is_none() {
    let previous = dealt(&[1, 2, 3, 4], 42);
    let table = anew(&previous, &[1, 2, 3, 4], &[1, 2, 3, 5]);
    let sides = Sides::of(&table.draft).unwrap();
    let rng = StdRng::from_seed([1; 32]);
    let holders = sides.holders.clone();
    let dealt = feldman_desmedt::deal::<MinSig, _, N3f1>(rng, Mode::NonZeroCounter, holders);
    let (output, _) = dealt.unwrap();
    let made = sides.made(&DRAFT, &table.keys[0], &(output, None));
    assert!(matches!(made, Err(CeremonyError::Ours)));
}
