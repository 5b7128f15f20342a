//! What the limits add up to: the agent's own actions in the slowest world, in which everything takes as long as it may.
//!
//! Each effect is answered after exactly its limit. Where several answers are possible, the search goes through them: an effect of one kind is
//! answered as it was the last time, but for the changes that `model::slowest` tries. Files and the kernel take no time, and as many
//! sessions as are ended are one statement.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper panics to fail the test")]

use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use model::slowest::{Changes, Clock, Course, Table, longest};
use ocf::{Failure, Member, Notification, Operation, Peers, Phase, ResourceAgent as _};
use promotable::{Machine, Moment, NotReplaced, Step};

use super::model::{Told, identity, params};
use super::{
    Alone, Answer, Asked, Effect, Equipment, Event, Instance, Launched, OfAttributes, OfCluster, OfDaemon, OfHost, OfProcess, OfServer,
    Rules, Sight, Statement, Word,
};
use crate::agent::MySql;
use crate::dialect::Source;
use crate::election::{Acknowledging, Position, Unfit};
use crate::gtid::{Flavour, Gtids};
use crate::limits;
use crate::membership::Membership;
use crate::observation::{Observation, Replica, Thread};
use crate::record::{Record, Stamp};
use crate::server::{Attached, Fault, SemiSyncStatus};
use crate::state::{Link, Primary, Process, Rest, Role, State, Unpromoted};

/// At how many moments an effect is answered otherwise than the last one of its kind.
const MOST: usize = 3;
/// A moment of the processor: of a loop that has nothing to wait for, too.
const TICK: Duration = Duration::from_millis(1);
/// An action that waits so often waits until its time is over: of a loop without an end so many rounds are one.
const PATIENCE: u32 = 60;
const SKIPPED: u32 = 25;
/// How often `settle` looks at most, when each look is quick.
const SETTLING: Duration = Duration::from_millis(250);

/// What may be answered, by the kind of the effect and whether there is a connection.
type Answers = HashMap<(String, bool), Rc<Vec<Event>>>;

/// What can be answered by a server of a flavour, made once.
struct Library {
    flavour: Flavour,
    told: Told,
    answers: RefCell<Answers>,
}

/// An action on its way through the slowest world.
struct World<'a> {
    library: &'a Library,
    clock: Clock,
    /// The limit of each statement on the connection, if there is one that was not given up.
    connection: Option<Duration>,
    /// Whether the data directory holds no database.
    without_data: bool,
    /// How often the action has waited.
    waits: u32,
}

/// How long.
impl World<'_> {
    /// A statement, for as long as the server may take.
    fn statements(&mut self, number: usize) {
        let limit = self.connection.unwrap_or_default();
        for _ in 0..number {
            self.clock.step(limit);
        }
    }

    /// A look, whose two statements share a limit.
    fn observe(&mut self, limit: Duration) {
        let left = limit.saturating_sub(self.clock.step(limit));
        self.clock.step(left);
    }

    fn connect(&mut self, limit: Duration) {
        self.connection = Some(self.clock.step(limit));
    }

    /// Statements that load plugins, and what they need.
    fn install(&mut self, number: usize) {
        self.observe(self.connection.unwrap_or_default());
        self.statements(number + 2 * usize::from(self.library.told.dialect.let_administrators_write(true).is_some()));
    }

    fn of_process(&mut self, effect: &OfProcess) {
        match effect {
            OfProcess::Find(_) => drop(self.clock.step(promotable::limits::LISTENING)),
            OfProcess::Terminate(_, limit) | OfProcess::Gone(_, limit) => self.clock.pass(*limit),
            OfProcess::Watch(..) => drop(self.clock.step(pacemaker::WATCHER_ENDING)),
            OfProcess::Objections(_) | OfProcess::Kill(_) | OfProcess::StandBack(..) => {}
        }
    }

    fn of_daemon(&mut self, effect: &OfDaemon, event: &Event) {
        match effect {
            OfDaemon::Look { limit, .. } => {
                let at_once = matches!(event, Event::Own(Answer::Sight(Sight::Deaf { .. })));
                let answered = matches!(event, Event::Own(Answer::Sight(Sight::Answered(..))));
                let limit = if at_once { Duration::ZERO } else { *limit };
                let connected = self.clock.step(limit);
                self.observe(limit.saturating_sub(connected));
                self.connection = answered.then_some(connected);
            }
            OfDaemon::Reach(_, limit) => {
                self.connect(*limit);
                self.lose_connection(event);
            }
            // For the server before, then until it answers at the last moment.
            OfDaemon::Launch(_, patience) => {
                self.clock.pass((*patience).max(limits::LETTING_GO));
                self.clock.step(pacemaker::WATCHER_ENDING);
                self.clock.pass((*patience).min(self.clock.left().saturating_sub(limits::AFTER_RECOVERY)));
                self.connect(limits::ATTEMPT);
                self.observe(limits::ATTEMPT);
                match event {
                    Event::Own(Answer::Launched(Ok(Launched { seen: Some(_), .. }))) => {}
                    Event::Own(Answer::Launched(Err(_))) => {
                        self.clock.pass(promotable::limits::not_come_up(self.clock.left()));
                        self.connection = None;
                    }
                    _ => self.connection = None,
                }
            }
            OfDaemon::Dead(_, limit) => self.clock.pass(*limit),
            OfDaemon::StillThere(_) | OfDaemon::HangingDisk(_) => {}
        }
    }

    fn of_server(&mut self, effect: &OfServer, event: &Event) {
        let limit = self.connection.unwrap_or_default();
        match effect {
            OfServer::Observe => self.observe(limit),
            OfServer::Replica
            | OfServer::Executed
            | OfServer::Logged
            | OfServer::SemiSync
            | OfServer::Attached
            | OfServer::ApplierWaits
            | OfServer::Running(_) => self.statements(1),
            OfServer::IsConnected => {}
            OfServer::Rest(replica, everything) => {
                if replica.attached() && !everything {
                    self.clock.pass(limits::LAST_OF_STREAM);
                    self.statements(1);
                }
                self.statements(usize::from(replica.applier == Thread::Stopped));
                self.clock.step(limits::STOPPING_IN_NOTIFICATION);
                self.observe(limit);
            }
            OfServer::CutClients | OfServer::NoteReign(_) => self.statements(2),
            // The last round of questions begins at the limit, and is paused.
            OfServer::StuckCommits(patience) => {
                self.statements(2);
                self.clock.pass(*patience + limits::LOOK);
                self.statements(2);
            }
            OfServer::HoldCommits(_) => {
                self.statements(3);
                self.clock.step(limits::MOMENT);
                match event {
                    Event::Own(Answer::Asked(Ok(true))) => self.connect(limits::ANSWER),
                    _ => self.statements(1),
                }
            }
            OfServer::EndWaiting(limit) => {
                self.clock.pass(*limit);
                self.statements(4);
            }
            OfServer::ReleaseWaiting { limit, .. } => {
                self.clock.pass(*limit);
                self.statements(3);
            }
            // Plugins and what they bring, filters by either word, the look, the directories.
            OfServer::Equip => {
                self.install(2);
                self.statements(1 + self.library.told.dialect.binary_log().len());
                self.observe(limit);
                self.statements(1);
            }
            OfServer::Tell(word) => self.tell(word),
        }
        self.lose_connection(event);
    }

    fn tell(&mut self, word: &Word) {
        let dialect = &self.library.told.dialect;
        match word {
            Word::LockPatience
            | Word::OpenWrites
            | Word::EventScheduler(_)
            | Word::StartReceiver
            | Word::StartApplier
            | Word::StartReplica
            | Word::ForgetSource
            | Word::LearnHistory(_)
            | Word::ReadTestTable(_) => self.statements(1),
            Word::CloseWrites(limit) => drop(self.clock.step(*limit)),
            Word::StopReceiver | Word::WaitForNobody => drop(self.clock.step(limits::STOPPING)),
            // It does not by itself, and its workers end at the last moment.
            Word::StopReplica(_) => {
                self.clock.step(limits::STOPS_BY_ITSELF);
                self.connect(limits::ANSWER);
                self.clock.step(limits::STOPPING);
                self.statements(3);
            }
            Word::Follow(_) => {
                let source = Source { host: "b", port: 0, user: "", password: "", tls: false, ca: None, certificate: None, key: None };
                self.statements(1 + dialect.follow(&source).len());
            }
            Word::Acknowledge(on) => self.statements(usize::from(dialect.acknowledge(*on).is_some())),
            Word::WaitForReplicas(number) => self.statements(dialect.wait_for_replicas(*number).len()),
            Word::Barrier => drop(self.clock.step(limits::BARRIER)),
            Word::LoadClone => {
                self.statements(1);
                self.install(1);
            }
            Word::Settle => {
                self.statements(1);
                self.clock.pass(SETTLING);
                self.statements(1);
            }
        }
    }

    /// After a question that was not answered in time the connection is of no more use.
    fn lose_connection(&mut self, event: &Event) {
        let fault = match event {
            Event::Own(Answer::Told(Err(fault)))
            | Event::Own(Answer::Reached(Err(fault)))
            | Event::Own(Answer::Observed(Err(fault)))
            | Event::Own(Answer::Replica(Err(fault)))
            | Event::Own(Answer::Set(Err(fault)))
            | Event::Own(Answer::SemiSync(Err(fault)))
            | Event::Own(Answer::Attached(Err(fault)))
            | Event::Own(Answer::Asked(Err(fault)))
            | Event::Own(Answer::Counted(Err(fault)))
            | Event::Own(Answer::Equipped(Err(fault))) => fault,
            _ => return,
        };
        if matches!(fault, Fault::Silent(_) | Fault::Absent(_)) {
            self.connection = None;
        }
    }

    fn of_cluster(&mut self, effect: &OfCluster) {
        match effect {
            OfCluster::Hear(_, _, limit) => {
                self.clock.pass(*limit);
                self.clock.calls(1);
            }
            // The property, the set that it goes into, and what stands there then.
            OfCluster::ReplaceRecord(..) => self.clock.calls(3),
            OfCluster::ReadRecord
            | OfCluster::Score(_)
            | OfCluster::ScoreOf(..)
            | OfCluster::ForgetDegraded
            | OfCluster::Publish(_)
            | OfCluster::PublishWrites(_) => self.clock.calls(1),
        }
    }

    fn own(&mut self, effect: &Asked, event: &Event) {
        match effect {
            Asked::Milestone(_) => {}
            Asked::OfDaemon(effect) => self.of_daemon(effect, event),
            // A statement on a connection that was given up fails at once.
            Asked::OfServer(_) if self.connection.is_none() => {}
            Asked::OfServer(effect) => self.of_server(effect, event),
            Asked::OfAttributes(
                OfAttributes::Publish(_)
                | OfAttributes::PublishReadable(_)
                | OfAttributes::Positions
                | OfAttributes::Memberships
                | OfAttributes::ServerIds
                | OfAttributes::AddressOf(_),
            ) => self.clock.calls(1),
            Asked::OfHost(OfHost::MakeData) if self.without_data => {
                self.clock.step(limits::VERSION);
                self.clock.pass(self.clock.left());
            }
            Asked::OfHost(_) => {}
        }
    }

    /// Lets the time pass that an effect may take.
    fn carry_out(&mut self, effect: &Effect, event: &Event) {
        match effect {
            Effect::Wait(time) => {
                self.waits += 1;
                let rest = self.clock.left().saturating_sub(*time);
                let time = if self.waits > PATIENCE { (*time * SKIPPED).min(rest).max(*time) } else { *time };
                self.clock.pass(time + TICK);
            }
            Effect::Log(..) | Effect::Save(_) => {}
            Effect::OfProcess(effect) => self.of_process(effect),
            Effect::OfCluster(effect) => self.of_cluster(effect),
            Effect::Own(effect) => self.own(effect, event),
        }
    }
}

/// What is answered: the usual one first.
impl World<'_> {
    fn answers(&self, kind: &str, effect: &Effect) -> Rc<Vec<Event>> {
        if matches!(
            effect,
            Effect::OfProcess(OfProcess::Find(_)) | Effect::Own(Asked::OfDaemon(OfDaemon::StillThere(_) | OfDaemon::Launch(..)))
        ) {
            return Rc::new(self.answers_to(effect));
        }
        let question = (kind.to_owned(), self.connection.is_some());
        let mut known = self.library.answers.borrow_mut();
        Rc::clone(known.entry(question).or_insert_with(|| Rc::new(self.answers_to(effect))))
    }

    fn answers_to(&self, effect: &Effect) -> Vec<Event> {
        match effect {
            Effect::Log(..) | Effect::Wait(_) => vec![Event::Done(Ok(()))],
            Effect::Save(_) => done(),
            Effect::OfProcess(effect) => Self::answers_of_process(effect),
            Effect::OfCluster(effect) => self.answers_of_cluster(effect),
            Effect::Own(effect) => self.answers_of_own(effect),
        }
    }

    fn answers_of_own(&self, effect: &Asked) -> Vec<Event> {
        match effect {
            Asked::Milestone(_) => vec![Event::Done(Ok(()))],
            Asked::OfDaemon(effect) => self.answers_of_daemon(effect),
            Asked::OfServer(OfServer::IsConnected) => vec![Event::Flag(self.connection.is_some())],
            Asked::OfServer(effect) => {
                let failures = self.failures(effect);
                let answers = if self.connection.is_some() { self.answers_of_server(effect) } else { Vec::new() };
                answers.into_iter().chain(failures).collect()
            }
            Asked::OfAttributes(effect) => self.answers_of_attributes(effect),
            Asked::OfHost(effect) => match effect {
                OfHost::OptionFile => vec![Event::Texts(vec!["my.cnf".to_owned()])],
                OfHost::MayStart | OfHost::MakeData | OfHost::CheckPassword(_) | OfHost::ForgetReign => done(),
                OfHost::GivenUp => texts(),
                OfHost::NeedsCopyFirst => vec![Event::Own(Answer::Whether(Ok(false))), Event::Own(Answer::Whether(Ok(true)))],
                OfHost::RejoinIsUnfinished | OfHost::IsCramped => vec![Event::Flag(false), Event::Flag(true)],
                OfHost::Exposed => texts(),
            },
        }
    }

    fn answers_of_process(effect: &OfProcess) -> Vec<Event> {
        match effect {
            OfProcess::Find(remembered) => {
                vec![Event::Found(Some(remembered.clone().unwrap_or_else(|| identity(7)))), Event::Found(None)]
            }
            OfProcess::Objections(_) => texts(),
            OfProcess::Terminate(..) | OfProcess::Gone(..) => vec![Event::Flag(true), Event::Flag(false)],
            OfProcess::Kill(_) | OfProcess::StandBack(..) | OfProcess::Watch(..) => vec![Event::Done(Ok(()))],
        }
    }

    fn answers_of_daemon(&self, effect: &OfDaemon) -> Vec<Event> {
        let dialect = || Box::new(self.library.told.dialect.clone());
        match effect {
            OfDaemon::StillThere(all) => vec![Answer::Processes(Vec::new()).into(), Answer::Processes(all.clone()).into()],
            OfDaemon::HangingDisk(_) => texts(),
            OfDaemon::Dead(..) => vec![Event::Flag(true), Event::Flag(false)],
            OfDaemon::Look { .. } => {
                let answered = self.observations().into_iter().map(|seen| Sight::Answered(Box::new(seen), dialect()));
                let why = || "busy".to_owned();
                let deaf = |alive, listens| Sight::Deaf { why: why(), alive, listens };
                let others = [
                    Sight::Engaged(why()),
                    Sight::Working(why()),
                    Sight::Stuck(why()),
                    deaf(false, false),
                    deaf(true, false),
                    deaf(true, true),
                    Sight::Refuses(Fault::Denied(why())),
                ];
                answered.chain(others).map(|sight| Event::Own(Answer::Sight(sight))).collect()
            }
            OfDaemon::Reach(..) => vec![Event::Own(Answer::Reached(Ok(dialect()))), Event::Own(Answer::Reached(Err(silent())))],
            OfDaemon::Launch(state, _) => {
                let mut state = state.clone();
                state.process = Some(Process::started(identity(8), None));
                let seen = self.observations().into_iter().map(|seen| Some((Box::new(seen), dialect()))).chain([None]);
                let up = seen.map(|seen| Event::Own(Answer::Launched(Ok(Launched { state: state.clone(), seen }))));
                up.chain([Event::Own(Answer::Launched(Err(failed())))]).collect()
            }
        }
    }

    fn answers_of_server(&self, effect: &OfServer) -> Vec<Event> {
        let attached = |nodes: &[&str]| {
            let of = |node: &&str| Attached { host: (*node).to_owned(), server_id: format!("1{node}") };
            Event::Own(Answer::Attached(Ok(nodes.iter().map(of).collect())))
        };
        let counted = |numbers: &[usize]| numbers.iter().map(|number| Event::Own(Answer::Counted(Ok(*number)))).collect::<Vec<_>>();
        match effect {
            OfServer::Tell(_) | OfServer::NoteReign(_) => vec![Event::Own(Answer::Told(Ok(())))],
            OfServer::Observe | OfServer::Rest(..) => {
                self.observations().into_iter().map(|seen| Event::Own(Answer::Observed(Ok(Box::new(seen))))).collect()
            }
            OfServer::Replica => {
                let replicas = self.observations().into_iter().map(|seen| seen.replica.map(Box::new));
                replicas.take(2).chain([None]).map(|replica| Event::Own(Answer::Replica(Ok(replica)))).collect()
            }
            OfServer::Executed | OfServer::Logged => [9, 5].map(|last| Event::Own(Answer::Set(Ok(self.set(last))))).into(),
            OfServer::SemiSync => {
                let status =
                    |acknowledging, waiting, active| Event::Own(Answer::SemiSync(Ok(SemiSyncStatus { acknowledging, waiting, active })));
                vec![status(0, 2, true), status(1, 2, true), status(2, 0, true), status(0, 0, false)]
            }
            OfServer::Attached => vec![attached(&["b"]), attached(&[]), attached(&["b", "c"]), attached(&["b", "x"])],
            OfServer::ApplierWaits | OfServer::HoldCommits(_) => {
                vec![Event::Own(Answer::Asked(Ok(true))), Event::Own(Answer::Asked(Ok(false)))]
            }
            OfServer::Running(Statement::Barrier) => counted(&[0, 3]),
            OfServer::CutClients | OfServer::StuckCommits(_) | OfServer::Running(Statement::Backup) => counted(&[0, 2]),
            OfServer::EndWaiting(_) | OfServer::ReleaseWaiting { .. } => counted(&[2, 0]),
            OfServer::Equip => {
                let seen = self.observations().remove(0);
                let dialect = self.library.told.dialect.clone();
                let disks = Some(pacemaker::Disks { uid: 1, gid: 1, directories: Vec::new() });
                let equipment = Equipment { seen, dialect, filters: String::new(), disks, unloaded: None, unknown_disks: None };
                let mut unsound = equipment.clone();
                unsound.seen.variables.clear();
                [equipment, unsound].map(|equipment| Event::Own(Answer::Equipped(Ok(Box::new(equipment))))).into()
            }
            OfServer::IsConnected => Vec::new(),
        }
    }

    /// It is silent, or refuses.
    fn failures(&self, effect: &OfServer) -> Vec<Event> {
        let faults = if self.connection.is_some() { vec![silent(), Fault::Denied("no".into())] } else { vec![silent()] };
        let failed = |fault: Fault| match effect {
            OfServer::Tell(_) | OfServer::NoteReign(_) => Event::Own(Answer::Told(Err(fault))),
            OfServer::Observe | OfServer::Rest(..) => Event::Own(Answer::Observed(Err(fault))),
            OfServer::Replica => Event::Own(Answer::Replica(Err(fault))),
            OfServer::Executed | OfServer::Logged => Event::Own(Answer::Set(Err(fault))),
            OfServer::SemiSync => Event::Own(Answer::SemiSync(Err(fault))),
            OfServer::Attached => Event::Own(Answer::Attached(Err(fault))),
            OfServer::ApplierWaits | OfServer::HoldCommits(_) => Event::Own(Answer::Asked(Err(fault))),
            OfServer::Equip => Event::Own(Answer::Equipped(Err(fault))),
            OfServer::IsConnected => Event::Flag(false),
            OfServer::CutClients
            | OfServer::StuckCommits(_)
            | OfServer::Running(_)
            | OfServer::EndWaiting(_)
            | OfServer::ReleaseWaiting { .. } => Event::Own(Answer::Counted(Err(fault))),
        };
        faults.into_iter().map(failed).collect()
    }

    fn answers_of_cluster(&self, effect: &OfCluster) -> Vec<Event> {
        match effect {
            OfCluster::ReadRecord => {
                let records = [Some(self.record("b", 2)), Some(self.record("a", 2)), Some(self.record("c", 3)), None];
                records.into_iter().map(|record| Event::Record(Ok(record))).chain([Event::Record(Err(failed()))]).collect()
            }
            OfCluster::ReplaceRecord(..) => vec![
                Event::Replaced(Ok(())),
                Event::Replaced(Err(NotReplaced::Changed(Some(self.record("b", 3))))),
                Event::Replaced(Err(NotReplaced::Failed(failed()))),
            ],
            OfCluster::Score(_)
            | OfCluster::ScoreOf(..)
            | OfCluster::ForgetDegraded
            | OfCluster::Publish(_)
            | OfCluster::PublishWrites(_) => done(),
            OfCluster::Hear(..) => self.answered_positions(),
        }
    }

    fn answered_positions(&self) -> Vec<Event> {
        let all = |nodes: &[&str], best: &str| nodes.iter().map(|node| ((*node).to_owned(), self.position(*node == best))).collect();
        let everybody = ["a", "b", "c"];
        let heard: [BTreeMap<_, _>; 4] = [all(&[], ""), all(&everybody, "a"), all(&everybody, "b"), all(&["a", "c"], "a")];
        let last_words = BTreeMap::from([("b".to_owned(), Position { complete: true, ..self.position(true) })]);
        heard
            .into_iter()
            .chain([last_words])
            .map(|positions| Event::Positions(Ok(positions)))
            .chain([Event::Positions(Err(failed()))])
            .collect()
    }

    fn answers_of_attributes(&self, effect: &OfAttributes) -> Vec<Event> {
        match effect {
            OfAttributes::Publish(_) | OfAttributes::PublishReadable(_) => done(),
            OfAttributes::Positions => self.answered_positions(),
            OfAttributes::Memberships => {
                let stamp = Stamp { epoch: 2, change: 1 };
                let all = [Membership::Ready(stamp), Membership::Acknowledges(stamp, self.set(9)), Membership::Resigned(stamp)];
                let of = |membership: Membership| ["b", "c"].map(|node| (node.to_owned(), membership.clone())).into();
                let told = all.into_iter().map(of).chain([BTreeMap::new()]);
                told.map(|told| Event::Own(Answer::Memberships(Ok(told)))).chain([Event::Own(Answer::Memberships(Err(failed())))]).collect()
            }
            OfAttributes::ServerIds => {
                let ids = |twin: &str| ["a", "b", "c"].map(|node| (node.to_owned(), format!("1{}", if node == twin { "a" } else { node })));
                vec![
                    Event::Own(Answer::ServerIds(Ok(ids("").into()))),
                    Event::Own(Answer::ServerIds(Ok(ids("b").into()))),
                    Event::Own(Answer::ServerIds(Err(failed()))),
                ]
            }
            OfAttributes::AddressOf(_) => vec![Event::Own(Answer::Address(Ok(None))), Event::Own(Answer::Address(Err(failed())))],
        }
    }
}

fn done() -> Vec<Event> {
    vec![Event::Done(Ok(())), Event::Done(Err(failed()))]
}

fn texts() -> Vec<Event> {
    vec![Event::Texts(Vec::new()), Event::Texts(vec!["wrong".into()])]
}

fn silent() -> Fault {
    Fault::Silent("no answer".into())
}

fn failed() -> Failure {
    Failure::generic("no")
}

/// What is there.
impl World<'_> {
    fn set(&self, last: u32) -> Gtids {
        of_flavour(self.library.flavour, last)
    }

    fn record(&self, node: &str, epoch: u64) -> Record {
        record(self.library.flavour, node, epoch)
    }

    fn position(&self, best: bool) -> Position {
        Position {
            complete: false,
            kept: false,
            untouched: false,
            acknowledging: Some(Acknowledging { stamp: Stamp { epoch: 2, change: 1 }, mark: self.set(5) }),
            executed: self.set(if best { 9 } else { 5 }),
            unfit: None,
            ..Position::nowhere(&Record::round(Some(&self.record("b", 2))), Unfit::NoServer)
        }
    }

    /// Servers as they may be seen: replicas that follow, that follow somebody else, whose applier stands still and that are stopped;
    /// closed ones that wait for replicas; primaries that wait and that do not.
    fn observations(&self) -> Vec<Observation> {
        let replica = Replica {
            host: "b".to_owned(),
            port: 3306,
            receiver: Thread::Running,
            applier: Thread::Running,
            receiver_error: None,
            applier_error: None,
            applier_idle: false,
            received: Some(self.set(9)),
            gone: None,
            behind: Some(0),
            by_gtid: true,
            delay: 0,
            filters: String::new(),
        };
        let observation = |waits: bool, replica: Option<Replica>| {
            let mut variables = self.library.told.variables[usize::from(waits)].clone();
            variables.insert("server_id".to_owned(), "1a".to_owned());
            Observation {
                closed: true,
                closed_for_applications: true,
                executed: self.set(5),
                server: "11".to_owned(),
                durable: true,
                waits,
                acknowledges: false,
                events_run: false,
                replica,
                variables,
            }
        };
        let elsewhere = Replica { host: "c".to_owned(), ..replica.clone() };
        let broken = Replica { receiver: Thread::Connecting, receiver_error: Some((1045, "no".to_owned())), ..replica.clone() };
        let stopped = Replica { receiver: Thread::Stopped, applier: Thread::Stopped, ..replica.clone() };
        let acknowledging = Observation { acknowledges: true, ..observation(false, Some(replica.clone())) };
        let old_primary = Observation { acknowledges: true, ..observation(true, Some(elsewhere.clone())) };
        let alone = Observation { executed: self.set(9), ..observation(true, None) };
        let diverged = Observation { executed: self.set(12), ..observation(false, Some(replica.clone())) };
        let primary = Observation { closed: false, closed_for_applications: false, ..alone.clone() };
        let relaxed = Observation { durable: false, ..primary.clone() };
        let unwaited = Observation { variables: observation(false, None).variables, waits: false, ..primary.clone() };
        vec![
            observation(false, Some(replica)),
            observation(false, Some(elsewhere)),
            observation(false, Some(broken)),
            observation(false, Some(stopped)),
            acknowledging,
            old_primary,
            alone,
            diverged,
            primary,
            relaxed,
            unwaited,
        ]
    }
}

fn of_flavour(flavour: Flavour, last: u32) -> Gtids {
    let text = match flavour {
        Flavour::MySql => format!("00000001-0000-0000-0000-000000000000:1-{last}"),
        Flavour::MariaDb => format!("0-12-{last}"),
    };
    Gtids::parse(&text, flavour).unwrap()
}

fn record(flavour: Flavour, node: &str, epoch: u64) -> Record {
    let active = match node {
        "a" => "b,c",
        "b" => "a,c",
        _ => "a,b",
    };
    let set = of_flavour(flavour, 5);
    let server = if node == "a" { "11" } else { "12" };
    Record::parse(&format!(
        "epoch={epoch} change=1 node={node} server={server} durability=lossless acknowledgements=1 active={active} set={set}"
    ))
    .unwrap()
}

/// Which answer effects of a kind have.
type Usual = &'static [(&'static str, usize)];

/// What is asked of an instance, and what it remembers.
#[derive(Clone)]
struct Case {
    row: &'static str,
    timeout: u32,
    task: Task,
    state: State,
    peers: Peers,
    /// How effects of some kinds are answered at first.
    usual: Usual,
    /// What it does before its first effect.
    before: Before,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// It breaks off a copy.
    EndsCopy,
    /// The same, and there are no data.
    MakesData,
}

#[derive(Clone, Copy)]
enum Task {
    Start,
    Promote,
    Demote,
    Monitor,
    /// Of which only how long the server may take to end is the protocol's; the rest does as `lifecycle` says.
    Stop,
    Notify(Phase, Operation),
}

enum Outcome {
    Over,
    Grace(Duration),
}

impl Case {
    async fn act(self, instance: Instance<'_>, grace: Duration) -> Outcome {
        match self.task {
            Task::Start => drop(instance.start(self.peers).await),
            Task::Promote => drop(instance.promote(self.peers).await),
            Task::Demote => drop(instance.demote(self.peers).await),
            Task::Monitor => drop(instance.monitor(Alone::Yes, None, 10).await),
            Task::Stop => return Outcome::Grace(instance.grace_at_stop(identity(7), grace).await),
            Task::Notify(phase, operation) => {
                drop(instance.notify(Notification { phase, operation, peers: self.peers }, false).await);
            }
        }
        Outcome::Over
    }

    fn begin(&self, world: &mut World<'_>) -> Duration {
        // The node's name, where Pacemaker does not tell it.
        world.clock.calls(1);
        if self.before != Before::Nothing || matches!(self.task, Task::Stop) {
            world.clock.step(limits::BREAKING_OFF);
        }
        if !matches!(self.task, Task::Stop) {
            return Duration::ZERO;
        }
        world.clock.pass(pacemaker::WATCHER_ENDING);
        world.clock.calls(1);
        world.clock.step(promotable::limits::LISTENING);
        world.clock.left().saturating_sub(limits::KILL_RESERVE).max(promotable::limits::SHORTEST_GRACE)
    }

    /// How the action goes when the answers change at these effects.
    fn run(&self, rules: &Rules<'_>, library: &Library, clock: Clock, changes: &Changes) -> Course {
        let mut world = World { library, clock, connection: None, without_data: self.before == Before::MakesData, waits: 0 };
        let grace = self.begin(&mut world);
        let moment = Moment { now: world.clock.now, left: world.clock.left() };
        let case = self.clone();
        let mut machine = Machine::new(|port| async move {
            let instance = Instance::new(rules, case.state.clone(), moment, port);
            case.act(instance, grace).await
        });
        let mut usual: BTreeMap<String, usize> = self.usual.iter().map(|(kind, answer)| ((*kind).to_owned(), *answer)).collect();
        let (mut event, mut answers, mut trace) = (None, Vec::new(), DefaultHasher::new());
        loop {
            let effect = match machine.step(event.take()) {
                Step::Done(Outcome::Over) => break,
                Step::Done(Outcome::Grace(grace)) => {
                    // It does not end by itself. That it may hang in the kernel when it is killed comes after the search: any other course
                    // would be as long then.
                    world.clock.pass(grace + limits::KILLED);
                    break;
                }
                Step::Effect(effect) => effect,
            };
            let kind = kind_of(&effect);
            if !matches!(effect, Effect::Log(..)) {
                (&kind, world.clock.now).hash(&mut trace);
            }
            let possible = world.answers(&kind, &effect);
            let last = usual.get(&kind).copied().unwrap_or(0).min(possible.len() - 1);
            let chosen = changes.get(&answers.len()).copied().unwrap_or(last);
            // A connection that was given up answers one thing alone, and that is not remembered.
            if possible.len() > 1 {
                usual.insert(kind, chosen);
            }
            answers.push((possible.len(), last));
            assert!(answers.len() < 20_000, "an action without an end");
            let answer = possible[chosen.min(possible.len() - 1)].clone();
            world.carry_out(&effect, &answer);
            event = Some((answer, Moment { now: world.clock.now, left: world.clock.left() }));
        }
        Course { took: world.clock.took(), answers, trace: trace.finish() }
    }
}

/// Effects that are answered alike until something changes.
fn kind_of(effect: &Effect) -> String {
    let words = match effect {
        Effect::Save(_) => return "Save".to_owned(),
        Effect::Log(..) => return "Log".to_owned(),
        Effect::Own(Asked::OfDaemon(OfDaemon::Look { .. })) => return LOOK.to_owned(),
        Effect::Own(Asked::OfDaemon(OfDaemon::Launch(..))) => return LAUNCH.to_owned(),
        Effect::OfCluster(OfCluster::Publish(_) | OfCluster::PublishWrites(_))
        | Effect::Own(Asked::OfAttributes(OfAttributes::Publish(_))) => {
            return "Publish".to_owned();
        }
        Effect::Own(Asked::OfServer(OfServer::Tell(_) | OfServer::Running(_))) => 3,
        _ => 2,
    };
    let mut beginning = Beginning(String::new());
    // It stops when it has enough.
    let _ = match effect {
        Effect::Own(effect) => write!(beginning, "{effect:?}"),
        _ => write!(beginning, "{effect:?}"),
    };
    beginning.0.split(['(', '{', ',', ')']).take(words).map(str::trim).collect()
}

/// As much of a text as tells what it is about.
struct Beginning(String);

impl std::fmt::Write for Beginning {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.push_str(text);
        if self.0.len() < 40 { Ok(()) } else { Err(std::fmt::Error) }
    }
}

const LOOK: &str = "OfDaemonLook";
const LAUNCH: &str = "OfDaemonLaunch";
const OBSERVE: &str = "OfServerObserve";
const RECORD: &str = "OfClusterReadRecord";
const POSITIONS: &str = "OfAttributesPositions";
const SEMI_SYNC: &str = "OfServerSemiSync";

/// Of the observations, the records, the positions and of what the primary says of its replicas.
const FOLLOWS_ANOTHER: usize = 1;
const ALONE: usize = 6;
const OPEN: usize = 8;
const OF_ITSELF: usize = 1;
const ELECTED: usize = 1;
const LAST_WORDS: usize = 4;
const NOTHING_WAITS: usize = 2;

fn cases(flavour: Flavour) -> Vec<Case> {
    let timeouts = MySql::DESCRIPTION.timeouts;
    let member = |node: &str| Member { instance: "mysql:0".to_owned(), node: node.to_owned() };
    let peers = Peers { promoted: vec![member("b")], unpromoted: ["a", "c"].map(member).to_vec(), ..Peers::default() };
    let candidate = |node: &str| Peers {
        promoted: vec![],
        promote: vec![member(node)],
        unpromoted: ["a", "b", "c"].map(member).to_vec(),
        ..Peers::default()
    };
    let known = |node| Some(record(flavour, node, 2));
    let dialect = Told::by(flavour, 1).dialect;
    let charged = Process { ours: true, answered: true, linked: true, dialect: Some(dialect), ..Process::found(identity(7)) };
    let stranger = State { process: Some(Process::found(identity(7))), ..State::default() };
    let following = |acknowledges| Unpromoted { link: Link::Following { node: "b".to_owned(), acknowledges }, ..Unpromoted::default() };
    let mut replica = State {
        process: Some(charged),
        role: Role::Unpromoted(following(false)),
        record: known("b"),
        dying: vec![identity(6)],
        ..stranger.clone()
    };
    replica.memory.learn(Stamp { epoch: 2, change: 0 });
    replica.memory.acknowledge(&record(flavour, "b", 2));
    let acknowledging = State { role: Role::Unpromoted(following(true)), ..replica.clone() };
    let restarted = State { record: None, role: Role::default(), ..replica.clone() };
    let primary = Primary {
        epoch: Some(2),
        joining: ["c".to_owned()].into(),
        leaving: ["d".to_owned()].into(),
        stands_at: Some(of_flavour(flavour, 9).to_string()),
        ..Primary::default()
    };
    let primary = State { role: Role::Primary(primary), record: known("a"), ..replica.clone() };
    let taken_over = State { role: Role::Primary(Primary::default()), record: None, ..stranger.clone() };
    // It won in the notification before its promotion, and has much to apply.
    let round = Record::round(replica.record.as_ref());
    let rest = Rest { round: round.clone(), elected: known("b").map(|record| record.to_string()), claim: None };
    let mut winner = State { role: Role::Unpromoted(Unpromoted { link: Link::Resting(rest), ..Unpromoted::default() }), ..replica.clone() };
    let published = Position { executed: of_flavour(flavour, 9), unfit: None, ..Position::nowhere(&round, Unfit::NoServer) };
    winner.told.position = Some((published, Duration::from_secs(5000)));
    let gone = State { process: None, ..restarted.clone() };
    let handed_down = Peers { demote: vec![member("a")], promoted: vec![member("a")], ..candidate("b") };
    let lost = Peers { demote: vec![member("b")], promoted: vec![member("b")], ..candidate("a") };
    let starting = |node: &str| Peers { start: vec![member(node)], ..peers.clone() };
    let of = |row, timeout, task, state: &State, peers: &Peers, usual| Case {
        row,
        timeout,
        task,
        state: state.clone(),
        peers: peers.clone(),
        usual,
        before: if matches!(task, Task::Start) { Before::EndsCopy } else { Before::Nothing },
    };
    let notify =
        |row, phase, operation, state, peers: &Peers, usual| of(row, timeouts.notify, Task::Notify(phase, operation), state, peers, usual);
    let is_replica: Usual = &[];
    let elected: Usual = &[(POSITIONS, ELECTED)];
    let elected_anew: Usual = &[(POSITIONS, ELECTED), (LOOK, FOLLOWS_ANOTHER), (OBSERVE, FOLLOWS_ANOTHER)];
    let leaves_all: Usual = &[(POSITIONS, LAST_WORDS)];
    let stops: Usual = &[(LOOK, OPEN), (OBSERVE, OPEN), (SEMI_SYNC, NOTHING_WAITS)];
    let moves: Usual = &[(LOOK, FOLLOWS_ANOTHER), (OBSERVE, FOLLOWS_ANOTHER), (LAUNCH, FOLLOWS_ANOTHER)];
    let reigns: Usual = &[(LOOK, OPEN), (OBSERVE, OPEN), (RECORD, OF_ITSELF)];
    let alone: Usual = &[(LOOK, ALONE), (OBSERVE, ALONE), (LAUNCH, ALONE)];
    let making = Case {
        before: Before::MakesData,
        ..of("start: it makes the data", timeouts.start, Task::Start, &gone, &Peers::default(), is_replica)
    };
    let start = |state, peers: &Peers, usual| of("start", timeouts.start, Task::Start, state, peers, usual);
    let monitor = |row, state, usual| of(row, timeouts.monitor, Task::Monitor, state, &peers, usual);
    vec![
        start(&gone, &peers, moves),
        start(&gone, &Peers::default(), alone),
        start(&stranger, &peers, moves),
        making,
        of("stop", timeouts.stop, Task::Stop, &primary, &peers, stops),
        of("promote", timeouts.promote, Task::Promote, &replica, &candidate("a"), elected),
        of("promote", timeouts.promote, Task::Promote, &winner, &candidate("a"), elected),
        of("promote", timeouts.promote, Task::Promote, &stranger, &candidate("a"), elected_anew),
        of("demote", timeouts.demote, Task::Demote, &primary, &handed_down, reigns),
        monitor("monitor of a primary", &primary, reigns),
        monitor("monitor of a primary", &taken_over, reigns),
        monitor("monitor of a replica", &replica, is_replica),
        monitor("monitor of a replica", &replica, moves),
        monitor("monitor of a replica", &acknowledging, is_replica),
        monitor("monitor of a replica", &stranger, moves),
        notify("notify: a primary was demoted", Phase::Post, Operation::Demote, &restarted, &lost, leaves_all),
        notify("notify: one is about to be promoted", Phase::Pre, Operation::Promote, &replica, &candidate("a"), is_replica),
        notify("notify: one is about to be promoted", Phase::Pre, Operation::Promote, &replica, &candidate("b"), is_replica),
        notify("notify: one was promoted", Phase::Post, Operation::Promote, &replica, &candidate("b"), moves),
        notify("notify: one was promoted", Phase::Post, Operation::Promote, &stranger, &candidate("b"), moves),
        notify("notify: one was started", Phase::Post, Operation::Start, &primary, &starting("c"), reigns),
        notify("notify: this one was started", Phase::Post, Operation::Start, &replica, &starting("a"), is_replica),
    ]
}

/// Whether the actions end before Pacemaker kills them, whatever takes as long as it may.
#[test]
fn no_action_outlives_its_timeout() {
    let params = params(&[("rejoin", "rewind-or-clone"), ("event_scheduler", "1"), ("test_table", "t.t")]);
    let rules = Rules {
        params: &params,
        resource: "mysql",
        node: Ok("a".to_owned()),
        clustered: true,
        probe: false,
        servers: Some(3),
        decide: String::new(),
        withdrawal: String::new(),
    };
    let mut table = Table::default();
    for flavour in [Flavour::MySql, Flavour::MariaDb] {
        let library = Library { flavour, told: Told::by(flavour, 1), answers: RefCell::default() };
        // What the flavours differ in is a primary's.
        for case in cases(flavour).into_iter().filter(|case| flavour == Flavour::MySql || case.state.promoted()) {
            table.add(case.row, case.timeout, !matches!(case.task, Task::Monitor), |clock, thorough| {
                let begin = std::time::Instant::now();
                let (took, changes) = longest(if thorough { MOST } else { 1 }, |changes| case.run(&rules, &library, clock, changes));
                println!("{flavour:?}, {}: {took:?} with {changes:?}, found in {:?}", case.row, begin.elapsed());
                // A killed server is waited for until the end.
                if matches!(case.task, Task::Stop) { took.max(clock.took() + clock.left()) } else { took }
            });
        }
    }
    assert_eq!(table.check("docs/mysql.md"), Ok(()));
}
