//! What the blocks of a simulated time cost.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use cairn_core::{Digest, Record};
use cairn_ledger::Block;

use super::network::{Network, all_done};
use super::week::{Outcome, days};
use super::{count, real};
use crate::cpu_time::thread_cpu_time;
use crate::report::Report;

/// What a block's transactions are; all of a block are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// None: it passes time.
    Empty,
    /// `ProofSubmit`.
    Proofs,
    /// `GroupRevise`.
    Revisions,
    /// `Acknowledge`.
    Acknowledgements,
}

/// Transactions of a kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OfKind {
    /// How many.
    pub(super) count: u64,
    /// Bytes of history that they add to a block.
    pub(super) bytes: u64,
    /// CPU time of applying their blocks, signatures checked.
    pub(super) apply: Duration,
}

/// What blocks cost so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Blocks.
    pub(super) block_count: u64,
    /// Encoded bytes of the blocks.
    pub(super) bytes: u64,
    /// Bytes of blocks without transactions.
    pub(super) header_bytes: u64,
    /// By kind.
    pub(super) kinds: BTreeMap<Kind, OfKind>,
    /// CPU time of checking the verdicts.
    pub(super) judge: Duration,
    /// CPU time of making the proofs.
    pub(super) prove: Duration,
    /// Bytes of the proofs, which history does not keep.
    pub(super) witness_bytes: u64,
    /// Bytes of the largest proof.
    pub(super) witness_bytes_max: u64,
}

impl Tally {
    /// Checks a block's verdicts and applies it as a validator does.
    pub(super) fn apply(
        &mut self,
        network: &mut Network,
        (kind, block): (Kind, &Block),
        witnesses: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<()> {
        let encoded = count(block.encode().len());
        let header = Block {
            txs: Default::default(),
            verdicts: Default::default(),
            ..block.clone()
        };
        let header = count(header.encode().len());
        let start = thread_cpu_time();
        network
            .state
            .check_verdicts(block, |digest| witnesses.get(&digest).map(Vec::as_slice))?;
        let judged = thread_cpu_time();
        let effects = network.state.apply(block)?;
        let applied = thread_cpu_time();
        all_done(&effects)?;
        ensure!(
            block.verdicts.len() == witnesses.len(),
            "every proof has its witness"
        );
        self.judge += judged.saturating_sub(start);
        self.block_count += 1;
        self.bytes += encoded;
        self.header_bytes += header;
        let of_kind = self.kinds.entry(kind).or_default();
        of_kind.count += count(block.txs.len());
        of_kind.bytes += encoded.saturating_sub(header);
        of_kind.apply += applied.saturating_sub(judged);
        Ok(())
    }

    /// CPU time of applying all blocks.
    pub(super) fn apply_time(&self) -> Duration {
        self.kinds.values().map(|kind| kind.apply).sum()
    }

    /// Of a kind; nothing when there was none.
    pub(super) fn of(&self, kind: Kind) -> OfKind {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }
}

/// Hours of a month.
const MONTH: f64 = 730.0;

/// An outcome as tables.
pub(super) fn reports(outcome: &Outcome) -> Vec<Report> {
    vec![history(outcome), per_unit(outcome), validator(outcome)]
}

fn history(outcome: &Outcome) -> Report {
    let Outcome {
        settings, tally, ..
    } = outcome;
    let title = format!(
        "History of {} nodes with {} TB in {} groups for {} hours, {} groups revised an hour: a day",
        settings.node_count,
        real(outcome.slot_bytes / 1_000_000_000) / 1e3,
        outcome.group_count,
        settings.hours,
        settings.revised,
    );
    let mut report = Report::new(title, &["what", "count", "bytes each", "MB"]);
    let days = days(settings);
    let mut row = |name: &str, number: u64, bytes: u64| {
        let each = real(bytes) / real(number.max(1));
        report.push(vec![
            name.to_owned(),
            format!("{:.0}", real(number) / days),
            format!("{each:.1}"),
            format!("{:.3}", real(bytes) / days / 1e6),
        ]);
    };
    let kinds = [
        ("proofs", Kind::Proofs),
        ("revisions", Kind::Revisions),
        ("acknowledgements", Kind::Acknowledgements),
    ];
    for (name, kind) in kinds {
        let found = tally.of(kind);
        row(name, found.count, found.bytes);
    }
    row("blocks without them", tally.block_count, tally.header_bytes);
    row("all of history", tally.block_count, tally.bytes);
    row(
        "witnesses, not kept",
        tally.of(Kind::Proofs).count,
        tally.witness_bytes,
    );
    report
}

fn per_unit(outcome: &Outcome) -> Report {
    let Outcome {
        settings, tally, ..
    } = outcome;
    let mut report = Report::new("Bytes of history, measured", &["per", "bytes"]);
    let mut row = |name: &str, bytes: f64| {
        report.push(vec![name.to_owned(), format!("{bytes:.1}")]);
    };
    let months = real(u64::from(settings.hours)) / MONTH;
    let terabytes = real(outcome.slot_bytes) / 1e12;
    let proofs = tally.of(Kind::Proofs);
    let revisions = tally.of(Kind::Revisions);
    let acknowledged = tally.of(Kind::Acknowledgements);
    let writing = real(revisions.bytes + acknowledged.bytes);
    let node_epochs = real(u64::from(settings.node_count) * u64::from(settings.hours));
    row(
        "TB of slots and month",
        real(tally.bytes) / terabytes / months,
    );
    row(
        "TB of user data and month",
        2.0 * real(tally.bytes) / terabytes / months,
    );
    row("node and epoch", real(tally.bytes) / node_epochs);
    row(
        "node and epoch, proofs alone",
        real(proofs.bytes) / node_epochs,
    );
    row(
        "node and month, proofs alone",
        real(proofs.bytes) / node_epochs * MONTH,
    );
    let of_revision = writing / real(revisions.count.max(1));
    row("revision with its acknowledgements", of_revision);
    let header = real(tally.header_bytes) / real(tally.block_count);
    let tx_count = tally.kinds.values().map(|kind| kind.count).sum();
    let txs = real(tx_count);
    let spread = real(tally.bytes - tally.header_bytes) + header * txs;
    row(
        "day, if every transaction had a block of its own",
        spread / days(settings),
    );
    report
}

fn validator(outcome: &Outcome) -> Report {
    let Outcome {
        settings, tally, ..
    } = outcome;
    let mut report = Report::new("A validator", &["what", "figure"]);
    let mut row = |name: &str, figure: String| report.push(vec![name.to_owned(), figure]);
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let each = |time: Duration, number: u64| millis(time) / real(number.max(1));
    let days = days(settings);
    let proofs = tally.of(Kind::Proofs);
    let seconds = (tally.judge + tally.apply_time()).as_secs_f64();
    row("CPU a day", format!("{:.1} s", seconds / days));
    row(
        "of that judging proofs",
        format!("{:.1} s", tally.judge.as_secs_f64() / days),
    );
    row(
        "of that applying blocks, signatures checked",
        format!("{:.1} s", tally.apply_time().as_secs_f64() / days),
    );
    row(
        "judging a proof",
        format!("{:.3} ms", each(tally.judge, proofs.count)),
    );
    row(
        "applying a proof with its payment",
        format!("{:.3} ms", each(proofs.apply, proofs.count)),
    );
    row(
        "making a proof, shards generated",
        format!("{:.3} ms", each(tally.prove, proofs.count)),
    );
    row(
        "bytes of a proof, at most",
        tally.witness_bytes_max.to_string(),
    );
    row("proofs found valid", outcome.proven.to_string());
    let (before, after) = outcome.state_bytes;
    let mega = |bytes: u64| format!("{:.2} MB", real(bytes) / 1e6);
    row("state before, encoded", mega(before));
    row("state after, encoded", mega(after));
    row(
        "state after for each slot",
        format!("{:.0} B", real(after) / real(outcome.group_count * 40)),
    );
    row(
        "encoding the state",
        format!("{:.1} ms", millis(outcome.encode)),
    );
    report
}
