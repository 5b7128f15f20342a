//! The protocol, model-checked: servers, the agents' own actions, and what can happen to them in any order.
//!
//! What an agent does is `Instance` itself; what the model adds is the world that carries effects out. Pacemaker is taken for what it
//! promises: one transition at a time, in which a demotion (or fencing) comes before a promotion, and one action of an instance at a time.
//! An agent may be killed after any effect, a notification may be lost, a record's write may arrive late or never, memories may be lost,
//! servers crash and lose what they had received and not applied, acknowledgements arrive late, appliers break, nodes are cut off and
//! fenced, roles are moved, operators write on replicas, stop instances and change the durability.
//!
//! Simplified: time stands still between actions, so nothing that expires does; whom the scheduler asks is anybody who is not excluded,
//! whatever the scores; a transaction's identity is used once (a server that loses its newest transactions gives theirs away again:
//! `Election::cut` is about that); a replica's applier runs when it is waited for; a notification or a monitor is carried out at one
//! moment, unless it is killed; `promote` is not, where the bounds say so.

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
pub(super) use self::world::{Told, identity, params};
use super::{Event, Moment};
use crate::election::Position;
use crate::gtid::Flavour;
use crate::membership::Membership;
use crate::params::Params;
use crate::record::Record;
use crate::state::State as Memory;

/// As many servers at most.
const SERVERS: usize = 4;

/// As many transactions at most as fit into a [`Set`].
const MOST: usize = 7;

/// Transactions by number, as bits. A higher number is written later.
type Set = u8;

const fn one(transaction: usize) -> Set {
    1 << transaction
}

/// All up to the highest of these.
fn up_to_highest(set: Set) -> Set {
    if set == 0 { 0 } else { Set::MAX >> set.leading_zeros() }
}

fn name(node: usize) -> String {
    ["a", "b", "c", "d"][node].to_owned()
}

fn number(name: &str) -> usize {
    ["a", "b", "c", "d"].iter().position(|n| *n == name).unwrap()
}

/// A running server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Server {
    process: u8,
    closed: bool,
    /// All that is in its log, commits that wait included.
    executed: Set,
    /// What was received and not applied.
    relay: Set,
    following: Option<usize>,
    receiver: bool,
    applier: bool,
    /// The applier stops with an error.
    broken: bool,
    acknowledges: bool,
    /// For how many replicas commits wait.
    waits: u8,
    /// Transactions whose clients wait to be told.
    pending: Set,
    /// The newest acknowledgement of each replica that is on its way here. It arrives whatever becomes of its sender.
    arriving: [Set; SERVERS],
    /// What each replica has acknowledged of what is waited for.
    acknowledged: [Set; SERVERS],
}

impl Server {
    fn have(&self) -> Set {
        self.executed | self.relay
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
    /// What a server that is started again finds in its log, and whom it followed.
    disk: (Set, Option<usize>),
    memory: Shared<Memory>,
    position: Option<Shared<Position>>,
    membership: Option<Shared<Membership>>,
    score: Option<Score>,
}

/// An operation of Pacemaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Start,
    Stop,
    Promote,
    Demote,
    Reload,
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
    stop: Option<usize>,
    start: Option<usize>,
}

/// An operation between two effects: how it began, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct UnderWay {
    op: Op,
    memory: Shared<Memory>,
    peers: Peers,
    events: Vec<(Event, Moment)>,
}

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Budget {
    writes: u8,
    errant: u8,
    crashes: u8,
    /// Of those, how many lose what was received and not applied.
    losses: u8,
    promotions: u8,
    moves: u8,
    /// Of an instance whose server is well.
    restarts: u8,
    kills: u8,
    cuts: u8,
    lost_notifications: u8,
    late_records: u8,
    forgotten: u8,
    durabilities: u8,
    /// Of an applier.
    breaks: u8,
    /// Of an instance that is not started again at once.
    stops: u8,
}

/// More than what happens before the beginning.
const PLENTY: Budget = Budget {
    writes: 9,
    errant: 9,
    crashes: 9,
    losses: 9,
    promotions: 9,
    moves: 9,
    restarts: 9,
    kills: 9,
    cuts: 9,
    lost_notifications: 9,
    late_records: 9,
    forgotten: 9,
    durabilities: 9,
    breaks: 9,
    stops: 9,
};

/// A record in the place of another.
type Replacement = (Option<Record>, Record);

/// What an operation sees of the world, and what it can change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cluster {
    nodes: Vec<Shared<Node>>,
    record: Option<Shared<Record>>,
    promoted: Option<usize>,
    /// Whether the operator accepts losses.
    careless: bool,
    /// Who wrote each transaction.
    writers: [u8; MOST],
    written: u8,
    errant: Set,
    /// What a client saw succeed, of a server that waits for replicas.
    seen: Set,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    cluster: Cluster,
    /// A modification of the CIB that a tool asked for before it was killed.
    late: Option<Shared<Replacement>>,
    /// What is left of the transition: what belongs to one stage may happen in any order.
    transition: Shared<Vec<Vec<Op>>>,
    /// A promotion that is under way.
    under_way: Option<Shared<UnderWay>>,
    /// Whether the operator ever accepted losses.
    ever_careless: bool,
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
    WriteErrant(usize),
    Deliver(usize),
    /// At the first, of the second.
    AcknowledgementArrives(usize, usize),
    Crash(usize, Loss),
    CutOff(usize),
    Heal(usize),
    Fence(usize),
    Return(usize),
    Forget(usize),
    /// The applier stops with an error, and somebody corrects the data.
    Break(usize),
    Mend(usize),
    ChangeDurability,
    LateRecord,
    Monitor(usize),
    MonitorKilled(usize, u8),
    /// Demote what is promoted, if anything is, and promote this one.
    Plan(usize),
    PlanStart(usize),
    PlanRestart(usize),
    PlanStop(usize),
    /// An operation of the stage.
    Run(Op),
    RunKilled(Op, u8),
    Lost(Op),
    /// The next effect of a promotion that is under way.
    Proceed,
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
    /// Positions of another round count.
    Round,
}

#[derive(Clone, Debug)]
struct World {
    budget: Budget,
    without: Without,
    flavour: Flavour,
    /// How many servers there are.
    servers: usize,
    /// A server that crashes may lose the transactions that nobody has acknowledged (MariaDB; MySQL without `sync_binlog=1`).
    cuts_tails: bool,
    /// Whether a promotion is carried out effect by effect, with everything else in between.
    stepwise: bool,
    /// Whether writes may come back after an operator has copied the primary's data to those that have diverged.
    copies: bool,
    /// What has happened before.
    prelude: fn(&World, &mut State),
    params: Params,
    /// Those of an agent that promises nothing.
    careless: Params,
    told: world::Told,
    courses: Courses,
}

/// A moment, with enough time left.
const fn after(seconds: u64) -> Moment {
    Moment { now: Duration::from_secs(1000 + seconds), left: Duration::from_secs(60) }
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
        let mut s = self.beginning();
        s.left = PLENTY;
        (self.prelude)(self, &mut s);
        s.left = self.budget;
        vec![s]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        let left = s.left;
        let has_room = usize::from(s.written) < MOST;
        for n in 0..self.servers {
            let node = &s.nodes[n];
            if !node.alive {
                actions.push(Action::Return(n));
                continue;
            }
            if node.connected && left.cuts > 0 {
                actions.push(Action::CutOff(n));
            }
            if !node.connected {
                // Who has the role is fenced; whoever else is cut off comes back, or is.
                actions.push(Action::Fence(n));
                if s.promoted != Some(n) {
                    actions.push(Action::Heal(n));
                }
            }
            if left.forgotten > 0 && *node.memory != Memory::default() {
                actions.push(Action::Forget(n));
            }
            self.actions_of_server(s, n, has_room, actions);
            let works = |op: &Op| op.node == n && !matches!(op.kind, Kind::Notify(..));
            let busy = s.transition.first().is_some_and(|stage| stage.iter().any(works));
            if node.connected && node.started && !busy {
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
        self.actions_of_cluster(s, actions);
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
                let transaction = one(s.number_of(n));
                s.nodes[n].server.as_mut()?.executed |= transaction;
                s.errant |= transaction;
            }
            Action::Deliver(n) => s.deliver(n),
            Action::AcknowledgementArrives(p, n) => s.acknowledgement_arrives(p, n),
            Action::Crash(n, loss) => {
                s.left.crashes -= 1;
                s.left.losses -= u8::from(loss == Loss::Relay);
                s.end_server(n, loss);
            }
            Action::CutOff(n) => {
                s.left.cuts -= 1;
                s.nodes[n].connected = false;
            }
            Action::Heal(n) => s.nodes[n].connected = true,
            Action::Fence(n) => self.end_of_node(&mut s, n),
            Action::Return(n) => {
                let node = &mut *s.nodes[n];
                (node.alive, node.connected) = (true, true);
            }
            Action::Forget(n) => {
                s.left.forgotten -= 1;
                s.nodes[n].memory = Shared::default();
            }
            Action::Break(n) => {
                s.left.breaks -= 1;
                let server = s.nodes[n].server.as_mut()?;
                (server.applier, server.broken) = (false, true);
            }
            Action::Mend(n) => s.nodes[n].server.as_mut()?.broken = false,
            Action::ChangeDurability => {
                s.left.durabilities -= 1;
                s.careless = !s.careless;
                s.ever_careless = true;
                self.plan_reload(&mut s);
            }
            Action::LateRecord => {
                let late = s.late.take()?;
                let (before, record) = &*late;
                if self.without == Without::CompareAndSwap || s.record.as_deref() == before.as_ref() {
                    s.record = Some(Shared::new(record.clone()));
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
                self.plan(&mut s, Some(n));
            }
            Action::PlanStart(n) => self.plan_start(&mut s, n),
            Action::PlanRestart(n) => {
                s.left.restarts -= u8::from(s.server(n).is_some());
                self.plan_restart(&mut s, n);
            }
            Action::PlanStop(n) => {
                s.left.stops -= 1;
                self.plan_stop(&mut s, n);
            }
            Action::Run(op) if self.stepwise && op.kind == Kind::Promote => {
                let (memory, peers) = (s.nodes[op.node].memory.clone(), self.peers(&s, op.subject));
                s.under_way = Some(Shared::new(UnderWay { op, memory, peers, events: Vec::new() }));
            }
            Action::Run(op) if !s.nodes[op.node].connected => self.ended(&mut s, op, false),
            Action::Run(op) => self.perform(&mut s, op, Cut::Nowhere, NOW),
            Action::RunKilled(op, effects) => {
                let cut = killed(&mut s.left, effects);
                self.perform(&mut s, op, cut, NOW);
            }
            Action::Lost(op) => {
                s.left.lost_notifications -= 1;
                self.ended(&mut s, op, false);
            }
            Action::Proceed => self.proceed(&mut s),
        }
        self.forget_what_cannot_matter(&mut s);
        (s != *last).then_some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("I1 what a client saw is on whoever takes writes", |world, s| {
                // Transactions that no disk has any more cannot be had by refusing; only cut tails go that way.
                let anywhere = if world.cuts_tails { s.nodes.iter().fold(0, |all, n| all | n.have()) } else { Set::MAX };
                s.open().all(|n| s.seen & anywhere & !s.nodes[n].have() == 0)
            }),
            Property::<Self>::always("I2 one takes writes", |_, s| s.open().count() <= 1),
            Property::<Self>::always("I3 nothing errant is merged", |_, s| {
                (0..s.nodes.len()).all(|n| {
                    let Some(server) = s.server(n) else { return true };
                    // What was written on a replica is nobody's but its own.
                    let foreign = if server.closed { s.errant & !s.written_by(n) } else { s.errant };
                    let primary = s.open().next().filter(|p| server.receiver && server.following == Some(*p) && s.reach(n, *p));
                    let lacking = primary.map_or(0, |p| server.executed & !s.errant & !s.server(p).unwrap().executed);
                    server.have() & foreign == 0 && lacking == 0
                })
            }),
            Property::<Self>::always("W who takes writes waits for replicas", |_, s| {
                s.ever_careless || s.open().all(|n| s.server(n).unwrap().waits > 0)
            }),
            Property::<Self>::always("L writes come back", |world, s| {
                let calm = Self::is_calm(s.left) && s.errant == 0 && s.under_way.is_none() && s.transition.is_empty();
                world.without != Without::Nothing || !calm || world.comes_back_as_is_known(s)
            }),
            Property::<Self>::sometimes("another node takes over with what was seen", |world, s| {
                world.budget.promotions == 0 || s.open().any(|p| p != 0) && s.seen != 0
            }),
            Property::<Self>::sometimes("a member leaves", |world, s| {
                world.budget.stops == 0 || s.record.as_ref().is_some_and(|record| record.active.len() + 1 < world.servers)
            }),
            Property::<Self>::sometimes("the old primary acknowledges for the new one", |world, s| {
                world.budget.promotions == 0 || s.open().any(|p| p != 0) && s.server(0).is_some_and(|server| server.acknowledges)
            }),
        ]
    }
}

impl World {
    fn actions_of_server(&self, s: &State, n: usize, has_room: bool, actions: &mut Vec<Action>) {
        let Some(server) = s.server(n) else { return };
        if !server.closed && s.left.writes > 0 && has_room {
            actions.push(Action::Write(n));
        }
        // What is written on the recorded primary is its own.
        let recorded = s.record.as_ref().is_some_and(|record| record.node == name(n));
        if server.closed && s.left.errant > 0 && has_room && s.promoted != Some(n) && !recorded {
            actions.push(Action::WriteErrant(n));
        }
        if server.applier && server.following.is_some() && s.left.breaks > 0 {
            actions.push(Action::Break(n));
        }
        if server.broken {
            actions.push(Action::Mend(n));
        }
        if s.left.crashes > 0 {
            actions.push(Action::Crash(n, Loss::Nothing));
            if server.relay != 0 && s.left.losses > 0 {
                actions.push(Action::Crash(n, Loss::Relay));
            }
            if self.cuts_tails && server.pending != 0 {
                actions.push(Action::Crash(n, Loss::Tail));
            }
        }
        if s.may_deliver(n) {
            actions.push(Action::Deliver(n));
        }
        // The reader has it already, whatever happened to the sender since.
        let senders = (0..self.servers).filter(|r| server.arriving[*r] != 0);
        actions.extend(senders.map(|r| Action::AcknowledgementArrives(n, r)));
    }

    fn actions_of_cluster(&self, s: &State, actions: &mut Vec<Action>) {
        let left = s.left;
        let fenced = s.nodes.iter().all(|node| !node.alive || node.connected);
        match s.transition.first() {
            None => {
                let dead = s.promoted.is_none_or(|p| s.server(p).is_none());
                let role = |n: &usize| s.promoted != Some(*n) && left.promotions > 0 && (dead || left.moves > 0);
                if fenced {
                    actions.extend(Self::candidates(s).into_iter().filter(role).map(Action::Plan));
                }
                for (n, node) in s.nodes.iter().enumerate().filter(|(_, node)| node.alive && node.connected) {
                    if !node.started {
                        actions.push(Action::PlanStart(n));
                    } else if s.promoted != Some(n) {
                        let wanted = s.server(n).is_none() || left.restarts > 0;
                        actions.extend(wanted.then_some(Action::PlanRestart(n)));
                        actions.extend((left.stops > 0).then_some(Action::PlanStop(n)));
                    }
                }
                actions.extend((left.durabilities > 0).then_some(Action::ChangeDurability));
            }
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
