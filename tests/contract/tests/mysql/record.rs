//! The record in the CIB has one writer at a time: whoever writes replaces the one that he knows, or nothing.

use serde_json::Value;
use testkit::Lists;
use testkit::mysql::{Group, Node};

/// Lets the primary's next monitor look whether the record is its own, as it does once a minute.
fn let_review(node: &Node) {
    let mut state: Value = serde_json::from_slice(&std::fs::read(node.state_file()).unwrap()).unwrap();
    state["asked_record"] = Value::Null;
    std::fs::write(node.state_file(), state.to_string()).unwrap();
}

fn stamp(record: &str) -> &str {
    record.split(" node=").next().unwrap()
}

/// A write that comes late, or an operator, between the election and the record.
#[test]
fn a_promotion_whose_record_was_changed_meanwhile_opens_nothing() {
    let group = Group::established(&["a", "b"]);
    group.node("a").kill_server();
    let lists = Lists::promoting("b", &["b"]);
    group.before_promotion(&lists);
    let late = "epoch=7 change=0 node=a server=x durability=lossless active= set=";
    group
        .cluster
        .behave(&format!("case \"$*\" in *crm_config*nvpair*) printf '{late}' >\"$dir/values/property.systole-db-primary\" ;; esac"));
    group.node("b").agent().lists(&lists, group.spelling).run("promote").refused(1, &["changed meanwhile", "epoch=7"]);
    assert_eq!(group.writable(), Vec::<&str>::new());
    assert!(group.record().starts_with("epoch=7"), "{}", group.record());
}

#[test]
fn a_primary_writes_its_record_again_when_it_got_lost() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let a = group.node("a");
    let record = group.record();
    let lost = |there: Option<&str>| {
        match there {
            Some(text) => group.cluster.set_record("db", text),
            None => group.cluster.forget_record("db"),
        }
        let_review(a);
        a.agent().run("monitor").expect(&[8]);
        assert_eq!(group.record(), record);
    };
    lost(None);
    // An old CIB was loaded from a file; and a promotion that failed had its record written late.
    let epoch = |n: &str, node: &str| record.replacen("epoch=1", n, 1).replacen("node=a", node, 1).replacen("active=b", "active=", 1);
    lost(Some(&epoch("epoch=0", "node=b")));
    lost(Some(&epoch("epoch=1", "node=b")));
    a.write("goes on").expect("b acknowledges");
}

#[test]
fn a_decision_that_names_another_than_the_primary_is_shown_and_not_overwritten() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let a = group.node("a");
    let record = group.record();
    group.cluster.set_record("db", "node=b");
    let_review(a);
    let words = ["the record names b", "operator's decision", "crm_attribute --type crm_config", "--delete"];
    a.agent().run("monitor").refused(191, &words);
    // Also when there is something to record.
    let stopped = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], stop: vec!["c"], ..Lists::default() };
    group.node("c").agent().run("stop").ok();
    group.notify("a", "post", "stop", &stopped);
    a.agent().run("monitor").refused(191, &words);
    assert_eq!(group.record(), "node=b");
    a.write("goes on").expect("b acknowledges");
    // The operator takes it back.
    group.cluster.forget_record("db");
    let_review(a);
    a.agent().run("monitor").expect(&[8]);
    assert_eq!(stamp(&group.record()), stamp(&record).replace("change=0", "change=1"), "c has left, and nothing else");
}

/// The monitor that had written 1.N was killed before it could remember that, and wrote another 1.N, in which who acknowledged under the
/// first was no member.
#[test]
fn no_stamp_is_given_to_two_records() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let a = group.node("a");
    let leave = |node: &'static str| {
        let stopped = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], stop: vec![node], ..Lists::default() };
        group.node(node).agent().run("stop").ok();
        group.notify("a", "post", "stop", &stopped);
        a.agent().run("monitor").expect(&[8]);
    };
    let come = |node: &'static str| {
        let starting = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], start: vec![node], ..Lists::default() };
        group.notify("a", "pre", "start", &starting);
        group.node(node).agent().lists(&starting, group.spelling).run("start").ok();
        group.notify("a", "post", "start", &starting);
    };
    leave("c");
    let before = std::fs::read(a.state_file()).unwrap();
    come("c");
    group.settle();
    let record = group.record();
    assert!(record.contains("active=b,c"), "{record}");
    // As the killed monitor left it.
    std::fs::write(a.state_file(), &before).unwrap();
    come("b");
    for _ in 0..3 {
        a.agent().run("monitor").expect(&[8, 191]);
        let now = group.record();
        assert!(now == record || stamp(&now) != stamp(&record), "two records of one stamp:\n{record}\n{now}");
        assert!(now.contains("active=b,c"), "c acknowledges, and is in no record: {now}");
    }
}

/// The cluster cannot be asked for the record, and what the primary promises is looked after all the same.
#[test]
fn a_record_that_cannot_be_read_keeps_nobody_from_waiting_as_promised() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let a = group.node("a");
    if !a.server.is_lossless() {
        return;
    }
    let timeout = format!("{}_timeout", a.server.source());
    let before = a.administer(&format!("SELECT @@global.{timeout}")).unwrap();
    group.cluster.behave("exit 102");
    let_review(a);
    a.must(&[&format!("SET GLOBAL {timeout}=10")]);
    a.agent().run("monitor").refused(191, &[&timeout]);
    assert_eq!(a.administer(&format!("SELECT @@global.{timeout}")).unwrap(), before);
}
