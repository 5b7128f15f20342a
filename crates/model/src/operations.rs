//! Pacemaker, as far as it is taken for what it promises: its operations, carried out by the agents' own actions, and its transitions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ahash::RandomState;
use ocf::{Failure, Operation, Peers, Phase, Status};
use pacemaker::Score;
use promotable::{Moment, Step};

use crate::{Cluster, Cut, Kind, Kinds, Op, Replacement, Shared, State, Subject, UnderWay, World, hash_of};

/// What an operation does to the cluster that it begins with.
#[derive(Debug)]
pub(crate) struct Course<K: Kinds> {
    /// The cluster before each effect that leaves a trace: what is left of it when the agent is killed there.
    before: Vec<K::Cluster>,
    /// The cluster before the first modification of the record, and what the tool is asked for.
    record: Option<(K::Cluster, Shared<Replacement<K>>)>,
    end: K::Cluster,
    outcome: Result<Status, Failure>,
}

/// What is known of the courses of operations, and of states that writes come back from, by the hash of what was asked. It is of one
/// world: a clone knows nothing.
#[derive(Debug)]
pub struct Courses<K: Kinds> {
    courses: Mutex<HashMap<u64, Arc<Course<K>>, RandomState>>,
    come_back: Mutex<HashMap<u64, bool, RandomState>>,
}

impl<K: Kinds> Courses<K> {
    /// What belongs together is asked for one after the other, so little is lost with those from long ago.
    const MOST: usize = 50_000;

    fn get(&self, question: u64) -> Option<Arc<Course<K>>> {
        self.courses.lock().unwrap().get(&question).cloned()
    }

    fn keep(&self, question: u64, course: &Arc<Course<K>>) {
        let mut known = self.courses.lock().unwrap();
        if known.len() >= Self::MOST {
            known.clear();
        }
        known.insert(question, Arc::clone(course));
    }
}

impl<K: Kinds> Default for Courses<K> {
    fn default() -> Self {
        Self { courses: Mutex::default(), come_back: Mutex::default() }
    }
}

impl<K: Kinds> Clone for Courses<K> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Goes on sharing what is as it was before.
fn rejoin<W: World>(cluster: &mut Cluster<W>, before: &Cluster<W>) {
    for (node, before) in cluster.nodes.iter_mut().zip(&before.nodes) {
        node.rejoin(before);
    }
}

/// Whom Pacemaker names in the environment of an operation, nobody in that of a monitor.
fn peers_of<W: World>(world: &W, s: &Cluster<W>, op: Option<Op>) -> Peers {
    op.map(|op| world.peers(s, op.subject)).unwrap_or_default()
}

/// The course of an operation. It is the same whenever it begins with the same cluster, which most states have in common with others.
fn course<W: World>(world: &W, s: &State<W::Kinds>, n: usize, op: Option<Op>, moment: Moment) -> Arc<Course<W::Kinds>> {
    let cluster = world.seen_by_agents(&s.cluster);
    let question = hash_of(&(n, op.map(|op| (op.kind, op.subject)), moment.now, &cluster));
    if let Some(known) = world.courses().get(question) {
        return known;
    }
    let course = Arc::new(find_course(world, cluster, n, op, moment));
    world.courses().keep(question, &course);
    course
}

fn find_course<W: World>(world: &W, mut cluster: Cluster<W>, n: usize, op: Option<Op>, mut moment: Moment) -> Course<W::Kinds> {
    let beginning = cluster.clone();
    let memory = (*beginning.nodes[n].memory).clone();
    let mut operation = world.operation(&beginning, n, memory, peers_of(world, &beginning, op), op, moment);
    let (mut before, mut record) = (Vec::new(), None);
    let mut event = None;
    loop {
        match operation.step(event.take()) {
            Step::Done(outcome) => {
                rejoin::<W>(&mut cluster, &beginning);
                return Course { before, record, end: cluster, outcome };
            }
            Step::Effect(effect) => {
                let there = W::changes(&effect).then(|| cluster.clone());
                if let (None, Some(asked)) = (&record, W::replacement(&effect)) {
                    record = Some((cluster.clone(), Shared::new(asked)));
                }
                moment = W::after_effect(moment, &effect);
                event = Some((world.carry_out(&mut cluster, n, op, effect), moment));
                if let Some(there) = there {
                    // Most of what is asked for is so already.
                    rejoin::<W>(&mut cluster, &there);
                    before.push(there);
                }
            }
        }
    }
}

fn stage<W: World>(s: &State<W::Kinds>, kind: Kind, subject: Subject) -> Vec<Op> {
    s.running().into_iter().map(|node| Op { node, kind, subject }).collect()
}

fn others<W: World>(s: &State<W::Kinds>, node: usize, kind: Kind, subject: Subject) -> Vec<Op> {
    stage::<W>(s, kind, subject).into_iter().filter(|op| op.node != node).collect()
}

/// A promotion, announced before and after.
fn promotion<W: World>(s: &State<W::Kinds>, node: usize, subject: Subject) -> [Vec<Op>; 3] {
    let announced = |phase| stage::<W>(s, Kind::Notify(phase, Operation::Promote), subject);
    [announced(Phase::Pre), vec![Op { node, kind: Kind::Promote, subject }], announced(Phase::Post)]
}

/// What Pacemaker does in a world.
pub trait Operations: World {
    /// Carries an operation out at one moment. `None` when it was killed.
    fn run(&self, s: &mut State<Self::Kinds>, n: usize, op: Option<Op>, cut: Cut, moment: Moment) -> Option<Result<Status, Failure>> {
        let course = course(self, s, n, op, moment);
        let killed = match cut {
            Cut::Nowhere => None,
            Cut::After(traces) => course.before.get(usize::from(traces)),
            Cut::AtRecord => course.record.as_ref().map(|(before, asked)| {
                s.late = Some(asked.clone());
                before
            }),
        };
        let mut after = killed.unwrap_or(&course.end).clone();
        self.keep_unseen(&s.cluster, &mut after);
        s.cluster = after;
        killed.is_none().then(|| course.outcome.clone())
    }

    /// How many effects of an operation leave a trace, and whether it writes a record.
    fn traces(&self, s: &State<Self::Kinds>, n: usize, op: Option<Op>) -> (u8, bool) {
        let course = course(self, s, n, op, Self::NOW);
        (u8::try_from(course.before.len()).unwrap(), course.record.is_some())
    }

    /// Begins a promotion of which each effect is an action of its own.
    fn set_out(&self, s: &mut State<Self::Kinds>, op: Op) {
        let (memory, peers) = (s.nodes[op.node].memory.clone(), self.peers(&s.cluster, op.subject));
        s.under_way = Some(Shared::new(UnderWay { op, memory, peers, events: Vec::new() }));
    }

    /// One effect of the promotion that is under way, and those after it that nobody can tell from it.
    fn proceed(&self, s: &mut State<Self::Kinds>) {
        let Some(mut under_way) = s.under_way.take() else { return };
        let op = under_way.op;
        let mut moment = Self::NOW;
        let memory = (*under_way.memory).clone();
        let mut operation = self.operation(&s.cluster, op.node, memory, under_way.peers.clone(), Some(op), moment);
        let mut events = under_way.events.clone().into_iter();
        let mut event = None;
        let mut done = 0;
        loop {
            match operation.step(event.take()) {
                Step::Done(result) => return self.ended(s, op, result.is_ok()),
                Step::Effect(effect) => {
                    if let Some(said) = events.next() {
                        moment = said.1;
                        event = Some(said);
                        continue;
                    }
                    done += u8::from(!Self::is_private(&effect));
                    if done > 1 {
                        break;
                    }
                    moment = Self::after_effect(moment, &effect);
                    let said = (self.carry_out(&mut s.cluster, op.node, Some(op), effect), moment);
                    under_way.events.push(said.clone());
                    event = Some(said);
                }
            }
        }
        s.under_way = Some(under_way);
    }

    /// Demote what is promoted, if anything is, and promote this one.
    fn plan(&self, s: &mut State<Self::Kinds>, candidate: Option<usize>) {
        let subject = Subject { demote: s.promoted, promote: candidate, ..Subject::default() };
        let mut stages = Vec::new();
        if let Some(node) = s.promoted {
            stages.push(vec![Op { node, kind: Kind::Demote, subject }]);
            stages.push(stage::<Self>(s, Kind::Notify(Phase::Post, Operation::Demote), subject));
        }
        stages.extend(candidate.into_iter().flat_map(|node| promotion::<Self>(s, node, subject)));
        s.begin(stages);
    }

    /// Start an instance.
    fn plan_start(&self, s: &mut State<Self::Kinds>, node: usize) {
        let subject = Subject { start: Some(node), ..Subject::default() };
        let before = stage::<Self>(s, Kind::Notify(Phase::Pre, Operation::Start), subject);
        let mut stages = vec![before, vec![Op { node, kind: Kind::Start, subject }]];
        if Self::STARTS_ARE_ANNOUNCED {
            let mut after = stage::<Self>(s, Kind::Notify(Phase::Post, Operation::Start), subject);
            after.push(Op { node, kind: Kind::Notify(Phase::Post, Operation::Start), subject });
            stages.push(after);
        }
        s.begin(stages);
    }

    /// Stop an instance, and start it again.
    fn plan_restart(&self, s: &mut State<Self::Kinds>, node: usize) {
        let subject = Subject { stop: Some(node), start: Some(node), ..Subject::default() };
        let stages = vec![
            vec![Op { node, kind: Kind::Stop, subject }],
            others::<Self>(s, node, Kind::Notify(Phase::Post, Operation::Stop), subject),
            others::<Self>(s, node, Kind::Notify(Phase::Pre, Operation::Start), subject),
            vec![Op { node, kind: Kind::Start, subject }],
            stage::<Self>(s, Kind::Notify(Phase::Post, Operation::Start), subject),
        ];
        s.begin(stages);
    }

    /// Stop an instance, which is started again when the cluster likes.
    fn plan_stop(&self, s: &mut State<Self::Kinds>, node: usize) {
        let subject = Subject { stop: Some(node), ..Subject::default() };
        let after = others::<Self>(s, node, Kind::Notify(Phase::Post, Operation::Stop), subject);
        s.begin(vec![vec![Op { node, kind: Kind::Stop, subject }], after]);
    }

    /// A parameter was changed. After the reload Pacemaker promotes once more what is promoted.
    fn plan_reload(&self, s: &mut State<Self::Kinds>) {
        let subject = Subject { promote: s.promoted, ..Subject::default() };
        let mut stages = vec![stage::<Self>(s, Kind::Reload, subject)];
        stages.extend(s.promoted.into_iter().flat_map(|node| promotion::<Self>(s, node, subject)));
        s.begin(stages);
    }

    /// What Pacemaker makes of the end of an operation.
    fn ended(&self, s: &mut State<Self::Kinds>, op: Op, succeeded: bool) {
        let mut stages = (*s.transition).clone();
        if let Some(stage) = stages.first_mut() {
            stage.retain(|other| *other != op);
        }
        s.begin(stages);
        match (op.kind, succeeded) {
            (Kind::Promote, true) => s.promoted = Some(op.node),
            (Kind::Promote, false) => {
                // on-fail=demote.
                s.promoted = Some(op.node);
                self.plan(s, None);
            }
            (Kind::Demote, true) => s.promoted = None,
            (Kind::Demote | Kind::Start, false) => s.begin(vec![vec![Op { kind: Kind::Stop, ..op }]]),
            (Kind::Start, true) => s.nodes[op.node].started = true,
            (Kind::Stop, _) => self.stop(s, op.node),
            (Kind::Notify(..) | Kind::Reload, _) => {}
        }
    }

    /// An instance is stopped.
    fn stop(&self, s: &mut State<Self::Kinds>, n: usize) {
        Self::end_server(&mut s.cluster, n);
        let node = &mut *s.nodes[n];
        (node.started, node.score, node.memory) = (false, None, Shared::new(Self::of_stopped(&node.memory)));
        if s.promoted == Some(n) {
            s.promoted = None;
        }
    }

    /// Whoever can be promoted.
    fn candidates(s: &State<Self::Kinds>) -> Vec<usize> {
        let asked = |n: &usize| s.nodes[*n].score.is_some_and(|score| score > Score::NEVER) && Self::serves(&s.cluster, *n);
        s.running().into_iter().filter(asked).collect()
    }

    /// The best of them.
    fn best_candidate(s: &State<Self::Kinds>) -> Option<usize> {
        Self::candidates(s).into_iter().max_by_key(|n| s.nodes[*n].score)
    }

    /// Carries an operation of the transition out.
    fn perform(&self, s: &mut State<Self::Kinds>, op: Op, cut: Cut, moment: Moment) {
        let ended = self.run(s, op.node, Some(op), cut, moment);
        self.ended(s, op, ended.is_some_and(|result| result.is_ok()));
    }

    /// The transition to its end, each stage in the order of the nodes; and why what failed last did.
    fn finish(&self, s: &mut State<Self::Kinds>, moment: Moment, why: &mut String) {
        while let Some(op) = s.next_operation() {
            let ended = self.run(s, op.node, Some(op), Cut::Nowhere, moment);
            let succeeded = matches!(&ended, Some(Ok(_)));
            if let Some(Err(failure)) = ended {
                *why = format!("{op:?}: {}", failure.reason);
            }
            self.ended(s, op, succeeded);
        }
    }

    /// A node is lost. Whatever was under way there ended with its agent.
    fn end_of_node(&self, s: &mut State<Self::Kinds>, n: usize) {
        Self::end_server(&mut s.cluster, n);
        let node = &mut *s.nodes[n];
        (node.alive, node.started, node.score, node.memory) = (false, false, None, Shared::default());
        if s.promoted == Some(n) {
            s.promoted = None;
        }
        if s.under_way.as_ref().is_some_and(|u| u.op.node == n) {
            s.under_way = None;
        }
        self.node_is_lost(s, n);
    }

    /// Whether writes come back from a state. It is asked once for each cluster.
    fn comes_back_as_is_known(&self, s: &State<Self::Kinds>) -> bool {
        let question = hash_of(&self.seen_by_agents(&s.cluster));
        if let Some(known) = self.courses().come_back.lock().unwrap().get(&question) {
            return *known;
        }
        let comes_back = self.comes_back(s).is_ok();
        self.courses().come_back.lock().unwrap().insert(question, comes_back);
        comes_back
    }
}

impl<W: World> Operations for W {}
