//! Our agents and the stock ones side by side, in one run on one machine: monitor cost, outages, writes lost.
//! Writes the pages that the documentation quotes, with the machine and the versions, and the raw numbers as JSON.

mod address;
mod cost;
mod cron;
mod fault;
mod mysql;
mod page;
mod redis;
mod workshop;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use cost::Cost;
use fault::Series;
use lab::Result;
use serde::{Deserialize, Serialize};

#[derive(Parser)]
#[command(about = "Benchmark of the agents beside the stock ones")]
struct Options {
    /// Only this; all without it
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Crashes and moves per agent
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Monitors per agent and role
    #[arg(long, default_value_t = 100)]
    monitors: u32,
    /// Only the parts with this in their name; the page is then printed and not written
    #[arg(long)]
    only: Option<String>,
    /// Goes on with a run of MySQL that was interrupted, from the numbers that it has written
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
    Cron,
    Address,
    Workshop,
}

impl Options {
    /// Whether a part is wanted.
    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|word| part.contains(word))
    }
}

/// An agent with a server, measured.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Results {
    /// How the tables call it.
    agent: String,
    versions: String,
    monitor: Option<MonitorCost>,
    faults: Vec<Series>,
}

impl Results {
    /// The series of that name, begun if there is none.
    fn series(&mut self, what: &str) -> &mut Series {
        let at = self.faults.iter().position(|s| s.what == what).unwrap_or_else(|| {
            self.faults.push(Series::new(what));
            self.faults.len() - 1
        });
        &mut self.faults[at]
    }
}

/// The cost of a steady monitor.
#[derive(Debug, Serialize, Deserialize)]
struct MonitorCost {
    primary: Cost,
    replica: Cost,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    type Measurement = fn(&Options) -> Result<()>;
    let parts: [(Part, Measurement); 5] = [
        (Part::Redis, redis::run),
        (Part::Mysql, mysql::run),
        (Part::Cron, cron::run),
        (Part::Address, address::run),
        (Part::Workshop, workshop::run),
    ];
    parts.iter().filter(|(part, _)| options.part.is_none_or(|wanted| wanted == *part)).try_for_each(|(_, run)| run(options))
}
