//! durability=quorum: writes only with a majority, and no promotion that could lose a confirmed one.

use testkit::{Agent, Group, Lists, Node, Signal, eventually};

fn quorum(node: &Node) -> Agent {
    node.agent().parameter("durability", "quorum").parameter("replica_lag", "2")
}

#[test]
fn without_a_replica_writes_are_refused_and_with_one_they_are_taken() {
    let group = Group::of(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    for node in [a, b] {
        quorum(node).run("start").ok();
    }
    let lists = Lists::promoting("a", &["a", "b"]);
    for node in [b, a] {
        quorum(node).notifying("pre", "promote", &lists, group.spelling).run("notify").ok();
    }
    quorum(a).lists(&lists, group.spelling).run("promote").ok();
    let error = a.write("alone").expect_err("no replica is attached");
    assert!(error.starts_with("NOREPLICAS"), "{error}");
    let published = || group.cluster.attribute("systole-redis-writes", "a");
    quorum(a).run("monitor").refused(191, &["writes are refused"]);
    assert_eq!(published().as_deref(), Some("wait"));
    quorum(b).notifying("post", "promote", &lists, group.spelling).run("notify").ok();
    eventually("writes are taken with a replica", || a.write("with one").is_ok());
    assert_eq!(a.ask(&["WAIT", "1", "1000"]).unwrap(), "1");
    eventually("it says that writes go on", || {
        quorum(a).run("monitor").expect(&[8, 191]);
        published().as_deref() == Some("go")
    });
    group.cluster.calls();
    quorum(a).run("monitor").expect(&[8]);
    assert_eq!(group.cluster.calls(), Vec::<String>::new(), "it is said once");
    b.agent().run("stop").ok();
    eventually("writes are refused again", || a.write("alone again").is_err_and(|e| e.starts_with("NOREPLICAS")));
    quorum(a).run("monitor").refused(191, &["writes are refused"]);
    assert_eq!(published().as_deref(), Some("wait"));
    // The operator accepts the loss.
    a.agent().run("reload-agent").ok();
    a.agent().run("monitor").expect(&[8]);
    assert_eq!((published().as_deref(), group.cluster.attribute("systole-redis-writes", "b")), (Some("go"), None));
}

/// Whoever confirmed a write must be heard before another one is promoted.
#[test]
fn a_confirmed_write_that_may_be_elsewhere_keeps_the_others_closed() {
    let group = Group::established(&["a", "b", "c"]);
    group.node("a").kill_server();
    group.node("b").kill_server();
    let lists = Lists::promoting("c", &["c"]);
    let c = group.node("c");
    quorum(c).notifying("pre", "promote", &lists, group.spelling).run("notify").ok();
    let answer = quorum(c).lists(&lists, group.spelling).run("promote");
    answer.refused(1, &["confirmed", "b", "start the server there"]);
    assert_eq!(group.writable(), Vec::<&str>::new());
    // With async the same promotion is allowed: nothing was promised.
    group.promote("c", &["c"]).ok();
}

#[test]
fn reload_applies_another_durability_without_a_restart() {
    let group = Group::established(&["a", "b"]);
    let (a, server) = (group.node("a"), group.node("a").process().pid);
    quorum(a).run("reload-agent").ok();
    assert_eq!(a.ask(&["CONFIG", "GET", "min-replicas-to-write"]).unwrap().lines().last(), Some("1"));
    a.agent().run("reload-agent").ok();
    assert_eq!(a.ask(&["CONFIG", "GET", "min-replicas-to-write"]).unwrap().lines().last(), Some("0"));
    assert_eq!(a.process().pid, server);
    // On a replica it changes nothing: the gate stays closed.
    quorum(group.node("b")).run("reload-agent").ok();
    assert_eq!(group.node("b").ask(&["CONFIG", "GET", "min-replicas-to-write"]).unwrap().lines().last(), Some("1000000"));
}

/// Who was stopped leaves the record when what it may have confirmed is held by others, and not before.
#[test]
fn who_may_alone_hold_a_confirmed_write_stays_in_the_record() {
    let group = Group::established(&["a", "b", "c"]);
    let (a, b, c) = (group.node("a"), group.node("b"), group.node("c"));
    quorum(a).run("reload-agent").ok();
    quorum(a).run("monitor").expect(&[8]);
    let frozen = b.process();
    frozen.freeze();
    let mut client = a.client();
    client.ask(&["SET", "confirmed", "by c"]).expect("two replicas are attached");
    assert_eq!(client.ask(&["WAIT", "1", "1000"]).unwrap(), "1");
    quorum(c).run("stop").ok();
    let stopped = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], stop: vec!["c"], ..Lists::default() };
    quorum(a).notifying("post", "stop", &stopped, group.spelling).run("notify").ok();
    quorum(a).run("monitor").expect(&[8, 191]);
    assert!(group.record().contains("holders=a,b,c"), "b lacks what c has confirmed: {}", group.record());
    frozen.signal(Signal::SIGCONT);
    group.wait_caught_up("a", "b");
    eventually("c has left the record", || {
        quorum(a).run("monitor").expect(&[8, 191]);
        group.record().contains("holders=a,b") && !group.record().contains("holders=a,b,c")
    });
}
