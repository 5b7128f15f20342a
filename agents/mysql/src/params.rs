//! The parameters: each declared once, named as in ocf:heartbeat:mysql and ocf:heartbeat:mariadb where those have them.

use std::path::{Path, PathBuf};

use ocf::{Failure, Kind, Parameter, Secret, Values};
use promotable::params::{both_given, optional};
use promotable::{Drain, HAPROXY_DRAIN, Haproxy};

use crate::premises::Wanted;
use crate::proxysql::{self, PROXYSQL_DRAIN, ProxySql};

const BINARY: Parameter = Parameter::new("binary", Kind::Path, "server program")
    .or("/usr/sbin/mysqld")
    .about("The server program: mysqld or mariadbd. The wrapper mysqld_safe restarts the server behind Pacemaker's back; where it is given, the server beside it is run instead.");
const CLIENT_BINARY: Parameter = Parameter::new("client_binary", Kind::Text, "accepted and not used")
    .or("mysql")
    .about("Accepted so that a configuration of ocf:heartbeat:mysql works unchanged. This agent speaks to the server itself and needs no client program.");
const CONFIG: Parameter = Parameter::new("config", Kind::Path, "server configuration")
    .or("/etc/mysql/my.cnf")
    .about("The server's option file, given to it as --defaults-file. The agent never changes it. When the default does not exist, /etc/my.cnf is used.");
const DATADIR: Parameter = Parameter::new("datadir", Kind::Path, "data directory").or("/var/lib/mysql").unique("datadir");
const USER: Parameter = Parameter::new("user", Kind::Name, "user that the server runs as").or("mysql");
const GROUP: Parameter = Parameter::new("group", Kind::Name, "accepted and not used").or("mysql").about(
    "Accepted so that a configuration of ocf:heartbeat:mysql works unchanged. What the agent makes belongs to the user and its main group.",
);
const LOG: Parameter = Parameter::new("log", Kind::Path, "the server's error log")
    .or("/var/log/mysql/error.log")
    .about("The server's error log, given to it as --log-error. Its end is part of the reason when the server does not start.");
const PID: Parameter = Parameter::new("pid", Kind::Path, "pid file").or("/run/mysqld/mysqld.pid").unique("pid");
const SOCKET: Parameter = Parameter::new("socket", Kind::Path, "Unix socket")
    .or("/run/mysqld/mysqld.sock")
    .unique("socket")
    .about("The Unix socket. The agent talks to the server over it and over nothing else.");
const TEST_USER: Parameter = Parameter::new("test_user", Kind::Text, "the agent's account")
    .or("root")
    .about("The account that the agent logs in with, over the socket. Root with unix_socket or auth_socket authentication, as the distributions install it, needs no password. The grants that another account needs are in mysql-accounts-*.sql beside the snippets.");
const TEST_PASSWD: Parameter = Parameter::new("test_passwd", Kind::Text, "password of test_user").secret().about(
    "The password of test_user. Better in test_passwd_file, or set with `crm resource secret`, so that it does not stand in the CIB.",
);
const TEST_PASSWD_FILE: Parameter = Parameter::new("test_passwd_file", Kind::Path, "file with the password of test_user")
    .about("A file whose first line is the password of test_user. It must belong to root and be readable by nobody else.");
const TEST_TABLE: Parameter = Parameter::new("test_table", Kind::Text, "table read by a deep monitor").about(
    "A table as database.table that a monitor with OCF_CHECK_LEVEL=10 reads a row of. A table that cannot be read fails the monitor.",
);
const ENABLE_CREATION: Parameter = Parameter::new("enable_creation", Kind::Boolean, "make a missing data directory")
    .or("no")
    .about("When the data directory holds no database at start, make an empty one. The accounts have to be created then: see mysql-accounts-*.sql.");
const ADDITIONAL_PARAMETERS: Parameter = Parameter::new("additional_parameters", Kind::Text, "further arguments of the server")
    .about("Further command line arguments of the server, separated by blanks. The ones that keep a server closed until it is promoted come after them.");
const REPLICATION_USER: Parameter = Parameter::new("replication_user", Kind::Text, "account of replication")
    .or("replication")
    .reloadable()
    .about("The account that replicas log in with at the primary. It needs REPLICATION SLAVE, and BACKUP_ADMIN where a MySQL is copied (rejoin=clone, rejoin=rewind-or-clone).");
const REPLICATION_PASSWD: Parameter = Parameter::new("replication_passwd", Kind::Text, "password of replication_user")
    .secret()
    .reloadable()
    .about("The password of replication_user. Better in replication_passwd_file, or set with `crm resource secret`.");
const REPLICATION_PASSWD_FILE: Parameter =
    Parameter::new("replication_passwd_file", Kind::Path, "file with the password of replication_user")
        .about("A file whose first line is the password of replication_user. It must belong to root and be readable by nobody else.");
const REPLICATION_PORT: Parameter =
    Parameter::new("replication_port", Kind::Integer { min: 1, max: 65_535 }, "port of the servers").or("3306").reloadable();
const REPLICATION_REQUIRE_SSL: Parameter = Parameter::new("replication_require_ssl", Kind::Boolean, "replicate over TLS")
    .or("no")
    .reloadable()
    .about("Replicas connect over TLS only. Without it, a MySQL 8 or newer replica asks for the primary's RSA key to send its password.");
const SSL_CA: Parameter = Parameter::new("replication_master_ssl_ca", Kind::Path, "CA that signed the primary's certificate").reloadable();
const SSL_CERT: Parameter = Parameter::new("replication_master_ssl_cert", Kind::Path, "certificate of the replicas").reloadable();
const SSL_KEY: Parameter = Parameter::new("replication_master_ssl_key", Kind::Path, "key of the replicas' certificate").reloadable();
const MAX_SLAVE_LAG: Parameter = Parameter::new("max_slave_lag", Kind::Integer { min: 0, max: 31_536_000 }, "seconds a replica may lag")
    .or("3600")
    .reloadable()
    .about("A replica that is further behind, in seconds, takes the reader attribute off and is preferred less for promotion. 0 for no limit. What it has received counts for its position whether applied or not.");
const EVICT_OUTDATED_SLAVES: Parameter = Parameter::new("evict_outdated_slaves", Kind::Boolean, "accepted and not used")
    .or("no")
    .about("Accepted so that a configuration of ocf:heartbeat:mysql works unchanged. A replica beyond max_slave_lag loses its reader attribute; shutting it down would cost a copy of what was acknowledged.");
const READER_ATTRIBUTE: Parameter = Parameter::new("reader_attribute", Kind::Name, "node attribute of readable servers")
    .or("readable")
    .about("A node attribute that is 1 where the server answers reads with data that are not older than max_slave_lag, and 0 elsewhere: for the rule of a reader address.");
const NODE_LIST: Parameter = Parameter::new("node_list", Kind::Text, "accepted and not used")
    .about("Accepted so that a configuration of ocf:heartbeat:mariadb works unchanged. The nodes of the clone are known from the cluster.");
/// Whether each is lossless.
const DURABILITIES: [(&str, bool); 2] = [("lossless", true), ("async-allowed", false)];
const DURABILITY_WORDS: &[&str] = &ocf::words(&DURABILITIES);
const DURABILITY: Parameter =
    Parameter::new("durability", Kind::Choice(DURABILITY_WORDS), "what an acknowledged write is worth")
        .or("lossless")
        .reloadable()
        .about("lossless, the default: the primary acknowledges a write when a replica has it (semi-synchronous, AFTER_SYNC), and blocks while there is none; an acknowledged write survives the loss of any one machine.\n\nasync-allowed: the primary acknowledges writes by itself. Those that no replica had when it dies are lost. The only choice with MySQL 5.6.");
const ACKNOWLEDGEMENTS: Parameter = Parameter::new("acknowledgements", Kind::Integer { min: 1, max: 8 }, "replicas that must have a write")
    .or("1")
    .about("With durability=lossless: how many replicas must have a write before it is acknowledged. MariaDB knows only 1.");
const REJOINS: [(&str, Rejoin); 4] =
    [("refuse", Rejoin::Refuse), ("clone", Rejoin::Clone), ("rewind", Rejoin::Rewind), ("rewind-or-clone", Rejoin::RewindOrClone)];
const REJOIN_WORDS: &[&str] = &ocf::words(&REJOINS);
const REJOIN: Parameter = Parameter::new("rejoin", Kind::Choice(REJOIN_WORDS), "what to do with a server that has diverged")
    .or("refuse")
    .reloadable()
    .about("A server with transactions that the primary does not have cannot follow it. A primary that lost its power under load may have some: what it had logged and nobody had acknowledged. refuse: it says which, and waits for an operator.\n\nclone: its binary logs are kept in DATADIR.systole-kept, its data are replaced by a copy of the primary's, and it follows. What only it had is in those logs. MySQL 8.0.17 and newer copy by the clone plugin (replication_user needs BACKUP_ADMIN); MariaDB by copy_program.\n\nrewind: what nobody can have been told of is kept in DATADIR.systole-kept, one file for each transaction, and taken back row by row; then it follows. That takes seconds, however large the data are. Where it cannot be exact, or somebody may have been told, it is as with refuse.\n\nrewind-or-clone: the same, and where that cannot be, as with clone.");
const REWIND_LIMIT: Parameter =
    Parameter::new("rewind_limit", Kind::Integer { min: 1, max: 100_000 }, "most transactions that are taken back")
        .or("1000")
        .reloadable()
        .about("With rejoin=rewind and rejoin=rewind-or-clone: how many transactions are taken back at most. As many as clients commit at the same moment are usual; more of them are a sign of something else, which somebody should look at.");
const REWIND_ROWS: Parameter =
    Parameter::new("rewind_rows", Kind::Integer { min: 1, max: 100_000_000 }, "most rows that are taken back")
        .or("100000")
        .reloadable()
        .about("With rejoin=rewind and rejoin=rewind-or-clone: how many rows the transactions that are taken back may have changed, all together. They are put back in one transaction, which holds their locks and their undo log until it ends; a copy is quicker at some point.");
const COPY_PROGRAM: Parameter = Parameter::new("copy_program", Kind::Path, "copies a MariaDB from another node")
    .or("/usr/libexec/systole/systole-copy-mariadb")
    .reloadable()
    .about("With rejoin=clone or rejoin=rewind-or-clone on MariaDB: the program that copies the data of a running server. It is called with the primary's host and the empty data directory. A program whose text holds the word --check is asked before anything is emptied, as --check HOST DATADIR: only when it answers with status 0 a copy is begun. The default uses mariadb-backup over ssh, with a key that can ask for a backup and for nothing else (docs/mysql.md).");
const EVENT_SCHEDULER: Parameter = Parameter::new("event_scheduler", Kind::Boolean, "run events on the primary")
    .or("no")
    .reloadable()
    .about("Whether the event scheduler runs on the primary. On replicas it never does.");

/// All of them, in the order of the documentation.
pub(crate) const ALL: &[Parameter] = &[
    BINARY,
    CLIENT_BINARY,
    CONFIG,
    DATADIR,
    USER,
    GROUP,
    LOG,
    PID,
    SOCKET,
    TEST_USER,
    TEST_PASSWD,
    TEST_PASSWD_FILE,
    TEST_TABLE,
    ENABLE_CREATION,
    ADDITIONAL_PARAMETERS,
    REPLICATION_USER,
    REPLICATION_PASSWD,
    REPLICATION_PASSWD_FILE,
    REPLICATION_PORT,
    REPLICATION_REQUIRE_SSL,
    SSL_CA,
    SSL_CERT,
    SSL_KEY,
    MAX_SLAVE_LAG,
    EVICT_OUTDATED_SLAVES,
    READER_ATTRIBUTE,
    NODE_LIST,
    DURABILITY,
    ACKNOWLEDGEMENTS,
    REJOIN,
    REWIND_LIMIT,
    REWIND_ROWS,
    COPY_PROGRAM,
    EVENT_SCHEDULER,
    HAPROXY_DRAIN,
    PROXYSQL_DRAIN,
];

/// What happens to a server that has diverged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejoin {
    /// It waits for an operator.
    Refuse,
    /// Its data are replaced.
    Clone,
    /// What nobody was told of is taken back. Where that cannot be, it waits.
    Rewind,
    /// The same. Where that cannot be, its data are replaced.
    RewindOrClone,
}

impl Rejoin {
    /// Whether data are replaced by a copy, first or last.
    pub(crate) fn copies(self) -> bool {
        matches!(self, Self::Clone | Self::RewindOrClone)
    }

    /// Whether transactions are taken back, where they can be.
    pub(crate) fn takes_back(self) -> bool {
        matches!(self, Self::Rewind | Self::RewindOrClone)
    }
}

/// How replicas log in at the primary.
#[derive(Clone, Debug)]
pub(crate) struct Replication {
    pub(crate) user: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// The parameters of a resource.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    pub(crate) binary: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) datadir: PathBuf,
    pub(crate) user: String,
    pub(crate) log: PathBuf,
    pub(crate) pidfile: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) test_user: String,
    pub(crate) test_password: Option<Secret>,
    pub(crate) test_password_file: Option<PathBuf>,
    pub(crate) test_table: Option<String>,
    pub(crate) enable_creation: bool,
    pub(crate) additional: Vec<String>,
    pub(crate) replication: Replication,
    pub(crate) replication_password: Option<Secret>,
    pub(crate) replication_password_file: Option<PathBuf>,
    pub(crate) max_lag: Option<u64>,
    pub(crate) reader_attribute: String,
    /// Whether an acknowledged write must be on a replica.
    pub(crate) lossless: bool,
    pub(crate) acknowledgements: usize,
    pub(crate) rejoin: Rejoin,
    /// How many transactions are taken back at most.
    pub(crate) rewind_limit: usize,
    pub(crate) rewind_rows: usize,
    pub(crate) copy_program: PathBuf,
    pub(crate) event_scheduler: bool,
    /// The HAProxy of this node, which is told of a planned move.
    pub(crate) drain: Option<Drain<Haproxy>>,
    pub(crate) proxysql_drain: Option<Drain<ProxySql>>,
    /// What is wrong with the values together. `start` and `validate-all` refuse for it; a stop or a probe goes on.
    pub(crate) contradiction: Option<Failure>,
}

impl Params {
    /// What a server has to be able to do. Nobody is promised anything without a cluster.
    pub(crate) fn wanted(&self, clustered: bool) -> Wanted {
        Wanted { lossless: self.lossless && clustered, acknowledgements: self.acknowledgements }
    }

    /// Takes the checked values.
    pub(crate) fn new(values: &Values) -> Self {
        let path = |p: &Parameter| values.path(p).unwrap_or_default();
        let test_table = optional(values, &TEST_TABLE);
        let wrong_table = test_table
            .as_deref()
            .filter(|t| !is_table(t))
            .map(|t| values.contradiction(format!("parameter test_table ({}) is not of the form database.table", t.escape_debug())));
        let (drain, wrong_drain) = match Drain::at_haproxy(values) {
            Ok(drain) => (drain, None),
            Err(failure) => (None, Some(failure)),
        };
        let (proxysql_drain, wrong_proxysql) = match proxysql::read(values) {
            Ok(drain) => (drain, None),
            Err(failure) => (None, Some(failure)),
        };
        Self {
            binary: path(&BINARY),
            config: path(&CONFIG),
            datadir: path(&DATADIR),
            user: values.text(&USER).to_owned(),
            log: path(&LOG),
            pidfile: path(&PID),
            socket: path(&SOCKET),
            test_user: values.text(&TEST_USER).to_owned(),
            test_password: values.secret(&TEST_PASSWD),
            test_password_file: values.path(&TEST_PASSWD_FILE),
            test_table,
            enable_creation: values.boolean(&ENABLE_CREATION),
            additional: values.text(&ADDITIONAL_PARAMETERS).split_whitespace().map(str::to_owned).collect(),
            replication: Replication {
                user: values.text(&REPLICATION_USER).to_owned(),
                port: u16::try_from(values.integer(&REPLICATION_PORT)).unwrap_or(3306),
                tls: values.boolean(&REPLICATION_REQUIRE_SSL),
                ca: values.path(&SSL_CA),
                certificate: values.path(&SSL_CERT),
                key: values.path(&SSL_KEY),
            },
            replication_password: values.secret(&REPLICATION_PASSWD),
            replication_password_file: values.path(&REPLICATION_PASSWD_FILE),
            max_lag: u64::try_from(values.integer(&MAX_SLAVE_LAG)).ok().filter(|lag| *lag > 0),
            reader_attribute: values.text(&READER_ATTRIBUTE).to_owned(),
            lossless: values.choice(&DURABILITY, &DURABILITIES, true),
            acknowledgements: usize::try_from(values.integer(&ACKNOWLEDGEMENTS)).unwrap_or(1),
            rejoin: values.choice(&REJOIN, &REJOINS, Rejoin::Refuse),
            rewind_limit: usize::try_from(values.integer(&REWIND_LIMIT)).unwrap_or(1),
            rewind_rows: usize::try_from(values.integer(&REWIND_ROWS)).unwrap_or(1),
            copy_program: path(&COPY_PROGRAM),
            event_scheduler: values.boolean(&EVENT_SCHEDULER),
            drain,
            proxysql_drain,
            contradiction: both_given(values, &TEST_PASSWD, &TEST_PASSWD_FILE)
                .or_else(|| both_given(values, &REPLICATION_PASSWD, &REPLICATION_PASSWD_FILE))
                .or(wrong_table)
                .or(wrong_drain)
                .or(wrong_proxysql),
        }
    }

    /// The server program: what was given, the server beside a wrapper, or what the distribution has instead of the
    /// default.
    #[allow(clippy::disallowed_methods, reason = "the program is root's")]
    pub(crate) fn program(&self) -> PathBuf {
        let name = self.binary.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let wrapper = name.contains("safe");
        if !wrapper && (self.binary.exists() || self.binary != Path::new(BINARY.default)) {
            return self.binary.clone();
        }
        let own = self.binary.parent().unwrap_or(Path::new("/usr/bin"));
        let near = ["", "../sbin", "../libexec", "../bin"];
        let servers = if name.starts_with("mariadb") { ["mariadbd", "mysqld"] } else { ["mysqld", "mariadbd"] };
        let found = near.iter().flat_map(|d| servers.map(|s| own.join(d).join(s))).find(|p| p.is_file());
        found.and_then(|p| std::fs::canonicalize(p).ok()).unwrap_or_else(|| self.binary.clone())
    }
}

/// Whether it can stand in a statement as it is.
fn is_table(text: &str) -> bool {
    let name = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$'));
    text.split('.').count() == 2 && text.split('.').all(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the tests' own files")]

    use super::*;
    use ocf::Environment;

    fn params(pairs: &[(&str, &str)]) -> Result<Params, Failure> {
        let environment = Environment::from_pairs(pairs.iter().map(|(k, v)| (format!("OCF_RESKEY_{k}"), (*v).to_owned())));
        let params = Params::new(&Values::read(ALL, &environment)?);
        params.contradiction.clone().map_or(Ok(params), Err)
    }

    #[test]
    fn nonsense_is_named() {
        for (name, value, reason) in [
            ("test_table", "users; DROP TABLE x", "database.table"),
            ("replication_port", "0", "from 1 to 65535"),
            ("datadir", "relative", "absolute path"),
            ("durability", "quorum", "one of lossless, async-allowed"),
            ("rejoin", "wipe", "one of refuse, clone, rewind, rewind-or-clone"),
        ] {
            let failure = params(&[(name, value)]).unwrap_err();
            assert!(failure.reason.contains(reason) && failure.reason.contains(name), "{failure}");
        }
    }

    #[test]
    fn two_passwords_are_one_too_many() {
        for account in ["test", "replication"] {
            let (inline, file) = (format!("{account}_passwd"), format!("{account}_passwd_file"));
            assert!(params(&[(&inline, "a"), (&file, "/b")]).unwrap_err().reason.contains(&file));
        }
    }

    #[test]
    fn the_wrapper_is_replaced_by_the_server_beside_it() {
        let directory = std::env::temp_dir().join(format!("systole-program-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("sbin")).unwrap();
        std::fs::create_dir_all(directory.join("bin")).unwrap();
        std::fs::write(directory.join("sbin/mariadbd"), "").unwrap();
        let wrapper = directory.join("bin/mariadbd-safe");
        let found = params(&[("binary", wrapper.to_str().unwrap())]).unwrap().program();
        assert_eq!(found, std::fs::canonicalize(directory.join("sbin/mariadbd")).unwrap());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn without_a_word_durability_is_lossless() {
        assert!(params(&[]).unwrap().lossless);
        assert!(!params(&[("durability", "async-allowed")]).unwrap().lossless);
    }
}
