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

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use ocf::{Failure, Outcome};
use process::Identity;
use promotable::NotReplaced;
pub(crate) use promotable::OfProcess;
#[cfg(test)]
use promotable::{Moment, Port};

use crate::election::Position;
use crate::info::Info;
use crate::params::Params;
use crate::record::Record;
use crate::server::{Fault, Observation};
use crate::state::State;

pub(crate) use start::at_start;

/// Of what this protocol is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Database {}

impl promotable::Database for Database {
    type Params = Params;
    type State = State;
    type Record = Record;
    type Position = Position;
    type Asked = OfServer;
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

/// What is asked of the server, and of its files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OfServer {
    /// Look at the server's process and ask it, within this time. Answered by [`Answer::Sight`].
    Look(Identity, Duration),
    /// Ask for the server's replication part. Answered by [`Answer::Replication`].
    Replication,
    /// Wait until nothing more comes from a primary that was demoted or is dead, and cut the link then. Answered by
    /// [`Answer::Replication`].
    Rest(Box<Info>),
    /// Wait until this node, or every attached replica, has everything, and pause the server's own writes. Answered by [`Answer::Drained`].
    Drain(Option<String>, Duration),
    /// Wait until so many attached replicas among these nodes hold everything up to this offset. Answered by [`Event::Flag`].
    Held(usize, Vec<String>, u64),
    /// Tell the server. Answered by [`Answer::Told`].
    Tell(Word),
    /// Say why a server must not be started with this configuration. Answered by [`Event::Done`].
    MayStart,
    /// Start the server as a replica of nobody that takes no writes, remember it with this state before it runs, and wait so long for its
    /// data. Answered by [`Answer::Launched`].
    Launch(Box<State>, Duration),
    /// Give the server the login of replication.
    SetReplicationLogin,
    /// Keep the data files, of which this many bytes are nowhere else as far as that is known.
    KeepFiles(Option<u64>),
    /// What an operator should correct though the server answers. Answered by [`Event::Texts`].
    Complaints,
    /// What is wrong with the configuration, if it cannot be read. Answered by [`Event::Texts`].
    Misconfiguration,
    /// Ask for the settings that [`Word::BeginBacklog`] changes. Answered by [`Answer::Settings`].
    CopySettings,
    /// Why the link to the primary is down, as far as the log tells. Answered by [`Answer::Link`].
    LinkTrouble,
}

impl From<OfServer> for Effect {
    fn from(effect: OfServer) -> Self {
        Self::Own(effect)
    }
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
    /// Begin the backlog now, so that the first replica does not change the history. No copy is begun for a minute then, until
    /// [`Word::SetBack`].
    BeginBacklog,
    /// Have these settings again: names and values.
    SetBack(Vec<(String, String)>),
    /// Have the settings of a server that the agent started. `true`: it is a replica.
    Adopt(bool),
    /// Cut the clients' connections.
    CutClients,
    /// End the pause of a demotion.
    ResumeWrites,
}

/// What came of an effect on the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Told(Result<(), Fault>),
    Sight(Sight),
    Replication(Result<Box<Info>, Fault>),
    /// What was missing at the end.
    Drained(Result<Option<String>, Fault>),
    Launched(Result<(Identity, Option<Box<Observation>>), Failure>),
    Link(LinkTrouble),
    Settings(Result<Vec<(String, String)>, Fault>),
}

impl From<Answer> for Event {
    fn from(answer: Answer) -> Self {
        Self::Own(answer)
    }
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
    /// It says nothing, and does nothing that could be seen: it hangs on its disk, or waits for a name server.
    Still(String),
    /// It is stopped by a signal.
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

/// An instance during one action.
#[derive(Debug)]
pub(crate) struct Instance<'a>(promotable::Instance<'a, Database>);

impl<'a> Deref for Instance<'a> {
    type Target = promotable::Instance<'a, Database>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Instance<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<'a> From<promotable::Instance<'a, Database>> for Instance<'a> {
    fn from(instance: promotable::Instance<'a, Database>) -> Self {
        Self(instance)
    }
}

impl<'a> Instance<'a> {
    /// An instance with its memory, at the beginning of an action.
    #[cfg(test)]
    pub(crate) fn new(rules: &'a Rules<'a>, state: State, moment: Moment, port: Port<Effect, (Event, Moment)>) -> Self {
        Self(promotable::Instance::new(rules, state, moment, port))
    }

    /// How many replicas must be attached for the gate to be open, and how old their last report may be.
    fn gate(&self) -> Result<(u32, u32), Failure> {
        self.rules.params.gate(self.rules.servers)
    }

    /// With durability=quorum, how many replicas make a majority together with the primary.
    fn confirmations(&self) -> Option<usize> {
        self.rules.params.confirmations(self.rules.servers)
    }

    async fn tell(&mut self, word: Word) -> Result<(), Fault> {
        match self.ask(OfServer::Tell(word)).await {
            Event::Own(Answer::Told(told)) => told,
            other => Err(Fault::Refused(other.confused())),
        }
    }

    /// The server's process, if one runs. Whatever was remembered of another is forgotten.
    async fn find(&mut self) -> Option<Identity> {
        let found = self.process().await?;
        if self.state.server() != Some(&found) {
            self.state = self.state.of_found_process(found.clone());
        }
        Some(found)
    }

    async fn look(&mut self, process: &Identity, limit: Duration) -> Sight {
        match self.ask(OfServer::Look(process.clone(), limit)).await {
            Event::Own(Answer::Sight(sight)) => sight,
            other => Sight::Unasked(Fault::Refused(other.confused())),
        }
    }

    async fn replication(&mut self) -> Result<Box<Info>, Fault> {
        match self.ask(OfServer::Replication).await {
            Event::Own(Answer::Replication(info)) => info,
            other => Err(Fault::Refused(other.confused())),
        }
    }

    /// Puts a record in the place of the one that it was made from, and remembers it.
    async fn replace_record(&mut self, before: Option<Record>, record: &Record) -> Outcome {
        self.replace(before, record).await.map_err(NotReplaced::into_failure)?;
        self.state.record = Some(record.clone());
        Ok(())
    }

    /// Gives the server back what a promotion has set for a moment, or one that was killed then: with it, no replica gets a copy for a minute.
    async fn set_back(&mut self) {
        let settings = self.state.process.as_ref().map_or_else(Vec::new, |process| process.settings_before.clone());
        if settings.is_empty() {
            return;
        }
        // What cannot be done, or remembered, the next monitor does once more.
        if let Err(fault) = self.tell(Word::SetBack(settings)).await {
            return self.warning(format!("the server keeps what a promotion has set for a moment: {fault}")).await;
        }
        self.state.of_process(|process| process.settings_before.clear());
        if let Err(failure) = self.save().await {
            self.warning(failure.reason).await;
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
