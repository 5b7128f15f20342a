//! What load and checker ask of a Redis or Valkey server.
//! Owns connections with short time limits and the sorting of errors into what a client knows.

use std::collections::BTreeMap;

use redis::{Client, Connection, ConnectionAddr, ConnectionInfo, RedisConnectionInfo, RedisError};

use crate::database::{Access, Holdings, Session, Write};
use crate::journal::Outcome;
use crate::operation::{Object, Place};

/// A connection to one server.
pub(crate) struct RedisSession {
    connection: Connection,
    /// Its run id: a new one for every start of a server.
    server: String,
    wait: (u32, u32),
}

impl RedisSession {
    /// Connects, logs in, asks who it is.
    pub(crate) fn connect(access: &Access, address: &str) -> Result<RedisSession, String> {
        RedisSession::open(access, address).map_err(|error| words(&error))
    }

    fn open(access: &Access, address: &str) -> Result<RedisSession, RedisError> {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "6379"));
        let info = ConnectionInfo {
            addr: ConnectionAddr::Tcp(host.to_owned(), port.parse().unwrap_or(6379)),
            redis: RedisConnectionInfo { password: access.password.clone(), ..RedisConnectionInfo::default() },
        };
        let client = Client::open(info)?;
        let connection = match access.connect {
            Some(limit) => client.get_connection_with_timeout(limit)?,
            None => client.get_connection()?,
        };
        connection.set_read_timeout(Some(access.answer))?;
        connection.set_write_timeout(Some(access.answer))?;
        let mut session = RedisSession { connection, server: String::new(), wait: access.wait };
        session.server = session.info("server")?.remove("run_id").unwrap_or_default();
        Ok(session)
    }

    /// One section of INFO.
    fn info(&mut self, section: &str) -> Result<BTreeMap<String, String>, RedisError> {
        let text: String = redis::cmd("INFO").arg(section).query(&mut self.connection)?;
        Ok(text.lines().filter_map(|l| l.trim().split_once(':')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    fn set(&mut self, key: &str, value: &str) -> (Outcome, Option<String>) {
        let set: Result<String, RedisError> = redis::cmd("SET").arg(key).arg(value).query(&mut self.connection);
        match set {
            Ok(_) => (Outcome::Ok, None),
            Err(error) => (outcome_of(&error), Some(words(&error))),
        }
    }

    fn read_run(&mut self, run: &str) -> Result<Holdings, RedisError> {
        let info = self.info("replication")?;
        let field = |name: &str| info.get(name).cloned().unwrap_or_default();
        let primary = field("role") == "master";
        let offset = if primary { field("master_repl_offset") } else { field("slave_repl_offset") };
        let link = field("master_link_status");
        let mut data = BTreeMap::new();
        for part in self.scan(&format!("w:{run}:*"))?.chunks(1000) {
            let values: Vec<Option<String>> = redis::cmd("MGET").arg(part).query(&mut self.connection)?;
            data.extend(part.iter().zip(values).filter_map(|(key, value)| Some((key.clone(), value?))));
        }
        Ok(Holdings {
            node: String::new(),
            data,
            primary,
            broken: (!primary && link != "up").then(|| format!("the link is {link}")),
            position: format!("offset {offset} of {}", field("master_replid")),
            progress: field("master_sync_left_bytes"),
        })
    }

    /// Keys of a pattern.
    fn scan(&mut self, pattern: &str) -> Result<Vec<String>, RedisError> {
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

impl Session for RedisSession {
    fn server(&self) -> &str {
        &self.server
    }

    /// SET, and WAIT when replicas shall confirm.
    fn write(&mut self, write: &Write<'_>) -> (Outcome, Option<String>) {
        let set = self.set(&write.key(), &write.value());
        if set.0 == Outcome::Ok { self.confirm() } else { set }
    }

    fn change(&mut self, place: &Place<'_>, value: u64) -> Outcome {
        let command = if place.object == Object::List { "RPUSH" } else { "SET" };
        let done: Result<redis::Value, RedisError> = redis::cmd(command).arg(place.name()).arg(value).query(&mut self.connection);
        match done {
            Ok(_) => self.confirm().0,
            Err(error) => outcome_of(&error),
        }
    }

    /// Other clients see a write before a replica has it. So a read is followed by a write of its own in the same transaction: what
    /// confirms that one confirms all that was read.
    fn look(&mut self, place: &Place<'_>) -> (Outcome, Option<Vec<u64>>) {
        let mut read = redis::pipe();
        read.atomic();
        match place.object {
            Object::List => read.cmd("LRANGE").arg(place.name()).arg(0).arg(-1),
            // A read that answers with a list, too.
            Object::Register => read.cmd("MGET").arg(place.name()),
        };
        read.cmd("INCR").arg(format!("barrier:{}", place.run)).ignore();
        let found: Result<(Vec<Option<u64>>,), RedisError> = read.query(&mut self.connection);
        match found {
            Ok((seen,)) => (self.confirm().0, Some(seen.into_iter().flatten().collect())),
            Err(error) => (outcome_of(&error), None),
        }
    }

    fn probe(&mut self, run: &str, node: &str, n: u64) -> (Outcome, Option<String>) {
        self.set(&format!("probe:{run}:{node}"), &n.to_string())
    }

    fn holdings(&mut self, run: &str) -> Result<Holdings, String> {
        self.read_run(run).map_err(|error| words(&error))
    }
}

impl RedisSession {
    /// What a write that the server took is worth: WAIT, when replicas shall confirm.
    fn confirm(&mut self) -> (Outcome, Option<String>) {
        let (wait, wait_ms) = self.wait;
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
