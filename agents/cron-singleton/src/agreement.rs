//! Whether the source is the same on all nodes. A job that stands on this node only is lost with the next move, and nobody would see
//! it before it is missed.
//!
//! Each node publishes a digest of its source; the node with the resource compares. Nothing is asked in most monitors: what was found
//! holds for a while, and as long as something differs it is asked each time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::CronSingleton;
use crate::installed::digest;
use crate::place::Place;

/// The private attribute with the digest of a node's source.
const SOURCE: &str = "cron-source";
/// What stands there when the source cannot be read.
const NONE: &str = "none";
/// How long it is taken to be still there: Pacemaker may have been restarted meanwhile.
const PUBLISHED_FOR: Duration = Duration::from_secs(600);
/// How long it holds that all are the same.
const ASKED_FOR: Duration = Duration::from_secs(300);

/// What this node has said of its source, and heard of the others'.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Agreement {
    node: String,
    digest: String,
    /// Seconds since boot.
    published: u64,
    /// Seconds since boot, once it was asked.
    asked: Option<u64>,
    /// The nodes with another one.
    differing: Vec<String>,
}

impl Agreement {
    /// Whether the others know it. Pure.
    fn is_published(&self, node: &str, digest: &str, now: u64) -> bool {
        self.node == node && self.digest == digest && now.saturating_sub(self.published) < PUBLISHED_FOR.as_secs()
    }

    /// Whether what was heard of the others holds. Pure.
    fn holds(&self, now: u64) -> bool {
        self.differing.is_empty() && self.asked.is_some_and(|asked| now.saturating_sub(asked) < ASKED_FOR.as_secs())
    }
}

impl CronSingleton {
    /// Tells the other nodes which source this one has, if they do not know.
    pub(crate) fn publish_source(&self, place: &Place, source: Option<&str>) -> Option<Agreement> {
        if !self.cluster.is_present() {
            return None;
        }
        let digest = source.map_or_else(|| NONE.to_owned(), digest);
        let now = process::since_boot().as_secs();
        if let Some(known) = place.agreement().filter(|known| known.is_published(&self.node, &digest, now)) {
            return Some(known);
        }
        // Should it not be told, the next monitor tells it. Nothing that runs depends on it.
        self.cluster.publish_private(SOURCE, &digest).ok()?;
        let agreement = Agreement { node: self.node.clone(), digest, published: now, ..Agreement::default() };
        let _ = place.note_agreement(&agreement);
        Some(agreement)
    }

    /// The nodes whose source is not the one of this node, as far as they have said.
    pub(crate) fn differing_nodes(&self, place: &Place, source: Option<&str>) -> Vec<String> {
        let Some(known) = self.publish_source(place, source) else { return vec![] };
        let now = process::since_boot().as_secs();
        if known.holds(now) {
            return vec![];
        }
        let Ok(values) = self.cluster.private_values(SOURCE) else { return known.differing };
        let others = values.into_iter().filter(|(node, digest)| *node != self.node && *digest != known.digest);
        let agreement = Agreement { asked: Some(now), differing: others.map(|(node, _)| node).collect(), ..known };
        let _ = place.note_agreement(&agreement);
        agreement.differing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_and_heard_holds_for_a_while() {
        let said = Agreement { node: "a".into(), digest: "x".into(), published: 1000, ..Agreement::default() };
        assert!(said.is_published("a", "x", 1500) && !said.is_published("a", "x", 1600), "Pacemaker may have been restarted");
        assert!(!said.is_published("a", "y", 1001) && !said.is_published("b", "x", 1001));
        assert!(!said.holds(1001), "nobody was asked");
        let heard = Agreement { asked: Some(1000), ..said };
        assert!(heard.holds(1299) && !heard.holds(1300));
        assert!(!Agreement { differing: vec!["b".into()], ..heard }.holds(1001), "until it is the same");
    }
}
