//! What is checked, within which bounds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper panics to fail the test")]

use model::{Budget, Courses, Cut, Happens as _, Kind, Operations as _, Shared, World as _, check, counterexample};

use super::world::params;
use super::{Action, Happening, NODES, State, Without, World};

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
const QUIET: Budget = Budget { writes: 1, promotions: 1, ..Budget::NOTHING };

/// A world in which nothing happens.
pub(super) fn quiet() -> World {
    world(QUIET)
}

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

/// Something happens to the servers.
fn happened(world: &World, s: &mut State, happenings: &[Happening]) {
    world.happened(s, &happenings.iter().copied().map(Action::To).collect::<Vec<_>>());
}

/// b alone has what was confirmed, and the primary has lost everything.
fn one_replica_has_it(world: &World, s: &mut State) {
    happened(world, s, &[Happening::Write(0), Happening::Deliver(1), Happening::Crash(0, false)]);
}

/// The role has moved to b once; a alone has what was confirmed since, and b has lost everything.
fn after_another_election(world: &World, s: &mut State) {
    world.plan(s, Some(1));
    world.finish(s, World::NOW, &mut String::new());
    world.settle_links(s);
    for n in 0..NODES {
        world.run(s, n, None, Cut::Nowhere, World::NOW);
    }
    happened(world, s, &[Happening::Write(1), Happening::Deliver(0), Happening::Crash(1, false)]);
}

/// The tool of a candidate was killed, c was promoted instead, and everybody follows it.
fn a_record_is_on_its_way(world: &World, s: &mut State) {
    happened(world, s, &[Happening::Crash(0, true)]);
    world.plan(s, Some(1));
    while let Some(op) = s.next_operation() {
        let cut = if op.kind == Kind::Promote { Cut::AtRecord } else { Cut::Nowhere };
        world.perform(s, op, cut, World::NOW);
    }
    world.plan(s, Some(2));
    world.finish(s, World::NOW, &mut String::new());
    world.settle_links(s);
    s.past.crashed = 0;
}

/// Of servers that were never promoted, a alone has data, and has not started yet.
fn one_has_not_started(_: &World, s: &mut State) {
    let node = &mut *s.nodes[0];
    (node.started, node.memory, node.score) = (false, Shared::default(), None);
    (node.server, node.disk, node.position) = (None, vec![0], None);
    s.past.written = 1;
}

/// What goes wrong without a rule.
fn missing(without: Without, world: World) -> String {
    counterexample(without, World { without, ..world })
}

#[test]
fn each_rule_is_missed_when_it_is_left_out() {
    let confirmed = World { prelude: one_replica_has_it, ..world(Budget { cuts: 1, writes: 1, crashes: 1, losses: 1, ..QUIET }) };
    assert_eq!(missing(Without::Confirmations, confirmed.clone()), "I1");
    assert_eq!(missing(Without::Holders, confirmed), "I1");
    let again = Budget { lost_notifications: 1, writes: 1, crashes: 1, losses: 1, ..QUIET };
    assert_eq!(missing(Without::Round, World { prelude: after_another_election, ..world(again) }), "I1");
    let late = Budget { crashes: 1, ..QUIET };
    assert_eq!(missing(Without::CompareAndSwap, World { prelude: a_record_is_on_its_way, ..world(late) }), "I2");
    assert_eq!(missing(Without::Gate, world(Budget { kills: 1, ..CRASH })), "I2");
    let fresh = World { settled: false, prelude: one_has_not_started, ..world(QUIET) };
    assert_eq!(missing(Without::EmptyServers, fresh), "R1");
}
