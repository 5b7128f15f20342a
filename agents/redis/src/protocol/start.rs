//! `start`: the server runs, as a replica that takes no writes. It is never started as a replica of the primary: its data would be gone
//! before anybody looked at them.

use std::time::Duration;

use ocf::{Failure, Outcome, Peers};
use process::Identity;

use super::{Answer, Event, Instance, OfProcess, OfServer, Sight, Word};
use crate::info::{Info, ReplicationRole};
use crate::limits;
use crate::preference::{Circumstances, score};
use crate::server::{Fault, Observation};

impl Instance<'_> {
    /// Starts the server as a replica that takes no writes.
    pub(crate) async fn start(mut self, peers: Peers) -> Outcome {
        if let Some(process) = self.find().await {
            return self.start_running(process).await;
        }
        self.perform(OfServer::MayStart).await?;
        self.withdraw_position().await?;
        let me = self.me()?;
        let other = |members: &[ocf::Member]| members.iter().map(|m| m.node.clone()).find(|node| node != me);
        // According to the lists that come with a clone's actions.
        let (promoted, successor) = (other(&peers.promoted), other(&peers.promote));
        let patience = match successor {
            // Its promotion comes after this start.
            Some(successor) => {
                self.notice(format!("not waiting until the data are loaded: {successor} is about to be promoted")).await;
                Duration::ZERO
            }
            None => limits::LOADING.min(self.left()),
        };
        match (self.launch(promoted.clone(), patience).await?, promoted) {
            // Still loading: the first monitor afterwards makes it follow.
            (None, _) => Ok(()),
            (Some(seen), Some(primary)) => {
                self.part_with_data(&seen.info).await;
                self.tell(Word::Follow(primary.clone())).await?;
                self.notice(format!("following {primary}")).await;
                Ok(())
            }
            // Nobody is promoted: say at once what this server is worth. With a primary in office the monitor does, so
            // that no score changes during somebody else's transition.
            (Some(seen), None) if self.rules.clustered => self.first_score(&seen).await,
            (Some(_), None) => Ok(()),
        }
    }

    /// `start` of a server that runs: nothing to do but to make sure that it is no primary by its own opinion.
    async fn start_running(&mut self, process: Identity) -> Outcome {
        if !self.state.ours() {
            if let Some(why) = self.texts(OfProcess::Objections(process.clone())).await.into_iter().next() {
                return Err(Failure::generic(why));
            }
        }
        match self.look_when_up(&process).await {
            Sight::Answered(seen) => {
                self.perform(OfServer::SetReplicationLogin).await?;
                if !self.state.ours() {
                    self.adopt(&seen).await?;
                }
                if seen.info.role == ReplicationRole::Primary && !self.state.promoted() {
                    self.tell(Word::CloseGate).await?;
                    self.tell(Word::FollowNobody).await?;
                    self.notice("the server was running as a primary: closed for writes, and a replica of nobody until the election").await;
                }
            }
            Sight::Engaged(_) | Sight::Working(_) => {}
            // Started by the agent, so it is closed for writes; the monitor says what is to be corrected.
            Sight::Unasked(fault) if self.state.ours() => {
                self.warning(format!("the server runs and cannot be asked: {fault}")).await;
            }
            Sight::Unasked(fault) => return Err(at_start(fault)),
            Sight::Ended => return Err(Failure::generic("the server that was running ended just now; see its log")),
            Sight::Deaf(_) => {
                return Err(Failure::generic(format!(
                    "a server that somebody else started (pid {}) runs on these data, without the socket {}: stop it for good, for example \
                     with: systemctl disable --now redis-server",
                    process.pid,
                    self.rules.params.socket.display()
                )));
            }
            Sight::Still(why) | Sight::Stuck(why) => {
                return Err(Failure::generic(format!("the server (pid {}) runs but is stuck: {why}; stop it", process.pid)));
            }
        }
        self.save().await?;
        self.notice(format!("the server runs already (pid {})", process.pid)).await;
        Ok(())
    }

    /// Looks until it listens. A start before this one may have been killed, and its server is not up yet.
    async fn look_when_up(&mut self, process: &Identity) -> Sight {
        let until = self.now() + if self.state.ours() { limits::COMING_UP } else { limits::SOMEBODY_ELSES };
        loop {
            let limit = limits::step(limits::ANSWER, self.left());
            match self.look(process, limit).await {
                Sight::Deaf(_) if self.now() < until && !self.left().is_zero() => {
                    self.wait(Duration::from_millis(5)).await;
                }
                sight => return sight,
            }
        }
    }

    /// A server that somebody else started lacks what our command line would have set.
    pub(super) async fn adopt(&mut self, seen: &Observation) -> Result<(), Fault> {
        self.tell(Word::Adopt(seen.info.role == ReplicationRole::Replica)).await?;
        self.notice("took over a server that was started by somebody else").await;
        self.state.of_process(|process| process.ours = true);
        Ok(())
    }

    async fn first_score(&mut self, seen: &Observation) -> Outcome {
        let me = self.me()?;
        let recorded = self.record().await?.is_some_and(|r| r.node == me);
        self.offer(score(&seen.info, Circumstances { promoted: false, linked: false, held: false, recorded })).await;
        Ok(())
    }

    /// Starts the process as a replica of nobody, and waits until the server answers; `None` when it still loads its data after
    /// `patience`. It is meant to follow `primary` later.
    pub(super) async fn launch(&mut self, primary: Option<String>, patience: Duration) -> Result<Option<Box<Observation>>, Failure> {
        self.state = self.state.before_launch(primary);
        let launch = OfServer::Launch(Box::new(self.state.clone()), patience);
        let event = self.ask(launch).await;
        let launched = match event {
            Event::Own(Answer::Launched(launched)) => launched,
            other => Err(Failure::generic(other.confused())),
        };
        let (process, seen) = launched?;
        self.state.has_started(process);
        Ok(seen)
    }

    /// Before a server that was started with data attaches to a primary, which will replace them: says what only this
    /// server has, and keeps the files when that is not nothing.
    pub(super) async fn part_with_data(&mut self, info: &Info) {
        if !info.has_keys {
            return;
        }
        let excess = match self.record().await {
            Ok(record) => record.and_then(|record| record.excess(&info.replid, info.offset)),
            // What cannot be compared now is kept, as what never can be.
            Err(e) => {
                self.warning(e.reason).await;
                None
            }
        };
        let what = match excess {
            Some(0) => return,
            Some(bytes) => format!("at most {bytes} bytes of the replication stream are on this server only, and are given up"),
            None => "the data of this server have no position that could be compared with the primary's, and are replaced".to_owned(),
        };
        self.warning(what).await;
        if self.rules.params.keep_diverged {
            if let Err(e) = self.perform(OfServer::KeepFiles(excess)).await {
                self.warning(format!("its data files are not kept: {e}")).await;
            }
        }
    }
}

/// Why a server cannot be started: a login that it refuses is wrong on this node, until somebody corrects it.
pub(crate) fn at_start(fault: Fault) -> Failure {
    match fault {
        Fault::Denied(text) => Failure::permission(text),
        other => other.into(),
    }
}
