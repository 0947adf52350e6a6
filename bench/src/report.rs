//! Results as a table.

use std::fmt;

/// A table of results with what it needs to be understood.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    /// What was measured, in which unit, on what.
    pub title: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// One cell per column.
    pub rows: Vec<Vec<String>>,
}

impl Report {
    /// An empty table.
    #[must_use]
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            title: title.into(),
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: a cell per column.
    pub fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

/// As a Markdown table.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title)?;
        writeln!(f, "| {} |", self.columns.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.columns.len()))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}
