//! What the visitors saw of each drill. Pure.

use std::collections::BTreeSet;

use lab::journal::{self, Record};
use lab::{Journal, visitors};
use serde::{Deserialize, Serialize};

/// What a drill does to the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A server's process dies.
    Crash,
    /// In order, by an operator.
    Planned,
    /// A node loses its power.
    PowerCut,
}

/// A drill that was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Which one.
    pub drill: String,
    /// Its kind.
    pub kind: Kind,
    /// Where it was.
    pub place: String,
    /// Begin and end, microseconds of the monotonic clock: from the first command until all was as before.
    pub span: (u64, u64),
    /// What the visitors saw.
    pub tally: Tally,
}

/// What the visitors saw between two moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Longest time between two articles that were acknowledged, milliseconds.
    pub writing_ms: f64,
    /// The same in the time of a machine at rest, which is what a bound is held against: see the crate `pace`.
    #[serde(default)]
    pub writing_counted_ms: f64,
    /// The same of readings.
    pub reading_ms: f64,
    /// The same of requests that had their session.
    pub session_ms: f64,
    /// Requests of all kinds that were sent.
    pub requests: usize,
    /// Those of them that were not answered as they should.
    pub failed: usize,
    /// Requests that came with a session that had forgotten something.
    pub forgotten: usize,
    /// Articles that were acknowledged.
    pub articles: usize,
    /// Acknowledged articles that some node does not hold at the end.
    pub lost: usize,
    /// Articles that are there twice: the site sent them once more when a connection broke.
    pub doubled: usize,
}

impl Tally {
    /// `held`: the articles that each node holds at the end.
    #[must_use]
    pub fn of(journal: &Journal, run: &str, (from, to): (u64, u64), held: &[BTreeSet<String>]) -> Self {
        let inside = |sent: u64| (from..=to).contains(&sent);
        let mut tally = Self::default();
        let (mut wrote, mut read, mut session) = (Vec::new(), Vec::new(), Vec::new());
        for record in &journal.records {
            match record {
                Record::Write { n, sent, done, outcome, .. } => {
                    let acknowledged = *outcome == journal::Outcome::Ok;
                    wrote.extend(acknowledged.then_some(*done));
                    if inside(*sent) {
                        let slug = visitors::slug(run, *n);
                        tally.requests += 1;
                        tally.failed += usize::from(!acknowledged);
                        tally.articles += usize::from(acknowledged);
                        tally.lost += usize::from(acknowledged && held.iter().any(|articles| !articles.contains(&slug)));
                        tally.doubled += usize::from(held.iter().any(|articles| articles.contains(&format!("{slug}-2"))));
                    }
                }
                Record::Visit { what, sent, done, ok, error } => {
                    match what.as_str() {
                        "read" => read.extend(ok.then_some(*done)),
                        "session" => session.extend(ok.then_some(*done)),
                        _ => {}
                    }
                    if inside(*sent) {
                        tally.requests += 1;
                        tally.failed += usize::from(!ok);
                        tally.forgotten += usize::from(error.as_deref() == Some(visitors::SESSION_LOST));
                    }
                }
                _ => {}
            }
        }
        tally.writing_counted_ms = counted(journal, &wrote, from, to);
        tally.writing_ms = longest_gap(wrote, from, to);
        tally.reading_ms = longest_gap(read, from, to);
        tally.session_ms = longest_gap(session, from, to);
        tally
    }
}

/// [`longest_gap`] between times that count as the journal has it.
fn counted(journal: &Journal, times: &[u64], from: u64, to: u64) -> f64 {
    let begin = times.iter().copied().min().unwrap_or(from).min(from);
    let scale = |time: u64| if time < begin { 0 } else { journal.counted(begin, time) };
    longest_gap(times.iter().map(|time| scale(*time)).collect(), scale(from), scale(to))
}

/// The longest time between two neighbours that touches the span, milliseconds; infinite when there is no neighbour on one side.
fn longest_gap(mut times: Vec<u64>, from: u64, to: u64) -> f64 {
    times.sort_unstable();
    if times.first().is_none_or(|first| *first > from) || times.last().is_none_or(|last| *last < to) {
        return f64::INFINITY;
    }
    let gaps = times.windows(2).filter(|pair| pair[1] > from && pair[0] < to).map(|pair| (pair[1] - pair[0]) as f64 / 1000.0);
    gaps.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn article(n: u64, done: u64, outcome: journal::Outcome) -> Record {
        Record::Write { t: 0, n, sent: done - 1, done, outcome, server: None, error: None }
    }

    #[test]
    fn counts_what_happened_within_the_span() {
        let mut records: Vec<Record> = [1_000, 2_000, 900_000, 1_000_000].map(|at| article(at, at, journal::Outcome::Ok)).into();
        records.push(article(500_000, 500_000, journal::Outcome::Unknown));
        let error = Some(visitors::SESSION_LOST.to_owned());
        records.push(Record::Visit { what: "session".into(), sent: 600_000, done: 600_001, ok: false, error });
        let all: BTreeSet<String> = [1_000, 2_000, 1_000_000].iter().map(|n| visitors::slug("r", *n)).collect();
        let tally = Tally::of(&Journal { records }, "r", (1_500, 950_000), &[all]);
        assert_eq!((tally.writing_ms, tally.session_ms), (898.0, f64::INFINITY));
        assert_eq!((tally.requests, tally.failed, tally.forgotten, tally.articles, tally.lost), (4, 2, 1, 2, 1));
    }

    #[test]
    fn a_gap_without_an_end_is_endless() {
        assert_eq!(longest_gap(vec![1, 2_000], 10, 1_500), 1.999);
        assert_eq!(longest_gap(vec![1, 2_000], 10, 2_500), f64::INFINITY);
        assert_eq!(longest_gap(Vec::new(), 10, 2_500), f64::INFINITY);
    }
}
