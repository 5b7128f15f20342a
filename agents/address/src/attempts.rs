//! Attempts to connect to an address that is on its way to another node: which packets are some, by the kernel's filter and by ours, and
//! which are kept. Pure.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET, BPF_W, SKF_AD_OFF,
    SKF_AD_PKTTYPE, sock_filter,
};

use crate::packets::{ADVERTISEMENT, ICMPV6, checksum};
use crate::suitable::unsuitable;

/// The kind of a packet that was sent to the hardware address of this node (PACKET_HOST).
const TO_THIS_NODE: u32 = 0;
/// IPv4's number of Ethernet's.
pub(crate) const IPV4: u16 = 0x0800;
const TCP: u8 = 6;
/// Of TCP's flags: FIN, SYN, RST and ACK, and what they are in the first packet of a connection.
const FLAGS: u8 = 0x17;
const SYN: u8 = 0x02;
/// Of the head of IPv4: "more fragments", and where this one begins.
const FRAGMENT: u16 = 0x3fff;
/// The longest head of IPv4 or IPv6 and the longest of TCP, and more: a packet that is cut by the filter is none of ours.
const LONGEST: u32 = 256;
/// So many are kept. Of more, those that came first are given up most likely.
const MOST: usize = 256;

/// The first packet of a connection, that nobody has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The client, its port, and the port of the server: the same in a repetition.
    client: (IpAddr, u16, u16),
    /// As the client has sent it, with the checksum that the client's network card would have put in.
    pub(crate) packet: Vec<u8>,
}

/// What a packet is, when it is an attempt to connect to this address and nothing else: whole, without data, and from an address that a
/// host can have.
pub(crate) fn attempt(packet: &[u8], to: IpAddr) -> Option<Attempt> {
    let number = |place: usize| packet.get(place..place + 2)?.try_into().ok().map(u16::from_be_bytes);
    // Where the addresses and where TCP begin, and where the packet ends: short ones are padded on the link.
    let (addresses, begin, end, from): (_, _, _, IpAddr) = match to {
        IpAddr::V4(_) => {
            let first = *packet.first()?;
            if first >> 4 != 4 || number(6)? & FRAGMENT != 0 || *packet.get(9)? != TCP {
                return None;
            }
            let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            (12..20, usize::from(first & 0xf) * 4, usize::from(number(2)?), Ipv4Addr::from(from).into())
        }
        IpAddr::V6(_) => {
            if packet.first()? >> 4 != 6 || *packet.get(6)? != TCP {
                return None;
            }
            let from: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            (8..40, 40, usize::from(number(4)?) + 40, Ipv6Addr::from(from).into())
        }
    };
    let least = if to.is_ipv4() { 20 } else { 40 };
    let meant = match to {
        IpAddr::V4(v4) => packet.get(16..20)? == v4.octets(),
        IpAddr::V6(v6) => packet.get(24..40)? == v6.octets(),
    };
    let mut whole = packet.get(..end).filter(|_| begin >= least)?.to_vec();
    let segment = whole.get(begin..)?;
    let head = usize::from(segment.get(12)? >> 4) * 4;
    if !meant || from == to || unsuitable(from).is_some() || segment.get(13)? & FLAGS != SYN || head < 20 || segment.len() != head {
        return None;
    }
    let (source, destination) = (number(begin)?, number(begin + 2)?);
    // Between machines of one host the sum is left to a network card that there is not. There are no data which it would protect.
    whole.get_mut(begin + 16..begin + 18)?.fill(0);
    let sum = checksum(whole.get(addresses)?, TCP, whole.get(begin..)?).to_be_bytes();
    whole.get_mut(begin + 16..begin + 18)?.copy_from_slice(&sum);
    Some(Attempt { client: (from, source, destination), packet: whole })
}

/// The attempts that are kept.
#[derive(Debug, Default)]
pub(crate) struct Held(VecDeque<Attempt>);

impl Held {
    /// Keeps one. A repetition takes the place of what it repeats.
    pub(crate) fn keep(&mut self, attempt: Attempt) {
        self.0.retain(|held| held.client != attempt.client);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(attempt);
    }

    /// All of them, once.
    pub(crate) fn take(&mut self) -> VecDeque<Attempt> {
        std::mem::take(&mut self.0)
    }
}

/// What the kernel lets through: attempts to connect to this address, that were sent to this node and to no other.
pub(crate) fn filter(to: IpAddr) -> Vec<sock_filter> {
    let mut conditions = vec![Condition::new(BPF_B, (SKF_AD_OFF + SKF_AD_PKTTYPE) as u32, TO_THIS_NODE)];
    match to {
        IpAddr::V4(v4) => conditions.extend([
            Condition::new(BPF_W, 16, v4.to_bits()),
            Condition::new(BPF_B, 9, TCP.into()),
            Condition::new(BPF_H, 6, 0).masked(FRAGMENT.into()),
            Condition::after_the_head(13, SYN.into()).masked(FLAGS.into()),
        ]),
        IpAddr::V6(v6) => {
            conditions.extend(words(v6, 24));
            conditions.extend([Condition::new(BPF_B, 6, TCP.into()), Condition::new(BPF_B, 53, SYN.into()).masked(FLAGS.into())]);
        }
    }
    program(conditions)
}

/// The same for what says who has the address: by ARP, or as an advertisement.
pub(crate) fn announcements(of: IpAddr) -> Vec<sock_filter> {
    match of {
        IpAddr::V4(v4) => program(vec![Condition::new(BPF_W, 14, v4.to_bits())]),
        IpAddr::V6(v6) => {
            let kind = [Condition::new(BPF_B, 6, ICMPV6.into()), Condition::new(BPF_B, 40, ADVERTISEMENT.into())];
            program(kind.into_iter().chain(words(v6, 48)).collect())
        }
    }
}

/// That an address of IPv6 stands at this place.
fn words(address: Ipv6Addr, place: u32) -> impl Iterator<Item = Condition> {
    let bits = address.to_bits();
    (0..4).map(move |n| Condition::new(BPF_W, place + 4 * n, (bits >> (96 - 32 * n)) as u32))
}

/// Something that a packet has to hold: what is loaded, and what that has to be.
struct Condition {
    loads: Vec<sock_filter>,
    value: u32,
}

impl Condition {
    fn new(size: u32, place: u32, value: u32) -> Self {
        Self { loads: vec![instruction(BPF_LD | size | BPF_ABS, place)], value }
    }

    /// Of a byte behind the head of IPv4.
    fn after_the_head(place: u32, value: u32) -> Self {
        Self { loads: vec![instruction(BPF_LDX | BPF_B | BPF_MSH, 0), instruction(BPF_LD | BPF_B | BPF_IND, place)], value }
    }

    fn masked(mut self, mask: u32) -> Self {
        self.loads.push(instruction(BPF_ALU | BPF_AND | BPF_K, mask));
        self
    }
}

/// Lets through what fulfils all conditions. A load behind the packet's end lets nothing through.
fn program(conditions: Vec<Condition>) -> Vec<sock_filter> {
    let mut program: Vec<sock_filter> = Vec::new();
    for Condition { loads, value } in conditions {
        program.extend(loads);
        program.push(instruction(BPF_JMP | BPF_JEQ | BPF_K, value));
    }
    program.push(instruction(BPF_RET | BPF_K, LONGEST));
    let drops = program.len();
    for (place, step) in program.iter_mut().enumerate() {
        if u32::from(step.code) == BPF_JMP | BPF_JEQ | BPF_K {
            step.jf = u8::try_from(drops - place - 1).unwrap_or(u8::MAX);
        }
    }
    program.push(instruction(BPF_RET | BPF_K, 0));
    program
}

fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 3);
    const ADDRESS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

    /// From port 40000 to port 3306, with an option of four bytes and a wrong sum.
    fn segment() -> Vec<u8> {
        vec![0x9c, 0x40, 0x0c, 0xea, 1, 2, 3, 4, 0, 0, 0, 0, 6 << 4, SYN, 0xfa, 0xf0, 0xde, 0xad, 0, 0, 2, 4, 5, 0xb4]
    }

    fn v4() -> Vec<u8> {
        let head = [0x45, 0, 0, 44, 0, 1, 0x40, 0, 64, TCP, 0, 0];
        [&head[..], &CLIENT.octets(), &ADDRESS.octets(), &segment()].concat()
    }

    fn v6() -> Vec<u8> {
        let head = [0x60, 0, 0, 0, 0, 24, TCP, 64];
        [&head[..], &CLIENT6.octets(), &ADDRESS6.octets(), &segment()].concat()
    }

    #[test]
    fn an_attempt_is_passed_on_as_it_came_with_its_sum() {
        for (mut packet, to, addresses, begin) in [(v4(), IpAddr::V4(ADDRESS), 12..20, 20), (v6(), ADDRESS6.into(), 8..40, 40)] {
            let found = attempt(&packet, to).unwrap();
            assert_eq!((found.client.1, found.client.2), (40_000, 3306));
            assert_eq!(checksum(&found.packet[addresses], TCP, &found.packet[begin..]), 0);
            packet[begin + 16..begin + 18].copy_from_slice(&found.packet[begin + 16..begin + 18]);
            assert_eq!(found.packet, packet);
            // Short packets are padded on the link.
            assert_eq!(attempt(&[&packet[..], &[0; 2]].concat(), to), Some(found));
        }
    }

    #[test]
    fn what_is_no_attempt_to_connect_to_the_address_is_nothing() {
        let four: &[(usize, u8, &str)] = &[
            (0, 0x65, "another version"),
            (0, 0x44, "a head that is too short"),
            (0, 0x4f, "a head that is longer than the packet"),
            (3, 43, "shorter than its own head"),
            (3, 45, "longer than it is"),
            (6, 0x20, "the first of several fragments"),
            (7, 1, "another fragment"),
            (9, 17, "UDP"),
            (12, 127, "from the loopback network"),
            (12, 224, "from a group"),
            (12, 0, "from nobody"),
            (15, 10, "from the address itself"),
            (19, 11, "for another address"),
            (33, 0x12, "an answer"),
            (33, 0x10, "of a connection that is open"),
            (33, 0x04, "a reset"),
            (33, 0x03, "an end"),
            (32, 5 << 4, "with data"),
            (32, 7 << 4, "cut off"),
            (32, 4 << 4, "a head of TCP that is too short"),
        ];
        let six: &[(usize, u8, &str)] = &[
            (0, 0x45, "another version"),
            (5, 25, "longer than it is"),
            (5, 23, "cut off"),
            (6, 44, "a fragment"),
            (39, 0x11, "for another address"),
            (53, 0x10, "open"),
            (8, 0xff, "from a group"),
        ];
        for (packet, to, spoilt) in [(v4(), IpAddr::V4(ADDRESS), four), (v6(), ADDRESS6.into(), six)] {
            for (place, value, why) in spoilt {
                let mut packet = packet.clone();
                packet[*place] = *value;
                assert_eq!(attempt(&packet, to), None, "{why}");
            }
            for length in 0..packet.len() {
                assert_eq!(attempt(&packet[..length], to), None, "of {length} bytes");
            }
        }
    }

    #[test]
    fn repetitions_are_kept_once_and_of_too_many_the_last() {
        let mut held = Held::default();
        let from = |n: u16| Attempt { client: (CLIENT.into(), n, 3306), packet: vec![] };
        for n in (0..1000).chain(900..1000) {
            held.keep(from(n));
        }
        let ports: Vec<u16> = held.take().iter().map(|attempt| attempt.client.1).collect();
        assert_eq!(ports, (744..1000).collect::<Vec<_>>());
        assert!(held.take().is_empty());
    }

    #[test]
    fn a_filter_leads_to_its_last_instruction_or_on() {
        for program in [filter(ADDRESS.into()), filter(ADDRESS6.into()), announcements(ADDRESS.into()), announcements(ADDRESS6.into())] {
            let last = program.len() - 1;
            assert_eq!((program[last].k, program[last - 1].k), (0, LONGEST));
            for (place, step) in program.iter().enumerate().filter(|(_, step)| u32::from(step.code) & 7 == BPF_JMP) {
                assert_eq!(place + 1 + usize::from(step.jf), last);
            }
        }
    }

    proptest! {
        /// Whatever a client sends: no panic, and what is passed on is a whole packet for the address.
        #[test]
        fn no_packet_brings_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..100), at in 0_usize..80, kept in 0_usize..70) {
            for (packet, to) in [(v4(), IpAddr::V4(ADDRESS)), (v6(), ADDRESS6.into())] {
                let _ = attempt(&bytes, to);
                let mut packet = [&packet[..kept.min(packet.len())], &bytes].concat();
                if let (Some(byte), Some(new)) = (packet.get_mut(at), bytes.first()) {
                    *byte = *new;
                }
                if let Some(found) = attempt(&packet, to) {
                    prop_assert_eq!(attempt(&found.packet, to), Some(found));
                }
            }
        }
    }
}
