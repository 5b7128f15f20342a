//! One node of a test: a Redis server's configuration, directories and port, and the agent that manages it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::agent::Agent;
use crate::client::Client;
use crate::cluster::FakeCluster;
use crate::group::Instance;
use crate::processes::{Process, signal};
use crate::sandbox::{AGENT, require};
use nix::sys::signal::Signal;
use nix::unistd::User;

/// Ports of this test program; below those that the kernel gives away by itself.
static NEXT: AtomicU16 = AtomicU16::new(20_000);

/// The resource's name in all tests.
pub(crate) const RESOURCE: &str = "redis";

/// A node. Its servers and files go with it.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Everything of it.
    pub directory: PathBuf,
    /// The port of its server.
    pub port: u16,
    /// The cluster's stand-in, when there is one.
    pub cluster: Option<FakeCluster>,
    /// `tunnel_port_map`: all nodes of a group are this machine.
    pub(crate) map: String,
    /// `clone-max`: how many nodes the group has.
    pub(crate) size: usize,
}

impl Node {
    /// A node without a cluster.
    pub fn alone() -> Self {
        Self::make("alone", None)
    }

    pub(crate) fn make(name: &str, cluster: Option<FakeCluster>) -> Self {
        require();
        crate::wait::begin_to_count();
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = PathBuf::from(format!("/tmp/contract/{port}"));
        let node = Self { name: name.to_owned(), directory, port, cluster, map: String::new(), size: 1 };
        for part in ["data", "run", "state"] {
            fs::create_dir_all(node.directory.join(part)).unwrap();
        }
        node.give(&node.data());
        node.configure("");
        node
    }

    /// Gives a file or directory to the server's user.
    pub fn give(&self, path: &Path) {
        let user = User::from_name("redis").unwrap().expect("the image has a user redis");
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("redis.conf")
    }

    /// The directory for state until the next boot.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The agent's memory of the server.
    pub fn state_file(&self) -> PathBuf {
        self.state().join(format!("systole-{RESOURCE}.state"))
    }

    /// The server's pid file.
    pub fn pid_file(&self) -> PathBuf {
        self.directory.join("run/redis-server.pid")
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("run/redis.sock")
    }

    /// Writes the configuration: what every test needs, then `more`. Nothing is saved unless the test asks for it.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "bind 127.0.0.1\nport {}\ndir {}\nlogfile {}\nsave \"\"\nrepl-diskless-sync-delay 0\nrepl-backlog-size 16mb\n\
             shutdown-timeout 30\n{more}\n",
            self.port,
            self.data().display(),
            self.data().join("redis.log").display()
        );
        fs::write(self.config(), text).unwrap();
        fs::set_permissions(self.config(), fs::Permissions::from_mode(0o640)).unwrap();
        let redis = User::from_name("redis").unwrap().expect("the image has a user redis");
        chown(self.config(), Some(0), Some(redis.gid.as_raw())).unwrap();
    }

    /// The agent for this node.
    pub fn agent(&self) -> Agent {
        let agent = Agent::new(AGENT, RESOURCE)
            .variable("HA_RSCTMP", self.state())
            .variable("HA_LOGFILE", self.directory.join("ha.log"))
            .parameter("config", self.config())
            .parameter("rundir", self.directory.join("run"))
            .parameter("port", self.port.to_string());
        let Some(cluster) = &self.cluster else { return agent };
        agent
            .variable("PATH", cluster.path())
            .parameter("crm_feature_set", "3.16.2")
            .parameter("tunnel_port_map", &self.map)
            .meta("on_node", &self.name)
            .meta("clone_max", &self.size.to_string())
            .meta("notify", "true")
            .meta("promotable", "true")
            .meta("promoted_max", "1")
            .meta("master_max", "1")
            .meta("interval", "10000")
    }

    /// Makes the server run, unpromoted.
    #[track_caller]
    pub fn start(&self) {
        self.agent().run("start").ok();
    }

    /// Makes the server run, promoted, without any election (without a cluster there is none).
    #[track_caller]
    pub fn start_promoted(&self) {
        self.start();
        self.agent().run("promote").ok();
    }

    /// The servers that run here. More than one is always wrong.
    pub fn servers(&self) -> Vec<Process> {
        // A server begins in its rundir and goes to its data directory.
        let here = |p: &Process| p.name.starts_with("redis-server") && p.directory.starts_with(&self.directory);
        let found: Vec<Process> = Process::all().into_iter().filter(here).collect();
        // A server that writes a snapshot does that in a child of its own.
        found.iter().filter(|p| found.iter().all(|other| other.pid != p.parent)).cloned().collect()
    }

    /// The one server.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[track_caller]
    pub fn server(&self) -> Process {
        let mut servers = self.servers();
        assert_eq!(servers.len(), 1, "one server should run, but these do: {servers:?}");
        servers.remove(0)
    }

    /// The watchers of this node's server.
    pub fn watchers(&self) -> Vec<Process> {
        let state = self.state().display().to_string();
        Process::all().into_iter().filter(|p| p.name == "systole-watch" && p.arguments.contains(&state)).collect()
    }

    /// Kills the server and waits until it is gone.
    #[track_caller]
    pub fn kill_server(&self) {
        let server = self.server();
        server.signal(Signal::SIGKILL);
        crate::eventually("the killed server is gone", || !server.is_there());
    }

    /// A connection over the port, as the data's users have it.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::tcp(self.port).unwrap_or_else(|e| panic!("port {} of {}: {e}", self.port, self.name))
    }

    /// One command over the port.
    ///
    /// # Errors
    /// The server's.
    #[track_caller]
    pub fn ask(&self, words: &[&str]) -> Result<String, String> {
        self.client().ask(words)
    }

    /// Writes a key over the port.
    ///
    /// # Errors
    /// The server's refusal.
    #[track_caller]
    pub fn write(&self, key: &str) -> Result<String, String> {
        self.ask(&["SET", key, "value"])
    }

    /// A line of INFO replication.
    #[track_caller]
    pub fn info(&self, name: &str) -> String {
        let text = self.ask(&["INFO", "replication"]).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().to_owned()
    }

    /// The agent's log of this node.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("ha.log")).unwrap_or_default()
    }

    /// This node's promotion score.
    ///
    /// # Panics
    /// Without a cluster.
    pub fn score(&self) -> String {
        self.cluster.as_ref().expect("a cluster").score(RESOURCE, &self.name).unwrap_or_default()
    }
}

impl Instance for Node {
    const RESOURCE: &'static str = RESOURCE;

    fn name(&self) -> &str {
        &self.name
    }

    fn agent(&self) -> Agent {
        self.agent()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for process in self.watchers().into_iter().chain(self.servers()) {
            signal(process.pid, Signal::SIGKILL);
        }
        if std::thread::panicking() {
            crate::wait::say_whether_the_machine_kept_up();
            let log = self.log();
            eprintln!("--- log of {} ({}):\n{log}", self.name, self.directory.display());
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
