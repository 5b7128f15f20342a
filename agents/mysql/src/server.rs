//! The running server: one connection over the Unix socket, and what is done through it. The words are `dialect`'s.
//!
//! Every call has a time limit. After one that was not answered in time the connection is of no more use: an answer that
//! came later would be taken for that of the next question.

mod elsewhere;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, Value};
use ocf::{Deadline, Secret};
use process::Account;
use promotable::Login;
use tokio::runtime::Runtime;

use crate::dialect::{Dialect, Row, Source, is_client, probe, waits_for_a_lock, waits_for_acknowledgement};
use crate::gtid::Gtids;
use crate::limits;
use crate::observation::{Observation, Replica};
use crate::privileges::Granted;

/// Why the server did not answer as asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// Nothing listens on the socket.
    Absent(String),
    /// It listens, and said nothing in time.
    Silent(String),
    /// The connection ended before the answer.
    Broken(String),
    /// It has no connection left, not even the reserved one: alive, but closed to us.
    Engaged(String),
    /// The login or the statement was refused.
    Denied(String),
    /// It answered with an error that has this number.
    Error(u16, String),
    /// It answered with something else than it should, or nothing can be asked.
    Refused(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Absent(text)
        | Self::Silent(text)
        | Self::Broken(text)
        | Self::Engaged(text)
        | Self::Denied(text)
        | Self::Error(_, text)
        | Self::Refused(text)) = self;
        f.write_str(text)
    }
}

/// Pacemaker bans a node for a missing permission. A server that runs must not be lost for that.
impl From<Fault> for ocf::Failure {
    fn from(fault: Fault) -> Self {
        Self::generic(fault.to_string())
    }
}

/// The step of a backup of MariaDB that waits until no commit is under way, and keeps others from beginning.
pub(crate) const LAST_OF_BACKUP: &str = "BACKUP STAGE BLOCK_COMMIT";

/// A replica as its source lists it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attached {
    /// What it reports as its name: our servers report their node's. Empty when it reports none.
    pub(crate) host: String,
    pub(crate) server_id: String,
}

/// How semi-synchronous replication stands on a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SemiSyncStatus {
    /// Replicas that are connected and acknowledge.
    pub(crate) acknowledging: usize,
    /// Sessions that wait for one.
    pub(crate) waiting: u64,
    /// Commits really wait: it is switched on, and has not given up.
    pub(crate) active: bool,
}

/// Directories and beginnings of file names (`..._basename`), by the variable.
pub(crate) type Places = BTreeMap<String, PathBuf>;

/// Errors of the server that say that nothing is left to do: the function, or the plugin, is there already.
const FUNCTION_EXISTS: u16 = 1125;
const PLUGIN_INSTALLED: u16 = 1968;
/// The session has ended by itself, or is an administrator's.
const NO_SUCH_THREAD: u16 = 1094;
const KILL_DENIED: u16 = 1095;
/// A clone is complete, and the server cannot restart itself.
pub(crate) const CLONED_AND_ENDS: u16 = 3707;

/// More than all that is asked for: the sessions of a server with 65,535 connections have less. A server that was broken into may go on for
/// ever. Bytes, names of columns included.
const LONGEST_ANSWER: usize = 64 << 20;
/// More than any name, number, list of filters or text of an error, which are remembered, shown and told to others; sets of transactions have
/// more. Bytes.
const LONGEST_VALUE: usize = 64 << 10;
/// What it costs to keep a value and its name, however short. Bytes.
const OF_A_VALUE: usize = 64;

/// A connection.
pub(crate) struct Server {
    runtime: Runtime,
    conn: Option<Conn>,
    limit: Duration,
    /// When the action must have answered.
    deadline: Option<Deadline>,
    dialect: Dialect,
    user: String,
}

impl Server {
    /// Connects and logs in, where `account` may connect: the path is in a directory of that account, and what is said here is said by root.
    /// `known`: the dialect that this process of the server was found to speak before.
    ///
    /// # Errors
    /// Why it cannot be talked to.
    pub(crate) fn connect(
        socket: &Path,
        account: &Account,
        login: &Login,
        known: Option<&Dialect>,
        limit: Duration,
    ) -> Result<Self, Fault> {
        let runtime = runtime()?;
        // What the driver would otherwise ask the server for, statement by statement.
        let options = OptsBuilder::default()
            .socket(Some(socket.to_string_lossy()))
            .user(Some(&login.user))
            .pass(login.password.as_ref().map(Secret::expose))
            .prefer_socket(false)
            .max_allowed_packet(Some(16 * 1024 * 1024))
            .wait_timeout(Some(60))
            .stmt_cache_size(0);
        let begin = Instant::now();
        let connecting = async {
            tokio::time::timeout(limit, async {
                loop {
                    match Conn::new(options.clone()).await {
                        Err(Error::Io(mysql_async::IoError::Io(e))) if is_crowded(&e) => tokio::time::sleep(limits::ELBOWING).await,
                        other => return other,
                    }
                }
            })
            .await
        };
        // The runtime has one thread, this one. Who we are for the server stays.
        let conn = account.act(|_| Ok(runtime.block_on(connecting))).map_err(|e| Fault::Denied(e.to_string()))?;
        let conn = match conn {
            Ok(Ok(conn)) => conn,
            Ok(Err(error)) => return Err(fault_of(&error, socket, &account.name, &login.user)),
            Err(_) => {
                return Err(Fault::Silent(format!("no greeting on {} in {} ms", socket.display(), begin.elapsed().as_millis())));
            }
        };
        let mut server = Self {
            runtime,
            conn: Some(conn),
            limit,
            deadline: None,
            dialect: known.cloned().unwrap_or_else(Dialect::unknown),
            user: login.user.clone(),
        };
        if known.is_none() {
            server.limit = limit.saturating_sub(begin.elapsed());
            server.probe()?;
            server.limit = limit;
        }
        Ok(server)
    }

    /// Bounds the statements by the end of the action: each may take half of what is left, so that something can still be done after one that
    /// is not answered.
    pub(crate) fn answering_by(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// What [`Self::observe`] does, with all that is asked for in this time.
    pub(crate) fn observe_within(&mut self, limit: Duration) -> Result<Observation, Fault> {
        let until = Instant::now() + limit;
        let usual = std::mem::replace(&mut self.limit, limit);
        let rows = self.rows(&self.dialect.observe());
        self.limit = until.saturating_duration_since(Instant::now());
        let seen = rows.and_then(|rows| {
            let replica = self.replica()?;
            let row = rows.into_iter().next().unwrap_or_default();
            Observation::of(&self.dialect, row, replica).map_err(Fault::Refused)
        });
        self.limit = usual;
        seen
    }

    /// How this server is spoken to.
    pub(crate) fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    fn probe(&mut self) -> Result<(), Fault> {
        let rows = self.rows(&probe())?;
        self.dialect = Dialect::of(&rows)
            .ok_or_else(|| Fault::Refused("the server has no GTIDs: MySQL 5.6 or newer, or MariaDB 10.2 or newer, is needed".into()))?;
        Ok(())
    }

    /// Runs a statement and returns its rows.
    pub(crate) fn rows(&mut self, sql: &str) -> Result<Vec<Row>, Fault> {
        self.rows_within(sql, self.limit)
    }

    /// What the account of this connection was granted.
    pub(crate) fn granted(&mut self) -> Result<Granted, Fault> {
        let lines: Vec<String> = self.rows("SHOW GRANTS")?.into_iter().flat_map(Row::into_values).collect();
        Ok(Granted::of(lines.iter().map(String::as_str)))
    }

    /// The same as [`Self::rows`] within another limit.
    pub(crate) fn rows_within(&mut self, sql: &str, limit: Duration) -> Result<Vec<Row>, Fault> {
        let Some(conn) = self.conn.as_mut() else { return Err(Fault::Silent("the connection was given up".into())) };
        let limit = self.deadline.map_or(limit, |deadline| limits::step(limit, deadline.left()));
        let answer = self.runtime.block_on(async { tokio::time::timeout(limit, bounded(conn, sql)).await });
        match answer {
            Ok(Ok(Ok(rows))) => Ok(rows),
            Ok(Ok(Err(what))) => {
                self.conn = None;
                Err(Fault::Refused(format!("{what} in the answer to {}: no MySQL or MariaDB has that much; look into its log", head(sql))))
            }
            Ok(Err(error)) => {
                if !matches!(error, Error::Server(_)) {
                    self.conn = None;
                }
                Err(match &error {
                    Error::Server(e) => refusal(e.code, &e.message, &self.user),
                    other => Fault::Broken(format!("the connection broke: {other}")),
                })
            }
            Err(_) => {
                self.conn = None;
                Err(Fault::Silent(format!("no answer in {} ms to {}", limit.as_millis(), head(sql))))
            }
        }
    }

    /// The same for a statement that this server may not have.
    pub(crate) fn rows_of(&mut self, sql: Option<&str>) -> Result<Vec<Row>, Fault> {
        sql.map_or_else(|| Ok(vec![]), |sql| self.rows(sql))
    }

    /// Runs a statement that answers nothing.
    pub(crate) fn run(&mut self, sql: &str) -> Result<(), Fault> {
        self.rows(sql).map(drop)
    }

    /// The same with another limit.
    pub(crate) fn run_within(&mut self, sql: &str, limit: Duration) -> Result<(), Fault> {
        self.rows_within(sql, limit).map(drop)
    }

    /// All that the agent wants to know, in two statements.
    pub(crate) fn observe(&mut self) -> Result<Observation, Fault> {
        self.observe_within(self.limit)
    }

    /// How its replication stands; `None` when it follows nobody.
    pub(crate) fn replica(&mut self) -> Result<Option<Replica>, Fault> {
        let rows = self.rows(self.dialect.replica_status())?;
        Replica::of(&self.dialect, &rows).map_err(Fault::Refused)
    }

    /// The transactions that it has in its own log.
    pub(crate) fn executed(&mut self) -> Result<Gtids, Fault> {
        let rows = self.rows(self.dialect.executed())?;
        crate::observation::executed(&self.dialect, &rows.into_iter().next().unwrap_or_default()).map_err(Fault::Refused)
    }

    /// All that is in its log, commits that wait for an acknowledgement included.
    pub(crate) fn logged(&mut self) -> Result<Gtids, Fault> {
        let rows = self.rows(self.dialect.logged())?;
        crate::observation::logged(&self.dialect, &rows.into_iter().next().unwrap_or_default()).map_err(Fault::Refused)
    }

    /// Points it at a source. The password never appears in an error.
    pub(crate) fn follow(&mut self, source: &Source<'_>) -> Result<(), Fault> {
        self.run("SET SESSION sql_mode=''")?;
        for statement in self.dialect.follow(source) {
            self.run(&statement).map_err(|fault| {
                let hide = |text: String| without_secret(text, source.password);
                match fault {
                    Fault::Error(code, text) => Fault::Error(code, hide(text)),
                    Fault::Refused(text) => Fault::Refused(hide(text)),
                    Fault::Denied(text) => Fault::Denied(hide(text)),
                    other => other,
                }
            })?;
        }
        Ok(())
    }

    /// Runs several statements.
    pub(crate) fn run_all<S: AsRef<str>>(&mut self, statements: impl IntoIterator<Item = S>) -> Result<(), Fault> {
        statements.into_iter().try_for_each(|statement| self.run(statement.as_ref()))
    }

    /// Loads the plugins that acknowledgements need, if they are missing and the server has them.
    pub(crate) fn load_semi_sync(&mut self, account: &Account) -> Result<(), Fault> {
        let directory = self.dialect.plugin_directory.clone();
        let is_there = |library: &str| account.act(|files| files.exists(&Path::new(&directory).join(library))).unwrap_or(false);
        let statements = self.dialect.load_semi_sync(is_there);
        if statements.is_empty() {
            return Ok(());
        }
        self.install(&statements)?;
        self.probe()
    }

    /// Installs plugins. They are listed in a table, which super_read_only protects from everybody; read_only stays.
    pub(crate) fn install(&mut self, statements: &[&str]) -> Result<(), Fault> {
        let closed = self.observe()?.closed;
        if closed {
            self.run_all(self.dialect.let_administrators_write(true))?;
        }
        let loaded = statements.iter().try_for_each(|statement| match self.run(statement) {
            // It was there already.
            Err(Fault::Error(FUNCTION_EXISTS | PLUGIN_INSTALLED, _)) => Ok(()),
            other => other,
        });
        if closed {
            self.run_all(self.dialect.let_administrators_write(false))?;
        }
        loaded
    }

    /// Where it writes, by the variable that says so, without those that are not set. Absolute as far as the server says.
    pub(crate) fn places(&mut self) -> Result<Places, Fault> {
        let named =
            self.rows(Dialect::places())?.into_iter().filter_map(|mut row| Some((row.remove("variable_name")?, row.remove("value")?)));
        Ok(named.filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, value.into())).collect())
    }

    /// The directories that it writes to beside its data directory, which relative paths are in.
    pub(crate) fn directories(&mut self, datadir: &Path) -> Result<Vec<PathBuf>, Fault> {
        let directory = |(name, path): (String, PathBuf)| {
            let path = datadir.join(path);
            if name.ends_with("_basename") { path.parent().map(Path::to_path_buf).unwrap_or(path) } else { path }
        };
        Ok(self.places()?.into_iter().map(directory).collect())
    }

    /// What the server leaves out of its binary log: see [`crate::premises::filters`].
    pub(crate) fn filters(&mut self) -> Result<String, Fault> {
        let mut last = Ok(String::new());
        for statement in self.dialect.binary_log() {
            match self.rows(statement) {
                Ok(rows) => return Ok(crate::premises::filters(&rows)),
                // It has the other word.
                Err(fault @ Fault::Error(..)) => last = Err(fault),
                Err(fault) => return Err(fault),
            }
        }
        last
    }

    /// How semi-synchronous replication stands on the source's side.
    pub(crate) fn semi_sync_status(&mut self) -> Result<SemiSyncStatus, Fault> {
        let Some(semi_sync) = self.dialect.semi_sync else { return Ok(SemiSyncStatus::default()) };
        let rows = self.rows(self.dialect.semi_sync_status())?;
        let value = |name: &String| {
            let row = rows.iter().find(|r| r.get("variable_name").is_some_and(|n| n.eq_ignore_ascii_case(name)));
            row.and_then(|r| r.get("value").cloned()).unwrap_or_default()
        };
        let [clients, waiting, active] = semi_sync.status_names();
        Ok(SemiSyncStatus {
            acknowledging: value(&clients).parse().unwrap_or_default(),
            waiting: value(&waiting).parse().unwrap_or_default(),
            active: value(&active) == "ON",
        })
    }

    /// The replicas that are connected to it.
    pub(crate) fn replicas(&mut self) -> Result<Vec<Attached>, Fault> {
        let rows = self.rows(self.dialect.replicas())?;
        let of = |row: &Row, name: &str| row.get(name).cloned().unwrap_or_default();
        Ok(rows.iter().map(|row| Attached { host: of(row, "host"), server_id: of(row, "server_id") }).collect())
    }

    /// Ends the sessions whose commits wait for an acknowledgement while a backup waits for them, which keeps others from
    /// beginning to commit; how many. Their clients get no answer.
    ///
    /// One session waits for all that were written to the log with it, and these are told that all is well as soon as it goes
    /// on, for whatever reason: so whoever is at something is ended before it is.
    pub(crate) fn end_waiting(&mut self, limit: Duration) -> Result<usize, Fault> {
        let me = self.conn.as_ref().map(Conn::id).map(u64::from);
        let waits = waits_for_acknowledgement;
        let number = |s: &Row| s.get("id")?.parse::<u64>().ok();
        let busy = |s: &&Row| {
            let is = |column: &str, value: &str| s.get(column).is_some_and(|v| v.starts_with(value));
            is_client(s) && !is("command", "Sleep") && !is("info", "BACKUP") && !waits(s)
        };
        let begin = Instant::now();
        let mut ended = 0;
        while self.running(LAST_OF_BACKUP)? > 0 && begin.elapsed() < limit {
            let waiting: Vec<u64> = self.rows(self.dialect.sessions())?.iter().filter(|s| waits(s)).filter_map(number).collect();
            // Looked up only now: who went into the log with them is at its commit since then.
            let sessions = self.rows(self.dialect.sessions())?;
            let others = sessions.iter().filter(busy).filter_map(number).filter(|id| Some(*id) != me);
            for id in others.chain(waiting) {
                ended += usize::from(self.end_session(id)?);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(ended)
    }

    /// Tells those who wait for an acknowledgement that all is well, as long as replicas hold all that is logged: `held` says whether
    /// they do. How many were told. MariaDB only.
    ///
    /// It is the statement that is ended and not the session: what its client commits next is not meant. Everything that waits was
    /// logged before it is asked what is logged; so whoever is told, and whoever went into the log with them, is told the truth.
    pub(crate) fn release_waiting(&mut self, limit: Duration, held: impl Fn(&Gtids) -> bool) -> Result<usize, Fault> {
        let begin = Instant::now();
        let mut told = 0;
        while begin.elapsed() < limit {
            let waiting = self.rows(self.dialect.waiting_statements())?;
            if waiting.is_empty() || !held(&self.logged()?) {
                break;
            }
            for id in waiting.iter().filter_map(|row| row.get("id")?.parse::<u64>().ok()) {
                match self.run(&format!("KILL QUERY ID {id}")) {
                    Ok(()) => told += 1,
                    // It has ended by itself.
                    Err(Fault::Error(..)) => {}
                    Err(fault) => return Err(fault),
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(told)
    }

    /// How many commits wait for an acknowledgement and do not get on for all this time.
    pub(crate) fn stuck_commits_within(&mut self, patience: Duration) -> Result<u64, Fault> {
        if self.semi_sync_status()?.waiting == 0 {
            return Ok(0);
        }
        let begin = Instant::now();
        let before = self.logged()?;
        loop {
            std::thread::sleep(limits::LOOK.min(patience));
            let waiting = self.semi_sync_status()?.waiting;
            if waiting == 0 || self.logged()? != before {
                return Ok(0);
            }
            if begin.elapsed() >= patience {
                return Ok(waiting);
            }
        }
    }

    /// Whether an applier waits for a lock that a client may hold. A row's lock is not seen so.
    pub(crate) fn applier_waits_for_a_lock(&mut self) -> Result<bool, Fault> {
        let sessions = self.rows(self.dialect.sessions())?;
        Ok(sessions.iter().any(|s| !is_client(s) && waits_for_a_lock(s)))
    }

    /// Whether it can still be asked: a question that was not answered in time was its last.
    pub(crate) fn is_connected(&self) -> bool {
        self.conn.is_some()
    }

    /// How many sessions are at this statement, whether anybody waits for its end or not.
    pub(crate) fn running(&mut self, statement: &str) -> Result<usize, Fault> {
        let sessions = self.rows(self.dialect.sessions())?;
        Ok(sessions.iter().filter(|s| s.get("info").is_some_and(|info| info == statement)).count())
    }

    /// Ends the sessions of clients. Those that go by themselves in between are no error.
    ///
    /// One after the other: 240 idle sessions of MariaDB take 9 ms like this, and as long when all are told in one message.
    pub(crate) fn cut_clients(&mut self) -> Result<usize, Fault> {
        let me = self.conn.as_ref().map(Conn::id).unwrap_or_default();
        let sessions = self.rows(self.dialect.sessions())?;
        let ids: Vec<u64> = sessions.iter().filter(|s| is_client(s)).filter_map(|s| s.get("id")?.parse().ok()).collect();
        let mut cut = 0;
        for id in ids.into_iter().filter(|id| *id != u64::from(me)) {
            cut += usize::from(self.end_session(id)?);
        }
        Ok(cut)
    }

    /// Whether it was there: it may have gone by itself, or be an administrator's (SYSTEM_USER), which ours may not end.
    fn end_session(&mut self, id: u64) -> Result<bool, Fault> {
        match self.run(&format!("KILL {id}")) {
            Ok(()) => Ok(true),
            Err(Fault::Error(NO_SUCH_THREAD | KILL_DENIED, _)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}

impl Drop for Server {
    /// Says good-bye: a server notes connections that break off in its log.
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.runtime.block_on(async {
                let _ = tokio::time::timeout(limits::GOOD_BYE, conn.disconnect()).await;
            });
        }
    }
}

/// Somebody listens, and does not take the connections that wait for him: he is there, and silent.
fn is_crowded(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

/// One thread, made when it is needed: an action that asks nobody pays for nothing.
fn runtime() -> Result<Runtime, Fault> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Fault::Refused(format!("no event loop can be made: {e}")))
}

/// The rows of an answer, or what of it is longer than any server's: nobody knows whether it has an end, so the connection is of no more use
/// then.
async fn bounded(conn: &mut Conn, sql: &str) -> Result<Result<Vec<Row>, String>, Error> {
    let mut answer = conn.query_iter(sql).await?;
    let (mut rows, mut size) = (Vec::new(), 0);
    while let Some(next) = answer.next().await? {
        let row = row(next);
        size += row.iter().map(|(name, value)| name.len() + value.len() + OF_A_VALUE).sum::<usize>();
        if size > LONGEST_ANSWER {
            return Ok(Err(format!("more than {} MB", LONGEST_ANSWER >> 20)));
        }
        if let Some((name, value)) = row.iter().find(|(name, value)| value.len() > LONGEST_VALUE && !is_a_set(&row, name)) {
            return Ok(Err(format!("{} bytes as {name}", value.len())));
        }
        rows.push(row);
    }
    answer.drop_result().await?;
    Ok(Ok(rows))
}

/// Whether a column, or the variable in this row, is a set of transactions.
fn is_a_set(row: &Row, column: &str) -> bool {
    column.contains("gtid") || row.get("variable_name").is_some_and(|name| name.len() < LONGEST_VALUE && name.contains("gtid"))
}

fn row(mut from: mysql_async::Row) -> Row {
    let names: Vec<String> = from.columns_ref().iter().map(|c| c.name_str().to_lowercase()).collect();
    names
        .into_iter()
        .enumerate()
        .map(|(i, name)| {
            let text = match from.take::<Value, usize>(i) {
                None | Some(Value::NULL) => String::new(),
                Some(Value::Bytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
                Some(other) => other.as_sql(true).trim_matches('\'').to_owned(),
            };
            (name, text)
        })
        .collect()
}

/// The first words of a statement: what was asked, without what may be secret in it.
fn head(sql: &str) -> String {
    sql.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// What the server says of a statement that held a secret. Servers quote the statement, or its beginning, cut off anywhere: where any part
/// of the secret may be in it, nothing of it is passed on but the number of the error.
fn without_secret(text: String, secret: &str) -> String {
    let letters: Vec<char> = secret.chars().collect();
    let shown = |part: &[char]| text.contains(&part.iter().collect::<String>());
    let part = letters.len().min(SHORTEST_PART);
    if part == 0 || !letters.windows(part).any(shown) {
        return text;
    }
    let number = text.rfind("(error ").map_or("", |at| &text[at..]);
    format!("the server refused the statement, and its words hold a part of the password {number}")
}

/// So many letters of a secret that stand in a text are no accident.
const SHORTEST_PART: usize = 4;

/// What the server answered instead of what was asked, with the remedy where it is about the account, `user`.
fn refusal(code: u16, message: &str, user: &str) -> Fault {
    let unlock = |what: &str| format!("ALTER USER {user}@localhost {what}");
    match code {
        1040 | 1203 => Fault::Engaged(format!("the server has no free connection (error {code}): end sessions, or raise max_connections")),
        1044 | 1045 | 1698 => Fault::Denied(format!(
            "the server refuses the login of {user} (error {code}): correct test_user and test_passwd, or create the account with \
             mysql-accounts-*.sql"
        )),
        3118 | 4151 => Fault::Denied(format!("the account {user} is locked (error {code}): {}", unlock("ACCOUNT UNLOCK"))),
        1820 | 1862 => Fault::Denied(format!(
            "the password of {user} has expired (error {code}): {}",
            unlock("PASSWORD EXPIRE NEVER, and set a new one")
        )),
        1226 => Fault::Denied(format!("the account {user} has used up its limit: {message} (error {code}); take the limit off")),
        1142 | 1227 => {
            Fault::Denied(format!("the account {user} lacks a privilege (error {code}): grant it as in mysql-accounts-*.sql ({message})"))
        }
        _ => Fault::Error(code, format!("{message} (error {code})")),
    }
}

fn fault_of(error: &Error, socket: &Path, account: &str, user: &str) -> Fault {
    let socket = socket.display();
    match error {
        Error::Io(mysql_async::IoError::Io(e))
            if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) =>
        {
            Fault::Absent(format!("nothing listens on {socket}"))
        }
        Error::Io(mysql_async::IoError::Io(e)) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            Fault::Denied(format!("user {account} may not use the socket {socket}: it belongs to somebody else"))
        }
        Error::Io(e) => Fault::Absent(format!("{socket}: {e}")),
        Error::Server(e) => refusal(e.code, &e.message, user),
        // MySQL proposes a plugin of its choice for an account that does not exist.
        Error::Driver(e) => Fault::Denied(format!(
            "{} cannot log in on {socket}: {e}; correct test_user and test_passwd, or create the account with mysql-accounts-*.sql and an \
             authentication plugin that this agent knows",
            user
        )),
        other => Fault::Refused(format!("{socket}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the tests' own files")]

    use super::*;

    #[test]
    fn a_server_without_connections_is_alive() {
        assert!(matches!(refusal(1040, "Too many connections", "root"), Fault::Engaged(_)));
        assert!(matches!(refusal(1045, "Access denied", "root"), Fault::Denied(_)));
        assert_eq!(refusal(1094, "Unknown thread id: 7", "root").to_string(), "Unknown thread id: 7 (error 1094)");
        assert!(matches!(refusal(1094, "Unknown thread id: 7", "root"), Fault::Error(NO_SUCH_THREAD, _)));
    }

    #[test]
    fn what_is_told_of_a_statement_holds_no_secret() {
        assert_eq!(head("CHANGE MASTER TO MASTER_HOST='a', MASTER_PASSWORD='geheim'"), "CHANGE MASTER TO");
    }

    /// A server that takes no connections any more leaves them in a queue, and when that is full, the kernel refuses at once: that is no server
    /// that has ended.
    #[test]
    fn a_full_queue_of_connections_is_a_silent_server() {
        let socket = std::env::temp_dir().join(format!("systole-full-{}", std::process::id()));
        let held = runtime().unwrap();
        let (_listener, queue) = held.block_on(async {
            let own = tokio::net::UnixSocket::new_stream().unwrap();
            own.bind(&socket).unwrap();
            let listener = own.listen(1).unwrap();
            let mut queue = Vec::new();
            while let Ok(one) = tokio::net::UnixStream::connect(&socket).await {
                queue.push(one);
            }
            (listener, queue)
        });
        assert!(!queue.is_empty());
        let begin = Instant::now();
        let login = Login { user: "root".into(), password: None };
        let fault = Server::connect(&socket, &Account::own(), &login, None, Duration::from_millis(300)).err();
        assert!(matches!(fault, Some(Fault::Silent(_))), "{fault:?}");
        assert!(begin.elapsed() >= Duration::from_millis(300));
        assert_eq!(process::listener(&socket, promotable::limits::LISTENING), None);
        std::fs::remove_file(&socket).unwrap();
    }

    #[test]
    fn no_part_of_a_password_is_passed_on() {
        let secret = "x".repeat(67) + "Nachtigall";
        let said = format!("String '{}' is too long for PASSWORD (should be no longer than 96) (error 1470)", &secret[..67]);
        assert!(!without_secret(said, &secret).contains("xxxx"));
        assert!(without_secret("in 'achtig' (error 1470)".into(), &secret).ends_with("(error 1470)"));
        assert_eq!(without_secret("no such host (error 1)".into(), &secret), "no such host (error 1)");
        assert_eq!(without_secret("anything".into(), ""), "anything");
    }

    #[test]
    fn nobody_listens() {
        let login = Login { user: "root".into(), password: None };
        let socket = Path::new("/nonexistent/socket");
        assert!(matches!(Server::connect(socket, &Account::own(), &login, None, Duration::from_secs(1)).err(), Some(Fault::Absent(_))));
        assert_eq!(process::listener(socket, promotable::limits::LISTENING), None);
    }
}
