//! The packets by which neighbours learn who has an address, and are asked: ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861).
//! Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::suitable::solicited_node;

/// ARP's number of Ethernet's.
pub(crate) const ARP: u16 = 0x0806;
/// IPv6's number of Ethernet's.
pub(crate) const IPV6: u16 = 0x86dd;
/// To everybody.
const BROADCAST: [u8; 6] = [0xff; 6];

pub(crate) const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
pub(crate) const ADVERTISEMENT: u8 = 136;
/// Flags of an advertisement: from a router; it replaces what is known.
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
const SOURCE_HARDWARE: u8 = 1;
const TARGET_HARDWARE: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// A hardware address.
pub(crate) type Hardware = [u8; 6];

/// As tools of networks print it.
pub(crate) fn printed(hardware: Hardware) -> String {
    hardware.map(|byte| format!("{byte:02x}")).join(":")
}

/// A packet, and to whom it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) protocol: u16,
    pub(crate) to: Hardware,
    pub(crate) content: Vec<u8>,
}

/// The default gateway, and its hardware address as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub(crate) address: IpAddr,
    pub(crate) hardware: Option<Hardware>,
}

/// What tells the neighbours that `address` is at `hardware` now. What they do with a request and with a reply that nobody asked for
/// differs, so both are sent; and the gateway, over which all others come, is asked for itself, which no router passes over. `routes`:
/// whether this node passes on packets of others.
pub(crate) fn announcement(address: IpAddr, hardware: Hardware, gateway: Option<Gateway>, routes: bool) -> Vec<Packet> {
    match address {
        IpAddr::V4(v4) => {
            let mut packets = vec![arp(REQUEST, hardware, v4, [0; 6], v4, BROADCAST), arp(REPLY, hardware, v4, BROADCAST, v4, BROADCAST)];
            if let Some(Gateway { address: IpAddr::V4(router), hardware: theirs }) = gateway.filter(|gateway| gateway.address != address) {
                packets.push(arp(REQUEST, hardware, v4, [0; 6], router, theirs.unwrap_or(BROADCAST)));
            }
            packets
        }
        IpAddr::V6(v6) => {
            let mut packets = vec![advertisement(v6, hardware, ALL_NODES, multicast(ALL_NODES), routes)];
            if let Some(Gateway { address: IpAddr::V6(router), hardware: theirs }) = gateway.filter(|gateway| gateway.address != address) {
                packets.extend(theirs.map(|theirs| advertisement(v6, hardware, router, theirs, routes)));
                packets.push(solicitation(v6, router, Some(hardware), theirs));
            }
            packets
        }
    }
}

/// What asks whether somebody has the address, from one that has none yet.
pub(crate) fn question(address: IpAddr, hardware: Hardware) -> Packet {
    match address {
        IpAddr::V4(v4) => arp(REQUEST, hardware, Ipv4Addr::UNSPECIFIED, [0; 6], v4, BROADCAST),
        IpAddr::V6(v6) => solicitation(Ipv6Addr::UNSPECIFIED, v6, None, None),
    }
}

/// The hardware address of another host that has `address`, by what a packet of ARP says.
pub(crate) fn owner_by_arp(packet: &[u8], address: Ipv4Addr, ours: Hardware) -> Option<Hardware> {
    // Of Ethernet and IPv4, whatever it asks or says.
    if packet.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let hardware: Hardware = packet.get(8..14)?.try_into().ok()?;
    (packet.get(14..18)? == address.octets() && hardware != ours).then_some(hardware)
}

/// The same by what a packet of ICMPv6 says, without its head of IPv6. Who leaves its hardware address out is told as zeros.
pub(crate) fn owner_by_advertisement(packet: &[u8], address: Ipv6Addr, ours: Hardware) -> Option<Hardware> {
    if packet.get(..2)? != [ADVERTISEMENT, 0] || packet.get(8..24)? != address.octets() {
        return None;
    }
    let mut options = packet.get(24..)?;
    let mut hardware = [0; 6];
    while let [kind, length, ..] = *options {
        let size = usize::from(length) * 8;
        if size == 0 || size > options.len() {
            break;
        }
        if kind == TARGET_HARDWARE {
            hardware = options.get(2..8)?.try_into().ok()?;
        }
        options = options.get(size..).unwrap_or_default();
    }
    (hardware != ours).then_some(hardware)
}

/// The same by a whole packet, that no router has passed on.
pub(crate) fn owner_by_packet(packet: &[u8], address: Ipv6Addr, ours: Hardware) -> Option<Hardware> {
    let (head, rest) = packet.split_at_checked(40)?;
    let length = usize::from(u16::from_be_bytes(head.get(4..6)?.try_into().ok()?));
    let message = rest.get(..length).filter(|_| length % 2 == 0)?;
    let intact = head.get(6..8)? == [ICMPV6, 255] && checksum(head.get(8..40)?, ICMPV6, message) == 0;
    if intact { owner_by_advertisement(message, address, ours) } else { None }
}

fn arp(operation: u16, hardware: Hardware, sender: Ipv4Addr, target_hardware: Hardware, target: Ipv4Addr, to: Hardware) -> Packet {
    let mut content = vec![0, 1, 8, 0, 6, 4];
    content.extend(operation.to_be_bytes());
    content.extend(hardware);
    content.extend(sender.octets());
    content.extend(target_hardware);
    content.extend(target.octets());
    Packet { protocol: ARP, to, content }
}

fn advertisement(address: Ipv6Addr, hardware: Hardware, destination: Ipv6Addr, to: Hardware, routes: bool) -> Packet {
    let flags = OVERRIDE | if routes { ROUTER } else { 0 };
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(address.octets());
    message.extend([TARGET_HARDWARE, 1]);
    message.extend(hardware);
    icmpv6(address, destination, message, to)
}

/// Without `to` to the group in which whoever has the target is.
fn solicitation(source: Ipv6Addr, target: Ipv6Addr, hardware: Option<Hardware>, to: Option<Hardware>) -> Packet {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    if let Some(hardware) = hardware {
        message.extend([SOURCE_HARDWARE, 1]);
        message.extend(hardware);
    }
    let group = solicited_node(target);
    let destination = if to.is_some() { target } else { group };
    icmpv6(source, destination, message, to.unwrap_or(multicast(group)))
}

fn icmpv6(source: Ipv6Addr, destination: Ipv6Addr, mut message: Vec<u8>, to: Hardware) -> Packet {
    let length = u16::try_from(message.len()).unwrap_or(0);
    let sum = checksum(&[source.octets(), destination.octets()].concat(), ICMPV6, &message).to_be_bytes();
    message.splice(2..4, sum);
    // Hop limit 255: whatever a router has passed on is not believed.
    let mut content = vec![0x60, 0, 0, 0];
    content.extend(length.to_be_bytes());
    content.extend([ICMPV6, 255]);
    content.extend(source.octets());
    content.extend(destination.octets());
    content.extend(message);
    Packet { protocol: IPV6, to, content }
}

/// Of ICMPv6 and TCP (RFC 4443, 2.3; RFC 9293, 3.1): over the message and the pseudo-header, which has both addresses. The message has an
/// even length, and zeros where the sum will be.
pub(crate) fn checksum(addresses: &[u8], protocol: u8, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| bytes.chunks(2).map(|pair| pair.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))).sum::<u32>();
    let length = u32::try_from(message.len()).unwrap_or(0);
    let mut sum = words(addresses) + length + u32::from(protocol) + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// The group's address of Ethernet's (RFC 2464).
fn multicast(group: Ipv6Addr) -> Hardware {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: Hardware = [2, 0, 0, 0, 0, 1];
    const OTHER: Hardware = [2, 0, 0, 0, 0, 2];

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_announced_as_request_and_reply_and_to_the_gateway() {
        let address = v4("192.0.2.10");
        let gateway = Gateway { address: v4("192.0.2.1").into(), hardware: Some(OTHER) };
        let packets = announcement(address.into(), OURS, Some(gateway), false);
        let operations: Vec<u8> = packets.iter().map(|packet| packet.content[7]).collect();
        assert_eq!(operations, [1, 2, 1]);
        assert_eq!(packets.iter().map(|packet| packet.to).collect::<Vec<_>>(), [BROADCAST, BROADCAST, OTHER]);
        for packet in &packets {
            assert_eq!((packet.content.len(), packet.protocol), (28, ARP));
            assert_eq!((&packet.content[8..14], &packet.content[14..18]), (&OURS[..], &address.octets()[..]));
        }
        assert_eq!(packets[2].content[24..], [192, 0, 2, 1]);
        assert_eq!(announcement(address.into(), OURS, None, false).len(), 2);
        let itself = Gateway { address: address.into(), hardware: None };
        assert_eq!(announcement(address.into(), OURS, Some(itself), false).len(), 2);
    }

    /// A sum over all of it, with the sum that is in it, is all ones.
    #[test]
    fn a_packet_of_icmpv6_has_its_checksum() {
        let gateway = Gateway { address: v6("fe80::1").into(), hardware: Some(OTHER) };
        for packet in announcement(v6("2001:db8::10").into(), OURS, Some(gateway), true) {
            let (head, message) = packet.content.split_at(40);
            assert_eq!(checksum(&head[8..40], ICMPV6, message), 0);
            assert_eq!((head[6], head[7], head[4..6].to_vec()), (58, 255, (message.len() as u16).to_be_bytes().to_vec()));
        }
        let told = &announcement(v6("2001:db8::10").into(), OURS, None, true)[0];
        assert_eq!((told.to, told.content[44]), ([0x33, 0x33, 0, 0, 0, 1], ROUTER | OVERRIDE));
    }

    #[test]
    fn who_has_an_address_is_heard_and_nobody_else() {
        let address = v4("192.0.2.10");
        let theirs = announcement(address.into(), OTHER, None, false);
        assert_eq!(theirs.iter().filter_map(|p| owner_by_arp(&p.content, address, OURS)).collect::<Vec<_>>(), [OTHER, OTHER]);
        assert_eq!(owner_by_arp(&theirs[0].content, address, OTHER), None, "our own");
        assert_eq!(owner_by_arp(&theirs[0].content, v4("192.0.2.11"), OURS), None, "of another address");
        assert_eq!(owner_by_arp(&question(address.into(), OTHER).content, address, OURS), None, "somebody who asks");
        let address = v6("2001:db8::10");
        let theirs = &announcement(address.into(), OTHER, None, false)[0];
        assert_eq!(owner_by_advertisement(&theirs.content[40..], address, OURS), Some(OTHER));
        assert_eq!(owner_by_advertisement(&theirs.content[40..], v6("2001:db8::11"), OURS), None);
        assert_eq!(owner_by_advertisement(&theirs.content[40..64], address, OURS), Some([0; 6]));
        assert_eq!(owner_by_advertisement(&question(address.into(), OTHER).content[40..], address, OURS), None);
        assert_eq!(owner_by_packet(&theirs.content, address, OURS), Some(OTHER));
        for (place, value) in [(7, 254), (6, 6), (5, 33), (63, 1), (71, 9)] {
            let mut spoilt = theirs.content.clone();
            spoilt[place] = value;
            assert_eq!(owner_by_packet(&spoilt, address, OURS), None, "byte {place} is {value}");
        }
    }

    proptest! {
        /// Whatever a neighbour sends.
        #[test]
        fn no_packet_brings_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..80), begin in 0_usize..4) {
            let heads: [&[u8]; 4] = [&[], &[0, 1, 8, 0, 6, 4], &[136, 0, 0, 0, 0, 0, 0, 0], &[136, 0, 0, 0, 0, 0, 0, 0, 0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]];
            let packet = [heads[begin], &bytes].concat();
            let _ = owner_by_arp(&packet, Ipv4Addr::UNSPECIFIED, OURS);
            let _ = owner_by_advertisement(&packet, Ipv6Addr::UNSPECIFIED, OURS);
            let _ = owner_by_packet(&packet, Ipv6Addr::UNSPECIFIED, OURS);
        }
    }
}
