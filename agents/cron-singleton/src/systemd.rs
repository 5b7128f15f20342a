//! systemd's units: what it says of them, and what it is told. Each call is one `systemctl`, with a deadline.

use std::path::Path;
use std::time::{Duration, Instant};

use ocf::Failure;
use process::{Identity, own};

/// What is asked for.
const PROPERTIES: &str =
    "--property=Id,LoadState,ActiveState,UnitFileState,WantedBy,RequiredBy,UpheldBy,TriggeredBy,Unit,Persistent,Result,ControlGroup";
/// How long an answer may take, where nobody knows better.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// How long is waited before one that failed is asked again: systemd executes itself anew when it is upgraded, and reads its files anew.
const AGAIN: Duration = Duration::from_millis(250);
/// Where systemd shows the processes of its units: with one hierarchy of control groups, and with several.
const CONTROL_GROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd"];

/// A unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// `backup.timer`
    pub(crate) name: String,
    /// `loaded`, `not-found`, `masked`, `bad-setting`.
    pub(crate) load: String,
    /// `active`, `inactive`, `activating`, `failed`.
    pub(crate) active: String,
    /// `enabled`, `disabled`, `static`; empty without a file.
    file: String,
    /// Units with which it is started.
    pulled_in_by: String,
    /// Timers, paths and sockets that start it.
    pub(crate) triggered_by: String,
    /// What a timer starts.
    pub(crate) starts: String,
    /// Whether a timer makes up for a run that came due while it was not active.
    pub(crate) persistent: bool,
    /// How a service has ended: `success`, `exit-code`, `signal`.
    pub(crate) result: String,
    /// Where its processes are; empty without any.
    group: String,
}

impl Unit {
    /// Reads what `systemctl show` prints: a block for each unit. Pure.
    fn all(text: &str) -> Vec<Self> {
        let unit = |block: &str| {
            let value = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
                line.unwrap_or_default().trim().to_owned()
            };
            Self {
                name: value("Id"),
                load: value("LoadState"),
                active: value("ActiveState"),
                file: value("UnitFileState"),
                pulled_in_by: ["WantedBy", "RequiredBy", "UpheldBy"].map(value).concat(),
                triggered_by: value("TriggeredBy"),
                starts: value("Unit"),
                persistent: value("Persistent") == "yes",
                result: value("Result"),
                group: value("ControlGroup"),
            }
        };
        text.split("\n\n").filter(|block| !block.trim().is_empty()).map(unit).collect()
    }

    /// Whether something else starts it: a boot, as a rule. A link in a `.wants` directory does so without its being enabled.
    pub(crate) fn is_started_elsewhere(&self) -> bool {
        self.file.starts_with("enabled") || !self.pulled_in_by.is_empty()
    }

    /// Whether it is on its way, with or without a process: a service that runs once is.
    pub(crate) fn is_changing(&self) -> bool {
        ["activating", "deactivating", "reloading"].contains(&self.active.as_str())
    }

    /// Its processes.
    pub(crate) fn processes(&self) -> Vec<Identity> {
        if self.group.is_empty() || self.group == "/" {
            return vec![];
        }
        let directories = CONTROL_GROUPS.map(|root| Path::new(root).join(self.group.trim_start_matches('/')));
        directories.iter().flat_map(|directory| processes_below(directory)).collect()
    }
}

fn processes_below(group: &Path) -> Vec<Identity> {
    let own = own::text(&group.join("cgroup.procs")).unwrap_or_default();
    let own = own.lines().filter_map(|pid| Identity::of(pid.parse().ok()?)).filter(Identity::is_alive);
    let below = own::entries(group).filter(|path| own::is_directory(path));
    own.chain(below.flat_map(|path| processes_below(&path))).collect()
}

/// What systemd knows of these units; those that it does not know are `not-found`. At most for `limit`.
///
/// # Errors
/// When it does not answer.
pub(crate) fn show(names: &[&str], limit: Duration) -> Result<Vec<Unit>, Failure> {
    if names.is_empty() {
        return Ok(vec![]);
    }
    systemctl("show", &[&[PROPERTIES], names].concat(), limit).map(|text| Unit::all(&text))
}

/// Starts units, and waits until they are, at most for `limit`.
///
/// # Errors
/// What systemd says.
pub(crate) fn start(names: &[&str], limit: Duration) -> Result<(), Failure> {
    systemctl("start", names, limit).map(drop)
}

/// Stops units, and waits until they are, at most for `limit`.
///
/// # Errors
/// What systemd says.
pub(crate) fn stop(names: &[&str], limit: Duration) -> Result<(), Failure> {
    if names.is_empty() { Ok(()) } else { systemctl("stop", names, limit).map(drop) }
}

/// Asks again while it fails, at most for `limit`: none of these verbs does anything when it is repeated.
fn systemctl(verb: &str, arguments: &[&str], limit: Duration) -> Result<String, Failure> {
    let all = [&["--no-pager", "--no-ask-password", verb], arguments].concat();
    let until = Instant::now() + limit;
    let left = || until.saturating_duration_since(Instant::now());
    loop {
        let done = process::run("systemctl", &all, left()).map_err(|e| Failure::generic(e.to_string()))?;
        if done.status.success() {
            return Ok(done.stdout);
        }
        // The last one needs some time for its answer, too.
        if left() < AGAIN * 2 {
            let said = done.stderr.lines().next().unwrap_or_default();
            return Err(Failure::generic(format!("systemctl {verb} ended with {}: {said}", done.status)));
        }
        std::thread::sleep(AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_for_each_unit() {
        let text = "Id=a.timer\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled-runtime\nUnit=a.service\nPersistent=yes\nResult=success\n\n\
                    Id=b.service\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\nWantedBy=\nRequiredBy=\nControlGroup=\nResult=exit-code\n";
        let units = Unit::all(text);
        assert_eq!(units.len(), 2);
        assert!(units[0].is_started_elsewhere() && units[0].persistent && units[0].starts == "a.service", "{units:?}");
        assert!(!units[1].is_started_elsewhere() && units[1].load == "not-found" && units[1].result == "exit-code", "{units:?}");
        assert_eq!(units[1].processes(), []);
        assert_eq!(Unit::all("Id=b.service\nTriggeredBy=b.timer b.path\n")[0].triggered_by, "b.timer b.path");
        assert!(Unit::all("Id=c.timer\nUnitFileState=static\nWantedBy=timers.target\n")[0].is_started_elsewhere());
        assert_eq!(Unit::all(""), []);
    }
}
