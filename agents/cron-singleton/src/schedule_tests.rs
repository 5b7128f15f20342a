use std::collections::BTreeSet;

use chrono::TimeDelta;
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::crontab::{Crontab, Format, When};

fn times(text: &str) -> Times {
    let crontab = Crontab::parse(&format!("{text} command\n"), Format::User).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    match &crontab.jobs().next().unwrap().0.when {
        When::Times(times) => times.clone(),
        When::Reboot => panic!("{text}"),
    }
}

fn schedule(text: &str) -> Schedule {
    Schedule::new(&times(text)).unwrap()
}

fn at<T: TimeZone>(zone: &T, text: &str) -> DateTime<T> {
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap();
    zone.from_local_datetime(&naive).earliest().unwrap()
}

/// The next runs as the zone's clock shows them.
fn next<T: TimeZone>(line: &str, zone: &T, after: &str, count: usize) -> Vec<String>
where
    T::Offset: std::fmt::Display,
{
    let schedule = schedule(line);
    let runs = std::iter::successors(schedule.next_after(&at(zone, after)), |last| schedule.next_after(last));
    runs.take(count).map(|run| run.format("%Y-%m-%d %H:%M %z").to_string()).collect()
}

#[test]
fn leap_days_and_days_that_never_come() {
    assert_eq!(next("0 0 29 2 *", &Utc, "2026-01-01 00:00", 2), ["2028-02-29 00:00 +0000", "2032-02-29 00:00 +0000"]);
    assert_eq!(next("0 0 30 2 *", &Utc, "2026-01-01 00:00", 1), Vec::<String>::new());
}

#[test]
fn a_day_of_month_or_a_day_of_week() {
    // 1 June 2026 is a Monday.
    assert_eq!(
        next("0 0 3 * 1", &Utc, "2026-06-01 00:00", 3),
        ["2026-06-03 00:00 +0000", "2026-06-08 00:00 +0000", "2026-06-15 00:00 +0000"]
    );
    assert_eq!(
        next("0 0 */2 * 1", &Utc, "2026-06-01 00:00", 2),
        ["2026-06-15 00:00 +0000", "2026-06-29 00:00 +0000"],
        "both, because of the *"
    );
    assert_eq!(next("0 0 * * 7", &Utc, "2026-06-01 00:00", 1), ["2026-06-07 00:00 +0000"]);
}

#[test]
fn the_clock_goes_forward() {
    let zone = chrono_tz::Europe::Berlin;
    // At 02:00 it is 03:00.
    assert_eq!(
        next("30 2 * * *", &zone, "2026-03-28 12:00", 2),
        ["2026-03-29 03:00 +0200", "2026-03-30 02:30 +0200"],
        "made up for at once"
    );
    assert_eq!(next("30 * * * *", &zone, "2026-03-29 00:45", 2), ["2026-03-29 01:30 +0100", "2026-03-29 03:30 +0200"], "goes by the clock");
}

#[test]
fn the_clock_goes_back() {
    let zone = chrono_tz::Europe::Berlin;
    // At 03:00 it is 02:00 again.
    assert_eq!(next("30 2 * * *", &zone, "2026-10-24 12:00", 2), ["2026-10-25 02:30 +0200", "2026-10-26 02:30 +0100"], "once");
    assert_eq!(
        next("30 * * * *", &zone, "2026-10-25 02:00", 3),
        ["2026-10-25 02:30 +0200", "2026-10-25 02:30 +0100", "2026-10-25 03:30 +0100"]
    );
}

#[test]
fn between_two_times() {
    let schedule = schedule("*/15 * * * *");
    let runs = schedule.between(&at(&Utc, "2026-06-01 10:00"), &at(&Utc, "2026-06-01 10:30"));
    assert_eq!(runs, [at(&Utc, "2026-06-01 10:15"), at(&Utc, "2026-06-01 10:30")]);
    assert!(schedule.between(&at(&Utc, "2026-06-01 10:30"), &at(&Utc, "2026-06-01 10:00")).is_empty(), "a clock that went back");
}

/// The main loop of Debian's cron (cron.c), minute by minute, with its four kinds of waking up.
fn cron(times: &Times, zone: Tz, begin: &DateTime<Tz>, minutes: i64) -> BTreeSet<DateTime<Tz>> {
    let wall = |t: &DateTime<Tz>| (t.timestamp() + i64::from(t.offset().fix().local_minus_utc())) / 60;
    let due = |minute: i64| {
        use chrono::Datelike;
        let t = DateTime::from_timestamp(minute * 60, 0).unwrap();
        let (day, weekday) = (times.day.has(t.day()), times.weekday.has(t.weekday().num_days_from_sunday()));
        let days = if times.both_days() { day && weekday } else { day || weekday };
        times.minute.has(t.minute()) && times.hour.has(t.hour()) && times.month.has(t.month()) && days
    };
    let mut runs = BTreeSet::new();
    let mut reached = wall(begin);
    for n in 1..=minutes {
        let now = (begin.with_timezone(&Utc) + TimeDelta::minutes(n)).with_timezone(&zone);
        let shown = wall(&now);
        let mut run = |minute: i64, wild: bool, fixed: bool| {
            if due(minute) && if times.wildcard() { wild } else { fixed } {
                runs.insert(now);
            }
        };
        match shown - reached {
            1..=5 => {
                while reached < shown {
                    reached += 1;
                    run(reached, true, true);
                }
            }
            6..=180 => {
                run(shown, true, false);
                while reached < shown {
                    reached += 1;
                    run(reached, false, true);
                }
            }
            -179..=0 => run(shown, true, false),
            _ => panic!("no zone does that"),
        }
    }
    runs
}

/// A field as people write them: `*`, a step, a list, a range.
/// `stars`: how often it is every one, of so many and four.
fn field(stars: u32, low: u8, high: u8) -> impl Strategy<Value = String> {
    let value = low..=high;
    prop_oneof![
        stars => Just("*".to_owned()),
        1 => (1..=high).prop_map(|step| format!("*/{step}")),
        2 => proptest::collection::vec(value.clone(), 1..4).prop_map(|list| list.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
        1 => (value.clone(), value, 1..4_u8).prop_map(|(a, b, step)| format!("{}-{}/{step}", a.min(b), a.max(b))),
    ]
}

fn line() -> impl Strategy<Value = String> {
    (field(3, 0, 59), field(3, 0, 23), field(3, 1, 31), field(3, 1, 12), field(3, 0, 7))
        .prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}"))
}

/// Lines that are often due around a change of the clock. Those of every minute, of which each takes as long as hundreds of others, are fewer.
fn night_line() -> impl Strategy<Value = String> {
    (field(1, 0, 59), field(1, 0, 4)).prop_map(|(minute, hour)| format!("{minute} {hour} * * *"))
}

/// Nights in which a clock is moved, and one in which none is.
const CHANGES: [(Tz, &str); 8] = [
    (Tz::Europe__Berlin, "2026-03-28 20:00"),
    (Tz::Europe__Berlin, "2026-10-24 20:00"),
    (Tz::America__New_York, "2026-03-07 20:00"),
    (Tz::America__New_York, "2026-10-31 20:00"),
    // Half an hour.
    (Tz::Australia__Lord_Howe, "2026-04-04 20:00"),
    (Tz::Australia__Lord_Howe, "2026-10-03 20:00"),
    // The gap is at midnight.
    (Tz::America__Havana, "2026-03-07 18:00"),
    (Tz::UTC, "2028-02-28 20:00"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever zone, whichever way the clock goes: the same minutes as cron's own loop.
    #[test]
    fn runs_when_cron_runs(line in prop_oneof![line(), night_line()], change in 0..8_usize) {
        let (zone, around) = CHANGES[change];
        let times = times(&line);
        let begin = at(&zone, around);
        let end = (begin.with_timezone(&Utc) + TimeDelta::hours(34)).with_timezone(&zone);
        let ours: BTreeSet<DateTime<Tz>> = Schedule::new(&times).unwrap().between(&begin, &end).into_iter().collect();
        prop_assert_eq!(ours, cron(&times, zone, &begin, 34 * 60), "{} in {}", line, zone);
    }

    /// What a monitor reads no calendar for is not due; and where no clock is moved, that is told exactly.
    #[test]
    fn what_cannot_come_due_does_not(line in prop_oneof![line(), night_line()], change in 0..8_usize, from in 0..2040_i64, minutes in 0..200_i64) {
        let (zone, around) = CHANGES[change];
        let times = times(&line);
        let after = (at(&zone, around).with_timezone(&Utc) + TimeDelta::minutes(from)).with_timezone(&zone);
        let until = (after.with_timezone(&Utc) + TimeDelta::minutes(minutes)).with_timezone(&zone);
        let due = !Schedule::new(&times).unwrap().between(&after, &until).is_empty();
        let can = can_come_due(&times, &after, &until);
        prop_assert!(can || !due, "{} in {} after {}", line, zone, after);
        prop_assert!(can == due || zone != Tz::UTC || minutes > 180, "{} after {}", line, after);
    }

    /// A library that shares no code with croner finds the same.
    #[test]
    fn another_library_agrees(line in line(), days in 0..3000_i64) {
        let after = at(&Utc, "2024-01-01 00:00") + TimeDelta::days(days);
        let theirs = cronexpr::parse_crontab(&format!("{line} UTC")).map_err(|e| TestCaseError::fail(format!("{line}: {e}")))?;
        let theirs = theirs.find_next(after.to_rfc3339().as_str()).ok().map(|z| z.timestamp().as_second());
        let ours = Schedule::new(&times(&line)).unwrap().next_after(&after).map(|t| t.timestamp());
        // It looks four years ahead.
        let horizon = (after + TimeDelta::days(4 * 365)).timestamp();
        prop_assert_eq!(ours.filter(|t| theirs.is_some() || *t < horizon), theirs, "{}", line);
    }
}

proptest! {
    #[test]
    fn the_newest_are_the_last_of_all(minute in 0u32..60, hour in 0u32..24, every: bool, days in 0i64..3, minutes in 0i64..6000, count in 1usize..4) {
        let schedule = schedule(&if every { format!("{minute} * * * *") } else { format!("{minute} {hour} * * *") });
        let zone = chrono_tz::Europe::Berlin;
        let after = at(&zone, "2026-10-24 00:00") + TimeDelta::days(days);
        let until = after + TimeDelta::minutes(minutes);
        let mut all = schedule.between(&after, &until);
        prop_assert_eq!(schedule.newest_between(&after, &until, count), all.split_off(all.len().saturating_sub(count)));
    }
}
