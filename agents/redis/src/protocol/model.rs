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

use std::collections::BTreeMap;
use std::time::Duration;

use ocf::{Environment, Failure, Member, Notification, Operation, Peers, Phase, Status, Values};
use pacemaker::Score;
use process::Identity;
use promotable::{Machine, NotReplaced, Step};
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::{Effect, Event, Instance, Moment, Rules, Sight, Word};
use crate::election::Position;
use crate::info::{AttachedReplica, Info, ReplicationRole};
use crate::params::{ALL, Params};
use crate::record::Record;
use crate::server::{Fault, GATE_CLOSED, NOBODY, Observation};
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

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    nodes: Vec<Node>,
    record: Option<Record>,
    /// A modification of the CIB that a tool asked for before it was killed.
    late: Option<(Option<Record>, Record)>,
    /// What is left of the transition: what belongs to one stage may happen in any order.
    transition: Vec<Vec<Op>>,
    /// A promotion that is under way.
    under_way: Option<UnderWay>,
    promoted: Option<usize>,
    histories: u8,
    processes: u8,
    written: u8,
    /// What `WAIT` confirmed.
    confirmed: Set,
    crashed: u8,
    /// An empty primary took the data of a server that had some.
    wiped: bool,
    left: Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Write(usize),
    Deliver(usize),
    Attach(usize),
    Confirm(usize),
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

fn identity(process: u8) -> Identity {
    Identity { pid: process.into(), start_ticks: process.into(), boot: String::new() }
}

fn history(id: u8) -> String {
    format!("h{id}")
}

fn params(durability: &str) -> Params {
    let pairs = [("OCF_RESKEY_durability".to_owned(), durability.to_owned())];
    Params::new(&Values::read(ALL, &Environment::from_pairs(pairs)).unwrap())
}

impl State {
    fn up(&self, n: usize) -> bool {
        self.nodes[n].alive && self.nodes[n].server.is_some()
    }

    fn reach(&self, a: usize, b: usize) -> bool {
        [a, b].iter().all(|n| self.nodes[*n].alive && self.nodes[*n].connected)
    }

    fn server(&self, n: usize) -> Option<&Server> {
        self.nodes[n].server.as_ref().filter(|_| self.nodes[n].alive)
    }

    /// Replicas that receive from this one.
    fn attached(&self, p: usize) -> impl Iterator<Item = usize> + '_ {
        (0..NODES).filter(move |n| self.server(*n).is_some_and(|s| s.link_up && s.following == Some(p)))
    }

    fn new_history(&mut self) -> u8 {
        self.histories += 1;
        self.histories
    }

    fn info(&self, n: usize, params: &Params) -> Info {
        let server = self.server(n).unwrap();
        let replica = |r: usize| AttachedReplica { node: name(r), online: true, offset: self.server(r).unwrap().offset.into(), lag: 0 };
        let nobody = || (NOBODY.0.to_owned(), NOBODY.1);
        Info {
            pid: None,
            role: if server.primary { ReplicationRole::Primary } else { ReplicationRole::Replica },
            loading: false,
            has_keys: !server.log.is_empty(),
            replid: history(server.history),
            offset: server.offset.into(),
            replid2: server.before.map(|(id, _)| history(id)),
            second_offset: server.before.map(|(_, offset)| offset.into()),
            backlog: server.backlog,
            stale_offset: None,
            primary: (!server.primary).then(|| server.following.map_or_else(nobody, |p| params.address_of(&name(p)))),
            link_up: server.link_up,
            syncing: false,
            link_down_seconds: None,
            priority: 100,
            replicas: self.attached(n).map(replica).collect(),
            save_failed: false,
        }
    }

    fn observation(&self, n: usize, params: &Params) -> Observation {
        Observation { info: self.info(n, params), gate: self.server(n).unwrap().gate, complaint: None }
    }

    /// A server that ends. What it has goes to its replicas, or does not: `Deliver` comes before, or never.
    fn end_server(&mut self, n: usize, keeps: bool) {
        if let Some(server) = self.nodes[n].server.take() {
            self.nodes[n].disk = if keeps { server.log } else { Vec::new() };
        }
        for r in 0..NODES {
            if let Some(server) = self.nodes[r].server.as_mut().filter(|s| s.following == Some(n)) {
                server.link_up = false;
            }
        }
    }

    /// A server that starts from its disk: an append-only file restores no position.
    fn start_server(&mut self, n: usize) -> u8 {
        self.processes += 1;
        let history = self.new_history();
        let log = self.nodes[n].disk.clone();
        self.nodes[n].server = Some(Server {
            process: self.processes,
            primary: false,
            gate: GATE_CLOSED,
            following: None,
            link_up: false,
            history,
            offset: 1,
            before: None,
            backlog: false,
            log,
        });
        self.processes
    }

    /// The replica's link comes up: it goes on where it was, or gets a copy.
    fn attach(&mut self, n: usize) {
        let p = self.server(n).unwrap().following.unwrap();
        if !self.server(p).unwrap().backlog {
            let new = self.new_history();
            let primary = self.nodes[p].server.as_mut().unwrap();
            (primary.history, primary.before, primary.backlog) = (new, None, true);
        }
        let primary = self.server(p).unwrap().clone();
        let replica = self.nodes[n].server.as_mut().unwrap();
        let goes_on = replica.history == primary.history && replica.offset <= primary.offset
            || primary.before.is_some_and(|(id, end)| replica.history == id && replica.offset < end);
        if !goes_on {
            self.wiped |= primary.log.is_empty() && !replica.log.is_empty();
            (replica.log, replica.offset) = (primary.log, primary.offset);
        }
        (replica.history, replica.before, replica.backlog, replica.link_up) = (primary.history, primary.before, true, true);
    }

    fn peers(&self, subject: Subject) -> Peers {
        let member = |n: usize| Member { instance: format!("redis:{n}"), node: name(n) };
        let list = |n: Option<usize>| n.map(member).into_iter().collect::<Vec<_>>();
        let running = (0..NODES).filter(|n| self.nodes[*n].started && self.nodes[*n].alive);
        Peers {
            start: list(subject.start),
            promote: list(subject.promote),
            demote: list(subject.demote),
            promoted: list(self.promoted),
            unpromoted: running.filter(|n| Some(*n) != self.promoted).map(member).collect(),
            ..Peers::default()
        }
    }
}

type Run<'r> = Machine<'r, Effect, (Event, Moment), Result<Status, Failure>>;

impl World {
    fn rules(&self, n: usize) -> Rules<'_> {
        Rules {
            params: if self.without == Without::Confirmations { &self.careless } else { &self.params },
            resource: "redis",
            node: Ok(name(n)),
            clustered: true,
            probe: false,
            servers: Some(NODES as u32),
            decide: "DECIDE".to_owned(),
            withdrawal: "WITHDRAW".to_owned(),
        }
    }

    /// The machine of an operation, `None` for a monitor.
    fn machine<'r>(rules: &'r Rules<'r>, memory: Memory, peers: Peers, op: Option<Op>, moment: Moment) -> Run<'r> {
        Machine::new(move |port| async move {
            let instance = Instance::new(rules, memory, moment, port);
            let done = |outcome: Result<(), Failure>| outcome.map(|()| Status::Running);
            match op.map(|op| op.kind) {
                None => instance.monitor(None).await,
                Some(Kind::Start) => done(instance.start(peers).await),
                Some(Kind::Promote) => done(instance.promote(peers).await),
                Some(Kind::Demote) => done(instance.demote(peers).await),
                Some(Kind::Notify(phase, operation)) => done(instance.notify(Notification { phase, operation, peers }).await),
                Some(Kind::Stop) => Ok(Status::NotRunning),
            }
        })
    }

    /// Carries an operation out at one moment. `None` when it was killed.
    fn run(&self, s: &mut State, n: usize, op: Option<Op>, cut: Cut, moment: Moment) -> Option<Result<Status, Failure>> {
        let rules = self.rules(n);
        let peers = op.map(|op| s.peers(op.subject)).unwrap_or_default();
        let mut machine = Self::machine(&rules, s.nodes[n].memory.clone(), peers, op, moment);
        let mut event = None;
        let mut traces = 0;
        loop {
            match machine.step(event.take()) {
                Step::Done(result) => return Some(result),
                Step::Effect(effect) => {
                    if changes(&effect) {
                        traces += 1;
                        match (cut, &effect) {
                            (Cut::After(most), _) if traces > most => return None,
                            (Cut::AtRecord, Effect::ReplaceRecord(before, record)) => {
                                s.late = Some((before.clone(), record.clone()));
                                return None;
                            }
                            _ => {}
                        }
                    }
                    event = Some((self.carry_out(s, n, effect), moment));
                }
            }
        }
    }

    /// How many effects of an operation leave a trace, and whether it writes a record.
    fn traces(&self, s: &State, n: usize, op: Option<Op>) -> (u8, bool) {
        let mut s = s.clone();
        let rules = self.rules(n);
        let peers = op.map(|op| s.peers(op.subject)).unwrap_or_default();
        let mut machine = Self::machine(&rules, s.nodes[n].memory.clone(), peers, op, NOW);
        let (mut event, mut traces, mut writes) = (None, 0, false);
        while let Step::Effect(effect) = machine.step(event.take()) {
            traces += u8::from(changes(&effect));
            writes |= matches!(effect, Effect::ReplaceRecord(..));
            event = Some((self.carry_out(&mut s, n, effect), NOW));
        }
        (traces, writes)
    }

    fn carry_out(&self, s: &mut State, n: usize, effect: Effect) -> Event {
        let running = s.server(n).is_some();
        let gone = || Fault::Absent("nothing listens".into());
        match effect {
            Effect::Save(memory) => {
                s.nodes[n].memory = *memory;
                Event::Done(Ok(()))
            }
            Effect::Find(_) => Event::Found(s.server(n).map(|server| identity(server.process))),
            Effect::Look(..) if running => Event::Sight(Sight::Answered(Box::new(s.observation(n, &self.params)))),
            Effect::Look(..) => Event::Sight(Sight::Ended),
            Effect::Replication if running => Event::Replication(Ok(Box::new(s.info(n, &self.params)))),
            Effect::Rest(_) if running => {
                self.rest(s, n);
                Event::Replication(Ok(Box::new(s.info(n, &self.params))))
            }
            Effect::Drain(target, _) if running => Event::Drained(Ok(self.drain(s, n, target.as_deref()))),
            Effect::Held(enough, leaving, offset) => {
                let holds = |r: &usize| u64::from(s.server(*r).unwrap().offset) >= offset && !leaving.contains(&name(*r));
                Event::Flag(s.attached(n).filter(holds).count() >= enough)
            }
            Effect::Tell(word) => Event::Told(if running { self.tell(s, n, &word) } else { Err(gone()) }),
            Effect::Replication | Effect::Rest(_) => Event::Replication(Err(gone())),
            Effect::Drain(..) => Event::Drained(Err(gone())),
            Effect::Launch(mut memory, _) => {
                let process = identity(s.start_server(n));
                memory.server = Some(process.clone());
                s.nodes[n].memory = *memory;
                Event::Launched(Ok((process, Some(Box::new(s.observation(n, &self.params))))))
            }
            Effect::Kill(_) | Effect::Terminate(..) => {
                s.end_server(n, true);
                Event::Flag(true)
            }
            Effect::Gone(..) => Event::Flag(!running),
            Effect::Score(score) => {
                s.nodes[n].score = Some(score);
                Event::Done(Ok(()))
            }
            Effect::ScoreOf(node, score) => {
                s.nodes[number(&node)].score = Some(score);
                Event::Done(Ok(()))
            }
            Effect::Publish(position) => {
                s.nodes[n].position = Some(*position);
                Event::Done(Ok(()))
            }
            Effect::Hear(round, ..) => Event::Positions(Ok(self.hear(s, n, &round))),
            Effect::ReadRecord => Event::Record(Ok(s.record.clone())),
            Effect::ReplaceRecord(before, record) => Event::Replaced(self.replace(s, n, before, record)),
            Effect::Objections(_) | Effect::Complaints | Effect::Misconfiguration => Event::Texts(Vec::new()),
            Effect::LinkTrouble => Event::Link(super::LinkTrouble::Unknown),
            Effect::Log(..)
            | Effect::MayStart
            | Effect::SetReplicationLogin
            | Effect::KeepFiles(_)
            | Effect::Watch(_)
            | Effect::Wait(_) => Event::Done(Ok(())),
        }
    }

    /// What a primary that is dead or demoted has sent arrives, and the link ends.
    fn rest(&self, s: &mut State, n: usize) {
        let server = s.nodes[n].server.as_mut().unwrap();
        if !server.primary && server.link_up {
            (server.following, server.link_up) = (None, false);
        }
    }

    fn drain(&self, s: &mut State, n: usize, target: Option<&str>) -> Option<String> {
        let everything = s.server(n).unwrap().offset;
        let attached: Vec<usize> = s.attached(n).collect();
        let named = attached.iter().any(|r| Some(name(*r).as_str()) == target);
        for r in attached.iter().filter(|r| !named || Some(name(**r).as_str()) == target) {
            while s.server(*r).unwrap().offset < everything {
                self.deliver(s, *r);
            }
        }
        attached.is_empty().then(|| "no replica is attached".to_owned())
    }

    fn deliver(&self, s: &mut State, n: usize) {
        let replica = s.server(n).unwrap();
        let primary = s.server(replica.following.unwrap()).unwrap();
        let lacks = usize::from(primary.offset - replica.offset);
        let next = primary.log[primary.log.len() - lacks];
        let replica = s.nodes[n].server.as_mut().unwrap();
        replica.log.push(next);
        replica.offset += 1;
    }

    fn tell(&self, s: &mut State, n: usize, word: &Word) -> Result<(), Fault> {
        let new = s.histories + 1;
        let server = s.nodes[n].server.as_mut().unwrap();
        match word {
            Word::CloseGate if self.without == Without::Gate => {}
            Word::CloseGate => server.gate = GATE_CLOSED,
            Word::OpenGate(replicas, _) => server.gate = *replicas,
            Word::Follow(node) => {
                let p = number(node);
                if server.primary || server.following != Some(p) {
                    self.unlink(s, n);
                    let server = s.nodes[n].server.as_mut().unwrap();
                    (server.primary, server.following, server.link_up) = (false, Some(p), false);
                }
            }
            Word::FollowNobody => {
                self.unlink(s, n);
                let server = s.nodes[n].server.as_mut().unwrap();
                (server.primary, server.following, server.link_up) = (false, None, false);
            }
            Word::BecomePrimary => {
                if self.without == Without::Gate {
                    server.gate = 0;
                }
                server.before = Some((server.history, server.offset + 1));
                (server.primary, server.following, server.link_up, server.history) = (true, None, false, new);
                s.histories = new;
            }
            Word::BeginBacklog => {
                (server.history, server.backlog) = (new, true);
                s.histories = new;
            }
            Word::Adopt(_) | Word::CutClients | Word::ResumeWrites => {}
        }
        Ok(())
    }

    /// Whoever follows a server that is no primary any more is not attached.
    fn unlink(&self, s: &mut State, p: usize) {
        for r in s.attached(p).collect::<Vec<_>>() {
            s.nodes[r].server.as_mut().unwrap().link_up = false;
        }
    }

    fn hear(&self, s: &State, n: usize, round: &str) -> BTreeMap<String, Position> {
        let heard = |m: &usize| *m == n || s.reach(n, *m);
        let of_round = |p: &Position| p.round == round || self.without == Without::Round;
        let mut positions: BTreeMap<String, Position> =
            (0..NODES).filter(heard).filter_map(|m| Some((name(m), s.nodes[m].position.clone().filter(of_round)?))).collect();
        if self.without == Without::EmptyServers {
            for m in 0..NODES {
                let empty = Position { unfit: None, ..Position::nowhere(round, crate::election::Unfit::NoServer) };
                positions.entry(name(m)).or_insert(empty);
            }
        }
        positions
    }

    fn replace(&self, s: &mut State, n: usize, before: Option<Record>, mut record: Record) -> Result<(), NotReplaced<Record>> {
        if self.without == Without::Holders {
            record.holders = [name(n)].into();
        }
        if self.without != Without::CompareAndSwap && s.record != before {
            return Err(NotReplaced::Changed(s.record.clone()));
        }
        if !s.nodes[n].connected {
            return Err(NotReplaced::Failed(Failure::generic("no quorum")));
        }
        s.record = Some(record);
        Ok(())
    }
}

/// Whether an effect leaves a trace, so that an agent that was killed after it differs from one that was killed before.
fn changes(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Save(_)
            | Effect::Rest(_)
            | Effect::Drain(..)
            | Effect::Tell(_)
            | Effect::Launch(..)
            | Effect::Kill(_)
            | Effect::Terminate(..)
            | Effect::Score(_)
            | Effect::ScoreOf(..)
            | Effect::Publish(_)
            | Effect::ReplaceRecord(..)
    )
}

/// Whether nobody else can tell when an effect is carried out.
fn is_private(effect: &Effect) -> bool {
    !changes(effect) && !matches!(effect, Effect::ReadRecord | Effect::Hear(..) | Effect::Look(..) | Effect::Replication | Effect::Held(..))
}

impl World {
    fn running(s: &State) -> Vec<usize> {
        (0..NODES).filter(|n| s.nodes[*n].alive && s.nodes[*n].connected && s.nodes[*n].started).collect()
    }

    fn stage(s: &State, kind: Kind, subject: Subject) -> Vec<Op> {
        Self::running(s).into_iter().map(|node| Op { node, kind, subject }).collect()
    }

    /// Demote what is promoted, if anything is, and promote this one.
    fn plan(s: &mut State, candidate: Option<usize>) {
        let subject = Subject { demote: s.promoted, promote: candidate, start: None };
        let mut stages = Vec::new();
        if let Some(node) = s.promoted {
            stages.push(vec![Op { node, kind: Kind::Demote, subject }]);
            stages.push(Self::stage(s, Kind::Notify(Phase::Post, Operation::Demote), subject));
        }
        if let Some(node) = candidate {
            stages.push(Self::stage(s, Kind::Notify(Phase::Pre, Operation::Promote), subject));
            stages.push(vec![Op { node, kind: Kind::Promote, subject }]);
            stages.push(Self::stage(s, Kind::Notify(Phase::Post, Operation::Promote), subject));
        }
        s.transition = stages;
    }

    fn plan_start(s: &mut State, node: usize) {
        let subject = Subject { start: Some(node), ..Subject::default() };
        s.transition =
            vec![Self::stage(s, Kind::Notify(Phase::Pre, Operation::Start), subject), vec![Op { node, kind: Kind::Start, subject }]];
        s.transition.retain(|stage| !stage.is_empty());
    }

    /// What Pacemaker makes of the end of an operation.
    fn ended(s: &mut State, op: Op, succeeded: bool) {
        if let Some(stage) = s.transition.first_mut() {
            stage.retain(|other| *other != op);
        }
        s.transition.retain(|stage| !stage.is_empty());
        match (op.kind, succeeded) {
            (Kind::Promote, true) => s.promoted = Some(op.node),
            (Kind::Promote, false) => {
                // on-fail=demote.
                s.promoted = Some(op.node);
                Self::plan(s, None);
            }
            (Kind::Demote, true) => s.promoted = None,
            (Kind::Demote | Kind::Start, false) => {
                s.transition = vec![vec![Op { kind: Kind::Stop, ..op }]];
            }
            (Kind::Start, true) => s.nodes[op.node].started = true,
            (Kind::Stop, _) => {
                s.end_server(op.node, true);
                let node = &mut s.nodes[op.node];
                (node.started, node.score, node.memory) = (false, None, Memory::default());
                if s.promoted == Some(op.node) {
                    s.promoted = None;
                }
            }
            (Kind::Notify(..), _) => {}
        }
    }

    fn candidates(s: &State) -> Vec<usize> {
        let asked = |n: &usize| s.nodes[*n].score.is_some_and(|score| score > Score::NEVER) && s.server(*n).is_some();
        Self::running(s).into_iter().filter(asked).collect()
    }

    fn perform(&self, s: &mut State, op: Op, cut: Cut, moment: Moment) {
        let ended = self.run(s, op.node, Some(op), cut, moment);
        Self::ended(s, op, ended.is_some_and(|result| result.is_ok()));
    }

    /// One effect of the promotion that is under way, and those after it that nobody can tell from it.
    fn proceed(&self, s: &mut State) {
        let Some(mut under_way) = s.under_way.take() else { return };
        let UnderWay { op, memory, peers, events } = under_way.clone();
        let rules = self.rules(op.node);
        let mut machine = Self::machine(&rules, memory, peers, Some(op), NOW);
        let mut events = events.into_iter();
        let mut event = None;
        let mut done = 0;
        loop {
            match machine.step(event.take()) {
                Step::Done(result) => return Self::ended(s, op, result.is_ok()),
                Step::Effect(effect) => {
                    let said = events.next().or_else(|| {
                        done += u8::from(!is_private(&effect));
                        (done <= 1).then(|| {
                            let said = self.carry_out(s, op.node, effect);
                            under_way.events.push(said.clone());
                            said
                        })
                    });
                    let Some(said) = said else { break };
                    event = Some((said, NOW));
                }
            }
        }
        s.under_way = Some(under_way);
    }

    /// Whatever was under way ended with its agent.
    fn end_of_node(s: &mut State, n: usize) {
        s.end_server(n, true);
        let node = &mut s.nodes[n];
        (node.alive, node.started, node.score, node.position, node.memory) = (false, false, None, None, Memory::default());
        if s.promoted == Some(n) {
            s.promoted = None;
        }
        if s.under_way.as_ref().is_some_and(|u| u.op.node == n) {
            s.under_way = None;
        }
        s.transition.clear();
    }

    /// Whether anything else than time and monitors can still happen.
    fn is_calm(left: Budget) -> bool {
        Budget { writes: 0, promotions: 0, losses: 0, ..left } == Budget::default()
    }

    /// With everything up and connected, and nothing else happening, a primary takes writes again; or why not.
    fn comes_back(&self, s: &State) -> Result<(), String> {
        let mut s = s.clone();
        let mut why = String::new();
        for node in &mut s.nodes {
            (node.alive, node.connected) = (true, true);
        }
        for minute in 1..=6 {
            let moment = after(60 * minute);
            self.finish(&mut s, moment, &mut why);
            self.settle_links(&mut s);
            if s.promoted.is_some_and(|p| s.server(p).is_some_and(Server::takes_writes)) {
                return Ok(());
            }
            if let Some(n) = (0..NODES).find(|n| !s.nodes[*n].started) {
                Self::plan_start(&mut s, n);
                continue;
            }
            let failed =
                |n: &usize| !matches!(self.run(&mut s, *n, None, Cut::Nowhere, moment), Some(Ok(status)) if status != Status::NotRunning);
            if let Some(node) = (0..NODES).filter(failed).collect::<Vec<_>>().into_iter().find(|n| s.promoted != Some(*n)) {
                s.transition = vec![vec![Op { node, kind: Kind::Stop, subject: Subject::default() }]];
                continue;
            }
            // Twice, because what a candidate makes of the scores has the cluster plan anew at once.
            for _ in 0..2 {
                if s.transition.is_empty() {
                    let best = Self::candidates(&s).into_iter().max_by_key(|n| s.nodes[*n].score);
                    Self::plan(&mut s, best);
                    self.finish(&mut s, moment, &mut why);
                }
            }
        }
        Err(why)
    }

    /// The transition to its end, each stage in the order of the nodes.
    fn finish(&self, s: &mut State, moment: Moment, why: &mut String) {
        while let Some(op) = s.transition.first().and_then(|stage| stage.first()).copied() {
            let ended = self.run(s, op.node, Some(op), Cut::Nowhere, moment);
            let succeeded = matches!(&ended, Some(Ok(_)));
            if let Some(Err(failure)) = ended {
                *why = failure.reason;
            }
            Self::ended(s, op, succeeded);
            if op.kind == Kind::Promote && succeeded {
                why.clear();
            }
        }
    }

    fn settle_links(&self, s: &mut State) {
        for n in 0..NODES {
            if self.may_attach(s, n) {
                s.attach(n);
            }
            while self.may_deliver(s, n) {
                self.deliver(s, n);
            }
        }
    }

    fn may_attach(&self, s: &State, n: usize) -> bool {
        let follows = s.server(n).filter(|server| !server.primary && !server.link_up).and_then(|server| server.following);
        follows.is_some_and(|p| p != n && s.reach(n, p) && s.server(p).is_some_and(|primary| primary.primary))
    }

    fn may_deliver(&self, s: &State, n: usize) -> bool {
        let attached = s.server(n).filter(|server| server.link_up).and_then(|server| Some((server.offset, server.following?)));
        attached.is_some_and(|(offset, p)| s.server(p).is_some_and(|primary| primary.offset > offset))
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = || Node {
            alive: true,
            connected: true,
            started: false,
            server: None,
            disk: Vec::new(),
            memory: Memory::default(),
            position: None,
            score: None,
        };
        let mut s = State {
            nodes: (0..NODES).map(|_| node()).collect(),
            record: None,
            late: None,
            transition: Vec::new(),
            under_way: None,
            promoted: None,
            histories: 0,
            processes: 0,
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
            if self.quorum && self.confirmable(s, n) & !s.confirmed != 0 {
                actions.push(Action::Confirm(n));
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
            Action::Confirm(n) => s.confirmed |= self.confirmable(&s, n),
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
                if self.without == Without::CompareAndSwap || s.record == before {
                    s.record = Some(record);
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
                s.under_way = Some(UnderWay { op, memory, peers, events: Vec::new() });
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
    /// What `WAIT` would say of the writes on this primary: enough replicas have reported them.
    fn confirmable(&self, s: &State, p: usize) -> Set {
        let Some(primary) = s.server(p).filter(|server| server.primary) else { return 0 };
        s.attached(p).map(|r| s.server(r).unwrap().set() & primary.set()).fold(0, |all, set| all | set)
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

fn check(world: World) -> usize {
    let begin = std::time::Instant::now();
    let checker = world.checker().threads(1).spawn_bfs().join();
    println!("{} states, depth {}, {:?}: {:?}", checker.unique_state_count(), checker.max_depth(), begin.elapsed(), checker.model().budget);
    for (property, path) in checker.discoveries() {
        if !property.starts_with(char::is_lowercase) {
            let actions: Vec<String> = path.clone().into_actions().iter().map(|a| format!("{a:?}")).collect();
            let last = path.last_state().clone();
            panic!("{property}: {}\n{last:?}\n{:?}", actions.join("\n"), checker.model().comes_back(&last));
        }
    }
    checker.assert_properties();
    checker.unique_state_count()
}

fn world(budget: Budget) -> World {
    World {
        budget,
        without: Without::Nothing,
        quorum: true,
        stepwise: false,
        settled: true,
        prelude: |_, _| {},
        params: params("quorum"),
        careless: params("async"),
    }
}

/// Nothing happens: what does is added.
const QUIET: Budget = Budget {
    writes: 1,
    crashes: 0,
    losses: 0,
    promotions: 1,
    moves: 0,
    kills: 0,
    cuts: 0,
    lost_notifications: 0,
    late_records: 0,
    forgotten: 0,
};

/// Somebody crashes, with or without its data.
const CRASH: Budget = Budget { crashes: 1, losses: 1, ..QUIET };

#[test]
fn a_crash_loses_nothing_that_was_confirmed() {
    // Whatever happens during a promotion.
    check(World { stepwise: true, ..world(CRASH) });
}

#[test]
fn a_killed_agent_loses_nothing() {
    check(world(Budget { kills: 1, losses: 0, ..CRASH }));
}

#[test]
fn a_late_record_changes_nothing() {
    check(world(Budget { late_records: 1, writes: 0, losses: 0, promotions: 2, ..CRASH }));
}

#[test]
fn a_cut_off_node_loses_nothing() {
    check(world(Budget { cuts: 1, ..QUIET }));
}

#[test]
fn a_move_loses_nothing() {
    check(world(Budget { moves: 1, kills: 1, ..QUIET }));
}

/// Minutes: `cargo test --release -p systole-redis -- --ignored larger`.
#[test]
#[ignore = "takes minutes"]
fn larger_bounds_lose_nothing() {
    check(world(Budget { kills: 1, ..CRASH }));
    check(world(Budget { late_records: 1, promotions: 2, ..CRASH }));
    check(world(Budget { lost_notifications: 1, ..CRASH }));
    check(world(Budget { forgotten: 1, ..CRASH }));
    check(world(Budget { writes: 2, ..CRASH }));
    check(world(Budget { crashes: 2, promotions: 2, writes: 0, ..CRASH }));
    check(World { stepwise: true, ..world(Budget { kills: 1, promotions: 2, losses: 0, ..CRASH }) });
}

/// What goes wrong without a rule, by the first letter of the property.
fn counterexample(without: Without, world: World) -> String {
    let world = World { without, ..world };
    let checker = world.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discoveries().into_iter().find(|(property, _)| property.starts_with(char::is_uppercase));
    let Some((property, path)) = found else {
        panic!("without {without:?} nothing goes wrong in {} states: is the rule needed?", checker.unique_state_count())
    };
    let actions: Vec<String> = path.into_actions().iter().map(|a| format!("{a:?}")).collect();
    println!("without {without:?}: {property} ({} states): {}", checker.unique_state_count(), actions.join(", "));
    property[..2].to_owned()
}

/// b alone has what was confirmed, and the primary has lost everything.
fn one_replica_has_it(world: &World, s: &mut State) {
    for action in [Action::Write(0), Action::Deliver(1), Action::Confirm(0), Action::Crash(0, false)] {
        *s = world.next_state(s, action).unwrap();
    }
}

/// The role has moved to b once; a alone has what was confirmed since, and b has lost everything.
fn after_another_election(world: &World, s: &mut State) {
    World::plan(s, Some(1));
    world.finish(s, NOW, &mut String::new());
    world.settle_links(s);
    for n in 0..NODES {
        world.run(s, n, None, Cut::Nowhere, NOW);
    }
    for action in [Action::Write(1), Action::Deliver(0), Action::Confirm(1), Action::Crash(1, false)] {
        *s = world.next_state(s, action).unwrap();
    }
}

/// The tool of a candidate was killed, c was promoted instead, and everybody follows it.
fn a_record_is_on_its_way(world: &World, s: &mut State) {
    *s = world.next_state(s, Action::Crash(0, true)).unwrap();
    World::plan(s, Some(1));
    while let Some(op) = s.transition.first().and_then(|stage| stage.first()).copied() {
        let cut = if op.kind == Kind::Promote { Cut::AtRecord } else { Cut::Nowhere };
        world.perform(s, op, cut, NOW);
    }
    World::plan(s, Some(2));
    world.finish(s, NOW, &mut String::new());
    world.settle_links(s);
    s.crashed = 0;
}

/// Of servers that were never promoted, a alone has data, and has not started yet.
fn one_has_not_started(_: &World, s: &mut State) {
    let node = &mut s.nodes[0];
    (node.server, node.started, node.disk, node.position, node.score) = (None, false, vec![0], None, None);
    node.memory = Memory::default();
    s.written = 1;
}

#[test]
fn each_rule_is_missed_when_it_is_left_out() {
    let confirmed = World { prelude: one_replica_has_it, ..world(Budget { cuts: 1, writes: 1, crashes: 1, losses: 1, ..QUIET }) };
    assert_eq!(counterexample(Without::Confirmations, confirmed.clone()), "I1");
    assert_eq!(counterexample(Without::Holders, confirmed), "I1");
    let again = Budget { lost_notifications: 1, writes: 1, crashes: 1, losses: 1, ..QUIET };
    assert_eq!(counterexample(Without::Round, World { prelude: after_another_election, ..world(again) }), "I1");
    let late = Budget { crashes: 1, ..QUIET };
    assert_eq!(counterexample(Without::CompareAndSwap, World { prelude: a_record_is_on_its_way, ..world(late) }), "I2");
    assert_eq!(counterexample(Without::Gate, world(Budget { kills: 1, ..CRASH })), "I2");
    let fresh = World { settled: false, prelude: one_has_not_started, ..world(QUIET) };
    assert_eq!(counterexample(Without::EmptyServers, fresh), "R1");
}
