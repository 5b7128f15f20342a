//! Work that outlives the action that began it: a forked process in a session of its own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

use crate::Identity;
use crate::daemon::pipe;

/// How long a killed session may take to be gone before it is killed again.
const BETWEEN_KILLS: Duration = Duration::from_millis(5);

/// Forks: the child carries out `work` and ends, we go on. It is told to `remember` first, and does nothing when that fails or when
/// we die before. It has a session of its own and no input or output, so that whoever reads ours is not kept waiting. What else is
/// open is open there too: a lock of ours would be held by both.
///
/// # Errors
/// When it cannot be forked or remembered.
pub fn detach(remember: impl FnOnce(&Identity) -> Result<(), String>, work: impl FnOnce()) -> Result<(), String> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(format!("a process with {threads} threads cannot be forked"));
    }
    let (go_read, go_write) = pipe().map_err(|e| e.to_string())?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(|e| format!("/dev/null: {e}"))?;
    // SAFETY: this process has one thread (looked up above), so no other one can hold a lock that the child would need.
    #[allow(unsafe_code, reason = "there is no safe fork")]
    let forked = unsafe { fork() }.map_err(|e| e.to_string())?;
    match forked {
        ForkResult::Child => {
            // With a copy of it here, the end of the parent would not be seen.
            drop(go_write);
            let apart = setsid().and_then(|_| dup2_stdin(&null)).and_then(|()| dup2_stdout(&null)).and_then(|()| dup2_stderr(&null));
            if apart.is_ok() && File::from(go_read).read_exact(&mut [0]).is_ok() {
                // A panic must not run on into what the parent does.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            }
            std::process::exit(0)
        }
        ForkResult::Parent { child } => {
            drop(go_read);
            remember(&Identity::of(child.as_raw()).ok_or("it vanished at once")?)?;
            File::from(go_write).write_all(&[1]).map_err(|e| e.to_string())
        }
    }
}

/// Kills the leader of a session and all that it has started there, also when it is gone itself. Returns whether they are all gone
/// within `limit`.
pub fn kill_session(leader: &Identity, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        let members = members(leader);
        members.iter().for_each(Identity::kill);
        if members.is_empty() || Instant::now() >= until {
            return members.is_empty();
        }
        std::thread::sleep(BETWEEN_KILLS);
    }
}

/// Who is in the session. Its number is not given away again while it has members.
fn members(leader: &Identity) -> Vec<Identity> {
    let now = Identity::of(leader.pid);
    if now.is_some_and(|now| now != *leader) || crate::boot_id().is_ok_and(|boot| boot != leader.boot) {
        return Vec::new();
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|pid| session(*pid) == Some(leader.pid))
        .filter_map(Identity::of)
        .filter(|member| !member.wait_gone(Duration::ZERO))
        .collect()
}

/// Field 6 of /proc/PID/stat.
fn session(pid: i32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Daemon;

    fn shell(script: &str) -> Identity {
        let daemon = Daemon {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            account: None,
            directory: "/".into(),
            open_files: None,
            may_gain: crate::Capabilities::empty(),
            environment: vec![],
            log: None,
        };
        daemon.spawn().unwrap().identity
    }

    #[test]
    fn a_session_is_killed_with_all_that_it_started_and_without_its_leader() {
        for leader_dies in [false, true] {
            let leader = shell("sleep 600 & (sleep 600 & wait) & wait");
            while members(&leader).len() < 4 {
                std::thread::sleep(Duration::from_millis(5));
            }
            if leader_dies {
                leader.kill();
                assert!(leader.wait_gone(Duration::from_secs(5)));
                assert_eq!(members(&leader).len(), 3);
            }
            assert!(kill_session(&leader, Duration::from_secs(5)));
            assert!(members(&leader).is_empty());
        }
    }

    #[test]
    fn another_process_under_the_number_is_left_alone() {
        let other = shell("sleep 600");
        let leader = Identity { start_ticks: other.start_ticks - 1, ..other.clone() };
        assert!(kill_session(&leader, Duration::from_secs(1)));
        assert!(other.is_alive());
        other.kill();
    }

    /// The tests run in threads, so that they cannot show more; the contract tests do.
    #[test]
    fn a_process_with_threads_is_not_forked() {
        assert!(detach(|_| Ok(()), || ()).unwrap_err().contains("threads"));
    }
}
