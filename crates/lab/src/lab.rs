//! A whole lab from its start to its end, as tests and the command line use it.
//! Owns the order of `up` and the promise of `down`; the parts are in the other modules.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::check::{CheckOptions, Report};
use crate::cluster::{self, ClusterView};
use crate::error::{Context, Error, Result};
use crate::faults::Cut;
use crate::host::{self, Output};
use crate::image::{self, Recipe};
use crate::journal::Journal;
use crate::load::{self, Load, LoadOptions};
use crate::node::Node;
use crate::power::{self, Op, Request};
use crate::state::{Bind, LabPaths, LabSpec, Volume};
use crate::visitors::VisitOptions;
use crate::{cgroup, check, cleanup, disk, faults, network, package, timeline};

/// What a lab shall be. `LabOptions::default()` is three nodes of the usual image with fencing.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Name; two labs with different names do not meet.
    pub name: String,
    /// Image of the nodes.
    pub image: String,
    /// Number of nodes, 1 to 9.
    pub nodes: u8,
    /// How many of them, the last ones, are machines beside the cluster: a third vote, an arbitrator.
    pub beside: u8,
    /// Debian packages, installed in the image by its dpkg.
    pub packages: Vec<PathBuf>,
    /// Directories laid over the image and the packages, later ones over earlier ones.
    pub layers: Vec<PathBuf>,
    /// Directories of the host in the nodes.
    pub binds: Vec<Bind>,
    /// File systems of their own in every node, so that one can be filled.
    pub volumes: Vec<Volume>,
    /// Corosync's token timeout in milliseconds.
    pub token_ms: u32,
    /// Whether Pacemaker gets the fence device.
    pub fencing: bool,
    /// Whether the nodes find a cluster at their first boot. Without it they are servers of which somebody has to make one.
    pub cluster: bool,
    /// Take over the disks of an earlier lab of that name.
    pub keep_disks: bool,
    /// Make the image when it is not there. Tests leave it off and fail with the command that makes it.
    pub build_image: bool,
    /// Leave the lab running when the `Lab` is dropped.
    pub keep: bool,
    /// The `systole-lab` program, whose processes the lab consists of; without it this program, `$SYSTOLE_LAB_BIN`, or
    /// what cargo built next to the running test.
    pub program: Option<PathBuf>,
}

impl Default for LabOptions {
    fn default() -> LabOptions {
        LabOptions {
            name: "demo".to_owned(),
            image: image::usual(),
            nodes: 3,
            beside: 0,
            packages: Vec::new(),
            layers: Vec::new(),
            binds: Vec::new(),
            volumes: Vec::new(),
            token_ms: 1000,
            fencing: true,
            cluster: true,
            keep_disks: false,
            build_image: false,
            keep: false,
            program: None,
        }
    }
}

/// A lab that is up. Dropping it takes it down unless it was made to be kept.
#[derive(Debug)]
pub struct Lab {
    paths: LabPaths,
    spec: LabSpec,
    keep: bool,
}

impl Lab {
    /// Starts a lab; an earlier one of that name, crashed or not, is cleaned away first.
    pub fn up(options: LabOptions) -> Result<Lab> {
        host::ensure_tools()?;
        let paths = LabPaths::new(&options.name)?;
        if !(1..=9).contains(&options.nodes) {
            return Err(Error::Refused(format!("{} nodes are not possible: take 1 to 9", options.nodes)));
        }
        if options.beside >= options.nodes {
            return Err(Error::Refused(format!("{} of {} nodes beside the cluster leave none in it", options.beside, options.nodes)));
        }
        let recipe = Recipe::find(&options.image)?;
        let image_root = if options.build_image { recipe.build(false)? } else { recipe.built()? };
        let layers = package::layers(&options.image, &image_root, &options.packages, &options.layers)?;
        let spec = LabSpec {
            name: options.name.clone(),
            image: options.image.clone(),
            image_root,
            layers,
            binds: options.binds.clone(),
            volumes: options.volumes.clone(),
            program: options.program.clone().map_or_else(own_program, Ok)?,
            nodes: options.nodes,
            beside: options.beside,
            token_ms: options.token_ms,
            fencing: options.fencing,
            cluster: options.cluster,
        };
        std::fs::create_dir_all("/run/systole-lab").context(|| "make /run/systole-lab".to_owned())?;
        let _lock = host::lock_file(&paths.lock())?;
        cleanup::clean(&paths, options.keep_disks)?;
        let lab = Lab { paths, spec, keep: options.keep };
        match lab.start() {
            Ok(()) => Ok(lab),
            Err(error) => {
                lab.show_logs();
                if let Err(problem) = cleanup::clean(&lab.paths, options.keep_disks) {
                    host::progress(&problem.to_string());
                }
                // What Drop would do is done, and the lock is still ours.
                let mut lab = lab;
                lab.keep = true;
                Err(error)
            }
        }
    }

    /// A lab that somebody else started; dropping this leaves it up.
    pub fn open(name: &str) -> Result<Lab> {
        let paths = LabPaths::new(name)?;
        let spec = paths.spec()?;
        Ok(Lab { paths, spec, keep: true })
    }

    /// The labs that are up, by name; dropping them leaves them up.
    #[must_use]
    pub fn all() -> Vec<Lab> {
        LabPaths::all().into_iter().filter_map(|paths| Lab::open(&paths.name).ok()).collect()
    }

    /// Ends the lab of that name completely, in whatever state it is.
    pub fn down_by_name(name: &str, keep_disks: bool) -> Result<()> {
        let paths = LabPaths::new(name)?;
        std::fs::create_dir_all("/run/systole-lab").context(|| "make /run/systole-lab".to_owned())?;
        let lock = host::lock_file(&paths.lock())?;
        cleanup::clean(&paths, keep_disks)?;
        let _ = std::fs::remove_file(paths.lock());
        drop(lock);
        let _ = std::fs::remove_dir("/run/systole-lab");
        Ok(())
    }

    /// Ends the lab and tells what could not be cleaned.
    pub fn down(mut self) -> Result<()> {
        self.keep = true;
        Lab::down_by_name(&self.spec.name, false)
    }

    fn start(&self) -> Result<()> {
        let begin = Instant::now();
        let fresh = !self.paths.node_dir("lxc1").join("upper/etc/machine-id").exists();
        for dir in [self.paths.run_dir(), self.paths.power_dir(), self.paths.state_dir(), self.paths.load_dir()] {
            std::fs::create_dir_all(&dir).context(|| format!("make {}", dir.display()))?;
        }
        for number in 1..=self.spec.nodes {
            disk::prepare(&self.paths, &self.spec, number)?;
        }
        network::create(&self.paths)?;
        self.paths.write_spec(&self.spec)?;
        self.start_supervisor()?;
        host::progress(&format!("booting {} nodes of {}", self.spec.nodes, self.spec.image));
        let nodes = self.nodes();
        cluster::on_all(&nodes, |node| node.power_on().and_then(|()| node.wait_booted(Duration::from_secs(60))))?;
        if !self.spec.cluster {
            return self.event("nodes are up, without a cluster");
        }
        host::progress("nodes booted; starting corosync, then pacemaker");
        let members = self.members();
        if fresh {
            cluster::first_start(&members)?;
        }
        self.wait_online()?;
        cluster::enable_at_boot(&members)?;
        host::progress(&format!(
            "lab {}: {} nodes online in Pacemaker {:.1} s after power on",
            self.spec.name,
            members.len(),
            begin.elapsed().as_secs_f64()
        ));
        self.event("cluster is up")
    }

    /// The ends of the logs, before the clean-up takes them.
    fn show_logs(&self) {
        let consoles = self.spec.node_names().into_iter().map(|node| format!("console-{node}.log"));
        let logs = std::iter::once("supervisor.log".to_owned()).chain(consoles);
        for log in logs {
            let text = std::fs::read(self.paths.state_dir().join(&log)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(8)..] {
                host::progress(&format!("{log}: {line}"));
            }
        }
    }

    fn start_supervisor(&self) -> Result<()> {
        let log_path = self.paths.state_dir().join("supervisor.log");
        let log = std::fs::File::create(&log_path).context(|| format!("make {}", log_path.display()))?;
        let errors = log.try_clone().context(|| "copy a file".to_owned())?;
        let procs = cgroup::make(&self.paths.cgroup().join("supervisor"))?;
        // Its own session and cgroup: it outlives the terminal, and the clean-up finds it without asking it.
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", "for f in $1; do echo $$ > \"$f\" || exit 1; done; shift; exec \"$@\"", "sh"]);
        command.arg(procs.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" "));
        command.arg(&self.spec.program).args(["supervise", &self.spec.name]).current_dir("/");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let mut child = command.spawn().context(|| "start the supervisor".to_owned())?;
        let socket = self.paths.control_socket();
        host::poll("the supervisor's socket", Duration::from_secs(10), Duration::from_millis(10), || {
            if let Ok(Some(status)) = child.try_wait() {
                // setsid forks when it leads a group and then ends with 0; the supervisor lives on.
                if !status.success() {
                    return Err(format!("it ended with exit code {}", host::exit_code(status)));
                }
            }
            std::os::unix::net::UnixStream::connect(&socket).map(drop).map_err(|e| e.to_string())
        })?;
        // Nobody waits for it while the lab is up; when it dies first, this thread takes its status.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    /// The lab's places.
    #[must_use]
    pub fn paths(&self) -> &LabPaths {
        &self.paths
    }

    /// What the lab was asked to be.
    #[must_use]
    pub fn spec(&self) -> &LabSpec {
        &self.spec
    }

    /// Node `number`, from 1.
    #[must_use]
    pub fn node(&self, number: u8) -> Node {
        Node { name: format!("lxc{number}"), number, paths: self.paths.clone() }
    }

    /// The node of that name.
    pub fn node_named(&self, name: &str) -> Result<Node> {
        self.spec.check_node(name)?;
        let number = name.trim_start_matches("lxc").parse().unwrap_or(0);
        Ok(self.node(number))
    }

    /// All nodes, with and without power.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        (1..=self.spec.nodes).map(|n| self.node(n)).collect()
    }

    /// The nodes of the cluster, with and without power.
    #[must_use]
    pub fn members(&self) -> Vec<Node> {
        (1..=self.spec.members()).map(|n| self.node(n)).collect()
    }

    /// Nodes of the cluster that have power.
    #[must_use]
    pub fn live_nodes(&self) -> Vec<Node> {
        self.members().into_iter().filter(Node::is_on).collect()
    }

    /// The cluster as seen by a live node, one with quorum if there is any.
    pub fn view(&self) -> Result<ClusterView> {
        let mut last = Err(Error::Refused(format!("no node of lab {} has power", self.spec.name)));
        for node in self.live_nodes() {
            match cluster::view(&node) {
                Ok(view) if view.quorum => return Ok(view),
                Ok(view) => last = Ok(view),
                Err(error) if last.is_err() => last = Err(error),
                Err(_) => {}
            }
        }
        last
    }

    /// A live node that is in the part with quorum: where to configure and ask.
    pub fn quorate_node(&self) -> Result<Node> {
        self.live_nodes()
            .into_iter()
            .find(|node| cluster::view(node).is_ok_and(|view| view.quorum))
            .ok_or_else(|| Error::Refused(format!("no live node of lab {} has quorum", self.spec.name)))
    }

    /// Polls until `condition` holds. The error names the condition and the cluster as it was last.
    pub fn wait_for(&self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
        let waited = host::poll(what, limit, Duration::from_millis(50), || if condition() { Ok(()) } else { Err(String::new()) });
        waited.map_err(|error| match error {
            Error::Timeout { what, after, .. } => {
                let last = self.live_nodes().first().map_or_else(
                    || "no node has power".to_owned(),
                    |node| match node.exec(&["timeout", "60", "crm_mon", "-1Arf"]) {
                        Ok(out) => format!("\n{}{}", out.stdout, out.stderr),
                        Err(error) => error.to_string(),
                    },
                );
                Error::Timeout { what, after, last }
            }
            other => other,
        })
    }

    /// Waits until all nodes are online in Pacemaker.
    pub fn wait_online(&self) -> Result<()> {
        let wanted: Vec<String> = self.members().into_iter().map(|node| node.name).collect();
        self.wait_for("all nodes online in Pacemaker", Duration::from_secs(90), || {
            self.live_nodes().first().is_some_and(|n| cluster::view(n).is_ok_and(|v| v.online == wanted && v.dc.is_some()))
        })
    }

    /// The machine of that name with an empty disk: what was on it is gone. It boots when the cluster is done with the one that it
    /// replaces, and no cluster starts there.
    ///
    /// # Errors
    /// When the disk cannot be made, there is no cluster, or the machine does not boot.
    pub fn new_disk(&self, node: &Node) -> Result<()> {
        self.spec.check_node(&node.name)?;
        node.power_off()?;
        let dir = self.paths.node_dir(&node.name);
        for part in ["upper", "work"] {
            let part = dir.join(part);
            std::fs::remove_dir_all(&part).context(|| format!("empty {}", part.display()))?;
        }
        let spec = LabSpec { cluster: false, ..self.spec.clone() };
        disk::prepare(&self.paths, &spec, node.number)?;
        self.event(&format!("{} has an empty disk", node.name))?;
        self.power_back(node)?;
        node.wait_booted(Duration::from_secs(60))
    }

    /// Gives a node its power back when the others are done with it, one way or the other. A server boots for longer than
    /// they take to fence it; a node of the lab does not, and Pacemaker stays down on a node that hears of its own fencing.
    pub fn power_back(&self, node: &Node) -> Result<()> {
        self.wait_for(&format!("{} fenced", node.name), Duration::from_secs(60), || {
            self.quorate_node()
                .and_then(|other| cluster::view(&other))
                .is_ok_and(|view| !view.online.contains(&node.name) && !view.unclean.contains(&node.name))
        })?;
        node.power_on()
    }

    /// Waits until the cluster has nothing to do: no transition runs and none is due.
    pub fn wait_idle(&self) -> Result<()> {
        // The tool's own limit is one in real time: it is asked again.
        host::poll("a cluster that has nothing to do", Duration::from_secs(90), Duration::from_millis(50), || {
            let done = self.quorate_node().and_then(|node| node.exec(&["timeout", "40", "crm_resource", "--wait", "--timeout=30s"]));
            let done = done.map_err(|error| error.to_string())?;
            if done.success() { Ok(()) } else { Err(done.stderr) }
        })
    }

    /// Runs `crm` with these words on a live node with quorum.
    pub fn crm(&self, words: &str) -> Result<Output> {
        let node = self.quorate_node()?;
        let mut all = vec!["timeout", "600", "crm", "-D", "plain"];
        all.extend(words.split_whitespace());
        let done = node.exec(&all)?;
        host::insist(format!("crm {words} on {}", node.name), done)
    }

    /// `crm configure load update` with this text.
    pub fn load_crm(&self, text: &str) -> Result<Output> {
        const FILE: &str = "/root/systole-lab.crm";
        let node = self.quorate_node()?;
        node.write(FILE, text)?;
        self.event("configuration loaded")?;
        let done = node.exec(&["timeout", "600", "crm", "-D", "plain", "--force", "configure", "load", "update", FILE])?;
        // crmsh reports some refusals with exit code 0.
        if done.stderr.lines().any(|line| line.starts_with("ERROR")) {
            return Err(Error::Command {
                command: format!("crm configure load update on {}", node.name),
                outcome: format!("exit code {}", done.code),
                stderr: done.stderr,
            });
        }
        host::insist(format!("crm configure load update on {}", node.name), done)
    }

    /// The node where `resource` (a primitive or its clone) is promoted.
    #[must_use]
    pub fn promoted(&self, resource: &str) -> Option<String> {
        self.view().ok()?.with_role(resource, "Promoted").into_iter().next()
    }

    /// Cuts a node's network, wholly or partly.
    pub fn cut(&self, cut: &Cut) -> Result<()> {
        faults::cut(&self.paths, &self.spec, cut)
    }

    /// Takes back all cuts of a node, or all.
    pub fn heal(&self, node: Option<&str>) -> Result<()> {
        faults::heal(&self.paths, &self.spec, node)
    }

    /// A planned move: the promoted role leaves its node. Returns the new node when it has arrived; the ban is taken
    /// back then.
    pub fn move_promoted(&self, resource: &str) -> Result<String> {
        let from = self
            .promoted(resource)
            .ok_or_else(|| Error::Refused(format!("{resource} is promoted nowhere, so there is nothing to move")))?;
        // Constraints on a role belong to the clone, whatever name was given.
        let view = self.view()?;
        let clone = view.instances.iter().find(|i| i.resource == resource).and_then(|i| i.clone.clone());
        let resource = clone.as_deref().unwrap_or(resource);
        let node = self.quorate_node()?;
        self.event(&format!("planned move of {resource} away from {from}"))?;
        node.sh(&format!("crm_resource --ban --promoted --resource {resource} --node {from} 2>&1"))?;
        let mut to = None;
        let moved = self.wait_for(&format!("{resource} promoted elsewhere than on {from}"), Duration::from_secs(60), || {
            to = self.promoted(resource).filter(|now| *now != from);
            to.is_some()
        });
        let cleared = node.sh(&format!("crm_resource --clear --promoted --resource {resource} --node {from} 2>&1"));
        moved?;
        cleared?;
        to.ok_or_else(|| Error::Refused(format!("{resource} is promoted nowhere")))
    }

    /// Starts writers and probers; see [`Load::stop`].
    pub fn start_load(&self, options: &LoadOptions) -> Result<Load> {
        Load::start(&self.paths, &self.spec, options)
    }

    /// Starts visitors of the site that runs in the lab.
    pub fn start_visitors(&self, options: &VisitOptions) -> Result<Load> {
        Load::visitors(&self.paths, &self.spec, options)
    }

    /// Fills a table of MySQL through the address of `options` up to this size, so that a failover has data to be slow with.
    pub fn fill(&self, options: &LoadOptions, megabytes: u64) -> Result<()> {
        self.event(&format!("ballast of {megabytes} MiB"))?;
        load::fill(&self.paths, options, megabytes)
    }

    /// Holds a stopped load's journal against what the live nodes have.
    pub fn check(&self, journal: &Journal, options: &CheckOptions) -> Result<Report> {
        check::check(&self.paths, &check::addresses(&self.live_nodes()), journal, options)
    }

    /// Whether exactly one live node is a primary of the database and all others follow it.
    pub fn in_step(&self, options: &CheckOptions) -> Result<bool> {
        check::in_step(&self.paths, &check::addresses(&self.live_nodes()), options)
    }

    /// The story of a load as text.
    pub fn timeline(&self, journal: &Journal) -> Result<String> {
        self.timeline_from(journal, timeline::SHORTEST_OUTAGE_US)
    }

    /// The same; only times without a write that are longer than this count, microseconds.
    pub fn timeline_from(&self, journal: &Journal, shortest_us: u64) -> Result<String> {
        let (from, to) = journal.span().unwrap_or((0, 0));
        let cluster = timeline::cluster_events(&self.paths, &self.spec, from, to)?;
        Ok(timeline::draw(journal, shortest_us, &self.paths.read_events()?, &cluster))
    }

    /// Makes the power switch deaf to the nodes (`false`), or lets it serve them again.
    pub fn fence_device_works(&self, works: bool) -> Result<()> {
        let op = if works { Op::RepairFencing } else { Op::BreakFencing };
        power::ask(&self.paths.control_socket(), &Request { op, node: None, by: "lab".to_owned() }).map(drop)
    }

    /// Copies what tells of the lab's life into a directory: events, load journals, consoles, the nodes' journals,
    /// Pacemaker's logs, the configuration. For failed tests.
    pub fn collect(&self, target: &std::path::Path) -> Result<()> {
        std::fs::create_dir_all(target).context(|| format!("make {}", target.display()))?;
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.paths.events()).arg(self.paths.load_dir()).arg(self.paths.state_dir().join("supervisor.log"));
        let _ = host::output(copy.arg(target))?;
        for node in self.spec.node_names() {
            let write = |name: &str, text: &str| {
                let path = target.join(format!("{node}.{name}"));
                std::fs::write(&path, text).context(|| format!("write {}", path.display()))
            };
            let mut journal = Command::new("journalctl");
            journal.args(["--no-pager", "-o", "short-monotonic", "-D"]).arg(self.paths.journal_dir(&node));
            write("journal", &host::output(&mut journal)?.stdout)?;
            let upper = self.paths.node_dir(&node).join("upper");
            for log in ["var/log/pacemaker", "var/log/redis", "var/log/valkey", "var/log/mysql"] {
                if upper.join(log).is_dir() {
                    let to = target.join(format!("{node}.{}", log.replace('/', "-")));
                    let _ = host::output(Command::new("cp").arg("-a").arg(upper.join(log)).arg(to))?;
                }
            }
            let node = self.node_named(&node)?;
            if node.is_on() {
                let _ = write("crm_mon", &node.exec(&["timeout", "60", "crm_mon", "-1Arf"])?.stdout);
                let _ = write("cib.xml", &node.exec(&["timeout", "60", "cibadmin", "--query"])?.stdout);
            }
        }
        Ok(())
    }

    /// Writes a moment into the story.
    pub fn event(&self, text: &str) -> Result<()> {
        self.paths.record_event("lab", text)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = Lab::down_by_name(&self.spec.name, false) {
            host::progress(&error.to_string());
        }
    }
}

/// Set by the command line's `main`: this process is `systole-lab`, whatever its file is called.
pub(crate) static IS_THE_PROGRAM: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// The `systole-lab` program: this one, `$SYSTOLE_LAB_BIN`, or the one cargo built next to the running test.
fn own_program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SYSTOLE_LAB_BIN") {
        return Ok(PathBuf::from(path));
    }
    let current = std::env::current_exe().context(|| "find this program".to_owned())?;
    if IS_THE_PROGRAM.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(current);
    }
    // target/debug/deps/test-abc and target/debug/examples/x have it one or two directories up.
    current
        .ancestors()
        .skip(1)
        .take(3)
        .map(|dir| dir.join("systole-lab"))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::Refused("systole-lab is not built: run `cargo build -p lab`, or set SYSTOLE_LAB_BIN".to_owned()))
}
