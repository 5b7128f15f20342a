//! The parameters: each declared once.

use std::path::PathBuf;
use std::time::Duration;

use ocf::{Failure, Kind, Parameter, Values};

use crate::place::Overlap;
use crate::plan::{CatchUp, Policy};

const MODE: Parameter = Parameter::new("mode", Kind::Choice(&["file", "user", "gate", "timer"]), "how the jobs are given to cron")
    .or("file")
    .about("file: a start puts the jobs into cron_directory, a stop takes them out again.\n\nuser: a start installs them as the crontab of user, a stop removes it. A crontab that somebody else has made is never touched.\n\ngate: the jobs stand in source, a crontab of cron itself, on all nodes and all the time; what the resource does is to let them run on one. The file has to say SHELL=/usr/libexec/systole/cron-run and SYSTOLE_CRON=RESOURCE above the jobs.\n\ntimer: the jobs are systemd's: the units in timers are started and stopped with the resource, and their services end as drain says.");
const SOURCE: Parameter = Parameter::new("source", Kind::Path, "the crontab")
    .unique("source")
    .about("The crontab with the jobs, the same on all nodes, and not in a directory of cron's (but for mode=gate). With user it has the form of crontab -l, without a column for the user; otherwise that of /etc/cron.d. Necessary but for mode=timer.");
const TIMERS: Parameter = Parameter::new("timers", Kind::Text, "timer units, with mode=timer")
    .about("Names of timer units of systemd's with blanks between them. They are installed on all nodes, and enabled on none.");
const USER: Parameter = Parameter::new("user", Kind::Name, "user whose jobs these are")
    .about("The user as whom all jobs run. Without it the crontab has a column for the user.");
const CRON_DIRECTORY: Parameter = Parameter::new("cron_directory", Kind::Path, "where cron looks for crontabs of the system")
    .or("/etc/cron.d")
    .about("Where mode=file puts the jobs.");
const OVERLAP: Parameter = Parameter::new("overlap", Kind::Choice(&["skip", "queue", "allow"]), "when a job comes due that still runs")
    .or("skip")
    .about("skip: the new run is left out, and the history says so. queue: it waits for the one before. allow: both run, as cron has it.");
const DRAIN: Parameter = Parameter::new("drain", Kind::Choice(&["wait", "term", "kill"]), "what a stop does with jobs that run")
    .or("wait")
    .about("wait: they have drain_timeout to come to their end, then they are told to, and killed in the end. term: they are told to end, and killed after drain_timeout. kill: they are killed. In each case a stop succeeds only when none is left, and it takes less than its op timeout.");
const DRAIN_TIMEOUT: Parameter = Parameter::new("drain_timeout", Kind::Time, "how long jobs may go on while the resource stops")
    .or("60s")
    .about("See drain. When the op timeout of stop is shorter, that holds.");
const CATCH_UP: Parameter = Parameter::new("catch_up", Kind::Choice(&["none", "last", "all"]), "what becomes of runs that came due while the resource was on no node")
    .or("last")
    .about("none: they are left out. last: the last one of each job is made up for, within two minutes after the start. all: each of them, one after the other, at most 60 of a job. What is left out is told in the log and the history.");
const CATCH_UP_WINDOW: Parameter =
    Parameter::new("catch_up_window", Kind::Time, "how long ago such a run may have been due").or("24h").about("See catch_up.");
const GUARANTEE: Parameter = Parameter::new("guarantee", Kind::Choice(&["at_most_once", "at_least_once"]), "what becomes of runs that a lost node may have begun")
    .or("at_most_once")
    .about("When a node is lost, nobody knows which of the runs of its last minutes have begun. at_most_once: they are not repeated, and told in the log and the history. at_least_once: they are treated as catch_up says.");
const REBOOT_JOBS: Parameter = Parameter::new("reboot_jobs", Kind::Choice(&["refuse", "takeover"]), "what becomes of jobs at @reboot")
    .or("refuse")
    .about("To cron, @reboot is when it starts, which has nothing to do with where the resource is. refuse: a crontab with such jobs is refused. takeover: they run once after each start of the resource.");

/// All of them, in the order of the documentation.
pub(crate) const ALL: &[Parameter] =
    &[MODE, SOURCE, TIMERS, USER, CRON_DIRECTORY, OVERLAP, CATCH_UP, CATCH_UP_WINDOW, GUARANTEE, REBOOT_JOBS, DRAIN, DRAIN_TIMEOUT];

/// How the jobs are given to cron.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    File,
    User,
    Gate,
    Timer,
}

/// What a stop does with jobs that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    Wait,
    Term,
    Kill,
}

/// The parameters of a resource.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    pub(crate) mode: Mode,
    pub(crate) source: PathBuf,
    /// Names of units.
    pub(crate) timers: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) cron_directory: PathBuf,
    pub(crate) overlap: Overlap,
    pub(crate) policy: Policy,
    /// Whether jobs at `@reboot` run after a start; otherwise they are refused.
    pub(crate) at_takeover: bool,
    pub(crate) drain: Drain,
    pub(crate) drain_timeout: Duration,
    /// What is wrong with the values together. `start` and `validate-all` refuse for it; what runs goes on.
    pub(crate) contradiction: Option<Failure>,
}

impl Params {
    /// Takes the checked values.
    pub(crate) fn new(values: &Values) -> Self {
        let mode = match values.text(&MODE) {
            "user" => Mode::User,
            "gate" => Mode::Gate,
            "timer" => Mode::Timer,
            _ => Mode::File,
        };
        Self {
            contradiction: contradiction(mode, values).map(|why| values.contradiction(why)),
            mode,
            source: values.path(&SOURCE).unwrap_or_default(),
            timers: values.text(&TIMERS).split_whitespace().map(str::to_owned).collect(),
            user: Some(values.text(&USER).to_owned()).filter(|user| !user.is_empty()),
            cron_directory: values.path(&CRON_DIRECTORY).unwrap_or_default(),
            overlap: match values.text(&OVERLAP) {
                "queue" => Overlap::Queue,
                "allow" => Overlap::Allow,
                _ => Overlap::Skip,
            },
            policy: Policy {
                catch_up: match values.text(&CATCH_UP) {
                    "none" => CatchUp::None,
                    "all" => CatchUp::All,
                    _ => CatchUp::Last,
                },
                window: i64::try_from(values.time(&CATCH_UP_WINDOW).as_secs() / 60).unwrap_or(i64::from(i32::MAX)),
                at_least_once: values.text(&GUARANTEE) == "at_least_once",
            },
            at_takeover: values.text(&REBOOT_JOBS) == "takeover",
            drain: match values.text(&DRAIN) {
                "term" => Drain::Term,
                "kill" => Drain::Kill,
                _ => Drain::Wait,
            },
            drain_timeout: values.time(&DRAIN_TIMEOUT),
        }
    }
}

/// What the mode needs and is not given.
fn contradiction(mode: Mode, values: &Values) -> Option<String> {
    if mode == Mode::Timer {
        let mut timers = values.text(&TIMERS).split_whitespace().peekable();
        if timers.peek().is_none() {
            return Some("mode=timer needs the parameter timers: the names of the units, such as backup.timer".into());
        }
        return timers
            .find(|name| !is_timer(name))
            .map(|name| format!("timers: {name:?} is no name of a timer unit, such as backup.timer"));
    }
    if !values.is_given(&SOURCE) {
        return Some("the parameter source is missing: the crontab with the jobs".into());
    }
    (mode == Mode::User && !values.is_given(&USER)).then(|| "mode=user needs the parameter user: set it".into())
}

/// Whether this is the name of a timer unit: systemd answers nothing at all when it is asked for several and one is none. A template
/// is none, its instances are.
pub(crate) fn is_timer(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || ":_.\\@-".contains(c);
    let Some(name) = name.strip_suffix(".timer").filter(|name| name.chars().all(legal) && name.len() < 240) else { return false };
    !name.is_empty() && !name.starts_with(['-', '.', '@']) && !name.ends_with('@')
}
