//! `cron-run`: what cron starts instead of the shell. Runs a job where its resource is, once for each minute that it is due, and is
//! there until everything that the job has started is gone.
//!
//! It is two processes. cron sends the mail and goes on when what it has started ends, and that must not wait for a daemon that a job
//! leaves behind (gpg-agent, ssh with ControlPersist). So the first one ends with the command, and the second one stays. They have one
//! memory, because all that the first one does is to wait.
//!
//! Runs as the job's user, so all files here are that user's own. What it prints goes where the job's output goes: into a mail to MAILTO.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use process::{Identity, Tell, own};
use serde::{Deserialize, Serialize};

use crate::claims::{self, claim};
use crate::history::{self, Event, Line};
use crate::installed::{DUE, JOB, MINUTE, RESOURCE, SHELL, identity_of_command, is_name};
use crate::place::{Overlap, Place, Token, count};

/// What every process of a run has in its environment: resource, process and start time of the wrapper.
pub const RUN: &str = "SYSTOLE_RUN";
/// How many runs of a job may wait for their turn: as many as come due in an hour at most, and as many as are made up for. Each that
/// waits is a process, and those of a job that hangs would only grow in number.
const MOST_WAITING: usize = crate::plan::MOST;

/// A run that goes on, in a file that is named after the wrapper's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The wrapper: what the job leaves behind becomes its child.
    pub wrapper: Identity,
    /// What cron has started, which waits for the end of the command only.
    #[serde(default)]
    pub starter: Option<Identity>,
    /// Which job.
    pub job: String,
    /// The minute that it was due, since 1970.
    pub minute: i64,
    /// Whether it is made up for.
    #[serde(default)]
    pub late: bool,
    /// Whether the command has ended, and has left something behind.
    #[serde(default)]
    pub over: bool,
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
    #[allow(clippy::disallowed_methods, reason = "cron goes by the time of day")]
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
        if !is_name(&job) {
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
        let Some(token) = token(place)? else { return Ok(0) };
        let starter = Identity::own();
        let work = |tell| {
            let mut tell = Some(tell);
            let mut left_behind = |status| tell.take().into_iter().for_each(|tell: Tell| tell.status(status));
            self.run(place, &token, starter, now, &mut left_behind).unwrap_or_else(|why| {
                eprintln!("cron-run: {why}");
                1
            })
        };
        match process::until_told(work)? {}
    }

    /// `left_behind` is told the status of a command that has left something behind, which is waited for.
    fn run(
        &self,
        place: &Place,
        token: &Token,
        starter: Option<Identity>,
        now: &dyn Fn() -> i64,
        left_behind: &mut dyn FnMut(i32),
    ) -> Result<i32, String> {
        let minute = self.due.unwrap_or_else(|| now().div_euclid(60));
        let mut run = Registered::new(self, place, token, minute, starter)?;
        // Again: a stop takes the token away, and then looks at who is registered.
        if !still_here(place, token)? {
            return Ok(0);
        }
        if self.due.is_none() && token.settled.is_some_and(|settled| minute <= settled) {
            // Not claimed: it may be among those that are made up for.
            return Ok(run.skip("it was settled before the resource started here", now));
        }
        let mut held = match run.turn()? {
            Turn::Now(held) => held,
            Turn::NotNeeded => return Ok(0),
            Turn::LeftOut(why) => {
                // So that nobody takes it for one that cron forgot.
                if run.claim()? {
                    run.count_skipped();
                }
                return Ok(run.skip(&why, now));
            }
            Turn::Waited(_) if !still_here(place, token)? => return Ok(run.skip("the jobs have left this node while it waited", now)),
            Turn::Waited(held) => Some(held),
        };
        if !run.claim()? {
            // One that is made up for is asked for every minute until the agent has seen that it has begun.
            return Ok(if self.due.is_some() { 0 } else { run.skip("it has been run for this minute", now) });
        }
        stay_when_told_to_end();
        run.forget_skipped();
        run.note(Event::Started { command: self.command.clone() }, now);
        let marker = run.marker();
        let minute = minute.to_string();
        let variables = [("SHELL", self.shell.as_str()), (RUN, &marker), (MINUTE, &minute)];
        let mut status = 0;
        let done = process::run_with_orphans(&self.shell, &["-c", &self.command], &variables, |of_command, orphans| {
            status = of_command;
            run.note(Event::Ended { status }, now);
            if orphans {
                // They are there for a stop only: the next run begins, and cron has its answer.
                run.is_over();
                held = None;
                left_behind(status);
            }
        });
        if let Err(e) = done {
            run.note(Event::Ended { status: 127 }, now);
            return Err(format!("{}: {e}", self.shell));
        }
        drop(held);
        Ok(status)
    }
}

/// Whether a run may begin beside the others of its job.
enum Turn {
    /// With the lock of the job, unless they may overlap.
    Now(Option<Flock<File>>),
    /// After the one before has ended.
    Waited(Flock<File>),
    /// Another wrapper waits with the same run.
    NotNeeded,
    /// It may not.
    LeftOut(String),
}

/// Told to end with the job, it stays to say how that ended. A handler, because what is ignored is ignored by the job, too.
fn stay_when_told_to_end() {
    let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::new(AtomicBool::new(false)));
}

fn token(place: &Place) -> Result<Option<Token>, String> {
    place.token().map_err(cannot_tell)
}

/// Whether the jobs may still run here. `token`: the one that held when this run was registered.
fn still_here(place: &Place, token: &Token) -> Result<bool, String> {
    place.still_has(token).map_err(cannot_tell)
}

fn cannot_tell(e: std::io::Error) -> String {
    format!("whether the jobs run on this node cannot be found out: {e}")
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
    fn new(request: &'a Request, place: &Place, token: &'a Token, minute: i64, starter: Option<Identity>) -> Result<Self, String> {
        let uid = nix::unistd::getuid().as_raw();
        let wrapper = Identity::own().ok_or("this process cannot be found: is /proc mounted?")?;
        let directory = place.of_user(uid);
        let file = directory.join(format!("{}.run", wrapper.pid));
        let running = Running { wrapper, starter, job: request.job.clone(), minute, late: request.due.is_some(), over: false };
        let run = Self { request, token, running, directory, file, history: place.history(uid) };
        run.register()?;
        Ok(run)
    }

    fn register(&self) -> Result<(), String> {
        let text = serde_json::to_vec(&self.running).map_err(|e| e.to_string())?;
        write(&self.file, &text, &self.request.resource)
    }

    /// The command has ended. Should that not be written, this run counts as one that goes on.
    fn is_over(&mut self) {
        self.running.over = true;
        let _ = self.register();
    }

    /// Waits for the turn of this run, if it is to wait.
    fn turn(&self) -> Result<Turn, String> {
        let (late, overlap) = (self.running.late, self.token.overlap);
        if !late && overlap == Overlap::Allow {
            return Ok(Turn::Now(None));
        }
        let path = self.directory.join(format!("{}.lock", self.running.job));
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        let file = own::open_lock(&path).map_err(failed)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(Turn::Now(Some(held))),
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        let others = self.others();
        // Those that are made up for come all at once, and when others are due: of these none is left out.
        if !late && overlap == Overlap::Skip && !others.iter().any(|other| other.late) {
            return Ok(Turn::LeftOut("the run before still goes on".into()));
        }
        let before = |other: &&Running| self.comes_after(other);
        if late && others.iter().filter(before).any(|other| other.late && other.minute == self.running.minute) {
            return Ok(Turn::NotNeeded);
        }
        // One of them is the one that runs.
        if !late && others.iter().filter(before).filter(|other| !other.late).count() > MOST_WAITING {
            return Ok(Turn::LeftOut(format!("{MOST_WAITING} runs of this job wait already")));
        }
        // It takes no time of a processor, however long it lasts.
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(held) => return Ok(Turn::Waited(held)),
                Err((back, Errno::EINTR)) => file = back,
                Err((_, errno)) => return Err(failed(errno.into())),
            }
        }
    }

    /// An order in which of several that are registered at once some come first, whoever asks.
    fn comes_after(&self, other: &Running) -> bool {
        let order = |running: &Running| (running.wrapper.start_ticks, running.wrapper.pid);
        order(other) < order(&self.running)
    }

    /// The other runs of the same job whose command has not ended.
    fn others(&self) -> Vec<Running> {
        let runs = own::entries(&self.directory);
        let runs = runs.filter(|path| path.extension().is_some_and(|e| e == "run") && *path != self.file);
        let read = |path: PathBuf| serde_json::from_slice::<Running>(&own::read(&path).ok()?).ok();
        runs.filter_map(read).filter(|other| other.job == self.running.job && !other.over && other.wrapper.is_alive()).collect()
    }

    /// How many were left out in a row, for the agent: it tells an operator when they get many.
    fn count_skipped(&self) {
        let file = skipped_file(&self.directory, &self.running.job);
        let count = own::read(&file).ok().and_then(count).unwrap_or_default().saturating_add(1);
        let _ = own::write_for_this_boot(&file, count.to_string().as_bytes(), 0o600);
    }

    fn forget_skipped(&self) {
        let _ = own::remove(&skipped_file(&self.directory, &self.running.job));
    }

    /// Takes the run; `false` when it was taken before. In a file before anything runs: whenever we die, it does not run twice.
    fn claim(&self) -> Result<bool, String> {
        claim(&claims::file_of(&self.directory, &self.running.job), self.running.minute, self.running.late)
            .map_err(|e| not_run(&e, &self.request.resource))
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
        let _ = own::remove(&self.file);
    }
}

/// Where it stands how many runs of a job were left out since the last one that began.
fn skipped_file(directory: &Path, job: &str) -> PathBuf {
    directory.join(format!("{job}.skipped"))
}

fn write(path: &Path, content: &[u8], resource: &str) -> Result<(), String> {
    own::write_for_this_boot(path, content, 0o600).map_err(|e| not_run(&format!("{}: {e}", path.display()), resource))
}

fn not_run(why: &str, resource: &str) -> String {
    format!("{why}: the job is not run. Has the crontab got a new user since {resource} was started? Restart it")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the tests' own files")]

    use std::fs;

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

    #[test]
    fn of_those_that_wait_the_first_ones_stay() {
        let root = std::env::temp_dir().join(format!("systole-turn-{}", std::process::id()));
        let place = Place::under(&root, "r").unwrap();
        place.open("a", Overlap::Queue, None, &[(nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())]).unwrap();
        let token = place.token().unwrap().unwrap();
        let request = request("x");
        let mine = Registered::new(&request, &place, &token, 10, None).unwrap();
        let lock = mine.directory.join("j.lock");
        let held = process::lock(&lock, std::time::Duration::ZERO).unwrap().unwrap();
        // Alive, and no process of ours: the first one of this machine.
        let first = Identity::of(1).unwrap();
        let wait = |n: usize, over: bool| {
            for n in 0..n {
                let other = Running { wrapper: first.clone(), over, ..mine.running.clone() };
                fs::write(mine.directory.join(format!("x{n}.run")), serde_json::to_vec(&other).unwrap()).unwrap();
            }
        };
        wait(MOST_WAITING + 1, false);
        assert!(matches!(mine.turn(), Ok(Turn::LeftOut(why)) if why.contains("60 runs of this job wait already")));
        wait(1, true);
        drop(held);
        assert_eq!(mine.others().len(), MOST_WAITING, "what one has left behind does not wait");
        assert!(matches!(mine.turn(), Ok(Turn::Now(Some(_)))));
        drop(mine);
        fs::remove_dir_all(root).unwrap();
    }

    /// What needs a process of its own is shown by the contract tests: this one must not become a reaper.
    #[test]
    fn a_minute_is_claimed_once() {
        let root = std::env::temp_dir().join(format!("systole-wrapper-{}", std::process::id()));
        let place = Place::under(&root, "r").unwrap();
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        assert_eq!(request("exit 7").carry_out(&place, &|| 600), Ok(0), "not here");
        place.open("a", Overlap::Skip, None, &[(uid, gid)]).unwrap();
        let token = place.token().unwrap().unwrap();
        let request = request("x");
        let first = Registered::new(&request, &place, &token, 10, None).unwrap();
        assert!(first.file.exists());
        assert_eq!((first.claim(), first.claim()), (Ok(true), Ok(false)));
        let next = Registered::new(&request, &place, &token, 11, None).unwrap();
        assert_eq!((next.claim(), next.claim()), (Ok(true), Ok(false)));
        let count = || place.written().skipped.iter().map(|(_, job, count)| (job.clone(), *count)).collect::<Vec<_>>();
        (0..3).for_each(|_| next.count_skipped());
        assert_eq!(count(), [("j".to_owned(), 3)]);
        next.forget_skipped();
        assert_eq!(count(), []);
        drop(first);
        fs::remove_dir_all(root).unwrap();
    }
}
