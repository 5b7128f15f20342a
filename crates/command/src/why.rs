//! `systole why`: who can be promoted and who cannot, by the agents' own election on what the cluster knows. Pure.

use std::collections::{BTreeMap, BTreeSet};

use promotable::operator::{Answer, Inquiry};
use serde_json::{Value, json};

use crate::notices::{self, Level, NO_CONTROLLER, unfenced, unmanaged};
use crate::picture::{Condition, Database, Member, PROMOTED, Picture};
use crate::table::Table;

/// What a node is in for, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The node.
    pub node: String,
    /// Whether it can be promoted; `None` for who is promoted already, and where that is not known.
    pub eligible: Option<bool>,
    /// Whether it is promoted.
    pub promoted: bool,
    /// Its promotion score: whom Pacemaker asks first.
    pub score: Option<String>,
    /// Why.
    pub because: String,
}

/// What becomes of a cluster without the majority of its nodes.
const NO_QUORUM_LEFT: &str = "no quorum is left then: nobody is promoted before another node is back";

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// What is asked.
    pub question: String,
    /// The nodes.
    pub nodes: Vec<Considered>,
    /// What comes of it, and the way out.
    pub outcome: Vec<String>,
    /// Whether somebody is promoted, or would be.
    pub level: Level,
}

/// Why things are as they are, or what would be if a node were lost now.
///
/// # Errors
/// When there is no such node.
pub fn why(picture: &Picture, database: &Database, lost: Option<&str>) -> Result<Why, String> {
    let primary = database.promoted().first().map(|member| member.node.clone());
    match (lost, primary) {
        (Some(lost), _) if database.member(lost).is_err() => Err(database.member(lost).err().unwrap_or_default()),
        (Some(lost), Some(primary)) if primary != lost => Ok(a_replica_is_lost(picture, database, &primary, lost)),
        (Some(lost), Some(_)) => Ok(the_primary_is_lost(picture, database, lost)),
        (None, Some(primary)) => Ok(somebody_is_promoted(picture, database, &primary)),
        (lost, None) => Ok(nobody_is_promoted(picture, database, lost)),
    }
}

impl Why {
    /// For people.
    #[must_use]
    pub fn pretty(&self) -> String {
        format!("{}\n\n{}\n{}\n", self.question, self.table().pretty(), self.outcome.join("\n"))
    }

    /// For scripts.
    #[must_use]
    pub fn tsv(&self) -> String {
        self.table().tsv()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let nodes = self
            .nodes
            .iter()
            .map(|n| json!({ "node": n.node, "eligible": n.eligible, "promoted": n.promoted, "score": n.score, "because": n.because }));
        json!({ "question": self.question, "nodes": nodes.collect::<Vec<_>>(), "outcome": self.outcome, "level": self.level.word() })
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["NODE", "ELIGIBLE", "SCORE", "BECAUSE"]);
        for node in &self.nodes {
            let eligible = match node.eligible {
                None if node.promoted => "promoted",
                None => "unknown",
                Some(true) => "yes",
                Some(false) => "no",
            };
            table.row(vec![node.node.clone(), eligible.to_owned(), node.score.clone().unwrap_or_default(), node.because.clone()]);
        }
        table
    }

    /// Says that positions and acknowledgements are not known, where it is so: no other outcome can be told then.
    fn say_unheard(&mut self, picture: &Picture) -> bool {
        let Some(why) = &picture.unheard else { return false };
        self.outcome.push(format!("who can be promoted is not known: {why}; ask again, or on another node"));
        self.level = Level::Unknown;
        true
    }

    /// The nodes that Pacemaker would ask first, of those that can be promoted.
    fn first(&self) -> Vec<&str> {
        let eligible = || self.nodes.iter().filter(|node| node.eligible == Some(true));
        let best = eligible().map(|node| points(node.score.as_deref())).max();
        eligible().filter(|node| Some(points(node.score.as_deref())) == best).map(|node| node.node.as_str()).collect()
    }
}

/// A score as a number.
pub(crate) fn points(score: Option<&str>) -> i64 {
    match score {
        None | Some("-INFINITY") => -1_000_000,
        Some("INFINITY") => 1_000_000,
        Some(number) => number.parse().unwrap_or(0),
    }
}

/// What keeps Pacemaker from promoting here, whatever the data are.
pub(crate) fn barred(picture: &Picture, database: &Database, member: &Member) -> Option<String> {
    let node = &member.node;
    let Some(machine) = picture.node(node).filter(|machine| machine.online) else { return Some("the node is not there".into()) };
    if let Some(state) = machine.states.first() {
        return Some(match *state {
            "standby" => format!("the node is on standby: crm_standby --node {node} --delete"),
            other => format!("the node is {other}"),
        });
    }
    if !member.runs() {
        return Some(match &member.condition {
            Condition::Failed(why) => format!("{why}: crm_resource --cleanup --resource {} --node {node}", database.clone),
            Condition::Stopped(why) if !why.is_empty() => why.clone(),
            _ => "the instance does not run".to_owned(),
        });
    }
    let ban = database.leftovers.iter().find(|left| left.banned.as_ref() == Some(node));
    let banned = || ban.map(|left| format!("constraint {} forbids it: systole abort {}", left.id, database.name));
    unmanaged(picture, database, member).or_else(banned)
}

/// What the election says of a member.
fn ask(database: &Database, member: &Member, positions: &BTreeMap<String, String>, running: &BTreeSet<String>) -> (bool, String) {
    let inquiry = Inquiry {
        candidate: &member.node,
        record: database.record_text.as_deref(),
        positions,
        running,
        servers: database.servers,
        parameters: &database.parameters,
        decide: &database.decision(),
    };
    match database.kind.operator().elect(&inquiry) {
        Ok(Answer::Promote(reason)) => (true, reason),
        Ok(Answer::HandOver { to, reason }) => (false, format!("it would hand over to {to}: {reason}")),
        Ok(Answer::Refuse(reason)) => (false, reason),
        Err(why) => (false, why),
    }
}

/// The positions that the servers published, that of a lost one left out.
pub(crate) fn published_positions(database: &Database, lost: Option<&str>) -> BTreeMap<String, String> {
    let members = database.members.iter().filter(|member| Some(member.node.as_str()) != lost);
    members.filter_map(|member| Some((member.node.clone(), member.position_text.clone()?))).collect()
}

/// What the election says of each node, by these positions.
pub(crate) fn consider(
    picture: &Picture,
    database: &Database,
    positions: &BTreeMap<String, String>,
    lost: Option<&str>,
) -> Vec<Considered> {
    let there = |member: &&Member| Some(member.node.as_str()) != lost;
    let running = database.members.iter().filter(there).filter(|member| member.runs()).map(|member| member.node.clone()).collect();
    let considered = |member: &Member| {
        let (eligible, because) = match (barred(picture, database, member), &picture.unheard) {
            (Some(because), _) => (Some(false), because),
            // The election would take it for the servers' silence.
            (None, Some(why)) => (None, format!("what it holds is not known: {why}")),
            (None, None) => {
                let (eligible, because) = ask(database, member, positions, &running);
                (Some(eligible), because)
            }
        };
        Considered { node: member.node.clone(), eligible, promoted: false, score: member.score.clone(), because }
    };
    database.members.iter().filter(there).map(considered).collect()
}

/// What keeps everybody from being promoted.
pub(crate) fn obstacles(picture: &Picture, database: &Database) -> Vec<String> {
    let notices = notices::of(picture, &[]);
    let mut all: Vec<String> = notices.into_iter().filter(|notice| notice.level == Level::Broken).map(|notice| notice.text).collect();
    if picture.quorum && picture.controller.is_none() {
        all.push(NO_CONTROLLER.to_owned());
    }
    all.extend(unfenced(database));
    if picture.maintenance {
        all.push(
            "maintenance-mode is on, and nothing is promoted; end it with: crm_attribute --name maintenance-mode --update false".into(),
        );
    }
    all.extend(database.paused());
    if let Some(role) = &database.target_role {
        all.push(format!(
            "its target-role is {role}; undo that with: crm_resource --resource {} --meta --delete-parameter target-role",
            database.clone
        ));
    }
    all
}

fn nobody_is_promoted(picture: &Picture, database: &Database, lost: Option<&str>) -> Why {
    let positions = published_positions(database, lost);
    let without = lost.map_or_else(String::new, |lost| format!(", and who could be without {lost}"));
    let question = format!("{}: why is nobody promoted{without}?", database.clone);
    let mut why = Why { question, nodes: consider(picture, database, &positions, lost), outcome: Vec::new(), level: Level::Broken };
    why.outcome = obstacles(picture, database);
    if lost.is_some_and(|lost| !keeps_quorum(picture, lost)) {
        why.outcome.push(NO_QUORUM_LEFT.to_owned());
    }
    if why.say_unheard(picture) {
        return why;
    }
    if why.outcome.is_empty() {
        let first = why.first();
        why.outcome.push(if first.is_empty() {
            format!(
                "nobody can be promoted: do what the sentences say, or name the node whose data are right with: {}",
                database.decision()
            )
        } else {
            format!(
                "{} can be promoted: wait for Pacemaker's next attempt, or begin it with: crm_resource --cleanup --resource {}",
                first.join(" or "),
                database.clone
            )
        });
    }
    why
}

fn somebody_is_promoted(picture: &Picture, database: &Database, primary: &str) -> Why {
    let because = |member: &Member| match barred(picture, database, member) {
        _ if member.node == primary && matches!(member.condition, Condition::Failed(_)) => {
            "it was promoted and has failed, and Pacemaker lists it as promoted until it recovers it".to_owned()
        }
        _ if member.node == primary => match database.recorded() {
            Some(record) if record.node == primary => format!("it is promoted, and recorded (epoch {})", record.epoch),
            Some(record) => format!("it is promoted, and the record names {}: the monitor of {primary} says what to do", record.node),
            None => "it is promoted, and not recorded yet: wait for its monitor".to_owned(),
        },
        _ if member.role == PROMOTED => format!("it is promoted as well as {primary}"),
        Some(because) => because,
        None => format!("{primary} is promoted"),
    };
    let nodes = database.members.iter().map(|member| Considered {
        node: member.node.clone(),
        eligible: (member.role != PROMOTED).then_some(false),
        promoted: member.role == PROMOTED,
        score: member.score.clone(),
        because: because(member),
    });
    let recorded = database.recorded().is_some_and(|record| record.node == primary);
    let broken = notices::of(picture, &[database]).into_iter().filter(|notice| notice.level == Level::Broken);
    let mut outcome: Vec<String> = broken.map(|notice| notice.text).collect();
    let level = match (outcome.is_empty(), recorded) {
        (false, _) => Level::Broken,
        (true, true) => Level::Good,
        (true, false) => Level::Degraded,
    };
    outcome.push(format!("who would be promoted without it: systole why {} --if-lost {primary}", database.name));
    Why { question: format!("{}: why is {primary} promoted?", database.clone), nodes: nodes.collect(), outcome, level }
}

/// The majority of the nodes that is left when one more is lost. Remote and guest nodes have no vote. Two nodes are configured to go on
/// (two_node), or are not asked here.
fn keeps_quorum(picture: &Picture, lost: &str) -> bool {
    let voters = || picture.nodes.iter().filter(|node| node.votes);
    let (all, left) = (voters().count(), voters().filter(|node| node.online && node.name != lost).count());
    all <= 2 || left > all / 2
}

fn the_primary_is_lost(picture: &Picture, database: &Database, lost: &str) -> Why {
    let operator = database.kind.operator();
    let record = database.record_text.as_deref().unwrap_or_default();
    let foreseen = |member: &Member| operator.foreseen(record, member.acknowledges == Some(true));
    let running = database.members.iter().filter(|member| member.node != lost && member.runs());
    let positions = running.filter_map(|member| Some((member.node.clone(), foreseen(member)?))).collect();
    let mut nodes = consider(picture, database, &positions, Some(lost));
    for node in nodes.iter_mut().filter(|node| node.eligible == Some(true)) {
        if node.score.as_deref() == Some("-INFINITY") {
            *node = Considered {
                eligible: Some(false),
                because: "its agent gives it the score -INFINITY, and says why in its state".into(),
                ..node.clone()
            };
        } else {
            node.because = "it is in sync, so it holds all that is recorded and was acknowledged".into();
        }
    }
    let question = format!("{}: what if {lost}, the primary, is lost now?", database.clone);
    let mut why = Why { question, nodes, outcome: Vec::new(), level: Level::Good };
    let mut obstacles = obstacles(picture, database);
    if !keeps_quorum(picture, lost) {
        obstacles.push(NO_QUORUM_LEFT.to_owned());
    }
    if picture.unheard.is_some() {
        why.outcome = obstacles;
        why.say_unheard(picture);
        return why;
    }
    let first = why.first();
    why.outcome = if first.is_empty() {
        why.level = Level::Broken;
        obstacles.push(format!(
            "nobody would be promoted; bring {lost} back, or what is missing above; the last way out: {}",
            database.decision()
        ));
        obstacles
    } else if !obstacles.is_empty() {
        why.level = Level::Broken;
        obstacles
    } else {
        let mut outcome = vec![if first.len() == 1 {
            format!("{} would be promoted", first.join(""))
        } else {
            format!("{} would be promoted: whoever holds the most then, and Pacemaker chooses among equal ones", first.join(" or "))
        }];
        if let Some(wait) = after_promotion(database, lost) {
            why.level = Level::Broken;
            outcome.push(wait);
        }
        if !picture.fencing {
            why.level = why.level.max(Level::Degraded);
            outcome.push("fencing is off: if the network breaks and not the node, both take writes".into());
        }
        outcome
    };
    why
}

/// Whether writes go on after the loss of the primary, where they wait for replicas.
fn after_promotion(database: &Database, lost: &str) -> Option<String> {
    let needed = database.needed()?;
    let left = database.members.iter().filter(|member| member.node != lost && member.runs()).count().saturating_sub(1);
    (left < needed).then(|| format!("writes wait then: {left} replicas are left, and a write waits for {needed}"))
}

/// What becomes of writes when this replica is lost, and the primary stays.
fn writes_without(database: &Database, primary: &str, lost: &str) -> (String, Level) {
    let left = database.acknowledging().map(|able| able.iter().filter(|member| member.node != lost).count());
    match (database.needed(), left) {
        (Some(needed), Some(left)) if left < needed => (
            format!("{primary} stays the primary, and writes wait: {left} replicas acknowledge, and a write waits for {needed}"),
            Level::Broken,
        ),
        (Some(_), None) => {
            (format!("{primary} stays the primary; whether writes go on is not known, as what acknowledges is not"), Level::Unknown)
        }
        _ => (format!("{primary} stays the primary, and writes go on"), Level::Good),
    }
}

fn a_replica_is_lost(picture: &Picture, database: &Database, primary: &str, lost: &str) -> Why {
    let stays = keeps_quorum(picture, lost);
    let others = database.members.iter().filter(|member| member.node != lost);
    let considered = |member: &Member| Considered {
        node: member.node.clone(),
        eligible: (member.role != PROMOTED).then_some(false),
        promoted: member.role == PROMOTED,
        score: member.score.clone(),
        because: match (member.node == primary, member.acknowledges) {
            (true, _) if stays => "it is promoted, and stays so".to_owned(),
            (true, _) => "it is promoted, and does not stay so".to_owned(),
            (false, Some(true)) => "it acknowledges".to_owned(),
            (false, Some(false)) => "it does not acknowledge".to_owned(),
            (false, None) => "whether it acknowledges is not known".to_owned(),
        },
    };
    let (outcome, level) = if stays {
        writes_without(database, primary, lost)
    } else {
        (format!("{NO_QUORUM_LEFT}; Pacemaker stops {primary} as well"), Level::Broken)
    };
    Why {
        question: format!("{}: what if {lost}, a replica, is lost now?", database.clone),
        nodes: others.map(considered).collect(),
        outcome: vec![outcome],
        level,
    }
}
