//! Brings crontabs that exist into one that the resource has. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::crontab::{Crontab, Format, Item, Job, Problem, When};

/// A crontab that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// How an operator calls it.
    pub name: String,
    /// What stands in it.
    pub text: String,
    /// Whose it is, when it has no column for the user.
    pub user: Option<String>,
}

/// The crontab with the jobs of all, those that it has already but once. `old`: what stands there now, with a column for the user.
///
/// # Errors
/// All that is wrong with them; and when a variable of one would hold for the jobs of another, which a crontab cannot take back.
pub fn merged(old: &str, name: &str, all: &[Existing]) -> Result<String, Vec<String>> {
    let mut text = old.to_owned();
    let mut problems = Vec::new();
    let mut before = read(old, name, Format::System).unwrap_or_else(|more| {
        problems.extend(more);
        Crontab { items: vec![] }
    });
    for Existing { name, text: its, user } in all {
        let crontab = match read(its, name, if user.is_some() { Format::User } else { Format::System }) {
            Ok(crontab) => crontab,
            Err(more) => {
                problems.extend(more);
                continue;
            }
        };
        let known: BTreeSet<Key> = before.jobs().map(|(job, _)| key(job, None)).collect();
        if crontab.jobs().all(|(job, _)| known.contains(&key(job, user.as_deref()))) {
            continue;
        }
        problems.extend(variables_that_reach(&before, &crontab, name));
        let _ = writeln!(text, "# from {name}");
        for item in &crontab.items {
            let _ = match item {
                Item::Job(job) if known.contains(&key(job, user.as_deref())) => Ok(()),
                Item::Job(job) => writeln!(text, "{}", line(job, user.as_deref())),
                Item::Text(line) | Item::Variable { text: line, .. } => writeln!(text, "{line}"),
            };
        }
        if problems.is_empty() {
            before = read(&text, name, Format::System)?;
        }
    }
    if problems.is_empty() { Ok(text) } else { Err(problems) }
}

type Key = (String, String, String);

fn key(job: &Job, user: Option<&str>) -> Key {
    (times(job), job.user.as_deref().or(user).unwrap_or_default().to_owned(), job.command.clone())
}

fn times(job: &Job) -> String {
    match &job.when {
        When::Reboot => "@reboot".into(),
        When::Times(times) => times.text.clone(),
    }
}

fn line(job: &Job, user: Option<&str>) -> String {
    format!("{} {} {}", times(job), job.user.as_deref().or(user).unwrap_or_default(), job.command)
}

fn read(text: &str, name: &str, format: Format) -> Result<Crontab, Vec<String>> {
    let named = |problems: Vec<Problem>| problems.iter().map(|problem| format!("{name}: {problem}")).collect::<Vec<_>>();
    let crontab = Crontab::parse(text, format).map_err(named)?;
    let foreign = crontab.foreign_rules();
    if foreign.is_empty() { Ok(crontab) } else { Err(named(foreign)) }
}

/// A variable holds for all jobs after it: those of another crontab must not get it.
fn variables_that_reach(before: &Crontab, next: &Crontab, name: &str) -> Vec<String> {
    let mut set: BTreeMap<&str, &str> = BTreeMap::new();
    for item in &before.items {
        if let Item::Variable { name, value, .. } = item {
            set.insert(name, value);
        }
    }
    let Some((_, own)) = next.jobs().next() else { return vec![] };
    let reaches = set.into_iter().filter(|(variable, _)| !own.iter().any(|(its, _)| its == variable));
    reaches
        .map(|(variable, value)| {
            format!(
                "{variable}={value} of the jobs before would hold for those of {name}: set {variable} at the head of {name}, or import it \
                 into a crontab and a resource of its own"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn existing(name: &str, text: &str, user: Option<&str>) -> Existing {
        Existing { name: name.into(), text: text.into(), user: user.map(str::to_owned) }
    }

    #[test]
    fn jobs_keep_their_times_users_and_variables() {
        let system = existing("/etc/cron.d/site", "# nightly\nMAILTO=a\n0 5  * * * wpsite  x % y\n", None);
        let user = existing("the crontab of deploy", "MAILTO=b\n@daily z\n@reboot warm\n", Some("deploy"));
        let text = merged("", "new", &[system.clone(), user.clone()]).unwrap();
        assert_eq!(
            text,
            "# from /etc/cron.d/site\n# nightly\nMAILTO=a\n0 5 * * * wpsite x % y\n# from the crontab of deploy\nMAILTO=b\n@daily deploy z\n\
             @reboot deploy warm\n"
        );
        // Again, and on the next node: nothing changes.
        assert_eq!(merged(&text, "new", &[system, user]), Ok(text));
    }

    #[test]
    fn what_is_there_already_comes_but_once() {
        let more = existing("f", "0 5 * * * root x\n0 6 * * * root y\n", None);
        assert_eq!(merged("0 5 * * * root x\n", "new", &[more]).unwrap(), "0 5 * * * root x\n# from f\n0 6 * * * root y\n");
    }

    #[test]
    fn a_variable_does_not_reach_the_jobs_of_others() {
        let why = merged("MAILTO=a\n@daily root x\n", "new", &[existing("f", "@daily root y\nMAILTO=b\n", None)]).unwrap_err();
        assert!(why.len() == 1 && why[0].contains("MAILTO=a of the jobs before would hold for those of f"), "{why:?}");
    }

    #[test]
    fn an_error_names_file_and_line() {
        let why = merged("", "new", &[existing("f", "\n61 * * * * root x\n", None)]).unwrap_err();
        assert_eq!(why, ["f: line 2, minute: 61 is not in 0-59"]);
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let (f, g) = (existing("f", "61 * * * * root x\n@often root y\n", None), existing("g", "CRON_TZ=UTC\n@daily z\n", Some("me")));
        let why = merged("* 24 * * * root x\n", "new", &[f, g]).unwrap_err();
        let of: Vec<&str> = why.iter().filter_map(|why| why.split(',').next()).collect();
        assert_eq!(of, ["new: line 1", "f: line 1", "f: line 2", "g: line 1"], "{why:?}");
    }
}
