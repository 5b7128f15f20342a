//! What the models of the databases' agents have in common: Pacemaker, as far as it is taken for what it promises, the faults of nodes and
//! agents, and the search through every order of them. A database's own model gives its servers, its links and what carries effects out
//! there ([`World`]); what an agent does is the agent's own code.
//!
//! Pacemaker promises one transition at a time, in which a demotion (or fencing) comes before a promotion, and one action of an instance at
//! a time. An agent may be killed after any effect ([`Cut`]), a notification may be lost, a record's write may arrive late or never, memories
//! may be lost, nodes are cut off and fenced, roles are moved.
//!
//! Simplified: whom the scheduler asks is anybody who is not excluded, whatever the scores; a notification or a monitor is carried out at one
//! moment, unless it is killed; `promote` is not, where the bounds say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a model panics to fail the test")]

mod check;
mod operations;
mod shared;
mod site;
pub mod slowest;

use std::fmt::Debug;
use std::hash::Hash;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use ocf::{Failure, Member, Operation, Peers, Phase, Status};
use pacemaker::Score;
use promotable::{Machine, Moment};
pub use stateright::Property;

pub use check::{Checked, Happens, check, counterexample};
pub use operations::{Courses, Operations};
pub use shared::{Shared, hash_of};
pub use site::{Directories, Site};

/// What is part of a state.
pub trait Value: Clone + Debug + Eq + Hash + Send + Sync + 'static {}

impl<T: Clone + Debug + Eq + Hash + Send + Sync + 'static> Value for T {}

/// Of what the states of a database's model are made.
pub trait Kinds: Value {
    /// What an agent remembers.
    type Memory: Value + Default;
    /// What is recorded of a promotion.
    type Record: Value;
    /// What an action is told.
    type Event: Value;
    /// What a node has of the database: its server, its disk, what it has published.
    type Own: Value;
    /// What an operation sees of the world, and what it can change: the nodes, and whatever the database has besides.
    type Cluster: Value + Deref<Target = Nodes<Self>> + DerefMut;
    /// What has happened, as far as a property asks for it, and no agent sees it.
    type Past: Value;
    /// What can happen to the database.
    type Happening: Value + Copy;
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node<K: Kinds> {
    /// Whether its machine runs.
    pub alive: bool,
    /// Whether it reaches the others.
    pub connected: bool,
    /// Whether the cluster takes the instance for running.
    pub started: bool,
    /// What its agent remembers.
    pub memory: Shared<K::Memory>,
    /// Its promotion score.
    pub score: Option<Score>,
    /// What it has of the database.
    pub own: K::Own,
}

impl<K: Kinds> Node<K> {
    /// One that is up, before its instance was started.
    pub fn new(own: K::Own) -> Shared<Self> {
        Shared::new(Self { alive: true, connected: true, started: false, memory: Shared::default(), score: None, own })
    }
}

impl<K: Kinds> Deref for Node<K> {
    type Target = K::Own;

    fn deref(&self) -> &K::Own {
        &self.own
    }
}

impl<K: Kinds> DerefMut for Node<K> {
    fn deref_mut(&mut self) -> &mut K::Own {
        &mut self.own
    }
}

/// The nodes, and what the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nodes<K: Kinds> {
    /// The nodes, by number.
    pub nodes: Vec<Shared<Node<K>>>,
    /// The record in the CIB.
    pub record: Option<Shared<K::Record>>,
    /// Who is promoted, as the cluster sees it.
    pub promoted: Option<usize>,
}

impl<K: Kinds> Nodes<K> {
    /// So many of them, of which nobody is promoted.
    pub fn new(count: usize, own: impl Fn() -> K::Own) -> Self {
        Self { nodes: (0..count).map(|_| Node::new(own())).collect(), record: None, promoted: None }
    }

    /// Whether two nodes are up and connected.
    pub fn reach(&self, a: usize, b: usize) -> bool {
        a == b || [a, b].iter().all(|n| self.nodes[*n].alive && self.nodes[*n].connected)
    }

    /// The nodes whose instance can be asked for something.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].alive && self.nodes[*n].connected && self.nodes[*n].started).collect()
    }

    /// Whom Pacemaker names in the environment of an operation, when it takes this one for promoted.
    pub fn peers(&self, subject: Subject, promoted: Option<usize>) -> Peers {
        let member = |n: usize| Member { instance: format!("database:{n}"), node: name(n) };
        let list = |n: Option<usize>| n.map(member).into_iter().collect::<Vec<_>>();
        let running = (0..self.nodes.len()).filter(|n| self.nodes[*n].started && self.nodes[*n].alive);
        Peers {
            start: list(subject.start),
            stop: list(subject.stop),
            promote: list(subject.promote),
            demote: list(subject.demote),
            promoted: list(promoted),
            unpromoted: running.filter(|n| Some(*n) != promoted).map(member).collect(),
            ..Peers::default()
        }
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// The name of a node.
pub fn name(node: usize) -> String {
    NAMES[node].to_owned()
}

/// The node of this name.
pub fn number(name: &str) -> usize {
    NAMES.iter().position(|n| *n == name).unwrap()
}

/// An operation of Pacemaker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "Pacemaker's words")]
pub enum Kind {
    Start,
    Stop,
    Promote,
    Demote,
    Reload,
    Notify(Phase, Operation),
}

/// An operation on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Op {
    /// The node.
    pub node: usize,
    /// Which one it is.
    pub kind: Kind,
    /// Of the transition that it belongs to.
    pub subject: Subject,
}

/// Whom a transition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "Pacemaker's words")]
pub struct Subject {
    pub demote: Option<usize>,
    pub promote: Option<usize>,
    pub stop: Option<usize>,
    pub start: Option<usize>,
}

/// An operation between two effects: how it began, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnderWay<K: Kinds> {
    pub(crate) op: Op,
    pub(crate) memory: Shared<K::Memory>,
    pub(crate) peers: Peers,
    pub(crate) events: Vec<(K::Event, Moment)>,
}

/// A record in the place of another.
pub type Replacement<K> = (Option<<K as Kinds>::Record>, <K as Kinds>::Record);

/// How often each thing may happen. What a database's model does not have stays at none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Of clients.
    pub writes: u8,
    /// On replicas, by an operator.
    pub errant: u8,
    /// Of servers.
    pub crashes: u8,
    /// Of those, how many lose something.
    pub losses: u8,
    /// Of promotions.
    pub promotions: u8,
    /// Of those, how many while the server before is well.
    pub moves: u8,
    /// Of an instance whose server is well.
    pub restarts: u8,
    /// Of agents.
    pub kills: u8,
    /// Of nodes that are cut off.
    pub cuts: u8,
    /// Of notifications that do not arrive.
    pub lost_notifications: u8,
    /// Of records that arrive when the tool that asked for them is dead.
    pub late_records: u8,
    /// Of memories that are lost.
    pub forgotten: u8,
    /// Of changes of what is promised.
    pub durabilities: u8,
    /// Of appliers that stop with an error.
    pub breaks: u8,
    /// Of instances that are not started again at once.
    pub stops: u8,
}

impl Budget {
    /// Nothing happens.
    pub const NOTHING: Self = Self::of_each(0);
    /// More than what happens before the beginning.
    pub const PLENTY: Self = Self::of_each(9);

    const fn of_each(times: u8) -> Self {
        Self {
            writes: times,
            errant: times,
            crashes: times,
            losses: times,
            promotions: times,
            moves: times,
            restarts: times,
            kills: times,
            cuts: times,
            lost_notifications: times,
            late_records: times,
            forgotten: times,
            durabilities: times,
            breaks: times,
            stops: times,
        }
    }

    /// Whether nothing else than writes, promotions, time and monitors can happen any more.
    pub fn is_calm(self) -> bool {
        Self { writes: 0, promotions: 0, losses: 0, ..self } == Self::NOTHING
    }

    /// Data are lost in a crash, and the role is moved by a promotion.
    pub fn forget_what_makes_no_difference(&mut self) {
        if self.crashes == 0 {
            self.losses = 0;
        }
        if self.promotions == 0 {
            self.moves = 0;
        }
    }

    /// Takes a kill out of it: after so many effects, `u8::MAX` for one while a tool waits for the CIB.
    fn killed(&mut self, effects: u8) -> Cut {
        if effects == u8::MAX {
            self.late_records -= 1;
            Cut::AtRecord
        } else {
            self.kills -= 1;
            Cut::After(effects)
        }
    }
}

/// A state of the world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State<K: Kinds> {
    /// What an operation sees and can change.
    pub cluster: K::Cluster,
    /// A modification of the CIB that a tool asked for before it was killed.
    pub late: Option<Shared<Replacement<K>>>,
    /// What is left of the transition: what belongs to one stage may happen in any order.
    pub transition: Shared<Vec<Vec<Op>>>,
    /// A promotion that is under way.
    pub under_way: Option<Shared<UnderWay<K>>>,
    /// What has happened.
    pub past: K::Past,
    /// How often each thing may still happen.
    pub left: Budget,
}

impl<K: Kinds> State<K> {
    /// A cluster in which nothing has happened.
    pub fn new(cluster: K::Cluster, past: K::Past, left: Budget) -> Self {
        Self { cluster, late: None, transition: Shared::default(), under_way: None, past, left }
    }

    /// The next operation of the transition, in the order of the nodes.
    pub fn next_operation(&self) -> Option<Op> {
        self.transition.first().and_then(|stage| stage.first()).copied()
    }

    /// Whether no operation is under way or planned.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.transition.is_empty()
    }

    /// Plans these stages of operations.
    pub fn begin(&mut self, mut stages: Vec<Vec<Op>>) {
        stages.retain(|stage| !stage.is_empty());
        self.transition = Shared::new(stages);
    }
}

impl<K: Kinds> Deref for State<K> {
    type Target = K::Cluster;

    fn deref(&self) -> &K::Cluster {
        &self.cluster
    }
}

impl<K: Kinds> DerefMut for State<K> {
    fn deref_mut(&mut self) -> &mut K::Cluster {
        &mut self.cluster
    }
}

/// What can happen next. `H`: what can happen to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action<H> {
    /// Something to the database.
    To(H),
    /// A node is cut off from the others.
    CutOff(usize),
    /// It is connected again.
    Heal(usize),
    /// It is fenced.
    Fence(usize),
    /// It boots.
    Return(usize),
    /// Its agent's memory is lost.
    Forget(usize),
    /// The CIB does what a tool asked for before it was killed.
    LateRecord,
    /// A monitor.
    Monitor(usize),
    /// One that is killed.
    MonitorKilled(usize, u8),
    /// Demote what is promoted, if anything is, and promote this one.
    Plan(usize),
    /// Start it.
    PlanStart(usize),
    /// Stop and start it.
    PlanRestart(usize),
    /// Stop it.
    PlanStop(usize),
    /// An operation of the stage.
    Run(Op),
    /// One that is killed.
    RunKilled(Op, u8),
    /// One that does not arrive.
    Lost(Op),
    /// The next effect of a promotion that is under way.
    Proceed,
}

/// Where an operation is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It is not.
    Nowhere,
    /// After so many effects that leave a trace.
    After(u8),
    /// While a tool waits for the CIB, which will do what it was asked for later.
    AtRecord,
}

/// The memory of a world's agents.
pub type Memory<W> = <<W as World>::Kinds as Kinds>::Memory;
/// What its operations see and can change.
pub type Cluster<W> = <<W as World>::Kinds as Kinds>::Cluster;
/// What its actions are told.
pub type Event<W> = <<W as World>::Kinds as Kinds>::Event;
/// What can happen in it.
pub type ActionOf<W> = Action<<<W as World>::Kinds as Kinds>::Happening>;
/// An operation of its agents on the way.
pub type Run<'r, W> = Machine<'r, <W as World>::Effect, (Event<W>, Moment), Result<Status, Failure>>;

/// A database's world, within its bounds: its servers, and what carries the effects of its agent's actions out there.
pub trait World: Clone + Debug + Send + Sync + 'static {
    /// Of what its states are made.
    type Kinds: Kinds;
    /// What an action asks for.
    type Effect;

    /// Whether the start of an instance is announced to everybody afterwards.
    const STARTS_ARE_ANNOUNCED: bool;
    /// What is left of an action's time.
    const LEFT: Duration;
    /// The moment at which everything happens.
    const NOW: Moment = Moment { now: Duration::from_secs(1000), left: Self::LEFT };

    /// How often each thing may happen.
    fn budget(&self) -> Budget;
    /// Whether a promotion is carried out effect by effect, with everything else in between.
    fn stepwise(&self) -> bool;
    /// What is known of the operations' courses.
    fn courses(&self) -> &Courses<Self::Kinds>;
    /// Whether a record overwrites whatever is there, to see that it must not.
    fn overwrites_records(&self) -> bool;
    /// The state that it begins with.
    fn beginning(&self) -> State<Self::Kinds>;
    /// What must hold. A name that begins with a capital letter is a promise, any other has to happen sometimes.
    fn properties() -> Vec<Property<Checked<Self>>>;

    /// An operation, `None` for a monitor, that has not begun yet.
    fn operation<'r>(
        &'r self,
        s: &Cluster<Self>,
        n: usize,
        memory: Memory<Self>,
        peers: Peers,
        op: Option<Op>,
        begin: Moment,
    ) -> Run<'r, Self>;
    /// Whom Pacemaker names in the environment of an operation.
    fn peers(&self, s: &Cluster<Self>, subject: Subject) -> Peers;
    /// Carries an effect of an operation out.
    fn carry_out(&self, s: &mut Cluster<Self>, n: usize, op: Option<Op>, effect: Self::Effect) -> Event<Self>;
    /// Whether an effect leaves a trace, so that an agent that was killed after it differs from one that was killed before.
    fn changes(effect: &Self::Effect) -> bool;
    /// Whether nobody else can tell when an effect is carried out.
    fn is_private(effect: &Self::Effect) -> bool;
    /// What a modification of the record asks for.
    fn replacement(effect: &Self::Effect) -> Option<Replacement<Self::Kinds>>;
    /// The moment after an effect that began at this one.
    fn after_effect(begin: Moment, _effect: &Self::Effect) -> Moment {
        begin
    }
    /// The cluster as far as an operation can see it.
    fn seen_by_agents(&self, s: &Cluster<Self>) -> Cluster<Self> {
        s.clone()
    }
    /// What no operation sees stays as it was before.
    fn keep_unseen(&self, _before: &Cluster<Self>, _after: &mut Cluster<Self>) {}

    /// Whether the server of a node runs.
    fn serves(s: &Cluster<Self>, n: usize) -> bool;
    /// The server of a node ends, and loses nothing.
    fn end_server(s: &mut Cluster<Self>, n: usize);
    /// What stays of a memory when the instance is stopped.
    fn of_stopped(memory: &Memory<Self>) -> Memory<Self>;
    /// What else becomes of the loss of a node: what it had published, and the transition.
    fn node_is_lost(&self, s: &mut State<Self::Kinds>, n: usize);
    /// What else becomes of it that a node is cut off.
    fn node_is_cut_off(&self, _s: &mut State<Self::Kinds>, _n: usize) {}

    /// What can happen to the database on a node that is up.
    fn happenings(&self, s: &State<Self::Kinds>, n: usize, actions: &mut Vec<ActionOf<Self>>);
    /// What the cluster can plan while it does nothing.
    fn plans(&self, s: &State<Self::Kinds>, actions: &mut Vec<ActionOf<Self>>);
    /// Something happens to the database. `None`: it cannot.
    fn happen(&self, s: &mut State<Self::Kinds>, happening: <Self::Kinds as Kinds>::Happening) -> Option<()>;
    /// Of states that differ in nothing that can have an effect one is enough.
    fn forget_what_makes_no_difference(&self, s: &mut State<Self::Kinds>);

    /// With everything up and connected, and nothing else happening, writes come back; or why not.
    fn comes_back(&self, s: &State<Self::Kinds>) -> Result<(), String>;

    /// A later moment, with enough time left.
    fn after(seconds: u64) -> Moment {
        Moment { now: Self::NOW.now + Duration::from_secs(seconds), ..Self::NOW }
    }
}
