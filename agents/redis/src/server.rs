//! The running server: every command that is ever sent to it stands here.
//!
//! The *gate* is what keeps a server that is not the recorded primary from taking writes even while it has the role of
//! one: `min-replicas-to-write` higher than any cluster. Servers are started with it closed, `promote` opens it last,
//! `demote` closes it first. Unlike CLIENT PAUSE it does not end by itself when an agent is killed half-way.

use std::path::Path;
use std::time::{Duration, Instant};

use promotable::Login;
use redis::{Connection, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, ProtocolVersion, RedisConnectionInfo, RedisError};

use crate::info::Info;

/// More replicas than anybody has.
pub(crate) const GATE_CLOSED: u32 = 1_000_000;
/// Where a server is told to replicate from while nobody is the primary: refused at once, on this machine.
pub(crate) const NOBODY: (&str, u16) = ("127.0.0.1", 1);

/// Why the server did not answer as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing listens on the socket.
    Absent(String),
    /// It listens, and said nothing in time.
    Silent(String),
    /// It is executing a script or has no connection left: alive, but closed to us.
    Engaged(String),
    /// The login or the command was refused.
    Denied(String),
    /// It answered with another error.
    Refused(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Absent(text) | Self::Silent(text) | Self::Engaged(text) | Self::Denied(text) | Self::Refused(text)) = self;
        f.write_str(text)
    }
}

impl From<Fault> for ocf::Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Denied(text) => Self::permission(text),
            other => Self::generic(other.to_string()),
        }
    }
}

/// What one look at a server shows.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) info: Info,
    /// Whether it would take writes, were it a primary.
    pub(crate) gate_open: bool,
}

/// One connection to the local server.
pub(crate) struct Server {
    connection: Connection,
}

impl Server {
    /// Connects and logs in, within `limit`, which then bounds each command.
    pub(crate) fn connect(socket: &Path, login: &Login, limit: Duration) -> Result<Self, Fault> {
        let limit = limit.max(Duration::from_millis(10));
        let information = ConnectionInfo {
            addr: ConnectionAddr::Unix(socket.to_owned()),
            redis: RedisConnectionInfo {
                db: 0,
                username: Some(login.user.clone()).filter(|user| !user.is_empty()),
                password: login.password.as_ref().map(|p| p.expose().to_owned()),
                protocol: ProtocolVersion::RESP2,
            },
        };
        let begin = Instant::now();
        let connection = redis::Client::open(information)
            .and_then(|client| client.get_connection_with_timeout(limit))
            .map_err(|e| fault("connecting", &e, begin))?;
        let server = Self { connection };
        server.limit(limit).map_err(|e| fault("connecting", &e, begin))?;
        Ok(server)
    }

    fn limit(&self, limit: Duration) -> redis::RedisResult<()> {
        self.connection.set_read_timeout(Some(limit))?;
        self.connection.set_write_timeout(Some(limit))
    }

    fn command<T: FromRedisValue>(&mut self, words: &[&str]) -> Result<T, Fault> {
        let begin = Instant::now();
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        // Only the first two words: what follows may be a password.
        let name = words[..words.len().min(2)].join(" ");
        command.query(&mut self.connection).map_err(|e| fault(&name, &e, begin))
    }

    /// Looks at the server: one round trip.
    pub(crate) fn observe(&mut self) -> Result<Observation, Fault> {
        let begin = Instant::now();
        let (text, gate): (String, Vec<String>) = redis::pipe()
            .cmd("INFO")
            .arg(&["server", "persistence", "replication", "keyspace"])
            .cmd("CONFIG")
            .arg(&["GET", "min-replicas-to-write"])
            .query(&mut self.connection)
            .map_err(|e| fault("INFO, CONFIG GET", &e, begin))?;
        let info = Info::parse(&text).ok_or_else(|| Fault::Refused("the server's INFO holds no role: is it Redis or Valkey?".into()))?;
        let gate_open = gate.get(1).and_then(|v| v.parse::<u32>().ok()).is_some_and(|n| n < GATE_CLOSED);
        Ok(Observation { info, gate_open })
    }

    /// The replication part alone, for loops.
    pub(crate) fn replication(&mut self) -> Result<Info, Fault> {
        let text: String = self.command(&["INFO", "replication"])?;
        Info::parse(&text).ok_or_else(|| Fault::Refused("the server's INFO holds no role: is it Redis or Valkey?".into()))
    }

    /// A configuration value as the server has it, `None` when it does not know the name.
    pub(crate) fn setting(&mut self, name: &str) -> Result<Option<String>, Fault> {
        Ok(self.command::<Vec<String>>(&["CONFIG", "GET", name])?.into_iter().nth(1))
    }

    /// Cuts a replica's link to its primary; it attaches again by itself.
    pub(crate) fn cut_link(&mut self) -> Result<(), Fault> {
        self.command::<i64>(&["CLIENT", "KILL", "TYPE", "master"]).map(drop)
    }

    /// Passes for a replica that asks for a copy, so that a new primary begins its backlog. The caller sees to it that
    /// no copy is made; the connection ends when this returns.
    pub(crate) fn pass_for_replica(mut self) -> Result<(), Fault> {
        let () = self.command(&["REPLCONF", "capa", "eof"])?;
        let begin = Instant::now();
        let request = redis::cmd("PSYNC").arg("?").arg("-1").get_packed_command();
        self.connection.send_packed_command(&request).map_err(|e| fault("PSYNC", &e, begin))?;
        // Not answered before a copy is begun; the next command on another connection comes after it.
        Ok(())
    }

    /// Sets a configuration value in the running server.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        self.command(&["CONFIG", "SET", name, value])
    }

    /// Lets no client write, in the role of a primary, from now on.
    pub(crate) fn close_gate(&mut self) -> Result<(), Fault> {
        // A lag of 0 would switch the whole check off, so it goes first.
        self.set("min-replicas-max-lag", "10")?;
        self.set("min-replicas-to-write", &GATE_CLOSED.to_string())
    }

    /// Lets clients write while `replicas` are attached that reported within `lag` seconds.
    pub(crate) fn open_gate(&mut self, replicas: u32, lag: u32) -> Result<(), Fault> {
        self.set("min-replicas-max-lag", &lag.max(1).to_string())?;
        self.set("min-replicas-to-write", &replicas.to_string())
    }

    /// Makes it a replica of that address. Its data stay until that one has sent others.
    pub(crate) fn follow(&mut self, host: &str, port: u16) -> Result<(), Fault> {
        self.command(&["REPLICAOF", host, &port.to_string()])
    }

    /// Makes it a replica of nobody: not a primary, and its position stays where it is.
    pub(crate) fn follow_nobody(&mut self) -> Result<(), Fault> {
        self.follow(NOBODY.0, NOBODY.1)
    }

    /// Gives it the role of a primary. It takes no writes while the gate is closed.
    pub(crate) fn become_primary(&mut self) -> Result<(), Fault> {
        self.command(&["REPLICAOF", "NO", "ONE"])
    }

    /// Makes the replicas say how far they are now; by themselves they do once a second. `WAIT` asks them when it
    /// waits for more than there are.
    pub(crate) fn request_acknowledgements(&mut self) -> Result<(), Fault> {
        self.command::<i64>(&["WAIT", &GATE_CLOSED.to_string(), "1"]).map(drop)
    }

    /// Holds clients' writes back for at most `limit`; the server itself writes nothing either.
    pub(crate) fn pause_writes(&mut self, limit: Duration) -> Result<(), Fault> {
        self.command(&["CLIENT", "PAUSE", &limit.as_millis().to_string(), "WRITE"])
    }

    /// Ends the pause.
    pub(crate) fn resume_writes(&mut self) -> Result<(), Fault> {
        self.command(&["CLIENT", "UNPAUSE"])
    }

    /// Cuts the clients' connections, so that none waits for an answer that another server has to give.
    pub(crate) fn cut_clients(&mut self) -> Result<(), Fault> {
        let _: i64 = self.command(&["CLIENT", "KILL", "TYPE", "pubsub"])?;
        let _: i64 = self.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])?;
        Ok(())
    }
}

/// Sorts an error. Its text never holds an argument of ours.
fn fault(what: &str, error: &RedisError, begin: Instant) -> Fault {
    let waited = begin.elapsed().as_millis();
    let text =
        format!("{what}: {}", error.detail().map_or_else(|| error.to_string(), |d| format!("{} {d}", error.code().unwrap_or("error"))));
    let says = |word: &str| error.code() == Some(word) || error.to_string().contains(word);
    if error.is_timeout() || error.is_io_error() && error.to_string().contains("temporarily unavailable") {
        return Fault::Silent(format!("{what}: no answer from the server within {waited} ms"));
    }
    if error.is_connection_refusal() || error.kind() == ErrorKind::IoError && says("No such file") {
        return Fault::Absent(text);
    }
    if says("BUSY") || says("max number of clients") {
        return Fault::Engaged(text);
    }
    if says("NOAUTH") || says("WRONGPASS") || says("NOPERM") || error.kind() == ErrorKind::AuthenticationFailed {
        return Fault::Denied(format!(
            "the server refuses the agent's login or command ({text}): correct password_file and acl_user, or requirepass in the configuration"
        ));
    }
    if error.is_io_error() || error.is_connection_dropped() {
        return Fault::Absent(text);
    }
    Fault::Refused(text)
}
