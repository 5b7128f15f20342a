//! What the kernel has of interfaces, addresses, routes and neighbours, in our words; and what it is told to change.

use std::io::{ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkLayerType, LinkMessage, Prop, State};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::netlink::Netlink;
use crate::plan::{Assigned, Home, Link, Route, Wanted};

/// The table with the addresses of this node.
const LOCAL: u8 = 255;
/// Marks our own route in that table, as the origin of a route. No routing daemon has this number.
const OURS: RouteProtocol = RouteProtocol::Other(0x73);

/// The part of the kernel that has interfaces and addresses, in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Kernel(Netlink);

impl Kernel {
    pub(crate) fn open() -> Result<Self> {
        Netlink::open(SockProtocol::NetlinkRoute).map(Self)
    }

    /// All addresses of the family of this one.
    pub(crate) fn addresses(&mut self, like: IpAddr) -> Result<Vec<Assigned>> {
        let mut request = AddressMessage::default();
        request.header.family = family(like);
        let told = self.0.list(RouteNetlinkMessage::GetAddress(request))?;
        Ok(told
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(message) => assigned(&message),
                _ => None,
            })
            .collect())
    }

    /// All interfaces.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>> {
        let told = self.0.list(RouteNetlinkMessage::GetLink(question()))?;
        Ok(told.iter().filter_map(answered).collect())
    }

    /// The interface with this number; `None` when there is none.
    pub(crate) fn link(&mut self, index: u32) -> Result<Option<Link>> {
        let mut request = question();
        request.header.index = index;
        match self.0.get(RouteNetlinkMessage::GetLink(request)) {
            Ok(told) => Ok(told.as_ref().and_then(answered)),
            Err(why) if why.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Switches an interface on.
    pub(crate) fn switch_on(&mut self, index: u32) -> Result<()> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        request.header.flags = LinkFlags::Up;
        request.header.change_mask = LinkFlags::Up;
        self.0.change(RouteNetlinkMessage::SetLink(request), 0)
    }

    /// The routes of the usual table, of the family of this address, that lead to hosts.
    pub(crate) fn routes(&mut self, like: IpAddr) -> Result<Vec<Route>> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(like);
        let told = self.0.list(RouteNetlinkMessage::GetRoute(request))?;
        Ok(told
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(message) => route(&message, like),
                _ => None,
            })
            .collect())
    }

    /// The hardware address of a neighbour, as far as it is known.
    pub(crate) fn neighbour(&mut self, index: u32, address: IpAddr) -> Result<Option<[u8; 6]>> {
        let mut request = NeighbourMessage::default();
        request.header.family = family(address);
        let told = self.0.list(RouteNetlinkMessage::GetNeighbour(request))?;
        Ok(told.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(message) if message.header.ifindex == index => hardware(&message, address),
            _ => None,
        }))
    }

    /// Adds the address where it belongs. One that is there already is good.
    pub(crate) fn add(&mut self, wanted: &Wanted, home: &Home) -> Result<()> {
        let mut request = message(wanted.address, home.link.index, home.prefix);
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Noprefixroute, wanted.makes_no_route);
        if wanted.address.is_ipv6() {
            flags.set(AddressFlags::Nodad, wanted.skips_detection);
            if let Some(seconds) = wanted.preferred {
                let mut lifetime = CacheInfo::default();
                lifetime.ifa_preferred = seconds;
                lifetime.ifa_valid = u32::MAX;
                request.attributes.push(AddressAttribute::CacheInfo(lifetime));
            }
        }
        request.attributes.extend(home.broadcast.map(AddressAttribute::Broadcast));
        request.attributes.extend(home.label.clone().map(AddressAttribute::Label));
        request.attributes.push(AddressAttribute::Flags(flags));
        match self.0.change(RouteNetlinkMessage::NewAddress(request), NLM_F_CREATE | NLM_F_EXCL) {
            Err(why) if why.kind() == ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// Removes an address from an interface. One that is not there is good.
    pub(crate) fn remove(&mut self, assigned: &Assigned) -> Result<()> {
        let mut request = message(assigned.address, assigned.index, assigned.prefix);
        if let Some(peer) = assigned.peer {
            request.attributes = vec![AddressAttribute::Local(assigned.address), AddressAttribute::Address(peer)];
        }
        match self.0.change(RouteNetlinkMessage::DelAddress(request), 0) {
            Err(why) if matches!(why.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(()),
            result => result,
        }
    }

    /// From now on nothing that comes for this address reaches a socket of this node, while the address can still send.
    pub(crate) fn close(&mut self, address: Ipv4Addr) -> Result<()> {
        match self.0.change(RouteNetlinkMessage::NewRoute(barrier(address)), NLM_F_CREATE) {
            Err(why) if why.kind() == ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// Takes back what [`Kernel::close`] has done, perhaps an agent that was killed. Returns whether there was something.
    pub(crate) fn reopen(&mut self, address: Ipv4Addr) -> Result<bool> {
        match self.0.change(RouteNetlinkMessage::DelRoute(barrier(address)), 0) {
            Ok(()) => Ok(true),
            Err(why) if matches!(why.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// Whether what comes for this address on this interface is for this node. Of IPv6 the kernel makes that so some moments after it has
    /// taken the address.
    pub(crate) fn delivers(&mut self, address: IpAddr, index: u32) -> bool {
        let mut request = RouteMessage::default();
        request.header.address_family = family(address);
        let (to, length) = match address {
            IpAddr::V4(v4) => (RouteAddress::Inet(v4), 32),
            IpAddr::V6(v6) => (RouteAddress::Inet6(v6), 128),
        };
        request.header.destination_prefix_length = length;
        request.attributes = vec![RouteAttribute::Destination(to), RouteAttribute::Iif(index)];
        let told = self.0.get(RouteNetlinkMessage::GetRoute(request));
        matches!(told, Ok(Some(RouteNetlinkMessage::NewRoute(route))) if route.header.kind == RouteType::Local)
    }

    /// Whether what comes for this address is dropped: what [`Kernel::close`] has done is still there.
    pub(crate) fn is_closed(&mut self, address: Ipv4Addr) -> bool {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        request.header.destination_prefix_length = 32;
        request.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(address))];
        let told = self.0.get(RouteNetlinkMessage::GetRoute(request));
        // That is the answer of a blackhole. An address in a table of its own (VRF) may have no route here at all.
        told.is_err_and(|why| why.raw_os_error() == Some(libc::EINVAL))
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// A question about interfaces, without their statistics, which cost more than all else.
fn question() -> LinkMessage {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    request
}

fn message(address: IpAddr, index: u32, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

/// A route that drops what comes for an address, in front of the one by which the node takes it for its own. It goes with the kernel's own
/// route when the address is removed, or stays alone: then it does what the missing address would do.
fn barrier(address: Ipv4Addr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = 32;
    message.header.table = LOCAL;
    message.header.protocol = OURS;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::BlackHole;
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(address))];
    message
}

fn assigned(message: &AddressMessage) -> Option<Assigned> {
    let attributes = &message.attributes;
    // Of a link between two, the address is the other one's.
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let other = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let address = local.or(other)?;
    let flags = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    let flags = flags.unwrap_or(AddressFlags::from_bits_retain(u32::from(message.header.flags.bits())));
    Some(Assigned {
        index: message.header.index,
        address,
        peer: other.filter(|other| *other != address),
        prefix: message.header.prefix_len,
        broadcast: attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Broadcast(address) => Some(*address),
            _ => None,
        }),
        label: attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Label(label) => Some(label.clone()),
            _ => None,
        }),
        // Of IPv6 the bit means that the address is a temporary one.
        secondary: address.is_ipv4() && flags.contains(AddressFlags::Secondary),
        tentative: flags.contains(AddressFlags::Tentative),
        duplicate: flags.contains(AddressFlags::Dadfailed),
    })
}

fn answered(message: &RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        loopback: flags.contains(LinkFlags::Loopback),
        up: flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    let asks = message.header.link_layer_type == LinkLayerType::Ether && !flags.contains(LinkFlags::Noarp);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::OperState(state) => link.down |= matches!(state, State::Down | State::LowerLayerDown),
            // Without a carrier the state above is down within a second, and the carrier says it at once.
            LinkAttribute::Carrier(carrier) => link.down |= *carrier == 0,
            LinkAttribute::Address(address) if asks => link.hardware = address.as_slice().try_into().ok(),
            LinkAttribute::PropList(names) => link.names.extend(names.iter().filter_map(|name| match name {
                Prop::AltIfName(name) => Some(name.clone()),
                _ => None,
            })),
            _ => {}
        }
    }
    Some(link)
}

fn route(message: &RouteMessage, like: IpAddr) -> Option<Route> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let mut network = if like.is_ipv4() { IpAddr::V4(0.into()) } else { IpAddr::V6(0.into()) };
    let (mut index, mut gateway, mut metric) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => network = ip(address)?,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    Some(Route { network: (network, header.destination_prefix_length), index: index?, gateway, metric })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// The hardware address that a message has of this neighbour.
fn hardware(message: &NeighbourMessage, of: IpAddr) -> Option<[u8; 6]> {
    let is_it = |attribute: &NeighbourAttribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => IpAddr::V4(*address) == of,
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => IpAddr::V6(*address) == of,
        _ => false,
    };
    if !message.attributes.iter().any(is_it) {
        return None;
    }
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(address) => address.as_slice().try_into().ok(),
        _ => None,
    })
}
