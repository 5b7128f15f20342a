//! The lines of a journal that tell a failover.

use serde::{Deserialize, Serialize};

/// What in a message of Pacemaker, corosync or an agent tells the story; the rest is noise here.
pub const TELLING: &[&str] = &[
    "Result of promote operation",
    "Result of demote operation",
    "Result of start operation",
    "Result of stop operation",
    "Result of monitor operation",
    "Requesting fencing",
    "Fencing cluster",
    "Peer lxc",
    "was terminated",
    "Scheduling Node",
    "Operation 'reboot'",
    "Operation 'off'",
    "A processor failed",
    "A new membership",
    "lost quorum",
    "Quorum acquired",
    "Quorum lost",
    "node is within the primary component",
    "node is within the non-primary component",
    "process failed",
    "Adding inet address",
    "IP status =",
    "is on no interface any more",
    "was added to",
    "will promote",
    "Setting master-",
    "going on with the promotion",
    "handing over to",
    "refusing the promotion",
    "not promoted",
    "recorded: ",
    "following ",
    "is gone: it died or was killed",
];

/// Who may tell it.
const TELLERS: &[&str] = &["pacemaker", "corosync", "systole", "IPaddr2", "address", "redis", "mysql", "cron"];

/// Whether what this one logs may be a part of the story.
#[must_use]
pub fn may_tell(teller: &str) -> bool {
    TELLERS.iter().any(|t| teller.contains(t))
}

/// For how long after a line the same line of another node is its echo. Microseconds.
const ECHO_US: u64 = 250_000;

/// A moment of the story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Microseconds of the clock that was asked for.
    pub at_us: u64,
    /// The node, or who else tells it.
    pub by: String,
    /// What happened, in words.
    pub text: String,
}

/// Which clock of a journal counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The time since the boot, which the nodes of a rehearsal have in common.
    Monotonic,
    /// The time of day, which each machine has for itself.
    Realtime,
}

/// One line of `journalctl -o json`, when it belongs into the story: it is the agents', or somebody else's and holds one of these words.
#[must_use]
pub fn read_entry(node: &str, line: &str, telling: &[&str], clock: Clock) -> Option<Event> {
    let entry: serde_json::Value = serde_json::from_str(line).ok()?;
    let teller = entry.get("SYSLOG_IDENTIFIER")?.as_str()?;
    let message = text_of(entry.get("MESSAGE")?)?;
    let ours = teller.starts_with("systole");
    if !may_tell(teller) || !(ours || telling.iter().any(|t| message.contains(t))) {
        return None;
    }
    let field = match clock {
        Clock::Monotonic => "__MONOTONIC_TIMESTAMP",
        Clock::Realtime => "__REALTIME_TIMESTAMP",
    };
    let at_us = entry.get(field)?.as_str()?.parse().ok()?;
    let message = message.trim_start_matches([' ']).trim_start_matches("notice:").trim();
    Some(Event { at_us, by: node.to_owned(), text: format!("{}: {message}", teller.trim_start_matches("pacemaker-")) })
}

/// What stands in a field. What is not UTF-8, or has control characters in it, is an array of its bytes.
fn text_of(field: &serde_json::Value) -> Option<String> {
    if let Some(text) = field.as_str() {
        return Some(text.to_owned());
    }
    let byte = |value: &serde_json::Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    let bytes: Option<Vec<u8>> = field.as_array()?.iter().map(byte).collect();
    Some(String::from_utf8_lossy(&bytes?).into_owned())
}

/// Whether a line of `journalctl -o json` is of somebody who may tell the story, and does not say what.
#[must_use]
pub fn is_unreadable(line: &str) -> bool {
    let Ok(entry) = serde_json::from_str::<serde_json::Value>(line) else { return !line.trim().is_empty() };
    let teller = entry.get("SYSLOG_IDENTIFIER").and_then(|teller| teller.as_str()).unwrap_or_default();
    may_tell(teller) && entry.get("MESSAGE").and_then(text_of).is_none()
}

/// Every node logs a change of an attribute or of the membership; the first to say it is enough. The events are in order.
#[must_use]
pub fn without_echoes(events: Vec<Event>) -> Vec<Event> {
    let mut kept: Vec<Event> = Vec::new();
    for event in events {
        let echo = kept.iter().rev().take_while(|e| e.at_us + ECHO_US > event.at_us).any(|e| e.text == event.text);
        if !echo {
            kept.push(event);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_pacemaker_did_and_skips_the_rest() {
        let line = |message: &str| {
            format!(
                r#"{{"__MONOTONIC_TIMESTAMP":"123","__REALTIME_TIMESTAMP":"456","SYSLOG_IDENTIFIER":"pacemaker-controld","MESSAGE":" notice: {message}"}}"#
            )
        };
        let expected = "controld: Result of promote operation for redis on lxc1: ok";
        for (clock, at_us) in [(Clock::Monotonic, 123), (Clock::Realtime, 456)] {
            let event = read_entry("lxc1", &line("Result of promote operation for redis on lxc1: ok"), TELLING, clock);
            assert_eq!(event.map(|e| (e.at_us, e.text)), Some((at_us, expected.to_owned())));
        }
        assert!(read_entry("lxc1", &line("State transition S_IDLE -> S_POLICY_ENGINE"), TELLING, Clock::Monotonic).is_none());
    }

    /// Lines with colour in them, and those that journalctl finds too long, were passed over without a word.
    #[test]
    fn a_message_of_bytes_is_read_and_one_that_is_missing_is_counted() {
        let line = |message: &str| format!(r#"{{"__REALTIME_TIMESTAMP":"456","SYSLOG_IDENTIFIER":"systole-watch","MESSAGE":{message}}}"#);
        let bytes = line("[109,121,115,113,108,58,32,27,255]");
        assert_eq!(read_entry("a", &bytes, TELLING, Clock::Realtime).unwrap().text, "systole-watch: mysql: \u{1b}\u{fffd}");
        for (line, expected) in [
            (line("\"text\""), false),
            (bytes, false),
            (line("null"), true),
            (line("[300]"), true),
            (line("null").replace("systole-watch", "sshd"), false),
            ("{\"half a li".to_owned(), true),
            (String::new(), false),
        ] {
            assert_eq!(is_unreadable(&line), expected, "{line}");
        }
    }

    #[test]
    fn an_attribute_that_each_node_logs_is_told_once() {
        let event = |at_us, by: &str| Event { at_us, by: by.to_owned(), text: "attrd: Setting master-redis[a]: 1 -> 2".to_owned() };
        let kept = without_echoes(vec![event(1, "a"), event(2, "b"), event(900_000, "c")]);
        assert_eq!(kept.iter().map(|e| e.by.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    }
}
