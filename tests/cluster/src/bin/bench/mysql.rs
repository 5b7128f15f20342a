//! MySQL and MariaDB: beside ocf:heartbeat:mariadb and ocf:heartbeat:mysql; and what data and backlogs cost.

use std::time::Duration;

use cluster_scenarios::{Agent, Durability, MARIADB, MYSQL, Server, Setup, Site, stock};
use lab::{Error, Node, Result};
use serde::{Deserialize, Serialize};

use crate::fault::{Bed, Series, crash, planned_move};
use crate::page::{self, Page, percentile, seconds};
use crate::{Options, Results, cost};

/// How much data a crash is measured with, MiB.
const BALLAST: [u64; 2] = [10, 2048];
/// How long the appliers are held back before a crash, seconds.
const HELD: [u64; 3] = [5, 20, 60];

/// The agents take turns of so many runs, so that an interrupted benchmark has as many of each.
const TURN: usize = 5;
/// The name of the page and of the file with the numbers.
const PAGE: &str = "benchmarks-mysql";

/// Everything, for the file with the numbers.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Numbers {
    code: String,
    agents: Vec<Results>,
    ballast: Vec<Series>,
    backlog: Vec<Backlog>,
}

/// A crash with received transactions that are not applied.
#[derive(Debug, Serialize, Deserialize)]
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
    let mut numbers = if options.go_on { Numbers::read(options)? } else { Numbers { code: page::measured_code(), ..Numbers::default() } };
    let turns = options.runs.div_ceil(TURN);
    for runs in (1..=turns).map(|turn| (turn * TURN).min(options.runs)) {
        for (agent, server, name, label) in plan {
            if options.wants(label) {
                measure(agent, server, name, numbers.of(label), runs, options)?;
                numbers.keep(options)?;
            }
        }
    }
    for megabytes in BALLAST {
        if options.wants("ballast") {
            ballast(&mut numbers, megabytes, options)?;
            numbers.keep(options)?;
        }
    }
    if options.wants("backlog") {
        backlog(&mut numbers.backlog, options)?;
    }
    page(&numbers, options).write(options, PAGE, &numbers)
}

impl Numbers {
    /// What an interrupted run has written.
    fn read(options: &Options) -> Result<Self> {
        let path = options.out.join(PAGE).with_extension("json");
        let refuse = |why: String| Error::Refused(format!("{}: {why}: begin anew, without --go-on", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|e| refuse(e.to_string()))?;
        let numbers: Self = serde_json::from_str(&text).map_err(|e| refuse(e.to_string()))?;
        if numbers.code == page::measured_code() { Ok(numbers) } else { Err(refuse("it is of other agents".to_owned())) }
    }

    /// The results of an agent, begun if there are none.
    fn of(&mut self, label: &str) -> &mut Results {
        let at = self.agents.iter().position(|r| r.agent == label).unwrap_or_else(|| {
            self.agents.push(Results { agent: label.to_owned(), ..Results::default() });
            self.agents.len() - 1
        });
        &mut self.agents[at]
    }

    /// Writes what there is, so that an interruption costs one turn.
    fn keep(&self, options: &Options) -> Result<()> {
        if options.only.is_some() { Ok(()) } else { page(self, options).write(options, PAGE, self) }
    }
}

fn page(numbers: &Numbers, options: &Options) -> Page {
    let mut page = Page::new(
        "Benchmarks: MySQL and MariaDB",
        &format!(
            "Written by `make bench-mysql RUNS={}` and not by hand. The agents took turns of {TURN} runs in the same rehearsal cluster (three nodes \
             on one machine), with the same MariaDB where nothing else is said, the same snippet (monitor intervals 10 s and 11 s; the \
             addresses and their constraints too) and the same load (4 writers, a pause of 1 ms after each write; sync_binlog=1, \
             innodb_flush_log_at_trx_commit=1). ocf:systole:mysql has its default durability (lossless), and rejoin=clone. ocf:heartbeat:mariadb replicates by \
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

fn measure(agent: Agent, server: Server, name: &str, results: &mut Results, runs: usize, options: &Options) -> Result<()> {
    if ["kill -9 of the primary", "planned move"].iter().all(|what| results.series(what).is_complete(runs)) {
        return Ok(());
    }
    let newer = server.client == MYSQL.client;
    let bed = bed(agent, server, &results.agent, 0, options)?;
    if results.versions.is_empty() {
        // Beside the stock agents, which do not run with that server.
        results.monitor = if newer { None } else { Some(cost::monitors(bed.site(), agent, name, options)?) };
        results.versions = page::versions(&bed.site().primary()?, if newer { "mysql-server-core" } else { "mariadb-server" })?;
    }
    let bed = bed.run(results.series("kill -9 of the primary"), runs, crash)?;
    bed.run(results.series("planned move"), runs, planned_move).map(drop)
}

fn bed<'a>(agent: Agent, server: Server, label: &str, megabytes: u64, options: &'a Options) -> Result<Bed<'a>> {
    let layer = cost::layer()?;
    let make = move || {
        // To a stock agent durability=async means nothing but that there is no record to wait for.
        let durability = if agent == Agent::Systole { Durability::Quorum } else { Durability::Async };
        let setup = Setup {
            agent,
            durability,
            settings: stock::settings(agent).to_owned(),
            layer: Some(layer.clone()),
            parameters: if agent == Agent::Systole { "rejoin=clone".to_owned() } else { String::new() },
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

/// Crashes with so much data.
fn ballast(numbers: &mut Numbers, megabytes: u64, options: &Options) -> Result<()> {
    let what = format!("{megabytes} MB");
    if numbers.ballast.iter().any(|series| series.what == what) {
        return Ok(());
    }
    let mut series = Series::new(&what);
    bed(Agent::Systole, MARIADB, "ballast", megabytes, options)?.run(&mut series, options.runs.min(10), crash)?;
    numbers.ballast.push(series);
    Ok(())
}

/// Crashes with backlogs.
fn backlog(all: &mut Vec<Backlog>, options: &Options) -> Result<()> {
    let mut bed = bed(Agent::Systole, MARIADB, "backlog", 0, options)?;
    for held_s in HELD {
        for _ in 0..options.runs.min(3) {
            let size = std::cell::Cell::new((0, 0));
            let mut series = Series::new(&format!("appliers held back for {held_s} s"));
            bed = bed.run(&mut series, 1, |site| held_back(site, held_s, &size))?;
            let (transactions, bytes) = size.get();
            eprintln!("backlog: {transactions} transactions, {bytes} bytes");
            if transactions == 0 {
                return Err(Error::Refused("the appliers were not held back".to_owned()));
            }
            all.push(Backlog { held_s, transactions, bytes, series });
        }
    }
    Ok(())
}

const LOCK: &str = "systole-bench";

/// Lets both replicas receive and not apply for so long, notes how much that was, and kills the primary.
fn held_back(site: &Site, seconds: u64, size: &std::cell::Cell<(u64, u64)>) -> Result<()> {
    let replicas = site.replicas()?;
    for node in &replicas {
        site.sql_in_background(node, &format!("SELECT GET_LOCK('{LOCK}', 1); LOCK TABLES `load`.writes READ"))?;
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
