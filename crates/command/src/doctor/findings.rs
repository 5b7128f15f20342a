//! What is wrong with the machines of a cluster, or of one to be, each with the line to write. Pure.

use std::collections::{BTreeMap, BTreeSet};

use process::Space;

use super::configuration::{Configuration, Operation};
use super::facts::{Facts, PORTS};
use crate::cib::Cib;
use crate::notices::Level;

/// What is looked at.
pub const CHECKS: [&str; 14] = [
    "nodes",
    "settings",
    "passwords",
    "versions",
    "clock",
    "fencing",
    "quorum",
    "timeouts",
    "notify",
    "names",
    "disk",
    "watcher",
    "corosync",
    "boot",
];

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Which of [`CHECKS`] found it.
    pub check: &'static str,
    /// The node, or the resource.
    pub about: Option<String>,
    /// The sentence.
    pub text: String,
    /// The line to write, where the sentence has none.
    pub line: Option<String>,
}

/// What a node answered, and between which moments of the asking node's clock. Milliseconds of Unix time.
#[derive(Clone, Debug)]
pub struct Heard {
    /// What it said, or why it is not known.
    pub facts: Result<Facts, String>,
    /// When it was asked.
    pub begun: u64,
    /// When its answer was there.
    pub ended: u64,
}

/// The cluster, where there is one.
#[derive(Clone, Debug, Default)]
pub struct Clustered {
    /// What is recorded, and known of its nodes.
    pub cib: Cib,
    /// What is configured.
    pub configuration: Configuration,
    /// What each agent asks for, or why that is not known.
    pub minimums: BTreeMap<String, Result<Vec<Operation>, String>>,
}

/// All that was asked.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// The cluster. `None` before there is one.
    pub cluster: Option<Clustered>,
    /// What the nodes said.
    pub heard: BTreeMap<String, Heard>,
}

/// More than clocks differ by that are kept. Milliseconds.
const CLOCKS_DIFFER: u64 = 1_000;
/// Less than this of a file system is left when somebody has to look, in per cent.
const LITTLE_LEFT: u64 = 10;
/// A node whose token takes longer is noticed late. Milliseconds.
const LONG_TOKEN: u64 = 10_000;
/// As many bytes are always enough, however small a part of a large file system they are.
const ENOUGH: u64 = 50 << 30;

pub(super) fn finding(level: Level, check: &'static str, about: Option<&str>, text: impl Into<String>, line: Option<String>) -> Finding {
    Finding { level, check, about: about.map(str::to_owned), text: text.into(), line }
}

/// All of it, the worst first.
#[must_use]
pub fn of(examined: &Examined) -> Vec<Finding> {
    let mut all = unheard(examined);
    for (node, facts) in examined.answers() {
        all.extend(of_node(node, facts, examined));
    }
    all.extend(different(examined));
    all.extend(clocks(examined));
    all.extend(examined.cluster.as_ref().map(super::cluster::of).unwrap_or_default());
    all.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    all
}

impl Examined {
    /// The nodes that answered.
    pub fn answers(&self) -> impl Iterator<Item = (&str, &Facts)> {
        self.heard.iter().filter_map(|(node, heard)| Some((node.as_str(), heard.facts.as_ref().ok()?)))
    }

    /// What could be looked at: without a cluster there is no configuration, and one answer cannot be compared.
    #[must_use]
    pub fn looked_at(&self) -> Vec<&'static str> {
        let compared = self.answers().count() > 1;
        let could = |check: &&str| match *check {
            "passwords" => compared && self.cluster.is_some(),
            "settings" | "fencing" | "quorum" | "timeouts" | "notify" | "watcher" | "corosync" => self.cluster.is_some(),
            "clock" => compared,
            _ => true,
        };
        CHECKS.into_iter().filter(could).collect()
    }

    /// What could not be looked at although it should have been: by the check, on which nodes and why.
    #[must_use]
    pub fn not_looked_at(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut all: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for check in self.looked_at() {
            let of_nodes = self.answers().filter_map(|(node, facts)| Some(format!("{node}: {}", facts.unseen.get(check)?)));
            let of_cluster = self.cluster.iter().filter_map(|cluster| cluster.configuration.unseen.get(check).cloned());
            let why: Vec<String> = of_cluster.chain(of_nodes).collect();
            if !why.is_empty() {
                all.insert(check, why);
            }
        }
        all
    }

    /// How bad it is: nobody can tell where nobody answers, and somebody has to look where something could not be seen.
    #[must_use]
    pub fn level(&self, findings: &[Finding]) -> Level {
        let nobody = self.answers().next().is_none().then_some(Level::Unknown);
        let unseen = (!self.not_looked_at().is_empty()).then_some(Level::Degraded);
        findings.iter().map(|finding| finding.level).chain(nobody).chain(unseen).max().unwrap_or(Level::Good)
    }
}

fn unheard(examined: &Examined) -> Vec<Finding> {
    let not_known = |(node, heard): (&String, &Heard)| {
        let why = heard.facts.as_ref().err()?;
        Some(finding(Level::Degraded, "nodes", Some(node), format!("{why}; nothing is known of it"), way_there(node, why)))
    };
    examined.heard.iter().filter_map(not_known).collect()
}

/// What mends the way to a node, by what ssh says.
fn way_there(node: &str, why: &str) -> Option<String> {
    if !why.contains("over ssh") {
        return Some("apt install ./systole_*.deb, the same on each node".to_owned());
    }
    let ways = [
        ("Permission denied", format!("ssh-copy-id root@{node}")),
        ("Host key verification failed", format!("ssh {node} true, and compare the key that it shows with that of the node")),
        ("Could not resolve", format!("/etc/hosts: ADDRESS {node}")),
        ("Connection refused", format!("on {node}: systemctl enable --now ssh")),
    ];
    ways.into_iter().find_map(|(said, line)| why.contains(said).then_some(line))
}

fn of_node(node: &str, facts: &Facts, examined: &Examined) -> Vec<Finding> {
    let mut all = names(node, facts);
    for (path, space) in &facts.disks {
        all.extend(full(node, path, *space));
    }
    for (database, said) in &facts.complaints {
        all.extend(said.iter().map(|text| finding(Level::Degraded, "settings", Some(node), format!("{database}: {text}"), None)));
    }
    for database in facts.watchers.iter().filter(|(_, runs)| !**runs).map(|(name, _)| name) {
        let text = format!("no watcher runs for {database}, and a crash is found by the monitor only; the next monitor starts it");
        all.extend([finding(Level::Degraded, "watcher", Some(node), text, None)]);
    }
    all.extend(boot(node, facts));
    for (program, package) in [("pacemaker", "pacemaker"), ("corosync", "corosync")] {
        if !facts.versions.contains_key(program) {
            let text = format!("{program} is not installed, or does not say its version");
            all.push(finding(Level::Broken, "versions", Some(node), text, Some(format!("apt install {package} crmsh"))));
        }
    }
    if (examined.cluster.is_some() || facts.member) && !facts.clustered {
        let text = "it belongs to a cluster, and Pacemaker does not answer there".to_owned();
        all.push(finding(Level::Degraded, "nodes", Some(node), text, Some("systemctl start corosync pacemaker".to_owned())));
    }
    if examined.cluster.is_none() && facts.clustered {
        let text = "it is in a cluster, of which nothing was looked at".to_owned();
        all.push(finding(Level::Degraded, "nodes", Some(node), text, Some("systole doctor, without --nodes".to_owned())));
    }
    // In a cluster Pacemaker has started it.
    if examined.cluster.is_none() && !facts.clustered && !facts.member {
        for port in facts.listening.iter().filter(|port| PORTS.contains(port)) {
            let text = format!("somebody listens on port {port} already; Pacemaker is to start the server");
            let line = "systemctl disable --now mariadb mysql redis-server valkey-server".to_owned();
            all.push(finding(Level::Degraded, "boot", Some(node), text, Some(line)));
        }
    }
    all
}

/// The node's own name, and what the others' lead to.
fn names(node: &str, facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    if facts.host != node {
        let text = format!("uname -n says {}, and the cluster calls it {node}", facts.host);
        all.push(finding(Level::Degraded, "names", Some(node), text, Some(format!("hostnamectl set-hostname {node}"))));
    }
    for (name, addresses) in &facts.addresses {
        let loopback = |address: &String| address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        let line = Some(format!("/etc/hosts: ADDRESS {name}"));
        if addresses.is_empty() {
            all.push(finding(
                Level::Broken,
                "names",
                Some(node),
                format!("{name} does not resolve there, and no replica can follow it"),
                line,
            ));
        } else if let Some(address) = addresses.iter().find(|address| loopback(address)) {
            let text = format!("{name} leads to {address} there, where no other node is; write the address that replication uses");
            all.push(finding(Level::Degraded, "names", Some(node), text, line));
        }
    }
    all
}

fn full(node: &str, path: &str, space: Space) -> Option<Finding> {
    let little = |free: u64, all: u64| all > 0 && free.saturating_mul(100) < all.saturating_mul(LITTLE_LEFT);
    let percent = |free: u64, all: u64| free.saturating_mul(100) / all.max(1);
    let said = if little(space.free_bytes, space.bytes) && space.free_bytes < ENOUGH {
        format!(
            "{path} is nearly full: {} of {} MiB are free ({} %)",
            space.free_bytes >> 20,
            space.bytes >> 20,
            percent(space.free_bytes, space.bytes)
        )
    } else if little(space.free_inodes, space.inodes) {
        format!(
            "{path} has nearly no inodes left: {} of {} ({} %)",
            space.free_inodes,
            space.inodes,
            percent(space.free_inodes, space.inodes)
        )
    } else {
        return None;
    };
    Some(finding(Level::Degraded, "disk", Some(node), said, Some(format!("du -xh --max-depth=2 {path} | sort -h | tail"))))
}

fn boot(node: &str, facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    let is = |unit: &str, word: &str| facts.units.get(unit).is_some_and(|state| state == word);
    for unit in ["mariadb", "mysql", "redis-server", "redis", "valkey-server", "valkey"] {
        if is(unit, "enabled") {
            let text = format!("systemd starts {unit} at boot, and Pacemaker is to start the server");
            all.push(finding(Level::Degraded, "boot", Some(node), text, Some(format!("systemctl disable {unit}"))));
        }
    }
    let (corosync, pacemaker) = (is("corosync", "enabled"), is("pacemaker", "enabled"));
    if corosync != pacemaker {
        let (enabled, other) = if corosync { ("corosync", "pacemaker") } else { ("pacemaker", "corosync") };
        let text = format!("{enabled} is started at boot and {other} is not");
        all.push(finding(Level::Degraded, "boot", Some(node), text, Some(format!("systemctl enable {other}"))));
    }
    all
}

/// What should be the same on all nodes.
fn different(examined: &Examined) -> Vec<Finding> {
    let mut all = Vec::new();
    for (what, by_value) in compared(examined, |facts| &facts.versions) {
        if by_value.len() > 1 {
            let said: Vec<String> = by_value.iter().map(|(version, nodes)| format!("{version} on {}", nodes.join(" "))).collect();
            let text = format!("{what} is not the same version everywhere: {}", said.join(", "));
            all.push(finding(Level::Degraded, "versions", None, text, None));
        }
    }
    for (what, by_value) in compared(examined, |facts| &facts.digests) {
        if by_value.len() > 1 {
            // Who has which is said, and not what.
            let mut groups: Vec<String> = by_value.values().map(|nodes| nodes.join(" ")).collect();
            groups.sort_unstable();
            let text = format!("the password {what} is not the same everywhere: {} have different ones", groups.join(" and "));
            all.push(finding(Level::Broken, "passwords", None, format!("{text}; write the right one into the file on each node"), None));
        }
    }
    all.extend(astray(examined));
    let tokens: BTreeMap<u64, Vec<&str>> = examined.answers().filter_map(|(node, facts)| Some((facts.token?, node))).fold(
        BTreeMap::new(),
        |mut by_value: BTreeMap<u64, Vec<&str>>, (token, node)| {
            by_value.entry(token).or_default().push(node);
            by_value
        },
    );
    if tokens.len() > 1 {
        let said: Vec<String> = tokens.iter().map(|(token, nodes)| format!("{token} ms on {}", nodes.join(" "))).collect();
        let text = format!("corosync's token timeout is not the same everywhere: {}", said.join(", "));
        let line = "the same corosync.conf on each node, then: corosync-cfgtool -R".to_owned();
        all.push(finding(Level::Degraded, "corosync", None, text, Some(line)));
    }
    if let Some(token) = tokens.keys().max().filter(|token| **token > LONG_TOKEN) {
        let text = format!("corosync waits {token} ms (token) before a node counts as lost, and every failover of a machine waits with it");
        all.push(finding(Level::Degraded, "corosync", None, text, Some("/etc/corosync/corosync.conf, totem: token: 3000".to_owned())));
    }
    all
}

/// Names that lead to one place on one node and to another on another. Some know more addresses of a name than others: what counts is
/// that they have none in common. What leads to a node itself there is judged by itself.
fn astray(examined: &Examined) -> Vec<Finding> {
    let mut led: BTreeMap<&str, Vec<(&str, BTreeSet<&str>)>> = BTreeMap::new();
    let outward = |address: &&String| address.parse::<std::net::IpAddr>().is_ok_and(|address| !address.is_loopback());
    for (node, facts) in examined.answers() {
        for (name, addresses) in &facts.addresses {
            let there: BTreeSet<&str> = addresses.iter().filter(outward).map(String::as_str).collect();
            if !there.is_empty() {
                led.entry(name).or_default().push((node, there));
            }
        }
    }
    let said = |(name, by_node): (&str, Vec<(&str, BTreeSet<&str>)>)| {
        let differ = by_node.iter().any(|(_, one)| by_node.iter().any(|(_, other)| one.is_disjoint(other)));
        let places = by_node.iter().map(|(node, there)| format!("{} on {node}", there.iter().copied().collect::<Vec<_>>().join(" ")));
        let text = format!("{name} does not lead to the same place everywhere: {}", places.collect::<Vec<_>>().join(", "));
        differ.then(|| finding(Level::Degraded, "names", None, text, Some(format!("/etc/hosts, the same on each node: ADDRESS {name}"))))
    };
    led.into_iter().filter_map(said).collect()
}

/// Values by what they are of: which nodes have which.
fn compared<'a>(
    examined: &'a Examined,
    of: impl Fn(&'a Facts) -> &'a BTreeMap<String, String>,
) -> BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a str>>> {
    let mut all: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for (node, facts) in examined.answers() {
        for (what, value) in of(facts) {
            all.entry(what).or_default().entry(value).or_default().push(node);
        }
    }
    all
}

/// Clocks, against that of the node that asks. A node was asked after its `begun`, and had answered before its `ended`: what does not fit in
/// between is the least that its clock is off by.
fn clocks(examined: &Examined) -> Vec<Finding> {
    let mut off = BTreeSet::new();
    for (node, heard) in &examined.heard {
        let Ok(facts) = &heard.facts else { continue };
        let behind = heard.begun.saturating_sub(facts.begun);
        let ahead = facts.ended.saturating_sub(heard.ended);
        if ahead > CLOCKS_DIFFER {
            off.insert((node, ahead, "ahead of"));
        } else if behind > CLOCKS_DIFFER {
            off.insert((node, behind, "behind"));
        }
    }
    let said = |(node, by, how): (&String, u64, &str)| {
        let text = format!("its clock is {}.{} s {how} that of the node that asks: logs cannot be compared", by / 1000, by % 1000 / 100);
        finding(Level::Degraded, "clock", Some(node), text, Some("apt install chrony && chronyc makestep".to_owned()))
    };
    off.into_iter().map(said).collect()
}
