//! Making a replica a copy of the primary anew, before anything is done: whether it may be, and how far it is. Pure.

use crate::picture::{Condition, Database, Kind, Member, PROMOTED, Picture};
use crate::rejoining::Said;
use crate::why::obstacles;

/// What is to be replaced, and by whose data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The primitive.
    pub(crate) resource: String,
    /// The clone, which Pacemaker is told.
    pub(crate) clone: String,
    /// The node whose data are replaced.
    pub(crate) node: String,
    /// The primary.
    pub(crate) primary: String,
    /// It is under way already.
    pub(crate) under_way: bool,
}

/// What a copy would be, or why there is to be none. `force`: also where writes wait meanwhile.
pub(crate) fn plan(picture: &Picture, database: &Database, node: Option<&str>, force: bool) -> Result<Plan, String> {
    if database.kind == Kind::Redis {
        return Err("a replica of Redis or Valkey gets a whole copy by itself whenever it needs one".to_owned());
    }
    if let Some(obstacle) = obstacles(picture, database).into_iter().next() {
        return Err(obstacle);
    }
    let promoted = database.promoted();
    let [primary] = promoted.as_slice() else {
        return Err(format!("there is no one primary to copy from: systole why {}", database.name));
    };
    let member = match node {
        Some(node) => database.member(node)?,
        None => diverged(database)?,
    };
    permitted(picture, database, member)?;
    if !force {
        if let Some(why) = writes_wait(database, member) {
            return Err(format!("{why}; with --force it is done all the same"));
        }
    }
    Ok(plan_of(database, member, primary))
}

/// The replica that takes back what the primary does not have, or will.
pub(crate) fn to_take_back(database: &Database, node: Option<&str>) -> Result<Plan, String> {
    if database.kind == Kind::Redis {
        return Err("a replica of Redis or Valkey takes nothing back: it gets a whole copy by itself whenever it needs one".to_owned());
    }
    let member = match node {
        Some(node) => database.member(node)?,
        None => diverged(database)?,
    };
    let promoted = database.promoted();
    let [primary] = promoted.as_slice() else {
        return Err(format!("there is no one primary to follow: systole why {}", database.name));
    };
    if member.node == primary.node {
        return Err(format!("{} is the primary, whom the others follow", member.node));
    }
    if !database.parameters.get("rejoin").is_some_and(|rejoin| rejoin.contains("rewind")) {
        return Err(format!(
            "rejoin=rewind is not set, without which the agent takes nothing back: crm_resource --resource {} --set-parameter rejoin \
             --parameter-value rewind",
            database.name
        ));
    }
    Ok(plan_of(database, member, primary))
}

fn plan_of(database: &Database, member: &Member, primary: &Member) -> Plan {
    Plan {
        resource: database.name.clone(),
        clone: database.clone.clone(),
        node: member.node.clone(),
        primary: primary.node.clone(),
        under_way: is_under_way(member),
    }
}

/// What is to be said of a server that is made to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is a good replica again.
    Done,
    /// It stays as it is, for this reason. `unfinished`: with data that are neither the old nor the new ones.
    Refused { why: String, unfinished: bool },
    /// So far it is.
    Says(String),
}

/// How far it is, by what its node says, and where that says nothing by what Pacemaker has heard first.
pub(crate) fn step(database: &Database, node: &str, said: Option<&Said>) -> Step {
    // Who cannot be asked has not said that it is whole.
    let unfinished = said.is_none_or(|said| said.unfinished || said.told.is_some());
    if is_done(database, node, unfinished) {
        return Step::Done;
    }
    let said = said.cloned().unwrap_or_default();
    match (said.told, said.refused) {
        (Some(how_far), _) => Step::Says(how_far),
        (None, Some(why)) => Step::Refused { why, unfinished: said.unfinished },
        (None, None) => Step::Says(database.member(node).map_or_else(|why| why, progress)),
    }
}

/// The replica whose agent says that it has to be made anew, if it is one.
fn diverged(database: &Database) -> Result<&Member, String> {
    let says_so = |member: &&Member| matches!(&member.condition, Condition::Degraded(why) | Condition::Failed(why) if why.contains("it does not follow"));
    let found: Vec<&Member> = database.members.iter().filter(says_so).collect();
    match found.as_slice() {
        [member] => Ok(member),
        [] => Err("no replica says that it has to be made anew: name the node".to_owned()),
        several => {
            let nodes: Vec<&str> = several.iter().map(|member| member.node.as_str()).collect();
            Err(format!("{} have to be made anew: name one, and the others afterwards", nodes.join(" and ")))
        }
    }
}

fn permitted(picture: &Picture, database: &Database, member: &Member) -> Result<(), String> {
    let node = &member.node;
    if member.role == PROMOTED {
        return Err(format!(
            "{node} is the primary, whose data the others are made of; move the role first: systole switchover {}",
            database.name
        ));
    }
    let machine = picture.node(node).filter(|machine| machine.online);
    if machine.is_none_or(|machine| !machine.states.is_empty()) {
        return Err(format!("{node} is not there, or takes no resources: systole status {}", database.name));
    }
    if let Some(left) = database.leftovers.first() {
        return Err(format!("constraint {} is left; clear it first with: systole abort {}", left.id, database.name));
    }
    if database.parameters.get("rejoin").is_some_and(|rejoin| rejoin.contains("clone")) {
        return Ok(());
    }
    Err(format!(
        "rejoin=clone is not set, without which the agent makes no copy: crm_resource --resource {} --set-parameter rejoin --parameter-value \
         clone",
        database.name
    ))
}

/// Why clients would wait while this one has no data.
fn writes_wait(database: &Database, member: &Member) -> Option<String> {
    let left = database.acknowledging().map(|able| able.iter().filter(|other| other.node != member.node).count());
    match database.needed() {
        Some(needed) => {
            let Some(left) = left else {
                return Some("which replicas acknowledge is not known, and writes may wait until the copy is whole".to_owned());
            };
            (left < needed).then(|| {
                format!("writes would wait until the copy is whole: {left} other replicas acknowledge, and a write waits for {needed}")
            })
        }
        None => {
            let others =
                database.members.iter().filter(|other| other.node != member.node && other.runs() && other.role != PROMOTED).count();
            (others == 0).then(|| "no other replica runs: until the copy is whole, the primary's data are nowhere else".to_owned())
        }
    }
}

fn is_under_way(member: &Member) -> bool {
    matches!(&member.condition, Condition::Degraded(why) if why.contains("copied here") || why.starts_with("the copy of "))
}

/// What is said of a replica that is made anew.
fn progress(member: &Member) -> String {
    match &member.condition {
        _ if !member.runs() => "the instance does not run".to_owned(),
        Condition::Degraded(why) | Condition::Failed(why) | Condition::Stopped(why) | Condition::Unseen(why) => why.clone(),
        Condition::Fine => "it follows".to_owned(),
    }
}

/// Whether it is a good replica again. `unfinished`: the node says that its copy is not whole.
fn is_done(database: &Database, node: &str, unfinished: bool) -> bool {
    let member = database.members.iter().find(|member| member.node == node);
    let good = |member: &Member| {
        member.runs() && member.condition == Condition::Fine && (member.acknowledges == Some(true) || database.needed().is_none())
    };
    !unfinished && member.is_some_and(good)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cib::Cib;
    use crate::crm_mon::Monitor;
    use crate::picture::Attributes;

    const CIB: &str = include_str!("../tests/recorded/in-order/cib.xml");
    const MONITOR: &str = include_str!("../tests/recorded/in-order/crm_mon.xml");

    fn picture(cib: &str) -> Picture {
        Picture::new(&Cib::parse(cib).unwrap(), &Monitor::parse(MONITOR).unwrap(), &Attributes::new(), &BTreeMap::new())
    }

    /// The cluster that is in order, where copies are made.
    fn with_copies() -> String {
        let parameters = "<instance_attributes id=\"x\"><nvpair id=\"y\" name=\"rejoin\" value=\"clone\"/></instance_attributes>";
        CIB.replace(
            "<meta_attributes id=\"mysql-meta_attributes\">",
            &format!("{parameters}<meta_attributes id=\"mysql-meta_attributes\">"),
        )
    }

    fn node_of(cib: &str, name: &str, node: Option<&str>, force: bool) -> Result<String, String> {
        let picture = picture(cib);
        plan(&picture, picture.database(name).unwrap(), node, force).map(|plan| plan.node)
    }

    #[test]
    fn a_copy_replaces_a_replica_that_writes_can_do_without() {
        let cib = with_copies();
        assert_eq!(node_of(&cib, "mysql", Some("lxc1"), false), Ok("lxc1".into()));
        let one = cib.replace("active=lxc1,lxc3", "active=lxc1");
        assert_eq!(node_of(&one, "mysql", Some("lxc3"), false), Ok("lxc3".into()));
        assert_eq!(node_of(&one, "mysql", Some("lxc1"), true), Ok("lxc1".into()), "--force");
        for (cib, name, node, why) in [
            (&one, "mysql", Some("lxc1"), "writes would wait until the copy is whole: 0 other replicas acknowledge"),
            (&cib, "mysql", Some("lxc2"), "lxc2 is the primary"),
            (&cib, "mysql", Some("lxc9"), "has no server on lxc9"),
            (&cib, "mysql", None, "no replica says that it has to be made anew"),
            (&CIB.to_owned(), "mysql", Some("lxc1"), "--set-parameter rejoin --parameter-value clone"),
            (&cib, "redis", Some("lxc1"), "by itself"),
        ] {
            let said = node_of(cib, name, node, false).unwrap_err();
            assert!(said.contains(why), "{said}, and not {why}");
        }
    }

    #[test]
    fn the_one_that_has_diverged_need_not_be_named_and_is_done_when_it_acknowledges() {
        let monitor = |line: &str| line.contains("mysql_monitor_11000") && line.contains("on_node=\"lxc3\"");
        let reason = "exit-reason=\"this server has transactions that the primary does not have: 0-13-9; it does not follow. Look\"";
        let change = |line: &str| line.replace("exit-reason=\"\"", reason).replace("rc-code=\"0\"", "rc-code=\"190\"");
        let cib: String = with_copies().lines().map(|line| if monitor(line) { change(line) } else { line.to_owned() } + "\n").collect();
        assert_eq!(node_of(&cib, "mysql", None, false), Ok("lxc3".into()));
        let picture = picture(&cib);
        let database = picture.database("mysql").unwrap();
        assert!(progress(database.member("lxc3").unwrap()).contains("it does not follow"));
        assert!(is_done(database, "lxc1", false) && !is_done(database, "lxc1", true) && !is_done(database, "lxc3", false));
    }

    #[test]
    fn what_a_node_says_comes_before_what_pacemaker_has_heard_first() {
        let picture = picture(CIB);
        let database = picture.database("mysql").unwrap();
        let said = |unfinished, told: Option<&str>, refused: Option<&str>| Said {
            unfinished,
            told: told.map(str::to_owned),
            refused: refused.map(str::to_owned),
        };
        let of = |said: &Said| step(database, "lxc1", Some(said));
        assert_eq!(of(&said(false, None, None)), Step::Done);
        assert_eq!(of(&said(true, Some("43 %"), None)), Step::Says("43 %".into()));
        assert_eq!(of(&said(false, Some("taking back 14 transactions"), None)), Step::Says("taking back 14 transactions".into()));
        let refused = |unfinished| Step::Refused { why: "a statement".into(), unfinished };
        assert_eq!(of(&said(true, None, Some("a statement"))), refused(true));
        let nowhere = |said: &Said| step(database, "lxc9", Some(said));
        assert_eq!(nowhere(&said(false, None, Some("a statement"))), refused(false), "nothing of it was changed");
        assert_eq!(of(&said(true, Some("begun anew"), Some("a statement"))), Step::Says("begun anew".into()));
        assert_eq!(step(database, "lxc1", None), Step::Says("it follows".into()), "who does not answer is not done");
    }

    #[test]
    fn taking_back_is_waited_for_where_the_agent_does_it() {
        let of = |cib: &str, name: &str, node: &str| {
            let picture = picture(cib);
            to_take_back(picture.database(name).unwrap(), Some(node)).map(|plan| (plan.node, plan.primary))
        };
        let cib = with_copies().replace("value=\"clone\"", "value=\"rewind\"");
        assert_eq!(of(&cib, "mysql", "lxc3"), Ok(("lxc3".into(), "lxc2".into())));
        assert!(of(&cib, "mysql", "lxc2").unwrap_err().contains("is the primary"));
        assert!(of(&with_copies(), "mysql", "lxc3").unwrap_err().contains("--parameter-value rewind"));
        assert!(of(CIB, "mysql", "lxc3").unwrap_err().contains("--parameter-value rewind"));
        assert!(of(&cib, "redis", "lxc1").unwrap_err().contains("by itself"));
    }
}
