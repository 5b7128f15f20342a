//! What the CIB says of operations, notifications and fencing, and what the agents' meta-data ask for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use roxmltree::{Document, Node, ParsingOptions};

use crate::cib::is_true;

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
                    all.default_timeout = values(node).get("timeout").and_then(|text| milliseconds(text)).unwrap_or(USUAL_TIMEOUT)
                }
                "primitive" if node.attribute("class") == Some("stonith") => all.devices.extend(device(node)),
                "primitive" if node.attribute("provider") == Some("systole") => all.resources.push(resource(node)),
                _ => {}
            }
        }
        Ok(all)
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
    let text = |name: &str| node.attribute(name).map(str::to_owned).or_else(|| values(node).get(name).cloned());
    Operation {
        name: text("name").unwrap_or_default(),
        role: text("role").map(|text| role(&text)),
        timeout: text("timeout").and_then(|text| milliseconds(&text)),
        interval: text("interval"),
    }
}

fn resource(node: Node<'_, '_>) -> Resource {
    let around = node.ancestors().skip(1).find(|n| n.has_tag_name("clone") || n.has_tag_name("master"));
    let meta = |name: &str| around.and_then(|clone| own(clone, "meta_attributes").get(name).cloned());
    let text = |name: &str| node.attribute(name).unwrap_or_default().to_owned();
    Resource {
        name: text("id"),
        clone: around.and_then(|clone| clone.attribute("id")).map(str::to_owned),
        agent: text("type"),
        promotable: around.is_some_and(|clone| clone.has_tag_name("master")) || meta("promotable").is_some_and(|value| is_true(&value)),
        notified: meta("notify").is_some_and(|value| is_true(&value)),
        operations: node.descendants().filter(|n| n.has_tag_name("op")).map(operation).collect(),
    }
}

fn device(node: Node<'_, '_>) -> Option<Device> {
    let (parameters, meta) = (own(node, "instance_attributes"), own(node, "meta_attributes"));
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

fn own(node: Node<'_, '_>, set: &str) -> BTreeMap<String, String> {
    node.children().filter(|child| child.has_tag_name(set)).flat_map(values).collect()
}

fn values(node: Node<'_, '_>) -> BTreeMap<String, String> {
    let pairs = node.descendants().filter(|n| n.has_tag_name("nvpair"));
    pairs.filter_map(|pair| Some((pair.attribute("name")?.to_owned(), pair.attribute("value")?.to_owned()))).collect()
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
