//! A loaded configuration against what the agents advertise. Pure.

use std::collections::BTreeMap;

use roxmltree::{Document, Node, ParsingOptions};

/// Pacemaker's own timeout for an operation that says none.
const DEFAULT_TIMEOUT: u32 = 20;
/// What an operation may carry.
const OPERATION_ATTRIBUTES: [&str; 8] = ["id", "name", "interval", "timeout", "role", "on-fail", "start-delay", "enabled"];

/// What is wrong with a configuration, as sentences; empty when nothing is.
///
/// # Panics
/// When either is no XML.
pub fn violations(configuration: &str, metadata: &BTreeMap<String, String>) -> Vec<String> {
    let document = Document::parse(configuration).expect("the configuration is XML");
    let mut found = Vec::new();
    for primitive in document.descendants().filter(|n| n.has_tag_name("primitive")) {
        let agent: Vec<&str> = ["class", "provider", "type"].iter().filter_map(|a| primitive.attribute(*a)).collect();
        let agent = agent.join(":");
        let Some(text) = metadata.get(&agent) else {
            found.push(format!("{agent}: no meta-data was asked for"));
            continue;
        };
        let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
        let advertised = Document::parse_with_options(text.trim(), options).unwrap_or_else(|e| panic!("{agent}: {e}"));
        let mut say = |what: String| found.push(format!("{}: {what}", primitive.attribute("id").unwrap_or_default()));
        parameters(&primitive, &advertised, &mut say);
        operations(&primitive, &advertised, &mut say);
        clone(&agent, &primitive, &advertised, &mut say);
    }
    found
}

fn named<'a>(document: &'a Document<'a>, tag: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |n| n.has_tag_name(tag))
}

fn parameters(primitive: &Node<'_, '_>, advertised: &Document<'_>, say: &mut impl FnMut(String)) {
    let given: Vec<(&str, &str)> = primitive
        .children()
        .filter(|n| n.has_tag_name("instance_attributes"))
        .flat_map(|set| set.children().filter(|n| n.has_tag_name("nvpair")))
        .filter_map(|pair| Some((pair.attribute("name")?, pair.attribute("value")?)))
        .collect();
    for (name, value) in &given {
        // Pacemaker's own parameters of fence devices are in no agent's meta-data.
        if name.starts_with("pcmk_") && primitive.attribute("class") == Some("stonith") {
            continue;
        }
        match named(advertised, "parameter").find(|p| p.attribute("name") == Some(*name)) {
            None => say(format!("the agent knows no parameter {name}")),
            Some(parameter) => {
                if parameter.attribute("deprecated") == Some("1") {
                    say(format!("the parameter {name} is deprecated"));
                }
                let kind = parameter.children().find(|n| n.has_tag_name("content")).and_then(|c| c.attribute("type"));
                if kind == Some("integer") && value.parse::<i64>().is_err() {
                    say(format!("the parameter {name} is a number, not {value:?}"));
                }
                if kind == Some("boolean") && !["1", "0", "true", "false", "yes", "no", "on", "off"].contains(value) {
                    say(format!("the parameter {name} is true or false, not {value:?}"));
                }
            }
        }
    }
    for parameter in named(advertised, "parameter").filter(|p| p.attribute("required") == Some("1")) {
        let name = parameter.attribute("name").unwrap_or_default();
        let has_default = parameter.children().any(|n| n.has_tag_name("content") && n.has_attribute("default"));
        if !has_default && !given.iter().any(|(given, _)| *given == name) {
            say(format!("the required parameter {name} is missing"));
        }
    }
}

/// Pacemaker's spellings of a role.
fn role(name: Option<&str>) -> &str {
    match name {
        Some("Master" | "Promoted") => "Promoted",
        Some("Slave" | "Unpromoted") => "Unpromoted",
        _ => "",
    }
}

fn seconds(text: &str) -> u32 {
    match text.strip_suffix("ms") {
        Some(ms) => ms.parse::<u32>().unwrap_or(0) / 1000,
        None => text.trim_end_matches('s').parse().unwrap_or(0),
    }
}

fn operations(primitive: &Node<'_, '_>, advertised: &Document<'_>, say: &mut impl FnMut(String)) {
    let given: Vec<Node<'_, '_>> = primitive.descendants().filter(|n| n.has_tag_name("op")).collect();
    for operation in &given {
        let name = operation.attribute("name").unwrap_or_default();
        for attribute in operation.attributes().filter(|a| !OPERATION_ATTRIBUTES.contains(&a.name())) {
            say(format!("op {name}: {} has no meaning there", attribute.name()));
        }
        // crmsh puts what it does not know into a set of parameters of the operation.
        for pair in operation.descendants().filter_map(|n| n.attribute("name").filter(|_| n.has_tag_name("nvpair"))) {
            if pair != "OCF_CHECK_LEVEL" {
                say(format!("op {name}: {pair} has no meaning there"));
            }
        }
        if !named(advertised, "action").any(|a| a.attribute("name") == Some(name)) {
            say(format!("op {name}: the agent has no such action"));
        }
    }
    for action in named(advertised, "action").filter(|a| a.has_attribute("timeout")) {
        let name = action.attribute("name").unwrap_or_default();
        if !["start", "stop", "monitor", "promote", "demote", "notify"].contains(&name) {
            continue;
        }
        let wanted_role = role(action.attribute("role"));
        let wanted = seconds(action.attribute("timeout").unwrap_or_default());
        let same: Vec<&Node<'_, '_>> = given
            .iter()
            .filter(|o| o.attribute("name") == Some(name) && (name != "monitor" || role(o.attribute("role")) == wanted_role))
            .collect();
        if same.is_empty() && name == "monitor" && !wanted_role.is_empty() {
            say(format!("no monitor for the role {wanted_role}"));
        }
        // One for no role in particular is not missed where each role has its own.
        let elsewhere = name == "monitor" && given.iter().any(|o| o.attribute("name") == Some(name));
        if same.is_empty() && wanted > DEFAULT_TIMEOUT && !elsewhere {
            say(format!("op {name} is missing: the agent advertises {wanted} s, and the default is {DEFAULT_TIMEOUT} s"));
        }
        for operation in same {
            let timeout = operation.attribute("timeout").map_or(DEFAULT_TIMEOUT, seconds);
            if timeout < wanted {
                say(format!("op {name}: timeout {timeout} s is less than the {wanted} s that the agent advertises"));
            }
        }
    }
    let mut intervals: Vec<&str> =
        given.iter().filter(|o| o.attribute("name") == Some("monitor")).filter_map(|o| o.attribute("interval")).collect();
    let monitors = intervals.len();
    if monitors == 0 {
        say("nothing monitors it".into());
    }
    intervals.sort_unstable();
    intervals.dedup();
    if intervals.len() < monitors {
        say("two monitors have the same interval: Pacemaker would run one of them only".into());
    }
}

/// Agents whose instances are all promoted. To demote one is to stop it, so nothing is gained over a restart.
const ALL_PROMOTED: [&str; 1] = ["ocf:heartbeat:galera"];

/// An agent that can be promoted needs a clone that says so, with notifications when it advertises them.
fn clone(agent: &str, primitive: &Node<'_, '_>, advertised: &Document<'_>, say: &mut impl FnMut(String)) {
    let can = |name: &str| named(advertised, "action").any(|a| a.attribute("name") == Some(name));
    if !can("promote") {
        return;
    }
    let Some(clone) = primitive.ancestors().find(|n| n.has_tag_name("clone")) else {
        say("it can be promoted, and is no clone".into());
        return;
    };
    let meta = |name: &str| {
        let mut pairs = clone.children().filter(|n| n.has_tag_name("meta_attributes")).flat_map(|set| set.children());
        pairs.find(|n| n.attribute("name") == Some(name)).and_then(|n| n.attribute("value"))
    };
    let alike = ALL_PROMOTED.contains(&agent);
    let promoted = if alike { meta("clone-max").unwrap_or("as many as clone-max") } else { "1" };
    for (name, value) in [("promotable", "true"), ("promoted-max", promoted), ("promoted-node-max", "1"), ("interleave", "true")] {
        if meta(name) != Some(value) {
            say(format!("the clone lacks {name}={value}"));
        }
    }
    if can("notify") && meta("notify") != Some("true") {
        say("the clone lacks notify=true, and the agent advertises notify".into());
    }
    if alike {
        return;
    }
    // A slow restart of a dead primary must not hold up its successor, and a refused promotion must not restart the server.
    let operations = primitive.descendants().filter(|n| n.has_tag_name("op"));
    for operation in operations.filter(|o| role(o.attribute("role")) == "Promoted" || o.attribute("name") == Some("promote")) {
        if operation.attribute("on-fail") != Some("demote") {
            say(format!("op {} of the promoted role lacks on-fail=demote", operation.attribute("name").unwrap_or_default()));
        }
    }
}
