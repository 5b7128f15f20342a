//! Exit codes, and failures that say what an operator can do.

use std::fmt;

/// Why an action failed, as Pacemaker distinguishes it.
///
/// 0, 7 and 8 are missing on purpose: they are no failures. 7 and 8 can only come from a monitor ([`crate::Status`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The instance is broken; Pacemaker recovers it.
    Generic,
    /// The call itself makes no sense.
    Arguments,
    /// The action does not exist.
    Unimplemented,
    /// Something on this node has the wrong owner or mode; Pacemaker bans the node.
    Permission,
    /// Something is missing on this node; Pacemaker bans the node.
    Installed,
    /// The configuration is wrong on every node; Pacemaker stops the resource everywhere.
    Configured,
    /// The promoted instance is broken. Only a monitor says so.
    FailedPromoted,
}

impl Code {
    /// The process exit status.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Generic => 1,
            Self::Arguments => 2,
            Self::Unimplemented => 3,
            Self::Permission => 4,
            Self::Installed => 5,
            Self::Configured => 6,
            Self::FailedPromoted => 9,
        }
    }
}

/// A failure with its reason: lower case, naming the object, the fact and the remedy. It never holds a secret.
///
/// One with [`Code::Configured`] stops the resource on all nodes, so it can only be made from what is the same on all of them: by
/// [`crate::Values::contradiction`], and by [`crate::Environment::without_notify`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    code: Code,
    /// What the operator is told.
    pub reason: String,
}

/// What every action but `monitor` returns.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure of this instance.
    pub fn generic(reason: impl Into<String>) -> Self {
        Self { code: Code::Generic, reason: reason.into() }
    }

    /// Something is missing on this node.
    pub fn installed(reason: impl Into<String>) -> Self {
        Self { code: Code::Installed, reason: reason.into() }
    }

    /// An owner or mode on this node forbids the action.
    pub fn permission(reason: impl Into<String>) -> Self {
        Self { code: Code::Permission, reason: reason.into() }
    }

    /// The resource's configuration is wrong on every node.
    pub(crate) fn configured(reason: impl Into<String>) -> Self {
        Self { code: Code::Configured, reason: reason.into() }
    }

    /// The promoted instance is broken.
    pub fn promoted(reason: impl Into<String>) -> Self {
        Self { code: Code::FailedPromoted, reason: reason.into() }
    }
}

impl Failure {
    /// What Pacemaker is told.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The same failure with more to say.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    /// The same failure as one of this node alone: elsewhere instances run, and they must not be stopped for it.
    pub(crate) fn of_this_node(self) -> Self {
        Self { code: if self.code == Code::Configured { Code::Installed } else { self.code }, ..self }
    }
}

/// A user who does not exist keeps a node from running the resource until an operator has made one. A user database that does not answer
/// does so on all nodes at once, and passes: nobody is banned for it.
impl From<process::UnknownAccount> for Failure {
    fn from(unknown: process::UnknownAccount) -> Self {
        if unknown.is_missing() { Self::installed(unknown.to_string()) } else { Self::generic(unknown.to_string()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}
