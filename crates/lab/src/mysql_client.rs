//! What load and checker ask of a MySQL, Percona Server or MariaDB server, from 5.6 on: over TCP, without TLS.
//! Owns connections with short time limits, all their SQL, and the sorting of errors into what a client knows.
//!
//! Whoever sets up the site makes the database and the user; the load makes the tables. What the user needs, and no more, above all
//! nothing that passes read_only (SUPER, CONNECTION_ADMIN, READ ONLY ADMIN):
//!
//! ```sql
//! CREATE DATABASE `load`;
//! CREATE USER 'load'@'%' IDENTIFIED BY '...';
//! GRANT CREATE, SELECT, INSERT, UPDATE ON `load`.* TO 'load'@'%';
//! GRANT REPLICATION CLIENT ON *.* TO 'load'@'%';  -- MariaDB: GRANT SLAVE MONITOR; for the checker
//! ```
//!
//! Any authentication with a password will do. With caching_sha2_password the client asks the server for its public key; what a
//! man in the middle could do with that does not matter in a lab.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use mysql::prelude::Queryable as _;
use mysql::{Conn, Error, OptsBuilder, Row};

use crate::database::{Access, Holdings, Session, Write};
use crate::journal::Outcome;
use crate::operation::{Object, Place};

/// `load` is a reserved word.
const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS `load`.writes (run VARCHAR(32) NOT NULL, t INT NOT NULL, n BIGINT NOT NULL, \
     value VARCHAR(64) NOT NULL, PRIMARY KEY (run, t, n)) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS `load`.probes (run VARCHAR(32) NOT NULL, node VARCHAR(32) NOT NULL, n BIGINT NOT NULL, \
     PRIMARY KEY (run, node)) ENGINE=InnoDB",
];

/// A row for each list and register: the elements with commas between them; of a register there is one.
const OBJECTS: &str = "CREATE TABLE IF NOT EXISTS `load`.objects (run VARCHAR(32) NOT NULL, name VARCHAR(64) NOT NULL, \
                       elements VARCHAR(8000) NOT NULL, PRIMARY KEY (run, name)) ENGINE=InnoDB";

/// Errors after which a write may be there nevertheless; after every other error of the server it certainly is not.
const IN_THE_DARK: &[u16] = &[
    1026, // error on write, for example of the binary log
    1053, // shutdown in progress
    1105, // unknown error
    1152, 1184, // connection aborted
    1158, 1159, 1160, 1161, // the server's own network errors
    1180, // error during commit
    1317, // interrupted: a commit that waits for a replica is not undone by that
    1402, // rollback of a branch
    1598, // binary logging is not possible
    1927, 3169, // connection killed
    1969, 3024, // interrupted by a time limit
    2006, 2013, // connection lost
    4031, // disconnected by the server for being idle
];

/// A connection to one server.
pub(crate) struct MySqlSession {
    connection: Conn,
    server: String,
}

impl MySqlSession {
    /// Connects, logs in, asks who it is.
    pub(crate) fn connect(access: &Access, address: &str) -> Result<MySqlSession, String> {
        MySqlSession::open(access, address).map_err(|error| words(&error)).and_then(|(session, autocommit)| {
            // Without it an OK packet would acknowledge nothing.
            if autocommit { Ok(session) } else { Err("autocommit is off: set autocommit=1 on the server".to_owned()) }
        })
    }

    fn open(access: &Access, address: &str) -> Result<(MySqlSession, bool), Error> {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "3306"));
        let options = OptsBuilder::new()
            .ip_or_hostname(Some(host))
            .tcp_port(port.parse().unwrap_or(3306))
            .user(Some(access.user.as_str()))
            .pass(access.password.as_deref())
            .tcp_connect_timeout(access.connect)
            .read_timeout(Some(access.answer))
            .write_timeout(Some(access.answer))
            .tcp_nodelay(true)
            .prefer_socket(false)
            // Otherwise the client asks the server for it, one more round for each connection.
            .max_allowed_packet(Some(4 << 20));
        let mut connection = Conn::new(options)?;
        // The journal needs to know on which node a writer's server runs. A node's name says that; a server_uuid does not, since a
        // clone of a data directory may bring its twin along, and MariaDB has none. Neither tells of a restart, which ends
        // every connection, so that nobody needs to be told.
        let row: Option<(String, u32, u32, bool)> = connection.query_first("SELECT @@hostname, @@port, @@server_id, @@autocommit")?;
        let (host, port, id, autocommit) = row.unwrap_or_default();
        Ok((MySqlSession { connection, server: format!("{host}:{port}/{id}") }, autocommit))
    }

    fn attempt(&mut self, sql: String) -> (Outcome, Option<String>) {
        match self.connection.query_drop(sql) {
            Ok(()) => (Outcome::Ok, None),
            Err(error) => (outcome_of(&error), Some(words(&error))),
        }
    }

    fn read_run(&mut self, run: &str) -> Result<Holdings, Error> {
        let read_only: Option<String> = self.connection.query_first("SELECT @@GLOBAL.read_only")?;
        let primary = matches!(read_only.as_deref(), Some("0" | "OFF"));
        let replication = if primary { None } else { self.replication()? };
        let broken = if primary { None } else { broken_link(replication.as_ref()) };
        let progress = replication.as_ref().map(progress).unwrap_or_default();
        let mut data = BTreeMap::new();
        let sql = format!("SELECT t, n, value FROM `load`.writes WHERE run = '{run}'");
        self.connection.query_iter(sql)?.try_for_each(|row| {
            let (t, n, value) = mysql::from_row_opt::<(u32, u64, String)>(row?)?;
            data.insert(Write { run, t, n }.key(), value);
            Ok::<(), Error>(())
        })?;
        let position = match self.write_set()? {
            Some(number) => format!("write set {number}"),
            None => format!("GTID set {}", self.gtid_set()?),
        };
        Ok(Holdings { node: String::new(), data, primary, broken, position, progress })
    }

    /// The last write set that a server in a Galera cluster has committed.
    fn write_set(&mut self) -> Result<Option<String>, Error> {
        let row: Option<(String, String)> = self.connection.query_first("SHOW GLOBAL STATUS LIKE 'wsrep_last_committed'")?;
        Ok(row.map(|(_, number)| number))
    }

    /// The replica's status of the default connection, under its new name or its old one.
    fn replication(&mut self) -> Result<Option<Row>, Error> {
        match self.connection.query_first("SHOW REPLICA STATUS") {
            // A syntax error: older than 8.0.22.
            Err(Error::MySqlError(error)) if error.code == 1064 => self.connection.query_first("SHOW SLAVE STATUS"),
            status => status,
        }
    }

    fn gtid_set(&mut self) -> Result<String, Error> {
        let set: Option<String> = match self.connection.query_first("SELECT @@GLOBAL.gtid_executed") {
            // No such variable: MariaDB.
            Err(Error::MySqlError(error)) if error.code == 1193 => self.connection.query_first("SELECT @@GLOBAL.gtid_current_pos")?,
            set => set?,
        };
        Ok(normalised(&set.unwrap_or_default()))
    }
}

impl Session for MySqlSession {
    fn server(&self) -> &str {
        &self.server
    }

    /// Makes the tables unless they are there: making them is a transaction, too, and may be waited for.
    fn prepare(&mut self) -> Result<(), String> {
        let there = "SELECT 1 FROM `load`.writes, `load`.probes LIMIT 0";
        if self.connection.query_drop(there).is_ok() {
            return Ok(());
        }
        TABLES.iter().try_for_each(|sql| self.connection.query_drop(sql)).map_err(|error| words(&error))
    }

    /// A transaction of one row; the OK packet acknowledges its commit.
    fn write(&mut self, write: &Write<'_>) -> (Outcome, Option<String>) {
        let Write { run, t, n } = write;
        self.attempt(format!("INSERT INTO `load`.writes (run, t, n, value) VALUES ('{run}', {t}, {n}, '{}')", write.value()))
    }

    fn prepare_objects(&mut self) -> Result<(), String> {
        self.connection.query_drop(OBJECTS).map_err(|error| words(&error))
    }

    fn change(&mut self, place: &Place<'_>, value: u64) -> Outcome {
        let then = match place.object {
            Object::List => format!("CONCAT(elements, ',{value}')"),
            Object::Register => format!("'{value}'"),
        };
        let (run, name) = (place.run, place.name());
        let insert = format!("INSERT INTO `load`.objects (run, name, elements) VALUES ('{run}', '{name}', '{value}')");
        self.attempt(format!("{insert} ON DUPLICATE KEY UPDATE elements = {then}")).0
    }

    /// What another session sees is committed, and a commit waits for its replica first.
    fn look(&mut self, place: &Place<'_>) -> (Outcome, Option<Vec<u64>>) {
        let sql = format!("SELECT elements FROM `load`.objects WHERE run = '{}' AND name = '{}'", place.run, place.name());
        let found: Result<Option<String>, Error> = self.connection.query_first(sql);
        match found {
            Ok(elements) => {
                let values = elements.unwrap_or_default();
                (Outcome::Ok, Some(values.split(',').filter_map(|value| value.parse().ok()).collect()))
            }
            Err(error) => (outcome_of(&error), None),
        }
    }

    fn probe(&mut self, run: &str, node: &str, n: u64) -> (Outcome, Option<String>) {
        self.attempt(format!("INSERT INTO `load`.probes (run, node, n) VALUES ('{run}', '{node}', {n}) ON DUPLICATE KEY UPDATE n = {n}"))
    }

    fn holdings(&mut self, run: &str) -> Result<Holdings, String> {
        self.read_run(run).map_err(|error| words(&error))
    }
}

/// Fills the table `load.ballast` up to this many rows of one MiB, and says after each how many there are.
pub(crate) fn fill(access: &Access, address: &str, megabytes: u64, mut say: impl FnMut(u64)) -> Result<(), String> {
    const TABLE: &str = "CREATE TABLE IF NOT EXISTS `load`.ballast (id BIGINT NOT NULL PRIMARY KEY, \
                         filler MEDIUMBLOB NOT NULL) ENGINE=InnoDB";
    let mut work = || {
        let patient = Access { answer: Duration::from_secs(60), ..access.clone() };
        let connection = &mut MySqlSession::open(&patient, address)?.0.connection;
        connection.query_drop(TABLE)?;
        let there: Option<Option<u64>> = connection.query_first("SELECT MAX(id) FROM `load`.ballast")?;
        for id in there.flatten().unwrap_or(0)..megabytes {
            connection.query_drop(format!("INSERT INTO `load`.ballast VALUES ({}, REPEAT('x', 1048576))", id + 1))?;
            say(id + 1);
        }
        Ok(())
    };
    work().map_err(|error: Error| words(&error))
}

/// Why a replica with this status does not replicate; `None` when it does.
fn broken_link(status: Option<&Row>) -> Option<String> {
    let Some(status) = status else { return Some("it follows nobody".to_owned()) };
    let field = |names: [&str; 2]| {
        let text = names.iter().find_map(|name| status.get_opt::<String, _>(*name)).and_then(Result::ok);
        text.unwrap_or_default()
    };
    let receiver = field(["Replica_IO_Running", "Slave_IO_Running"]);
    let applier = field(["Replica_SQL_Running", "Slave_SQL_Running"]);
    let errors = [field(["Last_IO_Error"; 2]), field(["Last_SQL_Error"; 2])].join(" ");
    let text = format!("receiver {receiver}, applier {applier} {}", errors.trim());
    (receiver != "Yes" || applier != "Yes").then(|| text.trim().to_owned())
}

/// How far a replica with this status has read and applied its source's log.
fn progress(status: &Row) -> String {
    let names = ["Read_Source_Log_Pos", "Read_Master_Log_Pos", "Exec_Source_Log_Pos", "Exec_Master_Log_Pos"];
    names.iter().filter_map(|name| status.get_opt::<String, _>(*name)?.ok()).collect::<Vec<_>>().join(" ")
}

/// MySQL breaks its sets into lines; MariaDB does not promise an order of its domains.
fn normalised(set: &str) -> String {
    let mut parts: Vec<&str> = set.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    parts.sort_unstable();
    if parts.is_empty() { "(empty)".to_owned() } else { parts.join(",") }
}

/// The error for a reader: the system calls a read that timed out "resource temporarily unavailable".
fn words(error: &Error) -> String {
    use std::error::Error as _;
    let io = match error {
        Error::IoError(io) => Some(io),
        Error::CodecError(codec) => codec.source().and_then(|source| source.downcast_ref::<io::Error>()),
        _ => None,
    };
    match (error, io) {
        (_, Some(io)) if matches!(io.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => "no answer in time".to_owned(),
        (_, Some(io)) => io.to_string(),
        (Error::MySqlError(packet), _) => format!("{} ({})", packet.message, packet.code),
        (Error::DriverError(driver), _) => driver.to_string(),
        (error, _) => error.to_string(),
    }
}

/// An error packet is a refusal unless it came out of the commit or the end of the session; without a packet nothing is known.
fn outcome_of(error: &Error) -> Outcome {
    match error {
        Error::MySqlError(error) if !IN_THE_DARK.contains(&error.code) => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use mysql::{DriverError, MySqlError};

    use super::*;

    fn packet(code: u16) -> Outcome {
        outcome_of(&Error::MySqlError(MySqlError { state: "HY000".into(), message: "words".into(), code }))
    }

    #[test]
    fn what_a_server_refuses_is_certainly_not_done() {
        // Read-only in its kinds, duplicate key, deadlock, no such table, no more room, a replication hook.
        for code in [1290, 1836, 1792, 1062, 1213, 1205, 1146, 1114, 3100] {
            assert_eq!(packet(code), Outcome::Refused, "{code}");
        }
    }

    #[test]
    fn a_session_that_ends_leaves_its_commit_in_the_dark() {
        for code in [1053, 1180, 1317, 1402, 1927, 3169, 2013] {
            assert_eq!(packet(code), Outcome::Unknown, "{code}");
        }
        assert_eq!(outcome_of(&Error::IoError(io::ErrorKind::WouldBlock.into())), Outcome::Unknown);
        assert_eq!(outcome_of(&Error::server_disconnected()), Outcome::Unknown);
        assert_eq!(outcome_of(&Error::DriverError(DriverError::PacketOutOfSync)), Outcome::Unknown);
    }

    #[test]
    fn the_same_set_has_one_text() {
        assert_eq!(normalised("b:1-3,\na:1-5:7"), "a:1-5:7,b:1-3");
        assert_eq!(normalised("1-2-9,0-1-100"), normalised("0-1-100,1-2-9"));
        assert_eq!(normalised(""), "(empty)");
    }
}
