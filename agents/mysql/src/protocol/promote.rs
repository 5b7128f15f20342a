//! `promote`: elected → everything received is applied → it follows nobody → commits wait for replicas → record in the CIB, in the place
//! of the one that the election went by → writable.
//!
//! Killed at any step before the last, it is a server that takes no writes, and the next run starts over; what is recorded by then names
//! this very process, so it holds everything that anybody could have been told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ocf::{Failure, Outcome, Peers};

use super::{Instance, OfDaemon, OfServer, Word, answer, hanging, list, no_such_fault};
use crate::election::{self, Position, Verdict};
use crate::gtid::Gtids;
use crate::limits;
use crate::observation::{Observation, Thread};
use crate::premises;
use crate::record::{Durability, Record};

/// How many looks in a row must find the applier through and nothing moved.
const NOTHING_MORE: u32 = 200;
/// How often the applier is looked at.
const APPLIER_STEP: Duration = Duration::from_millis(2);
/// Every so many looks at the applier are at all that the server says.
const WHOLE: u32 = 25;
/// An applier that takes longer is told of.
const WORTH_SAYING: Duration = Duration::from_millis(100);

impl Instance<'_> {
    /// Makes this server the primary.
    pub(crate) async fn promote(mut self, peers: Peers) -> Outcome {
        let Some(process) = self.find().await else {
            return Err(Failure::generic("the server does not run: start it before it is promoted"));
        };
        if let Some(directory) = hanging(self.texts(OfDaemon::HangingDisk(process.clone())).await) {
            return Err(Failure::generic(format!(
                "not promoted: the disk of {} hangs, and no write would come to its end",
                directory.display()
            )));
        }
        let reached = match self.reach(limits::ANSWER).await {
            Ok(()) => self.observe().await,
            Err(fault) => Err(fault),
        };
        let seen = match reached {
            // After each reload Pacemaker promotes an instance once more that is promoted already.
            Err(fault) if self.state.primary().is_some_and(|primary| primary.epoch.is_some()) => {
                self.warning(format!("it is promoted already, and cannot be asked: {fault}")).await;
                return Ok(());
            }
            other => other?,
        };
        if self.state.promoted() && !seen.closed {
            return Ok(());
        }
        if !self.state.ours() || self.state.dialect().is_none() {
            self.take_charge().await?;
        }
        let findings = self.findings(&seen).await;
        if let Some(finding) = premises::forbidding(&findings, self.wanted()) {
            return Err(Failure::generic(format!("not promoted: {}", finding.text)));
        }
        let record = self.record().await?;
        if let Some(record) = record.as_ref().filter(|r| election::may_resume(Some(r), self.state.claim())) {
            // A run before this one got as far as the record, and nobody can have written yet.
            self.notice("going on with a promotion that was interrupted").await;
            if record.durability == Durability::Lossless {
                // A monitor since then has taken it off: the server was closed.
                self.tell(Word::WaitForReplicas(record.acknowledgements)).await?;
            }
            // Positions were published under it, in the notification before this run: none of them may count when this reign ends.
            let next = election::rewritten(record, &self.executed().await?);
            self.state.lay_claim(next.clone(), Record::round(Some(record)));
            self.save().await?;
            self.milestone("resumed").await;
            self.replace_record(Some(record), &next).await?;
            return self.open(&next).await;
        }
        let running = self.running(&peers)?;
        let positions = self.win_election(record.as_ref(), &running, &seen).await?;
        self.milestone("elected").await;
        let seen = self.leave_source(seen).await?;
        self.milestone("source-forgotten").await;
        let next = self.begin_reign(record.as_ref(), &seen, &running, &positions).await?;
        self.milestone("reign-saved").await;
        self.replace_record(record.as_ref(), &next).await?;
        self.milestone("recorded").await;
        self.open(&next).await
    }

    /// Applies everything that was received, and follows nobody then.
    async fn leave_source(&mut self, seen: Box<Observation>) -> Result<Box<Observation>, Failure> {
        self.wait_no_more(&seen).await?;
        let seen = self.drain(seen).await?;
        self.milestone("drained").await;
        if seen.replica.is_some() {
            self.tell(Word::StopReplica(self.state.dialect().cloned())).await?;
            self.tell(Word::ForgetSource).await?;
        }
        Ok(seen)
    }

    /// Commits wait from here on. Returns the record of the reign, which is remembered and not written yet.
    async fn begin_reign(
        &mut self,
        before: Option<&Record>,
        seen: &Observation,
        running: &BTreeSet<String>,
        positions: &BTreeMap<String, Position>,
    ) -> Result<Record, Failure> {
        let lossless = self.durability() == Durability::Lossless && self.rules.clustered;
        let acknowledgements = self.acknowledgements();
        self.tell(Word::Acknowledge(false)).await?;
        self.tell(if lossless { Word::WaitForReplicas(acknowledgements) } else { Word::WaitForNobody }).await?;
        self.milestone("waiting-for-replicas").await;
        let executed = self.executed().await?;
        let reign = election::Reign {
            node: self.me()?,
            server: &seen.server,
            set: &executed,
            durability: if lossless { Durability::Lossless } else { Durability::AsyncAllowed },
            acknowledgements,
            durable: seen.durable,
            running,
            waits: lossless,
            keeps_account: self.params().rejoin.takes_back(),
            remembered: self.state.memory.epoch(),
        };
        let next = election::successor(before, &reign, positions);
        // Saved before the record is written: a run after this one knows then that the record is its own.
        self.state.lay_claim(next.clone(), Record::round(before));
        self.save().await?;
        Ok(next)
    }

    /// The last step of a promotion: the record stands in the CIB, so clients may write.
    async fn open(&mut self, record: &Record) -> Outcome {
        self.stand_back(false).await;
        let now = self.now();
        self.state.become_primary(record, now);
        self.save().await?;
        self.milestone("remembered").await;
        self.tell(Word::OpenWrites).await?;
        if self.params().event_scheduler {
            self.tell(Word::EventScheduler(true)).await?;
        }
        self.notice(format!("promoted: epoch {} with {} acknowledging", record.epoch, list(&record.active))).await;
        Ok(())
    }

    /// The nodes whose instances run, this one included.
    fn running(&self, peers: &Peers) -> Result<BTreeSet<String>, Failure> {
        let me = self.me()?.to_owned();
        Ok(peers.running_nodes().into_iter().chain([me]).collect())
    }

    /// The election, unless it was won in the notification before. Returns the positions that it was decided by.
    async fn win_election(
        &mut self,
        record: Option<&Record>,
        running: &BTreeSet<String>,
        seen: &Observation,
    ) -> Result<BTreeMap<String, Position>, Failure> {
        if !self.rules.clustered {
            return Ok(BTreeMap::new());
        }
        let under = record.map_or_else(String::new, ToString::to_string);
        let elected = self.state.rest().is_some_and(|rest| rest.elected.as_ref() == Some(&under));
        // Unless somebody wrote here meanwhile: nobody has voted for that, and it would be merged.
        // And unless something that was voted for is gone since.
        let told = self.state.told.position.as_ref().map(|(position, _)| position.have());
        let same = told.is_some_and(|told| told.contains(&seen.have()) && seen.have().contains(&told));
        if elected && same && self.stands_published(record) {
            // Won in the notification before, and nothing moves since.
            return self.hear_in_steps(record, running, Duration::ZERO).await;
        }
        let me = self.me()?;
        let others: BTreeSet<String> = running.iter().filter(|node| *node != me).cloned().collect();
        let mut positions = self.hear_in_steps(record, &others, limits::HEARING).await?;
        // What was published of this server may be of a process before this one.
        let mine = self.position(record, false).await?;
        positions.insert(me.to_owned(), mine);
        match self.verdict(record, &positions, running)? {
            Verdict::GoOn(reason) => {
                self.notice(format!("going on with the promotion: {reason}")).await;
                Ok(positions)
            }
            other => Err(Failure::generic(format!("not promoted: {}", self.give_way(other).await?))),
        }
    }

    /// On a closed server nobody but the applier can be waiting for acknowledgements, and it would do so for ever.
    ///
    /// A demotion leaves the waiting on, and so does a promotion that was interrupted: MySQL takes up to a second to switch
    /// it off, and its clients would wait for the next primary so much longer.
    pub(super) async fn wait_no_more(&mut self, seen: &Observation) -> Outcome {
        if seen.closed && seen.waits {
            self.tell(Word::WaitForNobody).await?;
        }
        Ok(())
    }

    /// Waits until everything that was received has been applied. Never reset a replica before: that deletes it.
    async fn drain(&mut self, seen: Box<Observation>) -> Result<Box<Observation>, Failure> {
        let Some(replica) = seen.replica.clone() else { return Ok(seen) };
        // The receiver was stopped before the election; a run without one (no cluster) does it here.
        if replica.receiver != Thread::Stopped {
            self.tell(Word::StopReceiver).await?;
        }
        // An applier that stops now takes what was received out of sight.
        let wanted = self.observe().await?.have().union(&seen.have());
        if is_through(&seen, &wanted) {
            return Ok(self.observe().await?);
        }
        if replica.applier == Thread::Stopped {
            self.tell(Word::StartApplier).await?;
        }
        let begin = self.now();
        let seen = self.await_applier(&wanted, seen.executed).await?;
        let elapsed = self.now().saturating_sub(begin);
        if elapsed > WORTH_SAYING {
            self.notice(format!("applied what had been received in {} ms", elapsed.as_millis())).await;
        }
        Ok(seen)
    }

    /// Until the applier is through with what is `wanted`, or has nothing left. `last`: what was applied when it began.
    async fn await_applier(&mut self, wanted: &Gtids, mut last: Gtids) -> Result<Box<Observation>, Failure> {
        let (mut reported, mut moved_at) = (self.now(), self.now());
        let (mut idle, mut cut, mut looks) = (0, false, 0_u32);
        loop {
            // The set alone costs server and agent a fraction of the whole. 5.6 may be through without it, which the whole tells, and the
            // end of the time is seen there.
            let briefly = looks % WHOLE != 0 && !self.dialect.counts_what_began_to_arrive() && self.left() > limits::AFTER_DRAIN;
            looks = looks.wrapping_add(1);
            if briefly && !self.executed().await?.contains(wanted) {
                self.wait(APPLIER_STEP).await;
                continue;
            }
            let now = self.observe().await?;
            let Some(replica) = now.replica.as_ref().filter(|_| !is_through(&now, wanted)) else { return Ok(now) };
            if let Some((number, text)) = &replica.applier_error {
                return Err(Failure::generic(format!(
                    "the applier stopped with error {number} ({text}) before everything received was applied: correct the data and start it, \
                     or name another node whose data are right with: {}",
                    self.rules.decide
                )));
            }
            // MySQL 5.6 counts a transaction as received when it begins to arrive, and nobody can have acknowledged that one.
            // Elsewhere this would be wrong: the state is that of the thread that hands out the work, not of its workers.
            let moved = now.executed != last;
            last = now.executed.clone();
            idle = if moved || !replica.applier_idle { 0 } else { idle + 1 };
            if moved {
                moved_at = self.now();
            }
            if self.now().saturating_sub(moved_at) > limits::STANDSTILL {
                self.free_the_applier(!cut).await?;
                (moved_at, cut) = (self.now(), true);
            }
            let missing = || wanted.difference(&now.executed).unwrap_or_default();
            if idle > NOTHING_MORE && self.dialect.counts_what_began_to_arrive() {
                self.warning(format!("the applier is through, without {}: it did not arrive whole", missing())).await;
                return Ok(now);
            }
            if self.left() <= limits::AFTER_DRAIN {
                return Err(Failure::generic(format!(
                    "still applying what was received ({} missing): writes open when that is done, at the next attempt; a longer promote timeout saves the attempts",
                    missing()
                )));
            }
            if self.now().saturating_sub(reported) > limits::PROGRESS {
                reported = self.now();
                self.notice("waiting for the applier: writes open when everything received is applied").await;
            }
            self.wait(APPLIER_STEP).await;
        }
    }

    /// The applier does not get on: sessions of clients end, one of which may hold a lock that it needs. A large transaction stands still
    /// as well: so without a lock to be seen only at the `first` time.
    async fn free_the_applier(&mut self, first: bool) -> Outcome {
        if !first && !answer!(self.ask(OfServer::ApplierWaits).await, Asked, no_such_fault)? {
            return Ok(());
        }
        let ended = self.count(OfServer::CutClients).await?;
        if ended > 0 {
            self.warning(format!("the applier does not get on: {ended} sessions of clients ended, which may hold a lock that it needs"))
                .await;
        }
        Ok(())
    }
}

/// Whether all that is wanted is applied. What a replica has received that follows a position in a file is not known: it is through when
/// nothing is left.
fn is_through(seen: &Observation, wanted: &Gtids) -> bool {
    seen.executed.contains(wanted) && seen.replica.as_ref().is_none_or(|r| r.by_gtid || r.applier_idle)
}
