//! Our agent and ocf:heartbeat:redis side by side in one run: monitor cost, crash outage, move outage, writes lost.
//! Writes the page that the documentation quotes, with the machine and the versions, and the raw numbers as JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cluster_scenarios::{Agent, Durability, Setup, Site};
use lab::{CheckOptions, Error, Load, Node, Result};
use serde::{Deserialize, Serialize};

#[derive(Parser)]
#[command(about = "Benchmark of the agents beside the stock ones")]
struct Options {
    /// Crashes and moves per agent
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Monitors per agent and role
    #[arg(long, default_value_t = 100)]
    monitors: u32,
    /// Where to write the page
    #[arg(long, default_value = "docs/benchmarks.md")]
    out: PathBuf,
}

/// What `measure` prints.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cost {
    status: i32,
    wall_ms: Vec<f64>,
    cpu_ms: Vec<f64>,
    processes: Vec<u64>,
    max_resident_kb: u64,
}

/// One fault under load.
#[derive(Debug, Serialize)]
struct Fault {
    outage_ms: f64,
    acknowledged: usize,
    lost: usize,
    two_writers: bool,
}

#[derive(Debug, Serialize)]
struct Results {
    agent: &'static str,
    primary: Cost,
    replica: Cost,
    crashes: Vec<Fault>,
    moves: Vec<Fault>,
    confirmed: Vec<Fault>,
    versions: String,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let results = [measure(Agent::Systole, options)?, measure(Agent::Stock, options)?];
    let write = |path: &Path, text: &str| std::fs::write(path, text).map_err(|e| Error::Refused(format!("{}: {e}", path.display())));
    write(&options.out, &page(&results, options))?;
    let raw = serde_json::to_string(&results).map_err(|e| Error::Refused(e.to_string()))?;
    write(&options.out.with_extension("json"), &(raw + "\n"))?;
    println!("written: {}", options.out.display());
    Ok(())
}

fn measure(agent: Agent, options: &Options) -> Result<Results> {
    let name = match agent {
        Agent::Systole => "ocf:systole:redis",
        Agent::Stock => "ocf:heartbeat:redis",
    };
    let layer = measure_layer()?;
    let up = |durability| {
        Site::with(
            &format!("bench-{}", name.split(':').nth(1).unwrap_or("x")),
            Setup { agent, durability, layer: Some(layer.clone()), ..Setup::default() },
        )
    };
    let site = up(Durability::Async)?;
    // The first monitors after a start still publish scores; a steady one is what runs for years.
    std::thread::sleep(Duration::from_secs(15));
    let primary = cost(&site.primary()?, name, options.monitors)?;
    let replica = cost(&site.replicas()?[0], name, options.monitors)?;
    let crashes = faults(&site, name, "crash", options.runs, |site| site.kill_primary().map(drop))?;
    let moves = faults(&site, name, "move", options.runs, |site| site.move_primary().map(drop))?;
    let versions = site
        .primary()?
        .sh("dpkg-query -W -f '${Package} ${Version}, ' pacemaker corosync resource-agents redis-server crmsh; . /etc/os-release; echo \"$PRETTY_NAME\"")?
        .stdout;
    drop(site);
    let mut confirmed = Vec::new();
    if agent == Agent::Systole {
        let site = up(Durability::Quorum)?;
        confirmed = faults(&site, name, "crash with confirmed writes", options.runs, |site| site.kill_primary().map(drop))?;
    }
    Ok(Results { agent: name, primary, replica, crashes, moves, confirmed, versions: versions.trim().to_owned() })
}

/// A layer with the measuring program, which stands beside this one.
fn measure_layer() -> Result<PathBuf> {
    let io = |e: std::io::Error| Error::Refused(format!("the measuring program: {e}; run this by `make bench`"));
    let program = std::env::current_exe().map_err(io)?.with_file_name("measure");
    let layer = std::env::temp_dir().join(format!("systole-bench-{}", std::process::id()));
    std::fs::create_dir_all(layer.join("usr/local/bin")).map_err(io)?;
    std::fs::copy(program, layer.join("usr/local/bin/measure")).map_err(io)?;
    Ok(layer)
}

/// What a steady monitor costs, with the environment that Pacemaker gives it.
fn cost(node: &Node, agent: &str, runs: u32) -> Result<Cost> {
    let path = agent.replacen("ocf:", "/usr/lib/ocf/resource.d/", 1).replace(':', "/");
    let line = format!(
        "env OCF_ROOT=/usr/lib/ocf OCF_RA_VERSION_MAJOR=1 OCF_RESOURCE_INSTANCE=redis OCF_RESOURCE_TYPE=redis \
         OCF_RESKEY_config=/etc/redis/site.conf OCF_RESKEY_crm_feature_set=3.16.2 OCF_RESKEY_CRM_meta_on_node={} \
         OCF_RESKEY_CRM_meta_interval=10000 OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_clone_max=3 \
         OCF_RESKEY_CRM_meta_notify=true OCF_RESKEY_CRM_meta_promotable=true OCF_RESKEY_CRM_meta_master_max=1 \
         measure {runs} {path} monitor",
        node.name
    );
    let output = node.sh(&line)?;
    serde_json::from_str(&output.stdout)
        .map_err(|e| Error::Refused(format!("measure on {}: {e}: {} {}", node.name, output.stdout, output.stderr)))
}

/// The same fault again and again, each under its own load, each from a settled cluster.
fn faults(site: &Site, agent: &str, what: &str, runs: usize, fault: impl Fn(&Site) -> Result<()>) -> Result<Vec<Fault>> {
    let mut all = Vec::new();
    for run in 1..=runs {
        site.wait_settled()?;
        let load = site.load()?;
        fault(site)?;
        let result = judge(site, load)?;
        println!(
            "{agent}: {what} {run} of {runs}: {:.0} ms without writes, {} of {} acknowledged writes lost",
            result.outage_ms, result.lost, result.acknowledged
        );
        all.push(result);
    }
    Ok(all)
}

fn judge(site: &Site, load: Load) -> Result<Fault> {
    std::thread::sleep(Duration::from_millis(1500));
    site.lab.wait_for("writes after the fault", Duration::from_secs(90), || load.writing())?;
    std::thread::sleep(Duration::from_secs(1));
    let journal = load.stop()?;
    let report = site.lab.check(&journal, &CheckOptions::default())?;
    let outage_ms = journal.outages(20_000, &[]).iter().map(lab::journal::Outage::millis).fold(0.0, f64::max);
    Ok(Fault { outage_ms, acknowledged: report.acknowledged, lost: report.missing, two_writers: !journal.two_writers().is_empty() })
}

/// The value that `share` of the sorted values do not exceed (nearest rank).
fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

fn page(results: &[Results; 2], options: &Options) -> String {
    let mut out = String::new();
    let [ours, stock] = results;
    let _ = writeln!(
        out,
        "# Benchmarks\n\nWritten by `make bench RUNS={}` and not by hand. Both agents ran in the same rehearsal cluster (three nodes on one machine), with \
         the same snippet (monitor intervals 10 s and 11 s), the same load (4 writers, a pause of 1 ms after each write) and the distribution's \
         server settings; the raw numbers are in benchmarks.json.\n\nMachine: {}. Nodes: {}. Code: {}.\n",
        options.runs,
        machine(),
        ours.versions,
        commit()
    );
    let _ = writeln!(
        out,
        "## A monitor when nothing changed\n\n{} calls each. Processes: the lowest count (other processes on the machine start some too).\n",
        options.monitors
    );
    let _ = writeln!(out, "| agent | role | wall p50 | wall p99 | CPU p50 | processes | resident |\n|---|---|---|---|---|---|---|");
    for r in results {
        for (role, c) in [("primary", &r.primary), ("replica", &r.replica)] {
            let _ = writeln!(
                out,
                "| {} | {role} | {:.1} ms | {:.1} ms | {:.1} ms | {} | {:.1} MB |",
                r.agent,
                percentile(&c.wall_ms, 0.5),
                percentile(&c.wall_ms, 0.99),
                percentile(&c.cpu_ms, 0.5),
                c.processes.iter().min().copied().unwrap_or_default(),
                c.max_resident_kb as f64 / 1024.0
            );
        }
    }
    let ratio = |theirs: &Cost, own: &Cost| percentile(&theirs.cpu_ms, 0.5) / percentile(&own.cpu_ms, 0.5);
    let _ = writeln!(
        out,
        "\nThe stock agent's monitor takes {:.0} times the CPU on the primary and {:.0} times on a replica.\n",
        ratio(&stock.primary, &ours.primary),
        ratio(&stock.replica, &ours.replica)
    );
    let _ = writeln!(
        out,
        "## Faults under load\n\nThe outage is what a client sees: from the last write that was acknowledged before to the first one after.\n"
    );
    let _ = writeln!(
        out,
        "| agent | fault | runs | outage p50 | p99 | max | acknowledged | lost | runs with two writers |\n|---|---|---|---|---|---|---|---|---|"
    );
    for r in results {
        for (what, faults) in [
            ("kill -9 of the primary, plain acknowledgements", &r.crashes),
            ("kill -9 of the primary, durability=quorum, WAIT 1", &r.confirmed),
            ("planned move, plain acknowledgements", &r.moves),
        ] {
            if faults.is_empty() {
                continue;
            }
            let outages: Vec<f64> = faults.iter().map(|f| f.outage_ms).collect();
            let _ = writeln!(
                out,
                "| {} | {what} | {} | {:.2} s | {:.2} s | {:.2} s | {} | {} | {} |",
                r.agent,
                faults.len(),
                percentile(&outages, 0.5) / 1000.0,
                percentile(&outages, 0.99) / 1000.0,
                percentile(&outages, 1.0) / 1000.0,
                faults.iter().map(|f| f.acknowledged).sum::<usize>(),
                faults.iter().map(|f| f.lost).sum::<usize>(),
                faults.iter().filter(|f| f.two_writers).count()
            );
        }
    }
    out
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
    let output = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    output.ok().filter(|o| o.status.success()).map_or_else(|| "unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}
