//! `systole diverged`: what only a node holds, asked of that node.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::arguments::Format;
use crate::divergences::{self, Answers};
use crate::notices::Level;
use crate::picture::{Database, Kind, Picture};
use crate::{ask, complain, ended, print, print_json, remote, status};

/// What reading a log may take on a node.
const READING: Duration = Duration::from_secs(30);

/// Shows what a node holds and the primary does not, of one node or of all replicas.
pub(crate) fn diverged(name: &str, node: Option<&str>, format: Format) -> ExitCode {
    match found(name, node) {
        Ok((answers, primary)) => {
            match format {
                Format::Pretty => print(&divergences::pretty(&answers, &primary)),
                Format::Tsv => print(&divergences::tsv(&answers)),
                Format::Json => print_json(&divergences::json(&answers, &primary)),
            }
            ended(divergences::level(&answers))
        }
        Err(why) => {
            complain(&why);
            ended(Level::Unknown)
        }
    }
}

fn found(name: &str, node: Option<&str>) -> Result<(Answers, String), String> {
    let picture = ask::picture()?;
    let database = picture.database(name).ok_or_else(|| status::unknown(&picture, name))?;
    let primary = primary(database)?;
    let nodes = nodes(&picture, database, node, &primary)?;
    let argv = ["systole", "here", "diverged", &database.name];
    let answers = match database.kind {
        Kind::MySql => {
            let held = held(&database.name, &primary)?;
            remote::ask(&nodes, &[&argv[..], &["--than", &held]].concat(), READING)
        }
        Kind::Redis => remote::ask(&nodes, &argv, READING),
    };
    let read =
        |text: &str| serde_json::from_str(text).map_err(|e| format!("answers something else (is systole of the same version there?): {e}"));
    Ok((answers.into_iter().map(|(node, answer)| (node, answer.and_then(|text| read(&text)))).collect(), primary))
}

/// Whose data the others are held against.
fn primary(database: &Database) -> Result<String, String> {
    match database.promoted().as_slice() {
        [primary] => Ok(primary.node.clone()),
        _ => Err(format!("there is no one primary to compare with: systole why {}", database.name)),
    }
}

/// The nodes that are asked: those that are there, since what a server holds is its own word.
fn nodes(picture: &Picture, database: &Database, node: Option<&str>, primary: &str) -> Result<Vec<String>, String> {
    if let Some(node) = node {
        return Ok(vec![database.member(node)?.node.clone()]);
    }
    let online = |node: &str| picture.node(node).is_some_and(|machine| machine.online);
    // Data that were kept of Redis may be on any node.
    let asked = database.members.iter().filter(|member| database.kind == Kind::Redis || member.node != primary);
    let (there, away): (Vec<_>, Vec<_>) = asked.map(|member| member.node.clone()).partition(|node| online(node));
    away.iter().for_each(|node| complain(&format!("{node} is not there, and what it holds is not known")));
    Ok(there)
}

/// What the primary holds.
fn held(name: &str, primary: &str) -> Result<String, String> {
    let answer = remote::ask(&[primary.to_owned()], &["systole", "here", "held", name], READING);
    let text = answer.into_values().next().unwrap_or_else(|| Err("nothing was asked".into())).map_err(|why| format!("{primary} {why}"))?;
    let value: Value = serde_json::from_str(&text).map_err(|e| format!("{primary} answers something else: {e}"))?;
    value.get("held").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("{primary} does not say what it holds"))
}
