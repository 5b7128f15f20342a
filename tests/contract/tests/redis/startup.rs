//! Servers that do not come up, or not at once: the reason is the server's own.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use testkit::{Lists, Node, Spelling, eventually};

#[test]
fn a_configuration_that_the_server_rejects_is_named_by_line_and_not_shown() {
    let node = Node::alone();
    node.configure("no-such-directive hunter2");
    let answer = node.agent().run("start");
    answer.refused(5, &[node.config().to_str().unwrap(), "line 9"]);
    assert!(!answer.stderr.contains("hunter2") && !node.log().contains("hunter2"), "the line is shown: {}", answer.stderr);
    assert!(node.servers().is_empty());
}

#[test]
fn unbalanced_quotes_are_named_by_line_and_not_shown() {
    let node = Node::alone();
    node.configure("requirepass \"hunter2");
    let answer = node.agent().run("start");
    answer.refused(5, &[node.config().to_str().unwrap(), "line 9"]);
    assert!(!answer.stderr.contains("hunter2") && !node.log().contains("hunter2"), "the line is shown: {}", answer.stderr);
}

#[test]
fn a_corrupt_snapshot_is_named() {
    let node = Node::alone();
    std::fs::write(node.data().join("dump.rdb"), b"REDIS0010 this is no snapshot").unwrap();
    node.give(&node.data().join("dump.rdb"));
    let answer = node.agent().run("start");
    answer.expect(&[1]);
    assert!(answer.reason().to_lowercase().contains("rdb"), "{}", answer.reason());
    assert!(node.servers().is_empty(), "a server that could not load still runs");
}

#[test]
fn a_data_directory_that_is_missing_is_named() {
    let node = Node::alone();
    std::fs::remove_dir_all(node.data()).unwrap();
    node.agent().run("start").refused(5, &[node.data().to_str().unwrap(), "create"]);
}

#[test]
fn a_data_directory_of_somebody_else_is_named() {
    let node = Node::alone();
    std::fs::set_permissions(node.data(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(node.data(), Some(0), Some(0)).unwrap();
    node.agent().run("start").refused(4, &[node.data().to_str().unwrap(), "user redis"]);
    assert!(node.servers().is_empty());
}

#[test]
fn a_port_that_is_taken_is_said() {
    let node = Node::alone();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", node.port)).unwrap();
    let answer = node.agent().run("start");
    answer.refused(1, &["listening on port", &node.port.to_string()]);
}

/// A server that loads is alive, and the cluster must not wait for it for minutes.
#[test]
fn a_server_that_loads_for_long_counts_as_started() {
    let node = Node::alone();
    node.configure("save 3600 1\nkey-load-delay 400\nloading-process-events-interval-bytes 1024");
    node.start_promoted();
    node.ask(&["DEBUG", "POPULATE", "20000"]).or_else(|_| fill(&node)).unwrap();
    node.ask(&["SAVE"]).unwrap();
    node.agent().run("stop").ok();
    let answer = node.agent().run("start");
    answer.ok();
    assert!(answer.counted < Duration::from_secs(8), "{answer:?}");
    node.agent().run("monitor").expect(&[0]);
    eventually("the data are loaded", || node.ask(&["DBSIZE"]).is_ok_and(|n| n == "20000"));
    // Not even for seconds when the promotion of another one comes after this start.
    node.agent().run("stop").ok();
    let answer = node.agent().lists(&Lists::promoting("other", &["other"]), Spelling::Both).run("start");
    answer.ok();
    assert!(answer.counted < Duration::from_secs(3), "{answer:?}");
    node.agent().run("monitor").expect(&[0]);
}

fn fill(node: &Node) -> Result<String, String> {
    node.ask(&["EVAL", "for i = 1, 20000 do redis.call('SET', i, i) end return 1", "0"])
}

#[test]
fn the_rundir_is_made_and_given_to_the_user() {
    let node = Node::alone();
    std::fs::remove_dir_all(node.directory.join("run")).unwrap();
    node.start();
    node.agent().run("monitor").expect(&[0]);
}

#[test]
fn a_socket_that_nobody_listens_on_does_not_keep_it_from_starting() {
    let node = Node::alone();
    drop(std::os::unix::net::UnixListener::bind(node.socket()).unwrap());
    node.start();
    node.agent().run("monitor").expect(&[0]);
}
