//! Cron jobs on one node.

use snippets::{Outcome, Snippet, Step};

use crate::{assert_taken, dying, files, on_every_image, scores, served};

/// Where the jobs run; they do run whatever is missing.
fn jobs(outcome: &Outcome) -> String {
    let on = outcome.nodes_of("site-cron");
    assert_eq!(on.len(), 1, "the jobs are on one node: {outcome:?}");
    on[0].to_owned()
}

#[test]
fn the_jobs_follow_the_public_address_and_run_without_it() {
    on_every_image(|bed| {
        let all = ["base.crm", "public-addresses.crm", "cron.crm", "cron-with-public-address.crm"];
        let back = Step { up: vec!["lxc1"], ..Step::default() };
        let rehearsal = bed.rehearse(&files(&all), &[Step::default(), dying(&["lxc1"]), back]);
        assert_taken(&rehearsal, "the jobs with the address");
        for (step, node) in rehearsal.steps.iter().zip(["lxc1", "lxc3", "lxc1"]) {
            assert_eq!((jobs(step).as_str(), step.nodes_of("public-ip-1")), (node, vec![node]));
            assert!(step.waits_for(("start", "site-cron"), ("start", "public-ip-1")), "the address is first");
        }
        let mut stopped = files(&all);
        stopped[1] = Snippet::of("public-addresses.crm").mutated(
            "meta failure-timeout=10min\nprimitive public-ip-2",
            "meta failure-timeout=10min target-role=Stopped\nprimitive public-ip-2",
        );
        let rehearsal = bed.rehearse(&stopped, &[Step::default()]);
        assert_eq!(rehearsal.steps[0].nodes_of("public-ip-1"), Vec::<&str>::new());
        jobs(&rehearsal.steps[0]);
    });
}

/// A stop waits up to a minute for jobs that run, and while it does nothing is planned anew.
#[test]
fn jobs_on_a_node_that_is_taken_out_end_after_the_promotions() {
    on_every_image(|bed| {
        let mut begin = scores("mysql");
        begin.scores.extend(scores("redis").scores);
        let on_lxc2 = Snippet { name: "jobs-on-lxc2.crm".into(), text: "location jobs-on-lxc2 site-cron 500: lxc2\n".into() };
        let out = Step { attributes: vec![("standby", "lxc2", "on")], ..Step::default() };
        let all = ["base.crm", "mysql.crm", "redis.crm", "cron.crm", "cron-with-databases.crm"];
        for (count, ordered) in [(5, true), (4, false)] {
            let loaded = [files(&all[..count]), vec![on_lxc2.clone()]].concat();
            let rehearsal = bed.rehearse(&loaded, &[begin.clone(), out.clone()]);
            assert_taken(&rehearsal, "jobs beside databases");
            assert_eq!(jobs(&rehearsal.steps[0]), "lxc2");
            let moved = &rehearsal.steps[1];
            for resource in ["mysql", "redis"] {
                assert!(!moved.promoted(resource).contains(&"lxc2") && moved.promoted(resource).len() == 1, "{resource} moves: {moved:?}");
                assert_eq!(moved.waits_for(("stop", "site-cron"), ("promote", resource)), ordered, "{resource}");
            }
            assert_ne!(jobs(moved), "lxc2");
        }
    });
}

#[test]
fn the_jobs_follow_the_primary_and_never_hold_it_up() {
    on_every_image(|bed| {
        let all = ["base.crm", "mysql.crm", "cron.crm", "cron-with-primary.crm"];
        let moved = Step { scores: vec![("mysql", "lxc2", -1_000_000)], ..Step::default() };
        let rehearsal = bed.rehearse(&files(&all), &[Step::default(), scores("mysql"), moved, dying(&["lxc1"])]);
        assert_taken(&rehearsal, "the jobs with the primary");
        jobs(&rehearsal.steps[0]);
        for (step, node) in rehearsal.steps[1..].iter().zip(["lxc2", "lxc1", "lxc3"]) {
            served(step, "mysql", node).unwrap();
            assert_eq!(jobs(step), node);
        }
        let moved = &rehearsal.steps[2];
        assert!(moved.waits_for(("start", "site-cron"), ("promote", "mysql")), "the promotion is first");
        for operation in ["demote", "promote"] {
            assert!(!moved.waits_for((operation, "mysql"), ("stop", "site-cron")), "{operation} does not wait for jobs that end");
        }
        // The same with an order that would make it wait, so that this test sees one.
        let mut waiting = files(&all);
        waiting[3] = Snippet::of(all[3]).mutated(" symmetrical=false", "").mutated("Optional:", "Mandatory:");
        let moved = Step { scores: vec![("mysql", "lxc2", -1_000_000)], ..Step::default() };
        let waiting = bed.rehearse(&waiting, &[scores("mysql"), moved]);
        assert!(waiting.steps[1].waits_for(("demote", "mysql"), ("stop", "site-cron")));
        // What the jobs prefer has no say in who is promoted, nor has where they cannot run. (Servers run before one is promoted.)
        let mut unwanted = files(&all);
        unwanted.push(Snippet { name: "not-on-lxc2.crm".into(), text: "location no-jobs site-cron -inf: lxc2\n".into() });
        let rehearsal = bed.rehearse(&unwanted, &[Step::default(), scores("mysql")]);
        assert_eq!(rehearsal.steps[1].promoted("mysql"), ["lxc2"]);
        assert_ne!(jobs(&rehearsal.steps[1]), "lxc2");
        let unwanted = unwanted.into_iter().map(|s| if s.name == "cron.crm" { s.mutated(" critical=false", "") } else { s });
        let rehearsal = bed.rehearse(&unwanted.collect::<Vec<_>>(), &[Step::default(), scores("mysql")]);
        assert_ne!(rehearsal.steps[1].promoted("mysql"), ["lxc2"], "without critical=false it would have: this test sees it");
    });
}
