//! The end of a server's binary log: what stands there behind the last transaction that others have too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use process::Files;

use super::bytes::Bytes;
use super::event::{Event, Format, HEADER, Header, damaged, kind, unpack};
use super::refusal::Refusal;

/// What a file begins with, and what it begins with when MySQL has encrypted it.
const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
const ENCRYPTED: [u8; 4] = [0xfd, b'b', b'i', b'n'];
/// More than the index of a server's logs has. Bytes.
const LONGEST_INDEX: u64 = 16 << 20;
/// More than an event has that says which transactions came before. Bytes.
const LONGEST_LIST: usize = 64 << 20;

/// How much is taken back at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Transactions.
    pub transactions: usize,
    /// Bytes of their events, also of what is compressed in them.
    pub bytes: usize,
    /// Rows that they touch: all are taken back in one transaction. An update is one.
    pub rows: usize,
}

/// A transaction of the tail.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// As the server's family writes it.
    pub gtid: String,
    /// The file of the log that it stands in.
    pub file: String,
    pub(super) format: Rc<Format>,
    /// All of its bytes.
    pub(super) original: Vec<u8>,
    pub(super) events: Vec<Event>,
    /// MariaDB: a part of a distributed transaction.
    pub(super) distributed: bool,
}

impl Transaction {
    /// A binary log with this transaction alone: the server's tools read it.
    pub fn as_log(&self) -> Vec<u8> {
        [&MAGIC[..], self.format.event(), &self.original].concat()
    }
}

/// A file of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFile {
    /// Its name, as of a transaction in it: [`Transaction::file`].
    pub path: String,
    /// The server began it when it started, and not because the one before it was full.
    pub begins_a_process: bool,
    /// The server was shut down at its end, in order.
    pub shut_down: bool,
}

/// The end of the log.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    /// The files that were looked at, in the order of the log: from the one in which the others' last transaction stands.
    pub files: Vec<LogFile>,
    /// In the order of the log.
    pub transactions: Vec<Transaction>,
    /// MariaDB: where the log stood before them, as `gtid_slave_pos` takes it.
    pub position: Option<String>,
}

impl Tail {
    /// Reads the end of the log whose index this is. `is_common` says of a transaction whether the others have it. That the tail holds all that
    /// the others do not have is for the caller to see, by [`Self::gtids`]: some may be in logs that are gone.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(files: &Files<'_>, index: &Path, limits: Limits, is_common: &dyn Fn(&str) -> bool) -> Result<Self, Refusal> {
        let mut tail = Self::default();
        // Of what is compressed as well, in all files together.
        let mut bytes = 0;
        for path in log_files(files, index)?.into_iter().rev() {
            let shown = path.display().to_string();
            let failed = |e: std::io::Error| Refusal::Failed(shown.clone(), e.to_string());
            let directory = files.directory(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
            let file = directory.reader(path.file_name().unwrap_or_default()).map_err(failed)?;
            let mut scan = Scan::new(&shown, limits, is_common, tail.transactions.len());
            scan.bytes = bytes;
            scan.read(BufReader::with_capacity(1 << 16, file))?;
            bytes = scan.bytes;
            let nothing_yet = tail.transactions.is_empty() && scan.has_common;
            if !scan.found.is_empty() || nothing_yet {
                tail.position = scan.position();
            }
            tail.files.insert(0, scan.file());
            scan.found.append(&mut tail.transactions);
            tail.transactions = scan.found;
            tail.within(limits)?;
            if scan.has_common {
                break;
            }
        }
        Ok(tail)
    }

    fn within(&self, limits: Limits) -> Result<(), Refusal> {
        if self.transactions.len() > limits.transactions {
            return Err(Refusal::TooLong(limits.transactions, "transactions"));
        }
        let bytes: usize = self.transactions.iter().map(|one| one.original.len()).sum();
        if bytes > limits.bytes { Err(Refusal::TooLong(limits.bytes, "bytes of transactions")) } else { Ok(()) }
    }

    /// The same of a log that is one file, given by its bytes, and all of it a tail.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) fn of_bytes(bytes: &[u8], limits: Limits) -> Result<Self, Refusal> {
        let mut scan = Scan::new("log", limits, &|_| false, 0);
        scan.read(BufReader::new(std::io::Cursor::new(bytes)))?;
        Ok(Self { files: vec![scan.file()], position: scan.position(), transactions: scan.found })
    }

    /// MariaDB: where the log stood before the tail, with what `slave_pos` (`gtid_slave_pos`) says of domains of which the log holds nothing
    /// before it: of data that were copied.
    pub(super) fn position_with(&self, slave_pos: &str) -> Result<String, Refusal> {
        let domain = |gtid: &str| gtid.split('-').next().unwrap_or_default().to_owned();
        let Some(position) = &self.position else {
            return match self.transactions.first() {
                Some(first) => Err(damaged(&first.file, format!("it does not say what was before {}", first.gtid))),
                None => Ok(slave_pos.to_owned()),
            };
        };
        let mut known: Vec<&str> = position.split(',').filter(|gtid| !gtid.is_empty()).collect();
        for gtid in slave_pos.split(',').map(str::trim).filter(|gtid| !gtid.is_empty()) {
            if known.iter().any(|other| domain(other) == domain(gtid)) {
                continue;
            }
            if let Some(received) = self.transactions.iter().find(|one| one.gtid == gtid) {
                return Err(damaged(&received.file, format!("it does not say what was before {gtid}")));
            }
            known.push(gtid);
        }
        Ok(known.join(","))
    }

    /// The transactions' names.
    pub fn gtids(&self) -> impl Iterator<Item = &str> {
        self.transactions.iter().map(|one| one.gtid.as_str())
    }
}

/// The files of a log, in their order. The server writes them as it was told where they are: from its data directory, or absolute. They are all
/// in the directory of the index.
fn log_files(files: &Files<'_>, index: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let failed = |e: std::io::Error| Refusal::Failed(index.display().to_string(), e.to_string());
    let text = String::from_utf8(files.read_through_links(index, LONGEST_INDEX).map_err(failed)?)
        .map_err(|_| damaged(&index.display().to_string(), "it is no list of files"))?;
    let directory = index.parent().unwrap_or(Path::new("/"));
    let place = |line: &str| {
        let path = Path::new(line);
        if path.is_absolute() { path.to_owned() } else { path.file_name().map_or_else(PathBuf::new, |name| directory.join(name)) }
    };
    Ok(text.lines().filter(|line| !line.is_empty()).map(place).collect())
}

/// What is found in one file.
struct Scan<'a> {
    file: &'a str,
    limits: Limits,
    is_common: &'a dyn Fn(&str) -> bool,
    /// In the files after this one.
    behind: usize,
    has_common: bool,
    found: Vec<Transaction>,
    bytes: usize,
    begins_a_process: bool,
    shut_down: bool,
    /// MariaDB: the last transaction of each domain before the first that is found, `None` until the file has said what was before it.
    last: Option<BTreeMap<u64, String>>,
}

/// Which transaction an event begins, and what MariaDB's says of it.
struct Beginning {
    gtid: String,
    distributed: bool,
    domain: Option<u64>,
}

impl<'a> Scan<'a> {
    fn new(file: &'a str, limits: Limits, is_common: &'a dyn Fn(&str) -> bool, behind: usize) -> Self {
        let (has_common, begins_a_process, shut_down) = (false, false, false);
        Self { file, limits, is_common, behind, has_common, found: vec![], bytes: 0, begins_a_process, shut_down, last: None }
    }

    fn file(&self) -> LogFile {
        LogFile { path: self.file.to_owned(), begins_a_process: self.begins_a_process, shut_down: self.shut_down }
    }

    fn position(&self) -> Option<String> {
        self.last.as_ref().map(|last| last.values().cloned().collect::<Vec<_>>().join(","))
    }

    fn wrong<T>(&self, what: impl Into<String>) -> Result<T, Refusal> {
        Err(damaged(self.file, what))
    }

    fn read(&mut self, mut log: BufReader<impl Read + std::io::Seek>) -> Result<(), Refusal> {
        let failed = |file: &str, e: std::io::Error| Refusal::Failed(file.to_owned(), e.to_string());
        let mut magic = [0; 4];
        log.read_exact(&mut magic).map_err(|e| failed(self.file, e))?;
        match magic {
            MAGIC => {}
            ENCRYPTED => return Err(Refusal::Encrypted(self.file.to_owned())),
            _ => return self.wrong("it is no binary log"),
        }
        let mut format: Option<Rc<Format>> = None;
        // Inside of a transaction of the tail.
        let mut inside = false;
        while let Some((header, bytes)) = next_header(&mut log).map_err(|e| failed(self.file, e))? {
            let rest = header.length - HEADER;
            self.shut_down |= header.kind == kind::STOP;
            if !(inside || tells(header.kind)) {
                // What others have is as long as it likes.
                log.seek_relative(i64::try_from(rest).unwrap_or(i64::MAX)).map_err(|e| failed(self.file, e))?;
                continue;
            }
            let room = if is_list(header.kind) { LONGEST_LIST } else { self.limits.bytes.saturating_sub(self.bytes) };
            if rest > room {
                return Err(Refusal::TooLong(self.limits.bytes, "bytes of transactions"));
            }
            let mut event = bytes.to_vec();
            log.by_ref().take(rest as u64).read_to_end(&mut event).map_err(|e| failed(self.file, e))?;
            if event.len() < header.length {
                // The server ended while it wrote this one: it was committed nowhere.
                break;
            }
            if header.kind == kind::FORMAT {
                let described = Format::of(event).ok_or_else(|| damaged(self.file, "its format is not known here"))?;
                self.begins_a_process |= described.begins_a_process();
                format = Some(Rc::new(described));
                continue;
            }
            let Some(format) = &format else { return self.wrong("it does not begin with its format") };
            inside = self.event(header, event, format, inside)?;
        }
        Ok(())
    }

    /// One event; whether the next belongs to a transaction of the tail.
    fn event(&mut self, header: Header, event: Vec<u8>, format: &Rc<Format>, inside: bool) -> Result<bool, Refusal> {
        let Some(body) = format.body(&event) else { return self.wrong("a checksum is wrong") };
        match header.kind {
            kind::START_ENCRYPTION => Err(Refusal::Encrypted(self.file.to_owned())),
            kind::STOP | kind::ROTATE => Ok(false),
            kind::BINLOG_CHECKPOINT | kind::PREVIOUS_GTIDS => Ok(inside),
            kind::GTID_LIST => {
                if self.found.is_empty() {
                    self.last = Some(list(body).ok_or_else(|| damaged(self.file, "its list of transactions is cut off"))?);
                }
                Ok(inside)
            }
            kind::ANONYMOUS_GTID | kind::GTID | kind::TAGGED_GTID | kind::MARIADB_GTID => self.begin(header, &event, body, format),
            _ => {
                self.bytes += event.len();
                let most = self.limits.bytes.saturating_sub(self.bytes);
                let events = if header.kind == kind::TRANSACTION_PAYLOAD {
                    unpack(body, most).map_err(|what| damaged(self.file, what))?
                } else {
                    vec![Event { kind: header.kind, server: header.server, body: body.to_vec() }]
                };
                if header.kind == kind::TRANSACTION_PAYLOAD {
                    self.bytes += events.iter().map(|event| event.body.len()).sum::<usize>();
                }
                if let Some(current) = self.found.last_mut() {
                    current.original.extend(event);
                    current.events.extend(events);
                }
                Ok(true)
            }
        }
    }

    fn begin(&mut self, header: Header, event: &[u8], body: &[u8], format: &Rc<Format>) -> Result<bool, Refusal> {
        let Some(beginning) = beginning(header, body) else {
            return self.wrong("the name of a transaction is not readable here");
        };
        let anonymous = header.kind == kind::ANONYMOUS_GTID;
        if anonymous || (self.is_common)(&beginning.gtid) {
            if !self.found.is_empty() || self.behind > 0 && anonymous {
                return Err(Refusal::Gap(beginning.gtid));
            }
            self.has_common = true;
            if let (Some(last), Some(domain)) = (&mut self.last, beginning.domain) {
                last.insert(domain, beginning.gtid);
            }
            return Ok(false);
        }
        if self.behind + self.found.len() >= self.limits.transactions {
            return Err(Refusal::TooLong(self.limits.transactions, "transactions"));
        }
        self.bytes += event.len();
        self.found.push(Transaction {
            gtid: beginning.gtid,
            file: self.file.to_owned(),
            format: Rc::clone(format),
            original: event.to_vec(),
            events: vec![],
            distributed: beginning.distributed,
        });
        Ok(true)
    }
}

/// Events that are looked at wherever they stand.
fn tells(kind: u8) -> bool {
    is_list(kind)
        || matches!(
            kind,
            kind::FORMAT | kind::START_ENCRYPTION | kind::ANONYMOUS_GTID | kind::GTID | kind::TAGGED_GTID | kind::MARIADB_GTID
        )
}

fn is_list(kind: u8) -> bool {
    matches!(kind, kind::GTID_LIST)
}

/// The next event's header; `None` at the end, also where the file is cut off within one.
fn next_header(log: &mut impl Read) -> std::io::Result<Option<(Header, [u8; HEADER])>> {
    let mut bytes = [0; HEADER];
    match log.read_exact(&mut bytes) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let header = Header::parse(&bytes).ok_or_else(|| std::io::Error::other("an event has no length"))?;
    Ok(Some((header, bytes)))
}

/// MariaDB's list of the transactions before a file: the last of each domain and server, and the last of a domain behind the others.
fn list(body: &[u8]) -> Option<BTreeMap<u64, String>> {
    let mut body = Bytes(body);
    let count = body.number(4)? & 0x0fff_ffff;
    let mut last = BTreeMap::new();
    for _ in 0..count {
        let (domain, server, number) = (body.number(4)?, body.number(4)?, body.number(8)?);
        last.insert(domain, format!("{domain}-{server}-{number}"));
    }
    Some(last)
}

/// MariaDB's flags of a part of a distributed transaction.
const DISTRIBUTED: u8 = 64 | 128;

fn beginning(header: Header, body: &[u8]) -> Option<Beginning> {
    let mut bytes = Bytes(body);
    let plain = |gtid| Beginning { gtid, distributed: false, domain: None };
    match header.kind {
        kind::MARIADB_GTID => {
            let (number, domain, flags) = (bytes.number(8)?, bytes.number(4)?, bytes.byte()?);
            Some(Beginning {
                gtid: format!("{domain}-{}-{number}", header.server),
                distributed: flags & DISTRIBUTED != 0,
                domain: Some(domain),
            })
        }
        kind::ANONYMOUS_GTID => Some(plain("a transaction without a GTID".to_owned())),
        kind::GTID => {
            bytes.take(1)?;
            let uuid = uuid(bytes.take(16)?);
            Some(plain(format!("{uuid}:{}", bytes.number(8)?)))
        }
        _ => tagged(body).map(plain),
    }
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// MySQL's name with a tag. It is written as a message of numbered fields: flags 0, server 1, number 2, tag 3.
fn tagged(body: &[u8]) -> Option<String> {
    let mut bytes = Bytes(body);
    let (_version, _length, _last) = (variable(&mut bytes)?, variable(&mut bytes)?, variable(&mut bytes)?);
    field_is(&mut bytes, 0)?;
    variable(&mut bytes)?;
    field_is(&mut bytes, 1)?;
    let server = (0..16).map(|_| u8::try_from(variable(&mut bytes)?).ok()).collect::<Option<Vec<u8>>>()?;
    field_is(&mut bytes, 2)?;
    // Signed: the sign is the lowest bit.
    let number = variable(&mut bytes)?;
    field_is(&mut bytes, 3)?;
    let length = usize::try_from(variable(&mut bytes)?).ok()?;
    let tag = std::str::from_utf8(bytes.take(length)?).ok()?;
    let good = number & 1 == 0 && (1..=32).contains(&length) && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    good.then(|| format!("{}:{tag}:{}", uuid(&server), number >> 1))
}

fn field_is(bytes: &mut Bytes<'_>, number: u64) -> Option<()> {
    (variable(bytes)? == number).then_some(())
}

/// A number whose first byte says by its lowest bits how many bytes come after it.
fn variable(bytes: &mut Bytes<'_>) -> Option<u64> {
    let first = bytes.byte()?;
    let more = first.trailing_ones() as usize;
    let high = bytes.number(more)?;
    // With seven more, or eight, the first byte is nothing but the count.
    Some(if more >= 7 { high } else { (high << (7 - more)) | (u64::from(first) >> (more + 1)) })
}
