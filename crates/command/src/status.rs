//! `systole status`: who is what, and what is wrong. Pure.

use std::fmt::Write as _;

use promotable::operator::Behind;
use serde_json::{Value, json};

use crate::notices::{self, Level, Notice, count};
use crate::picture::{Condition, Database, Member, Now, PROMOTED, Picture};
use crate::table::{Table, shortened};

/// How wide a position may be for people; scripts get all of it.
const POSITION_WIDTH: usize = 32;
/// How old a position is that the server has just been asked for.
const ASKED: &str = "asked";

/// What is shown.
#[derive(Debug)]
pub struct Status<'a> {
    picture: &'a Picture,
    databases: Vec<&'a Database>,
    whole: bool,
    /// What there is to know.
    pub notices: Vec<Notice>,
}

impl<'a> Status<'a> {
    /// The status of one database, or of all services.
    ///
    /// # Errors
    /// When there is no such database.
    pub fn of(picture: &'a Picture, name: Option<&str>) -> Result<Self, String> {
        let databases = match name {
            None => picture.databases.iter().collect(),
            Some(name) => vec![picture.database(name).ok_or_else(|| unknown(picture, name))?],
        };
        let notices = notices::of(picture, &databases);
        Ok(Self { picture, databases, whole: name.is_none(), notices })
    }

    /// How bad it is.
    #[must_use]
    pub fn level(&self) -> Level {
        let others = self.picture.others.iter().filter(|_| self.whole).map(|other| match other.condition {
            Condition::Fine => Level::Good,
            _ => Level::Degraded,
        });
        others.chain([notices::level(&self.notices)]).max().unwrap_or(Level::Good)
    }

    /// For people.
    #[must_use]
    pub fn pretty(&self) -> String {
        let mut out = self.head();
        for database in &self.databases {
            let _ = writeln!(out, "\n{}", head_of(database));
            let mut table = Table::new(&columns(database));
            for member in &database.members {
                table.row(cells(database, member, true));
            }
            out.push_str(&table.pretty());
        }
        if self.whole && !self.picture.others.is_empty() {
            let mut table = Table::new(&["SERVICE", "KIND", "WHAT", "NODE", "STATE"]);
            for other in &self.picture.others {
                let nodes = other.nodes.join(" ");
                table.row(vec![other.name.clone(), other.agent.clone(), other.what.clone(), nodes, said(&other.condition)]);
            }
            let _ = write!(out, "\n{}", table.pretty());
        }
        if !self.notices.is_empty() {
            out.push('\n');
        }
        for notice in &self.notices {
            let about = notice.about.as_ref().map_or_else(String::new, |about| format!("{about}: "));
            let _ = writeln!(out, "{}: {about}{}", notice.level.word(), notice.text);
        }
        out
    }

    fn head(&self) -> String {
        let online = self.picture.nodes.iter().filter(|node| node.online).count();
        let quorum = if self.picture.quorum { "quorum" } else { "NO QUORUM" };
        let maintenance = if self.picture.maintenance { ", in maintenance" } else { "" };
        format!("{}: {online} of {} nodes, {quorum}{maintenance}\n", self.level().word(), self.picture.nodes.len())
    }

    /// For scripts, a line for each server.
    #[must_use]
    pub fn tsv(&self) -> String {
        let mut table = Table::new(&[
            "RESOURCE", "NODE", "ROLE", "EXECUTED", "RECEIVED", "AS OF", "LAG", "ACK", "READABLE", "SCORE", "FAILS", "WATCHER", "STATE",
        ]);
        for database in &self.databases {
            for member in &database.members {
                let mut row = vec![database.clone.clone()];
                row.extend(cells(database, member, false));
                table.row(row);
            }
        }
        table.tsv()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let nodes = self.picture.nodes.iter().map(|node| json!({ "name": node.name, "online": node.online, "states": node.states }));
        let others = self.picture.others.iter().filter(|_| self.whole).map(|other| {
            json!({ "name": other.name, "agent": other.agent, "what": other.what, "nodes": other.nodes, "state": said(&other.condition) })
        });
        let notices = self.notices.iter().map(|n| json!({ "level": n.level.word(), "about": n.about, "text": n.text }));
        json!({
            "level": self.level().word(),
            "quorum": self.picture.quorum,
            "controller": self.picture.controller,
            "maintenance": self.picture.maintenance,
            "fencing": self.picture.fencing,
            "nodes": nodes.collect::<Vec<_>>(),
            "databases": self.databases.iter().map(|database| database_json(database)).collect::<Vec<_>>(),
            "services": others.collect::<Vec<_>>(),
            "notices": notices.collect::<Vec<_>>(),
        })
    }
}

/// There is no such database.
#[must_use]
pub fn unknown(picture: &Picture, name: &str) -> String {
    let names: Vec<&str> = picture.databases.iter().map(|database| database.name.as_str()).collect();
    match names.is_empty() {
        true => format!("there is no database {name}: no resource of ocf:systole:mysql or ocf:systole:redis is configured"),
        false => format!("there is no database {name}: there are {}", names.join(", ")),
    }
}

fn database_json(database: &Database) -> Value {
    let record = database.recorded().map(|record| {
        json!({
            "epoch": record.epoch, "change": record.change, "node": record.node, "decided": record.decided, "in_sync": record.in_sync, "position": record.position, "relaxed": record.relaxed,
        })
    });
    let members = database.members.iter().map(|member| {
        let position = member.position.as_ref();
        json!({
            "node": member.node, "role": member.role, "state": said(&member.condition),
            "executed": position.and_then(|p| p.executed.as_ref()), "received": position.and_then(|p| p.received.as_ref()),
            "as_of": position.map(|p| &p.round), "current": position.map(|p| is_current(database, &p.round)),
            "lag": lag(database, member).map(|b| b.count), "lag_unit": lag(database, member).map(|b| b.unit),
            "lag_seconds": now(member).and_then(|now| now.seconds), "asked": now(member).is_some(),
            "acknowledges": member.acknowledges, "readable": member.readable, "score": member.score, "failures": member.failures,
            "watcher": member.watched,
        })
    });
    let mut said = json!({
        "name": database.name, "clone": database.clone, "durability": database.durability(), "acknowledgements": database.needed(),
        "record": record, "members": members.collect::<Vec<_>>(),
        "leftovers": database.leftovers.iter().map(|left| &left.id).collect::<Vec<_>>(),
    });
    if let (Some(pause), Some(object)) = (&database.pause, said.as_object_mut()) {
        object.insert("paused".to_owned(), json!({ "until": pause.until, "reason": pause.reason }));
    }
    said
}

/// What is recorded, in a line.
fn head_of(database: &Database) -> String {
    let mut out = format!("{}: ", database.clone);
    match &database.record {
        None => out.push_str("no promotion is recorded"),
        Some(Err(_)) => out.push_str("the record cannot be read"),
        Some(Ok(record)) => {
            let _ = write!(out, "epoch {}", record.epoch);
            if let Some(change) = record.change {
                let _ = write!(out, ".{change}");
            }
            let _ = write!(out, ", {} is recorded", record.node);
            if record.decided {
                out.push_str(" by an operator's decision");
            }
            let _ = write!(out, ", durability {}", database.durability());
            if let Some(needed) = database.needed() {
                let _ = write!(out, " (a write waits for {needed})");
            }
            let in_sync: Vec<&str> = record.in_sync.iter().map(String::as_str).collect();
            let _ = write!(out, ", in sync: {}", if in_sync.is_empty() { "nobody".to_owned() } else { in_sync.join(" ") });
        }
    }
    out
}

fn columns(database: &Database) -> Vec<&'static str> {
    let mut columns = vec!["NODE", "ROLE", "EXECUTED", "RECEIVED", "AS OF", "LAG", "ACK", "READABLE", "SCORE", "FAILS", "WATCHER", "STATE"];
    // Only one of the agents tells it.
    let told = database.members.iter().any(|member| member.readable.is_some());
    columns.retain(|column| told || *column != "READABLE");
    columns
}

fn cells(database: &Database, member: &Member, people: bool) -> Vec<String> {
    let position = member.position.as_ref();
    let limit = if people { POSITION_WIDTH } else { usize::MAX };
    let shown = |text: Option<&String>| text.map(|text| shortened(text, limit)).unwrap_or_default();
    let lag = lag(database, member).map(|behind| format!("{} {}", behind.count, behind.unit));
    let seconds = now(member).and_then(|now| now.seconds).map(|seconds| format!("{seconds} s"));
    let lag = lag.into_iter().chain(seconds).collect::<Vec<_>>().join(", ");
    let yes_or_no = |is: bool| if is { "yes".to_owned() } else { "no".to_owned() };
    let primary = member.role == PROMOTED;
    let mut cells = vec![
        member.node.clone(),
        member.role.clone(),
        shown(position.and_then(|p| p.executed.as_ref())),
        shown(position.and_then(|p| p.received.as_ref())),
        match now(member) {
            Some(_) => ASKED.to_owned(),
            None => position.map(|p| as_of(database, &p.round)).unwrap_or_default(),
        },
        if primary { String::new() } else { lag },
        if primary { String::new() } else { member.acknowledges.map(yes_or_no).unwrap_or_default() },
    ];
    if !people || database.members.iter().any(|member| member.readable.is_some()) {
        cells.push(member.readable.map(yes_or_no).unwrap_or_default());
    }
    cells.extend([
        member.score.clone().unwrap_or_default(),
        count(member.failures),
        member.watched.map(|runs| if runs { "runs".to_owned() } else { "gone".to_owned() }).unwrap_or_default(),
        said(&member.condition),
    ]);
    cells
}

/// Whether a position was published for the election that is held now: no primary has written anything since.
fn is_current(database: &Database, round: &str) -> bool {
    database.promoted().is_empty() && database.recorded().is_some_and(|record| record.round == round)
}

/// How far its server said that it is behind.
fn now(member: &Member) -> Option<&Now> {
    member.now.as_ref().and_then(|now| now.as_ref().ok())
}

/// How far a server is behind the primary, if it was asked, and else behind what is recorded. A position of an election that is over says
/// nothing of how far it is now.
fn lag(database: &Database, member: &Member) -> Option<Behind> {
    if let Some(now) = now(member) {
        return now.lag;
    }
    member.position.as_ref().filter(|position| is_current(database, &position.round)).and(member.behind)
}

/// How old a published position is: positions are published for an election, and stand until the next one.
fn as_of(database: &Database, round: &str) -> String {
    let stamp = round.split('-').next().unwrap_or_default();
    if is_current(database, round) {
        "now".to_owned()
    } else if stamp.split('.').all(|number| number == "0") {
        "first start".to_owned()
    } else {
        format!("end of {stamp}")
    }
}

/// A condition in words.
fn said(condition: &Condition) -> String {
    match condition {
        Condition::Fine => "in order".to_owned(),
        Condition::Degraded(why) => format!("DEGRADED: {why}"),
        Condition::Failed(why) => format!("FAILED: {why}"),
        Condition::Stopped(why) if why.is_empty() => "stopped".to_owned(),
        Condition::Stopped(why) => format!("stopped: {why}"),
        Condition::Unseen(why) => format!("UNKNOWN: {why}"),
    }
}
