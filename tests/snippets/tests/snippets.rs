//! crm-snippets/: every file is loaded by both crmsh versions, held against the agents' meta-data, and simulated.
//!
//! Needs the lab's images and systole's package; `make snippets` arranges it:
//!
//!     make stage
//!     SYSTOLE_LAB_BIN=$PWD/target/debug/systole-lab SYSTOLE_PACKAGE=$PWD/target/systole.deb cargo test -p snippets --test snippets
#![allow(missing_docs, reason = "tests")]

use snippets::{Bed, Outcome, Rehearsal, Snippet, Step, violations};

const BASE: &str = "base.crm";
const LABORATORY: &str = "base-laboratory-without-fencing.crm";

fn files(names: &[&str]) -> Vec<Snippet> {
    names.iter().map(|name| Snippet::of(name)).collect()
}

fn on_every_image(test: impl Fn(&Bed)) {
    for image in Bed::IMAGES {
        test(&Bed::new(image));
    }
}

fn assert_taken(rehearsal: &Rehearsal, what: &str) {
    assert!(rehearsal.all_loaded(), "{what} was refused: {}", rehearsal.said);
    assert_eq!(rehearsal.verified, 0, "{what}: crm_verify: {}", rehearsal.said);
}

/// Where the public addresses are after a step; what is wrong with it as a sentence.
fn apart(outcome: &Outcome, living: usize) -> Result<(), String> {
    let (one, two) = (outcome.nodes_of("public-ip-1"), outcome.nodes_of("public-ip-2"));
    if one.len() != 1 || two.len() != 1 {
        return Err(format!("public-ip-1 is on {one:?} and public-ip-2 on {two:?} of {living} nodes"));
    }
    if (one == two) != (living == 1) {
        return Err(format!("{living} nodes live: public-ip-1 is on {one:?}, public-ip-2 on {two:?}"));
    }
    Ok(())
}

/// One primary, its address with it, and started after the promotion.
fn served(outcome: &Outcome, resource: &str, node: &str) -> Result<(), String> {
    let address = format!("{resource}-ip");
    if outcome.promoted(resource) != [node] || outcome.nodes_of(&address) != [node] {
        return Err(format!(
            "{resource} is promoted on {:?} and {address} is on {:?}, not on {node}",
            outcome.promoted(resource),
            outcome.nodes_of(&address)
        ));
    }
    match (outcome.when("promote", resource), outcome.when("start", &address)) {
        (Some(promoted), Some(started)) if promoted < started => Ok(()),
        other => Err(format!("{address} starts before {resource} is promoted: {other:?}")),
    }
}

fn dying(nodes: &[&'static str]) -> Step {
    Step { dead: nodes.to_vec(), ..Step::default() }
}

/// Where the reader address is: on a readable node if there is one, and off the primary if another is readable.
fn reads(outcome: &Outcome, readable: &[&str]) -> Result<(), String> {
    let (on, primary) = (outcome.nodes_of("mysql-reader-ip"), outcome.promoted("mysql"));
    let replicas: Vec<&str> = readable.iter().copied().filter(|node| !primary.contains(node)).collect();
    let allowed = if replicas.is_empty() { readable.to_vec() } else { replicas };
    let fine = if allowed.is_empty() { on.is_empty() } else { on.len() == 1 && allowed.contains(&on[0]) };
    if fine { Ok(()) } else { Err(format!("readable are {readable:?}, the primary is on {primary:?}, the reader address on {on:?}")) }
}

/// What the agents publish when these can be read from.
fn readable(nodes: &[&str]) -> Vec<(&'static str, &'static str, &'static str)> {
    ["lxc1", "lxc2", "lxc3"].map(|node| ("readable", node, if nodes.contains(&node) { "1" } else { "0" })).into()
}

/// What the agents publish when lxc2 holds the most.
fn scores(resource: &'static str) -> Step {
    Step { scores: vec![(resource, "lxc1", 20), (resource, "lxc2", 100), (resource, "lxc3", 10)], ..Step::default() }
}

#[test]
fn each_file_loads_on_its_base_and_agrees_with_the_agents() {
    on_every_image(|bed| {
        for snippet in Snippet::all() {
            let name = snippet.name.clone();
            let all: Vec<Snippet> = snippet.needs().iter().map(|needed| Snippet::of(needed)).chain([snippet]).collect();
            let rehearsal = bed.rehearse(&all, &[]);
            assert_taken(&rehearsal, &name);
            assert_eq!(violations(&rehearsal.cib, &rehearsal.metadata), Vec::<String>::new(), "{name}");
            assert!(rehearsal.stable, "{name}: loading it again changes the configuration");
        }
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
            "primitive public-ip-1 ocf:heartbeat:IPaddr2 \\\n",
            "primitive public-ip-1 ocf:heartbeat:IPaddr2 \\\n    meta target-role=Stopped \\\n",
        );
        let rehearsal = bed.rehearse(&stopped, &[Step::default()]);
        assert_eq!(rehearsal.steps[0].nodes_of("public-ip-1"), Vec::<&str>::new());
        jobs(&rehearsal.steps[0]);
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

#[test]
fn a_public_address_is_where_the_web_server_runs() {
    on_every_image(|bed| {
        let all = [BASE, "public-addresses.crm", "web.crm"];
        let back = Step { up: vec!["lxc1"], ..Step::default() };
        let rehearsal = bed.rehearse(&files(&all), &[Step::default(), dying(&["lxc1"]), back, dying(&["lxc2", "lxc3"])]);
        assert_taken(&rehearsal, "web.crm");
        for (step, living) in rehearsal.steps.iter().zip([3, 2, 3, 1]) {
            apart(step, living).unwrap();
            assert_eq!((step.nodes_of("nginx").len(), step.nodes_of("php").len()), (living, living));
        }
        for address in ["public-ip-1", "public-ip-2"] {
            assert!(rehearsal.steps[0].waits_for(("start", address), ("start", "nginx")), "{address} comes after the web server");
        }
        assert_eq!(rehearsal.steps[1].nodes_of("public-ip-1"), ["lxc3"]);
        // A node whose web server is of no use has no address.
        let mut broken = files(&all);
        broken.push(Snippet { name: "no-web-on-lxc1.crm".into(), text: "location no-web web-clone -inf: lxc1\n".into() });
        let rehearsal = bed.rehearse(&broken, &[Step::default()]);
        assert_eq!(rehearsal.steps[0].nodes_of("public-ip-1"), ["lxc3"]);
    });
}

#[test]
fn a_node_that_is_taken_out_hands_over_its_roles_before_its_web_server_stops() {
    on_every_image(|bed| {
        let mut begin = scores("mysql");
        begin.scores.extend(scores("redis").scores);
        let out = Step { attributes: vec![("standby", "lxc2", "on")], ..Step::default() };
        let all = [BASE, "public-addresses.crm", "mysql.crm", "redis.crm", "web.crm", "web-with-databases.crm"];
        for (count, ordered) in [(6, true), (5, false)] {
            let rehearsal = bed.rehearse(&files(&all[..count]), &[begin.clone(), out.clone()]);
            assert_taken(&rehearsal, "the site");
            let moved = &rehearsal.steps[1];
            for resource in ["mysql", "redis"] {
                assert!(!moved.promoted(resource).contains(&"lxc2") && moved.promoted(resource).len() == 1, "{resource} moves: {moved:?}");
                assert_eq!(moved.waits_for(("stop", "nginx"), ("promote", resource)), ordered, "{resource}");
            }
            assert_eq!(moved.nodes_of("nginx"), ["lxc1", "lxc3"]);
        }
    });
}

#[test]
fn haproxy_runs_on_every_living_node_whatever_becomes_of_redis() {
    on_every_image(|bed| {
        let moved = Step { scores: vec![("redis", "lxc2", -1_000_000)], ..Step::default() };
        let steps = [Step::default(), scores("redis"), moved, dying(&["lxc1"]), dying(&["lxc3"])];
        let rehearsal = bed.rehearse(&files(&[BASE, "redis.crm", "haproxy.crm"]), &steps);
        assert_taken(&rehearsal, "haproxy.crm");
        for (number, (step, living)) in rehearsal.steps.iter().zip([3, 3, 3, 2, 1]).enumerate() {
            assert_eq!(step.nodes_of("haproxy").len(), living, "step {number}");
            // Lost with its node, it is taken for stopped without an action on it.
            assert_eq!(step.when("start", "haproxy").is_some(), number == 0, "step {number}: nothing of Redis restarts it");
        }
        served(&rehearsal.steps[1], "redis", "lxc2").unwrap();
        served(&rehearsal.steps[2], "redis", "lxc1").unwrap();
        // Neither waits for the other.
        assert!(!rehearsal.steps[0].waits_for(("start", "haproxy"), ("start", "redis")));
        assert!(!rehearsal.steps[0].waits_for(("start", "redis"), ("start", "haproxy")));
    });
}

#[test]
fn sentinel_instead_leaves_one_manager_however_it_is_loaded() {
    on_every_image(|bed| {
        // Over redis.crm, which was not taken away: our agent is gone, and the address has no place.
        let rehearsal = bed.rehearse(&files(&[BASE, "redis.crm", "redis-sentinel-instead.crm"]), &[Step::default()]);
        assert!(rehearsal.all_loaded() && rehearsal.verified == 0, "{}", rehearsal.said);
        let left = ["provider=\"systole\"", "name=\"promotable\""].iter().any(|word| rehearsal.cib.contains(word));
        assert!(!left, "{}", rehearsal.cib);
        let end = &rehearsal.steps[0];
        assert_eq!((end.nodes_of("redis").len(), end.nodes_of("sentinel").len()), (3, 3));
        assert_eq!((end.promoted("redis"), end.nodes_of("redis-ip")), (vec![], vec![]));
        // And back, without a thought for Sentinel: where the agent has said anything, no Sentinel runs.
        let back = files(&[BASE, "redis-sentinel-instead.crm", "redis.crm"]);
        let rehearsal = bed.rehearse(&back, &[Step::default(), scores("redis")]);
        assert!(rehearsal.all_loaded() && rehearsal.verified == 0, "{}", rehearsal.said);
        assert_eq!(rehearsal.steps[0].promoted("redis"), Vec::<&str>::new());
        served(&rehearsal.steps[1], "redis", "lxc2").unwrap();
        assert_eq!(rehearsal.steps[1].nodes_of("sentinel"), Vec::<&str>::new());
        // Without the guard there would be two managers: this test sees it.
        let mut unguarded = back;
        unguarded[1] = Snippet::of("redis-sentinel-instead.crm").mutated("defined master-redis", "defined nothing");
        assert_eq!(bed.rehearse(&unguarded, &[Step::default(), scores("redis")]).steps[1].nodes_of("sentinel").len(), 3);
    });
}

/// What the nodes of web.crm and their shared uploads are loaded on.
const SITE: [&str; 3] = [BASE, "public-addresses.crm", "web.crm"];

fn site_with(more: &[&str]) -> Vec<Snippet> {
    files(&[&SITE, more].concat())
}

/// The same with one file changed.
fn with(all: &[Snippet], file: &str, from: &str, to: &str) -> Vec<Snippet> {
    assert!(all.iter().any(|s| s.name == file), "{file} is not loaded: correct the test");
    all.iter().cloned().map(|s| if s.name == file { s.mutated(from, to) } else { s }).collect()
}

fn sorted(mut nodes: Vec<&str>) -> Vec<&str> {
    nodes.sort_unstable();
    nodes
}

/// The parts of the NFS server, in the order of their start.
const SERVER: [&str; 4] = ["uploads-disk", "uploads-nfsd", "uploads-export", "uploads-ip"];

/// The server is on one node as a whole, and each of these has its mount and its web server.
fn uploads(outcome: &Outcome, living: &[&str]) -> Result<String, String> {
    let places: Vec<Vec<&str>> = SERVER.iter().map(|part| outcome.nodes_of(part)).collect();
    if places.iter().any(|nodes| nodes.len() != 1 || nodes != &places[0]) {
        return Err(format!("{SERVER:?} are on {places:?}"));
    }
    mounted(outcome, living).map(|()| places[0][0].to_owned())
}

fn mounted(outcome: &Outcome, living: &[&str]) -> Result<(), String> {
    for resource in ["uploads", "php", "nginx"] {
        let on = sorted(outcome.nodes_of(resource));
        if on != living {
            return Err(format!("{resource} is on {on:?}, not on {living:?}"));
        }
    }
    Ok(())
}

/// Whether a step took away what visitors use. A node that died with it does not count.
fn interrupted(outcome: &Outcome) -> bool {
    ["uploads", "php", "nginx"].iter().any(|resource| outcome.when("stop", resource).is_some())
}

const ALL: [&str; 3] = ["lxc1", "lxc2", "lxc3"];

#[test]
fn the_nfs_server_moves_and_the_mounts_stay() {
    on_every_image(|bed| {
        let all = site_with(&["uploads-nfs.crm"]);
        let begin = bed.rehearse(&all, &[Step::default()]);
        assert_taken(&begin, "uploads-nfs.crm");
        let first: &'static str = ALL.into_iter().find(|n| begin.steps[0].nodes_of("uploads-ip") == [*n]).expect("it is somewhere");
        let next = ALL.into_iter().find(|n| *n != first).unwrap();
        let rest: Vec<&str> = ALL.into_iter().filter(|n| *n != first).collect();
        let moved = Step { moved: vec![("uploads-server", next)], ..Step::default() };
        let steps = [Step::default(), moved.clone(), dying(&[next]), Step { up: vec![next], ..Step::default() }];
        let rehearsal = bed.rehearse(&all, &steps);
        assert_eq!(uploads(&rehearsal.steps[0], &ALL).unwrap(), first);
        for pair in [["uploads-nfsd", "uploads-disk"], ["uploads-export", "uploads-nfsd"], ["uploads-ip", "uploads-export"]] {
            assert!(rehearsal.steps[0].waits_for(("start", pair[0]), ("start", pair[1])), "{} starts before {}", pair[0], pair[1]);
            assert!(rehearsal.steps[1].waits_for(("stop", pair[1]), ("stop", pair[0])), "{} stops before {}", pair[1], pair[0]);
        }
        assert!(rehearsal.steps[0].waits_for(("start", "uploads"), ("start", "uploads-ip")), "the first mount finds a server");
        assert!(rehearsal.steps[0].waits_for(("start", "php"), ("start", "uploads")), "the site starts with its uploads");
        // A planned move, and a power cut of the server: the others go on.
        assert_eq!(uploads(&rehearsal.steps[1], &ALL).unwrap(), next);
        assert!(!interrupted(&rehearsal.steps[1]), "a move takes mounts away: {:?}", rehearsal.steps[1]);
        let living: Vec<&str> = ALL.into_iter().filter(|n| *n != next).collect();
        assert_ne!(uploads(&rehearsal.steps[2], &living).unwrap(), next);
        assert_eq!(rehearsal.steps[2].fenced, [next], "whoever had the disk is switched off before it is mounted elsewhere");
        assert_eq!(rehearsal.steps[2].when("start", "uploads"), None);
        uploads(&rehearsal.steps[3], &ALL).unwrap();

        // The server's node is taken out: its own mount goes before the server does, and the web server before the mount.
        let out = Step { standby: vec![first], ..Step::default() };
        let standby = bed.rehearse(&all, &[Step::default(), out.clone()]);
        uploads(&standby.steps[1], &rest).unwrap();
        for part in SERVER {
            assert!(standby.steps[1].waits_for(("stop", part), ("stop", "uploads")), "{part} stops under a mount");
        }
        assert!(standby.steps[1].waits_for(("stop", "uploads"), ("stop", "nginx")), "the web server stops first");

        // What a mistake would do is seen.
        let order = "order uploads-after-server Optional: uploads-server uploads-clone\n";
        let loose = bed.rehearse(&with(&all, "uploads-nfs.crm", order, ""), &[Step::default(), out]);
        assert!(!loose.steps[1].waits_for(("stop", "uploads-ip"), ("stop", "uploads")), "without the order the server is gone first");
        let tight = with(&all, "uploads-nfs.crm", "after-server Optional:", "after-server Mandatory:");
        assert!(interrupted(&bed.rehearse(&tight, &[Step::default(), moved.clone()]).steps[1]), "Mandatory takes all mounts away");
        let turned = "uploads-server uploads-nfsd uploads-disk uploads-export";
        let turned = with(&all, "uploads-nfs.crm", "uploads-server uploads-disk uploads-nfsd uploads-export", turned);
        let turned = bed.rehearse(&turned, &[Step::default(), moved]);
        assert!(!turned.steps[1].waits_for(("stop", "uploads-disk"), ("stop", "uploads-nfsd")), "the disk is unmounted under the server");
        let free = with(&all, "uploads-nfs.crm", "order web-after-uploads inf: uploads-clone web-clone\n", "");
        assert!(!bed.rehearse(&free, &[Step::default()]).steps[0].waits_for(("start", "php"), ("start", "uploads")));
    });
}

#[test]
fn a_node_without_the_uploads_serves_no_site() {
    on_every_image(|bed| {
        for file in ["uploads-nfs.crm", "uploads-glusterfs.crm", "uploads-cephfs.crm"] {
            let mut all = site_with(&[file]);
            all.push(Snippet { name: "no-mount.crm".into(), text: "location no-mount uploads-clone -inf: lxc1\n".into() });
            let rehearsal = bed.rehearse(&all, &[Step::default()]);
            mounted(&rehearsal.steps[0], &["lxc2", "lxc3"]).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert_eq!(rehearsal.steps[0].nodes_of("public-ip-1"), ["lxc3"], "{file}");
            // The order of two interleaved clones keeps the site away as well, so both have to go.
            let loose = with(&all, file, "colocation web-with-uploads inf: web-clone uploads-clone\n", "");
            let loose = with(&loose, file, "order web-after-uploads inf: uploads-clone web-clone\n", "");
            let loose = bed.rehearse(&loose, &[Step::default()]);
            assert!(mounted(&loose.steps[0], &["lxc2", "lxc3"]).is_err(), "{file}: without the constraints it would");
        }
    });
}

#[test]
fn a_clustered_file_system_is_mounted_on_every_living_node() {
    on_every_image(|bed| {
        for file in ["uploads-glusterfs.crm", "uploads-cephfs.crm"] {
            let back = Step { up: vec!["lxc1"], ..Step::default() };
            let rehearsal = bed.rehearse(&site_with(&[file]), &[Step::default(), dying(&["lxc1"]), back, dying(&["lxc2", "lxc3"])]);
            assert_taken(&rehearsal, file);
            for (step, living) in rehearsal.steps.iter().zip([&ALL[..], &["lxc2", "lxc3"], &ALL, &["lxc1"]]) {
                mounted(step, living).unwrap_or_else(|e| panic!("{file}: {e}"));
                apart(step, living.len()).unwrap();
            }
            // The loss of one, and its return, are nothing to the others.
            assert!(!interrupted(&rehearsal.steps[1]) && !interrupted(&rehearsal.steps[2]), "{file}");
        }
        // One after the other loaded by mistake: the last one holds, and there is one mount.
        let rehearsal = bed.rehearse(&site_with(&["uploads-glusterfs.crm", "uploads-cephfs.crm"]), &[Step::default()]);
        assert!(rehearsal.all_loaded() && !rehearsal.cib.contains("value=\"glusterfs\""), "{}", rehearsal.cib);
        mounted(&rehearsal.steps[0], &ALL).unwrap();
    });
}

fn copies(one: i32, two: i32) -> Step {
    Step { scores: vec![("uploads-drbd", "lxc1", one), ("uploads-drbd", "lxc2", two)], ..Step::default() }
}

#[test]
fn the_nfs_server_is_where_drbd_is_primary() {
    on_every_image(|bed| {
        let all = site_with(&["uploads-nfs.crm", "uploads-drbd.crm"]);
        let out = Step { standby: vec!["lxc1"], ..Step::default() };
        let rehearsal = bed.rehearse(&all, &[Step::default(), copies(10000, 10000), out.clone(), Step::default()]);
        assert_taken(&rehearsal, "uploads-drbd.crm");
        assert_eq!(sorted(rehearsal.steps[0].nodes_of("uploads-drbd")), ["lxc1", "lxc2"], "lxc3 has no copy");
        // Nobody knows yet whose copy is good: nothing is mounted.
        assert_eq!(rehearsal.steps[0].nodes_of("uploads-disk"), Vec::<&str>::new());
        let first = rehearsal.steps[1].promoted("uploads-drbd")[0].to_owned();
        assert_eq!(uploads(&rehearsal.steps[1], &ALL).unwrap(), first);
        assert!(rehearsal.steps[1].waits_for(("start", "uploads-disk"), ("promote", "uploads-drbd")), "promoted, then mounted");

        // The primary's node dies: the other copy is promoted, and not before it was fenced.
        let begin = [Step::default(), copies(10000, 5000)];
        let lost = bed.rehearse(&all, &[&begin[..], &[dying(&["lxc1"])]].concat());
        assert_eq!(uploads(&lost.steps[1], &ALL).unwrap(), "lxc1");
        assert_eq!(uploads(&lost.steps[2], &["lxc2", "lxc3"]).unwrap(), "lxc2");
        assert_eq!(lost.steps[2].fenced, ["lxc1"]);
        // A copy that is old is never promoted, and lxc3 has none: the uploads wait.
        let both = bed.rehearse(&all, &[&begin[..], &[Step { dead: vec!["lxc1"], ..copies(-1_000_000, -1_000_000) }]].concat());
        assert_eq!(both.steps[2].promoted("uploads-drbd"), Vec::<&str>::new());
        assert_eq!(both.steps[2].nodes_of("uploads-disk"), Vec::<&str>::new());

        // Taken out: unmounted, then demoted.
        let standby = bed.rehearse(&all, &[&begin[..], std::slice::from_ref(&out)].concat());
        assert_eq!(uploads(&standby.steps[2], &["lxc2", "lxc3"]).unwrap(), "lxc2");
        assert!(standby.steps[2].waits_for(("demote", "uploads-drbd"), ("stop", "uploads-disk")), "demoted under a mount");
        assert!(standby.steps[2].waits_for(("stop", "uploads-disk"), ("stop", "uploads-nfsd")));

        // What a mistake would do is seen.
        let order = "inf: uploads-drbd-clone:promote uploads-server:start";
        let loose = with(&all, "uploads-drbd.crm", order, &format!("{order} symmetrical=false"));
        let loose = bed.rehearse(&loose, &[&begin[..], &[out]].concat());
        assert!(!loose.steps[2].waits_for(("demote", "uploads-drbd"), ("stop", "uploads-disk")), "it is demoted under a mount");
        let begin2 = [Step::default(), copies(5000, 10000)];
        let prefers = Snippet { name: "prefers.crm".into(), text: "location prefers uploads-server 50: lxc1\n".into() };
        let drawn = [all.clone(), vec![prefers]].concat();
        assert_eq!(uploads(&bed.rehearse(&drawn, &begin2).steps[1], &ALL).unwrap(), "lxc2", "a preference does not draw it away");
        let astray = with(&drawn, "uploads-drbd.crm", "uploads-drbd-clone:Promoted", "uploads-drbd-clone");
        assert_eq!(bed.rehearse(&astray, &begin2).steps[1].nodes_of("uploads-disk"), ["lxc1"], "mounted where DRBD is a replica");
        let third = with(&all, "uploads-drbd.crm", "location uploads-drbd-not-on-lxc3 uploads-drbd-clone -inf: lxc3\n", "");
        let third = bed.rehearse(&third, &[&begin[..], &[dying(&["lxc1"])]].concat());
        assert!(third.steps[2].nodes_of("uploads-drbd").contains(&"lxc3"), "DRBD is started where it has no disk");
        for (from, to, seen) in [
            (" notify=true", "", "lacks notify=true"),
            ("op promote timeout=90s interval=0 on-fail=demote", "op promote timeout=90s interval=0", "op promote of the promoted role"),
            ("op start timeout=240s", "op start timeout=60s", "timeout 60 s is less"),
            ("interval=20s timeout=20s role=Unpromoted", "interval=10s timeout=20s role=Unpromoted", "interval"),
        ] {
            let rehearsal = bed.rehearse(&with(&all, "uploads-drbd.crm", from, to), &[]);
            let complaints = format!("{}\n{}", rehearsal.said, violations(&rehearsal.cib, &rehearsal.metadata).join("\n"));
            assert!(complaints.contains(seen), "{to:?} in place of {from:?} is not found: {complaints}");
        }
    });
}

/// The base for two nodes, in a cluster of two.
#[test]
fn of_two_nodes_the_survivor_has_everything_after_the_fencing() {
    on_every_image(|bed| {
        let all = files(&["two-nodes.crm", "public-addresses.crm", "mysql.crm"]);
        let begin = Step { scores: vec![("mysql", "lxc1", 20), ("mysql", "lxc2", 100)], ..Step::default() };
        let back = Step { up: vec!["lxc2"], ..Step::default() };
        let rehearsal = bed.rehearse_on(&["lxc1", "lxc2"], &all, &[begin.clone(), dying(&["lxc2"]), back]);
        assert_taken(&rehearsal, "two-nodes.crm");
        assert_eq!(violations(&rehearsal.cib, &rehearsal.metadata), Vec::<String>::new());
        served(&rehearsal.steps[0], "mysql", "lxc2").unwrap();
        served(&rehearsal.steps[1], "mysql", "lxc1").unwrap();
        for (step, living) in rehearsal.steps.iter().zip([2, 1, 2]) {
            apart(step, living).unwrap();
        }
        assert_eq!(rehearsal.steps[1].fenced, ["lxc2"]);
        // Who has lost the other one and the quorum fences nobody, and stops.
        let lost = bed.rehearse_on(&["lxc1", "lxc2"], &all, &[begin.clone(), Step { no_quorum: true, ..dying(&["lxc1"]) }]);
        assert_eq!((lost.steps[1].fenced.len(), lost.steps[1].promoted("mysql").len()), (0, 0), "{:?}", lost.steps[1]);
        let ignoring = with(&all, "two-nodes.crm", "no-quorum-policy=stop", "no-quorum-policy=ignore");
        let lost = bed.rehearse_on(&["lxc1", "lxc2"], &ignoring, &[begin.clone(), Step { no_quorum: true, ..dying(&["lxc1"]) }]);
        assert_eq!(lost.steps[1].promoted("mysql"), ["lxc2"], "with ignore the smaller half goes on: this test sees it");
        // The node with the writers' address is fenced late, the other one at once.
        for (node, late) in [("lxc1", ""), ("lxc2", "15")] {
            let lost = bed.rehearse_on(&["lxc1", "lxc2"], &all, &[begin.clone(), dying(&[node])]);
            assert_eq!(lost.steps[1].delay, late, "{node}");
        }
        let even = with(&all, "two-nodes.crm", "    priority-fencing-delay=15s \\\n", "");
        let even = bed.rehearse_on(&["lxc1", "lxc2"], &even, &[begin, dying(&["lxc2"])]);
        assert_eq!(even.steps[1].delay, "", "without it nobody waits for the primary");
    });
}

/// What the probes publish: attribute, value on lxc1, lxc2, lxc3.
fn probed(name: &'static str, values: [&'static str; 3]) -> Step {
    Step { attributes: ALL.into_iter().zip(values).map(|(node, value)| (name, node, value)).collect(), ..Step::default() }
}

#[test]
fn public_addresses_go_where_the_way_out_works_and_stay_when_it_works_nowhere() {
    on_every_image(|bed| {
        for (file, name, good) in [("connectivity.crm", "pingd", "2"), ("bond.crm", "bond0-link", "1")] {
            let all = files(&[BASE, "public-addresses.crm", file]);
            let states: [([&'static str; 3], [&str; 2]); 7] = [
                ([good, good, good], ["lxc1", "lxc2"]),
                (["0", good, good], ["lxc3", "lxc2"]),
                // Back, and the address with it.
                ([good, good, good], ["lxc1", "lxc2"]),
                // One way out left: both addresses take it.
                (["0", good, "0"], ["lxc2", "lxc2"]),
                // None left: nothing moves.
                (["0", "0", "0"], ["lxc2", "lxc2"]),
                (["0", "0", good], ["lxc3", "lxc3"]),
                ([good, good, good], ["lxc1", "lxc2"]),
            ];
            let play = |all: &[Snippet]| {
                let steps: Vec<Step> = states.iter().map(|(values, _)| probed(name, *values)).collect();
                let rehearsal = bed.rehearse(all, &steps);
                let places: Vec<[Vec<String>; 2]> = rehearsal
                    .steps
                    .iter()
                    .map(|s| ["public-ip-1", "public-ip-2"].map(|ip| s.nodes_of(ip).into_iter().map(str::to_owned).collect()))
                    .collect();
                (rehearsal, places)
            };
            let (rehearsal, places) = play(&all);
            assert_taken(&rehearsal, file);
            for (number, (found, (values, wanted))) in places.iter().zip(&states).enumerate() {
                // With nobody connected they stay on a node each, or where they were.
                if number == 4 {
                    assert!(found.iter().all(|nodes| nodes.len() == 1), "{file}: nobody is connected: {found:?}");
                    continue;
                }
                assert_eq!(found, &wanted.map(|node| vec![node.to_owned()]), "{file}: {values:?}");
            }
            // Before the first probe there is nothing to go by, and the addresses are up.
            apart(&bed.rehearse(&all, &[Step::default()]).steps[0], 3).unwrap();
            // What a mistake would do is seen.
            let rule = if name == "pingd" { "rule 5000: pingd gt 0" } else { "rule 5000: bond0-link eq 1" };
            let strict = if name == "pingd" { "rule -inf: not_defined pingd or pingd lt 1" } else { "rule -inf: bond0-link ne 1" };
            let (_, places) = play(&with(&all, file, rule, strict));
            assert!(places[4].iter().all(Vec::is_empty), "{file}: -inf stops the site when nobody is connected: {:?}", places[4]);
            let (_, places) = play(&with(&all, file, "rule 5000:", "rule 500:"));
            assert_ne!(places[3], [["lxc2"], ["lxc2"]], "{file}: 500 keeps an address where nobody sees it");
        }
    });
}

#[test]
fn syncthing_pen_and_haproxy_alone_run_on_every_living_node() {
    on_every_image(|bed| {
        for (file, needed, resource) in [
            ("uploads-syncthing.crm", vec![BASE], "syncthing"),
            ("pen.crm", vec![BASE, "mysql.crm"], "pen"),
            // In front of TiDB, without redis.crm.
            ("haproxy.crm", vec![BASE], "haproxy"),
        ] {
            let all = files(&[needed, vec![file]].concat());
            let back = Step { up: vec!["lxc1"], ..Step::default() };
            let moved = Step { scores: vec![("mysql", "lxc2", -1_000_000)], ..Step::default() };
            let rehearsal = bed.rehearse(&all, &[scores("mysql"), moved, dying(&["lxc1"]), back]);
            assert_taken(&rehearsal, file);
            for (number, (step, living)) in rehearsal.steps.iter().zip([&ALL[..], &ALL, &["lxc2", "lxc3"], &ALL]).enumerate() {
                assert_eq!(sorted(step.nodes_of(resource)), living, "{file}: step {number}");
                assert_eq!(step.when("stop", resource), None, "{file}: step {number}: nothing of the servers restarts it");
            }
        }
        for (file, from, to, seen) in [
            ("uploads-syncthing.crm", "systemd:syncthing@wpsite", "\\\n    systemd:syncthin@wpsite", "no such resource agent"),
            ("pen.crm", " binfile=", " binary=", "binary"),
            ("connectivity.crm", " host_list=", " hosts=", "hosts"),
            ("bond.crm", "op monitor interval=10s timeout=60s", "op monitor interval=10s timeout=6s", "timeout 6 s is less"),
            ("uploads-nfs.crm", " clientspec=", " clients=", "clients"),
            ("uploads-nfs.crm", "OCF_CHECK_LEVEL=20", "OCF_CHEK_LEVEL=20", "OCF_CHEK_LEVEL"),
            ("two-nodes.crm", "pcmk_host_list=lxc1", "host_list=lxc1", "host_list"),
        ] {
            let broken = Snippet::of(file);
            let needed: Vec<Snippet> = broken.needs().iter().map(|name| Snippet::of(name)).collect();
            let all = [needed, vec![broken.mutated(from, to)]].concat();
            let rehearsal = bed.rehearse(&all, &[]);
            let complaints = format!("{}\n{}", rehearsal.said, violations(&rehearsal.cib, &rehearsal.metadata).join("\n"));
            assert!(complaints.contains(seen), "{file}: {to:?} in place of {from:?} is not found: {complaints}");
        }
    });
}

/// The server files that go with the recipes, read by the programs that they are for.
#[test]
fn haproxy_and_corosync_read_the_files_of_the_recipes() {
    on_every_image(|bed| {
        let haproxy = Snippet::server_file("haproxy-tidb.cfg");
        let check = "haproxy -c -f /srv/file";
        let (fine, said) = bed.reads(&haproxy, check);
        assert!(fine && !said.contains("WARNING"), "{said}");
        assert!(!bed.reads(&haproxy.replace("http-check expect", "http-check expct"), check).0);
        let corosync = Snippet::server_file("corosync-two-nodes.conf");
        // It wants a key, the names, and to be one of the nodes.
        let check = r"head -c 1024 /dev/zero > /etc/corosync/authkey; printf '192.0.2.11 lxc1\n192.0.2.12 lxc2\n' > /etc/hosts
            unshare -u sh -c 'hostname lxc1; exec corosync -c /srv/file -t'";
        let (begin, end) = corosync.split_once("    device {").expect("the section of the qdevice");
        let (_, end) = end.split_once("\n    }\n").expect("its end");
        for text in [corosync.clone(), format!("{begin}    two_node: 1\n    wait_for_all: 1\n{end}")] {
            let (fine, said) = bed.reads(&text, check);
            assert!(fine, "{said}");
        }
        assert!(!bed.reads(&corosync.replace("cipher: aes256", "cipher: aes25"), check).0);
    });
}

/// ProxySQL follows by its own checks: nothing that happens to the servers stops, moves or holds it up, nor it them.
#[test]
fn proxysql_runs_on_every_living_node_whatever_the_servers_do() {
    on_every_image(|bed| {
        let all = files(&["base.crm", "mysql.crm", "proxysql.crm"]);
        let moved = Step { scores: vec![("mysql", "lxc2", -1_000_000)], ..Step::default() };
        let back = Step { up: vec!["lxc1"], ..Step::default() };
        let nobody = Step {
            scores: ["lxc1", "lxc2", "lxc3"].map(|node| ("mysql", node, -1_000_000)).into(),
            attributes: readable(&[]),
            ..back.clone()
        };
        let rehearsal = bed.rehearse(&all, &[Step::default(), scores("mysql"), moved, dying(&["lxc1"]), back, nobody]);
        assert_taken(&rehearsal, "proxysql.crm");
        let living: [&[&str]; 6] = [
            &["lxc1", "lxc2", "lxc3"],
            &["lxc1", "lxc2", "lxc3"],
            &["lxc1", "lxc2", "lxc3"],
            &["lxc2", "lxc3"],
            &["lxc1", "lxc2", "lxc3"],
            &["lxc1", "lxc2", "lxc3"],
        ];
        for (number, (step, living)) in rehearsal.steps.iter().zip(living).enumerate() {
            let mut on = step.nodes_of("proxysql");
            on.sort_unstable();
            assert_eq!(on, living, "step {number}");
            if number != 3 {
                assert_eq!(step.when("stop", "proxysql"), None, "step {number}: {step:?}");
            }
        }
        for (number, primary) in [(1, Some("lxc2")), (2, Some("lxc1")), (3, Some("lxc3")), (5, None)] {
            assert_eq!(rehearsal.steps[number].promoted("mysql"), primary.into_iter().collect::<Vec<_>>(), "step {number}");
        }
        // All is stopped, and all is started: neither waits for the other.
        let start = &rehearsal.steps[0];
        assert!(!start.waits_for(("start", "proxysql"), ("start", "mysql")) && !start.waits_for(("start", "mysql"), ("start", "proxysql")));
        let lost = bed.rehearse(&all, &[scores("mysql"), Step { no_quorum: true, ..Step::default() }]);
        assert_eq!(lost.steps[1].nodes_of("proxysql"), Vec::<&str>::new());
    });
}

/// What the file proposes in its last comment.
#[test]
fn the_public_addresses_can_be_kept_where_proxysql_runs() {
    let snippet = Snippet::of("proxysql.crm");
    let proposed: String = snippet.text.lines().filter_map(|line| Some(line.strip_prefix("#     ")?.to_owned() + "\n")).collect();
    assert_eq!(proposed.matches("colocation ").count(), 2, "{proposed}");
    on_every_image(|bed| {
        let mut all = files(&["base.crm", "public-addresses.crm", "mysql.crm", "proxysql.crm"]);
        let stopped = Snippet { name: "not-on-lxc1.crm".into(), text: "location no-proxysql proxysql-clone -inf: lxc1\n".into() };
        all.push(Snippet { name: "with-proxysql.crm".into(), text: proposed.clone() });
        let rehearsal = bed.rehearse(&all, &[Step::default()]);
        assert_taken(&rehearsal, "the colocations");
        assert_eq!((rehearsal.steps[0].nodes_of("public-ip-1"), rehearsal.steps[0].nodes_of("public-ip-2")), (vec!["lxc1"], vec!["lxc2"]));
        all.push(stopped);
        let rehearsal = bed.rehearse(&all, &[Step::default(), dying(&["lxc3"])]);
        apart(&rehearsal.steps[0], 3).unwrap();
        assert_eq!(rehearsal.steps[0].nodes_of("public-ip-1"), ["lxc3"]);
        assert_eq!((rehearsal.steps[1].nodes_of("public-ip-1"), rehearsal.steps[1].nodes_of("public-ip-2")), (vec!["lxc2"], vec!["lxc2"]));
    });
}

/// proxysql.sql as it is loaded: without its comments. With the option at its end, that also.
fn proxysql_sql(with_the_option: bool) -> String {
    let text = Snippet::server_file("proxysql.sql");
    let lines = text.lines().map(|line| {
        let option = ["-- DELETE", "-- INSERT", "--     (", "-- LOAD", "-- SAVE"].iter().any(|begin| line.starts_with(begin));
        if with_the_option && option { &line[3..] } else { line }
    });
    lines.filter(|line| !line.starts_with("--")).map(|line| format!("{line}\n")).collect()
}

/// ProxySQL is not here; its tables are.
#[test]
fn proxysql_sql_fits_the_tables_that_it_is_for() {
    let bed = Bed::new("debian12");
    let wrong =
        |sql: &str| -> Vec<String> { bed.administer(sql, "SELECT 1").into_iter().filter(|line| line.starts_with("wrong:")).collect() };
    // It can be loaded again.
    for sql in [proxysql_sql(false), proxysql_sql(true), proxysql_sql(true).repeat(2)] {
        assert_eq!(wrong(&sql), Vec::<String>::new());
    }
    // What belongs together. Nobody is written to before he was asked.
    let ask = |question: &str| bed.administer(&proxysql_sql(false), question).join("\n");
    let value = |name: &str| -> i64 {
        let value = ask(&format!("SELECT variable_value FROM global_variables WHERE variable_name = '{name}'"));
        value.parse().unwrap_or_else(|e| panic!("{name}: {value}: {e}"))
    };
    let groups = "JOIN mysql_replication_hostgroups ON hostgroup_id =";
    assert_eq!(ask(&format!("SELECT hostname FROM mysql_servers {groups} reader_hostgroup")), "lxc1\nlxc2\nlxc3");
    assert_eq!(ask(&format!("SELECT hostname FROM mysql_servers {groups} writer_hostgroup")), "");
    assert_eq!(ask("SELECT default_hostgroup - writer_hostgroup FROM mysql_users, mysql_replication_hostgroups"), "0");
    // A replica that does not replicate is too far behind; three proxies and both groups fit into what a server takes.
    assert!(ask("SELECT MAX(max_replication_lag) FROM mysql_servers").parse::<i64>().unwrap() < value("mysql-monitor_slave_lag_when_null"));
    assert!(ask("SELECT MAX(max_connections) * 6 FROM mysql_servers").parse::<i64>().unwrap() < 151);
    // A failover takes no replica for one that does not replicate.
    assert!(value("mysql-monitor_replication_lag_interval") * (value("mysql-monitor_replication_lag_count") - 1) >= 5000);
    // Only reads are sent again.
    assert_eq!(value("mysql-query_retries_on_failure"), 0);
    assert_eq!(ask("SELECT match_digest FROM mysql_query_rules WHERE retries > 0"), "^SELECT");
    // A check ends before the next one. A server that was shunned is tried again before its clients have given up.
    assert!(value("mysql-monitor_read_only_timeout") <= value("mysql-monitor_read_only_interval"));
    assert!(value("mysql-shun_recovery_time_sec") * 1000 < value("mysql-connect_timeout_server_max"));
    // Each of these is found.
    for (from, to, seen) in [
        ("max_replication_lag, max", "max_replica_lag, max", "no column named max_replica_lag"),
        ("'read_only', 'mysql", "'readonly', 'mysql", "CHECK constraint failed"),
        ("mysql-monitor_read_only_interval", "mysql-monitor_readonly_interval", "0 rows changed"),
        ("SET variable_value = '300'", "SET variable_value = '30'", "beyond its bounds"),
        ("SET variable_value = '300'", "SET variable_value = '300 ms'", "beyond its bounds"),
        ("LOAD MYSQL SERVERS TO RUNTIME", "LOAD MYSQL SERVER TO RUNTIME", "no such command"),
        ("LOAD ADMIN VARIABLES TO RUNTIME;", "LOAD ADMIN VARIABLES TO RUNTIME", "not ended"),
    ] {
        let sql = proxysql_sql(true);
        assert!(sql.contains(from), "{from}: correct the test");
        let found = wrong(&sql.replace(from, to)).join("\n");
        assert!(found.contains(seen), "{to:?} in place of {from:?} is not found: {found}");
    }
}

/// Why the rule that keeps readers off the primary is a weak one: Pacemaker 3 lets it decide whom to promote as well.
#[test]
fn a_strong_rule_for_readers_would_move_the_primary() {
    let strong = Snippet::of("mysql.crm")
        .mutated("off-primary -5:", "off-primary -1000:")
        .mutated("    meta resource-stickiness=1 critical=false \\\n", "");
    let scores = vec![("mysql", "lxc1", 100), ("mysql", "lxc2", 1000), ("mysql", "lxc3", 100)];
    let begin = Step { attributes: readable(&["lxc1", "lxc2", "lxc3"]), scores, ..Step::default() };
    let behind = Step { attributes: readable(&["lxc2"]), ..Step::default() };
    let rehearsal = Bed::new("debian13").rehearse(&[Snippet::of(BASE), strong], &[begin, behind]);
    assert_eq!(rehearsal.steps[0].promoted("mysql"), ["lxc2"]);
    assert_ne!(rehearsal.steps[1].promoted("mysql"), ["lxc2"]);
}

/// The checks above are worth something only if they see what is wrong.
#[test]
fn broken_snippets_are_found() {
    on_every_image(|bed| {
        for (from, to, seen) in [
            (" durability=async", " durabilty=async", "durabilty"),
            ("op start timeout=120s", "op start timeout=30s", "timeout 30 s is less"),
            ("    op stop timeout=60s interval=0 \\\n", "", "op stop is missing"),
            (" notify=true", "", "lacks notify=true"),
            ("interval=11s", "interval=10s", "interval"),
            ("role=Promoted on-fail=demote", "role=Promoted", "op monitor of the promoted role lacks on-fail=demote"),
            ("interval=0 on-fail=demote", "interval=0", "op promote of the promoted role lacks on-fail=demote"),
            ("role=Unpromoted", "role=Unpromoted target-role=Started", "target-role"),
        ] {
            let rehearsal = bed.rehearse(&[Snippet::of(BASE), Snippet::of("redis.crm").mutated(from, to)], &[]);
            let complaints = format!("{}\n{}", rehearsal.said, violations(&rehearsal.cib, &rehearsal.metadata).join("\n"));
            assert!(complaints.contains(seen), "{to:?} in place of {from:?} is not found: {complaints}");
        }
        for (from, to, seen) in [
            (" replication_user=", " replication_usr=", "replication_usr"),
            ("op start timeout=300s", "op start timeout=60s", "timeout 60 s is less"),
            ("op promote timeout=300s", "op promote timeout=30s", "timeout 30 s is less"),
            ("    op demote timeout=60s interval=0 \\\n", "", "op demote is missing"),
            ("    op notify timeout=30s interval=0 \\\n", "", "op notify is missing"),
            (" notify=true", "", "lacks notify=true"),
            (" interleave=true", "", "lacks interleave=true"),
            ("interval=11s", "interval=10s", "interval"),
            ("role=Promoted on-fail=demote", "role=Promoted", "op monitor of the promoted role lacks on-fail=demote"),
            ("interval=0 on-fail=demote", "interval=0", "op promote of the promoted role lacks on-fail=demote"),
            ("role=Unpromoted", "role=Unpromoted target-role=Started", "target-role"),
        ] {
            let rehearsal = bed.rehearse(&[Snippet::of(BASE), Snippet::of("mysql.crm").mutated(from, to)], &[]);
            let complaints = format!("{}\n{}", rehearsal.said, violations(&rehearsal.cib, &rehearsal.metadata).join("\n"));
            assert!(complaints.contains(seen), "{to:?} in place of {from:?} is not found: {complaints}");
        }
        for (from, to, seen) in [
            // On a line of its own, where the bed does not look for agents whose meta-data it has to ask for.
            ("systemd:proxysql", "\\\n    systemd:proxysq", "systemd:proxysq: no such resource agent"),
            ("op start timeout=100s", "op start timeout=20s", "timeout 20 s is less"),
            ("    op monitor interval=10s timeout=100s \\\n", "", "nothing monitors it"),
        ] {
            let rehearsal = bed.rehearse(&[Snippet::of(BASE), Snippet::of("proxysql.crm").mutated(from, to)], &[]);
            let complaints = format!("{}\n{}", rehearsal.said, violations(&rehearsal.cib, &rehearsal.metadata).join("\n"));
            assert!(complaints.contains(seen), "{to:?} in place of {from:?} is not found: {complaints}");
        }
        let placed = |from: &str, to: &str, readable_nodes: &[&str]| {
            let step = Step { attributes: readable(readable_nodes), ..scores("mysql") };
            let alone = [dying(&["lxc1"]), dying(&["lxc3"])];
            let steps: Vec<Step> = std::iter::once(step).chain(alone).collect();
            bed.rehearse(&[Snippet::of(BASE), Snippet::of("mysql.crm").mutated(from, to)], &steps)
        };
        let early = placed("mysql-clone:promote mysql-ip:start", "mysql-ip:start mysql-clone:promote", &[]);
        assert!(served(&early.steps[0], "mysql", "lxc2").is_err(), "the address is up before the promotion");
        let astray = placed("mysql-ip-with-primary inf:", "mysql-ip-with-primary -inf:", &[]);
        assert!(served(&astray.steps[0], "mysql", "lxc2").is_err(), "the address is off the primary");
        let unread = placed(" or readable ne 1", "", &["lxc3"]);
        let anywhere = unread.steps.iter().zip([&["lxc3"][..], &["lxc3"], &[]]).any(|(step, nodes)| reads(step, nodes).is_err());
        assert!(anywhere, "readers get what is not readable");
        let clinging = placed("off-primary -5:", "off-primary 1000:", &["lxc1", "lxc2", "lxc3"]);
        assert!(reads(&clinging.steps[0], &["lxc1", "lxc2", "lxc3"]).is_err(), "readers get the primary");
        let glued = placed("off-primary -5:", "off-primary -inf:", &["lxc1", "lxc2", "lxc3"]);
        assert!(reads(&glued.steps[2], &["lxc2"]).is_err(), "-inf leaves readers without an address on the last node");
        let glued = Snippet::of("public-addresses.crm").mutated("apart -1000:", "apart -inf:");
        let rehearsal = bed.rehearse(&[Snippet::of(BASE), glued], &[Step::default(), dying(&["lxc3"]), dying(&["lxc2"])]);
        assert!(apart(&rehearsal.steps[2], 1).is_err(), "-inf leaves an address without a place on the last node");
        let early = Snippet::of("redis.crm").mutated("redis-clone:promote redis-ip:start", "redis-ip:start redis-clone:promote");
        let rehearsal = bed.rehearse(&[Snippet::of(BASE), early], &[scores("redis")]);
        assert!(served(&rehearsal.steps[0], "redis", "lxc2").is_err(), "the address is up before the promotion");
    });
}

/// What needs no image: the text itself.
#[test]
fn the_texts_keep_the_rules() {
    for Snippet { name, text } in Snippet::all() {
        assert!(text.starts_with('#') && text.contains("crm configure load update"), "{name}: what it is, and how to load it");
        for (number, line) in text.lines().enumerate() {
            let at = format!("{name}:{}: {line}", number + 1);
            assert!(line.len() <= 132 && line.trim_end() == line, "{at}: too long, or blanks at the end");
            if let Some(comment) = line.strip_prefix('#') {
                // crmsh writes comments into the CIB, where XML forbids this.
                assert!(!comment.contains("--") && !comment.ends_with('-'), "{at}: crmsh refuses such a comment");
                continue;
            }
            assert!(!line.starts_with("ms "), "{at}: Pacemaker 3 has no ms");
            if line.starts_with("property ") {
                assert!(line.starts_with("property cib-bootstrap-options:"), "{at}: the set is not named");
            }
            for secret in ["password=", "passwd="] {
                assert!(!line.contains(secret), "{at}: no secrets in the CIB");
            }
            for word in line.split([' ', '=']) {
                let octets: Vec<&str> = word.split('.').collect();
                if octets.len() == 4 && octets.iter().all(|o| o.parse::<u8>().is_ok()) {
                    let documentation = ["192.0.2.", "198.51.100.", "203.0.113."].iter().any(|net| word.starts_with(net));
                    assert!(documentation, "{at}: {word} is somebody's address");
                }
            }
        }
        assert!(!text.contains("no-quorum-policy=ignore \\"), "{name}");
    }
}
