//! `promote`: role with the gate closed → record in the CIB, in the place of the one that the election went by → gate open.
//!
//! Killed before the record, it leaves a server with the role of a primary that takes no writes; killed after it, the next run finds the
//! record and opens the gate.

use std::time::Duration;

use ocf::{Failure, Outcome, Peers};
use process::Identity;

use super::succession::leave_out_the_stopped;
use super::{Answer, Event, Instance, OfServer, Sight, Word};
use crate::election::Verdict;
use crate::info::{Info, ReplicationRole};
use crate::limits;
use crate::record::Record;
use crate::server::{Fault, Observation};

impl Instance<'_> {
    /// Makes this server the primary.
    pub(crate) async fn promote(mut self, peers: Peers) -> Outcome {
        self.gate()?;
        let Some(process) = self.find().await else {
            return Err(Failure::generic("the server does not run: start it before it is promoted"));
        };
        let seen = match self.look_when_free(&process).await {
            Sight::Answered(seen) => seen,
            Sight::Unasked(fault) => return Err(fault.into()),
            Sight::Engaged(why) | Sight::Working(why) | Sight::Still(why) | Sight::Stuck(why) | Sight::Deaf(why) => {
                return Err(Failure::generic(why));
            }
            Sight::Ended => return Err(Failure::generic("the server that was running ended just now; see its log")),
        };
        // A demotion that was killed may have left the clients' writes paused.
        let resumed = self.tell(Word::ResumeWrites).await;
        self.permitted(resumed).await?;
        if self.state.promoted() && seen.info.role == ReplicationRole::Primary && seen.gate_open() {
            return Ok(());
        }
        let record = self.record().await?;
        self.state.meet(&peers);
        if let Some(record) = record.as_ref().filter(|record| self.recorded_already(record, &seen)) {
            return self.open(record.clone()).await;
        }
        let running = peers.running_nodes();
        self.win_election(record.as_ref(), &running).await?;
        let now = self.take_role(&seen.info).await?;
        let me = self.me()?.to_owned();
        // Whoever runs will attach and may confirm writes.
        let holders = running.into_iter().chain([me.clone()]).collect();
        let (from, offset) = origin(&seen.info);
        let next = Record::succeeded_by(record.as_ref(), me, &from, offset, now.replid, holders);
        self.replace_record(record, &next).await?;
        self.open(next).await
    }

    /// Looks as soon as the server has a connection free.
    async fn look_when_free(&mut self, process: &Identity) -> Sight {
        let limit = limits::step(limits::ANSWER, self.left());
        let until = self.now() + limit;
        loop {
            match self.look(process, limit).await {
                Sight::Unasked(Fault::Closed(_)) if self.now() < until => {
                    self.wait(Duration::from_millis(10)).await;
                }
                sight => return sight,
            }
        }
    }

    /// Whether a run before this one was killed after the record was written: it names this very history, in which nobody can have written
    /// yet.
    fn recorded_already(&self, record: &Record, seen: &Observation) -> bool {
        self.me().is_ok_and(|me| record.node == me)
            && seen.info.role == ReplicationRole::Primary
            && record.history.as_ref() == Some(&seen.info.replid)
    }

    /// Holds the election, unless it was won in the notification before, under this very record.
    async fn win_election(&mut self, record: Option<&Record>, running: &[String]) -> Outcome {
        if !self.rules.clustered || self.state.is_elected(&Self::text_of(record)) {
            return Ok(());
        }
        // Not everybody had spoken then.
        let me = self.me()?;
        let round = Record::round(record);
        let others = running.iter().filter(|node| *node != me).cloned().collect();
        let mut positions = self.hear(&round, others, limits::HEARING).await?;
        // What was published of this server may be of a process before this one: an empty one must not pass for it.
        let mine = self.position(&round).await?;
        positions.insert(me.to_owned(), mine);
        leave_out_the_stopped(&mut positions, running);
        match self.verdict(record, &positions, running)? {
            Verdict::GoOn(reason) => {
                self.notice(format!("going on with the promotion: {reason}")).await;
                Ok(())
            }
            other => Err(Failure::generic(format!("not promoted: {}", self.give_way(other).await?))),
        }
    }

    /// The role of a primary, with the gate closed, and with a backlog.
    async fn take_role(&mut self, seen: &Info) -> Result<Info, Failure> {
        self.tell(Word::CloseGate).await?;
        if seen.role == ReplicationRole::Replica {
            self.tell(Word::BecomePrimary).await?;
        }
        let mut now = self.replication().await?;
        if !now.backlog && self.rules.clustered {
            if let Err(e) = self.begin_backlog().await {
                self.warning(format!("the backlog cannot be begun, so the first replica will change the history: {e}")).await;
            }
            now = self.replication().await?;
        }
        self.set_back().await;
        if now.role == ReplicationRole::Primary { Ok(*now) } else { Err(Failure::generic("the server did not take the role of a primary")) }
    }

    /// What it sets for a moment is remembered before: whoever comes next after a promotion that was killed gives it back.
    async fn begin_backlog(&mut self) -> Result<(), Fault> {
        // After a promotion that was killed, what the server has is not what it had.
        if self.state.process.as_ref().is_some_and(|process| process.settings_before.is_empty()) {
            let settings = match self.ask(OfServer::CopySettings).await {
                Event::Own(Answer::Settings(settings)) => settings?,
                other => return Err(Fault::Refused(other.confused())),
            };
            self.state.of_process(|process| process.settings_before = settings);
            self.save().await.map_err(|failure| Fault::Refused(failure.reason))?;
        }
        self.tell(Word::BeginBacklog).await
    }

    /// The last step of a promotion: the record stands in the CIB, so clients may write.
    async fn open(&mut self, record: Record) -> Outcome {
        self.stand_back(false).await;
        let now = self.now();
        self.state.become_primary(record.clone(), now);
        self.save().await?;
        let (replicas, lag) = self.gate()?;
        self.tell(Word::OpenGate(replicas, lag)).await?;
        self.notice(format!("promoted: {record}")).await;
        Ok(())
    }

    /// A record, or none, as it is compared.
    pub(super) fn text_of(record: Option<&Record>) -> String {
        record.map_or_else(String::new, ToString::to_string)
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
