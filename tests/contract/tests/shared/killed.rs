//! What dies half-way: the server, the agent. And what happens twice at once.

use std::time::Duration;

use testkit::{Agent, GroupOf, Kind, NodeOf, Signal, eventually};

pub(crate) fn a_dead_replica_is_not_running<K: Kind>() {
    let node = NodeOf::<K>::alone();
    node.start();
    node.kill_server();
    node.agent().run("monitor").expect(&[7]);
}

pub(crate) fn a_dead_primary_is_a_failed_primary_but_a_probe_finds_nothing<K: Kind>() {
    let node = NodeOf::<K>::alone();
    node.start_promoted();
    node.kill_server();
    node.agent().probing().run("monitor").expect(&[7]);
    node.agent().run("monitor").refused(9, &["gone"]);
    node.agent().run("demote").ok();
    node.agent().run("monitor").expect(&[7]);
    node.agent().run("stop").ok();
}

/// The watcher lowers the score without any monitor, and nothing else does in this time.
pub(crate) fn the_death_of_the_server_lowers_the_score_at_once<K: Kind>() {
    let group = GroupOf::<K>::established(&["a", "b"]);
    assert_eq!(group.node("a").score(), "1000");
    assert_eq!(group.node("a").watchers().len(), 1, "one watcher a server");
    group.node("a").kill_server();
    eventually("the score is lowered", || group.node("a").score() == "-INFINITY");
}

/// Without the watcher the monitor does it, before it reports: after the demotion the scheduler would promote it again.
pub(crate) fn the_monitor_of_a_dead_primary_lowers_the_score<K: Kind>() {
    let group = GroupOf::<K>::established(&["a", "b"]);
    let a = group.node("a");
    a.watchers().iter().for_each(|w| w.signal(Signal::SIGKILL));
    eventually("the watcher is gone", || a.watchers().is_empty());
    a.kill_server();
    assert_eq!(a.score(), "1000");
    a.agent().run("monitor").expect(&[9]);
    assert_eq!(a.score(), "-INFINITY");
}

/// Runs an action and kills the agent after so many microseconds.
pub(crate) fn kill_after(agent: &Agent, action: &str, micros: u64) {
    let running = agent.spawn(action);
    std::thread::sleep(Duration::from_micros(micros));
    running.kill();
}

/// Moments from 0 to `most` microseconds, spread without a pattern.
pub(crate) fn moments(rounds: u64, most: u64) -> impl Iterator<Item = u64> {
    (1..=rounds).map(move |n| n * 7919 * most / 100 % most)
}

pub(crate) fn an_agent_killed_at_any_moment_of_start_is_started_again_to_the_same_end<K: Kind>((rounds, most): (u64, u64)) {
    let node = NodeOf::<K>::alone();
    for micros in moments(rounds, most) {
        kill_after(&node.agent(), "start", micros);
        let answer = node.agent().run("start");
        assert_eq!(answer.status, 0, "start after a start that was killed after {micros} us: {}", answer.stderr);
        node.process();
        node.agent().run("monitor").expect(&[0]);
        let stopped = node.agent().run("stop");
        assert!(stopped.status == 0 && node.servers().is_empty(), "killed after {micros} us, a server survives the stop: {stopped:?}");
    }
}

/// Pacemaker answers a start that failed or timed out with a stop.
pub(crate) fn an_agent_killed_at_any_moment_of_start_leaves_nothing_that_stop_does_not_find<K: Kind>(
    (rounds, most): (u64, u64),
    spawned: Duration,
) {
    let node = NodeOf::<K>::alone();
    for micros in moments(rounds, most) {
        kill_after(&node.agent(), "start", micros);
        node.agent().run("stop").ok();
        // What was just spawned may need a moment to become a server.
        std::thread::sleep(spawned);
        assert!(node.servers().is_empty(), "killed after {micros} us: {:?} survives the stop", node.servers());
    }
}

pub(crate) fn two_starts_at_once_make_one_server<K: Kind>(rounds: u32) {
    for _ in 0..rounds {
        let node = NodeOf::<K>::alone();
        for one in [node.agent().spawn("start"), node.agent().spawn("start")] {
            one.answer().ok();
        }
        node.process();
        node.agent().run("monitor").expect(&[0]);
    }
}

pub(crate) fn two_stops_at_once_both_succeed<K: Kind>() {
    let node = NodeOf::<K>::alone();
    node.start_promoted();
    for one in [node.agent().spawn("stop"), node.agent().spawn("stop")] {
        one.answer().ok();
    }
    assert!(node.servers().is_empty());
}

pub(crate) fn start_and_stop_at_once_end_in_one_of_both<K: Kind>(rounds: u32) {
    for round in 0..rounds {
        let node = NodeOf::<K>::alone();
        let actions = if round % 2 == 0 { ["start", "stop"] } else { ["stop", "start"] };
        for one in actions.map(|action| node.agent().spawn(action)) {
            one.answer().ok();
        }
        let running = node.servers().len();
        assert!(running <= 1, "{:?}", node.servers());
        node.agent().run("monitor").expect(&[if running == 1 { 0 } else { 7 }]);
    }
}

/// A start whose agent hangs holds the lock; the stop that follows its timeout must not wait for it for ever.
pub(crate) fn stop_does_not_wait_for_a_lock_for_longer_than_it_has<K: Kind>(limit: Duration) {
    let node = NodeOf::<K>::alone();
    node.start();
    let lock = node.remembered("lock");
    let mut holder = std::process::Command::new("flock").arg(&lock).args(["sleep", "60"]).spawn().expect("flock is in the image");
    eventually("the lock is held", || {
        !std::process::Command::new("flock").args(["-n", "-x"]).arg(&lock).arg("true").status().unwrap().success()
    });
    let answer = node.agent().timeout(limit).run("stop");
    let _ = holder.kill();
    let _ = holder.wait();
    answer.ok();
    assert!(answer.counted < limit, "{answer:?}");
    assert!(node.servers().is_empty());
}

/// A score that a later start published must not be lowered for the server before it.
pub(crate) fn a_stop_leaves_no_score_and_no_watcher<K: Kind>() {
    let group = GroupOf::<K>::established(&["a", "b"]);
    group.node("b").agent().run("monitor").expect(&[0]);
    group.node("b").agent().run("stop").ok();
    assert!(group.node("b").watchers().is_empty(), "the watcher still runs");
    assert_eq!(group.node("b").score(), "", "the score is withdrawn");
}
