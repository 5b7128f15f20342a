//! Why a tail is not taken back.

use std::fmt;

/// Why a tail cannot be taken back exactly. Each is one sentence for an operator; a copy of the primary's data is the way that remains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A statement that changes tables, accounts or the like: its first words.
    Ddl(String),
    /// Rows were changed by a statement that the log holds instead of them: its first word.
    Statement(String),
    /// An event holds some columns of a row only: the table.
    PartialImage(String),
    /// An event holds changes of a JSON document instead of the document.
    PartialJson,
    /// A distributed transaction.
    Xa,
    /// The server has noted that something is missing.
    Incident,
    /// LOAD DATA, logged as a statement.
    LoadData,
    /// No key of the table tells its rows apart and the server may not look at all columns: the table.
    NoKey(String),
    /// Rows of other tables were changed with this table's, and are not in the log: the table, and the one that refers to it.
    Cascades(String, String),
    /// The table's engine takes nothing back: the table, the engine.
    Engine(String, String),
    /// It is no table with rows that can be changed (a sequence, a view): the table, and what it is.
    Kind(String, String),
    /// The table is not there: the table.
    NoTable(String),
    /// More than is allowed: how much, of what.
    TooLong(usize, &'static str),
    /// More rows than one transaction is to put back: how many, how many may be.
    TooManyRows(usize, usize),
    /// Something that the primary has stands behind something that it does not have: the former.
    Gap(String),
    /// The log is encrypted: the file.
    Encrypted(String),
    /// The log cannot be read: the file, and what is wrong.
    Damaged(String, String),
    /// An event of a kind that is not known here.
    Unknown(u8),
    /// A row is not in the table as the log says: the table.
    Differs(String),
    /// A setting changes how rows are applied: its name, what it is, what it has to be.
    Setting(String, String, String),
    /// The server, or the file system, refused: what, and its words.
    Failed(String, String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ddl(words) => write!(f, "{words} is among the transactions, which cannot be taken back"),
            Self::Statement(word) => write!(f, "{word} was logged as a statement and not as rows: set binlog_format=ROW"),
            Self::PartialImage(table) => {
                write!(f, "the log holds some columns only of rows of {table}: set binlog_row_image=FULL")
            }
            Self::PartialJson => write!(f, "the log holds parts of JSON documents: set binlog_row_value_options=''"),
            Self::Xa => write!(f, "a distributed transaction (XA) is among the transactions"),
            Self::Incident => write!(f, "the server noted in its log that something is missing there (an incident)"),
            Self::LoadData => write!(f, "LOAD DATA was logged as a statement and not as rows: set binlog_format=ROW"),
            Self::NoKey(table) => write!(f, "{table} has no key that tells its rows apart: give it a primary key"),
            Self::Cascades(table, by) => {
                write!(f, "rows of {by} may have changed with those of {table} (foreign key that cascades), and the log does not say so")
            }
            Self::Engine(table, engine) => write!(f, "{table} is in {engine}, which takes nothing back: ALTER TABLE ... ENGINE=InnoDB"),
            Self::Kind(table, kind) => write!(f, "{table} is no plain table ({kind})"),
            Self::NoTable(table) => write!(f, "{table} is in the log and not in the database"),
            Self::TooLong(most, what) => write!(f, "more than {most} {what} would have to be taken back"),
            Self::TooManyRows(rows, most) => {
                write!(f, "{rows} rows would have to be taken back, and rewind_rows allows {most}: raise it, or set rejoin=clone")
            }
            Self::Gap(gtid) => write!(f, "{gtid}, which the primary has, stands behind what it does not have"),
            Self::Encrypted(file) => write!(f, "the binary log {file} is encrypted"),
            Self::Damaged(file, what) => write!(f, "the binary log {file} cannot be read: {what}"),
            Self::Unknown(kind) => write!(f, "the log holds an event of kind {kind}, which is not known here"),
            Self::Differs(table) => write!(f, "a row of {table} is not as the log says: somebody changed it without a log"),
            Self::Setting(name, is, should) => write!(f, "{name} is {is}: set it to {should}"),
            Self::Failed(what, words) => write!(f, "{what}: {words}"),
        }
    }
}

/// What is shown of a statement: its first words, letters only, since the rest may be data.
pub(super) fn first_words(statement: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(&statement[..statement.len().min(200)]).into_owned();
    let words = text.split_whitespace().take_while(|word| word.chars().all(|c| c.is_ascii_alphabetic()));
    let shown: Vec<String> = words.take(most).map(str::to_uppercase).collect();
    if shown.is_empty() { "a statement".to_owned() } else { shown.join(" ") }
}
