//! What ProxySQL is told by the servers: the questions of its monitor, by its account, in every state. ProxySQL itself does not run
//! here. From the answers it makes its groups, so a server must answer `read_only=0` exactly while it takes writes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::mysql::{Client, Group, Node, Server};
use testkit::{Lists, eventually};

/// The files as `make install` leaves them.
const FILES: &str = "/usr/share/systole/crm-snippets/server";
const PASSWORD: &str = "Zaunkoenig-Monitor-4";

// The questions, as ProxySQL's MySQL_Monitor.cpp has them. It looks for the column by this name.
const READ_ONLY: &str = "SELECT @@global.read_only read_only";
/// What it says once on a connection that it keeps.
const ON_CONNECTING: &str = "SET wait_timeout=2000";

/// The statement about replication, and what is refused by this server. ProxySQL 2 says SLAVE to every server, and ProxySQL 3 says
/// REPLICA from version 8.0.23 on, for which it takes MariaDB's 10 and 11 as well.
fn lag(server: Server) -> (&'static [&'static str], &'static [&'static str]) {
    const SLAVE: &str = "SHOW SLAVE STATUS";
    const REPLICA: &str = "SHOW REPLICA STATUS";
    match server {
        Server::MariaDb | Server::MySql80 => (&[SLAVE, REPLICA], &[]),
        Server::MySql => (&[REPLICA], &[SLAVE]),
        Server::MySql57 | Server::MySql56 => (&[SLAVE], &[REPLICA]),
    }
}

fn file(name: &str) -> String {
    let path = format!("{FILES}/{name}");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What proxysql.sql sets a variable to.
fn setting(name: &str) -> String {
    let text = file("proxysql.sql");
    let line = text.lines().find(|line| line.ends_with(&format!("variable_name = '{name}';"))).expect(name);
    line.split('\'').nth(1).unwrap().to_owned()
}

fn millis(name: &str) -> Duration {
    Duration::from_millis(setting(name).parse().unwrap())
}

/// The statements that an operator runs for the account, with his password and his network.
fn account(server: Server) -> Vec<String> {
    let name = if server == Server::MariaDb { "mariadb" } else { "mysql" };
    let text = file(&format!("proxysql-monitor-{name}.sql"));
    let text: String = text.lines().filter(|line| !line.starts_with("--")).map(|line| format!("{line}\n")).collect();
    assert!(text.contains("'PASSWORD'") && text.contains("'10.%'"), "{text}");
    let text = text.replace("'PASSWORD'", &format!("'{PASSWORD}'")).replace("'10.%'", "'127.%'");
    text.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

/// The account on a server that is closed, into nobody's history.
#[track_caller]
fn create_account(node: &Node) {
    let mut statements = vec!["SET sql_log_bin=0".to_owned()];
    statements.extend(account(node.server));
    if node.server.closes_for_administrators() {
        statements.insert(0, "SET GLOBAL super_read_only=0".to_owned());
        statements.push("SET GLOBAL super_read_only=1".to_owned());
    }
    node.must(&statements.iter().map(String::as_str).collect::<Vec<_>>());
}

fn monitor(node: &Node) -> Result<Client, String> {
    let mut client = Client::tcp(&node.address, node.port, &setting("mysql-monitor_username"), PASSWORD)?;
    client.ask(ON_CONNECTING)?;
    Ok(client)
}

fn read_only(client: &mut Client) -> Result<String, String> {
    client.row(READ_ONLY).map(|row| row.get("read_only").cloned().unwrap_or_else(|| format!("no column read_only: {row:?}")))
}

/// What a new connection is told. The server has to be there.
#[track_caller]
fn told(node: &Node) -> String {
    let mut client = monitor(node).unwrap_or_else(|e| panic!("{}: {e}", node.name));
    client.ping().unwrap();
    read_only(&mut client).unwrap()
}

/// How far it says that it is behind; nothing when it follows nobody. ProxySQL takes an answer only with more than 30 columns.
#[track_caller]
fn behind(node: &Node, question: &str) -> Option<String> {
    let row = monitor(node).unwrap().row(question).unwrap();
    assert!(row.is_empty() || row.len() > 30, "{row:?}");
    let behind = row.get("seconds_behind_master").or_else(|| row.get("seconds_behind_source"));
    assert_eq!(behind.is_some(), !row.is_empty(), "{row:?}");
    behind.cloned()
}

/// `a` promoted, the others attached, the account everywhere.
fn watched(names: &[&'static str]) -> Group {
    let group = Group::of(names);
    group.start_all();
    group.nodes.iter().for_each(create_account);
    group.promote("a", names).ok();
    for name in &names[1..] {
        group.wait_attached(name);
    }
    group.node("a").write("first").unwrap();
    for name in &names[1..] {
        group.wait_caught_up("a", name);
    }
    group
}

#[test]
fn the_account_may_ask_what_proxysql_asks_and_no_more() {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    let (answered, unknown) = lag(a.server);
    let statements = account(a.server);
    let (grants, create): (Vec<&str>, Vec<&str>) = statements.iter().map(String::as_str).partition(|s| s.starts_with("GRANT"));
    // As an operator does, on the primary: the replica has it by replication.
    a.must(&create);
    eventually("the replica has the account", || monitor(b).is_ok());
    for (node, answer) in [(a, "0"), (b, "1")] {
        assert_eq!(told(node), answer, "{}: without any privilege", node.name);
        let mut client = monitor(node).unwrap();
        for question in answered {
            let refused = client.ask(question).expect_err("it has no privilege");
            assert!(refused.starts_with("1227"), "{question}: {refused}");
        }
    }
    a.must(&grants);
    eventually("the replica has the privilege", || monitor(b).is_ok_and(|mut client| client.ask(answered[0]).is_ok()));
    for question in answered {
        assert_eq!(behind(a, question), None, "{question}: the primary follows nobody");
        // The grant itself may just be at work there.
        eventually(&format!("{question}: the replica has caught up"), || behind(b, question).as_deref() == Some("0"));
    }
    for question in unknown {
        let refused = monitor(b).unwrap().ask(question).expect_err("this server has no such statement");
        assert!(refused.starts_with("1064"), "{question}: {refused}");
    }
    for forbidden in ["SELECT * FROM t.k", "SET GLOBAL read_only=0", "SHOW GRANTS FOR app@'%'", "CREATE DATABASE mine"] {
        monitor(a).unwrap().ask(forbidden).expect_err(forbidden);
    }
}

/// Why group 20 is left by a replica that does not replicate: NULL counts as mysql-monitor_slave_lag_when_null, 60.
#[test]
fn a_replica_that_does_not_replicate_says_so() {
    let group = watched(&["a", "b"]);
    let b = group.node("b");
    b.must(&[&format!("STOP {}", b.server.replica())]);
    for question in lag(b.server).0 {
        assert_eq!(behind(b, question), Some("NULL".to_owned()), "{question}");
    }
}

#[test]
fn read_only_is_0_while_a_server_is_promoted_and_1_in_every_other_state() {
    let group = Group::of(&["a", "b"]);
    group.start_all();
    group.nodes.iter().for_each(create_account);
    let expect = |a: &str, b: &str, state: &str| {
        assert_eq!((told(group.node("a")).as_str(), told(group.node("b")).as_str()), (a, b), "{state}");
    };
    expect("1", "1", "just started");
    group.promote("a", &["a", "b"]).ok();
    group.wait_attached("b");
    expect("0", "1", "promoted");
    for node in &group.nodes {
        node.agent().run("monitor").expect(&[0, 8]);
    }
    expect("0", "1", "monitored");
    group.demote("a", &["b"], &[]).ok();
    expect("1", "1", "demoted");
    group.node("a").agent().run("stop").ok();
    assert!(monitor(group.node("a")).is_err(), "stopped");
    group.node("a").start();
    expect("1", "1", "started again");
}

/// The primary goes on as the writer: another one would be as blocked. ProxySQL takes a server for a replica after so many answers in
/// a row that came too late, so these must not occur.
#[test]
fn a_primary_that_waits_for_a_replica_answers_in_time() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = watched(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    b.cut_off();
    let waiting: Vec<_> = (0..8).map(|n| a.write_and_wait(&format!("unacknowledged {n}"))).collect();
    eventually("a commit waits for a replica", || {
        a.administer("SHOW PROCESSLIST").is_ok_and(|list| list.contains("Waiting for semi-sync ACK"))
    });
    let (limit, count) = (millis("mysql-monitor_read_only_timeout"), setting("mysql-monitor_read_only_max_timeout_count"));
    let (mut kept, mut late, mut slowest) = (monitor(a).unwrap(), 0, Duration::ZERO);
    for round in 0..30 {
        let begun = Instant::now();
        kept.ping().unwrap();
        assert_eq!(read_only(&mut kept).unwrap(), "0");
        if round % 10 == 0 {
            assert_eq!(told(a), "0", "a new connection");
        }
        slowest = slowest.max(begun.elapsed());
        late = if begun.elapsed() > limit { late + 1 } else { 0 };
        assert!(late < count.parse().unwrap(), "{count} answers in a row came later than {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("a primary that waits: the slowest answer took {slowest:?}");
    assert!(waiting.iter().all(|client| client.answer(Duration::ZERO).is_none()), "they wait still");
    // Closed or killed, and closed again: in no case open.
    group.demote("a", &["b"], &["b"]).ok();
    eventually("the old primary answers 1", || monitor(a).is_ok_and(|mut client| read_only(&mut client) == Ok("1".to_owned())));
}

/// Received and not applied: nobody may write yet, and ProxySQL is not told otherwise.
#[test]
fn a_promotion_is_told_when_writes_open_and_not_before() {
    let group = watched(&["a", "b", "c"]);
    let b = group.node("b");
    // The applier waits for this.
    let mut root = Client::root(&b.socket()).unwrap();
    root.ask("LOCK TABLES t.k READ").unwrap();
    group.node("c").cut_off();
    group.node("a").write("received").unwrap();
    group.node("a").kill_server();
    let lists = Lists::promoting("b", &["b", "c"]);
    group.before_promotion(&lists);
    let mut kept = monitor(b).unwrap();
    let promoting = b.agent().lists(&lists, group.spelling).spawn("promote");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(700) {
        assert_eq!(read_only(&mut kept).unwrap(), "1", "after {:?}", begun.elapsed());
    }
    drop(root);
    eventually("writes open", || read_only(&mut kept).as_deref() == Ok("0"));
    assert!(b.is_writable() && b.has("received"), "ProxySQL was told, and it is not so");
    promoting.answer().ok();
}

/// An answer of a server, and when it was given: between these two.
struct Sample {
    node: String,
    begun: Instant,
    ended: Instant,
    answer: Result<String, String>,
}

/// Ends the watching also when what happens fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks all servers without a pause while something happens. It begins when all have answered: a first login at MySQL takes a while.
fn watching(group: &Group, happens: impl FnOnce()) -> Vec<Sample> {
    let stop = AtomicBool::new(false);
    let answering = AtomicUsize::new(0);
    let (stopped, met, user) = (&stop, &answering, setting("mysql-monitor_username"));
    std::thread::scope(|scope| {
        let ending = Ending(&stop);
        let watching: Vec<_> = group
            .nodes
            .iter()
            .map(|node| {
                let (name, address, port, user) = (node.name.clone(), node.address.clone(), node.port, user.clone());
                scope.spawn(move || {
                    let (mut samples, mut client, mut known) = (Vec::new(), None, false);
                    while !stopped.load(Ordering::Relaxed) {
                        let begun = Instant::now();
                        let mut kept = client.take().map_or_else(|| Client::tcp(&address, port, &user, PASSWORD), Ok);
                        let answer = kept.as_mut().map_err(|e| e.clone()).and_then(read_only);
                        if answer.is_ok() {
                            client = kept.ok();
                            met.fetch_add(usize::from(!std::mem::replace(&mut known, true)), Ordering::Relaxed);
                        }
                        samples.push(Sample { node: name.clone(), begun, ended: Instant::now(), answer });
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    samples
                })
            })
            .collect();
        let begins = testkit::within(Duration::from_secs(10), || (answering.load(Ordering::Relaxed) == group.nodes.len()).then_some(()));
        if begins.is_some() {
            happens();
        }
        std::thread::sleep(Duration::from_millis(300));
        drop(ending);
        assert!(begins.is_some(), "not all servers answer the monitor");
        watching.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// From one writer to the other, and never both: the last that answered 0 before had done so before the next one did. How long there
/// was none, or what is wrong.
fn handed_over(samples: &[Sample], from: &str, to: &str) -> Result<Duration, String> {
    let open = |node: &str| samples.iter().filter(|s| s.node == node && s.answer.as_deref() == Ok("0")).collect::<Vec<_>>();
    let (before, after) = (open(from), open(to));
    if samples.iter().filter(|s| s.answer.as_deref() == Ok("0")).count() > before.len() + after.len() {
        return Err("a third server was open".to_owned());
    }
    let last = before.last().ok_or_else(|| format!("{from} was not the writer"))?;
    let first = after.first().ok_or_else(|| format!("{to} did not become the writer"))?;
    if last.begun >= first.ended {
        return Err(format!("{from} and {to} were open at once, for {:?} at least", last.begun - first.ended));
    }
    match samples.iter().rfind(|s| s.node == to).map(|s| s.answer.as_deref()) {
        Some(Ok("0")) => Ok(first.ended - last.begun),
        other => Err(format!("at the end {to} answers {other:?}")),
    }
}

#[track_caller]
fn expect_handed_over(samples: &[Sample], from: &str, to: &str) {
    let gap = handed_over(samples, from, to).unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
    println!("{from} to {to}: {} answers, none of them 0 for {gap:?}", samples.len());
}

/// The checks below are worth something only if they see two.
#[test]
fn two_writers_would_be_seen() {
    let group = watched(&["a", "b"]);
    let samples = watching(&group, || {
        std::thread::sleep(Duration::from_millis(100));
        group.node("b").must(&["SET GLOBAL read_only=0"]);
    });
    let seen = handed_over(&samples, "a", "b").expect_err("both are open");
    assert!(seen.contains("a and b were open at once"), "{seen}");
}

#[test]
fn never_two_writers_in_a_planned_move() {
    let group = watched(&["a", "b", "c"]);
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a")] {
        let others: Vec<&'static str> = ["a", "b", "c"].into_iter().filter(|n| *n != from).collect();
        let samples = watching(&group, || {
            group.demote(from, &others, &[to]).ok();
            let lists =
                Lists { promoted: vec![from], unpromoted: others.clone(), demote: vec![from], promote: vec![to], ..Lists::default() };
            group.notify_all("post", "demote", &lists);
            group.promote(to, &["a", "b", "c"]).ok();
        });
        expect_handed_over(&samples, from, to);
        // A writer that still seemed to follow somebody would be SHUNNED for its lag.
        for question in lag(group.node(to).server).0 {
            assert_eq!(behind(group.node(to), question), None, "{to} was a replica");
        }
        group.node(from).agent().run("monitor").expect(&[0]);
        for replica in ["a", "b", "c"].into_iter().filter(|n| *n != to) {
            group.wait_attached(replica);
        }
    }
}

#[test]
fn never_two_writers_after_a_crash() {
    let group = watched(&["a", "b", "c"]);
    let samples = watching(&group, || {
        std::thread::sleep(Duration::from_millis(50));
        group.node("a").kill_server();
        group.demote("a", &["b", "c"], &["b"]).ok();
        let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
        group.notify_all("post", "demote", &lists);
        group.promote("b", &["a", "b", "c"]).ok();
        eventually("the old primary is back", || monitor(group.node("a")).is_ok());
    });
    expect_handed_over(&samples, "a", "b");
    assert!(samples.iter().any(|s| s.node == "a" && s.answer.as_deref() == Ok("1")), "it came back as a replica");
}

/// Why proxysql.sql takes back that ProxySQL sends a statement again whose connection broke: the next primary may have it.
#[test]
fn fact_a_statement_that_is_sent_again_after_a_crash_can_be_done_twice() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = watched(&["a", "b", "c"]);
    let (a, b) = (group.node("a"), group.node("b"));
    a.ask("CREATE TABLE t.orders (what VARCHAR(20))").unwrap();
    group.wait_caught_up("a", "c");
    let order = "INSERT INTO t.orders VALUES ('a book')";
    // A replica gets it, and its acknowledgement does not get back.
    b.cut_off();
    group.node("c").cut_off();
    let waiting = a.ask_and_wait(&[], order);
    eventually("the order waits for a replica", || {
        a.administer("SHOW PROCESSLIST").is_ok_and(|list| list.contains("Waiting for semi-sync ACK"))
    });
    b.must(&[&format!("SET GLOBAL {}_enabled=0", b.server.acknowledger()), &format!("START {} IO_THREAD", b.server.replica())]);
    let ordered = || b.administer("SELECT COUNT(*) FROM t.orders").unwrap();
    eventually("the replica has the order", || ordered() == "1");
    a.kill_server();
    waiting.answer(Duration::from_secs(10)).expect("the connection broke").expect_err("nobody was told that it is done");
    group.promote("b", &["b", "c"]).ok();
    assert_eq!(ordered(), "1");
    b.ask(order).unwrap();
    assert_eq!(ordered(), "2");
}
