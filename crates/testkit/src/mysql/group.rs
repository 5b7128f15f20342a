//! Several servers with one cluster's stand-in.

use std::time::Duration;

use crate::cluster::FakeCluster;
use crate::group::GroupOf;
use crate::lists::Spelling;
use crate::mysql::node::{Node, RESOURCE};

/// Nodes with MySQL or MariaDB, at different addresses of this machine.
pub type Group = GroupOf<Node>;

impl GroupOf<Node> {
    /// Nodes with these names.
    pub fn of(names: &[&str]) -> Self {
        let port = Node::next_port();
        let mut nodes: Vec<Node> = (1..).zip(names).map(|(number, name)| Node::make(name, number, port)).collect();
        let cluster = FakeCluster::at(&nodes[0].directory.join("cluster"));
        for node in &mut nodes {
            cluster.set_node_attribute(&node.name, &format!("{RESOURCE}_mysql_master_IP"), &node.address);
            node.size = names.len();
            node.cluster = Some(cluster.clone());
        }
        Self { nodes, cluster, spelling: Spelling::Both }
    }

    /// Waits until a replica receives.
    #[track_caller]
    pub fn wait_attached(&self, replica: &str) {
        crate::eventually(&format!("{replica} is attached"), || self.node(replica).is_attached());
    }

    /// Waits until the replica holds everything that the primary holds.
    #[track_caller]
    pub fn wait_caught_up(&self, primary: &str, replica: &str) {
        crate::eventually(&format!("{replica} has everything of {primary}"), || {
            self.node(replica).executed() == self.node(primary).executed()
        });
    }

    /// All started, `a` promoted, the others attached, one row written and everywhere.
    #[track_caller]
    pub fn established(names: &[&'static str]) -> Self {
        let group = Self::of(names);
        group.start_all();
        group.promote("a", names).ok();
        for name in &names[1..] {
            group.wait_attached(name);
        }
        if names.len() > 1 || !group.node("a").server.is_lossless() {
            group.node("a").write("first").expect("a promoted primary takes writes");
        }
        for name in &names[1..] {
            group.wait_caught_up("a", name);
        }
        group
    }

    /// Which nodes take writes. More than one is always wrong.
    pub fn writable(&self) -> Vec<&str> {
        self.nodes.iter().filter(|n| !n.servers().is_empty() && n.is_writable()).map(|n| n.name.as_str()).collect()
    }

    /// A monitor of each, twice: what one finds the other may have to read. Some more rounds while one is degraded: in a test they come
    /// one after the other, and primary and replica may wait for each other. By the fourth all is well.
    #[track_caller]
    pub fn settle(&self) {
        for round in 1..=4 {
            let allowed = if round < 4 { &[0, 8, 190, 191][..] } else { &[0, 8] };
            let answers: Vec<i32> = self.nodes.iter().map(|node| node.agent().run("monitor").expect(allowed).status).collect();
            if round > 1 && answers.iter().all(|status| [0, 8].contains(status)) {
                return;
            }
            // A receiver that was started anew takes a moment to connect.
            if round > 1 {
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }
}
