//! What servers wrote into their logs is read to its end and turned round. The samples are logs as `keep` makes them, of MariaDB 10.11 and
//! MySQL 9.7: the first of a table with a column of each type, the second of a transaction that inserts, updates (a chain) and deletes.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::apply::{Family, Progress, Session, finish, progress};
use super::event::{Event, Format, HEADER, Header, kind};
use super::log::{Limits, Tail, Transaction};
use super::plan::{Plan, read_and_turn};
use super::refusal::{Refusal, first_words};
use super::rows::{Broken, Change, LeftOut, Rows, TableMap};

const PLENTY: Limits = Limits { transactions: 9, bytes: 1 << 20, rows: 1000 };

macro_rules! samples {
    ($($name:literal)*) => { [$(($name, include_bytes!(concat!("samples/", $name, ".binlog")).as_slice())),*] };
}

fn all_samples() -> [(&'static str, &'static [u8]); 10] {
    samples!("mariadb-plain-0" "mariadb-plain-1" "mariadb-plain-2" "mariadb-compressed-0" "mariadb-compressed-1"
             "mysql-plain-0" "mysql-plain-1" "mysql-plain-2" "mysql-compressed-0" "mysql-compressed-1")
}

fn sample(name: &str) -> &'static [u8] {
    all_samples().into_iter().find(|(known, _)| *known == name).unwrap().1
}

fn read(name: &str) -> Transaction {
    let mut tail = Tail::of_bytes(sample(name), PLENTY).unwrap();
    assert_eq!(tail.transactions.len(), 1, "{name}");
    tail.transactions.remove(0)
}

/// A tail of these events, in the format of a sample.
fn tail_of(events: Vec<Event>) -> Tail {
    let one = read("mysql-plain-1");
    Tail { transactions: vec![Transaction { events, ..one }], ..Tail::default() }
}

/// The rows of a sample, event by event.
fn rows_of(transaction: &Transaction) -> Vec<(TableMap, Rows)> {
    let maps = transaction.events.iter().filter(|event| event.kind == kind::TABLE_MAP);
    let maps: Vec<TableMap> = maps.map(|event| TableMap::parse(&event.body).unwrap()).collect();
    let rows = transaction.events.iter().filter_map(|event| {
        let map = maps.iter().find(|map| super::rows::table_of(event) == Some(map.id))?;
        Some((map.clone(), Rows::parse(event, map, 1 << 20, &LeftOut::new()).unwrap()))
    });
    rows.collect()
}

#[test]
fn all_that_servers_wrote_is_read_and_turned_round() {
    for (name, bytes) in all_samples() {
        let tail = Tail::of_bytes(bytes, PLENTY).unwrap();
        assert_eq!(tail.transactions[0].as_log(), bytes, "{name}: what is kept is what was read");
        let plan = Plan::of(&tail, PLENTY).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert!(!plan.statements.is_empty(), "{name}");
        read_and_turn(bytes);
    }
}

#[test]
fn names_of_transactions_are_those_that_servers_say() {
    assert!(read("mariadb-plain-1").gtid.starts_with("0-11-"));
    let (plain, tagged) = (read("mysql-plain-1").gtid, read("mysql-plain-2").gtid);
    let (server, number) = plain.split_once(':').unwrap();
    assert!(server.len() == 36 && number.parse::<u32>().is_ok(), "{plain}");
    assert_eq!(tagged, format!("{server}:a_tag:1"));
}

/// A row that becomes the next one within a statement: the last is taken back first.
#[test]
fn the_last_change_is_taken_back_first() {
    for name in ["mariadb-plain-1", "mariadb-compressed-1", "mysql-plain-1", "mysql-compressed-1"] {
        let transaction = read(name);
        let changes = rows_of(&transaction);
        let kinds: Vec<Change> = changes.iter().map(|(_, rows)| rows.change).collect();
        assert_eq!(kinds, [Change::Write, Change::Update, Change::Delete], "{name}");
        let update = &changes[1].1;
        let inverse = update.inverse();
        assert_eq!(inverse.rows.len(), update.rows.len());
        for (undone, done) in inverse.rows.iter().zip(update.rows.iter().rev()) {
            assert_eq!((&undone.before, &undone.after), (&done.after, &done.before));
        }
        assert_eq!(changes[0].1.inverse().change, Change::Delete);
        assert_eq!(changes[2].1.inverse().change, Change::Write);
    }
}

#[test]
fn what_is_there_now_and_what_was_before_are_told_apart() {
    let tail = Tail { transactions: vec![read("mysql-plain-1")], ..Tail::default() };
    let plan = Plan::of(&tail, PLENTY).unwrap();
    let touches = &plan.tables[0];
    // Row 1 became 2, 2 became 3, 3 became 4, and 3 was deleted. Only row 1 was there before.
    assert_eq!((touches.rows_now(), touches.rows_before()), (2, 1));
    assert!(touches.changed);
}

/// However a log is cut off or changed, it is read without harm; with checksums no change goes unseen.
#[test]
fn logs_that_are_cut_off_or_changed_are_no_others() {
    for (name, bytes) in all_samples() {
        for end in 0..bytes.len() {
            read_and_turn(&bytes[..end]);
        }
        for at in (4 + 200)..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x41;
            read_and_turn(&changed);
            let (was, is) = (Tail::of_bytes(bytes, PLENTY).unwrap(), Tail::of_bytes(&changed, PLENTY));
            let same = is.is_ok_and(|is| is.transactions.len() == 1 && is.transactions[0].events == was.transactions[0].events);
            // The time and the like are in the checksum, too.
            assert!(!same, "{name}: byte {at}");
        }
    }
}

/// A server that died while it wrote a transaction takes it back itself; its table has to be one that can.
#[test]
fn a_transaction_without_its_end_changed_nothing() {
    let whole = read("mysql-plain-1");
    for length in 0..whole.events.len() {
        let plan = Plan::of(&tail_of(whole.events[..length].to_vec()), PLENTY).unwrap();
        assert!(plan.statements.is_empty(), "{length} events");
        let names_table = whole.events[..length].iter().any(|event| event.kind == kind::TABLE_MAP);
        assert_eq!(plan.tables.len(), usize::from(names_table));
    }
}

fn event(kind: u8, body: &[u8]) -> Event {
    Event { kind, server: 1, body: body.to_vec() }
}

/// A statement as it stands in the log.
fn query(text: &str) -> Event {
    event(kind::QUERY, &[&[0; 8][..], &[1], &[0; 4], b"t\0", text.as_bytes()].concat())
}

#[test]
fn each_kind_of_event_that_is_not_taken_back_has_its_reason() {
    let rows = |kind: u8| {
        read("mysql-plain-1").events.into_iter().map(move |one| Event { kind: if one.kind == 31 { kind } else { one.kind }, ..one })
    };
    let table: Vec<(Vec<Event>, Refusal)> = vec![
        (vec![query("CREATE TABLE secret (a INT)")], Refusal::Ddl("CREATE TABLE".into())),
        (vec![query("/* x */ ALTER TABLE t.a ADD b INT")], Refusal::Ddl("a statement".into())),
        (vec![query("insert into t.a values (1)"), event(kind::XID, &[0; 8])], Refusal::Statement("INSERT".into())),
        (vec![query("XA START 'a'"), event(kind::XA_PREPARE, &[0; 8])], Refusal::Xa),
        (vec![event(kind::INCIDENT, &[1, 0])], Refusal::Incident),
        (vec![event(kind::INTVAR, &[0; 9]), query("DO 1")], Refusal::Statement("a change".into())),
        (vec![event(kind::BEGIN_LOAD_QUERY, &[0; 9]), query("LOAD DATA")], Refusal::LoadData),
        (vec![query("BEGIN"), query("COMMIT")], Refusal::Engine("a table".into(), "an engine without transactions".into())),
        (vec![event(99, &[]), event(kind::XID, &[0; 8])], Refusal::Unknown(99)),
        (rows(kind::PARTIAL_UPDATE_ROWS).collect(), Refusal::PartialJson),
    ];
    for (events, refusal) in table {
        assert_eq!(Plan::of(&tail_of(events), PLENTY).err(), Some(refusal));
    }
    let distributed = Tail { transactions: vec![Transaction { distributed: true, ..read("mariadb-plain-1") }], ..Tail::default() };
    assert_eq!(Plan::of(&distributed, PLENTY).err(), Some(Refusal::Xa));
}

/// The agents write it so that commits before it wait for a replica.
#[test]
fn what_changes_nothing_is_no_reason() {
    let plan = Plan::of(&tail_of(vec![query("FLUSH USER_RESOURCES")]), PLENTY).unwrap();
    assert!(plan.statements.is_empty() && plan.tables.is_empty());
    let other = Plan::of(&tail_of(vec![query("FLUSH USER_RESOURCES, STATUS")]), PLENTY).err();
    assert_eq!(other, Some(Refusal::Ddl("FLUSH".into())));
}

#[test]
fn a_refusal_shows_no_data() {
    assert_eq!(first_words(b"ALTER USER x IDENTIFIED BY 'geheim'", 2), "ALTER USER");
    assert_eq!(first_words(b"'geheim'", 2), "a statement");
    assert_eq!(first_words(b"\xff\xfe", 2), "a statement");
}

/// An image that lacks a column is no row.
#[test]
fn an_image_that_is_not_full_is_seen() {
    let (map, _) = rows_of(&read("mysql-plain-1")).remove(0);
    let transaction = read("mysql-plain-1");
    let written = transaction.events.iter().find(|event| event.kind == kind::WRITE_ROWS).unwrap();
    // Table 6, flags 2, more 2, columns 1, then the bits.
    let mut partial = written.clone();
    partial.body[11] &= 0xfe;
    assert_eq!(Rows::parse(&partial, &map, 1 << 20, &LeftOut::new()).err(), Some(Broken::Partial));
    // A row without any column has no end.
    let columns = map.width();
    partial.body[11..11 + columns.div_ceil(8)].fill(0);
    assert_eq!(Rows::parse(&partial, &map, 1 << 20, &(0..columns).collect()), Err(Broken::Unreadable));
}

/// MariaDB 11 logs computed columns with an insertion, and not with an update or a deletion: it is the same row all the same.
#[test]
fn a_column_that_some_images_lack_is_left_out_of_all() {
    let numbers = |second: &[u8]| [&[1, 0, 0, 0, 0, 0, 1, 0, 3], second].concat();
    // Number, flags, then `s`.`t` with three columns of one byte, without more to say of them; all may be NULL.
    let map = [&[1_u8, 0, 0, 0, 0, 0, 1, 0][..], &[1, b's', 0, 1, b't', 0, 3, 1, 1, 1, 0, 7]].concat();
    let event = |kind: u8, body: Vec<u8>| Event { kind, server: 1, body };
    let written = event(kind::WRITE_ROWS_1, numbers(&[0b111, 0xf8, 10, 20, 30]));
    let changed = event(kind::UPDATE_ROWS_1, numbers(&[0b101, 0b101, 0xfc, 10, 30, 0xfe, 10]));
    let (map, before) = (TableMap::parse(&map).unwrap(), LeftOut::from([1]));
    assert_eq!(super::rows::left_out(&written), Some((1, LeftOut::new())));
    assert_eq!(super::rows::left_out(&changed), Some((1, before.clone())));
    assert_eq!(Rows::parse(&changed, &map, 100, &LeftOut::new()).err(), Some(Broken::Partial));
    let [written, changed] = [written, changed].map(|event| Rows::parse(&event, &map, 100, &before).unwrap());
    assert_eq!(written.rows[0].after, changed.rows[0].before, "the same row");
    assert_eq!(changed.rows[0].after.as_deref(), Some(&[0xfe, 10][..]), "the last is NULL");
    let (kind, body) = written.inverse().encode(3);
    assert_eq!((kind, &body[8..]), (kind::DELETE_ROWS_1, &[3, 0b101, 0xfc, 10, 30][..]));
}

#[test]
fn encrypted_and_foreign_files_are_refused() {
    let mut bytes = sample("mysql-plain-1").to_vec();
    bytes[0] = 0xfd;
    assert_eq!(Tail::of_bytes(&bytes, PLENTY).err(), Some(Refusal::Encrypted("log".into())));
    assert!(matches!(Tail::of_bytes(b"\x7fELF and so on", PLENTY), Err(Refusal::Damaged(..))));
    assert!(Tail::of_bytes(b"", PLENTY).is_err());
}

#[test]
fn no_more_is_read_than_is_allowed() {
    let few = Limits { transactions: 9, bytes: 300, rows: 9 };
    assert_eq!(Tail::of_bytes(sample("mysql-plain-1"), few).err(), Some(Refusal::TooLong(300, "bytes of transactions")));
    // What is compressed counts as long as it is.
    let compressed = sample("mysql-compressed-0").len();
    let few = Limits { transactions: 9, bytes: compressed + 50, rows: 9 };
    assert!(matches!(Tail::of_bytes(sample("mysql-compressed-0"), few), Err(Refusal::Damaged(..) | Refusal::TooLong(..))));
}

/// One transaction may be as large as all of a site. Of how many rows, the refusal says.
#[test]
fn more_rows_than_are_allowed_are_counted_and_refused() {
    for (name, bytes) in all_samples() {
        let rows = rows_of(&read(name)).iter().map(|(_, rows)| rows.rows.len()).sum::<usize>();
        let tail = Tail::of_bytes(bytes, PLENTY).unwrap();
        let of = |most| Plan::of(&tail, Limits { rows: most, ..PLENTY }).err();
        assert!(rows > 0 && of(rows).is_none(), "{name}");
        for most in 0..rows {
            assert_eq!(of(most), Some(Refusal::TooManyRows(rows, most)), "{name}");
        }
    }
    let said = Refusal::TooManyRows(5_000_000, 100_000).to_string();
    assert!(said.contains("5000000") && said.contains("rewind_rows allows 100000"), "{said}");
}

/// MariaDB: a file says what was before it, and a server whose data were copied says it of domains that its log does not know.
#[test]
fn the_point_before_the_tail_is_known_or_refused() {
    let transaction = read("mariadb-plain-1");
    let tail =
        |position: Option<&str>| Tail { transactions: vec![transaction.clone()], position: position.map(str::to_owned), ..Tail::default() };
    let gtid = transaction.gtid.clone();
    assert_eq!(tail(Some("0-11-3,1-4-2")).position_with("").unwrap(), "0-11-3,1-4-2");
    assert_eq!(tail(Some("0-11-3")).position_with("0-11-1,7-1-5").unwrap(), "0-11-3,7-1-5");
    assert_eq!(tail(Some("")).position_with("0-9-9").unwrap(), "0-9-9", "copied, then promoted");
    assert!(tail(Some("")).position_with(&gtid).is_err(), "what was before it was replaced by it");
    assert!(tail(None).position_with("").is_err());
}

/// The server must not take an event of ours for the beginning of a file that is being written.
#[test]
fn the_format_is_told_as_of_a_closed_file() {
    let bytes = &sample("mysql-plain-1")[4..];
    let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
    let mut event = bytes[..header.length].to_vec();
    event[17] |= 1;
    let format = Rc::new(Format::of(event).unwrap());
    assert_eq!(format.event()[17] & 1, 0);
    let made = format.make(kind::XID, 7, &[1; 8]);
    assert_eq!(format.body(&made), Some(&[1; 8][..]));
    assert_eq!(Header::parse(made.first_chunk().unwrap()).unwrap().length, made.len());
    assert_eq!(made.len(), HEADER + 8 + 4);
}

/// Answers as a connection does, which takes a long value for broken unless its column is that of a set of transactions.
struct LongTail;

impl Session for LongTail {
    fn rows(&mut self, sql: &str) -> Result<Vec<BTreeMap<String, String>>, String> {
        let tail = (0..1600).map(|n| format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{n}")).collect::<Vec<_>>().join(",");
        let column =
            |value: &str| sql.split_once(&format!("{value} AS ")).and_then(|(_, rest)| rest.split([',', ' ']).next()).map(str::to_owned);
        let row = match column("tail") {
            Some(name) if tail.len() > 65_536 && !name.contains("gtid") => return Err(format!("{} bytes as {name}", tail.len())),
            Some(name) => BTreeMap::from([(name, tail), (column("common").unwrap(), String::new())]),
            None => BTreeMap::from([("alone".to_owned(), "1".to_owned()), ("one".to_owned(), "1".to_owned())]),
        };
        Ok(vec![row])
    }
}

/// It could never be finished: what it had taken back was remembered by a list that was longer than any other value.
#[test]
fn a_rewind_of_many_transactions_goes_on_where_it_was() {
    assert!(matches!(progress(&mut LongTail), Ok(Progress::Committed { tail, .. }) if tail.ends_with(":1599")));
}

/// A server that answers everything with nothing.
struct Listener(Vec<String>);

impl Session for Listener {
    fn rows(&mut self, sql: &str) -> Result<Vec<BTreeMap<String, String>>, String> {
        self.0.push(sql.to_owned());
        Ok(vec![])
    }
}

/// Whoever was killed between the transaction and the end of the log left the first to a disk that had it a second later, perhaps.
#[test]
fn the_log_goes_when_the_disk_has_what_was_taken_back() {
    for family in [Family::MariaDb, Family::MySql] {
        let mut server = Listener(Vec::new());
        finish(&mut server, family, "0-1-7").unwrap();
        let at = |words: &str| server.0.iter().position(|sql| sql.starts_with(words));
        assert!(at("FLUSH LOCAL ENGINE LOGS").is_some_and(|flushed| Some(flushed) < at("RESET")), "{:?}", server.0);
    }
}
