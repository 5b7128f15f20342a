//! Pacemaker, as far as it is taken for what it promises: its operations, carried out by the agents' own actions, and its transitions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ahash::RandomState;
use ocf::{Failure, Notification, Operation, Peers, Phase, Status};
use pacemaker::Score;
use promotable::{Machine, Step};

use super::shared::{Shared, hash_of};
use super::world::{changes, is_private};
use super::{Budget, Cluster, Cut, Kind, Loss, Memory, NOW, Node, Op, Replacement, State, Subject, World, after, name};
use crate::protocol::{Alone, Effect, Event, Instance, Moment, OfCluster, Rules};
use crate::record::Record;

type Run<'r> = Machine<'r, Effect, (Event, Moment), Result<Status, Failure>>;

/// What an operation does to the cluster that it begins with.
#[derive(Debug)]
struct Course {
    /// The cluster before each effect that leaves a trace: what is left of it when the agent is killed there.
    before: Vec<Cluster>,
    /// The cluster before the first modification of the record, and what the tool is asked for.
    record: Option<(Cluster, Shared<Replacement>)>,
    end: Cluster,
    outcome: Result<Status, Failure>,
}

/// What is known of the courses of operations, and of states that writes come back from, by the hash of what was asked. It is of one
/// world: a clone knows nothing.
#[derive(Debug, Default)]
pub(super) struct Courses {
    courses: Mutex<HashMap<u64, Arc<Course>, RandomState>>,
    come_back: Mutex<HashMap<u64, bool, RandomState>>,
}

impl Courses {
    /// What belongs together is asked for one after the other, so little is lost with those from long ago.
    const MOST: usize = 50_000;

    fn get(&self, question: u64) -> Option<Arc<Course>> {
        self.courses.lock().unwrap().get(&question).cloned()
    }

    fn keep(&self, question: u64, course: &Arc<Course>) {
        let mut known = self.courses.lock().unwrap();
        if known.len() >= Self::MOST {
            known.clear();
        }
        known.insert(question, Arc::clone(course));
    }
}

impl Clone for Courses {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Goes on sharing what is as it was before.
fn rejoin(cluster: &mut Cluster, before: &Cluster) {
    for (node, before) in cluster.nodes.iter_mut().zip(&before.nodes) {
        node.rejoin(before);
    }
}

/// So much time passes at least when an action waits: what it waits for is there then, or does not come.
const STEP: Duration = Duration::from_secs(1);

fn later(moment: Moment, effect: &Effect) -> Moment {
    match effect {
        Effect::Wait(time) => Moment { now: moment.now + STEP.max(*time), ..moment },
        _ => moment,
    }
}

impl World {
    pub(super) fn rules(&self, s: &Cluster, n: usize) -> Rules<'_> {
        Rules {
            params: if s.careless { &self.careless } else { &self.params },
            node: Ok(name(n)),
            clustered: true,
            probe: false,
            check_level: 0,
            servers: u32::try_from(self.servers).ok(),
            decide: "DECIDE".to_owned(),
            withdrawal: "WITHDRAW".to_owned(),
        }
    }

    /// The machine of an operation, `None` for a monitor.
    fn machine<'r>(rules: &'r Rules<'r>, memory: &Memory, peers: Peers, op: Option<Op>, moment: Moment) -> Run<'r> {
        let memory = memory.clone();
        Machine::new(move |port| async move {
            let instance = Instance::new(rules, memory, moment, port);
            let done = |outcome: Result<(), Failure>| outcome.map(|()| Status::Running);
            match op.map(|op| op.kind) {
                None => instance.monitor(Alone::Yes, None).await,
                Some(Kind::Start) => done(instance.start(peers).await.map(drop)),
                Some(Kind::Promote) => done(instance.promote(peers).await),
                Some(Kind::Demote) => done(instance.demote(peers).await),
                Some(Kind::Reload) => done(instance.reload().await),
                Some(Kind::Notify(phase, operation)) => done(instance.notify(Notification { phase, operation, peers }, false).await),
                Some(Kind::Stop) => Ok(Status::NotRunning),
            }
        })
    }

    fn peers_of(&self, s: &Cluster, op: Option<Op>) -> Peers {
        op.map(|op| self.peers(s, op.subject)).unwrap_or_default()
    }

    /// Carries an operation out at one moment. `None` when it was killed.
    pub(super) fn run(&self, s: &mut State, n: usize, op: Option<Op>, cut: Cut, moment: Moment) -> Option<Result<Status, Failure>> {
        let course = self.course(s, n, op, moment);
        let killed = match cut {
            Cut::Nowhere => None,
            Cut::After(traces) => course.before.get(usize::from(traces)),
            Cut::AtRecord => course.record.as_ref().map(|(before, asked)| {
                s.late = Some(asked.clone());
                before
            }),
        };
        let seen = s.seen;
        s.cluster = killed.unwrap_or(&course.end).clone();
        s.seen |= seen;
        killed.is_none().then(|| course.outcome.clone())
    }

    /// How many effects of an operation leave a trace, and whether it writes a record.
    pub(super) fn traces(&self, s: &State, n: usize, op: Option<Op>) -> (u8, bool) {
        let course = self.course(s, n, op, NOW);
        (u8::try_from(course.before.len()).unwrap(), course.record.is_some())
    }

    /// The course of an operation. It is the same whenever it begins with the same cluster, which most states have in common with others.
    fn course(&self, s: &State, n: usize, op: Option<Op>, moment: Moment) -> Arc<Course> {
        // What clients saw is nothing that an agent sees.
        let cluster = Cluster { seen: 0, ..s.cluster.clone() };
        let question = hash_of(&(n, op.map(|op| (op.kind, op.subject)), moment.now, &cluster));
        if let Some(known) = self.courses.get(question) {
            return known;
        }
        let course = Arc::new(self.find_course(cluster, n, op, moment));
        self.courses.keep(question, &course);
        course
    }

    fn find_course(&self, mut cluster: Cluster, n: usize, op: Option<Op>, moment: Moment) -> Course {
        let beginning = cluster.clone();
        let rules = self.rules(&beginning, n);
        let mut moment = moment;
        let mut machine = Self::machine(&rules, &beginning.nodes[n].memory, self.peers_of(&cluster, op), op, moment);
        let (mut before, mut record) = (Vec::new(), None);
        let mut event = None;
        loop {
            match machine.step(event.take()) {
                Step::Done(outcome) => {
                    rejoin(&mut cluster, &beginning);
                    return Course { before, record, end: cluster, outcome };
                }
                Step::Effect(effect) => {
                    let there = changes(&effect).then(|| cluster.clone());
                    if let (None, Effect::OfCluster(OfCluster::ReplaceRecord(expected, asked))) = (&record, &effect) {
                        record = Some((cluster.clone(), Shared::new((expected.as_deref().cloned(), Record::clone(asked)))));
                    }
                    moment = later(moment, &effect);
                    event = Some((self.carry_out(&mut cluster, n, op, effect), moment));
                    if let Some(there) = there {
                        // Most of what is asked for is so already.
                        rejoin(&mut cluster, &there);
                        before.push(there);
                    }
                }
            }
        }
    }

    /// One effect of the promotion that is under way, and those after it that nobody can tell from it.
    pub(super) fn proceed(&self, s: &mut State) {
        let Some(mut under_way) = s.under_way.take() else { return };
        let op = under_way.op;
        let beginning = s.cluster.clone();
        let rules = self.rules(&beginning, op.node);
        let mut moment = NOW;
        let mut machine = Self::machine(&rules, &under_way.memory, under_way.peers.clone(), Some(op), NOW);
        let mut events = under_way.events.clone().into_iter();
        let mut event = None;
        let mut done = 0;
        loop {
            match machine.step(event.take()) {
                Step::Done(result) => return self.ended(s, op, result.is_ok()),
                Step::Effect(effect) => {
                    if let Some(said) = events.next() {
                        moment = said.1;
                        event = Some(said);
                        continue;
                    }
                    done += u8::from(!is_private(&effect));
                    if done > 1 {
                        break;
                    }
                    moment = later(moment, &effect);
                    let said = (self.carry_out(&mut s.cluster, op.node, Some(op), effect), moment);
                    under_way.events.push(said.clone());
                    event = Some(said);
                }
            }
        }
        s.under_way = Some(under_way);
    }
}

impl World {
    /// A primary and replicas that follow it and acknowledge, with a transaction that everybody has.
    pub(super) fn beginning(&self) -> State {
        let node = |_| {
            Shared::new(Node {
                alive: true,
                connected: true,
                started: false,
                server: None,
                disk: (0, None),
                memory: Shared::default(),
                position: None,
                membership: None,
                score: None,
            })
        };
        let mut s = State {
            cluster: Cluster {
                nodes: (0..self.servers).map(node).collect(),
                record: None,
                promoted: None,
                careless: false,
                writers: [0; super::MOST],
                written: 0,
                errant: 0,
                seen: 0,
            },
            late: None,
            transition: Shared::default(),
            under_way: None,
            ever_careless: false,
            left: Budget::default(),
        };
        for n in 0..self.servers {
            self.plan_start(&mut s, n);
            self.finish(&mut s, NOW, &mut String::new());
        }
        self.plan(&mut s, Some(0));
        self.finish(&mut s, NOW, &mut String::new());
        self.settle(&mut s, NOW);
        s.write(0);
        self.settle(&mut s, NOW);
        assert_eq!((s.promoted, s.seen), (Some(0), 1), "{s:?}");
        s
    }

    pub(super) fn running(s: &Cluster) -> Vec<usize> {
        (0..s.nodes.len()).filter(|n| s.nodes[*n].alive && s.nodes[*n].connected && s.nodes[*n].started).collect()
    }

    fn stage(s: &Cluster, kind: Kind, subject: Subject) -> Vec<Op> {
        Self::running(s).into_iter().map(|node| Op { node, kind, subject }).collect()
    }

    /// Demote what is promoted, if anything is, and promote this one.
    pub(super) fn plan(&self, s: &mut State, candidate: Option<usize>) {
        let subject = Subject { demote: s.promoted, promote: candidate, ..Subject::default() };
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
        s.transition = Shared::new(stages);
    }

    pub(super) fn plan_start(&self, s: &mut State, node: usize) {
        let subject = Subject { start: Some(node), ..Subject::default() };
        let others = Self::stage(s, Kind::Notify(Phase::Pre, Operation::Start), subject);
        let mut all = Self::stage(s, Kind::Notify(Phase::Post, Operation::Start), subject);
        all.push(Op { node, kind: Kind::Notify(Phase::Post, Operation::Start), subject });
        Self::begin(s, vec![others, vec![Op { node, kind: Kind::Start, subject }], all]);
    }

    pub(super) fn plan_restart(&self, s: &mut State, node: usize) {
        let subject = Subject { stop: Some(node), start: Some(node), ..Subject::default() };
        let stages = vec![
            vec![Op { node, kind: Kind::Stop, subject }],
            Self::others(s, node, Kind::Notify(Phase::Post, Operation::Stop), subject),
            Self::others(s, node, Kind::Notify(Phase::Pre, Operation::Start), subject),
            vec![Op { node, kind: Kind::Start, subject }],
            Self::stage(s, Kind::Notify(Phase::Post, Operation::Start), subject),
        ];
        Self::begin(s, stages);
    }

    /// It is stopped, and started when the cluster likes.
    pub(super) fn plan_stop(&self, s: &mut State, node: usize) {
        let subject = Subject { stop: Some(node), ..Subject::default() };
        let others = Self::others(s, node, Kind::Notify(Phase::Post, Operation::Stop), subject);
        Self::begin(s, vec![vec![Op { node, kind: Kind::Stop, subject }], others]);
    }

    /// A parameter was changed. After the reload Pacemaker promotes once more what is promoted.
    pub(super) fn plan_reload(&self, s: &mut State) {
        let subject = Subject { promote: s.promoted, ..Subject::default() };
        let mut stages = vec![Self::stage(s, Kind::Reload, subject)];
        if let Some(node) = s.promoted {
            stages.push(Self::stage(s, Kind::Notify(Phase::Pre, Operation::Promote), subject));
            stages.push(vec![Op { node, kind: Kind::Promote, subject }]);
            stages.push(Self::stage(s, Kind::Notify(Phase::Post, Operation::Promote), subject));
        }
        Self::begin(s, stages);
    }

    fn others(s: &Cluster, node: usize, kind: Kind, subject: Subject) -> Vec<Op> {
        Self::stage(s, kind, subject).into_iter().filter(|op| op.node != node).collect()
    }

    fn begin(s: &mut State, mut stages: Vec<Vec<Op>>) {
        stages.retain(|stage| !stage.is_empty());
        s.transition = Shared::new(stages);
    }

    /// What Pacemaker makes of the end of an operation.
    pub(super) fn ended(&self, s: &mut State, op: Op, succeeded: bool) {
        let mut stages = (*s.transition).clone();
        if let Some(stage) = stages.first_mut() {
            stage.retain(|other| *other != op);
        }
        Self::begin(s, stages);
        match (op.kind, succeeded) {
            (Kind::Promote, true) => s.promoted = Some(op.node),
            (Kind::Promote, false) => {
                // on-fail=demote.
                s.promoted = Some(op.node);
                self.plan(s, None);
            }
            (Kind::Demote, true) => s.promoted = None,
            (Kind::Demote | Kind::Start, false) => {
                Self::begin(s, vec![vec![Op { kind: Kind::Stop, ..op }]]);
            }
            (Kind::Start, true) => s.nodes[op.node].started = true,
            (Kind::Stop, _) => {
                // What waits is killed with it: see `grace_at_stop`.
                s.end_server(op.node, Loss::Nothing);
                let node = &mut *s.nodes[op.node];
                (node.started, node.score, node.memory) = (false, None, Shared::new(node.memory.of_stopped()));
                if s.promoted == Some(op.node) {
                    s.promoted = None;
                }
            }
            (Kind::Notify(..) | Kind::Reload, _) => {}
        }
    }

    pub(super) fn candidates(s: &Cluster) -> Vec<usize> {
        let asked = |n: &usize| s.nodes[*n].score.is_some_and(|score| score > Score::NEVER) && s.server(*n).is_some();
        Self::running(s).into_iter().filter(asked).collect()
    }

    pub(super) fn perform(&self, s: &mut State, op: Op, cut: Cut, moment: Moment) {
        let ended = self.run(s, op.node, Some(op), cut, moment);
        self.ended(s, op, ended.is_some_and(|result| result.is_ok()));
    }

    /// Whatever was under way ended with its agent.
    pub(super) fn end_of_node(&self, s: &mut State, n: usize) {
        s.end_server(n, Loss::Nothing);
        let node = &mut *s.nodes[n];
        (node.alive, node.started, node.score, node.memory) = (false, false, None, Shared::default());
        (node.position, node.membership) = (None, None);
        if s.promoted == Some(n) {
            s.promoted = None;
        }
        if s.under_way.as_ref().is_some_and(|u| u.op.node == n) {
            s.under_way = None;
        }
        // The cluster plans anew: what failed has to be ended all the same.
        let ends = |op: &&Op| op.node != n && matches!(op.kind, Kind::Demote | Kind::Stop);
        match s.transition.first().and_then(|stage| stage.iter().find(ends)).copied() {
            Some(Op { kind: Kind::Demote, .. }) => self.plan(s, None),
            Some(op) => Self::begin(s, vec![vec![op]]),
            None => s.transition = Shared::default(),
        }
    }

    /// Whether anything else than time and monitors can still happen.
    pub(super) fn is_calm(left: Budget) -> bool {
        Budget { writes: 0, promotions: 0, losses: 0, ..left } == Budget::default()
    }

    pub(super) fn comes_back_as_is_known(&self, s: &State) -> bool {
        let question = hash_of(&Cluster { seen: 0, ..s.cluster.clone() });
        if let Some(known) = self.courses.come_back.lock().unwrap().get(&question) {
            return *known;
        }
        let comes_back = self.comes_back(s).is_ok();
        self.courses.come_back.lock().unwrap().insert(question, comes_back);
        comes_back
    }

    /// With everything up and connected, and nothing else happening, a client sees a write again; or why not.
    pub(super) fn comes_back(&self, s: &State) -> Result<(), String> {
        let mut s = s.clone();
        s.late = None;
        let mut why = String::new();
        for node in &mut s.nodes {
            (node.alive, node.connected) = (true, true);
            if let Some(server) = node.server.as_mut() {
                server.broken = false;
            }
        }
        if self.sees_a_write(&s) {
            return Ok(());
        }
        for minute in 1..=10 {
            let moment = after(180 * minute);
            self.finish(&mut s, moment, &mut why);
            self.settle(&mut s, moment);
            if self.sees_a_write(&s) {
                return Ok(());
            }
            if self.copies {
                Self::copy_to_the_diverged(&mut s);
            }
            if let Some(n) = (0..self.servers).find(|n| !s.nodes[*n].started) {
                self.plan_start(&mut s, n);
                continue;
            }
            if let Some(n) = (0..self.servers).find(|n| s.promoted != Some(*n) && s.server(*n).is_none()) {
                self.plan_restart(&mut s, n);
                continue;
            }
            // Twice, because what a candidate makes of the scores has the cluster plan anew at once.
            for _ in 0..2 {
                let well = s.promoted.is_some_and(|p| s.open().any(|n| n == p));
                if s.transition.is_empty() && !well {
                    let best = Self::candidates(&s).into_iter().max_by_key(|n| s.nodes[*n].score);
                    self.plan(&mut s, best);
                    self.finish(&mut s, moment, &mut why);
                }
            }
        }
        Err(format!("{why} {s:?}"))
    }

    /// An operator makes those anew that will not follow.
    fn copy_to_the_diverged(s: &mut State) {
        let Some(data) = s.open().next().and_then(|p| s.server(p)).map(|primary| primary.executed) else { return };
        for n in (0..s.nodes.len()).filter(|n| s.nodes[*n].memory.errant().is_some()).collect::<Vec<_>>() {
            s.end_server(n, Loss::Nothing);
            let node = &mut *s.nodes[n];
            (node.started, node.score, node.memory) = (false, None, Shared::new(node.memory.of_stopped()));
            node.disk = (data, None);
        }
    }

    fn sees_a_write(&self, s: &State) -> bool {
        let mut s = s.clone();
        let Some(p) = s.promoted.filter(|p| s.open().any(|n| n == *p)) else { return false };
        if usize::from(s.written) == super::MOST {
            return true;
        }
        s.write(p);
        s.let_time_pass(p);
        s.server(p).unwrap().pending == 0
    }

    /// The transition to its end, each stage in the order of the nodes.
    pub(super) fn finish(&self, s: &mut State, moment: Moment, why: &mut String) {
        while let Some(op) = s.transition.first().and_then(|stage| stage.first()).copied() {
            let ended = self.run(s, op.node, Some(op), Cut::Nowhere, moment);
            let succeeded = matches!(&ended, Some(Ok(_)));
            if let Some(Err(failure)) = ended {
                *why = format!("{op:?}: {}", failure.reason);
            }
            self.ended(s, op, succeeded);
        }
    }

    /// Links carry what there is, and each agent looks a few times.
    pub(super) fn settle(&self, s: &mut State, moment: Moment) {
        for round in 0..4 {
            for n in 0..self.servers {
                s.let_time_pass(n);
            }
            for n in 0..self.servers {
                if s.nodes[n].started && s.transition.is_empty() {
                    let moment = Moment { now: moment.now + STEP * 10 * round, ..moment };
                    self.run(s, n, None, Cut::Nowhere, moment);
                }
            }
        }
    }
}
