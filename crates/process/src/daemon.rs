//! Servers: started as their user, in their own session, with their own limits, holding nothing of ours.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, setsid};
use rustix::thread::{CapabilitySet as Capabilities, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities};

use crate::{Account, Identity};

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// There is no such user.
    #[error("user {0} does not exist on this node: create it, or set the parameter user")]
    NoSuchUser(String),
    /// The user database did not answer.
    #[error("user {0} cannot be looked up: {1}")]
    Lookup(String, nix::errno::Errno),
    /// It was not started because it could not be remembered.
    #[error("{0}")]
    NotRemembered(String),
    /// It did not come up.
    #[error("{program} could not be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A server to start.
#[derive(Debug)]
pub struct Daemon {
    /// The program, absolute.
    pub program: PathBuf,
    /// Its arguments. No secret may stand there: all can read them.
    pub arguments: Vec<String>,
    /// Who it runs as; `None` for who we are.
    pub account: Option<Account>,
    /// Its working directory.
    pub directory: PathBuf,
    /// How many files it may have open; `None` leaves our own limit.
    pub open_files: Option<u64>,
    /// The rights of root that it may gain by a program that it executes: setuid, or with capabilities of its own. With none, nothing that it
    /// executes ever gains one.
    pub may_gain: Capabilities,
    /// Further environment variables, beside the few that every child gets.
    pub environment: Vec<(String, String)>,
    /// The file that its output is appended to, opened with its own rights. `None` for a pipe that we hold: it ends with us, and a
    /// program that prints afterwards dies of that, unless it ignores SIGPIPE from the beginning.
    pub log: Option<PathBuf>,
}

/// A server that was started. It lives on when this is dropped.
#[derive(Debug)]
pub struct Spawned {
    /// Which process it is.
    pub identity: Identity,
    /// What it prints, both streams, until it closes them. When this is dropped, it prints into nothing.
    pub output: File,
    child: std::process::Child,
}

impl Spawned {
    /// Whether it has ended already; if so, it is reaped, and how it ended is returned.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Daemon {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be executed. That it works is for the caller to find out.
    pub fn spawn(&self) -> Result<Spawned, DaemonError> {
        self.spawn_remembered(|_| Ok(()))
    }

    /// Starts it, but tells `remember` first which process it is. The program is not executed before `remember` has
    /// succeeded, and never when we die before: there is no server that nobody knows of.
    ///
    /// Both output streams go to a pipe of ours or to a file, stdin is empty: the executor reads an agent's own streams until they
    /// are closed, so a server that inherited them would hang the action until its timeout.
    ///
    /// # Errors
    /// When it cannot be executed, or `remember` fails.
    pub fn spawn_remembered(&self, remember: impl FnOnce(&Identity) -> Result<(), String>) -> Result<Spawned, DaemonError> {
        let failed = |source| self.cannot_start(source);
        let (read, write) = pipe().map_err(|e| failed(e.into()))?;
        let mut command = self.command(write).map_err(failed)?;
        let server = self.transition().map_err(failed)?;
        let (pid_read, pid_write) = pipe().map_err(|e| failed(e.into()))?;
        let (go_read, go_write) = pipe().map_err(|e| failed(e.into()))?;
        let parents_end = go_write.as_raw_fd();
        let prepare = move || -> std::io::Result<()> {
            // A session of its own: no signal of our process group, no terminal.
            setsid()?;
            server.make()?;
            // With a copy of it here, the end of the parent would not be seen.
            nix::unistd::close(parents_end)?;
            nix::unistd::write(&pid_write, &std::process::id().to_ne_bytes())?;
            match nix::unistd::read(&go_read, &mut [0])? {
                1 => Ok(()),
                _ => Err(nix::errno::Errno::ECANCELED.into()),
            }
        };
        // SAFETY: the closure runs in the forked child before exec. It only makes system calls (setsid, getrlimit, setrlimit, prctl, umask,
        // setgroups, setgid, setuid, capget, capset, chdir, open, dup2, close, getpid, write, read) on data that was allocated before the fork,
        // and allocates and locks nothing. The descriptor that it closes is the child's copy, and nobody else's there.
        #[allow(unsafe_code, reason = "std has no safe way to set the session and the groups of a child")]
        unsafe {
            command.pre_exec(prepare);
        }
        let (child, remembered) = std::thread::scope(|scope| {
            // `Command::spawn` returns when the program is executed, which waits for us. The command, and with it our
            // end of the child's pipe, goes with the thread, so that a child that fails early ends the reading here.
            let spawning = scope.spawn(move || command.spawn());
            let mut pid = [0; 4];
            let remembered = match File::from(pid_read).read_exact(&mut pid) {
                Ok(()) => Identity::of(i32::from_ne_bytes(pid)).map_or_else(|| Err("it vanished at once".into()), |it| remember(&it)),
                // The child did not come so far: spawning says why.
                Err(_) => Ok(()),
            };
            match remembered {
                Ok(()) => drop(nix::unistd::write(&go_write, &[1])),
                Err(_) => drop(go_write),
            }
            (spawning.join(), remembered)
        });
        remembered.map_err(DaemonError::NotRemembered)?;
        let child = child.map_err(|_| failed(std::io::Error::other("spawning panicked")))?.map_err(|e| failed(self.named(e)))?;
        // Our child is a zombie at worst until we reap it, so its number cannot have been reused.
        let identity =
            i32::try_from(child.id()).ok().and_then(Identity::of).ok_or_else(|| failed(std::io::Error::other("it vanished at once")))?;
        Ok(Spawned { identity, output: File::from(read), child })
    }

    /// Starts it as soon as the processes in `before` are gone with all that was theirs, in a process that waits for that and does not
    /// keep us. The process is the server's own, from now on: it is remembered, can be ended, and executes the program in the end. What
    /// keeps it from that stands in the log.
    ///
    /// # Errors
    /// When nothing can wait for it, or `remember` fails.
    pub fn spawn_after(
        &self,
        before: &[Identity],
        remember: impl FnOnce(&Identity) -> Result<(), String>,
    ) -> Result<Identity, DaemonError> {
        let mut waiting = None;
        let remember = |identity: &Identity| {
            waiting = Some(identity.clone());
            remember(identity)
        };
        let work = || {
            // A lock of ours would be held for as long as this waits.
            close_inherited();
            before.iter().for_each(Identity::wait_gone_forever);
            let Ok(mut said) = self.open_log() else { return };
            let prepared = self.transition().and_then(|server| Ok((server, self.command(said.try_clone()?.into())?)));
            let failed = match prepared {
                Ok((server, mut command)) => {
                    // SAFETY: nothing is forked here any more; the closure makes system calls only.
                    #[allow(unsafe_code, reason = "std has no safe way to set the groups of the process that executes a program")]
                    unsafe {
                        command.pre_exec(move || server.make());
                    }
                    command.exec()
                }
                Err(e) => e,
            };
            let _ = writeln!(said, "[ERROR] {}", self.cannot_start(failed));
        };
        crate::detach(remember, work).map_err(DaemonError::NotRemembered)?;
        waiting.ok_or_else(|| self.cannot_start(std::io::Error::other("it vanished at once")))
    }

    fn cannot_start(&self, source: std::io::Error) -> DaemonError {
        DaemonError::Start { program: self.program.display().to_string(), source }
    }

    /// Why it could not be started, with the path that it could not use, where that is the reason.
    fn named(&self, error: std::io::Error) -> std::io::Error {
        let name = |what: &str, path: &Path, e: std::io::Error| std::io::Error::new(e.kind(), format!("{what} {}: {e}", path.display()));
        let account = self.account.clone().unwrap_or_else(Account::own);
        let directory = account.act(|files| files.directory(&self.directory).map(drop)).map_err(|e| name("directory", &self.directory, e));
        let log = || self.log.as_ref().map_or(Ok(()), |log| self.open_log().map(drop).map_err(|e| name("log", log, e)));
        directory.and_then(|()| log()).err().unwrap_or(error)
    }

    /// The log, or nothing, opened as the account does it.
    fn open_log(&self) -> std::io::Result<File> {
        let log = self.log.as_deref().unwrap_or(Path::new("/dev/null"));
        let account = self.account.clone().unwrap_or_else(Account::own);
        account.act(|_| Ok(nix::fcntl::open(log, LOG_FLAGS, LOG_MODE)?.into()))
    }

    fn transition(&self) -> std::io::Result<Transition> {
        let log = self.log.as_ref().map(|log| CString::new(log.as_os_str().as_bytes())).transpose()?;
        let directory = CString::new(self.directory.as_os_str().as_bytes())?;
        Ok(Transition { account: self.account.clone(), open_files: self.open_files, may_gain: self.may_gain, directory, log })
    }

    fn command(&self, output: OwnedFd) -> std::io::Result<Command> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(crate::command::environment().filter(|(name, _)| name == "PATH" || name == "TZ"))
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(command)
    }
}

/// What makes the process of a server of one of ours, between fork and exec.
struct Transition {
    account: Option<Account>,
    open_files: Option<u64>,
    may_gain: Capabilities,
    directory: CString,
    log: Option<CString>,
}

impl Transition {
    /// System calls only. Directory and log are the server's, so that they are gone to and opened with its rights.
    fn make(&self) -> std::io::Result<()> {
        if let Some(limit) = self.open_files {
            // Without the right to raise what may be raised, as much as there is: the server works with it and says so itself.
            let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
            let limit = limit as rlim_t;
            setrlimit(Resource::RLIMIT_NOFILE, limit, limit)
                .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, limit.min(most), limit.min(most)))?;
        }
        // A dump of its memory holds data and passwords, and may be as large as the machine.
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        if self.may_gain.is_empty() {
            nix::sys::prctl::set_no_new_privs()?;
        }
        if let Some(account) = &self.account {
            // What we have of Pacemaker, whose own it is: how sparing the kernel is with it when memory is used up. A kernel without it has no
            // such file.
            if let Ok(file) = nix::fcntl::open(c"/proc/self/oom_score_adj", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
                let _ = nix::unistd::write(file, b"0");
            }
            umask(UMASK);
            bound(self.may_gain)?;
            setgroups(&account.groups)?;
            nix::unistd::setgid(Gid::from_raw(account.gid))?;
            nix::unistd::setuid(Uid::from_raw(account.uid))?;
            // What outlives the change of the user, for programs whose files take it up.
            set_capabilities(None, CapabilitySets { inheritable: Capabilities::empty(), ..capabilities(None)? })?;
        }
        nix::unistd::chdir(self.directory.as_c_str())?;
        if let Some(log) = &self.log {
            let log = nix::fcntl::open(log.as_c_str(), LOG_FLAGS, LOG_MODE)?;
            nix::unistd::dup2_stdout(&log)?;
            nix::unistd::dup2_stderr(&log)?;
        }
        Ok(())
    }
}

/// Nobody but the account and its group reads what a server writes: as the distributions' units have it.
const UMASK: Mode = Mode::from_bits_truncate(0o007);

/// Takes all of root's rights but these from what this process and its children can ever gain.
fn bound(may_gain: Capabilities) -> std::io::Result<()> {
    for one in (0..u64::BITS).map(|number| Capabilities::from_bits_retain(1 << number)).filter(|one| !may_gain.contains(*one)) {
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The kernel does not know that many.
            Err(rustix::io::Errno::INVAL) => break,
            // We are not root, or one without this right: there is little to gain then.
            Err(rustix::io::Errno::PERM) => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// How a log is opened: a FIFO in its place is not waited for.
const LOG_FLAGS: OFlag = OFlag::O_WRONLY.union(OFlag::O_APPEND).union(OFlag::O_CREAT).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);
const LOG_MODE: Mode = Mode::from_bits_truncate(0o640);

/// In a forked process that will not return to what its parent was at.
fn close_inherited() {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    // The one that they were listed with is closed already.
    for fd in open {
        let _ = nix::unistd::close(fd);
    }
}

pub(crate) fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::Duration;

    fn shell(script: &str) -> Daemon {
        Daemon {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            account: None,
            directory: "/".into(),
            open_files: Some(100),
            may_gain: Capabilities::empty(),
            environment: vec![("SHOWN".into(), "yes".into())],
            log: None,
        }
    }

    #[test]
    fn a_daemon_has_its_own_session_limits_and_environment() {
        let mut spawned =
            shell("ulimit -n; echo $SHOWN$CARGO; ulimit -c; grep NoNewPrivs /proc/$$/status; cut -d' ' -f6 /proc/$$/stat; echo $$")
                .spawn()
                .unwrap();
        let mut text = String::new();
        spawned.output.read_to_string(&mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..4], ["100", "yes", "0", "NoNewPrivs:\t1"]);
        assert_eq!(lines[4], lines[5], "the session is the process itself");
        while spawned.ended().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_cannot_be_remembered_never_runs() {
        let path = std::env::temp_dir().join(format!("systole-daemon-{}", std::process::id()));
        let daemon = shell(&format!("touch {}", path.display()));
        let mut known = None;
        let error = daemon.spawn_remembered(|identity| {
            known = Some(identity.clone());
            Err("the disk is full".into())
        });
        assert!(matches!(error, Err(DaemonError::NotRemembered(why)) if why == "the disk is full"));
        assert!(known.unwrap().wait_gone(Duration::from_secs(5)));
        assert!(!path.exists());
    }

    #[test]
    fn it_outlives_the_handle() {
        let identity = shell("sleep 30").spawn().unwrap().identity;
        assert!(identity.is_alive());
        identity.kill();
        assert!(identity.wait_gone(Duration::from_secs(5)));
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = Daemon { program: "/no/such".into(), ..shell("") }.spawn().unwrap_err();
        assert!(error.to_string().contains("/no/such"), "{error}");
    }
    /// Opened as root, a link in the place of the log gave the server any file to append to.
    #[test]
    fn the_log_is_opened_with_the_servers_rights() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let directory = std::env::temp_dir().join(format!("systole-log-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (secret, link) = (directory.join("secret"), directory.join("log"));
        std::fs::write(&secret, "").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&secret, &link).unwrap();
        let account = Some(Account { name: "stranger".into(), uid: 54_321, gid: 54_321, groups: vec![] });
        let daemon = Daemon { account, log: Some(link.clone()), ..shell("echo written") };
        let error = daemon.spawn().unwrap_err().to_string();
        assert!(error.contains(&format!("log {}: Permission denied", link.display())), "{error}");
        let error = Daemon { directory: directory.join("none"), log: None, ..daemon }.spawn().unwrap_err().to_string();
        assert!(error.contains("/none: No such file"), "{error}");
        assert_eq!(std::fs::read(&secret).unwrap(), b"");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
