//! Attempts to connect that come while the address is on its way. The node that gives it up keeps them, and passes them on to whoever
//! announces that it has the address: what a router does for a neighbour whose hardware address it does not know yet.
//!
//! The invariant: it answers nobody and announces nothing, and passes on what was sent to this node alone, while this node did not have
//! the address, to whoever has said to all that he has it.

use std::io::Result;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use process::PacketSocket;

use crate::attempts::{Held, IPV4, announcements, attempt, filter};
use crate::kernel::Kernel;
use crate::packets::{ARP, Hardware, IPV6, owner_by_arp, owner_by_packet};
use crate::plan::Link;

/// How long attempts are kept at most. A failover that takes longer than this has no node that could keep them.
const LONGEST: Duration = Duration::from_secs(10);
/// How often they are taken over from the kernel.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// How long after the announcement they are still passed on: what was sent before it was heard there.
const AFTERWARDS: Duration = Duration::from_millis(20);
/// So many packets in one look, which is what the kernel keeps. Of more it drops what comes last.
const IN_ONE_LOOK: usize = 5000;

/// Attempts to connect to an address that goes, and who announces it.
#[derive(Debug)]
pub(crate) struct Forwarder {
    address: IpAddr,
    /// Of the interface that gives it up.
    index: u32,
    ours: Hardware,
    attempts: PacketSocket,
    announcements: PacketSocket,
}

impl Forwarder {
    /// From now on the kernel keeps what comes for the address on this interface. `None` when the interface has no neighbours.
    pub(crate) fn listen(address: IpAddr, link: &Link) -> Result<Option<Self>> {
        let Some(ours) = link.hardware else { return Ok(None) };
        let index = link.index;
        let this = Self { address, index, ours, attempts: PacketSocket::open(link.index)?, announcements: PacketSocket::open(link.index)? };
        let (packets, news) = if address.is_ipv4() { (IPV4, ARP) } else { (IPV6, IPV6) };
        this.attempts.listen_through(packets, &filter(address))?;
        this.announcements.listen_through(news, &announcements(address))?;
        Ok(Some(this))
    }

    /// Leaves out what has come until now, which this node has answered.
    pub(crate) fn leave_out(&self) {
        for _ in 0..IN_ONE_LOOK {
            if !matches!(self.attempts.receive(Instant::now()), Ok(Some(_))) {
                return;
            }
        }
    }

    /// Passes them on, in a process of its own that keeps nobody waiting.
    pub(crate) fn go_on(self) -> std::result::Result<(), String> {
        process::detach(
            |_| Ok(()),
            || {
                // An interface that is gone has nobody who waits.
                let _ = self.pass_on();
            },
        )
    }

    fn pass_on(&self) -> Result<()> {
        let end = Instant::now() + LONGEST;
        let mut held = Held::default();
        let owner = loop {
            let until = Instant::now() + BETWEEN_LOOKS;
            let owner = self.announced(until)?;
            self.take_over(&mut held, Instant::now())?;
            match owner {
                _ if self.is_here() || Instant::now() >= end => return Ok(()),
                None => {}
                Some(owner) => break owner,
            }
        };
        let until = Instant::now() + AFTERWARDS;
        loop {
            for attempt in held.take() {
                self.attempts.send(if self.address.is_ipv4() { IPV4 } else { IPV6 }, owner, &attempt.packet)?;
            }
            if Instant::now() >= until || self.is_here() {
                return Ok(());
            }
            self.take_over(&mut held, until)?;
        }
    }

    /// Who announces the address before `until`.
    fn announced(&self, until: Instant) -> Result<Option<Hardware>> {
        while let Some(packet) = self.announcements.receive(until)? {
            let owner = match self.address {
                IpAddr::V4(v4) => owner_by_arp(&packet, v4, self.ours),
                IpAddr::V6(v6) => owner_by_packet(&packet, v6, self.ours),
            };
            // A hardware address of a group, or none: nobody's.
            if owner.is_some_and(|owner| owner != [0; 6] && owner[0] & 1 == 0) {
                return Ok(owner);
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(None)
    }

    /// Takes over what the kernel has kept, and waits until then for something when it has nothing.
    fn take_over(&self, held: &mut Held, until: Instant) -> Result<()> {
        for n in 0..IN_ONE_LOOK {
            let limit = if n == 0 { until } else { Instant::now() };
            let Some(packet) = self.attempts.receive(limit)? else { break };
            if let Some(attempt) = attempt(&packet, self.address) {
                held.keep(attempt);
            }
        }
        Ok(())
    }

    /// Whether the interface has the address again. One that cannot be asked passes nothing on.
    fn is_here(&self) -> bool {
        let addresses = Kernel::open().and_then(|mut kernel| kernel.addresses(self.address));
        addresses.map_or(true, |addresses| addresses.iter().any(|found| found.address == self.address && found.index == self.index))
    }
}
