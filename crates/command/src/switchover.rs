//! `systole switchover` and `abort`: a planned move, done by Pacemaker. What is told to it is one constraint, that ends by itself: it is
//! cleared when the move is over, when it failed, when somebody interrupts, and a command that was killed leaves one that is over soon.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::ask::CHANGE_LIMIT;
use crate::costs::{self, Limits};
use crate::moves::{NoPlan, Plan, Progress, plan, progress};
use crate::picture::{Database, Kind, Picture};
use crate::{ask, complain, print, status};

/// How an action ended. The command's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Done.
    Done = 0,
    /// Refused, and nothing is changed.
    Refused = 1,
    /// Something is changed, and it is not what was wanted.
    HalfWay = 2,
    /// It goes on, and was waited for long enough.
    TimedOut = 3,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending as u8)
    }
}

/// Whether somebody has interrupted the command, or told it to end.
#[derive(Clone, Debug)]
pub(crate) struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// From now on it is noticed, and does not end the command.
    pub(crate) fn watched() -> Self {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
        }
        Self(flag)
    }

    /// Whether it has come.
    pub(crate) fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long the constraint holds beyond the time that is waited for.
const BEYOND: Duration = Duration::from_secs(30);
/// How often is looked.
const STEP: Duration = Duration::from_millis(100);
/// How often clearing the constraint is tried.
const CLEARINGS: u32 = 3;

/// Moves the primary.
pub(crate) fn switchover(name: &str, to: Option<&str>, dry_run: bool, limits: Limits, wait: Duration) -> Ending {
    let found = look(name, |picture, database| (plan(picture, database, to), database.name.clone(), database.kind));
    let (mut plan, resource, kind) = match found {
        Ok((Ok(plan), resource, kind)) => (plan, resource, kind),
        Ok((Err(NoPlan::There(word)), ..)) => {
            print(&format!("{word}\n"));
            return Ending::Done;
        }
        Ok((Err(NoPlan::Refused(why)), ..)) | Err(why) => return refused(&why),
    };
    match (kind, limits) {
        (Kind::MySql, _) => match costs::of_move(&resource, &plan.from, &plan.to, limits) {
            Ok(notes) => plan.notes.extend(notes),
            Err(why) => return refused(&why),
        },
        (Kind::Redis, Limits { lag: None, transaction: None }) => {}
        (Kind::Redis, _) => {
            return refused("--max-lag and --max-transaction are about MySQL: a move of Redis waits for its replicas by itself");
        }
    }
    for note in &plan.notes {
        complain(&format!("note: {note}"));
    }
    let order = order(&plan, wait);
    if dry_run {
        print(&format!(
            "{} would be moved from {} to {}:\n    crm_resource {}\n    crm_resource --clear --resource {}\n",
            plan.clone,
            plan.from,
            plan.to,
            order.join(" "),
            plan.clone
        ));
        return Ending::Done;
    }
    let (ending, said) = carry_out(name, &plan, &order, wait, &Interruption::watched());
    if ending == Ending::Done {
        print(&format!("{said}\n"))
    } else {
        complain(&said)
    }
    ending
}

/// Moves the primary as planned. Returns how it ended, and what is to be said of it.
pub(crate) fn moved(name: &str, plan: &Plan, wait: Duration, interruption: &Interruption) -> (Ending, String) {
    carry_out(name, plan, &order(plan, wait), wait, interruption)
}

fn refused(why: &str) -> Ending {
    complain(&format!("refused, and nothing is changed: {why}"));
    Ending::Refused
}

/// What Pacemaker is told.
fn order(plan: &Plan, wait: Duration) -> Vec<String> {
    let lifetime = format!("PT{}S", (wait + BEYOND).as_secs());
    let words = ["--move", "--resource", &plan.clone, "--promoted", "--node", &plan.to, "--lifetime", &lifetime];
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn carry_out(name: &str, plan: &Plan, order: &[String], wait: Duration, interruption: &Interruption) -> (Ending, String) {
    let begin = Instant::now();
    let arguments: Vec<&str> = order.iter().map(String::as_str).collect();
    if let Err(why) = ask::tool_within("crm_resource", &arguments, CHANGE_LIMIT) {
        // It may have been told all the same.
        let cleared = clear([plan.clone.as_str()]);
        let (ending, said) = match in_the_end(Progress::NotBegun, once_more(name, plan)) {
            Found::Known(Progress::NotBegun) => (Ending::Refused, format!("refused: {why}")),
            found => {
                let (ending, said) = tell(name, plan, &found, begin.elapsed(), interruption.is_there());
                (ending, format!("{why}; {said}"))
            }
        };
        return (if cleared { ending } else { Ending::HalfWay }, said);
    }
    let waited = wait_for(name, plan, begin + wait, interruption);
    let took = begin.elapsed();
    let cleared = clear([plan.clone.as_str()]);
    let found = match waited {
        Progress::Arrived(_) => Found::Known(waited),
        before => in_the_end(before, once_more(name, plan)),
    };
    let (ending, said) = tell(name, plan, &found, took, interruption.is_there());
    (if cleared { ending } else { Ending::HalfWay }, said)
}

/// How far a move is when its constraint is cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Known(Progress),
    /// The old primary is still it, and Pacemaker has begun: it ends what it does before it looks at the constraints again.
    Begins,
    /// The old primary was still it, and the cluster does not say what has come of that.
    Unseen,
}

/// What is seen once the constraint is cleared: how far the move is, and whether Pacemaker is at it. `None` where the cluster does not say.
fn once_more(name: &str, plan: &Plan) -> Option<(Progress, bool)> {
    // What it has begun by then shows by then.
    std::thread::sleep(STEP);
    look(name, |_, database| (far(plan, database), is_begun(plan, database))).ok()
}

/// Whether Pacemaker does at the moment what the move asks for.
fn is_begun(plan: &Plan, database: &Database) -> bool {
    let does = |node: &str, what: &[&str]| {
        let pending = database.members.iter().find(|member| member.node == node).and_then(|member| member.pending.as_deref());
        pending.is_some_and(|pending| what.contains(&pending))
    };
    does(&plan.from, &["Demoting", "Stopping"]) || does(&plan.to, &["Promoting"])
}

/// `before`: how far it was before the constraint was cleared; `after`: what was seen then.
fn in_the_end(before: Progress, after: Option<(Progress, bool)>) -> Found {
    match (before, after) {
        (_, Some((Progress::NotBegun, true))) => Found::Begins,
        (_, Some((now, _))) => Found::Known(now),
        (Progress::NotBegun, None) => Found::Unseen,
        (before, None) => Found::Known(before),
    }
}

/// Waits for the end of the move. Returns how far it is.
fn wait_for(name: &str, plan: &Plan, until: Instant, interruption: &Interruption) -> Progress {
    let mut last = Progress::NotBegun;
    loop {
        // Whoever cannot be asked for a moment is asked again.
        if let Ok(found) = look(name, |_, database| far(plan, database)) {
            last = found;
        }
        if matches!(last, Progress::Arrived(_)) || Instant::now() >= until || interruption.is_there() {
            return last;
        }
        std::thread::sleep(STEP);
    }
}

fn far(plan: &Plan, database: &Database) -> Progress {
    let promoted: Vec<&str> = database.promoted().iter().map(|member| member.node.as_str()).collect();
    progress(plan, database.recorded(), &promoted)
}

/// What came of it.
fn tell(name: &str, plan: &Plan, found: &Found, took: Duration, interrupted: bool) -> (Ending, String) {
    let seconds = took.as_secs_f64();
    let what = if interrupted { "interrupted" } else { "not over yet" };
    let goes_on = if interrupted { Ending::HalfWay } else { Ending::TimedOut };
    match found {
        Found::Known(Progress::Arrived(node)) if *node == plan.to => {
            (Ending::Done, format!("{}: {} is the primary, and was {} before; it took {seconds:.2} s", plan.clone, node, plan.from))
        }
        Found::Known(Progress::Arrived(node)) => (
            Ending::HalfWay,
            format!("{}: {node} was promoted and not {}: the log of {} says why (systole why {name})", plan.clone, plan.to, plan.to),
        ),
        Found::Known(Progress::NotBegun) if interrupted => (Ending::Refused, format!("interrupted: {} is still the primary", plan.from)),
        Found::Known(Progress::NotBegun) => (
            Ending::TimedOut,
            format!("after {seconds:.0} s {} is still the primary, and the move is taken back: systole why {name}", plan.from),
        ),
        Found::Known(Progress::Between) => (
            goes_on,
            format!("{what} after {seconds:.0} s: {} is demoted, and Pacemaker goes on to promote the best: systole why {name}", plan.from),
        ),
        Found::Begins => (
            goes_on,
            format!(
                "{what} after {seconds:.0} s: {} is being demoted, and Pacemaker goes on to promote the best: systole status {name}",
                plan.from
            ),
        ),
        Found::Unseen => (
            Ending::HalfWay,
            format!("{what} after {seconds:.0} s, and whether {} is still the primary cannot be seen: systole status {name}", plan.from),
        ),
    }
}

/// Clears what moves have left of these resources.
pub(crate) fn clear<'a>(resources: impl IntoIterator<Item = &'a str>) -> bool {
    let mut all = true;
    for resource in resources {
        let arguments = ["--clear", "--resource", resource];
        // The second time for an interruption that has ended the tool as well.
        let cleared = (0..CLEARINGS).any(|_| ask::tool_within("crm_resource", &arguments, CHANGE_LIMIT).is_ok());
        if !cleared {
            complain(&format!("the constraint is not cleared, and ends by itself; now with: crm_resource {}", arguments.join(" ")));
        }
        all &= cleared;
    }
    all
}

/// Takes back what a move has left.
pub(crate) fn abort(name: &str) -> Ending {
    let left = look(name, |_, database| {
        let resources: BTreeSet<String> = database.leftovers.iter().map(|left| left.resource.clone()).collect();
        let promoted: Vec<String> = database.promoted().iter().map(|member| member.node.clone()).collect();
        (resources, promoted, database.clone.clone())
    });
    let (resources, promoted, clone) = match left {
        Ok(left) => left,
        Err(why) => return refused(&why),
    };
    if resources.is_empty() {
        print(&format!("{clone}: no move is under way, and no constraint is left\n"));
        return Ending::Done;
    }
    if !clear(resources.iter().map(String::as_str)) {
        return Ending::HalfWay;
    }
    print(&match promoted.as_slice() {
        [] => format!("{clone}: the constraint is cleared; the old primary is demoted already, and Pacemaker promotes the best now\n"),
        nodes => format!("{clone}: the constraint is cleared; {} is the primary\n", nodes.join(" and ")),
    });
    Ending::Done
}

/// Looks at a database.
pub(crate) fn look<T>(name: &str, see: impl FnOnce(&Picture, &Database) -> T) -> Result<T, String> {
    let picture = ask::picture()?;
    let database = picture.database(name).ok_or_else(|| status::unknown(&picture, name))?;
    Ok(see(&picture, database))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cib::Cib;
    use crate::crm_mon::Monitor;
    use crate::picture::Attributes;

    fn plan_of(from: &str, to: &str) -> Plan {
        Plan { clone: "mysql-clone".into(), from: from.into(), to: to.into(), epoch: 7, notes: Vec::new() }
    }

    /// "Still the primary" was said of one that was being demoted, and scripts went on.
    #[test]
    fn what_is_said_of_a_move_is_what_is_seen_after_its_constraint_is_cleared() {
        let arrived = |node: &str| Progress::Arrived(node.into());
        let (not_begun, between) = (|| Progress::NotBegun, || Progress::Between);
        let known = Found::Known;
        for (before, after, found, interrupted, timed_out) in [
            (not_begun(), Some((not_begun(), false)), known(not_begun()), Ending::Refused, Ending::TimedOut),
            (not_begun(), Some((not_begun(), true)), Found::Begins, Ending::HalfWay, Ending::TimedOut),
            (not_begun(), Some((between(), false)), known(between()), Ending::HalfWay, Ending::TimedOut),
            (not_begun(), Some((between(), true)), known(between()), Ending::HalfWay, Ending::TimedOut),
            (not_begun(), Some((arrived("b"), false)), known(arrived("b")), Ending::Done, Ending::Done),
            (not_begun(), Some((arrived("c"), false)), known(arrived("c")), Ending::HalfWay, Ending::HalfWay),
            (not_begun(), None, Found::Unseen, Ending::HalfWay, Ending::HalfWay),
            (between(), Some((between(), true)), known(between()), Ending::HalfWay, Ending::TimedOut),
            (between(), Some((arrived("b"), false)), known(arrived("b")), Ending::Done, Ending::Done),
            (between(), Some((not_begun(), false)), known(not_begun()), Ending::Refused, Ending::TimedOut),
            (between(), None, known(between()), Ending::HalfWay, Ending::TimedOut),
        ] {
            let said = format!("{before:?} {after:?}");
            assert_eq!(in_the_end(before, after), found, "{said}");
            let endings = [true, false].map(|is| tell("mysql", &plan_of("a", "b"), &found, Duration::from_secs(3), is).0);
            assert_eq!(endings, [interrupted, timed_out], "{said}");
        }
        let (_, said) = tell("mysql", &plan_of("a", "b"), &Found::Begins, Duration::ZERO, true);
        assert!(said.starts_with("interrupted after 0 s: a is being demoted") && !said.contains("still the primary"), "{said}");
    }

    #[test]
    fn pacemaker_has_begun_where_it_demotes_the_old_primary_or_promotes_the_new_one() {
        let begun = |role: &str, pending: &str, plan: &Plan| {
            let role = format!("<resource id=\"mysql\" resource_agent=\"ocf:systole:mysql\" role=\"{role}\"");
            let monitor = include_str!("../tests/recorded/in-order/crm_mon.xml").replace(&role, &format!("{role} pending=\"{pending}\""));
            let cib = Cib::parse(include_str!("../tests/recorded/in-order/cib.xml")).unwrap();
            let picture = Picture::new(&cib, &Monitor::parse(&monitor).unwrap(), &Attributes::new(), &BTreeMap::new());
            is_begun(plan, picture.database("mysql").unwrap())
        };
        let plan = plan_of("lxc2", "lxc1");
        for (role, pending, expected) in [
            ("Promoted", "Demoting", true),
            ("Promoted", "Stopping", true),
            ("Promoted", "Monitoring", false),
            ("Unpromoted", "Promoting", true),
            ("Unpromoted", "Starting", false),
        ] {
            assert_eq!(begun(role, pending, &plan), expected, "{role} {pending}");
        }
    }
}
