//! What load and checker ask of a Redis or Valkey server. Another database gets a module like this one.
//! Owns connections with short time limits and the sorting of errors into what a client knows.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Client, Connection, ConnectionAddr, ConnectionInfo, RedisConnectionInfo, RedisError};

use crate::journal::Outcome;

/// Why there is no session.
#[derive(Debug)]
pub(crate) struct NoSession {
    /// In the server's or the network's words.
    pub(crate) text: String,
}

/// A connection to one server.
pub(crate) struct Session {
    connection: Connection,
    /// Its run id: a new one for every start of a server.
    pub(crate) server: String,
}

impl Session {
    /// Connects, logs in, asks who it is.
    pub(crate) fn connect(address: &str, password: Option<&str>, connect_ms: u64, answer_ms: u64) -> Result<Session, NoSession> {
        let no = |error: RedisError| NoSession { text: words(&error) };
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "6379"));
        let info = ConnectionInfo {
            addr: ConnectionAddr::Tcp(host.to_owned(), port.parse().unwrap_or(6379)),
            redis: RedisConnectionInfo { password: password.map(str::to_owned), ..RedisConnectionInfo::default() },
        };
        let client = Client::open(info).map_err(no)?;
        let connection = client.get_connection_with_timeout(Duration::from_millis(connect_ms)).map_err(no)?;
        connection.set_read_timeout(Some(Duration::from_millis(answer_ms))).map_err(no)?;
        connection.set_write_timeout(Some(Duration::from_millis(answer_ms))).map_err(no)?;
        let mut session = Session { connection, server: String::new() };
        session.server = session.info("server").map_err(no)?.remove("run_id").unwrap_or_default();
        Ok(session)
    }

    /// One section of INFO.
    pub(crate) fn info(&mut self, section: &str) -> Result<BTreeMap<String, String>, RedisError> {
        let text: String = redis::cmd("INFO").arg(section).query(&mut self.connection)?;
        Ok(text.lines().filter_map(|l| l.trim().split_once(':')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    /// SET, and WAIT when `wait` replicas shall confirm.
    pub(crate) fn write(&mut self, key: &str, value: &str, wait: u32, wait_ms: u32) -> (Outcome, Option<String>) {
        let set: Result<String, RedisError> = redis::cmd("SET").arg(key).arg(value).query(&mut self.connection);
        if let Err(error) = set {
            return (outcome_of(&error), Some(words(&error)));
        }
        if wait == 0 {
            return (Outcome::Ok, None);
        }
        let confirmed: Result<u32, RedisError> = redis::cmd("WAIT").arg(wait).arg(wait_ms).query(&mut self.connection);
        match confirmed {
            Ok(count) if count >= wait => (Outcome::Ok, None),
            Ok(count) => (Outcome::Unconfirmed, Some(format!("{count} replicas confirmed"))),
            Err(error) => (Outcome::Unknown, Some(words(&error))),
        }
    }

    /// Values of keys, in their order.
    pub(crate) fn read(&mut self, keys: &[String]) -> Result<Vec<Option<String>>, RedisError> {
        redis::cmd("MGET").arg(keys).query(&mut self.connection)
    }

    /// Keys of a pattern.
    pub(crate) fn scan(&mut self, pattern: &str) -> Result<Vec<String>, RedisError> {
        let mut found = Vec::new();
        let mut cursor = 0u64;
        loop {
            let (next, keys): (u64, Vec<String>) =
                redis::cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(5000).query(&mut self.connection)?;
            found.extend(keys);
            cursor = next;
            if cursor == 0 {
                return Ok(found);
            }
        }
    }
}

/// The error for a reader: the system calls a read that timed out "resource temporarily unavailable".
fn words(error: &RedisError) -> String {
    if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() }
}

/// An error reply is a refusal; all else (time limit, reset) leaves the write in the dark.
fn outcome_of(error: &RedisError) -> Outcome {
    if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.code().is_none() {
        Outcome::Unknown
    } else {
        Outcome::Refused
    }
}
