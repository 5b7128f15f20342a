//! MariaDB's states: for each domain, the newest transaction and how far each server wrote.
//!
//! With `gtid_strict_mode` (which the agent sets) a domain is one sequence: every transaction has a higher number than
//! the one before it, whoever wrote it. So the highest number is the newest transaction, and a server that holds the newest
//! one of another holds all that came before it.

use std::collections::BTreeMap;
use std::fmt;

use super::beginning;

/// One domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Domain {
    /// The newest transaction: server and sequence number.
    head: (u32, u64),
    /// The highest sequence number of each server that is known to have written. Contains the head.
    lineage: BTreeMap<u32, u64>,
}

/// What a MariaDB server holds, read from any of `gtid_binlog_state`, `gtid_binlog_pos`, `gtid_slave_pos`, `gtid_current_pos` and
/// `Gtid_IO_Pos`.
///
/// As text: `0-1-100,0-2-105,1-1-7`. The newest of a domain is the one with the highest number, and of equal ones the
/// last, which is printed last in its domain, as in `gtid_binlog_state`. A server that was seeded from a backup knows its
/// newest transaction alone, and nobody else's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct MariaDbState {
    domains: BTreeMap<u32, Domain>,
}

impl MariaDbState {
    /// Reads a state. White space and empty parts between commas do not matter.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut state = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (domain, server, sequence) =
                parse_gtid(part).ok_or_else(|| format!("GTID {:?} is not of the form domain-server-sequence", beginning(part)))?;
            state.add(domain, server, sequence);
        }
        Ok(state)
    }

    fn add(&mut self, domain: u32, server: u32, sequence: u64) {
        let entry = self.domains.entry(domain).or_insert_with(|| Domain { head: (server, sequence), lineage: BTreeMap::new() });
        let known = entry.lineage.entry(server).or_insert(sequence);
        *known = sequence.max(*known);
        if sequence >= entry.head.1 {
            entry.head = (server, sequence);
        }
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// Whether this very transaction is in here.
    fn has(&self, domain: u32, (server, sequence): (u32, u64)) -> bool {
        self.domains.get(&domain).and_then(|d| d.lineage.get(&server)).is_some_and(|known| *known >= sequence)
    }

    /// Whether everything of `other` is in here: the newest transaction of each domain is.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        other.domains.iter().all(|(domain, theirs)| self.has(*domain, theirs.head))
    }

    /// What was received on top of what was executed. Of two newest transactions with one number, that of `other`
    /// counts, unless it was here already.
    pub(crate) fn merge(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (domain, theirs) in &other.domains {
            let known = self.has(*domain, theirs.head);
            let head = both.domains.get(domain).map(|d| d.head);
            for (server, sequence) in &theirs.lineage {
                both.add(*domain, *server, *sequence);
            }
            let newest = match head {
                Some(mine) if known || mine.1 > theirs.head.1 => mine,
                _ => theirs.head,
            };
            if let Some(entry) = both.domains.get_mut(domain) {
                entry.head = newest;
            }
        }
        both
    }

    /// The newest transactions that `other` does not hold, for a sentence. `None` when there are none.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let missing = self.domains.iter().filter(|(domain, mine)| !other.has(**domain, mine.head));
        list(missing.map(|(domain, mine)| (*domain, mine.head)))
    }

    /// See [`super::Gtids::count_beyond`]. A domain is one sequence, so its newest numbers tell how far one is behind the other, as long as
    /// the newest transaction of the one that is behind is in the other.
    pub(crate) fn count_beyond(&self, other: &Self) -> Option<u64> {
        self.domains.iter().try_fold(0_u64, |sum, (domain, mine)| {
            let missing = match other.domains.get(domain) {
                None => mine.head.1,
                Some(_) if other.has(*domain, mine.head) => 0,
                Some(theirs) if self.has(*domain, theirs.head) => mine.head.1.saturating_sub(theirs.head.1),
                Some(_) => return None,
            };
            Some(sum.saturating_add(missing))
        })
    }

    /// See [`super::Gtids::may_give_again`]. The next number of a domain is the one behind its newest. In one that it holds nothing of it writes
    /// only when that is its own: what somebody once wrote in another must not keep it back for ever.
    pub(crate) fn is_behind(&self, names: &Self, own: u32) -> bool {
        names.domains.iter().any(|(domain, names)| self.domains.get(domain).map_or(*domain == own, |mine| mine.head.1 < names.head.1))
    }

    /// See [`super::Gtids::errant`]. The newest transaction of a domain must be the primary's own or in `base`. An older one is
    /// errant when `base` knows its server and not so far, or when it is not older than the newest of `base`; otherwise it
    /// may come from before the backup that `base` was seeded from.
    pub(crate) fn errant(&self, base: &Self, server: &str) -> Option<String> {
        let server = server.trim().parse().ok();
        let errant = self.domains.iter().flat_map(|(domain, mine)| {
            let wrong = mine.lineage.iter().filter(move |(by, n)| Self::is_errant(*domain, mine, base, server, (**by, **n)));
            wrong.map(|(by, n)| (*domain, (*by, *n)))
        });
        list(errant)
    }

    fn is_errant(domain: u32, mine: &Domain, base: &Self, server: Option<u32>, gtid: (u32, u64)) -> bool {
        if Some(gtid.0) == server || base.has(domain, gtid) {
            return false;
        }
        let Some(theirs) = base.domains.get(&domain) else { return true };
        gtid == mine.head || theirs.lineage.contains_key(&gtid.0) || gtid.1 >= theirs.head.1
    }

    /// See [`super::Gtids::own_to_come`]. A domain is one sequence, so what lies behind its newest is still to come.
    pub(crate) fn own_to_come(&self, history: &Self, server: &str) -> Option<String> {
        let server: u32 = server.trim().parse().ok()?;
        let wrote = history.domains.iter().filter_map(|(domain, theirs)| Some((*domain, *theirs.lineage.get(&server)?)));
        list(
            wrote
                .filter(|(domain, n)| self.domains.get(domain).is_none_or(|mine| mine.head.1 < *n))
                .map(|(domain, n)| (domain, (server, n))),
        )
    }

    /// With what `history` knows of older transactions. A server that was made from a backup knows its newest transaction
    /// alone; when that is one of `history`, it has all that came before it there, since a domain is one sequence.
    pub(crate) fn with_history(&self, history: &Self) -> Self {
        let mut whole = self.clone();
        for (domain, theirs) in &history.domains {
            let Some(entry) = whole.domains.get_mut(domain) else { continue };
            for (server, sequence) in theirs.lineage.iter().filter(|(_, sequence)| **sequence < entry.head.1) {
                entry.lineage.entry(*server).or_insert(*sequence);
            }
        }
        whole
    }

    /// All but what is errant.
    pub(crate) fn explained(&self, base: &Self, server: &str) -> Self {
        let server = server.trim().parse().ok();
        let mut explained = Self::default();
        for (domain, mine) in &self.domains {
            let errant = |gtid: (u32, u64)| Self::is_errant(*domain, mine, base, server, gtid);
            for (by, n) in &mine.lineage {
                let known = base.domains.get(domain).and_then(|d| d.lineage.get(by)).copied();
                if let Some(n) = if errant((*by, *n)) { known } else { Some(*n) } {
                    explained.add(*domain, *by, n);
                }
            }
            if let Some(entry) = explained.domains.get_mut(domain).filter(|_| !errant(mine.head)) {
                entry.head = mine.head;
            }
        }
        explained
    }
}

fn list(gtids: impl Iterator<Item = (u32, (u32, u64))>) -> Option<String> {
    let words: Vec<String> = gtids.map(|(domain, (server, sequence))| format!("{domain}-{server}-{sequence}")).collect();
    (!words.is_empty()).then(|| words.join(","))
}

fn parse_gtid(text: &str) -> Option<(u32, u32, u64)> {
    let mut numbers = text.split('-').map(|n| n.bytes().all(|b| b.is_ascii_digit()).then_some(n));
    let gtid = (numbers.next()??.parse().ok()?, numbers.next()??.parse().ok()?, numbers.next()??.parse().ok()?);
    numbers.next().is_none().then_some(gtid)
}

impl fmt::Display for MariaDbState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (domain, entry) in &self.domains {
            let mut gtids: Vec<(u64, u32)> =
                entry.lineage.iter().map(|(by, n)| (*n, *by)).filter(|g| *g != (entry.head.1, entry.head.0)).collect();
            gtids.sort_unstable();
            for (sequence, server) in gtids.into_iter().chain([(entry.head.1, entry.head.0)]) {
                write!(f, "{separator}{domain}-{server}-{sequence}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}
