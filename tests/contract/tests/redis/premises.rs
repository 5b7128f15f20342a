//! What the agent takes for granted and has to look at: whose replicas are attached, what the configuration lacks or takes away.

use testkit::{Agent, Group, Lists, Node, eventually};

fn quorum(node: &Node) -> Agent {
    node.agent().parameter("durability", "quorum").parameter("replica_lag", "2")
}

#[track_caller]
fn says(agent: &Agent, status: i32, words: &[&str]) {
    let answer = agent.run("monitor");
    answer.expect(&[status]);
    for word in words {
        assert!(answer.reason().contains(word), "without {word:?}: {}", answer.reason());
    }
}

/// A replica of another site, a backup: a server of nobody's, attached to a's.
fn attach_a_stranger(group: &Group) -> Node {
    let stranger = Node::alone();
    stranger.start();
    // It announces nothing, and stands in the primary's list with its address.
    stranger.ask(&["CONFIG", "SET", "replica-announce-ip", ""]).unwrap();
    stranger.ask(&["REPLICAOF", "127.0.0.1", &group.node("a").port.to_string()]).unwrap();
    eventually("the stranger is attached", || {
        let replicas = group.node("a").ask(&["INFO", "replication"]).unwrap();
        replicas.lines().any(|l| l.contains("ip=127.0.0.1,") && l.contains("state=online"))
    });
    stranger
}

#[test]
fn a_replica_of_somebody_else_does_not_count_for_quorum_and_is_shown() {
    let group = Group::established(&["a", "b", "c"]);
    let a = group.node("a");
    quorum(a).run("reload-agent").ok();
    quorum(a).run("monitor").expect(&[8]);
    let _stranger = attach_a_stranger(&group);
    says(&quorum(a), 191, &["127.0.0.1", "none of the cluster's", "WAIT"]);
    assert!(group.record().ends_with("holders=a,b,c"), "{}", group.record());
    for name in ["b", "c"] {
        group.node(name).agent().run("stop").ok();
    }
    eventually("writes are refused with the stranger alone", || a.write("k").is_err_and(|e| e.starts_with("NOREPLICAS")));
    // With async nothing was promised.
    a.agent().run("reload-agent").ok();
    a.agent().run("monitor").expect(&[8]);
}

/// Two have confirmed a write: one of the cluster's, which is stopped, and the stranger. Nobody who is heard in an election has it then but the
/// one that was stopped, and so it stays in the record.
#[test]
fn a_replica_of_somebody_else_lets_no_holder_leave_the_record() {
    let group = Group::established(&["a", "b", "c"]);
    let (a, b, c) = (group.node("a"), group.node("b"), group.node("c"));
    quorum(a).run("reload-agent").ok();
    quorum(a).run("monitor").expect(&[8]);
    let _stranger = attach_a_stranger(&group);
    quorum(a).run("monitor").expect(&[191]);
    b.process().freeze();
    let mut client = a.client();
    client.ask(&["SET", "confirmed", "by c and the stranger"]).unwrap();
    assert_eq!(client.ask(&["WAIT", "2", "1000"]).unwrap(), "2");
    quorum(c).run("stop").ok();
    let stopped = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], stop: vec!["c"], ..Lists::default() };
    quorum(a).notifying("post", "stop", &stopped, group.spelling).run("notify").ok();
    for _ in 0..3 {
        quorum(a).run("monitor").expect(&[8, 191]);
    }
    assert!(group.record().contains("holders=a,b,c"), "b lacks what c has confirmed: {}", group.record());
}

#[test]
fn a_primary_without_enough_replicas_says_so_within_a_monitor_and_since_when() {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    quorum(a).run("reload-agent").ok();
    quorum(a).run("monitor").expect(&[8]);
    b.agent().run("stop").ok();
    eventually("writes are refused", || a.write("k").is_err());
    says(&quorum(a), 191, &["writes are refused", "0 of 1", "durability async"]);
    quorum(a).run("monitor").expect(&[191]);
    assert_eq!(a.log().matches("writes are refused from now on").count(), 1, "{}", a.log());
    let lists = Lists { promoted: vec!["a"], start: vec!["b"], ..Lists::default() };
    b.agent().lists(&lists, group.spelling).run("start").ok();
    group.wait_attached("b");
    quorum(a).run("monitor").expect(&[8]);
    assert!(a.log().contains("writes are taken again after"), "{}", a.log());
}

/// Somebody set it to nothing, and WAIT was the only promise left.
#[test]
fn a_majority_that_somebody_took_away_is_restored() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    quorum(a).run("reload-agent").ok();
    a.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    quorum(a).run("monitor").expect(&[8]);
    assert_eq!(a.ask(&["CONFIG", "GET", "min-replicas-to-write"]).unwrap().lines().last(), Some("1"));
}

/// A lag of 0 switches the server's check off, whatever the number says; with another one it counts other replicas than the monitor.
#[test]
fn a_lag_that_somebody_took_away_is_restored() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    quorum(a).run("reload-agent").ok();
    let lag = || a.ask(&["CONFIG", "GET", "min-replicas-max-lag"]).unwrap().lines().last().map(str::to_owned);
    let wanted = lag();
    for other in ["0", "9"] {
        a.ask(&["CONFIG", "SET", "min-replicas-max-lag", other]).unwrap();
        quorum(a).run("monitor").expect(&[8]);
        assert_eq!(lag(), wanted, "{other}");
    }
}

/// A node went to maintenance and left the record. What its replica had remembered of before refused the election for ten seconds.
#[test]
fn an_election_goes_by_the_record_of_now() {
    let group = Group::established(&["a", "b", "c"]);
    let (a, b, c) = (group.node("a"), group.node("b"), group.node("c"));
    quorum(a).run("reload-agent").ok();
    quorum(b).run("monitor").expect(&[0]);
    c.agent().run("stop").ok();
    let stopped = Lists { promoted: vec!["a"], unpromoted: vec!["b"], stop: vec!["c"], ..Lists::default() };
    quorum(a).notifying("post", "stop", &stopped, group.spelling).run("notify").ok();
    eventually("c has left the record", || {
        quorum(a).run("monitor").expect(&[8]);
        group.record().contains("holders=a,b") && !group.record().contains(",c")
    });
    a.kill_server();
    let lists = Lists { unpromoted: vec!["b"], promote: vec!["b"], ..Lists::default() };
    quorum(b).notifying("pre", "promote", &lists, group.spelling).run("notify").ok();
    assert!(b.log().contains("going on with the promotion"), "{}", b.log());
}

/// Pacemaker was away on its node while another server was promoted.
#[test]
fn a_replica_that_was_told_of_no_promotion_finds_the_primary() {
    let group = Group::established(&["a", "b", "c"]);
    let (a, c) = (group.node("a"), group.node("c"));
    c.agent().run("monitor").expect(&[0]);
    a.kill_server();
    group.promote("b", &["b"]).ok();
    eventually("the link is down", || !c.is_attached());
    c.agent().run("monitor").expect(&[0]);
    detached_since_the_boot(c);
    c.agent().run("monitor");
    group.wait_attached("c");
    assert!(c.log().contains("b is the recorded primary, and not a: following it"), "{}", c.log());
}

/// It was demoted, and the notification of the next promotion got lost: it said for ever that nobody was promoted.
#[test]
fn a_server_that_follows_nobody_finds_the_primary_that_it_was_not_told_of() {
    let group = Group::established(&["a", "b", "c"]);
    let (a, c) = (group.node("a"), group.node("c"));
    group.demote("a", &["b", "c"], &["c"]).ok();
    let lists = Lists::promoting("c", &["a", "b", "c"]);
    group.before_promotion(&lists);
    c.agent().lists(&lists, group.spelling).run("promote").ok();
    for told in ["b", "c"] {
        group.notify(told, "post", "promote", &lists);
    }
    a.agent().run("monitor").expect(&[0]);
    detached_since_the_boot(a);
    a.agent().run("monitor").expect(&[0]);
    group.wait_attached("a");
    assert!(a.log().contains("c is the recorded primary, and this server follows nobody: following it"), "{}", a.log());
}

#[test]
fn quorum_with_an_unknown_number_of_servers_is_refused() {
    let group = Group::of(&["a"]);
    let agent = quorum(group.node("a")).without("OCF_RESKEY_CRM_meta_clone_max");
    agent.run("start").refused(1, &["clone-max"]);
    group.node("a").start();
    agent.run("promote").refused(1, &["clone-max"]);
}

/// 4 rounds of monitors, and no record: it had not announced its name, because its first copy was on the way.
#[test]
fn a_running_replication_is_recorded_while_a_first_copy_is_on_its_way() {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    group.cluster.forget_record("redis");
    std::fs::remove_file(a.state_file()).unwrap();
    let _stranger = attach_a_stranger(&group);
    a.agent().run("monitor").expect(&[8]);
    assert!(group.record().contains("node=a"), "not recorded: {}", a.log());
    assert!(group.record().ends_with("holders=a,b"), "{}", group.record());
    b.agent().run("monitor").expect(&[0]);
}

/// It is one of the cluster's own, and writes are not refused until its monitor has made it say so.
#[test]
fn a_replica_that_was_taken_over_and_has_no_name_yet_holds_no_write_up() {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    b.ask(&["CONFIG", "SET", "replica-announce-ip", ""]).unwrap();
    b.ask(&["CLIENT", "KILL", "TYPE", "master"]).unwrap();
    eventually("b is attached without a name", || {
        let replicas = a.ask(&["INFO", "replication"]).unwrap();
        replicas.lines().any(|l| l.contains("ip=127.0.0.1,") && l.contains("state=online"))
    });
    group.cluster.forget_record("redis");
    for node in [a, b] {
        std::fs::remove_file(node.state_file()).unwrap();
    }
    says(&quorum(a), 191, &["127.0.0.1"]);
    a.write("k").expect("a majority is attached");
    b.agent().run("monitor").expect(&[0]);
    group.wait_attached("b");
    eventually("a is well, with b under its name", || quorum(a).run("monitor").status == 8 && group.record().ends_with("holders=a,b"));
    a.write("k").expect("still");
}

/// Their names were taken for those of strangers, and a running replication was never recorded.
#[test]
fn nodes_whose_names_are_addresses_are_nodes() {
    const NODES: &[&str] = &["10.9.0.1", "10.9.0.2"];
    let group = Group::of(NODES);
    group.start_all();
    group.promote("10.9.0.1", NODES).ok();
    group.wait_attached("10.9.0.2");
    eventually("the replica has reported", || quorum(group.node("10.9.0.1")).run("monitor").status == 8);
    group.cluster.forget_record("redis");
    for node in &group.nodes {
        std::fs::remove_file(node.state_file()).unwrap();
    }
    quorum(group.node("10.9.0.1")).run("monitor").expect(&[8]);
    assert!(group.record().ends_with("holders=10.9.0.1,10.9.0.2"), "{}", group.record());
}

#[test]
fn what_the_configuration_lacks_or_takes_away_is_refused_with_the_line() {
    let node = Node::alone();
    for action in ["validate-all", "start"] {
        node.configure("dir ./");
        node.agent().run(action).refused(5, &["dir /var/lib/redis"]);
        let text = std::fs::read_to_string(node.config()).unwrap();
        let without: String = text.lines().filter(|l| !l.starts_with("dir ")).map(|l| format!("{l}\n")).collect();
        std::fs::write(node.config(), without).unwrap();
        node.agent().run(action).refused(5, &["dir /var/lib/redis"]);
        for command in ["CONFIG", "info", "REPLICAOF", "CLIENT"] {
            node.configure(&format!("rename-command {command} \"\""));
            node.agent().run(action).refused(5, &["rename-command", &command.to_uppercase(), "remove the line"]);
        }
        node.configure("rename-command FLUSHALL \"\"");
        node.agent().run("validate-all").ok();
        for password in [&b"requirepass hunter2\xe4\n"[..], b"requirepass \"hunter2\\xe4\"\n", b"masterauth hunter2\xff\n"] {
            node.configure("");
            let mut text = std::fs::read(node.config()).unwrap();
            text.extend_from_slice(password);
            std::fs::write(node.config(), text).unwrap();
            let answer = node.agent().run(action);
            answer.refused(5, &["UTF-8"]);
            assert!(!answer.stderr.contains("hunter2"));
        }
    }
    assert!(node.servers().is_empty());
}

/// Redis 7 refuses everybody from outside then, whatever is bound.
#[test]
fn protected_mode_without_a_password_is_advised_against_whatever_is_bound() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    let agent = node.agent().without("OCF_RESKEY_tunnel_port_map").meta("clone_max", "3").variable("OCF_CHECK_LEVEL", "10");
    node.configure("bind * -::*");
    agent.run("validate-all").refused(5, &["protected-mode"]);
    for good in ["protected-mode no", "requirepass x", "user default on >x ~* &* +@all"] {
        node.configure(&format!("bind * -::*\n{good}"));
        agent.clone().parameter("open_network", "yes").run("validate-all").ok();
    }
}

/// What keeps a server from being started on this node, with the words that its reason has.
const EXPOSED: [(&str, [&str; 2]); 3] = [
    ("requirepass PASSWORD\nmasterauth PASSWORD", ["requirepass", "is the placeholder still"]),
    ("requirepass right\nmasterauth \"ANOTHER PASSWORD\"", ["masterauth", "is the placeholder still"]),
    ("bind * -::*\nprotected-mode no", ["open_network=yes", "requirepass"]),
];

/// The shipped file, installed as it was, opened a server without a password to everybody who reached the node.
#[test]
fn a_start_opens_no_server_without_a_password_of_its_own() {
    let node = Node::alone();
    for (settings, words) in EXPOSED {
        node.configure(settings);
        for action in ["validate-all", "start"] {
            let answer = node.agent().run(action);
            answer.refused(5, &words);
            answer.refused(5, &[&node.config().display().to_string(), "openssl rand -hex 24", "on every node"]);
        }
        node.agent().run("monitor").expect(&[7]);
        node.agent().probing().run("monitor").expect(&[7]);
        node.agent().run("stop").ok();
        assert!(node.servers().is_empty());
    }
    // An operator vouches for the network, never for the placeholder.
    for (settings, status) in EXPOSED.iter().map(|(settings, _)| settings).zip([5, 5, 0]) {
        node.configure(settings);
        node.agent().parameter("open_network", "yes").run("start").expect(&[status]);
        node.agent().run("stop").ok();
    }
    node.configure("bind * -::*\nrequirepass right\nmasterauth right");
    for action in ["validate-all", "start"] {
        node.agent().parameter("user", "root").run(action).refused(5, &["user root", "set user"]);
    }
    node.start();
}

/// An upgrade: what runs goes on through every action, is shown, and survives a crash of its primary. Only the next start refuses.
#[test]
fn a_server_that_stands_open_is_shown_and_never_stopped_for_it() {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    let servers = [a.process().pid, b.process().pid];
    for node in [a, b] {
        node.configure("bind * -::*\nprotected-mode no");
    }
    for _ in 0..2 {
        says(&a.agent(), 191, &["opens the server to the network", "open_network=yes"]);
        says(&b.agent(), 190, &["opens the server to the network", "open_network=yes"]);
    }
    a.agent().probing().run("monitor").expect(&[8, 191]);
    b.agent().run("start").ok();
    group.promote("a", &["a", "b"]).ok();
    a.agent().parameter("open_network", "yes").run("reload-agent").ok();
    assert_eq!([a.process().pid, b.process().pid], servers);
    a.agent().parameter("open_network", "yes").run("monitor").expect(&[8]);
    // A demotion of a dead primary starts it anew, as it was.
    a.kill_server();
    a.agent().run("demote").ok();
    assert_eq!(a.servers().len(), 1, "{}", a.log());
    b.agent().run("stop").ok();
    b.agent().run("start").refused(5, &["opens the server to the network"]);
    b.agent().parameter("open_network", "yes").run("start").ok();
}

#[test]
fn a_memory_of_a_version_to_come_is_said_and_stops_nobody() {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    let servers = [a.process().pid, b.process().pid];
    for node in [a, b] {
        let text = std::fs::read_to_string(node.state_file()).unwrap();
        std::fs::write(node.state_file(), text.replace("\"version\":1", "\"version\":9")).unwrap();
    }
    says(&a.agent(), 191, &["version 9", "rm "]);
    says(&b.agent(), 190, &["version 9", "rm "]);
    a.agent().run("demote").refused(1, &["version 9"]);
    b.agent().run("promote").refused(1, &["version 9"]);
    assert_eq!(group.writable(), ["a"]);
    assert_eq!([a.process().pid, b.process().pid], servers);
    // The remedy. What the servers are stands in the record, and in them.
    for node in [a, b] {
        std::fs::remove_file(node.state_file()).unwrap();
    }
    a.agent().run("monitor").expect(&[8]);
    b.agent().run("monitor").expect(&[0]);
    for node in [a, b] {
        std::fs::write(node.state_file(), "{\"version\":9}").unwrap();
        node.agent().run("stop").ok();
        assert!(node.servers().is_empty(), "a stop always ends");
    }
}

/// A warning that is always there is read by nobody.
#[test]
fn a_normal_start_warns_of_nothing() {
    let group = Group::established(&["a", "b", "c"]);
    for (name, status) in [("a", 8), ("b", 0), ("c", 0)] {
        for _ in 0..2 {
            group.node(name).agent().run("monitor").expect(&[status]);
        }
        let log = group.node(name).log();
        assert!(!log.contains("WARNING") && !log.contains("ERROR"), "{log}");
    }
}

#[test]
fn a_replica_that_cannot_log_in_or_follows_nobody_is_shown_with_the_way_out() {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    a.ask(&["CONFIG", "SET", "requirepass", "x"]).unwrap();
    a.client().ask(&["AUTH", "x"]).unwrap();
    b.ask(&["CLIENT", "KILL", "TYPE", "master"]).unwrap();
    let down = || b.info("master_link_down_since_seconds").parse::<i64>().unwrap_or(-1);
    eventually("the link is down for 10 s", || down() >= 10);
    says(&b.agent(), 190, &["is down", "refuses its login", "masterauth"]);
    // Nobody is promoted, and this node knows why.
    a.kill_server();
    a.agent().run("stop").ok();
    b.kill_server();
    b.agent().run("stop").ok();
    b.start();
    group.promote("b", &["b"]).refused(1, &["empty"]);
    b.agent().run("monitor").expect(&[0]);
    detached_since_the_boot(b);
    says(&b.agent(), 190, &["nobody is promoted", "not promoted: b is empty"]);
}

/// Sets the time since which a replica is attached to nobody to the boot.
fn detached_since_the_boot(node: &Node) {
    let text = std::fs::read_to_string(node.state_file()).unwrap();
    let begin = text.find("\"detached_since\":{\"secs\":").expect("it is attached to nobody") + 25;
    let end = begin + text[begin..].find(',').unwrap();
    std::fs::write(node.state_file(), format!("{}0{}", &text[..begin], &text[end..])).unwrap();
}

/// A link that was never up has no age of its own.
#[test]
fn a_replica_that_never_attached_is_shown_after_a_while_and_not_at_once() {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    b.agent().run("stop").ok();
    a.ask(&["CONFIG", "SET", "requirepass", "x"]).unwrap();
    let lists = Lists { promoted: vec!["a"], start: vec!["b"], ..Lists::default() };
    b.agent().lists(&lists, group.spelling).run("start").ok();
    b.agent().run("monitor").expect(&[0]);
    detached_since_the_boot(b);
    eventually("the server has said why", || {
        let answer = b.agent().run("monitor");
        answer.status == 190 && answer.reason().contains("refuses its login")
    });
}
