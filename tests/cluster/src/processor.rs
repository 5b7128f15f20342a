//! The processor time of the agents of all nodes.
//!
//! Pacemaker's executor starts each action of an agent and waits for it, so the kernel adds the time of the action, and of all that the action
//! waited for, to what the executor's children have used. A database is waited for by nobody and so is not in it; nor are the watchers, which
//! are added by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lab::{Error, Lab, Result, host};

/// How often it is looked at: as often as the kernel tells something new.
const LOOKS: Duration = Duration::from_millis(10);
const EXECUTOR: &str = "pacemaker-execd";
const WATCHER: &str = "systole-watch";

/// Looks until it is told to end.
#[derive(Debug)]
pub struct Sampler {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(u64, u64)>>,
    watchers: BTreeMap<i32, u64>,
}

impl Sampler {
    /// Begins.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let executors: Vec<i32> = lab.live_nodes().iter().flat_map(|node| node.pids(EXECUTOR)).collect();
        let end = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while !told.load(Ordering::Relaxed) {
                samples.push((host::monotonic_us(), executors.iter().filter_map(|pid| of_children(*pid)).sum()));
                std::thread::sleep(LOOKS);
            }
            samples
        });
        Self { end, thread, watchers: watchers(lab) }
    }

    /// Milliseconds from the beginning until this moment of the lab's clock.
    ///
    /// # Errors
    /// When the thread that looks has failed.
    pub fn until(self, lab: &Lab, moment_us: u64) -> Result<f64> {
        let watched: u64 =
            watchers(lab).into_iter().map(|(pid, used)| used.saturating_sub(self.watchers.get(&pid).copied().unwrap_or_default())).sum();
        self.end.store(true, Ordering::Relaxed);
        let samples = self.thread.join().map_err(|_| Error::Refused("the thread that looks at processor time panicked".to_owned()))?;
        let first = samples.first().map(|(_, ticks)| *ticks).unwrap_or_default();
        let last = samples.iter().find(|(at, _)| *at >= moment_us).or(samples.last()).map(|(_, ticks)| *ticks).unwrap_or_default();
        Ok(last.saturating_sub(first) as f64 * 1000.0 / ticks_per_second() + watched as f64 / 1e6)
    }
}

/// Of each watcher what it has used, nanoseconds.
fn watchers(lab: &Lab) -> BTreeMap<i32, u64> {
    let pids = lab.live_nodes().into_iter().flat_map(|node| node.pids(WATCHER));
    pids.filter_map(|pid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
        Some((pid, text.split(' ').next()?.parse().ok()?))
    })
    .collect()
}

/// What the children of a process used that it has waited for, in ticks.
fn of_children(pid: i32) -> Option<u64> {
    children_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn children_in(stat: &str) -> Option<u64> {
    // Behind the name, which may hold anything, cutime and cstime are the 14th and the 15th.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(13);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn ticks_per_second() -> f64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().map_or(100.0, |ticks| ticks as f64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children_stands_behind_a_name_that_may_hold_anything() {
        let stat = "4242 (a) b (c)) S 1 4242 4242 0 -1 4194560 1500 90000 0 3 7 11 123 45 20 0 1 0 900 8 9 18446744073709551615";
        assert_eq!(children_in(stat), Some(123 + 45));
        assert_eq!(children_in("4242 (sh) S 1 2"), None);
    }

    #[test]
    fn the_time_of_a_child_counts_when_it_was_waited_for() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = of_children(own).unwrap();
        let script = "n=0; while [ $n -lt 300000 ]; do n=$((n+1)); done";
        assert!(std::process::Command::new("sh").args(["-c", script]).status().unwrap().success());
        assert!(of_children(own).unwrap() > before);
    }
}
