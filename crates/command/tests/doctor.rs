//! What `systole doctor` finds: in what nodes say of themselves, and in a cluster that was recorded.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use process::Space;
use systole_command::cib::Cib;
use systole_command::doctor::configuration::{Configuration, Operation, asked_for};
use systole_command::doctor::facts::Facts;
use systole_command::doctor::findings::{self, CHECKS, Clustered, Examined, Finding, Heard};
use systole_command::doctor::shown;
use systole_command::notices::Level;

const NODES: [&str; 3] = ["lxc1", "lxc2", "lxc3"];
const BEGUN: u64 = 1_790_000_000_000;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A node in which nothing is wrong.
fn well(node: &str) -> Facts {
    let versions = [("systole", "0.1.0"), ("pacemaker", "Pacemaker 3.0.0"), ("corosync", "3.1.9"), ("server of mysql", "mariadbd 11.8")];
    let text = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Facts {
        begun: BEGUN + 100,
        ended: BEGUN + 400,
        host: node.to_owned(),
        clustered: true,
        member: true,
        versions: text(&versions),
        units: text(&[("corosync", "enabled"), ("pacemaker", "enabled"), ("mariadb", "disabled")]),
        addresses: NODES.iter().map(|name| ((*name).to_owned(), vec![format!("10.0.0.{}", &name[3..])])).collect(),
        disks: BTreeMap::from([("/".to_owned(), Space { free_bytes: 5 << 30, bytes: 10 << 30, free_inodes: 900, inodes: 1000 })]),
        digests: text(&[("mysql replication_passwd_file", "0a0b0c0d")]),
        complaints: BTreeMap::from([("mysql".to_owned(), vec![])]),
        watchers: BTreeMap::from([("mysql".to_owned(), true)]),
        token: Some(3000),
        listening: vec![3306],
        unseen: BTreeMap::new(),
    }
}

fn cluster(change: impl Fn(String) -> String) -> Clustered {
    let fencing: String = NODES
        .iter()
        .map(|node| format!("<primitive id='fence-{node}' class='stonith' type='fence_x'><instance_attributes id='i-{node}'><nvpair id='n-{node}' name='pcmk_host_list' value='{node}'/></instance_attributes></primitive>"))
        .collect();
    let recorded = read("tests/recorded/in-order/cib.xml").replace("id=\"fence-lab\" class=\"stonith\"", "id=\"fence-lab\" class=\"ocf\"");
    let text = change(recorded.replace("<resources>", &format!("<resources>{fencing}")));
    let metadata = |agent: &str| asked_for(&read(&format!("../../ocf-metadata/{agent}.xml")));
    let minimums = ["mysql", "redis", "address", "cron-singleton"].map(|agent| (agent.to_owned(), metadata(agent)));
    Clustered { cib: Cib::parse(&text).unwrap(), configuration: Configuration::parse(&text).unwrap(), minimums: minimums.into() }
}

fn examined() -> Examined {
    let heard = |node: &str| Heard { facts: Ok(well(node)), begun: BEGUN, ended: BEGUN + 500 };
    Examined { cluster: Some(cluster(|text| text)), heard: NODES.iter().map(|node| ((*node).to_owned(), heard(node))).collect() }
}

/// The findings after a change to what lxc2 said.
fn of_lxc2(change: impl Fn(&mut Facts)) -> Vec<Finding> {
    let mut examined = examined();
    change(examined.heard.get_mut("lxc2").unwrap().facts.as_mut().unwrap());
    findings::of(&examined)
}

#[track_caller]
fn only(found: &[Finding], check: &str, level: Level, about: Option<&str>, text: &str) {
    let [finding] = found else { panic!("one finding was expected: {found:#?}") };
    assert_eq!((finding.check, finding.level, finding.about.as_deref()), (check, level, about), "{finding:?}");
    assert!(finding.text.contains(text), "{finding:?}");
    assert!(CHECKS.contains(&check));
}

#[test]
fn a_cluster_in_order_has_no_findings() {
    let examined = examined();
    let found = findings::of(&examined);
    assert!(found.is_empty(), "{found:#?}");
    let said = shown::pretty(&examined, &found);
    assert_eq!(said, format!("good: 3 of 3 nodes\n\ngood: {}\n", CHECKS.join(", ")));
    assert_eq!(shown::tsv(&found), "level\tcheck\tabout\ttext\tline\n");
}

#[test]
fn what_a_node_says_of_itself_is_judged() {
    only(&of_lxc2(|f| f.host = "db2".into()), "names", Level::Degraded, Some("lxc2"), "uname -n says db2");
    let resolves = |to: &[&str]| {
        let to: Vec<String> = to.iter().map(|address| (*address).to_owned()).collect();
        of_lxc2(|f| drop(f.addresses.insert("lxc2".into(), to.clone())))
    };
    only(&resolves(&[]), "names", Level::Broken, Some("lxc2"), "lxc2 does not resolve");
    only(&resolves(&["127.0.1.1"]), "names", Level::Degraded, Some("lxc2"), "lxc2 leads to 127.0.1.1");
    let disk = |space: Space| of_lxc2(|f| _ = f.disks.insert("/srv".into(), space));
    let full = Space { free_bytes: 9 << 20, bytes: 100 << 20, free_inodes: 9, inodes: 10 };
    only(&disk(full), "disk", Level::Degraded, Some("lxc2"), "/srv is nearly full: 9 of 100 MiB are free (9 %)");
    only(
        &disk(Space { free_bytes: 50 << 20, free_inodes: 1, inodes: 100, ..full }),
        "disk",
        Level::Degraded,
        Some("lxc2"),
        "no inodes left",
    );
    assert!(
        disk(Space { free_bytes: 60 << 30, bytes: 1 << 40, free_inodes: 0, inodes: 0 }).is_empty(),
        "a large file system without inodes"
    );
    let said = of_lxc2(|f| drop(f.complaints.insert("mysql".into(), vec!["write `sync_binlog=1` into the option file".into()])));
    only(&said, "settings", Level::Degraded, Some("lxc2"), "mysql: write `sync_binlog=1` into the option file");
    only(&of_lxc2(|f| _ = f.watchers.insert("mysql".into(), false)), "watcher", Level::Degraded, Some("lxc2"), "no watcher runs for mysql");
    only(
        &of_lxc2(|f| drop(f.units.insert("mariadb".into(), "enabled".into()))),
        "boot",
        Level::Degraded,
        Some("lxc2"),
        "starts mariadb at boot",
    );
    only(
        &of_lxc2(|f| drop(f.units.remove("pacemaker"))),
        "boot",
        Level::Degraded,
        Some("lxc2"),
        "corosync is started at boot and pacemaker is not",
    );
    only(
        &of_lxc2(|f| f.clustered = false),
        "nodes",
        Level::Degraded,
        Some("lxc2"),
        "it belongs to a cluster, and Pacemaker does not answer there",
    );
    only(&of_lxc2(|f| drop(f.versions.remove("corosync"))), "versions", Level::Broken, Some("lxc2"), "corosync is not installed");
}

#[test]
fn what_should_be_the_same_everywhere_is_compared() {
    let other = of_lxc2(|f| drop(f.versions.insert("server of mysql".into(), "mariadbd 10.11".into())));
    only(&other, "versions", Level::Degraded, None, "mariadbd 10.11 on lxc2, mariadbd 11.8 on lxc1 lxc3");
    let other = of_lxc2(|f| drop(f.digests.insert("mysql replication_passwd_file".into(), "ffffffff".into())));
    only(&other, "passwords", Level::Broken, None, "lxc1 lxc3 and lxc2 have different ones");
    assert!(!format!("{other:?}").contains("ffffffff"), "a digest is compared and not shown");
    only(&of_lxc2(|f| f.token = Some(5000)), "corosync", Level::Degraded, None, "3000 ms on lxc1 lxc3, 5000 ms on lxc2");
    assert!(of_lxc2(|f| f.token = None).is_empty(), "what a node does not know is no difference");
}

/// Checks that saw nothing stood among the good ones.
#[test]
fn what_could_not_be_looked_at_is_not_good() {
    let mut examined = examined();
    let facts = |examined: &mut Examined, node: &str| examined.heard.get_mut(node).unwrap().facts.as_ref().unwrap().clone();
    let mut lxc2 = facts(&mut examined, "lxc2");
    lxc2.unseen.insert("corosync".into(), "corosync-cmapctl does not say the token timeout".into());
    examined.heard.get_mut("lxc2").unwrap().facts = Ok(lxc2);
    let found = findings::of(&examined);
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(examined.level(&found), Level::Degraded);
    let said = shown::pretty(&examined, &found);
    assert!(said.starts_with("degraded: 3 of 3 nodes\n\ngood: nodes, ") && said.contains(", watcher, boot\n"), "{said}");
    assert!(said.ends_with("\nnot looked at: corosync: lxc2: corosync-cmapctl does not say the token timeout\n"), "{said}");
    assert!(shown::json(&examined, &found)["not_looked_at"]["corosync"][0].is_string());
}

#[test]
fn a_name_that_leads_elsewhere_on_one_node_is_found() {
    let leads = |to: &[&str]| {
        let to: Vec<String> = to.iter().map(|address| (*address).to_owned()).collect();
        of_lxc2(|f| drop(f.addresses.insert("lxc3".into(), to.clone())))
    };
    only(
        &leads(&["10.9.9.9"]),
        "names",
        Level::Degraded,
        None,
        "lxc3 does not lead to the same place everywhere: 10.0.0.3 on lxc1, 10.9.9.9 on lxc2",
    );
    assert!(leads(&["10.0.0.3", "fd00::3"]).is_empty(), "one knows more addresses than the other");
}

#[test]
fn a_clock_is_off_only_where_the_way_there_does_not_explain_it() {
    let shifted = |by: i64| of_lxc2(|f| (f.begun, f.ended) = (f.begun.wrapping_add_signed(by), f.ended.wrapping_add_signed(by)));
    only(&shifted(5_000), "clock", Level::Degraded, Some("lxc2"), "4.9 s ahead");
    only(&shifted(-5_000), "clock", Level::Degraded, Some("lxc2"), "4.9 s behind");
    assert!(shifted(900).is_empty() && shifted(-900).is_empty());
}

#[test]
fn a_node_that_does_not_answer_is_named_and_the_others_are_examined() {
    let mut examined = examined();
    examined.heard.get_mut("lxc3").unwrap().facts = Err("does not answer over ssh: Permission denied (publickey).".into());
    let found = findings::of(&examined);
    only(&found, "nodes", Level::Degraded, Some("lxc3"), "does not answer over ssh");
    assert_eq!(found[0].line.as_deref(), Some("ssh-copy-id root@lxc3"));
    for (why, line) in [
        ("does not answer over ssh: ssh: Could not resolve hostname lxc3: x", Some("/etc/hosts: ADDRESS lxc3")),
        ("does not answer over ssh: nothing came within 10000 ms", None),
        ("systole failed (status 127): systole: command not found", Some("apt install ./systole_*.deb, the same on each node")),
    ] {
        examined.heard.get_mut("lxc3").unwrap().facts = Err(why.into());
        assert_eq!(findings::of(&examined)[0].line.as_deref(), line, "{why}");
    }
    examined.heard.get_mut("lxc3").unwrap().facts = Err("does not answer over ssh: x".into());
    let found = findings::of(&examined);
    assert!(shown::pretty(&examined, &found).starts_with("degraded: 2 of 3 nodes\n"));
    for heard in examined.heard.values_mut() {
        heard.facts = Err("does not answer over ssh: no route".into());
    }
    assert_eq!(examined.level(&findings::of(&examined)), Level::Unknown, "nobody can tell");
}

#[test]
fn the_configuration_of_the_cluster_is_judged() {
    let changed = |from: &str, to: &str| {
        let clustered = cluster(|text| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        findings::of(&Examined { cluster: Some(clustered), ..examined() })
    };
    only(&changed("'fence-lxc2' class='stonith'", "'x' class='ocf'"), "fencing", Level::Broken, Some("lxc2"), "no fence device");
    let off = changed("name=\"stonith-enabled\" value=\"true\"", "name=\"stonith-enabled\" value=\"false\"");
    only(&off, "fencing", Level::Broken, None, "fencing is off");
    only(&changed("have-quorum=\"1\"", "have-quorum=\"0\""), "quorum", Level::Broken, None, "no quorum");
    let deaf = changed("name=\"notify\" value=\"true\"", "name=\"notify\" value=\"false\"");
    assert!(deaf.iter().all(|finding| finding.check == "notify" && finding.level == Level::Broken) && !deaf.is_empty(), "{deaf:#?}");
}

#[test]
fn operations_have_the_time_that_the_agent_asks_for() {
    let operation = |name: &str, role: Option<&str>, timeout: u64| Operation {
        name: name.into(),
        role: role.map(str::to_owned),
        timeout: Some(timeout),
        interval: Some("0".into()),
    };
    let found = |change: &dyn Fn(&mut Vec<Operation>)| {
        let mut examined = examined();
        let resources = &mut examined.cluster.as_mut().unwrap().configuration.resources;
        change(&mut resources.iter_mut().find(|resource| resource.name == "mysql").unwrap().operations);
        findings::of(&examined)
    };
    let short = found(&|all| {
        all.retain(|o| o.name != "stop");
        all.push(operation("stop", None, 60_000));
    });
    only(&short, "timeouts", Level::Degraded, Some("mysql"), "stop may take 60 s, and the agent asks for 120 s at least");
    assert_eq!(short[0].line.as_deref(), Some("crm configure edit mysql: op stop interval=0 timeout=120s"));
    let usual = found(&|all| all.retain(|o| o.name != "stop"));
    only(&usual, "timeouts", Level::Degraded, Some("mysql"), "stop may take 20 s");
    let unseen = found(&|all| all.retain(|o| o.name != "monitor" || o.role.as_deref() == Some("Promoted")));
    only(&unseen, "timeouts", Level::Broken, Some("mysql"), "there is no monitor of the role Unpromoted");
    assert_eq!(unseen[0].line.as_deref(), Some("crm configure edit mysql: op monitor interval=11s timeout=30s role=Unpromoted"));
}

/// A promotable clone whose one monitor had no role was called good, and its primary was never looked at.
#[test]
fn a_primary_without_a_monitor_of_its_own_is_found() {
    let monitor = |role: Option<&str>, interval: &str| Operation {
        name: "monitor".into(),
        role: role.map(str::to_owned),
        timeout: Some(60_000),
        interval: Some(interval.into()),
    };
    let found = |monitors: &[Operation]| {
        let mut examined = examined();
        let resources = &mut examined.cluster.as_mut().unwrap().configuration.resources;
        let operations = &mut resources.iter_mut().find(|resource| resource.name == "mysql").unwrap().operations;
        operations.retain(|operation| operation.name != "monitor");
        operations.extend_from_slice(monitors);
        findings::of(&examined)
    };
    let (promoted, unpromoted) = (monitor(Some("Promoted"), "10s"), monitor(Some("Unpromoted"), "11s"));
    assert!(found(&[promoted.clone(), unpromoted.clone()]).is_empty());
    assert!(found(&[promoted.clone(), monitor(None, "11s")]).is_empty(), "without a role it is that of an instance that is not promoted");
    for without in [monitor(None, "11s"), monitor(Some("Unpromoted"), "11s")] {
        only(&found(&[without]), "timeouts", Level::Broken, Some("mysql"), "there is no monitor of the role Promoted");
    }
    // What is said of a probe, and of the role that no instance of a promotable clone has.
    for none in [monitor(None, "0"), monitor(Some("Started"), "11s")] {
        only(&found(&[promoted.clone(), none]), "timeouts", Level::Broken, Some("mysql"), "there is no monitor of the role Unpromoted");
    }
    let double = found(&[promoted, monitor(Some("Unpromoted"), "10")]);
    only(&double, "timeouts", Level::Broken, Some("mysql"), "have the same interval 10, and Pacemaker makes only one of them");
}

#[test]
fn before_there_is_a_cluster_the_machines_are_examined() {
    let mut examined = Examined { cluster: None, ..examined() };
    let found = findings::of(&examined);
    // Their servers were to be disabled and stopped, and they are those of a cluster that runs.
    assert!(found.len() == 3 && found.iter().all(|finding| finding.text.contains("of which nothing was looked at")), "{found:#?}");
    let each = |examined: &mut Examined, change: &dyn Fn(&mut Facts)| {
        examined.heard.values_mut().for_each(|heard| change(heard.facts.as_mut().unwrap()));
    };
    each(&mut examined, &|facts| (facts.clustered, facts.token) = (false, None));
    let found = findings::of(&examined);
    let silent = |finding: &Finding| finding.text.contains("belongs to a cluster, and Pacemaker does not answer");
    assert!(found.len() == 3 && found.iter().all(silent), "{found:#?}");
    each(&mut examined, &|facts| facts.member = false);
    let found = findings::of(&examined);
    assert!(found.len() == 3 && found.iter().all(|finding| finding.text.contains("listens on port 3306 already")), "{found:#?}");
    each(&mut examined, &|facts| facts.listening.clear());
    assert!(findings::of(&examined).is_empty());
    let mut left = examined.clone();
    left.heard.get_mut("lxc1").unwrap().facts.as_mut().unwrap().member = true;
    only(&findings::of(&left), "nodes", Level::Degraded, Some("lxc1"), "belongs to a cluster, and Pacemaker does not answer");
    let said = shown::pretty(&examined, &[]);
    assert_eq!(said, "good: 3 of 3 machines, and no cluster was asked\n\ngood: nodes, versions, clock, names, disk, boot\n");
}

#[test]
fn the_example_of_the_page_is_what_the_command_says() {
    let mut examined = examined();
    let facts = examined.heard.get_mut("lxc2").unwrap().facts.as_mut().unwrap();
    facts.digests.insert("mysql replication_passwd_file".into(), "ffffffff".into());
    facts.addresses.insert("lxc2".into(), vec!["127.0.1.1".into()]);
    let said = "a power cut loses committed transactions from the binary log: write `sync_binlog=1` into the option file";
    facts.complaints.insert("mysql".into(), vec![said.into()]);
    let resources = &mut examined.cluster.as_mut().unwrap().configuration.resources;
    let mysql = resources.iter_mut().find(|resource| resource.name == "mysql").unwrap();
    mysql.operations.iter_mut().filter(|operation| operation.name == "stop").for_each(|stop| stop.timeout = Some(60_000));
    let said: String =
        shown::pretty(&examined, &findings::of(&examined)).lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect();
    let page = read("../../docs/command.md");
    assert!(page.contains(&format!("    # systole doctor\n{said}")), "docs/command.md does not show:\n{said}");
}
