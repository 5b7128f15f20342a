//! Which process, and is it still that one: pid and start time, and signals through a pidfd.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// What the kernel says a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Alive.
    Alive,
    /// Alive, and stopped by a signal or a debugger: it cannot answer.
    Frozen,
    /// Not there (or a zombie, which is as dead).
    Gone,
}

/// A process: its number and when it started, in clock ticks since boot. The pair is unique until the next boot;
/// the boot's id makes a record from before it recognisable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process number.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat.
    pub start_ticks: u64,
    /// /proc/sys/kernel/random/boot_id
    pub boot: String,
}

impl Identity {
    /// The process that has this number now, `None` when none has.
    pub fn of(pid: i32) -> Option<Self> {
        let (_, start_ticks) = stat(pid)?;
        Some(Self { pid, start_ticks, boot: boot_id() })
    }

    /// What it does now. Another process under the same number counts as gone.
    pub fn state(&self) -> State {
        match stat(self.pid) {
            Some((letter, start)) if start == self.start_ticks && self.boot == boot_id() => match letter {
                'Z' | 'X' | 'x' => State::Gone,
                'T' | 't' => State::Frozen,
                _ => State::Alive,
            },
            _ => State::Gone,
        }
    }

    /// Whether it is there, frozen or not.
    pub fn is_alive(&self) -> bool {
        self.state() != State::Gone
    }

    /// Processor time that it has used, user and system, in clock ticks; `None` when it is gone.
    pub fn cpu_ticks(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    }

    /// Asks it to end. Nothing happens when it is gone.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it. Nothing happens when it is gone.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Waits until it is gone, at most for `limit`. Returns whether it is.
    pub fn wait_gone(&self, limit: Duration) -> bool {
        let Some(fd) = self.pidfd() else { return true };
        let limit = rustix::time::Timespec::try_from(limit).ok();
        loop {
            match poll(&mut [PollFd::new(&fd.as_fd(), PollFlags::IN)], limit.as_ref()) {
                Ok(0) => return false,
                Ok(_) => return true,
                // A signal handler ran; nothing of ours installs one, so ask again.
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return !self.is_alive(),
            }
        }
    }

    /// Waits until it is gone, however long that takes.
    pub fn wait_gone_forever(&self) {
        while !self.wait_gone(Duration::from_secs(86_400)) {}
    }

    fn signal(&self, signal: Signal) {
        if let Some(fd) = self.pidfd() {
            // ESRCH: it went in between, which is what was wanted.
            let _ = pidfd_send_signal(&fd, signal);
        }
    }

    /// A descriptor of exactly this process. The start time is compared *after* opening: what the descriptor holds
    /// cannot be reused any more.
    fn pidfd(&self) -> Option<OwnedFd> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        self.is_alive().then_some(fd)
    }
}

/// State letter and start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command name stands in parentheses and may hold anything, parentheses too: the fields begin after the last.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let fields = text.get(text.rfind(')')? + 1..)?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|s| s.trim().to_owned()).unwrap_or_default()
}

/// The time since boot, suspended time included: what ages of records are measured with. The wall clock can step.
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_time_is_not_it() {
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert_eq!(me.state(), State::Alive);
        let other = Identity { start_ticks: me.start_ticks + 1, ..me.clone() };
        assert_eq!(other.state(), State::Gone);
        let before_reboot = Identity { boot: "another".into(), ..me };
        assert_eq!(before_reboot.state(), State::Gone);
    }

    #[test]
    fn a_foreign_process_is_never_signalled() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let mut identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        identity.start_ticks -= 1;
        identity.kill();
        assert!(child.try_wait().unwrap().is_none());
        identity.start_ticks += 1;
        identity.kill();
        assert!(identity.wait_gone(Duration::from_secs(5)));
        let _ = child.wait();
    }

    #[test]
    fn a_frozen_process_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        identity.signal(Signal::STOP);
        while identity.state() == State::Alive {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(identity.state(), State::Frozen);
        identity.kill();
        let _ = child.wait();
        assert_eq!(identity.state(), State::Gone);
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_fields() {
        let text = "12 (a) R 1 (b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1";
        assert_eq!(parse_stat(text), Some(('S', 777)));
        assert_eq!(parse_stat("12 (a"), None);
    }
}
