//! `systole diverged`: what only a node holds, asked of that node.

use std::collections::BTreeMap;
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

/// What nodes are asked, and what each says.
type Asking<'a> = &'a (dyn Fn(&[String], &[&str]) -> BTreeMap<String, Result<String, String>> + Sync);

fn found(name: &str, node: Option<&str>) -> Result<(Answers, String), String> {
    let picture = ask::picture()?;
    let database = picture.database(name).ok_or_else(|| status::unknown(&picture, name))?;
    let primary = primary(database)?;
    let asked = nodes(&picture, database, node, &primary)?;
    let asking: Asking<'_> = &|nodes, argv| remote::ask(nodes, argv, READING);
    let mut answers = match database.kind {
        Kind::MySql => of_mysql(&database.name, &asked.there, &primary, asking)?,
        Kind::Redis => asking(&asked.there, &["systole", "here", "diverged", &database.name]),
    };
    answers.extend(asked.away.into_iter().map(|node| (node, Err("it is not there".to_owned()))));
    let read =
        |text: &str| serde_json::from_str(text).map_err(|e| format!("answers something else (is systole of the same version there?): {e}"));
    Ok((answers.into_iter().map(|(node, answer)| (node, answer.and_then(|text| read(&text)))).collect(), primary))
}

/// What only each of these nodes holds. They say what they hold first and the primary does afterwards, so that what it committed in
/// between, and they have got already, is not taken for theirs.
fn of_mysql(name: &str, nodes: &[String], primary: &str, ask: Asking<'_>) -> Result<BTreeMap<String, Result<String, String>>, String> {
    let argv = ["systole", "here", "held", name];
    let replicas: BTreeMap<String, Result<String, String>> =
        ask(nodes, &argv).into_iter().map(|(node, answer)| (node, answer.and_then(|text| held(&text)))).collect();
    let than = ask(&[primary.to_owned()], &argv).into_values().next().unwrap_or_else(|| Err("is not asked".into()));
    let than = than.and_then(|text| held(&text)).map_err(|why| format!("{primary} {why}"))?;
    let only = &|node: &String, held: &str| {
        let argv = ["systole", "here", "diverged", name, "--than", &than, "--held", held];
        ask(std::slice::from_ref(node), &argv).into_values().next().unwrap_or_else(|| Err("is not asked".into()))
    };
    Ok(std::thread::scope(|scope| {
        let asked: Vec<_> = replicas
            .into_iter()
            .map(|(node, held)| (node.clone(), scope.spawn(move || held.and_then(|held| only(&node, &held)))))
            .collect();
        asked.into_iter().map(|(node, thread)| (node, thread.join().unwrap_or_else(|_| Err("could not be asked".into())))).collect()
    }))
}

/// Whose data the others are held against.
fn primary(database: &Database) -> Result<String, String> {
    match database.promoted().as_slice() {
        [primary] => Ok(primary.node.clone()),
        _ => Err(format!("there is no one primary to compare with: systole why {}", database.name)),
    }
}

/// Who is asked what a server holds, which is its own word, and who cannot be.
struct Asked {
    there: Vec<String>,
    away: Vec<String>,
}

fn nodes(picture: &Picture, database: &Database, node: Option<&str>, primary: &str) -> Result<Asked, String> {
    if let Some(node) = node {
        return Ok(Asked { there: vec![database.member(node)?.node.clone()], away: Vec::new() });
    }
    let online = |node: &str| picture.node(node).is_some_and(|machine| machine.online);
    // Data that were kept of Redis may be on any node.
    let asked = database.members.iter().filter(|member| database.kind == Kind::Redis || member.node != primary);
    let (there, away) = asked.map(|member| member.node.clone()).partition(|node| online(node));
    Ok(Asked { there, away })
}

/// What a server says that it holds.
fn held(text: &str) -> Result<String, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("answers something else: {e}"))?;
    value.get("held").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| "does not say what it holds".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::cib::Cib;
    use crate::crm_mon::Monitor;
    use crate::picture::Attributes;

    /// Nodes in whose cluster somebody writes: with each question there is another transaction, and the replicas have it at once. lxc9
    /// wrote one of its own.
    fn cluster_that_writes(asked: &[String], argv: &[&str], written: &Mutex<u64>) -> BTreeMap<String, Result<String, String>> {
        let mut written = written.lock().unwrap();
        *written += 1;
        let own = |node: &str| if node == "lxc9" { ",0-9-3" } else { "" };
        let number = |text: &str| text.trim_start_matches("0-1-").split(',').next().unwrap().parse::<u64>().unwrap();
        let answer = |node: &String| match argv {
            ["systole", "here", "held", "mysql"] => Ok(format!("{{\"held\":\"0-1-{}{}\"}}", *written, own(node))),
            ["systole", "here", "diverged", "mysql", "--than", than, "--held", held] => {
                let names = if number(held) > number(than) { Some(*held) } else { held.split_once(',').map(|(_, own)| own) };
                Ok(serde_json::json!({ "names": names }).to_string())
            }
            other => panic!("{other:?}"),
        };
        asked.iter().map(|node| (node.clone(), answer(node))).collect()
    }

    #[test]
    fn what_is_written_meanwhile_makes_no_replica_a_diverged_one() {
        let written = Mutex::new(0);
        let nodes = ["lxc2", "lxc3", "lxc9"].map(str::to_owned);
        let answers = of_mysql("mysql", &nodes, "lxc1", &|nodes, argv| cluster_that_writes(nodes, argv, &written)).unwrap();
        let names = |node: &str| serde_json::from_str::<Value>(answers[node].as_ref().unwrap()).unwrap()["names"].clone();
        assert_eq!([names("lxc2"), names("lxc3"), names("lxc9")], [Value::Null, Value::Null, "0-9-3".into()]);
    }

    #[test]
    fn who_does_not_say_what_it_holds_is_not_asked_further_and_a_silent_primary_ends_it() {
        let silent = |node: &'static str| {
            move |nodes: &[String], argv: &[&str]| -> BTreeMap<String, Result<String, String>> {
                let answer = |asked: &String| match argv[2] {
                    _ if asked == node => Err("does not answer over ssh: x".to_owned()),
                    "held" => Ok("{\"held\":\"0-1-1\"}".to_owned()),
                    _ => Ok("{}".to_owned()),
                };
                nodes.iter().map(|node| (node.clone(), answer(node))).collect()
            }
        };
        let nodes = ["lxc2", "lxc3"].map(str::to_owned);
        let answers = of_mysql("mysql", &nodes, "lxc1", &silent("lxc3")).unwrap();
        assert!(answers["lxc2"].is_ok() && answers["lxc3"].as_ref().is_err_and(|why| why.contains("over ssh")), "{answers:?}");
        assert_eq!(of_mysql("mysql", &nodes, "lxc1", &silent("lxc1")), Err("lxc1 does not answer over ssh: x".to_owned()));
    }

    #[test]
    fn a_node_that_is_away_is_not_left_out() {
        let cib = Cib::parse(include_str!("../tests/recorded/lost/cib.xml")).unwrap();
        let monitor = Monitor::parse(include_str!("../tests/recorded/lost/crm_mon.xml")).unwrap();
        let picture = Picture::new(&cib, &monitor, &Attributes::new(), &BTreeMap::new());
        let database = picture.database("mysql").unwrap();
        let asked = nodes(&picture, database, None, &primary(database).unwrap()).unwrap();
        assert_eq!((asked.there.join(" "), asked.away.join(" ")), ("lxc3".to_owned(), "lxc2".to_owned()));
    }
}
