//! What is checked, within which bounds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper panics to fail the test")]

use model::{Action, Budget, Courses, Cut, Happens as _, Kind, Op, Operations as _, World as _, check, counterexample};
use ocf::{Operation, Phase};

use super::world::{Told, params};
use super::{Happening, Loss, State, Without, World};
use crate::gtid::Flavour;

fn world(flavour: Flavour, budget: Budget) -> World {
    World {
        budget,
        without: Without::Nothing,
        flavour,
        servers: 3,
        cuts_tails: false,
        relaxed: false,
        stepwise: false,
        copies: false,
        prelude: |_, _| {},
        params: params(&[]),
        careless: params(&[("durability", "async-allowed")]),
        told: Told::by(flavour, 1),
        courses: Courses::default(),
    }
}

/// A world in which nothing happens.
pub(super) fn quiet(flavour: Flavour) -> World {
    world(flavour, QUIET)
}

fn mysql(budget: Budget) -> World {
    world(Flavour::MySql, budget)
}

fn mariadb(budget: Budget) -> World {
    world(Flavour::MariaDb, budget)
}

/// Four servers, and each write is on three of them.
fn two_acknowledgements(budget: Budget) -> World {
    let two = ("acknowledgements", "2");
    let careless = params(&[two, ("durability", "async-allowed")]);
    World { servers: 4, params: params(&[two]), careless, told: Told::by(Flavour::MySql, 2), ..mysql(budget) }
}

/// Servers that take back what nobody was told of.
fn rewinding(world: World) -> World {
    let rejoin = ("rejoin", "rewind");
    World { params: params(&[rejoin]), careless: params(&[rejoin, ("durability", "async-allowed")]), ..world }
}

/// A server that was lost comes back.
const RETURNS: Budget = Budget { restarts: 1, ..Budget::NOTHING };

/// Nothing happens: what does is added.
const QUIET: Budget = Budget { writes: 1, ..Budget::NOTHING };

/// Somebody crashes, and somebody else is promoted.
const CRASH: Budget = Budget { crashes: 1, promotions: 1, ..QUIET };

/// The role moves.
const MOVE: Budget = Budget { promotions: 1, moves: 1, ..QUIET };

#[test]
fn a_crash_loses_nothing() {
    check(mysql(CRASH));
    check(mariadb(Budget { losses: 1, ..CRASH }));
    // Whatever happens during a promotion.
    check(World { stepwise: true, ..mysql(CRASH) });
}

#[test]
fn a_killed_agent_loses_nothing() {
    check(mysql(Budget { kills: 1, writes: 0, ..MOVE }));
    check(mysql(Budget { kills: 1, writes: 0, ..CRASH }));
}

#[test]
fn a_late_record_loses_nothing() {
    check(mysql(Budget { late_records: 1, promotions: 2, writes: 0, ..CRASH }));
    check(World { prelude: a_record_is_on_its_way, ..mysql(CRASH) });
    check(World { prelude: a_join_is_on_its_way, ..mariadb(Budget { writes: 0, ..CRASH }) });
}

#[test]
fn a_replica_that_lost_what_it_acknowledged_loses_nothing() {
    check(World { prelude: what_was_acknowledged_is_lost_on_b, ..mariadb(Budget { writes: 0, ..CRASH }) });
    check(World { prelude: who_has_it_breaks, ..mariadb(Budget { writes: 0, ..CRASH }) });
}

#[test]
fn members_come_and_go_without_a_loss() {
    check(mysql(Budget { restarts: 1, ..QUIET }));
    check(mariadb(Budget { restarts: 1, ..QUIET }));
    check(mysql(Budget { stops: 1, ..QUIET }));
    check(mysql(Budget { breaks: 1, ..QUIET }));
    check(World { prelude: who_has_it_resigns, ..mysql(Budget { writes: 0, ..CRASH }) });
}

#[test]
fn a_cut_off_node_loses_nothing() {
    check(World { prelude: b_has_acknowledged, ..mysql(Budget { cuts: 1, writes: 0, crashes: 0, ..CRASH }) });
}

#[test]
fn errant_transactions_stay_where_they_are() {
    check(mysql(Budget { errant: 1, writes: 0, ..MOVE }));
    check(mariadb(Budget { errant: 1, writes: 0, ..MOVE }));
}

#[test]
fn a_server_that_loses_its_newest_transactions_loses_nothing_that_was_seen() {
    check(World { cuts_tails: true, ..mysql(CRASH) });
}

#[test]
fn a_primary_whose_memory_is_lost_reigns_on() {
    check(mysql(Budget { forgotten: 1, ..QUIET }));
    check(mariadb(Budget { forgotten: 1, ..QUIET }));
    check(World { prelude: a_has_forgotten, ..mysql(CRASH) });
}

#[test]
fn a_change_of_the_durability_loses_nothing() {
    check(mysql(Budget { durabilities: 1, ..QUIET }));
    check(mariadb(Budget { durabilities: 1, ..QUIET }));
}

#[test]
fn two_acknowledgements_survive_two_servers() {
    check(World { prelude: b_and_c_have_acknowledged, ..two_acknowledgements(Budget { writes: 0, ..CRASH }) });
}

/// On MySQL a barrier pushes it on; on MariaDB its client is told that all is well, since the replica has said what it holds.
#[test]
fn a_commit_that_was_received_before_it_could_be_acknowledged_does_not_wait_for_ever() {
    for flavour in [Flavour::MySql, Flavour::MariaDb] {
        let world = world(flavour, QUIET);
        let s = &mut world.beginning();
        world.plan_stop(s, 2);
        world.finish(s, World::NOW, &mut String::new());
        world.run(s, 0, None, Cut::Nowhere, World::NOW);
        world.plan_restart(s, 1);
        while let Some(op) = s.next_operation().filter(|op| op.kind != Kind::Notify(Phase::Post, Operation::Start)) {
            world.perform(s, op, Cut::Nowhere, World::NOW);
        }
        happened(&world, s, &[Happening::Write(0), Happening::Deliver(1)]);
        assert_eq!((s.seen, s.server(0).unwrap().pending), (0b01, 0b10), "{flavour:?}: {s:?}");
        world.finish(s, World::NOW, &mut String::new());
        for n in [1, 0, 0] {
            world.run(s, n, None, Cut::Nowhere, World::NOW);
        }
        assert_eq!((s.seen, s.server(0).unwrap().pending), (0b11, 0), "{flavour:?}: {s:?}");
    }
}

#[test]
fn what_is_taken_back_nobody_was_told_of() {
    check(rewinding(mysql(CRASH)));
    check(rewinding(World { prelude: a_alone_was_told, ..mysql(RETURNS) }));
    check(rewinding(World { prelude: somebody_writes_on_dead_a, ..mariadb(RETURNS) }));
}

/// Clients are told when a replica has acknowledged, and who is elected holds what that one holds: what the disk of a dead primary lost changes
/// nothing of that (decision 0042, "Relaxed disks").
#[test]
fn what_is_taken_back_nobody_was_told_of_though_disks_lose_what_they_acknowledged() {
    // Who has lost what it wrote itself follows when its data are the primary's again.
    let relaxed = |world| rewinding(World { relaxed: true, copies: true, ..world });
    check(relaxed(mysql(CRASH)));
    check(relaxed(mariadb(Budget { losses: 1, ..CRASH })));
    check(relaxed(World { prelude: a_site_loses_its_power, ..mysql(CRASH) }));
}

/// Hours, and gigabytes: `cargo test --release -p systole-mysql -- --ignored larger`.
#[test]
#[ignore = "takes hours"]
fn larger_bounds_lose_nothing() {
    check(mysql(Budget { kills: 1, ..MOVE }));
    check(mysql(Budget { kills: 1, ..CRASH }));
    check(mariadb(Budget { kills: 1, losses: 1, ..CRASH }));
    check(mysql(Budget { cuts: 1, crashes: 0, ..CRASH }));
    check(mysql(Budget { cuts: 1, ..CRASH }));
    check(mysql(Budget { lost_notifications: 1, ..CRASH }));
    check(mysql(Budget { crashes: 2, promotions: 2, ..CRASH }));
    check(mysql(Budget { late_records: 1, promotions: 2, ..CRASH }));
    check(mysql(Budget { forgotten: 1, ..MOVE }));
    check(mysql(Budget { forgotten: 1, ..CRASH }));
    check(mysql(Budget { durabilities: 2, ..QUIET }));
    check(mariadb(Budget { durabilities: 2, ..QUIET }));
    // A replica that is no member may have received a write that is acknowledged by nobody, and then a member is promoted that has not.
    check(World { copies: true, ..mysql(Budget { breaks: 1, ..CRASH }) });
    check(World { copies: true, ..mysql(Budget { stops: 1, ..CRASH }) });
    check(World { copies: true, ..mariadb(Budget { restarts: 1, ..CRASH }) });
    check(mysql(Budget { errant: 1, ..MOVE }));
    check(two_acknowledgements(CRASH));
    check(World { prelude: what_b_lost_is_being_acknowledged, ..mysql(Budget { writes: 0, ..CRASH }) });
    check(World { prelude: a_is_promoted_again, ..mysql(Budget { lost_notifications: 1, ..CRASH }) });
    check(World { stepwise: true, ..mysql(Budget { kills: 1, ..CRASH }) });
}

/// Something happened to the servers.
fn happened(world: &World, s: &mut State, happenings: &[Happening]) {
    world.happened(s, &happenings.iter().copied().map(Action::To).collect::<Vec<_>>());
}

/// Promotes a node whose agent is killed meanwhile.
fn promote_and_kill(world: &World, s: &mut State, n: usize, cut: Cut) {
    world.plan(s, Some(n));
    while let Some(op) = s.next_operation() {
        world.perform(s, op, if op.kind == Kind::Promote { cut } else { Cut::Nowhere }, World::NOW);
    }
}

/// b alone has what a client saw.
fn b_has_acknowledged(world: &World, s: &mut State) {
    happened(world, s, &[Happening::Write(0), Happening::Deliver(1), Happening::AcknowledgementArrives(0, 1)]);
}

/// b acknowledged a write and kept it, and all others lost what they had last.
fn a_site_loses_its_power(world: &World, s: &mut State) {
    b_has_acknowledged(world, s);
    happened(world, s, &[Happening::Crash(0, Loss::Newest), Happening::Crash(1, Loss::Nothing), Happening::Crash(2, Loss::Newest)]);
    for n in [0, 1, 2] {
        world.plan_restart(s, n);
        world.finish(s, World::NOW, &mut String::new());
    }
    world.plan(s, Some(1));
    world.finish(s, World::NOW, &mut String::new());
    world.settle(s, World::NOW);
    assert_eq!(s.promoted, Some(1), "{s:?}");
}

fn b_and_c_have_acknowledged(world: &World, s: &mut State) {
    let arrive = [Happening::AcknowledgementArrives(0, 1), Happening::AcknowledgementArrives(0, 2)];
    happened(world, s, &[Happening::Write(0), Happening::Deliver(1), Happening::Deliver(2), arrive[0], arrive[1]]);
}

/// Its disk has lost what clients were told of, and b reigns.
fn a_has_lost_what_it_wrote(world: &World, s: &mut State) {
    happened(world, s, &[Happening::Write(0), Happening::Deliver(1), Happening::Deliver(2), Happening::AcknowledgementArrives(0, 1)]);
    happened(world, s, &[Happening::Crash(0, Loss::Newest)]);
    world.plan(s, Some(1));
    world.finish(s, World::NOW, &mut String::new());
    world.settle(s, World::NOW);
    assert_eq!(s.promoted, Some(1), "{s:?}");
}

/// The memory beside the primary is lost, and its next monitor takes it over.
fn a_has_forgotten(world: &World, s: &mut State) {
    world.happened(s, &[Action::Forget(0), Action::Monitor(0)]);
    assert!(s.nodes[0].memory.promoted(), "{s:?}");
}

/// b alone has acknowledged a write, and loses it in a crash.
fn what_was_acknowledged_is_lost_on_b(world: &World, s: &mut State) {
    b_has_acknowledged(world, s);
    happened(world, s, &[Happening::Crash(1, Loss::Relay)]);
}

/// The same, and the acknowledgement is still on its way when b runs again.
fn what_b_lost_is_being_acknowledged(world: &World, s: &mut State) {
    happened(world, s, &[Happening::Write(0), Happening::Deliver(1), Happening::Crash(1, Loss::Relay)]);
    world.plan_restart(s, 1);
    while let Some(op) = s.next_operation().filter(|op| op.kind != Kind::Notify(Phase::Post, Operation::Start)) {
        world.perform(s, op, Cut::Nowhere, World::NOW);
    }
}

/// The tool of a candidate was killed, c was promoted instead, and everybody follows it.
fn a_record_is_on_its_way(world: &World, s: &mut State) {
    happened(world, s, &[Happening::Crash(0, Loss::Nothing)]);
    promote_and_kill(world, s, 1, Cut::AtRecord);
    world.plan(s, Some(2));
    world.finish(s, World::NOW, &mut String::new());
    world.settle(s, World::NOW);
}

/// c is no member, and the record that it enters with is on its way. Then b lost what it alone had acknowledged, and is recorded anew.
fn a_join_is_on_its_way(world: &World, s: &mut State) {
    let is_notified = |op: &Op| op.kind == Kind::Notify(Phase::Post, Operation::Start);
    world.plan_stop(s, 2);
    world.finish(s, World::NOW, &mut String::new());
    world.run(s, 0, None, Cut::Nowhere, World::NOW);
    world.plan_start(s, 2);
    world.finish(s, World::NOW, &mut String::new());
    world.run(s, 2, None, Cut::Nowhere, World::NOW);
    world.run(s, 0, None, Cut::AtRecord, World::NOW);
    assert!(s.late.is_some(), "{s:?}");
    what_was_acknowledged_is_lost_on_b(world, s);
    world.plan_restart(s, 1);
    while let Some(op) = s.next_operation().filter(|op| op.node == 0 || !is_notified(op)) {
        world.perform(s, op, Cut::Nowhere, World::NOW);
    }
}

/// a acknowledges by itself, since an operator allowed that, its node is lost, and c is promoted.
fn a_alone_was_told(world: &World, s: &mut State) {
    happened(world, s, &[Happening::ChangeDurability]);
    world.finish(s, World::NOW, &mut String::new());
    world.settle(s, World::NOW);
    world.happened(s, &[Action::To(Happening::Write(0)), Action::CutOff(0), Action::Fence(0)]);
    promote_c(world, s);
    assert!(s.told_alone != 0 && s.promoted == Some(2), "{s:?}");
}

/// a dies, somebody writes there, and c is promoted.
fn somebody_writes_on_dead_a(world: &World, s: &mut State) {
    happened(world, s, &[Happening::Crash(0, Loss::Nothing)]);
    s.cluster.start_server(0);
    world.keep_account(&mut s.cluster, 0, true);
    let transaction = super::one(s.cluster.number_of(0));
    s.nodes[0].server.as_mut().unwrap().executed |= transaction;
    s.errant |= transaction;
    promote_c(world, s);
}

fn promote_c(world: &World, s: &mut State) {
    world.plan(s, Some(2));
    world.finish(s, World::NOW, &mut String::new());
    world.settle(s, World::NOW);
}

/// c hears nothing of it that a dies and reigns again.
fn a_reigns_again_unheard_by_c(world: &World, s: &mut State) {
    happened(world, s, &[Happening::Crash(0, Loss::Nothing)]);
    world.plan(s, Some(0));
    while let Some(op) = s.next_operation() {
        if op.node == 2 && matches!(op.kind, Kind::Notify(..)) {
            world.ended(s, op, false);
        } else {
            world.perform(s, op, Cut::Nowhere, World::NOW);
        }
    }
}

/// The role has moved to b once, a alone has what was written since, and b is dead.
fn after_another_election(world: &World, s: &mut State) {
    world.plan(s, Some(1));
    world.finish(s, World::NOW, &mut String::new());
    world.settle(s, World::NOW);
    happened(
        world,
        s,
        &[Happening::Write(1), Happening::Deliver(0), Happening::AcknowledgementArrives(1, 0), Happening::Crash(1, Loss::Nothing)],
    );
}

/// a was demoted, nobody was promoted in its place, and it is promoted again.
fn a_is_promoted_again(world: &World, s: &mut State) {
    promote_and_kill(world, s, 1, Cut::After(0));
    world.plan(s, Some(0));
    world.finish(s, World::NOW, &mut String::new());
}

fn b_resigns(world: &World, s: &mut State) {
    happened(world, s, &[Happening::Break(1)]);
    for _ in 0..3 {
        world.run(s, 1, None, Cut::Nowhere, World::NOW);
    }
}

/// b alone has a write, and its applier has stopped before it.
fn who_has_it_breaks(world: &World, s: &mut State) {
    b_has_acknowledged(world, s);
    happened(world, s, &[Happening::Break(1)]);
}

/// b alone has a write, cannot apply it, and has resigned.
fn who_has_it_resigns(world: &World, s: &mut State) {
    b_has_acknowledged(world, s);
    b_resigns(world, s);
}

/// b resigned, the record was rewritten for c since, and b acknowledges under that one: its agent was killed before it could say so.
fn b_resigned_once(world: &World, s: &mut State) {
    b_resigns(world, s);
    world.plan_restart(s, 2);
    world.finish(s, World::NOW, &mut String::new());
    happened(world, s, &[Happening::Mend(1)]);
    world.run(s, 1, None, Cut::Nowhere, World::NOW);
    let (most, _) = world.traces(s, 1, None);
    let killed = |effects| {
        let mut s = s.clone();
        world.run(&mut s, 1, None, Cut::After(effects), World::NOW);
        s
    };
    let acknowledges = |s: &State| s.server(1).is_some_and(|server| server.acknowledges && server.receiver);
    *s = (1..most).map(killed).find(acknowledges).unwrap();
}

#[test]
fn each_rule_is_missed_when_it_is_left_out() {
    let dies = Budget { writes: 0, ..CRASH };
    let lost = World { prelude: what_was_acknowledged_is_lost_on_b, ..mariadb(dies) };
    let all = [
        (Without::Quorum, mysql(Budget { cuts: 1, ..CRASH }), "I1"),
        (Without::Drain, mysql(MOVE), "I1"),
        (Without::CompareAndSwap, World { prelude: a_record_is_on_its_way, ..mysql(CRASH) }, "I1"),
        (Without::NewRecordAfterStart, lost.clone(), "I1"),
        (Without::MemoryOfAcknowledging, lost, "I1"),
        (Without::WaitingCommits, World { prelude: what_b_lost_is_being_acknowledged, ..mysql(dies) }, "I1"),
        (Without::Barrier, World { prelude: who_has_it_resigns, ..mysql(dies) }, "I1"),
        (Without::StampOfResignation, World { prelude: b_resigned_once, ..mysql(CRASH) }, "I1"),
        (Without::NewEpochAfterDemotion, World { prelude: a_is_promoted_again, ..mysql(Budget { lost_notifications: 1, ..CRASH }) }, "I1"),
        (Without::Unheard, World { prelude: a_reigns_again_unheard_by_c, ..mysql(CRASH) }, "I1"),
        (Without::Round, World { prelude: after_another_election, ..mysql(Budget { lost_notifications: 2, crashes: 0, ..dies }) }, "I1"),
        (Without::Reign, rewinding(World { prelude: a_alone_was_told, ..mysql(RETURNS) }), "T "),
        (Without::Log, rewinding(World { prelude: somebody_writes_on_dead_a, ..mariadb(RETURNS) }), "T "),
        (Without::ErrantRule, mysql(Budget { errant: 1, ..MOVE }), "I3"),
        (Without::LostRule, World { relaxed: true, prelude: a_has_lost_what_it_wrote, ..mariadb(Budget { writes: 0, ..CRASH }) }, "I1"),
    ];
    for (without, world, property) in all {
        assert_eq!(counterexample(without, World { without, ..world }), property, "without {without:?}");
    }
}
