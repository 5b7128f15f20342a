//! The crontab as it is given to cron: the operator's, with each job led through the wrapper. Pure.
//!
//! cron runs `$SHELL -c COMMAND`. With the wrapper as SHELL no command line has to be touched. What the wrapper has to know
//! stands in variables before the job.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::crontab::{Crontab, Item, Job, When};

/// The resource that a job belongs to.
pub const RESOURCE: &str = "SYSTOLE_CRON";
/// Which job it is: [`identities`].
pub const JOB: &str = "SYSTOLE_JOB";
/// The shell that the crontab asks for.
pub const SHELL: &str = "SYSTOLE_SHELL";

/// What becomes of a crontab.
#[derive(Clone, Debug)]
pub struct Installation<'a> {
    /// The resource.
    pub resource: &'a str,
    /// Where the operator changes the jobs.
    pub source: &'a str,
    /// The wrapper.
    pub wrapper: &'a str,
    /// The user column for the jobs of a crontab that has none; `None` leaves them without.
    pub user: Option<&'a str>,
}

impl Installation<'_> {
    /// The text for cron. Jobs at `@reboot` are left out as comments: cron would run them whenever it starts.
    pub fn text(&self, crontab: &Crontab) -> String {
        let mut text = format!(
            "# Installed by ocf:systole:cron-singleton for the resource {}, and taken away when it stops.\n\
             # A change here is lost and a failure of the resource: change {}\n\
             SHELL={}\n{RESOURCE}={}\n",
            self.resource, self.source, self.wrapper, self.resource
        );
        let mut identities = identities(crontab).into_iter();
        for item in &crontab.items {
            // Nothing can fail: it is a string.
            let _ = match item {
                Item::Text(line) => writeln!(text, "{line}"),
                Item::Variable { name, value, .. } if name == "SHELL" => writeln!(text, "{SHELL}={value}"),
                Item::Variable { text: line, .. } => writeln!(text, "{line}"),
                Item::Job(job) => {
                    let identity = identities.next().unwrap_or_default();
                    match &job.when {
                        When::Reboot => writeln!(text, "# left out, at @reboot: {}", job.command),
                        When::Times(times) => {
                            let user = job.user.as_deref().or(self.user).map(|user| format!("{user} ")).unwrap_or_default();
                            writeln!(text, "{JOB}={identity}\n{} {user}{}", times.text, job.command)
                        }
                    }
                }
            };
        }
        text
    }
}

/// A name for each job, in order: the same as long as its times, user and command stay, wherever in the file it stands. Equal
/// jobs are numbered.
pub fn identities(crontab: &Crontab) -> Vec<String> {
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    let identity = |job: &Job| {
        let times = match &job.when {
            When::Reboot => "@reboot",
            When::Times(times) => &times.text,
        };
        let hash = fnv1a([times, job.user.as_deref().unwrap_or_default(), &job.command].join("\n").as_bytes());
        let count = seen.entry(hash).and_modify(|n| *n += 1).or_insert(1);
        if *count == 1 { format!("{hash:016x}") } else { format!("{hash:016x}-{count}") }
    };
    crontab.jobs().map(|(job, _)| job).map(identity).collect()
}

/// FNV-1a: std's hash may change with the compiler, and these names are kept.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crontab::Format;

    const INSTALLATION: Installation<'_> =
        Installation { resource: "site-cron", source: "/etc/systole/site.cron", wrapper: "/usr/libexec/systole/cron-run", user: None };

    fn read(text: &str, format: Format) -> Crontab {
        Crontab::parse(text, format).unwrap()
    }

    #[test]
    fn the_jobs_go_through_the_wrapper_and_stay_as_they_are() {
        let source = "# jobs\nMAILTO='root'\nSHELL=/bin/bash\n\n*/5  *\t* * *  wpsite  cd / && a % b\n@reboot root warm\n";
        let installed = INSTALLATION.text(&read(source, Format::System));
        let expected = "SHELL=/usr/libexec/systole/cron-run\nSYSTOLE_CRON=site-cron\n# jobs\nMAILTO='root'\nSYSTOLE_SHELL=/bin/bash\n\n\
                        SYSTOLE_JOB=";
        assert!(installed.contains(expected), "{installed}");
        assert!(installed.ends_with("*/5 * * * * wpsite cd / && a % b\n# left out, at @reboot: warm\n"), "{installed}");
    }

    #[test]
    fn a_users_crontab_gets_a_user_column() {
        let crontab = read("@daily x\n", Format::User);
        assert!(Installation { user: Some("wpsite"), ..INSTALLATION }.text(&crontab).ends_with("\n@daily wpsite x\n"));
        assert!(INSTALLATION.text(&crontab).ends_with("\n@daily x\n"));
    }

    #[test]
    fn a_job_keeps_its_name_when_others_come_and_go() {
        let one = identities(&read("@daily x\n", Format::User));
        let more = identities(&read("A=1\n@hourly y\n@daily x\n@daily x\n@daily x # 2\n", Format::User));
        assert_eq!(more[1], one[0]);
        assert_eq!(more[2], format!("{}-2", one[0]));
        assert_eq!(more.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        assert_ne!(identities(&read("@daily a b\n", Format::System)), identities(&read("@daily a b\n", Format::User)));
    }

    proptest! {
        /// cron reads the same jobs out of it: times, users, commands, variables.
        #[test]
        fn nothing_is_lost(
            lines in proptest::collection::vec("(# [a-z]{0,4}|[A-Z]{1,4}=[a-z ]{0,5}|(\\*|[1-9]|@daily\n)? ?\\* \\* \\* [0-6] wpsite [a-z%'\"# ]{1,9})", 0..8)
        ) {
            let text = lines.join("\n") + "\n";
            let Ok(before) = Crontab::parse(&text, Format::System) else { return Ok(()) };
            let after = read(&INSTALLATION.text(&before), Format::System);
            let jobs = |crontab: &Crontab| {
                let known = |name: &str| ["SHELL", RESOURCE, JOB, super::SHELL].contains(&name);
                crontab.jobs().map(|(job, variables)| {
                    let variables: Vec<String> = variables.iter().filter(|(n, _)| !known(n)).map(|(n, v)| format!("{n}={v}")).collect();
                    (job.when.clone(), job.user.clone(), job.command.clone(), variables)
                }).collect::<Vec<_>>()
            };
            prop_assert_eq!(jobs(&before), jobs(&after));
        }
    }
}
