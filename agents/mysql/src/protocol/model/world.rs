//! The world: servers with their transactions, links between them, and what carries effects out there.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::{Kind, Op, Shared, World as _, name, number};
use ocf::{Environment, Failure, Values};
use process::Identity;
use promotable::NotReplaced;

use super::{Cluster, Loss, MOST, Memory, Own, SERVERS, Server, Set, State, Without, World, one, up_to_highest};
use crate::dialect::{Dialect, Row};
use crate::election::{Position, Unfit};
use crate::gtid::{Flavour, Gtids};
use crate::limits;
use crate::membership::Membership;
use crate::observation::{Observation, Replica, Thread};
use crate::params::{ALL, Params};
use crate::protocol::{
    Answer, Asked, Attribute, Effect, Equipment, Event, Launched, OfAttributes, OfCluster, OfDaemon, OfHost, OfProcess, OfServer, Sight,
    Word,
};
use crate::record::{Record, Stamp};
use crate::server::{Attached, Fault, SemiSyncStatus};
use crate::state::{Process, Role};

pub(in crate::protocol) fn identity(process: u8) -> Identity {
    Identity { pid: process.into(), start_ticks: process.into(), boot: String::new() }
}

pub(in crate::protocol) fn params(pairs: &[(&str, &str)]) -> Params {
    let pairs = pairs.iter().map(|(name, value)| (format!("OCF_RESKEY_{name}"), (*value).to_owned()));
    Params::new(&Values::read(ALL, &Environment::from_pairs(pairs)).unwrap())
}

/// What servers of a flavour say that never changes.
#[derive(Clone, Debug)]
pub(in crate::protocol) struct Told {
    pub(in crate::protocol) dialect: Dialect,
    /// Of a server that does not wait for replicas, and of one that does.
    pub(in crate::protocol) variables: [Row; 2],
}

impl Told {
    pub(in crate::protocol) fn by(flavour: Flavour, acknowledgements: usize) -> Self {
        let row = |name: &str| Row::from([("variable_name".to_owned(), name.to_owned()), ("value".to_owned(), String::new())]);
        let telling: &[&str] = match flavour {
            Flavour::MySql => &[
                "gtid_executed",
                "gtid_executed_compression_period",
                "super_read_only",
                "log_replica_updates",
                "rpl_semi_sync_source_enabled",
                "rpl_semi_sync_replica_enabled",
                "rpl_semi_sync_source_wait_point",
                "rpl_semi_sync_source_wait_for_replica_count",
            ],
            Flavour::MariaDb => {
                &["gtid_binlog_state", "rpl_semi_sync_master_enabled", "rpl_semi_sync_slave_enabled", "rpl_semi_sync_master_wait_point"]
            }
        };
        let dialect = Dialect::of(&telling.iter().map(|name| row(name)).collect::<Vec<_>>()).unwrap();
        let sound = [
            ("log_bin", "1"),
            ("log_replica_updates", "1"),
            ("log_slave_updates", "1"),
            ("gtid_mode", "ON"),
            ("enforce_gtid_consistency", "ON"),
            ("gtid_strict_mode", "1"),
            ("sync_binlog", "1"),
            ("innodb_flush_log_at_trx_commit", "1"),
        ];
        let sound: Row = sound.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut waiting = sound.clone();
        waiting.extend(dialect.waiting(acknowledgements));
        Self { dialect, variables: [sound, waiting] }
    }
}

type Known = HashMap<(Set, [u8; MOST], bool), Gtids>;
thread_local!(static KNOWN: RefCell<Known> = RefCell::default());

impl Own {
    pub(super) fn have(&self) -> Set {
        self.server.as_ref().map_or(self.disk.0, Server::have)
    }
}

impl Cluster {
    pub(super) fn server(&self, n: usize) -> Option<&Server> {
        self.nodes[n].server.as_ref().filter(|_| self.nodes[n].alive)
    }

    /// Those that take writes. One that is cut off takes them and acknowledges none.
    pub(super) fn open(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].connected && self.server(*n).is_some_and(|server| !server.closed))
    }

    pub(super) fn written_by(&self, n: usize) -> Set {
        (0..usize::from(self.written)).filter(|t| usize::from(self.writers[*t]) == n).map(one).sum()
    }

    /// The number of a transaction that this node writes now.
    pub(super) fn number_of(&mut self, n: usize) -> usize {
        let transaction = usize::from(self.written);
        self.writers[transaction] = u8::try_from(n).unwrap();
        self.written += 1;
        transaction
    }

    pub(super) fn write(&mut self, n: usize) {
        let transaction = one(self.number_of(n));
        let server = self.nodes[n].server.as_mut().unwrap();
        server.executed |= transaction;
        if server.waits > 0 {
            server.pending |= transaction;
        }
    }

    /// Whether a replica is connected to this one.
    fn is_linked(&self, n: usize) -> bool {
        let source = self.server(n).filter(|server| server.receiver).and_then(|server| server.following);
        source.is_some_and(|p| p != n && self.reach(n, p) && self.server(p).is_some())
    }

    fn attached(&self, p: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(move |n| self.is_linked(*n) && self.server(*n).is_some_and(|s| s.following == Some(p)))
    }

    pub(super) fn may_deliver(&self, n: usize) -> bool {
        self.is_linked(n) && self.missing(n) != 0
    }

    /// What a linked replica is sent next: a receiver passes over what its own server wrote.
    fn missing(&self, n: usize) -> Set {
        let replica = self.server(n).unwrap();
        self.server(replica.following.unwrap()).unwrap().executed & !replica.have() & !self.written_by(n)
    }

    pub(super) fn deliver(&mut self, n: usize) {
        let p = self.server(n).unwrap().following.unwrap();
        let missing = self.missing(n);
        let next = missing & missing.wrapping_neg();
        let replica = self.nodes[n].server.as_mut().unwrap();
        replica.relay |= next;
        if replica.acknowledges {
            self.nodes[p].server.as_mut().unwrap().arriving[n] |= next;
        }
    }

    /// An acknowledgement speaks for everything that was logged before.
    pub(super) fn acknowledgement_arrives(&mut self, p: usize, n: usize) {
        let Some(source) = self.nodes[p].server.as_mut() else { return };
        let arrived = std::mem::take(&mut source.arriving[n]);
        source.acknowledged[n] |= up_to_highest(arrived) & source.pending;
        let by = |t: &usize| source.acknowledged.iter().filter(|set| *set & one(*t) != 0).count();
        let told: Set = (0..MOST).filter(|t| source.waits > 0 && by(t) >= source.waits.into()).map(one).sum();
        source.pending &= !told;
        self.seen |= told;
    }

    pub(super) fn end_server(&mut self, n: usize, loss: Loss) {
        let node = &mut *self.nodes[n];
        let Some(server) = node.server.take() else { return };
        let log = match loss {
            // What survives is applied when the server runs again.
            Loss::Nothing if !server.broken => server.have(),
            Loss::Nothing | Loss::Relay => server.executed,
            Loss::Tail => server.executed & !server.pending,
            Loss::Newest => server.executed & (up_to_highest(server.executed) >> 1),
        };
        node.disk = (log, server.following);
    }

    pub(super) fn start_server(&mut self, n: usize) -> u8 {
        // Of another process than the one before.
        let process = self.nodes[n].memory.server().map_or(1, |server| 1 + (u8::try_from(server.pid).unwrap() % 3));
        let (executed, following) = self.nodes[n].disk;
        let wrote = std::mem::take(&mut self.nodes[n].wrote);
        if self.nodes[n].reign.is_some() && self.nodes[n].reign_wrote.is_none() {
            self.nodes[n].reign_wrote = Some(wrote);
        }
        self.nodes[n].server = Some(Server {
            process,
            closed: true,
            executed,
            relay: 0,
            following,
            receiver: false,
            applier: false,
            broken: false,
            acknowledges: false,
            waits: 0,
            pending: 0,
            arriving: [0; SERVERS],
            acknowledged: [0; SERVERS],
        });
        process
    }

    /// What is received meanwhile is applied, and acknowledged.
    pub(super) fn let_time_pass(&mut self, n: usize) {
        while self.may_deliver(n) {
            self.deliver(n);
        }
        if self.server(n).is_some_and(|server| server.applier && server.relay != 0) {
            let server = self.nodes[n].server.as_mut().unwrap();
            server.executed |= std::mem::take(&mut server.relay);
        }
        for replica in self.attached(n).collect::<Vec<_>>() {
            while self.may_deliver(replica) {
                self.deliver(replica);
            }
        }
        for replica in 0..self.nodes.len() {
            if self.server(n).is_some_and(|server| server.arriving[replica] != 0) {
                self.acknowledgement_arrives(n, replica);
            }
        }
    }
}

impl World {
    /// Of states that differ in nothing that can have an effect one is enough.
    pub(super) fn forget_what_cannot_matter(&self, s: &mut State) {
        s.left.forget_what_makes_no_difference();
        let round = Record::round(s.record.as_deref());
        let settled = s.late.is_none() && s.under_way.is_none() && self.without == Without::Nothing;
        for n in 0..self.servers {
            let node = &s.nodes[n];
            // Acknowledgements that nobody waits for.
            if let Some(server) = node.server.as_ref() {
                let matters = |r: usize| {
                    let told = up_to_highest(server.arriving[r]) & server.pending & !server.acknowledged[r];
                    up_to_highest(told) ^ up_to_highest(told) >> 1
                };
                let arriving = std::array::from_fn(matters);
                let acknowledged = server.acknowledged.map(|set| set & server.pending);
                if (arriving, acknowledged) != (server.arriving, server.acknowledged) {
                    let server = s.nodes[n].server.as_mut().unwrap();
                    (server.arriving, server.acknowledged) = (arriving, acknowledged);
                }
            }
            if !settled {
                continue;
            }
            // Of elections that are over.
            let node = &s.nodes[n];
            if node.position.as_ref().is_some_and(|position| position.round != round) {
                s.nodes[n].position = None;
            }
            let memory = &s.nodes[n].memory;
            let published = memory.told.position.as_ref().is_some_and(|(position, _)| position.round != round);
            let claim = memory.claim().is_some() && memory.claim() != s.record.as_deref();
            if published || claim {
                let memory = &mut s.nodes[n].memory;
                memory.told.position = memory.told.position.take().filter(|_| !published);
                if claim {
                    memory.forget_claim();
                }
            }
        }
    }
}

impl World {
    pub(super) fn gtids(&self, s: &Cluster, set: Set) -> Gtids {
        let text = |t: usize| match self.flavour {
            Flavour::MySql => format!("{}:{}", self.uuid(s.writers[t].into()), t + 1),
            Flavour::MariaDb => format!("0-{}-{}", self.uuid(s.writers[t].into()), t + 1),
        };
        let make = || {
            let list: Vec<String> = (0..MOST).filter(|t| set & one(*t) != 0).map(text).collect();
            let mut all = Gtids::Empty;
            for one in list {
                all = all.union(&Gtids::parse(&one, self.flavour).unwrap());
            }
            all
        };
        KNOWN.with_borrow_mut(|known| known.entry((set, s.writers, self.flavour == Flavour::MySql)).or_insert_with(make).clone())
    }

    pub(super) fn uuid(&self, node: usize) -> String {
        match self.flavour {
            Flavour::MySql => format!("{:08x}-0000-0000-0000-000000000000", node + 1),
            Flavour::MariaDb => (node + 11).to_string(),
        }
    }

    /// What a server calls executed: MySQL leaves out what waits.
    fn executed(&self, s: &Cluster, n: usize) -> Gtids {
        let server = s.server(n).unwrap();
        let hidden = if self.without == Without::ErrantRule { s.errant } else { 0 };
        let waiting = if self.flavour == Flavour::MySql || self.without == Without::WaitingCommits { server.pending } else { 0 };
        // As if it had them by their names, as MariaDB's receiver counts what it has passed over.
        let passed_over = if self.without == Without::LostRule { s.written_by(n) } else { 0 };
        self.gtids(s, server.executed & !waiting & !hidden | passed_over)
    }

    fn replica(&self, s: &Cluster, n: usize) -> Option<Replica> {
        let server = s.server(n).unwrap();
        let host = name(server.following?);
        let receiver = match (server.receiver, s.is_linked(n)) {
            (false, _) => Thread::Stopped,
            (true, false) => Thread::Connecting,
            (true, true) => Thread::Running,
        };
        let lost = self.flavour == Flavour::MariaDb && !server.receiver && !server.applier;
        let received = Some(self.gtids(s, server.relay)).filter(|received| !received.is_empty());
        Some(Replica {
            host,
            port: self.params.replication.port,
            receiver,
            applier: if server.applier { Thread::Running } else { Thread::Stopped },
            receiver_error: None,
            applier_error: server.broken.then(|| (1062, "duplicate".to_owned())),
            applier_idle: server.relay == 0,
            received: received.clone().filter(|_| !lost),
            gone: received.filter(|_| lost),
            behind: Some(0),
            by_gtid: true,
            delay: 0,
            filters: String::new(),
        })
    }

    pub(super) fn observation(&self, s: &Cluster, n: usize) -> Observation {
        let server = s.server(n).unwrap();
        let mut variables = self.told.variables[usize::from(server.waits > 0)].clone();
        variables.insert("server_id".to_owned(), (n + 11).to_string());
        Observation {
            closed: server.closed,
            closed_for_applications: server.closed,
            executed: self.executed(s, n),
            server: self.uuid(n),
            durable: !self.relaxed,
            waits: server.waits > 0,
            acknowledges: server.acknowledges,
            events_run: false,
            replica: self.replica(s, n),
            variables,
        }
    }

    pub(super) fn carry_out(&self, s: &mut Cluster, n: usize, op: Option<Op>, effect: Effect) -> Event {
        match effect {
            Effect::Save(memory) => {
                s.nodes[n].memory = self.remembered(s, n, *memory);
                Event::Done(Ok(()))
            }
            Effect::Wait(_) => {
                s.let_time_pass(n);
                Event::Done(Ok(()))
            }
            Effect::Log(..) => Event::Done(Ok(())),
            Effect::OfProcess(effect) => Self::of_process(s, n, &effect),
            Effect::OfCluster(effect) => self.of_cluster(s, n, effect),
            Effect::Own(effect) => self.own(s, n, op, effect),
        }
    }

    pub(super) fn own(&self, s: &mut Cluster, n: usize, op: Option<Op>, effect: Asked) -> Event {
        match effect {
            Asked::Milestone(_) => Event::Done(Ok(())),
            Asked::OfDaemon(effect) => self.of_daemon(s, n, effect),
            Asked::OfServer(effect) if s.server(n).is_some() => self.of_server(s, n, op, effect),
            Asked::OfServer(effect) => of_no_server(&effect),
            Asked::OfAttributes(effect) => self.of_attributes(s, n, effect),
            Asked::OfHost(OfHost::ForgetReign) => {
                (s.nodes[n].reign, s.nodes[n].reign_wrote) = (None, None);
                Event::Done(Ok(()))
            }
            Asked::OfHost(effect) => of_host(&effect),
        }
    }

    fn of_daemon(&self, s: &mut Cluster, n: usize, effect: OfDaemon) -> Event {
        let running = s.server(n).is_some();
        let answer = match effect {
            OfDaemon::StillThere(_) => Answer::Processes(Vec::new()),
            OfDaemon::HangingDisk(_) => return Event::Texts(Vec::new()),
            OfDaemon::Look { .. } if running => {
                Answer::Sight(Sight::Answered(Box::new(self.observation(s, n)), Box::new(self.told.dialect.clone())))
            }
            OfDaemon::Look { .. } => Answer::Sight(Sight::Deaf { why: "nothing listens".into(), alive: false, listens: false }),
            OfDaemon::Reach(..) if running => Answer::Reached(Ok(Box::new(self.told.dialect.clone()))),
            OfDaemon::Reach(..) => Answer::Reached(Err(Fault::Absent("nothing listens".into()))),
            OfDaemon::Launch(memory, patience) => Answer::Launched(Ok(self.launch(s, n, *memory, patience))),
            OfDaemon::Dead(..) => return Event::Flag(!running),
        };
        answer.into()
    }

    pub(super) fn of_process(s: &mut Cluster, n: usize, effect: &OfProcess) -> Event {
        let running = s.server(n).is_some();
        match effect {
            OfProcess::Find(_) => Event::Found(s.server(n).map(|server| identity(server.process))),
            OfProcess::Objections(_) => Event::Texts(Vec::new()),
            OfProcess::Kill(_) => {
                s.end_server(n, Loss::Nothing);
                Event::Done(Ok(()))
            }
            OfProcess::Terminate(..) => {
                s.end_server(n, Loss::Nothing);
                Event::Flag(true)
            }
            OfProcess::Gone(..) => Event::Flag(!running),
            OfProcess::StandBack(..) | OfProcess::Watch(..) => Event::Done(Ok(())),
        }
    }

    fn of_cluster(&self, s: &mut Cluster, n: usize, effect: OfCluster) -> Event {
        match effect {
            OfCluster::Score(score) => {
                s.nodes[n].score = Some(score);
                Event::Done(Ok(()))
            }
            OfCluster::ScoreOf(node, score) => {
                s.nodes[number(&node)].score = Some(score);
                Event::Done(Ok(()))
            }
            OfCluster::ForgetDegraded | OfCluster::PublishWrites(_) => Event::Done(Ok(())),
            OfCluster::Publish(position) => {
                self.publish(s, n, *position);
                Event::Done(Ok(()))
            }
            OfCluster::Hear(round, ..) => {
                let mut positions = self.positions(s, n);
                positions.retain(|_, position| position.round == round);
                Event::Positions(Ok(positions))
            }
            OfCluster::ReadRecord => Event::Record(Ok(s.record.as_deref().cloned())),
            OfCluster::ReplaceRecord(before, record) => self.replace(s, n, before.as_deref(), *record),
        }
    }

    fn of_attributes(&self, s: &mut Cluster, n: usize, effect: OfAttributes) -> Event {
        let answer = match effect {
            OfAttributes::Publish(Attribute::Membership(membership)) => {
                s.nodes[n].membership = Some(Shared::new(membership));
                return Event::Done(Ok(()));
            }
            OfAttributes::Publish(Attribute::ServerId(_)) | OfAttributes::PublishReadable(_) => return Event::Done(Ok(())),
            OfAttributes::Positions => return Event::Positions(Ok(self.positions(s, n))),
            OfAttributes::Memberships => Answer::Memberships(Ok(self.memberships(s, n))),
            OfAttributes::ServerIds => Answer::ServerIds(Ok((0..self.servers).map(|m| (name(m), (m + 11).to_string())).collect())),
            OfAttributes::AddressOf(_) => Answer::Address(Ok(None)),
        };
        answer.into()
    }

    fn of_server(&self, s: &mut Cluster, n: usize, op: Option<Op>, effect: OfServer) -> Event {
        let server = s.nodes[n].server.as_mut().unwrap();
        let answer = match effect {
            OfServer::Tell(word) => Answer::Told(self.tell(s, n, &word)),
            OfServer::Observe => {
                let mut seen = self.observation(s, n);
                if self.without == Without::Drain && op.is_some_and(|op| op.kind == Kind::Promote) {
                    seen.replica.iter_mut().for_each(|replica| replica.received = None);
                }
                Answer::Observed(Ok(Box::new(seen)))
            }
            OfServer::Rest(..) => {
                server.receiver = false;
                Answer::Observed(Ok(Box::new(self.observation(s, n))))
            }
            OfServer::Replica => Answer::Replica(Ok(self.replica(s, n).map(Box::new))),
            OfServer::Executed => Answer::Set(Ok(self.executed(s, n))),
            OfServer::Logged => {
                let waiting = if self.without == Without::WaitingCommits { server.pending } else { 0 };
                let logged = server.executed & !waiting;
                Answer::Set(Ok(self.gtids(s, logged)))
            }
            OfServer::SemiSync => Answer::SemiSync(Ok(SemiSyncStatus {
                acknowledging: s.attached(n).filter(|r| s.server(*r).unwrap().acknowledges).count(),
                waiting: s.server(n).unwrap().pending.count_ones().into(),
                active: s.server(n).unwrap().waits > 0,
            })),
            OfServer::Attached => {
                Answer::Attached(Ok(s.attached(n).map(|r| Attached { host: name(r), server_id: (r + 11).to_string() }).collect()))
            }
            OfServer::ApplierWaits => Answer::Asked(Ok(false)),
            OfServer::HoldCommits(_) => Answer::Asked(Ok(true)),
            OfServer::CutClients | OfServer::EndWaiting(_) => {
                Answer::Counted(Ok(std::mem::take(&mut server.pending).count_ones() as usize))
            }
            OfServer::StuckCommits(_) => Answer::Counted(Ok(server.pending.count_ones() as usize)),
            OfServer::Running(_) => Answer::Counted(Ok(0)),
            OfServer::ReleaseWaiting { held, enough, .. } => {
                let (pending, executed) = (server.pending, server.executed);
                let logged = self.gtids(s, executed);
                if held.iter().filter(|held| held.contains(&logged)).count() < enough {
                    return Answer::Counted(Ok(0)).into();
                }
                s.seen |= pending;
                s.nodes[n].server.as_mut().unwrap().pending = 0;
                Answer::Counted(Ok(pending.count_ones() as usize))
            }
            OfServer::Equip => Answer::Equipped(Ok(Box::new(Equipment {
                seen: self.observation(s, n),
                dialect: self.told.dialect.clone(),
                filters: String::new(),
                disks: Some(pacemaker::Disks { uid: 1, gid: 1, directories: Vec::new() }),
                unloaded: None,
                unknown_disks: None,
            }))),
            OfServer::NoteReign(note) => {
                (s.nodes[n].reign, s.nodes[n].reign_wrote) = (Some(Shared::new(note)), None);
                Answer::Told(Ok(()))
            }
            OfServer::IsConnected => return Event::Flag(true),
        };
        answer.into()
    }

    fn tell(&self, s: &mut Cluster, n: usize, word: &Word) -> Result<(), Fault> {
        let loses_received = self.flavour == Flavour::MariaDb;
        let server = s.nodes[n].server.as_mut().unwrap();
        match word {
            Word::CloseWrites(_) if server.waits > 0 && server.pending != 0 => return Err(Fault::Silent("commits wait".into())),
            Word::CloseWrites(_) => server.closed = true,
            Word::OpenWrites => server.closed = false,
            Word::StopReceiver => server.receiver = false,
            Word::StartReceiver => {
                if loses_received && !server.receiver && !server.applier {
                    server.relay = 0;
                }
                server.receiver = server.following.is_some();
            }
            Word::StopReplica(_) => (server.receiver, server.applier) = (false, false),
            Word::StartApplier | Word::StartReplica => {
                if loses_received && !server.receiver && !server.applier {
                    server.relay = 0;
                }
                server.applier = !server.broken;
                server.receiver |= *word == Word::StartReplica;
            }
            Word::ForgetSource => (server.following, server.relay, server.broken) = (None, 0, false),
            Word::Follow(host) => (server.following, server.relay, server.broken) = (Some(number(host)), 0, false),
            Word::Acknowledge(on) => server.acknowledges = *on,
            Word::WaitForReplicas(enough) => server.waits = u8::try_from(*enough).unwrap(),
            Word::WaitForNobody => {
                // Who waits is told that all is well.
                server.waits = 0;
                let told = std::mem::take(&mut server.pending);
                s.seen |= if s.careless { 0 } else { told };
            }
            Word::Barrier => return self.barrier(s, n),
            Word::LockPatience
            | Word::EventScheduler(_)
            | Word::LearnHistory(_)
            | Word::LoadClone
            | Word::Settle
            | Word::ReadTestTable(_) => {}
        }
        Ok(())
    }

    /// A replica that acknowledges has everything then.
    fn barrier(&self, s: &mut Cluster, n: usize) -> Result<(), Fault> {
        if self.without == Without::Barrier {
            return Ok(());
        }
        let able = s.attached(n).filter(|r| s.server(*r).unwrap().acknowledges).collect::<Vec<_>>();
        if able.len() < self.params.acknowledgements {
            return Err(Fault::Silent("nobody acknowledges".into()));
        }
        for replica in able.into_iter().take(self.params.acknowledgements) {
            while s.may_deliver(replica) {
                s.deliver(replica);
            }
            // Of what comes behind everything that is logged.
            s.nodes[n].server.as_mut().unwrap().arriving[replica] = Set::MAX;
            s.acknowledgement_arrives(n, replica);
        }
        Ok(())
    }

    fn launch(&self, s: &mut Cluster, n: usize, mut memory: Memory, patience: Duration) -> Launched {
        let process = identity(s.start_server(n));
        memory.process = Some(Process::started(process, Some(pacemaker::Disks { uid: 1, gid: 1, directories: Vec::new() })));
        s.nodes[n].memory = self.remembered(s, n, memory);
        let seen = (!patience.is_zero()).then(|| (Box::new(self.observation(s, n)), Box::new(self.told.dialect.clone())));
        Launched { state: Box::new(Memory::clone(&s.nodes[n].memory)), seen }
    }

    /// As it stands in the file, without what cannot matter where time stands still.
    fn remembered(&self, s: &Cluster, n: usize, mut memory: Memory) -> Shared<Memory> {
        memory.asked_record = memory.asked_record.map(|_| Self::NOW.now);
        memory.told.position.iter_mut().for_each(|(_, at)| *at = Self::NOW.now);
        memory.told.membership.iter_mut().for_each(|(_, at)| *at = Self::NOW.now);
        memory.told.server_id.iter_mut().for_each(|(_, at)| *at = Self::NOW.now);
        (memory.told.readable, memory.told.writes) = (None, None);
        match &mut memory.role {
            Role::Primary(primary) => {
                // Asked with each monitor.
                primary.asked_members = None;
                primary.opened = primary.opened.map(|_| Self::NOW.now.saturating_sub(limits::ARRIVING * 2));
                primary.blocked = None;
            }
            Role::Unpromoted(unpromoted) => {
                unpromoted.held_until = unpromoted.held_until.map(|_| Self::NOW.now + limits::HELD);
                unpromoted.stands_back.iter_mut().for_each(|(_, until)| *until = Self::NOW.now + promotable::limits::STANDS_BACK);
                (unpromoted.alone_for, unpromoted.trouble, unpromoted.refused) = (0, None, None);
                unpromoted.broken.iter_mut().for_each(|broken| broken.monitors = broken.monitors.min(3));
            }
        }
        if self.without == Without::NewRecordAfterStart {
            memory.memory.not_before = memory.memory.not_before.map(|_| Stamp::default());
        }
        let before = &s.nodes[n].memory;
        if self.without == Without::NewEpochAfterDemotion && memory.claim().is_none() && memory.server() == before.server() {
            if let Some(claim) = before.claim() {
                memory.keep_claim(claim.clone());
            }
        }
        Shared::new(memory)
    }

    fn publish(&self, s: &mut Cluster, n: usize, mut position: Position) {
        if self.without == Without::MemoryOfAcknowledging {
            position.untouched |= position.acknowledging.is_none();
        }
        s.nodes[n].position = Some(Shared::new(position));
    }

    fn positions(&self, s: &Cluster, n: usize) -> BTreeMap<String, Position> {
        let round = Record::round(s.record.as_deref());
        let heard = (0..self.servers).filter(|m| s.reach(n, *m));
        let mut positions: BTreeMap<String, Position> =
            heard.filter_map(|m| Some((name(m), s.nodes[m].position.as_deref().cloned()?))).collect();
        if self.without == Without::Round {
            positions.values_mut().for_each(|position| position.round.clone_from(&round));
        }
        if self.without == Without::Quorum {
            positions.retain(|_, position| position.round == round);
            for m in 0..self.servers {
                let untouched = Position { untouched: true, unfit: Some(Unfit::Unsound), ..Position::nowhere(&round, Unfit::Unsound) };
                positions.entry(name(m)).or_insert(untouched);
            }
        }
        positions
    }

    fn memberships(&self, s: &Cluster, n: usize) -> BTreeMap<String, Membership> {
        let heard = (0..self.servers).filter(|m| s.reach(n, *m));
        let mut told: BTreeMap<String, Membership> =
            heard.filter_map(|m| Some((name(m), s.nodes[m].membership.as_deref().cloned()?))).collect();
        if self.without == Without::StampOfResignation {
            let now = s.record.as_ref().map(|record| record.stamp()).unwrap_or_default();
            for membership in told.values_mut().filter(|membership| matches!(membership, Membership::Resigned(_))) {
                *membership = Membership::Resigned(now);
            }
        }
        told
    }

    fn replace(&self, s: &mut Cluster, n: usize, before: Option<&Record>, mut record: Record) -> Event {
        if self.without == Without::Unheard && before.is_none_or(|before| before.epoch != record.epoch) {
            let round = Record::round(before);
            let heard = |m: &String| s.nodes[number(m)].position.as_ref().is_some_and(|position| position.round == round);
            record.active.retain(|m| heard(m));
        }
        if self.without != Without::CompareAndSwap && s.record.as_deref() != before {
            return Event::Replaced(Err(NotReplaced::Changed(s.record.as_deref().cloned())));
        }
        if !s.nodes[n].connected {
            return Event::Replaced(Err(NotReplaced::Failed(Failure::generic("no quorum"))));
        }
        if let Some(before) = before.filter(|b| self.without == Without::NewEpochAfterDemotion && b.epoch == record.epoch) {
            // What it goes on under is what it ended under.
            if before.active == record.active {
                record.clone_from(before);
            }
        }
        s.record = Some(Shared::new(record));
        Event::Replaced(Ok(()))
    }
}

/// What is asked of a server that does not run.
fn of_no_server(effect: &OfServer) -> Event {
    let gone = Fault::Broken("it is gone".into());
    let answer = match effect {
        OfServer::IsConnected => return Event::Flag(false),
        OfServer::Tell(_) | OfServer::NoteReign(_) => Answer::Told(Err(gone)),
        OfServer::Observe | OfServer::Rest(..) => Answer::Observed(Err(gone)),
        OfServer::Replica => Answer::Replica(Err(gone)),
        OfServer::Executed | OfServer::Logged => Answer::Set(Err(gone)),
        OfServer::SemiSync => Answer::SemiSync(Err(gone)),
        OfServer::Attached => Answer::Attached(Err(gone)),
        OfServer::ApplierWaits | OfServer::HoldCommits(_) => Answer::Asked(Err(gone)),
        OfServer::Equip => Answer::Equipped(Err(gone)),
        OfServer::CutClients
        | OfServer::StuckCommits(_)
        | OfServer::Running(_)
        | OfServer::EndWaiting(_)
        | OfServer::ReleaseWaiting { .. } => Answer::Counted(Err(gone)),
    };
    answer.into()
}

fn of_host(effect: &OfHost) -> Event {
    match effect {
        OfHost::MayStart | OfHost::MakeData | OfHost::CheckPassword(_) | OfHost::ForgetReign => Event::Done(Ok(())),
        OfHost::NeedsCopyFirst => Event::Own(Answer::Whether(Ok(false))),
        OfHost::RejoinIsUnfinished | OfHost::IsCramped => Event::Flag(false),
        OfHost::Exposed | OfHost::OptionFile | OfHost::GivenUp => Event::Texts(Vec::new()),
    }
}

/// Who can tell when an effect is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// It leaves a trace, so that an agent that was killed after it differs from one that was killed before.
    Trace,
    /// It sees what others change.
    Sees,
    /// Nobody.
    Private,
}

fn mark(effect: &Effect) -> Mark {
    match effect {
        Effect::Save(_) => Mark::Trace,
        Effect::Log(..) | Effect::Wait(_) => Mark::Private,
        Effect::OfProcess(effect) => match effect {
            OfProcess::Kill(_) | OfProcess::Terminate(..) => Mark::Trace,
            OfProcess::Find(_) | OfProcess::Objections(_) | OfProcess::Gone(..) | OfProcess::StandBack(..) | OfProcess::Watch(..) => {
                Mark::Private
            }
        },
        Effect::OfCluster(effect) => match effect {
            OfCluster::Score(_) | OfCluster::ScoreOf(..) | OfCluster::Publish(_) | OfCluster::ReplaceRecord(..) => Mark::Trace,
            OfCluster::ReadRecord | OfCluster::Hear(..) => Mark::Sees,
            // Its monitors are never lost. What is said of writes no agent reads.
            OfCluster::ForgetDegraded | OfCluster::PublishWrites(_) => Mark::Private,
        },
        Effect::Own(effect) => mark_of_own(effect),
    }
}

fn mark_of_own(effect: &Asked) -> Mark {
    match effect {
        Asked::OfHost(OfHost::ForgetReign) => Mark::Trace,
        Asked::Milestone(_) | Asked::OfHost(_) => Mark::Private,
        Asked::OfDaemon(effect) => match effect {
            OfDaemon::Launch(..) => Mark::Trace,
            OfDaemon::Look { .. } | OfDaemon::Reach(..) => Mark::Sees,
            OfDaemon::StillThere(_) | OfDaemon::HangingDisk(_) | OfDaemon::Dead(..) => Mark::Private,
        },
        Asked::OfServer(effect) => match effect {
            OfServer::NoteReign(_)
            | OfServer::Tell(_)
            | OfServer::Rest(..)
            | OfServer::CutClients
            | OfServer::EndWaiting(_)
            | OfServer::ReleaseWaiting { .. } => Mark::Trace,
            OfServer::Observe
            | OfServer::Executed
            | OfServer::Logged
            | OfServer::SemiSync
            | OfServer::Attached
            | OfServer::StuckCommits(_) => Mark::Sees,
            OfServer::Replica
            | OfServer::IsConnected
            | OfServer::ApplierWaits
            | OfServer::Running(_)
            | OfServer::HoldCommits(_)
            | OfServer::Equip => Mark::Private,
        },
        Asked::OfAttributes(effect) => match effect {
            OfAttributes::Publish(_) => Mark::Trace,
            OfAttributes::Positions | OfAttributes::Memberships => Mark::Sees,
            OfAttributes::PublishReadable(_) | OfAttributes::ServerIds | OfAttributes::AddressOf(_) => Mark::Private,
        },
    }
}

/// Whether an effect leaves a trace.
pub(super) fn changes(effect: &Effect) -> bool {
    mark(effect) == Mark::Trace
}

/// Whether nobody else can tell when an effect is carried out.
pub(super) fn is_private(effect: &Effect) -> bool {
    mark(effect) == Mark::Private
}
