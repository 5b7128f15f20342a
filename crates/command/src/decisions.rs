//! An operator's decision whose data are right, before anything is done: what is given up by it, or why there is nothing to decide. Pure.

use promotable::operator::{Behind, Excess};
use serde_json::{Value, json};

use crate::notices::Level;
use crate::picture::{Database, Member, PROMOTED, Picture};
use crate::table::Table;
use crate::why::{Considered, barred, consider, obstacles, published_positions};

/// A decision that can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The clone.
    pub clone: String,
    /// The node whose data are right.
    pub node: String,
    /// The record that it is made from, as it stands in the CIB.
    pub before: Option<String>,
    /// The record that is put in its place.
    pub record: String,
    /// The nodes.
    pub nodes: Vec<Holding>,
    /// Whether acknowledged writes may be among what is given up.
    pub acknowledged: String,
    /// What becomes of the other servers.
    pub others: &'static str,
}

/// What a node holds, compared with the one that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The node.
    pub node: String,
    /// Its position, when it said one for this election.
    pub position: Option<String>,
    /// What it holds and the named one lacks.
    pub given_up: GivenUp,
    /// What the named one holds and it lacks.
    pub lacks: Option<String>,
}

/// What would be lost of a node's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// It is the named one itself.
    Named,
    /// Nothing.
    Nothing,
    /// This.
    Known(String),
    /// Nobody knows, because of this.
    Unknown(String),
}

impl GivenUp {
    fn text(&self) -> String {
        match self {
            Self::Named => "its data are right".to_owned(),
            Self::Nothing => "nothing".to_owned(),
            Self::Known(what) => what.clone(),
            Self::Unknown(why) => format!("not known: {why}"),
        }
    }
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoDecision {
    /// The record names that node already.
    There(String),
    /// This stands in the way.
    Refused(String),
}

/// What it would be to name a node, or why it is not to be named.
///
/// # Errors
/// When it is named already, or must not be.
pub fn decision(picture: &Picture, database: &Database, node: &str) -> Result<Decision, NoDecision> {
    let member = permitted(picture, database, node).map_err(NoDecision::Refused)?;
    let positions = published_positions(database, None);
    let considered = consider(picture, database, &positions, None);
    let named_already = database.recorded().is_some_and(|record| record.decided && record.node == node);
    let eligible: Vec<&str> = considered.iter().filter(|c| c.eligible == Some(true)).map(|c| c.node.as_str()).collect();
    if named_already {
        return Err(NoDecision::There(format!("{}: the record names {node} already", database.clone)));
    }
    if !eligible.is_empty() {
        return Err(NoDecision::Refused(format!(
            "there is nothing to decide, {} can be promoted without it: wait for Pacemaker's next attempt, or begin it with: crm_resource \
             --cleanup --resource {}",
            eligible.join(" or "),
            database.clone
        )));
    }
    let operator = database.kind.operator();
    let round = operator.round(database.record_text.as_deref()).ok();
    known(database, member, round.as_deref()).map_err(NoDecision::Refused)?;
    let nodes: Vec<Holding> = database.members.iter().map(|other| holding(database, member, other, round.as_deref())).collect();
    Ok(Decision {
        clone: database.clone.clone(),
        node: node.to_owned(),
        record: operator.decision(database.record_text.as_deref(), node),
        before: database.record_text.clone(),
        acknowledged: acknowledged(database, node, &nodes, &considered),
        nodes,
        others: match database.kind {
            crate::picture::Kind::MySql => "whoever holds what it lacks has diverged then, and has to be made anew",
            crate::picture::Kind::Redis => "they become its replicas, and lose what only they hold",
        },
    })
}

/// The member that is to be named, where somebody may be named at all.
fn permitted<'a>(picture: &Picture, database: &'a Database, node: &str) -> Result<&'a Member, String> {
    if let Some(why) = &picture.unheard {
        return Err(format!("what the servers hold is not known: {why}"));
    }
    let member = database.member(node)?;
    let promoted: Vec<&str> = database.promoted().iter().map(|member| member.node.as_str()).collect();
    if !promoted.is_empty() {
        return Err(format!(
            "{} is promoted, and a primary in office does not look at a decision; to move the role: systole switchover {}",
            promoted.join(" and "),
            database.name
        ));
    }
    if let Some(obstacle) = obstacles(picture, database).into_iter().next() {
        return Err(format!("no decision helps here: {obstacle}"));
    }
    barred(picture, database, member).map_or(Ok(member), |why| Err(format!("{node} cannot be promoted: {why}")))
}

/// Whether the node has said what it holds, and can be promoted with it. Where the record cannot be read, no election is held, and nobody says
/// anything.
fn known(database: &Database, member: &Member, round: Option<&str>) -> Result<(), String> {
    let Some(round) = round else { return Ok(()) };
    match member.position.as_ref().filter(|position| position.round == round) {
        None => Err(format!(
            "{} has not said what it holds since the primary is gone: wait for Pacemaker's next attempt (systole why {}), or see its log",
            member.node, database.name
        )),
        Some(position) => position.unfit.map_or(Ok(()), |why| Err(format!("{} cannot be promoted: {why}", member.node))),
    }
}

fn holding(database: &Database, named: &Member, other: &Member, round: Option<&str>) -> Holding {
    let position = other.position.as_ref().filter(|position| Some(position.round.as_str()) == round);
    let said = position.and_then(|position| position.executed.clone());
    let text = |member: &Member| member.position_text.clone().unwrap_or_default();
    let operator = database.kind.operator();
    let silent = || position.and_then(|position| position.unfit).unwrap_or("nothing was heard of it").to_owned();
    let excess = said.is_some().then(|| operator.excess(&text(other), &text(named))).flatten();
    let lacks = said.is_some().then(|| operator.excess(&text(named), &text(other))).flatten();
    Holding {
        node: other.node.clone(),
        given_up: match excess {
            _ if other.node == named.node => GivenUp::Named,
            None => GivenUp::Unknown(silent()),
            Some(Excess::Nothing) => GivenUp::Nothing,
            Some(excess) => GivenUp::Known(words(&excess)),
        },
        lacks: lacks.filter(|lacks| *lacks != Excess::Nothing && other.node != named.node).as_ref().map(words),
        position: said,
    }
}

/// How much that is.
fn words(excess: &Excess) -> String {
    let counted = |amount: &Option<Behind>| amount.map(|amount| format!("{} {}", amount.count, amount.unit));
    match excess {
        Excess::Nothing => "nothing".to_owned(),
        Excess::Incomparable => "data that cannot be compared".to_owned(),
        Excess::Known { amount, names } => {
            let all: Vec<String> = counted(amount).into_iter().chain(names.clone()).collect();
            all.join(": ")
        }
    }
}

/// Whether a client may have been told of something that is given up: the election's own words about the node say why it cannot tell.
fn acknowledged(database: &Database, node: &str, nodes: &[Holding], considered: &[Considered]) -> String {
    let lost = nodes.iter().any(|holding| !matches!(holding.given_up, GivenUp::Named | GivenUp::Nothing));
    let because = considered.iter().find(|c| c.node == node).map(|c| c.because.as_str()).unwrap_or_default();
    match (&database.record, lost) {
        (None, false) => "nothing is given up that is known, and no promotion is recorded, so no client was promised anything".to_owned(),
        (None, true) => format!("no promotion is recorded, so no client was promised anything here; the election says: {because}"),
        (Some(_), false) => format!("nothing is given up that is known; the election says: {because}"),
        (Some(_), true) => format!("acknowledged writes may be among what is given up; the election says: {because}"),
    }
}

impl Decision {
    /// For people.
    #[must_use]
    pub fn pretty(&self) -> String {
        format!(
            "{}: what is given up when the data of {} are right?\n\n{}\n{}\nthe others: {}\nthe record would be: {}\n",
            self.clone,
            self.node,
            self.table().pretty(),
            self.acknowledged,
            self.others,
            self.record
        )
    }

    /// For scripts.
    #[must_use]
    pub fn tsv(&self) -> String {
        self.table().tsv()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let nodes = self.nodes.iter().map(|holding| {
            json!({ "node": holding.node, "holds": holding.position, "given_up": holding.given_up.text(),
                    "known": !matches!(holding.given_up, GivenUp::Unknown(_)), "lacks": holding.lacks })
        });
        json!({ "database": self.clone, "node": self.node, "nodes": nodes.collect::<Vec<_>>(), "acknowledged": self.acknowledged,
                "record_before": self.before, "record": self.record, "level": Level::Broken.word() })
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["NODE", "HOLDS", "GIVEN UP OF IT", "IT LACKS"]);
        for holding in &self.nodes {
            let cells = [Some(holding.node.clone()), holding.position.clone(), Some(holding.given_up.text()), holding.lacks.clone()];
            table.row(cells.into_iter().map(Option::unwrap_or_default).collect());
        }
        table
    }
}

/// Whether the decision has come about: that node is promoted, and recorded as a primary.
#[must_use]
pub fn is_done(database: &Database, node: &str) -> bool {
    let promoted = database.members.iter().filter(|member| member.role == PROMOTED).map(|member| member.node.as_str());
    promoted.eq([node]) && database.recorded().is_some_and(|record| record.node == node && !record.decided)
}
