//! Beside `ocf:heartbeat:IPaddr2`: the same question, the same answer.

use crate::{AGENT, Net, STOCK, VIP};

/// What is done on the node before, the parameters, the action, and what ours and IPaddr2 of Debian 12 answer.
type Situation = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str, i32, i32);

const EXACT: &[(&str, &str)] = &[("nic", "eth0"), ("cidr_netmask", "24")];
const HERE: &[&str] = &["address add 192.0.2.10/24 dev eth0"];

const SITUATIONS: &[Situation] = &[
    (&[], &[], "monitor", 7, 7),
    (&[], &[], "status", 7, 7),
    (&[], &[], "stop", 0, 0),
    (&[], &[], "start", 0, 0),
    (&[], &[], "validate-all", 0, 0),
    (HERE, &[], "monitor", 0, 0),
    (HERE, &[], "start", 0, 0),
    (HERE, &[], "stop", 0, 0),
    (HERE, EXACT, "monitor", 0, 0),
    (&["address add 192.0.2.10/32 dev lo"], EXACT, "monitor", 7, 7),
    (&[], &[("ip", "203.0.113.5")], "probe", 7, 7),
    (&[], &[("ip", "203.0.113.5")], "stop", 0, 0),
    (&[], &[("nic", "eth7")], "probe", 7, 7),
    (&[], &[("nic", "eth7")], "stop", 0, 0),
    (&[], &[("nic", "eth7"), ("cidr_netmask", "24")], "probe", 7, 7),
    (&[], &[("iflabel", "elevenlettr")], "validate-all", 5, 6),
    (&[], &[("nic", "eth0"), ("iflabel", "elevenlettr")], "validate-all", 6, 6),
    (&[], &[("arp_count", "0")], "start", 6, 6),
    (&[], &[("arp_interval", "x")], "start", 6, 6),
    (&[], &[("cidr_netmask", "33")], "start", 6, 6),
    (&[], &[("ip", "x.y")], "start", 6, 6),
    (&[], &[("ip", "")], "start", 6, 6),
    (&[], &[("ip", "")], "stop", 0, 0),
    // What is missing on this node alone keeps only this node from it, as with IPaddr2 of 4.18.
    (&[], &[("nic", "eth7"), ("cidr_netmask", "24")], "start", 5, 6),
    (&[], &[("ip", "203.0.113.5")], "start", 5, 1),
    // What is there and wrong is an error with a reason, and not an address that is not there.
    (&["address add 192.0.2.10/32 dev eth0"], EXACT, "monitor", 1, 7),
    // No cable is a failure, as with IPaddr2 of 4.18.
    (&["address add 192.0.2.10/24 dev eth0", "link set eth0 down"], EXACT, "monitor", 5, 0),
    // But the address is here: to Pacemaker a probe that answers 5 has found nothing.
    (&["address add 192.0.2.10/24 dev eth0", "link set eth0 down"], EXACT, "probe", 0, 0),
];

#[test]
fn the_answers_are_those_of_ipaddr2_but_where_it_is_said() {
    let net = Net::new("stock");
    let mut wrong = Vec::new();
    for (before, parameters, action, ours, theirs) in SITUATIONS {
        for (agent, expected) in [(AGENT, ours), (STOCK, theirs)] {
            net.ip("a", "address flush dev eth0");
            net.ip("a", "link set eth0 up");
            net.ip("a", "address add 192.0.2.1/24 brd + dev eth0");
            let _ = net.run("a", &["ip", "address", "del", "192.0.2.10/32", "dev", "lo"]);
            before.iter().for_each(|command| drop(net.ip("a", command)));
            let agent = parameters.iter().fold(net.with(agent, "a"), |agent, (name, value)| agent.parameter(name, value));
            let answer = match *action {
                "probe" => agent.probing().variable("__OCF_ACTION", "monitor").run("monitor"),
                action => agent.variable("__OCF_ACTION", action).run(action),
            };
            if answer.status != *expected {
                wrong.push(format!("{before:?} {parameters:?} {action}: {} instead of {expected} {}", answer.status, answer.stderr));
            }
            let same = matches!(*action, "start") && answer.status == 0;
            if same && !net.has("a", VIP).contains("192.0.2.10/24") {
                wrong.push(format!("{before:?} {parameters:?} {action}: {}", net.ip("a", "address")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The class of a running resource can be changed without a stop, in both directions.
#[test]
fn each_takes_over_what_the_other_has_started() {
    let net = Net::new("over");
    for parameters in [
        &[][..],
        EXACT,
        &[("ip", "192.0.2.20"), ("iflabel", "web")],
        &[("ip", "2001:DB8::20")],
        &[("ip", "192.0.2.20"), ("cidr_netmask", "32"), ("nic", "eth0")],
    ] {
        for (first, second) in [(STOCK, AGENT), (AGENT, STOCK)] {
            let with = |agent: &str| {
                let agent = parameters.iter().fold(net.with(agent, "a"), |agent, (name, value)| agent.parameter(name, value));
                move |action: &str| agent.clone().variable("__OCF_ACTION", action).run(action)
            };
            with(first)("start").ok();
            let shown = || [VIP, "192.0.2.20", "2001:db8::20"].map(|address| net.has("a", address));
            let before = shown();
            with(second)("monitor").ok();
            with(second)("start").ok();
            assert_eq!(shown(), before, "{parameters:?}: {second} after {first}");
            with(second)("stop").ok();
            with(first)("monitor").expect(&[7]);
        }
    }
}
