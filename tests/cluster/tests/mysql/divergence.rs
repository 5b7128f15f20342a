//! Servers that have what the primary does not have.

use cluster_scenarios::{MARIADB, MYSQL, Server, Setup, Site, expect, held, scenario};
use lab::{Node, Result};
use nix::sys::signal::Signal;

use super::{FAILOVER, RETURN, SHORT, cut_database, write_behind};

const ERRANT: &str = "INSERT INTO `load`.probes VALUES ('errant', 'x', 1)";
const HAS_ERRANT: &str = "SELECT COUNT(*) FROM `load`.probes WHERE run='errant'";
const WAY_OUT: &str = "set rejoin=clone";

/// Somebody with all privileges writes on a replica: it says which transaction, follows nobody, is never promoted, and
/// nobody takes its row over.
fn errant_replica(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        let replica = site.replicas()?.remove(0);
        let open = if server.kind == MYSQL.kind { "SET GLOBAL super_read_only=0; " } else { "" };
        site.sql(&replica, &format!("{open}{ERRANT}"))?;
        site.wait_said(&replica, WAY_OUT, RETURN)?;
        expect(site.primary()?.name == primary.name, "the primary is untouched")?;
        site.lab.wait_for("the record without it", RETURN, || !site.is_active(&replica))?;
        let dead = site.kill_primary()?;
        let now = site.wait_moved(&dead, FAILOVER)?;
        expect(now.name != replica.name, "it is not promoted")?;
        held(site, load, SHORT, "LC")?;
        expect(site.sql(&now, HAS_ERRANT)?.trim() == "0", "its row is merged nowhere")
    });
}

#[test]
fn mariadb_errant_replica() {
    errant_replica("mariadb-errant", MARIADB);
}

#[test]
fn mysql_errant_replica() {
    errant_replica("mysql-errant", MYSQL);
}

/// A write that no replica got, on a primary that is killed then.
fn leave_behind(site: &Site) -> Result<Node> {
    let primary = site.primary()?;
    for replica in site.replicas()? {
        cut_database(site, &primary, &replica)?;
    }
    write_behind(site, &primary, ERRANT)?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    primary.kill(site.server().process, Signal::SIGKILL)?;
    site.wait_moved(&primary, FAILOVER)?;
    site.lab.heal(None)?;
    expect(site.sql(&site.primary()?, HAS_ERRANT)?.trim() == "0", "what nobody acknowledged is not on the new primary")?;
    Ok(primary)
}

/// MySQL keeps what nobody acknowledged: the old primary has diverged, says so, and waits.
#[test]
fn mysql_old_primary_with_a_write_of_its_own_refuses() {
    scenario("mysql-refuses", Setup::of(MYSQL), |site| {
        site.sql(&site.primary()?, "CREATE TABLE `load`.probes (run VARCHAR(32), node VARCHAR(32), n BIGINT, PRIMARY KEY (run, node))")?;
        let old = leave_behind(site)?;
        site.wait_said(&old, WAY_OUT, RETURN)?;
        expect(!site.follows(&old, false), "it does not follow")
    });
}

#[test]
fn mysql_old_primary_is_replaced_by_a_copy() {
    scenario("mysql-clone", Setup { parameters: "rejoin=clone".into(), ..Setup::of(MYSQL) }, |site| {
        site.sql(&site.primary()?, "CREATE TABLE `load`.probes (run VARCHAR(32), node VARCHAR(32), n BIGINT, PRIMARY KEY (run, node))")?;
        let old = leave_behind(site)?;
        site.wait_settled()?;
        expect(site.sql(&old, HAS_ERRANT)?.trim() == "0", "it has what the primary has")?;
        expect(!old.sh("ls /var/lib/mysql.systole-kept")?.stdout.trim().is_empty(), "what only it had is kept")
    });
}

/// MariaDB: gone in its recovery, or refused; never merged and never served.
#[test]
fn mariadb_old_primary_with_a_write_of_its_own() {
    scenario("mariadb-refuses", Setup::of(MARIADB), |site| {
        site.sql(&site.primary()?, "CREATE TABLE `load`.probes (run VARCHAR(32), node VARCHAR(32), n BIGINT, PRIMARY KEY (run, node))")?;
        let old = leave_behind(site)?;
        site.lab.wait_for("it follows without the row, or refuses", RETURN, || {
            let clean = site.follows(&old, true) && site.sql(&old, HAS_ERRANT).is_ok_and(|o| o.trim() == "0");
            clean || site.log_of(&old).is_ok_and(|log| log.contains(WAY_OUT))
        })
    });
}
