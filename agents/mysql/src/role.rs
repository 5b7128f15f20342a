//! `promote` and `demote`: the steps, in an order in which each may be the last one that is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ocf::{Context, Failure, Outcome, Peers};
use process::Identity;

use crate::agent::MySql;
use crate::election::{self, Position, Unfit, Verdict};
use crate::gtid::Gtids;
use crate::limits;
use crate::monitor::Look;
use crate::observation::{Observation, Thread};
use crate::premises;
use crate::record::{Durability, Record};
use crate::server::{Fault, Server};
use crate::state::{Reign, Stage, State};

/// How many looks in a row must find the applier through and nothing moved.
const NOTHING_MORE: u32 = 200;

impl MySql {
    /// Makes this server the primary: elected → everything received is applied → it follows nobody → commits wait for
    /// replicas → record in the CIB, in the place of the one that the election went by → writable.
    ///
    /// Killed at any step before the last, it is a server that takes no writes, and the next run starts over; what is
    /// recorded by then names this very process, so it holds everything that anybody could have been told.
    pub(crate) fn take_over(&self, context: &Context) -> Outcome {
        if self.copying().is_some() {
            return Err(Failure::generic("not promoted: another server's data are being copied here; wait until that is done"));
        }
        let mut state = self.state_file.load();
        let process =
            self.find_server(&mut state).ok_or_else(|| Failure::generic("the server does not run: start it before it is promoted"))?;
        if let Some(directory) = self.watcher().hanging_disk(&process) {
            return Err(Failure::generic(format!(
                "not promoted: the disk of {} hangs, and no write would come to its end",
                directory.display()
            )));
        }
        let reached = self.reach(context, &state).and_then(|mut server| server.observe().map(|seen| (server, seen)));
        let (mut server, seen) = match reached {
            // After each reload Pacemaker promotes an instance once more that is promoted already.
            Err(fault) if state.promoted && state.reign.as_ref().is_some_and(|r| r.stage == Stage::Open) => {
                context.log.warning(format!("it is promoted already, and cannot be asked: {fault}"));
                return Ok(());
            }
            other => other?,
        };
        if state.promoted && !seen.closed {
            return Ok(());
        }
        let me = self.node()?.to_owned();
        if !state.ours || state.dialect.is_none() {
            self.take_charge(context, &mut state, &mut server)?;
        }
        if let Some(finding) = premises::forbidding(&self.findings(&state, &server, &seen), self.wanted()) {
            return Err(Failure::generic(format!("not promoted: {}", finding.text)));
        }
        let record = self.record()?;
        let claim = state.claim.as_deref().and_then(|text| Record::parse(text).ok());
        if let Some(record) = record.as_ref().filter(|r| election::may_resume(Some(r), claim.as_ref())) {
            // A run before this one got as far as the record, and nobody can have written yet.
            context.log.notice("going on with a promotion that was interrupted");
            return self.open(context, state, &mut server, record);
        }
        let positions = self.win_election(context, &mut state, record.as_ref())?;
        fault_point("elected");
        self.wait_no_more(&mut server, &seen)?;
        let seen = self.drain(context, &mut server, seen)?;
        fault_point("drained");
        if seen.replica.is_some() {
            self.stop_replica(context, &state, &mut server)?;
            server.run(server.dialect().forget_source())?;
        }
        fault_point("source-forgotten");
        let lossless = self.durability(&server) == Durability::Lossless && self.cluster.is_present();
        server.run_all(server.dialect().acknowledge(false))?;
        if lossless {
            server.run_all(server.dialect().wait_for_replicas(self.acknowledgements(server.dialect())))?;
        } else {
            server.run_all(server.dialect().wait_for_nobody())?;
        }
        fault_point("waiting-for-replicas");
        let executed = server.executed()?;
        let reign = election::Reign {
            node: &me,
            server: &seen.server,
            set: &executed,
            durability: if lossless { Durability::Lossless } else { Durability::AsyncAllowed },
            acknowledgements: self.acknowledgements(server.dialect()),
            durable: seen.durable,
            running: &self.running(context)?,
            remembered: state.memory.epoch(),
        };
        let next = election::successor(record.as_ref(), &reign, &positions);
        // Saved before the record is written: a run after this one knows then that the record is its own.
        state.reign = Some(Reign { epoch: next.epoch, server: process, stage: Stage::Recorded });
        state.claim = Some(next.to_string());
        state.following = None;
        state.acknowledges = false;
        self.state_file.save(&state)?;
        fault_point("reign-saved");
        self.replace_record(context, &mut state, record.as_ref(), &next)?;
        fault_point("recorded");
        self.open(context, state, &mut server, &next)
    }

    /// The last step of a promotion: the record stands in the CIB, so clients may write.
    fn open(&self, context: &Context, mut state: State, server: &mut Server, record: &Record) -> Outcome {
        state.promoted = true;
        state.record = Some(record.to_string());
        if let Some(reign) = state.reign.as_mut() {
            reign.stage = Stage::Open;
        }
        state.elected = None;
        state.held_until = None;
        state.stands_back = None;
        state.broken = None;
        state.broken_for = 0;
        state.asked_record = Some(process::since_boot());
        state.contested = None;
        state.leaving.clear();
        state.joining.clear();
        state.refused = None;
        state.alone_for = 0;
        state.trouble = None;
        state.blocked = None;
        state.opened = Some(process::since_boot());
        self.state_file.save(&state)?;
        fault_point("remembered");
        server.run(server.dialect().open_writes())?;
        if self.params.event_scheduler {
            server.run(server.dialect().event_scheduler(true))?;
        }
        context.log.notice(format!("promoted: epoch {} with {} acknowledging", record.epoch, list(&record.active)));
        Ok(())
    }

    /// The election, unless it was won in the notification before. Returns the positions that it was decided by.
    fn win_election(&self, context: &Context, state: &mut State, record: Option<&Record>) -> Result<BTreeMap<String, Position>, Failure> {
        if !self.cluster.is_present() {
            return Ok(BTreeMap::new());
        }
        let me = self.node()?.to_owned();
        let running = self.running(context)?;
        let others: BTreeSet<String> = running.iter().filter(|node| **node != me).cloned().collect();
        if state.elected == Some(record.map_or_else(String::new, ToString::to_string)) && Self::stands_published(state, record) {
            // Won in the notification before, and nothing moves since.
            return self.hear(record, &running, Duration::ZERO);
        }
        let mut positions = self.hear(record, &others, limits::HEARING)?;
        // What was published of this server may be of a process before this one.
        positions.insert(me.clone(), self.position(context, state, record)?);
        match self.verdict(context, record, &positions, &running)? {
            Verdict::GoOn(reason) => {
                context.log.notice(format!("going on with the promotion: {reason}"));
                Ok(positions)
            }
            other => Err(Failure::generic(format!("not promoted: {}", self.give_way(context, state, other)?))),
        }
    }

    /// On a closed server nobody but the applier can be waiting for acknowledgements, and it would do so for ever.
    ///
    /// A demotion leaves the waiting on, and so does a promotion that was interrupted: MySQL takes up to a second to switch
    /// it off, and its clients would wait for the next primary so much longer.
    pub(crate) fn wait_no_more(&self, server: &mut Server, seen: &Observation) -> Outcome {
        if let Some(statement) = server.dialect().wait_for_nobody().filter(|_| seen.closed && seen.waits) {
            server.run_within(&statement, limits::STOPPING)?;
        }
        Ok(())
    }

    /// The nodes whose instances run, this one included.
    fn running(&self, context: &Context) -> Result<BTreeSet<String>, Failure> {
        let me = self.node()?.to_owned();
        Ok(Peers::read(&context.environment).running_nodes().into_iter().chain([me]).collect())
    }

    /// Waits until everything that was received has been applied. Never reset a replica before: that deletes it.
    fn drain(&self, context: &Context, server: &mut Server, seen: Observation) -> Result<Observation, Failure> {
        let Some(replica) = seen.replica.clone() else { return Ok(seen) };
        // The receiver was stopped before the election; a run without one (no cluster) does it here.
        if replica.receiver != Thread::Stopped {
            server.run_within(server.dialect().stop_receiver(), limits::STOPPING)?;
        }
        let wanted = server.observe()?.have();
        // What a replica has received that follows a position in a file is not known: it is through when nothing is left.
        let through =
            |now: &Observation| now.executed.contains(&wanted) && now.replica.as_ref().is_none_or(|r| r.by_gtid || r.applier_idle);
        if through(&seen) {
            return Ok(server.observe()?);
        }
        if replica.applier == Thread::Stopped {
            server.run(server.dialect().start_applier())?;
        }
        let begin = Instant::now();
        let mut reported = begin;
        let (mut idle, mut last) = (0, seen.executed.clone());
        let (mut moved_at, mut cut) = (begin, false);
        loop {
            let now = server.observe()?;
            if through(&now) {
                if begin.elapsed() > Duration::from_millis(100) {
                    context.log.notice(format!("applied what had been received in {} ms", begin.elapsed().as_millis()));
                }
                return Ok(now);
            }
            let Some(replica) = &now.replica else { return Ok(now) };
            if let Some((number, text)) = &replica.applier_error {
                return Err(Failure::generic(format!(
                    "the applier stopped with error {number} ({text}) before everything received was applied: correct the data and start it, \
                     or name another node whose data are right with: {}",
                    self.decide()
                )));
            }
            // MySQL 5.6 counts a transaction as received when it begins to arrive, and nobody can have acknowledged that one.
            // Elsewhere this would be wrong: the state is that of the thread that hands out the work, not of its workers.
            let moved = now.executed != last;
            last = now.executed.clone();
            idle = if moved || !replica.applier_idle { 0 } else { idle + 1 };
            if moved {
                moved_at = Instant::now();
            }
            // A large transaction stands still as well: so without a lock to be seen only once.
            if moved_at.elapsed() > limits::STANDSTILL && (!cut || server.applier_waits_for_a_lock()?) {
                let ended = server.cut_clients()?;
                if ended > 0 {
                    context.log.warning(format!(
                        "the applier does not get on: {ended} sessions of clients ended, which may hold a lock that it needs"
                    ));
                }
                (moved_at, cut) = (Instant::now(), true);
            }
            if idle > NOTHING_MORE && server.dialect().counts_what_began_to_arrive() {
                let rest = wanted.difference(&now.executed).unwrap_or_default();
                context.log.warning(format!("the applier is through, without {rest}: it did not arrive whole"));
                return Ok(now);
            }
            if context.deadline.reserving(limits::AFTER_DRAIN).passed() {
                return Err(Failure::generic(format!(
                    "still applying what was received ({} missing): writes open when that is done, at the next attempt; a longer promote timeout saves the attempts",
                    wanted.difference(&now.executed).unwrap_or_default()
                )));
            }
            if reported.elapsed() > limits::PROGRESS {
                reported = Instant::now();
                context.log.notice("waiting for the applier: writes open when everything received is applied");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Makes sure that this server is not a primary: closed if it can be, otherwise dead.
    pub(crate) fn step_down(&self, context: &Context) -> Outcome {
        if self.copying().is_some() {
            context.log.notice("nothing to demote: the primary's data are being copied here");
            return Ok(());
        }
        let mut state = self.state_file.load();
        let Some(process) = self.find_server(&mut state) else {
            context.log.notice("the server is dead: it is not a primary any more");
            return self.restart_demoted(context, state);
        };
        let why = match self.ask(&state, &process, limits::SILENT_IN_DEMOTION.min(context.deadline.left() / 3)) {
            Look::Answered(mut server, seen) => match self.hand_down(context, &mut state, &mut server, &seen) {
                Ok(()) => return Ok(()),
                Err(failure) => failure.reason,
            },
            Look::Engaged(why) | Look::Working(why) if !state.answered => {
                // It never was a primary: it is recovering.
                context.log.notice(why);
                return Ok(());
            }
            Look::Engaged(why) | Look::Working(why) | Look::Stuck(why) => why,
            Look::Refuses(fault) => fault.to_string(),
        };
        context.log.error(format!("the server cannot be demoted, so it is killed: {why}"));
        self.kill_surely(context, &process)?;
        self.restart_demoted(context, state)
    }

    /// Kills it, and waits until it is no primary any more: when nothing of it will run again. It answers no client then, acknowledges
    /// no write and sends none to a replica. What a thread of it had asked of the kernel before may yet come to its disk, where a crash
    /// could have left it as well: nobody was told of it. Its memory and the locks of its files are waited for by what starts the next one.
    fn kill_surely(&self, context: &Context, process: &Identity) -> Outcome {
        process.kill();
        if process.wait_dead(context.deadline.left().max(limits::KILLED)) {
            return Ok(());
        }
        Err(Failure::generic(format!(
            "the server (pid {}) can neither be demoted nor killed: see what holds it (a debugger, a frozen control group)",
            process.pid
        )))
    }

    /// The orderly way: closed → clients cut → final transactions published. The replicas go on receiving.
    fn hand_down(&self, context: &Context, state: &mut State, server: &mut Server, seen: &Observation) -> Outcome {
        let was_promoted = state.promoted;
        if !seen.closed || was_promoted {
            self.close(context, server)?;
        }
        fault_point("closed");
        if self.params.event_scheduler {
            server.run(server.dialect().event_scheduler(false))?;
        }
        if was_promoted {
            let cut = server.cut_clients()?;
            settled(server)?;
            context.log.notice(format!("demoted, {cut} sessions ended"));
        }
        Self::end_reign(state);
        self.state_file.save(state)?;
        fault_point("demotion-remembered");
        if was_promoted {
            // It is closed. That the others cannot be told is no reason to kill it.
            let told = self.record_for_election(state).and_then(|record| self.publish_position(context, state, record.as_ref()));
            if let Err(failure) = told {
                context.log.warning(format!("the others are not told what this server holds: {failure}"));
            }
        }
        Ok(())
    }

    /// Closes the server for writes. What keeps it from that is ended: sessions that hold locks. Where commits wait for a
    /// replica the server has to die: MySQL's ignore that, and MariaDB would tell others that their commits are done.
    pub(crate) fn close(&self, context: &Context, server: &mut Server) -> Outcome {
        server.run(server.dialect().lock_patience())?;
        let close = server.dialect().close_writes();
        let Err(first) = server.run_within(close, limits::CLOSING) else { return Ok(()) };
        if matches!(first, Fault::Denied(_)) {
            return Err(first.into());
        }
        let state = self.state_file.load();
        *server = self.reach(context, &state)?;
        // With replicas there, what waits is on its way; without them nothing comes.
        let awaited = !server.replicas()?.is_empty();
        let begin = Instant::now();
        let stuck = if awaited { server.stuck_commits_within(self.within(limits::PLANNED))? } else { server.stuck_commits()? };
        if stuck > 0 {
            return Err(Failure::generic(format!("{stuck} commits wait for a replica")));
        }
        // It was they that kept the server from closing, perhaps.
        server.run(server.dialect().lock_patience())?;
        if begin.elapsed() > limits::CLOSING / 5 && server.run_within(close, limits::CLOSING).is_ok() {
            return Ok(());
        }
        if !server.is_connected() {
            *server = self.reach(context, &state)?;
        }
        context.log.warning(format!("the server does not become read-only ({first}): ending the sessions of clients"));
        server.cut_clients()?;
        server.run(server.dialect().lock_patience())?;
        server.run_within(close, limits::CLOSING * 2)?;
        Ok(())
    }

    fn end_reign(state: &mut State) {
        state.promoted = false;
        state.claim = None;
        state.alone_for = 0;
        state.blocked = None;
        state.leaving.clear();
        state.joining.clear();
        if let Some(reign) = state.reign.as_mut() {
            reign.stage = Stage::Over;
        }
    }

    /// Starts a dead primary again, without waiting for its recovery. Otherwise the first monitor after the demotion
    /// would find no server, and the cluster would stop and start this instance *before* it promotes the successor.
    fn restart_demoted(&self, context: &Context, mut state: State) -> Outcome {
        Self::end_reign(&mut state);
        state.held_until = Some(process::since_boot() + limits::HELD);
        self.state_file.save(&state)?;
        if !self.cluster.is_present() {
            return Ok(());
        }
        // Said first: the replicas wait for no more from here.
        let told = self
            .record_for_election(&mut state)
            .and_then(|record| self.publish_nowhere(context, &mut state, record.as_ref(), Unfit::NoServer));
        if let Err(failure) = told {
            context.log.warning(format!("the others are not told that this server is dead: {failure}"));
        }
        self.state_file.save(&state)?;
        if let Err(failure) = self.launch(context, Duration::ZERO) {
            context.log.error(format!("the dead server cannot be started again: {failure}"));
        }
        Ok(())
    }

    /// Takes over changed parameters without a restart.
    pub(crate) fn take_new_values(&self, context: &Context) -> Outcome {
        if self.copying().is_some() {
            return Ok(());
        }
        let mut state = self.state_file.load();
        state.addresses.clear();
        self.state_file.save(&state)?;
        if self.find_server(&mut state).is_none() {
            return Ok(());
        }
        let mut server = self.reach(context, &state)?;
        self.load_clone_if_wanted(context, &mut server);
        if !state.promoted {
            return Ok(());
        }
        let seen = server.observe()?;
        if seen.events_run != self.params.event_scheduler {
            server.run(server.dialect().event_scheduler(self.params.event_scheduler))?;
        }
        self.tend_members(context, &mut state, &mut server, &seen);
        self.state_file.save(&state)
    }
}

/// Waits until the transactions of a closed server stand still: a group commit may still be on its way.
fn settled(server: &mut Server) -> Result<Gtids, Fault> {
    let mut last = server.executed()?;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(5));
        let now = server.executed()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// Names in a sentence.
fn list(nodes: &BTreeSet<String>) -> String {
    if nodes.is_empty() { "nobody".to_owned() } else { nodes.iter().cloned().collect::<Vec<_>>().join(", ") }
}

/// Where a test can kill the agent: builds with the feature `fault-points` end here when the file systole-fault-point in
/// HA_RSCTMP holds this step's name. Other builds have nothing here.
#[allow(clippy::disallowed_methods, reason = "a test's file, in root's directory for state")]
pub(crate) fn fault_point(step: &str) {
    #[cfg(feature = "fault-points")]
    {
        // Pacemaker does not set it.
        let directory = std::env::var_os("HA_RSCTMP").unwrap_or_else(|| "/run/resource-agents".into());
        let file = std::path::Path::new(&directory).join("systole-fault-point");
        if std::fs::read_to_string(&file).is_ok_and(|wanted| wanted.trim() == step) {
            // Once: the next run gets past it.
            let _ = std::fs::remove_file(&file);
            std::process::abort();
        }
    }
    let _ = step;
}
