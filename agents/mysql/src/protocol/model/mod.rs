//! The protocol, model-checked: servers, the agents' own actions, and what can happen to them in any order.
//!
//! What an agent does is `Instance` itself, and what Pacemaker and a machine do stands in the crate `model`; what is here is the world that
//! carries effects out. Servers crash and lose what they had received and not applied, acknowledgements arrive late, appliers break,
//! operators write on replicas, stop instances and change the durability.
//!
//! Simplified: time stands still between actions, so nothing that expires does; a transaction's identity is used once (a server that loses
//! its newest transactions gives theirs away again: `Election::cut` is about that); a replica's applier runs when it is waited for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test helper panics to fail the test")]

mod failover;
mod operations;
mod rewind;
mod tests;
mod world;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use model::{Budget, Checked, Courses, Kind, Nodes, Op, Operations as _, Property, Replacement, Run, Shared, Subject, name};
use ocf::Peers;
use promotable::Moment;

pub(super) use self::world::{Told, identity, params};
use super::{Effect, Event};
use crate::election::Position;
use crate::gtid::Flavour;
use crate::membership::Membership;
use crate::params::Params;
use crate::record::Record;
use crate::reign::Note;
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

/// What a node has of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Own {
    server: Option<Server>,
    /// What a server that is started again finds in its log, and whom it followed.
    disk: (Set, Option<usize>),
    position: Option<Shared<Position>>,
    membership: Option<Shared<Membership>>,
    /// What is noted of a reign beside the data.
    reign: Option<Shared<Note>>,
    /// What was written here by hand or by clients, by the process that runs, and by the one that noted its reign, when that is gone. Only where
    /// something may be taken back.
    wrote: Set,
    reign_wrote: Option<Set>,
}

/// What an operation sees of the world, and what it can change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cluster {
    common: Nodes<Kinds>,
    /// Whether the operator accepts losses.
    careless: bool,
    /// Who wrote each transaction.
    writers: [u8; MOST],
    written: u8,
    errant: Set,
    /// What a client saw succeed, of a server that waits for replicas.
    seen: Set,
    /// The same of one that does not wait. Only where something may be taken back.
    told_alone: Set,
    /// What was taken back.
    taken: Set,
}

impl Deref for Cluster {
    type Target = Nodes<Kinds>;

    fn deref(&self) -> &Nodes<Kinds> {
        &self.common
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Nodes<Kinds> {
        &mut self.common
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Past {
    /// Whether the operator ever accepted losses.
    ever_careless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Happening {
    Write(usize),
    WriteErrant(usize),
    Deliver(usize),
    /// At the first, of the second.
    AcknowledgementArrives(usize, usize),
    Crash(usize, Loss),
    /// The applier stops with an error, and somebody corrects the data.
    Break(usize),
    Mend(usize),
    ChangeDurability,
    /// What the primary does not have goes, all of it or nothing, by the process beside all actions.
    TakeBack(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Loss {
    Nothing,
    /// What was received and not applied.
    Relay,
    /// The transactions that wait for an acknowledgement.
    Tail,
    /// The newest of all in its log, and what was received and not applied.
    Newest,
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
    /// A demotion keeps the claim, so that the next promotion goes on with the old reign, and under its record.
    NewEpochAfterDemotion,
    /// Whoever does not acknowledge at the moment is taken for one that never did.
    MemoryOfAcknowledging,
    /// The errant are candidates, and followers.
    ErrantRule,
    /// Whoever has lost what it wrote follows, and counts it as had.
    LostRule,
    /// Those that run and were not heard are no members of the next reign.
    Unheard,
    /// Positions of another round count.
    Round,
    /// Whatever the primary does not have is taken back.
    Reign,
    /// A server is believed to have written all of that as the primary, and before anybody else was.
    Log,
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
    /// No server writes to its disk what it commits, and says so: one that crashes may lose its newest transaction, whoever was told of it.
    relaxed: bool,
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
    courses: Courses<Kinds>,
}

impl model::World for World {
    type Kinds = Kinds;
    type Effect = Effect;

    const STARTS_ARE_ANNOUNCED: bool = true;
    const LEFT: Duration = Duration::from_secs(60);

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
        let mut s = self.settled();
        s.left = Budget::PLENTY;
        (self.prelude)(self, &mut s);
        s.left = self.budget;
        s
    }

    fn properties() -> Vec<Property<Checked<Self>>> {
        vec![
            Property::<Checked<Self>>::always("I1 what a client saw is on whoever takes writes", |world, s| {
                // Transactions that no disk has any more cannot be had by refusing; only cut tails go that way, and what relaxed disks had not.
                let anywhere = if world.cuts_tails || world.relaxed { s.nodes.iter().fold(0, |all, n| all | n.have()) } else { Set::MAX };
                s.open().all(|n| s.seen & anywhere & !s.nodes[n].have() == 0)
            }),
            Property::<Checked<Self>>::always("I2 one takes writes", |_, s| s.open().count() <= 1),
            Property::<Checked<Self>>::always("I3 nothing errant is merged", |_, s| {
                (0..s.nodes.len()).all(|n| {
                    let Some(server) = s.server(n) else { return true };
                    // What was written on a replica is nobody's but its own.
                    let foreign = if server.closed { s.errant & !s.written_by(n) } else { s.errant };
                    let primary = s.open().next().filter(|p| server.receiver && server.following == Some(*p) && s.reach(n, *p));
                    let lacking = primary.map_or(0, |p| server.executed & !s.errant & !s.server(p).unwrap().executed);
                    server.have() & foreign == 0 && lacking == 0
                })
            }),
            Property::<Checked<Self>>::always("W who takes writes waits for replicas", |_, s| {
                s.past.ever_careless || s.open().all(|n| s.server(n).unwrap().waits > 0)
            }),
            Property::<Checked<Self>>::always("T nobody was told of what is taken back", |_, s| s.taken & (s.seen | s.told_alone) == 0),
            Property::<Checked<Self>>::always("L writes come back", |world, s| {
                let calm = s.left.is_calm() && s.errant == 0 && s.is_idle();
                world.without != Without::Nothing || !calm || world.comes_back_as_is_known(s)
            }),
            Property::<Checked<Self>>::sometimes("another node takes over with what was seen", |world, s| {
                world.budget.promotions == 0 || s.open().any(|p| p != 0) && s.seen != 0
            }),
            Property::<Checked<Self>>::sometimes("a member leaves", |world, s| {
                world.budget.stops == 0 || s.record.as_ref().is_some_and(|record| record.active.len() + 1 < world.servers)
            }),
            Property::<Checked<Self>>::sometimes("the old primary acknowledges for the new one", |world, s| {
                // One whose disk has lost what it wrote does not follow.
                let excused = world.budget.promotions == 0 || world.relaxed;
                excused || s.open().any(|p| p != 0) && s.server(0).is_some_and(|server| server.acknowledges)
            }),
            Property::<Checked<Self>>::sometimes("something is taken back", |world, s| {
                !world.params.rejoin.takes_back() || world.budget.crashes == 0 || s.taken != 0
            }),
        ]
    }

    fn operation<'r>(&'r self, s: &Cluster, n: usize, memory: Memory, peers: Peers, op: Option<Op>, begin: Moment) -> Run<'r, Self> {
        Self::machine(self.rules(s, n), memory, peers, op, begin)
    }

    fn peers(&self, s: &Cluster, subject: Subject) -> Peers {
        // After a reload Pacemaker forgets for a moment who is promoted.
        s.common.peers(subject, s.promoted.filter(|p| Some(*p) != subject.promote))
    }

    fn carry_out(&self, s: &mut Cluster, n: usize, op: Option<Op>, effect: Effect) -> Event {
        Self::carry_out(self, s, n, op, effect)
    }

    fn changes(effect: &Effect) -> bool {
        world::changes(effect)
    }

    fn is_private(effect: &Effect) -> bool {
        world::is_private(effect)
    }

    fn replacement(effect: &Effect) -> Option<Replacement<Kinds>> {
        operations::replacement(effect)
    }

    fn after_effect(begin: Moment, effect: &Effect) -> Moment {
        operations::later(begin, effect)
    }

    fn seen_by_agents(&self, s: &Cluster) -> Cluster {
        // What clients saw is nothing that an agent sees.
        Cluster { seen: 0, told_alone: 0, taken: 0, ..s.clone() }
    }

    fn keep_unseen(&self, before: &Cluster, after: &mut Cluster) {
        after.seen |= before.seen;
        after.told_alone |= before.told_alone;
        after.taken |= before.taken;
    }

    fn serves(s: &Cluster, n: usize) -> bool {
        s.server(n).is_some()
    }

    fn end_server(s: &mut Cluster, n: usize) {
        // What waits is killed with it: see `grace_at_stop`.
        s.end_server(n, Loss::Nothing);
    }

    fn of_stopped(memory: &Memory) -> Memory {
        memory.of_stopped()
    }

    fn node_is_lost(&self, s: &mut State, n: usize) {
        let node = &mut *s.nodes[n];
        (node.position, node.membership) = (None, None);
        // The cluster plans anew: what failed has to be ended all the same.
        let ends = |op: &&Op| op.node != n && matches!(op.kind, Kind::Demote | Kind::Stop);
        match s.transition.first().and_then(|stage| stage.iter().find(ends)).copied() {
            Some(Op { kind: Kind::Demote, .. }) => self.plan(s, None),
            Some(op) => s.begin(vec![vec![op]]),
            None => s.transition = Shared::default(),
        }
    }

    fn happenings(&self, s: &State, n: usize, actions: &mut Vec<Action>) {
        // Who has the role is fenced; whoever else is cut off comes back, or is.
        if !s.nodes[n].connected && s.promoted != Some(n) {
            actions.push(Action::Heal(n));
        }
        let Some(server) = s.server(n) else { return };
        let has_room = usize::from(s.written) < MOST;
        let mut may = |happening| actions.push(Action::To(happening));
        if !server.closed && s.left.writes > 0 && has_room {
            may(Happening::Write(n));
        }
        // What is written on the recorded primary is its own.
        let recorded = s.record.as_ref().is_some_and(|record| record.node == name(n));
        if server.closed && s.left.errant > 0 && has_room && s.promoted != Some(n) && !recorded {
            may(Happening::WriteErrant(n));
        }
        if server.applier && server.following.is_some() && s.left.breaks > 0 {
            may(Happening::Break(n));
        }
        if server.broken {
            may(Happening::Mend(n));
        }
        if s.left.crashes > 0 {
            may(Happening::Crash(n, Loss::Nothing));
            if server.relay != 0 && s.left.losses > 0 {
                may(Happening::Crash(n, Loss::Relay));
            }
            if self.cuts_tails && server.pending != 0 {
                may(Happening::Crash(n, Loss::Tail));
            }
            if self.relaxed && server.executed != 0 {
                may(Happening::Crash(n, Loss::Newest));
            }
        }
        if self.to_be_taken_back(s, n).is_some() {
            may(Happening::TakeBack(n));
        }
        if s.may_deliver(n) {
            may(Happening::Deliver(n));
        }
        // The reader has it already, whatever happened to the sender since.
        let senders = (0..self.servers).filter(|r| server.arriving[*r] != 0);
        senders.for_each(|r| may(Happening::AcknowledgementArrives(n, r)));
    }

    fn plans(&self, s: &State, actions: &mut Vec<Action>) {
        let left = s.left;
        let fenced = s.nodes.iter().all(|node| !node.alive || node.connected);
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
        actions.extend((left.durabilities > 0).then_some(Action::To(Happening::ChangeDurability)));
    }

    fn happen(&self, s: &mut State, happening: Happening) -> Option<()> {
        match happening {
            Happening::Write(n) => {
                s.left.writes -= 1;
                let alone = s.server(n)?.waits == 0;
                self.keep_account(s, n, alone);
                s.write(n);
            }
            Happening::WriteErrant(n) => {
                s.left.errant -= 1;
                self.keep_account(s, n, true);
                let transaction = one(s.number_of(n));
                s.nodes[n].server.as_mut()?.executed |= transaction;
                s.errant |= transaction;
            }
            Happening::TakeBack(n) => {
                let tail = self.to_be_taken_back(s, n)?;
                s.nodes[n].server.as_mut()?.executed &= !tail;
                s.taken |= tail;
                let stamp = s.record.as_ref().map(|record| record.stamp());
                s.nodes[n].memory.memory.start_over(stamp);
            }
            Happening::Deliver(n) => s.deliver(n),
            Happening::AcknowledgementArrives(p, n) => s.acknowledgement_arrives(p, n),
            Happening::Crash(n, loss) => {
                s.left.crashes -= 1;
                s.left.losses -= u8::from(loss == Loss::Relay);
                s.cluster.end_server(n, loss);
            }
            Happening::Break(n) => {
                s.left.breaks -= 1;
                let server = s.nodes[n].server.as_mut()?;
                (server.applier, server.broken) = (false, true);
            }
            Happening::Mend(n) => s.nodes[n].server.as_mut()?.broken = false,
            Happening::ChangeDurability => {
                s.left.durabilities -= 1;
                s.careless = !s.careless;
                s.past.ever_careless = true;
                self.plan_reload(s);
            }
        }
        Some(())
    }

    fn forget_what_makes_no_difference(&self, s: &mut State) {
        self.forget_what_cannot_matter(s);
    }

    fn comes_back(&self, s: &State) -> Result<(), String> {
        Self::comes_back(self, s)
    }
}
