//! Operations on lists and registers, whose history a checker of consistency can judge: what there is to do, in which order, and what a
//! client knows of each. Owns the plan and the record; whoever carries them out is in `load`.

use serde::{Deserialize, Serialize};

use crate::journal::Outcome;

/// What an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// Values are appended; a read sees all of them in their order.
    List,
    /// A value replaces the one before it; a read sees one, or none.
    Register,
}

impl Object {
    /// Both.
    pub const ALL: [Object; 2] = [Object::List, Object::Register];

    /// The word for it in keys and names of tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Object::List => "list",
            Object::Register => "register",
        }
    }
}

/// One operation of a client and what came of it. All times are CLOCK_MONOTONIC microseconds at the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Client. One that does not know what became of a change goes on under another number.
    pub client: u32,
    /// What it is about...
    pub object: Object,
    /// ...and which one of them.
    pub key: u64,
    /// What is appended or written; a read without it. No two changes of a run have the same value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<u64>,
    /// Sent.
    pub sent: u64,
    /// Answered or given up.
    pub done: u64,
    /// What the client knows.
    pub outcome: Outcome,
    /// What a read saw: the whole list; of a register one value, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Vec<u64>>,
}

/// Where an operation finds its object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The load's run.
    pub(crate) run: &'a str,
    /// List or register.
    pub(crate) object: Object,
    /// Which of them.
    pub(crate) key: u64,
}

impl Place<'_> {
    /// In Redis the key.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}:{}", self.object.name(), self.run, self.key)
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) object: Object,
    pub(crate) key: u64,
    pub(crate) change: Option<u64>,
}

/// How many operations a list or a register gets before the next one is begun: checking takes more than twice as long for twice as many.
const LIFE: u64 = 80;

/// The operation of that number: lists and registers in turns, three changes and two reads of each.
pub(crate) fn task(number: u64) -> Task {
    let object = Object::ALL[usize::from(number % 2 == 1)];
    let turn = number / 2;
    Task { object, key: turn / LIFE, change: (turn % 5 < 3).then_some(number) }
}

/// One read of each object that the first so many operations were about.
pub(crate) fn last_reads(operations: u64) -> Vec<Task> {
    let Some(last) = operations.checked_sub(1) else { return Vec::new() };
    let keys = 0..=task(last).key;
    keys.flat_map(|key| Object::ALL.map(|object| Task { object, key, change: None })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_its_changes_and_reads_and_then_the_next_one_comes() {
        let tasks: Vec<Task> = (0..LIFE * 2 + 2).map(task).collect();
        let of_the_first = tasks.iter().filter(|t| t.object == Object::List && t.key == 0);
        assert_eq!(of_the_first.clone().count() as u64, LIFE);
        assert_eq!(of_the_first.filter(|t| t.change.is_none()).count() as u64, LIFE * 2 / 5);
        assert_eq!(tasks.last().map(|t| (t.object, t.key)), Some((Object::Register, 1)));
        let mut values: Vec<u64> = tasks.iter().filter_map(|t| t.change).collect();
        let all = values.len();
        values.dedup();
        assert_eq!(values.len(), all);
    }

    #[test]
    fn each_object_is_read_in_the_end() {
        assert_eq!(last_reads(0), []);
        assert_eq!(last_reads(1).len(), 2);
        assert_eq!(last_reads(LIFE * 2).len(), 2);
        assert_eq!(last_reads(LIFE * 2 + 1).len(), 4);
    }
}
