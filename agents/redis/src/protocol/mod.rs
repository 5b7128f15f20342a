//! What an instance does, and nothing that does it: no clock, no process, no socket.
//!
//! Each action of Pacemaker is an `async fn` of [`Instance`], in the file of its name. Where it needs something told or done it asks for an
//! [`Effect`], and goes on with the [`Event`] that says what came of it. `engine` carries effects out on this machine; `model` carries them
//! out in a world of its own, in every order, and ends an action after any of them.
//!
//! Each effect may be the last one that is carried out, so the order of them is what keeps the data: see the head of each file.

mod demote;
mod members;
mod monitor;
mod notify;
mod promote;
mod start;
mod succession;

#[cfg(test)]
mod model;
#[cfg(test)]
mod slowest;

use std::collections::BTreeMap;
use std::time::Duration;

use ocf::{Failure, Outcome};
use pacemaker::Score;
use process::Identity;
pub(crate) use promotable::{Level, Moment};
use promotable::{NotReplaced, Port};

use crate::election::Position;
use crate::info::Info;
use crate::params::{Durability, Params};
use crate::record::Record;
use crate::server::{Fault, Observation};
use crate::state::State;

pub(crate) use start::at_start;

/// What an action asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    /// Write this into the log.
    Log(Level, String),
    /// Remember this until the next boot.
    Save(Box<State>),
    /// Find the process of the server, which was this one. Answered by [`Event::Found`].
    Find(Option<Identity>),
    /// Say why a server that somebody else started must not be taken charge of. Answered by [`Event::Texts`].
    Objections(Identity),
    /// Look at the server's process and ask it, within this time. Answered by [`Event::Sight`].
    Look(Identity, Duration),
    /// Ask for the server's replication part. Answered by [`Event::Replication`].
    Replication,
    /// Wait until nothing more comes from a primary that was demoted or is dead, and cut the link then. Answered by
    /// [`Event::Replication`].
    Rest(Box<Info>),
    /// Wait until this node, or every attached replica, has everything, and pause the server's own writes. Answered by [`Event::Drained`].
    Drain(Option<String>, Duration),
    /// Wait until so many attached replicas beside these nodes hold everything up to this offset. Answered by [`Event::Flag`].
    Held(usize, Vec<String>, u64),
    /// Tell the server. Answered by [`Event::Told`].
    Tell(Word),
    /// Say why a server must not be started with this configuration. Answered by [`Event::Done`].
    MayStart,
    /// Start the server as a replica of nobody that takes no writes, remember it with this state before it runs, and wait so long for its
    /// data. Answered by [`Event::Launched`].
    Launch(Box<State>, Duration),
    /// Give the server the login of replication.
    SetReplicationLogin,
    /// Keep the data files, of which this many bytes are nowhere else as far as that is known.
    KeepFiles(Option<u64>),
    /// Tell the server's process to end, and wait for this part of the time. Answered by [`Event::Flag`].
    Terminate(Identity, Duration),
    /// Kill it.
    Kill(Identity),
    /// Wait for its end. Answered by [`Event::Flag`].
    Gone(Identity, Duration),
    /// Let it stand back where others want the processor as well (`true`), or not any more.
    StandBack(Identity, bool),
    /// See that a crash of it is noticed at once.
    Watch(Identity),
    /// What an operator should correct though the server answers. Answered by [`Event::Texts`].
    Complaints,
    /// What is wrong with the configuration, if it cannot be read. Answered by [`Event::Texts`].
    Misconfiguration,
    /// Why the link to the primary is down, as far as the log tells. Answered by [`Event::Link`].
    LinkTrouble,
    /// Publish this node's promotion score.
    Score(Score),
    /// Publish that of another node.
    ScoreOf(String, Score),
    /// Publish this node's position.
    Publish(Box<Position>),
    /// Collect the positions of a round, until these nodes have spoken or the time is over. Answered by [`Event::Positions`].
    Hear(String, Vec<String>, Duration),
    /// Read the record. Answered by [`Event::Record`].
    ReadRecord,
    /// Put a record in the place of another. Answered by [`Event::Replaced`].
    ReplaceRecord(Option<Record>, Record),
    /// Wait.
    Wait(Duration),
}

/// What is said to the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    /// Let no client write, in the role of a primary.
    CloseGate,
    /// Let clients write while so many replicas are attached that reported within so many seconds.
    OpenGate(u32, u32),
    /// Replicate from the server of this node.
    Follow(String),
    /// Replicate from nobody; it is no primary then.
    FollowNobody,
    /// Take the role of a primary.
    BecomePrimary,
    /// Begin the backlog now, so that the first replica does not change the history.
    BeginBacklog,
    /// Have the settings of a server that the agent started. `true`: it is a replica.
    Adopt(bool),
    /// Cut the clients' connections.
    CutClients,
    /// End the pause of a demotion.
    ResumeWrites,
}

/// What came of an effect. An effect that says nothing else is answered by `Done`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Done(Outcome),
    Told(Result<(), Fault>),
    Found(Option<Identity>),
    Sight(Sight),
    Replication(Result<Box<Info>, Fault>),
    /// What was missing at the end.
    Drained(Result<Option<String>, Fault>),
    Launched(Result<(Identity, Option<Box<Observation>>), Failure>),
    Positions(Result<BTreeMap<String, Position>, Failure>),
    Record(Result<Option<Record>, Failure>),
    Replaced(Result<(), NotReplaced<Record>>),
    Link(LinkTrouble),
    Texts(Vec<String>),
    Flag(bool),
}

/// What somebody finds who looks at the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sight {
    /// It answered.
    Answered(Box<Observation>),
    /// It is alive and busy, and cannot be asked.
    Engaged(String),
    /// It says nothing, and works.
    Working(String),
    /// It is alive and does nothing: stopped by a signal, stuck on its disk.
    Stuck(String),
    /// It is alive and serves, and cannot be asked: a refused login, no free connection, a socket file that is gone, an answer that
    /// makes no sense. That the agent cannot see says nothing of the server.
    Unasked(Fault),
    /// It is alive, and nobody listens on its socket: it is about to end, or not up yet, or it is somebody else's.
    Deaf(String),
    /// It ended while it was looked at.
    Ended,
}

/// Why a replica does not reach its primary, as far as its log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LinkTrouble {
    /// The primary does not accept its login.
    Login,
    /// Nobody answers there.
    Network,
    /// The name is not known.
    Name,
    Unknown,
}

/// What holds for an action from its beginning to its end.
#[derive(Clone, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) params: &'a Params,
    pub(crate) resource: &'a str,
    /// This node's name.
    pub(crate) node: Result<String, Failure>,
    /// Whether there is a cluster.
    pub(crate) clustered: bool,
    /// Whether somebody only wants to know: nothing is changed.
    pub(crate) probe: bool,
    /// How many servers there are, when the cluster said it.
    pub(crate) servers: Option<u32>,
    /// The command with which an operator names the node whose data are right.
    pub(crate) decide: String,
    /// The command that takes the record away.
    pub(crate) withdrawal: String,
}

impl Rules<'_> {
    /// This node's name.
    fn me(&self) -> Result<&str, Failure> {
        self.node.as_deref().map_err(Clone::clone)
    }

    /// How many replicas must be attached for the gate to be open, and how old their last report may be.
    ///
    /// # Errors
    /// With durability=quorum, when nobody said how many servers there are: none would be as good as all.
    pub(crate) fn gate(&self) -> Result<(u32, u32), Failure> {
        let lag = self.params.replica_lag;
        match (self.params.durability, self.servers) {
            (Durability::Async, _) => Ok((0, lag)),
            (Durability::Quorum, Some(servers)) => Ok((servers / 2, lag)),
            (Durability::Quorum, None) => Err(Failure::generic(
                "durability=quorum needs the number of servers, and the cluster did not say it: make the resource a clone with meta clone-max",
            )),
        }
    }

    /// With durability=quorum, how many replicas make a majority together with the primary; `None` with async. Where nobody said how many
    /// servers there are, one: then whoever is silent may hold a confirmed write.
    fn confirmations(&self) -> Option<usize> {
        let servers = self.servers.unwrap_or(2);
        (self.params.durability == Durability::Quorum).then_some(servers as usize / 2)
    }
}

/// An instance during one action.
#[derive(Debug)]
pub(crate) struct Instance<'a> {
    rules: &'a Rules<'a>,
    state: State,
    port: Port<Effect, (Event, Moment)>,
    moment: Moment,
}

/// The answer to another question: a defect of whoever carries effects out.
fn confused(event: &Event) -> String {
    format!("an effect was answered with {event:?}: this is a defect of the agent; please report it")
}

/// The value of an answer that has this form.
macro_rules! answer {
    ($event:expr, $form:ident, $otherwise:expr) => {
        match $event {
            Event::$form(value) => value,
            other => $otherwise(confused(&other)),
        }
    };
}

impl<'a> Instance<'a> {
    /// An instance with its memory, at the beginning of an action.
    pub(crate) fn new(rules: &'a Rules<'a>, state: State, moment: Moment, port: Port<Effect, (Event, Moment)>) -> Self {
        Self { rules, state, port, moment }
    }

    fn me(&self) -> Result<&'a str, Failure> {
        self.rules.me()
    }

    fn now(&self) -> Duration {
        self.moment.now
    }

    fn left(&self) -> Duration {
        self.moment.left
    }

    async fn ask(&mut self, effect: Effect) -> Event {
        let (event, moment) = self.port.ask(effect).await;
        self.moment = moment;
        event
    }

    /// An effect of which only its failure is told.
    async fn perform(&mut self, effect: Effect) -> Outcome {
        answer!(self.ask(effect).await, Done, |why: String| Err(Failure::generic(why)))
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

    /// The server that a demotion started again stands back until somebody else is open: what takes over needs the processor now.
    async fn stand_back(&mut self, back: bool) {
        if let Some(process) = self.state.server.clone().filter(|_| self.state.held_until.is_some()) {
            self.ask(Effect::StandBack(process, back)).await;
        }
    }

    async fn save(&mut self) -> Outcome {
        self.perform(Effect::Save(Box::new(self.state.clone()))).await
    }

    async fn tell(&mut self, word: Word) -> Result<(), Fault> {
        answer!(self.ask(Effect::Tell(word)).await, Told, |why| Err(Fault::Refused(why)))
    }

    /// The server's process, if one runs. Whatever was remembered of another is forgotten.
    async fn find(&mut self) -> Option<Identity> {
        let found = answer!(self.ask(Effect::Find(self.state.server.clone())).await, Found, |_| None)?;
        if self.state.server.as_ref() != Some(&found) {
            self.state = self.state.of_new_process(found.clone());
        }
        Some(found)
    }

    async fn look(&mut self, process: &Identity, limit: Duration) -> Sight {
        answer!(self.ask(Effect::Look(process.clone(), limit)).await, Sight, |why| Sight::Unasked(Fault::Refused(why)))
    }

    async fn replication(&mut self) -> Result<Box<Info>, Fault> {
        answer!(self.ask(Effect::Replication).await, Replication, |why| Err(Fault::Refused(why)))
    }

    async fn texts(&mut self, effect: Effect) -> Vec<String> {
        answer!(self.ask(effect).await, Texts, |why| vec![why])
    }

    async fn flag(&mut self, effect: Effect) -> bool {
        answer!(self.ask(effect).await, Flag, |_| false)
    }

    async fn record(&mut self) -> Result<Option<Record>, Failure> {
        answer!(self.ask(Effect::ReadRecord).await, Record, |why: String| Err(Failure::generic(why)))
    }

    /// Puts a record in the place of the one that it was made from, and remembers it.
    async fn replace_record(&mut self, before: Option<Record>, record: &Record) -> Outcome {
        let event = self.ask(Effect::ReplaceRecord(before, record.clone())).await;
        answer!(event, Replaced, |why: String| Err(NotReplaced::Failed(Failure::generic(why)))).map_err(NotReplaced::into_failure)?;
        if self.rules.clustered {
            self.notice(format!("recorded: {record}")).await;
        }
        self.state.record = Some(record.to_string());
        Ok(())
    }

    /// Publishes this node's score; whoever could not is told by the log, and the next monitor tries again.
    async fn offer(&mut self, score: Score) {
        if let Err(e) = self.perform(Effect::Score(score)).await {
            self.warning(format!("the promotion score cannot be published: {e}")).await;
        }
    }

    /// Passes over a step that the agent is not allowed to take and that nobody's data depend on.
    async fn permitted(&mut self, step: Result<(), Fault>) -> Result<(), Fault> {
        match step {
            Err(Fault::Denied(why)) => {
                self.warning(format!("going on without that: {why}")).await;
                Ok(())
            }
            other => other,
        }
    }
}
