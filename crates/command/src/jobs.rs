//! The runs of cron jobs, as the nodes tell of them, put together. Pure.

use std::collections::BTreeMap;
use std::time::SystemTime;

use chrono::DateTime;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::Table;

/// More runs than any node remembers.
pub(crate) const ALL: usize = 1_000_000;

/// A run that was, as `systole-cron history --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Past {
    /// When it was due, RFC 3339.
    pub(crate) due: String,
    /// Where.
    pub(crate) node: String,
    /// `running`, `ended`, `skipped`, `missed`.
    pub(crate) state: String,
    /// Its exit status, once it has ended.
    pub(crate) status: Option<i32>,
    /// How long it took, seconds, once it has ended.
    pub(crate) seconds: Option<i64>,
    /// Why it did not begin.
    pub(crate) why: Option<String>,
    /// The job's identity.
    pub(crate) job: String,
    /// Its command, as far as a history tells.
    pub(crate) command: Option<String>,
}

/// A run to come, as `systole-cron next --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Coming {
    /// When, RFC 3339.
    pub(crate) due: String,
    /// As whom.
    pub(crate) user: String,
    /// Where the job stands in the crontab.
    pub(crate) line: usize,
    /// What.
    pub(crate) command: String,
}

/// What can be printed.
pub(crate) trait Run: Serialize {
    /// The heads of its columns.
    const HEADS: &'static [&'static str];
    /// Its cells.
    fn cells(&self) -> Vec<String>;
}

impl Run for Past {
    const HEADS: &'static [&'static str] = &["DUE", "NODE", "STATE", "TOOK", "COMMAND"];

    fn cells(&self) -> Vec<String> {
        let state = match (&self.status, &self.why) {
            (Some(status), _) => format!("{} {status}", self.state),
            (None, Some(why)) => format!("{}: {why}", self.state),
            (None, None) => self.state.clone(),
        };
        let took = self.seconds.map_or_else(String::new, |seconds| format!("{seconds} s"));
        vec![short(&self.due), self.node.clone(), state, took, self.command.clone().unwrap_or_else(|| self.job.clone())]
    }
}

impl Run for Coming {
    const HEADS: &'static [&'static str] = &["DUE", "USER", "LINE", "COMMAND"];

    fn cells(&self) -> Vec<String> {
        vec![short(&self.due), self.user.clone(), self.line.to_string(), self.command.clone()]
    }
}

/// Without seconds and zone: `2026-11-21 05:00`.
fn short(rfc3339: &str) -> String {
    rfc3339.get(..16).unwrap_or(rfc3339).replace('T', " ")
}

/// Runs that are printed.
#[derive(Debug)]
pub(crate) struct Runs<T>(pub(crate) Vec<T>);

impl<T: Run> Runs<T> {
    /// As a table. A user can write anything into their history, and this is root's terminal.
    pub(crate) fn table(&self) -> Table {
        let plain = |cell: String| cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let mut table = Table::new(T::HEADS);
        self.0.iter().for_each(|run| table.row(run.cells().into_iter().map(plain).collect()));
        table
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }
}

/// Whether a node says that the resource has not been there.
pub(crate) fn was_never_there(why: &str) -> bool {
    ["has no history on this node", "has not been on this node"].iter().any(|words| why.contains(words))
}

fn read<T: DeserializeOwned>(node: &str, text: &str) -> Result<Vec<T>, String> {
    serde_json::from_str(text).map_err(|e| format!("{node} answers something else than runs (is systole of the same version there?): {e}"))
}

/// The runs of all nodes, the oldest first. What two nodes tell alike is told once.
///
/// # Errors
/// When nobody has a history, or an answer is none.
pub(crate) fn together(answers: &BTreeMap<String, String>) -> Result<Vec<Past>, String> {
    if answers.is_empty() {
        return Err("no node that answers has a history of the jobs: the resource has been on none of them".into());
    }
    let mut all: Vec<Past> = Vec::new();
    for (node, text) in answers {
        all.extend(read(node, text)?);
    }
    all.sort_by_key(|run| (moment(&run.due), run.clone()));
    all.dedup();
    Ok(all)
}

/// The last ones.
pub(crate) fn last(mut runs: Vec<Past>, most: usize) -> Vec<Past> {
    runs.split_off(runs.len().saturating_sub(most))
}

/// Those that did not begin though they were due since then.
pub(crate) fn missed(runs: Vec<Past>, since: SystemTime) -> Vec<Past> {
    let due = |run: &Past| moment(&run.due).is_none_or(|due| due >= since);
    runs.into_iter().filter(|run| ["missed", "skipped"].contains(&run.state.as_str()) && due(run)).collect()
}

/// The runs to come, and the nodes that say something else than the first of them.
///
/// # Errors
/// When nobody knows, or an answer is none.
pub(crate) fn agreed(answers: &BTreeMap<String, String>) -> Result<(Vec<Coming>, Option<String>), String> {
    let mut all: Vec<(&str, Vec<Coming>)> = Vec::new();
    for (node, text) in answers {
        all.push((node, read(node, text)?));
    }
    let Some((_, first)) = all.first().cloned() else {
        return Err("no node that answers knows the jobs: the resource has been on none of them".into());
    };
    let others: Vec<&str> = all.iter().filter(|(_, runs)| *runs != first).map(|(node, _)| *node).collect();
    Ok((first, (!others.is_empty()).then(|| others.join(" and "))))
}

fn moment(rfc3339: &str) -> Option<SystemTime> {
    DateTime::parse_from_rfc3339(rfc3339).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn past(due: &str, node: &str, state: &str) -> String {
        format!(
            "{{\"due\":\"{due}\",\"node\":\"{node}\",\"state\":\"{state}\",\"status\":null,\"seconds\":null,\"why\":null,\"job\":\"j\",\"command\":null}}"
        )
    }

    fn answers(said: &[(&str, String)]) -> BTreeMap<String, String> {
        said.iter().map(|(node, runs)| ((*node).to_owned(), format!("[{runs}]"))).collect()
    }

    #[test]
    fn the_runs_of_all_nodes_stand_in_the_order_of_time_whatever_their_zone() {
        let (early, late) = (past("2026-11-30T02:00:00+02:00", "b", "ended"), past("2026-11-30T00:30:00+00:00", "a", "missed"));
        let told_twice = format!("{late},{early}");
        let runs = together(&answers(&[("a", late.clone()), ("b", told_twice)])).unwrap();
        assert_eq!(runs.iter().map(|run| run.node.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(last(runs.clone(), 1)[0].node, "a");
        let since = |seconds: u64| missed(runs.clone(), SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).len();
        assert_eq!((since(0), since(1_795_998_600), since(1_795_998_601)), (1, 1, 0));
        assert_eq!(
            Runs(runs).table().tsv(),
            "due\tnode\tstate\ttook\tcommand\n2026-11-30 02:00\tb\tended\t-\tj\n2026-11-30 00:30\ta\tmissed\t-\tj\n"
        );
        assert!(together(&answers(&[("a", "nonsense".into())])).unwrap_err().starts_with("a answers something else"));
        assert_eq!(together(&answers(&[("a", String::new())])).unwrap(), [], "it has begun");
        assert!(together(&BTreeMap::new()).unwrap_err().starts_with("no node that answers has a history"));
    }

    #[test]
    fn nodes_whose_sources_differ_are_named() {
        let run = |line: usize| format!("{{\"due\":\"2026-11-30T02:00:00Z\",\"user\":\"root\",\"line\":{line},\"command\":\"x\\u001b\"}}");
        let (runs, differ) = agreed(&answers(&[("a", run(1)), ("b", run(2)), ("c", run(1))])).unwrap();
        assert_eq!((runs.len(), differ.as_deref()), (1, Some("b")));
        assert!(Runs(runs).table().pretty().ends_with("x?\n"));
        assert!(agreed(&BTreeMap::new()).is_err());
        assert!(was_never_there("systole-cron failed (status 1): systole-cron: jobs has no history on this node: it has not been here"));
    }
}
