//! The promotion score: a hint to the cluster whom to ask first. The election decides. Pure.

use pacemaker::Score;
pub(crate) use promotable::preference::PRIMARY;

/// What the score depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Circumstances {
    /// The server is promoted.
    pub(crate) promoted: bool,
    /// It follows the primary, or did until a moment ago.
    pub(crate) attached: bool,
    /// Its replication cannot get on, or it has transactions of its own.
    pub(crate) broken: bool,
    /// It is further behind than the operator wants.
    pub(crate) lagging: bool,
    /// Its disk is full.
    pub(crate) cramped: bool,
    /// It was started again by a demotion a moment ago.
    pub(crate) held: bool,
    /// The record in the CIB names this node.
    pub(crate) recorded: bool,
    /// It has any transaction.
    pub(crate) has_data: bool,
}

/// The score of a server.
pub(crate) fn score(c: Circumstances) -> Score {
    Score::new(match c {
        // Its disk is full: the role goes to a replica with room, in an orderly move; when there is none, it stays.
        Circumstances { promoted: true, cramped: true, .. } => 60,
        Circumstances { promoted: true, .. } => return PRIMARY,
        Circumstances { broken: true, .. } => return Score::NEVER,
        Circumstances { cramped: true, .. } => 30,
        Circumstances { attached: true, lagging: true, .. } => 70,
        Circumstances { attached: true, .. } => 100,
        Circumstances { held: true, .. } => return Score::NEVER,
        // A cold start: nobody follows anybody.
        Circumstances { has_data: true, recorded: true, .. } => 50,
        Circumstances { has_data: true, .. } => 20,
        Circumstances { recorded: true, .. } => 12,
        _ => 10,
    })
}

#[cfg(test)]
mod tests {
    use promotable::preference::{HANDED_OVER, STEPPED_BACK};

    use super::*;

    #[test]
    fn the_order_of_preference() {
        let none = Circumstances::default();
        let of = |c: Circumstances| score(c);
        let order = [
            of(Circumstances { promoted: true, ..none }),
            HANDED_OVER,
            of(Circumstances { attached: true, ..none }),
            of(Circumstances { attached: true, lagging: true, ..none }),
            // A primary that cannot write stays above replicas that cannot either.
            of(Circumstances { promoted: true, cramped: true, ..none }),
            of(Circumstances { has_data: true, recorded: true, ..none }),
            of(Circumstances { attached: true, cramped: true, ..none }),
            of(Circumstances { has_data: true, ..none }),
            of(Circumstances { recorded: true, ..none }),
            of(none),
            STEPPED_BACK,
            of(Circumstances { attached: true, broken: true, ..none }),
        ];
        assert!(order.windows(2).all(|pair| pair[0] > pair[1]), "{order:?}");
        assert_eq!(of(Circumstances { held: true, has_data: true, recorded: true, ..none }), Score::NEVER);
    }
}
