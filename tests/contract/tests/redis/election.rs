//! Who is promoted, with real servers and what they really hold. The cluster's tools are stand-ins.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::{Group, Lists, Signal, eventually};

const ALL: &[&str] = &["a", "b", "c"];

/// Cuts a replica off, as a network fault does: it keeps its data and gets no more.
fn cut_off(group: &Group, replica: &str) {
    group.node(replica).ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
}

#[test]
fn the_first_promotion_is_recorded_and_the_others_follow() {
    let group = Group::established(ALL);
    let record = group.record();
    let history = group.node("a").info("master_replid");
    assert!(record.starts_with(&format!("epoch=1 node=a history={history} ")) && record.ends_with(" holders=a,b,c"), "{record}");
    for replica in ["b", "c"] {
        assert_eq!(group.node(replica).ask(&["GET", "first"]).unwrap(), "value");
        assert_eq!(group.node(replica).agent().run("monitor").status, 0);
    }
    assert_eq!(group.writable(), ["a"]);
}

/// R1: the stock agent promotes the empty server here, and every write is gone from all nodes.
#[test]
fn a_primary_that_restarted_empty_is_never_promoted_over_its_replicas() {
    let group = Group::established(ALL);
    group.node("a").kill_server();
    group.node("a").agent().run("monitor").refused(9, &["gone"]);
    group.demote("a", &["b", "c"], &["a"]).ok();
    eventually("the dead server was started again", || !group.node("a").servers().is_empty());
    assert_eq!(group.node("a").ask(&["DBSIZE"]).unwrap(), "0", "it has to be empty for this test");
    // The cluster asks the wrong one.
    let answer = group.promote("a", ALL);
    answer.expect(&[1]);
    assert!(answer.reason().contains("is to be promoted instead"), "{}", answer.reason());
    for replica in ["b", "c"] {
        assert_eq!(group.node(replica).ask(&["GET", "first"]).unwrap(), "value", "{replica} was wiped");
    }
    // It handed over: whom it named is promoted, and the data are everywhere again.
    let successor = if group.node("b").score() == "500" { "b" } else { "c" };
    assert_eq!(group.node(successor).score(), "500", "scores: b {}, c {}", group.node("b").score(), group.node("c").score());
    assert_eq!(group.node("a").score(), "1");
    group.promote(successor, ALL).ok();
    group.wait_attached("a");
    assert_eq!(group.node("a").ask(&["GET", "first"]).unwrap(), "value");
    assert_eq!(group.writable(), [successor]);
}

#[test]
fn an_empty_server_alone_does_not_become_the_primary_while_others_may_have_data() {
    let group = Group::established(ALL);
    for name in ALL {
        group.node(name).agent().run("stop").ok();
        group.cluster.forget_node("redis", name);
    }
    group.node("a").start();
    let lists = Lists::promoting("a", &["a"]);
    group.promote_by(&lists).refused(1, &["empty", "did not say", "systole decide redis NODE"]);
    assert_eq!(group.node("a").score(), "-INFINITY", "the cluster must not ask it again at once");
    // It says the same after a promotion that failed as after one that did not.
    group.notify_all("post", "promote", &lists);
    assert_eq!(group.node("a").score(), "-INFINITY", "the cluster must not ask it again at once");
}

#[test]
fn the_higher_offset_wins_whoever_is_asked() {
    for (candidate, successor) in [("b", "c"), ("c", "c")] {
        let group = Group::established(ALL);
        cut_off(&group, "b");
        group.node("a").write("only on c").unwrap();
        group.wait_caught_up("a", "c");
        group.node("a").kill_server();
        let answer = group.promote(candidate, &["b", "c"]);
        if candidate != successor {
            answer.refused(1, &["c is to be promoted instead"]);
            assert_eq!((group.node("b").score().as_str(), group.node("c").score().as_str()), ("1", "500"));
            group.promote(successor, &["b", "c"]).ok();
        }
        group.wait_attached("b");
        assert_eq!(group.node("b").ask(&["GET", "only on c"]).unwrap(), "value");
        assert!(group.record().contains("epoch=2 node=c"), "{}", group.record());
    }
}

#[test]
fn a_refusal_names_the_command_that_decides() {
    let group = Group::of(&["a", "b"]);
    // Two servers with data of their own, and no promotion recorded.
    for name in ["a", "b"] {
        let node = group.node(name);
        node.start();
        for (command, value) in [("REPLICAOF", "NO ONE"), ("CONFIG", "SET min-replicas-to-write 0")] {
            let words: Vec<&str> = std::iter::once(command).chain(value.split(' ')).collect();
            node.ask(&words).unwrap();
        }
        node.write(&format!("of {name}")).unwrap();
        node.ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    }
    let answer = group.promote("a", &["a", "b"]);
    let remedy = "systole decide redis NODE";
    answer.refused(1, &["different data", remedy]);
    // The operator does it.
    group.cluster.set_record("redis", "node=b");
    group.promote("a", &["a", "b"]).refused(1, &["b is to be promoted instead"]);
    group.promote("b", &["a", "b"]).ok();
    group.wait_attached("a");
    assert_eq!(group.node("a").ask(&["GET", "of b"]).unwrap(), "value");
    assert!(group.record().contains("node=b history="), "{}", group.record());
}

#[test]
fn a_record_that_makes_no_sense_promotes_nobody() {
    let group = Group::of(&["a"]);
    group.node("a").start();
    group.cluster.set_record("redis", "who knows");
    group.promote("a", &["a"]).refused(1, &["who knows", "systole decide redis NODE"]);
    assert_eq!(group.writable(), Vec::<&str>::new());
}

/// A position that was published for an earlier election says nothing about this one.
#[test]
fn a_position_of_another_round_is_not_counted() {
    let group = Group::established(ALL);
    group.node("a").kill_server();
    // c is frozen: all that is known of it is from before, and would win if it counted.
    group.node("c").process().freeze();
    let history = group.node("b").info("master_replid");
    group.cluster.set_position("redis", "c", &format!("0-c:{history}:999999:-:0:100:-kl"));
    group.promote("b", &["b"]).ok();
    assert!(group.record().contains("epoch=2 node=b"), "{}", group.record());
}

#[test]
fn a_position_that_makes_no_sense_is_not_counted() {
    let group = Group::established(&["a", "b"]);
    group.node("a").kill_server();
    for nonsense in ["", "x", "1-a:::::::", "1-a:aa:999999999999999999999999:-:0:100:-", "$(reboot)"] {
        group.cluster.set_position("redis", "c", nonsense);
    }
    group.promote("b", &["b"]).ok();
}

/// An election that was won is used up by one that was lost: in between another server may have come with more.
#[test]
fn an_election_won_before_does_not_count_when_one_was_lost_since() {
    let group = Group::established(ALL);
    cut_off(&group, "b");
    group.node("a").write("only on c").unwrap();
    group.wait_caught_up("a", "c");
    group.node("a").kill_server();
    // b alone wins, and its promotion is not carried out: the transition was aborted.
    group.before_promotion(&Lists::promoting("b", &["b"]));
    // c is heard now, and is better. A cluster that promotes b all the same is told no.
    let lists = Lists::promoting("b", &["b", "c"]);
    // The notification waits for 0.1 s only; on a busy machine what c says comes later, and is heard in the next one.
    testkit::eventually("the role is handed to c", || {
        group.before_promotion(&lists);
        group.node("c").score() == "500"
    });
    group.node("b").agent().lists(&lists, group.spelling).run("promote").refused(1, &["c is to be promoted instead"]);
}

/// A won election is of one server process: started again, it has to be held again.
#[test]
fn an_election_won_before_does_not_count_for_a_restarted_server() {
    let group = Group::established(ALL);
    group.node("a").kill_server();
    group.before_promotion(&Lists::promoting("b", &["b", "c"]));
    group.node("b").kill_server();
    group.node("b").agent().run("stop").ok();
    group.node("b").start();
    let lists = Lists::promoting("b", &["b", "c"]);
    let answer = group.node("b").agent().lists(&lists, group.spelling).run("promote");
    assert_ne!(answer.status, 0, "an empty server was promoted on an election that another process won");
}

#[test]
fn promote_without_any_election_holds_one() {
    let group = Group::established(&["a", "b"]);
    group.node("a").kill_server();
    // Nobody has published a position in this round.
    let answer = group.node("b").agent().lists(&Lists::promoting("b", &["b"]), group.spelling).run("promote");
    match answer.status {
        0 => assert_eq!(group.node("b").ask(&["GET", "first"]).unwrap(), "value"),
        _ => drop(answer.refused(1, &["position of b itself is not known"])),
    }
}

/// A planned move: the old primary gives everything away before it steps down, and nobody copies anything.
#[test]
fn a_planned_move_loses_nothing_and_copies_nothing() {
    let group = Group::established(ALL);
    for n in 0..500 {
        group.node("a").write(&format!("key {n}")).unwrap();
    }
    let copies = sync_full(&group);
    group.demote("a", &["b", "c"], &["b"]).ok();
    assert_eq!(group.writable(), Vec::<&str>::new());
    group.promote("b", ALL).ok();
    for replica in ["a", "c"] {
        group.wait_attached(replica);
        assert_eq!(group.node(replica).ask(&["DBSIZE"]).unwrap(), group.node("b").ask(&["DBSIZE"]).unwrap());
    }
    assert_eq!(group.node("b").ask(&["EXISTS", "key 499"]).unwrap(), "1");
    assert_eq!(sync_full(&group), copies, "a whole copy was made");
    assert_eq!(group.writable(), ["b"]);
}

/// How many whole copies all servers have given.
fn sync_full(group: &Group) -> u64 {
    let one = |node: &testkit::Node| {
        let text = node.ask(&["INFO", "stats"]).unwrap();
        text.lines().find_map(|l| l.strip_prefix("sync_full:")?.parse::<u64>().ok()).unwrap()
    };
    group.nodes.iter().map(one).sum()
}

/// More than the sockets hold is still on its way to the replica that takes over.
#[test]
fn a_planned_move_waits_for_the_replica_that_takes_over() {
    let group = Group::established(&["a", "b"]);
    let b = group.node("b").process();
    b.freeze();
    let value = "x".repeat(1_000_000);
    let mut client = group.node("a").client();
    for n in 0..40 {
        client.ask(&["SET", &format!("big {n}"), &value]).unwrap();
    }
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    let demotion = group.node("a").agent().lists(&lists, group.spelling).spawn("demote");
    std::thread::sleep(std::time::Duration::from_millis(300));
    b.signal(Signal::SIGCONT);
    demotion.answer().ok();
    group.promote("b", &["a", "b"]).ok();
    assert_eq!(group.node("b").ask(&["DBSIZE"]).unwrap(), "41");
    assert!(group.node("a").log().contains("the replicas have everything"), "the demotion did not wait");
}

/// The demotion of a primary under load waits for the node that will be promoted.
#[test]
fn a_move_under_load_keeps_every_acknowledged_write() {
    let group = Group::established(&["a", "b"]);
    let port = group.node("a").port;
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let writer = std::thread::spawn(move || {
        let mut client = testkit::Client::tcp(port).unwrap();
        while client.ask(&["SET", &format!("key {}", counted.load(Ordering::Relaxed)), "v"]).is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    eventually("there is a load", || written.load(Ordering::Relaxed) > 100);
    group.demote("a", &["b"], &["b"]).ok();
    group.promote("b", &["a", "b"]).ok();
    writer.join().unwrap();
    let acknowledged = written.load(Ordering::Relaxed);
    assert_eq!(group.node("b").ask(&["EXISTS", &format!("key {}", acknowledged - 1)]).unwrap(), "1");
}

/// A standby of the primary's node, and the replica lacks something: the role was handed to the server that was stopped, for ever.
#[test]
fn the_role_is_not_handed_to_a_server_that_is_stopped() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    cut_off(&group, "b");
    a.write("only on a").unwrap();
    group.demote("a", &["b"], &["b"]).ok();
    let demoted =
        Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], stop: vec!["a"], ..Lists::default() };
    group.notify_all("post", "demote", &demoted);
    a.agent().run("stop").ok();
    let why = ["nobody but a holds all its data", "its server is stopped", "crm node online a", "systole decide redis NODE"];
    group.promote("b", &["b"]).refused(1, &why);
    assert_eq!(group.writable(), Vec::<&str>::new());
}

#[test]
fn a_promotion_back_is_recorded_with_the_next_epoch() {
    let group = Group::established(&["a", "b"]);
    for (from, to, epoch) in [("a", "b", 2), ("b", "a", 3), ("a", "b", 4)] {
        let other = to;
        group.demote(from, &[other], &[to]).ok();
        group.promote(to, &["a", "b"]).ok();
        group.wait_attached(from);
        assert!(group.record().starts_with(&format!("epoch={epoch} node={to} ")), "{}", group.record());
        group.node(from).agent().run("monitor").expect(&[0]);
        group.node(to).agent().run("monitor").expect(&[8]);
    }
}

#[test]
fn a_replica_with_priority_0_is_never_promoted() {
    let group = Group::of(&["a", "b"]);
    group.node("b").configure("replica-priority 0");
    group.start_all();
    group.node("b").agent().run("monitor").expect(&[0]);
    assert_eq!(group.node("b").score(), "-INFINITY");
    group.promote("b", &["a", "b"]).refused(1, &["replica-priority", "raise it"]);
}

/// After a restart of everything: the recorded primary is waited for when the operator wants that.
#[test]
fn wait_last_known_master_refuses_another() {
    let group = Group::of(&["a", "b"]);
    for node in &group.nodes {
        node.configure("save 3600 1");
    }
    group.start_all();
    group.promote("a", &["a", "b"]).ok();
    group.wait_attached("b");
    group.node("a").write("first").unwrap();
    group.wait_caught_up("a", "b");
    for name in ["b", "a"] {
        group.node(name).agent().run("stop").ok();
        group.cluster.forget_node("redis", name);
    }
    let b = group.node("b");
    b.start();
    let lists = Lists::promoting("b", &["b"]);
    let agent = b.agent().parameter("wait_last_known_master", "true");
    agent.clone().notifying("pre", "promote", &lists, group.spelling).run("notify").ok();
    agent.lists(&lists, group.spelling).run("promote").refused(1, &["wait_last_known_master", "start it"]);
}

/// A primary that sends a copy which no server of this version can load, as a newer one does.
fn newer_primary() -> u16 {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for line in lines.map_while(Result::ok) {
                let answer = match line.to_ascii_uppercase().as_str() {
                    "PING" => "+PONG\r\n".to_owned(),
                    "REPLCONF" => "+OK\r\n".to_owned(),
                    "PSYNC" => format!("+FULLRESYNC {} 0\r\n$20\r\nREDIS9999{}", "ab".repeat(20), "x".repeat(11)),
                    _ => continue,
                };
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    port
}

/// It still shows the position of the data that it has thrown away: 6407 bytes and no key, and everybody else was wiped by it.
#[test]
fn a_replica_that_threw_its_data_away_for_a_copy_that_it_cannot_load_is_no_candidate() {
    let group = Group::established(ALL);
    let (b, c) = (group.node("b"), group.node("c"));
    b.ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    group.node("a").write("only on c").unwrap();
    group.wait_caught_up("a", "c");
    let offset = c.info("master_repl_offset");
    c.ask(&["REPLICAOF", "127.0.0.1", &newer_primary().to_string()]).unwrap();
    eventually("c is empty", || c.ask(&["DBSIZE"]).is_ok_and(|n| n == "0") && c.info("repl_backlog_active") == "0");
    c.ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    assert_eq!(c.info("master_repl_offset"), offset, "it has to show its old position for this test");
    group.node("a").kill_server();
    let answer = c.agent().run("monitor");
    answer.expect(&[190]);
    assert!(answer.reason().contains("threw its data away"), "{}", answer.reason());
    assert_eq!(c.score(), "-INFINITY");
    group.promote("c", &["b", "c"]).refused(1, &["c cannot be promoted", "threw its data away"]);
    group.promote("b", &["b", "c"]).ok();
    group.wait_attached("c");
    assert_eq!((b.ask(&["DBSIZE"]).unwrap(), c.ask(&["DBSIZE"]).unwrap()), ("1".into(), "1".into()));
}

/// Sets the time since which the primary misses a holder to the boot.
fn away_since_the_boot(node: &testkit::Node, holder: &str) {
    let text = std::fs::read_to_string(node.state_file()).unwrap();
    let begin = text.find(&format!("\"away\":{{\"{holder}\":{{\"secs\":")).unwrap_or_else(|| panic!("{holder} is not missed: {text}"));
    let begin = begin + text[begin..].find("secs\":").unwrap() + 6;
    let end = begin + text[begin..].find(',').unwrap();
    std::fs::write(node.state_file(), format!("{}0{}", &text[..begin], &text[end..])).unwrap();
}

/// Its data are old: it is no holder any more, is asked last, and wins over nobody who may have the others' data.
#[test]
fn a_replica_that_lost_its_primary_long_ago_is_no_holder_until_it_is_back() {
    let group = Group::established(ALL);
    let (a, c) = (group.node("a"), group.node("c"));
    cut_off(&group, "c");
    a.agent().run("monitor").expect(&[8]);
    assert!(group.record().ends_with("holders=a,b,c"), "at once: {}", group.record());
    away_since_the_boot(a, "c");
    a.agent().run("monitor").expect(&[8]);
    assert!(group.record().ends_with("holders=a,b"), "{}", group.record());
    // Back, by its own monitor: recorded again by the primary's.
    c.agent().run("monitor").expect(&[0]);
    group.wait_attached("c");
    a.agent().run("monitor").expect(&[8]);
    assert!(group.record().ends_with("holders=a,b,c"), "{}", group.record());
    // Lost again, and the others with it.
    cut_off(&group, "c");
    a.agent().run("monitor").expect(&[8]);
    away_since_the_boot(a, "c");
    a.agent().run("monitor").expect(&[8]);
    a.write("not on c").unwrap();
    a.kill_server();
    group.node("b").kill_server();
    group.promote("c", &["c"]).refused(1, &["c has not followed a for long", "b may hold more", "systole decide redis NODE"]);
}

/// It is attached, and its data are those of before: with the primary dead it would be promoted with them.
#[test]
fn a_replica_that_waits_for_its_copy_is_no_holder() {
    let group = Group::established(ALL);
    let (a, c) = (group.node("a"), group.node("c"));
    cut_off(&group, "c");
    a.agent().run("monitor").expect(&[8]);
    away_since_the_boot(a, "c");
    a.agent().run("monitor").expect(&[8]);
    assert!(group.record().ends_with("holders=a,b"), "{}", group.record());
    for (name, value) in [("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "60")] {
        a.ask(&["CONFIG", "SET", name, value]).unwrap();
    }
    // Without the copy that it once got, so that it needs another.
    c.kill_server();
    std::fs::remove_file(c.data().join("dump.rdb")).unwrap();
    c.agent().run("stop").ok();
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b"], start: vec!["c"], ..Lists::default() };
    c.agent().lists(&lists, group.spelling).run("start").ok();
    eventually("c waits for its copy", || {
        let replicas = a.ask(&["INFO", "replication"]).unwrap();
        replicas.lines().any(|l| l.contains("ip=c,") && l.contains("state=wait_bgsave"))
    });
    a.agent().run("monitor").expect(&[8]);
    assert!(group.record().ends_with("holders=a,b"), "{}", group.record());
    a.ask(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).unwrap();
    eventually("c has its copy and is recorded", || {
        a.agent().run("monitor").expect(&[8]);
        group.record().ends_with("holders=a,b,c")
    });
}

/// With durability=quorum, WAIT was answered by a replica that the record did not know, and what it had confirmed was lost.
#[test]
fn a_replica_whose_start_was_not_notified_is_recorded_by_the_next_monitor() {
    let group = Group::established(ALL);
    let a = group.node("a");
    let forget = |text: String| text.replace("[\"a\",\"b\",\"c\"]", "[\"a\",\"b\"]");
    let state = std::fs::read_to_string(a.state_file()).unwrap();
    assert_ne!(forget(state.clone()), state);
    std::fs::write(a.state_file(), state.replace("\"holders\":[\"a\",\"b\",\"c\"]", "\"holders\":[\"a\",\"b\"]")).unwrap();
    group.cluster.set_record("redis", &group.record().replace("holders=a,b,c", "holders=a,b"));
    a.agent().parameter("durability", "quorum").run("monitor");
    assert!(group.record().ends_with("holders=a,b,c"), "{}", group.record());
}
