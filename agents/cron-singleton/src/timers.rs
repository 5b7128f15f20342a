//! mode=timer: the jobs are timers of systemd's, which are started and stopped with the resource.
//!
//! What came due while a timer stood still, systemd makes up for by itself if the unit says `Persistent=true`: it goes by the time
//! of a file, where the last run stands. The mark carries that time to the next node, which sets its own file by it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::Local;
use ocf::{Context, Failure, Outcome, Status};
use process::{Identity, own};

use crate::agent::{AFTERWARDS, CronSingleton};
use crate::drain::{self, Left};
use crate::mark::{Mark, Run};
use crate::params::{Drain, is_timer};
use crate::place::Place;
use crate::plan::{CatchUp, Policy, minute_of};
use crate::settling::shown;
use crate::systemd::{self, Unit};

/// Where systemd keeps the last runs of persistent timers, as the times of files.
const STAMPS: &str = "/var/lib/systemd/timers";
/// How often systemd is asked whether a service without a process goes on.
const BETWEEN: Duration = Duration::from_millis(100);

impl CronSingleton {
    pub(crate) fn start_timers(&self, context: &Context) -> Outcome {
        let (timers, services) = self.check_timers(context)?;
        let place = self.place()?;
        let open = place.is_open();
        if !open {
            // Whatever becomes of their files, a stop knows what it has to end.
            place.note_units(&[names(&timers), names(&services)].concat()).map_err(Failure::generic)?;
            self.settle_timers_before_start(context, &timers)?;
        }
        systemd::start(&names(&timers), context.deadline.reserving(AFTERWARDS).left())?;
        place.open(&self.node, self.params.overlap, None, &[]).map_err(Failure::generic)?;
        if !open {
            context.log.notice(format!("{} run here from now on", names(&timers).join(", ")));
        }
        Ok(())
    }

    pub(crate) fn stop_timers(&self, context: &Context, place: &Place) -> Outcome {
        let noted = place.units();
        let (noted, more): (Vec<String>, Vec<String>) = noted.into_iter().partition(|name| is_timer(name));
        let timers = self.params.timers.iter().filter(|name| is_timer(name)).cloned().chain(noted).collect::<BTreeSet<_>>();
        // A systemd that is busy (it reads its files anew) answers later. A stop that fails costs the node.
        let limit = context.deadline.reserving(AFTERWARDS);
        let timers = systemd::show(&timers.iter().map(String::as_str).collect::<Vec<_>>(), limit.left() / 2)?;
        systemd::stop(&names(&known(&timers)), limit.left())?;
        let started = timers.iter().map(|timer| timer.starts.clone()).filter(|name| !name.is_empty());
        let services: BTreeSet<String> = started.chain(more).collect();
        let services: Vec<&str> = services.iter().map(String::as_str).collect();
        let patient = self.params.drain == Drain::Wait;
        let until = Instant::now() + self.params.drain_timeout.min(limit.left() / 2);
        let found = RefCell::new(systemd::show(&services, limit.left() / 2)?);
        let look = || {
            // What `su -` or a scope has taken into another control group descends from them all the same.
            let processes = |units: &[Unit]| {
                let found: Vec<Identity> = units.iter().flat_map(Unit::processes).collect();
                let Left { jobs, wrappers } = drain::processes("", &found, &BTreeSet::new());
                [wrappers, jobs].concat()
            };
            let mut jobs = processes(&found.borrow());
            // Between two commands of a service there is a moment without a process.
            while jobs.is_empty() && patient && Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                let Ok(now) = systemd::show(&services, left.min(systemd::ANSWER)) else { break };
                let goes_on = now.iter().any(Unit::is_changing);
                jobs = processes(&now);
                *found.borrow_mut() = now;
                if !goes_on {
                    break;
                }
                std::thread::sleep(BETWEEN);
            }
            Left { jobs, wrappers: vec![] }
        };
        self.drain(context, look)?;
        // One whose start was still to come, or that systemd has started again.
        systemd::stop(&names(&known(&found.into_inner())), limit.left())?;
        if let Some(mark) = self.mark_of_this_reign(place) {
            self.settle_timers(context, place, &mark, &timers, true);
        }
        // From now on they are somebody else's business. Should that not be written, the next stop finds nothing to end.
        let _ = place.note_units(&[]);
        Ok(())
    }

    pub(crate) fn monitor_timers(&self, context: &Context) -> Result<Status, Failure> {
        let open = self.place.as_ref().is_ok_and(Place::is_open);
        let timers = match self.timers(context) {
            Ok(timers) => timers,
            // They were started here, and nobody knows that they have stopped. An error would end the jobs that run.
            Err(failure) if open => return Ok(Status::Degraded(failure.reason)),
            Err(failure) => return Err(failure),
        };
        let (active, idle): (Vec<&Unit>, Vec<&Unit>) = timers.iter().partition(|timer| timer.active == "active");
        match (open, active.first(), idle.first()) {
            (false, None, _) => {
                if context.environment.is_probe() {
                    self.nothing_is_left(context)?;
                }
                return self.absent(context);
            }
            (false, Some(timer), _) => {
                return Err(Failure::generic(format!("{} is active, and its jobs may not run here: restart this resource", timer.name)));
            }
            (true, _, Some(timer)) => {
                return Err(Failure::generic(format!("{} is not active: nothing of it runs; restart this resource", timer.name)));
            }
            (true, _, None) => {}
        }
        if !context.environment.is_probe() {
            let place = self.place()?;
            if let Some(mark) = self.mark_of_this_reign(place) {
                self.settle_timers(context, place, &mark, &timers, false);
            }
            if context.environment.check_level() >= 10 {
                let services = match services(&timers, answer(context)) {
                    Ok(services) => services,
                    Err(failure) => return Ok(Status::Degraded(failure.reason)),
                };
                let failed = services.into_iter().find(|service| !["success", ""].contains(&service.result.as_str()));
                if let Some(Unit { name, result, .. }) = failed {
                    return Ok(Status::Degraded(format!("the last run of {name} ended with {result}: systemctl status {name}")));
                }
            }
        }
        Ok(Status::Running)
    }

    /// Whether a stop that was killed, or that failed, has left a service: nothing may start elsewhere then.
    fn nothing_is_left(&self, context: &Context) -> Outcome {
        let noted = self.place.as_ref().map(Place::units).unwrap_or_default();
        let noted = systemd::show(&noted.iter().map(String::as_str).collect::<Vec<_>>(), answer(context))?;
        match noted.iter().find(|unit| !unit.processes().is_empty()) {
            None => Ok(()),
            Some(unit) => {
                Err(Failure::generic(format!("{} has processes, and its jobs may not run here: restart this resource", unit.name)))
            }
        }
    }

    /// What must be right before the timers may run here. Returns them and what they start.
    pub(crate) fn check_timers(&self, context: &Context) -> Result<(Vec<Unit>, Vec<Unit>), Failure> {
        self.place()?;
        if let Some(contradiction) = &self.params.contradiction {
            return Err(contradiction.clone());
        }
        let timers = self.timers(context)?;
        let services = services(&timers, answer(context))?;
        if let Some(Unit { name, load, .. }) = timers.iter().chain(&services).find(|unit| unit.load != "loaded") {
            return Err(Failure::installed(format!("{name} is {load} on this node: install it on every node")));
        }
        if let Some(Unit { name, .. }) = timers.iter().chain(&services).find(|unit| unit.is_started_elsewhere()) {
            return Err(Failure::installed(format!(
                "{name} is started by every boot of this node, whatever the cluster says: systemctl disable {name}; a link to it in a .wants directory counts as well"
            )));
        }
        let others: Vec<&str> = services
            .iter()
            .flat_map(|service| service.triggered_by.split_whitespace())
            .filter(|name| !timers.iter().any(|timer| timer.name == *name))
            .collect();
        if let Some(Unit { name, .. }) = systemd::show(&others, answer(context))?.iter().find(|unit| unit.is_started_elsewhere()) {
            return Err(Failure::installed(format!(
                "{name} starts a service of these timers on every node, whatever the cluster says: systemctl disable --now {name}"
            )));
        }
        Ok((timers, services))
    }

    /// The timers as systemd has them. A name that is none cannot have been started.
    fn timers(&self, context: &Context) -> Result<Vec<Unit>, Failure> {
        let names: Vec<&str> = self.params.timers.iter().map(String::as_str).filter(|name| is_timer(name)).collect();
        systemd::show(&names, answer(context))
    }

    /// Before the timers start: lets systemd take up where the last node stopped.
    fn settle_timers_before_start(&self, context: &Context, timers: &[Unit]) -> Outcome {
        let place = self.place()?;
        let now = minute_of(&Local::now());
        let before = self.newest_mark(context, place);
        // Those of a start that was killed may have run since it wrote the mark.
        let here = |mark: &Mark| mark.node == self.node && place.knows_all_since(mark);
        let mut runs = Vec::new();
        for name in timers.iter().filter(|timer| timer.persistent).map(|timer| &timer.name) {
            let known = before.as_ref().and_then(|mark| Some((mark, mark.pending.iter().find(|run| run.job == *name)?)));
            // Nothing is known of one that is new: it begins here.
            let Some((mark, run)) = known else {
                runs.push(Run { minute: now, job: name.clone() });
                continue;
            };
            let last = if here(mark) { stamp(name).map_or(run.minute, |own| own.max(run.minute)) } else { run.minute };
            if !mark.closed && !self.params.policy.at_least_once {
                let why = format!(
                    "what was due since then may have run on {}, which was lost, and is not repeated (guarantee=at_most_once)",
                    mark.node
                );
                context.log.warning(format!("the last run of {name} that is known was at {}: {why}", shown(run.minute)));
                self.note_missed(context, place, run, &why);
            }
            runs.push(Run { minute: last_run_for(last, mark.closed, now, &self.params.policy), job: name.clone() });
        }
        runs.sort_by(|a, b| a.job.cmp(&b.job));
        let reign = before.as_ref().map_or(1, |mark| mark.reign + 1);
        let mark = Mark { reign, node: self.node.clone(), minute: now, closed: false, pending: runs };
        // Before the files: a start that is killed in between is repeated with the same times.
        let no_room =
            |why: String| Failure::generic(format!("{why}: the timers are not started, they might repeat what has run; make room there"));
        place.remember(&mark).map_err(no_room)?;
        for run in &mark.pending {
            set_stamp(&run.job, run.minute).map_err(no_room)?;
        }
        self.publish_mark(context, &mark);
        Ok(())
    }

    /// Tells the other nodes when each timer has run last, if that has changed or the resource stops.
    fn settle_timers(&self, context: &Context, place: &Place, mark: &Mark, timers: &[Unit], stopped: bool) {
        let known: BTreeMap<&str, i64> = mark.pending.iter().map(|run| (run.job.as_str(), run.minute)).collect();
        // One whose file has gone is carried on.
        let persistent = timers.iter().filter(|timer| timer.persistent).map(|timer| timer.name.as_str());
        let all: BTreeSet<&str> = persistent.chain(known.keys().copied()).collect();
        let last = |name: &str| stamp(name).into_iter().chain(known.get(name).copied()).max();
        let runs: Vec<Run> = all.into_iter().filter_map(|name| Some(Run { minute: last(name)?, job: name.to_owned() })).collect();
        if runs == mark.pending && !stopped {
            self.publish_mark_unless_told(context, place, mark);
            return;
        }
        let mark = Mark { minute: minute_of(&Local::now()).max(mark.minute), closed: stopped, pending: runs, ..mark.clone() };
        self.publish_mark(context, &mark);
        if let Err(why) = place.remember(&mark) {
            if stopped {
                place.forget();
            }
            context.log.warning(format!("{why}: should this node be lost, the runs since then are not known"));
        }
    }
}

/// The last run by which systemd is to go, minutes since 1970: what came due after it is made up for. `known`: the last one on the
/// node before; `certain`: whether there can have been no other since. Pure.
fn last_run_for(known: i64, certain: bool, now: i64, policy: &Policy) -> i64 {
    if policy.catch_up == CatchUp::None || !certain && !policy.at_least_once {
        return now;
    }
    known.max(now - policy.window).min(now)
}

fn names(units: &[Unit]) -> Vec<&str> {
    units.iter().map(|unit| unit.name.as_str()).collect()
}

/// Without those that do not run and that systemd refuses to stop: it does not know them, or cannot read their files.
fn known(units: &[Unit]) -> Vec<Unit> {
    let refused = |unit: &Unit| ["not-found", "bad-setting", "error"].contains(&unit.load.as_str()) && unit.active == "inactive";
    units.iter().filter(|unit| !refused(unit)).cloned().collect()
}

/// How long an answer may take: half of what the action has left at most, so that it can still say that there was none.
fn answer(context: &Context) -> Duration {
    (context.deadline.left() / 2).min(systemd::ANSWER)
}

/// What the timers start.
fn services(timers: &[Unit], limit: Duration) -> Result<Vec<Unit>, Failure> {
    let names: Vec<&str> = timers.iter().map(|timer| timer.starts.as_str()).filter(|name| !name.is_empty()).collect();
    systemd::show(&names, limit)
}

fn stamp_file(timer: &str) -> PathBuf {
    Path::new(STAMPS).join(format!("stamp-{timer}"))
}

/// When a timer has run last on this node, minutes since 1970.
fn stamp(timer: &str) -> Option<i64> {
    let modified = own::metadata(&stamp_file(timer)).ok()?.modified().ok()?;
    i64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_secs() / 60).ok()
}

/// Lets systemd take it that a timer has run last at the end of that minute.
fn set_stamp(timer: &str, minute: i64) -> Result<(), String> {
    let path = stamp_file(timer);
    let seconds = u64::try_from(minute).unwrap_or_default() * 60 + 59;
    // Not in the future: systemd would take it for a wrong clock.
    #[allow(clippy::disallowed_methods, reason = "systemd goes by the time of day")]
    let time = (UNIX_EPOCH + Duration::from_secs(seconds)).min(SystemTime::now());
    let set = || {
        own::make_directories(Path::new(STAMPS), 0o755)?;
        own::append_to(&path)?.set_modified(time)
    };
    set().map_err(|e: std::io::Error| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A typing error in a unit had its node fenced: systemd refuses to stop what it cannot read.
    #[test]
    fn what_systemd_refuses_to_stop_is_left_out_where_it_does_not_run() {
        let unit = |load: &str, active: &str| {
            let mut unit = Unit::default();
            (unit.load, unit.active) = (load.into(), active.into());
            unit
        };
        for load in ["not-found", "bad-setting", "error"] {
            assert!(known(&[unit(load, "inactive")]).is_empty(), "{load}");
            assert_eq!(known(&[unit(load, "active")]).len(), 1, "{load}");
        }
        assert_eq!(known(&[unit("loaded", "inactive")]).len(), 1);
    }

    #[test]
    fn names_of_timers() {
        for name in ["a.timer", "backup@db-1.timer", "x:y_z\\x2d.timer"] {
            assert!(is_timer(name), "{name}");
        }
        for name in ["", ".timer", "a", "a.service", "a@.timer", "@a.timer", ".a.timer", "-a.timer", "a b.timer", "a/b.timer", "a*.timer"] {
            assert!(!is_timer(name), "{name}");
        }
    }

    #[test]
    fn by_which_run_systemd_goes() {
        let policy = Policy { catch_up: CatchUp::Last, window: 100, at_least_once: false };
        let never = Policy { catch_up: CatchUp::None, ..policy };
        let always = Policy { at_least_once: true, ..policy };
        for (known, certain, policy, expected) in [
            (950, true, policy, 950),
            (500, true, policy, 900),
            (950, true, never, 1000),
            (950, false, policy, 1000),
            (950, false, always, 950),
            (950, false, Policy { at_least_once: true, ..never }, 1000),
            // A clock that is behind.
            (1010, true, policy, 1000),
        ] {
            assert_eq!(last_run_for(known, certain, 1000, &policy), expected, "{known} {certain} {policy:?}");
        }
    }
}
