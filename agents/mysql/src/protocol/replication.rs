//! A replica: whom it follows, and what keeps it from that.

use ocf::{Failure, Outcome};
use pacemaker::Score;

use super::{Instance, OfCluster, OfHost, Word};
use crate::election::{self, Divergence};
use crate::limits;
use crate::observation::{Observation, Replica, Thread};
use crate::record::Record;
use crate::rejoin::UNFINISHED;
use crate::state::Broken;

/// How many monitors in a row may find replication broken before the replica ceases to acknowledge.
const PATIENCE: u32 = 2;

/// How many monitors in a row may find transactions that others wrote and that the primary has not recorded: its own monitor does that.
const FOREIGN_PATIENCE: u32 = 4;

/// Instead of transactions that the primary does not have.
pub(super) const NOT_ENDED: &str = "what was begun to make it follow is not ended";

impl Instance<'_> {
    /// Makes a server follow whose data were copied, over a connection that there is.
    pub(crate) async fn follow_after_copy(mut self, primary: &str, record: Option<&Record>) -> Outcome {
        self.rejoin(primary, record).await
    }

    /// The same of a server that has taken something back, over a connection that there is: it is not whole before its rows were compared, and
    /// acknowledges nothing until then.
    pub(crate) async fn follow_unproven(mut self, record: &Record) -> Outcome {
        self.follow_when_explained(&record.node, Some(record), None).await
    }

    /// Makes a server follow a primary, if it has nothing that the primary does not have.
    pub(super) async fn rejoin(&mut self, primary: &str, record: Option<&Record>) -> Outcome {
        let unfinished = self.rejoin_is_unfinished().await.then(|| NOT_ENDED.to_owned());
        self.follow_when_explained(primary, record, unfinished).await
    }

    async fn follow_when_explained(&mut self, primary: &str, record: Option<&Record>, unfinished: Option<String>) -> Outcome {
        self.state.follow(primary);
        self.state.asked_record = Some(self.now());
        self.save().await?;
        if record.is_none() && self.rules.clustered {
            // It may hold what the primary does not have, and nobody could tell.
            return Err(Failure::generic(format!(
                "{primary} is promoted, and there is no record of it in the CIB: its next monitor writes one, and this server follows then"
            )));
        }
        if let Some(other) = record.filter(|r| r.node != primary) {
            return Err(Failure::generic(format!("{primary} is promoted, but the record names {}: waiting for the record", other.node)));
        }
        let host = self.address_of(primary).await;
        let seen = self.observe().await?;
        self.wait_no_more(&seen).await?;
        let (seen, pointed) = self.stop_following(seen, &host).await?;
        if seen.acknowledges {
            // Nobody asked for its position since it followed somebody: it may have acknowledged in this very epoch.
            self.tell(Word::Acknowledge(false)).await?;
            if let Some(now) = self.record().await? {
                self.state.memory.found_on(&now, primary);
            }
        }
        let diverged = || record.and_then(|r| election::divergence(&seen.executed, &seen.server, r));
        if let Some(divergence) = unfinished.map(Divergence::Errant).or_else(diverged) {
            self.refuse_to_follow(primary, divergence).await?;
            // Found by a start, or of a server that was pointed nowhere: an election must not have to hear it.
            return self.resign_if_member(record).await;
        }
        self.state.as_unpromoted(|unpromoted| (unpromoted.errant, unpromoted.lost) = (None, false));
        self.learn_history(&seen, record).await;
        self.follow(primary, &host, pointed, record).await
    }

    /// Stops the receiver, and the applier where it is to be pointed elsewhere. What it is then, and whether it is pointed right: after an
    /// election that came to nothing it is still, with everything that it received.
    async fn stop_following(&mut self, seen: Box<Observation>, host: &str) -> Result<(Box<Observation>, bool), Failure> {
        let port = self.params().replication.port;
        let fine =
            |r: &Replica| r.host == host && r.port == port && r.receiver_error.is_none() && r.applier == Thread::Running && r.in_order();
        if seen.replica.as_ref().is_some_and(fine) {
            self.tell(Word::StopReceiver).await?;
            return Ok((seen, true));
        }
        self.stop_replica().await?;
        Ok((self.observe().await?, false))
    }

    async fn follow(&mut self, primary: &str, host: &str, pointed: bool, record: Option<&Record>) -> Outcome {
        // Pointing it anywhere deletes what it received.
        if let Some(record) = record.filter(|_| !pointed) {
            self.state.memory.point(record.stamp());
        }
        let allowed = record.filter(|r| self.may_acknowledge(r, primary));
        self.state.set_acknowledges(allowed.is_some());
        if let Some(record) = allowed {
            // Remembered before the receiver connects: nothing is acknowledged that is not remembered.
            self.state.memory.acknowledge(record);
        }
        self.save().await?;
        // Whatever it has now, the primary has.
        self.perform(OfHost::ForgetReign).await?;
        self.tell(Word::Acknowledge(allowed.is_some())).await?;
        if pointed {
            self.tell(Word::StartReceiver).await?;
        } else {
            self.tell(Word::Follow(host.to_owned())).await?;
            self.tell(Word::StartReplica).await?;
        }
        self.state.as_unpromoted(|unpromoted| (unpromoted.broken, unpromoted.refused) = (None, None));
        self.save().await?;
        let how = if self.state.acknowledges() { ", acknowledging" } else { "" };
        self.notice(format!("following {primary}{how}")).await;
        Ok(())
    }

    /// A MariaDB that was made from a backup, or has taken something back, has an empty binary log, and knows only its newest transaction. That is one of
    /// the primary's, so it has what the primary knows of before; without that it would never count as caught up. Also when it knows all of that
    /// now: with the next transaction it would forget who wrote those before.
    async fn learn_history(&mut self, seen: &Observation, record: Option<&Record>) {
        let Some(history) = record.and_then(|r| r.set.as_ref()) else { return };
        let fresh = seen.variables.get("gtid_binlog_state").is_some_and(String::is_empty);
        let whole = seen.executed.with_history(history);
        if !fresh || seen.executed.is_empty() {
            return;
        }
        match self.tell(Word::LearnHistory(whole.clone())).await {
            Ok(()) => self.notice(format!("this server was made from a backup: its history is {whole}")).await,
            Err(fault) => self.warning(format!("the history of this server cannot be set: {fault}")).await,
        }
    }

    async fn stop_replica(&mut self) -> Outcome {
        Ok(self.tell(Word::StopReplica(self.state.dialect().cloned())).await?)
    }

    /// A server with transactions of its own never follows silently.
    pub(super) async fn refuse_to_follow(&mut self, primary: &str, divergence: Divergence) -> Outcome {
        let (gtids, lost) = match divergence {
            Divergence::Errant(gtids) => (gtids, false),
            Divergence::Lost(gtids) => (gtids, true),
        };
        if self.state.errant() != Some(&gtids) || self.state.lost() != lost {
            self.state.as_unpromoted(|unpromoted| (unpromoted.errant, unpromoted.lost) = (Some(gtids), lost));
            let why = self.errant_reason().await;
            self.error(format!("{why} (primary: {primary})")).await;
        }
        self.save().await?;
        self.perform(OfCluster::Score(Score::NEVER)).await
    }

    /// What an operator is told of a server that has diverged.
    pub(super) async fn errant_reason(&mut self) -> String {
        if self.rejoin_is_unfinished().await {
            return UNFINISHED.to_owned();
        }
        if self.state.lost() {
            return format!(
                "this server has lost what it wrote itself, {}, and no replica is sent its own; it does not follow. Make it anew from a copy of the \
                 primary's data (docs/mysql.md), or set rejoin=clone",
                self.state.errant().unwrap_or_default()
            );
        }
        format!(
            "this server has transactions that the primary does not have: {}; it does not follow. Look at them in its binary logs, then make \
             this replica anew (docs/mysql.md), or set rejoin=clone",
            self.state.errant().unwrap_or_default()
        )
    }

    /// On a replica, with each monitor: it follows whom it should, acknowledges when it may, and says what is wrong.
    /// `sound`: its settings allow it to acknowledge.
    pub(super) async fn tend_replication(&mut self, seen: &Observation, sound: bool) {
        let trouble = match self.tend(seen, sound).await {
            Ok(()) => None,
            Err(failure) => {
                self.warning(failure.reason.clone()).await;
                Some(failure.reason)
            }
        };
        let alone = seen.replica.is_none() && self.state.following().is_none();
        self.state.as_unpromoted(|unpromoted| {
            unpromoted.trouble = trouble;
            unpromoted.alone_for = if alone { unpromoted.alone_for.saturating_add(1) } else { 0 };
        });
    }

    async fn tend(&mut self, seen: &Observation, sound: bool) -> Outcome {
        self.wait_no_more(seen).await?;
        if seen.events_run {
            self.stop_events(seen).await?;
        }
        if let Some(twin) = self.state.twin.clone() {
            return self.keep_away(seen, twin).await;
        }
        if let Err(failure) = self.follow_the_record().await {
            self.warning(failure.reason).await;
        }
        let Some(primary) = self.whom_to_follow(seen).await? else { return Ok(()) };
        if self.rejoin_is_unfinished().await {
            // Nobody goes on with it now.
            if seen.replica.as_ref().is_some_and(|r| r.receiver != Thread::Stopped) {
                self.stop_replica().await?;
            }
            return self.refuse_to_follow(&primary, Divergence::Errant(NOT_ENDED.to_owned())).await;
        }
        let host = self.address_of(&primary).await;
        let port = self.params().replication.port;
        let here = |r: &&Replica| r.host == host && r.port == port && r.in_order();
        let Some(replica) = seen.replica.as_ref().filter(here) else { return self.make_follow(seen, &primary, &host).await };
        if self.state.record.is_none() {
            // Asked now, so that an election need not wait for it. That the cluster cannot be asked is no fault of this server.
            match self.record().await {
                Ok(record) => self.state.record = record,
                Err(failure) => self.warning(failure.reason).await,
            }
        }
        let record = self.state.record.clone();
        if let Some(divergence) = record.as_ref().and_then(|r| election::divergence(&seen.executed, &seen.server, r)) {
            return self.find_divergence(&primary, &divergence).await;
        }
        self.state.as_unpromoted(|unpromoted| (unpromoted.errant, unpromoted.lost, unpromoted.foreign_for) = (None, false, 0));
        match replica.broken() {
            Some(why) => self.tend_broken(seen, replica, why).await,
            None if replica.receiver == Thread::Stopped || replica.applier == Thread::Stopped => {
                self.notice("replication is stopped: starting it").await;
                self.forget_received(replica, record.as_ref()).await?;
                Ok(self.tell(Word::StartReplica).await?)
            }
            None if replica.attached() => self.tend_attached(seen, &primary, sound).await,
            None => Ok(()),
        }
    }

    async fn tend_attached(&mut self, seen: &Observation, primary: &str, sound: bool) -> Outcome {
        self.state.of_process(|process| process.linked = true);
        self.state.as_unpromoted(|unpromoted| unpromoted.broken = None);
        self.stand_back(false).await;
        self.state.as_unpromoted(|unpromoted| unpromoted.held_until = None);
        if sound {
            self.tend_acknowledging(seen, primary).await?;
        } else if seen.acknowledges {
            // What it acknowledges it may not have.
            if let Some(record) = self.record().await? {
                self.resign(&record).await?;
            }
        }
        Ok(())
    }

    /// It follows nobody, or not as it should.
    async fn make_follow(&mut self, seen: &Observation, primary: &str, host: &str) -> Outcome {
        if self.state.errant().is_none() && !seen.waits {
            let how = match &seen.replica {
                Some(r) if r.host == host && !r.by_gtid => format!("follows {primary} by a position in a file and not by GTID"),
                Some(r) if r.host == host && r.delay > 0 => format!("follows {primary} with a delay of {} s", r.delay),
                _ => format!("does not follow {primary}"),
            };
            self.warning(format!("the server {how}: making it follow")).await;
        }
        let record = self.record().await?;
        self.state.record = record.clone();
        self.rejoin(primary, record.as_ref()).await
    }

    /// Two replicas with one server_id throw each other out of the primary, and MariaDB's can stand still for good over it: it waits, with
    /// its list of connections locked, for an acknowledgement that may never come (Ack_receiver::remove_slave, seen with 10.11). Whoever
    /// finds that another one has its id leaves the primary alone.
    async fn keep_away(&mut self, seen: &Observation, twin: String) -> Outcome {
        if seen.replica.as_ref().is_some_and(|r| r.receiver != Thread::Stopped) {
            self.tell(Word::StopReceiver).await?;
        }
        Err(Failure::generic(twin))
    }

    /// A replica that was told of no promotion, because its node was in maintenance or nobody could reach it, learns of the new primary
    /// from the record. The old one may be alive, and then nothing else would tell.
    async fn follow_the_record(&mut self) -> Outcome {
        let due = !self.is_recent(self.state.asked_record, limits::ASKED_EVERY) || self.state.broken_for() > 0;
        let Some(following) = self.state.following().map(str::to_owned).filter(|_| due && self.rules.clustered) else { return Ok(()) };
        self.state.asked_record = Some(self.now());
        let Some(record) = self.record().await?.filter(|r| !r.decided() && r.node != following) else { return Ok(()) };
        if record.node != self.me()? {
            self.warning(format!("this server follows {following}, and the record names {}: following the record", record.node)).await;
            self.state.follow(&record.node);
            self.state.record = Some(record.clone());
        }
        Ok(())
    }

    /// Whom this server is to follow. When it was not told (an election whose end it did not hear, a replication that ran
    /// before us), the record tells.
    async fn whom_to_follow(&mut self, seen: &Observation) -> Result<Option<String>, Failure> {
        if let Some(primary) = self.state.following() {
            return Ok(Some(primary.to_owned()));
        }
        let rested = self.state.rest().map(|rest| rest.round.clone());
        let demoted = self.state.was_demoted();
        if !self.rules.clustered || (rested.is_none() && !demoted && seen.replica.is_none()) {
            return Ok(None);
        }
        let Some(record) = self.record().await?.filter(|r| !r.decided()) else { return Ok(None) };
        if record.node == self.me()? {
            return Ok(None);
        }
        let over = match rested {
            // The election that its receiver was stopped for may still be going on.
            Some(round) => round != Record::round(Some(&record)),
            // The record was its own.
            None if demoted => true,
            None => {
                let host = self.address_of(&record.node).await;
                seen.replica.as_ref().is_some_and(|r| r.attached() && r.host == host)
            }
        };
        if !over {
            return Ok(None);
        }
        self.state.follow(&record.node);
        Ok(Some(record.node))
    }

    /// Before replication is started from a complete stop, where that deletes what was received: this server does not
    /// speak any more for what it acknowledged.
    pub(super) async fn forget_received(&mut self, replica: &Replica, record: Option<&Record>) -> Outcome {
        if replica.applier != Thread::Stopped || !self.dialect.restart_loses_received() {
            return Ok(());
        }
        self.tell(Word::Acknowledge(false)).await?;
        self.state.set_acknowledges(false);
        self.state.memory.start_over(record.map(Record::stamp));
        self.save().await
    }

    /// Somebody wrote on this replica, or it has lost what it wrote.
    async fn find_divergence(&mut self, primary: &str, found: &Divergence) -> Outcome {
        let record = self.record().await?;
        self.state.record = record.clone();
        // With the record of now: what is known may be older than the primary's last change.
        let seen = self.observe().await?;
        let Some(still) = record.as_ref().and_then(|r| election::divergence(&seen.executed, &seen.server, r)) else { return Ok(()) };
        // They came with the replication, probably. The primary's next monitor records them.
        let patient = self.state.unpromoted().is_some_and(|known| known.errant.is_none() && known.foreign_for < FOREIGN_PATIENCE);
        let foreign = match &still {
            Divergence::Errant(errant) if patient && election::came_from_elsewhere(errant, &seen.server) => Some(errant),
            Divergence::Errant(_) | Divergence::Lost(_) => None,
        };
        if let Some(foreign) = foreign {
            self.state.as_unpromoted(|unpromoted| unpromoted.foreign_for = unpromoted.foreign_for.saturating_add(1));
            self.notice(format!("{foreign} was written by none of the recorded primaries: waiting for {primary} to record it")).await;
            return Ok(());
        }
        // Again when it was recorded anew since, or was found in a start, which tells nobody.
        let (Divergence::Errant(gtids) | Divergence::Lost(gtids)) = found;
        let new = self.state.errant() != Some(gtids);
        match record.as_ref() {
            Some(record) if new => self.resign(record).await?,
            other => self.resign_if_member(other).await?,
        }
        if new {
            self.stop_replica().await?;
        }
        self.refuse_to_follow(primary, still).await
    }

    /// A member that does not follow leaves the record, when the others can do without it.
    async fn resign_if_member(&mut self, record: Option<&Record>) -> Outcome {
        let me = self.me()?;
        match record.filter(|r| r.active.contains(me) && !self.has_resigned(r)) {
            Some(record) => self.resign(record).await,
            None => Ok(()),
        }
    }

    /// Replication cannot get on by itself. After a while the replica ceases to acknowledge, so that the primary can
    /// take it out of those that an election has to hear.
    async fn tend_broken(&mut self, seen: &Observation, replica: &Replica, why: String) -> Outcome {
        let before = self.state.as_unpromoted(|unpromoted| unpromoted.broken.take());
        let monitors = before.as_ref().map_or(0, |before| before.monitors).saturating_add(1);
        if before.is_none_or(|before| before.why != why) {
            self.error(why.clone()).await;
        }
        self.state.as_unpromoted(|unpromoted| unpromoted.broken = Some(Broken { why, monitors }));
        if monitors < PATIENCE {
            return Ok(());
        }
        let Some(record) = self.record().await? else { return Ok(()) };
        // To point it anew deletes what it received and has not applied, and perhaps nobody else has that any more.
        let applied = replica.received.as_ref().is_none_or(|received| seen.executed.contains(received));
        // So does stopping the receiver where the applier stands still, and its source may be dead.
        let keeps = !applied && replica.misses_its_source() && replica.applier == Thread::Stopped && self.dialect.restart_loses_received();
        if !keeps && record.active.contains(self.me()?) && !self.has_resigned(&record) {
            self.resign(&record).await?;
        }
        self.state.record = Some(record.clone());
        let primary = self.state.following().map(str::to_owned).filter(|primary| *primary == record.node);
        match (&replica.receiver_error, primary) {
            // Its source may be dead. Where its address was corrected, the next monitor finds that it follows another one.
            (Some(_), Some(primary)) if replica.misses_its_source() => {
                self.state.addresses.remove(&primary);
                self.save().await?;
                if replica.receiver == Thread::Stopped {
                    // From a complete stop that deletes what was received.
                    self.forget_received(replica, Some(&record)).await?;
                    self.tell(Word::StartReceiver).await?;
                }
                if replica.applier == Thread::Stopped && replica.applier_error.is_none() {
                    self.tell(Word::StartApplier).await?;
                }
                Ok(())
            }
            // A password may have been corrected: it is told it anew.
            (Some(_), Some(primary)) if replica.applier_error.is_none() && applied => {
                self.stop_replica().await?;
                self.state.memory.point(record.stamp());
                self.state.addresses.remove(&primary);
                self.save().await?;
                let host = self.address_of(&primary).await;
                self.tell(Word::Follow(host)).await?;
                Ok(self.tell(Word::StartReplica).await?)
            }
            _ if !applied && replica.applier == Thread::Stopped && replica.applier_error.is_none() => {
                Ok(self.tell(Word::StartApplier).await?)
            }
            _ if replica.receiver == Thread::Stopped => {
                self.forget_received(replica, Some(&record)).await?;
                Ok(self.tell(Word::StartReceiver).await?)
            }
            _ => Ok(()),
        }
    }
}
