//! A node's disk before its first boot: what distinguishes the node from its image.
//! Owns the files put into the upper directory; the boot and the power are in `supervisor`.

use std::ffi::OsString;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Error, Result};
use crate::host;
use crate::network::NETWORKS;
use crate::state::{LabPaths, LabSpec, Volume};

/// The fence agent that asks the lab's power switch.
const FENCE_AGENT: &str = include_str!("files/fence_systole_lab.py");

/// File in a node that says that its boot has come as far as the lab needs.
pub(crate) const BOOTED: &str = "run/systole-lab-booted";

/// Where the power switch's socket is in a node.
pub(crate) const POWER_DIR_IN_NODE: &str = "/run/systole-lab-power";

struct Disk<'a> {
    upper: PathBuf,
    image: &'a Path,
}

impl Disk<'_> {
    /// Makes missing parents with the mode and owner they have in the image: an overlay shows the upper directory's.
    fn parents(&self, file: &Path) -> Result<()> {
        let mut at = PathBuf::new();
        for part in file.parent().unwrap_or(Path::new("")).components() {
            at.push(part);
            let (dir, model) = (self.upper.join(&at), self.image.join(&at));
            if dir.is_dir() {
                continue;
            }
            std::fs::create_dir(&dir).context(|| format!("make {}", dir.display()))?;
            if let Ok(model) = std::fs::metadata(&model) {
                std::fs::set_permissions(&dir, model.permissions()).context(|| format!("mode of {}", dir.display()))?;
                std::os::unix::fs::chown(&dir, Some(model.uid()), Some(model.gid())).context(|| format!("owner of {}", dir.display()))?;
            }
        }
        Ok(())
    }

    fn put(&self, file: &str, text: &str, mode: u32) -> Result<PathBuf> {
        let path = self.upper.join(file);
        self.parents(Path::new(file))?;
        std::fs::write(&path, text).context(|| format!("write {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).context(|| format!("mode of {}", path.display()))?;
        Ok(path)
    }

    fn link(&self, file: &str, target: &str) -> Result<()> {
        let path = self.upper.join(file);
        self.parents(Path::new(file))?;
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(target, &path).context(|| format!("link {}", path.display()))
    }
}

/// Makes node `number`'s directories and writes what it needs to boot as a member of the cluster.
/// A disk that is there already (`--keep-disks`) keeps everything but what the lab's shape decides.
pub(crate) fn prepare(paths: &LabPaths, spec: &LabSpec, number: u8) -> Result<()> {
    let node = format!("lxc{number}");
    let dir = paths.node_dir(&node);
    let used = dir.join("upper/etc/machine-id").exists();
    for part in ["upper", "work", "root"] {
        let part = dir.join(part);
        std::fs::create_dir_all(&part).context(|| format!("make {}", part.display()))?;
        std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o755)).context(|| format!("mode of {}", part.display()))?;
    }
    for (index, volume) in spec.volumes.iter().enumerate() {
        make_volume(paths, &node, index, volume)?;
    }
    let disk = Disk { upper: dir.join("upper"), image: &spec.image_root };
    disk.put("etc/hostname", &format!("{node}\n"), 0o644)?;
    disk.put("etc/hosts", &hosts(spec), 0o644)?;
    disk.put("etc/resolv.conf", "# no name server here: names are in /etc/hosts\n", 0o644)?;
    let member = spec.cluster && number <= spec.members();
    if member {
        disk.put("etc/corosync/corosync.conf", &corosync_conf(spec), 0o644)?;
    }
    disk.put("etc/systemd/journald.conf.d/lab.conf", JOURNALD, 0o644)?;
    disk.put("etc/systemd/system.conf.d/lab.conf", SYSTEMD, 0o644)?;
    disk.put("etc/systemd/system/systole-lab-node.service", NODE_UNIT, 0o644)?;
    disk.put("usr/lib/systole-lab/node-up", &node_up(number), 0o755)?;
    disk.link("etc/systemd/system/sysinit.target.wants/systole-lab-node.service", "../systole-lab-node.service")?;
    disk.put("usr/sbin/fence_systole_lab", FENCE_AGENT, 0o755)?;
    if !used {
        disk.put("etc/machine-id", "", 0o644)?;
    }
    if !used && member {
        let cib = disk.put("var/lib/pacemaker/cib/cib.xml", &seed_cib(spec), 0o600)?;
        let (user, group) = cluster_owner(&spec.image_root)?;
        std::os::unix::fs::chown(&cib, Some(user), Some(group)).context(|| format!("owner of {}", cib.display()))?;
    }
    Ok(())
}

/// A file with a file system in it; it is mounted when the node gets power.
fn make_volume(paths: &LabPaths, node: &str, index: usize, volume: &Volume) -> Result<()> {
    let (file, point) = paths.volume(node, index);
    std::fs::create_dir_all(&point).context(|| format!("make {}", point.display()))?;
    if file.exists() {
        return Ok(());
    }
    let image = std::fs::File::create(&file).context(|| format!("make {}", file.display()))?;
    image.set_len(u64::from(volume.mebibytes) << 20).context(|| format!("size of {}", file.display()))?;
    // No blocks kept for root: the servers' disk shall be full for everybody.
    host::checked(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&file)).map(drop)
}

/// What a shell does in a mount namespace of its own before it executes the rest of its arguments: it mounts the volumes that are named by
/// three arguments each, file, mount point and a directory like it, after their number. No other node's namespace has a copy of these mounts
/// then, and with the last process of the node they are gone. A loop device of its own for each mount: `mount -o loop` would find the one of a
/// file system that was shut down and still is open somewhere. A new volume gets the owner and mode that the image's package gave the directory.
pub(crate) const MOUNT_VOLUMES: &str = r#"
set -e
n=$1; shift
while [ "$n" -gt 0 ]; do
    device=$(losetup --find --show "$1")
    mount "$device" "$2" || { losetup --detach "$device"; exit 1; }
    losetup --detach "$device"
    if rmdir "$2/lost+found" 2>/dev/null; then chown --reference="$3" "$2"; chmod --reference="$3" "$2"; fi
    shift 3; n=$((n - 1))
done
exec "$@""#;

/// A node's volumes at its boot.
pub(crate) struct Volumes {
    /// The arguments of [`MOUNT_VOLUMES`].
    pub(crate) arguments: Vec<OsString>,
    /// What nspawn has to bind, and where the node finds it.
    pub(crate) binds: Vec<(PathBuf, PathBuf)>,
}

/// How they are mounted below that root.
pub(crate) fn volumes(paths: &LabPaths, spec: &LabSpec, node: &str, root: &Path) -> Result<Volumes> {
    let mut arguments = vec![spec.volumes.len().to_string().into()];
    let mut binds = Vec::new();
    for (index, volume) in spec.volumes.iter().enumerate() {
        let (file, point) = paths.volume(node, index);
        let model = root.join(volume.path.strip_prefix("/").unwrap_or(&volume.path));
        std::fs::create_dir_all(&model).context(|| format!("make {}", model.display()))?;
        arguments.extend([file.into_os_string(), point.clone().into_os_string(), model.into_os_string()]);
        binds.push((point, volume.path.clone()));
    }
    Ok(Volumes { arguments, binds })
}

/// FS_IOC_SHUTDOWN of the kernel, which ext4 has...
const SHUT_DOWN: u32 = 0x8004_587d;
/// ...and its argument EXT4_GOING_FLAGS_NOLOGFLUSH: nothing is written any longer, not even what the journal was about to.
const WRITE_NOTHING: u32 = 2;

/// Takes from a node's volumes what was not synced, as a power cut does: from here on nothing reaches them. `leader`: its PID 1.
pub(crate) fn lose_what_is_not_synced(paths: &LabPaths, spec: &LabSpec, node: &str, leader: i32) -> Result<()> {
    for (index, volume) in spec.volumes.iter().enumerate() {
        let (file, _) = paths.volume(node, index);
        let point = PathBuf::from(format!("/proc/{leader}/root{}", volume.path.display()));
        let mounted = std::fs::File::open(&point).context(|| format!("open {}", point.display()))?;
        // Whatever somebody in the node has put there, or the machine's own disk, is not touched.
        if !is_backed_by(&mounted, &file) {
            return Err(Error::Refused(format!("{} is not on {}", point.display(), file.display())));
        }
        shut_down(&mounted).context(|| format!("shut down the file system at {}", point.display()))?;
    }
    Ok(())
}

/// Whether the file system that this directory is on is in that file, by the loop device.
fn is_backed_by(directory: &std::fs::File, file: &Path) -> bool {
    let Ok(device) = directory.metadata().map(|metadata| metadata.dev()) else { return false };
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let backing = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/loop/backing_file"));
    // The kernel has followed what links there were.
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    backing.is_ok_and(|backing| Path::new(backing.trim_end_matches('\n')) == file)
}

fn shut_down(directory: &std::fs::File) -> std::io::Result<()> {
    let how = WRITE_NOTHING;
    #[allow(unsafe_code, reason = "there is no safe way to shut down a file system")]
    // SAFETY: the descriptor is open, and the kernel reads an u32 from the address, which outlives the call.
    let done = unsafe { nix::libc::ioctl(directory.as_raw_fd(), SHUT_DOWN.into(), &raw const how) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

const JOURNALD: &str = "# Complete logs that survive a power cut.\n[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n\
                        RateLimitBurst=0\nSyncIntervalSec=1s\nForwardToSyslog=no\nForwardToWall=no\n";
const SYSTEMD: &str = "[Manager]\nDefaultTimeoutStopSec=20s\nDefaultLimitNOFILE=65536\nShowStatus=no\n";
const NODE_UNIT: &str = "[Unit]\nDescription=Network of this node of the lab\nDefaultDependencies=no\n\
                         After=systemd-sysctl.service\nBefore=network.target network-online.target sysinit.target\n\n\
                         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/lib/systole-lab/node-up\n";

fn node_up(number: u8) -> String {
    let mut text = "#!/bin/sh\n# Addresses of this node; written by systole-lab.\nset -e\nip link set lo up\n".to_owned();
    for network in NETWORKS {
        text.push_str(&format!("ip address add {network}.{}/24 brd + dev host0\n", 10 + u16::from(number)));
    }
    text.push_str(&format!("ip link set host0 up\nip route add default via {}.254\n: > /{BOOTED}\n", NETWORKS[0]));
    text
}

fn hosts(spec: &LabSpec) -> String {
    let mut text = "127.0.0.1 localhost\n".to_owned();
    for number in 1..=spec.nodes {
        text.push_str(&format!("{} lxc{number}\n", crate::network::node_address(number)));
    }
    text
}

fn corosync_conf(spec: &LabSpec) -> String {
    let mut text = format!(
        "totem {{\n  version: 2\n  cluster_name: {}\n  transport: knet\n  token: {}\n  token_coefficient: 0\n  crypto_cipher: none\n  crypto_hash: none\n}}\n\
         logging {{\n  to_stderr: no\n  to_syslog: yes\n  to_logfile: no\n  timestamp: hires\n}}\n\
         quorum {{\n  provider: corosync_votequorum\n{}}}\nnodelist {{\n",
        spec.name,
        spec.token_ms,
        if spec.members() == 2 { "  two_node: 1\n" } else { "" },
    );
    for number in 1..=spec.members() {
        text.push_str(&format!(
            "  node {{\n    name: lxc{number}\n    nodeid: {number}\n    ring0_addr: {}\n  }}\n",
            crate::network::node_address(number)
        ));
    }
    text.push_str("}\n");
    text
}

/// With dc-deadtime at its default of 20 s a fresh cluster spends most of its start on the first election. Stickiness as in base.crm:
/// without any, a failover under Pacemaker 3 also moved the fence device to a node with less on it.
fn seed_cib(spec: &LabSpec) -> String {
    let fence = if spec.fencing {
        format!(
            "<primitive id=\"fence-lab\" class=\"stonith\" type=\"fence_systole_lab\">\n\
             <instance_attributes id=\"fence-lab-params\">\n\
             <nvpair id=\"fence-lab-hosts\" name=\"pcmk_host_list\" value=\"{}\"/>\n\
             <nvpair id=\"fence-lab-check\" name=\"pcmk_host_check\" value=\"static-list\"/>\n\
             </instance_attributes>\n\
             <meta_attributes id=\"fence-lab-meta\"><nvpair id=\"fence-lab-stays\" name=\"resource-stickiness\" value=\"100\"/></meta_attributes>\n\
             <operations><op id=\"fence-lab-monitor\" name=\"monitor\" interval=\"60s\" timeout=\"20s\"/></operations>\n\
             </primitive>\n",
            spec.node_names().join(" ")
        )
    } else {
        String::new()
    };
    format!(
        "<cib crm_feature_set=\"3.16.1\" validate-with=\"pacemaker-3.9\" epoch=\"1\" num_updates=\"0\" admin_epoch=\"0\">\n\
         <configuration>\n<crm_config><cluster_property_set id=\"cib-bootstrap-options\">\n\
         <nvpair id=\"cib-bootstrap-options-dc-deadtime\" name=\"dc-deadtime\" value=\"2s\"/>\n\
         <nvpair id=\"cib-bootstrap-options-load-threshold\" name=\"load-threshold\" value=\"1000%\"/>\n\
         <nvpair id=\"cib-bootstrap-options-stonith-enabled\" name=\"stonith-enabled\" value=\"{}\"/>\n\
         <nvpair id=\"cib-bootstrap-options-cluster-name\" name=\"cluster-name\" value=\"{}\"/>\n\
         </cluster_property_set></crm_config>\n<nodes/>\n<resources>\n{fence}</resources>\n<constraints/>\n</configuration>\n<status/>\n</cib>\n",
        spec.fencing, spec.name
    )
}

/// hacluster:haclient as the image numbers them.
fn cluster_owner(image: &Path) -> Result<(u32, u32)> {
    let id = |file: &str, name: &str| {
        let path = image.join(file);
        let text = std::fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        text.lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&name))
            .and_then(|fields| fields.get(2).and_then(|id| id.parse().ok()))
            .ok_or_else(|| Error::Refused(format!("{} has no {name}: is Pacemaker in the image?", path.display())))
    };
    Ok((id("etc/passwd", "hacluster")?, id("etc/group", "haclient")?))
}
