//! `promote` and `demote`: the steps, in an order in which each may be the last one that is carried out.

use std::time::{Duration, Instant};

use ocf::{Context, Failure, Outcome, Peers};
use process::{Identity, State as ProcessState};

use crate::agent::Redis;
use crate::election::Verdict;
use crate::info::{Info, ReplicationRole};
use crate::monitor::{ENDING, Look};
use crate::record::Record;
use crate::server::{Fault, Server};
use crate::state::{Reign, State};
use crate::succession::HEARING;

/// How long a demotion waits for the replicas to catch up.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a demotion waits for acknowledgements before it asks for them again.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Longer than what follows the drain takes; the gate is closed anyway.
const PAUSE: Duration = Duration::from_secs(10);
/// How long a server may stay silent in a demotion before it is killed.
const DEMOTE_PATIENCE: Duration = Duration::from_millis(1500);
/// How long a dead primary that was started again stays no candidate, unless it attaches before.
const HELD: Duration = Duration::from_secs(8);

impl Redis {
    /// Makes this server the primary: role with the gate closed → record in the CIB, in the place of the one that the election went by →
    /// gate open.
    ///
    /// Killed before the record, it is a server with the role of a primary that takes no writes; killed after it, the
    /// next run finds the record and opens the gate.
    pub(crate) fn take_over(&self, context: &Context) -> Outcome {
        self.gate(context)?;
        let mut state = self.state_file.load();
        let process =
            self.find_server(&mut state).ok_or_else(|| Failure::generic("the server does not run: start it before it is promoted"))?;
        let mut server = self.reach(context)?;
        let seen = server.observe()?;
        // A demotion that was killed may have left the clients' writes paused.
        permitted(context, server.resume_writes())?;
        if state.promoted && seen.info.role == ReplicationRole::Primary && seen.gate_open() {
            return Ok(());
        }
        let record = self.record()?;
        let peers = Peers::read(&context.environment);
        let running = peers.running_nodes();
        state.meet(&peers);
        let me = self.node()?.to_owned();
        // Killed after the record was written: it names this very history, in which nobody can have written yet.
        let recorded = record
            .as_ref()
            .filter(|r| r.node == me && seen.info.role == ReplicationRole::Primary && r.history.as_ref() == Some(&seen.info.replid));
        if let Some(record) = recorded {
            return self.open(context, state, &mut server, process, record.clone());
        }
        if self.cluster.is_present() && state.elected != Some(record.as_ref().map_or_else(String::new, ToString::to_string)) {
            // No election was won in the notification before: not everybody had spoken.
            let others: Vec<String> = running.iter().filter(|node| **node != me).cloned().collect();
            let mut positions = self.hear(record.as_ref(), &others, HEARING)?;
            // What was published of this server may be of a process before this one: an empty one must not pass for it.
            positions.insert(me.clone(), self.position(context, &mut state, &Record::round(record.as_ref()))?);
            match self.verdict(context, record.as_ref(), &positions)? {
                Verdict::GoOn(reason) => context.log.notice(format!("going on with the promotion: {reason}")),
                other => return Err(Failure::generic(format!("not promoted: {}", self.give_way(context, &mut state, other)?))),
            }
        }
        server.close_gate()?;
        if seen.info.role == ReplicationRole::Replica {
            server.become_primary()?;
        }
        let mut now = server.replication()?;
        if !now.backlog && self.cluster.is_present() {
            self.begin_backlog(context, &mut server).unwrap_or_else(|e| {
                context.log.warning(format!("the backlog cannot be begun, so the first replica will change the history: {e}"));
            });
            now = server.replication()?;
        }
        if now.role != ReplicationRole::Primary {
            return Err(Failure::generic("the server did not take the role of a primary"));
        }
        // Whoever runs will attach and may confirm writes.
        let holders = running.into_iter().chain([me.clone()]).collect();
        let (from, offset) = origin(&seen.info);
        let next = Record::succeeded_by(record.as_ref(), me, &from, offset, now.replid.clone(), holders);
        self.replace_record(context, &mut state, record.as_ref(), &next)?;
        self.open(context, state, &mut server, process, next)
    }

    /// Makes a new primary begin its backlog now. After a cold start it has none, and its first replica would make it
    /// begin one and, with it, another history than the recorded one. A connection of ours passes for that replica,
    /// while copies are set to begin late, and goes before one is made.
    fn begin_backlog(&self, context: &Context, server: &mut Server) -> Outcome {
        let late = [("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "60")];
        let mut before = Vec::new();
        for (name, value) in late {
            before.push((name, server.setting(name)?.unwrap_or_default()));
            server.set(name, value)?;
        }
        let passed = self.reach(context).and_then(Server::pass_for_replica);
        let begin = Instant::now();
        while passed.is_ok() && begin.elapsed() < Duration::from_millis(500) {
            let info = server.replication()?;
            if info.backlog && info.replicas.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        for (name, value) in before {
            server.set(name, &value)?;
        }
        Ok(passed?)
    }

    /// The last step of a promotion: the record stands in the CIB, so clients may write.
    fn open(&self, context: &Context, mut state: State, server: &mut Server, process: Identity, record: Record) -> Outcome {
        let round = Record::round(Some(&record));
        state.promoted = true;
        state.reign = Some(Reign { round, server: process });
        state.record = Some(record.to_string());
        state.elected = None;
        state.following = None;
        state.linked = true;
        state.held_until = None;
        state.stands_back = None;
        state.refused = None;
        state.history = record.history.clone().unwrap_or_default();
        state.holders.clone_from(&record.holders);
        state.leaving.clear();
        // Of a reign before this one.
        state.away.clear();
        state.short_since = None;
        state.reviewed = Some(process::since_boot());
        state.contested = None;
        self.state_file.save(&state)?;
        let (replicas, lag) = self.gate(context)?;
        server.open_gate(replicas, lag)?;
        context.log.notice(format!("promoted: {record}"));
        Ok(())
    }

    /// Makes sure that this server is not a primary: a replica if it can be made one, otherwise ended.
    ///
    /// The time is for the orderly way first (half of it); then the server is told to end, and gives its replicas what it has, as a server
    /// does that ends by itself; and only one that cannot act on that is killed.
    pub(crate) fn step_down(&self, context: &Context) -> Outcome {
        let mut state = self.state_file.load();
        let Some(process) = self.find_server(&mut state) else {
            context.log.notice("the server is dead: it is not a primary any more");
            return self.restart_demoted(context, state);
        };
        match self.hand_down_in_time(context, &mut state, &process) {
            Ok(()) => return Ok(()),
            Err(Resort::Gone) => context.log.notice("the server has ended: it is not a primary any more"),
            Err(Resort::End(why)) => {
                context.log.error(format!("the server cannot be demoted, so it is told to end: {why}"));
                if !end_in_order(&process, context.deadline.left() / 2) {
                    context.log.error("the server did not end in time, so it is killed");
                    process.kill();
                }
            }
            Err(Resort::Kill(why)) => {
                context.log.error(format!("the server cannot be demoted, so it is killed: {why}"));
                process.kill();
            }
        }
        if !process.wait_gone(context.deadline.left().max(Duration::from_secs(1))) {
            return Err(Failure::generic(format!(
                "the server (pid {}) can neither be demoted nor killed: it hangs in the kernel, probably on its disk",
                process.pid
            )));
        }
        self.restart_demoted(context, state)
    }

    /// The orderly way, tried until half of the time is gone when the server is busy: what it works on ends, and what it holds is worth
    /// more than the time.
    fn hand_down_in_time(&self, context: &Context, state: &mut State, process: &Identity) -> Result<(), Resort> {
        let until = Instant::now() + context.deadline.left() / 2;
        let mut told = false;
        loop {
            let (busy, why) = match self.ask(process, DEMOTE_PATIENCE.min(context.deadline.left() / 3)) {
                Look::Answered(mut server, seen) => match self.hand_down(context, state, &mut server, &seen.info) {
                    Ok(()) => return Ok(()),
                    // The next look tells a busy one from a frozen one.
                    Err(fault) => (!matches!(fault, Fault::Denied(_) | Fault::Refused(_)), fault.to_string()),
                },
                Look::Engaged(why) | Look::Working(why) => (true, why),
                Look::Unasked(fault) => (matches!(fault, Fault::Closed(_)), fault.to_string()),
                Look::Deaf(_) if process.wait_gone(ENDING.min(context.deadline.left() / 3)) => return Err(Resort::Gone),
                Look::Deaf(why) => (false, why),
                Look::Ended => return Err(Resort::Gone),
                Look::Stuck(why) => return Err(Resort::Kill(why)),
            };
            if !busy || Instant::now() >= until {
                return Err(Resort::End(why));
            }
            if !std::mem::replace(&mut told, true) {
                context.log.warning(format!("waiting until the server can be demoted: {why}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The orderly way: gate closed → the replicas get everything → clients cut → replica of nobody.
    ///
    /// The gate and not a pause: a client learns at once that its write was refused, and the replicas can be asked
    /// how far they are, which a paused server does not do.
    fn hand_down(&self, context: &Context, state: &mut State, server: &mut Server, info: &Info) -> Result<(), Fault> {
        server.close_gate()?;
        if info.role == ReplicationRole::Primary {
            let limit = DRAIN.min(context.deadline.left() / 3);
            match drain(server, &targets(context), limit)? {
                Some(behind) => context.log.warning(format!("going on with the demotion although {behind}")),
                None => context.log.notice("the replicas have everything"),
            }
            // Whoever stays connected to a replica is refused there.
            permitted(context, server.cut_clients())?;
            server.follow_nobody()?;
            if server.replication()?.role != ReplicationRole::Replica {
                return Err(Fault::Refused("it keeps the role of a primary".into()));
            }
            // One that was a primary beside the real one follows that again.
            let others = Peers::read(&context.environment);
            state.following = others.still_promoted().filter(|node| self.node().is_ok_and(|me| me != *node)).map(str::to_owned);
            context.log.notice("demoted");
        }
        Self::forget_reign(state);
        // It is a replica, whatever can be remembered of that.
        if let Err(failure) = self.state_file.save(state) {
            context.log.warning(failure.reason);
        }
        permitted(context, server.resume_writes())
    }

    /// Starts a dead primary again, as a replica of nobody, without waiting for its data. Otherwise the first monitor
    /// after the demotion would find no server, and the cluster would stop and start this instance *before* it
    /// promotes the successor.
    fn restart_demoted(&self, context: &Context, mut state: State) -> Outcome {
        Self::forget_reign(&mut state);
        state.held_until = Some(process::since_boot() + HELD);
        self.state_file.save(&state)?;
        if !self.cluster.is_present() {
            return Ok(());
        }
        if let Err(failure) = self.launch(context, None, Duration::ZERO) {
            context.log.error(format!("the dead server cannot be started again: {failure}"));
        }
        Ok(())
    }
}

/// What is left when the orderly way is not to be had.
enum Resort {
    /// Nothing: the server has ended.
    Gone,
    /// It is told to end.
    End(String),
    /// It cannot act on anything, and would be a primary again when it wakes up.
    Kill(String),
}

/// Tells a server to end and waits for that. `false` when it cannot: stopped by a signal, or the time is over.
fn end_in_order(process: &Identity, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    process.terminate();
    while Instant::now() < until && process.state() != ProcessState::Frozen {
        if process.wait_gone(Duration::from_millis(50)) {
            return true;
        }
    }
    false
}

/// Passes over a step that the agent is not allowed to take and that nobody's data depend on.
fn permitted(context: &Context, step: Result<(), Fault>) -> Result<(), Fault> {
    match step {
        Err(Fault::Denied(why)) => {
            context.log.warning(format!("going on without that: {why}"));
            Ok(())
        }
        other => other,
    }
}

/// The history that a new primary goes on from, and where it leaves it. One that has the role already (a promotion that
/// was killed before its record) remembers it as the history before.
fn origin(info: &Info) -> (String, u64) {
    match (info.role, &info.replid2, info.second_offset) {
        (ReplicationRole::Primary, Some(id), Some(first_other)) => (id.clone(), first_other.saturating_sub(1)),
        _ => (info.replid.clone(), info.offset),
    }
}

/// Whom a demoted primary waits for: the node that will be promoted, when the transition says so.
fn targets(context: &Context) -> Option<String> {
    Peers::read(&context.environment).candidate().map(str::to_owned)
}

/// Waits until the target, or every attached replica, has acknowledged everything, and leaves the server paused: even
/// without clients a primary writes (it expires keys, it pings), and that must not move the position any more. Returns
/// what was missing at the end.
fn drain(server: &mut Server, target: &Option<String>, limit: Duration) -> Result<Option<String>, Fault> {
    let begin = Instant::now();
    loop {
        let everything = server.replication()?.offset;
        match server.request_acknowledgements() {
            // Without the right to ask, they say it by themselves, once a second.
            Ok(()) | Err(Fault::Denied(_)) => {}
            Err(fault) => return Err(fault),
        }
        let asked = Instant::now();
        let (info, missing) = loop {
            let info = server.replication()?;
            // The request is itself a part of the stream, and an answer tells the position before it.
            let missing = missing(&info, target.as_deref(), everything);
            if missing.is_none() || asked.elapsed() >= ASK_AGAIN {
                break (info, missing);
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if missing.is_none() || begin.elapsed() >= limit || !info.replicas.iter().any(|r| r.online) {
            match server.pause_writes(PAUSE) {
                // The gate keeps the clients out; what the server writes by itself the election finds.
                Err(Fault::Denied(_)) => return Ok(missing),
                paused => paused?,
            }
            if missing.is_some() || server.replication()?.offset == info.offset {
                return Ok(missing);
            }
            match server.resume_writes() {
                // The pause ends by itself.
                Err(Fault::Denied(_)) => return Ok(missing),
                resumed => resumed?,
            }
        }
    }
}

/// What the replicas lack: the target, if it is attached under its name, otherwise all of them.
fn missing(info: &Info, target: Option<&str>, everything: u64) -> Option<String> {
    let attached: Vec<_> = info.replicas.iter().filter(|r| r.online).collect();
    if attached.is_empty() {
        return Some("no replica is attached".into());
    }
    let named = attached.iter().any(|r| Some(r.node.as_str()) == target);
    let behind = attached.iter().find(|r| (!named || Some(r.node.as_str()) == target) && r.offset < everything)?;
    Some(format!("{} lacks {} bytes", behind.node, everything - behind.offset))
}
