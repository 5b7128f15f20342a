//! What is known of the cluster's services, put together from the CIB, `crm_mon` and the agents' private attributes. Pure.

use std::collections::{BTreeMap, BTreeSet};

use promotable::operator::{Behind, Operator, Published, Recorded, Standing, parse_writes};

use crate::cib::{Cib, Leftover, Operation, Pause, Primitive, is_true};
use crate::crm_mon::{Instance, Machine, Monitor};

/// Private attributes that the agents publish: by resource and name, the values by node.
pub type Attributes = BTreeMap<(String, &'static str), BTreeMap<String, String>>;

/// Where a server stands.
pub const POSITION: &str = "position";
/// What a replica tells of its acknowledgements.
pub const MEMBERSHIP: &str = "membership";
/// Whether a primary's writes go on.
pub use promotable::operator::WRITES;
/// A promoted instance, as Pacemaker calls it.
pub const PROMOTED: &str = "Promoted";
/// What an instance is on a node that is lost and not fenced yet: Pacemaker goes on to list it in its last role.
pub const UNSEEN: &str = "Unknown";

/// A database that an agent of ours runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ocf:systole:mysql`.
    MySql,
    /// `ocf:systole:redis`.
    Redis,
}

impl Kind {
    /// That of an agent, as `ocf:systole:mysql`.
    #[must_use]
    pub fn of(agent: &str) -> Option<Self> {
        match agent {
            "ocf:systole:mysql" => Some(Self::MySql),
            "ocf:systole:redis" => Some(Self::Redis),
            _ => None,
        }
    }

    /// The agent's own code.
    #[must_use]
    pub fn operator(self) -> &'static dyn Operator {
        match self {
            Self::MySql => &systole_mysql::operator::MySqlOperator,
            Self::Redis => &systole_redis::operator::RedisOperator,
        }
    }
}

/// The cluster's services.
#[derive(Debug)]
pub struct Picture {
    /// Whether there is a quorum.
    pub quorum: bool,
    /// The node of Pacemaker's controller. `None` while none is elected.
    pub controller: Option<String>,
    /// Whether the whole cluster is in maintenance.
    pub maintenance: bool,
    /// Whether fencing is configured to happen.
    pub fencing: bool,
    /// The nodes.
    pub nodes: Vec<Machine>,
    /// The databases.
    pub databases: Vec<Database>,
    /// Addresses and cron jobs.
    pub others: Vec<Other>,
    /// Why positions and memberships are not known, when the attribute manager did not say them.
    pub unheard: Option<String>,
}

/// A database and its servers.
#[derive(Debug)]
pub struct Database {
    /// The primitive.
    pub name: String,
    /// The clone, which Pacemaker's tools are told.
    pub clone: String,
    /// Which agent.
    pub kind: Kind,
    /// The parameters, as they stand in the CIB.
    pub parameters: BTreeMap<String, String>,
    /// Sets of parameters about which a rule decides, and which are left out there.
    pub undecided: Vec<String>,
    /// How many servers there may be.
    pub servers: Option<usize>,
    /// The record, as it stands in the CIB.
    pub record_text: Option<String>,
    /// What it says, or why it cannot be read.
    pub record: Option<Result<Recorded, String>>,
    /// The servers.
    pub members: Vec<Member>,
    /// Constraints that a command has left, and that are in force.
    pub leftovers: Vec<Leftover>,
    /// Those that are over. They do nothing any more.
    pub expired: Vec<Leftover>,
    /// What the resource is told to be: `Stopped`, `Unpromoted`.
    pub target_role: Option<String>,
    /// Whether Pacemaker is told to leave the resource alone by its own meta attribute `maintenance`.
    pub maintenance: bool,
    /// The pause that somebody has begun.
    pub pause: Option<Pause>,
}

/// What is the matter with an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Fine,
    /// It runs, and its agent says what is wrong.
    Degraded(String),
    /// An operation failed, and the instance does not run, or not as it should.
    Failed(String),
    /// It does not run.
    Stopped(String),
    /// Nobody can tell whether it runs.
    Unseen(String),
}

/// One server.
#[derive(Debug)]
pub struct Member {
    /// Its node.
    pub node: String,
    /// `Promoted`, `Unpromoted`, `Stopped`, ..., and [`UNSEEN`].
    pub role: String,
    /// Its last role, where its node is lost and not fenced yet.
    pub lost_as: Option<String>,
    /// What is the matter with it.
    pub condition: Condition,
    /// The position that it published last, as text.
    pub position_text: Option<String>,
    /// What that says.
    pub position: Option<Published>,
    /// What it lacked then of what is recorded.
    pub behind: Option<Behind>,
    /// How far it is behind now, where its server was asked; its position is of that moment, too. Or why that is not known.
    pub now: Option<Result<Now, String>>,
    /// Whether it is in the in-sync set, and has not said that it acknowledges no more. `None` when what the replicas say is not known.
    pub acknowledges: Option<bool>,
    /// Whether its writes go on, as it published that as the primary. `None` where nothing is known of that.
    pub writes: Option<bool>,
    /// Whether it is told to be good for reads. `None` where nobody says it.
    pub readable: Option<bool>,
    /// The promotion score.
    pub score: Option<String>,
    /// Failures that Pacemaker remembers.
    pub failures: u64,
    /// Whether its watcher runs, on the node that asks.
    pub watched: Option<bool>,
    /// Pacemaker leaves it alone.
    pub unmanaged: bool,
    /// Pacemaker can do nothing with it before somebody mends something.
    pub blocked: bool,
    /// What Pacemaker does with it at the moment, as `Demoting`.
    pub pending: Option<String>,
    /// Pacemaker has lost its recurring monitor, and starts it no more by itself.
    pub unmonitored: bool,
}

/// How far a server is behind at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// What it has not executed of what the primary has. `None` for the primary, and when the two cannot be compared.
    pub lag: Option<Behind>,
    /// The same in seconds, by its own account.
    pub seconds: Option<u64>,
}

impl Member {
    /// Whether its instance runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self.role.as_str(), PROMOTED | "Unpromoted" | "Started")
    }
}

impl Database {
    /// The record, if there is one that can be read.
    #[must_use]
    pub fn recorded(&self) -> Option<&Recorded> {
        self.record.as_ref().and_then(|record| record.as_ref().ok())
    }

    /// Takes a pause for over that has come to its end, as `is_over` says, and that Pacemaker has taken for over too.
    pub fn end_pause(&mut self, is_over: impl Fn(&Pause) -> bool) {
        let left_alone = self.members.iter().any(|member| member.unmanaged);
        self.pause = self.pause.take().filter(|pause| left_alone || !is_over(pause));
    }

    /// What a pause does, and what ends it.
    #[must_use]
    pub fn paused(&self) -> Option<String> {
        let Pause { until, reason } = self.pause.as_ref()?;
        Some(format!("paused until {until} ({reason}): no failover by itself; end it with: systole resume {}", self.name))
    }

    /// Takes over where the servers say that they stand, by node.
    pub fn hear(&mut self, answers: BTreeMap<String, Result<Standing, String>>) {
        let operator = self.kind.operator();
        let mut promoted = self.promoted().into_iter().map(|member| member.node.as_str());
        let primary = promoted.next().filter(|_| promoted.next().is_none()).map(str::to_owned);
        let said = |node: &String| answers.get(node)?.as_ref().ok();
        let of_primary = primary.as_ref().and_then(said).and_then(|standing| standing.position.clone());
        for (node, answer) in answers {
            let Some(member) = self.members.iter_mut().find(|member| member.node == node) else { continue };
            let answer = match answer {
                // What Pacemaker knows of it is what a monitor said first.
                Ok(Standing { rejoining: Some(how_far), .. }) => {
                    member.condition = Condition::Degraded(how_far);
                    continue;
                }
                answer => answer,
            };
            member.now = Some(answer.and_then(|Standing { position, seconds, .. }| {
                let position = position.ok_or("says no position")?;
                let published = operator.published(&position).ok_or("says something that is no position")?;
                let of_primary = of_primary.as_ref().filter(|_| primary.as_ref() != Some(&node));
                let lag = of_primary.and_then(|of_primary| operator.lag(&position, of_primary));
                (member.position_text, member.position) = (Some(position), Some(published));
                Ok(Now { lag, seconds })
            }));
        }
    }

    /// Takes constraints for over whose end has come, as `is_over` says of what Pacemaker has written for it.
    pub fn end_leftovers(&mut self, is_over: impl Fn(&str) -> bool) {
        let (over, held) = self.leftovers.drain(..).partition(|left| left.until.as_deref().is_some_and(&is_over));
        self.leftovers = held;
        self.expired.extend::<Vec<Leftover>>(over);
    }

    /// The server on a node.
    ///
    /// # Errors
    /// When there is none: with the nodes that have one.
    pub fn member(&self, node: &str) -> Result<&Member, String> {
        let nodes = || self.members.iter().map(|member| member.node.as_str()).collect::<Vec<_>>().join(", ");
        let found = self.members.iter().find(|member| member.node == node);
        found.ok_or_else(|| format!("{} has no server on {node}: there are {}", self.clone, nodes()))
    }

    /// The promoted instances.
    #[must_use]
    pub fn promoted(&self) -> Vec<&Member> {
        self.members.iter().filter(|member| member.role == PROMOTED).collect()
    }

    /// The primary whose node is lost and not fenced yet.
    #[must_use]
    pub fn lost_primary(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.lost_as.as_deref() == Some(PROMOTED))
    }

    /// Replicas that run and acknowledge. `None` when what they say of that is not known.
    #[must_use]
    pub fn acknowledging(&self) -> Option<Vec<&Member>> {
        let replicas: Vec<&Member> = self.members.iter().filter(|member| member.runs() && member.role != PROMOTED).collect();
        let known = replicas.iter().all(|member| member.acknowledges.is_some());
        known.then(|| replicas.into_iter().filter(|member| member.acknowledges == Some(true)).collect())
    }

    /// What clients are promised: in this epoch where that is recorded, else by the parameter.
    #[must_use]
    pub fn durability(&self) -> &str {
        let usual = match self.kind {
            Kind::MySql => "lossless",
            Kind::Redis => "async",
        };
        let configured = self.parameters.get("durability").map_or(usual, String::as_str);
        self.recorded().and_then(|record| record.durability).unwrap_or(configured)
    }

    /// How many replicas have to acknowledge a write, where writes wait for them. Redis' is not recorded: a majority with the primary.
    #[must_use]
    pub fn needed(&self) -> Option<usize> {
        match self.kind {
            Kind::MySql => self.recorded()?.acknowledgements,
            Kind::Redis => (self.durability() == "quorum").then_some(self.servers.unwrap_or(2) / 2),
        }
    }

    /// How an operator says which data are right.
    #[must_use]
    pub fn decision(&self) -> String {
        promotable::decision_of(&self.name)
    }
}

/// An address, or cron jobs.
#[derive(Debug)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// As `address`.
    pub agent: String,
    /// What it is about: the address.
    pub what: String,
    /// Where it runs.
    pub nodes: Vec<String>,
    /// What is the matter with it.
    pub condition: Condition,
}

impl Picture {
    /// Puts together what is known. `watched`: the databases of the node that asks, and whether their watchers run there.
    #[must_use]
    pub fn new(cib: &Cib, monitor: &Monitor, attributes: &Attributes, watched: &BTreeMap<String, (String, bool)>) -> Self {
        let (mut databases, mut others): (Vec<Database>, Vec<Other>) = (Vec::new(), Vec::new());
        let mut names: Vec<(&str, &str)> = monitor.instances.iter().map(|i| (i.resource.as_str(), i.agent.as_str())).collect();
        names.sort_unstable();
        names.dedup();
        for (name, agent) in names {
            let instances: Vec<&Instance> = monitor.instances.iter().filter(|i| i.resource == name).collect();
            if let Some(kind) = Kind::of(agent) {
                databases.push(database(name, kind, &instances, Sources { cib, monitor, attributes, watched }));
            } else if let Some(agent) = agent.strip_prefix("ocf:systole:") {
                others.push(other(name, agent, &instances, (cib, monitor)));
            }
        }
        Self {
            quorum: monitor.controller.as_ref().is_none_or(|(_, quorum)| *quorum) && cib.quorum,
            controller: monitor.controller.as_ref().map(|(name, _)| name.clone()),
            maintenance: cib.is_set("maintenance-mode"),
            fencing: pacemaker::FENCING.iter().find_map(|name| cib.properties.get(*name)).is_none_or(|value| is_true(value)),
            nodes: monitor.nodes.clone(),
            databases,
            others,
            unheard: None,
        }
    }

    /// The same, when the attribute manager did not say positions and memberships, because of this.
    #[must_use]
    pub fn unheard_of(mut self, why: String) -> Self {
        let members = self.databases.iter_mut().flat_map(|database| &mut database.members);
        members.for_each(|member| (member.acknowledges, member.writes) = (None, None));
        Self { unheard: Some(why), ..self }
    }

    /// The database of this name, which may be that of the primitive or of the clone.
    #[must_use]
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.iter().find(|database| database.name == name || database.clone == name)
    }

    /// A node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Machine> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

/// What the answers are made of.
#[derive(Clone, Copy)]
struct Sources<'a> {
    cib: &'a Cib,
    monitor: &'a Monitor,
    attributes: &'a Attributes,
    watched: &'a BTreeMap<String, (String, bool)>,
}

fn database(name: &str, kind: Kind, instances: &[&Instance], sources: Sources<'_>) -> Database {
    let nothing = Primitive::default();
    let primitive = sources.cib.primitives.get(name).unwrap_or(&nothing);
    let clone = primitive.parent.clone().unwrap_or_else(|| name.to_owned());
    let record_text = sources.cib.properties.get(&format!("systole-{name}-primary")).filter(|text| !text.trim().is_empty()).cloned();
    let record = record_text.as_deref().map(|text| kind.operator().recorded(text));
    let clone_max = primitive.meta.get("clone-max").and_then(|max| max.parse().ok());
    let mut database = Database {
        name: name.to_owned(),
        kind,
        parameters: primitive.parameters.clone(),
        undecided: primitive.undecided.clone(),
        servers: clone_max.or(Some(sources.cib.nodes.len())).filter(|servers| *servers > 0),
        record_text,
        record,
        members: Vec::new(),
        leftovers: sources.cib.leftovers.iter().filter(|l| l.resource == clone || l.resource == name).cloned().collect(),
        expired: Vec::new(),
        target_role: primitive.meta.get("target-role").and_then(|role| held_back(role)),
        maintenance: primitive.meta.get("maintenance").is_some_and(|value| is_true(value)),
        pause: primitive.pause.clone(),
        clone,
    };
    let running: BTreeSet<&String> = instances.iter().flat_map(|i| &i.nodes).collect();
    let all = database.servers.is_none_or(|servers| running.len() < servers);
    let nodes = sources.cib.nodes.iter().filter(|node| all || running.contains(node));
    database.members = nodes.map(|node| member(&database, node, instances, sources)).collect();
    database
}

/// The role that keeps a resource from being promoted. `Master` and `Slave` are what the roles were called before.
fn held_back(role: &str) -> Option<String> {
    match role {
        "Started" | "Master" | PROMOTED => None,
        "Slave" => Some("Unpromoted".to_owned()),
        other => Some(other.to_owned()),
    }
}

fn member(database: &Database, node: &str, instances: &[&Instance], sources: Sources<'_>) -> Member {
    let instance = instances.iter().find(|instance| instance.nodes.iter().any(|name| name == node)).copied();
    let value = |name| sources.attributes.get(&(database.name.clone(), name)).and_then(|values| values.get(node));
    let operator = database.kind.operator();
    let (position_text, record) = (value(POSITION).cloned(), database.record_text.as_deref().unwrap_or_default());
    let in_sync = database.recorded().is_some_and(|record| record.in_sync.contains(node));
    let said = value(MEMBERSHIP).and_then(|text| operator.acknowledges(text, record));
    // Only MySQL's agent tells it, and under a name that an operator can choose.
    let reader = database.parameters.get("reader_attribute").map_or("readable", String::as_str);
    let readable = (database.kind == Kind::MySql).then(|| sources.cib.attribute(node, reader)).flatten();
    let machine = sources.monitor.nodes.iter().find(|machine| machine.name == node);
    let lost_as = instance.filter(|_| machine.is_some_and(|machine| !machine.online)).map(|i| i.role.clone());
    let fenced_soon = machine.is_some_and(|machine| machine.states.contains(&"unclean"));
    Member {
        node: node.to_owned(),
        role: match (&lost_as, instance) {
            (Some(_), _) => UNSEEN.to_owned(),
            (None, Some(instance)) => instance.role.clone(),
            (None, None) => "Stopped".to_owned(),
        },
        lost_as,
        condition: condition(sources.cib, &database.name, node, instance, machine),
        position: position_text.as_deref().and_then(|text| operator.published(text)),
        behind: position_text.as_deref().and_then(|text| operator.behind(text, record)),
        now: None,
        position_text,
        acknowledges: Some(in_sync && instance.is_some() && !fenced_soon && said != Some(false)),
        writes: value(WRITES).and_then(|text| parse_writes(text)),
        readable: readable.map(|value| value == "1"),
        score: sources.cib.attribute(node, &format!("master-{}", database.name)).map(str::to_owned),
        failures: failures(sources.cib, &database.name, node),
        watched: sources.watched.get(&database.name).filter(|(here, _)| here == node).map(|(_, runs)| *runs),
        unmanaged: instance.is_some_and(|i| !i.managed),
        blocked: instance.is_some_and(|i| i.blocked),
        pending: instance.and_then(|i| i.pending.clone()),
        unmonitored: sources.cib.histories.get(&(node.to_owned(), database.name.clone())).is_some_and(|history| has_lost_monitor(history)),
    }
}

/// Failures that Pacemaker remembers of a resource on a node; infinity is a million.
fn failures(cib: &Cib, resource: &str, node: &str) -> u64 {
    let attributes = cib.attributes.get(node).into_iter().flatten();
    let name = format!("fail-count-{resource}");
    let of_it = attributes.filter(|(key, _)| key.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['#', ':'])));
    of_it.map(|(_, value)| if value == "INFINITY" { 1_000_000 } else { value.parse().unwrap_or(0) }).sum()
}

/// Exit codes with which an agent says that the service runs, and is degraded.
const DEGRADED: [i64; 2] = [190, 191];
/// Exit codes of what is as it should be: done, not running (a probe), promoted.
const FINE: [i64; 3] = [0, 7, 8];

/// Whether Pacemaker takes a monitor for active that it has cancelled: for a plan that came to nothing, or a maintenance that is over. One that
/// answered degraded is kept as the last failure, and counts as the monitor itself until something is started, promoted or demoted there.
fn has_lost_monitor(history: &[Operation]) -> bool {
    let begins = |op: &&Operation| op.interval == 0 && ["start", "promote", "demote"].contains(&op.name.as_str());
    let since = history.iter().filter(begins).map(|op| op.call).max();
    let monitors = || history.iter().filter(|op| op.name == "monitor" && op.interval > 0);
    let counts = |op: &Operation| op.failure && DEGRADED.contains(&op.code) && Some(op.call) > since;
    monitors().any(counts) && !monitors().any(|op| !op.failure && (op.pending || Some(op.call) > since))
}

fn condition(cib: &Cib, resource: &str, node: &str, instance: Option<&Instance>, machine: Option<&Machine>) -> Condition {
    if machine.is_some_and(|machine| !machine.online) {
        return match instance {
            // Pacemaker lists no instance of a node that was fenced.
            Some(_) => Condition::Unseen("the node is lost and not fenced".into()),
            None => Condition::Stopped("the node is not there".into()),
        };
    }
    let none = Vec::new();
    let operations = cib.histories.get(&(node.to_owned(), resource.to_owned())).unwrap_or(&none);
    let last = operations.iter().max_by_key(|operation| operation.call);
    let failed = |operation: &Operation| {
        let reason = if operation.reason.is_empty() { format!("exit code {}", operation.code) } else { operation.reason.clone() };
        format!("{} failed: {reason}", operation.name)
    };
    let broken = last.filter(|op| !op.pending && !FINE.contains(&op.code) && !DEGRADED.contains(&op.code));
    let monitors = operations.iter().filter(|op| op.name == "monitor" && op.interval > 0);
    match (instance, broken) {
        (_, Some(operation)) => Condition::Failed(failed(operation)),
        (Some(instance), None) if instance.failed => Condition::Failed("Pacemaker counts it as failed".into()),
        // A monitor that is under way changes nothing.
        (Some(Instance { pending: Some(pending), .. }), None) if pending != "Monitoring" => Condition::Degraded(format!("{pending} now")),
        (Some(_), None) => match monitors.max_by_key(|op| op.call).filter(|op| DEGRADED.contains(&op.code)) {
            Some(monitor) => Condition::Degraded(monitor.reason.clone()),
            None => Condition::Fine,
        },
        (None, None) => {
            Condition::Stopped(machine.and_then(|m| m.states.first()).map_or_else(String::new, |state| format!("{state} node")))
        }
    }
}

fn other(name: &str, agent: &str, instances: &[&Instance], (cib, monitor): (&Cib, &Monitor)) -> Other {
    let nodes: Vec<String> = instances.iter().flat_map(|instance| instance.nodes.clone()).collect();
    let what = cib.primitives.get(name).and_then(|primitive| primitive.parameters.get("ip")).cloned().unwrap_or_default();
    let worst = |node: &String| {
        let instance = instances.iter().find(|instance| instance.nodes.contains(node)).copied();
        condition(cib, name, node, instance, monitor.nodes.iter().find(|machine| machine.name == *node && instance.is_some()))
    };
    let wrong = nodes.iter().map(worst).find(|condition| *condition != Condition::Fine);
    let nowhere = || cib.nodes.iter().map(worst).find(|condition| matches!(condition, Condition::Failed(_)));
    let condition =
        if nodes.is_empty() { nowhere().unwrap_or_else(|| Condition::Stopped(String::new())) } else { wrong.unwrap_or(Condition::Fine) };
    Other { name: name.to_owned(), agent: agent.to_owned(), what, nodes, condition }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was kept of a replica whose election was refused: the schedulers of Pacemaker 2.1.5 and 3.0.0 plan no monitor for it.
    #[test]
    fn a_monitor_that_was_cancelled_and_answered_degraded_before_is_lost() {
        let history = |operations: &str| {
            let of_node = format!("<lrm_resource id=\"mysql\">{operations}</lrm_resource>");
            let cib =
                Cib::parse(&format!("<cib><status><node_state uname=\"a\"><lrm>{of_node}</lrm></node_state></status></cib>")).unwrap();
            cib.histories[&("a".to_owned(), "mysql".to_owned())].clone()
        };
        let once = |name: &str, call: i64| {
            format!(
                "<lrm_rsc_op id=\"mysql_last_0\" operation=\"{name}\" interval=\"0\" call-id=\"{call}\" rc-code=\"0\" op-status=\"0\"/>"
            )
        };
        let monitor = |id: &str, call: i64, code: i64, status: i64| {
            format!(
                "<lrm_rsc_op id=\"mysql_{id}\" operation=\"monitor\" interval=\"11000\" call-id=\"{call}\" rc-code=\"{code}\" op-status=\"{status}\"/>"
            )
        };
        let degraded = |call| monitor("last_failure_0", call, 190, 0);
        assert!(has_lost_monitor(&history(&(once("start", 19) + &degraded(25)))));
        for kept in [
            once("start", 19),
            once("start", 19) + &degraded(25) + &monitor("monitor_11000", 25, 0, 0),
            // It answered degraded the first time, and has said nothing else since.
            once("demote", 32) + &degraded(34) + &monitor("monitor_11000", -1, 193, -1),
            // Pacemaker starts one after a demotion, and recovers what has failed.
            once("demote", 32) + &degraded(25),
            once("start", 19) + &monitor("last_failure_0", 25, 1, 0),
        ] {
            assert!(!has_lost_monitor(&history(&kept)), "{kept}");
        }
        // The one of the role before.
        assert!(has_lost_monitor(&history(&(once("demote", 32) + &degraded(34) + &monitor("monitor_10000", 30, 8, 0)))));
    }
}
