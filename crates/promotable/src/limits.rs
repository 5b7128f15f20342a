//! The time limits that the agents of promotable databases share: each stands here once, with its reason. What one agent alone has to wait
//! for stands in its own `limits`.

use std::time::Duration;

/// How long a server may take to answer before it is looked at more closely. Much shorter than any operation's timeout, so that a frozen
/// primary is found within an interval and this.
pub const ANSWER: Duration = Duration::from_secs(3);
/// How long it may take to find out who listens on a socket.
pub const LISTENING: Duration = Duration::from_millis(500);
/// How long the candidate waits for the positions of the others in `promote`: all have been asked by then.
pub const HEARING: Duration = Duration::from_millis(1000);
/// The same in the notification before, for which the whole cluster waits. Who is late is heard in `promote`.
pub const HEARING_IN_NOTIFICATION: Duration = Duration::from_millis(100);
/// How long a replica waits for the end of what a dead primary sent: its last bytes are still in the socket.
pub const LAST_OF_STREAM: Duration = Duration::from_millis(150);
/// How long a candidate that was not promoted stays behind. Then it tries again: somebody may have come.
pub const STANDS_BACK: Duration = Duration::from_secs(10);
/// How long what a primary published of its writes is taken to be still there.
pub const WRITES_STAND: Duration = Duration::from_secs(120);
/// How long a published position is taken to be still there.
pub const POSITION_STANDS: Duration = Duration::from_secs(10);
/// How long HAProxy may take to pass nobody on to the old primary any more, and its sessions there to end, in the notification before a
/// demotion, for which the whole cluster waits.
pub const DRAINING: Duration = Duration::from_millis(300);
/// How long a server may stay silent in a demotion before it is ended: the successor waits for it.
pub const SILENT_IN_DEMOTION: Duration = Duration::from_millis(1500);
/// How long a dead primary that was started again stays no candidate, unless it attaches before: raising its score would abort the
/// transition that promotes its successor.
pub const HELD: Duration = Duration::from_secs(8);
/// How often a primary looks whether the record is still its own.
pub const REVIEW: Duration = Duration::from_secs(60);
/// What a server gets to end by itself even when no time is left.
pub const SHORTEST_GRACE: Duration = Duration::from_millis(500);
/// How long it is waited for a killed server to be gone, however little time is left: the kernel ends one in a moment, unless it hangs there.
pub const KILLED: Duration = Duration::from_secs(1);
/// How long it is waited for a server that did not come up and was killed.
const NOT_COME_UP: Duration = Duration::from_secs(2);
const SHORTEST_NOT_COME_UP: Duration = Duration::from_millis(200);

/// How long it is waited for a server that did not come up and was killed, when so much is left: never for nothing, so that the next start
/// does not meet it.
pub fn not_come_up(left: Duration) -> Duration {
    left.clamp(SHORTEST_NOT_COME_UP, NOT_COME_UP)
}

/// What one step may take, so that something can still be done after one that takes all of it: half of what is left of the action.
pub fn step(limit: Duration, left: Duration) -> Duration {
    limit.min(left / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_steps_uses_up_the_action() {
        let mut left = Duration::from_secs(20);
        assert_eq!(step(ANSWER, left), ANSWER);
        for _ in 0..100 {
            left -= step(ANSWER, left);
        }
        assert!(left > Duration::ZERO || step(ANSWER, left).is_zero());
    }
}
