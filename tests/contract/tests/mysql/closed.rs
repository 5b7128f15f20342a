//! A server is closed for writes until it is promoted, whatever its option file and whoever started it.

use testkit::mysql::{Group, Node, Server};
use testkit::{Lists, eventually};

/// Everything that an option file can do to open a server or to make it act by itself.
fn opens(server: Server) -> &'static str {
    match server {
        Server::MariaDb => {
            "read_only=0\nevent_scheduler=ON\nrpl_semi_sync_master_enabled=1\nrpl_semi_sync_slave_enabled=1\nrpl_semi_sync_master_timeout=1\n\
             init_rpl_role=MASTER"
        }
        Server::MySql | Server::MySql80 => {
            "read_only=0\nsuper_read_only=0\nevent_scheduler=ON\nplugin-load-add=semisync_source.so\nplugin-load-add=semisync_replica.so\n\
             rpl_semi_sync_source_enabled=1\nrpl_semi_sync_replica_enabled=1\nrpl_semi_sync_source_timeout=1"
        }
        Server::MySql57 => "read_only=0\nsuper_read_only=0\nevent_scheduler=ON",
        Server::MySql56 => "read_only=0\nevent_scheduler=ON",
    }
}

#[track_caller]
fn expect_closed(node: &Node) {
    assert_eq!(node.variable("read_only"), "1");
    if node.server.closes_for_administrators() {
        assert_eq!(node.variable("super_read_only"), "1");
    }
    assert_eq!(node.variable("event_scheduler"), "OFF");
    if node.server.is_lossless() {
        for prefix in [node.server.source(), node.server.acknowledger()] {
            assert_eq!(node.variable(&format!("{prefix}_enabled")), "0", "{prefix}");
        }
    }
    let refused = node.write("k").expect_err("it is closed");
    assert!(refused.starts_with("1290"), "{refused}");
}

#[test]
fn start_is_closed_whatever_the_option_file_says() {
    for clone in [false, true] {
        let group = Group::of(&["a"]);
        let mut node = Node::alone();
        let node = if clone { group.node("a") } else { &mut node };
        node.configure(opens(node.server));
        node.start();
        expect_closed(node);
        node.agent().run("monitor").expect(&[0]);
    }
}

/// Nor by the parameter that takes further arguments.
#[test]
fn start_is_closed_whatever_additional_parameters_say() {
    let node = Node::alone();
    let agent = node.agent().parameter("additional_parameters", "--read-only=0 --event-scheduler=ON --loose-super-read-only=0");
    agent.run("start").ok();
    expect_closed(&node);
}

/// A restarted replica whose replication would begin by itself could apply what nobody has looked at.
#[test]
fn a_replica_does_not_follow_by_itself() {
    let group = Group::established(&["a", "b"]);
    let b = group.node("b");
    b.agent().run("stop").ok();
    b.start();
    let (receiver, applier) =
        (b.replication_of("replica_io_running", "slave_io_running"), b.replication_of("replica_sql_running", "slave_sql_running"));
    assert!(receiver != "Yes" && applier != "Yes", "{receiver} {applier}");
    expect_closed(b);
}

#[test]
fn the_wrapper_is_replaced_by_the_server() {
    let node = Node::alone();
    // As ocf:heartbeat:mysql has it by default. The server stands beside it.
    let directory = std::path::Path::new(node.server.binary()).parent().unwrap();
    for wrapper in ["mysqld_safe", "safe_mysqld"] {
        let agent = node.agent().parameter("binary", directory.join(wrapper));
        agent.run("validate-all").ok();
        agent.run("start").ok();
        let process = node.process();
        assert!(["mysqld", "mariadbd"].contains(&process.name.as_str()), "{process:?}");
        assert!(!testkit::Process::all().iter().any(|p| p.arguments.contains("mysqld_safe")), "the wrapper runs");
        agent.run("monitor").expect(&[0]);
        agent.run("stop").ok();
    }
}

#[test]
fn the_server_runs_as_its_user_and_holds_nothing_of_the_agent() {
    use std::os::unix::fs::MetadataExt;
    let node = Node::alone();
    node.start();
    let process = node.process();
    let owner = std::fs::metadata(format!("/proc/{}", process.pid)).unwrap().uid();
    assert_ne!(owner, 0, "the server runs as root");
    assert!(!process.environment.contains("OCF_RESKEY"), "{}", process.environment);
}

/// A server that was started by hand, open for writes, before the cluster came.
#[test]
fn a_server_that_somebody_else_started_is_taken_over_and_closed() {
    let node = Node::alone();
    let mut command = std::process::Command::new("setsid");
    command.args([
        "-f".to_owned(),
        node.server.binary().to_owned(),
        format!("--defaults-file={}", node.config().display()),
        format!("--datadir={}", node.data().display()),
        format!("--socket={}", node.socket().display()),
        format!("--pid-file={}", node.pid_file().display()),
        format!("--log-error={}", node.error_log().display()),
        "--user=mysql".to_owned(),
    ]);
    let null = std::process::Stdio::null;
    assert!(command.stdin(null()).stdout(null()).stderr(null()).status().unwrap().success());
    eventually("it answers", || node.administer("SELECT 1").is_ok());
    let pid = node.process().pid;
    node.write("before").unwrap();
    // Nobody is recorded: a primary that ran before.
    node.agent().probing().run("monitor").expect(&[0, 8, 9]);
    node.start();
    assert_eq!(node.process().pid, pid, "the running server is kept");
    node.agent().run("monitor").expect(&[0]);
    node.write("after").expect_err("it is closed");
    node.agent().run("stop").ok();
    assert!(node.servers().is_empty());
}

/// Somebody opened a server that is not the primary: it is closed and reported.
#[test]
fn a_replica_that_somebody_opened_is_closed_and_reported() {
    let group = Group::established(&["a", "b"]);
    let b = group.node("b");
    b.agent().run("monitor").expect(&[0]);
    b.must(&["SET GLOBAL read_only=0"]);
    let answer = b.agent().run("monitor");
    assert!(![0, 8].contains(&answer.status), "{}", answer.status);
    assert!(answer.reason().contains("open for writes"), "{}", answer.reason());
    assert!(!b.is_writable());
    assert_eq!(group.writable(), ["a"]);
    b.agent().run("monitor").expect(&[0, 190]);
}

/// And a primary that somebody closed is a failed primary.
#[test]
fn a_primary_that_somebody_closed_is_reported() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    a.must(&[a.server.close()]);
    a.agent().run("monitor").refused(9, &["read_only"]);
}

/// Administrators can still write, and no application can.
#[test]
fn a_primary_that_somebody_closed_for_applications_is_reported() {
    let node = Node::alone();
    node.start_promoted();
    node.must(&["SET GLOBAL read_only=1"]);
    node.agent().run("monitor").refused(9, &["read_only"]);
}

#[test]
fn a_missing_data_directory_is_named_or_made() {
    let node = Node::empty();
    node.agent().run("start").refused(5, &[&node.data().display().to_string(), "enable_creation=yes"]);
    assert!(node.servers().is_empty());
    if node.server == Server::MySql56 {
        return;
    }
    let agent = node.agent().parameter("enable_creation", "yes").timeout(std::time::Duration::from_secs(60));
    agent.run("start").ok();
    agent.run("monitor").expect(&[0]);
    assert_eq!(node.variable("read_only"), "1");
    agent.run("promote").ok();
    agent.run("monitor").expect(&[8]);
    agent.run("stop").ok();
}

/// The event scheduler runs on the primary, when the operator wants it, and nowhere else.
#[test]
fn events_run_on_the_primary_only() {
    let group = Group::of(&["a", "b"]);
    let with = |name: &str| group.node(name).agent().parameter("event_scheduler", "yes");
    group.start_all();
    let lists = Lists::promoting("a", &["a", "b"]);
    group.before_promotion(&lists);
    with("a").lists(&lists, group.spelling).run("promote").ok();
    group.notify_all("post", "promote", &lists);
    assert_eq!((group.node("a").variable("event_scheduler"), group.node("b").variable("event_scheduler")), ("ON".into(), "OFF".into()));
    with("a").run("monitor").expect(&[8]);
    with("a").run("demote").ok();
    assert_eq!(group.node("a").variable("event_scheduler"), "OFF");
}

/// Somebody else has switched them on: before the agent came, or by hand.
#[test]
fn events_that_somebody_else_has_switched_on_run_on_no_replica() {
    let group = Group::established(&["a", "b"]);
    let on = |name: &str| group.node(name).variable("event_scheduler") == "ON";
    group.node("b").must(&["SET GLOBAL event_scheduler=1"]);
    group.node("b").agent().run("monitor").expect(&[0]);
    assert!(!on("b"), "a monitor finds it");
    group.node("a").must(&["SET GLOBAL event_scheduler=1"]);
    group.node("a").agent().run("monitor").expect(&[8]);
    assert!(on("a"), "the primary's are the operator's business");
    group.demote("a", &["b"], &["b"]).ok();
    assert!(!on("a"), "a demotion stops them");
}
