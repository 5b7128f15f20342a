//! A lab with database servers under Pacemaker, and who is who.

use std::path::PathBuf;
use std::time::Duration;

use lab::image;
use lab::state::Volume;
use lab::{CheckOptions, Error, Journal, Lab, LabOptions, Load, LoadOptions, Node, Report, Result};
use nix::sys::signal::Signal;

use crate::{Agent, Durability, Kind, REDIS, Server, keep_logs, lab_name, mysql, package, read, redis, repository, stock, stub};

/// How a site is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The agent.
    pub agent: Agent,
    /// The server.
    pub server: Server,
    /// The durability.
    pub durability: Durability,
    /// Further lines in each server's configuration. With MySQL, NODE stands for the name of its node.
    pub settings: String,
    /// Further parameters of the primitive, MySQL only.
    pub parameters: String,
    /// A further layer for the nodes.
    pub layer: Option<PathBuf>,
    /// Whether replication runs over TLS, with a certificate made for the run. Redis only.
    pub certificate: bool,
    /// A disk of its own for the data, of this size, and one for what our agent keeps beside them: a power cut loses what is not synced there.
    pub disk_mib: Option<u32>,
    /// Whether the address is moved by the distribution's agent, which goes on working with ours.
    pub stock_address: bool,
}

/// Room for any scenario's data, MiB. The files that hold it are as large as what is in them.
const ROOM: u32 = 2048;

impl Default for Setup {
    fn default() -> Self {
        Self {
            agent: Agent::Systole,
            server: REDIS,
            durability: Durability::Async,
            settings: String::new(),
            parameters: String::new(),
            layer: None,
            certificate: false,
            disk_mib: None,
            stock_address: false,
        }
    }
}

impl Setup {
    /// The same with the data, and what is kept beside them, on disks that a power cut takes at its word.
    #[must_use]
    pub fn on_disks(self) -> Self {
        Self { disk_mib: self.disk_mib.or(Some(ROOM)), ..self }
    }

    /// A server with the best durability that it has.
    #[must_use]
    pub fn of(server: Server) -> Self {
        let durability = if server.kind.is_lossless() { Durability::Quorum } else { Durability::Async };
        Self { server, durability, ..Self::default() }
    }
}

/// A lab with servers under Pacemaker.
pub struct Site {
    /// The lab.
    pub lab: Lab,
    server: Server,
    durability: Durability,
    parameters: String,
}

impl Site {
    /// Three nodes with Redis and our agent; see [`Self::with`].
    pub fn up(name: &str, durability: Durability) -> Result<Self> {
        Self::with(name, Setup { durability, ..Setup::default() })
    }

    /// Three nodes, the agent, the snippet; returns when a primary takes writes and both replicas are attached.
    pub fn with(name: &str, setup: Setup) -> Result<Self> {
        let Setup { agent, server, durability, settings, parameters, layer, certificate, disk_mib, stock_address } = setup;
        let beside = server.beside_the_data();
        let volume = |mebibytes, path: String| Volume { path: path.into(), mebibytes };
        let volumes = disk_mib.map(|mebibytes| std::iter::once(server.data()).chain(beside).map(|path| volume(mebibytes, path)).collect());
        let options = LabOptions {
            name: lab_name(name),
            image: server.image.map_or_else(image::usual, str::to_owned),
            packages: vec![package()?],
            layers: layer.into_iter().collect(),
            volumes: volumes.unwrap_or_default(),
            ..LabOptions::default()
        };
        let site = Self { lab: Lab::up(options)?, server, durability, parameters };
        match server.kind {
            Kind::Redis => redis::configure(&site, &settings)?,
            Kind::Stub => {}
            _ => {
                mysql::configure(&site, &settings)?;
                if agent != Agent::Systole {
                    stock::prepare(&site)?;
                }
            }
        }
        let mut snippet = site.snippet(agent)?;
        if certificate {
            redis::certify(&site)?;
            snippet = snippet.replace("site.conf", "site.conf port=6380");
        }
        if stock_address {
            snippet = snippet.replace("ocf:systole:address", "ocf:heartbeat:IPaddr2");
        }
        site.lab.load_crm(&snippet)?;
        site.wait_settled().inspect_err(|_| println!("logs: {}", keep_logs(&site.lab)))?;
        Ok(site)
    }

    /// The same in a cluster that is there already.
    pub fn on(lab: Lab, server: Server, durability: Durability) -> Result<Self> {
        let site = Self { lab, server, durability, parameters: String::new() };
        match server.kind {
            Kind::Redis => redis::configure(&site, "")?,
            Kind::Stub => {}
            _ => mysql::configure(&site, "")?,
        }
        site.lab.load_crm(&site.snippet(Agent::Systole)?)?;
        site.wait_settled().inspect_err(|_| println!("logs: {}", keep_logs(&site.lab)))?;
        Ok(site)
    }

    /// What runs.
    #[must_use]
    pub fn server(&self) -> Server {
        self.server
    }

    /// What an acknowledged write is worth.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Waits until one node is promoted, has the address, and all live nodes follow it.
    pub fn wait_settled(&self) -> Result<()> {
        self.wait_settled_within(Duration::from_secs(90))
    }

    /// The same with another limit.
    pub fn wait_settled_within(&self, limit: Duration) -> Result<()> {
        self.lab.wait_for("a promoted server with its address and its replicas attached", limit, || {
            let replicas = self.lab.live_nodes().len().saturating_sub(1);
            self.primary().is_ok_and(|primary| match self.server.kind {
                Kind::Redis => redis::attached(self, &primary, replicas),
                Kind::Stub => stub::attached(self, &primary, replicas),
                _ => mysql::attached(self, &primary, replicas),
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

    /// Waits until another node than this one is promoted. Returns it.
    pub fn wait_moved(&self, from: &Node, limit: Duration) -> Result<Node> {
        let mut to = None;
        self.lab.wait_for("another primary", limit, || {
            to = self.primary().ok().filter(|p| p.name != from.name);
            to.is_some()
        })?;
        to.ok_or_else(|| Error::Refused("nobody is promoted".into()))
    }

    /// What the load is.
    pub fn load_options(&self) -> Result<LoadOptions> {
        match self.server.kind {
            Kind::Redis => Ok(LoadOptions { wait: u32::from(self.durability == Durability::Quorum), ..LoadOptions::default() }),
            Kind::Stub => Ok(stub::load_options(self.server)),
            _ => mysql::load_options(),
        }
    }

    /// The same for a scenario: some hundred writes a second are enough to lose one, and several labs share the processors.
    pub fn gentle_load_options(&self) -> Result<LoadOptions> {
        Ok(LoadOptions { pause_us: 5_000, probe_pause_us: 20_000, ..self.load_options()? })
    }

    /// Starts the writers of a scenario and lets them write for two seconds.
    pub fn load(&self) -> Result<Load> {
        self.load_of(&self.gentle_load_options()?)
    }

    /// The same with other writers.
    pub fn load_of(&self, options: &LoadOptions) -> Result<Load> {
        let load = self.lab.start_load(options)?;
        self.lab.wait_for("writes", Duration::from_secs(20), || load.writing())?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(load)
    }

    /// Waits until writes go on after a fault (and a little longer), stops the load and judges it.
    pub fn verdict(&self, load: Load, longest_outage: Duration) -> Result<(Report, Journal)> {
        self.verdict_after(load, longest_outage, Duration::ZERO)
    }

    /// The same, when a replica may need so long to catch up after the last write.
    pub fn verdict_after(&self, load: Load, longest_outage: Duration, behind: Duration) -> Result<(Report, Journal)> {
        // Long enough for the outage to have begun before its end is looked for.
        std::thread::sleep(Duration::from_millis(1500));
        self.lab.wait_for("writes after the fault", Duration::from_secs(60), || load.writing())?;
        std::thread::sleep(Duration::from_secs(1));
        let journal = load.stop()?;
        let usual = CheckOptions::of(&self.load_options()?)?;
        let options = CheckOptions { max_outage: Some(longest_outage), standstill: usual.standstill + behind, ..usual };
        let report = self.lab.check(&journal, &options)?;
        Ok((report, journal))
    }

    /// The snippet for this site, with another agent's definition of the same resource.
    pub fn snippet(&self, agent: Agent) -> Result<String> {
        let snippet = read(&repository().join(format!("crm-snippets/{}.crm", self.server.resource)))?;
        Ok(match self.server.kind {
            Kind::Redis => redis::edited(&snippet, agent, self.durability),
            Kind::Stub => stub::edited(&snippet, self.server),
            kind => mysql::edited(&snippet, agent, kind, self.durability, &self.parameters),
        })
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

    /// Freezes the promoted server until another one is promoted. Nothing of what was frozen may live then: whoever let it go on would have
    /// a second server that believes it is the primary.
    pub fn freeze_primary_for_good(&self, limit: Duration) -> Result<()> {
        let primary = self.primary()?;
        let frozen = primary.pids(self.server.process);
        primary.freeze(self.server.process)?;
        self.wait_moved(&primary, limit)?;
        let left: Vec<i32> = primary.pids(self.server.process).into_iter().filter(|pid| frozen.contains(pid)).collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::Refused(format!("another server is promoted while the frozen processes {left:?} on {} live", primary.name)))
    }

    /// All that our agent said on a node.
    pub fn log_of(&self, node: &Node) -> Result<String> {
        let resource = self.server.resource;
        Ok(node
            .sh(&format!("journalctl -q --no-pager -o cat --identifier='{resource}({resource})'; journalctl -q --no-pager | grep '{resource}(' || true"))?
            .stdout)
    }

    /// Waits until our agent on a node has said this.
    pub fn wait_said(&self, node: &Node, words: &str, limit: Duration) -> Result<()> {
        self.lab
            .wait_for(&format!("`{words}` in the log of {}", node.name), limit, || self.log_of(node).is_ok_and(|log| log.contains(words)))
    }
}
