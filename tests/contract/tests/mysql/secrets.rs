//! Passwords are where they are needed and nowhere else.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testkit::mysql::{Group, Node, REPLICATION_PASSWORD};
use testkit::{Agent, Lists};

use crate::shared::secrets::{Lookout, NEEDLE, expect_clean_trace, loud, syslog, walk};

/// Everything that shells, SQL and XML could stumble over, and a word to search for. MySQL takes 32 characters.
const PASSWORD: &str = r#"hunter2 "q" 's' $(id) ` \ ; & <"#;

fn secret_file(node: &Node, name: &str, text: &str) -> std::path::PathBuf {
    let path = node.directory.join(name);
    std::fs::write(&path, format!("{text}\nnot this line\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The files that may hold it: what the server itself keeps, and what the test wrote.
#[track_caller]
fn expect_nowhere(directory: &Path) {
    for entry in walk(directory) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.starts_with(directory.join("data")) || name.starts_with("secret") {
            continue;
        }
        if name == "systole-db.login" {
            // What worked last is remembered, for root's eyes only.
            let mode = std::fs::metadata(&entry).map(|m| m.permissions().mode() & 0o777).unwrap_or(0o600);
            assert_eq!(mode, 0o600, "{}", entry.display());
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&entry).unwrap_or_default()).into_owned();
        assert!(!text.contains(NEEDLE), "the password stands in {}", entry.display());
    }
}

/// An account with a password for the agent, and that password for replication, on a server at rest.
fn give_passwords(node: &Node) {
    node.start();
    let literal = PASSWORD.replace('\\', "\\\\").replace('\'', "\\'");
    let replication = node.server.set_password("replication@'%'", &literal);
    let mut statements = vec![
        "SET sql_log_bin=0".to_owned(),
        format!("CREATE USER pacemaker@localhost IDENTIFIED BY '{literal}'"),
        "GRANT ALL ON *.* TO pacemaker@localhost WITH GRANT OPTION".to_owned(),
        replication,
    ];
    if node.server.closes_for_administrators() {
        statements.insert(0, "SET GLOBAL super_read_only=0".to_owned());
        statements.push("SET GLOBAL super_read_only=1".to_owned());
    }
    node.must(&statements.iter().map(String::as_str).collect::<Vec<_>>());
    node.agent().run("stop").ok();
}

/// All actions of a primary and of a replica with everything that logs switched on.
#[track_caller]
fn all_actions(with: impl Fn(&Node, Agent) -> Agent) {
    syslog();
    let group = Group::of(&["a", "b"]);
    group.nodes.iter().for_each(give_passwords);
    let agent = |name: &str| {
        let node = group.node(name);
        let agent =
            node.agent().without("OCF_RESKEY_replication_passwd").parameter("test_user", "pacemaker").parameter("pasword", PASSWORD);
        loud(node, with(node, agent))
    };
    let lists = Lists::promoting("a", &["a", "b"]);
    let mut lookout = Lookout::begin(|name| name == "mysql" || name.contains("::") || name.starts_with("mysql-"));
    let mut run = |agent: Agent, action: &str, statuses: &[i32]| lookout.run(&agent, action, statuses);
    for name in ["a", "b"] {
        run(agent(name), "validate-all", &[0]);
        run(agent(name), "start", &[0]);
        run(agent(name).notifying("pre", "promote", &lists, group.spelling), "notify", &[0]);
    }
    run(agent("a").lists(&lists, group.spelling), "promote", &[0]);
    for name in ["b", "a"] {
        run(agent(name).notifying("post", "promote", &lists, group.spelling), "notify", &[0]);
    }
    group.wait_attached("b");
    for name in ["b", "a"] {
        run(agent(name), "monitor", &[0, 8]);
        run(agent(name).variable("OCF_CHECK_LEVEL", "10"), "validate-all", &[0]);
        run(agent(name), "reload-agent", &[0]);
        // A statement with the password that the server does not take.
        run(agent(name).parameter("replication_user", "x".repeat(300)), "reload-agent", &[0, 1]);
    }
    let server_arguments = group.nodes.iter().map(|n| n.process().arguments).collect::<String>();
    for name in ["a", "b"] {
        run(agent(name), "demote", &[0]);
        run(agent(name), "stop", &[0]);
    }
    lookout.expect_nothing();
    assert!(!server_arguments.contains(NEEDLE));
    for node in &group.nodes {
        expect_clean_trace(node);
        expect_nowhere(&node.directory);
    }
}

#[test]
fn passwords_as_parameters() {
    all_actions(|_, agent| agent.parameter("test_passwd", PASSWORD).parameter("replication_passwd", PASSWORD));
}

#[test]
fn passwords_in_files() {
    all_actions(|node, agent| {
        agent
            .parameter("test_passwd_file", secret_file(node, "secret-test", PASSWORD))
            .parameter("replication_passwd_file", secret_file(node, "secret-replication", PASSWORD))
    });
}

/// MariaDB takes 96 characters, MySQL 32, and both say a part of what they do not take.
#[test]
fn a_replication_password_that_is_too_long_is_refused_at_start_and_never_shown() {
    let group = Group::of(&["a", "b"]);
    let a = group.node("a");
    let long = "Nachtigall".repeat(13);
    let answer = a.agent().parameter("replication_passwd", &long).run("start");
    answer.refused(5, &["replication_user", "characters", "choose a shorter one"]);
    assert!(!answer.stderr.contains("Nachtig") && !a.log().contains("Nachtig"));
    // Changed while it runs.
    let group = Group::established(&["a", "b"]);
    let b = group.node("b");
    group.settle();
    b.must(&[&format!("STOP {}", b.server.replica()), &format!("RESET {} ALL", b.server.replica())]);
    let answer = b.agent().parameter("replication_passwd", &long).run("monitor");
    assert!(!answer.stderr.contains("Nachtig") && !b.log().contains("Nachtig"), "{}", b.log());
}

/// The server refuses the statement and quotes it: what the agent passes on is without the password.
#[test]
fn the_error_of_a_statement_that_names_the_source_holds_no_password() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let b = group.node("b");
    b.must(&[&format!("STOP {}", b.server.replica()), &format!("RESET {} ALL", b.server.replica())]);
    // Too long for the server, quoted or not.
    for (name, value) in [("replication_user", "x".repeat(300)), ("replication_master_ssl_ca", format!("/{}", "y".repeat(3000)))] {
        let answer = b.agent().parameter(name, value).parameter("replication_require_ssl", "yes").run("monitor");
        for text in [answer.stderr.as_str(), answer.stdout.as_str(), b.log().as_str()] {
            assert!(!text.contains(REPLICATION_PASSWORD), "{text}");
        }
    }
}
