//! `ocf:systole:address`: an IP address that is on exactly one node, in the place of `ocf:heartbeat:IPaddr2`.

mod agent;
mod attempts;
mod connections;
mod forward;
mod kernel;
mod neighbours;
mod netlink;
mod packets;
mod params;
mod plan;
#[cfg(test)]
mod plan_tests;
mod suitable;

pub use agent::Address;

/// The agent with everything it implements.
pub fn agent() -> ocf::Agent<Address> {
    ocf::Agent::new().reloadable()
}

/// The parsers, for the fuzz targets.
pub mod parsers {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// Reads what a neighbour has sent: by ARP, as a message of ICMPv6, and to connect.
    pub fn neighbours(packet: &[u8]) {
        let _ = crate::packets::owner_by_arp(packet, Ipv4Addr::new(192, 0, 2, 10), [0; 6]);
        let _ = crate::packets::owner_by_advertisement(packet, Ipv6Addr::UNSPECIFIED, [0; 6]);
        let _ = crate::packets::owner_by_packet(packet, Ipv6Addr::UNSPECIFIED, [0; 6]);
        let addresses = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let _ = addresses.map(|address| crate::attempts::attempt(packet, address));
    }

    /// Reads the parameters of a resource: a name and a value in turn.
    pub fn parameters(text: &str) {
        let lines: Vec<&str> = text.split('\n').collect();
        let pairs = lines.chunks_exact(2).map(|pair| (format!("OCF_RESKEY_{}", pair[0]), pair[1].to_owned()));
        if let Ok(values) = ocf::Values::read(crate::params::ALL, &ocf::Environment::from_pairs(pairs)) {
            let _ = crate::params::Params::new(&values, None);
        }
    }
}
