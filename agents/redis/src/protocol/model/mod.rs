//! The protocol, model-checked: three servers, the agents' own actions, and what can happen to them in any order.
//!
//! What an agent does is `Instance` itself; what the model adds is the world that carries effects out. Pacemaker is taken for what it
//! promises: one transition at a time, in which a demotion (or fencing) comes before a promotion, and one action of an instance at a time.
//! An agent may be killed after any effect, a notification may be lost, a record's write may arrive late or never, memories may be lost,
//! servers crash and come back with or without their data, links carry one write at a time, nodes are cut off and fenced, roles are moved.
//!
//! Simplified: time stands still, so nothing that expires does, and a refused candidate may be asked again at once; whom the scheduler asks
//! is anybody who is not excluded, whatever the scores; one key for each write; a link ends with the server or the network at
//! its end; a notification or a monitor is carried out at one moment,
//! unless it is killed; `promote` is not, where the bounds say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test helper panics to fail the test")]

mod operations;
mod shared;
mod tests;
mod world;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use ocf::{Operation, Peers, Phase};
use pacemaker::Score;
use stateright::{Model, Property};

use self::operations::Courses;
use self::shared::Shared;
use super::{Event, Moment};
use crate::election::Position;
use crate::params::Params;
use crate::record::Record;
use crate::server::GATE_CLOSED;
use crate::state::State as Memory;

const NODES: usize = 3;

/// Writes by number, as bits.
type Set = u8;

fn name(node: usize) -> String {
    ["a", "b", "c"][node].to_owned()
}

fn number(name: &str) -> usize {
    ["a", "b", "c"].iter().position(|n| *n == name).unwrap()
}

/// A running server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Server {
    process: u8,
    primary: bool,
    gate: u32,
    following: Option<usize>,
    link_up: bool,
    history: u8,
    offset: u8,
    /// The history before, and the first offset that is not of it.
    before: Option<(u8, u8)>,
    backlog: bool,
    /// The writes that it holds, in their order.
    log: Vec<u8>,
}

impl Server {
    fn set(&self) -> Set {
        self.log.iter().map(|write| 1 << write).sum()
    }

    fn takes_writes(&self) -> bool {
        self.primary && self.gate < GATE_CLOSED
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    /// Whether its machine runs.
    alive: bool,
    /// Whether it reaches the others.
    connected: bool,
    /// Whether the cluster takes the instance for running.
    started: bool,
    server: Option<Server>,
    /// What a server that is started again finds on its disk.
    disk: Vec<u8>,
    memory: Memory,
    position: Option<Position>,
    score: Option<Score>,
    /// How many of its servers' processes and histories there were: their names are the node's own, so that it makes no difference
    /// to a state which node was first.
    processes: u8,
    histories: u8,
}

/// An operation of Pacemaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Start,
    Stop,
    Promote,
    Demote,
    Notify(Phase, Operation),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Op {
    node: usize,
    kind: Kind,
    /// Of the transition that it belongs to.
    subject: Subject,
}

/// What a transition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Subject {
    demote: Option<usize>,
    promote: Option<usize>,
    start: Option<usize>,
}

/// An operation between two effects: how it began, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct UnderWay {
    op: Op,
    memory: Memory,
    peers: Peers,
    events: Vec<Event>,
}

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Budget {
    writes: u8,
    crashes: u8,
    /// Of those, how many lose their data.
    losses: u8,
    promotions: u8,
    moves: u8,
    kills: u8,
    cuts: u8,
    lost_notifications: u8,
    late_records: u8,
    forgotten: u8,
}

/// What an operation sees of the world, and what it can change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cluster {
    nodes: [Shared<Node>; NODES],
    record: Option<Shared<Record>>,
    promoted: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    cluster: Cluster,
    /// A modification of the CIB that a tool asked for before it was killed.
    late: Option<(Option<Record>, Record)>,
    /// What is left of the transition: what belongs to one stage may happen in any order.
    transition: Vec<Vec<Op>>,
    /// A promotion that is under way.
    under_way: Option<Shared<UnderWay>>,
    written: u8,
    /// What `WAIT` confirmed.
    confirmed: Set,
    crashed: u8,
    /// An empty primary took the data of a server that had some.
    wiped: bool,
    left: Budget,
}

impl Deref for State {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl DerefMut for State {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Write(usize),
    Deliver(usize),
    Attach(usize),
    Crash(usize, bool),
    CutOff(usize),
    Fence(usize),
    Return(usize),
    Forget(usize),
    LateRecord,
    Monitor(usize),
    MonitorKilled(usize, u8),
    /// Demote what is promoted, if anything is, and promote this one.
    Plan(usize),
    PlanStart(usize),
    /// An operation of the stage.
    Run(Op),
    RunKilled(Op, u8),
    Lost(Op),
    /// The next effect of a promotion that is under way.
    Proceed,
}

/// What is left out, to see that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// A record overwrites whatever is there.
    CompareAndSwap,
    /// The gate is never closed.
    Gate,
    /// Positions of another round count.
    Round,
    /// Whoever is silent has nothing that was confirmed.
    Confirmations,
    /// Nobody but the primary is recorded as a holder.
    Holders,
    /// Silent servers count as empty ones.
    EmptyServers,
}

#[derive(Clone, Debug)]
struct World {
    budget: Budget,
    without: Without,
    quorum: bool,
    /// Whether a promotion is carried out effect by effect, with everything else in between.
    stepwise: bool,
    /// Whether it begins with a primary and two replicas that follow it, or with servers that were all started just now.
    settled: bool,
    /// What has happened then.
    prelude: fn(&World, &mut State),
    params: Params,
    /// Those of an agent that promises nothing.
    careless: Params,
    courses: Courses,
}

/// A moment, with enough time left.
const fn after(seconds: u64) -> Moment {
    Moment { now: Duration::from_secs(1000 + seconds), left: Duration::from_secs(20) }
}

/// The one at which everything happens.
const NOW: Moment = after(0);

/// Where an operation is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Nowhere,
    /// After so many effects that leave a trace.
    After(u8),
    /// While a tool waits for the CIB, which will do what it was asked for later.
    AtRecord,
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = |_| {
            Shared::new(Node {
                alive: true,
                connected: true,
                started: false,
                server: None,
                disk: Vec::new(),
                memory: Memory::default(),
                position: None,
                score: None,
                processes: 0,
                histories: 0,
            })
        };
        let mut s = State {
            cluster: Cluster { nodes: std::array::from_fn(node), record: None, promoted: None },
            late: None,
            transition: Vec::new(),
            under_way: None,
            written: 0,
            confirmed: 0,
            crashed: 0,
            wiped: false,
            left: self.budget,
        };
        for n in 0..NODES {
            Self::plan_start(&mut s, n);
            self.finish(&mut s, NOW, &mut String::new());
        }
        if self.settled {
            Self::plan(&mut s, Some(0));
            self.finish(&mut s, NOW, &mut String::new());
            for n in 1..NODES {
                s.attach(n);
            }
            // Nobody is empty: a write that everybody has.
            s.written = 1;
            let server = s.nodes[0].server.as_mut().unwrap();
            (server.log, server.offset) = (vec![0], server.offset + 1);
            for n in 1..NODES {
                self.deliver(&mut s, n);
            }
            for n in 0..NODES {
                self.run(&mut s, n, None, Cut::Nowhere, NOW);
            }
        }
        (self.prelude)(self, &mut s);
        vec![s]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        let left = s.left;
        for n in 0..NODES {
            let node = &s.nodes[n];
            if s.server(n).is_some_and(|server| server.takes_writes() && s.attached(n).count() >= server.gate as usize) && left.writes > 0 {
                actions.push(Action::Write(n));
            }
            if self.may_deliver(s, n) {
                actions.push(Action::Deliver(n));
            }
            if self.may_attach(s, n) {
                actions.push(Action::Attach(n));
            }
            if s.up(n) && left.crashes > 0 {
                actions.push(Action::Crash(n, true));
                if left.losses > 0 {
                    actions.push(Action::Crash(n, false));
                }
            }
            if node.alive && node.connected && left.cuts > 0 {
                actions.push(Action::CutOff(n));
            }
            if node.alive && !node.connected {
                actions.push(Action::Fence(n));
            }
            if !node.alive {
                actions.push(Action::Return(n));
            }
            if node.alive && left.forgotten > 0 && node.memory != Memory::default() {
                actions.push(Action::Forget(n));
            }
            let busy =
                s.transition.first().is_some_and(|stage| stage.iter().any(|op| op.node == n && !matches!(op.kind, Kind::Notify(..))));
            if node.alive && node.connected && node.started && !busy {
                actions.push(Action::Monitor(n));
                if left.kills > 0 || left.late_records > 0 {
                    let (most, writes) = self.traces(s, n, None);
                    actions.extend((1..most).filter(|_| left.kills > 0).map(|k| Action::MonitorKilled(n, k)));
                    actions.extend((writes && left.late_records > 0).then_some(Action::MonitorKilled(n, u8::MAX)));
                }
            }
        }
        if s.late.is_some() {
            actions.push(Action::LateRecord);
        }
        if s.under_way.is_some() {
            actions.push(Action::Proceed);
            return;
        }
        let fenced = s.nodes.iter().all(|node| !node.alive || node.connected);
        match s.transition.first() {
            None if fenced => {
                let dead = s.promoted.is_none_or(|p| s.server(p).is_none());
                for n in Self::candidates(s) {
                    if s.promoted != Some(n) && left.promotions > 0 && (dead || left.moves > 0) {
                        actions.push(Action::Plan(n));
                    }
                }
                actions.extend((0..NODES).filter(|n| s.nodes[*n].alive && !s.nodes[*n].started).map(Action::PlanStart));
            }
            None => {}
            Some(stage) => {
                for op in stage {
                    actions.push(Action::Run(*op));
                    if op.kind == Kind::Stop {
                        continue;
                    }
                    if left.kills > 0 || left.late_records > 0 {
                        let (most, writes) = self.traces(s, op.node, Some(*op));
                        actions.extend((1..most).filter(|_| left.kills > 0).map(|k| Action::RunKilled(*op, k)));
                        actions.extend((writes && left.late_records > 0).then_some(Action::RunKilled(*op, u8::MAX)));
                    }
                    if left.lost_notifications > 0 && matches!(op.kind, Kind::Notify(..)) {
                        actions.push(Action::Lost(*op));
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
                let write = s.written;
                s.written += 1;
                let server = s.nodes[n].server.as_mut()?;
                server.log.push(write);
                server.offset += 1;
            }
            Action::Deliver(n) => self.deliver(&mut s, n),
            Action::Attach(n) => s.attach(n),
            Action::Crash(n, keeps) => {
                s.left.crashes -= 1;
                s.left.losses -= u8::from(!keeps);
                s.crashed += 1;
                s.end_server(n, keeps);
            }
            Action::CutOff(n) => {
                s.left.cuts -= 1;
                s.nodes[n].connected = false;
                for r in 0..NODES {
                    if let Some(server) = s.nodes[r].server.as_mut().filter(|server| r == n || server.following == Some(n)) {
                        server.link_up = false;
                    }
                }
            }
            Action::Fence(n) => {
                s.crashed += 1;
                Self::end_of_node(&mut s, n);
            }
            Action::Return(n) => (s.nodes[n].alive, s.nodes[n].connected) = (true, true),
            Action::Forget(n) => {
                s.left.forgotten -= 1;
                s.nodes[n].memory = Memory::default();
            }
            Action::LateRecord => {
                let (before, record) = s.late.take()?;
                if self.without == Without::CompareAndSwap || s.record.as_deref() == before.as_ref() {
                    s.record = Some(Shared::new(record));
                }
            }
            Action::Monitor(n) => drop(self.run(&mut s, n, None, Cut::Nowhere, NOW)),
            Action::MonitorKilled(n, effects) => {
                let cut = killed(&mut s.left, effects);
                self.run(&mut s, n, None, cut, NOW);
            }
            Action::Plan(n) => {
                s.left.promotions -= 1;
                s.left.moves -= u8::from(s.promoted.is_some_and(|p| s.server(p).is_some()));
                Self::plan(&mut s, Some(n));
            }
            Action::PlanStart(n) => Self::plan_start(&mut s, n),
            Action::Run(op) if self.stepwise && op.kind == Kind::Promote => {
                let (memory, peers) = (s.nodes[op.node].memory.clone(), s.peers(op.subject));
                s.under_way = Some(Shared::new(UnderWay { op, memory, peers, events: Vec::new() }));
            }
            Action::Run(op) if !s.nodes[op.node].connected => Self::ended(&mut s, op, false),
            Action::Run(op) => self.perform(&mut s, op, Cut::Nowhere, NOW),
            Action::RunKilled(op, effects) => {
                let cut = killed(&mut s.left, effects);
                self.perform(&mut s, op, cut, NOW);
            }
            Action::Lost(op) => {
                s.left.lost_notifications -= 1;
                Self::ended(&mut s, op, false);
            }
            Action::Proceed => self.proceed(&mut s),
        }
        self.confirm(&mut s);
        s.forget_what_makes_no_difference();
        (s != *last).then_some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("I1 what was confirmed is on whoever takes writes", |_, s| {
                s.crashed > 1
                    || s.nodes
                        .iter()
                        .filter(|n| n.alive)
                        .filter_map(|n| n.server.as_ref())
                        .all(|server| !server.takes_writes() || s.confirmed & !server.set() == 0)
            }),
            Property::<Self>::always("I2 nobody but the recorded primary takes writes", |_, s| {
                let takes = |n: &usize| s.nodes[*n].connected && s.server(*n).is_some_and(Server::takes_writes);
                (0..NODES).filter(takes).all(|n| s.record.as_ref().is_some_and(|record| record.node == name(n)))
            }),
            Property::<Self>::always("R1 an empty primary takes nobody's data", |_, s| !s.wiped),
            Property::<Self>::always("L writes come back", |world, s| {
                !Self::is_calm(s.left) || s.under_way.is_some() || !s.transition.is_empty() || world.comes_back(s).is_ok()
            }),
            Property::<Self>::sometimes("another node takes over with what was confirmed", |world, s| {
                s.promoted.is_some_and(|p| p != 0 && s.server(p).is_some_and(Server::takes_writes)) && (!world.quorum || s.confirmed != 0)
            }),
        ]
    }
}

impl World {
    /// What `WAIT` says of the writes on a primary when enough replicas have reported them. It is said as soon as it may be: what is
    /// confirmed later is confirmed then as well, and has no other effect than that it must be kept.
    fn confirm(&self, s: &mut State) {
        for p in (0..NODES).filter(|_| self.quorum) {
            let Some(primary) = s.server(p).filter(|server| server.primary) else { continue };
            let reported = s.attached(p).map(|r| s.server(r).unwrap().set() & primary.set()).fold(0, |all, set| all | set);
            s.confirmed |= reported;
        }
    }
}

impl State {
    /// Of states that differ in nothing that can have an effect one is enough.
    fn forget_what_makes_no_difference(&mut self) {
        // Data are lost in a crash, and the role is moved by a promotion.
        if self.left.crashes == 0 {
            self.left.losses = 0;
        }
        if self.left.promotions == 0 {
            self.left.moves = 0;
        }
        // Nothing is promised of two crashes.
        if self.crashed > 1 {
            self.crashed = 2;
        }
    }
}

fn killed(left: &mut Budget, effects: u8) -> Cut {
    if effects == u8::MAX {
        left.late_records -= 1;
        Cut::AtRecord
    } else {
        left.kills -= 1;
        Cut::After(effects)
    }
}
