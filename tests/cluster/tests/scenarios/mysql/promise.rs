//! What an operator, a DBA or another program does to parameters, settings and accounts: nobody is stopped for it, nothing is lost, and
//! crm_mon says what is wrong.

use std::time::Duration;

use cluster_scenarios::{MARIADB, MYSQL, Server, Setup, Site, expect, held, scenario};
use lab::{Node, Result};

use super::{RETURN, SHORT};

/// The monitors' intervals, and as long again: what would have been stopped by then would be.
const SEVERAL_MONITORS: Duration = Duration::from_secs(25);

/// Of the promoted role, as the snippet has it.
const MONITOR_INTERVAL: Duration = Duration::from_secs(10);

fn servers(site: &Site) -> Vec<i32> {
    site.lab.nodes().iter().flat_map(|n| n.pids(site.server().process)).collect()
}

/// Waits until crm_mon shows this of a node's instance.
fn wait_shown(site: &Site, node: &Node, words: &str) -> Result<()> {
    let shown = || {
        let done = site.lab.quorate_node().and_then(|n| n.sh("crm_mon -1 -r"));
        done.is_ok_and(|d| d.stdout.lines().any(|l| l.contains(&node.name) && l.contains(words)))
    };
    site.lab.wait_for(&format!("crm_mon shows {words:?} of {}", node.name), RETURN, shown)
}

/// A typing error in a live parameter, and a locked account of the agent.
fn parameters_and_accounts(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        let load = site.load()?;
        let before = servers(site);
        let primary = site.primary()?;
        site.lab.crm("resource param mysql set durability losless")?;
        wait_shown(site, &primary, "losless")?;
        std::thread::sleep(SEVERAL_MONITORS);
        expect(servers(site) == before, "a typing error stops no server")?;
        site.lab.crm("resource param mysql set durability lossless")?;
        let rescue = "CREATE USER rescue@localhost IDENTIFIED BY 'rettung'; GRANT ALL ON *.* TO rescue@localhost WITH GRANT OPTION";
        site.sql(&primary, &format!("{rescue}; ALTER USER root@localhost ACCOUNT LOCK"))?;
        wait_shown(site, &primary, "locked")?;
        std::thread::sleep(SEVERAL_MONITORS);
        expect(servers(site) == before, "a locked account stops no server")?;
        let client = format!("{} --no-defaults --user=rescue --password=rettung --socket=/run/mysqld/mysqld.sock", server.client);
        primary.sh(&format!("{client} --execute 'ALTER USER root@localhost ACCOUNT UNLOCK'"))?;
        site.wait_settled()?;
        expect(site.primary()?.name == primary.name, "the primary is where it was")?;
        held(site, load, Duration::from_secs(2), "")
    });
}

#[test]
fn mariadb_a_typing_error_and_a_locked_account() {
    parameters_and_accounts("mariadb-operator", MARIADB);
}

#[test]
fn mysql_a_typing_error_and_a_locked_account() {
    parameters_and_accounts("mysql-operator", MYSQL);
}

/// A node comes back with the binary log off, and a replica that is none of the cluster's acknowledges.
#[test]
fn mariadb_a_node_without_a_binary_log_and_a_stranger() {
    scenario("mariadb-premises", Setup::of(MARIADB), |site| {
        let load = site.load()?;
        let (primary, replica) = (site.primary()?, site.replicas()?.remove(0));
        site.lab.crm(&format!("node standby {}", replica.name))?;
        site.lab.wait_for("it is stopped", RETURN, || replica.pids(MARIADB.process).is_empty())?;
        replica.sh("echo skip-log-bin >> /etc/mysql/site.cnf")?;
        site.lab.crm(&format!("node online {}", replica.name))?;
        wait_shown(site, &replica, "log_bin=binlog")?;
        expect(site.primary()?.name == primary.name, "the others are untouched")?;
        replica.sh("sed -i '/^skip-log-bin/d' /etc/mysql/site.cnf")?;
        site.lab.crm(&format!("resource cleanup mysql {}", replica.name))?;
        site.wait_settled()?;
        let follow = format!(
            "CHANGE MASTER TO MASTER_HOST='{}', MASTER_USER='replication', MASTER_PASSWORD='geheim', MASTER_USE_GTID=slave_pos; START SLAVE",
            primary.name
        );
        replica.sh(&format!(
            "mariadb-install-db --no-defaults --user=mysql --datadir=/srv/dr --auth-root-authentication-method=socket >/dev/null; \
             (setsid mariadbd --no-defaults --user=mysql --datadir=/srv/dr --port=3399 --socket=/srv/dr/sock --pid-file=/srv/dr/pid --server-id=99 \
             --report-host=dr1 --log-bin --log-slave-updates --rpl-semi-sync-slave-enabled=1 >/dev/null 2>&1 &); \
             for i in $(seq 100); do mariadb --no-defaults --socket=/srv/dr/sock --execute 'SELECT 1' >/dev/null 2>&1 && break; sleep 0.2; done; \
             mariadb --no-defaults --socket=/srv/dr/sock --execute \"{follow}\""
        ))?;
        wait_shown(site, &primary, "none of the cluster's")?;
        for durability in ["async-allowed", "lossless"] {
            site.lab.crm(&format!("resource param mysql set durability {durability}"))?;
            site.lab.wait_for(durability, RETURN, || site.record().is_ok_and(|r| r.contains(&format!("durability={durability}"))))?;
            expect(!site.record()?.contains("dr1"), "a stranger is no member")?;
        }
        replica.sh("kill $(cat /srv/dr/pid)")?;
        site.wait_settled()?;
        held(site, load, SHORT, "")
    });
}

/// Its data are on a disk that hangs: every commit waits in the kernel, and the server answers all that a monitor asks from its memory.
#[test]
fn mariadb_hung_disk_of_the_primary() {
    scenario("mariadb-hung-disk", super::returning(MARIADB), |site| {
        let node = site.replicas()?.remove(0);
        site.lab.crm(&format!("node standby {}", node.name))?;
        site.lab.wait_for("it is stopped", RETURN, || node.pids(MARIADB.process).is_empty())?;
        node.sh(
            "set -e; [ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237; \
             for n in $(seq 0 63); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done; \
             truncate -s 1G /srv/disk.img; mkfs.ext4 -q /srv/disk.img; mkdir /srv/disk; mount -o loop,noatime /srv/disk.img /srv/disk; \
             rmdir /srv/disk/lost+found; cp -a /var/lib/mysql/. /srv/disk; chown mysql:mysql /srv/disk; mount --move /srv/disk /var/lib/mysql 2>/dev/null \
             || { umount /srv/disk; mount -o loop,noatime /srv/disk.img /var/lib/mysql; }",
        )?;
        site.lab.crm(&format!("node online {}", node.name))?;
        site.wait_settled()?;
        site.lab.crm(&format!("configure location here mysql-clone role=Promoted inf: {}", node.name))?;
        site.lab.wait_for("the role is there", RETURN, || site.primary().is_ok_and(|primary| primary.name == node.name))?;
        site.lab.crm("configure delete here")?;
        site.wait_settled()?;
        expect(site.primary()?.name == node.name, "the primary has the disk that can hang")?;
        let load = site.load()?;
        std::thread::sleep(Duration::from_secs(3));
        node.sh("fsfreeze -f /var/lib/mysql")?;
        let moved = site.wait_moved(&node, 3 * MONITOR_INTERVAL + SHORT);
        node.sh("fsfreeze -u /var/lib/mysql")?;
        moved?;
        site.wait_settled()?;
        held(site, load, 3 * MONITOR_INTERVAL, "")
    });
}
