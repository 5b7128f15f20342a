//! `systole reclone`: makes a replica a copy of the primary anew. The agent makes the copy, as it does for a server that has diverged
//! (`rejoin=clone`): its binary logs are kept first, and a copy that cannot be made changes nothing. Here it is told to, while the instance
//! is stopped. The constraint that stops it ends by itself, as that of a move does.

use std::time::{Duration, Instant};

use crate::ask::CHANGE_LIMIT;
use crate::copies::{Plan, plan};
use crate::rejoining::{self, ANSWER};
use crate::switchover::{Ending, Interruption, clear, look};
use crate::{ask, complain, confirm, print, remote};

/// What a stop may take at most, by the agent's advertised timeout, and a little more.
const STOPPING: Duration = Duration::from_secs(150);
/// How long the constraint lasts when the command is killed.
const LIFETIME: &str = "PT5M";
/// How often is looked.
const STEP: Duration = Duration::from_secs(1);
/// How long after [`ANSWER`] a command that was begun on another node is ended there.
const ENDED: Duration = Duration::from_secs(3);

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The database.
    pub(crate) name: String,
    /// The node whose data are replaced; without it the one that says that it has diverged.
    pub(crate) node: Option<String>,
    /// The same once more, instead of typing it.
    pub(crate) replaced: Option<String>,
    /// Also where writes wait meanwhile.
    pub(crate) force: bool,
    /// How long the copy is waited for.
    pub(crate) wait: Duration,
}

/// Makes it anew.
pub(crate) fn reclone(wanted: &Wanted) -> Ending {
    let found = look(&wanted.name, |picture, database| plan(picture, database, wanted.node.as_deref(), wanted.force));
    let plan = match found.and_then(|plan| plan) {
        Ok(plan) => plan,
        Err(why) => return refused(&why),
    };
    if plan.under_way {
        print(&format!("{}: a copy is being made on {} already\n", plan.clone, plan.node));
        return rejoining::follow(&plan, wanted.wait, false);
    }
    complain(&format!("all data of {} on {} are replaced by those of {}; its binary logs are kept", plan.clone, plan.node, plan.primary));
    match confirmed(wanted, &plan) {
        Ok(true) => {}
        Ok(false) => return refused(&format!("{} was not typed", plan.node)),
        Err(why) => return refused(&why),
    }
    // Somebody took their time to type it: what was shown has to be what there is.
    let now = look(&wanted.name, |picture, database| crate::copies::plan(picture, database, Some(&plan.node), wanted.force));
    if let Err(why) = unchanged(&plan, now.and_then(|now| now)) {
        return refused(&why);
    }
    let interruption = Interruption::watched();
    let ordered = order(wanted, &plan, &interruption);
    // Whatever became of it, the instance is to run again.
    let cleared = clear([plan.clone.as_str()]);
    match ordered {
        Err(Unordered { ending: Ending::Refused, why, .. }) if cleared => refused(&why),
        Err(Unordered { known: true, why, .. }) => {
            complain(&format!("no copy is made, and the data are what they were: {why}"));
            Ending::HalfWay
        }
        Err(Unordered { why, .. }) => {
            complain(&format!("whether a copy is made is not known: {why}; look with: systole status {}", wanted.name));
            Ending::HalfWay
        }
        Ok(()) if !cleared => Ending::HalfWay,
        Ok(()) if interruption.is_there() => {
            complain(&format!("interrupted; the copy is made all the same: systole status {} --live", wanted.name));
            Ending::TimedOut
        }
        Ok(()) => rejoining::follow(&plan, wanted.wait, false),
    }
}

/// Whether what was shown is what there is.
fn unchanged(shown: &Plan, now: Result<Plan, String>) -> Result<(), String> {
    if now? == *shown { Ok(()) } else { Err("it is not as it was shown any more: look again".to_owned()) }
}

fn refused(why: &str) -> Ending {
    complain(&format!("refused, and nothing is changed: {why}"));
    Ending::Refused
}

fn confirmed(wanted: &Wanted, plan: &Plan) -> Result<bool, String> {
    match &wanted.replaced {
        Some(node) if *node == plan.node => Ok(true),
        Some(node) => Err(format!("--yes-replace names {node}, and the node is {}", plan.node)),
        None => confirm::typed(
            "type the name of the node whose data are replaced:",
            &plan.node,
            &format!("systole reclone {} {} --yes-replace {}", wanted.name, plan.node, plan.node),
        ),
    }
}

/// Why no copy is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unordered {
    ending: Ending,
    /// Whether that is certain.
    known: bool,
    why: String,
}

impl Unordered {
    fn half_way(why: impl Into<String>) -> Self {
        Self { ending: Ending::HalfWay, known: true, why: why.into() }
    }
}

/// Stops the instance and tells its next start to make a copy.
fn order(wanted: &Wanted, plan: &Plan, interruption: &Interruption) -> Result<(), Unordered> {
    let ban = ["--ban", "--resource", &plan.clone, "--node", &plan.node, "--lifetime", LIFETIME];
    ask::tool_within("crm_resource", &ban, CHANGE_LIMIT).map_err(|why| Unordered { ending: Ending::Refused, known: true, why })?;
    let until = Instant::now() + STOPPING;
    loop {
        let runs = look(&wanted.name, |_, database| database.member(&plan.node).map(|member| member.runs()));
        if matches!(runs, Ok(Ok(false))) {
            break;
        }
        if interruption.is_there() {
            return Err(Unordered::half_way("interrupted"));
        }
        if Instant::now() >= until {
            return Err(Unordered::half_way(format!("the instance on {} has not stopped", plan.node)));
        }
        std::thread::sleep(STEP);
    }
    let nodes = [plan.node.clone()];
    let answer = remote::ask(&nodes, &["systole", "here", "copy", &plan.resource], ANSWER).into_values().next();
    ordered(plan, answer.unwrap_or_else(|| Err("was not asked".into())), || {
        // What did not answer in time is ended there by then, and orders nothing any more.
        std::thread::sleep(ENDED);
        copying(plan)
    })
}

/// Whether the copy is ordered, by the answer of the node, and where that does not say it by what it says of a copy: asked while the
/// instance is still kept from starting.
fn ordered(plan: &Plan, answer: Result<String, String>, copying: impl FnOnce() -> Option<bool>) -> Result<(), Unordered> {
    let Err(why) = answer else { return Ok(()) };
    let why = format!("{} {why}", plan.node);
    if remote::is_refusal(&why) {
        return Err(Unordered::half_way(why));
    }
    match copying() {
        Some(true) => Ok(()),
        Some(false) => Err(Unordered::half_way(why)),
        None => Err(Unordered { known: false, ..Unordered::half_way(why) }),
    }
}

/// Whether the node says that a copy is to be made there, or is not whole. `None` where it does not say it.
fn copying(plan: &Plan) -> Option<bool> {
    rejoining::asked(plan).map(|said| said.unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan { resource: "mysql".into(), clone: "mysql-clone".into(), node: "lxc3".into(), primary: "lxc1".into(), under_way: false }
    }

    /// Where the answer was lost on its way, the data were said to be what they were, and the copy was made all the same.
    #[test]
    fn that_no_copy_is_made_is_said_only_where_the_node_has_said_it() {
        let of =
            |answer: &str, copying: Option<bool>| ordered(&plan(), Err(answer.to_owned()), || copying).map_err(|unordered| unordered.known);
        assert_eq!(ordered(&plan(), Ok("{}".into()), || panic!("it has answered")), Ok(()));
        let refused = "systole failed (status 3): systole: its server runs";
        assert_eq!(ordered(&plan(), Err(refused.into()), || panic!("it has answered")).map_err(|unordered| unordered.known), Err(true));
        for silent in [
            "does not answer over ssh: nothing came within 10000 ms",
            "systole did not end in time",
            "systole failed (status -1): it says nothing",
        ] {
            assert_eq!([of(silent, Some(true)), of(silent, Some(false)), of(silent, None)], [Ok(()), Err(true), Err(false)], "{silent}");
        }
    }

    #[test]
    fn what_was_shown_has_to_be_what_there_is() {
        assert_eq!(unchanged(&plan(), Ok(plan())), Ok(()));
        assert!(unchanged(&plan(), Ok(Plan { primary: "lxc2".into(), ..plan() })).is_err());
        assert!(unchanged(&plan(), Ok(Plan { under_way: true, ..plan() })).is_err());
        assert!(unchanged(&plan(), Err("lxc3 is the primary".into())).is_err());
    }
}
