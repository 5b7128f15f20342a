//! What this node remembers of its own server until the next boot. Not the truth: that is the server itself, and the
//! record in the CIB. It saves the monitor from asking the cluster each time.
//!
//! What is remembered stands where it is true: of the server's process, as long as that one lives; of a situation, as long as it lasts; and
//! whatever the situation. A change of the situation is a function here, and takes with it what was true in the one before.

mod saved;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ocf::Peers;
use pacemaker::Score;
use process::Identity;
use serde::{Deserialize, Serialize};

use crate::info::Info;
use crate::record::Record;
use crate::server::NOBODY;

/// The memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "saved::Saved", into = "saved::Saved")]
pub(crate) struct State {
    /// Of the file's form; 1 where it is not said.
    pub(crate) version: u32,
    /// The server that was started or taken over.
    pub(crate) process: Option<Process>,
    /// Whether it is a primary, and what is true of one alone.
    pub(crate) role: Role,
    /// The record as it was read since the last promotion that this node knows of. Good for one election.
    pub(crate) record: Option<Record>,
    /// The position that was published last, and when, since boot.
    pub(crate) published: Option<(String, Duration)>,
    /// Whether its writes go on, as a primary published it last, and when, since boot.
    pub(crate) writes: Option<(bool, Duration)>,
    /// The nodes that the cluster's lists have named.
    pub(crate) nodes: BTreeSet<String>,
}

/// A process of the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) identity: Identity,
    /// Whether the agent started it, or has taken it over completely.
    pub(crate) ours: bool,
    /// Whether it has been attached to a primary, or was one: its data are more than what a disk had.
    pub(crate) linked: bool,
    /// For how many monitors in a row it could not be asked.
    pub(crate) unheard: Unheard,
    /// What a promotion has changed for a moment and not given back yet: settings, with their values.
    pub(crate) settings_before: Vec<(String, String)>,
    /// The round of the election that follows its last promotion, which is over.
    pub(crate) reigned: Option<String>,
}

/// For how many monitors in a row a server was alive and could not be asked. One that answers begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Unheard {
    /// Whatever it did: it said itself that it is busy, or said nothing.
    pub(crate) busy_for: u32,
    /// It said nothing and worked.
    pub(crate) working_for: u32,
    /// It said nothing, and no work of it was seen.
    pub(crate) still_for: u32,
}

impl Process {
    /// One that the agent starts.
    pub(crate) fn started(identity: Identity) -> Self {
        Self { ours: true, ..Self::found(identity) }
    }

    /// One that was running when the agent came.
    pub(crate) fn found(identity: Identity) -> Self {
        Self { identity, ours: false, linked: false, unheard: Unheard::default(), settings_before: Vec::new(), reigned: None }
    }
}

/// What Pacemaker made of the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Unpromoted(Unpromoted),
    /// Set when the promotion is recorded, before writes open.
    Primary(Primary),
}

impl Default for Role {
    fn default() -> Self {
        Self::Unpromoted(Unpromoted::default())
    }
}

/// A server that is no primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Unpromoted {
    pub(crate) link: Link,
    /// Since when it is attached to nobody, since boot, as its monitors saw it.
    pub(crate) detached_since: Option<Duration>,
    /// Why this node was not promoted, until somebody is.
    pub(crate) refused: Option<String>,
    /// The score that stands until a time since boot, whatever the server is worth: after a refused promotion or a
    /// hand-over. Otherwise the next monitor would start the same promotion again at once.
    pub(crate) stands_back: Option<(Score, Duration)>,
    /// A dead primary that `demote` started again is no candidate before it is attached, or until this time since
    /// boot: raising its score would abort the transition that promotes its successor.
    pub(crate) held_until: Option<Duration>,
}

/// Whom a server follows. Whether it does, or is at rest for an election, is seen at the server each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    /// Nobody: it was started or demoted, and nobody was promoted since.
    #[default]
    Nobody,
    /// This node's server. A monitor makes it follow that if it does not.
    Following(String),
    /// It won the election in the notification before its promotion.
    Elected {
        /// The record under which it did, as a text; empty for none.
        record: String,
        /// Whom it follows if the promotion does not come.
        followed: Option<String>,
    },
}

impl State {
    /// The server was made another's replica by somebody: what it holds is the other's now, and no longer all that was written here. One that
    /// follows nobody is in the middle of a demotion of ours.
    pub(crate) fn holds_what_is_others(&mut self, info: &Info) {
        if info.primary.as_ref().is_some_and(|(host, port)| (host.as_str(), *port) != NOBODY) {
            self.of_process(|process| process.reigned = None);
        }
    }
}

impl Link {
    fn to(node: Option<String>) -> Self {
        node.map_or(Self::Nobody, Self::Following)
    }

    fn node(&self) -> Option<&str> {
        match self {
            Self::Nobody => None,
            Self::Following(node) => Some(node),
            Self::Elected { followed, .. } => followed.as_deref(),
        }
    }
}

/// A primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Primary {
    /// What is recorded of it. Nothing for one that was running before and is not recorded yet.
    pub(crate) reign: Option<Reign>,
    /// Holders whose server was stopped; they leave the record when what they held is elsewhere.
    pub(crate) leaving: BTreeSet<String>,
    /// Since when its writes are refused for want of replicas, since boot.
    pub(crate) short_since: Option<Duration>,
}

/// A promotion that is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reign {
    /// The round of the election that will follow it.
    pub(crate) round: String,
    /// The history as recorded.
    pub(crate) history: String,
    /// The holders as recorded.
    pub(crate) holders: BTreeSet<String>,
    /// Holders that are not attached, and since when, since boot.
    pub(crate) away: BTreeMap<String, Duration>,
    /// When it was looked last whether the record is its own, since boot.
    pub(crate) reviewed: Option<Duration>,
    /// That another was named in the record.
    pub(crate) contested: Option<String>,
}

impl Reign {
    fn under(record: &Record) -> Self {
        Self {
            round: Record::round(Some(record)),
            history: record.history.clone().unwrap_or_default(),
            holders: record.holders.clone(),
            away: BTreeMap::new(),
            reviewed: None,
            contested: None,
        }
    }
}

/// What is asked of it whatever the situation.
impl State {
    /// The process.
    pub(crate) fn server(&self) -> Option<&Identity> {
        self.process.as_ref().map(|process| &process.identity)
    }

    pub(crate) fn ours(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.ours)
    }

    /// Whether its data are more than what a disk had.
    pub(crate) fn linked(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.linked)
    }

    pub(crate) fn promoted(&self) -> bool {
        self.primary().is_some()
    }

    pub(crate) fn primary(&self) -> Option<&Primary> {
        match &self.role {
            Role::Primary(primary) => Some(primary),
            Role::Unpromoted(_) => None,
        }
    }

    pub(crate) fn unpromoted(&self) -> Option<&Unpromoted> {
        match &self.role {
            Role::Unpromoted(unpromoted) => Some(unpromoted),
            Role::Primary(_) => None,
        }
    }

    /// What is recorded of the primary.
    pub(crate) fn reign(&self) -> Option<&Reign> {
        self.primary().and_then(|primary| primary.reign.as_ref())
    }

    /// Whether this primary has recorded a node as a holder.
    pub(crate) fn has_holder(&self, node: &str) -> bool {
        self.reign().is_some_and(|reign| reign.holders.contains(node))
    }

    /// The node that it follows.
    pub(crate) fn following(&self) -> Option<&str> {
        self.unpromoted().and_then(|unpromoted| unpromoted.link.node())
    }

    /// Whether it won the election in the notification before, under this record.
    pub(crate) fn is_elected(&self, under: &str) -> bool {
        self.unpromoted().is_some_and(|unpromoted| matches!(&unpromoted.link, Link::Elected { record, .. } if record == under))
    }

    pub(crate) fn held_until(&self) -> Option<Duration> {
        self.unpromoted().and_then(|unpromoted| unpromoted.held_until)
    }

    /// Whether the server may hold data that the primary never had: it came from a disk, or it was a primary itself.
    pub(crate) fn may_part_with_data(&self) -> bool {
        !self.linked() || self.last_round().is_some()
    }

    /// Whether the process that runs now is the one whose promotion the round follows: it holds everything.
    pub(crate) fn reigned(&self, round: &str) -> bool {
        self.last_round() == Some(round)
    }

    /// The round that follows the last promotion of the process, over or not.
    fn last_round(&self) -> Option<&str> {
        let process = self.process.as_ref()?;
        self.reign().map(|reign| reign.round.as_str()).or(process.reigned.as_deref())
    }
}

/// What changes it.
impl State {
    /// Changes what is remembered of the process, if there is one.
    pub(crate) fn of_process(&mut self, change: impl FnOnce(&mut Process)) {
        if let Some(process) = self.process.as_mut() {
            change(process);
        }
    }

    /// Reads or changes what is remembered of a primary. Whoever is none remembers nothing of the kind.
    pub(crate) fn as_primary<T: Default>(&mut self, change: impl FnOnce(&mut Primary) -> T) -> T {
        match &mut self.role {
            Role::Primary(primary) => change(primary),
            Role::Unpromoted(_) => T::default(),
        }
    }

    /// The same of one that is recorded.
    pub(crate) fn as_recorded<T: Default>(&mut self, change: impl FnOnce(&mut Reign) -> T) -> T {
        self.as_primary(|primary| primary.reign.as_mut().map(change).unwrap_or_default())
    }

    /// The same of a server that is no primary.
    pub(crate) fn as_unpromoted<T: Default>(&mut self, change: impl FnOnce(&mut Unpromoted) -> T) -> T {
        match &mut self.role {
            Role::Unpromoted(unpromoted) => change(unpromoted),
            Role::Primary(_) => T::default(),
        }
    }

    /// Remembers the nodes that the lists name. Whether any was new.
    pub(crate) fn meet(&mut self, peers: &Peers) -> bool {
        let before = self.nodes.len();
        self.nodes.extend(peers.running_nodes());
        self.nodes.len() > before
    }

    /// It is not the primary any more.
    pub(crate) fn end_reign(&mut self) {
        if !self.promoted() {
            return;
        }
        let round = self.reign().map(|reign| reign.round.clone());
        self.of_process(|process| process.reigned = round.or(process.reigned.take()));
        self.role = Role::default();
    }

    /// It has given the role up, to this node if another one has it already.
    pub(crate) fn become_demoted(&mut self, promoted: Option<String>) {
        self.end_reign();
        self.as_unpromoted(|unpromoted| unpromoted.link = Link::to(promoted));
    }

    /// Another was promoted, and is followed. What kept this node from it does not count any more, nor does the record before.
    pub(crate) fn follow_promoted(&mut self, node: String) {
        self.end_reign();
        self.as_unpromoted(|unpromoted| {
            unpromoted.link = Link::Following(node);
            unpromoted.stands_back = None;
            unpromoted.refused = None;
        });
        self.record = None;
    }

    /// It won the election under this record.
    pub(crate) fn win_election(&mut self, under: String) {
        self.as_unpromoted(|unpromoted| {
            let followed = unpromoted.link.node().map(str::to_owned);
            unpromoted.link = Link::Elected { record: under, followed };
        });
    }

    /// An election that was won before is over: another server may have come with more since.
    pub(crate) fn forget_election(&mut self) {
        self.as_unpromoted(|unpromoted| unpromoted.link = Link::to(unpromoted.link.node().map(str::to_owned)));
    }

    /// Its promotion is recorded, and writes open now.
    pub(crate) fn become_primary(&mut self, record: Record, now: Duration) {
        self.take_over(Some(record));
        self.of_process(|process| process.linked = true);
        self.as_recorded(|reign| reign.reviewed = Some(now));
    }

    /// A primary that was running before, which the record names, or nobody.
    pub(crate) fn take_over(&mut self, record: Option<Record>) {
        self.role = Role::Primary(Primary::default());
        if let Some(record) = record {
            self.reign_under(&record);
            self.record = Some(record);
        }
    }

    /// The primary is recorded.
    pub(crate) fn reign_under(&mut self, record: &Record) {
        self.of_process(|process| process.reigned = None);
        self.as_primary(|primary| primary.reign = Some(Reign::under(record)));
    }

    /// What stays of it when there is another process of the server that this agent did not start.
    pub(crate) fn of_found_process(&self, found: Identity) -> Self {
        Self { process: Some(Process::found(found)), nodes: self.nodes.clone(), ..Self::default() }
    }

    /// What stays of it when the server is about to be started, to follow this node later. The process is the one before, until the new one
    /// runs.
    pub(crate) fn before_launch(&self, primary: Option<String>) -> Self {
        Self {
            process: self.process.clone(),
            role: Role::Unpromoted(Unpromoted { link: Link::to(primary), held_until: self.held_until(), ..Unpromoted::default() }),
            record: self.record.clone(),
            nodes: self.nodes.clone(),
            ..Self::default()
        }
    }

    /// The agent has started this process.
    pub(crate) fn has_started(&mut self, server: Identity) {
        self.process = Some(Process::started(server));
    }
}

/// The file that holds the memory.
pub(crate) type StateFile = promotable::StateFile<State>;

impl promotable::Memory for State {
    const VERSION: u32 = 1;
    const DISPENSABLE: bool = true;

    fn of_version(self, version: u32) -> Self {
        Self { version, ..self }
    }
}

impl promotable::Remembered for State {
    fn server(&self) -> Option<&Identity> {
        self.server()
    }

    fn is_promoted(&self) -> bool {
        self.promoted()
    }

    fn refuse(&mut self, why: String) {
        self.as_unpromoted(|unpromoted| unpromoted.refused = Some(why));
    }

    fn is_held(&self) -> bool {
        self.held_until().is_some()
    }

    fn stand_at(&mut self, score: Score, until: Duration) {
        self.as_unpromoted(|unpromoted| unpromoted.stands_back = Some((score, until)));
    }

    fn stands_at(&self) -> Option<Score> {
        self.unpromoted()?.stands_back.map(|(score, _)| score)
    }
}
