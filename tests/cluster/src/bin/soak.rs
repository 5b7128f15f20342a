//! Random faults under clients whose history is judged: see the module soak of the library. `make soak` runs it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cluster_scenarios::soak::{Order, Served, run};

#[derive(Parser)]
#[command(about = "Random faults in the rehearsal cluster, and whether every promise was kept")]
struct Options {
    /// What is soaked
    #[arg(long, value_enum)]
    server: Served,
    /// Of the schedules
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many faults there shall have been, with those of the run that is gone on with
    #[arg(long, default_value_t = 100)]
    faults: usize,
    /// This schedule alone, from its begin; its numbers are printed and not kept
    #[arg(long)]
    schedule: Option<u64>,
    /// The file of the numbers; the page is written beside it
    #[arg(long, default_value = "docs/proof.json")]
    numbers: PathBuf,
    /// Where histories and the logs of violations are kept
    #[arg(long, default_value = "target/soak")]
    kept: PathBuf,
}

fn main() -> ExitCode {
    let Options { server, seed, faults, schedule, numbers, kept } = Options::parse();
    match run(&Order { served: server, seed, faults, only: schedule, numbers, kept }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("A PROMISE WAS BROKEN: see above.");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("soak: {e}");
            ExitCode::FAILURE
        }
    }
}
