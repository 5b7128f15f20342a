//! Servers: started as their user, in their own session, with their own limits, holding nothing of ours.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::unistd::{Gid, Uid, User, getgrouplist, setgroups, setsid};

use crate::Identity;

/// A user of this machine.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
    /// All its groups.
    groups: Vec<Gid>,
}

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

impl Account {
    /// Looks a user up.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn find(name: &str) -> Result<Self, DaemonError> {
        let user = User::from_name(name)
            .map_err(|errno| DaemonError::Lookup(name.to_owned(), errno))?
            .ok_or_else(|| DaemonError::NoSuchUser(name.to_owned()))?;
        let groups = std::ffi::CString::new(name).ok().and_then(|c| getgrouplist(&c, user.gid).ok()).unwrap_or_else(|| vec![user.gid]);
        Ok(Self { name: name.to_owned(), uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
    }
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
    /// Further environment variables, beside the few that every child gets.
    pub environment: Vec<(String, String)>,
    /// The file that its output is appended to. `None` for a pipe that we hold: it ends with us, and a program that
    /// prints afterwards dies of that, unless it ignores SIGPIPE from the beginning.
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
        let (read, mut write) = pipe().map_err(|e| failed(e.into()))?;
        if let Some(log) = &self.log {
            write = File::options().append(true).create(true).open(log).map_err(failed)?.into();
        }
        let mut command = self.command(write).map_err(failed)?;
        let (pid_read, pid_write) = pipe().map_err(|e| failed(e.into()))?;
        let (go_read, go_write) = pipe().map_err(|e| failed(e.into()))?;
        let parents_end = go_write.as_raw_fd();
        let (account, open_files) = (self.account.clone(), self.open_files);
        let prepare = move || -> std::io::Result<()> {
            // A session of its own: no signal of our process group, no terminal.
            setsid()?;
            become_the_server(account.as_ref(), open_files)?;
            // With a copy of it here, the end of the parent would not be seen.
            nix::unistd::close(parents_end)?;
            nix::unistd::write(&pid_write, &std::process::id().to_ne_bytes())?;
            match nix::unistd::read(&go_read, &mut [0])? {
                1 => Ok(()),
                _ => Err(nix::errno::Errno::ECANCELED.into()),
            }
        };
        // SAFETY: the closure runs in the forked child before exec. It only makes system calls (setsid, setrlimit,
        // setgroups, setgid, setuid, close, getpid, write, read) on data that was allocated before the fork, and
        // allocates and locks nothing. The descriptor that it closes is the child's copy, and nobody else's there.
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
        let child = child.map_err(|_| failed(std::io::Error::other("spawning panicked")))?.map_err(failed)?;
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
            let log = self.log.as_deref().unwrap_or(Path::new("/dev/null"));
            let Ok(mut said) = File::options().append(true).create(true).open(log) else { return };
            let failed = match said.try_clone().and_then(|log| self.command(log.into())) {
                Ok(mut command) => {
                    let (account, open_files) = (self.account.clone(), self.open_files);
                    // SAFETY: nothing is forked here any more; the closure makes system calls only.
                    #[allow(unsafe_code, reason = "std has no safe way to set the groups of the process that executes a program")]
                    unsafe {
                        command.pre_exec(move || become_the_server(account.as_ref(), open_files));
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

    fn command(&self, output: OwnedFd) -> std::io::Result<Command> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(crate::command::environment().filter(|(name, _)| name == "PATH" || name == "TZ"))
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(command)
    }
}

/// Limits and user of a server, between fork and exec: system calls only.
fn become_the_server(account: Option<&Account>, open_files: Option<u64>) -> std::io::Result<()> {
    if let Some(limit) = open_files {
        // Without the right to raise the limit, the server works with what there is and says so itself.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, limit as rlim_t, limit as rlim_t);
    }
    if let Some(account) = account {
        setgroups(&account.groups)?;
        nix::unistd::setgid(Gid::from_raw(account.gid))?;
        nix::unistd::setuid(Uid::from_raw(account.uid))?;
    }
    Ok(())
}

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
            environment: vec![("SHOWN".into(), "yes".into())],
            log: None,
        }
    }

    #[test]
    fn a_daemon_has_its_own_session_limits_and_environment() {
        let mut spawned = shell("ulimit -n; echo $SHOWN$CARGO; cut -d' ' -f6 /proc/$$/stat; echo $$").spawn().unwrap();
        let mut text = String::new();
        spawned.output.read_to_string(&mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["100", "yes"]);
        assert_eq!(lines[2], lines[3], "the session is the process itself");
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
    fn a_user_that_does_not_exist_is_named() {
        let error = Account::find("no-such-user").unwrap_err();
        assert!(error.to_string().starts_with("user no-such-user does not exist"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = Daemon { program: "/no/such".into(), ..shell("") }.spawn().unwrap_err();
        assert!(error.to_string().contains("/no/such"), "{error}");
    }
}
