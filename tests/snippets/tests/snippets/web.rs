//! Web servers, and what stands between them and Redis.

use snippets::{Snippet, Step};

use crate::{BASE, apart, assert_taken, dying, files, on_every_image, scores, served};

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
        let left = ["type=\"redis\"", "name=\"promotable\""].iter().any(|word| rehearsal.cib.contains(word));
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
