//! The cluster's tools fail, hang or are gone: an action still answers in its time, and stop still stops.

use std::time::Duration;

use testkit::{Group, Lists};

use crate::shared::tools::FAULTS;

/// Longer than nothing, shorter than a tool's own limit.
const TIMEOUT: Duration = Duration::from_secs(6);

promised!(tools(TIMEOUT): monitor_answers, monitor_of_a_cold_server_answers, monitor_of_a_dead_server_answers, stop_stops);
promised!(tools(TIMEOUT): demote_demotes, promote_fails_closed);
promised!(tools(): a_record_that_reads_otherwise_opens_nothing);
promised!(tools("epoch=2 node=b"): a_promotion_whose_record_cannot_be_written_stays_closed_and_can_be_repeated);

/// Somebody opened the gate of a replica, which changes nothing as long as it is one.
#[test]
fn the_gate_is_closed_before_the_role_changes() {
    let group = Group::established(&["a", "b"]);
    group.node("a").kill_server();
    let lists = Lists::promoting("b", &["b"]);
    group.before_promotion(&lists);
    group.node("b").ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    group.cluster.behave("case \"$*\" in *crm_config*nvpair*) exit 112;; esac");
    group.node("b").agent().lists(&lists, group.spelling).run("promote").expect(&[1]);
    assert_eq!(group.writable(), Vec::<&str>::new());
}

#[test]
fn start_starts_when_tools_fail() {
    let group = Group::of(&["a"]);
    group.cluster.behave(FAULTS[0].1);
    let node = group.node("a");
    let answer = node.agent().timeout(TIMEOUT).run("start");
    answer.expect(&[0, 1]);
    if answer.status == 1 {
        assert!(!answer.reason().is_empty());
        node.agent().run("stop").ok();
        assert!(node.servers().is_empty());
    }
}

#[test]
fn start_answers_in_time_when_tools_hang() {
    let group = Group::of(&["a"]);
    group.cluster.behave(FAULTS[1].1);
    let node = group.node("a");
    let answer = node.agent().timeout(TIMEOUT).run("start");
    assert!(answer.counted < TIMEOUT, "{answer:?}");
    node.agent().timeout(TIMEOUT).run("stop").ok();
    assert!(node.servers().is_empty());
}
