//! What a command says: data to standard output, everything else to standard error.
//!
//! Progress is drawn on terminals only and never with `--quiet` or `--json`. Colour carries no
//! meaning; `NO_COLOR` turns it off.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::{Failure, FailureKind};

/// How often a progress line is drawn again at most, per second.
const DRAWS_PER_SECOND: u8 = 8;

/// The form of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON value.
    Json,
}

/// How much is said beside the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loudness {
    /// Errors only.
    Quiet,
    /// Notes and progress too.
    Normal,
}

/// Where a command speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    loudness: Loudness,
}

impl Output {
    /// An output of this form and loudness.
    pub(crate) const fn new(format: Format, loudness: Loudness) -> Self {
        Self { format, loudness }
    }

    /// Prints the data asked for: `value` as JSON, or the lines that `text` makes.
    ///
    /// # Errors
    ///
    /// When standard output is closed.
    pub(crate) fn answer<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let mut line = match self.format {
            Format::Json => serde_json::to_string(value)
                .map_err(|error| Failure::new(FailureKind::Usage, error))?,
            Format::Text => text(),
        };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        write_out(line.as_bytes())
    }

    /// Says something that is not data.
    pub(crate) fn note(&self, text: &str) {
        if self.loudness == Loudness::Normal {
            complain(text);
        }
    }

    /// Says why the command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        match self.format {
            Format::Text => complain(&failure.to_string()),
            Format::Json => complain(&failure.to_json().to_string()),
        }
    }

    /// A progress line over `total` bytes, or over an unknown number of them.
    pub(crate) fn progress(&self, label: &'static str, total: Option<u64>) -> Progress {
        let shown = self.loudness == Loudness::Normal
            && self.format == Format::Text
            && io::stderr().is_terminal();
        let target = if shown {
            ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND)
        } else {
            ProgressDrawTarget::hidden()
        };
        let template = match total {
            Some(_) => {
                "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
            }
            None => "{msg} {binary_bytes} {binary_bytes_per_sec}",
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        let line = ProgressBar::with_draw_target(total, target).with_style(style);
        line.set_message(label);
        if shown {
            line.enable_steady_tick(Duration::from_millis(250));
        }
        Progress { line }
    }
}

/// A progress line; gone when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    line: ProgressBar,
}

impl Progress {
    /// Shows that `bytes` are done in all.
    pub(crate) fn at(&self, bytes: u64) {
        self.line.set_position(bytes);
    }

    /// Says something while the line is drawn.
    pub(crate) fn note(&self, output: Output, text: &str) {
        self.line.suspend(|| output.note(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

/// Writes data to standard output.
///
/// # Errors
///
/// When it is closed: whoever reads has seen enough or is gone.
pub(crate) fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| {
            Failure::new(FailureKind::Storage, error)
                .while_doing("standard output can't be written")
        })
}

/// A number of things, in words that fit it.
pub(crate) fn count<N: Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let word = if number == N::from(1) { one } else { many };
    format!("{number} {word}")
}

/// Writes a line to standard error; a closed one is no reason to stop.
pub(crate) fn complain(text: &str) {
    let mut line = text.to_owned();
    line.push('\n');
    io::stderr().write_all(line.as_bytes()).ok();
}
