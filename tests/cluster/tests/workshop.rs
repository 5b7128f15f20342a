//! The page docs/workshop.md, followed to the letter, and what its visitors see when things are lost.

#![allow(clippy::unwrap_used, reason = "a test says what it saw by panicking")]

use cluster_scenarios::package;
use cluster_scenarios::workshop::{Drill, Drills, scenario};

#[test]
fn three_empty_servers_become_a_site_that_stays_up() {
    scenario("workshop-test", &package().unwrap(), |site| {
        let mut drills = Drills::begin(site)?;
        for drill in [Drill::KILL_MYSQL, Drill::MovePrimary("mysql"), Drill::MovePrimary("redis"), Drill::PowerCut("lxc1")] {
            drills.run(drill)?;
        }
        Ok(drills)
    });
}
