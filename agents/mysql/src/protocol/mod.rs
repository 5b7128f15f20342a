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
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::time::Duration;

use ocf::{Failure, Outcome};
use process::Identity;
use promotable::NotReplaced;
pub(crate) use promotable::OfProcess;
#[cfg(test)]
use promotable::{Moment, Port};

use crate::dialect::Dialect;
use crate::gtid::Gtids;
use crate::limits;
use crate::observation::{Observation, Replica};
use crate::params::Params;
use crate::premises::Wanted;
use crate::record::{Durability, Record};
use crate::server::{Fault, SemiSyncStatus};
#[cfg(test)]
use crate::state::State;

pub(crate) use effect::{
    Answer, Asked, Attribute, Database, Effect, Equipment, Event, Launched, OfAttributes, OfCluster, OfDaemon, OfHost, OfServer, Rules,
    Sight, Statement, Word,
};
pub(crate) use monitor::Alone;

/// An instance during one action.
#[derive(Debug)]
pub(crate) struct Instance<'a> {
    common: promotable::Instance<'a, Database>,
    /// How the server is spoken to, since it was reached.
    dialect: Dialect,
}

impl<'a> Deref for Instance<'a> {
    type Target = promotable::Instance<'a, Database>;

    fn deref(&self) -> &Self::Target {
        &self.common
    }
}

impl DerefMut for Instance<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.common
    }
}

impl<'a> From<promotable::Instance<'a, Database>> for Instance<'a> {
    fn from(common: promotable::Instance<'a, Database>) -> Self {
        let dialect = common.state.dialect().cloned().unwrap_or_else(Dialect::unknown);
        Self { common, dialect }
    }
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
            $crate::protocol::Event::Own($crate::protocol::Answer::$form(value)) => value,
            other => $otherwise(other.confused()),
        }
    };
}
use answer;

impl<'a> Instance<'a> {
    /// An instance with its memory, at the beginning of an action.
    #[cfg(test)]
    pub(crate) fn new(rules: &'a Rules<'a>, state: State, moment: Moment, port: Port<Effect, (Event, Moment)>) -> Self {
        promotable::Instance::new(rules, state, moment, port).into()
    }

    fn params(&self) -> &'a Params {
        self.rules.params
    }

    /// What a server has to be able to do.
    fn wanted(&self) -> Wanted {
        self.params().wanted(self.rules.clustered)
    }

    /// Whether the record is of a promotion of the process that runs here, over or not. By its epoch alone it is not: a promotion that died
    /// before it was recorded leaves its epoch to another node's.
    fn reigned(&self, record: &Record) -> bool {
        self.is_me(&record.node) && self.state.reigned(record)
    }

    /// The same, and it is not over.
    fn reigns(&self, record: &Record) -> bool {
        self.is_me(&record.node) && self.state.reigns(record)
    }

    fn is_me(&self, node: &str) -> bool {
        self.rules.node.as_ref().is_ok_and(|me| me == node)
    }

    /// As much of a limit as a step may take now.
    fn within(&self, limit: Duration) -> Duration {
        limits::step(limit, self.left())
    }

    /// How long ago something was; `None` counts as never.
    fn is_recent(&self, at: Option<Duration>, limit: Duration) -> bool {
        at.is_some_and(|at| self.now().saturating_sub(at) < limit)
    }

    async fn milestone(&mut self, step: &'static str) {
        self.ask(Effect::Own(Asked::Milestone(step))).await;
    }

    async fn tell(&mut self, word: Word) -> Result<(), Fault> {
        answer!(self.ask(OfServer::Tell(word)).await, Told, no_such_fault)
    }

    /// The server's process, if one runs. Whatever was remembered of another is forgotten.
    async fn find(&mut self) -> Option<Identity> {
        let found = self.process().await?;
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
        answer!(self.ask(OfDaemon::StillThere(all.clone())).await, Processes, |_| all)
    }

    /// Looks at a server that is not known to be well.
    async fn look(&mut self, process: &Identity, limit: Duration) -> Sight {
        let (process, before, dialect) = (process.clone(), self.state.dying.clone(), self.state.dialect().cloned());
        let sight = match self.ask(OfDaemon::Look { process, before, dialect, limit }).await {
            Event::Own(Answer::Sight(sight)) => sight,
            other => Sight::Refuses(Fault::Refused(other.confused())),
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
        let limit = self.within(limit);
        self.dialect = *answer!(self.ask(OfDaemon::Reach(known, limit)).await, Reached, no_such_fault)?;
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

    /// Puts a record in the place of the one that it was made from.
    ///
    /// Meanwhile the memory holds none: whoever comes after an agent that was killed here reads what there is.
    async fn replace_record(&mut self, before: Option<&Record>, record: &Record) -> Outcome {
        let known = self.state.record.take();
        self.save().await?;
        let replaced = self.replace(before.cloned(), record).await;
        self.state.record = match &replaced {
            Ok(()) => Some(record.clone()),
            // By an action of this node that was killed before it could remember that.
            Err(NotReplaced::Changed(Some(found))) if self.reigns(found) => Some(found.clone()),
            Err(_) => known,
        };
        self.save().await?;
        replaced.map_err(NotReplaced::into_failure)
    }

    async fn rejoin_is_unfinished(&mut self) -> bool {
        self.flag(OfHost::RejoinIsUnfinished).await
    }

    async fn is_cramped(&mut self) -> bool {
        self.flag(OfHost::IsCramped).await
    }

    /// Where the server of a node is reached by its replicas.
    async fn address_of(&mut self, node: &str) -> String {
        if let Some(known) = self.state.addresses.get(node) {
            return known.clone();
        }
        match answer!(self.ask(OfAttributes::AddressOf(node.to_owned())).await, Address, no_such_failure) {
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
        self.state.dialect().is_some_and(Dialect::can_be_lossless) && self.wanted().lossless
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
