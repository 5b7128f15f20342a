//! The checker: holds what the clients were told against what the nodes hold. One verdict line per promise.
//! L: no acknowledged write is missing; W: never two writers; C: the nodes agree; E: nothing that nobody tried; T: outages.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use crate::client;
use crate::database::{Access, Database, Holdings, Write};
use crate::error::{Error, Result};
use crate::host;
use crate::journal::{Journal, Outcome, Record};
use crate::load::LoadOptions;
use crate::network;
use crate::state::{Event, LabPaths};

/// What the check shall insist on.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// What the servers are.
    pub database: Database,
    /// MySQL: the user, the same as the load's.
    pub user: String,
    /// Port of the servers at the nodes' own addresses.
    pub port: u16,
    /// Password of the servers.
    pub password: Option<String>,
    /// The nodes that have a server, by name; without it all.
    pub servers: Option<Vec<String>>,
    /// Whether every server takes writes and none is a replica, as with Galera. W is not judged then.
    pub multi_primary: bool,
    /// Longest outage allowed, in the time of a machine at rest (see the crate `pace`); without it T only reports.
    pub max_outage: Option<Duration>,
    /// C: how long a node may stand still in another place than the primary before that is a disagreement.
    pub standstill: Duration,
    /// Gaps from this length on are listed as outages.
    pub outage_from: Duration,
}

impl Default for CheckOptions {
    fn default() -> CheckOptions {
        CheckOptions::with(&LoadOptions::default(), None)
    }
}

impl CheckOptions {
    /// For the servers of a load: its ports, user and password.
    pub fn of(load: &LoadOptions) -> Result<CheckOptions> {
        Ok(CheckOptions::with(load, load.password()?))
    }

    fn with(load: &LoadOptions, password: Option<String>) -> CheckOptions {
        CheckOptions {
            database: load.database,
            user: load.user.clone(),
            port: load.probe_port,
            password,
            servers: None,
            multi_primary: false,
            max_outage: None,
            standstill: Duration::from_secs(15),
            outage_from: Duration::from_millis(100),
        }
    }

    fn access(&self) -> Access {
        Access {
            database: self.database,
            user: self.user.clone(),
            password: self.password.clone(),
            connect: Some(Duration::from_millis(500)),
            answer: Duration::from_secs(5),
            wait: (0, 0),
        }
    }
}

/// Verdict on one promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// L, W, C, E or T.
    pub letter: char,
    /// Whether the promise was kept.
    pub kept: bool,
    /// One sentence with the numbers.
    pub text: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.letter, if self.kept { "ok" } else { "VIOLATED" }, self.text)
    }
}

/// All verdicts of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order L, W, C, E, T.
    pub verdicts: Vec<Verdict>,
    /// How many writes were acknowledged.
    pub acknowledged: usize,
    /// How many of them the node that lacks the most lacks.
    pub missing: usize,
    /// How many of them each node lacks that answered.
    pub lacking: BTreeMap<String, usize>,
}

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub fn kept(&self) -> bool {
        self.verdicts.iter().all(|v| v.kept)
    }

    /// The verdict of that letter.
    #[must_use]
    pub fn of(&self, letter: char) -> Option<&Verdict> {
        self.verdicts.iter().find(|v| v.letter == letter)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.verdicts.iter().try_for_each(|verdict| writeln!(f, "{verdict}"))
    }
}

/// Judges a stopped load against the live nodes.
pub fn check(paths: &LabPaths, live: &[(String, String)], journal: &Journal, options: &CheckOptions) -> Result<Report> {
    let run = journal.run().ok_or_else(|| Error::Refused("the journal has no first line".to_owned()))?.to_owned();
    let has_server = |node: &String| options.servers.as_ref().is_none_or(|servers| servers.contains(node));
    let live: Vec<(String, String)> = live.iter().filter(|(node, _)| has_server(node)).cloned().collect();
    let (holdings, silent, disagreement) = network::from_clients(paths, || converge(&live, &run, options))?;
    let events = paths.read_events()?;
    let lacks = |node: &Holdings| (node.node.clone(), missing_on(node, journal, &run).len());
    let lacking: BTreeMap<String, usize> = holdings.iter().map(lacks).collect();
    let verdicts = [
        Some(losses(journal, &run, &holdings, &silent)),
        (!options.multi_primary).then(|| writers(journal)),
        Some(agreement(&holdings, disagreement)),
        Some(errant(journal, &run, &holdings)),
        Some(outages(journal, &events, options)),
    ];
    Ok(Report {
        acknowledged: journal.writes(Outcome::Ok).len(),
        missing: lacking.values().copied().max().unwrap_or_default(),
        lacking,
        verdicts: verdicts.into_iter().flatten().collect(),
    })
}

/// Whether exactly one of the nodes is a primary and all others follow, while writes may go on.
pub(crate) fn in_step(paths: &LabPaths, live: &[(String, String)], options: &CheckOptions) -> Result<bool> {
    let found: Vec<_> = network::from_clients(paths, || live.iter().map(|(node, address)| hold(node, address, "none", options)).collect())?;
    let holdings: Vec<&Holdings> = found.iter().filter_map(|h| h.as_ref().ok()).collect();
    let primaries = holdings.iter().filter(|h| h.primary).count();
    Ok(holdings.len() == live.len() && primaries == 1 && holdings.iter().all(|h| h.broken.is_none()))
}

type Converged = (Vec<Holdings>, Vec<String>, Option<String>);

/// Asks until the nodes agree, or one of those that differ stands still for the time that was given: a replica may lag behind, on a
/// busy machine for long, and that is no fault as long as it gets on.
fn converge(live: &[(String, String)], run: &str, options: &CheckOptions) -> Converged {
    let mut standing: BTreeMap<String, (String, pace::Limit)> = BTreeMap::new();
    let all = pace::Limit::of(options.standstill * PATIENCE);
    let mut said = None;
    loop {
        let asked = Instant::now();
        // The data take their time, where all stand does not: so that comes first, and the data when all stand at the same place.
        let mut found = ask_all(live, "none", options);
        if disagreement(&found.0, &found.1, options.multi_primary).is_none() {
            found = ask_all(live, run, options);
            let now = ask_all(live, "none", options);
            for (with_data, now) in found.0.iter_mut().zip(now.0) {
                // A primary goes on by itself (Redis pings its replicas).
                *with_data = Holdings { data: std::mem::take(&mut with_data.data), ..now };
            }
        }
        let (holdings, silent) = found;
        let Some(why) = disagreement(&holdings, &silent, options.multi_primary) else { return (holdings, silent, None) };
        if said.as_ref() != Some(&why) {
            host::progress(&format!("waiting for the nodes to meet: {why}"));
            said = Some(why.clone());
        }
        for (node, place) in places(live, &holdings) {
            let begin = || (place.clone(), pace::Limit::of(options.standstill));
            let known = standing.entry(node).or_insert_with(begin);
            if known.0 != place {
                *known = begin();
            }
        }
        let stuck = differing(live, &holdings).into_iter().find(|node| standing.get(node).is_some_and(|(_, limit)| limit.is_over()));
        let end = match stuck {
            Some(node) => Some(format!("{node} has stood still for {} s", options.standstill.as_secs())),
            None => all.is_over().then(|| format!("they move, and have not met in {} s", all.elapsed().as_secs())),
        };
        if let Some(end) = end {
            let (holdings, silent) = ask_all(live, run, options);
            return (holdings, silent, Some(format!("{why}; {end}")));
        }
        // Asking must not slow down what is waited for.
        std::thread::sleep((asked.elapsed() * 3).clamp(Duration::from_millis(250), Duration::from_secs(5)));
    }
}

/// How many standstills nodes may take that do not stand still.
const PATIENCE: u32 = 20;

fn ask_all(live: &[(String, String)], run: &str, options: &CheckOptions) -> (Vec<Holdings>, Vec<String>) {
    let (mut holdings, mut silent) = (Vec::new(), Vec::new());
    for (node, address) in live {
        match hold(node, address, run, options) {
            Ok(found) => holdings.push(found),
            Err(why) => silent.push(format!("{node} ({why})")),
        }
    }
    (holdings, silent)
}

/// Each node, and a text that changes when it gets on.
fn places(live: &[(String, String)], holdings: &[Holdings]) -> Vec<(String, String)> {
    let place = |h: &Holdings| format!("{} {} {:?} {} {}", h.position, h.progress, h.broken, h.primary, h.data.len());
    let of = |node: &String| holdings.iter().find(|h| h.node == *node).map_or_else(|| "no answer".to_owned(), place);
    live.iter().map(|(node, _)| (node.clone(), of(node))).collect()
}

/// The nodes that are not where the only primary is; where there is no such thing, all of them.
fn differing(live: &[(String, String)], holdings: &[Holdings]) -> Vec<String> {
    let mut primaries = holdings.iter().filter(|h| h.primary);
    let primary = primaries.next().filter(|_| primaries.next().is_none());
    let meets = |h: &Holdings| primary.is_some_and(|p| h.broken.is_none() && h.position == p.position && h.data == p.data);
    live.iter().map(|(node, _)| node).filter(|node| !holdings.iter().any(|h| h.node == **node && meets(h))).cloned().collect()
}

fn hold(node: &str, address: &str, run: &str, options: &CheckOptions) -> std::result::Result<Holdings, String> {
    let mut session = client::connect(&options.access(), &format!("{address}:{}", options.port))?;
    Ok(Holdings { node: node.to_owned(), ..session.holdings(run)? })
}

/// Why the nodes do not agree, if they do not.
fn disagreement(holdings: &[Holdings], silent: &[String], multi_primary: bool) -> Option<String> {
    if !silent.is_empty() {
        return Some(format!("no answer from {}", silent.join(", ")));
    }
    let Some(first) = holdings.first() else { return Some("no node answers".to_owned()) };
    let masters: Vec<&str> = holdings.iter().filter(|h| h.primary).map(|h| h.node.as_str()).collect();
    if masters.len() != if multi_primary { holdings.len() } else { 1 } {
        return Some(format!("{} primaries: {}", masters.len(), masters.join(", ")));
    }
    for other in holdings {
        if let Some(why) = &other.broken {
            return Some(format!("{} does not replicate: {why}", other.node));
        }
        if other.data != first.data {
            let (a, b) = (first.data.len(), other.data.len());
            return Some(format!("{} holds {a} writes of the run, {} holds {b}, or other values", first.node, other.node));
        }
        if other.position != first.position {
            return Some(format!("{} is at {}, {} at {}", first.node, first.position, other.node, other.position));
        }
    }
    None
}

/// The acknowledged writes that a node does not have.
fn missing_on(node: &Holdings, journal: &Journal, run: &str) -> Vec<String> {
    let acknowledged = journal.writes(Outcome::Ok);
    let acknowledged = acknowledged.into_iter().map(|(t, n)| Write { run, t, n });
    acknowledged.filter(|write| node.data.get(&write.key()) != Some(&write.value())).map(|write| write.key()).collect()
}

fn losses(journal: &Journal, run: &str, holdings: &[Holdings], silent: &[String]) -> Verdict {
    let acknowledged = journal.writes(Outcome::Ok);
    let mut missing = Vec::new();
    for node in holdings {
        let lost = missing_on(node, journal, run);
        if let Some(first) = lost.first() {
            missing.push(format!("{} lacks {} of them (the first is {first})", node.node, lost.len()));
        }
    }
    let names: Vec<&str> = holdings.iter().map(|h| h.node.as_str()).collect();
    let confirmed = match journal.wait() {
        0 => String::new(),
        n => format!(", each confirmed by {n} replicas"),
    };
    let text = if missing.is_empty() {
        format!("{} acknowledged writes{confirmed}, none missing on {}", acknowledged.len(), names.join(", "))
    } else {
        format!("{} acknowledged writes{confirmed}; {}", acknowledged.len(), missing.join("; "))
    };
    let unread = if silent.is_empty() { String::new() } else { format!("; not readable: {}", silent.join(", ")) };
    Verdict { letter: 'L', kept: missing.is_empty() && silent.is_empty() && !holdings.is_empty(), text: text + &unread }
}

fn writers(journal: &Journal) -> Verdict {
    let found = journal.two_writers();
    let probes = journal.records.iter().filter(|r| matches!(r, Record::Probe { .. })).count();
    let text = match found.first() {
        None => format!("never two nodes took writes at the same time ({probes} probes)"),
        Some(first) => {
            let mut pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
            for one in &found {
                *pairs.entry((&one.node, &one.other)).or_default() += 1;
            }
            let listed: Vec<String> =
                pairs.iter().map(|((node, other), count)| format!("{node} took {count} writes while {other} was a primary")).collect();
            format!("{}; the first at {:.3} s of the monotonic clock", listed.join(", "), first.sent as f64 / 1e6)
        }
    };
    Verdict { letter: 'W', kept: found.is_empty(), text }
}

fn agreement(holdings: &[Holdings], disagreement: Option<String>) -> Verdict {
    let kept = disagreement.is_none();
    let text = disagreement.unwrap_or_else(|| {
        let names: Vec<&str> = holdings.iter().map(|h| h.node.as_str()).collect();
        let position = holdings.first().map(|h| h.position.as_str()).unwrap_or_default();
        format!("{} hold the same data at {position}", names.join(", "))
    });
    Verdict { letter: 'C', kept, text }
}

fn errant(journal: &Journal, run: &str, holdings: &[Holdings]) -> Verdict {
    let tried = |r: &Record| match r {
        Record::Write { t, n, outcome, .. } if !matches!(outcome, Outcome::NotSent | Outcome::Refused) => {
            Some(Write { run, t: *t, n: *n }.key())
        }
        _ => None,
    };
    let tried: HashSet<String> = journal.records.iter().filter_map(tried).collect();
    let strange: Vec<String> =
        holdings.iter().flat_map(|h| h.data.keys().filter(|key| !tried.contains(*key)).map(|key| format!("{key} on {}", h.node))).collect();
    let text = match strange.first() {
        None => "nothing is there that was refused or never tried".to_owned(),
        Some(first) => format!("{} writes are there that were refused or never tried; the first is {first}", strange.len()),
    };
    Verdict { letter: 'E', kept: strange.is_empty(), text }
}

fn outages(journal: &Journal, events: &[Event], options: &CheckOptions) -> Verdict {
    let least = u64::try_from(options.outage_from.as_micros()).unwrap_or(u64::MAX);
    let found = journal.outages(least, events);
    let longest = found.iter().map(|o| o.counted).max().unwrap_or_default();
    let listed: Vec<String> = found
        .iter()
        .map(|o| {
            let after = o.after.as_deref().map(|a| format!(" after \"{a}\"")).unwrap_or_default();
            let open = if o.ended { "" } else { ", not over" };
            // Said only where it says something.
            let busy = o.counted + o.counted / 4 < o.to - o.from;
            let counted = if busy { format!(" ({} ms but for what else this machine does)", o.counted / 1000) } else { String::new() };
            format!("{:.0} ms{counted}{after}{open}", o.millis())
        })
        .collect();
    let unended = found.iter().any(|o| !o.ended);
    let writes = journal.acknowledged_at().len();
    let (kept, bound) = match options.max_outage {
        Some(limit) => {
            (writes > 0 && !unended && u128::from(longest) <= limit.as_micros(), format!(" (at most {} ms allowed)", limit.as_millis()))
        }
        None => (writes > 0 && !unended, String::new()),
    };
    let text = if writes == 0 {
        "no write was acknowledged at all".to_owned()
    } else if listed.is_empty() {
        format!("no time of {} ms and more without writes{bound}", options.outage_from.as_millis())
    } else {
        format!("{}{bound}", listed.join(", "))
    };
    Verdict { letter: 'T', kept, text }
}

/// Names and addresses of nodes for [`check`].
pub(crate) fn addresses(nodes: &[crate::node::Node]) -> Vec<(String, String)> {
    nodes.iter().map(|n| (n.name.clone(), network::node_address(n.number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(n: u64, outcome: Outcome) -> Record {
        Record::Write { t: 0, n, sent: n, done: n + 1, outcome, server: None, error: None }
    }

    fn holdings(node: &str, keys: &[u64]) -> Holdings {
        let writes = keys.iter().map(|n| Write { run: "r", t: 0, n: *n });
        let data = writes.map(|write| (write.key(), write.value())).collect();
        Holdings { node: node.into(), data, primary: true, ..Holdings::default() }
    }

    fn journal() -> Journal {
        Journal { records: vec![write(1, Outcome::Ok), write(2, Outcome::Unknown), write(3, Outcome::Refused)] }
    }

    #[test]
    fn a_missing_acknowledged_write_is_named_with_its_node() {
        let verdict = losses(&journal(), "r", &[holdings("lxc1", &[1]), holdings("lxc2", &[2])], &[]);
        assert!(!verdict.kept && verdict.text.contains("lxc2 lacks 1 of them (the first is w:r:0:1)"));
    }

    #[test]
    fn an_unanswered_write_may_be_there_or_not() {
        assert!(losses(&journal(), "r", &[holdings("lxc1", &[1]), holdings("lxc2", &[1, 2])], &[]).kept);
        assert!(errant(&journal(), "r", &[holdings("lxc2", &[1, 2])]).kept);
    }

    #[test]
    fn a_refused_write_that_is_there_is_errant() {
        assert!(!errant(&journal(), "r", &[holdings("lxc1", &[1, 3])]).kept);
    }

    #[test]
    fn two_primaries_do_not_agree() {
        let two = [holdings("lxc1", &[1]), holdings("lxc2", &[1])];
        assert_eq!(disagreement(&two, &[], false).unwrap_or_default(), "2 primaries: lxc1, lxc2");
        assert_eq!(disagreement(&two, &[], true), None, "unless every server is one");
        let closed = [holdings("lxc1", &[1]), Holdings { primary: false, ..holdings("lxc2", &[1]) }];
        assert_eq!(disagreement(&closed, &[], true).unwrap_or_default(), "1 primaries: lxc1");
    }

    #[test]
    fn who_differs_is_who_is_not_where_the_primary_is() {
        let live = ["lxc1", "lxc2", "lxc3"].map(|node| (node.to_owned(), String::new()));
        let replica = |node: &str, position: &str| Holdings { primary: false, position: position.into(), ..holdings(node, &[1]) };
        let primary = || Holdings { position: "GTID set u:1-9".into(), ..holdings("lxc1", &[1]) };
        assert_eq!(differing(&live, &[primary(), replica("lxc2", "GTID set u:1-9"), replica("lxc3", "GTID set u:1-7")]), ["lxc3"]);
        assert_eq!(differing(&live, &[primary(), replica("lxc2", "GTID set u:1-9")]), ["lxc3"], "nor is who says nothing");
        assert_eq!(differing(&live, &[replica("lxc2", "GTID set u:1-9")]), ["lxc1", "lxc2", "lxc3"], "without a primary it is all");
    }

    #[test]
    fn who_gets_on_does_not_stand_still() {
        let live = [("lxc1".to_owned(), String::new())];
        let place = |position: &str, progress: &str| {
            places(&live, &[Holdings { position: position.into(), progress: progress.into(), ..holdings("lxc1", &[1]) }])
        };
        assert_eq!(place("u:1-7", "log 5"), place("u:1-7", "log 5"));
        assert_ne!(place("u:1-7", "log 5"), place("u:1-8", "log 5"));
        assert_ne!(place("u:1-7", "log 5"), place("u:1-7", "log 6"), "it may be in the middle of a transaction");
        assert_ne!(place("u:1-7", "log 5"), places(&live, &[]));
    }

    #[test]
    fn an_outage_of_a_busy_machine_is_measured_by_what_counts() {
        let acknowledged = |done| Record::Write { t: 0, n: done, sent: done, done, outcome: Outcome::Ok, server: None, error: None };
        let records = vec![
            acknowledged(1_000_000),
            Record::Pace { at: 1_000_000, counted: 0 },
            Record::Pace { at: 7_000_000, counted: 3_000_000 },
            acknowledged(7_000_000),
        ];
        let journal = Journal { records };
        let judged =
            |limit| outages(&journal, &[], &CheckOptions { max_outage: Some(Duration::from_secs(limit)), ..CheckOptions::default() });
        assert!(judged(4).kept, "{}", judged(4).text);
        assert!(judged(4).text.contains("6000 ms (3000 ms but for what else this machine does)"), "{}", judged(4).text);
        assert!(!judged(2).kept);
    }

    #[test]
    fn a_broken_replica_and_another_position_do_not_agree() {
        let primary = || Holdings { position: "GTID set u:1-9".into(), ..holdings("lxc1", &[1]) };
        let replica = || Holdings { primary: false, position: "GTID set u:1-9".into(), ..holdings("lxc2", &[1]) };
        assert_eq!(disagreement(&[primary(), replica()], &[], false), None);
        let stopped = Holdings { broken: Some("receiver No, applier Yes".into()), ..replica() };
        let text = disagreement(&[primary(), stopped], &[], false).unwrap_or_default();
        assert_eq!(text, "lxc2 does not replicate: receiver No, applier Yes");
        let errant = Holdings { position: "GTID set u:1-9,v:1".into(), ..replica() };
        let text = disagreement(&[primary(), errant], &[], false).unwrap_or_default();
        assert_eq!(text, "lxc1 is at GTID set u:1-9, lxc2 at GTID set u:1-9,v:1");
    }

    #[test]
    fn a_value_that_is_not_what_was_written_is_a_loss() {
        let mut node = holdings("lxc1", &[1]);
        node.data.insert("w:r:0:1".into(), "0:7".into());
        assert!(!losses(&journal(), "r", &[node], &[]).kept);
    }
}
