//! The page docs/workshop.md, followed to the letter or by its wizard, and what its visitors see when things are lost.

use cluster_scenarios::workshop::{Drill, Drills, Workshop, scenario};
use lab::VisitOptions;

/// Few, and enough to see what is lost: several labs share the processors, and each request is WordPress as a whole.
fn visitors(site: &Workshop) -> VisitOptions {
    VisitOptions { articles: 1, readings: 1, ..site.visit_options() }
}

fn say(step: &str) {
    println!("{step}");
}

#[test]
fn three_empty_servers_become_a_site_that_stays_up() {
    scenario(
        "workshop-test",
        |options| Workshop::up(options, say),
        20,
        |site| {
            let mut drills = Drills::with(site, &visitors(site))?;
            for drill in
                [Drill::KILL_MYSQL, Drill::KILL_REDIS, Drill::MovePrimary("mysql"), Drill::MovePrimary("redis"), Drill::PowerCut("lxc1")]
            {
                drills.run(drill)?;
            }
            Ok(drills)
        },
    );
}

/// The fence devices are those that the wizard sets up: the power cut needs them.
#[test]
fn the_wizard_makes_the_same_site() {
    scenario(
        "wizard-test",
        |options| Workshop::up_by_wizard(options, say),
        20,
        |site| {
            let mut drills = Drills::with(site, &visitors(site))?;
            for drill in [Drill::MovePrimary("mysql"), Drill::PowerCut("lxc1")] {
                drills.run(drill)?;
            }
            Ok(drills)
        },
    );
}
