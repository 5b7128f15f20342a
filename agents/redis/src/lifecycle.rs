//! `start` and `stop`: the server's process.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ocf::{Context, Failure, Outcome};
use process::{Account, Capabilities, Daemon, Files, Identity, Spawned};

use promotable::{not_spawned, read_secret};

use crate::agent::Redis;
use crate::info::ReplicationRole;
use crate::limits;
use crate::protocol::at_start;
use crate::said::{Misconfigured, last_complaint};
use crate::server::{Fault, GATE_CLOSED, NOBODY, Observation, Server};
use crate::state::State;
use crate::validate::not_its_data;

/// How much of the end of a log is looked at. Bytes.
pub(crate) const LAST_OF_LOG: u64 = 8192;
/// Files that the server may open; it lowers its number of clients when it gets fewer. Redis's own units ask for it.
const OPEN_FILES: u64 = 65_535;

impl Redis {
    /// What has to be right before a server is started.
    pub(crate) fn check_before_start(&self, context: &Context) -> Outcome {
        if let Some(failure) = context.environment.without_notify(true) {
            return Err(failure);
        }
        self.check_node(context)?;
        self.params.gate(context.environment.clone_max()).map(drop)
    }

    /// Starts the process, as a replica of nobody, and the watcher, and waits until the server answers; nothing is seen when it
    /// still loads its data after `patience`. `state` is what is remembered with it; the server in it is the one before.
    ///
    /// # Errors
    /// What the server said before it ended.
    pub(crate) fn launch(
        &self,
        context: &Context,
        mut state: State,
        patience: Duration,
    ) -> Result<(Identity, Option<Box<Observation>>), Failure> {
        let account = self.account()?.clone();
        if let Some(before) = state.server().filter(|before| !before.wait_gone(context.deadline.left() / 2)) {
            return Err(Failure::generic(format!(
                "the server before (pid {}) is dead and still holds its memory: trying again",
                before.pid
            )));
        }
        self.prepare_rundir(&account)?;
        let log_file = self.conf()?.log_file();
        let log_begin = log_file.as_ref().and_then(|log| self.files(|files| files.length(log)).ok()).unwrap_or_default();
        let daemon = Daemon {
            program: self.params.bin.clone(),
            arguments: self.arguments()?,
            account: Some(account),
            directory: self.params.rundir.clone(),
            open_files: Some(OPEN_FILES),
            may_gain: Capabilities::empty(),
            environment: vec![],
            log: None,
        };
        // Remembered before it runs: a stop must find it, whenever this agent is killed.
        let remember = |server: &Identity| {
            state.has_started(server.clone());
            self.state_file.save(&state).map_err(|failure| failure.reason)
        };
        let mut spawned = daemon.spawn_remembered(remember).map_err(not_spawned)?;
        self.enclose(context, "Redis", &spawned.identity);
        let seen = self.wait_for_server(context, &mut spawned, patience).map_err(|failure| {
            let log = log_file.as_ref().map(|log| self.tail(log, log_begin, LAST_OF_LOG)).unwrap_or_default();
            self.explain(&failure, &mut spawned, &log)
        })?;
        self.set_replication_login()?;
        self.watch_new(context, &spawned.identity, None);
        context.log.notice(format!("started the server (pid {}) as a replica of nobody", spawned.identity.pid));
        Ok((spawned.identity, seen))
    }

    /// The command line. It overrides what CONFIG REWRITE may have put into the file: roles belong to the cluster.
    fn arguments(&self) -> Result<Vec<String>, Failure> {
        let path = |p: &Path| p.display().to_string();
        let mut arguments = vec![path(&self.config_path())];
        for (name, values) in [
            ("--daemonize", vec!["no".into()]),
            ("--supervised", vec!["no".into()]),
            ("--pidfile", vec![path(&self.params.pidfile)]),
            ("--unixsocket", vec![path(&self.params.socket)]),
            ("--replicaof", vec![NOBODY.0.into(), NOBODY.1.to_string()]),
            // The gate is for primaries only: a replica that the file makes writable would take writes past it.
            ("--replica-read-only", vec!["yes".into()]),
            ("--min-replicas-to-write", vec![GATE_CLOSED.to_string()]),
            ("--min-replicas-max-lag", vec!["10".into()]),
            // A backlog that ended would be the end of the recorded history.
            ("--repl-backlog-ttl", vec!["0".into()]),
            // By default a replica that cannot save dies of the next write that it gets, and so does a primary with a full disk
            // that is demoted. What acknowledges is its memory; the monitor says that it cannot save, and others are preferred.
            ("--replica-ignore-disk-write-errors", vec!["yes".into()]),
            // So that the primary's list of replicas holds node names.
            ("--replica-announce-ip", vec![self.node()?.to_owned()]),
        ] {
            arguments.push(name.to_owned());
            arguments.extend(values);
        }
        Ok(arguments)
    }

    /// Replication's login, set in the running server so that no password stands on a command line.
    pub(crate) fn set_replication_login(&self) -> Outcome {
        let conf = self.conf()?;
        let secret = match &self.params.masterauth_file {
            Some(file) => Some(read_secret(file, "masterauth_file")?),
            None if conf.last("masterauth").is_some_and(|s| !s.is_empty()) => None,
            // The replicas log in at the primary as the default user, whose password requirepass is.
            None => conf.requirepass(),
        };
        if secret.is_none() && self.params.masteruser.is_none() {
            return Ok(());
        }
        let mut server = self.connect_when_free(limits::ANSWER)?;
        if let Some(user) = &self.params.masteruser {
            server.set("masteruser", user)?;
        }
        if let Some(secret) = secret {
            server.set("masterauth", secret.expose())?;
        }
        Ok(())
    }

    fn wait_for_server(&self, context: &Context, spawned: &mut Spawned, patience: Duration) -> Result<Option<Box<Observation>>, Failure> {
        let begin = Instant::now();
        loop {
            if let Some(status) = spawned.ended() {
                return Err(Failure::generic(format!("the server ended with {status}")));
            }
            match self.connect(limits::ATTEMPT).and_then(|mut s| s.observe()) {
                Ok(seen) if !seen.info.loading => {
                    if seen.info.role == ReplicationRole::Primary || seen.gate_open() {
                        spawned.identity.kill();
                        return Err(Failure::generic(
                            "the server came up open for writes and was killed: is bin really a Redis or Valkey server?",
                        ));
                    }
                    return Ok(Some(Box::new(seen)));
                }
                Ok(_) if begin.elapsed() >= patience => {
                    context.log.notice("the server is still loading its data");
                    return Ok(None);
                }
                // Clients that come back all at once may leave no connection to us.
                Ok(_) | Err(Fault::Absent(_) | Fault::Engaged(_) | Fault::Silent(_) | Fault::Closed(_)) => {}
                Err(fault) => return Err(at_start(fault)),
            }
            if context.deadline.passed() {
                return Err(Failure::generic(format!("the server does not answer on {}", self.params.socket.display())));
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    fn prepare_rundir(&self, account: &Account) -> Outcome {
        let rundir = &self.params.rundir;
        let explain = |e: std::io::Error| Failure::permission(format!("rundir {}: {e}", rundir.display()));
        account.give_directory(rundir).map_err(explain)?;
        // A socket that nobody listens on would make the server's bind fail.
        match account.act(|files| files.remove(&self.params.socket)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(explain(e)),
            _ => Ok(()),
        }
    }

    /// Keeps the data files, of which `excess` bytes are nowhere else. Returns where; nowhere when there are none.
    pub(crate) fn keep_data_files(&self, excess: Option<u64>) -> Result<PathBuf, Failure> {
        let conf = self.conf()?;
        let name = |directive, default| conf.last(directive).unwrap_or(default).to_owned();
        let (snapshot, append_directory) = (name("dbfilename", "dump.rdb"), name("appenddirname", "appendonlydir"));
        self.files(|files| keep_files(files, &conf.data_directory(), &snapshot, &append_directory, excess))
            .map_err(|e| Failure::generic(e.to_string()))
    }

    /// Stops the server, whatever it takes.
    pub(crate) fn stop_surely(&self, context: &Context) -> Outcome {
        self.withdraw(context);
        if let Some(process) = self.find_server(self.state_file.load().server()) {
            // One that is frozen hears nothing.
            let frozen = process.state() == process::State::Frozen;
            let grace = if frozen { Duration::ZERO } else { promotable::grace(context, limits::KILL_RESERVE) };
            promotable::end_server(&context.log, &process, grace);
            promotable::unless_gone(context, [&process])?;
        }
        // What was published of it: a start takes that back.
        let stopped = State { published: self.state_file.load().published, ..State::default() };
        self.forget_server(context, &[&self.params.socket, &self.params.pidfile], &self.state_file, &stopped);
        Ok(())
    }

    /// Why a server did not come up, from what it said itself.
    fn explain(&self, failure: &Failure, spawned: &mut Spawned, log: &str) -> Failure {
        let ended = !self.end_not_come_up(spawned);
        let mut said = String::new();
        if ended {
            let mut bytes = Vec::new();
            let _ = (&mut spawned.output).take(8192).read_to_end(&mut bytes);
            said = String::from_utf8_lossy(&bytes).into_owned();
        }
        match Misconfigured::of(&said) {
            Some(Misconfigured::Directory) => {
                let directory = self.conf().map(|conf| conf.data_directory()).unwrap_or_default();
                return not_its_data(&directory, &"Permission denied", &self.params.user);
            }
            Some(Misconfigured::Line { number, wrong }) => {
                let path = self.config_path();
                return Failure::installed(format!("configuration {} line {number}: {wrong}; correct the line", path.display()));
            }
            None => {}
        }
        // What a server says that came up and would not talk to us is about something else.
        let complaint = last_complaint(log.lines().chain(said.lines())).filter(|_| ended);
        match complaint {
            Some(line) => failure.clone().because(format!("{}: {line}", failure.reason)),
            None => failure.clone(),
        }
    }

    /// Connects as soon as the server has a connection free.
    pub(crate) fn connect_when_free(&self, limit: Duration) -> Result<Server, Fault> {
        let limit = self.within(limit);
        let until = Instant::now() + limit;
        loop {
            match self.connect_by(until, limit) {
                Err(Fault::Closed(_)) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
                other => return other,
            }
        }
    }
}

/// How many copies are kept whose data could not be compared: after a crash or two, such a copy holds nothing but what is in the next.
const KEPT_UNCOMPARED: usize = 3;

/// Where they are kept, in the data directory.
pub(crate) const KEPT: &str = "systole-kept";

/// Links the data files into a directory of their own under `systole-kept` beside them, named by a number and by what only they have.
/// Nothing that was kept before is replaced; of copies that could not be compared only the last ones stay. Empty when there are no files.
fn keep_files(files: &Files<'_>, path: &Path, snapshot: &str, append_directory: &str, excess: Option<u64>) -> std::io::Result<PathBuf> {
    let named = |name: &str, e: std::io::Error| std::io::Error::new(e.kind(), format!("{}: {e}", path.join(name).display()));
    let data = files.directory(path)?;
    let has_snapshot = data.length(snapshot)?.is_some();
    let appended = match data.directory(append_directory) {
        Ok(directory) => directory.names().map(|names| Some((directory, names))).map_err(|e| named(append_directory, e))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(named(append_directory, e)),
    };
    let appended = appended.filter(|(_, names)| !names.is_empty());
    if !has_snapshot && appended.is_none() {
        return Ok(PathBuf::new());
    }
    let all = data.make_directory(KEPT).map_err(|e| named(KEPT, e))?;
    let mut kept: Vec<(u64, String)> = all.names()?.iter().filter_map(|name| generation(&name.to_string_lossy())).collect();
    kept.sort();
    let what = excess.map_or_else(|| NOT_COMPARED.to_owned(), |bytes| format!("at-most-{bytes}-bytes"));
    let whole = format!("{:04}-{what}", kept.last().map_or(1, |(number, _)| number + 1));
    // Prepared beside it and renamed, so that a kill in between leaves no half of a copy that looks whole.
    let fresh = all.remove_all("new").and_then(|()| all.make_directory("new")).map_err(|e| named(KEPT, e))?;
    if has_snapshot {
        data.keep(snapshot, &fresh)?;
    }
    if let Some((appended, names)) = appended {
        let into = fresh.make_directory(append_directory)?;
        names.iter().try_for_each(|name| appended.keep(name, &into)).map_err(|e| named(append_directory, e))?;
    }
    all.rename("new", &whole)?;
    let uncompared: Vec<&String> = kept.iter().map(|(_, name)| name).filter(|name| name.ends_with(NOT_COMPARED)).collect();
    if what == NOT_COMPARED && uncompared.len() >= KEPT_UNCOMPARED {
        for name in &uncompared[..=uncompared.len() - KEPT_UNCOMPARED] {
            all.remove_all(name)?;
        }
    }
    Ok(path.join(KEPT).join(whole))
}

/// What is written behind the number of a copy whose data could not be compared.
const NOT_COMPARED: &str = "not-comparable";

/// The number of a copy, from its name.
fn generation(name: &str) -> Option<(u64, String)> {
    Some((name.split('-').next()?.parse().ok()?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the tests' own files")]

    use super::*;
    use std::fs;

    /// A second crash within minutes replaced the copy that held what nobody else had by one that held nothing special.
    #[test]
    fn kept_files_survive_the_servers_next_save_and_the_next_crash() {
        let directory = std::env::temp_dir().join(format!("systole-keep-{}", std::process::id()));
        fs::create_dir_all(directory.join("appendonlydir")).unwrap();
        let keep = |excess| Account::own().act(|files| keep_files(files, &directory, "dump.rdb", "appendonlydir", excess)).unwrap();
        assert_eq!(keep(Some(7)), PathBuf::new());
        fs::write(directory.join("dump.rdb"), "one").unwrap();
        fs::write(directory.join("appendonlydir/a.aof"), "log").unwrap();
        let first = keep(Some(7));
        assert!(first.ends_with("systole-kept/0001-at-most-7-bytes"), "{}", first.display());
        let is_first = || fs::read_to_string(first.join("dump.rdb")).unwrap() == "one";
        for n in 2..12 {
            // The server saves into a temporary file and renames it.
            fs::write(directory.join("temp.rdb"), n.to_string()).unwrap();
            fs::rename(directory.join("temp.rdb"), directory.join("dump.rdb")).unwrap();
            let kept = keep(None);
            assert!(kept.ends_with(format!("systole-kept/{n:04}-not-comparable")), "{}", kept.display());
            assert_eq!(fs::read_to_string(kept.join("dump.rdb")).unwrap(), n.to_string());
            assert!(is_first(), "replaced by {}", kept.display());
            let there = fs::read_dir(directory.join("systole-kept")).unwrap().count();
            assert_eq!(there, 1 + (n - 1).min(KEPT_UNCOMPARED));
        }
        assert_eq!(fs::read_to_string(first.join("appendonlydir/a.aof")).unwrap(), "log");
        fs::remove_dir_all(directory).unwrap();
    }
}
