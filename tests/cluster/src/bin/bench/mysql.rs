//! MySQL and MariaDB: beside ocf:heartbeat:mariadb and ocf:heartbeat:mysql; and what data and backlogs cost.

use std::time::Duration;

use cluster_scenarios::{Agent, Durability, MARIADB, MYSQL, Server, Setup, Site, stock};
use lab::{Error, Node, Result};
use serde::Serialize;

use crate::fault::{Bed, Series, crash, planned_move};
use crate::page::{self, Page, percentile, seconds};
use crate::{Options, Results, cost};

/// How much data a crash is measured with, MiB.
const BALLAST: [u64; 2] = [10, 2048];
/// How long the appliers are held back before a crash, seconds.
const HELD: [u64; 3] = [5, 20, 60];

/// Everything, for the file with the numbers.
#[derive(Debug, Serialize)]
struct Numbers {
    agents: Vec<Results>,
    ballast: Vec<Series>,
    backlog: Vec<Backlog>,
}

/// A crash with received transactions that are not applied.
#[derive(Debug, Serialize)]
struct Backlog {
    held_s: u64,
    /// On the replica that had more, when the appliers were let go.
    transactions: u64,
    bytes: u64,
    series: Series,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let plan = [
        (Agent::Systole, MARIADB, "ocf:systole:mysql", "ocf:systole:mysql"),
        (Agent::Stock, MARIADB, "ocf:heartbeat:mariadb", "ocf:heartbeat:mariadb"),
        (Agent::StockByPosition, MARIADB, "ocf:heartbeat:mysql", "ocf:heartbeat:mysql"),
        (Agent::Systole, MYSQL, "ocf:systole:mysql", "ocf:systole:mysql, MySQL 9.7"),
    ];
    let mut agents = Vec::new();
    for (agent, server, name, label) in plan {
        if options.wants(label) {
            agents.push(measure(agent, server, name, label, options)?);
        }
    }
    let ballast = if options.wants("ballast") { ballast(options)? } else { Vec::new() };
    let backlog = if options.wants("backlog") { backlog(options)? } else { Vec::new() };
    let numbers = Numbers { agents, ballast, backlog };
    page(&numbers, options).write(options, "benchmarks-mysql", &numbers)
}

fn page(numbers: &Numbers, options: &Options) -> Page {
    let mut page = Page::new(
        "Benchmarks: MySQL and MariaDB",
        &format!(
            "Written by `make bench-mysql RUNS={}` and not by hand. The agents ran one after the other in the same rehearsal cluster (three nodes \
             on one machine), with the same MariaDB where nothing else is said, the same snippet (monitor intervals 10 s and 11 s; the \
             addresses and their constraints too) and the same load (4 writers, a pause of 1 ms after each write; sync_binlog=1, \
             innodb_flush_log_at_trx_commit=1). ocf:systole:mysql has its default durability (lossless). ocf:heartbeat:mariadb replicates by \
             GTID and switches semi-synchronous replication on by itself; all nodes were given the same first transaction, without which it \
             promotes none. ocf:heartbeat:mysql replicates by file and position and has no durability of its own: semi-synchronous replication is \
             on in the option file. Both have one applier instead of four (slave_parallel_threads=0), because they promote a replica when its applier \
             has read the relay log, not when it has carried it out. Both run mariadbd itself and not mysqld_safe, which would start a dead server again without \
             Pacemaker's knowledge. The raw numbers are in benchmarks-mysql.json.",
            options.runs
        ),
        &numbers.agents,
    );
    page.monitors(&numbers.agents, options.monitors);
    page.faults(&numbers.agents);
    page.add("\n## kill -9 of the primary with little and with much data\n\nocf:systole:mysql, MariaDB, under the same load.");
    let row = |s: &Series| {
        let outages = s.outages();
        vec![s.what.clone(), s.faults.len().to_string(), seconds(percentile(&outages, 0.5)), seconds(percentile(&outages, 1.0))]
    };
    page.table(&["data", "runs", "outage p50", "max"], &numbers.ballast.iter().map(row).collect::<Vec<_>>());
    page.add(
        "\n## kill -9 of the primary with received transactions that are not applied\n\nocf:systole:mysql, MariaDB. A table lock held both \
         appliers back under load for the given time and was released with the kill. A replica is promoted when it has applied all that it \
         received: nothing else is correct. The backlog is that of the replica that had more.",
    );
    let row = |b: &Backlog| {
        let outages = b.series.outages();
        vec![
            format!("{} s", b.held_s),
            b.transactions.to_string(),
            format!("{:.1} MB", b.bytes as f64 / 1e6),
            seconds(percentile(&outages, 1.0)),
            b.series.faults.iter().map(|f| f.lost).sum::<usize>().to_string(),
        ]
    };
    page.table(&["held back", "transactions", "relay log", "outage", "lost"], &numbers.backlog.iter().map(row).collect::<Vec<_>>());
    page
}

fn measure(agent: Agent, server: Server, name: &str, label: &str, options: &Options) -> Result<Results> {
    let newer = server.client == MYSQL.client;
    let bed = bed(agent, server, label, 0, options)?;
    // Beside the stock agents, which do not run with that server.
    let monitor = if newer { None } else { Some(cost::monitors(bed.site(), agent, name, options)?) };
    let versions = page::versions(bed.site(), if newer { "mysql-server-core" } else { "mariadb-server" })?;
    let (bed, crashes) = bed.series("kill -9 of the primary", options.runs, crash)?;
    let (_, moves) = bed.series("planned move", options.runs, planned_move)?;
    Ok(Results { agent: label.to_owned(), versions, monitor, faults: vec![crashes, moves] })
}

fn bed<'a>(agent: Agent, server: Server, label: &str, megabytes: u64, options: &'a Options) -> Result<Bed<'a>> {
    let layer = cost::layer()?;
    let clone = server.client == MYSQL.client;
    let make = move || {
        // To a stock agent durability=async means nothing but that there is no record to wait for.
        let durability = if agent == Agent::Systole { Durability::Quorum } else { Durability::Async };
        let setup = Setup {
            agent,
            durability,
            settings: stock::settings(agent).to_owned(),
            layer: Some(layer.clone()),
            parameters: if clone { "rejoin=clone".to_owned() } else { String::new() },
            ..Setup::of(server)
        };
        let site = Site::with(&options.lab, setup)?;
        if megabytes > 0 {
            site.lab.fill(&site.load_options()?, megabytes)?;
        }
        Ok(site)
    };
    Bed::new(label, make, acknowledged)
}

/// A primary takes writes, and both replicas follow and acknowledge.
fn acknowledged(site: &Site, limit: Duration) -> Result<()> {
    site.wait_settled_within(limit)?;
    let all = || site.replicas().is_ok_and(|replicas| replicas.iter().all(|node| site.follows(node, true)));
    site.lab.wait_for("replicas that acknowledge", limit, all)
}

/// Crashes with little and with much data.
fn ballast(options: &Options) -> Result<Vec<Series>> {
    let mut all = Vec::new();
    for megabytes in BALLAST {
        let bed = bed(Agent::Systole, MARIADB, "ballast", megabytes, options)?;
        let (_, series) = bed.series(&format!("{megabytes} MB"), options.runs.min(10), crash)?;
        all.push(series);
    }
    Ok(all)
}

/// Crashes with backlogs.
fn backlog(options: &Options) -> Result<Vec<Backlog>> {
    let mut bed = bed(Agent::Systole, MARIADB, "backlog", 0, options)?;
    let mut all = Vec::new();
    for held_s in HELD {
        for _ in 0..options.runs.min(3) {
            let size = std::cell::Cell::new((0, 0));
            let series;
            (bed, series) = bed.series(&format!("appliers held back for {held_s} s"), 1, |site| held_back(site, held_s, &size))?;
            let (transactions, bytes) = size.get();
            eprintln!("backlog: {transactions} transactions, {bytes} bytes");
            all.push(Backlog { held_s, transactions, bytes, series });
        }
    }
    Ok(all)
}

const LOCK: &str = "systole-bench";

/// Lets both replicas receive and not apply for so long, notes how much that was, and kills the primary.
fn held_back(site: &Site, seconds: u64, size: &std::cell::Cell<(u64, u64)>) -> Result<()> {
    let replicas = site.replicas()?;
    for node in &replicas {
        site.sql_in_background(node, &format!("SELECT GET_LOCK('{LOCK}', 1); LOCK TABLES \\`load\\`.writes READ"))?;
    }
    std::thread::sleep(Duration::from_secs(seconds));
    let holders: Vec<String> = replicas
        .iter()
        .map(|node| {
            let holder = site.sql(node, &format!("SELECT IS_USED_LOCK('{LOCK}')"))?.trim().to_owned();
            if holder.parse::<u64>().is_ok() { Ok(holder) } else { Err(Error::Refused(format!("{}: nobody holds the lock", node.name))) }
        })
        .collect::<Result<_>>()?;
    let sizes = replicas.iter().map(|node| behind(site, node)).collect::<Result<Vec<_>>>()?;
    size.set(sizes.into_iter().max().unwrap_or_default());
    site.kill_primary()?;
    replicas.iter().zip(&holders).try_for_each(|(node, holder)| site.sql(node, &format!("KILL {holder}")).map(drop))
}

/// What MariaDB has received and not applied: transactions, bytes.
fn behind(site: &Site, node: &Node) -> Result<(u64, u64)> {
    let status = site.replication(node)?;
    let field = |name: &str| status.lines().find_map(|l| l.trim().strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default().to_owned();
    let number = |name: &str| field(name).parse::<u64>().unwrap_or_default();
    let last = |gtid: &str| gtid.trim().rsplit('-').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
    let applied = last(&site.sql(node, "SELECT @@GLOBAL.gtid_slave_pos")?);
    let bytes = number("Read_Master_Log_Pos").saturating_sub(number("Exec_Master_Log_Pos"));
    Ok((last(&field("Gtid_IO_Pos")).saturating_sub(applied), bytes))
}
