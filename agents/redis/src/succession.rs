//! `notify`: what happens between the death or demotion of a primary and the promotion of the next one.
//!
//! After a demotion, and again before a promotion, every node publishes its position, and the candidate compares them
//! all. When another one is better, it changes the scores: that aborts the transition before `promote` runs, and the
//! cluster plans anew. What it cannot know yet, `promote` decides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ocf::{Context, Failure, Notification, Operation, Outcome, Phase};
use pacemaker::Score;

use crate::agent::{Redis, cluster_failure};
use crate::election::{Position, Question, Unfit, Verdict, elect};
use crate::info::{Info, ReplicationRole};
use crate::monitor::Look;
use crate::preference::{HANDED_OVER, PRIMARY, STEPPED_BACK};
use crate::record::Record;
use crate::server::{Fault, Server};
use crate::state::State;

/// The private attribute that holds a node's position.
const POSITION: &str = "position";
/// How long the candidate waits for the positions of the others, in the notification and in `promote`.
const HEARING_IN_NOTIFY: Duration = Duration::from_millis(100);
pub(crate) const HEARING: Duration = Duration::from_millis(1000);
/// How long a candidate that was not promoted stays behind. Then it tries again: somebody may have come.
const STANDS_BACK: Duration = Duration::from_secs(10);
/// How long a published position is taken to be still there.
const PUBLISHED_FOR: Duration = Duration::from_secs(10);
/// How long a server may take to answer in a notification: the whole cluster waits.
const ANSWER_IN_NOTIFY: Duration = Duration::from_millis(500);
/// How long a replica waits for the end of what the old primary sent.
const LAST_BYTES: Duration = Duration::from_millis(150);

impl Redis {
    /// Reacts to what happens to the other instances.
    pub(crate) fn react(&self, context: &Context, notification: &Notification) -> Outcome {
        let mut state = self.state_file.load();
        if state.meet(&notification.peers) {
            self.state_file.save(&state)?;
        }
        match (notification.phase, notification.operation) {
            (Phase::Post, Operation::Demote) if notification.peers.still_promoted().is_none() => self.after_demotion(context),
            (Phase::Pre, Operation::Promote) => self.before_promotion(context, notification),
            (Phase::Post, Operation::Promote) => self.after_promotion(context, notification),
            (Phase::Pre, Operation::Start) => self.before_start(context, notification),
            (Phase::Post, Operation::Stop) => self.after_stop(notification),
            _ => Ok(()),
        }
    }

    /// Publishes this node's position: the old primary has been demoted, or is dead, so nothing more comes from it.
    ///
    /// Here and not only before the promotion, because the cluster may run the notifications one after the other (it
    /// does when the machine is busy), and the candidate's may be the first.
    fn after_demotion(&self, context: &Context) -> Outcome {
        let mut state = self.state_file.load();
        let record = self.record_for_election(&mut state)?;
        self.publish_position(context, &mut state, &Record::round(record.as_ref()))
    }

    /// Publishes this node's position, if it has not been; the candidate decides whether to go on.
    fn before_promotion(&self, context: &Context, notification: &Notification) -> Outcome {
        let mut state = self.state_file.load();
        // An election that was won before is over: another server may have come with more since.
        state.elected = None;
        let record = self.record_for_election(&mut state)?;
        // When this election fails, an operator may decide; the next one has to see that.
        state.record = None;
        self.state_file.save(&state)?;
        self.publish_position(context, &mut state, &Record::round(record.as_ref()))?;
        if notification.peers.candidate() != Some(self.node()?) {
            return Ok(());
        }
        let expected = notification.peers.running_nodes();
        let positions = self.hear(record.as_ref(), &expected, HEARING_IN_NOTIFY)?;
        let all_heard = expected.iter().all(|node| positions.contains_key(node));
        match self.verdict(context, record.as_ref(), &positions)? {
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

    /// The record, read now unless a monitor has read it since the last promotion. What is known may be older than the
    /// record is: that changes nobody's round, and `promote` compares.
    fn record_for_election(&self, state: &mut State) -> Result<Option<Record>, Failure> {
        if let Some(record) = state.known_record() {
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
        state.stands_back = Some((score, process::since_boot() + STANDS_BACK));
        self.state_file.save(state)?;
        self.cluster.publish_score(score).map_err(cluster_failure)?;
        Ok(reason)
    }

    /// Takes back what was published for a process before the one that is going to start.
    pub(crate) fn withdraw_position(&self, state: &State) -> Outcome {
        let Some((text, _)) = &state.published else { return Ok(()) };
        let round = text.split(':').next().unwrap_or_default();
        self.cluster.publish_private(POSITION, &Position::nowhere(round, Unfit::NoServer).print()).map_err(cluster_failure)
    }

    /// Publishes this server's position of a round, unless that was done a moment ago.
    fn publish_position(&self, context: &Context, state: &mut State, round: &str) -> Outcome {
        let text = self.position(context, state, round)?.print();
        let now = process::since_boot();
        if state.published.as_ref().is_some_and(|(published, at)| *published == text && now.saturating_sub(*at) < PUBLISHED_FOR) {
            return Ok(());
        }
        context.log.notice(format!("position for the next promotion: {text}"));
        self.cluster.publish_private(POSITION, &text).map_err(cluster_failure)?;
        state.published = Some((text, now));
        self.state_file.save(state)
    }

    /// The others follow the new primary. Short: no waiting for a copy.
    fn after_promotion(&self, context: &Context, notification: &Notification) -> Outcome {
        let Some(primary) = notification.peers.candidate() else { return Ok(()) };
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
        // Remembered first: a server that does not answer now is told by its next monitor.
        state.following = Some(primary.to_owned());
        state.promoted = false;
        state.stands_back = None;
        state.refused = None;
        state.record = None;
        self.state_file.save(&state)?;
        let mut server = self.connect(ANSWER_IN_NOTIFY)?;
        let before = server.observe()?.info;
        if state.may_part_with_data() && !before.loading {
            self.part_with_data(context, &before);
        }
        let (host, port) = self.params.address_of(primary);
        server.follow(&host, port)?;
        context.log.notice(format!("following {primary}"));
        Ok(())
    }

    /// On the primary: a server that is about to start may confirm writes, so it is recorded before.
    fn before_start(&self, context: &Context, notification: &Notification) -> Outcome {
        let mut state = self.state_file.load();
        if !state.promoted {
            return Ok(());
        }
        let starting: BTreeSet<String> = notification.peers.start.iter().map(|m| m.node.clone()).collect();
        state.leaving.retain(|node| !starting.contains(node));
        let added: Vec<&String> = starting.iter().filter(|node| !state.holders.contains(*node)).collect();
        if !added.is_empty() {
            let added: Vec<String> = added.into_iter().cloned().collect();
            self.rewrite_record(context, &mut state, |record| record.holders.extend(added))?;
        }
        self.state_file.save(&state)
    }

    /// On the primary: who was stopped leaves the record at the next monitor, if that is safe.
    fn after_stop(&self, notification: &Notification) -> Outcome {
        let mut state = self.state_file.load();
        if !state.promoted {
            return Ok(());
        }
        let started: BTreeSet<&str> = notification.peers.start.iter().map(|m| m.node.as_str()).collect();
        state.leaving.extend(notification.peers.stop.iter().filter(|m| !started.contains(m.node.as_str())).map(|m| m.node.clone()));
        self.state_file.save(&state)
    }

    /// Where this server stands, with its position at rest: nothing more comes from the old primary.
    pub(crate) fn position(&self, context: &Context, state: &mut State, round: &str) -> Result<Position, Failure> {
        let nowhere = |unfit| Position::nowhere(round, unfit);
        let Some(process) = self.find_server(state) else { return Ok(nowhere(Unfit::NoServer)) };
        let (mut server, seen) = match self.ask(&process, ANSWER_IN_NOTIFY) {
            Look::Answered(server, seen) => (server, seen),
            Look::Ended => return Ok(nowhere(Unfit::NoServer)),
            // It may hold what nobody else has, so nobody may be promoted as if it held nothing.
            Look::Engaged(why) | Look::Working(why) | Look::Stuck(why) | Look::Deaf(why) => {
                context.log.warning(format!("no position: {why}"));
                return Ok(nowhere(Unfit::Unasked));
            }
            Look::Unasked(fault) => {
                context.log.warning(format!("no position: {fault}"));
                return Ok(nowhere(Unfit::Unasked));
            }
        };
        if seen.info.loading {
            return Ok(nowhere(Unfit::Loading));
        }
        if seen.info.link_up {
            // Remembered, because the link is going to be cut: the next look must not take this for a fresh start.
            state.linked = true;
            self.state_file.save(state)?;
        }
        let at_rest = match bring_to_rest(&mut server, &seen.info) {
            Ok(info) => info,
            Err(fault) => {
                context.log.warning(format!("no position: {fault}"));
                return Ok(nowhere(Unfit::Unasked));
            }
        };
        let complete = state.reigned(round);
        Ok(Position {
            round: round.to_owned(),
            offset: at_rest.offset,
            before: at_rest.replid2.zip(at_rest.second_offset),
            history: at_rest.replid,
            has_keys: seen.info.has_keys,
            live: state.linked || complete,
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

    /// Collects the positions of this round, until all of `expected` have spoken or the hearing ends.
    pub(crate) fn hear(
        &self,
        record: Option<&Record>,
        expected: &[String],
        limit: Duration,
    ) -> Result<BTreeMap<String, Position>, Failure> {
        let round = Record::round(record);
        let begin = Instant::now();
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
    ) -> Result<Verdict, Failure> {
        Ok(elect(&Question {
            me: self.node()?,
            record,
            positions,
            servers: context.environment.clone_max().map(|n| n as usize),
            confirmations: self.confirmations(context),
            wait_last_known_primary: self.params.wait_last_known_primary,
            decide: &self.decide(),
        }))
    }

    /// Remembers which process has been a replica of whom, for the actions.
    pub(crate) fn forget_reign(state: &mut State) {
        state.promoted = false;
        state.holders.clear();
        state.leaving.clear();
    }
}

/// Waits until a replica's position stands still. A dead primary's last bytes are still in the socket: they end with
/// the link. When the link stays up (a power cut sends no farewell), the position has to stand still for a while, and
/// the link is cut then.
fn bring_to_rest(server: &mut Server, seen: &Info) -> Result<Info, Fault> {
    if seen.role == ReplicationRole::Primary || !seen.link_up {
        return Ok(seen.clone());
    }
    let begin = Instant::now();
    let mut last = seen.clone();
    let mut still = 0;
    while begin.elapsed() < LAST_BYTES && still < 4 {
        std::thread::sleep(Duration::from_millis(5));
        let now = server.replication()?;
        if !now.link_up {
            return Ok(now);
        }
        still = if now.offset == last.offset { still + 1 } else { 0 };
        last = now;
    }
    server.follow_nobody()?;
    server.replication()
}
