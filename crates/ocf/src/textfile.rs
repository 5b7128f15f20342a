//! What a monitor found, for the textfile collector of Prometheus' node_exporter.
//!
//! A metric must never make a monitor late, nor root write where somebody else can put a link. So the files are root's own, in memory (/run),
//! and written only where an operator has made the directory; the collector's directory has links to them. An unchanged file is written again
//! only once a minute, so that its age tells whether monitors are made at all.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::Environment;

/// Where they stand. No directory, no files.
const DIRECTORY: &str = "/run/systole-metrics";
/// For so long an unchanged file stays as it is.
const EVERY: Duration = Duration::from_secs(60);
/// How the line begins that says when it was written.
const WRITTEN: &str = "# written, in seconds since the boot: ";

/// What an action found out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    /// The agent: `mysql`.
    pub(crate) agent: &'a str,
    /// Its version.
    pub(crate) version: &'a str,
    /// Whether its instances can be promoted.
    pub(crate) promotable: bool,
    /// The exit status of a monitor; that of one that found nothing, after a stop.
    pub(crate) status: u8,
}

impl Found<'_> {
    /// The series, 0 or 1 each. What a failed monitor has not seen is not said.
    fn series(self, environment: &Environment) -> String {
        let labels =
            format!("resource=\"{}\",node=\"{}\"", escaped(environment.resource()), escaped(environment.node().unwrap_or_default()));
        let roles: &[(&str, &[u8])] = match self.promotable {
            true => &[("promoted", &[8, 191]), ("unpromoted", &[0, 190]), ("stopped", &[7])],
            false => &[("started", &[0, 190]), ("stopped", &[7])],
        };
        let known = roles.iter().any(|(_, codes)| codes.contains(&self.status));
        let mut out = String::new();
        if known {
            out.push_str("# HELP systole_role What an instance is: one of these is 1.\n# TYPE systole_role gauge\n");
            for (role, codes) in roles {
                let _ = writeln!(out, "systole_role{{{labels},role=\"{role}\"}} {}", u8::from(codes.contains(&self.status)));
            }
            out.push_str("# HELP systole_degraded Whether an instance runs and its agent says that somebody has to look.\n");
            let _ =
                writeln!(out, "# TYPE systole_degraded gauge\nsystole_degraded{{{labels}}} {}", u8::from(matches!(self.status, 190 | 191)));
        }
        out.push_str("# HELP systole_failed Whether an operation of an instance failed last.\n# TYPE systole_failed gauge\n");
        let _ = writeln!(out, "systole_failed{{{labels}}} {}", u8::from(!known));
        out.push_str("# HELP systole_agent_info The version of the agent that made the last monitor.\n# TYPE systole_agent_info gauge\n");
        let _ = writeln!(out, "systole_agent_info{{{labels},agent=\"{}\",version=\"{}\"}} 1", self.agent, self.version);
        out
    }
}

/// A label's value, as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Tells it, where somebody wants it. A metric that cannot be written fails no action.
pub(crate) fn tell(environment: &Environment, found: Found<'_>) {
    tell_in(Path::new(DIRECTORY), environment, found, process::since_boot());
}

fn tell_in(directory: &Path, environment: &Environment, found: Found<'_>, now: Duration) {
    // Not through a link: root made it, or there is none.
    if !process::own::is_directory(directory) {
        return;
    }
    let path = directory.join(format!("systole_{}.prom", environment.resource()));
    let (series, last) = (found.series(environment), process::own::text(&path).unwrap_or_default());
    let written = last.split_once('\n').filter(|(_, rest)| *rest == series).and_then(|(line, _)| line.strip_prefix(WRITTEN)?.parse().ok());
    let age = written.and_then(|written| now.checked_sub(Duration::from_secs(written)));
    if age.is_none_or(|age| age >= EVERY) {
        let _ = process::own::write_for_this_boot(&path, format!("{WRITTEN}{}\n{series}", now.as_secs()).as_bytes(), 0o644);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("systole-textfile-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn environment() -> Environment {
        let pairs = [("OCF_RESOURCE_INSTANCE", "mysql:0"), ("OCF_RESKEY_CRM_meta_on_node", "lxc1")];
        Environment::from_pairs(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    fn found(status: u8) -> Found<'static> {
        Found { agent: "mysql", version: "1.2", promotable: true, status }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_steady_monitor_writes_once_a_minute_and_a_change_at_once() {
        let directory = directory("steady");
        let path = directory.join("systole_mysql.prom");
        let file = || (std::fs::metadata(&path).unwrap().ino(), std::fs::read_to_string(&path).unwrap());
        tell_in(&directory, &environment(), found(8), seconds(100));
        let first = file();
        assert!(first.1.contains("systole_role{resource=\"mysql\",node=\"lxc1\",role=\"promoted\"} 1\n"), "{}", first.1);
        tell_in(&directory, &environment(), found(8), seconds(159));
        assert_eq!(file(), first);
        tell_in(&directory, &environment(), found(8), seconds(160));
        assert_eq!(file().1, first.1.replace(": 100\n", ": 160\n"));
        tell_in(&directory, &environment(), found(191), seconds(161));
        assert!(file().1.contains("systole_degraded{resource=\"mysql\",node=\"lxc1\"} 1\n"), "{}", file().1);
        tell_in(&directory, &environment(), found(191), seconds(3));
        assert!(file().1.starts_with("# written, in seconds since the boot: 3\n"), "of another boot");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_a_failed_monitor_has_not_seen_is_not_said() {
        let said = found(1).series(&environment());
        assert!(said.contains("systole_failed{resource=\"mysql\",node=\"lxc1\"} 1\n") && !said.contains("systole_role{"), "{said}");
        let stopped = Found { promotable: false, ..found(7) }.series(&environment());
        assert!(stopped.contains("role=\"started\"} 0\n") && stopped.contains("role=\"stopped\"} 1\n"), "{stopped}");
    }

    #[test]
    fn without_the_directory_and_through_a_link_nothing_is_written() {
        let directory = directory("link");
        let (none, link, real) = (directory.join("none"), directory.join("link"), directory.join("real"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        for place in [&none, &link] {
            tell_in(place, &environment(), found(0), seconds(1));
        }
        assert!(!none.exists() && std::fs::read_dir(&real).unwrap().next().is_none());
        // A link in the place of the file is replaced, and not followed.
        let victim = directory.join("victim");
        std::fs::write(&victim, "before").unwrap();
        std::os::unix::fs::symlink(&victim, real.join("systole_mysql.prom")).unwrap();
        tell_in(&real, &environment(), found(0), seconds(1));
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "before");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
