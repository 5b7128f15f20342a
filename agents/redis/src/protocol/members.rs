//! On the primary: the record names the nodes that may hold a confirmed write, and the gate waits for enough of the cluster's own.
//!
//! A node is recorded before it can confirm, and leaves only when what it may have confirmed is held by enough others. Only the primary of
//! the recorded promotion rewrites the record, in the place of the one that it read.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ocf::{Failure, Outcome};
use promotable::Review;

use super::{Instance, OfServer, Word};
use crate::info::{AttachedReplica, Info};
use crate::limits;
use crate::record::Record;
use crate::server::Observation;
use crate::state::{Reign, State};

impl Instance<'_> {
    /// The record follows who holds what it confirms.
    pub(super) async fn tend_record(&mut self, seen: &Observation) {
        if !self.rules.clustered {
            return;
        }
        let tended = if self.state.reign().is_none() { self.record_takeover(&seen.info).await } else { self.keep_record(&seen.info).await };
        if let Err(e) = tended {
            self.warning(format!("the record is not up to date: {e}")).await;
        }
    }

    async fn keep_record(&mut self, info: &Info) -> Outcome {
        if let Err(failure) = self.review_record().await {
            // What is promised under the record that is known is looked after all the same.
            self.warning(format!("whether the record is still this primary's cannot be seen: {failure}")).await;
        }
        self.record_history(info).await?;
        self.count_followers(info).await?;
        self.let_leave(info).await
    }

    /// A primary that was running before we came has no record yet.
    async fn record_takeover(&mut self, info: &Info) -> Outcome {
        let me = self.me()?.to_owned();
        // Who has not announced its node's name yet is added by a monitor to come.
        let known = self.followers(info).map(|r| r.node.clone()).filter(|node| self.is_known(node));
        let holders: BTreeSet<String> = known.chain([me.clone()]).collect();
        let before = self.record().await?;
        let record = Record::succeeded_by(before.as_ref(), me, &info.replid, info.offset, info.replid.clone(), holders);
        self.replace_record(before, &record).await?;
        self.state.reign_under(&record);
        Ok(())
    }

    /// A primary begins a new history by itself when its backlog begins or ends; the replicas have the new id then.
    async fn record_history(&mut self, info: &Info) -> Outcome {
        if self.state.reign().is_some_and(|reign| reign.history == info.replid) {
            return Ok(());
        }
        let change = |record: &mut Record| {
            // One that was killed here before may have written it, and not have remembered that.
            let before = record.history.replace(info.replid.clone()).filter(|before| *before != info.replid);
            record.past.splice(0..0, before.map(|before| (before, info.offset)));
        };
        self.rewrite_record(change).await?;
        self.state.as_recorded(|reign| reign.history.clone_from(&info.replid));
        Ok(())
    }

    /// Changes the record, which must be of this very reign: nobody else's is ever changed.
    pub(super) async fn rewrite_record(&mut self, change: impl FnOnce(&mut Record)) -> Outcome {
        let before = self.record().await?.ok_or_else(|| Failure::generic("the record is gone from the CIB"))?;
        if !is_of_reign(&self.state, &before) {
            return Err(Failure::generic(format!("the record names {}", before.node)));
        }
        let mut record = before.clone();
        change(&mut record);
        self.replace_record(Some(before), &record).await?;
        self.state.as_recorded(|reign| reign.holders = record.holders);
        Ok(())
    }

    /// Looks now and then whether the record is still the one of this reign, and writes it again where it got lost.
    async fn review_record(&mut self) -> Outcome {
        let now = self.now();
        if self.state.reign().and_then(|reign| reign.reviewed).is_some_and(|at| now.saturating_sub(at) < limits::REVIEW) {
            return Ok(());
        }
        // Also when nobody answers: the next monitor does not wait for that again.
        self.state.as_recorded(|reign| reign.reviewed = Some(now));
        let found = self.record().await?;
        self.state.as_recorded(|reign| reign.contested = None);
        let Some(own) = self.state.record.clone() else {
            self.state.record = found.filter(|record| is_of_reign(&self.state, record));
            return Ok(());
        };
        match promotable::review(&own, found.clone(), &self.rules.withdrawal) {
            Review::Known => Ok(()),
            Review::Rewritten(record) => {
                self.state.as_recorded(|reign| reign.holders.clone_from(&record.holders));
                self.state.record = Some(record);
                Ok(())
            }
            Review::Lost => {
                let there = found.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
                self.warning(format!("the record of this primary got lost (there is {there:.200}): writing it again")).await;
                self.replace_record(found, &own).await
            }
            Review::Contested(why) => {
                self.error(why.clone()).await;
                self.state.as_recorded(|reign| reign.contested = Some(why));
                Ok(())
            }
        }
    }

    /// The attached replicas whose data are this primary's. One that still waits for its copy has what it had before: old data. With
    /// durability=quorum it counts all the same, because it is recorded before it can confirm a write.
    fn followers<'i>(&self, info: &'i Info) -> impl Iterator<Item = &'i AttachedReplica> + use<'i> {
        let promised = self.confirmations().is_some();
        info.replicas.iter().filter(move |replica| replica.online || promised)
    }

    /// Who attached is a holder, also when nobody told this node that it would start, or it was away. Who has been away for long is none
    /// any more: what it holds is old. With durability=quorum it stays one, because it may confirm a write the moment it is back.
    async fn count_followers(&mut self, info: &Info) -> Outcome {
        self.note_absence(info)?;
        let is_missing = |node: &&String| self.is_known(node) && !self.state.has_holder(node);
        let missing: Vec<String> = self.followers(info).map(|r| &r.node).filter(is_missing).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.rewrite_record(|record| record.holders.extend(missing)).await
    }

    /// Remembers since when those holders are away that are.
    fn note_absence(&mut self, info: &Info) -> Outcome {
        let me = self.me()?;
        let now = self.now();
        let followers: BTreeSet<&str> = self.followers(info).map(|r| r.node.as_str()).collect();
        let attached = |node: &str| followers.contains(node);
        let forgets = self.confirmations().is_none();
        self.state.as_primary(|primary| {
            let Some(Reign { away, holders, .. }) = &mut primary.reign else { return };
            away.retain(|node, _| !attached(node) && holders.contains(node));
            for node in holders.iter().filter(|node| *node != me && !attached(node)) {
                away.entry(node.clone()).or_insert(now);
            }
            if forgets {
                let lost = away.iter().filter(|(_, since)| now.saturating_sub(**since) >= limits::LOST_AFTER).map(|(node, _)| node.clone());
                primary.leaving.extend(lost);
            }
        });
        Ok(())
    }

    /// Whether a replica is one of the cluster's, as far as its lists have told. Before they have, a name is believed: nobody but our
    /// servers announces one.
    fn is_known(&self, replica: &str) -> bool {
        let is_address = |name: &str| name.parse::<IpAddr>().is_ok();
        let told = self.state.nodes.contains(replica) || self.state.has_holder(replica);
        told || self.state.nodes.is_empty() && (!is_address(replica) || self.me().is_ok_and(is_address))
    }

    /// Takes those out of the record whose server was stopped, once what they may have confirmed is held by enough
    /// others: with k confirmations, k others.
    async fn let_leave(&mut self, info: &Info) -> Outcome {
        let leaving = self.state.primary().map(|primary| primary.leaving.clone()).unwrap_or_default();
        if leaving.is_empty() {
            return Ok(());
        }
        let needed = self.confirmations().unwrap_or(0);
        // By the cluster's own: whoever else holds it is not heard in an election.
        let me = self.me()?;
        let stays = |node: &&String| node.as_str() != me && !leaving.contains(*node);
        let staying: Vec<String> = self.state.reign().into_iter().flat_map(|reign| reign.holders.iter().filter(stays).cloned()).collect();
        if !self.flag(OfServer::Held(needed, staying, info.offset)).await {
            return Ok(());
        }
        self.rewrite_record(|record| record.holders.retain(|node| !leaving.contains(node))).await?;
        self.state.as_primary(|primary| primary.leaving.clear());
        Ok(())
    }

    /// With durability=quorum: writes wait for enough of the cluster's own replicas, and for nobody else's. Says what an
    /// operator has to see.
    pub(super) async fn tend_gate(&mut self, seen: &Observation) -> Result<Option<String>, Failure> {
        let (needed, lag) = self.gate()?;
        if self.confirmations().is_none() {
            self.state.as_primary(|primary| primary.short_since = None);
            if seen.gate == needed {
                return Ok(None);
            }
            // A reload could not ask the server, or somebody set it: writes would be refused, and nobody would say why.
            self.notice(format!("writes need no attached replica from now on (min-replicas-to-write was {})", seen.gate)).await;
            return Ok(self.tell(Word::OpenGate(needed, lag)).await.err().map(|fault| fault.to_string()));
        }
        let attached = || seen.info.replicas.iter().filter(|r| r.online);
        let strangers: Vec<&str> = attached().map(|r| r.node.as_str()).filter(|node| !self.is_known(node)).collect();
        // The server counts them all. Before the cluster's lists have told who belongs to it, a replica without a name may be one that was
        // taken over and has not announced its name yet: writes are not held up for that.
        let counted = if self.state.nodes.is_empty() { 0 } else { strangers.len() };
        let gate = needed + u32::try_from(counted).unwrap_or_default();
        if (seen.gate, seen.lag) != (gate, lag) {
            self.notice(format!(
                "writes need {gate} attached replicas from now on (min-replicas-to-write was {}, min-replicas-max-lag {})",
                seen.gate, seen.lag
            ))
            .await;
            // That the agent cannot tell it says nothing of the server, which goes on as it is.
            if let Err(fault) = self.tell(Word::OpenGate(gate, lag)).await {
                return Ok(Some(fault.to_string()));
            }
        }
        let good = attached().filter(|r| r.lag <= u64::from(lag)).count();
        self.note_shortage(good, gate).await;
        Ok(if self.short_since().is_some() {
            Some(format!(
                "writes are refused: {good} of {gate} replicas are attached and report (durability=quorum): start them, or accept their \
                 loss with: crm resource param {} set durability async",
                self.rules.resource
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

    /// Since when writes are refused for want of replicas.
    pub(super) fn short_since(&self) -> Option<Duration> {
        self.state.primary().and_then(|primary| primary.short_since)
    }

    /// Says when writes begin to be refused for want of replicas, and when that is over.
    async fn note_shortage(&mut self, good: usize, gate: u32) {
        let now = self.now();
        if good >= gate as usize {
            if let Some(since) = self.state.as_primary(|primary| primary.short_since.take()) {
                self.notice(format!("writes are taken again after {} s", now.saturating_sub(since).as_secs())).await;
            }
        } else if self.short_since().is_none() {
            self.state.as_primary(|primary| primary.short_since = Some(now));
            self.warning(format!("writes are refused from now on: {good} of {gate} replicas are attached (durability=quorum)")).await;
        }
    }
}

/// Whether a record is the one of this reign, as it was written or rewritten since.
fn is_of_reign(state: &State, record: &Record) -> bool {
    record.history.is_some() && state.reign().is_some_and(|reign| reign.round == Record::round(Some(record)))
}
