//! The cluster's tools fail, hang or are gone: an action still answers in its time, and stop still stops.

use std::time::Duration;

use testkit::Lists;
use testkit::mysql::{Group, Node};

/// Longer than nothing, shorter than a tool's own limit.
const TIMEOUT: Duration = Duration::from_secs(10);

const FAULTS: [(&str, &str); 2] = [("failing", "echo 'Connection to the cluster failed' >&2; exit 102"), ("hanging", "exec sleep 60")];

/// Breaks the tools in every way, one after the other.
fn with_broken_tools(check: impl Fn(&Group, &str)) {
    for (how, script) in FAULTS {
        let group = Group::established(&["a", "b"]);
        group.cluster.behave(script);
        check(&group, how);
    }
    let group = Group::established(&["a", "b"]);
    group.cluster.remove_tools();
    check(&group, "missing");
}

#[track_caller]
fn in_time(node: &Node, action: &str, statuses: &[i32], how: &str) {
    let answer = node.agent().timeout(TIMEOUT).run(action);
    assert!(answer.counted < TIMEOUT, "tools {how}: {action} took {:?} of {TIMEOUT:?}", answer.elapsed);
    assert!(statuses.contains(&answer.status), "tools {how}: {action} ended with {}: {}", answer.status, answer.stderr);
}

#[test]
fn monitor_answers() {
    with_broken_tools(|group, how| {
        in_time(group.node("a"), "monitor", &[8], how);
        in_time(group.node("b"), "monitor", &[0], how);
        // Again, with what the first could remember.
        in_time(group.node("b"), "monitor", &[0], how);
        // With something to publish, too.
        for name in ["a", "b"] {
            std::fs::remove_file(group.node(name).state().join("systole-db.score")).unwrap_or_default();
        }
        in_time(group.node("a"), "monitor", &[8], how);
        in_time(group.node("b"), "monitor", &[0], how);
    });
}

/// After a cold start the monitor asks the CIB for the record, and need not get it.
#[test]
fn monitor_of_a_cold_server_answers() {
    for (how, script) in FAULTS {
        let group = Group::of(&["a"]);
        group.node("a").start();
        group.cluster.behave(script);
        in_time(group.node("a"), "monitor", &[0], how);
    }
}

#[test]
fn monitor_of_a_dead_server_answers() {
    with_broken_tools(|group, how| {
        group.node("a").kill_server();
        group.node("b").kill_server();
        in_time(group.node("a"), "monitor", &[9], how);
        in_time(group.node("b"), "monitor", &[7], how);
    });
}

#[test]
fn stop_stops() {
    with_broken_tools(|group, how| {
        for name in ["a", "b"] {
            in_time(group.node(name), "stop", &[0], how);
            assert!(group.node(name).servers().is_empty(), "tools {how}: the server of {name} still runs");
        }
    });
}

#[test]
fn demote_demotes() {
    with_broken_tools(|group, how| {
        in_time(group.node("a"), "demote", &[0], how);
        assert_eq!(group.writable(), Vec::<&str>::new(), "tools {how}");
    });
}

#[test]
fn demote_of_a_dead_server_answers() {
    with_broken_tools(|group, how| {
        group.node("a").kill_server();
        in_time(group.node("a"), "demote", &[0, 1], how);
        assert_eq!(group.writable(), Vec::<&str>::new(), "tools {how}");
    });
}

/// What cannot be recorded is not opened.
#[test]
fn promote_fails_closed() {
    with_broken_tools(|group, how| {
        group.node("a").kill_server();
        let lists = Lists::promoting("b", &["b"]);
        let b = group.node("b");
        b.agent().timeout(TIMEOUT).notifying("pre", "promote", &lists, group.spelling).run("notify").ok();
        let answer = b.agent().timeout(TIMEOUT).lists(&lists, group.spelling).run("promote");
        assert!(answer.counted < TIMEOUT, "tools {how}: promote took {:?}", answer.elapsed);
        assert_ne!(answer.status, 0, "tools {how}");
        assert!(!answer.reason().is_empty());
        assert_eq!(group.writable(), Vec::<&str>::new(), "tools {how}");
    });
}

/// The record was not written for lack of quorum: nothing was opened.
#[test]
fn a_promotion_whose_record_cannot_be_written_stays_closed_and_can_be_repeated() {
    let group = Group::established(&["a", "b"]);
    group.node("a").kill_server();
    let lists = Lists::promoting("b", &["b"]);
    group.before_promotion(&lists);
    group.cluster.behave("case \"$*\" in *crm_config*nvpair*) echo 'no quorum' >&2; exit 112;; esac");
    let b = group.node("b");
    let agent = b.agent().lists(&lists, group.spelling);
    agent.run("promote").refused(1, &["no quorum"]);
    assert_eq!(group.writable(), Vec::<&str>::new());
    let between = b.agent().run("monitor");
    assert!(between.status != 8, "it is no primary: {}", between.status);
    group.cluster.behave("");
    group.notify("b", "pre", "promote", &lists);
    agent.run("promote").ok();
    assert_eq!(group.writable(), ["b"]);
    assert!(group.record().starts_with("epoch=2 change=0 node=b"), "{}", group.record());
}

/// The tool said yes and the CIB says otherwise.
#[test]
fn a_record_that_reads_otherwise_opens_nothing() {
    let group = Group::established(&["a", "b"]);
    group.node("a").kill_server();
    let lists = Lists::promoting("b", &["b"]);
    group.before_promotion(&lists);
    group.cluster.behave("case \"$*\" in *crm_config*nvpair*) exit 0;; esac");
    group.node("b").agent().lists(&lists, group.spelling).run("promote").refused(1, &["reads as"]);
    assert_eq!(group.writable(), Vec::<&str>::new());
}

/// A record that cannot be written must not let a replica acknowledge, nor stop the primary.
#[test]
fn a_record_that_cannot_be_rewritten_stops_nothing() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    group.cluster.behave("case \"$*\" in *crm_config*nvpair*) exit 112;; esac");
    let stopped = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], stop: vec!["b"], ..Lists::default() };
    group.node("b").agent().run("stop").ok();
    group.notify("a", "post", "stop", &stopped);
    let record = group.record();
    for _ in 0..2 {
        group.node("a").agent().run("monitor").expect(&[8]);
    }
    assert_eq!(group.record(), record);
    group.node("a").write("goes on").expect("c acknowledges");
}

#[test]
fn start_answers_in_time_and_leaves_nothing_that_stop_does_not_find() {
    for (how, script) in FAULTS {
        let group = Group::of(&["a"]);
        group.cluster.behave(script);
        let node = group.node("a");
        let answer = node.agent().timeout(TIMEOUT).run("start");
        assert!(answer.counted < TIMEOUT, "tools {how}: {answer:?}");
        if answer.status != 0 {
            assert!(!answer.reason().is_empty());
        }
        node.agent().timeout(TIMEOUT).run("stop").ok();
        assert!(node.servers().is_empty());
    }
}
