//! The crontab as it is given to cron: the operator's, with each job led through the wrapper. Pure.
//!
//! cron runs `$SHELL -c COMMAND`. With the wrapper as SHELL no command line has to be touched. What the wrapper has to know
//! stands in variables before the job.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::crontab::{Crontab, Item, Job, When};
use crate::mark::Run;

/// The resource that a job belongs to.
pub const RESOURCE: &str = "SYSTOLE_CRON";
/// Which job it is: [`identities`].
pub const JOB: &str = "SYSTOLE_JOB";
/// The shell that the crontab asks for.
pub const SHELL: &str = "SYSTOLE_SHELL";
/// The minute that a run is due, since 1970: for the job.
pub const MINUTE: &str = "SYSTOLE_MINUTE";
/// The minute that a run was due which is made up for, since 1970.
pub const DUE: &str = "SYSTOLE_DUE";

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
        let head = format!(
            "# Installed by ocf:systole:cron-singleton for the resource {}, and taken away when it stops.\n\
             # A change here is lost and a failure of the resource: change {}\n",
            self.resource, self.source
        );
        self.with_head(head, crontab, |text, identity, job| match &job.when {
            When::Reboot => {
                let _ = writeln!(text, "# left out, at @reboot: {}", job.command);
            }
            When::Times(times) => self.job(text, identity, job, &times.text),
        })
    }

    /// The text for cron with runs that are made up for. They stand there for every minute until somebody takes them away: the
    /// wrapper runs each once.
    pub fn due_text(&self, crontab: &Crontab, due: &[Run], identities: &[String]) -> String {
        let head = format!(
            "# Installed by ocf:systole:cron-singleton for the resource {}: runs that came due while it was on no node, or at its\n\
             # takeover (@reboot). Each is run once; the file is taken away when all have begun.\n",
            self.resource
        );
        let mut identities = identities.iter();
        self.with_head(head, crontab, |text, _, job| {
            let Some(identity) = identities.next() else { return };
            for run in due.iter().filter(|run| run.job == *identity) {
                let _ = writeln!(text, "{DUE}={}", run.minute);
                self.job(text, identity, job, "* * * * *");
            }
        })
    }

    fn with_head(&self, head: String, crontab: &Crontab, mut job: impl FnMut(&mut String, &str, &Job)) -> String {
        let mut text = format!("{head}SHELL={}\n{RESOURCE}={}\n", self.wrapper, self.resource);
        let mut identities = identities(crontab).into_iter();
        for item in &crontab.items {
            // Nothing can fail: it is a string.
            let _ = match item {
                Item::Text(line) => writeln!(text, "{line}"),
                // With mode=gate it stands there already.
                Item::Variable { name, value, .. } if name == "SHELL" && value == self.wrapper => Ok(()),
                Item::Variable { name, value, .. } if name == "SHELL" && value.is_empty() => writeln!(text, "{SHELL}=\"\""),
                Item::Variable { name, value, .. } if name == "SHELL" => writeln!(text, "{SHELL}={value}"),
                // Without the quotes cron takes it for a job, and ignores the whole file.
                Item::Variable { name, value, .. } if value.is_empty() => writeln!(text, "{name}=\"\""),
                Item::Variable { text: line, .. } => writeln!(text, "{line}"),
                Item::Job(this) => {
                    job(&mut text, &identities.next().unwrap_or_default(), this);
                    Ok(())
                }
            };
        }
        text
    }

    fn job(&self, text: &mut String, identity: &str, job: &Job, times: &str) {
        let user = job.user.as_deref().or(self.user).map(|user| format!("{user} ")).unwrap_or_default();
        let _ = writeln!(text, "{JOB}={identity}\n{times} {user}{}", job.command);
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

/// The same for a crontab that stands on all nodes, in which nobody has named the jobs but its author: what the wrapper takes for
/// the name.
pub fn identities_at_the_gate(crontab: &Crontab) -> Vec<String> {
    let given =
        |variables: &[(&str, &str)]| variables.iter().find(|(name, value)| *name == JOB && !value.is_empty()).map(|(_, v)| (*v).to_owned());
    crontab.jobs().map(|(job, variables)| given(&variables).unwrap_or_else(|| identity_of_command(&as_given(&job.command)))).collect()
}

/// Whether this can be the name of a job.
pub(crate) fn is_name(job: &str) -> bool {
    !job.is_empty() && job.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// The name of a job that has none.
pub(crate) fn identity_of_command(command: &str) -> String {
    format!("{:016x}", fnv1a(command.as_bytes()))
}

/// The command as cron gives it to the shell: up to the first `%`. A backslash takes the meaning from `%` and from itself.
fn as_given(command: &str) -> String {
    let mut given = String::new();
    let mut escaped = false;
    for c in command.chars() {
        match c {
            '%' | '\\' if escaped => {
                given.pop();
            }
            '%' => break,
            _ => {}
        }
        given.push(c);
        escaped = !escaped && c == '\\';
    }
    given
}

/// Tells one text from another.
pub(crate) fn digest(text: &str) -> String {
    format!("{:016x}-{}", fnv1a(text.as_bytes()), text.len())
}

/// A text for cron without what it begins with, which is for people: another release of this agent words it otherwise.
pub(crate) fn without_head(text: &str) -> &str {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('\n').filter(|(line, _)| line.starts_with('#')) {
        rest = after;
    }
    rest
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
    fn the_head_is_for_people() {
        let text = INSTALLATION.text(&read("# mine\n@daily root x\n", Format::System));
        assert!(without_head(&text).starts_with("SHELL=") && text.ends_with(without_head(&text)), "{text}");
        assert_eq!((without_head("# a"), without_head("# a\n"), without_head("")), ("# a", "", ""));
        assert_ne!(digest("a"), digest("b"));
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

    #[test]
    fn what_cron_makes_of_a_percent_sign() {
        for (command, given) in
            [("a b", "a b"), ("a % b % c", "a "), (r"date +\%F % x", "date +%F "), (r"a \\ b", r"a \ b"), (r"a \b", r"a \b")]
        {
            assert_eq!(as_given(command), given, "{command}");
        }
        let named = read("SHELL=/w\nSYSTOLE_JOB=mine\n@daily root x\nSYSTOLE_JOB=\n@daily root y % z\n", Format::System);
        assert_eq!(identities_at_the_gate(&named), ["mine".to_owned(), identity_of_command("y ")]);
    }

    #[test]
    fn runs_that_are_made_up_for_keep_their_variables() {
        let crontab = read("A=1\n@daily root x\nA='2'\n0 5 * * * root y\n@reboot root z\n", Format::System);
        let names = identities(&crontab);
        let due =
            [Run { minute: 7, job: names[1].clone() }, Run { minute: 9, job: names[1].clone() }, Run { minute: 9, job: names[2].clone() }];
        let text = INSTALLATION.due_text(&crontab, &due, &names);
        let expected = format!(
            "A=1\nA='2'\nSYSTOLE_DUE=7\nSYSTOLE_JOB={0}\n* * * * * root y\nSYSTOLE_DUE=9\nSYSTOLE_JOB={0}\n* * * * * root y\nSYSTOLE_DUE=9\n\
             SYSTOLE_JOB={1}\n* * * * * root z\n",
            names[1], names[2]
        );
        assert!(text.ends_with(&expected), "{text}");
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
