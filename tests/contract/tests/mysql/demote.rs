//! A demotion is bounded whatever clients do, and ends in a server that is closed, or dead.

use std::time::Duration;

use testkit::mysql::{Client, Group, Node, Server};
use testkit::{Lists, eventually};

/// Demotes the primary while `hold` is held.
#[track_caller]
fn demote_against(what: &str, hold: impl Fn(&Node) -> Vec<Client>) {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    let held = hold(a);
    let answer = group.demote("a", &["b"], &["b"]);
    answer.ok();
    assert!(answer.counted < Duration::from_secs(8), "{what}: {:?}", answer.elapsed);
    assert!(!a.is_writable(), "{what}: it is open");
    drop(held);
    assert!(!a.is_writable(), "{what}: it is open afterwards");
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    group.notify_all("post", "demote", &lists);
    group.promote("b", &["a", "b"]).ok();
    assert_eq!(group.writable(), ["b"], "{what}");
    assert!(group.node("b").has("first"), "{what}");
}

fn asked(node: &Node, statements: &[&str]) -> Client {
    let mut client = node.client();
    for sql in statements {
        client.ask(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    client
}

#[test]
fn locked_tables() {
    demote_against("LOCK TABLES", |a| vec![asked(a, &["LOCK TABLES t.k WRITE"])]);
}

#[test]
fn a_global_read_lock() {
    demote_against("FLUSH TABLES WITH READ LOCK", |a| {
        let mut root = Client::root(&a.socket()).unwrap();
        root.ask("FLUSH TABLES WITH READ LOCK").unwrap();
        vec![root]
    });
}

#[test]
fn a_statement_that_takes_an_hour() {
    demote_against("UPDATE", |a| {
        let running = a.ask_and_wait(&[], "UPDATE t.k SET value = SLEEP(3600) WHERE name = 'first'");
        eventually("it runs", || a.administer("SHOW PROCESSLIST").unwrap().contains("SLEEP"));
        std::mem::forget(running);
        vec![]
    });
}

#[test]
fn a_change_of_a_table_that_waits_for_a_transaction() {
    demote_against("ALTER", |a| {
        let open = asked(a, &["BEGIN", "SELECT COUNT(*) FROM t.k"]);
        std::mem::forget(a.ask_and_wait(&[], "ALTER TABLE t.k ADD COLUMN more INT"));
        eventually("it waits", || a.administer("SHOW PROCESSLIST").unwrap().contains("metadata lock"));
        vec![open]
    });
}

/// It was not committed, and cannot be any more.
#[test]
fn an_open_transaction() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    let mut open = asked(a, &["BEGIN", "REPLACE INTO t.k VALUES ('open', '')"]);
    let answer = group.demote("a", &["b"], &["b"]);
    answer.ok();
    assert!(answer.counted < Duration::from_secs(8), "{:?}", answer.elapsed);
    open.ask("COMMIT").expect_err("its session was ended");
    if a.administer("SELECT 1").is_ok() {
        assert!(!a.has("open"));
    }
}

/// Whoever is connected to the old primary must find out that it is none.
#[test]
fn the_sessions_of_clients_are_ended() {
    let group = Group::established(&["a", "b"]);
    let mut idle = asked(group.node("a"), &["SELECT 1"]);
    group.demote("a", &["b"], &["b"]).ok();
    let answer = idle.ask("SELECT 1").expect_err("the session was ended");
    // MariaDB says so before it closes.
    assert!(answer.starts_with("lost") || answer.contains("killed") || answer.starts_with("4031"), "{answer}");
}

/// A planned move: the old primary lives, and everything is on the new one before it opens.
#[test]
fn a_planned_move_loses_nothing() {
    let group = Group::established(&["a", "b", "c"]);
    let a = group.node("a");
    let mut client = a.client();
    for n in 0..200 {
        client.ask(&format!("INSERT INTO t.k VALUES ('key {n}', 'value')")).unwrap();
    }
    let server = a.process().pid;
    group.demote("a", &["b", "c"], &["b"]).ok();
    assert_eq!(group.writable(), Vec::<&str>::new());
    assert_eq!(a.process().pid, server, "it was asked and not killed");
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    group.notify_all("post", "demote", &lists);
    group.promote("b", &["a", "b", "c"]).ok();
    // The cluster does that after a change of role.
    a.agent().run("monitor").expect(&[0]);
    for replica in ["a", "c"] {
        group.wait_attached(replica);
        group.wait_caught_up("b", replica);
        assert_eq!(group.node(replica).source(), group.node("b").address);
    }
    assert_eq!(group.node("b").administer("SELECT COUNT(*) FROM t.k WHERE name LIKE 'key %'").unwrap(), "200");
    assert!(group.record().starts_with("epoch=2 change=0 node=b "), "{}", group.record());
    group.node("b").write("after the move").unwrap();
}

/// There and back, as in maintenance.
#[test]
fn the_role_moves_many_times() {
    let group = Group::established(&["a", "b", "c"]);
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "c")] {
        let others: Vec<&'static str> = ["a", "b", "c"].into_iter().filter(|n| *n != from).collect();
        group.demote(from, &others, &[to]).ok();
        let lists = Lists { promoted: vec![from], unpromoted: others.clone(), demote: vec![from], promote: vec![to], ..Lists::default() };
        group.notify_all("post", "demote", &lists);
        group.promote(to, &["a", "b", "c"]).ok();
        assert_eq!(group.writable(), [to]);
        // The cluster does that after a change of role.
        group.node(from).agent().run("monitor").expect(&[0]);
        for replica in ["a", "b", "c"].into_iter().filter(|n| *n != to) {
            group.wait_attached(replica);
        }
        group.node(to).write(&format!("on {to}")).unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
        for replica in ["a", "b", "c"].into_iter().filter(|n| *n != to) {
            group.wait_caught_up(to, replica);
        }
    }
    assert!(group.record().starts_with("epoch=5 "), "{}", group.record());
}

/// XA transactions that are prepared survive a demotion, and must not be committed on a closed server.
#[test]
fn a_prepared_xa_transaction() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    // One primary key, so that nothing else waits for it.
    let held = asked(a, &["XA START 'x'", "REPLACE INTO t.k VALUES ('xa', '')", "XA END 'x'"]);
    let mut held = held;
    let prepared = held.ask("XA PREPARE 'x'");
    let answer = group.demote("a", &["b"], &["b"]);
    answer.ok();
    assert!(answer.counted < Duration::from_secs(8), "{:?}", answer.elapsed);
    let committed = held.ask("XA COMMIT 'x'");
    assert!(prepared.is_err() || committed.is_err(), "an XA transaction was committed on a demoted {:?}", a.server);
    let _ = Server::here();
}

/// Its disk stalls for a moment: its acknowledgements come late. The primary lives, and its client is answered.
#[test]
fn a_planned_move_waits_for_a_replica_that_stalls_for_a_moment() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(&["a", "b"]);
    group.settle();
    let (a, b) = (group.node("a"), group.node("b"));
    let server = a.process().pid;
    b.process().freeze();
    let write = a.write_and_wait("late");
    eventually("it waits", || a.waiting_commits() > 0);
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    let demotion = a.agent().lists(&lists, group.spelling).spawn("demote");
    std::thread::sleep(Duration::from_millis(1200));
    b.process().signal(testkit::Signal::SIGCONT);
    demotion.answer().ok();
    assert_eq!(a.process().pid, server, "it was killed: {}", a.log());
    assert!(write.answer(Duration::from_secs(5)).is_some_and(|answer| answer.is_ok()), "its client was not answered");
    assert!(!a.is_writable());
}
