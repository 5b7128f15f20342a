//! What an instance does, and nothing that does it: no clock, no process, no socket.
//!
//! Each action of Pacemaker is an `async fn` of [`Instance`], in the file of its name. Where it needs something told or done it asks for an
//! [`Effect`], and goes on with the [`Event`] that says what came of it. `engine` carries effects out on this machine; `model` carries them
//! out in a world of its own, in every order, and ends an action after any of them.
//!
//! Each effect may be the last one that is carried out, so the order of them is what keeps the data: see the head of each file.

mod acknowledging;
mod demote;
mod identity;
mod members;
mod monitor;
mod notify;
mod promote;
mod replication;
mod start;
mod succession;

#[cfg(test)]
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ocf::{Failure, Outcome};
use pacemaker::{Disks, Score};
use process::Identity;
pub(crate) use promotable::{Level, Moment};
use promotable::{NotReplaced, Port};

use crate::dialect::Dialect;
use crate::election::Position;
use crate::gtid::Gtids;
use crate::limits;
use crate::membership::Membership;
use crate::observation::{Observation, Replica};
use crate::params::Params;
use crate::premises::Wanted;
use crate::record::{Durability, Record};
use crate::server::{Attached, Fault, SemiSyncStatus};
use crate::state::State;

pub(crate) use monitor::Alone;

/// What an action asks for.
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
    /// Say why a replica cannot be told its password.
    CheckPassword(Box<Dialect>),
    /// What stands open. Answered by [`Event::Texts`].
    Exposed,

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
    /// Start the server, closed, remember it with this state before it runs, and wait so long for its answer. Answered by
    /// [`Event::Launched`].
    Launch(Box<State>, Duration),
    /// Tell the server's process to end, and wait for this time.
    Terminate(Identity, Duration),
    /// Kill it.
    Kill(Identity),
    /// Wait until it will never run again. Answered by [`Event::Flag`].
    Dead(Identity, Duration),
    /// Let it stand back where others want the processor as well (`true`), or not any more.
    StandBack(Identity, bool),
    /// See that a crash of it is noticed at once.
    Watch(Identity, Option<Disks>),
    /// Whether the disk of the data is as good as full. Answered by [`Event::Flag`].
    IsCramped,

    /// Read the record. Answered by [`Event::Record`].
    ReadRecord,
    /// Put a record in the place of another. Answered by [`Event::Replaced`].
    ReplaceRecord(Option<Record>, Record),
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

/// What holds for an action from its beginning to its end.
#[derive(Clone, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) params: &'a Params,
    /// This node's name.
    pub(crate) node: Result<String, Failure>,
    /// Whether there is a cluster.
    pub(crate) clustered: bool,
    /// Whether somebody only wants to know: nothing is changed.
    pub(crate) probe: bool,
    /// How thoroughly a monitor looks.
    pub(crate) check_level: u32,
    /// How many servers there are, when the cluster said it.
    pub(crate) servers: Option<u32>,
    /// The command with which an operator names the node whose data are right.
    pub(crate) decide: String,
    /// The command that takes the record away.
    pub(crate) withdrawal: String,
}

impl Rules<'_> {
    /// What a server has to be able to do. Nobody is promised anything without a cluster.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted { lossless: self.params.lossless && self.clustered, acknowledgements: self.params.acknowledgements }
    }
}

/// An instance during one action.
#[derive(Debug)]
pub(crate) struct Instance<'a> {
    rules: &'a Rules<'a>,
    state: State,
    /// How the server is spoken to, since it was reached.
    dialect: Dialect,
    port: Port<Effect, (Event, Moment)>,
    moment: Moment,
}

/// The answer to another question: a defect of whoever carries effects out.
fn confused(event: &Event) -> String {
    format!("an effect was answered with {event:.200?}: this is a defect of the agent; please report it")
}

/// The same as what went wrong.
fn no_such_failure<T>(why: String) -> Result<T, Failure> {
    Err(Failure::generic(why))
}

fn no_such_fault<T>(why: String) -> Result<T, Fault> {
    Err(Fault::Refused(why))
}

/// The value of an answer that has this form.
macro_rules! answer {
    ($event:expr, $form:ident, $otherwise:expr) => {
        match $event {
            $crate::protocol::Event::$form(value) => value,
            other => $otherwise($crate::protocol::confused(&other)),
        }
    };
}
use answer;

impl<'a> Instance<'a> {
    /// An instance with its memory, at the beginning of an action.
    pub(crate) fn new(rules: &'a Rules<'a>, state: State, moment: Moment, port: Port<Effect, (Event, Moment)>) -> Self {
        let dialect = state.dialect.clone().unwrap_or_else(Dialect::unknown);
        Self { rules, state, dialect, port, moment }
    }

    fn params(&self) -> &'a Params {
        self.rules.params
    }

    fn me(&self) -> Result<&'a str, Failure> {
        self.rules.node.as_deref().map_err(Clone::clone)
    }

    fn is_me(&self, node: &str) -> bool {
        self.rules.node.as_ref().is_ok_and(|me| me == node)
    }

    fn now(&self) -> Duration {
        self.moment.now
    }

    fn left(&self) -> Duration {
        self.moment.left
    }

    /// As much of a limit as a step may take now.
    fn within(&self, limit: Duration) -> Duration {
        limits::step(limit, self.left())
    }

    /// How long ago something was; `None` counts as never.
    fn is_recent(&self, at: Option<Duration>, limit: Duration) -> bool {
        at.is_some_and(|at| self.now().saturating_sub(at) < limit)
    }

    async fn ask(&mut self, effect: Effect) -> Event {
        let (event, moment) = self.port.ask(effect).await;
        self.moment = moment;
        event
    }

    /// An effect of which only its failure is told.
    async fn perform(&mut self, effect: Effect) -> Outcome {
        answer!(self.ask(effect).await, Done, no_such_failure)
    }

    async fn log(&mut self, level: Level, text: impl Into<String>) {
        self.ask(Effect::Log(level, text.into())).await;
    }

    async fn notice(&mut self, text: impl Into<String>) {
        self.log(Level::Notice, text).await;
    }

    async fn warning(&mut self, text: impl Into<String>) {
        self.log(Level::Warning, text).await;
    }

    async fn error(&mut self, text: impl Into<String>) {
        self.log(Level::Error, text).await;
    }

    async fn milestone(&mut self, step: &'static str) {
        if cfg!(feature = "fault-points") {
            self.ask(Effect::Milestone(step)).await;
        }
    }

    async fn wait(&mut self, time: Duration) {
        self.ask(Effect::Wait(time)).await;
    }

    /// The server that a demotion started again stands back until somebody else is open: what takes over needs the processor now.
    async fn stand_back(&mut self, back: bool) {
        if let Some(process) = self.state.server.clone().filter(|_| self.state.held_until.is_some()) {
            self.ask(Effect::StandBack(process, back)).await;
        }
    }

    async fn save(&mut self) -> Outcome {
        self.perform(Effect::Save(Box::new(self.state.clone()))).await
    }

    async fn save_if_other_than(&mut self, before: &State) -> Outcome {
        if self.state == *before { Ok(()) } else { self.save().await }
    }

    async fn tell(&mut self, word: Word) -> Result<(), Fault> {
        answer!(self.ask(Effect::Tell(word)).await, Told, no_such_fault)
    }

    /// The server's process, if one runs. Whatever was remembered of another is forgotten.
    async fn find(&mut self) -> Option<Identity> {
        let found = answer!(self.ask(Effect::Find(self.state.server.clone())).await, Found, |_| None)?;
        if self.state.server.as_ref() != Some(&found) {
            let dying = self.still_there().await;
            let following = self.state.following.take();
            self.state = State { server: Some(found.clone()), answered: true, following, ..self.state.of_new_process(dying) };
        }
        Some(found)
    }

    /// The servers that were here, the last one included, as far as they still hold their data.
    async fn still_there(&mut self) -> Vec<Identity> {
        let all: Vec<Identity> = self.state.dying.iter().chain(&self.state.server).cloned().collect();
        if all.is_empty() {
            return all;
        }
        answer!(self.ask(Effect::StillThere(all.clone())).await, Processes, |_| all)
    }

    /// Looks at a server that is not known to be well.
    async fn look(&mut self, process: &Identity, limit: Duration) -> Sight {
        let (process, before, dialect) = (process.clone(), self.state.dying.clone(), self.state.dialect.clone());
        let sight = match self.ask(Effect::Look { process, before, dialect, limit }).await {
            Event::Sight(sight) => sight,
            other => Sight::Refuses(Fault::Refused(confused(&other))),
        };
        match sight {
            Sight::Answered(seen, dialect) => {
                self.dialect = (*dialect).clone();
                Sight::Answered(seen, dialect)
            }
            // Recovery may take long, and nobody listens meanwhile.
            Sight::Deaf { alive: true, .. } if !self.state.answered => Sight::Engaged("it is recovering its data".into()),
            other => other,
        }
    }

    /// Connects to a server that is known to run, in the place of a connection that there may be.
    async fn reach(&mut self, limit: Duration) -> Result<(), Fault> {
        let known = self.state.dialect.clone();
        self.dialect = *answer!(self.ask(Effect::Reach(known, self.within(limit))).await, Reached, no_such_fault)?;
        Ok(())
    }

    async fn observe(&mut self) -> Result<Box<Observation>, Fault> {
        answer!(self.ask(Effect::Observe).await, Observed, no_such_fault)
    }

    async fn replica(&mut self) -> Result<Option<Box<Replica>>, Fault> {
        answer!(self.ask(Effect::Replica).await, Replica, no_such_fault)
    }

    async fn executed(&mut self) -> Result<Gtids, Fault> {
        answer!(self.ask(Effect::Executed).await, Set, no_such_fault)
    }

    async fn logged(&mut self) -> Result<Gtids, Fault> {
        answer!(self.ask(Effect::Logged).await, Set, no_such_fault)
    }

    async fn semi_sync(&mut self) -> Result<SemiSyncStatus, Fault> {
        answer!(self.ask(Effect::SemiSync).await, SemiSync, no_such_fault)
    }

    async fn count(&mut self, effect: Effect) -> Result<usize, Fault> {
        answer!(self.ask(effect).await, Counted, no_such_fault)
    }

    async fn texts(&mut self, effect: Effect) -> Vec<String> {
        answer!(self.ask(effect).await, Texts, |why| vec![why])
    }

    async fn flag(&mut self, effect: Effect) -> bool {
        answer!(self.ask(effect).await, Flag, |_| false)
    }

    async fn record(&mut self) -> Result<Option<Record>, Failure> {
        answer!(self.ask(Effect::ReadRecord).await, Record, no_such_failure)
    }

    /// Puts a record in the place of the one that it was made from.
    ///
    /// Meanwhile the memory holds none: whoever comes after an agent that was killed here reads what there is.
    async fn replace_record(&mut self, before: Option<&Record>, record: &Record) -> Outcome {
        let known = self.state.record.take();
        self.save().await?;
        let replaced = match self.ask(Effect::ReplaceRecord(before.cloned(), record.clone())).await {
            Event::Replaced(replaced) => replaced,
            other => Err(NotReplaced::Failed(Failure::generic(confused(&other)))),
        };
        self.state.record = match &replaced {
            Ok(()) => Some(record.clone()),
            // By an action of this node that was killed before it could remember that.
            Err(NotReplaced::Changed(Some(found))) if self.state.reigns(found) => Some(found.clone()),
            Err(_) => known,
        };
        self.save().await?;
        replaced.map_err(NotReplaced::into_failure)?;
        if self.rules.clustered {
            self.notice(format!("recorded: {record}")).await;
        }
        Ok(())
    }

    /// Publishes this node's score; whoever could not is told by the log, and the next monitor tries again.
    async fn offer(&mut self, score: Score) {
        if let Err(e) = self.perform(Effect::Score(score)).await {
            self.warning(format!("the promotion score cannot be published: {e}")).await;
        }
    }

    async fn copy_is_unfinished(&mut self) -> bool {
        self.flag(Effect::CopyIsUnfinished).await
    }

    async fn is_cramped(&mut self) -> bool {
        self.flag(Effect::IsCramped).await
    }

    /// Where the server of a node is reached by its replicas.
    async fn address_of(&mut self, node: &str) -> String {
        if let Some(known) = self.state.addresses.get(node) {
            return known.clone();
        }
        match answer!(self.ask(Effect::AddressOf(node.to_owned())).await, Address, no_such_failure) {
            Ok(given) => {
                let address = given.unwrap_or_else(|| node.to_owned());
                self.state.addresses.insert(node.to_owned(), address.clone());
                address
            }
            Err(failure) => {
                self.warning(failure.reason).await;
                node.to_owned()
            }
        }
    }

    /// How many replicas the server really waits for: not every one can be told a number.
    fn acknowledgements(&self) -> usize {
        if self.dialect.counts_acknowledgements() { self.params().acknowledgements } else { 1 }
    }

    /// What this server's clients are promised.
    fn durability(&self) -> Durability {
        if self.params().lossless && self.dialect.can_be_lossless() { Durability::Lossless } else { Durability::AsyncAllowed }
    }

    /// Whether this server's commits must wait for replicas.
    fn must_wait(&self) -> bool {
        self.state.dialect.as_ref().is_some_and(Dialect::can_be_lossless) && self.rules.wanted().lossless
    }
}

/// Names in a sentence.
fn list(nodes: &BTreeSet<String>) -> String {
    if nodes.is_empty() { "nobody".to_owned() } else { nodes.iter().cloned().collect::<Vec<_>>().join(", ") }
}

/// The path of a disk, if one hangs.
fn hanging(texts: Vec<String>) -> Option<PathBuf> {
    texts.into_iter().next().map(PathBuf::from)
}
