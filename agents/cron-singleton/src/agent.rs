//! The agent: start, stop, monitor, validate-all.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ocf::{Context, Description, Failure, Outcome, ResourceAgent, Status, Timeouts, Values};
use pacemaker::{Cluster, Membership};
use process::{Identity, own};

use crate::agreement;
use crate::crontab::{Crontab, Format, Job, Problem, When};
use crate::daemon::{self, Daemon};
use crate::drain::{self, Left, processes};
use crate::installed::{Installation, RESOURCE, digest, identities_at_the_gate, is_name, without_head};
use crate::params::{self, Mode, Params};
use crate::place::{Owner, Place};
use crate::source::{self, Source};
use crate::target::Target;
use crate::wrapper::Running;

/// Where `make install` puts the helper programs.
const LIBEXEC: &str = match option_env!("SYSTOLE_LIBEXEC") {
    Some(directory) => directory,
    None => "/usr/libexec/systole",
};
/// How much of a stop's time is kept for what follows the jobs' end.
pub(crate) const AFTERWARDS: Duration = Duration::from_secs(2);
/// What nobody can promise then.
const NO_FENCING: &str = "this cluster has no fencing (stonith-enabled=false): a node that the others have lost sight of may go on with its jobs while \
                          another one runs them too; set up fencing";
/// How many errors of a crontab are told at once.
const TOLD: usize = 3;
/// How many runs of a job may be left out in a row before an operator is told.
const SKIPPED: u64 = 5;

/// The agent for one resource on this node.
pub struct CronSingleton {
    pub(crate) params: Params,
    pub(crate) resource: String,
    pub(crate) node: String,
    pub(crate) cluster: Cluster,
    pub(crate) place: Result<Place, Failure>,
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
            place: Place::of(&resource).map_err(|why| values.contradiction(why)),
            resource,
        })
    }

    fn start(&self, context: &Context) -> Outcome {
        if self.params.mode == Mode::Timer {
            return self.start_timers(context);
        }
        // A user database that does not answer may do so in a moment: a start that fails bans the node.
        let patience = context.deadline.reserving(AFTERWARDS).left() / 2;
        let source = self.check(patience)?;
        let place = self.place()?;
        let open = place.token().ok().flatten();
        // What runs goes on as it is: a new source comes with the next start.
        let text = place.crontab().filter(|_| open.is_some() && self.params.mode != Mode::Gate).unwrap_or_else(|| source.clone());
        let crontab = self.parse(&text)?;
        let users = self.users(&crontab, patience)?;
        let accounts: Vec<(u32, u32)> = users.values().map(|owner| (owner.uid, owner.gid)).collect();
        let settled = match &open {
            Some(token) => token.settled,
            None => {
                let jobs = self.jobs(place, &crontab, &users);
                let settled = self.settle_before_start(context, &jobs, &crontab)?;
                let user = self.params.user.clone().filter(|_| self.format() == Format::User);
                if let Err(why) = place.note_source(&Source { path: self.params.source.clone(), user }) {
                    context.log.warning(format!("{why}: systole-cron does not find the jobs"));
                }
                place.note_crontab(&text).map_err(Failure::generic)?;
                settled
            }
        };
        place.note_owners(&users).map_err(Failure::generic)?;
        if let Some(target) = self.target() {
            let text = self.text(&crontab);
            if target.read_ours(&self.resource)?.as_ref() != Some(&text) || target.obstacle().is_some() {
                target.write(&text)?;
            }
            // What is found there from now on is compared with what was put there: the next release may word it otherwise.
            place.note_installed(&digest(&text)).map_err(Failure::generic)?;
        }
        // Last: until then nothing runs.
        place.open(&self.node, self.params.overlap, settled, &accounts).map_err(Failure::generic)?;
        if open.is_none() {
            if let Err(failure) = self.settle_after_start(context, &self.jobs(place, &crontab, &users), &crontab) {
                context.log.warning(format!("{failure}: what came due during the start is not made up for"));
            }
        }
        // Too late for this move, and in time for the next one.
        if let Some(why) = self.disagreement(place, Some(&source)) {
            context.log.warning(why);
        }
        for doubt in self.doubts(&crontab) {
            context.log.warning(doubt);
        }
        if open.is_none() {
            let names: Vec<&str> = users.keys().map(String::as_str).collect();
            context.log.notice(format!("{} jobs of {} run here from now on", crontab.jobs().count(), names.join(", ")));
        }
        Ok(())
    }

    fn stop(&self, context: &Context) -> Outcome {
        // With a name that is none, nothing was ever started.
        let Ok(place) = self.place() else { return Ok(()) };
        place.close().map_err(|e| Failure::generic(format!("the jobs cannot be kept from starting: {e}")))?;
        if self.params.mode == Mode::Timer {
            return self.stop_timers(context, place);
        }
        // One of somebody else is none of ours.
        if let Some(Err(failure)) = self.target().map(|target| target.remove(&self.resource)) {
            context.log.warning(format!("{failure}. It is left there; jobs that are led through the wrapper do not run any more"));
        }
        // One that was left by a kill holds nothing that could run.
        let _ = self.due_target().remove(&self.resource);
        self.drain(context, || self.left(place))?;
        if let Err(failure) = self.settle(context, place) {
            context.log.warning(format!("{failure}: the next start takes it that this node was lost"));
        }
        Ok(())
    }

    fn monitor(&self, context: &Context) -> Result<Status, Failure> {
        if self.params.mode == Mode::Timer {
            return self.monitor_timers(context);
        }
        let open = self.place.as_ref().is_ok_and(Place::is_open);
        let Some(target) = self.target() else {
            return if open { self.healthy(context, None) } else { self.absent(context) };
        };
        if let (true, Target::User(user)) = (open, &target) {
            // `crontab` takes a user database that does not answer for a user who does not exist.
            if let Err(why) = process::find_account(user, Duration::ZERO) {
                if !why.is_missing() {
                    return Ok(Status::Degraded(Failure::from(why).reason));
                }
            }
        }
        match (open, target.read()?) {
            // This node was lost and is back, and its file is from before; or somebody has copied it here. An error would have Pacemaker
            // restart the resource where it runs.
            (false, Some(_)) if context.environment.is_probe() || context.environment.is_of_stopped_role() => {
                if let Err(failure) = target.remove(&self.resource).and_then(|()| self.due_target().remove(&self.resource)) {
                    context.log.warning(format!("{failure}. It is left there; what is led through the wrapper does not run"));
                }
                self.absent(context)
            }
            (false, found) if found.is_none() || target.read_ours(&self.resource).is_err() => self.absent(context),
            (false, _) => {
                Err(Failure::generic(format!("{} is there, and the jobs may not run here: restart this resource", target.name())))
            }
            (true, None) => Err(Failure::generic(format!("{} was removed: no job runs; restart this resource", target.name()))),
            (true, Some(found)) => self.healthy(context, Some((&target, &found))),
        }
    }

    fn validate(&self, context: &Context, _level: u32) -> Outcome {
        if self.params.mode == Mode::Timer {
            self.check_timers(context).map(drop)?
        } else {
            let text = self.check(Duration::ZERO)?;
            if let Some(doubt) = self.doubts(&self.parse(&text)?).into_iter().next() {
                return Err(Failure::installed(doubt));
            }
        }
        // A node alone is asked about its jobs; this is about all of them.
        if self.cluster.fencing_is_off() {
            context.log.warning(NO_FENCING);
        }
        Ok(())
    }
}

impl CronSingleton {
    /// The resource is not here. A probe says that this node has joined, unless a stop that was killed has left jobs.
    pub(crate) fn absent(&self, context: &Context) -> Result<Status, Failure> {
        if context.environment.is_probe() {
            if let Ok(place) = &self.place {
                let left = self.left(place).jobs;
                if let Some(process) = left.first() {
                    return Err(Failure::generic(format!(
                        "{} processes of jobs run, one is {}, and may not run here: restart this resource",
                        left.len(),
                        process.pid
                    )));
                }
            }
            self.join();
        }
        // With `role=Stopped`, a monitor passes here as well.
        if let (Ok(place), false) = (&self.place, self.params.mode == Mode::Timer) {
            if context.environment.is_probe() {
                // Pacemaker asks like this when it has forgotten everything, and what the nodes have told each other with it.
                agreement::forget(place);
            }
            self.publish_source(place, self.source().ok().as_deref());
        }
        Ok(Status::NotRunning)
    }

    /// What runs of the jobs.
    fn left(&self, place: &Place) -> Left {
        let of = |run: RegisteredRun| [Some(run.running.wrapper).filter(|_| run.alive), run.running.starter];
        let wrappers: Vec<Identity> = registered(place.written().runs).into_iter().flat_map(of).flatten().collect();
        processes(&self.resource, &wrappers, &place.uids())
    }

    /// Ends what runs, as the policy says.
    pub(crate) fn drain(&self, context: &Context, look: impl Fn() -> Left) -> Outcome {
        let say = |what: &str, count: usize| context.log.notice(format!("{what} {count} processes of jobs"));
        let left = drain::drain(self.params.drain, self.params.drain_timeout, context.deadline.reserving(AFTERWARDS).left(), look, say);
        let left = [left.jobs, left.wrappers].concat();
        if left.is_empty() {
            return Ok(());
        }
        let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
        if left.iter().all(drain::is_young) {
            return Err(Failure::generic(format!(
                "processes of jobs are started as fast as they are killed: find out which process of the jobs' user starts {}, and end it",
                pids.join(" ")
            )));
        }
        Err(Failure::generic(format!("processes of jobs cannot be killed, they hang in the kernel: {}", pids.join(" "))))
    }

    /// Tells the other nodes which runs have not begun here.
    fn settle(&self, context: &Context, place: &Place) -> Outcome {
        let text = place.crontab().map_or_else(|| self.source(), Ok)?;
        let crontab = self.parse(&text)?;
        let users = self.users(&crontab, Duration::ZERO)?;
        self.settle_after_stop(context, &self.jobs(place, &crontab, &users))
    }

    pub(crate) fn place(&self) -> Result<&Place, Failure> {
        self.place.as_ref().map_err(Clone::clone)
    }

    /// Where the jobs are put; `None` when they stand where they stand.
    fn target(&self) -> Option<Target> {
        match (self.params.mode, &self.params.user) {
            (Mode::File, _) => Some(Target::file_of(&self.params.cron_directory, &self.resource)),
            (Mode::User, user) => Some(Target::User(user.clone().unwrap_or_default())),
            (Mode::Gate | Mode::Timer, _) => None,
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

    /// The text of the source.
    fn source(&self) -> Result<String, Failure> {
        let source = &self.params.source;
        let bytes = source::read(source)
            .map_err(|e| Failure::installed(format!("source {}: {e}; put the crontab there on every node", source.display())))?;
        String::from_utf8(bytes).map_err(|_| Failure::installed(format!("{} is not UTF-8: write it anew in UTF-8", source.display())))
    }

    fn parse(&self, text: &str) -> Result<Crontab, Failure> {
        Crontab::parse(text, self.format()).map_err(|problems| Failure::installed(self.told(&problems)))
    }

    /// What is wrong with the source.
    fn told(&self, problems: &[Problem]) -> String {
        let told: Vec<String> = problems.iter().take(TOLD).map(ToString::to_string).collect();
        let more = problems.len().saturating_sub(TOLD);
        let more = if more > 0 { format!("; and {more} more errors") } else { String::new() };
        format!("source {}: {}{more}", self.params.source.display(), told.join("; "))
    }

    /// What must be right before the jobs may run here. Returns the text of the source. `patience`: how long the user database may
    /// take.
    fn check(&self, patience: Duration) -> Result<String, Failure> {
        self.place()?;
        if let Some(contradiction) = &self.params.contradiction {
            return Err(contradiction.clone());
        }
        let wrapper = Self::wrapper();
        if !own::is_file(Path::new(&wrapper)) {
            return Err(Failure::installed(format!("{wrapper} is not there: is systole installed completely?")));
        }
        let text = self.source()?;
        let crontab = self.parse(&text)?;
        if let Some((job, _)) = crontab.jobs().find(|(job, _)| job.when == When::Reboot && !self.params.at_takeover) {
            return Err(Failure::installed(format!(
                "source {}: line {}: @reboot is when cron starts, not when the resource comes here: take it out, or set reboot_jobs=takeover",
                self.params.source.display(),
                job.line
            )));
        }
        let foreign = crontab.foreign_rules();
        if !foreign.is_empty() {
            return Err(Failure::installed(self.told(&foreign)));
        }
        self.users(&crontab, patience)?;
        match self.target() {
            None => self.check_gate(&crontab)?,
            Some(target) => {
                target.read_ours(&self.resource)?;
                self.check_copies(&crontab, &target)?;
            }
        }
        daemon::check()?;
        Ok(text)
    }

    /// The users of the jobs. As long as the user database does not answer, those that were known when the resource started here are
    /// still who they were.
    fn users(&self, crontab: &Crontab, patience: Duration) -> Result<BTreeMap<String, Owner>, Failure> {
        let named = crontab.jobs().filter_map(|(job, _)| Some((job.line, job.user.as_deref()?)));
        let given = self.params.user.as_deref().filter(|_| self.format() == Format::User).map(|user| (0, user));
        let until = Instant::now() + patience;
        let mut users = BTreeMap::new();
        for (line, user) in named.chain(given) {
            if users.contains_key(user) {
                continue;
            }
            let noted = || self.place.as_ref().ok().and_then(|place| place.owners().get(user).copied());
            let owner = match process::find_account(user, until.saturating_duration_since(Instant::now())) {
                Ok(account) => Owner { uid: account.uid, gid: account.gid },
                Err(why) => match noted().filter(|_| !why.is_missing()) {
                    Some(owner) => owner,
                    None => {
                        let at =
                            if line > 0 { format!("source {}: line {line}, user: ", self.params.source.display()) } else { String::new() };
                        let failure = Failure::from(why);
                        let reason = format!("{at}{}", failure.reason);
                        return Err(failure.because(reason));
                    }
                },
            };
            users.insert(user.to_owned(), owner);
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

    /// What an operator has to mend, and what is no reason to keep jobs from running that run today.
    fn doubts(&self, crontab: &Crontab) -> Vec<String> {
        let source = self.params.source.display();
        let mut doubts = Vec::new();
        if self.params.mode == Mode::Gate {
            let mut named: BTreeMap<String, usize> = BTreeMap::new();
            for ((job, _), name) in crontab.jobs().zip(identities_at_the_gate(crontab)) {
                let at = format!("source {source}: line {}", job.line);
                if !is_name(&name) {
                    doubts.push(format!(
                        "{at}: SYSTOLE_JOB={name:?} is no name of a job, and it never runs: letters, digits and dashes only"
                    ));
                } else if let Some(first) = named.insert(name, job.line) {
                    doubts.push(format!(
                        "{at}: it is one job with that of line {first}, and runs for both are left out: write SYSTOLE_JOB=NAME, with a name of \
                         its own, above each"
                    ));
                }
            }
        }
        // What names its users may name root: cron asks the same of its own files.
        if self.params.mode == Mode::File && self.format() == Format::System {
            let found = process::open_by_roots_word(&self.params.source).map(|(_, found)| (found.uid(), found.mode()));
            if let Some((_, mode)) = found.ok().filter(|(uid, mode)| *uid != 0 || mode & 0o022 != 0) {
                doubts.push(format!(
                    "source {source} may name root, and others than root can write it (mode {:o}): chown root, chmod go-w; or set the parameter user",
                    mode & 0o7777
                ));
            }
        }
        doubts
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
            // cron reads more than we do, and drops the rest.
            let theirs = Crontab::as_far_as_it_goes(&other.read_if_it_can_be(), format);
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
        let directory = own::entries(&self.params.cron_directory).filter(legal);
        let files = [PathBuf::from("/etc/crontab")].into_iter().chain(directory).map(|path| (Target::File(path), None));
        let users = self.users(crontab, Duration::ZERO)?.into_keys().map(|user| (Target::User(user.clone()), Some(user)));
        Ok(files.chain(users).collect())
    }

    /// Whether the jobs come due: what cron reads is what we gave it, and cron runs.
    fn healthy(&self, context: &Context, installed: Option<(&Target, &str)>) -> Result<Status, Failure> {
        if let Some(obstacle) = installed.and_then(|(target, _)| target.obstacle()) {
            return Err(Failure::generic(format!("{obstacle}; restart this resource")));
        }
        let place = self.place()?;
        let source = self.source();
        // A crontab of the time when this agent was an older one is not known: the source will do.
        let text = place.crontab().map_or_else(|| source.clone(), Ok);
        let (text, crontab) = match text.and_then(|text| Ok((self.parse(&text)?, text))) {
            Ok((crontab, text)) => (text, crontab),
            // To Pacemaker a probe that answers `installed` has found nothing. The jobs may run here: the next monitor says what is wrong.
            Err(_) if context.environment.is_probe() => return Ok(Status::Running),
            Err(failure) => return Err(failure),
        };
        if let Some((target, _)) = installed.filter(|(_, found)| !self.is_as_installed(place, &crontab, found)) {
            return Err(Failure::generic(format!(
                "{} is not what this resource has put there: changes belong into the source {}, on every node; restart this resource",
                target.name(),
                self.params.source.display()
            )));
        }
        if context.environment.is_probe() {
            agreement::forget(place);
            return Ok(Status::Running);
        }
        let Some(daemon) = Daemon::running() else {
            return Err(Failure::generic("cron does not run on this node: systemctl start cron"));
        };
        if let Some((target, _)) = installed {
            target.refresh();
            self.due_target().refresh();
        }
        let users = match self.users(&crontab, Duration::ZERO) {
            Ok(users) => users,
            Err(failure) => return Ok(Status::Degraded(failure.reason)),
        };
        let changed = source.as_ref().is_ok_and(|source| *source != text);
        // What stands at the gate is what runs.
        let renewed = changed && self.params.mode == Mode::Gate;
        let jobs = self.jobs(place, &crontab, &users);
        if let Err(failure) = self.settle_in_passing(context, &jobs, &crontab, renewed) {
            return Ok(Status::Degraded(failure.reason));
        }
        // What runs is right, whatever is wrong with the source or about to be; a restart would not be.
        let mut complaints = Vec::new();
        if let Daemon::Other(name) = daemon {
            complaints.push(daemon::foreign(&name));
        }
        let foreign = crontab.foreign_rules();
        if !foreign.is_empty() {
            complaints.push(self.told(&foreign));
        }
        complaints.extend(self.doubts(&crontab));
        // A job that was added above the lines that lead it through the wrapper runs on every node.
        if self.params.mode == Mode::Gate {
            complaints.extend(self.check_gate(&crontab).err().map(|failure| failure.reason));
        }
        match source.as_ref().map_err(|failure| failure.reason.clone()) {
            Err(why) => complaints.push(why),
            // It was read above.
            Ok(_) if !changed => {}
            Ok(source) => match self.parse(source) {
                Err(failure) => complaints.push(failure.reason),
                Ok(_) if renewed => complaints.extend(place.note_crontab(source).err()),
                Ok(_) => complaints.push(format!(
                    "the source {} has changed since this resource was started: crm resource restart {}",
                    self.params.source.display(),
                    self.resource
                )),
            },
        }
        complaints.extend(self.disagreement(place, source.as_deref().ok()));
        complaints.extend(jobs.skipped(SKIPPED).map(|(line, count)| {
            format!(
                "the last {count} runs of line {line} were left out, because the run before still goes on or too many wait: systole-cron history {}",
                self.resource
            )
        }));
        if context.environment.check_level() >= 10 {
            complaints.extend(self.failing(&jobs));
        }
        Ok(if complaints.is_empty() { Status::Running } else { Status::Degraded(complaints.join("; ")) })
    }

    /// What an operator is told when a move would change the jobs.
    fn disagreement(&self, place: &Place, source: Option<&str>) -> Option<String> {
        let nodes = self.differing_nodes(place, source);
        (!nodes.is_empty()).then(|| {
            format!(
                "the source {} of this node is not the one that {} had when the cluster looked there last: a move would lose jobs or run \
                 others; make them the same, and then: crm resource refresh {}",
                self.params.source.display(),
                nodes.join(", "),
                self.resource
            )
        })
    }

    /// Whether what stands where cron reads it is what was put there.
    fn is_as_installed(&self, place: &Place, crontab: &Crontab, found: &str) -> bool {
        let found_digest = digest(found);
        if place.installed().is_some_and(|noted| noted == found_digest) {
            return true;
        }
        // It was put there by a release that did not note it, or words the head otherwise. From now on it is known.
        let same = without_head(found) == without_head(&self.text(crontab));
        if same {
            let _ = place.note_installed(&found_digest);
        }
        same
    }
}

/// A run that is registered.
#[derive(Debug)]
pub(crate) struct RegisteredRun {
    pub(crate) uid: u32,
    /// Where it stands.
    pub(crate) file: PathBuf,
    pub(crate) running: Running,
    /// Whether its wrapper is there. Otherwise it was killed.
    pub(crate) alive: bool,
}

/// The runs that are registered. A user's file can only name that user's processes; one that is gone is nobody's.
pub(crate) fn registered(runs: Vec<(u32, PathBuf, Vec<u8>)>) -> Vec<RegisteredRun> {
    // In this order: what is that user's afterwards, was so before, or is another one of theirs.
    let theirs =
        |uid: u32, process: &Identity| process.is_alive() && drain::Status::of(process.pid).is_some_and(|status| status.user == uid);
    let read = |(uid, file, text): (u32, PathBuf, Vec<u8>)| {
        let running: Running = serde_json::from_slice(&text).ok()?;
        let starter = running.starter.filter(|starter| theirs(uid, starter));
        let alive = theirs(uid, &running.wrapper);
        let forged = !alive && running.wrapper.is_alive();
        (!forged).then_some(RegisteredRun { uid, file, running: Running { starter, ..running }, alive })
    };
    runs.into_iter().filter_map(read).collect()
}
