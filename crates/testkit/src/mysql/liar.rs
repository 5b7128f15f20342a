//! Somebody in the server's place, who passes on what is asked and what is answered, and lies: a server that was broken into.

use std::io::{Error, Read, Result, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::mysql::Node;

/// What is answered instead of the truth.
#[derive(Clone, Debug, Default)]
pub enum Lie {
    /// None.
    #[default]
    Truth,
    /// This value in the column of this name, or of the variable of this name.
    Value(String, Vec<u8>),
    /// Statements that begin so are refused, with this text.
    Refusal(&'static str, Vec<u8>),
    /// The answer to statements that begin so has no end: rows of a megabyte, up to this many.
    Flood(&'static str, usize),
}

/// Somebody who lies for a node's server, until this is let go.
#[derive(Debug)]
pub struct Liar {
    socket: PathBuf,
    aside: PathBuf,
    lie: Arc<Mutex<Lie>>,
}

impl Liar {
    /// In the place of a server that runs. It begins with the truth.
    ///
    /// # Panics
    /// When there is no socket.
    pub fn over(node: &Node) -> Self {
        let socket = node.socket();
        let aside = socket.with_extension("aside");
        std::fs::rename(&socket, &aside).expect("the server listens");
        let listener = UnixListener::bind(&socket).expect("nobody listens there");
        node.give(&socket);
        let lie = Arc::new(Mutex::new(Lie::Truth));
        let liar = Self { socket, aside: aside.clone(), lie: Arc::clone(&lie) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&aside)) else { break };
                let lie = Arc::clone(&lie);
                std::thread::spawn(move || pass_on(client, server, &lie));
            }
        });
        liar
    }

    /// What is answered from now on.
    ///
    /// # Panics
    /// When a connection has ended in a panic.
    pub fn tell(&self, lie: Lie) {
        *self.lie.lock().expect("nobody panics with it") = lie;
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        let _ = std::fs::rename(&self.aside, &self.socket);
    }
}

/// Capabilities that the server is not said to have: with them its answers have another form. TLS and compression; and of the upper half
/// the end of rows without a packet of its own, columns left out, another compression, attributes of statements.
const NOT_SAID: (u16, u16) = (0x0800 | 0x0020, 0x0100 | 0x0200 | 0x0400 | 0x0800);
const MOST_OF_A_PACKET: usize = 0x00ff_ffff;

fn pass_on(mut client: UnixStream, mut server: UnixStream, lie: &Mutex<Lie>) -> Result<()> {
    let (number, mut greeting) = receive(&mut server)?;
    // Protocol, version, number of the session, beginning of the challenge, a zero.
    let at = greeting.iter().position(|byte| *byte == 0).ok_or_else(|| Error::other("no version"))? + 1 + 4 + 8 + 1;
    for (at, taken) in [(at, NOT_SAID.0), (at + 5, NOT_SAID.1)] {
        let said = u16::from_le_bytes([greeting[at], greeting[at + 1]]) & !taken;
        greeting[at..at + 2].copy_from_slice(&said.to_le_bytes());
    }
    send(&mut client, number, &greeting)?;
    loop {
        let (number, answer) = receive(&mut client)?;
        send(&mut server, number, &answer)?;
        let (number, mut more) = receive(&mut server)?;
        send(&mut client, number, &more)?;
        if more == [1, 3] {
            // The password was right, and that is told next.
            let (number, told) = receive(&mut server)?;
            send(&mut client, number, &told)?;
            more = told;
        }
        match more.first() {
            Some(0) => break,
            Some(0xff) | None => return Ok(()),
            Some(_) => {}
        }
    }
    loop {
        let (number, command) = receive(&mut client)?;
        send(&mut server, number, &command)?;
        if command.first() == Some(&1) {
            return Ok(());
        }
        let (number, first) = receive(&mut server)?;
        let lie = lie.lock().expect("nobody panics with it").clone();
        let statement = String::from_utf8_lossy(&command[1..]).into_owned();
        let refused = matches!(lie, Lie::Refusal(begin, _) if statement.starts_with(begin));
        if command.first() != Some(&3) || matches!(first.first(), Some(0 | 0xff | 0xfb) | None) {
            send(&mut client, number, &if refused { refusal(&lie) } else { first })?;
            continue;
        }
        let columns = until_end(&mut server)?;
        let mut rows = until_end(&mut server)?;
        if refused {
            send(&mut client, 1, &refusal(&lie))?;
            continue;
        }
        let mut flood = 0;
        match &lie {
            Lie::Value(name, value) => {
                let names: Vec<String> = columns.iter().map(|column| name_of(column)).collect();
                rows.iter_mut().for_each(|row| *row = with(&names, values(row), name, value));
            }
            Lie::Flood(begin, rows) if statement.starts_with(begin) => flood = *rows,
            _ => {}
        }
        let long: Vec<u8> = columns.iter().flat_map(|_| text(Some(&vec![b'x'; (1 << 20) / columns.len()]))).collect();
        let end = vec![0xfe, 0, 0, 2, 0];
        let answer = std::iter::once(&first).chain(&columns).chain([&end]);
        let answer = answer.chain(std::iter::repeat_n(&long, flood)).chain(&rows).chain([&end]);
        for (number, packet) in (1..).zip(answer) {
            send(&mut client, (number % 256) as u8, packet)?;
        }
    }
}

/// The packets up to the one that says that they are all.
fn until_end(from: &mut UnixStream) -> Result<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    loop {
        let (_, packet) = receive(from)?;
        if matches!(packet.first(), Some(0xfe | 0xff)) && packet.len() < 9 {
            return Ok(packets);
        }
        packets.push(packet);
    }
}

fn refusal(lie: &Lie) -> Vec<u8> {
    let Lie::Refusal(_, text) = lie else { return Vec::new() };
    // ER_UNKNOWN_ERROR
    [&[0xff], &1105_u16.to_le_bytes()[..], b"#HY000", text].concat()
}

fn receive(from: &mut UnixStream) -> Result<(u8, Vec<u8>)> {
    let mut whole = Vec::new();
    loop {
        let mut head = [0; 4];
        from.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        let begin = whole.len();
        whole.resize(begin + length, 0);
        from.read_exact(&mut whole[begin..])?;
        if length < MOST_OF_A_PACKET {
            return Ok((head[3], whole));
        }
    }
}

fn send(to: &mut UnixStream, number: u8, packet: &[u8]) -> Result<()> {
    assert!(packet.len() < MOST_OF_A_PACKET, "more than one packet");
    let length = u32::try_from(packet.len()).unwrap_or_default().to_le_bytes();
    to.write_all(&[&[length[0], length[1], length[2], number], packet].concat())
}

/// The values of a row, or the texts of a column's description.
fn values(mut packet: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut values = Vec::new();
    while let Some((first, rest)) = packet.split_first() {
        let (bytes, least) = match first {
            0xfb => {
                values.push(None);
                packet = rest;
                continue;
            }
            0xfc => (2, 0),
            0xfd => (3, 0),
            0xfe => (8, 0),
            short => (0, usize::from(*short)),
        };
        let length = rest[..bytes].iter().rev().fold(least, |length, byte| length << 8 | usize::from(*byte));
        values.push(Some(rest[bytes..bytes + length].to_vec()));
        packet = &rest[bytes + length..];
    }
    values
}

/// A value as it stands in a row.
fn text(value: Option<&[u8]>) -> Vec<u8> {
    let Some(value) = value else { return vec![0xfb] };
    let length = match u32::try_from(value.len()).unwrap_or_default().to_le_bytes() {
        [short, 0, 0, 0] if short < 0xfb => vec![short],
        length => vec![0xfd, length[0], length[1], length[2]],
    };
    [&length, value].concat()
}

/// A column's description: catalogue, schema, table, its real name, and the name.
fn name_of(column: &[u8]) -> String {
    let mut rest = column;
    for _ in 0..4 {
        rest = &rest[usize::from(rest[0]) + 1..];
    }
    String::from_utf8_lossy(&rest[1..=usize::from(rest[0])]).into_owned()
}

fn with(names: &[String], mut row: Vec<Option<Vec<u8>>>, name: &str, lie: &[u8]) -> Vec<u8> {
    let is_variable = row.first().and_then(Option::as_deref).is_some_and(|first| first.eq_ignore_ascii_case(name.as_bytes()));
    for (at, (column, value)) in names.iter().zip(&mut row).enumerate() {
        if column.eq_ignore_ascii_case(name) || is_variable && at == 1 {
            *value = Some(lie.to_vec());
        }
    }
    row.iter().flat_map(|value| text(value.as_deref())).collect()
}
