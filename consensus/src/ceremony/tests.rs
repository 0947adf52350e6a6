//! What validators sign at the end of a ceremony is what a change of validators has.

use cairn_core::{Bounded, Digest, LedgerId, SecretKey};
use cairn_ledger::{TermSignature, Validators, term_digest};

use super::is_agreed;

#[test]
fn the_ledger_and_the_engine_sign_a_change_alike() {
    let key = SecretKey::from_bytes(&[7; 32]);
    let validators = Validators {
        identities: Bounded::new(vec![key.public()]).unwrap(),
        key: Bounded::new(vec![1; 96]).unwrap(),
    };
    let ledger = LedgerId::new(Digest::of(b"a ledger"));
    let digest = term_digest(ledger, 1, &validators);
    let other = term_digest(ledger, 2, &validators);
    let signed = TermSignature::sign(digest, &key);
    for (of, expected) in [(digest, true), (other, false)] {
        let is_engines = is_agreed(&key.public(), of, &signed.signature);
        assert_eq!((is_engines, signed.holds(of)), (expected, expected));
    }
}
