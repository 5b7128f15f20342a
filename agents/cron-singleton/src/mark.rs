//! How far the runs of a resource's jobs are settled, in a line of text that survives the node: everything that was due up to a
//! minute has run, was left out by a rule, or was told of. Pure.

use std::fmt;

/// A run of a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// When it is due, minutes since 1970.
    pub minute: i64,
    /// Which job: its identity.
    pub job: String,
}

/// How far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Counts the starts of the resource, so that the marks of several nodes have an order without a clock.
    pub reign: u64,
    /// Where the resource was.
    pub node: String,
    /// Settled is what was due up to this minute since 1970, and in it,
    pub minute: i64,
    /// Whether the resource was stopped in order: nothing has run since.
    pub closed: bool,
    /// but for these: to be made up for, and not begun yet.
    pub pending: Vec<Run>,
}

impl Mark {
    /// Reads what is printed by [`fmt::Display`].
    pub fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.trim().split(';').collect();
        let [reign, node, minute, state, pending] = fields.as_slice() else { return None };
        let run = |text: &str| {
            let (job, minute) = text.split_once('@')?;
            Some(Run { minute: minute.parse().ok()?, job: job.to_owned() })
        };
        Some(Self {
            reign: reign.parse().ok()?,
            node: (*node).to_owned(),
            minute: minute.parse().ok()?,
            closed: match *state {
                "closed" => true,
                "open" => false,
                _ => return None,
            },
            pending: pending.split(',').filter(|text| !text.is_empty()).map(run).collect::<Option<_>>()?,
        })
    }

    /// The one that holds, of those that several nodes remember.
    pub fn newest(marks: impl IntoIterator<Item = Self>) -> Option<Self> {
        marks.into_iter().max_by_key(|mark| (mark.reign, mark.closed, mark.minute))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending: Vec<String> = self.pending.iter().map(|run| format!("{}@{}", run.job, run.minute)).collect();
        let state = if self.closed { "closed" } else { "open" };
        write!(f, "{};{};{};{state};{}", self.reign, self.node, self.minute, pending.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(reign: u64, minute: i64, closed: bool) -> Mark {
        Mark { reign, node: "lxc1".into(), minute, closed, pending: vec![] }
    }

    #[test]
    fn the_later_start_holds_whatever_the_clocks_say() {
        let newest = |marks: &[Mark]| Mark::newest(marks.iter().cloned());
        assert_eq!(newest(&[mark(2, 10, false), mark(1, 99, true)]), Some(mark(2, 10, false)));
        assert_eq!(newest(&[mark(2, 10, false), mark(2, 12, false)]), Some(mark(2, 12, false)));
        assert_eq!(newest(&[mark(2, 11, true), mark(2, 11, false)]), Some(mark(2, 11, true)));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn nonsense_is_no_mark() {
        for text in ["", "x", "1;a;2;ajar;", "1;a;2;open", "1;a;2;open;x", "1;a;2;open;x@y", "-1;a;2;open;", "1;a;2;open;;"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_reads_back(reign: u64, minute: i64, closed: bool, pending in proptest::collection::vec(("[0-9a-f]{16}(-[0-9])?", any::<i64>()), 0..4)) {
            let pending = pending.into_iter().map(|(job, minute)| Run { minute, job }).collect();
            let mark = Mark { reign, node: "web-1.example".into(), minute, closed, pending };
            prop_assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        }

        #[test]
        fn anything_can_stand_there(text: String) {
            let _ = Mark::parse(&text);
        }
    }
}
