//! What becomes of runs that came due while the resource was on no node, or was lost with its node. Pure.

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, TimeZone};

use crate::mark::{Mark, Run};
use crate::schedule::Schedule;

/// How many runs of one job are made up for, or told of one by one: a job of every minute has 1440 a day.
pub const MOST: usize = 60;

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
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unwanted => "it is not made up for (catch_up=none)",
            Self::Uncertain => "it may have run on a node that was lost, and is not repeated (guarantee=at_most_once)",
            Self::Superseded => "it is not made up for, a later run of the same job is (catch_up=last)",
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
        let pending = mark.pending.iter().filter(|run| run.job == *job && run.minute > oldest).cloned();
        let runs: BTreeSet<Run> = due.chain(pending).filter(|run| !begun(run)).collect();
        let mut runs: Vec<Run> = runs.into_iter().collect();
        let mut newest = runs.split_off(runs.len().saturating_sub(MOST));
        plan.missed.extend(runs.pop().map(|run| (run, Why::TooMany)));
        let mut miss = |runs: Vec<Run>, why| plan.missed.extend(runs.into_iter().map(|run| (run, why)));
        match policy.catch_up {
            _ if !mark.closed && !policy.at_least_once => miss(newest, Why::Uncertain),
            CatchUp::None => miss(newest, Why::Unwanted),
            CatchUp::Last => {
                plan.make_up.extend(newest.pop());
                miss(newest, Why::Superseded);
            }
            CatchUp::All => plan.make_up.extend(newest),
        }
    }
    plan.make_up.sort();
    plan
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
