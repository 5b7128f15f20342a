//! The record in the CIB: who is or was the primary, what it held, and who may acknowledge its transactions. Parsed and
//! printed here; `pacemaker` moves it.

use std::collections::BTreeSet;
use std::fmt;

use crate::gtid::Gtids;

/// Which of two records is the newer one: promotions, and rewrites by the primary since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp {
    /// Counts promotions.
    pub(crate) epoch: u64,
    /// Counts rewrites within an epoch.
    pub(crate) change: u64,
}

impl Stamp {
    /// Reads `7.3`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (epoch, change) = text.split_once('.')?;
        Some(Self { epoch: epoch.parse().ok()?, change: change.parse().ok()? })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.change)
    }
}

/// From which epoch on each primary held all that a client can have been told of in the epochs before, and told nobody of what it alone had: up
/// to now, this epoch included. What a server wrote in one of these epochs and the primary does not have, nobody was told of.
///
/// As text `7:1a2b3c4d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Unbroken {
    /// The first epoch.
    pub(crate) since: u64,
    /// What tells it from another epoch of this number: where the count of epochs was lost, it begins anew. A checksum of what the primary had.
    pub(crate) mark: u32,
}

impl Unbroken {
    /// It begins with this epoch, in which the primary has this.
    pub(crate) fn begin(since: u64, set: &Gtids) -> Self {
        Self { since, mark: crc32fast::hash(set.to_string().as_bytes()) }
    }

    /// Reads `7:1a2b3c4d`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (since, mark) = text.split_once(':')?;
        Some(Self { since: since.parse().ok()?, mark: u32::from_str_radix(mark, 16).ok()? })
    }
}

impl fmt::Display for Unbroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:08x}", self.since, self.mark)
    }
}

/// What a client was promised in an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Durability {
    /// A commit that a client saw succeed is on enough replicas.
    #[default]
    Lossless,
    /// It may be on the primary alone.
    AsyncAllowed,
}

impl Durability {
    /// The word of the parameter and of the record.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Lossless => "lossless",
            Self::AsyncAllowed => "async-allowed",
        }
    }

    /// Reads that word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Lossless, Self::AsyncAllowed].into_iter().find(|d| d.word() == word)
    }
}

/// Who was promoted last.
///
/// As text: `epoch=7 change=3 node=lxc1 server=UUID durability=lossless acknowledgements=1 active=lxc2,lxc3 set=UUID:1-9`. An operator who
/// decides where the truth is writes `node=lxc2` alone, better with the epoch (`epoch=7 node=lxc2`), so that
/// the count goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    /// Counts promotions.
    pub(crate) epoch: u64,
    /// Counts rewrites within the epoch.
    pub(crate) change: u64,
    /// The primary.
    pub(crate) node: String,
    /// Who writes transactions in this epoch: MySQL's `server_uuid`, MariaDB's `server_id`. `None` when an operator decided.
    pub(crate) server: Option<String>,
    /// What clients were promised in this epoch.
    pub(crate) durability: Durability,
    /// How many replicas acknowledge a commit in this epoch. A fact of the epoch like the durability: an election that
    /// took it from the parameter would ask too few once an operator has raised it.
    pub(crate) acknowledgements: usize,
    /// Who may acknowledge. Never contains the primary.
    pub(crate) active: BTreeSet<String>,
    /// Whether the primary ran with settings under which its disk may lack what it committed, at any time since it was promoted.
    pub(crate) relaxed: bool,
    /// Since when nothing was given up that a client can have been told of. `None` when nobody keeps account.
    pub(crate) unbroken: Option<Unbroken>,
    /// All that the primary had logged when this was written, whether acknowledged or not. `None` when an operator
    /// decided. With `async-allowed`: when it was promoted.
    pub(crate) set: Option<Gtids>,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// The text, when it is none: whoever wrote it meant something, so it is not passed over.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let malformed = || {
            format!(
                "record {:?} is not of the form epoch=N change=N node=NAME server=ID durability=lossless active=NAME,NAME set=GTIDS: write node=NAME alone to decide who is right",
                text.chars().take(200).collect::<String>()
            )
        };
        let mut record = Self {
            epoch: 0,
            change: 0,
            node: String::new(),
            server: None,
            durability: Durability::Lossless,
            acknowledgements: 1,
            active: BTreeSet::new(),
            relaxed: false,
            unbroken: None,
            set: None,
        };
        for word in text.split_whitespace() {
            match word.split_once('=').ok_or_else(malformed)? {
                ("epoch", value) => record.epoch = value.parse().map_err(|_| malformed())?,
                ("change", value) => record.change = value.parse().map_err(|_| malformed())?,
                ("node", value) => value.clone_into(&mut record.node),
                ("server", value) if !value.is_empty() => record.server = Some(value.to_owned()),
                ("durability", value) => record.durability = Durability::parse(value).ok_or_else(malformed)?,
                ("acknowledgements", value) => record.acknowledgements = value.parse().ok().filter(|n| *n > 0).ok_or_else(malformed)?,
                ("disk", "relaxed") => record.relaxed = true,
                ("unbroken", value) => record.unbroken = Some(Unbroken::parse(value).ok_or_else(malformed)?),
                ("active", value) => record.active = value.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect(),
                ("set", value) => record.set = Some(Gtids::parse_any(value).map_err(|why| format!("{}: {why}", malformed()))?),
                _ => return Err(malformed()),
            }
        }
        // Half a record is neither a primary's nor a decision.
        if record.node.is_empty() || record.server.is_some() != record.set.is_some() || record.active.contains(&record.node) {
            return Err(malformed());
        }
        Ok(record)
    }

    /// When it was written.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { epoch: self.epoch, change: self.change }
    }

    /// Whether an operator wrote it: this node, whatever the others hold.
    pub(crate) fn decided(&self) -> bool {
        self.set.is_none()
    }

    /// What the positions of one election have in common: a position that was published for another is stale. The
    /// change is part of it because nobody rewrites the record while there is no primary, so a position that was
    /// published in the middle of a reign cannot pass for one of its end.
    pub(crate) fn round(record: Option<&Self>) -> String {
        record.map_or_else(|| "0.0-".to_owned(), |record| format!("{}-{}", record.stamp(), record.node))
    }
}

impl promotable::Record for Record {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn change(&self) -> u64 {
        self.change
    }

    fn node(&self) -> &str {
        &self.node
    }

    fn decided(&self) -> bool {
        Self::decided(self)
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch={} change={} node={}", self.epoch, self.change, self.node)?;
        if let Some(server) = &self.server {
            write!(f, " server={server}")?;
        }
        write!(f, " durability={} acknowledgements={}", self.durability.word(), self.acknowledgements)?;
        if !self.active.is_empty() {
            write!(f, " active={}", self.active.iter().cloned().collect::<Vec<_>>().join(","))?;
        }
        if self.relaxed {
            f.write_str(" disk=relaxed")?;
        }
        // An agent before this one does not read it: it is written only where transactions are taken back, which that one cannot do.
        if let Some(unbroken) = self.unbroken {
            write!(f, " unbroken={unbroken}")?;
        }
        if let Some(set) = &self.set {
            write!(f, " set={set}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gtid::Flavour;
    use proptest::prelude::*;

    const UUID: &str = "aaaaaaaa-0000-0000-0000-000000000001";

    #[test]
    fn a_record_of_a_primary_is_read() {
        let text =
            format!("epoch=7 change=3 node=lxc1 server={UUID} durability=lossless acknowledgements=2 active=lxc2,lxc3 set={UUID}:1-9:12");
        let record = Record::parse(&text).unwrap();
        assert_eq!((record.stamp(), record.node.as_str()), (Stamp { epoch: 7, change: 3 }, "lxc1"));
        assert_eq!((record.acknowledgements, record.active.len(), record.decided()), (2, 2, false));
        assert_eq!(record.to_string(), text);
        assert_eq!(Record::round(Some(&record)), "7.3-lxc1");
        let mariadb = Record::parse("epoch=1 node=a server=1 set=0-1-100,0-2-105").unwrap();
        assert_eq!(mariadb.set, Some(Gtids::parse("0-1-100,0-2-105", Flavour::MariaDb).unwrap()));
    }

    #[test]
    fn an_operator_may_write_the_node_alone() {
        let record = Record::parse("node=lxc2").unwrap();
        assert_eq!((record.epoch, record.node.as_str(), record.decided()), (0, "lxc2", true));
        assert!(Record::parse("epoch=7 node=lxc2").unwrap().decided());
    }

    #[test]
    fn the_record_of_an_empty_primary_is_no_decision() {
        let record = Record::parse("epoch=1 node=a server=1 set=").unwrap();
        assert_eq!((record.set.clone(), record.decided()), (Some(Gtids::Empty), false));
        assert_eq!(Record::parse(&record.to_string()), Ok(record));
    }

    #[test]
    fn nonsense_is_an_error_and_not_an_empty_record() {
        for text in [
            "",
            "lxc1",
            "epoch=x node=a",
            "node=a unbroken=7",
            "node=",
            "epoch=3",
            "node=a colour=red",
            "node=a server=x",
            "node=a set=0-1-1",
            "node=a server= set=",
            "node=a server=1 set=0-1",
            "node=a durability=maybe",
            "node=a acknowledgements=0",
            "node=a server=1 set= active=b,a",
        ] {
            let error = Record::parse(text).expect_err(text);
            assert!(error.contains("node=NAME alone"), "{error}");
        }
    }

    #[test]
    fn a_later_promotion_is_newer_than_any_rewrite_before() {
        let mut stamps: Vec<Stamp> = ["2.0", "1.9", "1.10", "10.0"].iter().filter_map(|s| Stamp::parse(s)).collect();
        stamps.sort();
        assert_eq!(stamps.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1.9", "1.10", "2.0", "10.0"]);
        assert_eq!([Stamp::parse("1"), Stamp::parse("1.x"), Stamp::parse("")], [None; 3]);
    }

    fn gtids() -> impl Strategy<Value = Gtids> {
        prop_oneof![
            Just(Gtids::Empty),
            (1..99_u64).prop_map(|n| Gtids::parse(&format!("{UUID}:1-{n}:tag:7"), Flavour::MySql).unwrap()),
            (1..99_u64).prop_map(|n| Gtids::parse(&format!("0-1-{n},0-2-100,5-1-1"), Flavour::MariaDb).unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn a_record_reads_back(
            epoch: u64, change: u64, node in "[A-Z0-9.-]{1,20}", reign in proptest::option::of(("[0-9a-f-]{1,36}", gtids())), lossless: bool, relaxed: bool, unbroken: Option<(u64, u32)>,
            acknowledgements in 1..9_usize, active in proptest::collection::btree_set("[a-z0-9.-]{1,9}", 0..4),
        ) {
            let durability = if lossless { Durability::Lossless } else { Durability::AsyncAllowed };
            let (server, set) = reign.unzip();
            let unbroken = unbroken.map(|(since, mark)| Unbroken { since, mark });
            let record = Record { epoch, change, node, server, durability, acknowledgements, relaxed, unbroken, active: active.into_iter().filter(|n| n.chars().any(|c| c.is_ascii_lowercase())).collect(), set };
            prop_assert_eq!(Record::parse(&record.to_string()), Ok(record));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,80}|(epoch|change|node|server|set|active)=[0-9a-z:,-]{0,30}( (node|server|set)=[0-9a-z:,-]{0,9}){0,3}") {
            crate::parsers::record(&text);
        }
    }
}
