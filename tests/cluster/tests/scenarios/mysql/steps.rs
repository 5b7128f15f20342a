//! The agent killed at each step: it runs again to the same end. Needs the agent that ends where a test wants it, in
//! the layer that SYSTOLE_FAULT_LAYER names.

use std::path::PathBuf;
use std::time::Duration;

use cluster_scenarios::{MARIADB, MYSQL, Server, Setup, Site, expect, held, scenario};
use lab::{Error, Result};

use super::{FAILOVER, FOUND_BY_MONITOR, returning};

const PROMOTE: &[&str] = &["elected", "drained", "source-forgotten", "waiting-for-replicas", "reign-saved", "recorded", "remembered"];
const DEMOTE: &[&str] = &["closed", "demotion-remembered"];
const MARK: &str = "/run/resource-agents/systole-fault-point";

fn layer() -> Option<PathBuf> {
    std::env::var_os("SYSTOLE_FAULT_LAYER").map(PathBuf::from)
}

/// Marks a step on all nodes, lets the role change its place, and insists that an agent ended there.
fn ended_at(site: &Site, step: &str, change: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    for node in site.lab.nodes() {
        node.write(MARK, step)?;
    }
    change(site)?;
    let hit = || site.lab.nodes().iter().any(|n| n.exec(&["test", "-e", MARK]).is_ok_and(|o| !o.success()));
    site.lab.wait_for(&format!("an agent that ends at `{step}`"), FAILOVER, hit)?;
    site.wait_settled().map_err(|e| Error::Refused(format!("after an end at `{step}`: {e}")))?;
    for node in site.lab.nodes() {
        node.sh(&format!("rm -f {MARK}"))?;
    }
    Ok(())
}

fn killed_at_each_step(name: &str, server: Server, change: fn(&Site) -> Result<()>) {
    scenario(name, Setup { layer: layer(), ..returning(server) }, |site| {
        expect(layer().is_some(), "SYSTOLE_FAULT_LAYER names a layer: run this by `make cluster`")?;
        let load = site.load()?;
        for step in PROMOTE {
            ended_at(site, step, change)?;
        }
        for step in DEMOTE {
            ended_at(site, step, moved)?;
        }
        held(site, load, FOUND_BY_MONITOR + Duration::from_secs(20), "")
    });
}

fn moved(site: &Site) -> Result<()> {
    site.move_primary().map(drop)
}

fn killed(site: &Site) -> Result<()> {
    site.kill_primary().map(drop)
}

#[test]
fn mariadb_agent_killed_at_each_step_of_a_move() {
    killed_at_each_step("mariadb-steps", MARIADB, moved);
}

#[test]
fn mysql_agent_killed_at_each_step_of_a_move() {
    killed_at_each_step("mysql-steps", MYSQL, moved);
}

#[test]
fn mariadb_agent_killed_at_each_step_of_a_failover() {
    killed_at_each_step("mariadb-steps-crash", MARIADB, killed);
}
