use chrono::{NaiveDate, Utc};

use super::*;
use crate::crontab::{Crontab, Format, When};

fn jobs(lines: &[(&str, &str)]) -> Vec<(String, Schedule)> {
    let schedule = |text: &str| {
        let crontab = Crontab::parse(&format!("{text} x\n"), Format::User).unwrap();
        match &crontab.jobs().next().unwrap().0.when {
            When::Times(times) => Schedule::new(times).unwrap(),
            When::Reboot => panic!("{text}"),
        }
    };
    lines.iter().map(|(job, text)| ((*job).to_owned(), schedule(text))).collect()
}

fn at(hour: u32, minute: u32, second: u32) -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(2026, 11, 21).unwrap().and_hms_opt(hour, minute, second).unwrap().and_utc()
}

fn minute(hour: u32, minute: u32) -> i64 {
    minute_of(&at(hour, minute, 0))
}

fn mark(hour: u32, min: u32, closed: bool) -> Mark {
    Mark { reign: 1, node: "a".into(), minute: minute(hour, min), closed, pending: vec![] }
}

const LAST: Policy = Policy { catch_up: CatchUp::Last, window: 24 * 60, at_least_once: false };

fn run(job: &str, minute: i64) -> Run {
    Run { minute, job: job.into() }
}

fn never(_: &Run) -> bool {
    false
}

#[test]
fn a_move_makes_up_for_the_last_run_of_each_job() {
    let jobs = jobs(&[("often", "*/5 * * * *"), ("nightly", "0 5 * * *"), ("later", "0 9 * * *")]);
    let plan = plan(&mark(4, 50, true), &jobs, &at(5, 12, 30), &never, &LAST);
    assert_eq!(plan.make_up, [run("nightly", minute(5, 0)), run("often", minute(5, 10))]);
    let superseded = [4 * 60 + 55, 300, 305].map(|at| (run("often", minute(0, 0) + at), Why::Superseded));
    assert_eq!(plan.missed, superseded);
}

#[test]
fn nothing_was_due() {
    let jobs = jobs(&[("nightly", "0 5 * * *")]);
    assert_eq!(plan(&mark(5, 0, true), &jobs, &at(5, 0, 59), &never, &LAST), Plan::default(), "the minute of the mark is settled");
    assert_eq!(plan(&mark(6, 0, true), &jobs, &at(5, 30, 0), &never, &LAST), Plan::default(), "the clock was set back");
}

#[test]
fn the_minute_of_the_start_belongs_to_the_plan_unless_cron_was_faster() {
    let jobs = jobs(&[("x", "0 5 * * *")]);
    let expected = vec![run("x", minute(5, 0))];
    assert_eq!(plan(&mark(4, 59, true), &jobs, &at(5, 0, 0), &never, &LAST).make_up, expected);
    assert_eq!(plan(&mark(4, 59, true), &jobs, &at(5, 0, 0), &|_: &Run| true, &LAST), Plan::default());
}

#[test]
fn what_a_lost_node_may_have_run_is_told_and_not_repeated() {
    let jobs = jobs(&[("x", "*/10 * * * *")]);
    let lost = mark(5, 0, false);
    let told = plan(&lost, &jobs, &at(5, 33, 0), &never, &LAST);
    let uncertain = [10, 20, 30].map(|at| (run("x", minute(5, at)), Why::Uncertain));
    assert_eq!(told, Plan { make_up: vec![], missed: uncertain.into() });
    let repeated = plan(&lost, &jobs, &at(5, 33, 0), &never, &Policy { at_least_once: true, ..LAST });
    assert_eq!(repeated.make_up, [run("x", minute(5, 30))]);
}

#[test]
fn all_means_all_within_bounds() {
    let jobs = jobs(&[("x", "* * * * *")]);
    let all = Policy { catch_up: CatchUp::All, ..LAST };
    let few = plan(&mark(5, 0, true), &jobs, &at(5, 3, 0), &never, &all);
    assert_eq!(few.make_up, [run("x", minute(5, 1)), run("x", minute(5, 2)), run("x", minute(5, 3))]);
    let many = plan(&mark(0, 0, true), &jobs, &at(5, 0, 0), &never, &all);
    assert_eq!((many.make_up.len(), many.make_up.last()), (MOST, Some(&run("x", minute(5, 0)))));
    assert_eq!(many.missed, [(run("x", minute(4, 0)), Why::TooMany)], "and those before it");
    let short = plan(&mark(0, 0, true), &jobs, &at(5, 0, 0), &never, &Policy { window: 2, ..all });
    assert_eq!(short.make_up, [run("x", minute(4, 59)), run("x", minute(5, 0))]);
}

#[test]
fn a_great_many_jobs_do_not_begin_all_at_once() {
    let names: Vec<String> = (0..600).map(|n| format!("{n:03}")).collect();
    let jobs = jobs(&names.iter().map(|name| (name.as_str(), "* * * * *")).collect::<Vec<_>>());
    let plan = plan(&mark(5, 0, true), &jobs, &at(5, 3, 0), &never, &Policy { catch_up: CatchUp::All, ..LAST });
    assert_eq!(plan.make_up.len(), MOST_OF_ALL);
    // Three of each were due.
    assert_eq!(plan.make_up.iter().filter(|run| run.minute == minute(5, 3)).count(), 600);
    assert_eq!(plan.missed.len(), 600, "a line for each job, however many were left out");
    assert_eq!(plan.missed[0], (run("000", minute(5, 2)), Why::TooManyOfAll));
    assert_eq!(plan.missed[599], (run("599", minute(5, 1)), Why::TooManyOfAll));
}

#[test]
fn none_means_that_it_is_told() {
    let jobs = jobs(&[("x", "* * * * *")]);
    let told = plan(&mark(5, 0, true), &jobs, &at(5, 3, 0), &never, &Policy { catch_up: CatchUp::None, ..LAST });
    let unwanted = [1, 2, 3].map(|at| (run("x", minute(5, at)), Why::Unwanted));
    assert_eq!(told, Plan { make_up: vec![], missed: unwanted.into() });
}

#[test]
fn what_was_to_be_made_up_for_and_had_not_begun_still_is() {
    let jobs = jobs(&[("x", "0 1 * * *")]);
    let pending = |of: &str| Mark { pending: vec![run(of, minute(1, 0))], ..mark(5, 0, true) };
    assert_eq!(plan(&pending("x"), &jobs, &at(5, 1, 0), &never, &LAST).make_up, [run("x", minute(1, 0))]);
    let missed = |mark: &Mark, policy: &Policy| {
        let plan = plan(mark, &jobs, &at(5, 1, 0), &never, policy);
        assert_eq!(plan.make_up, []);
        plan.missed
    };
    assert_eq!(missed(&pending("taken out"), &LAST), [(run("taken out", minute(1, 0)), Why::Gone)]);
    assert_eq!(missed(&pending("x"), &Policy { window: 60, ..LAST }), [(run("x", minute(1, 0)), Why::TooOld)]);
}

#[test]
fn what_was_due_before_the_window_is_told() {
    let jobs = jobs(&[("hourly", "0 * * * *"), ("weekly", "0 3 * * 6")]);
    let short = Policy { window: 60, ..LAST };
    let told = plan(&mark(1, 30, true), &jobs, &at(5, 12, 0), &never, &short);
    assert_eq!(told.make_up, [run("hourly", minute(5, 0))]);
    assert_eq!(told.missed, [(run("hourly", minute(4, 0)), Why::TooOld), (run("weekly", minute(3, 0)), Why::TooOld)]);
    let lost = plan(&mark(1, 30, false), &jobs, &at(5, 12, 0), &never, &short);
    assert!(lost.make_up.is_empty() && lost.missed.iter().all(|(_, why)| *why == Why::Uncertain), "{lost:?}");
}

/// A monitor and a stop have the runs of all jobs together.
#[test]
fn of_each_job_the_last_ones_are_looked_at_and_one_stands_for_the_others() {
    let of = |job: &'static str, minutes: std::ops::Range<i64>| minutes.map(move |minute| run(job, minute));
    let runs: Vec<Run> = of("a", 0..65).chain(of("b", 0..60)).chain(of("c", 0..61)).rev().collect();
    let (newest, older) = looked_at_of_each(runs);
    assert_eq!(newest, of("a", 5..65).chain(of("b", 0..60)).chain(of("c", 1..61)).collect::<Vec<_>>());
    assert_eq!(older, [(run("a", 4), Why::TooMany), (run("c", 0), Why::TooMany)]);
    assert_eq!(looked_at_of_each(vec![]), (vec![], vec![]));
}
