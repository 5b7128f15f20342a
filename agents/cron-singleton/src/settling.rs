//! Which runs are settled, and what becomes of the others: what start, monitor and stop do about it.
//!
//! The mark stands in a file on this node and in an attribute of every node, because the attributes of a lost node are lost with
//! it. It is written before anything is run by it.

use std::collections::BTreeMap;

use chrono::{DateTime, Local};
use ocf::{Context, Failure};
use process::Account;

use crate::agent::CronSingleton;
use crate::claims::Claims;
use crate::crontab::{Crontab, When};
use crate::history::{self, Event, Line};
use crate::installed::{Installation, identities, identities_at_the_gate};
use crate::mark::{Mark, Run};
use crate::params::Mode;
use crate::place::Place;
use crate::plan::{MOST, Plan, minute_of, plan, time_of};
use crate::schedule::Schedule;
use crate::target::Target;

/// The private attribute with the mark.
const MARK: &str = "cron-mark";
/// How many runs that are left out are told in the log. All are in the history.
const TOLD: usize = 5;
/// How much of a history is looked at for jobs that fail, bytes.
const LOOKED_AT: u64 = 128 * 1024;

/// A job of the crontab.
pub(crate) struct Known {
    identity: String,
    line: usize,
    uid: u32,
    /// `None`: at `@reboot`.
    schedule: Option<Schedule>,
}

/// All of them, with what has begun of them on this node.
pub(crate) struct Jobs<'a> {
    place: &'a Place,
    known: Vec<Known>,
    /// What is registered: it may be about to be claimed.
    registered: Vec<Run>,
}

impl Jobs<'_> {
    fn begun(&self) -> impl Fn(&Run) -> bool {
        let uids: BTreeMap<&str, u32> = self.known.iter().map(|job| (job.identity.as_str(), job.uid)).collect();
        move |run| {
            let claims = uids.get(run.job.as_str()).map_or_else(Claims::default, |uid| self.place.claims(*uid, &run.job));
            claims.may_have(run.minute) || self.registered.contains(run)
        }
    }

    fn scheduled(&self) -> Vec<(String, Schedule)> {
        self.known.iter().filter_map(|job| Some((job.identity.clone(), job.schedule.clone()?))).collect()
    }

    /// The runs of each job that were due after a minute and up to another one; the last `count`.
    fn due(&self, after: i64, until: i64, count: usize) -> Vec<Run> {
        let (Some(after), Some(until)) = (time_of(&Local, after), time_of(&Local, until)) else { return vec![] };
        let of = |job: &Known| -> Vec<Run> {
            let times = job.schedule.as_ref().map(|schedule| schedule.newest_between(&after, &until, count)).unwrap_or_default();
            times.iter().map(|at| Run { minute: minute_of(at), job: job.identity.clone() }).collect()
        };
        self.known.iter().flat_map(of).collect()
    }

    fn line_of(&self, job: &str) -> usize {
        self.known.iter().find(|known| known.identity == job).map_or(0, |known| known.line)
    }
}

impl CronSingleton {
    /// The jobs of the source.
    pub(crate) fn jobs<'a>(&self, place: &'a Place, crontab: &Crontab, users: &BTreeMap<String, Account>) -> Result<Jobs<'a>, Failure> {
        let mut known = Vec::new();
        for ((job, _), identity) in crontab.jobs().zip(self.identities(crontab)) {
            let user = job.user.as_ref().or(self.params.user.as_ref());
            let Some(account) = user.and_then(|user| users.get(user)) else { continue };
            let schedule = match &job.when {
                When::Reboot => None,
                When::Times(times) => {
                    let source = self.params.source.display();
                    let wrong = |e| Failure::installed(format!("source {source}: line {}: {e}", job.line));
                    Some(Schedule::new(times).map_err(wrong)?)
                }
            };
            known.push(Known { identity, line: job.line, uid: account.uid, schedule });
        }
        let registered = crate::agent::registered(place).map(|(_, run)| Run { minute: run.minute, job: run.job }).collect();
        Ok(Jobs { place, known, registered })
    }

    fn identities(&self, crontab: &Crontab) -> Vec<String> {
        if self.params.mode == Mode::Gate { identities_at_the_gate(crontab) } else { identities(crontab) }
    }

    /// Where cron finds the runs that are made up for.
    pub(crate) fn due_target(&self) -> Target {
        Target::due_file_of(&self.params.cron_directory, &self.resource)
    }

    /// Before the gate opens: decides what becomes of the runs since the last node had the resource.
    pub(crate) fn settle_before_start(&self, context: &Context, jobs: &Jobs<'_>, crontab: &Crontab) {
        let now = Local::now();
        let here = minute_of(&now);
        // A start that was killed has decided, and what has begun since is known.
        let before =
            self.newest_mark(context, jobs.place).map(|mark| Mark { closed: mark.closed || jobs.place.knows_all_since(&mark), ..mark });
        let mut plan =
            before.as_ref().map_or_else(Plan::default, |mark| plan(mark, &jobs.scheduled(), &now, &jobs.begun(), &self.params.policy));
        let made_up_for = plan.make_up.len();
        if self.params.at_takeover {
            let at_takeover = jobs.known.iter().filter(|job| job.schedule.is_none());
            plan.make_up.extend(at_takeover.map(|job| Run { minute: here, job: job.identity.clone() }));
        }
        let reign = before.as_ref().map_or(1, |mark| mark.reign + 1);
        let mark = Mark { reign, node: self.node.clone(), minute: here, closed: false, pending: plan.make_up };
        if let Err(why) = jobs.place.remember(&mark) {
            // What is not written down might be run twice.
            context.log.warning(format!("{why}: no run is made up for"));
            return;
        }
        self.publish_mark(context, &mark);
        let missed: Vec<(Run, String)> = plan.missed.into_iter().map(|(run, why)| (run, why.to_string())).collect();
        self.tell_missed(context, jobs, &missed);
        if made_up_for > 0 {
            context.log.notice(format!("{made_up_for} runs that came due while the resource was on no node are made up for"));
        }
        self.write_due(context, crontab, &mark);
    }

    /// Advances the mark when something was due, and takes the runs away that are made up for and have begun.
    pub(crate) fn settle_in_passing(&self, context: &Context, jobs: &Jobs<'_>, crontab: &Crontab) {
        let Some(mark) = jobs.place.mark().filter(|mark| !mark.closed && mark.node == self.node) else { return };
        // cron has begun what was due in the minute before this one.
        let until = minute_of(&Local::now()) - 1;
        let begun = jobs.begun();
        let due = jobs.due(mark.minute, until, MOST);
        let pending: Vec<Run> = mark.pending.iter().filter(|run| !begun(run)).cloned().collect();
        if due.is_empty() && pending.len() == mark.pending.len() {
            if !pending.is_empty() {
                self.write_due(context, crontab, &mark);
            }
            return;
        }
        let overdue: Vec<(Run, String)> =
            due.into_iter().filter(|run| !begun(run)).map(|run| (run, "cron has not started it: journalctl -u cron".to_owned())).collect();
        let mark = Mark { minute: until.max(mark.minute), pending, ..mark };
        if let Err(why) = jobs.place.remember(&mark) {
            context.log.warning(format!("{why}: should this node be lost, the runs since then are not known"));
        }
        self.publish_mark(context, &mark);
        self.tell_missed(context, jobs, &overdue);
        self.write_due(context, crontab, &mark);
    }

    /// After the gate was closed and the jobs have ended. `minute`: in which that was.
    pub(crate) fn settle_after_stop(&self, context: &Context, jobs: &Jobs<'_>, minute: i64) {
        let Some(mark) = jobs.place.mark().filter(|mark| !mark.closed && mark.node == self.node) else { return };
        let due = jobs.due(mark.minute, minute, MOST);
        let begun = jobs.begun();
        let pending: Vec<Run> = mark.pending.iter().chain(&due).filter(|run| !begun(run)).cloned().collect();
        let mark = Mark { minute: minute.max(mark.minute), closed: true, pending, ..mark };
        self.publish_mark(context, &mark);
        match jobs.place.remember(&mark) {
            Ok(()) => jobs.place.stop_ended(),
            Err(why) => context.log.warning(format!("{why}: the next start takes it that this node was lost")),
        }
    }

    /// Jobs whose last run failed or did not begin: for people who look closer.
    pub(crate) fn failing(&self, jobs: &Jobs<'_>) -> Option<String> {
        let mut last: BTreeMap<String, Line> = BTreeMap::new();
        let mut uids: Vec<u32> = jobs.known.iter().map(|job| job.uid).collect();
        uids.sort_unstable();
        uids.dedup();
        let histories = uids.into_iter().map(|uid| jobs.place.history(uid)).chain([jobs.place.agents_history()]);
        for line in histories.flat_map(|path| history::tail(&path, LOOKED_AT)) {
            let later = last.get(&line.job).is_none_or(|known| known.at <= line.at);
            if later && !matches!(line.event, Event::Started { .. } | Event::Skipped { .. }) {
                last.insert(line.job.clone(), line);
            }
        }
        let mut complaints: Vec<(usize, String)> = Vec::new();
        for job in &jobs.known {
            let Some(line) = last.get(&job.identity) else { continue };
            let what = match &line.event {
                Event::Ended { status } if *status != 0 => format!("ended with status {status}"),
                Event::Missed { .. } => "did not begin".to_owned(),
                _ => continue,
            };
            complaints.push((job.line, format!("the run of {} of line {} {what}", shown(line.minute), job.line)));
        }
        complaints.sort();
        let texts: Vec<String> = complaints.into_iter().take(TOLD).map(|(_, text)| text).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    fn newest_mark(&self, context: &Context, place: &Place) -> Option<Mark> {
        let published = self.cluster.private_values(MARK).unwrap_or_else(|e| {
            context.log.warning(format!("what the other nodes know of the last runs cannot be found out: {e}"));
            BTreeMap::new()
        });
        Mark::newest(published.values().filter_map(|text| Mark::parse(text)).chain(place.mark()))
    }

    fn publish_mark(&self, context: &Context, mark: &Mark) {
        if let Err(e) = self.cluster.publish_everywhere(MARK, &mark.to_string()) {
            context.log.warning(format!("the other nodes cannot be told which runs are settled: {e}"));
        }
    }

    /// Gives cron the runs that are made up for, or takes the file away.
    fn write_due(&self, context: &Context, crontab: &Crontab, mark: &Mark) {
        let target = self.due_target();
        let done = if mark.pending.is_empty() {
            target.remove(&self.resource)
        } else {
            let source = self.params.source.display().to_string();
            let wrapper = Self::wrapper();
            let user = self.params.user.as_deref();
            let installation = Installation { resource: &self.resource, source: &source, wrapper: &wrapper, user };
            let text = installation.due_text(crontab, &mark.pending, &self.identities(crontab));
            match target.read_ours(&self.resource) {
                Ok(found) if found.as_ref() == Some(&text) => Ok(()),
                Ok(_) => target.write(&text),
                Err(failure) => Err(failure),
            }
        };
        if let Err(failure) = done {
            context.log.warning(format!("runs that came due cannot be made up for: {failure}"));
        }
    }

    fn tell_missed(&self, context: &Context, jobs: &Jobs<'_>, missed: &[(Run, String)]) {
        let path = jobs.place.agents_history();
        for (n, (run, why)) in missed.iter().enumerate() {
            if n < TOLD {
                context.log.warning(format!("the run of {} of line {} did not begin: {why}", shown(run.minute), jobs.line_of(&run.job)));
            }
            let event = Event::Missed { why: why.clone() };
            let at = Local::now().timestamp();
            let line = Line { at, node: self.node.clone(), job: run.job.clone(), minute: run.minute, pid: 0, event };
            if let Err(e) = history::append(&path, &line) {
                context.log.warning(format!("the history {} cannot be written: {e}", path.display()));
            }
        }
        if missed.len() > TOLD {
            context.log.warning(format!("{} more runs did not begin: {}", missed.len() - TOLD, path.display()));
        }
    }
}

/// A minute as the wall clock shows it.
fn shown(minute: i64) -> String {
    time_of(&Local, minute).map_or_else(|| minute.to_string(), |at: DateTime<Local>| at.format("%Y-%m-%d %H:%M").to_string())
}
