//! `start`: the server runs, closed for writes, following nobody or the primary.

use std::time::Duration;

use ocf::{Failure, Outcome, Peers};
use process::Identity;
use promotable::limits::SHORTEST_GRACE;

use super::replication::NOT_ENDED;
use super::{Instance, Launched, OfDaemon, OfHost, OfProcess, OfServer, Sight, Word, answer, no_such_failure, no_such_fault};
use crate::election::Divergence;
use crate::limits;
use crate::observation::Observation;
use crate::preference::{Circumstances, score};
use crate::premises::{self, Finding, Weight};
use crate::record::Record;
use crate::server::Fault;

/// How often a server is looked at that a start before this one began.
const COMING_UP_STEP: Duration = Duration::from_millis(20);

impl Instance<'_> {
    /// Starts the server. Returns of which primary it has diverged, if it is to be made to follow that.
    pub(crate) async fn start(mut self, peers: Peers) -> Result<Option<String>, Failure> {
        if let Some(process) = self.find().await {
            return self.start_running(&process).await.map(|()| None);
        }
        self.perform(OfHost::MayStart).await?;
        self.withdraw_position().await?;
        // According to the lists that come with a clone's actions.
        let me = self.me()?;
        let other = |members: &[ocf::Member]| members.iter().map(|m| m.node.clone()).find(|node| node != me);
        let (primary, successor) = (other(&peers.promoted), other(&peers.promote));
        if answer!(self.ask(OfHost::NeedsCopyFirst).await, Whether, no_such_failure)? {
            return self.copy_first(primary).await.map(Some);
        }
        self.perform(OfHost::MakeData).await?;
        let patience = match successor {
            // Its promotion comes after this start.
            Some(successor) => {
                self.notice(format!("not waiting for the server's recovery: {successor} is about to be promoted")).await;
                Duration::ZERO
            }
            None => limits::RECOVERY.min(self.left().saturating_sub(limits::AFTER_RECOVERY)),
        };
        let Some(seen) = self.launch(patience, &peers).await? else {
            // It was promoted long before, so no notification will name it: the monitor that finds the server up has to know.
            if let Some(primary) = primary.filter(|_| !patience.is_zero()) {
                self.state.follow(&primary);
                self.save().await?;
            }
            return Ok(None);
        };
        // Read after the start: what this server may have acknowledged before counts up to a record that stands now.
        let record = self.record().await?;
        let recorded = record.as_ref().is_some_and(|r| self.is_me(&r.node));
        self.state.memory.learn(record.as_ref().map(Record::stamp).unwrap_or_default());
        self.save().await?;
        let rejoins = self.params().rejoin.copies() || self.params().rejoin.takes_back();
        match primary {
            Some(primary) if rejoins && self.rejoin_is_unfinished().await => {
                self.state.follow(&primary);
                self.refuse_to_follow(&primary, Divergence::Errant(NOT_ENDED.to_owned())).await?;
                Ok(Some(primary))
            }
            Some(primary) => {
                self.rejoin(&primary, record.as_ref()).await?;
                Ok((self.state.errant().is_some() && rejoins).then_some(primary))
            }
            // Nobody is promoted: say at once what this server is worth. With a primary in office the monitor does, so
            // that no score changes during somebody else's transition.
            None => {
                if self.rules.clustered {
                    let has_data = !seen.have().is_empty();
                    self.offer(score(Circumstances { recorded, has_data, ..Circumstances::default() })).await;
                }
                Ok(None)
            }
        }
    }

    /// The data here are neither the old nor the new ones.
    async fn copy_first(&mut self, primary: Option<String>) -> Result<String, Failure> {
        let source = match primary {
            Some(primary) => Some(primary),
            // After a restart of all: the next primary, probably; if it is not, the copy fails and is begun anew.
            None => self.record().await?.map(|record| record.node).filter(|node| !self.is_me(node)),
        };
        match (source, self.params().rejoin.copies()) {
            (Some(source), true) => Ok(source),
            _ => Err(Failure::generic(format!(
                "datadir {} holds no complete data, because a copy of the primary's was begun and not ended: set rejoin=clone and start \
                 this instance when there is a primary, or make this replica anew (docs/mysql.md)",
                self.params().datadir.display()
            ))),
        }
    }

    /// `start` of a server that runs: nothing to do but to make sure that it is no primary by its own opinion.
    async fn start_running(&mut self, process: &Identity) -> Outcome {
        if !self.state.ours() {
            if let Some(why) = self.texts(OfProcess::Objections(process.clone())).await.into_iter().next() {
                return Err(Failure::generic(why));
            }
        }
        let sight = loop {
            let limit = self.within(limits::ANSWER);
            match self.look(process, limit).await {
                // A start before this one was killed, and its server is not up yet.
                Sight::Deaf { alive: true, .. } if !self.left().is_zero() => self.wait(COMING_UP_STEP).await,
                sight => break sight,
            }
        };
        match sight {
            Sight::Answered(seen, _) => {
                self.take_charge().await?;
                if !seen.closed && !self.state.promoted() {
                    self.tell(Word::CloseWrites(limits::ANSWER)).await?;
                    self.notice("the server was running open for writes: closed until the election").await;
                }
            }
            Sight::Engaged(_) | Sight::Working(_) => {}
            Sight::Stuck(why) => {
                return Err(Failure::generic(format!("the server (pid {}) runs but is stuck: {why}; stop it", process.pid)));
            }
            Sight::Deaf { why, .. } => return Err(Failure::generic(why)),
            Sight::Refuses(fault) => return Err(fault.at_start()),
        }
        self.save().await?;
        self.notice(format!("the server runs already (pid {})", process.pid)).await;
        Ok(())
    }

    /// What a server needs that we did not start, or that has just come up: its dialect, its plugins.
    pub(super) async fn take_charge(&mut self) -> Outcome {
        let found = *answer!(self.ask(OfServer::Equip).await, Equipped, no_such_fault)?;
        self.dialect = found.dialect.clone();
        let filters = found.filters;
        self.state.of_process(|process| process.filters = filters);
        let findings = self.findings(&found.seen).await;
        let wanted = self.wanted();
        if let Some(finding) = premises::forbidding(&findings, wanted) {
            let why = found.unloaded.map(|fault| format!(" (its plugins cannot be loaded: {fault})"));
            return Err(Failure::installed(format!("{}{}", finding.text, why.unwrap_or_default())));
        }
        if self.rules.clustered {
            let dialect = Box::new(self.dialect.clone());
            self.perform(OfHost::CheckPassword(dialect)).await?;
        }
        self.load_clone_if_wanted().await;
        let few = self.rules.servers.is_some_and(|n| n as usize <= self.params().acknowledgements + 1);
        if few && wanted.lossless {
            self.notice("durability=lossless with so few servers: the loss of a replica stops writes").await;
        }
        match found.unknown_disks {
            None => self.state.of_process(|process| process.disks = found.disks),
            Some(why) => {
                let datadir = self.params().datadir.display();
                self.warning(format!("only the disk of {datadir} is watched: {why}")).await;
            }
        }
        self.state.of_process(|process| {
            process.dialect = Some(found.dialect);
            process.answered = true;
            process.ours = true;
        });
        Ok(())
    }

    /// Loads the clone plugin with rejoin=clone. The primary needs it as well, and any server may become one.
    async fn load_clone_if_wanted(&mut self) {
        if !self.params().rejoin.copies() || !self.dialect.has_clone_plugin() {
            return;
        }
        if let Err(fault) = self.tell(Word::LoadClone).await {
            let why = format!("rejoin=clone is not possible with server {}: {fault}", self.dialect.version);
            self.warning(why).await;
        }
    }

    /// What the promise rests on and does not hold.
    pub(super) async fn findings(&mut self, seen: &Observation) -> Vec<Finding> {
        let exposed = self.texts(OfHost::Exposed).await.into_iter().map(|text| Finding { weight: Weight::Shown, text });
        let filters = self.state.process.as_ref().map_or("", |process| &process.filters);
        premises::findings(&self.dialect, seen, filters, self.wanted()).into_iter().chain(exposed).collect()
    }

    /// Starts the process, closed, and waits until the server answers; `None` when it still recovers after `patience`.
    ///
    /// # Errors
    /// What the server said before it ended.
    pub(super) async fn launch(&mut self, patience: Duration, peers: &Peers) -> Result<Option<Box<Observation>>, Failure> {
        let dying = self.still_there().await;
        let fresh = self.state.of_new_process(dying);
        let event = self.ask(OfDaemon::Launch(Box::new(fresh), patience)).await;
        let Launched { state, seen } = answer!(event, Launched, no_such_failure)?;
        self.state = *state;
        let Some((seen, dialect)) = seen else { return Ok(None) };
        self.dialect = *dialect;
        let taken = match self.take_charge().await {
            Ok(()) => self.check_server_id(&seen, peers).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = taken {
            if let Some(process) = self.state.server().cloned() {
                let limit = limits::ENDS_AT_ONCE.min(self.left());
                self.ask(OfProcess::Terminate(process, limit)).await;
            }
            return Err(failure);
        }
        self.save().await?;
        Ok(Some(seen))
    }

    /// Starts the process in the course of a copy; whether it answers.
    pub(crate) async fn launch_to_copy(mut self, patience: Duration, peers: Peers) -> Result<bool, Failure> {
        Ok(self.launch(patience, &peers).await?.is_some())
    }

    /// Takes over changed parameters without a restart. What cannot be told to the server now, its next monitor tells it.
    pub(crate) async fn reload(mut self) -> Outcome {
        self.state.addresses.clear();
        // First: what is remembered of a process is forgotten when it finds another.
        let found = self.find().await;
        self.state.of_process(|process| process.reload_pending = true);
        self.save().await?;
        if found.is_none() {
            return Ok(());
        }
        self.reach(limits::ANSWER).await?;
        if self.state.promoted() {
            let seen = self.observe().await?;
            self.tell_parameters(&seen).await?;
            self.tend_members(&seen).await;
        } else {
            self.load_clone_if_wanted().await;
            self.state.of_process(|process| process.reload_pending = false);
        }
        self.save().await
    }

    /// Tells a server what the parameters mean that may change while it runs.
    pub(super) async fn tell_parameters(&mut self, seen: &Observation) -> Result<(), Fault> {
        self.load_clone_if_wanted().await;
        if self.state.promoted() && seen.events_run != self.params().event_scheduler {
            self.tell(Word::EventScheduler(self.params().event_scheduler)).await?;
        }
        self.state.of_process(|process| process.reload_pending = false);
        Ok(())
    }

    /// How long a server may take to end by itself, of `grace` at most. An orderly shutdown *releases* commits that wait for a replica, as
    /// acknowledged although nobody has them: a server with such commits, or that cannot be asked, is killed.
    pub(crate) async fn grace_at_stop(mut self, process: Identity, grace: Duration) -> Duration {
        let grace = self.grace(process, grace).await;
        // To find that out took its time as well.
        grace.min(self.left().saturating_sub(limits::KILL_RESERVE).max(SHORTEST_GRACE))
    }

    async fn grace(&mut self, process: Identity, grace: Duration) -> Duration {
        match self.look(&process, limits::ANSWER_AT_STOP).await {
            Sight::Answered(seen, _) => {
                if !seen.waits {
                    return grace;
                }
                // A stop without a demotion. Closed first, so that nothing new comes to wait.
                let closed = self.close().await;
                let waiting = self.semi_sync().await.map_or(1, |status| status.waiting);
                if closed.is_ok() && waiting == 0 {
                    return grace;
                }
                self.warning(format!("{waiting} commits wait for a replica: the server is killed, so that none of them is acknowledged"))
                    .await;
                Duration::ZERO
            }
            Sight::Engaged(why) | Sight::Working(why) if !self.state.promoted() => {
                self.notice(format!("the server is busy: {why}")).await;
                // MariaDB sometimes never ends when it is told to while it starts. A recovery that is killed begins anew, and
                // after a crash the promotion of the successor waits for this stop.
                match (self.state.answered(), self.state.held_until()) {
                    (true, _) => grace,
                    (false, None) => grace.min(limits::STARTING_GRACE),
                    (false, Some(_)) => Duration::ZERO,
                }
            }
            Sight::Refuses(fault) if !self.state.promoted() => self.unasked_grace(&fault.to_string(), grace).await,
            Sight::Deaf { why, .. } if !self.state.promoted() => self.unasked_grace(&why, grace).await,
            Sight::Engaged(why) | Sight::Working(why) | Sight::Stuck(why) | Sight::Deaf { why, .. } => self.no_grace(&why).await,
            Sight::Refuses(fault) => self.no_grace(&fault.to_string()).await,
        }
    }

    async fn unasked_grace(&mut self, why: &str, grace: Duration) -> Duration {
        self.notice(format!("the server cannot be asked: {why}")).await;
        grace
    }

    async fn no_grace(&mut self, why: &str) -> Duration {
        self.warning(format!("killing the server: {why}")).await;
        Duration::ZERO
    }
}

impl Fault {
    /// The same for a server that is only being started: that node has to be corrected first.
    pub(crate) fn at_start(self) -> Failure {
        match self {
            Self::Denied(text) => Failure::permission(text),
            other => other.into(),
        }
    }
}
