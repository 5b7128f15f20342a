//! `systole timeline`: asking the nodes for their journals.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::timeline::{Clock, is_unreadable, read_entry};
use promotable::history::Promotion;

use crate::arguments::Format;
use crate::notices::Level;
use crate::picture::{Database, Picture};
use crate::timeline::{Now, Timeline, Wanted};
use crate::{ask, ask_history, complain, ended, print, print_json, remote, status};

/// How long before the first sign and after the end of a failover the journals are read. Seconds.
const AROUND: u64 = 30;
/// No failover is followed further back. Seconds.
const LONGEST: u64 = 600;

/// Which time is meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct When {
    /// That of a promotion.
    pub(crate) epoch: Option<u64>,
    /// All since then.
    pub(crate) since: Option<String>,
}

/// Prints what the journals say.
pub(crate) fn run(name: Option<&str>, when: When, format: Format) -> ExitCode {
    let found = ask::picture().and_then(|picture| {
        let database = name.map(|name| picture.database(name).ok_or_else(|| status::unknown(&picture, name))).transpose()?;
        shown(&picture, database, &when)
    });
    match found {
        Ok(timeline) => {
            match format {
                Format::Pretty => print(&timeline.pretty()),
                Format::Tsv => print(&timeline.tsv()),
                Format::Json => print_json(&timeline.json()),
            }
            timeline.remarks().iter().for_each(|remark| complain(remark));
            ended(if timeline.unanswered.is_empty() { Level::Good } else { Level::Degraded })
        }
        Err(why) => {
            complain(&why);
            ended(Level::Unknown)
        }
    }
}

fn shown(picture: &Picture, database: Option<&Database>, when: &When) -> Result<Timeline, String> {
    if let Some(since) = &when.since {
        let from = seconds_of(since)?;
        return Ok(between(picture, database, (from, now_us() / 1_000_000 + 1), None));
    }
    let databases = database.map_or_else(|| picture.databases.iter().collect(), |database| vec![database]);
    let last = databases.into_iter().filter_map(|database| {
        let history = ask_history::of(picture, &database.name);
        Some((database, history.find(when.epoch)?.clone()))
    });
    match last.max_by_key(|(_, promotion)| promotion.at) {
        Some((database, promotion)) => Ok(around(picture, database, &promotion)),
        None => Err(match when.epoch {
            Some(epoch) => format!("no node remembers a promotion of epoch {epoch}: see systole history, or give a time with --since"),
            None => "no node remembers a promotion: give a time with --since".to_owned(),
        }),
    }
}

/// What the journals say of a promotion.
pub(crate) fn around(picture: &Picture, database: &Database, promotion: &Promotion) -> Timeline {
    // The outage that is remembered begins after a lost node was fenced.
    let from = promotion.at.saturating_sub(LONGEST + AROUND);
    between(picture, Some(database), (from, promotion.at.saturating_add(AROUND)), Some(promotion))
}

fn between(picture: &Picture, database: Option<&Database>, (from, to): (u64, u64), promotion: Option<&Promotion>) -> Timeline {
    let nodes: Vec<String> = picture.nodes.iter().map(|node| node.name.clone()).collect();
    let begun = now_us();
    let argv = ["systole", "here", "journal", &from.to_string(), &to.to_string()];
    let answers = remote::ask(&nodes, &argv, READING);
    let asked = (begun, now_us());
    let name = database.map(|database| database.name.as_str());
    let rest = picture.databases.iter().map(|other| other.name.as_str()).filter(|other| name.is_some_and(|name| name != *other));
    let (over, from) = (promotion.map(|promotion| promotion.at), promotion.and_then(|promotion| promotion.from.as_deref()));
    Timeline::of(&answers, asked, &Wanted { resource: name, others: rest.collect(), over, from })
}

/// This node's lines of the agents, Pacemaker and corosync: the time here, then a JSON object a line.
pub(crate) fn journal(from: u64, to: u64) -> Result<String, String> {
    let (since, until) = (format!("--since=@{from}"), format!("--until=@{to}"));
    let known = process::run_bounded("journalctl", &["--no-pager", "--quiet", "--field=SYSLOG_IDENTIFIER"], READING, MOST)
        .map_err(|e| e.to_string())?;
    let told_by = tellers(&known.stdout);
    if known.status.success() && told_by.is_empty() {
        return serde_json::to_string(&Now { now: now_us(), left_out: 0 }).map(|now| now + "\n").map_err(|e| e.to_string());
    }
    // Without --all it prints nothing in the place of a long line.
    let mut arguments =
        vec!["--no-pager", "--quiet", "--all", "--output=json", "--output-fields=MESSAGE,SYSLOG_IDENTIFIER", &since, &until];
    arguments.extend(told_by.iter().map(String::as_str));
    let journal = process::run_bounded("journalctl", &arguments, READING, MOST).map_err(|e| e.to_string())?;
    if !journal.status.success() {
        return Err(format!("journalctl failed: {}", journal.stderr.lines().next().unwrap_or("it says nothing")));
    }
    let left_out = journal.stdout.lines().filter(|line| is_unreadable(line)).count();
    let now = serde_json::to_string(&Now { now: now_us(), left_out }).map_err(|e| e.to_string())?;
    let told = journal.stdout.lines().filter_map(|line| read_entry("", line, &[""], Clock::Realtime));
    let lines = told.filter_map(|event| serde_json::to_string(&event).ok());
    Ok(std::iter::once(now).chain(lines).map(|line| line + "\n").collect())
}

/// More than a journal has of a failover. Bytes.
const MOST: usize = 64 << 20;
/// What reading a journal may take on a node.
const READING: Duration = Duration::from_secs(10);

/// Those in a journal who may tell it, as matches of journalctl: it reads nothing else then.
fn tellers(identifiers: &str) -> Vec<String> {
    identifiers.lines().filter(|name| ::timeline::may_tell(name)).map(|name| format!("SYSLOG_IDENTIFIER={name}")).collect()
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A time as date(1) reads it, in seconds since 1970: one moment for all nodes, wherever they are.
fn seconds_of(text: &str) -> Result<u64, String> {
    let unread = |why: &str| format!("--since {text:?} is no time: {why}");
    let date = process::run("date", &[&format!("--date={text}"), "+%s"], remote::LIMIT).map_err(|e| unread(&e.to_string()))?;
    if !date.status.success() {
        return Err(unread("write it as \"2026-11-30 01:20\", \"01:20\" or \"10 minutes ago\""));
    }
    date.stdout.trim().parse().map_err(|_| unread("it is before 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_of_those_only_who_tell_of_a_failover() {
        let told_by = tellers("sshd\npacemaker-controld\nmysql(mysql)\nkernel\n");
        assert_eq!(told_by, ["SYSLOG_IDENTIFIER=pacemaker-controld", "SYSLOG_IDENTIFIER=mysql(mysql)"]);
    }
}
