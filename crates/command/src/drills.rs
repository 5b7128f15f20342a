//! A drill, before anything is done and after it: what is done and what that costs, or why not; what the markers say. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use promotable::operator::Marker;
use serde_json::{Value, json};

use crate::moves::{self, NoPlan};
use crate::notices::{self, Level, NO_FENCING, Notice};
use crate::picture::{Database, Kind, PROMOTED, Picture};
use crate::table::Table;

/// What is practised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Practised {
    /// A planned move, to this node where one is named.
    Move(Option<String>),
    /// The primary's server is killed.
    Kill,
}

/// A drill that can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The resource.
    pub name: String,
    /// The clone.
    pub clone: String,
    /// Which agent.
    pub kind: Kind,
    /// What is practised; a move has its node.
    pub practised: Practised,
    /// The primary.
    pub from: String,
    /// The epoch that ends.
    pub epoch: u64,
    /// The nodes with a server.
    pub nodes: Vec<String>,
    /// How many replicas have to confirm a marker of Redis.
    pub confirmations: u64,
    /// How many replicas acknowledge.
    pub acknowledging: usize,
    /// What clients are promised.
    pub durability: String,
    /// Whether the cluster has fencing.
    pub fencing: bool,
}

/// The database that is meant: the one that is named, or the only one.
///
/// # Errors
/// When none is named and there is not exactly one.
pub fn chosen(picture: &Picture, name: Option<&str>) -> Result<String, String> {
    let names: Vec<&str> = picture.databases.iter().map(|database| database.name.as_str()).collect();
    match (name, names.as_slice()) {
        (Some(name), _) => Ok(name.to_owned()),
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => Err("no database of ocf:systole is configured".into()),
        (None, several) => Err(format!("there are several databases, name one of them: {}", several.join(", "))),
    }
}

/// What a drill would do.
///
/// # Errors
/// What stands in the way, with what mends it. A drill in a cluster that is not in order is an accident.
pub fn plan(picture: &Picture, database: &Database, practised: &Practised) -> Result<Plan, String> {
    let nodes: Vec<String> = database.members.iter().filter(|member| member.runs()).map(|member| member.node.clone()).collect();
    if nodes.len() < 2 {
        return Err(format!(
            "{} has {} server that runs, and nobody could take over: start another one (systole status {})",
            database.clone,
            nodes.len(),
            database.name
        ));
    }
    let to = if let Practised::Move(to) = practised { to.as_deref() } else { None };
    // For a kill as well: somebody has to be there who can be promoted.
    let planned = moves::plan(picture, database, to).map_err(|none| match none {
        NoPlan::There(word) => format!("{word}: name another node with --to"),
        NoPlan::Refused(why) => why,
    })?;
    if let Some(notice) = of_weight(picture, database).into_iter().next() {
        return Err(format!("{} (a drill begins only where systole check {} has nothing to say)", notice.text, database.name));
    }
    Ok(Plan {
        name: database.name.clone(),
        clone: database.clone.clone(),
        kind: database.kind,
        practised: if *practised == Practised::Kill { Practised::Kill } else { Practised::Move(Some(planned.to)) },
        from: planned.from,
        epoch: planned.epoch,
        confirmations: u64::try_from(database.servers.unwrap_or(nodes.len()) / 2).unwrap_or(1).max(1),
        nodes,
        acknowledging: acknowledging(database)?,
        durability: database.durability().to_owned(),
        fencing: picture.fencing,
    })
}

/// How many replicas acknowledge.
fn acknowledging(database: &Database) -> Result<usize, String> {
    let able = database.acknowledging().map(|able| able.len());
    able.ok_or_else(|| format!("which replicas of {} acknowledge is not known now: systole status {}", database.clone, database.name))
}

/// What is wrong. That there is no fencing is said and hinders no drill: the death of a process is seen without it.
fn of_weight(picture: &Picture, database: &Database) -> Vec<Notice> {
    notices::of(picture, &[database]).into_iter().filter(|notice| notice.text != NO_FENCING).collect()
}

impl Plan {
    /// What is going to be done and what it costs, for who has to agree to it.
    #[must_use]
    pub fn announcement(&self) -> String {
        let Self { clone, name, from, .. } = self;
        let done = match &self.practised {
            Practised::Move(to) => format!("the primary is moved from {from} to {}", to.as_deref().unwrap_or("another node")),
            Practised::Kill => format!("the server of {from}, the primary, is killed with SIGKILL, and Pacemaker promotes another one"),
        };
        let ends = match self.kind {
            Kind::MySql => "connections to it end, and what they have not committed is undone",
            Kind::Redis => "connections to it end",
        };
        let markers = match self.kind {
            Kind::MySql => "the table systole_drill.marker, which is dropped at the end".to_owned(),
            Kind::Redis => "keys systole:drill:*, which are deleted at the end".to_owned(),
        };
        let mut lines = vec![
            format!("{clone}: {done}"),
            format!(
                "it costs: clients cannot write until another one is promoted (systole history {name} shows how long that took); {ends}"
            ),
            format!("meanwhile systole writes at most 50 markers a second into {markers}"),
        ];
        if self.practised == Practised::Kill {
            lines.push(format!("until the server of {from} is back, one replica less acknowledges"));
        }
        if self.kind == Kind::Redis && self.practised == Practised::Kill && self.durability != "quorum" {
            let count = self.confirmations;
            lines.push(format!(
                "with durability=async, writes of clients that no replica has yet are lost; markers wait for {count} (WAIT)"
            ));
        }
        if !self.fencing {
            lines.push(format!("note: {NO_FENCING}"));
        }
        lines.join("\n") + "\n"
    }
}

/// Who is promoted in a cluster that is as it was before the drill.
///
/// # Errors
/// What is not as before, or not yet. That Pacemaker remembers the failure of the server that was killed is no lack.
pub fn whole(picture: &Picture, database: &Database, plan: &Plan) -> Result<String, String> {
    let record = database.recorded().ok_or("no promotion is recorded")?;
    if record.epoch <= plan.epoch {
        return Err(format!("{} is recorded as before: nobody was promoted since", record.node));
    }
    let of_the_kill =
        |notice: &Notice| plan.practised == Practised::Kill && notice.text.starts_with(&format!("{} has failed (fail count ", plan.from));
    if let Some(notice) = of_weight(picture, database).into_iter().find(|notice| !of_the_kill(notice)) {
        return Err(notice.text);
    }
    if let Some(missing) = plan.nodes.iter().find(|node| !database.member(node).is_ok_and(|member| member.runs())) {
        return Err(format!("the instance on {missing} does not run"));
    }
    let acknowledging = acknowledging(database)?;
    if acknowledging < plan.acknowledging {
        return Err(format!("{acknowledging} replicas acknowledge, and {} did before", plan.acknowledging));
    }
    let promoted = database.members.iter().find(|member| member.role == PROMOTED);
    promoted.map(|member| member.node.clone()).ok_or_else(|| "nobody is promoted".into())
}

/// What the writers told, in the order and by the clock of the node that asks.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// When a marker was acknowledged, since the drill began.
    pub acknowledged: Vec<(Duration, Marker)>,
    /// The markers that were sent and never answered: they may be there or not.
    pub unanswered: BTreeSet<Marker>,
    /// Why the writer of a node wrote nothing the last time.
    pub refusals: BTreeMap<String, String>,
}

impl Log {
    /// Takes a line of a writer: `+ 7` is acknowledged, `? 7 WHY` is not known, `- WHY` was not written.
    pub fn hear(&mut self, at: Duration, node: &str, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        match (word, number()) {
            ("+", Some(number)) => self.acknowledged.push((at, (node.to_owned(), number))),
            ("?", Some(number)) => drop(self.unanswered.insert((node.to_owned(), number))),
            ("-", _) => drop(self.refusals.insert(node.to_owned(), rest.to_owned())),
            _ => {}
        }
    }

    /// How many markers a node has acknowledged since then.
    #[must_use]
    pub fn count(&self, node: &str, since: Duration) -> usize {
        self.acknowledged.iter().filter(|(at, (by, _))| by == node && *at >= since).count()
    }

    /// The highest number that each writer may have written.
    #[must_use]
    pub fn highest(&self) -> BTreeMap<&str, u64> {
        let mut all = BTreeMap::new();
        for (node, number) in self.acknowledged.iter().map(|(_, marker)| marker).chain(&self.unanswered) {
            let highest = all.entry(node.as_str()).or_insert(0);
            *highest = (*highest).max(*number);
        }
        all
    }

    /// The times between acknowledged markers, and which of them is the longest.
    fn gaps(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.acknowledged.iter().map(|(at, _)| *at).collect();
        times.sort_unstable();
        let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        gaps.sort_unstable();
        gaps
    }

    /// The markers that were acknowledged and are not among these.
    #[must_use]
    pub fn lacking(&self, held: &BTreeSet<Marker>) -> BTreeSet<Marker> {
        self.acknowledged.iter().map(|(_, marker)| marker).filter(|marker| !held.contains(*marker)).cloned().collect()
    }
}

/// What was seen of a drill.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the writers told.
    pub log: Log,
    /// When the fault was, since the drill began.
    pub fault: Duration,
    /// Who is the primary now, as far as it is known.
    pub promoted: Option<String>,
    /// Which of the markers each server holds, or why that is not known.
    pub held: BTreeMap<String, Result<BTreeSet<Marker>, String>>,
    /// How long after the fault the cluster was as before, or what it lacks.
    pub whole: Result<Duration, String>,
}

/// What one server holds of the acknowledged markers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// All of them.
    All,
    /// It lacks these.
    Lacks(BTreeSet<Marker>),
    /// Nobody knows.
    Unknown(String),
}

/// The verdict.
#[derive(Clone, Debug)]
pub struct Verdict {
    plan: Plan,
    /// The longest time between two acknowledged markers, and the usual one. `None`: none was acknowledged after the fault.
    pub outage: Option<(Duration, Duration)>,
    /// How many were acknowledged.
    pub acknowledged: usize,
    /// How many were sent and never answered.
    pub unanswered: usize,
    /// Who is the primary.
    pub promoted: Option<String>,
    /// What the new primary holds.
    pub primary: Holds,
    /// What the replicas hold.
    pub replicas: BTreeMap<String, Holds>,
    /// How long it took until all was as before, or what is not.
    pub whole: Result<Duration, String>,
}

impl Verdict {
    /// What is to be said of what was seen. Who could not be asked is not taken to hold anything.
    #[must_use]
    pub fn of(plan: &Plan, seen: &Seen) -> Self {
        let log = &seen.log;
        let gaps = log.gaps();
        let after = log.acknowledged.iter().any(|(at, (node, _))| *at > seen.fault && seen.promoted.as_ref() == Some(node));
        let holds = |node: &str| match seen.held.get(node) {
            Some(Ok(held)) => Some(log.lacking(held)).filter(|lacking| !lacking.is_empty()).map_or(Holds::All, Holds::Lacks),
            Some(Err(why)) => Holds::Unknown(why.clone()),
            None => Holds::Unknown("was not asked".into()),
        };
        let replicas = plan.nodes.iter().filter(|node| seen.promoted.as_ref() != Some(node));
        Self {
            outage: gaps.last().filter(|_| after).map(|longest| (*longest, gaps[gaps.len() / 2])),
            acknowledged: log.acknowledged.len(),
            unanswered: log.unanswered.len(),
            primary: seen.promoted.as_deref().map_or_else(|| Holds::Unknown("nobody is promoted".into()), holds),
            replicas: replicas.map(|node| (node.clone(), holds(node))).collect(),
            promoted: seen.promoted.clone(),
            whole: seen.whole.clone(),
            plan: plan.clone(),
        }
    }

    /// How good it is. `Good` only when nothing was lost, and the cluster is as before.
    #[must_use]
    pub fn level(&self) -> Level {
        match &self.primary {
            Holds::Lacks(_) => Level::Broken,
            Holds::Unknown(_) => Level::Unknown,
            Holds::All if self.whole.is_err() || self.outage.is_none() => Level::Degraded,
            Holds::All if self.replicas.values().any(|holds| *holds != Holds::All) => Level::Degraded,
            Holds::All => Level::Good,
        }
    }

    /// The sentence that counts.
    #[must_use]
    pub fn sentence(&self) -> String {
        let name = &self.plan.name;
        match (&self.primary, &self.whole) {
            (Holds::Lacks(lost), _) => format!(
                "{} acknowledged markers are lost: {}; keep the servers as they are, and look with: systole report {name} --html FILE",
                lost.len(),
                named(lost)
            ),
            (Holds::Unknown(why), _) => {
                format!("whether anything was lost is not known: {} {why}: systole status {name}", self.promoted.as_deref().unwrap_or("-"))
            }
            (Holds::All, Err(why)) => format!("nothing was lost, and the cluster is not as before: {why}: systole status {name}"),
            (Holds::All, Ok(_)) if self.outage.is_none() => {
                format!("nothing was lost, and no marker was acknowledged by the new primary: systole status {name}")
            }
            (Holds::All, Ok(_)) => match self.replicas.iter().find(|(_, holds)| **holds != Holds::All) {
                Some((node, Holds::Unknown(why))) => {
                    format!("nothing was lost, and what {node} holds is not known: it {why}: systole status {name} --live")
                }
                Some((node, _)) => format!("nothing was lost, and {node} has not got all of it: systole status {name} --live"),
                None => "nothing was lost, and the cluster is as before".to_owned(),
            },
        }
    }

    fn done(&self) -> &'static str {
        if self.plan.practised == Practised::Kill { "kill" } else { "move" }
    }

    /// For people.
    #[must_use]
    pub fn pretty(&self) -> String {
        let Plan { clone, from, .. } = &self.plan;
        let what = if self.plan.practised == Practised::Kill { "the server was killed on" } else { "the primary was moved away from" };
        let promoted = self.promoted.as_deref().map_or_else(|| "nobody is promoted".into(), |node| format!("{node} is the primary"));
        let outage = self.outage.map_or_else(
            || "none was acknowledged by the new primary".to_owned(),
            |(longest, usual)| format!("{:.2} s between two acknowledged markers, {} ms usually", longest.as_secs_f64(), usual.as_millis()),
        );
        let holds = |node: &str, holds: &Holds| match holds {
            Holds::All => format!("{node} holds all that were acknowledged"),
            Holds::Lacks(lost) => format!("{node} lacks {}: {}", lost.len(), named(lost)),
            Holds::Unknown(why) => format!("{node}: not known: {why}"),
        };
        let whole = self.whole.as_ref().map_or_else(Clone::clone, |after| format!("after {:.1} s", after.as_secs_f64()));
        let mut lines = vec![
            format!("{clone}: {what} {from}, and {promoted}"),
            format!("    no writes     {outage}"),
            format!("    markers       {} acknowledged, {} sent and not answered", self.acknowledged, self.unanswered),
            format!("    new primary   {}", holds(self.promoted.as_deref().unwrap_or("-"), &self.primary)),
        ];
        lines.extend(self.replicas.iter().map(|(node, of_it)| format!("    replica       {}", holds(node, of_it))));
        lines.push(format!("    as before     {whole}"));
        lines.push(format!("{}: {}", self.level().word(), self.sentence()));
        lines.join("\n") + "\n"
    }

    /// For scripts: one line.
    #[must_use]
    pub fn tsv(&self) -> String {
        let heads = [
            "RESOURCE",
            "DRILL",
            "FROM",
            "PRIMARY",
            "NO WRITES MS",
            "USUAL MS",
            "ACKNOWLEDGED",
            "UNANSWERED",
            "LOST",
            "AS BEFORE MS",
            "LEVEL",
            "SENTENCE",
        ];
        let number = |of: Option<Duration>| of.map(|of| of.as_millis().to_string()).unwrap_or_default();
        let mut table = Table::new(&heads);
        table.row(vec![
            self.plan.clone.clone(),
            self.done().to_owned(),
            self.plan.from.clone(),
            self.promoted.clone().unwrap_or_default(),
            number(self.outage.map(|(longest, _)| longest)),
            number(self.outage.map(|(_, usual)| usual)),
            self.acknowledged.to_string(),
            self.unanswered.to_string(),
            lost(&self.primary).map(|lost| lost.to_string()).unwrap_or_default(),
            number(self.whole.as_ref().ok().copied()),
            self.level().word().to_owned(),
            self.sentence(),
        ]);
        table.tsv()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let holds = |holds: &Holds| match holds {
            Holds::All => json!({ "lacks": [] }),
            Holds::Lacks(lost) => json!({ "lacks": lost.iter().map(|(node, number)| format!("{node}:{number}")).collect::<Vec<_>>() }),
            Holds::Unknown(why) => json!({ "unknown": why }),
        };
        let ms = |of: Duration| u64::try_from(of.as_millis()).unwrap_or(u64::MAX);
        let replicas: BTreeMap<&String, Value> = self.replicas.iter().map(|(node, of_it)| (node, holds(of_it))).collect();
        json!({
            "resource": self.plan.clone, "drill": self.done(), "from": self.plan.from, "primary": self.promoted,
            "no_writes_ms": self.outage.map(|(longest, _)| ms(longest)), "usual_ms": self.outage.map(|(_, usual)| ms(usual)),
            "acknowledged": self.acknowledged, "unanswered": self.unanswered, "lost": lost(&self.primary),
            "new_primary": holds(&self.primary), "replicas": replicas,
            "as_before_ms": self.whole.as_ref().ok().copied().map(ms), "not_as_before": self.whole.as_ref().err(),
            "level": self.level().word(), "sentence": self.sentence(),
        })
    }
}

fn lost(holds: &Holds) -> Option<usize> {
    match holds {
        Holds::All => Some(0),
        Holds::Lacks(lost) => Some(lost.len()),
        Holds::Unknown(_) => None,
    }
}

/// How many markers are named where some are missing.
const NAMED: usize = 5;

fn named(markers: &BTreeSet<Marker>) -> String {
    let names: Vec<String> = markers.iter().take(NAMED).map(|(node, number)| format!("{node}:{number}")).collect();
    let more = if markers.len() > NAMED { ", ..." } else { "" };
    names.join(", ") + more
}
