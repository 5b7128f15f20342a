//! What has run: a JSON object a line, appended by the wrapper of each run. For people and for the operator's command; no decision
//! is made by it.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use process::own;
use serde::{Deserialize, Serialize};

/// From this size on, bytes, a history is put aside, in place of the one before.
const LONG: u64 = 1024 * 1024;
/// How long a run waits for another one that writes.
const PATIENCE: Duration = Duration::from_millis(200);

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Seconds since 1970.
    pub at: i64,
    /// The node.
    pub node: String,
    /// Which job.
    pub job: String,
    /// The minute that it was due, since 1970.
    pub minute: i64,
    /// The wrapper's process.
    pub pid: u32,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happens to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// It began.
    Started {
        /// What.
        command: String,
    },
    /// Its command has ended; what that has left behind, a stop ends.
    Ended {
        /// Its exit status, as a shell has it: 128 and the signal when it was killed.
        status: i32,
    },
    /// It did not begin.
    Skipped {
        /// Why.
        why: String,
    },
    /// Nobody has begun it, or nobody knows: the agent's words, and not a wrapper's.
    Missed {
        /// Why.
        why: String,
    },
}

/// The last lines of our own history, oldest first, of at most so many bytes.
pub fn tail(path: &Path, bytes: u64) -> Vec<Line> {
    lines(&own::tail(path, bytes).unwrap_or_default())
}

/// The lines of a history. What is none is passed over: a user may write into theirs what they like.
pub fn lines(text: &str) -> Vec<Line> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Appends a line to our own.
///
/// # Errors
/// What the file system says.
pub fn append(path: &Path, line: &Line) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut file = own::append_to(path)?;
    if file.metadata()?.len() > LONG {
        // Not longer than for a moment, and without the lock if need be: a line is one write.
        let _lock = process::lock(&path.with_extension("lock"), PATIENCE)?;
        // Another run may have done it.
        if own::metadata(path).is_ok_and(|found| found.len() > LONG) {
            own::rename(path, &path.with_extension("jsonl.1"))?;
        }
        file = own::append_to(path)?;
    }
    // What was cut off, by a full disk or a power cut, must not take this line with it.
    if own::tail(path, 1).is_ok_and(|end| !end.is_empty() && end != "\n") {
        text.insert(0, b'\n');
    }
    file.write_all(&text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the tests' own files")]

    use std::fs;

    use super::*;

    fn line(event: Event) -> Line {
        Line { at: 7, node: "a".into(), job: "x".into(), minute: 3, pid: 1, event }
    }

    #[test]
    fn lines_read_back_and_a_long_history_is_put_aside() {
        let directory = std::env::temp_dir().join(format!("systole-history-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("history.jsonl");
        let lines = [
            line(Event::Started { command: "a \"b\"\n".into() }),
            line(Event::Ended { status: 137 }),
            line(Event::Skipped { why: "it still runs".into() }),
        ];
        lines.iter().for_each(|line| append(&path, line).unwrap());
        let text = fs::read_to_string(&path).unwrap();
        let read: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, lines);
        assert_eq!(tail(&path, 1 << 20), lines);
        assert_eq!(tail(&path, 120), lines[2..], "a line that is cut off is none");
        assert_eq!(tail(&directory, 1 << 20), []);
        fs::write(&path, vec![b'x'; LONG as usize + 1]).unwrap();
        append(&path, &lines[1]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert!(path.with_extension("jsonl.1").exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
