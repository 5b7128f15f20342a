//! What is decided, by what is wanted and seen; and what becomes of values that nobody should give.

use std::net::IpAddr;

use ocf::{Code, Environment, Values};
use proptest::prelude::*;

use crate::params::{self, Params};
use crate::plan::{Assigned, Link, Route, Seen, Start, Verdict, Wanted, home, judge, start};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What the parameters ask for, and the first thing that is wrong with them.
fn params(pairs: &[(&str, &str)]) -> Result<Params, String> {
    let environment = Environment::from_pairs(pairs.iter().map(|(name, value)| match name.strip_prefix("meta ") {
        Some(name) => (format!("OCF_RESKEY_CRM_meta_{name}"), (*value).to_owned()),
        None => (format!("OCF_RESKEY_{name}"), (*value).to_owned()),
    }));
    let values = Values::read(params::ALL, &environment).map_err(|failure| failure.reason)?;
    let params = Params::new(&values, environment.clone_max());
    match &params.contradiction {
        None => Ok(params),
        Some(failure) => {
            assert_eq!(failure.code(), Code::Configured);
            Err(failure.reason.clone())
        }
    }
}

fn wanted(pairs: &[(&str, &str)]) -> Wanted {
    params(pairs).unwrap().wanted.unwrap()
}

fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.into(), up: true, loopback: name == "lo", ..Link::default() }
}

fn assigned(index: u32, text: &str) -> Assigned {
    let (address, prefix) = text.split_once('/').unwrap();
    Assigned {
        index,
        address: ip(address),
        peer: None,
        prefix: prefix.parse().unwrap(),
        broadcast: None,
        label: Some(format!("eth{index}")),
        secondary: false,
        tentative: false,
        duplicate: false,
    }
}

fn route(index: u32, text: &str, metric: u32) -> Route {
    let (address, prefix) = text.split_once('/').unwrap();
    Route { network: (ip(address), prefix.parse().unwrap()), index, gateway: None, metric }
}

/// A node with lo, eth1 (192.0.2.1/24, 2001:db8::1/64) and eth2 (10.0.0.1/8), and a default route.
fn node() -> Seen {
    let mut eth1 = link(1, "eth1");
    eth1.names = vec!["a-long-alternative-name".into()];
    Seen {
        links: vec![link(9, "lo"), eth1, link(2, "eth2")],
        addresses: vec![
            assigned(9, "127.0.0.1/8"),
            Assigned { broadcast: Some("192.0.2.255".parse().unwrap()), ..assigned(1, "192.0.2.1/24") },
            assigned(2, "10.0.0.1/8"),
            assigned(1, "2001:db8::1/64"),
        ],
        routes: vec![
            Route { gateway: Some(ip("192.0.2.254")), ..route(1, "0.0.0.0/0", 0) },
            route(1, "192.0.2.0/24", 0),
            route(2, "10.0.0.0/8", 0),
            route(1, "2001:db8::/64", 256),
            Route { gateway: Some(ip("fe80::1")), ..route(1, "::/0", 1024) },
        ],
    }
}

fn with(addresses: &[Assigned]) -> Seen {
    let mut seen = node();
    seen.addresses.extend_from_slice(addresses);
    seen
}

/// Where the address belongs: interface, prefix, broadcast address.
fn place(pairs: &[(&str, &str)], seen: &Seen) -> Result<(String, u8, Option<String>), String> {
    let home = home(&wanted(pairs), seen).map_err(|failure| {
        assert_eq!(failure.code(), Code::Installed);
        failure.reason
    })?;
    Ok((home.link.name, home.prefix, home.broadcast.map(|address| address.to_string())))
}

/// Routers have the same one on each of their networks.
#[test]
fn an_address_of_the_link_is_another_one_on_each_interface() {
    let wanted = wanted(&[("ip", "fe80::10"), ("nic", "eth1"), ("cidr_netmask", "64")]);
    let of = |seen: &Seen| judge(&wanted, seen, |_| true).map_err(|failure| failure.reason);
    let elsewhere = with(&[assigned(2, "fe80::10/64"), assigned(7, "fe80::10/64")]);
    assert_eq!(of(&elsewhere), Ok(Verdict::Absent));
    let begun = start(&wanted, &elsewhere).unwrap();
    assert!(begun.add && begun.remove.is_empty(), "{begun:?}");
    assert_eq!(of(&with(&[assigned(2, "fe80::10/64"), assigned(1, "fe80::10/64")])), Ok(Verdict::Present(None)));
}

#[test]
fn the_table_of_places() {
    let at = |nic: &str, prefix, broadcast: &str| Ok((nic.to_owned(), prefix, Some(broadcast.to_owned()).filter(|text| !text.is_empty())));
    let seen = node();
    for (pairs, expected) in [
        (&[("ip", "192.0.2.10")][..], at("eth1", 24, "192.0.2.255")),
        (&[("ip", "192.0.2.10"), ("cidr_netmask", "32")], at("eth1", 32, "")),
        (&[("ip", "192.0.2.10/32")], at("eth1", 32, "")),
        (&[("ip", "192.0.2.10"), ("cidr_netmask", "255.255.255.0")], at("eth1", 24, "192.0.2.255")),
        (&[("ip", "10.1.2.3")], at("eth2", 8, "")),
        (&[("ip", "10.1.2.3"), ("broadcast", "+")], at("eth2", 8, "10.255.255.255")),
        (&[("ip", "10.1.2.3"), ("broadcast", "-")], at("eth2", 8, "10.0.0.0")),
        (&[("ip", "10.1.2.3"), ("broadcast", "10.1.2.9")], at("eth2", 8, "10.1.2.9")),
        (&[("ip", "2001:DB8:0::10")], at("eth1", 64, "")),
        (&[("ip", "203.0.113.5"), ("nic", "eth2"), ("cidr_netmask", "24")], at("eth2", 24, "")),
        (&[("ip", "192.0.2.10"), ("nic", "a-long-alternative-name")], at("eth1", 24, "192.0.2.255")),
        (&[("ip", "fe80::10"), ("nic", "eth1"), ("cidr_netmask", "64")], at("eth1", 64, "")),
        (&[("ip", "192.0.2.10"), ("nic", "eth1:web")], at("eth1", 24, "192.0.2.255")),
    ] {
        assert_eq!(place(pairs, &seen), expected, "{pairs:?}");
    }
    for (pairs, word) in [
        (&[("ip", "192.0.2.10"), ("nic", "eth7")][..], "no interface eth7"),
        (&[("ip", "203.0.113.5")], "no interface of this node has a network with 203.0.113.5"),
        (&[("ip", "203.0.113.5"), ("nic", "eth1")], "eth1 has no network with 203.0.113.5"),
        (&[("ip", "192.0.2.10"), ("cidr_netmask", "16")], "no interface of this node"),
        (&[("ip", "192.0.2.255")], "broadcast address of its network"),
        (&[("ip", "192.0.2.0")], "address of the network itself"),
    ] {
        assert!(place(pairs, &seen).is_err_and(|why| why.contains(word)), "{pairs:?}");
    }
    let labelled = home(&wanted(&[("ip", "192.0.2.10"), ("iflabel", "web")]), &seen).unwrap();
    assert_eq!(labelled.label.as_deref(), Some("eth1:web"));
    let labelled = wanted(&[("ip", "192.0.2.10"), ("iflabel", "elevenlettr")]);
    assert!(home(&labelled, &seen).is_err_and(|failure| failure.reason.contains("more than 15 characters")));
}

#[test]
fn the_longest_prefix_and_then_the_smallest_metric_decides() {
    let mut seen = node();
    seen.routes = vec![route(1, "192.0.2.0/24", 0), route(2, "192.0.2.0/25", 100), route(9, "192.0.2.0/25", 50)];
    assert_eq!(place(&[("ip", "192.0.2.10")], &seen).unwrap().0, "lo");
    assert_eq!(place(&[("ip", "192.0.2.200")], &seen).unwrap().0, "eth1");
    assert_eq!(place(&[("ip", "192.0.2.10"), ("cidr_netmask", "24")], &seen).unwrap().0, "eth1");
}

#[test]
fn a_start_adds_what_is_missing_and_removes_what_is_elsewhere() {
    let wanted = wanted(&[("ip", "192.0.2.10")]);
    let right = assigned(1, "192.0.2.10/24");
    let wrong = [assigned(1, "192.0.2.10/32"), assigned(2, "192.0.2.10/24")];
    let planned = |seen: &Seen| start(&wanted, seen).map(|Start { add, remove, .. }| (add, remove)).unwrap();
    assert_eq!(planned(&node()), (true, vec![]));
    assert_eq!(planned(&with(std::slice::from_ref(&right))), (false, vec![]));
    assert_eq!(planned(&with(&wrong)), (true, wrong.to_vec()));
    assert_eq!(planned(&with(&[wrong[0].clone(), right])), (false, vec![wrong[0].clone()]));
    // Real servers of LVS have it there.
    assert_eq!(planned(&with(&[assigned(9, "192.0.2.10/32")])), (true, vec![]));
    let labelled = super::plan_tests::wanted(&[("ip", "192.0.2.10"), ("iflabel", "web")]);
    assert!(start(&labelled, &with(&[assigned(1, "192.0.2.10/24")])).unwrap().add);
}

fn verdict(pairs: &[(&str, &str)], seen: &Seen) -> Result<Verdict, (Code, String)> {
    judge(&wanted(pairs), seen, |_| false).map_err(|failure| (failure.code(), failure.reason))
}

#[test]
fn the_table_of_verdicts() {
    let plain = &[("ip", "192.0.2.10")][..];
    let exact = &[("ip", "192.0.2.10"), ("nic", "eth1"), ("cidr_netmask", "24")][..];
    let here = assigned(1, "192.0.2.10/24");
    for pairs in [plain, exact] {
        assert_eq!(verdict(pairs, &node()), Ok(Verdict::Absent));
        assert_eq!(verdict(pairs, &with(&[assigned(9, "192.0.2.10/32")])), Ok(Verdict::Absent), "on lo");
        assert_eq!(verdict(pairs, &with(std::slice::from_ref(&here))), Ok(Verdict::Present(None)));
    }
    // What nobody has said is not held against it.
    for other in [assigned(1, "192.0.2.10/32"), assigned(2, "192.0.2.10/24")] {
        assert_eq!(verdict(plain, &with(std::slice::from_ref(&other))), Ok(Verdict::Present(None)));
        assert_eq!(verdict(exact, &with(&[other])).unwrap_err().0, Code::Generic);
    }
    for (addresses, pairs, word) in [
        (vec![assigned(2, "192.0.2.10/24")], exact, "is on eth2 and not on eth1"),
        (vec![assigned(1, "192.0.2.10/32")], exact, "has the prefix /32 on eth1 and not /24"),
        (vec![here.clone(), assigned(2, "192.0.2.10/24")], exact, "on eth2 as well as on eth1"),
        (vec![Assigned { duplicate: true, ..here.clone() }], exact, "another host"),
        (vec![here.clone()], &[("ip", "192.0.2.10"), ("iflabel", "web")], "has the label \"eth1\" on eth1 and not eth1:web"),
    ] {
        let (code, why) = verdict(pairs, &with(&addresses)).unwrap_err();
        assert!(code == Code::Generic && why.contains(word), "{why}");
    }
}

#[test]
fn an_interface_without_a_link_is_a_failure_unless_it_is_not_looked_at() {
    let mut seen = with(&[assigned(1, "192.0.2.10/24")]);
    seen.links[1].down = true;
    let (code, why) = verdict(&[("ip", "192.0.2.10")], &seen).unwrap_err();
    assert!(code == Code::Installed && why.contains("eth1 is down or has no link"), "{why}");
    assert_eq!(verdict(&[("ip", "192.0.2.10"), ("check_link_status", "no")], &seen), Ok(Verdict::Present(None)));
}

#[test]
fn addresses_that_would_go_with_this_one_are_told() {
    let others = [assigned(1, "192.0.2.10/24"), Assigned { secondary: true, ..assigned(1, "192.0.2.11/24") }];
    let seen = with(&others);
    let Ok(Verdict::Present(Some(why))) = verdict(&[("ip", "192.0.2.10")], &seen) else { panic!("nothing is said") };
    assert!(why.starts_with("192.0.2.11 would vanish from eth1 together with 192.0.2.10"), "{why}");
    assert_eq!(judge(&wanted(&[("ip", "192.0.2.10")]), &seen, |nic| nic == "eth1").unwrap(), Verdict::Present(None));
    let behind = [Assigned { secondary: true, ..assigned(1, "192.0.2.10/24") }];
    assert_eq!(verdict(&[("ip", "192.0.2.10")], &with(&behind)), Ok(Verdict::Present(None)), "it comes after another one");
}

#[test]
fn the_gateway_is_that_of_the_interface() {
    let seen = node();
    assert_eq!((seen.gateway(1), seen.gateway(2)), (Some(ip("192.0.2.254")), None));
}

#[test]
fn what_contradicts_itself_is_refused_with_what_to_do() {
    for (pairs, word) in [
        (&[("ip", "224.0.0.1")][..], "multicast"),
        (&[("ip", "0.0.0.0")], "0.0.0.0/8"),
        (&[("ip", "127.0.0.5")], "loopback"),
        (&[("ip", "255.255.255.255")], "broadcast"),
        (&[("ip", "::ffff:192.0.2.1")], "write it as a.b.c.d"),
        (&[("ip", "ff02::1")], "multicast"),
        (&[("ip", "fe80::5")], "say which in nic"),
        (&[("ip", "192.0.2")], "is not an IPv4 or IPv6 address"),
        (&[("ip", "192.0.2.5; reboot")], "is not an IPv4 or IPv6 address"),
        (&[], "parameter ip is missing"),
        (&[("ip", "192.0.2.10"), ("cidr_netmask", "33")], "a number from 1 to 32"),
        (&[("ip", "2001:db8::1"), ("cidr_netmask", "255.255.255.0")], "a number from 1 to 128"),
        (&[("ip", "192.0.2.10/24"), ("cidr_netmask", "25")], "take one of them out"),
        (&[("ip", "192.0.2.255/24")], "broadcast address of its network"),
        (&[("ip", "192.0.2.10"), ("nic", "eth 1")], "no name of an interface"),
        (&[("ip", "192.0.2.10"), ("nic", "eth1:")], "no name of an interface"),
        (&[("ip", "192.0.2.10"), ("nic", "../../eth1")], "without a slash"),
        (&[("ip", "192.0.2.10"), ("iflabel", "a b")], "letters and digits"),
        (&[("ip", "192.0.2.10"), ("nic", "eth1"), ("iflabel", "elevenlettr")], "more than 15 characters"),
        (&[("ip", "192.0.2.10"), ("broadcast", "x")], "no address of IPv4"),
        (&[("ip", "2001:db8::1"), ("broadcast", "+")], "IPv6 has no broadcast address"),
        (&[("ip", "2001:db8::1"), ("preferred_lft", "-1")], "no number of seconds"),
        (&[("ip", "2001:db8::1"), ("preferred_lft", "4294967296")], "no number of seconds"),
        (&[("ip", "192.0.2.10"), ("arp_count", "0")], "from 1 to 100"),
        (&[("ip", "192.0.2.10"), ("arp_interval", "0")], "from 1 to 10000"),
        (&[("ip", "192.0.2.10"), ("nodad", "perhaps")], "yes or no"),
        (&[("ip", "192.0.2.10"), ("network_namespace", "../x")], "without a slash"),
        (&[("ip", "192.0.2.10"), ("clusterip_hash", "sourceip")], "use ocf:heartbeat:IPaddr2"),
        (&[("ip", "192.0.2.10"), ("unique_clone_address", "true")], "a resource for each address"),
        (&[("ip", "192.0.2.10"), ("lvs_support", "true")], "use ocf:heartbeat:IPaddr2"),
        (&[("ip", "2001:db8::1"), ("lvs_ipv6_addrlabel", "true")], "preferred_lft=0"),
        (&[("ip", "192.0.2.10"), ("meta clone_max", "2")], "without a clone"),
    ] {
        assert!(params(pairs).is_err_and(|why| why.contains(word)), "{pairs:?}: {:?}", params(pairs).err());
    }
    for pairs in [
        &[("ip", "192.0.2.10"), ("lvs_support", "false"), ("unique_clone_address", "no"), ("meta clone_max", "1")][..],
        &[("ip", "192.0.2.10"), ("nic", "lo"), ("meta clone_max", "3")],
        &[("ip", "2001:db8::1"), ("iflabel", "web"), ("preferred_lft", "0")],
    ] {
        assert!(params(pairs).is_ok(), "{pairs:?}: {:?}", params(pairs).err());
    }
    assert_eq!(wanted(&[("ip", "2001:db8::1"), ("iflabel", "web")]).label, None, "IPv6 has no labels");
    let ignored = params(&[("ip", "192.0.2.10"), ("arp_sender", "send_arp"), ("mac", "x")]).unwrap().ignored;
    assert_eq!(ignored, ["arp_sender", "mac"]);
}

proptest! {
    /// Whatever a parameter says, it is taken or refused, and what is taken can be looked for.
    #[test]
    fn no_value_brings_it_down(
        at in 0..params::ALL.len(),
        address in "(192\\.0\\.2\\.10|2001:db8::10|10\\.[0-9]{1,3}\\.0\\.5|fe80::[0-9a-f]{1,4})(/[0-9]{1,3})?",
        value in "\\PC{0,40}|[0-9./:+-]{0,20}|[0-9]{1,25}|\u{0}|\n|\\$\\(reboot\\)|(eth1)?:[a-z]{0,20}",
    ) {
        let name = params::ALL[at].name;
        let pairs = if name == "ip" { vec![("ip", value.as_str())] } else { vec![("ip", address.as_str()), (name, value.as_str())] };
        if let Ok(params) = params(&pairs) {
            let wanted = params.wanted.unwrap();
            if let Ok(plan) = start(&wanted, &node()) {
                prop_assert!(plan.add && plan.remove.is_empty());
                prop_assert!(plan.home.label.is_none_or(|label| label.len() <= 15));
            }
            prop_assert_eq!(judge(&wanted, &node(), |_| false).unwrap(), Verdict::Absent);
        }
    }

    /// A start that is planned again after it was carried out has nothing more to do, and a monitor finds it right.
    #[test]
    fn a_start_comes_to_rest(
        prefix in proptest::option::of(9_u8..=32),
        nic in proptest::option::of(1_u32..=2),
        stray in proptest::collection::vec((1_u32..=2, 8_u8..=32), 0..3),
    ) {
        let mut wanted = wanted(&[("ip", "192.0.2.10")]);
        wanted.prefix = prefix;
        wanted.nic = nic.map(|index| format!("eth{index}"));
        let mut seen = with(&stray.iter().map(|(index, prefix)| assigned(*index, &format!("192.0.2.10/{prefix}"))).collect::<Vec<_>>());
        if let Ok(plan) = start(&wanted, &seen) {
            seen.addresses.retain(|assigned| !plan.remove.contains(assigned));
            if plan.add {
                seen.addresses.push(assigned(plan.home.link.index, &format!("192.0.2.10/{}", plan.home.prefix)));
            }
            let again = start(&wanted, &seen).unwrap();
            prop_assert!(!again.add && again.remove.is_empty());
            prop_assert_eq!(judge(&wanted, &seen, |_| true).unwrap(), Verdict::Present(None));
        }
    }
}
