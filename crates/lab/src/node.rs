//! One node seen from outside: running commands in it, its power, its processes.
//! Owns no state: the power record is the supervisor's, so a `Node` is never out of date.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::{Context, Error, Result};
use crate::host::{self, Output};
use crate::power::{self, Op, Request};
use crate::state::LabPaths;
use crate::{cgroup, disk};

/// A node of a lab.
#[derive(Debug, Clone)]
pub struct Node {
    /// `lxcN`; also its host name and its name in the cluster.
    pub name: String,
    /// N.
    pub number: u8,
    pub(crate) paths: LabPaths,
}

impl Node {
    /// Its own address in the private network.
    #[must_use]
    pub fn address(&self) -> String {
        crate::network::node_address(self.number)
    }

    /// Its PID 1 as the host sees it, or that it has no power.
    pub fn leader(&self) -> Result<i32> {
        self.leader_if_on()?.ok_or_else(|| Error::Refused(format!("{0} has no power; give it with: systole-lab power-on {0}", self.name)))
    }

    fn leader_if_on(&self) -> Result<Option<i32>> {
        let nodes = self.paths.power()?;
        Ok(nodes.into_iter().find(|n| n.name == self.name).and_then(|n| n.leader))
    }

    /// Whether it has power.
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(self.leader_if_on(), Ok(Some(leader)) if Path::new(&format!("/proc/{leader}")).exists())
    }

    /// A command that will run in the node: all its namespaces, a clean environment, the usual PATH.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Result<Command> {
        let leader = self.leader()?;
        let mut command = Command::new("sh");
        // In the node's cgroup like everything else of it: a power cut ends it, a freeze holds it.
        command.args(["-c", "for f in $1; do echo $$ > \"$f\"; done; shift; exec \"$@\"", "sh"]);
        let procs = cgroup::make(&self.paths.cgroup().join(&self.name).join("exec"))?;
        command.arg(procs.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" "));
        command.args(["nsenter", "-t", &leader.to_string(), "-a", "--", "/usr/bin/env", "-i"]);
        command.args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"]);
        command.args(words);
        Ok(command)
    }

    /// Runs a command in the node to its end; the exit code is the caller's to judge.
    pub fn exec<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Result<Output> {
        host::output(&mut self.command(words)?)
    }

    /// Runs a shell line in the node and insists on exit code 0.
    pub fn sh(&self, line: &str) -> Result<Output> {
        let done = self.exec(&["/bin/sh", "-c", line])?;
        host::insist(format!("{}: {line}", self.name), done)
    }

    /// Writes a file in the node (mode 0644, or what it had).
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        use std::io::Write as _;
        let mut command = self.command(&["/bin/sh", "-c", "cat > \"$1\"", "sh", path])?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context(|| format!("write {path} in {}", self.name))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes()).context(|| format!("write {path} in {}", self.name))?;
        }
        let done = child.wait_with_output().context(|| format!("write {path} in {}", self.name))?;
        let done = Output {
            code: host::exit_code(done.status),
            stdout: String::new(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        };
        host::insist(format!("write {path} in {}", self.name), done).map(drop)
    }

    /// Copies a file of this machine into the node.
    pub fn copy(&self, file: &Path, path: &str) -> Result<()> {
        let source = std::fs::File::open(file).context(|| format!("open {}", file.display()))?;
        let mut command = self.command(&["/bin/sh", "-c", "cat > \"$1\"", "sh", path])?;
        let done = command.stdin(source).output().context(|| format!("copy {} to {path} in {}", file.display(), self.name))?;
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        let done = Output { code: host::exit_code(done.status), stdout: String::new(), stderr };
        host::insist(format!("copy {} to {path} in {}", file.display(), self.name), done).map(drop)
    }

    fn switch(&self, op: Op) -> Result<()> {
        let request = Request { op, node: Some(self.name.clone()), by: "lab".to_owned() };
        power::ask(&self.paths.control_socket(), &request).map(drop)
    }

    /// Cuts its power; returns when all its processes are dead. It stays off until `power_on`: fencing finds it off and
    /// does not boot it. Its disk stays. What was not synced on its volumes is lost; of the rest of its disk, which is in this machine's page
    /// cache, nothing is.
    pub fn power_off(&self) -> Result<()> {
        self.switch(Op::PowerOff)
    }

    /// Gives it power; returns when its init runs. Corosync and Pacemaker follow by themselves.
    pub fn power_on(&self) -> Result<()> {
        self.switch(Op::PowerOn)
    }

    /// Waits until its boot has set up the network and its init takes orders.
    pub fn wait_booted(&self, limit: Duration) -> Result<()> {
        host::poll(&format!("boot of {}", self.name), limit, Duration::from_millis(20), || {
            let leader = match self.leader() {
                Ok(leader) => leader,
                // It had power when this was called: its init has ended.
                Err(error) => return Ok(Err(error)),
            };
            let root = format!("/proc/{leader}/root");
            for file in [disk::BOOTED, "run/systemd/private", "run/dbus/system_bus_socket"] {
                if !Path::new(&root).join(file).exists() {
                    return Err(format!("no /{file} yet"));
                }
            }
            Ok(Ok(()))
        })?
    }

    /// Host-side ids of the node's processes whose name (or whole command line when the pattern has a slash or a
    /// blank) is `pattern`.
    pub fn pids(&self, pattern: &str) -> Vec<i32> {
        let by_line = pattern.contains(['/', ' ']);
        let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        // Not nspawn and nsenter, whose command lines name what runs in the node.
        let inside = self.leader().ok().and_then(namespace);
        cgroup::processes(&self.paths.cgroup().join(&self.name))
            .into_iter()
            .filter(|pid| inside.is_some() && namespace(*pid) == inside)
            .filter(|pid| {
                let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                if by_line {
                    let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
                    return line.contains(pattern);
                }
                // The kernel keeps 15 characters of a name; the first word of the command line has all of it.
                let words = read("cmdline");
                let first = words.split(|b| *b == 0).next().unwrap_or_default();
                let first = String::from_utf8_lossy(first).into_owned();
                let program = first.rsplit('/').next().unwrap_or_default();
                let comm = String::from_utf8_lossy(&read("comm")).trim().to_owned();
                comm == pattern || program == pattern || program.split(' ').next() == Some(pattern)
            })
            .collect()
    }

    /// Sends a signal to every process of that name; returns how many there were, and refuses when there was none.
    pub fn kill(&self, pattern: &str, signal: Signal) -> Result<usize> {
        let pids = self.pids(pattern);
        if pids.is_empty() {
            return Err(Error::Refused(format!("{} runs no process named {pattern}", self.name)));
        }
        // The pattern may be a piece of a command line, which tells a reader nothing.
        let name = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned());
        let program = pids.iter().find_map(name).unwrap_or_else(|| pattern.to_owned());
        self.paths.record_event("lab", &format!("{signal} to {program} on {}", self.name))?;
        for pid in &pids {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), signal);
        }
        Ok(pids.len())
    }

    /// Stops processes of that name (SIGSTOP).
    pub fn freeze(&self, pattern: &str) -> Result<usize> {
        self.kill(pattern, Signal::SIGSTOP)
    }

    /// Continues processes of that name (SIGCONT).
    pub fn thaw(&self, pattern: &str) -> Result<usize> {
        self.kill(pattern, Signal::SIGCONT)
    }

    /// Gives the processes of that name no more memory: the kernel kills one that asks for any. Refused where this machine's kernel has no
    /// hierarchy of its own for memory: there it is systemd's.
    pub fn exhaust_memory(&self, pattern: &str) -> Result<()> {
        let pids = self.pids(pattern);
        if pids.is_empty() {
            return Err(Error::Refused(format!("{} runs no process named {pattern}", self.name)));
        }
        self.paths.record_event("lab", &format!("no more memory for {pattern} on {}", self.name))?;
        cgroup::exhaust_memory(&self.paths.cgroup().join(&self.name), &pids)
    }

    /// Fills the file system at `path` to the last block, or frees it again. Only on a volume of its own (`--volume`):
    /// anything else is the host's disk.
    pub fn fill_disk(&self, path: &str, full: bool) -> Result<()> {
        let filler = format!("{path}/.systole-lab-filler");
        if !full {
            self.paths.record_event("lab", &format!("disk {path} of {} has room again", self.name))?;
            return self.sh(&format!("rm -f '{filler}'")).map(drop);
        }
        if !self.exec(&["mountpoint", "-q", path])?.success() {
            return Err(Error::Refused(format!(
                "{path} of {} is no volume, filling it would fill this machine's disk; start the lab with --volume {path}:64",
                self.name
            )));
        }
        // Large writes leave the last blocks; what the file system had promised comes free when it is written.
        let rest = format!("dd if=/dev/zero of='{filler}' bs=512 oflag=append conv=notrunc 2>/dev/null; sync -f '{filler}'");
        self.sh(&format!("cat /dev/zero > '{filler}' 2>/dev/null; {rest}; {rest}; {rest}"))?;
        self.paths.record_event("lab", &format!("disk {path} of {} is full", self.name))
    }

    /// Freezes or thaws the whole node, as a hypervisor that pauses a guest.
    pub fn freeze_all(&self, frozen: bool) -> Result<()> {
        self.leader()?;
        let text = if frozen { "freeze all of" } else { "thaw all of" };
        self.paths.record_event("lab", &format!("{text} {}", self.name))?;
        if cgroup::freeze(&self.paths.cgroup().join(&self.name), frozen) {
            return Ok(());
        }
        Err(Error::Refused("this machine has no cgroup v2 freezer; freeze single processes instead".to_owned()))
    }
}
