//! The lab's processes as the kernel keeps them: a cgroup per node, in the unified and in systemd's hierarchy.
//! Owns making, listing, killing, freezing and removing; knows nothing of what runs in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::host;

/// Roots of the hierarchies that the nodes' systemd uses (one on current machines, two on hybrid ones).
pub(crate) fn roots() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    roots_in(&mounts)
}

fn roots_in(mountinfo: &str) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let unified = right.starts_with("cgroup2 ");
        let systemd = right.starts_with("cgroup ") && right.contains("name=systemd");
        if unified || systemd {
            found.extend(left.split(' ').nth(4).map(PathBuf::from));
        }
    }
    found.into_iter().collect()
}

/// Makes the cgroup everywhere and returns the `cgroup.procs` files to write a pid to.
pub(crate) fn make(cgroup: &Path) -> Result<Vec<PathBuf>> {
    roots()
        .into_iter()
        .map(|root| {
            let dir = root.join(cgroup);
            std::fs::create_dir_all(&dir).context(|| format!("make {}", dir.display()))?;
            Ok(dir.join("cgroup.procs"))
        })
        .collect()
}

/// Puts processes where no memory is left: what they have is not counted, and anything more is too much. The kernel removes nothing of it
/// to make room, so it kills. The cgroup is called as the node's, in the hierarchy of the memory controller.
pub(crate) fn exhaust_memory(cgroup: &Path, pids: &[i32]) -> Result<()> {
    let dir = memory_root()
        .ok_or_else(|| Error::Refused("this kernel has no hierarchy of its own for memory: systemd has it".into()))?
        .join(cgroup);
    std::fs::create_dir_all(&dir).context(|| format!("make {}", dir.display()))?;
    let write = |file: &str, value: &str| {
        let path = dir.join(file);
        std::fs::write(&path, value).context(|| format!("write {}", path.display()))
    };
    write("memory.limit_in_bytes", "65536")?;
    pids.iter().try_for_each(|pid| write("cgroup.procs", &pid.to_string()))
}

/// Root of the hierarchy of the memory controller, where it has one of its own.
fn memory_root() -> Option<PathBuf> {
    memory_root_in(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn memory_root_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let options = right.strip_prefix("cgroup ")?.rsplit(' ').next()?;
        options.split(',').any(|option| option == "memory").then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// Every process in the cgroup and below.
pub(crate) fn processes(cgroup: &Path) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for root in roots() {
        for dir in tree(&root.join(cgroup)) {
            let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            // Zero stands for a process of a pid namespace that is not ours.
            found.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 1));
        }
    }
    found
}

/// Kills everything in the cgroup and waits until nothing is left.
pub(crate) fn kill_all(cgroup: &Path, limit: Duration) -> Result<()> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let what = format!("end of all processes in cgroup {}", cgroup.display());
    host::poll(&what, limit, Duration::from_millis(5), || {
        for root in roots() {
            // One write ends them all at once, forks included, where the kernel has it (5.14).
            let _ = std::fs::write(root.join(cgroup).join("cgroup.kill"), "1");
        }
        let left: Vec<i32> = processes(cgroup).into_iter().filter(|pid| *pid != own).collect();
        for pid in &left {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if left.is_empty() { Ok(()) } else { Err(format!("processes {left:?}")) }
    })
}

/// Freezes or thaws everything in the cgroup; tells whether the machine has the freezer.
pub(crate) fn freeze(cgroup: &Path, frozen: bool) -> bool {
    let value = if frozen { "1" } else { "0" };
    roots().into_iter().any(|root| std::fs::write(root.join(cgroup).join("cgroup.freeze"), value).is_ok())
}

/// Removes the cgroup and all below, leaves first.
pub(crate) fn remove(cgroup: &Path) -> Result<()> {
    host::poll(&format!("removal of cgroup {}", cgroup.display()), Duration::from_secs(3), Duration::from_millis(20), || {
        let mut problem = None;
        for root in roots().into_iter().chain(memory_root()) {
            let mut dirs = tree(&root.join(cgroup));
            dirs.reverse();
            for dir in dirs {
                match std::fs::remove_dir(&dir) {
                    Err(error) if dir.exists() => problem = Some(format!("{}: {error}", dir.display())),
                    _ => {}
                }
            }
        }
        problem.map_or(Ok(()), Err)
    })
}

/// The directory and all below, parents first; empty when it is not there.
fn tree(dir: &Path) -> Vec<PathBuf> {
    if !dir.is_dir() {
        return Vec::new();
    }
    let mut found = vec![dir.to_path_buf()];
    if let Ok(entries) = std::fs::read_dir(dir) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                found.extend(tree(&entry.path()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_both_hierarchies_of_a_hybrid_machine() {
        let text = "30 27 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                    40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(roots_in(text), [Path::new("/sys/fs/cgroup/systemd"), Path::new("/sys/fs/cgroup/unified")]);
        assert_eq!(memory_root_in(text), None);
        let text = format!("{text}36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
        assert_eq!(memory_root_in(&text).as_deref(), Some(Path::new("/sys/fs/cgroup/memory")));
    }
}
