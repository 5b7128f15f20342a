//! Schedules, carried out one after the other: a cluster for each, its rounds, what was seen, and the numbers, which are written after each
//! round so that an interruption costs one.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::state::Volume;
use lab::{CheckOptions, Error, LabOptions, Load, LoadOptions, Result};

use super::bed::{Bed, JOBS};
use super::fault::{self, Active};
use super::history;
use super::schedule::{Fault, ROUNDS, Round, Subject, Target, When, schedule};
use crate::figures::proof::{self, Found, Proof, Run};
use crate::jobs::{Jobs, Resource};
use crate::rejoin::Rejoined;
use crate::{MARIADB, MYSQL, REDIS, Server, Setup, Site, VALKEY, keep_logs, origin};

/// What is soaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Served {
    Redis,
    Valkey,
    Mariadb,
    Mysql,
    Cron,
}

/// What is asked for.
#[derive(Debug)]
pub struct Order {
    /// What is soaked.
    pub served: Served,
    /// Of the schedules.
    pub seed: u64,
    /// How many faults there shall have been, with those of the run that is gone on with.
    pub faults: usize,
    /// This schedule alone, from its begin: its numbers are printed and not kept.
    pub only: Option<u64>,
    /// The file of the numbers; the page stands beside it.
    pub numbers: PathBuf,
    /// Where histories and the logs of violations are kept.
    pub kept: PathBuf,
}

/// Where the agents keep what they have to remember over a power cut.
const KEPT: &str = "/var/lib/systole";
/// What the snippet ships, and where that waits for an operator a copy: nobody sits beside a soak.
const REJOIN: &str = "rejoin=rewind-or-clone";

impl Served {
    fn subject(self) -> Subject {
        match self {
            Self::Redis | Self::Valkey => Subject::Redis,
            Self::Mariadb | Self::Mysql => Subject::MySql,
            Self::Cron => Subject::Cron,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Mariadb => "mariadb",
            Self::Mysql => "mysql",
            Self::Cron => "cron",
        }
    }

    /// The agent's part of the code, and the package of the server.
    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Redis => ("agents/redis", "redis-server"),
            Self::Valkey => ("agents/redis", "valkey-server"),
            Self::Mariadb => ("agents/mysql", "mariadb-server"),
            Self::Mysql => ("agents/mysql", "mysql-server-core"),
            Self::Cron => ("agents/cron-singleton", "cron"),
        }
    }

    fn server(self) -> Server {
        match self {
            Self::Valkey => VALKEY,
            Self::Mariadb => MARIADB,
            Self::Mysql => MYSQL,
            Self::Redis | Self::Cron => REDIS,
        }
    }

    fn image(self) -> String {
        self.server().image.map_or_else(lab::image::usual, str::to_owned)
    }

    /// A new cluster.
    fn up(self) -> Result<Bed> {
        let name = format!("soak-{}", self.name());
        if self == Self::Cron {
            let job = Resource { name: JOBS, parameters: "catch_up=all", seconds: 5, timer: false, leaves_a_daemon: false };
            // What was not synced of what the agent remembers is gone after a power cut.
            let volumes = vec![Volume { path: KEPT.into(), mebibytes: 64 }];
            return Ok(Bed::Jobs(Jobs::with(&name, &[job], LabOptions { volumes, ..LabOptions::default() })?));
        }
        Site::with(&name, self.setup()).map(Bed::Site)
    }

    /// The servers of a site.
    fn setup(self) -> Setup {
        let usual = Setup::of(self.server());
        match self {
            // A crashed primary comes back whatever it holds; its log is small enough for a disk that can be filled in seconds.
            Self::Mariadb => Setup { parameters: REJOIN.into(), disk_mib: Some(640), settings: "innodb_log_file_size=24M".into(), ..usual },
            // With four appliers, as by default, its coordinator takes half of two processors.
            Self::Mysql => {
                let settings = "innodb_redo_log_capacity=32M\nreplica_parallel_workers=16".into();
                Setup { parameters: REJOIN.into(), disk_mib: Some(1024), settings, ..usual }
            }
            _ => usual.on_disks(),
        }
    }
}

/// Runs schedules until there were so many faults. Returns whether every promise was kept in them.
pub fn run(order: &Order) -> Result<bool> {
    let book = Book::open(order)?;
    if let Some(number) = order.only {
        return one_schedule(order, &book, number, 0);
    }
    let mut kept = true;
    loop {
        let now = book.now()?;
        if now.total() >= order.faults {
            return Ok(kept);
        }
        kept &= one_schedule(order, &book, now.schedule, now.round)?;
    }
}

/// The rounds of a schedule from this one on, on a new cluster. A violation ends it.
fn one_schedule(order: &Order, book: &Book<'_>, number: u64, from: usize) -> Result<bool> {
    let rounds = schedule(order.served.subject(), order.seed, number);
    forget(order, number);
    // A run of days meets a minute in which this machine has no room for a cluster.
    let bed = order.served.up().or_else(|why| {
        println!("no cluster: {why}; once more");
        order.served.up()
    })?;
    if order.only.is_none() {
        book.describe(&bed)?;
    }
    for (n, round) in rounds.iter().enumerate().skip(from) {
        let label = format!("{} {} seed {} schedule {number} round {}", order.served.name(), order.served.image(), order.seed, n + 1);
        println!("{label}: {round}");
        let history = history_of(order, number, n);
        // Whatever keeps a round from being judged may be what it was made to find.
        let found = one_round(&bed, *round, &history)
            .unwrap_or_else(|why| Found { violations: vec![format!("the round could not be judged: {why}")], ..Found::default() });
        let outage = found.outage_ms.map(|ms| format!(", {ms} ms without writes")).unwrap_or_default();
        println!("{label}: {} acknowledged, {} operations judged{outage}", found.acknowledged, found.operations);
        let broken = !found.violations.is_empty();
        if broken {
            complain(order, &bed, &label, number, &found, &history);
        }
        let total = if order.only.is_none() { book.add(*round, &found)? } else { 0 };
        if broken {
            return Ok(false);
        }
        if order.only.is_none() && total >= order.faults {
            break;
        }
    }
    Ok(true)
}

fn history_of(order: &Order, schedule: u64, round: usize) -> PathBuf {
    order.kept.join(format!("{}-{}-{schedule}-{}.edn", order.served.name(), order.served.image(), round + 1))
}

/// Removes old histories: those of a violation are with its logs.
fn forget(order: &Order, schedule: u64) {
    for old in schedule.checked_sub(2).into_iter().flat_map(|old| (0..ROUNDS).map(move |round| history_of(order, old, round))) {
        let _ = std::fs::remove_file(old);
    }
}

/// What somebody needs to look into it, and the command that does it again.
fn complain(order: &Order, bed: &Bed, label: &str, number: u64, found: &Found, history: &Path) {
    let logs = order.kept.join(label.replace(' ', "-"));
    let _ = std::fs::remove_dir_all(&logs);
    let moved = std::process::Command::new("mv").arg(keep_logs(bed.lab())).arg(&logs).status().is_ok_and(|status| status.success());
    let logs = if moved { logs.display().to_string() } else { keep_logs(bed.lab()) };
    let _ = std::fs::copy(history, Path::new(&logs).join("history.edn"));
    for said in &found.violations {
        println!("{label}: VIOLATION: {said}");
    }
    println!(
        "logs: {logs}\nagain: make soak SERVER={} IMAGE={} SEED={} SCHEDULE={number}",
        order.served.name(),
        lab::image::usual(),
        order.seed
    );
}

/// A round under load, and its verdict. An error says why there is none.
fn one_round(bed: &Bed, round: Round, history: &Path) -> Result<Found> {
    match bed {
        Bed::Site(site) => round_of_site(bed, site, round, history),
        Bed::Jobs(jobs) => {
            let before = jobs.runs(JOBS);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            std::thread::sleep(round.until_it_meets_a_minute(now));
            let had = carry_out(bed, round);
            let mut found = Found { faults: names(&had), ..Found::default() };
            if let Err(why) = recover(bed, &had) {
                found.violations.push(format!("not well again: {why}"));
                return Ok(found);
            }
            jobs.into_the_next_minute(3);
            found.violations.extend(jobs.held(JOBS).err().map(|why| why.to_string()));
            found.acknowledged = jobs.runs(JOBS).saturating_sub(before);
            Ok(found)
        }
    }
}

fn names(faults: &[Fault]) -> Vec<&'static str> {
    faults.iter().map(|fault| fault.kind.name()).collect()
}

/// Clients whose operations are judged.
const CLIENTS: u32 = 4;

fn round_of_site(bed: &Bed, site: &Site, round: Round, history: &Path) -> Result<Found> {
    let before = rejoined(site)?;
    let load = site.load_of(&LoadOptions { clients: CLIENTS, ..site.gentle_load_options()? })?;
    let had = carry_out(bed, round);
    let mut found = Found { faults: names(&had), ..Found::default() };
    let well = recover(bed, &had).and_then(|()| site.lab.wait_for("writes after the fault", Duration::from_secs(60), || load.writing()));
    if let Err(why) = well {
        found.violations.push(format!("not well again: {why}"));
    }
    std::thread::sleep(Duration::from_secs(1));
    judge(site, load, round, &mut found, history)?;
    // What the round's failed actions have left; the next one begins as this one did.
    site.lab.crm(&format!("resource cleanup {}", bed.managed()))?;
    site.lab.wait_idle()?;
    // As late as can be: rows are compared after a server follows.
    found.rejoined = rejoined(site)?.since(before);
    Ok(found)
}

/// How often servers have rejoined so far, by the journals of all nodes.
fn rejoined(site: &Site) -> Result<Rejoined> {
    site.lab.live_nodes().iter().map(|node| Ok(Rejoined::of(&site.log_of(node)?))).sum()
}

fn judge(site: &Site, load: Load, round: Round, found: &mut Found, history: &Path) -> Result<()> {
    let journal = load.stop()?;
    let usual = CheckOptions::of(&site.load_options()?)?;
    // A MariaDB whose disk was full looks once a minute whether there is room again.
    let options = CheckOptions { standstill: usual.standstill * 5, max_outage: round.longest_outage(), ..usual };
    let report = site.lab.check(&journal, &options)?;
    found.acknowledged = report.acknowledged;
    found.lost = if report.of('L').is_some_and(|verdict| verdict.kept) { 0 } else { report.missing };
    found.violations.extend(report.verdicts.iter().filter(|verdict| !verdict.kept).map(ToString::to_string));
    let outages = journal.outages(0, &[]);
    found.outage_ms = Some(outages.iter().map(|outage| outage.counted / 1000).max().unwrap_or_default());
    let operations = journal.operations();
    found.operations = operations.len();
    // Before it is judged: whatever the judge makes of it, others can read it.
    std::fs::write(history, history::elle(&operations)).map_err(|e| Error::Refused(format!("{}: {e}", history.display())))?;
    let judgement = history::judge(&operations);
    found.violations.extend(judgement.violations);
    found.undecided = judgement.undecided;
    Ok(())
}

/// The faults of a round, each for its time. Returns those that were had.
fn carry_out(bed: &Bed, round: Round) -> Vec<Fault> {
    let mut had = Vec::new();
    let begin = |fault| fault::begin(bed, fault).inspect_err(|why| not_had(fault, &why.to_string())).ok();
    let mut end = |active: Option<Active>| {
        let Some(active) = active else { return };
        let fault = active.fault;
        if fault::end(bed, active) { had.push(fault) } else { not_had(fault, "nobody came by") }
    };
    let wait = |ms| std::thread::sleep(Duration::from_millis(ms));
    let first = begin(round.first);
    match round.second {
        None => {
            wait(round.first.lasts_ms);
            end(first);
        }
        Some((When::AtOnce, fault)) => {
            let second = begin(fault);
            let (shorter, longer) = (round.first.lasts_ms.min(fault.lasts_ms), round.first.lasts_ms.max(fault.lasts_ms));
            let (earlier, later) = if round.first.lasts_ms <= fault.lasts_ms { (first, second) } else { (second, first) };
            wait(shorter);
            end(earlier);
            wait(longer - shorter);
            end(later);
        }
        Some((When::DuringRecovery(after), fault)) => {
            wait(round.first.lasts_ms);
            end(first);
            wait(after);
            let second = begin(fault);
            wait(fault.lasts_ms);
            end(second);
        }
    }
    had
}

fn not_had(fault: Fault, why: &str) {
    println!("  not had: {fault}: {}", why.lines().next().unwrap_or_default());
}

/// What operators give back, and then all has to become well by itself.
fn recover(bed: &Bed, had: &[Fault]) -> Result<()> {
    bed.lab().heal(None)?;
    fault::power_back(bed)?;
    fault::tidy(bed, had)?;
    bed.wait_well()
}

/// The numbers in their file. Other runs write into it, too: it is locked, read anew and written as a whole each time.
struct Book<'a> {
    order: &'a Order,
    like: Run,
}

impl<'a> Book<'a> {
    fn open(order: &'a Order) -> Result<Self> {
        std::fs::create_dir_all(&order.kept).map_err(|e| Error::Refused(format!("{}: {e}", order.kept.display())))?;
        let like = Run {
            server: order.served.name().to_owned(),
            image: order.served.image(),
            seed: order.seed,
            code: origin::code(&[order.served.parts().0, "tests/cluster/src/soak"]),
            commit: origin::commit(),
            machine: origin::machine(),
            ..Run::default()
        };
        Ok(Self { order, like })
    }

    /// Where the run stands.
    fn now(&self) -> Result<Run> {
        Ok(read(&self.order.numbers)?.run(&self.like).clone())
    }

    fn describe(&self, bed: &Bed) -> Result<()> {
        let versions = origin::versions(&bed.node(Target::Primary)?, self.order.served.parts().1)?;
        self.change(|run| {
            run.versions = versions;
            run.commit.clone_from(&self.like.commit);
        })
        .map(drop)
    }

    fn add(&self, round: Round, found: &Found) -> Result<usize> {
        self.change(|run| run.add(round.name(), &round.to_string(), found, ROUNDS))
    }

    /// Changes the run and writes file and page; returns how many faults there were.
    fn change(&self, change: impl FnOnce(&mut Run)) -> Result<usize> {
        let file = &self.order.numbers;
        let _lock = lab::host::lock_file(&self.order.kept.join("lock"))?;
        let mut proof = read(file)?;
        let run = proof.run(&self.like);
        change(run);
        let total = run.total();
        let text = serde_json::to_string(&proof).map_err(|e| Error::Refused(e.to_string()))?;
        lab::host::write_atomically(file, (text + "\n").as_bytes())?;
        lab::host::write_atomically(&file.with_extension("md"), proof::page(&proof).as_bytes())?;
        Ok(total)
    }
}

/// Nothing where nothing was written yet.
fn read(file: &Path) -> Result<Proof> {
    let Ok(text) = std::fs::read_to_string(file) else { return Ok(Proof::default()) };
    serde_json::from_str(&text).map_err(|e| Error::Refused(format!("{}: {e}", file.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it saw by panicking")]
mod tests {
    use super::*;

    /// A soak of another rejoin than operators have proves nothing of theirs.
    #[test]
    fn a_soaked_database_rejoins_as_the_snippet_has_it() {
        let snippet = crate::read(&crate::repository().join("crm-snippets/mysql.crm")).unwrap();
        let shipped = snippet.split_whitespace().find(|word| word.starts_with("rejoin=")).unwrap();
        for served in [Served::Mariadb, Served::Mysql] {
            assert_eq!(served.setup().parameters, format!("{shipped}-or-clone"));
        }
        assert!(proof::page(&Proof::default()).contains(&format!("`{REJOIN}`")), "the page says so");
    }
}
