//! What the network does.

use std::time::Duration;

use cluster_scenarios::{MARIADB, MYSQL, Server, Setup, expect, held, scenario};
use lab::{Cut, Direction, Error};
use nix::sys::signal::Signal;

use super::{FAILOVER, NODE_LOSS, RETURN, acknowledged, cut_database, returning};

fn cable_of_the_primary(name: &str, server: Server) {
    scenario(name, returning(server), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        site.lab.cut(&Cut::cable(&primary.name))?;
        std::thread::sleep(Duration::from_secs(8));
        site.lab.heal(None)?;
        site.lab.wait_online()?;
        site.wait_settled()?;
        expect(site.primary()?.name != primary.name, "another node is promoted")?;
        held(site, load, NODE_LOSS, "")
    });
}

#[test]
fn mariadb_primary_whose_cable_is_pulled_is_fenced() {
    cable_of_the_primary("mariadb-cable", MARIADB);
}

#[test]
fn mysql_primary_whose_cable_is_pulled_is_fenced() {
    cable_of_the_primary("mysql-cable", MYSQL);
}

#[test]
fn without_fencing_nobody_is_promoted_beside_a_lost_primary() {
    scenario("mariadb-fence-dead", returning(MARIADB), |site| {
        site.lab.fence_device_works(false)?;
        let primary = site.primary()?;
        site.lab.cut(&Cut::cable(&primary.name))?;
        std::thread::sleep(Duration::from_secs(10));
        for node in site.lab.nodes().iter().filter(|n| n.name != primary.name) {
            expect(site.sql(node, "SELECT @@GLOBAL.read_only")?.trim() == "1", &format!("{} stays closed", node.name))?;
        }
        site.lab.fence_device_works(true)?;
        site.lab.heal(None)?;
        site.lab.wait_online()?;
        site.wait_settled()
    });
}

/// The cluster talks, the databases do not: the primary blocks, and goes on when they do.
#[test]
fn only_the_database_port_between_the_nodes_is_cut() {
    scenario("mariadb-port", Setup::of(MARIADB), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        for replica in site.replicas()? {
            cut_database(site, &primary, &replica)?;
        }
        std::thread::sleep(Duration::from_secs(1));
        let before = acknowledged(&load)?;
        std::thread::sleep(Duration::from_secs(5));
        expect(acknowledged(&load)? == before, "nothing is acknowledged while no replica can")?;
        site.lab.heal(None)?;
        site.wait_settled()?;
        held(site, load, RETURN, "")
    });
}

/// B is silent, and the primary dies before B has left the record: B may be the one that acknowledged, so either B is
/// heard, or the old primary itself is, which has everything.
#[test]
fn a_member_that_is_silent_is_waited_for_or_not_needed() {
    scenario("mariadb-silent", returning(MARIADB), |site| {
        let load = site.load()?;
        let silent = site.replicas()?.remove(0);
        let dead = site.primary()?;
        silent.freeze(MARIADB.process)?;
        dead.kill(MARIADB.process, Signal::SIGKILL)?;
        std::thread::sleep(Duration::from_secs(6));
        let _ = silent.thaw(MARIADB.process);
        site.wait_settled()?;
        held(site, load, RETURN, "")
    });
}

/// B was lost long enough to leave the record: it is not asked.
#[test]
fn a_member_that_left_is_not_asked() {
    scenario("mariadb-left", returning(MARIADB), |site| {
        let load = site.load()?;
        let gone = site.replicas()?.remove(0);
        gone.power_off()?;
        site.lab.wait_for("the record without the lost replica", FAILOVER, || !site.is_active(&gone))?;
        let dead = site.kill_primary()?;
        let now = site.wait_moved(&dead, FAILOVER)?;
        expect(now.name != gone.name, "the remaining replica is promoted")?;
        site.lab.power_back(&gone)?;
        site.lab.wait_online()?;
        site.wait_settled()?;
        held(site, load, NODE_LOSS, "")
    });
}

/// The same, and the primary that died has a transaction that nobody has: it gets a copy, and nobody acknowledges meanwhile. Whoever
/// comes first does so at once, without being reminded by a monitor.
#[test]
fn who_returns_beside_a_server_that_is_copied_acknowledges_at_once() {
    scenario("mariadb-copied", returning(MARIADB), |site| {
        let load = site.load()?;
        let dead = site.primary()?;
        let [gone, stays] = site.replicas()?.try_into().map_err(|_| Error::Refused("there are two replicas".into()))?;
        gone.power_off()?;
        site.lab.wait_for("the record without the lost replica", FAILOVER, || !site.is_active(&gone))?;
        // What is written in this time gets into one log, and its packets are thrown away.
        site.lab.cut(&Cut { to: Some(stays.name.clone()), port: Some(3306), direction: Direction::Out, ..Cut::cable(&dead.name) })?;
        std::thread::sleep(Duration::from_millis(500));
        site.sql(&stays, "STOP REPLICA IO_THREAD")?;
        site.kill_primary()?;
        site.lab.heal(None)?;
        site.wait_moved(&dead, FAILOVER)?;
        site.lab.power_back(&gone)?;
        site.lab.wait_online()?;
        site.wait_settled()?;
        expect(dead.sh("test -d /var/lib/mysql.systole-kept").is_ok(), "the data of the dead server were replaced by a copy")?;
        held(site, load, NODE_LOSS, "")
    });
}
