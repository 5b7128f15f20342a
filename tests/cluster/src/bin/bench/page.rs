//! The pages: what they share.

use std::fmt::Write as _;

use lab::{Error, Node, Result};
use serde::Serialize;

use crate::fault::WHOLE;
use crate::{Options, Results};

/// A page that grows.
pub(crate) struct Page {
    text: String,
}

impl Page {
    pub(crate) fn new(title: &str, words: &str, results: &[Results]) -> Self {
        let mut nodes: Vec<&str> = Vec::new();
        for versions in results.iter().map(|r| r.versions.as_str()) {
            if !nodes.contains(&versions) {
                nodes.push(versions);
            }
        }
        let text = format!("# {title}\n\n{words}\n\nMachine: {}. Nodes: {}. Code: {}.\n", machine(), nodes.join("; "), commit());
        Self { text }
    }

    /// Adds Markdown.
    pub(crate) fn add(&mut self, text: &str) {
        self.text += text;
        self.text.push('\n');
    }

    /// A table: its heads, and rows of as many cells.
    pub(crate) fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) {
        let _ = writeln!(self.text, "\n| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()));
        for row in rows {
            let _ = writeln!(self.text, "| {} |", row.join(" | "));
        }
    }

    /// What a monitor costs.
    pub(crate) fn monitors(&mut self, results: &[Results], calls: u32) {
        let mut rows = Vec::new();
        let mut ratios = String::new();
        let ours = results.first().and_then(|r| r.monitor.as_ref());
        for r in results {
            let Some(monitor) = &r.monitor else { continue };
            for (role, c) in [("primary", &monitor.primary), ("replica", &monitor.replica)] {
                rows.push([r.agent.clone(), role.to_owned()].into_iter().chain(cells(c)).collect());
            }
            if let Some(ours) = ours.filter(|_| r.agent.contains("heartbeat")) {
                let times = |theirs: &crate::Cost, own: &crate::Cost| percentile(&theirs.cpu_ms, 0.5) / percentile(&own.cpu_ms, 0.5);
                let _ = writeln!(
                    ratios,
                    "\nThe monitor of {} takes {:.0} times the CPU on the primary and {:.0} times on a replica.",
                    r.agent,
                    times(&monitor.primary, &ours.primary),
                    times(&monitor.replica, &ours.replica)
                );
            }
        }
        self.add(&format!(
            "\n## A monitor when nothing changed\n\n{calls} calls each. Processes: the lowest count (other processes on the machine start some too)."
        ));
        self.table(&["agent", "role", "wall p50", "wall p99", "CPU p50", "processes", "resident"], &rows);
        self.text += &ratios;
    }

    /// What the faults did.
    pub(crate) fn faults(&mut self, results: &[Results]) {
        let mut rows = Vec::new();
        for (r, series) in results.iter().flat_map(|r| r.faults.iter().map(move |s| (r, s))) {
            let outages = series.outages();
            let count = |wanted: fn(&crate::fault::Fault) -> bool| series.faults.iter().filter(|f| wanted(f)).count().to_string();
            rows.push(vec![
                r.agent.clone(),
                series.what.clone(),
                format!("{}{}", series.faults.len(), if series.given_up { ", given up" } else { "" }),
                seconds(percentile(&outages, 0.5)),
                seconds(percentile(&outages, 0.99)),
                seconds(percentile(&outages, 1.0)),
                series.faults.iter().map(|f| f.acknowledged).sum::<usize>().to_string(),
                series.faults.iter().map(|f| f.lost).sum::<usize>().to_string(),
                count(|f| f.two_writers),
                count(|f| !f.whole),
            ]);
        }
        self.add(&format!(
            "\n## Faults under load\n\nThe outage is what a client sees: from the last write that was acknowledged before to the first one after. \
             Lost: acknowledged, and not on the primary in the end. Left in pieces: {} s after the writes were back (or had not come back) \
             the three servers were not all there with the same data, and the cluster was made anew. After three outages in a row of more than 90 s an agent is given up.",
            WHOLE.as_secs()
        ));
        self.table(
            &["agent", "fault", "runs", "outage p50", "p99", "max", "acknowledged", "lost", "runs with two writers", "left in pieces"],
            &rows,
        );
    }

    /// Writes page and numbers; prints the page alone when only a part was asked for.
    pub(crate) fn write(&self, options: &Options, name: &str, numbers: &impl Serialize) -> Result<()> {
        if options.only.is_some() {
            println!("{}", self.text);
            return Ok(());
        }
        let path = options.out.join(name);
        let write = |extension: &str, text: &str| {
            let path = path.with_extension(extension);
            std::fs::write(&path, text).map_err(|e| Error::Refused(format!("{}: {e}", path.display())))
        };
        write("md", &self.text)?;
        let raw = serde_json::to_string(numbers).map_err(|e| Error::Refused(e.to_string()))?;
        write("json", &(raw + "\n"))?;
        println!("written: {}", path.with_extension("md").display());
        Ok(())
    }
}

/// What something costs: wall p50 and p99, CPU p50, processes, resident.
pub(crate) fn cells(cost: &crate::Cost) -> [String; 5] {
    [
        format!("{:.1} ms", percentile(&cost.wall_ms, 0.5)),
        format!("{:.1} ms", percentile(&cost.wall_ms, 0.99)),
        format!("{:.1} ms", percentile(&cost.cpu_ms, 0.5)),
        cost.processes.iter().min().copied().unwrap_or_default().to_string(),
        format!("{:.1} MB", cost.max_resident_kb as f64 / 1024.0),
    ]
}

/// An outage for a reader.
pub(crate) fn seconds(milliseconds: f64) -> String {
    if milliseconds.is_infinite() { "> 90 s".to_owned() } else { format!("{:.2} s", milliseconds / 1000.0) }
}

/// The value that `share` of the sorted values do not exceed (nearest rank).
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// What runs on a node.
pub(crate) fn versions(node: &Node, server: &str) -> Result<String> {
    let line = format!(
        "dpkg-query -W -f '${{Package}} ${{Version}}, ' pacemaker corosync resource-agents {server} crmsh 2>/dev/null; . /etc/os-release; echo \"$PRETTY_NAME\""
    );
    Ok(node.sh(&line)?.stdout.trim().to_owned())
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo").lines().find_map(|l| l.strip_prefix("model name")).map(|l| l.trim_matches([' ', '\t', ':']).to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory =
        read("/proc/meminfo").lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().trim_end_matches(" kB").parse::<u64>().ok());
    format!(
        "{} cores ({}), {} GiB, Linux {}",
        cores,
        cpu.unwrap_or_else(|| "unknown".into()),
        memory.unwrap_or_default() / 1024 / 1024,
        read("/proc/sys/kernel/osrelease").trim().split('-').next().unwrap_or_default()
    )
}

fn commit() -> String {
    git(&["describe".to_owned(), "--always".to_owned(), "--dirty".to_owned()])
}

/// What is measured: the agent and what it is made of, its configuration, and the lab.
pub(crate) fn measured_code() -> String {
    let parts = [
        "agents/mysql",
        "crates/lab",
        "crates/ocf",
        "crates/pacemaker/src/cluster.rs",
        "crates/pacemaker/src/score.rs",
        "crates/pacemaker/src/tools.rs",
        "crates/pacemaker/src/watch.rs",
        "crates/process",
        "crm-snippets/base.crm",
        "crm-snippets/mysql.crm",
        "crm-snippets/server",
    ];
    git(&std::iter::once("rev-parse".to_owned()).chain(parts.map(|part| format!("HEAD:{part}"))).collect::<Vec<_>>())
}

fn git(arguments: &[String]) -> String {
    let output = std::process::Command::new("git").args(arguments).output();
    output.ok().filter(|o| o.status.success()).map_or_else(|| "unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}
