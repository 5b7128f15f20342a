//! A planned move, before anything is done: from where to where, or why not; and what has become of one. Pure.

use promotable::operator::Recorded;

use crate::notices::unmanaged;
use crate::picture::{Condition, Database, Member, PROMOTED, Picture};
use crate::why::{barred, obstacles, points};

/// A move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The clone, which Pacemaker is told.
    pub(crate) clone: String,
    /// The primary.
    pub(crate) from: String,
    /// Who is to be it.
    pub(crate) to: String,
    /// The epoch that ends.
    pub(crate) epoch: u64,
    /// What somebody should know before.
    pub(crate) notes: Vec<String>,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoPlan {
    /// It is where it should be.
    There(String),
    /// This stands in the way.
    Refused(String),
}

/// What a move is to do.
pub(crate) fn plan(picture: &Picture, database: &Database, to: Option<&str>) -> Result<Plan, NoPlan> {
    let refused = |why: String| NoPlan::Refused(why);
    if let Some(obstacle) = obstacles(picture, database).into_iter().next() {
        return Err(refused(obstacle));
    }
    if let Some(left) = database.leftovers.first() {
        return Err(refused(format!(
            "constraint {} is left of another move; clear it first with: systole abort {}",
            left.id, database.name
        )));
    }
    if let Some(why) = &picture.unheard {
        return Err(refused(format!("which replicas acknowledge is not known: {why}")));
    }
    let promoted = database.promoted();
    let [primary] = promoted.as_slice() else {
        return Err(refused(format!("{} servers are promoted, and a move begins at one: systole why {}", promoted.len(), database.name)));
    };
    if primary.unmanaged {
        let mend = unmanaged(picture, database, primary).unwrap_or_else(|| format!("undo that first: systole status {}", database.name));
        return Err(refused(format!("the primary on {}: {mend}", primary.node)));
    }
    let record = match &database.record {
        Some(Ok(record)) if record.node == primary.node => record,
        Some(Ok(record)) => {
            return Err(refused(format!(
                "{} is promoted, and the record names {}: systole why {}",
                primary.node, record.node, database.name
            )));
        }
        Some(Err(why)) => return Err(refused(format!("the record cannot be read: {why}"))),
        None => return Err(refused(format!("the promotion of {} is not recorded yet: wait for its monitor", primary.node))),
    };
    let candidate = match to {
        Some(to) if to == primary.node => return Err(NoPlan::There(format!("{to} is the primary of {} already", database.clone))),
        Some(to) => named(picture, database, to).map_err(refused)?,
        None => best(picture, database).map_err(refused)?,
    };
    Ok(Plan {
        clone: database.clone.clone(),
        from: primary.node.clone(),
        to: candidate.node.clone(),
        epoch: record.epoch,
        notes: notes(primary, candidate),
    })
}

fn notes(primary: &Member, candidate: &Member) -> Vec<String> {
    let note = |member: &Member| match &member.condition {
        Condition::Degraded(why) | Condition::Failed(why) => Some(format!("{}: {why}", member.node)),
        _ => None,
    };
    [primary, candidate].into_iter().filter_map(note).collect()
}

/// Why this one can be no primary now.
fn unsuitable(picture: &Picture, database: &Database, member: &Member) -> Option<String> {
    let node = &member.node;
    if let Some(why) = barred(picture, database, member) {
        return Some(format!("{node} cannot be promoted: {why}"));
    }
    if points(member.score.as_deref()) < 0 {
        return Some(format!(
            "{node} cannot be promoted: its agent gives it no score; its state says why (systole status {})",
            database.name
        ));
    }
    (member.acknowledges != Some(true))
        .then(|| format!("{node} is not in sync, and may lack what was acknowledged: wait for it (systole status {})", database.name))
}

fn named<'a>(picture: &Picture, database: &'a Database, to: &str) -> Result<&'a Member, String> {
    let member = database.member(to)?;
    unsuitable(picture, database, member).map_or(Ok(member), Err)
}

/// The replica with the highest score; of equal ones the first by name, so that what `--dry-run` says is what is done.
fn best<'a>(picture: &Picture, database: &'a Database) -> Result<&'a Member, String> {
    let replicas = || database.members.iter().filter(|member| member.role != PROMOTED);
    let suitable = replicas().filter(|member| unsuitable(picture, database, member).is_none());
    suitable.min_by_key(|member| (-points(member.score.as_deref()), member.node.as_str())).ok_or_else(|| {
        let why: Vec<String> = replicas().filter_map(|member| unsuitable(picture, database, member)).collect();
        if why.is_empty() { "there is no replica to move to".to_owned() } else { why.join("; ") }
    })
}

/// What has become of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The old primary is still it, under the record that was there before.
    NotBegun,
    /// Nobody is it.
    Between,
    /// Somebody is, under a new record: the one who was to be, another, or the old one again.
    Arrived(String),
}

/// How far the move is. `promoted`: who is, as Pacemaker sees it.
pub(crate) fn progress(plan: &Plan, record: Option<&Recorded>, promoted: &[&str]) -> Progress {
    match (record, promoted) {
        (Some(record), [node]) if record.epoch > plan.epoch && record.node == *node => Progress::Arrived((*node).to_owned()),
        (Some(record), [node]) if record.epoch == plan.epoch && *node == plan.from => Progress::NotBegun,
        _ => Progress::Between,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cib::Cib;
    use crate::crm_mon::Monitor;
    use crate::picture::Attributes;

    /// A cluster that was recorded: see tests/recorded.rs.
    macro_rules! recorded {
        ($name:literal) => {{
            let cib = Cib::parse(include_str!(concat!("../tests/recorded/", $name, "/cib.xml"))).unwrap();
            let monitor = Monitor::parse(include_str!(concat!("../tests/recorded/", $name, "/crm_mon.xml"))).unwrap();
            Picture::new(&cib, &monitor, &Attributes::new(), &BTreeMap::new())
        }};
    }

    fn from_to(picture: &Picture, name: &str, to: Option<&str>) -> Result<(String, String), String> {
        match plan(picture, picture.database(name).unwrap(), to) {
            Ok(plan) => Ok((plan.from, plan.to)),
            Err(NoPlan::There(why) | NoPlan::Refused(why)) => Err(why),
        }
    }

    #[test]
    fn a_move_goes_to_a_replica_that_is_in_sync_or_is_refused_with_the_way_out() {
        let (in_order, lost) = (recorded!("in-order"), recorded!("lost"));
        let moves = |from: &str, to: &str| Ok((from.to_owned(), to.to_owned()));
        assert_eq!(from_to(&in_order, "mysql", None), moves("lxc2", "lxc1"), "of equal ones the first");
        assert_eq!(from_to(&in_order, "mysql-clone", Some("lxc3")), moves("lxc2", "lxc3"));
        assert_eq!(from_to(&lost, "mysql", None), moves("lxc1", "lxc3"), "the only one that is left");
        for (picture, name, to, why) in [
            (&in_order, "mysql", Some("lxc2"), "lxc2 is the primary of mysql-clone already"),
            (&in_order, "redis", Some("lxc9"), "redis-clone has no server on lxc9"),
            (&lost, "mysql", Some("lxc2"), "lxc2 cannot be promoted: the node is not there"),
            (&recorded!("degraded"), "mysql", Some("lxc2"), "the node is on standby: crm_standby --node lxc2 --delete"),
            (&recorded!("moved"), "redis", None, "clear it first with: systole abort redis"),
            (&recorded!("blocked"), "mysql", None, "lxc3 cannot be promoted: the node is on standby"),
            (&recorded!("nobody"), "mysql", None, "0 servers are promoted, and a move begins at one: systole why mysql"),
        ] {
            let said = from_to(picture, name, to).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_move_is_over_when_who_is_promoted_is_recorded_anew() {
        let plan = Plan { clone: "c".into(), from: "a".into(), to: "b".into(), epoch: 7, notes: Vec::new() };
        let record = |epoch: u64, node: &str| {
            let text = format!("epoch={epoch} change=0 node={node} server=1 set=");
            crate::picture::Kind::MySql.operator().recorded(&text).unwrap()
        };
        let arrived = |node: &str| Progress::Arrived(node.into());
        for (recorded, promoted, expected) in [
            (record(7, "a"), &["a"][..], Progress::NotBegun),
            (record(7, "a"), &[], Progress::Between),
            (record(7, "a"), &["b"], Progress::Between),
            (record(8, "b"), &["a", "b"], Progress::Between),
            (record(8, "b"), &["b"], arrived("b")),
            (record(8, "c"), &["c"], arrived("c")),
            (record(8, "a"), &["a"], arrived("a")),
        ] {
            assert_eq!(progress(&plan, Some(&recorded), promoted), expected, "{recorded:?} {promoted:?}");
        }
        assert_eq!(progress(&plan, None, &["b"]), Progress::Between);
    }
}
