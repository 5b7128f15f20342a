//! A cluster in memory that several nodes share: for whole failovers in a unit test.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use crate::{Cluster, Error, Membership, Pacemaker, Score};

/// What all nodes see.
#[derive(Debug, Default)]
struct Contents {
    nodes: BTreeSet<String>,
    /// The nodes that are not there: fenced, or not booted yet.
    gone: BTreeSet<String>,
    /// By set and name.
    properties: BTreeMap<(String, String), String>,
    /// Of the administrator's, by node and name.
    lasting: BTreeMap<(String, String), String>,
    /// By name and node.
    attributes: BTreeMap<(String, String), String>,
    scores: BTreeMap<String, Score>,
    /// The nodes that have no quorum.
    alone: BTreeSet<String>,
    /// The nodes of which it is kept that a recurring monitor answered degraded.
    degraded: BTreeSet<String>,
}

/// The cluster. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct InMemory(Rc<RefCell<Contents>>);

impl InMemory {
    /// A cluster of these nodes, all there.
    pub fn of<'a>(nodes: impl IntoIterator<Item = &'a str>) -> Self {
        let nodes = nodes.into_iter().map(str::to_owned).collect();
        Self(Rc::new(RefCell::new(Contents { nodes, ..Contents::default() })))
    }

    /// What an agent on this node sees of it. `state_directory`: the node's own, which exists.
    pub fn seen_by(&self, node: &str, resource: &str, state_directory: &Path) -> Cluster {
        let membership = Membership {
            resource: resource.to_owned(),
            node: Some(node.to_owned()),
            present: true,
            state_directory: state_directory.to_owned(),
        };
        Cluster::asking(membership, Node { cluster: self.clone(), name: node.to_owned() })
    }

    /// The promotion score of a node.
    pub fn score(&self, node: &str) -> Option<Score> {
        self.0.borrow().scores.get(node).copied()
    }

    /// A property of a resource.
    pub fn property(&self, set: &str, name: &str) -> Option<String> {
        self.0.borrow().properties.get(&(set.to_owned(), name.to_owned())).cloned()
    }

    /// A node is lost, and what it had published with it.
    pub fn lose(&self, node: &str) {
        let mut contents = self.0.borrow_mut();
        contents.gone.insert(node.to_owned());
        contents.scores.remove(node);
        contents.attributes.retain(|(_, of), _| of != node);
    }

    /// It is back.
    pub fn return_of(&self, node: &str) {
        self.0.borrow_mut().gone.remove(node);
    }

    /// A node has quorum or does not.
    pub fn set_quorum(&self, node: &str, has_it: bool) {
        let alone = &mut self.0.borrow_mut().alone;
        if has_it {
            alone.remove(node);
        } else {
            alone.insert(node.to_owned());
        }
    }

    /// A recurring monitor of a node answers that its service is degraded.
    pub fn has_answered_degraded(&self, node: &str) {
        self.0.borrow_mut().degraded.insert(node.to_owned());
    }

    /// Whether that is kept, so that a monitor of this node that is cancelled is not started again.
    pub fn keeps_degraded(&self, node: &str) -> bool {
        self.0.borrow().degraded.contains(node)
    }

    /// An administrator gives a node a lasting attribute.
    pub fn give(&self, node: &str, name: &str, value: &str) {
        self.0.borrow_mut().lasting.insert((node.to_owned(), name.to_owned()), value.to_owned());
    }
}

/// The cluster as one node asks it.
struct Node {
    cluster: InMemory,
    name: String,
}

impl Pacemaker for Node {
    fn own_name(&self) -> Result<String, Error> {
        Ok(self.name.clone())
    }

    fn partition(&self) -> Result<Vec<String>, Error> {
        let contents = self.cluster.0.borrow();
        Ok(contents.nodes.difference(&contents.gone).cloned().collect())
    }

    fn all_present(&self) -> Result<bool, Error> {
        Ok(self.cluster.0.borrow().gone.is_empty())
    }

    fn set_score(&self, node: &str, score: Option<Score>) -> Result<(), Error> {
        let scores = &mut self.cluster.0.borrow_mut().scores;
        match score {
            Some(score) => drop(scores.insert(node.to_owned(), score)),
            None => drop(scores.remove(node)),
        }
        Ok(())
    }

    fn set_private(&self, name: &str, value: &str, node: &str) -> Result<(), Error> {
        self.set_attribute(name, value, node)
    }

    fn set_attribute(&self, name: &str, value: &str, node: &str) -> Result<(), Error> {
        self.cluster.0.borrow_mut().attributes.insert((name.to_owned(), node.to_owned()), value.to_owned());
        Ok(())
    }

    fn attribute(&self, name: &str) -> Result<BTreeMap<String, String>, Error> {
        let contents = self.cluster.0.borrow();
        let of_it = contents.attributes.iter().filter(|((known, _), _)| known == name);
        Ok(of_it.map(|((_, node), value)| (node.clone(), value.clone())).collect())
    }

    fn forget_degraded(&self, node: &str, _: &str) -> Result<(), Error> {
        self.cluster.0.borrow_mut().degraded.remove(node);
        Ok(())
    }

    fn property(&self, set: Option<&str>, name: &str) -> Result<Option<String>, Error> {
        let contents = self.cluster.0.borrow();
        let found = contents.properties.iter().find(|((of, known), _)| known == name && set.is_none_or(|set| of == set));
        Ok(found.map(|(_, value)| value.clone()))
    }

    fn node_attribute(&self, node: &str, name: &str) -> Result<Option<String>, Error> {
        Ok(self.cluster.0.borrow().lasting.get(&(node.to_owned(), name.to_owned())).cloned())
    }

    fn swap(&self, set: &str, name: &str, before: Option<&str>, value: &str) -> Result<bool, Error> {
        let mut contents = self.cluster.0.borrow_mut();
        if contents.alone.contains(&self.name) {
            return Err(Error::Refused { call: "cibadmin".to_owned(), status: 1, stderr: "no quorum".to_owned() });
        }
        let place = (set.to_owned(), name.to_owned());
        if contents.properties.get(&place).map(String::as_str) != before {
            return Ok(false);
        }
        contents.properties.insert(place, value.to_owned());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_share_scores_attributes_and_properties() {
        let directory = std::env::temp_dir().join(format!("systole-in-memory-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let all = InMemory::of(["a", "b"]);
        let [a, b] = ["a", "b"].map(|node| all.seen_by(node, "r", &directory));
        assert_eq!((a.node().unwrap(), a.property("primary").unwrap()), ("a", None));
        a.replace_property("primary", None, "one").unwrap();
        // Two writers from the same beginning: one of them fails, and learns what is there.
        a.replace_property("primary", Some("one"), "two").unwrap();
        let error = b.replace_property("primary", Some("one"), "three").unwrap_err();
        assert!(matches!(&error, Error::Changed { found: Some(found), .. } if found == "two"), "{error}");
        all.set_quorum("b", false);
        assert!(b.replace_property("primary", Some("two"), "three").unwrap_err().to_string().contains("no quorum"));
        a.publish_private("position", "7").unwrap();
        b.publish_private("position", "8").unwrap();
        assert_eq!(b.private_values("position").unwrap().into_iter().map(|(n, v)| n + &v).collect::<Vec<_>>(), ["a7", "b8"]);
        a.publish_score(Score::new(5)).unwrap();
        b.publish_score_of("a", Score::NEVER).unwrap();
        assert_eq!(all.score("a"), Some(Score::NEVER));
        all.lose("a");
        assert_eq!((all.score("a"), b.private_values("position").unwrap().len(), b.all_present()), (None, 1, false));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn fencing_is_off_by_either_name_and_in_capitals() {
        for (name, value) in [("fencing-enabled", "false"), ("stonith-enabled", "False"), ("stonith-enabled", "false")] {
            let all = InMemory::of(["a"]);
            let node = Node { cluster: all.clone(), name: "a".into() };
            node.swap("cib-bootstrap-options", name, None, value).unwrap();
            assert!(all.seen_by("a", "r", &std::env::temp_dir()).fencing_is_off(), "{name}={value}");
        }
    }
}
