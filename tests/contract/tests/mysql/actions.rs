//! Each action alone: exit codes, and that it can be repeated.

use testkit::mysql::{Group, Node};
use testkit::{Agent, Lists, Spelling};

promised!(validate(): a_clone_without_notify_does_not_start, a_start_without_fencing_tells_what_that_means);

#[test]
fn every_action_can_be_repeated() {
    let node = Node::alone();
    for (action, status) in [
        ("stop", 0),
        ("monitor", 7),
        ("start", 0),
        ("start", 0),
        ("monitor", 0),
        ("demote", 0),
        ("demote", 0),
        ("promote", 0),
        ("promote", 0),
        ("monitor", 8),
        ("demote", 0),
        ("demote", 0),
        ("monitor", 0),
        ("stop", 0),
        ("stop", 0),
        ("monitor", 7),
    ] {
        node.agent().run(action).expect(&[status]);
        node.agent()
            .probing()
            .run("monitor")
            .expect(&[[0, 7, 8][usize::from(node.is_writable()) * 2 + usize::from(node.servers().is_empty())]]);
    }
    assert!(node.servers().is_empty());
}

/// The same in a clone of one, where the cluster's tools are called as well.
#[test]
fn every_action_can_be_repeated_in_a_clone() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    let lists = Lists::promoting("a", &["a"]);
    node.start();
    node.start();
    node.agent().run("monitor").expect(&[0]);
    group.before_promotion(&lists);
    for _ in 0..2 {
        node.agent().lists(&lists, group.spelling).run("promote").ok();
        node.agent().run("monitor").expect(&[8, 190, 191]);
        assert!(node.is_writable());
    }
    for _ in 0..2 {
        node.agent().run("demote").ok();
        node.agent().run("monitor").expect(&[0]);
        assert!(!node.is_writable());
    }
    for _ in 0..2 {
        node.agent().run("stop").ok();
        node.agent().run("monitor").expect(&[7]);
    }
    assert_eq!(node.score(), "", "the score is withdrawn");
}

#[test]
fn an_action_that_does_not_exist_is_not_implemented() {
    let node = Node::alone();
    for action in ["migrate_to", "migrate_from", "reload", "", "START"] {
        node.agent().run(action).expect(&[3]);
    }
}

/// Whoever runs it: no environment, no server, no rights.
#[test]
fn the_metadata_needs_nothing() {
    let node = Node::alone();
    let bare = Agent::bare(testkit::mysql::AGENT).run("meta-data");
    bare.ok();
    assert!(bare.stdout.contains("<resource-agent name=\"mysql\""), "{}", bare.stdout);
    assert_eq!(bare.stdout, node.agent().run("meta-data").stdout);
    let nobody = std::process::Command::new("runuser")
        .args(["-u", "nobody", "--", "env", "-i", testkit::mysql::AGENT, "meta-data"])
        .current_dir("/")
        .output()
        .unwrap();
    assert!(nobody.status.success(), "{nobody:?}");
    assert_eq!(String::from_utf8_lossy(&nobody.stdout), bare.stdout);
}

#[test]
fn nothing_installed_is_not_running_and_can_be_stopped() {
    let node = Node::empty();
    let agent = node.agent().parameter("binary", "/no/such/mysqld").parameter("datadir", "/no/such/data").parameter("user", "nosuchuser");
    agent.clone().probing().run("monitor").expect(&[5, 7]);
    agent.run("stop").ok();
    agent.run("demote").ok();
    agent.run("start").refused(5, &["/no/such/mysqld", "install"]);
}

#[test]
fn promote_of_a_server_that_does_not_run_fails() {
    let node = Node::alone();
    node.agent().run("promote").refused(1, &["does not run", "start it"]);
}

/// A notification never fails, whatever it says.
#[test]
fn a_notification_never_fails() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    for running in [false, true] {
        if running {
            node.start();
        }
        node.agent().run("notify").expect(&[0]);
        for phase in ["pre", "post", "nonsense"] {
            for operation in ["start", "stop", "promote", "demote", "nonsense"] {
                for spelling in [Spelling::New, Spelling::Old] {
                    let lists = Lists { unpromoted: vec!["a"], promote: vec!["a"], demote: vec!["b"], ..Lists::default() };
                    node.agent().notifying(phase, operation, &lists, spelling).run("notify").ok();
                }
            }
        }
    }
    assert_eq!(group.writable(), Vec::<&str>::new());
}
