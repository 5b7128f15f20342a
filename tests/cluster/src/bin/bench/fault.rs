//! The same fault again and again, each under its own load, each from a whole cluster.

use std::time::Duration;

use cluster_scenarios::figures::{self, Fault, Moment, Series, page};
use cluster_scenarios::processor::Sampler;
use cluster_scenarios::{Kind, Site};
use lab::journal::Outage;
use lab::{CheckOptions, Journal, LoadOptions, Report, Result, host, timeline};

/// How long clients may have to wait.
const PATIENCE: Duration = Duration::from_secs(page::PATIENCE_S);
/// How long servers may need to be back after the writes.
const WHOLE: Duration = Duration::from_secs(page::WHOLE_S);
/// How long a client with the system's own patience may need after the others before nobody waits for it.
const PATIENT: Duration = Duration::from_secs(10);
/// An agent that fails this often in a row is not asked again.
const ENOUGH: usize = 3;

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
            series.keep_one_story();
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
        let options = LoadOptions { patient: 1, ..site.load_options()? };
        let (load, patient) = (site.load_of(&options)?, options.writers);
        let (begun, processor) = (host::monotonic_us(), Sampler::start(&site.lab));
        problems.extend(fault(site).err().map(|e| e.to_string()));
        // Long enough for the outage to have begun before its end is looked for.
        std::thread::sleep(Duration::from_secs(1));
        let back = site.lab.wait_for("writes after the fault", PATIENCE, || load.writing()).is_ok();
        std::thread::sleep(Duration::from_millis(500));
        let patient_back = back && site.lab.wait_for("the patient client's writes", PATIENT, || load.writing_of(patient)).is_ok();
        let journal = load.stop()?;
        let patient_ms = journal.longest_wait(patient).filter(|_| patient_back).map(|us| us as f64 / 1000.0);
        let longest = journal.without_writer(patient).outages(20_000, &[]).into_iter().max_by_key(|outage| outage.to - outage.from);
        let end = longest.as_ref().map_or(begun, |outage| outage.to);
        let agents_cpu_ms = Some(processor.until(&site.lab, end)?).filter(|_| back);
        let (report, problem) = self.judge(&journal)?;
        let whole = problem.is_none();
        problems.extend(problem);
        let primary = site.primary().ok();
        let lost = primary.and_then(|p| report.lacking.get(&p.name).copied()).unwrap_or(report.missing);
        let outage_ms = longest.as_ref().map_or(0.0, Outage::millis);
        let two_writers = !journal.two_writers().is_empty();
        let story = self.story(begun, longest.as_ref().filter(|_| back))?;
        Ok(Fault {
            outage_ms,
            patient_ms,
            back,
            acknowledged: report.acknowledged,
            lost,
            two_writers,
            whole,
            problems,
            agents_cpu_ms,
            story,
        })
    }

    /// What happened from the fault until writes were taken again.
    fn story(&self, begun: u64, outage: Option<&Outage>) -> Result<Vec<Moment>> {
        let Some(outage) = outage else { return Ok(Vec::new()) };
        let lab = &self.site.lab;
        let faults = lab.paths().read_events()?.into_iter().filter(|e| (begun..=outage.to).contains(&e.at_us));
        let faults: Vec<_> = faults.collect();
        let Some(zero) = faults.first().map(|e| e.at_us) else { return Ok(Vec::new()) };
        let cluster = timeline::events(lab.paths(), lab.spec(), zero, outage.to, figures::STEPS)?;
        let told = |at_us: u64, by: &str, text: &str| Moment {
            at_ms: (at_us as f64 - zero as f64) / 1000.0,
            by: by.to_owned(),
            text: text.to_owned(),
        };
        let mut story: Vec<Moment> = faults.iter().chain(&cluster).map(|e| told(e.at_us, &e.by, &e.text)).collect();
        story.push(told(outage.from, figures::CLIENTS, "last acknowledged write"));
        story.push(told(outage.to, figures::CLIENTS, figures::FIRST_WRITE));
        story.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
        Ok(story)
    }

    /// The check, when the cluster has had its time; and why it is not whole.
    fn judge(&self, journal: &Journal) -> Result<(Report, Option<String>)> {
        let settled = (self.settled)(&self.site, WHOLE);
        let unsettled = settled.err().map(|e| e.to_string());
        if self.site.server().kind == Kind::Stub {
            // It stores nothing that could be looked for.
            return Ok((Report { acknowledged: journal.acknowledged_at().len(), ..Report::default() }, unsettled));
        }
        let report = self.site.lab.check(journal, &CheckOptions::of(&self.site.load_options()?)?)?;
        let apart = report.of('C').filter(|v| !v.kept).map(|v| v.text.clone());
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
