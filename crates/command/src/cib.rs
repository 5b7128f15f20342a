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
    /// The clone around it, also around its group, or else the group.
    pub parent: Option<String>,
    /// Its parameters, without those that a rule decides about: see `undecided`.
    pub parameters: BTreeMap<String, String>,
    /// The sets of parameters of which a rule says when they hold. Pacemaker alone evaluates it.
    pub undecided: Vec<String>,
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
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// A constraint that a command has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its name: cli-ban-... or cli-prefer-...
    pub id: String,
    /// The resource that it is about: a primitive or its clone.
    pub resource: String,
    /// The node that it keeps the resource off.
    pub banned: Option<String>,
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
    /// A resource that is configured, with the parameters that Pacemaker gives it.
    ///
    /// # Errors
    /// When there is none, or a rule decides about its parameters.
    pub fn decided(&self, name: &str) -> Result<&Primitive, String> {
        let primitive = self.primitives.get(name).ok_or_else(|| format!("there is no resource {name}"))?;
        match primitive.undecided.as_slice() {
            [] => Ok(primitive),
            sets => Err(format!("a rule decides about parameters of {name} ({}), and Pacemaker alone evaluates it", sets.join(", "))),
        }
    }

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

    /// Whether a resource runs on a node, by the last result that is known there.
    #[must_use]
    pub fn runs(&self, resource: &str, node: &str) -> bool {
        let history = self.histories.get(&(node.to_owned(), resource.to_owned()));
        let last = history.into_iter().flatten().filter(|op| op.name != "notify").max_by_key(|op| op.call);
        last.is_some_and(|op| op.name != "stop" && [0, 8, 190, 191].contains(&op.code))
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
    let pairs = node.descendants().filter(|n| n.has_tag_name("nvpair")).map(|pair| (pair, referred(pair)));
    // What it says for itself counts.
    let part = |(pair, of): (Node<'_, '_>, Node<'_, '_>), name: &str| attribute(pair, name).or_else(|| attribute(of, name));
    pairs.filter_map(|both| Some((part(both, "name")?, part(both, "value")?))).collect()
}

/// What stands in sets of attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    /// Names and values, as Pacemaker puts the sets together.
    pub(crate) values: BTreeMap<String, String>,
    /// The sets of which a rule says when they hold. They are left out.
    pub(crate) undecided: Vec<String>,
}

/// The values of an element's own sets, and of those of its template.
pub(crate) fn own_values(node: Node<'_, '_>, set: &str) -> Values {
    let mut sets = template(node).map(|template| sets(template, set)).unwrap_or_default();
    sets.extend(self::sets(node, set));
    // The one with the highest score counts, of equal ones the last; what a primitive says for itself is behind its template.
    sets.sort_by_key(|set| score(*set));
    let mut all = Values::default();
    for set in sets {
        if set.children().any(|child| child.has_tag_name("rule")) {
            all.undecided.extend(attribute(set, "id"));
        } else {
            all.values.extend(values(set));
        }
    }
    all
}

/// The sets of this name in an element, without those of a pause.
fn sets<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Vec<Node<'a, 'input>> {
    node.children().filter(|child| child.has_tag_name(name) && !is_pause(*child)).map(referred).collect()
}

/// A set's score; 0 without a word.
fn score(set: Node<'_, '_>) -> i64 {
    match set.attribute("score").unwrap_or_default().trim_start_matches('+') {
        "INFINITY" => 1_000_000,
        "-INFINITY" => -1_000_000,
        number => number.parse().unwrap_or(0),
    }
}

/// What an element stands for: itself, or the one that its `id-ref` names.
fn referred<'a, 'input>(node: Node<'a, 'input>) -> Node<'a, 'input> {
    let named = |id: &str| node.document().descendants().find(|n| n.tag_name() == node.tag_name() && n.attribute("id") == Some(id));
    node.attribute("id-ref").and_then(named).unwrap_or(node)
}

/// The template of a primitive.
pub(crate) fn template<'a, 'input>(node: Node<'a, 'input>) -> Option<Node<'a, 'input>> {
    let name = node.attribute("template").filter(|_| node.has_tag_name("primitive"))?;
    node.document().descendants().find(|n| n.has_tag_name("template") && n.attribute("id") == Some(name))
}

/// A part of the name of a primitive's agent, which its template says where there is one.
pub(crate) fn of_agent<'a>(node: Node<'a, '_>, part: &str) -> Option<&'a str> {
    node.attribute(part).or_else(|| template(node)?.attribute(part))
}

fn primitive(node: Node<'_, '_>) -> Primitive {
    let around: Vec<Node<'_, '_>> = node.ancestors().skip(1).take_while(|n| !n.has_tag_name("resources")).collect();
    let mut meta: BTreeMap<String, String> = around.iter().rev().flat_map(|n| own_values(*n, "meta_attributes").values).collect();
    meta.extend(own_values(node, "meta_attributes").values);
    let agent: Vec<&str> = ["class", "provider", "type"].into_iter().filter_map(|part| of_agent(node, part)).collect();
    let Values { values: parameters, undecided } = own_values(node, "instance_attributes");
    Primitive {
        agent: agent.join(":"),
        parent: around.iter().find(|n| is_clone(**n)).or(around.first()).and_then(|parent| attribute(*parent, "id")),
        parameters,
        undecided,
        meta,
        pause: Pause::of(node),
    }
}

fn is_clone(node: Node<'_, '_>) -> bool {
    node.has_tag_name("clone") || node.has_tag_name("master")
}

fn leftover(node: Node<'_, '_>) -> Option<Leftover> {
    let id = attribute(node, "id").filter(|id| id.starts_with("cli-ban-") || id.starts_with("cli-prefer-"))?;
    let until = node.descendants().find(|n| n.has_tag_name("date_expression")).and_then(|n| attribute(n, "end"));
    // With a lifetime the node stands in a rule.
    let named = node.descendants().find(|n| n.has_tag_name("expression") && n.attribute("attribute") == Some("#uname"));
    let on = attribute(node, "node").or_else(|| attribute(named?, "value"));
    Some(Leftover { banned: on.filter(|_| id.starts_with("cli-ban-")), id, resource: attribute(node, "rsc")?, until })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(resources: &str) -> Primitive {
        let text = format!("<cib><configuration><resources>{resources}</resources></configuration></cib>");
        Cib::parse(&text).unwrap().primitives.remove("db").unwrap()
    }

    fn pair(name: &str, value: &str) -> String {
        format!("<nvpair name='{name}' value='{value}'/>")
    }

    /// The command read what stands in the primitive and asked another server than Pacemaker's.
    #[test]
    fn parameters_are_those_that_pacemaker_puts_together() {
        let template = format!(
            "<template id='t' class='ocf' provider='systole' type='mysql'><instance_attributes id='ti'>{}{}</instance_attributes>\
             <meta_attributes id='tm'>{}</meta_attributes></template>",
            pair("datadir", "/of-the-template"),
            pair("socket", "/of-the-template"),
            pair("target-role", "Stopped")
        );
        let own = format!(
            "<primitive id='db' template='t'><instance_attributes id='i'>{}</instance_attributes></primitive>",
            pair("socket", "/own")
        );
        let primitive = parameters(&(template + &own));
        assert_eq!(primitive.agent, "ocf:systole:mysql");
        assert_eq!((primitive.parameters["datadir"].as_str(), primitive.parameters["socket"].as_str()), ("/of-the-template", "/own"));
        assert_eq!(primitive.meta["target-role"], "Stopped");

        let set = |id: &str, score: &str, value: &str| {
            format!("<instance_attributes id='{id}' score='{score}'>{}</instance_attributes>", pair("socket", value))
        };
        for (sets, expected) in [
            ([set("a", "5", "/five"), set("b", "1", "/one")], "/five"),
            ([set("a", "5", "/five"), set("b", "INFINITY", "/most")], "/most"),
            ([set("a", "0", "/first"), set("b", "0", "/last")], "/last"),
        ] {
            let primitive = parameters(&format!("<primitive id='db'>{}</primitive>", sets.concat()));
            assert_eq!(primitive.parameters["socket"], expected);
        }

        let elsewhere = format!("<primitive id='other'>{}</primitive>", set("a", "0", "/there"));
        let referring = "<primitive id='db'><instance_attributes id-ref='a'/></primitive>";
        assert_eq!(parameters(&format!("{elsewhere}{referring}")).parameters["socket"], "/there");
        let single = "<primitive id='other'><instance_attributes id='a'><nvpair id='n' name='socket' value='/there'/></instance_attributes></primitive>\
                      <primitive id='db'><instance_attributes id='b'><nvpair id-ref='n'/></instance_attributes></primitive>";
        assert_eq!(parameters(single).parameters["socket"], "/there");
        let renamed = single.replace("<nvpair id-ref='n'/>", "<nvpair id-ref='n' name='log'/>");
        assert_eq!(parameters(&renamed).parameters["log"], "/there");
    }

    #[test]
    fn what_a_rule_decides_about_is_not_guessed() {
        let ruled = "<primitive id='db'><instance_attributes id='always'><nvpair name='socket' value='/a'/></instance_attributes>\
                     <instance_attributes id='on-one' score='9'><rule id='r' score='0'><expression attribute='#uname' operation='eq' value='x'/></rule>\
                     <nvpair name='socket' value='/b'/></instance_attributes></primitive>";
        let primitive = parameters(ruled);
        assert_eq!((primitive.parameters["socket"].as_str(), primitive.undecided.join(" ").as_str()), ("/a", "on-one"));
        let cib = Cib::parse(&format!("<cib><configuration><resources>{ruled}</resources></configuration></cib>")).unwrap();
        assert!(cib.decided("db").unwrap_err().contains("a rule decides about parameters of db (on-one)"));
        assert!(cib.decided("x").is_err());
    }
}
