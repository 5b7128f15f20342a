//! Pacemaker, as far as it is taken for what it promises: its operations, carried out by the agents' own actions, and its transitions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ahash::RandomState;
use ocf::{Failure, Notification, Operation, Peers, Phase, Status};
use pacemaker::Score;
use promotable::{Machine, Step};

use super::world::{changes, is_private};
use super::{Budget, Cluster, Cut, Kind, Memory, NODES, NOW, Op, Server, State, Subject, UnderWay, Without, World, after, name};
use crate::protocol::{Effect, Event, Instance, Moment, Rules};
use crate::record::Record;

type Run<'r> = Machine<'r, Effect, (Event, Moment), Result<Status, Failure>>;

/// What an operation does to the cluster that it begins with.
#[derive(Debug)]
struct Course {
    /// The cluster before each effect that leaves a trace: what is left of it when the agent is killed there.
    before: Vec<Cluster>,
    /// The cluster before the first modification of the record, and what the tool is asked for.
    record: Option<(Cluster, (Option<Record>, Record))>,
    end: Cluster,
    outcome: Result<Status, Failure>,
}

type Question = (usize, Option<(Kind, Subject)>, Moment, Cluster);

/// The courses that are known. They are of one world: a clone knows none.
#[derive(Debug, Default)]
pub(super) struct Courses(Mutex<HashMap<Question, Arc<Course>, RandomState>>);

impl Courses {
    /// What belongs together is asked for one after the other, so little is lost with those from long ago.
    const MOST: usize = 50_000;

    fn get(&self, question: &Question) -> Option<Arc<Course>> {
        self.0.lock().unwrap().get(question).cloned()
    }

    fn keep(&self, question: Question, course: &Arc<Course>) {
        let mut known = self.0.lock().unwrap();
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

impl World {
    pub(super) fn rules(&self, n: usize) -> Rules<'_> {
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
    pub(super) fn machine<'r>(rules: &'r Rules<'r>, memory: Memory, peers: Peers, op: Option<Op>, moment: Moment) -> Run<'r> {
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
        s.cluster = killed.unwrap_or(&course.end).clone();
        killed.is_none().then(|| course.outcome.clone())
    }

    /// How many effects of an operation leave a trace, and whether it writes a record.
    pub(super) fn traces(&self, s: &State, n: usize, op: Option<Op>) -> (u8, bool) {
        let course = self.course(s, n, op, NOW);
        (u8::try_from(course.before.len()).unwrap(), course.record.is_some())
    }

    /// The course of an operation. It is the same whenever it begins with the same cluster, which most states have in common with others.
    fn course(&self, s: &State, n: usize, op: Option<Op>, moment: Moment) -> Arc<Course> {
        let question = (n, op.map(|op| (op.kind, op.subject)), moment, s.cluster.clone());
        if let Some(known) = self.courses.get(&question) {
            return known;
        }
        let course = Arc::new(self.find_course(s.cluster.clone(), n, op, moment));
        self.courses.keep(question, &course);
        course
    }

    fn find_course(&self, mut cluster: Cluster, n: usize, op: Option<Op>, moment: Moment) -> Course {
        let rules = self.rules(n);
        let peers = op.map(|op| cluster.peers(op.subject)).unwrap_or_default();
        let mut machine = Self::machine(&rules, cluster.nodes[n].memory.clone(), peers, op, moment);
        let (mut before, mut record) = (Vec::new(), None);
        let mut event = None;
        loop {
            match machine.step(event.take()) {
                Step::Done(outcome) => return Course { before, record, end: cluster, outcome },
                Step::Effect(effect) => {
                    let there = changes(&effect).then(|| cluster.clone());
                    if let (None, Effect::ReplaceRecord(expected, asked)) = (&record, &effect) {
                        record = Some((cluster.clone(), (expected.clone(), asked.clone())));
                    }
                    event = Some((self.carry_out(&mut cluster, n, effect), moment));
                    if let Some(there) = there {
                        // Most of what is asked for is so already.
                        for (node, before) in cluster.nodes.iter_mut().zip(&there.nodes) {
                            node.rejoin(before);
                        }
                        before.push(there);
                    }
                }
            }
        }
    }
}

impl World {
    pub(super) fn running(s: &State) -> Vec<usize> {
        (0..NODES).filter(|n| s.nodes[*n].alive && s.nodes[*n].connected && s.nodes[*n].started).collect()
    }

    pub(super) fn stage(s: &State, kind: Kind, subject: Subject) -> Vec<Op> {
        Self::running(s).into_iter().map(|node| Op { node, kind, subject }).collect()
    }

    /// Demote what is promoted, if anything is, and promote this one.
    pub(super) fn plan(s: &mut State, candidate: Option<usize>) {
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

    pub(super) fn plan_start(s: &mut State, node: usize) {
        let subject = Subject { start: Some(node), ..Subject::default() };
        s.transition =
            vec![Self::stage(s, Kind::Notify(Phase::Pre, Operation::Start), subject), vec![Op { node, kind: Kind::Start, subject }]];
        s.transition.retain(|stage| !stage.is_empty());
    }

    /// What Pacemaker makes of the end of an operation.
    pub(super) fn ended(s: &mut State, op: Op, succeeded: bool) {
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

    pub(super) fn candidates(s: &State) -> Vec<usize> {
        let asked = |n: &usize| s.nodes[*n].score.is_some_and(|score| score > Score::NEVER) && s.server(*n).is_some();
        Self::running(s).into_iter().filter(asked).collect()
    }

    pub(super) fn perform(&self, s: &mut State, op: Op, cut: Cut, moment: Moment) {
        let ended = self.run(s, op.node, Some(op), cut, moment);
        Self::ended(s, op, ended.is_some_and(|result| result.is_ok()));
    }

    /// One effect of the promotion that is under way, and those after it that nobody can tell from it.
    pub(super) fn proceed(&self, s: &mut State) {
        let Some(mut under_way) = s.under_way.take() else { return };
        let UnderWay { op, memory, peers, events } = (*under_way).clone();
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
                            let said = self.carry_out(&mut s.cluster, op.node, effect);
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
    pub(super) fn end_of_node(s: &mut State, n: usize) {
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
    pub(super) fn is_calm(left: Budget) -> bool {
        Budget { writes: 0, promotions: 0, losses: 0, ..left } == Budget::default()
    }

    /// With everything up and connected, and nothing else happening, a primary takes writes again; or why not.
    pub(super) fn comes_back(&self, s: &State) -> Result<(), String> {
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
    pub(super) fn finish(&self, s: &mut State, moment: Moment, why: &mut String) {
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

    pub(super) fn settle_links(&self, s: &mut State) {
        for n in 0..NODES {
            if self.may_attach(s, n) {
                s.attach(n);
            }
            while self.may_deliver(s, n) {
                self.deliver(s, n);
            }
        }
    }

    pub(super) fn may_attach(&self, s: &State, n: usize) -> bool {
        let follows = s.server(n).filter(|server| !server.primary && !server.link_up).and_then(|server| server.following);
        follows.is_some_and(|p| p != n && s.reach(n, p) && s.server(p).is_some_and(|primary| primary.primary))
    }

    pub(super) fn may_deliver(&self, s: &State, n: usize) -> bool {
        let attached = s.server(n).filter(|server| server.link_up).and_then(|server| Some((server.offset, server.following?)));
        attached.is_some_and(|(offset, p)| s.server(p).is_some_and(|primary| primary.offset > offset))
    }
}
