//! The command line, declared once: help, manual page and completions come from it.

use clap::{Parser, Subcommand, ValueEnum};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "systole",
    version,
    about = "The databases under ocf:systole:mysql and ocf:systole:redis: how they are, why, and planned moves",
    after_help = "status, check and why end with 0 (good), 1 (degraded), 2 (broken) or 3 (unknown); switchover and abort with 0 (done), 1 \
                  (refused, nothing changed), 2 (failed half-way) or 3 (timed out, goes on); history, timeline and report with 0 (all nodes \
                  answered), 1 (some did not) or 3 (nothing is known). 64 is a wrong command line."
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
        /// What this node alone has kept, for another node that asks
        #[arg(long, hide = true)]
        here: bool,
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
        /// The lines of this node alone between two moments, in seconds since 1970, for another node that asks
        #[arg(long, hide = true, num_args = 2, value_names = ["FROM", "TO"], conflicts_with_all = ["epoch", "since", "name"])]
        here: Option<Vec<u64>>,
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
