//! `systole cron`: what `systole-cron` says on each node, put together for the cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use crate::arguments::{Cron, Format};
use crate::jobs::{self, Coming, Past, Runs};
use crate::notices::Level;
use crate::picture::Picture;
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
        Cron::History { name, last, format } => said(past(&name, last).map(|(runs, level)| (jobs::last(runs, last), level)), format),
        Cron::Missed { name, since, format } => {
            let from = SystemTime::now().checked_sub(since).unwrap_or(SystemTime::UNIX_EPOCH);
            let missed = past(&name, jobs::ALL).map(|(runs, level)| {
                let missed = jobs::missed(runs, from);
                let level = if missed.is_empty() { level } else { level.max(Level::Degraded) };
                (missed, level)
            });
            said(missed, format)
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

/// The nodes, of which each answers for itself, where the resource is one of cron jobs.
fn nodes(picture: &Picture, name: &str) -> Result<Vec<String>, String> {
    let all = || picture.others.iter().filter(|other| other.agent == "cron-singleton");
    if !all().any(|other| other.name == name) {
        let names: Vec<&str> = all().map(|other| other.name.as_str()).collect();
        return Err(match names.is_empty() {
            true => format!("there are no cron jobs {name}: no resource of ocf:systole:cron-singleton is configured"),
            false => format!("there are no cron jobs {name}: there are {}", names.join(", ")),
        });
    }
    Ok(picture.nodes.iter().map(|node| node.name.clone()).collect())
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

/// The runs that were, of all nodes, the oldest first.
fn past(name: &str, last: usize) -> Result<(Vec<Past>, Level), String> {
    let nodes = nodes(&ask::picture()?, name)?;
    let last = last.to_string();
    let (answers, level) = heard(remote::ask(&nodes, &[PROGRAM, "history", name, "--json", "--last", &last], ANSWER));
    Ok((jobs::together(&answers)?, level))
}

/// The runs to come, by the crontabs of the nodes, which have to be the same.
fn coming(name: &str, count: usize) -> Result<(Vec<Coming>, Level), String> {
    let nodes = nodes(&ask::picture()?, name)?;
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

    #[test]
    fn a_path_that_leads_to_another_place_on_each_node_is_refused() {
        let (absolute, bare) = (Path::new("/etc/systole/site.cron"), Path::new("site.cron"));
        for (to, from, expected) in [(bare, absolute, Some(bare)), (absolute, bare, Some(bare)), (absolute, absolute, None)] {
            assert_eq!(relative(to, &[absolute.to_owned(), from.to_owned()]), expected, "{} {}", to.display(), from.display());
        }
    }
}
