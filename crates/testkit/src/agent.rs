//! An agent run as Pacemaker runs it: its action as the argument, everything else in the environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::lists::{Lists, Spelling};

/// How often a monitor recurs, in milliseconds.
const INTERVAL: &str = "OCF_RESKEY_CRM_meta_interval";

/// What an action answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The action.
    pub action: String,
    /// Its exit status; the negative number of the signal that ended it.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it printed to stderr.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
    /// How long it would have taken on a machine at rest, in steps of a quarter of a second: what a bound is held against. See the
    /// crate `pace`.
    pub counted: Duration,
}

impl Answer {
    /// What Pacemaker would show: the last line with the prefix.
    pub fn exit_reason(&self) -> Option<&str> {
        self.stderr.lines().rev().find_map(|line| line.strip_prefix("ocf-exit-reason:"))
    }

    /// The reason, which must be there.
    ///
    /// # Panics
    /// When there is none.
    pub fn reason(&self) -> &str {
        self.exit_reason().unwrap_or_else(|| panic!("{} exited {} without a reason:\n{}", self.action, self.status, self.stderr))
    }

    /// Fails unless the action ended with one of these.
    ///
    /// # Panics
    /// With what the agent said.
    #[track_caller]
    pub fn expect(&self, statuses: &[i32]) -> &Self {
        let as_expected = statuses.contains(&self.status);
        // An agent gives up in real time.
        crate::wait::note(!as_expected);
        assert!(
            as_expected,
            "{} exited {} after {} ms, expected {statuses:?}; it said:\n{}",
            self.action,
            self.status,
            self.elapsed.as_millis(),
            self.stderr
        );
        self
    }

    /// Fails unless the action succeeded.
    ///
    /// # Panics
    /// With what the agent said.
    #[track_caller]
    pub fn ok(&self) -> &Self {
        self.expect(&[0])
    }

    /// Fails unless the action failed with this status, and for a reason that holds all these words.
    ///
    /// # Panics
    /// With what the agent said.
    #[track_caller]
    pub fn refused(&self, status: i32, words: &[&str]) -> &Self {
        self.expect(&[status]);
        let reason = self.reason();
        for word in words {
            assert!(reason.contains(word), "{} refused without {word:?} in its reason: {reason}", self.action);
        }
        self
    }
}

/// An action that runs.
#[derive(Debug)]
pub struct Running {
    action: String,
    child: Child,
    begin: Instant,
    pace: pace::Limit,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid is an i32")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn answer(self) -> Answer {
        let output = self.child.wait_with_output().expect("the agent was started");
        Answer {
            action: self.action,
            status: output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            elapsed: self.begin.elapsed(),
            counted: self.pace.elapsed().min(self.begin.elapsed()),
        }
    }

    /// Kills the agent as Pacemaker does at the end of an operation's time, and waits for its end.
    pub fn kill(mut self) -> Answer {
        let _ = self.child.kill();
        self.answer()
    }
}

/// The environment of an agent. Nothing of the test's own environment reaches it, but where it counts what of it was run, if it was compiled
/// to do so (`make coverage`).
#[derive(Clone, Debug)]
pub struct Agent {
    path: PathBuf,
    resource: String,
    variables: BTreeMap<OsString, OsString>,
}

impl Agent {
    /// The agent at `path` for a resource, with what Pacemaker always sets.
    pub fn new(path: impl AsRef<Path>, resource: &str) -> Self {
        let path = path.as_ref();
        let agent = Self { path: path.to_owned(), resource: resource.to_owned(), variables: BTreeMap::new() };
        let kind = path.file_name().unwrap_or_default();
        agent
            .variable("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .variable("OCF_ROOT", "/usr/lib/ocf")
            .variable("OCF_RESOURCE_INSTANCE", resource)
            .variable("OCF_RESOURCE_PROVIDER", "systole")
            .variable("OCF_RESOURCE_TYPE", kind)
            .variable("OCF_RA_VERSION_MAJOR", "1")
            .variable("OCF_RA_VERSION_MINOR", "1")
            .timeout(Duration::from_secs(20))
    }

    /// The agent with an empty environment, as `meta-data` may be called.
    pub fn bare(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), resource: String::new(), variables: BTreeMap::new() }
    }

    /// The same call of another build of the agent.
    pub fn at(self, path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), ..self }
    }

    /// Sets a variable.
    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Takes a variable away.
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(OsStr::new(name));
        self
    }

    /// Sets a parameter.
    pub fn parameter(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variable(format!("OCF_RESKEY_{name}"), value)
    }

    /// Sets a meta attribute.
    pub fn meta(self, name: &str, value: &str) -> Self {
        self.variable(format!("OCF_RESKEY_CRM_meta_{name}"), value)
    }

    /// Sets the operation's timeout.
    pub fn timeout(self, limit: Duration) -> Self {
        self.meta("timeout", &limit.as_millis().to_string())
    }

    /// Makes a monitor a probe.
    pub fn probing(self) -> Self {
        self.meta("interval", "0")
    }

    /// Adds the lists of a clone's transition.
    pub fn lists(self, lists: &Lists, spelling: Spelling) -> Self {
        let resource = self.resource.clone();
        lists.variables(&resource, spelling).into_iter().fold(self, |agent, (name, value)| agent.meta(&format!("notify_{name}"), &value))
    }

    /// Makes it a notification.
    pub fn notifying(self, phase: &str, operation: &str, lists: &Lists, spelling: Spelling) -> Self {
        self.meta("notify_type", phase).meta("notify_operation", operation).lists(lists, spelling)
    }

    /// The command that runs an action.
    pub fn command(&self, action: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        let counted = std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file));
        command.args(action).env_clear().envs(&self.variables).envs(counted).current_dir("/");
        // As Pacemaker has it: only a monitor recurs.
        if self.variables.contains_key(OsStr::new(INTERVAL)) && action.first() != Some(&"monitor") {
            command.env(INTERVAL, "0");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs an action under strace, which kills it as it enters the `n`-th of these system calls (a set as strace has it, `n` from 1).
    /// Returns whether it came that far; otherwise it has ended by itself.
    ///
    /// # Panics
    /// When there is no strace, or the action ended badly by itself.
    pub fn killed_at(&self, action: &str, calls: &str, n: u32) -> bool {
        let inner = self.command(&[action]);
        let mut command = Command::new("strace");
        command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:signal=SIGKILL:when={n}")]);
        command.arg(inner.get_program()).args(inner.get_args()).env_clear().current_dir("/").stdin(Stdio::null());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.output().expect("strace is there");
        if output.status.signal() == Some(9) {
            return true;
        }
        assert!(output.status.success(), "{action} under strace: {output:?}");
        false
    }

    /// Starts an action.
    ///
    /// # Panics
    /// When there is no agent.
    pub fn spawn(&self, action: &str) -> Running {
        let (begin, pace) = (Instant::now(), pace::Limit::of(Duration::MAX));
        let child = self.command(&[action]).spawn().unwrap_or_else(|e| panic!("{}: {e}", self.path.display()));
        Running { action: action.to_owned(), child, begin, pace }
    }

    /// Runs an action.
    pub fn run(&self, action: &str) -> Answer {
        self.spawn(action).answer()
    }
}

/// How long an action took, from its start to its end.
#[derive(Debug)]
pub struct Costs(Vec<Duration>);

impl std::fmt::Display for Costs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |part: f64| self.0[(self.0.len() as f64 * part) as usize].as_secs_f64() * 1000.0;
        write!(f, "p10 {:.2} ms, p25 {:.2} ms, p50 {:.2} ms, p90 {:.2} ms", at(0.1), at(0.25), at(0.5), at(0.9))
    }
}

/// Runs an action of each of these so many times, one after the other and by turns, so that all have the same machine.
///
/// # Panics
/// When an action fails.
pub fn by_turns(agents: &[Agent], action: &str, times: usize) -> Vec<Costs> {
    let mut took: Vec<Vec<Duration>> = vec![Vec::new(); agents.len()];
    for _ in 0..times {
        for (agent, took) in agents.iter().zip(&mut took) {
            let answer = agent.run(action);
            answer.expect(&[0, 8]);
            took.push(answer.elapsed);
        }
    }
    took.into_iter()
        .map(|mut took| {
            took.sort();
            Costs(took)
        })
        .collect()
}

/// The same command in a mount namespace of its own, after these lines of a shell.
pub fn after(script: &str, command: &Command) -> Command {
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "sh", "-ec", &format!("{script}\nexec \"$@\""), "sh"]).arg(command.get_program()).args(command.get_args());
    inside.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir("/");
    inside
}

/// Lines for [`after`]: a user database that does not answer for users whom the files do not know.
pub const NO_USER_DATABASE: &str = "echo 'passwd: files hesiod' > /run/nsswitch.conf; mount --bind /run/nsswitch.conf /etc/nsswitch.conf";
