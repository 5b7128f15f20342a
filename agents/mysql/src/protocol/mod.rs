//! What an instance does, and nothing that does it: no clock, no process, no socket.
//!
//! Each action of Pacemaker is an `async fn` of [`Instance`], in the file of its name. Where it needs something told or done it asks for an
//! [`Effect`], and goes on with the [`Event`] that says what came of it (effect.rs). `engine` carries effects out on this machine; `model`
//! carries them out in a world of its own, in every order, and ends an action after any of them.
//!
//! Each effect may be the last one that is carried out, so the order of them is what keeps the data: see the head of each file.

mod acknowledging;
mod demote;
mod effect;
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
#[cfg(test)]
mod slowest;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use ocf::{Failure, Outcome};
use pacemaker::Score;
use process::Identity;
pub(crate) use promotable::{Level, Moment};
use promotable::{NotReplaced, Port};

use crate::dialect::Dialect;
use crate::gtid::Gtids;
use crate::limits;
use crate::observation::{Observation, Replica};
use crate::params::Params;
use crate::premises::Wanted;
use crate::record::{Durability, Record};
use crate::server::{Fault, SemiSyncStatus};
use crate::state::State;

pub(crate) use effect::{Attribute, Effect, Equipment, Event, Launched, OfCluster, OfHost, OfProcess, OfServer, Sight, Statement, Word};
pub(crate) use monitor::Alone;

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
        let dialect = state.dialect().cloned().unwrap_or_else(Dialect::unknown);
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

    async fn ask(&mut self, effect: impl Into<Effect>) -> Event {
        let (event, moment) = self.port.ask(effect.into()).await;
        self.moment = moment;
        event
    }

    /// An effect of which only its failure is told.
    async fn perform(&mut self, effect: impl Into<Effect>) -> Outcome {
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
        if let Some(process) = self.state.server().cloned().filter(|_| self.state.held_until().is_some()) {
            self.ask(OfProcess::StandBack(process, back)).await;
        }
    }

    async fn save(&mut self) -> Outcome {
        self.perform(Effect::Save(Box::new(self.state.clone()))).await
    }

    async fn save_if_other_than(&mut self, before: &State) -> Outcome {
        if self.state == *before { Ok(()) } else { self.save().await }
    }

    async fn tell(&mut self, word: Word) -> Result<(), Fault> {
        answer!(self.ask(OfServer::Tell(word)).await, Told, no_such_fault)
    }

    /// The server's process, if one runs. Whatever was remembered of another is forgotten.
    async fn find(&mut self) -> Option<Identity> {
        let found = answer!(self.ask(OfProcess::Find(self.state.server().cloned())).await, Found, |_| None)?;
        if self.state.server() != Some(&found) {
            let dying = self.still_there().await;
            self.state = self.state.of_found_process(found.clone(), dying);
        }
        Some(found)
    }

    /// The servers that were here, the last one included, as far as they still hold their data.
    async fn still_there(&mut self) -> Vec<Identity> {
        let all: Vec<Identity> = self.state.dying.iter().chain(self.state.server()).cloned().collect();
        if all.is_empty() {
            return all;
        }
        answer!(self.ask(OfProcess::StillThere(all.clone())).await, Processes, |_| all)
    }

    /// Looks at a server that is not known to be well.
    async fn look(&mut self, process: &Identity, limit: Duration) -> Sight {
        let (process, before, dialect) = (process.clone(), self.state.dying.clone(), self.state.dialect().cloned());
        let sight = match self.ask(OfProcess::Look { process, before, dialect, limit }).await {
            Event::Sight(sight) => sight,
            other => Sight::Refuses(Fault::Refused(confused(&other))),
        };
        match sight {
            Sight::Answered(seen, dialect) => {
                self.dialect = (*dialect).clone();
                Sight::Answered(seen, dialect)
            }
            // Recovery may take long, and nobody listens meanwhile.
            Sight::Deaf { alive: true, .. } if !self.state.answered() => Sight::Engaged("it is recovering its data".into()),
            other => other,
        }
    }

    /// Connects to a server that is known to run, in the place of a connection that there may be.
    async fn reach(&mut self, limit: Duration) -> Result<(), Fault> {
        let known = self.state.dialect().cloned();
        self.dialect = *answer!(self.ask(OfProcess::Reach(known, self.within(limit))).await, Reached, no_such_fault)?;
        Ok(())
    }

    async fn observe(&mut self) -> Result<Box<Observation>, Fault> {
        answer!(self.ask(OfServer::Observe).await, Observed, no_such_fault)
    }

    async fn replica(&mut self) -> Result<Option<Box<Replica>>, Fault> {
        answer!(self.ask(OfServer::Replica).await, Replica, no_such_fault)
    }

    async fn executed(&mut self) -> Result<Gtids, Fault> {
        answer!(self.ask(OfServer::Executed).await, Set, no_such_fault)
    }

    async fn logged(&mut self) -> Result<Gtids, Fault> {
        answer!(self.ask(OfServer::Logged).await, Set, no_such_fault)
    }

    async fn semi_sync(&mut self) -> Result<SemiSyncStatus, Fault> {
        answer!(self.ask(OfServer::SemiSync).await, SemiSync, no_such_fault)
    }

    async fn count(&mut self, effect: OfServer) -> Result<usize, Fault> {
        answer!(self.ask(effect).await, Counted, no_such_fault)
    }

    async fn texts(&mut self, effect: impl Into<Effect>) -> Vec<String> {
        answer!(self.ask(effect).await, Texts, |why| vec![why])
    }

    async fn flag(&mut self, effect: impl Into<Effect>) -> bool {
        answer!(self.ask(effect).await, Flag, |_| false)
    }

    async fn record(&mut self) -> Result<Option<Record>, Failure> {
        answer!(self.ask(OfCluster::ReadRecord).await, Record, no_such_failure)
    }

    /// Puts a record in the place of the one that it was made from.
    ///
    /// Meanwhile the memory holds none: whoever comes after an agent that was killed here reads what there is.
    async fn replace_record(&mut self, before: Option<&Record>, record: &Record) -> Outcome {
        let known = self.state.record.take();
        self.save().await?;
        let replaced = match self.ask(OfCluster::ReplaceRecord(before.cloned().map(Box::new), Box::new(record.clone()))).await {
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
        if let Err(e) = self.perform(OfCluster::Score(score)).await {
            self.warning(format!("the promotion score cannot be published: {e}")).await;
        }
    }

    async fn copy_is_unfinished(&mut self) -> bool {
        self.flag(OfHost::CopyIsUnfinished).await
    }

    async fn is_cramped(&mut self) -> bool {
        self.flag(OfHost::IsCramped).await
    }

    /// Where the server of a node is reached by its replicas.
    async fn address_of(&mut self, node: &str) -> String {
        if let Some(known) = self.state.addresses.get(node) {
            return known.clone();
        }
        match answer!(self.ask(OfCluster::AddressOf(node.to_owned())).await, Address, no_such_failure) {
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
        self.state.dialect().is_some_and(Dialect::can_be_lossless) && self.rules.wanted().lossless
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
