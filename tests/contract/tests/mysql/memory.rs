//! What the agent remembers of a server ends with the server's process, and what it has lost it does not guess.

use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::mysql::{Group, Node};
use testkit::{Lists, eventually};

fn acknowledges(node: &Node) -> bool {
    let status = format!("SHOW GLOBAL VARIABLES LIKE '{}_enabled'", node.server.acknowledger());
    node.administer(&status).is_ok_and(|s| s.ends_with("ON"))
}

/// Kills the server and starts it again with the same words, as systemd or an operator does behind the agent's back.
fn restart_by_hand(node: &Node) {
    let arguments = node.process().arguments;
    node.kill_server();
    let mut words = arguments.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().into_iter();
    let program = words.next().unwrap().to_owned();
    let mut command = Command::new("setsid");
    command.args(["--fork", "setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups", &program]).args(words);
    command.current_dir(node.data()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    eventually("the server answers", || node.administer("SELECT 1").is_ok());
}

/// Its relay log may be gone, with what it has acknowledged.
#[test]
fn a_replica_that_somebody_restarted_acknowledges_under_a_new_record_only() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let b = group.node("b");
    if !b.server.is_lossless() {
        return;
    }
    let before = group.record();
    restart_by_hand(b);
    b.agent().run("monitor").expect(&[0, 190]);
    group.wait_attached("b");
    b.agent().run("monitor").expect(&[0, 190]);
    assert_eq!(group.record(), before);
    assert!(!acknowledges(b), "it acknowledges under the record from before: {before}");
    eventually("it is recorded anew and acknowledges", || {
        group.settle();
        acknowledges(b) && group.record() != before
    });
}

/// `rm /run/resource-agents/*.state` while commits wait: none of them is released, and nothing is recorded that nobody keeps.
#[test]
fn a_lossless_primary_whose_memory_is_lost_goes_on_waiting() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let (a, b) = (group.node("a"), group.node("b"));
    if !a.server.is_lossless() {
        return;
    }
    let before = group.record();
    let server = a.process().pid;
    b.process().freeze();
    let waiting = a.write_and_wait("nobody has it");
    assert!(waiting.waits_for(Duration::from_millis(500)));
    std::fs::remove_file(a.state_file()).unwrap();
    for _ in 0..3 {
        a.agent().run("monitor").expect(&[8, 191]);
        // On MariaDB its session may be ended, which tells it nothing.
        let answer = waiting.answer(Duration::from_millis(200));
        assert!(!matches!(answer, Some(Ok(_))), "a write that nobody has was acknowledged");
    }
    assert_eq!((group.record().split(' ').next(), a.process().pid), (before.split(' ').next(), server), "{}", group.record());
    testkit::signal(b.process().pid, testkit::Signal::SIGCONT);
    eventually("writes are acknowledged again", || {
        group.settle();
        a.write_and_wait("after").answer(Duration::from_secs(2)).is_some_and(|answer| answer.is_ok())
    });
}

#[test]
fn a_memory_of_another_version_is_said_and_stops_nobody() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let servers: Vec<_> = group.nodes.iter().map(|n| n.process().pid).collect();
    let saved: Vec<_> = group.nodes.iter().map(|n| std::fs::read(n.state_file()).unwrap()).collect();
    for node in &group.nodes {
        std::fs::write(node.state_file(), r#"{"version":99}"#).unwrap();
    }
    for (name, status, probed) in [("a", 191, 8), ("b", 190, 0)] {
        let node = group.node(name);
        node.agent().run("monitor").refused(status, &["version", "rm "]);
        node.agent().probing().run("monitor").expect(&[probed]);
        assert_eq!(std::fs::read_to_string(node.state_file()).unwrap(), r#"{"version":99}"#, "the other version's memory is gone");
    }
    group.node("a").write("second").unwrap();
    assert_eq!(servers, group.nodes.iter().map(|n| n.process().pid).collect::<Vec<_>>());
    for (node, state) in group.nodes.iter().zip(saved) {
        std::fs::write(node.state_file(), state).unwrap();
    }
    group.settle();
}

/// The role leaves, and before the successor is promoted somebody opens the old primary by hand.
#[test]
fn a_demoted_primary_that_somebody_opens_is_closed_again() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let a = group.node("a");
    let before = group.record();
    group.demote("a", &["b"], &["b"]).ok();
    a.must(&["SET GLOBAL read_only=0"]);
    a.agent().run("monitor").refused(9, &["read_only=0", "closed"]);
    assert!(!a.is_writable());
    assert_eq!(group.record(), before, "the record is the successor's to write");
}

/// Its node was in maintenance: no notification told it of the failover.
#[test]
fn a_replica_that_slept_through_a_failover_follows_the_record() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    // Planned, so that the old primary lives on as a replica, and nothing breaks.
    let demote = Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    group.node("a").agent().lists(&demote, group.spelling).run("demote").ok();
    for name in ["b", "a"] {
        group.notify(name, "post", "demote", &demote);
    }
    group.promote("b", &["a", "b"]).ok();
    let c = group.node("c");
    assert_eq!(c.source(), group.node("a").address);
    // As if two minutes had passed.
    let state = std::fs::read_to_string(c.state_file()).unwrap();
    let at = state.find("\"asked_record\":{").expect("it remembers when it asked");
    let end = state[at..].find('}').unwrap() + at + 1;
    std::fs::write(c.state_file(), format!("{}\"asked_record\":null{}", &state[..at], &state[end..])).unwrap();
    c.agent().run("monitor").expect(&[0, 190]);
    assert_eq!(c.source(), group.node("b").address, "{}", c.log());
    group.wait_attached("c");
    for name in ["c", "b", "c", "b", "a"] {
        group.node(name).agent().run("monitor").expect(&[0, 8, 190]);
    }
    group.node("b").write("second").unwrap();
    group.wait_caught_up("b", "c");
}

/// The primary was told that a replica stopped, could not let it go because nobody else acknowledged, and missed the notification that it
/// starts again. When a third one comes, the one that acknowledges is not taken for the one that was stopped.
#[test]
fn a_replica_that_came_back_unnoticed_does_not_leave_as_one_that_was_stopped() {
    let group = Group::of(&["a", "b", "c"]);
    for name in ["a", "b"] {
        group.node(name).start();
    }
    let (a, b, c) = (group.node("a"), group.node("b"), group.node("c"));
    if !a.server.is_lossless() {
        return;
    }
    // Nobody else may hold data, as an operator knows.
    group.cluster.set_record("db", "node=a");
    group.promote("a", &["a", "b"]).ok();
    group.wait_attached("b");
    for node in [b, a, b, a] {
        node.agent().run("monitor");
    }
    b.agent().run("stop").ok();
    group.notify("a", "post", "stop", &Lists { promoted: vec!["a"], unpromoted: vec!["b"], stop: vec!["b"], ..Lists::default() });
    a.agent().run("monitor");
    let start = |name| Lists { promoted: vec!["a"], unpromoted: vec!["b"], start: vec![name], ..Lists::default() };
    b.agent().lists(&start("b"), group.spelling).run("start").ok();
    eventually("b acknowledges again", || {
        b.agent().run("monitor");
        a.agent().run("monitor");
        acknowledges(b)
    });
    group.notify("a", "pre", "start", &start("c"));
    c.agent().lists(&start("c"), group.spelling).run("start").ok();
    group.notify_all("post", "start", &start("c"));
    eventually("c acknowledges", || {
        for node in [c, a, b] {
            node.agent().run("monitor");
        }
        acknowledges(c)
    });
    for node in [a, b, c, a] {
        node.agent().run("monitor");
    }
    assert!(acknowledges(b) && group.record().contains("active=b,c"), "b acknowledges and no election would ask it: {}", group.record());
}
