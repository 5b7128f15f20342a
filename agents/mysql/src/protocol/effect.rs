//! What an action asks for, and what it is told: the whole of what an instance can do to the world, and see of it.
//!
//! Effects are grouped by what carries them out, so that each of these can say what it does with every effect of its group, and the compiler
//! finds one that nobody carries out.

use std::collections::BTreeMap;
use std::time::Duration;

use ocf::{Failure, Outcome};
use pacemaker::{Disks, Score};
use process::Identity;
use promotable::{Level, NotReplaced};

use crate::dialect::Dialect;
use crate::election::Position;
use crate::gtid::Gtids;
use crate::membership::Membership;
use crate::observation::{Observation, Replica};
use crate::record::Record;
use crate::server::{Attached, Fault, SemiSyncStatus};
use crate::state::State;

/// What an action asks for. Where nothing else is said, [`Event::Done`] answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    /// Write this into the log.
    Log(Level, String),
    /// Here a test may kill the agent.
    Milestone(&'static str),
    /// Wait.
    Wait(Duration),
    /// Remember this until the next boot.
    Save(Box<State>),
    /// Of the server's process, or to it.
    OfProcess(OfProcess),
    /// Of the server, over the connection that there is.
    OfServer(OfServer),
    /// Of the cluster.
    OfCluster(OfCluster),
    /// Of this machine: files, and what stands in them.
    OfHost(OfHost),
}

/// Each group stands for its effect.
macro_rules! groups {
    ($($group:ident),*) => {$(
        impl From<$group> for Effect {
            fn from(effect: $group) -> Self {
                Self::$group(effect)
            }
        }
    )*};
}
groups!(OfProcess, OfServer, OfCluster, OfHost);

/// What is asked of the server's process, or done to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OfProcess {
    /// Find the process of the server, which was this one. Answered by [`Event::Found`].
    Find(Option<Identity>),
    /// Say which of these still hold their data. Answered by [`Event::Processes`].
    StillThere(Vec<Identity>),
    /// Say why a server that somebody else started must not be taken charge of. Answered by [`Event::Texts`].
    Objections(Identity),
    /// Say which directory's disk hangs under this server. Answered by [`Event::Texts`].
    HangingDisk(Identity),
    /// Look at the server's process and ask it. Answered by [`Event::Sight`].
    Look {
        process: Identity,
        /// Servers that were here before it, and may still be.
        before: Vec<Identity>,
        dialect: Option<Dialect>,
        limit: Duration,
    },
    /// Connect to a server that is known to run. Answered by [`Event::Reached`].
    Reach(Option<Dialect>, Duration),
    /// Start the server, closed, remember it with this state before it runs, and wait so long for its answer. Answered by
    /// [`Event::Launched`].
    Launch(Box<State>, Duration),
    /// Tell the server's process to end, and wait for this time. Answered by [`Event::Flag`].
    Terminate(Identity, Duration),
    /// Kill it.
    Kill(Identity),
    /// Wait until it will never run again. Answered by [`Event::Flag`].
    Dead(Identity, Duration),
    /// Let it stand back where others want the processor as well (`true`), or not any more.
    StandBack(Identity, bool),
    /// See that a crash of it is noticed at once.
    Watch(Identity, Option<Disks>),
}

/// What is asked of the server over its connection, or told to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OfServer {
    /// Ask what a look asks. Answered by [`Event::Observed`].
    Observe,
    /// Ask how its replication stands. Answered by [`Event::Replica`].
    Replica,
    /// Ask for the transactions in its own log. Answered by [`Event::Set`].
    Executed,
    /// The same, commits that wait for an acknowledgement included. Answered by [`Event::Set`].
    Logged,
    /// Ask how semi-synchronous replication stands on the source's side. Answered by [`Event::SemiSync`].
    SemiSync,
    /// Ask which replicas are connected. Answered by [`Event::Attached`].
    Attached,
    /// Whether the connection can still be used. Answered by [`Event::Flag`].
    IsConnected,
    /// Tell the server. Answered by [`Event::Told`].
    Tell(Word),
    /// Stop the receiver with everything that the source sent before it ended; `true` when that is known to be here. Answered by
    /// [`Event::Observed`].
    Rest(Box<Replica>, bool),
    /// Whether an applier waits for a lock that a client may hold. Answered by [`Event::Asked`].
    ApplierWaits,
    /// End the sessions of clients. Answered by [`Event::Counted`].
    CutClients,
    /// Count the commits that wait for an acknowledgement and do not get on for this time. Answered by [`Event::Counted`].
    StuckCommits(Duration),
    /// Count the sessions that are at this. Answered by [`Event::Counted`].
    Running(Statement),
    /// Keep new commits from joining those that wait. Answered by [`Event::Asked`].
    HoldCommits(Option<Dialect>),
    /// End the sessions whose commits wait while a backup waits for them. Answered by [`Event::Counted`].
    EndWaiting(Duration),
    /// Tell those who wait that all is well, as long as so many of these sets hold all that is logged. Answered by [`Event::Counted`].
    ReleaseWaiting { held: Vec<Gtids>, enough: usize, limit: Duration },
    /// Load what the server needs, and look at it then. Answered by [`Event::Equipped`].
    Equip,
}

/// What is asked of the cluster, or published there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OfCluster {
    /// Read the record. Answered by [`Event::Record`].
    ReadRecord,
    /// Put a record in the place of another. Answered by [`Event::Replaced`].
    ReplaceRecord(Option<Box<Record>>, Box<Record>),
    /// Publish this node's promotion score.
    Score(Score),
    /// Publish that of another node.
    ScoreOf(String, Score),
    /// Publish something of this node.
    Publish(Attribute),
    /// Publish the reader attribute.
    PublishReadable(bool),
    /// Read the positions. Answered by [`Event::Positions`].
    Positions,
    /// Read what the replicas tell. Answered by [`Event::Memberships`].
    Memberships,
    /// Read the ids of the nodes' servers. Answered by [`Event::ServerIds`].
    ServerIds,
    /// Read where the server of a node is reached, if that is not by its name. Answered by [`Event::Address`].
    AddressOf(String),
}

/// What is asked of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OfHost {
    /// Say which file the server's options are in. Answered by [`Event::Texts`].
    OptionFile,
    /// Say why a server must not be started with this configuration.
    MayStart,
    /// Whether no server can be started before a copy has been made. Answered by [`Event::Whether`].
    NeedsCopyFirst,
    /// Whether a copy was begun and not ended. Answered by [`Event::Flag`].
    CopyIsUnfinished,
    /// Make the data directory when it holds no database and the operator wants that.
    MakeData,
    /// Whether the disk of the data is as good as full. Answered by [`Event::Flag`].
    IsCramped,
    /// What stands open. Answered by [`Event::Texts`].
    Exposed,
    /// Say why a replica cannot be told its password.
    CheckPassword(Box<Dialect>),
}

/// What a node publishes of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attribute {
    Position(Box<Position>),
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

/// What came of an effect. An effect that says nothing else is answered by `Done`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Done(Outcome),
    Told(Result<(), Fault>),
    Found(Option<Identity>),
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
    Record(Result<Option<Record>, Failure>),
    Replaced(Result<(), NotReplaced<Record>>),
    Positions(Result<BTreeMap<String, Position>, Failure>),
    Memberships(Result<BTreeMap<String, Membership>, Failure>),
    ServerIds(Result<BTreeMap<String, String>, Failure>),
    Address(Result<Option<String>, Failure>),
    Whether(Result<bool, Failure>),
    Texts(Vec<String>),
    Flag(bool),
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
