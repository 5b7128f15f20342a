//! On the primary: the record follows who may acknowledge. Its rules are `election`'s; the primary is its only writer.
//!
//! Safety rests on an order: a replica is recorded before it acknowledges, and leaves the record after it has ceased to
//! and the others have everything that it may have acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ocf::{Context, Outcome};

use promotable::Review;

use crate::agent::{MySql, cluster_failure};
use crate::election;
use crate::gtid::Gtids;
use crate::identity::Connected;
use crate::limits;
use crate::observation::Observation;
use crate::premises;
use crate::record::{Durability, Record, Stamp};
use crate::replication::{MEMBERSHIP, Membership};
use crate::server::{Fault, LAST_OF_BACKUP, SemiSyncStatus, Server};
use crate::state::{Reign, Stage, State};

/// How many barriers may be waiting in the server.
const BARRIERS: usize = 3;

impl MySql {
    /// Brings record and server into line with who is there. With nothing changed it starts no process.
    pub(crate) fn tend_members(&self, context: &Context, state: &mut State, server: &mut Server, seen: &Observation) {
        if !self.cluster.is_present() {
            return;
        }
        if let Err(failure) = self.members(context, state, server, seen) {
            context.log.warning(format!("the record is not up to date: {failure}"));
        }
    }

    fn members(&self, context: &Context, state: &mut State, server: &mut Server, seen: &Observation) -> Outcome {
        let durability = self.durability(server);
        if let Err(failure) = self.review_record(context, state) {
            // What is promised under the record that is known is looked after all the same.
            context.log.warning(format!("whether the record is still this primary's cannot be seen: {failure}"));
        }
        let known = state.known_record().filter(|record| state.reigns(record) && record.durability == durability);
        let Some(record) = known else { return self.record_reign(context, state, server, seen, durability) };
        let mut record = self.take_in_foreign(context, state, server, seen, record)?;
        if !seen.durable && !record.relaxed {
            let next = election::relaxed(&record, &server.logged()?);
            self.replace_record(context, state, Some(&record), &next)?;
            record = next;
        }
        if durability == Durability::AsyncAllowed {
            if seen.waits {
                server.run_all(server.dialect().wait_for_nobody())?;
            }
            return Ok(());
        }
        let SemiSyncStatus { acknowledging, waiting, active } = server.semi_sync_status()?;
        self.keep_waiting(context, state, server, seen, &record, active)?;
        let now = process::since_boot();
        let due = state.asked_members.is_none_or(|at| now.saturating_sub(at) > limits::ASKED_EVERY);
        let Connected { nodes: mut attached, strangers } = self.connected(state, server, due)?;
        attached.remove(&record.node);
        state.intruded = Self::twins(state).or_else(|| Self::intruders(&strangers, acknowledging, attached.len()));
        if seen.waits && waiting > 0 && server.dialect().barrier_queues() {
            self.release_held(context, server, &record)?;
        }
        let stuck = self.push_on(context, state, server, seen.waits && waiting > 0, acknowledging >= record.acknowledgements)?;
        if self.deadline.left() < limits::TO_GO_ON {
            return Ok(());
        }
        // MySQL counts replicas that have ceased to acknowledge: when commits are stuck, the wishes are looked up.
        let seems_blocked = seen.waits && (acknowledging.min(attached.len()) < record.acknowledgements || stuck);
        let settled = attached == record.active && acknowledging >= attached.len() && seen.waits && !due && !stuck;
        if settled && state.joining.is_empty() && state.leaving.is_empty() {
            Self::tell_blocked(context, state, &record, &attached, false);
            return Ok(());
        }
        // Who was announced by the notification of its start does not acknowledge yet. It needs no asking: when it is recorded, it
        // does so in its own notification.
        let announced = !state.joining.is_empty();
        // The record may name one that cannot, because it is copied or has not come back; and MySQL counts the dead for a while.
        let able = attached.iter().filter(|node| record.active.contains(*node) && !state.joining.contains(*node)).count();
        let blocked = seen.waits && acknowledging.min(able) < record.acknowledgements;
        let meets = blocked && !attached.is_empty() && !announced;
        let stamp = record.stamp();
        let speaks = |told: &BTreeMap<String, Membership>| {
            attached.iter().any(|node| match told.get(node) {
                Some(Membership::Ready(_)) => true,
                Some(Membership::Acknowledges(under, _)) => *under >= stamp,
                Some(Membership::Resigned(_)) | None => false,
            })
        };
        let told: BTreeMap<String, Membership> = if settled {
            BTreeMap::new()
        } else {
            state.asked_members = Some(now);
            self.memberships_when(|told| !meets || speaks(told))?
        };
        if !seen.waits {
            self.begin_to_wait(context, server, &record, &told)?;
        }
        let record = self.let_leave(context, state, server, record, &told, seen.waits)?;
        let needed = blocked || record.active.len() < record.acknowledgements;
        let connected = if needed && announced { self.await_attached(state, server)? } else { attached.clone() };
        let joining = who_joins(&record, state.joining.clone(), &told, &connected, needed);
        let record = self.let_join(context, state, server, record, &joining)?;
        state.joining.clear();
        let begins = announced && !joining.is_disjoint(&connected);
        if blocked && begins || meets && speaks(&told) {
            self.begin_to_be_acknowledged(context, state, server, &record)?;
        }
        // It may be over by now.
        let still = seems_blocked && {
            let status = server.semi_sync_status()?;
            attached = self.connected(state, server, false)?.nodes;
            status.acknowledging.min(attached.len()) < record.acknowledgements || stuck && status.waiting > 0
        };
        Self::tell_blocked(context, state, &record, &attached, still);
        Ok(())
    }

    /// Says that no write is acknowledged, for whom the primary waits, and when that is over.
    fn tell_blocked(context: &Context, state: &mut State, record: &Record, attached: &BTreeSet<String>, blocked: bool) {
        let now = process::since_boot();
        match (&state.blocked, blocked) {
            (Some((_, since)), false) => {
                context.log.notice(format!("writes are acknowledged again, after {} s", now.saturating_sub(*since).as_secs()));
                state.blocked = None;
            }
            // Right after a promotion the replicas are on their way.
            (None, true) if state.opened.is_none_or(|at| now.saturating_sub(at) > limits::ARRIVING) => {
                let list = |nodes: &BTreeSet<String>| nodes.iter().cloned().collect::<Vec<_>>().join(", ");
                let whom = match (attached.is_empty(), record.active.is_empty()) {
                    (false, _) => format!("{} is attached and does not acknowledge", list(attached)),
                    (true, false) => format!("waiting for {}", list(&record.active)),
                    (true, true) => "no replica is attached".to_owned(),
                };
                let why = format!(
                    "writes wait: no replica acknowledges ({whom}); start one, or set durability=async-allowed and accept the loss"
                );
                context.log.error(&why);
                state.blocked = Some((why, now));
            }
            _ => {}
        }
    }

    /// What an acknowledgement of a replica that no election asks is worth: nothing. Whose it was, the server does not say.
    fn intruders(strangers: &[String], acknowledging: usize, members: usize) -> Option<String> {
        (!strangers.is_empty() && acknowledging > members).then(|| {
            format!(
                "a replica that is none of the cluster's acknowledges writes, which may be lost: {}; switch off rpl_semi_sync_slave_enabled or \
                 rpl_semi_sync_replica_enabled there and restart its receiver",
                strangers.join(", ")
            )
        })
    }

    /// Commits wait as the record promises, whatever somebody has set since.
    fn keep_waiting(
        &self,
        context: &Context,
        state: &mut State,
        server: &mut Server,
        seen: &Observation,
        record: &Record,
        active: bool,
    ) -> Outcome {
        let weakened = premises::wait_is_weakened(server.dialect(), seen, record.acknowledgements)
            // A reign that did not begin with a promotion of ours begins to wait later.
            .filter(|_| seen.waits || state.opened.is_some());
        if let Some(why) = &weakened {
            server.run_all(server.dialect().wait_for_replicas(record.acknowledgements))?;
            context.log.error(format!("{why}: set back; writes of the time between may be on the primary alone"));
        }
        let gave_up =
            || "the server has given up waiting for replicas, and acknowledges writes by itself until one acknowledges".to_owned();
        let now = weakened.map(|why| format!("{why}: it was set back, and writes of the time between may be on the primary alone"));
        state.weakened = now.or_else(|| (seen.waits && !active).then(gave_up));
        Ok(())
    }

    /// Transactions that others wrote and this primary holds, since somebody replayed a log here or gave a name of his own: recorded, so
    /// that no replica that gets them counts as diverged.
    fn take_in_foreign(
        &self,
        context: &Context,
        state: &mut State,
        server: &mut Server,
        seen: &Observation,
        record: Record,
    ) -> Result<Record, ocf::Failure> {
        let Some(foreign) = election::errant(&seen.executed, &record) else { return Ok(record) };
        context.log.notice(format!("transactions of other servers were written here, and are recorded: {foreign}"));
        let next = election::renewed(&record, &server.logged()?, &foreign);
        self.replace_record(context, state, Some(&record), &next)?;
        Ok(next)
    }

    /// Every write has waited, and from now on somebody may acknowledge: what was written until that one does is not left to the next
    /// monitor.
    fn begin_to_be_acknowledged(&self, context: &Context, state: &State, server: &mut Server, record: &Record) -> Outcome {
        let acknowledges = |membership: &Membership| matches!(membership, Membership::Acknowledges(stamp, _) if *stamp >= record.stamp());
        let told = self.memberships_when(|told| told.values().filter(|m| acknowledges(m)).count() >= record.acknowledgements)?;
        let waiting = server.semi_sync_status()?.waiting;
        if waiting == 0 || !told.values().any(acknowledges) {
            return Ok(());
        }
        if server.dialect().barrier_queues() {
            self.release_held(context, server, record)
        } else {
            self.barrier(context, state, server).map(drop)
        }
    }

    /// Who is attached when these are, or after a moment: what was started now may still be connecting. Or it is being copied, and
    /// connects when that is done.
    fn await_attached(&self, state: &mut State, server: &mut Server) -> Result<BTreeSet<String>, ocf::Failure> {
        let (begin, limit) = (Instant::now(), self.within(limits::CONNECTING));
        loop {
            let attached = self.connected(state, server, false)?.nodes;
            if attached.is_superset(&state.joining) || begin.elapsed() >= limit {
                return Ok(attached);
            }
            std::thread::sleep(limits::MEETING_STEP);
        }
    }

    /// What the replicas tell as soon as it is what is awaited, or after a while.
    fn memberships_when(
        &self,
        is_awaited: impl Fn(&BTreeMap<String, Membership>) -> bool,
    ) -> Result<BTreeMap<String, Membership>, ocf::Failure> {
        let (begin, limit) = (Instant::now(), self.within(limits::MEETING));
        loop {
            let told = self.memberships()?;
            if is_awaited(&told) || begin.elapsed() >= limit {
                return Ok(told);
            }
            std::thread::sleep(limits::MEETING_STEP);
        }
    }

    /// What the replicas tell.
    fn memberships(&self) -> Result<BTreeMap<String, Membership>, ocf::Failure> {
        let values = self.cluster.private_values(MEMBERSHIP).map_err(cluster_failure)?;
        Ok(values.into_iter().filter_map(|(node, text)| Some((node, Membership::parse(&text)?))).collect())
    }

    /// Commits that replicas received before they began to acknowledge under this record: nothing acknowledges these, and on MariaDB
    /// nothing gets into the log behind them. The replicas hold them, and have said so: so their clients are told that all is
    /// well. This needs no second connection, which may be one too many when hundreds wait.
    fn release_held(&self, context: &Context, server: &mut Server, record: &Record) -> Outcome {
        if server.stuck_commits()? == 0 {
            return Ok(());
        }
        let told = self.memberships()?;
        let held: Vec<_> = record
            .active
            .iter()
            .filter_map(|node| match told.get(node)? {
                Membership::Acknowledges(stamp, held) if stamp.epoch == record.epoch => Some(held),
                _ => None,
            })
            .collect();
        let enough = |logged: &Gtids| held.iter().filter(|held| held.contains(logged)).count() >= record.acknowledgements;
        let count = server.release_waiting(self.within(limits::SESSIONS_END), enough)?;
        if count > 0 {
            context.log.notice(format!("{count} commits waited that the replicas had received before they began to acknowledge: done"));
        }
        Ok(())
    }

    /// A reign that did not begin with a promotion of ours: commits begin to wait when enough replicas remember that they
    /// acknowledge in this epoch. That a server counts some is not enough: they may do so by themselves.
    fn begin_to_wait(&self, context: &Context, server: &mut Server, record: &Record, told: &BTreeMap<String, Membership>) -> Outcome {
        let acknowledge =
            |node: &&String| matches!(told.get(*node), Some(Membership::Acknowledges(stamp, _)) if stamp.epoch == record.epoch);
        let count = record.active.iter().filter(acknowledge).count();
        if count < record.acknowledgements {
            return Ok(());
        }
        server.run_all(server.dialect().wait_for_replicas(record.acknowledgements))?;
        context.log.notice(format!("{count} replicas acknowledge: from here on no write is acknowledged without one"));
        Ok(())
    }

    /// Commits that wait while nothing moves from one monitor to the next; returns whether that is so.
    ///
    /// What a replica had received before it began to acknowledge, it acknowledges only when something follows. And where
    /// nobody is left to acknowledge, they keep the backup waiting that a replica is made anew from.
    fn push_on(
        &self,
        context: &Context,
        state: &mut State,
        server: &mut Server,
        waiting: bool,
        acknowledged: bool,
    ) -> Result<bool, ocf::Failure> {
        let stands_at = if waiting { Some(server.logged()?.to_string()) } else { None };
        let stuck = waiting && state.stands_at == stands_at;
        state.stands_at = stands_at;
        if !stuck {
            return Ok(false);
        }
        if !server.dialect().barrier_queues() {
            if acknowledged {
                self.barrier(context, state, server)?;
            }
            return Ok(true);
        }
        // Nothing gets into MariaDB's log behind a commit that waits, so no statement can push it on. Its session is ended: that
        // client is told nothing, what it wrote is there, and what comes next is acknowledged.
        let backup = server.running(LAST_OF_BACKUP)? > 0;
        if (backup || acknowledged && self.hold_commits(context, state, server)?)
            && server.end_waiting(self.within(limits::SESSIONS_END))? > 0
        {
            context.log.warning(if acknowledged {
                "commits that the replicas received before they acknowledged were waiting: their sessions are ended"
            } else {
                "a backup waited for commits that nobody is there to acknowledge: their sessions are ended"
            });
        }
        Ok(true)
    }

    /// Keeps new commits from joining those that wait, by a backup that makes none: it stays in the server for a few seconds, or
    /// until nothing waits. Whether it does.
    fn hold_commits(&self, context: &Context, state: &State, server: &mut Server) -> Result<bool, ocf::Failure> {
        server.run(server.dialect().lock_patience())?;
        if let Err(fault) = server.run("BACKUP STAGE START") {
            context.log.notice(format!("commits wait, and their sessions are not ended while a backup is made: {fault}"));
            return Ok(false);
        }
        server.run("SET SESSION lock_wait_timeout=5")?;
        match server.run_within(LAST_OF_BACKUP, limits::MOMENT) {
            Ok(()) => {
                server.run("BACKUP STAGE END")?;
                Ok(false)
            }
            Err(Fault::Silent(_) | Fault::Broken(_)) => {
                *server = self.reach(context, state)?;
                Ok(true)
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// Waits until replicas have everything that is logged; whether they did in time. A barrier that was not passed stays
    /// in the server, so there are never many. One more is needed when a replica received the first before it acknowledged
    /// (MySQL counts replicas that are gone until it sends something, so the first may come too early).
    fn barrier(&self, context: &Context, state: &State, server: &mut Server) -> Result<bool, ocf::Failure> {
        let barrier = server.dialect().barrier();
        if server.running(barrier)? >= BARRIERS {
            return Ok(false);
        }
        match server.run_within(barrier, limits::BARRIER) {
            Ok(()) => Ok(true),
            Err(Fault::Silent(_) | Fault::Broken(_)) => {
                *server = self.reach(context, state)?;
                Ok(false)
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// What this server's clients are promised.
    pub(crate) fn durability(&self, server: &Server) -> Durability {
        if self.params.lossless && server.dialect().can_be_lossless() { Durability::Lossless } else { Durability::AsyncAllowed }
    }

    /// A reign that is not recorded as it is: of a primary that was running before we came, or whose durability the
    /// operator changed. Its commits begin to wait when enough replicas acknowledge under this record.
    fn record_reign(
        &self,
        context: &Context,
        state: &mut State,
        server: &mut Server,
        seen: &Observation,
        durability: Durability,
    ) -> Outcome {
        let Some(process) = state.server.clone() else { return Ok(()) };
        let me = self.node()?.to_owned();
        let before = self.record()?;
        if let Some(other) = before.as_ref().filter(|r| r.node != me) {
            state.contested = Some(format!(
                "the record names {}, and this node is the primary: move the role there, or take that record away with: {}",
                other.node,
                promotable::withdrawal(&self.cluster)
            ));
            return Err(ocf::Failure::generic(format!("the record names {}", other.node)));
        }
        let logged = server.logged()?;
        let attached = self.connected(state, server, true)?.nodes;
        let reign = election::Reign {
            node: &me,
            server: &seen.server,
            set: &logged,
            durability,
            acknowledgements: self.acknowledgements(server.dialect()),
            durable: seen.durable,
            running: &attached,
            remembered: state.memory.epoch(),
        };
        let record = election::successor(before.as_ref(), &reign, &BTreeMap::new());
        let before_us = state.reign.as_ref().is_none_or(|r| r.server != process);
        if seen.waits && before_us {
            // By somebody else's settings, with a limit perhaps. Begun anew when the replicas acknowledge under our record.
            server.run_all(server.dialect().wait_for_nobody())?;
        }
        state.reign = Some(Reign { epoch: record.epoch, server: process, stage: Stage::Open });
        state.opened = None;
        self.state_file.save(state)?;
        self.replace_record(context, state, before.as_ref(), &record)
    }

    /// Takes out of the record who cannot acknowledge any more, once what they may have acknowledged is held by those
    /// who stay.
    fn let_leave(
        &self,
        context: &Context,
        state: &mut State,
        server: &mut Server,
        record: Record,
        told: &BTreeMap<String, Membership>,
        waits: bool,
    ) -> Result<Record, ocf::Failure> {
        // Who was stopped is announced before it starts again, and is taken off the list then: so it is stopped now.
        let mut gone: BTreeMap<String, Stamp> = state.leaving.iter().map(|node| (node.clone(), record.stamp())).collect();
        gone.extend(told.iter().filter_map(|(node, membership)| match membership {
            Membership::Resigned(stamp) => Some((node.clone(), *stamp)),
            Membership::Ready(_) | Membership::Acknowledges(..) => None,
        }));
        state.leaving.retain(|node| record.active.contains(node));
        if election::left(&record, &gone, &record.set.clone().unwrap_or_default()).is_none() {
            return Ok(record);
        }
        if waits && !self.barrier(context, state, server)? {
            context.log.warning("the replicas that remain do not acknowledge, so that nobody can leave the record now");
            return Ok(record);
        }
        let Some(next) = election::left(&record, &gone, &server.logged()?) else { return Ok(record) };
        self.replace_record(context, state, Some(&record), &next)?;
        state.leaving.retain(|node| next.active.contains(node));
        Ok(next)
    }

    /// Records who may acknowledge from now on, or anew after its server was started.
    fn let_join(
        &self,
        context: &Context,
        state: &mut State,
        server: &mut Server,
        before: Record,
        joining: &BTreeSet<String>,
    ) -> Result<Record, ocf::Failure> {
        if joining.is_empty() {
            return Ok(before);
        }
        let logged = server.logged()?;
        let mut record = before.clone();
        for node in joining {
            let change = record.change;
            record = Record { change, ..election::joined(&record, node, &logged) };
        }
        record.change += 1;
        // Whoever may acknowledge from now on is not one that was stopped, whatever was told of it before.
        state.leaving.retain(|node| !joining.contains(node));
        self.replace_record(context, state, Some(&before), &record)?;
        Ok(record)
    }

    /// Finds out whether the record is still the one of this reign, when that is not known or was not looked at for a while, and writes it
    /// again where it got lost.
    fn review_record(&self, context: &Context, state: &mut State) -> Outcome {
        let now = process::since_boot();
        let known = state.known_record();
        if known.is_some() && state.asked_record.is_some_and(|at| now.saturating_sub(at) < limits::REVIEW) {
            return Ok(());
        }
        // Also when nobody answers: the next monitor does not wait for that again.
        state.asked_record = Some(now);
        let found = self.record()?;
        state.contested = None;
        let Some(own) = known.filter(|record| state.reigns(record)) else {
            // An action of this node was killed while it wrote; or the reign is not recorded yet.
            state.record = found.map(|record| record.to_string());
            return Ok(());
        };
        match promotable::review(&own, found.clone(), &promotable::withdrawal(&self.cluster)) {
            Review::Known => {}
            Review::Rewritten(record) => state.record = Some(record.to_string()),
            Review::Lost => {
                let there = found.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
                context.log.warning(format!("the record of this primary got lost (there is {there:.200}): writing it again"));
                self.replace_record(context, state, found.as_ref(), &own)?;
            }
            Review::Contested(why) => {
                context.log.error(&why);
                state.contested = Some(why);
            }
        }
        Ok(())
    }
}

/// Who is to be recorded: of those whose start was announced, and of those attached that say that they have caught up. `needed`:
/// nothing can be written without one more.
fn who_joins(
    record: &Record,
    announced: BTreeSet<String>,
    told: &BTreeMap<String, Membership>,
    attached: &BTreeSet<String>,
    needed: bool,
) -> BTreeSet<String> {
    let wants = |node: &&String| match told.get(*node) {
        Some(Membership::Ready(before)) => !record.active.contains(*node) || record.stamp() <= *before,
        _ => false,
    };
    // A server that was started just now may be far behind or being copied, and would only make elections harder. It says when it
    // has caught up; only a member has to be recorded anew at once, or whoever is needed to go on at all and is there.
    let at_once = |node: &String| {
        needed && attached.contains(node) || record.active.contains(node) || matches!(told.get(node), Some(Membership::Ready(_)))
    };
    announced.into_iter().filter(at_once).chain(attached.iter().filter(wants).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn who_was_started_is_recorded_when_it_is_a_member_or_needed_and_there() {
        let record = Record::parse("epoch=2 change=3 node=a server=11 durability=lossless active=b set=0-11-7").unwrap();
        let quiet = BTreeMap::new();
        let joins =
            |announced: &str, attached: &[&str], blocked| who_joins(&record, nodes(&[announced]), &quiet, &nodes(attached), blocked);
        assert_eq!(joins("c", &["b", "c"], false), nodes(&[]), "b acknowledges, and c says when it has caught up");
        assert_eq!(joins("c", &["c"], true), nodes(&["c"]), "nothing can be written without it");
        assert_eq!(joins("c", &[], true), nodes(&[]), "it is being copied: elections would wait for it in vain");
        assert_eq!(joins("b", &[], false), nodes(&["b"]), "a member may have lost what it acknowledged");
    }

    #[test]
    fn who_has_caught_up_is_recorded_once() {
        let record = Record::parse("epoch=2 change=3 node=a server=11 durability=lossless active=b set=0-11-7").unwrap();
        let ready = |node: &str, change| BTreeMap::from([(node.to_owned(), Membership::Ready(Stamp { epoch: 2, change }))]);
        let joins = |told: &BTreeMap<String, Membership>| who_joins(&record, nodes(&[]), told, &nodes(&["b", "c"]), false);
        assert_eq!(joins(&ready("c", 3)), nodes(&["c"]));
        assert_eq!(joins(&ready("b", 3)), nodes(&["b"]), "it needs a newer record than this one");
        assert_eq!(joins(&ready("b", 2)), nodes(&[]), "it has one");
        assert_eq!(joins(&ready("d", 3)), nodes(&[]), "it is not attached");
    }
}
