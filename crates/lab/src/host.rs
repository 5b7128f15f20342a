//! The machine under the lab: running programs, the tools that must be there, clocks, progress lines.
//! The only place of this crate that spawns short-lived commands; it knows nothing of labs and nodes.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};

/// What a finished command left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; 128 + signal when it was killed.
    pub code: i32,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

impl Output {
    /// True when the exit code was 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

/// Exit code of a status, 128 + signal like a shell.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(255)
}

/// The command line for messages.
pub(crate) fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs to the end without standard input, whatever the exit code is.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let done = command.stdin(Stdio::null()).output().context(|| format!("run {}", show(command)))?;
    Ok(Output {
        code: exit_code(done.status),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    })
}

/// Runs to the end and insists on exit code 0.
pub(crate) fn checked(command: &mut Command) -> Result<Output> {
    let done = output(command)?;
    insist(show(command), done)
}

/// Turns an exit code other than 0 into an error.
pub(crate) fn insist(command: String, done: Output) -> Result<Output> {
    if done.success() {
        return Ok(done);
    }
    let stderr = if done.stderr.trim().is_empty() { done.stdout } else { done.stderr };
    Err(Error::Command { command, outcome: format!("exit code {}", done.code), stderr })
}

/// `checked` for a program and its arguments.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<Output> {
    checked(Command::new(program).args(args))
}

/// Writes a file by a temporary name and a rename, so that a reader sees the old or the new text, never half.
pub fn write_atomically(path: &Path, text: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    std::fs::write(&temporary, text).context(|| format!("write {}", temporary.display()))?;
    std::fs::rename(&temporary, path).context(|| format!("rename to {}", path.display()))
}

/// Microseconds of CLOCK_MONOTONIC: one clock for the host and all nodes, also in their journals.
#[must_use]
pub fn monotonic_us() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map(|t| u64::try_from(t.tv_sec()).unwrap_or(0) * 1_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0) / 1_000)
        .unwrap_or(0)
}

static STARTED: OnceLock<Instant> = OnceLock::new();

/// One progress line on standard error, with the time since the first one.
pub fn progress(text: &str) {
    let since = STARTED.get_or_init(Instant::now).elapsed();
    let _ = writeln!(std::io::stderr(), "[{:6.1} s] {text}", since.as_secs_f64());
}

/// Polls `probe` until it says `Ok(value)`; its `Err(text)` is the state shown when time is up. The limit is one of a machine at
/// rest: see the crate `pace`.
pub(crate) fn poll<T>(
    what: &str,
    limit: Duration,
    pause: Duration,
    mut probe: impl FnMut() -> std::result::Result<T, String>,
) -> Result<T> {
    let limit_of_all = pace::Limit::of(limit);
    loop {
        let asked = Instant::now();
        match probe() {
            Ok(value) => return Ok(value),
            Err(last) if limit_of_all.is_over() => {
                return Err(Error::Timeout { what: what.to_owned(), after: limit, last });
            }
            // A dear question (crm_mon) is asked less often: asking must not slow down what is waited for, here and in other labs.
            Err(_) => std::thread::sleep(pause.max(asked.elapsed() * 6)),
        }
    }
}

/// Programs the lab calls on this machine, and the Debian package of each.
const TOOLS: &[(&str, &str)] = &[
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("journalctl", "systemd"),
];

/// Checks for root and the tools; installs what lacks with apt-get and says so.
pub fn ensure_tools() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Refused("the lab makes namespaces and mounts: run it as root".to_owned()));
    }
    ensure(TOOLS)?;
    widen_inotify();
    Ok(())
}

/// Has these commands, each with the Debian package that brings it, on this machine.
pub(crate) fn ensure(tools: &[(&str, &str)]) -> Result<()> {
    let lacking: Vec<&str> = tools.iter().filter(|(tool, _)| !in_path(tool)).map(|(_, package)| *package).collect();
    if !lacking.is_empty() {
        progress(&format!("installing on this machine with apt-get: {}", lacking.join(" ")));
        install(&lacking)?;
    }
    Ok(())
}

/// Installs packages; asks the mirror for its lists only when the machine's do not do.
fn install(packages: &[&str]) -> Result<()> {
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        // Another apt may be at work: wait for it.
        command.args(["-qy", "-o", "DPkg::Lock::Timeout=300"]).args(words).env("DEBIAN_FRONTEND", "noninteractive");
        checked(&mut command).map(drop)
    };
    let install = [&["install", "--no-install-recommends"], packages].concat();
    if apt(&install).is_ok() {
        return Ok(());
    }
    progress("apt-get update");
    // Its own lock knows no waiting.
    poll("update of apt's lists", Duration::from_secs(120), Duration::from_secs(2), || {
        apt(&["update"]).map_err(|error| error.to_string())
    })?;
    apt(&install)
}

fn in_path(tool: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(tool).exists())
}

/// Every systemd holds about ten inotify instances and all nodes run as the same user: the usual 128 end with the
/// second lab. The limit costs nothing, so it is raised and left.
fn widen_inotify() {
    const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
    const WANTED: u32 = 1024;
    let now = std::fs::read_to_string(LIMIT).ok().and_then(|t| t.trim().parse::<u32>().ok());
    if now.is_some_and(|n| n < WANTED) && std::fs::write(LIMIT, WANTED.to_string()).is_ok() {
        progress(&format!("raised fs.inotify.max_user_instances to {WANTED}"));
    }
}

/// A lock on a file, held until dropped; a second taker waits and is told for what.
pub fn lock_file(path: &Path) -> Result<nix::fcntl::Flock<std::fs::File>> {
    use nix::fcntl::{Flock, FlockArg};
    use std::os::unix::fs::MetadataExt as _;
    loop {
        let open = || {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            std::fs::OpenOptions::new().create(true).append(true).open(path)
        };
        let file = open().context(|| format!("open {}", path.display()))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, _)) => {
                progress(&format!("waiting for another systole-lab that holds {}", path.display()));
                Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).context(|| format!("lock {}", path.display()))?
            }
        };
        // `down` removes the file while it holds the lock: who waited for that has a lock on nothing.
        let held = lock.metadata().context(|| format!("look at {}", path.display()))?.ino();
        if std::fs::metadata(path).is_ok_and(|now| now.ino() == held) {
            return Ok(lock);
        }
    }
}
