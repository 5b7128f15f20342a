//! Taking a tail back on a server: asking what the log does not say, comparing, and the one transaction that does it.
//!
//! The server is closed and follows nobody; whoever calls sees to that. Nothing of this is logged. What is ours is in a schema of its own, which
//! `finish` removes: a row that is committed with the rows that are taken back, so that whoever comes after a crash knows whether they are, and
//! tables of the rows that the tail touches, so that the server itself compares them, and says them in the words in which another one is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::log::Tail;
use super::plan::{Images, Plan, Touches};
use super::refusal::Refusal;
use super::rows::Table;
use crate::dialect::quoted;
use crate::engine::fault_point;

/// The schema that is ours while a tail is taken back.
pub const SCHEMA: &str = "systole_rewind";
/// How many rows are asked for with one statement.
const ROWS_AT_ONCE: usize = 200;

/// A connection of an administrator. What is asked for comes by column name in lower case, NULL as nothing.
pub trait Session {
    /// # Errors
    /// What the server says.
    fn rows(&mut self, sql: &str) -> Result<Vec<BTreeMap<String, String>>, String>;
}

/// Which words a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// MySQL and Percona Server.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// How rows of one table are compared with those of another server: statements that both are asked, whose answers are equal when the rows are.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Touched {
    /// `schema.table`, for a sentence.
    pub table: String,
    /// Each answers with rows of the column `d`, in their order.
    pub statements: Vec<String>,
}

/// What an operator would have to know of a rewind that was carried out, or begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is nothing of it.
    Nothing,
    /// It was begun, and nothing is taken back.
    Begun,
    /// All is taken back.
    Committed {
        /// What the GTID state has to be set to.
        common: String,
        /// The transactions that were taken back, by their names, with commas between them.
        tail: String,
    },
}

/// A column, as the server describes it.
struct Column {
    name: String,
    kind: String,
    charset: String,
}

/// A table, as the server describes it.
struct Described {
    columns: Vec<Column>,
    /// The columns of the key that tells its rows apart, and its name; none if there is none.
    key: Vec<String>,
    key_name: String,
}

/// Asks. The error of the server is the refusal's.
fn ask(session: &mut impl Session, what: &str, sql: &str) -> Result<Vec<BTreeMap<String, String>>, Refusal> {
    session.rows(sql).map_err(|words| Refusal::Failed(what.to_owned(), words))
}

fn value(row: &BTreeMap<String, String>, name: &str) -> String {
    row.get(name).cloned().unwrap_or_default()
}

/// A name as it stands in a statement.
fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn full_name(table: &Table) -> String {
    format!("{}.{}", identifier(&table.schema), identifier(&table.name))
}

/// What the server must be set to, so that rows are applied as they stand in the log: name, value.
pub(crate) const SETTINGS: [(&str, &str); 3] =
    [("replica_exec_mode", "STRICT"), ("slave_exec_mode", "STRICT"), ("slave_run_triggers_for_rbr", "NO")];

/// Whether what the log cannot say allows a rewind: settings, engines, foreign keys. Asked of any server with these tables.
///
/// # Errors
/// What does not allow it.
pub fn check(session: &mut impl Session, plan: &Plan) -> Result<(), Refusal> {
    quiet(session)?;
    let names: Vec<String> = SETTINGS.iter().map(|(name, _)| quoted(name)).collect();
    for row in ask(session, "settings", &format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", names.join(",")))? {
        let (name, is) = (value(&row, "variable_name"), value(&row, "value"));
        let should = SETTINGS.iter().find(|(known, _)| *known == name).map_or("", |(_, should)| should);
        if !is.eq_ignore_ascii_case(should) {
            return Err(Refusal::Setting(name, is, should.to_owned()));
        }
    }
    plan.tables.iter().try_for_each(|touches| check_table(session, touches))
}

fn check_table(session: &mut impl Session, touches: &Touches) -> Result<(), Refusal> {
    let (table, shown) = (&touches.table, touches.table.to_string());
    let sql = format!(
        "SELECT table_type AS kind, COALESCE(engine, '') AS engine FROM information_schema.tables WHERE table_schema={} AND table_name={}",
        quoted(&table.schema),
        quoted(&table.name)
    );
    let rows = ask(session, &shown, &sql)?;
    let Some(row) = rows.first() else { return Err(Refusal::NoTable(shown)) };
    let (kind, engine) = (value(row, "kind"), value(row, "engine"));
    if kind != "BASE TABLE" {
        return Err(Refusal::Kind(shown, kind.to_lowercase()));
    }
    if engine != "InnoDB" {
        return Err(Refusal::Engine(shown, engine));
    }
    if !touches.left_out.is_empty() {
        // What is computed from the others the server computes once more.
        let sql = format!(
            "SELECT ordinal_position AS p FROM information_schema.columns WHERE table_schema={} AND table_name={} AND \
             (extra LIKE '%VIRTUAL GENERATED%' OR extra LIKE '%STORED GENERATED%')",
            quoted(&table.schema),
            quoted(&table.name)
        );
        let place = |row: &BTreeMap<_, _>| value(row, "p").parse::<usize>().ok()?.checked_sub(1);
        let computed: BTreeSet<usize> = ask(session, &shown, &sql)?.iter().filter_map(place).collect();
        if !touches.left_out.is_subset(&computed) {
            return Err(Refusal::PartialImage(shown));
        }
    }
    if !touches.changed {
        return Ok(());
    }
    let sql = format!(
        "SELECT constraint_schema AS s, table_name AS t FROM information_schema.referential_constraints WHERE unique_constraint_schema={} AND \
         referenced_table_name={} AND (delete_rule NOT IN ('RESTRICT','NO ACTION') OR update_rule NOT IN ('RESTRICT','NO ACTION'))",
        quoted(&table.schema),
        quoted(&table.name)
    );
    match ask(session, &shown, &sql)?.first() {
        Some(row) => Err(Refusal::Cascades(shown, format!("{}.{}", value(row, "s"), value(row, "t")))),
        None => Ok(()),
    }
}

/// How far a rewind came that was begun here. The session keeps a lock of the server's: while another one may still be taking something back,
/// nobody can say it, and nobody begins. One that was left by its client goes on until its statement has ended.
///
/// # Errors
/// When the server does not say, or another session is still at it.
pub fn progress(session: &mut impl Session) -> Result<Progress, Refusal> {
    let alone = ask(session, SCHEMA, &format!("SELECT GET_LOCK('{SCHEMA}', {ALONE_S}) AS alone"))?;
    if alone.first().map(|row| value(row, "alone")).as_deref() != Some("1") {
        return Err(Refusal::Failed("another session".into(), "it has not ended what it takes back".into()));
    }
    let sql = format!("SELECT 1 AS one FROM information_schema.tables WHERE table_schema='{SCHEMA}' AND table_name='marker'");
    if ask(session, SCHEMA, &sql)?.is_empty() {
        let schema = ask(session, SCHEMA, &format!("SELECT 1 AS one FROM information_schema.schemata WHERE schema_name='{SCHEMA}'"))?;
        return Ok(if schema.is_empty() { Progress::Nothing } else { Progress::Begun });
    }
    // By these names: a list of transactions may be longer than any other value.
    let rows = ask(session, SCHEMA, &format!("SELECT common AS common_gtids, tail AS tail_gtids FROM {SCHEMA}.marker"))?;
    Ok(rows
        .first()
        .map_or(Progress::Begun, |row| Progress::Committed { common: value(row, "common_gtids"), tail: value(row, "tail_gtids") }))
}

/// Makes what is ours, and compares the rows that the tail touched with those in the log. Returns how the rows are compared with another server's
/// when this one has caught up. Nothing of the data is changed; [`abandon`] removes what was made.
///
/// # Errors
/// Why nothing may be taken back; what was made may still be there.
pub fn prepare(session: &mut impl Session, plan: &Plan) -> Result<Vec<Touched>, Refusal> {
    quiet(session)?;
    let own = |session: &mut _, sql: &str| ask(session, SCHEMA, sql).map(drop);
    own(session, &format!("DROP DATABASE IF EXISTS {SCHEMA}"))?;
    own(session, &format!("CREATE DATABASE {SCHEMA} CHARACTER SET utf8"))?;
    own(
        session,
        &format!("CREATE TABLE {SCHEMA}.marker (id INT PRIMARY KEY, tail LONGTEXT NOT NULL, common LONGTEXT NOT NULL) ENGINE=InnoDB"),
    )?;
    describe_format(session, plan)?;
    let mut touched = Vec::new();
    for (number, touches) in plan.tables.iter().enumerate() {
        let table = describe(session, &touches.table)?;
        if touches.columns() != table.columns.len() {
            return Err(Refusal::Differs(touches.table.to_string()));
        }
        let copies = [("now", Images::Now), ("before", Images::Before)];
        let copies = copies.map(|(name, which)| (Table { schema: SCHEMA.to_owned(), name: format!("{name}_{number}") }, which));
        for (copy, which) in &copies {
            let what = touches.table.to_string();
            ask(session, &what, &format!("CREATE TABLE {} LIKE {}", full_name(copy), full_name(&touches.table)))?;
            for statement in plan.write(touches, *which, copy)? {
                ask(session, &what, &statement)?;
            }
        }
        let [(now, _), (before, _)] = &copies;
        table.compare(session, touches, now)?;
        touched.push(table.touched(session, &touches.table, &[now, before])?);
    }
    Ok(touched)
}

/// Takes the tail back, in one transaction that is not logged. Then [`finish`].
///
/// # Errors
/// Why nothing was taken back. If the connection ended meanwhile, [`progress`] says whether it was.
pub fn take_back(session: &mut impl Session, plan: &Plan, common: &str) -> Result<(), Refusal> {
    quiet(session)?;
    describe_format(session, plan)?;
    let begin = |session: &mut _, sql: &str| ask(session, "the transaction", sql).map(drop);
    begin(session, "BEGIN")?;
    let taken = plan.statements.iter().try_for_each(|inverse| match session.rows(&inverse.sql) {
        Ok(_) => Ok(()),
        Err(words) => Err(Refusal::Failed(inverse.table.to_string(), words)),
    });
    let marker = format!("INSERT INTO {SCHEMA}.marker VALUES (1, {}, {})", quoted(&plan.gtids.join(",")), quoted(common));
    let marked = taken.and_then(|()| begin(session, &marker));
    match marked {
        Ok(()) => begin(session, "COMMIT"),
        Err(refusal) => {
            // Where the connection is gone, the server does it by itself.
            let _ = session.rows("ROLLBACK");
            Err(refusal)
        }
    }
}

/// Where the others and this server part: what it holds without the tail. If the others do not hold all of that, the tail is not all that they
/// do not hold, and nothing may be taken back.
///
/// # Errors
/// When the server does not say, or of MariaDB nobody can know any more.
pub fn common_point(session: &mut impl Session, family: Family, tail: &Tail) -> Result<String, Refusal> {
    let gtids: Vec<&str> = tail.gtids().collect();
    if family == Family::MariaDb {
        let rows = ask(session, "the GTID state", "SELECT @@global.gtid_slave_pos AS gtids")?;
        return tail.position_with(&rows.first().map(|row| value(row, "gtids")).unwrap_or_default());
    }
    let sql = format!("SELECT GTID_SUBTRACT(@@global.gtid_executed, {}) AS gtids", quoted(&gtids.join(",")));
    let rows = ask(session, "the GTID state", &sql)?;
    Ok(rows.first().map(|row| value(row, "gtids").replace('\n', "")).unwrap_or_default())
}

/// After [`take_back`], and again after a crash: forgets the transactions that are taken back, and with them the binary log, which ends in them.
/// May be repeated until it succeeds.
///
/// # Errors
/// What the server says.
pub fn finish(session: &mut impl Session, family: Family, common: &str) -> Result<(), Refusal> {
    quiet(session)?;
    // The log is about to be forgotten. A server that keeps a commit for a second before it writes it could lose it after that, also one that
    // somebody committed who was killed behind it.
    ask(session, "the transaction", "FLUSH LOCAL ENGINE LOGS")?;
    let (reset, known) = match family {
        Family::MariaDb => ("RESET MASTER", "gtid_slave_pos"),
        Family::MySql => ("RESET BINARY LOGS AND GTIDS", "gtid_purged"),
    };
    let forgotten = match session.rows(reset) {
        // The words before 8.4.
        Err(words) if words.contains(SYNTAX) => session.rows("RESET MASTER"),
        other => other,
    };
    forgotten.map_err(|words| Refusal::Failed("the GTID state".into(), words))?;
    fault_point("rewind-forgotten");
    ask(session, "the GTID state", &format!("SET GLOBAL {known}={}", quoted(common)))?;
    abandon(session)
}

/// How long a session waits for another one to end, seconds.
const ALONE_S: u32 = 3;
/// The number of the error that says that a server does not know the words.
const SYNTAX: &str = "1064";

/// Removes what is ours.
///
/// # Errors
/// What the server says.
pub fn abandon(session: &mut impl Session) -> Result<(), Refusal> {
    quiet(session)?;
    ask(session, SCHEMA, &format!("DROP DATABASE IF EXISTS {SCHEMA}")).map(drop)
}

/// Nothing of what this session does is logged, and it means the same whatever the server is set to.
fn quiet(session: &mut impl Session) -> Result<(), Refusal> {
    for sql in ["SET SESSION autocommit=1", "SET SESSION sql_log_bin=0", "SET SESSION sql_mode=''", "SET SESSION time_zone='+00:00'"] {
        ask(session, "the session", sql)?;
    }
    // A table without a key is copied as it is.
    set_if_known(session, "sql_require_primary_key", "0")
}

fn set_if_known(session: &mut impl Session, name: &str, to: &str) -> Result<(), Refusal> {
    if ask(session, "the session", &format!("SHOW SESSION VARIABLES LIKE '{name}'"))?.is_empty() {
        return Ok(());
    }
    ask(session, "the session", &format!("SET SESSION {name}={to}")).map(drop)
}

/// Tells a session how to read the events that come.
fn describe_format(session: &mut impl Session, plan: &Plan) -> Result<(), Refusal> {
    let Some(description) = plan.describe() else { return Ok(()) };
    ask(session, "the format of the log", &description)?;
    // MySQL expects the name of a transaction now, as in a log. There is none for what is not logged.
    set_if_known(session, "gtid_next", "'AUTOMATIC'")
}

fn describe(session: &mut impl Session, table: &Table) -> Result<Described, Refusal> {
    let (schema, name, shown) = (quoted(&table.schema), quoted(&table.name), table.to_string());
    let sql = format!(
        "SELECT column_name AS n, data_type AS k, COALESCE(character_set_name, '') AS c FROM information_schema.columns WHERE \
         table_schema={schema} AND table_name={name} ORDER BY ordinal_position"
    );
    let column = |row: &BTreeMap<_, _>| Column { name: value(row, "n"), kind: value(row, "k").to_lowercase(), charset: value(row, "c") };
    let columns = ask(session, &shown, &sql)?.iter().map(column).collect();
    let sql = format!(
        "SELECT index_name AS i, COALESCE(column_name, '') AS c, nullable AS n FROM information_schema.statistics WHERE table_schema={schema} AND \
         table_name={name} AND non_unique=0 ORDER BY index_name<>'PRIMARY', index_name, seq_in_index"
    );
    let mut keys: Vec<(String, bool, Vec<String>)> = Vec::new();
    for row in ask(session, &shown, &sql)? {
        let (index, column, nullable) = (value(&row, "i"), value(&row, "c"), value(&row, "n") == "YES");
        // A key of an expression names no column.
        let unfit = nullable || column.is_empty();
        match keys.last_mut() {
            Some((last, bad, columns)) if *last == index => {
                *bad |= unfit;
                columns.push(column);
            }
            _ => keys.push((index, unfit, vec![column])),
        }
    }
    match keys.iter().find(|(_, unfit, _)| !unfit) {
        Some((index, _, key)) => Ok(Described { columns, key: key.clone(), key_name: index.clone() }),
        // The server finds a row by such a key, and looks at nothing else.
        None if !keys.is_empty() => Err(Refusal::NoKey(shown)),
        None => Ok(Described { columns, key: vec![], key_name: String::new() }),
    }
}

impl Column {
    /// The value of a column of the table `of`, as text that is the same for the same value, and another for another.
    fn text(&self, of: &str) -> String {
        let name = format!("{of}.{}", identifier(&self.name));
        let text = match self.kind.as_str() {
            // As text a FLOAT has six digits.
            "float" | "double" => format!("CAST({name}+0e0 AS CHAR)"),
            "bit" => format!("CAST({name}+0 AS CHAR)"),
            "json" => format!("SHA2(CAST({name} AS CHAR),256)"),
            _ if !self.charset.is_empty() => format!("SHA2({name},256)"),
            kind if is_plain(kind) => format!("CAST({name} AS CHAR)"),
            _ => format!("SHA2(HEX({name}),256)"),
        };
        format!("COALESCE({text},'-')")
    }

    /// An expression whose value is how this column's value is written in a statement.
    fn literal(&self) -> String {
        let name = identifier(&self.name);
        match self.kind.as_str() {
            "float" | "double" => format!("CAST({name}+0e0 AS CHAR)"),
            "bit" => format!("CAST({name}+0 AS CHAR)"),
            _ if !self.charset.is_empty() => format!("CONCAT('_{} X''',HEX({name}),'''')", self.charset),
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year" => format!("CAST({name} AS CHAR)"),
            kind if is_plain(kind) || matches!(kind, "uuid" | "inet6" | "inet4") => format!("QUOTE({name})"),
            _ => format!("CONCAT('X''',HEX({name}),'''')"),
        }
    }
}

/// Types whose text says all.
fn is_plain(kind: &str) -> bool {
    matches!(
        kind,
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "date" | "time" | "datetime" | "timestamp" | "year"
    )
}

impl Described {
    /// A row of the table `of` as one text.
    fn digest(&self, of: &str) -> String {
        let texts: Vec<String> = self.columns.iter().map(|column| column.text(of)).collect();
        format!("SHA2(CONCAT_WS(',',{}),256)", texts.join(","))
    }

    /// Whether the rows that the log ends with are there. The server finds a row by its key and looks at nothing else; where there is no key, it
    /// compares all itself.
    fn compare(&self, session: &mut impl Session, touches: &Touches, now: &Table) -> Result<(), Refusal> {
        if self.key.is_empty() || touches.rows_now() == 0 {
            return Ok(());
        }
        let same: Vec<String> = self.key.iter().map(|name| format!("a.{0}=b.{0}", identifier(name))).collect();
        let sql = format!(
            "SELECT COUNT(*) AS n FROM {} a STRAIGHT_JOIN {} b FORCE INDEX ({}) ON {} WHERE {}={}",
            full_name(now),
            full_name(&touches.table),
            identifier(&self.key_name),
            same.join(" AND "),
            self.digest("a"),
            self.digest("b")
        );
        let rows = ask(session, &touches.table.to_string(), &sql)?;
        if rows.first().map(|row| value(row, "n")) == Some(touches.rows_now().to_string()) {
            return Ok(());
        }
        Err(Refusal::Differs(touches.table.to_string()))
    }

    /// What another server is asked, so that its rows can be compared: those of the keys in `copies`, or without a key those that are the same.
    fn touched(&self, session: &mut impl Session, table: &Table, copies: &[&Table]) -> Result<Touched, Refusal> {
        let wanted = if self.key.is_empty() {
            self.digest("x")
        } else {
            let literal = |name: &String| {
                let column = self.columns.iter().find(|column| column.name == *name);
                format!("'x.{}=',{}", identifier(name).replace('\'', "''"), column.map_or_else(|| "NULL".to_owned(), Column::literal))
            };
            let parts: Vec<String> = self.key.iter().map(literal).collect();
            format!("CONCAT({})", parts.join(",' AND ',"))
        };
        let mut all = BTreeSet::new();
        for copy in copies {
            let rows = ask(session, &table.to_string(), &format!("SELECT {wanted} AS w FROM {} x", full_name(copy)))?;
            all.extend(rows.iter().map(|row| value(row, "w")));
        }
        let all: Vec<String> = all.into_iter().collect();
        let (digest, name) = (self.digest("x"), full_name(table));
        let statements = all.chunks(ROWS_AT_ONCE).map(|some| {
            if self.key.is_empty() {
                let some: Vec<String> = some.iter().map(|one| quoted(one)).collect();
                // One line for all that are equal: there may be millions.
                return format!(
                    "SELECT CONCAT(e,' ',COUNT(*)) AS d FROM (SELECT {digest} AS e FROM {name} x) y WHERE e IN ({}) GROUP BY e ORDER BY e",
                    some.join(",")
                );
            }
            let mut sql = format!("SELECT {digest} AS d FROM {name} x WHERE");
            for (number, one) in some.iter().enumerate() {
                let _ = write!(sql, "{} ({one})", if number == 0 { "" } else { " OR" });
            }
            sql + " ORDER BY d"
        });
        Ok(Touched { table: table.to_string(), statements: statements.collect() })
    }
}

/// What a session says of the rows that were touched: equal texts are equal rows, if the character set and the time zone of both sessions are
/// those that this sets.
///
/// # Errors
/// What the server says.
pub fn fingerprint(session: &mut impl Session, touched: &Touched) -> Result<String, Refusal> {
    for sql in ["SET SESSION sql_mode=''", "SET SESSION time_zone='+00:00'"] {
        ask(session, "the session", sql)?;
    }
    // Sooner than it is given up: the server ends the statement and says so. A connection that is given up leaves it running. Of a SELECT, in
    // milliseconds with MySQL and in seconds with MariaDB.
    set_if_known(session, "max_execution_time", "540000")?;
    set_if_known(session, "max_statement_time", "540")?;
    let mut all = String::new();
    for sql in &touched.statements {
        for row in ask(session, &touched.table, sql)? {
            all.push_str(&value(&row, "d"));
            all.push('\n');
        }
    }
    Ok(all)
}
