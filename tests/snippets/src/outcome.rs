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
    /// Seconds by which fencing is held back for what runs on its target (`priority-fencing-delay`); empty when it is not.
    pub delay: String,
    graph: Vec<Action>,
}

/// An action as the scheduler planned it, with those that have to be done before.
#[derive(Clone, Debug)]
struct Action {
    id: String,
    operation: String,
    resource: String,
    after: Vec<String>,
}

/// `redis:0` is an instance of `redis`.
fn base(resource: &str) -> &str {
    resource.split(':').next().unwrap_or(resource)
}

impl Outcome {
    /// From what was done, and from the graph of what was planned.
    pub(crate) fn read(done: &str, graph: &str) -> Self {
        let mut outcome = Self::carried_out(done);
        outcome.set_graph(graph);
        outcome
    }

    fn carried_out(xml: &str) -> Self {
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
        Self { instances, actions, fenced, delay: String::new(), graph: Vec::new() }
    }

    /// Takes the graph of the step, which the simulation has carried out.
    fn set_graph(&mut self, xml: &str) {
        let document = Document::parse(xml).unwrap_or_else(|e| panic!("crm_simulate saved no graph: {e}: {xml}"));
        let mut delays = document.descendants().filter_map(|n| n.attribute("CRM_meta_priority_fencing_delay"));
        self.delay = delays.find(|delay| *delay != "0").unwrap_or_default().to_owned();
        let action = |synapse: roxmltree::Node<'_, '_>| {
            let part = |name: &str| synapse.children().find(|n| n.has_tag_name(name));
            let action = part("action_set")?.first_element_child()?;
            let text = |name: &str| action.attribute(name).unwrap_or_default().to_owned();
            let resource = action.children().find(|n| n.has_tag_name("primitive")).and_then(|n| n.attribute("id"));
            let before = part("inputs").into_iter().flat_map(|inputs| inputs.children()).filter_map(|t| t.first_element_child());
            Some(Action {
                id: text("id"),
                operation: text("operation"),
                resource: base(resource.unwrap_or_default()).to_owned(),
                after: before.filter_map(|n| n.attribute("id").map(str::to_owned)).collect(),
            })
        };
        self.graph = document.descendants().filter(|n| n.has_tag_name("synapse")).filter_map(action).collect();
    }

    /// Whether an operation must not begin before another one has been done. Both have to be in the graph.
    pub fn waits_for(&self, (operation, resource): (&str, &str), before: (&str, &str)) -> bool {
        let of = |(operation, resource): (&str, &str)| {
            let found: Vec<&Action> = self.graph.iter().filter(|a| a.operation == operation && a.resource == resource).collect();
            assert!(!found.is_empty(), "{operation} of {resource} is not in the graph: {:?}", self.actions);
            found
        };
        let wanted: Vec<&str> = of(before).iter().map(|action| action.id.as_str()).collect();
        let mut seen: Vec<&str> = Vec::new();
        let mut next: Vec<&Action> = of((operation, resource));
        while let Some(action) = next.pop() {
            for id in action.after.iter().filter(|id| !seen.contains(&id.as_str())).collect::<Vec<_>>() {
                seen.push(id);
                next.extend(self.graph.iter().filter(|action| action.id == *id));
            }
        }
        wanted.iter().any(|id| seen.contains(id))
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
