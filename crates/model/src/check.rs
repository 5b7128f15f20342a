//! The search: what can happen in each state, and what comes of it.

use std::fmt::Debug;
use std::ops::Deref;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use crate::{Action, ActionOf, Cut, Kind, Op, Operations, Shared, State, World};

/// A world as the checker takes it.
#[derive(Clone, Debug)]
pub struct Checked<W>(W);

impl<W> Deref for Checked<W> {
    type Target = W;

    fn deref(&self) -> &W {
        &self.0
    }
}

impl<W: World> Model for Checked<W> {
    type State = State<W::Kinds>;
    type Action = ActionOf<W>;

    fn init_states(&self) -> Vec<Self::State> {
        vec![self.beginning()]
    }

    fn actions(&self, s: &Self::State, actions: &mut Vec<Self::Action>) {
        for n in 0..s.nodes.len() {
            self.actions_of_node(s, n, actions);
        }
        if s.late.is_some() {
            actions.push(Action::LateRecord);
        }
        if s.under_way.is_some() {
            actions.push(Action::Proceed);
            return;
        }
        let Some(stage) = s.transition.first() else { return self.plans(s, actions) };
        for op in stage {
            actions.push(Action::Run(*op));
            if op.kind == Kind::Stop {
                continue;
            }
            self.kills(s, op.node, Some(*op), |effects| Action::RunKilled(*op, effects), actions);
            if s.left.lost_notifications > 0 && matches!(op.kind, Kind::Notify(..)) {
                actions.push(Action::Lost(*op));
            }
        }
    }

    fn next_state(&self, last: &Self::State, action: Self::Action) -> Option<Self::State> {
        self.after_action(last, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        W::properties()
    }
}

impl<W: World> Checked<W> {
    fn actions_of_node(&self, s: &State<W::Kinds>, n: usize, actions: &mut Vec<ActionOf<W>>) {
        let (left, node) = (s.left, &s.nodes[n]);
        if !node.alive {
            actions.push(Action::Return(n));
            return;
        }
        if node.connected && left.cuts > 0 {
            actions.push(Action::CutOff(n));
        }
        if !node.connected {
            actions.push(Action::Fence(n));
        }
        if left.forgotten > 0 && *node.memory != <_>::default() {
            actions.push(Action::Forget(n));
        }
        self.happenings(s, n, actions);
        let works = |op: &Op| op.node == n && !matches!(op.kind, Kind::Notify(..));
        let busy = s.transition.first().is_some_and(|stage| stage.iter().any(works));
        if node.connected && node.started && !busy {
            actions.push(Action::Monitor(n));
            self.kills(s, n, None, |effects| Action::MonitorKilled(n, effects), actions);
        }
    }

    /// An operation that is killed after each effect that leaves a trace, or while its tool waits.
    fn kills(&self, s: &State<W::Kinds>, n: usize, op: Option<Op>, killed: impl Fn(u8) -> ActionOf<W>, actions: &mut Vec<ActionOf<W>>) {
        let left = s.left;
        if left.kills > 0 || left.late_records > 0 {
            let (most, writes) = self.traces(s, n, op);
            actions.extend((1..most).filter(|_| left.kills > 0).map(&killed));
            actions.extend((writes && left.late_records > 0).then(|| killed(u8::MAX)));
        }
    }
}

/// What happens in a world.
pub trait Happens: World {
    /// The state after an action, `None` when it makes no difference.
    fn after_action(&self, last: &State<Self::Kinds>, action: ActionOf<Self>) -> Option<State<Self::Kinds>> {
        let mut s = last.clone();
        match action {
            Action::To(happening) => self.happen(&mut s, happening)?,
            Action::CutOff(n) => {
                s.left.cuts -= 1;
                s.nodes[n].connected = false;
                self.node_is_cut_off(&mut s, n);
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
            Action::LateRecord => {
                let late = s.late.take()?;
                let (before, record) = &*late;
                if self.overwrites_records() || s.record.as_deref() == before.as_ref() {
                    s.record = Some(Shared::new(record.clone()));
                }
            }
            Action::Monitor(n) => drop(self.run(&mut s, n, None, Cut::Nowhere, Self::NOW)),
            Action::MonitorKilled(n, effects) => {
                let cut = s.left.killed(effects);
                self.run(&mut s, n, None, cut, Self::NOW);
            }
            Action::Plan(n) => {
                s.left.promotions -= 1;
                s.left.moves -= u8::from(s.promoted.is_some_and(|p| Self::serves(&s.cluster, p)));
                self.plan(&mut s, Some(n));
            }
            Action::PlanStart(n) => self.plan_start(&mut s, n),
            Action::PlanRestart(n) => {
                s.left.restarts -= u8::from(Self::serves(&s.cluster, n));
                self.plan_restart(&mut s, n);
            }
            Action::PlanStop(n) => {
                s.left.stops -= 1;
                self.plan_stop(&mut s, n);
            }
            Action::Run(op) if self.stepwise() && op.kind == Kind::Promote => self.set_out(&mut s, op),
            Action::Run(op) if !s.nodes[op.node].connected => self.ended(&mut s, op, false),
            Action::Run(op) => self.perform(&mut s, op, Cut::Nowhere, Self::NOW),
            Action::RunKilled(op, effects) => {
                let cut = s.left.killed(effects);
                self.perform(&mut s, op, cut, Self::NOW);
            }
            Action::Lost(op) => {
                s.left.lost_notifications -= 1;
                self.ended(&mut s, op, false);
            }
            Action::Proceed => self.proceed(&mut s),
        }
        self.forget_what_makes_no_difference(&mut s);
        (s != *last).then_some(s)
    }

    /// What has happened before the beginning.
    fn happened(&self, s: &mut State<Self::Kinds>, actions: &[ActionOf<Self>]) {
        for action in actions {
            *s = self.after_action(s, *action).unwrap();
        }
    }
}

impl<W: World> Happens for W {}

fn is_promise(property: &str) -> bool {
    !property.starts_with(char::is_lowercase)
}

fn told<W: World>(path: Path<State<W::Kinds>, ActionOf<W>>, separator: &str) -> String {
    path.into_actions().iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(separator)
}

/// Goes through all states of a world, and returns how many there are.
///
/// # Panics
/// When a property does not hold: with what led there.
pub fn check<W: World>(world: W) -> usize {
    let begin = Instant::now();
    let checker = Checked(world).checker().threads(1).spawn_bfs().join();
    let model = checker.model();
    println!("{} states, depth {}, {:?}: {:?}", checker.unique_state_count(), checker.max_depth(), begin.elapsed(), model.budget());
    for (property, path) in checker.discoveries() {
        if is_promise(property) {
            let last = path.last_state().clone();
            panic!("{property}: {}\n{last:?}\n{:?}", told::<W>(path, "\n"), model.comes_back(&last));
        }
    }
    checker.assert_properties();
    checker.unique_state_count()
}

/// What goes wrong in a world without a rule, by the first two letters of the property.
///
/// # Panics
/// When nothing does.
pub fn counterexample<W: World>(without: impl Debug, world: W) -> String {
    let checker = Checked(world).checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    // One state may break two.
    let found = checker.discoveries().into_iter().filter(|(property, _)| is_promise(property)).min_by_key(|(property, _)| *property);
    let states = checker.unique_state_count();
    let Some((property, path)) = found else { panic!("without {without:?} nothing goes wrong in {states} states: is the rule needed?") };
    println!("without {without:?}: {property} ({states} states): {}", told::<W>(path, ", "));
    property[..2].to_owned()
}
