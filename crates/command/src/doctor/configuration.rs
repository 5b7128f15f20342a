//! What the CIB says of operations, notifications and fencing, and what the agents' meta-data ask for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use roxmltree::{Document, Node, ParsingOptions};

use crate::cib::{is_true, of_agent, own_values, template};

/// What Pacemaker gives an operation without a word. Milliseconds.
const USUAL_TIMEOUT: u64 = 20_000;

/// What is configured, as far as `systole doctor` looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The resources of agents of ours.
    pub resources: Vec<Resource>,
    /// The fence devices.
    pub devices: Vec<Device>,
    /// What an operation without a timeout has. Milliseconds.
    pub default_timeout: u64,
    /// Checks whose answer depends on what cannot be evaluated here, and why.
    pub unseen: BTreeMap<&'static str, String>,
}

/// A resource of an agent of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// The name of the clone, where it is one.
    pub clone: Option<String>,
    /// The agent: `mysql`.
    pub agent: String,
    /// Whether its instances can be promoted.
    pub promotable: bool,
    /// Whether they are notified.
    pub notified: bool,
    /// The operations.
    pub operations: Vec<Operation>,
}

/// An operation, as it is configured or asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// `start`, `monitor`, ...
    pub name: String,
    /// `Promoted`, `Unpromoted`; `None` for any.
    pub role: Option<String>,
    /// Milliseconds. `None` where nothing is said.
    pub timeout: Option<u64>,
    /// What stands there for the interval.
    pub interval: Option<String>,
}

/// A fence device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// The nodes that it is for. `None`: it finds that out by itself.
    pub nodes: Option<BTreeSet<String>>,
}

impl Configuration {
    /// Reads what `cibadmin --query` prints.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Document::parse(text).map_err(|e| format!("the CIB is no XML: {e}"))?;
        let mut all = Self { default_timeout: USUAL_TIMEOUT, ..Self::default() };
        for node in document.descendants() {
            match node.tag_name().name() {
                "op_defaults" => {
                    let defaults = own_values(node, "meta_attributes");
                    all.default_timeout = defaults.values.get("timeout").and_then(|text| milliseconds(text)).unwrap_or(USUAL_TIMEOUT);
                    all.undecided("timeouts", &defaults.undecided);
                }
                "primitive" if of_agent(node, "class") == Some("stonith") => {
                    all.undecided(
                        "fencing",
                        &["instance_attributes", "meta_attributes"].map(|set| own_values(node, set).undecided).concat(),
                    );
                    all.devices.extend(device(node));
                }
                "primitive" if of_agent(node, "provider") == Some("systole") => all.add(node),
                _ => {}
            }
        }
        Ok(all)
    }
}

impl Configuration {
    /// A resource of an agent of ours, and what cannot be told of it.
    fn add(&mut self, node: Node<'_, '_>) {
        let around = clone_of(node).map(|clone| own_values(clone, "meta_attributes").undecided).unwrap_or_default();
        self.undecided("notify", &around);
        for op in operations(node) {
            self.undecided("timeouts", &["instance_attributes", "meta_attributes"].map(|set| own_values(op, set).undecided).concat());
        }
        self.resources.push(resource(node));
    }

    /// Rules decide about these sets of attributes, which a check has to know.
    fn undecided(&mut self, check: &'static str, sets: &[String]) {
        if !sets.is_empty() {
            let why = format!("a rule decides about {}, and Pacemaker alone evaluates it", sets.join(", "));
            self.unseen.entry(check).and_modify(|known| *known = format!("{known}; {why}")).or_insert(why);
        }
    }
}

/// What an agent's meta-data say of its operations.
///
/// # Errors
/// What is wrong with them.
pub fn asked_for(metadata: &str) -> Result<Vec<Operation>, String> {
    // They begin with a document type, as OCF wants it.
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(metadata, options).map_err(|e| format!("they are no XML: {e}"))?;
    Ok(document.descendants().filter(|node| node.has_tag_name("action")).map(operation).collect())
}

/// The same whatever the generation calls it.
fn role(text: &str) -> String {
    match text {
        "Master" => "Promoted".to_owned(),
        "Slave" => "Unpromoted".to_owned(),
        other => other.to_owned(),
    }
}

fn operation(node: Node<'_, '_>) -> Operation {
    let sets = ["instance_attributes", "meta_attributes"].map(|set| own_values(node, set).values);
    let text = |name: &str| node.attribute(name).map(str::to_owned).or_else(|| sets.iter().find_map(|set| set.get(name).cloned()));
    Operation {
        name: text("name").unwrap_or_default(),
        role: text("role").map(|text| role(&text)),
        timeout: text("timeout").and_then(|text| milliseconds(&text)),
        interval: text("interval"),
    }
}

fn clone_of<'a, 'input>(node: Node<'a, 'input>) -> Option<Node<'a, 'input>> {
    node.ancestors().skip(1).find(|n| n.has_tag_name("clone") || n.has_tag_name("master"))
}

/// The operations of a primitive: its own, and those of its template that it does not configure itself.
fn operations<'a, 'input>(node: Node<'a, 'input>) -> Vec<Node<'a, 'input>> {
    let of = |n: Node<'a, 'input>| n.descendants().filter(|n| n.has_tag_name("op")).collect::<Vec<_>>();
    let mut all = of(node);
    let same = |one: &Node<'_, '_>, other: &Node<'_, '_>| {
        let interval = |n: &Node<'_, '_>| n.attribute("interval").and_then(milliseconds).unwrap_or(0);
        one.attribute("name") == other.attribute("name") && interval(one) == interval(other)
    };
    let inherited: Vec<_> = template(node).map(of).unwrap_or_default();
    let missing: Vec<_> = inherited.into_iter().filter(|op| !all.iter().any(|own| same(own, op))).collect();
    all.extend(missing);
    all
}

fn resource(node: Node<'_, '_>) -> Resource {
    let around = clone_of(node);
    let of_clone = around.map(|clone| own_values(clone, "meta_attributes").values).unwrap_or_default();
    let meta = |name: &str| of_clone.get(name).cloned();
    let text = |name: &str| of_agent(node, name).unwrap_or_default().to_owned();
    Resource {
        name: text("id"),
        clone: around.and_then(|clone| clone.attribute("id")).map(str::to_owned),
        agent: text("type"),
        promotable: around.is_some_and(|clone| clone.has_tag_name("master")) || meta("promotable").is_some_and(|value| is_true(&value)),
        notified: meta("notify").is_some_and(|value| is_true(&value)),
        operations: operations(node).into_iter().map(operation).collect(),
    }
}

fn device(node: Node<'_, '_>) -> Option<Device> {
    let (parameters, meta) = (own_values(node, "instance_attributes").values, own_values(node, "meta_attributes").values);
    if meta.get("target-role").is_some_and(|role| role == "Stopped") {
        return None;
    }
    let named = ["pcmk_host_list", "pcmk_host_map", "hostlist"].iter().find_map(|name| parameters.get(*name));
    let nodes = named.map(|text| {
        let words = text.split([' ', ',', ';', '\t']).map(|word| word.split([':', '=']).next().unwrap_or_default());
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    });
    Some(Device { name: node.attribute("id").unwrap_or_default().to_owned(), nodes })
}

/// A time as Pacemaker reads it: seconds, or with a unit. `None` for what this does not read.
#[must_use]
pub fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "s" | "sec" => 1_000,
        "ms" | "msec" => 1,
        "m" | "min" => 60_000,
        "h" | "hr" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_pacemakers_units() {
        for (text, expected) in [("20", 20_000), ("20s", 20_000), (" 2min ", 120_000), ("500ms", 500), ("1h", 3_600_000), ("7 sec", 7_000)]
        {
            assert_eq!(milliseconds(text), Some(expected), "{text}");
        }
        assert_eq!([milliseconds("PT2M"), milliseconds("x"), milliseconds("")], [None; 3]);
    }

    #[test]
    fn a_template_gives_its_operations_and_a_rule_is_told() {
        let xml = "<cib><configuration><resources><template id='t' class='ocf' provider='systole' type='mysql'><operations>\
                   <op name='stop' interval='0' timeout='120s'/><op name='start' interval='0' timeout='30s'/></operations></template>\
                   <clone id='c'><meta_attributes id='m'><rule id='r'/><nvpair name='notify' value='true'/></meta_attributes>\
                   <primitive id='db' template='t'><operations><op name='start' interval='0s' timeout='90s'><meta_attributes id='om'><rule id='r2'/>\
                   </meta_attributes></op></operations></primitive></clone></resources>\
                   <op_defaults><meta_attributes id='od'><rule id='r3'/><nvpair name='timeout' value='1s'/></meta_attributes></op_defaults>\
                   </configuration></cib>";
        let all = Configuration::parse(xml).unwrap();
        let [resource] = &all.resources[..] else { panic!("{all:?}") };
        let timeouts: Vec<_> = resource.operations.iter().map(|op| (op.name.as_str(), op.timeout)).collect();
        assert_eq!(timeouts, [("start", Some(90_000)), ("stop", Some(120_000))]);
        assert_eq!((resource.agent.as_str(), all.default_timeout), ("mysql", USUAL_TIMEOUT));
        assert!(
            all.unseen["notify"].contains("decides about m,") && all.unseen["timeouts"].contains("decides about om,"),
            "{:?}",
            all.unseen
        );
        assert!(all.unseen["timeouts"].contains("decides about od,"), "{:?}", all.unseen);
    }

    #[test]
    fn devices_name_their_nodes_in_a_list_or_a_map() {
        let device = |parameters: &str| {
            let xml =
                format!("<cib><primitive id='f' class='stonith'><instance_attributes>{parameters}</instance_attributes></primitive></cib>");
            Configuration::parse(&xml).unwrap().devices.remove(0).nodes.map(|nodes| nodes.into_iter().collect::<Vec<_>>().join(" "))
        };
        assert_eq!(device("<nvpair name='pcmk_host_list' value='a, b'/>").as_deref(), Some("a b"));
        assert_eq!(device("<nvpair name='pcmk_host_map' value='a:1;b:2,3'/>").as_deref(), Some("3 a b"));
        assert_eq!(device(""), None);
    }
}
