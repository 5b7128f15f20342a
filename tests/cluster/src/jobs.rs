//! A lab whose cron jobs write down where and when they run, in a file of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::state::Bind;
use lab::{Error, Lab, LabOptions, Node, Result};

use crate::{lab_name, package, snippet};

/// Where the nodes see the shared directory.
const SHARED: &str = "/mnt/jobs";
/// What the jobs run. It ticks while it runs: so it shows when a job runs on that nobody has ended. It comes to its end when its seconds are
/// over, or when it is told to (see [`Jobs::enough`]).
const JOB: &str = r#"#!/bin/sh
# job NAME SECONDS [daemon]
minute=${SYSTOLE_MINUTE:-$(($(date +%s) / 60))}
say() { echo "$(date +%s.%N) $(hostname) $$ $1 $2 $minute" >> /mnt/jobs/journal; }
say begin "$1"
# As gpg does with its agent, and ssh with ControlPersist. It holds no output of the job's.
[ "${3-}" != daemon ] || setsid sleep 86400 > /dev/null 2>&1 < /dev/null &
n=0
while [ $n -lt $(($2 * 5)) ] && [ ! -e /mnt/jobs/enough-"$1" ]; do sleep 0.2; say tick "$1"; n=$((n + 1)); done
say end "$1"
"#;

/// A line that a job has written.
#[derive(Clone, Debug)]
struct Said {
    at: f64,
    node: String,
    pid: u32,
    what: String,
    job: String,
    minute: i64,
}

/// The jobs of one or more resources.
pub struct Jobs {
    /// The lab.
    pub lab: Lab,
    shared: PathBuf,
    began: i64,
}

/// A resource with a job of every minute.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Of the resource, and of its job.
    pub name: &'static str,
    /// Further parameters.
    pub parameters: &'static str,
    /// How long the job takes, seconds.
    pub seconds: u32,
    /// Whether it is a timer of systemd's, and not a line of a crontab.
    pub timer: bool,
    /// Whether each run leaves a process behind that nobody ends.
    pub leaves_a_daemon: bool,
}

impl Resource {
    /// Puts its job onto a node.
    fn install(&self, node: &Node) -> Result<()> {
        let Self { name, seconds, timer, .. } = self;
        let daemon = if self.leaves_a_daemon { " daemon" } else { "" };
        if !timer {
            return node
                .write(&format!("/etc/systole/{name}.cron"), &format!("* * * * * wpsite /usr/local/bin/job {name} {seconds}{daemon}\n"));
        }
        let service = format!("[Service]\nType=oneshot\nUser=wpsite\nExecStart=/usr/local/bin/job {name} {seconds}\n");
        node.write(&format!("/etc/systemd/system/{name}.service"), &service)?;
        let timer = "[Timer]\nOnCalendar=minutely\nAccuracySec=1s\nPersistent=yes\n\n[Install]\nWantedBy=timers.target\n";
        node.write(&format!("/etc/systemd/system/{name}.timer"), timer)?;
        node.sh("systemctl daemon-reload").map(drop)
    }

    /// Where the agent finds it.
    fn source(&self) -> String {
        if self.timer { format!("mode=timer timers={}.timer", self.name) } else { format!("source=/etc/systole/{}.cron", self.name) }
    }
}

impl Jobs {
    /// Three nodes; each resource on one of them.
    pub fn up(name: &str, resources: &[Resource]) -> Result<Self> {
        Self::with(name, resources, LabOptions::default())
    }

    /// The same with more in the lab: volumes and layers.
    pub fn with(name: &str, resources: &[Resource], more: LabOptions) -> Result<Self> {
        let name = &lab_name(name);
        let shared = std::env::temp_dir().join(format!("systole-jobs-{name}"));
        let _ = std::fs::remove_dir_all(&shared);
        let failed = |e: std::io::Error| Error::Refused(format!("{}: {e}", shared.display()));
        std::fs::create_dir_all(&shared).map_err(failed)?;
        std::fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o777)).map_err(failed)?;
        let lab = Lab::up(LabOptions {
            name: name.to_owned(),
            packages: vec![package()?],
            binds: vec![Bind { source: shared.clone(), target: SHARED.into() }],
            ..more
        })?;
        let snippet = snippet("cron.crm")?;
        let primitive = snippet.split("\nprimitive ").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
        // As in base.crm: a resource that was moved stays.
        let mut text = "rsc_defaults rsc-options: resource-stickiness=100\n".to_owned();
        for resource in resources {
            for node in lab.nodes() {
                node.sh("id wpsite >/dev/null 2>&1 || useradd --create-home wpsite; systemctl enable --now cron")?;
                node.write("/usr/local/bin/job", JOB)?;
                node.sh("chmod 755 /usr/local/bin/job; mkdir -p /etc/systole")?;
                resource.install(&node)?;
            }
            let source = format!("{} {}", resource.source(), resource.parameters);
            text +=
                &format!("primitive {primitive}\n").replace("source=/etc/systole/site.cron", &source).replace("site-cron", resource.name);
        }
        lab.load_crm(&text)?;
        let jobs = Self { lab, shared, began: minute() };
        for resource in resources {
            jobs.wait_on(resource.name, |_| true)?;
        }
        Ok(jobs)
    }

    /// Where the resource is, once it is on one node that is as wished.
    pub fn wait_on(&self, resource: &str, wished: impl Fn(&str) -> bool) -> Result<Node> {
        let mut found = None;
        self.lab.wait_for(&format!("{resource} on one node"), Duration::from_secs(120), || {
            let on = self.lab.view().map(|view| view.with_role(resource, "Started")).unwrap_or_default();
            found = (on.len() == 1 && wished(&on[0])).then(|| on[0].clone());
            found.is_some()
        })?;
        self.lab.node_named(&found.unwrap_or_default())
    }

    /// Moves a resource to another node, which it returns.
    pub fn move_away(&self, resource: &str) -> Result<Node> {
        let from = self.wait_on(resource, |_| true)?;
        let to =
            self.lab.live_nodes().into_iter().find(|node| node.name != from.name).ok_or_else(|| Error::Refused("one node only".into()))?;
        self.lab.crm(&format!("resource move {resource} {} force", to.name))?;
        self.lab.wait_idle()?;
        self.lab.crm(&format!("resource clear {resource}"))?;
        self.wait_on(resource, |node| node == to.name)
    }

    /// Moves all of these at once, each to another node.
    pub fn move_all(&self, resources: &[Resource]) -> Result<()> {
        let mut targets = Vec::new();
        for (n, Resource { name, .. }) in resources.iter().enumerate() {
            let from = self.wait_on(name, |_| true)?;
            let others: Vec<Node> = self.lab.live_nodes().into_iter().filter(|node| node.name != from.name).collect();
            let to = others.get(n % others.len().max(1)).ok_or_else(|| Error::Refused("one node only".into()))?;
            self.lab.crm(&format!("resource move {name} {} force", to.name))?;
            targets.push((name, to.name.clone()));
        }
        self.lab.wait_idle()?;
        for (name, to) in targets {
            self.wait_on(name, |node| node == to)?;
            self.lab.crm(&format!("resource clear {name}"))?;
        }
        self.lab.wait_idle()
    }

    /// Waits until a stop on this node has taken a job away from cron.
    pub fn wait_stopping(&self, job: &str, node: &Node) -> Result<()> {
        self.lab.wait_for(&format!("a stop of {job} on {}", node.name), Duration::from_secs(60), || {
            node.sh(&format!("test ! -e /etc/cron.d/systole-{job}")).is_ok()
        })
    }

    /// Whether each run of a job comes to its end at once.
    pub fn enough(&self, job: &str, enough: bool) -> Result<()> {
        let file = self.shared.join(format!("enough-{job}"));
        let done = if enough { std::fs::write(&file, "") } else { std::fs::remove_file(&file) };
        done.map_err(|e| Error::Refused(format!("{}: {e}", file.display())))
    }

    /// Waits until a job has said something on a node since that moment.
    pub fn wait_said(&self, job: &str, what: &str, node: &str, limit: Duration) -> Result<()> {
        let since = now();
        let said = || self.said().iter().any(|s| s.job == job && s.what == what && s.node == node && s.at >= since);
        self.lab.wait_for(&format!("{job}: {what} on {node}"), limit, said)
    }

    /// How a job's last run on a node stands: `begin`, `tick` or `end`, and how long ago, seconds.
    pub fn last(&self, job: &str, node: &str) -> Option<(String, f64)> {
        self.said().into_iter().rfind(|s| s.job == job && s.node == node).map(|s| (s.what, now() - s.at))
    }

    fn said(&self) -> Vec<Said> {
        let text = std::fs::read_to_string(self.shared.join("journal")).unwrap_or_default();
        let line = |line: &str| {
            let [at, node, pid, what, job, minute] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
            let (at, pid, minute) = (at.parse().ok()?, pid.parse().ok()?, minute.parse().ok()?);
            Some(Said { at, node: node.to_owned(), pid, what: what.to_owned(), job: job.to_owned(), minute })
        };
        text.lines().filter_map(line).collect()
    }

    /// How often a job has begun.
    pub fn runs(&self, job: &str) -> usize {
        self.said().iter().filter(|said| said.job == job && said.what == "begin").count()
    }

    /// J: no job ran on two nodes at once, none twice for a minute; and each minute has its run, or somebody told that it has not.
    /// All nodes have to be on. Returns what was seen.
    pub fn held(&self, resource: &str) -> Result<String> {
        let said: Vec<Said> = self.said().into_iter().filter(|s| s.job == resource).collect();
        let mut runs: BTreeMap<(String, u32), (f64, f64, i64)> = BTreeMap::new();
        let mut doubled = Vec::new();
        let mut minutes: BTreeMap<i64, usize> = BTreeMap::new();
        for s in &said {
            if s.what == "begin" {
                *minutes.entry(s.minute).or_default() += 1;
            }
            let run = runs.entry((s.node.clone(), s.pid)).or_insert((s.at, s.at, s.minute));
            // A rebooted node begins to count its processes anew.
            *run = if s.what == "begin" { (s.at, s.at, s.minute) } else { (run.0, s.at, run.2) };
        }
        doubled.extend(minutes.iter().filter(|(_, count)| **count > 1).map(|(minute, count)| format!("minute {minute}: {count} runs")));
        let all: Vec<(&String, &(f64, f64, i64))> = runs.iter().map(|((node, _), run)| (node, run)).collect();
        for (n, (node, run)) in all.iter().enumerate() {
            for (other, its) in &all[n + 1..] {
                if node != other && run.0 < its.1 && its.0 < run.1 {
                    doubled.push(format!("{node} and {other} at once at {:.1}", run.0.max(its.0)));
                }
            }
        }
        let mut told: BTreeSet<i64> = BTreeSet::new();
        let mut made_up = 0;
        for node in self.lab.nodes() {
            let command = format!(
                "cat /var/lib/systole/cron/{resource}/history.jsonl /var/lib/systole/cron/{resource}/*/history.jsonl 2>/dev/null; true"
            );
            for line in node.sh(&command)?.stdout.lines() {
                let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
                let minute = line["minute"].as_i64().unwrap_or_default();
                match line["event"].as_str() {
                    Some("missed" | "skipped") => drop(told.insert(minute)),
                    Some("started") if line["at"].as_i64().unwrap_or_default() / 60 != minute => made_up += 1,
                    _ => {}
                }
            }
        }
        // cron of the last minute may be about to start it.
        let expected = self.began + 1..minute() - 1;
        let lost: Vec<i64> = expected.clone().filter(|m| !minutes.contains_key(m) && !told.contains(m)).collect();
        let report = format!(
            "{resource}: {} minutes, {} runs, {made_up} of them made up for, {} told that did not begin; doubled: {doubled:?}; lost in silence: {lost:?}",
            expected.count(),
            minutes.len(),
            told.iter().filter(|m| !minutes.contains_key(m)).count()
        );
        println!("{report}");
        if doubled.is_empty() && lost.is_empty() { Ok(report) } else { Err(Error::Refused(report)) }
    }

    /// Waits for the next beginning of a minute, and a few seconds more.
    pub fn into_the_next_minute(&self, seconds: u64) {
        let rest = 60.0 - now() % 60.0;
        std::thread::sleep(Duration::from_secs_f64(rest) + Duration::from_secs(seconds));
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[allow(clippy::cast_possible_truncation, reason = "minutes since 1970")]
fn minute() -> i64 {
    (now() / 60.0) as i64
}
