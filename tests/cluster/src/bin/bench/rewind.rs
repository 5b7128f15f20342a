//! A primary that is lost under load and returns: how it rejoins, and how long that takes, by taking back and by a copy in the same cluster.

use std::time::Duration;

use cluster_scenarios::figures::rejoin::{self, CLONE, DATA, Numbers, REWIND, Return, Series};
use cluster_scenarios::rejoin::{Loss, Lost, difference, load_options, wait_noted, wait_whole};
use cluster_scenarios::{MARIADB, MYSQL, Server, Setup, Site};
use lab::{CheckOptions, Journal, Load, Result};

use crate::{Options, page, series};

/// How long a server may take to be back: a copy of much data is one of them.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long the servers may take to be at the same position when nobody writes any more.
const STANDSTILL: Duration = Duration::from_secs(60);

/// The servers, as the tables call them, and the package whose version is told.
const SERVERS: [(Server, &str, &str); 2] = [(MARIADB, "MariaDB", "mariadb-server"), (MYSQL, "MySQL", "mysql-server-core")];
const LOSSES: [Loss; 2] = [Loss::PowerCut, Loss::Kill];
const REJOINS: [&str; 2] = [REWIND, CLONE];

/// The numbers, and where they are written.
struct Book<'a> {
    options: &'a Options,
    numbers: Numbers,
}

impl Book<'_> {
    /// Writes what there is, so that an interruption costs one loss. A part alone is not written, unless it goes on with the whole.
    fn keep(&self) -> Result<()> {
        let Options { out, only, go_on, .. } = self.options;
        if only.is_some() && !go_on {
            return Ok(());
        }
        page::write_numbers(&out.join(rejoin::PAGE).with_extension("json"), &self.numbers)?;
        page::write_file(&out.join(rejoin::PAGE).with_extension("md"), &rejoin::page(&self.numbers))
    }
}

/// A server with so much data.
#[derive(Clone, Copy)]
struct Bed {
    server: Server,
    name: &'static str,
    package: &'static str,
    megabytes: u64,
}

impl Bed {
    fn up(self, options: &Options) -> Result<Site> {
        let setup = Setup { parameters: format!("rejoin={REWIND}"), ..Setup::of(self.server) };
        let site = Site::with(&options.lab, setup)?;
        site.lab.fill(&site.load_options()?, self.megabytes)?;
        wait_whole(&site, PATIENCE)?;
        Ok(site)
    }

    fn series(self, loss: Loss, rejoin: &str) -> Series {
        let (server, loss) = (self.name.to_owned(), loss.name().to_owned());
        Series { server, loss, megabytes: self.megabytes, rejoin: rejoin.to_owned(), returns: vec![] }
    }

    /// What is to be done next until there are so many of each: those that there are the fewest of.
    fn next(self, book: &mut Book<'_>, runs: usize) -> Option<(Loss, &'static str)> {
        let all = LOSSES.into_iter().flat_map(|loss| REJOINS.map(|rejoin| (loss, rejoin)));
        let left = all.filter_map(|(loss, rejoin)| {
            let like = self.series(loss, rejoin);
            let done = book.numbers.series.iter().find(|s| s.name() == like.name()).map_or(0, |s| s.returns.len());
            (book.options.wants(&like.name()) && done < runs).then_some((done, loss, rejoin))
        });
        left.min_by_key(|(done, _, _)| *done).map(|(_, loss, rejoin)| (loss, rejoin))
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let (machine, commit, code) = page::origin("agents/mysql");
    let path = options.out.join(rejoin::PAGE).with_extension("json");
    let numbers = if options.go_on { page::read(&path, &code)? } else { Numbers::default() };
    let mut book = Book { options, numbers: Numbers { machine, commit, code, runs: options.runs, ..numbers } };
    for runs in series::turns(options.runs) {
        for (server, name, package) in SERVERS {
            for megabytes in DATA {
                measure(Bed { server, name, package, megabytes }, &mut book, runs)?;
            }
        }
    }
    if options.only.is_some() && !options.go_on {
        println!("{}", rejoin::page(&book.numbers));
        return Ok(());
    }
    book.keep()?;
    println!("written: {}", options.out.join(rejoin::PAGE).with_extension("md").display());
    Ok(())
}

/// Loses primaries of such a cluster until there were so many of each kind.
fn measure(bed: Bed, book: &mut Book<'_>, runs: usize) -> Result<()> {
    let mut site: Option<Site> = None;
    let mut has: Option<&str> = Some(REWIND);
    while let Some((loss, rejoin)) = bed.next(book, runs) {
        let here = match site.take() {
            Some(site) => site,
            None => {
                has = Some(REWIND);
                bed.up(book.options)?
            }
        };
        if book.numbers.versions.len() < SERVERS.len() {
            let versions = page::versions(&here.primary()?, bed.package)?;
            if !book.numbers.versions.contains(&versions) {
                book.numbers.versions.push(versions);
            }
        }
        if has != Some(rejoin) {
            here.lab.crm(&format!("resource param {} set rejoin {rejoin}", bed.server.resource))?;
            here.lab.wait_idle()?;
            // What can be taken back is known from the first promotion on.
            here.move_primary()?;
            wait_whole(&here, PATIENCE)?;
            has = Some(rejoin);
        }
        if rejoin == REWIND {
            wait_noted(&here)?;
        }
        let found = once(&here, loss)?;
        let series = book.numbers.series(&bed.series(loss, rejoin));
        tell(&series.name(), series.returns.len() + 1, runs, &found);
        let whole = found.equal && found.back_ms.is_some();
        series.returns.push(found);
        book.keep()?;
        // One that is in pieces is made anew.
        site = Some(here).filter(|_| whole);
    }
    Ok(())
}

fn tell(name: &str, number: usize, runs: usize, found: &Return) {
    let back = found.back_ms.map_or_else(|| "never".to_owned(), |ms| format!("after {:.2} s", ms / 1000.0));
    let had = if found.diverged { "had diverged" } else { "had not diverged" };
    let problems: String = found.problems.iter().map(|p| format!("; {}", p.lines().next().unwrap_or_default())).collect();
    eprintln!(
        "{name} {number} of {runs}: {had}, {} taken back, copied: {}, whole again {back}, {} of {} acknowledged writes lost, equal: {}{problems}",
        found.taken_back, found.copied, found.lost, found.acknowledged, found.equal
    );
}

/// Loses the primary under load, and sees what becomes of it.
fn once(site: &Site, loss: Loss) -> Result<Return> {
    let load = site.load_of(&load_options(site)?)?;
    let mut found = Return::default();
    match loss.strike(site) {
        Ok(lost) => rejoined(site, &lost, &mut found),
        Err(error) => found.problems.push(error.to_string()),
    }
    let journal = writing_and_stopped(site, load, &mut found)?;
    judge(site, &journal, &mut found)?;
    Ok(found)
}

fn rejoined(site: &Site, lost: &Lost, found: &mut Return) {
    match wait_whole(site, PATIENCE) {
        Ok(()) => found.back_ms = Some(lost.for_ms()),
        Err(error) => found.problems.push(error.to_string()),
    }
    match lost.became(site) {
        Ok(became) => (found.diverged, found.taken_back, found.copied) = (became.diverged, became.taken_back, became.copied),
        Err(error) => found.problems.push(error.to_string()),
    }
}

fn writing_and_stopped(site: &Site, load: Load, found: &mut Return) -> Result<Journal> {
    let writes = site.lab.wait_for("writes after the loss", Duration::from_secs(60), || load.writing());
    found.problems.extend(writes.err().map(|error| error.to_string()));
    // What comes after the server has rejoined is written to all three.
    std::thread::sleep(Duration::from_secs(1));
    load.stop()
}

fn judge(site: &Site, journal: &Journal, found: &mut Return) -> Result<()> {
    let options = CheckOptions { standstill: STANDSTILL, ..CheckOptions::of(&site.load_options()?)? };
    let report = site.lab.check(journal, &options)?;
    (found.acknowledged, found.lost) = (report.acknowledged, report.missing);
    found.two_writers = !journal.two_writers().is_empty();
    let apart = report.verdicts.iter().filter(|v| "CE".contains(v.letter) && !v.kept).map(|v| v.text.clone());
    let differs = difference(site).unwrap_or_else(|error| Some(error.to_string()));
    let apart: Vec<String> = apart.chain(differs).collect();
    found.equal = apart.is_empty();
    found.problems.extend(apart);
    Ok(())
}
