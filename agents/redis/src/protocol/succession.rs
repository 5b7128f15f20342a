//! Positions and elections: what a node publishes, hears, and does about the verdict.

use std::collections::BTreeMap;

use ocf::{Failure, Outcome};

use super::{Answer, Event, Instance, OfCluster, OfServer, Sight};
use crate::election::{Position, Question, Unfit, Verdict, elect};
use crate::info::Info;
use crate::limits;
use crate::record::Record;
use crate::server::Fault;

impl Instance<'_> {
    /// The record, read now. What a monitor has read before may name holders that have left since, or another round: it has to do where the
    /// record cannot be read, and `promote` compares.
    pub(super) async fn record_for_election(&mut self) -> Result<Option<Record>, Failure> {
        match self.record().await {
            Ok(record) => self.state.record = record,
            Err(failure) if self.state.record.is_none() => return Err(failure),
            Err(failure) => {
                self.warning(format!("the record cannot be read, and the one that was read before is gone by: {failure}")).await
            }
        }
        Ok(self.state.record.clone())
    }

    /// Takes back what was published for a process before the one that is going to start.
    pub(super) async fn withdraw_position(&mut self) -> Outcome {
        let Some((text, _)) = &self.state.published else { return Ok(()) };
        let nowhere = Position::nowhere(text.split(':').next().unwrap_or_default(), Unfit::NoServer);
        self.perform(OfCluster::Publish(Box::new(nowhere))).await
    }

    /// Publishes this server's position of a round, unless that was done a moment ago.
    pub(super) async fn publish_position(&mut self, round: &str) -> Outcome {
        let position = self.position(round).await?;
        let text = position.print();
        let now = self.now();
        if self
            .state
            .published
            .as_ref()
            .is_some_and(|(published, at)| *published == text && now.saturating_sub(*at) < limits::POSITION_STANDS)
        {
            return Ok(());
        }
        self.notice(format!("position for the next promotion: {text}")).await;
        self.perform(OfCluster::Publish(Box::new(position))).await?;
        self.state.published = Some((text, now));
        self.save().await
    }

    /// Where this server stands, with its position at rest: nothing more comes from the old primary.
    pub(super) async fn position(&mut self, round: &str) -> Result<Position, Failure> {
        let nowhere = |unfit| Position::nowhere(round, unfit);
        let Some(process) = self.find().await else { return Ok(nowhere(Unfit::NoServer)) };
        let seen = match self.look(&process, limits::ANSWER_IN_NOTIFICATION).await {
            Sight::Answered(seen) => seen,
            Sight::Ended => return Ok(nowhere(Unfit::NoServer)),
            // It may hold what nobody else has, so nobody may be promoted as if it held nothing.
            Sight::Engaged(why) | Sight::Working(why) | Sight::Still(why) | Sight::Stuck(why) | Sight::Deaf(why) => {
                return Ok(self.unasked(round, &why).await);
            }
            Sight::Unasked(fault) => return Ok(self.unasked(round, &fault.to_string()).await),
        };
        if seen.info.loading {
            return Ok(nowhere(Unfit::Loading));
        }
        // A link that was never up has no age.
        if seen.info.link_up || seen.info.link_down_seconds.is_some() {
            // Remembered, because the link is going to be cut: the next look must not take this for a fresh start.
            self.state.of_process(|process| process.linked = true);
            if let Err(failure) = self.save().await {
                self.warning(failure.reason).await;
            }
        }
        let at_rest = match self.rest(&seen.info).await {
            Ok(info) => info,
            Err(fault) => return Ok(self.unasked(round, &fault.to_string()).await),
        };
        let complete = self.state.reigned(round);
        Ok(Position {
            round: round.to_owned(),
            offset: at_rest.offset,
            before: at_rest.replid2.zip(at_rest.second_offset),
            history: at_rest.replid,
            has_keys: seen.info.has_keys,
            live: self.state.linked() || complete,
            complete,
            priority: seen.info.priority,
            unfit: match &seen.info {
                info if info.syncing => Some(Unfit::Syncing),
                info if info.emptied() => Some(Unfit::Emptied),
                info if info.priority == 0 => Some(Unfit::Never),
                _ => None,
            },
        })
    }

    async fn unasked(&mut self, round: &str, why: &str) -> Position {
        self.warning(format!("no position: {why}")).await;
        Position::nowhere(round, Unfit::Unasked)
    }

    async fn rest(&mut self, seen: &Info) -> Result<Box<Info>, Fault> {
        match self.ask(OfServer::Rest(Box::new(seen.clone()))).await {
            Event::Own(Answer::Replication(info)) => info,
            other => Err(Fault::Refused(other.confused())),
        }
    }

    /// The election, with what is known, among those that run.
    pub(super) fn verdict(
        &self,
        record: Option<&Record>,
        positions: &BTreeMap<String, Position>,
        running: &[String],
    ) -> Result<Verdict, Failure> {
        Ok(elect(&Question {
            me: self.me()?,
            record,
            positions,
            running: &running.iter().cloned().collect(),
            servers: self.rules.servers.map(|n| n as usize),
            confirmations: self.confirmations(),
            wait_last_known_primary: self.rules.params.wait_last_known_primary,
            decide: &self.rules.decide,
        }))
    }
}

/// Without what instances have published that do not run any more: they cannot be promoted, and nobody waits for them. One that was the primary
/// and was demoted in order stays, so that nobody is promoted over what it alone holds.
pub(super) fn leave_out_the_stopped(positions: &mut BTreeMap<String, Position>, running: &[String]) {
    positions.retain(|node, position| position.complete || running.contains(node));
}
