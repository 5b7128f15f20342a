//! `cron-run`: what cron starts instead of the shell. Runs a job where its resource is, once for each minute that it is due, and is
//! there until everything that the job has started is gone.
//!
//! Runs as the job's user. What it prints goes where the job's output goes: into a mail to MAILTO.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use process::Identity;
use serde::{Deserialize, Serialize};

use crate::claims::claim;
use crate::history::{self, Event, Line};
use crate::installed::{DUE, JOB, MINUTE, RESOURCE, SHELL, identity_of_command};
use crate::place::{Overlap, Place, Token};

/// What every process of a run has in its environment: resource, process and start time of the wrapper.
pub const RUN: &str = "SYSTOLE_RUN";
/// How long a queued run waits for the one before: as long as it takes.
const QUEUE: Duration = Duration::from_secs(365 * 86_400);

/// A run that goes on, in a file that is named after the wrapper's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The wrapper.
    pub wrapper: Identity,
    /// Which job.
    pub job: String,
    /// The minute that it was due, since 1970.
    pub minute: i64,
    /// Whether it is made up for.
    #[serde(default)]
    pub late: bool,
}

/// What cron asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    resource: String,
    job: String,
    shell: String,
    command: String,
    /// The minute that it was due, when it is made up for.
    due: Option<i64>,
}

/// The program.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or_default());
    let done = Request::read(&arguments, |name| std::env::var(name).ok())
        .and_then(|request| Ok((Place::of(&request.resource)?, request)))
        .and_then(|(place, request)| request.carry_out(&place, &now));
    match done {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(why) => {
            eprintln!("cron-run: {why}");
            ExitCode::FAILURE
        }
    }
}

impl Request {
    /// Reads what cron gives a shell.
    ///
    /// # Errors
    /// What is missing, and what to write.
    pub fn read(arguments: &[String], variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let [flag, command] = arguments else {
            return Err("usage: cron-run -c COMMAND (cron calls it where a crontab says SHELL=)".into());
        };
        if flag != "-c" {
            return Err(format!("{flag}: there is no such option; usage: cron-run -c COMMAND"));
        }
        let resource = variable(RESOURCE).ok_or_else(|| format!("write {RESOURCE}=RESOURCE into the crontab, above the jobs"))?;
        // In a crontab that stands on all nodes nobody has named the jobs.
        let job = variable(JOB).filter(|job| !job.is_empty()).unwrap_or_else(|| identity_of_command(command));
        if !job.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(format!("{JOB}={job:?} is no name of a job: letters, digits and dashes only"));
        }
        let shell = variable(SHELL).filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
        let due = match variable(DUE) {
            Some(text) => Some(text.parse().map_err(|_| format!("{DUE}={text:?} is no minute since 1970"))?),
            None => None,
        };
        Ok(Self { resource, job, shell, command: command.clone(), due })
    }

    /// Runs the job if it is to be run. Returns the exit status: 0 for a run that is left out. `now`: seconds since 1970.
    ///
    /// # Errors
    /// Why it could not be run.
    pub fn carry_out(&self, place: &Place, now: &dyn Fn() -> i64) -> Result<i32, String> {
        let minute = self.due.unwrap_or_else(|| now().div_euclid(60));
        let Some(token) = token(place)? else { return Ok(0) };
        let run = Registered::new(self, place, &token, minute)?;
        // Again: a stop takes the token away, and then looks at who is registered.
        if !still_here(place)? {
            return Ok(0);
        }
        let lock = run.directory.join(format!("{}.lock", self.job));
        let lock = |limit| process::lock(&lock, limit).map_err(|e| format!("{}: {e}", lock.display()));
        let held = if self.due.is_none() && token.overlap == Overlap::Allow {
            None
        } else {
            match lock(Duration::ZERO)? {
                Some(held) => Some(held),
                // Those that are made up for come all at once, and when others are due: of these none is left out.
                None if self.due.is_none() && token.overlap == Overlap::Skip && !run.beside_a_late_one() => {
                    // So that nobody takes it for one that cron forgot.
                    run.claim()?;
                    return Ok(run.skip("the run before still goes on", now));
                }
                None => {
                    let held = lock(QUEUE)?;
                    if !still_here(place)? {
                        return Ok(run.skip("the jobs have left this node while it waited", now));
                    }
                    held
                }
            }
        };
        if !run.claim()? {
            // One that is made up for is asked for every minute until the agent has seen that it has begun.
            return Ok(if self.due.is_some() { 0 } else { run.skip("it has been run for this minute", now) });
        }
        // Told to end with the job, it stays to say how that ended. A handler, because what is ignored is ignored by the job, too.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::new(AtomicBool::new(false)));
        run.note(Event::Started { command: self.command.clone() }, now);
        let marker = run.marker();
        let minute = minute.to_string();
        let variables = [("SHELL", self.shell.as_str()), (RUN, &marker), (MINUTE, &minute)];
        let status = process::run_with_orphans(&self.shell, &["-c", &self.command], &variables).map_err(|e| format!("{}: {e}", self.shell));
        run.note(Event::Ended { status: *status.as_ref().unwrap_or(&127) }, now);
        drop(held);
        status
    }
}

fn token(place: &Place) -> Result<Option<Token>, String> {
    place.token().map_err(|e| format!("whether the jobs run on this node cannot be found out: {e}"))
}

fn still_here(place: &Place) -> Result<bool, String> {
    token(place).map(|token| token.is_some())
}

/// A run that is registered, until this is dropped.
struct Registered<'a> {
    request: &'a Request,
    token: &'a Token,
    running: Running,
    directory: PathBuf,
    file: PathBuf,
    history: PathBuf,
}

impl<'a> Registered<'a> {
    fn new(request: &'a Request, place: &Place, token: &'a Token, minute: i64) -> Result<Self, String> {
        let uid = nix::unistd::getuid().as_raw();
        let wrapper = std::process::id().try_into().ok().and_then(Identity::of).ok_or("this process cannot be found: is /proc mounted?")?;
        let directory = place.of_user(uid);
        let file = directory.join(format!("{}.run", wrapper.pid));
        let running = Running { wrapper, job: request.job.clone(), minute, late: request.due.is_some() };
        let text = serde_json::to_vec(&running).map_err(|e| e.to_string())?;
        write(&file, &text, &request.resource)?;
        Ok(Self { request, token, running, directory, file, history: place.history(uid) })
    }

    /// Whether a run of the same job that is made up for is under way.
    fn beside_a_late_one(&self) -> bool {
        let runs = fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let runs = runs.filter(|path| path.extension().is_some_and(|e| e == "run"));
        let read = |path: PathBuf| serde_json::from_slice::<Running>(&fs::read(path).ok()?).ok();
        runs.filter_map(read).any(|other| other.late && other.job == self.running.job && other.wrapper.is_alive())
    }

    /// Takes the run; `false` when it was taken before. In a file before anything runs: whenever we die, it does not run twice.
    fn claim(&self) -> Result<bool, String> {
        claim(&claims_file(&self.directory, &self.running.job), self.running.minute).map_err(|e| not_run(&e, &self.request.resource))
    }

    fn skip(&self, why: &str, now: &dyn Fn() -> i64) -> i32 {
        self.note(Event::Skipped { why: why.to_owned() }, now);
        0
    }

    /// A disk that is full must not keep a job from running.
    fn note(&self, event: Event, now: &dyn Fn() -> i64) {
        let Running { wrapper, job, minute, .. } = &self.running;
        let line =
            Line { at: now(), node: self.token.node.clone(), job: job.clone(), minute: *minute, pid: wrapper.pid.unsigned_abs(), event };
        if let Err(e) = history::append(&self.history, &line) {
            eprintln!("cron-run: the history {} cannot be written: {e}", self.history.display());
        }
    }

    fn marker(&self) -> String {
        format!("{}:{}:{}", self.request.resource, self.running.wrapper.pid, self.running.wrapper.start_ticks)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// Where the runs of a job are written down that have begun.
pub(crate) fn claims_file(directory: &Path, job: &str) -> PathBuf {
    directory.join(format!("{job}.claims"))
}

fn write(path: &Path, content: &[u8], resource: &str) -> Result<(), String> {
    process::write_atomically(path, content, 0o600).map_err(|e| not_run(&format!("{}: {e}", path.display()), resource))
}

fn not_run(why: &str, resource: &str) -> String {
    format!("{why}: the job is not run. Has the crontab got a new user since {resource} was started? Restart it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(command: &str) -> Request {
        Request { resource: "r".into(), job: "j".into(), shell: "/bin/sh".into(), command: command.into(), due: None }
    }

    #[test]
    fn what_cron_gives_a_shell() {
        let read = |arguments: &[&str], variables: &[(&str, &str)]| {
            let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
            Request::read(&arguments, |name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        let known = [(RESOURCE, "r"), (JOB, "j"), (SHELL, "/bin/bash")];
        assert_eq!(read(&["-c", "x y"], &known).unwrap(), Request { shell: "/bin/bash".into(), ..request("x y") });
        let unnamed = read(&["-c", "x"], &[(RESOURCE, "r")]).unwrap();
        assert_eq!((unnamed.job.len(), unnamed.shell.as_str()), (16, "/bin/sh"));
        assert!(read(&["-c", "x"], &[]).unwrap_err().contains("SYSTOLE_CRON=RESOURCE"));
        let due = |text: &str| read(&["-c", "x"], &[(RESOURCE, "r"), (DUE, text)]);
        assert_eq!(due("29000000").unwrap().due, Some(29_000_000));
        assert!(due("soon").unwrap_err().contains("SYSTOLE_DUE"));
        assert!(read(&["x"], &known).unwrap_err().contains("usage"));
        assert!(read(&["-x", "x"], &known).unwrap_err().contains("usage"));
        assert!(read(&["-c", "x"], &[(RESOURCE, "r"), (JOB, "../x")]).unwrap_err().contains("no name"));
    }

    /// What needs a process of its own is shown by the contract tests: this one must not become a reaper.
    #[test]
    fn a_minute_is_claimed_once() {
        let root = std::env::temp_dir().join(format!("systole-wrapper-{}", std::process::id()));
        let place = Place::under(&root, "r").unwrap();
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        assert_eq!(request("exit 7").carry_out(&place, &|| 600), Ok(0), "not here");
        place.open("a", Overlap::Skip, &[(uid, gid)]).unwrap();
        let token = place.token().unwrap().unwrap();
        let request = request("x");
        let first = Registered::new(&request, &place, &token, 10).unwrap();
        assert!(first.file.exists());
        assert_eq!((first.claim(), first.claim()), (Ok(true), Ok(false)));
        let next = Registered::new(&request, &place, &token, 11).unwrap();
        assert_eq!((next.claim(), next.claim()), (Ok(true), Ok(false)));
        drop(first);
        fs::remove_dir_all(root).unwrap();
    }
}
