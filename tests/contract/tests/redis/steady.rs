//! The monitor runs hundreds of times an hour: with nothing changed it starts no process and says nothing.

use std::time::Duration;

use testkit::Group;

use crate::shared::steady::{self as shared, files};

promised!(steady(): a_score_that_vanished_is_published_again_by_the_monitor_of_another_boot);
promised!(steady(Duration::from_millis(50)): a_monitor_does_not_wait);
promised!(steady(settled): a_steady_monitor_starts_no_process);

/// What has to be remembered and published is, after two monitors.
fn settled(group: &Group) {
    for (name, status) in [("a", 8), ("b", 0), ("c", 0)] {
        for _ in 0..2 {
            group.node(name).agent().run("monitor").expect(&[status]);
        }
        kept(group.node(name));
    }
}

/// A promotion that was heard of is in the history.
fn kept(node: &testkit::Node) {
    testkit::eventually("the history is kept", || {
        node.agent().run("monitor");
        !node.remembered("heard").exists() && !node.remembered("keeping").exists()
    });
}

#[test]
fn a_steady_monitor_writes_nothing() {
    let group = Group::established(&["a", "b"]);
    for name in ["a", "b"] {
        let node = group.node(name);
        node.agent().run("monitor");
        node.agent().run("monitor");
        kept(node);
        let before = files(&node.state());
        node.agent().run("monitor");
        assert_eq!(files(&node.state()), before, "{name}: the state directory changed");
    }
}

/// `make contract/redis TEST='--ignored --nocapture steady::what_a_monitor_costs'`
#[test]
#[ignore = "a figure, to be measured on a machine at rest"]
fn what_a_monitor_costs() {
    shared::what_a_monitor_costs(settled);
}
