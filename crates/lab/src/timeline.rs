//! The timeline: faults, what the cluster did, and when clients could write, in one text that a person reads from top to
//! bottom. Times are those of the monotonic clock that host, nodes and clients share. Drawing is pure.

use std::fmt::Write as _;
use std::process::Command;

use crate::error::Result;
use crate::host;
use crate::journal::{Journal, Outcome, Record};
use crate::state::{Event, LabPaths, LabSpec};

/// Columns of a bar and the time it stands for.
const COLUMNS: u64 = 60;
const BAR_US: u64 = 2_000_000;
/// A shorter time without a write is none.
pub const SHORTEST_OUTAGE_US: u64 = 100_000;

/// Reads what the nodes' journals say between two moments (microseconds), from the nodes' disks: also of dead nodes.
pub fn cluster_events(paths: &LabPaths, spec: &LabSpec, from: u64, to: u64) -> Result<Vec<Event>> {
    Ok(timeline::without_echoes(events(paths, spec, from, to, timeline::TELLING)?))
}

/// The same with other words that tell, each as often as it was said.
pub fn events(paths: &LabPaths, spec: &LabSpec, from: u64, to: u64, telling: &[&str]) -> Result<Vec<Event>> {
    let mut found = Vec::new();
    for node in spec.node_names() {
        let dir = paths.journal_dir(&node);
        if !dir.exists() {
            continue;
        }
        let mut command = Command::new("journalctl");
        command.args(["--no-pager", "--quiet", "-o", "json", "--output-fields=MESSAGE,SYSLOG_IDENTIFIER", "-D"]).arg(&dir);
        // A node without power leaves its journal unclosed; what can be read is enough.
        let text = host::output(&mut command)?.stdout;
        found.extend(
            text.lines()
                .filter_map(|line| timeline::read_entry(&node, line, telling, timeline::Clock::Monotonic))
                .filter(|e| (from..=to).contains(&e.at_us)),
        );
    }
    found.sort_by_key(|e| e.at_us);
    Ok(found)
}

/// What the lines of a timeline mean.
pub const LEGEND: &str = "\
Seconds since the first fault. Who says it, and what:
  lab      *** what was done to the cluster: a kill, a power cut, a move ***
  lxc1     what Pacemaker, corosync or an agent on that node wrote into its journal. `Result of promote operation for mysql on lxc1: ok`
           is an action that has ended; `Fencing`, `Operation 'reboot'`: the others make sure that a lost node is off; `A new
           membership`: corosync counts who is there; `Setting master-mysql`: how much the agent wants the primary there
  clients  when writes stopped, the first error that a client saw, and when writes went on
";

/// The whole timeline as text. Times count from the first event after the start of the load: the first fault.
#[must_use]
pub fn draw(journal: &Journal, shortest_us: u64, lab: &[Event], cluster: &[Event]) -> String {
    let Some((begin, end)) = journal.span() else { return "the journal is empty\n".to_owned() };
    let in_span = |e: &&Event| (begin..=end).contains(&e.at_us) && !e.text.starts_with("load ");
    let zero = lab.iter().find(in_span).map_or(begin, |e| e.at_us);
    let mut rows: Vec<(u64, String, String)> = Vec::new();
    rows.extend(lab.iter().map(|e| (e.at_us, e.by.clone(), format!("*** {} ***", e.text))));
    rows.extend(cluster.iter().map(|e| (e.at_us, e.by.clone(), e.text.clone())));
    let outages = journal.outages(shortest_us, lab);
    for outage in &outages {
        rows.push((outage.from, "clients".into(), "last acknowledged write".into()));
        if let Some((at, error)) = first_failure(journal, outage.from, outage.to) {
            rows.push((at, "clients".into(), format!("first write that fails: {error}")));
        }
        if outage.ended {
            rows.push((outage.to, "clients".into(), format!("writes again, after {:.0} ms", outage.millis())));
        }
    }
    rows.retain(|(at, _, _)| (begin..=end).contains(at));
    rows.sort();
    let mut text = format!("{LEGEND}\n");
    for (at, who, what) in rows {
        let seconds = (at as f64 - zero as f64) / 1e6;
        let _ = writeln!(text, "{seconds:+9.3} s  {who:<18} {what}");
    }
    text.push('\n');
    let outages: Vec<(u64, u64)> = outages.iter().map(|o| (o.from, o.to)).collect();
    text.push_str(&bars(&outages, begin, end, zero));
    text
}

fn first_failure(journal: &Journal, from: u64, to: u64) -> Option<(u64, String)> {
    let failed = |r: &Record| match r {
        Record::Write { done, outcome, error, .. }
            if !matches!(outcome, Outcome::Ok | Outcome::Unconfirmed) && (from..=to).contains(done) =>
        {
            Some((*done, error.clone().unwrap_or_default()))
        }
        _ => None,
    };
    journal.records.iter().filter_map(failed).min()
}

/// Outages drawn to scale: `.` where there is one, `#` where there is none. Lines without an outage are
/// left out, as are repeated ones.
fn bars(outages: &[(u64, u64)], begin: u64, end: u64, zero: u64) -> String {
    let step = BAR_US / COLUMNS;
    let mut text = format!("Acknowledged writes ('#' some, '.' none; a line is {} s, a column {} ms):\n", BAR_US / 1_000_000, step / 1000);
    let mut skipped = false;
    // Lines start at whole bars from zero, so that the fault stands at the begin of a line.
    let before = zero.saturating_sub(begin).div_ceil(BAR_US) * BAR_US;
    let mut at = zero.saturating_sub(before);
    while at < end {
        let line: String = (0..COLUMNS)
            .map(|column| {
                let (from, to) = (at + column * step, at + (column + 1) * step);
                if to <= begin || from >= end {
                    return ' ';
                }
                if outages.iter().any(|(last, next)| *last <= from && to <= *next) { '.' } else { '#' }
            })
            .collect();
        if line.contains('.') {
            let seconds = (at as f64 - zero as f64) / 1e6;
            let _ = writeln!(text, "{seconds:+8.1} s |{line}|");
            skipped = false;
        } else if !skipped {
            text.push_str("     ...\n");
            skipped = true;
        }
        at += BAR_US;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_the_outage_to_scale() {
        // From 0.5 s to 1.5 s after the fault at 2 s.
        let text = bars(&[(2_490_000, 3_500_000)], 0, 4_000_000, 2_000_000);
        let line = text.lines().find(|l| l.contains("|")).unwrap_or_default();
        assert!(line.starts_with("    +0.0 s |###############....."), "{line}");
        assert!((29..=31).contains(&line.matches('.').count().saturating_sub(1)), "{line}");
    }

    #[test]
    fn the_story_is_in_order_and_counts_from_the_fault() {
        let ack = |done| Record::Write { t: 0, n: 1, sent: done, done, outcome: Outcome::Ok, server: None, error: None };
        let journal = Journal { records: vec![ack(1_000_000), ack(2_000_000), Record::End { at: 2_100_000 }] };
        let lab = [Event { at_us: 1_500_000, by: "lab".into(), text: "kill".into() }];
        let text = draw(&journal, SHORTEST_OUTAGE_US, &lab, &[]);
        let lines: Vec<&str> = text.trim_start_matches(LEGEND).trim_start().lines().take(3).collect();
        assert_eq!(lines[0].trim(), "-0.500 s  clients            last acknowledged write");
        assert_eq!(lines[1], "   +0.000 s  lab                *** kill ***");
        assert_eq!(lines[2], "   +0.500 s  clients            writes again, after 1000 ms");
    }
}
