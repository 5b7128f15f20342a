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
    /// It printed more than it may, and was killed.
    #[error("{program} printed more than {most} bytes")]
    TooLong {
        /// The program.
        program: String,
        /// What it may print, on each of its streams.
        most: usize,
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
    run_command(program, Command::new(program).args(arguments), limit, usize::MAX)
}

/// The same for a program that may print no more than `most` bytes on each of its streams.
///
/// # Errors
/// As [`run`], and when it printed more.
pub fn run_bounded(program: &str, arguments: &[&str], limit: Duration, most: usize) -> Result<Finished, CommandError> {
    run_command(program, Command::new(program).args(arguments), limit, most)
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
    run_command(program, command.args(arguments).current_dir("/"), limit, usize::MAX)
}

/// How often is asked whether a command is to go on that is heard while it runs.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(20);
/// More than a line is that is read as it comes. Bytes.
const LONGEST_LINE: usize = 64 << 10;

/// Runs a command whose lines are read as they come: `hear` is called with each of its stdout. It is killed when `goes_on` says no, and at
/// `limit`; both are the caller's wish and no error. It is in a process group of its own, so that what interrupts the caller at a terminal
/// does not end it before the caller has decided. Returns the end of what it wrote to stderr.
///
/// # Errors
/// When it could not be started or read, or printed a line that is no line.
pub fn run_heard(
    program: &str,
    arguments: &[&str],
    limit: Duration,
    goes_on: &dyn Fn() -> bool,
    hear: &mut dyn FnMut(&str),
) -> Result<String, CommandError> {
    use std::os::unix::process::CommandExt as _;
    let name = || program.to_owned();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment()).process_group(0);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|source| CommandError::Start { program: name(), source })?;
    let heard = listen(&mut child, Instant::now() + limit, goes_on, hear);
    let _ = child.kill();
    let _ = child.wait();
    match heard {
        Ok(Some(errors)) => Ok(errors),
        Ok(None) => Err(CommandError::TooLong { program: name(), most: LONGEST_LINE }),
        Err(source) => Err(CommandError::Output { program: name(), source }),
    }
}

/// Hears a command until it has closed its stdout, `until` comes, or `goes_on` says no. Returns the end of its stderr, `None` after a line
/// that is too long.
fn listen(child: &mut Child, until: Instant, goes_on: &dyn Fn() -> bool, hear: &mut dyn FnMut(&str)) -> std::io::Result<Option<String>> {
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else { return Ok(Some(String::new())) };
    for fd in [out.as_fd(), err.as_fd()] {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut open, mut err_open) = (true, true);
    while open && Instant::now() < until && goes_on() {
        let mut fds = vec![PollFd::new(out.as_fd(), PollFlags::POLLIN)];
        if err_open {
            fds.push(PollFd::new(err.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::try_from(BETWEEN_QUESTIONS).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        open = drain(&mut out, &mut stdout)?;
        err_open = err_open && drain(&mut err, &mut stderr)?;
        while let Some(end) = stdout.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = stdout.drain(..=end).collect();
            hear(String::from_utf8_lossy(&line[..end]).trim_end());
        }
        if stdout.len() > LONGEST_LINE {
            return Ok(None);
        }
        stderr.drain(..stderr.len().saturating_sub(LONGEST_LINE));
    }
    // It may have said why it ends just before.
    let _ = err_open && drain(&mut err, &mut stderr)?;
    Ok(Some(String::from_utf8_lossy(&stderr).into_owned()))
}

fn run_command(program: &str, command: &mut Command, limit: Duration, most: usize) -> Result<Finished, CommandError> {
    let name = || program.to_owned();
    let mut child = command
        .env_clear()
        .envs(environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| CommandError::Start { program: name(), source })?;
    let collected = collect(&mut child, Instant::now() + limit, most);
    if !matches!(collected, Ok(Collected::All(..))) {
        let _ = child.kill();
    }
    let ended = child.wait();
    match collected.and_then(|collected| Ok((collected, ended?))) {
        Ok((Collected::All(stdout, stderr), status)) => Ok(Finished { status, stdout, stderr }),
        Ok((Collected::Late, _)) => Err(CommandError::TimedOut { program: name(), limit }),
        Ok((Collected::TooLong, _)) => Err(CommandError::TooLong { program: name(), most }),
        Err(source) => Err(CommandError::Output { program: name(), source }),
    }
}

/// What a command printed.
enum Collected {
    /// Both streams, until they were closed.
    All(String, String),
    /// The time was over first.
    Late,
    /// It was more than it may be.
    TooLong,
}

/// Reads both streams until they are closed or `until` comes. Both at once: a child that fills one pipe while we wait on the other would never
/// end.
fn collect(child: &mut Child, until: Instant, most: usize) -> std::io::Result<Collected> {
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Ok(Collected::All(String::new(), String::new()));
    };
    for fd in [out.as_fd(), err.as_fd()] {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Collected::Late);
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
        if stdout.len().max(stderr.len()) > most {
            return Ok(Collected::TooLong);
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Collected::All(text(stdout), text(stderr)))
}

/// Reads some of what is there. Returns whether more may come. Not all at once: a program that prints faster than is read would have no end and
/// no deadline.
fn drain(from: &mut impl Read, into: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut buffer = [0; 65_536];
    match from.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(n) => {
            into.extend_from_slice(&buffer[..n]);
            Ok(true)
        }
        Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => Ok(true),
        Err(e) => Err(e),
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
    fn lines_are_heard_as_they_come_until_nobody_wants_more() {
        let heard = std::cell::RefCell::new(Vec::new());
        let begin = Instant::now();
        let enough = || heard.borrow().len() < 2;
        let script = "echo one; echo two; exec sleep 30";
        let ended =
            run_heard("sh", &["-c", script], Duration::from_secs(20), &enough, &mut |line| heard.borrow_mut().push(line.to_owned()));
        assert!(ended.is_ok() && begin.elapsed() < Duration::from_secs(10), "{ended:?} after {:?}", begin.elapsed());
        assert_eq!(*heard.borrow(), ["one", "two"]);
        let why = run_heard("sh", &["-c", "echo why >&2; exit 3"], Duration::from_secs(20), &|| true, &mut |_| {}).unwrap();
        assert_eq!(why, "why\n");
        let long = run_heard("sh", &["-c", "yes | tr -d '\\n'"], Duration::from_secs(20), &|| true, &mut |_| {}).unwrap_err();
        assert!(matches!(long, CommandError::TooLong { .. }), "{long}");
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
    fn a_command_that_prints_more_than_it_may_is_killed() {
        let error = run_bounded("yes", &[], Duration::from_secs(30), 100_000).unwrap_err();
        assert!(matches!(error, CommandError::TooLong { .. }), "{error}");
        let done = run_bounded("echo", &["ok"], Duration::from_secs(5), 3).unwrap();
        assert_eq!(done.stdout, "ok\n");
    }

    #[test]
    fn a_child_does_not_see_our_parameters() {
        let done = run("env", &[], Duration::from_secs(5)).unwrap();
        // cargo sets CARGO for every test, so that the environment is known not to be empty.
        assert!(std::env::var("CARGO").is_ok() && !done.stdout.contains("CARGO"), "{}", done.stdout);
    }
}
