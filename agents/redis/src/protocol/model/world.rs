//! The world: servers with their data, links between them, and what carries effects out there.

#![allow(clippy::unwrap_used, reason = "a test helper panics to fail the test")]

use std::collections::BTreeMap;

use ocf::{Environment, Failure, Values};
use process::Identity;
use promotable::NotReplaced;

use model::{Shared, name, number};

use super::{Cluster, NODES, Server, Without, World};
use crate::election::Position;
use crate::info::{AttachedReplica, Info, ReplicationRole};
use crate::params::{ALL, Params};
use crate::protocol::{Answer, Effect, Event, LinkTrouble, OfCluster, OfProcess, OfServer, Rules, Sight, Word};
use crate::record::Record;
use crate::server::{Fault, GATE_CLOSED, NOBODY, Observation};
use crate::state::State;

fn identity(process: u8) -> Identity {
    Identity { pid: process.into(), start_ticks: process.into(), boot: String::new() }
}

/// A number that is given on this node only.
fn of_node(n: usize, count: u8) -> u8 {
    count * u8::try_from(NODES).unwrap() + u8::try_from(n).unwrap()
}

fn history(id: u8) -> String {
    format!("h{id}")
}

pub(super) fn params(durability: &str) -> Params {
    let pairs = [("OCF_RESKEY_durability".to_owned(), durability.to_owned())];
    Params::new(&Values::read(ALL, &Environment::from_pairs(pairs)).unwrap())
}

impl Cluster {
    pub(super) fn server(&self, n: usize) -> Option<&Server> {
        self.nodes[n].server.as_ref().filter(|_| self.nodes[n].alive)
    }

    /// Replicas that receive from this one.
    pub(super) fn attached(&self, p: usize) -> impl Iterator<Item = usize> + '_ {
        (0..NODES).filter(move |n| self.server(*n).is_some_and(|s| s.link_up && s.following == Some(p)))
    }

    /// The name of a history that begins on this node.
    fn new_history(&mut self, n: usize) -> u8 {
        let node = &mut self.nodes[n];
        node.histories += 1;
        of_node(n, node.histories)
    }

    fn info(&self, n: usize, params: &Params) -> Info {
        let server = self.server(n).unwrap();
        let replica = |r: usize| AttachedReplica { node: name(r), online: true, offset: self.server(r).unwrap().offset.into(), lag: 0 };
        let nobody = || (NOBODY.0.to_owned(), NOBODY.1);
        Info {
            pid: None,
            role: if server.primary { ReplicationRole::Primary } else { ReplicationRole::Replica },
            loading: false,
            has_keys: !server.log.is_empty(),
            replid: history(server.history),
            offset: server.offset.into(),
            replid2: server.before.map(|(id, _)| history(id)),
            second_offset: server.before.map(|(_, offset)| offset.into()),
            backlog: server.backlog,
            stale_offset: None,
            primary: (!server.primary).then(|| server.following.map_or_else(nobody, |p| params.address_of(&name(p)))),
            link_up: server.link_up,
            syncing: false,
            link_down_seconds: None,
            priority: 100,
            replicas: self.attached(n).map(replica).collect(),
            save_failed: false,
        }
    }

    fn observation(&self, n: usize, params: &Params) -> Observation {
        Observation { info: self.info(n, params), gate: self.server(n).unwrap().gate, lag: params.replica_lag, complaint: None }
    }

    /// A server that ends. What it has goes to its replicas, or does not: `Deliver` comes before, or never.
    pub(super) fn end_server(&mut self, n: usize, keeps: bool) {
        if let Some(server) = self.nodes[n].server.take() {
            self.nodes[n].disk = if keeps { server.log } else { Vec::new() };
        }
        for r in 0..NODES {
            if let Some(server) = self.nodes[r].server.as_mut().filter(|s| s.following == Some(n)) {
                server.link_up = false;
            }
        }
    }

    /// A server that starts from its disk: an append-only file restores no position.
    pub(super) fn start_server(&mut self, n: usize) -> u8 {
        let history = self.new_history(n);
        let node = &mut self.nodes[n];
        node.processes += 1;
        let process = of_node(n, node.processes);
        let log = node.disk.clone();
        node.server = Some(Server {
            process,
            primary: false,
            gate: GATE_CLOSED,
            following: None,
            link_up: false,
            history,
            offset: 1,
            before: None,
            backlog: false,
            log,
        });
        process
    }

    /// The replica's link comes up: it goes on where it was, or gets a copy. Whether it lost its data to an empty primary.
    pub(super) fn attach(&mut self, n: usize) -> bool {
        let p = self.server(n).unwrap().following.unwrap();
        if !self.server(p).unwrap().backlog {
            let new = self.new_history(p);
            let primary = self.nodes[p].server.as_mut().unwrap();
            (primary.history, primary.before, primary.backlog) = (new, None, true);
        }
        let primary = self.server(p).unwrap().clone();
        let replica = self.nodes[n].server.as_mut().unwrap();
        let goes_on = replica.history == primary.history && replica.offset <= primary.offset
            || primary.before.is_some_and(|(id, end)| replica.history == id && replica.offset < end);
        let wiped = !goes_on && primary.log.is_empty() && !replica.log.is_empty();
        if !goes_on {
            (replica.log, replica.offset) = (primary.log, primary.offset);
        }
        (replica.history, replica.before, replica.backlog, replica.link_up) = (primary.history, primary.before, true, true);
        wiped
    }

    pub(super) fn may_attach(&self, n: usize) -> bool {
        let follows = self.server(n).filter(|server| !server.primary && !server.link_up).and_then(|server| server.following);
        follows.is_some_and(|p| p != n && self.reach(n, p) && self.server(p).is_some_and(|primary| primary.primary))
    }

    pub(super) fn may_deliver(&self, n: usize) -> bool {
        let attached = self.server(n).filter(|server| server.link_up).and_then(|server| Some((server.offset, server.following?)));
        attached.is_some_and(|(offset, p)| self.server(p).is_some_and(|primary| primary.offset > offset))
    }

    pub(super) fn deliver(&mut self, n: usize) {
        let replica = self.server(n).unwrap();
        let primary = self.server(replica.following.unwrap()).unwrap();
        let lacks = usize::from(primary.offset - replica.offset);
        let next = primary.log[primary.log.len() - lacks];
        let replica = self.nodes[n].server.as_mut().unwrap();
        replica.log.push(next);
        replica.offset += 1;
    }
}

impl World {
    pub(super) fn rules(&self, n: usize) -> Rules<'_> {
        Rules {
            resource: "redis",
            params: if self.without == Without::Confirmations { &self.careless } else { &self.params },
            node: Ok(name(n)),
            clustered: true,
            probe: false,
            servers: Some(NODES as u32),
            decide: "DECIDE".to_owned(),
            withdrawal: "WITHDRAW".to_owned(),
        }
    }

    pub(super) fn event(&self, s: &mut Cluster, n: usize, effect: Effect) -> Event {
        match effect {
            // What is said of writes no agent reads.
            Effect::Save(memory) => s.nodes[n].memory = Shared::new(State { writes: None, ..*memory }),
            Effect::OfProcess(effect) => return of_process(s, n, &effect),
            Effect::OfCluster(effect) => return self.of_cluster(s, n, effect),
            Effect::Own(effect) => return self.of_server(s, n, effect),
            Effect::Log(..) | Effect::Wait(_) => {}
        }
        Event::Done(Ok(()))
    }

    fn of_cluster(&self, s: &mut Cluster, n: usize, effect: OfCluster) -> Event {
        match effect {
            OfCluster::Score(score) => s.nodes[n].score = Some(score),
            OfCluster::ScoreOf(node, score) => s.nodes[number(&node)].score = Some(score),
            OfCluster::ForgetDegraded | OfCluster::PublishWrites(_) => {}
            OfCluster::Publish(position) => s.nodes[n].position = Some(*position),
            OfCluster::Hear(round, ..) => return Event::Positions(Ok(self.hear(s, n, &round))),
            OfCluster::ReadRecord => return Event::Record(Ok(s.record.as_deref().cloned())),
            OfCluster::ReplaceRecord(before, record) => return Event::Replaced(self.replace(s, n, before.as_deref(), *record)),
        }
        Event::Done(Ok(()))
    }

    pub(crate) fn of_server(&self, s: &mut Cluster, n: usize, effect: OfServer) -> Event {
        let running = s.server(n).is_some();
        let gone = || Fault::Absent("nothing listens".into());
        let answer = match effect {
            OfServer::Look(..) if running => Answer::Sight(Sight::Answered(Box::new(s.observation(n, &self.params)))),
            OfServer::Look(..) => Answer::Sight(Sight::Ended),
            OfServer::Replication if running => Answer::Replication(Ok(Box::new(s.info(n, &self.params)))),
            OfServer::Rest(_) if running => {
                self.rest(s, n);
                Answer::Replication(Ok(Box::new(s.info(n, &self.params))))
            }
            OfServer::Drain(target, _) if running => Answer::Drained(Ok(self.drain(s, n, target.as_deref()))),
            OfServer::Held(enough, staying, offset) => {
                let holds = |r: &usize| u64::from(s.server(*r).unwrap().offset) >= offset && staying.contains(&name(*r));
                return Event::Flag(s.attached(n).filter(holds).count() >= enough);
            }
            OfServer::Tell(word) => Answer::Told(if running { self.tell(s, n, &word) } else { Err(gone()) }),
            OfServer::Replication | OfServer::Rest(_) => Answer::Replication(Err(gone())),
            OfServer::Drain(..) => Answer::Drained(Err(gone())),
            OfServer::Launch(mut memory, _) => {
                let process = identity(s.start_server(n));
                memory.has_started(process.clone());
                s.nodes[n].memory = Shared::new(*memory);
                Answer::Launched(Ok((process, Some(Box::new(s.observation(n, &self.params))))))
            }
            // They have nothing to do with data.
            OfServer::CopySettings => Answer::Settings(Ok(Vec::new())),
            OfServer::LinkTrouble => Answer::Link(LinkTrouble::Unknown),
            OfServer::Complaints | OfServer::Misconfiguration => return Event::Texts(Vec::new()),
            OfServer::MayStart | OfServer::SetReplicationLogin | OfServer::KeepFiles(_) => return Event::Done(Ok(())),
        };
        answer.into()
    }

    /// What a primary that is dead or demoted has sent arrives, and the link ends.
    fn rest(&self, s: &mut Cluster, n: usize) {
        let server = s.nodes[n].server.as_mut().unwrap();
        if !server.primary && server.link_up {
            (server.following, server.link_up) = (None, false);
        }
    }

    fn drain(&self, s: &mut Cluster, n: usize, target: Option<&str>) -> Option<String> {
        let everything = s.server(n).unwrap().offset;
        let attached: Vec<usize> = s.attached(n).collect();
        let named = attached.iter().any(|r| Some(name(*r).as_str()) == target);
        for r in attached.iter().filter(|r| !named || Some(name(**r).as_str()) == target) {
            while s.server(*r).unwrap().offset < everything {
                s.deliver(*r);
            }
        }
        attached.is_empty().then(|| "no replica is attached".to_owned())
    }

    fn tell(&self, s: &mut Cluster, n: usize, word: &Word) -> Result<(), Fault> {
        let begins_a_history = matches!(word, Word::BecomePrimary | Word::BeginBacklog);
        let new = if begins_a_history { s.new_history(n) } else { 0 };
        let server = s.nodes[n].server.as_mut().unwrap();
        match word {
            Word::CloseGate if self.without == Without::Gate => {}
            Word::CloseGate => server.gate = GATE_CLOSED,
            Word::OpenGate(replicas, _) => server.gate = *replicas,
            Word::Follow(node) => {
                let p = number(node);
                if server.primary || server.following != Some(p) {
                    self.unlink(s, n);
                    let server = s.nodes[n].server.as_mut().unwrap();
                    (server.primary, server.following, server.link_up) = (false, Some(p), false);
                }
            }
            Word::FollowNobody => {
                self.unlink(s, n);
                let server = s.nodes[n].server.as_mut().unwrap();
                (server.primary, server.following, server.link_up) = (false, None, false);
            }
            Word::BecomePrimary => {
                if self.without == Without::Gate {
                    server.gate = 0;
                }
                server.before = Some((server.history, server.offset + 1));
                (server.primary, server.following, server.link_up, server.history) = (true, None, false, new);
            }
            Word::BeginBacklog => {
                (server.history, server.backlog) = (new, true);
            }
            Word::Adopt(_) | Word::SetBack(_) | Word::CutClients | Word::ResumeWrites => {}
        }
        Ok(())
    }

    /// Whoever follows a server that is no primary any more is not attached.
    fn unlink(&self, s: &mut Cluster, p: usize) {
        for r in s.attached(p).collect::<Vec<_>>() {
            s.nodes[r].server.as_mut().unwrap().link_up = false;
        }
    }

    fn hear(&self, s: &Cluster, n: usize, round: &str) -> BTreeMap<String, Position> {
        let heard = |m: &usize| *m == n || s.reach(n, *m);
        let of_round = |p: &Position| p.round == round || self.without == Without::Round;
        let mut positions: BTreeMap<String, Position> =
            (0..NODES).filter(heard).filter_map(|m| Some((name(m), s.nodes[m].position.clone().filter(of_round)?))).collect();
        if self.without == Without::EmptyServers {
            for m in 0..NODES {
                let empty = Position { unfit: None, ..Position::nowhere(round, crate::election::Unfit::NoServer) };
                positions.entry(name(m)).or_insert(empty);
            }
        }
        positions
    }

    fn replace(&self, s: &mut Cluster, n: usize, before: Option<&Record>, mut record: Record) -> Result<(), NotReplaced<Record>> {
        if self.without == Without::Holders {
            record.holders = [name(n)].into();
        }
        if self.without != Without::CompareAndSwap && s.record.as_deref() != before {
            return Err(NotReplaced::Changed(s.record.as_deref().cloned()));
        }
        if !s.nodes[n].connected {
            return Err(NotReplaced::Failed(Failure::generic("no quorum")));
        }
        s.record = Some(Shared::new(record));
        Ok(())
    }
}

pub(crate) fn of_process(s: &mut Cluster, n: usize, effect: &OfProcess) -> Event {
    match effect {
        OfProcess::Find(_) => Event::Found(s.server(n).map(|server| identity(server.process))),
        OfProcess::Objections(_) => Event::Texts(Vec::new()),
        OfProcess::Kill(_) | OfProcess::Terminate(..) => {
            s.end_server(n, true);
            Event::Flag(true)
        }
        OfProcess::Gone(..) => Event::Flag(s.server(n).is_none()),
        OfProcess::StandBack(..) | OfProcess::Watch(..) => Event::Done(Ok(())),
    }
}

/// Whether an effect leaves a trace, so that an agent that was killed after it differs from one that was killed before.
pub(super) fn changes(effect: &Effect) -> bool {
    match effect {
        Effect::Save(_) => true,
        Effect::Log(..) | Effect::Wait(_) => false,
        Effect::OfProcess(effect) => matches!(effect, OfProcess::Kill(_) | OfProcess::Terminate(..)),
        // Its monitors are never lost. What is said of writes no agent reads.
        Effect::OfCluster(effect) => {
            !matches!(effect, OfCluster::Hear(..) | OfCluster::ReadRecord | OfCluster::ForgetDegraded | OfCluster::PublishWrites(_))
        }
        Effect::Own(effect) => {
            matches!(effect, OfServer::Rest(_) | OfServer::Drain(..) | OfServer::Tell(_) | OfServer::Launch(..))
        }
    }
}

/// Whether nobody else can tell when an effect is carried out.
pub(super) fn is_private(effect: &Effect) -> bool {
    let asks = |effect: &OfServer| matches!(effect, OfServer::Look(..) | OfServer::Replication | OfServer::Held(..));
    let unseen = |effect: &OfCluster| matches!(effect, OfCluster::ForgetDegraded | OfCluster::PublishWrites(_));
    let of_cluster = matches!(effect, Effect::OfCluster(effect) if !unseen(effect));
    !changes(effect) && !of_cluster && !matches!(effect, Effect::Own(effect) if asks(effect))
}
