//! Replicas that cannot follow, or lag.

use std::time::Duration;

use cluster_scenarios::{MARIADB, MYSQL, Server, Setup, expect, held, scenario};
use nix::sys::signal::Signal;

use super::{FAILOVER, RETURN, SHORT, acknowledged, returning};

/// Excluded, the primary unaffected; in order again when it is corrected.
fn wrong_replication_password(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        let replica = site.replicas()?.remove(0);
        replica.sh("echo falsch > /etc/mysql/replication.password")?;
        replica.kill(server.process, Signal::SIGKILL)?;
        site.wait_said(&replica, "replication_passwd", RETURN)?;
        site.lab.wait_for("the record without it", RETURN, || !site.is_active(&replica))?;
        expect(site.primary()?.name == primary.name, "the primary is untouched")?;
        replica.sh("echo geheim > /etc/mysql/replication.password")?;
        site.wait_settled()?;
        let logs: String = site.lab.nodes().iter().filter_map(|n| site.log_of(n).ok()).collect();
        expect(!logs.contains("geheim") && !logs.contains("falsch"), "no password in a log")?;
        held(site, load, Duration::from_secs(2), "")
    });
}

#[test]
fn mariadb_wrong_replication_password() {
    wrong_replication_password("mariadb-password", MARIADB);
}

#[test]
fn mysql_wrong_replication_password() {
    wrong_replication_password("mysql-password", MYSQL);
}

/// It keeps its source, and acknowledges again.
fn restart_of_a_replica(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        let replica = site.replicas()?.remove(0);
        replica.kill(server.process, Signal::SIGKILL)?;
        std::thread::sleep(Duration::from_secs(2));
        site.wait_settled()?;
        expect(site.primary()?.name == primary.name, "the primary is untouched")?;
        held(site, load, Duration::from_secs(2), "")
    });
}

#[test]
fn mariadb_restart_of_a_replica() {
    restart_of_a_replica("mariadb-restart", MARIADB);
}

#[test]
fn mysql_restart_of_a_replica() {
    restart_of_a_replica("mysql-restart", MYSQL);
}

/// What was received and not applied: writes open when it is.
fn unapplied_relay_log(name: &str, server: Server) {
    scenario(name, returning(server), |site| {
        let load = site.load()?;
        let replicas = site.replicas()?;
        for node in &replicas {
            site.sql_in_background(node, "LOCK TABLES `load`.writes READ, `load`.probes READ")?;
        }
        std::thread::sleep(Duration::from_secs(2));
        site.kill_primary()?;
        std::thread::sleep(Duration::from_secs(1));
        let before = acknowledged(&load)?;
        std::thread::sleep(Duration::from_secs(5));
        expect(acknowledged(&load)? == before, "closed while something received is not applied")?;
        for node in &replicas {
            let _ = node.kill(server.client, Signal::SIGKILL);
        }
        site.wait_settled()?;
        held(site, load, Duration::from_secs(40), "")
    });
}

#[test]
fn mariadb_unapplied_relay_log() {
    unapplied_relay_log("mariadb-unapplied", MARIADB);
}

#[test]
fn mysql_unapplied_relay_log() {
    unapplied_relay_log("mysql-unapplied", MYSQL);
}

/// Its position is no more in the primary's binary logs (error 1236): excluded, with the reason.
fn purged(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        let replica = site.replicas()?.remove(0);
        site.lab.crm(&format!("node standby {}", replica.name))?;
        site.lab.wait_idle()?;
        // Otherwise it may have acknowledged something that only it has, and nobody is promoted without the last primary.
        site.lab.wait_for("the record without the replica", FAILOVER, || !site.is_active(&replica))?;
        site.sql(&primary, "FLUSH BINARY LOGS")?;
        std::thread::sleep(Duration::from_secs(2));
        site.sql(&primary, "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")?;
        site.lab.crm(&format!("node online {}", replica.name))?;
        site.wait_said(&replica, "1236", RETURN)?;
        expect(site.primary()?.name == primary.name, "the primary is untouched")?;
        let dead = site.kill_primary()?;
        let now = site.wait_moved(&dead, FAILOVER)?;
        expect(now.name != replica.name, "who lacks so much is not promoted")?;
        held(site, load, SHORT, "LC")
    });
}

#[test]
fn mariadb_purged_binary_log() {
    purged("mariadb-purged", MARIADB);
}

#[test]
fn mysql_purged_binary_log() {
    purged("mysql-purged", MYSQL);
}
