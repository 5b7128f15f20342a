//! HAProxy: asked over its socket, one command a connection.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use ocf::{Failure, Kind, Parameter, Values};
use serde::{Deserialize, Serialize};

use super::{Drain, Fault, Proxy, Seen, is_name};

/// The parameter, the same for all databases.
pub const HAPROXY_DRAIN: Parameter =
    Parameter::new("haproxy_drain", Kind::Text, "HAProxy of each node that is told of a planned move").reloadable().about(
        "SOCKET BACKEND: the HAProxy of each node, and its section with the servers, which have the names of the nodes. With the files of \
         crm-snippets that is /run/haproxy/admin.sock redis, with mariadb in the place of redis for MariaDB. Before a planned move the agent \
         on every node sets the old primary to drain there, so that nobody is passed on to it any more, and waits until its sessions have \
         ended, 0.3 s at most. The server is ready again when HAProxy's check keeps it out; a third word is the number of seconds after which \
         it is so in any case (15). The socket needs level admin. Empty: HAProxy is told nothing.",
    );

/// More than a table of servers ever is. Bytes.
const LONGEST_ANSWER: u64 = 256 * 1024;

/// The HAProxy of this node, and its section with the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Haproxy {
    socket: PathBuf,
    backend: String,
}

impl Drain<Haproxy> {
    /// What the parameter says; nothing when it is empty.
    ///
    /// # Errors
    /// That it is not of its form.
    pub fn at_haproxy(values: &Values) -> Result<Option<Self>, Failure> {
        Self::read(values, &HAPROXY_DRAIN, "SOCKET BACKEND", |socket, backend| {
            (socket.starts_with('/') && is_name(backend)).then(|| Haproxy { socket: socket.into(), backend: backend.to_owned() })
        })
    }
}

impl Proxy for Haproxy {
    const NAME: &'static str = "HAProxy";
    const MARK: &'static str = "drain";

    fn look(&self, node: &str, until: Instant) -> Result<Option<Seen>, Fault> {
        let table = ask(&self.socket, &format!("show stat {} 4 -1", self.backend), until).map_err(|e| self.failed(&e))?;
        Ok(row(&table, node))
    }

    fn drain(&self, node: &str, until: Instant) -> Result<(), Fault> {
        self.order(node, "drain", until)
    }

    fn ready(&self, node: &str, until: Instant) -> Result<(), Fault> {
        self.order(node, "ready", until)
    }

    fn place(&self) -> String {
        self.backend.clone()
    }
}

impl Haproxy {
    /// An order of HAProxy's answers nothing when it was carried out.
    fn order(&self, node: &str, state: &str, until: Instant) -> Result<(), Fault> {
        let command = format!("set server {} state {state}", self.server(node));
        match ask(&self.socket, &command, until).map_err(|e| self.failed(&e))?.trim() {
            "" => Ok(()),
            said => {
                let said: String = said.chars().take(200).collect();
                Err(Fault::Refused(format!("HAProxy refused ({said}): {} needs level admin", self.socket.display())))
            }
        }
    }

    fn failed(&self, error: &io::Error) -> Fault {
        let text = format!("HAProxy at {}: {error}", self.socket.display());
        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            Fault::Over(text)
        } else {
            Fault::Failed(text)
        }
    }
}

/// The server's line of `show stat`: CSV with a line of headings. Columns: 1 svname, 4 scur, 17 status.
fn row(table: &str, node: &str) -> Option<Seen> {
    let columns = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let row = table.lines().map(columns).find(|row| row.get(1).is_some_and(|name| name == node))?;
    let status = row.get(17)?;
    Some(Seen {
        serves: status.starts_with("UP") || status == "no check",
        kept_out: status.starts_with("DOWN"),
        sessions: row.get(4)?.parse().ok()?,
    })
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use ocf::Environment;

    #[test]
    fn the_parameter_is_a_socket_and_a_section() {
        let read = |text: &str| {
            let environment = Environment::from_pairs([("OCF_RESKEY_haproxy_drain".to_owned(), text.to_owned())]);
            Drain::at_haproxy(&Values::read(&[HAPROXY_DRAIN], &environment).unwrap())
        };
        assert_eq!(read(" "), Ok(None));
        let drain = read("/run/haproxy/admin.sock redis").unwrap().unwrap();
        assert_eq!((drain.proxy.socket.as_path(), drain.proxy.backend.as_str()), (Path::new("/run/haproxy/admin.sock"), "redis"));
        assert_eq!(drain.by_itself, Duration::from_secs(15));
        assert_eq!(read("/s r 2").unwrap().unwrap().by_itself, Duration::from_secs(2));
        for wrong in ["/s", "s r", "/s r;x", "/s r/x", "/s r 0", "/s r 1s", "/s r 3601", "/s r 1 1"] {
            let failure = read(wrong).unwrap_err();
            assert!(failure.reason.contains("not of the form SOCKET BACKEND"), "{wrong}: {failure}");
        }
    }

    #[test]
    fn the_table_of_the_servers_is_read() {
        let line = |name: &str, sessions: &str, status: &str| format!("redis,{name},0,0,{sessions},1,,2,3,4,,0,,0,0,0,0,{status},1,1,0\n");
        let table =
            ["# pxname,svname,qcur,qmax,scur\n", &line("a", "3", "UP"), &line("b", "0", "DOWN 1/2"), &line("c", "1", "DRAIN")].concat();
        assert_eq!(row(&table, "a"), Some(Seen { serves: true, kept_out: false, sessions: 3 }));
        assert_eq!(row(&table, "b"), Some(Seen { serves: false, kept_out: true, sessions: 0 }));
        assert_eq!(row(&table, "c"), Some(Seen { serves: false, kept_out: false, sessions: 1 }));
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
