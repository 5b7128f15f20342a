//! What an operator has to know: what is wrong, what stands in the way, what somebody has left. Each with the command that mends it. Pure.

use crate::picture::{Condition, Database, Member, PROMOTED, Picture};

/// How bad something is. The command's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is as it should be.
    Good = 0,
    /// It works, and somebody has to look.
    Degraded = 1,
    /// It does not work.
    Broken = 2,
    /// Nobody can tell.
    Unknown = 3,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Degraded => "degraded",
            Self::Broken => "broken",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How bad it is.
    pub level: Level,
    /// What it is about: a database, or the cluster.
    pub about: Option<String>,
    /// The sentence.
    pub text: String,
}

/// What is said of a cluster without fencing.
pub const NO_FENCING: &str = "fencing is off (stonith-enabled=false): two primaries are possible when the network breaks";

fn notice(level: Level, text: impl Into<String>) -> Notice {
    Notice { level, about: None, text: text.into() }
}

/// What there is to know of the cluster and of these databases.
#[must_use]
pub fn of(picture: &Picture, databases: &[&Database]) -> Vec<Notice> {
    let mut all = cluster(picture);
    for database in databases {
        let about = |notice| Notice { about: Some(database.clone.clone()), ..notice };
        all.extend(of_database(picture, database).into_iter().map(about));
    }
    all.sort_by_key(|notice| std::cmp::Reverse(notice.level));
    all
}

/// The worst of them.
#[must_use]
pub fn level(notices: &[Notice]) -> Level {
    notices.iter().map(|notice| notice.level).max().unwrap_or(Level::Good)
}

/// While Pacemaker's controllers elect one of them.
pub(crate) const NO_CONTROLLER: &str = "no controller is elected, and nothing is started or promoted before that; when it stays so: systemctl \
                                        status corosync pacemaker";

/// Why nobody is promoted in the place of a primary whose node is lost, if one is.
pub(crate) fn unfenced(database: &Database) -> Option<String> {
    let node = &database.lost_primary()?.node;
    Some(format!(
        "the primary's node {node} is lost and not fenced: nothing is promoted before that; why: stonith_admin --history {node}; when it is \
         certainly off: stonith_admin --confirm {node}"
    ))
}

fn cluster(picture: &Picture) -> Vec<Notice> {
    let mut all = Vec::new();
    if !picture.quorum {
        all.push(notice(Level::Broken, "no quorum: nothing is started or promoted here; bring the other nodes back"));
    }
    if picture.quorum && picture.controller.is_none() {
        all.push(notice(Level::Degraded, NO_CONTROLLER));
    }
    if picture.maintenance {
        let end = "crm_attribute --name maintenance-mode --update false";
        all.push(notice(Level::Degraded, format!("maintenance-mode is on, and nothing is moved or restarted; end it with: {end}")));
    }
    if !picture.fencing {
        all.push(notice(Level::Degraded, NO_FENCING));
    }
    if let Some(why) = &picture.unheard {
        all.push(notice(Level::Degraded, format!("positions and acknowledgements are not known: {why}")));
    }
    for node in &picture.nodes {
        let name = &node.name;
        if !node.online {
            let unclean = if node.states.contains(&"unclean") { " and not fenced yet" } else { "" };
            all.push(notice(Level::Degraded, format!("node {name} is not there{unclean}")));
            continue;
        }
        for state in &node.states {
            all.push(notice(
                Level::Degraded,
                match *state {
                    "standby" => format!("node {name} is on standby; end that with: crm_standby --node {name} --delete"),
                    "maintenance" => {
                        format!("node {name} is in maintenance; end that with: crm_attribute --node {name} --name maintenance --delete")
                    }
                    other => format!("node {name} is {other}"),
                },
            ));
        }
    }
    all
}

fn of_database(picture: &Picture, database: &Database) -> Vec<Notice> {
    let mut all = roles(database);
    all.extend(database.paused().map(|text| notice(Level::Degraded, text)));
    all.extend(durability(database));
    for member in &database.members {
        all.extend(of_member(picture, database, member));
    }
    for left in &database.leftovers {
        let until = left.until.as_ref().map_or_else(String::new, |until| format!(" (it ends at {until})"));
        all.push(notice(Level::Degraded, format!("constraint {} is left{until}; clear it with: systole abort {}", left.id, database.name)));
    }
    if !database.undecided.is_empty() {
        let sets = database.undecided.join(", ");
        all.push(notice(
            Level::Good,
            format!("a rule decides about parameters ({sets}), which Pacemaker alone evaluates: they are not looked at"),
        ));
    }
    for left in &database.expired {
        let text = format!("constraint {} is over and does nothing any more; clear it with: crm_resource --clear --expired", left.id);
        all.push(notice(Level::Good, text));
    }
    all
}

/// Who is promoted, and whether that is who is recorded.
fn roles(database: &Database) -> Vec<Notice> {
    let mut all = Vec::new();
    let promoted = database.promoted();
    match (promoted.as_slice(), &database.target_role) {
        ([], _) if database.lost_primary().is_some() => all.extend(unfenced(database).map(|text| notice(Level::Broken, text))),
        ([], Some(role)) => all.push(notice(Level::Broken, format!(
            "nobody is promoted: its target-role is {role}; undo that with: crm_resource --resource {} --meta --delete-parameter target-role",
            database.clone
        ))),
        ([], None) => all.push(notice(Level::Broken, format!("nobody is promoted; the reasons: systole why {}", database.name))),
        ([_], _) => {}
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|member| member.node.as_str()).collect();
            all.push(notice(Level::Broken, format!("{} are promoted at once: stop the one whose data are wrong", names.join(" and "))));
        }
    }
    match (&database.record, promoted.first()) {
        (Some(Err(why)), _) => all.push(notice(Level::Broken, format!("the record cannot be read: {why}"))),
        (Some(Ok(record)), Some(primary)) if record.node != primary.node => all.push(notice(
            Level::Broken,
            format!("{} is promoted, and the record names {}: systole why {}", primary.node, record.node, database.name),
        )),
        (None, Some(primary)) => {
            all.push(notice(
                Level::Degraded,
                format!("{} is promoted, and no promotion is recorded yet: wait for its monitor", primary.node),
            ));
        }
        _ => {}
    }
    all
}

/// Whether writes can be acknowledged, now and after the next loss.
fn durability(database: &Database) -> Option<Notice> {
    let needed = database.needed()?;
    if database.promoted().is_empty() {
        return None;
    }
    let able = database.acknowledging()?.len();
    if able < needed {
        return Some(notice(
            Level::Broken,
            format!(
                "writes wait: {able} replicas acknowledge, and a write waits for {needed}; bring a replica back (systole status {} shows which)",
                database.name
            ),
        ));
    }
    // Two servers can never bear the loss of one.
    let replicas = database.servers.map_or(0, |servers| servers.saturating_sub(1));
    (able == needed && replicas > needed)
        .then(|| notice(Level::Degraded, format!("the next loss of a replica stops writes: {able} of {replicas} replicas acknowledge")))
}

fn of_member(picture: &Picture, database: &Database, member: &Member) -> Vec<Notice> {
    let node = &member.node;
    let mut all = Vec::new();
    let gone = picture.node(node).is_none_or(|machine| !machine.online || !machine.states.is_empty());
    match &member.condition {
        Condition::Fine => {}
        Condition::Degraded(why) => all.push(degraded(database, member, why)),
        Condition::Failed(why) => {
            // Whoever is promoted and has failed serves nobody, and Pacemaker lists it as promoted for as long as it recovers nothing.
            let level = if member.role == PROMOTED { Level::Broken } else { Level::Degraded };
            all.push(notice(level, format!("{node}: {}", failed(picture, database, member, why))));
        }
        // A node that is away has said so itself.
        Condition::Unseen(_) => {}
        Condition::Stopped(_) if gone => {}
        Condition::Stopped(_) => all.push(notice(Level::Degraded, format!("{node}: the instance does not run"))),
    }
    all.extend(unsaid_stop_of_writes(database, member));
    if let Some(Err(why)) = &member.now {
        all.push(notice(Level::Degraded, format!("{node}: where its server stands now is not known: it {why}")));
    }
    if member.failures > 0 && !matches!(member.condition, Condition::Failed(_)) {
        let clone = &database.clone;
        let cleanup = format!("crm_resource --cleanup --resource {clone} --node {node}");
        all.push(notice(
            Level::Degraded,
            format!("{node} has failed (fail count {}); when that is over: {cleanup}", count(member.failures)),
        ));
    }
    if member.runs() && member.role != PROMOTED && member.score.as_deref() == Some("-INFINITY") {
        all.push(notice(Level::Degraded, format!("{node} is not to be promoted: its agent gives it the score -INFINITY")));
    }
    // Of one that failed it is said with the failure.
    if let Some(unmanaged) = unmanaged(picture, database, member).filter(|_| !matches!(member.condition, Condition::Failed(_))) {
        all.push(notice(Level::Degraded, format!("{node}: {unmanaged}")));
    }
    if member.unmonitored && member.runs() && !gone && !member.unmanaged && !picture.maintenance {
        let mend = format!("crm_resource --refresh --resource {} --node {node}", database.clone);
        all.push(notice(
            Level::Degraded,
            format!("{node}: Pacemaker has lost the instance's monitor, and recovers nothing there; start it again with: {mend}"),
        ));
    }
    if member.watched == Some(false) && member.runs() {
        all.push(notice(
            Level::Degraded,
            format!("{node}: no watcher runs, and a crash is found by the monitor only; the next monitor starts it"),
        ));
    }
    all
}

/// What a monitor complains of. What a primary published of its writes goes before the monitor's words of that, which may be old.
fn degraded(database: &Database, member: &Member, why: &str) -> Notice {
    let node = &member.node;
    let said = member.role == PROMOTED && database.kind.operator().stops_writes(why);
    match member.writes {
        Some(true) if said => notice(
            Level::Degraded,
            format!("{node}: its writes go on, and it has something else to say; Pacemaker has kept what its monitor said first: {why}"),
        ),
        _ if said => notice(Level::Broken, format!("{node}: {why}")),
        _ => notice(Level::Degraded, format!("{node}: {why}")),
    }
}

/// That a primary's writes are not answered, where its monitor's words say something else.
fn unsaid_stop_of_writes(database: &Database, member: &Member) -> Option<Notice> {
    let operator = database.kind.operator();
    let said = matches!(&member.condition, Condition::Degraded(why) if operator.stops_writes(why));
    (member.role == PROMOTED && member.writes == Some(false) && !said).then(|| {
        let text = format!(
            "{}: {}too few replicas acknowledge; bring one back: systole status {} shows which",
            member.node,
            operator.no_writes(),
            database.name
        );
        notice(Level::Broken, text)
    })
}

/// What failed, and what is to be done first: a cleanup recovers nothing that Pacemaker leaves alone.
pub(crate) fn failed(picture: &Picture, database: &Database, member: &Member, why: &str) -> String {
    match left_alone(picture, database, member) {
        Some(LeftAlone { because, mend }) => format!("{why}; {because}, and nothing is recovered; {mend}"),
        None => format!("{why}; when it is mended: {}", cleanup(database, member)),
    }
}

fn cleanup(database: &Database, member: &Member) -> String {
    format!("crm_resource --cleanup --resource {} --node {}", database.clone, member.node)
}

/// Why Pacemaker leaves an instance alone, and what mends that, with the words before the command.
struct LeftAlone {
    because: String,
    mend: String,
}

fn left_alone(picture: &Picture, database: &Database, member: &Member) -> Option<LeftAlone> {
    let node = &member.node;
    let of_node = picture.node(node).is_some_and(|machine| machine.states.contains(&"maintenance"));
    let (because, mend) = match (member.unmanaged || member.blocked, database.pause.is_some(), member.blocked) {
        (false, _, _) => return None,
        _ if picture.maintenance => {
            ("maintenance-mode is on".to_owned(), "end that first: crm_attribute --name maintenance-mode --update false".to_owned())
        }
        _ if of_node => {
            ("the node is in maintenance".to_owned(), format!("end that first: crm_attribute --node {node} --name maintenance --delete"))
        }
        (_, true, _) => ("it is paused".to_owned(), format!("end that first: systole resume {}", database.name)),
        // Pacemaker takes what it has blocked out of its own management as well.
        (_, _, true) => (
            "Pacemaker has blocked the instance, as after a stop that failed without fencing".to_owned(),
            format!("when it is mended: {}", cleanup(database, member)),
        ),
        _ => {
            let parameter = if database.maintenance { "maintenance" } else { "is-managed" };
            let mend = format!("undo that with: crm_resource --resource {} --meta --delete-parameter {parameter}", database.clone);
            ("Pacemaker does not manage the instance".to_owned(), mend)
        }
    };
    Some(LeftAlone { because, mend })
}

/// That Pacemaker leaves an instance alone, and what undoes that. `None` where it does not, and where something else says it of all that
/// is there: of the cluster, of the node, or of the database by its pause.
pub(crate) fn unmanaged(picture: &Picture, database: &Database, member: &Member) -> Option<String> {
    let of_node = picture.node(&member.node).is_some_and(|machine| machine.states.contains(&"maintenance"));
    if picture.maintenance || of_node || database.pause.is_some() {
        return None;
    }
    left_alone(picture, database, member).map(|LeftAlone { because, mend }| format!("{because}; {mend}"))
}

/// A fail count as Pacemaker writes it.
#[must_use]
pub fn count(failures: u64) -> String {
    if failures >= 1_000_000 { "INFINITY".to_owned() } else { failures.to_string() }
}
