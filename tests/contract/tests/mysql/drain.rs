//! A planned move behind HAProxy: the notification before the demotion drains the old primary. What else becomes of it is shared with
//! Redis, and tested there.

use std::time::Duration;

use testkit::mysql::{APP_PASSWORD, Client, Group};
use testkit::{Haproxy, Lists, eventually};

/// As operators have it, with a check that needs no account.
const CONFIGURATION: &str = "\
defaults
    mode tcp
    timeout client 1m
    timeout server 1m
    timeout connect 100ms
    retries 200
    option redispatch 1
global
    stats socket /run/haproxy/admin.sock mode 600 level admin
listen mariadb
    bind 127.0.0.1:0
    default-server check inter 100ms
    server nobody 127.0.0.1:1 backup no-check
";

#[test]
fn a_planned_move_drains_the_old_primary_and_a_promotion_of_the_same_undoes_it() {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    let haproxy = Haproxy::start(&a.directory, CONFIGURATION, "mariadb", a.port + 5000, &[("a", a.address.as_str(), a.port)]);
    haproxy.wait_status("a", "UP");
    let mut session = Client::tcp("127.0.0.1", haproxy.port, "app", APP_PASSWORD).unwrap();
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    let agent = b.agent().parameter("haproxy_drain", format!("{} mariadb", haproxy.socket.display()));
    agent.clone().notifying("pre", "demote", &lists, group.spelling).run("notify").ok();
    assert!(haproxy.is_drained("a") && haproxy.status("a") == "DRAIN", "{}", haproxy.status("a"));
    assert!(b.log().contains("HAProxy passes nobody on to mariadb/a any more"), "{}", b.log());
    session.ping().unwrap();
    // The lock is free: whoever undoes it must not have it.
    let other = b.agent().run("reload-agent");
    other.ok();
    assert!(other.counted < Duration::from_secs(2), "{other:?}");
    // The move failed, and the old primary is the next one.
    let again = Lists { promote: vec!["a"], unpromoted: vec!["a", "b"], ..Lists::default() };
    agent.clone().notifying("post", "promote", &again, group.spelling).run("notify").ok();
    assert!(!haproxy.is_drained("a"));
    haproxy.wait_status("a", "UP");
    eventually("nothing is left of it", || !b.state().join("systole-mysql.drain").exists());
}
