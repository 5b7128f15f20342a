//! What is taken back in this world, and what is known of who was told of it.

use model::name;

use super::{Cluster, MOST, Set, Without, World, one};
use crate::election::errant;
use crate::reign::{Written, may_take_back};

impl World {
    /// Somebody is about to write here, and is told of that at once if the server is `alone`.
    pub(super) fn keep_account(&self, s: &mut Cluster, n: usize, alone: bool) {
        if self.params.rejoin.takes_back() {
            let next = one(usize::from(s.written));
            s.nodes[n].wrote |= next;
            s.told_alone |= if alone { next } else { 0 };
        }
    }

    /// What goes when this server takes back what the primary does not have, if it may.
    pub(super) fn to_be_taken_back(&self, s: &Cluster, n: usize) -> Option<Set> {
        let node = &s.nodes[n];
        let server = s.server(n).filter(|server| server.closed && self.params.rejoin.takes_back() && node.memory.errant().is_some())?;
        let record = s.record.as_deref().filter(|_| node.connected)?;
        let is_errant = |set: Set| errant(&self.gtids(s, set), record).is_some();
        let tail: Set = (0..MOST).map(one).filter(|t| server.executed & t != 0 && is_errant(*t)).sum();
        if tail == 0 || is_errant(server.executed & !tail) {
            return None;
        }
        let believed = self.without == Without::Log;
        let written = Written {
            by_itself: believed || tail & !s.written_by(n) == 0,
            in_the_reign: believed || tail & !node.reign_wrote.unwrap_or(node.wrote) == 0,
            process_is_gone: believed || node.reign_wrote.is_some(),
            shut_down: false,
        };
        let may = may_take_back(node.reign.as_deref(), record, &name(n), &self.uuid(n), |_| written);
        (may.is_ok() || self.without == Without::Reign).then_some(tail)
    }
}
