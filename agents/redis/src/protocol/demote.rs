//! `demote`: gate closed → the replicas have everything → clients cut → replica of nobody. What cannot be made a replica is ended.
//!
//! The time is for the orderly way first (half of it); then the server is told to end, and gives its replicas what it has, as a server does
//! that ends by itself; and only one that cannot act on that is killed.

use std::time::Duration;

use ocf::{Failure, Outcome, Peers};
use process::Identity;

use super::{Answer, Event, Instance, OfProcess, OfServer, Sight, Word};
use crate::info::{Info, ReplicationRole};
use crate::limits;
use crate::server::Fault;

/// What is left when the orderly way is not to be had.
enum Resort {
    /// Nothing: the server has ended.
    Gone,
    /// It is told to end.
    End(String),
    /// It cannot act on anything, and would be a primary again when it wakes up.
    Kill(String),
}

impl Instance<'_> {
    /// Makes sure that this server is not a primary: a replica if it can be made one, otherwise ended.
    pub(crate) async fn demote(mut self, peers: Peers) -> Outcome {
        let Some(process) = self.find().await else {
            self.notice("the server is dead: it is not a primary any more").await;
            return self.restart_demoted().await;
        };
        match self.hand_down_in_time(&peers, &process).await {
            Ok(()) => return Ok(()),
            Err(Resort::Gone) => self.notice("the server has ended: it is not a primary any more").await,
            Err(Resort::End(why)) => {
                self.error(format!("the server cannot be demoted, so it is told to end: {why}")).await;
                let half = self.left() / 2;
                if !self.flag(OfProcess::Terminate(process.clone(), half)).await {
                    self.error("the server did not end in time, so it is killed").await;
                    self.ask(OfProcess::Kill(process.clone())).await;
                }
            }
            Err(Resort::Kill(why)) => {
                self.error(format!("the server cannot be demoted, so it is killed: {why}")).await;
                self.ask(OfProcess::Kill(process.clone())).await;
            }
        }
        let rest = self.left().max(limits::KILLED);
        if !self.flag(OfProcess::Gone(process.clone(), rest)).await {
            return Err(Failure::generic(format!(
                "the server (pid {}) can neither be demoted nor killed: it hangs in the kernel, probably on its disk",
                process.pid
            )));
        }
        self.restart_demoted().await
    }

    /// The orderly way, tried until half of the time is gone when the server is busy: what it works on ends, and what it holds is worth
    /// more than the time.
    async fn hand_down_in_time(&mut self, peers: &Peers, process: &Identity) -> Result<(), Resort> {
        let until = self.now() + self.left() / 2;
        let mut told = false;
        loop {
            let limit = limits::SILENT_IN_DEMOTION.min(self.left() / 3);
            let (busy, why) = match self.look(process, limit).await {
                Sight::Answered(seen) => match self.hand_down(peers, &seen.info).await {
                    Ok(()) => return Ok(()),
                    // The next look tells a busy one from a frozen one.
                    Err(fault) => (!matches!(fault, Fault::Denied(_) | Fault::Refused(_)), fault.to_string()),
                },
                Sight::Engaged(why) | Sight::Working(why) => (true, why),
                Sight::Unasked(fault) => (matches!(fault, Fault::Closed(_)), fault.to_string()),
                Sight::Deaf(why) => {
                    let limit = limits::ENDING.min(self.left() / 3);
                    if self.flag(OfProcess::Gone(process.clone(), limit)).await {
                        return Err(Resort::Gone);
                    }
                    (false, why)
                }
                Sight::Ended => return Err(Resort::Gone),
                Sight::Still(why) | Sight::Stuck(why) => return Err(Resort::Kill(why)),
            };
            if !busy || self.now() >= until {
                return Err(Resort::End(why));
            }
            if !std::mem::replace(&mut told, true) {
                self.warning(format!("waiting until the server can be demoted: {why}")).await;
            }
            self.wait(Duration::from_millis(20)).await;
        }
    }

    /// The orderly way.
    ///
    /// The gate and not a pause: a client learns at once that its write was refused, and the replicas can be asked
    /// how far they are, which a paused server does not do.
    async fn hand_down(&mut self, peers: &Peers, info: &Info) -> Result<(), Fault> {
        self.tell(Word::CloseGate).await?;
        self.set_back().await;
        if info.role == ReplicationRole::Primary {
            self.drain(peers).await?;
            // Whoever stays connected to a replica is refused there.
            let cut = self.tell(Word::CutClients).await;
            self.permitted(cut).await?;
            self.tell(Word::FollowNobody).await?;
            if self.replication().await?.role != ReplicationRole::Replica {
                return Err(Fault::Refused("it keeps the role of a primary".into()));
            }
            // One that was a primary beside the real one follows that again.
            let promoted = peers.still_promoted().filter(|node| self.me().is_ok_and(|me| me != *node)).map(str::to_owned);
            self.state.become_demoted(promoted);
            self.notice("demoted").await;
        }
        self.state.end_reign();
        if info.role == ReplicationRole::Replica {
            self.state.holds_what_is_others(info);
        }
        // It is a replica, whatever can be remembered of that.
        if let Err(failure) = self.save().await {
            self.warning(failure.reason).await;
        }
        let resumed = self.tell(Word::ResumeWrites).await;
        self.permitted(resumed).await
    }

    /// Waits for whom the role goes to, when the transition says so, otherwise for all.
    async fn drain(&mut self, peers: &Peers) -> Result<(), Fault> {
        let limit = limits::DRAIN.min(self.left() / 3);
        let drained = match self.ask(OfServer::Drain(peers.candidate().map(str::to_owned), limit)).await {
            Event::Own(Answer::Drained(drained)) => drained,
            other => Err(Fault::Refused(other.confused())),
        };
        match drained? {
            Some(behind) => self.warning(format!("going on with the demotion although {behind}")).await,
            None => self.notice("the replicas have everything").await,
        }
        Ok(())
    }

    /// Starts a dead primary again, as a replica of nobody, without waiting for its data. Otherwise the first monitor
    /// after the demotion would find no server, and the cluster would stop and start this instance *before* it
    /// promotes the successor.
    async fn restart_demoted(&mut self) -> Outcome {
        let until = self.now() + limits::HELD;
        self.state.end_reign();
        self.state.as_unpromoted(|unpromoted| unpromoted.held_until = Some(until));
        self.save().await?;
        if !self.rules.clustered {
            return Ok(());
        }
        match self.launch(None, Duration::ZERO).await {
            Ok(_) => self.stand_back(true).await,
            Err(failure) => self.error(format!("the dead server cannot be started again: {failure}")).await,
        }
        Ok(())
    }
}
