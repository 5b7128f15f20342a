//! The server's process: started, given what it needs, and stopped.

use std::path::Path;
use std::time::{Duration, Instant};

use ocf::{Context, Failure, Outcome, Peers};
use process::{Account, Capabilities, Daemon, Identity, Spawned};
use promotable::not_spawned;

use crate::agent::MySql;
use crate::dialect::Dialect;
use crate::limits;
use crate::observation::Observation;
use crate::protocol::Launched;
use crate::server::{Fault, Server};
use crate::state::{Process, State, Told};
use crate::validate::not_its_data;

/// How much of the end of the log is looked at. Bytes.
const LAST_OF_LOG: u64 = 16_384;
/// Files that the server may open; it opens fewer tables when it gets fewer.
const OPEN_FILES: u64 = 65_535;

/// MariaDB checks passwords of PAM by a setuid program, which reads /etc/shadow, becomes another user and writes into the audit log. The
/// server itself has capabilities where an operator gave them to its file: to keep its memory from the swap (`memlock`), and for the
/// priorities of MySQL's resource groups.
const MAY_GAIN: Capabilities = Capabilities::DAC_OVERRIDE
    .union(Capabilities::DAC_READ_SEARCH)
    .union(Capabilities::SETUID)
    .union(Capabilities::SETGID)
    .union(Capabilities::AUDIT_WRITE)
    .union(Capabilities::IPC_LOCK)
    .union(Capabilities::SYS_NICE);

impl MySql {
    /// Starts the server, closed for writes, following nobody or the primary. Returns of which primary it has diverged, if it is to be made to
    /// follow that.
    pub(crate) fn start_unpromoted(&self, context: &Context) -> Result<Option<String>, Failure> {
        if let Some(failure) = context.environment.without_notify(true) {
            return Err(failure);
        }
        self.check_node()?;
        if self.rejoining().is_some_and(|rejoining| rejoining.worker.is_alive()) {
            context.log.notice("the data here are being replaced or taken back already");
            return Ok(None);
        }
        self.end_rejoin()?;
        let peers = Peers::read(&context.environment);
        self.act(context, &self.rules(context), self.state_file.load(), |instance| instance.start(peers))
    }

    /// Starts the process and the watcher, remembers it with `state` before it runs, and waits until the server answers; nothing is seen
    /// when it still recovers after `patience`.
    ///
    /// # Errors
    /// What the server said before it ended.
    pub(crate) fn launch(&self, context: &Context, state: State, patience: Duration) -> Result<(Launched, Option<Server>), Failure> {
        let account = self.account()?.clone();
        let dying = await_end(&state.dying, patience.max(limits::LETTING_GO));
        if dying.is_empty() {
            self.prepare_directories(&account)?;
        }
        let log_begin = self.files(|files| files.length(&self.params.log)).unwrap_or_default();
        let daemon = Daemon {
            program: self.params.program(),
            arguments: self.arguments()?,
            account: Some(account),
            directory: self.params.datadir.clone(),
            open_files: Some(OPEN_FILES),
            may_gain: MAY_GAIN,
            environment: vec![],
            // A server that `demote` starts again outlives this agent before it has opened its log.
            log: Some(self.params.log.clone()),
        };
        let disks = if dying.is_empty() { self.disks_of([]) } else { None };
        let mut state = State { dying, ..state };
        let dying = state.dying.clone();
        // Remembered before it runs: a stop must find it, whenever this agent is killed.
        let remember = |server: &Identity| {
            state.process = Some(Process::started(server.clone(), disks.clone()));
            self.state_file.save(&state).map_err(|failure| failure.reason)
        };
        if let Some(before) = dying.first() {
            // Nobody waits for that: it takes a second for 8 GiB of memory, and for ever on a disk that hangs.
            let waiting = daemon.spawn_after(&dying, remember).map_err(not_spawned)?;
            self.watch_over(context, &waiting, &state);
            context.log.notice(format!("the server (pid {}) starts when the one before (pid {}) is gone", waiting.pid, before.pid));
            return Ok((Launched { state: Box::new(state), seen: None }, None));
        }
        let mut spawned = daemon.spawn_remembered(remember).map_err(not_spawned)?;
        self.watch_over(context, &spawned.identity, &state);
        // What came before may have taken its part.
        let patience = patience.min(context.deadline.reserving(limits::AFTER_RECOVERY).left());
        let answered =
            self.wait_for_server(context, &mut spawned, patience).map_err(|failure| self.explain(&failure, &mut spawned, log_begin))?;
        context.log.notice(format!("started the server (pid {}), closed for writes", spawned.identity.pid));
        let (server, seen) = match answered {
            Some((server, seen)) => {
                let dialect = Box::new(server.dialect().clone());
                (Some(server), Some((seen, dialect)))
            }
            None => (None, None),
        };
        Ok((Launched { state: Box::new(state), seen }, server))
    }

    /// A crash of the server is noticed at once, and one of Pacemaker's control group does not end it.
    fn watch_over(&self, context: &Context, server: &Identity, state: &State) {
        self.watch_new(context, server, state.disks().cloned());
        self.enclose(context, "MySQL", server);
    }

    /// The command line. What keeps the server closed comes last, so that nothing overrules it.
    fn arguments(&self) -> Result<Vec<String>, Failure> {
        let mut arguments = Vec::new();
        arguments.push(format!("--defaults-file={}", self.config_path().display()));
        for (name, path) in [
            ("datadir", &self.params.datadir),
            ("socket", &self.params.socket),
            ("pid-file", &self.params.pidfile),
            ("log-error", &self.params.log),
        ] {
            arguments.push(format!("--{name}={}", path.display()));
        }
        // So that the primary's list of replicas holds node names.
        arguments.push(format!("--report-host={}", self.node()?));
        arguments.extend(self.params.additional.iter().cloned());
        arguments.extend(Dialect::ARGUMENTS.iter().map(|a| (*a).to_owned()));
        Ok(arguments)
    }

    fn wait_for_server(
        &self,
        context: &Context,
        spawned: &mut Spawned,
        patience: Duration,
    ) -> Result<Option<(Server, Box<Observation>)>, Failure> {
        let begin = Instant::now();
        let mut said = begin;
        loop {
            if let Some(status) = spawned.ended() {
                return Err(Failure::generic(format!("the server ended with {status}")));
            }
            match self.connect(None, limits::ATTEMPT).and_then(|mut s| s.observe().map(|seen| (s, seen))) {
                Ok((server, seen)) => {
                    if !seen.closed {
                        spawned.identity.kill();
                        return Err(Failure::generic(
                            "the server came up open for writes and was killed: is binary really a MySQL or MariaDB server?",
                        ));
                    }
                    return Ok(Some((server, Box::new(seen))));
                }
                Err(Fault::Absent(_) | Fault::Engaged(_) | Fault::Silent(_) | Fault::Broken(_)) => {}
                Err(fault) => return Err(fault.at_start()),
            }
            if begin.elapsed() >= patience {
                if !patience.is_zero() {
                    context.log.notice("the server is still recovering its data: the monitor follows it from here");
                }
                return Ok(None);
            }
            if said.elapsed() >= limits::PROGRESS {
                said = Instant::now();
                let last = self.tail(&self.params.log, 0, LAST_OF_LOG).lines().next_back().unwrap_or_default().to_owned();
                context.log.notice(format!("waiting for the server, {} s so far; it says: {last}", begin.elapsed().as_secs()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The directories of socket, pid file and log, given to the server's user when they are made.
    fn prepare_directories(&self, account: &Account) -> Outcome {
        let explain = |path: &Path, e: std::io::Error| Failure::permission(format!("{}: {e}", path.display()));
        for file in [&self.params.socket, &self.params.pidfile, &self.params.log] {
            let Some(directory) = file.parent() else { continue };
            account.make_directory(directory).map_err(|e| explain(directory, e))?;
        }
        account.make_file(&self.params.log).map_err(|e| explain(&self.params.log, e))
    }

    /// Makes the data directory when it holds no database and the operator wants that.
    pub(crate) fn create_if_wanted(&self, context: &Context) -> Outcome {
        let datadir = &self.params.datadir;
        let wrong = |e| not_its_data(datadir, &e, &self.params.user);
        if self.files(|files| files.is_directory(&datadir.join("mysql"))).map_err(wrong)? {
            return Ok(());
        }
        if !self.params.enable_creation {
            return Err(Failure::installed(format!(
                "datadir {} holds no database: make one (mysqld --initialize, mariadb-install-db), seed it from the primary, or set enable_creation=yes",
                datadir.display()
            )));
        }
        let account = self.account()?;
        account.make_directory(datadir).map_err(wrong)?;
        let program = self.params.program();
        let version = process::run(&program.display().to_string(), &["--version"], self.within(limits::VERSION))
            .map_err(|e| Failure::installed(e.to_string()))?
            .stdout;
        let data = format!("--datadir={}", datadir.display());
        let limit = context.deadline.left();
        // Not by root, whom a link in that directory would lead anywhere.
        let made = if version.contains("MariaDB") {
            let owner = format!("--auth-root-socket-user={}", self.params.user);
            let arguments = [&data, "--auth-root-authentication-method=socket", &owner, "--skip-test-db", "--force"];
            process::run_as(account, "mariadb-install-db", &arguments, limit)
        } else {
            process::run_as(account, &program.display().to_string(), &["--no-defaults", "--initialize-insecure", &data], limit)
        };
        let made = made.map_err(|e| Failure::installed(e.to_string()))?;
        if made.status.success() {
            context.log.notice(format!("made an empty database in {}", datadir.display()));
            return Ok(());
        }
        // mariadb-install-db explains itself on its standard output, in part.
        let said = format!("{}\n{}", made.stderr, made.stdout);
        let last = || said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        let cause = cause(&said).unwrap_or_else(last);
        Err(Failure::installed(format!("the data directory {} cannot be made: {cause}", datadir.display())))
    }

    /// Why a server did not come up, from what it said itself.
    fn explain(&self, failure: &Failure, spawned: &mut Spawned, log_begin: u64) -> Failure {
        if self.end_not_come_up(spawned) {
            return failure.clone();
        }
        match cause(&self.tail(&self.params.log, log_begin, LAST_OF_LOG)) {
            Some(line) => failure.clone().because(format!("{}: {line}", failure.reason)),
            None => failure.clone(),
        }
    }

    /// Stops the server, whatever it takes.
    pub(crate) fn stop_surely(&self, context: &Context) -> Outcome {
        // First: it may start a server. What is left of it is told of in the end.
        let copy_ended = self.end_rejoin();
        self.withdraw(context);
        let state = self.state_file.load();
        let process = self.find_server(state.server());
        if let Some(process) = process.clone() {
            let longest = promotable::grace(context, limits::KILL_RESERVE);
            let ending = process.clone();
            let grace = self.act(context, &self.rules(context), state.clone(), |i| i.grace_at_stop(ending, longest));
            promotable::end_server(&context.log, &process, grace);
        }
        // Whoever was killed, now or before.
        let before: Vec<Identity> = state.dying.iter().chain(state.server()).chain(&process).cloned().collect();
        promotable::unless_gone(context, &before)?;
        let stands = |(readable, at): (bool, Duration)| !readable && process::since_boot().saturating_sub(at) < limits::READABLE_STANDS;
        let mut readable = state.told.readable;
        if self.cluster.is_present() && !state.told.readable.is_some_and(stands) {
            match self.publish_readable(false) {
                Ok(()) => readable = Some((false, process::since_boot())),
                Err(e) => context.log.warning(format!("the reader attribute cannot be published: {e}")),
            }
        }
        let stopped = state.of_stopped();
        let stopped = State { told: Told { readable, ..stopped.told }, ..stopped };
        self.forget_server(context, &[&self.params.socket, &self.params.pidfile], &self.state_file, &stopped);
        copy_ended
    }
}

/// Waits for the servers that were here to be gone, and returns those that are not after `limit`. A killed one counts as dead long
/// before it has let go of the data.
fn await_end(dying: &[Identity], limit: Duration) -> Vec<Identity> {
    let until = Instant::now() + limit;
    let mut dying = dying.to_vec();
    dying.retain(|process| !process.wait_gone(until.saturating_duration_since(Instant::now())));
    dying
}

/// Why a server ended, by what it said: the first error is the cause, the others follow from it; "Aborting" never helps.
fn cause(said: &str) -> Option<&str> {
    let useful = |l: &&str| !l.contains("Aborting") && !l.contains("Program aborted");
    let told = said.lines().filter(useful).find(|l| l.contains("[ERROR]"));
    // Before it has a log it says so by the words of its library, as "error: Found option without preceding group in config file".
    told.or_else(|| said.lines().filter(useful).find(|l| l.to_lowercase().contains("error:") || l.contains("Can't read"))).map(str::trim)
}
