//! Promotion scores, and the memory of the one that was published last.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much a node should be preferred for promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Score(i32);

impl Score {
    /// Pacemaker's infinity.
    const INFINITE: i32 = 1_000_000;
    /// Never promote this node.
    pub const NEVER: Self = Self(-Self::INFINITE);

    /// A score; what lies beyond infinity is infinity.
    pub const fn new(value: i32) -> Self {
        let value = if value > Self::INFINITE { Self::INFINITE } else { value };
        Self(if value < -Self::INFINITE { -Self::INFINITE } else { value })
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Self::INFINITE => f.write_str("INFINITY"),
            n if n == -Self::INFINITE => f.write_str("-INFINITY"),
            n => write!(f, "{n}"),
        }
    }
}

/// How long a published score is taken to be still there. Attributes vanish when a node leaves the cluster or the
/// attribute manager restarts, and nobody tells us.
const TRUSTED_FOR: Duration = Duration::from_secs(120);

/// The score that this node published last, and when.
#[derive(Debug, Serialize, Deserialize)]
struct Published {
    score: Score,
    at: Duration,
}

impl Published {
    fn now(score: Score) -> Option<Vec<u8>> {
        serde_json::to_vec(&Self { score, at: process::since_boot() }).ok()
    }
}

/// The files that remember the published score: one is the agent's, and what stands in the other one the watcher has published since.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    told: PathBuf,
}

/// The watcher's file, opened while it was root: so it needs no directory of its own to write to.
#[derive(Debug)]
pub(crate) struct Told(File);

impl Told {
    /// About to publish: until [`Self::published`], nothing that was published before can be relied on.
    pub(crate) fn publishing(&self) {
        self.write(b"?");
    }

    /// It was.
    pub(crate) fn published(&self, score: Score) {
        self.write(&Published::now(score).unwrap_or_default());
    }

    /// Not emptied in between: empty means that nothing was told. What stands behind the text of before is cut off last.
    fn write(&self, bytes: &[u8]) {
        let _ = self.0.write_all_at(bytes, 0).and_then(|()| self.0.set_len(bytes.len() as u64));
    }
}

impl Memory {
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), told: path.with_extension("told") }
    }

    /// The watcher's file, for as long as it is there.
    pub(crate) fn told(&self) -> std::io::Result<Told> {
        let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
        File::options().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(&self.told).map(Told)
    }

    /// Whether `score` was published a short while ago and nothing else since.
    pub(crate) fn holds(&self, score: Score) -> bool {
        let told = std::fs::read(&self.told).ok().filter(|told| !told.is_empty());
        let Some(published) = told.or_else(|| std::fs::read(&self.path).ok()).and_then(|b| serde_json::from_slice::<Published>(&b).ok())
        else {
            return false;
        };
        // A time in the future is from before a reboot.
        published.score == score && process::since_boot().checked_sub(published.at).is_some_and(|age| age < TRUSTED_FOR)
    }

    /// Remembers a score. A failure to write costs one needless call later, no more.
    pub(crate) fn remember(&self, score: Score) {
        if let Some(bytes) = Published::now(score) {
            let _ = process::write_atomically(&self.path, &bytes, 0o600);
        }
    }

    /// Forgets: the next publication calls the tool.
    pub(crate) fn forget(&self) {
        let _ = std::fs::remove_file(&self.path);
        // The watcher has it open.
        let _ = File::options().write(true).open(&self.told).and_then(|told| told.set_len(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinity_is_spelt_as_pacemaker_spells_it() {
        assert_eq!(Score::NEVER.to_string(), "-INFINITY");
        assert_eq!(Score::new(i32::MAX).to_string(), "INFINITY");
        assert_eq!(Score::new(-5).to_string(), "-5");
    }

    #[test]
    fn only_the_last_score_is_held_and_nonsense_holds_nothing() {
        let path = std::env::temp_dir().join(format!("systole-score-{}", std::process::id()));
        let memory = Memory::at(&path);
        assert!(!memory.holds(Score::new(1)));
        memory.remember(Score::new(1));
        assert!(memory.holds(Score::new(1)) && !memory.holds(Score::new(2)));
        std::fs::write(&path, b"{\"score\":1,\"at\":").unwrap();
        assert!(!memory.holds(Score::new(1)));
        let future = Published { score: Score::new(1), at: process::since_boot() + Duration::from_secs(60) };
        std::fs::write(&path, serde_json::to_vec(&future).unwrap()).unwrap();
        assert!(!memory.holds(Score::new(1)));
        memory.forget();
        assert!(!path.exists());
    }

    #[test]
    fn what_the_watcher_has_published_stands_above_what_the_agent_did() {
        let path = std::env::temp_dir().join(format!("systole-score-told-{}.score", std::process::id()));
        let memory = Memory::at(&path);
        memory.remember(Score::new(100));
        let told = memory.told().unwrap();
        assert!(memory.holds(Score::new(100)), "nothing was told yet");
        told.publishing();
        assert!(!memory.holds(Score::new(100)) && !memory.holds(Score::NEVER), "nobody knows what is published");
        told.published(Score::NEVER);
        assert!(memory.holds(Score::NEVER) && !memory.holds(Score::new(100)));
        // The agent publishes anew, and the watcher, which is still there, once more.
        memory.forget();
        assert!(!memory.holds(Score::NEVER));
        memory.remember(Score::new(100));
        assert!(memory.holds(Score::new(100)));
        told.publishing();
        assert!(!memory.holds(Score::new(100)));
        for file in [path.clone(), path.with_extension("told")] {
            std::fs::remove_file(file).unwrap();
        }
    }
}
