//! What the promise rests on is checked where it is made: at start, at a promotion, with each monitor.

use std::os::unix::fs::PermissionsExt;

use testkit::mysql::{Group, Node, Server};
use testkit::{Lists, eventually};

/// Refused with the line to write, and nothing is left running.
#[track_caller]
fn expect_no_start(node: &Node, line: &str, words: &[&str]) {
    node.configure(line);
    node.agent().run("start").refused(5, words);
    assert!(node.servers().is_empty(), "{line}: a failed start leaves a server");
}

#[test]
fn a_server_that_cannot_keep_the_promise_is_not_started() {
    let group = Group::of(&["a", "b", "c"]);
    let node = group.node("a");
    match node.server {
        Server::MariaDb => {
            expect_no_start(node, "skip-log-bin", &["log_bin=binlog"]);
            expect_no_start(node, "log_slave_updates=0", &["log_slave_updates=ON"]);
        }
        Server::MySql | Server::MySql80 | Server::MySql57 => {
            let follows = if node.server.says_source() { "log_replica_updates" } else { "log_slave_updates" };
            expect_no_start(node, "gtid_mode=OFF\nskip-log-bin", &["log_bin=binlog"]);
            expect_no_start(node, &format!("{follows}=OFF"), &[&format!("{follows}=ON")]);
            expect_no_start(node, "gtid_mode=ON_PERMISSIVE", &["gtid_mode=ON"]);
            expect_no_start(node, "gtid_mode=OFF\nenforce_gtid_consistency=OFF", &["gtid_mode=ON"]);
        }
        Server::MySql56 => {}
    }
    if !node.server.is_lossless() {
        let lossless = node.agent().parameter("durability", "lossless");
        node.configure("");
        lossless.run("start").refused(5, &["lossless", "durability=async-allowed"]);
        node.agent().without("OCF_RESKEY_durability").run("start").refused(5, &["durability=async-allowed"]);
        return;
    }
    if node.server.says_source() {
        expect_no_start(node, "server_id=0", &["server_id=N"]);
    }
    expect_no_start(node, "skip-networking", &["skip_networking=OFF"]);
    expect_no_start(node, "binlog_do_db=t", &["binlog_do_db=t"]);
    expect_no_start(node, "binlog_ignore_db=t", &["binlog_ignore_db=t"]);
    expect_no_start(node, "slave_skip_errors=1062", &["skip_errors=OFF"]);
    expect_no_start(node, "slave_exec_mode=IDEMPOTENT", &["exec_mode=STRICT"]);
    if node.server == Server::MariaDb {
        expect_no_start(node, "replicate_wild_ignore_table=t.%", &["replicate_wild_ignore_table=t.%"]);
        node.configure("");
        node.agent().parameter("acknowledgements", "2").run("start").refused(5, &["acknowledgements=1"]);
        // What does not need a restart is set by the agent.
        node.configure("gtid_strict_mode=0");
        node.start();
        assert_eq!(node.administer("SELECT @@global.gtid_strict_mode").unwrap(), "1");
    }
}

#[test]
fn an_option_file_that_the_server_would_not_read_is_refused() {
    let node = Node::alone();
    node.agent().parameter("config", "/no/such/site.cnf").run("start").refused(5, &["/no/such/site.cnf", "config"]);
    std::fs::set_permissions(node.config(), std::fs::Permissions::from_mode(0o666)).unwrap();
    node.agent().run("start").refused(4, &[node.config().to_str().unwrap(), "chmod o-w"]);
    assert!(node.servers().is_empty());
}

/// MySQL's plugins are not there: nothing turns asynchronous in silence.
#[test]
fn without_the_plugins_a_lossless_server_does_not_start() {
    let group = Group::of(&["a", "b"]);
    let node = group.node("a");
    if !node.server.says_source() {
        return;
    }
    let plugins = node.directory.join("no-plugins");
    std::fs::create_dir(&plugins).unwrap();
    node.configure(&format!("plugin_dir={}", plugins.display()));
    node.agent().run("start").refused(5, &["cannot be lossless", "durability=async-allowed"]);
    node.agent().parameter("durability", "async-allowed").run("start").ok();
}

/// What is left out by the replication itself is in no variable.
#[test]
fn a_replica_that_was_told_to_leave_writes_out_ceases_to_acknowledge() {
    let group = Group::established(&["a", "b", "c"]);
    let b = group.node("b");
    if b.server != Server::MariaDb {
        return;
    }
    for (filter, name) in
        [("IGNORE_DOMAIN_IDS=(7)", "replicate_ignore_domain_ids=7"), ("IGNORE_SERVER_IDS=(7)", "replicate_ignore_server_ids=7")]
    {
        let (left_out, _) = filter.split_once('=').unwrap();
        b.must(&["STOP SLAVE", &format!("CHANGE MASTER TO {filter}"), "START SLAVE"]);
        b.agent().run("monitor").refused(190, &[name]);
        b.must(&["STOP SLAVE", &format!("CHANGE MASTER TO {left_out}=()"), "START SLAVE"]);
        eventually("it is in order again", || b.agent().run("monitor").status == 0);
    }
}

/// A replica that got a tolerance while it ran does not acknowledge, and is not elected.
#[test]
fn a_replica_with_a_tolerance_ceases_to_acknowledge_and_is_not_elected() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let b = group.node("b");
    if !b.server.is_lossless() {
        return;
    }
    b.must(&["SET GLOBAL slave_exec_mode='IDEMPOTENT'"]);
    b.agent().run("monitor").refused(190, &["exec_mode=STRICT"]);
    b.agent().run("monitor").refused(190, &["exec_mode=STRICT"]);
    let status = format!("SHOW GLOBAL STATUS LIKE '{}_status'", b.server.acknowledger());
    eventually("b does not acknowledge", || b.administer(&status).is_ok_and(|s| s.ends_with("OFF")));
    eventually("b is no member", || {
        group.node("a").agent().run("monitor").expect(&[8]);
        group.record().contains("active=c ")
    });
    group.node("a").write("second").unwrap();
    group.wait_caught_up("a", "c");
    group.node("a").kill_server();
    let demote = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    for name in ["b", "c"] {
        group.notify(name, "post", "demote", &demote);
    }
    group.promote("b", &["b", "c"]).refused(1, &["exec_mode=STRICT"]);
    group.promote("c", &["b", "c"]).ok();
    b.must(&["SET GLOBAL slave_exec_mode='STRICT'"]);
    eventually("b is a member again", || {
        b.agent().run("monitor").expect(&[0]);
        group.node("c").agent().run("monitor").expect(&[8, 191]);
        group.record().contains("active=b")
    });
}

/// `CHANGE MASTER TO MASTER_DELAY`, and the old way of following.
#[test]
fn a_delayed_replica_and_one_that_follows_by_position_are_pointed_anew() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let b = group.node("b");
    let (change, prefix) = if b.server.says_source() { ("CHANGE REPLICATION SOURCE TO", "SOURCE") } else { ("CHANGE MASTER TO", "MASTER") };
    let stop = format!("STOP {}", b.server.replica());
    let start = format!("START {}", b.server.replica());
    let by_position = if b.server == Server::MariaDb { "MASTER_USE_GTID=no".to_owned() } else { format!("{prefix}_AUTO_POSITION=0") };
    for option in [format!("{prefix}_DELAY=600"), by_position] {
        b.must(&[&stop, &format!("{change} {option}"), &start]);
        b.agent().run("monitor").expect(&[0]);
        group.wait_attached("b");
        let delay = b.replication_of("sql_delay", "sql_delay");
        assert_eq!(delay, "0");
        assert!(b.replication_of("auto_position", "using_gtid") == "1" || b.replication_of("auto_position", "using_gtid") == "Slave_Pos");
        group.settle();
        group.node("a").write(&option).unwrap();
        group.wait_caught_up("a", "b");
    }
}

/// What somebody sets on a primary is seen within one monitor, set back, and said.
#[test]
fn a_primary_whose_waiting_somebody_weakened_says_so_and_waits_again() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let a = group.node("a");
    if !a.server.is_lossless() {
        return;
    }
    let source = a.server.source();
    let mut inputs = vec![format!("{source}_timeout"), format!("{source}_wait_point"), format!("{source}_enabled")];
    if a.server.says_source() {
        inputs.push(format!("{source}_wait_for_replica_count"));
    }
    for name in inputs {
        let value = if name.ends_with("timeout") {
            "10"
        } else if name.ends_with("enabled") {
            "0"
        } else if name.ends_with("count") {
            "2"
        } else {
            "'AFTER_COMMIT'"
        };
        let before = a.administer(&format!("SELECT @@global.{name}")).unwrap();
        a.must(&[&format!("SET GLOBAL {name}={value}")]);
        a.agent().run("monitor").refused(191, &[&name]);
        assert_eq!(a.administer(&format!("SELECT @@global.{name}")).unwrap(), before);
        a.agent().run("monitor").expect(&[8]);
    }
}

/// sync_binlog is relaxed for a bulk load, and then the power fails: the disk does not count as one that has everything.
#[test]
fn a_primary_whose_disk_was_relaxed_in_its_reign_does_not_come_back_as_one_that_has_everything() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let a = group.node("a");
    if !a.server.is_lossless() {
        return;
    }
    a.must(&["SET GLOBAL sync_binlog=0"]);
    a.agent().run("monitor").refused(191, &["sync_binlog=1"]);
    assert!(group.record().contains("disk=relaxed"), "{}", group.record());
    a.must(&["SET GLOBAL sync_binlog=1"]);
    a.agent().run("monitor").expect(&[8]);
    a.write("second").unwrap();
    // Everybody is lost, and the primary alone comes back.
    for node in &group.nodes {
        node.kill_server();
    }
    let lists = Lists { start: vec!["a"], ..Lists::default() };
    a.agent().run("stop").ok();
    a.agent().lists(&lists, group.spelling).run("start").ok();
    group.promote("a", &["a"]).refused(1, &["may be only on b"]);
}

/// The distribution's service is left running when the configuration is loaded, and its option file has no binary log.
#[test]
fn a_running_primary_that_cannot_keep_the_promise_is_left_as_it_is_and_not_recorded() {
    let group = Group::of(&["a", "b"]);
    let a = group.node("a");
    if a.server != Server::MariaDb {
        return;
    }
    a.configure("skip-log-bin");
    a.run_by_hand();
    a.must(&["SET GLOBAL read_only=0"]);
    let server = a.process().pid;
    a.agent().probing().run("monitor").expect(&[0, 8]);
    for _ in 0..3 {
        a.agent().run("monitor").refused(191, &["log_bin=binlog"]);
    }
    assert_eq!(a.process().pid, server, "somebody may be using it");
    assert_eq!(group.record(), "", "nothing is promised for it");
}
