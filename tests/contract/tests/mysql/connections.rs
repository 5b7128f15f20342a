//! A server that has no connection left is alive.

use testkit::mysql::{Client, Group, Node};

/// All that the server has for users, and the administrator's one as well.
fn use_up(node: &Node) -> (Vec<Client>, Option<Client>) {
    let clients = node.use_up(|_| node.try_client());
    // The connection of the monitor before may take a moment to be gone.
    let root = testkit::within(std::time::Duration::from_secs(5), || Client::root(&node.socket()).ok());
    (clients, root)
}

#[test]
fn too_many_connections_is_not_dead() {
    let group = Group::established(&["a", "b"]);
    for (name, status, degraded) in [("a", 8, 191), ("b", 0, 190)] {
        let node = group.node(name);
        node.agent().run("monitor").expect(&[status]);
        let server = node.process().pid;
        let held = use_up(node);
        let answer = node.agent().run("monitor");
        answer.refused(degraded, &["no free connection", "max_connections"]);
        assert_eq!(node.process().pid, server);
        assert!(held.1.is_some(), "the reserved connection could not even be had by root");
        drop(held);
    }
}

#[test]
fn too_many_connections_while_it_is_demoted_or_stopped() {
    for action in ["demote", "stop"] {
        let group = Group::established(&["a", "b"]);
        let a = group.node("a");
        let held = use_up(a);
        let answer = a.agent().run(action);
        answer.ok();
        assert!(answer.counted < std::time::Duration::from_secs(15), "{action} took {:?}", answer.elapsed);
        assert!(!a.is_writable());
        drop(held);
        assert!(!a.is_writable(), "{action} left it open for writes");
    }
}

#[test]
fn too_many_users_leave_the_reserved_one_to_a_promotion() {
    let node = Node::alone();
    node.start();
    let mut held = use_up(&node);
    drop(held.1.take());
    node.agent().run("promote").ok();
    node.agent().run("monitor").expect(&[8]);
}
