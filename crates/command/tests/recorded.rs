//! What is said of real clusters: recorded/NAME holds what Pacemaker's tools printed there, and what the command has to say of it.
//! `UPDATE=1 cargo test -p systole-command --test recorded` writes that; read the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use promotable::operator::Standing;
use proptest::prelude::*;
use systole_command::check;
use systole_command::cib::Cib;
use systole_command::crm_mon::Monitor;
use systole_command::notices::Level;
use systole_command::picture::{Attributes, POSITION, Picture};
use systole_command::status::Status;
use systole_command::why::why;

#[path = "recorded/clusters.rs"]
mod clusters;

use clusters::{attributes, compare, directory, recorded};

fn clusters_text(name: &str, file: &str) -> String {
    std::fs::read_to_string(directory(name).join(file)).unwrap()
}

/// A cluster that was recorded, with a change to what one of Pacemaker's tools printed.
fn changed(name: &str, change: impl Fn(&str, String) -> String) -> Picture {
    let read = |file: &str| change(file, clusters_text(name, file));
    let (cib, monitor) = (Cib::parse(&read("cib.xml")).unwrap(), Monitor::parse(&read("crm_mon.xml")).unwrap());
    Picture::new(&cib, &monitor, &attributes(&read("attributes")), &BTreeMap::new())
}

/// All that is said of a cluster that was recorded, and how bad it is by `status`.
fn said_of(name: &str, level: Level) {
    let picture = recorded(name);
    let status = Status::of(&picture, None).unwrap();
    compare(name, "status.txt", &status.pretty());
    compare(name, "status.tsv", &status.tsv());
    compare(name, "status.json", &format!("{:#}\n", status.json()));
    assert_eq!(status.level(), level);
    let checks: String = picture.databases.iter().map(|database| check::line(&picture, database).0 + "\n").collect();
    compare(name, "check.txt", &checks);
    let mut all = String::new();
    for database in &picture.databases {
        all.push_str(&why(&picture, database, None).unwrap().pretty());
        for member in &database.members {
            all.push('\n');
            all.push_str(&why(&picture, database, Some(&member.node)).unwrap().pretty());
        }
        all.push_str("\n----\n");
    }
    compare(name, "why.txt", &all);
}

#[test]
fn all_is_in_order() {
    said_of("in-order", Level::Good);
}

#[test]
fn two_moves_have_left_their_constraints() {
    said_of("moved", Level::Degraded);
}

#[test]
fn a_setting_breaks_the_promise_a_server_is_stopped_and_a_node_is_on_standby() {
    said_of("degraded", Level::Degraded);
}

#[test]
fn the_node_of_a_primary_is_lost() {
    said_of("lost", Level::Degraded);
}

/// Pacemaker goes on to list the primary as promoted on a node that it cannot fence: for as long as that took, all was good.
#[test]
fn the_node_of_a_primary_is_lost_and_not_fenced() {
    said_of("unfenced", Level::Broken);
    let picture = recorded("unfenced");
    let mysql = picture.database("mysql").unwrap();
    assert!(mysql.promoted().is_empty() && mysql.acknowledging().unwrap().iter().all(|member| member.node != "lxc2"));
    let (line, level) = check::line(&picture, mysql);
    assert!(
        level == Level::Broken && line.contains("the primary's node lxc2 is lost and not fenced") && line.contains("promoted=0 "),
        "{line}"
    );
    let why = why(&picture, mysql, None).unwrap();
    assert!(why.level == Level::Broken && why.outcome[0].contains("lost and not fenced"), "{why:?}");
    assert!(!why.pretty().contains("systole decide"), "{}", why.pretty());
    // The replica of the other database that was there.
    let redis = picture.database("redis").unwrap();
    assert_eq!(redis.acknowledging().unwrap().iter().map(|member| member.node.as_str()).collect::<Vec<_>>(), ["lxc1"]);
}

/// A node that is to be fenced is online for a moment more, as after a stop that failed.
#[test]
fn a_replica_on_an_unclean_node_is_not_counted_on() {
    let monitor = clusters_text("in-order", "crm_mon.xml");
    let unclean = monitor.lines().map(|line| {
        if line.contains("<node name=\"lxc3\" id=\"3\" online") {
            line.replace("unclean=\"false\"", "unclean=\"true\"")
        } else {
            line.to_owned()
        }
    });
    let picture = changed("in-order", |file, text| match file {
        "crm_mon.xml" => unclean.clone().map(|line| line + "\n").collect(),
        _ => text,
    });
    let able = picture.database("mysql").unwrap().acknowledging().unwrap();
    assert_eq!(able.iter().map(|member| member.node.as_str()).collect::<Vec<_>>(), ["lxc1"]);
}

/// With one of three nodes left, Redis with durability=async was said to write on.
#[test]
fn a_replica_that_takes_the_quorum_with_it_leaves_no_primary() {
    let picture = recorded("lost");
    let without = |picture: &Picture, name: &str, lost: &str| why(picture, picture.database(name).unwrap(), Some(lost)).unwrap();
    let said = without(&picture, "redis", "lxc1");
    assert!(said.level == Level::Broken && said.outcome[0].starts_with("no quorum is left then: nobody is promoted"), "{said:?}");
    assert!(!said.pretty().contains("writes go on") && said.pretty().contains("it is promoted, and does not stay so"), "{}", said.pretty());
    // Remote and guest nodes do not vote.
    let remote = |name: &str| format!("<node name=\"{name}\" id=\"{name}\" online=\"true\" type=\"remote\"/>\n  </nodes>");
    let with_remote = |file: &str, text: String| match file {
        "crm_mon.xml" => text.replace("</nodes>", &remote("r1")).replace("</nodes>", &remote("r2")),
        _ => text,
    };
    assert_eq!(without(&changed("lost", with_remote), "redis", "lxc1").level, Level::Broken);
    assert_eq!(without(&changed("in-order", with_remote), "redis", "lxc1").level, Level::Good);
}

/// The servers were blamed for the silence of the attribute manager, and a decision was recommended.
#[test]
fn who_can_be_promoted_is_not_known_without_the_attribute_manager() {
    let silent = |name: &str| recorded(name).unheard_of("it does not answer".into());
    for (name, lost) in [("nobody", None), ("nobody", Some("lxc1")), ("in-order", Some("lxc2")), ("in-order", Some("lxc1"))] {
        let picture = silent(name);
        let said = why(&picture, picture.database("mysql").unwrap(), lost).unwrap();
        assert_eq!(said.level, Level::Unknown, "{name} {lost:?}: {said:?}");
        assert!(!said.pretty().contains("systole decide") && !said.pretty().contains("nothing was heard"), "{}", said.pretty());
    }
    let picture = silent("nobody");
    let said = why(&picture, picture.database("mysql").unwrap(), None).unwrap().pretty();
    assert!(said.contains("who can be promoted is not known: it does not answer"), "{said}");
    assert!(said.contains("lxc1  unknown") && said.contains("lxc2  no "), "{said}");
}

#[test]
fn a_constraint_that_is_over_stands_in_nobodys_way_and_a_ban_counts_by_whatever_name() {
    let mut picture = recorded("moved");
    let ids = |left: &[systole_command::cib::Leftover]| left.iter().map(|left| left.id.clone()).collect::<Vec<_>>();
    let mysql = |picture: &mut Picture| picture.databases.iter().position(|database| database.name == "mysql").unwrap();
    let at = mysql(&mut picture);
    picture.databases[at].end_leftovers(|until| until.starts_with("2026-11-29 20:53:10"));
    assert_eq!(ids(&picture.databases[at].leftovers), Vec::<String>::new());
    assert_eq!(ids(&picture.databases[at].expired), ["cli-ban-mysql-clone-on-lxc2"]);
    let status = Status::of(&picture, Some("mysql")).unwrap().pretty();
    assert!(status.contains("constraint cli-ban-mysql-clone-on-lxc2 is over and does nothing any more"), "{status}");
    assert!(status.contains("crm_resource --clear --expired") && !status.contains("systole abort mysql"), "{status}");
    // What holds without an end, or to another one, stays.
    let mut picture = recorded("moved");
    picture.databases.iter_mut().for_each(|database| database.end_leftovers(|_| false));
    assert_eq!(ids(&picture.databases[at].leftovers), ["cli-ban-mysql-clone-on-lxc2"]);
    // Under the primitive's name, as `crm_resource --ban --resource mysql` writes it, and that of the clone.
    for (resource, id) in
        [("mysql", "cli-ban-mysql-on-lxc3"), ("mysql-clone", "cli-ban-mysql-clone-on-lxc3"), ("mysql", "cli-prefer-mysql")]
    {
        let ban =
            format!("<rsc_location id=\"{id}\" rsc=\"{resource}\" role=\"Started\" node=\"lxc3\" score=\"-INFINITY\"/></constraints>");
        let picture = changed("in-order", |file, text| match file {
            "cib.xml" => text.replace("</constraints>", &ban),
            _ => text,
        });
        let said = why(&picture, picture.database("mysql").unwrap(), Some("lxc2")).unwrap();
        let of_lxc3 = said.nodes.iter().find(|node| node.node == "lxc3").unwrap();
        assert_eq!(of_lxc3.because.contains(&format!("constraint {id} forbids it")), id.starts_with("cli-ban"), "{of_lxc3:?}");
    }
}

/// That Pacemaker leaves an instance alone kept nobody from being called eligible, and the mend was for another cause.
#[test]
fn an_instance_that_is_not_managed_is_not_promoted_and_the_mend_is_that_of_its_cause() {
    let unmanaged = |node_in_maintenance: bool, meta: Option<&str>| {
        changed("in-order", |file, text| match (file, meta) {
            ("crm_mon.xml", _) => {
                let text = text.replace("managed=\"true\"", "managed=\"false\"");
                let lines = text.lines().map(|line| match line.contains("<node name=\"lxc3\" id=\"3\" online") && node_in_maintenance {
                    true => line.replace(" maintenance=\"false\"", " maintenance=\"true\"") + "\n",
                    false => line.to_owned() + "\n",
                });
                lines.collect()
            }
            ("cib.xml", Some(name)) => text.replace(
                "<meta_attributes id=\"mysql-meta_attributes\">",
                &format!("<meta_attributes id=\"mysql-meta_attributes\"><nvpair id=\"z\" name=\"{name}\" value=\"true\"/>"),
            ),
            _ => text,
        })
    };
    let notices = |picture: &Picture, node: &str| {
        let said = Status::of(picture, Some("mysql")).unwrap().notices;
        said.iter().filter(|n| n.text.contains("does not manage") && n.text.starts_with(node)).map(|n| n.text.clone()).collect::<Vec<_>>()
    };
    let picture = unmanaged(true, None);
    assert!(notices(&picture, "lxc3").is_empty(), "the node says so itself");
    assert!(notices(&picture, "lxc1")[0].ends_with("--delete-parameter is-managed"));
    let picture = unmanaged(false, Some("maintenance"));
    assert!(notices(&picture, "lxc3")[0].ends_with("--delete-parameter maintenance"), "{:?}", notices(&picture, "lxc3"));
    let said = why(&picture, picture.database("mysql").unwrap(), Some("lxc2")).unwrap();
    assert!(said.level == Level::Broken && said.nodes.iter().all(|node| node.because.contains("does not manage the instance")), "{said:?}");
}

/// What is changed in the CIB.
type Change = fn(String) -> String;

/// In a pause it stayed dead for as long as that took, and monitoring showed a warning.
#[test]
fn a_primary_that_failed_and_is_not_recovered_is_broken() {
    let dead = |flags: &'static str, cib_change: Change| {
        changed("in-order", move |file, text| {
            let lines = text.lines().map(|line| match file {
                "crm_mon.xml" if line.contains("id=\"mysql\"") && line.contains("role=\"Promoted\"") => {
                    let line = line.replace("failed=\"false\"", "failed=\"true\"");
                    let of = |flag: &str| flags.contains(flag);
                    let line = if of("unmanaged") { line.replace("managed=\"true\"", "managed=\"false\"") } else { line };
                    if of("blocked") { line.replace("blocked=\"false\"", "blocked=\"true\"") } else { line }
                }
                "cib.xml" if line.contains("mysql_monitor_10000") && line.contains("on_node=\"lxc2\"") => {
                    line.replace("rc-code=\"8\"", "rc-code=\"9\"")
                }
                _ => line.to_owned(),
            });
            let text: String = lines.map(|line| line + "\n").collect();
            if file == "cib.xml" { cib_change(text) } else { text }
        })
    };
    let as_it_was: Change = |text| text;
    let paused: Change = |text| {
        let pause = systole_command::cib::Pause { until: "2036-11-30T02:00:00Z".into(), reason: "r".into() }.xml("mysql");
        let set = pause.split_once("<meta_attributes").unwrap().1.trim_end_matches("</primitive>");
        let begin = text.find("<primitive id=\"mysql\"").unwrap();
        let at = begin + text[begin..].find('>').unwrap() + 1;
        format!("{}<meta_attributes{set}{}", &text[..at], &text[at..])
    };
    let cases: [(&str, Change, &str); 4] = [
        ("", as_it_was, "; when it is mended: crm_resource --cleanup --resource mysql-clone --node lxc2"),
        ("unmanaged", paused, "; it is paused, and nothing is recovered; end that first: systole resume mysql"),
        (
            "unmanaged",
            as_it_was,
            "nothing is recovered; undo that with: crm_resource --resource mysql-clone --meta --delete-parameter is-managed",
        ),
        (
            "unmanaged blocked",
            as_it_was,
            "Pacemaker has blocked the instance, as after a stop that failed without fencing, and nothing is recovered; when it is mended: \
             crm_resource --cleanup --resource mysql-clone --node lxc2",
        ),
    ];
    for (flags, cib, mend) in cases {
        let picture = dead(flags, cib);
        let database = picture.database("mysql").unwrap();
        let (line, level) = check::line(&picture, database);
        let begins = "CRITICAL mysql-clone: lxc2: monitor failed: exit code 9; ";
        assert!(level == Level::Broken && line.starts_with(begins) && line.contains(mend), "{flags}: {line}");
        assert_eq!(line.matches("crm_resource --cleanup").count(), mend.matches("crm_resource --cleanup").count(), "{flags}: {line}");
        assert!(!line.contains("undo that with: crm_resource") || mend.contains("undo that with"), "{flags}: {line}");
        let said = why(&picture, database, None).unwrap();
        assert!(said.level == Level::Broken && said.outcome[0].contains(mend), "{flags}: {said:?}");
        let primary = said.nodes.iter().find(|node| node.node == "lxc2").unwrap();
        assert!(primary.because.contains("has failed"), "{primary:?}");
        let metrics = systole_command::metrics::text::of(Some(&picture));
        assert!(metrics.contains("systole_level{resource=\"mysql\",level=\"broken\"} 1"), "{metrics}");
    }
}

#[test]
fn what_pacemaker_has_blocked_is_said_of_a_replica_too() {
    let picture = changed("in-order", |file, text| match file {
        "crm_mon.xml" => text.replace(
            "role=\"Unpromoted\" active=\"true\" orphaned=\"false\" blocked=\"false\"",
            "role=\"Unpromoted\" active=\"true\" orphaned=\"false\" blocked=\"true\"",
        ),
        _ => text,
    });
    let (line, level) = check::line(&picture, picture.database("mysql").unwrap());
    assert!(level == Level::Degraded && line.contains("lxc1: Pacemaker has blocked the instance"), "{line}");
    let said = why(&picture, picture.database("mysql").unwrap(), Some("lxc2")).unwrap();
    assert!(said.level == Level::Broken && said.nodes.iter().all(|node| node.because.contains("has blocked")), "{said:?}");
}

#[test]
fn a_controller_that_is_just_elected_is_no_lost_quorum() {
    let without = |file: &str, text: String| match file {
        "crm_mon.xml" => text.replace("<current_dc present=\"true\"", "<current_dc present=\"false\""),
        _ => text,
    };
    let picture = changed("in-order", without);
    let (line, level) = check::line(&picture, picture.database("mysql").unwrap());
    assert!(level == Level::Degraded && line.contains("no controller is elected") && !line.contains("quorum"), "{line}");
    let said = why(&changed("nobody", without), changed("nobody", without).database("mysql").unwrap(), None).unwrap();
    assert!(said.outcome[0].contains("no controller is elected"), "{said:?}");
}

#[test]
fn a_role_by_its_old_name_is_the_same_role_and_a_group_in_a_clone_is_not_the_clone() {
    let role = |role: &'static str| {
        changed("nobody", move |file, text| match file {
            "cib.xml" => text.replace(
                "<meta_attributes id=\"mysql-meta_attributes\">",
                &format!("<meta_attributes id=\"mysql-meta_attributes\"><nvpair id=\"z\" name=\"target-role\" value=\"{role}\"/>"),
            ),
            _ => text,
        })
    };
    let of = |picture: &Picture| picture.database("mysql").unwrap().target_role.clone();
    assert_eq!([of(&role("Master")), of(&role("Promoted")), of(&role("Slave"))], [None, None, Some("Unpromoted".to_owned())]);
    let cib = Cib::parse(
        "<cib><configuration><resources><clone id=\"c\"><group id=\"g\"><primitive id=\"a\"/></group></clone><group id=\"h\"><primitive \
         id=\"b\"/></group></resources></configuration></cib>",
    )
    .unwrap();
    assert_eq!([&cib.primitives["a"].parent, &cib.primitives["b"].parent], [&Some("c".to_owned()), &Some("h".to_owned())]);
}

#[test]
fn writes_wait_for_a_replica() {
    said_of("blocked", Level::Broken);
}

#[test]
fn nobody_is_promoted() {
    said_of("nobody", Level::Broken);
}

/// The record may name replicas that have not come back to it, so the primary's own word goes before the count.
#[test]
fn a_primary_that_says_that_writes_wait_is_broken_whatever_is_recorded() {
    let read = |file: &str| std::fs::read_to_string(directory("in-order").join(file)).unwrap();
    let monitor = |line: &str| line.contains("mysql_monitor_10000") && line.contains("on_node=\"lxc2\"");
    let said = "exit-reason=\"writes wait: no replica acknowledges\"";
    let change = |line: &str| line.replace("exit-reason=\"\"", said).replace("rc-code=\"8\"", "rc-code=\"191\"");
    let cib: String = read("cib.xml").lines().map(|line| if monitor(line) { change(line) } else { line.to_owned() } + "\n").collect();
    let (cib, monitor) = (Cib::parse(&cib).unwrap(), Monitor::parse(&read("crm_mon.xml")).unwrap());
    let picture = Picture::new(&cib, &monitor, &attributes(&read("attributes")), &BTreeMap::new());
    let (line, level) = check::line(&picture, picture.database("mysql").unwrap());
    assert!(level == Level::Broken && line.starts_with("CRITICAL mysql-clone: lxc2: writes wait: no replica"), "{line}");
}

/// Pacemaker keeps what a degraded monitor said first, and there is room for one complaint: all writes waited, and what was said was the log.
#[test]
fn what_a_primary_published_of_its_writes_goes_before_what_its_monitor_said() {
    let check = |reason: &'static str, writes: Option<&'static str>| {
        let picture = changed("in-order", move |file, text| match (file, writes) {
            ("attributes", Some(writes)) => {
                // What a server published as a primary that is none any more means nothing.
                let of = |node: &str, value: &str| format!("name=\"systole-mysql-writes\" host=\"{node}\" value=\"{value}\"\n");
                text + &of("lxc2", writes) + &of("lxc1", "wait")
            }
            ("cib.xml", _) if !reason.is_empty() => {
                let monitor = |line: &str| line.contains("mysql_monitor_10000") && line.contains("on_node=\"lxc2\"");
                let said = format!("exit-reason=\"{reason}\"");
                let change = |line: &str| line.replace("exit-reason=\"\"", &said).replace("rc-code=\"8\"", "rc-code=\"191\"");
                text.lines().map(|line| if monitor(line) { change(line) } else { line.to_owned() } + "\n").collect()
            }
            _ => text,
        });
        check::line(&picture, picture.database("mysql").unwrap())
    };
    let (other, waits) = ("write `sync_binlog=1`", "writes wait: no replica acknowledges");
    for (reason, writes, level) in [
        ("", None, Level::Good),
        ("", Some("go"), Level::Good),
        ("", Some("wait"), Level::Broken),
        ("", Some("nonsense"), Level::Good),
        (other, None, Level::Degraded),
        (other, Some("go"), Level::Degraded),
        (other, Some("wait"), Level::Broken),
        (waits, None, Level::Broken),
        (waits, Some("wait"), Level::Broken),
        (waits, Some("go"), Level::Degraded),
    ] {
        let (line, is) = check(reason, writes);
        assert_eq!(is, level, "{reason:?} {writes:?}: {line}");
        assert_eq!(line.contains("CRITICAL mysql-clone: lxc2: writes wait: "), level == Level::Broken, "{line}");
        assert!(line.matches("writes wait: ").count() <= 1 && line.contains(reason), "{line}");
    }
    let (line, _) = check(waits, Some("go"));
    assert!(line.contains("its writes go on, and it has something else to say"), "{line}");
}

#[test]
fn what_the_attribute_manager_did_not_say_is_not_taken_for_good() {
    let picture = recorded("in-order").unheard_of("it does not answer".into());
    let status = Status::of(&picture, Some("mysql")).unwrap();
    assert_eq!(status.level(), Level::Degraded);
    assert!(status.pretty().contains("degraded: positions and acknowledgements are not known: it does not answer"));
    let acknowledge: Vec<String> = status.tsv().lines().skip(1).map(|line| line.split('\t').nth(7).unwrap().to_owned()).collect();
    assert_eq!(acknowledge, ["-", "-", "-"]);
    assert!(status.json()["databases"][0]["members"][0]["acknowledges"].is_null());
    let (line, level) = check::line(&picture, picture.database("mysql").unwrap());
    assert!(level == Level::Degraded && !line.contains("acknowledging=") && line.contains(" acknowledgements_required=1"), "{line}");
}

/// Between a line with a command and the end of what stands indented there.
fn shown(page: &str, command: &str) -> String {
    let begin = format!("    # {command}\n");
    let rest = page.split_once(&begin).unwrap_or_else(|| panic!("{command} is on the page")).1;
    let mut lines: Vec<&str> = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    ")).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines.iter().map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned() + "\n").collect()
}

#[test]
fn the_examples_of_the_page_are_what_the_command_says() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/command.md")).unwrap();
    let of = |name: &str| recorded(name);
    let status = |picture: &Picture| Status::of(picture, Some("mysql")).unwrap().pretty();
    let (in_order, degraded, nobody) = (of("in-order"), of("degraded"), of("nobody"));
    assert_eq!(shown(&page, "systole status mysql"), status(&in_order));
    assert_eq!(shown(&page, "systole status mysql-clone"), status(&degraded));
    assert_eq!(shown(&page, "systole check mysql"), check::line(&degraded, degraded.database("mysql").unwrap()).0 + "\n");
    assert_eq!(shown(&page, "systole why mysql"), why(&nobody, nobody.database("mysql").unwrap(), None).unwrap().pretty());
    let lost = why(&in_order, in_order.database("mysql").unwrap(), Some("lxc2")).unwrap().pretty();
    assert_eq!(shown(&page, "systole why mysql --if-lost lxc2"), lost);
}

#[test]
fn what_the_servers_say_now_takes_the_place_of_what_they_published() {
    let mut picture = recorded("in-order");
    let says = |executed: &str, received: &str, seconds| {
        Ok(Standing { position: Some(format!("0.0||100|-|-|{executed}|{received}")), seconds, rejoining: None })
    };
    let answers = [
        ("lxc1", says("0-11-4,0-12-1204", "0-11-4,0-12-1210", Some(1))),
        ("lxc2", says("0-11-4,0-12-1210", "-", None)),
        ("lxc3", Err("does not answer over ssh: nothing came within 2000 ms".to_owned())),
    ];
    let database = picture.databases.iter_mut().find(|database| database.name == "mysql").unwrap();
    database.hear(answers.into_iter().map(|(node, said)| (node.to_owned(), said)).collect());
    let status = Status::of(&picture, Some("mysql")).unwrap();
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/command.md")).unwrap();
    assert_eq!(shown(&page, "systole status mysql --live"), status.pretty());
    assert_eq!(status.json()["databases"][0]["members"][0]["lag"], 6);
    assert_eq!(status.json()["databases"][0]["members"][0]["lag_seconds"], 1);
}

#[test]
fn a_replica_that_went_another_way_has_no_lag() {
    let mut picture = recorded("in-order");
    let says = |executed: &str| Ok(Standing { position: Some(format!("0.0||100|-|-|{executed}|-")), seconds: None, rejoining: None });
    let database = picture.databases.iter_mut().find(|database| database.name == "mysql").unwrap();
    let answers = [("lxc1", says("0-13-9")), ("lxc2", says("0-12-1210"))];
    database.hear(answers.into_iter().map(|(node, said)| (node.to_owned(), said)).collect());
    let members = &Status::of(&picture, Some("mysql")).unwrap().json()["databases"][0]["members"];
    assert!(members[0]["lag"].is_null() && members[0]["asked"] == true, "{members:#}");
}

/// Pacemaker keeps what a monitor said first: how far a copy is, and that it failed, only its node knows.
#[test]
fn a_server_that_is_made_to_follow_says_itself_how_far_that_is() {
    let mut picture = recorded("in-order");
    let database = picture.databases.iter_mut().find(|database| database.name == "mysql").unwrap();
    let how_far = "the data of lxc2 are being copied here, for 95 s so far: 43 %, 2150 of 5000 MB";
    let copies = Standing { position: None, seconds: None, rejoining: Some(how_far.to_owned()) };
    database.hear([("lxc1".to_owned(), Ok(copies))].into_iter().collect());
    let status = Status::of(&picture, Some("mysql")).unwrap();
    assert!(status.pretty().contains(&format!("DEGRADED: {how_far}")), "{}", status.pretty());
    assert!(status.notices.iter().any(|notice| notice.text == format!("lxc1: {how_far}")), "{:?}", status.notices);
    let text = serde_json::to_string(&Standing { position: None, seconds: None, rejoining: None }).unwrap();
    assert!(serde_json::from_str::<Standing>(&text).is_ok());
    let of_before = r#"{"position":"0.0||100|-|-|0-1-2|-","seconds":null}"#;
    assert!(serde_json::from_str::<Standing>(of_before).unwrap().rejoining.is_none(), "of a node that is not upgraded yet");
}

#[test]
fn who_is_not_there_is_named() {
    let picture = recorded("in-order");
    assert_eq!(Status::of(&picture, Some("nobody")).unwrap_err(), "there is no database nobody: there are mysql, redis");
    let database = picture.database("mysql-clone").unwrap();
    assert_eq!(why(&picture, database, Some("lxc9")).unwrap_err(), "mysql-clone has no server on lxc9: there are lxc1, lxc2, lxc3");
    assert!(picture.database("mysql").is_some() && picture.database("mysql-ip").is_none());
}

#[test]
fn a_line_for_a_monitoring_system_has_one_bar_and_one_line() {
    for name in ["in-order", "moved", "degraded", "lost", "unfenced", "blocked", "nobody"] {
        let picture = recorded(name);
        for database in &picture.databases {
            let (line, level) = check::line(&picture, database);
            assert_eq!((line.matches('|').count(), line.lines().count()), (1, 1), "{line}");
            let words = ["OK ", "WARNING ", "CRITICAL ", "UNKNOWN "];
            assert!(line.starts_with(words[level as usize]), "{line}");
        }
    }
}

#[test]
fn what_is_no_answer_is_an_error_and_not_an_empty_cluster() {
    for text in ["", "nonsense", "<cib", "<other/>"] {
        assert!(Cib::parse(text).is_err(), "{text}");
    }
    assert!(Monitor::parse("<crm_mon").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// Whatever stands in the attributes, it is read without a panic, and something is said.
    #[test]
    fn any_value_is_read_without_a_panic(position in "[-0-9a-z.:|,]{0,40}", record in "(epoch|node|set|history|past|holders|active)=[-0-9a-z:,]{0,20}", score in "-?[A-Z0-9]{0,9}") {
        let read = |file: &str| std::fs::read_to_string(directory("in-order").join(file)).unwrap();
        let cib = read("cib.xml").replace("epoch=3", &record).replace("value=\"100\"", &format!("value=\"{score}\""));
        let (cib, monitor) = (Cib::parse(&cib).unwrap(), Monitor::parse(&read("crm_mon.xml")).unwrap());
        let values = BTreeMap::from([("lxc1".to_owned(), position)]);
        let attributes = Attributes::from([(("mysql".to_owned(), POSITION), values.clone()), (("redis".to_owned(), POSITION), values)]);
        let picture = Picture::new(&cib, &monitor, &attributes, &BTreeMap::new());
        prop_assert!(Status::of(&picture, None).unwrap().pretty().contains("mysql-clone"));
        for database in &picture.databases {
            prop_assert!(check::line(&picture, database).0.contains('|'));
            for member in &database.members {
                prop_assert!(why(&picture, database, Some(&member.node)).is_ok());
            }
        }
    }
}

/// A replica that was copied was shown as degraded, "for 0 s so far", for ten minutes after it acknowledged.
#[test]
fn a_failure_that_the_same_monitor_has_left_behind_is_over() {
    let codes = |monitor: &str| {
        let text = format!(
            r#"<cib><status><node_state uname="lxc3"><lrm><lrm_resources><lrm_resource id="mysql">{monitor}
            <lrm_rsc_op id="mysql_last_0" operation="start" interval="0" call-id="98" rc-code="0" last-rc-change="20"/>
            <lrm_rsc_op id="mysql_last_failure_0" operation="monitor" interval="11000" call-id="100" rc-code="190" last-rc-change="30"
            exit-reason="the data of lxc1 are being copied here, for 0 s so far"/>
            </lrm_resource></lrm_resources></lrm></node_state></status></cib>"#
        );
        let cib = Cib::parse(&text).unwrap();
        cib.histories[&("lxc3".to_owned(), "mysql".to_owned())].iter().map(|op| (op.call, op.code)).collect::<Vec<_>>()
    };
    let monitor = |call: u8, code: u8, changed: u8| {
        let begin = r#"<lrm_rsc_op id="mysql_monitor_11000" operation="monitor" interval="11000""#;
        format!(r#"{begin} call-id="{call}" rc-code="{code}" last-rc-change="{changed}"/>"#)
    };
    assert_eq!(codes(&monitor(100, 0, 52)), [(100, 0), (98, 0)]);
    // It has begun to fail after that: Pacemaker leaves its first result as it was.
    assert_eq!(codes(&monitor(100, 0, 21)), [(98, 0), (100, 190)]);
    assert_eq!(codes(&monitor(100, 190, 30)), [(98, 0), (100, 190)]);
    assert_eq!(codes(&monitor(101, 0, 40)), [(101, 0), (98, 0), (100, 190)]);
    // What failed and does not recur is in nothing else.
    assert_eq!(codes(""), [(98, 0), (100, 190)]);
}

#[test]
fn why_is_not_good_while_writes_wait() {
    let picture = recorded("blocked");
    let said = why(&picture, picture.database("mysql").unwrap(), None).unwrap();
    assert!(said.level == Level::Broken && said.pretty().contains("writes wait: 0 replicas acknowledge"), "{said:?}");
}
