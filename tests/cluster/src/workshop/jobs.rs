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
    /// When one has run twice for a minute.
    pub fn jobs_verdict(&self) -> Result<String> {
        let runs = self.runs()?;
        let mut minutes: BTreeMap<i64, usize> = BTreeMap::new();
        for ((minute, _), count) in &runs {
            *minutes.entry(*minute).or_default() += count;
        }
        let all: Vec<String> = runs.keys().map(|(minute, node)| told(*minute, node)).collect();
        match minutes.iter().find(|(_, count)| **count > 1) {
            Some((minute, _)) => Err(Error::Refused(format!("the job has run twice for {}: {}", told(*minute, "it"), all.join("; ")))),
            None => Ok(format!("The cron job of every minute has run {} times, and for no minute twice: {}", runs.len(), all.join("; "))),
        }
    }

    /// Minute (since 1970) and node of each run, and how often it began.
    fn runs(&self) -> Result<BTreeMap<(i64, String), usize>> {
        let mut runs = BTreeMap::new();
        for node in self.lab.live_nodes() {
            let text = node.sh(&format!("cat /var/lib/systole/cron/{RESOURCE}/*/history.jsonl 2>/dev/null || true"))?.stdout;
            for line in text.lines() {
                let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
                if line["event"] == "started" {
                    *runs.entry((line["minute"].as_i64().unwrap_or_default(), node.name.clone())).or_default() += 1;
                }
            }
        }
        Ok(runs)
    }
}

fn told(minute: i64, node: &str) -> String {
    format!("{:02}:{:02} UTC on {node}", minute / 60 % 24, minute % 60)
}
