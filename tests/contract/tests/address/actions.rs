//! Start, stop, monitor, validate-all.

use std::time::Duration;

use crate::{AGENT, Net, VIP};
use testkit::Agent;

#[test]
fn a_start_brings_the_address_and_a_stop_takes_it_away() {
    let net = Net::new("plain");
    let agent = net.agent("a");
    agent.run("monitor").expect(&[7]);
    agent.clone().probing().run("monitor").expect(&[7]);
    agent.run("status").expect(&[7]);
    for _ in 0..2 {
        agent.run("start").ok();
        agent.run("monitor").ok();
        agent.run("status").ok();
        agent.clone().probing().run("monitor").ok();
        assert!(net.has("a", VIP).contains("192.0.2.10/24 brd 192.0.2.255"), "{}", net.ip("a", "address"));
        assert!(net.answers(VIP));
    }
    for _ in 0..2 {
        agent.run("stop").ok();
        agent.run("monitor").expect(&[7]);
        assert!(net.has("a", VIP).is_empty() && !net.answers(VIP));
    }
    assert!(!net.ip("a", "route show table local").contains("blackhole"), "the barrier is still there");
    net.agent("b").run("start").ok();
    assert!(net.answers(VIP));
}

/// A node that has just lost the address gives it to another one, and gets it back.
#[test]
fn an_address_that_was_taken_away_can_come_back() {
    let net = Net::new("back");
    for host in ["a", "b", "a", "b", "a"] {
        net.agent(host).run("start").ok();
        assert!(net.answers(VIP), "on {host}");
        net.agent(host).run("stop").ok();
    }
}

#[test]
fn what_the_parameters_say_is_what_the_interface_gets() {
    let net = Net::new("said");
    let agent = net.agent("a");
    for (pairs, words) in [
        (&[("cidr_netmask", "25"), ("broadcast", "+")][..], &["192.0.2.10/25", "brd 192.0.2.127"][..]),
        (&[("cidr_netmask", "255.255.255.240"), ("broadcast", "192.0.2.99")], &["192.0.2.10/28", "brd 192.0.2.99"]),
        (&[("cidr_netmask", "32")], &["192.0.2.10/32"]),
        (&[("iflabel", "web")], &["192.0.2.10/24", "eth0:web"]),
        (&[("nic", "eth0:old")], &["192.0.2.10/24", "eth0:old"]),
        (&[("noprefixroute", "true"), ("nic", "eth0")], &["192.0.2.10/24", "noprefixroute"]),
    ] {
        let agent = pairs.iter().fold(agent.clone(), |agent, (name, value)| agent.parameter(name, value));
        agent.run("validate-all").ok();
        agent.run("start").ok();
        let found = net.has("a", VIP);
        assert!(words.iter().all(|word| found.contains(word)), "{pairs:?}: {found}");
        agent.run("monitor").ok();
        agent.run("stop").ok();
        assert!(net.has("a", VIP).is_empty());
    }
    net.ip("a", "link property add dev eth0 altname the-first-interface-of-this-node");
    let agent = agent.parameter("nic", "the-first-interface-of-this-node");
    agent.run("start").ok();
    agent.run("monitor").ok();
    agent.run("stop").ok();
}

#[test]
fn a_monitor_finds_what_is_wrong_and_a_restart_mends_it() {
    let net = Net::new("wrong");
    net.ip("a", "link add eth1 type veth peer name eth9");
    net.ip("a", "link set eth1 up");
    net.ip("a", "link set eth9 up");
    let agent = net.agent("a").parameter("nic", "eth0").parameter("cidr_netmask", "24");
    for (put, words) in
        [("192.0.2.10/32 dev eth0", &["prefix /32 on eth0 and not /24"][..]), ("192.0.2.10/24 dev eth1", &["is on eth1 and not on eth0"])]
    {
        net.ip("a", &format!("address add {put}"));
        agent.run("monitor").refused(1, words);
        agent.clone().probing().run("monitor").refused(1, words);
        agent.run("start").ok();
        agent.run("monitor").ok();
        assert_eq!(net.ip("a", "-o address show").matches("192.0.2.10/").count(), 1, "{put}");
        net.ip("a", &format!("address replace {put}"));
        agent.run("stop").ok();
        assert!(net.has("a", VIP).is_empty(), "{put}");
    }
    // Real servers of LVS have it there, and it is theirs.
    net.ip("a", "address add 192.0.2.10/32 dev lo");
    agent.run("monitor").expect(&[7]);
    agent.run("start").ok();
    agent.run("stop").ok();
    assert!(net.has("a", VIP).contains("lo"));
}

#[test]
fn an_interface_without_a_link_is_no_place_for_it() {
    let net = Net::new("link");
    let agent = net.agent("a").parameter("nic", "eth0").parameter("cidr_netmask", "24");
    net.ip("s", "link set to-a down");
    agent.run("start").refused(5, &["eth0 is down or has no link"]);
    assert!(net.has("a", VIP).is_empty());
    agent.clone().parameter("check_link_status", "false").run("start").ok();
    agent.run("monitor").refused(5, &["eth0 is down or has no link"]);
    // It is here all the same.
    agent.clone().probing().run("monitor").ok();
    agent.clone().meta("role", "Stopped").meta("interval", "60000").run("monitor").ok();
    agent.clone().parameter("check_link_status", "false").run("monitor").ok();
    net.ip("s", "link set to-a up");
    testkit::eventually("the link is up", || agent.run("monitor").status == 0);
    agent.run("stop").ok();
    // Switched off by hand: a start switches it on.
    net.ip("a", "link set eth0 down");
    agent.run("start").ok();
    agent.run("monitor").ok();
    assert!(net.answers(VIP));
}

/// A cable that is put in anew, a port that is set up.
#[test]
fn a_link_that_is_back_at_once_costs_no_node() {
    let net = Net::new("flap");
    let agent = net.agent("a").parameter("nic", "eth0").parameter("cidr_netmask", "24");
    for action in ["start", "monitor"] {
        net.ip("s", "link set to-a down");
        let running = agent.spawn(action);
        std::thread::sleep(Duration::from_millis(300));
        net.ip("s", "link set to-a up");
        running.answer().ok();
    }
    agent.run("stop").ok();
}

/// To the kernel a name is bytes, and an old script may have written it in another encoding.
#[test]
fn names_that_are_no_text_hide_no_interface_and_no_address() {
    use std::os::unix::ffi::OsStrExt as _;
    let net = Net::new("bytes");
    let odd = std::ffi::OsStr::from_bytes(b"B\xfcro");
    let labelled = std::ffi::OsStr::from_bytes(b"eth0:\xfc");
    let namespace = net.namespace("a");
    let ip = |arguments: &[&std::ffi::OsStr]| {
        let done = std::process::Command::new("ip").args(["-n", &namespace]).args(arguments).status().unwrap();
        assert!(done.success());
    };
    let words = |text: &'static str| text.split(' ').map(std::ffi::OsStr::new).collect::<Vec<_>>();
    ip(&[words("link set eth0 alias"), vec![odd]].concat());
    let agent = net.agent("a").parameter("nic", "eth0").parameter("cidr_netmask", "24");
    agent.run("validate-all").ok();
    agent.run("start").ok();
    agent.run("monitor").ok();
    agent.run("stop").ok();
    assert!(net.has("a", VIP).is_empty());
    ip(&[words("address add 192.0.2.10/24 dev eth0 label"), vec![labelled]].concat());
    agent.run("monitor").ok();
    agent.run("stop").ok();
    assert!(!net.ip("a", "-4 address show eth0").contains("192.0.2.10"), "a stop has left it");
}

/// The kernel knows it by the other end's.
#[test]
fn an_address_of_a_link_between_two_is_taken_away() {
    let net = Net::new("peer");
    net.ip("a", "address add 192.0.2.10 peer 10.9.9.9/32 dev eth0");
    net.agent("a").run("stop").ok();
    assert!(!net.ip("a", "address show eth0").contains("192.0.2.10 "), "{}", net.ip("a", "address show eth0"));
}

/// The namespace is there, and this node may not enter it at the moment: nobody knows that nothing is in it.
#[test]
fn a_namespace_that_cannot_be_entered_is_not_taken_for_gone() {
    let net = Net::new("closed");
    let agent = net.agent("a");
    agent.run("start").ok();
    let stopped = agent.clone().meta("role", "Stopped").meta("interval", "60000");
    // To Pacemaker a probe that answers 5 has found nothing, and the address would be started elsewhere.
    for (agent, action) in [(&agent, "stop"), (&agent.clone().probing(), "monitor"), (&stopped, "monitor"), (&agent, "monitor")] {
        let mut traced = std::process::Command::new("strace");
        let command = agent.command(&[action]);
        traced.args(["-f", "-o", "/dev/null", "-e", "inject=setns:error=EPERM"]).arg(command.get_program()).args(command.get_args());
        traced.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let done = traced.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(1) && said.contains("cannot be entered"), "{action}: {:?}: {said}", done.status);
        assert!(!net.has("a", VIP).is_empty(), "{action}");
    }
    agent.run("stop").ok();
}

#[test]
fn what_is_not_on_this_node_is_answered_as_pacemaker_needs_it() {
    let net = Net::new("missing");
    let nowhere = net.agent("a").parameter("ip", "203.0.113.5");
    let no_interface = net.agent("a").parameter("nic", "eth7").parameter("cidr_netmask", "24");
    let no_namespace = net.agent("a").parameter("network_namespace", "none");
    for (agent, word) in [
        (nowhere, "no interface of this node has a network"),
        (no_interface, "no interface eth7"),
        (no_namespace.clone(), "network_namespace=none"),
    ] {
        agent.clone().probing().run("monitor").expect(&[7]);
        agent.run("stop").ok();
        agent.run("start").refused(5, &[word]);
        agent.run("validate-all").refused(5, &[word]);
    }
    no_namespace.clone().meta("role", "Stopped").run("monitor").expect(&[7]);
    no_namespace.run("monitor").expect(&[5]);
}

#[test]
fn what_contradicts_itself_is_refused_and_stops_nothing() {
    let net = Net::new("values");
    net.agent("a").run("start").ok();
    for (name, value) in
        [("ip", "192.0.2.300"), ("ip", ""), ("cidr_netmask", "99"), ("broadcast", "none"), ("lvs_support", "true"), ("arp_count", "many")]
    {
        let agent = net.agent("a").parameter(name, value);
        agent.run("start").expect(&[6]);
        agent.run("validate-all").expect(&[6]);
        // With the last values that were right.
        agent.run("monitor").expect(&[190]);
    }
    net.agent("a").without("OCF_RESKEY_ip").run("stop").ok();
    assert!(net.has("a", VIP).is_empty(), "a stop takes away what was started");
    Agent::new(AGENT, "never-started").run("stop").ok();
    let unknown = net.agent("a").parameter("arp_sender", "iputils_arping").parameter("arp_bg", "true");
    let said = unknown.run("start");
    assert!(said.ok().stderr.contains("ignored, since this agent has no use for it: arp_bg, arp_sender"), "{}", said.stderr);
}

#[test]
fn an_address_that_somebody_has_is_not_taken() {
    let net = Net::new("taken");
    net.ip("c", "address add 192.0.2.10/24 dev eth0");
    let agent = net.agent("a").parameter("run_arping", "true");
    let answer = agent.run("start");
    answer.refused(1, &[&net.hardware("c"), VIP, "switch it off there"]);
    assert!(net.has("a", VIP).is_empty());
    net.ip("c", "address del 192.0.2.10/24 dev eth0");
    let answer = agent.run("start");
    answer.ok();
    assert!(answer.elapsed >= Duration::from_millis(200) && answer.counted < Duration::from_secs(2), "{answer:?}");
    // It is here already: nobody is asked, and nobody else answers.
    agent.run("start").ok();
}

/// The kernel removes them along with the first address of their network.
#[test]
fn addresses_that_would_go_with_this_one_are_told_before() {
    let net = Net::new("along");
    net.ip("a", "address flush dev eth0");
    net.run("a", &["sysctl", "-w", "net.ipv4.conf.all.promote_secondaries=0", "net.ipv4.conf.eth0.promote_secondaries=0"]);
    let first = net.agent("a").parameter("nic", "eth0").parameter("cidr_netmask", "24");
    let second = first.clone().parameter("ip", "192.0.2.11");
    first.run("start").ok();
    second.run("start").ok();
    first.run("monitor").refused(190, &["192.0.2.11 would vanish", "promote_secondaries=1"]);
    first.clone().probing().run("monitor").ok();
    second.run("monitor").ok();
    net.run("a", &["sysctl", "-w", "net.ipv4.conf.eth0.promote_secondaries=1"]);
    first.run("monitor").ok();
    first.run("stop").ok();
    second.run("monitor").ok();
}

/// Values that can change while the address is there need no restart.
#[test]
fn a_reload_leaves_the_address_where_it_is() {
    let net = Net::new("reload");
    net.agent("a").run("start").ok();
    net.agent("a").parameter("arp_count", "2").run("reload-agent").ok();
    net.agent("a").run("monitor").ok();
}
