//! Asking the cluster, each question with a limit: a node that does not answer makes nobody wait. All that the command knows comes from here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use pacemaker::{Cluster, Membership};

use crate::cib::Cib;
use crate::crm_mon::Monitor;
use crate::picture::{Attributes, MEMBERSHIP, POSITION, Picture, WRITES};

/// What all questions together may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(2);
/// Where the agents remember things until the next boot.
const STATE_DIRECTORY: &str = "/run/resource-agents";
/// Names in the CIB of what the agents record.
const RECORD: (&str, &str) = ("systole-", "-primary");

/// What the cluster says of its services.
///
/// # Errors
/// What could not be asked.
pub(crate) fn picture() -> Result<Picture, String> {
    let until = Instant::now() + LIMIT;
    std::thread::scope(|scope| {
        let monitor =
            scope.spawn(|| tool("crm_mon", &["--one-shot", "--inactive", "--output-as=xml"]).and_then(|text| Monitor::parse(&text)));
        // It is known by the time that somebody wants it.
        scope.spawn(crate::remote::named);
        let cib = tool("cibadmin", &["--query"]).and_then(|text| Cib::parse(&text));
        let (attributes, unheard) = cib.as_ref().map(|cib| attributes(cib, until)).unwrap_or_default();
        let watched = cib.as_ref().map(watched).unwrap_or_default();
        let monitor = monitor.join().map_err(|_| "crm_mon could not be asked".to_owned())?;
        let mut picture = Picture::new(&cib?, &monitor?, &attributes, &watched);
        if let Some(why) = unheard {
            picture = picture.unheard_of(why);
        }
        let now = SystemTime::now();
        for database in &mut picture.databases {
            database.end_pause(|pause| is_over(&pause.until, now));
            database.end_leftovers(|until| is_over(until, now));
        }
        Ok(picture)
    })
}

/// Whether its end has come. One that cannot be read is not taken for over.
fn is_over(until: &str, now: SystemTime) -> bool {
    // crm_resource writes it in the zone of the machine: `2026-11-30 01:21:30 +01:00`.
    until.parse::<chrono::DateTime<chrono::FixedOffset>>().is_ok_and(|end| SystemTime::from(end) <= now)
}

/// One call of Pacemaker's tools.
///
/// # Errors
/// What it said, or that it said nothing.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> Result<String, String> {
    tool_within(program, arguments, LIMIT)
}

/// The same with another limit.
///
/// # Errors
/// What it said, or that it said nothing.
pub(crate) fn tool_within(program: &str, arguments: &[&str], limit: Duration) -> Result<String, String> {
    let done = process::run(&path_of(program), arguments, limit).map_err(|e| e.to_string())?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = done.stderr.lines().chain(done.stdout.lines()).map(str::trim).find(|line| !line.is_empty()).unwrap_or("it says nothing");
    Err(format!("{program} failed (status {}): {said}", done.status.code().unwrap_or(-1)))
}

/// Where a program is. Monitoring systems, and `su` without a dash, have no sbin in their PATH.
pub(crate) fn path_of(program: &str) -> String {
    let there = Path::new("/usr/sbin").join(program);
    there.to_str().filter(|_| there.is_file()).unwrap_or(program).to_owned()
}

/// The resources of ours that have something recorded, or a promotion score.
fn names(cib: &Cib) -> impl Iterator<Item = &String> {
    let scored = |name: &str| cib.attributes.values().any(|of_node| of_node.contains_key(&format!("master-{name}")));
    let recorded = |name: &str| cib.properties.contains_key(&format!("{}{name}{}", RECORD.0, RECORD.1));
    cib.primitives.keys().filter(move |name| recorded(name) || scored(name))
}

/// The agents' private attributes, and why some are not known. They are of the attribute manager of this node, and never in the CIB.
fn attributes(cib: &Cib, until: Instant) -> (Attributes, Option<String>) {
    let (mut all, mut unheard) = (Attributes::new(), None);
    for name in names(cib) {
        let cluster = Cluster::new(membership(name), |_| {}).answering_by(until);
        for attribute in [POSITION, MEMBERSHIP, WRITES] {
            match cluster.private_values(attribute) {
                Ok(values) => drop(all.insert((name.clone(), attribute), values)),
                Err(why) => unheard = Some(why.to_string()),
            }
        }
    }
    (all, unheard)
}

/// What a change of the CIB may take: the controller may just be elected.
pub(crate) const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// Puts an operator's decision in the place of the record that it was made from.
///
/// # Errors
/// When another record is there, or the cluster does not do it.
pub(crate) fn decide(resource: &str, before: Option<&str>, record: &str) -> Result<(), pacemaker::Error> {
    let cluster = Cluster::new(membership(resource), |_| {}).answering_by(Instant::now() + CHANGE_LIMIT);
    promotable::replace_text(&cluster, before, record)
}

fn membership(resource: &str) -> Membership {
    Membership { resource: resource.to_owned(), node: None, present: true, state_directory: PathBuf::from(STATE_DIRECTORY) }
}

/// Whether the watchers of this node's databases run.
pub(crate) fn watched(cib: &Cib) -> BTreeMap<String, (String, bool)> {
    let Some(node) = this_node(cib) else { return BTreeMap::new() };
    let runs = |name: &String| {
        let bytes = process::own::read(&PathBuf::from(STATE_DIRECTORY).join(format!("systole-{name}.watch"))).ok()?;
        let record: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        let watcher: process::Identity = serde_json::from_value(record.get("watcher")?.clone()).ok()?;
        Some(watcher.is_alive())
    };
    names(cib).filter_map(|name| Some((name.clone(), (node.clone(), runs(name)?)))).collect()
}

/// This node's name in the cluster, which need not be that of the host.
pub(crate) fn this_node(cib: &Cib) -> Option<String> {
    crate::remote::this_node(&cib.nodes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_end_is_read_in_whatever_zone_pacemaker_has_written_it() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_998_090);
        for end in ["2026-11-30 00:21:30Z", "2026-11-30 01:21:30 +01:00", "2026-11-29 19:21:30 -05:00", "2026-11-30T00:21:30Z"] {
            assert!(is_over(end, at) && !is_over(end, at - Duration::from_secs(1)), "{end}");
        }
        assert!(!is_over("nonsense", at));
    }
}
