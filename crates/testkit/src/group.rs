//! Several nodes with one cluster's stand-in: the transitions of a promotable clone, step by step.

use crate::agent::{Agent, Answer};
use crate::cluster::FakeCluster;
use crate::lists::{Lists, Spelling};
use crate::node::Node;

/// What the transitions need of a node, whatever it serves.
pub trait Instance {
    /// The resource's name.
    const RESOURCE: &'static str;

    /// The node's name.
    fn name(&self) -> &str;

    /// The agent for this node.
    fn agent(&self) -> Agent;
}

/// Nodes `a`, `b`, `c`, all on this machine.
#[derive(Debug)]
pub struct GroupOf<N> {
    /// The nodes.
    pub nodes: Vec<N>,
    /// Their cluster.
    pub cluster: FakeCluster,
    /// How the roles are spelt in notifications.
    pub spelling: Spelling,
}

/// Nodes with Redis, at different ports.
pub type Group = GroupOf<Node>;

impl<N: Instance> GroupOf<N> {
    /// A node.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn node(&self, name: &str) -> &N {
        self.nodes.iter().find(|n| n.name() == name).expect("a node of the group")
    }

    /// Starts all of them, nobody promoted.
    #[track_caller]
    pub fn start_all(&self) {
        let starting: Vec<_> = self.nodes.iter().map(|n| n.agent().spawn("start")).collect();
        for one in starting {
            one.answer().ok();
        }
    }

    /// Sends a notification to a node. It must succeed whatever happens.
    #[track_caller]
    pub fn notify(&self, node: &str, phase: &str, operation: &str, lists: &Lists) -> Answer {
        let answer = self.node(node).agent().notifying(phase, operation, lists, self.spelling).run("notify");
        answer.ok();
        answer
    }

    /// A notification to all nodes that run, at once as the cluster sends it.
    #[track_caller]
    pub fn notify_all(&self, phase: &str, operation: &str, lists: &Lists) {
        let running = lists.unpromoted.iter().chain(&lists.promoted).chain(&lists.start);
        let notified: Vec<_> =
            running.map(|name| self.node(name).agent().notifying(phase, operation, lists, self.spelling).spawn("notify")).collect();
        for one in notified {
            one.answer().ok();
        }
    }

    /// The notifications before a promotion.
    #[track_caller]
    pub fn before_promotion(&self, lists: &Lists) {
        self.notify_all("pre", "promote", lists);
    }

    /// A whole promotion: before, the promotion itself, and after when it succeeded. Returns its answer.
    #[track_caller]
    pub fn promote(&self, candidate: &'static str, running: &[&'static str]) -> Answer {
        self.promote_by(&Lists::promoting(candidate, running))
    }

    /// The same, with these lists.
    #[track_caller]
    pub fn promote_by(&self, lists: &Lists) -> Answer {
        self.before_promotion(lists);
        let candidate = lists.promote[0];
        let answer = self.node(candidate).agent().lists(lists, self.spelling).run("promote");
        if answer.status == 0 {
            self.notify_all("post", "promote", lists);
        }
        answer
    }

    /// A demotion.
    #[track_caller]
    pub fn demote(&self, node: &'static str, unpromoted: &[&'static str], promote: &[&'static str]) -> Answer {
        let lists = Lists {
            promoted: vec![node],
            unpromoted: unpromoted.to_vec(),
            demote: vec![node],
            promote: promote.to_vec(),
            ..Lists::default()
        };
        self.node(node).agent().lists(&lists, self.spelling).run("demote")
    }

    /// The record of the last promotion.
    pub fn record(&self) -> String {
        self.cluster.record(N::RESOURCE).unwrap_or_default()
    }
}

impl Group {
    /// Nodes with these names.
    pub fn of(names: &[&str]) -> Self {
        let first = Node::make(names[0], None);
        let cluster = FakeCluster::at(&first.directory.join("cluster"));
        let mut nodes = vec![first];
        nodes.extend(names[1..].iter().map(|name| Node::make(name, None)));
        let map = nodes.iter().map(|n| format!("{}:{}", n.name, n.port)).collect::<Vec<_>>().join(";");
        for node in &mut nodes {
            node.map.clone_from(&map);
            node.size = names.len();
            node.cluster = Some(cluster.clone());
        }
        Self { nodes, cluster, spelling: Spelling::Both }
    }

    /// Waits until a replica is attached to its primary.
    #[track_caller]
    pub fn wait_attached(&self, replica: &str) {
        crate::eventually(&format!("{replica} is attached"), || self.node(replica).info("master_link_status") == "up");
    }

    /// Waits until the replica holds everything that the primary wrote.
    #[track_caller]
    pub fn wait_caught_up(&self, primary: &str, replica: &str) {
        crate::eventually(&format!("{replica} has everything of {primary}"), || {
            self.node(replica).info("master_link_status") == "up"
                && self.node(replica).info("slave_repl_offset") == self.node(primary).info("master_repl_offset")
        });
    }

    /// All started, `a` promoted, the others attached, one key written and everywhere.
    #[track_caller]
    pub fn established(names: &[&'static str]) -> Self {
        let group = Self::of(names);
        group.start_all();
        group.promote("a", names).ok();
        for name in &names[1..] {
            group.wait_attached(name);
        }
        group.node("a").write("first").expect("a promoted primary takes writes");
        for name in &names[1..] {
            group.wait_caught_up("a", name);
        }
        group
    }

    /// Which nodes take writes. More than one is always wrong.
    pub fn writable(&self) -> Vec<&str> {
        self.nodes.iter().filter(|n| !n.servers().is_empty() && n.write("probe").is_ok()).map(|n| n.name.as_str()).collect()
    }
}
