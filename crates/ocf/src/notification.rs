//! What is about to happen to the clone, or just happened: the notify environment in both spellings.

use crate::Environment;

/// Before or after the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before it.
    Pre,
    /// After it.
    Post,
}

/// The operation that is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Instances start.
    Start,
    /// Instances stop.
    Stop,
    /// Instances are promoted.
    Promote,
    /// Instances are demoted.
    Demote,
}

/// One instance of the clone on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// The instance, `redis:1`.
    pub instance: String,
    /// The node's name.
    pub node: String,
}

/// The lists that come with a notification. They describe the state *before* the transition.
///
/// Pacemaker also sets them on start, stop, promote and demote of a clone with `notify=true`; there they are a hint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Peers {
    /// Instances that will start or have started.
    pub start: Vec<Member>,
    /// Instances that will stop or have stopped.
    pub stop: Vec<Member>,
    /// Instances that will be or have been promoted.
    pub promote: Vec<Member>,
    /// Instances that will be or have been demoted.
    pub demote: Vec<Member>,
    /// Promoted instances.
    pub promoted: Vec<Member>,
    /// Unpromoted instances.
    pub unpromoted: Vec<Member>,
    /// Running instances; older clusters leave this empty for promotable clones.
    pub active: Vec<Member>,
}

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Before or after.
    pub phase: Phase,
    /// What.
    pub operation: Operation,
    /// On whom.
    pub peers: Peers,
}

impl Peers {
    /// Reads the lists; what is absent is empty.
    pub fn read(environment: &Environment) -> Self {
        let list = |names: &[&str]| names.iter().map(|name| members(environment, name)).find(|list| !list.is_empty()).unwrap_or_default();
        Self {
            start: list(&["start"]),
            stop: list(&["stop"]),
            promote: list(&["promote"]),
            demote: list(&["demote"]),
            promoted: list(&["promoted", "master"]),
            unpromoted: list(&["unpromoted", "slave"]),
            active: list(&["active"]),
        }
    }

    /// The nodes that have a running instance once what precedes a promotion in this transition is done: those
    /// that run now or are started, less those that are stopped.
    pub fn running_nodes(&self) -> Vec<String> {
        let mut nodes: Vec<String> = Vec::new();
        for member in self.promoted.iter().chain(&self.unpromoted).chain(&self.active).chain(&self.start) {
            let stopped = self.stop.iter().any(|m| m.node == member.node);
            let restarted = self.start.iter().any(|m| m.node == member.node);
            if (!stopped || restarted) && !nodes.contains(&member.node) {
                nodes.push(member.node.clone());
            }
        }
        nodes
    }

    /// A node whose instance is promoted and is not being demoted: a demotion elsewhere is of one that should not have been promoted.
    pub fn still_promoted(&self) -> Option<&str> {
        self.promoted.iter().map(|m| m.node.as_str()).find(|node| self.demote.iter().all(|m| m.node != *node))
    }

    /// The node that is or was to be promoted.
    pub fn candidate(&self) -> Option<&str> {
        self.promote.first().map(|m| m.node.as_str())
    }
}

impl Notification {
    /// Reads a notification, `None` when the environment holds none (somebody called notify by hand).
    pub fn read(environment: &Environment) -> Option<Self> {
        let phase = match environment.meta("notify_type")? {
            "pre" => Phase::Pre,
            "post" => Phase::Post,
            _ => return None,
        };
        let operation = match environment.meta("notify_operation")? {
            "start" => Operation::Start,
            "stop" => Operation::Stop,
            "promote" => Operation::Promote,
            "demote" => Operation::Demote,
            _ => return None,
        };
        Some(Self { phase, operation, peers: Peers::read(environment) })
    }
}

/// Zips the resource and node lists of one name. Only complete pairs count.
fn members(environment: &Environment, name: &str) -> Vec<Member> {
    let words = |suffix: &str| -> Vec<String> {
        let text = environment.meta(&format!("notify_{name}_{suffix}")).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    };
    words("resource").into_iter().zip(words("uname")).map(|(instance, node)| Member { instance, node }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_pairs(pairs.iter().map(|(k, v)| (format!("OCF_RESKEY_CRM_meta_notify_{k}"), (*v).to_owned())))
    }

    #[test]
    fn old_and_new_spelling_read_alike() {
        let old = with(&[("type", "pre"), ("operation", "promote"), ("master_resource", "r:0"), ("master_uname", "a")]);
        let new = with(&[("type", "pre"), ("operation", "promote"), ("promoted_resource", "r:0"), ("promoted_uname", "a")]);
        assert_eq!(Notification::read(&old), Notification::read(&new));
        assert_eq!(Notification::read(&old).unwrap().peers.promoted[0].node, "a");
    }

    #[test]
    fn a_list_of_one_space_is_empty() {
        assert_eq!(Peers::read(&with(&[("active_resource", " "), ("active_uname", " ")])), Peers::default());
    }

    #[test]
    fn who_runs_at_a_promotion() {
        let peers = Peers::read(&with(&[
            ("promoted_resource", "r:0"),
            ("promoted_uname", "a"),
            ("unpromoted_resource", "r:1 r:2"),
            ("unpromoted_uname", "b c"),
            ("stop_resource", "r:0 r:1"),
            ("stop_uname", "a b"),
            ("start_resource", "r:0"),
            ("start_uname", "a"),
        ]));
        assert_eq!(peers.running_nodes(), ["a", "c"]);
    }

    #[test]
    fn notify_without_environment_is_none() {
        assert_eq!(Notification::read(&Environment::default()), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(resources in ".{0,60}", nodes in ".{0,60}") {
            let environment = with(&[("start_resource", &resources), ("start_uname", &nodes)]);
            let peers = Peers::read(&environment);
            prop_assert!(peers.start.iter().all(|m| !m.node.is_empty() && !m.instance.is_empty()));
            prop_assert!(peers.start.len() <= nodes.split_whitespace().count());
        }
    }
}
