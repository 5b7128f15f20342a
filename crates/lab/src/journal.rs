//! The load's journal: what clients tried, when, and what they were told. Reading and judging it is pure.
//! Owns the format and the arithmetic of outages and of two writers at once; it connects to nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::operation::Operation;
use crate::state::Event;

/// What a client knows of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Acknowledged (with `WAIT`: by as many replicas as asked).
    Ok,
    /// Refused by the server: certainly not done.
    Refused,
    /// Sent, and then no answer: done or not.
    Unknown,
    /// The server took it, but fewer replicas confirmed in time than asked.
    Unconfirmed,
    /// Never sent: no connection.
    NotSent,
}

/// One line of the journal. All times are CLOCK_MONOTONIC microseconds at the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    Start {
        /// Name of the run; part of every key.
        run: String,
        /// When.
        at: u64,
        /// What the writers write to, for example `redis 192.0.2.100:6379`.
        target: String,
        /// Replicas that had to confirm.
        wait: u32,
    },
    /// One attempt of one writer.
    Write {
        /// Writer.
        t: u32,
        /// Sequence number of that writer; key and value follow from both.
        n: u64,
        /// Sent.
        sent: u64,
        /// Answered or given up.
        done: u64,
        /// What the client knows.
        outcome: Outcome,
        /// Identity of the server (Redis: its run id; MySQL: its host, port and server_id), as far as known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
        /// The server's or the network's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// One attempt of the prober of one node, through the node's own address.
    Probe {
        /// Node.
        node: String,
        /// Sent.
        sent: u64,
        /// Answered or given up.
        done: u64,
        /// Whether the node took the write.
        ok: bool,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A request of a visitor of the site that writes no article.
    Visit {
        /// `read`, `login` or `session`.
        what: String,
        /// Sent.
        sent: u64,
        /// Answered or given up.
        done: u64,
        /// Whether the answer was the right one.
        ok: bool,
        /// What was wrong with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// One operation of a client on a list or a register.
    Operation(Operation),
    /// A node's server said who it is.
    Server {
        /// Node.
        node: String,
        /// Its identity, as in `Write`.
        id: String,
        /// When.
        at: u64,
    },
    /// How much time has counted so far: time as this machine at rest would have it (see the crate `pace`).
    Pace {
        /// When.
        at: u64,
        /// Microseconds that have counted since some moment before the run.
        counted: u64,
    },
    /// The last line of a run that was stopped in order.
    End {
        /// When.
        at: u64,
    },
}

/// A read journal.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// All lines.
    pub records: Vec<Record>,
}

/// A time without acknowledged writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Last acknowledgement before, microseconds.
    pub from: u64,
    /// First acknowledgement after, or the end of the run when there was none.
    pub to: u64,
    /// How long it would have been on a machine that did nothing else, microseconds; never longer than it was.
    pub counted: u64,
    /// Whether writes came back before the run ended.
    pub ended: bool,
    /// The fault it follows, when one is known.
    pub after: Option<String>,
}

impl Outage {
    /// Length in milliseconds.
    #[must_use]
    pub fn millis(&self) -> f64 {
        (self.to.saturating_sub(self.from)) as f64 / 1000.0
    }
}

/// A write taken by one node while another one was a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoWriters {
    /// Acknowledged between `sent` and `done` by this node...
    pub node: String,
    /// Sent.
    pub sent: u64,
    /// Acknowledged.
    pub done: u64,
    /// ...while this node took writes before and after, and refused none in between.
    pub other: String,
}

impl Journal {
    /// Reads a journal, which may be still written.
    pub fn read(path: &Path) -> Result<Journal> {
        let text = std::fs::read_to_string(path).context(|| format!("read {}", path.display()))?;
        Journal::parse(&text).map_err(|why| Error::Refused(format!("{}: {why}", path.display())))
    }

    /// Of the last line a part may be there, which is left out. Whatever else is no record is an error: it may have been an acknowledgement.
    fn parse(text: &str) -> std::result::Result<Journal, String> {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let record = |(n, line)| serde_json::from_str(line).map_err(|why| format!("line {} is no record: {why}", n + 1));
        Ok(Journal { records: whole.lines().enumerate().map(record).collect::<std::result::Result<_, _>>()? })
    }

    /// The journal of a run that was stopped in order, and an error for one that died: what it had not written yet nobody knows.
    pub fn of_ended(path: &Path) -> Result<Journal> {
        let journal = Journal::read(path)?;
        if matches!(journal.records.last(), Some(Record::End { .. })) {
            return Ok(journal);
        }
        Err(Error::Refused(format!("{} has no end: the load died before it was stopped, and nothing can be judged by it", path.display())))
    }

    /// Name of the run.
    #[must_use]
    pub fn run(&self) -> Option<&str> {
        self.records.iter().find_map(|r| if let Record::Start { run, .. } = r { Some(run.as_str()) } else { None })
    }

    /// Replicas that had to confirm a write.
    #[must_use]
    pub fn wait(&self) -> u32 {
        self.records.iter().find_map(|r| if let Record::Start { wait, .. } = r { Some(*wait) } else { None }).unwrap_or(0)
    }

    /// Writer and sequence number of all writes with that outcome.
    #[must_use]
    pub fn writes(&self, wanted: Outcome) -> Vec<(u32, u64)> {
        let with = |r: &Record| match r {
            Record::Write { t, n, outcome, .. } if *outcome == wanted => Some((*t, *n)),
            _ => None,
        };
        self.records.iter().filter_map(with).collect()
    }

    /// All operations on lists and registers.
    #[must_use]
    pub fn operations(&self) -> Vec<&Operation> {
        self.records.iter().filter_map(|r| if let Record::Operation(operation) = r { Some(operation) } else { None }).collect()
    }

    /// Times of all acknowledgements, in order.
    #[must_use]
    pub fn acknowledged_at(&self) -> Vec<u64> {
        let mut times: Vec<u64> = self
            .records
            .iter()
            .filter_map(|r| match r {
                Record::Write { done, outcome: Outcome::Ok, .. } => Some(*done),
                _ => None,
            })
            .collect();
        times.sort_unstable();
        times
    }

    /// The longest time between two acknowledged writes of one writer, microseconds; `None` where it has no two.
    #[must_use]
    pub fn longest_wait(&self, writer: u32) -> Option<u64> {
        let mut times: Vec<u64> = self
            .records
            .iter()
            .filter_map(|r| match r {
                Record::Write { t, done, outcome: Outcome::Ok, .. } if *t == writer => Some(*done),
                _ => None,
            })
            .collect();
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max()
    }

    /// What the others saw.
    #[must_use]
    pub fn without_writer(&self, writer: u32) -> Journal {
        let of_others = |r: &&Record| !matches!(r, Record::Write { t, .. } if *t == writer);
        Journal { records: self.records.iter().filter(of_others).cloned().collect() }
    }

    /// First and last moment of the run.
    #[must_use]
    pub fn span(&self) -> Option<(u64, u64)> {
        let at = |r: &Record| match r {
            Record::Start { at, .. } | Record::End { at } | Record::Server { at, .. } | Record::Pace { at, .. } => *at,
            Record::Write { done, .. } | Record::Probe { done, .. } | Record::Visit { done, .. } => *done,
            Record::Operation(operation) => operation.done,
        };
        Some((self.records.iter().map(at).min()?, self.records.iter().map(at).max()?))
    }

    /// Times longer than `least_us` without an acknowledged write of any writer, each with the last event before it
    /// ended that lies no more than 100 ms behind its begin (a write acknowledged just after the fault is no comfort).
    #[must_use]
    pub fn outages(&self, least_us: u64, events: &[Event]) -> Vec<Outage> {
        let times = self.acknowledged_at();
        // What is read in the end, and clients that end later, are no time in which somebody wanted to write.
        let tried = |r: &Record| if let Record::Write { done, .. } = r { Some(*done) } else { None };
        let Some(end) = self.records.iter().filter_map(tried).max() else { return Vec::new() };
        let cause = |from: u64| {
            let known = events.iter().filter(|e| e.at_us <= from + 100_000).max_by_key(|e| e.at_us);
            known.map(|e| e.text.clone())
        };
        let pace = self.pace();
        let outage = |from: u64, to: u64, ended| Outage { from, to, counted: counted(&pace, from, to), ended, after: cause(from) };
        let mut found: Vec<Outage> =
            times.windows(2).filter(|pair| pair[1] - pair[0] > least_us).map(|pair| outage(pair[0], pair[1], true)).collect();
        if let Some(last) = times.last().filter(|last| end.saturating_sub(**last) > least_us.max(500_000)) {
            found.push(outage(*last, end, false));
        }
        found
    }

    /// How much of a span has counted, microseconds: all of it where the journal does not say.
    #[must_use]
    pub fn counted(&self, from: u64, to: u64) -> u64 {
        counted(&self.pace(), from, to)
    }

    /// When how much had counted, in order.
    fn pace(&self) -> Vec<(u64, u64)> {
        let mut marks: Vec<(u64, u64)> =
            self.records.iter().filter_map(|r| if let Record::Pace { at, counted } = r { Some((*at, *counted)) } else { None }).collect();
        marks.sort_unstable();
        marks
    }

    /// Violations of "never two writers".
    ///
    /// A term of a node is a longest series of writes it took from its prober with no refusal and no silence in
    /// between; the node certainly was a primary from the first acknowledgement of the series (`done`) to the sending
    /// of the last one (`sent`). A violation is a write, of a prober or a writer, that another node acknowledged and
    /// that was both sent and answered within such a term. Both bounds are on the safe side: what is reported happened.
    #[must_use]
    pub fn two_writers(&self) -> Vec<TwoWriters> {
        let terms = self.terms();
        let node_of: BTreeMap<&str, &str> = self
            .records
            .iter()
            .filter_map(|r| if let Record::Server { node, id, .. } = r { Some((id.as_str(), node.as_str())) } else { None })
            .collect();
        let mut found = Vec::new();
        for record in &self.records {
            let (node, sent, done) = match record {
                Record::Probe { node, sent, done, ok: true, .. } => (node.as_str(), *sent, *done),
                // `Unconfirmed` is a write that the server took, too.
                Record::Write { sent, done, outcome: Outcome::Ok | Outcome::Unconfirmed, server: Some(id), .. } => {
                    match node_of.get(id.as_str()) {
                        Some(node) => (*node, *sent, *done),
                        None => continue,
                    }
                }
                _ => continue,
            };
            let inside = terms.iter().find(|(other, from, to)| *other != node && *from <= sent && done <= *to);
            if let Some((other, _, _)) = inside {
                found.push(TwoWriters { node: node.to_owned(), sent, done, other: (*other).to_owned() });
            }
        }
        found
    }

    /// Node, begin and end of each term (see [`Journal::two_writers`]).
    fn terms(&self) -> Vec<(&str, u64, u64)> {
        let mut by_node: BTreeMap<&str, Vec<(u64, u64, bool)>> = BTreeMap::new();
        for record in &self.records {
            if let Record::Probe { node, sent, done, ok, .. } = record {
                by_node.entry(node).or_default().push((*sent, *done, *ok));
            }
        }
        let mut terms = Vec::new();
        for (node, mut probes) in by_node {
            probes.sort_unstable();
            let mut begin = None;
            let mut end = 0;
            for (sent, done, ok) in probes {
                match (ok, begin) {
                    (true, None) => (begin, end) = (Some(done), sent),
                    (true, Some(_)) => end = sent,
                    (false, Some(from)) => {
                        terms.push((node, from, end));
                        begin = None;
                    }
                    (false, None) => {}
                }
            }
            terms.extend(begin.map(|from| (node, from, end)));
        }
        terms.retain(|(_, from, to)| from <= to);
        terms
    }
}

/// Between two marks time counts evenly; before the first one and after the last one all of it does.
fn counted(marks: &[(u64, u64)], from: u64, to: u64) -> u64 {
    let at = |time: u64| -> i128 {
        let next = marks.partition_point(|(mark, _)| *mark < time);
        match (next.checked_sub(1).and_then(|n| marks.get(n)), marks.get(next)) {
            (Some((a, x)), Some((b, y))) => {
                i128::from(*x) + i128::from(time - a) * i128::from(y.saturating_sub(*x)) / i128::from((b - a).max(1))
            }
            (Some((a, x)), None) | (None, Some((a, x))) => i128::from(*x) + i128::from(time) - i128::from(*a),
            (None, None) => i128::from(time),
        }
    };
    u64::try_from(at(to) - at(from)).unwrap_or(0).min(to.saturating_sub(from))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it saw by panicking")]
mod tests {
    use super::*;

    fn ack(done: u64) -> Record {
        Record::Write { t: 0, n: done, sent: done, done, outcome: Outcome::Ok, server: None, error: None }
    }

    fn probe(node: &str, at: u64, ok: bool) -> Record {
        Record::Probe { node: node.into(), sent: at, done: at + 1, ok, error: None }
    }

    #[test]
    fn what_is_no_record_is_left_out_at_the_torn_end_only() {
        let line = |record: &Record| serde_json::to_string(record).unwrap() + "\n";
        let text = line(&ack(1)) + &line(&ack(2));
        let records = |text: &str| Journal::parse(text).map(|journal| journal.records);
        assert_eq!(records(&text), Ok(vec![ack(1), ack(2)]));
        assert_eq!(records(&text[..text.len() - 5]), Ok(vec![ack(1)]));
        assert_eq!(records(""), Ok(vec![]));
        let broken = text.replacen('{', "", 1);
        assert!(records(&broken).is_err_and(|why| why.starts_with("line 1 is no record")), "{broken}");
    }

    #[test]
    fn a_journal_without_its_end_is_not_judged() {
        let path = std::env::temp_dir().join(format!("systole-journal-{}", std::process::id()));
        let of = |records: &[Record]| {
            let lines: Vec<String> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
            Journal::of_ended(&path).map(|journal| journal.records.len()).map_err(|why| why.to_string())
        };
        assert_eq!(of(&[ack(1), Record::End { at: 2 }]), Ok(2));
        assert!(of(&[ack(1)]).is_err_and(|why| why.contains("has no end: the load died")));
        assert!(of(&[Record::End { at: 2 }, ack(3)]).is_err());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_outage_is_the_gap_between_acknowledgements_of_any_writer() {
        let journal = Journal { records: vec![ack(1_000), ack(900_000), ack(2_000), ack(901_000), Record::End { at: 902_000 }] };
        let events = [Event { at_us: 50_000, by: "lab".into(), text: "SIGKILL".into() }];
        let found = journal.outages(100_000, &events);
        assert_eq!(found, [Outage { from: 2_000, to: 900_000, counted: 898_000, ended: true, after: Some("SIGKILL".into()) }]);
    }

    #[test]
    fn a_writer_waits_for_its_own_acknowledgement() {
        let of = |t, done| Record::Write { t, n: done, sent: done, done, outcome: Outcome::Ok, server: None, error: None };
        let journal = Journal { records: vec![of(4, 1_000), of(0, 2_000), of(0, 900_000), of(4, 1_401_000), of(4, 1_402_000)] };
        assert_eq!([0, 4, 7].map(|writer| journal.longest_wait(writer)), [Some(898_000), Some(1_400_000), None]);
        assert_eq!(journal.without_writer(4).acknowledged_at(), [2_000, 900_000]);
    }

    #[test]
    fn of_an_outage_counts_what_the_machine_had_time_for() {
        let mark = |at, counted| Record::Pace { at, counted };
        let records = vec![ack(1_000_000), mark(1_000_000, 50), mark(2_000_000, 500_050), mark(3_000_000, 1_500_050), ack(4_000_000)];
        let found = Journal { records }.outages(100_000, &[]);
        assert_eq!(found.iter().map(|o| (o.to - o.from, o.counted)).collect::<Vec<_>>(), [(3_000_000, 2_500_000)]);
    }

    #[test]
    fn writes_that_never_come_back_are_an_outage_to_the_end() {
        let tried = Record::Write { t: 0, n: 2, sent: 4_000_000, done: 5_000_000, outcome: Outcome::NotSent, server: None, error: None };
        let journal = Journal { records: vec![ack(1_000), tried, Record::End { at: 6_000_000 }] };
        assert_eq!(journal.outages(100_000, &[]).first().map(|o| (o.to, o.ended)), Some((5_000_000, false)));
        let read_in_the_end = Journal { records: vec![ack(1_000), Record::End { at: 6_000_000 }] };
        assert_eq!(read_in_the_end.outages(100_000, &[]), []);
    }

    #[test]
    fn a_handover_with_a_refusal_is_no_violation() {
        let records = vec![
            probe("a", 10, true),
            probe("b", 12, false),
            probe("a", 20, true),
            probe("a", 30, false),
            probe("b", 32, true),
            probe("b", 42, true),
            probe("b", 50, false),
            probe("a", 60, true),
        ];
        assert!(Journal { records }.two_writers().is_empty());
    }

    #[test]
    fn a_single_write_on_a_thawed_primary_is_a_violation() {
        let records = vec![
            probe("a", 10, true),
            probe("a", 20, false),
            probe("b", 30, true),
            probe("a", 35, true),
            probe("a", 37, false),
            probe("b", 40, true),
        ];
        let found = Journal { records }.two_writers();
        assert_eq!(found, [TwoWriters { node: "a".into(), sent: 35, done: 36, other: "b".into() }]);
    }

    #[test]
    fn a_writer_on_the_old_primary_counts_as_well() {
        let old = Record::Write { t: 0, n: 1, sent: 33, done: 36, outcome: Outcome::Ok, server: Some("A".into()), error: None };
        let records = vec![Record::Server { node: "a".into(), id: "A".into(), at: 1 }, probe("b", 30, true), old, probe("b", 40, true)];
        assert_eq!(Journal { records }.two_writers().len(), 1);
    }
}
