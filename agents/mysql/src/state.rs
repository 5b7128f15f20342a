//! What this node remembers of its own server until the next boot. Not the truth: that is the server itself, and the
//! record in the CIB. It saves the monitor from asking the cluster each time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use process::Identity;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dialect::Dialect;
use crate::election::{Acknowledging, Memory, Position};
use crate::gtid::Gtids;
use crate::membership::Membership;
use crate::record::{Record, Stamp};

/// How far a promotion came, and whether it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Recorded, or about to be; nobody can have written.
    Recorded,
    /// Open for writes, or about to be.
    Open,
    /// Demoted. What follows is another epoch, even here.
    Over,
}

/// A promotion that this server's process went through.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Reign {
    /// Its epoch.
    pub(crate) epoch: u64,
    /// The process.
    pub(crate) server: Identity,
    /// How far it came.
    pub(crate) stage: Stage,
}

/// `election::Memory` as it stands in the file. The pure modules know no files.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct SavedMemory {
    acknowledging: Option<(String, String)>,
    not_before: Option<String>,
}

/// One that cannot be read is as good as none: it allows nothing.
mod memory {
    use super::*;

    pub(super) fn serialize<S: Serializer>(memory: &Memory, to: S) -> Result<S::Ok, S::Error> {
        let acknowledging = memory.acknowledging.as_ref().map(|a| (a.stamp.to_string(), a.mark.to_string()));
        SavedMemory { acknowledging, not_before: memory.not_before.map(|stamp| stamp.to_string()) }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Memory, D::Error> {
        let saved = SavedMemory::deserialize(from)?;
        let acknowledging = saved
            .acknowledging
            .and_then(|(stamp, mark)| Some(Acknowledging { stamp: Stamp::parse(&stamp)?, mark: Gtids::parse_any(&mark).ok()? }));
        Ok(Memory { acknowledging, not_before: saved.not_before.as_deref().and_then(Stamp::parse) })
    }
}

/// What stands in the file as it is told to others. What cannot be read there is none.
trait Text: Sized {
    fn print(&self) -> String;
    fn parse(text: &str) -> Option<Self>;
}

impl Text for Record {
    fn print(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

impl Text for Position {
    fn print(&self) -> String {
        Self::print(self)
    }

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl Text for Membership {
    fn print(&self) -> String {
        Self::print(self)
    }

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

mod text {
    use super::*;

    pub(super) fn serialize<T: Text, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(T::print).serialize(to)
    }

    pub(super) fn deserialize<'de, T: Text, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.as_deref().and_then(T::parse))
    }
}

/// The same, and when.
mod text_at {
    use super::*;

    pub(super) fn serialize<T: Text, S: Serializer>(value: &Option<(T, Duration)>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(|(value, at)| (value.print(), at)).serialize(to)
    }

    pub(super) fn deserialize<'de, T: Text, D: Deserializer<'de>>(from: D) -> Result<Option<(T, Duration)>, D::Error> {
        let found = Option::<(String, Duration)>::deserialize(from)?;
        Ok(found.and_then(|(text, at)| Some((T::parse(&text)?, at))))
    }
}

/// The memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// What the fields mean: another number is another agent's memory. 0 is the same as 1.
    pub(crate) version: u32,
    /// The server that was started or taken over.
    pub(crate) server: Option<Identity>,
    /// Servers before it that may still hold their data: killed ones whose memory the kernel has not taken back, or that hang on a disk.
    /// No other is started while they do.
    pub(crate) dying: Vec<Identity>,
    /// How many monitors in a row found it silent, though it works.
    pub(crate) silent: u32,
    /// The disks that it writes to, which are watched.
    pub(crate) disks: Option<pacemaker::Disks>,
    /// Whether the agent started it, or has taken it over completely.
    pub(crate) ours: bool,
    /// Whether it has answered since it was started: before that, silence is recovery.
    pub(crate) answered: bool,
    /// How it is spoken to. Found out anew when it was written by an agent that knew other words.
    #[serde(deserialize_with = "if_understood")]
    pub(crate) dialect: Option<Dialect>,
    /// What it leaves out of its binary log, empty for nothing. Fixed while the process lives.
    pub(crate) filters: String,
    /// Whether it is promoted: set when the promotion is recorded, before writes open.
    pub(crate) promoted: bool,
    /// Whether this process has been attached to a primary.
    pub(crate) linked: bool,
    /// Its last promotion.
    pub(crate) reign: Option<Reign>,
    /// The record of a promotion, saved before it is written, until the reign is over.
    #[serde(with = "text")]
    pub(crate) claim: Option<Record>,
    /// The node that it follows.
    pub(crate) following: Option<String>,
    /// What it remembers about acknowledging.
    #[serde(with = "memory")]
    pub(crate) memory: Memory,
    /// Whether it acknowledges now, by what it was told.
    pub(crate) acknowledges: bool,
    /// The round of the election for which its receiver was stopped.
    pub(crate) rested: Option<String>,
    /// Transactions that the primary does not have. The server follows nobody until an operator has decided.
    pub(crate) errant: Option<String>,
    /// How many monitors have found transactions here that others wrote, and that the primary may have as well.
    pub(crate) foreign_for: u32,
    /// Why its replication cannot get on, and since when: monitors ago.
    pub(crate) broken: Option<String>,
    pub(crate) broken_for: u32,
    /// What was published of the wish to acknowledge.
    #[serde(with = "text")]
    pub(crate) membership: Option<Membership>,
    /// When, since boot.
    pub(crate) membership_at: Option<Duration>,
    /// The record as it was read last. Good for one election.
    #[serde(with = "text")]
    pub(crate) record: Option<Record>,
    /// The position that was published last, and when, since boot.
    #[serde(with = "text_at")]
    pub(crate) published: Option<(Position, Duration)>,
    /// The record under which this node won the election in the notification before its promotion.
    pub(crate) elected: Option<String>,
    /// The score that stands until a time since boot, whatever the server is worth: after a refused promotion or a
    /// hand-over. Otherwise the next monitor would start the same promotion again at once.
    pub(crate) stands_back: Option<(pacemaker::Score, Duration)>,
    /// A dead primary that `demote` started again is no candidate before it is attached, or until this time since
    /// boot: raising its score would abort the transition that promotes its successor.
    pub(crate) held_until: Option<Duration>,
    /// On the primary: nodes whose server was stopped, or that resigned. They leave the record when the others have all.
    pub(crate) leaving: BTreeSet<String>,
    /// On the primary: nodes whose server was started. They enter the record anew.
    pub(crate) joining: BTreeSet<String>,
    /// On the primary: what it had logged at the monitor before, if commits were waiting.
    pub(crate) stands_at: Option<String>,
    /// When the record was read last to see whether it names whom this server follows, or this primary, since boot.
    pub(crate) asked_record: Option<Duration>,
    /// On the primary: when the replicas' wishes were looked up last, since boot.
    pub(crate) asked_members: Option<Duration>,
    /// What was published of the server's id, and when, since boot.
    pub(crate) server_id: Option<(String, Duration)>,
    /// The other node whose server has the id of this one, as it is to be told to an operator.
    pub(crate) twin: Option<String>,
    /// On the primary: the ids that the nodes published, as they were read last.
    pub(crate) server_ids: BTreeMap<String, String>,
    /// On the primary: the replicas that are none of the cluster's, as they were found last.
    pub(crate) strangers: Vec<String>,
    /// On the primary: that another was named in the record.
    pub(crate) contested: Option<String>,
    /// On the primary: why an acknowledgement may be worth nothing.
    pub(crate) intruded: Option<String>,
    /// On the primary: why no write is acknowledged, since when it is so, since boot.
    pub(crate) blocked: Option<(String, Duration)>,
    /// When writes were opened, since boot.
    pub(crate) opened: Option<Duration>,
    /// On a replica: what its last monitor could not do.
    pub(crate) trouble: Option<String>,
    /// On a replica: for how many monitors it follows nobody.
    pub(crate) alone_for: u32,
    /// Why this node was not promoted, until somebody is.
    pub(crate) refused: Option<String>,
    /// On the primary: why its commits do not wait for replicas as they should.
    pub(crate) weakened: Option<String>,
    /// Where the nodes' servers are reached, as far as asked.
    pub(crate) addresses: BTreeMap<String, String>,
    /// The reader attribute as published, and when, since boot.
    pub(crate) readable: Option<(bool, Duration)>,
}

impl State {
    /// The members of the record as it was read last.
    pub(crate) fn recorded_members(&self) -> BTreeSet<String> {
        self.record.as_ref().map(|record| record.active.clone()).unwrap_or_default()
    }

    /// The reign of the process that runs now, if the record is of it.
    fn reign_of(&self, record: &Record) -> Option<&Reign> {
        self.reign.as_ref().filter(|r| r.epoch == record.epoch && Some(&r.server) == self.server.as_ref() && !record.decided())
    }

    /// Whether the record is of a reign of the process that runs now, over or not: it holds everything.
    pub(crate) fn reigned(&self, record: &Record) -> bool {
        self.reign_of(record).is_some()
    }

    /// The same, and it is not over.
    pub(crate) fn reigns(&self, record: &Record) -> bool {
        self.reign_of(record).is_some_and(|r| r.stage != Stage::Over)
    }

    /// What stays of it when the server was stopped: what others were told, and when.
    pub(crate) fn of_stopped(&self) -> Self {
        Self {
            membership: self.membership.clone(),
            membership_at: self.membership_at,
            readable: self.readable,
            published: self.published.clone(),
            ..Self::default()
        }
    }

    /// What stays of it when there is another process of the server, whoever started it: what the one before had received, and maybe
    /// acknowledged, may be gone. `dying`: the servers before it that still hold their data.
    pub(crate) fn of_new_process(&self, dying: Vec<Identity>) -> Self {
        let mut memory = self.memory.clone();
        memory.start_over(None);
        Self {
            memory,
            server_id: self.server_id.clone(),
            dying,
            held_until: self.held_until,
            record: self.record.clone(),
            addresses: self.addresses.clone(),
            published: self.published.clone(),
            membership: self.membership.clone(),
            membership_at: self.membership_at,
            readable: self.readable,
            ..Self::default()
        }
    }
}

/// A part that says nothing where it cannot be understood: it can be found out anew.
fn if_understood<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

/// The file that holds the memory.
pub(crate) type StateFile = promotable::StateFile<State>;

impl promotable::Memory for State {
    const VERSION: u32 = 1;
    const DISPENSABLE: bool = false;

    fn of_version(self, version: u32) -> Self {
        Self { version, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A release before, and words that this one does not know in what can be found out anew.
    #[test]
    fn what_can_be_found_out_anew_need_not_be_understood() {
        let state: State = serde_json::from_str(r#"{"promoted":true,"dialect":{"words":"Newest"}}"#).unwrap();
        assert_eq!((state.promoted, state.dialect), (true, None));
        let known = State { dialect: Some(Dialect::unknown()), ..State::default() };
        assert_eq!(serde_json::from_slice::<State>(&serde_json::to_vec(&known).unwrap()).unwrap(), known);
    }

    #[test]
    fn another_process_of_the_server_has_acknowledged_nothing() {
        let mut state = State::default();
        let record = Record::parse("epoch=2 change=3 node=a server=11 active=b set=0-11-7").unwrap();
        state.memory.learn(Stamp::default());
        state.memory.acknowledge(&record);
        let anew = state.of_new_process(vec![]).memory;
        assert_eq!((anew.acknowledging, anew.not_before), (None, None));
    }
}
