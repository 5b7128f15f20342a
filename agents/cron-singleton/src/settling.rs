//! Which runs are settled, and what becomes of the others: what start, monitor and stop do about it.
//!
//! The mark stands in a file on this node and in an attribute of every node, because the attributes of a lost node are lost with
//! it. It is written before anything is run by it.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Local};
use ocf::{Context, Failure, Outcome};
use process::own;

use crate::agent::{CronSingleton, RegisteredRun, registered};
use crate::claims::Claims;
use crate::crontab::{Crontab, Times, When};
use crate::history::{self, Event, Line};
use crate::installed::{Installation, identities, identities_at_the_gate};
use crate::mark::{self, Mark, Run};
use crate::params::Mode;
use crate::place::{Owner, Place};
use crate::plan::{CatchUp, MOST, Plan, Why, at_most_of_all, looked_at_of_each, minute_of, plan, time_of};
use crate::schedule::{Schedule, can_come_due};
use crate::target::Target;
use crate::wrapper::Running;

/// The private attribute with the mark, of every node.
const MARK: &str = "cron-mark";
/// The one with what a node remembers from before the cluster was shut down.
const REMEMBERED: &str = "cron-remembered";
/// How many runs that are left out are told in the log. All are in the history.
const TOLD: usize = 5;
/// Where this node keeps the mark that it has told all nodes last.
const TOLD_MARK: &str = "told-mark";
/// How far the clocks of two nodes may be apart, minutes.
const APART: i64 = 15;
/// When cron has started what is made up for, at the latest.
const STARTED_BY: Duration = Duration::from_secs(180);
/// How much of a history is looked at for jobs that fail, bytes.
const LOOKED_AT: u64 = 128 * 1024;

/// A job of the crontab.
pub(crate) struct Known<'a> {
    identity: String,
    line: usize,
    uid: u32,
    /// `None`: at `@reboot`.
    times: Option<&'a Times>,
}

impl Known<'_> {
    /// Its calendar. Made when it is asked for: a monitor of a thousand jobs needs few of them.
    fn schedule(&self) -> Result<Option<Schedule>, Failure> {
        let wrong = |e| Failure::installed(format!("the times of line {} cannot be read: {e}", self.line));
        self.times.map(|times| Schedule::new(times).map_err(wrong)).transpose()
    }
}

/// All of them, with what has begun of them on this node.
pub(crate) struct Jobs<'a> {
    place: &'a Place,
    known: Vec<Known<'a>>,
    /// Whether a job with other times has another name.
    named_by_times: bool,
    /// Runs that a wrapper has which has not claimed them yet: it is about to, or waits for its turn.
    registered: Vec<Run>,
    /// Registrations whose wrapper is gone: it was killed.
    killed: Vec<RegisteredRun>,
    /// How many runs were left out since the last one that began, by the line of the job.
    skipped: Vec<(usize, u64)>,
}

impl Jobs<'_> {
    /// Whether a run has begun on this node since it booted.
    fn begun(&self) -> impl Fn(&Run) -> bool {
        // Made when it is asked for: most monitors have nothing to ask.
        let uids: OnceCell<BTreeMap<&str, u32>> = OnceCell::new();
        move |run| {
            let uids = uids.get_or_init(|| self.known.iter().map(|job| (job.identity.as_str(), job.uid)).collect());
            let claims = uids.get(run.job.as_str()).map_or_else(Claims::default, |uid| self.place.claims(*uid, &run.job));
            claims.may_have(run.minute)
        }
    }

    /// Those of these runs, which were due here, that cron has not begun. After the clock has jumped (a virtual machine that was paused)
    /// cron begins late what has a fixed time; its wrapper knows the minute in which it began only, and that is none in which the job
    /// is due. What is made up for has its own minute, and is not asked for here.
    fn not_begun(&self, due: &[Run]) -> Result<Vec<Run>, Failure> {
        let begun = self.begun();
        let mut runs = Vec::new();
        for run in due.iter().filter(|run| !begun(run)) {
            if !self.begun_late(run)? {
                runs.push(run.clone());
            }
        }
        Ok(runs)
    }

    fn begun_late(&self, run: &Run) -> Result<bool, Failure> {
        // At the gate, a job whose times were changed keeps its name, and what was claimed by the old ones tells nothing.
        let Some(job) = self.known.iter().find(|job| job.identity == run.job).filter(|_| self.named_by_times) else { return Ok(false) };
        let Some(claimed) = self.place.claims(job.uid, &run.job).first_after(run.minute) else { return Ok(false) };
        let (Some(schedule), Some(at)) = (job.schedule()?, time_of(&Local, run.minute)) else { return Ok(false) };
        Ok(schedule.next_after(&at).is_none_or(|next| claimed < minute_of(&next)))
    }

    fn scheduled(&self) -> Result<Vec<(String, Schedule)>, Failure> {
        let of = |job: &Known<'_>| Ok(job.schedule()?.map(|schedule| (job.identity.clone(), schedule)));
        self.known.iter().filter_map(|job| of(job).transpose()).collect()
    }

    /// The runs of each job that were due after a minute and up to another one; the last [`MOST`], and one more.
    fn due(&self, after: i64, until: i64) -> Result<Vec<Run>, Failure> {
        let (Some(after), Some(until)) = (time_of(&Local, after), time_of(&Local, until)) else { return Ok(vec![]) };
        let mut runs = Vec::new();
        for job in self.known.iter().filter(|job| job.times.is_some_and(|times| can_come_due(times, &after, &until))) {
            let times = job.schedule()?.map(|schedule| schedule.newest_between(&after, &until, MOST + 1)).unwrap_or_default();
            runs.extend(times.iter().map(|at| Run { minute: minute_of(at), job: job.identity.clone() }));
        }
        Ok(runs)
    }

    /// Runs at a takeover belong to that takeover only.
    fn without_takeovers(&self, runs: Vec<Run>) -> Vec<Run> {
        let at_takeover = |run: &Run| self.known.iter().any(|job| job.identity == run.job && job.times.is_none());
        runs.into_iter().filter(|run| !at_takeover(run)).collect()
    }

    /// The jobs of which so many runs in a row were left out, with how many.
    pub(crate) fn skipped(&self, at_least: u64) -> impl Iterator<Item = (usize, u64)> {
        self.skipped.iter().copied().filter(move |(_, count)| *count >= at_least).take(TOLD)
    }

    fn line_of(&self, job: &str) -> usize {
        self.known.iter().find(|known| known.identity == job).map_or(0, |known| known.line)
    }
}

impl CronSingleton {
    /// The jobs of the source.
    pub(crate) fn jobs<'a>(&self, place: &'a Place, crontab: &'a Crontab, users: &BTreeMap<String, Owner>) -> Jobs<'a> {
        let mut known = Vec::new();
        for ((job, _), identity) in crontab.jobs().zip(self.identities(crontab)) {
            let user = job.user.as_ref().or(self.params.user.as_ref());
            let Some(owner) = user.and_then(|user| users.get(user)) else { continue };
            let times = if let When::Times(times) = &job.when { Some(times) } else { None };
            known.push(Known { identity, line: job.line, uid: owner.uid, times });
        }
        // A user's files speak for that user's jobs only.
        let line_of = |uid: u32, job: &str| known.iter().find(|known: &&Known<'_>| known.uid == uid && known.identity == job);
        let written = place.written();
        let of_job = |run: &RegisteredRun| line_of(run.uid, &run.running.job).is_some();
        let (alive, killed): (Vec<_>, Vec<_>) = registered(written.runs).into_iter().partition(|run| run.alive);
        let alive = alive.into_iter().filter(of_job).map(|run| Run { minute: run.running.minute, job: run.running.job }).collect();
        let skipped = written.skipped.iter().filter_map(|(uid, job, count)| Some((line_of(*uid, job)?.line, *count))).collect();
        Jobs { place, registered: alive, killed, skipped, named_by_times: self.params.mode != Mode::Gate, known }
    }

    fn identities(&self, crontab: &Crontab) -> Vec<String> {
        if self.params.mode == Mode::Gate { identities_at_the_gate(crontab) } else { identities(crontab) }
    }

    /// Where cron finds the runs that are made up for.
    pub(crate) fn due_target(&self) -> Target {
        Target::due_file_of(&self.params.cron_directory, &self.resource)
    }

    /// Before anything may run here: decides what becomes of the runs since the last node had the resource. Returns the minute up to
    /// which all is settled on that node, if it is another one.
    pub(crate) fn settle_before_start(&self, context: &Context, jobs: &Jobs<'_>, crontab: &Crontab) -> Result<Option<i64>, Failure> {
        let now = Local::now();
        let here = minute_of(&now);
        let before = self.newest_mark(context, jobs.place).map(|mark| Mark { pending: jobs.without_takeovers(mark.pending), ..mark });
        let mut plan = match &before {
            Some(mark) => plan(mark, &jobs.scheduled()?, &now, &jobs.begun(), &self.params.policy),
            None => Plan::default(),
        };
        let made_up_for = plan.make_up.len();
        if self.params.at_takeover {
            let at_takeover = jobs.known.iter().filter(|job| job.times.is_none());
            plan.make_up.extend(at_takeover.map(|job| Run { minute: here, job: job.identity.clone() }));
        }
        let reign = before.as_ref().map_or(1, |mark| mark.reign + 1);
        // What has begun here is written down here, and needs no clock. But a mark of this node's own may have its minute from another one,
        // whose clock is ahead: by this clock that is still to come.
        let elsewhere = |mark: &&Mark| mark.node != self.node || !jobs.place.knows_all_since(mark);
        let settled = before.as_ref().filter(|mark| mark.minute > here || elsewhere(mark));
        let settled = settled.and_then(|mark| settled_elsewhere(mark.minute, here));
        if let (None, Some(mark)) = (settled, before.as_ref().filter(elsewhere)) {
            context.log.warning(format!(
                "the clock of {} was {} minutes ahead of this one's: what has run there in the minutes to come may run again here; set the clocks",
                mark.node,
                mark.minute - here
            ));
        }
        let minute = settled.map_or(here, |settled| settled.max(here));
        let mut mark = Mark { reign, node: self.node.clone(), minute, closed: false, pending: plan.make_up };
        let mut missed: Vec<(Run, String)> = told(plan.missed).collect();
        if let Err(why) = jobs.place.remember(&mark) {
            // What is not written down might be run twice.
            context.log.warning(format!("{why}: no run is made up for"));
            missed.extend(mark.pending.drain(..).map(|run| (run, "it is not made up for, because that cannot be written down".to_owned())));
        } else if made_up_for > 0 {
            context.log.notice(format!("{made_up_for} runs that came due while the resource was on no node are made up for"));
        }
        self.publish_mark(context, &mark);
        self.tell_missed(context, jobs, &missed);
        self.write_due(context, crontab, jobs, &mark);
        self.clear_away(context, jobs);
        Ok(settled)
    }

    /// After the jobs may run here: what came due since the start began, cron could not begin, and counts as due before. What cron begins
    /// all the same is claimed, and not run again. With `catch_up=none` it is the monitor that tells what has not begun: until the minute
    /// is over nobody knows.
    pub(crate) fn settle_after_start(&self, context: &Context, jobs: &Jobs<'_>, crontab: &Crontab) -> Outcome {
        let now = Local::now();
        let minute = minute_of(&now);
        let Some(mark) = self.mark_of_this_reign(jobs.place).filter(|mark| mark.minute < minute) else { return Ok(()) };
        if self.params.policy.catch_up == CatchUp::None {
            return Ok(());
        }
        // What was to be made up for before is not weighed again.
        let since = Mark { closed: true, pending: vec![], ..mark.clone() };
        let Plan { make_up, missed } = plan(&since, &jobs.scheduled()?, &now, &jobs.begun(), &self.params.policy);
        if make_up.is_empty() && missed.is_empty() {
            return Ok(());
        }
        let mut pending = [mark.pending.clone(), make_up].concat();
        let dropped = at_most_of_all(&mut pending);
        let mark = Mark { minute, pending, ..mark };
        if let Err(why) = jobs.place.remember(&mark) {
            // The monitor tells them.
            context.log.warning(format!("{why}: no run is made up for"));
            return Ok(());
        }
        self.publish_mark(context, &mark);
        self.tell_missed(context, jobs, &told([missed, dropped].concat()).collect::<Vec<_>>());
        self.write_due(context, crontab, jobs, &mark);
        Ok(())
    }

    /// Takes the registrations away of wrappers that were killed, and tells of a run that one had taken and may not have begun: it
    /// counts as begun.
    fn clear_away(&self, context: &Context, jobs: &Jobs<'_>) {
        let begun = jobs.begun();
        let mut lost = Vec::new();
        for RegisteredRun { uid, file, running, .. } in &jobs.killed {
            let run = Run { minute: running.minute, job: running.job.clone() };
            let theirs = jobs.known.iter().any(|known| known.uid == *uid && known.identity == run.job);
            if theirs && !running.over && begun(&run) && !has_said_so(&jobs.place.history_of(*uid, LOOKED_AT), running) {
                lost.push((run, "its wrapper was killed before it could say that it began".to_owned()));
            }
            jobs.place.unregister(*uid, file);
        }
        self.tell_missed(context, jobs, &lost);
    }

    /// Advances the mark when something was due, and takes the runs away that are made up for and have begun. `renewed`: the crontab
    /// is another one from now on.
    pub(crate) fn settle_in_passing(&self, context: &Context, jobs: &Jobs<'_>, crontab: &Crontab, renewed: bool) -> Outcome {
        self.clear_away(context, jobs);
        let Some(mark) = self.mark_of_this_reign(jobs.place) else { return Ok(()) };
        // cron has begun what was due in the minute before this one.
        let until = minute_of(&Local::now()) - 1;
        let (mark, stepped) = as_of(mark, until);
        let begun = jobs.begun();
        let due = jobs.due(mark.minute, until)?;
        let open = jobs.not_begun(&due)?;
        // One that waits for its turn has not begun: should it not come to that, it is made up for.
        let (waiting, overdue): (Vec<Run>, Vec<Run>) = open.into_iter().partition(|run| jobs.registered.contains(run));
        let pending: Vec<Run> = mark.pending.iter().filter(|run| !begun(run)).cloned().chain(waiting).collect();
        if due.is_empty() && pending.len() == mark.pending.len() && !renewed && !stepped {
            // One that was killed may have got no further than the mark, or did not reach all nodes.
            self.publish_mark_unless_told(context, jobs.place, &mark);
            self.write_due(context, crontab, jobs, &mark);
            return Ok(());
        }
        let mark = Mark { minute: until.max(mark.minute), pending, ..mark };
        if let Err(why) = jobs.place.remember(&mark) {
            context.log.warning(format!("{why}: should this node be lost, the runs since then are not known"));
        }
        self.publish_mark(context, &mark);
        self.tell_missed(context, jobs, &self.overdue(jobs.place, overdue));
        self.write_due(context, crontab, jobs, &mark);
        Ok(())
    }

    /// What is told of runs that were due while the resource was here, and that nobody has begun.
    fn overdue(&self, place: &Place, runs: Vec<Run>) -> Vec<(Run, String)> {
        // Until the jobs might run here, cron could begin none of them.
        let opened = place.opened().filter(|_| self.params.policy.catch_up == CatchUp::None);
        let (newest, older) = looked_at_of_each(runs);
        let why = |run: &Run| {
            let unwanted = opened.is_some_and(|opened| run.minute <= opened);
            if unwanted { Why::Unwanted.to_string() } else { "cron has not started it: journalctl -u cron".to_owned() }
        };
        told(older).chain(newest.into_iter().map(|run| (run.clone(), why(&run)))).collect()
    }

    /// After the jobs were kept from starting and have ended. What nobody has begun until now is left to the next node. So it does
    /// not matter when a stop began, nor whether it is the first: it looks at what has begun.
    pub(crate) fn settle_after_stop(&self, context: &Context, jobs: &Jobs<'_>) -> Outcome {
        self.clear_away(context, jobs);
        let Some(mark) = self.mark_of_this_reign(jobs.place) else { return Ok(()) };
        let minute = minute_of(&Local::now());
        let (mark, _) = as_of(mark, minute);
        let begun = jobs.begun();
        let (open, older) = looked_at_of_each(jobs.not_begun(&jobs.due(mark.minute, minute)?)?);
        let pending = mark.pending.iter().filter(|run| !begun(run)).cloned().chain(open).collect();
        self.tell_missed(context, jobs, &told(older).collect::<Vec<_>>());
        let mark = Mark { minute: minute.max(mark.minute), closed: true, pending, ..mark };
        self.publish_mark(context, &mark);
        if let Err(why) = jobs.place.remember(&mark) {
            jobs.place.forget();
            let then = "the other nodes know it; should all be shut down, the next start takes it that this node was lost";
            context.log.warning(format!("{why}: {then}"));
        }
        Ok(())
    }

    /// The mark that the last start here has written, if the resource has not been stopped since, in order or by a boot.
    pub(crate) fn mark_of_this_reign(&self, place: &Place) -> Option<Mark> {
        place.mark().filter(|mark| !mark.closed && mark.node == self.node && place.knows_all_since(mark))
    }

    /// Jobs whose last run failed or did not begin: for people who look closer.
    pub(crate) fn failing(&self, jobs: &Jobs<'_>) -> Option<String> {
        let mut last: BTreeMap<String, Line> = BTreeMap::new();
        let mut uids: Vec<u32> = jobs.known.iter().map(|job| job.uid).collect();
        uids.sort_unstable();
        uids.dedup();
        // A user's history speaks for that user's jobs only; the agent's for all.
        let users = uids.into_iter().map(|uid| (Some(uid), jobs.place.history_of(uid, LOOKED_AT)));
        let histories = users.chain([(None, history::tail(&jobs.place.agents_history(), LOOKED_AT))]);
        let theirs =
            |uid: Option<u32>, job: &str| jobs.known.iter().any(|known| known.identity == job && uid.is_none_or(|uid| uid == known.uid));
        for (uid, lines) in histories {
            for line in lines.into_iter().filter(|line| theirs(uid, &line.job)) {
                let later = last.get(&line.job).is_none_or(|known| known.at <= line.at);
                if later && !matches!(line.event, Event::Started { .. } | Event::Skipped { .. }) {
                    last.insert(line.job.clone(), line);
                }
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
        if let Target::File(path) = self.due_target() {
            let age = own::metadata(&path).and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
            if let Some(age) = age.filter(|age| *age > STARTED_BY) {
                let text = format!("runs that are made up for have not begun for {} minutes: journalctl -u cron", age.as_secs() / 60);
                complaints.insert(0, (0, text));
            }
        }
        let texts: Vec<String> = complaints.into_iter().take(TOLD).map(|(_, text)| text).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// The mark to go by at a start; closed only if that is certain.
    pub(crate) fn newest_mark(&self, context: &Context, place: &Place) -> Option<Mark> {
        let read = |values: BTreeMap<String, String>| values.values().filter_map(|text| Mark::parse(text)).collect::<Vec<_>>();
        let ask = |name: &str| {
            let answer = self.cluster.private_values(name).map(read);
            answer.map_err(|e| context.log.warning(format!("what the other nodes know of the last runs cannot be found out: {e}"))).ok()
        };
        let own = place.mark();
        let complete = own.as_ref().is_some_and(|mark| mark.node == self.node && place.knows_all_since(mark));
        let carried = ask(MARK);
        let known = match &carried {
            Some(marks) if marks.is_empty() => mark::Known {
                remembered: ask(REMEMBERED).unwrap_or_default(),
                all_present: self.cluster.all_present(),
                ..mark::Known::default()
            },
            _ => mark::Known::default(),
        };
        mark::Known { carried, own, complete, ..known }.mark()
    }

    /// When this node has joined the cluster: takes over what the others carry, so that it is known as long as this node is there.
    /// When nobody carries anything, the cluster was shut down as a whole: then each node says what it remembers.
    pub(crate) fn join(&self) {
        let Ok(place) = self.place() else { return };
        let Ok(carried) = self.cluster.private_values(MARK) else { return };
        let newest = Mark::newest(carried.values().filter_map(|text| Mark::parse(text)));
        // Should it not be told, the start finds out less, and says so.
        let _ = match newest {
            Some(mark) if carried.get(&self.node) == Some(&mark.to_string()) => Ok(()),
            Some(mark) => self.cluster.publish_private(MARK, &mark.to_string()),
            None => place.mark().map_or(Ok(()), |mark| self.cluster.publish_private(REMEMBERED, &mark.to_string())),
        };
    }

    /// Tells all nodes. Should one of them not be told, the next monitor tells it again.
    pub(crate) fn publish_mark(&self, context: &Context, mark: &Mark) {
        let text = mark.to_string();
        match (self.cluster.publish_everywhere(MARK, &text), &self.place) {
            // Should that not be written down, it is told once more.
            (Ok(()), Ok(place)) => drop(place.note(TOLD_MARK, &text)),
            (Ok(()), Err(_)) => {}
            (Err(e), _) => context.log.warning(format!("the other nodes cannot be told which runs are settled: {e}")),
        }
    }

    /// The same where the last attempt has failed, or was killed: should this node be lost, the others go by what they were told.
    pub(crate) fn publish_mark_unless_told(&self, context: &Context, place: &Place, mark: &Mark) {
        if self.cluster.is_present() && place.noted(TOLD_MARK).is_none_or(|told| told != mark.to_string().into_bytes()) {
            self.publish_mark(context, mark);
        }
    }

    /// Gives cron the runs that are made up for, or takes the file away.
    fn write_due(&self, context: &Context, crontab: &Crontab, jobs: &Jobs<'_>, mark: &Mark) {
        let target = self.due_target();
        // Those that a wrapper has need no other one.
        let pending: Vec<Run> = mark.pending.iter().filter(|run| !jobs.registered.contains(run)).cloned().collect();
        let done = if pending.is_empty() {
            target.remove(&self.resource)
        } else {
            let source = self.params.source.display().to_string();
            let wrapper = Self::wrapper();
            let user = self.params.user.as_deref();
            let installation = Installation { resource: &self.resource, source: &source, wrapper: &wrapper, user };
            let text = installation.due_text(crontab, &pending, &self.identities(crontab));
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
        for (n, (run, why)) in missed.iter().enumerate() {
            if n < TOLD {
                context.log.warning(format!("the run of {} of line {} did not begin: {why}", shown(run.minute), jobs.line_of(&run.job)));
            }
            self.note_missed(context, jobs.place, run, why);
        }
        if missed.len() > TOLD {
            context.log.warning(format!("{} more runs did not begin: {}", missed.len() - TOLD, jobs.place.agents_history().display()));
        }
    }

    /// Writes into the history that a run did not begin, or may not have.
    pub(crate) fn note_missed(&self, context: &Context, place: &Place, run: &Run, why: &str) {
        let event = Event::Missed { why: why.to_owned() };
        let at = Local::now().timestamp();
        let line = Line { at, node: self.node.clone(), job: run.job.clone(), minute: run.minute, pid: 0, event };
        if let Err(e) = history::append(&place.agents_history(), &line) {
            context.log.warning(format!("the history {} cannot be written: {e}", place.agents_history().display()));
        }
    }
}

/// The minute up to which nothing is begun here, because it was settled on another node. A clock that is ahead by more than
/// [`APART`] was wrong, and nothing would run here until then. Pure.
fn settled_elsewhere(minute: i64, here: i64) -> Option<i64> {
    (minute - here <= APART).then_some(minute)
}

/// What an operator is told of runs that are left out.
fn told(missed: Vec<(Run, Why)>) -> impl Iterator<Item = (Run, String)> {
    missed.into_iter().map(|(run, why)| (run, why.to_string()))
}

/// Whether the wrapper of a run has written down that it began.
fn has_said_so(history: &[Line], running: &Running) -> bool {
    let of_it = |line: &Line| line.job == running.job && line.minute == running.minute && line.pid == running.wrapper.pid.unsigned_abs();
    history.iter().any(|line| of_it(line) && matches!(line.event, Event::Started { .. }))
}

/// A minute as the wall clock shows it.
pub(crate) fn shown(minute: i64) -> String {
    time_of(&Local, minute).map_or_else(|| minute.to_string(), |at: DateTime<Local>| at.format("%Y-%m-%d %H:%M").to_string())
}

/// The mark, set back to this minute where this node's own clock was ahead when it was written, and has been set right since. And whether it
/// was: until the minute that it names nothing would count as due.
fn as_of(mark: Mark, minute: i64) -> (Mark, bool) {
    // A settled minute may be so far ahead by the clock of another node.
    if mark.minute - minute > APART + 1 { (Mark { minute, ..mark }, true) } else { (mark, false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_of_a_clock_that_was_set_right_is_set_back() {
        let mark = |minute| Mark { reign: 1, node: "a".into(), minute, closed: false, pending: vec![] };
        for (minute, now, found) in [(100, 100, (100, false)), (116, 100, (116, false)), (117, 100, (100, true)), (220, 100, (100, true))] {
            let (mark, stepped) = as_of(mark(minute), now);
            assert_eq!((mark.minute, stepped), found, "{minute}");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_and_one_that_is_wrong() {
        for (minute, here, settled) in [(99, 100, Some(99)), (101, 100, Some(101)), (115, 100, Some(115)), (116, 100, None)] {
            assert_eq!(settled_elsewhere(minute, here), settled, "{minute}");
        }
    }
}
