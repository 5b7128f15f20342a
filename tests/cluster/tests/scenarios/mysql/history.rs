//! Shapes of history that a comparison of numbers would get wrong.

use cluster_scenarios::{MARIADB, MYSQL, Server, expect, held, scenario};

use super::{FAILOVER, SHORT, returning};

/// Transactions of another kind among the load's, then a crash and a move.
fn mixed(name: &str, server: Server, begin: &str) {
    scenario(name, returning(server), |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        for n in 0..20 {
            site.sql(&primary, &format!("{begin}; INSERT INTO `load`.probes VALUES ('mixed', 'n{n}', 1)"))?;
        }
        let dead = site.kill_primary()?;
        site.wait_moved(&dead, FAILOVER)?;
        site.wait_settled()?;
        site.move_primary()?;
        site.wait_settled()?;
        let there = site.sql(&site.primary()?, "SELECT COUNT(*) FROM `load`.probes WHERE run='mixed'")?;
        expect(there.trim() == "20", &format!("all are there: {there}"))?;
        held(site, load, SHORT, "")
    });
}

#[test]
fn mariadb_with_two_domains() {
    mixed("mariadb-domains", MARIADB, "SET SESSION gtid_domain_id=7");
}

#[test]
fn mysql_with_tagged_gtids() {
    mixed("mysql-tags", MYSQL, "SET gtid_next='AUTOMATIC:tag'");
}
