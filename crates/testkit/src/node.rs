//! One node of a test, whatever it serves: its directories and port, its server, and the agent that manages it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::signal::Signal;
use nix::unistd::User;

use crate::agent::Agent;
use crate::cluster::FakeCluster;
use crate::group::GroupOf;
use crate::processes::{Process, signal};
use crate::sandbox::require;

/// Ports of this test program; below those that the kernel gives away by itself.
static NEXT: AtomicU16 = AtomicU16::new(20_000);

/// A port that no other node has.
pub(crate) fn next_port() -> u16 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A kind of server: what the bed has to know of it.
pub trait Kind: Sized {
    /// The agent, where `make install` puts it.
    const AGENT: &'static str;
    /// The resource's name in all tests.
    const RESOURCE: &'static str;
    /// Whom the image runs it as.
    const USER: &'static str;
    /// Whether the sandbox has room for the data of many tests that failed.
    const KEEPS_DATA: bool;

    /// A node without a cluster.
    fn alone() -> NodeOf<Self>;

    /// Nodes with these names, nothing started.
    fn group(names: &[&str]) -> GroupOf<Self>;

    /// Adds the parameters of the agent for this node.
    fn parameters(node: &NodeOf<Self>, agent: Agent) -> Agent;

    /// The servers that run here.
    fn servers(node: &NodeOf<Self>) -> Vec<Process>;

    /// Writes something of this name over the network.
    ///
    /// # Errors
    /// The server's refusal.
    fn write(node: &NodeOf<Self>, name: &str) -> Result<String, String>;

    /// Whether a user could write now.
    fn is_writable(node: &NodeOf<Self>) -> bool;

    /// Whether a primary takes writes that no replica acknowledges.
    fn writes_alone(node: &NodeOf<Self>) -> bool;

    /// Whether it receives from its primary.
    fn is_attached(node: &NodeOf<Self>) -> bool;

    /// Whether it holds everything that the primary holds.
    fn has_everything_of(node: &NodeOf<Self>, primary: &NodeOf<Self>) -> bool;
}

/// A node. Its servers and files go with it.
#[derive(Debug)]
pub struct NodeOf<K: Kind> {
    /// Its name.
    pub name: String,
    /// Everything of it.
    pub directory: PathBuf,
    /// Where its server listens.
    pub address: String,
    /// The port of its server.
    pub port: u16,
    /// Which server it is, and what is that server's own.
    pub server: K,
    /// The cluster's stand-in, when there is one.
    pub cluster: Option<FakeCluster>,
    /// Parameters beside those that every test needs.
    pub parameters: Vec<(&'static str, String)>,
    /// `clone-max`: how many nodes the group has.
    pub(crate) size: usize,
}

impl<K: Kind> NodeOf<K> {
    /// A node without a cluster.
    pub fn alone() -> Self {
        K::alone()
    }

    /// A node of nobody's cluster with these directories, which are the server's user's.
    pub(crate) fn new(name: &str, directory: PathBuf, (address, port): (String, u16), server: K, own: &[&str]) -> Self {
        require();
        crate::wait::begin_to_count();
        let node = Self { name: name.to_owned(), directory, address, port, server, cluster: None, parameters: vec![], size: 1 };
        for part in ["run", "state"].iter().chain(own) {
            fs::create_dir_all(node.directory.join(part)).unwrap();
        }
        node
    }

    /// Gives a file or directory to the server's user.
    pub fn give(&self, path: &Path) {
        let user = User::from_name(K::USER).unwrap().expect("the image has the server's user");
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The directory for state until the next boot.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The agent's memory of the server.
    pub fn state_file(&self) -> PathBuf {
        self.state().join(format!("systole-{}.state", K::RESOURCE))
    }

    /// What the agent remembers in a file of this name: `score`, `lock`, `login`.
    pub fn remembered(&self, what: &str) -> PathBuf {
        self.state().join(format!("systole-{}.{what}", K::RESOURCE))
    }

    /// The agent for this node.
    pub fn agent(&self) -> Agent {
        self.agent_at(K::AGENT)
    }

    /// The same with another build of the agent.
    pub fn agent_at(&self, path: &str) -> Agent {
        let agent = Agent::new(path, K::RESOURCE).variable("HA_RSCTMP", self.state()).variable("HA_LOGFILE", self.directory.join("ha.log"));
        let agent = K::parameters(self, agent);
        let agent = self.parameters.iter().fold(agent, |agent, (name, value)| agent.parameter(name, value));
        let Some(cluster) = &self.cluster else { return agent };
        agent
            .variable("PATH", cluster.path())
            .parameter("crm_feature_set", "3.16.2")
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
        K::servers(self)
    }

    /// The one server.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[track_caller]
    pub fn process(&self) -> Process {
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
        let server = self.process();
        server.signal(Signal::SIGKILL);
        crate::eventually("the killed server is gone", || !server.is_there());
    }

    /// Writes something of this name over the network.
    ///
    /// # Errors
    /// The server's refusal.
    #[track_caller]
    pub fn write(&self, name: &str) -> Result<String, String> {
        K::write(self, name)
    }

    /// Whether a user could write now.
    pub fn is_writable(&self) -> bool {
        K::is_writable(self)
    }

    /// Whether it receives from its primary.
    pub fn is_attached(&self) -> bool {
        K::is_attached(self)
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
        self.cluster.as_ref().expect("a cluster").score(K::RESOURCE, &self.name).unwrap_or_default()
    }
}

impl<K: Kind> Drop for NodeOf<K> {
    fn drop(&mut self) {
        for process in self.watchers().into_iter().chain(self.servers()) {
            signal(process.pid, Signal::SIGKILL);
        }
        if std::thread::panicking() {
            crate::wait::say_whether_the_machine_kept_up();
            let log = self.log();
            eprintln!("--- log of {} ({}):\n{log}", self.name, self.directory.display());
            if !K::KEEPS_DATA {
                let _ = fs::remove_dir_all(self.data());
            }
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
