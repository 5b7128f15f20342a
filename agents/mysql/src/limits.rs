//! Every time limit of the agent: how long it waits for what, and why. What they add up to for each action is checked by the tests here
//! against the timeouts that the agent advertises.

use std::time::Duration;

pub(crate) use promotable::limits::{
    ANSWER, HEARING, HEARING_IN_NOTIFICATION, HELD, KILLED, LAST_OF_STREAM, POSITION_STANDS, REVIEW, SILENT_IN_DEMOTION, STANDS_BACK, step,
};

/// How long a server may take to answer in a notification: the whole cluster waits.
pub(crate) const ANSWER_IN_NOTIFICATION: Duration = Duration::from_millis(700);
/// How long its recovery may take when every write will wait for this server: nothing is gained by going on without it.
pub(crate) const ANSWER_WHEN_NEEDED: Duration = Duration::from_secs(5);
/// How long each attempt to reach a server takes that is just coming up.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(1000);
/// How long the question takes at a stop whether a server has to be killed.
pub(crate) const ANSWER_AT_STOP: Duration = Duration::from_secs(1);
/// How often it is tried to get into a full queue of connections, which the kernel refuses at once.
pub(crate) const ELBOWING: Duration = Duration::from_millis(20);
/// How often waiting commits are looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(100);
/// How long a connection may take to say good-bye.
pub(crate) const GOOD_BYE: Duration = Duration::from_millis(50);

/// How long `start` waits for the server's recovery. A server that recovers is alive: the cluster must not wait for it
/// while another instance could be promoted. The monitor follows it from there.
pub(crate) const RECOVERY: Duration = Duration::from_secs(20);
/// What of a start is left for what follows the recovery.
pub(crate) const AFTER_RECOVERY: Duration = Duration::from_secs(3);
/// How often a waiting action says what the server is at.
pub(crate) const PROGRESS: Duration = Duration::from_secs(5);
/// How long the server's program may take to say its version.
pub(crate) const VERSION: Duration = Duration::from_secs(10);
/// How long a start that waits for nothing waits all the same for a killed server to let go of the data: a small one does it in this time.
pub(crate) const LETTING_GO: Duration = Duration::from_millis(100);
/// How long a server that was started waits for its connection, and to be recorded: the whole cluster waits.
pub(crate) const RECORDED_AT_START: Duration = Duration::from_millis(500);

/// How long a server that has not come up yet may take to end.
pub(crate) const STARTING_GRACE: Duration = Duration::from_secs(15);
/// How long before the deadline of `stop` the server is killed.
pub(crate) const KILL_RESERVE: Duration = Duration::from_secs(6);
/// How long a server that nobody has used may take to end.
pub(crate) const ENDS_AT_ONCE: Duration = Duration::from_secs(10);

/// How long a server may take to become read-only before the sessions that may keep it from that are ended, and once
/// more after they are. What is written meanwhile is not lost, but the clients wait.
pub(crate) const CLOSING: Duration = Duration::from_millis(500);
/// How long commits may wait for replicas that are there: a replica whose disk stalls for a moment is no reason to kill its primary.
pub(crate) const PLANNED: Duration = Duration::from_millis(1500);
/// How long the applier of a candidate may stand still before the sessions of clients are ended, one of which may hold a lock that it needs.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(2);
/// What remains of a promotion's time for what follows the applier.
pub(crate) const AFTER_DRAIN: Duration = Duration::from_secs(4);
/// Stopping a receiver that is writing to a slow disk takes its time, and stopping a replica waits for the transaction that it is applying.
pub(crate) const STOPPING: Duration = Duration::from_secs(5);
/// How long that may take when nothing keeps it.
pub(crate) const STOPS_BY_ITSELF: Duration = Duration::from_millis(700);
/// Stopping a receiver in a notification, for which the whole cluster waits.
pub(crate) const STOPPING_IN_NOTIFICATION: Duration = Duration::from_secs(2);
/// How long the last words of a demoted primary may take to arrive. A node that was lost has none.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(60);
/// How long a replica waits until it has everything of a primary that was demoted in order.
pub(crate) const EVERYTHING: Duration = Duration::from_secs(2);

/// How long the members that stay may take to acknowledge the barrier. It is tried again with the next monitor.
pub(crate) const BARRIER: Duration = Duration::from_millis(500);
/// How long sessions that wait may take to end.
pub(crate) const SESSIONS_END: Duration = Duration::from_secs(1);
/// How soon a statement that need not wait has ended.
pub(crate) const MOMENT: Duration = Duration::from_millis(50);
/// How long the replicas may take to attach to a new primary before it is said that nobody acknowledges.
pub(crate) const ARRIVING: Duration = Duration::from_secs(5);
/// What must be left of a monitor for those that want to enter the record or leave it: the next one sees to them otherwise.
pub(crate) const TO_GO_ON: Duration = Duration::from_millis(500);
/// How long a server that was started may take to connect before the cluster goes on without it.
pub(crate) const CONNECTING: Duration = Duration::from_millis(300);
/// How often the replicas' wishes are looked up although everything seems settled: MySQL counts acknowledging replicas
/// that are gone for a while.
pub(crate) const ASKED_EVERY: Duration = Duration::from_secs(120);
/// How long primary and replica wait for each other when every write waits for them. After a promotion both are asked at once.
pub(crate) const MEETING: Duration = Duration::from_secs(2);
/// How often they look.
pub(crate) const MEETING_STEP: Duration = Duration::from_millis(50);
/// How long a server whose data were copied tries to acknowledge beside its monitors. The primary's next monitor comes in this time.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// How often it tries.
pub(crate) const SOON_STEP: Duration = Duration::from_millis(500);

/// How long what a replica told of its membership is taken to be still there: Pacemaker may have been restarted meanwhile.
pub(crate) const MEMBERSHIP_STANDS: Duration = Duration::from_secs(120);
/// The same of the reader attribute.
pub(crate) const READABLE_STANDS: Duration = Duration::from_secs(120);
/// The same of how the server is known to the other nodes.
pub(crate) const SERVER_ID_STANDS: Duration = Duration::from_secs(600);

/// How long a copy may take: for ever, for all that a deadline can hold.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);
/// How long the processes of a copy that is broken off may take to be gone.
pub(crate) const BREAKING_OFF: Duration = Duration::from_secs(5);
/// How long a server may take to end before its data are replaced.
pub(crate) const BEFORE_COPY: Duration = Duration::from_secs(20);
/// How long the question whether a copy can be made may take.
pub(crate) const CHECKING: Duration = Duration::from_secs(120);
/// How long what a node publishes may take to be known to the others.
pub(crate) const KNOWN: Duration = Duration::from_secs(1);
/// How often a node that waits for another one's copy looks.
pub(crate) const WAITING: Duration = Duration::from_secs(5);
/// The pause after a copy that failed; it doubles with each.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest of them.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How long a primary may take to record transactions of another origin: its monitor does that.
pub(crate) const RECORDING: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use ocf::{Deadline, ResourceAgent as _};

    use super::*;
    use crate::agent::MySql;

    /// What a call of a cluster tool takes where they are slow and do not hang.
    const TOOL: Duration = Duration::from_millis(500);

    /// What an action waits for. Files and the kernel take no time, and as many sessions as are ended are one statement.
    #[derive(Clone, Copy, Debug)]
    enum Wait {
        /// Until it is known who listens on the socket.
        Listener,
        /// For a connection, and for what is asked with it, within this.
        Look(Duration),
        /// For so many statements, each for as long as a server may take.
        Statements(u32),
        /// For a statement with a limit of its own.
        Within(Duration),
        /// For something that may not come, with so many statements in the last look.
        Loop(Duration, u32),
        /// For cluster tools.
        Calls(u32),
        /// For this, with so much left for what follows.
        Recovery(Duration),
        /// Nothing more up to [`Wait::Then`] without so much time.
        If(Duration),
        /// In any case.
        Then,
        /// Without regard to what is left.
        Always(Duration),
        /// Until so much is left.
        Reserve(Duration),
        /// For the end of a process, until the end, and for this at least.
        End(Duration),
    }

    use Wait::{Always, Calls, End, If, Listener, Look, Loop, Recovery, Reserve, Statements, Then, Within};

    /// Taking charge of a server: dialect, plugins of semi-synchronous replication and for copies, filters, directories, the look.
    const TAKE_CHARGE: &[Wait] = &[Statements(28)];
    /// A statement at which the connection may be given up, and another connection.
    const GIVEN_UP: &[Wait] = &[Look(ANSWER)];
    /// What is known of an election: the record.
    const RECORD: &[Wait] = &[Calls(1)];
    /// The record is replaced: the property, the set that it goes into, what stands there then.
    const REPLACE_RECORD: &[Wait] = &[Calls(3)];
    /// A position at rest, published.
    const POSITION: &[Wait] = &[
        Listener,
        Look(ANSWER_IN_NOTIFICATION),
        Always(LAST_OF_STREAM),
        Statements(2),
        Within(STOPPING_IN_NOTIFICATION),
        Statements(4),
        Calls(1),
    ];
    /// The scores of a hand-over.
    const GIVE_WAY: &[Wait] = &[Calls(2)];
    /// Stopping a replica whose applier does not stop.
    const STOP_REPLICA: &[Wait] = &[Within(STOPS_BY_ITSELF), Look(ANSWER), Loop(STOPPING, 3)];
    /// Making a server follow, from one that follows another.
    const REJOIN: &[&[Wait]] =
        &[&[Calls(1), Statements(2), Within(STOPPING)], STOP_REPLICA, &[Statements(4), Calls(1), Statements(3), Statements(8)]];
    /// Closing one whose commits get on and whose sessions hold locks.
    const CLOSE: &[Wait] = &[
        Statements(1),
        Within(CLOSING),
        Look(ANSWER),
        Statements(3),
        Loop(PLANNED, 2),
        Statements(1),
        Within(CLOSING),
        Look(ANSWER),
        Statements(3),
        Within(Duration::from_millis(1000)),
    ];
    /// Starting the process, after one that is killed and still there.
    const LAUNCH_AT_ONCE: &[Wait] = &[Always(LETTING_GO), Within(pacemaker::WATCHER_ENDING), Look(ATTEMPT), Statements(2)];
    /// On the primary: the record follows who may acknowledge.
    const MEMBERS: &[&[Wait]] = &[
        RECORD,
        REPLACE_RECORD,
        // Foreign transactions, or a log that is not durable.
        &[Statements(1)],
        REPLACE_RECORD,
        &[Statements(4), Calls(1)],
        // What waits and is held.
        &[Statements(4), Calls(1), Loop(SESSIONS_END, 3)],
        // What waits and does not get on.
        &[Statements(5), Within(BARRIER)],
        GIVEN_UP,
        &[Loop(SESSIONS_END, 4)],
        // Who wants in, who wants out.
        &[If(TO_GO_ON), Loop(MEETING, 0), Calls(1), Statements(3), Within(BARRIER)],
        GIVEN_UP,
        REPLACE_RECORD,
        &[Loop(CONNECTING, 1)],
        REPLACE_RECORD,
        &[Loop(MEETING, 0), Calls(1), Statements(2), Within(BARRIER)],
        GIVEN_UP,
        &[Statements(2), Then],
    ];

    /// The steps of each action and notification that follow each other in the longest of its ways.
    fn actions() -> Vec<(&'static str, u32, Vec<Wait>)> {
        let timeouts = MySql::DESCRIPTION.timeouts;
        let all = |parts: &[&[&[Wait]]]| parts.concat().concat();
        let score_and_watcher: &[Wait] = &[Calls(3), Within(pacemaker::WATCHER_ENDING)];
        let won: &[Wait] = &[Loop(HEARING_IN_NOTIFICATION, 0), Calls(1)];
        let restart: &[&[Wait]] = &[&[End(KILLED)], RECORD, &[Calls(1)], LAUNCH_AT_ONCE];
        vec![
            (
                "start",
                timeouts.start,
                all(&[
                    &[
                        &[Within(BREAKING_OFF), Listener, Calls(1)],
                        RECORD,
                        &[Recovery(RECOVERY), Recovery(RECOVERY), Look(ATTEMPT), Statements(2)],
                    ],
                    &[TAKE_CHARGE, &[Calls(1)], RECORD],
                    REJOIN,
                ]),
            ),
            (
                "start: it makes the data",
                timeouts.start,
                vec![Within(BREAKING_OFF), Listener, Calls(2), Within(VERSION), End(Duration::ZERO)],
            ),
            (
                "start: it does not come up",
                timeouts.start,
                vec![
                    Within(BREAKING_OFF),
                    Listener,
                    Calls(2),
                    Recovery(RECOVERY),
                    Recovery(RECOVERY),
                    Look(ATTEMPT),
                    End(Duration::from_millis(200)),
                ],
            ),
            (
                "stop",
                timeouts.stop,
                all(&[
                    &[&[Within(BREAKING_OFF), Always(pacemaker::WATCHER_ENDING), Calls(1), Listener, Look(ANSWER_AT_STOP)]],
                    &[CLOSE, &[Statements(1), Reserve(KILL_RESERVE), End(KILLED), Calls(1)]],
                ]),
            ),
            (
                "promote",
                timeouts.promote,
                all(&[
                    &[&[Listener, Look(ANSWER), Statements(2)], TAKE_CHARGE, RECORD, &[Loop(HEARING, 0), Calls(1)], POSITION],
                    &[&[Within(STOPPING), Within(STOPPING), Statements(5), Reserve(AFTER_DRAIN), Statements(4)], STOP_REPLICA],
                    &[&[Statements(7)], REPLACE_RECORD, &[Statements(2)]],
                ]),
            ),
            (
                "promote: not elected",
                timeouts.promote,
                all(&[&[&[Listener, Look(ANSWER), Statements(2)], TAKE_CHARGE, RECORD, &[Loop(HEARING, 0), Calls(1)], POSITION, GIVE_WAY]]),
            ),
            (
                "demote",
                timeouts.demote,
                all(&[
                    &[&[Listener, Look(SILENT_IN_DEMOTION)], CLOSE, &[Statements(2), Loop(Duration::from_millis(250), 1)], RECORD],
                    &[&[Calls(1)]],
                ]),
            ),
            ("demote: it cannot be closed", timeouts.demote, all(&[&[&[Listener, Look(SILENT_IN_DEMOTION)], CLOSE], restart])),
            (
                "monitor of a primary",
                timeouts.monitor,
                all(&[&[&[Listener, Look(ANSWER)], TAKE_CHARGE, &[Calls(2)]], MEMBERS, &[score_and_watcher]]),
            ),
            (
                "monitor of a replica",
                timeouts.monitor,
                all(&[&[&[Listener, Look(ANSWER)], TAKE_CHARGE, &[Calls(2), Within(STOPPING), Calls(3)]], REJOIN, &[score_and_watcher]]),
            ),
            (
                "notify: a primary was demoted",
                timeouts.notify,
                all(&[
                    &[&[Always(LAST_WORDS), Calls(1)], RECORD, &[Listener, Look(ANSWER_IN_NOTIFICATION), Loop(EVERYTHING, 2)], POSITION],
                    &[won, GIVE_WAY],
                ]),
            ),
            ("notify: one is about to be promoted", timeouts.notify, all(&[&[RECORD, won, POSITION, won, GIVE_WAY]])),
            (
                "notify: one was promoted",
                timeouts.notify,
                all(&[
                    &[&[Listener], RECORD, &[Loop(ANSWER_WHEN_NEEDED, 0), Look(ANSWER_IN_NOTIFICATION)], TAKE_CHARGE, &[Statements(2)]],
                    REJOIN,
                ]),
            ),
            ("notify: one was started", timeouts.notify, all(&[&[&[Look(ANSWER_IN_NOTIFICATION), Statements(2)]], MEMBERS])),
            (
                "notify: this one was started",
                timeouts.notify,
                vec![
                    Listener,
                    Look(ANSWER_IN_NOTIFICATION),
                    Loop(RECORDED_AT_START, 2),
                    Calls(2),
                    Loop(MEETING, 0),
                    Calls(1),
                    Within(STOPPING),
                    Statements(5),
                ],
            ),
        ]
    }

    /// The end of an action that began `begun` after its process, and in which everything takes as long as it may.
    fn end_of(waits: &[Wait], timeout: Duration, begun: Duration, tools_hang: bool) -> Duration {
        let end = timeout - Deadline::margin(timeout);
        let mut now = begun;
        // What a connection was made with holds for each of its statements.
        let mut answer = ANSWER;
        let mut out_of_time = false;
        for wait in [Calls(1)].iter().chain(waits) {
            out_of_time = match wait {
                If(needed) => end.saturating_sub(now) < *needed,
                Then => false,
                _ => out_of_time,
            };
            if out_of_time {
                continue;
            }
            let mut pass = |limit: Duration| now += step(limit, end.saturating_sub(now));
            match *wait {
                Listener => pass(promotable::limits::LISTENING),
                Look(limit) => {
                    pass(limit);
                    answer = limit;
                }
                Statements(number) => (0..number).for_each(|_| pass(answer)),
                Within(limit) => pass(limit),
                Loop(limit, number) => {
                    pass(limit);
                    (0..number).for_each(|_| pass(answer));
                }
                Calls(number) => {
                    for _ in 0..number {
                        let longest = pacemaker::longest_call(end.saturating_sub(now));
                        now += if tools_hang { longest } else { TOOL.min(longest) };
                    }
                }
                Always(time) => now += time,
                Recovery(limit) => now += limit.min(end.saturating_sub(now).saturating_sub(AFTER_RECOVERY)),
                If(_) | Then => {}
                Reserve(reserve) => now = now.max(end.saturating_sub(reserve)),
                End(least) => now += end.saturating_sub(now).max(least),
            }
        }
        now
    }

    /// Whether the actions end before Pacemaker kills them, whatever takes as long as it may; a quarter of the margin is left to say why one
    /// failed.
    #[test]
    fn no_action_outlives_its_timeout() {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let mut late = Vec::new();
        let head = ["action", "advertised timeout", "at most, cluster tools slow", "cluster tools hanging"].map(str::to_owned);
        let mut table = vec![head];
        for (action, timeout, waits) in actions() {
            let whole = Duration::from_secs(u64::from(timeout));
            let margin = Deadline::margin(whole);
            let [slow, hanging] = [false, true].map(|hang| end_of(&waits, whole, Duration::ZERO, hang));
            // Another action had the lock for as long as it is waited for.
            let begun = if action.starts_with("monitor") { Duration::ZERO } else { (whole - margin) / 2 };
            let locked = [false, true].map(|hang| end_of(&waits, whole, begun, hang));
            let longest = locked.into_iter().fold(slow.max(hanging), Duration::max);
            println!("{action}: {}, tools hang {}, locked {}", seconds(slow), seconds(hanging), seconds(longest));
            if longest > whole - margin / 4 {
                late.push(format!("{action}: {} of {timeout} s", seconds(longest)));
            }
            table.push([action.to_owned(), format!("{timeout} s"), seconds(slow), seconds(hanging)]);
        }
        assert!(late.is_empty(), "{}", late.join("\n"));
        assert_eq!(promotable::limits::check_documented("docs/mysql.md", &table), Ok(()));
    }
}
