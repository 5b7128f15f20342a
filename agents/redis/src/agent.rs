//! The agent: its parts, and what every action needs of them.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ocf::{Context, Description, Failure, Notification, Operation, Outcome, Peers, Phase, ResourceAgent, Status, Timeouts, Values};
use process::Identity;
use promotable::history::Notes;
use promotable::{Engine, Host, Login, Whereabouts, read_secret, with_login};

use crate::conf::Conf;
use crate::engine::Local;
use crate::exposure::exposure;
use crate::limits;
use crate::params::{self, Params};
use crate::protocol::{Instance, Rules};
use crate::record::Record;
use crate::server::{Fault, Patience, Server};
use crate::state::{State, StateFile};

/// The agent for one resource on this node.
pub struct Redis {
    pub(crate) params: Params,
    pub(crate) state_file: StateFile,
    host: Host,
    conf: OnceCell<Conf>,
}

impl Deref for Redis {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl ResourceAgent for Redis {
    const DESCRIPTION: Description = Description {
        name: "redis",
        version: env!("CARGO_PKG_VERSION"),
        short: "Redis or Valkey replication that loses nothing it can keep",
        long: "Runs redis-server or valkey-server with replication as a promotable clone: one instance takes writes, the others follow it. \
               A drop-in for ocf:heartbeat:redis: the parameters have the same names.\n\n\
               A server always starts as a replica, closed for writes. Which one is promoted is decided by what it holds: the highest position \
               in the history of the last primary, as recorded in the CIB; never by who is first. A server that restarted empty never \
               wipes one that has data. A planned move waits until the new primary has everything.\n\n\
               The clone needs notify=true. Give the promoted monitor on-fail=demote, so that a slow restart of a dead server does not hold up \
               its successor. Node names must resolve to the addresses that replication uses.",
        parameters: params::ALL,
        timeouts: Timeouts {
            start: 120,
            stop: 60,
            monitor: 20,
            interval: 10,
            interval_unpromoted: 11,
            promote: 30,
            demote: 30,
            notify: 20,
        },
    };

    fn new(context: &Context, values: &Values) -> Result<Self, Failure> {
        let params = Params::new(values);
        let host = Host::new(context, &params.user);
        Ok(Self { state_file: host.state_file(), host, params, conf: OnceCell::new() })
    }

    fn start(&self, context: &Context) -> Outcome {
        let _lock = self.lock(context, &self.state_file)?;
        self.check_before_start(context)?;
        let peers = Peers::read(&context.environment);
        self.act(context, &self.rules(context), self.state_file.load(), |instance| instance.start(peers))?;
        self.tell_of_missing_fencing(context);
        Ok(())
    }

    fn stop(&self, context: &Context) -> Outcome {
        // Without the lock if need be: whoever holds it must not keep a server alive that has to go.
        let _lock = self.lock(context, &self.state_file);
        self.stop_surely(context)
    }

    fn monitor(&self, context: &Context) -> Result<Status, Failure> {
        let (state, unknown) = match self.state_file.load_checked() {
            Ok(state) => (state, None),
            Err(failure) => (State::default(), Some(failure)),
        };
        let promoted = state.promoted();
        let answer = self.act(context, &self.rules(context), state, |instance| instance.monitor(unknown));
        Notes::of(self).monitored::<Record>(context, promoted, &answer);
        answer
    }

    fn validate(&self, context: &Context, level: u32) -> Outcome {
        self.check_configuration(context, level)
    }
}

impl ocf::Promotable for Redis {
    const NOTIFICATIONS: &'static [(Phase, Operation)] = promotable::NOTIFICATIONS;

    fn promote(&self, context: &Context) -> Outcome {
        let _lock = self.lock(context, &self.state_file)?;
        let peers = Peers::read(&context.environment);
        let outcome = self.act(context, &self.rules(context), self.state_file.load(), |instance| instance.promote(peers));
        Notes::of(self).learnt();
        outcome
    }

    fn demote(&self, context: &Context) -> Outcome {
        let _lock = self.lock(context, &self.state_file)?;
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
        if (notification.phase, notification.operation) == (Phase::Pre, Operation::Demote) {
            return Ok(());
        }
        let _lock = self.lock(context, &self.state_file)?;
        let heard = notification.clone();
        let outcome = self.act(context, &self.rules(context), self.state_file.load(), |instance| instance.notify(heard));
        notes.answered(notification);
        outcome
    }
}

impl ocf::Reloadable for Redis {
    fn reload(&self, context: &Context) -> Outcome {
        let reload = || {
            let _lock = self.lock(context, &self.state_file)?;
            let state = self.state_file.load();
            if state.promoted() {
                let (replicas, lag) = self.params.gate(context.environment.clone_max())?;
                self.connect(limits::ANSWER)?.open_gate(replicas, lag)?;
            }
            Ok(())
        };
        promotable::reloaded(context, reload())
    }
}

impl Redis {
    /// The configuration, read once.
    pub(crate) fn conf(&self) -> Result<&Conf, Failure> {
        if self.conf.get().is_none() {
            let path = self.config_path();
            let read = self.account()?.act(|files| Ok(Conf::read(files, &path, &self.params.rundir)));
            let conf = read.map_err(|e| Failure::generic(e.to_string()))??;
            return Ok(self.conf.get_or_init(|| conf));
        }
        self.conf.get().ok_or_else(|| Failure::generic("the configuration was not read"))
    }

    /// The configuration file; where the RPM distributions have it when the default does not exist.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.configuration(&self.params.config, "/etc/redis/redis.conf", "/etc/redis.conf")
    }

    /// The agent's own login: of the parameters, or requirepass.
    fn login(&self) -> Result<Login, Failure> {
        let password = match (&self.params.password, &self.params.password_file) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(file)) => Some(read_secret(file, "password_file")?),
            (None, None) => {
                self.conf()?.check_passwords()?;
                self.conf()?.requirepass()
            }
        };
        Ok(Login { user: self.params.acl_user.clone().unwrap_or_default(), password })
    }

    /// Connects to the local server, with the login that it accepted last or that of now. A configuration that cannot be read does not
    /// keep us from a server that needs no password. `limit` bounds this, and each exchange afterwards.
    pub(crate) fn connect(&self, limit: Duration) -> Result<Server, Fault> {
        let limit = self.within(limit);
        self.connect_by(Instant::now() + limit, limit)
    }

    /// The same with a moment of its own for the connecting.
    pub(crate) fn connect_by(&self, until: Instant, limit: Duration) -> Result<Server, Fault> {
        let given = || match self.login() {
            Err(failure) if self.params.password_file.is_some() => Err(Fault::Denied(failure.reason)),
            Err(_) => Ok(Login { user: self.params.acl_user.clone().unwrap_or_default(), password: None }),
            Ok(login) => Ok(login),
        };
        let account = self.account.or_own();
        let patience = Patience { limit, deadline: self.deadline };
        let attempt = |login: &Login| match Server::connect(&self.params.socket, &account, login, until, patience) {
            Err(Fault::Absent(_)) if process::listens(&self.params.socket) => self.detour(login, until, patience),
            other => other,
        };
        with_login(&self.remembered_login, self.params.acl_user.as_deref().unwrap_or_default(), given, attempt, |fault| {
            matches!(fault, Fault::Denied(_))
        })
    }

    /// The way to a server that listens on a socket whose file somebody has deleted (systemd does, with the directory of a unit that
    /// cannot start): over its port, if it is that server who answers there.
    fn detour(&self, login: &Login, until: Instant, patience: Patience) -> Result<Server, Fault> {
        let remedy = format!(
            "the file of socket {} is gone; at a quiet time, start the server anew: crm node standby {}, then online",
            self.params.socket.display(),
            self.node().unwrap_or("NODE")
        );
        let ours = self.state_file.load().server().map(|server| server.pid);
        let here = || vec![SocketAddr::from(([127, 0, 0, 1], self.params.port))];
        for address in self.conf().map_or_else(|_| here(), Conf::addresses) {
            let reached = Server::connect_by_tcp(address, login, until, patience, &remedy).and_then(|mut server| {
                let process = server.process_id()?;
                Ok((server, process))
            });
            match reached {
                Ok((server, process)) if Some(process) == ours => return Ok(server),
                Err(fault @ Fault::Denied(_)) => return Err(fault),
                _ => {}
            }
        }
        Err(Fault::Unreachable(remedy))
    }

    /// What an operator should correct although the server answers: the next start will fail of it.
    pub(crate) fn complaints(&self) -> Vec<String> {
        if let Err(failure) = self.conf() {
            return vec![failure.reason];
        }
        let login = match self.login() {
            Err(failure) => Some(failure.reason),
            Ok(login) if self.remembered_login.load().is_some_and(|last| last != login) => {
                Some("the server takes the former password, another is configured: finish its change (docs/redis.md)".to_owned())
            }
            Ok(_) => None,
        };
        login.into_iter().chain(self.exposed()).collect()
    }

    /// Why a server with this node's configuration would stand open, if it would. One that cannot be read opens nothing.
    pub(crate) fn exposed(&self) -> Option<String> {
        exposure(self.conf().ok()?, &self.config_path(), self.params.open_network)
    }

    /// What holds for an action.
    pub(crate) fn rules(&self, context: &Context) -> Rules<'_> {
        Rules::of(self, context, &self.params)
    }

    /// Carries out an action of an instance that remembers this.
    fn act<'r, T, F: Future<Output = T> + 'r>(
        &self,
        context: &Context,
        rules: &'r Rules<'r>,
        state: State,
        action: impl FnOnce(Instance<'r>) -> F,
    ) -> T {
        Engine::new(self, context, &self.state_file, Local::new(self, context)).run(rules, state, |instance| action(instance.into()))
    }

    /// The server's process, if one runs.
    pub(crate) fn find_server(&self, remembered: Option<&Identity>) -> Option<Identity> {
        let there = Whereabouts {
            pidfile: &self.params.pidfile,
            socket: &self.params.socket,
            program: self.params.bin.clone(),
            directory: self.conf().ok().map(Conf::data_directory).filter(|directory| directory.is_absolute()),
            whatever_program: false,
        };
        self.host.find_server(remembered, Identity::is_alive, &there)
    }
}
