//! One node of a test with MySQL or MariaDB: the server's option file, and what can be asked of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::agent::Agent;
use crate::group::GroupOf;
use crate::mysql::{AGENT, Client, Server, Waiting};
use crate::node::{Kind, NodeOf, next_port};
use crate::processes::Process;
use crate::within;

/// The resource's name in all tests.
pub const RESOURCE: &str = <Server as Kind>::RESOURCE;

/// What replicas log in with. Long enough to be found nowhere by accident.
pub const REPLICATION_PASSWORD: &str = "Nachtigall-Replikation-9";

/// What clients log in with.
pub const APP_PASSWORD: &str = "app";

/// A node. The servers of a group have one port, so each has an address of its own.
pub type Node = NodeOf<Server>;

impl Kind for Server {
    const AGENT: &'static str = AGENT;
    const RESOURCE: &'static str = "db";
    const USER: &'static str = "mysql";
    // They take more room than all the rest.
    const KEEPS_DATA: bool = false;

    fn alone() -> Node {
        Node::make("alone", 1, next_port())
    }

    fn group(names: &[&str]) -> GroupOf<Self> {
        super::group::of(names)
    }

    fn parameters(node: &Node, agent: Agent) -> Agent {
        let agent = agent
            .parameter("binary", node.server.binary())
            .parameter("config", node.config())
            .parameter("datadir", node.data())
            .parameter("socket", node.socket())
            .parameter("pid", node.pid_file())
            .parameter("log", node.error_log())
            .parameter("replication_port", node.port.to_string())
            .parameter("replication_passwd", REPLICATION_PASSWORD);
        // It has to be said: nobody loses what an acknowledgement is worth in silence.
        if node.server.is_lossless() { agent } else { agent.parameter("durability", "async-allowed") }
    }

    fn servers(node: &Node) -> Vec<Process> {
        let data = node.data();
        Process::all().into_iter().filter(|p| (p.name == "mysqld" || p.name == "mariadbd") && p.directory == data).collect()
    }

    #[track_caller]
    fn write(node: &Node, name: &str) -> Result<String, String> {
        node.ask(&format!("REPLACE INTO t.k (name, value) VALUES ('{name}', 'value')"))
    }

    /// Nothing is written, so nothing waits for a replica.
    fn is_writable(node: &Node) -> bool {
        let Ok(mut client) = node.try_client() else { return false };
        let open = client.ask("BEGIN").is_ok() && client.ask("REPLACE INTO t.k (name, value) VALUES ('probe', '')").is_ok();
        let _ = client.ask("ROLLBACK");
        open
    }

    fn writes_alone(node: &Node) -> bool {
        !node.server.is_lossless()
    }

    fn is_attached(node: &Node) -> bool {
        node.replication_of("replica_io_running", "slave_io_running") == "Yes"
    }

    fn has_everything_of(node: &Node, primary: &Node) -> bool {
        node.executed() == primary.executed()
    }
}

impl Node {
    /// A server of nobody's cluster, with the port of another node's.
    pub fn outside(other: &Self, number: u16) -> Self {
        Self::make("alone", number, other.port)
    }

    /// The same as [`Self::alone`], with nothing in its data directory.
    pub fn empty() -> Self {
        let node = Self::alone();
        let _ = fs::remove_dir_all(node.data());
        fs::create_dir(node.data()).unwrap();
        node.give(&node.data());
        node
    }

    pub(crate) fn make(name: &str, number: u16, port: u16) -> Self {
        let directory = PathBuf::from(format!("/tmp/contract/{port}-{name}"));
        let at = (format!("127.0.1.{number}"), port);
        let node = Self::new(name, directory, at, Server::here(), &["log"]);
        for part in ["run", "state", "log"] {
            node.give(&node.directory.join(part));
        }
        let copied = Command::new("cp").arg("-a").arg(node.server.template()).arg(node.data()).status().unwrap();
        assert!(copied.success(), "the data directory cannot be copied");
        node.configure("");
        node
    }

    /// Its server's server_id: ten more than the last number of its address.
    ///
    /// # Panics
    /// When its address is none of the bed's.
    pub fn number(&self) -> u16 {
        let last = self.address.rsplit('.').next().and_then(|last| last.parse::<u16>().ok());
        last.expect("an address ends with a number") + 10
    }

    /// The option file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("site.cnf")
    }

    /// The server's pid file.
    pub fn pid_file(&self) -> PathBuf {
        self.directory.join("run/mysqld.pid")
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("run/mysqld.sock")
    }

    /// The server's error log.
    pub fn error_log(&self) -> PathBuf {
        self.directory.join("log/error.log")
    }

    /// Writes the option file: what every test needs, then `more`.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "[mysqld]\nbind-address={}\nport={}\nreport-port={}\nserver-id={}\nlog-bin=binlog\nrelay-log=relay\nsync_binlog=1\n\
             innodb_flush_log_at_trx_commit=1\nskip-name-resolve\nmax_connections=40\ninnodb_flush_method=fsync\n\
             table_open_cache=100\n{}\n{}{more}\n",
            self.address,
            self.port,
            self.port,
            self.number(),
            self.server.small().join("\n"),
            self.server.options()
        );
        // They have the word as their default only.
        let text =
            if matches!(self.server, Server::MySql56 | Server::MySql57) { text.replace("innodb_flush_method=fsync\n", "") } else { text };
        fs::write(self.config(), text).unwrap();
        fs::set_permissions(self.config(), fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Makes the server run by its option file alone, as the distribution's service does, without the agent.
    #[track_caller]
    pub fn run_by_hand(&self) {
        let mut command = Command::new("setsid");
        command.args(["--fork", "setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups", self.server.binary()]);
        command.arg(format!("--defaults-file={}", self.config().display()));
        for (name, path) in
            [("datadir", self.data()), ("socket", self.socket()), ("pid-file", self.pid_file()), ("log-error", self.error_log())]
        {
            command.arg(format!("--{name}={}", path.display()));
        }
        command.current_dir(self.data()).stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        assert!(command.status().unwrap().success());
        crate::eventually("the server answers", || self.administer("SELECT 1").is_ok());
    }

    /// What writes to the disks of this node's server.
    pub fn disk_writers(&self) -> Vec<Process> {
        let arguments = format!("write-to-disks {}", self.data().display());
        Process::all().into_iter().filter(|p| p.name == "systole-watch" && p.arguments.contains(&arguments)).collect()
    }

    /// A connection over the network, as the data's users have it.
    ///
    /// # Errors
    /// What the server says.
    pub fn try_client(&self) -> Result<Client, String> {
        Client::tcp(&self.address, self.port, "app", APP_PASSWORD)
    }

    /// The same, which must succeed.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.try_client().unwrap_or_else(|e| panic!("{} at {}:{}: {e}", self.name, self.address, self.port))
    }

    /// One statement of a user.
    ///
    /// # Errors
    /// The server's.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> Result<String, String> {
        self.try_client()?.ask(sql)
    }

    /// Waits until the server answers that `demote` started in the place of a dead one. That stands back until somebody is open for writes,
    /// which is a moment later where a cluster promotes; here it would wait on a busy machine for as long as that is busy.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn wait_restarted(&self) {
        crate::eventually("the dead server was started again", || {
            for server in self.servers() {
                let threads = fs::read_dir(format!("/proc/{}/task", server.pid)).into_iter().flatten().flatten();
                let _ = Command::new("renice").args(["-n", "0", "-p"]).args(threads.map(|thread| thread.file_name())).output();
            }
            self.administer("SELECT 1").is_ok()
        });
    }

    /// One statement of the administrator.
    ///
    /// # Errors
    /// The server's.
    #[track_caller]
    pub fn administer(&self, sql: &str) -> Result<String, String> {
        Client::root(&self.socket())?.ask(sql)
    }

    /// Statements of the administrator, all of which must succeed.
    ///
    /// # Panics
    /// With the first that does not.
    #[track_caller]
    pub fn must(&self, statements: &[&str]) {
        let mut root = Client::patient_root(&self.socket()).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        for sql in statements {
            root.ask(sql).unwrap_or_else(|e| panic!("{}: {sql}: {e}", self.name));
        }
    }

    /// The value of a global variable.
    ///
    /// # Panics
    /// When it cannot be asked for.
    #[track_caller]
    pub fn variable(&self, name: &str) -> String {
        self.administer(&format!("SELECT @@global.{name}")).unwrap_or_else(|e| panic!("{}: {name}: {e}", self.name))
    }

    /// A client whose write is expected to wait.
    pub fn write_and_wait(&self, name: &str) -> Waiting {
        self.ask_and_wait(&[], &format!("REPLACE INTO t.k (name, value) VALUES ('{name}', 'value')"))
    }

    /// A client whose last statement is expected to wait.
    ///
    /// # Panics
    /// When it cannot connect.
    pub fn ask_and_wait(&self, before: &[&str], sql: &str) -> Waiting {
        self.try_ask_and_wait(before, sql).unwrap_or_else(|e| panic!("{} at {}:{}: {e}", self.name, self.address, self.port))
    }

    /// The same, from a server that may have no connection left.
    ///
    /// # Errors
    /// What the server says.
    pub fn try_ask_and_wait(&self, before: &[&str], sql: &str) -> Result<Waiting, String> {
        Waiting::tcp(&self.address, self.port, "app", APP_PASSWORD, before, sql)
    }

    /// Takes all connections that there are for users, and returns what was made of them. A client that went a moment ago still has
    /// its place, so the server is full only when it refuses for a while.
    ///
    /// # Panics
    /// When it refuses for another reason, or there is no end of connections.
    #[track_caller]
    pub fn use_up<T>(&self, mut connect: impl FnMut(usize) -> Result<T, String>) -> Vec<T> {
        let mut taken = Vec::new();
        while let Some(one) = within(Duration::from_millis(500), || match connect(taken.len()) {
            // The server's connections, or the user's.
            Err(e) if ["1040", "1203", "1226"].iter().any(|code| e.starts_with(code)) => None,
            other => Some(other.unwrap_or_else(|e| panic!("{}: {e}", self.name))),
        }) {
            taken.push(one);
            assert!(taken.len() < 200, "there is no end of connections");
        }
        taken
    }

    /// Whether this row is there.
    ///
    /// # Panics
    /// When it cannot be asked for.
    #[track_caller]
    pub fn has(&self, name: &str) -> bool {
        self.administer(&format!("SELECT COUNT(*) FROM t.k WHERE name = '{name}'")).unwrap_or_else(|e| panic!("{}: {e}", self.name)) == "1"
    }

    /// Writes as an administrator does who does not care: past read_only, into this server's own history.
    #[track_caller]
    pub fn write_behind_the_agents_back(&self, name: &str) {
        let write = format!("REPLACE INTO t.k (name, value) VALUES ('{name}', 'of the administrator')");
        if self.server.closes_for_administrators() {
            self.must(&["SET GLOBAL super_read_only=0", &write, "SET GLOBAL super_read_only=1"]);
        } else {
            self.must(&[&write]);
        }
    }

    /// The status of replication, by column in lower case; nothing when it follows nobody.
    pub fn replication(&self) -> BTreeMap<String, String> {
        let Ok(mut root) = Client::root(&self.socket()) else { return BTreeMap::new() };
        root.row(&format!("SHOW {} STATUS", self.server.replica())).unwrap_or_default()
    }

    /// A column of it, by its new name or its old one.
    pub fn replication_of(&self, new: &str, old: &str) -> String {
        let status = self.replication();
        status.get(new).or_else(|| status.get(old)).cloned().unwrap_or_default()
    }

    /// The address of its source.
    pub fn source(&self) -> String {
        self.replication_of("source_host", "master_host")
    }

    /// Stops its receiver, as a network fault does: it keeps its data and gets no more.
    #[track_caller]
    pub fn cut_off(&self) {
        self.must(&[&format!("STOP {} IO_THREAD", self.server.replica())]);
    }

    /// Its transactions.
    #[track_caller]
    pub fn executed(&self) -> String {
        self.administer(self.server.executed()).unwrap_or_else(|e| panic!("{}: {e}", self.name)).replace('\n', "")
    }

    /// Commits that wait for an acknowledgement.
    #[track_caller]
    pub fn waiting_commits(&self) -> u32 {
        let mut root = Client::root(&self.socket()).unwrap();
        let name = format!("{}_wait_sessions", self.server.source());
        let row = root.row(&format!("SHOW GLOBAL STATUS LIKE '{name}'")).unwrap();
        row.get("value").and_then(|v| v.parse().ok()).unwrap_or_default()
    }
}
