//! A conversation with the kernel over netlink: a request, and its answers. What is said is in `kernel` and `connections`.

use std::fmt::Debug;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

/// Longer than the kernel ever takes for an answer. Seconds.
const PATIENCE: i64 = 5;
/// What the kernel puts into one datagram at most (`NLMSG_GOODSIZE` and what it grows to with a large buffer).
const LONGEST: usize = 64 * 1024;
/// How often a list is asked for again that was changed by somebody while it was told.
const ATTEMPTS: usize = 5;
/// The list has changed while it was told (`NLM_F_DUMP_INTR`).
const INTERRUPTED: u16 = 0x10;

/// A socket of netlink.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// One for this part of the kernel.
    pub(crate) fn open(part: SockProtocol) -> Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, part)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
        Ok(Self { socket, buffer: vec![0; LONGEST], sequence: 0 })
    }

    /// Has something done.
    pub(crate) fn change<M>(&mut self, message: M, flags: u16) -> Result<()>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<M>> + Debug,
    {
        self.exchange(message, NLM_F_ACK | flags).map(drop)
    }

    /// Asks for one thing.
    pub(crate) fn get<M>(&mut self, message: M) -> Result<Option<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<M>> + Debug,
    {
        self.exchange(message, NLM_F_ACK).map(|answers| answers.into_iter().next())
    }

    /// Asks for all of a kind.
    pub(crate) fn list<M>(&mut self, message: M) -> Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<M>> + Debug + Clone,
    {
        for _ in 1..ATTEMPTS {
            match self.exchange(message.clone(), NLM_F_DUMP) {
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                told => return told,
            }
        }
        self.exchange(message, NLM_F_DUMP)
    }

    fn exchange<M>(&mut self, message: M, flags: u16) -> Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<M>> + Debug,
    {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, message.into());
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        sendto(self.socket.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut found = Vec::new();
        let mut changed = false;
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) if length <= self.buffer.len() => length,
                Ok(length) => return Err(Error::other(format!("an answer of {length} bytes from the kernel"))),
                Err(Errno::EINTR) => continue,
                Err(why) => return Err(why.into()),
            };
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while let Some(size) = size_of_first(rest) {
                let (first, others) = rest.split_at(size);
                rest = others.get(padding(size)..).unwrap_or_default();
                let read = NetlinkMessage::<M>::deserialize(first);
                let part = match read.or_else(|why| legible(first).map_or(Err(why), |first| NetlinkMessage::<M>::deserialize(&first))) {
                    Ok(part) => part,
                    // What is not an address on any interface is not removed from it.
                    Err(why) if kind(first) == Some(NEW_ADDRESS) => {
                        return Err(Error::other(format!("an address that cannot be read: {why}")));
                    }
                    // One of a kind that the library does not know is none of what is looked for. The end of a list always is.
                    Err(_) => continue,
                };
                if part.header.sequence_number != self.sequence {
                    continue;
                }
                changed |= part.header.flags & INTERRUPTED != 0;
                match part.payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Error(answer) => match answer.code {
                        None => return Ok(found),
                        Some(_) => return Err(answer.to_io()),
                    },
                    // With a list that could not be told, an error number is inside.
                    NetlinkPayload::Done(end) if end.code < 0 => return Err(Error::from_raw_os_error(-end.code)),
                    NetlinkPayload::Done(_) if changed => return Err(Error::from(ErrorKind::Interrupted)),
                    NetlinkPayload::Done(_) => return Ok(found),
                    _ => {}
                }
            }
        }
    }
}

/// How long the first message is by its own word, as far as it is all there.
fn size_of_first(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk().map(|length| u32::from_ne_bytes(*length))?;
    usize::try_from(length).ok().filter(|length| (16..=bytes.len()).contains(length))
}

/// Messages of interfaces and of addresses (RTM_NEWLINK, RTM_NEWADDR).
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
/// A kind of attribute that there is not.
const NO_ATTRIBUTE: u16 = 0x3fff;

/// What a message is of.
fn kind(message: &[u8]) -> Option<u16> {
    message.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)
}

/// The message without the texts that are not UTF-8: the name of an interface, the one for people, the label of an address. To the kernel they
/// are bytes, and the library reads nothing of a message with one that it cannot read. `None` when there is none.
fn legible(message: &[u8]) -> Option<Vec<u8>> {
    // Where the attributes begin, and which of them are texts (IFLA_IFNAME, IFLA_IFALIAS; IFA_LABEL).
    let (mut at, texts): (usize, &[u16]) = match kind(message)? {
        NEW_LINK => (32, &[3, 20]),
        NEW_ADDRESS => (24, &[3]),
        _ => return None,
    };
    let mut copy = None;
    while let Some(head) = message.get(at..at + 4) {
        let [a, b, c, d] = *head else { break };
        let (length, attribute) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        let Some(text) = message.get(at + 4..at + length) else { break };
        if texts.contains(&attribute) && std::str::from_utf8(text).is_err() {
            let copy = copy.get_or_insert_with(|| message.to_vec());
            if let Some(place) = copy.get_mut(at + 2..at + 4) {
                place.copy_from_slice(&NO_ATTRIBUTE.to_ne_bytes());
            }
        }
        at += length.next_multiple_of(4);
    }
    copy
}

/// What stands between a message and the next one.
fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_not_utf_8_is_left_out_and_nothing_else() {
        let attribute = |kind: u16, text: &[u8]| {
            let mut bytes = u16::try_from(text.len() + 4).unwrap().to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(text);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let message = |kind: u16, head: usize, attributes: &[Vec<u8>]| {
            let mut bytes = vec![0; head];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes.extend(attributes.concat());
            bytes
        };
        let odd = b"B\xfcro\0";
        let with = |kind: u16| message(NEW_LINK, 32, &[attribute(3, b"eth0\0"), attribute(kind, odd), attribute(5, odd)]);
        assert_eq!(legible(&with(20)), Some(with(NO_ATTRIBUTE)));
        assert_eq!(legible(&message(NEW_LINK, 32, &[attribute(20, b"office\0")])), None);
        assert_eq!(
            legible(&message(NEW_ADDRESS, 24, &[attribute(3, odd)])),
            Some(message(NEW_ADDRESS, 24, &[attribute(NO_ATTRIBUTE, odd)]))
        );
        assert_eq!(legible(&message(24, 24, &[attribute(3, odd)])), None, "a route");
        for length in 0..40 {
            let cut = message(NEW_LINK, 32, &[attribute(20, odd)]);
            let _ = legible(&cut[..length]);
        }
        let mut endless = message(NEW_LINK, 32, &[attribute(20, odd)]);
        endless[32..34].copy_from_slice(&[0, 0]);
        assert_eq!(legible(&endless), None);
    }

    #[test]
    fn a_message_that_says_a_wrong_length_ends_what_is_read() {
        assert_eq!(size_of_first(&[]), None);
        assert_eq!(size_of_first(&[0; 15]), None);
        for (says, found) in [(0_u32, None), (15, None), (16, Some(16)), (20, Some(20)), (21, None), (u32::MAX, None)] {
            let mut bytes = [0; 20];
            bytes[..4].copy_from_slice(&says.to_ne_bytes());
            assert_eq!(size_of_first(&bytes), found, "{says}");
        }
        assert_eq!([padding(16), padding(17), padding(19)], [0, 3, 1]);
    }
}
