//! The history of promotions: each node that hears of one keeps it, whatever is killed, and nobody waits for that.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testkit::{GroupOf, Kind, Lists, NodeOf, eventually};

use super::killed::moments;

fn file<K: Kind>(node: &NodeOf<K>) -> PathBuf {
    node.kept().join("history").join(format!("{}.jsonl", K::RESOURCE))
}

/// The lines that a node has kept.
fn kept<K: Kind>(node: &NodeOf<K>) -> Vec<String> {
    fs::read_to_string(file(node)).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Each node has so many promotions, the last of them with all these words.
#[track_caller]
fn all_know<K: Kind>(group: &GroupOf<K>, promotions: usize, words: &[&str]) {
    for node in &group.nodes {
        eventually(&format!("{} keeps what it heard", node.name), || {
            node.agent().run("monitor");
            kept(node).len() == promotions
        });
        let last = kept(node).pop().unwrap_or_default();
        assert!(words.iter().all(|word| last.contains(word)), "{} knows of {words:?}: {last}", node.name);
        assert!(!node.remembered("heard").exists(), "{}: the notes are of no use any more", node.name);
    }
}

/// Another primary in the place of one that is there, or dead.
#[track_caller]
fn replace<K: Kind>(group: &GroupOf<K>, from: &'static str, to: &'static str) {
    let rest = ["a", "b", "c"].into_iter().filter(|name| *name != from);
    let lists = Lists { promoted: vec![from], unpromoted: rest.collect(), demote: vec![from], promote: vec![to], ..Lists::default() };
    group.notify_all("pre", "demote", &lists);
    group.node(from).agent().lists(&lists, group.spelling).run("demote").ok();
    group.notify_all("post", "demote", &lists);
    group.promote_by(&lists).ok();
    for node in ["a", "b", "c"].into_iter().filter(|name| *name != to) {
        // Who was the primary follows with its next monitor, or with one after it where its server recovers for longer.
        eventually(&format!("{node} is attached"), || {
            group.node(node).agent().run("monitor");
            group.node(node).is_attached()
        });
    }
}

pub(crate) fn each_node_keeps_the_promotions_that_it_hears_of<K: Kind>() {
    let group = GroupOf::<K>::established(&["a", "b", "c"]);
    all_know(&group, 1, &[r#""epoch":1,"#, r#""from":null"#, r#""to":"a""#]);
    assert!(kept(group.node("a"))[0].contains("first-start"), "whoever was promoted saw that there was no record");
    replace(&group, "a", "b");
    all_know(&group, 2, &[r#""epoch":2,"#, r#""from":"a","to":"b","kind":"planned-move""#, "outage_ms", "promotion"]);
    group.node("b").kill_server();
    replace(&group, "b", "c");
    all_know(&group, 3, &[r#""epoch":3,"#, r#""from":"b","to":"c","kind":"crash","cause":"the server had died""#]);
}

/// The processes of this node's agent: what an action has left behind it, too.
fn processes<K: Kind>(node: &NodeOf<K>) -> Vec<testkit::Process> {
    let state = format!("HA_RSCTMP={}", node.state().display());
    let ours = |process: &testkit::Process| {
        let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        process.arguments.contains("monitor") && environment.split(|byte| *byte == 0).any(|v| v == state.as_bytes())
    };
    testkit::Process::all().into_iter().filter(ours).collect()
}

pub(crate) fn a_history_is_whole_and_has_each_promotion_once_whatever_is_killed<K: Kind>((rounds, most): (u64, u64)) {
    let group = GroupOf::<K>::established(&["a", "b"]);
    let node = group.node("b");
    let heard = fs::read(node.remembered("heard")).expect("b has heard of the promotion");
    for micros in moments(rounds, most) {
        fs::write(node.remembered("heard"), &heard).unwrap();
        let running = node.agent().spawn("monitor");
        std::thread::sleep(Duration::from_micros(micros));
        processes(node).iter().for_each(|process| process.signal(testkit::Signal::SIGKILL));
        running.kill();
        assert!(kept(node).iter().all(|line| line.starts_with('{') && line.ends_with('}')), "killed after {micros} us: {:?}", kept(node));
        eventually(&format!("it is kept all the same, killed after {micros} us"), || {
            node.agent().run("monitor");
            !node.remembered("heard").exists() && !node.remembered("keeping").exists()
        });
        assert_eq!(kept(node).len(), 1, "killed after {micros} us: {:?}", kept(node));
    }
}

/// A history that cannot be kept is no reason to do anything else less.
pub(crate) fn a_history_that_cannot_be_kept_changes_nothing<K: Kind>() {
    let group = GroupOf::<K>::established(&["a", "b", "c"]);
    for node in &group.nodes {
        fs::write(node.kept(), "no directory").unwrap();
    }
    replace(&group, "a", "b");
    for _ in 0..3 {
        group.node("b").agent().run("monitor").expect(&[8, 191]);
        group.node("a").agent().run("monitor").expect(&[0, 190]);
    }
    assert!(group.node("b").remembered("keeping").exists(), "it is tried again");
}
