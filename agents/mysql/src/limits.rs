//! Every time limit of the agent: how long it waits for what, and why. What they add up to for each action, `protocol::slowest` finds out by the
//! actions themselves and compares with the timeouts that the agent advertises.

use std::time::Duration;

pub(crate) use promotable::limits::{
    ANSWER, HEARING, HEARING_IN_NOTIFICATION, HELD, KILLED, LAST_OF_STREAM, POSITION_STANDS, REVIEW, SILENT_IN_DEMOTION, step,
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
/// How long a statement may take that takes rows back or compares them: as many as there are.
pub(crate) const REWINDING: Duration = Duration::from_secs(600);
/// How long a server that took something back may need until it has what the primary has.
pub(crate) const CATCHING_UP: Duration = Duration::from_secs(3600);
/// How long rows are looked at that change all the time.
pub(crate) const MOVING: Duration = Duration::from_secs(20);
/// How often.
pub(crate) const COMPARING_STEP: Duration = Duration::from_millis(50);
