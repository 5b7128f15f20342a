//! The command line, declared once: help, manual page and completions come from it.

use clap::{Parser, Subcommand, ValueEnum};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "systole",
    version,
    about = "The databases under ocf:systole:mysql and ocf:systole:redis: how they are, why, and planned moves",
    after_help = "status, check, why and doctor end with 0 (good), 1 (degraded), 2 (broken) or 3 (unknown); switchover and abort with 0 (done), 1 \
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
        /// Wait so many seconds at most for the new primary
        #[arg(long, value_name = "SEC", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
        wait: u64,
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
        /// What this node says to the one that asks
        #[arg(long, hide = true, value_name = "SALT")]
        facts: Option<String>,
    },
    /// What status knows, for Prometheus
    Metrics {
        /// Serve it at /metrics: a port of this machine alone, or ADDRESS:PORT
        #[arg(long, value_name = "ADDR")]
        listen: Option<crate::metrics::Listen>,
    },
    /// Prints the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}
