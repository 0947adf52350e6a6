//! Votes and what they do.

use super::*;
use crate::sample::account;

fn epoch(number: u64) -> EpochNumber {
    EpochNumber::new(number)
}

/// A score after an epoch in which these many operators said so.
fn voted(score: &Score, number: u64, passed: u8, failed: u8) -> Score {
    let mut score = score.clone();
    for operator in 0..passed {
        score.count(epoch(number), account(operator), Vote::Passed);
    }
    for operator in passed..passed + failed {
        score.count(epoch(number), account(operator), Vote::Failed);
    }
    assert!(score.is_sound(epoch(number)));
    score
}

#[test]
fn a_report_has_at_most_one_vote_for_each_ticket() {
    let mut report = AuditReport::default();
    report.note(0, Vote::Passed);
    report.note(7, Vote::Failed);
    report.note(8, Vote::Failed);
    assert_eq!((report.passed, report.failed), (0b1, 0b1000_0000));
    assert!(report.is_well_formed());
    assert_eq!(report.vote(0), Some(Vote::Passed));
    assert_eq!(report.vote(1), None);
    assert_eq!(report.vote(7), Some(Vote::Failed));
    assert_eq!(report.vote(8), None);
    report.note(0, Vote::Failed);
    assert!(!report.is_well_formed());
}

/// The bound that the module states, one above and one below.
#[test]
fn a_score_falls_by_the_votes_of_four_operators_and_never_of_three() {
    let fresh = Score::default();
    for failed in 0..4 {
        assert_eq!(voted(&fresh, 5, 0, failed).at(epoch(6)), SCORE_MAX);
    }
    let failed = voted(&fresh, 5, 0, 4);
    assert_eq!(failed.at(epoch(5)), SCORE_MAX, "its votes are still coming");
    assert_eq!(failed.at(epoch(6)), SCORE_MAX - SCORE_FALL);
}

#[test]
fn a_score_falls_by_two_thirds_of_the_votes_and_by_no_fewer() {
    let fresh = Score::default();
    for (passed, failed, falls) in [(2, 4, true), (3, 4, false), (3, 5, false), (3, 6, true)] {
        let score = voted(&fresh, 5, passed, failed).at(epoch(6));
        assert_eq!(score < SCORE_MAX, falls, "{passed} and {failed}");
    }
}

#[test]
fn an_operator_has_one_vote_its_first() {
    let mut score = Score::default();
    for _ in 0..9 {
        score.count(epoch(5), account(1), Vote::Failed);
    }
    assert_eq!(score.at(epoch(6)), SCORE_MAX);
    for operator in 2..5 {
        score.count(epoch(5), account(operator), Vote::Failed);
        score.count(epoch(5), account(operator), Vote::Passed);
    }
    assert_eq!(score.at(epoch(6)), SCORE_MAX - SCORE_FALL);
}

#[test]
fn votes_are_counted_up_to_their_bound() {
    let most = u8::try_from(VOTES_MAX).unwrap();
    let full = voted(&Score::default(), 5, 0, most);
    assert_eq!(voted(&full, 5, 200, 0), full);
    let encoded = borsh::to_vec(&full).unwrap();
    assert_eq!(encoded.len(), SCORE_BYTES_MAX);
    assert!(full.is_sound(epoch(5)) && !full.is_sound(epoch(4)));
}

#[test]
fn a_score_falls_to_its_least_and_comes_back_in_two_days() {
    let mut score = Score::default();
    for number in 1..20 {
        score = voted(&score, number, 0, 8);
    }
    assert_eq!(score.at(epoch(20)), SCORE_MIN);
    let rise = u64::from(SCORE_RISE);
    let epochs = u64::from(SCORE_MAX - SCORE_MIN) / rise;
    assert_eq!(score.at(epoch(20 + epochs - 1)), SCORE_MAX - SCORE_RISE);
    assert_eq!(score.at(epoch(20 + epochs)), SCORE_MAX);
    assert_eq!(score.at(epoch(u64::MAX)), SCORE_MAX);
    assert!(epochs <= 48, "hours");
    // Whether anybody votes in between changes nothing.
    for number in 20..20 + epochs {
        score = voted(&score, number, 8, 0);
    }
    assert_eq!(score.at(epoch(20 + epochs)), SCORE_MAX);
}

#[test]
fn what_a_node_is_drawn_by_is_its_capacity_times_its_score_rounded_down() {
    let free = ByteCount::new(1_009);
    let fresh = Score::default();
    assert_eq!(fresh.weigh(free, epoch(5)), 1_009);
    let failed = voted(&fresh, 5, 0, 4);
    assert_eq!(failed.weigh(free, epoch(6)), 807);
    let all = ByteCount::new(u64::MAX);
    assert_eq!(fresh.weigh(all, epoch(0)), u128::from(u64::MAX));
}

#[test]
fn recent_epochs_are_remembered_and_do_not_change() {
    let mut recent = RecentEpochs::default();
    assert!(!recent.has(epoch(0)));
    for number in [3, 4, 6] {
        recent.note(epoch(number));
    }
    let known: Vec<u64> = (0..10)
        .filter(|number| recent.has(epoch(*number)))
        .collect();
    assert_eq!(known, [3, 4, 6]);
    recent.note(epoch(11));
    let known: Vec<u64> = (0..20)
        .filter(|number| recent.has(epoch(*number)))
        .collect();
    assert_eq!(known, [4, 6, 11]);
    recent.note(epoch(100));
    let known: Vec<u64> = (0..200)
        .filter(|number| recent.has(epoch(*number)))
        .collect();
    assert_eq!(known, [100]);
}

/// Numbers that nobody chose: splitmix64.
fn numbers() -> impl Iterator<Item = u64> {
    (1_u64..).map(|at| {
        let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// The average score of a node over 1,000 epochs in which each of 300 auditors draws eight of 300
/// nodes and `liars` of them say the contrary of the truth about it.
fn average(liars: u64, truth: Vote) -> u64 {
    let mut numbers = numbers();
    let mut score = Score::default();
    let mut sum = 0;
    let epochs = 1_000;
    for number in 1..=epochs {
        for auditor in 0..300_u64 {
            let draws: Vec<u64> = numbers.by_ref().take(AUDITS_MAX).collect();
            if draws.iter().any(|draw| draw % 300 == 7) {
                let vote = match truth {
                    truth if auditor >= liars => truth,
                    Vote::Passed => Vote::Failed,
                    Vote::Failed => Vote::Passed,
                };
                score.count_of(epoch(number), auditor.to_le_bytes(), vote);
            }
        }
        sum += u64::from(score.at(epoch(number + 1)));
    }
    sum / epochs
}

#[test]
fn a_third_of_all_auditors_lying_costs_an_honest_node_little_and_saves_no_dishonest_one() {
    assert_eq!(average(0, Vote::Passed), u64::from(SCORE_MAX));
    let lied_about = average(100, Vote::Passed);
    assert!(lied_about >= 90, "{lied_about}");
    let refuses = average(0, Vote::Failed);
    assert!(refuses <= u64::from(SCORE_MIN) + 5, "{refuses}");
    let helped = average(60, Vote::Failed);
    assert!(helped <= 40, "{helped}");
}
