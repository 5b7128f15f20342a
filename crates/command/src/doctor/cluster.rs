//! What is wrong with the configuration of the cluster. Pure.

use super::configuration::{Operation, Resource, milliseconds};
use super::findings::{Clustered, Finding, finding};
use crate::cib::is_true;
use crate::notices::Level;

/// Operations that nobody configures.
const NOT_CONFIGURED: [&str; 5] = ["meta-data", "usage", "validate-all", "status", "reload-agent"];

pub(super) fn of(cluster: &Clustered) -> Vec<Finding> {
    let mut all = fencing(cluster);
    all.extend(quorum(cluster));
    for resource in &cluster.configuration.resources {
        if resource.promotable && !resource.notified {
            let clone = resource.clone.as_deref().unwrap_or(&resource.name);
            let text = "the clone is not notified, and without that no position is published and nobody can be elected";
            let line = format!("crm_resource --resource {clone} --meta --set-parameter notify --parameter-value true");
            all.push(finding(Level::Broken, "notify", Some(clone), text, Some(line)));
        }
        match cluster.minimums.get(&resource.agent) {
            Some(Ok(asked)) => all.extend(timeouts(resource, asked, cluster.configuration.default_timeout)),
            Some(Err(why)) => {
                let text = format!("what timeouts the agent asks for is not known: {why}");
                all.push(finding(Level::Degraded, "timeouts", Some(&resource.name), text, None));
            }
            None => {}
        }
    }
    all
}

fn fencing(cluster: &Clustered) -> Vec<Finding> {
    let property = |name: &str| cluster.cib.properties.get(name).map(String::as_str);
    let set = pacemaker::FENCING.iter().find_map(|name| Some((name, property(name)?)));
    if let Some((name, _)) = set.filter(|(_, value)| !is_true(value)) {
        let text = "fencing is off: two primaries are possible when the network breaks";
        let line = format!("a fence device for each node (base.crm), then: crm_attribute --name {name} --update true");
        return vec![finding(Level::Broken, "fencing", None, text, Some(line))];
    }
    let by_watchdog = property("stonith-watchdog-timeout").is_some_and(|value| !matches!(value.trim(), "" | "0" | "0s"));
    if by_watchdog && property("have-watchdog").is_some_and(is_true) {
        return Vec::new();
    }
    let devices = &cluster.configuration.devices;
    let fenced = |node: &String| devices.iter().any(|device| device.nodes.as_ref().is_none_or(|nodes| nodes.contains(node)));
    let without = cluster.cib.nodes.iter().filter(|node| !fenced(node));
    let said = |node: &String| {
        let text = "no fence device is for this node, and when it is lost nothing is started in its place";
        finding(Level::Broken, "fencing", Some(node), text, Some(format!("a device as in base.crm, with pcmk_host_list={node}")))
    };
    without.map(said).collect()
}

fn quorum(cluster: &Clustered) -> Vec<Finding> {
    let mut all = Vec::new();
    if !cluster.cib.quorum {
        let text = "there is no quorum: nothing is started or promoted";
        all.push(finding(Level::Broken, "quorum", None, text, Some("systemctl start corosync pacemaker, on the other nodes".to_owned())));
    }
    if cluster.cib.properties.get("no-quorum-policy").is_some_and(|policy| policy == "ignore") {
        let text = "no-quorum-policy=ignore lets both halves of a cluster run a primary";
        let line = "crm_attribute --name no-quorum-policy --update stop".to_owned();
        all.push(finding(Level::Broken, "quorum", None, text, Some(line)));
    }
    all
}

/// Whether a configured operation is the one that the agent asks for. A recurring one without a role is made while an instance has the
/// role that resources have by themselves: of a promotable clone Unpromoted, and never Promoted.
fn fits(operation: &Operation, wanted: &Operation, promotable: bool) -> bool {
    if operation.name != wanted.name {
        return false;
    }
    if wanted.name != "monitor" {
        return operation.role == wanted.role || operation.role.is_none() || wanted.role.is_none();
    }
    let usual = if promotable { "Unpromoted" } else { "Started" };
    let role = |operation: &Operation| operation.role.clone().unwrap_or_else(|| usual.to_owned());
    is_recurring(operation) && role(operation) == role(wanted)
}

/// Whether it is made again and again: without an interval, or with one of 0, it says how an action is made that Pacemaker begins by
/// itself.
fn is_recurring(operation: &Operation) -> bool {
    operation.interval.as_deref().is_some_and(|interval| milliseconds(interval) != Some(0))
}

/// Recurring operations that have the name and the interval of another one: Pacemaker tells them apart by nothing else.
fn doubles(resource: &Resource) -> Vec<Finding> {
    let recurring: Vec<&Operation> = resource.operations.iter().filter(|operation| is_recurring(operation)).collect();
    let interval = |operation: &Operation| {
        operation.interval.as_deref().map(|text| milliseconds(text).map_or_else(|| text.to_owned(), |ms| ms.to_string()))
    };
    let of_before =
        |at: usize| recurring[..at].iter().find(|other| other.name == recurring[at].name && interval(other) == interval(recurring[at]));
    let said = |at: usize| {
        let (first, second) = (of_before(at)?, recurring[at]);
        let role = |operation: &Operation| {
            operation.role.as_ref().map_or_else(|| "without a role".to_owned(), |role| format!("of the role {role}"))
        };
        let (name, every) = (&second.name, second.interval.as_deref().unwrap_or_default());
        let text = format!(
            "the {name} {} and the one {} have the same interval {every}, and Pacemaker makes only one of them",
            role(first),
            role(second)
        );
        let line = format!("op {name} with another interval, as 11s in the place of 10s");
        Some(finding(Level::Broken, "timeouts", Some(&resource.name), text, Some(edit(resource, &line))))
    };
    (0..recurring.len()).filter_map(said).collect()
}

/// Operations that have less time than the agent asks for, or that are not made at all.
fn timeouts(resource: &Resource, asked: &[Operation], default: u64) -> Vec<Finding> {
    let mut all = doubles(resource);
    for wanted in asked.iter().filter(|operation| !NOT_CONFIGURED.contains(&operation.name.as_str())) {
        let Some(least) = wanted.timeout else { continue };
        let (role, seconds) = (wanted.role.as_ref().map_or_else(String::new, |role| format!(" role={role}")), least.div_ceil(1000));
        let exactly = |operation: &&Operation| operation.role == wanted.role;
        let fitting = || resource.operations.iter().filter(|operation| fits(operation, wanted, resource.promotable));
        let configured = fitting().find(exactly).or_else(|| fitting().next());
        if wanted.name == "monitor" && configured.is_none() {
            let interval = wanted.interval.as_deref().unwrap_or("10s");
            let line = format!("op monitor interval={interval} timeout={seconds}s{role}");
            let text = format!("there is no monitor{}, so nothing is noticed there", role.replace(" role=", " of the role "));
            all.push(finding(Level::Broken, "timeouts", Some(&resource.name), text, Some(edit(resource, &line))));
            continue;
        }
        let given = configured.and_then(|operation| operation.timeout).unwrap_or(default);
        if given < least {
            let interval = configured.and_then(|operation| operation.interval.clone()).unwrap_or_else(|| "0".to_owned());
            let line = format!("op {} interval={interval} timeout={seconds}s{role}", wanted.name);
            let name = &wanted.name;
            let text = format!("{name}{role} may take {} s, and the agent asks for {seconds} s at least", given / 1000);
            all.push(finding(Level::Degraded, "timeouts", Some(&resource.name), text, Some(edit(resource, &line))));
        }
    }
    all
}

fn edit(resource: &Resource, line: &str) -> String {
    format!("crm configure edit {}: {line}", resource.name)
}
