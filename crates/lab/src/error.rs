//! The lab's error type: what failed, on which object, and what to do.
//! Owns no recovery; callers decide whether to go on.

use std::io;
use std::time::Duration;

/// Everything that can go wrong in the lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, socket or system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The object and the attempt, for example `write /run/x`.
        what: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program ran and did not succeed.
    #[error("{command}: {outcome}{}", detail(.stderr))]
    Command {
        /// The command line.
        command: String,
        /// Exit status in words.
        outcome: String,
        /// What it said on standard error (and output when that is empty).
        stderr: String,
    },
    /// The request cannot be met; the text says why and what helps.
    #[error("{0}")]
    Refused(String),
    /// A condition was waited for in vain.
    #[error("{what}: not reached within {:.1} s; last seen: {last}", .after.as_secs_f64())]
    Timeout {
        /// The condition in words.
        what: String,
        /// How long it was waited for.
        after: Duration,
        /// The last state seen, for the reader of a failed test.
        last: String,
    },
    /// Clean-up went on after errors; here they all are.
    #[error("lab {lab} is not cleaned up completely: {}", .problems.join("; "))]
    CleanUp {
        /// The lab's name.
        lab: String,
        /// One sentence each.
        problems: Vec<String>,
    },
}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;

fn detail(stderr: &str) -> String {
    let text = stderr.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// Names the object of a failed call.
pub(crate) trait Context<T> {
    /// Turns the error into [`Error::Io`] with `what` in front.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Io { what: what(), source: errno.into() })
    }
}

impl<T> Context<T> for serde_json::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}
