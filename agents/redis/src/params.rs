//! The parameters: each declared once, named as in ocf:heartbeat:redis where that has them.

use std::path::PathBuf;

use ocf::{Failure, Kind, Parameter, Secret, Values};
use promotable::params::{both_given, optional};
use promotable::{Drain, HAPROXY_DRAIN, Haproxy};

const BIN: Parameter = Parameter::new("bin", Kind::Path, "server program")
    .or("/usr/bin/redis-server")
    .about("The server program: redis-server of Redis 7.0 or newer, or valkey-server of Valkey 8.1 or newer.");
const CLIENT_BIN: Parameter = Parameter::new("client_bin", Kind::Path, "accepted and not used")
    .or("/usr/bin/redis-cli")
    .about("Accepted so that a configuration of ocf:heartbeat:redis works unchanged. This agent speaks to the server itself and needs no client program.");
const CONFIG: Parameter = Parameter::new("config", Kind::Path, "server configuration")
    .or("/etc/redis/redis.conf")
    .unique("config")
    .about("The server's configuration file. The agent reads passwords, the data directory and the log file from it as the server does, include files and quoting included. It never changes the file.");
const USER: Parameter = Parameter::new("user", Kind::Name, "user that the server runs as").or("redis");
const RUNDIR: Parameter = Parameter::new("rundir", Kind::Path, "directory of the socket and the pid file")
    .or("/var/run/redis")
    .unique("rundir")
    .about("The directory of the Unix socket and the pid file. It is created, and given to the user, when it is missing.");
const PIDFILE_NAME: Parameter = Parameter::new("pidfile_name", Kind::Name, "name of the pid file in rundir").or("redis-server.pid");
const SOCKET_NAME: Parameter = Parameter::new("socket_name", Kind::Name, "name of the Unix socket in rundir").or("redis.sock").about(
    "The name of the Unix socket in rundir. The agent talks to its server over this socket, and over the port when its file is gone.",
);
const PORT: Parameter = Parameter::new("port", Kind::Integer { min: 1, max: 65535 }, "port for replication")
    .or("6379")
    .about("The port at which the replicas reach the primary. With tls-replication it is the server's tls-port.");
const TUNNEL_HOST: Parameter = Parameter::new("tunnel_host", Kind::Text, "host that replication is tunnelled through")
    .or("127.0.0.1")
    .about("When replication runs through tunnels: the host at which each replica finds the tunnels to the others. Has a meaning only with tunnel_port_map.");
const TUNNEL_PORT_MAP: Parameter = Parameter::new("tunnel_port_map", Kind::Text, "tunnel port of each node")
    .about("The port of the tunnel to each node, as node1:port1;node2:port2. Nodes that are not named are reached directly.");
const WAIT_LAST_KNOWN_MASTER: Parameter =
    Parameter::new("wait_last_known_master", Kind::Boolean, "after a full restart, wait for the last primary")
        .or("false")
        .about("After a restart of all servers, promote none but the recorded primary, even when another server has comparable data.");
const ACL_USER: Parameter = Parameter::new("acl_user", Kind::Text, "ACL user of the agent")
    .about("The ACL user as which the agent logs in; the default user when empty. It needs the commands that docs/redis.md lists.");
const PASSWORD: Parameter = Parameter::new("password", Kind::Text, "password of the agent (better: password_file)")
    .secret()
    .about("The password with which the agent logs in. Everybody who may read the CIB can read it: prefer password_file, or cibsecret. Without either, requirepass of the configuration is used.");
const PASSWORD_FILE: Parameter = Parameter::new("password_file", Kind::Path, "file that holds the password of the agent")
    .about("A file whose first line is the password with which the agent logs in. It must belong to root and be readable by nobody else.");
const MASTERUSER: Parameter = Parameter::new("masteruser", Kind::Text, "ACL user of replication")
    .about("The ACL user as which a replica logs in at the primary. Without it, masteruser of the configuration holds.");
const MASTERAUTH_FILE: Parameter = Parameter::new("masterauth_file", Kind::Path, "file that holds the password of replication")
    .about("A file whose first line is the password with which a replica logs in at the primary; owner and mode as for password_file. Without it, masterauth of the configuration holds, and where that is missing too, requirepass.");
const DURABILITIES: [(&str, Durability); 2] = [("async", Durability::Async), ("quorum", Durability::Quorum)];
const DURABILITY_WORDS: &[&str] = &ocf::words(&DURABILITIES);
const DURABILITY: Parameter = Parameter::new("durability", Kind::Choice(DURABILITY_WORDS), "what an acknowledged write is worth")
    .or("async")
    .reloadable()
    .about("async: the primary takes writes as long as it lives; what it acknowledged in the moment before it died may be lost, and how much at most is logged.\n\nquorum: the primary takes writes only while a majority of the servers is attached (min-replicas-to-write), and a server is promoted only when enough positions are known that whatever a client confirmed with WAIT is in the elected data.");
const REPLICA_LAG: Parameter =
    Parameter::new("replica_lag", Kind::Integer { min: 1, max: 3600 }, "seconds after which a replica does not count")
        .or("3")
        .reloadable()
        .about("With durability=quorum, a replica that has not reported for this many seconds does not count (min-replicas-max-lag).");
const KEEP_DIVERGED: Parameter = Parameter::new("keep_diverged", Kind::Boolean, "keep data files that would be given up")
    .or("yes")
    .about("When a server was started with data that the primary does not have, or that cannot be compared with the primary's, keep its data files in a numbered directory under systole-kept in the data directory before it attaches and gets a copy (hard links: they cost no copying).");
const OPEN_NETWORK: Parameter = Parameter::new("open_network", Kind::Boolean, "start a server that asks nobody for a password")
    .or("no")
    .reloadable()
    .about("Start a server that anybody in its network can reach without a password (protected-mode no, bound beyond loopback, no requirepass, no ACL for the default user). Say yes only where nobody else is in that network: whoever reaches the server can read, change and delete all that is in it.");

/// All of them, in the order of the documentation.
pub(crate) const ALL: &[Parameter] = &[
    BIN,
    CLIENT_BIN,
    CONFIG,
    USER,
    RUNDIR,
    PIDFILE_NAME,
    SOCKET_NAME,
    PORT,
    TUNNEL_HOST,
    TUNNEL_PORT_MAP,
    WAIT_LAST_KNOWN_MASTER,
    ACL_USER,
    PASSWORD,
    PASSWORD_FILE,
    MASTERUSER,
    MASTERAUTH_FILE,
    DURABILITY,
    REPLICA_LAG,
    KEEP_DIVERGED,
    OPEN_NETWORK,
    HAPROXY_DRAIN,
];

/// What an acknowledged write is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It may be lost with the primary.
    Async,
    /// Confirmed by WAIT, it survives the loss of any one server.
    Quorum,
}

/// The parameters of a resource.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    pub(crate) bin: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) user: String,
    pub(crate) rundir: PathBuf,
    pub(crate) pidfile: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) port: u16,
    pub(crate) tunnel_host: String,
    pub(crate) tunnels: Vec<(String, u16)>,
    pub(crate) wait_last_known_primary: bool,
    pub(crate) acl_user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) masteruser: Option<String>,
    pub(crate) masterauth_file: Option<PathBuf>,
    pub(crate) durability: Durability,
    pub(crate) replica_lag: u32,
    pub(crate) keep_diverged: bool,
    pub(crate) open_network: bool,
    /// The HAProxy of this node, which is told of a planned move.
    pub(crate) drain: Option<Drain<Haproxy>>,
    /// What is wrong with the values together. `start` and `validate-all` refuse for it; a stop or a probe goes on.
    pub(crate) contradiction: Option<Failure>,
}

impl Params {
    /// Takes the checked values.
    pub(crate) fn new(values: &Values) -> Self {
        let path = |p: &Parameter| values.path(p).unwrap_or_default();
        let optional = |p: &Parameter| optional(values, p);
        let (tunnels, wrong_map) = match tunnels(values) {
            Ok(tunnels) => (tunnels, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let (drain, wrong_drain) = match Drain::at_haproxy(values) {
            Ok(drain) => (drain, None),
            Err(failure) => (None, Some(failure)),
        };
        let contradiction = both_given(values, &PASSWORD, &PASSWORD_FILE).or(wrong_map).or(wrong_drain);
        let rundir = path(&RUNDIR);
        Self {
            bin: path(&BIN),
            config: path(&CONFIG),
            user: values.text(&USER).to_owned(),
            pidfile: rundir.join(values.text(&PIDFILE_NAME)),
            socket: rundir.join(values.text(&SOCKET_NAME)),
            rundir,
            port: u16::try_from(values.integer(&PORT)).unwrap_or(6379),
            tunnel_host: values.text(&TUNNEL_HOST).to_owned(),
            tunnels,
            wait_last_known_primary: values.boolean(&WAIT_LAST_KNOWN_MASTER),
            acl_user: optional(&ACL_USER),
            password: values.secret(&PASSWORD),
            password_file: values.path(&PASSWORD_FILE),
            masteruser: optional(&MASTERUSER),
            masterauth_file: values.path(&MASTERAUTH_FILE),
            durability: values.choice(&DURABILITY, &DURABILITIES, Durability::Async),
            replica_lag: u32::try_from(values.integer(&REPLICA_LAG)).unwrap_or(3),
            keep_diverged: values.boolean(&KEEP_DIVERGED),
            open_network: values.boolean(&OPEN_NETWORK),
            drain,
            contradiction,
        }
    }

    /// How many replicas must be attached for the gate to be open, and how old their last report may be.
    ///
    /// # Errors
    /// With durability=quorum, when nobody said how many servers there are: none would be as good as all.
    pub(crate) fn gate(&self, servers: Option<u32>) -> Result<(u32, u32), Failure> {
        let lag = self.replica_lag;
        match (self.durability, servers) {
            (Durability::Async, _) => Ok((0, lag)),
            (Durability::Quorum, Some(servers)) => Ok((servers / 2, lag)),
            (Durability::Quorum, None) => Err(Failure::generic(
                "durability=quorum needs the number of servers, and the cluster did not say it: make the resource a clone with meta clone-max",
            )),
        }
    }

    /// With durability=quorum, how many replicas make a majority together with the primary; `None` with async. Where nobody said how many
    /// servers there are, one: then whoever is silent may hold a confirmed write.
    pub(crate) fn confirmations(&self, servers: Option<u32>) -> Option<usize> {
        let servers = servers.unwrap_or(2);
        (self.durability == Durability::Quorum).then_some(servers as usize / 2)
    }

    /// Host and port at which a replica on this node reaches the server of `node`.
    pub(crate) fn address_of(&self, node: &str) -> (String, u16) {
        match self.tunnels.iter().find(|(name, _)| name == node) {
            Some((_, port)) => (self.tunnel_host.clone(), *port),
            None => (node.to_owned(), self.port),
        }
    }
}

fn tunnels(values: &Values) -> Result<Vec<(String, u16)>, Failure> {
    let map = values.text(&TUNNEL_PORT_MAP);
    map.split(';')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let (node, port) = entry.split_once(':')?;
            Some((node.trim().to_owned(), port.trim().parse().ok().filter(|p| *p > 0)?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| {
            values.contradiction(format!("parameter tunnel_port_map ({}) is not of the form node:port;node:port", map.escape_debug()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocf::Environment;

    fn params(pairs: &[(&str, &str)]) -> Result<Params, Failure> {
        let environment = Environment::from_pairs(pairs.iter().map(|(k, v)| (format!("OCF_RESKEY_{k}"), (*v).to_owned())));
        let params = Params::new(&Values::read(ALL, &environment)?);
        params.contradiction.clone().map_or(Ok(params), Err)
    }

    #[test]
    fn a_node_is_reached_through_its_tunnel_or_directly() {
        let params = params(&[("tunnel_port_map", "a:7001; b:7002;"), ("tunnel_host", "10.0.0.1")]).unwrap();
        assert_eq!(params.address_of("b"), ("10.0.0.1".into(), 7002));
        assert_eq!(params.address_of("c"), ("c".into(), 6379));
    }

    #[test]
    fn nonsense_is_named() {
        for (name, value, reason) in [
            ("tunnel_port_map", "a=1", "node:port;node:port"),
            ("tunnel_port_map", "a:0", "node:port;node:port"),
            ("port", "0", "from 1 to 65535"),
            ("rundir", "relative", "absolute path"),
            ("socket_name", "../x", "plain name"),
            ("durability", "lossless", "one of async, quorum"),
        ] {
            let failure = params(&[(name, value)]).unwrap_err();
            assert!(failure.reason.contains(reason) && failure.reason.contains(name), "{failure}");
        }
    }

    #[test]
    fn two_passwords_are_one_too_many() {
        assert!(params(&[("password", "a"), ("password_file", "/b")]).is_err());
    }
}
