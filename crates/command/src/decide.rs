//! `systole decide`: names the node whose data are right, when the servers cannot know. The record is replaced by compare-and-swap, so a
//! promotion that came meanwhile is never decided over.

use std::time::{Duration, Instant};

use crate::arguments::Format;
use crate::decisions::{Decision, NoDecision, decision, is_done};
use crate::switchover::{Ending, Interruption, look};
use crate::{ask, complain, confirm, print, print_json};

/// How often is looked.
const STEP: Duration = Duration::from_millis(200);

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The database.
    pub(crate) name: String,
    /// The node whose data are right.
    pub(crate) node: String,
    /// The same once more, instead of typing it.
    pub(crate) given_up: Option<String>,
    /// Say what is given up, and do nothing.
    pub(crate) dry_run: bool,
    /// How long its promotion is waited for.
    pub(crate) wait: Duration,
    /// How what is given up is printed.
    pub(crate) format: Format,
}

/// Names the node.
pub(crate) fn decide(wanted: &Wanted) -> Ending {
    let found = match look(&wanted.name, |picture, database| decision(picture, database, &wanted.node)) {
        Ok(Ok(found)) => found,
        Ok(Err(NoDecision::There(word))) => {
            print(&format!("{word}\n"));
            return Ending::Done;
        }
        Ok(Err(NoDecision::Refused(why))) | Err(why) => return refused(&why),
    };
    match wanted.format {
        Format::Pretty => print(&found.pretty()),
        Format::Tsv => print(&found.tsv()),
        Format::Json => print_json(&found.json()),
    }
    if wanted.dry_run {
        return Ending::Done;
    }
    match confirmed(wanted) {
        Ok(true) => carry_out(wanted, &found),
        Ok(false) => refused(&format!("{} was not typed", wanted.node)),
        Err(why) => refused(&why),
    }
}

fn refused(why: &str) -> Ending {
    complain(&format!("refused, and nothing is changed: {why}"));
    Ending::Refused
}

fn confirmed(wanted: &Wanted) -> Result<bool, String> {
    match &wanted.given_up {
        Some(node) if *node == wanted.node => Ok(true),
        Some(node) => Err(format!("--yes-give-up names {node}, and the node is {}", wanted.node)),
        None => confirm::typed(
            "type the name of the node whose data are right:",
            &wanted.node,
            &format!("systole decide {} {} --yes-give-up {}", wanted.name, wanted.node, wanted.node),
        ),
    }
}

fn carry_out(wanted: &Wanted, shown: &Decision) -> Ending {
    let interruption = Interruption::watched();
    // Somebody took their time to type it: what was shown has to be what there is.
    let now = look(&wanted.name, |picture, database| (decision(picture, database, &wanted.node), database.name.clone()));
    let resource = match now {
        Ok((Ok(found), resource)) if found == *shown => resource,
        Ok((Err(NoDecision::Refused(why) | NoDecision::There(why)), _)) | Err(why) => return refused(&why),
        Ok((Ok(_), _)) => return refused("it is not as it was shown any more: look again"),
    };
    if let Err(why) = ask::decide(&resource, shown.before.as_deref(), &shown.record) {
        return match why {
            pacemaker::Error::Changed { .. } => refused("the record was changed meanwhile: look again"),
            other => {
                complain(&format!("whether it was decided is not known: {other}; look with: systole why {}", wanted.name));
                Ending::HalfWay
            }
        };
    }
    let begin = Instant::now();
    while begin.elapsed() < wanted.wait && !interruption.is_there() {
        if look(&wanted.name, |_, database| is_done(database, &wanted.node)).unwrap_or(false) {
            print(&format!("{}: {} is the primary; it took {:.2} s\n", shown.clone, wanted.node, begin.elapsed().as_secs_f64()));
            return Ending::Done;
        }
        std::thread::sleep(STEP);
    }
    let what = if interruption.is_there() { "interrupted" } else { "not promoted yet" };
    complain(&format!("{what}: the record names {}, and the next attempt elects it: systole why {}", wanted.node, wanted.name));
    Ending::TimedOut
}
