//! The monitor runs hundreds of times an hour: with nothing changed it starts no process and says nothing.

use std::time::Duration;

use testkit::mysql::Group;

use crate::shared::steady::{self as shared, files};

promised!(steady(): a_score_that_vanished_is_published_again_by_the_monitor_of_another_boot);
promised!(steady(Duration::from_millis(250)): a_monitor_does_not_wait);
promised!(steady(settled): a_steady_monitor_starts_no_process);

/// Until nothing is left to do: members join, scores are raised.
fn settled(group: &Group) {
    for _ in 0..3 {
        group.settle();
    }
    // The score of a new primary is raised after a while.
    std::thread::sleep(Duration::from_millis(3200));
    group.settle();
}

#[test]
fn a_steady_monitor_writes_nothing_and_logs_nothing() {
    let group = Group::established(&["a", "b"]);
    settled(&group);
    for name in ["a", "b"] {
        let node = group.node(name);
        let before = (files(&node.state()), node.log(), node.executed());
        node.agent().run("monitor");
        assert_eq!((files(&node.state()), node.log(), node.executed()), before, "{name}");
    }
}

#[test]
fn readers_find_the_servers_that_can_be_read() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let readable = |node: &str| group.cluster.attribute("readable", node).unwrap_or_default();
    assert_eq!((readable("a").as_str(), readable("b").as_str()), ("1", "1"));
    let b = group.node("b");
    b.must(&[&format!("STOP {} SQL_THREAD", b.server.replica())]);
    // The monitor starts it again, and says before that it does not apply.
    b.agent().run("monitor").expect(&[0]);
    testkit::eventually("b applies again", || b.replication_of("replica_sql_running", "slave_sql_running") == "Yes");
    b.agent().run("stop").ok();
    assert_eq!(readable("b"), "0");
}

/// `make contract/mariadb TEST='--ignored --nocapture steady::what_a_monitor_costs'`
#[test]
#[ignore = "a figure, to be measured on a machine at rest"]
fn what_a_monitor_costs() {
    shared::what_a_monitor_costs(settled);
}
