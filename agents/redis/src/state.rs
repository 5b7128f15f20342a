//! What this node remembers of its own server until the next boot. Not the truth: that is the server itself, and the
//! record in the CIB. It saves the monitor from asking the cluster each time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ocf::Peers;
use process::Identity;
use serde::{Deserialize, Serialize};

use crate::record::Record;

/// A promotion that this server's process went through.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Reign {
    /// The round of the election that will follow it.
    pub(crate) round: String,
    /// The process.
    pub(crate) server: Identity,
}

/// The memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// Of the file's form; 1 where it is not said.
    pub(crate) version: u32,
    /// The server that was started or taken over.
    pub(crate) server: Option<Identity>,
    /// Whether it is promoted: set when the promotion is recorded, before writes open.
    pub(crate) promoted: bool,
    /// Its last promotion.
    pub(crate) reign: Option<Reign>,
    /// Whether the agent started it, or has taken it over completely.
    pub(crate) ours: bool,
    /// The node that it follows.
    pub(crate) following: Option<String>,
    /// The record as it was read since the last promotion that this node knows of. Good for one election.
    pub(crate) record: Option<String>,
    /// The position that was published last, and when, since boot.
    pub(crate) published: Option<(String, Duration)>,
    /// The record under which this node won the election in the notification before its promotion.
    pub(crate) elected: Option<String>,
    /// Whether this process has been attached to a primary, or was one: its data are more than what a disk had.
    pub(crate) linked: bool,
    /// The score that stands until a time since boot, whatever the server is worth: after a refused promotion or a
    /// hand-over. Otherwise the next monitor would start the same promotion again at once.
    pub(crate) stands_back: Option<(pacemaker::Score, Duration)>,
    /// A dead primary that `demote` started again is no candidate before it is attached, or until this time since
    /// boot: raising its score would abort the transition that promotes its successor.
    pub(crate) held_until: Option<Duration>,
    /// The history as recorded, on the primary.
    pub(crate) history: String,
    /// On the primary: when it was looked last whether the record is its own, since boot.
    pub(crate) reviewed: Option<Duration>,
    /// On the primary: that another was named in the record.
    pub(crate) contested: Option<String>,
    /// The holders as recorded, on the primary.
    pub(crate) holders: BTreeSet<String>,
    /// For how many monitors in a row the server has said nothing and worked.
    pub(crate) working_for: u32,
    /// Since when it is attached to nobody, since boot, as its monitors saw it.
    pub(crate) detached_since: Option<Duration>,
    /// On the primary: since when its writes are refused for want of replicas, since boot.
    pub(crate) short_since: Option<Duration>,
    /// Why this node was not promoted, until somebody is.
    pub(crate) refused: Option<String>,
    /// The nodes that the cluster's lists have named.
    pub(crate) nodes: BTreeSet<String>,
    /// Holders that are not attached, on the primary, and since when, since boot.
    pub(crate) away: BTreeMap<String, Duration>,
    /// Holders whose server was stopped, on the primary; they leave the record when what they held is elsewhere.
    pub(crate) leaving: BTreeSet<String>,
}

/// The file that holds the memory.
pub(crate) type StateFile = promotable::StateFile<State>;

impl promotable::Memory for State {
    const VERSION: u32 = 1;
    const DISPENSABLE: bool = true;

    fn of_version(self, version: u32) -> Self {
        Self { version, ..self }
    }
}

impl promotable::Remembered for State {
    fn server(&self) -> Option<&Identity> {
        self.server.as_ref()
    }

    fn is_promoted(&self) -> bool {
        self.promoted
    }

    fn refuse(&mut self, why: String) {
        self.refused = Some(why);
    }

    fn is_held(&self) -> bool {
        self.held_until.is_some()
    }

    fn stand_at(&mut self, score: pacemaker::Score, until: Duration) {
        self.stands_back = Some((score, until));
    }
}

impl State {
    /// Remembers the nodes that the lists name. Whether any was new.
    pub(crate) fn meet(&mut self, peers: &Peers) -> bool {
        let before = self.nodes.len();
        self.nodes.extend(peers.running_nodes());
        self.nodes.len() > before
    }

    /// The record as it was read last; `None` when it has to be read.
    pub(crate) fn known_record(&self) -> Option<Record> {
        self.record.as_deref().and_then(|text| Record::parse(text).ok())
    }

    /// Whether the server may hold data that the primary never had: it came from a disk, or it was a primary itself.
    pub(crate) fn may_part_with_data(&self) -> bool {
        !self.linked || self.reign.is_some()
    }

    /// What stays of it when there is another process of the server, whoever started it.
    pub(crate) fn of_new_process(&self, process: Identity) -> Self {
        Self { server: Some(process), reign: self.reign.clone(), nodes: self.nodes.clone(), ..Self::default() }
    }

    /// It is not the primary any more.
    pub(crate) fn forget_reign(&mut self) {
        self.promoted = false;
        self.holders.clear();
        self.leaving.clear();
    }

    /// Whether the process that runs now is the one whose promotion the round follows: it holds everything.
    pub(crate) fn reigned(&self, round: &str) -> bool {
        self.reign.as_ref().is_some_and(|r| r.round == round && Some(&r.server) == self.server.as_ref())
    }
}
