//! Notifications: both spellings, always 0, short, and never a reason to wait.

use std::time::Duration;

use testkit::{Agent, Group, Lists, Signal, Spelling, eventually};

#[test]
fn old_and_new_spelling_lead_to_the_same_promotion() {
    for spelling in [Spelling::Old, Spelling::New, Spelling::Both] {
        let mut group = Group::of(&["a", "b"]);
        group.spelling = spelling;
        group.start_all();
        group.promote("a", &["a", "b"]).ok();
        group.wait_attached("b");
        assert!(group.record().ends_with("holders=a,b"), "{spelling:?}: {}", group.record());
        // A server that starts while one is promoted follows it at once.
        group.node("b").agent().run("stop").ok();
        let lists = Lists { promoted: vec!["a"], start: vec!["b"], ..Lists::default() };
        group.notify("a", "pre", "start", &lists);
        group.node("b").agent().lists(&lists, spelling).run("start").ok();
        group.wait_attached("b");
    }
}

#[test]
fn notify_is_0_whatever_is_wrong() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    let lists = Lists::promoting("a", &["a"]);
    let notified = |agent: Agent| {
        for phase in ["pre", "post"] {
            for operation in ["start", "promote", "demote", "stop", "nonsense"] {
                let answer = agent.clone().notifying(phase, operation, &lists, Spelling::Both).run("notify");
                assert_eq!(answer.status, 0, "{phase}-{operation}: {}", answer.stderr);
            }
        }
    };
    // Without a server, with a dead tool, with wrong parameters, with a frozen server.
    notified(node.agent());
    notified(node.agent().parameter("port", "nonsense"));
    notified(node.agent().parameter("config", "/no/such/file"));
    group.cluster.behave("echo no cluster >&2; exit 102");
    notified(node.agent());
    group.cluster.behave("");
    node.start();
    node.process().freeze();
    notified(node.agent());
    node.agent().run("notify").ok();
    Agent::bare(testkit::AGENT).run("notify").ok();
}

#[test]
fn lists_that_make_no_sense_hurt_nobody() {
    let group = Group::established(&["a", "b"]);
    for value in ["", " ", "x", "redis:0 redis:1 redis:2", "\n\n", "a a a a", "redis:"] {
        for name in ["promote", "promoted", "unpromoted", "start", "stop", "active"] {
            let odd = |agent: Agent| agent.meta(&format!("notify_{name}_uname"), value).meta(&format!("notify_{name}_resource"), "redis:0");
            for (phase, operation) in [("pre", "start"), ("post", "stop"), ("pre", "demote")] {
                odd(group.node("a").agent().notifying(phase, operation, &Lists::default(), Spelling::Both)).run("notify").ok();
            }
        }
    }
    group.node("a").agent().run("monitor").expect(&[8]);
    assert_eq!(group.writable(), ["a"]);
}

#[test]
fn a_replica_that_cannot_reach_its_primary_does_not_hold_up_the_cluster() {
    let group = Group::established(&["a", "b"]);
    group.node("a").kill_server();
    let lists = Lists::promoting("c", &["b", "c"]);
    let answer = group.node("b").agent().notifying("post", "promote", &lists, Spelling::Both).run("notify");
    answer.ok();
    assert!(answer.counted < Duration::from_secs(2), "{answer:?}");
}

/// A server that was frozen while the others were told of the new primary is told by its own monitor.
#[test]
fn a_replica_that_missed_the_notification_follows_at_its_next_monitor() {
    let group = Group::established(&["a", "b", "c"]);
    group.node("a").kill_server();
    let lists = Lists::promoting("b", &["b", "c"]);
    group.before_promotion(&lists);
    group.node("b").agent().lists(&lists, group.spelling).run("promote").ok();
    group.node("c").process().freeze();
    group.notify("c", "post", "promote", &lists);
    group.node("c").process().signal(Signal::SIGCONT);
    eventually("c follows b", || {
        group.node("c").agent().run("monitor").expect(&[0]);
        group.node("c").info("master_link_status") == "up"
    });
    group.node("b").write("after").unwrap();
    group.wait_caught_up("b", "c");
}

/// One that is not heard at all, as on a node that was lost a moment ago. (A server that is alive and cannot be asked is another matter.)
#[test]
fn a_silent_node_does_not_hold_up_an_election() {
    let group = Group::established(&["a", "b", "c"]);
    group.node("a").kill_server();
    let limit = pace::Limit::of(Duration::from_secs(5));
    let lists = Lists::promoting("b", &["b", "c"]);
    group.notify("b", "pre", "promote", &lists);
    group.node("b").agent().lists(&lists, group.spelling).run("promote").ok();
    assert!(!limit.is_over(), "{:?}", limit.elapsed());
    assert!(group.record().contains("node=b"), "{}", group.record());
}

/// A replica that starts may confirm writes, so it is recorded before; one that was stopped leaves.
#[test]
fn who_starts_is_recorded_and_who_stops_leaves_the_record() {
    let group = Group::established(&["a", "b", "c"]);
    group.node("c").agent().run("stop").ok();
    let stopped = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], stop: vec!["c"], ..Lists::default() };
    group.notify("a", "post", "stop", &stopped);
    group.node("a").agent().run("monitor").expect(&[8]);
    assert!(group.record().ends_with("holders=a,b"), "{}", group.record());
    let starting = Lists { promoted: vec!["a"], unpromoted: vec!["b"], start: vec!["c"], ..Lists::default() };
    group.notify("a", "pre", "start", &starting);
    assert!(group.record().ends_with("holders=a,b,c"), "{}", group.record());
}

/// Only the primary may change the record, and only its own.
#[test]
fn a_primary_that_is_not_recorded_changes_no_record() {
    let group = Group::established(&["a", "b"]);
    let theirs = "epoch=7 node=b history=0123456789 holders=b";
    group.cluster.set_record("redis", theirs);
    let starting = Lists { promoted: vec!["a"], start: vec!["c"], ..Lists::default() };
    group.notify("a", "pre", "start", &starting);
    let stopped = Lists { promoted: vec!["a"], unpromoted: vec!["b"], stop: vec!["b"], ..Lists::default() };
    group.notify("a", "post", "stop", &stopped);
    let _ = group.node("a").agent().run("monitor");
    assert_eq!(group.record(), theirs);
}

/// Every replica was cut from the primary that lives, until its next monitor.
#[test]
fn a_demotion_beside_the_primary_cuts_nobody_off_and_who_was_demoted_follows_again() {
    let group = Group::established(&["a", "b", "c"]);
    let (a, b) = (group.node("a"), group.node("b"));
    b.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    let lists = Lists { promoted: vec!["a", "b"], unpromoted: vec!["c"], demote: vec!["b"], ..Lists::default() };
    b.agent().lists(&lists, group.spelling).run("demote").ok();
    group.notify_all("post", "demote", &lists);
    assert_eq!(group.node("c").info("master_link_status"), "up");
    assert_eq!(a.info("connected_slaves"), "1");
    eventually("b follows a again", || {
        b.agent().run("monitor").expect(&[0]);
        b.info("master_link_status") == "up"
    });
    a.write("after").unwrap();
    group.wait_caught_up("a", "b");
}

/// Four monitors answered 0 with an empty log, and the replica was away for good.
#[test]
fn a_replica_that_somebody_made_a_primary_follows_again_at_its_next_monitor() {
    let group = Group::established(&["a", "b"]);
    let b = group.node("b");
    b.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    b.agent().run("monitor").expect(&[0]);
    assert!(b.log().contains("somebody made the server a primary"), "{}", b.log());
    group.wait_attached("b");
    assert_eq!(group.writable(), ["a"]);
    b.agent().run("monitor").expect(&[0]);
}
