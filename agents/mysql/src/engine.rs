//! Carries out on this machine what the protocol asks for of the server, its process, its files and its attributes. The rest is the same
//! for each database: `promotable::Engine`.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ocf::Context;
use process::{Identity, State as ProcessState};
use promotable::{Driver, of_process, positions};

use crate::agent::{MySql, cluster_failure};
use crate::dialect::{Dialect, Source, quoted};
use crate::limits;
use crate::membership::Membership;
use crate::protocol::{
    Answer, Asked, Attribute, Database, Equipment, Event, OfAttributes, OfDaemon, OfHost, OfProcess, OfServer, Sight, Statement, Word,
};
use crate::sequences;
use crate::server::{Fault, LAST_OF_BACKUP, Server};

/// The private attribute that tells the primary that a replica wants to acknowledge, or has ceased to.
pub(crate) const MEMBERSHIP: &str = "membership";
/// The private attribute that holds the server_id of a node's server.
const SERVER_ID: &str = "server-id";

/// The server of this node, during one action.
pub(crate) struct Local<'a> {
    mysql: &'a MySql,
    context: &'a Context,
    /// The connection of the last look, or the one that was made since.
    server: Option<Server>,
}

impl Driver for Local<'_> {
    type Database = Database;

    fn of_process(&mut self, effect: OfProcess) -> Event {
        of_process(self.mysql, self.context, effect, |remembered| self.mysql.find_server(remembered))
    }

    fn own(&mut self, effect: Asked) -> Event {
        match effect {
            Asked::Milestone(step) => {
                fault_point(step);
                Event::Done(Ok(()))
            }
            Asked::OfDaemon(effect) => self.of_daemon(effect),
            Asked::OfServer(effect) => self.of_server(effect),
            Asked::OfAttributes(effect) => of_attributes(self.mysql, effect),
            Asked::OfHost(effect) => self.of_host(effect),
        }
    }
}

impl<'a> Local<'a> {
    pub(crate) fn new(mysql: &'a MySql, context: &'a Context) -> Self {
        Self { mysql, context, server: None }
    }

    /// The same with a connection that there is.
    pub(crate) fn over(mysql: &'a MySql, context: &'a Context, server: Server) -> Self {
        Self { mysql, context, server: Some(server) }
    }

    fn of_host(&self, effect: OfHost) -> Event {
        let mysql = self.mysql;
        match effect {
            OfHost::OptionFile => Event::Texts(vec![mysql.config_path().display().to_string()]),
            OfHost::MayStart => Event::Done(mysql.refuse_exposure()),
            OfHost::NeedsCopyFirst => Event::Own(Answer::Whether(mysql.needs_copy_first())),
            OfHost::RejoinIsUnfinished => Event::Flag(mysql.rejoin_is_unfinished()),
            OfHost::ForgetReign => Event::Done(mysql.forget_reign()),
            OfHost::GivenUp => Event::Texts(mysql.given_up().into_iter().collect()),
            OfHost::MakeData => Event::Done(mysql.create_if_wanted(self.context)),
            OfHost::IsCramped => Event::Flag(mysql.is_cramped()),
            OfHost::Exposed => Event::Texts(mysql.exposed().into_iter().collect()),
            OfHost::CheckPassword(dialect) => Event::Done(mysql.check_replication_password(&dialect)),
        }
    }

    fn of_daemon(&mut self, effect: OfDaemon) -> Event {
        let mysql = self.mysql;
        let answer = match effect {
            OfDaemon::StillThere(mut processes) => {
                processes.retain(|process| !process.wait_gone(Duration::ZERO));
                Answer::Processes(processes)
            }
            OfDaemon::HangingDisk(process) => {
                let hanging = mysql.watcher().hanging_disk(&process);
                return Event::Texts(hanging.map(|directory| directory.display().to_string()).into_iter().collect());
            }
            OfDaemon::Look { process, before, dialect, limit } => Answer::Sight(self.look(&process, &before, dialect.as_ref(), limit)),
            OfDaemon::Reach(dialect, limit) => Answer::Reached(self.reach(dialect.as_ref(), limit).map(Box::new)),
            OfDaemon::Launch(state, patience) => {
                Answer::Launched(mysql.launch(self.context, *state, patience).map(|(launched, server)| {
                    self.server = server;
                    launched
                }))
            }
            OfDaemon::Dead(process, limit) => return Event::Flag(process.wait_dead(limit)),
        };
        answer.into()
    }

    fn of_server(&mut self, effect: OfServer) -> Event {
        let counted = |count: Result<u64, Fault>| count.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        let answer = match effect {
            OfServer::Tell(word) => Answer::Told(self.tell(word)),
            OfServer::Observe => Answer::Observed(self.server().and_then(Server::observe).map(Box::new)),
            OfServer::Replica => Answer::Replica(self.server().and_then(Server::replica).map(|replica| replica.map(Box::new))),
            OfServer::Executed => Answer::Set(self.server().and_then(Server::executed)),
            OfServer::Logged => Answer::Set(self.server().and_then(Server::logged)),
            OfServer::SemiSync => Answer::SemiSync(self.server().and_then(Server::semi_sync_status)),
            OfServer::Attached => Answer::Attached(self.server().and_then(Server::replicas)),
            OfServer::IsConnected => return Event::Flag(self.server.as_ref().is_some_and(Server::is_connected)),
            OfServer::Rest(replica, everything) => {
                Answer::Observed(self.server().and_then(|server| sequences::bring_to_rest(server, &replica, everything)).map(Box::new))
            }
            OfServer::ApplierWaits => Answer::Asked(self.server().and_then(Server::applier_waits_for_a_lock)),
            OfServer::CutClients => Answer::Counted(self.server().and_then(Server::cut_clients)),
            OfServer::StuckCommits(patience) => Answer::Counted(counted(self.server().and_then(|s| s.stuck_commits_within(patience)))),
            OfServer::Running(statement) => Answer::Counted(self.server().and_then(|server| {
                let statement = match statement {
                    Statement::Backup => LAST_OF_BACKUP,
                    Statement::Barrier => server.dialect().barrier(),
                };
                server.running(statement)
            })),
            OfServer::HoldCommits(dialect) => Answer::Asked(self.hold_commits(dialect.as_ref())),
            OfServer::EndWaiting(limit) => Answer::Counted(self.server().and_then(|server| server.end_waiting(limit))),
            OfServer::ReleaseWaiting { held, enough, limit } => Answer::Counted(self.server().and_then(|server| {
                server.release_waiting(limit, |logged| held.iter().filter(|held| held.contains(logged)).count() >= enough)
            })),
            OfServer::NoteReign(note) => {
                let mysql = self.mysql;
                Answer::Told(self.server().and_then(|server| mysql.note_reign(server, note)))
            }
            OfServer::Equip => {
                let mysql = self.mysql;
                Answer::Equipped(self.server().and_then(|server| equip(mysql, server)).map(Box::new))
            }
        };
        answer.into()
    }

    /// The connection to the server. None is made here: what was told over one that broke is not what is told to the process of now.
    fn server(&mut self) -> Result<&mut Server, Fault> {
        self.server.as_mut().ok_or_else(|| Fault::Broken("there is no connection to the server".into()))
    }

    fn reach(&mut self, dialect: Option<&Dialect>, limit: Duration) -> Result<Dialect, Fault> {
        self.server = None;
        let server = self.mysql.connect(dialect, limit)?;
        Ok(self.server.insert(server).dialect().clone())
    }

    /// Asks the server, and looks at its process when it does not answer: a busy one must not be taken for a dead one,
    /// nor a frozen one for a busy one.
    fn look(&mut self, process: &Identity, before: &[Identity], dialect: Option<&Dialect>, limit: Duration) -> Sight {
        self.server = None;
        if process.state() == ProcessState::Frozen {
            return Sight::Stuck("it is stopped by a signal (state T)".into());
        }
        if let Some(before) = before.iter().find(|before| !before.wait_gone(Duration::ZERO)) {
            // Whoever answers on the socket now is that one.
            return Sight::Engaged(format!("it starts when the one before (pid {}) is gone, which {}", before.pid, what_keeps(before)));
        }
        let worked = cpu_ticks(process);
        let begin = Instant::now();
        let answer = self.mysql.connect(dialect, limit).and_then(|mut server| {
            let seen = server.observe_within(limit.saturating_sub(begin.elapsed()))?;
            Ok((server, seen))
        });
        match answer {
            Ok((server, seen)) => {
                let dialect = self.server.insert(server).dialect().clone();
                Sight::Answered(Box::new(seen), Box::new(dialect))
            }
            Err(Fault::Engaged(why)) => Sight::Engaged(why),
            Err(Fault::Absent(why)) => Sight::Deaf { why, alive: process.is_alive(), listens: process::listens(&self.mysql.params.socket) },
            Err(Fault::Silent(why) | Fault::Broken(why)) => {
                if cpu_ticks(process) > worked && process.state() == ProcessState::Alive {
                    return Sight::Working(format!("{why}, but it is working"));
                }
                Sight::Stuck(format!("{why}, and no work done in {} ms", begin.elapsed().as_millis()))
            }
            Err(fault) => Sight::Refuses(fault),
        }
    }

    fn tell(&mut self, word: Word) -> Result<(), Fault> {
        let mysql = self.mysql;
        let server = self.server()?;
        let dialect = server.dialect().clone();
        match word {
            Word::LockPatience => server.run(dialect.lock_patience()),
            Word::CloseWrites(limit) => server.run_within(dialect.close_writes(), limit),
            Word::OpenWrites => server.run(dialect.open_writes()),
            Word::EventScheduler(on) => server.run(dialect.event_scheduler(on)),
            Word::StopReceiver => server.run_within(dialect.stop_receiver(), limits::STOPPING),
            Word::StartReceiver => server.run(dialect.start_receiver()),
            Word::StartApplier => server.run(dialect.start_applier()),
            Word::StartReplica => server.run(dialect.start_replica()),
            Word::StopReplica(known) => self.stop_replica(known.as_ref()),
            Word::ForgetSource => server.run(dialect.forget_source()),
            Word::Follow(host) => point_to(mysql, server, &host),
            Word::Acknowledge(on) => server.run_all(dialect.acknowledge(on)),
            Word::WaitForReplicas(number) => server.run_all(dialect.wait_for_replicas(number)),
            Word::WaitForNobody => dialect.wait_for_nobody().map_or(Ok(()), |word| server.run_within(&word, limits::STOPPING)),
            Word::Barrier => server.run_within(dialect.barrier(), limits::BARRIER),
            Word::LearnHistory(whole) => server.run(&format!("SET GLOBAL gtid_binlog_state={}", quoted(&whole.to_string()))),
            Word::LoadClone => crate::copy::load_clone(server),
            Word::Settle => sequences::settle(server),
            Word::ReadTestTable(table) => server.run(&format!("SELECT 1 FROM {table} LIMIT 1")),
        }
    }

    fn stop_replica(&mut self, dialect: Option<&Dialect>) -> Result<(), Fault> {
        if sequences::stops_by_itself(self.server()?)? {
            return Ok(());
        }
        self.context.log.notice("the applier does not stop: ending its workers");
        self.reach(dialect, limits::step(limits::ANSWER, self.context.deadline.left()))?;
        let limit = self.mysql.within(limits::STOPPING);
        sequences::end_appliers(self.server()?, limit)
    }

    fn hold_commits(&mut self, dialect: Option<&Dialect>) -> Result<bool, Fault> {
        let log = &self.context.log;
        let held = sequences::hold_commits(self.server()?, log)?;
        if held {
            self.reach(dialect, limits::step(limits::ANSWER, self.context.deadline.left()))?;
        }
        Ok(held)
    }
}

/// Asks the attributes of nodes, or publishes this one's.
pub(crate) fn of_attributes(mysql: &MySql, effect: OfAttributes) -> Event {
    let done = |outcome: Result<(), pacemaker::Error>| Event::Done(outcome.map_err(cluster_failure));
    let cluster = &mysql.cluster;
    match effect {
        OfAttributes::Publish(Attribute::Membership(membership)) => done(cluster.publish_private(MEMBERSHIP, &membership.print())),
        OfAttributes::Publish(Attribute::ServerId(id)) => done(cluster.publish_private(SERVER_ID, &id)),
        OfAttributes::PublishReadable(readable) => done(mysql.publish_readable(readable)),
        OfAttributes::Positions => Event::Positions(positions(mysql)),
        OfAttributes::Memberships => Answer::Memberships(mysql.published(MEMBERSHIP, Membership::parse)).into(),
        OfAttributes::ServerIds => Answer::ServerIds(mysql.published(SERVER_ID, |id| Some(id.to_owned()))).into(),
        OfAttributes::AddressOf(node) => Answer::Address(mysql.given_address(&node)).into(),
    }
}

/// Loads what the server needs, and looks at it.
fn equip(mysql: &MySql, server: &mut Server) -> Result<Equipment, Fault> {
    let account = mysql.account().map_err(|failure| Fault::Refused(failure.reason))?;
    let unloaded = server.load_semi_sync(account).err().map(|fault| fault.to_string());
    let filters = server.filters()?;
    let seen = server.observe()?;
    let (disks, unknown_disks) = match server.directories(&mysql.params.datadir) {
        Ok(directories) => (mysql.disks_of(directories), None),
        Err(fault) => (None, Some(fault.to_string())),
    };
    Ok(Equipment { seen, dialect: server.dialect().clone(), filters, disks, unloaded, unknown_disks })
}

/// Tells the server where its source is, and how to log in there.
fn point_to(mysql: &MySql, server: &mut Server, host: &str) -> Result<(), Fault> {
    let replication = &mysql.params.replication;
    let password = mysql.replication_password().map_err(|failure| Fault::Refused(failure.reason))?;
    let text = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
    let (ca, certificate, key) = (text(&replication.ca), text(&replication.certificate), text(&replication.key));
    let source = Source {
        host,
        port: replication.port,
        user: &replication.user,
        password: password.expose(),
        tls: replication.tls,
        ca: ca.as_deref(),
        certificate: certificate.as_deref(),
        key: key.as_deref(),
    };
    match server.follow(&source) {
        // A power cut came before the server had written to its disk whom it follows. Nothing of it counts any more.
        Err(Fault::Error(NO_SETTINGS, _)) => {
            server.run(server.dialect().forget_source())?;
            server.follow(&source)
        }
        done => done,
    }
}

/// `ER_MASTER_INFO`: what a server has on its disk of its replication makes no sense, and it refuses every statement about it.
const NO_SETTINGS: u16 = 1201;

/// Why a killed process is still there.
fn what_keeps(process: &Identity) -> &'static str {
    if process.state() == ProcessState::Gone { "gives its memory back" } else { "hangs in the kernel, probably on its disk" }
}

/// Processor time that a process has used, in clock ticks.
fn cpu_ticks(process: &Identity) -> u64 {
    process.cpu_ticks().unwrap_or_default()
}

/// What a test has called at each milestone.
static HOOK: OnceLock<fn(&str)> = OnceLock::new();

/// Has a function called at each milestone of an action, with its name. For the program that a test kills there: what is shipped calls nobody.
pub fn at_fault_points(hook: fn(&str)) {
    let _ = HOOK.set(hook);
}

/// Where a test can kill the agent.
pub(crate) fn fault_point(step: &str) {
    if let Some(hook) = HOOK.get() {
        hook(step);
    }
}
