//! Nodes that lie about audits. They prove what they keep: an audit has no part in what they are paid.

use cairn_ledger::AuditReport;

use super::nodes::LyingNode;

/// Proves what it keeps and shows nothing to the nodes that audit it.
#[derive(Clone, Copy, Debug)]
pub struct RefusesAudits;

impl LyingNode for RefusesAudits {
    fn shows_audits(&self) -> bool {
        false
    }
}

/// Says of every node that it was to audit that it failed.
#[derive(Clone, Copy, Debug)]
pub struct LiesAboutAudits;

impl LyingNode for LiesAboutAudits {
    fn report(&self) -> Option<AuditReport> {
        Some(AuditReport {
            passed: 0,
            failed: u8::MAX,
        })
    }
}
