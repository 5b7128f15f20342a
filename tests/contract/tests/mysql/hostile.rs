//! Parameter values that nobody should give: nothing is executed, nothing is forged, the reason names the parameter.

use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;

use testkit::mysql::Node;

use crate::shared::hostile::expect_one_clean_reason;

promised!(hostile(&Node::empty(), &parameters(), "--init-file=/etc/passwd"): hostile_values_are_refused_or_taken_literally_and_never_executed);
promised!(hostile(&Node::empty(), &parameters()): very_long_values);

/// All that the agent has, from its meta-data.
fn parameters() -> Vec<String> {
    let xml = testkit::Agent::bare(testkit::mysql::AGENT).run("meta-data").stdout;
    let names: Vec<String> =
        xml.lines().filter_map(|l| Some(l.trim().strip_prefix("<parameter name=\"")?.split('"').next()?.to_owned())).collect();
    assert!(names.len() > 30, "{names:?}");
    names
}

/// What goes into SQL as a literal goes in as it is.
#[test]
fn a_replication_password_with_every_quote_reaches_the_primary_whole() {
    let group = testkit::mysql::Group::of(&["a", "b"]);
    // MySQL takes 32 characters.
    let password = "it's \\ \"q\" `x` %s ; -- # $(id)";
    let literal = password.replace('\\', "\\\\").replace('\'', "\\'");
    for node in &group.nodes {
        node.start();
        let set = node.server.set_password("replication@'%'", &literal);
        if node.server.closes_for_administrators() {
            node.must(&["SET GLOBAL super_read_only=0", "SET sql_log_bin=0", &set, "SET GLOBAL super_read_only=1"]);
        } else {
            node.must(&["SET sql_log_bin=0", &set]);
        }
    }
    let lists = testkit::Lists::promoting("a", &["a", "b"]);
    for (phase, action) in [("pre", "notify"), ("", "promote"), ("post", "notify")] {
        for name in if phase.is_empty() { &["a"][..] } else { &["b", "a"] } {
            let agent = group.node(name).agent().parameter("replication_passwd", password).lists(&lists, group.spelling);
            let agent = if phase.is_empty() { agent } else { agent.notifying(phase, "promote", &lists, group.spelling) };
            agent.run(action).ok();
        }
    }
    group.wait_attached("b");
}

/// A wrong value that would stop the cluster's stop must not.
#[test]
fn stop_and_probe_work_with_parameters_that_exclude_each_other_or_make_no_sense() {
    let node = Node::alone();
    for pairs in [
        &[("test_passwd", "a"), ("test_passwd_file", "/b")][..],
        &[("replication_passwd", "a"), ("replication_passwd_file", "/b")],
        &[("test_table", "nonsense; DROP TABLE x")],
        &[("replication_port", "0")],
        &[("replication_port", "x")],
        &[("durability", "quorum")],
        &[("rejoin", "wipe")],
        &[("acknowledgements", "0")],
    ] {
        node.start();
        let agent = pairs.iter().fold(node.agent(), |agent, (name, value)| agent.parameter(name, value));
        let started = agent.run("start");
        assert_eq!(started.status, 6, "{pairs:?}: the same on all nodes: {}", started.stderr);
        agent.clone().probing().run("monitor").expect(&[0, 4]);
        agent.run("stop").ok();
        assert!(node.servers().is_empty(), "{pairs:?}: the server still runs");
    }
}

/// `crm resource param mysql set durability losless` reaches all nodes within a second.
#[test]
fn a_typing_error_in_a_parameter_stops_nobody_who_runs() {
    let group = testkit::mysql::Group::established(&["a", "b"]);
    group.settle();
    let servers: Vec<_> = group.nodes.iter().map(|n| n.process().pid).collect();
    let wrong = |name: &str| group.node(name).agent().parameter("durability", "losless").parameter("acknowledgements", "many");
    for (name, status) in [("a", 191), ("b", 190)] {
        wrong(name).run("reload-agent").ok();
        wrong(name).run("monitor").refused(status, &["durability", "losless", "lossless"]);
    }
    assert!(group.record().contains("durability=lossless") || !group.node("a").server.is_lossless(), "{}", group.record());
    group.node("a").write("still").unwrap();
    let lists = testkit::Lists { unpromoted: vec!["b"], promoted: vec!["a"], ..testkit::Lists::default() };
    wrong("b").lists(&lists, group.spelling).run("start").refused(5, &["losless"]);
    assert_eq!(servers, group.nodes.iter().map(|n| n.process().pid).collect::<Vec<_>>(), "a server was stopped");
    let demote = testkit::Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], ..Default::default() };
    wrong("a").lists(&demote, group.spelling).run("demote").ok();
    for name in ["b", "a"] {
        wrong(name).notifying("post", "demote", &demote, group.spelling).run("notify").ok();
    }
    let lists = testkit::Lists::promoting("b", &["a", "b"]);
    for name in ["a", "b"] {
        wrong(name).notifying("pre", "promote", &lists, group.spelling).run("notify").ok();
    }
    wrong("b").lists(&lists, group.spelling).run("promote").ok();
    for name in ["a", "b"] {
        wrong(name).notifying("post", "promote", &lists, group.spelling).run("notify").ok();
    }
    group.wait_attached("a");
    assert!(group.node("b").has("still"));
    wrong("a").run("stop").ok();
}

/// Before any monitor: what the start was given counts.
#[test]
fn a_typing_error_right_after_a_start_points_nobody_elsewhere() {
    let group = testkit::mysql::Group::established(&["a", "b"]);
    let b = group.node("b");
    let port = || b.replication_of("source_port", "master_port");
    let before = port();
    b.agent().parameter("replication_port", "a lot").run("monitor").refused(190, &["replication_port", "a lot"]);
    assert_eq!(port(), before);
    group.node("a").write("still").unwrap();
    group.wait_caught_up("a", "b");
}

#[test]
fn values_that_are_no_utf_8() {
    let node = Node::alone();
    for name in ["config", "test_passwd", "replication_user", "no_such_parameter"] {
        node.start();
        let agent = node.agent().parameter(name, std::ffi::OsString::from_vec(b"/tmp/\xff\xfe".to_vec()));
        for (action, statuses) in
            [("validate-all", &[0, 5, 6][..]), ("monitor", &[0, 4, 5, 6]), ("stop", &[0]), ("start", &[0, 1, 4, 5, 6])]
        {
            let answer = agent.run(action);
            assert!(statuses.contains(&answer.status), "{name}: {action} ended with {}: {}", answer.status, answer.stderr);
            expect_one_clean_reason(&answer.stderr, name);
        }
        agent.run("stop").ok();
        assert!(node.servers().is_empty());
    }
}

/// The kernel takes 107 bytes for the path of a socket.
#[test]
fn a_socket_path_that_is_too_long_is_said() {
    let node = Node::alone();
    let deep = node.directory.join("run").join("x".repeat(120)).join("sock");
    let answer = node.agent().parameter("socket", &deep).run("start");
    assert_ne!(answer.status, 0);
    assert!(answer.reason().contains("socket"), "{}", answer.reason());
    assert!(node.servers().is_empty(), "a failed start leaves a server");
}

#[test]
fn a_password_file_that_others_can_read_is_refused() {
    let node = Node::alone();
    let file = node.directory.join("secret");
    std::fs::write(&file, "hunter2\n").unwrap();
    for name in ["test_passwd_file", "replication_passwd_file"] {
        let agent = node.agent().without("OCF_RESKEY_replication_passwd").parameter(name, &file);
        for mode in [0o644, 0o640, 0o604] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let answer = agent.run("start");
            answer.refused(4, &[file.to_str().unwrap(), "chmod 600"]);
            assert!(!answer.stderr.contains("hunter2"));
        }
        agent.run("stop").ok();
        agent.clone().probing().run("monitor").expect(&[7]);
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, "\nhunter2\n").unwrap();
    node.agent().parameter("test_passwd_file", &file).run("start").refused(5, &[file.to_str().unwrap(), "empty"]);
}

#[test]
fn a_wrong_login_is_a_refusal_with_the_remedy_and_never_keeps_a_server_alive() {
    let node = Node::alone();
    let wrong = node.agent().parameter("test_user", "nobodyhere").parameter("test_passwd", "hunter2");
    let answer = wrong.run("start");
    answer.refused(4, &["nobodyhere", "test_user", "test_passwd"]);
    assert!(!answer.stderr.contains("hunter2"), "{}", answer.stderr);
    assert!(node.servers().is_empty(), "a failed start leaves a server");
    node.start();
    // What worked is remembered, and a wrong parameter does no harm.
    wrong.run("monitor").expect(&[0]);
    let forget = || std::fs::remove_file(node.state().join("systole-db.login")).unwrap();
    forget();
    wrong.run("monitor").refused(190, &["test_user"]);
    node.agent().run("promote").ok();
    forget();
    wrong.run("monitor").refused(191, &["test_user"]);
    let server = node.process();
    wrong.run("demote").ok();
    // It runs no more; that the kernel has taken its memory back is not waited for.
    testkit::eventually("a primary that cannot be demoted has died", || !server.is_there());
    node.agent().run("stop").ok();
    node.start();
    forget();
    wrong.run("stop").ok();
    assert!(node.servers().is_empty(), "a wrong password must not keep a server alive");
}

/// The account of the server can put anything in the place of its own files.
#[test]
fn a_fifo_in_the_place_of_the_pid_file_holds_nothing_up() {
    let node = Node::alone();
    let made = std::process::Command::new("mkfifo").arg(node.pid_file()).status().unwrap();
    assert!(made.success());
    let answer = node.agent().timeout(std::time::Duration::from_secs(10)).probing().run("monitor");
    answer.expect(&[7]);
    assert!(answer.counted < std::time::Duration::from_secs(5), "{:?}", answer.elapsed);
    node.agent().run("stop").ok();
}
