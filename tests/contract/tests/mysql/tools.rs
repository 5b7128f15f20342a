//! The cluster's tools fail, hang or are gone: an action still answers in its time, and stop still stops.

use std::time::Duration;

use testkit::Lists;
use testkit::mysql::{Group, Server};

use crate::shared::tools::{FAULTS, in_time, with_broken_tools};

/// Longer than nothing, shorter than a tool's own limit.
const TIMEOUT: Duration = Duration::from_secs(10);

promised!(tools(TIMEOUT): monitor_answers, monitor_of_a_cold_server_answers, monitor_of_a_dead_server_answers, stop_stops);
promised!(tools(TIMEOUT): demote_demotes, promote_fails_closed);
promised!(tools(): a_record_that_reads_otherwise_opens_nothing);
promised!(tools("epoch=2 change=0 node=b"): a_promotion_whose_record_cannot_be_written_stays_closed_and_can_be_repeated);

#[test]
fn demote_of_a_dead_server_answers() {
    with_broken_tools::<Server>(|group, how| {
        group.node("a").kill_server();
        in_time(group.node("a"), TIMEOUT, "demote", &[0, 1], how);
        assert_eq!(group.writable(), Vec::<&str>::new(), "tools {how}");
    });
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
