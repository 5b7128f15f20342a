//! A new version of systole on a site that is in use, as docs/install.md has it done: node by node, by apt.

use std::time::Duration;

use cluster_scenarios::workshop::{Drill, Drills, Upgrade, Workshop, scenario};
use cluster_scenarios::{old_package, package};
use lab::VisitOptions;

/// Until cron's next minute, or the one after it.
const NEXT_RUN: Duration = Duration::from_secs(150);

#[test]
fn an_upgrade_under_load_touches_nothing_that_runs() {
    let (old, new) = (old_package().unwrap(), package().unwrap());
    let up = |options| Workshop::with_package(&old, options, |step| println!("{step}"));
    scenario("upgrade", up, 50, |site| {
        // Few visitors, so that a slow machine bears them: the writers past the site are the ones that notice every pause.
        let mut drills = Drills::with(site, &VisitOptions { articles: 1, readings: 1, ..site.visit_options() })?;
        let jobs = site.jobs_run("", NEXT_RUN)?;
        drills.upgrade(&new, Upgrade::InPlace)?;
        // With the programs that came while everything ran.
        for drill in [Drill::KILL_MYSQL, Drill::KILL_REDIS, Drill::MovePrimary("mysql"), Drill::MovePrimary("redis")] {
            drills.run(drill)?;
        }
        drills.upgrade(&old, Upgrade::Back)?;
        drills.upgrade(&new, Upgrade::OnStandby)?;
        for drill in [Drill::KILL_MYSQL, Drill::KILL_REDIS] {
            drills.run(drill)?;
        }
        site.jobs_run(&jobs, NEXT_RUN)?;
        Ok(drills)
    });
}
