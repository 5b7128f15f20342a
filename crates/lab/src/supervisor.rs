//! The process that owns a lab's nodes: it boots them, cuts their power, and is the power switch of their fence agent.
//! It alone writes the power state. It makes no network and no disks, and cleaning up after it needs nothing from it:
//! it may be killed at any moment.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::power::{Answer, Op, Request};
use crate::state::{LabPaths, LabSpec, NodePower};
use crate::{cgroup, disk, faults, host, network, overlay};

/// Who switches power when it is not the fence agent of a node.
const LAB: &str = "lab";

/// One node's power.
#[derive(Default)]
struct Slot {
    child: Option<Child>,
    leader: Option<i32>,
    /// The lab has cut the power, so fencing does not give it back: only the lab does.
    held: bool,
    /// How often fencing has cut it. Only the last time gives it back.
    cycles: u32,
}

struct Supervisor {
    paths: LabPaths,
    spec: LabSpec,
    slots: Vec<Mutex<Slot>>,
    /// What the nodes get to hear while the fence device is dead.
    fencing_broken: AtomicBool,
    /// Set when the lab goes down: the answer is given, then the process ends.
    ending: AtomicBool,
    /// Serialises writing of the power state.
    record: Mutex<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until it is killed. `up` starts it as `systole-lab supervise NAME` in a session of its own.
pub(crate) fn supervise(name: &str) -> Result<()> {
    let paths = LabPaths::new(name)?;
    let spec = paths.spec()?;
    // Mounts made here are seen here and in the nodes only, and end with the last of these processes, however it dies.
    unshare(CloneFlags::CLONE_NEWNS).context(|| "make a mount namespace".to_owned())?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context(|| "make the mounts private".to_owned())?;
    // nspawn keeps records by machine name there, and complains at its end when that is on a disk.
    let records = Path::new("/run/systemd/nspawn");
    std::fs::create_dir_all(records).context(|| "make /run/systemd/nspawn".to_owned())?;
    mount(Some("tmpfs"), records, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .context(|| "mount a tmpfs on /run/systemd/nspawn".to_owned())?;
    let slots = (0..spec.nodes).map(|_| Mutex::new(Slot::default())).collect();
    let supervisor = Arc::new(Supervisor {
        paths: paths.clone(),
        spec,
        slots,
        fencing_broken: AtomicBool::new(false),
        ending: AtomicBool::new(false),
        record: Mutex::new(()),
    });
    supervisor.write_power()?;
    host::write_atomically(&paths.supervisor_pid_file(), std::process::id().to_string().as_bytes())?;
    let nodes_side = listen(&paths.power_dir().join("power.sock"))?;
    let control = listen(&paths.control_socket())?;
    serve(&supervisor, nodes_side, true);
    serve(&supervisor, control, false);
    while !supervisor.ending.load(Ordering::SeqCst) {
        supervisor.notice_deaths();
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn listen(socket: &Path) -> Result<UnixListener> {
    let _ = std::fs::remove_file(socket);
    UnixListener::bind(socket).context(|| format!("listen on {}", socket.display()))
}

fn serve(supervisor: &Arc<Supervisor>, listener: UnixListener, from_nodes: bool) {
    let supervisor = Arc::clone(supervisor);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let supervisor = Arc::clone(&supervisor);
            std::thread::spawn(move || {
                if let Err(error) = supervisor.converse(stream, from_nodes) {
                    host::progress(&format!("conversation ended: {error}"));
                }
            });
        }
    });
}

impl Supervisor {
    fn converse(self: &Arc<Self>, stream: UnixStream, from_nodes: bool) -> Result<()> {
        let mut writer = stream.try_clone().context(|| "copy a socket".to_owned())?;
        for line in BufReader::new(stream).lines() {
            let line = line.context(|| "read a request".to_owned())?;
            let outcome = serde_json::from_str::<Request>(&line)
                .context(|| "read a request".to_owned())
                .and_then(|request| self.answer(&request, from_nodes));
            let answer = Answer { ok: outcome.is_ok(), error: outcome.err().map(|e| e.to_string()), nodes: self.power() };
            let mut text = serde_json::to_string(&answer).context(|| "write an answer".to_owned())?;
            text.push('\n');
            writer.write_all(text.as_bytes()).context(|| "send an answer".to_owned())?;
        }
        Ok(())
    }

    fn answer(self: &Arc<Self>, request: &Request, from_nodes: bool) -> Result<()> {
        if from_nodes && self.fencing_broken.load(Ordering::SeqCst) {
            return Err(Error::Refused("the fence device is dead (systole-lab fence-device repair)".to_owned()));
        }
        let by = if from_nodes { format!("fencing by {}", request.by) } else { LAB.to_owned() };
        match request.op {
            Op::Status => Ok(()),
            Op::BreakFencing | Op::RepairFencing | Op::Shutdown if from_nodes => {
                Err(Error::Refused("only the lab may ask that".to_owned()))
            }
            Op::Shutdown => {
                std::thread::scope(|scope| {
                    for number in 0..self.slots.len() {
                        scope.spawn(move || self.power_off(number, LAB));
                    }
                });
                self.ending.store(true, Ordering::SeqCst);
                Ok(())
            }
            Op::BreakFencing => {
                self.fencing_broken.store(true, Ordering::SeqCst);
                self.paths.record_event(&by, "fence device dead")
            }
            Op::RepairFencing => {
                self.fencing_broken.store(false, Ordering::SeqCst);
                self.paths.record_event(&by, "fence device works")
            }
            Op::PowerOff => self.power_off(self.slot_of(request)?, &by),
            Op::PowerOn => self.power_on(self.slot_of(request)?, &by),
            Op::PowerCycle => {
                let number = self.slot_of(request)?;
                self.power_off(number, &by)?;
                self.boot_later(number, by);
                Ok(())
            }
        }
    }

    /// Fencing has done its duty when the node is off. That its power comes back after a while stands for the boot of a server,
    /// which takes longer than its peers need to go on without it. A node of the lab boots in two seconds: it would be a member
    /// again when the news of its fencing are told to all members, and Pacemaker stays down on a node that hears of its own.
    fn boot_later(self: &Arc<Self>, number: usize, by: String) {
        let cycle = {
            let mut slot = locked(&self.slots[number]);
            slot.cycles += 1;
            slot.cycles
        };
        let supervisor = Arc::clone(self);
        std::thread::spawn(move || {
            // Corosync misses a token after 1.65 times the configured time with three nodes, and agrees for 1.2 times that.
            std::thread::sleep(6 * Duration::from_millis(u64::from(supervisor.spec.token_ms)));
            if locked(&supervisor.slots[number]).cycles != cycle {
                return;
            }
            if let Err(error) = supervisor.power_on(number, &by) {
                host::progress(&format!("power on after fencing: {error}"));
            }
        });
    }

    fn slot_of(&self, request: &Request) -> Result<usize> {
        let node = request.node.as_deref().unwrap_or_default();
        self.spec.check_node(node)?;
        let names = self.spec.node_names();
        names.iter().position(|n| n == node).ok_or_else(|| Error::Refused(format!("{node} is not a node")))
    }

    fn power(&self) -> Vec<NodePower> {
        let names = self.spec.node_names();
        names
            .into_iter()
            .zip(&self.slots)
            .map(|(name, slot)| {
                let slot = locked(slot);
                NodePower { name, on: slot.child.is_some(), leader: slot.leader, nspawn: slot.child.as_ref().map(Child::id) }
            })
            .collect()
    }

    fn write_power(&self) -> Result<()> {
        let _one = locked(&self.record);
        let text = serde_json::to_vec(&self.power()).context(|| "write the power state".to_owned())?;
        host::write_atomically(&self.paths.run_dir().join("power.json"), &text)
    }

    /// A node can also go by itself: `poweroff` in it, a crash of its init. A `reboot` gives it a new leader.
    fn notice_deaths(&self) {
        let mut changed = false;
        for (name, slot) in self.spec.node_names().iter().zip(&self.slots) {
            // Busy means that its power is being switched: whoever does that writes the record.
            let Ok(mut slot) = slot.try_lock() else { continue };
            let Some(child) = slot.child.as_mut() else { continue };
            if matches!(child.try_wait(), Ok(Some(_))) {
                slot.child = None;
                slot.leader = None;
                network::remove_port(&self.paths, name);
                let _ = umount2(&self.paths.node_dir(name).join("root"), MntFlags::MNT_DETACH);
                let _ = self.paths.record_event(name, "node went down by itself");
                changed = true;
            } else {
                let leader = leader_of(child.id());
                if leader.is_some() && leader != slot.leader {
                    slot.leader = leader;
                    changed = true;
                }
            }
        }
        if changed {
            let _ = self.write_power();
        }
    }

    fn power_on(&self, number: usize, by: &str) -> Result<()> {
        let node = format!("lxc{}", number + 1);
        {
            let mut slot = locked(&self.slots[number]);
            if by == LAB {
                slot.held = false;
            }
            if slot.child.is_some() || slot.held {
                return Ok(());
            }
            self.paths.record_event(by, &format!("power on {node}"))?;
            let dir = self.paths.node_dir(&node);
            let root = dir.join("root");
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                overlay::lower_dirs(&self.spec.image_root, &self.spec.layers),
                dir.join("upper").display(),
                dir.join("work").display()
            );
            mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
                .context(|| format!("mount the overlay of {node} ({options})"))?;
            match self.boot(&node, &root) {
                Ok((child, leader)) => {
                    slot.child = Some(child);
                    slot.leader = Some(leader);
                    // A pulled cable stays pulled over a power cycle, though the interfaces are new.
                    if faults::is_unplugged(&self.paths, &node) {
                        network::set_port(&self.paths, &node, false)?;
                    }
                }
                Err(error) => {
                    let _ = cgroup::kill_all(&self.paths.cgroup().join(&node), Duration::from_secs(5));
                    let _ = umount2(&root, MntFlags::MNT_DETACH);
                    return Err(error);
                }
            }
        }
        self.write_power()
    }

    fn boot(&self, node: &str, root: &Path) -> Result<(Child, i32)> {
        let console_path = self.paths.state_dir().join(format!("console-{node}.log"));
        let console = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&console_path)
            .context(|| format!("open {}", console_path.display()))?;
        let errors = console.try_clone().context(|| "copy a file".to_owned())?;
        let mut command = Command::new("sh");
        // A cgroup of its own, entered before nspawn looks where it is: there it makes `payload` for the node.
        command.args(["-c", "for f in $1; do echo $$ > \"$f\" || exit 1; done; shift; exec \"$@\"", "sh"]);
        let procs = cgroup::make(&self.paths.cgroup().join(node))?;
        command.arg(procs.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" "));
        command.arg("nsenter").arg(format!("--net={}", self.paths.netns_path().display())).arg("--");
        let volumes = disk::volumes(&self.paths, &self.spec, node, root)?;
        command.args(["unshare", "--mount", "--propagation=private", "sh", "-c", disk::MOUNT_VOLUMES, "sh"]).args(volumes.arguments);
        command
            .args(["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--capability=all"])
            .args(["--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--kill-signal=SIGKILL"])
            .arg(format!("--directory={}", root.display()))
            .arg(format!("--machine={}", self.paths.machine(node)))
            .arg(format!("--hostname={node}"))
            .arg(format!("--network-bridge={}", network::BRIDGE))
            .arg(format!("--bind={}:{}", self.paths.power_dir().display(), disk::POWER_DIR_IN_NODE));
        for (source, target) in volumes.binds {
            command.arg(format!("--bind={}:{}", source.display(), target.display()));
        }
        for bind in &self.spec.binds {
            command.arg(format!("--bind={}:{}", bind.source.display(), bind.target.display()));
        }
        // systemd from 258 on (sid) boots with the unified hierarchy only; older ones are content with it. On a machine
        // that mounts both, nspawn would choose the old one.
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        command.stdin(Stdio::null()).stdout(console).stderr(errors);
        let mut child = command.spawn().context(|| format!("start systemd-nspawn for {node}"))?;
        let leader = host::poll(&format!("PID 1 of {node}"), Duration::from_secs(15), Duration::from_millis(10), || {
            if let Ok(Some(status)) = child.try_wait() {
                return Ok(Err(status));
            }
            leader_of(child.id()).map(Ok).ok_or_else(|| "systemd-nspawn has no child yet".to_owned())
        })?;
        leader.map(|leader| (child, leader)).map_err(|status| Error::Command {
            command: format!("systemd-nspawn for {node}"),
            outcome: format!("ended at once with exit code {}", host::exit_code(status)),
            stderr: tail(&console_path),
        })
    }

    /// A power cut. The cable is pulled first: the sockets of dying processes would otherwise say goodbye to their
    /// peers, which no machine without power does.
    fn power_off(&self, number: usize, by: &str) -> Result<()> {
        let node = format!("lxc{}", number + 1);
        {
            let mut slot = locked(&self.slots[number]);
            if by == LAB {
                slot.held = true;
            }
            let Some(mut child) = slot.child.take() else {
                // Confirmed again, for the story of a fencing that follows a power cut.
                return self.paths.record_event(by, &format!("power off {node} (it was off)"));
            };
            self.paths.record_event(by, &format!("power off {node}"))?;
            if let Err(error) = network::set_port(&self.paths, &node, false) {
                host::progress(&format!("{node}: {error}"));
            }
            if let Some(leader) = slot.leader.take() {
                // While its processes live: some of what they had not synced is written when they end. Nobody hears them any longer.
                if let Err(error) = disk::lose_what_is_not_synced(&self.paths, &self.spec, &node, leader) {
                    self.paths.record_event(by, &format!("what {node} has not synced survives: {error}"))?;
                }
                // The kernel ends the whole pid namespace with its first process.
                let _ = kill(Pid::from_raw(leader), Signal::SIGKILL);
            }
            let ended = cgroup::kill_all(&self.paths.cgroup().join(&node), Duration::from_secs(20));
            if ended.is_ok() {
                let _ = child.wait();
            } else {
                slot.child = Some(child);
            }
            ended?;
            network::remove_port(&self.paths, &node);
            let root = self.paths.node_dir(&node).join("root");
            umount2(&root, MntFlags::MNT_DETACH).context(|| format!("unmount {}", root.display()))?;
            cgroup::remove(&self.paths.cgroup().join(&node))?;
        }
        self.write_power()
    }
}

/// The child of systemd-nspawn that is PID 1 of a namespace; its helper children are not.
fn leader_of(nspawn: u32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()).find(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let ids: Vec<&str> = ids.split_whitespace().collect();
        ids.len() > 1 && ids.last() == Some(&"1")
    })
}

fn tail(path: &Path) -> String {
    let text = std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
