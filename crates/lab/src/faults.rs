//! Faults of the network: a pulled cable, or packets of one direction, peer or port that vanish at the bridge.
//! Owns the list of cuts (a file, so that every command sees it) and turns it into rules. Faults of power and processes
//! are in `node`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::host;
use crate::network;
use crate::state::{LabPaths, LabSpec};

/// Which packets are lost, seen from the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Packets towards the node.
    In,
    /// Packets from the node.
    Out,
    /// Both.
    #[default]
    Both,
}

/// One fault of the network. `Cut::cable("lxc1")` pulls the cable; the fields narrow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The node that suffers it.
    pub node: String,
    /// Only towards this node.
    pub to: Option<String>,
    /// Only this direction.
    pub direction: Direction,
    /// Only TCP with this port at either end.
    pub port: Option<u16>,
    /// Only towards the clients.
    pub clients: bool,
}

impl Cut {
    /// Everything of that node.
    #[must_use]
    pub fn cable(node: &str) -> Cut {
        Cut { node: node.to_owned(), to: None, direction: Direction::Both, port: None, clients: false }
    }

    /// Whether it is the cable itself and needs no rules.
    fn is_cable(&self) -> bool {
        *self == Cut::cable(&self.node)
    }

    /// In words, for the story.
    #[must_use]
    pub fn describe(&self) -> String {
        if self.is_cable() {
            return format!("cable of {} pulled", self.node);
        }
        let direction = match self.direction {
            Direction::In => " incoming",
            Direction::Out => " outgoing",
            Direction::Both => "",
        };
        let port = self.port.map(|p| format!(" of port {p}")).unwrap_or_default();
        let peer = match (&self.to, self.clients) {
            (Some(to), _) => format!(" with {to}"),
            (None, true) => " with the clients".to_owned(),
            (None, false) => String::new(),
        };
        format!("network of {} cut:{direction} packets{port}{peer}", self.node)
    }
}

fn file(paths: &LabPaths) -> PathBuf {
    paths.run_dir().join("cuts.json")
}

/// The cuts in force.
pub fn cuts(paths: &LabPaths) -> Vec<Cut> {
    std::fs::read_to_string(file(paths)).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

pub(crate) fn is_unplugged(paths: &LabPaths, node: &str) -> bool {
    cuts(paths).contains(&Cut::cable(node))
}

/// Adds a cut.
pub(crate) fn cut(paths: &LabPaths, spec: &LabSpec, cut: &Cut) -> Result<()> {
    spec.check_node(&cut.node)?;
    if let Some(to) = &cut.to {
        spec.check_node(to)?;
    }
    paths.record_event("lab", &cut.describe())?;
    let mut all = cuts(paths);
    if !all.contains(cut) {
        all.push(cut.clone());
    }
    apply(paths, spec, &all)
}

/// Removes all cuts of a node, or all.
pub(crate) fn heal(paths: &LabPaths, spec: &LabSpec, node: Option<&str>) -> Result<()> {
    if let Some(node) = node {
        spec.check_node(node)?;
    }
    let (gone, left): (Vec<Cut>, Vec<Cut>) = cuts(paths).into_iter().partition(|c| node.is_none_or(|n| n == c.node));
    paths.record_event("lab", &format!("network of {} healed", node.unwrap_or("all nodes")))?;
    apply(paths, spec, &left)?;
    // A node without power has no port; its cable is plugged when it boots.
    for cut in gone.iter().filter(|c| c.is_cable() && !left.contains(c)) {
        let _ = network::set_port(paths, &cut.node, true);
    }
    Ok(())
}

fn apply(paths: &LabPaths, spec: &LabSpec, all: &[Cut]) -> Result<()> {
    for cut in all.iter().filter(|c| c.is_cable()) {
        let _ = network::set_port(paths, &cut.node, false);
    }
    let text = rules(all, |node| paths.port(node));
    // The rules are written by the image's nft: the host needs none.
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", paths.netns_path().display())).args(["--", "chroot"]).arg(&spec.image_root);
    command.args(["/usr/sbin/nft", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context(|| "start nft".to_owned())?;
    if let Some(mut stdin) = child.stdin.take() {
        use std::io::Write as _;
        stdin.write_all(text.as_bytes()).context(|| "write rules to nft".to_owned())?;
    }
    let done = child.wait_with_output().context(|| "wait for nft".to_owned())?;
    if !done.status.success() {
        return Err(Error::Command {
            command: "nft -f -".to_owned(),
            outcome: format!("exit code {}", host::exit_code(done.status)),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        });
    }
    let text = serde_json::to_vec(all).context(|| "write the cuts".to_owned())?;
    host::write_atomically(&file(paths), &text)
}

/// All rules anew, in one transaction. Packets between nodes pass `forward`; those of the clients, who sit on the
/// bridge itself, pass `input` (from nodes) and `output` (to nodes). Ports, not addresses, so that floating addresses
/// are cut too.
fn rules(all: &[Cut], port_of: impl Fn(&str) -> String) -> String {
    let (mut forward, mut input, mut output) = (String::new(), String::new(), String::new());
    for cut in all.iter().filter(|c| !c.is_cable()) {
        let own = port_of(&cut.node);
        let matches = match cut.port {
            Some(port) => vec![format!("tcp dport {port} "), format!("tcp sport {port} ")],
            None => vec![String::new()],
        };
        let peers = !cut.clients;
        let clients = cut.to.is_none();
        for what in matches {
            if cut.direction != Direction::In {
                let peer = cut.to.as_ref().map(|to| format!("oifname \"{}\" ", port_of(to))).unwrap_or_default();
                if peers {
                    forward.push_str(&format!("    iifname \"{own}\" {peer}{what}drop\n"));
                }
                if clients {
                    input.push_str(&format!("    iifname \"{own}\" {what}drop\n"));
                }
            }
            if cut.direction != Direction::Out {
                let peer = cut.to.as_ref().map(|to| format!("iifname \"{}\" ", port_of(to))).unwrap_or_default();
                if peers {
                    forward.push_str(&format!("    oifname \"{own}\" {peer}{what}drop\n"));
                }
                if clients {
                    output.push_str(&format!("    oifname \"{own}\" {what}drop\n"));
                }
            }
        }
    }
    let mut text = "table bridge systole_lab {}\ndelete table bridge systole_lab\ntable bridge systole_lab {\n".to_owned();
    for (hook, rules) in [("forward", forward), ("input", input), ("output", output)] {
        text.push_str(&format!("  chain {hook} {{\n    type filter hook {hook} priority 0;\n{rules}  }}\n"));
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cut: Cut) -> String {
        rules(&[cut], |node| format!("vb-{node}"))
    }

    #[test]
    fn a_one_way_cut_between_two_nodes_leaves_the_clients_alone() {
        let text = text(Cut { to: Some("lxc2".into()), direction: Direction::In, ..Cut::cable("lxc1") });
        assert!(text.contains("oifname \"vb-lxc1\" iifname \"vb-lxc2\" drop"));
        assert_eq!(text.matches(" drop").count(), 1);
    }

    #[test]
    fn a_cut_from_the_clients_leaves_the_nodes_alone() {
        let text = text(Cut { clients: true, ..Cut::cable("lxc1") });
        assert!(text.contains("iifname \"vb-lxc1\" drop") && text.contains("oifname \"vb-lxc1\" drop"));
        assert!(text.contains("chain forward {\n    type filter hook forward priority 0;\n  }"));
    }

    #[test]
    fn a_pulled_cable_needs_no_rules() {
        assert!(!text(Cut::cable("lxc1")).contains("drop"));
    }
}
