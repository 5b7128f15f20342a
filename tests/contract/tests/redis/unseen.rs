//! The agent cannot see, and the server serves: a login that is refused, no free connection, a file that is gone. Nobody is killed, banned
//! or passed over for that, and an operator is told what to correct.

use std::time::Duration;

use testkit::{Client, Group, Lists, Node, eventually};

promised!(unseen(): a_user_database_that_does_not_answer_bans_no_node);

const ALL: &[&str] = &["a", "b", "c"];
const DECIDE: &str = "systole decide ";

/// Appends to the configuration of a running server, as an operator with an editor does.
fn append(node: &Node, text: &str) {
    use std::io::Write;
    std::fs::OpenOptions::new().append(true).open(node.config()).unwrap().write_all(text.as_bytes()).unwrap();
}

fn keys(group: &Group, node: &str) -> String {
    group.node(node).ask(&["DBSIZE"]).unwrap_or_else(|e| e)
}

/// Writes `n` keys and waits until they are everywhere.
fn fill(group: &Group, n: usize) {
    for key in 0..n {
        group.node("a").write(&format!("key {key}")).unwrap();
    }
    for name in ["b", "c"] {
        group.wait_caught_up("a", name);
    }
}

/// A monitor that goes on, and says these words in place of failing.
#[track_caller]
fn degraded(agent: &testkit::Agent, status: i32, words: &[&str]) {
    let answer = agent.run("monitor");
    answer.expect(&[status]);
    for word in words {
        assert!(answer.reason().contains(word), "without {word:?}: {}", answer.reason());
    }
}

/// 2000 of 2001 keys were lost to this: the primary was killed, and its replicas were passed over as dead.
#[test]
fn a_password_edited_on_every_node_with_nothing_restarted_costs_nothing() {
    let group = Group::established(ALL);
    fill(&group, 200);
    let servers: Vec<i32> = ALL.iter().map(|n| group.node(n).process().pid).collect();
    for node in &group.nodes {
        append(node, "requirepass S3cret\nmasterauth S3cret\n");
    }
    for (name, status) in [("a", 191), ("b", 190), ("c", 190)] {
        degraded(&group.node(name).agent(), status, &["another is configured", "docs/redis.md"]);
    }
    assert_eq!(ALL.iter().map(|n| group.node(n).process().pid).collect::<Vec<_>>(), servers);
    assert_eq!(group.writable(), ["a"]);
    // The role still moves, and the death of the primary still makes one with all data its successor.
    group.demote("a", &["b", "c"], &["b"]).ok();
    group.promote("b", ALL).ok();
    for name in ["a", "c"] {
        group.wait_attached(name);
    }
    group.node("b").kill_server();
    group.promote("c", &["a", "c"]).ok();
    assert_eq!(keys(&group, "c"), "202");
}

#[test]
fn a_password_changed_in_the_servers_alone_harms_nobody_and_elects_nobody() {
    let group = Group::established(ALL);
    fill(&group, 50);
    for name in ["a", "c"] {
        group.node(name).ask(&["CONFIG", "SET", "requirepass", "other"]).unwrap();
    }
    let scores = || ALL.iter().map(|n| group.node(n).score()).collect::<Vec<_>>();
    let before = scores();
    degraded(&group.node("a").agent(), 191, &["login", "requirepass", "password_file"]);
    degraded(&group.node("c").agent(), 190, &["login", "requirepass", "password_file"]);
    degraded(&group.node("c").agent().probing(), 190, &["login"]);
    assert_eq!(scores(), before, "who cannot be seen keeps the score");
    group.node("a").kill_server();
    // c may hold more than b.
    group.promote("b", &["b", "c"]).refused(1, &["c is alive", "correct", DECIDE]);
    assert!(group.cluster.position("redis", "c").unwrap().ends_with(":-U"), "{:?}", group.cluster.position("redis", "c"));
    let mut c = Client::tcp(group.node("c").port).unwrap();
    c.ask(&["AUTH", "other"]).unwrap();
    c.ask(&["CONFIG", "SET", "requirepass", ""]).unwrap();
    group.promote("b", &["b", "c"]).ok();
    group.wait_attached("c");
    assert_eq!(keys(&group, "c"), "51");
}

/// Pacemaker takes a failed reload for a failed start, and would stop every server of the cluster.
#[test]
fn a_reload_that_cannot_ask_the_server_is_made_up_for_by_a_monitor() {
    let group = Group::established(ALL);
    let a = group.node("a");
    a.ask(&["CONFIG", "SET", "requirepass", "other"]).unwrap();
    let quorum = || a.agent().parameter("durability", "quorum");
    quorum().run("reload-agent").ok();
    assert!(a.log().contains("the next monitor takes the changed parameters over"), "{}", a.log());
    let mut client = Client::tcp(a.port).unwrap();
    client.ask(&["AUTH", "other"]).unwrap();
    client.ask(&["CONFIG", "SET", "requirepass", ""]).unwrap();
    quorum().run("monitor").expect(&[8]);
    assert_eq!(a.ask(&["CONFIG", "GET", "min-replicas-to-write"]).unwrap().lines().last(), Some("1"));
}

/// The other way round: writes would be refused without an end, and every monitor would be content.
#[test]
fn a_reload_to_async_that_cannot_ask_the_server_is_made_up_for_by_a_monitor() {
    let group = Group::established(ALL);
    let a = group.node("a");
    a.agent().parameter("durability", "quorum").run("reload-agent").ok();
    a.ask(&["CONFIG", "SET", "requirepass", "other"]).unwrap();
    a.agent().run("reload-agent").ok();
    let mut client = Client::tcp(a.port).unwrap();
    client.ask(&["AUTH", "other"]).unwrap();
    client.ask(&["CONFIG", "SET", "requirepass", ""]).unwrap();
    a.agent().run("monitor").expect(&[8]);
    assert_eq!(a.ask(&["CONFIG", "GET", "min-replicas-to-write"]).unwrap().lines().last(), Some("0"));
}

/// A replica that nobody can ask keeps no planned move from happening: the old primary knows that its successor has everything.
#[test]
fn a_planned_move_goes_on_beside_a_server_that_cannot_be_asked() {
    let group = Group::established(ALL);
    group.node("c").ask(&["CONFIG", "SET", "requirepass", "other"]).unwrap();
    group.demote("a", &["b", "c"], &["b"]).ok();
    group.promote("b", ALL).ok();
    assert_eq!(group.node("b").ask(&["GET", "first"]).unwrap(), "value");
}

/// A frozen server wakes up with all that it has.
#[test]
fn nobody_is_elected_over_a_frozen_server_that_may_hold_more() {
    let group = Group::established(ALL);
    group.node("b").ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    group.node("a").write("only on c").unwrap();
    group.wait_caught_up("a", "c");
    group.node("a").kill_server();
    group.node("c").process().freeze();
    group.promote("b", &["b", "c"]).refused(1, &["c is alive", DECIDE]);
    group.node("c").process().signal(testkit::Signal::SIGCONT);
    group.promote("b", &["b", "c"]).refused(1, &["c is to be promoted instead"]);
}

#[test]
fn a_file_that_is_half_written_while_the_monitor_looks() {
    for password in ["", "requirepass hunter2\n"] {
        let node = Node::alone();
        node.configure(password);
        node.start_promoted();
        let (server, whole) = (node.process().pid, std::fs::read(node.config()).unwrap());
        append(&node, "save \"900\n");
        degraded(&node.agent(), 191, &["unbalanced quotes", "line"]);
        std::fs::remove_file(node.config()).unwrap();
        degraded(&node.agent(), 191, &["cannot be read"]);
        // Nothing is known of a login that worked, either.
        std::fs::remove_file(node.state().join("systole-redis.login")).unwrap();
        degraded(&node.agent(), 191, &["cannot be read"]);
        std::fs::write(node.config(), whole).unwrap();
        node.agent().run("monitor").expect(&[8]);
        assert_eq!(node.process().pid, server);
    }
}

/// 9 in ten of ten monitors, although the manual promised that such a server is left alone.
#[test]
fn a_server_without_a_free_connection_is_left_alone() {
    for password in ["", "requirepass hunter2\n"] {
        let node = Node::alone();
        node.configure(&format!("maxclients 5\n{password}"));
        node.start_promoted();
        let server = node.process().pid;
        let hold = || {
            let mut held = Vec::new();
            while held.len() < 20 {
                let mut client = node.client();
                match client.ask(&["PING"]) {
                    Err(e) if !e.contains("NOAUTH") => break,
                    _ => held.push(client),
                }
            }
            held
        };
        let held = hold();
        for _ in 0..10 {
            degraded(&node.agent(), 191, &["maxclients"]);
        }
        assert_eq!(node.process().pid, server);
        drop(held);
        eventually("there is a connection again", || node.agent().run("monitor").status == 8);
        // A demotion waits for one.
        let held = hold();
        let demotion = node.agent().spawn("demote");
        std::thread::sleep(Duration::from_millis(1000));
        drop(held);
        demotion.answer().ok();
        assert_eq!(node.process().pid, server, "it was demoted in order");
        node.agent().run("monitor").expect(&[0]);
    }
}

/// systemd removes the directory of a unit that cannot start, with the socket of the server that runs.
#[test]
fn a_server_whose_socket_file_is_gone_is_asked_over_its_port() {
    let group = Group::established(ALL);
    let (a, b) = (group.node("a"), group.node("b"));
    let servers = [a.process().pid, b.process().pid];
    for node in [a, b] {
        std::fs::remove_dir_all(node.directory.join("run")).unwrap();
    }
    degraded(&a.agent(), 191, &["redis.sock is gone", "standby"]);
    degraded(&b.agent(), 190, &["redis.sock is gone", "standby"]);
    // Everything goes on.
    group.demote("a", &["b", "c"], &["b"]).ok();
    group.promote("b", ALL).ok();
    group.wait_attached("a");
    assert_eq!([a.process().pid, b.process().pid], servers);
    assert_eq!(group.writable(), ["b"]);
    // Where the port is another server's, nobody is asked.
    b.agent().run("stop").ok();
    assert!(b.servers().is_empty());
}

#[test]
fn a_server_whose_socket_file_is_gone_and_that_has_no_port_is_left_alone() {
    let node = Node::alone();
    node.start_promoted();
    let server = node.process().pid;
    node.ask(&["CONFIG", "SET", "requirepass", "x"]).unwrap();
    std::fs::remove_file(node.socket()).unwrap();
    degraded(&node.agent(), 191, &["login"]);
    let text = std::fs::read_to_string(node.config()).unwrap();
    std::fs::write(node.config(), text.replace(&format!("port {}", node.port), "port 0")).unwrap();
    degraded(&node.agent(), 191, &["redis.sock is gone"]);
    assert_eq!(node.process().pid, server);
}

#[test]
fn an_answer_that_makes_no_sense_is_no_death() {
    use std::io::{Read, Write};
    let node = Node::alone();
    node.start_promoted();
    let server = node.process().pid;
    std::fs::remove_file(node.socket()).unwrap();
    let other = std::os::unix::net::UnixListener::bind(node.socket()).unwrap();
    node.give(&node.socket());
    std::thread::spawn(move || {
        for mut stream in other.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    degraded(&node.agent(), 191, &["protocol"]);
    assert_eq!(node.process().pid, server);
}

/// A rule that the ACL lacks.
fn with_rules(node: &Node, rules: &str) -> testkit::Agent {
    use std::os::unix::fs::PermissionsExt;
    node.configure(&format!("user default on nopass ~* &* +@all\nuser agent on >hunter2 resetchannels -@all {rules}"));
    let secret = node.directory.join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    node.agent().parameter("acl_user", "agent").parameter("password_file", secret)
}

const RULES: &str = "+info +config|get +config|set +replicaof +client|pause +client|unpause +client|kill +wait +psync +replconf";

#[test]
fn an_agent_that_may_not_cut_the_clients_or_pause_them_demotes_all_the_same() {
    for missing in ["+client|kill", "+client|pause", "+client|unpause", "+wait"] {
        let node = Node::alone();
        let agent = with_rules(&node, &RULES.replace(missing, ""));
        agent.run("start").ok();
        agent.run("promote").ok();
        let server = node.process().pid;
        agent.run("demote").ok();
        assert_eq!(node.process().pid, server, "{missing}: killed for a rule");
        assert_eq!(node.info("role"), "slave", "{missing}");
        node.write("k").expect_err("closed");
        agent.run("monitor").expect(&[0]);
    }
}

#[test]
fn an_agent_that_may_not_look_leaves_the_server_alone() {
    let node = Node::alone();
    let agent = with_rules(&node, RULES);
    agent.run("start").ok();
    agent.run("promote").ok();
    let server = node.process().pid;
    node.ask(&["ACL", "SETUSER", "agent", "-config|get"]).unwrap();
    degraded(&agent, 191, &["acl_user", "docs/redis.md"]);
    node.ask(&["ACL", "SETUSER", "agent", "-info"]).unwrap();
    degraded(&agent, 191, &["acl_user", "docs/redis.md"]);
    assert_eq!(node.process().pid, server);
    node.write("k").expect("it serves");
}

/// docs/redis.md, "Changing the password": each step by itself, with clients at work and the agents looking.
#[test]
fn the_password_is_changed_without_an_outage_in_the_order_of_the_manual() {
    let group = Group::of(ALL);
    for node in &group.nodes {
        node.configure("requirepass old\nmasterauth old");
    }
    group.start_all();
    group.promote("a", ALL).ok();
    let servers: Vec<i32> = ALL.iter().map(|n| group.node(n).process().pid).collect();
    let client = |name: &str, password: &str| {
        let mut client = group.node(name).client();
        client.ask(&["AUTH", password]).map(|_| client)
    };
    eventually("b and c are attached", || {
        client("a", "old").unwrap().ask(&["INFO", "replication"]).unwrap().matches("state=online").count() == 2
    });
    let mut writer = client("a", "old").unwrap();
    let mut all_is_well = |step: &str| {
        writer.ask(&["SET", step, "v"]).unwrap_or_else(|e| panic!("after {step}: {e}"));
        for (name, statuses) in [("a", &[8, 191]), ("b", &[0, 190]), ("c", &[0, 190])] {
            group.node(name).agent().run("monitor").expect(statuses);
        }
        assert_eq!(ALL.iter().map(|n| group.node(n).process().pid).collect::<Vec<_>>(), servers, "after {step}");
    };
    for name in ALL {
        client(name, "old").unwrap().ask(&["ACL", "SETUSER", "default", ">new"]).unwrap();
        all_is_well("both passwords");
    }
    for node in &group.nodes {
        node.configure("requirepass new\nmasterauth new");
        all_is_well("the file");
    }
    for name in ALL {
        client(name, "old").unwrap().ask(&["CONFIG", "SET", "masterauth", "new"]).unwrap();
        all_is_well("masterauth");
    }
    for name in ALL {
        client(name, "new").unwrap().ask(&["CONFIG", "SET", "requirepass", "new"]).unwrap();
        all_is_well("requirepass");
        assert!(client(name, "old").is_err(), "the old password is gone");
    }
    for (name, status) in [("a", 8), ("b", 0), ("c", 0)] {
        group.node(name).agent().run("monitor").expect(&[status]);
    }
    // And it is complete: the role moves, and who starts anew attaches.
    group.demote("a", &["b", "c"], &["b"]).ok();
    group.promote("b", ALL).ok();
    group.node("c").agent().run("stop").ok();
    let lists = Lists { promoted: vec!["b"], unpromoted: vec!["a"], start: vec!["c"], ..Lists::default() };
    group.node("c").agent().lists(&lists, group.spelling).run("start").ok();
    eventually("all are attached again", || {
        client("b", "new").unwrap().ask(&["INFO", "replication"]).unwrap().matches("state=online").count() == 2
    });
}

/// The start waited for two minutes, killed the other one, and systemd started it again.
#[test]
fn a_server_of_the_distributions_unit_on_our_data_is_refused_at_once_with_the_remedy() {
    let node = Node::alone();
    node.give(&node.directory.join("run"));
    let mut server = std::process::Command::new("setpriv")
        .args(["--reuid=redis", "--regid=redis", "--clear-groups", "--", "redis-server"])
        .arg(node.config())
        .args(["--pidfile", node.pid_file().to_str().unwrap()])
        .current_dir(node.data())
        .spawn()
        .unwrap();
    eventually("it runs", || Client::tcp(node.port).is_ok() && node.pid_file().exists());
    let answer = node.agent().timeout(Duration::from_secs(120)).run("start");
    answer.refused(1, &["systemctl disable --now", "redis.sock"]);
    assert!(answer.counted < Duration::from_secs(4), "{answer:?}");
    assert!(server.try_wait().unwrap().is_none(), "a server that is not ours was killed by a start");
    let _ = server.kill();
    let _ = server.wait();
}
