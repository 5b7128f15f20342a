//! IPv6.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use process::PacketSocket;

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

/// Routers have the same one on each of their networks, and so may the node for itself.
#[test]
fn an_address_of_the_link_on_another_interface_is_another_one() {
    let net = Net::new("ll2");
    net.ip("a", "link add eth1 type veth peer name eth9");
    net.ip("a", "link set eth1 up");
    net.ip("a", "link set eth9 up");
    net.ip("a", "address add fe80::10/64 dev eth1 nodad");
    let agent =
        net.agent("a").parameter("ip", "fe80::10").parameter("cidr_netmask", "64").parameter("nodad", "true").parameter("nic", "eth0");
    let places = || net.ip("a", "-o address show").lines().filter(|line| line.contains("fe80::10/")).count();
    agent.run("monitor").expect(&[7]);
    agent.run("start").ok();
    assert_eq!(places(), 2);
    agent.run("monitor").ok();
    agent.run("stop").ok();
    agent.run("monitor").expect(&[7]);
    assert!(places() == 1 && net.has("a", "fe80::10").contains("eth1"), "{}", net.ip("a", "-o address show"));
}

/// An advertisement of the address. Whoever is behind a router cannot send one whose hops are 255.
fn advertisement(target: Ipv6Addr, to: Ipv6Addr, hops: u8) -> Vec<u8> {
    let from: Ipv6Addr = "2001:db8:ffff::66".parse().unwrap();
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(target.octets());
    let length = u16::try_from(message.len()).unwrap();
    let summed = [&from.octets()[..], &to.octets(), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 58], &message].concat();
    let mut sum: u32 = summed.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[2..4].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    [&[0x60, 0, 0, 0], &length.to_be_bytes()[..], &[58, hops], &from.octets(), &to.octets(), &message].concat()
}

/// The kernel gives such packets to whoever listens, although it takes none of them for itself.
#[test]
fn nobody_behind_a_router_can_keep_an_address_from_starting() {
    let net = Net::new("afar");
    let hardware = net.hardware("a");
    let to: Vec<u8> = hardware.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let agent = net.agent("a").parameter("ip", VIP).parameter("nodad", "true").parameter("run_arping", "true");
    // The same from the link itself is believed.
    for (hops, status) in [(255, 1), (50, 0)] {
        let packet = advertisement(VIP.parse().unwrap(), "2001:db8::1".parse().unwrap(), hops);
        let (to, going) = (to.clone(), Arc::new(AtomicBool::new(true)));
        let goes_on = Arc::clone(&going);
        let sender = net.inside("c", move || {
            let socket = PacketSocket::open(nix::net::if_::if_nametoindex("eth0").unwrap()).unwrap();
            while goes_on.load(Ordering::Relaxed) {
                let _ = socket.send(0x86dd, to.clone().try_into().unwrap(), &packet);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let answer = agent.run("start");
        going.store(false, Ordering::Relaxed);
        sender.join().unwrap();
        assert_eq!(answer.status, status, "{hops}: {}", answer.stderr);
    }
}
