//! What the scenarios and the benchmark share: a rehearsal cluster with a Redis in it, loaded from the snippet that
//! operators load.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::state::Volume;
use lab::{CheckOptions, Error, Journal, Lab, LabOptions, Load, LoadOptions, Node, Report, Result};
use nix::sys::signal::Signal;

/// Which agent runs the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Ours.
    Systole,
    /// ocf:heartbeat:redis, under the same conditions.
    Stock,
}

/// Which server runs, as the snippets have it.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// The primitive, and the name of the snippet's file.
    pub resource: &'static str,
    /// The server's process.
    pub process: &'static str,
    /// Its command line client.
    pub client: &'static str,
    /// Where the snippet expects the configuration; its user has the directory's name.
    pub directory: &'static str,
    /// The image that has it; `None` for the one that the run is for.
    pub image: Option<&'static str>,
}

/// Redis of the distribution.
pub const REDIS: Server = Server { resource: "redis", process: "redis-server", client: "redis-cli", directory: "redis", image: None };
/// Valkey of Debian 13.
pub const VALKEY: Server =
    Server { resource: "valkey", process: "valkey-server", client: "valkey-cli", directory: "valkey", image: Some("debian13") };

/// What an acknowledged write is worth in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The server's own acknowledgement, which is asynchronous.
    Async,
    /// durability=quorum, and a write counts as acknowledged when `WAIT 1` confirmed it.
    Quorum,
}

/// How a site is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The agent.
    pub agent: Agent,
    /// The server.
    pub server: Server,
    /// The durability.
    pub durability: Durability,
    /// Further lines in each server's configuration.
    pub settings: String,
    /// A further layer for the nodes.
    pub layer: Option<PathBuf>,
    /// Whether replication runs over TLS, with a certificate made for the run.
    pub certificate: bool,
    /// A disk of its own for the data, of this size.
    pub disk_mib: Option<u32>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            agent: Agent::Systole,
            server: REDIS,
            durability: Durability::Async,
            settings: String::new(),
            layer: None,
            certificate: false,
            disk_mib: None,
        }
    }
}

/// A lab with Redis under Pacemaker, and who is who.
pub struct Site {
    /// The lab.
    pub lab: Lab,
    server: Server,
    durability: Durability,
}

impl Site {
    /// Three nodes with our agent; see [`Self::with`].
    pub fn up(name: &str, durability: Durability) -> Result<Self> {
        Self::with(name, Setup { durability, ..Setup::default() })
    }

    /// Three nodes, the agent, the snippet; returns when a primary takes writes and both replicas are attached.
    pub fn with(name: &str, setup: Setup) -> Result<Self> {
        let Setup { agent, server, durability, settings, layer, certificate, disk_mib } = setup;
        let repository = repository();
        let snippet = read(&repository.join(format!("crm-snippets/{}.crm", server.resource)))?;
        let layers = [Some(stage()?), layer].into_iter().flatten().collect();
        let volumes =
            disk_mib.map(|mebibytes| Volume { path: format!("/var/lib/{}", server.directory).into(), mebibytes }).into_iter().collect();
        let options = LabOptions {
            name: name.to_owned(),
            image: server.image.map_or_else(image, str::to_owned),
            layers,
            volumes,
            ..LabOptions::default()
        };
        let site = Self { lab: Lab::up(options)?, server, durability };
        let configuration = read(&repository.join(format!("crm-snippets/server/{}-site.conf", server.resource)))? + "\n" + &settings + "\n";
        for node in site.lab.nodes() {
            let path = format!("/etc/{0}/site.conf", server.directory);
            node.write(&path, &configuration)?;
            node.sh(&format!("chown {0}:{0} {path} /var/lib/{0}", server.directory))?;
        }
        let mut snippet = edited(&snippet, agent, durability);
        if certificate {
            site.certify(server)?;
            snippet = snippet.replace("site.conf", "site.conf port=6380");
        }
        site.lab.load_crm(&snippet)?;
        site.wait_settled()?;
        Ok(site)
    }

    /// One certificate for all nodes, with its key, where the servers can read it.
    fn certify(&self, server: Server) -> Result<()> {
        let path = format!("/etc/{}/node.pem", server.directory);
        let nodes = self.lab.nodes();
        let made = nodes[0]
            .sh("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=lab -addext subjectAltName=DNS:lxc1,DNS:lxc2,DNS:lxc3 \
             -keyout /tmp/key.pem -out /tmp/cert.pem 2>&1 && cat /tmp/key.pem /tmp/cert.pem")?;
        for node in &nodes {
            node.write(&path, &made.stdout)?;
            node.sh(&format!("chown {0}:{0} {path}; chmod 600 {path}", server.directory))?;
        }
        Ok(())
    }

    /// Waits until one node is promoted, has the address, and all live nodes follow it.
    pub fn wait_settled(&self) -> Result<()> {
        self.lab.wait_for("a promoted server with its address and its replicas attached", Duration::from_secs(90), || {
            let replicas = self.lab.live_nodes().len().saturating_sub(1);
            self.primary().is_ok_and(|p| {
                p.sh(&format!("{} info replication; ip -o addr show to 192.0.2.100", self.server.client))
                    .is_ok_and(|o| o.stdout.matches("state=online").count() >= replicas && o.stdout.contains("192.0.2.100"))
            })
        })?;
        self.lab.wait_idle()
    }

    /// The promoted node.
    pub fn primary(&self) -> Result<Node> {
        let resource = self.server.resource;
        let name = self.lab.promoted(resource).ok_or_else(|| Error::Refused(format!("{resource} is promoted nowhere")))?;
        self.lab.node_named(&name)
    }

    /// The nodes that are up and not promoted.
    pub fn replicas(&self) -> Result<Vec<Node>> {
        let primary = self.primary()?;
        Ok(self.lab.live_nodes().into_iter().filter(|n| n.name != primary.name).collect())
    }

    /// Starts the writers and lets them write for two seconds.
    pub fn load(&self) -> Result<Load> {
        let wait = u32::from(self.durability == Durability::Quorum);
        let load = self.lab.start_load(&LoadOptions { wait, ..LoadOptions::default() })?;
        self.lab.wait_for("writes", Duration::from_secs(20), || load.writing())?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(load)
    }

    /// Waits until writes go on after a fault (and a little longer), stops the load and judges it.
    pub fn verdict(&self, load: Load, longest_outage: Duration) -> Result<(Report, Journal)> {
        // Long enough for the outage to have begun before its end is looked for.
        std::thread::sleep(Duration::from_millis(1500));
        self.lab.wait_for("writes after the fault", Duration::from_secs(60), || load.writing())?;
        std::thread::sleep(Duration::from_secs(1));
        let journal = load.stop()?;
        let report = self.lab.check(&journal, &CheckOptions { max_outage: Some(longest_outage), ..CheckOptions::default() })?;
        Ok((report, journal))
    }

    /// The snippet as another agent's definition of the same resource.
    pub fn snippet(&self, agent: Agent) -> Result<String> {
        Ok(edited(&read(&repository().join(format!("crm-snippets/{}.crm", self.server.resource)))?, agent, self.durability))
    }

    /// Moves the promoted role as an operator would. Returns the node that it went to.
    pub fn move_primary(&self) -> Result<String> {
        self.lab.move_promoted(self.server.resource)
    }

    /// Kills the promoted server. Returns its node.
    pub fn kill_primary(&self) -> Result<Node> {
        let primary = self.primary()?;
        primary.kill(self.server.process, Signal::SIGKILL)?;
        Ok(primary)
    }

    /// All that our agent said on a node.
    pub fn log_of(&self, node: &Node) -> Result<String> {
        Ok(node.sh("journalctl -q --no-pager -o cat --identifier='redis(redis)'; journalctl -q --no-pager | grep 'redis(' || true")?.stdout)
    }
}

/// The snippet for this run.
fn edited(snippet: &str, agent: Agent, durability: Durability) -> String {
    match (agent, durability) {
        (Agent::Systole, Durability::Async) => snippet.to_owned(),
        (Agent::Systole, Durability::Quorum) => snippet.replace("durability=async", "durability=quorum"),
        (Agent::Stock, _) => {
            snippet.replace("ocf:systole:redis", "ocf:heartbeat:redis").replace(" durability=async", "").replace(" on-fail=demote", "")
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The directory that `make stage` filled.
pub fn stage() -> Result<PathBuf> {
    std::env::var_os("SYSTOLE_STAGE")
        .map(PathBuf::from)
        .filter(|d| d.join("usr/lib/ocf/resource.d/systole/redis").exists())
        .ok_or_else(|| Error::Refused("SYSTOLE_STAGE does not name a directory with the agents: run this by `make cluster`".into()))
}

/// The image to run on.
pub fn image() -> String {
    std::env::var("SYSTOLE_IMAGE").unwrap_or_else(|_| "debian12".into())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::Refused(format!("{}: {e}", path.display())))
}
