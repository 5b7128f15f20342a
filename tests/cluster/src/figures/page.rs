//! The pages: Markdown that is made of the numbers.

use std::fmt::Write as _;

use super::{Backlog, COMPARED, Cost, FLOOR, Numbers, Resident, Results, Series, Subject, is_floor, percentile, seconds, times};
use crate::stock;

/// How long clients may have to wait, seconds.
pub const PATIENCE_S: u64 = 90;
/// How long servers may need to be back after the writes, seconds.
pub const WHOLE_S: u64 = 60;

/// A page that grows.
#[derive(Debug)]
pub struct Page {
    /// Its Markdown.
    pub text: String,
}

impl Page {
    /// Begins with a title, a paragraph, and where it was measured.
    #[must_use]
    pub fn new(title: &str, words: &str, machine: &str, commit: &str, results: &[Results]) -> Self {
        let mut nodes: Vec<&str> = Vec::new();
        for versions in results.iter().map(|r| r.versions.as_str()).filter(|versions| !versions.is_empty()) {
            if !nodes.contains(&versions) {
                nodes.push(versions);
            }
        }
        let text = format!("# {title}\n\n{words}\n\nMachine: {machine}. Nodes: {}. Code: {commit}.\n", nodes.join("; "));
        Self { text }
    }

    /// Adds Markdown.
    pub fn add(&mut self, text: &str) {
        self.text += text;
        self.text.push('\n');
    }

    /// A table: its heads, and rows of as many cells.
    pub fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) {
        let _ = writeln!(self.text, "\n| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()));
        for row in rows {
            let _ = writeln!(self.text, "| {} |", row.join(" | "));
        }
    }

    /// What a monitor costs.
    fn monitors(&mut self, results: &[Results], calls: u32) {
        let mut rows = Vec::new();
        let mut ratios = String::new();
        let ours = results.first().and_then(|r| r.monitor.as_ref());
        for r in results {
            let Some(monitor) = &r.monitor else { continue };
            for (role, c) in [("primary", &monitor.primary), ("replica", &monitor.replica)] {
                rows.push([r.agent.clone(), role.to_owned()].into_iter().chain(cells(c)).collect());
            }
            if let Some(ours) = ours.filter(|_| r.agent.contains("heartbeat")) {
                let more = |theirs: &Cost, own: &Cost| percentile(&theirs.cpu_ms, 0.5) / percentile(&own.cpu_ms, 0.5);
                let _ = writeln!(
                    ratios,
                    "\nThe monitor of {} takes {:.0} times the CPU on the primary and {:.0} times on a replica.",
                    r.agent,
                    more(&monitor.primary, &ours.primary),
                    more(&monitor.replica, &ours.replica)
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
    fn faults(&mut self, results: &[Results]) {
        let mut rows = Vec::new();
        for (r, series) in measured(results) {
            let outages = series.outages();
            let count = |wanted: fn(&super::Fault) -> bool| series.faults.iter().filter(|f| wanted(f)).count().to_string();
            // The stub's server stores nothing that could be lost.
            let stores = |text: String| if is_floor(r) { "-".to_owned() } else { text };
            let (acknowledged, lost) = series.writes();
            rows.push(vec![
                r.agent.clone(),
                series.what.clone(),
                format!("{}{}", series.faults.len(), if series.given_up { ", given up" } else { "" }),
                seconds(percentile(&outages, 0.5)),
                seconds(percentile(&outages, 1.0)),
                patient(series),
                acknowledged.to_string(),
                stores(lost.to_string()),
                count(|f| f.two_writers),
                count(|f| !f.whole),
            ]);
        }
        self.add(&format!(
            "\n## Faults under load\n\nThe outage is what a client sees: from the last write that was acknowledged before to the first one after. \
             So it is for the four writers, which give a connection up after a moment and try again. A fifth has the system's own patience: it \
             waits as long as the kernel does to connect, as most applications do. Lost: acknowledged, and not on the primary in the end. Left in pieces: {WHOLE_S} s after the writes were back (or had not come back) \
             the three servers were not all there with the same data, and the cluster was made anew. After three outages in a row of more than \
             {PATIENCE_S} s an agent is given up."
        ));
        self.table(
            &[
                "agent",
                "fault",
                "runs",
                "outage p50",
                "max",
                "patient client p50 / max",
                "acknowledged",
                "lost",
                "runs with two writers",
                "left in pieces",
            ],
            &rows,
        );
    }

    /// Each agent beside the floor and beside the stock agents.
    fn beside(&mut self, subject: &Subject, numbers: &Numbers) {
        let others: Vec<&Results> =
            std::iter::once(FLOOR).chain(subject.stock.iter().copied()).filter_map(|label| numbers.agent(label)).collect();
        self.add(
            "\n## Beside the floor and the stock agents\n\nThe floor is an agent that does nothing, with a server that stores nothing, in the same \
             snippet, found dead by the same watcher, behind the same address, with writers of the same kind: what a failover takes when agent and \
             database cost nothing, which is Pacemaker's own. The outages are medians; a ratio is how many times the outage of the agent above \
             the column. Of all of this a ratio is what the hour matters least to. What was measured on other nodes is held against the floor of these \
             nodes.",
        );
        let mut heads = vec!["agent".to_owned(), "fault".to_owned(), "outage".to_owned()];
        heads.extend(others.iter().flat_map(|other| [format!("- {}", other.agent), format!("/ {}", other.agent)]));
        let row = |(r, series): (&Results, &Series)| {
            let median = series.median();
            let cells = |other: &&Results| {
                let theirs = column(numbers, other, r).and_then(|other| counterpart(other, series)).map_or(f64::NAN, Series::median);
                let difference = median - theirs;
                let difference = if difference.is_finite() { format!("{:+.2} s", difference / 1000.0) } else { "-".to_owned() };
                [difference, times(median, theirs)]
            };
            [r.agent.clone(), series.what.clone(), seconds(median)].into_iter().chain(others.iter().flat_map(cells)).collect()
        };
        self.table(&heads.iter().map(String::as_str).collect::<Vec<_>>(), &measured(&numbers.agents).map(row).collect::<Vec<_>>());
        self.processor_time(&others, numbers);
    }

    fn processor_time(&mut self, others: &[&Results], numbers: &Numbers) {
        let mut heads = vec!["agent".to_owned(), "fault".to_owned(), "processor time".to_owned()];
        heads.extend(others.iter().map(|other| format!("/ {}", other.agent)));
        let row = |(r, series): (&Results, &Series)| -> Option<Vec<String>> {
            let own = series.agents_cpu_ms()?;
            let ratio = |other: &&Results| {
                let theirs = column(numbers, other, r).and_then(|other| counterpart(other, series)).and_then(Series::agents_cpu_ms);
                theirs.map_or_else(|| "-".to_owned(), |theirs| times(own, theirs))
            };
            let mut cells = vec![r.agent.clone(), series.what.clone(), format!("{own:.0} ms")];
            cells.extend(others.iter().map(ratio));
            Some(cells)
        };
        let rows: Vec<Vec<String>> = measured(&numbers.agents).filter_map(row).collect();
        if rows.is_empty() {
            return;
        }
        self.add(
            "\n### Processor time of a failover\n\nOf all agents on all nodes and all that they started, from the fault to the first write \
             after: what has ended by then and was waited for by Pacemaker's executor, the address's agent included, and the watchers that \
             live on. Not the databases, which nobody waits for, not Pacemaker itself, and not what the watcher of the dead server took in its \
             last millisecond. The kernel tells it in steps of 10 ms, so single runs are rough and the mean of all is what stands here.",
        );
        self.table(&heads.iter().map(String::as_str).collect::<Vec<_>>(), &rows);
    }

    fn ballast(&mut self, ballast: &[Series], resident: Option<&Resident>) {
        self.add("\n## kill -9 of the primary with little and with much data\n\nocf:systole:mysql, MariaDB, under the same load.");
        let row = |what: String, s: &Series| {
            let outages = s.outages();
            vec![what, s.faults.len().to_string(), seconds(percentile(&outages, 0.5)), seconds(percentile(&outages, 1.0))]
        };
        let mut rows: Vec<_> = ballast.iter().map(|s| row(s.what.clone(), s)).collect();
        if let Some(resident) = resident.filter(|resident| !resident.series.faults.is_empty()) {
            let least = resident.resident_mib.iter().min().copied().unwrap_or_default();
            rows.push(row(format!("{}: at least {:.1} GiB were resident", resident.series.what, least as f64 / 1024.0), &resident.series));
        }
        self.table(&["data", "runs", "outage p50", "max"], &rows);
        if let Some(why) = resident.map(|resident| &resident.skipped).filter(|why| !why.is_empty()) {
            self.add(&format!("\n{why}"));
        }
    }

    fn backlog(&mut self, backlog: &[Backlog]) {
        self.add(
            "\n## kill -9 of the primary with received transactions that are not applied\n\nocf:systole:mysql, MariaDB. A table lock held both \
             appliers back under load for the given time and was released with the kill. A replica is promoted when it has applied all that it \
             received: nothing else is correct. The backlog is that of the replica that had more.",
        );
        let row = |b: &Backlog| {
            vec![
                format!("{} s", b.held_s),
                b.transactions.to_string(),
                format!("{:.1} MB", b.bytes as f64 / 1e6),
                seconds(percentile(&b.series.outages(), 1.0)),
                b.series.writes().1.to_string(),
            ]
        };
        self.table(&["held back", "transactions", "relay log", "outage", "lost"], &backlog.iter().map(row).collect::<Vec<_>>());
    }
}

/// The page of a benchmark with servers.
#[must_use]
pub fn of(subject: &Subject, numbers: &Numbers) -> String {
    let words = words(subject, &runs(numbers));
    let mut page = Page::new(&format!("Benchmarks: {}", subject.title), &words, &numbers.machine, &numbers.commit, &numbers.agents);
    page.monitors(&numbers.agents, numbers.monitors);
    page.faults(&numbers.agents);
    page.add(&format!("\n![Each outage of each agent, on a logarithmic axis]({}-outages.svg)", subject.page));
    page.beside(subject, numbers);
    if super::plot::timeline(subject, numbers).is_some() {
        page.add(&format!(
            "\n## Where the time goes\n\nA crash whose outage is the one in the middle, to scale: each bar ends when its step has been done, and begins at the end \
             of the step before. `systole-lab timeline` tells more of any failover.\n\n![The steps of a crash, to scale]({}-timeline.svg)",
            subject.page
        ));
    }
    if !numbers.ballast.is_empty() || numbers.resident.is_some() {
        page.ballast(&numbers.ballast, numbers.resident.as_ref());
    }
    if !numbers.backlog.is_empty() {
        page.backlog(&numbers.backlog);
    }
    page.text
}

/// The variables of the command that measures it.
#[must_use]
pub fn runs(numbers: &Numbers) -> String {
    let fewer = numbers.stock_runs.map_or_else(String::new, |runs| format!(" STOCK_RUNS={runs}"));
    format!("RUNS={}{fewer}", numbers.runs)
}

fn words(subject: &Subject, runs: &str) -> String {
    let about = match subject.page {
        "benchmarks" => {
            format!(
                "The agents took turns in the same rehearsal cluster (three nodes on one machine), with the same snippet (monitor intervals 10 s and \
                 11 s), the same load (4 writers, a pause of 1 ms after each write) and the distribution's server settings. {}",
                stock::words_of_redis()
            )
        }
        _ => {
            format!(
                "The agents took turns in the same rehearsal cluster (three nodes \
                 on one machine), with the same MariaDB where nothing else is said, the same snippet (monitor intervals 10 s and 11 s; the \
                 addresses and their constraints too) and the same load (4 writers, a pause of 1 ms after each write; sync_binlog=1, \
                 innodb_flush_log_at_trx_commit=1). ocf:systole:mysql has its default durability (lossless), and rejoin=clone. {} ocf:heartbeat:mariadb replicates by \
                 GTID and switches semi-synchronous replication on by itself; all nodes were given the same first transaction, without which it \
                 promotes none. ocf:heartbeat:mysql replicates by file and position and has no durability of its own: semi-synchronous replication is \
                 on in the option file. Both have one applier instead of four (slave_parallel_threads=0), because they promote a replica when its applier \
                 has read the relay log, not when it has carried it out. Both run mariadbd itself and not mysqld_safe, which would start a dead server again without \
                 Pacemaker's knowledge. The writers of the floor are those of Redis, at MariaDB's address and port. MySQL 9.7 runs on nodes of Debian's next \
                 release, with a Pacemaker and a floor of their own.",
                stock::words_of_mysql()
            )
        }
    };
    format!(
        "Written by `{} {runs}` and not by hand. {about} Where one core was kept busy, a loop without a pause ran beside the cluster. The raw \
         numbers are in {}.json.",
        subject.command, subject.page
    )
}

fn measured(results: &[Results]) -> impl Iterator<Item = (&Results, &Series)> {
    results.iter().flat_map(|r| r.faults.iter().filter(|s| !s.faults.is_empty()).map(move |s| (r, s)))
}

/// What the client with the system's own patience saw; of fewer runs where it was not back after each.
fn patient(series: &Series) -> String {
    let waits = series.patient();
    if waits.is_empty() {
        return "-".to_owned();
    }
    let of = if waits.len() < series.faults.len() { format!(" (in {})", waits.len()) } else { String::new() };
    format!("{} / {}{of}", seconds(percentile(&waits, 0.5)), seconds(percentile(&waits, 1.0)))
}

/// Whose results stand in a column for an agent: the floor of its own nodes in that of the floor; nobody is held against himself.
fn column<'a>(numbers: &'a Numbers, other: &'a Results, agent: &Results) -> Option<&'a Results> {
    let held_against = if is_floor(other) { numbers.floor_of(&agent.agent)? } else { other };
    (held_against.agent != agent.agent && !(is_floor(held_against) && is_floor(agent))).then_some(held_against)
}

/// The series of another agent that this one is held against: the same fault, on a machine that was as busy.
fn counterpart<'a>(other: &'a Results, series: &Series) -> Option<&'a Series> {
    let fault = COMPARED.into_iter().find(|fault| series.what.starts_with(fault))?;
    other.find(fault, series.what.ends_with(super::BUSY))
}

/// What something costs: wall p50 and p99, CPU p50, processes, resident.
#[must_use]
pub fn cells(cost: &Cost) -> [String; 5] {
    [
        format!("{:.1} ms", percentile(&cost.wall_ms, 0.5)),
        format!("{:.1} ms", percentile(&cost.wall_ms, 0.99)),
        format!("{:.1} ms", percentile(&cost.cpu_ms, 0.5)),
        cost.processes.iter().min().copied().unwrap_or_default().to_string(),
        format!("{:.1} MB", cost.max_resident_kb as f64 / 1024.0),
    ]
}
