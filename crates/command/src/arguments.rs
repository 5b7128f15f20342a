//! The command line, declared once: help, manual page and completions come from it.

use clap::{Parser, Subcommand, ValueEnum};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "systole",
    version,
    about = "The databases under ocf:systole:mysql and ocf:systole:redis: how they are, why, and what an operator does with them",
    after_help = "What only looks ends with 0 (good), 1 (degraded), 2 (broken) or 3 (unknown); what changes something with 0 (done), 1 \
                  (refused, nothing changed), 2 (failed half-way) or 3 (timed out, goes on). 64 is a wrong command line."
)]
pub(crate) struct Arguments {
    /// What is to be done.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Pretty,
    /// For scripts: tabs between columns, one line a server.
    Tsv,
    /// For programs.
    Json,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Who is what, what is wrong, and what mends it
    Status {
        /// The database (its resource or its clone); without it all services
        name: Option<String>,
        /// Show it again every so many seconds
        #[arg(short = 'w', long, value_name = "SEC", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        watch: Option<u64>,
        /// Ask each server over ssh where it stands now, and how far it is behind
        #[arg(long)]
        live: bool,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// One line for Nagios or Icinga, with figures
    Check {
        /// The database
        name: String,
    },
    /// Who can be promoted and who cannot, and the way out
    Why {
        /// The database
        name: String,
        /// What would be if this node were lost now
        #[arg(long, value_name = "NODE")]
        if_lost: Option<String>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// Moves the primary to another node
    Switchover {
        /// The database
        name: String,
        /// Where to; without it to the replica that Pacemaker would choose
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// MySQL: not when the new primary is more than so many seconds behind
        #[arg(long, value_name = "SEC")]
        max_lag: Option<u64>,
        /// MySQL: not when a transaction that has written is older than so many seconds; the move would end it
        #[arg(long, value_name = "SEC")]
        max_transaction: Option<u64>,
        /// Wait so many seconds at most for the new primary
        #[arg(long, value_name = "SEC", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
        wait: u64,
    },
    /// Practises a failover on this cluster: writes markers meanwhile, and says how long writes waited and whether one was lost
    Drill {
        /// What is practised
        #[command(subcommand)]
        command: Drill,
    },
    /// Takes back what a planned move has left: its constraint
    Abort {
        /// The database
        name: String,
    },
    /// What is wrong with the nodes and the configuration, each with the line to write
    Doctor {
        /// These machines, before there is a cluster; without it the nodes of the cluster, or this machine
        #[arg(long, value_name = "NODE", value_delimiter = ',')]
        nodes: Vec<String>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// What status knows, for Prometheus
    Metrics {
        /// Serve it at /metrics: a port of this machine alone, or ADDRESS:PORT
        #[arg(long, value_name = "ADDR")]
        listen: Option<crate::metrics::Listen>,
    },
    /// Names the node whose data are right, when the servers cannot know; shows first what is given up by it
    Decide {
        /// The database
        name: String,
        /// The node whose data are right
        node: String,
        /// The same node once more, in a script: what only the others hold is given up
        #[arg(long, value_name = "NODE")]
        yes_give_up: Option<String>,
        /// Say what is given up, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Wait so many seconds at most for its promotion
        #[arg(long, value_name = "SEC", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3600))]
        wait: u64,
        /// How it is printed what is given up
        #[arg(long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// Has Pacemaker leave a database alone for a while: no failover by itself
    Pause {
        /// The database
        name: String,
        /// Why, for whoever looks at it meanwhile
        #[arg(long, value_name = "TEXT", value_parser = crate::pause::reason)]
        reason: String,
        /// For how long, as 30m or 2h; a day at most
        #[arg(long = "for", value_name = "DURATION", value_parser = crate::pause::length)]
        length: std::time::Duration,
    },
    /// Ends a pause now
    Resume {
        /// The database
        name: String,
    },
    /// What cron jobs under ocf:systole:cron-singleton have run on all nodes, and will
    Cron {
        /// What is wanted
        #[command(subcommand)]
        command: Cron,
    },
    /// What only a node holds, of its transactions and what they did, or of data that were kept
    Diverged {
        /// The database
        name: String,
        /// The node; without it all replicas
        node: Option<String>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// Makes a replica a copy of the primary anew, and says how far it is
    Reclone {
        /// The database
        name: String,
        /// The node whose data are replaced; without it the one that says that it has diverged
        node: Option<String>,
        /// The same node once more, in a script: its data are replaced
        #[arg(long, value_name = "NODE")]
        yes_replace: Option<String>,
        /// Also when writes wait until the copy is whole
        #[arg(long)]
        force: bool,
        /// Wait so many seconds at most for the copy, which goes on then
        #[arg(long, value_name = "SEC", default_value_t = 86_400)]
        wait: u64,
    },
    /// Says how far a replica is that takes back what the primary does not have, until it follows or has refused
    Rewind {
        /// The database
        name: String,
        /// The replica; without it the one that says that it has diverged
        node: Option<String>,
        /// Wait so many seconds at most for it, which goes on then
        #[arg(long, value_name = "SEC", default_value_t = 3600)]
        wait: u64,
    },
    /// Answers what the command on another node asks of this one
    #[command(hide = true)]
    Here {
        /// What is asked
        #[command(subcommand)]
        question: Here,
    },
    /// Prints the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The promotions that the nodes remember: who, why, how long it took
    History {
        /// The database
        name: String,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// What the nodes' journals say of a failover, in one order
    Timeline {
        /// The database; without it of all
        name: Option<String>,
        /// The promotion with this epoch; without it the last one
        #[arg(long, value_name = "N", conflicts_with = "since", requires = "name")]
        epoch: Option<u64>,
        /// All since then, as date(1) reads it: "10 minutes ago", "01:20"
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        since: Option<String>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// All that is known of a failover on one page, to be sent to somebody
    Report {
        /// The database
        name: String,
        /// The file that is written
        #[arg(long, value_name = "FILE")]
        html: std::path::PathBuf,
        /// The promotion with this epoch; without it the last one
        #[arg(long, value_name = "N")]
        epoch: Option<u64>,
    },
}

/// What is practised.
#[derive(Debug, Subcommand)]
pub(crate) enum Drill {
    /// A planned move, as switchover makes it
    Move {
        /// Where to; without it to the replica that Pacemaker would choose
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// How it is practised
        #[command(flatten)]
        how: DrillHow,
    },
    /// Kills the server of the primary with SIGKILL
    Kill {
        /// How it is practised
        #[command(flatten)]
        how: DrillHow,
    },
}

/// How a drill is made.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DrillHow {
    /// The database; without it the only one
    pub(crate) name: Option<String>,
    /// The database once more, in a script: it is practised on
    #[arg(long, value_name = "NAME")]
    pub(crate) yes: Option<String>,
    /// Say what would be done and what it costs, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Wait so many seconds at most until the cluster is as before
    #[arg(long, value_name = "SEC", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) wait: u64,
    /// How the verdict is printed
    #[arg(long, value_enum, default_value_t = Format::Pretty)]
    pub(crate) format: Format,
}

/// What is wanted of cron jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum Cron {
    /// What has run, was left out, or did not begin
    History {
        /// The resource
        name: String,
        /// Print so many runs, the last ones
        #[arg(long, default_value_t = 20)]
        last: usize,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// When the jobs come due next
    Next {
        /// The resource
        name: String,
        /// Print so many runs
        #[arg(long, default_value_t = 20)]
        count: usize,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// What did not begin though it was due, or was left out
    Missed {
        /// The resource
        name: String,
        /// How far back
        #[arg(long, value_name = "DURATION", default_value = "1day", value_parser = humantime::parse_duration)]
        since: std::time::Duration,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// Brings crontabs that exist on all nodes into the one of a resource; shows the difference first
    Import {
        /// The crontab of the resource, with a column for the user; it may exist
        #[arg(long)]
        to: std::path::PathBuf,
        /// A crontab with a column for the user, as in /etc/cron.d
        #[arg(long, required_unless_present = "user")]
        from: Vec<std::path::PathBuf>,
        /// A user whose crontab is brought in
        #[arg(long)]
        user: Vec<String>,
        /// Do it on all nodes: write the crontab, and take the jobs out where they were
        #[arg(long)]
        write: bool,
    },
}

/// What a node is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Here {
    /// What it knows of itself, for `systole doctor`
    Facts {
        /// Of this run: what passwords are compared by
        salt: String,
        /// Whose names have to resolve there
        nodes: Vec<String>,
    },
    /// The promotions that it has kept
    History {
        /// The resource
        name: String,
    },
    /// The lines of its journal between two moments, in seconds since 1970
    Journal {
        /// The first moment
        from: u64,
        /// The last one
        to: u64,
    },
    /// The transactions that its server holds
    Held {
        /// The resource
        name: String,
    },
    /// What only its server holds
    Diverged {
        /// The resource
        name: String,
        /// What the primary holds
        #[arg(long)]
        than: Option<String>,
        /// What this one held before the primary was asked
        #[arg(long)]
        held: Option<String>,
    },
    /// Where its server stands now
    Standing {
        /// The resource
        name: String,
    },
    /// The transactions that have written and are not committed
    Writing {
        /// The resource
        name: String,
    },
    /// How many seconds its server is behind
    Behind {
        /// The resource
        name: String,
    },
    /// Whether its data are not, or not yet, a whole copy of the primary's
    Copying {
        /// The resource
        name: String,
    },
    /// Make room for a drill's markers
    DrillPrepare {
        /// The resource
        name: String,
    },
    /// Write a drill's markers, and say of each what became of it
    DrillWrite {
        /// The resource
        name: String,
        /// The drill
        drill: String,
        /// This node's name
        node: String,
        /// How many replicas have to confirm one
        confirmations: u64,
        /// For so many seconds
        seconds: u64,
    },
    /// Which of a drill's markers its server holds
    DrillHeld {
        /// The resource
        name: String,
        /// The drill
        drill: String,
        /// The highest number of each writer, as NODE=NUMBER
        highest: Vec<String>,
    },
    /// Remove a drill's markers
    DrillForget {
        /// The resource
        name: String,
        /// The drill
        drill: String,
        /// The highest number of each writer, as NODE=NUMBER
        highest: Vec<String>,
    },
    /// Kill its server, if that is the primary and takes writes
    DrillKill {
        /// The resource
        name: String,
    },
    /// The next start of its instance makes a copy of the primary's data
    Copy {
        /// The resource
        name: String,
    },
}
