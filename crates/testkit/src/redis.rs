//! A node with Redis, and a group of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use nix::unistd::User;

use crate::agent::Agent;
use crate::client::Client;
use crate::cluster::FakeCluster;
use crate::group::GroupOf;
use crate::lists::Spelling;
use crate::node::{Kind, NodeOf, next_port};
use crate::processes::Process;
use crate::sandbox::AGENT;

/// Redis, and where the others of its group are.
#[derive(Clone, Debug, Default)]
pub struct Redis {
    /// `tunnel_port_map`: all nodes of a group are this machine.
    map: String,
}

/// A node with Redis.
pub type Node = NodeOf<Redis>;

/// Nodes with Redis, at different ports.
pub type Group = GroupOf<Redis>;

impl Kind for Redis {
    const AGENT: &'static str = AGENT;
    const RESOURCE: &'static str = "redis";
    const USER: &'static str = "redis";
    const KEEPS_DATA: bool = true;

    fn alone() -> Node {
        Node::make("alone")
    }

    fn group(names: &[&str]) -> Group {
        let mut nodes: Vec<Node> = names.iter().map(|name| Node::make(name)).collect();
        let cluster = FakeCluster::at(&nodes[0].directory.join("cluster"));
        let map = nodes.iter().map(|n| format!("{}:{}", n.name, n.port)).collect::<Vec<_>>().join(";");
        for node in &mut nodes {
            node.server.map.clone_from(&map);
            node.size = names.len();
            node.cluster = Some(cluster.clone());
        }
        Group { nodes, cluster, spelling: Spelling::Both }
    }

    fn parameters(node: &Node, agent: Agent) -> Agent {
        let agent = agent
            .parameter("config", node.config())
            .parameter("rundir", node.directory.join("run"))
            .parameter("port", node.port.to_string());
        if node.server.map.is_empty() { agent } else { agent.parameter("tunnel_port_map", &node.server.map) }
    }

    fn servers(node: &Node) -> Vec<Process> {
        // A server begins in its rundir and goes to its data directory.
        let here = |p: &Process| p.name.starts_with("redis-server") && p.directory.starts_with(&node.directory);
        let found: Vec<Process> = Process::all().into_iter().filter(here).collect();
        // A server that writes a snapshot does that in a child of its own.
        found.iter().filter(|p| found.iter().all(|other| other.pid != p.parent)).cloned().collect()
    }

    #[track_caller]
    fn write(node: &Node, name: &str) -> Result<String, String> {
        node.ask(&["SET", name, "value"])
    }

    fn is_writable(node: &Node) -> bool {
        !node.servers().is_empty() && node.write("probe").is_ok()
    }

    fn writes_alone(_: &Node) -> bool {
        true
    }

    fn is_attached(node: &Node) -> bool {
        node.info("master_link_status") == "up"
    }

    fn has_everything_of(node: &Node, primary: &Node) -> bool {
        node.is_attached() && node.info("slave_repl_offset") == primary.info("master_repl_offset")
    }
}

impl Node {
    fn make(name: &str) -> Self {
        let port = next_port();
        let at = ("127.0.0.1".to_owned(), port);
        let node = Self::new(name, PathBuf::from(format!("/tmp/contract/{port}")), at, Redis::default(), &["data"]);
        node.give(&node.data());
        node.configure("");
        node
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("redis.conf")
    }

    /// The server's pid file.
    pub fn pid_file(&self) -> PathBuf {
        self.directory.join("run/redis-server.pid")
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("run/redis.sock")
    }

    /// Writes the configuration: what every test needs, then `more`. Nothing is saved unless the test asks for it.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "bind 127.0.0.1\nport {}\ndir {}\nlogfile {}\nsave \"\"\nrepl-diskless-sync-delay 0\nrepl-backlog-size 16mb\n\
             shutdown-timeout 30\n{more}\n",
            self.port,
            self.data().display(),
            self.data().join("redis.log").display()
        );
        fs::write(self.config(), text).unwrap();
        fs::set_permissions(self.config(), fs::Permissions::from_mode(0o640)).unwrap();
        let redis = User::from_name("redis").unwrap().expect("the image has a user redis");
        chown(self.config(), Some(0), Some(redis.gid.as_raw())).unwrap();
    }

    /// A connection over the port, as the data's users have it.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::tcp(self.port).unwrap_or_else(|e| panic!("port {} of {}: {e}", self.port, self.name))
    }

    /// One command over the port.
    ///
    /// # Errors
    /// The server's.
    #[track_caller]
    pub fn ask(&self, words: &[&str]) -> Result<String, String> {
        self.client().ask(words)
    }

    /// A line of INFO replication.
    #[track_caller]
    pub fn info(&self, name: &str) -> String {
        let text = self.ask(&["INFO", "replication"]).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().to_owned()
    }
}
