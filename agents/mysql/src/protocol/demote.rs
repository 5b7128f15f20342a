//! `demote`: closed → clients cut → final transactions published. The replicas go on receiving. What cannot be closed is killed.

use std::time::Duration;

use ocf::{Failure, Outcome, Peers};
use process::Identity;

use super::{Instance, OfDaemon, OfHost, OfProcess, OfServer, Sight, Word, answer, no_such_fault};
use crate::election::Unfit;
use crate::limits;
use crate::observation::Observation;
use crate::server::Fault;

impl Instance<'_> {
    /// Makes sure that this server is not a primary: closed if it can be, otherwise dead.
    pub(crate) async fn demote(mut self, peers: Peers) -> Outcome {
        let Some(process) = self.find().await else {
            self.notice("the server is dead: it is not a primary any more").await;
            return self.restart_demoted(&peers).await;
        };
        let limit = limits::SILENT_IN_DEMOTION.min(self.left() / 3);
        let why = match self.look(&process, limit).await {
            Sight::Answered(seen, _) => match self.hand_down(&seen).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure.reason,
            },
            Sight::Engaged(why) | Sight::Working(why) if !self.state.answered() => {
                // It never was a primary: it is recovering.
                self.notice(why).await;
                return Ok(());
            }
            Sight::Engaged(why) | Sight::Working(why) | Sight::Stuck(why) | Sight::Deaf { why, .. } => why,
            Sight::Refuses(fault) => fault.to_string(),
        };
        self.error(format!("the server cannot be demoted, so it is killed: {why}")).await;
        self.kill_surely(process).await?;
        self.restart_demoted(&peers).await
    }

    /// Kills it, and waits until it is no primary any more: when nothing of it will run again. It answers no client then, acknowledges
    /// no write and sends none to a replica. What a thread of it had asked of the kernel before may yet come to its disk, where a crash
    /// could have left it as well: nobody was told of it. Its memory and the locks of its files are waited for by what starts the next one.
    async fn kill_surely(&mut self, process: Identity) -> Outcome {
        let pid = process.pid;
        self.ask(OfProcess::Kill(process.clone())).await;
        let limit = self.left().max(limits::KILLED);
        if self.flag(OfDaemon::Dead(process, limit)).await {
            return Ok(());
        }
        Err(Failure::generic(format!(
            "the server (pid {pid}) can neither be demoted nor killed: see what holds it (a debugger, a frozen control group)"
        )))
    }

    /// The orderly way.
    async fn hand_down(&mut self, seen: &Observation) -> Outcome {
        let was_promoted = self.state.promoted();
        if !seen.closed || was_promoted {
            self.close().await?;
        }
        self.milestone("closed").await;
        self.stop_events(seen).await?;
        if was_promoted {
            let cut = self.count(OfServer::CutClients).await?;
            self.tell(Word::Settle).await?;
            // Whoever writes here by hand from now on is told that it is done.
            self.perform(OfHost::ForgetReign).await?;
            self.notice(format!("demoted, {cut} sessions ended")).await;
        }
        self.state.end_reign();
        self.save().await?;
        self.milestone("demotion-remembered").await;
        if was_promoted {
            // It is closed. That the others cannot be told is no reason to kill it.
            let told = match self.record_for_election().await {
                Ok(record) => self.publish_position(record.as_ref(), false).await,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = told {
                self.warning(format!("the others are not told what this server holds: {failure}")).await;
            }
        }
        Ok(())
    }

    /// Events run on no server but the primary, whoever switched them on: that of an account that may write on a closed server does. Where this
    /// agent does not run them, its account need not be allowed to.
    pub(super) async fn stop_events(&mut self, seen: &Observation) -> Outcome {
        if !seen.events_run && !self.params().event_scheduler {
            return Ok(());
        }
        match self.tell(Word::EventScheduler(false)).await {
            Err(Fault::Denied(words)) if !self.params().event_scheduler => {
                self.warning(format!("events run here, on what is no primary: SET GLOBAL event_scheduler=OFF ({words})")).await;
                Ok(())
            }
            done => Ok(done?),
        }
    }

    /// Closes the server for writes. What keeps it from that is ended: sessions that hold locks. Where commits wait for a
    /// replica the server has to die: MySQL's ignore that, and MariaDB would tell others that their commits are done.
    pub(super) async fn close(&mut self) -> Outcome {
        self.tell(Word::LockPatience).await?;
        let Err(first) = self.tell(Word::CloseWrites(limits::CLOSING)).await else { return Ok(()) };
        if matches!(first, Fault::Denied(_)) {
            return Err(first.into());
        }
        self.reach(limits::ANSWER).await?;
        // With replicas there, what waits is on its way; without them nothing comes.
        let awaited = !answer!(self.ask(OfServer::Attached).await, Attached, no_such_fault)?.is_empty();
        let begin = self.now();
        let patience = if awaited { self.within(limits::PLANNED) } else { limits::LOOK };
        let stuck = self.count(OfServer::StuckCommits(patience)).await?;
        if stuck > 0 {
            return Err(Failure::generic(format!("{stuck} commits wait for a replica")));
        }
        // It was they that kept the server from closing, perhaps.
        self.tell(Word::LockPatience).await?;
        let elapsed = self.now().saturating_sub(begin);
        if elapsed > limits::CLOSING / 5 && self.tell(Word::CloseWrites(limits::CLOSING)).await.is_ok() {
            return Ok(());
        }
        if !self.flag(OfServer::IsConnected).await {
            self.reach(limits::ANSWER).await?;
        }
        self.warning(format!("the server does not become read-only ({first}): ending the sessions of clients")).await;
        self.count(OfServer::CutClients).await?;
        self.tell(Word::LockPatience).await?;
        Ok(self.tell(Word::CloseWrites(limits::CLOSING * 2)).await?)
    }

    /// Starts a dead primary again, without waiting for its recovery. Otherwise the first monitor after the demotion
    /// would find no server, and the cluster would stop and start this instance *before* it promotes the successor.
    async fn restart_demoted(&mut self, peers: &Peers) -> Outcome {
        self.state.end_reign();
        let until = self.now() + limits::HELD;
        self.state.as_unpromoted(|unpromoted| unpromoted.held_until = Some(until));
        self.save().await?;
        if !self.rules.clustered {
            return Ok(());
        }
        // Said first: the replicas wait for no more from here.
        let told = match self.record_for_election().await {
            Ok(record) => self.publish_nowhere(record.as_ref(), Unfit::NoServer).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = told {
            self.warning(format!("the others are not told that this server is dead: {failure}")).await;
        }
        self.save().await?;
        match self.launch(Duration::ZERO, peers).await {
            Ok(_) => self.stand_back(true).await,
            Err(failure) => self.error(format!("the dead server cannot be started again: {failure}")).await,
        }
        Ok(())
    }
}
