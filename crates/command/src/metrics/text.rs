//! The metrics of a picture of the cluster, as OpenMetrics. Pure.
//!
//! States are one series each, 0 or 1, and never a number with a meaning. All are gauges, so that the text is one of Prometheus' older format
//! as well. What is not known has no series: a 0 would say something.

use std::fmt::Write as _;

use crate::notices::{self, Level};
use crate::picture::{Condition, Database, Member, PROMOTED, Picture, UNSEEN};

/// The states that `systole_role` tells apart.
const ROLES: [&str; 3] = ["promoted", "unpromoted", "stopped"];

/// A family of series.
struct Family {
    name: &'static str,
    help: &'static str,
    series: Vec<(Vec<(&'static str, String)>, String)>,
}

/// A family that is filled in a moment.
fn family(name: &'static str, help: &'static str) -> Family {
    Family { name, help, series: Vec::new() }
}

impl Family {
    fn add(&mut self, labels: &[(&'static str, &str)], value: impl std::fmt::Display) {
        self.series.push((labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), value.to_string()));
    }

    fn write(&self, out: &mut String) {
        if self.series.is_empty() {
            return;
        }
        let _ = writeln!(out, "# HELP {} {}\n# TYPE {} gauge", self.name, self.help, self.name);
        for (labels, value) in &self.series {
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(out, "{}{labels} {value}", self.name);
        }
    }
}

/// A label's value, as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn bit(is: bool) -> u8 {
    u8::from(is)
}

/// The page. Without a picture it says that there is none.
#[must_use]
pub fn of(picture: Option<&Picture>) -> String {
    let mut families = vec![family("systole_scrape_success", "Whether the cluster could be asked.")];
    families.iter_mut().for_each(|success| success.add(&[], bit(picture.is_some())));
    let mut version = family("systole_build_info", "The version of systole on the node that is asked.");
    version.add(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    families.push(version);
    if let Some(picture) = picture {
        families.extend(of_cluster(picture));
        families.extend(of_databases(picture));
        families.extend(of_members(picture));
    }
    let mut out = String::new();
    families.iter().for_each(|family| family.write(&mut out));
    out.push_str("# EOF\n");
    out
}

fn of_cluster(picture: &Picture) -> Vec<Family> {
    let mut quorate = family("systole_cluster_quorate", "Whether the node that is asked is in a partition with quorum.");
    quorate.add(&[], bit(picture.quorum));
    let mut maintenance = family("systole_cluster_maintenance_mode", "Whether Pacemaker leaves all resources alone.");
    maintenance.add(&[], bit(picture.maintenance));
    let mut fencing = family("systole_cluster_stonith_enabled", "Whether fencing is on.");
    fencing.add(&[], bit(picture.fencing));
    let mut online = family("systole_node_online", "Whether a node takes part in the cluster.");
    let mut service = family("systole_service_running", "Whether an address or the cron jobs run somewhere, and are in order.");
    for node in &picture.nodes {
        online.add(&[("node", &node.name)], bit(node.online));
    }
    for other in &picture.others {
        let fine = !other.nodes.is_empty() && other.condition == Condition::Fine;
        service.add(&[("resource", &other.name), ("agent", &other.agent)], bit(fine));
    }
    vec![quorate, maintenance, fencing, online, service]
}

fn of_databases(picture: &Picture) -> Vec<Family> {
    let mut level = family("systole_level", "How a database is, in the words of systole status: one of these is 1.");
    let mut epoch = family("systole_record_epoch", "Counts promotions, failovers and moves alike.");
    let mut record = family("systole_record_info", "Who is recorded as the primary, and what clients are promised.");
    let mut replicas = family("systole_replicas", "How many replicas there may be.");
    let mut able = family("systole_acknowledging_members", "Replicas that run and acknowledge.");
    let mut needed = family("systole_acknowledgements_required", "How many replicas a write waits for.");
    let mut left = family("systole_leftover_constraints", "Constraints that a move or a ban has left.");
    for database in &picture.databases {
        let resource = ("resource", database.name.as_str());
        let is = notices::level(&notices::of(picture, &[database]));
        for each in [Level::Good, Level::Degraded, Level::Broken, Level::Unknown] {
            level.add(&[resource, ("level", each.word())], bit(each == is));
        }
        if let Some(recorded) = database.recorded() {
            epoch.add(&[resource], recorded.epoch);
            record.add(&[resource, ("primary", &recorded.node), ("durability", database.durability())], 1);
        }
        if let Some(servers) = database.servers {
            replicas.add(&[resource], servers.saturating_sub(1));
        }
        if let Some(replicas) = database.acknowledging() {
            able.add(&[resource], replicas.len());
        }
        if let Some(count) = database.needed() {
            needed.add(&[resource], count);
        }
        left.add(&[resource], database.leftovers.len());
    }
    vec![level, epoch, record, replicas, able, needed, left]
}

fn of_members(picture: &Picture) -> Vec<Family> {
    let mut role = family("systole_role", "What an instance is: one of these is 1. None of a node that is lost and not fenced.");
    let mut degraded = family("systole_degraded", "Whether an instance runs and its agent says that somebody has to look.");
    let mut failed = family("systole_failed", "Whether an operation of an instance failed last.");
    let mut failures = family("systole_failures", "Failures that Pacemaker remembers; a million is infinity.");
    let mut acknowledges = family("systole_acknowledging", "Whether a replica acknowledges.");
    let mut readable = family("systole_readable", "Whether an instance is good for clients that only read.");
    let mut watcher = family("systole_watcher_alive", "Whether the watcher of an instance runs on the node that is asked.");
    let mut lag = family("systole_election_lag", "What a replica lacks of what is recorded, while nobody is promoted.");
    for database in &picture.databases {
        for member in &database.members {
            let labels = [("resource", database.name.as_str()), ("node", member.node.as_str())];
            for each in ROLES.iter().filter(|_| member.role != UNSEEN) {
                role.add(&[labels[0], labels[1], ("role", each)], bit(*each == role_of(member)));
            }
            degraded.add(&labels, bit(matches!(member.condition, Condition::Degraded(_))));
            failed.add(&labels, bit(matches!(member.condition, Condition::Failed(_))));
            failures.add(&labels, member.failures);
            if let Some(is) = member.acknowledges.filter(|_| member.role != PROMOTED) {
                acknowledges.add(&labels, bit(is));
            }
            if let Some(is) = member.readable {
                readable.add(&labels, bit(is));
            }
            if let Some(runs) = member.watched {
                watcher.add(&labels, bit(runs));
            }
            if let Some(behind) = lacks(database, member) {
                lag.add(&[labels[0], labels[1], ("unit", behind.unit)], behind.count);
            }
        }
    }
    vec![role, degraded, failed, failures, acknowledges, readable, watcher, lag]
}

fn role_of(member: &Member) -> &'static str {
    match member.role.as_str() {
        PROMOTED => "promoted",
        _ if member.runs() => "unpromoted",
        _ => "stopped",
    }
}

/// A position of an election that is over says nothing of now.
fn lacks(database: &Database, member: &Member) -> Option<promotable::operator::Behind> {
    let position = member.position.as_ref()?;
    let current = database.promoted().is_empty() && database.recorded().is_some_and(|record| record.round == position.round);
    if current { member.behind } else { None }
}
