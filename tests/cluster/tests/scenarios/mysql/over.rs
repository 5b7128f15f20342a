//! Coming under this agent with servers that run.

use std::time::Duration;

use cluster_scenarios::{Agent, Durability, MARIADB, MYSQL, Server, Setup, Site, expect, held, scenario};
use lab::Result;

use super::{RETURN, SHORT};

fn pids(site: &Site) -> Vec<i32> {
    site.lab.nodes().iter().flat_map(|n| n.pids(site.server().process)).collect()
}

/// Everything that the agent and the cluster know is gone; the servers replicate.
fn running(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        let load = site.load()?;
        let before = pids(site);
        site.lab.crm("configure property maintenance-mode=true")?;
        for node in site.lab.nodes() {
            node.sh("rm -f /run/resource-agents/systole-mysql*")?;
        }
        site.primary()?.sh("crm_attribute --type crm_config --set-name systole --name systole-mysql-primary --delete")?;
        site.lab.crm("resource refresh mysql-clone")?;
        site.lab.wait_for("the primary probed", Duration::from_secs(30), || site.primary().is_ok())?;
        site.lab.crm("configure property maintenance-mode=false")?;
        site.lab.wait_for("the record", RETURN, || site.record().is_ok())?;
        site.wait_settled()?;
        expect(pids(site) == before, "no server was restarted")?;
        held(site, load, Duration::from_secs(2), "")
    });
}

#[test]
fn mariadb_taking_over_what_runs() {
    running("mariadb-running", MARIADB);
}

#[test]
fn mysql_taking_over_what_runs() {
    running("mysql-running", MYSQL);
}

/// The way that docs/mysql.md describes, and what it asks for before.
#[test]
fn moving_over_from_the_stock_agent_under_load() {
    let settings = "report_host = NODE".to_owned();
    let setup = Setup { agent: Agent::Stock, durability: Durability::Async, settings, ..Setup::of(MARIADB) };
    scenario("mariadb-moving-over", setup, |site| -> Result<()> {
        let load = site.load()?;
        let before = pids(site);
        site.lab.crm("configure property maintenance-mode=true")?;
        site.lab.load_crm(&site.snippet(Agent::Systole)?)?;
        site.lab.crm("resource refresh mysql-clone")?;
        site.lab.wait_for("the primary probed", Duration::from_secs(30), || site.primary().is_ok())?;
        site.lab.crm("configure property maintenance-mode=false")?;
        site.lab.wait_for("the record", RETURN, || site.record().is_ok())?;
        expect(pids(site) == before, "no server was restarted")?;
        site.move_primary()?;
        site.wait_settled()?;
        held(site, load, SHORT, "")
    });
}
