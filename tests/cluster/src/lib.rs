//! What the scenarios and the benchmark share: a rehearsal cluster with database servers in it, loaded from the snippet
//! that operators load.

pub mod figures;
pub mod galera;
pub mod haproxy;
pub mod jobs;
mod mysql;
pub mod origin;
pub mod page;
pub mod processor;
pub mod recipe;
mod redis;
pub mod rejoin;
mod scenario;
pub mod sentinel;
mod site;
pub mod soak;
pub mod stock;
pub mod stub;
pub mod workshop;

use std::path::{Path, PathBuf};

use lab::{Error, Node, Result};

pub use scenario::{expect, finish, held, held_after, keep_logs, scenario};
pub use site::{Setup, Site};

/// Which agent runs the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Ours.
    Systole,
    /// The one of the distribution, under the same conditions: ocf:heartbeat:redis, ocf:heartbeat:mariadb.
    Stock,
    /// ocf:heartbeat:mysql, which replicates by file and position.
    StockByPosition,
}

/// What an acknowledged write is worth in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The server's own acknowledgement, which is asynchronous.
    Async,
    /// A replica has it. Redis: durability=quorum, and a write counts when `WAIT 1` confirmed it. MySQL: lossless.
    Quorum,
}

/// How a server is made ready, asked and written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Redis and Valkey.
    Redis,
    /// MariaDB.
    MariaDb,
    /// MySQL with semi-synchronous replication.
    MySql,
    /// MySQL 8.0, unpacked beside the server of the distribution.
    MySql80,
    /// MySQL 5.7 likewise, without the plugins of semi-synchronous replication, so durability=async-allowed.
    MySql57,
    /// MySQL 5.6 likewise.
    MySql56,
    /// Nothing, by an agent that does nothing, in the place of one of the others: the floor of the benchmarks.
    Stub,
}

/// Which server runs, as the snippets have it.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// What it is.
    pub kind: Kind,
    /// The primitive, and the name of the snippet's file.
    pub resource: &'static str,
    /// The server's process: its name, or a part of its command line.
    pub process: &'static str,
    /// Its command line client.
    pub client: &'static str,
    /// Where below /etc the snippet expects the configuration; its user has the directory's name.
    pub directory: &'static str,
    /// The only image that has it; `None` when every generation has one of its own.
    pub image: Option<&'static str>,
}

/// Redis of the distribution: 7.0 in Debian 12, 8.0 in Debian 13.
pub const REDIS: Server =
    Server { kind: Kind::Redis, resource: "redis", process: "redis-server", client: "redis-cli", directory: "redis", image: None };
/// Valkey of Debian 13.
pub const VALKEY: Server =
    Server { resource: "valkey", process: "valkey-server", client: "valkey-cli", directory: "valkey", image: Some("debian13"), ..REDIS };
/// MariaDB of the distribution: 10.11 in Debian 12, 11.8 in Debian 13.
pub const MARIADB: Server = Server {
    kind: Kind::MariaDb,
    resource: "mysql",
    // Its name is that of the link in the agent's parameter, or of what that leads to.
    process: "--datadir=/var/lib/mysql",
    client: "mariadb",
    directory: "mysql",
    image: None,
};
/// MySQL 9.7 of Debian sid.
pub const MYSQL: Server = Server { kind: Kind::MySql, client: "mysql", image: Some("sid"), ..MARIADB };
/// MySQL 8.0, beside MariaDB in an image of its own, whose client it is asked with.
pub const MYSQL_80: Server = Server { kind: Kind::MySql80, image: Some("debian12-mysql"), ..MARIADB };
/// MySQL 5.7 likewise.
pub const MYSQL_57: Server = Server { kind: Kind::MySql57, ..MYSQL_80 };
/// MySQL 5.6 likewise, in the image of Debian 12.
pub const MYSQL_56: Server = Server { kind: Kind::MySql56, image: Some("debian12"), ..MARIADB };

impl Kind {
    /// Whether a write can be made to wait until a replica has it.
    #[must_use]
    pub fn is_lossless(self) -> bool {
        !matches!(self, Self::MySql56 | Self::MySql57)
    }

    /// Where it was unpacked, if it is none of the distribution's.
    fn base(self) -> Option<&'static str> {
        match self {
            Self::MySql80 => Some("/opt/mysql-8.0"),
            Self::MySql57 => Some("/opt/mysql-5.7"),
            Self::MySql56 => Some("/opt/mysql-5.6"),
            _ => None,
        }
    }
}

impl Server {
    /// Its data, a directory.
    #[must_use]
    pub fn data(&self) -> String {
        format!("/var/lib/{}", self.directory)
    }

    /// Where our agent keeps what has to survive a power cut, if that is not among the data.
    #[must_use]
    pub fn beside_the_data(&self) -> Option<String> {
        (!matches!(self.kind, Kind::Redis | Kind::Stub)).then(|| format!("{}.systole-kept", self.data()))
    }
}

/// The same on every node at once.
///
/// # Errors
/// The first one.
pub fn on_all(nodes: &[Node], action: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let running: Vec<_> = nodes.iter().map(|node| scope.spawn(|| action(node))).collect();
        let joined = running.into_iter().map(|r| r.join().unwrap_or_else(|_| Err(Error::Refused("a thread panicked".into()))));
        joined.collect::<Vec<_>>().into_iter().collect()
    })
}

/// The name of a scenario's lab: the same scenario may run on another generation of nodes at the same time.
#[must_use]
pub fn lab_name(scenario: &str) -> String {
    match lab::image::usual().as_str() {
        "debian12" => scenario.to_owned(),
        image => format!("{scenario}-{image}"),
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Debian package that `make stage` made.
pub fn package() -> Result<PathBuf> {
    package_of("SYSTOLE_PACKAGE")
}

/// The one before it, to be upgraded.
pub fn old_package() -> Result<PathBuf> {
    package_of("SYSTOLE_OLD_PACKAGE")
}

fn package_of(variable: &str) -> Result<PathBuf> {
    let file = std::env::var_os(variable).map(PathBuf::from).filter(|file| file.is_file());
    file.ok_or_else(|| Error::Refused(format!("{variable} does not name a Debian package of systole: run this by `make cluster`")))
}

/// A file of crm-snippets/.
pub fn snippet(name: &str) -> Result<String> {
    read(&repository().join("crm-snippets").join(name))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::Refused(format!("{}: {e}", path.display())))
}
