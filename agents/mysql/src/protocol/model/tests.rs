//! What is checked, within which bounds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper panics to fail the test")]

use ocf::{Operation, Phase};
use stateright::{Checker, HasDiscoveries, Model as _};

use super::operations::Courses;
use super::world::{Told, params};
use super::{Action, Budget, Cut, Kind, Loss, NOW, State, Without, World};
use crate::gtid::Flavour;

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

fn world(flavour: Flavour, budget: Budget) -> World {
    World {
        budget,
        without: Without::Nothing,
        flavour,
        servers: 3,
        cuts_tails: false,
        stepwise: false,
        prelude: |_, _| {},
        params: params(&[]),
        careless: params(&[("durability", "async-allowed")]),
        told: Told::by(flavour, 1),
        courses: Courses::default(),
    }
}

fn mysql(budget: Budget) -> World {
    world(Flavour::MySql, budget)
}

fn mariadb(budget: Budget) -> World {
    world(Flavour::MariaDb, budget)
}

/// Nothing happens: what does is added.
const QUIET: Budget = Budget {
    writes: 1,
    errant: 0,
    crashes: 0,
    losses: 0,
    promotions: 1,
    moves: 0,
    restarts: 0,
    kills: 0,
    cuts: 0,
    lost_notifications: 0,
    late_records: 0,
    forgotten: 0,
    durabilities: 0,
    breaks: 0,
    stops: 0,
};

/// Somebody crashes.
const CRASH: Budget = Budget { crashes: 1, ..QUIET };

/// What happened before.
fn after(world: &World, s: &mut State, actions: &[Action]) {
    for action in actions {
        *s = world.next_state(s, *action).unwrap();
    }
}

/// b alone has acknowledged a write, and loses it in a crash.
fn what_was_acknowledged_is_lost_on_b(world: &World, s: &mut State) {
    after(world, s, &[Action::Write(0), Action::Deliver(1), Action::AcknowledgementArrives(0, 1), Action::Crash(1, Loss::Relay)]);
}

/// The same, and the acknowledgement is on its way.
fn what_b_has_lost_is_being_acknowledged(world: &World, s: &mut State) {
    after(world, s, &[Action::Write(0), Action::Deliver(1), Action::Crash(1, Loss::Relay)]);
}

/// The tool of a candidate was killed, c was promoted instead, and everybody follows it.
fn a_record_is_on_its_way(world: &World, s: &mut State) {
    after(world, s, &[Action::Crash(0, Loss::Nothing)]);
    promote_cut(world, s, 1, Cut::AtRecord);
    world.plan(s, Some(2));
    world.finish(s, NOW, &mut String::new());
    world.settle(s, NOW);
}

/// Promotes a node whose agent is killed meanwhile.
fn promote_cut(world: &World, s: &mut State, n: usize, cut: Cut) {
    world.plan(s, Some(n));
    while let Some(op) = s.transition.first().and_then(|stage| stage.first()).copied() {
        world.perform(s, op, if op.kind == Kind::Promote { cut } else { Cut::Nowhere }, NOW);
    }
}

/// c hears nothing of it that a dies and reigns again.
fn a_reigns_again_unheard_by_c(world: &World, s: &mut State) {
    after(world, s, &[Action::Crash(0, Loss::Nothing)]);
    world.plan(s, Some(0));
    while let Some(op) = s.transition.first().and_then(|stage| stage.first()).copied() {
        let lost = op.node == 2 && matches!(op.kind, Kind::Notify(..));
        if lost { world.ended(s, op, false) } else { world.perform(s, op, Cut::Nowhere, NOW) }
    }
}

/// The role has moved to b once, a alone has what was written since, and b is dead.
fn after_another_election(world: &World, s: &mut State) {
    world.plan(s, Some(1));
    world.finish(s, NOW, &mut String::new());
    world.settle(s, NOW);
    after(world, s, &[Action::Write(1), Action::Deliver(0), Action::AcknowledgementArrives(1, 0), Action::Crash(1, Loss::Nothing)]);
}

/// a was demoted, nobody was promoted in its place, and it is promoted again.
fn a_is_promoted_again(world: &World, s: &mut State) {
    promote_cut(world, s, 1, Cut::After(0));
    world.plan(s, Some(0));
    world.finish(s, NOW, &mut String::new());
}

/// b alone has a write, cannot apply it, and has resigned.
fn who_has_it_resigns(world: &World, s: &mut State) {
    after(world, s, &[Action::Write(0), Action::Deliver(1), Action::AcknowledgementArrives(0, 1)]);
    b_resigns(world, s);
}

fn b_resigns(world: &World, s: &mut State) {
    after(world, s, &[Action::Break(1)]);
    for _ in 0..3 {
        world.run(s, 1, None, Cut::Nowhere, NOW);
    }
}

/// b has resigned, the record was rewritten for c since, and b is in order again.
fn b_resigned_once(world: &World, s: &mut State) {
    b_resigns(world, s);
    world.plan_restart(s, 2);
    world.finish(s, NOW, &mut String::new());
    after(world, s, &[Action::Mend(1)]);
    world.run(s, 1, None, Cut::Nowhere, NOW);
}

/// The same, and its agent was killed before it could say that it acknowledges.
fn b_acknowledges_and_cannot_say_so(world: &World, s: &mut State) {
    b_resigned_once(world, s);
    let (most, _) = world.traces(s, 1, None);
    let killed = |k| {
        let mut s = s.clone();
        world.run(&mut s, 1, None, Cut::After(k), NOW);
        s
    };
    let acknowledges = |s: &State| s.server(1).is_some_and(|server| server.acknowledges && server.receiver);
    *s = (1..most).map(killed).find(acknowledges).unwrap();
}

/// The same as before, and b runs again.
fn what_b_has_lost_is_being_acknowledged_when_it_runs(world: &World, s: &mut State) {
    what_b_has_lost_is_being_acknowledged(world, s);
    world.plan_restart(s, 1);
    while let Some(op) = s.transition.first().and_then(|stage| stage.first()).copied().filter(|op| op.kind != Kind::Notify(Phase::Post, Operation::Start)) {
        world.perform(s, op, Cut::Nowhere, NOW);
    }
}

/// c is no member, asks to be one, and the record with it is on its way when b is recorded anew.
fn a_join_is_on_its_way(world: &World, s: &mut State) {
    world.plan_stop(s, 2);
    world.finish(s, NOW, &mut String::new());
    world.run(s, 0, None, Cut::Nowhere, NOW);
    world.plan_start(s, 2);
    while let Some(op) = s.transition.first().and_then(|stage| stage.first()).copied() {
        world.perform(s, op, if op.node == 0 && op.kind == Kind::Notify(Phase::Post, Operation::Start) { Cut::AtRecord } else { Cut::Nowhere }, NOW);
    }
}

fn explored(without: Without, world: World) {
    let begin = std::time::Instant::now();
    let world = World { without, ..world };
    let first = world.init_states().remove(0);
    println!("begins with {}", brief(&first));
    let checker = world.checker().threads(1);
    let most = std::env::var("MOST").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let checker = checker.target_state_count(most);
    let checker = if std::env::var("ALL").is_ok() { checker } else { checker.finish_when(HasDiscoveries::AnyFailures) };
    let checker = checker.spawn_bfs().join();
    println!("EXPLORED {} states of {}, depth {}, {:?}", checker.unique_state_count(), checker.state_count(), checker.max_depth(), begin.elapsed());
    for (property, path) in checker.discoveries() {
        println!("  {property}");
        if property.starts_with(char::is_uppercase) {
            let mut s = first.clone();
            for action in path.into_actions() {
                s = checker.model().next_state(&s, action).unwrap();
                println!("    {action:?}: {}", brief(&s));
            }
            if property.starts_with('L') {
                println!("{:?}", checker.model().comes_back(&s));
            }
        }
    }
}

fn brief(s: &State) -> String {
    let mut text = s.record.as_ref().map_or_else(|| "no record".to_owned(), |r| r.to_string());
    if let Some(late) = &s.late {
        text += &format!(" LATE {}", late.1);
    }
    text += &format!(" promoted {:?} seen {:b} {:?}", s.promoted, s.seen, s.transition.first().map(|stage| stage.iter().map(|op| (op.node, op.kind)).collect::<Vec<_>>()));
    for (n, node) in s.nodes.iter().enumerate() {
        let m = &node.memory;
        text += &format!("\n      {}{}{}: {:?} | {:?} {:?} record {} following {:?} acks {} {:?} reign {:?} claim {} rested {:?} leaving {:?} joining {:?} broken {} | {:?} | {:?} | {:?}", super::name(n), if node.alive { "" } else { " DEAD" }, if node.connected { "" } else { " CUT" },
            node.server, m.memory.acknowledging.as_ref().map(|a| format!("{} {}", a.stamp, a.mark)), m.memory.not_before.map(|s| s.to_string()), m.record.as_ref().map_or_else(String::new, |r| r.stamp().to_string()), m.following, m.acknowledges, m.promoted, m.reign.as_ref().map(|r| (r.epoch, r.stage)), m.claim.as_ref().map_or_else(String::new, |r| r.stamp().to_string()), m.rested, m.leaving, m.joining, m.broken_for,
            node.position.as_ref().map(|p| p.print()), node.membership.as_ref().map(|p| p.print()), node.score);
    }
    text
}

#[test]
#[ignore = "by hand"]
fn explore() {
    for line in std::env::var("MODEL").unwrap().split(';') {
        println!("=== {line}");
        let mut world = mysql(Budget { writes: 0, promotions: 0, ..QUIET });
        let mut without = Without::Nothing;
        for word in line.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, "1"));
            let number = || value.parse::<u8>().unwrap();
            let b = &mut world.budget;
            match key {
                "mysql" => {}
                "mariadb" => world = World { budget: *b, ..mariadb(*b) },
                "stepwise" => world.stepwise = true,
                "tails" => world.cuts_tails = true,
                "two" => {
                    let careless = params(&[("acknowledgements", "2"), ("durability", "async-allowed")]);
                    world = World { servers: 4, params: params(&[("acknowledgements", "2")]), careless, told: Told::by(Flavour::MySql, 2), ..world };
                }
                "writes" => b.writes = number(),
                "errant" => b.errant = number(),
                "crashes" => b.crashes = number(),
                "losses" => b.losses = number(),
                "promotions" => b.promotions = number(),
                "moves" => b.moves = number(),
                "restarts" => b.restarts = number(),
                "kills" => b.kills = number(),
                "cuts" => b.cuts = number(),
                "lost" => b.lost_notifications = number(),
                "late" => b.late_records = number(),
                "forgotten" => b.forgotten = number(),
                "durabilities" => b.durabilities = number(),
                "breaks" => b.breaks = number(),
                "stops" => b.stops = number(),
                "crash" => (b.writes, b.crashes, b.promotions) = (1, 1, 1),
                "prelude" => {
                    world.prelude = match value {
                        "lost" => what_was_acknowledged_is_lost_on_b,
                        "ack" => what_b_has_lost_is_being_acknowledged,
                        "record" => a_record_is_on_its_way,
                        "unheard" => a_reigns_again_unheard_by_c,
                        "round" => after_another_election,
                        "again" => a_is_promoted_again,
                        "resigns" => who_has_it_resigns,
                        "resigned" => b_resigned_once,
                        "ack2" => what_b_has_lost_is_being_acknowledged_when_it_runs,
                        "cannotsay" => b_acknowledges_and_cannot_say_so,
                        "join" => a_join_is_on_its_way,
                        _ => panic!(),
                    }
                }
                "without" => {
                    let all = [
                        Without::Quorum,
                        Without::Drain,
                        Without::CompareAndSwap,
                        Without::NewRecordAfterStart,
                        Without::WaitingCommits,
                        Without::StampOfResignation,
                        Without::Barrier,
                        Without::NewEpochAfterDemotion,
                        Without::MemoryOfAcknowledging,
                        Without::ErrantRule,
                        Without::Unheard,
                        Without::Round,
                    ];
                    without = *all.iter().find(|w| format!("{w:?}") == value).unwrap();
                }
                other => panic!("{other}"),
            }
        }
        explored(without, world);
    }
}

#[test]
fn a_crash_loses_nothing() {
    check(mysql(CRASH));
    check(mariadb(Budget { losses: 1, ..CRASH }));
}
