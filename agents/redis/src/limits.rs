//! Every time limit of the agent: how long it waits for what, and why. What they add up to for each action is checked by
//! `protocol::slowest` against the timeouts that the agent advertises.

use std::time::Duration;

pub(crate) use promotable::limits::{
    ANSWER, HEARING, HEARING_IN_NOTIFICATION, HELD, KILLED, LAST_OF_STREAM, POSITION_STANDS, REVIEW, SILENT_IN_DEMOTION, step,
};

/// How long a server may take to answer in a notification: the whole cluster waits.
pub(crate) const ANSWER_IN_NOTIFICATION: Duration = Duration::from_millis(500);
/// How long each attempt to reach a server takes that is just coming up.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(500);
/// How long `start` waits for the data to be loaded. A server that loads is alive: the cluster must not wait for it
/// while another instance could be promoted.
pub(crate) const LOADING: Duration = Duration::from_secs(5);
/// How long a server that the agent has started may take until it listens.
pub(crate) const COMING_UP: Duration = Duration::from_secs(10);
/// The same for one that somebody else has started: it should be up.
pub(crate) const SOMEBODY_ELSES: Duration = Duration::from_secs(1);
/// How long a server may take to end that does not listen any more.
pub(crate) const ENDING: Duration = Duration::from_secs(1);
/// How long a process may outlive its connections when it was killed.
pub(crate) const LAST_MOMENT: Duration = Duration::from_millis(50);
/// How long a demotion waits for the replicas to catch up.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// How long a demotion waits for acknowledgements before it asks for them again.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How long the server itself holds writes back after the drain. Longer than what follows takes; the gate is closed anyway.
pub(crate) const PAUSE: Duration = Duration::from_secs(10);
/// How long a primary may take to begin its backlog.
pub(crate) const BACKLOG: Duration = Duration::from_millis(500);
/// How long it is waited for replicas to hold what those that leave may have confirmed. The next monitor looks again.
pub(crate) const HELD_BY_OTHERS: Duration = Duration::from_millis(200);
/// How long a replica's link may be down before an operator is told.
pub(crate) const LINK_DOWN: Duration = Duration::from_secs(10);
/// How long a replica may be away before it does not count as one that follows.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(60);
/// How long before the deadline of `stop` the server is killed.
pub(crate) const KILL_RESERVE: Duration = Duration::from_secs(4);
