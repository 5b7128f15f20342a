//! What `crm_simulate` did, parsed.

use roxmltree::{Document, ParsingOptions};

/// A resource on a node after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Instance {
    resource: String,
    role: String,
    node: String,
}

/// The end of a step, and the way there.
#[derive(Clone, Debug)]
pub struct Outcome {
    instances: Vec<Instance>,
    /// Carried out, in this order: operation, resource, node.
    actions: Vec<(String, String, String)>,
    /// Nodes that were fenced.
    pub fenced: Vec<String>,
}

/// `redis:0` is an instance of `redis`.
fn base(resource: &str) -> &str {
    resource.split(':').next().unwrap_or(resource)
}

impl Outcome {
    pub(crate) fn read(xml: &str) -> Self {
        let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
        let document = Document::parse_with_options(xml, options).unwrap_or_else(|e| panic!("crm_simulate wrote no XML: {e}: {xml}"));
        let part = |name: &str| document.descendants().find(|n| n.has_tag_name(name));
        let text = |node: &roxmltree::Node<'_, '_>, name: &str| node.attribute(name).unwrap_or_default().to_owned();
        let mut instances = Vec::new();
        let after = part("revised_cluster_status").unwrap_or_else(|| panic!("crm_simulate does not say how it ended: {xml}"));
        for resource in after.descendants().filter(|n| n.has_tag_name("resource")) {
            // A node that is offline and was not fenced may still run it; that is for the caller to see.
            for node in resource.children().filter(|n| n.has_tag_name("node")) {
                instances.push(Instance {
                    resource: base(&text(&resource, "id")).to_owned(),
                    role: text(&resource, "role"),
                    node: text(&node, "name"),
                });
            }
        }
        let transition = part("transition");
        let actions = transition.iter().flat_map(|t| t.children()).filter(|n| n.has_tag_name("rsc_action"));
        let actions = actions.map(|n| (text(&n, "op"), base(&text(&n, "resource")).to_owned(), text(&n, "node"))).collect();
        let fencing = document.descendants().filter(|n| n.has_tag_name("fencing_action") || n.has_tag_name("node_action"));
        let mut fenced: Vec<String> = fencing.map(|n| text(&n, "target") + &text(&n, "node")).filter(|n| !n.is_empty()).collect();
        fenced.sort();
        fenced.dedup();
        Self { instances, actions, fenced }
    }

    /// Where a resource runs, in any role.
    pub fn nodes_of(&self, resource: &str) -> Vec<&str> {
        self.instances.iter().filter(|i| i.resource == resource).map(|i| i.node.as_str()).collect()
    }

    /// Where it is promoted.
    pub fn promoted(&self, resource: &str) -> Vec<&str> {
        self.instances.iter().filter(|i| i.resource == resource && i.role == "Promoted").map(|i| i.node.as_str()).collect()
    }

    /// When an operation was carried out in this step, as a place in the order.
    pub fn when(&self, operation: &str, resource: &str) -> Option<usize> {
        self.actions.iter().position(|(op, r, _)| op == operation && r == resource)
    }

    /// What was started or promoted in this step.
    pub fn began(&self) -> Vec<&str> {
        self.actions.iter().filter(|(op, ..)| op == "start" || op == "promote").map(|(_, r, _)| r.as_str()).collect()
    }
}
