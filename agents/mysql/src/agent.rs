//! The agent: its parts, and what every action needs of them.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ocf::{Context, Description, Failure, Notification, Operation, Outcome, Peers, Phase, ResourceAgent, Secret, Status, Timeouts, Values};
use pacemaker::Disks;
use process::Identity;
pub(crate) use promotable::cluster_failure;
use promotable::history::Notes;
use promotable::{Driver, Engine, Host, Login, Whereabouts, read_secret, with_login};

use crate::dialect::Dialect;
use crate::engine::Local;
use crate::params::{self, Params};
use crate::protocol::{Alone, Database, Instance, Rules};
use crate::record::Record;
use crate::server::{Fault, Server};
use crate::state::{State, StateFile};

/// Below this the disk counts as full: the server's next file would not fit. Bytes.
const ROOM_TO_WRITE: u64 = 16 * 1024 * 1024;

/// The agent for one resource on this node.
pub struct MySql {
    pub(crate) params: Params,
    pub(crate) state_file: StateFile,
    host: Host,
}

impl Deref for MySql {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl ResourceAgent for MySql {
    const DESCRIPTION: Description = Description {
        name: "mysql",
        version: env!("CARGO_PKG_VERSION"),
        short: "MySQL, Percona Server or MariaDB replication that loses no acknowledged write",
        long: "Runs mysqld or mariadbd with GTID replication as a promotable clone: one instance takes writes, the others follow it. \
               A drop-in for ocf:heartbeat:mysql and ocf:heartbeat:mariadb: the parameters have the same names.\n\n\
               A server always starts closed for writes. Which one is promoted is decided by the transactions that it has, and by who may \
               have acknowledged one, as recorded in the CIB; never by who is first. What was received is applied before writes open. A \
               server with transactions that the primary does not have never follows silently: it says which, and waits for a decision.\n\n\
               With durability=lossless (semi-synchronous replication, AFTER_SYNC, managed by the agent) an acknowledged write survives the \
               loss of any one machine, and a primary without replicas blocks.\n\n\
               The clone needs notify=true. Give the promoted monitor on-fail=demote, so that the recovery of a dead server does not hold up \
               its successor. Node names must resolve to the addresses that replication uses, or stand in the node attribute \
               RESOURCE_mysql_master_IP.",
        parameters: params::ALL,
        timeouts: Timeouts {
            start: 120,
            stop: 120,
            monitor: 30,
            interval: 10,
            interval_unpromoted: 11,
            promote: 120,
            demote: 60,
            notify: 30,
        },
    };

    fn new(context: &Context, values: &Values) -> Result<Self, Failure> {
        Ok(Self::with(context, Params::new(values)))
    }

    fn start(&self, context: &Context) -> Outcome {
        let lock = self.lock(context, &self.state_file)?;
        let diverged_from = self.start_unpromoted(context)?;
        // Whoever makes the copy must not keep the lock.
        drop(lock);
        self.tell_of_missing_fencing(context);
        diverged_from.map_or(Ok(()), |primary| self.begin_rejoin(context, &primary))
    }

    fn stop(&self, context: &Context) -> Outcome {
        // Without the lock if need be: whoever holds it must not keep a server alive that has to go.
        let _lock = self.lock(context, &self.state_file);
        self.stop_surely(context)
    }

    fn monitor(&self, context: &Context) -> Result<Status, Failure> {
        let probes = context.environment.is_probe();
        if let Some(rejoining) = self.rejoining().filter(|rejoining| rejoining.worker.is_alive() || !probes) {
            if !probes {
                self.leave_the_record();
            }
            return rejoining.status();
        }
        // A monitor must answer while another action works.
        let lock = self.lock_now();
        let alone = if lock.is_some() { Alone::Yes } else { Alone::No };
        let (state, unknown) = match self.state_file.load_checked() {
            Ok(state) => (state, None),
            Err(failure) => (State::default(), Some(failure)),
        };
        let (promoted, level) = (state.promoted(), context.environment.check_level());
        let answer = self.act(context, &self.rules(context), state, |instance| instance.monitor(alone, unknown, level));
        let may_begin = lock.is_some() && !probes;
        // Whoever keeps the history, or makes a copy, must not keep the lock.
        drop(lock);
        Notes::of(self).monitored::<Record>(context, promoted, &answer);
        match answer? {
            Status::Degraded(_) if may_begin && self.rejoin_if_due(context)? => {
                self.rejoining().map_or(Ok(Status::Running), |rejoining| rejoining.status())
            }
            Status::Degraded(why) => {
                Ok(Status::Degraded(match self.not_rejoined(None).filter(|_| self.state_file.load().errant().is_some()) {
                    Some(refused) => format!("{why}; {refused}"),
                    None => why,
                }))
            }
            other => Ok(other),
        }
    }

    fn validate(&self, context: &Context, level: u32) -> Outcome {
        self.check_configuration(context, level)
    }
}

impl ocf::Promotable for MySql {
    const NOTIFICATIONS: &'static [(Phase, Operation)] = promotable::NOTIFICATIONS;

    fn promote(&self, context: &Context) -> Outcome {
        let _lock = self.lock(context, &self.state_file)?;
        if self.rejoining().is_some() {
            return Err(Failure::generic(
                "not promoted: its data are being replaced or taken back; wait until that is done (systole status --live)",
            ));
        }
        let peers = Peers::read(&context.environment);
        let outcome = self.act(context, &self.rules(context), self.state_file.load(), |instance| instance.promote(peers));
        Notes::of(self).learnt();
        outcome
    }

    fn demote(&self, context: &Context) -> Outcome {
        let _lock = self.lock(context, &self.state_file)?;
        if self.rejoining().is_some() {
            context.log.notice("nothing to demote: the data here are being replaced or taken back");
            return Ok(());
        }
        let peers = Peers::read(&context.environment);
        let state = self.state_file.load();
        Notes::of(self).demoting(state.promoted(), state.server());
        self.act(context, &self.rules(context), state, |instance| instance.demote(peers))
    }

    fn notify(&self, context: &Context, notification: &Notification) -> Outcome {
        let notes = Notes::of(self);
        notes.heard(notification);
        // Before the lock, which the process that undoes it would keep.
        if let Some(drain) = &self.params.drain {
            drain.notified(&self.membership.state_directory, &self.membership.resource, notification, &context.log);
        }
        if let Some(drain) = &self.params.proxysql_drain {
            drain.notified(&self.membership.state_directory, &self.membership.resource, notification, &context.log);
        }
        if (notification.phase, notification.operation) == (Phase::Pre, Operation::Demote) {
            return Ok(());
        }
        let lock = self.lock(context, &self.state_file)?;
        let (heard, rejoins) = (notification.clone(), self.rejoining().is_some());
        let outcome = self.act(context, &self.rules(context), self.state_file.load(), |instance| instance.notify(heard, rejoins));
        drop(lock);
        notes.answered(notification);
        outcome?;
        self.rejoin_if_due(context).map(drop)
    }
}

impl ocf::Reloadable for MySql {
    fn reload(&self, context: &Context) -> Outcome {
        let reload = || {
            let lock = self.lock(context, &self.state_file)?;
            let rejoining = self.rejoining();
            if rejoining.as_ref().is_some_and(|rejoining| !rejoining.waits()) {
                return Ok(());
            }
            let state = match &rejoining {
                // What waits knows the parameters of the time when it began, and would not hear of these.
                Some(_) => {
                    let (state, _) = self.left_the_record()?;
                    self.end_rejoin()?;
                    state
                }
                None => self.state_file.load(),
            };
            self.forget_refusal();
            let outcome = self.act(context, &self.rules(context), state, Instance::reload);
            // Whoever makes the copy must not keep the lock.
            drop(lock);
            let rejoin = self.params.rejoin;
            if let Some(rejoining) = rejoining.filter(|_| rejoin.copies() || rejoin.takes_back()) {
                self.begin_rejoin(context, &rejoining.primary)?;
            }
            outcome
        };
        promotable::reloaded(context, reload())
    }
}

impl MySql {
    /// The agent with checked parameters.
    pub(crate) fn with(context: &Context, params: Params) -> Self {
        let host = Host::new(context, &params.user);
        Self { state_file: host.state_file(), host, params }
    }

    /// The same in a cluster that is given.
    #[cfg(test)]
    pub(crate) fn in_cluster(cluster: pacemaker::Cluster, context: &Context, params: Params) -> Self {
        let host = Host::of(cluster, context.deadline, &params.user);
        Self { state_file: host.state_file(), host, params }
    }

    /// Begins to make a server follow that an action has found diverged, where that need not wait for a restart; whether it did.
    fn rejoin_if_due(&self, context: &Context) -> Result<bool, Failure> {
        match self.rejoin_due() {
            Some(primary) => self.begin_rejoin(context, &primary).map(|()| true),
            None => Ok(false),
        }
    }

    /// What holds for an action.
    pub(crate) fn rules(&self, context: &Context) -> Rules<'_> {
        Rules::of(self, context, &self.params)
    }

    /// Carries out an action of an instance that remembers this.
    pub(crate) fn act<'r, T, F: Future<Output = T> + 'r>(
        &self,
        context: &Context,
        rules: &'r Rules<'r>,
        state: State,
        action: impl FnOnce(Instance<'r>) -> F,
    ) -> T {
        self.act_by(Local::new(self, context), context, rules, state, action)
    }

    /// The same by what knows the server already.
    pub(crate) fn act_by<'r, T, F: Future<Output = T> + 'r>(
        &self,
        driver: impl Driver<Database = Database>,
        context: &Context,
        rules: &'r Rules<'r>,
        state: State,
        action: impl FnOnce(Instance<'r>) -> F,
    ) -> T {
        Engine::new(self, context, &self.state_file, driver).run(rules, state, |instance| action(instance.into()))
    }

    /// The disks that these directories are on, to be written to as the server's user.
    pub(crate) fn disks_of(&self, directories: impl IntoIterator<Item = PathBuf>) -> Option<Disks> {
        let account = self.account().ok()?;
        let all = std::iter::once(self.params.datadir.clone()).chain(directories);
        let directories = account.act(|_| Ok(process::one_each(all))).ok()?;
        Some(Disks { uid: account.uid, gid: account.gid, directories })
    }

    /// The configuration file; where the RPM distributions have it when the default does not exist.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.configuration(&self.params.config, "/etc/mysql/my.cnf", "/etc/my.cnf")
    }

    /// The agent's own login.
    pub(crate) fn login(&self) -> Result<Login, Failure> {
        let password = match &self.params.test_password_file {
            Some(file) => Some(read_secret(file, "test_passwd_file")?),
            None => self.params.test_password.clone(),
        };
        Ok(Login { user: self.params.test_user.clone(), password })
    }

    /// The password of replication.
    pub(crate) fn replication_password(&self) -> Result<Secret, Failure> {
        match &self.params.replication_password_file {
            Some(file) => read_secret(file, "replication_passwd_file"),
            None => Ok(self.params.replication_password.clone().unwrap_or_default()),
        }
    }

    /// Whether a replica can be told that password.
    pub(crate) fn check_replication_password(&self, dialect: &Dialect) -> Outcome {
        let longest = dialect.longest_password();
        if self.replication_password()?.expose().chars().count() <= longest {
            return Ok(());
        }
        Err(Failure::installed(format!(
            "the password of replication_user is longer than the {longest} characters that a replica can be told: choose a shorter one"
        )))
    }

    /// Connects to the local server, with the login that it accepted last or that of now, speaking as it is known to want.
    pub(crate) fn connect(&self, known: Option<&Dialect>, limit: Duration) -> Result<Server, Fault> {
        let given = || self.login().map_err(|failure| Fault::Denied(failure.reason));
        let until = Instant::now() + self.within(limit);
        let account = self.account.or_own();
        let attempt = |login: &Login| {
            let limit = until.saturating_duration_since(Instant::now());
            Server::connect(&self.params.socket, &account, login, known, limit).map(|server| server.answering_by(self.deadline))
        };
        with_login(&self.remembered_login, &self.params.test_user, given, attempt, |fault| matches!(fault, Fault::Denied(_)))
    }

    /// The record in the CIB.
    pub(crate) fn record(&self) -> Result<Option<Record>, Failure> {
        promotable::read_record(&self.cluster)
    }

    /// Where the server of a node is reached by its replicas, if that is not by the node's name.
    pub(crate) fn given_address(&self, node: &str) -> Result<Option<String>, Failure> {
        let attribute = format!("{}_mysql_master_IP", self.membership.resource);
        self.cluster
            .node_attribute(node, &attribute)
            .map_err(|e| Failure::generic(format!("whether the node attribute {attribute} is set cannot be found out: {e}")))
    }

    /// Publishes whether a server is worth to be read from.
    pub(crate) fn publish_readable(&self, readable: bool) -> Result<(), pacemaker::Error> {
        self.cluster.publish_attribute(&self.params.reader_attribute, if readable { "1" } else { "0" })
    }

    /// Whether the disk of the data is as good as full.
    pub(crate) fn is_cramped(&self) -> bool {
        self.files(|files| files.room(&self.params.datadir)).is_ok_and(|bytes| bytes < ROOM_TO_WRITE)
    }

    /// The server's process, if one runs. One that was killed is none, whatever it still holds.
    pub(crate) fn find_server(&self, remembered: Option<&Identity>) -> Option<Identity> {
        let there = Whereabouts {
            pidfile: &self.params.pidfile,
            socket: &self.params.socket,
            program: self.params.program(),
            directory: Some(self.params.datadir.clone()),
            whatever_program: true,
        };
        self.host.find_server(remembered, Identity::runs, &there)
    }
}
