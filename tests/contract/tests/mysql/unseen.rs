//! A server that lives and serves, and that the agent cannot look at: degraded with the remedy, never killed, never banned, and never
//! passed over by an election.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use testkit::Lists;
use testkit::mysql::{Group, Node};

promised!(unseen(): a_user_database_that_does_not_answer_bans_no_node);

const PASSWORD: &str = "Amsel-Agent-7";

/// The agent with an account of its own, whose password stands in a file.
fn agent(node: &Node) -> testkit::Agent {
    node.agent().parameter("test_user", "agent").parameter("test_passwd_file", secret(node))
}

fn secret(node: &Node) -> PathBuf {
    node.directory.join("agent.password")
}

fn write_secret(node: &Node, password: &str) {
    std::fs::write(secret(node), format!("{password}\n")).unwrap();
    std::fs::set_permissions(secret(node), std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// All started, `a` promoted; the account of the agents is the primary's and was replicated.
fn established() -> Group {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let create = format!("CREATE USER agent@localhost IDENTIFIED BY '{PASSWORD}'");
    group.node("a").must(&[&create, "GRANT ALL ON *.* TO agent@localhost WITH GRANT OPTION"]);
    for name in ["b", "c"] {
        group.wait_caught_up("a", name);
    }
    for node in &group.nodes {
        write_secret(node, PASSWORD);
        // The account that worked before works as well.
        let _ = std::fs::remove_file(node.state().join("systole-db.login"));
        agent(node).run("monitor").expect(&[0, 8]);
    }
    group
}

/// Changes the account on the primary; the replicas get it.
fn alter(group: &Group, what: &str) {
    let a = group.node("a");
    match what.strip_prefix("IDENTIFIED BY ") {
        Some(password) if a.server == testkit::mysql::Server::MySql56 => {
            a.must(&[&format!("SET PASSWORD FOR agent@localhost = PASSWORD({password})")])
        }
        _ => a.must(&[&format!("ALTER USER agent@localhost {what}")]),
    }
    for name in ["b", "c"] {
        group.wait_caught_up("a", name);
    }
}

/// Every monitor says degraded, with these words, and every server lives on.
#[track_caller]
fn expect_degraded(group: &Group, words: &[&str]) {
    let before: Vec<_> = group.nodes.iter().map(|n| n.process().pid).collect();
    // Pacemaker promotes once more what is promoted, after each change of a parameter.
    agent(group.node("a")).run("promote").ok();
    // And nobody is banned.
    agent(group.node("b")).run("promote").expect(&[1]);
    for _ in 0..2 {
        agent(group.node("a")).run("monitor").refused(191, words);
        for name in ["b", "c"] {
            agent(group.node(name)).run("monitor").refused(190, words);
        }
    }
    assert_eq!(before, group.nodes.iter().map(|n| n.process().pid).collect::<Vec<_>>(), "a server was killed");
    assert_eq!(group.writable(), ["a"]);
    assert!(!group.node("a").log().contains(PASSWORD));
}

#[track_caller]
fn expect_fine(group: &Group) {
    for _ in 0..2 {
        for node in &group.nodes {
            agent(node).run("monitor");
        }
    }
    agent(group.node("a")).run("monitor").expect(&[8]);
    for name in ["b", "c"] {
        agent(group.node(name)).run("monitor").expect(&[0]);
    }
}

#[test]
fn a_changed_password_of_the_agent_is_degraded_until_it_is_in_the_file() {
    let group = established();
    alter(&group, "IDENTIFIED BY 'another'");
    expect_degraded(&group, &["agent", "test_passwd"]);
    group.nodes.iter().for_each(|node| write_secret(node, "another"));
    expect_fine(&group);
}

/// The order of docs/mysql.md: the file first.
#[test]
fn a_password_that_is_changed_in_the_file_first_is_never_noticed() {
    let group = established();
    group.nodes.iter().for_each(|node| write_secret(node, "another"));
    expect_fine(&group);
    alter(&group, "IDENTIFIED BY 'another'");
    expect_fine(&group);
}

#[test]
fn a_password_file_that_is_missing_or_readable_for_a_while_does_no_harm() {
    let group = established();
    for node in &group.nodes {
        std::fs::set_permissions(secret(node), std::fs::Permissions::from_mode(0o640)).unwrap();
    }
    expect_fine(&group);
    for node in &group.nodes {
        std::fs::remove_file(secret(node)).unwrap();
    }
    expect_fine(&group);
}

#[test]
fn an_account_that_is_locked_or_has_used_its_hour_up_is_degraded() {
    let group = established();
    let a = group.node("a");
    let mut inputs = vec![("WITH MAX_CONNECTIONS_PER_HOUR 1", "WITH MAX_CONNECTIONS_PER_HOUR 0")];
    if a.server != testkit::mysql::Server::MySql56 {
        inputs.extend([("ACCOUNT LOCK", "ACCOUNT UNLOCK"), ("PASSWORD EXPIRE", "PASSWORD EXPIRE NEVER")]);
    } else {
        inputs.clear();
    }
    for (input, back) in inputs {
        alter(&group, input);
        for node in &group.nodes {
            agent(node).run("monitor");
        }
        expect_degraded(&group, &["agent"]);
        alter(&group, back);
        if input == "PASSWORD EXPIRE" {
            alter(&group, &format!("IDENTIFIED BY '{PASSWORD}'"));
        }
        expect_fine(&group);
    }
}

/// Pacemaker takes a failed reload for a failed start, and would stop every server of the cluster.
#[test]
fn a_reload_that_cannot_ask_the_server_is_made_up_for_by_a_monitor() {
    let group = established();
    let with_events = |node| agent(node).parameter("event_scheduler", "yes");
    let runs = |name: &str| group.node(name).variable("event_scheduler");
    alter(&group, "IDENTIFIED BY 'another'");
    for node in &group.nodes {
        with_events(node).run("reload-agent").ok();
        assert!(node.log().contains("the next monitor takes the changed parameters over"), "{}", node.log());
    }
    assert_eq!(["a", "b"].map(runs), ["OFF", "OFF"]);
    group.nodes.iter().for_each(|node| write_secret(node, "another"));
    for node in &group.nodes {
        with_events(node).run("monitor");
    }
    assert_eq!(["a", "b"].map(runs), ["ON", "OFF"]);
}

#[test]
fn an_agent_that_is_denied_a_statement_is_degraded() {
    let group = established();
    let a = group.node("a");
    a.must(&["REVOKE ALL PRIVILEGES, GRANT OPTION FROM agent@localhost"]);
    for name in ["b", "c"] {
        group.wait_caught_up("a", name);
    }
    expect_degraded(&group, &["agent"]);
    a.must(&["GRANT ALL ON *.* TO agent@localhost WITH GRANT OPTION"]);
    for name in ["b", "c"] {
        group.wait_caught_up("a", name);
    }
    expect_fine(&group);
}

/// `systemctl stop mariadb` of the distribution's unit takes the directory of the socket away.
#[test]
fn a_socket_whose_file_is_gone_is_degraded() {
    let group = established();
    for node in &group.nodes {
        std::fs::remove_file(node.socket()).unwrap();
    }
    let before: Vec<_> = group.nodes.iter().map(|n| n.process().pid).collect();
    for (name, status) in [("a", 191), ("b", 190), ("c", 190)] {
        group.node(name).agent().run("monitor").refused(status, &["socket", "is gone"]);
        group.node(name).agent().probing().run("monitor").expect(&[if name == "a" { 8 } else { 0 }]);
    }
    assert_eq!(before, group.nodes.iter().map(|n| n.process().pid).collect::<Vec<_>>(), "a server was killed");
}

/// The primary is dead, and a replica is alive and does not let the agent in: it may hold what nobody else holds.
#[test]
fn an_election_waits_for_a_server_that_is_alive_and_cannot_be_asked() {
    for durability in ["lossless", "async-allowed"] {
        let group = Group::established(&["a", "b", "c"]);
        if durability == "lossless" && !group.node("a").server.is_lossless() {
            continue;
        }
        for _ in 0..2 {
            for node in &group.nodes {
                node.agent().parameter("durability", durability).run("monitor").expect(&[0, 8, 190, 191]);
            }
        }
        group.node("a").kill_server();
        let wrong = |name: &str| {
            // What worked before is forgotten, and what is given is wrong.
            let _ = std::fs::remove_file(group.node(name).state().join("systole-db.login"));
            group.node(name).agent().parameter("durability", durability).parameter("test_user", "nobodyhere")
        };
        let demote = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
        let lists = Lists::promoting("b", &["b", "c"]);
        let right = |name: &str| group.node(name).agent().parameter("durability", durability);
        wrong("c").notifying("post", "demote", &demote, group.spelling).run("notify").ok();
        right("b").notifying("post", "demote", &demote, group.spelling).run("notify").ok();
        wrong("c").notifying("pre", "promote", &lists, group.spelling).run("notify").ok();
        right("b").notifying("pre", "promote", &lists, group.spelling).run("notify").ok();
        right("b").lists(&lists, group.spelling).run("promote").refused(1, &["c", "could not be asked"]);
        right("c").notifying("post", "demote", &demote, group.spelling).run("notify").ok();
        std::thread::sleep(std::time::Duration::from_millis(100));
        right("c").notifying("pre", "promote", &lists, group.spelling).run("notify").ok();
        right("b").lists(&lists, group.spelling).run("promote").ok();
    }
}
