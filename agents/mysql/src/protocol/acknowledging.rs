//! A replica: when it acknowledges, and what it tells the primary of that.
//!
//! Safety rests on an order: it remembers that it acknowledges before it does, and says that it does not after it has ceased to.

use std::time::Duration;

use ocf::{Failure, Outcome};

use super::{Attribute, Instance, OfAttributes, Word};
use crate::election;
use crate::limits;
use crate::membership::Membership;
use crate::observation::{Observation, Replica};
use crate::record::{Durability, Record};

impl Instance<'_> {
    /// Whether this replica may acknowledge under a record that was read now.
    pub(super) fn may_acknowledge(&self, record: &Record, primary: &str) -> bool {
        let wanted = record.durability == Durability::Lossless && self.state.dialect().is_some_and(|d| d.semi_sync.is_some());
        wanted && self.me().is_ok_and(|me| election::may_acknowledge(record, me, primary, self.state.memory.not_before))
    }

    /// Whether the primary was told that nothing is acknowledged under this record.
    pub(super) fn has_resigned(&self, record: &Record) -> bool {
        self.state.told.membership.as_ref().is_some_and(|(told, _)| *told == Membership::Resigned(record.stamp()))
    }

    /// Ceases to acknowledge, then says so: in this order, so that whoever reads it can rely on it.
    pub(super) async fn resign(&mut self, record: &Record) -> Outcome {
        // One that was pointed nowhere has none.
        if self.replica().await?.is_some() {
            self.tell(Word::StopReceiver).await?;
        }
        self.tell(Word::Acknowledge(false)).await?;
        self.state.set_acknowledges(false);
        let stamp = self.state.memory.resign(record);
        self.save().await?;
        if let Some(replica) = self.replica().await? {
            self.forget_received(&replica, Some(record)).await?;
        }
        self.tell_membership(Membership::Resigned(stamp)).await?;
        self.warning("this replica ceases to acknowledge until it is in order again").await;
        if self.state.errant().is_none() {
            self.tell(Word::StartReceiver).await?;
        }
        Ok(())
    }

    async fn tell_membership(&mut self, membership: Membership) -> Outcome {
        let now = self.now();
        let stands = |(told, at): &(Membership, _)| *told == membership && self.is_recent(Some(*at), limits::MEMBERSHIP_STANDS);
        if self.state.told.membership.as_ref().is_some_and(stands) {
            return Ok(());
        }
        self.perform(OfAttributes::Publish(Attribute::Membership(membership.clone()))).await?;
        self.state.told.membership = Some((membership, now));
        self.save().await
    }

    /// A replica in order that does not acknowledge yet.
    pub(super) async fn tend_acknowledging(&mut self, seen: &Observation, primary: &str) -> Outcome {
        let wanted = self.must_wait();
        let known_epoch = self.state.record.clone().map_or(0, |r| r.epoch);
        if wanted && self.state.acknowledges() && seen.acknowledges && self.state.memory.epoch() >= known_epoch {
            return Ok(());
        }
        if seen.acknowledges {
            // Switched on by somebody else, or in an epoch before: what it acknowledges is known to no record.
            self.tell(Word::StopReceiver).await?;
            self.tell(Word::Acknowledge(false)).await?;
            self.tell(Word::StartReceiver).await?;
            self.state.set_acknowledges(false);
        }
        if !wanted {
            return if seen.acknowledges { self.save().await } else { Ok(()) };
        }
        let Some(mut record) = self.record().await? else { return Ok(()) };
        self.state.record = Some(record.clone());
        if seen.acknowledges {
            self.state.memory.found_on(&record, primary);
        }
        // Not known yet since the server started.
        self.state.memory.learn(record.stamp());
        self.save().await?;
        if self.ask_to_acknowledge(seen, &record, primary).await? {
            let me = self.me()?;
            if record.active.iter().filter(|node| *node != me).count() < record.acknowledgements {
                record = self.await_record(record, limits::MEETING, primary).await?;
                self.state.record = Some(record.clone());
            }
        }
        if self.may_acknowledge(&record, primary) {
            return self.begin_to_acknowledge(&record).await;
        }
        if let Some(lacking) = record.set.as_ref().and_then(|set| set.difference(&seen.have())) {
            self.notice(format!("not acknowledging yet: this replica still lacks {lacking}")).await;
        }
        Ok(())
    }

    /// The first acknowledgements under this record, which allows them.
    async fn begin_to_acknowledge(&mut self, record: &Record) -> Outcome {
        self.tell(Word::StopReceiver).await?;
        let held = self.observe().await?.have();
        self.state.memory.acknowledge(record);
        self.state.set_acknowledges(true);
        self.save().await?;
        self.tell(Word::Acknowledge(true)).await?;
        self.tell(Word::StartReceiver).await?;
        self.notice(format!("acknowledging under record {}", record.stamp())).await;
        self.tell_membership(Membership::Acknowledges(record.stamp(), held)).await
    }

    /// Tells the primary that this replica has caught up, when it needs a newer record to acknowledge; whether it did.
    async fn ask_to_acknowledge(&mut self, seen: &Observation, record: &Record, primary: &str) -> Result<bool, Failure> {
        let caught_up = record.set.as_ref().is_none_or(|set| seen.have().contains(set));
        let asks =
            !self.may_acknowledge(record, primary) && caught_up && record.node == primary && record.durability == Durability::Lossless;
        if asks {
            self.tell_membership(Membership::Ready(self.state.memory.not_before.unwrap_or_default())).await?;
        }
        Ok(asks)
    }

    /// On a server whose data were copied, in the process that did it: the monitors are far apart, and where no other replica is,
    /// every write waits for this one.
    pub(crate) async fn acknowledge_after_copy(mut self) -> Outcome {
        self.acknowledge_if_needed(Duration::ZERO).await
    }

    /// Lets a replica that has just come acknowledge when it is connected and recorded within `limit`, each.
    pub(super) async fn acknowledge_if_needed(&mut self, limit: Duration) -> Outcome {
        let follows = !self.state.acknowledges() && self.state.errant().is_none();
        let pointed = self.state.following().map(str::to_owned).filter(|_| follows);
        let Some(primary) = pointed.filter(|_| self.must_wait() && self.state.answered()) else { return Ok(()) };
        if self.find().await.is_none() {
            return Ok(());
        }
        self.reach(limits::ANSWER_IN_NOTIFICATION).await?;
        let until = self.now() + limit;
        let seen = loop {
            let seen = self.observe().await?;
            if seen.replica.as_ref().is_some_and(Replica::attached) {
                break seen;
            }
            if self.now() >= until {
                return Ok(());
            }
            self.wait(limits::MEETING_STEP).await;
        };
        // What somebody else switched on is the monitor's business.
        let Some(record) = self.record().await?.filter(|_| !seen.acknowledges) else { return Ok(()) };
        self.ask_to_acknowledge(&seen, &record, &primary).await?;
        let record = self.await_record(record, limit, &primary).await?;
        if !self.may_acknowledge(&record, &primary) {
            return Ok(());
        }
        self.state.record = Some(record.clone());
        self.begin_to_acknowledge(&record).await
    }

    /// Until the record allows this replica to acknowledge. The primary is being asked as well, perhaps, and records this replica in a
    /// moment.
    async fn await_record(&mut self, mut record: Record, limit: Duration, primary: &str) -> Result<Record, Failure> {
        let until = self.now() + self.within(limit);
        while !self.may_acknowledge(&record, primary) && self.now() < until {
            self.wait(limits::MEETING_STEP).await;
            record = self.record().await?.unwrap_or(record);
        }
        Ok(record)
    }
}
