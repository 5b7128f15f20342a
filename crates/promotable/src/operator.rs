//! What the agent of a promotable database says to the operator's command: its record, its positions and its election, read by the agent's
//! own code. Texts go in as the cluster keeps them, and nothing but `local` and a drill touches anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ocf::{Context, Deadline, Environment, Log, Secret};
use serde::{Deserialize, Serialize};

/// How long a server that was killed is waited for.
const DYING: Duration = Duration::from_secs(10);

/// The round of a position that was published for no election.
pub const NO_ROUND: &str = "0.0";

/// The record of the last promotion, as an operator reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Counts promotions.
    pub epoch: u64,
    /// Counts rewrites within the epoch, where that is recorded.
    pub change: Option<u64>,
    /// The primary.
    pub node: String,
    /// Whether an operator wrote it.
    pub decided: bool,
    /// What clients were promised, where that is recorded.
    pub durability: Option<&'static str>,
    /// How many replicas acknowledge a commit, where commits wait for them.
    pub acknowledgements: Option<usize>,
    /// The replicas that may hold what was acknowledged (the in-sync set). Never contains the primary.
    pub in_sync: BTreeSet<String>,
    /// What the primary held when this was written.
    pub position: Option<String>,
    /// Whether the primary's disk may lack what it committed.
    pub relaxed: bool,
    /// The round of the next election: positions of it are current.
    pub round: String,
}

/// The private attribute by which a primary says whether its writes go on. Its monitor's words do not say it: Pacemaker keeps the first for
/// as long as the exit code is the same, and of several complaints there is room for one.
pub const WRITES: &str = "writes";

/// That attribute's value.
#[must_use]
pub fn print_writes(go_on: bool) -> &'static str {
    if go_on { "go" } else { "wait" }
}

/// Whether writes go on, by that attribute. `None` for what is none of its values.
#[must_use]
pub fn parse_writes(text: &str) -> Option<bool> {
    [true, false].into_iter().find(|go_on| print_writes(*go_on) == text)
}

/// A position that a server published for an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The election that it was published for.
    pub round: String,
    /// What the server had executed; `None` when it said nothing of its data.
    pub executed: Option<String>,
    /// What it had received, executed or not, when it followed somebody.
    pub received: Option<String>,
    /// Why it was no candidate.
    pub unfit: Option<&'static str>,
}

/// Where a server stands at this moment: what one node tells another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its position, as an agent publishes one, and of no election. `None` while its data are being replaced.
    pub position: Option<String>,
    /// By its own account, how many seconds it is behind the server that it follows.
    pub seconds: Option<u64>,
    /// How far it is where it is made to follow again: in words.
    #[serde(default)]
    pub rejoining: Option<String>,
}

/// How much a server lacks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// So much.
    pub count: u64,
    /// Of these: `transactions`, `bytes`.
    pub unit: &'static str,
}

/// What a server holds and another lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Nothing.
    Nothing,
    /// This.
    Known {
        /// How much, where it can be counted.
        amount: Option<Behind>,
        /// Its names, where it has any.
        names: Option<String>,
    },
    /// The two cannot be compared.
    Incomparable,
}

/// A question to the election.
#[derive(Clone, Debug)]
pub struct Inquiry<'a> {
    /// The candidate.
    pub candidate: &'a str,
    /// The record, as it stands in the CIB.
    pub record: Option<&'a str>,
    /// The published positions by node.
    pub positions: &'a BTreeMap<String, String>,
    /// The nodes whose instances run.
    pub running: &'a BTreeSet<String>,
    /// How many servers there may be.
    pub servers: Option<usize>,
    /// The resource's parameters, as they stand in the CIB.
    pub parameters: &'a BTreeMap<String, String>,
    /// How an operator decides: the command, with NODE for the node.
    pub decide: &'a str,
}

/// The election's answer about a candidate, with its reason as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is promoted.
    Promote(String),
    /// Another is better.
    HandOver {
        /// Who.
        to: String,
        /// Why.
        reason: String,
    },
    /// It is not promoted, and says why and what to do.
    Refuse(String),
}

/// What a node has of its own for a server: the programs and files that no other node sees.
#[derive(Debug, Default)]
pub struct Local {
    /// The server's program.
    pub program: PathBuf,
    /// Its data directory, and what is left there.
    pub data: Option<(PathBuf, process::Space)>,
    /// Passwords that have to be the same on all nodes, by what they are called.
    pub secrets: Vec<(&'static str, Secret)>,
}

/// A context for the agent's own code outside of an action: of this resource with these parameters, answering within so long.
#[must_use]
pub fn context(resource: &str, parameters: &BTreeMap<String, String>, limit: Duration) -> Context {
    let given = parameters.iter().map(|(name, value)| (format!("OCF_RESKEY_{name}"), value.clone()));
    let environment = Environment::from_pairs(given.chain([("OCF_RESOURCE_INSTANCE".to_owned(), resource.to_owned())]));
    Context { log: Log::open("systole", "operator", &environment).into(), environment, deadline: Deadline::after(limit) }
}

/// What became of a marker that a drill wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marked {
    /// The server acknowledged it, as it acknowledges what a client must not lose.
    Acknowledged,
    /// It was not written: the server takes no writes, or there is none.
    Refused(String),
    /// It was sent, and nobody knows whether it was written.
    Unknown(String),
}

/// A marker: the node whose writer wrote it, and which one of that writer it is, from 1.
pub type Marker = (String, u64);

/// The name of a marker where it is kept: the drill, the node, the number.
#[must_use]
pub fn marker_name(drill: &str, (node, number): &Marker) -> String {
    format!("{drill}:{node}:{number}")
}

/// The marker of a drill that has this name.
#[must_use]
pub fn marker_of(drill: &str, name: &str) -> Option<Marker> {
    let (node, number) = name.strip_prefix(drill)?.strip_prefix(':')?.rsplit_once(':')?;
    Some((node.to_owned(), number.parse().ok()?))
}

/// What a drill does to the server of one node, by the agent's own login.
pub trait Practice {
    /// Makes room for the markers of a drill on the primary, and removes what older drills have left.
    ///
    /// # Errors
    /// Why no markers can be written there, with the command that mends it.
    fn prepare(&self) -> Result<(), String>;

    /// Writes a marker, on one connection for as long as that holds. `confirmations`: how many replicas have to
    /// confirm it, where the server does not wait for them by itself.
    fn mark(&mut self, name: &str, confirmations: u64) -> Marked;

    /// Which of these markers the server holds.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn held(&self, drill: &str, among: &[Marker]) -> Result<BTreeSet<Marker>, String>;

    /// Removes the markers of a drill from the primary.
    ///
    /// # Errors
    /// When it cannot.
    fn forget(&self, drill: &str, among: &[Marker]) -> Result<(), String>;

    /// Kills the server with SIGKILL, if it is the primary and takes writes.
    ///
    /// # Errors
    /// When it is not, or that cannot be seen: then nothing is done.
    fn kill(&self) -> Result<(), String>;
}

/// Kills the server of a drill. Returns when it is dead.
///
/// # Errors
/// When there is none, or it does not die.
pub fn killed(server: Option<process::Identity>) -> Result<(), String> {
    let server = server.ok_or("the process of its server is not found: systole status")?;
    server.kill();
    if server.wait_dead(DYING) { Ok(()) } else { Err(format!("its server (pid {}) was killed and does not die", server.pid)) }
}

/// What the operator's command asks of an agent.
pub trait Operator {
    /// Reads a record.
    ///
    /// # Errors
    /// What is wrong with it.
    fn recorded(&self, text: &str) -> Result<Recorded, String>;

    /// Reads a position, `None` for anything else.
    fn published(&self, text: &str) -> Option<Published>;

    /// Whether a replica said of itself that it acknowledges (`true`), or that it has ceased to under this record (`false`). `None` when
    /// the record alone says it.
    fn acknowledges(&self, membership: &str, record: &str) -> Option<bool>;

    /// What a server with this position lacks of what was recorded. `None` when the two cannot be compared.
    fn behind(&self, position: &str, record: &str) -> Option<Behind>;

    /// What a server with this position holds, and one with the position `other` lacks. `None` when one of them did not say what it holds.
    fn excess(&self, position: &str, other: &str) -> Option<Excess>;

    /// What a server with this position has not executed of what one with the position `primary` has. `None` when the two cannot be
    /// compared.
    fn lag(&self, position: &str, primary: &str) -> Option<Behind>;

    /// The round of the next election: positions of it are current.
    ///
    /// # Errors
    /// What is wrong with the record.
    fn round(&self, record: Option<&str>) -> Result<String, String>;

    /// The record by which an operator names the node whose data are right. It counts on from the promotion that is recorded. Only what a
    /// primary wrote is counted on from: replicas remember the highest epoch that they saw, so one that somebody mistyped must not be
    /// taken over, and without an epoch the agents count on from what they remember.
    fn decision(&self, record: Option<&str>, node: &str) -> String {
        match record.and_then(|text| self.recorded(text).ok()).filter(|record| !record.decided) {
            Some(record) => format!("epoch={} node={node}", record.epoch),
            None => format!("node={node}"),
        }
    }

    /// The words with which a primary's monitor begins to say that writes are not answered.
    fn no_writes(&self) -> &'static str;

    /// Whether the state that a primary's monitor tells is that writes are not answered.
    fn stops_writes(&self, state: &str) -> bool {
        state.contains(self.no_writes())
    }

    /// The position that a running replica would publish if the primary were lost now, as far as the record tells: one in the in-sync set
    /// is taken to hold all that was recorded, another one nothing that counts. `None` without a record of a promotion.
    fn foreseen(&self, record: &str, in_sync: bool) -> Option<String>;

    /// What the election says about a candidate.
    ///
    /// # Errors
    /// When record or parameters cannot be read.
    fn elect(&self, inquiry: &Inquiry<'_>) -> Result<Answer, String>;

    /// What this node has of its own for a server with these parameters. What cannot be read is left out: `validate-all` says why.
    ///
    /// # Errors
    /// When the parameters cannot be read.
    fn local(&self, resource: &str, parameters: &BTreeMap<String, String>) -> Result<Local, String>;
}
