//! `systole reclone`: makes a replica a copy of the primary anew. The agent makes the copy, as it does for a server that has diverged
//! (`rejoin=clone`): its binary logs are kept first, and a copy that cannot be made changes nothing. Here it is told to, while the instance
//! is stopped. The constraint that stops it ends by itself, as that of a move does.

use std::time::{Duration, Instant};

use crate::ask::CHANGE_LIMIT;
use crate::copies::{Plan, is_done, plan, progress};
use crate::switchover::{Ending, Interruption, clear, look};
use crate::{ask, complain, confirm, print, remote};

/// What a stop may take at most, by the agent's advertised timeout, and a little more.
const STOPPING: Duration = Duration::from_secs(150);
/// How long the constraint lasts when the command is killed.
const LIFETIME: &str = "PT5M";
/// How often is looked.
const STEP: Duration = Duration::from_secs(1);
/// What a node may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

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
    let begin = Instant::now();
    if plan.under_way {
        print(&format!("{}: a copy is being made on {} already\n", plan.clone, plan.node));
        return follow(wanted, &plan, begin, &Interruption::watched());
    }
    complain(&format!("all data of {} on {} are replaced by those of {}; its binary logs are kept", plan.clone, plan.node, plan.primary));
    match confirmed(wanted, &plan) {
        Ok(true) => {}
        Ok(false) => return refused(&format!("{} was not typed", plan.node)),
        Err(why) => return refused(&why),
    }
    let interruption = Interruption::watched();
    let ordered = order(wanted, &plan, &interruption);
    // Whatever became of it, the instance is to run again.
    let cleared = clear([plan.clone.as_str()]);
    match ordered {
        Err((Ending::Refused, why)) if cleared => refused(&why),
        Err((_, why)) => {
            complain(&format!("no copy is made, and the data are what they were: {why}"));
            Ending::HalfWay
        }
        Ok(()) if !cleared => Ending::HalfWay,
        Ok(()) => follow(wanted, &plan, begin, &interruption),
    }
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

/// Stops the instance and tells its next start to make a copy.
fn order(wanted: &Wanted, plan: &Plan, interruption: &Interruption) -> Result<(), (Ending, String)> {
    let ban = ["--ban", "--resource", &plan.clone, "--node", &plan.node, "--lifetime", LIFETIME];
    ask::tool_within("crm_resource", &ban, CHANGE_LIMIT).map_err(|why| (Ending::Refused, why))?;
    let until = Instant::now() + STOPPING;
    loop {
        let runs = look(&wanted.name, |_, database| database.member(&plan.node).map(|member| member.runs()));
        if matches!(runs, Ok(Ok(false))) {
            break;
        }
        if interruption.is_there() {
            return Err((Ending::HalfWay, "interrupted".into()));
        }
        if Instant::now() >= until {
            return Err((Ending::HalfWay, format!("the instance on {} has not stopped", plan.node)));
        }
        std::thread::sleep(STEP);
    }
    let nodes = [plan.node.clone()];
    let answer = remote::ask(&nodes, &["systole", "here", "copy", &plan.resource], ANSWER).into_values().next();
    match answer {
        Some(Ok(_)) => Ok(()),
        Some(Err(why)) => Err((Ending::HalfWay, format!("{} {why}", plan.node))),
        None => Err((Ending::HalfWay, "nothing was asked".into())),
    }
}

/// Whether the node says that its copy is not whole. Who cannot be asked has not said that it is.
fn is_unfinished(plan: &Plan) -> bool {
    let nodes = [plan.node.clone()];
    let answer = remote::ask(&nodes, &["systole", "here", "copying", &plan.resource], ANSWER).into_values().next();
    let text = answer.and_then(Result::ok).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    value.get("unfinished").and_then(serde_json::Value::as_bool) != Some(false)
}

/// Says how far it is, until it acknowledges.
fn follow(wanted: &Wanted, plan: &Plan, begin: Instant, interruption: &Interruption) -> Ending {
    let mut last = String::new();
    loop {
        let unfinished = is_unfinished(plan);
        let seen = look(&wanted.name, |_, database| {
            let said = database.member(&plan.node).map_or_else(|why| why, progress);
            (is_done(database, &plan.node, unfinished), said)
        });
        match seen {
            Ok((true, _)) => {
                print(&format!("{}: {} is a replica in order again; it took {} s\n", plan.clone, plan.node, begin.elapsed().as_secs()));
                return Ending::Done;
            }
            Ok((false, said)) if said != last => {
                complain(&format!("{}: {said}", plan.node));
                last = said;
            }
            _ => {}
        }
        if interruption.is_there() || begin.elapsed() >= wanted.wait {
            complain(&format!("the copy goes on; how far it is: systole status {}", wanted.name));
            return Ending::TimedOut;
        }
        std::thread::sleep(STEP);
    }
}
