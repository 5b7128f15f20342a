//! Base, public addresses, the databases and their addresses.

use snippets::{Snippet, Step, violations};

use crate::{BASE, LABORATORY, apart, assert_taken, dying, files, on_every_image, readable, reads, scores, served};

#[test]
fn each_file_loads_on_its_base_and_agrees_with_the_agents() {
    on_every_image(|bed| {
        for snippet in Snippet::all() {
            let name = snippet.name.clone();
            let all: Vec<Snippet> = snippet.needs().iter().map(|needed| Snippet::of(needed)).chain([snippet]).collect();
            let rehearsal = bed.rehearse(&all, &[]);
            assert_taken(&rehearsal, &name);
            assert_eq!(violations(&rehearsal.cib, &rehearsal.metadata), Vec::<String>::new(), "{name}");
            assert!(bed.loads_again(&all), "{name}: loading it again changes the configuration");
        }
        // crmsh keeps of what is there what an update does not name, so that these two do not leave each other alone.
        let both = files(&[BASE, "redis-sentinel-instead.crm", "redis.crm"]);
        assert!(!bed.loads_again(&both), "what changes the configuration is not seen");
    });
}

#[test]
fn base_then_addresses_then_redis_load_and_take_their_places() {
    on_every_image(|bed| {
        let rehearsal = bed.rehearse(&files(&[BASE, "public-addresses.crm", "redis.crm"]), &[scores("redis")]);
        assert_taken(&rehearsal, "the three together");
        let end = &rehearsal.steps[0];
        served(end, "redis", "lxc2").unwrap();
        apart(end, 3).unwrap();
        assert_eq!((end.nodes_of("public-ip-1"), end.nodes_of("public-ip-2")), (vec!["lxc1"], vec!["lxc2"]));
        assert_eq!(end.nodes_of("redis").len(), 3);
        for (device, node) in [("fence-lxc1", "lxc1"), ("fence-lxc2", "lxc2"), ("fence-lxc3", "lxc3")] {
            let on = end.nodes_of(device);
            assert!(on.len() == 1 && on[0] != node, "{device} is watched by {on:?}");
        }
    });
}

#[test]
fn fencing_without_a_device_is_refused_and_nothing_is_applied() {
    on_every_image(|bed| {
        let mut bare = Snippet::of(BASE);
        let kept = bare.text.split("\n# No power switches?").nth(1).expect("the properties come last").to_owned();
        bare.text = format!("primitive dummy ocf:pacemaker:Dummy op monitor interval=10s timeout=20s\n# No power switches?{kept}");
        let rehearsal = bed.rehearse(&[bare], &[]);
        assert_ne!(rehearsal.loaded, [0], "{}", rehearsal.said);
        assert!(rehearsal.said.contains("no STONITH resources") || rehearsal.said.contains("stonith"), "{}", rehearsal.said);
        assert!(!rehearsal.cib.contains("dummy"), "a part of a refused file was applied: {}", rehearsal.cib);
    });
}

#[test]
fn two_addresses_are_apart_while_two_nodes_live_and_together_on_the_last() {
    on_every_image(|bed| {
        for base in [BASE, LABORATORY] {
            let steps =
                [Step::default(), dying(&["lxc1"]), Step { up: vec!["lxc1"], ..Step::default() }, dying(&["lxc3"]), dying(&["lxc2"])];
            let rehearsal = bed.rehearse(&files(&[base, "public-addresses.crm"]), &steps);
            assert_taken(&rehearsal, base);
            for (step, living) in rehearsal.steps.iter().zip([3, 2, 3, 2, 1]) {
                apart(step, living).unwrap();
            }
            // The spare takes over, and gives back.
            assert_eq!(rehearsal.steps[1].nodes_of("public-ip-1"), ["lxc3"]);
            assert_eq!(rehearsal.steps[2].nodes_of("public-ip-1"), ["lxc1"]);
            assert_eq!(rehearsal.steps[1].fenced.is_empty(), base == LABORATORY, "fencing in {base}");
        }
    });
}

#[test]
fn the_address_follows_the_primary() {
    on_every_image(|bed| {
        for (file, resource) in [("redis.crm", "redis"), ("valkey.crm", "valkey"), ("mysql.crm", "mysql")] {
            let moved = Step { scores: vec![(resource, "lxc2", -1_000_000)], ..Step::default() };
            let rehearsal = bed.rehearse(&files(&[BASE, file]), &[scores(resource), moved, dying(&["lxc1"])]);
            assert_taken(&rehearsal, file);
            served(&rehearsal.steps[0], resource, "lxc2").unwrap();
            // The watcher lowered the score: the successor is promoted, and the old instance is not stopped before.
            let moved = &rehearsal.steps[1];
            served(moved, resource, "lxc1").unwrap();
            assert!(moved.when("demote", resource) < moved.when("promote", resource), "{moved:?}");
            let address = format!("{resource}-ip");
            assert!(!moved.waits_for(("demote", resource), ("stop", &address)), "the demotion does not wait for its address");
            assert_eq!(moved.when("stop", resource), None, "{moved:?}");
            served(&rehearsal.steps[2], resource, "lxc3").unwrap();
        }
    });
}

#[test]
fn without_scores_nothing_is_promoted_and_the_address_is_nowhere() {
    on_every_image(|bed| {
        let rehearsal = bed.rehearse(&files(&[BASE, "redis.crm", "mysql.crm"]), &[Step::default()]);
        for resource in ["redis", "mysql"] {
            assert_eq!(rehearsal.steps[0].promoted(resource), Vec::<&str>::new());
            assert_eq!(rehearsal.steps[0].nodes_of(&format!("{resource}-ip")), Vec::<&str>::new());
        }
        // Nobody has said yet that it can be read from.
        reads(&rehearsal.steps[0], &[]).unwrap();
    });
}

#[test]
fn readers_get_a_readable_replica_and_the_primary_only_when_there_is_none() {
    on_every_image(|bed| {
        let all = ["lxc1", "lxc2", "lxc3"];
        let states: [(Step, &[&str]); 8] = [
            (
                Step {
                    attributes: readable(&all),
                    scores: vec![("mysql", "lxc1", 100), ("mysql", "lxc2", 1000), ("mysql", "lxc3", 100)],
                    ..Step::default()
                },
                &all,
            ),
            // Both replicas fall behind, one comes back.
            (Step { attributes: readable(&["lxc2"]), ..Step::default() }, &["lxc2"]),
            (Step { attributes: readable(&["lxc2", "lxc3"]), ..Step::default() }, &["lxc2", "lxc3"]),
            // The replica that is read from becomes the primary.
            (Step { scores: vec![("mysql", "lxc2", 100), ("mysql", "lxc3", 1000)], ..Step::default() }, &["lxc2", "lxc3"]),
            (Step { attributes: readable(&[]), ..Step::default() }, &[]),
            (Step { attributes: readable(&all), ..Step::default() }, &all),
            // The primary is left alone.
            (dying(&["lxc1"]), &["lxc2", "lxc3"]),
            (dying(&["lxc2"]), &["lxc3"]),
        ];
        let steps: Vec<Step> = states.iter().map(|(step, _)| step.clone()).collect();
        let rehearsal = bed.rehearse(&files(&[BASE, "mysql.crm"]), &steps);
        assert_taken(&rehearsal, "mysql.crm");
        served(&rehearsal.steps[0], "mysql", "lxc2").unwrap();
        served(&rehearsal.steps[3], "mysql", "lxc3").unwrap();
        for (number, (outcome, (_, readable))) in rehearsal.steps.iter().zip(&states).enumerate() {
            reads(outcome, readable).unwrap_or_else(|e| panic!("step {number}: {e}"));
            // Where readers go never moves the primary.
            let primary = if number < 3 { "lxc2" } else { "lxc3" };
            assert_eq!(outcome.promoted("mysql"), [primary], "step {number}");
        }
    });
}

#[test]
fn without_quorum_nothing_starts_and_what_ran_is_stopped() {
    on_every_image(|bed| {
        for base in [BASE, LABORATORY] {
            let all = files(&[base, "public-addresses.crm", "redis.crm", "mysql.crm"]);
            let mut begin = scores("redis");
            begin.scores.extend(scores("mysql").scores);
            begin.attributes = readable(&["lxc1", "lxc2", "lxc3"]);
            let never = bed.rehearse(&all, &[Step { no_quorum: true, ..begin.clone() }]);
            assert_eq!(never.steps[0].began(), Vec::<&str>::new(), "{base}");
            let lost = bed.rehearse(&all, &[begin, Step { no_quorum: true, ..Step::default() }]);
            for resource in ["redis", "mysql"] {
                served(&lost.steps[0], resource, "lxc2").unwrap();
                assert_eq!(lost.steps[1].promoted(resource), Vec::<&str>::new(), "{base}");
            }
            for resource in ["redis", "redis-ip", "mysql", "mysql-ip", "mysql-reader-ip", "public-ip-1", "public-ip-2"] {
                assert_eq!(lost.steps[1].nodes_of(resource), Vec::<&str>::new(), "{base}: {resource}");
            }
        }
    });
}
