//! Shared storage for the uploads.

use snippets::{Outcome, Snippet, Step, violations};

use crate::{ALL, apart, assert_taken, dying, on_every_image, site_with, sorted, with};

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
