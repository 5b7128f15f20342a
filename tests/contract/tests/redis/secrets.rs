//! Passwords are where they are needed and nowhere else.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testkit::{Agent, Client, Group, Node};

use crate::shared::secrets::{Lookout, NEEDLE, expect_clean_trace, loud, walk};

/// Everything that shells, Redis and XML could stumble over, and a word to search for.
const PASSWORD: &str = r#"hunter2 "quoted" 'single' $(id) `id` \ ; & < > % é"#;

fn secret_file(node: &Node, text: &str) -> std::path::PathBuf {
    let path = node.directory.join("secret");
    std::fs::write(&path, format!("{text}\nnot this line\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// As the server reads it between double quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[track_caller]
fn expect_nowhere(directory: &Path, except: &[&str]) {
    for entry in walk(directory) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read(&entry).unwrap_or_default();
        if name == "systole-redis.login" {
            // The login that worked last: root's alone.
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{}", entry.display());
        } else if !except.contains(&name.as_str()) {
            assert!(!String::from_utf8_lossy(&text).contains(NEEDLE), "the password stands in {}", entry.display());
        }
    }
}

/// All actions with everything that logs switched on.
#[track_caller]
fn all_actions(node: &Node, agent: &Agent) {
    let mut lookout = Lookout::begin(|name| name == "redis" || name.starts_with("secrets::"));
    let traced = loud(node, agent.clone()).parameter("pasword", PASSWORD).parameter("crm_feature_set", "3.16.2");
    for (action, status) in [
        ("validate-all", 0),
        ("start", 0),
        ("monitor", 0),
        ("promote", 0),
        ("monitor", 8),
        ("reload-agent", 0),
        ("demote", 0),
        ("monitor", 0),
        ("stop", 0),
        ("monitor", 7),
    ] {
        lookout.run(&traced, action, &[status]);
    }
    lookout.expect_nothing();
    expect_clean_trace(node);
    expect_nowhere(&node.directory, &["secret", "redis.conf", "users.acl"]);
}

#[test]
fn a_password_in_the_configuration() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    node.configure(&format!("requirepass {}", quoted(PASSWORD)));
    all_actions(node, &alone(node));
}

/// A clone of one: every action can succeed without the others.
fn alone(node: &Node) -> Agent {
    let lists = testkit::Lists::promoting("a", &["a"]);
    let agent = node.agent().meta("clone_max", "1").lists(&lists, testkit::Spelling::Both);
    node.cluster.as_ref().unwrap().set_position("redis", "a", "0-:aa:0:-:0:100:-");
    agent
}

#[test]
fn a_password_in_a_file() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    node.configure(&format!("requirepass {}", quoted(PASSWORD)));
    all_actions(node, &alone(node).parameter("password_file", secret_file(node, PASSWORD)));
}

#[test]
fn a_password_as_a_parameter() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    node.configure(&format!("requirepass {}", quoted(PASSWORD)));
    all_actions(node, &alone(node).parameter("password", PASSWORD));
}

#[test]
fn an_acl_user() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    let acl = node.directory.join("users.acl");
    // The sum of what docs/redis.md lists belongs here; `+@all` would hide a command that is missing there.
    std::fs::write(
        &acl,
        "user default off\nuser pacemaker on >hunter2 +info +config|get +config|set +replicaof +client|pause +client|unpause \
         +client|kill +ping +select +auth +hello\n",
    )
    .unwrap();
    node.give(&acl);
    node.configure(&format!("aclfile {}", acl.display()));
    all_actions(node, &alone(node).parameter("acl_user", "pacemaker").parameter("password_file", secret_file(node, "hunter2")));
}

/// Replication's login is set after the server came up: an agent killed in between leaves it unset.
#[test]
fn a_start_that_was_killed_and_repeated_sets_the_login_of_replication() {
    let node = Node::alone();
    node.configure("requirepass hunter2");
    node.start();
    // As the killed start leaves it: the server runs, and was not told.
    let mut client = node.client();
    client.ask(&["AUTH", "hunter2"]).unwrap();
    client.ask(&["CONFIG", "SET", "masterauth", ""]).unwrap();
    node.start();
    assert_eq!(client.ask(&["CONFIG", "GET", "masterauth"]).unwrap(), "masterauth\nhunter2");
}

/// Replication's password gets to the server without standing on its command line, and replication works with it.
#[test]
fn replication_logs_in_with_the_agents_password() {
    let group = Group::of(&["a", "b"]);
    for node in &group.nodes {
        node.configure(&format!("requirepass {}", quoted(PASSWORD)));
    }
    group.start_all();
    group.promote("a", &["a", "b"]).ok();
    testkit::eventually("b is attached", || {
        let mut client = Client::tcp(group.node("b").port).unwrap();
        client.ask(&["AUTH", PASSWORD]).unwrap();
        client.ask(&["INFO", "replication"]).unwrap().contains("master_link_status:up")
    });
    for node in &group.nodes {
        assert!(!node.process().arguments.contains(NEEDLE) && !node.process().environment.contains(NEEDLE), "{:?}", node.process());
    }
}
