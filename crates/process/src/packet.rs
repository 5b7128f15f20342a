//! Packets for the neighbours on a link, of a protocol that no socket of the usual kind speaks: ARP, and IPv6 from an address that is not
//! there yet.

use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::libc::{AF_PACKET, ARPHRD_ETHER, SO_ATTACH_FILTER, SOL_SOCKET, setsockopt, sock_filter, sock_fprog, sockaddr_ll};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, bind, recv, sendto, socket, sockopt};

/// What the kernel keeps of packets that have passed a filter, in bytes and with its own of each.
const KEPT: usize = 4 << 20;

/// A socket for packets on one interface of Ethernet. The kernel writes the head of the link layer.
///
/// To close it takes 6 to 15 ms: the kernel waits until nobody can be in the middle of a packet for it.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    interface: i32,
}

impl PacketSocket {
    /// One on the interface with this number. It hears nothing before [`PacketSocket::listen`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(interface: u32) -> Result<Self> {
        let interface = i32::try_from(interface).map_err(Error::other)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Self { socket: socket(AddressFamily::Packet, SockType::Datagram, flags, None)?, interface })
    }

    /// Sends what such a packet holds, of the protocol with this number of Ethernet's, to a hardware address.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send(&self, protocol: u16, to: [u8; 6], content: &[u8]) -> Result<()> {
        let sent = sendto(self.socket.as_raw_fd(), content, &self.address(protocol, to)?, MsgFlags::empty())?;
        if sent == content.len() { Ok(()) } else { Err(Error::other("the packet was not sent as a whole")) }
    }

    /// From now on packets of this protocol are heard.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen(&self, protocol: u16) -> Result<()> {
        Ok(bind(self.socket.as_raw_fd(), &self.address(protocol, [0; 6])?)?)
    }

    /// The same, of packets that pass a filter: a program of classic BPF, which the kernel checks. It sees a packet without the head of
    /// the link layer, and answers how much of it is kept. The kernel keeps some thousands of short ones until they are received.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen_through(&self, protocol: u16, filter: &[sock_filter]) -> Result<()> {
        let program = sock_fprog { len: u16::try_from(filter.len()).map_err(Error::other)?, filter: filter.as_ptr().cast_mut() };
        let length = u32::try_from(size_of::<sock_fprog>()).map_err(Error::other)?;
        // SAFETY: both pointers are to whole values that outlive the call, with their own lengths. The kernel copies them and writes to
        // neither.
        #[allow(unsafe_code, reason = "nix has no filters of sockets")]
        let answer = unsafe { setsockopt(self.socket.as_raw_fd(), SOL_SOCKET, SO_ATTACH_FILTER, (&raw const program).cast(), length) };
        Errno::result(answer)?;
        // Without the right to it the usual size has to do.
        let _ = nix::sys::socket::setsockopt(&self.socket, sockopt::RcvBufForce, &KEPT);
        // Only now, so that nothing is heard that has not passed.
        self.listen(protocol)
    }

    /// What the next packet that comes before `until` holds. `None` when none comes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn receive(&self, until: Instant) -> Result<Option<Vec<u8>>> {
        receive_before(&self.socket, until)
    }

    fn address(&self, protocol: u16, hardware: [u8; 6]) -> Result<LinkAddr> {
        let mut place = [0; 8];
        place[..6].copy_from_slice(&hardware);
        let address = sockaddr_ll {
            sll_family: AF_PACKET as u16,
            sll_protocol: protocol.to_be(),
            sll_ifindex: self.interface,
            sll_hatype: ARPHRD_ETHER,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: place,
        };
        let length = u32::try_from(size_of::<sockaddr_ll>()).map_err(Error::other)?;
        // SAFETY: it points to a whole address of this family, which outlives the call, and the length is its own. It is copied.
        #[allow(unsafe_code, reason = "nix makes no such address otherwise")]
        let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
        address.ok_or_else(|| Error::other("no address of the link layer"))
    }
}

/// What the next packet of a socket that does not block holds, if one comes before `until`. Of a long one no more than 2 kB.
fn receive_before(socket: &OwnedFd, until: Instant) -> Result<Option<Vec<u8>>> {
    let mut content = vec![0; 2048];
    loop {
        match recv(socket.as_raw_fd(), &mut content, MsgFlags::empty()) {
            Ok(length) => {
                content.truncate(length);
                return Ok(Some(content));
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(why) => return Err(why.into()),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        // A millisecond more: what is left of one would be none.
        let limit = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
}
