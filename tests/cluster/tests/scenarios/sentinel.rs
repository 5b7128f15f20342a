//! Sentinel in the place of our agent: what docs/sentinel.md says of it. Exactly one manager decides.

use std::time::Duration;

use cluster_scenarios::{Agent, Setup, Site, expect, haproxy, held, sentinel};
use lab::{Node, Result};
use nix::sys::signal::Signal;

fn scenario(name: &str, steps: impl FnOnce(&Site) -> Result<()>) {
    cluster_scenarios::scenario(&format!("sentinel-{name}"), Setup::default(), steps);
}

/// Resources with our agent, and what it leaves running on a node.
fn agents(site: &Site) -> Result<String> {
    let cib = site.lab.quorate_node()?.sh("cibadmin --query --scope resources | grep 'type=\"redis\"' || true")?.stdout;
    let watchers = site.lab.live_nodes().iter().map(|node| node.pids("systole-watch").len()).sum::<usize>();
    Ok(if watchers == 0 { cib } else { format!("{cib}{watchers} watchers") })
}

fn get(node: &Node, key: &str) -> Result<String> {
    Ok(node.sh(&format!("redis-cli get {key}"))?.stdout.trim().to_owned())
}

#[test]
fn over_to_sentinel_a_crash_and_back() {
    scenario("there-and-back", |site| {
        haproxy::install(site)?;
        site.primary()?.sh("redis-cli set before 1")?;
        let first = sentinel::go_over(site)?;
        expect(agents(site)?.is_empty(), "none of our agents is left")?;
        expect(get(&first, "before")? == "1", "the data came along")?;

        let writer = site.lab.live_nodes().into_iter().find(|node| node.name != first.name).unwrap();
        site.lab.wait_for("HAProxy at the primary", Duration::from_secs(10), || {
            haproxy::passing(site, &writer).is_ok_and(|up| up == [first.name.as_str()])
        })?;
        let load = haproxy::load_through(site, &writer)?;
        first.kill("redis-server", Signal::SIGKILL)?;
        site.lab.wait_for("another primary", Duration::from_secs(30), || sentinel::primary(site).is_ok_and(|p| p.name != first.name))?;
        sentinel::wait_settled(site)?;
        let second = sentinel::primary(site)?;
        // What was acknowledged may be lost: not asserted, and said.
        held(site, load, Duration::from_secs(15), "L")?;
        second.sh("redis-cli set under-sentinel 1")?;

        let last = sentinel::come_back(site)?;
        expect(last.name == second.name, "Sentinel's last primary is the one that was named")?;
        expect(site.primary()?.name == last.name, "and it is the one that the agent promotes")?;
        for node in site.lab.nodes() {
            expect(node.pids("redis-sentinel").is_empty(), "no Sentinel is left")?;
            expect(get(&node, "before")? + &get(&node, "under-sentinel")? == "11", "both writes are there")?;
        }
        haproxy::wait_agreed(site)?;
        let load = site.load()?;
        site.kill_primary()?;
        held(site, load, Duration::from_secs(4), "L")
    });
}

/// Somebody loads redis.crm and forgets Sentinel: there are not two managers.
#[test]
fn no_sentinel_runs_beside_the_agent() {
    scenario("guard", |site| {
        sentinel::go_over(site)?;
        site.lab.load_crm(&site.snippet(Agent::Systole)?)?;
        site.lab.wait_for("no Sentinel running", Duration::from_secs(60), || {
            site.lab.nodes().iter().all(|node| node.pids("redis-sentinel").is_empty())
        })?;
        site.lab.wait_idle()?;
        site.wait_settled()
    });
}
