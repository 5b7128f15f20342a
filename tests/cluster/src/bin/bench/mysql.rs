//! MySQL and MariaDB: beside ocf:heartbeat:mariadb, ocf:heartbeat:mysql and the floor; and what data, memory and backlogs cost.

use std::time::Duration;

use cluster_scenarios::figures::{self, Backlog, FLOOR, FLOOR_OF_NEWER, Series, WITH_MYSQL};
use cluster_scenarios::{Agent, Durability, MARIADB, MYSQL, Server, Setup, Site, stock, stub};
use lab::{Error, Node, Result};

use crate::fault::{Bed, crash};
use crate::page::{self, Book};
use crate::series::{self, BUSY_TOO, Kind};
use crate::{Options, cost};

/// How much data a crash is measured with, MiB.
const BALLAST: [u64; 2] = [10, 2048];
/// How long the appliers are held back before a crash, seconds.
const HELD: [u64; 3] = [5, 20, 60];

/// The buffer pool of a primary with much memory, and how much of it has to be resident, MiB.
const POOL_MIB: u64 = 9 * 1024;
const RESIDENT_MIB: u64 = 8 * 1024;
/// What this machine has to have left for that: the pool, and three servers with what they need anyway.
const NEEDED_MIB: u64 = POOL_MIB + 2 * 1024;
/// How long filling it may take.
const FILLING: Duration = Duration::from_secs(600);

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut book = Book::open(&figures::MYSQL, options, "agents/mysql")?;
    let (plain, ours) = (series::both("").to_vec(), [series::both(""), BUSY_TOO].concat());
    let [mariadb, mysql] = [figures::MYSQL.stock[0], figures::MYSQL.stock[1]];
    let plan = [
        (Agent::Systole, MARIADB, figures::MYSQL.ours, ours.clone()),
        (Agent::Stock, MARIADB, mariadb, plain.clone()),
        (Agent::StockByPosition, MARIADB, mysql, plain.clone()),
        (Agent::Systole, MYSQL, WITH_MYSQL, plain.clone()),
    ];
    for runs in series::turns(options.runs) {
        for (agent, server, label, kinds) in &plan {
            let runs = if *agent == Agent::Systole { runs } else { options.of_stock(runs) };
            let kinds = series::left(&mut book, label, kinds, runs, options);
            measure(*agent, *server, label, &kinds, &mut book, runs, options)?;
        }
        series::floor(stub::IN_PLACE_OF_MARIADB, FLOOR, &ours, &mut book, runs, options)?;
        series::floor(stub::IN_PLACE_OF_MYSQL, FLOOR_OF_NEWER, &plain, &mut book, runs, options)?;
    }
    for megabytes in BALLAST {
        ballast(&mut book, megabytes, options)?;
    }
    resident(&mut book, options)?;
    backlog(&mut book, options)?;
    book.close()
}

fn measure(agent: Agent, server: Server, label: &str, kinds: &[Kind], book: &mut Book<'_>, runs: usize, options: &Options) -> Result<()> {
    if kinds.is_empty() {
        return Ok(());
    }
    let newer = server.client == MYSQL.client;
    let bed = bed(agent, server, label, "", 0, options)?;
    if book.numbers.of(label).versions.is_empty() {
        // Beside the stock agents, which do not run with that server.
        let monitor = if newer { None } else { Some(cost::monitors(bed.site(), agent, label, options)?) };
        let versions = page::versions(&bed.site().primary()?, if newer { "mysql-server-core" } else { "mariadb-server" })?;
        let results = book.numbers.of(label);
        (results.monitor, results.versions) = (monitor, versions);
    }
    series::run(bed, book, label, kinds, runs)
}

fn bed<'a>(agent: Agent, server: Server, label: &str, settings: &str, megabytes: u64, options: &'a Options) -> Result<Bed<'a>> {
    let layer = cost::layer()?;
    let settings = format!("{}\n{settings}", stock::settings(agent));
    let make = move || {
        // To a stock agent durability=async means nothing but that there is no record to wait for.
        let durability = if agent == Agent::Systole { Durability::Quorum } else { Durability::Async };
        let setup = Setup {
            agent,
            durability,
            settings: settings.clone(),
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
fn ballast(book: &mut Book<'_>, megabytes: u64, options: &Options) -> Result<()> {
    let (what, runs) = (format!("{megabytes} MB"), options.runs.min(10));
    let all = &mut book.numbers.ballast;
    if !options.wants("ballast") || all.iter().any(|series| series.what == what && series.is_complete(runs)) {
        return Ok(());
    }
    let mut series = all.iter().position(|series| series.what == what).map_or_else(|| Series::new(&what), |at| all.remove(at));
    bed(Agent::Systole, MARIADB, "ballast", "", megabytes, options)?.run(&mut series, runs, crash)?;
    book.numbers.ballast.push(series);
    book.keep()
}

/// Crashes of a primary with much memory in use: the kernel takes it back before it lets the process go.
fn resident(book: &mut Book<'_>, options: &Options) -> Result<()> {
    let runs = options.runs.min(5);
    let mut found = book.numbers.resident.take().unwrap_or_default();
    if !options.wants("resident") || found.series.is_complete(runs) {
        book.numbers.resident = Some(found).filter(|found| !found.series.what.is_empty() || !found.skipped.is_empty());
        return Ok(());
    }
    found.series.what = format!("a buffer pool of {} GiB", POOL_MIB / 1024);
    let available = page::memory_mib("MemAvailable:").unwrap_or_default();
    if available < NEEDED_MIB {
        found.skipped = format!(
            "A buffer pool of {} GiB was not measured: {:.1} GiB of memory were left on this machine, and {} are needed.",
            POOL_MIB / 1024,
            available as f64 / 1024.0,
            NEEDED_MIB / 1024
        );
        eprintln!("resident: {}", found.skipped);
    } else {
        found.skipped.clear();
        let mut bed = bed(Agent::Systole, MARIADB, "resident", &format!("innodb_buffer_pool_size={POOL_MIB}M"), 0, options)?;
        while !found.series.is_complete(runs) {
            found.resident_mib.push(fill(bed.site())?);
            let next = found.series.faults.len() + 1;
            bed = bed.run(&mut found.series, next, crash)?;
        }
    }
    book.numbers.resident = Some(found);
    book.keep()
}

/// Fills the memory of the primary and of nobody else: with a temporary table, which is in no log and has no recovery. Returns what is
/// resident then, MiB.
fn fill(site: &Site) -> Result<u64> {
    let primary = site.primary()?;
    // Two rows to a page.
    let rows = RESIDENT_MIB * 1024 / 16 * 2;
    site.sql_in_background(
        &primary,
        &format!(
            "CREATE TEMPORARY TABLE `load`.resident (id BIGINT UNSIGNED PRIMARY KEY, filler VARBINARY(8000)) ENGINE=InnoDB; \
             INSERT INTO `load`.resident SELECT seq, REPEAT('x', 7900) FROM `load`.seq_1_to_{rows}"
        ),
    )?;
    let now = || {
        let pid = primary.pids(site.server().process).first().copied()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().trim_end_matches(" kB").parse::<u64>().ok()).map(|kib| kib / 1024)
    };
    site.lab.wait_for("a full buffer pool", FILLING, || now().is_some_and(|resident| resident >= RESIDENT_MIB))?;
    let resident = now().unwrap_or_default();
    eprintln!("resident: {resident} MiB on {}", primary.name);
    Ok(resident)
}

/// Crashes with backlogs.
fn backlog(book: &mut Book<'_>, options: &Options) -> Result<()> {
    let runs = options.runs.min(3);
    let left = |book: &Book<'_>, held_s| runs.saturating_sub(book.numbers.backlog.iter().filter(|b| b.held_s == held_s).count());
    if !options.wants("backlog") || HELD.iter().all(|held_s| left(book, *held_s) == 0) {
        return Ok(());
    }
    let mut bed = bed(Agent::Systole, MARIADB, "backlog", "", 0, options)?;
    for held_s in HELD {
        for _ in 0..left(book, held_s) {
            let size = std::cell::Cell::new((0, 0));
            let mut series = Series::new(&format!("appliers held back for {held_s} s"));
            bed = bed.run(&mut series, 1, |site| held_back(site, held_s, &size))?;
            let (transactions, bytes) = size.get();
            eprintln!("backlog: {transactions} transactions, {bytes} bytes");
            if transactions == 0 {
                return Err(Error::Refused("the appliers were not held back".to_owned()));
            }
            book.numbers.backlog.push(Backlog { held_s, transactions, bytes, series });
            book.keep()?;
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
