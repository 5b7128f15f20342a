//! What an action asks for, and what it is told: the whole of what an instance can do to the world, and see of it.
//!
//! Effects are grouped by what carries them out, so that each of these can say what it does with every effect of its group, and the compiler
//! finds one that nobody carries out.

use std::collections::BTreeMap;
use std::time::Duration;

use ocf::Failure;
use pacemaker::Disks;
use process::Identity;

use crate::dialect::Dialect;
use crate::election::Position;
use crate::gtid::Gtids;
use crate::membership::Membership;
use crate::observation::{Observation, Replica};
use crate::params::Params;
use crate::record::Record;
use crate::reign::Note;
use crate::server::{Attached, Fault, SemiSyncStatus};
use crate::state::State;

/// Of what this protocol is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Database {}

impl promotable::Database for Database {
    type Params = Params;
    type State = State;
    type Record = Record;
    type Position = Position;
    type Asked = Asked;
    type Answer = Answer;
}

impl promotable::Position for Position {
    fn round(&self) -> &str {
        &self.round
    }

    fn print(&self) -> String {
        self.print()
    }

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

pub(crate) type Effect = promotable::Effect<Database>;
pub(crate) type Event = promotable::Event<Database>;
pub(crate) type OfCluster = promotable::OfCluster<Database>;
pub(crate) type Rules<'a> = promotable::Rules<'a, Params>;

/// What is asked for besides. Where nothing else is said, [`Event::Done`] answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    /// Here a test may kill the agent.
    Milestone(&'static str),
    /// Of the server's process, beside what is asked of any.
    OfDaemon(OfDaemon),
    /// Of the server, over the connection that there is.
    OfServer(OfServer),
    /// Of what nodes publish, beside their positions.
    OfAttributes(OfAttributes),
    /// Of this machine: files, and what stands in them.
    OfHost(OfHost),
}

/// Each group stands for its effect.
macro_rules! groups {
    ($($group:ident),*) => {$(
        impl From<$group> for Effect {
            fn from(effect: $group) -> Self {
                Self::Own(Asked::$group(effect))
            }
        }
    )*};
}
groups!(OfDaemon, OfServer, OfAttributes, OfHost);

/// What is asked of mysqld's process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OfDaemon {
    /// Say which of these still hold their data. Answered by [`Answer::Processes`].
    StillThere(Vec<Identity>),
    /// Say which directory's disk hangs under this server. Answered by [`Event::Texts`].
    HangingDisk(Identity),
    /// Look at the server's process and ask it. Answered by [`Answer::Sight`].
    Look {
        process: Identity,
        /// Servers that were here before it, and may still be.
        before: Vec<Identity>,
        dialect: Option<Dialect>,
        limit: Duration,
    },
    /// Connect to a server that is known to run. Answered by [`Answer::Reached`].
    Reach(Option<Dialect>, Duration),
    /// Start the server, closed, remember it with this state before it runs, and wait so long for its answer. Answered by
    /// [`Answer::Launched`].
    Launch(Box<State>, Duration),
    /// Wait until it will never run again. Answered by [`Event::Flag`].
    Dead(Identity, Duration),
}

/// What is asked of the server over its connection, or told to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OfServer {
    /// Ask what a look asks. Answered by [`Answer::Observed`].
    Observe,
    /// Ask how its replication stands. Answered by [`Answer::Replica`].
    Replica,
    /// Ask for the transactions in its own log. Answered by [`Answer::Set`].
    Executed,
    /// The same, commits that wait for an acknowledgement included. Answered by [`Answer::Set`].
    Logged,
    /// Ask how semi-synchronous replication stands on the source's side. Answered by [`Answer::SemiSync`].
    SemiSync,
    /// Ask which replicas are connected. Answered by [`Answer::Attached`].
    Attached,
    /// Whether the connection can still be used. Answered by [`Event::Flag`].
    IsConnected,
    /// Tell the server. Answered by [`Answer::Told`].
    Tell(Word),
    /// Stop the receiver with everything that the source sent before it ended; `true` when that is known to be here. Answered by
    /// [`Answer::Observed`].
    Rest(Box<Replica>, bool),
    /// Whether an applier waits for a lock that a client may hold. Answered by [`Answer::Asked`].
    ApplierWaits,
    /// End the sessions of clients. Answered by [`Answer::Counted`].
    CutClients,
    /// Count the commits that wait for an acknowledgement and do not get on for this time. Answered by [`Answer::Counted`].
    StuckCommits(Duration),
    /// Count the sessions that are at this. Answered by [`Answer::Counted`].
    Running(Statement),
    /// Keep new commits from joining those that wait. Answered by [`Answer::Asked`].
    HoldCommits(Option<Dialect>),
    /// End the sessions whose commits wait while a backup waits for them. Answered by [`Answer::Counted`].
    EndWaiting(Duration),
    /// Tell those who wait that all is well, as long as so many of these sets hold all that is logged. Answered by [`Answer::Counted`].
    ReleaseWaiting { held: Vec<Gtids>, enough: usize, limit: Duration },
    /// Note beside the data that it reigns, with the file of the log that is written to. Answered by [`Answer::Told`].
    NoteReign(Note),
    /// Load what the server needs, and look at it then. Answered by [`Answer::Equipped`].
    Equip,
}

/// What is asked of the attributes of nodes, and published there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OfAttributes {
    /// Publish something of this node.
    Publish(Attribute),
    /// Publish the reader attribute.
    PublishReadable(bool),
    /// Read the positions of whatever round. Answered by [`Event::Positions`].
    Positions,
    /// Read what the replicas tell. Answered by [`Answer::Memberships`].
    Memberships,
    /// Read the ids of the nodes' servers. Answered by [`Answer::ServerIds`].
    ServerIds,
    /// Read where the server of a node is reached, if that is not by its name. Answered by [`Answer::Address`].
    AddressOf(String),
}

/// What is asked of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OfHost {
    /// Say which file the server's options are in. Answered by [`Event::Texts`].
    OptionFile,
    /// Say why a server must not be started with this configuration.
    MayStart,
    /// Whether no server can be started before a copy has been made. Answered by [`Answer::Whether`].
    NeedsCopyFirst,
    /// Whether a copy, or taking back, was begun and not ended. Answered by [`Event::Flag`].
    RejoinIsUnfinished,
    /// Take away what was noted of a reign.
    ForgetReign,
    /// Say which names of transactions were taken back here, and may be given to others. Answered by [`Event::Texts`].
    GivenUp,
    /// Make the data directory when it holds no database and the operator wants that.
    MakeData,
    /// Whether the disk of the data is as good as full. Answered by [`Event::Flag`].
    IsCramped,
    /// What stands open. Answered by [`Event::Texts`].
    Exposed,
    /// Say why a replica cannot be told its password.
    CheckPassword(Box<Dialect>),
}

/// What a node publishes of itself beside its position.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attribute {
    Membership(Membership),
    ServerId(String),
}

/// What a session may be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Statement {
    /// The last step of a backup.
    Backup,
    Barrier,
}

/// What is said to the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    /// Wait for locks no longer than the agent has time.
    LockPatience,
    /// Let nobody write.
    CloseWrites(Duration),
    OpenWrites,
    EventScheduler(bool),
    StopReceiver,
    StartReceiver,
    StartApplier,
    /// Both.
    StopReplica(Option<Dialect>),
    StartReplica,
    /// Follow nobody, and throw away what was received.
    ForgetSource,
    /// Replicate from this address.
    Follow(String),
    /// Acknowledge what is received, or do not.
    Acknowledge(bool),
    /// Have each commit wait for so many replicas.
    WaitForReplicas(usize),
    WaitForNobody,
    /// Write what every waiting commit is before, and wait for it.
    Barrier,
    /// Have these transactions as its history.
    LearnHistory(Gtids),
    /// Be ready to be a source of copies, or to fetch one.
    LoadClone,
    /// Wait until the transactions of a closed server stand still.
    Settle,
    ReadTestTable(String),
}

/// What came of one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Told(Result<(), Fault>),
    Processes(Vec<Identity>),
    Sight(Sight),
    Reached(Result<Box<Dialect>, Fault>),
    Observed(Result<Box<Observation>, Fault>),
    Replica(Result<Option<Box<Replica>>, Fault>),
    Set(Result<Gtids, Fault>),
    SemiSync(Result<SemiSyncStatus, Fault>),
    Attached(Result<Vec<Attached>, Fault>),
    Asked(Result<bool, Fault>),
    Counted(Result<usize, Fault>),
    Equipped(Result<Box<Equipment>, Fault>),
    Launched(Result<Launched, Failure>),
    Memberships(Result<BTreeMap<String, Membership>, Failure>),
    ServerIds(Result<BTreeMap<String, String>, Failure>),
    Address(Result<Option<String>, Failure>),
    Whether(Result<bool, Failure>),
}

impl From<Answer> for Event {
    fn from(answer: Answer) -> Self {
        Self::Own(answer)
    }
}

/// What somebody finds who looks at the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sight {
    /// It answered, in these words.
    Answered(Box<Observation>, Box<Dialect>),
    /// It is alive and busy, and cannot be asked.
    Engaged(String),
    /// It is alive and says nothing, but it works.
    Working(String),
    /// It is alive and does nothing: stopped by a signal, stuck on its disk.
    Stuck(String),
    /// Nobody takes connections on the file of its socket.
    Deaf {
        why: String,
        alive: bool,
        /// Somebody listens, and the file is gone.
        listens: bool,
    },
    /// It refuses to talk to us.
    Refuses(Fault),
}

/// A server that was looked at when it had everything that it needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Equipment {
    pub(crate) seen: Observation,
    pub(crate) dialect: Dialect,
    /// What it leaves out of its binary log, empty for nothing.
    pub(crate) filters: String,
    /// The disks that it writes to.
    pub(crate) disks: Option<Disks>,
    /// Why its plugins cannot be loaded, if they cannot.
    pub(crate) unloaded: Option<String>,
    /// Why it cannot be told which its disks are.
    pub(crate) unknown_disks: Option<String>,
}

/// A server that was started.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Launched {
    /// As it was remembered, with the process.
    pub(crate) state: Box<State>,
    /// What it answered, if it has answered yet.
    pub(crate) seen: Option<(Box<Observation>, Box<Dialect>)>,
}
