//! Who may be promoted, and who may acknowledge. Pure: no clock, no environment, no I/O.
//!
//! The invariant that is kept here, for an epoch (a term, as Raft calls it) with k acknowledgements: *of the members of `active` (the
//! in-sync set), at least k have acknowledged each transaction that a client saw succeed in this epoch, or one that was logged after it;
//! and a member that did so and says that it is live still holds that transaction.* Therefore n - k + 1 members out of n contain one that
//! holds it. What clients saw in the epochs before is in the set that was recorded at the promotion, and a live member holds that.
//!
//! What it rests on:
//! * Records are read and written linearizably: nobody without the quorum reads or writes, and a rewrite by a primary replaces
//!   exactly the record that it was made from.
//! * A reign ends (demoted in order, server killed, node fenced) before the first position of its last record is
//!   published, and never goes on afterwards: a promotion after a demotion is a new epoch, even on the same node.
//! * A position is published after the receiver has been stopped and with acknowledgements switched off.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use promotable::Verdict;

use crate::gtid::Gtids;
use crate::record::{Durability, Record, Stamp};
use crate::reign;

/// Why a server is no candidate whatever its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unfit {
    /// Its process is gone or does not answer.
    NoServer,
    /// It recovers from a crash and does not answer yet.
    Recovering,
    /// Its process is alive and did not say what it holds: a refused login, no free connection, no answer in time. It may hold anything.
    Unasked,
    /// Its settings break what clients are promised.
    Unsound,
    /// A copy of the primary's data, or taking back what that one does not have, was begun there and is not ended: its data are neither the old
    /// nor the new ones, whatever its GTIDs say.
    Rejoining,
}

impl Unfit {
    /// Whether the sets of such a server count nevertheless.
    pub(crate) fn speaks(self) -> bool {
        match self {
            Self::NoServer | Self::Recovering | Self::Unasked | Self::Rejoining => false,
            Self::Unsound => true,
        }
    }
}

/// Since when a server may acknowledge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Acknowledging {
    /// The record that allowed it.
    pub(crate) stamp: Stamp,
    /// The set of that record, a low watermark: a server without all of it has not got back what it may have acknowledged before.
    pub(crate) mark: Gtids,
}

/// What the agent beside a server remembers about acknowledging. Saved *before* acknowledgements are switched on, and
/// *after* they were switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    /// Under which record it began, if it did since the process started and was pointed at this primary.
    pub(crate) acknowledging: Option<Acknowledging>,
    /// It may acknowledge under later records only. `None`: not known yet, so under none.
    pub(crate) not_before: Option<Stamp>,
}

impl Memory {
    /// The server process started: what it received may be gone. `record` is what the CIB says *after* that (zero when it
    /// says that there is none), `None` when it cannot be asked: then [`Self::learn`] follows.
    ///
    /// What was known before keeps counting, in case that the answer was old.
    pub(crate) fn start_over(&mut self, record: Option<Stamp>) {
        let before = self.acknowledging.take().map(|a| a.stamp);
        self.not_before = record.map(|stamp| stamp.max(before.unwrap_or_default()).max(self.not_before.unwrap_or_default()));
    }

    /// The CIB answers, for the first time since the process started.
    pub(crate) fn learn(&mut self, record: Stamp) {
        self.not_before.get_or_insert(record);
    }

    /// The server was pointed at another primary, under `record`, and has thrown away what it had received and not applied. In a
    /// new epoch it has acknowledged nothing, so that it need not wait for another record.
    pub(crate) fn point(&mut self, record: Stamp) {
        let Some(before) = self.acknowledging.take().map(|a| a.stamp) else { return };
        let lost = if before.epoch == record.epoch { record.max(before) } else { before };
        self.not_before = self.not_before.map(|stamp| stamp.max(lost));
    }

    /// Acknowledgements were switched off for good: the server has still all that it acknowledged, and asks to leave
    /// `active`. Returns the stamp to publish.
    pub(crate) fn resign(&mut self, record: &Record) -> Stamp {
        let stamp = record.stamp().max(self.not_before.unwrap_or_default());
        self.not_before = Some(stamp);
        stamp
    }

    /// Acknowledgements were found switched on, and are off now; `record` was read after that. When the same node reigns again
    /// and nothing was heard of this one meanwhile, its server has acknowledged in the new epoch by itself.
    pub(crate) fn found_on(&mut self, record: &Record, following: &str) {
        let authorised = self.acknowledging.as_ref().is_some_and(|a| a.stamp.epoch == record.epoch);
        if !authorised && record.node == following {
            self.not_before = self.not_before.map(|stamp| stamp.max(record.stamp()));
        }
    }

    /// [`may_acknowledge`] said yes. Within an epoch the first mark stays: nothing was lost since.
    pub(crate) fn acknowledge(&mut self, record: &Record) {
        let Some(set) = &record.set else { return };
        if self.acknowledging.as_ref().is_none_or(|a| a.stamp.epoch != record.epoch || a.stamp > record.stamp()) {
            self.acknowledging = Some(Acknowledging { stamp: record.stamp(), mark: set.clone() });
        }
    }

    /// The highest epoch that it knows of.
    pub(crate) fn epoch(&self) -> u64 {
        self.acknowledging.as_ref().map(|a| a.stamp).max(self.not_before).unwrap_or_default().epoch
    }

    /// Whether the server has acknowledged nothing in the record's epoch, ever: no process before this one did either.
    pub(crate) fn untouched(&self, record: &Record) -> bool {
        let last = self.not_before.map(|n| self.acknowledging.as_ref().map_or(n, |a| n.max(a.stamp)));
        last.is_some_and(|last| last.epoch < record.epoch)
    }
}

/// Where a server stands, as it published it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    /// The election that it was published for: [`Record::round`].
    pub(crate) round: String,
    /// Whether it was the recorded primary, was demoted in order and has not restarted: it holds everything.
    pub(crate) complete: bool,
    /// Whether it was the recorded primary (the same server, by its identity) and its disk has all that it ever committed.
    pub(crate) kept: bool,
    /// [`Memory::untouched`], of the record of the round.
    pub(crate) untouched: bool,
    /// Whether its disk is full: it holds what it holds, and is a primary only when nobody else can be.
    pub(crate) cramped: bool,
    /// Whether it would give names of transactions again that were taken back there: another server may hold those.
    pub(crate) reuses: bool,
    /// Operator's preference: lower is better.
    pub(crate) priority: u32,
    /// Under which record it acknowledged.
    pub(crate) acknowledging: Option<Acknowledging>,
    /// What it has executed.
    pub(crate) executed: Gtids,
    /// What it has received, executed or not. `None` when it followed nobody.
    pub(crate) received: Option<Gtids>,
    /// Why it is no candidate.
    pub(crate) unfit: Option<Unfit>,
}

impl Position {
    /// The position of a server that has none.
    pub(crate) fn nowhere(round: &str, unfit: Unfit) -> Self {
        Self {
            round: round.to_owned(),
            complete: false,
            kept: false,
            untouched: false,
            cramped: false,
            reuses: false,
            priority: 100,
            acknowledging: None,
            executed: Gtids::Empty,
            received: None,
            unfit: Some(unfit),
        }
    }

    /// As a private attribute. Reads back by [`Self::parse`].
    pub(crate) fn print(&self) -> String {
        let mut flags = String::new();
        for (is, letter) in [(self.complete, 'c'), (self.kept, 'k'), (self.untouched, 'u'), (self.cramped, 'f'), (self.reuses, 'r')] {
            if is {
                flags.push(letter);
            }
        }
        if let Some(unfit) = self.unfit {
            flags.push(match unfit {
                Unfit::NoServer => 'D',
                Unfit::Recovering => 'R',
                Unfit::Unasked => 'U',
                Unfit::Unsound => 'X',
                Unfit::Rejoining => 'W',
            });
        }
        let dash = || "-".to_owned();
        let (stamp, mark) = self.acknowledging.as_ref().map_or_else(|| (dash(), dash()), |a| (a.stamp.to_string(), a.mark.to_string()));
        let received = self.received.as_ref().map_or_else(dash, ToString::to_string);
        format!("{}|{flags}|{}|{stamp}|{mark}|{}|{received}", self.round, self.priority, self.executed)
    }

    /// Reads a position, `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split('|').collect();
        let [round, flags, priority, stamp, mark, executed, received] = fields[..] else { return None };
        let set = |text: &str| Gtids::parse_any(text).ok();
        let acknowledging = match (stamp, mark) {
            ("-", "-") => None,
            (stamp, mark) => Some(Acknowledging { stamp: Stamp::parse(stamp)?, mark: set(mark)? }),
        };
        let mut unfit = None;
        for letter in flags.chars() {
            match letter {
                'c' | 'k' | 'u' | 'f' | 'r' => {}
                'D' => unfit = Some(Unfit::NoServer),
                'R' => unfit = Some(Unfit::Recovering),
                'U' => unfit = Some(Unfit::Unasked),
                'X' => unfit = Some(Unfit::Unsound),
                'W' => unfit = Some(Unfit::Rejoining),
                _ => return None,
            }
        }
        Some(Self {
            round: round.to_owned(),
            complete: flags.contains('c'),
            kept: flags.contains('k'),
            untouched: flags.contains('u'),
            cramped: flags.contains('f'),
            reuses: flags.contains('r'),
            priority: priority.parse().ok()?,
            acknowledging,
            executed: set(executed)?,
            received: if received == "-" { None } else { Some(set(received)?) },
            unfit,
        })
    }

    /// All that it can apply without anybody: what was executed and what was received.
    pub(crate) fn have(&self) -> Gtids {
        self.received.as_ref().map_or_else(|| self.executed.clone(), |received| self.executed.union(received))
    }

    /// Whether its sets are known, and say what its data are. Wrong settings make it no candidate, and do not make its data unknown.
    pub(crate) fn speaks(&self) -> bool {
        self.unfit.is_none_or(Unfit::speaks)
    }

    /// What it holds without the primary ever having had it. Each part by itself: in MariaDB the newest
    /// transaction speaks for those before it, and a received one would hide an errant one.
    fn errant(&self, record: &Record) -> Option<String> {
        errant(&self.executed, record).or_else(|| self.received.as_ref().and_then(|received| errant(received, record)))
    }

    /// What a successor must hold of it: all but what is errant.
    fn owed(&self, record: &Record) -> Gtids {
        let explained = |set: &Gtids| match (&record.set, &record.server) {
            (Some(base), Some(server)) => set.explained(base, server),
            _ => set.clone(),
        };
        let executed = explained(&self.executed);
        self.received.as_ref().map_or_else(|| executed.clone(), |received| executed.union(&explained(received)))
    }
}

/// Rule A: whether acknowledgements may be switched on. `record` was read now, under the lock, and they are switched on over a
/// connection that was open before: then a process that started since is not meant.
pub(crate) fn may_acknowledge(record: &Record, me: &str, following: &str, not_before: Option<Stamp>) -> bool {
    !record.decided() && record.node == following && record.active.contains(me) && not_before.is_some_and(|stamp| record.stamp() > stamp)
}

/// Rule B: whether a server still has all that it ever acknowledged in the record's epoch, and all from before.
pub(crate) fn live(position: &Position, record: &Record) -> bool {
    position.speaks()
        && position.acknowledging.as_ref().is_some_and(|a| {
            // A later stamp than the record's: the CIB was put back, and this is not the record that it knew.
            a.stamp.epoch == record.epoch && a.stamp <= record.stamp() && position.have().contains(&a.mark)
        })
}

/// Rule C: the record with `node` allowed to acknowledge, or allowed anew after its server started. `set` is all that the
/// primary has *logged*, waiting commits included: one of them may be acknowledged already, by the process of that
/// node that is gone, with the acknowledgement still on its way. (MySQL: `gtid_owned` read first, and
/// `gtid_executed`; MariaDB: `gtid_binlog_state`.)
pub(crate) fn joined(record: &Record, node: &str, set: &Gtids) -> Record {
    let mut active = record.active.clone();
    active.extend((node != record.node).then(|| node.to_owned()));
    Record { active, ..rewritten(record, set) }
}

/// The record with all that the primary has logged. For transactions that came to it from elsewhere (a log that was replayed, an empty one in
/// the place of a replica's own): nobody else could know that it has them, and whoever got them from it would count as diverged. `foreign`:
/// these alone, from [`errant`]. With `async-allowed` only they are added, since an election asks its candidates for the whole set.
pub(crate) fn renewed(record: &Record, set: &Gtids, foreign: &str) -> Record {
    let next = rewritten(record, set);
    match (record.durability, &record.set, Gtids::parse_any(foreign)) {
        (Durability::AsyncAllowed, Some(known), Ok(foreign)) => Record { set: Some(known.union(&foreign)), ..next },
        _ => next,
    }
}

/// Whether all that is errant on `server` was written by others. Then the primary may have it as well, and not be recorded with it yet.
pub(crate) fn came_from_elsewhere(errant: &str, server: &str) -> bool {
    Gtids::parse_any(errant).is_ok_and(|set| set.errant(&Gtids::Empty, server).as_deref() == Some(errant))
}

/// Rule D: the record without those that are gone, `None` when nobody can go.
///
/// Called after the barrier, with `record` read before it and with the stamp under which each node is known to have
/// become unable to acknowledge: the one that it published when it resigned, or that of the record that stood when its server had
/// stopped. Only those with the stamp of this very record go: with an older one, the record has been rewritten since,
/// which may have allowed the node to acknowledge again, and then the barrier proves nothing. It resigns again.
pub(crate) fn left(record: &Record, gone: &BTreeMap<String, Stamp>, set: &Gtids) -> Option<Record> {
    let leaves = |node: &String| gone.get(node) == Some(&record.stamp());
    let active: BTreeSet<String> = record.active.iter().filter(|node| !leaves(node)).cloned().collect();
    let enough = record.durability == Durability::AsyncAllowed || active.len() >= record.acknowledgements;
    (enough && active.len() < record.active.len()).then(|| Record { active, ..rewritten(record, set) })
}

/// The record of a primary whose disk may lack what it commits, from now on and until the next promotion: a power cut counts as one that
/// has lost something, whatever its settings are by then.
pub(crate) fn relaxed(record: &Record, set: &Gtids) -> Record {
    Record { relaxed: true, ..rewritten(record, set) }
}

pub(crate) fn rewritten(record: &Record, set: &Gtids) -> Record {
    let set = match record.durability {
        Durability::Lossless => Some(set.clone()),
        // Nothing is marked, and an election asks its candidates for this set: it stays what any replica has.
        Durability::AsyncAllowed => record.set.clone(),
    };
    Record { change: record.change.saturating_add(1), set, ..record.clone() }
}

/// Who begins a reign.
#[derive(Clone, Debug)]
pub(crate) struct Reign<'a> {
    /// The node.
    pub(crate) node: &'a str,
    /// Its server: MySQL's `server_uuid`, MariaDB's `server_id`.
    pub(crate) server: &'a str,
    /// What it has executed, after the drain.
    pub(crate) set: &'a Gtids,
    /// What clients are promised.
    pub(crate) durability: Durability,
    /// How many replicas acknowledge.
    pub(crate) acknowledgements: usize,
    /// Whether a committed transaction is on its disk, by its settings.
    pub(crate) durable: bool,
    /// The nodes whose instances run: those that were asked. Who of them was not heard may still follow this server from a reign of it
    /// before, with acknowledgements on, since nobody has switched them off: it is a member whatever it holds.
    pub(crate) running: &'a BTreeSet<String>,
    /// Whether every write waits for replicas, from the first one on.
    pub(crate) waits: bool,
    /// Whether account is kept of what nobody can have been told of.
    pub(crate) keeps_account: bool,
    /// The highest epoch that this node remembers: the count goes on when an operator's decision named none. With one
    /// epoch twice, what a server remembers of the first would pass for the second.
    pub(crate) remembered: u64,
}

/// Rule G: the record of a reign that begins. Allowed to acknowledge are those that were heard and hold nothing else, and those that may
/// do so unasked: whoever runs and was not heard, and when the same node reigns again, its members that were
/// not heard. They go like all others, by [`left`].
pub(crate) fn successor(before: Option<&Record>, reign: &Reign<'_>, positions: &BTreeMap<String, Position>) -> Record {
    let acknowledged = positions.values().filter_map(|p| p.acknowledging.as_ref()).map(|a| a.stamp.epoch).max();
    let epoch = before.map_or(0, |r| r.epoch).max(acknowledged.unwrap_or(0)).max(reign.remembered).saturating_add(1);
    let follows = |node: &str, p: &Position| {
        node != reign.node
            && p.round == Record::round(before)
            && p.speaks()
            && reign.set.contains(&p.executed)
            && reign.set.contains(&p.have())
    };
    let heard = |node: &String| positions.get(node).is_some_and(|p| p.round == Record::round(before));
    let mut active: BTreeSet<String> = positions.iter().filter(|(node, p)| follows(node, p)).map(|(node, _)| node.clone()).collect();
    let followers = before.filter(|r| r.node == reign.node).into_iter().flat_map(|r| &r.active);
    active.extend(reign.running.iter().chain(followers).filter(|node| *node != reign.node && !heard(node)).cloned());
    Record {
        epoch,
        change: 0,
        node: reign.node.to_owned(),
        server: Some(reign.server.to_owned()),
        durability: reign.durability,
        acknowledgements: reign.acknowledgements.max(1),
        active,
        relaxed: !reign.durable,
        unbroken: reign.keeps_account.then(|| reign::unbroken(before, reign, epoch)),
        set: Some(reign.set.clone()),
    }
}

/// Whether a promotion that was killed after it wrote the record may go on with opening. `claim` is the record that the
/// agent saved before it wrote it, deleted by every demotion and every start of the server: a reign that has ended does not
/// go on, since positions of its last record may have been published.
pub(crate) fn may_resume(record: Option<&Record>, claim: Option<&Record>) -> bool {
    claim.is_some() && record == claim
}

/// Rule F: which transactions the recorded primary neither had nor wrote. `None` when there are none, and when an operator
/// has decided, since then nobody knows.
pub(crate) fn errant(set: &Gtids, record: &Record) -> Option<String> {
    set.errant(record.set.as_ref()?, record.server.as_deref()?)
}

/// Why a server must not follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Divergence {
    /// It has these, and the primary has not.
    Errant(String),
    /// It wrote these itself, has lost them (its disk did not keep its promise, or it was made anew), and no receiver takes them: MariaDB's
    /// would pass over them and count them as had.
    Lost(String),
}

/// Whether a server may follow: `set` is what it has executed, `server` who it is. `None` when it may, or when nobody knows.
pub(crate) fn divergence(set: &Gtids, server: &str, record: &Record) -> Option<Divergence> {
    let lost = || set.own_to_come(record.set.as_ref()?, server).map(Divergence::Lost);
    errant(set, record).map(Divergence::Errant).or_else(lost)
}

/// What is known when the question is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question<'a> {
    /// The node that asks: the candidate.
    pub(crate) me: &'a str,
    /// The record in the CIB.
    pub(crate) record: Option<&'a Record>,
    /// The positions, by node. Those of another round do not count.
    pub(crate) positions: &'a BTreeMap<String, Position>,
    /// The nodes that were asked: the instances that run, this one included.
    pub(crate) running: &'a BTreeSet<String>,
    /// How many servers there may be, when known.
    pub(crate) servers: Option<usize>,
    /// How an operator decides: the command, with NODE for the node.
    pub(crate) decide: &'a str,
}

/// Decides whether the candidate may be promoted.
pub(crate) fn elect(q: &Question<'_>) -> Verdict {
    let round = Record::round(q.record);
    let heard: Heard<'_> = q.positions.iter().filter(|(_, p)| p.round == round).map(|(node, p)| (node.as_str(), p)).collect();
    match heard.get(q.me) {
        None => {
            return Verdict::Refuse(format!(
                "the position of {} itself is not known: see its log for why it could not publish it, and wait for the next attempt",
                q.me
            ));
        }
        Some(mine) => {
            if let Some(why) = mine.unfit {
                return Verdict::Refuse(format!("{} cannot be promoted: {}", q.me, remedy(why)));
            }
        }
    }
    match q.record {
        None => fresh(q, &heard),
        Some(record) if record.decided() => decided(q, &heard, record),
        Some(record) => Election { q, heard: &heard, record }.held(),
    }
}

/// Whose transactions the elected must hold, and which.
type Debts<'a> = Vec<(&'a str, Gtids)>;
/// The positions of this round.
type Heard<'a> = BTreeMap<&'a str, &'a Position>;

pub(crate) fn remedy(why: Unfit) -> &'static str {
    match why {
        Unfit::NoServer => "its server does not run; start it, or see its log",
        Unfit::Recovering => "it recovers from a crash; wait",
        Unfit::Unasked => "its server is alive and could not be asked; correct what its monitor says, and wait",
        Unfit::Unsound => "its settings break the promise to clients; write the line that its monitor names",
        Unfit::Rejoining => {
            "a copy of the primary's data, or taking back what that one does not have, is not ended there; wait: systole status shows how far it \
             is, and where it failed what to do"
        }
    }
}

fn choose(q: &Question<'_>, node: &str, reason: String) -> Verdict {
    if node == q.me { Verdict::GoOn(reason) } else { Verdict::HandOver { to: node.to_owned(), reason } }
}

/// The best of these: the candidate itself (a move would cost time for nothing), then the operator's preference, then
/// who contains most of the others (or else they would be left with transactions that nobody wants), then the name.
fn best<'a>(q: &Question<'_>, among: &[(&'a str, &Position)]) -> Option<&'a str> {
    if let Some((me, _)) = among.iter().find(|(node, _)| *node == q.me) {
        return Some(me);
    }
    let contained = |p: &Position| among.iter().filter(|(_, other)| p.have().contains(&other.have())).count();
    among.iter().min_by_key(|(node, p)| (p.priority, Reverse(contained(p)), *node)).map(|(node, _)| *node)
}

/// What each of two holds and the other does not.
fn differences(a: &str, mine: &Gtids, b: &str, theirs: &Gtids) -> String {
    match (mine.difference(theirs), theirs.difference(mine)) {
        (Some(x), Some(y)) => format!("{a} alone holds {x} and {b} alone holds {y}"),
        (Some(x), None) => format!("{a} alone holds {x}"),
        (None, Some(y)) => format!("{b} alone holds {y}"),
        (None, None) => format!("{a} and {b} hold the same"),
    }
}

/// An operator decided where the truth is.
fn decided(q: &Question<'_>, heard: &Heard<'_>, record: &Record) -> Verdict {
    match heard.get(record.node.as_str()) {
        Some(p) if p.unfit.is_none() => {
            choose(q, &record.node, format!("the record names {} and no set: an operator decided", record.node))
        }
        other => Verdict::Refuse(format!(
            "the record names {}, which cannot be promoted ({}): start it, or decide again with: {}",
            record.node,
            other.and_then(|p| p.unfit).map_or("nothing was heard of it", remedy),
            q.decide
        )),
    }
}

/// The servers that are alive and could not be asked what they hold.
fn unasked(heard: &Heard<'_>) -> Option<String> {
    let nodes: Vec<&str> = heard.iter().filter(|(_, p)| p.unfit == Some(Unfit::Unasked)).map(|(node, _)| *node).collect();
    (!nodes.is_empty()).then(|| nodes.join(" and "))
}

/// Somebody is alive, and nobody knows what it holds.
fn refuse_unasked(q: &Question<'_>, nodes: &str) -> Verdict {
    Verdict::Refuse(format!(
        "{nodes} did not say what it holds: {}, or name the node whose data are right with: {}",
        remedy(Unfit::Unasked),
        q.decide
    ))
}

/// The first promotion of all: nothing is recorded, so nothing was promised, and whoever has data has the truth.
fn fresh(q: &Question<'_>, heard: &Heard<'_>) -> Verdict {
    if let Some(nodes) = unasked(heard) {
        return refuse_unasked(q, &nodes);
    }
    let silent: Vec<&str> = q.running.iter().map(String::as_str).filter(|node| !heard.contains_key(node)).collect();
    if !silent.is_empty() {
        return Verdict::Refuse(format!(
            "no promotion is recorded, and {} did not say what it holds: wait for it, or decide with: {}",
            silent.join(" and "),
            q.decide
        ));
    }
    let with_data: Vec<(&str, &Position)> =
        heard.iter().filter(|(_, p)| p.speaks() && !p.have().is_empty()).map(|(n, p)| (*n, *p)).collect();
    let Some((first, most)) = with_data.first() else { return nobody_has_data(q, heard) };
    let superset = |p: &&Position| with_data.iter().all(|(_, other)| p.have().contains(&other.have()));
    let candidates: Vec<(&str, &Position)> =
        heard.iter().filter(|(_, p)| p.unfit.is_none() && superset(p)).map(|(n, p)| (*n, *p)).collect();
    if let Some(node) = best(q, &candidates) {
        return choose(q, node, format!("first promotion: {node} holds all data"));
    }
    let incomparable = with_data.iter().find_map(|a| {
        let other = with_data.iter().find(|b| !a.1.have().contains(&b.1.have()) && !b.1.have().contains(&a.1.have()));
        other.map(|b| differences(a.0, &a.1.have(), b.0, &b.1.have()))
    });
    Verdict::Refuse(match incomparable {
        Some(differences) => {
            format!("no promotion is recorded and the servers differ: {differences}; name the node whose data are right with: {}", q.decide)
        }
        None => format!(
            "first promotion: the servers that hold all data cannot be promoted ({first}: {}): allow that, or decide with: {}",
            most.unfit.map_or("another holds more", remedy),
            q.decide
        ),
    })
}

/// Nobody who was heard has data. That is harmless only when everybody was heard: an absent server may have some, and
/// would be left with them when it comes back as a replica of an empty primary.
fn nobody_has_data(q: &Question<'_>, heard: &Heard<'_>) -> Verdict {
    let spoke = heard.values().filter(|p| p.speaks()).count();
    let missing = q.servers.map_or(heard.len(), |n| n.max(heard.len())) - spoke;
    if missing > 0 {
        return Verdict::Refuse(format!(
            "{} is empty and {missing} of the servers did not say whether they hold data: start them (crm_mon -1), set clone-max if there are fewer servers than nodes, or decide with: {}",
            q.me, q.decide
        ));
    }
    Verdict::GoOn("all servers are empty".into())
}

/// The ordinary case: a primary is recorded, and its successor (or itself again) is to be found.
struct Election<'a> {
    q: &'a Question<'a>,
    heard: &'a Heard<'a>,
    record: &'a Record,
}

impl Election<'_> {
    fn held(&self) -> Verdict {
        let record = self.record;
        if let Some(later) = self.later_than_the_record() {
            return later;
        }
        let primary = self.heard.get(record.node.as_str()).filter(|p| p.speaks());
        if let Some(p) = primary.filter(|p| p.complete) {
            let all = [(record.node.as_str(), p.owed(record))];
            let safest = self.holder_of(&all, false);
            // A full disk: what it failed to write counts as its own (MariaDB numbers it all the same), nobody will ever get
            // that, and nobody was promised it.
            let returns = safest.as_ref().is_none_or(|verdict| verdict.chosen(self.q.me) == Some(&record.node));
            let promised = if p.cramped && returns && record.durability == Durability::Lossless { self.promised().ok() } else { None };
            return promised.or(safest).unwrap_or_else(|| self.nobody_holds(&all));
        }
        match record.durability {
            Durability::Lossless => self.lossless(primary.copied()),
            Durability::AsyncAllowed => self.asynchronous(),
        }
    }

    /// Somebody has acknowledged under a later record than the one in the CIB, so that was put back. What clients were told of since would count
    /// as nobody's: the record names another as who wrote it.
    fn later_than_the_record(&self) -> Option<Verdict> {
        let record = self.record;
        let stamp = |p: &Position| p.acknowledging.as_ref().map(|a| a.stamp).filter(|stamp| *stamp > record.stamp());
        let (node, later) = self.heard.iter().find_map(|(node, p)| Some((node, stamp(p)?)))?;
        Some(Verdict::Refuse(format!(
            "the record in the CIB is {} and {node} has acknowledged under {later}: the CIB was put back, and nobody knows who reigned since; name the \
             node whose data are right with: {}",
            record.stamp(),
            self.q.decide
        )))
    }

    /// Who holds what may have been acknowledged in this epoch, if enough members of `active` say so. Otherwise what nobody holds,
    /// if that is why.
    fn promised(&self) -> Result<Verdict, Option<Debts<'_>>> {
        let record = self.record;
        let mut all = self.live();
        // Who has acknowledged nothing in this epoch is no holder, and cannot be the one that would have been missed.
        let untouched = self.members().filter(|(_, p)| p.speaks() && p.untouched && !live(p, record)).count();
        if all.len() + untouched + record.acknowledgements <= record.active.len() {
            return Err(None);
        }
        if all.is_empty() {
            // Nobody can have acknowledged in this epoch: what matters is from before.
            all.push(self.recorded());
        }
        self.holder_of(&all, false).ok_or(Some(all))
    }

    /// The members of `active` that were heard.
    fn members(&self) -> impl Iterator<Item = (&str, &Position)> {
        self.record.active.iter().filter_map(|node| self.heard.get(node.as_str()).map(|p| (node.as_str(), *p)))
    }

    /// What is owed to those of them that are live.
    fn live(&self) -> Debts<'_> {
        self.members().filter(|(_, p)| live(p, self.record)).map(|(node, p)| (node, p.owed(self.record))).collect()
    }

    /// What stood when the record was written.
    fn recorded(&self) -> (&'static str, Gtids) {
        ("the record", self.record.set.clone().unwrap_or_default())
    }

    /// Promises were kept by acknowledgements: the elected must hold what may have been acknowledged.
    fn lossless(&self, primary: Option<&Position>) -> Verdict {
        let record = self.record;
        let mut unmet = match self.promised() {
            Ok(verdict) => return verdict,
            Err(unmet) => unmet,
        };
        // The primary's own disk. What the record says that it held must be there: it may be another disk.
        if let Some(p) = primary.filter(|p| p.kept && p.have().contains(&self.recorded().1)) {
            let mut all = self.live();
            all.push((&record.node, p.owed(record)));
            match self.holder_of(&all, false) {
                Some(verdict) => return verdict,
                None => unmet = Some(all),
            }
        }
        // Everybody is here: nobody can come who has more.
        let everybody: Option<Debts<'_>> = [&record.node]
            .into_iter()
            .chain(&record.active)
            .map(|node| self.heard.get(node.as_str()).filter(|p| p.speaks()).map(|p| (node.as_str(), p.owed(record))))
            .collect();
        if let Some(mut all) = everybody {
            all.push(self.recorded());
            match self.holder_of(&all, true) {
                Some(verdict) => return verdict,
                None => unmet = Some(all),
            }
        }
        unmet.map_or_else(|| self.too_few(primary), |all| self.nobody_holds(&all))
    }

    /// Loss was accepted, but not of everything: whoever is elected has at least what stood at the promotion before,
    /// unless everybody is here.
    fn asynchronous(&self) -> Verdict {
        let record = self.record;
        if let Some(nodes) = unasked(self.heard) {
            return refuse_unasked(self.q, &nodes);
        }
        let mut all: Vec<(&str, Gtids)> =
            self.heard.iter().filter(|(_, p)| p.speaks() && p.errant(record).is_none()).map(|(node, p)| (*node, p.have())).collect();
        let mut members = [&record.node].into_iter().chain(&record.active);
        let everybody = members.all(|node| self.heard.get(node.as_str()).is_some_and(|p| p.speaks()));
        if !everybody {
            all.push(("the record", record.set.clone().unwrap_or_default()));
        }
        self.holder_of(&all, everybody).unwrap_or_else(|| self.nobody_holds(&all))
    }

    /// Whether this is the recorded primary and may have lost its newest transactions in a crash, or one whose were taken back. It would give their
    /// identities away again, to others, and a replica that got the lost ones could not tell. So it is promoted only when
    /// everybody is here, and none has one that it has not.
    fn cut(&self, node: &str, position: &Position) -> bool {
        position.reuses || node == self.record.node && !position.complete && !position.kept
    }

    /// Whether no server that was heard, member or not, has anything else.
    fn exceeds_all(&self, position: &Position) -> bool {
        let have = position.have();
        self.heard.values().filter(|p| p.speaks()).all(|p| have.contains(&p.owed(self.record)))
    }

    /// The best candidate that holds all of these, if there is one.
    fn holder_of(&self, all: &[(&str, Gtids)], everybody: bool) -> Option<Verdict> {
        let holds = |p: &Position| {
            let have = p.have();
            all.iter().all(|(_, set)| have.contains(set))
        };
        let mut candidates: Vec<(&str, &Position)> = self
            .heard
            .iter()
            .filter(|(node, p)| {
                p.unfit.is_none() && p.errant(self.record).is_none() && (!self.cut(node, p) || everybody && self.exceeds_all(p)) && holds(p)
            })
            .map(|(node, p)| (*node, *p))
            .collect();
        if candidates.iter().any(|(_, p)| !p.cramped) {
            candidates.retain(|(_, p)| !p.cramped);
        }
        let node = best(self.q, &candidates)?;
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).filter(|name| *name != node).collect();
        let reason = if names.is_empty() {
            format!("{node} holds everything that was acknowledged by {}", self.record.node)
        } else {
            format!("{node} holds all of {}", names.join(" and "))
        };
        Some(choose(self.q, node, reason))
    }

    /// The data are here, and no single candidate holds them all.
    fn nobody_holds(&self, all: &[(&str, Gtids)]) -> Verdict {
        let q = self.q;
        let mine = self.heard.get(q.me).map(|p| p.have()).unwrap_or_default();
        let why = if let Some(errant) = self.heard.get(q.me).and_then(|p| p.errant(self.record)) {
            format!("{} holds transactions that the primary {} never had: {errant}", q.me, self.record.node)
        } else if let Some((node, set)) = all.iter().find(|(_, set)| !mine.contains(set)) {
            let excluded = self.heard.get(node).and_then(|p| p.unfit).map(|why| format!(" ({node} cannot be promoted: {})", remedy(why)));
            format!("{}{}", differences(q.me, &mine, node, set), excluded.unwrap_or_default())
        } else {
            format!("{} may have lost its newest transactions in its crash, and another server may hold them", q.me)
        };
        Verdict::Refuse(format!(
            "no server that can be promoted holds all that may have been acknowledged: {why}; start the servers that are missing, or name the node whose data are right with: {}",
            q.decide
        ))
    }

    /// Somebody who was not heard may hold the last acknowledged transaction.
    fn too_few(&self, primary: Option<&Position>) -> Verdict {
        let record = self.record;
        let mut silent = Vec::new();
        for node in &record.active {
            match self.heard.get(node.as_str()) {
                Some(p) if live(p, record) || (p.speaks() && p.untouched) => {}
                Some(p) if p.speaks() => silent.push(format!("{node} (which restarted since, or has not got everything back)")),
                Some(p) => silent.push(format!("{node} ({})", p.unfit.map_or("unknown", remedy))),
                None => silent.push(format!("{node} (not heard)")),
            }
        }
        let primary = match primary {
            None => format!("the last primary {}, whose disk alone would do, was not heard", record.node),
            Some(p) if p.kept => format!("the last primary {} has less than it had when it was recorded", record.node),
            Some(_) => format!("the last primary {} may have lost transactions in its crash", record.node),
        };
        Verdict::Refuse(format!(
            "an acknowledged transaction may be only on {}, and {primary}: start the servers there, or accept the loss with: {}",
            silent.join(" or "),
            self.q.decide
        ))
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
