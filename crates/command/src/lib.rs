//! `systole`: the operator's command. It needs no daemon and runs on any node; it reads what the agents publish, and asks the cluster's
//! tools for what changes anything.
//!
//! What asks the cluster is in `ask`, what asks its nodes in `remote` (`standing`: where their servers stand now); what a move does to it in
//! `switchover`, what a drill does in `drill` (`drills`: its verdict). All the rest is pure: `cib` and `crm_mon` read, `picture` puts together, `notices`, `status`, `check` and `why` say what comes of it; `history`, `timeline` and `report` tell
//! of failovers, for which `ask_history`, `ask_timeline` and `ask_report` ask. What is said of positions, records and elections is said by the
//! agents' own code (`promotable::operator`).

mod arguments;
mod ask;
mod ask_history;
mod ask_report;
mod ask_timeline;
pub mod check;
pub mod cib;
mod confirm;
mod copies;
mod costs;
pub mod crm_mon;
mod cron;
mod decide;
pub mod decisions;
mod diverged;
mod divergences;
pub mod doctor;
mod drill;
pub mod drills;
mod here;
pub mod history;
mod jobs;
pub mod metrics;
mod moves;
pub mod notices;
pub mod page;
mod pause;
pub mod picture;
mod reclone;
mod rejoining;
mod remote;
pub mod report;
mod rewind;
pub mod secrets;
mod standing;
pub mod status;
mod switchover;
mod table;
pub mod timeline;
pub mod why;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{CommandFactory as _, Parser as _};
use serde_json::Value;

use arguments::{Arguments, Command, Format};
use notices::Level;

/// The exit code of a wrong command line.
const USAGE: u8 = 64;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match arguments.command {
        Command::Status { name, watch, live, format } => status(name.as_deref(), watch, live, format),
        Command::Check { name } => check(&name),
        Command::Why { name, if_lost, format } => why(&name, if_lost.as_deref(), format),
        Command::Switchover { name, to, dry_run, max_lag, max_transaction, wait } => {
            let limits = costs::Limits { lag: max_lag, transaction: max_transaction };
            switchover::switchover(&name, to.as_deref(), dry_run, limits, Duration::from_secs(wait)).into()
        }
        Command::Drill { command } => drill::drill(command).into(),
        Command::Abort { name } => switchover::abort(&name).into(),
        Command::Doctor { nodes, format } => doctor::doctor(&nodes, format),
        Command::Metrics { listen } => metrics::metrics(listen),
        Command::Decide { name, node, yes_give_up, dry_run, wait, format } => {
            let wait = Duration::from_secs(wait);
            decide::decide(&decide::Wanted { name, node, given_up: yes_give_up, dry_run, wait, format }).into()
        }
        Command::Pause { name, reason, length } => pause::pause(&name, reason, length).into(),
        Command::Resume { name } => pause::resume(&name).into(),
        Command::Cron { command } => cron::cron(command),
        Command::Diverged { name, node, format } => diverged::diverged(&name, node.as_deref(), format),
        Command::Reclone { name, node, yes_replace, force, wait } => {
            let wait = Duration::from_secs(wait);
            reclone::reclone(&reclone::Wanted { name, node, replaced: yes_replace, force, wait }).into()
        }
        Command::Rewind { name, node, wait } => rewind::rewind(&name, node.as_deref(), Duration::from_secs(wait)).into(),
        Command::Here { question } => here::here(&question),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "systole", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::History { name, format } => ask_history::run(&name, format),
        Command::Timeline { name, epoch, since, format } => ask_timeline::run(name.as_deref(), ask_timeline::When { epoch, since }, format),
        Command::Report { name, html, epoch } => ask_report::run(&name, &html, epoch),
    }
}

/// Ends with what is known of how bad it is.
fn ended(level: Level) -> ExitCode {
    ExitCode::from(level as u8)
}

fn complain(what: &str) {
    eprintln!("systole: {what}");
}

/// What prints again and again ends with who reads it: a terminal that is gone sends no signal to what was begun over ssh.
static NOBODY_READS: AtomicBool = AtomicBool::new(false);

fn print(text: &str) {
    // Whoever has read enough closes it.
    if std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()).is_err() {
        NOBODY_READS.store(true, Ordering::Relaxed);
    }
}

fn print_json(value: &Value) {
    print(&format!("{value:#}\n"));
}

/// The same with its level in colour, where that is wanted.
fn print_pretty(text: &str) {
    let wanted = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if !wanted {
        return print(text);
    }
    for line in text.split_inclusive('\n') {
        let colour = [("good: ", 32), ("degraded: ", 33), ("broken: ", 31), ("unknown: ", 31)];
        match colour.iter().find_map(|(word, colour)| Some((colour, line.strip_prefix(word)?, word))) {
            Some((colour, rest, word)) => print(&format!("\x1b[{colour}m{}\x1b[0m: {rest}", word.trim_end_matches(": "))),
            None => print(line),
        }
    }
}

fn status(name: Option<&str>, watch: Option<u64>, live: bool, format: Format) -> ExitCode {
    let Some(seconds) = watch else { return ended(show_status(name, live, format)) };
    let over = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let _ = signal_hook::flag::register(signal, Arc::clone(&over));
    }
    loop {
        if std::io::stdout().is_terminal() {
            print("\x1b[H\x1b[2J");
        }
        let level = show_status(name, live, format);
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            if over.load(Ordering::Relaxed) || NOBODY_READS.load(Ordering::Relaxed) {
                return ended(level);
            }
            std::thread::sleep(Duration::from_millis(100).min(until.saturating_duration_since(Instant::now())));
        }
    }
}

fn show_status(name: Option<&str>, live: bool, format: Format) -> Level {
    let picture = match ask::picture() {
        Ok(picture) if live => standing::asked(picture, name),
        Ok(picture) => picture,
        Err(why) => {
            complain(&why);
            return Level::Unknown;
        }
    };
    match status::Status::of(&picture, name) {
        Ok(status) => {
            match format {
                Format::Pretty => print_pretty(&status.pretty()),
                Format::Tsv => print(&status.tsv()),
                Format::Json => print_json(&status.json()),
            }
            status.level()
        }
        Err(why) => {
            complain(&why);
            Level::Unknown
        }
    }
}

fn check(name: &str) -> ExitCode {
    let found = ask::picture().and_then(|picture| {
        let database = picture.database(name).ok_or_else(|| status::unknown(&picture, name))?;
        Ok(check::line(&picture, database))
    });
    // A monitoring system reads the first line of stdout, whatever it says.
    let (line, level) = found.unwrap_or_else(|why| (format!("UNKNOWN {name}: {}", why.replace(['|', '\n'], " ")), Level::Unknown));
    print(&format!("{line}\n"));
    ended(level)
}

fn why(name: &str, if_lost: Option<&str>, format: Format) -> ExitCode {
    let found = ask::picture().and_then(|picture| {
        let database = picture.database(name).ok_or_else(|| status::unknown(&picture, name))?;
        why::why(&picture, database, if_lost)
    });
    match found {
        Ok(why) => {
            match format {
                Format::Pretty => print(&why.pretty()),
                Format::Tsv => print(&why.tsv()),
                Format::Json => print_json(&why.json()),
            }
            ended(why.level)
        }
        Err(why) => {
            complain(&why);
            ended(Level::Unknown)
        }
    }
}
