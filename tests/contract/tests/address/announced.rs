//! What the neighbours hear.

use std::time::{Duration, Instant};

use process::PacketSocket;
use testkit::{Process, eventually};

use crate::{AGENT, Net, VIP};

const ARP: u16 = 0x0806;

/// What c hears of the address by ARP in this time, and no more than so many packets: when, the operation, and the hardware address.
fn heard(net: &Net, limit: Duration, most: usize) -> std::thread::JoinHandle<Vec<(Duration, u8, String)>> {
    let (ready, wait) = std::sync::mpsc::channel();
    let thread = net.inside("c", move || {
        let index = nix::net::if_::if_nametoindex("eth0").unwrap();
        let socket = PacketSocket::open(index).unwrap();
        socket.listen(ARP).unwrap();
        ready.send(()).unwrap();
        let (begin, mut found) = (Instant::now(), Vec::new());
        while found.len() < most {
            let Some(packet) = socket.receive(begin + limit).unwrap() else { break };
            if packet[14..18] == [192, 0, 2, 10] {
                let hardware: Vec<String> = packet[8..14].iter().map(|byte| format!("{byte:02x}")).collect();
                found.push((begin.elapsed(), packet[7], hardware.join(":")));
            }
        }
        found
    });
    wait.recv().unwrap();
    thread
}

#[test]
fn a_start_announces_the_address_as_request_and_reply_and_again_after_1_and_5_seconds() {
    let net = Net::new("heard");
    let ears = heard(&net, Duration::from_secs(60), 8);
    let answer = net.agent("a").parameter("arp_count", "2").parameter("arp_interval", "100").run("start");
    answer.ok();
    // Pacemaker reads the output until it is closed. Whoever announces it later does not keep it open.
    assert!(answer.counted < Duration::from_secs(1), "the start took {:?}", answer.elapsed);
    let (heard, ours) = (ears.join().unwrap(), net.hardware("a"));
    assert!(heard.iter().all(|(.., hardware)| *hardware == ours), "{heard:?}");
    let times = |operation: u8| -> Vec<Duration> { heard.iter().filter(|(_, of, _)| *of == operation).map(|(time, ..)| *time).collect() };
    for operation in [1, 2] {
        let times = times(operation);
        assert_eq!(times.len(), 4, "operation {operation}: {heard:?}");
        for (time, after) in times.iter().zip([0, 100, 1000, 5000]) {
            assert!(*time + Duration::from_millis(50) >= times[0] + Duration::from_millis(after), "{heard:?}");
        }
    }
}

#[test]
fn nobody_announces_an_address_that_has_gone() {
    let net = Net::new("gone");
    net.agent("a").run("start").ok();
    net.agent("a").run("stop").ok();
    let ears = heard(&net, Duration::from_secs(6), 1);
    assert_eq!(ears.join().unwrap(), []);
    let ours = |p: &Process| p.arguments.starts_with(AGENT) && p.environment.contains("OCF_RESOURCE_INSTANCE=gone-a");
    let left = || Process::all().iter().filter(|p| ours(p)).count();
    eventually("nobody is left to announce it", || left() == 0);
}

/// A bond takes the hardware address of another interface, and the kernel tells everybody. Whoever repeats the old one undoes that.
#[test]
fn a_hardware_address_that_has_changed_is_not_announced_any_more() {
    let net = Net::new("bond");
    let old = net.hardware("a");
    net.agent("a").parameter("arp_count", "10").parameter("arp_interval", "300").run("start").ok();
    net.ip("a", "link set eth0 address 02:00:00:00:00:77");
    // What was on its way.
    std::thread::sleep(Duration::from_millis(100));
    let ears = heard(&net, Duration::from_secs(4), 50);
    let said: Vec<String> = ears.join().unwrap().into_iter().map(|(.., hardware)| hardware).filter(|hardware| *hardware == old).collect();
    assert!(said.is_empty(), "{} announcements of {old}", said.len());
}

#[test]
fn a_client_knows_the_new_node_at_once() {
    let net = Net::new("takeover");
    for ip in [VIP, "2001:db8::10"] {
        let on = |host: &str| net.agent(host).parameter("ip", ip).parameter("nodad", "true");
        on("a").run("start").ok();
        assert!(net.answers(ip));
        assert_eq!(net.known_to_c(ip), net.hardware("a"));
        on("a").run("stop").ok();
        on("b").run("start").ok();
        eventually("c has heard of b", || net.known_to_c(ip) == net.hardware("b"));
        assert!(net.answers(ip));
        on("b").run("stop").ok();
    }
}

/// It comes over a router that everybody else comes over, too.
#[test]
fn the_gateway_is_told_for_itself() {
    let net = Net::new("gateway");
    net.ip("a", "route add default via 192.0.2.3");
    // What everybody is told is not heard there.
    net.run("c", &["sysctl", "-w", "net.ipv4.conf.eth0.arp_accept=0"]);
    assert_eq!(net.known_to_c(VIP), "");
    net.agent("a").run("start").ok();
    eventually("the gateway knows the address before anybody has asked for it", || net.known_to_c(VIP) == net.hardware("a"));
}
