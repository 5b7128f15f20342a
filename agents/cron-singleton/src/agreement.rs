//! Whether the source is the same on all nodes. A job that stands on this node only is lost with the next move, and nobody would see
//! it before it is missed.
//!
//! Each node publishes a digest of its source when it has changed, without the resource by a monitor with `role=Stopped`; the node with the
//! resource compares. Nothing is asked in most monitors: what was found holds for a while, and as long as something differs it is asked
//! each time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::CronSingleton;
use crate::installed::digest;
use crate::place::Place;

/// The private attribute with the digest of a node's source.
const SOURCE: &str = "cron-source";
/// Where a node keeps what it has said and heard.
const NOTE: &str = "agreement";
/// The digest of a source that cannot be read.
const NONE: &str = "none";
/// How long it is taken to be still there. When Pacemaker is started anew it probes, and that tells it anew; this is for what else may
/// become of an attribute, when a partition heals for example.
const PUBLISHED_FOR: Duration = Duration::from_secs(3600);
/// How long what is published takes at most until it is known: it does not happen at once.
const ARRIVES: Duration = Duration::from_secs(10);
/// How long it holds that all are the same: as often as the snippets have the other nodes look.
const ASKED_FOR: Duration = Duration::from_secs(60);

/// What this node has said of its source, and heard of the others'.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Agreement {
    node: String,
    digest: String,
    /// Seconds since boot, unless nobody knows it.
    published: Option<u64>,
    /// Seconds since boot, once it was asked.
    asked: Option<u64>,
    /// The nodes with another one.
    differing: Vec<String>,
}

impl Agreement {
    fn noted(place: &Place) -> Option<Self> {
        serde_json::from_slice(&place.noted(NOTE)?).ok()
    }

    /// Should it not be written down, the next monitor says and asks it again.
    fn note(&self, place: &Place) {
        let _ = serde_json::to_string(self).map(|text| place.note(NOTE, &text));
    }

    /// Whether the others know it. Pure.
    fn is_published(&self, node: &str, digest: &str, now: u64) -> bool {
        let recently = |published| now.saturating_sub(published) < PUBLISHED_FOR.as_secs();
        self.node == node && self.digest == digest && self.published.is_some_and(recently)
    }

    /// Whether what was said at that time may not have arrived yet. After that nobody knows it, and the next monitor says it again. Pure.
    fn is_under_way(said: u64, now: u64) -> bool {
        now.saturating_sub(said) < ARRIVES.as_secs()
    }

    /// Whether what was heard of the others holds. Pure.
    fn holds(&self, now: u64) -> bool {
        self.differing.is_empty() && self.asked.is_some_and(|asked| now.saturating_sub(asked) < ASKED_FOR.as_secs())
    }
}

/// The next monitor tells the others and asks them.
pub(crate) fn forget(place: &Place) {
    place.forget_noted(NOTE);
}

impl CronSingleton {
    /// Tells the other nodes which source this one has, if they do not know.
    pub(crate) fn publish_source(&self, place: &Place, source: Option<&str>) -> Option<Agreement> {
        if !self.cluster.is_present() {
            return None;
        }
        let digest = source.map_or_else(|| NONE.to_owned(), digest);
        let now = process::since_boot().as_secs();
        if let Some(known) = Agreement::noted(place).filter(|known| known.is_published(&self.node, &digest, now)) {
            return Some(known);
        }
        // Should it not be told, the next monitor tells it. Nothing that runs depends on it.
        self.cluster.publish_private(SOURCE, &digest).ok()?;
        let agreement = Agreement { node: self.node.clone(), digest, published: Some(now), ..Agreement::default() };
        agreement.note(place);
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
        let is_known = values.get(&self.node) == Some(&known.digest);
        let published = known.published.filter(|said| is_known || Agreement::is_under_way(*said, now));
        let others = values.into_iter().filter(|(node, digest)| *node != self.node && *digest != known.digest);
        let agreement = Agreement { published, asked: Some(now), differing: others.map(|(node, _)| node).collect(), ..known };
        agreement.note(place);
        agreement.differing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_and_heard_holds_for_a_while() {
        let said = Agreement { node: "a".into(), digest: "x".into(), published: Some(1000), ..Agreement::default() };
        assert!(said.is_published("a", "x", 4599) && !said.is_published("a", "x", 4600), "it may have been lost");
        assert!(!Agreement { published: None, ..said.clone() }.is_published("a", "x", 1001));
        assert!(!said.is_published("a", "y", 1001) && !said.is_published("b", "x", 1001));
        assert!(!said.holds(1001), "nobody was asked");
        let heard = Agreement { asked: Some(1000), ..said };
        assert!(heard.holds(1059) && !heard.holds(1060));
        assert!(!Agreement { differing: vec!["b".into()], ..heard }.holds(1001), "until it is the same");
    }
}
