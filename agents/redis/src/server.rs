//! The running server: every command that is ever sent to it stands here.
//!
//! The *gate* is what keeps a server that is not the recorded primary from taking writes even while it has the role of
//! one: `min-replicas-to-write` higher than any cluster. Servers are started with it closed, `promote` opens it last,
//! `demote` closes it first. Unlike CLIENT PAUSE it does not end by itself when an agent is killed half-way.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ocf::Deadline;
use process::Account;
use promotable::Login;

use crate::info::Info;
use crate::limits;
use crate::resp::{Broken, Connection, Reply};

/// More replicas than anybody has.
pub(crate) const GATE_CLOSED: u32 = 1_000_000;
/// Where a server is told to replicate from while nobody is the primary: refused at once, on this machine.
pub(crate) const NOBODY: (&str, u16) = ("127.0.0.1", 1);

/// How long a drill's markers last that nobody removes, in seconds.
const MARKERS_LAST: &str = "3600";
/// How long a replica has to confirm a marker, in milliseconds.
const CONFIRMING: &str = "1000";
/// How many keys one message names.
const AT_ONCE: usize = 500;

/// Why the server did not answer as asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// Nothing listens on the socket.
    Absent(String),
    /// It listens, and said nothing in time.
    Silent(String),
    /// It is executing a script: alive, but closed to us.
    Engaged(String),
    /// It hung up: it has no free connection, or is about to end.
    Closed(String),
    /// It listens, but the socket's file is gone and there is no other way to it.
    Unreachable(String),
    /// The login or the command was refused.
    Denied(String),
    /// It answered with another error, or with something that is no answer.
    Refused(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Absent(text)
        | Self::Silent(text)
        | Self::Engaged(text)
        | Self::Closed(text)
        | Self::Unreachable(text)
        | Self::Denied(text)
        | Self::Refused(text)) = self;
        f.write_str(text)
    }
}

impl From<Fault> for ocf::Failure {
    fn from(fault: Fault) -> Self {
        Self::generic(fault.to_string())
    }
}

/// What one look at a server shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Observation {
    pub(crate) info: Info,
    /// How many replicas have to be attached before it takes writes as a primary, `GATE_CLOSED` when it takes none.
    pub(crate) gate: u32,
    /// Within how many seconds a replica has to have reported to count as attached.
    pub(crate) lag: u32,
    /// What somebody has to mend although it answers.
    pub(crate) complaint: Option<String>,
}

impl Observation {
    /// Whether it would take writes, were it a primary.
    pub(crate) fn gate_open(&self) -> bool {
        self.gate < GATE_CLOSED
    }
}

/// How long a server is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// In each exchange.
    pub(crate) limit: Duration,
    /// In all: a server that answers each word late must not use up the action.
    pub(crate) deadline: Deadline,
}

impl Patience {
    fn until(self) -> Instant {
        Instant::now() + limits::step(self.limit, self.deadline.left())
    }
}

/// One connection to the local server.
pub(crate) struct Server {
    connection: Connection,
    /// How long each exchange may take.
    patience: Patience,
    /// Why it is not asked over its socket, and what to do.
    detour: Option<String>,
}

impl Server {
    /// Connects and logs in before `until`; `patience` then bounds each exchange.
    /// To the socket only who may use it as `account`: it is in a directory of that account, and what is said here is said by root.
    pub(crate) fn connect(socket: &Path, account: &Account, login: &Login, until: Instant, patience: Patience) -> Result<Self, Fault> {
        let begin = Instant::now();
        let stream = account.act(|files| files.connect(socket, until.saturating_duration_since(begin)));
        if stream.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) {
            return Err(Fault::Unreachable(format!(
                "user {} may not use the socket {}: it belongs to somebody else",
                account.name,
                socket.display()
            )));
        }
        let connection = Connection::unix(stream).map_err(|e| broken("connecting", e, begin))?;
        Self { connection, patience, detour: None }.logged_in(login, until)
    }

    /// The same over TCP, because of `detour`.
    pub(crate) fn connect_by_tcp(
        address: SocketAddr,
        login: &Login,
        until: Instant,
        patience: Patience,
        detour: &str,
    ) -> Result<Self, Fault> {
        let begin = Instant::now();
        let connection = Connection::tcp(address, until).map_err(|e| broken("connecting over TCP", e, begin))?;
        Self { connection, patience, detour: Some(detour.to_owned()) }.logged_in(login, until)
    }

    fn logged_in(mut self, login: &Login, until: Instant) -> Result<Self, Fault> {
        let Some(password) = &login.password else {
            // Without a password only a command shows whether one is needed.
            return self.exchange("INFO", &[&["INFO", "server"]], until).map(|_| self);
        };
        let words = ["AUTH", &login.user, password.expose()];
        let named = if login.user.is_empty() { &[words[0], words[2]][..] } else { &words[..] };
        match self.exchange("connecting", &[named], until) {
            Ok(_) => Ok(self),
            // Of whatever else is wrong with a login, the server's sentence tells nothing more.
            Err(Fault::Refused(text)) => Err(Fault::Denied(login_refused(&text))),
            Err(fault) => Err(fault),
        }
    }

    /// Sends commands, and takes a reply for each. The first error among them is the fault.
    fn exchange(&mut self, what: &str, commands: &[&[&str]], until: Instant) -> Result<Vec<Reply>, Fault> {
        let begin = Instant::now();
        let replies = self.connection.exchange(commands, until).map_err(|e| broken(what, e, begin))?;
        match replies.iter().find_map(|reply| if let Reply::Error(text) = reply { Some(text) } else { None }) {
            Some(text) => Err(refusal(what, text)),
            None => Ok(replies),
        }
    }

    fn command(&mut self, words: &[&str]) -> Result<Reply, Fault> {
        // Only the first two words: what follows may be a password.
        let name = words[..words.len().min(2)].join(" ");
        self.exchange(&name, &[words], self.patience.until())?.pop().ok_or_else(|| not_understood(&name))
    }

    fn text(&mut self, words: &[&str]) -> Result<String, Fault> {
        match self.command(words)? {
            Reply::Text(text) => Ok(text),
            _ => Err(not_understood(words[0])),
        }
    }

    /// Looks at the server before `until`: one round trip.
    pub(crate) fn observe_by(&mut self, until: Instant) -> Result<Observation, Fault> {
        let what = "INFO, CONFIG GET";
        let info = ["INFO", "server", "persistence", "replication", "keyspace"];
        let replies = self.exchange(what, &[&info, &["CONFIG", "GET", "min-replicas-*"]], until)?;
        let [Reply::Text(text), Reply::List(settings)] = &replies[..] else { return Err(not_understood(what)) };
        let info = Info::parse(text).ok_or_else(|| not_understood(what))?;
        let setting = |name: &str| {
            settings.chunks_exact(2).find_map(|pair| match pair {
                [Reply::Text(found), Reply::Text(value)] if found == name => value.parse::<u32>().ok(),
                _ => None,
            })
        };
        let lag = setting("min-replicas-max-lag");
        // A lag of 0 switches the whole check off. What cannot be read counts as closed: the server was asked for a number.
        let gate = if lag == Some(0) { 0 } else { setting("min-replicas-to-write").unwrap_or(GATE_CLOSED) };
        Ok(Observation { info, gate, lag: lag.unwrap_or_default(), complaint: self.detour.clone() })
    }

    /// The same, within the limit of each exchange.
    pub(crate) fn observe(&mut self) -> Result<Observation, Fault> {
        self.observe_by(self.patience.until())
    }

    /// The replication part alone, for loops.
    pub(crate) fn replication(&mut self) -> Result<Info, Fault> {
        let text = self.text(&["INFO", "replication"])?;
        Info::parse(&text).ok_or_else(|| not_understood("INFO"))
    }

    /// The number of its process, as it says itself.
    pub(crate) fn process_id(&mut self) -> Result<i32, Fault> {
        let text = self.text(&["INFO", "server"])?;
        text.lines().find_map(|line| line.trim_end().strip_prefix("process_id:")?.parse().ok()).ok_or_else(|| not_understood("INFO"))
    }

    /// A configuration value as the server has it, `None` when it does not know the name.
    pub(crate) fn setting(&mut self, name: &str) -> Result<Option<String>, Fault> {
        match self.command(&["CONFIG", "GET", name])? {
            Reply::List(mut pair) if pair.len() > 1 => Ok(if let Reply::Text(value) = pair.swap_remove(1) { Some(value) } else { None }),
            Reply::List(_) => Ok(None),
            _ => Err(not_understood("CONFIG GET")),
        }
    }

    /// Those of these values that the server knows, with their names: one round trip.
    pub(crate) fn settings(&mut self, names: &[&str]) -> Result<Vec<(String, String)>, Fault> {
        let commands: Vec<[&str; 3]> = names.iter().map(|name| ["CONFIG", "GET", name]).collect();
        let commands: Vec<&[&str]> = commands.iter().map(<[&str; 3]>::as_slice).collect();
        let replies = self.exchange("CONFIG GET", &commands, self.patience.until())?;
        let known = |(name, reply): (&&str, Reply)| match reply {
            Reply::List(pair) => match &pair[..] {
                [_, Reply::Text(value)] => Some(((*name).to_owned(), value.clone())),
                _ => None,
            },
            _ => None,
        };
        Ok(names.iter().zip(replies).filter_map(known).collect())
    }

    /// Sets values in the running server: one round trip.
    pub(crate) fn set_all<T: AsRef<str>>(&mut self, settings: &[(T, T)]) -> Result<(), Fault> {
        let commands: Vec<[&str; 4]> = settings.iter().map(|(name, value)| ["CONFIG", "SET", name.as_ref(), value.as_ref()]).collect();
        let commands: Vec<&[&str]> = commands.iter().map(<[&str; 4]>::as_slice).collect();
        self.exchange("CONFIG SET", &commands, self.patience.until()).map(drop)
    }

    /// Cuts a replica's link to its primary; it attaches again by itself.
    pub(crate) fn cut_link(&mut self) -> Result<(), Fault> {
        self.command(&["CLIENT", "KILL", "TYPE", "master"]).map(drop)
    }

    /// Passes for a replica that asks for a copy, so that a new primary begins its backlog. The caller sees to it that
    /// no copy is made; the connection ends when this returns.
    pub(crate) fn pass_for_replica(mut self) -> Result<(), Fault> {
        self.command(&["REPLCONF", "capa", "eof"])?;
        let begin = Instant::now();
        self.connection.send(&[&["PSYNC", "?", "-1"]], self.patience.until()).map_err(|e| broken("PSYNC", e, begin))?;
        // Not answered before a copy is begun; the next command on another connection comes after it.
        Ok(())
    }

    /// Sets a configuration value in the running server.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        self.command(&["CONFIG", "SET", name, value]).map(drop)
    }

    /// Sets what our command line would have set, in a server that somebody else started on the node `me`. `replica`: it is one.
    pub(crate) fn adopt(&mut self, me: &str, replica: bool) -> Result<(), Fault> {
        self.set("replica-read-only", "yes")?;
        self.set("repl-backlog-ttl", "0")?;
        self.set("replica-ignore-disk-write-errors", "yes")?;
        if self.setting("replica-announce-ip")?.as_deref() != Some(me) {
            self.set("replica-announce-ip", me)?;
            if replica {
                // The name is told when a link begins; what is missed meanwhile comes from the backlog.
                self.cut_link()?;
            }
        }
        if replica { self.close_gate() } else { Ok(()) }
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
        self.command(&["REPLICAOF", host, &port.to_string()]).map(drop)
    }

    /// Makes it a replica of nobody: not a primary, and its position stays where it is.
    pub(crate) fn follow_nobody(&mut self) -> Result<(), Fault> {
        self.follow(NOBODY.0, NOBODY.1)
    }

    /// Gives it the role of a primary. It takes no writes while the gate is closed.
    pub(crate) fn become_primary(&mut self) -> Result<(), Fault> {
        self.command(&["REPLICAOF", "NO", "ONE"]).map(drop)
    }

    /// Makes the replicas say how far they are now; by themselves they do once a second. `WAIT` asks them when it
    /// waits for more than there are.
    pub(crate) fn request_acknowledgements(&mut self) -> Result<(), Fault> {
        self.command(&["WAIT", &GATE_CLOSED.to_string(), "1"]).map(drop)
    }

    /// Writes a drill's marker, which removes itself.
    pub(crate) fn write_marker(&mut self, key: &str) -> Result<(), Fault> {
        self.exchange("SET", &[&["SET", key, "1", "EX", MARKERS_LAST]], self.patience.until()).map(drop)
    }

    /// How many replicas have what this connection wrote, once `needed` have it or their time is over.
    pub(crate) fn confirmed(&mut self, needed: u64) -> Result<u64, Fault> {
        match self.command(&["WAIT", &needed.to_string(), CONFIRMING])? {
            Reply::Number(count) => Ok(u64::try_from(count).unwrap_or_default()),
            _ => Err(not_understood("WAIT")),
        }
    }

    /// Whether each of these keys is there.
    pub(crate) fn existing(&mut self, keys: &[String]) -> Result<Vec<bool>, Fault> {
        let mut all = Vec::new();
        for some in keys.chunks(AT_ONCE) {
            let commands: Vec<[&str; 2]> = some.iter().map(|key| ["EXISTS", key.as_str()]).collect();
            let commands: Vec<&[&str]> = commands.iter().map(<[&str; 2]>::as_slice).collect();
            let replies = self.exchange("EXISTS", &commands, self.patience.until())?;
            all.extend(replies.iter().map(|reply| matches!(reply, Reply::Number(1))));
        }
        Ok(all)
    }

    /// Deletes these keys, those that are there.
    pub(crate) fn delete(&mut self, keys: &[String]) -> Result<(), Fault> {
        for some in keys.chunks(AT_ONCE) {
            let words: Vec<&str> = std::iter::once("DEL").chain(some.iter().map(String::as_str)).collect();
            self.exchange("DEL", &[&words], self.patience.until())?;
        }
        Ok(())
    }

    /// Holds clients' writes back for at most `limit`; the server itself writes nothing either.
    pub(crate) fn pause_writes(&mut self, limit: Duration) -> Result<(), Fault> {
        self.command(&["CLIENT", "PAUSE", &limit.as_millis().to_string(), "WRITE"]).map(drop)
    }

    /// Ends the pause.
    pub(crate) fn resume_writes(&mut self) -> Result<(), Fault> {
        self.command(&["CLIENT", "UNPAUSE"]).map(drop)
    }

    /// Cuts the clients' connections, so that none waits for an answer that another server has to give.
    pub(crate) fn cut_clients(&mut self) -> Result<(), Fault> {
        self.command(&["CLIENT", "KILL", "TYPE", "pubsub"])?;
        self.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])?;
        Ok(())
    }
}

/// Sorts what is wrong with a connection.
fn broken(what: &str, broken: Broken, begin: Instant) -> Fault {
    match broken {
        Broken::Absent(why) => Fault::Absent(format!("{what}: {why}")),
        Broken::Late => Fault::Silent(format!("{what}: no answer from the server within {} ms", begin.elapsed().as_millis())),
        Broken::Closed => Fault::Closed("the server hangs up: it has no free connection; close idle clients, or raise maxclients".into()),
        Broken::Garbled(why) => Fault::Refused(format!("{what}: {why}")),
    }
}

/// Sorts an error of the server. The text that is made of it never holds an argument of ours.
fn refusal(what: &str, text: &str) -> Fault {
    let code = text.split(' ').next().unwrap_or_default();
    match code {
        _ if text.contains("max number of clients") => broken(what, Broken::Closed, Instant::now()),
        "BUSY" => Fault::Engaged(format!("{what}: {text}")),
        "NOAUTH" | "WRONGPASS" => Fault::Denied(login_refused(code)),
        "NOPERM" => {
            Fault::Denied(format!("the server refuses the agent {what} ({code}): give acl_user the rules that docs/redis.md lists"))
        }
        _ => Fault::Refused(format!("{what}: {text}")),
    }
}

fn login_refused(why: &str) -> String {
    format!(
        "the server refuses the agent's login ({}): correct requirepass in the configuration, or password_file and acl_user",
        why.trim_start_matches("connecting: ")
    )
}

fn not_understood(what: &str) -> Fault {
    Fault::Refused(format!("{what}: the answer is not that of Redis or Valkey; see what listens there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_sorted_by_what_can_be_done() {
        assert!(matches!(refusal("AUTH", "ERR max number of clients reached"), Fault::Closed(_)));
        assert!(matches!(refusal("INFO", "BUSY Redis is busy running a script."), Fault::Engaged(_)));
        for text in ["NOAUTH Authentication required.", "WRONGPASS invalid username-password pair", "NOPERM this user has no permissions"] {
            assert!(matches!(refusal("INFO", text), Fault::Denied(_)), "{text}");
        }
        assert!(matches!(refusal("CONFIG GET", "ERR unknown command 'CONFIG'"), Fault::Refused(_)));
    }
}
