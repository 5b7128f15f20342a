//! Where a lab keeps what belongs to it, and the two records of it: the specification (written once by `up`)
//! and the power state (written by the supervisor alone). Owns paths and formats, no processes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
/// A moment of the story, by CLOCK_MONOTONIC; told by `lab`, or by the node that asked.
pub use timeline::Event;

use crate::error::{Context, Error, Result};
use crate::host;

/// All places of one lab; each carries the lab's name, so that labs never meet.
#[derive(Debug, Clone)]
pub struct LabPaths {
    /// The lab's name.
    pub name: String,
}

impl LabPaths {
    /// Checks the name: it becomes part of paths, of the network namespace and of host names of mounts.
    pub fn new(name: &str) -> Result<LabPaths> {
        let good = !name.is_empty()
            && name.len() <= 32
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && !name.starts_with('-');
        if !good {
            return Err(Error::Refused(format!("lab name {name:?} is not usable: take up to 32 of a-z, 0-9 and -")));
        }
        Ok(LabPaths { name: name.to_owned() })
    }

    /// Sockets and records; gone with the machine's power.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run/systole-lab").join(&self.name)
    }

    /// The nodes' disks and the journals of load and events.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        Path::new("/var/lib/systole-lab").join(&self.name)
    }

    /// Directories of one node: `upper` (its disk), `work`, `root`.
    #[must_use]
    pub fn node_dir(&self, node: &str) -> PathBuf {
        self.state_dir().join("nodes").join(node)
    }

    /// Image file and mount point of a node's volume.
    #[must_use]
    pub fn volume(&self, node: &str, index: usize) -> (PathBuf, PathBuf) {
        let dir = self.node_dir(node);
        (dir.join(format!("volume{index}.img")), dir.join(format!("volume{index}")))
    }

    /// A node's journal, readable from the host whether the node has power or not.
    #[must_use]
    pub fn journal_dir(&self, node: &str) -> PathBuf {
        self.node_dir(node).join("upper/var/log/journal")
    }

    /// The network namespace that holds the bridge and the clients.
    #[must_use]
    pub fn netns(&self) -> String {
        format!("systole-lab-{}", self.name)
    }

    /// Path of [`LabPaths::netns`] for nsenter.
    #[must_use]
    pub fn netns_path(&self) -> PathBuf {
        Path::new("/run/netns").join(self.netns())
    }

    /// The lab's cgroup, below each hierarchy's root.
    #[must_use]
    pub fn cgroup(&self) -> PathBuf {
        Path::new("systole-lab").join(&self.name)
    }

    /// The lock that `up` and `down` take.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        Path::new("/run/systole-lab").join(format!(".{}.lock", self.name))
    }

    /// The supervisor's socket for the command line.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir().join("control.sock")
    }

    /// Process id of the supervisor, written by itself.
    #[must_use]
    pub fn supervisor_pid_file(&self) -> PathBuf {
        self.run_dir().join("supervisor.pid")
    }

    /// Directory bound into the nodes; holds the power switch's socket and nothing else.
    #[must_use]
    pub fn power_dir(&self) -> PathBuf {
        self.run_dir().join("power")
    }

    /// Lab events, one JSON object a line.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.state_dir().join("events.jsonl")
    }

    /// Directory of the load journals, one file a run.
    #[must_use]
    pub fn load_dir(&self) -> PathBuf {
        self.state_dir().join("load")
    }

    /// systemd-nspawn keeps records by machine name for the whole host, and the interface name derived from it has
    /// 15 characters: so a short hash of the lab, then the node.
    #[must_use]
    pub fn machine(&self, node: &str) -> String {
        format!("s{:05x}-{node}", crate::image::fnv1a(self.name.as_bytes()) & 0xf_ffff)
    }

    /// The bridge's port of a node, as systemd-nspawn names it.
    #[must_use]
    pub fn port(&self, node: &str) -> String {
        format!("vb-{}", self.machine(node))
    }

    /// Reads the specification; the error says how to make a lab.
    pub fn spec(&self) -> Result<LabSpec> {
        let path = self.run_dir().join("spec.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|_| Error::Refused(format!("lab {0} is not up; start it with: systole-lab up --name {0}", self.name)))?;
        serde_json::from_str(&text).context(|| format!("read {}", path.display()))
    }

    /// Writes the specification.
    pub(crate) fn write_spec(&self, spec: &LabSpec) -> Result<()> {
        let text = serde_json::to_vec_pretty(spec).context(|| "write the specification".to_owned())?;
        host::write_atomically(&self.run_dir().join("spec.json"), &text)
    }

    /// Layers that a lab stands on, whichever it is.
    pub(crate) fn layers_in_use() -> Vec<PathBuf> {
        LabPaths::all().iter().filter_map(|paths| paths.spec().ok()).flat_map(|spec| spec.layers).collect()
    }

    /// Those of all labs that are up or half up, by name.
    pub(crate) fn all() -> Vec<LabPaths> {
        let labs = std::fs::read_dir("/run/systole-lab").into_iter().flatten().flatten();
        let mut names: Vec<String> = labs.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names.into_iter().filter_map(|name| LabPaths::new(&name).ok()).collect()
    }

    /// Reads the power state.
    pub fn power(&self) -> Result<Vec<NodePower>> {
        let path = self.run_dir().join("power.json");
        let text = std::fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).context(|| format!("read {}", path.display()))
    }
}

/// A directory of the host shown in every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the node.
    pub target: PathBuf,
}

impl std::str::FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Bind, String> {
        let (source, target) = text.split_once(':').ok_or("give it as SOURCE:TARGET")?;
        if !target.starts_with('/') || target.contains(':') {
            return Err(format!("{target} must be an absolute path without a colon"));
        }
        let source = std::fs::canonicalize(source).map_err(|e| format!("{source}: {e}"))?;
        Ok(Bind { source, target: target.into() })
    }
}

/// A file system of its own at a path of every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// In the node.
    pub path: PathBuf,
    /// Size in MiB.
    pub mebibytes: u32,
}

impl std::str::FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Volume, String> {
        let (path, size) = text.rsplit_once(':').ok_or("give it as PATH:MEBIBYTES")?;
        let mebibytes = size.trim_end_matches('M').parse().map_err(|_| format!("{size} is not a number of MiB"))?;
        if !path.starts_with('/') || mebibytes < 8 {
            return Err("take an absolute path and 8 MiB at least".to_owned());
        }
        Ok(Volume { path: path.into(), mebibytes })
    }
}

/// What a lab was asked to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LabSpec {
    /// The lab's name.
    pub name: String,
    /// Image name.
    pub image: String,
    /// Image directory.
    pub image_root: PathBuf,
    /// Further overlay layers, later ones win.
    pub layers: Vec<PathBuf>,
    /// Directories of the host in the nodes.
    pub binds: Vec<Bind>,
    /// File systems of their own.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// The program whose processes the lab consists of.
    #[serde(default)]
    pub program: PathBuf,
    /// Number of nodes.
    pub nodes: u8,
    /// How many of them, the last ones, are not of the cluster.
    #[serde(default)]
    pub beside: u8,
    /// Corosync's token timeout in milliseconds.
    pub token_ms: u32,
    /// Whether the fence resource is set up.
    pub fencing: bool,
    /// Whether the lab makes the cluster.
    pub cluster: bool,
}

impl LabSpec {
    /// `lxc1`, `lxc2`, ...
    #[must_use]
    pub fn node_names(&self) -> Vec<String> {
        (1..=self.nodes).map(|n| format!("lxc{n}")).collect()
    }

    /// Number of nodes that the cluster has.
    #[must_use]
    pub fn members(&self) -> u8 {
        self.nodes - self.beside
    }

    /// Checks that `node` is one of this lab's.
    pub fn check_node(&self, node: &str) -> Result<()> {
        if self.node_names().iter().any(|n| n == node) {
            return Ok(());
        }
        Err(Error::Refused(format!("{node} is not a node of lab {}; it has {}", self.name, self.node_names().join(", "))))
    }
}

/// Power of one node as the supervisor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePower {
    /// `lxcN`.
    pub name: String,
    /// Whether its processes run.
    pub on: bool,
    /// Its PID 1, seen from the host.
    pub leader: Option<i32>,
    /// The systemd-nspawn process.
    pub nspawn: Option<u32>,
}

impl LabPaths {
    /// Adds an event to the story; a single append, so writers do not mix lines.
    pub fn record_event(&self, by: &str, text: &str) -> Result<()> {
        use std::io::Write as _;
        let event = Event { at_us: host::monotonic_us(), by: by.to_owned(), text: text.to_owned() };
        let mut line = serde_json::to_string(&event).context(|| "write an event".to_owned())?;
        line.push('\n');
        let path = self.events();
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).context(|| format!("open {}", path.display()))?;
        file.write_all(line.as_bytes()).context(|| format!("write {}", path.display()))
    }

    /// Reads the story; a torn last line is left out.
    pub fn read_events(&self) -> Result<Vec<Event>> {
        let path = self.events();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = std::fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_the_kernel() {
        for name in ["demo", "a-very-long-name-of-a-lab-1234567"] {
            if let Ok(paths) = LabPaths::new(name) {
                assert!(paths.port("lxc3").len() <= 15);
            }
        }
    }

    #[test]
    fn refuses_names_that_leave_the_directory() {
        assert!(LabPaths::new("../x").is_err());
        assert!(LabPaths::new("").is_err());
        assert!(LabPaths::new("redis-1").is_ok());
    }
}
