//! crm-snippets/: every file is loaded by both crmsh versions, held against the agents' meta-data, and simulated.
//!
//! Needs the lab's images and the installed agents; `make snippets` arranges it:
//!
//!     cargo build -p lab
//!     make install DESTDIR=$PWD/target/stage
//!     SYSTOLE_LAB_BIN=$PWD/target/debug/systole-lab SYSTOLE_STAGE=$PWD/target/stage cargo test -p snippets --test snippets
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
            let all = if name.starts_with("base") { vec![snippet] } else { vec![Snippet::of(BASE), snippet] };
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
