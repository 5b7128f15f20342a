//! Runs a command many times and prints what it cost, as JSON: run inside a node by `bench`.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((runs, command)) = words.split_first().and_then(|(n, c)| Some((n.parse::<u32>().ok()?, c))).filter(|(_, c)| !c.is_empty())
    else {
        eprintln!("usage: measure RUNS COMMAND ...");
        return ExitCode::from(2);
    };
    let (mut wall, mut cpu, mut processes, mut status) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..runs {
        let (before, used, begin) = (forks(), children_cpu(), Instant::now());
        match Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
            Ok(s) => status = s.code().unwrap_or(-1),
            Err(e) => {
                eprintln!("{}: {e}", command[0]);
                return ExitCode::FAILURE;
            }
        }
        wall.push(begin.elapsed().as_secs_f64() * 1000.0);
        cpu.push((children_cpu() - used).as_secs_f64() * 1000.0);
        processes.push(forks() - before);
        std::thread::sleep(Duration::from_millis(20));
    }
    let resident = getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |u| u.max_rss());
    println!(
        "{}",
        serde_json::json!({ "status": status, "wall_ms": wall, "cpu_ms": cpu, "processes": processes, "max_resident_kb": resident })
    );
    ExitCode::SUCCESS
}

/// Processor time of all children that ended, and of theirs.
fn children_cpu() -> Duration {
    let time = |t: TimeVal| Duration::from_micros(u64::try_from(t.tv_sec() * 1_000_000 + t.tv_usec()).unwrap_or_default());
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(Duration::ZERO, |u| time(u.user_time()) + time(u.system_time()))
}

/// Processes and threads that the machine has started since boot. Others start some too: the lowest difference counts.
fn forks() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().find_map(|l| l.strip_prefix("processes ")).and_then(|n| n.trim().parse().ok()).unwrap_or_default()
}
