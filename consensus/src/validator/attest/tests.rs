//! Who was away.

use cairn_core::{PublicKey, SecretKey};
use cairn_runtime::RealRuntime;
use tempfile::TempDir;

use super::super::{committee_of, deal, key_of_committee};
use super::*;
use crate::core::Attester;
use crate::core::tests::Bench;

#[test]
fn parts_are_kept_of_few_heights_that_are_not_shown() {
    let height = Height::new;
    assert_eq!(wanted(height(0), None), height(0)..=height(64));
    assert_eq!(wanted(height(3), Some(height(3))), height(4)..=height(67));
    // Nothing was shown for long: those that nobody will put together any more are forgotten.
    assert_eq!(
        wanted(height(10_000), Some(height(7))),
        height(9_936)..=height(10_064)
    );
    assert_eq!(wanted(height(10_000), None), height(9_936)..=height(10_064));
}

/// Four validators, and one ledger that each of some has.
struct Four {
    committee: Committee,
    parts: Vec<(PublicKey, KeyPart)>,
    _folder: TempDir,
    members: Vec<(Bench, Attesting, mpsc::Receiver<Attested>)>,
}

impl Four {
    /// So many of them have a ledger.
    fn new(runtime: &RealRuntime, count: usize) -> Self {
        let keys = (1..=4).map(|number| SecretKey::from_bytes(&[number; 32]).public());
        let identities: Vec<PublicKey> = keys.collect();
        let (validators, parts) = deal(runtime, &identities).unwrap();
        let committee = committee_of(&validators).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let members = (0..count).map(|number| {
            let (sender, to_sign) = mpsc::channel(WAITING_MAX);
            let home = folder.path().join(number.to_string());
            let bench = Bench::with(runtime, &home, Attester::Together(sender));
            let key = key_of_committee(&committee).unwrap();
            let attesting = Attesting::new(committee.clone(), key, bench.core.ledger);
            (bench, attesting, to_sign)
        });
        Self {
            members: members.collect(),
            committee,
            parts,
            _folder: folder,
        }
    }

    /// One's part of what the ledger of a member is at a height.
    fn part(&self, signer: usize, attested: Attested) -> ([u8; 32], AttestationNews) {
        let (identity, part) = &self.parts[signer];
        let namespace = Attested::namespace(attested.ledger);
        let signed = part.sign(&namespace, &attested.message()).unwrap();
        assert!(self.committee.is_of(&signed, identity.as_bytes()));
        let part = Bounded::new(signed.encode()).unwrap();
        (
            *identity.as_bytes(),
            AttestationNews::Part { attested, part },
        )
    }

    /// Three sign what a member's ledger is at a height, which it then shows.
    fn sign(&self, member: usize, height: u64) -> Attestation {
        let (bench, attesting, _) = &self.members[member];
        let attested = bench.core.waiting_at(Height::new(height)).unwrap();
        for signer in 0..3 {
            let (from, part) = self.part(signer, attested);
            attesting.receive(&bench.core, from, part);
        }
        let (shown, _) = bench.core.newest().expect("three of four have signed");
        assert_eq!(*shown.unverified(), attested);
        shown
    }
}

/// It shows what the others signed meanwhile as soon as it has got there, without waiting for the next
/// block.
#[test]
fn who_was_away_shows_what_the_others_signed() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let four = Four::new(&runtime, 2);
        let (others, _, _) = &four.members[0];
        let (late, attesting, _) = &four.members[1];
        for _ in 0..3 {
            others.commit(Vec::new());
        }
        let newest = four.sign(0, 3);
        attesting.receive(&late.core, [9; 32], AttestationNews::Newest(newest));
        for height in 1..=3 {
            assert_eq!(late.core.shown_height(), None);
            late.commit(Vec::new());
            // It is signed, by those that count.
            assert!(attesting.catch_up(&late.core, Height::new(height)));
        }
        assert_eq!(late.core.shown_height(), Some(Height::new(3)));
        late.commit(Vec::new());
        assert!(!attesting.catch_up(&late.core, Height::new(4)));
    })
    .unwrap();
}

/// One that nobody signed, or of another ledger, is not believed.
#[test]
fn what_is_told_to_be_the_newest_is_checked() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let four = Four::new(&runtime, 2);
        let strangers = Four::new(&runtime, 1);
        let (late, attesting, _) = &four.members[1];
        for members in [&four.members, &strangers.members] {
            members[0].0.commit(Vec::new());
        }
        let Attestation::Validators(attested, signature) = four.sign(0, 1) else {
            panic!("of validators");
        };
        let mut changed = attested;
        changed.root = cairn_core::Digest::of(b"another");
        let lies = [
            Attestation::Validators(changed, signature),
            strangers.sign(0, 1),
        ];
        late.commit(Vec::new());
        for lie in lies {
            attesting.receive(&late.core, [9; 32], AttestationNews::Newest(lie));
            assert_eq!(late.core.shown_height(), None);
        }
        let truth = Attestation::Validators(attested, signature);
        attesting.receive(&late.core, [9; 32], AttestationNews::Newest(truth));
        assert_eq!(late.core.shown_height(), Some(Height::new(1)));
    })
    .unwrap();
}

/// Who sends a part of a height that is over is told the newest.
#[test]
fn who_signs_what_is_over_is_told_the_newest() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let four = Four::new(&runtime, 1);
        let (bench, attesting, _) = &four.members[0];
        let mut attested = Vec::new();
        for height in 1..=2 {
            bench.commit(Vec::new());
            attested.push(bench.core.waiting_at(Height::new(height)).unwrap());
        }
        four.sign(0, 2);
        let is_told = async || {
            let told = attesting.tell.notified();
            let limit = Duration::from_millis(20);
            bench.core.runtime.timeout(limit, told).await.is_ok()
        };
        // The fourth's part is on its way when three are enough.
        let (from, part) = four.part(3, attested[1]);
        attesting.receive(&bench.core, from, part);
        assert!(!is_told().await);
        let (from, part) = four.part(3, attested[0]);
        attesting.receive(&bench.core, from, part.clone());
        assert!(is_told().await);
        // Not for each that comes.
        attesting.receive(&bench.core, from, part);
        assert!(!is_told().await);
    })
    .unwrap();
}
