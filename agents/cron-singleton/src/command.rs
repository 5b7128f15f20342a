//! `systole-cron`: what has run, and what will, for people and for scripts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::{DateTime, Local, TimeZone};
use clap::{Parser, Subcommand};
use process::own;
use serde::Serialize;

use crate::crontab::{Crontab, When};
use crate::history::{Event, Line};
use crate::import::{Existing, merged};
use crate::place::Place;
use crate::plan::{minute_of, time_of};
use crate::schedule::Schedule;
use crate::source::Source;
use crate::target::Target;

/// Where crontabs are kept whose jobs were brought under the cluster.
const IMPORTED: &str = "/var/lib/systole/cron-imported";
/// How much of each history is read, bytes: all of it, rotation included.
const WHOLE: u64 = 4 * 1024 * 1024;

/// Between several errors.
const NEXT_LINE: &str = "\nsystole-cron: ";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "systole-cron", version, about = "The jobs of ocf:systole:cron-singleton: what has run, and what will")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What has run on this node, was left out, or did not begin
    History {
        /// The resource
        resource: String,
        /// Print so many runs, the last ones
        #[arg(long, default_value_t = 20)]
        last: usize,
        /// Print JSON, an array of runs
        #[arg(long)]
        json: bool,
    },
    /// When the jobs come due next
    Next {
        /// The resource, on a node where it has been
        #[arg(required_unless_present = "source")]
        resource: Option<String>,
        /// A crontab, instead of a resource's
        #[arg(long, conflicts_with = "resource")]
        source: Option<PathBuf>,
        /// The crontab is that of this user, without a column for it
        #[arg(long, requires = "source")]
        user: Option<String>,
        /// Print so many runs
        #[arg(long, default_value_t = 20)]
        count: usize,
        /// Those after this moment, RFC 3339; without it after now
        #[arg(long, value_name = "TIME")]
        after: Option<chrono::DateTime<chrono::FixedOffset>>,
        /// Print JSON, an array of runs
        #[arg(long)]
        json: bool,
    },
    /// Brings crontabs that exist on this node into the one of a resource; shows the difference first
    Import {
        /// The crontab of the resource, with a column for the user; it may exist
        #[arg(long)]
        to: PathBuf,
        /// A crontab with a column for the user, as in /etc/cron.d
        #[arg(long, required_unless_present = "user")]
        from: Vec<PathBuf>,
        /// A user whose crontab is brought in
        #[arg(long)]
        user: Vec<String>,
        /// Do it: write the crontab, and take the jobs out where they were
        #[arg(long)]
        write: bool,
    },
}

impl Command {
    /// Shows what an import changes, and does it on demand: the jobs are in the crontab and on the disk before they are taken out
    /// where they were.
    fn import(to: &Path, from: &[PathBuf], users: &[String], write: bool) -> Result<String, String> {
        let targets = from.iter().map(|path| Target::File(path.clone())).chain(users.iter().map(|user| Target::User(user.clone())));
        let (mut all, mut problems) = (Vec::new(), Vec::new());
        // From another directory, and on another node, it would be another file.
        let relative = std::iter::once(to).chain(from.iter().map(PathBuf::as_path)).filter(|path| !path.is_absolute());
        problems.extend(relative.map(|path| format!("{} is no absolute path: write the whole one, from /", path.display())));
        if !problems.is_empty() {
            return Err(problems.join(NEXT_LINE));
        }
        for target in targets {
            if target == Target::File(to.to_owned()) {
                problems.push(format!("{} cannot be imported into itself", to.display()));
                continue;
            }
            if target == Target::File("/etc/crontab".into()) {
                problems.push("/etc/crontab has jobs of the system, which belong on every node: copy yours out of it by hand".into());
                continue;
            }
            match target.read() {
                // It would be lost what stood there.
                Ok(Some(text)) if text.contains('\u{fffd}') => {
                    problems.push(format!("{} is not UTF-8: write it anew in UTF-8", target.name()));
                }
                Ok(Some(text)) => all.push((target, text)),
                Ok(None) => problems.push(format!("{} does not exist", target.name())),
                Err(failure) => problems.push(failure.reason),
            }
        }
        let existing = |(target, text): &(Target, String)| Existing {
            name: target.name(),
            text: text.clone(),
            user: if let Target::User(user) = target { Some(user.clone()) } else { None },
        };
        let old = Target::File(to.to_owned()).read().map(Option::unwrap_or_default).unwrap_or_else(|failure| {
            problems.push(failure.reason);
            String::new()
        });
        let new = merged(&old, &to.display().to_string(), &all.iter().map(existing).collect::<Vec<_>>()).unwrap_or_else(|more| {
            problems.extend(more);
            String::new()
        });
        if !problems.is_empty() {
            return Err(problems.join(NEXT_LINE));
        }
        let difference = difference(to, &old, &new)?;
        let names: Vec<String> = all.iter().map(|(target, _)| target.name()).collect();
        let names = names.join(", ");
        if !write {
            return Ok(format!("{difference}Nothing was changed. With --write this is done, and the jobs are taken out of {names}.\n"));
        }
        let failed = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
        for directory in [Some(Path::new(IMPORTED)), to.parent().filter(|parent| !parent.as_os_str().is_empty())].into_iter().flatten() {
            own::make_directories(directory, 0o755).map_err(|e| failed(directory, e))?;
        }
        // Passwords may stand in it, and only root reads it: a crontab of a user was nobody else's to read either.
        own::write(to, new.as_bytes(), 0o600).map_err(|e| failed(to, e))?;
        for (target, text) in &all {
            let kept = place_for(&target.name(), text);
            own::write(&kept, text.as_bytes(), 0o600).map_err(|e| failed(&kept, e))?;
            target.take_away().map_err(|failure| failure.reason)?;
        }
        Ok(format!(
            "{difference}The jobs of {names} do not run on this node any more but where the resource is. What stood there is kept in {IMPORTED}.\n\
             Do the same on the other nodes, and start the resource with source={}.\n",
            to.display()
        ))
    }
}

/// Where a crontab is kept: in place of none that is another one.
fn place_for(name: &str, text: &str) -> PathBuf {
    let name = name.replace(['/', ' '], "_");
    let paths = (0u32..).map(|n| Path::new(IMPORTED).join(if n == 0 { name.clone() } else { format!("{name}.{n}") }));
    let free = |path: &PathBuf| own::metadata(path).is_err() || own::text(path).is_ok_and(|kept| kept == text);
    paths.into_iter().find(free).unwrap_or_default()
}

/// In the form of `diff -u`.
fn difference(path: &Path, old: &str, new: &str) -> Result<String, String> {
    let file = |name: &str, text: &str| {
        let path = PathBuf::from(format!("/run/systole-cron-{}-{name}", std::process::id()));
        own::write(&path, text.as_bytes(), 0o600).map_err(|e| format!("{}: {e}", path.display())).map(|()| path)
    };
    let (before, after) = (file("before", old)?, file("after", new)?);
    let label = path.display().to_string();
    let (from, to) = (before.display().to_string(), after.display().to_string());
    let done = process::run("diff", &["-u", "--label", &label, "--label", &label, &from, &to], std::time::Duration::from_secs(10));
    let _ = (own::remove(&before), own::remove(&after));
    done.map(|done| done.stdout).map_err(|e| e.to_string())
}

/// A run that was, as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Past {
    /// When it was due, RFC 3339.
    pub due: String,
    /// Where.
    pub node: String,
    /// `running`, `ended`, `skipped`, `missed`.
    pub state: &'static str,
    /// Its exit status, once it has ended.
    pub status: Option<i32>,
    /// How long it took, seconds, once it has ended.
    pub seconds: Option<i64>,
    /// Why it did not begin.
    pub why: Option<String>,
    /// The job's identity.
    pub job: String,
    /// Its command, as far as a history tells.
    pub command: Option<String>,
}

/// A run to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coming {
    /// When, RFC 3339.
    pub due: String,
    /// As whom.
    pub user: String,
    /// Where the job stands in the crontab, counted from 1.
    pub line: usize,
    /// What.
    pub command: String,
}

/// The program.
pub fn main() -> ExitCode {
    match Arguments::parse().command.carry_out() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("systole-cron: {why}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn carry_out(self) -> Result<String, String> {
        match self {
            Self::Import { to, from, user, write } => Self::import(&to, &from, &user, write),
            Self::History { resource, last, json } => {
                let place = Place::of(&resource)?;
                let lines = place
                    .all_histories(WHOLE)
                    .ok_or_else(|| format!("{resource} has no history on this node: it has not been here, or root has to ask"))?;
                let mut runs = past(lines, &Local);
                let runs = runs.split_off(runs.len().saturating_sub(last));
                if json {
                    to_json(&runs)
                } else {
                    Ok(table(&["DUE", "NODE", "STATE", "TOOK", "COMMAND"], &runs.iter().map(row_of_past).collect::<Vec<_>>()))
                }
            }
            Self::Next { resource, source, user, count, after, json } => {
                let source = match (resource, source) {
                    (Some(resource), _) => Place::of(&resource)?
                        .source()
                        .ok_or_else(|| format!("{resource} has not been on this node: name its crontab with --source"))?,
                    (None, Some(path)) => Source { path, user },
                    (None, None) => return Err("name a resource, or a crontab with --source".into()),
                };
                let crontab = source.read().map_err(|problems| problems.join(NEXT_LINE))?;
                let runs =
                    coming(&crontab, source.user.as_deref(), &after.map_or_else(Local::now, |after| after.with_timezone(&Local)), count)?;
                let row = |run: &Coming| vec![short(&run.due), run.user.clone(), run.line.to_string(), run.command.clone()];
                if json {
                    to_json(&runs)
                } else {
                    Ok(table(&["DUE", "USER", "LINE", "COMMAND"], &runs.iter().map(row).collect::<Vec<_>>()))
                }
            }
        }
    }
}

/// The runs of all histories, oldest first. Pure.
pub fn past<Tz: TimeZone>(mut lines: Vec<Line>, zone: &Tz) -> Vec<Past>
where
    Tz::Offset: std::fmt::Display,
{
    lines.sort_by_key(|line| line.at);
    let mut commands: BTreeMap<String, String> = BTreeMap::new();
    let mut runs: Vec<(i64, u32, Past)> = Vec::new();
    for Line { at, node, job, minute, pid, event } in lines {
        let due = time_of(zone, minute).map_or_else(|| minute.to_string(), |due| due.to_rfc3339());
        let new = |state| Past {
            due: due.clone(),
            node: node.clone(),
            state,
            status: None,
            seconds: None,
            why: None,
            job: job.clone(),
            command: None,
        };
        match event {
            Event::Started { command } => {
                commands.insert(job.clone(), command);
                runs.push((at, pid, new("running")));
            }
            Event::Ended { status } => {
                let same =
                    |(_, other, run): &&mut (i64, u32, Past)| *other == pid && run.job == job && run.due == due && run.state == "running";
                if let Some((began, _, run)) = runs.iter_mut().rev().find(same) {
                    *run = Past { state: "ended", status: Some(status), seconds: Some(at - *began), ..run.clone() };
                }
            }
            Event::Skipped { why } => runs.push((at, pid, Past { why: Some(why), ..new("skipped") })),
            Event::Missed { why } => runs.push((at, pid, Past { why: Some(why), ..new("missed") })),
        }
    }
    runs.into_iter().map(|(_, _, run)| Past { command: commands.get(&run.job).cloned(), ..run }).collect()
}

/// The next runs of all jobs, soonest first. Pure.
///
/// # Errors
/// When the times of a job cannot be read.
pub fn coming<Tz: TimeZone>(crontab: &Crontab, user: Option<&str>, now: &DateTime<Tz>, count: usize) -> Result<Vec<Coming>, String>
where
    Tz::Offset: std::fmt::Display,
{
    let mut runs: Vec<(i64, Coming)> = Vec::new();
    for (job, _) in crontab.jobs() {
        let When::Times(times) = &job.when else { continue };
        let schedule = Schedule::new(times)?;
        let next = std::iter::successors(schedule.next_after(now), |at| schedule.next_after(at));
        let user = job.user.as_deref().or(user).unwrap_or_default();
        runs.extend(next.take(count).map(|at| {
            (minute_of(&at), Coming { due: at.to_rfc3339(), user: user.to_owned(), line: job.line, command: job.command.clone() })
        }));
    }
    runs.sort_by_key(|(minute, run)| (*minute, run.line));
    runs.truncate(count);
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}

fn row_of_past(run: &Past) -> Vec<String> {
    let state = match (&run.status, &run.why) {
        (Some(status), _) => format!("{} {status}", run.state),
        (None, Some(why)) => format!("{}: {why}", run.state),
        (None, None) => run.state.to_owned(),
    };
    let took = run.seconds.map_or_else(String::new, |seconds| format!("{seconds} s"));
    vec![short(&run.due), run.node.clone(), state, took, run.command.clone().unwrap_or_else(|| run.job.clone())]
}

/// Without seconds and zone: `2026-11-21 05:00`.
fn short(rfc3339: &str) -> String {
    rfc3339.get(..16).unwrap_or(rfc3339).replace('T', " ")
}

fn to_json<T: Serialize>(runs: &[T]) -> Result<String, String> {
    serde_json::to_string_pretty(runs).map(|text| text + "\n").map_err(|e| e.to_string())
}

/// Columns as wide as what stands in them; the last one runs out.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head = [head.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>()];
    // A user can write anything into their history, and this is root's terminal.
    let plain = |cell: &String| cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(plain).collect()).collect();
    let lines: Vec<&Vec<String>> = head.iter().chain(&rows).collect();
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default();
    let line = |cells: &Vec<String>| {
        let padded = cells
            .iter()
            .enumerate()
            .map(|(n, cell)| if n + 1 == cells.len() { cell.clone() } else { format!("{cell:width$}  ", width = width(n)) });
        padded.collect::<String>() + "\n"
    };
    lines.iter().map(|cells| line(cells)).collect()
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::crontab::Format;

    fn line(at: i64, pid: u32, event: Event) -> Line {
        Line { at, node: "a".into(), job: "x".into(), minute: 10, pid, event }
    }

    #[test]
    fn a_path_that_depends_on_the_directory_is_not_imported() {
        let (whole, bare) = (Path::new("/nowhere/at/all"), Path::new("site.cron"));
        for (to, from) in [(bare, whole), (whole, bare)] {
            let said = Command::import(to, &[from.to_owned()], &[], true).unwrap_err();
            assert_eq!(said, "site.cron is no absolute path: write the whole one, from /");
        }
        assert!(Command::import(whole, &[whole.to_owned()], &[], true).unwrap_err().contains("itself"));
    }

    #[test]
    fn all_nodes_can_be_asked_for_the_runs_after_one_moment() {
        let after = |time: &str| match Arguments::try_parse_from(["systole-cron", "next", "site", "--after", time]).map(|a| a.command) {
            Ok(Command::Next { after: Some(after), .. }) => Some(after.timestamp()),
            _ => None,
        };
        assert_eq!(
            [after("2026-11-30T02:00:00Z"), after("2026-11-30T04:00:00+02:00"), after("02:00")],
            [Some(1_796_004_000), Some(1_796_004_000), None]
        );
    }

    #[test]
    fn a_run_is_one_line_of_the_table() {
        let lines = vec![
            line(607, 2, Event::Ended { status: 3 }),
            line(600, 2, Event::Started { command: "make backup".into() }),
            line(601, 3, Event::Started { command: "make backup".into() }),
            line(602, 4, Event::Skipped { why: "the run before still goes on".into() }),
            line(650, 0, Event::Missed { why: "cron".into() }),
        ];
        let runs = past(lines, &Utc);
        let states: Vec<(&str, Option<i32>, Option<i64>)> = runs.iter().map(|run| (run.state, run.status, run.seconds)).collect();
        assert_eq!(states, [("ended", Some(3), Some(7)), ("running", None, None), ("skipped", None, None), ("missed", None, None)]);
        assert!(runs.iter().all(|run| run.due == "1970-01-01T00:10:00+00:00" && run.command.as_deref() == Some("make backup")));
        let text = table(&["DUE", "NODE", "STATE", "TOOK", "COMMAND"], &runs.iter().map(row_of_past).collect::<Vec<_>>());
        assert!(text.starts_with("DUE               NODE  STATE "), "{text}");
        assert!(text.contains("\n1970-01-01 00:10  a     ended 3 "), "{text}");
    }

    #[test]
    fn the_next_runs_of_all_jobs_in_order() {
        let crontab =
            Crontab::parse("0 5 * * * root nightly\n@reboot root never\n30 * * * * wpsite hourly\n0 0 30 2 * root x\n", Format::System)
                .unwrap();
        let now = time_of(&Utc, 4 * 60).unwrap();
        let runs = coming(&crontab, None, &now, 4).unwrap();
        let told: Vec<(&str, usize)> = runs.iter().map(|run| (&run.due[11..16], run.line)).collect();
        assert_eq!(told, [("04:30", 3), ("05:00", 1), ("05:30", 3), ("06:30", 3)]);
        assert_eq!(runs[1].user, "root");
    }
}
