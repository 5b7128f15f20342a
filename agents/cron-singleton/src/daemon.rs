//! The cron of this node: whether it runs, and whether it is the one whose rules this agent knows.

use std::time::{Duration, Instant};

use ocf::{Failure, Outcome};
use process::{Identity, own};

/// Where crons say which process they are.
const PID_FILES: [&str; 2] = ["/run/crond.pid", "/run/cron.pid"];
/// The name of the process of Debian's.
const DEBIANS: &str = "cron";
/// How long `crontab` may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long it may be away: an upgrade of its package starts it anew.
const RESTARTS: Duration = Duration::from_secs(2);
/// How often is looked whether it is back.
const LOOK: Duration = Duration::from_millis(20);

/// The daemon that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// The one whose rules are known.
    Debians,
    /// Another one: its name.
    Other(String),
}

impl Daemon {
    /// The one that runs. One that is just started anew is waited for.
    pub(crate) fn running() -> Option<Self> {
        let until = Instant::now() + RESTARTS;
        loop {
            let found = Self::now();
            if found.is_some() || Instant::now() >= until {
                return found;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The one that runs at this moment.
    fn now() -> Option<Self> {
        let of = |file: &&str| {
            let text = String::from_utf8(own::read(file.as_ref()).ok()?).ok()?;
            Identity::of(text.trim().parse().ok()?)
        };
        let process = PID_FILES.iter().find_map(of).filter(Identity::is_alive)?;
        Self::called(own::text(format!("/proc/{}/comm", process.pid).as_ref()).ok()?.trim())
    }

    /// By the name of its process: of a file that a cron has left behind, the number may be anybody's by now. Pure.
    fn called(name: &str) -> Option<Self> {
        match name {
            DEBIANS => Some(Self::Debians),
            name if name.contains("cron") => Some(Self::Other(name.to_owned())),
            _ => None,
        }
    }
}

/// What is said of another cron.
pub(crate) fn foreign(name: &str) -> String {
    format!("{name} is not Debian's cron: it reads crontabs by other rules, and keeps them elsewhere; apt-get install cron")
}

/// Refuses where the jobs would not come due, or by other rules.
pub(crate) fn check() -> Outcome {
    match Daemon::running() {
        None => Err(Failure::installed("cron does not run on this node: systemctl enable --now cron")),
        Some(Daemon::Other(name)) => Err(Failure::installed(foreign(&name))),
        // Debian has cronie as well, and its daemon may have any name: its crontab says what it is. Debian's own has no such option.
        Some(Daemon::Debians) => match process::run("crontab", &["-V"], ANSWER) {
            Ok(done) if format!("{}{}", done.stdout, done.stderr).contains("cronie") => Err(Failure::installed(foreign("cronie"))),
            _ => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cron_is_known_by_its_name() {
        assert_eq!(Daemon::called("cron"), Some(Daemon::Debians));
        assert_eq!(Daemon::called("crond"), Some(Daemon::Other("crond".into())));
        assert_eq!(Daemon::called("sshd"), None);
    }
}
