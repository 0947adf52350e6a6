//! Which nodes get the slots of a group: a weighted draw under caps, from a seed.
//!
//! Pure and deterministic: equal requests give equal answers on every machine. Integer arithmetic
//! only. Rules P1 to P8 of docs/protocol/ledger.md#placement.

use std::collections::BTreeMap;

use cairn_core::{AccountId, Code, Digest, EpochNumber, GroupId, NodeId, SlotIndex};

use crate::group::{Cap, RelaxedCap};
use crate::node::NodeEntry;

/// Draws that are made to find one that relaxes each cap no further than that cap alone demands,
/// or else the one that relaxes least.
pub const ATTEMPTS_MAX: u8 = 32;
/// Domain of the draw's randomness.
const PLACEMENT_CONTEXT: &str = "cairn 1 placement";
/// Stands for the slot when a whole group is drawn; above every slot.
const WHOLE_GROUP: u8 = u8::MAX;

/// What is to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// All slots of a group.
    Group(GroupId),
    /// One slot of a group.
    Slot(GroupId, SlotIndex),
}

/// A draw and all that it depends on.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What is to be drawn.
    pub draw: Draw,
    /// The group's code, which sets the caps.
    pub code: Code,
    /// Randomness that was unknown when the request became final.
    pub seed: Digest,
    /// Nodes that hold other slots of the group; they count towards the caps.
    pub holders: Vec<&'a NodeEntry>,
    /// Nodes that may be drawn, rising by id: active, with room, at the price, none in the group.
    pub candidates: Vec<&'a NodeEntry>,
    /// The epoch that runs, whose scores weigh.
    pub epoch: EpochNumber,
}

/// Fewer candidates than slots: nothing is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFew {
    /// Slots to be drawn.
    pub expected: usize,
    /// Candidates.
    pub found: usize,
}

/// Draws nodes for the slots asked for, in the order of the slots.
///
/// # Errors
///
/// [`TooFew`]: each slot needs a node of its own. Caps are relaxed rather than refused.
///
/// # Panics
///
/// Never: at least one attempt is made.
pub fn draw(request: &Request<'_>) -> Result<Vec<NodeId>, TooFew> {
    let slots = match request.draw {
        Draw::Group(_) => request.code.shard_count(),
        Draw::Slot(..) => 1,
    };
    let found = request.candidates.len();
    if found < slots {
        return Err(TooFew {
            expected: slots,
            found,
        });
    }
    let field = Field::new(request);
    let least = field.least(slots);
    let mut best: Option<Attempt> = None;
    for number in 0..ATTEMPTS_MAX {
        let attempt = field.attempt(slots, randomness(request, number));
        let is_least = attempt.excess == least;
        if best
            .as_ref()
            .is_none_or(|best| attempt.excess < best.excess)
        {
            best = Some(attempt);
        }
        if is_least {
            break;
        }
    }
    let best = best.expect("at least one attempt was made");
    let node = |index: &usize| request.candidates.get(*index).map(|entry| entry.node);
    Ok(best.taken.iter().filter_map(node).collect())
}

/// The caps of `code` that a group on `holders` exceeds, rising by cap.
#[must_use]
pub fn relaxed(code: Code, holders: &[&NodeEntry]) -> Vec<RelaxedCap> {
    let most = |cap: Cap| {
        let mut counts: BTreeMap<Value<'_>, u8> = BTreeMap::new();
        for holder in holders {
            let count = counts.entry(value(cap, holder)).or_default();
            *count = count.saturating_add(1);
        }
        counts.into_values().max().unwrap_or(0)
    };
    Cap::ALL
        .into_iter()
        .map(|cap| RelaxedCap {
            cap,
            max: cap.of(code),
            found: most(cap),
        })
        .filter(|relaxed| relaxed.found > relaxed.max)
        .collect()
}

/// What a cap counts by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Value<'a> {
    Account(AccountId),
    Label(&'a str),
}

fn value(cap: Cap, entry: &NodeEntry) -> Value<'_> {
    match cap {
        Cap::Region => Value::Label(entry.terms.region.as_str()),
        Cap::Network => Value::Label(entry.terms.network.as_str()),
        Cap::Provider => Value::Label(entry.terms.provider.as_str()),
        Cap::Operator => Value::Account(entry.operator),
    }
}

/// Bytes that no two draws of a ledger share: of this seed, group, slot and attempt.
fn randomness(request: &Request<'_>, attempt: u8) -> blake3::OutputReader {
    let (group, slot) = match request.draw {
        Draw::Group(group) => (group, WHOLE_GROUP),
        Draw::Slot(group, slot) => (group, slot.get()),
    };
    let mut hasher = blake3::Hasher::new_derive_key(PLACEMENT_CONTEXT);
    hasher.update(request.seed.as_bytes());
    hasher.update(group.as_bytes());
    hasher.update(&[slot, attempt]);
    hasher.finalize_xof()
}

/// A number for each cap, in the order of [`Cap::ALL`].
type PerCap<T> = [T; 4];

/// By how much caps are exceeded, the most precious first, so that the order of values is the
/// order of preference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Excess(PerCap<u8>);

impl Excess {
    /// `counts` over `caps`, both in the order of [`Cap::ALL`].
    fn of(counts: PerCap<u8>, caps: PerCap<u8>) -> Self {
        let [region, network, provider, operator] = counts;
        let [region_max, network_max, provider_max, operator_max] = caps;
        Self([
            operator.saturating_sub(operator_max),
            provider.saturating_sub(provider_max),
            network.saturating_sub(network_max),
            region.saturating_sub(region_max),
        ])
    }

    /// `caps` raised by this.
    fn raise(self, caps: PerCap<u8>) -> PerCap<u8> {
        let Self([operator, provider, network, region]) = self;
        let [region_max, network_max, provider_max, operator_max] = caps;
        [
            region_max.saturating_add(region),
            network_max.saturating_add(network),
            provider_max.saturating_add(provider),
            operator_max.saturating_add(operator),
        ]
    }
}

/// One finished draw.
struct Attempt {
    /// Indices of the candidates taken, in the order of the slots.
    taken: Vec<usize>,
    /// By how much the caps had to be raised.
    excess: Excess,
}

/// A candidate, its values replaced by small numbers.
struct Runner {
    weight: u128,
    values: PerCap<usize>,
}

/// The candidates and how many slots share each value before the draw.
struct Field {
    caps: PerCap<u8>,
    runners: Vec<Runner>,
    counts: PerCap<Vec<u8>>,
}

impl Field {
    fn new(request: &Request<'_>) -> Self {
        let mut numbers: PerCap<BTreeMap<Value<'_>, usize>> = Default::default();
        let mut counts: PerCap<Vec<u8>> = Default::default();
        let mut number_of = |entry| {
            let mut values = [0; 4];
            let tables = numbers.iter_mut().zip(&mut counts).zip(&mut values);
            for (cap, ((table, counts), out)) in Cap::ALL.into_iter().zip(tables) {
                let next = counts.len();
                *out = *table.entry(value(cap, entry)).or_insert(next);
                if *out == next {
                    counts.push(0);
                }
            }
            values
        };
        let held: Vec<PerCap<usize>> = request
            .holders
            .iter()
            .map(|entry| number_of(entry))
            .collect();
        let runners = request
            .candidates
            .iter()
            .map(|entry| Runner {
                weight: entry.score.weigh(entry.free(), request.epoch),
                values: number_of(entry),
            })
            .collect();
        let mut field = Self {
            caps: Cap::ALL.map(|cap| cap.of(request.code)),
            runners,
            counts,
        };
        for values in held {
            count(&mut field.counts, values);
        }
        field
    }

    /// By how much each cap has to be raised if there were no other: no draw of `slots` slots
    /// raises one less.
    fn least(&self, slots: usize) -> Excess {
        let mut caps = self.caps;
        for (at, (cap, held)) in caps.iter_mut().zip(&self.counts).enumerate() {
            let mut offered = vec![0_usize; held.len()];
            for runner in &self.runners {
                let value = runner
                    .values
                    .get(at)
                    .and_then(|value| offered.get_mut(*value));
                if let Some(count) = value {
                    *count = count.saturating_add(1);
                }
            }
            let room = |cap: u8| {
                let taken = offered
                    .iter()
                    .zip(held)
                    .map(|(offered, held)| (*offered).min(usize::from(cap.saturating_sub(*held))));
                taken.fold(0, usize::saturating_add)
            };
            while room(*cap) < slots && *cap < u8::MAX {
                *cap = cap.saturating_add(1);
            }
        }
        Excess::of(caps, self.caps)
    }

    /// Draws `slots` candidates without replacement. The caller has checked that there are as
    /// many.
    fn attempt(&self, slots: usize, mut random: blake3::OutputReader) -> Attempt {
        let mut counts = self.counts.clone();
        let mut caps = self.caps;
        let mut is_taken = vec![false; self.runners.len()];
        let mut taken = Vec::with_capacity(slots);
        while taken.len() < slots {
            let free = |(index, runner): (usize, &Runner)| {
                let is_free = !is_taken.get(index).copied().unwrap_or(true);
                is_free.then(|| (index, runner.weight, excess(&counts, caps, runner.values)))
            };
            let free: Vec<_> = self.runners.iter().enumerate().filter_map(free).collect();
            // No excess when some candidate is under every cap; else the least of them all.
            let Some(least) = free.iter().map(|(_, _, excess)| *excess).min() else {
                break;
            };
            caps = least.raise(caps);
            let eligible = free
                .into_iter()
                .filter(|(_, _, excess)| *excess == least)
                .map(|(index, weight, _)| (index, weight));
            let index = pick(&eligible.collect::<Vec<_>>(), &mut random);
            if let (Some(flag), Some(runner)) = (is_taken.get_mut(index), self.runners.get(index)) {
                *flag = true;
                count(&mut counts, runner.values);
            }
            taken.push(index);
        }
        Attempt {
            taken,
            excess: Excess::of(caps, self.caps),
        }
    }
}

/// One more slot with these values.
fn count(counts: &mut PerCap<Vec<u8>>, values: PerCap<usize>) {
    for (counts, value) in counts.iter_mut().zip(values) {
        if let Some(count) = counts.get_mut(value) {
            *count = count.saturating_add(1);
        }
    }
}

/// By how much the caps would be exceeded if a node with these values were taken.
fn excess(counts: &PerCap<Vec<u8>>, caps: PerCap<u8>, values: PerCap<usize>) -> Excess {
    let mut after = [0_u8; 4];
    for ((counts, value), out) in counts.iter().zip(values).zip(&mut after) {
        *out = counts.get(value).copied().unwrap_or(0).saturating_add(1);
    }
    Excess::of(after, caps)
}

/// One of `eligible`, by weight. The 128 random bits are reduced modulo the sum of weights, which
/// is below 2^80 for 2^16 nodes: a bias of less than 2^-48.
///
/// # Panics
///
/// When `eligible` is empty.
fn pick(eligible: &[(usize, u128)], random: &mut blake3::OutputReader) -> usize {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let total: u128 = eligible
        .iter()
        .fold(0, |sum: u128, (_, weight)| sum.saturating_add(*weight));
    // All weights are zero only when slots of no bytes were allowed; then the first is taken.
    let mut rest = u128::from_le_bytes(bytes).checked_rem(total).unwrap_or(0);
    for (index, weight) in eligible {
        match rest.checked_sub(*weight) {
            Some(left) if total > 0 => rest = left,
            _ => return *index,
        }
    }
    let (last, _) = eligible.last().expect("there is an eligible candidate");
    *last
}

#[cfg(test)]
mod tests;
