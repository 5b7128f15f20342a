//! The CIB, as far as the command reads it. Pure.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};

/// The CIB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cib {
    /// Whether the node that answered has the quorum.
    pub quorum: bool,
    /// The nodes' names.
    pub nodes: Vec<String>,
    /// Properties of the cluster, those that the agents record among them.
    pub properties: BTreeMap<String, String>,
    /// The resources that are configured, by the name of the primitive.
    pub primitives: BTreeMap<String, Primitive>,
    /// The constraints that `crm_resource --ban` and `--move` have made.
    pub leftovers: Vec<Leftover>,
    /// Attributes that last until a node leaves, by node.
    pub attributes: BTreeMap<String, BTreeMap<String, String>>,
    /// What is known of each resource on each node, by node and name.
    pub histories: BTreeMap<(String, String), Vec<Operation>>,
}

/// A primitive, and the clone around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Primitive {
    /// Its agent, as `ocf:systole:mysql`.
    pub agent: String,
    /// The clone around it, or the group.
    pub parent: Option<String>,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// Its meta attributes, and those of what is around it. Without those of a pause, which holds for a while only.
    pub meta: BTreeMap<String, String>,
    /// The pause that `systole pause` has begun, whether it is over or not.
    pub pause: Option<Pause>,
}

/// How the name begins of the meta attributes by which `systole pause` has Pacemaker leave a resource alone.
const PAUSE: &str = "systole-pause-";
/// The meta attribute that says why. Pacemaker has no use for it.
const PAUSE_REASON: &str = "systole-pause-reason";

/// The name of a resource's meta attributes for that.
#[must_use]
pub fn pause_id(resource: &str) -> String {
    format!("{PAUSE}{resource}")
}

/// For how long Pacemaker leaves a resource alone, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When it ends, RFC 3339.
    pub until: String,
    /// What somebody said.
    pub reason: String,
}

impl Pause {
    /// The change of the CIB that begins it, or gives it another end: a rule of Pacemaker's, so that it ends whatever becomes of this node.
    #[must_use]
    pub fn xml(&self, resource: &str) -> String {
        let id = pause_id(resource);
        let (until, reason) = (escaped(&self.until), escaped(&self.reason));
        format!(
            "<primitive id=\"{resource}\"><meta_attributes id=\"{id}\" score=\"1000\"><rule id=\"{id}-rule\" score=\"INFINITY\">\
             <date_expression id=\"{id}-until\" operation=\"lt\" end=\"{until}\"/></rule><nvpair id=\"{id}-managed\" name=\"is-managed\" \
             value=\"false\"/><nvpair id=\"{id}-reason\" name=\"{PAUSE_REASON}\" value=\"{reason}\"/></meta_attributes></primitive>"
        )
    }

    fn of(node: Node<'_, '_>) -> Option<Self> {
        let end = |n: Node<'_, '_>| n.descendants().find(|n| n.has_tag_name("date_expression")).and_then(|n| attribute(n, "end"));
        let set = node.children().find(|child| is_pause(*child))?;
        Some(Self { until: end(set)?, reason: values(set).remove(PAUSE_REASON).unwrap_or_default() })
    }
}

fn is_pause(set: Node<'_, '_>) -> bool {
    set.has_tag_name("meta_attributes") && set.attribute("id").is_some_and(|id| id.starts_with(PAUSE))
}

/// A text in an attribute of XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// A constraint that a command has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its name: cli-ban-... or cli-prefer-...
    pub id: String,
    /// The resource that it is about.
    pub resource: String,
    /// When it ends by itself, as Pacemaker writes it.
    pub until: Option<String>,
}

/// The last result of an operation on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// `start`, `monitor`, ...
    pub name: String,
    /// Seconds between two of a recurring one, in milliseconds; 0 for one that is made once.
    pub interval: u64,
    /// Counts the operations of a node.
    pub call: i64,
    /// The agent's exit code.
    pub code: i64,
    /// Whether it is still running.
    pub pending: bool,
    /// Whether it is kept as the last failure, and the last result of the same call is not there any more.
    pub failure: bool,
    /// The agent's words.
    pub reason: String,
}

impl Cib {
    /// Reads what `cibadmin --query` prints.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Document::parse(text).map_err(|e| format!("the CIB is no XML: {e}"))?;
        let root = document.root_element();
        if !root.has_tag_name("cib") {
            return Err(format!("the CIB was expected, and <{}> was read", root.tag_name().name()));
        }
        let mut cib = Self { quorum: root.attribute("have-quorum") == Some("1"), ..Self::default() };
        for node in root.descendants().filter(Node::is_element) {
            match node.tag_name().name() {
                "crm_config" => cib.properties = values(node),
                "node" if parent_is(node, "nodes") => cib.nodes.extend(attribute(node, "uname")),
                "primitive" => drop(cib.primitives.insert(attribute(node, "id").unwrap_or_default(), primitive(node))),
                "rsc_location" => cib.leftovers.extend(leftover(node)),
                "node_state" => cib.read_state(node),
                _ => {}
            }
        }
        cib.nodes.sort();
        Ok(cib)
    }

    fn read_state(&mut self, state: Node<'_, '_>) {
        let Some(name) = attribute(state, "uname") else { return };
        for part in state.descendants().filter(Node::is_element) {
            match part.tag_name().name() {
                "transient_attributes" => drop(self.attributes.insert(name.clone(), values(part))),
                "lrm_resource" => {
                    self.histories.insert((name.clone(), attribute(part, "id").unwrap_or_default()), history(part));
                }
                _ => {}
            }
        }
    }

    /// An attribute of a node that lasts until it leaves.
    #[must_use]
    pub fn attribute(&self, node: &str, name: &str) -> Option<&str> {
        self.attributes.get(node)?.get(name).map(String::as_str)
    }

    /// A yes-or-no property; `false` without a word.
    #[must_use]
    pub fn is_set(&self, property: &str) -> bool {
        self.properties.get(property).is_some_and(|value| is_true(value))
    }
}

/// Whether Pacemaker takes it for a yes.
#[must_use]
pub fn is_true(value: &str) -> bool {
    ["true", "yes", "on", "1", "y"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

fn attribute(node: Node<'_, '_>, name: &str) -> Option<String> {
    node.attribute(name).map(str::to_owned)
}

fn parent_is(node: Node<'_, '_>, name: &str) -> bool {
    node.parent().is_some_and(|parent| parent.has_tag_name(name))
}

/// All names and values below.
fn values(node: Node<'_, '_>) -> BTreeMap<String, String> {
    let pairs = node.descendants().filter(|n| n.has_tag_name("nvpair"));
    pairs.filter_map(|pair| Some((attribute(pair, "name")?, attribute(pair, "value")?))).collect()
}

fn own_values(node: Node<'_, '_>, set: &str) -> BTreeMap<String, String> {
    node.children().filter(|child| child.has_tag_name(set) && !is_pause(*child)).flat_map(values).collect()
}

fn primitive(node: Node<'_, '_>) -> Primitive {
    let around: Vec<Node<'_, '_>> = node.ancestors().skip(1).take_while(|n| !n.has_tag_name("resources")).collect();
    let mut meta: BTreeMap<String, String> = around.iter().rev().flat_map(|n| own_values(*n, "meta_attributes")).collect();
    meta.extend(own_values(node, "meta_attributes"));
    let part = |name: &str| node.attribute(name);
    let agent: Vec<&str> = [part("class"), part("provider"), part("type")].into_iter().flatten().collect();
    Primitive {
        agent: agent.join(":"),
        parent: around.first().and_then(|parent| attribute(*parent, "id")),
        parameters: own_values(node, "instance_attributes"),
        meta,
        pause: Pause::of(node),
    }
}

fn leftover(node: Node<'_, '_>) -> Option<Leftover> {
    let id = attribute(node, "id").filter(|id| id.starts_with("cli-ban-") || id.starts_with("cli-prefer-"))?;
    let until = node.descendants().find(|n| n.has_tag_name("date_expression")).and_then(|n| attribute(n, "end"));
    Some(Leftover { id, resource: attribute(node, "rsc")?, until })
}

/// The last results of a resource's operations on a node, one for each. A monitor keeps its number of a call for as long as it recurs.
/// When it begins to fail, Pacemaker notes the failure beside its earlier result, and keeps it until it is cleaned up, also when the
/// monitor has found all in order since. The later one is what is so now, in whatever order they stand.
fn history(resource: Node<'_, '_>) -> Vec<Operation> {
    let results = || resource.children().filter(|op| op.has_tag_name("lrm_rsc_op"));
    let call = |op: Node<'_, '_>| op.attribute("call-id").filter(|call| *call != "-1").map(str::to_owned);
    let is_failure = |op: Node<'_, '_>| op.attribute("id").is_some_and(|id| id.ends_with("_last_failure_0"));
    let rank = |op: Node<'_, '_>| {
        let changed = op.attribute("last-rc-change").and_then(|second| second.parse::<i64>().ok());
        (changed, is_failure(op))
    };
    let is_over = |op: Node<'_, '_>| results().any(|other| call(op).is_some() && call(other) == call(op) && rank(other) > rank(op));
    let has_result = |op: Node<'_, '_>| results().any(|other| !is_failure(other) && call(op).is_some() && call(other) == call(op));
    let of = |op: Node<'_, '_>| Operation { failure: is_failure(op) && !has_result(op), ..operation(op) };
    results().filter(|op| !is_over(*op)).map(of).collect()
}

fn operation(node: Node<'_, '_>) -> Operation {
    let number = |name: &str| node.attribute(name).and_then(|value| value.parse().ok());
    Operation {
        name: attribute(node, "operation").unwrap_or_default(),
        interval: node.attribute("interval").and_then(|value| value.parse().ok()).unwrap_or_default(),
        call: number("call-id").unwrap_or(-1),
        code: number("rc-code").unwrap_or(-1),
        pending: number("op-status") == Some(-1),
        failure: false,
        reason: attribute(node, "exit-reason").unwrap_or_default(),
    }
}
