//! Faults, carried out and healed. A fault that cannot be had at that moment (its node lost its power a moment ago) is an error, which a
//! round notes; healing never fails, since whoever was fenced meanwhile has nothing left to heal.

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{Cut, Direction, Error, Node, Result};
use nix::sys::signal::Signal;

use super::bed::Bed;
use super::schedule::{Fault, Kind};
use crate::{Kind as Server, mysql, old_package, package};

/// What catches the agents' processes in a node.
const CATCHER: &str = "soak-catcher";
/// What it leaves behind when it has caught one, below /.
const CAUGHT: &str = "root/soak-caught";
/// A disk that hangs for a while, again and again: most of a second is left to it.
const SLOW: &str = "while :; do fsfreeze -f \"$0\"; sleep 0.2; fsfreeze -u \"$0\"; sleep 0.3; done";

/// A fault that was begun.
pub(crate) struct Active {
    pub(crate) fault: Fault,
    node: Node,
    disk: Option<Disk>,
}

/// A node's disk from outside: it has to be let go even when the node has lost its power, whose processes cannot end before.
struct Disk {
    directory: std::fs::File,
    pulse: Option<Child>,
}

impl Disk {
    fn of(node: &Node, path: &str) -> Result<Self> {
        let path = format!("/proc/{}/root{path}", node.leader()?);
        let directory = std::fs::File::open(&path).map_err(|e| Error::Refused(format!("{path}: {e}")))?;
        Ok(Self { directory, pulse: None })
    }

    /// The directory, wherever it is mounted.
    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.directory.as_raw_fd()).into()
    }

    fn freeze(&self) -> Result<()> {
        let done = Command::new("fsfreeze").arg("-f").arg(self.path()).output().map_err(|e| Error::Refused(format!("fsfreeze: {e}")))?;
        if done.status.success() { Ok(()) } else { Err(Error::Refused(String::from_utf8_lossy(&done.stderr).trim().to_owned())) }
    }

    fn slow_down(&mut self) -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", SLOW]).arg(self.path()).stdin(Stdio::null()).stderr(Stdio::null());
        self.pulse = Some(command.spawn().map_err(|e| Error::Refused(format!("sh: {e}")))?);
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(mut pulse) = self.pulse.take() {
            let _ = pulse.kill();
            let _ = pulse.wait();
            // Its last fsfreeze may be at work still.
            std::thread::sleep(Duration::from_millis(500));
        }
        let _ = Command::new("fsfreeze").arg("-u").arg(self.path()).stderr(Stdio::null()).status();
    }
}

/// Does it.
pub(crate) fn begin(bed: &Bed, fault: Fault) -> Result<Active> {
    let node = bed.node(fault.target)?;
    bed.lab().event(&format!("soak: {fault} on {}", node.name))?;
    let disk = match fault.kind {
        Kind::HangDisk | Kind::SlowDisk => Some(disturb_disk(bed, &node, fault.kind)?),
        kind if is_of_network(kind) => cut(bed, &node, kind).map(|()| None)?,
        kind if is_of_operators(kind) => operate(bed, &node, fault).map(|()| None)?,
        kind => strike(bed, &node, kind).map(|()| None)?,
    };
    Ok(Active { fault, node, disk })
}

fn disturb_disk(bed: &Bed, node: &Node, kind: Kind) -> Result<Disk> {
    let mut disk = Disk::of(node, &bed.site()?.server().data())?;
    if kind == Kind::HangDisk {
        disk.freeze()?
    } else {
        disk.slow_down()?
    }
    Ok(disk)
}

fn is_of_network(kind: Kind) -> bool {
    matches!(kind, Kind::PullCable | Kind::CutOutgoing | Kind::CutIncoming | Kind::CutPeers | Kind::CutDatabasePort | Kind::CutClients)
}

fn is_of_operators(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Move
            | Kind::Standby
            | Kind::Maintenance
            | Kind::Cleanup
            | Kind::ChangeParameter
            | Kind::WriteOnReplica
            | Kind::ChangePassword
            | Kind::Upgrade
    )
}

/// Faults of processes, power and files.
fn strike(bed: &Bed, node: &Node, kind: Kind) -> Result<()> {
    let server = || bed.site().map(|site| site.server());
    match kind {
        Kind::KillServer => node.kill(server()?.process, Signal::SIGKILL).map(drop),
        Kind::FreezeServer => node.freeze(server()?.process).map(drop),
        Kind::KillAgent => catch_agent(bed, node, "KILL"),
        Kind::FreezeAgent => catch_agent(bed, node, "STOP"),
        Kind::KillWatcher => node.kill("systole-watch", Signal::SIGKILL).map(drop),
        Kind::FreezeWatcher => node.freeze("systole-watch").map(drop),
        Kind::KillCorosync => node.kill("corosync", Signal::SIGKILL).map(drop),
        Kind::FreezeCorosync => node.freeze("corosync").map(drop),
        Kind::KillPacemakerd => node.kill("pacemakerd", Signal::SIGKILL).map(drop),
        Kind::FreezePacemakerd => node.freeze("pacemakerd").map(drop),
        Kind::CutPower => node.power_off(),
        Kind::CutPowerOfAll => bed.lab().live_nodes().iter().try_for_each(Node::power_off),
        Kind::LoseNames => node.sh("cp /etc/hosts /etc/hosts.kept && : > /etc/hosts").map(drop),
        Kind::FillDisk => node.fill_disk(&server()?.data(), true),
        Kind::LoseData => {
            node.sh(&format!("rm -rf {}/*", server()?.data()))?;
            node.kill(server()?.process, Signal::SIGKILL).map(drop)
        }
        other => Err(Error::Refused(format!("{} is no fault of a node", other.name()))),
    }
}

/// The next process of the agent on that node gets a signal, whatever it is doing. A file says that one was caught.
fn catch_agent(bed: &Bed, node: &Node, signal: &str) -> Result<()> {
    let script = format!("until pkill -{signal} -f \"^{}\"; do sleep 0.01; done; touch /{CAUGHT}", bed.agent());
    node.sh(&format!("rm -f /{CAUGHT}; systemd-run --quiet --collect --unit={CATCHER} sh -c '{script}'")).map(drop)
}

/// Whether an agent was caught. On the node's disk, whether it has power or not: whoever does not answer is fenced.
fn has_caught(bed: &Bed, node: &Node) -> bool {
    bed.lab().paths().node_dir(&node.name).join("upper").join(CAUGHT).exists()
}

fn cut(bed: &Bed, node: &Node, kind: Kind) -> Result<()> {
    let cable = Cut::cable(&node.name);
    let others = || bed.lab().members().into_iter().filter(|other| other.name != node.name);
    let cuts: Vec<Cut> = match kind {
        Kind::CutOutgoing => vec![Cut { direction: Direction::Out, ..cable }],
        Kind::CutIncoming => vec![Cut { direction: Direction::In, ..cable }],
        Kind::CutClients => vec![Cut { clients: true, ..cable }],
        Kind::CutPeers => others().map(|other| Cut { to: Some(other.name), ..cable.clone() }).collect(),
        Kind::CutDatabasePort => {
            let port = Some(bed.site()?.load_options()?.probe_port);
            others().map(|other| Cut { to: Some(other.name), port, ..cable.clone() }).collect()
        }
        _ => vec![cable],
    };
    cuts.iter().try_for_each(|cut| bed.lab().cut(cut))
}

/// What operators do.
fn operate(bed: &Bed, node: &Node, fault: Fault) -> Result<()> {
    let lab = bed.lab();
    let crm = |words: String| lab.crm(&words).map(drop);
    match fault.kind {
        Kind::Move => bed.move_away(),
        Kind::Standby => crm(format!("node standby {}", node.name)),
        Kind::Maintenance => crm("configure property maintenance-mode=true".to_owned()),
        Kind::Cleanup => crm(format!("resource cleanup {}", bed.managed())),
        Kind::ChangeParameter => {
            let name = if bed.site()?.server().kind == Server::Redis { "replica_lag" } else { "max_slave_lag" };
            crm(format!("resource param {} set {name} {}", bed.resource(), 10 + fault.lasts_ms % 50))
        }
        Kind::WriteOnReplica => write_on_replica(bed, node),
        Kind::ChangePassword => mysql::change_password(bed.site()?, fault.lasts_ms),
        Kind::Upgrade => upgrade(node, fault.lasts_ms % 2 == 0),
        other => Err(Error::Refused(format!("{} is nothing that operators do", other.name()))),
    }
}

/// A row that only this server has, and somebody was told of: it is not taken back, and the server gets a copy.
fn write_on_replica(bed: &Bed, node: &Node) -> Result<()> {
    let site = bed.site()?;
    if site.primary().is_ok_and(|primary| primary.name == node.name) {
        return Err(Error::Refused(format!("{} is no replica", node.name)));
    }
    let open = if site.server().kind == Server::MySql { "SET GLOBAL super_read_only=0; " } else { "" };
    site.sql(node, &format!("{open}INSERT INTO `load`.probes VALUES ('errant', '{}', 1) ON DUPLICATE KEY UPDATE n = n + 1", node.name))
        .map(drop)
}

/// Another version of the package, while everything runs.
fn upgrade(node: &Node, old: bool) -> Result<()> {
    let file = if old { old_package()? } else { package()? };
    node.copy(&file, "/root/systole.deb")?;
    node.sh("DEBIAN_FRONTEND=noninteractive dpkg --install --force-confnew /root/systole.deb 2>&1").map(drop)
}

/// Takes it back, as far as it is there still. Returns whether it was had: an agent that nobody has caught was neither killed nor frozen.
pub(crate) fn end(bed: &Bed, active: Active) -> bool {
    let Active { fault, node, disk } = active;
    let lab = bed.lab();
    let _ = lab.event(&format!("soak: end of {}", fault.kind.name()));
    drop(disk);
    let server = || bed.site().map(|site| site.server());
    let thaw = |name: &str| drop(node.thaw(name));
    match fault.kind {
        Kind::FreezeServer => drop(server().map(|server| thaw(server.process))),
        Kind::FreezeWatcher => thaw("systole-watch"),
        Kind::FreezeCorosync => thaw("corosync"),
        Kind::FreezePacemakerd => thaw("pacemakerd"),
        Kind::KillAgent | Kind::FreezeAgent => {
            let _ = node.sh(&format!("systemctl stop {CATCHER} 2>/dev/null; pkill -CONT -f '^{}'; true", bed.agent()));
            return has_caught(bed, &node);
        }
        Kind::LoseNames => drop(node.sh("test ! -e /etc/hosts.kept || mv /etc/hosts.kept /etc/hosts")),
        Kind::FillDisk => drop(server().map(|server| node.fill_disk(&server.data(), false))),
        Kind::Standby => drop(lab.crm(&format!("node online {}", node.name))),
        Kind::Maintenance => drop(lab.crm("configure property maintenance-mode=false")),
        kind if is_of_network(kind) => drop(lab.heal(Some(&node.name))),
        _ => {}
    }
    true
}

/// What a fault has left that could not be taken back while its node was away: names, room on the disk, operators' modes, passwords.
pub(crate) fn tidy(bed: &Bed, had: &[Fault]) -> Result<()> {
    let lab = bed.lab();
    for fault in had {
        match fault.kind {
            Kind::LoseNames => on_all(bed, |node| node.sh("test ! -e /etc/hosts.kept || mv /etc/hosts.kept /etc/hosts").map(drop))?,
            Kind::FillDisk => {
                let data = bed.site()?.server().data();
                on_all(bed, |node| node.fill_disk(&data, false))?;
            }
            Kind::Standby => bed.lab().members().iter().try_for_each(|node| lab.crm(&format!("node online {}", node.name)).map(drop))?,
            Kind::Maintenance => lab.crm("configure property maintenance-mode=false").map(drop)?,
            Kind::ChangePassword => mysql::write_password(bed.site()?, fault.lasts_ms)?,
            _ => {}
        }
    }
    Ok(())
}

fn on_all(bed: &Bed, action: impl Fn(&Node) -> Result<()>) -> Result<()> {
    bed.lab().live_nodes().iter().try_for_each(action)
}

/// Nodes without power get it back: when the others are done with them, or at once where there are not enough others.
pub(crate) fn power_back(bed: &Bed) -> Result<()> {
    let lab = bed.lab();
    let off: Vec<Node> = lab.members().into_iter().filter(|node| !node.is_on()).collect();
    for node in &off {
        let quorate = lab.quorate_node().is_ok();
        if quorate { lab.power_back(node)? } else { node.power_on()? }
    }
    lab.wait_online()
}
