//! Servers that have what the primary does not have.

use cluster_scenarios::{MARIADB, MYSQL, Server, Setup, Site, expect, held, scenario};
use lab::{Node, Result};
use nix::sys::signal::Signal;

use super::{FAILOVER, RETURN, SHORT, cut_database, returning};

const PROBES: &str = "CREATE TABLE `load`.probes (run VARCHAR(32), node VARCHAR(32), n BIGINT, PRIMARY KEY (run, node))";
const ERRANT: &str = "INSERT INTO `load`.probes VALUES ('errant', 'x', 1)";
const HAS_ERRANT: &str = "SELECT COUNT(*) FROM `load`.probes WHERE run='errant'";
const WAY_OUT: &str = "set rejoin=clone";

/// A setup in which a server that has diverged waits for an operator.
fn refusing(server: Server) -> Setup {
    Setup { parameters: "rejoin=refuse".into(), ..Setup::of(server) }
}

/// Somebody with all privileges writes on a replica: it says which transaction, follows nobody, is never promoted, and
/// nobody takes its row over.
fn errant_replica(name: &str, server: Server) {
    scenario(name, refusing(server), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        let replica = site.replicas()?.remove(0);
        let open = if server.kind == MYSQL.kind { "SET GLOBAL super_read_only=0; " } else { "" };
        site.sql(&replica, &format!("{open}{ERRANT}"))?;
        site.wait_said(&replica, WAY_OUT, RETURN)?;
        expect(site.primary()?.name == primary.name, "the primary is untouched")?;
        site.lab.wait_for("the record without it", RETURN, || !site.is_active(&replica))?;
        expect(site.move_primary()? != replica.name, "it is not promoted")?;
        // It has none of what was written since.
        held(site, load, SHORT, "LC")?;
        expect(site.sql(&site.primary()?, HAS_ERRANT)?.trim() == "0", "its row is merged nowhere")
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
    site.sql_in_background(&primary, ERRANT)?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    primary.kill(site.server().process, Signal::SIGKILL)?;
    site.wait_moved(&primary, FAILOVER)?;
    site.lab.heal(None)?;
    expect(site.sql(&site.primary()?, HAS_ERRANT)?.trim() == "0", "what nobody acknowledged is not on the new primary")?;
    Ok(primary)
}

/// What nobody acknowledged stays in the old primary: it has diverged, says so, and waits.
fn old_primary_refuses(name: &str, server: Server) {
    scenario(name, refusing(server), |site| {
        site.sql(&site.primary()?, PROBES)?;
        let old = leave_behind(site)?;
        site.wait_said(&old, WAY_OUT, RETURN)?;
        expect(!site.follows(&old, false), "it does not follow")
    });
}

#[test]
fn mariadb_old_primary_with_a_write_of_its_own_refuses() {
    old_primary_refuses("mariadb-refuses", MARIADB);
}

#[test]
fn mysql_old_primary_with_a_write_of_its_own_refuses() {
    old_primary_refuses("mysql-refuses", MYSQL);
}

fn old_primary_gets_a_copy(name: &str, server: Server) {
    scenario(name, returning(server), |site| {
        site.sql(&site.primary()?, PROBES)?;
        let old = leave_behind(site)?;
        site.wait_settled()?;
        expect(site.sql(&old, HAS_ERRANT)?.trim() == "0", "it has what the primary has")?;
        expect(!old.sh("ls /var/lib/mysql.systole-kept")?.stdout.trim().is_empty(), "what only it had is kept")
    });
}

#[test]
fn mariadb_old_primary_gets_a_copy() {
    old_primary_gets_a_copy("mariadb-copy", MARIADB);
}

#[test]
fn mysql_old_primary_gets_a_copy() {
    old_primary_gets_a_copy("mysql-copy", MYSQL);
}

const SLOW: &str = "/usr/local/bin/slow-copy";

/// Copies that take their time, as where there is much data.
fn slowly_copying(name: &str, steps: impl FnOnce(&Site) -> Result<()>) {
    let setup = Setup { parameters: format!("rejoin=clone copy_program={SLOW}"), ..Setup::of(MARIADB) };
    scenario(name, setup, |site| {
        for node in site.lab.nodes() {
            node.write(SLOW, "#!/bin/sh\nsleep 25\nexec /usr/libexec/systole/systole-copy-mariadb \"$@\"\n")?;
            node.sh(&format!("chmod 755 {SLOW}"))?;
        }
        site.sql(&site.primary()?, PROBES)?;
        steps(site)
    });
}

/// Meanwhile the primary may die.
#[test]
fn a_copy_under_way_holds_up_no_failover() {
    slowly_copying("mariadb-copying", |site| {
        let old = leave_behind(site)?;
        site.lab.wait_for("the copy", RETURN, || old.sh(&format!("pgrep -f {SLOW}")).is_ok())?;
        // Without a write of its own: the next scenario is about that.
        let second = site.kill_primary()?;
        site.wait_moved(&second, SHORT)?;
        expect(old.sh(&format!("pgrep -f {SLOW}")).is_ok(), "the copy goes on")?;
        site.wait_settled_within(RETURN * 3)?;
        let load = site.load()?;
        held(site, load, SHORT, "")
    });
}

/// Nobody is left to acknowledge, commits wait, and a backup waits for the commits.
#[test]
fn both_replicas_have_diverged() {
    slowly_copying("mariadb-both-diverged", |site| {
        let load = site.load()?;
        leave_behind(site)?;
        leave_behind(site)?;
        site.wait_settled_within(RETURN * 3)?;
        held(site, load, RETURN * 3, "")
    });
}
