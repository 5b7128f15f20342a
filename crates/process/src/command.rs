//! Commands with a deadline. What they print is kept, both streams, and reported when they fail.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A command that ended by itself.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout; not UTF-8 is replaced.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// A command that did not.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("{program} could not be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It was killed at the deadline.
    #[error("{program} did not answer within {} ms", limit.as_millis())]
    TimedOut {
        /// The program.
        program: String,
        /// The time it had.
        limit: Duration,
    },
    /// Its output could not be read.
    #[error("the output of {program} could not be read: {source}")]
    Output {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Variables that a child may see. Everything else stays with us: resource parameters are environment variables, and
/// some of them are passwords.
const PASSED_ON: [&str; 6] = ["PATH", "TZ", "LC_ALL", "OCF_RESOURCE_INSTANCE", "OCF_ROOT", "CIB_file"];
/// The same for groups of variables: how Pacemaker's tools find their daemons.
const PASSED_ON_PREFIXES: [&str; 1] = ["PCMK_"];

/// The environment of a child.
pub(crate) fn environment() -> impl Iterator<Item = (String, OsString)> {
    // Not std::env::vars: it panics at a value that is no UTF-8, and any resource parameter may be one.
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| PASSED_ON.contains(&name.as_str()) || PASSED_ON_PREFIXES.iter().any(|p| name.starts_with(p)))
        .chain(std::env::var_os("PATH").is_none().then(|| ("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".into())))
}

/// Runs a command and waits for it, at most for `limit`. No secret may stand in `arguments`: all can read them.
///
/// # Errors
/// When it could not be started, or had to be killed. A status other than 0 is the caller's to judge.
pub fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<Finished, CommandError> {
    run_command(program, Command::new(program).args(arguments), limit)
}

/// The same as an account, with its main group and no other, in the directory that everybody may be in.
///
/// # Errors
/// As [`run`].
pub fn run_as(account: &crate::Account, program: &str, arguments: &[&str], limit: Duration) -> Result<Finished, CommandError> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    if account.uid != nix::unistd::geteuid().as_raw() {
        command.uid(account.uid).gid(account.gid);
    }
    run_command(program, command.args(arguments).current_dir("/"), limit)
}

fn run_command(program: &str, command: &mut Command, limit: Duration) -> Result<Finished, CommandError> {
    let name = || program.to_owned();
    let mut child = command
        .env_clear()
        .envs(environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| CommandError::Start { program: name(), source })?;
    match collect(&mut child, Instant::now() + limit) {
        Ok(Some((stdout, stderr))) => match child.wait() {
            Ok(status) => Ok(Finished { status, stdout, stderr }),
            Err(source) => Err(CommandError::Output { program: name(), source }),
        },
        Ok(None) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(CommandError::TimedOut { program: name(), limit })
        }
        Err(source) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(CommandError::Output { program: name(), source })
        }
    }
}

/// Reads both streams until they are closed; `None` when `until` came first. Both at once: a child that fills one pipe
/// while we wait on the other would never end.
fn collect(child: &mut Child, until: Instant) -> std::io::Result<Option<(String, String)>> {
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Ok(Some((String::new(), String::new())));
    };
    for fd in [out.as_fd(), err.as_fd()] {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let mut fds = Vec::with_capacity(2);
        if out_open {
            fds.push(PollFd::new(out.as_fd(), PollFlags::POLLIN));
        }
        if err_open {
            fds.push(PollFd::new(err.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up: a wait of 0 ms would spin through the last fraction.
        let wait = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, wait) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        out_open = out_open && drain(&mut out, &mut stdout)?;
        err_open = err_open && drain(&mut err, &mut stderr)?;
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some((text(stdout), text(stderr))))
}

/// Reads what is there. Returns whether more may come.
fn drain(from: &mut impl Read, into: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(n) => into.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_and_the_status_are_kept() {
        let done = run("sh", &["-c", "echo out; echo err >&2; exit 3"], Duration::from_secs(5)).unwrap();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str(), done.status.code()), ("out\n", "err\n", Some(3)));
    }

    #[test]
    fn a_command_that_hangs_is_killed_at_its_deadline() {
        let begin = Instant::now();
        let error = run("sleep", &["30"], Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn more_output_than_a_pipe_holds_does_not_block() {
        let done = run("sh", &["-c", "head -c 300000 /dev/zero >&2; echo ok"], Duration::from_secs(10)).unwrap();
        assert_eq!((done.stdout.as_str(), done.stderr.len()), ("ok\n", 300_000));
    }

    #[test]
    fn a_child_does_not_see_our_parameters() {
        let done = run("env", &[], Duration::from_secs(5)).unwrap();
        // cargo sets CARGO for every test, so that the environment is known not to be empty.
        assert!(std::env::var("CARGO").is_ok() && !done.stdout.contains("CARGO"), "{}", done.stdout);
    }
}
