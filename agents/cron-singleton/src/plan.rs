//! What becomes of runs that came due while the resource was on no node, or was lost with its node. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, TimeZone};

use crate::mark::{Mark, Run};
use crate::schedule::Schedule;

/// How many runs of one job are made up for, or told of one by one: a job of every minute has 1440 a day.
pub const MOST: usize = 60;
/// How many runs of all jobs together are made up for: cron starts them all in the same minute.
pub const MOST_OF_ALL: usize = 1000;

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// They are told of.
    None,
    /// The last one of each job is made up for.
    Last,
    /// Each is, as far as [`MOST`] goes.
    All,
}

/// The rules.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// What becomes of runs that nobody has begun.
    pub catch_up: CatchUp,
    /// How long ago a run may have been due, minutes.
    pub window: i64,
    /// Whether runs are made up for that a lost node may have begun.
    pub at_least_once: bool,
}

/// Why a run is not made up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// `catch_up=none`.
    Unwanted,
    /// The node was lost: it may have run there.
    Uncertain,
    /// `catch_up=last`.
    Superseded,
    /// More than [`MOST`].
    TooMany,
    /// Due before the window.
    TooOld,
    /// Its job was taken out, or changed.
    Gone,
    /// More than [`MOST_OF_ALL`].
    TooManyOfAll,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unwanted => "it is not made up for (catch_up=none)",
            Self::Uncertain => "it may have run on a node that was lost, and is not repeated (guarantee=at_most_once)",
            Self::Superseded => "it is not made up for, a later run of the same job is (catch_up=last)",
            Self::TooManyOfAll => "neither did those of the same job before it; only the last 1000 of all jobs are made up for",
            Self::TooOld => "neither did those of the same job before it, and it was due longer ago than catch_up_window",
            Self::Gone => "its job is not in the crontab any more",
            Self::TooMany => "neither did those of the same job before it; only the last 60 are looked at",
        })
    }
}

/// What is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Runs that begin now, oldest first.
    pub make_up: Vec<Run>,
    /// Runs that are left out, and why.
    pub missed: Vec<(Run, Why)>,
}

/// The minute, since 1970.
pub fn minute_of<Tz: TimeZone>(at: &DateTime<Tz>) -> i64 {
    at.timestamp().div_euclid(60)
}

/// When a minute begins.
pub fn time_of<Tz: TimeZone>(zone: &Tz, minute: i64) -> Option<DateTime<Tz>> {
    DateTime::from_timestamp(minute.checked_mul(60)?, 0).map(|at| at.with_timezone(zone))
}

/// Of the runs of one job that nobody has begun, oldest first: the last [`MOST`], which are looked at one by one; and of those before them
/// the last, which stands for all of them.
fn looked_at(mut runs: Vec<Run>) -> (Vec<Run>, Option<(Run, Why)>) {
    let newest = runs.split_off(runs.len().saturating_sub(MOST));
    (newest, runs.pop().map(|run| (run, Why::TooMany)))
}

/// The same of the runs of several jobs.
pub fn looked_at_of_each(runs: Vec<Run>) -> (Vec<Run>, Vec<(Run, Why)>) {
    let mut by_job: BTreeMap<String, BTreeSet<Run>> = BTreeMap::new();
    for run in runs {
        by_job.entry(run.job.clone()).or_default().insert(run);
    }
    let (newest, older): (Vec<_>, Vec<_>) = by_job.into_values().map(|runs| looked_at(runs.into_iter().collect())).unzip();
    (newest.concat(), older.into_iter().flatten().collect())
}

/// Leaves [`MOST_OF_ALL`] of the runs that are to be made up for, the last ones, oldest first. Returns what is left out: the last of each
/// job stands for those before it.
pub fn at_most_of_all(make_up: &mut Vec<Run>) -> Vec<(Run, Why)> {
    make_up.sort();
    let surplus = make_up.len().saturating_sub(MOST_OF_ALL);
    let dropped: BTreeMap<String, Run> = make_up.drain(..surplus).map(|run| (run.job.clone(), run)).collect();
    dropped.into_values().map(|run| (run, Why::TooManyOfAll)).collect()
}

/// Decides. `mark`: how far the runs were settled; `jobs`: each with its identity; `now`: the minute in which the resource starts;
/// `begun`: whether a run has begun on this node since it booted.
pub fn plan<Tz: TimeZone>(
    mark: &Mark,
    jobs: &[(String, Schedule)],
    now: &DateTime<Tz>,
    begun: &dyn Fn(&Run) -> bool,
    policy: &Policy,
) -> Plan {
    let mut plan = Plan::default();
    let zone = now.timezone();
    let oldest = minute_of(now) - policy.window;
    let (Some(after), Some(until)) = (time_of(&zone, mark.minute.max(oldest)), time_of(&zone, minute_of(now))) else { return plan };
    for (job, schedule) in jobs {
        let due = schedule.newest_between(&after, &until, MOST + 1);
        let due = due.iter().map(|at| Run { minute: minute_of(at), job: job.clone() });
        let (pending, old): (Vec<&Run>, Vec<&Run>) = mark.pending.iter().filter(|run| run.job == *job).partition(|run| run.minute > oldest);
        let pending = pending.into_iter().cloned();
        let before = time_of(&zone, mark.minute).zip(time_of(&zone, oldest));
        let before = before.and_then(|(after, until)| schedule.newest_between(&after, &until, 1).pop());
        let before = before.map(|at| Run { minute: minute_of(&at), job: job.clone() });
        let old = old.into_iter().cloned().chain(before).max();
        let uncertain = !mark.closed && !policy.at_least_once;
        plan.missed.extend(old.filter(|run| !begun(run)).map(|run| (run, if uncertain { Why::Uncertain } else { Why::TooOld })));
        let runs: BTreeSet<Run> = due.chain(pending).filter(|run| !begun(run)).collect();
        let (mut newest, older) = looked_at(runs.into_iter().collect());
        plan.missed.extend(older);
        let mut miss = |runs: Vec<Run>, why| plan.missed.extend(runs.into_iter().map(|run| (run, why)));
        match policy.catch_up {
            _ if uncertain => miss(newest, Why::Uncertain),
            CatchUp::None => miss(newest, Why::Unwanted),
            CatchUp::Last => {
                plan.make_up.extend(newest.pop());
                miss(newest, Why::Superseded);
            }
            CatchUp::All => plan.make_up.extend(newest),
        }
    }
    let gone = mark.pending.iter().filter(|run| !jobs.iter().any(|(job, _)| *job == run.job));
    plan.missed.extend(gone.map(|run| (run.clone(), Why::Gone)));
    plan.missed.extend(at_most_of_all(&mut plan.make_up));
    plan
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
