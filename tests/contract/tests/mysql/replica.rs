//! A replica: whom it follows, after what, and what is said when it cannot.

use std::time::Duration;

use testkit::mysql::{Client, Group, Node, Server};
use testkit::{Lists, eventually};

fn acknowledges(node: &Node) -> bool {
    let status = format!("SHOW GLOBAL STATUS LIKE '{}_status'", node.server.acknowledger());
    node.administer(&status).is_ok_and(|s| s.ends_with("ON"))
}

/// Writes on a closed server, and not into its log.
fn unlogged(node: &Node, statement: &str) {
    if node.server.closes_for_administrators() {
        node.must(&["SET GLOBAL super_read_only=0", "SET sql_log_bin=0", statement, "SET GLOBAL super_read_only=1"]);
    } else {
        node.must(&["SET sql_log_bin=0", statement]);
    }
}

/// Starts a replica as Pacemaker does while there is a primary.
fn come_back(group: &Group, primary: &'static str, replica: &'static str) {
    let others: Vec<&'static str> = ["a", "b", "c"].into_iter().filter(|n| *n != primary && *n != replica).collect();
    let unpromoted = others.into_iter().filter(|n| group.nodes.iter().any(|m| m.name == *n)).collect();
    let lists = Lists { promoted: vec![primary], unpromoted, start: vec![replica], ..Lists::default() };
    group.notify(primary, "pre", "start", &lists);
    group.node(replica).agent().lists(&lists, group.spelling).run("start").ok();
    group.notify_all("post", "start", &lists);
    for _ in 0..2 {
        for name in [replica, primary] {
            group.node(name).agent().run("monitor").expect(&[0, 8, 190, 191]);
        }
    }
}

#[test]
fn a_replica_that_was_restarted_follows_again_and_acknowledges() {
    for killed in [false, true] {
        let group = Group::established(&["a", "b", "c"]);
        group.settle();
        let (a, b) = (group.node("a"), group.node("b"));
        if killed {
            b.kill_server();
            b.agent().run("monitor").expect(&[7]);
        }
        b.agent().run("stop").ok();
        let stopped = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], stop: vec!["b"], ..Lists::default() };
        group.notify("a", "post", "stop", &stopped);
        group.notify("c", "post", "stop", &stopped);
        a.agent().run("monitor").expect(&[8]);
        a.write("while it was away").unwrap();
        come_back(&group, "a", "b");
        group.wait_attached("b");
        assert_eq!(b.source(), a.address);
        group.wait_caught_up("a", "b");
        assert!(b.has("while it was away"));
        if b.server.is_lossless() {
            eventually("b acknowledges", || {
                for name in ["b", "a"] {
                    group.node(name).agent().run("monitor").expect(&[0, 8]);
                }
                acknowledges(b) && group.record().contains("active=b,c")
            });
        }
    }
}

#[test]
fn a_replica_whose_replication_was_stopped_is_started_again() {
    let group = Group::established(&["a", "b"]);
    let b = group.node("b");
    for what in ["", "SQL_THREAD", "IO_THREAD"] {
        b.must(&[&format!("STOP {} {what}", b.server.replica())]);
        b.agent().run("monitor").expect(&[0]);
        group.wait_attached("b");
        eventually("it applies", || b.replication_of("replica_sql_running", "slave_sql_running") == "Yes");
    }
    group.settle();
    group.node("a").write("after").unwrap();
    group.wait_caught_up("a", "b");
}

/// Somebody pointed it elsewhere, or took its source away.
#[test]
fn a_replica_that_lost_its_source_gets_it_again() {
    let group = Group::established(&["a", "b"]);
    let b = group.node("b");
    group.settle();
    b.must(&[&format!("STOP {}", b.server.replica()), &format!("RESET {} ALL", b.server.replica())]);
    b.agent().run("monitor").expect(&[0]);
    group.wait_attached("b");
    assert_eq!(b.source(), group.node("a").address);
    // It acknowledges nothing until it is recorded anew, and it is the only one that could: the primary must look.
    let waiting = group.node("a").write_and_wait("after");
    let answer = testkit::within(std::time::Duration::from_secs(10), || {
        group.settle();
        waiting.answer(std::time::Duration::from_millis(300))
    });
    let answer = answer.expect("it is acknowledged within some monitors");
    assert!(answer.is_ok() || group.node("a").server == Server::MariaDb, "{answer:?}");
    group.wait_caught_up("a", "b");
}

/// A wrong replication password: the replica says so, leaves the members, and the primary is not affected.
#[test]
fn a_replica_with_a_wrong_password_says_so_and_the_primary_goes_on() {
    let group = Group::of(&["a", "b", "c"]);
    group.start_all();
    let lists = Lists::promoting("a", &["a", "b", "c"]);
    group.before_promotion(&lists);
    group.node("a").agent().lists(&lists, group.spelling).run("promote").ok();
    let wrong = |node: &str| group.node(node).agent().parameter("replication_passwd", "falsch-und-geheim");
    wrong("b").notifying("post", "promote", &lists, group.spelling).run("notify").ok();
    group.notify("c", "post", "promote", &lists);
    group.wait_attached("c");
    group.node("a").write("first").unwrap();
    let mut last = wrong("b").run("monitor");
    eventually("it is reported", || {
        last = wrong("b").run("monitor");
        last.status == 190
    });
    last.refused(190, &["1045", "replication_passwd"]);
    assert!(!group.node("b").log().contains("falsch"), "the password is in the log");
    assert_eq!(group.node("b").score(), "-INFINITY");
    if group.nodes[0].server.is_lossless() {
        eventually("b has left the record", || {
            group.node("a").agent().run("monitor").expect(&[8]);
            !group.record().contains("active=b,c")
        });
    }
    group.node("a").write("second").unwrap();
    // Corrected: it follows without a restart.
    eventually("b follows", || {
        group.node("b").agent().run("monitor").expect(&[0, 190]);
        group.node("b").is_attached()
    });
    group.wait_caught_up("a", "b");
    eventually("b is in order", || {
        group.node("a").agent().run("monitor").expect(&[8]);
        group.node("b").agent().run("monitor").status == 0
    });
}

/// 1236 has two reasons, and the remedies differ.
#[test]
fn what_the_primary_has_purged_is_named_as_purged() {
    let group = Group::established(&["a", "b", "c"]);
    let (a, b) = (group.node("a"), group.node("b"));
    b.agent().run("stop").ok();
    a.write("second").unwrap();
    let logs = a.administer("SHOW BINARY LOGS").unwrap();
    let newest = |text: &str| text.lines().last().unwrap_or_default().split('\t').next().unwrap_or_default().to_owned();
    assert!(!logs.is_empty());
    a.must(&["FLUSH BINARY LOGS"]);
    let last = newest(&a.administer("SHOW BINARY LOGS").unwrap());
    group.wait_caught_up("a", "c");
    eventually("the old log is purged", || {
        let _ = a.administer(&format!("PURGE BINARY LOGS TO '{last}'"));
        a.administer("SHOW BINARY LOGS").unwrap().lines().count() == 1
    });
    come_back(&group, "a", "b");
    let mut answer = b.agent().run("monitor");
    eventually("it is reported", || {
        answer = b.agent().run("monitor");
        answer.status == 190
    });
    answer.refused(190, &["make this replica anew"]);
    a.agent().run("monitor").expect(&[8]);
}

/// The applier meets a row that should not be there.
#[test]
fn a_replica_whose_applier_fails_says_why() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let b = group.node("b");
    let insert = "INSERT INTO t.k (name) VALUES ('twice')";
    unlogged(b, insert);
    group.node("a").ask(insert).unwrap();
    let mut answer = b.agent().run("monitor");
    eventually("it is reported", || {
        answer = b.agent().run("monitor");
        answer.status == 190
    });
    answer.refused(190, &["1062"]);
    assert_eq!(b.score(), "-INFINITY");
    group.node("a").write("second").unwrap();
    // Corrected by hand.
    let delete = "DELETE FROM t.k WHERE name = 'twice'";
    unlogged(b, delete);
    b.must(&[&format!("START {} SQL_THREAD", b.server.replica())]);
    eventually("b is in order", || {
        group.node("a").agent().run("monitor").expect(&[8]);
        b.agent().run("monitor").status == 0
    });
    group.wait_caught_up("a", "b");
}

#[test]
fn a_replica_that_lags_loses_its_readers_and_is_preferred_less() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let b = group.node("b");
    assert_eq!((b.score().as_str(), group.cluster.attribute("readable", "b").as_deref()), ("100", Some("1")));
    let mut root = testkit::mysql::Client::root(&b.socket()).unwrap();
    root.ask("LOCK TABLES t.k READ").unwrap();
    group.node("a").write("behind").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(3500));
    let agent = b.agent().parameter("max_slave_lag", "1");
    agent.run("monitor").refused(190, &["behind", "max_slave_lag"]);
    assert_eq!(group.cluster.attribute("readable", "b").as_deref(), Some("0"), "{:?}", b.replication());
    assert_eq!(b.score(), "70");
    drop(root);
    group.wait_caught_up("a", "b");
    eventually("b may be read again", || {
        agent.run("monitor").expect(&[0, 190]);
        group.cluster.attribute("readable", "b").as_deref() == Some("1") && b.score() == "100"
    });
}

#[test]
fn the_deep_monitor_reads_the_test_table() {
    let node = Node::alone();
    node.start();
    let agent = node.agent().variable("OCF_CHECK_LEVEL", "10");
    agent.clone().parameter("test_table", "t.k").run("monitor").expect(&[0]);
    agent.clone().parameter("test_table", "t.missing").run("monitor").refused(1, &["t.missing"]);
    node.agent().run("promote").ok();
    agent.clone().parameter("test_table", "t.k").run("monitor").expect(&[8]);
    agent.parameter("test_table", "t.missing").run("monitor").refused(9, &["t.missing"]);
    let _ = Server::here();
}

/// Somebody replays a log on the primary, or puts an empty transaction there under another's name. Its replicas get that, and nobody has
/// diverged: the primary says that it has it.
#[test]
fn what_came_through_the_primary_quarantines_nobody() {
    for durability in ["lossless", "async-allowed"] {
        let group = Group::established(&["a", "b", "c"]);
        if durability == "async-allowed" || group.node("a").server.is_lossless() {
            came_through_the_primary(&group, durability);
        }
    }
}

fn came_through_the_primary(group: &Group, durability: &str) {
    let monitor = |name: &str| group.node(name).agent().parameter("durability", durability).run("monitor");
    for name in ["a", "b", "c", "a", "b", "c", "a"] {
        monitor(name).expect(&[0, 8, 190, 191]);
    }
    let a = group.node("a");
    let foreign = match a.server {
        Server::MariaDb => vec!["SET SESSION server_id=99", "REPLACE INTO t.k VALUES ('foreign', '')"],
        _ => vec![
            "SET gtid_next='11111111-2222-3333-4444-555555555555:1'",
            "REPLACE INTO t.k VALUES ('foreign', '')",
            "SET gtid_next='AUTOMATIC'",
        ],
    };
    a.must(&foreign);
    for replica in ["b", "c"] {
        eventually("it came", || group.node(replica).has("foreign"));
        // Before the primary's monitor, and it goes on acknowledging.
        monitor(replica).expect(&[0]);
    }
    a.write("goes on").unwrap();
    monitor("a").expect(&[8]);
    let record = group.record();
    assert!(record.contains("11111111-2222-3333-4444-555555555555:1") || record.contains("0-99-"), "{record}");
    for _ in 0..5 {
        for replica in ["b", "c"] {
            monitor(replica).expect(&[0]);
        }
        monitor("a").expect(&[8]);
    }
    assert_eq!(group.record(), record, "recorded once");
    a.write("goes on still").unwrap();
    // Nor does it count against them in an election.
    a.kill_server();
    let lists = Lists::promoting("b", &["b", "c"]);
    for name in ["c", "b"] {
        let agent = group.node(name).agent().parameter("durability", durability);
        agent.notifying("pre", "promote", &lists, group.spelling).run("notify").ok();
    }
    group.node("b").agent().parameter("durability", durability).lists(&lists, group.spelling).run("promote").ok();
    assert!(group.node("b").has("foreign"));
}

/// The same name written on the replica itself: the primary does not have it, so that it is a divergence, a little later.
#[test]
fn what_is_foreign_on_a_replica_alone_is_a_divergence() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let b = group.node("b");
    match b.server {
        Server::MariaDb => b.must(&["SET SESSION server_id=99", "REPLACE INTO t.k VALUES ('foreign', '')"]),
        server => {
            let lock = |on: u8| server.closes_for_administrators().then(|| format!("SET GLOBAL super_read_only={on}"));
            let write = [
                "SET gtid_next='11111111-2222-3333-4444-555555555555:1'",
                "REPLACE INTO t.k VALUES ('foreign', '')",
                "SET gtid_next='AUTOMATIC'",
            ];
            let statements: Vec<String> = lock(0).into_iter().chain(write.map(str::to_owned)).chain(lock(1)).collect();
            b.must(&statements.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    let mut found = None;
    for _ in 0..6 {
        group.node("a").agent().run("monitor").expect(&[8]);
        let answer = b.agent().run("monitor");
        if answer.status != 0 {
            found = Some(answer);
        }
    }
    found.expect("it is found").refused(190, &["transactions that the primary does not have"]);
    assert_eq!(b.score(), "-INFINITY");
}

/// The primary is gone, and it takes long until that is certain: a person has to confirm the fencing, say. Its replicas find it unreachable at each
/// monitor, and go on to have what they acknowledged and can be promoted.
#[test]
fn replicas_of_a_primary_that_is_gone_for_long_keep_what_they_acknowledged() {
    let group = Group::established(&["a", "b", "c"]);
    if !group.node("a").server.is_lossless() {
        return;
    }
    group.settle();
    // Received and acknowledged, and not applied.
    let mut locks: Vec<Client> = ["b", "c"].map(|name| Client::root(&group.node(name).socket()).unwrap()).into();
    for lock in &mut locks {
        lock.ask("LOCK TABLES t.k READ").unwrap();
    }
    group.node("a").write("acknowledged").unwrap();
    group.node("a").kill_server();
    for name in ["b", "c"] {
        let node = group.node(name);
        eventually("it is found unreachable", || node.agent().run("monitor").status == 190);
        for _ in 0..3 {
            node.agent().run("monitor").expect(&[190]);
            assert_eq!(node.score(), "70");
        }
    }
    drop(locks);
    group.promote("b", &["b", "c"]).ok();
    assert!(group.node("b").has("acknowledged"));
}

/// A power cut soon after it was pointed: MariaDB has not written to its disk whom it follows, and refuses every statement about that.
#[test]
fn a_replica_whose_settings_of_replication_were_lost_follows_again() {
    let group = Group::established(&["a", "b", "c"]);
    let b = group.node("b");
    if b.server != Server::MariaDb {
        return;
    }
    group.settle();
    b.kill_server();
    b.agent().run("stop").ok();
    for name in ["master.info", "relay-log.info"] {
        assert!(b.data().join(name).exists(), "{name}");
        std::fs::write(b.data().join(name), "").unwrap();
    }
    group.node("a").write("while it was away").unwrap();
    come_back(&group, "a", "b");
    group.wait_attached("b");
    group.wait_caught_up("a", "b");
    assert!(b.has("while it was away"));
}

/// A replica acknowledged what it cannot apply, and nobody else has that. A MariaDB that stands still deletes it when it is started again, so it is
/// not there any more; in any case nobody takes over without it.
#[test]
fn a_replica_that_cannot_apply_what_it_acknowledged_is_not_taken_for_one_that_has_it() {
    let group = Group::established(&["a", "b", "c"]);
    let b = group.node("b");
    if !b.server.is_lossless() {
        return;
    }
    group.settle();
    let insert = "INSERT INTO t.k (name) VALUES ('twice')";
    unlogged(b, insert);
    group.node("c").must(&[&format!("STOP {} IO_THREAD", b.server.replica())]);
    group.node("a").ask(insert).unwrap();
    eventually("the applier of b stops", || b.replication_of("replica_sql_running", "slave_sql_running") == "No");
    group.node("a").write("acknowledged").unwrap();
    group.node("a").kill_server();
    for candidate in ["c", "b", "b"] {
        let answer = group.promote(candidate, &["b", "c"]);
        assert_ne!(answer.status, 0, "{candidate}: {}", answer.stderr);
        assert_eq!(group.writable(), Vec::<&str>::new());
        // A position that was published stands for so long.
        std::thread::sleep(Duration::from_secs(11));
    }
}

/// It was found to have diverged when its server came back, and not by a monitor: it leaves the record all the same, and another loss is
/// survived.
#[test]
fn a_replica_that_has_diverged_leaves_the_record() {
    diverged_leaves(&[]);
}

/// The same of one that is pointed nowhere any more, as an old primary is.
#[test]
fn a_server_that_has_diverged_and_follows_nobody_leaves_the_record() {
    let replica = Server::here().replica();
    diverged_leaves(&[&format!("STOP {replica}"), &format!("RESET {replica} ALL")]);
}

fn diverged_leaves(before: &[&str]) {
    let group = Group::established(&["a", "b", "c"]);
    if !group.node("a").server.is_lossless() {
        return;
    }
    group.settle();
    let b = group.node("b");
    b.must(before);
    b.write_behind_the_agents_back("of b alone");
    b.kill_server();
    b.agent().run("stop").ok();
    come_back(&group, "a", "b");
    eventually("b has left the record", || {
        for name in ["b", "a", "c"] {
            group.node(name).agent().run("monitor").expect(&[0, 8, 190, 191]);
        }
        group.record().contains(" active=c ")
    });
    group.node("a").write("acknowledged").unwrap();
    group.node("a").kill_server();
    group.promote("c", &["b", "c"]).ok();
    assert!(group.node("c").has("acknowledged"));
}
