//! IPv6.

use std::time::Duration;

use crate::Net;

const VIP: &str = "2001:db8::10";

#[test]
fn an_address_of_ipv6_is_the_same_however_it_is_written() {
    let net = Net::new("six");
    let agent = net.agent("a").parameter("ip", "2001:0DB8:0::0010").parameter("nodad", "true");
    agent.run("monitor").expect(&[7]);
    agent.run("start").ok();
    assert!(net.has("a", VIP).contains("2001:db8::10/64") && net.answers(VIP), "{}", net.ip("a", "address"));
    net.agent("a").parameter("ip", VIP).run("monitor").ok();
    net.agent("a").parameter("ip", "2001:DB8::10").run("stop").ok();
    assert!(net.has("a", VIP).is_empty());
}

/// Without nodad the start waits until the kernel has asked, so that the address works when it answers.
#[test]
fn a_start_waits_for_the_detection_of_duplicates_or_does_without() {
    let net = Net::new("dad");
    let agent = net.agent("a").parameter("ip", VIP);
    let quick = agent.clone().parameter("nodad", "true").run("start");
    assert!(quick.ok().counted < Duration::from_millis(800), "{:?}", quick.elapsed);
    assert!(net.has("a", VIP).contains("nodad"), "{}", net.has("a", VIP));
    assert!(net.answers(VIP));
    agent.run("stop").ok();
    agent.run("start").ok();
    assert!(!net.has("a", VIP).contains("tentative"), "{}", net.has("a", VIP));
    assert!(net.answers(VIP));
}

#[test]
fn another_owner_is_named() {
    let net = Net::new("dup");
    net.ip("c", "address add 2001:db8::10/64 dev eth0 nodad");
    let owner = net.hardware("c");
    let agent = net.agent("a").parameter("ip", VIP);
    agent.clone().parameter("nodad", "true").parameter("run_arping", "true").run("start").refused(1, &[&owner, VIP]);
    agent.run("start").refused(1, &[&owner, VIP, "as the kernel found out"]);
    assert!(net.has("a", VIP).is_empty(), "the duplicate is still there");
    agent.run("monitor").expect(&[7]);
}

#[test]
fn an_address_that_is_not_preferred_is_used_by_nobody_but_clients() {
    let net = Net::new("lft");
    let agent = net.agent("a").parameter("ip", VIP).parameter("nodad", "true").parameter("preferred_lft", "0");
    agent.run("start").ok();
    assert!(net.has("a", VIP).contains("deprecated"), "{}", net.has("a", VIP));
    assert!(net.answers(VIP));
    agent.run("monitor").ok();
}

#[test]
fn an_address_of_the_link_needs_an_interface() {
    let net = Net::new("ll");
    let agent = net.agent("a").parameter("ip", "fe80::10").parameter("cidr_netmask", "64").parameter("nodad", "true");
    agent.run("start").refused(6, &["say which in nic"]);
    agent.clone().parameter("nic", "eth0").run("start").ok();
    agent.clone().parameter("nic", "eth0").run("monitor").ok();
    agent.clone().parameter("nic", "eth0").run("stop").ok();
}
