//! Planned moves, and what stands in their way.

use std::time::Duration;

use cluster_scenarios::{MARIADB, MYSQL, MYSQL_56, MYSQL_57, MYSQL_80, Server, Setup, Site, expect, held, scenario, snippet};
use lab::{Node, Result};

use super::{SHORT, returning};

fn planned_moves_under_load(name: &str, server: Server, except: &str) {
    scenario(name, Setup::of(server), |site| {
        let load = site.load()?;
        for _ in 0..3 {
            let to = site.move_primary()?;
            site.wait_settled()?;
            // The ban is taken back as soon as the role has arrived; it has to stay where it is.
            std::thread::sleep(Duration::from_secs(3));
            expect(site.primary()?.name == to, "the role stays where it was moved to")?;
        }
        held(site, load, SHORT, except)
    });
}

#[test]
fn mariadb_planned_moves_under_load() {
    planned_moves_under_load("mariadb-moves", MARIADB, "");
}

#[test]
fn mysql_planned_moves_under_load() {
    planned_moves_under_load("mysql-moves", MYSQL, "");
}

#[test]
fn mysql_80_planned_moves_under_load() {
    planned_moves_under_load("mysql80-moves", MYSQL_80, "");
}

/// Their appliers have one thread, and nothing slows the primary down: the outage is as long as the replicas lag.
#[test]
fn mysql_56_planned_moves_under_load() {
    planned_moves_under_load("mysql56-moves", MYSQL_56, "T");
}

#[test]
fn mysql_57_planned_moves_under_load() {
    planned_moves_under_load("mysql57-moves", MYSQL_57, "T");
}

#[test]
fn rolling_standby_under_load() {
    scenario("mariadb-standby", Setup::of(MARIADB), |site| {
        let load = site.load()?;
        for node in site.lab.nodes() {
            site.lab.crm(&format!("node standby {}", node.name))?;
            site.lab.wait_idle()?;
            site.lab.crm(&format!("node online {}", node.name))?;
            site.wait_settled()?;
        }
        held(site, load, SHORT, "")
    });
}

/// A move while something on the primary would keep it from becoming read-only.
fn obstructed(name: &str, setup: Setup, obstruct: impl FnOnce(&Site, &Node) -> Result<()>) {
    scenario(name, setup, |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        obstruct(site, &primary)?;
        site.move_primary()?;
        site.wait_settled()?;
        expect(
            site.sql(&site.primary()?, "SELECT COUNT(*) FROM `load`.probes WHERE run='obstacle'")?.trim() == "0",
            "what was not committed is gone",
        )?;
        held(site, load, Duration::from_secs(15), "")
    });
}

#[test]
fn mariadb_move_with_a_locked_table() {
    obstructed("mariadb-locked", returning(MARIADB), |site, primary| site.sql_in_background(primary, "LOCK TABLES `load`.probes WRITE"));
}

#[test]
fn mysql_move_with_a_locked_table() {
    obstructed("mysql-locked", returning(MYSQL), |site, primary| site.sql_in_background(primary, "LOCK TABLES `load`.probes WRITE"));
}

const LONG: &str = "BEGIN; INSERT INTO `load`.probes VALUES ('obstacle', 'x', 1)";

#[test]
fn mariadb_move_with_a_long_transaction() {
    obstructed("mariadb-long", returning(MARIADB), |site, primary| site.sql_in_background(primary, LONG));
}

#[test]
fn mysql_move_with_a_long_transaction() {
    obstructed("mysql-long", returning(MYSQL), |site, primary| site.sql_in_background(primary, LONG));
}

/// All connections are taken, the one for administrators too: the server is alive, and the move bounded.
#[test]
fn move_with_connections_used_up() {
    let setup = Setup { settings: "max_connections=20".into(), ..returning(MARIADB) };
    obstructed("mariadb-connections", setup, |site, primary| {
        for _ in 0..22 {
            // The last ones are refused.
            let _ = site.sql_in_background(primary, "SELECT 1");
        }
        Ok(())
    });
}

/// Jobs that go with the primary, in the middle of one: a stop that waits for it would hold up what Pacemaker plans next, so the
/// page advises a short one.
#[test]
fn mariadb_jobs_with_the_primary_do_not_hold_up_a_failover() {
    scenario("mariadb-jobs", returning(MARIADB), |site| {
        for node in site.lab.nodes() {
            node.sh("mkdir -p /etc/systole; echo '* * * * * root sleep 45' > /etc/systole/site.cron; systemctl enable --now cron")?;
        }
        site.lab.load_crm("rsc_defaults rsc-options: resource-stickiness=100\n")?;
        let short = "source=/etc/systole/site.cron drain=term drain_timeout=5s";
        site.lab.load_crm(&snippet("cron.crm")?.replace("source=/etc/systole/site.cron", short))?;
        site.lab.load_crm(&snippet("cron-with-primary.crm")?)?;
        site.lab.wait_idle()?;
        let primary = site.primary()?;
        let runs = || primary.sh("pgrep -fx 'sleep 45'").is_ok_and(|done| done.code == 0);
        site.lab.wait_for("a job on the primary", Duration::from_secs(75), runs)?;
        let load = site.load()?;
        primary.kill(site.server().process, nix::sys::signal::Signal::SIGKILL)?;
        held(site, load, SHORT, "")?;
        expect(!runs(), "the job was ended")?;
        let now = site.primary()?.name;
        site.lab.wait_for("the jobs with the primary", Duration::from_secs(60), || {
            site.lab.view().is_ok_and(|view| view.with_role("site-cron", "Started") == [now.clone()])
        })
    });
}
