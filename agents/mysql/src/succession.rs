//! `notify`: what happens between the death or demotion of a primary and the promotion of the next one.
//!
//! After a demotion, and again before a promotion, every node publishes its position, and the candidate compares them
//! all. When another one is better, it changes the scores: that aborts the transition before `promote` runs, and the
//! cluster plans anew. What it cannot know yet, `promote` decides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ocf::{Context, Failure, Notification, Operation, Outcome, Peers, Phase};
use pacemaker::Score;

use crate::agent::{MySql, cluster_failure};
use crate::election::{Position, Question, Unfit, Verdict, elect};
use crate::limits;
use crate::monitor::Look;
use crate::observation::{Observation, Replica, Thread};
use crate::preference::{HANDED_OVER, PRIMARY, STEPPED_BACK};
use crate::premises;
use crate::record::{Record, Stamp};
use crate::server::{Fault, Server};
use crate::state::{Stage, State};

/// The private attribute that holds a node's position.
const POSITION: &str = "position";

impl MySql {
    /// Reacts to what happens to the other instances.
    pub(crate) fn react(&self, context: &Context, notification: &Notification) -> Outcome {
        if matches!(notification.operation, Operation::Demote | Operation::Promote) && reign_goes_on(&notification.peers) {
            // Another instance is cleaned up. A position that is published now would be one of the middle of a reign.
            return Ok(());
        }
        if self.copying().is_some() {
            // Its process writes the state of this node now. Whoever holds an election need not wait for us.
            let asked = [(Phase::Post, Operation::Demote), (Phase::Pre, Operation::Promote)];
            return if asked.contains(&(notification.phase, notification.operation)) { self.have_nothing() } else { Ok(()) };
        }
        match (notification.phase, notification.operation) {
            (Phase::Post, Operation::Demote) => self.after_demotion(context, notification),
            (Phase::Pre, Operation::Promote) => self.before_promotion(context, notification),
            (Phase::Post, Operation::Promote) => self.after_promotion(context, notification),
            (Phase::Pre, Operation::Start) => self.before_start(notification),
            (Phase::Post, Operation::Start) => self.after_start(context, notification),
            (Phase::Post, Operation::Stop) => self.after_stop(notification),
            _ => Ok(()),
        }
    }

    /// Publishes this node's position: the old primary has been demoted, or is dead.
    ///
    /// Here and not only before the promotion, because the cluster may run the notifications one after the other (it
    /// does when the machine is busy), and the candidate's may be the first.
    fn after_demotion(&self, context: &Context, notification: &Notification) -> Outcome {
        let mut state = self.state_file.load();
        let me = self.node()?;
        let demoted = notification.peers.demote.iter().find(|m| m.node != me).map(|m| m.node.clone());
        let last_words = match &demoted {
            Some(node) => self.last_words(context, node, state.known_record().as_ref())?,
            None => None,
        };
        // Who was demoted names the round: when it is that of the record as this node knows it, nothing has changed since.
        let known = state.known_record().filter(|known| last_words.as_ref().is_some_and(|p| p.round == Record::round(Some(known))));
        let record = match known {
            Some(known) => Some(known),
            None => self.record_for_election(&mut state)?,
        };
        if let Some(everything) = last_words.filter(|p| p.complete && p.round == Record::round(record.as_ref())) {
            self.receive_everything(context, &mut state, &everything)?;
        }
        self.publish_position(context, &mut state, record.as_ref())?;
        self.reconsider(context, &mut state, notification, record.as_ref())
    }

    /// What a demoted node said of itself. It says so before its demotion ends, but attributes take a moment to arrive.
    fn last_words(&self, context: &Context, node: &str, known: Option<&Record>) -> Result<Option<Position>, Failure> {
        let begin = Instant::now();
        loop {
            let values = self.cluster.private_values(POSITION).map_err(cluster_failure)?;
            let found = values.get(node).and_then(|text| Position::parse(text));
            // Those of a demotion before may still stand there.
            let stamp = |p: &Position| p.round.split_once('-').and_then(|(stamp, _)| Stamp::parse(stamp)).unwrap_or_default();
            let current = found.as_ref().is_some_and(|p| known.is_none_or(|r| stamp(p) >= r.stamp()));
            if current || begin.elapsed() > limits::LAST_WORDS {
                return Ok(found);
            }
            context.log.debug(format!("waiting for the last words of {node}"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The candidate, which the cluster chose before anybody could know, hands over at once to whoever holds more: two
    /// replicas of a busy primary often differ by its last transaction. Who has not spoken yet is left to what follows.
    fn reconsider(&self, context: &Context, state: &mut State, notification: &Notification, record: Option<&Record>) -> Outcome {
        if record.is_none() || notification.peers.candidate() != Some(self.node()?) {
            return Ok(());
        }
        let expected: BTreeSet<String> = notification.peers.running_nodes().into_iter().collect();
        let positions = self.hear(record, &expected, limits::HEARING_IN_NOTIFICATION)?;
        match self.verdict(context, record, &positions, &expected)? {
            verdict @ Verdict::HandOver { .. } => self.give_way(context, state, verdict).map(drop),
            Verdict::GoOn(_) | Verdict::Refuse(_) => Ok(()),
        }
    }

    /// A primary that was demoted in order has said what it has, and lives on as a source until the others have it, too.
    fn receive_everything(&self, context: &Context, state: &mut State, everything: &Position) -> Outcome {
        if self.find_server(state).is_none() {
            return Ok(());
        }
        let mut server = self.connect(state.dialect.as_ref(), limits::ANSWER_IN_NOTIFICATION)?;
        let (begin, limit) = (Instant::now(), self.within(limits::EVERYTHING));
        let wanted = everything.have();
        loop {
            let seen = server.observe()?;
            if seen.have().contains(&wanted) {
                return Ok(());
            }
            if !seen.replica.as_ref().is_some_and(Replica::attached) || begin.elapsed() > limit {
                let missing = wanted.difference(&seen.have()).unwrap_or_default();
                context.log.warning(format!("this server lacks {missing} of the demoted primary"));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Publishes this node's position, if it has not been; the candidate decides whether to go on.
    fn before_promotion(&self, context: &Context, notification: &Notification) -> Outcome {
        let mut state = self.state_file.load();
        if state.promoted {
            return Ok(());
        }
        let followed = notification.peers.candidate().filter(|candidate| state.following.as_deref() == Some(*candidate));
        let still = followed.map(|candidate| self.is_promoted_still(&mut state, candidate)).transpose()?;
        if still == Some(true) {
            // After a reload Pacemaker forgets for a moment that it is promoted. Nothing moves, and nobody stops acknowledging for it.
            return Ok(());
        }
        // An election that was won before is over: another server may have come with more since.
        state.elected = None;
        let record = self.record_for_election(&mut state)?;
        // When this election fails, an operator may decide; the next one has to see that.
        state.record = None;
        self.state_file.save(&state)?;
        self.publish_position(context, &mut state, record.as_ref())?;
        if notification.peers.candidate() != Some(self.node()?) {
            return Ok(());
        }
        let expected: BTreeSet<String> = notification.peers.running_nodes().into_iter().collect();
        let positions = self.hear(record.as_ref(), &expected, limits::HEARING_IN_NOTIFICATION)?;
        let all_heard = expected.iter().all(|node| positions.contains_key(node));
        match self.verdict(context, record.as_ref(), &positions, &expected)? {
            // Who was not heard may not have been asked yet: `promote` comes when all have.
            Verdict::GoOn(_) | Verdict::Refuse(_) if !all_heard => {}
            Verdict::GoOn(reason) => {
                context.log.notice(format!("going on with the promotion: {reason}"));
                // `promote` reads the record anew; another one makes this election void.
                state.elected = Some(record.as_ref().map_or_else(String::new, ToString::to_string));
                self.state_file.save(&state)?;
            }
            other => drop(self.give_way(context, &mut state, other)?),
        }
        Ok(())
    }

    /// Whether the candidate that this server follows was never demoted. A server that is no primary publishes its position: when it is
    /// demoted, or dead, or in this very notification. One whose position comes later than that is heard before the next attempt.
    fn is_promoted_still(&self, state: &mut State, candidate: &str) -> Result<bool, Failure> {
        let Some(record) = self.record_for_election(state)?.filter(|record| record.node == candidate) else { return Ok(false) };
        let positions = self.hear(Some(&record), &BTreeSet::from([candidate.to_owned()]), limits::HEARING_IN_NOTIFICATION)?;
        Ok(!positions.contains_key(candidate))
    }

    /// The record, read now unless it was read for this election, or is this server's own: only the primary rewrites it.
    pub(crate) fn record_for_election(&self, state: &mut State) -> Result<Option<Record>, Failure> {
        let current = |record: &Record| state.reigned(record) || state.rested.as_ref() == Some(&Record::round(Some(record)));
        if let Some(record) = state.known_record().filter(current) {
            return Ok(Some(record));
        }
        let record = self.record()?;
        state.record = record.as_ref().map(ToString::to_string);
        Ok(record)
    }

    /// Changes the scores so that the cluster plans anew, and returns the reason.
    pub(crate) fn give_way(&self, context: &Context, state: &mut State, verdict: Verdict) -> Result<String, Failure> {
        let (score, reason) = match verdict {
            Verdict::GoOn(reason) => return Ok(reason),
            Verdict::HandOver { to, reason } => {
                context.log.notice(format!("handing over to {to}: {reason}"));
                self.cluster.publish_score_of(&to, HANDED_OVER).map_err(cluster_failure)?;
                (STEPPED_BACK, format!("{to} is to be promoted instead: {reason}"))
            }
            Verdict::Refuse(reason) => {
                context.log.error(format!("refusing the promotion: {reason}"));
                state.refused = Some(reason.clone());
                (Score::NEVER, reason)
            }
        };
        state.stands_back = Some((score, process::since_boot() + limits::STANDS_BACK));
        self.state_file.save(state)?;
        self.cluster.publish_score(score).map_err(cluster_failure)?;
        Ok(reason)
    }

    /// Takes back what was published for a process before the one that is going to start.
    pub(crate) fn withdraw_position(&self, state: &State) -> Outcome {
        let Some((text, _)) = &state.published else { return Ok(()) };
        let Some(before) = Position::parse(text) else { return Ok(()) };
        self.cluster.publish_private(POSITION, &Position::nowhere(&before.round, Unfit::NoServer).print()).map_err(cluster_failure)
    }

    /// Says that this server has no position, and remembers nothing of that.
    fn have_nothing(&self) -> Outcome {
        let round = Record::round(self.record()?.as_ref());
        self.cluster.publish_private(POSITION, &Position::nowhere(&round, Unfit::Recovering).print()).map_err(cluster_failure)
    }

    /// Says that this server has no position.
    pub(crate) fn publish_nowhere(&self, context: &Context, state: &mut State, record: Option<&Record>, why: Unfit) -> Outcome {
        self.tell_position(context, state, &Position::nowhere(&Record::round(record), why))
    }

    /// Publishes this server's position of a round, unless that was done a moment ago.
    pub(crate) fn publish_position(&self, context: &Context, state: &mut State, record: Option<&Record>) -> Outcome {
        if state.promoted || Self::stands_published(state, record) {
            return Ok(());
        }
        let position = self.position(context, state, record)?;
        self.tell_position(context, state, &position)
    }

    /// Whether this server's position of the round was published a moment ago: it is at rest since.
    pub(crate) fn stands_published(state: &State, record: Option<&Record>) -> bool {
        let round = Record::round(record);
        let of_round = |text: &str| Position::parse(text).is_some_and(|p| p.round == round && p.unfit.is_none());
        let recent = |at: Duration| process::since_boot().saturating_sub(at) < limits::POSITION_STANDS;
        state.rested.as_ref() == Some(&round) && state.published.as_ref().is_some_and(|(text, at)| recent(*at) && of_round(text))
    }

    fn tell_position(&self, context: &Context, state: &mut State, position: &Position) -> Outcome {
        let text = position.print();
        let now = process::since_boot();
        if state.published.as_ref().is_some_and(|(published, at)| *published == text && now.saturating_sub(*at) < limits::POSITION_STANDS) {
            return Ok(());
        }
        context.log.notice(format!("position for the next promotion: {text}"));
        self.cluster.publish_private(POSITION, &text).map_err(cluster_failure)?;
        state.published = Some((text, now));
        self.state_file.save(state)
    }

    /// The others follow the new primary. Short: no waiting for what they lack.
    fn after_promotion(&self, context: &Context, notification: &Notification) -> Outcome {
        let Some(primary) = notification.peers.candidate().map(str::to_owned) else { return Ok(()) };
        let mut state = self.state_file.load();
        if self.find_server(&mut state).is_none() {
            return Ok(());
        }
        if primary == self.node()? {
            // Others may have as high a score as the one with which this server was promoted, or a higher one, and the role
            // would leave again. A promotion that failed is notified as well, and its score is what the refusal made it.
            let raised = if state.promoted { self.cluster.publish_score(PRIMARY) } else { Ok(()) };
            return raised.map_err(cluster_failure);
        }
        let again = state.following.as_ref() == Some(&primary);
        let known = state.known_record().filter(|_| again).map(|record| record.epoch);
        // Remembered first: a server that does not answer now is told by its next monitor.
        state.following = Some(primary.clone());
        state.promoted = false;
        state.stands_back = None;
        state.refused = None;
        state.record = None;
        self.state_file.save(&state)?;
        let record = self.record()?;
        if record.as_ref().is_some_and(|record| Some(record.epoch) == known) {
            // The same reign: see `before_promotion`.
            state.record = record.as_ref().map(ToString::to_string);
            return self.state_file.save(&state);
        }
        let me = self.node()?;
        let others_acknowledge = record.as_ref().is_none_or(|r| r.active.iter().any(|node| node != me));
        let patience = if others_acknowledge { Duration::ZERO } else { limits::ANSWER_WHEN_NEEDED };
        let mut server = match self.connect_when_it_answers(&state, patience) {
            Err(error) if !state.answered => {
                context.log.notice(format!("the server does not answer since its start: it will follow {primary} when it does ({error})"));
                return Ok(());
            }
            other => other?,
        };
        if !state.answered {
            // Its start did not wait for it.
            self.take_charge(context, &mut state, &mut server)?;
        }
        if server.dialect().stops_waiting_slowly() && others_acknowledge && server.observe()?.waits {
            // The clients' address comes up when all have been told: a primary that was demoted is not waited for, unless it is
            // the only one that could acknowledge what they write then.
            context.log.notice(format!("this server will follow {primary} at its next monitor"));
            return Ok(());
        }
        self.rejoin(context, &mut state, &mut server, &primary, record.as_ref())
    }

    /// Connects to a server whose start was not waited for, perhaps.
    fn connect_when_it_answers(&self, state: &State, patience: Duration) -> Result<Server, Fault> {
        let (begin, patience) = (Instant::now(), self.within(patience));
        loop {
            match self.connect(state.dialect.as_ref(), limits::ANSWER_IN_NOTIFICATION) {
                Err(_) if !state.answered && begin.elapsed() < patience => std::thread::sleep(Duration::from_millis(20)),
                other => return other,
            }
        }
    }

    /// On the primary: whoever is going to start may acknowledge again, so that it cannot leave as one that was stopped.
    fn before_start(&self, notification: &Notification) -> Outcome {
        let mut state = self.state_file.load();
        if !state.promoted {
            return Ok(());
        }
        state.leaving.retain(|node| !notification.peers.start.iter().any(|m| m.node == *node));
        self.state_file.save(&state)
    }

    /// A server that was started enters the record anew, because what it acknowledged before may be gone with its relay log.
    fn after_start(&self, context: &Context, notification: &Notification) -> Outcome {
        let mut state = self.state_file.load();
        let me = self.node()?.to_owned();
        if !state.promoted {
            let started_here = notification.peers.start.iter().any(|m| m.node == me);
            return if started_here { self.after_own_start(context) } else { Ok(()) };
        }
        let started: Vec<String> = notification.peers.start.iter().map(|m| m.node.clone()).filter(|node| *node != me).collect();
        state.joining.extend(started);
        self.state_file.save(&state)?;
        let mut server = self.connect(state.dialect.as_ref(), limits::ANSWER_IN_NOTIFICATION)?;
        let seen = server.observe()?;
        self.tend_members(context, &mut state, &mut server, &seen);
        self.state_file.save(&state)
    }

    /// On the primary: who was stopped leaves the record at the next monitor, if that is safe.
    fn after_stop(&self, notification: &Notification) -> Outcome {
        let mut state = self.state_file.load();
        if !state.promoted {
            return Ok(());
        }
        let starting = |node: &str| notification.peers.start.iter().any(|m| m.node == node);
        state.leaving.extend(notification.peers.stop.iter().filter(|m| !starting(&m.node)).map(|m| m.node.clone()));
        self.state_file.save(&state)
    }

    /// Where this server stands, with its position at rest: its receiver is stopped, so it acknowledges nothing more.
    pub(crate) fn position(&self, context: &Context, state: &mut State, record: Option<&Record>) -> Result<Position, Failure> {
        let round = Record::round(record);
        let nowhere = |unfit| Position::nowhere(&round, unfit);
        let Some(process) = self.find_server(state) else { return Ok(nowhere(Unfit::NoServer)) };
        let (mut server, seen) = match self.ask(state, &process, limits::ANSWER_IN_NOTIFICATION) {
            Look::Answered(server, seen) => (server, seen),
            Look::Engaged(why) | Look::Working(why) | Look::Stuck(why) => {
                context.log.warning(format!("no position: {why}"));
                return Ok(nowhere(if state.answered { Unfit::Unasked } else { Unfit::Recovering }));
            }
            Look::Refuses(fault) => {
                context.log.warning(format!("no position: {fault}"));
                return Ok(nowhere(Unfit::Unasked));
            }
        };
        // Remembered before the receiver is stopped: no monitor may start it again, and nobody is followed until somebody is
        // promoted.
        state.linked |= seen.replica.as_ref().is_some_and(Replica::attached);
        let following = state.following.take();
        state.acknowledges = false;
        state.rested = Some(round.clone());
        // A start that did not wait for its server has not learnt this. Without it, whoever is promoted now would get
        // acknowledgements from here only when a new record says so: a monitor or two without writes, where no other replica is.
        state.memory.change(|m| m.learn(record.map(Record::stamp).unwrap_or_default()));
        self.state_file.save(state)?;
        let seen = bring_to_rest(&mut server, *seen)?;
        if seen.acknowledges {
            // Nothing more is acknowledged, whoever starts the receiver again.
            server.run_all(server.dialect().acknowledge(false))?;
            if let (Some(record), Some(following)) = (record, following) {
                state.memory.change(|m| m.found_on(record, &following));
                self.state_file.save(state)?;
            }
        }
        let memory = state.memory.get();
        let unsound = premises::forbidding(&self.findings(state, &server, &seen), self.wanted()).map(|_| Unfit::Unsound);
        let unfit = self.copy_is_unfinished().then_some(Unfit::NoServer).or(unsound);
        let recorded = record.filter(|r| r.node == self.node().unwrap_or_default() && r.server.as_ref() == Some(&seen.server));
        let over = state.reign.as_ref().is_some_and(|r| r.stage == Stage::Over) && seen.closed;
        Ok(Position {
            complete: over && record.is_some_and(|r| state.reigned(r)),
            kept: recorded.is_some_and(|r| !r.relaxed) && seen.durable,
            untouched: record.is_some_and(|r| memory.untouched(r)),
            cramped: self.is_cramped(),
            priority: 100,
            // What a server has received that follows a position in a file is not known: it does not speak for what it acknowledged.
            acknowledging: memory.acknowledging.filter(|_| seen.replica.as_ref().is_none_or(|r| r.by_gtid)),
            received: seen.replica.as_ref().and_then(|r| r.received.clone()),
            executed: seen.executed,
            unfit,
            round,
        })
    }

    /// Collects the positions of this round, until all of `expected` have spoken or the hearing ends.
    pub(crate) fn hear(
        &self,
        record: Option<&Record>,
        expected: &BTreeSet<String>,
        limit: Duration,
    ) -> Result<BTreeMap<String, Position>, Failure> {
        let round = Record::round(record);
        let (begin, limit) = (Instant::now(), self.within(limit));
        loop {
            let values = self.cluster.private_values(POSITION).map_err(cluster_failure)?;
            let positions: BTreeMap<String, Position> =
                values.into_iter().filter_map(|(node, text)| Some((node, Position::parse(&text).filter(|p| p.round == round)?))).collect();
            if expected.iter().all(|node| positions.contains_key(node)) || begin.elapsed() >= limit {
                return Ok(positions);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The election, with what is known.
    pub(crate) fn verdict(
        &self,
        context: &Context,
        record: Option<&Record>,
        positions: &BTreeMap<String, Position>,
        running: &BTreeSet<String>,
    ) -> Result<Verdict, Failure> {
        Ok(elect(&Question {
            me: self.node()?,
            record,
            positions,
            running,
            servers: context.environment.clone_max().map(|n| n as usize),
            decide: &self.decide(),
        }))
    }
}

/// Whether somebody is promoted who is neither demoted nor stopped in this transition. After a reload Pacemaker promotes
/// an instance once more that is promoted already.
fn reign_goes_on(peers: &Peers) -> bool {
    let ends = |node: &str| peers.demote.iter().chain(&peers.stop).any(|m| m.node == node);
    peers.promoted.iter().any(|m| !ends(&m.node))
}

/// Stops the receiver, with everything that the old primary sent before it died. Its last events are still in the
/// socket: they end with the connection. When that stays up (a power cut sends no farewell), what was received has to
/// stand still for a while.
fn bring_to_rest(server: &mut Server, seen: Observation) -> Result<Observation, Failure> {
    let Some(replica) = seen.replica.as_ref().filter(|r| r.receiver != Thread::Stopped) else { return Ok(seen) };
    let begin = Instant::now();
    let (mut last, mut still) = (replica.received.clone(), 0);
    let mut attached = replica.attached();
    while attached && begin.elapsed() < limits::LAST_OF_STREAM && still < 4 {
        std::thread::sleep(Duration::from_millis(5));
        let Some(now) = server.replica()? else { break };
        attached = now.attached();
        still = if now.received == last { still + 1 } else { 0 };
        last = now.received;
    }
    // Where an applier that starts after the receiver has stopped would find nothing left, it starts before.
    if replica.applier == Thread::Stopped && server.dialect().restart_loses_received() {
        let _ = server.run(server.dialect().start_applier());
    }
    server.run_within(server.dialect().stop_receiver(), limits::STOPPING_IN_NOTIFICATION)?;
    Ok(server.observe()?)
}
