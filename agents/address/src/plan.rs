//! What to do, from what is wanted and what the kernel shows. Pure: no clock, no environment, no I/O.
//!
//! The invariants: a stop leaves the address on no interface of this node that others can reach; a start ends with the address on one
//! interface, once; and whatever was done halfway by an agent that was killed, the same plan finishes.

use std::net::{IpAddr, Ipv4Addr};

use ocf::Failure;

use crate::params::too_long;
use crate::suitable::{is_link_local, of_all_hosts, same_network, unsuitable_in};

/// The broadcast address that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broadcast {
    /// What the interface has in this network already.
    OfTheInterface,
    /// All bits of the host.
    AllSet,
    /// No bit of the host.
    NoneSet,
    /// This one.
    Given(Ipv4Addr),
}

/// What the parameters ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) address: IpAddr,
    pub(crate) nic: Option<String>,
    pub(crate) prefix: Option<u8>,
    pub(crate) broadcast: Broadcast,
    /// Without the name of the interface.
    pub(crate) label: Option<String>,
    pub(crate) checks_link: bool,
    /// IPv6: without the kernel's duplicate address detection.
    pub(crate) skips_detection: bool,
    pub(crate) makes_no_route: bool,
    /// IPv6: for so many seconds; `None` for ever.
    pub(crate) preferred: Option<u32>,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Other names of it.
    pub(crate) names: Vec<String>,
    pub(crate) loopback: bool,
    /// Whether an operator has switched it on.
    pub(crate) up: bool,
    /// Whether the kernel says that it is down, or the one below it.
    pub(crate) down: bool,
    /// The hardware address of an interface of Ethernet's kind whose neighbours are found by asking.
    pub(crate) hardware: Option<[u8; 6]>,
}

impl Link {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.names.iter().any(|other| other == name)
    }
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    /// The number of the interface.
    pub(crate) index: u32,
    pub(crate) address: IpAddr,
    /// Of a link between two: the other end's, by which the kernel knows the address when it is removed.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) prefix: u8,
    pub(crate) broadcast: Option<Ipv4Addr>,
    pub(crate) label: Option<String>,
    /// IPv4: another address of the same network is before it, and the kernel drops it with that one.
    pub(crate) secondary: bool,
    /// IPv6: the kernel still asks whether somebody else has it.
    pub(crate) tentative: bool,
    /// IPv6: somebody else has it.
    pub(crate) duplicate: bool,
}

/// A route to hosts, and not to this node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// With the length of the prefix; 0 for the default route.
    pub(crate) network: (IpAddr, u8),
    pub(crate) index: u32,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) metric: u32,
}

/// What the kernel shows of one family. The addresses are all of them; interfaces and routes only as far as they are needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<Assigned>,
    pub(crate) routes: Vec<Route>,
}

impl Seen {
    fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// As an operator knows the interface.
    fn name(&self, index: u32) -> String {
        self.link(index).map_or_else(|| format!("interface {index}"), |link| link.name.clone())
    }

    /// Where the address is, but for the loopback interface when it is not asked for: there it reaches nobody, and is somebody else's. One
    /// that means something together with an interface only is another address on each.
    pub(crate) fn places<'a>(&'a self, wanted: &'a Wanted) -> impl Iterator<Item = &'a Assigned> {
        let scoped = is_link_local(wanted.address);
        let named = |link: &Link| wanted.nic.as_ref().is_some_and(|nic| link.is_called(nic));
        let counts = move |link: &Link| named(link) || !(scoped || link.loopback);
        self.addresses
            .iter()
            .filter(|assigned| assigned.address == wanted.address)
            .filter(move |assigned| self.link(assigned.index).map_or(!scoped, counts))
    }

    /// The gateway of the default route over this interface.
    pub(crate) fn gateway(&self, index: u32) -> Option<IpAddr> {
        let default = self.routes.iter().filter(|route| route.index == index && route.network.1 == 0);
        default.min_by_key(|route| route.metric)?.gateway
    }
}

/// Where the address belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) link: Link,
    pub(crate) prefix: u8,
    pub(crate) broadcast: Option<Ipv4Addr>,
    /// With the name of the interface.
    pub(crate) label: Option<String>,
}

/// Finds out where the address belongs.
pub(crate) fn home(wanted: &Wanted, seen: &Seen) -> Result<Home, Failure> {
    let address = wanted.address;
    let named = match &wanted.nic {
        None => None,
        Some(nic) => Some(seen.links.iter().find(|link| link.is_called(nic)).ok_or_else(|| {
            Failure::installed(format!(
                "there is no interface {nic} on this node: correct nic (ip link shows the names), or make the interface"
            ))
        })?),
    };
    let network = || {
        // As for a packet: the longest prefix, and of those the smallest metric. A longer one than that of the address is another network.
        let on_link = seen.routes.iter().filter(|route| route.gateway.is_none() && route.network.1 > 0);
        on_link
            .filter(|route| same_network(route.network.0, address, route.network.1))
            .filter(|route| wanted.prefix.is_none_or(|prefix| route.network.1 <= prefix))
            .filter(|route| named.is_none_or(|link| link.index == route.index))
            .max_by_key(|route| (route.network.1, std::cmp::Reverse(route.metric)))
    };
    let (link, prefix) = match (named, wanted.prefix) {
        (Some(link), Some(prefix)) => (link, prefix),
        (Some(link), None) => {
            let found = network().ok_or_else(|| {
                Failure::installed(format!("{} has no network with {address}: set cidr_netmask, or correct ip or nic", link.name))
            })?;
            (link, found.network.1)
        }
        (None, prefix) => {
            let found = network().and_then(|route| Some((route, seen.link(route.index)?)));
            let (route, link) = found.ok_or_else(|| {
                Failure::installed(format!(
                    "no interface of this node has a network with {address}: set nic and cidr_netmask, or correct ip"
                ))
            })?;
            (link, prefix.unwrap_or(route.network.1))
        }
    };
    if let Some(why) = unsuitable_in(address, prefix) {
        return Err(Failure::installed(format!("ip={address} {why}, by the routes of this node: correct ip or set cidr_netmask")));
    }
    if let Some(why) = wanted.label.as_ref().and_then(|label| too_long(&link.name, label)) {
        return Err(Failure::installed(why));
    }
    Ok(Home {
        link: link.clone(),
        prefix,
        broadcast: broadcast(wanted, seen, link, prefix),
        label: wanted.label.as_ref().map(|label| format!("{}:{label}", link.name)),
    })
}

fn broadcast(wanted: &Wanted, seen: &Seen, link: &Link, prefix: u8) -> Option<Ipv4Addr> {
    let IpAddr::V4(address) = wanted.address else { return None };
    match wanted.broadcast {
        Broadcast::Given(given) => Some(given),
        // RFC 3021: there is none.
        _ if prefix > 30 => None,
        Broadcast::AllSet => Some(of_all_hosts(address, prefix, true)),
        Broadcast::NoneSet => Some(of_all_hosts(address, prefix, false)),
        Broadcast::OfTheInterface => seen
            .addresses
            .iter()
            .filter(|other| other.index == link.index && other.prefix == prefix && other.address != wanted.address)
            .filter(|other| same_network(other.address, wanted.address, prefix))
            .find_map(|other| other.broadcast),
    }
}

/// What a start has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) home: Home,
    /// Where the address is and does not belong.
    pub(crate) remove: Vec<Assigned>,
    /// Whether it is to be added.
    pub(crate) add: bool,
}

/// What a start has to do.
pub(crate) fn start(wanted: &Wanted, seen: &Seen) -> Result<Start, Failure> {
    let home = home(wanted, seen)?;
    let (right, wrong): (Vec<&Assigned>, Vec<&Assigned>) = seen.places(wanted).partition(|assigned| belongs(assigned, &home));
    Ok(Start { add: right.is_empty(), remove: wrong.into_iter().cloned().collect(), home })
}

/// Whether an address is where it belongs, as it is wanted there.
fn belongs(assigned: &Assigned, home: &Home) -> bool {
    let labelled = home.label.is_none() || assigned.label == home.label;
    assigned.index == home.link.index && assigned.prefix == home.prefix && labelled && !assigned.duplicate
}

/// What a monitor finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The address is on no interface.
    Absent,
    /// It is where it belongs; with what an operator should see.
    Present(Option<String>),
}

/// Judges what is there. Only what the parameters say is held against it: a route that has changed since the start moves no address.
pub(crate) fn judge(wanted: &Wanted, seen: &Seen, promotes: impl Fn(&str) -> bool) -> Result<Verdict, Failure> {
    let address = wanted.address;
    let places: Vec<&Assigned> = seen.places(wanted).collect();
    let on_nic = |assigned: &Assigned| {
        let link = seen.link(assigned.index);
        wanted.nic.as_ref().is_none_or(|nic| link.is_some_and(|link| link.is_called(nic)))
    };
    let Some(first) = places.first() else { return Ok(Verdict::Absent) };
    let Some(here) = places.iter().find(|assigned| on_nic(assigned)) else {
        let nic = wanted.nic.as_deref().unwrap_or_default();
        return Err(Failure::generic(format!(
            "{address} is on {} and not on {nic}: remove it there, or correct nic",
            seen.name(first.index)
        )));
    };
    let name = seen.name(here.index);
    if let Some(other) = places.iter().find(|other| other.index != here.index) {
        let second = seen.name(other.index);
        return Err(Failure::generic(format!("{address} is on {second} as well as on {name}: find out who has put it there")));
    }
    let Some(here) = places.iter().find(|assigned| wanted.prefix.is_none_or(|prefix| assigned.prefix == prefix)) else {
        let prefix = wanted.prefix.unwrap_or_default();
        return Err(Failure::generic(format!(
            "{address} has the prefix /{} on {name} and not /{prefix}: correct cidr_netmask, or find out who has changed it",
            here.prefix
        )));
    };
    if here.duplicate {
        return Err(Failure::generic(format!("another host has {address} as well: the kernel has found it and does not use the address")));
    }
    let label = wanted.label.as_ref().map(|label| format!("{name}:{label}"));
    if label.is_some() && here.label != label {
        let (label, found) = (label.unwrap_or_default(), here.label.as_deref().unwrap_or_default());
        return Err(Failure::generic(format!("{address} has the label {found:?} on {name} and not {label}: restart this resource")));
    }
    if let Some(failure) = seen.link(here.index).and_then(|link| without_link(wanted, link)) {
        return Err(failure);
    }
    Ok(Verdict::Present(dropped_along(here, seen).filter(|_| !promotes(&name)).map(|others| {
        format!(
            "{others} would vanish from {name} together with {address}, which is before them: give the node an address of its own in this \
             network, or set net.ipv4.conf.{name}.promote_secondaries=1"
        )
    })))
}

/// Whether an interface is down, where that counts.
pub(crate) fn lacks_link(wanted: &Wanted, link: &Link) -> bool {
    wanted.checks_link && link.down
}

/// The failure of an interface that is down, when that is one.
pub(crate) fn without_link(wanted: &Wanted, link: &Link) -> Option<Failure> {
    lacks_link(wanted, link).then(|| {
        Failure::installed(format!(
            "{} is down or has no link: look at its cable and switch; check_link_status=false passes over it",
            link.name
        ))
    })
}

/// The addresses of others that the kernel removes along with this one. `None` when there are none.
fn dropped_along(here: &Assigned, seen: &Seen) -> Option<String> {
    let others = seen.addresses.iter().filter(|other| {
        other.index == here.index
            && other.prefix == here.prefix
            && other.secondary
            && other.address != here.address
            && same_network(other.address, here.address, here.prefix)
    });
    let others: Vec<String> = others.map(|other| other.address.to_string()).collect();
    (here.address.is_ipv4() && !here.secondary && !others.is_empty()).then(|| others.join(", "))
}
