//! The memory as it stands in its file: flat, under the names that agents before this one gave to its parts, so that a rolling upgrade may go
//! both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pacemaker::Score;
use process::Identity;
use serde::{Deserialize, Serialize};

use super::{Link, Primary, Process, Role, State, Unheard, Unpromoted};
use crate::record::Record;

/// A promotion that a process went through.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reign {
    round: String,
    server: Identity,
}

/// The file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Saved {
    version: u32,
    server: Option<Identity>,
    promoted: bool,
    reign: Option<Reign>,
    ours: bool,
    following: Option<String>,
    record: Option<String>,
    published: Option<(String, Duration)>,
    elected: Option<String>,
    linked: bool,
    stands_back: Option<(Score, Duration)>,
    held_until: Option<Duration>,
    history: String,
    reviewed: Option<Duration>,
    contested: Option<String>,
    holders: BTreeSet<String>,
    working_for: u32,
    #[serde(skip_serializing_if = "is_nothing")]
    busy_for: u32,
    #[serde(skip_serializing_if = "is_nothing")]
    still_for: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    settings_before: Vec<(String, String)>,
    detached_since: Option<Duration>,
    short_since: Option<Duration>,
    refused: Option<String>,
    nodes: BTreeSet<String>,
    away: BTreeMap<String, Duration>,
    leaving: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writes: Option<(bool, Duration)>,
}

/// What agents before this one do not know stands there only while it says something.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks it so")]
fn is_nothing(count: &u32) -> bool {
    *count == 0
}

/// Where a file says of a situation what cannot be, it says it of one before: that does not count.
impl From<Saved> for State {
    fn from(mut saved: Saved) -> Self {
        // One of another process is none.
        let mut round = saved.reign.take().filter(|reign| Some(&reign.server) == saved.server.as_ref()).map(|reign| reign.round);
        // One that is recorded has a history.
        let of_primary = round.take_if(|_| saved.promoted && !saved.history.is_empty());
        let process = saved.server.take().map(|identity| Process {
            identity,
            ours: saved.ours,
            linked: saved.linked,
            unheard: Unheard { busy_for: saved.busy_for, working_for: saved.working_for, still_for: saved.still_for },
            settings_before: std::mem::take(&mut saved.settings_before),
            reigned: round,
        });
        Self {
            version: saved.version,
            process,
            record: saved.record.take().and_then(|text| Record::parse(&text).ok()),
            published: saved.published.take(),
            writes: saved.writes,
            nodes: std::mem::take(&mut saved.nodes),
            role: if saved.promoted { Role::Primary(saved.primary(of_primary)) } else { Role::Unpromoted(saved.unpromoted()) },
        }
    }
}

impl Saved {
    fn primary(self, round: Option<String>) -> Primary {
        let reign = round.map(|round| super::Reign {
            round,
            history: self.history,
            holders: self.holders,
            away: self.away,
            reviewed: self.reviewed,
            contested: self.contested,
        });
        Primary { reign, leaving: self.leaving, short_since: self.short_since }
    }

    fn unpromoted(self) -> Unpromoted {
        let link = match (self.elected, self.following) {
            (Some(record), followed) => Link::Elected { record, followed },
            (None, node) => Link::to(node),
        };
        Unpromoted {
            link,
            detached_since: self.detached_since,
            refused: self.refused,
            stands_back: self.stands_back,
            held_until: self.held_until,
        }
    }

    fn with_process(self, process: Process) -> Self {
        let reign = process.reigned.map(|round| Reign { round, server: process.identity.clone() });
        let Unheard { busy_for, working_for, still_for } = process.unheard;
        let server = Some(process.identity);
        let settings_before = process.settings_before;
        Self { server, settings_before, ours: process.ours, linked: process.linked, busy_for, working_for, still_for, reign, ..self }
    }

    fn with_primary(self, primary: Primary) -> Self {
        let saved = Self { promoted: true, leaving: primary.leaving, short_since: primary.short_since, ..self };
        let Some(reign) = primary.reign else { return saved };
        Self {
            reign: saved.server.clone().map(|server| Reign { round: reign.round, server }),
            history: reign.history,
            holders: reign.holders,
            away: reign.away,
            reviewed: reign.reviewed,
            contested: reign.contested,
            ..saved
        }
    }

    fn with_unpromoted(self, unpromoted: Unpromoted) -> Self {
        let (elected, following) = match unpromoted.link {
            Link::Nobody => (None, None),
            Link::Following(node) => (None, Some(node)),
            Link::Elected { record, followed } => (Some(record), followed),
        };
        Self {
            elected,
            following,
            detached_since: unpromoted.detached_since,
            refused: unpromoted.refused,
            stands_back: unpromoted.stands_back,
            held_until: unpromoted.held_until,
            ..self
        }
    }
}

impl From<State> for Saved {
    fn from(state: State) -> Self {
        let saved = Self {
            version: state.version,
            record: state.record.map(|record| record.to_string()),
            published: state.published,
            writes: state.writes,
            nodes: state.nodes,
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
