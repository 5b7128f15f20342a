//! The page docs/workshop.md, followed to the letter or by its wizard, and what its visitors see when things are lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

use cluster_scenarios::workshop::{Drill, Drills, Kind, Workshop};
use lab::LabOptions;

/// Far above the figures, so that a machine that is busy with something else fails no test.
fn longest_ms(kind: Kind) -> f64 {
    match kind {
        Kind::Crash | Kind::Planned => 5_000.0,
        Kind::PowerCut => 15_000.0,
    }
}

#[test]
fn three_empty_servers_become_a_site_that_stays_up() {
    let options = LabOptions { name: "workshop-test".to_owned(), ..LabOptions::default() };
    let site = Workshop::up(options, |step| println!("{step}")).unwrap_or_else(|e| panic!("{e}"));
    stays_up(&site, &[Drill::KILL_MYSQL, Drill::MovePrimary("mysql"), Drill::MovePrimary("redis"), Drill::PowerCut("lxc1")], 50);
}

/// The fence devices are those that the wizard sets up: the power cut needs them.
#[test]
fn the_wizard_makes_the_same_site() {
    let options = LabOptions { name: "wizard-test".to_owned(), ..LabOptions::default() };
    let site = Workshop::up_by_wizard(options, |step| println!("{step}")).unwrap_or_else(|e| panic!("{e}"));
    stays_up(&site, &[Drill::MovePrimary("mysql"), Drill::PowerCut("lxc1")], 20);
}

/// Loses things while visitors write at least so many articles, none of which may be lost.
fn stays_up(site: &Workshop, losses: &[Drill], at_least: usize) {
    let run = || {
        let mut drills = Drills::begin(site)?;
        for drill in losses {
            drills.run(*drill)?;
        }
        drills.end()
    };
    let verdict = run().unwrap_or_else(|e| panic!("{e}\nlogs: {}", site.keep_logs()));
    println!("{}", verdict.table());
    for (database, report) in &verdict.reports {
        println!("{database}\n{report}");
    }
    let slow: Vec<_> = verdict.drills.iter().filter(|drill| drill.tally.writing_ms > longest_ms(drill.kind)).collect();
    assert!(verdict.kept() && slow.is_empty(), "{slow:?}\nlogs: {}", site.keep_logs());
    let articles: usize = verdict.drills.iter().map(|drill| drill.tally.articles).sum();
    assert!(articles > at_least, "only {articles} articles were written: nothing was tested");
}
