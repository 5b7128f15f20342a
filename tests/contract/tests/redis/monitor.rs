//! The actions' answers, and what may be asked without anything being there.

use std::process::{Command, Stdio};

use testkit::{AGENT, Agent, Node, require};

#[test]
fn monitor_tells_the_role() {
    let node = Node::alone();
    node.agent().run("monitor").expect(&[7]);
    node.start();
    node.agent().run("monitor").expect(&[0]);
    node.agent().run("promote").ok();
    node.agent().run("monitor").expect(&[8]);
    node.agent().probing().run("monitor").expect(&[8]);
    node.agent().run("demote").ok();
    node.agent().run("monitor").expect(&[0]);
    node.agent().run("stop").ok();
    node.agent().run("monitor").expect(&[7]);
}

#[test]
fn status_is_monitor() {
    let node = Node::alone();
    node.agent().run("status").expect(&[7]);
    node.start_promoted();
    node.agent().run("status").expect(&[8]);
}

#[test]
fn every_action_can_be_repeated() {
    let node = Node::alone();
    node.agent().run("stop").ok();
    node.start();
    node.start();
    let server = node.process().pid;
    node.agent().run("demote").ok();
    node.agent().run("promote").ok();
    node.agent().run("promote").ok();
    node.agent().run("monitor").expect(&[8]);
    // Pacemaker never starts a promoted instance; an operator's debug-start must not hurt it.
    node.start();
    node.agent().run("monitor").expect(&[8]);
    node.agent().run("demote").ok();
    node.agent().run("demote").ok();
    assert_eq!(node.process().pid, server, "nothing of this restarts the server");
    node.agent().run("stop").ok();
    node.agent().run("stop").ok();
}

#[test]
fn stop_of_a_promoted_instance_stops_it() {
    let node = Node::alone();
    node.start_promoted();
    node.agent().run("stop").ok();
    assert!(node.servers().is_empty());
    node.start();
    node.agent().run("monitor").expect(&[0]);
}

#[test]
fn promote_of_a_stopped_server_fails_with_the_remedy() {
    let node = Node::alone();
    node.agent().run("promote").refused(1, &["does not run", "start"]);
}

#[test]
fn an_action_that_does_not_exist_is_3_and_none_is_2() {
    require();
    assert_eq!(Agent::new(AGENT, "redis").run("no-such-action").status, 3);
    let answer = Agent::new(AGENT, "redis").command(&[]).output().unwrap();
    assert_eq!(answer.status.code(), Some(2), "{answer:?}");
}

#[test]
fn metadata_and_usage_need_neither_root_nor_environment() {
    require();
    for (action, word) in [("meta-data", "</resource-agent>"), ("usage", "validate-all")] {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "env", "-i", AGENT, action])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(word), "{action} as nobody: {output:?}");
        assert!(output.stderr.is_empty(), "{action} complains: {output:?}");
    }
}

#[test]
fn metadata_is_the_same_whatever_the_environment() {
    require();
    let plain = Agent::bare(AGENT).run("meta-data").ok().stdout.clone();
    let other = Agent::bare(AGENT)
        .variable("OCF_RESKEY_port", "nonsense")
        .variable("OCF_TESTER_FAIL_HAVE_BINARY", "1")
        .variable("LC_ALL", "tr_TR.UTF-8")
        .run("meta-data");
    assert_eq!(plain, other.ok().stdout);
}
