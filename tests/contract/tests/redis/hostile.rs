//! Parameter values that nobody should give: nothing is executed, nothing is forged, the reason names the parameter.

use std::os::unix::ffi::OsStringExt;

use testkit::Node;

use crate::shared::hostile::expect_one_clean_reason;

promised!(hostile(&Node::alone(), &PARAMETERS, "--requirepass"): hostile_values_are_refused_or_taken_literally_and_never_executed);
promised!(hostile(&Node::alone(), &PARAMETERS): very_long_values);

const PARAMETERS: [&str; 19] = [
    "bin",
    "client_bin",
    "config",
    "user",
    "rundir",
    "pidfile_name",
    "socket_name",
    "port",
    "tunnel_host",
    "tunnel_port_map",
    "wait_last_known_master",
    "acl_user",
    "password",
    "password_file",
    "masteruser",
    "masterauth_file",
    "durability",
    "replica_lag",
    "keep_diverged",
];

/// A wrong value that would stop the cluster's stop must not.
#[test]
fn stop_and_probe_work_with_parameters_that_exclude_each_other_or_make_no_sense() {
    for pairs in [
        &[("password", "a"), ("password_file", "/b")][..],
        &[("tunnel_port_map", "nonsense")],
        &[("tunnel_port_map", "a:0")],
        &[("port", "0")],
        &[("port", "x")],
        &[("durability", "lossless")],
    ] {
        let node = Node::alone();
        node.start();
        let agent = pairs.iter().fold(node.agent(), |agent, (name, value)| agent.parameter(name, value));
        let started = agent.run("start");
        assert_eq!(started.status, 6, "{pairs:?}: the same on all nodes: {}", started.stderr);
        agent.clone().probing().run("monitor").expect(&[0]);
        agent.run("stop").ok();
        assert!(node.servers().is_empty(), "{pairs:?}: the server still runs");
    }
}

#[test]
fn values_that_are_no_utf_8() {
    for name in ["config", "password", "tunnel_host", "no_such_parameter"] {
        let node = Node::alone();
        node.start();
        let agent = node.agent().parameter(name, std::ffi::OsString::from_vec(b"/tmp/\xff\xfe".to_vec()));
        for (action, statuses) in [("validate-all", &[0, 5, 6][..]), ("monitor", &[0, 190]), ("stop", &[0]), ("start", &[0, 1, 4, 5, 6])] {
            let answer = agent.run(action);
            assert!(statuses.contains(&answer.status), "{name}: {action} ended with {}: {}", answer.status, answer.stderr);
            expect_one_clean_reason(&answer.stderr, name);
        }
        agent.run("stop").ok();
        assert!(node.servers().is_empty());
    }
}

#[test]
fn an_action_that_is_no_utf_8_does_not_exist() {
    use std::os::unix::ffi::OsStrExt;
    let node = Node::alone();
    let mut command = node.agent().command(&[]);
    let output = command.arg(std::ffi::OsStr::from_bytes(b"sta\xffrt")).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

/// The kernel takes 107 bytes for the path of a socket.
#[test]
fn a_socket_path_that_is_too_long_is_said() {
    let node = Node::alone();
    let deep = node.directory.join("x".repeat(100));
    let answer = node.agent().parameter("rundir", &deep).run("start");
    assert_ne!(answer.status, 0);
    let reason = answer.reason();
    assert!(reason.contains("socket") || reason.contains("rundir"), "{reason}");
    assert!(node.servers().is_empty());
}

#[test]
fn a_parameter_that_is_unknown_is_passed_over() {
    let node = Node::alone();
    let agent = node.agent().parameter("no_such_parameter", "x");
    agent.run("start").ok();
    agent.run("monitor").expect(&[0]);
    agent.run("stop").ok();
}

#[test]
fn a_password_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::alone();
    let file = node.directory.join("secret");
    std::fs::write(&file, "hunter2\n").unwrap();
    for name in ["password_file", "masterauth_file"] {
        let agent = node.agent().parameter(name, &file);
        for mode in [0o644, 0o640, 0o604] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let answer = agent.run("start");
            answer.refused(4, &[file.to_str().unwrap(), "chmod 600"]);
            assert!(!answer.stderr.contains("hunter2"));
        }
        agent.run("stop").ok();
        agent.clone().probing().run("monitor").expect(&[7]);
    }
}

#[test]
fn an_empty_password_file_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::alone();
    let file = node.directory.join("secret");
    std::fs::write(&file, "\nhunter2\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    node.agent().parameter("password_file", &file).run("start").refused(5, &[file.to_str().unwrap(), "empty"]);
}

#[test]
fn a_wrong_password_is_a_refusal_with_the_remedy() {
    let node = Node::alone();
    node.configure("requirepass right");
    let wrong = node.agent().parameter("password", "wrong");
    let answer = wrong.run("start");
    answer.refused(4, &["password_file", "requirepass"]);
    assert!(!answer.stderr.contains("right"), "{}", answer.stderr);
    node.agent().run("stop").ok();
    node.start();
    // What worked last still does: who edits a password in one place has not broken a server.
    wrong.run("monitor").refused(190, &["former password"]);
    wrong.run("stop").ok();
    assert!(node.servers().is_empty(), "a wrong password must not keep a server alive");
}
