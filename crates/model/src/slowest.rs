//! What an action can take at most: for the tests that drive an agent's own actions through the slowest world, in which everything takes as
//! long as it may. What is slow there is the agent's; the clock, the search and the table are the same.

use std::collections::BTreeMap;
use std::time::Duration;

use promotable::limits;

/// What a call of a cluster tool takes where they are slow and do not hang.
const TOOL: Duration = Duration::from_millis(500);

/// How many courses are followed further that differ from the usual one by more than one change.
const FOLLOWED: usize = 8;
/// How many that differ by one.
const FOLLOWED_FIRST: usize = 16;

/// At how many of an action's first and last effects something is changed: what lies between them is a loop.
const FIRST: usize = 80;
const LAST: usize = 8;

/// The time of an action on its way through the slowest world.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begun: Duration,
    /// Since the machine booted.
    pub now: Duration,
    /// When the time of the action is over.
    end: Duration,
    /// Whether the cluster's tools hang.
    tools_hang: bool,
}

impl Clock {
    /// The clock of an action with this timeout that has `waited` already.
    pub fn new(timeout: Duration, waited: Duration, tools_hang: bool) -> Self {
        let begun = Duration::from_secs(1000);
        Self { begun, now: begun + waited, end: begun + timeout - ocf::Deadline::margin(timeout), tools_hang }
    }

    /// What is left of the action.
    pub fn left(&self) -> Duration {
        self.end.saturating_sub(self.now)
    }

    /// How long the action took so far.
    pub fn took(&self) -> Duration {
        self.now - self.begun
    }

    /// Lets this time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets as much of a limit pass as a step may take; returns that.
    pub fn step(&mut self, limit: Duration) -> Duration {
        let step = limits::step(limit, self.left());
        self.pass(step);
        step
    }

    /// Lets the time of so many calls of cluster tools pass.
    pub fn calls(&mut self, number: u32) {
        for _ in 0..number {
            let longest = pacemaker::longest_call(self.left());
            self.pass(if self.tools_hang { longest } else { TOOL.min(longest) });
        }
    }
}

/// Which answers an action got otherwise than usual: by the number of the effect.
pub type Changes = BTreeMap<usize, usize>;

/// How an action went.
#[derive(Clone, Debug)]
pub struct Course {
    /// How long it took.
    pub took: Duration,
    /// Of each effect: how many answers there were, and which one it would have had without a change.
    pub answers: Vec<(usize, usize)>,
    /// What it did, so that a change that changes nothing is found.
    pub trace: u64,
}

/// The longest of the courses that an action can take with up to so many changes. All that differ by one are tried; of those that differ by
/// more the longest are followed further.
pub fn longest(most: usize, mut run: impl FnMut(&Changes) -> Course) -> (Duration, Changes) {
    let usual = run(&Changes::new());
    let mut longest = (usual.took, Changes::new());
    let mut open = vec![(Changes::new(), usual)];
    for level in 0..most {
        let mut next = Vec::new();
        for (changes, course) in open {
            let first = changes.keys().next_back().map_or(0, |last| last + 1);
            let number = course.answers.len();
            let worth = |at: &usize| *at < FIRST || *at + LAST >= number;
            for at in (first..number).filter(worth) {
                let (answers, usual) = course.answers[at];
                for answer in (0..answers).filter(|answer| *answer != usual) {
                    let mut more = changes.clone();
                    more.insert(at, answer);
                    let other = run(&more);
                    if other.trace != course.trace {
                        next.push((more, other));
                    }
                }
            }
        }
        next.sort_by_key(|(_, course)| std::cmp::Reverse(course.took));
        if let Some((changes, course)) = next.first().filter(|(_, course)| course.took > longest.0) {
            longest = (course.took, changes.clone());
        }
        let mut traces = std::collections::BTreeSet::new();
        next.retain(|(_, course)| traces.insert(course.trace));
        next.truncate(if level == 0 { FOLLOWED_FIRST } else { FOLLOWED });
        open = next;
    }
    longest
}

/// What was found out of all actions, for the page and against the timeouts.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<(&'static str, Duration, Duration, Duration)>,
    late: Vec<String>,
}

impl Table {
    /// Works out how long an action takes at most, with cluster tools that are slow and that hang, and, when it `waits` for the lock, with
    /// another action that has it for as long as it is waited for. Several of one name are one row. `longest` is told whether to search
    /// thoroughly: what is left after the lock is less, and each step takes a part of what is left.
    pub fn add(&mut self, name: &'static str, timeout: u32, waits: bool, longest: impl Fn(Clock, bool) -> Duration) {
        let timeout = Duration::from_secs(timeout.into());
        let margin = ocf::Deadline::margin(timeout);
        let lock = if waits { (timeout - margin) / 2 } else { Duration::ZERO };
        let [slow, hanging] = [false, true].map(|hang| longest(Clock::new(timeout, Duration::ZERO, hang), true));
        let locked = if waits { [false, true].map(|hang| longest(Clock::new(timeout, lock, hang), false)) } else { [slow, hanging] };
        let most = locked.into_iter().fold(slow.max(hanging), Duration::max);
        // A quarter of the margin is left to say why one failed.
        if most > timeout - margin / 4 {
            self.late.push(format!("{name}: {} of {} s", seconds(most), timeout.as_secs()));
        }
        match self.rows.iter_mut().find(|(row, ..)| *row == name) {
            Some((_, _, before, hung)) => (*before, *hung) = ((*before).max(slow), (*hung).max(hanging)),
            None => self.rows.push((name, timeout, slow, hanging)),
        }
    }

    /// Whether no action outlives its timeout, and the page says the same.
    ///
    /// # Errors
    /// Which does, or what the page should say.
    pub fn check(self, page: &str) -> Result<(), String> {
        if !self.late.is_empty() {
            return Err(self.late.join("\n"));
        }
        let head = ["action", "advertised timeout", "at most, cluster tools slow", "cluster tools hanging"].map(str::to_owned);
        let row = |(name, timeout, slow, hanging): (&str, Duration, Duration, Duration)| {
            [name.to_owned(), format!("{} s", timeout.as_secs()), seconds(slow), seconds(hanging)]
        };
        let table: Vec<_> = [head].into_iter().chain(self.rows.into_iter().map(row)).collect();
        check_documented(page, &table)
    }
}

/// Compares the table at the end of a page, under the heading "Time limits", with what a test of an agent has found; `UPDATE=1` writes it.
///
/// # Errors
/// What the page should say instead.
pub fn check_documented(page: &str, table: &[[String; 4]]) -> Result<(), String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{page}: {e}"))?;
    let mut lines: Vec<String> = table.iter().map(|cells| format!("| {} |\n", cells.join(" | "))).collect();
    lines.insert(1.min(lines.len()), "|---|---|---|---|\n".to_owned());
    let lines = lines.concat();
    if text.ends_with(&lines) && text.contains("\n## Time limits\n") {
        return Ok(());
    }
    let begin = text.rfind("\n| action | ").ok_or_else(|| format!("{page} has no table of its time limits"))?;
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&path, format!("{}\n{lines}", &text[..begin])).map_err(|e| format!("{page}: {e}"));
    }
    Err(format!(
        "the table at the end of {page} is not what the limits add up to: run this with UPDATE=1, and read the difference\n{lines}"
    ))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three questions: only who answers the first and the last otherwise waits for long.
    #[test]
    fn the_longest_course_is_found_though_half_of_it_is_worth_nothing() {
        let run = |changes: &Changes| {
            let changed = |at: usize| changes.contains_key(&at);
            let took = match (changed(0), changed(1), changed(2)) {
                (true, false, true) => 9,
                (false, true, false) => 3,
                _ => 1,
            };
            Course {
                took: Duration::from_secs(took),
                answers: vec![(2, 0); 3],
                trace: changes.keys().fold(1, |all, at| all << 2 | *at as u64),
            }
        };
        assert_eq!(longest(1, run).0, Duration::from_secs(3));
        let (took, changes) = longest(2, run);
        assert_eq!((took, changes.into_keys().collect::<Vec<_>>()), (Duration::from_secs(9), vec![0, 2]));
    }

    #[test]
    fn a_step_takes_half_of_what_is_left_at_most() {
        let mut clock = Clock::new(Duration::from_secs(20), Duration::from_secs(10), false);
        assert_eq!((clock.step(Duration::from_secs(1)), clock.took()), (Duration::from_secs(1), Duration::from_secs(11)));
        assert_eq!(clock.step(Duration::from_secs(60)), Duration::from_millis(3500));
        clock.calls(2);
        assert_eq!(clock.left(), Duration::from_millis(2500));
    }
}
