//! The cron jobs: what a monitor costs beside ocf:heartbeat:symlink, with which people link a crontab into cron's directory, and what
//! the wrapper adds to a job.

use cluster_scenarios::figures::page::cells;
use cluster_scenarios::figures::{Cost, Results, percentile};
use cluster_scenarios::jobs::{Jobs, Resource};
use lab::{LabOptions, Node, Result};

use crate::cost::{self, Call};
use crate::{Options, page};

const OURS: &str = "ocf:systole:cron-singleton";
const STOCK: &str = "ocf:heartbeat:symlink";

pub(crate) fn run(options: &Options) -> Result<()> {
    let site = Resource { name: "site-cron", parameters: "", seconds: 1, timer: false, leaves_a_daemon: false };
    let layers = vec![cost::layer()?];
    let jobs = Jobs::with(&options.lab, &[site], LabOptions { layers, ..LabOptions::default() })?;
    let node = jobs.wait_on("site-cron", |_| true)?;
    let mut rows = Vec::new();
    let mut numbers = Vec::new();
    let mut add = |what: String, cost: Cost| {
        rows.push(row(&what, &cost));
        numbers.push((what, cost));
    };
    for count in [10, 1000] {
        let name = format!("jobs-{count}");
        let source = format!("/etc/systole/{name}.cron");
        // None of them comes due now: that is what most monitors find.
        node.sh(&format!("for n in $(seq {count}); do echo \"$((n % 60)) $((n % 24)) 29 2 * root job $n\"; done > {source}"))?;
        for (agent, parameters) in [(OURS, vec![("source", source.clone())]), (STOCK, stock(&name, &source))] {
            let parameters: Vec<(String, String)> = parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let call = |action| Call { resource: &name, agent, parameters: &parameters, action };
            call("start").cost(&node, 1, 0)?;
            add(format!("{agent}, {count} jobs"), call("monitor").cost(&node, options.monitors, 0)?);
            if agent == STOCK || count > 10 {
                call("stop").cost(&node, 1, 0)?;
            }
        }
    }
    let results = [Results { agent: OURS.to_owned(), versions: page::versions(&node, "cron")?, ..Results::default() }];
    let mut page = page::begin(
        "Benchmarks: cron jobs",
        "Written by `make bench-cron` and not by hand, in the rehearsal cluster. There is no stock agent for cron jobs; \
         ocf:heartbeat:symlink is what people take, to link a crontab into /etc/cron.d. It does not look whether cron runs, and ends no job. \
         The raw numbers are in benchmarks-cron.json.",
        &results,
    );
    page.add(&format!(
        "\n## A monitor when nothing came due\n\n{} calls each. Processes: the lowest count (other processes on the machine start some too).",
        options.monitors
    ));
    page.table(&["agent", "wall p50", "wall p99", "CPU p50", "processes", "resident"], &rows);
    let (plain, wrapped) = wrapper(&node, options.monitors)?;
    page.add(&format!(
        "\n## What the wrapper adds to a job\n\nThe job is `true`, {} times each in turn. The wrapper adds {:.1} ms and {:.1} ms CPU; at most {:.1} MB of it are resident.",
        options.monitors,
        percentile(&wrapped.wall_ms, 0.5) - percentile(&plain.wall_ms, 0.5),
        percentile(&wrapped.cpu_ms, 0.5) - percentile(&plain.cpu_ms, 0.5),
        wrapped.max_resident_kb as f64 / 1024.0
    ));
    page.table(
        &["started by cron", "wall p50", "wall p99", "CPU p50", "processes", "resident"],
        &[row("/bin/sh -c true", &plain), row("cron-run -c true", &wrapped)],
    );
    numbers.extend([("sh".to_owned(), plain), ("cron-run".to_owned(), wrapped)]);
    page::write(&page, options, "benchmarks-cron", &numbers)
}

fn stock(name: &str, source: &str) -> Vec<(&'static str, String)> {
    vec![("target", source.to_owned()), ("link", format!("/etc/cron.d/linked-{name}"))]
}

/// A job as cron starts it, without and with the wrapper. Each run is one of another job: a job runs once for a minute.
fn wrapper(node: &Node, runs: u32) -> Result<(Cost, Cost)> {
    let line = format!(
        "for n in $(seq {runs}); do measure 1 /bin/sh -c true; \
         SYSTOLE_CRON=jobs-10 SYSTOLE_JOB=measured-$n measure 1 /usr/libexec/systole/cron-run -c true; done"
    );
    let (mut plain, mut wrapped) = (Cost::default(), Cost::default());
    for (n, cost) in cost::read(node, &line)?.into_iter().enumerate() {
        let of = if n % 2 == 0 { &mut plain } else { &mut wrapped };
        of.add(cost);
    }
    let ran = node.sh("grep -c measured-.*ended /var/lib/systole/cron/jobs-10/0/history.jsonl")?;
    if ran.stdout.trim() == runs.to_string() {
        return Ok((plain, wrapped));
    }
    Err(lab::Error::Refused(format!("of {runs} jobs only {} have run", ran.stdout.trim())))
}

fn row(what: &str, cost: &Cost) -> Vec<String> {
    std::iter::once(what.to_owned()).chain(cells(cost)).collect()
}
