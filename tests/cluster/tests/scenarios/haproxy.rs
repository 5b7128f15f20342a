//! HAProxy on every node in front of Redis: what docs/haproxy.md says of it. The letters are those of redis.rs.

use std::time::Duration;

use cluster_scenarios::{Durability, Setup, Site, expect, haproxy, held};
use lab::{Load, Result};
use nix::sys::signal::Signal;

/// A crash of the server's process, or a planned move.
const SHORT: Duration = Duration::from_secs(4);

/// Redis with HAProxy in front of it on every node.
fn scenario(name: &str, durability: Durability, steps: impl FnOnce(&Site) -> Result<()>) {
    cluster_scenarios::scenario(&format!("haproxy-{name}"), Setup { durability, ..Setup::default() }, |site| {
        haproxy::install(site)?;
        steps(site)
    });
}

#[test]
fn a_crash_and_a_planned_move_through_haproxy() {
    scenario("short", Durability::Quorum, |site| haproxy::crash_and_move(site, SHORT));
}

/// The application on the primary's own node loses its node; one on another node goes on.
#[test]
fn power_cut_of_the_primary() {
    scenario("power", Durability::Quorum, |site| {
        let load = haproxy::load_through(site, &site.replicas()?[0])?;
        let primary = site.primary()?;
        primary.power_off()?;
        let successor = site.wait_moved(&primary, Duration::from_secs(30))?;
        haproxy::wait_agreed(site)?;
        expect(successor.name != primary.name, "another node is promoted")?;
        held(site, load, Duration::from_secs(12), "")
    });
}

#[test]
fn a_frozen_primary_is_left_when_another_one_is_promoted() {
    scenario("frozen", Durability::Quorum, |site| {
        let load = haproxy::load_through(site, &site.replicas()?[0])?;
        site.freeze_primary_for_good(Duration::from_secs(40))?;
        site.wait_settled()?;
        haproxy::wait_agreed(site)?;
        held(site, load, Duration::from_secs(25), "")
    });
}

/// Somebody makes a replica a primary by hand. It is closed for writes, and HAProxy passes nobody on to it.
#[test]
fn a_second_server_that_says_master_gets_no_client() {
    for durability in [Durability::Async, Durability::Quorum] {
        scenario("second", durability, |site| {
            let (primary, second) = (site.primary()?, site.replicas()?.remove(1));
            let load = haproxy::load_through(site, &site.replicas()?[0])?;
            second.sh("redis-cli replicaof no one")?;
            for _ in 0..30 {
                std::thread::sleep(Duration::from_millis(100));
                expect(haproxy::passing(site, &second)? == [primary.name.as_str()], "only the promoted server passes")?;
            }
            expect(second.sh("redis-cli role")?.stdout.starts_with("master"), "it has the role of a primary")?;
            expect(second.sh("redis-cli set by-hand 1")?.stdout.contains("NOREPLICAS"), "it takes no writes")?;
            second.sh(&format!("redis-cli replicaof {} 6379", primary.name))?;
            site.wait_settled()?;
            expect(site.primary()?.name == primary.name, "the primary stays")?;
            held(site, load, Duration::from_millis(500), "")
        });
    }
}

/// The same, and opened for writes as well: only the agent helps against that, and does.
#[test]
fn a_second_primary_that_was_opened_by_hand_is_closed() {
    scenario("opened", Durability::Async, |site| {
        let (primary, second) = (site.primary()?, site.replicas()?.remove(1));
        second.sh("redis-cli replicaof no one; redis-cli config set min-replicas-to-write 0")?;
        site.lab.wait_for("both passing", Duration::from_secs(5), || haproxy::passing(site, &second).is_ok_and(|up| up.len() == 2))?;
        site.wait_said(&second, "is the recorded one: it was closed for writes", Duration::from_secs(15))?;
        site.wait_settled()?;
        haproxy::wait_agreed(site)?;
        expect(site.primary()?.name == primary.name, "the primary stays")
    });
}

/// With durability=quorum a primary without replicas takes no writes, and passes no check.
#[test]
fn a_primary_without_replicas_gets_no_client_with_quorum() {
    scenario("lonely", Durability::Quorum, |site| {
        let primary = site.primary()?;
        site.lab.crm("configure property maintenance-mode=true")?;
        for node in site.replicas()? {
            node.kill("redis-server", Signal::SIGKILL)?;
        }
        site.lab.wait_for("nobody passing", Duration::from_secs(10), || haproxy::passing(site, &primary).is_ok_and(|up| up.is_empty()))?;
        site.lab.crm("configure property maintenance-mode=false")?;
        site.wait_settled()?;
        haproxy::wait_agreed(site)
    });
}

#[test]
fn a_killed_haproxy_comes_back_and_moves_nothing() {
    scenario("killed", Durability::Quorum, |site| {
        let node = site.replicas()?.remove(0);
        let primary = site.primary()?;
        let load = haproxy::load_through(site, &node)?;
        node.kill("haproxy", Signal::SIGKILL)?;
        held(site, load, Duration::from_secs(10), "")?;
        expect(site.primary()?.name == primary.name, "the primary stays")
    });
}

/// A long script: the agent leaves the server alone, and so does HAProxy, for as long as the page says.
#[test]
fn a_busy_primary_is_left_alone() {
    scenario("busy", Durability::Async, |site| {
        let node = site.replicas()?.remove(0);
        let primary = site.primary()?;
        let script = "local t = redis.call('time')[1] while redis.call('time')[1] - t < 4 do end return 1";
        let load = haproxy::load_through(site, &node)?;
        primary.sh(&format!("redis-cli eval \"{script}\" 0"))?;
        expect(haproxy::passing(site, &node)? == [primary.name.as_str()], "it still passes")?;
        expect(site.primary()?.name == primary.name, "the primary stays")?;
        held(site, load, Duration::from_secs(6), "")?;
        // A longer one through HAProxy is cut off, and carried out.
        let long = script.replace("< 4", "< 9").replace("return 1", "redis.call('set', 'long', 1) return 1");
        let answer = node.exec(&["redis-cli", "-p", "6390", "eval", &long, "0"])?;
        expect(answer.stderr.contains("closed the connection"), &format!("the caller is cut off: {answer:?}"))?;
        haproxy::wait_agreed(site)?;
        expect(site.primary()?.name == primary.name, "the primary stays")?;
        expect(primary.sh("redis-cli get long")?.stdout.trim() == "1", "the script came to its end")
    });
}

/// The longest time without writes of a load, in milliseconds.
fn outage(site: &Site, load: Load) -> f64 {
    let (report, journal) = site.verdict(load, Duration::from_secs(60)).unwrap();
    assert!(report.kept(), "{report}");
    journal.outages(1_000, &[]).iter().map(lab::journal::Outage::millis).fold(0.0, f64::max)
}

/// The figures of docs/haproxy.md: crash and planned move, through HAProxy and through the floating address in turns.
#[test]
#[ignore = "minutes: the figures of docs/haproxy.md"]
fn outages_beside_the_floating_address() {
    let rounds: usize = std::env::var("SYSTOLE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    scenario("figures", Durability::Async, |site| {
        let mut all = [const { Vec::new() }; 4];
        for round in 0..rounds * 4 {
            site.wait_settled()?;
            haproxy::wait_agreed(site)?;
            let through = round % 2 == 0;
            let node = site.replicas()?[round / 4 % 2].clone();
            let load = if through { haproxy::load_through(site, &node)? } else { site.load()? };
            let crash = round % 4 < 2;
            if crash {
                site.kill_primary()?;
            } else {
                site.move_primary()?;
            }
            site.wait_settled()?;
            all[round % 4].push(outage(site, load));
        }
        for (what, times) in ["crash, HAProxy", "crash, address", "move, HAProxy", "move, address"].iter().zip(&mut all) {
            times.sort_by(f64::total_cmp);
            println!("{what}: p50 {:.0} ms, max {:.0} ms, {times:.0?}", times[times.len() / 2], times[times.len() - 1]);
        }
        Ok(())
    });
}
