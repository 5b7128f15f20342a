//! `systole here`: what one node of the cluster is asked by the command on another one, over ssh, in the one place where such a question is
//! answered. It answers with JSON, and needs the CIB and the agent's own login, which root on that node has.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use promotable::operator::{Marked, Marker, Practice, marker_name};
use serde_json::{Value, json};

use crate::arguments::Here as Question;
use crate::cib::Cib;
use crate::doctor::facts;
use crate::notices::Level;
use crate::picture::Kind;
use crate::rejoining::Said;
use crate::{ask, ask_history, ask_timeline, complain, divergences, ended, print};

/// What a step of a drill may take on this node.
const DRILLING: Duration = Duration::from_secs(15);
/// Where a drill's lock is.
const RUN: &str = "/run";
/// A writer to whom nobody listens any more ends within so long.
const ENDING: Duration = Duration::from_secs(5);
/// How long a writer rests between two markers.
const BETWEEN_MARKERS: Duration = Duration::from_millis(20);
/// More than a drill writes on one node in its longest time.
const MOST_MARKERS: u64 = 250_000;

/// Answers a question about this node.
pub(crate) fn here(question: &Question) -> ExitCode {
    match answer(question) {
        Ok(text) => {
            print(&text);
            ended(Level::Good)
        }
        Err(why) => {
            complain(&why);
            ended(Level::Unknown)
        }
    }
}

/// A JSON value a line.
fn answer(question: &Question) -> Result<String, String> {
    let value = match question {
        Question::Facts { salt, nodes } => serde_json::to_value(facts::gather(nodes, salt)).map_err(|e| e.to_string())?,
        Question::History { name } => return ask_history::kept(name),
        Question::Journal { from, to } => return ask_timeline::journal(*from, *to),
        Question::Held { name } => json!({ "held": mysql(name)?.held()? }),
        Question::Standing { name } => {
            let standing = match kind_of(name)? {
                Kind::MySql => mysql(name)?.standing()?,
                Kind::Redis => redis(name)?.standing()?,
            };
            serde_json::to_value(standing).map_err(|e| e.to_string())?
        }
        Question::Diverged { name, than, held } => diverged(name, than.as_deref().unwrap_or_default(), held.as_deref())?,
        Question::Writing { name } => {
            let writing = mysql(name)?.writing()?;
            let writing = writing
                .iter()
                .map(|w| json!({ "session": w.session, "user": w.user, "host": w.host, "seconds": w.seconds, "rows": w.rows }));
            json!({ "writing": writing.collect::<Vec<_>>() })
        }
        Question::Behind { name } => json!({ "behind": mysql(name)?.behind()? }),
        Question::Copying { name } => {
            let here = mysql(name)?;
            let said = Said { unfinished: here.copy_is_unfinished(), told: here.rejoining(), refused: here.not_rejoined() };
            serde_json::to_value(said).map_err(|e| e.to_string())?
        }
        Question::DrillPrepare { name } => {
            let practice = practice(name, DRILLING)?;
            let _alone = only_drill(Path::new(RUN), name)?;
            practice.prepare().map(|()| json!({ "prepared": true }))?
        }
        Question::DrillWrite { name, drill, node, confirmations, seconds } => {
            write_markers(name, drill, node, *confirmations, Duration::from_secs(*seconds))?;
            return Ok(String::new());
        }
        Question::DrillHeld { name, drill, highest } => {
            let among = markers(highest)?;
            json!({ "held": practice(name, DRILLING)?.held(drill, &among)? })
        }
        Question::DrillForget { name, drill, highest } => {
            let among = markers(highest)?;
            let _alone = only_drill(Path::new(RUN), name)?;
            practice(name, DRILLING)?.forget(drill, &among).map(|()| json!({ "forgotten": true }))?
        }
        Question::DrillKill { name } => practice(name, DRILLING)?.kill().map(|()| json!({ "killed": true }))?,
        Question::Copy { name } => mysql(name)?.order_copy().map(|()| json!({ "ordered": true }))?,
    };
    Ok(format!("{value}\n"))
}

fn diverged(name: &str, than: &str, held: Option<&str>) -> Result<Value, String> {
    match kind_of(name)? {
        Kind::MySql => {
            let found = mysql(name)?.only_here(than, held)?;
            let statements = divergences::readable(&found.statements);
            Ok(json!({
                "names": found.names, "found": found.found, "statements": statements, "unread": found.unread, "kept": found.kept,
                "taken_back": found.taken_back,
            }))
        }
        Kind::Redis => {
            let kept = redis(name)?.kept()?;
            let kept = kept.iter().map(|kept| json!({ "directory": kept.directory, "at_most": kept.at_most }));
            Ok(json!({ "kept_data": kept.collect::<Vec<_>>() }))
        }
    }
}

/// The parameters of a resource, as they stand in the CIB.
fn cib() -> Result<Cib, String> {
    ask::tool_within("cibadmin", &["--query"], ask::CHANGE_LIMIT).and_then(|text| Cib::parse(&text))
}

fn kind_of(name: &str) -> Result<Kind, String> {
    let cib = cib()?;
    let primitive = cib.primitives.get(name).ok_or_else(|| format!("there is no resource {name}"))?;
    Kind::of(&primitive.agent).ok_or_else(|| format!("{name} is no database of ocf:systole"))
}

fn mysql(name: &str) -> Result<systole_mysql::operator::Here, String> {
    let cib = cib()?;
    let primitive = cib.decided(name)?;
    systole_mysql::operator::Here::of(name, &primitive.parameters)
}

fn redis(name: &str) -> Result<systole_redis::operator::Here, String> {
    let cib = cib()?;
    let primitive = cib.decided(name)?;
    systole_redis::operator::Here::of(name, &primitive.parameters)
}

fn practice(name: &str, limit: Duration) -> Result<Box<dyn Practice>, String> {
    let cib = cib()?;
    let primitive = cib.decided(name)?;
    match Kind::of(&primitive.agent) {
        Some(Kind::MySql) => Ok(Box::new(systole_mysql::operator::Here::lasting(name, &primitive.parameters, limit)?)),
        Some(Kind::Redis) => Ok(Box::new(systole_redis::operator::Here::lasting(name, &primitive.parameters, limit)?)),
        None => Err(format!("{name} is no database of ocf:systole")),
    }
}

/// The lock of a drill of this database on this node, which its writer has. Two drills would remove each other's markers, and each would say
/// that acknowledged ones are lost.
///
/// # Errors
/// When another drill has it for longer than the writer of one that has ended takes to notice.
fn only_drill(directory: &Path, name: &str) -> Result<process::Locked, String> {
    let path = directory.join(format!("systole-drill-{name}.lock"));
    let lock = process::lock(&path, ENDING).map_err(|e| format!("{}: {e}", path.display()))?;
    lock.ok_or_else(|| format!("another drill of {name} is under way: wait for its end"))
}

/// All markers up to the highest of each writer, given as `NODE=NUMBER`.
fn markers(highest: &[String]) -> Result<Vec<Marker>, String> {
    let mut all = Vec::new();
    for one in highest {
        let (node, number) = one.rsplit_once('=').ok_or_else(|| format!("{one:?} is not NODE=NUMBER"))?;
        let number: u64 = number.parse().map_err(|_| format!("{one:?} is not NODE=NUMBER"))?;
        if number > MOST_MARKERS {
            return Err(format!("{number} markers are more than a drill writes"));
        }
        all.extend((1..=number).map(|number| (node.to_owned(), number)));
    }
    Ok(all)
}

/// Writes markers until nobody listens any more, or the time is over.
fn write_markers(name: &str, drill: &str, node: &str, confirmations: u64, limit: Duration) -> Result<(), String> {
    // A little more, so that the last one has its time.
    let mut practice = practice(name, limit + DRILLING)?;
    let _alone = only_drill(Path::new(RUN), name)?;
    let (until, mut number) = (Instant::now() + limit, 1);
    while Instant::now() < until && number < MOST_MARKERS {
        let line = match practice.mark(&marker_name(drill, &(node.to_owned(), number)), confirmations) {
            Marked::Acknowledged => format!("+ {number}"),
            Marked::Unknown(why) => format!("? {number} {}", on_a_line(&why)),
            // The number is free again.
            Marked::Refused(why) => format!("- {}", on_a_line(&why)),
        };
        if !line.starts_with('-') {
            number += 1;
        }
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        drop(out);
        std::thread::sleep(BETWEEN_MARKERS);
    }
    Ok(())
}

fn on_a_line(text: &str) -> String {
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_drill_of_a_database_is_refused_while_one_is_under_way() {
        let directory = std::env::temp_dir().join(format!("systole-drill-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let first = only_drill(&directory, "mysql").unwrap();
        let why = only_drill(&directory, "mysql").unwrap_err();
        assert!(why.contains("another drill of mysql is under way"), "{why}");
        only_drill(&directory, "redis").unwrap();
        drop(first);
        only_drill(&directory, "mysql").unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
