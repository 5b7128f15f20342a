//! The memory as it stands in its file: flat, under the names that agents before this one gave to its parts, so that a rolling upgrade may go
//! both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use process::Identity;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Broken, Link, Primary, Process, Rest, Role, State, Told, Unpromoted};
use crate::dialect::Dialect;
use crate::election::{Acknowledging, Memory, Position};
use crate::gtid::Gtids;
use crate::membership::Membership;
use crate::record::{Record, Stamp};

/// How far a promotion came, and whether it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// Recorded, or about to be; nobody can have written.
    Recorded,
    /// Open for writes, or about to be.
    Open,
    /// Demoted. What follows is another epoch, even here.
    Over,
}

/// A promotion that a process went through.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reign {
    epoch: u64,
    server: Identity,
    stage: Stage,
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

/// The file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Saved {
    version: u32,
    server: Option<Identity>,
    dying: Vec<Identity>,
    silent: u32,
    disks: Option<pacemaker::Disks>,
    ours: bool,
    answered: bool,
    /// Found out anew when it was written by an agent that knew other words.
    #[serde(deserialize_with = "if_understood")]
    dialect: Option<Dialect>,
    filters: String,
    promoted: bool,
    linked: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reload_pending: bool,
    reign: Option<Reign>,
    #[serde(with = "text")]
    claim: Option<Record>,
    following: Option<String>,
    #[serde(with = "memory")]
    memory: Memory,
    acknowledges: bool,
    rested: Option<String>,
    errant: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lost: bool,
    foreign_for: u32,
    broken: Option<String>,
    broken_for: u32,
    #[serde(with = "text")]
    membership: Option<Membership>,
    membership_at: Option<Duration>,
    #[serde(with = "text")]
    record: Option<Record>,
    #[serde(with = "text_at")]
    published: Option<(Position, Duration)>,
    elected: Option<String>,
    stands_back: Option<(pacemaker::Score, Duration)>,
    held_until: Option<Duration>,
    leaving: BTreeSet<String>,
    joining: BTreeSet<String>,
    stands_at: Option<String>,
    asked_record: Option<Duration>,
    asked_members: Option<Duration>,
    server_id: Option<(String, Duration)>,
    twin: Option<String>,
    server_ids: BTreeMap<String, String>,
    strangers: Vec<String>,
    contested: Option<String>,
    intruded: Option<String>,
    blocked: Option<(String, Duration)>,
    opened: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    noted: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    account_broken: bool,
    trouble: Option<String>,
    alone_for: u32,
    refused: Option<String>,
    weakened: Option<String>,
    addresses: BTreeMap<String, String>,
    readable: Option<(bool, Duration)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writes: Option<(bool, Duration)>,
}

/// Where a file says of a situation what cannot be, it says it of one before: that does not count. What follows from that is asked anew, and
/// no promotion goes on.
impl From<Saved> for State {
    fn from(mut saved: Saved) -> Self {
        // One of another process is none.
        let reign = saved.reign.take().filter(|reign| Some(&reign.server) == saved.server.as_ref());
        let process = saved.server.take().map(|identity| Process {
            ours: saved.ours,
            answered: saved.answered,
            silent: saved.silent,
            disks: saved.disks.take(),
            dialect: saved.dialect.take(),
            filters: std::mem::take(&mut saved.filters),
            linked: saved.linked,
            reload_pending: saved.reload_pending,
            reigned: reign.as_ref().filter(|reign| reign.stage == Stage::Over).map(|reign| reign.epoch),
            ..Process::of(identity)
        });
        let told = Told {
            position: saved.published.take(),
            membership: saved.membership.take().zip(saved.membership_at),
            server_id: saved.server_id.take(),
            readable: saved.readable,
            writes: saved.writes,
        };
        Self {
            version: saved.version,
            process,
            dying: std::mem::take(&mut saved.dying),
            memory: std::mem::take(&mut saved.memory),
            record: saved.record.take(),
            asked_record: saved.asked_record,
            addresses: std::mem::take(&mut saved.addresses),
            twin: saved.twin.take(),
            told,
            role: if saved.promoted {
                let epoch = reign.filter(|reign| reign.stage == Stage::Open).map(|reign| reign.epoch);
                Role::Primary(saved.primary(epoch))
            } else {
                Role::Unpromoted(saved.unpromoted(reign.is_some_and(|reign| reign.stage == Stage::Recorded)))
            },
        }
    }
}

impl Saved {
    fn primary(self, epoch: Option<u64>) -> Primary {
        Primary {
            epoch,
            claim: self.claim,
            opened: self.opened,
            noted: self.noted,
            account_broken: self.account_broken,
            leaving: self.leaving,
            joining: self.joining,
            stands_at: self.stands_at,
            asked_members: self.asked_members,
            server_ids: self.server_ids,
            strangers: self.strangers,
            contested: self.contested,
            intruded: self.intruded,
            blocked: self.blocked,
            weakened: self.weakened,
        }
    }

    /// `claims`: a promotion got as far as its record.
    fn unpromoted(self, claims: bool) -> Unpromoted {
        let claim = self.claim.filter(|_| claims);
        let link = match (self.following, self.rested) {
            (Some(node), _) => Link::Following { node, acknowledges: self.acknowledges },
            (None, Some(round)) if round == DEMOTED && claim.is_none() => Link::Demoted,
            (None, Some(round)) => Link::Resting(Rest { round, elected: self.elected, claim }),
            (None, None) if claim.is_some() => Link::Resting(Rest { round: DEMOTED.to_owned(), elected: None, claim }),
            (None, None) => Link::Nobody,
        };
        Unpromoted {
            link,
            errant: self.errant,
            lost: self.lost,
            foreign_for: self.foreign_for,
            broken: self.broken.map(|why| Broken { why, monitors: self.broken_for }),
            trouble: self.trouble,
            alone_for: self.alone_for,
            refused: self.refused,
            stands_back: self.stands_back,
            held_until: self.held_until,
        }
    }

    fn with_process(self, process: Process) -> Self {
        Self {
            server: Some(process.identity),
            silent: process.silent,
            disks: process.disks,
            ours: process.ours,
            answered: process.answered,
            dialect: process.dialect,
            filters: process.filters,
            linked: process.linked,
            reload_pending: process.reload_pending,
            ..self
        }
    }

    fn with_primary(self, primary: Primary) -> Self {
        Self {
            promoted: true,
            rested: Some(DEMOTED.to_owned()),
            claim: primary.claim,
            opened: primary.opened,
            noted: primary.noted,
            account_broken: primary.account_broken,
            leaving: primary.leaving,
            joining: primary.joining,
            stands_at: primary.stands_at,
            asked_members: primary.asked_members,
            server_ids: primary.server_ids,
            strangers: primary.strangers,
            contested: primary.contested,
            intruded: primary.intruded,
            blocked: primary.blocked,
            weakened: primary.weakened,
            ..self
        }
    }

    fn with_unpromoted(self, unpromoted: Unpromoted) -> Self {
        let (broken, broken_for) = unpromoted.broken.map(|broken| (broken.why, broken.monitors)).unzip();
        let saved = Self {
            errant: unpromoted.errant,
            lost: unpromoted.lost,
            foreign_for: unpromoted.foreign_for,
            broken,
            broken_for: broken_for.unwrap_or_default(),
            trouble: unpromoted.trouble,
            alone_for: unpromoted.alone_for,
            refused: unpromoted.refused,
            stands_back: unpromoted.stands_back,
            held_until: unpromoted.held_until,
            ..self
        };
        match unpromoted.link {
            Link::Nobody => saved,
            Link::Following { node, acknowledges } => Self { following: Some(node), acknowledges, ..saved },
            Link::Demoted => Self { rested: Some(DEMOTED.to_owned()), ..saved },
            Link::Resting(Rest { round, elected, claim }) => Self { rested: Some(round), elected, claim, ..saved },
        }
    }
}

/// The round of whoever was demoted and was not asked for a position since: an agent before this one follows whom a record of another round
/// names, and that is any.
const DEMOTED: &str = "";

impl From<State> for Saved {
    fn from(state: State) -> Self {
        let reign = state.process.as_ref().and_then(|process| {
            let of = |epoch, stage| Reign { epoch, server: process.identity.clone(), stage };
            let open = state.primary().and_then(|primary| primary.epoch).map(|epoch| of(epoch, Stage::Open));
            let claimed = || state.claim().map(|claim| of(claim.epoch, Stage::Recorded));
            open.or_else(claimed).or_else(|| process.reigned.map(|epoch| of(epoch, Stage::Over)))
        });
        let (membership, membership_at) = state.told.membership.unzip();
        let saved = Self {
            version: state.version,
            dying: state.dying,
            reign,
            memory: state.memory,
            record: state.record,
            asked_record: state.asked_record,
            addresses: state.addresses,
            twin: state.twin,
            published: state.told.position,
            membership,
            membership_at,
            server_id: state.told.server_id,
            readable: state.told.readable,
            writes: state.told.writes,
            ..Self::default()
        };
        let saved = match state.process {
            Some(process) => saved.with_process(process),
            None => saved,
        };
        match state.role {
            Role::Primary(primary) => saved.with_primary(primary),
            Role::Unpromoted(unpromoted) => saved.with_unpromoted(unpromoted),
        }
    }
}

/// A part that says nothing where it cannot be understood: it can be found out anew.
fn if_understood<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}
