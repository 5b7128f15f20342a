//! A child and everything that it leaves behind.

use std::io::Error;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitStatus, waitpid};

/// Runs a command with our input, output and environment, and these variables besides, and waits until it and all its orphans have
/// ended. Processes that it sends into the background become our children, however they do it. Returns its status as a shell has
/// it: 128 and the signal when it was killed.
///
/// For a process that has no other children.
///
/// # Errors
/// When it cannot be started.
pub fn run_with_orphans(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<i32, Error> {
    set_child_subreaper(true)?;
    let child = Command::new(program).args(arguments).envs(variables.iter().copied()).spawn()?;
    let main = i32::try_from(child.id()).unwrap_or_default();
    let mut status = 0;
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == main => status = code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == main => status = 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => {}
            // Nobody is left.
            Err(_) => return Ok(status),
        }
    }
}
