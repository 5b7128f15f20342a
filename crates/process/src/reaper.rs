//! A child and everything that it leaves behind.

use std::fs::File;
use std::io::{Error, Read as _, Write as _};
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork};

use crate::daemon::pipe;

/// Runs a command with our input, output and environment, and these variables besides, and waits until it and all its orphans have
/// ended. Processes that it sends into the background become our children, however they do it. When the command itself has ended,
/// `ended` is called with its status as a shell has it, 128 and the signal when it was killed, and whether it has left something behind.
///
/// For a process that has no other children.
///
/// # Errors
/// When it cannot be started.
pub fn run_with_orphans(
    program: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
    mut ended: impl FnMut(i32, bool),
) -> Result<(), Error> {
    set_child_subreaper(true)?;
    let child = Command::new(program).args(arguments).envs(variables.iter().copied()).spawn()?;
    let main = i32::try_from(child.id()).unwrap_or_default();
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == main => ended(code, some_are_left()),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == main => ended(128 + signal as i32, some_are_left()),
            Ok(_) | Err(Errno::EINTR) => {}
            // Nobody is left.
            Err(_) => return Ok(()),
        }
    }
}

/// Whether there are children that have not ended. Those that have are reaped.
fn some_are_left() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// How a process says what has become of its work long before it ends itself: see [`until_told`].
#[derive(Debug)]
pub struct Tell(File);

impl Tell {
    /// Says it, and lets go of our input and output: whoever waits for their end has not to wait for us.
    pub fn status(mut self, status: i32) {
        // Nobody may be there any more to whom it matters.
        let _ = self.0.write_all(&status.to_ne_bytes());
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            let _ = dup2_stdin(&null).and_then(|_| dup2_stdout(&null)).and_then(|()| dup2_stderr(&null));
        }
    }
}

/// Forks: the child carries out `work`, with our input and output, and ends with the status that this returns. We do what is to be done
/// `before` we wait for that, or until it has told a status and goes on, and return the status; when it was killed, as a shell has it.
/// What else is open is open there too.
///
/// # Errors
/// When it cannot be forked.
pub fn until_told(work: impl FnOnce(Tell) -> i32, before: impl FnOnce()) -> Result<i32, String> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(format!("a process with {threads} threads cannot be forked"));
    }
    let (read, write) = pipe().map_err(|e| e.to_string())?;
    // SAFETY: this process has one thread (looked up above), so no other one can hold a lock that the child would need.
    #[allow(unsafe_code, reason = "there is no safe fork")]
    let forked = unsafe { fork() }.map_err(|e| e.to_string())?;
    match forked {
        ForkResult::Child => {
            drop(read);
            // A panic must not run on into what the parent does.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(Tell(File::from(write)))));
            std::process::exit(done.unwrap_or(1))
        }
        ForkResult::Parent { child } => {
            // With a copy of it here, the end of the child would not be seen.
            drop(write);
            before();
            let mut status = [0; 4];
            if File::from(read).read_exact(&mut status).is_ok() {
                return Ok(i32::from_ne_bytes(status));
            }
            loop {
                match waitpid(child, None) {
                    Ok(WaitStatus::Exited(_, code)) => return Ok(code),
                    Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(e) => return Err(e.to_string()),
                }
            }
        }
    }
}
