//! What an acknowledged write is worth, changed in operation.

use std::time::Duration;

use cluster_scenarios::{MARIADB, MYSQL, Server, Setup, expect, held, scenario};

use super::RETURN;

fn changed(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        let load = site.load()?;
        let pids = || -> Vec<i32> { site.lab.nodes().iter().flat_map(|n| n.pids(server.process)).collect() };
        let before = pids();
        for durability in ["async-allowed", "lossless"] {
            site.lab.crm(&format!("resource param mysql set durability {durability}"))?;
            site.lab.wait_for(&format!("a record with {durability}"), RETURN, || {
                site.record().is_ok_and(|r| r.contains(&format!("durability={durability}")))
            })?;
        }
        site.wait_settled()?;
        expect(pids() == before, "no server was restarted")?;
        held(site, load, Duration::from_secs(2), "")
    });
}

#[test]
fn mariadb_durability_changed() {
    changed("mariadb-durability", MARIADB);
}

#[test]
fn mysql_durability_changed() {
    changed("mysql-durability", MYSQL);
}
