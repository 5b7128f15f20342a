//! `start` and `stop`: the server's process.

use std::path::Path;
use std::time::{Duration, Instant};

use ocf::{Context, Failure, Outcome, Peers};
use process::{Account, Capabilities, Daemon, DaemonError, Identity, Spawned};

use crate::agent::{MySql, cluster_failure};
use crate::dialect::Dialect;
use crate::limits;
use crate::monitor::Look;
use crate::observation::Observation;
use crate::params::Rejoin;
use crate::preference::{self, Circumstances};
use crate::premises::{self, Finding, Weight};
use crate::record::Record;
use crate::server::{Fault, Server};
use crate::state::State;
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
    /// Starts the server, closed for writes, following nobody or the primary. Returns whose data are to be copied here, if
    /// that remains to be done.
    pub(crate) fn start_unpromoted(&self, context: &Context) -> Result<Option<String>, Failure> {
        if let Some(failure) = context.environment.without_notify(true) {
            return Err(failure);
        }
        self.check_node()?;
        if self.copying().is_some_and(|copying| copying.worker.is_alive()) {
            context.log.notice("the primary's data are being copied here already");
            return Ok(None);
        }
        self.end_copy()?;
        let mut state = self.state_file.load();
        if let Some(process) = self.find_server(&mut state) {
            return self.start_running(context, state, &process).map(|()| None);
        }
        self.refuse_exposure()?;
        self.withdraw_position(&self.state_file.load())?;
        let primary = self.current_primary(context)?;
        if self.needs_copy_first()? {
            let source = match primary {
                Some(primary) => Some(primary),
                // After a restart of all: the next primary, probably; if it is not, the copy fails and is begun anew.
                None => self.record()?.map(|record| record.node).filter(|node| Some(node.as_str()) != self.node().ok()),
            };
            return match (source, self.params.rejoin) {
                (Some(source), Rejoin::Clone) => Ok(Some(source)),
                _ => Err(Failure::generic(format!(
                    "datadir {} holds no complete data, because a copy of the primary's was begun and not ended: set rejoin=clone and start \
                     this instance when there is a primary, or make this replica anew (docs/mysql.md)",
                    self.params.datadir.display()
                ))),
            };
        }
        self.create_if_wanted(context)?;
        let patience = match self.successor(context)? {
            // Its promotion comes after this start.
            Some(successor) => {
                context.log.notice(format!("not waiting for the server's recovery: {successor} is about to be promoted"));
                Duration::ZERO
            }
            None => limits::RECOVERY.min(context.deadline.reserving(limits::AFTER_RECOVERY).left()),
        };
        let Some((mut server, seen)) = self.launch(context, patience)? else { return Ok(None) };
        let mut state = self.state_file.load();
        // Read after the start: what this server may have acknowledged before counts up to a record that stands now.
        let record = self.record()?;
        let recorded = record.as_ref().is_some_and(|r| Some(r.node.as_str()) == self.node().ok());
        state.memory.change(|m| m.learn(record.as_ref().map(Record::stamp).unwrap_or_default()));
        self.state_file.save(&state)?;
        match primary {
            Some(primary) if self.copy_is_unfinished() && self.params.rejoin == Rejoin::Clone => Ok(Some(primary)),
            Some(primary) => {
                self.rejoin(context, &mut state, &mut server, &primary, record.as_ref())?;
                Ok((state.errant.is_some() && self.params.rejoin == Rejoin::Clone).then_some(primary))
            }
            // Nobody is promoted: say at once what this server is worth. With a primary in office the monitor does, so
            // that no score changes during somebody else's transition.
            None if self.cluster.is_present() => self.first_score(context, &seen, recorded).map(|()| None),
            None => Ok(None),
        }
    }

    /// `start` of a server that runs: nothing to do but to make sure that it is no primary by its own opinion.
    fn start_running(&self, context: &Context, mut state: State, process: &Identity) -> Outcome {
        if let Some(why) = self.runs_as_root(process).filter(|_| !state.ours) {
            return Err(Failure::generic(why));
        }
        let look = loop {
            match self.ask(&state, process, limits::step(limits::ANSWER, context.deadline.left())) {
                // A start before this one was killed, and its server is not up yet.
                Look::Refuses(Fault::Absent(_)) if process.is_alive() && !context.deadline.passed() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                look => break look,
            }
        };
        match look {
            Look::Answered(mut server, seen) => {
                self.take_charge(context, &mut state, &mut server)?;
                if !seen.closed && !state.promoted {
                    server.run(server.dialect().close_writes())?;
                    context.log.notice("the server was running open for writes: closed until the election");
                }
            }
            Look::Engaged(_) | Look::Working(_) => {}
            Look::Stuck(why) => {
                return Err(Failure::generic(format!("the server (pid {}) runs but is stuck: {why}; stop it", process.pid)));
            }
            Look::Refuses(fault) => return Err(fault.at_start()),
        }
        state.server = Some(process.clone());
        self.state_file.save(&state)?;
        context.log.notice(format!("the server runs already (pid {})", process.pid));
        Ok(())
    }

    /// What a server needs that we did not start, or that has just come up: its dialect, its plugins.
    pub(crate) fn take_charge(&self, context: &Context, state: &mut State, server: &mut Server) -> Outcome {
        let loaded = server.load_semi_sync(self.account()?);
        state.filters = server.filters()?;
        let seen = server.observe()?;
        let findings = self.findings(state, server, &seen);
        if let Some(finding) = premises::forbidding(&findings, self.wanted()) {
            let why = loaded.err().map(|fault| format!(" (its plugins cannot be loaded: {fault})"));
            return Err(Failure::installed(format!("{}{}", finding.text, why.unwrap_or_default())));
        }
        if self.cluster.is_present() {
            self.check_replication_password(server.dialect())?;
        }
        self.load_clone_if_wanted(context, server);
        let few = context.environment.clone_max().is_some_and(|n| n as usize <= self.params.acknowledgements + 1);
        if few && self.wanted().lossless {
            context.log.notice("durability=lossless with so few servers: the loss of a replica stops writes");
        }
        match server.directories(&self.params.datadir) {
            Ok(directories) => state.disks = self.disks_of(directories),
            Err(fault) => context.log.warning(format!("only the disk of {} is watched: {fault}", self.params.datadir.display())),
        }
        state.dialect = Some(server.dialect().clone());
        state.answered = true;
        state.ours = true;
        Ok(())
    }

    /// What the promise rests on and does not hold.
    pub(crate) fn findings(&self, state: &State, server: &Server, seen: &Observation) -> Vec<Finding> {
        let exposed = self.exposed().map(|text| Finding { weight: Weight::Shown, text });
        premises::findings(server.dialect(), seen, &state.filters, self.wanted()).into_iter().chain(exposed).collect()
    }

    fn first_score(&self, context: &Context, seen: &Observation, recorded: bool) -> Outcome {
        let score = preference::score(Circumstances { recorded, has_data: !seen.have().is_empty(), ..Circumstances::default() });
        self.cluster.publish_score(score).or_else(|e| {
            context.log.warning(format!("the promotion score cannot be published: {e}"));
            Ok(())
        })
    }

    /// Who is promoted now, according to the lists that come with a clone's actions.
    fn current_primary(&self, context: &Context) -> Result<Option<String>, Failure> {
        let me = self.node()?;
        Ok(Peers::read(&context.environment).promoted.into_iter().map(|m| m.node).find(|node| node != me))
    }

    /// Which other node the cluster is about to promote, according to the same lists.
    fn successor(&self, context: &Context) -> Result<Option<String>, Failure> {
        let me = self.node()?;
        Ok(Peers::read(&context.environment).promote.into_iter().map(|m| m.node).find(|node| node != me))
    }

    /// Starts the process and the watcher, and waits until the server answers; `None` when it still recovers after
    /// `patience`.
    ///
    /// # Errors
    /// What the server said before it ended.
    pub(crate) fn launch(&self, context: &Context, patience: Duration) -> Result<Option<(Server, Box<Observation>)>, Failure> {
        let account = self.account()?.clone();
        let dying = Self::await_end(&self.state_file.load(), patience.max(limits::LETTING_GO));
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
        let mut state = State { ours: true, disks, ..self.state_file.load().of_new_process() };
        // Remembered before it runs: a stop must find it, whenever this agent is killed.
        let remember = |server: &Identity| {
            state.server = Some(server.clone());
            self.state_file.save(&state).map_err(|failure| failure.reason)
        };
        let explained = |e| match e {
            DaemonError::NotRemembered(why) => Failure::generic(why),
            other => Failure::installed(other.to_string()),
        };
        let watched = |server: &Identity| {
            let watcher = self.watcher_of(&self.state_file.load()).ending_within(self.within(pacemaker::WATCHER_ENDING));
            if let Err(e) = self.node().map_err(|f| f.reason).and_then(|node| watcher.ensure(server, node)) {
                context.log.warning(format!("a crash will be found by the next monitor only: {e}"));
            }
            let resource = &self.membership.resource;
            if let Err(e) = process::enclose(&format!("systole-{resource}"), &format!("MySQL of {resource}"), server) {
                context.log.warning(format!("the server stays in Pacemaker's control group: {e}"));
            }
        };
        if let Some(before) = dying.first() {
            // Nobody waits for that: it takes a second for 8 GiB of memory, and for ever on a disk that hangs.
            let waiting = daemon.spawn_after(&dying, remember).map_err(explained)?;
            watched(&waiting);
            context.log.notice(format!("the server (pid {}) starts when the one before (pid {}) is gone", waiting.pid, before.pid));
            return Ok(None);
        }
        let mut spawned = daemon.spawn_remembered(remember).map_err(explained)?;
        watched(&spawned.identity);
        // What came before may have taken its part.
        let patience = patience.min(context.deadline.reserving(limits::AFTER_RECOVERY).left());
        let answered =
            self.wait_for_server(context, &mut spawned, patience).map_err(|failure| self.explain(&failure, &mut spawned, log_begin))?;
        context.log.notice(format!("started the server (pid {}), closed for writes", spawned.identity.pid));
        let Some((mut server, seen)) = answered else { return Ok(None) };
        let mut state = self.state_file.load();
        self.take_charge(context, &mut state, &mut server).and_then(|()| self.check_server_id(context, &mut state, &seen)).inspect_err(
            |_| {
                spawned.identity.terminate();
                spawned.identity.wait_gone(limits::ENDS_AT_ONCE.min(context.deadline.left()));
            },
        )?;
        self.state_file.save(&state)?;
        Ok(Some((server, seen)))
    }

    /// Waits for the servers that were here to be gone, and returns those that are not after `limit`. A killed one counts as dead long
    /// before it has let go of the data.
    fn await_end(state: &State, limit: Duration) -> Vec<Identity> {
        let until = Instant::now() + limit;
        let mut dying = state.still_there();
        dying.retain(|process| !process.wait_gone(until.saturating_duration_since(Instant::now())));
        dying
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
                let last = self.tail(0).lines().next_back().unwrap_or_default().to_owned();
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
    fn create_if_wanted(&self, context: &Context) -> Outcome {
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

    /// What the server's log got since `from`, its last lines.
    fn tail(&self, from: u64) -> String {
        self.files(|files| files.tail(&self.params.log, from, LAST_OF_LOG)).unwrap_or_default()
    }

    /// Why a server did not come up, from what it said itself.
    fn explain(&self, failure: &Failure, spawned: &mut Spawned, log_begin: u64) -> Failure {
        if spawned.ended().is_none() {
            spawned.identity.kill();
            spawned.identity.wait_gone(promotable::limits::not_come_up(self.deadline.left()));
            return failure.clone();
        }
        match cause(&self.tail(log_begin)) {
            Some(line) => failure.clone().because(format!("{}: {line}", failure.reason)),
            None => failure.clone(),
        }
    }

    /// Stops the server, whatever it takes.
    pub(crate) fn stop_surely(&self, context: &Context) -> Outcome {
        // First: it may start a server. What is left of it is told of in the end.
        let copy_ended = self.end_copy();
        self.watcher().end();
        if let Err(e) = self.cluster.withdraw_score().map_err(cluster_failure) {
            context.log.warning(format!("the promotion score cannot be withdrawn: {e}"));
        }
        let mut state = self.state_file.load();
        if let Some(process) = self.find_server(&mut state) {
            promotable::end_server(&context.log, &process, self.grace(context, &state, &process));
        }
        // Whoever was killed, now or before.
        promotable::unless_gone(context, &state.still_there())?;
        for file in [&self.params.socket, &self.params.pidfile] {
            let _ = self.files(|files| files.remove(file));
        }
        self.publish_readable(context, &mut state, false);
        let stopped = State {
            membership: state.membership.clone(),
            membership_at: state.membership_at,
            readable: state.readable,
            published: state.published,
            ..State::default()
        };
        // A state directory that is full must not fail a stop: the process is gone, and its record names it alone.
        if let Err(e) = self.state_file.save(&stopped) {
            context.log.warning(e.reason);
        }
        copy_ended
    }

    /// How long a server may take to end by itself. An orderly shutdown *releases* commits that wait for a replica, as
    /// acknowledged although nobody has them: a server with such commits, or that cannot be asked, is killed.
    fn grace(&self, context: &Context, state: &State, process: &Identity) -> Duration {
        let grace = promotable::grace(context, limits::KILL_RESERVE);
        match self.ask(state, process, limits::ANSWER_AT_STOP) {
            Look::Answered(mut server, seen) => {
                if !seen.waits {
                    return grace;
                }
                // A stop without a demotion. Closed first, so that nothing new comes to wait.
                let closed = self.close(context, &mut server);
                let waiting = server.semi_sync_status().map_or(1, |status| status.waiting);
                if closed.is_ok() && waiting == 0 {
                    return grace;
                }
                context
                    .log
                    .warning(format!("{waiting} commits wait for a replica: the server is killed, so that none of them is acknowledged"));
                Duration::ZERO
            }
            Look::Engaged(why) | Look::Working(why) if !state.promoted => {
                context.log.notice(format!("the server is busy: {why}"));
                // MariaDB sometimes never ends when it is told to while it starts. A recovery that is killed begins anew, and
                // after a crash the promotion of the successor waits for this stop.
                match (state.answered, state.held_until) {
                    (true, _) => grace,
                    (false, None) => grace.min(limits::STARTING_GRACE),
                    (false, Some(_)) => Duration::ZERO,
                }
            }
            Look::Refuses(fault) if !state.promoted => {
                context.log.notice(format!("the server cannot be asked: {fault}"));
                grace
            }
            Look::Engaged(why) | Look::Working(why) | Look::Stuck(why) => {
                context.log.warning(format!("killing the server: {why}"));
                Duration::ZERO
            }
            Look::Refuses(fault) => {
                context.log.warning(format!("killing the server: {fault}"));
                Duration::ZERO
            }
        }
    }
}

/// Why a server ended, by what it said: the first error is the cause, the others follow from it; "Aborting" never helps.
fn cause(said: &str) -> Option<&str> {
    let useful = |l: &&str| !l.contains("Aborting") && !l.contains("Program aborted");
    let told = said.lines().filter(useful).find(|l| l.contains("[ERROR]"));
    // Before it has a log it says so by the words of its library, as "error: Found option without preceding group in config file".
    told.or_else(|| said.lines().filter(useful).find(|l| l.to_lowercase().contains("error:") || l.contains("Can't read"))).map(str::trim)
}
