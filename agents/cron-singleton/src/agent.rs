//! The agent: start, stop, monitor, validate-all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::Local;
use ocf::{Context, Description, Failure, Outcome, ResourceAgent, Status, Timeouts, Values};
use pacemaker::{Cluster, Membership};
use process::{Account, Identity};

use crate::command::Source;
use crate::crontab::{Crontab, Format, Job, When};
use crate::drain::{drain, processes};
use crate::installed::{Installation, RESOURCE};
use crate::params::{self, Mode, Params};
use crate::place::Place;
use crate::plan::minute_of;
use crate::target::Target;
use crate::wrapper::Running;

/// Where `make install` puts the helper programs.
const LIBEXEC: &str = match option_env!("SYSTOLE_LIBEXEC") {
    Some(directory) => directory,
    None => "/usr/libexec/systole",
};
/// Where Debian's cron and others say which process they are.
const CRON_PID_FILES: [&str; 2] = ["/run/crond.pid", "/run/cron.pid"];
/// How much of a stop's time is kept for what follows the jobs' end.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// How long a run that has passed the gate may take to register itself.
const REGISTERING: Duration = Duration::from_secs(5);
/// How many errors of a crontab are told at once.
const TOLD: usize = 3;

/// The agent for one resource on this node.
pub struct CronSingleton {
    pub(crate) params: Params,
    pub(crate) resource: String,
    pub(crate) node: String,
    pub(crate) cluster: Cluster,
    place: Result<Place, String>,
}

impl ResourceAgent for CronSingleton {
    const DESCRIPTION: Description = Description {
        name: "cron-singleton",
        version: env!("CARGO_PKG_VERSION"),
        short: "the cron jobs of a site on exactly one node",
        long: "Runs the jobs of a crontab on the node where the resource is, and nowhere else. cron itself runs them, with all its rules; a wrapper \
               that takes the place of the shell starts each job once for a minute that it is due, keeps a history, and makes sure that a stop \
               leaves none of them behind, in the background or not.\n\n\
               With fencing a job never runs on two nodes at once. Without fencing nobody can promise that: a node that the others have lost \
               sight of may still run its jobs.",
        parameters: params::ALL,
        timeouts: Timeouts {
            start: 20,
            stop: 120,
            monitor: 20,
            interval: 20,
            interval_unpromoted: 20,
            promote: 20,
            demote: 20,
            notify: 20,
        },
    };

    fn new(context: &Context, values: &Values) -> Result<Self, Failure> {
        let environment = &context.environment;
        let resource = environment.resource().to_owned();
        let membership = Membership {
            resource: resource.clone(),
            node: environment.node().map(str::to_owned),
            present: environment.under_pacemaker(),
            state_directory: environment.temporary_directory(),
        };
        let log = std::rc::Rc::clone(&context.log);
        Ok(Self {
            cluster: Cluster::new(membership, move |line| log.trace(line)).answering_by(Instant::now() + context.deadline.left()),
            params: Params::new(values),
            node: environment.node().unwrap_or("this node").to_owned(),
            place: Place::of(&resource),
            resource,
        })
    }

    fn start(&self, context: &Context) -> Outcome {
        let crontab = self.check()?;
        let place = self.place()?;
        let users = self.users(&crontab)?;
        let accounts: Vec<(u32, u32)> = users.values().map(|account| (account.uid, account.gid)).collect();
        let open = place.is_open();
        if !open {
            let jobs = self.jobs(place, &crontab, &users)?;
            self.settle_before_start(context, &jobs, &crontab);
            let user = self.params.user.clone().filter(|_| self.format() == Format::User);
            if let Err(why) = place.note_source(&Source { path: self.params.source.clone(), user }) {
                context.log.warning(format!("{why}: systole-cron does not find the jobs"));
            }
        }
        if let Some(target) = self.target() {
            let text = self.text(&crontab);
            if target.read_ours(&self.resource)?.as_ref() != Some(&text) || target.obstacle().is_some() {
                target.write(&text)?;
            }
        }
        // Last: until then nothing runs.
        place.open(&self.node, self.params.overlap, &accounts).map_err(Failure::generic)?;
        if !open {
            let names: Vec<&str> = users.keys().map(String::as_str).collect();
            context.log.notice(format!("{} jobs of {} run here from now on", crontab.jobs().count(), names.join(", ")));
        }
        Ok(())
    }

    fn stop(&self, context: &Context) -> Outcome {
        let place = self.place()?;
        let began = place.stop_began(|| minute_of(&Local::now()));
        let all_registered = place
            .close(REGISTERING.min(context.deadline.left() / 4))
            .map_err(|e| Failure::generic(format!("the jobs cannot be kept from starting: {e}")))?;
        if !all_registered {
            context.log.warning("a run hangs between gate and start: it is ended with the others");
        }
        // One of somebody else is none of ours.
        if let Some(Err(failure)) = self.target().map(|target| target.remove(&self.resource)) {
            context.log.warning(format!("{failure}. It is left there; jobs that are led through the wrapper do not run any more"));
        }
        // One that was left by a kill holds nothing that could run.
        let _ = self.due_target().remove(&self.resource);
        let say = |what: &str, count: usize| context.log.notice(format!("{what} {count} processes of jobs"));
        let wrappers = || registered(place).map(|(_, run)| run.wrapper).collect::<Vec<_>>();
        let look = || processes(&self.resource, &wrappers());
        let left = drain(self.params.drain, self.params.drain_timeout, context.deadline.reserving(AFTERWARDS).left(), look, say);
        let left = [left.jobs, left.wrappers].concat();
        if left.is_empty() {
            if let Some(minute) = began {
                self.settle(context, place, minute);
            }
            return Ok(());
        }
        let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
        Err(Failure::generic(format!("processes of jobs cannot be killed, they hang in the kernel: {}", pids.join(" "))))
    }

    fn monitor(&self, context: &Context) -> Result<Status, Failure> {
        let open = self.place.as_ref().is_ok_and(Place::is_open);
        let Some(target) = self.target() else {
            return if open { self.healthy(context, None) } else { Ok(Status::NotRunning) };
        };
        match (open, target.read()?) {
            (false, found) if found.is_none() || target.read_ours(&self.resource).is_err() => Ok(Status::NotRunning),
            (false, _) => {
                Err(Failure::generic(format!("{} is there, and the jobs may not run here: restart this resource", target.name())))
            }
            (true, None) => Err(Failure::generic(format!("{} was removed: no job runs; restart this resource", target.name()))),
            (true, Some(found)) => self.healthy(context, Some((&target, &found))),
        }
    }

    fn validate(&self, _context: &Context, _level: u32) -> Outcome {
        self.check().map(drop)
    }
}

impl CronSingleton {
    /// Tells the other nodes up to when the runs are settled. A crontab that cannot be read now is no reason not to stop.
    fn settle(&self, context: &Context, place: &Place, minute: i64) {
        let crontab = self.read_source().and_then(|crontab| Ok((self.users(&crontab)?, crontab)));
        match crontab.and_then(|(users, crontab)| self.jobs(place, &crontab, &users)) {
            Ok(jobs) => self.settle_after_stop(context, &jobs, minute),
            Err(failure) => context.log.warning(format!("{failure}: the next start takes it that this node was lost")),
        }
    }

    fn place(&self) -> Result<&Place, Failure> {
        self.place.as_ref().map_err(|e| Failure::configured(e.clone()))
    }

    /// Where the jobs are put; `None` when they stand where they stand.
    fn target(&self) -> Option<Target> {
        match (self.params.mode, &self.params.user) {
            (Mode::File, _) => Some(Target::file_of(&self.params.cron_directory, &self.resource)),
            (Mode::User, user) => Some(Target::User(user.clone().unwrap_or_default())),
            (Mode::Gate, _) => None,
        }
    }

    /// The form of the source. What stands in a directory of cron's has a column for the user, whatever the parameters say.
    fn format(&self) -> Format {
        if self.params.user.is_some() && self.params.mode != Mode::Gate { Format::User } else { Format::System }
    }

    pub(crate) fn wrapper() -> String {
        format!("{LIBEXEC}/cron-run")
    }

    fn text(&self, crontab: &Crontab) -> String {
        let source = self.params.source.display().to_string();
        let user = self.params.user.as_deref().filter(|_| self.params.mode == Mode::File);
        Installation { resource: &self.resource, source: &source, wrapper: &Self::wrapper(), user }.text(crontab)
    }

    fn read_source(&self) -> Result<Crontab, Failure> {
        let source = &self.params.source;
        let text = fs::read_to_string(source)
            .map_err(|e| Failure::installed(format!("source {}: {e}; put the crontab there on every node", source.display())))?;
        Crontab::parse(&text, self.format()).map_err(|problems| {
            let told: Vec<String> = problems.iter().take(TOLD).map(ToString::to_string).collect();
            let more = problems.len().saturating_sub(TOLD);
            let more = if more > 0 { format!("; and {more} more errors") } else { String::new() };
            Failure::installed(format!("source {}: {}{more}", source.display(), told.join("; ")))
        })
    }

    /// What must be right before the jobs may run here.
    fn check(&self) -> Result<Crontab, Failure> {
        self.place()?;
        if self.params.mode == Mode::User && self.params.user.is_none() {
            return Err(Failure::configured("mode=user needs the parameter user: set it"));
        }
        let wrapper = Self::wrapper();
        if !Path::new(&wrapper).is_file() {
            return Err(Failure::installed(format!("{wrapper} is not there: is systole installed completely?")));
        }
        let crontab = self.read_source()?;
        if let Some((job, _)) = crontab.jobs().find(|(job, _)| job.when == When::Reboot && !self.params.at_takeover) {
            return Err(Failure::installed(format!(
                "source {}: line {}: @reboot is when cron starts, not when the resource comes here: take it out, or set reboot_jobs=takeover",
                self.params.source.display(),
                job.line
            )));
        }
        self.users(&crontab)?;
        match self.target() {
            None => self.check_gate(&crontab)?,
            Some(target) => {
                target.read_ours(&self.resource)?;
                self.check_copies(&crontab, &target)?;
            }
        }
        if cron().is_none() {
            return Err(Failure::installed("cron does not run on this node: systemctl enable --now cron"));
        }
        Ok(crontab)
    }

    /// The accounts of the jobs.
    fn users(&self, crontab: &Crontab) -> Result<BTreeMap<String, Account>, Failure> {
        let named = crontab.jobs().filter_map(|(job, _)| Some((job.line, job.user.clone()?)));
        let given = self.params.user.clone().filter(|_| self.format() == Format::User).map(|user| (0, user));
        let mut users = BTreeMap::new();
        for (line, user) in named.chain(given) {
            if users.contains_key(&user) {
                continue;
            }
            let account = Account::find(&user).map_err(|e| {
                let place = if line > 0 { format!("source {}: line {line}, user: ", self.params.source.display()) } else { String::new() };
                Failure::installed(format!("{place}{e}"))
            })?;
            users.insert(user, account);
        }
        Ok(users)
    }

    /// A crontab that stands on all nodes must lead each job through the wrapper.
    fn check_gate(&self, crontab: &Crontab) -> Outcome {
        let wanted = [("SHELL", Self::wrapper()), (RESOURCE, self.resource.clone())];
        for (job, variables) in crontab.jobs() {
            for (name, value) in &wanted {
                if !variables.contains(&(*name, value.as_str())) {
                    return Err(Failure::installed(format!(
                        "source {}: line {}: the job would run on every node; write {name}={value} above it",
                        self.params.source.display(),
                        job.line
                    )));
                }
            }
        }
        Ok(())
    }

    /// A job that stands in another crontab of this node runs whatever the cluster says.
    fn check_copies(&self, crontab: &Crontab, target: &Target) -> Outcome {
        let user = |job: &Job| job.user.clone().or_else(|| self.params.user.clone()).unwrap_or_default();
        let ours: BTreeSet<(String, String)> = crontab.jobs().map(|(job, _)| (user(job), job.command.clone())).collect();
        let led = |variables: &[(&str, &str)]| variables.contains(&("SHELL", Self::wrapper().as_str()));
        for (other, owner) in self.others(crontab)? {
            if [target, &self.due_target()].contains(&&other) {
                continue;
            }
            let format = if owner.is_some() { Format::User } else { Format::System };
            // What cron cannot read does not run.
            let Some(theirs) = other.read().ok().flatten().and_then(|text| Crontab::parse(&text, format).ok()) else { continue };
            let same = |job: &Job| ours.contains(&(job.user.clone().or(owner.clone()).unwrap_or_default(), job.command.clone()));
            if let Some((job, _)) = theirs.jobs().find(|(job, variables)| !led(variables) && same(job)) {
                return Err(Failure::installed(format!(
                    "line {} of {} runs a job of the source on this node whatever the cluster says: remove it there",
                    job.line,
                    other.name()
                )));
            }
        }
        Ok(())
    }

    /// All crontabs of this node in which the jobs may stand; with the user for those without a column for it.
    fn others(&self, crontab: &Crontab) -> Result<Vec<(Target, Option<String>)>, Failure> {
        // cron reads no others there.
        let legal = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)))
        };
        let directory = fs::read_dir(&self.params.cron_directory).into_iter().flatten().flatten().map(|entry| entry.path()).filter(legal);
        let files = [PathBuf::from("/etc/crontab")].into_iter().chain(directory).map(|path| (Target::File(path), None));
        let users = self.users(crontab)?.into_keys().map(|user| (Target::User(user.clone()), Some(user)));
        Ok(files.chain(users).collect())
    }

    /// Whether the jobs come due: what cron reads is what we gave it, and cron runs.
    fn healthy(&self, context: &Context, installed: Option<(&Target, &str)>) -> Result<Status, Failure> {
        if let Some(obstacle) = installed.and_then(|(target, _)| target.obstacle()) {
            return Err(Failure::generic(format!("{obstacle}; restart this resource")));
        }
        let crontab = match self.read_source() {
            Ok(crontab) => crontab,
            // What runs is right; a restart would not be.
            Err(failure) => return Ok(Status::Degraded(failure.reason)),
        };
        if let Some((target, _)) = installed.filter(|(_, found)| self.text(&crontab) != *found) {
            return Err(Failure::generic(format!(
                "{} is not what {} says: changes belong into the source, on every node",
                target.name(),
                self.params.source.display()
            )));
        }
        if context.environment.is_probe() {
            return Ok(Status::Running);
        }
        if cron().is_none() {
            return Err(Failure::generic("cron does not run on this node: systemctl start cron"));
        }
        let jobs = match self.users(&crontab).and_then(|users| self.jobs(self.place()?, &crontab, &users)) {
            Ok(jobs) => jobs,
            Err(failure) => return Ok(Status::Degraded(failure.reason)),
        };
        self.settle_in_passing(context, &jobs, &crontab);
        let failing = if context.environment.check_level() >= 10 { self.failing(&jobs) } else { None };
        Ok(failing.map_or(Status::Running, Status::Degraded))
    }
}

/// The runs that are registered, with whose they are. A user's file can only name that user's processes.
pub(crate) fn registered(place: &Place) -> impl Iterator<Item = (u32, Running)> {
    let of_user = |uid: u32, process: &Identity| fs::metadata(format!("/proc/{}", process.pid)).is_ok_and(|m| m.uid() == uid);
    let runs = place.runs().into_iter().filter_map(|(uid, text)| Some((uid, serde_json::from_slice::<Running>(&text).ok()?)));
    runs.filter(move |(uid, run)| of_user(*uid, &run.wrapper))
}

/// The daemon.
fn cron() -> Option<Identity> {
    let of = |file: &&str| Identity::of(fs::read_to_string(file).ok()?.trim().parse().ok()?);
    CRON_PID_FILES.iter().find_map(of).filter(|process| {
        let name = fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
        process.is_alive() && name.trim().starts_with("cron")
    })
}
