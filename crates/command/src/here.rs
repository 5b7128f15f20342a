//! `systole here`: what one node of the cluster is asked by the command on another one, over ssh, in the one place where such a question is
//! answered. It answers with JSON, and needs the CIB and the agent's own login, which root on that node has.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::arguments::Here as Question;
use crate::cib::Cib;
use crate::doctor::facts;
use crate::notices::Level;
use crate::picture::Kind;
use crate::{ask, ask_history, ask_timeline, complain, divergences, ended, print};

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
        Question::Copying { name } => json!({ "unfinished": mysql(name)?.copy_is_unfinished() }),
        Question::Copy { name } => mysql(name)?.order_copy().map(|()| json!({ "ordered": true }))?,
    };
    Ok(format!("{value}\n"))
}

fn diverged(name: &str, than: &str, held: Option<&str>) -> Result<Value, String> {
    match kind_of(name)? {
        Kind::MySql => {
            let found = mysql(name)?.only_here(than, held)?;
            let statements = divergences::readable(&found.statements);
            Ok(json!({ "names": found.names, "found": found.found, "statements": statements, "unread": found.unread, "kept": found.kept }))
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
