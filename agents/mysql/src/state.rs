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

use pacemaker::{Disks, Score};
use process::Identity;
use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::election::{Memory, Position};
use crate::membership::Membership;
use crate::record::Record;

/// The memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "saved::Saved", into = "saved::Saved")]
pub(crate) struct State {
    /// What the file means: another number is another agent's memory. 0 is the same as 1.
    pub(crate) version: u32,
    /// The server that was started or taken over.
    pub(crate) process: Option<Process>,
    /// Servers before it that may still hold their data: killed ones whose memory the kernel has not taken back, or that hang on a disk.
    /// No other is started while they do.
    pub(crate) dying: Vec<Identity>,
    /// Whether it is a primary, and what is true of one alone.
    pub(crate) role: Role,
    /// What it remembers about acknowledging.
    pub(crate) memory: Memory,
    /// The record as it was read last. Good for one election.
    pub(crate) record: Option<Record>,
    /// When the record was read last to see whether it names whom this server follows, or this primary, since boot.
    pub(crate) asked_record: Option<Duration>,
    /// Where the nodes' servers are reached, as far as asked.
    pub(crate) addresses: BTreeMap<String, String>,
    /// The other node whose server has the id of this one, as it is to be told to an operator.
    pub(crate) twin: Option<String>,
    /// What the others were told.
    pub(crate) told: Told,
}

/// A process of the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) identity: Identity,
    /// Whether the agent started it, or has taken it over completely.
    pub(crate) ours: bool,
    /// Whether it has answered since it was started: before that, silence is recovery.
    pub(crate) answered: bool,
    /// How many monitors in a row found it silent, though it works.
    pub(crate) silent: u32,
    /// The disks that it writes to, which are watched.
    pub(crate) disks: Option<Disks>,
    /// How it is spoken to.
    pub(crate) dialect: Option<Dialect>,
    /// What it leaves out of its binary log, empty for nothing. Fixed while the process lives.
    pub(crate) filters: String,
    /// Whether it has been attached to a primary.
    pub(crate) linked: bool,
    /// Whether a reload could not tell it what the parameters are: its next monitor does.
    pub(crate) reload_pending: bool,
    /// The epoch of its last promotion, which is over: what follows is another one, even here.
    pub(crate) reigned: Option<u64>,
}

impl Process {
    fn of(identity: Identity) -> Self {
        Self {
            identity,
            ours: false,
            answered: false,
            silent: 0,
            disks: None,
            dialect: None,
            filters: String::new(),
            linked: false,
            reload_pending: false,
            reigned: None,
        }
    }

    /// One that the agent starts.
    pub(crate) fn started(identity: Identity, disks: Option<Disks>) -> Self {
        Self { ours: true, disks, ..Self::of(identity) }
    }

    /// One that was running when the agent came.
    pub(crate) fn found(identity: Identity) -> Self {
        Self { answered: true, ..Self::of(identity) }
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
    /// Transactions that the primary does not have. The server follows nobody until an operator has decided.
    pub(crate) errant: Option<String>,
    /// These are not too many here but too few: see [`crate::election::Divergence::Lost`].
    pub(crate) lost: bool,
    /// How many monitors have found transactions here that others wrote, and that the primary may have as well.
    pub(crate) foreign_for: u32,
    pub(crate) broken: Option<Broken>,
    /// What its last monitor could not do.
    pub(crate) trouble: Option<String>,
    /// For how many monitors it follows nobody.
    pub(crate) alone_for: u32,
    /// Why this node was not promoted, until somebody is.
    pub(crate) refused: Option<String>,
    /// The score that stands until a time since boot, whatever the server is worth: after a refused promotion or a
    /// hand-over. Otherwise the next monitor would start the same promotion again at once.
    pub(crate) stands_back: Option<(Score, Duration)>,
    /// A dead primary that `demote` started again is no candidate before it is attached, or until this time since
    /// boot: raising its score would abort the transition that promotes its successor.
    pub(crate) held_until: Option<Duration>,
}

/// Whom a server follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    /// Nobody that the agent knows of, and nothing was asked of it: it was started or taken over.
    #[default]
    Nobody,
    /// A node, as far as it goes. `acknowledges`: whether it acknowledges now, by what it was told.
    Following { node: String, acknowledges: bool },
    /// Its receiver is stopped for an election.
    Resting(Rest),
    /// It was the primary, and nobody has asked for its position since. Whom the next record names it follows.
    Demoted,
}

/// A server whose position is at rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rest {
    /// The round of the election.
    pub(crate) round: String,
    /// The record under which this node won it in the notification before its promotion.
    pub(crate) elected: Option<String>,
    /// The record of its promotion, saved before it is written: nobody can have written anything under it.
    pub(crate) claim: Option<Record>,
}

/// Why its replication cannot get on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Broken {
    pub(crate) why: String,
    /// For how many monitors.
    pub(crate) monitors: u32,
}

/// A primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Primary {
    /// The epoch under which writes opened, or are about to. Nothing for one that was running before and is not recorded yet.
    pub(crate) epoch: Option<u64>,
    /// The record of its promotion.
    pub(crate) claim: Option<Record>,
    /// The epoch of which it noted beside its data that it reigns.
    pub(crate) noted: Option<u64>,
    /// Somebody may have been told of what it alone has, and the record does not say so yet.
    pub(crate) account_broken: bool,
    /// When writes were opened, since boot.
    pub(crate) opened: Option<Duration>,
    /// Nodes whose server was stopped, or that resigned. They leave the record when the others have all.
    pub(crate) leaving: BTreeSet<String>,
    /// Nodes whose server was started. They enter the record anew.
    pub(crate) joining: BTreeSet<String>,
    /// What it had logged at the monitor before, if commits were waiting.
    pub(crate) stands_at: Option<String>,
    /// When the replicas' wishes were looked up last, since boot.
    pub(crate) asked_members: Option<Duration>,
    /// The ids that the nodes published, as they were read last.
    pub(crate) server_ids: BTreeMap<String, String>,
    /// The replicas that are none of the cluster's, as they were found last.
    pub(crate) strangers: Vec<String>,
    /// That another was named in the record.
    pub(crate) contested: Option<String>,
    /// Why an acknowledgement may be worth nothing.
    pub(crate) intruded: Option<String>,
    /// Why no write is acknowledged, since when it is so, since boot.
    pub(crate) blocked: Option<(String, Duration)>,
    /// Why its commits do not wait for replicas as they should.
    pub(crate) weakened: Option<String>,
}

/// What was published, and when, since boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Told {
    /// The position.
    pub(crate) position: Option<(Position, Duration)>,
    /// The wish to acknowledge.
    pub(crate) membership: Option<(Membership, Duration)>,
    /// The server's id.
    pub(crate) server_id: Option<(String, Duration)>,
    /// The reader attribute.
    pub(crate) readable: Option<(bool, Duration)>,
    /// Whether its writes go on, as a primary.
    pub(crate) writes: Option<(bool, Duration)>,
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

    pub(crate) fn answered(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.answered)
    }

    pub(crate) fn reload_pending(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.reload_pending)
    }

    pub(crate) fn dialect(&self) -> Option<&Dialect> {
        self.process.as_ref().and_then(|process| process.dialect.as_ref())
    }

    pub(crate) fn disks(&self) -> Option<&Disks> {
        self.process.as_ref().and_then(|process| process.disks.as_ref())
    }

    pub(crate) fn promoted(&self) -> bool {
        matches!(self.role, Role::Primary(_))
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

    fn link(&self) -> Option<&Link> {
        self.unpromoted().map(|unpromoted| &unpromoted.link)
    }

    /// The node that it follows.
    pub(crate) fn following(&self) -> Option<&str> {
        match self.link() {
            Some(Link::Following { node, .. }) => Some(node),
            _ => None,
        }
    }

    pub(crate) fn acknowledges(&self) -> bool {
        matches!(self.link(), Some(Link::Following { acknowledges: true, .. }))
    }

    /// The election that its receiver was stopped for.
    pub(crate) fn rest(&self) -> Option<&Rest> {
        match self.link() {
            Some(Link::Resting(rest)) => Some(rest),
            _ => None,
        }
    }

    /// Whether it is at rest for the election of this round.
    pub(crate) fn rests_for(&self, round: &str) -> bool {
        self.rest().is_some_and(|rest| rest.round == round)
    }

    /// Whether it was demoted and has not been asked for its position since.
    pub(crate) fn was_demoted(&self) -> bool {
        matches!(self.link(), Some(Link::Demoted))
    }

    pub(crate) fn errant(&self) -> Option<&str> {
        self.unpromoted().and_then(|unpromoted| unpromoted.errant.as_deref())
    }

    /// Whether it lacks what it wrote itself.
    pub(crate) fn lost(&self) -> bool {
        self.unpromoted().is_some_and(|unpromoted| unpromoted.lost)
    }

    /// For how many monitors its replication cannot get on.
    pub(crate) fn broken_for(&self) -> u32 {
        self.unpromoted().and_then(|unpromoted| unpromoted.broken.as_ref()).map_or(0, |broken| broken.monitors)
    }

    pub(crate) fn held_until(&self) -> Option<Duration> {
        self.unpromoted().and_then(|unpromoted| unpromoted.held_until)
    }

    /// The record of its promotion, saved before it was written.
    pub(crate) fn claim(&self) -> Option<&Record> {
        match &self.role {
            Role::Primary(primary) => primary.claim.as_ref(),
            Role::Unpromoted(_) => self.rest().and_then(|rest| rest.claim.as_ref()),
        }
    }

    /// The members of the record as it was read last.
    pub(crate) fn recorded_members(&self) -> BTreeSet<String> {
        self.record.as_ref().map(|record| record.active.clone()).unwrap_or_default()
    }

    /// The epoch of a promotion of this process that is not over.
    fn epoch(&self) -> Option<u64> {
        let open = self.primary().and_then(|primary| primary.epoch);
        open.or_else(|| self.claim().map(|claim| claim.epoch)).filter(|_| self.process.is_some())
    }

    /// Whether the record is of a promotion of the process that runs now, over or not, if it names this node: it holds everything.
    pub(crate) fn reigned(&self, record: &Record) -> bool {
        let epoch = self.epoch().or_else(|| self.process.as_ref().and_then(|process| process.reigned));
        epoch == Some(record.epoch) && !record.decided()
    }

    /// The same, and it is not over.
    pub(crate) fn reigns(&self, record: &Record) -> bool {
        self.epoch() == Some(record.epoch) && !record.decided()
    }

    /// Whether this process was recorded as a primary by this agent, ever.
    pub(crate) fn has_reigned(&self) -> bool {
        self.epoch().is_some() || self.process.as_ref().is_some_and(|process| process.reigned.is_some())
    }

    /// Whether its last promotion was ended by a demotion.
    pub(crate) fn reign_is_over(&self) -> bool {
        self.epoch().is_none() && self.process.as_ref().is_some_and(|process| process.reigned.is_some())
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

    /// The same of a server that is no primary.
    pub(crate) fn as_unpromoted<T: Default>(&mut self, change: impl FnOnce(&mut Unpromoted) -> T) -> T {
        match &mut self.role {
            Role::Unpromoted(unpromoted) => change(unpromoted),
            Role::Primary(_) => T::default(),
        }
    }

    /// It is to follow a node. A primary is none any more then; whether its reign ended in order is not known.
    pub(crate) fn follow(&mut self, node: &str) {
        let acknowledges = self.acknowledges();
        if self.promoted() {
            self.role = Role::default();
        }
        self.as_unpromoted(|unpromoted| unpromoted.link = Link::Following { node: node.to_owned(), acknowledges });
    }

    /// Whether it acknowledges, by what it was told. Only who follows somebody does.
    pub(crate) fn set_acknowledges(&mut self, on: bool) {
        self.as_unpromoted(|unpromoted| {
            if let Link::Following { acknowledges, .. } = &mut unpromoted.link {
                *acknowledges = on;
            }
        });
    }

    /// Its receiver is about to be stopped for the election of this round. Returns whom it followed. A primary that somebody closed stays
    /// one until it is demoted.
    pub(crate) fn come_to_rest(&mut self, round: &str) -> Option<String> {
        self.as_unpromoted(|unpromoted| match &mut unpromoted.link {
            Link::Resting(rest) => {
                round.clone_into(&mut rest.round);
                None
            }
            link => {
                let rest = Link::Resting(Rest { round: round.to_owned(), elected: None, claim: None });
                match std::mem::replace(link, rest) {
                    Link::Following { node, .. } => Some(node),
                    Link::Nobody | Link::Resting(_) | Link::Demoted => None,
                }
            }
        })
    }

    /// Whether this node won the election under this record.
    pub(crate) fn set_elected(&mut self, record: Option<String>) {
        self.as_unpromoted(|unpromoted| {
            if let Link::Resting(rest) = &mut unpromoted.link {
                rest.elected = record;
            }
        });
    }

    /// A promotion is about to be recorded, in the election of this round: a run after this one knows then that the record is its own.
    pub(crate) fn lay_claim(&mut self, record: Record, round: String) {
        self.of_process(|process| process.reigned = None);
        match &mut self.role {
            Role::Primary(primary) => (primary.epoch, primary.claim) = (None, Some(record)),
            Role::Unpromoted(Unpromoted { link: Link::Resting(rest), .. }) => rest.claim = Some(record),
            Role::Unpromoted(unpromoted) => unpromoted.link = Link::Resting(Rest { round, elected: None, claim: Some(record) }),
        }
    }

    /// Its promotion is recorded, and writes open now.
    pub(crate) fn become_primary(&mut self, record: &Record, now: Duration) {
        // One that somebody closed is opened again: clients have written in its reign.
        let before = self.primary().cloned().unwrap_or_default();
        let primary = Primary {
            claim: self.claim().cloned(),
            opened: Some(now),
            account_broken: before.account_broken,
            leaving: before.leaving,
            joining: before.joining,
            ..Primary::default()
        };
        self.role = Role::Primary(primary);
        self.reign_under(record.epoch);
        self.record = Some(record.clone());
        self.asked_record = Some(now);
    }

    /// A primary that was running before, and is not recorded as one of this agent's.
    pub(crate) fn take_over(&mut self) {
        self.role = Role::Primary(Primary::default());
    }

    /// The epoch that the primary is recorded under.
    pub(crate) fn reign_under(&mut self, epoch: u64) {
        self.of_process(|process| process.reigned = None);
        self.as_primary(|primary| primary.epoch = Some(epoch));
    }

    /// It is demoted.
    pub(crate) fn end_reign(&mut self) {
        if let Some(epoch) = self.epoch() {
            self.of_process(|process| process.reigned = Some(epoch));
        }
        if self.promoted() {
            self.role = Role::Unpromoted(Unpromoted { link: Link::Demoted, ..Unpromoted::default() });
        }
        self.as_unpromoted(|unpromoted| {
            unpromoted.alone_for = 0;
            if let Link::Resting(rest) = &mut unpromoted.link {
                rest.claim = None;
            }
        });
    }

    /// What stays of it when the server was stopped: what others were told, and when.
    pub(crate) fn of_stopped(&self) -> Self {
        Self { told: Told { server_id: None, ..self.told.clone() }, ..Self::default() }
    }

    /// What stays of it when there is another process of the server, whoever started it: what the one before had received, and maybe
    /// acknowledged, may be gone. `dying`: the servers before it that still hold their data.
    pub(crate) fn of_new_process(&self, dying: Vec<Identity>) -> Self {
        let mut memory = self.memory.clone();
        memory.start_over(None);
        Self {
            memory,
            dying,
            role: Role::Unpromoted(Unpromoted { held_until: self.held_until(), ..Unpromoted::default() }),
            record: self.record.clone(),
            addresses: self.addresses.clone(),
            told: self.told.clone(),
            ..Self::default()
        }
    }

    /// The same when that process was found, and not started by this agent.
    pub(crate) fn of_found_process(&self, found: Identity, dying: Vec<Identity>) -> Self {
        let mut state = Self { process: Some(Process::found(found)), ..self.of_new_process(dying) };
        if let Some(node) = self.following() {
            state.follow(node);
        }
        state
    }
}

/// What the model changes.
#[cfg(test)]
impl State {
    pub(crate) fn forget_claim(&mut self) {
        match &mut self.role {
            Role::Primary(primary) => primary.claim = None,
            Role::Unpromoted(Unpromoted { link: Link::Resting(rest), .. }) => rest.claim = None,
            Role::Unpromoted(_) => {}
        }
    }

    /// As one that a demotion did not end.
    pub(crate) fn keep_claim(&mut self, claim: Record) {
        self.as_unpromoted(|unpromoted| match &mut unpromoted.link {
            Link::Resting(rest) => rest.claim = Some(claim),
            link @ Link::Demoted => *link = Link::Resting(Rest { round: String::new(), elected: None, claim: Some(claim) }),
            Link::Nobody | Link::Following { .. } => {}
        });
    }
}

/// The file that holds the memory.
pub(crate) type StateFile = promotable::StateFile<State>;

impl promotable::Memory for State {
    const VERSION: u32 = 1;
    const DISPENSABLE: bool = false;

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
