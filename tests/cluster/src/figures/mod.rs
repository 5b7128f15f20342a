//! The figures of the benchmark of servers: what was measured, and what is written of it. Pure: the numbers of a run make the pages, the
//! plots and the tables of README and docs/figures.md, now or later. Measuring is the program `bench`.

pub mod page;
pub mod plot;
pub mod proof;
pub mod readme;
pub mod rejoin;

use serde::{Deserialize, Serialize};

pub use timeline::{CLIENTS, FIRST_WRITE, Moment, STEPS, steps};

/// A crash, in the names of series.
pub const CRASH: &str = "kill -9 of the primary";
/// A move, in the names of series.
pub const MOVE: &str = "planned move";
/// What the name of a series ends with when something else used one core.
pub const BUSY: &str = ", one core kept busy";
/// How the tables call the agent that does nothing.
pub const FLOOR: &str = "floor";
/// The same on the nodes that MySQL 9.7 is measured on, whose Pacemaker is a newer one.
pub const FLOOR_OF_NEWER: &str = "floor, nodes of MySQL 9.7";
/// How the tables call our agent with MySQL 9.7.
pub const WITH_MYSQL: &str = "ocf:systole:mysql, MySQL 9.7";

/// The series that pages compare: they are measured for every agent.
pub const COMPARED: [&str; 2] = [CRASH, MOVE];

/// A benchmark with a page of its own.
#[derive(Debug)]
pub struct Subject {
    /// Name of the page's file, and of those of its numbers and plots.
    pub page: &'static str,
    /// Title of the page.
    pub title: &'static str,
    /// The server that is measured with the stock agent beside it.
    pub server: &'static str,
    /// The command that measures it.
    pub command: &'static str,
    /// Our agent as the tables call it.
    pub ours: &'static str,
    /// The stock agents.
    pub stock: &'static [&'static str],
}

/// Redis.
pub const REDIS: Subject = Subject {
    page: "benchmarks",
    title: "Redis",
    server: "Redis",
    command: "make bench-redis",
    ours: "ocf:systole:redis",
    stock: &["ocf:heartbeat:redis"],
};
/// MySQL and MariaDB.
pub const MYSQL: Subject = Subject {
    page: "benchmarks-mysql",
    title: "MySQL and MariaDB",
    server: "MariaDB",
    command: "make bench-mysql",
    ours: "ocf:systole:mysql",
    stock: &["ocf:heartbeat:mariadb", "ocf:heartbeat:mysql"],
};

/// What a command costs, as the program `measure` prints it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Its last exit code.
    pub status: i32,
    /// Milliseconds of each call.
    pub wall_ms: Vec<f64>,
    /// Milliseconds of a processor, of it and of all that it started.
    pub cpu_ms: Vec<f64>,
    /// Processes that the machine started meanwhile.
    pub processes: Vec<u64>,
    /// Memory of the largest of its processes.
    pub max_resident_kb: u64,
}

impl Cost {
    /// Takes what another run has cost.
    pub fn add(&mut self, other: Self) {
        self.wall_ms.extend(other.wall_ms);
        self.cpu_ms.extend(other.cpu_ms);
        self.processes.extend(other.processes);
        self.max_resident_kb = self.max_resident_kb.max(other.max_resident_kb);
    }
}

/// The cost of a steady monitor.
#[derive(Debug, Serialize, Deserialize)]
pub struct MonitorCost {
    /// Of the promoted instance.
    pub primary: Cost,
    /// Of another one.
    pub replica: Cost,
}

/// One fault under load.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Fault {
    /// The longest time without an acknowledged write.
    pub outage_ms: f64,
    /// The same of a client with the system's own patience, which is not part of the above; `None` when it was not back soon after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient_ms: Option<f64>,
    /// Whether writes came back within the time.
    pub back: bool,
    /// Writes that clients were told are done.
    pub acknowledged: usize,
    /// Acknowledged writes that the primary does not have in the end.
    pub lost: usize,
    /// Whether two servers took writes at once.
    pub two_writers: bool,
    /// Whether all servers were back in time by themselves, as replicas of the primary, with the same data.
    pub whole: bool,
    /// What went wrong, in words.
    pub problems: Vec<String>,
    /// Processor time of the agents of all nodes and of what they started, from the fault to the first write, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents_cpu_ms: Option<f64>,
    /// What happened, when it was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub story: Vec<Moment>,
}

impl Fault {
    /// The outage; without an end when it had none.
    #[must_use]
    pub fn outage(&self) -> f64 {
        if self.back { self.outage_ms } else { f64::INFINITY }
    }
}

/// All faults of one kind.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Series {
    /// Which: begins with [`CRASH`] or [`MOVE`] where agents are compared.
    pub what: String,
    /// One after the other.
    pub faults: Vec<Fault>,
    /// Whether the agent was given up before the last run.
    pub given_up: bool,
}

impl Series {
    /// None yet.
    #[must_use]
    pub fn new(what: &str) -> Self {
        Self { what: what.to_owned(), ..Self::default() }
    }

    /// Whether there are so many, or there will be no more.
    #[must_use]
    pub fn is_complete(&self, runs: usize) -> bool {
        self.given_up || self.faults.len() >= runs
    }

    /// Each outage, milliseconds.
    #[must_use]
    pub fn outages(&self) -> Vec<f64> {
        self.faults.iter().map(Fault::outage).collect()
    }

    /// The outage that half of them do not exceed.
    #[must_use]
    pub fn median(&self) -> f64 {
        percentile(&self.outages(), 0.5)
    }

    /// What the client with the system's own patience saw, of those faults after which it was back.
    #[must_use]
    pub fn patient(&self) -> Vec<f64> {
        self.faults.iter().filter_map(|fault| fault.patient_ms).collect()
    }

    /// The mean, which is exact where single values are rounded to the kernel's ticks; `None` when nobody measured.
    #[must_use]
    pub fn agents_cpu_ms(&self) -> Option<f64> {
        let measured: Vec<f64> = self.faults.iter().filter_map(|fault| fault.agents_cpu_ms).collect();
        (!measured.is_empty()).then(|| measured.iter().sum::<f64>() / measured.len() as f64)
    }

    /// Acknowledged and lost writes of all of them.
    #[must_use]
    pub fn writes(&self) -> (usize, usize) {
        self.faults.iter().fold((0, 0), |(told, lost), fault| (told + fault.acknowledged, lost + fault.lost))
    }

    /// The fault whose outage is the nearest to the median, among those with a story.
    #[must_use]
    pub fn typical(&self) -> Option<&Fault> {
        let median = self.median();
        let far = |fault: &&Fault| (fault.outage() - median).abs();
        self.faults.iter().filter(|fault| !fault.story.is_empty()).min_by(|a, b| far(a).total_cmp(&far(b)))
    }

    /// Forgets all stories but that of a typical crash: the others make nothing but a long file.
    pub fn keep_one_story(&mut self) {
        let drawn = self.what.starts_with(CRASH) && !self.what.ends_with(BUSY);
        let kept = self.typical().filter(|_| drawn).map_or_else(std::ptr::null, std::ptr::from_ref);
        for fault in &mut self.faults {
            if !std::ptr::eq(fault, kept) {
                fault.story.clear();
            }
        }
    }
}

/// An agent with a server, measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// How the tables call it.
    pub agent: String,
    /// What ran on the nodes.
    pub versions: String,
    /// What its monitor costs.
    pub monitor: Option<MonitorCost>,
    /// What faults did.
    pub faults: Vec<Series>,
}

impl Results {
    /// The series of that name, begun if there is none.
    pub fn series(&mut self, what: &str) -> &mut Series {
        let at = self.faults.iter().position(|s| s.what == what).unwrap_or_else(|| {
            self.faults.push(Series::new(what));
            self.faults.len() - 1
        });
        &mut self.faults[at]
    }

    /// The first series whose name begins so, and with `busy` ends with [`BUSY`].
    #[must_use]
    pub fn find(&self, what: &str, busy: bool) -> Option<&Series> {
        self.faults.iter().find(|s| s.what.starts_with(what) && s.what.ends_with(BUSY) == busy && !s.faults.is_empty())
    }
}

/// A crash with received transactions that are not applied.
#[derive(Debug, Serialize, Deserialize)]
pub struct Backlog {
    /// How long the appliers were held back.
    pub held_s: u64,
    /// On the replica that had more, when the appliers were let go.
    pub transactions: u64,
    /// The same of its relay log.
    pub bytes: u64,
    /// The crash.
    pub series: Series,
}

/// Crashes of a primary with much memory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Resident {
    /// What the server had when it was killed, MiB.
    pub resident_mib: Vec<u64>,
    /// The crashes.
    pub series: Series,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub skipped: String,
}

/// Everything that a page is made of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Numbers {
    /// Where it was measured.
    #[serde(default)]
    pub machine: String,
    /// Of what.
    #[serde(default)]
    pub commit: String,
    /// The parts of that commit which are measured: a run may go on while these are the same.
    pub code: String,
    /// How many faults of each kind.
    #[serde(default)]
    pub runs: usize,
    /// How many of the stock agents, where those are fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stock_runs: Option<usize>,
    /// How many monitors.
    #[serde(default)]
    pub monitors: u32,
    /// The agents.
    pub agents: Vec<Results>,
    /// Crashes with so much data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ballast: Vec<Series>,
    /// Crashes with so much to apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backlog: Vec<Backlog>,
    /// Crashes with so much memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<Resident>,
}

/// Whether results are those of the agent that does nothing, on whatever nodes.
#[must_use]
pub fn is_floor(results: &Results) -> bool {
    [FLOOR, FLOOR_OF_NEWER].contains(&results.agent.as_str())
}

impl Numbers {
    /// The results of an agent, begun if there are none.
    pub fn of(&mut self, label: &str) -> &mut Results {
        let at = self.agents.iter().position(|r| r.agent == label).unwrap_or_else(|| {
            self.agents.push(Results { agent: label.to_owned(), ..Results::default() });
            self.agents.len() - 1
        });
        &mut self.agents[at]
    }

    /// The floor that an agent is held against: that of the same nodes, where it was measured.
    #[must_use]
    pub fn floor_of(&self, label: &str) -> Option<&Results> {
        let own = (label == WITH_MYSQL).then(|| self.agent(FLOOR_OF_NEWER)).flatten();
        own.or_else(|| self.agent(FLOOR))
    }

    /// The results of an agent that was measured.
    #[must_use]
    pub fn agent(&self, label: &str) -> Option<&Results> {
        self.agents.iter().find(|r| r.agent == label)
    }
}

/// The files that are made of the numbers: page and plots, with their names.
#[must_use]
pub fn files(subject: &Subject, numbers: &Numbers) -> Vec<(String, String)> {
    let mut files = vec![(format!("{}.md", subject.page), page::of(subject, numbers))];
    files.push((format!("{}-outages.svg", subject.page), plot::outages(subject, numbers)));
    files.extend(plot::timeline(subject, numbers).map(|plot| (format!("{}-timeline.svg", subject.page), plot)));
    files
}

/// The value that `share` of the sorted values do not exceed (nearest rank).
#[must_use]
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// An outage for a reader.
#[must_use]
pub fn seconds(milliseconds: f64) -> String {
    if milliseconds.is_infinite() { "> 90 s".to_owned() } else { format!("{:.2} s", milliseconds / 1000.0) }
}

/// How many times as much: two figures that matter, nothing where it makes no sense.
#[must_use]
pub fn times(this: f64, that: f64) -> String {
    let ratio = this / that;
    match ratio {
        r if !r.is_finite() || r <= 0.0 => "-".to_owned(),
        r if r < 0.195 => format!("1/{:.0}", 1.0 / r),
        r if r < 0.995 => format!("{r:.2}"),
        r if r < 9.95 => format!("{r:.1}"),
        r => format!("{r:.0}"),
    }
}

#[cfg(test)]
fn repository(file: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)
}

/// Compares a committed file with what the numbers make of it; `UPDATE=1` writes it.
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it saw by panicking")]
fn compare(file: &str, made: &str) {
    let path = repository(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
    assert!(committed == made, "{file} is not what the numbers of the last run say: make generate, and read the difference");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_has_the_figures_that_matter() {
        let of = [(1.0, 100.0), (1.0, 2.0), (1.0, 1.0), (24.2, 1.0), (1.26, 1.0), (f64::INFINITY, 1.0), (1.0, f64::NAN)];
        assert_eq!(of.map(|(a, b)| times(a, b)), ["1/100", "0.50", "1.0", "24", "1.3", "-", "-"]);
    }

    #[test]
    fn the_story_that_is_kept_is_of_the_outage_in_the_middle() {
        let story = vec![Moment::default()];
        let fault = |outage_ms| Fault { outage_ms, back: true, story: story.clone(), ..Fault::default() };
        let mut series = Series { faults: vec![fault(900.0), fault(500.0), fault(600.0)], ..Series::new(CRASH) };
        series.keep_one_story();
        assert_eq!(series.faults.iter().map(|f| f.story.len()).collect::<Vec<_>>(), [0, 0, 1]);
        // One without a story may be in the middle later.
        series.faults.extend([fault(610.0), fault(2000.0), fault(3000.0), fault(4000.0)]);
        series.faults[3].story.clear();
        series.keep_one_story();
        assert_eq!(series.faults.iter().map(|f| f.story.len()).sum::<usize>(), 1);
        series.what = MOVE.to_owned();
        series.keep_one_story();
        assert!(series.faults.iter().all(|f| f.story.is_empty()));
    }

    #[test]
    fn a_series_is_found_by_what_was_done_and_whether_the_machine_was_busy() {
        let mut results = Results::default();
        for what in [&format!("{CRASH}, plain acknowledgements"), &format!("{CRASH}{BUSY}"), MOVE] {
            results.series(what).faults.push(Fault::default());
        }
        results.series(&format!("{MOVE}{BUSY}"));
        let found = |what, busy| results.find(what, busy).map(|s| s.what.as_str());
        assert_eq!(found(CRASH, false), Some("kill -9 of the primary, plain acknowledgements"));
        assert_eq!(found(CRASH, true), Some("kill -9 of the primary, one core kept busy"));
        assert_eq!((found(MOVE, false), found(MOVE, true)), (Some(MOVE), None));
    }
}
