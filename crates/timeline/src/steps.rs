//! The steps of a failover: what the lines of the nodes' journals mean.

use serde::{Deserialize, Serialize};

/// Who says when writes ended and began.
pub const CLIENTS: &str = "clients";
/// What clients say of the first write after the fault.
pub const FIRST_WRITE: &str = "first acknowledged write";

const SCORE: &str = "Setting master-";
const PLANNED: &str = "Calculated transition";
const NOTIFYING: &str = "Initiating notify operation ";
const RESULT: &str = "Result of ";
const NOTIFIED: &str = "Result of notify ";
const ADDED: &str = " was added to ";

/// The address of clients that only read: it moves when it likes, and those who write do not wait for it.
const READERS: &str = "-reader-ip";

/// How the step begins after which clients reach the new primary.
const ADDRESS: &str = "address on ";

/// What in a line of a node's journal is a step of a failover, or tells which.
pub const STEPS: &[&str] = &[SCORE, PLANNED, NOTIFYING, RESULT, ADDED];

/// A moment of a failover.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Since the fault.
    pub at_ms: f64,
    /// Node, `lab`, or [`CLIENTS`].
    pub by: String,
    /// What was said.
    pub text: String,
}

/// The lines of a story, each with the step that it is, if it is one. A line that only says which notification comes next is left out.
fn explained(story: &[Moment]) -> impl Iterator<Item = (&Moment, Option<String>)> {
    let mut notifying = "notification".to_owned();
    story.iter().filter_map(move |moment| {
        if let Some((_, operation)) = moment.text.split_once(NOTIFYING) {
            notifying = notification(operation);
            return None;
        }
        Some((moment, step_of(moment, &notifying)))
    })
}

/// What each line of a story means: empty where it is no step of a failover.
#[must_use]
pub fn meanings(story: &[Moment]) -> Vec<(&Moment, String)> {
    explained(story).map(|(moment, step)| (moment, step.unwrap_or_default())).collect()
}

/// The steps of a story: when each had been done, milliseconds, and its name.
#[must_use]
pub fn steps(story: &[Moment]) -> Vec<(f64, String)> {
    let mut steps: Vec<(f64, String)> = Vec::new();
    for (moment, step) in explained(story).filter(|(moment, _)| moment.at_ms >= 0.0) {
        let Some(what) = step else { continue };
        if moment.text.contains(PLANNED) && steps.iter().any(|(_, known)| known.starts_with(ADDRESS)) {
            // What is planned now is none of the clients' business.
            continue;
        }
        match steps.iter_mut().find(|(_, known)| *known == what) {
            // A notification has been done when the last node has answered.
            Some(known) if moment.text.contains(NOTIFIED) => known.0 = moment.at_ms,
            // Each node says so.
            Some(_) if moment.text.contains(SCORE) => {}
            _ => steps.push((moment.at_ms, what)),
        }
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    steps
}

/// `redis_pre_notify_demote_0 on lxc1`, in words.
fn notification(operation: &str) -> String {
    let named =
        |when: &str| operation.split_once(&format!("_{when}_notify_"))?.1.split('_').next().map(|action| format!("{when}-{action}"));
    named("pre").or_else(|| named("post")).map_or_else(|| "notification".to_owned(), |what| format!("notification, {what}"))
}

/// What a line means, where it is a step of a failover. `notifying`: which notification is under way.
fn step_of(event: &Moment, notifying: &str) -> Option<String> {
    let text = event.text.as_str();
    if text.contains(READERS) {
        return None;
    }
    if event.by == CLIENTS {
        return (text == FIRST_WRITE).then(|| FIRST_WRITE.to_owned());
    }
    if text.contains(SCORE) && text.ends_with("-INFINITY") {
        return Some("score lowered by the watcher".to_owned());
    }
    if text.contains(PLANNED) {
        return Some("transition calculated".to_owned());
    }
    if text.contains(ADDED) {
        return Some(format!("{ADDRESS}{}", event.by));
    }
    let result = text.split_once(RESULT)?.1;
    let (action, rest) = result.split_once(" operation for ")?;
    let (place, outcome) = rest.split_once(": ")?;
    let failed = if outcome == "ok" { String::new() } else { format!(": {outcome}") };
    match action {
        "notify" => Some(notifying.to_owned()),
        // The next one of either role begins while the address comes up, and keeps nobody waiting.
        "monitor" => None,
        _ => Some(format!("{action} of {place}{failed}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_of_many_lines_has_few_steps() {
        let lines = [
            (-0.3, CLIENTS, "last acknowledged write"),
            (0.0, "lab", "SIGKILL to redis-server on lxc3"),
            (8.5, "lxc2", "attrd: Setting master-redis[lxc3]: 1000 -> -INFINITY"),
            (9.3, "lxc1", "attrd: Setting master-redis[lxc3]: 1000 -> -INFINITY"),
            (37.2, "lxc2", "controld: Calculated transition 5, saving inputs in /var/lib/pacemaker/pengine/pe-input-5.bz2"),
            (72.1, "lxc2", "controld: Initiating notify operation redis_pre_notify_demote_0 on lxc1"),
            (116.4, "lxc3", "controld: Result of stop operation for redis-ip on lxc3: ok"),
            (133.6, "lxc1", "controld: Result of notify operation for redis on lxc1: ok"),
            (156.9, "lxc3", "controld: Result of notify operation for redis on lxc3: ok"),
            (239.3, "lxc3", "controld: Result of demote operation for redis on lxc3: ok"),
            (248.1, "lxc2", "controld: Initiating notify operation redis_post_notify_demote_0 locally on lxc2"),
            (320.5, "lxc3", "controld: Result of notify operation for redis on lxc3: ok"),
            (436.8, "lxc1", "controld: Result of promote operation for redis on lxc1: error"),
            (507.9, "lxc3", "attrd: Setting master-redis[lxc1]: 100 -> 1000"),
            (440.0, "lxc2", "address(mysql-reader-ip): NOTICE: 192.0.2.102/24 was added to host0"),
            (549.1, "lxc1", "address(redis-ip): NOTICE: 192.0.2.100/24 was added to host0"),
            (590.0, "lxc2", "schedulerd: Calculated transition 6, saving inputs in /var/lib/pacemaker/pengine/pe-input-6.bz2"),
            (595.2, "lxc1", "controld: Result of monitor operation for redis-ip on lxc1: ok"),
            (641.8, CLIENTS, FIRST_WRITE),
        ];
        let story: Vec<Moment> = lines.map(|(at_ms, by, text)| Moment { at_ms, by: by.to_owned(), text: text.to_owned() }).to_vec();
        let steps = steps(&story);
        let expected = [
            (8.5, "score lowered by the watcher"),
            (37.2, "transition calculated"),
            (116.4, "stop of redis-ip on lxc3"),
            (156.9, "notification, pre-demote"),
            (239.3, "demote of redis on lxc3"),
            (320.5, "notification, post-demote"),
            (436.8, "promote of redis on lxc1: error"),
            (549.1, "address on lxc1"),
            (641.8, FIRST_WRITE),
        ];
        assert_eq!(steps.iter().map(|(at, what)| (*at, what.as_str())).collect::<Vec<_>>(), expected);
    }
}
