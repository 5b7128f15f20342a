//! `systole cron`: what `systole-cron` says on each node, put together for the cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use crate::arguments::{Cron, Format};
use crate::jobs::{self, Coming, Past, Runs};
use crate::notices::Level;
use crate::picture::{Condition, Other, Picture};
use crate::switchover::Ending;
use crate::{ask, complain, ended, print, print_json, remote};

/// The command of a node.
const PROGRAM: &str = "systole-cron";
/// What a node may take to answer: nobody waits for it in a hurry.
const ANSWER: Duration = Duration::from_secs(10);
/// What an import may take on a node.
const IMPORTING: Duration = Duration::from_secs(30);

/// Does what is wanted.
pub(crate) fn cron(command: Cron) -> ExitCode {
    match command {
        Cron::History { name, last, format } => said(past(&name, last).map(|past| (jobs::last(past.runs, last), past.level)), format),
        Cron::Missed { name, since, format } => {
            let from = SystemTime::now().checked_sub(since).unwrap_or(SystemTime::UNIX_EPOCH);
            said(past(&name, jobs::ALL).map(|past| past.missed(from)), format)
        }
        Cron::Next { name, count, format } => said(coming(&name, count), format),
        Cron::Import { to, from, user, write } => import(&to, &from, &user, write).into(),
    }
}

fn said<T: jobs::Run>(found: Result<(Vec<T>, Level), String>, format: Format) -> ExitCode {
    match found {
        Ok((runs, level)) => {
            let runs = Runs(runs);
            match format {
                Format::Pretty => print(&runs.table().pretty()),
                Format::Tsv => print(&runs.table().tsv()),
                Format::Json => print_json(&runs.json()),
            }
            ended(level)
        }
        Err(why) => {
            complain(&why);
            ended(Level::Unknown)
        }
    }
}

/// The resource, where it is one of cron jobs, and the nodes, of which each answers for itself.
fn found<'a>(picture: &'a Picture, name: &str) -> Result<(&'a Other, Vec<String>), String> {
    let all = || picture.others.iter().filter(|other| other.agent == "cron-singleton");
    let Some(found) = all().find(|other| other.name == name) else {
        let names: Vec<&str> = all().map(|other| other.name.as_str()).collect();
        return Err(match names.is_empty() {
            true => format!("there are no cron jobs {name}: no resource of ocf:systole:cron-singleton is configured"),
            false => format!("there are no cron jobs {name}: there are {}", names.join(", ")),
        });
    };
    Ok((found, picture.nodes.iter().map(|node| node.name.clone()).collect()))
}

/// That the jobs run nowhere, as far as the cluster knows. What comes due meanwhile stands in no history before they do again.
fn run_nowhere(jobs: &Other) -> Option<String> {
    // One of a node that is lost and not fenced is listed there.
    let runs = !jobs.nodes.is_empty() && !matches!(jobs.condition, Condition::Unseen(_) | Condition::Stopped(_));
    (!runs).then(|| format!("{} runs on no node: what came due since then is known when it starts again: systole status", jobs.name))
}

/// What the nodes answer, and how bad it is that some do not. A node on which the resource never was has nothing to say.
fn heard(answers: BTreeMap<String, Result<String, String>>) -> (BTreeMap<String, String>, Level) {
    let mut level = Level::Good;
    let mut all = BTreeMap::new();
    for (node, answer) in answers {
        match answer {
            Ok(text) => drop(all.insert(node, text)),
            Err(why) if jobs::was_never_there(&why) => {}
            Err(why) => {
                complain(&format!("{node} {why}; what it knows is missing here"));
                level = Level::Degraded;
            }
        }
    }
    (all, level)
}

/// The runs that were.
struct History {
    /// Of all nodes, the oldest first.
    runs: Vec<Past>,
    /// How bad it is that some nodes say nothing.
    level: Level,
    /// Whether the jobs run nowhere now.
    nowhere: bool,
}

impl History {
    /// The runs that did not begin since then, and how bad that is. Where the jobs run nowhere, nobody has looked for some time.
    fn missed(self, since: SystemTime) -> (Vec<Past>, Level) {
        let missed = jobs::missed(self.runs, since);
        let of_runs = if missed.is_empty() { Level::Good } else { Level::Degraded };
        let of_jobs = if self.nowhere { Level::Broken } else { Level::Good };
        (missed, self.level.max(of_runs).max(of_jobs))
    }
}

/// What the nodes have in their histories.
fn past(name: &str, last: usize) -> Result<History, String> {
    let picture = ask::picture()?;
    let (jobs, nodes) = found(&picture, name)?;
    let nowhere = run_nowhere(jobs);
    if let Some(why) = &nowhere {
        complain(why);
    }
    let last = last.to_string();
    let (answers, level) = heard(remote::ask(&nodes, &[PROGRAM, "history", name, "--json", "--last", &last], ANSWER));
    Ok(History { runs: jobs::together(&answers)?, level, nowhere: nowhere.is_some() })
}

/// The runs to come, by the crontabs of the nodes, which have to be the same.
fn coming(name: &str, count: usize) -> Result<(Vec<Coming>, Level), String> {
    let picture = ask::picture()?;
    let (_, nodes) = found(&picture, name)?;
    let count = count.to_string();
    // One moment for all: of nodes that are asked one after the other, a run may be over for one and still come for another.
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let (answers, level) = heard(remote::ask(&nodes, &[PROGRAM, "next", name, "--json", "--count", &count, "--after", &now], ANSWER));
    let (runs, differ) = jobs::agreed(&answers)?;
    let Some(differ) = differ else { return Ok((runs, level)) };
    complain(&format!(
        "{differ} say something else: the sources differ; make them the same, then: crm_resource --refresh --resource {name}"
    ));
    Ok((runs, level.max(Level::Degraded)))
}

/// Brings crontabs in on all nodes. Nothing is changed anywhere unless each of them can do the same.
fn import(to: &Path, from: &[PathBuf], users: &[String], write: bool) -> Ending {
    // Each node would take it from another directory.
    if let Some(path) = relative(to, from) {
        return refused(&[format!(
            "{} is no absolute path, and leads to another place on each node: write the whole one, from /",
            path.display()
        )]);
    }
    let mut argv = vec![PROGRAM.to_owned(), "import".to_owned(), "--to".to_owned(), to.display().to_string()];
    argv.extend(from.iter().flat_map(|path| ["--from".to_owned(), path.display().to_string()]));
    argv.extend(users.iter().flat_map(|user| ["--user".to_owned(), user.clone()]));
    let nodes: Vec<String> = match ask::picture() {
        Ok(picture) => picture.nodes.iter().map(|node| node.name.clone()).collect(),
        Err(why) => return refused(&[why]),
    };
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let shown = remote::ask(&nodes, &words, IMPORTING);
    let failed: Vec<String> = shown.iter().filter_map(|(node, answer)| Some(format!("{node}: {}", answer.as_ref().err()?))).collect();
    if !failed.is_empty() {
        return refused(&failed);
    }
    let mut answers: Vec<&String> = shown.values().filter_map(|answer| answer.as_ref().ok()).collect();
    answers.dedup();
    let [difference] = answers[..] else {
        for (node, answer) in &shown {
            print(&format!("{node}:\n{}\n", answer.as_deref().unwrap_or_default()));
        }
        return refused(&[format!(
            "the crontabs of the nodes differ, and the resource needs the same one everywhere: import on one node with systole-cron import, and \
             copy {} to the others",
            to.display()
        )]);
    };
    if !write {
        print(difference);
        return Ending::Done;
    }
    let words: Vec<&str> = words.iter().copied().chain(["--write"]).collect();
    let done = remote::ask(&nodes, &words, IMPORTING);
    let failed: Vec<String> = done.iter().filter_map(|(node, answer)| Some(format!("{node}: {}", answer.as_ref().err()?))).collect();
    if failed.is_empty() {
        print(done.values().find_map(|answer| answer.as_deref().ok()).unwrap_or_default());
        print(&format!("done on {}\n", nodes.join(", ")));
        return Ending::Done;
    }
    failed.iter().for_each(|why| complain(why));
    complain("it is done on the other nodes: correct that, and do it again on these with systole-cron import");
    Ending::HalfWay
}

/// A path that each node would take from the directory in which the command is begun there.
fn relative<'a>(to: &'a Path, from: &'a [PathBuf]) -> Option<&'a Path> {
    std::iter::once(to).chain(from.iter().map(PathBuf::as_path)).find(|path| !path.is_absolute())
}

fn refused(why: &[String]) -> Ending {
    complain(&format!("refused, and nothing is changed: {}", why.join("; ")));
    Ending::Refused
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All was green while the jobs ran nowhere: what is due then is in no history.
    #[test]
    fn jobs_that_run_nowhere_are_not_good() {
        let jobs = |nodes: &[&str], condition| Other {
            name: "site-cron".into(),
            agent: "cron-singleton".into(),
            what: String::new(),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            condition,
        };
        for (jobs, nowhere) in [
            (jobs(&["lxc1"], Condition::Fine), false),
            (jobs(&["lxc1"], Condition::Degraded("x".into())), false),
            (jobs(&[], Condition::Stopped(String::new())), true),
            (jobs(&[], Condition::Failed("start failed".into())), true),
            (jobs(&["lxc1"], Condition::Unseen("the node is lost and not fenced".into())), true),
        ] {
            assert_eq!(run_nowhere(&jobs).is_some(), nowhere, "{jobs:?}");
        }
        let said = run_nowhere(&jobs(&[], Condition::Stopped(String::new()))).unwrap();
        assert!(said.starts_with("site-cron runs on no node: what came due"), "{said}");
        let run = |state: &str| Past {
            due: "2026-11-30T02:00:00Z".into(),
            node: "a".into(),
            state: state.into(),
            status: None,
            seconds: None,
            why: None,
            job: "j".into(),
            command: None,
        };
        for (runs, level, nowhere, expected) in [
            (vec![], Level::Good, false, (0, Level::Good)),
            (vec![run("ended")], Level::Degraded, false, (0, Level::Degraded)),
            (vec![run("missed")], Level::Good, false, (1, Level::Degraded)),
            (vec![run("ended")], Level::Good, true, (0, Level::Broken)),
            (vec![run("skipped")], Level::Degraded, true, (1, Level::Broken)),
        ] {
            let (missed, level) = History { runs, level, nowhere }.missed(SystemTime::UNIX_EPOCH);
            assert_eq!((missed.len(), level), expected);
        }
    }

    #[test]
    fn a_path_that_leads_to_another_place_on_each_node_is_refused() {
        let (absolute, bare) = (Path::new("/etc/systole/site.cron"), Path::new("site.cron"));
        for (to, from, expected) in [(bare, absolute, Some(bare)), (absolute, bare, Some(bare)), (absolute, absolute, None)] {
            assert_eq!(relative(to, &[absolute.to_owned(), from.to_owned()]), expected, "{} {}", to.display(), from.display());
        }
    }
}
