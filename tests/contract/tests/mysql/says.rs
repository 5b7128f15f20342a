//! What an operator sees in crm_mon and reads in the log: what is wrong, and nothing while all is well.

use testkit::mysql::Group;
use testkit::{Lists, eventually};

#[test]
fn a_normal_life_writes_no_warning() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    group.demote("a", &["b", "c"], &["b"]).ok();
    let demote = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    for name in ["b", "c", "a"] {
        group.notify(name, "post", "demote", &demote);
    }
    group.promote("b", &["a", "b", "c"]).ok();
    // A MySQL that was demoted follows with its next monitor.
    group.node("a").agent().run("monitor");
    group.wait_attached("a");
    group.wait_attached("c");
    group.settle();
    for node in &group.nodes {
        node.agent().run("stop").ok();
        let log = node.log();
        let loud: Vec<&str> = log.lines().filter(|l| l.contains("WARNING") || l.contains("ERROR")).collect();
        assert!(loud.is_empty(), "{}: {loud:#?}", node.name);
    }
}

#[test]
fn a_primary_whose_writes_nobody_acknowledges_says_so_and_when_it_is_over() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let (a, b) = (group.node("a"), group.node("b"));
    if !a.server.is_lossless() {
        return;
    }
    b.kill_server();
    let waiting = a.write_and_wait("nobody has it");
    let mut answer = a.agent().run("monitor");
    eventually("it is said", || {
        answer = a.agent().run("monitor");
        answer.status == 191
    });
    answer.refused(191, &["writes wait", "b", "durability=async-allowed"]);
    let said = |text: &str| a.log().lines().filter(|line| line.contains(text)).count();
    a.agent().run("monitor").expect(&[191]);
    assert_eq!(said("writes wait"), 1, "{}", a.log());
    b.agent().run("monitor");
    b.agent().run("stop").ok();
    let lists = Lists { promoted: vec!["a"], start: vec!["b"], ..Lists::default() };
    group.notify("a", "pre", "start", &lists);
    b.agent().lists(&lists, group.spelling).run("start").ok();
    group.notify_all("post", "start", &lists);
    eventually("it is over", || {
        b.agent().run("monitor");
        a.agent().run("monitor").status == 8
    });
    assert_eq!(said("writes are acknowledged again"), 1, "{}", a.log());
    drop(waiting);
}

/// Nobody was promoted: the reason is where an operator looks first.
#[test]
fn a_refused_promotion_is_shown_until_somebody_is_promoted() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let c = group.node("c");
    if !c.server.is_lossless() {
        return;
    }
    for name in ["a", "b"] {
        group.node(name).kill_server();
    }
    let demote = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], demote: vec!["a"], promote: vec!["c"], ..Lists::default() };
    group.notify("c", "post", "demote", &demote);
    group.promote("c", &["c"]).refused(1, &["may be only on b"]);
    c.agent().run("monitor").refused(190, &["not promoted", "may be only on b"]);
    c.agent().run("monitor").refused(190, &["not promoted"]);
    let b = group.node("b");
    b.agent().run("stop").ok();
    b.agent().lists(&Lists { unpromoted: vec!["c"], start: vec!["b"], ..Lists::default() }, group.spelling).run("start").ok();
    group.node("a").agent().run("stop").ok();
    let start = Lists { unpromoted: vec!["b", "c"], start: vec!["a"], ..Lists::default() };
    group.node("a").agent().lists(&start, group.spelling).run("start").ok();
    group.promote("a", &["a", "b", "c"]).ok();
    group.wait_attached("c");
    eventually("it is over", || c.agent().run("monitor").status == 0);
}

/// Nobody has told it whom to follow, and nobody is promoted.
#[test]
fn a_server_that_follows_nobody_says_so() {
    let group = Group::of(&["a", "b"]);
    let a = group.node("a");
    a.start();
    let mut answer = a.agent().run("monitor");
    answer.expect(&[0]);
    for _ in 0..3 {
        answer = a.agent().run("monitor");
    }
    answer.refused(190, &["follows nobody"]);
}

/// After each change of a parameter Pacemaker promotes once more what is promoted, and its lists say that nobody is: the replicas go on
/// receiving.
#[test]
fn a_second_promotion_of_the_primary_moves_nothing() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    let record = group.record();
    let received = |name: &str| group.node(name).log().lines().filter(|l| l.contains("following") || l.contains("position for")).count();
    let before: Vec<usize> = ["b", "c"].map(received).to_vec();
    let lists = Lists::promoting("a", &["a", "b", "c"]);
    group.notify_all("pre", "promote", &lists);
    for name in ["b", "c"] {
        assert!(group.node(name).is_attached(), "{name} stopped receiving");
    }
    group.node("a").write("between").unwrap();
    group.node("a").agent().lists(&lists, group.spelling).run("promote").ok();
    group.notify_all("post", "promote", &lists);
    assert_eq!(before, ["b", "c"].map(received).to_vec(), "{}", group.node("b").log());
    assert_eq!(group.record(), record);
    group.settle();
}

/// The old primary is the candidate again, and a replica missed the notification of its demotion: it says what it holds all the same.
#[test]
fn a_replica_that_missed_the_demotion_speaks_when_the_same_primary_is_to_be_promoted_again() {
    let group = Group::established(&["a", "b", "c"]);
    group.settle();
    group.node("a").kill_server();
    let demote = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], demote: vec!["a"], promote: vec!["a"], ..Lists::default() };
    group.node("a").agent().lists(&demote, group.spelling).run("demote").ok();
    eventually("a answers again", || group.node("a").administer("SELECT 1").is_ok());
    let lists = Lists::promoting("a", &["a", "b", "c"]);
    group.notify_all("pre", "promote", &lists);
    for name in ["b", "c"] {
        let round = group.record().split_whitespace().find_map(|word| Some(format!("{}.", word.strip_prefix("epoch=")?))).unwrap();
        let position = group.cluster.position("db", name).unwrap_or_default();
        assert!(position.starts_with(&round), "{name} did not say what it holds: {position}; {}", group.record());
    }
}
