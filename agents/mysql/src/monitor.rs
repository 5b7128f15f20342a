//! `monitor`: what the server does, and what the cluster should know of it. With nothing changed it starts no process.

use std::path::Path;
use std::time::{Duration, Instant};

use ocf::{Context, Failure, Status};
use pacemaker::Score;
use process::{Identity, State as ProcessState};

use crate::agent::MySql;
use crate::dialect::Dialect;
use crate::limits;
use crate::observation::{Observation, Replica, Thread};
use crate::params::Rejoin;
use crate::preference::{self, Circumstances};
use crate::premises::{self, Finding};
use crate::record::{Durability, Record};
use crate::server::{Fault, Server};
use crate::state::{Reign, Stage, State};

/// Below this the disk counts as full: the server's next file would not fit. Bytes.
const ROOM_TO_WRITE: u64 = 16 * 1024 * 1024;
/// For how many monitors a server may follow nobody before that is said: at a start the primary comes in a moment.
const ALONE: u32 = 2;

/// How many looks in a row may find a primary that works and says nothing: about a minute, which is what dropping a large table may take.
/// One that has greeted nobody for longer serves nobody, whatever it is at.
const WORKING: u32 = 6;

/// What somebody finds who looks at the server.
pub(crate) enum Look {
    /// It answered.
    Answered(Server, Box<Observation>),
    /// It is alive and busy, and cannot be asked.
    Engaged(String),
    /// It is alive and says nothing, but it works.
    Working(String),
    /// It is alive and does nothing: stopped by a signal, stuck on its disk.
    Stuck(String),
    /// It refuses to talk to us.
    Refuses(Fault),
}

impl MySql {
    /// Finds out what the instance does.
    pub(crate) fn look(&self, context: &Context) -> Result<Status, Failure> {
        if let Some(copying) = self.copying().filter(|copying| copying.worker.is_alive() || !context.environment.is_probe()) {
            return self.copy_status(copying);
        }
        // A monitor must answer while another action works, and leaves every decision to it then.
        let lock = self.lock_now();
        let mut state = match self.state_file.load_checked() {
            Ok(state) => state,
            Err(failure) => return self.remembers_nothing(context, &failure.reason),
        };
        let before = state.clone();
        let Some(process) = self.find_server(&mut state) else { return self.found_dead(context, &before) };
        if let Some(directory) = self.watcher().hanging_disk(&process) {
            return self.disk_hangs(context, &state, &directory);
        }
        if let Some(why) = self.runs_as_root(&process).filter(|_| !state.ours) {
            return Ok(self.unseen(context, &state, &why));
        }
        match self.ask(&state, &process, limits::step(limits::ANSWER, context.deadline.left())) {
            Look::Answered(server, seen) if lock.is_none() => Ok(self.status(&state, &seen, &self.findings(&state, &server, &seen))),
            Look::Answered(server, seen) => {
                state.silent = 0;
                self.judge(context, state, &before, server, &seen)
            }
            // It goes on when there is room. A restart would fail, and need an operator.
            Look::Engaged(why) | Look::Working(why) | Look::Stuck(why) if !state.promoted && self.is_cramped() => {
                context.log.warning(format!("the server waits for room on its disk: {why}"));
                Ok(Status::Degraded(self.full_disk()))
            }
            Look::Engaged(why) if !state.dying.is_empty() && !state.answered && !state.promoted => {
                Ok(Status::Degraded(format!("the server does not run yet: {why}")))
            }
            // It recovers: it has never answered yet.
            Look::Engaged(why) if !state.answered => {
                context.log.notice(format!("the server is alive and busy: {why}"));
                Ok(Status::Running)
            }
            Look::Engaged(why) => Ok(self.unseen(context, &state, &why)),
            Look::Working(why) => self.works_silently(context, state, &process, lock.is_some(), &why),
            Look::Stuck(why) => self.broken(context, &state, &format!("the server (pid {}) is stuck: {why}", process.pid)),
            Look::Refuses(Fault::Absent(_)) if process::listens(&self.params.socket) => {
                let socket = self.params.socket.display();
                Ok(self.unseen(context, &state, &format!(
                    "the file of the socket {socket} is gone: the server serves, and the agent cannot ask it; move the role away, then restart it here"
                )))
            }
            Look::Refuses(Fault::Absent(why)) => self.broken(context, &state, &why),
            Look::Refuses(fault) => Ok(self.unseen(context, &state, &fault.to_string())),
        }
    }

    /// The memory is another version's: what runs is left as it is, in the role that the server itself shows.
    fn remembers_nothing(&self, context: &Context, why: &str) -> Result<Status, Failure> {
        let mut state = State::default();
        let Some(process) = self.find_server(&mut state) else { return Ok(Status::NotRunning) };
        let look = self.ask(&state, &process, limits::step(limits::ANSWER, context.deadline.left()));
        state.promoted = matches!(look, Look::Answered(_, seen) if !seen.closed);
        Ok(self.unseen(context, &state, why))
    }

    /// The process lives and cannot be asked, or is not to be touched. Its clients may be served well, so nothing is done to it.
    fn unseen(&self, context: &Context, state: &State, why: &str) -> Status {
        context.log.warning(format!("the server is alive and left as it is: {why}"));
        match (state.promoted, context.environment.is_probe()) {
            (true, true) => Status::Promoted,
            (false, true) => Status::Running,
            (true, false) => Status::DegradedPromoted(why.to_owned()),
            (false, false) => Status::Degraded(why.to_owned()),
        }
    }

    /// Asks the server, and looks at its process when it does not answer: a busy one must not be taken for a dead one,
    /// nor a frozen one for a busy one.
    pub(crate) fn ask(&self, state: &State, process: &Identity, limit: Duration) -> Look {
        if process.state() == ProcessState::Frozen {
            return Look::Stuck("it is stopped by a signal (state T)".into());
        }
        if let Some(before) = state.dying.iter().find(|before| !before.wait_gone(Duration::ZERO)) {
            // Whoever answers on the socket now is that one.
            return Look::Engaged(format!("it starts when the one before (pid {}) is gone, which {}", before.pid, what_keeps(before)));
        }
        let worked = cpu_ticks(process);
        let begin = Instant::now();
        let answer = self.connect(state.dialect.as_ref(), limit).and_then(|mut server| {
            let seen = server.observe_within(limit.saturating_sub(begin.elapsed()))?;
            Ok((server, seen))
        });
        match answer {
            Ok((server, seen)) => Look::Answered(server, Box::new(seen)),
            Err(Fault::Engaged(why)) => Look::Engaged(why),
            // Recovery may take long, and nobody listens meanwhile.
            Err(Fault::Absent(_)) if !state.answered && process.is_alive() => Look::Engaged("it is recovering its data".into()),
            Err(Fault::Silent(why) | Fault::Broken(why)) => {
                if cpu_ticks(process) > worked && process.state() == ProcessState::Alive {
                    return Look::Working(format!("{why}, but it is working"));
                }
                Look::Stuck(format!("{why}, and no work done in {} ms", begin.elapsed().as_millis()))
            }
            Err(fault) => Look::Refuses(fault),
        }
    }

    /// No process. A primary that died is lowered *before* it is reported: after the demotion the scheduler would find
    /// the highest score there and promote it again.
    fn found_dead(&self, context: &Context, state: &State) -> Result<Status, Failure> {
        if !context.environment.is_probe() && state.server.is_some() {
            self.lower(context);
            if state.promoted {
                return Err(Failure::promoted("the primary's server is gone: it died or was killed; see its log"));
            }
        }
        Ok(Status::NotRunning)
    }

    /// It says nothing and uses the processor: for whom, nobody can see from here. `counts`: no other action is at work, which may keep it busy.
    fn works_silently(&self, context: &Context, mut state: State, process: &Identity, counts: bool, why: &str) -> Result<Status, Failure> {
        if counts && !context.environment.is_probe() && state.answered {
            state.silent = state.silent.saturating_add(1);
            self.state_file.save(&state)?;
        }
        let why = format!("{why}, in {} looks so far", state.silent.max(1));
        match (state.promoted, state.silent >= WORKING) {
            (true, true) => self.broken(context, &state, &format!("the server (pid {}) is stuck: {why}", process.pid)),
            (true, false) => {
                context.log.warning(format!("the server is alive and busy: {why}"));
                Ok(Status::Promoted)
            }
            // Nobody waits for a replica.
            (false, true) => Ok(Status::Degraded(format!("the server is alive and busy: {why}"))),
            (false, false) => {
                context.log.warning(format!("the server is alive and busy: {why}"));
                Ok(Status::Running)
            }
        }
    }

    /// The server answers from its memory, and each commit waits for the disk. A replica stays: to stop it would fail, and fencing it
    /// would take away what else its node does.
    fn disk_hangs(&self, context: &Context, state: &State, directory: &Path) -> Result<Status, Failure> {
        let why = format!("the disk of {} hangs: a block that was written to it does not come to its end", directory.display());
        if state.promoted {
            return self.broken(context, state, &why);
        }
        if !context.environment.is_probe() {
            self.lower(context);
        }
        Ok(Status::Degraded(why))
    }

    fn broken(&self, context: &Context, state: &State, why: &str) -> Result<Status, Failure> {
        if context.environment.is_probe() {
            return Err(Failure::generic(why));
        }
        self.lower(context);
        Err(if state.promoted { Failure::promoted(why) } else { Failure::generic(why) })
    }

    pub(crate) fn lower(&self, context: &Context) {
        if let Err(e) = self.cluster.publish_score(Score::NEVER) {
            context.log.warning(format!("the promotion score cannot be lowered: {e}"));
        }
    }

    /// The server answered: is it what it should be?
    fn judge(
        &self,
        context: &Context,
        mut state: State,
        before: &State,
        mut server: Server,
        seen: &Observation,
    ) -> Result<Status, Failure> {
        if !seen.closed && !state.promoted {
            if seen.closed_for_applications && seen.replica.as_ref().is_some_and(|r| r.receiver != Thread::Stopped) {
                // A replication that ran before us, by the stock agent perhaps, which knows only read_only.
                self.close(context, &mut server)?;
            } else {
                self.unexpected_primary(context, &mut state, &mut server, seen)?;
            }
            self.state_file.save(&state)?;
        }
        if state.promoted && seen.closed {
            return Err(Failure::promoted(
                "the primary is closed for writes (read_only): somebody changed it, or its promotion did not end",
            ));
        }
        if context.environment.is_probe() {
            // A probe finds out and changes nothing, but what it found has to be remembered.
            if state != *before {
                self.state_file.save(&state)?;
            }
            return Ok(if state.promoted { Status::Promoted } else { Status::Running });
        }
        let new = !state.ours || !state.answered || state.dialect.is_none();
        if new || state.disks.is_none() {
            match self.take_charge(context, &mut state, &mut server) {
                Ok(()) => {}
                Err(failure) if new => {
                    // It was running before us, and others may be using it: nothing is promised for it, and nothing is done to it.
                    self.state_file.save(&state)?;
                    return Ok(self.unseen(context, &state, &failure.reason));
                }
                Err(failure) => context.log.warning(failure.reason),
            }
        }
        if let Err(failure) = self.tend_server_id(&mut state, seen) {
            context.log.warning(failure.reason);
        }
        let findings = self.findings(&state, &server, seen);
        if context.environment.check_level() >= 10 {
            self.read_test_table(&state, &mut server)?;
        }
        if state.promoted {
            self.tend_members(context, &mut state, &mut server, seen);
        } else {
            let sound = premises::forbidding(&findings, self.wanted()).is_none();
            self.tend_replication(context, &mut state, &mut server, seen, sound);
        }
        let readable = state.promoted || self.is_readable(&state, seen);
        self.publish_readable(context, &mut state, readable);
        if state != *before {
            self.state_file.save(&state)?;
        }
        self.tell_score(context, &state, seen);
        self.keep_watched(context, &state);
        if state.errant.is_some() && self.params.rejoin == Rejoin::Clone && !state.promoted && !self.is_cramped() {
            // The restart that follows finds time for the copy. It needs room.
            return Err(Failure::generic(self.errant_reason(&state)));
        }
        Ok(self.status(&state, seen, &findings))
    }

    /// A server that is open for writes and that we did not promote: taken over when nobody is recorded (a running
    /// replication comes under Pacemaker) or the record names us; otherwise closed and reported.
    fn unexpected_primary(&self, context: &Context, state: &mut State, server: &mut Server, seen: &Observation) -> Result<(), Failure> {
        let record = self.record()?;
        let me = self.node()?;
        let named = record.as_ref().is_none_or(|r| r.node == me);
        let follows = server.replica()?.is_some_and(|r| r.receiver != Thread::Stopped);
        // What this agent started or demoted is closed. Somebody else opened it, and its successor may be about to open.
        if named && !follows && !state.ours && self.cluster.is_present() {
            context.log.notice("taking over a running primary");
            state.promoted = true;
            self.take_up_reign(context, state, record.as_ref(), seen);
            return Ok(());
        }
        self.close(context, server)?;
        let why = match record {
            Some(_) | None if state.ours && named && !follows => "it was not promoted, and somebody set read_only=0".to_owned(),
            Some(record) if record.node != me => format!("{} is the recorded primary", record.node),
            _ if follows => "it is a replica".to_owned(),
            _ => "nobody promoted it".to_owned(),
        };
        Err(Failure::promoted(format!("the server was open for writes, but {why}: it was closed")))
    }

    /// A primary whose memory was lost, with its promotion recorded and its commits still waiting: its reign goes on as it is recorded.
    /// A new record would release what waits, and promise what nobody keeps meanwhile.
    fn take_up_reign(&self, context: &Context, state: &mut State, record: Option<&Record>, seen: &Observation) {
        let same = |r: &&Record| r.server.as_ref() == Some(&seen.server) && r.durability == Durability::Lossless && seen.waits;
        let (Some(record), Some(process)) = (record.filter(same), state.server.clone()) else { return };
        context.log.notice(format!("its promotion is recorded ({}), and goes on", record.stamp()));
        state.reign = Some(Reign { epoch: record.epoch, server: process, stage: Stage::Open });
        state.record = Some(record.to_string());
    }

    /// What a server is worth to readers.
    fn is_readable(&self, state: &State, seen: &Observation) -> bool {
        let Some(replica) = &seen.replica else { return false };
        let fresh = match (self.params.max_lag, replica.behind) {
            (None, _) => true,
            (Some(limit), Some(behind)) => behind <= limit,
            (Some(_), None) => false,
        };
        state.errant.is_none() && replica.attached() && replica.applier == Thread::Running && fresh
    }

    /// Publishes the reader attribute when it changed.
    pub(crate) fn publish_readable(&self, context: &Context, state: &mut State, readable: bool) {
        let now = process::since_boot();
        let stands = state.readable.is_some_and(|(value, at)| value == readable && now.saturating_sub(at) < limits::READABLE_STANDS);
        if !self.cluster.is_present() || stands {
            return;
        }
        match self.cluster.publish_attribute(&self.params.reader_attribute, if readable { "1" } else { "0" }) {
            Ok(()) => state.readable = Some((readable, now)),
            Err(e) => context.log.warning(format!("the reader attribute cannot be published: {e}")),
        }
    }

    fn read_test_table(&self, state: &State, server: &mut Server) -> Result<(), Failure> {
        let Some(table) = &self.params.test_table else { return Ok(()) };
        server.run(&format!("SELECT 1 FROM {table} LIMIT 1")).map_err(|fault| {
            let reason = format!("test_table {table} cannot be read: {fault}");
            if state.promoted { Failure::promoted(reason) } else { Failure::generic(reason) }
        })
    }

    fn keep_watched(&self, context: &Context, state: &State) {
        let Some(process) = &state.server else { return };
        let watcher = self.watcher_of(state).ending_within(self.within(pacemaker::WATCHER_ENDING));
        if !self.cluster.is_present() || watcher.is_watching(process) {
            return;
        }
        context.log.notice("starting the watcher of the server");
        let started = self.node().map_err(|f| f.reason).and_then(|node| watcher.ensure(process, node));
        if let Err(e) = started {
            context.log.warning(format!("a crash will be found by the next monitor only: {e}"));
        }
    }

    /// Publishes the promotion score when it changed.
    pub(crate) fn tell_score(&self, context: &Context, state: &State, seen: &Observation) {
        if !self.cluster.is_present() {
            return;
        }
        let now = process::since_boot();
        let score = match state.stands_back.filter(|(_, until)| !state.promoted && now < *until) {
            Some((score, _)) => score,
            None => {
                let attached = state.linked || seen.replica.as_ref().is_some_and(Replica::attached);
                let held = state.held_until.is_some_and(|until| now < until);
                let cold = !state.promoted && !attached && !held;
                // Only a cold start has to ask the CIB.
                let recorded = match cold.then(|| self.record()).transpose() {
                    Ok(record) => record.flatten().is_some_and(|r| Some(r.node.as_str()) == self.node().ok()),
                    Err(e) => return context.log.warning(format!("no promotion score, because the record cannot be read: {e}")),
                };
                let behind = seen.replica.as_ref().and_then(|r| r.behind);
                preference::score(Circumstances {
                    promoted: state.promoted,
                    attached,
                    broken: state.errant.is_some() || state.broken_for > 1,
                    lagging: self.params.max_lag.zip(behind).is_some_and(|(limit, behind)| behind > limit),
                    cramped: self.is_cramped(),
                    held,
                    recorded,
                    has_data: !seen.executed.is_empty(),
                })
            }
        };
        if let Err(e) = self.cluster.publish_score(score) {
            context.log.warning(format!("the promotion score cannot be published: {e}"));
        }
    }

    /// Whether the disk of the data is as good as full.
    pub(crate) fn is_cramped(&self) -> bool {
        self.files(|files| files.room(&self.params.datadir)).is_ok_and(|bytes| bytes < ROOM_TO_WRITE)
    }

    fn full_disk(&self) -> String {
        format!("the disk of {} is full: free space", self.params.datadir.display())
    }

    fn status(&self, state: &State, seen: &Observation, findings: &[Finding]) -> Status {
        match (self.complaint(state, seen, findings), state.promoted) {
            (None, true) => Status::Promoted,
            (None, false) => Status::Running,
            (Some(why), true) => Status::DegradedPromoted(why),
            (Some(why), false) => Status::Degraded(why),
        }
    }

    /// What an operator should see of a server that answers: the first that is wrong, what matters most first.
    fn complaint(&self, state: &State, seen: &Observation, findings: &[Finding]) -> Option<String> {
        let of_its_role = || if state.promoted { self.complaint_of_primary(state, seen) } else { self.complaint_of_replica(state, seen) };
        let full = self.is_cramped().then(|| self.full_disk());
        full.or_else(|| state.errant.is_some().then(|| self.errant_reason(state)))
            .or_else(|| premises::forbidding(findings, self.wanted()).map(|finding| finding.text.clone()))
            .or_else(of_its_role)
            .or_else(|| premises::shown(findings).map(str::to_owned))
    }

    fn complaint_of_primary(&self, state: &State, seen: &Observation) -> Option<String> {
        let waits_not = self.must_wait(state) && !seen.waits;
        let begins = || "the primary does not wait for replicas yet: it will when enough of them acknowledge".to_owned();
        let doubtful = state.contested.as_ref().or(state.intruded.as_ref()).or(state.twin.as_ref()).or(state.weakened.as_ref());
        doubtful.cloned().or_else(|| waits_not.then(begins)).or_else(|| state.blocked.as_ref().map(|(why, _)| why.clone()))
    }

    fn complaint_of_replica(&self, state: &State, seen: &Observation) -> Option<String> {
        let broken = state.broken.clone().filter(|_| state.broken_for > 1);
        let refused = || state.refused.as_ref().map(|why| format!("not promoted: {why}"));
        let alone = || {
            (state.alone_for > ALONE && self.cluster.is_present()).then(|| {
                "this server follows nobody: no primary is promoted; see the log of the promotion's candidate for the reason".to_owned()
            })
        };
        let behind = seen.replica.as_ref().and_then(|r| r.behind);
        let lag = || {
            let limit = self.params.max_lag.filter(|limit| behind.is_some_and(|behind| behind > *limit))?;
            Some(format!("more than {limit} s behind the primary (max_slave_lag): look for a long transaction, or a slow disk"))
        };
        broken.or_else(refused).or_else(|| state.trouble.clone()).or_else(alone).or_else(lag)
    }

    /// Whether this server's commits must wait for replicas.
    pub(crate) fn must_wait(&self, state: &State) -> bool {
        state.dialect.as_ref().is_some_and(Dialect::can_be_lossless) && self.wanted().lossless
    }
}

/// Why a killed process is still there.
fn what_keeps(process: &Identity) -> &'static str {
    if process.state() == ProcessState::Gone { "gives its memory back" } else { "hangs in the kernel, probably on its disk" }
}

/// Processor time that a process has used, in clock ticks.
fn cpu_ticks(process: &Identity) -> u64 {
    process.cpu_ticks().unwrap_or_default()
}
