//! GTID sets: what a server has executed or received, as text and as an algebra. Pure: no clock, no environment, no I/O.
//!
//! MySQL counts sets (`uuid:1-5`), MariaDB says how far each server wrote in each domain (`0-1-100`). The rest of the
//! agent asks both the same questions through [`Gtids`].

mod mariadb;
mod mysql;

use std::fmt;

pub(crate) use mariadb::MariaDbState;
pub(crate) use mysql::MySqlSet;

/// Whose notation a text is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flavour {
    /// MySQL and Percona Server: `uuid:1-5`.
    MySql,
    /// MariaDB: `domain-server-sequence`.
    MariaDb,
}

/// What a server holds. Nothing is nothing in both notations, so the empty set has a form of its own; build one with
/// [`Gtids::parse`] or `From`, which see to that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Gtids {
    /// Nothing.
    #[default]
    Empty,
    /// A set of MySQL's, not empty.
    MySql(MySqlSet),
    /// A state of MariaDB's, not empty.
    MariaDb(MariaDbState),
}

impl From<MySqlSet> for Gtids {
    fn from(set: MySqlSet) -> Self {
        if set.is_empty() { Self::Empty } else { Self::MySql(set) }
    }
}

impl From<MariaDbState> for Gtids {
    fn from(state: MariaDbState) -> Self {
        if state.is_empty() { Self::Empty } else { Self::MariaDb(state) }
    }
}

impl Gtids {
    /// Reads what a server of this flavour says. White space and line ends do not matter.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn parse(text: &str, flavour: Flavour) -> Result<Self, String> {
        match flavour {
            Flavour::MySql => MySqlSet::parse(text).map(Self::from),
            Flavour::MariaDb => MariaDbState::parse(text).map(Self::from),
        }
    }

    /// Reads a text of unknown flavour: one that was written here into a record or a position. A MySQL set has colons
    /// and MariaDB's has none.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn parse_any(text: &str) -> Result<Self, String> {
        Self::parse(text, if text.contains(':') { Flavour::MySql } else { Flavour::MariaDb })
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::Empty
    }

    /// Whether everything of `other` is in here. What another flavour counts is not.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Empty) => true,
            (Self::MySql(mine), Self::MySql(other)) => mine.contains(other),
            (Self::MariaDb(mine), Self::MariaDb(other)) => mine.contains(other),
            _ => false,
        }
    }

    /// Both together. Of two flavours, which no replication mixes, the first remains.
    pub(crate) fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Empty, other) => other.clone(),
            (Self::MySql(mine), Self::MySql(other)) => mine.union(other).into(),
            (Self::MariaDb(mine), Self::MariaDb(other)) => mine.merge(other).into(),
            _ => self.clone(),
        }
    }

    /// What is in here and not in `other`, for a sentence. `None` when there is nothing.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::Empty, _) => None,
            (Self::MySql(mine), Self::MySql(other)) => Some(mine.difference(other)).filter(|d| !d.is_empty()).map(|d| d.to_string()),
            (Self::MariaDb(mine), Self::MariaDb(other)) => mine.difference(other),
            _ => Some(self.to_string()),
        }
    }

    /// How many transactions are in here and not in `other`, for people. `None` when that cannot be counted: the two are of different kinds, or
    /// (MariaDB) went different ways.
    pub(crate) fn count_beyond(&self, other: &Self) -> Option<u64> {
        match (self, other) {
            (Self::Empty, _) => Some(0),
            (Self::MySql(mine), Self::MySql(other)) => Some(mine.difference(other).count()),
            (Self::MySql(mine), Self::Empty) => Some(mine.count()),
            (Self::MariaDb(mine), Self::MariaDb(other)) => mine.count_beyond(other),
            (Self::MariaDb(mine), Self::Empty) => mine.count_beyond(&MariaDbState::default()),
            _ => None,
        }
    }

    /// What `server` itself wrote and `history` has, and a replica with this set would still have to be sent. It never gets that: a receiver
    /// passes over what bears its own `server_id`. `None` when there is nothing.
    pub(crate) fn own_to_come(&self, history: &Self, server: &str) -> Option<String> {
        match (self, history) {
            (Self::MySql(mine), Self::MySql(history)) => {
                Some(history.by(server).difference(mine)).filter(|d| !d.is_empty()).map(|d| d.to_string())
            }
            (Self::Empty, Self::MySql(history)) => Some(history.by(server)).filter(|d| !d.is_empty()).map(|d| d.to_string()),
            (Self::MariaDb(mine), Self::MariaDb(history)) => mine.own_to_come(history, server),
            (Self::Empty, Self::MariaDb(history)) => MariaDbState::default().own_to_come(history, server),
            (_, Self::Empty) | (Self::MySql(_), Self::MariaDb(_)) | (Self::MariaDb(_), Self::MySql(_)) => None,
        }
    }

    /// What a replica holds although the primary `server` neither had it (`base`) nor wrote it. `None` when there is
    /// nothing.
    pub(crate) fn errant(&self, base: &Self, server: &str) -> Option<String> {
        match self {
            Self::Empty => None,
            Self::MySql(mine) => {
                let known = if let Self::MySql(base) = base { mine.difference(base) } else { mine.clone() };
                Some(known.difference(&known.by(server))).filter(|d| !d.is_empty()).map(|d| d.to_string())
            }
            Self::MariaDb(mine) => {
                let nothing = MariaDbState::default();
                mine.errant(if let Self::MariaDb(base) = base { base } else { &nothing }, server)
            }
        }
    }

    /// Whether a server that holds this may give one of these names to what it writes next. MySQL's do not: they get another `server_uuid` when
    /// names were given up. `own`: the domain that it writes in (MariaDB).
    pub(crate) fn may_give_again(&self, names: &Self, own: u32) -> bool {
        match (self, names) {
            (Self::MariaDb(mine), Self::MariaDb(names)) => mine.is_behind(names, own),
            (Self::Empty, Self::MariaDb(names)) => MariaDbState::default().is_behind(names, own),
            _ => false,
        }
    }

    /// What it holds, with what `history` knows of the time before a backup that it was made from (MariaDB).
    pub(crate) fn with_history(&self, history: &Self) -> Self {
        match (self, history) {
            (Self::MariaDb(mine), Self::MariaDb(theirs)) => Self::MariaDb(mine.with_history(theirs)),
            _ => self.clone(),
        }
    }

    /// All but what is errant: see [`Self::errant`].
    pub(crate) fn explained(&self, base: &Self, server: &str) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::MySql(mine) => {
                let unknown = if let Self::MySql(base) = base { mine.difference(base) } else { mine.clone() };
                mine.difference(&unknown.difference(&unknown.by(server))).into()
            }
            Self::MariaDb(mine) => {
                let nothing = MariaDbState::default();
                mine.explained(if let Self::MariaDb(base) = base { base } else { &nothing }, server).into()
            }
        }
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::MySql(set) => set.fmt(f),
            Self::MariaDb(state) => state.fmt(f),
        }
    }
}

/// The beginning of a text that may be of any length, for a message.
fn beginning(text: &str) -> String {
    text.trim().chars().take(80).collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
