//! What is checked, within which bounds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper panics to fail the test")]

use stateright::{Checker, HasDiscoveries, Model as _};

use super::operations::Courses;
use super::world::params;
use super::{Action, Budget, Cut, Kind, Memory, NODES, NOW, State, Without, World};

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
        courses: Courses::default(),
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
    for action in [Action::Write(0), Action::Deliver(1), Action::Crash(0, false)] {
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
    for action in [Action::Write(1), Action::Deliver(0), Action::Crash(1, false)] {
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
