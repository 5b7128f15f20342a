//! The databases that load and checker know, and the little that both ask of each. Owns the choice and the common words; how a
//! server is spoken to is in the clients' modules, and `client` chooses one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::journal::Outcome;
use crate::operation::Place;

/// Which database the load writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Database {
    /// Redis or Valkey.
    #[default]
    Redis,
    /// MySQL, Percona Server or MariaDB.
    MySql,
}

impl Database {
    /// All of them.
    pub const ALL: [Database; 2] = [Database::Redis, Database::MySql];

    /// The word for it on the command line, in file names and in journals.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Database::Redis => "redis",
            Database::MySql => "mysql",
        }
    }

    /// The port of its servers.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Database::Redis => 6379,
            Database::MySql => 3306,
        }
    }

    /// The address that its clients use in the lab, as the snippets have it.
    #[must_use]
    pub fn address(self) -> &'static str {
        match self {
            Database::Redis => "192.0.2.100:6379",
            Database::MySql => "192.0.2.101:3306",
        }
    }

    /// Time for an answer. A commit of MySQL waits for disks.
    pub(crate) fn answer(self) -> Duration {
        Duration::from_millis(match self {
            Database::Redis => 300,
            Database::MySql => 500,
        })
    }

    /// How long a client stays away after `unanswered` writes in a row without an answer. A commit that waits for a replica stays in MySQL,
    /// with its connection, when its client is gone and even when it is killed: who came back at once each time would use them all up.
    pub(crate) fn patience(self, unanswered: u32) -> Duration {
        match (self, unanswered) {
            (Database::Redis, _) | (_, 0 | 1) => Duration::from_millis(10),
            (Database::MySql, n) => Duration::from_millis(250 << (n - 2).min(3)),
        }
    }

    /// The same for a prober. Nobody measures an outage by it, so it can always stay away for long.
    pub(crate) fn probers_patience(self) -> Duration {
        match self {
            Database::Redis => Duration::ZERO,
            Database::MySql => Duration::from_secs(1),
        }
    }
}

/// How to reach the servers, and how long to wait for them.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) database: Database,
    /// Redis has none.
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    /// Time to connect; the system's own without it, which is minutes.
    pub(crate) connect: Option<Duration>,
    /// Time for each answer.
    pub(crate) answer: Duration,
    /// Redis: how many replicas shall confirm a write (`WAIT`), and its timeout in milliseconds.
    pub(crate) wait: (u32, u32),
}

impl Access {
    /// The same with the system's own patience. The limit for an answer is there for servers that are gone for good: a load ends.
    pub(crate) fn patient(&self) -> Access {
        Access { connect: None, answer: Duration::from_secs(30), ..self.clone() }
    }
}

/// A write of a load: key and value follow from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write<'a> {
    /// The load's run.
    pub(crate) run: &'a str,
    /// Writer.
    pub(crate) t: u32,
    /// Its sequence number.
    pub(crate) n: u64,
}

impl Write<'_> {
    /// How a write is called in verdicts; in Redis it is the key.
    pub(crate) fn key(&self) -> String {
        format!("w:{}:{}:{}", self.run, self.t, self.n)
    }

    /// What is stored.
    pub(crate) fn value(&self) -> String {
        format!("{}:{}", self.t, self.n)
    }
}

/// What one node holds of a run, and where its replication stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) node: String,
    /// [`Write::key`] to value.
    pub(crate) data: BTreeMap<String, String>,
    /// Whether it is a primary: takes writes.
    pub(crate) primary: bool,
    /// Why it does not replicate, when it should and does not.
    pub(crate) broken: Option<String>,
    /// Where it stands, so that the same data have the same text.
    pub(crate) position: String,
    /// What changes while it gets on to another position: what it has received, and how much of that it has applied.
    pub(crate) progress: String,
}

/// A connection to one server.
pub(crate) trait Session {
    /// Who answers: a text that no other node's server has.
    fn server(&self) -> &str;

    /// Makes what the writes need, through a primary; an error is in words.
    fn prepare(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// One write, and what its client knows of it then. No retries.
    fn write(&mut self, write: &Write<'_>) -> (Outcome, Option<String>);

    /// Makes what the operations on lists and registers need, through a primary; an error is in words.
    fn prepare_objects(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Appends to a list, or writes a register. No retries.
    fn change(&mut self, place: &Place<'_>, value: u64) -> Outcome;

    /// Reads a list or a register. What was read counts when the answer is `Ok`: then no failover takes it back, as far as the servers
    /// promise that of a write.
    fn look(&mut self, place: &Place<'_>) -> (Outcome, Option<Vec<u64>>);

    /// The write of a prober, in a place of its own.
    fn probe(&mut self, run: &str, node: &str, n: u64) -> (Outcome, Option<String>);

    /// What the server holds of a run; an error is in words.
    fn holdings(&mut self, run: &str) -> Result<Holdings, String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_primary_is_not_asked_ever_faster_nor_never_again() {
        let pauses: Vec<u128> = (0..7).map(|n| Database::MySql.patience(n).as_millis()).collect();
        assert_eq!(pauses, [10, 10, 250, 500, 1000, 2000, 2000]);
    }
}
