//! Carries out on this machine what the protocol asks for of the server, its process and its files. The rest is the same for each database:
//! `promotable::Engine`.

use std::time::{Duration, Instant};

use ocf::{Context, Outcome};
use process::{Identity, State as ProcessState};
use promotable::{Driver, of_process};

use crate::agent::Redis;
use crate::conf::Conf;
use crate::lifecycle::LAST_OF_LOG;
use crate::limits;
use crate::protocol::{Answer, Database, Event, LinkTrouble, OfProcess, OfServer, Sight, Word};
use crate::sequences::{begin_backlog, bring_to_rest, copy_settings, drain, held_by_others};
use crate::server::{Fault, Server};

/// What the kernel says of a server that is frozen.
const STOPPED: &str = "it is stopped by a signal (state T)";

/// The server of this node, during one action.
pub(crate) struct Local<'a> {
    redis: &'a Redis,
    context: &'a Context,
    /// The connection of the last look, or the one that was made since.
    server: Option<Server>,
}

impl Driver for Local<'_> {
    type Database = Database;

    fn of_process(&mut self, effect: OfProcess) -> Event {
        let redis = self.redis;
        of_process(redis, self.context, effect, |remembered| redis.find_server(remembered))
    }

    fn own(&mut self, effect: OfServer) -> Event {
        let redis = self.redis;
        let answer = match effect {
            OfServer::Look(process, limit) => Answer::Sight(self.look(&process, limit)),
            OfServer::Replication => Answer::Replication(self.server().and_then(Server::replication).map(Box::new)),
            OfServer::Rest(seen) => Answer::Replication(self.server().and_then(|server| bring_to_rest(server, &seen)).map(Box::new)),
            OfServer::Drain(target, limit) => Answer::Drained(self.server().and_then(|server| drain(server, target.as_deref(), limit))),
            OfServer::Held(enough, among, offset) => return Event::Flag(self.is_held(enough, &among, offset)),
            OfServer::Tell(word) => Answer::Told(self.tell(word)),
            OfServer::Launch(state, patience) => Answer::Launched(redis.launch(self.context, *state, patience)),
            OfServer::CopySettings => Answer::Settings(self.server().and_then(copy_settings)),
            OfServer::LinkTrouble => Answer::Link(
                redis
                    .conf()
                    .ok()
                    .and_then(Conf::log_file)
                    .map_or(LinkTrouble::Unknown, |log| LinkTrouble::of(&redis.tail(&log, 0, LAST_OF_LOG))),
            ),
            OfServer::MayStart => return Event::Done(redis.refuse_exposure()),
            OfServer::SetReplicationLogin => return Event::Done(redis.set_replication_login()),
            OfServer::KeepFiles(excess) => return Event::Done(self.keep_files(excess)),
            OfServer::Complaints => return Event::Texts(redis.complaints()),
            OfServer::Misconfiguration => return Event::Texts(redis.conf().err().map(|failure| failure.reason).into_iter().collect()),
        };
        answer.into()
    }
}

impl<'a> Local<'a> {
    pub(crate) fn new(redis: &'a Redis, context: &'a Context) -> Self {
        Self { redis, context, server: None }
    }

    fn is_held(&mut self, enough: usize, among: &[String], offset: u64) -> bool {
        self.server().and_then(|server| held_by_others(server, enough, among, offset)).unwrap_or_else(|fault| {
            self.context.log.warning(format!("who holds what cannot be seen: {fault}"));
            false
        })
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
            return Sight::Stuck(STOPPED.into());
        }
        // Of the thread that answers clients. In clock ticks one that has nothing to do does nothing for seconds: clients whose commands are
        // held back (CLIENT PAUSE) leave it little to do. And of all threads: that of a module may have the lock that the first one waits for.
        let worked = (process.first_thread_time(), process.cpu_ticks());
        let begin = Instant::now();
        let answer = self.redis.connect(limit).and_then(|mut server| server.observe_by(begin + limit).map(|seen| (server, seen)));
        match answer {
            Ok((server, seen)) => {
                self.server = Some(server);
                Sight::Answered(Box::new(seen))
            }
            Err(Fault::Engaged(why)) => Sight::Engaged(why),
            Err(Fault::Silent(why)) => {
                let works = process.first_thread_time() > worked.0 || process.cpu_ticks() > worked.1;
                match process.state() {
                    ProcessState::Gone => Sight::Ended,
                    ProcessState::Frozen => Sight::Stuck(STOPPED.into()),
                    ProcessState::Alive if works => Sight::Working(format!("{why}, but it is working")),
                    ProcessState::Alive | ProcessState::Doomed => {
                        Sight::Still(format!("no answer and no work done in {} ms", begin.elapsed().as_millis()))
                    }
                }
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
            Word::SetBack(settings) => self.server()?.set_all(&settings),
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
}
