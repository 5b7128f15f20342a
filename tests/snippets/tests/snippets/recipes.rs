//! Two nodes, a way out that fails, and the recipes beside the workshop.

use snippets::{Bed, Snippet, Step, violations};

use crate::{ALL, BASE, apart, assert_taken, dying, files, on_every_image, on_the_newest_image, scores, served, sorted, with};

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
            // Without fence devices on them the nodes are equals, and nothing but what the file says sends an address to the spare.
            let all = files(&["base-laboratory-without-fencing.crm", "public-addresses.crm", file]);
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
    });
}

#[test]
fn mistakes_in_the_files_of_the_recipes_are_found() {
    on_the_newest_image(mistakes);
}

pub(crate) fn mistakes(bed: &Bed) {
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
