//! Carries out on this machine what the protocol asks for: on the server, its process, its files, the cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ocf::{Context, Failure, Outcome};
use process::{Identity, State as ProcessState};
use promotable::{Machine, asked};

use crate::agent::Redis;
use crate::conf::Conf;
use crate::election::Position;
use crate::lifecycle::LAST_OF_LOG;
use crate::limits;
use crate::protocol::{Effect, Event, Instance, LinkTrouble, Moment, Rules, Sight, Word};
use crate::sequences::{begin_backlog, bring_to_rest, drain, held_by_others};
use crate::server::{Fault, Server};
use crate::state::State;

/// The private attribute that holds a node's position.
const POSITION: &str = "position";

/// What carries effects out during one action.
pub(crate) struct Engine<'a> {
    redis: &'a Redis,
    context: &'a Context,
    /// The connection of the last look, or the one that was made since.
    server: Option<Server>,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(redis: &'a Redis, context: &'a Context) -> Self {
        Self { redis, context, server: None }
    }

    /// Carries out an action of an instance that remembers this.
    pub(crate) fn run<'r, T, F: Future<Output = T> + 'r>(
        mut self,
        rules: &'r Rules<'r>,
        state: State,
        action: impl FnOnce(Instance<'r>) -> F,
    ) -> T {
        let begin = self.moment();
        Machine::new(|port| action(Instance::new(rules, state, begin, port))).run(|effect| {
            let event = self.carry_out(effect);
            (event, self.moment())
        })
    }

    fn moment(&self) -> Moment {
        Moment { now: process::since_boot(), left: self.context.deadline.left() }
    }

    fn carry_out(&mut self, effect: Effect) -> Event {
        let redis = self.redis;
        let done = |outcome| Event::Done(asked(outcome));
        match effect {
            Effect::Log(level, text) => {
                level.say(&self.context.log, &text);
                Event::Done(Ok(()))
            }
            Effect::Save(state) => Event::Done(redis.state_file.save(&state)),
            Effect::Find(remembered) => Event::Found(redis.find_server(remembered.as_ref())),
            Effect::Objections(process) => Event::Texts(redis.runs_as_root(&process).into_iter().collect()),
            Effect::Look(process, limit) => Event::Sight(self.look(&process, limit)),
            Effect::Replication => Event::Replication(self.server().and_then(Server::replication).map(Box::new)),
            Effect::Rest(seen) => Event::Replication(self.server().and_then(|server| bring_to_rest(server, &seen)).map(Box::new)),
            Effect::Drain(target, limit) => Event::Drained(self.server().and_then(|server| drain(server, target.as_deref(), limit))),
            Effect::Held(enough, without, offset) => {
                Event::Flag(self.server().and_then(|server| held_by_others(server, enough, &without, offset)).unwrap_or_else(|fault| {
                    self.context.log.warning(format!("who holds what cannot be seen: {fault}"));
                    false
                }))
            }
            Effect::Tell(word) => Event::Told(self.tell(word)),
            Effect::MayStart => Event::Done(redis.refuse_exposure()),
            Effect::Launch(state, patience) => Event::Launched(redis.launch(self.context, *state, patience)),
            Effect::SetReplicationLogin => Event::Done(redis.set_replication_login()),
            Effect::KeepFiles(excess) => Event::Done(self.keep_files(excess)),
            Effect::Terminate(process, limit) => Event::Flag(end_in_order(&process, limit)),
            Effect::Kill(process) => {
                process.kill();
                Event::Done(Ok(()))
            }
            Effect::StandBack(process, back) => {
                if back {
                    process.stand_back()
                } else {
                    process.come_forward()
                }
                Event::Done(Ok(()))
            }
            Effect::Gone(process, limit) => Event::Flag(process.wait_gone(limit)),
            Effect::Watch(process) => {
                redis.watch(self.context, &process, None);
                Event::Done(Ok(()))
            }
            Effect::Complaints => Event::Texts(redis.complaints()),
            Effect::Misconfiguration => Event::Texts(redis.conf().err().map(|failure| failure.reason).into_iter().collect()),
            Effect::LinkTrouble => Event::Link(
                redis
                    .conf()
                    .ok()
                    .and_then(Conf::log_file)
                    .map_or(LinkTrouble::Unknown, |log| LinkTrouble::of(&redis.tail(&log, 0, LAST_OF_LOG))),
            ),
            Effect::Score(score) => done(redis.cluster.publish_score(score)),
            Effect::ScoreOf(node, score) => done(redis.cluster.publish_score_of(&node, score)),
            Effect::Publish(position) => done(redis.cluster.publish_private(POSITION, &position.print())),
            Effect::Hear(round, expected, limit) => Event::Positions(self.hear(&round, &expected, limit)),
            Effect::ReadRecord => Event::Record(promotable::read_record(&redis.cluster)),
            Effect::ReplaceRecord(before, record) => Event::Replaced(promotable::replace_record(&redis.cluster, before.as_ref(), &record)),
            Effect::Wait(time) => {
                std::thread::sleep(time);
                Event::Done(Ok(()))
            }
        }
    }

    /// The connection to the server, made when there is none.
    fn server(&mut self) -> Result<&mut Server, Fault> {
        let server = match self.server.take() {
            Some(server) => server,
            None => self.redis.connect_when_free(self.redis.within(limits::ANSWER))?,
        };
        Ok(self.server.insert(server))
    }

    /// Asks the server, and looks at its process when it does not answer: a busy one must not be taken for a dead one,
    /// nor a frozen one for a busy one.
    fn look(&mut self, process: &Identity, limit: Duration) -> Sight {
        self.server = None;
        let limit = self.redis.within(limit);
        if process.state() == ProcessState::Frozen {
            return Sight::Stuck("it is stopped by a signal (state T)".into());
        }
        let worked = cpu_ticks(process);
        let begin = Instant::now();
        let answer = self.redis.connect(limit).and_then(|mut server| server.observe_by(begin + limit).map(|seen| (server, seen)));
        match answer {
            Ok((server, seen)) => {
                self.server = Some(server);
                Sight::Answered(Box::new(seen))
            }
            Err(Fault::Engaged(why)) => Sight::Engaged(why),
            Err(Fault::Silent(why)) => {
                if !process.is_alive() {
                    return Sight::Ended;
                }
                if cpu_ticks(process) > worked && process.state() == ProcessState::Alive {
                    return Sight::Working(format!("{why}, but it is working"));
                }
                Sight::Stuck(format!("no answer and no work done in {} ms", begin.elapsed().as_millis()))
            }
            // Its connections end a moment before it does.
            Err(Fault::Absent(_) | Fault::Closed(_)) if process.wait_gone(limits::LAST_MOMENT) => Sight::Ended,
            Err(Fault::Absent(why)) => Sight::Deaf(why),
            Err(fault) => Sight::Unasked(fault),
        }
    }

    fn tell(&mut self, word: Word) -> Result<(), Fault> {
        let redis = self.redis;
        match word {
            Word::CloseGate => self.server()?.close_gate(),
            Word::OpenGate(replicas, lag) => self.server()?.open_gate(replicas, lag),
            Word::Follow(node) => {
                let (host, port) = redis.params.address_of(&node);
                self.server()?.follow(&host, port)
            }
            Word::FollowNobody => self.server()?.follow_nobody(),
            Word::BecomePrimary => self.server()?.become_primary(),
            Word::BeginBacklog => {
                let other = redis.connect_when_free(self.redis.within(limits::ANSWER));
                begin_backlog(self.server()?, other)
            }
            Word::Adopt(replica) => {
                let me = redis.node().map_err(|failure| Fault::Refused(failure.reason))?;
                self.server()?.adopt(me, replica)
            }
            Word::CutClients => self.server()?.cut_clients(),
            Word::ResumeWrites => self.server()?.resume_writes(),
        }
    }

    fn keep_files(&self, excess: Option<u64>) -> Outcome {
        let kept = self.redis.keep_data_files(excess)?;
        if !kept.as_os_str().is_empty() {
            self.context.log.notice(format!("kept its data files in {}", kept.display()));
        }
        Ok(())
    }

    fn hear(&self, round: &str, expected: &[String], limit: Duration) -> Result<BTreeMap<String, Position>, Failure> {
        let begin = Instant::now();
        loop {
            let positions = self.redis.published(POSITION, |text| Position::parse(text).filter(|position| position.round == round))?;
            if expected.iter().all(|node| positions.contains_key(node)) || begin.elapsed() >= limit {
                return Ok(positions);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Tells a server to end and waits for that. `false` when it cannot: stopped by a signal, or the time is over.
fn end_in_order(process: &Identity, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    process.terminate();
    while Instant::now() < until && process.state() != ProcessState::Frozen {
        if process.wait_gone(Duration::from_millis(50)) {
            return true;
        }
    }
    false
}

/// Processor time that a process has used, in clock ticks.
fn cpu_ticks(process: &Identity) -> u64 {
    process.cpu_ticks().unwrap_or_default()
}
