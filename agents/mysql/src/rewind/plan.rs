//! What takes a tail back: its events turned round, the last first. Pure.
//!
//! Values are never looked at, so none is ever converted: a row goes back to the server byte by byte as the server wrote it into its log.

use std::collections::BTreeMap;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::dialect;

use super::event::{Event, Format, kind, statement};
use super::log::{Limits, Tail, Transaction};
use super::refusal::{Refusal, first_words};
use super::rows::{Broken, Change, LeftOut, Rows, Table, TableMap, holds_rows, is_empty, table_of};

/// More than one statement has that a server takes as it is shipped (`max_allowed_packet` of 16 MB), the encoding included. Bytes of events.
const LONGEST: usize = 11 << 20;
/// How many bytes of rows are written with one statement where they may be several.
const AT_ONCE: usize = 1 << 20;

/// What is changed, and what takes that back.
#[derive(Debug)]
pub struct Plan {
    /// The transactions, in the order of the log.
    pub gtids: Vec<String>,
    /// The tables whose rows are touched.
    pub tables: Vec<Touches>,
    format: Option<Rc<Format>>,
    left_out: BTreeMap<Table, LeftOut>,
    /// In the order in which they are carried out.
    pub(super) statements: Vec<Inverse>,
    /// How many rows they touch, and how many they may.
    rows: usize,
    most: usize,
    /// The same in bytes, of what is compressed in the log as well.
    bytes: usize,
    most_bytes: usize,
}

/// One statement that takes an event back.
#[derive(Debug)]
pub(super) struct Inverse {
    pub(super) table: Table,
    pub(super) sql: String,
}

/// The rows of one table that the tail touches.
#[derive(Debug)]
pub struct Touches {
    /// Which table.
    pub table: Table,
    /// Whether a row was changed or removed. Otherwise rows were only added, which no foreign key follows.
    pub changed: bool,
    /// Columns that the log does not always have, by their places: only computed ones may be.
    pub(super) left_out: LeftOut,
    map: TableMap,
    second: bool,
    server: u32,
    /// Rows that are there now, and those that were there before, each as often as it is.
    now: BTreeMap<Vec<u8>, usize>,
    before: BTreeMap<Vec<u8>, usize>,
}

impl Plan {
    /// What takes this tail back.
    ///
    /// # Errors
    /// Why it cannot be taken back exactly, or touches more rows than `limits` allows.
    pub fn of(tail: &Tail, limits: Limits) -> Result<Self, Refusal> {
        let format = tail.transactions.first().map(|first| Rc::clone(&first.format));
        let gtids = tail.gtids().map(str::to_owned).collect();
        let (tables, statements, left_out) = (vec![], vec![], left_out(tail));
        let mut plan = Self { gtids, tables, format, left_out, statements, rows: 0, most: limits.rows, bytes: 0, most_bytes: limits.bytes };
        for transaction in &tail.transactions {
            // One description of the format is told to the server, for all.
            if plan
                .format
                .as_ref()
                .is_some_and(|format| format.event() != transaction.format.event() && !format.is_like(&transaction.format))
            {
                return Err(Refusal::Damaged(transaction.file.clone(), "it is of another version than the file after it".into()));
            }
            plan.add(transaction)?;
        }
        if plan.rows > plan.most {
            return Err(Refusal::TooManyRows(plan.rows, plan.most));
        }
        plan.statements.reverse();
        Ok(plan)
    }

    fn add(&mut self, transaction: &Transaction) -> Result<(), Refusal> {
        if transaction.distributed {
            return Err(Refusal::Xa);
        }
        let ended = transaction.events.iter().rfind(|event| significant(event.kind));
        if ended.is_none_or(|event| event.kind == kind::TABLE_MAP || holds_rows(event.kind) || begins(event)) {
            return self.broken_off(transaction);
        }
        let mut maps: BTreeMap<u64, TableMap> = BTreeMap::new();
        let mut ended = false;
        for event in transaction.events.iter().filter(|event| significant(event.kind)) {
            if std::mem::replace(&mut ended, event.kind == kind::XID) {
                return Err(Refusal::Damaged(transaction.file.clone(), "a transaction goes on behind its end".into()));
            }
            match event.kind {
                kind::TABLE_MAP => {
                    let map = TableMap::parse(&event.body).ok_or(Refusal::Unknown(event.kind))?;
                    maps.insert(map.id, map);
                }
                rows if holds_rows(rows) => {
                    if is_empty(event) {
                        continue;
                    }
                    let map = table_of(event).and_then(|id| maps.get(&id)).ok_or(Refusal::Unknown(rows))?;
                    self.rows(event, map)?;
                }
                kind::XID => {}
                kind::QUERY | kind::QUERY_COMPRESSED => query(event, maps.values().next())?,
                other => return Err(refused(other)),
            }
        }
        Ok(())
    }

    /// A transaction that the server had not written to its end when it died: it took that back itself, in tables that can do so.
    fn broken_off(&mut self, transaction: &Transaction) -> Result<(), Refusal> {
        for event in transaction.events.iter().filter(|event| event.kind == kind::TABLE_MAP) {
            let map = TableMap::parse(&event.body).ok_or(Refusal::Unknown(event.kind))?;
            self.touches(event.server, &map, false)?;
        }
        Ok(())
    }

    fn rows(&mut self, event: &Event, map: &TableMap) -> Result<(), Refusal> {
        let without = self.left_out.get(&map.table).cloned().unwrap_or_default();
        let rows = Rows::parse(event, map, MOST_OF_AN_EVENT, &without).map_err(|broken| match broken {
            Broken::Partial => Refusal::PartialImage(map.table.to_string()),
            Broken::Unreadable => Refusal::Unknown(event.kind),
        })?;
        self.rows += rows.rows.len();
        self.bytes += rows.rows.iter().flat_map(|row| row.before.iter().chain(&row.after)).map(Vec::len).sum::<usize>();
        if self.bytes > self.most_bytes {
            return Err(Refusal::TooLong(self.most_bytes, "bytes of transactions"));
        }
        if self.rows > self.most {
            // Whoever is told that there are too many is told how many.
            return Ok(());
        }
        let touches = self.touches(event.server, map, rows.is_second())?;
        touches.changed |= rows.change != Change::Write;
        for row in &rows.rows {
            if let Some(before) = &row.before {
                touches.gone(before);
            }
            if let Some(after) = &row.after {
                *touches.now.entry(after.clone()).or_default() += 1;
            }
        }
        let sql = self.statement(event.server, &map.body, &rows.inverse(), map.width())?;
        self.statements.push(Inverse { table: map.table.clone(), sql });
        Ok(())
    }

    fn touches(&mut self, server: u32, map: &TableMap, second: bool) -> Result<&mut Touches, Refusal> {
        let at = self.tables.iter().position(|one| one.table == map.table);
        let at = match at {
            Some(at) if !self.tables[at].map.is_like(map) => {
                return Err(Refusal::Ddl(format!("a change of {}", map.table)));
            }
            Some(at) => at,
            None => {
                self.tables.push(Touches {
                    table: map.table.clone(),
                    changed: false,
                    left_out: self.left_out.get(&map.table).cloned().unwrap_or_default(),
                    map: map.clone(),
                    second,
                    server,
                    now: BTreeMap::new(),
                    before: BTreeMap::new(),
                });
                self.tables.len() - 1
            }
        };
        Ok(&mut self.tables[at])
    }

    /// Names a table and does something to its rows.
    fn statement(&self, server: u32, map: &[u8], rows: &Rows, columns: usize) -> Result<String, Refusal> {
        let Some(format) = &self.format else { return Ok(String::new()) };
        let (kind, body) = rows.encode(columns);
        let events = [format.make(kind::TABLE_MAP, server, map), format.make(kind, server, &body)].concat();
        if events.len() > LONGEST {
            return Err(Refusal::TooLong(LONGEST, "bytes of one row or event"));
        }
        Ok(format!("BINLOG '{}'", BASE64.encode(events)))
    }

    /// What a session is told before all others: the format of what comes.
    pub(super) fn describe(&self) -> Option<String> {
        self.format.as_ref().map(|format| format!("BINLOG '{}'", BASE64.encode(format.event())))
    }

    /// What writes rows of the tail into a table that is like the one they are of.
    pub(super) fn write(&self, touches: &Touches, which: Images, into: &Table) -> Result<Vec<String>, Refusal> {
        let map = touches.map.renamed(into);
        let images: Vec<&[u8]> = match which {
            Images::Now => &touches.now,
            Images::Before => &touches.before,
        }
        .iter()
        .flat_map(|(image, count)| std::iter::repeat_n(image.as_slice(), *count))
        .collect();
        let (mut statements, mut rest) = (Vec::new(), images.as_slice());
        while !rest.is_empty() {
            let mut bytes = 0;
            let fit = rest.iter().take_while(|image| {
                bytes += image.len();
                bytes <= AT_ONCE
            });
            let (some, others) = rest.split_at(fit.count().max(1));
            let rows = Rows::of_images(&touches.map, touches.second, &touches.left_out, some);
            statements.push(self.statement(touches.server, &map, &rows, touches.map.width())?);
            rest = others;
        }
        Ok(statements)
    }
}

/// The columns that some image of a row does not have, of each table.
fn left_out(tail: &Tail) -> BTreeMap<Table, LeftOut> {
    let mut all: BTreeMap<Table, LeftOut> = BTreeMap::new();
    for transaction in &tail.transactions {
        let mut tables: BTreeMap<u64, Table> = BTreeMap::new();
        for event in &transaction.events {
            if event.kind == kind::TABLE_MAP {
                tables.extend(TableMap::parse(&event.body).map(|map| (map.id, map.table)));
            } else if let Some((table, columns)) = super::rows::left_out(event) {
                if let Some(table) = tables.get(&table).filter(|_| !columns.is_empty()) {
                    all.entry(table.clone()).or_default().extend(columns);
                }
            }
        }
    }
    all
}

const LIMITS_OF_FUZZING: Limits = Limits { transactions: 100, bytes: 1 << 20, rows: 1 << 20 };

/// For the fuzz target: what can be read of a log can be turned round, and turned round twice it is what it was.
pub(crate) fn read_and_turn(bytes: &[u8]) {
    let Ok(tail) = Tail::of_bytes(bytes, LIMITS_OF_FUZZING) else { return };
    let _ = Plan::of(&tail, LIMITS_OF_FUZZING);
    for transaction in &tail.transactions {
        let maps: Vec<TableMap> = transaction.events.iter().filter_map(|event| TableMap::parse(&event.body)).collect();
        for (event, map) in transaction.events.iter().flat_map(|event| maps.iter().map(move |map| (event, map))) {
            let without = super::rows::left_out(event).map(|(_, columns)| columns).unwrap_or_default();
            let Ok(rows) = Rows::parse(event, map, MOST_OF_AN_EVENT, &without) else { continue };
            assert_eq!(rows.inverse().inverse(), rows, "turned round twice");
            let (kind, body) = rows.inverse().encode(map.width());
            let again = Rows::parse(&Event { kind, server: 1, body }, map, MOST_OF_AN_EVENT, &without);
            assert_eq!(again.as_ref(), Ok(&rows.inverse()), "it reads back");
        }
    }
}

/// More than an event has when it is no longer compressed. Bytes.
const MOST_OF_AN_EVENT: usize = 64 << 20;

/// Rows of a table at one of two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Images {
    Now,
    Before,
}

impl Touches {
    /// A row is no longer there: one that the tail itself had made, or one from before it.
    fn gone(&mut self, image: &[u8]) {
        match self.now.get_mut(image) {
            Some(1) => {
                self.now.remove(image);
            }
            Some(count) => *count -= 1,
            None => *self.before.entry(image.to_vec()).or_default() += 1,
        }
    }

    /// How many columns the log has of it.
    pub(super) fn columns(&self) -> usize {
        self.map.width()
    }

    /// How many rows there were before the tail that it took or changed.
    #[cfg(test)]
    pub(super) fn rows_before(&self) -> usize {
        self.before.values().sum()
    }

    /// How many rows there are that the tail left.
    pub(super) fn rows_now(&self) -> usize {
        self.now.values().sum()
    }
}

/// Events that do something, or say that something was done.
fn significant(kind: u8) -> bool {
    !matches!(kind, kind::IGNORABLE | kind::ROWS_QUERY | kind::ANNOTATE_ROWS | kind::BINLOG_CHECKPOINT | kind::GTID_LIST)
}

/// Why an event of this kind is not taken back.
fn refused(kind: u8) -> Refusal {
    match kind {
        kind::INTVAR | kind::RAND | kind::USER_VAR => Refusal::Statement("a change".into()),
        kind::LOAD | kind::CREATE_FILE..=kind::NEW_LOAD | kind::BEGIN_LOAD_QUERY | kind::EXECUTE_LOAD_QUERY => Refusal::LoadData,
        kind::INCIDENT => Refusal::Incident,
        kind::XA_PREPARE => Refusal::Xa,
        kind::PARTIAL_UPDATE_ROWS => Refusal::PartialJson,
        other => Refusal::Unknown(other),
    }
}

/// Whether it is the statement that begins a transaction.
fn begins(event: &Event) -> bool {
    event.kind == kind::QUERY && statement(event).is_some_and(|text| first_words(&text, 1) == "BEGIN")
}

/// A statement in a transaction: its frame, or something that is not taken back. `map`: a table whose rows were changed before it.
fn query(event: &Event, map: Option<&TableMap>) -> Result<(), Refusal> {
    let statement = statement(event).ok_or(Refusal::Unknown(event.kind))?;
    // The agents write it to have something in the log, and it changes nothing that is kept.
    if statement.trim_ascii().eq_ignore_ascii_case(dialect::BARRIER.as_bytes()) {
        return Ok(());
    }
    let words = first_words(&statement, 2);
    let first = words.split(' ').next().unwrap_or_default();
    match first {
        // A place that nobody went back to is marked by SAVEPOINT: to go back would be logged as well.
        "BEGIN" | "SAVEPOINT" => Ok(()),
        // So ends a transaction that nothing can take back.
        "COMMIT" => {
            let table = map.map_or_else(|| "a table".to_owned(), |map| map.table.to_string());
            Err(Refusal::Engine(table, "an engine without transactions".into()))
        }
        "XA" => Err(Refusal::Xa),
        "LOAD" => Err(Refusal::LoadData),
        "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "WITH" | "CALL" | "DO" | "SELECT" => Err(Refusal::Statement(first.to_owned())),
        _ => Err(Refusal::Ddl(words)),
    }
}

impl Format {
    /// Whether events of the other are read in the same way: all but when the server started.
    fn is_like(&self, other: &Self) -> bool {
        let without_times = |event: &[u8]| {
            let mut event = event.to_vec();
            // Header: timestamp 0..4, end 13..17. Body: when the server started 19+52..19+56. The checksum at the end.
            for range in [0..4, 13..17, 71..75] {
                event.get_mut(range).into_iter().flatten().for_each(|byte| *byte = 0);
            }
            event.truncate(event.len().saturating_sub(4));
            event
        };
        self.has_checksums() == other.has_checksums() && without_times(self.event()) == without_times(other.event())
    }
}
