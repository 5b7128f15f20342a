//! The record in the CIB: who is or was the primary, in which history, and who holds it. Parsed and printed here;
//! `pacemaker` moves it.

use std::collections::BTreeSet;
use std::fmt;

/// The CIB property, after the resource's name.
pub(crate) const PROPERTY: &str = "primary";

/// Who was promoted last.
///
/// As text: `epoch=7 node=lxc1 history=<replid> holders=lxc1,lxc2`. An operator who decides where the truth is writes
/// `node=lxc2` alone: a record without a history elects its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Counts promotions.
    pub(crate) epoch: u64,
    /// The primary.
    pub(crate) node: String,
    /// The replication id under which it wrote. `None` when an operator decided.
    pub(crate) history: Option<String>,
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
        let (mut epoch, mut node, mut history, mut holders) = (0, None, None, BTreeSet::new());
        for word in text.split_whitespace() {
            match word.split_once('=').ok_or_else(malformed)? {
                ("epoch", value) => epoch = value.parse().map_err(|_| malformed())?,
                ("node", value) if !value.is_empty() => node = Some(value.to_owned()),
                ("history", value) if !value.is_empty() => history = Some(value.to_owned()),
                ("holders", value) => holders = value.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect(),
                _ => return Err(malformed()),
            }
        }
        Ok(Self { epoch, node: node.ok_or_else(malformed)?, history, holders })
    }

    /// What the positions of one election have in common: a position that was published for another is stale. The node
    /// is part of it because an operator's decision starts the count of epochs anew.
    pub(crate) fn round(record: Option<&Self>) -> String {
        record.map_or_else(|| "0-".to_owned(), |record| format!("{}-{}", record.epoch, record.node))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch={} node={}", self.epoch, self.node)?;
        if let Some(history) = &self.history {
            write!(f, " history={history}")?;
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
    fn nonsense_is_an_error_and_not_an_empty_record() {
        for text in ["", "lxc1", "epoch=x node=a", "node=", "epoch=3", "node=a colour=red"] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_record_reads_back(epoch: u64, node in "[a-z0-9.-]{1,20}", history in proptest::option::of("[0-9a-f]{40}"), holders in proptest::collection::btree_set("[a-z0-9.-]{1,9}", 0..4)) {
            let record = Record { epoch, node, history, holders };
            prop_assert_eq!(Record::parse(&record.to_string()), Ok(record));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,80}") {
            let _ = Record::parse(&text);
        }
    }
}
