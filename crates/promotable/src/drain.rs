//! Draining at this node's HAProxy before a planned move, and undoing it. So no client's connection is on the old primary when that is
//! closed, and who comes meanwhile waits in HAProxy for the next one.
//!
//! It is undone when HAProxy's own check keeps the server out, and not before: a promotion can be over sooner than HAProxy has seen the
//! demotion. A process that outlives the notification waits for that, and undoes it after a time in any case.
//!
//! It is a courtesy: whatever fails here is logged and holds no demotion up beyond [`limits::DRAINING`]. Nothing is decided by it, so it
//! is no part of the protocol and does not take the lock of the actions.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use ocf::{Failure, Kind, Log, Notification, Operation, Parameter, Peers, Phase, Values};
use process::{Identity, own};
use serde::{Deserialize, Serialize};

use crate::limits;

/// The parameter, the same for all databases.
pub const HAPROXY_DRAIN: Parameter =
    Parameter::new("haproxy_drain", Kind::Text, "HAProxy of each node that is told of a planned move").reloadable().about(
        "SOCKET BACKEND: the HAProxy of each node, and its section with the servers, which have the names of the nodes. With the files of \
         crm-snippets that is /run/haproxy/admin.sock redis, with mariadb in the place of redis for MariaDB. Before a planned move the agent \
         on every node sets the old primary to drain there, so that nobody is passed on to it any more, and waits until its sessions have \
         ended, 0.3 s at most. The server is ready again when HAProxy's check keeps it out; a third word is the number of seconds after which \
         it is so in any case (15). The socket needs level admin. Empty: HAProxy is told nothing.",
    );

/// When nobody has undone it, it undoes itself. Sooner than HAProxy gives up those who wait (20 s): a transition may be aborted behind the
/// notification, and then the primary stays.
const BY_ITSELF: Duration = Duration::from_secs(15);
/// The longest that can be asked for: who waits for it stays in memory.
const LONGEST_BY_ITSELF: u64 = 3600;
/// How often the sessions are counted.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// How often it is looked whether it can be undone.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// How long HAProxy may take to answer who can wait.
const ANSWER: Duration = Duration::from_secs(1);
/// How long it is tried to undo it by itself when HAProxy does not answer.
const TRIED: Duration = Duration::from_secs(600);
/// More than a table of servers ever is. Bytes.
const LONGEST_ANSWER: u64 = 256 * 1024;

/// The HAProxy of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    socket: PathBuf,
    backend: String,
    by_itself: Duration,
}

/// What was drained here, in a file that every boot removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    socket: PathBuf,
    /// As HAProxy names it: `BACKEND/SERVER`.
    server: String,
    /// Who undoes it by itself.
    undoer: Identity,
}

/// A server as HAProxy sees it.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    /// Whether connections are passed on to it.
    serves: bool,
    /// Whether it does not pass its check.
    kept_out: bool,
    sessions: u64,
}

impl Mark {
    fn ready(&self, until: Instant) -> Result<(), Fault> {
        order(&self.socket, &format!("set server {} state ready", self.server), until)
    }
}

impl Drain {
    /// What the parameter says; nothing when it is empty.
    ///
    /// # Errors
    /// That it is not of its form.
    pub fn read(values: &Values) -> Result<Option<Self>, Failure> {
        let text = values.text(&HAPROXY_DRAIN);
        if text.trim().is_empty() {
            return Ok(None);
        }
        Self::parse(text).map(Some).ok_or_else(|| {
            values.contradiction(format!("parameter haproxy_drain ({}) is not of the form SOCKET BACKEND", text.escape_debug()))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (socket, backend, by_itself) = match words.as_slice() {
            [socket, backend] => (socket, backend, BY_ITSELF),
            [socket, backend, seconds] => {
                let seconds = seconds.parse().ok().filter(|seconds| (1..=LONGEST_BY_ITSELF).contains(seconds))?;
                (socket, backend, Duration::from_secs(seconds))
            }
            _ => return None,
        };
        (socket.starts_with('/') && is_name(backend)).then(|| Self { socket: socket.into(), backend: (*backend).to_owned(), by_itself })
    }

    /// Does what a notification asks for: drains before a planned move, undoes it after the promotion. To be called without the lock of
    /// the actions, which the process that undoes it by itself would keep.
    pub fn notified(&self, directory: &Path, resource: &str, notification: &Notification, log: &Log) {
        let mark = directory.join(format!("systole-{resource}.drain"));
        match (notification.phase, notification.operation) {
            (Phase::Pre, Operation::Demote) => {
                // What is drained since the last move, and cannot be undone, is enough to wait for.
                if let Some(node) = leaving(&notification.peers).filter(|_| undo(&mark, log)) {
                    let said =
                        own::make_directories(directory, 0o755).map_err(|e| e.to_string()).and_then(|()| self.drain(&mark, node, log));
                    if let Err(why) = said {
                        log.warning(format!("{why}: {node} is not drained before the move, and clients may fail"));
                    }
                }
            }
            (Phase::Post, Operation::Promote) => self.promoted(&mark, &notification.peers, log),
            _ => {}
        }
    }

    fn drain(&self, mark: &Path, node: &str, log: &Log) -> Result<(), String> {
        let until = Instant::now() + limits::DRAINING;
        let unknown = || format!("HAProxy has no server {node} in {}", self.backend);
        if !is_name(node) {
            return Err(unknown());
        }
        let found = self.look(node, until)?.ok_or_else(unknown)?;
        if !found.serves {
            // It died, or an operator has drained it: neither is ours to undo.
            return Ok(());
        }
        let server = format!("{}/{node}", self.backend);
        let remember = |undoer: &Identity| {
            let mark_of_ours = Mark { socket: self.socket.clone(), server: server.clone(), undoer: undoer.clone() };
            serde_json::to_vec(&mark_of_ours)
                .map_err(|e| e.to_string())
                .and_then(|text| own::write(mark, &text, 0o600).map_err(|e| format!("{}: {e}", mark.display())))
        };
        // First, so that it is undone whatever becomes of this action. An answer that comes too late is an order that may be carried out.
        process::detach(remember, || self.undo_by_itself(mark, node))?;
        match order(&self.socket, &format!("set server {server} state drain"), until) {
            Ok(()) => {}
            Err(Fault::Refused(said)) => {
                forget(mark);
                return Err(refusal(&self.socket, &said));
            }
            Err(Fault::Failed(e)) => return Err(failed(&self.socket, &e)),
        }
        let mut sessions = found.sessions;
        while sessions > 0 && Instant::now() + BETWEEN_LOOKS < until {
            std::thread::sleep(BETWEEN_LOOKS);
            // Time is over, or it is gone: nobody is waited for any more.
            match self.look(node, until) {
                Ok(Some(server)) => sessions = server.sessions,
                _ => break,
            }
        }
        log.notice(format!("HAProxy passes nobody on to {server} any more; sessions there: {sessions}"));
        Ok(())
    }

    /// Undoes it if it is time: it is promoted again, or its check keeps it out. Otherwise its process does that in a moment.
    fn promoted(&self, mark: &Path, peers: &Peers, log: &Log) {
        let Some(node) = marked(mark).and_then(|marked| Some(marked.server.rsplit_once('/')?.1.to_owned())) else { return };
        let again = peers.promote.iter().any(|m| m.node == node);
        match self.look(&node, Instant::now() + limits::DRAINING) {
            Ok(Some(server)) if !again && !server.kept_out => {}
            Err(why) => log.warning(format!("{why}: {node} is still drained there; it is tried again")),
            Ok(_) => drop(undo(mark, log)),
        }
    }

    /// Undoes it when its check keeps it out, or nobody has done it for so long. A HAProxy that has ended begins anew, with all servers
    /// ready.
    fn undo_by_itself(&self, mark: &Path, node: &str) {
        let (begun, me) = (Instant::now(), i32::try_from(std::process::id()).ok().and_then(Identity::of));
        while begun.elapsed() < self.by_itself + TRIED {
            std::thread::sleep(BETWEEN_TRIES);
            let Some(marked) = marked(mark).filter(|marked| Some(&marked.undoer) == me.as_ref()) else { return };
            let until = Instant::now() + ANSWER;
            let kept_out = || self.look(node, until).is_ok_and(|server| server.is_some_and(|server| server.kept_out));
            if begun.elapsed() < self.by_itself && !kept_out() {
                continue;
            }
            match marked.ready(until) {
                Err(Fault::Failed(e)) if !is_over(&e) => {}
                _ => {
                    let _ = own::remove(mark);
                    return;
                }
            }
        }
    }

    /// What HAProxy says of the server.
    fn look(&self, node: &str, until: Instant) -> Result<Option<Server>, String> {
        let table = ask(&self.socket, &format!("show stat {} 4 -1", self.backend), until).map_err(|e| failed(&self.socket, &e))?;
        Ok(row(&table, node))
    }
}

/// Whose clients are to be drained: the promoted instance that is to be demoted so that another node's is promoted.
fn leaving(peers: &Peers) -> Option<&str> {
    let leaves = peers.demote.iter().find(|m| peers.promoted.iter().any(|promoted| promoted.node == m.node))?;
    peers.promote.iter().any(|m| m.node != leaves.node).then_some(leaves.node.as_str())
}

/// Whether it can stand in a command as it is.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
}

/// The server's line of `show stat`: CSV with a line of headings. Columns: 1 svname, 4 scur, 17 status.
fn row(table: &str, node: &str) -> Option<Server> {
    let columns = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let row = table.lines().map(columns).find(|row| row.get(1).is_some_and(|name| name == node))?;
    let status = row.get(17)?;
    Some(Server {
        serves: status.starts_with("UP") || status == "no check",
        kept_out: status.starts_with("DOWN"),
        sessions: row.get(4)?.parse().ok()?,
    })
}

/// Why an order was not carried out.
enum Fault {
    /// HAProxy says so.
    Refused(String),
    /// It was not heard, or not answered in time.
    Failed(io::Error),
}

/// An order of HAProxy's answers nothing when it was carried out.
fn order(socket: &Path, command: &str, until: Instant) -> Result<(), Fault> {
    match ask(socket, command, until).map_err(Fault::Failed)?.trim() {
        "" => Ok(()),
        said => Err(Fault::Refused(said.chars().take(200).collect())),
    }
}

fn refusal(socket: &Path, said: &str) -> String {
    format!("HAProxy refused ({said}): {} needs level admin", socket.display())
}

fn failed(socket: &Path, error: &io::Error) -> String {
    format!("HAProxy at {}: {error}", socket.display())
}

/// One command on a connection of its own, which HAProxy closes behind its answer.
fn ask(socket: &Path, command: &str, until: Instant) -> io::Result<String> {
    let left = || {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")) } else { Ok(left) }
    };
    let mut stream = process::connect(socket, left()?)?;
    // The directory may be HAProxy's own account's, and the socket another one than root's HAProxy made.
    let listener = getsockopt(&stream, PeerCredentials)?.uid();
    if listener != 0 && listener != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user than root listens there"));
    }
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut part) {
            Ok(0) => return Ok(String::from_utf8_lossy(&answer).into_owned()),
            Ok(n) => answer.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => left().map(drop)?,
            Err(e) => return Err(e),
        }
        if answer.len() as u64 > LONGEST_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more of an answer than HAProxy's"));
        }
    }
}

fn marked(mark: &Path) -> Option<Mark> {
    serde_json::from_slice(&own::read(mark).ok()?).ok()
}

/// What was not drained need not be undone.
fn forget(mark: &Path) {
    if let Some(marked) = marked(mark) {
        marked.undoer.kill();
    }
    let _ = own::remove(mark);
}

/// Whether nobody listens there any more: that HAProxy has ended, and the next one begins with all servers ready.
fn is_over(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Makes ready what was drained here, if anything was. Returns whether nothing is drained by us any more.
fn undo(mark: &Path, log: &Log) -> bool {
    let Some(marked) = marked(mark) else { return true };
    match marked.ready(Instant::now() + limits::DRAINING) {
        Ok(()) => {
            forget(mark);
            true
        }
        Err(Fault::Failed(e)) if is_over(&e) => {
            forget(mark);
            true
        }
        // It does not know the server any more, or takes no orders: not now, and not the next time.
        Err(Fault::Refused(said)) => {
            log.warning(format!("{}: {} is not made ready there", refusal(&marked.socket, &said), marked.server));
            forget(mark);
            true
        }
        Err(Fault::Failed(e)) => {
            let why = failed(&marked.socket, &e);
            log.warning(format!("{why}: {} is still drained there; it is tried again", marked.server));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocf::{Environment, Member};

    fn members(nodes: &[&str]) -> Vec<Member> {
        nodes.iter().map(|node| Member { instance: "r".into(), node: (*node).to_owned() }).collect()
    }

    #[test]
    fn the_parameter_is_a_socket_and_a_section() {
        let read = |text: &str| {
            let environment = Environment::from_pairs([("OCF_RESKEY_haproxy_drain".to_owned(), text.to_owned())]);
            Drain::read(&Values::read(&[HAPROXY_DRAIN], &environment).unwrap())
        };
        assert_eq!(read(" "), Ok(None));
        let drain = read("/run/haproxy/admin.sock redis").unwrap().unwrap();
        assert_eq!((drain.socket.as_path(), drain.backend.as_str()), (Path::new("/run/haproxy/admin.sock"), "redis"));
        assert_eq!(drain.by_itself, Duration::from_secs(15));
        assert_eq!(read("/s r 2").unwrap().unwrap().by_itself, Duration::from_secs(2));
        for wrong in ["/s", "s r", "/s r;x", "/s r/x", "/s r 0", "/s r 1s", "/s r 3601", "/s r 1 1"] {
            let failure = read(wrong).unwrap_err();
            assert!(failure.reason.contains("not of the form SOCKET BACKEND"), "{wrong}: {failure}");
        }
    }

    #[test]
    fn only_a_move_to_another_node_drains() {
        let peers = |promoted: &[&str], demote: &[&str], promote: &[&str]| Peers {
            promoted: members(promoted),
            demote: members(demote),
            promote: members(promote),
            ..Peers::default()
        };
        assert_eq!(leaving(&peers(&["a"], &["a"], &["b"])), Some("a"));
        assert_eq!(leaving(&peers(&["a"], &["a"], &[])), None, "nobody is promoted: the clone is stopped");
        assert_eq!(leaving(&peers(&["a"], &["a"], &["a"])), None, "it is only restarted");
        assert_eq!(leaving(&peers(&["a", "b"], &["b"], &[])), None, "one too many is demoted");
        assert_eq!(leaving(&peers(&[], &["a"], &["b"])), None, "it was not promoted");
    }

    #[test]
    fn the_table_of_the_servers_is_read() {
        let line = |name: &str, sessions: &str, status: &str| format!("redis,{name},0,0,{sessions},1,,2,3,4,,0,,0,0,0,0,{status},1,1,0\n");
        let table =
            ["# pxname,svname,qcur,qmax,scur\n", &line("a", "3", "UP"), &line("b", "0", "DOWN 1/2"), &line("c", "1", "DRAIN")].concat();
        assert_eq!(row(&table, "a"), Some(Server { serves: true, kept_out: false, sessions: 3 }));
        assert_eq!(row(&table, "b"), Some(Server { serves: false, kept_out: true, sessions: 0 }));
        assert_eq!(row(&table, "c"), Some(Server { serves: false, kept_out: false, sessions: 1 }));
        for nothing in ["", "\n", "No such proxy.\n", ",,,\n", &line("d", "x", "UP"), "redis,d,,,1"] {
            assert_eq!(row(nothing, "d"), None, "{nothing}");
        }
    }

    /// A listener that takes a connection and says nothing, one that never ends, and none at all.
    #[test]
    fn a_silent_or_endless_haproxy_is_waited_for_no_longer_than_the_limit() {
        let path = std::env::temp_dir().join(format!("systole-drain-{}", std::process::id()));
        let within = |limit: u64| ask(&path, "show stat r 4 -1", Instant::now() + Duration::from_millis(limit)).unwrap_err().kind();
        assert_eq!(within(100), io::ErrorKind::NotFound);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(within(100), io::ErrorKind::TimedOut, "silent");
        let endless = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                while stream.write_all(&[b'x'; 4096]).is_ok() {}
            }
        });
        assert_eq!(within(10_000), io::ErrorKind::InvalidData, "endless");
        endless.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
