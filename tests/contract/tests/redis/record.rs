//! The record in the CIB has one writer at a time: whoever writes replaces the one that he knows, or nothing.

use serde_json::Value;
use testkit::{Group, Lists, Node};

/// Lets the primary's next monitor look whether the record is its own, as it does once a minute.
fn let_review(node: &Node) {
    let mut state: Value = serde_json::from_slice(&std::fs::read(node.state_file()).unwrap()).unwrap();
    state["reviewed"] = Value::Null;
    std::fs::write(node.state_file(), state.to_string()).unwrap();
}

/// A write that comes late, or an operator, between the election and the record.
#[test]
fn a_promotion_whose_record_was_changed_meanwhile_opens_nothing() {
    let group = Group::established(&["a", "b", "c"]);
    group.node("a").kill_server();
    let lists = Lists::promoting("b", &["b", "c"]);
    group.before_promotion(&lists);
    group.cluster.behave("case \"$*\" in *crm_config*nvpair*) printf node=c >\"$dir/values/property.systole-redis-primary\" ;; esac");
    group.node("b").agent().lists(&lists, group.spelling).run("promote").refused(1, &["changed meanwhile", "node=c"]);
    assert_eq!(group.writable(), Vec::<&str>::new());
    assert_eq!(group.record(), "node=c");
    group.cluster.behave("");
    // What was decided holds: the next attempt goes by it.
    group.promote("c", &["b", "c"]).ok();
    assert_eq!(group.writable(), ["c"]);
}

#[test]
fn a_primary_writes_its_record_again_when_it_got_lost() {
    let group = Group::established(&["a", "b"]);
    group.node("a").agent().run("monitor").expect(&[8]);
    let record = group.record();
    let lost = |there: Option<&str>| {
        match there {
            Some(text) => group.cluster.set_record("redis", text),
            None => group.cluster.forget_record("redis"),
        }
        let_review(group.node("a"));
        group.node("a").agent().run("monitor").expect(&[8]);
        assert_eq!(group.record(), record);
    };
    lost(None);
    // An old CIB was loaded from a file.
    lost(Some("epoch=0 node=b history=0123456789012345678901234567890123456789"));
}

#[test]
fn a_decision_that_names_another_than_the_primary_is_shown_and_not_overwritten() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    a.agent().run("monitor").expect(&[8]);
    let record = group.record();
    group.cluster.set_record("redis", "node=b");
    let_review(a);
    let words = ["the record names b", "operator's decision", "crm_attribute --type crm_config", "--delete"];
    a.agent().run("monitor").refused(191, &words);
    // Also when there is something to record.
    let starting = Lists { promoted: vec!["a"], unpromoted: vec!["b"], start: vec!["c"], ..Lists::default() };
    a.agent().notifying("pre", "start", &starting, group.spelling).run("notify").refused(0, &["the record names b"]);
    a.agent().run("monitor").refused(191, &words);
    assert_eq!(group.record(), "node=b");
    a.write("goes on").expect("nothing was killed for that");
    // The operator takes it back.
    group.cluster.forget_record("redis");
    let_review(a);
    a.agent().run("monitor").expect(&[8]);
    assert_eq!(group.record(), record);
}

/// The monitor that had written was killed before it could remember.
#[test]
fn a_record_that_a_killed_action_wrote_is_gone_on_with() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    a.agent().run("monitor").expect(&[8]);
    let before = std::fs::read(a.state_file()).unwrap();
    let starting = Lists { promoted: vec!["a"], unpromoted: vec!["b"], start: vec!["c"], ..Lists::default() };
    a.agent().notifying("pre", "start", &starting, group.spelling).run("notify").ok();
    let record = group.record();
    assert!(record.contains("holders=a,b,c"), "{record}");
    std::fs::write(a.state_file(), &before).unwrap();
    let_review(a);
    for _ in 0..2 {
        a.agent().run("monitor").expect(&[8]);
        assert_eq!(group.record(), record);
    }
}
