//! Telling the neighbours on the link who has the address, and asking them. What the packets hold is in `packets`.

use std::collections::BTreeSet;
use std::io::Result;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use process::PacketSocket;

use crate::attempts::announcements;
use crate::kernel::Kernel;
use crate::packets::{ARP, Hardware, IPV6, Packet, owner_by_arp, owner_by_packet, question};
use crate::plan::Link;

/// How long the network is asked for another owner.
const ASKED_FOR: Duration = Duration::from_millis(200);
/// How often, in that time.
const QUESTIONS: u32 = 3;
/// When the address is announced once more after a start. A switch that has just brought a port up, or a neighbour that was busy, has
/// missed what came before.
const ONCE_MORE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Whoever announces an address on a link.
#[derive(Debug)]
pub(crate) struct Announcer {
    socket: PacketSocket,
    packets: Vec<Packet>,
}

impl Announcer {
    pub(crate) fn new(link: &Link, packets: Vec<Packet>) -> Result<Self> {
        Ok(Self { socket: PacketSocket::open(link.index)?, packets })
    }

    /// Announces the address now.
    pub(crate) fn announce(&self) -> Result<()> {
        self.packets.iter().try_for_each(|packet| self.socket.send(packet.protocol, packet.to, &packet.content))
    }

    /// Announces the address again and again, as long as it is on this interface and that has this hardware address, in a process of its own
    /// that keeps nobody waiting: not Pacemaker, which reads what an agent prints until it is closed, and not the start, for which closing the
    /// socket takes too long.
    pub(crate) fn go_on(
        self,
        address: IpAddr,
        index: u32,
        hardware: Hardware,
        times: &BTreeSet<Duration>,
    ) -> std::result::Result<(), String> {
        let begin = Instant::now();
        process::detach(
            |_| Ok(()),
            || {
                for time in times {
                    std::thread::sleep((begin + *time).saturating_duration_since(Instant::now()));
                    // Another node may have it by now, or the interface (a bond) another hardware address, which the kernel announces.
                    if !is_as_announced(address, index, hardware).unwrap_or(false) {
                        return;
                    }
                    // An interface that is down for a moment loses this one, and not the next.
                    let _ = self.announce();
                }
            },
        )
    }
}

/// Whether an address is on the interface with this hardware address.
fn is_as_announced(address: IpAddr, index: u32, hardware: Hardware) -> Result<bool> {
    let mut kernel = Kernel::open()?;
    let same = kernel.link(index)?.is_some_and(|link| link.hardware == Some(hardware));
    Ok(same && kernel.addresses(address)?.iter().any(|assigned| assigned.address == address && assigned.index == index))
}

/// When an address is announced again, after it was announced for the first time.
pub(crate) fn times(announcements: u32, interval: Duration) -> BTreeSet<Duration> {
    (1..announcements).map(|n| interval * n).chain(ONCE_MORE).collect()
}

/// Asks whether another host has the address. Its hardware address; `None` when nobody answers.
pub(crate) fn another_owner(address: IpAddr, link: &Link, ours: Hardware) -> Result<Option<Hardware>> {
    let packets = PacketSocket::open(link.index)?;
    let asked = question(address, ours);
    packets.listen_through(if address.is_ipv4() { ARP } else { IPV6 }, &announcements(address))?;
    let begin = Instant::now();
    for n in 1..=QUESTIONS {
        packets.send(asked.protocol, asked.to, &asked.content)?;
        let until = begin + ASKED_FOR * n / QUESTIONS;
        while Instant::now() < until {
            let owner = packets.receive(until)?.and_then(|packet| match address {
                IpAddr::V4(v4) => owner_by_arp(&packet, v4, ours),
                // Whole, so that what a router has passed on is not believed: anybody in the world can send that.
                IpAddr::V6(v6) => owner_by_packet(&packet, v6, ours),
            });
            if owner.is_some() {
                return Ok(owner);
            }
        }
    }
    Ok(None)
}

/// Whether this node passes on packets of others that come in there: an advertisement says so, and hosts forget a router that does not.
pub(crate) fn routes(link: &Link) -> bool {
    setting(Ipv6Addr::UNSPECIFIED.into(), &link.name, "forwarding")
}

/// Whether the addresses that come after another one in its network stay when that one is removed.
pub(crate) fn promotes(interface: &str) -> bool {
    ["all", interface].iter().any(|name| setting(std::net::Ipv4Addr::UNSPECIFIED.into(), name, "promote_secondaries"))
}

/// A setting of the kernel's for an interface, of the family of this address.
fn setting(like: IpAddr, interface: &str, name: &str) -> bool {
    let family = if like.is_ipv4() { "ipv4" } else { "ipv6" };
    let path = format!("/proc/sys/net/{family}/conf/{interface}/{name}");
    process::own::text(path.as_ref()).is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcements_come_at_their_interval_and_then_twice_more() {
        let millis = |announcements, interval| -> Vec<u128> {
            times(announcements, Duration::from_millis(interval)).iter().map(Duration::as_millis).collect()
        };
        assert_eq!(millis(5, 200), [200, 400, 600, 800, 1000, 5000]);
        assert_eq!(millis(1, 200), [1000, 5000]);
        assert_eq!(millis(3, 4000), [1000, 4000, 5000, 8000]);
    }
}
