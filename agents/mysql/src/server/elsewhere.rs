//! What taking something back asks: the server of another node, and where this one's log is.

use std::path::PathBuf;
use std::time::Duration;

use mysql_async::{Conn, Error, IoError, OptsBuilder};
use ocf::Secret;

use super::{Fault, Server, runtime, without_secret};
use crate::dialect::Dialect;

impl Server {
    /// Connects to the server of another node, with the account of replication: to compare rows with it.
    ///
    /// # Errors
    /// Why it cannot be talked to.
    pub(crate) fn connect_to(host: &str, port: u16, user: &str, password: &Secret, limit: Duration) -> Result<Self, Fault> {
        let mut server = Self::log_in(host, port, user, password, limit)?;
        server.probe()?;
        Ok(server)
    }

    /// Connects to what speaks the protocol of a server and need not be one.
    ///
    /// # Errors
    /// Why it cannot be talked to.
    pub(crate) fn log_in(host: &str, port: u16, user: &str, password: &Secret, limit: Duration) -> Result<Self, Fault> {
        let runtime = runtime()?;
        let options = OptsBuilder::default()
            .ip_or_hostname(host)
            .tcp_port(port)
            .user(Some(user))
            .pass(Some(password.expose()))
            .prefer_socket(false)
            .max_allowed_packet(Some(16 * 1024 * 1024))
            .wait_timeout(Some(60))
            .stmt_cache_size(0);
        let conn = match runtime.block_on(async { tokio::time::timeout(limit, Conn::new(options)).await }) {
            Ok(Ok(conn)) => conn,
            Ok(Err(Error::Server(e))) => {
                let words = without_secret(format!("{} (error {})", e.message, e.code), password.expose());
                return Err(Fault::Denied(format!("{host} refuses the login of {user}: {words}")));
            }
            Ok(Err(Error::Driver(e))) => return Err(Fault::Denied(format!("{user} cannot log in on {host}: {e}"))),
            Ok(Err(Error::Io(IoError::Io(e)))) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                return Err(Fault::Absent(format!("nobody listens on {host}:{port}")));
            }
            Ok(Err(e)) => return Err(Fault::Broken(format!("{host}:{port} cannot be reached: {e}"))),
            Err(_) => return Err(Fault::Silent(format!("no greeting of {host}:{port} in {} ms", limit.as_millis()))),
        };
        Ok(Self { runtime, conn: Some(conn), limit, deadline: None, dialect: Dialect::unknown(), user: user.to_owned() })
    }

    /// The list of the files of its binary log.
    pub(crate) fn log_index(&mut self) -> Result<PathBuf, Fault> {
        let row = self.rows("SELECT @@global.log_bin_index AS log_bin_index, @@global.datadir AS datadir")?.pop().unwrap_or_default();
        let value = |name: &str| row.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match (value("log_bin_index"), value("datadir")) {
            (Some(index), Some(datadir)) => Ok(datadir.join(index)),
            _ => Err(Fault::Refused("the server has no binary log".into())),
        }
    }

    /// The file of its binary log that is written to, by its name.
    pub(crate) fn log_file(&mut self) -> Result<String, Fault> {
        let mut last = Fault::Refused("the server has no binary log".into());
        for statement in self.dialect.binary_log() {
            match self.rows(statement) {
                Ok(rows) => return rows.into_iter().find_map(|mut row| row.remove("file")).ok_or(last),
                // It has the other word.
                Err(fault @ Fault::Error(..)) => last = fault,
                Err(fault) => return Err(fault),
            }
        }
        Err(last)
    }
}
