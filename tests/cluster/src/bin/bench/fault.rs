//! The same fault again and again, each under its own load, each from a whole cluster.

use std::time::Duration;

use cluster_scenarios::Site;
use lab::{CheckOptions, Journal, Report, Result};
use serde::{Deserialize, Serialize};

/// How long clients may have to wait.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long servers may need to be back after the writes.
pub(crate) const WHOLE: Duration = Duration::from_secs(60);
/// An agent that fails this often in a row is not asked again.
const ENOUGH: usize = 3;

/// One fault under load.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// The longest time without an acknowledged write.
    pub(crate) outage_ms: f64,
    /// Whether writes came back within the time.
    pub(crate) back: bool,
    pub(crate) acknowledged: usize,
    /// Acknowledged writes that the primary does not have in the end.
    pub(crate) lost: usize,
    pub(crate) two_writers: bool,
    /// Whether all servers were back in time by themselves, as replicas of the primary, with the same data.
    pub(crate) whole: bool,
    /// What went wrong, in words.
    pub(crate) problems: Vec<String>,
}

impl Fault {
    /// The outage; without an end when it had none.
    pub(crate) fn outage(&self) -> f64 {
        if self.back { self.outage_ms } else { f64::INFINITY }
    }
}

/// All faults of one kind.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) what: String,
    pub(crate) faults: Vec<Fault>,
    /// Whether the agent was given up before the last run.
    pub(crate) given_up: bool,
}

impl Series {
    pub(crate) fn new(what: &str) -> Self {
        Self { what: what.to_owned(), faults: Vec::new(), given_up: false }
    }

    /// Whether there are so many, or there will be no more.
    pub(crate) fn is_complete(&self, runs: usize) -> bool {
        self.given_up || self.faults.len() >= runs
    }

    pub(crate) fn outages(&self) -> Vec<f64> {
        self.faults.iter().map(Fault::outage).collect()
    }
}

/// Waits until a cluster is whole.
type Settled<'a> = dyn Fn(&Site, Duration) -> Result<()> + 'a;

/// A cluster that is made anew when an agent has left it in pieces.
pub(crate) struct Bed<'a> {
    agent: String,
    make: Box<dyn Fn() -> Result<Site> + 'a>,
    settled: Box<Settled<'a>>,
    site: Site,
}

impl<'a> Bed<'a> {
    pub(crate) fn new(
        agent: &str,
        make: impl Fn() -> Result<Site> + 'a,
        settled: impl Fn(&Site, Duration) -> Result<()> + 'a,
    ) -> Result<Self> {
        let site = make()?;
        settled(&site, PATIENCE)?;
        Ok(Self { agent: agent.to_owned(), make: Box::new(make), settled: Box::new(settled), site })
    }

    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    /// Takes the cluster down and makes it anew.
    fn renew(self) -> Result<Self> {
        let Self { agent, make, settled, site } = self;
        // Before the next one of the same name is made.
        drop(site);
        let site = make()?;
        settled(&site, PATIENCE)?;
        Ok(Self { agent, make, settled, site })
    }

    /// The fault until there were so many of them; returns the cluster, whole.
    pub(crate) fn run(self, series: &mut Series, runs: usize, fault: impl Fn(&Site) -> Result<()>) -> Result<Self> {
        let mut bed = self;
        while !series.is_complete(runs) {
            let found = bed.once(&fault)?;
            eprintln!(
                "{}: {} {} of {runs}: {:.0} ms without writes, {} of {} acknowledged writes lost{}",
                bed.agent,
                series.what,
                series.faults.len() + 1,
                found.outage_ms,
                found.lost,
                found.acknowledged,
                found.problems.iter().map(|p| format!("; {}", p.lines().next().unwrap_or_default())).collect::<String>()
            );
            let whole = found.whole;
            series.faults.push(found);
            if !whole {
                bed = bed.renew()?;
            }
            if series.faults.iter().rev().take_while(|f| !f.back).count() >= ENOUGH && series.faults.len() < runs {
                eprintln!("{}: {}: given up", bed.agent, series.what);
                series.given_up = true;
            }
        }
        Ok(bed)
    }

    fn once(&self, fault: impl Fn(&Site) -> Result<()>) -> Result<Fault> {
        let site = &self.site;
        let mut problems = Vec::new();
        let load = site.load_of(&site.load_options()?)?;
        problems.extend(fault(site).err().map(|e| e.to_string()));
        // Long enough for the outage to have begun before its end is looked for.
        std::thread::sleep(Duration::from_secs(1));
        let back = site.lab.wait_for("writes after the fault", PATIENCE, || load.writing()).is_ok();
        std::thread::sleep(Duration::from_millis(500));
        let journal = load.stop()?;
        let (report, problem) = self.judge(&journal)?;
        let whole = problem.is_none();
        problems.extend(problem);
        let primary = site.primary().ok();
        let lost = primary.and_then(|p| report.lacking.get(&p.name).copied()).unwrap_or(report.missing);
        let outage_ms = journal.outages(20_000, &[]).iter().map(lab::journal::Outage::millis).fold(0.0, f64::max);
        let two_writers = !journal.two_writers().is_empty();
        Ok(Fault { outage_ms, back, acknowledged: report.acknowledged, lost, two_writers, whole, problems })
    }

    /// The check, when the cluster has had its time; and why it is not whole.
    fn judge(&self, journal: &Journal) -> Result<(Report, Option<String>)> {
        let settled = (self.settled)(&self.site, WHOLE);
        let report = self.site.lab.check(journal, &CheckOptions::of(&self.site.load_options()?)?)?;
        let apart = report.of('C').filter(|v| !v.kept).map(|v| v.text.clone());
        let unsettled = settled.err().map(|e| e.to_string());
        let problem = [apart, unsettled].into_iter().flatten().reduce(|a, b| format!("{a}; {b}"));
        Ok((report, problem))
    }
}

/// Kills the server of the primary.
pub(crate) fn crash(site: &Site) -> Result<()> {
    site.kill_primary().map(drop)
}

/// Moves the primary as an operator would.
pub(crate) fn planned_move(site: &Site) -> Result<()> {
    site.move_primary().map(drop)
}
