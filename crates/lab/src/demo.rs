//! `systole-lab demo`: the whole story in one command, for somebody who has never seen a failover.
//! Owns the order of the chapters and their words; every step is an ordinary call of the library.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::check::{CheckOptions, Report};
use crate::error::{Context, Error, Result};
use crate::lab::{Lab, LabOptions};
use crate::load::{Load, LoadOptions};

/// What the demo plays with.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The lab.
    pub lab: LabOptions,
    /// Shell script run in every node before the configuration is loaded, with the node's number in NODE.
    pub prepare: Option<PathBuf>,
    /// Configurations loaded one after the other.
    pub snippets: Vec<PathBuf>,
    /// The databases, at least one.
    pub databases: Vec<DemoDatabase>,
}

/// A database of the demo.
#[derive(Debug, Clone)]
pub struct DemoDatabase {
    /// The promotable primitive or clone; without it the first that is promoted somewhere.
    pub resource: Option<String>,
    /// Name of the server's process.
    pub process: String,
    /// The writers.
    pub load: LoadOptions,
    /// What the checker insists on.
    pub check: CheckOptions,
}

/// The pause that lets a person see writes flow before and after each fault.
const LOOK: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(90);

struct Story<'a> {
    lab: &'a Lab,
    casts: Vec<Cast<'a>>,
}

/// A database in the story, with its writers.
struct Cast<'a> {
    load: Load,
    resource: String,
    database: &'a DemoDatabase,
}

/// Plays all chapters and returns a verdict for each database. The lab is taken down at the end unless its options say
/// to keep it.
pub fn demo(options: &DemoOptions) -> Result<Vec<Report>> {
    chapter("Three nodes boot and find each other: corosync is who is there, Pacemaker decides who does what.");
    let lab = Lab::up(options.lab.clone())?;
    if let Some(script) = &options.prepare {
        chapter("What an operator does once on each machine: option files, accounts, password files.");
        let text = std::fs::read_to_string(script).context(|| format!("read {}", script.display()))?;
        for node in lab.nodes() {
            node.write("/root/prepare", &text)?;
            node.sh(&format!("NODE={} sh -e /root/prepare", node.number))?;
        }
    }
    chapter("The cluster is told what to run: databases with one primary and two replicas, and the addresses clients use.");
    for file in &options.snippets {
        let text = std::fs::read_to_string(file).context(|| format!("read {}", file.display()))?;
        lab.load_crm(&text)?;
    }
    let resources = options.databases.iter().map(|d| wait_promoted(&lab, d.resource.as_deref())).collect::<Result<Vec<_>>>()?;
    lab.wait_idle()?;
    say(&lab.quorate_node()?.exec(&["crm_mon", "-1", "--exclude=all", "--include=resources"])?.stdout);
    let mut casts = Vec::new();
    for (database, resource) in options.databases.iter().zip(resources) {
        let (primary, name) = (lab.promoted(&resource).unwrap_or_default(), database.load.database.name());
        chapter(&format!("{primary} is the primary of {name}. Writers begin to write and remember every acknowledgement they get."));
        casts.push(Cast { load: lab.start_load(&database.load)?, resource, database });
    }
    let story = Story { lab: &lab, casts };
    story.writes_flow("writes before any fault")?;
    for cast in &story.casts {
        story.crash(cast)?;
    }
    for cast in &story.casts {
        story.planned_move(cast)?;
    }
    story.power_cut()?;
    chapter("The writers stop. The checker holds what they were told against what every node has.");
    let mut reports = Vec::new();
    for cast in story.casts {
        let journal = cast.load.stop()?;
        let report = lab.check(&journal, &cast.database.check)?;
        say(&format!("-- {}", cast.database.load.database.name()));
        say(&lab.timeline(&journal)?);
        say(&report.to_string());
        reports.push(report);
    }
    Ok(reports)
}

impl Story<'_> {
    fn primary(&self, cast: &Cast<'_>) -> Result<String> {
        self.lab.promoted(&cast.resource).ok_or_else(|| Error::Refused(format!("{} is promoted nowhere", cast.resource)))
    }

    fn writes_flow(&self, what: &str) -> Result<()> {
        for cast in &self.casts {
            self.lab.wait_for(what, LIMIT, || cast.load.writing())?;
        }
        std::thread::sleep(LOOK);
        Ok(())
    }

    /// All is as good as new before the next fault: otherwise one chapter would tell of the fault before.
    fn recovered(&self) -> Result<()> {
        self.lab.wait_online()?;
        self.lab.wait_idle()?;
        self.writes_flow("writes after the fault")?;
        self.all_follow()
    }

    /// A replica that has just been started again joins with its next monitors.
    fn all_follow(&self) -> Result<()> {
        for cast in &self.casts {
            self.lab.wait_for("every server in step again", LIMIT, || self.lab.in_step(&cast.database.check).unwrap_or(false))?;
        }
        Ok(())
    }

    fn crash(&self, cast: &Cast<'_>) -> Result<()> {
        let (primary, name) = (self.primary(cast)?, cast.database.load.database.name());
        chapter(&format!("The primary server of {name} on {primary} is killed: kill -9, it has no time to say goodbye."));
        self.lab.node_named(&primary)?.kill(&cast.database.process, Signal::SIGKILL)?;
        // The writers notice within milliseconds; without this pause the wait could see the writes of before.
        std::thread::sleep(Duration::from_millis(300));
        self.recovered()?;
        let now = self.primary(cast)?;
        let again = if now == primary { "the same node was promoted again" } else { "the role has moved" };
        chapter(&format!("{now} is the primary now: {again}, and the killed server was started again."));
        Ok(())
    }

    fn planned_move(&self, cast: &Cast<'_>) -> Result<()> {
        let (primary, name) = (self.primary(cast)?, cast.database.load.database.name());
        chapter(&format!("Maintenance: the primary's role of {name} is to leave {primary}, in order and under load."));
        self.lab.move_promoted(&cast.resource)?;
        self.recovered()?;
        chapter(&format!("{} is the primary now.", self.primary(cast)?));
        Ok(())
    }

    fn power_cut(&self) -> Result<()> {
        let Some(cast) = self.casts.first() else { return Ok(()) };
        let primary = self.primary(cast)?;
        let roles: Vec<&str> = self
            .casts
            .iter()
            .filter(|c| self.lab.promoted(&c.resource).as_ref() == Some(&primary))
            .map(|c| c.database.load.database.name())
            .collect();
        chapter(&format!(
            "Power cut on {primary}, the primary of {}: the others hear nothing from it, make sure that it is off (fencing), and go on without it.",
            roles.join(" and of ")
        ));
        self.lab.node_named(&primary)?.power_off()?;
        std::thread::sleep(Duration::from_millis(300));
        self.writes_flow("writes after the power cut")?;
        chapter(&format!("{} is the primary now. {primary} gets power again and rejoins.", self.primary(cast)?));
        self.lab.node_named(&primary)?.power_on()?;
        self.recovered()
    }
}

/// Waits for the first promotion; returns the resource's name.
fn wait_promoted(lab: &Lab, wanted: Option<&str>) -> Result<String> {
    let mut found = None;
    lab.wait_for("a promoted instance", LIMIT, || {
        let Ok(view) = lab.view() else { return false };
        found = match wanted {
            Some(name) => (!view.with_role(name, "Promoted").is_empty()).then(|| name.to_owned()),
            None => view.instances.iter().find(|i| i.role == "Promoted").map(|i| i.clone.clone().unwrap_or_else(|| i.resource.clone())),
        };
        found.is_some()
    })?;
    found.ok_or_else(|| Error::Refused("nothing is promoted".to_owned()))
}

fn chapter(text: &str) {
    say(&format!("\n== {text}"));
}

fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}
