//! Who gets how much room, and whose turn it is.

use cairn_runtime::RealRuntime;

use super::*;

const GREEDY: Identity = [1; 32];
const MODEST: Identity = [2; 32];
const THIRD: Identity = [3; 32];
const NOW: Duration = Duration::from_secs(7);

fn inbox() -> Inbox {
    Inbox::new([GREEDY, MODEST, THIRD])
}

/// A message with transactions, as far as can be told before it is read.
fn txs(bytes: usize) -> Vec<u8> {
    vec![0xff; bytes]
}

/// A message about attestations, as far as can be told before it is read.
fn news(number: u8) -> Vec<u8> {
    let mut message = AttestationNews::KIND.number().to_le_bytes().to_vec();
    message.push(number);
    message
}

/// Offers such messages until one finds no room: how many did.
fn fill(inbox: &Inbox, from: Identity, message: &[u8]) -> usize {
    let offers = std::iter::repeat_with(|| inbox.offer(from, message.to_vec(), NOW));
    offers.take_while(|is_taken| *is_taken).count()
}

/// Reads all that waits, in its order.
fn drain(inbox: &Inbox) -> Vec<Message> {
    std::iter::from_fn(|| inbox.waiting().take()).collect()
}

#[test]
fn each_validator_has_room_of_its_own() {
    let inbox = inbox();
    assert_eq!(fill(&inbox, GREEDY, &txs(1)), TXS_MAX.count);
    assert_eq!(fill(&inbox, GREEDY, &news(1)), NEWS_MAX.count);
    assert_eq!(fill(&inbox, MODEST, &txs(1)), TXS_MAX.count);
    assert_eq!(fill(&inbox, MODEST, &news(1)), NEWS_MAX.count);
    let read = drain(&inbox);
    assert_eq!(read.len(), 2 * (TXS_MAX.count + NEWS_MAX.count));
    assert_eq!(fill(&inbox, GREEDY, &txs(1)), TXS_MAX.count, "room again");
}

/// The bound of bytes, and one more; a message larger than all room takes none.
#[test]
fn so_many_bytes_of_a_validator_wait() {
    let inbox = inbox();
    assert!(!inbox.offer(GREEDY, txs(TXS_MAX.bytes + 1), NOW));
    assert_eq!(fill(&inbox, GREEDY, &txs(MESSAGE_BYTES_MAX)), 2);
    assert!(!inbox.offer(GREEDY, txs(1), NOW));
    assert!(inbox.offer(MODEST, txs(MESSAGE_BYTES_MAX), NOW));
    assert_eq!(inbox.waiting().take().unwrap().from, GREEDY);
    assert!(!inbox.offer(GREEDY, txs(MESSAGE_BYTES_MAX + 1), NOW));
    assert!(inbox.offer(GREEDY, txs(MESSAGE_BYTES_MAX), NOW));
    assert_eq!(drain(&inbox).len(), 3);
    // What is too long for news is none, whatever it says.
    let mut long = news(1);
    long.resize(<AttestationNews as Record>::BYTES_MAX + 1, 0);
    assert_eq!(Subject::of(&long), Subject::Transactions);
    long.pop();
    assert_eq!(Subject::of(&long), Subject::Attestations);
}

#[test]
fn validators_are_read_in_turn_and_none_loses_anything_to_another() {
    let inbox = inbox();
    let offer = |from, number| assert!(inbox.offer(from, vec![0xff, number], NOW));
    let filled = fill(&inbox, GREEDY, &txs(2));
    for number in 0..3 {
        offer(MODEST, number);
        offer(THIRD, number);
    }
    let read = drain(&inbox);
    assert_eq!(read.len(), filled + 6);
    for (turn, messages) in read[..9].chunks(3).enumerate() {
        let from: Vec<Identity> = messages.iter().map(|it| it.from).collect();
        assert_eq!(from, [GREEDY, MODEST, THIRD], "turn {turn}");
        let number = u8::try_from(turn).unwrap();
        assert_eq!(messages[1].bytes, [0xff, number], "in its order");
        assert_eq!(messages[2].bytes, [0xff, number], "in its order");
    }
    assert!(read[9..].iter().all(|it| it.from == GREEDY));
}

#[test]
fn news_comes_first_but_not_alone() {
    let inbox = inbox();
    fill(&inbox, GREEDY, &txs(2));
    fill(&inbox, GREEDY, &news(1));
    assert!(inbox.offer(MODEST, news(2), NOW));
    let read = drain(&inbox);
    assert_eq!(read[1].bytes, news(2), "behind one of each other validator");
    let of = |from: usize, to: usize, subject: Subject| {
        let mut messages = read[from..to].iter();
        assert!(messages.all(|it| it.subject == subject), "{from} to {to}");
    };
    let run = NEWS_IN_A_ROW_MAX;
    of(0, run, Subject::Attestations);
    of(run, run + 1, Subject::Transactions);
    of(run + 1, 2 * run + 1, Subject::Attestations);
    of(2 * run + 1, 2 * run + 2, Subject::Transactions);
}

#[test]
fn who_is_not_believed_is_heard_again_later() {
    let inbox = inbox();
    for from in [GREEDY, MODEST] {
        assert!(inbox.offer(from, txs(1), NOW));
        assert!(inbox.offer(from, news(1), NOW));
    }
    inbox.distrust(GREEDY, Fault::Malformed, NOW);
    let end = NOW + DISTRUST;
    let before = end - Duration::from_nanos(1);
    assert!(!inbox.offer(GREEDY, txs(1), NOW));
    assert!(!inbox.offer(GREEDY, txs(1), before));
    assert!(inbox.offer(GREEDY, news(1), before), "judged by itself");
    assert!(inbox.offer(MODEST, txs(1), before), "no fault of its own");
    let read = drain(&inbox);
    let txs_read = read.iter().filter(|it| it.subject == Subject::Transactions);
    assert!(txs_read.clone().all(|it| it.from == MODEST));
    assert_eq!((txs_read.count(), read.len()), (2, 5));
    assert!(inbox.offer(GREEDY, txs(1), end));
    inbox.distrust(GREEDY, Fault::Signature, end);
    assert_eq!(inbox.waiting().standings[&GREEDY].faults, 2);
    assert_eq!(inbox.waiting().standings[&MODEST], Standing::default());
}

#[test]
fn nobody_but_validators_is_heard() {
    let inbox = inbox();
    for message in [txs(1), news(1)] {
        assert!(!inbox.offer([9; 32], message, NOW));
    }
    inbox.distrust([9; 32], Fault::Malformed, NOW);
    assert_eq!(inbox.waiting().standings.len(), 3);
    assert!(drain(&inbox).is_empty());
}

#[test]
fn the_reader_is_woken() {
    RealRuntime::run(async |_: RealRuntime| {
        let inbox = inbox();
        let offers = async {
            assert!(inbox.offer(MODEST, txs(1), NOW));
            assert!(inbox.offer(GREEDY, news(1), NOW));
        };
        // It waits before there is anything.
        let (first, ()) = tokio::join!(biased; inbox.next(), offers);
        assert_eq!(first.from, GREEDY);
        assert_eq!(inbox.next().await.from, MODEST);
    })
    .unwrap();
}
