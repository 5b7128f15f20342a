//! Replicas that are none of the cluster's, servers with one id, and nodes whose names are addresses.

use testkit::mysql::{Group, Node, Server};
use testkit::{Lists, eventually};

/// Another site's replica: a server that no agent manages follows the primary.
fn stranger(group: &Group, number: u16, acknowledges: bool) -> Node {
    let a = group.node("a");
    let stranger = Node::outside(a, number);
    stranger.start();
    let (change, prefix, by_gtid) = match stranger.server {
        Server::MySql | Server::MySql80 => ("CHANGE REPLICATION SOURCE TO", "SOURCE", "SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1"),
        Server::MySql57 | Server::MySql56 => ("CHANGE MASTER TO", "MASTER", "MASTER_AUTO_POSITION=1"),
        Server::MariaDb => ("CHANGE MASTER TO", "MASTER", "MASTER_USE_GTID=slave_pos"),
    };
    let follow = format!(
        "{change} {prefix}_HOST='{}', {prefix}_PORT={}, {prefix}_USER='replication', {prefix}_PASSWORD='{}', {by_gtid}",
        a.address,
        a.port,
        testkit::mysql::REPLICATION_PASSWORD
    );
    if acknowledges {
        stranger.must(&[&format!("SET GLOBAL {}_enabled=1", stranger.server.acknowledger())]);
    }
    stranger.must(&[&follow, &format!("START {}", stranger.server.replica())]);
    eventually("the stranger is attached", || stranger.is_attached());
    stranger
}

#[test]
fn a_stranger_that_acknowledges_is_named_and_never_recorded() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let a = group.node("a");
    if !a.server.is_lossless() {
        return;
    }
    let quiet = stranger(&group, 8, false);
    a.agent().run("monitor").expect(&[8]);
    drop(quiet);
    let stranger = stranger(&group, 9, true);
    let mut answer = a.agent().run("monitor");
    eventually("it is seen", || {
        answer = a.agent().run("monitor");
        answer.status == 191
    });
    answer.refused(191, &["none of the cluster's", "server_id 19"]);
    // The operator changes the durability there and back: what is attached is recorded anew.
    for durability in ["async-allowed", "lossless"] {
        for node in &group.nodes {
            node.agent().parameter("durability", durability).run("reload-agent").ok();
            node.agent().parameter("durability", durability).run("monitor");
        }
        assert!(!group.record().contains("active=alone") && !group.record().contains(",alone"), "{}", group.record());
    }
    assert!(group.record().contains("active=b "), "{}", group.record());
    drop(stranger);
}

/// What the stranger alone has, clients were told of: it is not taken back when this primary dies.
#[test]
fn a_primary_that_a_stranger_acknowledges_to_forgets_its_reign() {
    let mut group = Group::of(&["a", "b"]);
    for node in &mut group.nodes {
        node.configure("binlog_format=ROW\n");
        node.parameters = vec![("rejoin", "rewind".to_owned())];
    }
    if !Server::here().is_lossless() {
        return;
    }
    group.start_all();
    group.promote("a", &["a", "b"]).ok();
    group.wait_attached("b");
    group.settle();
    let a = group.node("a");
    let noted = a.data().with_file_name("data.systole-kept").join("reign");
    eventually("it has noted that it reigns", || {
        a.agent().run("monitor");
        noted.exists()
    });
    let stranger = stranger(&group, 9, true);
    eventually("it is seen", || a.agent().run("monitor").status == 191);
    assert!(!noted.exists());
    a.agent().run("monitor").expect(&[191]);
    assert!(group.record().contains("unbroken=2:"), "{}", group.record());
    drop(stranger);
}

#[test]
fn two_servers_with_one_server_id_are_named_and_leave_the_primary_alone() {
    let group = Group::of(&["a", "b", "c"]);
    for name in ["a", "b"] {
        group.node(name).start();
    }
    let c = group.node("c");
    c.configure("server_id=12");
    let lists = Lists { unpromoted: vec!["a", "b"], start: vec!["c"], ..Lists::default() };
    c.agent().lists(&lists, group.spelling).run("start").refused(5, &["b and c", "server_id 12", c.config().to_str().unwrap()]);
    assert!(c.servers().is_empty());
    c.configure("");
    c.agent().lists(&lists, group.spelling).run("start").ok();
    group.promote("a", &["a", "b", "c"]).ok();
    // Both: whoever connects with the id already is what the agent cannot prevent any more.
    for name in ["b", "c"] {
        group.wait_attached(name);
    }
    // Set while it runs: it leaves the primary alone before the two throw each other out of it, and MariaDB's stands still over that.
    c.must(&["SET GLOBAL server_id=12"]);
    c.agent().run("monitor").refused(190, &["b and c", "server_id 12"]);
    for _ in 0..3 {
        c.agent().run("monitor").expect(&[190]);
        // Whose it was before goes on.
        group.node("b").agent().run("monitor").expect(&[0]);
        group.node("a").agent().run("monitor").expect(&[8, 191]);
    }
    c.must(&["SET GLOBAL server_id=13"]);
    c.agent().run("monitor");
    group.wait_attached("c");
    eventually("nothing is left of it", || c.agent().run("monitor").status == 0);
}

/// `pcs cluster setup ha 10.0.0.1 10.0.0.2`: the node names are addresses.
#[test]
fn node_names_that_are_addresses_work() {
    let group = Group::of(&["10.0.0.1", "10.0.0.2"]);
    group.start_all();
    group.promote("10.0.0.1", &["10.0.0.1", "10.0.0.2"]).ok();
    group.wait_attached("10.0.0.2");
    let first = group.node("10.0.0.1");
    for durability in ["async-allowed", "lossless"] {
        if durability == "lossless" && !first.server.is_lossless() {
            continue;
        }
        for node in [&group.nodes[0], &group.nodes[1], &group.nodes[0]] {
            node.agent().parameter("durability", durability).run("monitor").expect(&[0, 8, 190, 191]);
        }
        assert!(group.record().contains(&format!("durability={durability}")), "{}", group.record());
    }
    first.write("one").unwrap();
    group.wait_caught_up("10.0.0.1", "10.0.0.2");
}
