//! Where one row ends in an event and the next begins, by the types that the table's event names. No value is looked at. Pure.

use std::collections::BTreeSet;
use std::ops::Range;

use super::bytes::{Bytes, packed};
use super::event::{Event, inflate, kind, plain_kind};

/// A table as an event names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    /// The database.
    pub schema: String,
    /// The table in it.
    pub name: String,
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A column: its type, and what the event says of it beyond that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Column {
    kind: u8,
    meta: [u8; 2],
}

/// What an event says of the table whose rows come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableMap {
    pub(super) id: u64,
    pub(super) table: Table,
    /// The event's body, as it is.
    pub(super) body: Vec<u8>,
    /// Where the names begin and end in it: those are what is another when the rows go to another table.
    names: Range<usize>,
    columns: Vec<Column>,
}

/// The types of columns, by their numbers in the log.
mod of_type {
    pub(super) const DECIMAL: u8 = 0;
    pub(super) const TINY: u8 = 1;
    pub(super) const SHORT: u8 = 2;
    pub(super) const LONG: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const DOUBLE: u8 = 5;
    pub(super) const NULL: u8 = 6;
    pub(super) const TIMESTAMP: u8 = 7;
    pub(super) const LONGLONG: u8 = 8;
    pub(super) const INT24: u8 = 9;
    pub(super) const DATE: u8 = 10;
    pub(super) const TIME: u8 = 11;
    pub(super) const DATETIME: u8 = 12;
    pub(super) const YEAR: u8 = 13;
    pub(super) const NEWDATE: u8 = 14;
    pub(super) const VARCHAR: u8 = 15;
    pub(super) const BIT: u8 = 16;
    pub(super) const TIMESTAMP2: u8 = 17;
    pub(super) const DATETIME2: u8 = 18;
    pub(super) const TIME2: u8 = 19;
    pub(super) const BLOB_COMPRESSED: u8 = 140;
    pub(super) const VARCHAR_COMPRESSED: u8 = 141;
    pub(super) const VECTOR: u8 = 242;
    pub(super) const JSON: u8 = 245;
    pub(super) const NEWDECIMAL: u8 = 246;
    pub(super) const ENUM: u8 = 247;
    pub(super) const SET: u8 = 248;
    pub(super) const TINY_BLOB: u8 = 249;
    pub(super) const MEDIUM_BLOB: u8 = 250;
    pub(super) const LONG_BLOB: u8 = 251;
    pub(super) const BLOB: u8 = 252;
    pub(super) const VAR_STRING: u8 = 253;
    pub(super) const STRING: u8 = 254;
    pub(super) const GEOMETRY: u8 = 255;
}

impl TableMap {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(body);
        let id = bytes.number(6)?;
        bytes.take(2)?;
        let begin = body.len() - bytes.0.len();
        let schema = name(&mut bytes)?;
        let table = name(&mut bytes)?;
        let names = begin..body.len() - bytes.0.len();
        let count = bytes.packed()?;
        let types = bytes.take(count)?;
        let length = bytes.packed()?;
        let mut metas = Bytes(bytes.take(length)?);
        bytes.take(count.div_ceil(8))?;
        let columns = types.iter().map(|kind| Some(Column { kind: *kind, meta: meta(*kind, &mut metas)? })).collect::<Option<Vec<_>>>()?;
        metas.is_empty().then(|| Self { id, table: Table { schema, name: table }, body: body.to_vec(), names, columns })
    }

    /// The body of the event for a table with the same columns.
    pub(super) fn renamed(&self, to: &Table) -> Vec<u8> {
        let name = |name: &str| [&[u8::try_from(name.len()).unwrap_or(u8::MAX)], name.as_bytes(), &[0]].concat();
        [&self.body[..self.names.start], &name(&to.schema), &name(&to.name), &self.body[self.names.end..]].concat()
    }

    /// The row that stands at the beginning of `bytes`, and how long it is there: a bit for each column that says whether it is NULL, and the
    /// others' values. `holds`: which columns it has. Those of `without` are left out of what is returned.
    fn row(&self, bytes: &[u8], holds: &[bool], without: &LeftOut) -> Option<(Vec<u8>, usize)> {
        let mut rest = Bytes(bytes);
        let held: Vec<usize> = (0..self.columns.len()).filter(|index| holds.get(*index) == Some(&true)).collect();
        let nulls = rest.take(held.len().div_ceil(8))?;
        let (mut kept, mut values) = (Vec::new(), Vec::new());
        for (at, index) in held.iter().enumerate() {
            let is_null = nulls.get(at / 8)? & (1 << (at % 8)) != 0;
            let value = if is_null { &[] } else { rest.take(self.columns.get(*index)?.length(rest.0)?)? };
            if !without.contains(index) {
                kept.push(is_null);
                values.extend(value);
            }
        }
        // A row without a byte would never end.
        let length = Some(bytes.len() - rest.0.len()).filter(|length| *length > 0)?;
        // As the server wrote it, where nothing is left out.
        let row = if kept.len() == held.len() { bytes.get(..length)?.to_vec() } else { [bits(&kept), values].concat() };
        Some((row, length))
    }
}

/// Columns that stand in none of the images of a table's rows, by their places. MariaDB 11 leaves computed columns out of what an update or a
/// deletion logs, and has them in an insertion: they are left out everywhere then, so that the same row has one image.
pub(super) type LeftOut = BTreeSet<usize>;

/// A bit for each, the lowest first. Those that fill the last byte are set, as the servers have it.
fn bits(all: &[bool]) -> Vec<u8> {
    let mut bits = vec![0xff; all.len().div_ceil(8)];
    for (index, _) in all.iter().enumerate().filter(|(_, set)| !**set) {
        bits[index / 8] &= !(1 << (index % 8));
    }
    bits
}

fn name(bytes: &mut Bytes<'_>) -> Option<String> {
    let length = bytes.length(1)?;
    let name = String::from_utf8(bytes.take(length)?.to_vec()).ok()?;
    (bytes.byte()? == 0).then_some(name)
}

/// What stands for a column of this type between the types and the bits for NULL.
fn meta(kind: u8, metas: &mut Bytes<'_>) -> Option<[u8; 2]> {
    use of_type::*;
    Some(match kind {
        FLOAT | DOUBLE | TIMESTAMP2 | DATETIME2 | TIME2 | VECTOR | JSON | TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | BLOB | BLOB_COMPRESSED
        | GEOMETRY => [metas.byte()?, 0],
        VARCHAR | VARCHAR_COMPRESSED | VAR_STRING | BIT | NEWDECIMAL | ENUM | SET | STRING => [metas.byte()?, metas.byte()?],
        DECIMAL | TINY | SHORT | LONG | NULL | TIMESTAMP | LONGLONG | INT24 | DATE | TIME | DATETIME | YEAR | NEWDATE => [0, 0],
        _ => return None,
    })
}

impl Column {
    /// How many bytes a value has that stands at the beginning of `bytes`.
    fn length(self, bytes: &[u8]) -> Option<usize> {
        use of_type::*;
        let [first, second] = self.meta;
        Some(match self.kind {
            NULL => 0,
            TINY | YEAR => 1,
            SHORT => 2,
            INT24 | DATE | TIME | NEWDATE => 3,
            LONG | TIMESTAMP => 4,
            LONGLONG | DATETIME => 8,
            FLOAT | DOUBLE => usize::from(first),
            TIMESTAMP2 => 4 + fraction(first)?,
            DATETIME2 => 5 + fraction(first)?,
            TIME2 => 3 + fraction(first)?,
            BIT => usize::from(second) + usize::from(first > 0),
            NEWDECIMAL => decimal(first, second)?,
            VARCHAR | VARCHAR_COMPRESSED | VAR_STRING => {
                let most = u16::from_le_bytes(self.meta);
                counted(bytes, if most < 256 { 1 } else { 2 })?
            }
            VECTOR | JSON | TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | BLOB | BLOB_COMPRESSED | GEOMETRY => {
                (1..=4).contains(&first).then_some(())?;
                counted(bytes, usize::from(first))?
            }
            STRING => string(first, second, bytes)?,
            _ => return None,
        })
    }
}

/// Two digits of a fraction of a second are a byte.
fn fraction(digits: u8) -> Option<usize> {
    (digits <= 6).then(|| usize::from(digits.div_ceil(2)))
}

/// A value that begins with its length, in so many bytes.
fn counted(bytes: &[u8], length: usize) -> Option<usize> {
    Bytes(bytes).length(length)?.checked_add(length)
}

/// Nine digits are four bytes, on either side of the point.
fn decimal(precision: u8, scale: u8) -> Option<usize> {
    const OF_DIGITS: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let side = |digits: usize| Some(digits / 9 * 4 + OF_DIGITS.get(digits % 9)?);
    Some(side(usize::from(precision.checked_sub(scale)?))? + side(usize::from(scale))?)
}

/// CHAR, BINARY, ENUM and SET share a type: the real one is in the meta-data, with two bits of the length of a CHAR that has more than 255 bytes.
fn string(first: u8, second: u8, bytes: &[u8]) -> Option<usize> {
    let high = first & 0x30;
    let (kind, length) =
        if high == 0x30 { (first, usize::from(second)) } else { (first | 0x30, usize::from(second) | (usize::from(high ^ 0x30) << 4)) };
    match kind {
        of_type::ENUM if (1..=2).contains(&length) => Some(length),
        of_type::SET if (1..=8).contains(&length) => Some(length),
        of_type::STRING | of_type::VAR_STRING => counted(bytes, if length < 256 { 1 } else { 2 }),
        _ => None,
    }
}

/// What an event does to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Write,
    Update,
    Delete,
}

/// One row of an event: how it was, how it became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) before: Option<Vec<u8>>,
    pub(super) after: Option<Vec<u8>>,
}

/// The rows of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) table: u64,
    /// Of the format since MySQL 5.6, with a place for more data.
    second: bool,
    pub(super) change: Change,
    left_out: LeftOut,
    pub(super) rows: Vec<Row>,
}

/// What is wrong with an event that should hold rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Columns are not in it that are looked for.
    Partial,
    /// It is cut off, or says something that is not known here.
    Unreadable,
}

/// The flag that ends a statement; and the one that leaves foreign keys alone: what they did when the rows were changed is not done once more.
const ENDS_STATEMENT: u16 = 1;
const NO_FOREIGN_KEYS: u16 = 2;
/// The number of the table of an event that only ends a statement.
const NO_TABLE: [u64; 2] = [0xff_ffff, 0xffff_ffff_ffff];

/// The beginning of an event of rows.
struct Head<'a> {
    table: u64,
    second: bool,
    change: Change,
    columns: usize,
    /// Which columns the images have: those of what a row was, and of what it becomes. Of anything but an update they are the same.
    holds: [Vec<bool>; 2],
    rows: &'a [u8],
    compressed: bool,
}

fn change_of(plain: u8) -> Option<(Change, bool)> {
    use kind::*;
    Some(match plain {
        WRITE_ROWS_1 => (Change::Write, false),
        UPDATE_ROWS_1 => (Change::Update, false),
        DELETE_ROWS_1 => (Change::Delete, false),
        WRITE_ROWS => (Change::Write, true),
        UPDATE_ROWS => (Change::Update, true),
        DELETE_ROWS => (Change::Delete, true),
        _ => return None,
    })
}

/// Whether an event of this kind holds rows.
pub(super) fn holds_rows(kind: u8) -> bool {
    change_of(plain_kind(kind).unwrap_or(kind)).is_some()
}

fn head(event: &Event) -> Option<Head<'_>> {
    let plain = plain_kind(event.kind);
    let (change, second) = change_of(plain.unwrap_or(event.kind))?;
    let mut body = Bytes(&event.body);
    let table = body.number(6)?;
    body.take(2)?;
    if second {
        let more = body.length(2)?.checked_sub(2)?;
        body.take(more)?;
    }
    let columns = body.packed()?;
    let mut which = || {
        let bits = body.take(columns.div_ceil(8))?;
        Some((0..columns).map(|column| bits[column / 8] & (1 << (column % 8)) != 0).collect::<Vec<bool>>())
    };
    let first = which()?;
    let second_image = if change == Change::Update { which()? } else { first.clone() };
    Some(Head { table, second, change, columns, holds: [first, second_image], rows: body.0, compressed: plain.is_some() })
}

/// Which table's rows an event holds.
pub(super) fn table_of(event: &Event) -> Option<u64> {
    head(event).map(|head| head.table)
}

/// Which table's rows an event holds, and which columns are in not all of its images.
pub(super) fn left_out(event: &Event) -> Option<(u64, LeftOut)> {
    let head = head(event)?;
    let [first, second] = &head.holds;
    Some((head.table, (0..head.columns).filter(|index| !(first[*index] && second[*index])).collect()))
}

/// Whether an event only ends a statement.
pub(super) fn is_empty(event: &Event) -> bool {
    head(event).is_some_and(|head| NO_TABLE.contains(&head.table) && head.columns == 0)
}

impl Rows {
    /// The rows of an event, without these columns. `most`: bytes that they may have.
    pub(super) fn parse(event: &Event, map: &TableMap, most: usize, without: &LeftOut) -> Result<Self, Broken> {
        let head = head(event).ok_or(Broken::Unreadable)?;
        if head.columns != map.columns.len() || head.table != map.id {
            return Err(Broken::Unreadable);
        }
        if head.holds.iter().any(|holds| holds.iter().enumerate().any(|(index, held)| !held && !without.contains(&index))) {
            return Err(Broken::Partial);
        }
        let plain = if head.compressed { Some(inflate(head.rows, most).ok_or(Broken::Unreadable)?) } else { None };
        let mut bytes = Bytes(plain.as_deref().unwrap_or(head.rows));
        let mut image = |holds: &[bool]| {
            let (row, length) = map.row(bytes.0, holds, without)?;
            bytes.take(length)?;
            Some((row, bytes.is_empty()))
        };
        let [was, becomes] = &head.holds;
        let mut rows = Vec::new();
        // No event is without rows, and no row without a byte.
        loop {
            let (first, mut last) = image(was).ok_or(Broken::Unreadable)?;
            rows.push(match head.change {
                Change::Write => Row { before: None, after: Some(first) },
                Change::Delete => Row { before: Some(first), after: None },
                Change::Update => {
                    let (second, is_last) = image(becomes).ok_or(Broken::Unreadable)?;
                    last = is_last;
                    Row { before: Some(first), after: Some(second) }
                }
            });
            if last {
                return Ok(Self { table: head.table, second: head.second, change: head.change, left_out: without.clone(), rows });
            }
        }
    }

    /// What takes it back.
    pub(super) fn inverse(&self) -> Self {
        let change = match self.change {
            Change::Write => Change::Delete,
            Change::Delete => Change::Write,
            Change::Update => Change::Update,
        };
        let rows = self.rows.iter().rev().map(|row| Row { before: row.after.clone(), after: row.before.clone() }).collect();
        Self { table: self.table, second: self.second, change, left_out: self.left_out.clone(), rows }
    }

    /// A row that is written into a table like this one.
    pub(super) fn of_images(map: &TableMap, second: bool, left_out: &LeftOut, images: &[&[u8]]) -> Self {
        let rows = images.iter().map(|image| Row { before: None, after: Some(image.to_vec()) }).collect();
        Self { table: map.id, second, change: Change::Write, left_out: left_out.clone(), rows }
    }

    pub(super) fn is_second(&self) -> bool {
        self.second
    }

    /// Kind and body of the event. It is a statement of its own, and no foreign key is looked at.
    pub(super) fn encode(&self, columns: usize) -> (u8, Vec<u8>) {
        use kind::*;
        let kind = match (self.change, self.second) {
            (Change::Write, false) => WRITE_ROWS_1,
            (Change::Update, false) => UPDATE_ROWS_1,
            (Change::Delete, false) => DELETE_ROWS_1,
            (Change::Write, true) => WRITE_ROWS,
            (Change::Update, true) => UPDATE_ROWS,
            (Change::Delete, true) => DELETE_ROWS,
        };
        let mut body = self.table.to_le_bytes()[..6].to_vec();
        body.extend((ENDS_STATEMENT | NO_FOREIGN_KEYS).to_le_bytes());
        if self.second {
            body.extend(2_u16.to_le_bytes());
        }
        body.extend(packed(columns));
        let mut which = bits(&(0..columns).map(|index| !self.left_out.contains(&index)).collect::<Vec<_>>());
        if let (Some(last), 1..) = (which.last_mut(), columns % 8) {
            *last &= (1 << (columns % 8)) - 1;
        }
        for _ in 0..if self.change == Change::Update { 2 } else { 1 } {
            body.extend(&which);
        }
        for row in &self.rows {
            body.extend(row.before.iter().chain(&row.after).flatten());
        }
        (kind, body)
    }
}

impl TableMap {
    /// How many columns.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// Whether it is the same table with the same columns, whatever its number is.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.table == other.table && self.body.get(8..) == other.body.get(8..)
    }
}
