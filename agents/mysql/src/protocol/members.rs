//! On the primary: the record follows who may acknowledge. Its rules are `election`'s; the primary is its only writer.
//!
//! Safety rests on an order: a replica is recorded before it acknowledges, and leaves the record after it has ceased to
//! and the others have everything that it may have acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use ocf::{Failure, Outcome};
use promotable::Review;

use super::identity::{Connected, twins};
use super::{Instance, OfAttributes, OfHost, OfServer, Statement, Word, answer, list, no_such_failure, no_such_fault};
use crate::election;
use crate::gtid::Gtids;
use crate::limits;
use crate::membership::Membership;
use crate::observation::{Observation, Replica, Thread};
use crate::premises;
use crate::record::{Durability, Record, Stamp};
use crate::reign::{self, Note};
use crate::server::Fault;

/// How many barriers may be waiting in the server.
const BARRIERS: usize = 3;

/// What the replicas tell, by node.
type Told = BTreeMap<String, Membership>;

/// How the replicas of a primary stand in one look.
struct Standing {
    /// Whether its commits wait for replicas.
    waits: bool,
    /// How many the server counts that acknowledge.
    acknowledging: usize,
    /// The nodes whose servers are connected.
    attached: BTreeSet<String>,
    /// Commits wait, and nothing moved since the monitor before.
    stuck: bool,
}

impl Standing {
    /// No commit gets through, as far as the server says.
    fn is_blocked(&self, attached: usize, record: &Record) -> bool {
        self.waits && self.acknowledging.min(attached) < record.acknowledgements
    }

    /// MySQL counts replicas that have ceased to acknowledge: when commits are stuck, the wishes are looked up.
    fn seems_blocked(&self, record: &Record) -> bool {
        self.is_blocked(self.attached.len(), record) || self.waits && self.stuck
    }
}

impl Instance<'_> {
    /// Brings record and server into line with who is there. With nothing changed it starts no process.
    pub(super) async fn tend_members(&mut self, seen: &Observation) {
        if !self.rules.clustered {
            return;
        }
        if let Err(failure) = self.members(seen).await {
            self.warning(format!("the record is not up to date: {failure}")).await;
        }
    }

    async fn members(&mut self, seen: &Observation) -> Outcome {
        let durability = self.durability();
        if let Err(failure) = self.review_record().await {
            // What is promised under the record that is known is looked after all the same.
            self.warning(format!("whether the record is still this primary's cannot be seen: {failure}")).await;
        }
        let known = self.state.record.clone().filter(|record| self.reigns(record) && record.durability == durability);
        let Some(record) = known else { return self.record_reign(seen, durability).await };
        let mut record = self.take_in_foreign(seen, record).await?;
        if !seen.durable && !record.relaxed {
            let next = election::relaxed(&record, &self.logged().await?);
            self.replace_record(Some(&record), &next).await?;
            record = next;
        }
        if durability == Durability::AsyncAllowed {
            if seen.waits {
                self.tell(Word::WaitForNobody).await?;
            }
            return Ok(());
        }
        self.acknowledgers(seen, record).await
    }

    /// What this primary writes and no other server has when it dies, nobody was told of: that is so as long as the record says so, and only of
    /// what it wrote since it noted that.
    async fn keep_account(&mut self, mut record: Record) -> Result<Record, Failure> {
        if self.state.primary().is_some_and(|primary| primary.account_broken) {
            if let Some(next) = reign::broken(&record, &self.logged().await?) {
                self.replace_record(Some(&record), &next).await?;
                record = next;
            }
            self.state.as_primary(|primary| primary.account_broken = false);
        }
        let noted = self.state.primary().and_then(|primary| primary.noted) == Some(record.epoch);
        let Some(note) = Note::of(&record).filter(|_| self.params().rejoin.takes_back() && !noted) else { return Ok(record) };
        match answer!(self.ask(OfServer::NoteReign(note)).await, Told, no_such_fault) {
            Ok(()) => self.state.as_primary(|primary| primary.noted = Some(record.epoch)),
            Err(fault) => self.warning(format!("this reign cannot be noted, so nothing of it is taken back one day: {fault}")).await,
        }
        Ok(record)
    }

    /// Somebody may have been told of what this primary alone has. What it noted of its reign goes at once, which needs nobody else; the record
    /// says so as soon as it can be written.
    async fn break_account(&mut self, record: &Record) -> Outcome {
        let broken = self.state.primary().is_none_or(|primary| primary.account_broken);
        if broken || record.unbroken.is_none_or(|unbroken| unbroken.since > record.epoch) {
            return Ok(());
        }
        if let Err(failure) = self.perform(OfHost::ForgetReign).await {
            self.warning(failure.reason).await;
        }
        self.state.as_primary(|primary| primary.account_broken = true);
        self.save().await
    }

    /// The record names who may acknowledge.
    async fn acknowledgers(&mut self, seen: &Observation, record: Record) -> Outcome {
        let status = self.semi_sync().await?;
        self.keep_waiting(seen, &record, status.active).await?;
        let record = self.keep_account(record).await?;
        if self.left() < limits::TO_GO_ON {
            return Ok(());
        }
        let due = !self.is_recent(self.state.primary().and_then(|primary| primary.asked_members), limits::ASKED_EVERY);
        let Connected { nodes: mut attached, strangers } = self.connected(due).await?;
        attached.remove(&record.node);
        self.state.as_primary(|primary| {
            primary.intruded = twins(&primary.server_ids).or_else(|| intruders(&strangers, status.acknowledging, attached.len()));
        });
        if self.state.primary().is_some_and(|primary| primary.intruded.is_some()) {
            self.break_account(&record).await?;
        }
        let waiting = seen.waits && status.waiting > 0;
        if waiting && self.dialect.barrier_queues() {
            self.release_held(&record).await?;
        }
        let stuck = self.push_on(waiting, status.acknowledging >= record.acknowledgements).await?;
        if self.left() < limits::TO_GO_ON {
            return Ok(());
        }
        let standing = Standing { waits: seen.waits, acknowledging: status.acknowledging, attached, stuck };
        let settled =
            standing.attached == record.active && standing.acknowledging >= standing.attached.len() && seen.waits && !due && !stuck;
        if settled && self.state.primary().is_some_and(|primary| primary.joining.is_empty() && primary.leaving.is_empty()) {
            self.tell_blocked(&record, &standing.attached, false).await;
            return Ok(());
        }
        self.admit_and_dismiss(record, standing, settled).await
    }

    /// Somebody wants in or out, or nothing can be written.
    async fn admit_and_dismiss(&mut self, record: Record, standing: Standing, settled: bool) -> Outcome {
        // Who was announced by the notification of its start does not acknowledge yet. It needs no asking: when it is recorded, it
        // does so in its own notification.
        let started = self.state.as_primary(|primary| primary.joining.clone());
        let announced = !started.is_empty();
        // The record may name one that cannot, because it is copied or has not come back; and MySQL counts the dead for a while.
        let able = |node: &&String| record.active.contains(*node) && !started.contains(*node);
        let blocked = standing.is_blocked(standing.attached.iter().filter(able).count(), &record);
        let meets = blocked && !standing.attached.is_empty() && !announced;
        let stamp = record.stamp();
        let speaks = |told: &Told| {
            standing.attached.iter().any(|node| match told.get(node) {
                Some(Membership::Ready(_)) => true,
                Some(Membership::Acknowledges(under, _)) => *under >= stamp,
                Some(Membership::Resigned(_)) | None => false,
            })
        };
        let told = if settled {
            Told::new()
        } else {
            let now = self.now();
            self.state.as_primary(|primary| primary.asked_members = Some(now));
            self.memberships_when(|told| !meets || speaks(told)).await?
        };
        if !standing.waits {
            self.begin_to_wait(&record, &told).await?;
        }
        let seems_blocked = standing.seems_blocked(&record);
        let record = self.let_leave(record, &told, standing.waits).await?;
        if self.left() < limits::TO_GO_ON {
            return Ok(());
        }
        let needed = blocked || record.active.len() < record.acknowledgements;
        let connected = if needed && announced { self.await_attached(&started).await? } else { standing.attached.clone() };
        let joining = who_joins(&record, started, &told, &connected, needed);
        let record = self.let_join(record, &joining).await?;
        self.state.as_primary(|primary| primary.joining.clear());
        let begins = announced && !joining.is_disjoint(&connected);
        if blocked && begins || meets && speaks(&told) {
            self.begin_to_be_acknowledged(&record).await?;
        }
        if !seems_blocked {
            self.tell_blocked(&record, &standing.attached, false).await;
            return Ok(());
        }
        // It may be over by now.
        let status = self.semi_sync().await?;
        let attached = self.connected(false).await?.nodes;
        let still = status.acknowledging.min(attached.len()) < record.acknowledgements || standing.stuck && status.waiting > 0;
        self.tell_blocked(&record, &attached, still).await;
        Ok(())
    }

    /// Says that no write is acknowledged, for whom the primary waits, and when that is over.
    async fn tell_blocked(&mut self, record: &Record, attached: &BTreeSet<String>, blocked: bool) {
        let now = self.now();
        // Right after a promotion the replicas are on their way.
        let arriving = self.is_recent(self.state.primary().and_then(|primary| primary.opened), limits::ARRIVING);
        match (self.state.primary().and_then(|primary| primary.blocked.as_ref()), blocked) {
            (Some((_, since)), false) => {
                let seconds = now.saturating_sub(*since).as_secs();
                self.state.as_primary(|primary| primary.blocked = None);
                self.notice(format!("writes are acknowledged again, after {seconds} s")).await;
            }
            (None, true) if !arriving => {
                let whom = match (attached.is_empty(), record.active.is_empty()) {
                    (false, _) => format!("{} is attached and does not acknowledge", list(attached)),
                    (true, false) => format!("waiting for {}", list(&record.active)),
                    (true, true) => "no replica is attached".to_owned(),
                };
                let why = format!(
                    "writes wait: no replica acknowledges ({whom}); start one, or set durability=async-allowed and accept the loss"
                );
                self.state.as_primary(|primary| primary.blocked = Some((why.clone(), now)));
                self.error(why).await;
            }
            _ => {}
        }
    }

    /// Commits wait as the record promises, whatever somebody has set since.
    async fn keep_waiting(&mut self, seen: &Observation, record: &Record, active: bool) -> Outcome {
        let weakened = premises::wait_is_weakened(&self.dialect, seen, record.acknowledgements)
            // A reign that did not begin with a promotion of ours begins to wait later.
            .filter(|_| seen.waits || self.state.primary().is_some_and(|primary| primary.opened.is_some()));
        let gave_up = seen.waits && !active;
        // Before it is set back: nobody would see it afterwards. What cannot be remembered is no reason to leave it.
        let remembered = if weakened.is_some() || gave_up { self.break_account(record).await } else { Ok(()) };
        if let Some(why) = &weakened {
            self.tell(Word::WaitForReplicas(record.acknowledgements)).await?;
            self.error(format!("{why}: set back; writes of the time between may be on the primary alone")).await;
        }
        let alone = || "the server has given up waiting for replicas, and acknowledges writes by itself until one acknowledges".to_owned();
        let now = weakened.map(|why| format!("{why}: it was set back, and writes of the time between may be on the primary alone"));
        self.state.as_primary(|primary| primary.weakened = now.or_else(|| gave_up.then(alone)));
        remembered
    }

    /// Transactions that others wrote and this primary holds, since somebody replayed a log here or gave a name of his own: recorded, so
    /// that no replica that gets them counts as diverged.
    async fn take_in_foreign(&mut self, seen: &Observation, record: Record) -> Result<Record, Failure> {
        let Some(foreign) = election::errant(&seen.executed, &record) else { return Ok(record) };
        self.notice(format!("transactions of other servers were written here, and are recorded: {foreign}")).await;
        let next = election::renewed(&record, &self.logged().await?, &foreign);
        self.replace_record(Some(&record), &next).await?;
        Ok(next)
    }

    /// Every write has waited, and from now on somebody may acknowledge: what was written until that one does is not left to the next
    /// monitor.
    async fn begin_to_be_acknowledged(&mut self, record: &Record) -> Outcome {
        let acknowledges = |membership: &Membership| matches!(membership, Membership::Acknowledges(stamp, _) if *stamp >= record.stamp());
        let enough = |told: &Told| told.values().filter(|m| acknowledges(m)).count() >= record.acknowledgements;
        let told = self.memberships_when(enough).await?;
        let waiting = self.semi_sync().await?.waiting;
        if waiting == 0 || !told.values().any(acknowledges) {
            return Ok(());
        }
        if self.dialect.barrier_queues() { self.release_held(record).await } else { self.barrier().await.map(drop) }
    }

    /// Who is attached when these are, or after a moment: what was started now may still be connecting. Or it is being copied, and
    /// connects when that is done.
    async fn await_attached(&mut self, awaited: &BTreeSet<String>) -> Result<BTreeSet<String>, Failure> {
        let until = self.now() + self.within(limits::CONNECTING);
        loop {
            let attached = self.connected(false).await?.nodes;
            if attached.is_superset(awaited) || self.now() >= until {
                return Ok(attached);
            }
            self.wait(limits::MEETING_STEP).await;
        }
    }

    /// What the replicas tell as soon as it is what is awaited, or after a while.
    async fn memberships_when(&mut self, is_awaited: impl Fn(&Told) -> bool) -> Result<Told, Failure> {
        let until = self.now() + self.within(limits::MEETING);
        loop {
            let told = self.memberships().await?;
            if is_awaited(&told) || self.now() >= until {
                return Ok(told);
            }
            self.wait(limits::MEETING_STEP).await;
        }
    }

    /// What the replicas tell.
    async fn memberships(&mut self) -> Result<Told, Failure> {
        answer!(self.ask(OfAttributes::Memberships).await, Memberships, no_such_failure)
    }

    /// Commits that replicas received before they began to acknowledge under this record: nothing acknowledges these, and on MariaDB
    /// nothing gets into the log behind them. The replicas hold them, and have said so: so their clients are told that all is
    /// well. This needs no second connection, which may be one too many when hundreds wait.
    async fn release_held(&mut self, record: &Record) -> Outcome {
        if self.count(OfServer::StuckCommits(limits::LOOK)).await? == 0 {
            return Ok(());
        }
        let told = self.memberships().await?;
        let of_node = |node: &String| match told.get(node)? {
            Membership::Acknowledges(stamp, held) if stamp.epoch == record.epoch => Some(held.clone()),
            _ => None,
        };
        let held: Vec<Gtids> = record.active.iter().filter_map(of_node).collect();
        let limit = self.within(limits::SESSIONS_END);
        let count = self.count(OfServer::ReleaseWaiting { held, enough: record.acknowledgements, limit }).await?;
        if count > 0 {
            self.notice(format!("{count} commits waited that the replicas had received before they began to acknowledge: done")).await;
        }
        Ok(())
    }

    /// A reign that did not begin with a promotion of ours: commits begin to wait when enough replicas remember that they
    /// acknowledge in this epoch. That a server counts some is not enough: they may do so by themselves.
    async fn begin_to_wait(&mut self, record: &Record, told: &Told) -> Outcome {
        let acknowledge =
            |node: &&String| matches!(told.get(*node), Some(Membership::Acknowledges(stamp, _)) if stamp.epoch == record.epoch);
        let count = record.active.iter().filter(acknowledge).count();
        if count < record.acknowledgements {
            return Ok(());
        }
        self.tell(Word::WaitForReplicas(record.acknowledgements)).await?;
        self.notice(format!("{count} replicas acknowledge: from here on no write is acknowledged without one")).await;
        Ok(())
    }

    /// Commits that wait while nothing moves from one monitor to the next; returns whether that is so.
    ///
    /// What a replica had received before it began to acknowledge, it acknowledges only when something follows. And where
    /// nobody is left to acknowledge, they keep the backup waiting that a replica is made anew from.
    async fn push_on(&mut self, waiting: bool, acknowledged: bool) -> Result<bool, Failure> {
        let stands_at = if waiting { Some(self.logged().await?.to_string()) } else { None };
        let before = self.state.as_primary(|primary| std::mem::replace(&mut primary.stands_at, stands_at.clone()));
        let stuck = waiting && before == stands_at;
        if !stuck {
            return Ok(false);
        }
        if !self.dialect.barrier_queues() {
            if acknowledged {
                self.barrier().await?;
            }
            return Ok(true);
        }
        // Nothing gets into MariaDB's log behind a commit that waits, so no statement can push it on. Its session is ended: that
        // client is told nothing, what it wrote is there, and what comes next is acknowledged.
        let backup = self.count(OfServer::Running(Statement::Backup)).await? > 0;
        if !(backup || acknowledged && self.hold_commits().await?) {
            return Ok(true);
        }
        let limit = self.within(limits::SESSIONS_END);
        if self.count(OfServer::EndWaiting(limit)).await? > 0 {
            self.warning(if acknowledged {
                "commits that the replicas received before they acknowledged were waiting: their sessions are ended"
            } else {
                "a backup waited for commits that nobody is there to acknowledge: their sessions are ended"
            })
            .await;
        }
        Ok(true)
    }

    async fn hold_commits(&mut self) -> Result<bool, Fault> {
        let dialect = self.state.dialect().cloned();
        answer!(self.ask(OfServer::HoldCommits(dialect)).await, Asked, no_such_fault)
    }

    /// Waits until replicas have everything that is logged; whether they did in time. A barrier that was not passed stays
    /// in the server, so there are never many. One more is needed when a replica received the first before it acknowledged
    /// (MySQL counts replicas that are gone until it sends something, so the first may come too early).
    async fn barrier(&mut self) -> Result<bool, Failure> {
        if self.count(OfServer::Running(Statement::Barrier)).await? >= BARRIERS {
            return Ok(false);
        }
        match self.tell(Word::Barrier).await {
            Ok(()) => Ok(true),
            Err(Fault::Silent(_) | Fault::Broken(_)) => {
                self.reach(limits::ANSWER).await?;
                Ok(false)
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// A reign that is not recorded as it is: of a primary that was running before we came, or whose durability the
    /// operator changed. Its commits begin to wait when enough replicas acknowledge under this record.
    async fn record_reign(&mut self, seen: &Observation, durability: Durability) -> Outcome {
        if self.state.process.is_none() {
            return Ok(());
        }
        let me = self.me()?;
        let before = self.record().await?;
        if let Some(other) = before.as_ref().filter(|r| r.node != me) {
            let contested = format!(
                "the record names {}, and this node is the primary: move the role there, or take that record away with: {}",
                other.node, self.rules.withdrawal
            );
            self.state.as_primary(|primary| primary.contested = Some(contested));
            return Err(Failure::generic(format!("the record names {}", other.node)));
        }
        let left = |r: &Replica| r.receiver == Thread::Stopped && r.applier == Thread::Stopped;
        if seen.replica.as_ref().is_some_and(left) {
            // Of another time. A primary follows nobody, and an election knows it by that.
            self.tell(Word::ForgetSource).await?;
        }
        let logged = self.logged().await?;
        let attached = self.connected(true).await?.nodes;
        let reign = election::Reign {
            node: me,
            server: &seen.server,
            set: &logged,
            durability,
            acknowledgements: self.acknowledgements(),
            durable: seen.durable,
            running: &attached,
            waits: false,
            keeps_account: self.params().rejoin.takes_back(),
            remembered: self.state.memory.epoch(),
        };
        let record = election::successor(before.as_ref(), &reign, &BTreeMap::new());
        if seen.waits && !self.state.has_reigned() {
            // By somebody else's settings, with a limit perhaps. Begun anew when the replicas acknowledge under our record.
            self.tell(Word::WaitForNobody).await?;
        }
        self.state.reign_under(record.epoch);
        self.state.as_primary(|primary| primary.opened = None);
        self.save().await?;
        self.replace_record(before.as_ref(), &record).await
    }

    /// Takes out of the record who cannot acknowledge any more, once what they may have acknowledged is held by those
    /// who stay.
    async fn let_leave(&mut self, record: Record, told: &Told, waits: bool) -> Result<Record, Failure> {
        // Who was stopped is announced before it starts again, and is taken off the list then: so it is stopped now.
        let resigned = told.iter().filter_map(|(node, membership)| match membership {
            Membership::Resigned(stamp) => Some((node.clone(), *stamp)),
            Membership::Ready(_) | Membership::Acknowledges(..) => None,
        });
        let mut gone: BTreeMap<String, Stamp> = resigned.collect();
        // Whatever it said before: it is stopped now.
        gone.extend(self.state.as_primary(|primary| primary.leaving.clone()).into_iter().map(|node| (node, record.stamp())));
        self.state.as_primary(|primary| primary.leaving.retain(|node| record.active.contains(node)));
        if election::left(&record, &gone, &record.set.clone().unwrap_or_default()).is_none() {
            return Ok(record);
        }
        if waits && !self.barrier().await? {
            self.warning("no other replica acknowledges, so the replica that left stays in the record for now").await;
            return Ok(record);
        }
        let Some(next) = election::left(&record, &gone, &self.logged().await?) else { return Ok(record) };
        self.replace_record(Some(&record), &next).await?;
        self.state.as_primary(|primary| primary.leaving.retain(|node| next.active.contains(node)));
        Ok(next)
    }

    /// Records who may acknowledge from now on, or anew after its server was started.
    async fn let_join(&mut self, before: Record, joining: &BTreeSet<String>) -> Result<Record, Failure> {
        if joining.is_empty() {
            return Ok(before);
        }
        let logged = self.logged().await?;
        let mut record = before.clone();
        for node in joining {
            let change = record.change;
            record = Record { change, ..election::joined(&record, node, &logged) };
        }
        record.change += 1;
        // Whoever may acknowledge from now on is not one that was stopped, whatever was told of it before.
        self.state.as_primary(|primary| primary.leaving.retain(|node| !joining.contains(node)));
        self.replace_record(Some(&before), &record).await?;
        Ok(record)
    }

    /// Finds out whether the record is still the one of this reign, when that is not known or was not looked at for a while, and writes it
    /// again where it got lost.
    async fn review_record(&mut self) -> Outcome {
        let known = self.state.record.clone();
        if known.is_some() && self.is_recent(self.state.asked_record, limits::REVIEW) {
            return Ok(());
        }
        // Also when nobody answers: the next monitor does not wait for that again.
        self.state.asked_record = Some(self.now());
        let found = self.record().await?;
        self.state.as_primary(|primary| primary.contested = None);
        let Some(own) = known.filter(|record| self.reigns(record)) else {
            // An action of this node was killed while it wrote; or the reign is not recorded yet.
            self.state.record = found;
            return Ok(());
        };
        match promotable::review(&own, found.clone(), &self.rules.withdrawal) {
            Review::Known => {}
            Review::Rewritten(record) => self.state.record = Some(record.clone()),
            Review::Lost => {
                let there = found.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
                self.warning(format!("the record of this primary got lost (there is {there:.200}): writing it again")).await;
                self.replace_record(found.as_ref(), &own).await?;
            }
            Review::Contested(why) => {
                self.error(why.clone()).await;
                self.state.as_primary(|primary| primary.contested = Some(why));
            }
        }
        Ok(())
    }

    /// A primary whose memory was lost, with its promotion recorded and its commits still waiting: its reign goes on as it is recorded.
    /// A new record would release what waits, and promise what nobody keeps meanwhile.
    pub(super) async fn take_up_reign(&mut self, record: Option<&Record>, seen: &Observation) {
        let same = |r: &&Record| r.server.as_ref() == Some(&seen.server) && r.durability == Durability::Lossless && seen.waits;
        let Some(record) = record.filter(same) else { return };
        self.notice(format!("its promotion is recorded ({}), and goes on", record.stamp())).await;
        self.state.reign_under(record.epoch);
        self.state.record = Some(record.clone());
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
