//! `notify`: what happens between the death or demotion of a primary and the promotion of the next one.
//!
//! After a demotion, and again before a promotion, every node publishes its position, and the candidate compares them
//! all. When another one is better, it changes the scores: that aborts the transition before `promote` runs, and the
//! cluster plans anew. What it cannot know yet, `promote` decides.

use std::collections::BTreeSet;
use std::time::Duration;

use ocf::{Notification, Operation, Outcome, Peers, Phase};

use super::{Instance, OfCluster};
use crate::election::{Position, Unfit, Verdict};
use crate::limits;
use crate::observation::Replica;
use crate::preference::PRIMARY;
use crate::record::Record;
use crate::server::Fault;

/// How often a server is asked whose start was not waited for.
const COMING_UP_STEP: Duration = Duration::from_millis(20);
/// How often a replica is asked how far it is.
const RECEIVING_STEP: Duration = Duration::from_millis(3);

impl Instance<'_> {
    /// Reacts to what happens to the other instances. `copies`: another server's data are being copied here.
    pub(crate) async fn notify(mut self, notification: Notification, copies: bool) -> Outcome {
        let Notification { phase, operation, peers } = &notification;
        if matches!(operation, Operation::Demote | Operation::Promote) && reign_goes_on(peers) {
            // Another instance is cleaned up. A position that is published now would be one of the middle of a reign.
            return Ok(());
        }
        if copies {
            // Its process writes the state of this node now. Whoever holds an election need not wait for us.
            let asked = [(Phase::Post, Operation::Demote), (Phase::Pre, Operation::Promote)];
            return if asked.contains(&(*phase, *operation)) { self.have_nothing().await } else { Ok(()) };
        }
        match (phase, operation) {
            (Phase::Post, Operation::Demote) => self.after_demotion(peers).await,
            (Phase::Pre, Operation::Promote) => self.before_promotion(peers).await,
            (Phase::Post, Operation::Promote) => self.after_promotion(peers).await,
            (Phase::Pre, Operation::Start) => self.before_start(peers).await,
            (Phase::Post, Operation::Start) => self.after_start(peers).await,
            (Phase::Post, Operation::Stop) => self.after_stop(peers).await,
            _ => Ok(()),
        }
    }

    /// Publishes this node's position: the old primary has been demoted, or is dead.
    ///
    /// Here and not only before the promotion, because the cluster may run the notifications one after the other (it
    /// does when the machine is busy), and the candidate's may be the first.
    async fn after_demotion(&mut self, peers: &Peers) -> Outcome {
        let me = self.me()?;
        let demoted = peers.demote.iter().find(|m| m.node != me).map(|m| m.node.clone());
        let last_words = match &demoted {
            Some(node) => self.last_words(node).await?,
            None => None,
        };
        // Who was demoted names the round: when it is that of the record as this node knows it, nothing has changed since.
        let known = self.state.record.clone();
        let known = known.filter(|known| last_words.as_ref().is_some_and(|p| p.round == Record::round(Some(known))));
        let record = match known {
            Some(known) => Some(known),
            None => self.record_for_election().await?,
        };
        let everything = match last_words.filter(|p| p.complete && p.round == Record::round(record.as_ref())) {
            Some(last) => self.receive_everything(&last).await?,
            None => false,
        };
        self.publish_position(record.as_ref(), everything).await?;
        self.reconsider(peers, record.as_ref()).await
    }

    /// The candidate, which the cluster chose before anybody could know, hands over at once to whoever holds more: two
    /// replicas of a busy primary often differ by its last transaction. Who has not spoken yet is left to what follows.
    async fn reconsider(&mut self, peers: &Peers, record: Option<&Record>) -> Outcome {
        if record.is_none() || peers.candidate() != Some(self.me()?) {
            return Ok(());
        }
        let expected: BTreeSet<String> = peers.running_nodes().into_iter().collect();
        let positions = self.hear_in_steps(record, &expected, limits::HEARING_IN_NOTIFICATION).await?;
        match self.verdict(record, &positions, &expected)? {
            verdict @ Verdict::HandOver { .. } => self.give_way(verdict).await.map(drop),
            Verdict::GoOn(_) | Verdict::Refuse(_) => Ok(()),
        }
    }

    /// A primary that was demoted in order has said what it has, and lives on as a source until the others have it, too. Whether this
    /// one has.
    async fn receive_everything(&mut self, everything: &Position) -> Result<bool, ocf::Failure> {
        if self.find().await.is_none() {
            return Ok(false);
        }
        self.reach(limits::ANSWER_IN_NOTIFICATION).await?;
        let until = self.now() + self.within(limits::EVERYTHING);
        let wanted = everything.have();
        loop {
            let seen = self.observe().await?;
            if seen.have().contains(&wanted) {
                return Ok(true);
            }
            if !seen.replica.as_ref().is_some_and(Replica::attached) || self.now() > until {
                let missing = wanted.difference(&seen.have()).unwrap_or_default();
                self.warning(format!("this server lacks {missing} of the demoted primary")).await;
                return Ok(false);
            }
            self.wait(RECEIVING_STEP).await;
        }
    }

    /// Publishes this node's position, if it has not been; the candidate decides whether to go on.
    async fn before_promotion(&mut self, peers: &Peers) -> Outcome {
        if self.state.promoted() {
            return Ok(());
        }
        let followed = peers.candidate().filter(|candidate| self.state.following() == Some(*candidate));
        if let Some(candidate) = followed {
            if self.is_promoted_still(candidate).await? {
                // After a reload Pacemaker forgets for a moment that it is promoted. Nothing moves, and nobody stops acknowledging for it.
                return Ok(());
            }
        }
        // An election that was won before is over: another server may have come with more since.
        self.state.set_elected(None);
        let record = self.record_for_election().await?;
        // When this election fails, an operator may decide; the next one has to see that.
        self.state.record = None;
        self.save().await?;
        self.publish_position(record.as_ref(), false).await?;
        if peers.candidate() != Some(self.me()?) {
            return Ok(());
        }
        let expected: BTreeSet<String> = peers.running_nodes().into_iter().collect();
        let positions = self.hear_in_steps(record.as_ref(), &expected, limits::HEARING_IN_NOTIFICATION).await?;
        let all_heard = expected.iter().all(|node| positions.contains_key(node));
        match self.verdict(record.as_ref(), &positions, &expected)? {
            // Who was not heard may not have been asked yet: `promote` comes when all have.
            Verdict::GoOn(_) | Verdict::Refuse(_) if !all_heard => Ok(()),
            Verdict::GoOn(reason) => {
                self.notice(format!("going on with the promotion: {reason}")).await;
                // `promote` reads the record anew; another one makes this election void.
                self.state.set_elected(Some(record.as_ref().map_or_else(String::new, ToString::to_string)));
                self.save().await
            }
            other => self.give_way(other).await.map(drop),
        }
    }

    /// Whether the candidate that this server follows was never demoted. A server that is no primary publishes its position: when it is
    /// demoted, or dead, or in this very notification. One whose position comes later than that is heard before the next attempt.
    async fn is_promoted_still(&mut self, candidate: &str) -> Result<bool, ocf::Failure> {
        let Some(record) = self.record_for_election().await?.filter(|record| record.node == candidate) else { return Ok(false) };
        let expected = BTreeSet::from([candidate.to_owned()]);
        let positions = self.hear_in_steps(Some(&record), &expected, limits::HEARING_IN_NOTIFICATION).await?;
        Ok(!positions.contains_key(candidate))
    }

    /// The others follow the new primary. Short: no waiting for what they lack.
    async fn after_promotion(&mut self, peers: &Peers) -> Outcome {
        let Some(primary) = peers.candidate().map(str::to_owned) else { return Ok(()) };
        if self.find().await.is_none() {
            return Ok(());
        }
        let me = self.me()?;
        if primary == me {
            // Others may have as high a score as the one with which this server was promoted, or a higher one, and the role
            // would leave again. A promotion that failed is notified as well, and its score is what the refusal made it.
            return if self.state.promoted() { self.perform(OfCluster::Score(PRIMARY)).await } else { Ok(()) };
        }
        let again = self.state.following() == Some(&primary);
        let known = self.state.record.clone().filter(|_| again).map(|record| record.epoch);
        self.stand_back(false).await;
        let refused = self.is_refused();
        // Remembered first: a server that does not answer now is told by its next monitor.
        self.state.follow(&primary);
        self.state.as_unpromoted(|unpromoted| (unpromoted.stands_back, unpromoted.refused) = (None, None));
        self.state.record = None;
        self.save().await?;
        let record = self.record().await?;
        if refused {
            self.stand_again(&primary, record.as_ref()).await;
        }
        if record.as_ref().is_some_and(|record| Some(record.epoch) == known) {
            // The same reign: see `before_promotion`.
            self.state.record = record.clone();
            return self.save().await;
        }
        let others_acknowledge = record.as_ref().is_none_or(|r| r.active.iter().any(|node| node != me));
        let patience = if others_acknowledge { Duration::ZERO } else { limits::ANSWER_WHEN_NEEDED };
        if let Err(error) = self.reach_when_up(patience).await {
            if self.state.answered() {
                return Err(error.into());
            }
            self.notice(format!("the server does not answer since its start: it will follow {primary} when it does ({error})")).await;
            return Ok(());
        }
        if !self.state.answered() {
            // Its start did not wait for it.
            self.take_charge().await?;
        }
        if self.dialect.stops_waiting_slowly() && others_acknowledge && self.observe().await?.waits {
            // The clients' address comes up when all have been told: a primary that was demoted is not waited for, unless it is
            // the only one that could acknowledge what they write then.
            self.notice(format!("this server will follow {primary} at its next monitor")).await;
            return Ok(());
        }
        self.rejoin(&primary, record.as_ref()).await
    }

    /// Connects to a server whose start was not waited for, perhaps.
    async fn reach_when_up(&mut self, patience: Duration) -> Result<(), Fault> {
        let until = self.now() + self.within(patience);
        loop {
            match self.reach(limits::ANSWER_IN_NOTIFICATION).await {
                Err(_) if !self.state.answered() && self.now() < until => self.wait(COMING_UP_STEP).await,
                other => return other,
            }
        }
    }

    /// On the primary: whoever is going to start may acknowledge again, so that it cannot leave as one that was stopped.
    async fn before_start(&mut self, peers: &Peers) -> Outcome {
        if !self.state.promoted() {
            return Ok(());
        }
        self.state.as_primary(|primary| primary.leaving.retain(|node| !peers.start.iter().any(|m| m.node == *node)));
        self.save().await
    }

    /// A server that was started enters the record anew, because what it acknowledged before may be gone with its relay log.
    async fn after_start(&mut self, peers: &Peers) -> Outcome {
        let me = self.me()?;
        if !self.state.promoted() {
            // The primary hears the same notification and records whom it needs, so what waits for this replica goes on now, and not with
            // the monitors. Nothing is lost by a primary that is notified later.
            let started_here = peers.start.iter().any(|m| m.node == me);
            return if started_here { self.acknowledge_if_needed(limits::RECORDED_AT_START).await } else { Ok(()) };
        }
        let started: BTreeSet<String> = peers.start.iter().map(|m| m.node.clone()).filter(|node| node != me).collect();
        self.state.as_primary(|primary| primary.joining.extend(started));
        self.save().await?;
        self.reach(limits::ANSWER_IN_NOTIFICATION).await?;
        let seen = self.observe().await?;
        self.tend_members(&seen).await;
        self.save().await
    }

    /// On the primary: who was stopped leaves the record at the next monitor, if that is safe.
    async fn after_stop(&mut self, peers: &Peers) -> Outcome {
        if !self.state.promoted() {
            return Ok(());
        }
        let starting = |node: &str| peers.start.iter().any(|m| m.node == node);
        let gone = peers.stop.iter().filter(|m| !starting(&m.node)).map(|m| m.node.clone());
        self.state.as_primary(|primary| primary.leaving.extend(gone));
        self.save().await
    }

    /// Says that this server has no position, and remembers nothing of that.
    async fn have_nothing(&mut self) -> Outcome {
        let round = Record::round(self.record().await?.as_ref());
        self.perform(OfCluster::Publish(Box::new(Position::nowhere(&round, Unfit::Rejoining)))).await
    }
}

/// Whether somebody is promoted who is neither demoted nor stopped in this transition. After a reload Pacemaker promotes
/// an instance once more that is promoted already.
fn reign_goes_on(peers: &Peers) -> bool {
    let ends = |node: &str| peers.demote.iter().chain(&peers.stop).any(|m| m.node == node);
    peers.promoted.iter().any(|m| !ends(&m.node))
}
