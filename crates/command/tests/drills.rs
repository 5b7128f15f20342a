//! When a drill begins, what it says before, and the verdict of what the writers told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

mod clusters;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use clusters::{nobody, of, text};
use promotable::operator::Marker;
use systole_command::drills::{Holds, Log, Plan, Practised, Seen, Verdict, chosen, plan, whole};
use systole_command::notices::Level;
use systole_command::picture::{Attributes, Picture};

fn recorded(name: &str) -> Picture {
    of(&text(name, "cib.xml"), &text(name, "crm_mon.xml"), &Attributes::new())
}

/// The cluster in order, with another text in the CIB.
fn changed(from: &str, to: &str) -> Picture {
    let cib = text("in-order", "cib.xml");
    assert!(cib.contains(from), "{from} stands in the CIB");
    of(&cib.replace(from, to), &text("in-order", "crm_mon.xml"), &Attributes::new())
}

fn property(name: &str, value: &str) -> Picture {
    let set =
        format!("<cluster_property_set id=\"x\"><nvpair id=\"y\" name=\"{name}\" value=\"{value}\"/></cluster_property_set></crm_config>");
    changed("</crm_config>", &set)
}

fn planned(picture: &Picture, name: &str, practised: &Practised) -> Result<Plan, String> {
    plan(picture, picture.database(name).unwrap(), practised)
}

fn kill(picture: &Picture, name: &str) -> Plan {
    planned(picture, name, &Practised::Kill).unwrap()
}

#[test]
fn a_drill_begins_where_all_is_in_order() {
    let picture = recorded("in-order");
    let move_to = planned(&picture, "mysql", &Practised::Move(None)).unwrap();
    assert_eq!((move_to.from.as_str(), &move_to.practised), ("lxc2", &Practised::Move(Some("lxc1".into()))));
    let kill = kill(&picture, "redis-clone");
    assert_eq!((kill.from.as_str(), kill.name.as_str(), kill.confirmations, kill.nodes.len()), ("lxc3", "redis", 1, 3));
    assert!(kill.fencing && kill.acknowledging == 2);
}

#[test]
fn a_drill_in_a_cluster_that_is_not_in_order_is_refused_with_what_mends_it() {
    let there = Practised::Move(Some("lxc2".into()));
    for (picture, name, practised, why) in [
        (&recorded("in-order"), "mysql", &there, "lxc2 is the primary of mysql-clone already: name another node with --to"),
        (&property("maintenance-mode", "true"), "mysql", &Practised::Kill, "crm_attribute --name maintenance-mode --update false"),
        (&recorded("degraded"), "mysql", &Practised::Kill, "crm_standby --node lxc2 --delete"),
        (&recorded("moved"), "redis", &Practised::Kill, "systole abort redis"),
        (&recorded("lost"), "mysql", &Practised::Kill, "node lxc2 is not there"),
        (&nobody("epoch=9 node=lxc9", &[]), "mysql", &Practised::Kill, "0 servers are promoted"),
        (
            &Picture { unheard: Some("it does not answer".into()), ..recorded("in-order") },
            "mysql",
            &Practised::Kill,
            "not known: it does not answer",
        ),
    ] {
        let said = planned(picture, name, practised).unwrap_err();
        assert!(said.contains(why), "{said}, and not {why}");
    }
    let mut alone = recorded("in-order");
    alone.databases.iter_mut().for_each(|database| database.members.retain(|member| member.role == "Promoted"));
    let said = planned(&alone, "mysql", &Practised::Kill).unwrap_err();
    assert!(said.contains("nobody could take over: start another one"), "{said}");
}

#[test]
fn without_fencing_it_warns_and_begins() {
    let picture = Picture { fencing: false, ..recorded("in-order") };
    let plan = kill(&picture, "mysql");
    assert!(plan.announcement().contains("note: fencing is off"), "{}", plan.announcement());
    assert!(!kill(&recorded("in-order"), "mysql").announcement().contains("fencing"));
}

#[test]
fn the_only_database_need_not_be_named() {
    let mut picture = recorded("in-order");
    assert!(chosen(&picture, None).unwrap_err().contains("mysql, redis"));
    assert_eq!(chosen(&picture, Some("x")).as_deref(), Ok("x"));
    picture.databases.retain(|database| database.name == "redis");
    assert_eq!(chosen(&picture, None).as_deref(), Ok("redis"));
    picture.databases.clear();
    assert!(chosen(&picture, None).is_err());
}

#[test]
fn it_says_before_what_it_does_and_what_that_costs() {
    let said = kill(&recorded("in-order"), "redis").announcement();
    for part in ["the server of lxc3, the primary, is killed with SIGKILL", "it costs: ", "systole:drill:*", "with durability=async"] {
        assert!(said.contains(part), "{said} has {part}");
    }
    let said = planned(&recorded("in-order"), "mysql", &Practised::Move(None)).unwrap().announcement();
    for part in ["the primary is moved from lxc2 to lxc1", "not committed is undone", "systole_drill.marker"] {
        assert!(said.contains(part), "{said} has {part}");
    }
}

#[test]
fn the_cluster_is_whole_when_somebody_was_promoted_since_and_all_is_as_before() {
    let picture = recorded("in-order");
    let database = picture.database("redis").unwrap();
    let now = kill(&picture, "redis");
    let before = Plan { epoch: now.epoch - 1, ..now.clone() };
    assert_eq!(whole(&picture, database, &before).as_deref(), Ok("lxc3"));
    assert!(whole(&picture, database, &now).unwrap_err().contains("nobody was promoted since"));
    let more = Plan { acknowledging: 3, ..before.clone() };
    assert!(whole(&picture, database, &more).unwrap_err().contains("2 replicas acknowledge, and 3 did before"));
    let another = Plan { nodes: vec!["lxc4".into()], ..before.clone() };
    assert!(whole(&picture, database, &another).unwrap_err().contains("lxc4 does not run"));
    // The failure that the drill made is no lack, and any other one is.
    let mut failed = recorded("in-order");
    failed.databases.iter_mut().for_each(|database| database.members[0].failures = 1);
    let node = failed.database("redis").unwrap().members[0].node.clone();
    let of = |plan: &Plan| whole(&failed, failed.database("redis").unwrap(), plan);
    assert_eq!(of(&Plan { from: node.clone(), ..before.clone() }).as_deref(), Ok("lxc3"));
    assert!(of(&Plan { from: node, practised: Practised::Move(None), ..before.clone() }).unwrap_err().contains("has failed"));
    assert!(of(&before).unwrap_err().contains("has failed"));
}

const MS: Duration = Duration::from_millis(1);

/// lxc3 writes 1 to 50 every 20 ms, is killed at 1000 ms, and lxc1 writes 1 to 50 from 1400 ms on.
fn log() -> Log {
    let mut log = Log::default();
    for number in 1..=50_u32 {
        log.hear(MS * 20 * number, "lxc3", &format!("+ {number}"));
    }
    log.hear(MS * 1010, "lxc3", "? 51 no answer");
    log.hear(MS * 1020, "lxc1", "- its server takes no writes");
    for number in 1..=50_u32 {
        log.hear(MS * (1390 + 20 * number), "lxc1", &format!("+ {number}"));
    }
    log.hear(MS * 3000, "lxc1", "who knows what this is");
    log
}

fn all() -> BTreeSet<Marker> {
    ["lxc1", "lxc3"].iter().flat_map(|node| (1..=50).map(|number| ((*node).to_owned(), number))).collect()
}

fn seen() -> Seen {
    let held = ["lxc1", "lxc2", "lxc3"].iter().map(|node| ((*node).to_owned(), Ok(all()))).collect();
    Seen { log: log(), fault: MS * 1000, promoted: Some("lxc1".into()), held, whole: Ok(MS * 6300) }
}

fn verdict(seen: &Seen) -> Verdict {
    Verdict::of(&kill(&recorded("in-order"), "redis"), seen)
}

#[test]
fn the_longest_time_between_two_acknowledged_markers_is_how_long_nobody_could_write() {
    let found = verdict(&seen());
    assert_eq!(found.outage, Some((MS * 410, MS * 20)));
    assert_eq!((found.acknowledged, found.unanswered, found.level()), (100, 1, Level::Good));
    assert_eq!(found.sentence(), "nothing was lost, and the cluster is as before");
    assert_eq!(log().highest(), BTreeMap::from([("lxc1", 50), ("lxc3", 51)]));
    assert_eq!((log().count("lxc3", Duration::ZERO), log().count("lxc1", MS * 1450)), (50, 48));
}

#[test]
fn an_acknowledged_marker_that_the_new_primary_lacks_is_lost_and_one_that_was_not_answered_is_not() {
    let mut lost = seen();
    let mut held = all();
    held.remove(&("lxc3".to_owned(), 50));
    lost.held.insert("lxc1".into(), Ok(held));
    let found = verdict(&lost);
    assert_eq!(found.level(), Level::Broken);
    assert!(found.sentence().starts_with("1 acknowledged markers are lost: lxc3:50;"), "{}", found.sentence());
    assert_eq!((found.json()["lost"].as_u64(), found.json()["new_primary"]["lacks"][0].as_str()), (Some(1), Some("lxc3:50")));
    let mut more = seen();
    let unanswered = all().into_iter().chain([("lxc3".to_owned(), 51)]).collect();
    more.held.insert("lxc1".into(), Ok(unanswered));
    assert_eq!(verdict(&more).level(), Level::Good, "it may be there, or not");
}

#[test]
fn who_could_not_be_asked_is_not_taken_to_hold_anything() {
    let mut unknown = seen();
    unknown.held.insert("lxc1".into(), Err("does not answer over ssh".into()));
    assert_eq!((verdict(&unknown).level(), verdict(&unknown).json()["lost"].as_u64()), (Level::Unknown, None));
    assert!(verdict(&unknown).sentence().contains("is not known: lxc1 does not answer over ssh"));
    let nobody = Seen { promoted: None, whole: Err("nobody is promoted".into()), ..seen() };
    assert_eq!(verdict(&nobody).level(), Level::Unknown);
    let mut replica = seen();
    replica.held.remove("lxc2");
    assert_eq!(verdict(&replica).level(), Level::Degraded);
    assert_eq!(verdict(&replica).replicas["lxc2"], Holds::Unknown("was not asked".into()));
}

#[test]
fn it_is_no_success_when_the_cluster_is_not_as_before() {
    let broken = Seen { whole: Err("the instance on lxc3 does not run".into()), ..seen() };
    assert_eq!(verdict(&broken).level(), Level::Degraded);
    assert!(verdict(&broken).sentence().contains("not as before: the instance on lxc3 does not run"));
    let silent = Seen { fault: MS * 5000, ..seen() };
    assert_eq!((verdict(&silent).outage, verdict(&silent).level()), (None, Level::Degraded));
    let mut behind = seen();
    behind.held.insert("lxc2".into(), Ok(BTreeSet::new()));
    assert_eq!(verdict(&behind).level(), Level::Degraded);
    assert!(verdict(&behind).sentence().contains("lxc2 has not got all of it"));
}

#[test]
fn the_example_of_the_page_is_what_the_command_says() {
    let found = verdict(&seen());
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/command.md")).unwrap();
    let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let announced: String = kill(&recorded("in-order"), "redis").announcement().lines().map(|line| format!("systole: {line}\n")).collect();
    let example = format!("    # systole drill kill redis --yes redis\n{}{}", indented(&announced), indented(&found.pretty()));
    assert!(page.contains(&example), "{example}");
    assert_eq!(
        found.tsv(),
        "resource\tdrill\tfrom\tprimary\tno_writes_ms\tusual_ms\tacknowledged\tunanswered\tlost\tas_before_ms\tlevel\tsentence\n\
         redis-clone\tkill\tlxc3\tlxc1\t410\t20\t100\t1\t0\t6300\tgood\tnothing was lost, and the cluster is as before\n"
    );
}
