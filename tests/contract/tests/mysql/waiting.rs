//! Commits that wait for a replica. What a client is told then is what it goes on with: "OK" only when a replica has it.
//!
//! The first part asserts what the servers do by themselves, because the agent's order of steps rests on it. A server
//! that answers otherwise one day shows here.

use std::time::Duration;

use testkit::mysql::{Client, Group, Node, Server, Waiting};
use testkit::{Lists, Signal, eventually};

/// A moment in which an answer would have come.
const MOMENT: Duration = Duration::from_millis(1500);
/// Until an answer comes for which nothing is to be done any more. Replica and disk may be slow; no monitor is run in between.
const BY_ITSELF: Duration = Duration::from_secs(10);

/// `a` is the primary, `b` its only replica and cut off: one commit waits. `None` where the server cannot wait.
fn cut_off() -> Option<(Group, Waiting)> {
    if !Server::here().is_lossless() {
        return None;
    }
    let group = Group::established(&["a", "b"]);
    group.node("b").cut_off();
    let waiting = group.node("a").write_and_wait("unacknowledged");
    wait_for_it(group.node("a"));
    Some((group, waiting))
}

#[track_caller]
fn wait_for_it(node: &Node) {
    eventually("a commit waits for a replica", || {
        node.administer("SHOW PROCESSLIST").is_ok_and(|list| list.contains("Waiting for semi-sync ACK"))
    });
}

/// Clients behind the one that waits. Commits of several clients get into the log as one, and on MariaDB all of them are told the
/// same as soon as the first goes on.
fn crowd(node: &Node, name: &str) -> Vec<Waiting> {
    // Each its own row: a replacement by the same changes nothing on MySQL, and waits for nobody.
    let crowd = (0..12).map(|n| node.write_and_wait(&format!("{name} {n}"))).collect();
    std::thread::sleep(Duration::from_millis(100));
    crowd
}

#[track_caller]
fn expect_no_acknowledgement(waiting: &Waiting, limit: Duration, what: &str) {
    let answer = waiting.answer(limit);
    assert!(!matches!(answer, Some(Ok(_))), "{what}: a commit that no replica has was reported as done");
}

/// What the server says of those that wait: for the message of a test that fails.
fn sessions(node: &Node) -> String {
    let ask = |sql: &str| node.administer(sql).unwrap_or_else(|e| e);
    format!("{}\n{}", ask("SHOW PROCESSLIST"), ask("SHOW GLOBAL STATUS LIKE 'rpl_semi_sync%'"))
}

/// The commit is acknowledged in the end. Monitors come as they do in a cluster: again and again.
#[track_caller]
fn goes_on(group: &Group, waiting: &Waiting, what: &str) {
    let answer = testkit::within(Duration::from_secs(10), || {
        for name in ["b", "a"] {
            group.node(name).agent().run("monitor").expect(&[0, 8, 190, 191]);
        }
        waiting.answer(Duration::from_millis(300))
    });
    let answer = answer.unwrap_or_else(|| panic!("{what}: it waits still: {}", sessions(group.node("a"))));
    // On MariaDB its session may be ended: the client knows nothing then, and the row is there.
    assert!(answer.is_ok() || (group.node("a").server == Server::MariaDb && group.node("a").is_writable()), "{what}: {answer:?}");
}

// What the servers do.

#[test]
fn fact_an_orderly_shutdown_releases_on_mysql_and_breaks_off_on_mariadb() {
    let Some((group, waiting)) = cut_off() else { return };
    let a = group.node("a");
    a.process().signal(Signal::SIGTERM);
    let answer = waiting.answer(Duration::from_secs(30)).expect("the shutdown ends the waiting");
    assert_eq!(answer.is_ok(), a.server != Server::MariaDb, "{answer:?}");
}

#[test]
fn fact_switching_semi_sync_off_releases() {
    let Some((group, waiting)) = cut_off() else { return };
    let a = group.node("a");
    a.must(&[&format!("SET GLOBAL {}_enabled=0", a.server.source())]);
    waiting.answer(Duration::from_secs(10)).expect("switching it off ends the waiting").expect("and reports success");
}

#[test]
fn fact_a_shorter_limit_changes_nothing_for_those_that_wait() {
    let Some((group, waiting)) = cut_off() else { return };
    let a = group.node("a");
    a.must(&[&format!("SET GLOBAL {}_timeout=1", a.server.source())]);
    assert_eq!(waiting.answer(MOMENT), None);
}

#[test]
fn fact_killing_the_query_releases_on_mariadb_and_does_nothing_on_mysql() {
    let Some((group, waiting)) = cut_off() else { return };
    let a = group.node("a");
    a.must(&[&format!("KILL QUERY {}", waiting.id)]);
    match waiting.answer(MOMENT) {
        Some(Ok(_)) => assert_eq!(a.server, Server::MariaDb),
        None => assert_ne!(a.server, Server::MariaDb),
        Some(Err(e)) => panic!("{e}"),
    }
}

#[test]
fn fact_killing_the_connection_breaks_off() {
    let Some((group, waiting)) = cut_off() else { return };
    group.node("a").must(&[&format!("KILL {}", waiting.id)]);
    let answer = waiting.answer(Duration::from_secs(10)).expect("the connection is closed");
    assert!(answer.as_ref().is_err_and(|e| e.starts_with("lost")), "{answer:?}");
}

/// One session waits for all that went into the log with it.
#[test]
fn fact_killing_a_connection_releases_others_on_mariadb() {
    let Some((group, waiting)) = cut_off() else { return };
    let a = group.node("a");
    let others = crowd(a, "behind");
    let acknowledged = testkit::within(Duration::from_secs(3), || {
        // The first went alone. The next one goes with all the others, and is killed alone.
        let _ = a.administer(&format!("KILL {}", waiting.id));
        for other in &others {
            let state = a.administer(&format!("SELECT state FROM information_schema.processlist WHERE id={}", other.id));
            if state.is_ok_and(|state| state.starts_with("Waiting for semi-sync ACK")) {
                a.must(&[&format!("KILL {}", other.id)]);
            }
        }
        others.iter().any(|other| matches!(other.answer(Duration::ZERO), Some(Ok(_)))).then_some(())
    });
    assert_eq!(acknowledged.is_some(), a.server == Server::MariaDb, "{}", sessions(a));
}

#[test]
fn fact_a_kill_breaks_off_and_the_row_is_there_afterwards() {
    let Some((group, waiting)) = cut_off() else { return };
    let a = group.node("a");
    a.kill_server();
    let answer = waiting.answer(Duration::from_secs(10)).expect("the connection is closed");
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn fact_read_only_waits_behind_a_waiting_commit() {
    let Some((group, waiting)) = cut_off() else { return };
    let a = group.node("a");
    let mut root = testkit::mysql::Client::root(&a.socket()).unwrap();
    root.ask("SET SESSION lock_wait_timeout=1").unwrap();
    let refused = root.ask(a.server.close()).expect_err("it cannot be closed now");
    assert!(refused.starts_with("1205"), "{refused}");
    assert!(waiting.waits_for(Duration::ZERO));
}

#[test]
fn fact_others_read_on_and_do_not_see_what_waits() {
    let Some((group, _waiting)) = cut_off() else { return };
    assert!(group.node("a").has("first") && !group.node("a").has("unacknowledged"));
}

/// What the agent relies on when a member leaves: this waits behind everything that was logged before.
#[test]
fn fact_the_barrier_waits_for_a_replica() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    let before = a.executed();
    a.must(&["FLUSH USER_RESOURCES"]);
    assert_ne!(a.executed(), before, "the barrier is logged");
    group.node("b").cut_off();
    let answer = a.administer("FLUSH USER_RESOURCES");
    assert_eq!(answer, Err("no answer".to_owned()), "the barrier waits");
}

// What the agent makes of it.

#[test]
fn a_commit_that_waits_goes_on_when_the_replica_is_back() {
    let Some((group, waiting)) = cut_off() else { return };
    goes_on(&group, &waiting, "the replica is back");
    assert!(group.node("b").has("unacknowledged"));
}

#[test]
fn a_monitor_neither_waits_nor_releases() {
    let Some((group, waiting)) = cut_off() else { return };
    for _ in 0..3 {
        let answer = group.node("a").agent().run("monitor");
        answer.expect(&[8, 191]);
        assert!(answer.counted < Duration::from_secs(3), "{:?}", answer.elapsed);
    }
    assert!(waiting.waits_for(Duration::ZERO));
}

#[test]
fn a_demotion_acknowledges_nothing_and_is_bounded() {
    let Some((group, waiting)) = cut_off() else { return };
    let a = group.node("a");
    let others = crowd(a, "behind");
    let answer = group.demote("a", &["b"], &["b"]);
    answer.ok();
    assert!(answer.counted < Duration::from_secs(8), "{:?}", answer.elapsed);
    for client in [waiting].iter().chain(&others) {
        expect_no_acknowledgement(client, Duration::from_secs(5), "demote");
    }
    assert_eq!(group.writable(), Vec::<&str>::new());
    a.agent().run("monitor").expect(&[0, 190]);
}

#[test]
fn a_stop_without_a_demotion_acknowledges_nothing_and_is_bounded() {
    let Some((group, waiting)) = cut_off() else { return };
    let others = crowd(group.node("a"), "behind");
    let answer = group.node("a").agent().run("stop");
    answer.ok();
    assert!(answer.counted < Duration::from_secs(10), "{:?}", answer.elapsed);
    for client in [waiting].iter().chain(&others) {
        expect_no_acknowledgement(client, Duration::from_secs(5), "stop");
    }
    assert!(group.node("a").servers().is_empty());
}

/// Nor in a demotion that was killed at any moment, with the one that follows it.
#[test]
fn a_demotion_that_is_killed_and_repeated_acknowledges_nothing() {
    for millis in [20, 300, 700, 1200] {
        let Some((group, waiting)) = cut_off() else { return };
        let running = group.node("a").agent().spawn("demote");
        std::thread::sleep(Duration::from_millis(millis));
        running.kill();
        expect_no_acknowledgement(&waiting, Duration::ZERO, "a killed demotion");
        group.node("a").agent().run("demote").ok();
        group.node("a").agent().run("stop").ok();
        expect_no_acknowledgement(&waiting, Duration::from_secs(5), &format!("a demotion killed after {millis} ms and its repetition"));
        assert_eq!(group.writable(), Vec::<&str>::new());
    }
}

/// The old primary comes back with a transaction that its successor does not have: it is gone there, or it is named.
#[test]
fn what_nobody_acknowledged_never_comes_back_silently() {
    let Some((group, waiting)) = cut_off() else { return };
    let (a, b) = (group.node("a"), group.node("b"));
    a.kill_server();
    expect_no_acknowledgement(&waiting, Duration::from_secs(5), "death");
    group.demote("a", &["b"], &["b"]).ok();
    a.wait_restarted();
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    group.notify_all("post", "demote", &lists);
    group.promote("b", &["a", "b"]).ok();
    assert_eq!(group.writable(), ["b"]);
    let answer = a.agent().run("monitor");
    answer.expect(&[0, 190]);
    if answer.status == 190 {
        let reason = answer.reason().to_owned();
        assert!(reason.contains("transactions that the primary does not have") && reason.contains(&a.executed()[..4]), "{reason}");
        assert_eq!(a.score(), "-INFINITY");
        assert!(!a.is_attached());
    } else {
        group.wait_attached("a");
        assert!(!a.has("unacknowledged"), "it has what its primary has not");
    }
    assert!(!b.has("unacknowledged"));
}

/// Facts: a replica that received a transaction before it acknowledges would leave its client waiting for ever. The second
/// time nothing in the record tells that it happened again.
#[test]
fn a_commit_that_a_replica_received_before_it_acknowledged_is_released() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(&["a", "b"]);
    let b = group.node("b");
    for round in 0..2 {
        group.settle();
        b.cut_off();
        let waiting = group.node("a").write_and_wait(&format!("unacknowledged {round}"));
        wait_for_it(group.node("a"));
        // As after an interruption: received, and not acknowledged.
        b.must(&[&format!("SET GLOBAL {}_enabled=0", b.server.acknowledger()), &format!("START {} IO_THREAD", b.server.replica())]);
        group.wait_attached("b");
        assert_eq!(waiting.answer(MOMENT), None, "nobody has acknowledged it");
        goes_on(&group, &waiting, &format!("round {round}"));
    }
}

/// The web servers of a busy site give up and come again, and what they leave behind takes all connections within seconds. Then there is
/// one connection for the agent, and no second one.
#[test]
fn commits_that_a_replica_holds_go_on_when_all_connections_wait() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    group.settle();
    if a.server != Server::MariaDb {
        // Nor may the replica lose its connection: it has to log in anew to acknowledge. The settings that we recommend leave it one.
        a.must(&["ALTER USER app WITH MAX_USER_CONNECTIONS 30"]);
    }
    // It receives all that comes, and acknowledges nothing of it.
    let replica = b.server.replica();
    b.must(&[
        &format!("STOP {replica} IO_THREAD"),
        &format!("SET GLOBAL {}_enabled=0", b.server.acknowledger()),
        &format!("START {replica} IO_THREAD"),
    ]);
    group.wait_attached("b");
    let mut waiting = vec![a.write_and_wait("first of many")];
    wait_for_it(a);
    waiting.extend(a.use_up(|n| a.try_ask_and_wait(&[], &format!("REPLACE INTO t.k (name, value) VALUES ('one of many {n}', 'value')"))));
    assert_eq!(waiting[0].answer(MOMENT), None, "nobody has acknowledged it");
    let all = testkit::within(Duration::from_secs(15), || {
        for name in ["b", "a"] {
            group.node(name).agent().run("monitor").expect(&[0, 8, 190, 191]);
        }
        waiting.retain(|client| !matches!(client.answer(Duration::from_millis(10)), Some(Ok(_))));
        waiting.is_empty().then_some(())
    });
    assert!(all.is_some(), "{} clients wait still, or lost their connection", waiting.len());
    assert!(b.has("first of many"));
}

#[test]
fn a_primary_without_replicas_blocks_and_says_so() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    b.agent().run("stop").ok();
    let stopped = Lists { promoted: vec!["a"], unpromoted: vec!["b"], stop: vec!["b"], ..Lists::default() };
    group.notify("a", "post", "stop", &stopped);
    let waiting = a.write_and_wait("blocked");
    for _ in 0..2 {
        a.agent().run("monitor").expect(&[8, 191]);
    }
    assert_eq!(waiting.answer(MOMENT), None, "no replica has it");
    // The replica comes back, by the way that Pacemaker has for it.
    let lists = Lists { promoted: vec!["a"], start: vec!["b"], ..Lists::default() };
    group.notify("a", "pre", "start", &lists);
    b.agent().lists(&lists, group.spelling).run("start").ok();
    group.notify("a", "post", "start", &lists);
    goes_on(&group, &waiting, "the replica is back");
    assert!(b.has("blocked"));
}

/// Pacemaker keeps what a degraded monitor said first: a primary with another complaint was never said to wait, and one that had waited was
/// said to do so for ever.
#[test]
fn whether_writes_wait_is_published_whatever_else_the_monitor_says() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(&["a", "b"]);
    group.settle();
    let (a, b) = (group.node("a"), group.node("b"));
    let published = || group.cluster.attribute("systole-db-writes", "a");
    a.must(&["SET GLOBAL sync_binlog=0"]);
    a.agent().run("monitor").refused(191, &["sync_binlog=1"]);
    assert_eq!(published().as_deref(), Some("go"));
    b.cut_off();
    let waiting = a.write_and_wait("unacknowledged");
    wait_for_it(a);
    eventually("it says that writes wait", || {
        // The same code as before: of its words Pacemaker keeps those of before.
        a.agent().run("monitor").expect(&[191]);
        published().as_deref() == Some("wait")
    });
    group.cluster.calls();
    a.agent().run("monitor").expect(&[191]);
    let calls = group.cluster.calls();
    assert!(!calls.iter().any(|call| call.contains("-writes")), "it is said once: {calls:?}");
    goes_on(&group, &waiting, "the replica is back");
    eventually("it says that writes go on", || {
        a.agent().run("monitor").expect(&[191]);
        published().as_deref() == Some("go")
    });
    assert_eq!(group.cluster.attribute("systole-db-writes", "b"), None, "a replica says nothing of that");
}

/// The replicas' new data come by a backup, and a backup of MariaDB ends when no commit is under way: with all replicas lost,
/// each would wait for the other for ever.
#[test]
fn commits_that_nobody_acknowledges_let_a_backup_through() {
    let Some((group, waiting)) = cut_off() else { return };
    let a = group.node("a");
    if a.server != Server::MariaDb {
        return;
    }
    let others = crowd(a, "behind");
    let monitor = || {
        a.agent().run("monitor").expect(&[8, 191]);
    };
    monitor();
    monitor();
    assert_eq!(waiting.answer(MOMENT), None, "without a backup they wait on");
    let socket = a.socket();
    let backup = std::thread::spawn(move || -> Result<String, String> {
        let mut client = Client::root(&socket)?;
        ["START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT", "END"]
            .iter()
            .try_for_each(|stage| client.ask(&format!("BACKUP STAGE {stage}")).map(drop).map_err(|e| format!("{stage}: {e}")))?;
        Ok("done".to_owned())
    });
    eventually("the backup waits", || a.administer("SHOW PROCESSLIST").is_ok_and(|list| list.contains("BLOCK_COMMIT")));
    monitor();
    assert_eq!(backup.join().unwrap(), Ok("done".to_owned()));
    for client in [waiting].iter().chain(&others) {
        expect_no_acknowledgement(client, Duration::from_millis(100), "the backup");
    }
    // What they wrote is there, and goes to whoever comes.
    goes_on(&group, &a.write_and_wait("afterwards"), "the replica is back");
    assert!(group.node("b").has("unacknowledged") && group.node("b").has("afterwards"));
}

/// It counts as one that acknowledges, so the monitor takes it that the commits were received: what it does then must not
/// tell any client that all is well. Commits of several clients wait as one.
#[test]
fn a_replica_that_hangs_has_acknowledged_nothing() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    for round in 0..3 {
        b.process().freeze();
        let first = a.write_and_wait(&format!("hanging {round}"));
        wait_for_it(a);
        let waiting: Vec<Waiting> = crowd(a, &format!("behind {round}")).into_iter().chain([first]).collect();
        // Two for the first, which went alone, and then for those behind it.
        for _ in 0..5 {
            a.agent().run("monitor").expect(&[8, 191]);
        }
        for client in &waiting {
            expect_no_acknowledgement(client, Duration::from_millis(50), "the monitor");
        }
        b.process().signal(Signal::SIGCONT);
        goes_on(&group, &a.write_and_wait("afterwards"), "the replica is back");
    }
}

/// Who is notified of a replica's start, and when. The cluster notifies all at once, or one after the other when it is busy.
#[derive(Clone, Copy, PartialEq)]
enum Notified {
    Nobody,
    Together,
    PrimaryFirst,
    ReplicaFirst,
}

/// The only replica died and is back. Neither the record, nor the replica, nor what was written in between is left to later monitors:
/// with the notifications of its start all is done, and without them when primary and replica are asked at once, as after a promotion.
fn comes_back(notified: Notified) {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    b.kill_server();
    b.agent().run("stop").ok();
    let waiting = a.write_and_wait("in between");
    wait_for_it(a);
    let lists = starts(&group, "b", &waiting);
    match notified {
        // MySQL counts the dead one for a while, and nobody can tell then that it is not there to acknowledge.
        Notified::Nobody => not_counted(a),
        Notified::Together => group.notify_all("post", "start", &lists),
        Notified::PrimaryFirst | Notified::ReplicaFirst => {
            let first = if notified == Notified::PrimaryFirst { ["a", "b"] } else { ["b", "a"] };
            for name in first {
                let answer = group.notify(name, "post", "start", &lists);
                assert!(answer.counted < Duration::from_secs(4), "{name} cannot do what the other one has not done: {:?}", answer.elapsed);
            }
            assert!(group.record().contains("change=1 "), "{}", group.record());
        }
    }
    if notified != Notified::Together {
        ask_at_once(&[a, b]);
    }
    let answer = waiting.answer(BY_ITSELF);
    assert!(matches!(answer, Some(Ok(_))), "{answer:?}: {}\n{}\n{}", sessions(a), a.log(), b.log());
    a.write("afterwards").unwrap();
}

/// A replica of `a` is started, up to the notification of that; this alone lets nothing go on. Returns the lists for it.
fn starts(group: &Group, replica: &'static str, waiting: &Waiting) -> Lists {
    let lists = Lists { promoted: vec!["a"], start: vec![replica], ..Lists::default() };
    group.notify("a", "pre", "start", &lists);
    group.node(replica).agent().lists(&lists, group.spelling).run("start").ok();
    group.wait_attached(replica);
    expect_no_acknowledgement(waiting, Duration::from_millis(300), "nobody is there that is recorded");
    lists
}

/// Waits until the server counts nobody who acknowledges.
fn not_counted(primary: &Node) {
    let schema = if primary.server == Server::MariaDb { "information_schema" } else { "performance_schema" };
    let counted = format!("SELECT variable_value FROM {schema}.global_status WHERE variable_name LIKE 'rpl_semi_sync%_clients'");
    eventually("the dead replica is not counted any more", || primary.administer(&counted).is_ok_and(|count| count == "0"));
}

fn ask_at_once(nodes: &[&Node]) {
    std::thread::scope(|scope| {
        for node in nodes {
            scope.spawn(|| {
                node.agent().run("monitor").expect(&[0, 8]);
            });
        }
    });
}

#[test]
fn the_only_replica_that_comes_back_acknowledges_with_one_monitor() {
    comes_back(Notified::Nobody);
}

#[test]
fn the_only_replica_whose_start_was_notified_acknowledges_at_once() {
    comes_back(Notified::Together);
}

#[test]
fn the_only_replica_whose_start_was_notified_one_after_the_other_acknowledges_with_one_monitor() {
    comes_back(Notified::PrimaryFirst);
    comes_back(Notified::ReplicaFirst);
}

/// The record names a server that cannot acknowledge: it has lost its data and gets a copy, or does not come back. Whoever else
/// comes is not kept waiting for it.
#[test]
fn a_replica_that_comes_back_beside_one_that_cannot_acknowledges_at_once() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(&["a", "b", "c"]);
    let (a, b, c) = (group.node("a"), group.node("b"), group.node("c"));
    c.agent().run("stop").ok();
    group.notify("a", "post", "stop", &Lists { promoted: vec!["a"], unpromoted: vec!["b"], stop: vec!["c"], ..Lists::default() });
    eventually("c has left the record", || {
        a.agent().run("monitor").expect(&[8]);
        group.record().contains("active=b ")
    });
    b.kill_server();
    let waiting = a.write_and_wait("in between");
    wait_for_it(a);
    let lists = starts(&group, "c", &waiting);
    not_counted(a);
    group.notify_all("post", "start", &lists);
    let answer = waiting.answer(BY_ITSELF);
    assert!(matches!(answer, Some(Ok(_))), "{answer:?}: {}\n{}\n{}\n{}", group.record(), sessions(a), a.log(), c.log());
    assert!(group.record().contains("active=b,c "), "{}", group.record());
}
