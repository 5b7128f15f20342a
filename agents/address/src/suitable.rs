//! Which addresses an interface can have, and what follows from the length of a network's prefix. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address can be nobody's on a network of the usual kind; `None` when it can.
pub(crate) fn unsuitable(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => match v4.octets() {
            [0, ..] => Some("is no address of a host (0.0.0.0/8)"),
            [127, ..] => Some("is of the loopback network (127.0.0.0/8), which never leaves a node"),
            [224..=239, ..] => Some("is a multicast address"),
            [255, 255, 255, 255] => Some("is the broadcast address"),
            [240..=255, ..] => Some("is of the reserved range 240.0.0.0/4"),
            _ => None,
        },
        IpAddr::V6(v6) => match v6.octets() {
            _ if v6.is_unspecified() => Some("is no address of a host"),
            _ if v6.is_loopback() => Some("is the loopback address, which never leaves a node"),
            _ if v6.is_multicast() => Some("is a multicast address"),
            _ if v6.to_ipv4_mapped().is_some() => Some("is an IPv4 address in the notation of IPv6: write it as a.b.c.d"),
            _ => None,
        },
    }
}

/// Whether an address only means something together with an interface.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The bits of an address as a number, at the upper end of it.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Whether two addresses of one family are in the same network.
pub(crate) fn same_network(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
    one.is_ipv4() == other.is_ipv4() && (bits(one) ^ bits(other)) & mask == 0
}

/// The length of a prefix, as such or as a mask of IPv4.
pub(crate) fn prefix(text: &str, address: IpAddr) -> Option<u8> {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if let Some(mask) = text.parse::<Ipv4Addr>().ok().filter(|_| address.is_ipv4()) {
        let mask = mask.to_bits();
        return u8::try_from(mask.leading_ones()).ok().filter(|ones| *ones > 0 && mask.count_ones() == mask.leading_ones());
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|length| digits && (1..=longest).contains(length))
}

/// The address of IPv4 with the bits of the host all set, or none of them.
pub(crate) fn of_all_hosts(address: Ipv4Addr, prefix: u8, set: bool) -> Ipv4Addr {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    Ipv4Addr::from_bits(if set { address.to_bits() | hosts } else { address.to_bits() & !hosts })
}

/// Why no host of a network with this prefix can have the address; `None` when one can.
pub(crate) fn unsuitable_in(address: IpAddr, prefix: u8) -> Option<&'static str> {
    let IpAddr::V4(v4) = address else { return None };
    // RFC 3021: a network of two has neither.
    if prefix > 30 {
        None
    } else if v4 == of_all_hosts(v4, prefix, true) {
        Some("is the broadcast address of its network")
    } else if v4 == of_all_hosts(v4, prefix, false) {
        Some("is the address of the network itself")
    } else {
        None
    }
}

/// The group whose members include whoever has the address (RFC 4291).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_no_interface_can_have_is_refused_by_its_kind() {
        for (address, word) in [
            ("0.0.0.0", "0.0.0.0/8"),
            ("0.1.2.3", "0.0.0.0/8"),
            ("127.0.0.1", "loopback"),
            ("127.9.9.9", "loopback"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "no address"),
            ("::1", "loopback"),
            ("ff02::1", "multicast"),
            ("::ffff:192.0.2.1", "a.b.c.d"),
        ] {
            assert!(unsuitable(ip(address)).is_some_and(|why| why.contains(word)), "{address}");
        }
        for address in ["192.0.2.1", "10.0.0.255", "169.254.1.1", "fe80::1", "2001:db8::1", "fd00::"] {
            assert_eq!(unsuitable(ip(address)), None, "{address}");
        }
    }

    #[test]
    fn prefixes_are_read_in_both_notations() {
        let (v4, v6) = (ip("192.0.2.1"), ip("2001:db8::1"));
        for (text, length) in [("24", 24), ("255.255.255.0", 24), ("255.255.255.255", 32), ("128.0.0.0", 1), ("1", 1), ("32", 32)] {
            assert_eq!(prefix(text, v4), Some(length), "{text}");
        }
        for text in ["", "0", "33", "255.0.255.0", "0.0.0.0", "+24", "24 ", "-1", "0x18", "255.255.255", "99999999999"] {
            assert_eq!(prefix(text, v4), None, "{text}");
        }
        assert_eq!(
            (prefix("64", v6), prefix("128", v6), prefix("129", v6), prefix("255.255.255.0", v6)),
            (Some(64), Some(128), None, None)
        );
    }

    #[test]
    fn networks_have_ends() {
        assert!(same_network(ip("192.0.2.1"), ip("192.0.2.200"), 24) && !same_network(ip("192.0.2.1"), ip("192.0.2.200"), 25));
        assert!(same_network(ip("2001:db8::1"), ip("2001:db8::ffff:1"), 64) && !same_network(ip("2001:db8::1"), ip("2001:db9::1"), 32));
        assert!(same_network(ip("1.1.1.1"), ip("9.9.9.9"), 0) && !same_network(ip("0.0.0.1"), ip("::1"), 0));
        assert_eq!(unsuitable_in(ip("192.0.2.255"), 24), Some("is the broadcast address of its network"));
        assert_eq!(unsuitable_in(ip("192.0.2.0"), 24), Some("is the address of the network itself"));
        for (address, prefix) in [("192.0.2.255", 23), ("192.0.2.255", 31), ("192.0.2.255", 32), ("2001:db8::", 64)] {
            assert_eq!(unsuitable_in(ip(address), prefix), None, "{address}/{prefix}");
        }
    }

    #[test]
    fn the_group_of_an_address_is_made_of_its_last_bytes() {
        assert_eq!(solicited_node("2001:db8::12:3456".parse().unwrap()), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
    }
}
