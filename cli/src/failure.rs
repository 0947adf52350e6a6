//! What a command ends with when it does not do what was asked: a kind, which is the exit code; a
//! chain of causes; and the next thing to type.

use std::fmt;
use std::process::ExitCode;

use cairn_core::Blame;

/// Why a command failed, and so its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureKind {
    /// What was asked for is not so: no such file, bytes that can't be had.
    NotSo,
    /// The command line, a config file or a key file is wrong.
    Usage,
    /// The network or a node does not do its part.
    Network,
    /// This machine's disk does not.
    Storage,
}

impl FailureKind {
    /// The process's exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::NotSo => 1,
            Self::Usage => 2,
            Self::Network => 3,
            Self::Storage => 4,
        }
    }

    /// The kind of a failure that the library lays to `blame`.
    pub(crate) const fn of(blame: Blame) -> Self {
        match blame {
            Blame::Caller => Self::NotSo,
            Blame::Us => Self::Usage,
            Blame::Peer | Blame::World => Self::Network,
        }
    }
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: FailureKind,
    error: anyhow::Error,
    /// What each of several parts met, when the error sums them up.
    details: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// A failure with a cause.
    pub(crate) fn new(kind: FailureKind, error: impl Into<anyhow::Error>) -> Self {
        Self {
            kind,
            error: error.into(),
            details: Vec::new(),
            hint: None,
        }
    }

    /// A failure that is its own cause.
    pub(crate) fn say(kind: FailureKind, text: impl fmt::Display) -> Self {
        Self::new(kind, anyhow::anyhow!("{text}"))
    }

    /// With the next thing to type.
    #[must_use]
    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// With what each of several parts met.
    #[must_use]
    pub(crate) fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// With what was being done.
    #[must_use]
    pub(crate) fn while_doing(mut self, text: impl fmt::Display) -> Self {
        self.error = self.error.context(text.to_string());
        self
    }

    /// The kind.
    pub(crate) const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }

    /// The error and its causes on one line.
    pub(crate) fn cause(&self) -> String {
        format!("{:#}", self.error)
    }

    /// As JSON: error, causes, hint and exit code.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let causes: Vec<String> = self
            .error
            .chain()
            .skip(1)
            .map(ToString::to_string)
            .collect();
        serde_json::json!({
            "error": self.error.to_string(),
            "causes": causes,
            "details": self.details,
            "hint": self.hint,
            "exit_code": self.kind.code(),
        })
    }
}

impl fmt::Display for Failure {
    /// `error: what failed`, a line for each cause and detail, `hint: what to type`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.error)?;
        for cause in self.error.chain().skip(1) {
            write!(f, "\n  because {cause}")?;
        }
        for detail in &self.details {
            write!(f, "\n  {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Says which kind of failure an error is.
pub(crate) trait OrFail<T> {
    /// The value, or a failure of `kind` while doing `what`.
    fn or_fail(self, kind: FailureKind, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrFail<T> for Result<T, E> {
    fn or_fail(self, kind: FailureKind, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(kind, error).while_doing(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_from_the_outside_in_and_ends_with_the_hint() {
        let cause = std::io::Error::other("no medium");
        let failure = Failure::new(FailureKind::Storage, cause)
            .while_doing("the key file can't be written")
            .hint("free some room");
        let text =
            "error: the key file can't be written\n  because no medium\nhint: free some room";
        assert_eq!(failure.to_string(), text);
        let json = failure.to_json();
        assert_eq!(json["exit_code"], 4);
        assert_eq!(json["causes"][0], "no medium");
    }

    #[test]
    fn exit_codes_are_those_of_the_style() {
        let codes = [
            (FailureKind::NotSo, 1),
            (FailureKind::Usage, 2),
            (FailureKind::Network, 3),
            (FailureKind::Storage, 4),
        ];
        for (kind, code) in codes {
            assert_eq!(kind.code(), code);
        }
    }
}
