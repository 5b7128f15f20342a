//! Our agents and the stock ones side by side, in one run on one machine: monitor cost, outages, writes lost.
//! Writes the pages that the documentation quotes, with the machine and the versions, and the raw numbers as JSON.

mod address;
mod busy;
mod cost;
mod cron;
mod fault;
mod mysql;
mod page;
mod redis;
mod rewind;
mod series;
mod workshop;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use lab::Result;

#[derive(Parser)]
#[command(about = "Benchmark of the agents beside the stock ones")]
struct Options {
    /// Only this; all without it
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Crashes and moves per agent
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Crashes and moves per stock agent, which take minutes each: as many as of ours without it
    #[arg(long)]
    stock_runs: Option<usize>,
    /// Monitors per agent and role
    #[arg(long, default_value_t = 100)]
    monitors: u32,
    /// Only the agents and parts with this in their name; the page is then printed, and written only with --go-on
    #[arg(long)]
    only: Option<String>,
    /// Goes on with a run of Redis, MySQL or rewind that was interrupted, from the numbers that it has written
    #[arg(long)]
    go_on: bool,
    /// Where to write the pages
    #[arg(long, default_value = "docs")]
    out: PathBuf,
    /// Name of the lab
    #[arg(long, default_value = "bench")]
    lab: String,
}

/// What there is a page of.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Redis,
    Mysql,
    Rewind,
    Cron,
    Address,
    Workshop,
}

impl Options {
    /// Whether a part is wanted.
    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|word| part.contains(word))
    }

    /// How many crashes and moves of a stock agent there have to be when there are so many of ours: as the turns go by, in proportion.
    fn of_stock(&self, runs: usize) -> usize {
        let all = self.stock_runs.unwrap_or(self.runs).min(self.runs);
        (runs * all).div_ceil(self.runs.max(1))
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = run(&options);
    cost::remove_layer();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    type Measurement = fn(&Options) -> Result<()>;
    let parts: [(Part, Measurement); 6] = [
        (Part::Redis, redis::run),
        (Part::Mysql, mysql::run),
        (Part::Rewind, rewind::run),
        (Part::Cron, cron::run),
        (Part::Address, address::run),
        (Part::Workshop, workshop::run),
    ];
    parts.iter().filter(|(part, _)| options.part.is_none_or(|wanted| wanted == *part)).try_for_each(|(_, run)| run(options))
}
