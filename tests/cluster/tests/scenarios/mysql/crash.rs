//! Servers, nodes and daemons that die or stop.

use std::time::Duration;

use cluster_scenarios::{MARIADB, MYSQL, MYSQL_56, MYSQL_57, MYSQL_80, Server, Setup, expect, held, held_after, scenario};
use nix::sys::signal::Signal;

use super::{FAILOVER, FOUND_BY_MONITOR, NODE_LOSS, SHORT, acknowledged, returning};

/// Several times in a row: whoever was the primary once has to become a good replica.
fn kill_9_under_load(name: &str, setup: Setup, times: usize) {
    scenario(name, setup, |site| {
        for _ in 0..times {
            let load = site.load()?;
            let dead = site.kill_primary()?;
            site.wait_moved(&dead, FAILOVER)?;
            site.wait_settled()?;
            held(site, load, SHORT, "")?;
        }
        Ok(())
    });
}

/// MySQL's coordinator calls sched_yield again and again while all appliers have a transaction. With four of them, as by default, it takes
/// half of what two processors have.
fn mysql_kill_9(name: &str, times: usize) {
    let setup = Setup { settings: "replica_parallel_workers=16".into(), ..returning(MYSQL) };
    kill_9_under_load(name, setup, times);
}

#[test]
fn mariadb_kill_9_under_load() {
    kill_9_under_load("mariadb-kill", returning(MARIADB), 1);
}

#[test]
fn mariadb_kill_9_under_load_three_times() {
    kill_9_under_load("mariadb-kill-3", returning(MARIADB), 3);
}

#[test]
fn mysql_kill_9_under_load() {
    mysql_kill_9("mysql-kill", 1);
}

#[test]
fn mysql_80_kill_9_under_load() {
    let setup = Setup { settings: "replica_parallel_workers=16".into(), ..returning(MYSQL_80) };
    kill_9_under_load("mysql80-kill", setup, 2);
}

#[test]
fn mysql_kill_9_under_load_three_times() {
    mysql_kill_9("mysql-kill-3", 3);
}

/// Asynchronous: what is lost is not asserted, the old primary may have what nobody else has, and the outage is as long
/// as the replica lags.
fn asynchronous_kill_9(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        let load = site.load()?;
        let dead = site.kill_primary()?;
        site.wait_moved(&dead, FAILOVER)?;
        held(site, load, SHORT, "LCT")
    });
}

#[test]
fn mysql_56_kill_9_promotes_a_replica() {
    asynchronous_kill_9("mysql56-kill", MYSQL_56);
}

#[test]
fn mysql_57_kill_9_promotes_a_replica() {
    asynchronous_kill_9("mysql57-kill", MYSQL_57);
}

/// It is found by the monitor and killed.
fn frozen_primary(name: &str, server: Server) {
    scenario(name, returning(server), |site| {
        let load = site.load()?;
        site.freeze_primary_for_good(FAILOVER)?;
        site.wait_settled()?;
        held(site, load, FOUND_BY_MONITOR, "")
    });
}

#[test]
fn mariadb_frozen_primary() {
    frozen_primary("mariadb-frozen", MARIADB);
}

#[test]
fn mysql_frozen_primary() {
    frozen_primary("mysql-frozen", MYSQL);
}

fn power_cut_of_the_primary(name: &str, server: Server) {
    scenario(name, returning(server).on_disks(), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        primary.power_off()?;
        site.wait_moved(&primary, FAILOVER)?;
        site.lab.power_back(&primary)?;
        site.lab.wait_online()?;
        site.wait_settled()?;
        held(site, load, NODE_LOSS, "")
    });
}

#[test]
fn mariadb_power_cut_of_the_primary() {
    power_cut_of_the_primary("mariadb-power", MARIADB);
}

#[test]
fn mysql_power_cut_of_the_primary() {
    power_cut_of_the_primary("mysql-power", MYSQL);
}

#[test]
fn power_cut_of_a_replica_stops_no_write() {
    scenario("mariadb-power-replica", Setup::of(MARIADB).on_disks(), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        let gone = site.replicas()?.remove(0);
        gone.power_off()?;
        site.lab.wait_for("the record without the lost replica", FAILOVER, || !site.is_active(&gone))?;
        site.lab.power_back(&gone)?;
        site.lab.wait_online()?;
        site.wait_settled()?;
        expect(site.primary()?.name == primary.name, "the primary stays")?;
        held(site, load, Duration::from_secs(2), "")
    });
}

/// Cold start: who wrote last is promoted again, or somebody who has everything of it.
fn power_cut_of_all(name: &str, server: Server) {
    scenario(name, returning(server).on_disks(), |site| {
        let load = site.load()?;
        for node in site.lab.nodes() {
            node.power_off()?;
        }
        for node in site.lab.nodes() {
            node.power_on()?;
        }
        site.lab.wait_online()?;
        site.wait_settled()?;
        held(site, load, Duration::from_secs(60), "")
    });
}

#[test]
fn mariadb_power_cut_of_all() {
    power_cut_of_all("mariadb-cold", MARIADB);
}

#[test]
fn mysql_power_cut_of_all() {
    power_cut_of_all("mysql-cold", MYSQL);
}

/// Lossless means that: without replicas nothing is acknowledged, and nothing that waited is lost when they return.
fn no_replica_no_acknowledgement(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        let load = site.load()?;
        site.lab.crm("configure property maintenance-mode=true")?;
        for node in site.replicas()? {
            node.kill(server.process, Signal::SIGKILL)?;
        }
        std::thread::sleep(Duration::from_secs(1));
        let before = acknowledged(&load)?;
        std::thread::sleep(Duration::from_secs(4));
        expect(acknowledged(&load)? == before, "nothing is acknowledged while no replica runs")?;
        site.lab.crm("configure property maintenance-mode=false")?;
        site.wait_settled()?;
        held(site, load, Duration::from_secs(60), "")
    });
}

#[test]
fn mariadb_no_replica_no_acknowledgement() {
    no_replica_no_acknowledgement("mariadb-lonely", MARIADB);
}

#[test]
fn mysql_no_replica_no_acknowledgement() {
    no_replica_no_acknowledgement("mysql-lonely", MYSQL);
}

/// With a frozen or dead cluster daemon the node is fenced, or its daemon comes back; there is never a second writer.
fn daemon(name: &str, process: &str, signal: Signal) {
    scenario(name, returning(MARIADB), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        primary.kill(process, signal)?;
        std::thread::sleep(Duration::from_secs(10));
        site.lab.wait_online()?;
        site.wait_settled()?;
        held(site, load, FOUND_BY_MONITOR, "")
    });
}

#[test]
fn frozen_corosync() {
    daemon("mariadb-corosync-stop", "corosync", Signal::SIGSTOP);
}

#[test]
fn killed_corosync() {
    daemon("mariadb-corosync-kill", "corosync", Signal::SIGKILL);
}

#[test]
fn killed_pacemakerd() {
    daemon("mariadb-pacemakerd-kill", "pacemakerd", Signal::SIGKILL);
}

#[test]
fn frozen_pacemakerd() {
    scenario("mariadb-pacemakerd-stop", returning(MARIADB), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        primary.freeze("pacemakerd")?;
        std::thread::sleep(Duration::from_secs(10));
        primary.thaw("pacemakerd")?;
        site.wait_settled()?;
        held(site, load, FOUND_BY_MONITOR, "")
    });
}

/// A node that lost its peers stops its server: without quorum nobody is promoted, and nothing is acknowledged.
#[test]
fn without_quorum_nothing_is_acknowledged() {
    scenario("mariadb-quorum", returning(MARIADB), |site| {
        let load = site.load()?;
        let (last, replicas) = (site.primary()?, site.replicas()?);
        expect(!last.pids(MARIADB.process).is_empty(), "its server runs")?;
        for node in &replicas {
            node.power_off()?;
        }
        std::thread::sleep(Duration::from_secs(3));
        let before = acknowledged(&load)?;
        site.lab.wait_for("the last server stopped", FOUND_BY_MONITOR, || last.pids(MARIADB.process).is_empty())?;
        std::thread::sleep(Duration::from_secs(5));
        expect(last.is_on() && last.pids(MARIADB.process).is_empty(), "its node lives, and the server stays down")?;
        expect(acknowledged(&load)? == before, "nothing is acknowledged without quorum")?;
        for node in &replicas {
            node.power_on()?;
        }
        site.lab.wait_online()?;
        site.wait_settled()?;
        held(site, load, Duration::from_secs(60), "")
    });
}

/// A full disk: writes hang in MariaDB. The role goes to a replica with room.
#[test]
fn a_full_disk_moves_the_primary() {
    let setup = Setup { disk_mib: Some(320), settings: "innodb_log_file_size=24M".into(), ..returning(MARIADB) };
    scenario("mariadb-full-primary", setup, |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        primary.fill_disk("/var/lib/mysql", true)?;
        site.wait_moved(&primary, FAILOVER)?;
        primary.fill_disk("/var/lib/mysql", false)?;
        site.wait_settled()?;
        held(site, load, FOUND_BY_MONITOR * 2, "")
    });
}

#[test]
fn a_full_disk_of_a_replica_is_no_concern_of_the_primary() {
    let setup = Setup { disk_mib: Some(320), settings: "innodb_log_file_size=24M".into(), ..Setup::of(MARIADB) };
    scenario("mariadb-full-replica", setup, |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        let full = site.replicas()?.remove(0);
        full.fill_disk("/var/lib/mysql", true)?;
        std::thread::sleep(Duration::from_secs(25));
        expect(site.primary()?.name == primary.name, "the primary stays")?;
        full.fill_disk("/var/lib/mysql", false)?;
        site.wait_settled()?;
        // MariaDB looks once a minute whether there is room again.
        held_after(site, load, SHORT, "", Duration::from_secs(120))
    });
}

/// The way of everything that is done by hand: nodes are rebooted one after the other.
#[test]
fn rolling_reboot_under_load() {
    scenario("mariadb-rolling", returning(MARIADB).on_disks(), |site| {
        let load = site.load()?;
        for node in site.lab.nodes() {
            node.power_off()?;
            std::thread::sleep(Duration::from_secs(4));
            site.lab.power_back(&node)?;
            site.lab.wait_online()?;
            site.wait_settled()?;
        }
        held(site, load, NODE_LOSS, "")
    });
}
