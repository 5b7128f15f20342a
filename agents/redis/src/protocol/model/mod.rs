//! The protocol, model-checked: three servers, the agents' own actions, and what can happen to them in any order.
//!
//! What an agent does is `Instance` itself, and what Pacemaker and a machine do stands in the crate `model`; what is here is the world that
//! carries effects out. Servers crash and come back with or without their data, links carry one write at a time.
//!
//! Simplified: time stands still, so nothing that expires does, and a refused candidate may be asked again at once; one key for each write;
//! a link ends with the server or the network at its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test helper panics to fail the test")]

mod failover;
mod tests;
mod world;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use model::{Budget, Checked, Courses, Cut, Kind, Nodes, Op, Operations, Property, Replacement, Run, Shared, Subject, name};
use ocf::{Failure, Notification, Outcome, Peers, Status};
use promotable::Machine;

use super::{Effect, Event, Instance, Moment, OfCluster};
use crate::election::Position;
use crate::params::Params;
use crate::record::Record;
use crate::server::GATE_CLOSED;
use crate::state::State as Memory;

const NODES: usize = 3;

/// Writes by number, as bits.
type Set = u8;

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

/// What a node has of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Own {
    server: Option<Server>,
    /// What a server that is started again finds on its disk.
    disk: Vec<u8>,
    position: Option<Position>,
    /// How many of its servers' processes and histories there were: their names are the node's own, so that it makes no difference
    /// to a state which node was first.
    processes: u8,
    histories: u8,
}

/// What an operation sees of the world, and what it can change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cluster(Nodes<Kinds>);

impl Deref for Cluster {
    type Target = Nodes<Kinds>;

    fn deref(&self) -> &Nodes<Kinds> {
        &self.0
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Nodes<Kinds> {
        &mut self.0
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Past {
    written: u8,
    /// What `WAIT` confirmed.
    confirmed: Set,
    crashed: u8,
    /// An empty primary took the data of a server that had some.
    wiped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Happening {
    Write(usize),
    Deliver(usize),
    Attach(usize),
    /// With its data, or without.
    Crash(usize, bool),
}

/// Of what the states are made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kinds;

impl model::Kinds for Kinds {
    type Memory = Memory;
    type Record = Record;
    type Event = Event;
    type Own = Own;
    type Cluster = Cluster;
    type Past = Past;
    type Happening = Happening;
}

type State = model::State<Kinds>;
type Action = model::Action<Happening>;

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
    courses: Courses<Kinds>,
}

impl model::World for World {
    type Kinds = Kinds;
    type Effect = Effect;

    const STARTS_ARE_ANNOUNCED: bool = false;
    const LEFT: Duration = Duration::from_secs(20);

    fn budget(&self) -> Budget {
        self.budget
    }

    fn stepwise(&self) -> bool {
        self.stepwise
    }

    fn courses(&self) -> &Courses<Kinds> {
        &self.courses
    }

    fn overwrites_records(&self) -> bool {
        self.without == Without::CompareAndSwap
    }

    fn beginning(&self) -> State {
        let mut s = State::new(Cluster(Nodes::new(NODES, Own::default)), Past::default(), self.budget);
        for n in 0..NODES {
            self.plan_start(&mut s, n);
            self.finish(&mut s, Self::NOW, &mut String::new());
        }
        if self.settled {
            self.plan(&mut s, Some(0));
            self.finish(&mut s, Self::NOW, &mut String::new());
            for n in 1..NODES {
                s.past.wiped |= s.cluster.attach(n);
            }
            // Nobody is empty: a write that everybody has.
            s.past.written = 1;
            let server = s.nodes[0].server.as_mut().unwrap();
            (server.log, server.offset) = (vec![0], server.offset + 1);
            for n in 1..NODES {
                s.cluster.deliver(n);
            }
            for n in 0..NODES {
                self.run(&mut s, n, None, Cut::Nowhere, Self::NOW);
            }
        }
        (self.prelude)(self, &mut s);
        s
    }

    fn properties() -> Vec<Property<Checked<Self>>> {
        vec![
            Property::<Checked<Self>>::always("I1 what was confirmed is on whoever takes writes", |_, s| {
                s.past.crashed > 1
                    || s.nodes
                        .iter()
                        .filter(|n| n.alive)
                        .filter_map(|n| n.server.as_ref())
                        .all(|server| !server.takes_writes() || s.past.confirmed & !server.set() == 0)
            }),
            Property::<Checked<Self>>::always("I2 nobody but the recorded primary takes writes", |_, s| {
                let takes = |n: &usize| s.nodes[*n].connected && s.server(*n).is_some_and(Server::takes_writes);
                (0..NODES).filter(takes).all(|n| s.record.as_ref().is_some_and(|record| record.node == name(n)))
            }),
            Property::<Checked<Self>>::always("R1 an empty primary takes nobody's data", |_, s| !s.past.wiped),
            Property::<Checked<Self>>::always("L writes come back", |world, s| {
                !s.left.is_calm() || !s.is_idle() || world.comes_back_as_is_known(s)
            }),
            Property::<Checked<Self>>::sometimes("another node takes over with what was confirmed", |world, s| {
                s.promoted.is_some_and(|p| p != 0 && s.server(p).is_some_and(Server::takes_writes))
                    && (!world.quorum || s.past.confirmed != 0)
            }),
        ]
    }

    fn operation<'r>(&'r self, _: &Cluster, n: usize, memory: Memory, peers: Peers, op: Option<Op>, begin: Moment) -> Run<'r, Self> {
        let rules = self.rules(n);
        Machine::new(move |port| async move { operate(Instance::new(&rules, memory, begin, port), op.map(|op| op.kind), peers).await })
    }

    fn peers(&self, s: &Cluster, subject: Subject) -> Peers {
        s.0.peers(subject, s.promoted)
    }

    fn carry_out(&self, s: &mut Cluster, n: usize, _: Option<Op>, effect: Effect) -> Event {
        self.event(s, n, effect)
    }

    fn changes(effect: &Effect) -> bool {
        world::changes(effect)
    }

    fn is_private(effect: &Effect) -> bool {
        world::is_private(effect)
    }

    fn replacement(effect: &Effect) -> Option<Replacement<Kinds>> {
        match effect {
            Effect::OfCluster(OfCluster::ReplaceRecord(before, record)) => Some((before.as_deref().cloned(), (**record).clone())),
            _ => None,
        }
    }

    fn serves(s: &Cluster, n: usize) -> bool {
        s.server(n).is_some()
    }

    fn end_server(s: &mut Cluster, n: usize) {
        s.end_server(n, true);
    }

    fn of_stopped(_: &Memory) -> Memory {
        Memory::default()
    }

    fn node_is_lost(&self, s: &mut State, n: usize) {
        s.past.crashed += 1;
        s.nodes[n].position = None;
        s.transition = Shared::default();
    }

    fn node_is_cut_off(&self, s: &mut State, n: usize) {
        for r in 0..NODES {
            if let Some(server) = s.nodes[r].server.as_mut().filter(|server| r == n || server.following == Some(n)) {
                server.link_up = false;
            }
        }
    }

    fn happenings(&self, s: &State, n: usize, actions: &mut Vec<Action>) {
        let left = s.left;
        let Some(server) = s.server(n) else { return };
        let mut may = |happening| actions.push(Action::To(happening));
        if server.takes_writes() && s.attached(n).count() >= server.gate as usize && left.writes > 0 {
            may(Happening::Write(n));
        }
        if s.may_deliver(n) {
            may(Happening::Deliver(n));
        }
        if s.may_attach(n) {
            may(Happening::Attach(n));
        }
        if left.crashes > 0 {
            may(Happening::Crash(n, true));
            if left.losses > 0 {
                may(Happening::Crash(n, false));
            }
        }
    }

    fn plans(&self, s: &State, actions: &mut Vec<Action>) {
        if s.nodes.iter().any(|node| node.alive && !node.connected) {
            return;
        }
        let dead = s.promoted.is_none_or(|p| s.server(p).is_none());
        let role = |n: &usize| s.promoted != Some(*n) && s.left.promotions > 0 && (dead || s.left.moves > 0);
        actions.extend(Self::candidates(s).into_iter().filter(role).map(Action::Plan));
        actions.extend((0..NODES).filter(|n| s.nodes[*n].alive && !s.nodes[*n].started).map(Action::PlanStart));
    }

    fn happen(&self, s: &mut State, happening: Happening) -> Option<()> {
        match happening {
            Happening::Write(n) => {
                s.left.writes -= 1;
                let write = s.past.written;
                s.past.written += 1;
                let server = s.nodes[n].server.as_mut()?;
                server.log.push(write);
                server.offset += 1;
            }
            Happening::Deliver(n) => s.cluster.deliver(n),
            Happening::Attach(n) => s.past.wiped |= s.cluster.attach(n),
            Happening::Crash(n, keeps) => {
                s.left.crashes -= 1;
                s.left.losses -= u8::from(!keeps);
                s.past.crashed += 1;
                s.cluster.end_server(n, keeps);
            }
        }
        Some(())
    }

    fn forget_what_makes_no_difference(&self, s: &mut State) {
        self.confirm(s);
        s.left.forget_what_makes_no_difference();
        // Nothing is promised of two crashes.
        s.past.crashed = s.past.crashed.min(2);
    }

    fn comes_back(&self, s: &State) -> Result<(), String> {
        let mut s = s.clone();
        let mut why = String::new();
        for node in &mut s.cluster.nodes {
            (node.alive, node.connected) = (true, true);
        }
        for minute in 1..=6 {
            let moment = Self::after(60 * minute);
            self.finish(&mut s, moment, &mut why);
            self.settle_links(&mut s);
            if s.promoted.is_some_and(|p| s.server(p).is_some_and(Server::takes_writes)) {
                return Ok(());
            }
            if let Some(n) = (0..NODES).find(|n| !s.nodes[*n].started) {
                self.plan_start(&mut s, n);
                continue;
            }
            let failed =
                |n: &usize| !matches!(self.run(&mut s, *n, None, Cut::Nowhere, moment), Some(Ok(status)) if status != Status::NotRunning);
            if let Some(node) = (0..NODES).filter(failed).collect::<Vec<_>>().into_iter().find(|n| s.promoted != Some(*n)) {
                s.begin(vec![vec![Op { node, kind: Kind::Stop, subject: Subject::default() }]]);
                continue;
            }
            // Twice, because what a candidate makes of the scores has the cluster plan anew at once.
            for _ in 0..2 {
                if s.transition.is_empty() {
                    let best = Self::best_candidate(&s);
                    self.plan(&mut s, best);
                    self.finish(&mut s, moment, &mut why);
                }
            }
        }
        Err(why)
    }
}

/// An operation of Pacemaker's, `None` for a monitor.
async fn operate(instance: Instance<'_>, kind: Option<Kind>, peers: Peers) -> Result<Status, Failure> {
    let done = |outcome: Outcome| outcome.map(|()| Status::Running);
    match kind {
        None => instance.monitor(None).await,
        Some(Kind::Start) => done(instance.start(peers).await),
        Some(Kind::Promote) => done(instance.promote(peers).await),
        Some(Kind::Demote) => done(instance.demote(peers).await),
        Some(Kind::Notify(phase, operation)) => done(instance.notify(Notification { phase, operation, peers }).await),
        Some(Kind::Stop | Kind::Reload) => Ok(Status::NotRunning),
    }
}

impl World {
    /// What `WAIT` says of the writes on a primary when enough replicas have reported them. It is said as soon as it may be: what is
    /// confirmed later is confirmed then as well, and has no other effect than that it must be kept.
    fn confirm(&self, s: &mut State) {
        for p in (0..NODES).filter(|_| self.quorum) {
            let Some(primary) = s.server(p).filter(|server| server.primary) else { continue };
            let reported = s.attached(p).map(|r| s.server(r).unwrap().set() & primary.set()).fold(0, |all, set| all | set);
            s.past.confirmed |= reported;
        }
    }

    fn settle_links(&self, s: &mut State) {
        for n in 0..NODES {
            if s.may_attach(n) {
                s.past.wiped |= s.cluster.attach(n);
            }
            while s.may_deliver(n) {
                s.cluster.deliver(n);
            }
        }
    }
}
