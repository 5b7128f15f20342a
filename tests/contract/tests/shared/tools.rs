//! The cluster's tools fail, hang or are gone: an action still answers in its time, and stop still stops.

use std::time::Duration;

use testkit::{GroupOf, Kind, Lists, NodeOf};

pub(crate) const FAULTS: [(&str, &str); 2] =
    [("failing", "echo 'Connection to the cluster failed' >&2; exit 102"), ("hanging", "exec sleep 60")];

/// Breaks the tools in every way, one after the other.
pub(crate) fn with_broken_tools<K: Kind>(check: impl Fn(&GroupOf<K>, &str)) {
    for (how, script) in FAULTS {
        let group = GroupOf::<K>::established(&["a", "b"]);
        group.cluster.behave(script);
        check(&group, how);
    }
    let group = GroupOf::<K>::established(&["a", "b"]);
    group.cluster.remove_tools();
    check(&group, "missing");
}

#[track_caller]
pub(crate) fn in_time<K: Kind>(node: &NodeOf<K>, limit: Duration, action: &str, statuses: &[i32], how: &str) {
    let answer = node.agent().timeout(limit).run(action);
    assert!(answer.counted < limit, "tools {how}: {action} took {:?} of {limit:?}", answer.elapsed);
    assert!(statuses.contains(&answer.status), "tools {how}: {action} ended with {}: {}", answer.status, answer.stderr);
}

pub(crate) fn monitor_answers<K: Kind>(limit: Duration) {
    with_broken_tools::<K>(|group, how| {
        in_time(group.node("a"), limit, "monitor", &[8], how);
        in_time(group.node("b"), limit, "monitor", &[0], how);
        // Again, with what the first could remember.
        in_time(group.node("b"), limit, "monitor", &[0], how);
        // With something to publish, too.
        for name in ["a", "b"] {
            std::fs::remove_file(group.node(name).remembered("score")).unwrap_or_default();
        }
        in_time(group.node("a"), limit, "monitor", &[8], how);
        in_time(group.node("b"), limit, "monitor", &[0], how);
    });
}

/// After a cold start the monitor asks the CIB for the record, and need not get it.
pub(crate) fn monitor_of_a_cold_server_answers<K: Kind>(limit: Duration) {
    for (how, script) in FAULTS {
        let group = GroupOf::<K>::of(&["a"]);
        group.node("a").start();
        group.cluster.behave(script);
        in_time(group.node("a"), limit, "monitor", &[0], how);
    }
}

pub(crate) fn monitor_of_a_dead_server_answers<K: Kind>(limit: Duration) {
    with_broken_tools::<K>(|group, how| {
        group.node("a").kill_server();
        group.node("b").kill_server();
        in_time(group.node("a"), limit, "monitor", &[9], how);
        in_time(group.node("b"), limit, "monitor", &[7], how);
    });
}

pub(crate) fn stop_stops<K: Kind>(limit: Duration) {
    with_broken_tools::<K>(|group, how| {
        for name in ["a", "b"] {
            in_time(group.node(name), limit, "stop", &[0], how);
            assert!(group.node(name).servers().is_empty(), "tools {how}: the server of {name} still runs");
        }
    });
}

pub(crate) fn demote_demotes<K: Kind>(limit: Duration) {
    with_broken_tools::<K>(|group, how| {
        in_time(group.node("a"), limit, "demote", &[0], how);
        assert_eq!(group.writable(), Vec::<&str>::new(), "tools {how}");
    });
}

/// What cannot be recorded is not opened.
pub(crate) fn promote_fails_closed<K: Kind>(limit: Duration) {
    with_broken_tools::<K>(|group, how| {
        group.node("a").kill_server();
        let lists = Lists::promoting("b", &["b"]);
        let b = group.node("b");
        b.agent().timeout(limit).notifying("pre", "promote", &lists, group.spelling).run("notify").ok();
        let answer = b.agent().timeout(limit).lists(&lists, group.spelling).run("promote");
        assert!(answer.counted < limit, "tools {how}: promote took {:?}", answer.elapsed);
        assert_ne!(answer.status, 0, "tools {how}");
        assert!(!answer.reason().is_empty());
        assert_eq!(group.writable(), Vec::<&str>::new(), "tools {how}");
    });
}

/// The record was not written for lack of quorum: nothing was opened.
pub(crate) fn a_promotion_whose_record_cannot_be_written_stays_closed_and_can_be_repeated<K: Kind>(record: &str) {
    let group = GroupOf::<K>::established(&["a", "b"]);
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
    assert!(group.record().starts_with(record), "{}", group.record());
}

/// The tool said yes and the CIB says otherwise.
pub(crate) fn a_record_that_reads_otherwise_opens_nothing<K: Kind>() {
    let group = GroupOf::<K>::established(&["a", "b"]);
    group.node("a").kill_server();
    let lists = Lists::promoting("b", &["b"]);
    group.before_promotion(&lists);
    group.cluster.behave("case \"$*\" in *crm_config*nvpair*) exit 0;; esac");
    group.node("b").agent().lists(&lists, group.spelling).run("promote").refused(1, &["reads as"]);
    assert_eq!(group.writable(), Vec::<&str>::new());
}
