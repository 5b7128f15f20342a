//! `notify`: what happens between the death or demotion of a primary and the promotion of the next one.
//!
//! After a demotion, and again before a promotion, every node publishes its position, and the candidate compares them
//! all. When another one is better, it changes the scores: that aborts the transition before `promote` runs, and the
//! cluster plans anew. What it cannot know yet, `promote` decides.

use std::collections::BTreeSet;

use ocf::{Notification, Operation, Outcome, Peers, Phase};

use super::succession::leave_out_the_stopped;
use super::{Instance, OfCluster, Sight, Word};
use crate::election::Verdict;
use crate::limits;
use crate::preference::PRIMARY;
use crate::record::Record;
use crate::server::Fault;

impl Instance<'_> {
    /// Reacts to what happens to the other instances.
    pub(crate) async fn notify(mut self, notification: Notification) -> Outcome {
        let peers = &notification.peers;
        if self.state.meet(peers) {
            self.save().await?;
        }
        match (notification.phase, notification.operation) {
            (Phase::Post, Operation::Demote) if peers.still_promoted().is_none() => self.after_demotion().await,
            (Phase::Pre, Operation::Promote) => self.before_promotion(peers).await,
            (Phase::Post, Operation::Promote) => self.after_promotion(peers).await,
            (Phase::Pre, Operation::Start) => self.before_start(peers).await,
            (Phase::Post, Operation::Stop) => self.after_stop(peers).await,
            _ => Ok(()),
        }
    }

    /// Publishes this node's position: the old primary has been demoted, or is dead, so nothing more comes from it.
    ///
    /// Here and not only before the promotion, because the cluster may run the notifications one after the other (it
    /// does when the machine is busy), and the candidate's may be the first.
    async fn after_demotion(&mut self) -> Outcome {
        let record = self.record_for_election().await?;
        self.publish_position(&Record::round(record.as_ref())).await
    }

    /// Publishes this node's position, if it has not been; the candidate decides whether to go on.
    async fn before_promotion(&mut self, peers: &Peers) -> Outcome {
        self.state.forget_election();
        let record = self.record_for_election().await?;
        // When this election fails, an operator may decide; the next one has to see that.
        self.state.record = None;
        self.save().await?;
        let round = Record::round(record.as_ref());
        self.publish_position(&round).await?;
        if peers.candidate() != Some(self.me()?) {
            return Ok(());
        }
        let expected = peers.running_nodes();
        let mut positions = self.hear(&round, expected.clone(), limits::HEARING_IN_NOTIFICATION).await?;
        leave_out_the_stopped(&mut positions, &expected);
        let all_heard = expected.iter().all(|node| positions.contains_key(node));
        match self.verdict(record.as_ref(), &positions, &expected)? {
            // Who was not heard may not have been asked yet: `promote` comes when all have.
            Verdict::GoOn(_) | Verdict::Refuse(_) if !all_heard => Ok(()),
            Verdict::GoOn(reason) => {
                self.notice(format!("going on with the promotion: {reason}")).await;
                // `promote` reads the record anew; another one makes this election void.
                self.state.win_election(Self::text_of(record.as_ref()));
                self.save().await
            }
            other => self.give_way(other).await.map(drop),
        }
    }

    /// The others follow the new primary. Short: no waiting for a copy.
    async fn after_promotion(&mut self, peers: &Peers) -> Outcome {
        let Some(primary) = peers.candidate().map(str::to_owned) else { return Ok(()) };
        let Some(process) = self.find().await else { return Ok(()) };
        if primary == self.me()? {
            // Others may have as high a score as the one with which this server was promoted, or a higher one, and the role
            // would leave again. A promotion that failed is notified as well, and its score is what the refusal made it.
            return if self.state.promoted() { self.perform(OfCluster::Score(PRIMARY)).await } else { Ok(()) };
        }
        self.stand_back(false).await;
        // Remembered first: a server that does not answer now is told by its next monitor.
        let refused = self.is_refused();
        self.state.follow_promoted(primary.clone());
        if let Err(failure) = self.save().await {
            self.warning(failure.reason).await;
        }
        if refused {
            let record = self.record().await.ok().flatten();
            self.stand_again(&primary, record.as_ref()).await;
        }
        let seen = match self.look(&process, limits::ANSWER_IN_NOTIFICATION).await {
            Sight::Answered(seen) => seen,
            Sight::Unasked(fault) => return Err(fault.into()),
            Sight::Engaged(why) | Sight::Working(why) | Sight::Still(why) | Sight::Stuck(why) | Sight::Deaf(why) => {
                return Err(Fault::Silent(why).into());
            }
            Sight::Ended => return Ok(()),
        };
        if self.state.may_part_with_data() && !seen.info.loading {
            self.part_with_data(&seen.info).await;
        }
        self.tell(Word::Follow(primary.clone())).await?;
        self.notice(format!("following {primary}")).await;
        Ok(())
    }

    /// On the primary: a server that is about to start may confirm writes, so it is recorded before.
    async fn before_start(&mut self, peers: &Peers) -> Outcome {
        if !self.state.promoted() {
            return Ok(());
        }
        let starting: BTreeSet<String> = peers.start.iter().map(|m| m.node.clone()).collect();
        self.state.as_primary(|primary| primary.leaving.retain(|node| !starting.contains(node)));
        if !starting.iter().all(|node| self.state.has_holder(node)) {
            self.rewrite_record(|record| record.holders.extend(starting)).await?;
        }
        self.save().await
    }

    /// On the primary: who was stopped leaves the record at the next monitor, if that is safe.
    async fn after_stop(&mut self, peers: &Peers) -> Outcome {
        if !self.state.promoted() {
            return Ok(());
        }
        let started: BTreeSet<&str> = peers.start.iter().map(|m| m.node.as_str()).collect();
        let stopped = peers.stop.iter().filter(|m| !started.contains(m.node.as_str())).map(|m| m.node.clone());
        self.state.as_primary(|primary| primary.leaving.extend(stopped));
        self.save().await
    }
}
