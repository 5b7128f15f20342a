//! `monitor`: what the server does, and what the cluster should know of it. With nothing changed it starts no process.

use std::time::{Duration, Instant};

use ocf::{Context, Failure, Outcome, Status};
use pacemaker::Score;
use process::{Identity, State as ProcessState};
use promotable::{REVIEW, Review};

use crate::agent::Redis;
use crate::conf::Conf;
use crate::info::{LOST_AFTER, ReplicationRole};
use crate::params::Params;
use crate::preference::{self, Circumstances};
use crate::record::Record;
use crate::server::{Fault, Observation, Server};
use crate::state::State;

/// How long a replica's link may be down before the log says so.
const LINK_PATIENCE: Duration = Duration::from_secs(10);

/// For how many monitors in a row a server may say nothing and work: five minutes and more, because what ends with it may be all data.
const WORKS_AT_MOST: u32 = 30;
/// How long a server may take to end that does not listen any more.
pub(crate) const ENDING: Duration = Duration::from_secs(1);
/// How long a process may outlive its connections when it was killed.
const LAST_MOMENT: Duration = Duration::from_millis(50);

/// What somebody finds who looks at the server.
pub(crate) enum Look {
    /// It answered.
    Answered(Server, Box<Observation>),
    /// It is alive and busy, and cannot be asked.
    Engaged(String),
    /// It says nothing, and works.
    Working(String),
    /// It is alive and does nothing: stopped by a signal, stuck on its disk.
    Stuck(String),
    /// It is alive and serves, and cannot be asked: a refused login, no free connection, a socket file that is gone, an answer that
    /// makes no sense. That the agent cannot see says nothing of the server.
    Unasked(Fault),
    /// It is alive, and nobody listens on its socket: it is about to end, or not up yet, or it is somebody else's.
    Deaf(String),
    /// It ended while it was looked at.
    Ended,
}

impl Redis {
    /// Finds out what the instance does.
    pub(crate) fn look(&self, context: &Context) -> Result<Status, Failure> {
        let (mut state, unknown_memory) = match self.state_file.load_checked() {
            Ok(state) => (state, None),
            Err(failure) => (State::default(), Some(failure).filter(|_| !context.environment.is_probe())),
        };
        let before = state.clone();
        let Some(process) = self.find_server(&mut state) else { return self.found_dead(context, &before) };
        if let Some(why) = self.runs_as_root(&process).filter(|_| !state.ours) {
            return Ok(status(&state, &[why]));
        }
        match self.ask(&process, Params::ANSWER_LIMIT.min(context.deadline.left() / 2)) {
            Look::Answered(_, seen) if unknown_memory.is_some() => {
                // What it is can be seen; nothing is decided and nothing written.
                state.promoted = seen.info.role == ReplicationRole::Primary && seen.gate_open();
                Ok(status(&state, &unknown_memory.map(|failure| failure.reason).into_iter().collect::<Vec<_>>()))
            }
            Look::Answered(server, seen) => self.judge(context, state, &before, server, &seen),
            Look::Engaged(why) => {
                context.log.warning(format!("the server is alive and busy: {why}"));
                Ok(status(&state, &[]))
            }
            Look::Working(why) if state.working_for + 1 >= WORKS_AT_MOST => {
                self.broken(context, &state, &format!("the server (pid {}) is stuck: in {WORKS_AT_MOST} monitors, {why}", process.pid))
            }
            Look::Working(why) => {
                context.log.warning(format!("the server is alive and busy: {why}"));
                state.working_for += 1;
                self.state_file.save(&state)?;
                Ok(status(&state, &[]))
            }
            Look::Unasked(fault) => {
                if state != before {
                    self.state_file.save(&state)?;
                }
                let wrong = self.conf().err().filter(|_| matches!(fault, Fault::Denied(_))).map(|failure| failure.reason);
                Ok(status(&state, &wrong.into_iter().chain([fault.to_string()]).collect::<Vec<_>>()))
            }
            Look::Ended => self.found_dead(context, &before),
            Look::Deaf(_) if process.wait_gone(ENDING.min(context.deadline.left())) => self.found_dead(context, &before),
            Look::Deaf(why) => self.broken(context, &state, &format!("the server (pid {}) runs and does not listen: {why}", process.pid)),
            Look::Stuck(why) => self.broken(context, &state, &format!("the server (pid {}) is stuck: {why}", process.pid)),
        }
    }

    /// Asks the server, and looks at its process when it does not answer: a busy one must not be taken for a dead one,
    /// nor a frozen one for a busy one.
    pub(crate) fn ask(&self, process: &Identity, limit: Duration) -> Look {
        if process.state() == ProcessState::Frozen {
            return Look::Stuck("it is stopped by a signal (state T)".into());
        }
        let worked = cpu_ticks(process);
        let begin = Instant::now();
        let answer = self.connect(limit).and_then(|mut server| server.observe_by(begin + limit).map(|seen| (server, seen)));
        match answer {
            Ok((server, seen)) => Look::Answered(server, Box::new(seen)),
            Err(Fault::Engaged(why)) => Look::Engaged(why),
            Err(Fault::Silent(why)) => {
                if !process.is_alive() {
                    return Look::Ended;
                }
                if cpu_ticks(process) > worked && process.state() == ProcessState::Alive {
                    return Look::Working(format!("{why}, but it is working"));
                }
                Look::Stuck(format!("no answer and no work done in {} ms", begin.elapsed().as_millis()))
            }
            // Its connections end a moment before it does.
            Err(Fault::Absent(_) | Fault::Closed(_)) if process.wait_gone(LAST_MOMENT) => Look::Ended,
            Err(Fault::Absent(why)) => Look::Deaf(why),
            Err(fault) => Look::Unasked(fault),
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

    fn broken(&self, context: &Context, state: &State, why: &str) -> Result<Status, Failure> {
        if context.environment.is_probe() {
            return Err(Failure::generic(why));
        }
        self.lower(context);
        Err(if state.promoted { Failure::promoted(why) } else { Failure::generic(why) })
    }

    fn lower(&self, context: &Context) {
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
        state.working_for = 0;
        let info = &seen.info;
        if info.role == ReplicationRole::Primary && !state.promoted {
            match self.unexpected_primary(context, &mut state, &mut server, seen)? {
                Some(status) => return Ok(status),
                None => self.state_file.save(&state)?,
            }
        }
        if info.role == ReplicationRole::Replica && state.promoted {
            // Somebody made it a replica behind our back. It certainly takes no writes.
            context.log.warning("the primary has become a replica without a demotion");
            state.promoted = false;
        }
        if state.promoted && !seen.gate_open() {
            return Err(Failure::promoted(
                "the primary is closed for writes (min-replicas-to-write): somebody changed it, or its promotion did not end",
            ));
        }
        if info.link_up && info.role == ReplicationRole::Replica {
            state.linked = true;
            state.held_until = None;
            if state.record.is_none() {
                // Asked now, so that an election need not wait for it.
                match self.record() {
                    Ok(record) => state.record = record.map(|record| record.to_string()),
                    // A healthy server must not be restarted because the cluster is not to be asked.
                    Err(e) => context.log.warning(format!("the record cannot be read: {e}")),
                }
            }
        }
        if context.environment.is_probe() {
            // A probe finds out and changes nothing, but what it found has to be remembered.
            if state != *before {
                self.state_file.save(&state)?;
            }
            return Ok(status(&state, &observed(seen)));
        }
        if !state.ours {
            self.adopt(context, &mut server, seen)?;
            state.ours = true;
        }
        let noticed = if state.promoted {
            self.tend_record(context, &mut state, &mut server, seen);
            let gate = self.tend_gate(context, &mut state, &mut server, seen)?;
            state.contested.clone().or(gate)
        } else {
            self.tend_link(context, &mut state, &mut server, seen)
        };
        if state != *before {
            self.state_file.save(&state)?;
        }
        self.tell_score(context, &state, seen)?;
        if let Some(process) = &state.server {
            let watcher = self.watcher();
            if self.cluster.is_present() && !watcher.is_watching(process) {
                context.log.notice("starting the watcher of the server");
                if let Err(e) = watcher.ensure(process, self.node()?) {
                    context.log.warning(format!("a crash will be found by the next monitor only: {e}"));
                }
            }
        }
        Ok(status(&state, &[observed(seen), noticed.into_iter().collect(), self.complaints()].concat()))
    }

    /// A server that somebody else started lacks what our command line would have set.
    pub(crate) fn adopt(&self, context: &Context, server: &mut Server, seen: &Observation) -> Result<(), Failure> {
        let me = self.node()?;
        server.set("replica-read-only", "yes")?;
        server.set("repl-backlog-ttl", "0")?;
        server.set("replica-ignore-disk-write-errors", "yes")?;
        if server.setting("replica-announce-ip")?.as_deref() != Some(me) {
            server.set("replica-announce-ip", me)?;
            if seen.info.role == ReplicationRole::Replica {
                // The name is told when a link begins; what is missed meanwhile comes from the backlog.
                server.cut_link()?;
            }
        }
        if seen.info.role == ReplicationRole::Replica {
            server.close_gate()?;
        }
        context.log.notice("took over a server that was started by somebody else");
        Ok(())
    }

    /// A server with the role of a primary that we did not promote: taken over when the record names us, or nobody
    /// (a running replication comes under Pacemaker); otherwise closed and reported.
    fn unexpected_primary(
        &self,
        context: &Context,
        state: &mut State,
        server: &mut Server,
        seen: &Observation,
    ) -> Result<Option<Status>, Failure> {
        let record = self.record()?;
        let me = self.node()?;
        let ours = match &record {
            None => true,
            Some(record) => {
                let known = |id: &String| record.history.as_ref() == Some(id);
                record.node == me && (known(&seen.info.replid) || seen.info.replid2.as_ref().is_some_and(known))
            }
        };
        if ours && seen.gate_open() {
            context.log.notice("taking over a running primary");
            state.promoted = true;
            if let (Some(record), Some(process)) = (record, &state.server) {
                state.reign = Some(crate::state::Reign { round: Record::round(Some(&record)), server: process.clone() });
                state.record = Some(record.to_string());
                state.history = record.history.unwrap_or_default();
                state.holders = record.holders;
            }
            return Ok(None);
        }
        if !seen.gate_open() {
            if let Some(primary) = state.following.clone().filter(|node| record.as_ref().is_some_and(|r| r.node == *node) && node != me) {
                context.log.warning(format!(
                    "somebody made the server a primary (closed for writes), and {primary} is the recorded one: making it follow"
                ));
                if state.may_part_with_data() {
                    self.part_with_data(context, &seen.info);
                }
                let (host, port) = self.params.address_of(&primary);
                server.follow(&host, port)?;
                return Ok(Some(Status::Running));
            }
            // It takes no writes. A promotion that was killed half-way; Pacemaker promotes or demotes it next.
            return Ok(Some(Status::Running));
        }
        server.close_gate()?;
        let recorded = record.map_or_else(String::new, |r| r.node);
        Err(Failure::promoted(format!(
            "the server has the role of a primary, but {recorded} is the recorded one: it was closed for writes"
        )))
    }

    /// On the primary: the record follows who holds what it confirms.
    fn tend_record(&self, context: &Context, state: &mut State, server: &mut Server, seen: &Observation) {
        if !self.cluster.is_present() {
            return;
        }
        let result = if state.reign.is_none() {
            self.record_takeover(context, state, seen)
        } else {
            self.review_record(context, state)
                .and_then(|()| self.record_history(context, state, &seen.info))
                .and_then(|()| self.count_followers(context, state, &seen.info))
                .and_then(|()| self.let_leave(context, state, server, seen))
        };
        if let Err(e) = result {
            context.log.warning(format!("the record is not up to date: {e}"));
        }
    }

    /// A primary that was running before we came has no record yet.
    fn record_takeover(&self, context: &Context, state: &mut State, seen: &Observation) -> Result<(), Failure> {
        let me = self.node()?.to_owned();
        // Who has not announced its node's name yet is added by a monitor to come.
        let known = seen.info.replicas.iter().map(|r| r.node.clone()).filter(|node| self.is_known(state, node));
        let mut holders: std::collections::BTreeSet<String> = known.collect();
        holders.insert(me.clone());
        let (id, offset) = (&seen.info.replid, seen.info.offset);
        let before = self.record()?;
        let record = Record::succeeded_by(before.as_ref(), me, id, offset, id.clone(), holders);
        self.replace_record(context, state, before.as_ref(), &record)?;
        state.reign = state.server.clone().map(|server| crate::state::Reign { round: Record::round(Some(&record)), server });
        state.history.clone_from(&seen.info.replid);
        state.holders = record.holders;
        Ok(())
    }

    /// A primary begins a new history by itself when its backlog begins or ends; the replicas have the new id then.
    pub(crate) fn record_history(&self, context: &Context, state: &mut State, info: &crate::info::Info) -> Result<(), Failure> {
        if state.history == info.replid {
            return Ok(());
        }
        self.rewrite_record(context, state, |record| {
            // One that was killed here before may have written it, and not have remembered that.
            let before = record.history.replace(info.replid.clone()).filter(|before| *before != info.replid);
            record.past.splice(0..0, before.map(|before| (before, info.offset)));
        })?;
        state.history.clone_from(&info.replid);
        Ok(())
    }

    /// Changes the record, which must be of this very reign: nobody else's is ever changed.
    pub(crate) fn rewrite_record(&self, context: &Context, state: &mut State, change: impl FnOnce(&mut Record)) -> Outcome {
        let before = self.record()?.ok_or_else(|| Failure::generic("the record is gone from the CIB"))?;
        let mine = state.reign.as_ref().is_some_and(|reign| reign.round == Record::round(Some(&before)));
        if !mine || before.history.is_none() {
            return Err(Failure::generic(format!("the record names {}", before.node)));
        }
        let mut record = before.clone();
        change(&mut record);
        self.replace_record(context, state, Some(&before), &record)?;
        state.holders = record.holders;
        Ok(())
    }

    /// Looks now and then whether the record is still the one of this reign, and writes it again where it got lost.
    fn review_record(&self, context: &Context, state: &mut State) -> Outcome {
        let now = process::since_boot();
        if state.reviewed.is_some_and(|at| now.saturating_sub(at) < REVIEW) {
            return Ok(());
        }
        let found = self.record()?;
        state.reviewed = Some(now);
        let Some(own) = state.known_record() else {
            state.record =
                found.filter(|record| state.reign.as_ref().is_some_and(|r| r.round == Record::round(Some(record)))).map(|r| r.to_string());
            return Ok(());
        };
        let review = promotable::review(&own, found.clone(), &promotable::withdrawal(&self.cluster));
        state.contested = None;
        match review {
            Review::Known => {}
            Review::Rewritten(record) => {
                state.record = Some(record.to_string());
                state.holders = record.holders;
            }
            Review::Lost => {
                let there = found.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
                context.log.warning(format!("the record of this primary got lost (there is {there}): writing it again"));
                self.replace_record(context, state, found.as_ref(), &own)?;
            }
            Review::Contested(why) => {
                context.log.error(&why);
                state.contested = Some(why);
            }
        }
        Ok(())
    }

    /// Who attached is a holder, also when nobody told this node that it would start, or it was away. Who has been away for long is none
    /// any more: what it holds is old. With durability=quorum it stays one, because it may confirm a write the moment it is back.
    fn count_followers(&self, context: &Context, state: &mut State, info: &crate::info::Info) -> Result<(), Failure> {
        let Some(holders) = self.followers(context, state, info)? else { return Ok(()) };
        self.rewrite_record(context, state, |record| record.holders.extend(holders))
    }

    /// Whether a replica is one of the cluster's, as far as its lists have told. Before they have, a name is believed: nobody but our
    /// servers announces one.
    fn is_known(&self, state: &State, replica: &str) -> bool {
        let is_address = |name: &str| name.parse::<std::net::IpAddr>().is_ok();
        let told = state.nodes.contains(replica) || state.holders.contains(replica);
        told || state.nodes.is_empty() && (!is_address(replica) || self.node().is_ok_and(is_address))
    }

    /// Holders that are missing in the record, if any; remembers since when those are away that stand there.
    fn followers(&self, context: &Context, state: &mut State, info: &crate::info::Info) -> Result<Option<Vec<String>>, Failure> {
        let me = self.node()?;
        let attached = |node: &str| info.replicas.iter().any(|r| r.node == node);
        let now = process::since_boot();
        state.away.retain(|node, _| !attached(node) && state.holders.contains(node));
        for node in state.holders.iter().filter(|node| *node != me && !attached(node)) {
            state.away.entry(node.clone()).or_insert(now);
        }
        if self.confirmations(context).is_none() {
            let lost = state.away.iter().filter(|(_, since)| now.saturating_sub(**since) >= LOST_AFTER).map(|(node, _)| node.clone());
            state.leaving.extend(lost);
        }
        let missing: Vec<String> =
            info.replicas.iter().map(|r| &r.node).filter(|n| self.is_known(state, n) && !state.holders.contains(*n)).cloned().collect();
        Ok(Some(missing).filter(|missing| !missing.is_empty()))
    }

    /// Takes those out of the record whose server was stopped, once what they may have confirmed is held by enough
    /// others: with k confirmations, k others.
    fn let_leave(&self, context: &Context, state: &mut State, server: &mut Server, seen: &Observation) -> Result<(), Failure> {
        if state.leaving.is_empty() {
            return Ok(());
        }
        let needed = self.confirmations(context).unwrap_or(0);
        let everything = seen.info.offset;
        let held_by = |info: &crate::info::Info, leaving: &std::collections::BTreeSet<String>| {
            info.replicas.iter().filter(|r| r.online && r.offset >= everything && !leaving.contains(&r.node)).count()
        };
        let begin = Instant::now();
        while held_by(&server.replication()?, &state.leaving) < needed {
            if begin.elapsed() > Duration::from_millis(300) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let leaving = std::mem::take(&mut state.leaving);
        let left = self.rewrite_record(context, state, |record| record.holders.retain(|node| !leaving.contains(node)));
        if left.is_err() {
            state.leaving = leaving;
        }
        left
    }

    /// On a primary with durability=quorum: writes wait for enough of the cluster's own replicas, and for nobody else's. Says what an
    /// operator has to see.
    fn tend_gate(&self, context: &Context, state: &mut State, server: &mut Server, seen: &Observation) -> Result<Option<String>, Failure> {
        if self.confirmations(context).is_none() {
            state.short_since = None;
            return Ok(None);
        }
        let (needed, lag) = self.gate(context)?;
        let attached = || seen.info.replicas.iter().filter(|r| r.online);
        let strangers: Vec<&str> = attached().map(|r| r.node.as_str()).filter(|node| !self.is_known(state, node)).collect();
        // The server counts them all. Before the cluster's lists have told who belongs to it, a replica without a name may be one that was
        // taken over and has not announced its name yet: writes are not held up for that.
        let counted = if state.nodes.is_empty() { 0 } else { strangers.len() };
        let gate = needed + u32::try_from(counted).unwrap_or_default();
        if seen.gate != gate {
            context.log.notice(format!("writes need {gate} attached replicas from now on (min-replicas-to-write was {})", seen.gate));
            server.open_gate(gate, lag)?;
        }
        let good = attached().filter(|r| r.lag <= u64::from(lag)).count();
        let now = process::since_boot();
        if good >= gate as usize {
            if let Some(since) = state.short_since.take() {
                context.log.notice(format!("writes are taken again after {} s", now.saturating_sub(since).as_secs()));
            }
        } else if state.short_since.is_none() {
            state.short_since = Some(now);
            context.log.warning(format!("writes are refused from now on: {good} of {gate} replicas are attached (durability=quorum)"));
        }
        Ok(if state.short_since.is_some() {
            Some(format!(
                "writes are refused: {good} of {gate} replicas are attached and report (durability=quorum): start them, or accept their \
                 loss with: crm resource param {} set durability async",
                context.environment.resource()
            ))
        } else if strangers.is_empty() {
            None
        } else {
            Some(format!(
                "a replica that is none of the cluster's is attached ({}), and WAIT counts it: detach it, or wait for {gate} replicas",
                strangers.join(", ")
            ))
        })
    }

    /// On a replica: it follows whom it should, and an operator learns when it cannot.
    fn tend_link(&self, context: &Context, state: &mut State, server: &mut Server, seen: &Observation) -> Option<String> {
        if seen.info.role != ReplicationRole::Replica || seen.info.loading {
            return None;
        }
        if seen.info.link_up {
            state.detached_since = None;
        }
        let now = process::since_boot();
        let detached = if seen.info.link_up { now } else { *state.detached_since.get_or_insert(now) };
        let for_long = now.saturating_sub(detached) >= LINK_PATIENCE;
        let Some(primary) = state.following.clone() else {
            let why = state
                .refused
                .as_ref()
                .map_or("see the log of whom the cluster asked last".to_owned(), |why| format!("not promoted: {why}"));
            return (for_long && self.cluster.is_present()).then(|| format!("nobody is promoted, so the server follows nobody: {why}"));
        };
        let (host, port) = self.params.address_of(&primary);
        if seen.info.primary != Some((host.clone(), port)) {
            context.log.warning(format!("the server does not follow {primary}: making it follow"));
            if state.may_part_with_data() {
                self.part_with_data(context, &seen.info);
            }
            return match server.follow(&host, port) {
                Ok(()) => None,
                Err(e) => Some(format!("it could not be made to follow {primary}: {e}")),
            };
        }
        // A link that was never up has no age.
        let for_long = for_long || seen.info.link_down_seconds.is_some_and(|s| s >= LINK_PATIENCE.as_secs());
        if seen.info.link_up || !for_long {
            return None;
        }
        let cause = self.conf().ok().and_then(Conf::log_file).map_or(LinkTrouble::Unknown, |log| LinkTrouble::of(&self.tail(&log, 0)));
        // Whose login is refused tries the older way to get a copy, each second, and says so for a moment.
        (!seen.info.syncing || cause == LinkTrouble::Login)
            .then(|| format!("the link to the primary on {primary} ({host}:{port}) is down: {}", cause.remedy()))
    }

    /// Publishes the promotion score when it changed.
    fn tell_score(&self, context: &Context, state: &State, seen: &Observation) -> Result<(), Failure> {
        if !self.cluster.is_present() {
            return Ok(());
        }
        let now = process::since_boot();
        if let Some((score, _)) = state.stands_back.filter(|(_, until)| !state.promoted && now < *until) {
            return self.cluster.publish_score(score).or_else(|e| {
                context.log.warning(format!("the promotion score cannot be published: {e}"));
                Ok(())
            });
        }
        let held = state.held_until.is_some_and(|until| now < until);
        let cold = !state.promoted && !state.linked && !held;
        // Only a cold start has to ask the CIB.
        let recorded = match cold.then(|| self.record()).transpose() {
            Ok(record) => record.flatten().is_some_and(|r| Some(r.node.as_str()) == self.node().ok()),
            Err(e) => {
                context.log.warning(format!("no promotion score, because the record cannot be read: {e}"));
                return Ok(());
            }
        };
        let score = preference::score(&seen.info, Circumstances { promoted: state.promoted, linked: state.linked, held, recorded });
        self.cluster.publish_score(score).or_else(|e| {
            context.log.warning(format!("the promotion score cannot be published: {e}"));
            Ok(())
        })
    }
}

/// Why a replica does not reach its primary, as far as its log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkTrouble {
    /// The primary does not accept its login.
    Login,
    /// Nobody answers there.
    Network,
    /// The name is not known.
    Name,
    Unknown,
}

impl LinkTrouble {
    /// From the newest line of the log that says anything of it. What else stands in the line is nobody's business.
    fn of(log: &str) -> Self {
        let of_line = |line: &str| {
            let says = |words: &[&str]| words.iter().any(|word| line.contains(word));
            if says(&["sync: receiving", "sync: Finished", "Full resync from master"]) {
                Some(Self::Unknown)
            } else if says(&["Unable to AUTH", "NOAUTH", "WRONGPASS", "NOPERM"]) {
                Some(Self::Login)
            } else if says(&["Name or service not known", "Temporary failure in name resolution"]) {
                Some(Self::Name)
            } else if says(&["Unable to connect to MASTER", "Connection refused", "Timeout connecting", "No route to host"]) {
                Some(Self::Network)
            } else {
                None
            }
        };
        log.lines().rev().find_map(of_line).unwrap_or(Self::Unknown)
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Login => "the primary refuses its login; correct masterauth and masteruser (docs/redis.md, changing the password)",
            Self::Network => "nobody answers there; see that its server runs, and check bind, port and firewall",
            Self::Name => "the name is not known here; write it into /etc/hosts",
            Self::Unknown => "check that the name resolves, bind, firewall and masterauth; the server's log says more",
        }
    }
}

/// What a server says of itself that somebody should mend.
fn observed(seen: &Observation) -> Vec<String> {
    let unsaved = "the last save to disk failed: free space, or correct owner and mode of the data directory; see the server's log";
    let emptied = "it threw its data away for a copy that it could not load: see the server's log (is it older than the primary?)";
    let told = [(seen.info.save_failed, unsaved), (seen.info.emptied(), emptied)];
    told.into_iter().filter(|(is, _)| *is).map(|(_, what)| what.to_owned()).chain(seen.complaint.clone()).collect()
}

/// It runs; whether all is well.
fn status(state: &State, wrong: &[String]) -> Status {
    match (state.promoted, wrong) {
        (true, []) => Status::Promoted,
        (false, []) => Status::Running,
        (true, _) => Status::DegradedPromoted(wrong.join("; ")),
        (false, _) => Status::Degraded(wrong.join("; ")),
    }
}

/// Processor time that a process has used, in clock ticks.
fn cpu_ticks(process: &Identity) -> u64 {
    process.cpu_ticks().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_link_is_down_stands_in_the_newest_line_that_tells() {
        let refused = "1:S 29 Nov 2026 # Unable to AUTH to MASTER: -WRONGPASS invalid username-password pair\n";
        let nobody = "1:S 29 Nov 2026 # Error condition on socket for SYNC: Connection refused\n";
        let name = "1:S 29 Nov 2026 # Unable to connect to MASTER: Name or service not known\n";
        let copy = "1:S 29 Nov 2026 * MASTER <-> REPLICA sync: receiving 175 bytes from master to disk\n";
        for (log, cause) in [
            (String::new(), LinkTrouble::Unknown),
            (format!("{nobody}{refused}something else\n"), LinkTrouble::Login),
            (format!("{refused}{nobody}"), LinkTrouble::Network),
            (name.to_owned(), LinkTrouble::Name),
            (format!("{refused}{copy}"), LinkTrouble::Unknown),
        ] {
            assert_eq!(LinkTrouble::of(&log), cause, "{log}");
        }
    }
}
