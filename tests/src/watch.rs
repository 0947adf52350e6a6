//! Watches the ledger for what no run may show: an honest node that is up and is failed (I5), or
//! credits that are not conserved (I4).
//!
//! An honest node is failed in money too when an escrow does not pay all that it earned, when it
//! is slashed, or when it pays for the repair of slots that it has not lost.
//!
//! It hears every block. It is told what becomes of each node: who is away or has lost bytes is
//! excused for a time, who lies about its proofs for good. All others must be found valid in every
//! epoch that was open for half of its length, and nobody but a liar may be found invalid.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cairn_consensus::Sequencer;
use cairn_core::{Amount, EpochNumber, Height, NodeId};
use cairn_ledger::{BlockEffects, Effect, Ledger, LedgerError, Verdict};
use cairn_runtime::{Sim, SimRuntime};

/// Who has lost bytes says so this long after it is back, at the latest. Until then what it lacks
/// may be frozen once more.
const LOSS_TOLD_WITHIN: Duration = Duration::from_secs(60);
/// Pause after the ledger did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It can't be reached or is down; what it has stays.
    Away,
    /// It has lost bytes that it acknowledged.
    Lost,
}

/// A time in which a node was in trouble.
#[derive(Clone, Copy, Debug)]
struct Spell {
    trouble: Trouble,
    from: Duration,
    /// `None` while it lasts.
    until: Option<Duration>,
}

/// An epoch as the blocks tell of it.
#[derive(Clone, Debug)]
struct Course {
    epoch: EpochNumber,
    began: Duration,
    opened: Option<Duration>,
    verdicts: BTreeMap<NodeId, Verdict>,
}

/// What was seen of a node's proofs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Epochs in which it was found valid.
    pub valid: u32,
    /// Epochs in which it was found invalid.
    pub invalid: u32,
    /// Epochs that count and of which it had no proof.
    pub lapses: u32,
    /// The first epoch, counted from the first that counts, in which it was not found valid.
    pub first_failed: Option<u32>,
}

/// What blocks told of a node's money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Money {
    /// For epochs that it proved.
    pub paid: Amount,
    /// For slots that it repaired.
    pub bounties: Amount,
    /// Taken of its collateral for invalid proofs.
    pub slashed: Amount,
    /// Taken of its collateral for slots that it lost.
    pub forfeited: Amount,
    /// Given back to its collateral for slots that it proved.
    pub filled: Amount,
}

impl Money {
    /// All that was taken of its collateral.
    ///
    /// # Panics
    ///
    /// When it is more than there is.
    #[must_use]
    pub fn taken(&self) -> Amount {
        sum(self.slashed, self.forfeited)
    }
}

fn sum(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).expect("less than the supply")
}

/// What was seen of all.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The newest block that was heard.
    pub heard: Option<Height>,
    /// Of each node that blocks told something of.
    pub money: BTreeMap<NodeId, Money>,
    /// Epochs that ended and count: they were open for half of their length.
    pub epochs: u32,
    /// Of each node that was watched.
    pub nodes: BTreeMap<NodeId, Record>,
    /// How often an honest node that was up had to be found valid, and was.
    pub honest_proofs: u32,
}

#[derive(Debug, Default)]
struct Seen {
    spells: BTreeMap<NodeId, Vec<Spell>>,
    liars: BTreeSet<NodeId>,
    /// Who was called lost by order, whatever it had.
    called_lost: BTreeSet<NodeId>,
    nodes: Vec<NodeId>,
    course: Option<Course>,
    findings: Findings,
}

/// Watches the ledger. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Watch {
    sim: Sim,
    seen: Arc<Mutex<Seen>>,
}

impl Watch {
    /// Of a world; nothing is watched yet.
    #[must_use]
    pub fn new(sim: Sim) -> Self {
        Self {
            sim,
            seen: Arc::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nothing panics while it is held")
    }

    /// The node must prove from the next epoch on.
    pub fn expect(&self, node: NodeId) {
        self.seen().nodes.push(node);
    }

    /// The node is in trouble from now on.
    pub fn begin(&self, node: NodeId, trouble: Trouble) {
        let spell = Spell {
            trouble,
            from: self.sim.elapsed(),
            until: None,
        };
        self.seen().spells.entry(node).or_default().push(spell);
    }

    /// The node is in no trouble any more.
    pub fn end(&self, node: NodeId) {
        let now = self.sim.elapsed();
        let mut seen = self.seen();
        let spells = seen.spells.entry(node).or_default();
        let lasting = spells.iter_mut().filter(|spell| spell.until.is_none());
        lasting.for_each(|spell| spell.until = Some(now));
    }

    /// The node lies about its proofs: nothing is expected of it any more.
    pub fn convict(&self, node: NodeId) {
        self.seen().liars.insert(node);
    }

    /// The node is to be called lost by order, whatever it has: it pays for that.
    pub fn call_lost(&self, node: NodeId) {
        self.seen().called_lost.insert(node);
    }

    /// Whether the node may have lost nothing of its collateral: it is honest, has never lost bytes
    /// and was not called lost.
    #[must_use]
    pub fn must_be_whole(&self, node: NodeId) -> bool {
        let seen = self.seen();
        !seen.liars.contains(&node) && !seen.may_forfeit(node)
    }

    /// What was seen.
    #[must_use]
    pub fn findings(&self) -> Findings {
        self.seen().findings.clone()
    }

    /// Follows the ledger until the run ends. `seat` is where the sequencer is found, which
    /// changes when its machine restarts.
    pub(crate) async fn follow<L: Ledger>(self, ledger: L, seat: Seat) {
        let mut next: Option<Height> = None;
        loop {
            let blocks = match next {
                Some(next) => ledger.effects(next).await,
                None => ledger.status().await.map(|status| {
                    next = Some(status.height);
                    Vec::new()
                }),
            };
            match blocks {
                Ok(blocks) => {
                    for block in &blocks {
                        self.hear(block);
                        next = block.height.next();
                    }
                }
                Err(error @ LedgerError::Forgotten { .. }) => {
                    panic!("blocks passed that nobody watched: {error}")
                }
                Err(_) => self.sim.sleep(PAUSE).await,
            }
            seat.audit();
        }
    }

    fn hear(&self, block: &BlockEffects) {
        let now = self.sim.elapsed();
        let mut seen = self.seen();
        for effect in &block.effects {
            match effect {
                Effect::EpochBegan(epoch) => seen.turn(*epoch, now),
                Effect::EpochOpened(_) => {
                    if let Some(course) = &mut seen.course {
                        course.opened = Some(now);
                    }
                }
                Effect::Judged { node, verdict, .. } => seen.judge(*node, *verdict),
                _ => seen.hear_money(effect),
            }
        }
        seen.findings.heard = Some(block.height);
    }
}

impl Seen {
    /// A verdict of the epoch that runs.
    fn judge(&mut self, node: NodeId, verdict: Verdict) {
        assert!(
            verdict == Verdict::Valid || self.liars.contains(&node),
            "I5: the proof of honest node {node} was found {verdict:?}"
        );
        if let Some(course) = &mut self.course {
            course.verdicts.insert(node, verdict);
        }
    }

    /// What moves credits of nodes.
    fn hear_money(&mut self, effect: &Effect) {
        let node = match effect {
            Effect::Paid { node, .. }
            | Effect::BountyPaid { node, .. }
            | Effect::Slashed { node, .. }
            | Effect::CollateralFilled { node, .. }
            | Effect::Forfeited { node, .. } => *node,
            _ => return,
        };
        let is_liar = self.liars.contains(&node);
        let may_forfeit = is_liar || self.may_forfeit(node);
        let money = self.findings.money.entry(node).or_default();
        match effect {
            Effect::Paid { due, amount, .. } => {
                assert_eq!(due, amount, "I5: node {node} is paid for a part");
                money.paid = sum(money.paid, *amount);
            }
            Effect::BountyPaid { amount, .. } => money.bounties = sum(money.bounties, *amount),
            Effect::CollateralFilled { amount, .. } => money.filled = sum(money.filled, *amount),
            Effect::Slashed { amount, .. } => {
                assert!(is_liar, "I5: honest node {node} is slashed by {amount:?}");
                money.slashed = sum(money.slashed, *amount);
            }
            Effect::Forfeited { amount, .. } => {
                assert!(
                    may_forfeit,
                    "I5: node {node}, which lost nothing, pays {amount:?}"
                );
                money.forfeited = sum(money.forfeited, *amount);
            }
            _ => {}
        }
    }

    /// Whether the node has lost bytes at some time, or was called lost by order.
    fn may_forfeit(&self, node: NodeId) -> bool {
        let spells = self.spells.get(&node).into_iter().flatten();
        let mut losses = spells.filter(|spell| spell.trouble == Trouble::Lost);
        losses.next().is_some() || self.called_lost.contains(&node)
    }

    /// An epoch has ended: all that were to prove did.
    fn turn(&mut self, next: EpochNumber, now: Duration) {
        let course = Course {
            epoch: next,
            began: now,
            opened: None,
            verdicts: BTreeMap::new(),
        };
        let Some(ended) = self.course.replace(course) else {
            return;
        };
        let half = now.saturating_sub(ended.began) / 2;
        let counts = ended.opened.is_some_and(|opened| now - opened >= half);
        if !counts {
            return;
        }
        let number = self.findings.epochs;
        self.findings.epochs += 1;
        for node in self.nodes.clone() {
            let verdict = ended.verdicts.get(&node).copied();
            if !self.is_excused(node, ended.began, now) {
                assert!(
                    verdict == Some(Verdict::Valid),
                    "I5: honest node {node} was up in epoch {} and has {verdict:?}: it ran from \
                     {:?} to {now:?}, after {:?}",
                    ended.epoch,
                    ended.began,
                    self.spells.get(&node)
                );
                self.findings.honest_proofs += 1;
            }
            let record = self.findings.nodes.entry(node).or_default();
            match verdict {
                Some(Verdict::Valid) => record.valid += 1,
                Some(Verdict::Invalid) => record.invalid += 1,
                Some(Verdict::Missing) | None => record.lapses += 1,
            }
            if verdict != Some(Verdict::Valid) {
                record.first_failed.get_or_insert(number);
            }
        }
    }

    /// Whether nothing is expected of a node in an epoch: it lies, it was away at some time of the
    /// second half, or had lost bytes at some time of it and not said so.
    fn is_excused(&self, node: NodeId, began: Duration, ended: Duration) -> bool {
        let middle = began + (ended - began) / 2;
        let spells: &[Spell] = self.spells.get(&node).map_or(&[], Vec::as_slice);
        let mut in_trouble = spells.iter().filter(|spell| {
            let (since, until) = match spell.trouble {
                Trouble::Away => (middle, spell.until),
                Trouble::Lost => (began, spell.until.and_then(|until| told_by(spells, until))),
            };
            spell.from < ended && until.is_none_or(|until| until > since)
        });
        self.liars.contains(&node) || in_trouble.next().is_some()
    }
}

/// By when a node has said what it has lost, if it could from then on: not while it is away.
/// `None` while it can't yet.
fn told_by(spells: &[Spell], from: Duration) -> Option<Duration> {
    let mut by = from + LOSS_TOLD_WITHIN;
    for away in spells.iter().filter(|spell| spell.from >= from) {
        if away.trouble == Trouble::Away && away.from < by {
            by = away.until? + LOSS_TOLD_WITHIN;
        }
    }
    Some(by)
}

/// Where the sequencer of a network is, while it is up. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seat(Arc<Mutex<Option<Sequencer<SimRuntime>>>>);

impl Seat {
    /// Another sequencer, or none.
    pub(crate) fn take(&self, sequencer: Option<Sequencer<SimRuntime>>) {
        *self.0.lock().expect("nothing panics while it is held") = sequencer;
    }

    /// I4, by all balances and escrows, and everything else that must hold of the state.
    fn audit(&self) {
        let sequencer = self.0.lock().expect("nothing panics while it is held");
        if let Some(sequencer) = &*sequencer {
            let sound = sequencer.audit();
            assert!(sound.is_ok(), "I4: {sound:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_core::PublicKey;

    use super::*;

    fn node() -> NodeId {
        NodeId::new(PublicKey::from_bytes([1; 32]))
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Epoch 1 from second 100 to 200 with this verdict, after those spells.
    fn run(spells: &[Spell], verdict: Option<Verdict>) -> Findings {
        let mut seen = Seen {
            nodes: vec![node()],
            spells: BTreeMap::from([(node(), spells.to_vec())]),
            ..Seen::default()
        };
        seen.turn(EpochNumber::new(1), at(100));
        seen.course.as_mut().expect("it runs").opened = Some(at(101));
        if let Some(verdict) = verdict {
            seen.judge(node(), verdict);
        }
        seen.turn(EpochNumber::new(2), at(200));
        seen.findings
    }

    const fn spell(trouble: Trouble, from: u64, until: Option<u64>) -> Spell {
        Spell {
            trouble,
            from: Duration::from_secs(from),
            until: match until {
                Some(until) => Some(Duration::from_secs(until)),
                None => None,
            },
        }
    }

    #[test]
    #[should_panic(expected = "was up in epoch 1 and has None")]
    fn an_honest_node_without_a_proof_is_a_fault() {
        let _found = run(&[], None);
    }

    #[test]
    #[should_panic(expected = "was found Invalid")]
    fn an_honest_node_with_an_invalid_proof_is_a_fault() {
        let _found = run(&[spell(Trouble::Away, 0, None)], Some(Verdict::Invalid));
    }

    #[test]
    #[should_panic(expected = "was up in epoch 1 and has None")]
    fn a_node_that_was_back_by_the_middle_must_prove() {
        let _found = run(&[spell(Trouble::Away, 0, Some(140))], None);
    }

    /// What becomes of this effect after those spells.
    fn hear_money(spells: &[Spell], effect: &Effect) -> Money {
        let mut seen = Seen {
            spells: BTreeMap::from([(node(), spells.to_vec())]),
            ..Seen::default()
        };
        seen.hear_money(effect);
        seen.findings.money[&node()]
    }

    fn credits(micro: u64) -> Amount {
        Amount::from_micro(micro)
    }

    #[test]
    #[should_panic(expected = "is slashed by")]
    fn an_honest_node_that_is_slashed_is_a_fault() {
        let slashed = Effect::Slashed {
            node: node(),
            epoch: EpochNumber::new(1),
            amount: credits(1),
        };
        let _told = hear_money(&[spell(Trouble::Lost, 0, None)], &slashed);
    }

    #[test]
    #[should_panic(expected = "is paid for a part")]
    fn a_node_that_is_not_paid_whole_is_a_fault() {
        let paid = Effect::Paid {
            node: node(),
            epoch: EpochNumber::new(1),
            due: credits(2),
            amount: credits(1),
        };
        let _told = hear_money(&[], &paid);
    }

    #[test]
    #[should_panic(expected = "which lost nothing, pays")]
    fn who_was_away_and_pays_for_a_loss_is_a_fault() {
        let forfeited = Effect::Forfeited {
            node: node(),
            amount: credits(1),
        };
        let lost = spell(Trouble::Lost, 0, Some(50));
        assert_eq!(hear_money(&[lost], &forfeited).taken(), credits(1));
        let _told = hear_money(&[spell(Trouble::Away, 0, None)], &forfeited);
    }

    #[test]
    fn who_was_in_trouble_is_excused() {
        for excuse in [
            spell(Trouble::Away, 0, Some(160)),
            spell(Trouble::Away, 190, None),
            spell(Trouble::Lost, 0, Some(50)),
        ] {
            let found = run(&[excuse], None);
            assert_eq!((found.honest_proofs, found.nodes[&node()].lapses), (0, 1));
        }
        // It was away before it could say what it had lost.
        let lost = spell(Trouble::Lost, 0, Some(20));
        let found = run(&[lost, spell(Trouble::Away, 30, Some(120))], None);
        assert_eq!((found.honest_proofs, found.nodes[&node()].lapses), (0, 1));
        let found = run(&[], Some(Verdict::Valid));
        assert_eq!((found.honest_proofs, found.nodes[&node()].valid), (1, 1));
    }
}
