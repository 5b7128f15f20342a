//! The history of promotions, for people: each node that hears of one keeps it. Nothing is ever decided by it, and a node that cannot write it
//! works on.
//!
//! While a primary is replaced, every node notes what it hears in a file of this boot (`notes`, one append and no disk). The first monitor
//! afterwards makes one [`Promotion`] of the notes (`told`, pure) and has a process of its own keep it on the disk, so that neither a
//! failover nor a monitor waits for that. A monitor with nothing to keep looks for two files and finds none.

mod notes;
mod told;

use std::path::{Path, PathBuf};

use process::own;
use serde::{Deserialize, Serialize};

pub use notes::{Notes, Witness};

/// Where the histories are kept.
pub const KEPT: &str = "/var/lib/systole";
/// The directory of them in there.
const DIRECTORY: &str = "history";
/// How many promotions a node remembers.
const REMEMBERED: usize = 200;
/// More than the file of those. Bytes.
const LONGEST: u64 = 512 * 1024;

/// Why another primary was needed. Where nodes differ, the first of what they say is what the one says that knows more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An operator had named the node whose data are right.
    OperatorsDecision,
    /// There was none.
    FirstStart,
    /// Its server had died or failed.
    Crash,
    /// The node of the one before was gone.
    LostNode,
    /// The one before was in order when it was demoted: somebody, or a rule of the cluster, moved the role.
    PlannedMove,
    /// Nobody was promoted before, as after all nodes were stopped.
    Start,
    /// The one before was demoted, and this node does not know why. Also what a later release may know of.
    #[default]
    #[serde(other)]
    Demotion,
}

impl Kind {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Demotion => "demotion",
            Self::Start => "start",
            Self::PlannedMove => "planned move",
            Self::LostNode => "lost node",
            Self::Crash => "crash",
            Self::FirstStart => "first start",
            Self::OperatorsDecision => "operator's decision",
        }
    }
}

/// A part of a failover, as this node saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// What was done.
    pub what: String,
    /// How long it took, milliseconds.
    pub ms: u64,
}

/// A promotion, as one node saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Promotion {
    /// Which one, by the record.
    pub epoch: u64,
    /// The primary before.
    pub from: Option<String>,
    /// The new one.
    pub to: String,
    /// Why.
    pub kind: Kind,
    /// What was wrong with the one before, when this node heard of it.
    pub cause: Option<String>,
    /// The election's reason, where it was held.
    pub election: Option<String>,
    /// What took how long.
    pub phases: Vec<Part>,
    /// How long nobody was promoted, as this node heard of it, milliseconds. Clients waited until the address was there as well.
    pub outage_ms: Option<u64>,
    /// When it was over, by this node's clock: seconds since 1970. For people only.
    pub at: u64,
}

/// The file of a resource.
fn file(kept: &Path, resource: &str) -> PathBuf {
    kept.join(DIRECTORY).join(format!("{resource}.jsonl"))
}

/// What this node has kept of a resource's promotions, the oldest first. Lines that are none are passed over.
///
/// # Errors
/// What the file system says. That there is no file is none: nothing was kept yet.
pub fn kept(kept: &Path, resource: &str) -> std::io::Result<Vec<Promotion>> {
    read(&file(kept, resource))
}

fn read(file: &Path) -> std::io::Result<Vec<Promotion>> {
    let text = match own::tail(file, LONGEST) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Adds one, unless it is there: whoever was killed between keeping it and forgetting the notes keeps it again. The file is replaced
/// whole, and not at all when it could not be read.
fn keep(kept: &Path, resource: &str, promotion: Promotion) -> std::io::Result<()> {
    let path = file(kept, resource);
    let mut all = read(&path)?;
    if all.iter().rev().take(2).any(|known| (known.epoch, &known.to) == (promotion.epoch, &promotion.to)) {
        return Ok(());
    }
    all.push(promotion);
    let lines = all.iter().skip(all.len().saturating_sub(REMEMBERED)).map(serde_json::to_string);
    let text = lines.map(|line| line.map(|line| line + "\n")).collect::<Result<String, _>>()?;
    own::make_directories(path.parent().unwrap_or(kept), 0o700)?;
    own::write(&path, text.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_bounded_and_has_no_promotion_twice() {
        let directory = std::env::temp_dir().join(format!("systole-history-{}", std::process::id()));
        let promotion = |epoch| Promotion { epoch, to: "a".into(), cause: Some("a".repeat(300)), ..Promotion::default() };
        own::make_directories(&directory.join(DIRECTORY), 0o700).unwrap();
        let full: Vec<String> = (0..REMEMBERED as u64).map(|epoch| serde_json::to_string(&promotion(epoch)).unwrap()).collect();
        own::write(&file(&directory, "r"), (full.join("\n") + "\nhalf a li").as_bytes(), 0o600).unwrap();
        for epoch in (0..5).flat_map(|n| [REMEMBERED as u64 + n; 2]) {
            keep(&directory, "r", promotion(epoch)).unwrap();
        }
        let all = kept(&directory, "r").unwrap();
        assert_eq!((all.len(), all[0].epoch, all[REMEMBERED - 1].epoch), (REMEMBERED, 5, REMEMBERED as u64 + 4));
        assert!(own::metadata(&file(&directory, "r")).unwrap().len() < LONGEST / 2);
        assert!(kept(&directory, "other").unwrap().is_empty());
        std::fs::remove_dir_all(directory).unwrap();
    }

    /// After any error of the disk the history was one promotion long.
    #[test]
    fn a_history_that_cannot_be_read_is_not_replaced() {
        let directory = std::env::temp_dir().join(format!("systole-history-unread-{}", std::process::id()));
        // A directory is there, and no file that could be read.
        let path = file(&directory, "r");
        own::make_directories(&path, 0o700).unwrap();
        assert!(kept(&directory, "r").is_err());
        assert!(keep(&directory, "r", Promotion::default()).is_err());
        // Nor is it a link that somebody else put there.
        std::fs::remove_dir(&path).unwrap();
        own::write(&directory.join("elsewhere"), b"{\"epoch\":1,\"to\":\"a\"}\n", 0o600).unwrap();
        std::os::unix::fs::symlink(directory.join("elsewhere"), &path).unwrap();
        if kept(&directory, "r").is_err() {
            assert!(keep(&directory, "r", Promotion::default()).is_err());
            assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink(), "it is not replaced");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_a_later_release_wrote_is_read_as_far_as_it_is_known() {
        let line = r#"{"epoch":7,"to":"a","kind":"eclipse","colour":"red"}"#;
        let promotion: Promotion = serde_json::from_str(line).unwrap();
        assert_eq!((promotion.epoch, promotion.kind), (7, Kind::Demotion));
    }
}
