//! The record in the CIB: who is or was the primary, in which history, and who holds it. Parsed and printed here;
//! `pacemaker` moves it.

use std::collections::BTreeSet;
use std::fmt;

/// Who was promoted last.
///
/// As text: `epoch=7 node=lxc1 history=ID past=ID:END,ID:END holders=lxc1,lxc2`. An operator who decides where the truth is writes
/// `node=lxc2` alone: a record without a history elects its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    /// Counts promotions.
    pub(crate) epoch: u64,
    /// The primary.
    pub(crate) node: String,
    /// The replication id under which it wrote. `None` when an operator decided.
    pub(crate) history: Option<String>,
    /// The histories before it, the newest first, each with the offset at which it ended for everybody: a snapshot that
    /// was saved under one of them, no further than there, is a part of the same data.
    pub(crate) past: Vec<(String, u64)>,
    /// The nodes that may hold a write which was confirmed to a client: the primary and its attached replicas. Only a
    /// living primary takes a node out of here.
    pub(crate) holders: BTreeSet<String>,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// The text, when it is none: whoever wrote it meant something, so it is not passed over.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let malformed = || {
            format!(
                "record {:?} is not of the form epoch=N node=NAME history=ID holders=NAME,NAME",
                text.chars().take(200).collect::<String>()
            )
        };
        let (mut epoch, mut node, mut history, mut past, mut holders) = (0, None, None, Vec::new(), BTreeSet::new());
        for word in text.split_whitespace() {
            match word.split_once('=').ok_or_else(malformed)? {
                ("epoch", value) => epoch = value.parse().map_err(|_| malformed())?,
                ("node", value) if !value.is_empty() => node = Some(value.to_owned()),
                ("history", value) if !value.is_empty() => history = Some(value.to_owned()),
                ("past", value) => {
                    let pair = |p: &str| p.split_once(':').and_then(|(id, end)| Some((id.to_owned(), end.parse().ok()?)));
                    past = value.split(',').map(pair).collect::<Option<_>>().ok_or_else(malformed)?;
                }
                ("holders", value) => holders = value.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect(),
                _ => return Err(malformed()),
            }
        }
        Ok(Self { epoch, node: node.ok_or_else(malformed)?, history, past, holders })
    }

    /// What the positions of one election have in common: a position that was published for another is stale. The node
    /// is part of it because an operator's decision starts the count of epochs anew.
    pub(crate) fn round(record: Option<&Self>) -> String {
        record.map_or_else(|| "0-".to_owned(), |record| format!("{}-{}", record.epoch, record.node))
    }
}

/// How many histories are remembered. Snapshots are older than that only on nodes that were away for long.
const REMEMBERED: usize = 8;

impl Record {
    /// How many bytes a server at `offset` of history `id` holds that are no part of what was recorded; `None` when
    /// that cannot be known.
    pub(crate) fn excess(&self, id: &str, offset: u64) -> Option<u64> {
        if self.history.as_deref() == Some(id) {
            return Some(0);
        }
        self.past.iter().find(|(past, _)| past == id).map(|(_, end)| offset.saturating_sub(*end))
    }

    /// The record after this one, when `node` goes on from byte `offset` of history `from` and calls what follows
    /// `history`.
    pub(crate) fn succeeded_by(
        before: Option<&Self>,
        node: String,
        from: &str,
        offset: u64,
        history: String,
        holders: BTreeSet<String>,
    ) -> Self {
        let mut past = vec![(from.to_owned(), offset)];
        if let Some(before) = before {
            let known = before.history.iter().map(|id| (id.clone(), u64::MAX)).chain(before.past.iter().cloned());
            // From a history that nobody knows (an append-only file restores none), offsets count anew.
            if known.clone().any(|(id, _)| id == from) {
                past.extend(known.filter(|(id, _)| id != from).map(|(id, end)| (id, end.min(offset))));
            }
        }
        past.retain(|(id, _)| *id != history);
        past.truncate(REMEMBERED);
        Self { epoch: before.map_or(0, |r| r.epoch) + 1, node, history: Some(history), past, holders }
    }
}

impl promotable::Record for Record {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn change(&self) -> u64 {
        0
    }

    fn node(&self) -> &str {
        &self.node
    }

    fn decided(&self) -> bool {
        self.history.is_none()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch={} node={}", self.epoch, self.node)?;
        if let Some(history) = &self.history {
            write!(f, " history={history}")?;
        }
        if !self.past.is_empty() {
            write!(f, " past={}", self.past.iter().map(|(id, end)| format!("{id}:{end}")).collect::<Vec<_>>().join(","))?;
        }
        if !self.holders.is_empty() {
            write!(f, " holders={}", self.holders.iter().cloned().collect::<Vec<_>>().join(","))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_operator_may_write_the_node_alone() {
        let record = Record::parse("node=lxc2").unwrap();
        assert_eq!((record.epoch, record.node.as_str(), record.history), (0, "lxc2", None));
    }

    #[test]
    fn a_successor_remembers_where_the_histories_before_ended() {
        let on = |before: Option<&Record>, from: &str, offset, to: &str| {
            Record::succeeded_by(before, "a".into(), from, offset, to.into(), BTreeSet::new())
        };
        let first = on(None, "x", 1, "h1");
        let second = on(Some(&first), "h1", 50, "h2");
        assert_eq!((second.epoch, &second.past[..]), (2, &[("h1".into(), 50), ("x".into(), 1)][..]));
        // Elected from an old snapshot: whoever went further in h1 or h2 is no part of what follows.
        let third = on(Some(&second), "h1", 30, "h3");
        assert_eq!(third.past, [("h1".into(), 30), ("h2".into(), 30), ("x".into(), 1)]);
        assert_eq!(
            [third.excess("h3", 99), third.excess("h2", 29), third.excess("h2", 50), third.excess("y", 1)],
            [Some(0), Some(0), Some(20), None]
        );
        // From an append-only file: nothing before is comparable.
        assert_eq!(on(Some(&third), "unknown", 1, "h4").past, [("unknown".into(), 1)]);
        // The same history goes on (a promotion that was killed after the role, before the record).
        assert_eq!(on(Some(&first), "h2", 9, "h2").past, []);
    }

    #[test]
    fn nonsense_is_an_error_and_not_an_empty_record() {
        for text in ["", "lxc1", "epoch=x node=a", "node=", "epoch=3", "node=a colour=red", "node=a past=x", "node=a past=x:y"] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_record_reads_back(epoch: u64, node in "[a-z0-9.-]{1,20}", history in proptest::option::of("[0-9a-f]{40}"), past in proptest::collection::vec(("[0-9a-f]{40}", any::<u64>()), 0..3), holders in proptest::collection::btree_set("[a-z0-9.-]{1,9}", 0..4)) {
            let record = Record { epoch, node, history, past, holders };
            prop_assert_eq!(Record::parse(&record.to_string()), Ok(record));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,80}") {
            let _ = Record::parse(&text);
        }
    }
}
