//! How the primary of MySQL or MariaDB is lost, and what becomes of its server: whether it had what nobody else has, how it rejoined, and
//! whether all servers are equal then.

use std::iter::Sum;
use std::ops::Add;
use std::time::{Duration, Instant};

use lab::{Cut, Error, LoadOptions, Node, Result, host};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::mysql;
use crate::site::Site;

/// How long before its power the network of a node is cut. A commit that is under way then is written into the primary's log, and nobody
/// receives it.
const CUT_BEFORE: Duration = Duration::from_millis(250);
/// Until another node is promoted.
const FAILOVER: Duration = Duration::from_secs(60);
/// Some commits are under way at any moment.
const WRITERS: u32 = 8;

/// Where a server keeps what only it had, and notes.
const KEPT: &str = "/var/lib/mysql.systole-kept";
/// What of that is no note: transactions that were taken back, and the binary logs of data that were replaced.
const WHAT_ONLY_IT_HAD: &str = "\\( -name 'taken-back-*' -o -name 'binlog.*' \\)";
/// The note of a primary without which nothing of its reign is taken back. Its first monitor writes it.
const REIGN: &str = "/var/lib/mysql.systole-kept/reign";
/// What our agent says when the data of a server were replaced.
const COPIED: &str = "the data are a copy of";
/// What it says when nothing is left of what only that server had.
const TAKEN_BACK: &str = "transactions were taken back, and all their rows are as on";
/// The tables that clients write to.
const TABLES: &str = "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables WHERE table_type='BASE TABLE' \
     AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') ORDER BY 1";

/// How a primary is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// `kill -9` of its server.
    Kill,
    /// A power cut of its node, with the network cut a moment before.
    PowerCut,
}

impl Loss {
    /// In the tables of the benchmark.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::PowerCut => "network cut, power cut",
        }
    }

    /// Loses the primary. Returns when another one is promoted, and the power is back.
    ///
    /// # Errors
    /// When there is no primary, or no other one.
    pub fn strike(self, site: &Site) -> Result<Lost> {
        let node = site.primary()?;
        for one in site.lab.nodes() {
            one.sh(&format!("find {KEPT} -type f {WHAT_ONLY_IT_HAD} -delete 2>/dev/null; true"))?;
        }
        let copies = copies(site, &node)?;
        let returning_us = match self {
            Self::Kill => {
                let now = host::monotonic_us();
                node.kill(site.server().process, Signal::SIGKILL)?;
                site.wait_moved(&node, FAILOVER)?;
                now
            }
            Self::PowerCut => {
                let begun = Instant::now();
                site.lab.cut(&Cut::cable(&node.name))?;
                std::thread::sleep(CUT_BEFORE.saturating_sub(begun.elapsed()));
                node.power_off()?;
                site.lab.heal(Some(&node.name))?;
                site.wait_moved(&node, FAILOVER)?;
                site.lab.power_back(&node)?;
                powered_on_us(site, &node)?
            }
        };
        Ok(Lost { node, returning_us, copies })
    }
}

/// When the node got its power last, by the story of the lab.
fn powered_on_us(site: &Site, node: &Node) -> Result<u64> {
    let (events, words) = (site.lab.paths().read_events()?, format!("power on {}", node.name));
    let last = events.iter().rev().find(|event| event.text == words);
    last.map(|event| event.at_us).ok_or_else(|| Error::Refused(format!("the lab does not say when {} got its power", node.name)))
}

/// How often the data of a node's server were replaced.
fn copies(site: &Site, node: &Node) -> Result<usize> {
    Ok(Rejoined::of(&site.log_of(node)?).copied)
}

/// How often servers that had what the primary does not have have rejoined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejoined {
    /// By taking it back.
    pub taken_back: usize,
    /// By a copy of the primary's data.
    pub copied: usize,
}

impl Rejoined {
    /// What the log of a node says.
    #[must_use]
    pub fn of(log: &str) -> Self {
        let count = |words: &str| log.lines().filter(|line| line.contains(words)).count();
        Self { taken_back: count(TAKEN_BACK), copied: count(COPIED) }
    }

    /// Without those of before.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let (taken_back, copied) = (self.taken_back.saturating_sub(before.taken_back), self.copied.saturating_sub(before.copied));
        Self { taken_back, copied }
    }
}

impl Add for Rejoined {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { taken_back: self.taken_back + other.taken_back, copied: self.copied + other.copied }
    }
}

impl Sum for Rejoined {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// A primary that was lost.
#[derive(Debug)]
pub struct Lost {
    /// Its node.
    pub node: Node,
    /// When its server could begin to return: the kill, or the power. Microseconds of the monotonic clock.
    pub returning_us: u64,
    copies: usize,
}

/// What became of a server that was the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Became {
    /// Whether it had transactions that nobody else has.
    pub diverged: bool,
    /// How many of them it has taken back, each in a file of its own.
    pub taken_back: usize,
    /// Whether its data were replaced by a copy of the primary's.
    pub copied: bool,
}

impl Became {
    /// Whether it took back what only it had, and needed no copy.
    #[must_use]
    pub fn rewound(self) -> bool {
        self.taken_back > 0 && !self.copied
    }
}

impl Lost {
    /// What became of it. It has rejoined.
    ///
    /// # Errors
    /// When its node does not say.
    pub fn became(&self, site: &Site) -> Result<Became> {
        let kept = self.node.sh(&format!("find {KEPT} -type f {WHAT_ONLY_IT_HAD} 2>/dev/null; true"))?.stdout;
        let taken_back = kept.lines().filter(|path| path.contains("/taken-back-")).count();
        let copied = copies(site, &self.node)? > self.copies;
        Ok(Became { diverged: copied || !kept.trim().is_empty(), taken_back, copied })
    }

    /// How long ago it could begin to return.
    #[must_use]
    pub fn for_ms(&self) -> f64 {
        host::monotonic_us().saturating_sub(self.returning_us) as f64 / 1000.0
    }
}

/// The load beside which primaries are lost.
///
/// # Errors
/// When its password cannot be written.
pub fn load_options(site: &Site) -> Result<LoadOptions> {
    Ok(LoadOptions { writers: WRITERS, ..site.load_options()? })
}

/// Waits until the primary has noted that it reigns: what was written before that is not taken back.
///
/// # Errors
/// When that takes longer than its monitors do.
pub fn wait_noted(site: &Site) -> Result<()> {
    site.lab.wait_for("the primary's note that it reigns", Duration::from_secs(60), || {
        site.primary().is_ok_and(|primary| primary.sh(&format!("test -e {REIGN}")).is_ok())
    })
}

/// Waits until a primary takes writes, and every other node acknowledges them: a node without power does not count as none.
///
/// # Errors
/// When that takes longer.
pub fn wait_whole(site: &Site, limit: Duration) -> Result<()> {
    let others = site.lab.nodes().len() - 1;
    site.lab.wait_for("a primary for which all others acknowledge", limit, || {
        site.primary().is_ok_and(|primary| mysql::attached(site, &primary, others))
    })
}

/// In what the servers differ, by their own checksum of each table that clients write to; `None` when they are equal. Nobody writes meanwhile.
///
/// # Errors
/// When a server does not say.
pub fn difference(site: &Site) -> Result<Option<String>> {
    let nodes = site.lab.nodes();
    let sums = nodes.iter().map(|node| checksums(site, node)).collect::<Result<Vec<_>>>()?;
    let (Some(node), Some(first)) = (nodes.first(), sums.first()) else { return Ok(None) };
    let differs = |(other, sums): (&Node, &Vec<String>)| {
        let line = (0..first.len().max(sums.len())).find(|n| first.get(*n) != sums.get(*n))?;
        let shown = |sums: &[String]| sums.get(line).map_or("nothing", String::as_str).replace('\t', " ");
        Some(format!("{} has {}, {} has {}", node.name, shown(first), other.name, shown(sums)))
    };
    Ok(nodes.iter().zip(&sums).find_map(differs))
}

/// Each table, with its checksum.
fn checksums(site: &Site, node: &Node) -> Result<Vec<String>> {
    let tables = site.sql(node, TABLES)?;
    let list = tables.lines().collect::<Vec<_>>().join(", ");
    if list.is_empty() {
        return Err(Error::Refused(format!("{} has no table that clients write to", node.name)));
    }
    // All rows are read for that.
    let sums = site.sql_within(node, &format!("CHECKSUM TABLE {list}"), Duration::from_secs(600))?;
    Ok(sums.lines().map(str::to_owned).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it saw by panicking")]
mod tests {
    use super::*;

    /// Each sentence that the agent says stands in its page, with these words in the place of its numbers and names.
    #[test]
    fn servers_that_rejoin_are_counted_by_what_the_agent_says() {
        let page = crate::read(&crate::repository().join("docs/mysql.md")).unwrap();
        for words in [TAKEN_BACK, COPIED] {
            assert!(page.contains(words), "{words}");
        }
        let log = "mysql(mysql): notice: 3 transactions are taken back; comparing their rows with those on lxc2\n\
                   mysql(mysql): notice: 3 transactions were taken back, and all their rows are as on lxc2; they are kept in /k\n\
                   mysql(mysql): notice: replacing the data by a copy of lxc1's\n\
                   mysql(mysql): notice: the data are a copy of lxc1's now\n";
        let (once, twice) = (Rejoined::of(log), Rejoined::of(&log.repeat(2)));
        assert_eq!(once, Rejoined { taken_back: 1, copied: 1 });
        assert_eq!([once, once].into_iter().sum::<Rejoined>(), twice);
        assert_eq!(twice.since(once), once);
    }
}
