//! The command line's declarations: verbs, options, help texts, and the plain conversions to the library's options.
//! Does nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::database::Database;
use crate::faults::Direction;
use crate::image;
use crate::lab::LabOptions;
use crate::load::LoadOptions;
use crate::state::{Bind, Volume};

/// Three real cluster nodes on one machine, to rehearse failovers and to test resource agents.
#[derive(Parser)]
#[command(name = "systole-lab", version)]
pub(super) struct Cli {
    /// The lab to act on.
    #[arg(long, global = true, default_value = "demo", env = "SYSTOLE_LAB")]
    pub(super) name: String,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Start a lab; an earlier one of that name is cleaned away first.
    Up(UpArgs),
    /// End the lab and leave nothing of it.
    Down {
        /// Leave the nodes' disks for a later `up --keep-disks`.
        #[arg(long)]
        keep_disks: bool,
    },
    /// Show the nodes and the cluster.
    Status,
    /// Show which labs are up.
    List,
    /// Run a command on a node; its exit code becomes this program's.
    Exec {
        /// The node (lxc1, ...).
        node: String,
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Run a command where the clients are: the lab's network, this machine's files.
    Client {
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Cut a node's power.
    PowerOff {
        /// The nodes.
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Give a node power; it boots and rejoins by itself.
    PowerOn {
        /// The nodes.
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Send a signal to a node's processes of that name (with a slash or blank in it: of that command line).
    Kill {
        /// The node.
        node: String,
        /// Process name.
        pattern: String,
        /// Signal name, for example KILL, TERM, STOP.
        #[arg(short, long, default_value = "KILL")]
        signal: String,
    },
    /// Stop a node's processes of that name, or the whole node.
    Freeze(FreezeArgs),
    /// Continue what `freeze` stopped.
    Thaw(FreezeArgs),
    /// Cut a node's network: pull the cable, or lose only some packets.
    Cut {
        /// The node.
        node: String,
        /// Only towards this node.
        #[arg(long)]
        to: Option<String>,
        /// Only packets of this direction, seen from the node.
        #[arg(long, value_enum, default_value = "both")]
        direction: Direction,
        /// Only TCP with this port at either end.
        #[arg(long)]
        port: Option<u16>,
        /// Only towards the clients.
        #[arg(long, conflicts_with = "to")]
        clients: bool,
    },
    /// Take back the cuts of a node, or all.
    Heal {
        /// The node.
        node: Option<String>,
    },
    /// Let the power switch refuse or serve the nodes' fence agent.
    FenceDevice {
        /// `break` or `repair`.
        #[arg(value_parser = ["break", "repair"])]
        what: String,
    },
    /// Planned move: the promoted role of a resource leaves its node.
    Move {
        /// The primitive or its clone.
        resource: String,
    },
    /// Fill a volume of a node, or free it again.
    FillDisk {
        /// The node.
        node: String,
        /// Where the volume is in the node.
        path: String,
        /// Free it again.
        #[arg(long)]
        free: bool,
    },
    /// Copy logs, journals and configuration into a directory.
    Collect {
        /// The directory.
        directory: PathBuf,
    },
    /// Write a moment into the story.
    Event {
        /// What happened.
        text: String,
    },
    /// Show a node's journal; works without power too. More words go to journalctl.
    Logs {
        /// The node.
        node: String,
        /// Arguments of journalctl.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run one command in an image without cluster, init and network; its exit code becomes this program's.
    Sandbox {
        /// Image.
        #[arg(long, default_value_t = image::usual())]
        image: String,
        /// Debian package to install in the image first.
        #[arg(long = "package", value_name = "FILE")]
        packages: Vec<PathBuf>,
        /// Directory laid over the image.
        #[arg(long = "layer", value_name = "DIR")]
        layers: Vec<PathBuf>,
        /// Directory of this machine shown in it.
        #[arg(long = "bind", value_name = "SOURCE:TARGET")]
        binds: Vec<Bind>,
        /// Variable for the command.
        #[arg(long = "env", value_name = "NAME=VALUE")]
        env: Vec<String>,
        /// Working directory in it.
        #[arg(long)]
        chdir: Option<String>,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Load a configuration as `crm configure load update` does.
    LoadCrm {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Writers and probers.
    #[command(subcommand)]
    Load(LoadVerb),
    /// Stop the load if it runs, and hold its journal against the nodes; exit code 1 when a promise was broken.
    Check(CheckArgs),
    /// Print what happened when: faults, the cluster's actions, the clients' writes.
    Timeline {
        /// Of which load; the last one without it.
        #[arg(long, value_enum)]
        database: Option<Database>,
    },
    /// Wait until the cluster has nothing to do.
    WaitIdle,
    /// Build, list or find the nodes' images.
    #[command(subcommand)]
    Image(ImageVerb),
    /// The load's own process (started by `load start`).
    #[command(hide = true)]
    LoadWorker {
        /// What to do.
        order: PathBuf,
    },
    /// The visitors' own process.
    #[command(hide = true)]
    VisitWorker {
        /// What to do.
        order: PathBuf,
    },
    /// The lab's own process (started by `up`).
    #[command(hide = true)]
    Supervise {
        /// The lab.
        lab: String,
    },
}

#[derive(Subcommand)]
pub(super) enum ImageVerb {
    /// Make an image with mmdebstrap unless it is in the cache.
    Build {
        /// debian12, debian13 or sid.
        image: String,
        /// Make it anew.
        #[arg(long)]
        force: bool,
    },
    /// Show all images.
    List,
    /// Print an image's directory.
    Path {
        /// The image.
        image: String,
    },
}

#[derive(Subcommand)]
pub(super) enum LoadVerb {
    /// Start the load; it runs until `load stop`, `check` or `down`.
    Start(LoadArgs),
    /// End it and print the journal's path.
    Stop {
        /// Which load; the last one without it.
        #[arg(long, value_enum)]
        database: Option<Database>,
    },
    /// Fill a table of MySQL up to a size, so that a failover has data to be slow with.
    Fill {
        /// Size in MiB.
        #[arg(long)]
        megabytes: u64,
        /// Address of the primary; that of the load without it.
        #[arg(long)]
        address: Option<String>,
        /// User.
        #[arg(long, default_value = "load")]
        user: String,
        /// File with its password.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(super) struct CheckArgs {
    /// Which load; the last one without it.
    #[arg(long, value_enum)]
    pub(super) database: Option<Database>,
    /// Longest outage allowed, in milliseconds.
    #[arg(long)]
    pub(super) max_outage: Option<u64>,
    /// Port of the servers; the load's without it.
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// User; the load's without it.
    #[arg(long)]
    pub(super) user: Option<String>,
    /// File with the servers' password; the load's without it.
    #[arg(long)]
    pub(super) password_file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct LoadArgs {
    /// What the servers are.
    #[arg(long, value_enum, default_value = "redis")]
    pub(super) database: Database,
    /// Address that the writers use; without it 192.0.2.100:6379 for Redis and 192.0.2.101:3306 for MySQL.
    #[arg(long)]
    pub(super) address: Option<String>,
    /// Number of writers.
    #[arg(long, default_value_t = 4)]
    pub(super) writers: u32,
    /// Number of further writers with the system's own patience.
    #[arg(long, default_value_t = 0)]
    pub(super) patient: u32,
    /// Redis: a write counts as acknowledged when this many replicas confirmed it (WAIT).
    #[arg(long, default_value_t = 0)]
    pub(super) wait: u32,
    /// Pause of a writer after each write, microseconds.
    #[arg(long, default_value_t = 1000)]
    pub(super) pause_us: u64,
    /// No probers at the nodes' own addresses (the checker then cannot see two writers).
    #[arg(long)]
    pub(super) no_probes: bool,
    /// MySQL: the user.
    #[arg(long, default_value = "load")]
    pub(super) user: String,
    /// File with the servers' password.
    #[arg(long)]
    pub(super) password_file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct FreezeArgs {
    /// The node.
    pub(super) node: String,
    /// Process name.
    #[arg(required_unless_present = "all")]
    pub(super) process: Option<String>,
    /// The whole node.
    #[arg(long, conflicts_with = "process")]
    pub(super) all: bool,
}

#[derive(Args)]
pub(super) struct UpArgs {
    /// Image of the nodes (built when it is not there).
    #[arg(long, default_value_t = image::usual())]
    pub(super) image: String,
    /// Number of nodes.
    #[arg(long, default_value_t = 3)]
    pub(super) nodes: u8,
    /// Debian package to install in the image, by its dpkg: no download, what it depends on has to be there.
    #[arg(long = "package", value_name = "FILE")]
    pub(super) packages: Vec<PathBuf>,
    /// Directory laid over the image and the packages, for example with configuration. Later ones win.
    #[arg(long = "layer", value_name = "DIR")]
    pub(super) layers: Vec<PathBuf>,
    /// Directory of this machine shown in every node.
    #[arg(long = "bind", value_name = "SOURCE:TARGET")]
    pub(super) binds: Vec<Bind>,
    /// File system of its own in every node, so that it can be filled.
    #[arg(long = "volume", value_name = "PATH:MEBIBYTES")]
    pub(super) volumes: Vec<Volume>,
    /// Take over the disks that an earlier lab of that name left.
    #[arg(long)]
    pub(super) keep_disks: bool,
    /// Corosync's token timeout in milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub(super) token_ms: u32,
    /// No fence device and stonith-enabled=false.
    #[arg(long)]
    pub(super) no_fencing: bool,
}

impl UpArgs {
    pub(super) fn options(self, name: &str, keep: bool) -> LabOptions {
        LabOptions {
            name: name.to_owned(),
            image: self.image,
            nodes: self.nodes,
            beside: 0,
            packages: self.packages,
            layers: self.layers,
            binds: self.binds,
            volumes: self.volumes,
            token_ms: self.token_ms,
            fencing: !self.no_fencing,
            cluster: true,
            keep_disks: self.keep_disks,
            build_image: true,
            keep,
            program: None,
        }
    }
}

impl LoadArgs {
    pub(super) fn options(self) -> LoadOptions {
        let usual = LoadOptions::of(self.database);
        LoadOptions {
            address: self.address.unwrap_or(usual.address),
            writers: self.writers,
            patient: self.patient,
            wait: self.wait,
            pause_us: self.pause_us,
            probe_pause_us: if self.no_probes { 0 } else { usual.probe_pause_us },
            user: self.user,
            password_file: self.password_file,
            ..LoadOptions::of(self.database)
        }
    }
}
