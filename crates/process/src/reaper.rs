//! A child and everything that it leaves behind.

use std::convert::Infallible;
use std::ffi::c_void;
use std::fs::File;
use std::io::{Error, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::ptr::null_mut;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::process::{Pid, WaitOptions};

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

/// As large as the stack of a process that does little, bytes; none of it is there before it is used. Below it lies a page that nobody
/// may touch.
const STACK: usize = 1024 * 1024;
const GUARD: usize = 64 * 1024;

/// What the process that works begins with.
struct Begin<W> {
    work: W,
    tell: OwnedFd,
    signals: SigSet,
}

/// Another process carries out `work`, with our input and output, and ends with the status that this returns. We only wait for that, or
/// until it has told a status and goes on, and end with the status; when it was killed, as a shell has it. Told to end by SIGTERM, we
/// stay: our end is the work's. What else is open is open there too.
///
/// Both have one memory, because a copy of it costs a third of what it takes to run a small command. So nothing may be waiting to be
/// done at our end: no destructor runs, and nothing is flushed.
///
/// # Errors
/// When there cannot be another process.
pub fn until_told<W: FnOnce(Tell) -> i32>(work: W) -> Result<Infallible, String> {
    let threads = threads();
    if threads != 1 {
        return Err(format!("a process with {threads} threads cannot share its memory with another one"));
    }
    let (read, tell) = pipe().map_err(|e| e.to_string())?;
    let stack = stack().map_err(|e| e.to_string())?;
    let term = SigSet::from(Signal::SIGTERM);
    let signals = term.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(|e| e.to_string())?;
    let told = tell.as_raw_fd();
    let begin = Box::into_raw(Box::new(Begin { work, tell, signals })).cast();
    // SAFETY: `begin` is what the function of this type takes, and its own from here on; the stack is nobody else's and is never given
    // back. Of the two processes with this memory only the new one uses it: this one, which has no other thread (looked up above), waits
    // in the kernel from here to its end, and what it needs for that is in its registers and on its own stack. No handler of ours
    // interrupts it: SIGTERM, for which there may be one, is blocked.
    #[allow(unsafe_code, reason = "there is no safe clone")]
    let child = unsafe { libc::clone(carry_out::<W>, stack, libc::CLONE_VM | libc::SIGCHLD, begin) };
    if child < 0 {
        return Err(Error::last_os_error().to_string());
    }
    // SAFETY: the descriptors are this process's own copies. The owner of `told` lives in the memory of the other process, and closes
    // that one's; nobody looks at this one any more. With it open, the end of the other process would not be seen.
    #[allow(unsafe_code, reason = "what owns it is the other process's")]
    let read = unsafe {
        rustix::io::close(told);
        BorrowedFd::borrow_raw(read.as_raw_fd())
    };
    let status = status_of(read, child);
    // SAFETY: it ends this process and nothing else. The other one may be at something in the memory that both have.
    #[allow(unsafe_code, reason = "exit would run what is the other process's to run")]
    unsafe {
        libc::_exit(status)
    }
}

/// How many threads this process has.
fn threads() -> usize {
    const TASKS: &str = "/proc/self/task";
    // The kernel counts two links of the directory, and one for each thread: that is seen without a look into it.
    let one = std::fs::metadata(TASKS).is_ok_and(|found| found.nlink() == 3);
    if one { 1 } else { std::fs::read_dir(TASKS).map_or(0, Iterator::count) }
}

/// What was told, or how the process has ended. Allocates nothing, and touches nothing that is not the caller's own.
fn status_of(told: BorrowedFd<'_>, child: i32) -> i32 {
    let mut status = [0; 4];
    loop {
        match rustix::io::read(told, &mut status) {
            // So few bytes come at once.
            Ok(4) => return i32::from_ne_bytes(status),
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => break,
        }
    }
    loop {
        match rustix::process::waitpid(Pid::from_raw(child), WaitOptions::empty()) {
            Ok(Some((_, ended))) => return ended.exit_status().or(ended.terminating_signal().map(|signal| 128 + signal)).unwrap_or(1),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 1,
        }
    }
}

/// Where the other process begins.
extern "C" fn carry_out<W: FnOnce(Tell) -> i32>(begin: *mut c_void) -> libc::c_int {
    // SAFETY: [`until_told`] has made it of a box of this type, for this call alone.
    #[allow(unsafe_code, reason = "a C function takes an untyped pointer")]
    let Begin { work, tell, signals } = *unsafe { Box::from_raw(begin.cast::<Begin<W>>()) };
    let _ = signals.thread_set_mask();
    // There is nothing above to unwind to.
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(Tell(File::from(tell)))));
    std::process::exit(done.unwrap_or(1))
}

/// The upper end of a new stack.
fn stack() -> Result<*mut c_void, Errno> {
    let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK);
    // SAFETY: a mapping in a place that the kernel chooses touches no other one, and the guard is a part of it. Both are whole pages, of
    // any size that a kernel has.
    #[allow(unsafe_code, reason = "what a stack needs is a mapping")]
    unsafe {
        let lowest = libc::mmap(null_mut(), GUARD + STACK, rights, kind, -1, 0);
        if lowest == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Errno::result(libc::mprotect(lowest, GUARD, libc::PROT_NONE))?;
        Ok(lowest.byte_add(GUARD + STACK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What needs a process of its own is shown by the contract tests of the cron jobs.
    #[test]
    fn a_process_with_threads_does_not_share_its_memory() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv().is_ok());
        assert!(threads() > 1);
        let Err(why) = until_told(|_| 0);
        assert!(why.contains("threads"), "{why}");
        drop(stop);
        let _ = other.join();
    }
}
