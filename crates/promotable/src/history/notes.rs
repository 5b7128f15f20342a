//! Noting on a node what is heard of a promotion, and keeping it. Whatever fails here is left: the log has all of it.

use std::cell::RefCell;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ocf::{Context, Failure, Notification, Operation, Phase, Status};
use process::{Identity, own};

use super::told::{Before, Ended, Note, What, demoted, ended_here, last, promotion, since_then};
use super::{KEPT, keep};
use crate::host::Host;
use crate::record::{Record, read_record};

/// The private attribute in which a node says how its primary ended.
const ENDED: &str = "ended";
/// The notes of this boot.
const HEARD: &str = "heard";
/// The same, while they are kept.
const KEEPING: &str = "keeping";
/// Whoever keeps them.
const KEEPER: &str = "keeper";
/// Notes that nobody has made a promotion of are of no use when they are as long. Bytes.
const LONGEST: u64 = 64 * 1024;
/// How long the cause may be that a node publishes. Bytes.
const LONGEST_CAUSE: usize = 300;
/// How an action says to the log that an election was won here.
const GOING_ON: &str = "going on with the promotion: ";

/// What an action learnt on its way that belongs into the history.
#[derive(Debug, Default)]
pub struct Witness(RefCell<Vec<What>>);

impl Witness {
    /// It read the record.
    pub fn read<R: Record>(&self, record: Option<&R>) {
        let before = record.map(|r| Before { epoch: r.epoch(), node: r.node().to_owned(), decided: r.decided() });
        let mut learnt = self.0.borrow_mut();
        // The first one: what is read later may be its own.
        if !learnt.iter().any(|what| matches!(what, What::Record(_))) {
            learnt.push(What::Record(before));
        }
    }

    /// It said something to the operator.
    pub fn said(&self, text: &str) {
        if let Some(why) = text.strip_prefix(GOING_ON) {
            self.0.borrow_mut().push(What::Elected(why.to_owned()));
        }
    }
}

/// The notes of a resource on this node.
#[derive(Debug)]
pub struct Notes<'a> {
    host: &'a Host,
}

impl<'a> Notes<'a> {
    /// Those of an agent's place on its node.
    pub fn of(host: &'a Host) -> Self {
        Self { host }
    }

    /// A notification has come.
    pub fn heard(&self, notification: &Notification) {
        let peers = &notification.peers;
        if peers.still_promoted().is_some() {
            return;
        }
        let candidate = peers.candidate().map(str::to_owned);
        let what = match (notification.phase, notification.operation, candidate) {
            (Phase::Pre, Operation::Demote, _) => What::PreDemote { node: peers.demote.first().map(|m| m.node.clone()) },
            (Phase::Post, Operation::Demote, _) => What::PostDemote,
            (Phase::Pre, Operation::Promote, _) => What::PrePromote,
            (Phase::Post, Operation::Promote, Some(node)) => What::PostPromote { node, running: peers.running_nodes() },
            _ => return,
        };
        self.note(vec![what]);
    }

    /// What an action has learnt that ends here: it promoted, or heard that somebody would be.
    pub fn learnt(&self) {
        let learnt = std::mem::take(&mut *self.host.witness.0.borrow_mut());
        self.note(learnt);
    }

    /// A server here that is promoted is about to be demoted.
    pub fn demoting(&self, promoted: bool, server: Option<&Identity>) {
        if promoted {
            self.note(vec![What::Demoting { alive: server.is_some_and(Identity::is_alive) }]);
        }
    }

    /// All has been done about a notification. Before a promotion, what was learnt is noted. After a demotion, its node says how the server
    /// ended: it may be stopped before the promotion.
    pub fn answered(&self, notification: &Notification) {
        match (notification.phase, notification.operation) {
            (Phase::Pre, Operation::Promote) => self.learnt(),
            (Phase::Post, Operation::Demote) if self.is_wanted() => {
                if let Some(mut ended) = ended_here(since_then(&self.read(HEARD))) {
                    let end = (0..=LONGEST_CAUSE.min(ended.cause.len())).rev().find(|at| ended.cause.is_char_boundary(*at));
                    ended.cause.truncate(end.unwrap_or(0));
                    let _ = self.host.cluster.publish_private(ENDED, &ended.print());
                }
            }
            _ => {}
        }
    }

    /// A monitor has answered: a primary that failed is noted, and what was heard of a promotion that has ended is kept.
    pub fn monitored<R: Record>(&self, context: &Context, promoted: bool, answer: &Result<Status, Failure>) {
        if !self.is_wanted() || context.environment.is_probe() {
            return;
        }
        match answer {
            Err(failure) if promoted => self.note(vec![What::Failed(failure.reason.clone())]),
            _ => self.settle::<R>(),
        }
    }

    fn settle<R: Record>(&self) {
        let keeping = self.file(KEEPING);
        if !own::is_file(&keeping) {
            let heard = self.file(HEARD);
            if !own::is_file(&heard) || last(&self.read(HEARD)).is_none() || own::rename(&heard, &keeping).is_err() {
                return;
            }
        }
        let notes = self.read(KEEPING);
        let Some((notes, to)) = last(&notes) else { return drop(own::remove(&keeping)) };
        let promotion = match read_record::<R>(&self.host.cluster) {
            // The next monitor asks again.
            Err(_) => return,
            // It did not come to it.
            Ok(None) => return drop(own::remove(&keeping)),
            Ok(Some(record)) if record.node() != to => return drop(own::remove(&keeping)),
            Ok(Some(record)) => promotion(notes, to, record.epoch(), self.ended(notes)),
        };
        let (kept, resource, keeper) = (self.kept(), self.host.membership.resource.clone(), self.file(KEEPER));
        // One at a time: a disk that hangs must not collect them.
        if !matches!(process::lock(&keeper, Duration::ZERO), Ok(Some(_))) {
            return;
        }
        if self.host.node().is_ok_and(|me| me == to) {
            // What it said of its end the last time is over.
            let _ = self.host.cluster.publish_private(ENDED, "");
        }
        let work = || {
            let Ok(Some(_alone)) = process::lock(&keeper, Duration::ZERO) else { return };
            if keep(&kept, &resource, promotion).is_ok() {
                let _ = own::remove(&keeping);
            }
        };
        let _ = process::detach(|_| Ok(()), work);
    }

    /// How the primary before ended, by this node's notes or by what its own node says.
    fn ended(&self, notes: &[Note]) -> Option<Ended> {
        let here = ended_here(notes);
        let there = || {
            let said = self.host.cluster.private_values(ENDED).ok()?;
            Ended::parse(said.get(demoted(notes)?)?)
        };
        here.or_else(there)
    }

    fn is_wanted(&self) -> bool {
        self.host.cluster.is_present()
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.host.volatile_file(extension)
    }

    fn kept(&self) -> PathBuf {
        self.host.kept.clone().unwrap_or_else(|| PathBuf::from(KEPT))
    }

    fn read(&self, extension: &str) -> Vec<Note> {
        let text = own::tail(&self.file(extension), LONGEST * 2).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// One append, which does not wait for a disk: notes that are lost with the boot are kept by the other nodes.
    fn note(&self, all: Vec<What>) {
        if all.is_empty() || !self.is_wanted() {
            return;
        }
        let at = u64::try_from(process::since_boot().as_millis()).unwrap_or(u64::MAX);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let lines: Option<String> =
            all.into_iter().map(|what| serde_json::to_string(&Note { at, time, what }).ok().map(|line| line + "\n")).collect();
        let path = self.file(HEARD);
        if own::metadata(&path).is_ok_and(|found| found.len() > LONGEST) {
            let _ = own::remove(&path);
        }
        let written = own::append_to(&path).and_then(|mut file| file.write_all(lines.unwrap_or_default().as_bytes()));
        // Without them the history lacks a line, which is not worth one in the log.
        drop(written);
    }
}
