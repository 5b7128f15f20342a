//! The protocol, model-checked: three servers, and everything that can happen to them in any order.
//!
//! The model calls the very functions that the agent calls; what it adds is the world. Pacemaker is taken for what it
//! promises: one promotion at a time, a demotion (or fencing) before each, and one action of an instance at a time. An agent may be
//! killed between two steps, a record that was written may never arrive, servers crash and lose what they had received and not
//! applied, acknowledgements arrive late, nodes are cut off.
//!
//! Simplified: one acknowledgement (more are in the tables of `election`); a transaction's identity is used once (a server
//! that loses its newest transactions gives theirs away again: `Election::cut` is about that); a frozen server is one that is cut
//! off; a replica's applier runs when it must.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper panics to fail the test")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::election::{
    Acknowledging, Memory, Position, Question, Reign, Verdict, elect, errant, joined, left, may_acknowledge, may_resume, successor,
};
use crate::gtid::{Flavour, Gtids};
use crate::record::{Durability, Record, Stamp};

const NODES: usize = 3;
/// As many transactions at most as fit into a [`Set`].
const MOST: usize = 7;

/// Transactions by number. A higher number is written later.
type Set = u8;
/// Epoch and change.
type At = (u8, u8);

const fn one(transaction: usize) -> Set {
    1 << transaction
}

/// All up to the highest of these.
fn up_to_highest(set: Set) -> Set {
    if set == 0 { 0 } else { Set::MAX >> set.leading_zeros() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Rec {
    at: At,
    node: usize,
    active: u8,
    set: Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Pos {
    round: (At, usize),
    complete: bool,
    kept: bool,
    untouched: bool,
    acknowledging: Option<(At, Set)>,
    executed: Set,
    received: Set,
}

/// A node: its server, what its agent remembers, what it has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Node {
    alive: bool,
    linked: bool,
    server: bool,
    /// On a primary, all that is logged, waiting commits included.
    executed: Set,
    relay: Set,
    following: Option<usize>,
    receiver: bool,
    semi_sync: bool,
    writable: bool,
    acknowledging: Option<(At, Set)>,
    not_before: Option<At>,
    resigned: Option<At>,
    /// Acknowledgements on their way to whom it follows.
    sent: Set,
    /// The epoch in which this very process reigned.
    reigned: Option<u8>,
    claim: Option<Rec>,
    /// On a primary, the record as its agent knows it, when that is another than the one in the CIB.
    known: Option<Rec>,
    published: Option<Pos>,
}

impl Node {
    fn up(&self) -> bool {
        self.alive && self.server
    }

    fn have(&self) -> Set {
        self.executed | self.relay
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
    Electing,
    /// Won with these transactions: they are to be drained.
    Elected(Set),
    Prepared,
    Written,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Leaving {
    node: usize,
    /// Since when it cannot acknowledge.
    since: At,
    record: At,
    barrier: usize,
}

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Budget {
    writes: u8,
    barriers: u8,
    errant: u8,
    crashes: u8,
    /// Of those, how many lose what was received and not applied.
    losses: u8,
    promotions: u8,
    cuts: u8,
    kills: u8,
    lost_records: u8,
    /// Records whose write arrives later than its agent waits for it.
    late_records: u8,
    /// Rewrites whose agent was killed before it could remember them.
    forgotten: u8,
    resignations: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct State {
    nodes: [Node; NODES],
    record: Rec,
    /// Whom Pacemaker holds for promoted, or whom it promotes.
    promoted: Option<usize>,
    promoting: Option<Step>,
    leaving: Option<Leaving>,
    /// A write of the second record in the place of the first that has not arrived yet.
    late: Option<(Rec, Rec)>,
    /// Who wrote each transaction.
    writers: [u8; MOST],
    written: u8,
    /// What a client saw succeed.
    seen: Set,
    errant: Set,
    left: Budget,
    // For the properties that must be reached.
    shrank: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Write(usize),
    WriteErrant(usize),
    Deliver(usize),
    AcknowledgementArrives(usize),
    Crash(usize, Loss),
    Start(usize),
    CutOff(usize),
    Heal(usize),
    Fence(usize),
    Return(usize),
    Demote,
    DemoteAndCut,
    Promote(usize),
    /// After these have published their positions. What others published in this round before stands.
    Elect(u8),
    Prepare,
    WriteRecord,
    WriteRecordInVain,
    WriteRecordLate,
    LateRecordArrives,
    Open,
    /// The three before this one at once, when nothing is to come in between.
    TakeOver,
    KillAgent,
    Follow(usize),
    Enable(usize),
    Join(usize),
    /// The same, and the agent is killed before it can remember that.
    JoinAndForget(usize),
    Resign(usize),
    ComeBack(usize),
    Barrier(usize),
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Loss {
    Nothing,
    /// What was received and not applied.
    Relay,
    /// The transactions that wait for an acknowledgement.
    Tail,
}

/// What is left out, to see that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Silent members are taken for none.
    Quorum,
    /// What was received is not applied before the source is forgotten.
    Drain,
    /// A promotion does not look whether its record arrived.
    ReadBack,
    /// A record overwrites whatever is there.
    CompareAndSwap,
    /// A member that restarted acknowledges under the record that it restarted under.
    NewRecordAfterStart,
    /// The set of a rewrite is what clients saw, without the waiting commits.
    WaitingCommits,
    /// Whoever resigned once leaves, though the record was rewritten since.
    StampOfResignation,
    /// Members leave without a barrier.
    Barrier,
    /// A demotion keeps the claim, so that the next promotion goes on with the old reign.
    NewEpochAfterDemotion,
    /// Whoever does not acknowledge at the moment is taken for one that never did.
    MemoryOfAcknowledging,
    /// The errant are candidates, and followers.
    ErrantRule,
    /// Those that run and were not heard are no members of the next reign.
    Unheard,
}

#[derive(Clone, Copy, Debug)]
struct Protocol {
    budget: Budget,
    without: Without,
    /// A server that crashes may lose the transactions that nobody has acknowledged (MariaDB; MySQL without `sync_binlog=1`).
    cuts_tails: bool,
    /// Whether it begins in the middle of a reign, with both replicas acknowledging, or just after a promotion.
    settled: bool,
    /// Whether one of the replicas has not entered the record yet.
    outside: bool,
    /// Whether the steps of a promotion after the election are one.
    fused: bool,
    /// How often the record is rewritten in an epoch at most.
    changes: u8,
}

fn name(node: usize) -> String {
    ["a", "b", "c"][node].to_owned()
}

fn number(name: &str) -> usize {
    ["a", "b", "c"].iter().position(|n| *n == name).unwrap()
}

fn uuid(node: usize) -> String {
    format!("{:08x}-0000-0000-0000-000000000000", node + 1)
}

fn stamp((epoch, change): At) -> Stamp {
    Stamp { epoch: epoch.into(), change: change.into() }
}

fn at(stamp: Stamp) -> At {
    (u8::try_from(stamp.epoch).unwrap(), u8::try_from(stamp.change).unwrap())
}

fn stamp_of_round((at, node): (At, usize)) -> String {
    format!("{}-{}", stamp(at), name(node))
}

type Known = HashMap<(Set, [u8; MOST]), Gtids>;
thread_local!(static KNOWN: RefCell<Known> = RefCell::default());

impl State {
    fn gtids(&self, set: Set) -> Gtids {
        let make = || {
            let text: Vec<String> =
                (0..MOST).filter(|t| set & one(*t) != 0).map(|t| format!("{}:{}", uuid(self.writers[t].into()), t + 1)).collect();
            Gtids::parse(&text.join(","), Flavour::MySql).unwrap()
        };
        KNOWN.with_borrow_mut(|known| known.entry((set, self.writers)).or_insert_with(make).clone())
    }

    fn set(&self, gtids: &Gtids) -> Set {
        (0..MOST).filter(|t| usize::from(self.written) > *t && gtids.contains(&self.gtids(one(*t)))).map(one).sum()
    }

    fn record(&self, rec: Rec) -> Record {
        Record {
            relaxed: false,
            epoch: rec.at.0.into(),
            change: rec.at.1.into(),
            node: name(rec.node),
            server: Some(uuid(rec.node)),
            durability: Durability::Lossless,
            acknowledgements: 1,
            active: (0..NODES).filter(|n| rec.active & 1 << n != 0).map(name).collect(),
            set: Some(self.gtids(rec.set)),
        }
    }

    fn rec(&self, record: &Record) -> Rec {
        Rec {
            at: at(record.stamp()),
            node: number(&record.node),
            active: record.active.iter().map(|n| 1 << number(n)).sum(),
            set: self.set(record.set.as_ref().unwrap()),
        }
    }

    fn memory(&self, node: &Node) -> Memory {
        let acknowledging = node.acknowledging.map(|(at, mark)| Acknowledging { stamp: stamp(at), mark: self.gtids(mark) });
        Memory { acknowledging, not_before: node.not_before.map(stamp) }
    }

    fn remember(&mut self, n: usize, memory: &Memory) {
        self.nodes[n].acknowledging = memory.acknowledging.as_ref().map(|a| (at(a.stamp), self.set(&a.mark)));
        self.nodes[n].not_before = memory.not_before.map(at);
    }

    fn position(&self, pos: &Pos) -> Position {
        Position {
            round: stamp_of_round(pos.round),
            complete: pos.complete,
            kept: pos.kept,
            untouched: pos.untouched,
            cramped: false,
            priority: 100,
            acknowledging: pos.acknowledging.map(|(at, mark)| Acknowledging { stamp: stamp(at), mark: self.gtids(mark) }),
            executed: self.gtids(pos.executed),
            received: Some(self.gtids(pos.received)),
            unfit: None,
        }
    }

    fn positions(&self) -> BTreeMap<String, Position> {
        self.nodes.iter().enumerate().filter_map(|(n, node)| Some((name(n), self.position(node.published.as_ref()?)))).collect()
    }

    fn can_talk(&self, a: usize, b: usize) -> bool {
        self.nodes[a].up() && self.nodes[b].up() && self.nodes[a].linked && self.nodes[b].linked
    }

    fn running(&self) -> BTreeSet<String> {
        (0..NODES).filter(|n| self.nodes[*n].up() && self.nodes[*n].linked).map(name).collect()
    }

    /// The primary that works: promoted, recorded, open, and with the quorum.
    fn reigning(&self) -> Option<usize> {
        self.promoted.filter(|p| {
            self.promoting.is_none() && self.record.node == *p && self.nodes[*p].up() && self.nodes[*p].linked && self.nodes[*p].writable
        })
    }

    fn waiting(&self, n: usize) -> Set {
        let own: Set = (0..MOST).filter(|t| self.written > u8::try_from(*t).unwrap() && usize::from(self.writers[*t]) == n).map(one).sum();
        if self.nodes[n].writable { self.nodes[n].executed & own & !self.seen } else { 0 }
    }

    fn write(&mut self, n: usize) -> usize {
        let transaction = usize::from(self.written);
        self.writers[transaction] = u8::try_from(n).unwrap();
        self.nodes[n].executed |= one(transaction);
        self.written += 1;
        transaction
    }

    fn stop_server(&mut self, n: usize, loss: Loss) {
        let waiting = self.waiting(n);
        let node = &mut self.nodes[n];
        match loss {
            // What survives is applied when the server runs again.
            Loss::Nothing => node.executed |= node.relay,
            Loss::Relay => {}
            Loss::Tail => node.executed &= !waiting,
        }
        node.relay = 0;
        (node.server, node.receiver, node.semi_sync, node.writable, node.reigned) = (false, false, false, false, None);
        for other in self.nodes.iter_mut().filter(|other| other.following == Some(n)) {
            other.sent = 0;
        }
        if self.promoted == Some(n) {
            self.leaving = None;
        }
    }

    fn forget_promotion(&mut self, keep_claim: bool) {
        if let Some(p) = self.promoted.take() {
            if !keep_claim {
                self.nodes[p].claim = None;
            }
            for other in self.nodes.iter_mut().filter(|other| other.following == Some(p)) {
                other.sent = 0;
            }
        }
        self.promoting = None;
        self.leaving = None;
    }

    /// States that differ in nothing that can have an effect are one state.
    fn forget_what_cannot_matter(&mut self) {
        let record = self.record;
        let round = (record.at, record.node);
        for n in 0..NODES {
            let opens = self.nodes[n].following.is_some_and(|source| self.nodes[source].up() && self.nodes[source].writable);
            let written = self.promoted == Some(n) && self.promoting == Some(Step::Written);
            let node = &mut self.nodes[n];
            node.published = node.published.filter(|p| p.round == round);
            if !opens {
                node.sent = 0;
            }
            if node.claim != Some(record) && !written {
                node.claim = None;
            }
            if node.known == Some(record) || self.promoted != Some(n) {
                node.known = None;
            }
            // Of an epoch before, only that it is one before.
            if let Some((at, _)) = node.acknowledging.filter(|(at, _)| at.0 < record.at.0) {
                node.acknowledging = None;
                node.not_before = node.not_before.map(|before| before.max(at));
            }
            node.not_before = node.not_before.map(|at| if at.0 < record.at.0 { (0, 0) } else { at });
            node.resigned = node.resigned.map(|at| if at < record.at { (0, 0) } else { at });
        }
    }

    /// The same with the replicas of the beginning exchanged: their names do not matter.
    fn swapped(&self) -> Self {
        let other = |n: usize| if n == 0 { 0 } else { NODES - n };
        let others = |active: u8| active & 1 | (active & 2) << 1 | (active & 4) >> 1;
        let rec = |r: Rec| Rec { node: other(r.node), active: others(r.active), ..r };
        let node = |n: usize| {
            let node = self.nodes[other(n)];
            Node {
                following: node.following.map(other),
                claim: node.claim.map(rec),
                known: node.known.map(rec),
                published: node.published.map(|p| Pos { round: (p.round.0, other(p.round.1)), ..p }),
                ..node
            }
        };
        let mut writers = [0; MOST];
        for (t, writer) in self.writers.iter().enumerate().take(self.written.into()) {
            writers[t] = u8::try_from(other(usize::from(*writer))).unwrap();
        }
        Self {
            nodes: [node(0), node(1), node(2)],
            record: rec(self.record),
            promoted: self.promoted.map(other),
            leaving: self.leaving.map(|l| Leaving { node: other(l.node), ..l }),
            late: self.late.map(|(before, next)| (rec(before), rec(next))),
            writers,
            ..self.clone()
        }
    }

    /// Switches acknowledgements off.
    fn switch_off(&mut self, n: usize) {
        if let Some(source) = self.nodes[n].following.filter(|_| self.nodes[n].semi_sync) {
            let mut memory = self.memory(&self.nodes[n]);
            memory.found_on(&self.record(self.record), &name(source));
            self.remember(n, &memory);
        }
        self.nodes[n].semi_sync = false;
    }

    /// Stops the receiver and publishes.
    fn publish(&mut self, n: usize, protocol: &Protocol) {
        self.nodes[n].receiver = false;
        self.switch_off(n);
        let node = self.nodes[n];
        let memory = self.memory(&node);
        let record = self.record(self.record);
        let untouched = match protocol.without {
            Without::MemoryOfAcknowledging => node.acknowledging.is_none_or(|(at, _)| at.0 < self.record.at.0),
            _ => memory.untouched(&record),
        };
        let same_process = node.reigned == Some(self.record.at.0);
        let was_primary = self.record.node == n;
        self.nodes[n].published = Some(Pos {
            round: (self.record.at, self.record.node),
            complete: was_primary && same_process && self.promoted != Some(n),
            kept: was_primary && (same_process || !protocol.cuts_tails),
            untouched,
            acknowledging: node.acknowledging,
            executed: node.executed,
            received: node.relay,
        });
    }
}

impl Protocol {
    fn elect(&self, s: &mut State, me: usize) {
        s.publish(me, self);
        let mut record = s.record(s.record);
        let positions = s.positions();
        match self.without {
            Without::Quorum => {
                let round = Record::round(Some(&record));
                record.active.retain(|node| positions.get(node).is_some_and(|p| p.round == round));
            }
            Without::ErrantRule => {
                // Taken for the primary's own.
                record.set = record.set.map(|set| set.union(&s.gtids(s.errant)));
            }
            _ => {}
        }
        let running = s.running();
        let me = name(me);
        let question =
            Question { me: &me, record: Some(&record), positions: &positions, running: &running, servers: Some(NODES), decide: "DECIDE" };
        match elect(&question) {
            Verdict::GoOn(_) => s.promoting = Some(Step::Elected(s.nodes[number(&me)].have())),
            // The score moves, and the promotion fails: a demotion follows.
            Verdict::HandOver { .. } | Verdict::Refuse(_) => s.forget_promotion(false),
        }
    }

    /// The record that a primary changes: as it knows it. `None`: it is another one by now, which the primary knows then.
    fn record_to_change(&self, s: &mut State, p: usize) -> Option<Record> {
        match s.nodes[p].known.take() {
            Some(known) if self.without == Without::CompareAndSwap => Some(s.record(known)),
            Some(_) => None,
            None => Some(record_of(s)),
        }
    }

    fn rewritten_set(&self, s: &State, p: usize) -> Gtids {
        let missing = if self.without == Without::WaitingCommits { s.waiting(p) } else { 0 };
        s.gtids(s.nodes[p].executed & !missing)
    }
}

fn record_of(s: &State) -> Record {
    s.record(s.record)
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let replica = Node {
            alive: true,
            linked: true,
            server: true,
            executed: 0,
            relay: 0,
            following: Some(0),
            receiver: true,
            semi_sync: self.settled,
            writable: false,
            acknowledging: self.settled.then_some(((1, 0), 0)),
            not_before: Some((0, 0)),
            resigned: None,
            sent: 0,
            reigned: None,
            claim: None,
            known: None,
            published: None,
        };
        let primary =
            Node { following: None, receiver: false, semi_sync: false, writable: true, acknowledging: None, reigned: Some(1), ..replica };
        let record = Rec { at: (1, 0), node: 0, active: if self.outside { 0b010 } else { 0b110 }, set: 0 };
        let second = if self.outside { Node { semi_sync: false, acknowledging: None, ..replica } } else { replica };
        let primary = Node { claim: Some(record), ..primary };
        vec![State {
            nodes: [primary, replica, second],
            record,
            promoted: Some(0),
            promoting: None,
            leaving: None,
            late: None,
            writers: [0; MOST],
            written: 0,
            seen: 0,
            errant: 0,
            left: self.budget,
            shrank: false,
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        let has_room = usize::from(s.written) < MOST;
        let rewritable = s.record.at.1 < self.changes;
        let reigning = s.reigning();
        for (n, node) in s.nodes.iter().enumerate() {
            if !node.alive {
                actions.push(Action::Return(n));
                continue;
            }
            if node.linked {
                if s.left.cuts > 0 {
                    actions.push(Action::CutOff(n));
                }
            } else {
                if s.promoted == Some(n) {
                    actions.push(Action::Fence(n));
                }
                actions.push(Action::Heal(n));
            }
            if !node.server {
                actions.push(Action::Start(n));
                continue;
            }
            if node.writable && s.left.writes > 0 && has_room {
                actions.push(Action::Write(n));
            }
            if !node.writable && s.left.errant > 0 && has_room && s.record.node != n && s.promoted != Some(n) {
                actions.push(Action::WriteErrant(n));
            }
            if s.left.crashes > 0 {
                actions.push(Action::Crash(n, Loss::Nothing));
                if node.relay != 0 && s.left.losses > 0 {
                    actions.push(Action::Crash(n, Loss::Relay));
                }
                if self.cuts_tails && s.waiting(n) != 0 {
                    actions.push(Action::Crash(n, Loss::Tail));
                }
            }
            if let Some(source) = node.following.filter(|source| s.can_talk(n, *source)) {
                if node.receiver && s.nodes[source].executed & !node.have() != 0 {
                    actions.push(Action::Deliver(n));
                }
            }
            if let Some(source) = node.following {
                // The reader has it already, whatever happened to the sender since.
                if node.sent != 0 && s.nodes[source].up() && s.nodes[source].writable {
                    actions.push(Action::AcknowledgementArrives(n));
                }
            }
            if let Some(p) = reigning.filter(|p| *p != n && node.linked) {
                if !node.receiver || node.following != Some(p) {
                    actions.push(Action::Follow(n));
                } else {
                    if node.resigned.is_none() && (!node.semi_sync || node.acknowledging.is_none_or(|(at, _)| at.0 != s.record.at.0)) {
                        actions.push(Action::Enable(n));
                    }
                    let cannot = node.not_before.is_some_and(|stamp| stamp >= s.record.at);
                    if node.resigned.is_none() && rewritable && (s.record.active & 1 << n == 0 || cannot) {
                        actions.push(Action::Join(n));
                        if s.left.forgotten > 0 {
                            actions.push(Action::JoinAndForget(n));
                        }
                    }
                }
                if node.resigned.is_some() {
                    actions.push(Action::ComeBack(n));
                } else if node.semi_sync && s.left.resignations > 0 {
                    actions.push(Action::Resign(n));
                }
            }
        }
        if reigning.is_some() && s.leaving.is_none() && s.left.barriers > 0 && has_room && rewritable {
            for n in (0..NODES).filter(|n| s.record.active & 1 << n != 0 && (!s.nodes[*n].up() || s.nodes[*n].resigned.is_some())) {
                actions.push(Action::Barrier(n));
            }
        }
        if reigning.is_some() && s.leaving.is_some() {
            actions.push(Action::Leave);
        }
        if s.late.is_some() {
            actions.push(Action::LateRecordArrives);
        }
        match (s.promoted, s.promoting) {
            (None, _) => {
                if s.left.promotions > 0 {
                    actions.extend((0..NODES).filter(|n| s.nodes[*n].up() && s.nodes[*n].linked).map(Action::Promote));
                }
            }
            (Some(p), step) => {
                let node = &s.nodes[p];
                if node.linked && node.alive {
                    // A promotion fails with its server, or when its agent is killed for good.
                    if if step.is_some() { !node.server || s.left.kills > 0 } else { s.left.promotions > 0 } {
                        actions.push(Action::Demote);
                        if self.cuts_tails && s.waiting(p) != 0 {
                            actions.push(Action::DemoteAndCut);
                        }
                    }
                    if node.server {
                        match step {
                            Some(Step::Electing) if node.claim.is_some_and(|claim| claim == s.record) => actions.push(Action::Open),
                            Some(Step::Electing) => {
                                let heard: u8 = (0..NODES).filter(|n| *n != p && s.can_talk(p, *n)).map(|n| 1 << n).sum();
                                actions.extend((0..1 << NODES).filter(|these| these & !heard == 0).map(Action::Elect));
                            }
                            Some(Step::Elected(_)) => actions.push(if self.fused { Action::TakeOver } else { Action::Prepare }),
                            Some(Step::Prepared) => {
                                actions.push(Action::WriteRecord);
                                if s.left.lost_records > 0 {
                                    actions.push(Action::WriteRecordInVain);
                                }
                                if s.left.late_records > 0 && s.late.is_none() {
                                    actions.push(Action::WriteRecordLate);
                                }
                            }
                            Some(Step::Written) => actions.push(Action::Open),
                            None => {}
                        }
                        if s.left.kills > 0 && step.is_some_and(|step| step != Step::Electing) {
                            actions.push(Action::KillAgent);
                        }
                    }
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut s = last.clone();
        match action {
            Action::Write(n) => {
                s.left.writes -= 1;
                s.write(n);
            }
            Action::WriteErrant(n) => {
                s.left.errant -= 1;
                s.errant |= one(s.write(n));
            }
            Action::Deliver(n) => {
                let source = s.nodes[n].following?;
                let missing = s.nodes[source].executed & !s.nodes[n].have();
                let next = missing & missing.wrapping_neg();
                s.nodes[n].relay |= next;
                if s.nodes[n].semi_sync {
                    s.nodes[n].sent |= next;
                }
            }
            Action::AcknowledgementArrives(n) => {
                let source = s.nodes[n].following?;
                s.seen |= s.nodes[source].executed & up_to_highest(s.nodes[n].sent);
                s.nodes[n].sent = 0;
            }
            Action::Crash(n, loss) => {
                s.left.crashes -= 1;
                s.left.losses -= u8::from(loss == Loss::Relay);
                s.stop_server(n, loss);
            }
            Action::Start(n) => {
                s.nodes[n].server = true;
                s.nodes[n].claim = None;
                let mut memory = s.memory(&s.nodes[n]);
                match self.without {
                    Without::NewRecordAfterStart => memory.acknowledging = None,
                    _ => memory.start_over(s.nodes[n].linked.then(|| stamp(s.record.at))),
                }
                s.remember(n, &memory);
                if s.promoted == Some(n) && s.promoting.is_some() {
                    s.promoting = Some(Step::Electing);
                }
            }
            Action::CutOff(n) => {
                s.left.cuts -= 1;
                s.nodes[n].linked = false;
            }
            Action::Heal(n) => {
                s.nodes[n].linked = true;
                let mut memory = s.memory(&s.nodes[n]);
                memory.learn(stamp(s.record.at));
                s.remember(n, &memory);
            }
            Action::Fence(n) => {
                s.stop_server(n, Loss::Nothing);
                s.forget_promotion(false);
                s.nodes[n].alive = false;
                s.nodes[n].published = None;
            }
            Action::Return(n) => {
                s.nodes[n].alive = true;
                s.nodes[n].linked = true;
            }
            Action::Demote | Action::DemoteAndCut => {
                let p = s.promoted?;
                s.left.kills -= u8::from(s.promoting.is_some() && s.nodes[p].server);
                if s.nodes[p].server && s.waiting(p) != 0 {
                    // Commits that wait cannot be released, so the server dies with them.
                    s.stop_server(p, if action == Action::Demote { Loss::Nothing } else { Loss::Tail });
                }
                s.nodes[p].writable = false;
                s.forget_promotion(self.without == Without::NewEpochAfterDemotion);
                if s.nodes[p].server { s.publish(p, self) } else { s.nodes[p].published = None }
            }
            Action::Promote(n) => {
                s.left.promotions -= 1;
                s.promoted = Some(n);
                s.promoting = Some(Step::Electing);
            }
            Action::Elect(these) => {
                for n in (0..NODES).filter(|n| these & 1 << n != 0) {
                    s.publish(n, self);
                }
                self.elect(&mut s, last.promoted?);
            }
            Action::TakeOver => {
                return [Action::Prepare, Action::WriteRecord, Action::Open]
                    .into_iter()
                    .try_fold(s, |s, action| self.next_state(&s, action));
            }
            Action::Prepare => {
                let Some(Step::Elected(have)) = s.promoting else { return None };
                let node = &mut s.nodes[last.promoted?];
                if self.without != Without::Drain {
                    node.executed |= node.relay & have;
                }
                (node.relay, node.following, node.sent) = (0, None, 0);
                s.promoting = Some(Step::Prepared);
            }
            Action::WriteRecord | Action::WriteRecordInVain | Action::WriteRecordLate => {
                let p = last.promoted?;
                let set = s.gtids(s.nodes[p].executed);
                let (node, server) = (name(p), uuid(p));
                let reign = Reign {
                    durable: true,
                    node: &node,
                    server: &server,
                    set: &set,
                    durability: Durability::Lossless,
                    acknowledgements: 1,
                    running: &s.running(),
                    remembered: 0,
                };
                let record = successor(Some(&record_of(&s)), &reign, &s.positions());
                let mut record = s.rec(&record);
                if self.without == Without::Unheard {
                    let heard: u8 = (0..NODES).filter(|n| s.nodes[*n].published.is_some()).map(|n| 1 << n).sum();
                    record.active &= heard;
                }
                s.nodes[p].claim = Some(record);
                s.nodes[p].reigned = Some(record.at.0);
                s.promoting = Some(Step::Written);
                match action {
                    Action::WriteRecord => s.record = record,
                    Action::WriteRecordInVain => s.left.lost_records -= 1,
                    _ => {
                        // Its agent gives up on the tool, and the promotion fails.
                        s.left.late_records -= 1;
                        s.late = Some((last.record, record));
                        s.forget_promotion(false);
                    }
                }
            }
            Action::LateRecordArrives => {
                let (before, record) = s.late.take()?;
                if s.record == before || self.without == Without::CompareAndSwap {
                    s.record = record;
                }
            }
            Action::Open => {
                let p = last.promoted?;
                let claim = s.nodes[p].claim?;
                let arrived = may_resume(Some(&record_of(&s)), Some(&s.record(claim)));
                if !arrived && self.without != Without::ReadBack {
                    s.forget_promotion(false);
                } else {
                    s.nodes[p].writable = true;
                    // What it would have acknowledged as a replica is over.
                    s.promoting = None;
                }
            }
            Action::KillAgent => {
                s.left.kills -= 1;
                s.promoting = Some(Step::Electing);
            }
            Action::Follow(n) => {
                let p = s.reigning()?;
                let record = record_of(&s);
                if self.without != Without::ErrantRule && errant(&s.gtids(s.nodes[n].executed), &record).is_some() {
                    return None;
                }
                s.switch_off(n);
                s.nodes[n].receiver = true;
                if s.nodes[n].following != Some(p) {
                    let mut memory = s.memory(&s.nodes[n]);
                    memory.point(record.stamp());
                    s.remember(n, &memory);
                    let node = &mut s.nodes[n];
                    (node.following, node.relay, node.sent) = (Some(p), 0, 0);
                }
            }
            Action::Enable(n) => {
                let record = record_of(&s);
                let mut memory = s.memory(&s.nodes[n]);
                if !may_acknowledge(&record, &name(n), &name(s.nodes[n].following?), memory.not_before) {
                    return None;
                }
                memory.acknowledge(&record);
                s.remember(n, &memory);
                s.nodes[n].semi_sync = true;
            }
            Action::Join(n) | Action::JoinAndForget(n) => {
                let p = s.reigning()?;
                let before = s.record;
                if let Some(record) = self.record_to_change(&mut s, p) {
                    s.record = s.rec(&joined(&record, &name(n), &self.rewritten_set(&s, p)));
                    if matches!(action, Action::JoinAndForget(_)) {
                        s.left.forgotten -= 1;
                        s.nodes[p].known = Some(before);
                    }
                }
            }
            Action::Resign(n) => {
                s.left.resignations -= 1;
                s.switch_off(n);
                let mut memory = s.memory(&s.nodes[n]);
                let stamp = memory.resign(&record_of(&s));
                s.remember(n, &memory);
                s.nodes[n].resigned = Some(at(stamp));
            }
            Action::ComeBack(n) => s.nodes[n].resigned = None,
            Action::Barrier(n) => {
                let p = s.reigning()?;
                s.left.barriers -= 1;
                let since = if s.nodes[n].up() { s.nodes[n].resigned? } else { s.record.at };
                let barrier = s.write(p);
                s.leaving = Some(Leaving { node: n, since, record: s.record.at, barrier });
            }
            Action::Leave => {
                let p = s.reigning()?;
                let leaving = s.leaving.take()?;
                let careless = self.without == Without::StampOfResignation;
                if s.seen & one(leaving.barrier) == 0 && self.without != Without::Barrier {
                    return None;
                }
                if leaving.record == s.record.at || careless {
                    let since = if careless { s.record.at } else { leaving.since };
                    let gone: BTreeMap<String, Stamp> = [(name(leaving.node), stamp(since))].into();
                    let set = self.rewritten_set(&s, p);
                    if let Some(record) = self.record_to_change(&mut s, p).and_then(|record| left(&record, &gone, &set)) {
                        s.record = s.rec(&record);
                        s.shrank = true;
                    }
                }
            }
        }
        s.forget_what_cannot_matter();
        let swapped = s.swapped();
        let s = s.min(swapped);
        (s != *last).then_some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("I1 what a client saw is on whoever takes writes", |protocol, s| {
                // Transactions that no disk has any more cannot be had by refusing; only cut tails go that way.
                let anywhere = if protocol.cuts_tails { s.nodes.iter().fold(0, |all, n| all | n.have()) } else { Set::MAX };
                s.nodes.iter().all(|n| !(n.up() && n.writable) || s.seen & anywhere & !n.executed == 0)
            }),
            Property::<Self>::always("I2 one takes writes", |_, s| s.nodes.iter().filter(|n| n.up() && n.writable).count() <= 1),
            Property::<Self>::always("I3 nothing errant is merged", |_, s| {
                let own = |n: usize| (0..MOST).filter(|t| usize::from(s.writers[*t]) == n).map(one).sum::<Set>();
                s.nodes.iter().enumerate().all(|(n, node)| {
                    let follows_what_lacks_something = s.reigning().is_some_and(|p| {
                        node.up() && node.receiver && node.following == Some(p) && node.executed & !s.errant & !s.nodes[p].executed != 0
                    });
                    let follows = s.reigning().is_some_and(|p| node.up() && node.receiver && node.following == Some(p));
                    let merged = if node.writable { node.have() & s.errant } else { node.have() & s.errant & !own(n) };
                    !((follows || node.writable) && merged != 0) && !follows_what_lacks_something
                })
            }),
            Property::<Self>::sometimes("another node takes over with what was seen", |_, s| {
                s.reigning().is_some_and(|p| p != 0) && s.seen != 0
            }),
            Property::<Self>::sometimes("a client sees a write on the new primary", |_, s| {
                s.reigning().is_some_and(|p| p != 0 && (0..MOST).any(|t| s.seen & one(t) != 0 && usize::from(s.writers[t]) == p))
            }),
            Property::<Self>::sometimes("the old primary acknowledges for the new one", |_, s| {
                s.reigning().is_some_and(|p| p != 0) && s.nodes[0].semi_sync
            }),
            Property::<Self>::sometimes("a member leaves", |protocol, s| s.shrank || protocol.budget.barriers == 0),
        ]
    }
}

fn check(protocol: Protocol) -> usize {
    let begin = std::time::Instant::now();
    let checker = protocol.checker().threads(1).spawn_bfs().join();
    println!("{} states, depth {}, {:?}: {:?}", checker.unique_state_count(), checker.max_depth(), begin.elapsed(), protocol.budget);
    checker.assert_properties();
    checker.unique_state_count()
}

fn counterexample(protocol: Protocol) -> String {
    let checker = protocol.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discoveries().into_iter().find(|(name, _)| name.starts_with('I'));
    let Some((property, path)) = found else {
        panic!("without {:?} nothing goes wrong in {} states: is the rule needed?", protocol.without, checker.unique_state_count())
    };
    let actions: Vec<String> = path.into_actions().iter().map(|a| format!("{a:?}")).collect();
    println!("without {:?}: {property} ({} states): {}", protocol.without, checker.unique_state_count(), actions.join(", "));
    property.to_owned()
}

/// Nothing happens: what does is added.
const QUIET: Budget = Budget {
    writes: 1,
    barriers: 0,
    errant: 0,
    crashes: 0,
    losses: 0,
    promotions: 1,
    cuts: 0,
    kills: 0,
    lost_records: 0,
    late_records: 0,
    forgotten: 0,
    resignations: 0,
};
const CRASHES: Budget = Budget { crashes: 1, losses: 1, promotions: 2, ..QUIET };
const MEMBERS: Budget = Budget { crashes: 1, losses: 1, barriers: 1, resignations: 1, ..QUIET };
const STEPS: Budget = Budget { crashes: 1, losses: 1, kills: 1, lost_records: 1, ..QUIET };

fn protocol(budget: Budget) -> Protocol {
    Protocol { budget, without: Without::Nothing, cuts_tails: false, settled: true, outside: false, fused: true, changes: 1 }
}

#[test]
fn crashes_lose_nothing() {
    check(protocol(CRASHES));
    check(Protocol { settled: false, ..protocol(CRASHES) });
}

#[test]
fn a_killed_agent_and_a_lost_record_lose_nothing() {
    check(Protocol { fused: false, changes: 2, ..protocol(STEPS) });
}

#[test]
fn a_late_record_and_a_forgotten_one_lose_nothing() {
    check(Protocol { fused: false, ..protocol(Budget { late_records: 1, promotions: 3, crashes: 0, losses: 0, ..CRASHES }) });
    check(Protocol { outside: true, changes: 2, ..protocol(Budget { forgotten: 1, crashes: 2, losses: 0, ..QUIET }) });
}

#[test]
fn members_come_and_go_without_a_loss() {
    check(Protocol { changes: 2, ..protocol(Budget { crashes: 0, losses: 0, ..MEMBERS }) });
}

#[test]
fn a_cut_off_node_loses_nothing() {
    check(protocol(Budget { cuts: 1, promotions: 1, ..CRASHES }));
}

#[test]
fn errant_transactions_stay_where_they_are() {
    check(protocol(Budget { errant: 1, promotions: 1, ..CRASHES }));
}

#[test]
fn a_server_that_loses_its_newest_transactions_loses_nothing_that_was_seen() {
    check(Protocol { cuts_tails: true, ..protocol(Budget { promotions: 1, ..CRASHES }) });
}

/// A minute when optimised: `cargo test --release -p systole-mysql -- --ignored larger`.
#[test]
#[ignore = "takes minutes unless it is optimised"]
fn larger_bounds_lose_nothing() {
    check(protocol(Budget { crashes: 2, ..CRASHES }));
    check(Protocol { settled: false, ..protocol(Budget { crashes: 2, ..CRASHES }) });
    check(protocol(Budget { writes: 2, ..CRASHES }));
    check(protocol(Budget { cuts: 1, ..CRASHES }));
    check(Protocol { changes: 2, ..protocol(MEMBERS) });
    check(Protocol { fused: false, ..protocol(Budget { promotions: 2, ..STEPS }) });
    check(Protocol { cuts_tails: true, ..protocol(Budget { errant: 1, ..CRASHES }) });
}

#[test]
fn each_rule_is_missed_when_it_is_left_out() {
    let without = |without, protocol: Protocol| counterexample(Protocol { without, ..protocol });
    let i1 = |property: String| assert!(property.starts_with("I1"), "{property}");
    let quiet = protocol(QUIET);
    let steps = Protocol { fused: false, ..protocol(Budget { promotions: 2, kills: 0, crashes: 0, losses: 0, ..STEPS }) };
    let members = Protocol { changes: 3, ..protocol(MEMBERS) };
    i1(without(Without::Quorum, protocol(Budget { crashes: 1, ..QUIET })));
    i1(without(Without::Drain, quiet));
    let property = without(Without::ReadBack, Protocol { fused: false, ..steps });
    assert!(property.starts_with("I1") || property.starts_with("I2"), "{property}");
    let enters = Protocol { outside: true, changes: 2, ..protocol(Budget { forgotten: 1, crashes: 2, losses: 0, ..QUIET }) };
    i1(without(Without::CompareAndSwap, enters));
    i1(without(Without::NewRecordAfterStart, protocol(Budget { crashes: 2, ..CRASHES })));
    i1(without(Without::WaitingCommits, Protocol { changes: 2, ..protocol(Budget { crashes: 2, ..CRASHES }) }));
    i1(without(Without::StampOfResignation, members));
    i1(without(Without::Barrier, Protocol { budget: Budget { losses: 0, ..MEMBERS }, ..members }));
    i1(without(Without::NewEpochAfterDemotion, protocol(Budget { promotions: 3, crashes: 1, kills: 1, ..QUIET })));
    i1(without(Without::MemoryOfAcknowledging, protocol(Budget { crashes: 2, losses: 1, ..QUIET })));
    assert!(without(Without::ErrantRule, protocol(Budget { errant: 1, ..QUIET })).starts_with("I3"));
    i1(without(Without::Unheard, protocol(CRASHES)));
}
