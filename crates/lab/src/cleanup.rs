//! Ends a lab, whatever state it is in: crashed, half made, its supervisor killed.
//! Goes on after an error and reports all of them; touches nothing that does not carry the lab's name.

use std::path::Path;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::power::{self, Op, Request};
use crate::state::LabPaths;
use crate::{cgroup, host, image, network};

/// Kills the lab's processes, removes namespace, mounts, cgroups and records, and the disks unless they are to be kept.
/// The caller holds the lab's lock.
pub(crate) fn clean(paths: &LabPaths, keep_disks: bool) -> Result<()> {
    let mut problems: Vec<String> = Vec::new();
    let mut note = |outcome: Result<()>| {
        if let Err(error) = outcome {
            problems.push(error.to_string());
        }
    };
    // Politely first: the supervisor takes the exit status of its children, where some machines' init does not.
    // Whether it lives and what it answers makes no difference to what follows.
    let _ = power::ask(&paths.control_socket(), &Request { op: Op::Shutdown, node: None, by: "lab".to_owned() });
    note(cgroup::kill_all(&paths.cgroup(), Duration::from_secs(20)));
    let namespace = paths.netns_path().exists();
    if namespace {
        note(end_clients(paths));
        note(host::run("ip", &["netns", "delete", &paths.netns()]).map(drop));
    }
    note(unmount_below(&paths.state_dir()));
    note(unmount_below(&paths.run_dir()));
    note(cgroup::remove(&paths.cgroup()));
    if problems.is_empty() {
        // Only when nothing of the lab lives any more: nobody writes there, nothing is mounted there.
        let mut note = |outcome: Result<()>| {
            if let Err(error) = outcome {
                problems.push(error.to_string());
            }
        };
        note(image::remove_tree(&paths.run_dir()));
        if !keep_disks {
            note(image::remove_tree(&paths.state_dir()));
        }
        // The shared parents, when this was the last lab.
        let _ = std::fs::remove_dir("/var/lib/systole-lab");
        for root in cgroup::roots() {
            let _ = std::fs::remove_dir(root.join("systole-lab"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::CleanUp { lab: paths.name.clone(), problems }) }
}

/// Clients and load generators live in the lab's network namespace but in nobody's cgroup.
fn end_clients(paths: &LabPaths) -> Result<()> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    host::poll("end of the clients", Duration::from_secs(5), Duration::from_millis(10), || {
        let left: Vec<i32> = network::processes(paths).into_iter().filter(|pid| *pid != own).collect();
        for pid in &left {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if left.is_empty() { Ok(()) } else { Err(format!("processes {left:?}")) }
    })
}

fn unmount_below(dir: &Path) -> Result<()> {
    for point in mounts_below(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), dir) {
        umount2(point.as_str(), MntFlags::MNT_DETACH).map_err(|errno| Error::Refused(format!("unmount {point}: {errno}")))?;
    }
    Ok(())
}

/// Mount points at or below `dir`, the last mounted first.
fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<String> {
    let mut found: Vec<String> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| Path::new(point).starts_with(dir))
        .map(str::to_owned)
        .collect();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmounts_the_lab_of_that_name_and_no_neighbour() {
        let text = "1 0 0:1 / /var/lib/systole-lab/a/nodes/lxc1/root rw - overlay o rw\n\
                    2 0 0:1 / /var/lib/systole-lab/ab/nodes/lxc1/root rw - overlay o rw\n\
                    3 1 0:1 / /var/lib/systole-lab/a/nodes/lxc1/root/x rw - tmpfs t rw\n";
        let found = mounts_below(text, Path::new("/var/lib/systole-lab/a"));
        assert_eq!(found, ["/var/lib/systole-lab/a/nodes/lxc1/root/x", "/var/lib/systole-lab/a/nodes/lxc1/root"]);
    }
}
