//! The agent: its parts, and what every action needs of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ocf::{Context, Deadline, Description, Failure, Notification, Outcome, ResourceAgent, Secret, Status, Timeouts, Values};
use pacemaker::{Cluster, Disks, Membership, Watcher};
use process::{Account, Files, Identity, Locked};
use promotable::{Login, NotReplaced, RememberedLogin, ServerAccount, read_secret, with_login};

use crate::dialect::Dialect;
use crate::limits;
use crate::params::{self, Params};
use crate::premises::Wanted;
use crate::record::Record;
use crate::server::{Fault, Server};
use crate::state::{State, StateFile};

/// More than any number of a process. Bytes.
const LONGEST_PID_FILE: u64 = 64;

/// Where `make install` puts the helper programs.
const LIBEXEC: &str = match option_env!("SYSTOLE_LIBEXEC") {
    Some(directory) => directory,
    None => "/usr/libexec/systole",
};

/// The agent for one resource on this node.
pub struct MySql {
    pub(crate) params: Params,
    pub(crate) cluster: Cluster,
    pub(crate) state_file: StateFile,
    pub(crate) membership: Membership,
    /// When the action must have answered.
    pub(crate) deadline: Deadline,
    account: ServerAccount,
    remembered_login: RememberedLogin,
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
        let lock = self.lock(context)?;
        let copy_from = self.start_unpromoted(context)?;
        // Whoever makes the copy must not keep the lock.
        drop(lock);
        copy_from.map_or(Ok(()), |primary| self.begin_copy(context, &primary))
    }

    fn stop(&self, context: &Context) -> Outcome {
        // Without the lock if need be: whoever holds it must not keep a server alive that has to go.
        let _lock = self.lock(context);
        self.stop_surely(context)
    }

    fn monitor(&self, context: &Context) -> Result<Status, Failure> {
        self.look(context)
    }

    fn validate(&self, context: &Context, level: u32) -> Outcome {
        self.check_configuration(context, level)
    }
}

impl ocf::Promotable for MySql {
    fn promote(&self, context: &Context) -> Outcome {
        let _lock = self.lock(context)?;
        self.take_over(context)
    }

    fn demote(&self, context: &Context) -> Outcome {
        let _lock = self.lock(context)?;
        self.step_down(context)
    }

    fn notify(&self, context: &Context, notification: &Notification) -> Outcome {
        let _lock = self.lock(context)?;
        self.react(context, notification)
    }
}

impl ocf::Reloadable for MySql {
    fn reload(&self, context: &Context) -> Outcome {
        let _lock = self.lock(context)?;
        self.take_new_values(context)
    }
}

impl MySql {
    /// The agent with checked parameters.
    pub(crate) fn with(context: &Context, params: Params) -> Self {
        let environment = &context.environment;
        let membership = Membership {
            resource: environment.resource().to_owned(),
            node: environment.node().map(str::to_owned),
            present: environment.under_pacemaker(),
            state_directory: environment.temporary_directory(),
        };
        let log = std::rc::Rc::clone(&context.log);
        Self {
            account: ServerAccount::named(&params.user),
            params,
            cluster: Cluster::new(membership.clone(), move |line| log.trace(line)).answering_by(Instant::now() + context.deadline.left()),
            state_file: StateFile::of(&membership.state_directory, &membership.resource),
            remembered_login: RememberedLogin::of(&membership.state_directory, &membership.resource),
            membership,
            deadline: context.deadline,
        }
    }

    /// A file of this resource in the directory that every boot empties.
    pub(crate) fn volatile_file(&self, extension: &str) -> PathBuf {
        self.membership.state_directory.join(format!("systole-{}.{extension}", self.membership.resource))
    }

    /// One action at a time that changes something. A monitor takes no lock: it must answer while a start waits.
    fn lock(&self, context: &Context) -> Result<Locked, Failure> {
        self.state_file.check()?;
        promotable::lock(&self.membership.state_directory, &self.membership.resource, context.deadline.left() / 2)
    }

    /// The same, when nobody has it now.
    pub(crate) fn lock_now(&self) -> Option<Locked> {
        promotable::lock_within(&self.membership.state_directory, &self.membership.resource, Duration::ZERO).ok().flatten()
    }

    /// The watcher of this resource.
    pub(crate) fn watcher(&self) -> Watcher {
        Watcher::new(&Path::new(LIBEXEC).join("systole-watch"), self.membership.clone())
    }

    /// The same for the server that is remembered, and its disks.
    pub(crate) fn watcher_of(&self, state: &State) -> Watcher {
        self.watcher().of_disks(state.disks.clone())
    }

    /// The disks that these directories are on, to be written to as the server's user.
    pub(crate) fn disks_of(&self, directories: impl IntoIterator<Item = PathBuf>) -> Option<Disks> {
        let account = self.account().ok()?;
        let all = std::iter::once(self.params.datadir.clone()).chain(directories);
        let directories = account.act(|_| Ok(process::one_each(all))).ok()?;
        Some(Disks { uid: account.uid, gid: account.gid, directories })
    }

    /// This node's name.
    pub(crate) fn node(&self) -> Result<&str, Failure> {
        self.cluster.node().map_err(cluster_failure)
    }

    /// The configuration file; where the RPM distributions have it when the default does not exist.
    pub(crate) fn config_path(&self) -> PathBuf {
        let other = Path::new("/etc/my.cnf");
        let exists = |path: &Path| self.files(|files| files.exists(path)).unwrap_or(false);
        if self.params.config == Path::new("/etc/mysql/my.cnf") && !exists(&self.params.config) && exists(other) {
            return other.to_owned();
        }
        self.params.config.clone()
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

    /// As much of a limit as a step may take now.
    pub(crate) fn within(&self, limit: Duration) -> Duration {
        limits::step(limit, self.deadline.left())
    }

    /// Connects to a server that is known to run, waiting for nobody.
    pub(crate) fn reach(&self, context: &Context, state: &State) -> Result<Server, Fault> {
        self.connect(state.dialect.as_ref(), limits::step(limits::ANSWER, context.deadline.left()))
    }

    /// The record in the CIB.
    pub(crate) fn record(&self) -> Result<Option<Record>, Failure> {
        promotable::read_record(&self.cluster)
    }

    /// Puts a record in the place of the one that it was made from.
    ///
    /// Meanwhile the memory holds none: whoever comes after an agent that was killed here reads what there is.
    pub(crate) fn replace_record(&self, context: &Context, state: &mut State, before: Option<&Record>, record: &Record) -> Outcome {
        let known = state.record.take();
        self.state_file.save(state)?;
        let replaced = promotable::replace_record(&self.cluster, before, record);
        state.record = match &replaced {
            Ok(()) => Some(record.to_string()),
            // By an action of this node that was killed before it could remember that.
            Err(NotReplaced::Changed(Some(found))) if state.reigns(found) => Some(found.to_string()),
            Err(_) => known,
        };
        self.state_file.save(state)?;
        replaced.map_err(NotReplaced::into_failure)?;
        if self.cluster.is_present() {
            context.log.notice(format!("recorded: {record}"));
        }
        Ok(())
    }

    /// The command with which an operator names the node whose data are right.
    pub(crate) fn decide(&self) -> String {
        promotable::decision(&self.cluster)
    }

    /// What a server has to be able to do. Nobody is promised anything without a cluster.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted { lossless: self.params.lossless && self.cluster.is_present(), acknowledgements: self.params.acknowledgements }
    }

    /// How many replicas the server really waits for: not every one can be told a number.
    pub(crate) fn acknowledgements(&self, dialect: &Dialect) -> usize {
        if dialect.counts_acknowledgements() { self.params.acknowledgements } else { 1 }
    }

    /// Where the server of a node is reached by its replicas.
    pub(crate) fn address_of(&self, context: &Context, state: &mut State, node: &str) -> String {
        if let Some(known) = state.addresses.get(node) {
            return known.clone();
        }
        let attribute = format!("{}_mysql_master_IP", self.membership.resource);
        match self.cluster.node_attribute(node, &attribute) {
            Ok(given) => {
                let address = given.unwrap_or_else(|| node.to_owned());
                state.addresses.insert(node.to_owned(), address.clone());
                address
            }
            Err(e) => {
                context.log.warning(format!("whether the node attribute {attribute} is set cannot be found out: {e}"));
                node.to_owned()
            }
        }
    }

    /// The server's process, if one runs. One that was killed is none, whatever it still holds. The remembered one, or one that somebody else started on our socket or pid
    /// file (a manual start, the stock agent before us). What is found is remembered by the next save.
    pub(crate) fn find_server(&self, state: &mut State) -> Option<Identity> {
        if let Some(server) = state.server.as_ref().filter(|s| s.runs()) {
            return Some(server.clone());
        }
        let found = self.by_pidfile().or_else(|| self.by_socket())?;
        // Whatever was remembered was of another process.
        *state = State { server: Some(found.clone()), answered: true, following: state.following.take(), ..state.of_new_process() };
        Some(found)
    }

    /// A pid file names a number; only the program behind it tells whether it is our server.
    fn by_pidfile(&self) -> Option<Identity> {
        let text = self.account.or_own().act(|files| files.read(&self.params.pidfile, LONGEST_PID_FILE)).ok()?;
        let pid = String::from_utf8_lossy(&text).trim().parse().ok()?;
        Identity::of(pid).filter(|process| process.runs() && self.is_our_server(process))
    }

    /// Whoever listens on our socket is our server, unless it is dying: its last thread holds the socket for a moment. The path could lead
    /// anywhere: who is not the user has to be as good as the server.
    fn by_socket(&self) -> Option<Identity> {
        let (pid, user) = Server::listener(&self.params.socket)?;
        let of_our_user = self.account().is_ok_and(|account| account.uid == user);
        Identity::of(pid).filter(|process| process.runs() && (of_our_user || self.is_our_server(process)))
    }

    /// Whether a process that somebody names is our server. Another user's never is: who names it could not end it. The server of another
    /// resource runs the same program: ours works in the data directory. What cannot be told counts as ours, so that a stop never passes
    /// over a server that runs.
    fn is_our_server(&self, process: &Identity) -> bool {
        let theirs = process.directory();
        let ours = self.files(|files| files.real_path(&self.params.datadir)).ok();
        let here = theirs.is_none() || ours.is_none() || theirs == ours;
        here && match (self.account(), process.user()) {
            (Ok(account), Some(user)) if user == account.uid => true,
            (Ok(_), Some(user)) if user != 0 => false,
            _ => self.runs_our_program(process),
        }
    }

    fn runs_our_program(&self, process: &Identity) -> bool {
        let program = self.params.program();
        #[allow(clippy::disallowed_methods, reason = "the program is root's")]
        let expected = std::fs::canonicalize(&program).unwrap_or(program);
        process.program() == Some(expected)
    }

    /// The account that the server runs under.
    pub(crate) fn account(&self) -> Result<&Account, Failure> {
        self.account.get()
    }

    /// Touches what the server's account controls, with its rights.
    pub(crate) fn files<T>(&self, work: impl FnOnce(&Files<'_>) -> std::io::Result<T>) -> std::io::Result<T> {
        self.account.files(work)
    }

    /// Why a server that somebody else started is not taken charge of.
    pub(crate) fn runs_as_root(&self, process: &Identity) -> Option<String> {
        self.account.refusal_of_root(process)
    }
}

/// A call of a cluster tool that failed.
pub(crate) fn cluster_failure(error: pacemaker::Error) -> Failure {
    Failure::generic(error.to_string())
}
