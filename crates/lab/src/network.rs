//! The lab's network: one namespace that holds the bridge and the clients, so that the host has no interface of it.
//! Owns the namespace, its addresses and the bridge ports; rules inside nodes are in `faults`.

use std::process::Command;

use nix::sched::{CloneFlags, setns};

use crate::error::{Context as _, Error, Result};
use crate::host;
use crate::state::LabPaths;

/// The bridge, inside the lab's own namespace.
pub(crate) const BRIDGE: &str = "br0";

/// Networks on the one bridge: the private one of the nodes, and two documentation ranges for floating addresses.
/// A node has host part 10 + its number in each, the clients have 254.
pub(crate) const NETWORKS: [&str; 3] = ["10.77.0", "198.51.100", "192.0.2"];

/// A node's own address in the private network, by its number from 1.
#[must_use]
pub fn node_address(number: u8) -> String {
    format!("{}.{}", NETWORKS[0], 10 + u16::from(number))
}

/// Makes the namespace, the bridge and the clients' addresses.
pub(crate) fn create(paths: &LabPaths) -> Result<()> {
    let netns = paths.netns();
    host::run("ip", &["netns", "add", &netns])?;
    let mut batch = format!("link set lo up\nlink add {BRIDGE} type bridge forward_delay 0 stp_state 0\n");
    for network in NETWORKS {
        batch.push_str(&format!("address add {network}.254/24 dev {BRIDGE}\n"));
    }
    batch.push_str(&format!("link set {BRIDGE} up\n"));
    for line in batch.lines() {
        let mut words = vec!["-n", netns.as_str()];
        words.extend(line.split(' '));
        host::run("ip", &words)?;
    }
    Ok(())
}

/// Plugs (`true`) or pulls (`false`) the cable of a node at the bridge.
pub(crate) fn set_port(paths: &LabPaths, node: &str, up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    host::run("ip", &["-n", &paths.netns(), "link", "set", &paths.port(node), state]).map(drop)
}

/// Whether the bridge port of a node is there and up.
pub(crate) fn port_is_up(paths: &LabPaths, node: &str) -> bool {
    host::run("ip", &["-n", &paths.netns(), "-o", "link", "show", &paths.port(node)])
        .is_ok_and(|out| out.stdout.split(['<', '>']).nth(1).is_some_and(|flags| flags.split(',').any(|f| f == "UP")))
}

/// Removes a node's pair of interfaces; not an error when it went with the node.
pub(crate) fn remove_port(paths: &LabPaths, node: &str) {
    let _ = host::run("ip", &["-n", &paths.netns(), "link", "delete", &paths.port(node)]);
}

/// A command that will run where the clients are: the lab's network, the host's files.
pub(crate) fn in_clients_namespace(paths: &LabPaths, program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", paths.netns_path().display())).arg("--").arg(program);
    command
}

/// Processes of the host that are in the lab's namespace (clients, load generators).
pub(crate) fn processes(paths: &LabPaths) -> Vec<i32> {
    host::output(Command::new("ip").args(["netns", "pids", &paths.netns()]))
        .map(|out| out.stdout.lines().filter_map(|l| l.trim().parse().ok()).collect())
        .unwrap_or_default()
}

/// Runs `work` on a thread that has moved into the clients' network; sockets opened there stay there.
pub(crate) fn from_clients<T: Send>(paths: &LabPaths, work: impl FnOnce() -> T + Send) -> Result<T> {
    let netns = paths.netns_path();
    let file = std::fs::File::open(&netns).context(|| format!("open {}", netns.display()))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).context(|| format!("enter {}", netns.display()))?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|_| Err(Error::Refused("the thread in the clients' network panicked".to_owned())))
    })
}
