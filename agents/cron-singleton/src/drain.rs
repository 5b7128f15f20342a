//! The processes of a resource's jobs, and their end.
//!
//! A run's processes are whatever descends from its wrapper, which adopts orphans: what goes into the background stays below it. A job
//! whose wrapper was killed is found by the marker in its environment. Anybody can write that into an environment, so it counts for
//! processes of the jobs' users only: another user could have a stop kill, or wait for, what is none of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use process::{Identity, own};

use crate::params::Drain;
use crate::wrapper::RUN;

/// How often it is looked whether the jobs have ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long a wrapper has to end after its job.
const TO_SAY: Duration = Duration::from_secs(1);
/// A clock tick of /proc: 1/100 s on every architecture of Debian's.
const MS_PER_TICK: u64 = 10;
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

/// The processes of all runs of a resource. `wrappers`: those that are registered; `users`: whose jobs they may be.
pub(crate) fn processes(resource: &str, wrappers: &[Identity], users: &BTreeSet<u32>) -> Left {
    let marker = format!("{RUN}={resource}:");
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut ours: BTreeSet<i32> = wrappers.iter().filter(|w| w.is_alive()).map(|w| w.pid).collect();
    let entries = own::entries(Path::new("/proc"));
    for pid in entries.filter_map(|path| path.file_name()?.to_str()?.parse::<i32>().ok()) {
        let Some(status) = Status::of(pid) else { continue };
        children.entry(status.parent).or_default().push(pid);
        if users.contains(&status.user) && has_marker(pid, marker.as_bytes()) {
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

fn has_marker(pid: i32, marker: &[u8]) -> bool {
    let environment = own::read(format!("/proc/{pid}/environ").as_ref()).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(marker))
}

/// Whose a process is, and whose child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    parent: i32,
    /// The real user, who has started it. What a user starts of setuid programs is that user's, though it may do what root may; and to
    /// /proc a process that must not be dumped (gpg-agent) is root's, whoever has started it.
    pub(crate) user: u32,
}

impl Status {
    pub(crate) fn of(pid: i32) -> Option<Self> {
        // A name need not be UTF-8.
        let text = own::read(format!("/proc/{pid}/status").as_ref()).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next());
        Some(Self { parent: value("PPid:")?.parse().ok()?, user: value("Uid:")?.parse().ok()? })
    }
}

/// Whether a process was started just now: it cannot be one that was killed and hangs.
pub(crate) fn is_young(process: &Identity) -> bool {
    process::since_boot().saturating_sub(Duration::from_millis(process.start_ticks.saturating_mul(MS_PER_TICK))) < TO_SAY
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
    fn the_real_user_has_started_a_process() {
        let text = "Name:\tpasswd\nUmask:\t0022\nPid:\t12\nPPid:\t7\nTracerPid:\t0\nUid:\t1000\t0\t0\t0\nGid:\t1000\t0\t0\t0\n";
        assert_eq!(Status::parse(text), Some(Status { parent: 7, user: 1000 }));
        assert_eq!(Status::parse("Name:\tx\n"), None);
        let me = Status::of(std::process::id() as i32).unwrap();
        assert_eq!(me.user, nix::unistd::getuid().as_raw());
    }

    /// So that an operator is told whether it hangs or is started anew.
    #[test]
    fn what_was_started_just_now_cannot_hang() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let young = Identity::of(child.id() as i32).unwrap();
        assert!(is_young(&young));
        let before = Identity { start_ticks: young.start_ticks.saturating_sub(200), ..young };
        assert!(!is_young(&before));
        child.kill().unwrap();
        child.wait().unwrap();
    }

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
