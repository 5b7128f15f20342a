//! What `crm_mon` says of the nodes and of who runs where. Pure.

use roxmltree::{Document, Node};

/// The cluster, as `crm_mon` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Monitor {
    /// The controller's node, and whether its partition has the quorum.
    pub controller: Option<(String, bool)>,
    /// The nodes.
    pub nodes: Vec<Machine>,
    /// The instances of all resources.
    pub instances: Vec<Instance>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Whether it takes part.
    pub online: bool,
    /// Whether it counts for the quorum: remote and guest nodes do not.
    pub votes: bool,
    /// What keeps resources off it: `standby`, `maintenance`, `unclean`, `pending`.
    pub states: Vec<&'static str>,
}

/// An instance of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// The primitive's name, without a number.
    pub resource: String,
    /// As `ocf:systole:mysql`.
    pub agent: String,
    /// As `Promoted`.
    pub role: String,
    /// Where it runs.
    pub nodes: Vec<String>,
    /// Whether Pacemaker counts it as failed.
    pub failed: bool,
    /// Whether Pacemaker does anything with it.
    pub managed: bool,
    /// Whether Pacemaker can do nothing with it before somebody mends something.
    pub blocked: bool,
    /// What is under way, as `Promoting`.
    pub pending: Option<String>,
}

impl Monitor {
    /// Reads what `crm_mon --output-as=xml` prints.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Document::parse(text).map_err(|e| format!("the answer of crm_mon is no XML: {e}"))?;
        let mut monitor = Self::default();
        for node in document.descendants().filter(Node::is_element) {
            match node.tag_name().name() {
                "current_dc" if yes(node, "present") => {
                    monitor.controller = Some((text_of(node, "name"), yes(node, "with_quorum")));
                }
                "node" if node.parent().is_some_and(|parent| parent.has_tag_name("nodes")) => monitor.nodes.push(machine(node)),
                "resource" => monitor.instances.push(instance(node)),
                _ => {}
            }
        }
        Ok(monitor)
    }
}

fn yes(node: Node<'_, '_>, name: &str) -> bool {
    node.attribute(name) == Some("true")
}

fn text_of(node: Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap_or_default().to_owned()
}

fn machine(node: Node<'_, '_>) -> Machine {
    let states = ["standby", "maintenance", "unclean", "pending"].into_iter().filter(|state| yes(node, state)).collect();
    let votes = node.attribute("type").is_none_or(|kind| kind == "member");
    Machine { name: text_of(node, "name"), online: yes(node, "online"), votes, states }
}

fn instance(node: Node<'_, '_>) -> Instance {
    let id = text_of(node, "id");
    let role = match node.attribute("role").unwrap_or_default() {
        "Master" => "Promoted",
        "Slave" => "Unpromoted",
        other => other,
    };
    Instance {
        resource: id.split(':').next().unwrap_or_default().to_owned(),
        agent: text_of(node, "resource_agent").replace("::", ":"),
        role: role.to_owned(),
        nodes: node.children().filter(|n| n.has_tag_name("node")).map(|n| text_of(n, "name")).collect(),
        failed: yes(node, "failed"),
        managed: yes(node, "managed"),
        blocked: yes(node, "blocked"),
        pending: node.attribute("pending").map(str::to_owned),
    }
}
