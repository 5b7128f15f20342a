//! When a job comes due. croner reads the calendar; what a moved clock means is Debian's rule. Pure: the time is a parameter.

use chrono::{DateTime, Datelike, Duration, LocalResult, NaiveDateTime, Offset, TimeZone, Timelike, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use crate::crontab::{Field, Times};

/// The farthest that a wall clock is moved at once for daylight saving, with room to spare. cron takes more for a new clock.
const FARTHEST_MOVE: Duration = Duration::hours(3);

/// The times at which a job comes due.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// `None`: never.
    calendar: Option<Cron>,
    wildcard: bool,
}

impl Schedule {
    /// # Errors
    /// When croner cannot read the times (it can: this says which words it did not understand, should that change).
    pub fn new(times: &Times) -> Result<Self, String> {
        // Lists of plain numbers mean the same to everybody; what an asterisk means for the days is said apart.
        let list = |field: Field| field.values().map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let fields = [times.minute, times.hour, times.day, times.month, times.weekday];
        let pattern = fields.map(list).join(" ");
        let parser = CronParser::builder().seconds(Seconds::Disallowed).dom_and_dow(times.both_days()).build();
        let calendar = parser.parse(&pattern).map_err(|e| format!("{pattern}: {e}"))?;
        Ok(Self { calendar: comes(times).then_some(calendar), wildcard: times.wildcard() })
    }

    /// The first time after `after`, to the minute; `None` when there is none (30 February).
    pub fn next_after<Tz: TimeZone>(&self, after: &DateTime<Tz>) -> Option<DateTime<Tz>> {
        let zone = after.timezone();
        let offset = |at: &DateTime<Tz>| at.offset().fix();
        let plain = self.next_on_the_wall(after.naive_local()).and_then(|wall| zone.from_local_datetime(&wall).earliest());
        let before = after.clone() - FARTHEST_MOVE;
        if let Some(at) = plain.filter(|at| offset(at) == offset(after) && offset(&before) == offset(after)) {
            // No move of the clock in between.
            return Some(at);
        }
        let mut best: Option<DateTime<Tz>> = None;
        // A moved clock puts later wall times before earlier ones, by so much at most.
        let mut wall = after.naive_local() - FARTHEST_MOVE;
        let mut end = after.naive_local() + FARTHEST_MOVE;
        while let Some(next) = self.next_on_the_wall(wall) {
            if next > end {
                if best.is_some() {
                    break;
                }
                end = next + FARTHEST_MOVE;
            }
            for at in self.instants(&zone, next).into_iter().flatten().filter(|at| at > after) {
                if best.as_ref().is_none_or(|known| at < *known) {
                    best = Some(at);
                }
            }
            wall = next;
        }
        best
    }

    /// All times after `after` up to `until`, oldest first.
    pub fn between<Tz: TimeZone>(&self, after: &DateTime<Tz>, until: &DateTime<Tz>) -> Vec<DateTime<Tz>> {
        let next = |at: &DateTime<Tz>| self.next_after(at).filter(|next| next <= until);
        std::iter::successors(next(after), next).collect()
    }

    /// The last `count` times after `after` up to `until`, oldest first. In growing steps: a job of every minute has very many.
    pub fn newest_between<Tz: TimeZone>(&self, after: &DateTime<Tz>, until: &DateTime<Tz>, count: usize) -> Vec<DateTime<Tz>> {
        let mut found = Vec::new();
        for span in [Duration::hours(2), Duration::days(2), Duration::days(32), Duration::days(36_500)] {
            let begin = (until.clone() - span).max(after.clone());
            found = self.between(&begin, until);
            if found.len() >= count || begin == *after {
                break;
            }
        }
        found.split_off(found.len().saturating_sub(count))
    }

    /// The next match on a wall clock that is never moved.
    fn next_on_the_wall(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        self.calendar.as_ref()?.find_next_occurrence(&after.and_utc(), false).ok().map(|at: DateTime<Utc>| at.naive_utc())
    }

    /// When the wall clock of a zone shows this time, by cron's rule: a job with an asterisk for minute or hour runs whenever it does.
    /// Others run once: the first time, and when the clock jumped over it, right after that.
    fn instants<Tz: TimeZone>(&self, zone: &Tz, wall: NaiveDateTime) -> [Option<DateTime<Tz>>; 2] {
        match zone.from_local_datetime(&wall) {
            LocalResult::Single(at) => [Some(at), None],
            LocalResult::Ambiguous(first, second) => [Some(first), self.wildcard.then_some(second)],
            LocalResult::None if self.wildcard => [None, None],
            LocalResult::None => [after_the_gap(zone, wall), None],
        }
    }
}

/// Whether a job can come due after one minute and up to another. `false` is certain: a monitor asks for every job what it need not
/// read a calendar for. Where a clock is moved nearby, or the time is long, the answer is `true`.
pub fn can_come_due<Tz: TimeZone>(times: &Times, after: &DateTime<Tz>, until: &DateTime<Tz>) -> bool {
    let offset = |at: &DateTime<Tz>| at.offset().fix();
    let steady = offset(&(after.clone() - FARTHEST_MOVE)) == offset(after) && offset(after) == offset(until);
    if !steady || until.clone() - after.clone() > FARTHEST_MOVE {
        return true;
    }
    let minute = Duration::minutes(1);
    let next = |at: &NaiveDateTime| Some(*at + minute).filter(|next| *next <= until.naive_local());
    let first = after.naive_local().with_second(0).and_then(|at| next(&at));
    std::iter::successors(first, next).any(|wall| matches(times, &wall))
}

/// Whether the fields hold for a time of the wall clock.
fn matches(times: &Times, wall: &NaiveDateTime) -> bool {
    let (day, weekday) = (times.day.has(wall.day()), times.weekday.has(wall.weekday().num_days_from_sunday()));
    let days = if times.both_days() { day && weekday } else { day || weekday };
    times.minute.has(wall.minute()) && times.hour.has(wall.hour()) && times.month.has(wall.month()) && days
}

/// Whether a day like this ever comes: people write 30 February for never, and croner would look for it for thousands of years.
fn comes(times: &Times) -> bool {
    let longest = |month: u32| [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize - 1];
    !times.both_days() || (1..=12).any(|month| times.month.has(month) && (1..=longest(month)).any(|day| times.day.has(day)))
}

/// The first minute after the clock jumped over this time.
fn after_the_gap<Tz: TimeZone>(zone: &Tz, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
    let minute = wall.with_second(0)?;
    (1..=FARTHEST_MOVE.num_minutes()).find_map(|n| zone.from_local_datetime(&(minute + Duration::minutes(n))).earliest())
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
