//! Who may be promoted. Pure: no clock, no environment, no I/O.
//!
//! The invariants that are kept here:
//!
//! R1. A server that restarted empty never wipes a server that has data.
//! R3. Among comparable positions the highest is elected. Positions are comparable when they count in the recorded
//!     history (Redis' replication id), or in one that led up to it; other offsets say nothing about each other.
//! R4. With durability=quorum, whatever `WAIT k` confirmed is in the elected data: k of the recorded holders (the in-sync set)
//!     have it, so of n such replicas n - k + 1 must be heard before one of them can be known to be ahead of all confirmations.
//! R5. A server that has not followed for long is not taken for one that has: a primary in office takes it out of the recorded holders.
//!     It wins over nobody who has the recorded primary's data, and not while a holder is silent.
//! R6. Nobody is elected over a server that is alive and could not be asked, unless the old primary was demoted in order.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use promotable::Verdict;

use crate::record::Record;

/// Why a server is no candidate whatever its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unfit {
    /// Its process is gone.
    NoServer,
    /// It is alive and could not be asked: it may hold more than anybody else.
    Unasked,
    /// It is loading its data from disk: the position is not known yet.
    Loading,
    /// It is receiving a first copy: its data are incomplete.
    Syncing,
    /// It threw its data away for a copy that it could not load.
    Emptied,
    /// The operator said never (replica-priority 0).
    Never,
}

/// Where a server stands, as it published it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    /// The election that it was published for.
    pub(crate) round: String,
    /// The history (replication id) that the offset counts in.
    pub(crate) history: String,
    /// Bytes of that history that the server holds.
    pub(crate) offset: u64,
    /// The history before, and the first offset that is not of it.
    pub(crate) before: Option<(String, u64)>,
    /// Whether it holds any key.
    pub(crate) has_keys: bool,
    /// Whether its process has been attached to a primary, or was one: its data are more than what a disk had.
    pub(crate) live: bool,
    /// Whether it was the recorded primary and has not restarted: it holds everything.
    pub(crate) complete: bool,
    /// Operator's preference: lower is better.
    pub(crate) priority: u32,
    /// Why it is no candidate.
    pub(crate) unfit: Option<Unfit>,
}

impl Position {
    /// The position of a server that has none.
    pub(crate) fn nowhere(round: &str, unfit: Unfit) -> Self {
        Self {
            round: round.to_owned(),
            history: String::new(),
            offset: 0,
            before: None,
            has_keys: false,
            live: false,
            complete: false,
            priority: 100,
            unfit: Some(unfit),
        }
    }

    /// As a private attribute. Reads back by [`Self::parse`].
    pub(crate) fn print(&self) -> String {
        let (id, end) = self.before.as_ref().map_or(("-", 0), |(id, end)| (id.as_str(), *end));
        let mut flags = String::new();
        for (is, letter) in [(self.has_keys, 'k'), (self.live, 'l'), (self.complete, 'c')] {
            if is {
                flags.push(letter);
            }
        }
        if let Some(unfit) = self.unfit {
            flags.push(match unfit {
                Unfit::NoServer => 'D',
                Unfit::Unasked => 'U',
                Unfit::Loading => 'L',
                Unfit::Syncing => 'S',
                Unfit::Emptied => 'E',
                Unfit::Never => 'N',
            });
        }
        let history = if self.history.is_empty() { "-" } else { &self.history };
        format!("{}:{history}:{}:{id}:{end}:{}:-{flags}", self.round, self.offset, self.priority)
    }

    /// Reads a position, `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split(':').collect();
        let [round, history, offset, id, end, priority, flags] = fields[..] else { return None };
        let flags = flags.strip_prefix('-')?;
        let some = |text: &str| Some(text).filter(|t| *t != "-").map(str::to_owned);
        let before = match some(id) {
            Some(id) => Some((id, end.parse().ok()?)),
            None => None,
        };
        let mut unfit = None;
        for letter in flags.chars() {
            match letter {
                'k' | 'l' | 'c' => {}
                'D' => unfit = Some(Unfit::NoServer),
                'U' => unfit = Some(Unfit::Unasked),
                'L' => unfit = Some(Unfit::Loading),
                'S' => unfit = Some(Unfit::Syncing),
                'E' => unfit = Some(Unfit::Emptied),
                'N' => unfit = Some(Unfit::Never),
                _ => return None,
            }
        }
        Some(Self {
            round: round.to_owned(),
            history: some(history).unwrap_or_default(),
            offset: offset.parse().ok()?,
            before,
            has_keys: flags.contains('k'),
            live: flags.contains('l'),
            complete: flags.contains('c'),
            priority: priority.parse().ok()?,
            unfit,
        })
    }

    /// Whether its offset counts in `history`, directly or because it went on from there (a promotion that was killed
    /// before it could be recorded).
    fn counts_in(&self, history: &str) -> bool {
        self.history == history || self.before.as_ref().is_some_and(|(id, _)| id == history)
    }

    /// Whether its data are a part of what was recorded, so that its offset says how large a part: it counts in the
    /// recorded history, or in one before, no further than where that ended.
    fn is_part_of(&self, record: &Record) -> bool {
        record.history.as_ref().is_some_and(|h| self.counts_in(h))
            || record.past.iter().any(|(id, end)| self.history == *id && self.offset <= *end)
    }
}

/// What is known when the question is asked.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// The node that asks: the candidate.
    pub(crate) me: &'a str,
    /// The record in the CIB.
    pub(crate) record: Option<&'a Record>,
    /// The positions of this round, by node.
    pub(crate) positions: &'a BTreeMap<String, Position>,
    /// The nodes whose instances run. What another one had published may count, but it cannot be promoted.
    pub(crate) running: &'a BTreeSet<String>,
    /// How many servers there may be, when known.
    pub(crate) servers: Option<usize>,
    /// With durability=quorum: how many replicas confirm a write (k).
    pub(crate) confirmations: Option<usize>,
    /// After a full restart, none but the recorded primary.
    pub(crate) wait_last_known_primary: bool,
    /// How an operator decides: the command, with NODE for the node.
    pub(crate) decide: &'a str,
}

impl Question<'_> {
    fn runs(&self, node: &str) -> bool {
        node == self.me || self.running.contains(node)
    }
}

/// Decides whether the candidate may be promoted.
pub(crate) fn elect(q: &Question<'_>) -> Verdict {
    match q.positions.get(q.me) {
        None => {
            return Verdict::Refuse(format!(
                "the position of {} itself is not known: see its log for why it could not publish it, and wait for the next attempt",
                q.me
            ));
        }
        Some(mine) if mine.unfit.is_some() => return unfit_candidate(q, mine),
        Some(_) => {}
    }
    match q.record {
        None => fresh(q),
        Some(record) => match &record.history {
            None => decided(q, record),
            Some(history) => successor(q, record, history),
        },
    }
}

/// Candidates in the order of preference: one that holds data, the highest offset, then the operator's preference, then the
/// candidate itself (a move would cost time for nothing), then the name.
fn best<'a>(q: &Question<'a>, among: impl Fn(&Position) -> bool) -> Option<(&'a str, &'a Position)> {
    q.positions
        .iter()
        .filter(|(node, p)| p.unfit.is_none() && q.runs(node) && among(p))
        .max_by(|(a, x), (b, y)| {
            // Where that is equal: what went on from there may have been written by clients under a record that was lost.
            let rank = |p: &Position| (p.has_keys, held(q, p), p.offset);
            rank(x).cmp(&rank(y)).then(y.priority.cmp(&x.priority)).then((*a == q.me).cmp(&(*b == q.me))).then(b.cmp(a))
        })
        .map(|(node, position)| (node.as_str(), position))
}

/// How much of the recorded history a server holds. What one has added by itself after it left that (it expires keys, it pings) is nobody's
/// write, and counts for nothing. Where it was left, whoever left it last knows best.
fn held(q: &Question<'_>, p: &Position) -> u64 {
    let Some(history) = q.record.and_then(|r| r.history.as_ref()).filter(|history| **history != p.history) else { return p.offset };
    let left = |other: &Position| {
        let (id, first_other) = other.before.as_ref()?;
        (other.history == p.history && id == history).then(|| first_other.saturating_sub(1))
    };
    q.positions.values().filter_map(left).max().map_or(p.offset, |end| p.offset.min(end))
}

fn choose(q: &Question<'_>, node: &str, reason: String) -> Verdict {
    if node == q.me {
        return Verdict::GoOn(reason);
    }
    if !q.runs(node) {
        // The cluster promotes none that is stopped, and would ask for this for ever.
        return Verdict::Refuse(format!(
            "{reason}, and its server is stopped: start it (crm node online {node}), or decide with: {}",
            q.decide
        ));
    }
    Verdict::HandOver { to: node.to_owned(), reason }
}

/// The candidate cannot be promoted; another one may.
fn unfit_candidate(q: &Question<'_>, mine: &Position) -> Verdict {
    let why = match mine.unfit {
        Some(Unfit::NoServer) => "its server does not run; start it, or see its log",
        Some(Unfit::Unasked) => "its server cannot be asked; correct what its monitor says, and wait for the next attempt",
        Some(Unfit::Loading) => "it is loading its data; wait",
        Some(Unfit::Syncing) => "it is receiving its first copy; wait",
        Some(Unfit::Emptied) => {
            "it threw its data away for a copy that it could not load; see its log (an older version?), and start another that holds data"
        }
        Some(Unfit::Never) | None => "its replica-priority is 0; raise it to allow promotion",
    };
    Verdict::Refuse(format!("{} cannot be promoted: {why}", q.me))
}

/// An operator decided where the truth is.
fn decided(q: &Question<'_>, record: &Record) -> Verdict {
    match q.positions.get(&record.node) {
        Some(p) if p.unfit.is_none() => {
            choose(q, &record.node, format!("the record names {} and no history: an operator decided", record.node))
        }
        _ => Verdict::Refuse(format!(
            "the record names {}, which cannot be promoted: start it, or decide again with: {}",
            record.node, q.decide
        )),
    }
}

/// The first promotion of all: nothing is recorded.
fn fresh(q: &Question<'_>) -> Verdict {
    if let Some(refusal) = unasked(q).or_else(|| loading(q, |_| true)) {
        return refusal;
    }
    let with_data: Vec<(&String, &Position)> = q.positions.iter().filter(|(_, p)| p.has_keys).collect();
    let Some((_, first)) = with_data.first() else { return nobody_has_data(q) };
    if let Some((other, _)) = with_data.iter().find(|(_, p)| !p.counts_in(&first.history) && !first.counts_in(&p.history)) {
        return Verdict::Refuse(format!(
            "{} and {other} hold different data and no promotion is recorded: name the node whose data are right with: {}",
            with_data[0].0, q.decide
        ));
    }
    match best(q, |p| p.has_keys) {
        Some((node, _)) => choose(q, node, format!("first promotion: {node} holds data")),
        None => Verdict::Refuse(format!("the servers that hold data cannot be promoted: wait for them, or decide with: {}", q.decide)),
    }
}

/// A server that lives and was not understood may hold more than all others. What it lacks is usually a login, and nobody's data are worth
/// less than that.
fn unasked(q: &Question<'_>) -> Option<Verdict> {
    let (node, _) = q.positions.iter().find(|(_, p)| p.unfit == Some(Unfit::Unasked))?;
    Some(Verdict::Refuse(format!(
        "the server on {node} is alive and cannot be asked what it holds: correct what its monitor says, or stop it, and wait for the next \
         attempt, or decide with: {}",
        q.decide
    )))
}

/// What a server is reading from its disk may be more than what the others have: with nobody who followed to the end, that has to be seen
/// first. `counts`: whose data matter.
fn loading(q: &Question<'_>, counts: impl Fn(&str) -> bool) -> Option<Verdict> {
    let (node, _) = q.positions.iter().find(|(node, p)| p.unfit == Some(Unfit::Loading) && counts(node))?;
    Some(Verdict::Refuse(format!("the server on {node} is loading its data, which may be more: wait for it, or decide with: {}", q.decide)))
}

/// Nobody who was heard has data. That is harmless only when everybody was heard: an absent server may have some, and
/// would lose them when it comes back as a replica of an empty primary.
fn nobody_has_data(q: &Question<'_>) -> Verdict {
    if let Some((node, _)) = q.positions.iter().find(|(_, p)| p.has_keys && p.unfit == Some(Unfit::Never)) {
        return Verdict::Refuse(format!(
            "{node} alone holds data, and its replica-priority is 0: raise it there, or decide with: {}",
            q.decide
        ));
    }
    let silent = q.positions.values().filter(|p| matches!(p.unfit, Some(Unfit::NoServer | Unfit::Unasked | Unfit::Loading))).count();
    let missing = q.servers.map_or(silent, |n| n.saturating_sub(q.positions.len()) + silent);
    if missing > 0 {
        return Verdict::Refuse(format!(
            "{} is empty and {missing} of the servers did not say whether they hold data: start them (crm_mon -1), set clone-max if there are fewer servers than nodes, or decide with: {}",
            q.me, q.decide
        ));
    }
    match q.record.and_then(|r| q.positions.get_key_value(&r.node)).filter(|(_, p)| p.unfit.is_none()) {
        Some((node, _)) => choose(q, node, format!("all servers are empty: {node} was the primary")),
        None => Verdict::GoOn("all servers are empty".into()),
    }
}

/// The ordinary case: a primary is recorded, and its successor (or itself again) is to be found.
fn successor(q: &Question<'_>, record: &Record, history: &str) -> Verdict {
    let unrecorded = unrecorded_history(q, record, history);
    let current = |p: &Position| p.counts_in(history) || unrecorded.is_some_and(|id| p.counts_in(id));
    let same = |p: &Position| p.is_part_of(record) || current(p);
    let recorded = q.positions.get(&record.node);
    // Also one that nobody may promote: what it holds is there all the same.
    if let Some(p) = recorded.filter(|p| p.complete && matches!(p.unfit, None | Some(Unfit::Never))) {
        // A planned move, or a demotion in between: the old primary holds everything. Equal offsets go on.
        let all = |x: &Position| held(q, x) >= held(q, p) && (x.history != p.history || x.offset >= p.offset);
        return match best(q, |x| same(x) && all(x) && (x.has_keys || !p.has_keys)) {
            Some((node, _)) => choose(q, node, format!("{node} holds all {} bytes of the old primary {}", p.offset, record.node)),
            None if p.unfit.is_some() => Verdict::Refuse(format!(
                "{} alone holds all its data ({} bytes), and its replica-priority is 0: raise it there, or decide with: {}",
                record.node, p.offset, q.decide
            )),
            None => choose(q, &record.node, format!("nobody but {} holds all its data ({} bytes)", record.node, p.offset)),
        };
    }
    if let Some(refusal) = unasked(q) {
        return refusal;
    }
    // A primary in office takes out of the record who has not followed it for long.
    let followed = |node: &str| record.holders.is_empty() || record.holders.contains(node);
    let live = q.positions.iter().any(|(node, p)| current(p) && p.live && p.unfit.is_none() && followed(node));
    if let Some(refusal) = loading(q, followed).filter(|_| !live) {
        return refusal;
    }
    if !live && q.wait_last_known_primary && recorded.is_none_or(|p| p.unfit.is_some()) {
        return Verdict::Refuse(format!(
            "wait_last_known_master is set and {} does not run: start it, or decide with: {}",
            record.node, q.decide
        ));
    }
    if let (Some(needed), Some(k)) = (silent_confirmations(q, record, current), q.confirmations) {
        return Verdict::Refuse(format!(
            "a write confirmed by {k} replica(s) may be on {needed}, whose position is not known: start the server there, or accept the loss with: {}",
            q.decide
        ));
    }
    let verdict = by_data(q, record, live, same);
    let winner = match &verdict {
        Verdict::GoOn(_) => q.positions.get(q.me),
        Verdict::HandOver { to, .. } => q.positions.get(to),
        Verdict::Refuse(_) => None,
    };
    winner.and_then(|winner| confirmed_elsewhere(q, record, current, winner)).unwrap_or(verdict)
}

/// Who holds the most. `live`: somebody followed until the end; `same`: a position counts in what was recorded.
fn by_data(q: &Question<'_>, record: &Record, live: bool, same: impl Fn(&Position) -> bool) -> Verdict {
    if let Some(refusal) = incomparable(q, record, &same) {
        return refusal;
    }
    let recorded = q.positions.get(&record.node);
    // Nobody followed until the end. The recorded primary, restarted from an append-only file, has all the data but
    // no position to compare (only a snapshot restores one).
    let primary_without_position = recorded.filter(|p| !live && p.has_keys && p.unfit.is_none() && !same(p));
    if primary_without_position.is_some() {
        return choose(q, &record.node, format!("all servers restarted and {} was the primary", record.node));
    }
    if let Some((node, p)) = best(q, |p| same(p) && (p.has_keys || p.live)) {
        if let Some(refusal) = left_behind(q, record, node) {
            return refusal;
        }
        if let Some(refusal) = loading(q, |_| true).filter(|_| !p.has_keys) {
            return refusal;
        }
        let with_data = q.positions.iter().find(|(_, other)| !p.has_keys && other.has_keys && other.unfit.is_none());
        if let Some((other, _)) = with_data {
            return Verdict::Refuse(format!(
                "{node} followed to the end and is empty, and {other} holds data that cannot be compared: name the node whose data are right with: {}",
                q.decide
            ));
        }
        return choose(q, node, format!("{node} holds most of the history of {} ({} bytes)", record.node, p.offset));
    }
    without_history(q, record)
}

/// A server that followed to the end, or was the primary, and whose history says nothing about the recorded one (promotions that were not
/// recorded): it may hold what nobody else does. One that left for a history before the recorded one is known to have been passed already.
fn incomparable(q: &Question<'_>, record: &Record, same: impl Fn(&Position) -> bool) -> Option<Verdict> {
    let passed = |p: &Position| record.past.iter().any(|(id, _)| p.counts_in(id));
    // Another one may know where its history begins.
    let known = |p: &Position| q.positions.values().any(|other| other.history == p.history && same(other));
    let unknown = |p: &Position| p.unfit.is_none() && p.live && p.has_keys && !known(p) && !passed(p);
    let matters = |node: &String| *node == record.node || record.holders.contains(node);
    let (node, _) = q.positions.iter().find(|(node, p)| matters(node) && unknown(p))?;
    Some(Verdict::Refuse(format!(
        "{node} has not restarted, and its data cannot be compared with what {} wrote as the primary: name the node whose data are right with: {}",
        record.node, q.decide
    )))
}

/// The history that the living replicas share when it is none that was recorded: the primary began it by itself, and
/// died before that was recorded. What they got from it is what they have.
fn unrecorded_history<'a>(q: &'a Question<'_>, record: &Record, history: &str) -> Option<&'a str> {
    // Who may never be promoted lives all the same.
    let mut live = q.positions.values().filter(|p| p.live && matches!(p.unfit, None | Some(Unfit::Never)) && !p.complete);
    let first = live.next()?;
    let recorded = |p: &Position| p.counts_in(history) || record.past.iter().any(|(id, _)| p.history == *id);
    (!recorded(first) && live.all(|p| p.history == first.history)).then_some(first.history.as_str())
}

/// The holders whose silence matters: `None` when enough have been heard, or nothing was promised. Heard is who has
/// followed without a restart: what a disk had may be less than what was confirmed.
fn silent_confirmations(q: &Question<'_>, record: &Record, current: impl Fn(&Position) -> bool) -> Option<String> {
    let k = q.confirmations.filter(|k| *k > 0)?;
    // Who may never be promoted is heard all the same.
    let heard = |node: &String| q.positions.get(node).filter(|p| matches!(p.unfit, None | Some(Unfit::Never)));
    // Everybody restarted and everybody is here: nobody can come who has more. One that followed and cannot be compared any more (promotions
    // that were not recorded) may hold what nobody else does.
    if record.holders.iter().all(|node| heard(node).is_some_and(|p| !p.live || current(p) || p.is_part_of(record))) {
        return None;
    }
    let active = record.holders.iter().filter(|node| **node != record.node);
    let silent: Vec<&str> = active.filter(|node| !heard(node).is_some_and(|p| p.live && current(p))).map(String::as_str).collect();
    // Fewer than k are silent: they alone cannot have confirmed anything.
    (silent.len() >= k).then(|| silent.join(", "))
}

/// A winner that has not followed for long, while somebody who has is silent, or loads.
fn left_behind(q: &Question<'_>, record: &Record, winner: &str) -> Option<Verdict> {
    if record.holders.contains(winner) {
        return None;
    }
    if let Some(refusal) = loading(q, |node| record.holders.contains(node)) {
        return Some(refusal);
    }
    let silent = |holder: &&String| q.positions.get(*holder).is_none_or(|p| p.unfit == Some(Unfit::NoServer));
    let silent: Vec<&str> = record.holders.iter().filter(silent).map(String::as_str).collect();
    if silent.is_empty() {
        return None;
    }
    Some(Verdict::Refuse(format!(
        "{winner} has not followed {} for long, and {} may hold more: start the server there, or accept the loss with: {}",
        record.node,
        silent.join(", "),
        q.decide
    )))
}

/// With durability=quorum, a holder that is not elected (its priority is 0, or it holds no keys) may have confirmed what the winner lacks.
fn confirmed_elsewhere(q: &Question<'_>, record: &Record, current: impl Fn(&Position) -> bool, winner: &Position) -> Option<Verdict> {
    let k = q.confirmations.filter(|k| *k > 0)?;
    // What a disk had says how far its server had come, where it can be compared; a winner from an append-only file is the primary with all.
    let comparable = winner.is_part_of(record) || current(winner);
    let ahead = |p: &Position| held(q, p) > held(q, winner) || p.history == winner.history && p.offset > winner.offset;
    let more = |p: &Position| current(p) && (comparable && ahead(p) || p.live && !current(winner));
    let never = |p: &Position| matches!(p.unfit, None | Some(Unfit::Never)) && more(p);
    let ahead: Vec<&str> = record
        .holders
        .iter()
        .filter(|node| **node != record.node && q.positions.get(*node).is_some_and(never))
        .map(String::as_str)
        .collect();
    (ahead.len() >= k).then(|| {
        Verdict::Refuse(format!(
            "a write confirmed by {k} replica(s) may be on {} alone, which is empty or has replica-priority 0: raise that, or accept the loss with: {}",
            ahead.join(", "),
            q.decide
        ))
    })
}

/// Nobody holds the recorded history any more.
fn without_history(q: &Question<'_>, record: &Record) -> Verdict {
    let with_data: Vec<(&String, &Position)> = q.positions.iter().filter(|(_, p)| p.has_keys && p.unfit.is_none()).collect();
    let Some((first, position)) = with_data.first() else { return nobody_has_data(q) };
    if let Some((other, _)) = with_data.iter().find(|(_, p)| !p.counts_in(&position.history) && !position.counts_in(&p.history)) {
        return Verdict::Refuse(format!(
            "{first} and {other} hold data that cannot be compared, and {} does not run or is empty: name the node whose data are right with: {}",
            record.node, q.decide
        ));
    }
    // The primary itself came back without its data: what is left is on these.
    let primary_heard = q.positions.get(&record.node).is_some_and(|p| p.unfit.is_none());
    match best(q, |p| p.has_keys).filter(|_| primary_heard) {
        Some((node, _)) if left_behind(q, record, node).is_some() => left_behind(q, record, node).unwrap_or(nobody_has_data(q)),
        Some((node, _)) => choose(q, node, format!("{} lost its data, and {node} has the most of what is left", record.node)),
        None => Verdict::Refuse(format!(
            "{first} holds other data than {} wrote as the primary, and {} does not run: start it, or name the node whose data are right with: {}",
            record.node, record.node, q.decide
        )),
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
