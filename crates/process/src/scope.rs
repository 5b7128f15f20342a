//! Units for servers: a process of ours is moved into a scope of systemd's, and so out of Pacemaker's control group.
//!
//! What is in pacemaker.service's group is Pacemaker's for the kernel and for systemd: when the memory is used up and the kernel kills the
//! database there, systemd stops the whole service (OOMPolicy=stop), and a node that has lost nothing but a database stops all resources.
//!
//! Owns the one call that makes a scope. A scope and no service: the process is forked and remembered by us before it runs, and is the
//! same one whether there is a systemd or not.

use std::path::Path;
use std::time::Duration;

use crate::Identity;
use crate::command::run;

/// It exists where systemd runs the machine: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";
/// systemd answers in milliseconds. Whoever starts a server has no time for one that hangs.
const ANSWER: Duration = Duration::from_secs(2);

/// Moves a process, and what it starts from now on, into a unit `NAME-PID.scope` of its own. Without systemd it stays where it is, and
/// that is no failure. `name`: letters, digits and `-_.:` only, as the ids of resources are.
///
/// The scope is stopped after Pacemaker when the machine goes down: Pacemaker stops the server in order, and moves what it was for. It is
/// collected with its last process, however that ended.
///
/// # Errors
/// Why systemd made none. The process goes on where it is.
pub fn enclose(name: &str, description: &str, process: &Identity) -> Result<(), String> {
    if !Path::new(BOOTED).exists() {
        return Ok(());
    }
    let unit = format!("{name}-{}.scope", process.pid);
    let pid = process.pid.to_string();
    // The method's signature and its arguments: name, mode, properties with their types, auxiliary units (none).
    let call = [
        "call",
        "--system",
        "--quiet",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        &unit,
        "fail",
        "5",
        "Description",
        "s",
        description,
        "PIDs",
        "au",
        "1",
        &pid,
        "Before",
        "as",
        "1",
        "pacemaker.service",
        // Without it each scope has a part of what the machine may have, which a server with thousands of sessions comes to; Pacemaker's
        // own unit has no limit.
        "TasksMax",
        "t",
        "18446744073709551615",
        "CollectMode",
        "s",
        "inactive-or-failed",
        "0",
    ];
    let done = run("busctl", &call, ANSWER).map_err(|e| e.to_string())?;
    if done.status.success() { Ok(()) } else { Err(format!("systemd made no unit {unit}: {}", done.stderr.trim())) }
}

/// The control group of a process, as systemd names it: `/system.slice/systole-db-77.scope`. `None` when it has none, or is gone.
#[must_use]
pub fn control_group(process: &Identity) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).ok()?;
    process.is_alive().then(|| group_of(&text)).flatten()
}

/// Of the unified hierarchy, and of systemd's own on a machine with several. Pure.
fn group_of(text: &str) -> Option<String> {
    let of = |prefix: &str| text.lines().find_map(|line| line.split_once(prefix).map(|(_, group)| group)).filter(|group| *group != "/");
    of(":name=systemd:").or_else(|| of("0::")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_that_of_systemd() {
        assert_eq!(group_of("0::/system.slice/pacemaker.service\n").as_deref(), Some("/system.slice/pacemaker.service"));
        let several = "4:memory:/other\n1:name=systemd:/system.slice/systole-db-7.scope\n0::/\n";
        assert_eq!(group_of(several).as_deref(), Some("/system.slice/systole-db-7.scope"));
        assert_eq!(group_of("0::/\n"), None);
    }

    #[test]
    fn without_systemd_it_stays_where_it_is() {
        if !Path::new(BOOTED).exists() {
            let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
            assert_eq!(enclose("systole-test", "a test", &me), Ok(()));
        }
    }
}
