//! Several nodes with one cluster's stand-in: the transitions of a promotable clone, step by step.

use crate::agent::Answer;
use crate::cluster::FakeCluster;
use crate::lists::{Lists, Spelling};
use crate::node::{Kind, NodeOf};

/// Nodes `a`, `b`, `c`, all on this machine.
#[derive(Debug)]
pub struct GroupOf<K: Kind> {
    /// The nodes.
    pub nodes: Vec<NodeOf<K>>,
    /// Their cluster.
    pub cluster: FakeCluster,
    /// How the roles are spelt in notifications.
    pub spelling: Spelling,
}

impl<K: Kind> GroupOf<K> {
    /// Nodes with these names, nothing started.
    pub fn of(names: &[&str]) -> Self {
        K::group(names)
    }

    /// All started, `a` promoted, the others attached, one write made and everywhere.
    #[track_caller]
    pub fn established(names: &[&'static str]) -> Self {
        let group = Self::of(names);
        group.start_all();
        group.promote("a", names).ok();
        for name in &names[1..] {
            group.wait_attached(name);
        }
        if names.len() > 1 || K::writes_alone(group.node("a")) {
            group.node("a").write("first").expect("a promoted primary takes writes");
        }
        for name in &names[1..] {
            group.wait_caught_up("a", name);
        }
        group
    }

    /// Waits until a replica is attached to its primary.
    #[track_caller]
    pub fn wait_attached(&self, replica: &str) {
        crate::eventually(&format!("{replica} is attached"), || self.node(replica).is_attached());
    }

    /// Waits until the replica holds everything that the primary holds.
    #[track_caller]
    pub fn wait_caught_up(&self, primary: &str, replica: &str) {
        crate::eventually(&format!("{replica} has everything of {primary}"), || {
            K::has_everything_of(self.node(replica), self.node(primary))
        });
    }

    /// Which nodes take writes. More than one is always wrong.
    pub fn writable(&self) -> Vec<&str> {
        self.nodes.iter().filter(|n| !n.servers().is_empty() && n.is_writable()).map(|n| n.name.as_str()).collect()
    }

    /// A node.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn node(&self, name: &str) -> &NodeOf<K> {
        self.nodes.iter().find(|n| n.name == name).expect("a node of the group")
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
        self.cluster.record(K::RESOURCE).unwrap_or_default()
    }
}
