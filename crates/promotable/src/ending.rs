//! How a server is ended: told to, and killed when it does not.

use std::time::Duration;

use ocf::{Context, Failure, Log, Outcome};
use process::Identity;

use crate::limits;

/// How long `stop` may wait for a server that ends by itself: for as long as `reserve` is left, for killing it and for what comes after that.
pub fn grace(context: &Context, reserve: Duration) -> Duration {
    context.deadline.reserving(reserve).left().max(limits::SHORTEST_GRACE)
}

/// Tells a server to end, and kills it when it has not after `grace`; without any it is killed at once. One that was killed may still be there:
/// see [`unless_gone`].
pub fn end_server(log: &Log, server: &Identity, grace: Duration) {
    log.notice(format!("stopping the server (pid {})", server.pid));
    if grace.is_zero() {
        return server.kill();
    }
    server.terminate();
    if !server.wait_gone(grace) {
        log.warning(format!("the server (pid {}) did not end within {} ms: killing it", server.pid, grace.as_millis()));
        server.kill();
    }
}

/// Tells a server to end and waits for that. `false` when it cannot: stopped by a signal, or the time is over.
pub fn end_in_order(server: &Identity, limit: Duration) -> bool {
    let until = std::time::Instant::now() + limit;
    server.terminate();
    while std::time::Instant::now() < until && server.state() != process::State::Frozen {
        if server.wait_gone(Duration::from_millis(50)) {
            return true;
        }
    }
    false
}

/// Fails when a server that was killed is still there after what is left of the time: what comes after a stop may use the data.
///
/// # Errors
/// That it hangs in the kernel. The node is fenced then.
pub fn unless_gone<'a>(context: &Context, servers: impl IntoIterator<Item = &'a Identity>) -> Outcome {
    let limit = context.deadline.left().max(limits::KILLED);
    let until = std::time::Instant::now() + limit;
    let left = || until.saturating_duration_since(std::time::Instant::now());
    match servers.into_iter().find(|server| !server.wait_gone(left())) {
        None => Ok(()),
        Some(server) => {
            Err(Failure::generic(format!("the server (pid {}) cannot be killed: it hangs in the kernel, probably on its disk", server.pid)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use ocf::Environment;

    use super::*;

    /// Ends one that runs this, and returns by which signal it ended, and how long that took.
    fn ended(script: &str, grace: Duration) -> (Option<i32>, Duration) {
        use std::os::unix::process::ExitStatusExt as _;
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let server = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        // Until it is at its last word.
        while server.program().is_none_or(|program| !program.ends_with("sleep")) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let begin = Instant::now();
        let log = Log::open("test", "stop", &Environment::from_pairs([("HA_LOGFACILITY".to_owned(), "none".to_owned())]));
        end_server(&log, &server, grace);
        (child.wait().unwrap().signal(), begin.elapsed())
    }

    #[test]
    fn a_server_is_told_to_end_and_killed_when_it_does_not() {
        let long = Duration::from_secs(60);
        let (signal, took) = ended("exec sleep 600", long);
        assert!(signal == Some(15) && took < long, "{signal:?} {took:?}");
        let grace = Duration::from_millis(100);
        let (signal, took) = ended("trap '' TERM; exec sleep 600", grace);
        assert!(signal == Some(9) && took >= grace, "{signal:?} {took:?}");
        assert_eq!(ended("exec sleep 600", Duration::ZERO).0, Some(9));
    }
}
