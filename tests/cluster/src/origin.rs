//! Where figures come from: the machine, what ran on the nodes, the commit.

use lab::{Node, Result};

/// What runs on a node.
pub fn versions(node: &Node, server: &str) -> Result<String> {
    let line = format!(
        "dpkg-query -W -f '${{Package}} ${{Version}}, ' pacemaker corosync resource-agents {server} crmsh 2>/dev/null; . /etc/os-release; echo \"$PRETTY_NAME\""
    );
    Ok(node.sh(&line)?.stdout.trim().to_owned())
}

/// What it ran on.
#[must_use]
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo").lines().find_map(|l| l.strip_prefix("model name")).map(|l| l.trim_matches([' ', '\t', ':']).to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "{} cores ({}), {} GiB, Linux {}",
        cores,
        cpu.unwrap_or_else(|| "unknown".into()),
        memory_mib("MemTotal:").unwrap_or_default() / 1024,
        read("/proc/sys/kernel/osrelease").trim().split('-').next().unwrap_or_default()
    )
}

/// A line of /proc/meminfo, MiB.
#[must_use]
pub fn memory_mib(line: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = text.lines().find_map(|l| l.strip_prefix(line)?.trim().trim_end_matches(" kB").parse().ok())?;
    Some(kib / 1024)
}

/// The commit, and whether something of it was changed that is measured: the pages that a run writes are not.
#[must_use]
pub fn commit() -> String {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let changed = git(&words("status --porcelain --untracked-files=no -- agents crates crm-snippets tests/cluster Cargo.lock"));
    let dirty = if changed.is_empty() { "" } else { "-dirty" };
    git(&words("rev-parse --short HEAD")) + dirty
}

/// What is measured: these parts, what agents are made of, their configuration, and the lab.
#[must_use]
pub fn code(parts: &[&str]) -> String {
    let always = ["agents/address", "crates/lab", "crates/ocf", "crates/pacemaker", "crates/process", "crates/promotable", "crm-snippets"];
    let parts = parts.iter().chain(&always).map(|part| format!("HEAD:{part}"));
    git(&std::iter::once("rev-parse".to_owned()).chain(parts).collect::<Vec<_>>())
}

fn git(arguments: &[String]) -> String {
    let output = std::process::Command::new("git").args(arguments).output();
    output.ok().filter(|o| o.status.success()).map_or_else(|| "unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}
