//! What a replica tells the primary of its acknowledgements. Pure.

use crate::gtid::Gtids;
use crate::record::Stamp;

/// What a replica tells the primary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Membership {
    /// It has caught up and wants to acknowledge, under a record newer than this.
    Ready(Stamp),
    /// It acknowledges nothing any more, under records up to this one.
    Resigned(Stamp),
    /// It began to acknowledge under this record, and not right after a promotion. With what it held already: that it does not
    /// acknowledge any more.
    Acknowledges(Stamp, Gtids),
}

impl Membership {
    /// As a private attribute. Reads back by [`Self::parse`].
    pub(crate) fn print(&self) -> String {
        match self {
            Self::Ready(stamp) => format!("ready {stamp}"),
            Self::Resigned(stamp) => format!("resigned {stamp}"),
            Self::Acknowledges(stamp, held) => format!("acknowledges {stamp} {held}"),
        }
    }

    /// Reads what a replica told, `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let (word, stamp) = (words.next()?, Stamp::parse(words.next()?)?);
        match word {
            "ready" => Some(Self::Ready(stamp)),
            "resigned" => Some(Self::Resigned(stamp)),
            "acknowledges" => Some(Self::Acknowledges(stamp, Gtids::parse_any(words.next().unwrap_or_default()).ok()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replica_tells_reads_back() {
        let stamp = Stamp { epoch: 7, change: 3 };
        let held = Gtids::parse_any("0-11-5,0-12-7").expect("a state");
        let all = [
            Membership::Ready(stamp),
            Membership::Resigned(stamp),
            Membership::Acknowledges(stamp, Gtids::Empty),
            Membership::Acknowledges(stamp, held),
        ];
        for membership in all {
            assert_eq!(Membership::parse(&membership.print()), Some(membership.clone()), "{}", membership.print());
        }
        // As before it said what it held.
        assert_eq!(Membership::parse("acknowledges 7.3"), Some(Membership::Acknowledges(stamp, Gtids::Empty)));
        assert_eq!(Membership::parse("resigned x"), None);
        assert_eq!(Membership::parse("acknowledges 7.3 nonsense"), None);
    }
}
