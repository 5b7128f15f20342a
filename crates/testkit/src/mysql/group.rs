//! Several servers with one cluster's stand-in.

use std::time::Duration;

use crate::cluster::FakeCluster;
use crate::group::GroupOf;
use crate::lists::Spelling;
use crate::mysql::Server;
use crate::mysql::node::{Node, RESOURCE};
use crate::node::next_port;

/// Nodes with MySQL or MariaDB, at different addresses of this machine.
pub type Group = GroupOf<Server>;

pub(super) fn of(names: &[&str]) -> Group {
    let port = next_port();
    let mut nodes: Vec<Node> = (1..).zip(names).map(|(number, name)| Node::make(name, number, port)).collect();
    let cluster = FakeCluster::at(&nodes[0].directory.join("cluster"));
    for node in &mut nodes {
        cluster.set_node_attribute(&node.name, &format!("{RESOURCE}_mysql_master_IP"), &node.address);
        node.size = names.len();
        node.cluster = Some(cluster.clone());
    }
    Group { nodes, cluster, spelling: Spelling::Both }
}

impl Group {
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
