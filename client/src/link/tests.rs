//! Laws, forgeries and slips of links.

use proptest::prelude::*;

use super::*;
use crate::index::tests::segment;

pub(crate) fn sample(groups: u8) -> Link {
    let groups: Vec<GroupId> = (1..=groups)
        .map(|byte| GroupId::new(Digest::new([byte; 32])))
        .collect();
    let index = IndexExtent {
        segments: Bounded::new(vec![segment(3, 1_000)]).unwrap(),
        offset: 900,
        bytes: 100,
    };
    Link::issue(
        &SecretKey::from_bytes(&[1; 32]),
        ContentKey::from_bytes(&[2; 32]),
        &groups,
        index,
        UnixMillis::new(1_900_000_000_000),
    )
}

#[test]
fn a_link_survives_its_text() {
    for groups in [1, 2, 16] {
        let link = sample(groups);
        let text = link.to_string();
        assert_eq!(text.parse::<Link>().unwrap(), link);
        assert_eq!(format!(" {text}\n").parse::<Link>().unwrap(), link);
        assert!(
            text.len() < 300 + 140 * usize::from(groups),
            "{}",
            text.len()
        );
    }
}

#[test]
fn a_reader_hands_the_capability_to_its_peer() {
    let link = sample(1);
    let group = link.groups().next().unwrap();
    let peer = SecretKey::from_bytes(&[9; 32]).public();
    let now = UnixMillis::new(1_800_000_000_000);
    let capability = link.capability_for(group, peer).unwrap();
    let allowed = capability.verify(link.owner(), peer, now).unwrap();
    allowed
        .allows(Scope::Group(group), Right::Read, now)
        .unwrap();
    assert!(
        allowed
            .allows(Scope::Group(group), Right::Write, now)
            .is_err()
    );
    assert!(
        capability
            .verify(link.owner(), peer, link.expires_at())
            .is_err()
    );
    let other = SecretKey::from_bytes(&[8; 32]).public();
    assert!(capability.verify(link.owner(), other, now).is_err());
    assert_eq!(
        link.capability_for(GroupId::new(Digest::new([99; 32])), peer),
        None
    );
}

#[test]
fn only_the_owner_renews() {
    let link = sample(2);
    let later = UnixMillis::new(2_000_000_000_000);
    let renewed = link
        .reissue(&SecretKey::from_bytes(&[1; 32]), later)
        .unwrap();
    assert_eq!(renewed.expires_at(), later);
    assert_eq!(renewed.to_string().parse::<Link>().unwrap(), renewed);
    assert!(
        link.reissue(&SecretKey::from_bytes(&[5; 32]), later)
            .is_err()
    );
}

#[test]
fn a_forged_link_is_refused() {
    let link = sample(1);
    let mut body = link.body();
    body.expires_at = UnixMillis::new(u64::MAX);
    let mut bytes = body.encode();
    let check = Digest::of(&bytes);
    bytes.extend_from_slice(&check.as_bytes()[..4]);
    let text = format!("cairn:{}", BASE64URL_NOPAD.encode(&bytes));
    assert!(matches!(
        text.parse::<Link>(),
        Err(ParseLinkError::Signature(_))
    ));
}

#[test]
fn slips_of_the_pen_are_named() {
    let text = sample(1).to_string();
    assert_eq!("https://x".parse::<Link>(), Err(ParseLinkError::Scheme));
    assert_eq!("cairn:".parse::<Link>(), Err(ParseLinkError::Checksum));
    assert_eq!(ParseLinkError::Checksum.retry(), Retry::Never);
    assert_eq!(ParseLinkError::Checksum.blame(), Blame::Caller);
    let short = &text[..text.len() - 4];
    assert_eq!(short.parse::<Link>(), Err(ParseLinkError::Checksum));
    let spaced = text.replacen('A', " ", 1);
    assert!(matches!(
        spaced.parse::<Link>(),
        Err(ParseLinkError::Alphabet { .. })
    ));
}

#[test]
fn debug_shows_no_key() {
    let link = sample(1);
    let text = format!("{link:?}");
    assert!(!text.contains("0202"), "{text}");
    assert!(!text.contains("2, 2"), "{text}");
}

proptest! {
    /// No text makes the parser panic, and none but a link's own parses.
    #[test]
    fn parsing_is_total(text in "(cairn:)?[A-Za-z0-9_ -]{0,600}") {
        if let Ok(link) = text.parse::<Link>() {
            prop_assert_eq!(link.to_string(), text);
        }
    }

    /// Any one changed character is noticed.
    #[test]
    fn a_changed_character_is_noticed(at: prop::sample::Index, with in "[A-Za-z0-9_-]") {
        let text = sample(2).to_string();
        let at = at.index(text.len());
        let mut changed = text.clone();
        changed.replace_range(at..=at, &with);
        if changed != text {
            prop_assert!(changed.parse::<Link>().is_err());
        }
    }

    /// Bytes under a right checksum still have to be a link.
    #[test]
    fn bytes_under_a_right_checksum(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let check = Digest::of(&bytes);
        bytes.extend_from_slice(&check.as_bytes()[..4]);
        let text = format!("cairn:{}", BASE64URL_NOPAD.encode(&bytes));
        prop_assert!(text.parse::<Link>().is_err());
    }
}
