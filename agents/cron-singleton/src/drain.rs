//! The processes of a resource's jobs, and their end.
//!
//! A run's processes are those with its marker in their environment, and whatever descends from its wrapper: a job that goes into
//! the background stays below the wrapper, which adopts orphans, and a job whose wrapper was killed still has the marker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use process::Identity;

use crate::params::Drain;
use crate::wrapper::RUN;

/// How often it is looked whether the jobs have ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long a wrapper has to end after its job.
const TO_SAY: Duration = Duration::from_secs(1);
/// How long jobs that were told to end have, at least, before they are killed.
const TO_END: Duration = Duration::from_secs(5);

/// What is left of a resource's runs.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The jobs' processes.
    pub(crate) jobs: Vec<Identity>,
    /// The wrappers. They end when their jobs have, and say how in the history.
    pub(crate) wrappers: Vec<Identity>,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.wrappers.is_empty()
    }
}

/// The processes of all runs of a resource. `wrappers`: those that are registered.
pub(crate) fn processes(resource: &str, wrappers: &[Identity]) -> Left {
    let marker = format!("{RUN}={resource}:");
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut ours: BTreeSet<i32> = wrappers.iter().filter(|w| w.is_alive()).map(|w| w.pid).collect();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(marker.as_bytes())) {
            ours.insert(pid);
        }
    }
    let mut next: Vec<i32> = ours.iter().copied().collect();
    while let Some(pid) = next.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if ours.insert(*child) {
                next.push(*child);
            }
        }
    }
    let all = ours.into_iter().filter_map(Identity::of).filter(Identity::is_alive);
    let (wrappers, jobs) = all.partition(|process| wrappers.contains(process));
    Left { jobs, wrappers }
}

fn parent(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// What is to be done about jobs that run. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Wait,
    Term,
    Kill,
}

/// The step for a policy after so long. `patience`: the drain timeout; `limit`: what there is in all.
fn step(drain: Drain, passed: Duration, patience: Duration, limit: Duration) -> Step {
    let to_end = TO_END.min(limit / 4);
    // Killing needs a moment itself.
    let last = limit.saturating_sub(to_end / 2);
    match drain {
        Drain::Kill => Step::Kill,
        Drain::Term if passed >= patience.min(last) => Step::Kill,
        Drain::Term => Step::Term,
        Drain::Wait if passed >= (patience + to_end).min(last) => Step::Kill,
        Drain::Wait if passed >= patience.min(last.saturating_sub(to_end)) => Step::Term,
        Drain::Wait => Step::Wait,
    }
}

/// Waits for the jobs, tells them to end, kills them. `look` finds what is left; `say` is told of each step once. Returns what is left
/// after `limit`.
pub(crate) fn drain(drain: Drain, patience: Duration, limit: Duration, look: impl Fn() -> Left, say: impl Fn(&str, usize)) -> Left {
    let begin = Instant::now();
    let mut before = None;
    let mut alone_since = None;
    loop {
        let left = look();
        if left.is_empty() || begin.elapsed() >= limit {
            return left;
        }
        if left.jobs.is_empty() {
            if alone_since.get_or_insert_with(Instant::now).elapsed() > TO_SAY {
                left.wrappers.iter().for_each(Identity::kill);
            }
            std::thread::sleep(LOOK);
            continue;
        }
        let step = step(drain, begin.elapsed(), patience, limit);
        let first = before != Some(step);
        before = Some(step);
        match step {
            Step::Wait if first => say("waiting for", left.jobs.len()),
            Step::Term if first => {
                say("telling to end", left.jobs.len());
                left.jobs.iter().for_each(Identity::terminate);
            }
            Step::Kill => {
                if first {
                    say("killing", left.jobs.len());
                }
                // Again and again: what one of them started in between.
                left.jobs.iter().for_each(Identity::kill);
            }
            Step::Wait | Step::Term => {}
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn the_steps_of_a_drain() {
        for (drain, passed, patience, limit, expected) in [
            (Drain::Kill, 0, 60, 100, Step::Kill),
            (Drain::Term, 0, 60, 100, Step::Term),
            (Drain::Term, 60, 60, 100, Step::Kill),
            (Drain::Wait, 0, 60, 100, Step::Wait),
            (Drain::Wait, 60, 60, 100, Step::Term),
            (Drain::Wait, 65, 60, 100, Step::Kill),
            // The op timeout is shorter than the patience.
            (Drain::Wait, 10, 600, 20, Step::Wait),
            (Drain::Wait, 13, 600, 20, Step::Term),
            (Drain::Wait, 18, 600, 20, Step::Kill),
            (Drain::Term, 17, 600, 20, Step::Term),
            (Drain::Term, 18, 600, 20, Step::Kill),
        ] {
            assert_eq!(step(drain, S(passed), S(patience), S(limit)), expected, "{drain:?} {passed} {patience} {limit}");
        }
    }
}
