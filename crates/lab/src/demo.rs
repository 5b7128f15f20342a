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
    /// Configurations loaded one after the other.
    pub snippets: Vec<PathBuf>,
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
    load: Load,
    resource: String,
}

/// Plays all chapters and returns the verdict. The lab is taken down at the end unless its options say to keep it.
pub fn demo(options: &DemoOptions) -> Result<Report> {
    chapter("Three nodes boot and find each other: corosync is who is there, Pacemaker decides who does what.");
    let lab = Lab::up(options.lab.clone())?;
    chapter("The cluster is told what to run: a database with one primary and two replicas, and the address clients use.");
    for file in &options.snippets {
        let text = std::fs::read_to_string(file).context(|| format!("read {}", file.display()))?;
        lab.load_crm(&text)?;
    }
    let resource = wait_promoted(&lab, options.resource.as_deref())?;
    lab.wait_idle()?;
    say(&lab.quorate_node()?.exec(&["crm_mon", "-1", "--exclude=all", "--include=resources"])?.stdout);
    let primary = lab.promoted(&resource).unwrap_or_default();
    chapter(&format!("{primary} is the primary. Writers begin to write and remember every acknowledgement they get."));
    let load = lab.start_load(&options.load)?;
    let story = Story { lab: &lab, load, resource };
    story.writes_flow("writes before any fault")?;
    story.crash(&options.process)?;
    story.planned_move()?;
    story.power_cut()?;
    chapter("The writers stop. The checker holds what they were told against what every node has.");
    let journal = story.load.stop()?;
    let report = lab.check(&journal, &options.check)?;
    let timeline = lab.timeline(&journal)?;
    say(&timeline);
    say(&report.to_string());
    Ok(report)
}

impl Story<'_> {
    fn primary(&self) -> Result<String> {
        self.lab.promoted(&self.resource).ok_or_else(|| Error::Refused(format!("{} is promoted nowhere", self.resource)))
    }

    fn writes_flow(&self, what: &str) -> Result<()> {
        self.lab.wait_for(what, LIMIT, || self.load.writing())?;
        std::thread::sleep(LOOK);
        Ok(())
    }

    /// All is as good as new before the next fault: otherwise one chapter would tell of the fault before.
    fn recovered(&self) -> Result<()> {
        self.lab.wait_online()?;
        self.lab.wait_idle()?;
        self.writes_flow("writes after the fault")
    }

    fn crash(&self, process: &str) -> Result<()> {
        let primary = self.primary()?;
        chapter(&format!("The primary's server on {primary} is killed: kill -9, it has no time to say goodbye."));
        self.lab.node_named(&primary)?.kill(process, Signal::SIGKILL)?;
        // The writers notice within milliseconds; without this pause the wait could see the writes of before.
        std::thread::sleep(Duration::from_millis(300));
        self.recovered()?;
        let now = self.primary()?;
        let again = if now == primary { "the same node was promoted again" } else { "the role has moved" };
        chapter(&format!("{now} is the primary now: {again}, and the killed server was started again."));
        Ok(())
    }

    fn planned_move(&self) -> Result<()> {
        let primary = self.primary()?;
        chapter(&format!("Maintenance: the primary's role is to leave {primary}, in order and under load."));
        self.lab.move_promoted(&self.resource)?;
        self.recovered()?;
        chapter(&format!("{} is the primary now.", self.primary()?));
        Ok(())
    }

    fn power_cut(&self) -> Result<()> {
        let primary = self.primary()?;
        chapter(&format!(
            "Power cut on {primary}: the others hear nothing from it, make sure that it is off (fencing), and go on without it."
        ));
        self.lab.node_named(&primary)?.power_off()?;
        std::thread::sleep(Duration::from_millis(300));
        self.writes_flow("writes after the power cut")?;
        chapter(&format!("{} is the primary now. {primary} gets power again and rejoins.", self.primary()?));
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
