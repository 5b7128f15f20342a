//! What dies half-way: the server, the agent. And what happens twice at once.

use std::time::Duration;

use testkit::mysql::{FAULTY_AGENT, Group, Node};
use testkit::{Agent, Answer, Lists, Signal, eventually};

use crate::shared::killed::{kill_after, moments};

const ALL: &[&str] = &["a", "b", "c"];

promised!(killed(): a_dead_replica_is_not_running, a_dead_primary_is_a_failed_primary_but_a_probe_finds_nothing);
promised!(killed(): the_death_of_the_server_lowers_the_score_at_once, the_monitor_of_a_dead_primary_lowers_the_score);
promised!(killed(): two_stops_at_once_both_succeed, a_stop_leaves_no_score_and_no_watcher);
promised!(killed((8, 600_000)): an_agent_killed_at_any_moment_of_start_is_started_again_to_the_same_end);
promised!(killed((10, 300_000), Duration::from_millis(50)): an_agent_killed_at_any_moment_of_start_leaves_nothing_that_stop_does_not_find);
promised!(killed(3): two_starts_at_once_make_one_server);
promised!(killed(4): start_and_stop_at_once_end_in_one_of_both);
promised!(killed(Duration::from_secs(10)): stop_does_not_wait_for_a_lock_for_longer_than_it_has);

#[test]
fn the_monitor_starts_a_watcher_that_is_missing() {
    let group = Group::established(&["a", "b"]);
    let b = group.node("b");
    b.watchers().iter().for_each(|w| w.signal(Signal::SIGKILL));
    eventually("the watcher is gone", || b.watchers().is_empty());
    for _ in 0..2 {
        b.agent().run("monitor").expect(&[0]);
        // What it starts is one of its name for a moment.
        eventually("there is one watcher", || b.watchers().len() == 1);
    }
}

/// A server that a signal has stopped answers nobody; it is found within seconds, and its demotion ends it.
#[test]
fn a_frozen_server_is_found_within_seconds() {
    let group = Group::established(&["a", "b"]);
    for (name, status) in [("b", 1), ("a", 9)] {
        let node = group.node(name);
        node.process().freeze();
        let answer = node.agent().run("monitor");
        answer.refused(status, &["stuck"]);
        assert!(answer.counted < Duration::from_secs(5), "{name}: {:?}", answer.elapsed);
        assert_eq!(node.score(), "-INFINITY");
    }
    let a = group.node("a");
    let frozen = a.process();
    let answer = a.agent().run("demote");
    answer.ok();
    assert!(answer.counted < Duration::from_secs(8), "{:?}", answer.elapsed);
    assert!(!frozen.is_there(), "a frozen primary wakes up as a primary");
    assert!(!a.is_writable());
    // A frozen replica can be stopped.
    let answer = group.node("b").agent().run("stop");
    answer.ok();
    assert!(group.node("b").servers().is_empty());
}

/// One that holds a lock that our question waits for is no dead one: it is silent and works, or it is silent and does not.
#[test]
fn stop_escalates_in_its_time() {
    let node = Node::alone();
    node.start_promoted();
    node.process().freeze();
    let answer = node.agent().timeout(Duration::from_secs(10)).run("stop");
    answer.ok();
    assert!(answer.counted < Duration::from_secs(10), "{:?}", answer.elapsed);
    assert!(node.servers().is_empty());
}

/// After the crash everything that it said is committed is there, without any cluster around it.
#[test]
fn a_crashed_server_comes_back_with_all_that_it_had_committed() {
    let node = Node::alone();
    node.start_promoted();
    for n in 0..30 {
        node.write(&format!("key {n}")).unwrap();
    }
    let executed = node.executed();
    node.kill_server();
    node.agent().run("stop").ok();
    node.start();
    assert_eq!(node.administer("SELECT COUNT(*) FROM t.k WHERE name LIKE 'key %'").unwrap(), "30");
    assert_eq!(node.executed(), executed);
}

/// Runs an action with the agent that dies at this step.
#[track_caller]
fn dies_at(node: &Node, step: &str, action: &str, with: impl Fn(Agent) -> Agent) -> Answer {
    let file = node.state().join("systole-fault-point");
    std::fs::write(&file, step).unwrap();
    let answer = with(node.agent_at(FAULTY_AGENT).variable("OCF_RESOURCE_TYPE", "mysql")).run(action);
    assert_eq!(answer.status, -6, "{action} did not come to {step}: {}", answer.stderr);
    assert!(!file.exists());
    answer
}

const STEPS_OF_PROMOTE: [&str; 7] =
    ["elected", "drained", "source-forgotten", "waiting-for-replicas", "reign-saved", "recorded", "remembered"];
const STEPS_OF_DEMOTE: [&str; 2] = ["closed", "demotion-remembered"];

/// The three servers on their way through all steps: who is promoted, who is to be the next one, and the third.
type Roles = [&'static str; 3];

const FIRST: Roles = ["a", "b", "c"];

/// The primary writes once more and dies. Answers with what notifications and actions are told of the next one's promotion.
fn dies(group: &Group, [dead, next, other]: Roles, step: &str) -> Lists {
    group.node(dead).write(&format!("before {step}")).unwrap();
    // Without acknowledgements it might be on the primary alone.
    for replica in [next, other] {
        group.wait_caught_up(dead, replica);
    }
    group.node(dead).kill_server();
    let lists = Lists::promoting(next, &[next, other]);
    group.before_promotion(&lists);
    lists
}

/// Who died follows the one who was promoted in the end.
fn comes_back(group: &Group, dead: &'static str, promoted: &'static str, other: &'static str) {
    let lists = Lists { promoted: vec![promoted], unpromoted: vec![other], start: vec![dead], ..Lists::default() };
    group.node(dead).agent().lists(&lists, group.spelling).run("start").ok();
    group.notify_all("post", "start", &lists);
    group.wait_attached(dead);
}

/// Open are this one and nobody else; nothing is lost, and it takes writes.
fn is_the_primary(group: &Group, name: &str, replica: &str, step: &str) {
    assert_eq!(group.writable(), [name], "after {step}");
    assert!(group.node(name).has(&format!("before {step}")), "after {step}");
    assert!(group.record().contains(&format!(" node={name} ")), "after {step}: {}", group.record());
    group.wait_attached(replica);
    let node = group.node(name);
    if node.server.is_lossless() {
        assert_eq!(node.variable(&format!("{}_enabled", node.server.source())), "1", "nobody waits after {step}");
    }
    node.write(&format!("after {step}")).unwrap_or_else(|e| panic!("after {step}: {e}"));
}

/// Its promotion got as far as the claim of an epoch, which another node reigned in then. It does not take that for its own: it would say that
/// it holds everything, and what only the third one has would be lost.
#[test]
fn an_epoch_that_was_claimed_and_never_recorded_is_nobodys() {
    let group = Group::established(ALL);
    let lists = dies(&group, FIRST, "it");
    dies_at(group.node("b"), "reign-saved", "promote", |agent| agent.lists(&lists, group.spelling));
    group.demote("b", &["c"], &["c"]).ok();
    let demoted = Lists { promoted: vec!["b"], unpromoted: vec!["c"], demote: vec!["b"], promote: vec!["c"], ..Lists::default() };
    group.notify_all("post", "demote", &demoted);
    group.promote("c", &["b", "c"]).ok();
    group.node("b").agent().run("monitor").expect(&[0, 190]);
    is_the_primary(&group, "c", "b", "it");
    group.wait_caught_up("c", "b");
    group.node("c").kill_server();
    group.before_promotion(&Lists::promoting("b", &["b"]));
    let log = group.node("b").log();
    let told = log.lines().rfind(|line| line.contains("position for the next promotion: 2.")).unwrap_or_else(|| panic!("{log}"));
    assert!(told.contains("-c||"), "it says that it holds everything: {told}");
}

/// Nobody but a whole promotion opens it, and the same action carried out again comes to its end.
#[test]
fn a_promotion_that_died_at_any_step_is_carried_out_again() {
    let (group, mut roles) = (Group::established(ALL), FIRST);
    for step in STEPS_OF_PROMOTE {
        let [dead, next, other] = roles;
        let lists = dies(&group, roles, step);
        let candidate = group.node(next);
        dies_at(candidate, step, "promote", |agent| agent.lists(&lists, group.spelling));
        assert_eq!(group.writable(), Vec::<&str>::new(), "open after {step}");
        let between = candidate.agent().run("monitor");
        assert_ne!(between.status, 8, "it calls itself a primary after {step}");
        let answer = candidate.agent().lists(&lists, group.spelling).run("promote");
        assert_eq!(answer.status, 0, "promote again after {step}: {}", answer.stderr);
        if ["recorded", "remembered"].contains(&step) {
            // Under the record of the run before, others may have published positions.
            assert!(group.record().contains(" change=1 "), "after {step}: {}", group.record());
        }
        group.notify_all("post", "promote", &lists);
        is_the_primary(&group, next, other, step);
        comes_back(&group, dead, next, other);
        roles = [next, other, dead];
    }
}

/// What Pacemaker does with on-fail=demote: the instance is demoted, and promoted again in another transition.
#[test]
fn a_promotion_that_died_at_any_step_is_demoted_and_promoted_again() {
    let (group, mut roles) = (Group::established(ALL), FIRST);
    for step in STEPS_OF_PROMOTE {
        let [dead, next, other] = roles;
        let lists = dies(&group, roles, step);
        dies_at(group.node(next), step, "promote", |agent| agent.lists(&lists, group.spelling));
        group.demote(next, &[other], &[next]).ok();
        assert_eq!(group.writable(), Vec::<&str>::new(), "open after {step}");
        group.node(next).agent().run("monitor").expect(&[0, 190]);
        let answer = group.promote(next, &[next, other]);
        assert_eq!(answer.status, 0, "promote again after {step} and a demotion: {}", answer.stderr);
        is_the_primary(&group, next, other, step);
        comes_back(&group, dead, next, other);
        roles = [next, other, dead];
    }
}

/// The node of the candidate is lost with it: another one takes over, and nothing is lost.
#[test]
fn a_promotion_that_died_at_any_step_can_be_followed_by_that_of_another() {
    let (group, mut roles) = (Group::established(ALL), FIRST);
    for step in STEPS_OF_PROMOTE {
        let [dead, next, other] = roles;
        let lists = dies(&group, roles, step);
        dies_at(group.node(next), step, "promote", |agent| agent.lists(&lists, group.spelling));
        group.demote(next, &[other], &[other]).ok();
        let lists = Lists { promoted: vec![next], unpromoted: vec![other], demote: vec![next], promote: vec![other], ..Lists::default() };
        group.notify_all("post", "demote", &lists);
        let answer = group.promote(other, &[next, other]);
        assert_eq!(answer.status, 0, "promotion of {other} after {next}'s died at {step}: {}", answer.stderr);
        // The cluster does that after a change of role.
        group.node(next).agent().run("monitor").expect(&[0, 190]);
        is_the_primary(&group, other, next, step);
        comes_back(&group, dead, other, next);
        roles = [other, dead, next];
    }
}

#[test]
fn a_demotion_that_died_at_any_step_is_carried_out_again() {
    let (group, mut roles) = (Group::established(ALL), FIRST);
    for step in STEPS_OF_DEMOTE {
        let [leaving, next, other] = roles;
        let a = group.node(leaving);
        let lists = Lists {
            promoted: vec![leaving],
            unpromoted: vec![next, other],
            demote: vec![leaving],
            promote: vec![next],
            ..Lists::default()
        };
        a.write(&format!("before {step}")).unwrap();
        dies_at(a, step, "demote", |agent| agent.lists(&lists, group.spelling));
        assert_eq!(group.writable(), Vec::<&str>::new(), "{step}");
        a.agent().lists(&lists, group.spelling).run("demote").ok();
        group.notify_all("post", "demote", &lists);
        a.agent().run("monitor").expect(&[0]);
        group.promote(next, ALL).ok();
        group.wait_attached(leaving);
        is_the_primary(&group, next, other, step);
        roles = [next, other, leaving];
    }
}

#[test]
fn an_agent_killed_at_any_moment_of_promote_and_demote_is_run_again() {
    let node = Node::alone();
    node.start();
    for micros in moments(12, 60_000) {
        kill_after(&node.agent(), "promote", micros);
        let open = node.is_writable();
        let status = node.agent().run("monitor").status;
        assert!(!open || status == 8, "promote killed after {micros} us: writes {open}, monitor {status}");
        node.agent().run("promote").ok();
        assert!(node.is_writable());
        node.agent().run("monitor").expect(&[8]);
        kill_after(&node.agent(), "demote", micros);
        node.agent().run("demote").ok();
        assert!(!node.is_writable());
        node.agent().run("monitor").expect(&[0]);
    }
}

#[test]
fn a_monitor_answers_while_a_start_goes_on() {
    let node = Node::alone();
    let starting = node.agent().spawn("start");
    while !node.servers().is_empty() || starting.pid() == 0 {
        let answer = node.agent().run("monitor");
        answer.expect(&[0, 7]);
        assert!(answer.counted < Duration::from_secs(4), "{:?}", answer.elapsed);
        if node.administer("SELECT 1").is_ok() {
            break;
        }
    }
    starting.answer().ok();
}

/// A server that never comes up, and does not end when it is told to, as MariaDB was seen to do in the middle of its start.
fn deaf_server(node: &Node) -> Agent {
    let deaf = node.directory.join("deaf");
    std::fs::write(&deaf, "#!/bin/sh\ntrap '' TERM\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&deaf, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    node.agent().parameter("binary", &deaf).timeout(Duration::from_secs(120))
}

#[test]
fn a_server_that_does_not_come_up_and_does_not_end_is_killed_by_stop() {
    let node = Node::alone();
    let starting = deaf_server(&node).spawn("start");
    std::thread::sleep(Duration::from_secs(2));
    starting.kill();
    let answer = deaf_server(&node).run("stop");
    answer.ok();
    assert!(answer.stderr.contains("did not end within"), "{}", answer.stderr);
    let given = answer.elapsed >= Duration::from_secs(14) && answer.counted < Duration::from_secs(25);
    assert!(given, "{:?}: recovery gets its time, but not all of it", answer.elapsed);
    deaf_server(&node).run("monitor").expect(&[7]);
}

/// Pacemaker stops and starts a dead primary before it promotes the successor when an older failure of it was never cleaned
/// up, or without on-fail=demote. The clients wait for both.
#[test]
fn the_restart_of_a_dead_primary_does_not_keep_its_successor_waiting() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    a.kill_server();
    deaf_server(a).lists(&lists, group.spelling).run("demote").ok();
    let lists = Lists { unpromoted: vec!["a", "b"], stop: vec!["a"], start: vec!["a"], promote: vec!["b"], ..Lists::default() };
    let stop = deaf_server(a).lists(&lists, group.spelling).run("stop");
    stop.ok();
    assert!(stop.counted < Duration::from_secs(2), "{stop:?}");
    let start = deaf_server(a).lists(&lists, group.spelling).run("start");
    start.ok();
    assert!(start.counted < Duration::from_secs(2), "{start:?}");
    deaf_server(a).run("stop").ok();
}
