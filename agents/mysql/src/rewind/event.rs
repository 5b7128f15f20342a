//! The events of a binary log: kinds, header, checksum, what is compressed in them. Pure.

use std::io::Read as _;

use super::bytes::Bytes;
use super::refusal::Refusal;

/// The kinds of events that are known here, by their numbers in the log.
pub(super) mod kind {
    pub(in super::super) const QUERY: u8 = 2;
    pub(in super::super) const STOP: u8 = 3;
    pub(in super::super) const ROTATE: u8 = 4;
    pub(in super::super) const INTVAR: u8 = 5;
    pub(in super::super) const LOAD: u8 = 6;
    pub(in super::super) const CREATE_FILE: u8 = 8;
    pub(in super::super) const NEW_LOAD: u8 = 12;
    pub(in super::super) const RAND: u8 = 13;
    pub(in super::super) const USER_VAR: u8 = 14;
    pub(in super::super) const FORMAT: u8 = 15;
    pub(in super::super) const XID: u8 = 16;
    pub(in super::super) const BEGIN_LOAD_QUERY: u8 = 17;
    pub(in super::super) const EXECUTE_LOAD_QUERY: u8 = 18;
    pub(in super::super) const TABLE_MAP: u8 = 19;
    pub(in super::super) const WRITE_ROWS_1: u8 = 23;
    pub(in super::super) const UPDATE_ROWS_1: u8 = 24;
    pub(in super::super) const DELETE_ROWS_1: u8 = 25;
    pub(in super::super) const INCIDENT: u8 = 26;
    pub(in super::super) const IGNORABLE: u8 = 28;
    pub(in super::super) const ROWS_QUERY: u8 = 29;
    pub(in super::super) const WRITE_ROWS: u8 = 30;
    pub(in super::super) const UPDATE_ROWS: u8 = 31;
    pub(in super::super) const DELETE_ROWS: u8 = 32;
    pub(in super::super) const GTID: u8 = 33;
    pub(in super::super) const ANONYMOUS_GTID: u8 = 34;
    pub(in super::super) const PREVIOUS_GTIDS: u8 = 35;
    pub(in super::super) const XA_PREPARE: u8 = 38;
    pub(in super::super) const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub(in super::super) const TRANSACTION_PAYLOAD: u8 = 40;
    pub(in super::super) const TAGGED_GTID: u8 = 42;
    // From here on MariaDB's.
    pub(in super::super) const ANNOTATE_ROWS: u8 = 160;
    pub(in super::super) const BINLOG_CHECKPOINT: u8 = 161;
    pub(in super::super) const MARIADB_GTID: u8 = 162;
    pub(in super::super) const GTID_LIST: u8 = 163;
    pub(in super::super) const START_ENCRYPTION: u8 = 164;
    pub(in super::super) const QUERY_COMPRESSED: u8 = 165;
    pub(in super::super) const WRITE_ROWS_COMPRESSED_1: u8 = 166;
    pub(in super::super) const UPDATE_ROWS_COMPRESSED_1: u8 = 167;
    pub(in super::super) const DELETE_ROWS_COMPRESSED_1: u8 = 168;
    pub(in super::super) const WRITE_ROWS_COMPRESSED: u8 = 169;
    pub(in super::super) const UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub(in super::super) const DELETE_ROWS_COMPRESSED: u8 = 171;
}

/// The header: timestamp 4, kind 1, server 4, length 4, end 4, flags 2.
pub(super) const HEADER: usize = 19;
/// Of the event that describes the format: the server did not close the file. The checksum is made without it.
const IN_USE: u8 = 1;
/// Bytes of a checksum.
const CHECKSUM: usize = 4;

/// The header of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) server: u32,
    /// Of the whole event.
    pub(super) length: usize,
}

impl Header {
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        bytes.take(4)?;
        let (kind, server, length) = (bytes.byte()?, u32::try_from(bytes.number(4)?).ok()?, bytes.length(4)?);
        (length >= HEADER).then_some(Self { kind, server, length })
    }
}

/// What the first event of a file says of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The event as it stands in the file, but that the file is closed.
    event: Vec<u8>,
    checksums: bool,
}

impl Format {
    /// From the event that describes it.
    pub(super) fn of(mut event: Vec<u8>) -> Option<Self> {
        // Version of the format 2, of the server 50, time 4, length of a header 1.
        let mut body = Bytes(event.get(HEADER..)?);
        let version = body.number(2)?;
        body.take(54)?;
        let header = usize::from(body.byte()?);
        let algorithm = *event.get(event.len().checked_sub(CHECKSUM + 1)?)?;
        if version != 4 || header != HEADER || algorithm > 1 || event.len() < HEADER + 57 + 32 {
            return None;
        }
        *event.get_mut(17)? &= !IN_USE;
        let format = Self { event, checksums: algorithm == 1 };
        format.body(&format.event)?;
        Some(format)
    }

    /// Whether the file was begun when a server started, and not because the one before it was full.
    pub(super) fn begins_a_process(&self) -> bool {
        self.event.get(HEADER + 52..HEADER + 56).is_some_and(|time| time != [0; 4])
    }

    /// The event, as a server takes it.
    pub(super) fn event(&self) -> &[u8] {
        &self.event
    }

    /// What is between header and checksum, if that is right.
    pub(super) fn body<'a>(&self, event: &'a [u8]) -> Option<&'a [u8]> {
        if !self.checksums {
            return event.get(HEADER..);
        }
        let end = event.len().checked_sub(CHECKSUM)?;
        let said = u32::from_le_bytes(event.get(end..)?.try_into().ok()?);
        if crc32fast::hash(&event[..end]) != said {
            return None;
        }
        event.get(HEADER..end)
    }

    /// The same for an event of which no more is known than its first bytes.
    pub(super) fn has_checksums(&self) -> bool {
        self.checksums
    }

    /// An event in this format.
    pub(super) fn make(&self, kind: u8, server: u32, body: &[u8]) -> Vec<u8> {
        let length = HEADER + body.len() + if self.checksums { CHECKSUM } else { 0 };
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let mut event = [&[0; 4][..], &[kind], &server.to_le_bytes(), &length, &[0; 4], &[0; 2], body].concat();
        if self.checksums {
            event.extend(crc32fast::hash(&event).to_le_bytes());
        }
        event
    }
}

/// An event, without header and checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: u8,
    pub(super) server: u32,
    pub(super) body: Vec<u8>,
}

/// Something is not as it has to be in a log.
pub(super) type Wrong = String;

/// The events in what MySQL compressed as a whole. They have no checksums. `most`: bytes of all of them.
pub(super) fn unpack(body: &[u8], most: usize) -> Result<Vec<Event>, Wrong> {
    let wrong = || "a compressed transaction is cut off".to_owned();
    let plain = {
        let (mut bytes, mut is_zstd) = (Bytes(body), true);
        loop {
            match bytes.packed().ok_or_else(wrong)? {
                0 => break,
                field => {
                    let length = bytes.packed().ok_or_else(wrong)?;
                    let mut value = Bytes(bytes.take(length).ok_or_else(wrong)?);
                    match (field, value.packed()) {
                        (2, Some(0)) => is_zstd = true,
                        (2, _) if value.0.is_empty() || length > 0 => is_zstd = false,
                        _ => {}
                    }
                }
            }
        }
        if is_zstd { decompress(bytes.0, most)? } else { bytes.0.to_vec() }
    };
    let (mut bytes, mut events) = (Bytes(&plain), Vec::new());
    while !bytes.is_empty() {
        let header = bytes.0.first_chunk().and_then(Header::parse).ok_or_else(wrong)?;
        let event = bytes.take(header.length).ok_or_else(wrong)?;
        events.push(Event { kind: header.kind, server: header.server, body: event[HEADER..].to_vec() });
    }
    Ok(events)
}

fn decompress(bytes: &[u8], most: usize) -> Result<Vec<u8>, Wrong> {
    let mut rest = bytes;
    let mut plain = Vec::new();
    // One frame after the other: the server ends one whenever it has to flush.
    while !rest.is_empty() {
        let decoder = ruzstd::StreamingDecoder::new(&mut rest).map_err(|e| format!("a compressed transaction: {e}"))?;
        let room = (most - plain.len()) as u64 + 1;
        decoder.take(room).read_to_end(&mut plain).map_err(|e| format!("a compressed transaction: {e}"))?;
        if plain.len() > most {
            return Err("a compressed transaction is too long".into());
        }
    }
    Ok(plain)
}

/// What MariaDB compressed: a byte that says how many bytes say the length, these, the highest first, and what zlib made.
pub(super) fn inflate(bytes: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut bytes = Bytes(bytes);
    let head = bytes.byte()?;
    if head & 0xf0 != 0x80 {
        return None;
    }
    let length = bytes.take(usize::from(head & 7))?.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
    if length > most {
        return None;
    }
    let mut plain = Vec::new();
    flate2::read::ZlibDecoder::new(bytes.0).take(length as u64 + 1).read_to_end(&mut plain).ok()?;
    (plain.len() == length).then_some(plain)
}

/// Which kind an event of MariaDB's has when nothing in it is compressed.
pub(super) fn plain_kind(compressed: u8) -> Option<u8> {
    use kind::*;
    Some(match compressed {
        WRITE_ROWS_COMPRESSED_1 => WRITE_ROWS_1,
        UPDATE_ROWS_COMPRESSED_1 => UPDATE_ROWS_1,
        DELETE_ROWS_COMPRESSED_1 => DELETE_ROWS_1,
        WRITE_ROWS_COMPRESSED => WRITE_ROWS,
        UPDATE_ROWS_COMPRESSED => UPDATE_ROWS,
        DELETE_ROWS_COMPRESSED => DELETE_ROWS,
        _ => return None,
    })
}

/// The statement of a `QUERY` event: session 4, duration 4, length of the schema 1, error 2, length of the variables 2, variables, schema.
pub(super) fn statement(event: &Event) -> Option<Vec<u8>> {
    let mut body = Bytes(&event.body);
    body.take(8)?;
    let schema = usize::from(body.byte()?);
    body.take(2)?;
    let variables = body.length(2)?;
    body.take(variables + schema + 1)?;
    if event.kind == kind::QUERY_COMPRESSED { inflate(body.0, LONGEST_STATEMENT) } else { Some(body.0.to_vec()) }
}

/// What a statement may have, to be looked at. Bytes.
const LONGEST_STATEMENT: usize = 64 << 20;

/// A refusal for what is not as it should be in a file.
pub(super) fn damaged(file: &str, what: impl Into<String>) -> Refusal {
    Refusal::Damaged(file.to_owned(), what.into())
}
