//! What /proc says about processes.

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;

/// A process, as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// The number of its parent.
    pub parent: i32,
    /// The name of its program, at most 15 characters.
    pub name: String,
    /// Its arguments, separated by blanks.
    pub arguments: String,
    /// Its environment, variables separated by blanks; empty when it is not ours to see.
    pub environment: String,
    /// Its working directory.
    pub directory: PathBuf,
    /// Its state, such as `S` or `T`.
    pub state: char,
}

impl Process {
    /// The process with this number; `None` when it is gone, or dead and not yet collected.
    pub fn of(pid: i32) -> Option<Self> {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let words = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', " ");
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
        let state = fields.next()?.chars().next().filter(|s| *s != 'Z' && *s != 'X')?;
        Some(Self {
            pid,
            parent: fields.next()?.parse().ok()?,
            name: words(read("comm")).trim().to_owned(),
            arguments: words(read("cmdline")),
            environment: words(read("environ")),
            directory: std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default(),
            state,
        })
    }

    /// All processes.
    pub fn all() -> Vec<Self> {
        let entries = std::fs::read_dir("/proc").expect("/proc is there");
        entries.flatten().filter_map(|e| Self::of(e.file_name().to_str()?.parse().ok()?)).collect()
    }

    /// A line of its /proc/PID/status, such as `Uid` or `CapEff`, without the name; empty when it is gone.
    pub fn status(&self, name: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// A limit of its own, soft and hard, from /proc/PID/limits.
    pub fn limit(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/limits", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().take(2).map(str::to_owned).collect()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid), signal);
    }

    /// Stops it (SIGSTOP), and returns when it has stopped: the kernel stops one thread after the other, which takes a tenth of a
    /// second on a busy machine, and a server goes on to answer meanwhile.
    ///
    /// # Panics
    /// When it does not stop.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let stopped = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'));
        eventually("every thread has stopped", || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).expect("the process is there");
            threads.flatten().all(|thread| std::fs::read_to_string(thread.path().join("stat")).is_ok_and(stopped))
        });
    }

    /// Whether it is still there.
    pub fn is_there(&self) -> bool {
        Self::of(self.pid).is_some()
    }
}

/// Sends a signal to a process by its number.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}
