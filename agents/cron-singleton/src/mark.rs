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
    /// but for these: to be made up for, and not begun yet. With mode=timer: the last run of each timer, whose name is the job's.
    pub pending: Vec<Run>,
}

impl Mark {
    /// Reads what is printed by [`fmt::Display`].
    pub fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.trim().split(';').collect();
        let [reign, node, minute, state, pending] = fields.as_slice() else { return None };
        let run = |text: &str| {
            // A timer may have one in its name.
            let (job, minute) = text.rsplit_once('@')?;
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

    /// The one that holds, of those that several nodes have.
    pub fn newest(marks: impl IntoIterator<Item = Self>) -> Option<Self> {
        marks.into_iter().max_by_key(|mark| (mark.reign, mark.closed, mark.minute))
    }
}

/// The marks that there are when a resource starts.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Those that the cluster has carried since the resource ran last; `None` when it cannot be asked.
    pub carried: Option<Vec<Mark>>,
    /// Those in the files of all nodes, from before the cluster was shut down as a whole.
    pub remembered: Vec<Mark>,
    /// In this node's own file.
    pub own: Option<Mark>,
    /// Whether that was made here since this node booted: all that has begun since is written down here.
    pub complete: bool,
    /// Whether no node of the cluster is missing.
    pub all_present: bool,
}

impl Known {
    /// The mark to go by. It is closed only if it is certain that nothing has run since that is not known here: what a file of this
    /// node says, another node may have outdated.
    pub fn mark(self) -> Option<Mark> {
        let certain = |mark: Mark, closed: bool| Mark { closed, ..mark };
        let own = self.own;
        let Some(carried) = self.carried else { return own.map(|own| certain(own, false)) };
        let Some(newest) = Mark::newest(carried.clone()) else {
            let newest = Mark::newest(self.remembered.into_iter().chain(own.clone()))?;
            let here = self.complete && own.as_ref() == Some(&newest);
            let closed = (here || newest.closed) && self.all_present;
            return Some(certain(newest, closed));
        };
        // Two nodes that could not tell each other.
        let disputed = carried.iter().any(|other| other.reign == newest.reign && other.node != newest.node);
        let later = |mark: &Mark| (mark.reign, mark.minute, mark.closed);
        match own.filter(|own| later(own) >= later(&newest)) {
            Some(own) if own.reign == newest.reign && own.node != newest.node => Some(certain(newest, false)),
            Some(own) => {
                let closed = self.complete || own.closed && own.reign == newest.reign;
                Some(certain(own, closed && !disputed))
            }
            None => {
                let closed = newest.closed && !disputed;
                Some(certain(newest, closed))
            }
        }
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
    fn only_what_is_certain_is_closed() {
        let on = |node: &str, reign: u64, minute: i64, closed: bool| Mark { node: node.into(), ..mark(reign, minute, closed) };
        let known = |carried: &[Mark], own: Option<Mark>, complete: bool, all_present: bool| {
            Known { carried: Some(carried.into()), remembered: vec![], own, complete, all_present }.mark()
        };
        let old = on("b", 4, 10, true);
        // The other node has had it since, and is lost.
        assert_eq!(known(&[on("a", 5, 20, false)], Some(old.clone()), false, false), Some(on("a", 5, 20, false)));
        assert_eq!(known(&[on("a", 5, 20, true)], Some(old.clone()), false, false), Some(on("a", 5, 20, true)));
        // Nobody carries anything: the cluster was shut down. Who is missing may have had it since.
        assert_eq!(known(&[], Some(old.clone()), false, false), Some(Mark { closed: false, ..old.clone() }));
        assert_eq!(known(&[], Some(old.clone()), false, true), Some(old.clone()));
        let elsewhere = Known {
            carried: Some(vec![]),
            remembered: vec![on("a", 5, 20, true)],
            own: Some(old.clone()),
            complete: true,
            all_present: true,
        };
        assert_eq!(elsewhere.mark(), Some(on("a", 5, 20, true)));
        // A start that was killed: what has begun since is known here.
        let open = on("a", 5, 20, false);
        let alone = std::slice::from_ref(&open);
        assert_eq!(known(&[on("a", 4, 10, true)], Some(open.clone()), true, true), Some(Mark { closed: true, ..open.clone() }));
        assert_eq!(known(alone, Some(open.clone()), true, true), Some(Mark { closed: true, ..open.clone() }));
        assert_eq!(known(alone, Some(open.clone()), false, true), Some(open.clone()), "it has booted since");
        // The attributes lag behind what the node has written down.
        assert_eq!(known(alone, Some(on("a", 5, 25, true)), false, true), Some(on("a", 5, 25, true)));
        // Two that could not tell each other.
        assert_eq!(known(&[open.clone(), on("c", 5, 22, true)], None, false, true), Some(on("c", 5, 22, false)));
        assert_eq!(known(&[on("c", 5, 22, true)], Some(on("a", 5, 25, true)), false, true), Some(on("c", 5, 22, false)));
        // The cluster cannot be asked.
        let mute = Known { own: Some(old.clone()), complete: true, ..Known::default() };
        assert_eq!(mute.mark().map(|mark| mark.closed), Some(false));
        assert_eq!(known(&[], None, false, true), None);
    }

    #[test]
    fn nonsense_is_no_mark() {
        for text in ["", "x", "1;a;2;ajar;", "1;a;2;open", "1;a;2;open;x", "1;a;2;open;x@y", "-1;a;2;open;", "1;a;2;open;;"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_reads_back(reign: u64, minute: i64, closed: bool, pending in proptest::collection::vec(("[0-9a-f]{16}(-[0-9])?|[a-z]{1,5}@[a-z]{1,5}\\.timer", any::<i64>()), 0..4)) {
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
