//! What a user of the server sees, with another client library than the agent's.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ::mysql::prelude::Queryable;
use ::mysql::{Conn, Error, OptsBuilder, Value};

/// How long a server may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a client waits that is expected to wait, or whose statement has to come to an end.
const PATIENCE: Duration = Duration::from_secs(90);

/// A connection.
#[derive(Debug)]
pub struct Client(Conn);

impl Client {
    /// Connects to an address, as users of the data do.
    ///
    /// # Errors
    /// What the server or the system says.
    pub fn tcp(address: &str, port: u16, user: &str, password: &str) -> Result<Self, String> {
        let options = OptsBuilder::new().ip_or_hostname(Some(address)).tcp_port(port).user(Some(user)).pass(Some(password));
        Self::connect(options, LIMIT)
    }

    /// Connects to a socket as root, who needs no password.
    ///
    /// # Errors
    /// What the server or the system says.
    pub fn root(socket: &Path) -> Result<Self, String> {
        Self::connect(OptsBuilder::new().socket(Some(socket.display().to_string())).user(Some("root")), LIMIT)
    }

    /// The same for what may take its time: a statement that has to come to an end, however busy the machine is.
    ///
    /// # Errors
    /// What the server or the system says.
    pub fn patient_root(socket: &Path) -> Result<Self, String> {
        Self::connect(OptsBuilder::new().socket(Some(socket.display().to_string())).user(Some("root")), PATIENCE)
    }

    fn connect(options: OptsBuilder, limit: Duration) -> Result<Self, String> {
        let options = options
            .prefer_socket(false)
            .max_allowed_packet(Some(16 << 20))
            .tcp_connect_timeout(Some(LIMIT))
            .read_timeout(Some(limit))
            .write_timeout(Some(limit));
        Conn::new(options).map(Self).map_err(|e| words(&e))
    }

    /// Asks whether the server is there, as libraries do: a command of the protocol and no statement.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ping(&mut self) -> Result<(), String> {
        self.0.ping().map_err(|e| words(&e))
    }

    /// Its number in the server's list of sessions.
    pub fn id(&self) -> u32 {
        self.0.connection_id()
    }

    /// Sends a statement; the rows stand on lines of their own, tabs between the columns.
    ///
    /// # Errors
    /// `1290 The server is running with ...`, `no answer`, or `lost: ...`.
    pub fn ask(&mut self, sql: &str) -> Result<String, String> {
        let rows: Vec<::mysql::Row> = self.0.query(sql).map_err(|e| words(&e))?;
        let lines = rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect::<Vec<_>>().join("\t"));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// All rows, by column name in lower case; NULL is nothing.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn rows(&mut self, sql: &str) -> Result<Vec<std::collections::BTreeMap<String, String>>, String> {
        let rows: Vec<::mysql::Row> = self.0.query(sql).map_err(|e| words(&e))?;
        let by_name = |row: ::mysql::Row| {
            let names: Vec<String> = row.columns_ref().iter().map(|c| c.name_str().to_lowercase()).collect();
            let value = |value| if value == Value::NULL { String::new() } else { text(value) };
            names.into_iter().zip(row.unwrap().into_iter().map(value)).collect()
        };
        Ok(rows.into_iter().map(by_name).collect())
    }

    /// The first row, by column name in lower case.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn row(&mut self, sql: &str) -> Result<std::collections::BTreeMap<String, String>, String> {
        let row: Option<::mysql::Row> = self.0.query_first(sql).map_err(|e| words(&e))?;
        let Some(row) = row else { return Ok(std::collections::BTreeMap::new()) };
        let names: Vec<String> = row.columns_ref().iter().map(|c| c.name_str().to_lowercase()).collect();
        Ok(names.into_iter().zip(row.unwrap().into_iter().map(text)).collect())
    }
}

fn text(value: Value) -> String {
    match value {
        Value::NULL => "NULL".to_owned(),
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true).trim_matches('\'').to_owned(),
    }
}

fn words(error: &Error) -> String {
    match error {
        Error::MySqlError(e) => format!("{} {}", e.code, e.message),
        other if other.to_string().contains("os error 11") => "no answer".to_owned(),
        other => format!("lost: {other}"),
    }
}

/// A client whose statement is expected to wait: it runs by itself.
#[derive(Debug)]
pub struct Waiting {
    /// Its number in the server's list of sessions.
    pub id: u32,
    answer: Receiver<Result<String, String>>,
}

impl Waiting {
    /// Connects, runs `before`, then lets a thread send `sql`.
    ///
    /// # Errors
    /// When it cannot connect, or `before` is refused: what the server says.
    pub fn tcp(address: &str, port: u16, user: &str, password: &str, before: &[&str], sql: &str) -> Result<Self, String> {
        let options = OptsBuilder::new().ip_or_hostname(Some(address)).tcp_port(port).user(Some(user)).pass(Some(password));
        let mut client = Client::connect(options, PATIENCE)?;
        for statement in before {
            client.ask(statement).map_err(|e| format!("{statement}: {e}"))?;
        }
        let (tell, answer) = channel();
        let (id, sql) = (client.id(), sql.to_owned());
        std::thread::spawn(move || {
            let _ = tell.send(client.ask(&sql));
        });
        Ok(Self { id, answer })
    }

    /// Whether it still waits after this time, as it should.
    pub fn waits_for(&self, limit: Duration) -> bool {
        let waits = self.answer(limit).is_none();
        crate::wait::note(false);
        waits
    }

    /// What it was answered, if it was within this time, of which a busy machine counts a part.
    pub fn answer(&self, limit: Duration) -> Option<Result<String, String>> {
        crate::within(limit, || self.answer.try_recv().ok())
    }
}
