//! `monitor`: what the server does, and what the cluster should know of it. With nothing changed it starts no process.

use ocf::{Failure, Status};
use process::Identity;
use promotable::Remembered as _;

use super::{Instance, OfAttributes, OfCluster, OfDaemon, OfProcess, Sight, Word, hanging};
use crate::limits;
use crate::observation::{Observation, Replica, Thread};
use crate::params::Rejoin;
use crate::preference::{self, Circumstances};
use crate::premises::{self, Finding};
use crate::state::{Primary, Role, State, Unpromoted};

/// For how many monitors a server may follow nobody before that is said: at a start the primary comes in a moment.
const ALONE: u32 = 2;

/// How many looks in a row may find a primary that works and says nothing: about a minute, which is what dropping a large table may take.
/// One that has greeted nobody for longer serves nobody, whatever it is at.
const WORKING: u32 = 6;

/// Who else is at work on this instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alone {
    Yes,
    /// Another action works: a monitor must answer meanwhile, and leaves every decision to it.
    No,
}

impl Instance<'_> {
    /// Finds out what the instance does. `unknown`: why its memory cannot be read, when it cannot. `check_level`: how thoroughly it looks.
    pub(crate) async fn monitor(mut self, alone: Alone, unknown: Option<Failure>, check_level: u32) -> Result<Status, Failure> {
        let before = self.state.clone();
        let found = self.find().await;
        if let Some(failure) = unknown {
            return self.remembers_nothing(found, &failure.reason).await;
        }
        let Some(process) = found else { return self.found_dead(&before).await };
        if let Some(directory) = hanging(self.texts(OfDaemon::HangingDisk(process.clone())).await) {
            return self.disk_hangs(&directory.display().to_string()).await;
        }
        if !self.state.ours() {
            if let Some(why) = self.texts(OfProcess::Objections(process.clone())).await.into_iter().next() {
                return Ok(self.unseen(&why).await);
            }
        }
        let limit = self.within(limits::ANSWER);
        match self.look(&process, limit).await {
            Sight::Answered(seen, _) if alone == Alone::No => {
                let findings = self.findings(&seen).await;
                Ok(self.status(&seen, &findings).await)
            }
            Sight::Answered(seen, _) => {
                self.state.of_process(|process| process.silent = 0);
                self.judge(&before, &seen, check_level).await
            }
            Sight::Engaged(why) => Ok(self.is_engaged(&why).await),
            Sight::Working(why) => self.works_silently(&process, alone, &why).await,
            Sight::Stuck(why) => match self.waits_for_room(&why).await {
                Some(status) => Ok(status),
                None => self.broken(&format!("the server (pid {}) is stuck: {why}", process.pid)).await,
            },
            Sight::Deaf { listens: true, .. } => {
                let socket = self.params().socket.display();
                let why = format!(
                    "the file of the socket {socket} is gone: the server serves, and the agent cannot ask it; move the role away, then restart it here"
                );
                Ok(self.unseen(&why).await)
            }
            Sight::Deaf { why, .. } => self.broken(&why).await,
            Sight::Refuses(fault) => Ok(self.unseen(&fault.to_string()).await),
        }
    }

    async fn is_engaged(&mut self, why: &str) -> Status {
        if let Some(status) = self.waits_for_room(why).await {
            return status;
        }
        if self.state.answered() {
            return self.unseen(why).await;
        }
        if !self.state.dying.is_empty() && !self.state.promoted() {
            return Status::Degraded(format!("the server does not run yet: {why}"));
        }
        // It recovers: it has never answered yet.
        self.notice(format!("the server is alive and busy: {why}")).await;
        Status::Running
    }

    /// A replica without room goes on when there is some. A restart would fail, and need an operator.
    async fn waits_for_room(&mut self, why: &str) -> Option<Status> {
        if self.state.promoted() || !self.is_cramped().await {
            return None;
        }
        self.warning(format!("the server waits for room on its disk: {why}")).await;
        Some(Status::Degraded(self.full_disk()))
    }

    /// The memory is another version's: what runs is left as it is, in the role that the server itself shows.
    async fn remembers_nothing(&mut self, found: Option<Identity>, why: &str) -> Result<Status, Failure> {
        let Some(process) = found else { return Ok(Status::NotRunning) };
        let limit = self.within(limits::ANSWER);
        if matches!(self.look(&process, limit).await, Sight::Answered(seen, _) if !seen.closed) {
            self.state.take_over();
        }
        Ok(self.unseen(why).await)
    }

    /// The process lives and cannot be asked, or is not to be touched. Its clients may be served well, so nothing is done to it.
    async fn unseen(&mut self, why: &str) -> Status {
        self.warning(format!("the server is alive and left as it is: {why}")).await;
        match (self.state.promoted(), self.rules.probe) {
            (true, true) => Status::Promoted,
            (false, true) => Status::Running,
            (true, false) => Status::DegradedPromoted(why.to_owned()),
            (false, false) => Status::Degraded(why.to_owned()),
        }
    }

    /// It says nothing and uses the processor: for whom, nobody can see from here. Another action that is at work may keep it busy.
    async fn works_silently(&mut self, process: &Identity, alone: Alone, why: &str) -> Result<Status, Failure> {
        if let Some(status) = self.waits_for_room(why).await {
            return Ok(status);
        }
        if alone == Alone::Yes && !self.rules.probe && self.state.answered() {
            self.state.of_process(|process| process.silent = process.silent.saturating_add(1));
            self.save().await?;
        }
        let silent = self.state.process.as_ref().map_or(0, |process| process.silent);
        let why = format!("{why}, in {} looks so far", silent.max(1));
        match (self.state.promoted(), silent >= WORKING) {
            (true, true) => self.broken(&format!("the server (pid {}) is stuck: {why}", process.pid)).await,
            // Nobody waits for a replica.
            (false, true) => Ok(Status::Degraded(format!("the server is alive and busy: {why}"))),
            (promoted, false) => {
                self.warning(format!("the server is alive and busy: {why}")).await;
                Ok(if promoted { Status::Promoted } else { Status::Running })
            }
        }
    }

    /// The server answers from its memory, and each commit waits for the disk. A replica stays: to stop it would fail, and fencing it
    /// would take away what else its node does.
    async fn disk_hangs(&mut self, directory: &str) -> Result<Status, Failure> {
        let why = format!("the disk of {directory} hangs: a block that was written to it does not come to its end");
        if self.state.promoted() {
            return self.broken(&why).await;
        }
        if !self.rules.probe {
            self.lower().await;
        }
        Ok(Status::Degraded(why))
    }

    /// The server answered: is it what it should be?
    async fn judge(&mut self, before: &State, seen: &Observation, check_level: u32) -> Result<Status, Failure> {
        if !seen.closed && !self.state.promoted() {
            if seen.closed_for_applications && seen.replica.as_ref().is_some_and(|r| r.receiver != Thread::Stopped) {
                // A replication that ran before us, by the stock agent perhaps, which knows only read_only.
                self.close().await?;
            } else {
                self.unexpected_primary(seen).await?;
            }
            self.save().await?;
        }
        if self.state.promoted() && seen.closed_for_applications {
            return Err(Failure::promoted(
                "the primary is closed for writes (read_only): somebody changed it, or its promotion did not end",
            ));
        }
        if self.rules.probe {
            // A probe finds out and changes nothing, but what it found has to be remembered.
            if let Err(failure) = self.save_if_other_than(before).await {
                self.warning(failure.reason).await;
            }
            return Ok(if self.state.promoted() { Status::Promoted } else { Status::Running });
        }
        let new = !self.state.ours() || !self.state.answered() || self.state.dialect().is_none();
        if new || self.state.disks().is_none() {
            match self.take_charge().await {
                Ok(()) => {}
                Err(failure) if new => {
                    // It was running before us, and others may be using it: nothing is promised for it, and nothing is done to it.
                    self.save().await?;
                    return Ok(self.unseen(&failure.reason).await);
                }
                Err(failure) => self.warning(failure.reason).await,
            }
        }
        if self.state.reload_pending() {
            if let Err(fault) = self.tell_parameters(seen).await {
                self.warning(fault.to_string()).await;
            }
        }
        if let Err(failure) = self.tend_server_id(seen).await {
            self.warning(failure.reason).await;
        }
        let findings = self.findings(seen).await;
        if check_level >= 10 {
            self.read_test_table().await?;
        }
        if self.state.promoted() {
            self.tend_members(seen).await;
            self.publish_writes().await;
        } else {
            let sound = premises::forbidding(&findings, self.wanted()).is_none();
            self.tend_replication(seen, sound).await;
        }
        let unsaved = self.tell_of_it(before, seen).await;
        let status = self.status_or_copy(seen, &findings).await?;
        Ok(match unsaved {
            Some(why) => also(status, &why),
            None => status,
        })
    }

    /// What the cluster should know of the server. Returns why that cannot be remembered, if it cannot: a healthy server is not ended for a
    /// directory that is full.
    async fn tell_of_it(&mut self, before: &State, seen: &Observation) -> Option<String> {
        let readable = self.state.promoted() || self.is_readable(seen);
        self.publish_readable(readable).await;
        self.stand_up();
        let unsaved = self.save_if_other_than(before).await.err().map(|failure| failure.reason);
        self.tell_score(seen).await;
        if let Some(process) = self.state.server().cloned().filter(|_| self.rules.clustered) {
            let disks = self.state.disks().cloned();
            self.ask(OfProcess::Watch(process, disks)).await;
        }
        unsaved
    }

    async fn status_or_copy(&mut self, seen: &Observation, findings: &[Finding]) -> Result<Status, Failure> {
        if self.state.errant().is_some() && self.params().rejoin == Rejoin::Clone && !self.is_cramped().await {
            // The restart that follows finds time for the copy. It needs room. Where transactions may be taken back, nobody waits for a restart.
            return Err(Failure::generic(self.errant_reason().await));
        }
        Ok(self.status(seen, findings).await)
    }

    /// A server that is open for writes and that we did not promote: taken over when nobody is recorded (a running
    /// replication comes under Pacemaker) or the record names us; otherwise closed and reported.
    async fn unexpected_primary(&mut self, seen: &Observation) -> Result<(), Failure> {
        let record = self.record().await?;
        let me = self.me()?;
        let named = record.as_ref().is_none_or(|r| r.node == me);
        let follows = self.replica().await?.is_some_and(|r| r.receiver != Thread::Stopped);
        // What this agent started or demoted is closed. Somebody else opened it, and its successor may be about to open.
        if named && !follows && !self.state.ours() && self.rules.clustered {
            self.notice("taking over a running primary").await;
            self.state.take_over();
            self.take_up_reign(record.as_ref(), seen).await;
            return Ok(());
        }
        self.close().await?;
        let why = match record {
            Some(_) | None if self.state.ours() && named && !follows => "it was not promoted, and somebody set read_only=0".to_owned(),
            Some(record) if record.node != me => format!("{} is the recorded primary", record.node),
            _ if follows => "it is a replica".to_owned(),
            _ => "nobody promoted it".to_owned(),
        };
        Err(Failure::promoted(format!("the server was open for writes, but {why}: it was closed")))
    }

    /// What a server is worth to readers.
    fn is_readable(&self, seen: &Observation) -> bool {
        let Some(replica) = &seen.replica else { return false };
        let fresh = match (self.params().max_lag, replica.behind) {
            (None, _) => true,
            (Some(limit), Some(behind)) => behind <= limit,
            (Some(_), None) => false,
        };
        self.state.errant().is_none() && replica.attached() && replica.applier == Thread::Running && fresh
    }

    /// Publishes the reader attribute when it changed.
    async fn publish_readable(&mut self, readable: bool) {
        let now = self.now();
        let stands = |(value, at): (bool, _)| value == readable && self.is_recent(Some(at), limits::READABLE_STANDS);
        if !self.rules.clustered || self.state.told.readable.is_some_and(stands) {
            return;
        }
        match self.perform(OfAttributes::PublishReadable(readable)).await {
            Ok(()) => self.state.told.readable = Some((readable, now)),
            Err(e) => self.warning(format!("the reader attribute cannot be published: {e}")).await,
        }
    }

    /// Publishes whether writes go on when that changed.
    async fn publish_writes(&mut self) {
        if !self.must_wait() {
            self.state.as_primary(|primary| primary.blocked = None);
        }
        let go_on = self.state.primary().is_none_or(|primary| primary.blocked.is_none());
        let now = self.now();
        let stands = |(value, at): (bool, _)| value == go_on && self.is_recent(Some(at), promotable::limits::WRITES_STAND);
        if !self.rules.clustered || self.state.told.writes.is_some_and(stands) {
            return;
        }
        match self.perform(OfCluster::PublishWrites(go_on)).await {
            Ok(()) => self.state.told.writes = Some((go_on, now)),
            Err(e) => self.warning(format!("whether writes go on cannot be published: {e}")).await,
        }
    }

    async fn read_test_table(&mut self) -> Result<(), Failure> {
        let Some(table) = self.params().test_table.clone() else { return Ok(()) };
        let Err(fault) = self.tell(Word::ReadTestTable(table.clone())).await else { return Ok(()) };
        let reason = format!("test_table {table} cannot be read: {fault}");
        Err(if self.state.promoted() { Failure::promoted(reason) } else { Failure::generic(reason) })
    }

    /// The time is over for which it stands back: the score is what the server is worth again.
    fn stand_up(&mut self) {
        let now = self.now();
        self.state.as_unpromoted(|unpromoted| unpromoted.stands_back = unpromoted.stands_back.filter(|(_, until)| now < *until));
    }

    /// Publishes the promotion score when it changed.
    async fn tell_score(&mut self, seen: &Observation) {
        if !self.rules.clustered {
            return;
        }
        if let Some(score) = self.state.stands_at() {
            return self.offer(score).await;
        }
        let now = self.now();
        let attached =
            self.state.process.as_ref().is_some_and(|process| process.linked) || seen.replica.as_ref().is_some_and(Replica::attached);
        let held = self.state.held_until().is_some_and(|until| now < until);
        let cold = !self.state.promoted() && !attached && !held;
        // Only a cold start has to ask the CIB.
        let recorded = match if cold { self.record().await } else { Ok(None) } {
            Ok(record) => record.is_some_and(|r| self.is_me(&r.node)),
            Err(e) => return self.warning(format!("no promotion score, because the record cannot be read: {e}")).await,
        };
        let behind = seen.replica.as_ref().and_then(|r| r.behind);
        // What keeps a receiver from a primary that is dead, or may be, says nothing against this server.
        let applies = seen.replica.as_ref().is_none_or(|r| r.applier_error.is_none());
        let of_its_source = applies && (self.state.rest().is_some() || seen.replica.as_ref().is_some_and(Replica::misses_its_source));
        let broken = self.state.broken_for() > 1;
        let circumstances = Circumstances {
            promoted: self.state.promoted(),
            attached,
            broken: self.state.errant().is_some() || broken && !of_its_source,
            lagging: broken || self.params().max_lag.zip(behind).is_some_and(|(limit, behind)| behind > limit),
            cramped: self.is_cramped().await,
            held,
            recorded,
            has_data: !seen.executed.is_empty(),
        };
        self.offer(preference::score(circumstances)).await;
    }

    fn full_disk(&self) -> String {
        format!("the disk of {} is full: free space", self.params().datadir.display())
    }

    async fn status(&mut self, seen: &Observation, findings: &[Finding]) -> Status {
        match (self.complaint(seen, findings).await, self.state.promoted()) {
            (None, true) => Status::Promoted,
            (None, false) => Status::Running,
            (Some(why), true) => Status::DegradedPromoted(why),
            (Some(why), false) => Status::Degraded(why),
        }
    }

    /// What an operator should see of a server that answers: the first that is wrong, what matters most first.
    async fn complaint(&mut self, seen: &Observation, findings: &[Finding]) -> Option<String> {
        if self.is_cramped().await {
            return Some(self.full_disk());
        }
        if self.state.errant().is_some() {
            return Some(self.errant_reason().await);
        }
        let of_its_role = || match &self.state.role {
            Role::Primary(primary) => self.complaint_of_primary(primary, seen),
            Role::Unpromoted(unpromoted) => self.complaint_of_replica(unpromoted, seen),
        };
        premises::forbidding(findings, self.wanted())
            .map(|finding| finding.text.clone())
            .or_else(of_its_role)
            .or_else(|| premises::shown(findings).map(str::to_owned))
    }

    fn complaint_of_primary(&self, primary: &Primary, seen: &Observation) -> Option<String> {
        let waits_not = self.must_wait() && !seen.waits;
        let begins = || "the primary does not wait for replicas yet: it will when enough of them acknowledge".to_owned();
        let twin = self.state.twin.as_ref();
        let doubtful = primary.contested.as_ref().or(primary.intruded.as_ref()).or(twin).or(primary.weakened.as_ref());
        doubtful.cloned().or_else(|| waits_not.then(begins)).or_else(|| primary.blocked.as_ref().map(|(why, _)| why.clone()))
    }

    fn complaint_of_replica(&self, unpromoted: &Unpromoted, seen: &Observation) -> Option<String> {
        let broken = unpromoted.broken.as_ref().filter(|broken| broken.monitors > 1).map(|broken| broken.why.clone());
        let refused = || unpromoted.refused.as_ref().map(|why| format!("not promoted: {why}"));
        let alone = || {
            (unpromoted.alone_for > ALONE && self.rules.clustered).then(|| {
                "this server follows nobody: no primary is promoted; see the log of the promotion's candidate for the reason".to_owned()
            })
        };
        let behind = seen.replica.as_ref().and_then(|r| r.behind);
        let lag = || {
            let limit = self.params().max_lag.filter(|limit| behind.is_some_and(|behind| behind > *limit))?;
            Some(format!("more than {limit} s behind the primary (max_slave_lag): look for a long transaction, or a slow disk"))
        };
        broken.or_else(refused).or_else(|| unpromoted.trouble.clone()).or_else(alone).or_else(lag)
    }
}
/// A status with one more thing that an operator should see.
fn also(status: Status, why: &str) -> Status {
    match status {
        Status::Promoted => Status::DegradedPromoted(why.to_owned()),
        Status::DegradedPromoted(first) => Status::DegradedPromoted(format!("{first}; {why}")),
        Status::Running => Status::Degraded(why.to_owned()),
        Status::Degraded(first) => Status::Degraded(format!("{first}; {why}")),
        other => other,
    }
}
