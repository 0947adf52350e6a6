//! What a command ends with when it does not do what was asked: a kind, which is the exit code; a
//! chain of causes; and the next thing to type.

use std::process::ExitCode;
use std::{fmt, io};

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
    /// Ctrl-C stopped the command.
    Interrupted,
    /// SIGTERM did.
    Terminated,
}

impl FailureKind {
    /// The process's exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::NotSo => 1,
            Self::Usage => 2,
            Self::Network => 3,
            Self::Storage => 4,
            // As the shell says it: 128 and the signal's number.
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// Whether a signal stopped the command.
    pub(crate) const fn is_stop(self) -> bool {
        matches!(self, Self::Interrupted | Self::Terminated)
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
    /// Whether it is a stream of bytes to standard output that failed.
    is_stream: bool,
}

impl Failure {
    /// A failure with a cause.
    pub(crate) fn new(kind: FailureKind, error: impl Into<anyhow::Error>) -> Self {
        Self {
            kind,
            error: error.into(),
            details: Vec::new(),
            hint: None,
            is_stream: false,
        }
    }

    /// Standard output does not take the bytes of a file.
    pub(crate) fn stream(error: io::Error) -> Self {
        Self {
            is_stream: true,
            ..Self::new(FailureKind::Storage, error).while_doing("standard output can't be written")
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

    /// With the next thing to type, unless there is a better one already.
    #[must_use]
    pub(crate) fn hint_otherwise(self, text: &str) -> Self {
        match self.hint {
            Some(_) => self,
            None => self.hint(text),
        }
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

    /// Whether all that failed is that nobody reads the bytes of the file any more.
    pub(crate) fn is_closed_stream(&self) -> bool {
        self.is_stream
            && self.error.chain().any(|cause| {
                cause
                    .downcast_ref::<io::Error>()
                    .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
            })
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
        let mut text = self.error.to_string();
        for cause in self.causes() {
            text.push_str(": ");
            text.push_str(&cause);
        }
        text
    }

    /// The causes, from the outside in, without those that the error above them says itself.
    fn causes(&self) -> Vec<String> {
        let mut said = self.error.to_string();
        let mut causes = Vec::new();
        for cause in self.error.chain().skip(1).map(ToString::to_string) {
            if !said.contains(&cause) {
                said.clone_from(&cause);
                causes.push(cause);
            }
        }
        causes
    }

    /// As JSON: error, causes, hint and exit code.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": self.error.to_string(),
            "causes": self.causes(),
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
        for cause in self.causes() {
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
        let cause = io::Error::other("no medium");
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
    fn nothing_is_said_twice() {
        let cause = io::Error::other("no medium");
        let failure = Failure::new(FailureKind::Storage, cause)
            .while_doing("lock: no medium")
            .while_doing("the folder is in use");
        assert_eq!(failure.cause(), "the folder is in use: lock: no medium");
        assert_eq!(failure.to_json()["causes"].as_array().unwrap().len(), 1);
        let shown = failure.hint("first").hint_otherwise("second").to_string();
        assert!(shown.ends_with("hint: first"), "{shown}");
    }

    #[test]
    fn exit_codes_are_those_of_the_style() {
        let codes = [
            (FailureKind::NotSo, 1),
            (FailureKind::Usage, 2),
            (FailureKind::Network, 3),
            (FailureKind::Storage, 4),
            (FailureKind::Interrupted, 130),
            (FailureKind::Terminated, 143),
        ];
        for (kind, code) in codes {
            assert_eq!(kind.code(), code);
        }
    }
}
