//! The connections of TCP that somebody has open to an address, and their end: each side is told at once (RFC 793, RST).

use std::io::Result;
use std::net::IpAddr;

use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags, Timer};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, IPPROTO_TCP, SockDiagDestroy, SockDiagMessage};
use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::netlink::Netlink;

/// Ends the connections whose end on this node is the address, as long as `goes_on` says so; `interface`: of an address that means something
/// together with an interface only, those on this one. Returns how many there were.
///
/// # Errors
/// What the kernel says; one that cannot do it (no `CONFIG_INET_DIAG_DESTROY`) says `EOPNOTSUPP`.
pub(crate) fn end(address: IpAddr, interface: Option<u32>, goes_on: impl Fn() -> bool) -> Result<usize> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkSockDiag)?;
    let mut ended = 0;
    // A server that listens on :: has its connections from IPv4 among those of IPv6.
    let families: &[u8] = if address.is_ipv4() { &[AF_INET, AF_INET6] } else { &[AF_INET6] };
    for family in families {
        for id in open(&mut netlink, *family)? {
            if id.source_address.to_canonical() != address || interface.is_some_and(|index| id.interface_id != index) {
                continue;
            }
            if !goes_on() {
                return Ok(ended);
            }
            let request = SockDiagDestroy::new(SockDiagMessage::InetRequest(question(*family, id)));
            match netlink.change(request, 0) {
                Ok(()) => ended += 1,
                // It has ended meanwhile.
                Err(why) if why.raw_os_error() == Some(libc::ENOENT) => {}
                Err(why) => return Err(why),
            }
        }
    }
    Ok(ended)
}

/// The connections of a family that are not over.
fn open(netlink: &mut Netlink, family: u8) -> Result<Vec<SocketId>> {
    let any = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    let told = netlink.list(SockDiagMessage::InetRequest(question(family, any)))?;
    Ok(told
        .into_iter()
        .filter_map(|message| match message {
            // A kernel before 6.0 lists what waits for the other side's end, and cannot end it.
            SockDiagMessage::InetResponse(found) if found.header.timer != Some(Timer::TimeWait) => Some(found.header.socket_id),
            _ => None,
        })
        .collect())
}

fn question(family: u8, socket_id: SocketId) -> InetRequest {
    // The server goes on listening, and what is over needs no end.
    let states = StateFlags::all() - StateFlags::LISTEN - StateFlags::CLOSE - StateFlags::TIME_WAIT;
    InetRequest { family, protocol: IPPROTO_TCP, extensions: ExtensionFlags::empty(), states, socket_id }
}
