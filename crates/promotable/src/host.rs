//! What a database's agent has on this node: the cluster, its memory, the server's account, and the ways to find the server's process and to
//! have it watched. What the server is asked and told is the agent's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ocf::{Context, Deadline, Failure, Operation, Outcome, Phase};
use pacemaker::{Cluster, Disks, Membership, Watcher};
use process::{Account, Files, Identity, Locked, Spawned};

use crate::account::ServerAccount;
use crate::history::Witness;
use crate::login::RememberedLogin;
use crate::state_file::{Memory, StateFile};
use crate::{limits, lock, lock_within};

/// More than any number of a process. Bytes.
const LONGEST_PID_FILE: u64 = 64;

/// Where `make install` puts the helper programs.
const LIBEXEC: &str = match option_env!("SYSTOLE_LIBEXEC") {
    Some(directory) => directory,
    None => "/usr/libexec/systole",
};

/// What nobody can promise without fencing.
const NO_FENCING: &str = "this cluster has no fencing (stonith-enabled=false): a node that the others have lost sight of may go on taking writes while \
                          another one is promoted; set up fencing: systole doctor";

/// What the agent of a promotable database wants to be notified of.
pub const NOTIFICATIONS: &[(Phase, Operation)] = &[
    (Phase::Pre, Operation::Demote),
    (Phase::Post, Operation::Demote),
    (Phase::Pre, Operation::Promote),
    (Phase::Post, Operation::Promote),
    (Phase::Pre, Operation::Start),
    (Phase::Post, Operation::Start),
    (Phase::Post, Operation::Stop),
];

/// An agent's place on this node.
#[derive(Debug)]
pub struct Host {
    /// The cluster.
    pub cluster: Cluster,
    /// Who we are in the cluster.
    pub membership: Membership,
    /// When the action must have answered.
    pub deadline: Deadline,
    /// The login that worked last.
    pub remembered_login: RememberedLogin,
    /// The account that the server runs under.
    pub account: ServerAccount,
    /// What an action learns that belongs into the history of promotions.
    pub witness: Witness,
    /// Where that is kept, when not in the usual place.
    pub kept: Option<PathBuf>,
}

/// Where a server is to be found that somebody else has started: a person, the stock agent before us.
#[derive(Debug)]
pub struct Whereabouts<'a> {
    /// Its pid file.
    pub pidfile: &'a Path,
    /// Its socket.
    pub socket: &'a Path,
    /// The program that it runs.
    pub program: PathBuf,
    /// The directory that it works in, where that is known: the server of another resource runs the same program.
    pub directory: Option<PathBuf>,
    /// Whether a process of its account in its directory is the server whatever program it runs: some have several names.
    pub whatever_program: bool,
}

impl Host {
    /// That of a resource whose server runs as this user.
    pub fn new(context: &Context, user: &str) -> Self {
        let environment = &context.environment;
        let membership = Membership {
            resource: environment.resource().to_owned(),
            node: environment.node().map(str::to_owned),
            present: environment.under_pacemaker(),
            state_directory: environment.temporary_directory(),
        };
        let log = std::rc::Rc::clone(&context.log);
        let cluster = Cluster::new(membership, move |line| log.trace(line));
        let cluster = cluster.answering_by(Instant::now() + context.deadline.left());
        Self { kept: environment.kept_directory(), ..Self::of(cluster, context.deadline, user) }
    }

    /// The same in a cluster that is given.
    pub fn of(cluster: Cluster, deadline: Deadline, user: &str) -> Self {
        let membership = cluster.membership().clone();
        Self {
            account: ServerAccount::named(user),
            cluster,
            remembered_login: RememberedLogin::of(&membership.state_directory, &membership.resource),
            membership,
            deadline,
            witness: Witness::default(),
            kept: None,
        }
    }

    /// A file of this resource in the directory that every boot empties.
    pub fn volatile_file(&self, extension: &str) -> PathBuf {
        self.membership.state_directory.join(format!("systole-{}.{extension}", self.membership.resource))
    }

    /// The file that holds what is remembered.
    pub fn state_file<M: Memory>(&self) -> StateFile<M> {
        StateFile::of(&self.membership.state_directory, &self.membership.resource)
    }

    /// One action at a time that changes something. A monitor takes no lock: it must answer while a start waits.
    ///
    /// # Errors
    /// That another action has it, or that what is `remembered` cannot be relied on.
    pub fn lock<M: Memory>(&self, context: &Context, remembered: &StateFile<M>) -> Result<Locked, Failure> {
        remembered.check()?;
        lock(&self.membership.state_directory, &self.membership.resource, context.deadline.left() / 2)
    }

    /// The same, when nobody has it now.
    pub fn lock_now(&self) -> Option<Locked> {
        lock_within(&self.membership.state_directory, &self.membership.resource, Duration::ZERO).ok().flatten()
    }

    /// As much of a limit as a step may take now.
    pub fn within(&self, limit: Duration) -> Duration {
        limits::step(limit, self.deadline.left())
    }

    /// This node's name.
    ///
    /// # Errors
    /// When the cluster does not say it.
    pub fn node(&self) -> Result<&str, Failure> {
        self.cluster.node().map_err(cluster_failure)
    }

    /// Tells whoever reads the log of a start what is promised by nobody. It does not concern the start itself, so it is asked afterwards.
    pub fn tell_of_missing_fencing(&self, context: &Context) {
        if self.cluster.fencing_is_off() {
            context.log.warning(NO_FENCING);
        }
    }

    /// What the nodes have published under a name, as far as it can be read.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub fn published<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<BTreeMap<String, T>, Failure> {
        let values = self.cluster.private_values(name).map_err(cluster_failure)?;
        Ok(values.into_iter().filter_map(|(node, text)| Some((node, parse(&text)?))).collect())
    }

    /// Touches what the server's account controls, with its rights.
    ///
    /// # Errors
    /// What `work` says, and why the account is not known.
    pub fn files<T>(&self, work: impl FnOnce(&Files<'_>) -> std::io::Result<T>) -> std::io::Result<T> {
        self.account.files(work)
    }

    /// The account that the server runs under.
    ///
    /// # Errors
    /// When there is none of that name, or nobody says who that is.
    pub fn account(&self) -> Result<&Account, Failure> {
        self.account.get()
    }

    /// Why a server that somebody else started is not taken charge of.
    pub fn runs_as_root(&self, process: &Identity) -> Option<String> {
        self.account.refusal_of_root(process)
    }

    /// The configuration file; where the RPM distributions have it when the `default` does not exist.
    pub fn configuration(&self, given: &Path, default: &str, other: &str) -> PathBuf {
        let exists = |path: &Path| self.files(|files| files.exists(path)).unwrap_or(false);
        let other = Path::new(other);
        if given == Path::new(default) && !exists(given) && exists(other) { other.to_owned() } else { given.to_owned() }
    }

    /// What a log got since `from`, its last bytes.
    pub fn tail(&self, log: &Path, from: u64, most: u64) -> String {
        self.files(|files| files.tail(log, from, most)).unwrap_or_default()
    }

    /// The server's process, if one runs: the remembered one, as long as `lives` says so, or one that somebody else started on our socket or
    /// pid file.
    pub fn find_server(&self, remembered: Option<&Identity>, lives: fn(&Identity) -> bool, there: &Whereabouts<'_>) -> Option<Identity> {
        let known = remembered.filter(|process| lives(process)).cloned();
        known
            .or_else(|| self.by_pidfile(there).filter(lives))
            // Unless it is dying: its last thread holds the socket for a moment.
            .or_else(|| self.by_socket(there).filter(lives))
    }

    /// A pid file names a number; only the program behind it tells whether it is our server.
    fn by_pidfile(&self, there: &Whereabouts<'_>) -> Option<Identity> {
        let text = self.account.or_own().act(|files| files.read(there.pidfile, LONGEST_PID_FILE)).ok()?;
        let pid = String::from_utf8(text).ok()?.trim().parse().ok()?;
        Identity::of(pid).filter(|process| self.is_our_server(process, there))
    }

    /// Whoever listens on our socket is our server, if it runs as the user or is our program in our directory: the path could lead anywhere.
    /// The kernel says who that is: what a server says of itself would let it name any process for a stop to kill, and one that refuses our
    /// login says nothing.
    fn by_socket(&self, there: &Whereabouts<'_>) -> Option<Identity> {
        let (pid, user) = process::listener(there.socket, self.within(limits::LISTENING))?;
        let of_our_user = self.account().is_ok_and(|account| account.uid == user);
        Identity::of(pid).filter(|process| of_our_user || self.is_our_server(process, there))
    }

    /// Whether a process that somebody names is our server. Another user's never is: who names it could not end it. What cannot be told
    /// counts as ours, so that a stop never passes over a server that runs.
    fn is_our_server(&self, process: &Identity, there: &Whereabouts<'_>) -> bool {
        let ours = there.directory.as_ref().and_then(|directory| self.files(|files| files.real_path(directory)).ok());
        let theirs = process.directory();
        let here = ours.is_none() || theirs.is_none() || ours == theirs;
        here && match (self.account(), process.user()) {
            (Ok(account), Some(user)) if user != account.uid && user != 0 => false,
            (Ok(account), Some(user)) if user == account.uid && there.whatever_program => true,
            _ => process.program() == Some(real_program(&there.program)),
        }
    }

    /// The watcher of this resource.
    pub fn watcher(&self) -> Watcher {
        Watcher::new(&Path::new(LIBEXEC).join("systole-watch"), self.membership.clone())
    }

    /// The same for a server on these disks, which ends one that is there within what a step may take.
    fn watcher_of(&self, disks: Option<Disks>) -> Watcher {
        self.watcher().of_disks(disks).ending_within(self.within(pacemaker::WATCHER_ENDING))
    }

    /// Has a crash of a server that was just started noticed at once.
    pub fn watch_new(&self, context: &Context, server: &Identity, disks: Option<Disks>) {
        self.ensure_watched(context, &self.watcher_of(disks), server);
    }

    /// Has an end of Pacemaker's control group not end a server.
    pub fn enclose(&self, context: &Context, database: &str, server: &Identity) {
        let resource = &self.membership.resource;
        if let Err(e) = process::enclose(&format!("systole-{resource}"), &format!("{database} of {resource}"), server) {
            context.log.warning(format!("the server stays in Pacemaker's control group: {e}"));
        }
    }

    /// Has a crash of the server noticed at once, unless that is so.
    pub fn watch(&self, context: &Context, server: &Identity, disks: Option<Disks>) {
        let watcher = self.watcher_of(disks);
        if !watcher.is_watching(server) {
            context.log.notice("starting the watcher of the server");
            self.ensure_watched(context, &watcher, server);
        }
    }

    fn ensure_watched(&self, context: &Context, watcher: &Watcher, server: &Identity) {
        let watched = self.node().map_err(|failure| failure.reason).and_then(|node| watcher.ensure(server, node));
        if let Err(e) = watched {
            context.log.warning(format!("a crash will be found by the next monitor only: {e}"));
        }
    }

    /// Ends a server that did not come up. `false`: it had ended by itself.
    pub fn end_not_come_up(&self, spawned: &mut Spawned) -> bool {
        if spawned.ended().is_some() {
            return false;
        }
        spawned.identity.kill();
        spawned.identity.wait_gone(limits::not_come_up(self.deadline.left()));
        true
    }

    /// The first thing of a stop: a server that is going to end is no candidate, and nobody needs to tell of it.
    pub fn withdraw(&self, context: &Context) {
        self.watcher().end();
        if let Err(e) = self.cluster.withdraw_score() {
            context.log.warning(format!("the promotion score cannot be withdrawn: {e}"));
        }
    }

    /// The last thing of a stop: the files of a server that is gone, and what is remembered then. A state directory that is full must not
    /// fail a stop: the process is gone, and its record names it alone.
    pub fn forget_server<M: Memory>(&self, context: &Context, left: &[&Path], remembered: &StateFile<M>, stopped: &M) {
        for file in left {
            let _ = self.files(|files| files.remove(file));
        }
        if let Err(e) = remembered.save(stopped) {
            context.log.warning(e.reason);
        }
    }
}

/// The file of a program, without links.
#[allow(clippy::disallowed_methods, reason = "the program is root's")]
fn real_program(program: &Path) -> PathBuf {
    std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned())
}

/// Why a server's process does not run.
pub fn not_spawned(error: process::DaemonError) -> Failure {
    match error {
        process::DaemonError::NotRemembered(why) => Failure::generic(why),
        other => Failure::installed(other.to_string()),
    }
}

/// What a reload comes to, whatever it could not do. A failed one is a failed start for Pacemaker, which stops the server then, on every node.
///
/// # Errors
/// None.
pub fn reloaded(context: &Context, outcome: Outcome) -> Outcome {
    if let Err(failure) = outcome {
        context.log.warning(format!("the next monitor takes the changed parameters over: {}", failure.reason));
    }
    Ok(())
}

/// A question to the cluster that failed.
pub fn cluster_failure(error: pacemaker::Error) -> Failure {
    Failure::generic(error.to_string())
}

/// What came of something that the cluster was asked for.
///
/// # Errors
/// That it failed.
pub fn asked(outcome: Result<(), pacemaker::Error>) -> Outcome {
    outcome.map_err(cluster_failure)
}
