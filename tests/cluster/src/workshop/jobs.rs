//! The site's cron jobs, as the histories of the nodes have them.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::{Error, Result};

use super::Workshop;

/// The resource of cron.crm.
const RESOURCE: &str = "site-cron";

impl Workshop {
    /// Waits for the next run of the jobs: node and minute. `before`: what this returned before; that node's and minute's does not count.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn jobs_run(&self, before: &str, limit: Duration) -> Result<String> {
        let known = self.runs()?;
        let mut found = String::new();
        self.lab.wait_for("a run of the cron job", limit, || {
            let Ok(runs) = self.runs() else { return false };
            found = runs
                .into_iter()
                .find(|(run, _)| !known.contains_key(run))
                .map(|((minute, node), _)| told(minute, &node))
                .unwrap_or_default();
            !found.is_empty() && found != before
        })?;
        Ok(found)
    }

    /// When and where the jobs have run, each minute once.
    ///
    /// # Errors
    /// When none has run, when one has run twice for a minute, or a minute between the first and the last has no run and nobody tells of that.
    pub fn jobs_verdict(&self) -> Result<String> {
        let runs = self.runs()?;
        let told_of: Vec<i64> = self.history()?.into_iter().filter(|line| line.event != "started").map(|line| line.minute).collect();
        let mut minutes: BTreeMap<i64, usize> = BTreeMap::new();
        for ((minute, _), count) in &runs {
            *minutes.entry(*minute).or_default() += count;
        }
        let all: Vec<String> = runs.keys().map(|(minute, node)| told(*minute, node)).collect();
        let (first, last) = (minutes.keys().min().copied().unwrap_or_default(), minutes.keys().max().copied().unwrap_or_default());
        let lost: Vec<i64> = (first..last).filter(|minute| !minutes.contains_key(minute) && !told_of.contains(minute)).collect();
        let doubled: Vec<i64> = minutes.into_iter().filter(|(_, count)| *count > 1).map(|(minute, _)| minute).collect();
        let clock = |minutes: &[i64]| minutes.iter().map(|minute| clock(*minute)).collect::<Vec<_>>().join(", ");
        let all = all.join("; ");
        if runs.is_empty() {
            return Err(Error::Refused("no run of the job of every minute is in the history of any node".to_owned()));
        }
        match (doubled.as_slice(), lost.as_slice()) {
            ([], []) => {
                Ok(format!("The cron job of every minute has run {} times, for no minute twice, and none was lost: {all}", runs.len()))
            }
            _ => Err(Error::Refused(format!("the job has run twice for [{}], was lost for [{}]: {all}", clock(&doubled), clock(&lost)))),
        }
    }

    /// Minute (since 1970) and node of each run, and how often it began.
    fn runs(&self) -> Result<BTreeMap<(i64, String), usize>> {
        let mut runs = BTreeMap::new();
        for line in self.history()?.into_iter().filter(|line| line.event == "started") {
            *runs.entry((line.minute, line.node)).or_default() += 1;
        }
        Ok(runs)
    }

    /// What all nodes tell of runs: that they started, were missed or skipped.
    fn history(&self) -> Result<Vec<Line>> {
        let mut history = Vec::new();
        for node in self.lab.live_nodes() {
            let files = format!("cd /var/lib/systole/cron/{RESOURCE} 2>/dev/null && cat history.jsonl */history.jsonl 2>/dev/null; true");
            for line in node.sh(&files)?.stdout.lines() {
                let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
                let (event, minute) = (line["event"].as_str().unwrap_or_default(), line["minute"].as_i64().unwrap_or_default());
                if ["started", "missed", "skipped"].contains(&event) {
                    history.push(Line { node: node.name.clone(), event: event.to_owned(), minute });
                }
            }
        }
        Ok(history)
    }
}

/// A line of a node's history.
struct Line {
    node: String,
    event: String,
    /// Since 1970.
    minute: i64,
}

fn told(minute: i64, node: &str) -> String {
    format!("{} on {node}", clock(minute))
}

fn clock(minute: i64) -> String {
    format!("{:02}:{:02} UTC", minute / 60 % 24, minute % 60)
}
