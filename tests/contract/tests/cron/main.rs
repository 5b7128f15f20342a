//! The contract of `ocf:systole:cron-singleton`: the agent as Pacemaker runs it, the wrapper as cron runs it, and cron itself.
//!
//! These tests make users, write to /etc/cron.d and run a cron, so they run in a sandbox only; `make contract-cron`. One after the
//! other: there is one cron.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this is tests")]

mod actions;
mod catch_up;
mod command;
mod host;
mod jobs;
mod tester;
mod timers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Agent, Process, eventually, require};

/// The agent.
const AGENT: &str = "/usr/lib/ocf/resource.d/systole/cron-singleton";
/// The wrapper.
const WRAPPER: &str = "/usr/libexec/systole/cron-run";
/// Whose jobs these are.
const USER: &str = "wpsite";

/// A resource with its own name, source and user.
struct Site {
    name: String,
    source: PathBuf,
}

impl Site {
    /// A resource whose crontab is `jobs`; `{}` stands for a directory that the user may write to.
    fn with(name: &str, jobs: &str) -> Self {
        require();
        // One after the other: two useradd at once make two users of one name.
        let prepare = format!("id {USER} >/dev/null 2>&1 || useradd --create-home {USER}; pgrep -x cron >/dev/null || cron");
        run("flock", &["-o", "/run/contract.lock", "sh", "-c", &prepare]);
        eventually("cron runs", || Path::new("/run/crond.pid").exists());
        let directory = PathBuf::from("/tmp/contract").join(name);
        for old in [directory.clone(), PathBuf::from("/var/lib/systole/cron").join(name)] {
            let _ = fs::remove_dir_all(old);
        }
        fs::create_dir_all(&directory).unwrap();
        run("chmod", &["1777", &directory.display().to_string()]);
        let site = Self { name: name.to_owned(), source: directory.join("site.cron") };
        site.write(jobs);
        site
    }

    fn directory(&self) -> &Path {
        self.source.parent().unwrap()
    }

    fn write(&self, jobs: &str) {
        fs::write(&self.source, jobs.replace("{}", &self.directory().display().to_string())).unwrap();
    }

    fn agent(&self) -> Agent {
        Agent::new(AGENT, &self.name).parameter("source", &self.source).meta("on_node", "a").meta("interval", "20000")
    }

    /// Where mode=file puts the jobs.
    fn installed(&self) -> PathBuf {
        PathBuf::from("/etc/cron.d").join(format!("systole-{}", self.name))
    }

    /// What cron would start for the job with this name.
    fn job(&self, job: &str, command: &str) -> Command {
        let mut wrapper = Command::new("setpriv");
        wrapper
            .args(["--reuid", USER, "--regid", USER, "--init-groups", WRAPPER, "-c"])
            .arg(command.replace("{}", &self.directory().display().to_string()))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("SYSTOLE_CRON", &self.name)
            .env("SYSTOLE_JOB", job);
        wrapper
    }

    /// Lines of the user's history.
    fn history(&self) -> Vec<String> {
        fs::read_to_string(format!("{}/history.jsonl", user_directory("/var/lib/systole/cron", &self.name)))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Where the runs stand that are made up for.
    fn due_file(&self) -> PathBuf {
        PathBuf::from("/etc/cron.d").join(format!("systole-due-{}", self.name))
    }

    /// How far the runs are settled, as this node remembers it: reign, node, minute, state, pending runs.
    fn mark(&self) -> Vec<String> {
        let text = fs::read_to_string(self.mark_file()).unwrap_or_default();
        text.split(';').map(str::to_owned).collect()
    }

    fn mark_file(&self) -> PathBuf {
        PathBuf::from("/var/lib/systole/cron").join(&self.name).join("mark")
    }

    /// What another node left behind.
    fn set_mark(&self, text: &str) {
        fs::create_dir_all(self.mark_file().parent().unwrap()).unwrap();
        fs::write(self.mark_file(), text).unwrap();
    }

    /// What the agent said of runs that did not begin.
    fn missed(&self) -> String {
        fs::read_to_string(self.mark_file().with_file_name("history.jsonl")).unwrap_or_default()
    }

    /// Another run of the job may begin in the same minute: the tests have no time for the next one.
    fn forget_claims(&self, job: &str) {
        let _ = fs::remove_file(format!("{}/{job}.claims", user_directory("/run/systole-cron", &self.name)));
    }

    /// The name that the first job has been given.
    fn first_job(&self) -> String {
        let installed = fs::read_to_string(self.installed()).unwrap();
        installed.lines().find_map(|line| line.strip_prefix("SYSTOLE_JOB=")).unwrap().to_owned()
    }

    fn has(&self, file: &str) -> bool {
        self.directory().join(file).exists()
    }
}

/// The directory of the jobs' user.
fn user_directory(root: &str, resource: &str) -> String {
    let uid = String::from_utf8(Command::new("id").args(["-u", USER]).output().unwrap().stdout).unwrap();
    format!("{root}/{resource}/{}", uid.trim())
}

/// Minutes since 1970.
fn minute() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs() / 60).unwrap()
}

/// The time fields of a job that was due so many minutes ago, and is due then every day.
fn ago(minutes: i64) -> String {
    let output = Command::new("date").args(["-d", &format!("@{}", (minute() - minutes) * 60), "+%-M %-H * * *"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Processes with this text in their command line.
fn running(text: &str) -> Vec<Process> {
    Process::all().into_iter().filter(|p| p.arguments.contains(text)).collect()
}

/// Processes with this text in their command line that a wrapper has started: the wrappers have it, too.
fn started(text: &str) -> Vec<Process> {
    running(text).into_iter().filter(|p| !["cron-run", "setpriv"].contains(&p.name.as_str())).collect()
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
