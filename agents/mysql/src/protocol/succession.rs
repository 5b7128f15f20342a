//! Positions and elections: what a node publishes, hears, and does about the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ocf::{Failure, Outcome};

use super::{Event, Instance, OfAttributes, OfCluster, OfHost, OfServer, Sight, Word, answer, no_such_failure, no_such_fault};
use crate::election::{Position, Question, Unfit, Verdict, elect};
use crate::gtid::Gtids;
use crate::limits;
use crate::observation::{Observation, Replica, Thread};
use crate::premises;
use crate::record::{Record, Stamp};
use crate::server::Fault;

/// How often the positions are read.
const HEARING_STEP: Duration = Duration::from_millis(10);

impl Instance<'_> {
    /// The record, read now unless it was read for this election, or is this server's own: only the primary rewrites it.
    pub(super) async fn record_for_election(&mut self) -> Result<Option<Record>, Failure> {
        let current = |record: &Record| self.reigned(record) || self.state.rests_for(&Record::round(Some(record)));
        if let Some(record) = self.state.record.clone().filter(current) {
            return Ok(Some(record));
        }
        let record = self.record().await?;
        self.state.record = record.clone();
        Ok(record)
    }

    async fn positions(&mut self) -> Result<BTreeMap<String, Position>, Failure> {
        match self.ask(OfAttributes::Positions).await {
            Event::Positions(positions) => positions,
            other => no_such_failure(other.confused()),
        }
    }

    /// What a demoted node said of itself. It says so before its demotion ends, but attributes take a moment to arrive.
    pub(super) async fn last_words(&mut self, node: &str) -> Result<Option<Position>, Failure> {
        let known = self.state.record.clone();
        let until = self.now() + limits::LAST_WORDS;
        loop {
            let found = self.positions().await?.remove(node);
            // Those of a demotion before may still stand there.
            let stamp = |p: &Position| p.round.split_once('-').and_then(|(stamp, _)| Stamp::parse(stamp)).unwrap_or_default();
            let current = found.as_ref().is_some_and(|p| known.as_ref().is_none_or(|r| stamp(p) >= r.stamp()));
            if current || self.now() > until {
                return Ok(found);
            }
            self.wait(HEARING_STEP).await;
        }
    }

    /// Collects the positions of this round, until all of `expected` have spoken or the hearing ends. Each reading is an effect of its own,
    /// not one for them all ([`OfCluster::Hear`]): what the others do meanwhile matters to the model.
    pub(super) async fn hear_in_steps(
        &mut self,
        record: Option<&Record>,
        expected: &BTreeSet<String>,
        limit: Duration,
    ) -> Result<BTreeMap<String, Position>, Failure> {
        let round = Record::round(record);
        let until = self.now() + self.within(limit);
        loop {
            let mut positions = self.positions().await?;
            positions.retain(|_, position| position.round == round);
            if expected.iter().all(|node| positions.contains_key(node)) || self.now() >= until {
                return Ok(positions);
            }
            self.wait(HEARING_STEP).await;
        }
    }

    /// The election, with what is known.
    pub(super) fn verdict(
        &self,
        record: Option<&Record>,
        positions: &BTreeMap<String, Position>,
        running: &BTreeSet<String>,
    ) -> Result<Verdict, Failure> {
        Ok(elect(&Question {
            me: self.me()?,
            record,
            positions,
            running,
            servers: self.rules.servers.map(|n| n as usize),
            decide: &self.rules.decide,
        }))
    }

    /// Takes back what was published for a process before the one that is going to start.
    pub(super) async fn withdraw_position(&mut self) -> Outcome {
        let Some(before) = self.state.told.position.as_ref().map(|(position, _)| position) else { return Ok(()) };
        let nowhere = Position::nowhere(&before.round, Unfit::NoServer);
        self.perform(OfCluster::Publish(Box::new(nowhere))).await
    }

    /// Says that this server has no position.
    pub(super) async fn publish_nowhere(&mut self, record: Option<&Record>, why: Unfit) -> Outcome {
        self.tell_position(Position::nowhere(&Record::round(record), why)).await
    }

    /// Publishes this server's position of a round, unless that was done a moment ago. `everything`: see [`Self::position`].
    pub(super) async fn publish_position(&mut self, record: Option<&Record>, everything: bool) -> Outcome {
        if self.state.promoted() || self.stands_published(record) {
            return Ok(());
        }
        let position = self.position(record, everything).await?;
        self.tell_position(position).await
    }

    /// Whether this server's position of the round was published a moment ago: it is at rest since.
    pub(super) fn stands_published(&self, record: Option<&Record>) -> bool {
        let round = Record::round(record);
        let published = |(position, at): &(Position, Duration)| {
            self.is_recent(Some(*at), limits::POSITION_STANDS) && position.round == round && position.unfit.is_none()
        };
        self.state.rests_for(&round) && self.state.told.position.as_ref().is_some_and(published)
    }

    async fn tell_position(&mut self, position: Position) -> Outcome {
        let same = |(published, at): &(Position, Duration)| *published == position && self.is_recent(Some(*at), limits::POSITION_STANDS);
        if self.state.told.position.as_ref().is_some_and(same) {
            return Ok(());
        }
        let now = self.now();
        self.notice(format!("position for the next promotion: {}", position.print())).await;
        self.perform(OfCluster::Publish(Box::new(position.clone()))).await?;
        self.state.told.position = Some((position, now));
        self.save().await
    }

    /// Where this server stands, with its position at rest: its receiver is stopped, so it acknowledges nothing more. `everything`: it has
    /// all that its source will ever send.
    pub(super) async fn position(&mut self, record: Option<&Record>, everything: bool) -> Result<Position, Failure> {
        let round = Record::round(record);
        let nowhere = |unfit| Position::nowhere(&round, unfit);
        let Some(process) = self.find().await else {
            // Not "start it": whoever makes it follow again starts it.
            return Ok(nowhere(if self.rejoin_is_unfinished().await { Unfit::Rejoining } else { Unfit::NoServer }));
        };
        let why = match self.look(&process, limits::ANSWER_IN_NOTIFICATION).await {
            Sight::Answered(seen, _) => return self.position_at_rest(record, round, seen, everything).await,
            Sight::Engaged(why) | Sight::Working(why) | Sight::Stuck(why) if !self.state.answered() => {
                self.warning(format!("no position: {why}")).await;
                return Ok(nowhere(Unfit::Recovering));
            }
            Sight::Engaged(why) | Sight::Working(why) | Sight::Stuck(why) | Sight::Deaf { why, .. } => why,
            Sight::Refuses(fault) => fault.to_string(),
        };
        self.warning(format!("no position: {why}")).await;
        Ok(nowhere(Unfit::Unasked))
    }

    async fn position_at_rest(
        &mut self,
        record: Option<&Record>,
        round: String,
        seen: Box<Observation>,
        everything: bool,
    ) -> Result<Position, Failure> {
        // Remembered before the receiver is stopped: no monitor may start it again, and nobody is followed until somebody is
        // promoted.
        let linked = seen.replica.as_ref().is_some_and(Replica::attached);
        self.state.of_process(|process| process.linked |= linked);
        let following = self.state.come_to_rest(&round);
        // A start that did not wait for its server has not learnt this. Without it, whoever is promoted now would get
        // acknowledgements from here only when a new record says so: a monitor or two without writes, where no other replica is.
        self.state.memory.learn(record.map(Record::stamp).unwrap_or_default());
        self.save().await?;
        let seen = match seen.replica.clone().filter(|r| r.receiver != Thread::Stopped) {
            Some(replica) => self.rest(replica, everything).await?,
            None => seen,
        };
        if seen.acknowledges {
            // Nothing more is acknowledged, whoever starts the receiver again.
            self.tell(Word::Acknowledge(false)).await?;
            if let (Some(record), Some(following)) = (record, following) {
                self.state.memory.found_on(record, &following);
                self.save().await?;
            }
        }
        // Nobody can have that from here any more: this server does not speak for what it acknowledged. For good, and not in this position
        // only: what is gone is out of sight when somebody has started the applier.
        let gone = |r: &Replica| r.gone.as_ref().is_some_and(|gone| !seen.executed.contains(gone));
        if let Some(replica) = seen.replica.clone().filter(gone) {
            self.forget_received(&replica, record).await?;
        }
        let memory = self.state.memory.clone();
        let findings = self.findings(&seen).await;
        let unsound = premises::forbidding(&findings, self.wanted()).map(|_| Unfit::Unsound);
        let unfit = if self.rejoin_is_unfinished().await { Some(Unfit::Rejoining) } else { unsound };
        let recorded = record.filter(|r| self.is_me(&r.node) && r.server.as_ref() == Some(&seen.server));
        let over = self.state.reign_is_over() && seen.closed;
        // A primary follows nobody. Who has followed another since, or knows of a later epoch, sees a record that was put back: clients have
        // written elsewhere since, and that this server has all of it cannot be told.
        let last = seen.replica.is_none() && record.is_some_and(|r| memory.epoch() <= r.epoch);
        Ok(Position {
            complete: last && over && record.is_some_and(|r| self.reigned(r)),
            kept: last && recorded.is_some_and(|r| !r.relaxed) && seen.durable,
            untouched: record.is_some_and(|r| memory.untouched(r)),
            cramped: self.is_cramped().await,
            reuses: self.reuses_names(&seen).await,
            priority: 100,
            // What a server has received that follows a position in a file is not known: it does not speak for what it acknowledged.
            acknowledging: memory.acknowledging.filter(|_| seen.replica.as_ref().is_none_or(|r| r.by_gtid)),
            received: seen.replica.as_ref().and_then(|r| r.received.clone()),
            executed: seen.executed,
            unfit,
            round,
        })
    }

    /// Whether this server would give names of transactions again that were taken back here.
    async fn reuses_names(&mut self, seen: &Observation) -> bool {
        // Whatever `rejoin` says by now: the names were given, and another server may hold them.
        let given_up = self.texts(OfHost::GivenUp).await;
        let own = seen.variables.get("gtid_domain_id").and_then(|id| id.parse().ok()).unwrap_or_default();
        // What cannot be read may be anything.
        given_up.iter().any(|text| Gtids::parse_any(text).map_or(true, |names| seen.executed.may_give_again(&names, own)))
    }

    async fn rest(&mut self, replica: Replica, everything: bool) -> Result<Box<Observation>, Fault> {
        answer!(self.ask(OfServer::Rest(Box::new(replica), everything)).await, Observed, no_such_fault)
    }
}
