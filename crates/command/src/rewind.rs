//! `systole rewind`: how far a replica is that takes back what the primary does not have, until it follows, or has said why it takes nothing
//! back. The agent begins it by itself where `rejoin` says so: nothing is changed here.

use std::time::Duration;

use crate::copies::to_take_back;
use crate::rejoining;
use crate::switchover::{Ending, look};
use crate::{complain, print};

/// Waits for it.
pub(crate) fn rewind(name: &str, node: Option<&str>, wait: Duration) -> Ending {
    let plan = match look(name, |_, database| to_take_back(database, node)).and_then(|plan| plan) {
        Ok(plan) => plan,
        Err(why) => {
            complain(&format!("refused, and nothing is changed: {why}"));
            return Ending::Refused;
        }
    };
    print(&format!("{}: {} takes back what {} does not have\n", plan.clone, plan.node, plan.primary));
    rejoining::follow(&plan, wait, true)
}
