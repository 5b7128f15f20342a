//! A replica: whom it follows, whether it may acknowledge, what keeps it from that.

use std::time::{Duration, Instant};

use ocf::{Context, Failure, Outcome};
use pacemaker::Score;

use crate::agent::{MySql, cluster_failure};
use crate::dialect::{Source, quoted};
use crate::election;
use crate::gtid::Gtids;
use crate::limits;
use crate::observation::{Observation, Replica, Thread};
use crate::record::{Durability, Record, Stamp};
use crate::server::{Fault, Server};
use crate::state::State;

/// The private attribute that tells the primary that a replica wants to acknowledge, or has ceased to.
pub(crate) const MEMBERSHIP: &str = "membership";
/// How many monitors in a row may find replication broken before the replica ceases to acknowledge.
const PATIENCE: u32 = 2;

/// How many monitors in a row may find transactions that others wrote and that the primary has not recorded: its own monitor does that.
const FOREIGN_PATIENCE: u32 = 4;

/// What a replica tells the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// It has caught up and wants to acknowledge, under a record newer than this.
    Ready(Stamp),
    /// It acknowledges nothing any more, under records up to this one.
    Resigned(Stamp),
    /// It began to acknowledge under this record, and not right after a promotion. With what it held already: that it does not
    /// acknowledge any more.
    Acknowledges(Stamp, Gtids),
}

impl Membership {
    pub(crate) fn print(&self) -> String {
        match self {
            Self::Ready(stamp) => format!("ready {stamp}"),
            Self::Resigned(stamp) => format!("resigned {stamp}"),
            Self::Acknowledges(stamp, held) => format!("acknowledges {stamp} {held}"),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let (word, stamp) = (words.next()?, Stamp::parse(words.next()?)?);
        match word {
            "ready" => Some(Self::Ready(stamp)),
            "resigned" => Some(Self::Resigned(stamp)),
            "acknowledges" => Some(Self::Acknowledges(stamp, Gtids::parse_any(words.next().unwrap_or_default()).ok()?)),
            _ => None,
        }
    }
}

impl MySql {
    /// Makes a server follow a primary, if it has nothing that the primary does not have.
    pub(crate) fn rejoin(
        &self,
        context: &Context,
        state: &mut State,
        server: &mut Server,
        primary: &str,
        record: Option<&Record>,
    ) -> Outcome {
        state.following = Some(primary.to_owned());
        state.asked_record = Some(process::since_boot());
        self.state_file.save(state)?;
        if record.is_none() && self.cluster.is_present() {
            // It may hold what the primary does not have, and nobody could tell.
            return Err(Failure::generic(format!(
                "{primary} is promoted, and there is no record of it in the CIB: its next monitor writes one, and this server follows then"
            )));
        }
        if let Some(other) = record.filter(|r| r.node != primary) {
            return Err(Failure::generic(format!("{primary} is promoted, but the record names {}: waiting for the record", other.node)));
        }
        let host = self.address_of(context, state, primary);
        let port = self.params.replication.port;
        let mut seen = server.observe()?;
        self.wait_no_more(server, &seen)?;
        // After an election that came to nothing it is still pointed there, with everything that it received.
        let fine =
            |r: &Replica| r.host == host && r.port == port && r.receiver_error.is_none() && r.applier == Thread::Running && r.in_order();
        let pointed = seen.replica.as_ref().is_some_and(fine);
        if pointed {
            server.run_within(server.dialect().stop_receiver(), limits::STOPPING)?;
        } else {
            self.stop_replica(context, state, server)?;
            seen = server.observe()?;
        }
        if seen.acknowledges {
            // Nobody asked for its position since it followed somebody: it may have acknowledged in this very epoch.
            server.run_all(server.dialect().acknowledge(false))?;
            if let Some(now) = self.record()? {
                state.memory.change(|m| m.found_on(&now, primary));
            }
        }
        let unfinished = || "a copy of the primary's data was begun and not ended".to_owned();
        let errant = self.copy_is_unfinished().then(unfinished).or_else(|| record.and_then(|r| election::errant(&seen.executed, r)));
        if let Some(errant) = errant {
            return self.refuse_to_follow(context, state, primary, errant);
        }
        state.errant = None;
        self.learn_history(context, server, &seen, record);
        // Pointing it anywhere deletes what it received.
        if let Some(record) = record.filter(|_| !pointed) {
            state.memory.change(|m| m.point(record.stamp()));
        }
        let allowed = record.filter(|r| self.may_acknowledge(state, r, primary));
        state.acknowledges = allowed.is_some();
        if let Some(record) = allowed {
            // Remembered before the receiver connects: nothing is acknowledged that is not remembered.
            state.memory.change(|m| m.acknowledge(record));
        }
        self.state_file.save(state)?;
        server.run_all(server.dialect().acknowledge(allowed.is_some()))?;
        if pointed {
            server.run(server.dialect().start_receiver())?;
        } else {
            self.point_to(server, &host)?;
            server.run(server.dialect().start_replica())?;
        }
        state.broken = None;
        state.broken_for = 0;
        state.refused = None;
        self.state_file.save(state)?;
        let how = if state.acknowledges { ", acknowledging" } else { "" };
        context.log.notice(format!("following {primary}{how}"));
        Ok(())
    }

    /// A MariaDB that was made from a backup has an empty binary log, and knows only its newest transaction. That is one of
    /// the primary's, so it has what the primary knows of before; without that it would never count as caught up.
    fn learn_history(&self, context: &Context, server: &mut Server, seen: &Observation, record: Option<&Record>) {
        let Some(history) = record.and_then(|r| r.set.as_ref()) else { return };
        let fresh = seen.variables.get("gtid_binlog_state").is_some_and(String::is_empty);
        let whole = seen.executed.with_history(history);
        if !fresh || seen.executed.is_empty() || whole == seen.executed {
            return;
        }
        match server.run(&format!("SET GLOBAL gtid_binlog_state={}", quoted(&whole.to_string()))) {
            Ok(()) => context.log.notice(format!("this server was made from a backup: its history is {whole}")),
            Err(fault) => context.log.warning(format!("the history of this server cannot be set: {fault}")),
        }
    }

    /// Tells the server where its source is, and how to log in there.
    fn point_to(&self, server: &mut Server, host: &str) -> Outcome {
        let replication = &self.params.replication;
        let password = self.replication_password()?;
        let text = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let (ca, certificate, key) = (text(&replication.ca), text(&replication.certificate), text(&replication.key));
        server.follow(&Source {
            host,
            port: replication.port,
            user: &replication.user,
            password: password.expose(),
            tls: replication.tls,
            ca: ca.as_deref(),
            certificate: certificate.as_deref(),
            key: key.as_deref(),
        })?;
        Ok(())
    }

    /// Stops receiver and applier. An applier that waits for the rest of a transaction whose sender is dead would take a
    /// minute (MySQL): its workers are ended then. What they were applying is rolled back.
    pub(crate) fn stop_replica(&self, context: &Context, state: &State, server: &mut Server) -> Outcome {
        match server.run_within(server.dialect().stop_replica(), limits::STOPS_BY_ITSELF) {
            // Refused: it follows nobody.
            Ok(()) | Err(Fault::Error(..)) => return Ok(()),
            Err(Fault::Silent(_) | Fault::Broken(_)) => {}
            Err(fault) => return Err(fault.into()),
        }
        context.log.notice("the applier does not stop: ending its workers");
        *server = self.reach(context, state)?;
        let (begin, limit) = (Instant::now(), self.within(limits::STOPPING));
        while server.replica()?.is_some_and(|r| r.applier != Thread::Stopped || r.receiver != Thread::Stopped) {
            if begin.elapsed() > limit {
                return Err(Failure::generic("the applier cannot be stopped: it may be applying a large transaction; trying again later"));
            }
            for id in server.rows_of(server.dialect().appliers())?.iter().filter_map(|row| row.get("id")) {
                // It may have ended by itself.
                let _ = server.run(&format!("KILL {id}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A server with transactions of its own never follows silently.
    fn refuse_to_follow(&self, context: &Context, state: &mut State, primary: &str, errant: String) -> Outcome {
        if state.errant.as_ref() != Some(&errant) {
            state.errant = Some(errant);
            context.log.error(format!("{} (primary: {primary})", self.errant_reason(state)));
        }
        self.state_file.save(state)?;
        self.cluster.publish_score(Score::NEVER).map_err(cluster_failure)
    }

    /// What an operator is told of a server that has diverged.
    pub(crate) fn errant_reason(&self, state: &State) -> String {
        if self.copy_is_unfinished() {
            return "the copy of the primary's data on this server is not complete; it does not follow. Set rejoin=clone and restart this \
                    instance (crm resource restart), or make this replica anew (docs/mysql.md)"
                .to_owned();
        }
        format!(
            "this server has transactions that the primary does not have: {}; it does not follow. Look at them in its binary logs, then make \
             this replica anew (docs/mysql.md), or set rejoin=clone",
            state.errant.as_deref().unwrap_or_default()
        )
    }

    /// Whether this replica may acknowledge under a record that was read now.
    fn may_acknowledge(&self, state: &State, record: &Record, primary: &str) -> bool {
        let wanted = record.durability == Durability::Lossless && state.dialect.as_ref().is_some_and(|d| d.semi_sync.is_some());
        wanted && self.node().is_ok_and(|me| election::may_acknowledge(record, me, primary, state.memory.get().not_before))
    }

    /// On a replica, with each monitor: it follows whom it should, acknowledges when it may, and says what is wrong.
    /// `sound`: its settings allow it to acknowledge.
    pub(crate) fn tend_replication(&self, context: &Context, state: &mut State, server: &mut Server, seen: &Observation, sound: bool) {
        state.trouble = match self.tend(context, state, server, seen, sound) {
            Ok(()) => None,
            Err(failure) => {
                context.log.warning(&failure.reason);
                Some(failure.reason)
            }
        };
        state.alone_for = if seen.replica.is_none() && state.following.is_none() { state.alone_for.saturating_add(1) } else { 0 };
    }

    fn tend(&self, context: &Context, state: &mut State, server: &mut Server, seen: &Observation, sound: bool) -> Outcome {
        self.wait_no_more(server, seen)?;
        if let Some(twin) = &state.twin {
            return self.keep_away(server, seen, twin);
        }
        if let Err(failure) = self.follow_the_record(context, state) {
            context.log.warning(failure.reason);
        }
        let Some(primary) = self.whom_to_follow(context, state, seen)? else { return Ok(()) };
        let host = self.address_of(context, state, &primary);
        let port = self.params.replication.port;
        let here = |r: &&Replica| r.host == host && r.port == port && r.in_order();
        let Some(replica) = seen.replica.as_ref().filter(here) else {
            if state.errant.is_none() && !seen.waits {
                let how = match &seen.replica {
                    Some(r) if r.host == host && !r.by_gtid => format!("follows {primary} by a position in a file and not by GTID"),
                    Some(r) if r.host == host && r.delay > 0 => format!("follows {primary} with a delay of {} s", r.delay),
                    _ => format!("does not follow {primary}"),
                };
                context.log.warning(format!("the server {how}: making it follow"));
            }
            let record = self.record()?;
            state.record = record.as_ref().map(ToString::to_string);
            return self.rejoin(context, state, server, &primary, record.as_ref());
        };
        if state.record.is_none() {
            // Asked now, so that an election need not wait for it. That the cluster cannot be asked is no fault of this server.
            match self.record() {
                Ok(record) => state.record = record.map(|r| r.to_string()),
                Err(failure) => context.log.warning(failure.reason),
            }
        }
        let record = state.known_record();
        if let Some(errant) = record.as_ref().and_then(|r| election::errant(&seen.executed, r)) {
            return self.find_errant(context, state, server, &primary, &errant);
        }
        if !self.copy_is_unfinished() {
            state.errant = None;
        }
        state.foreign_for = 0;
        match replica.broken() {
            Some(why) => self.tend_broken(context, state, server, replica, why),
            None if replica.receiver == Thread::Stopped || replica.applier == Thread::Stopped => {
                context.log.notice("replication is stopped: starting it");
                self.forget_received(state, server, replica, record.as_ref())?;
                Ok(server.run(server.dialect().start_replica())?)
            }
            None => {
                if replica.attached() {
                    state.linked = true;
                    state.broken = None;
                    state.broken_for = 0;
                    state.held_until = None;
                    if sound {
                        self.tend_acknowledging(context, state, server, seen, &primary)?;
                    } else if seen.acknowledges {
                        // What it acknowledges it may not have.
                        let record = self.record()?;
                        record.map_or(Ok(()), |record| self.resign(context, state, server, &record))?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Two replicas with one server_id throw each other out of the primary, and MariaDB's can stand still for good over it: it waits, with
    /// its list of connections locked, for an acknowledgement that may never come (Ack_receiver::remove_slave, seen with 10.11). Whoever
    /// finds that another one has its id leaves the primary alone.
    fn keep_away(&self, server: &mut Server, seen: &Observation, twin: &str) -> Outcome {
        if seen.replica.as_ref().is_some_and(|r| r.receiver != Thread::Stopped) {
            server.run_within(server.dialect().stop_receiver(), limits::STOPPING)?;
        }
        Err(Failure::generic(twin))
    }

    /// A replica that was told of no promotion, because its node was in maintenance or nobody could reach it, learns of the new primary
    /// from the record. The old one may be alive, and then nothing else would tell.
    fn follow_the_record(&self, context: &Context, state: &mut State) -> Outcome {
        let now = process::since_boot();
        let due = state.asked_record.is_none_or(|at| now.saturating_sub(at) > limits::ASKED_EVERY) || state.broken_for > 0;
        let Some(following) = state.following.clone().filter(|_| due && self.cluster.is_present()) else { return Ok(()) };
        state.asked_record = Some(now);
        let Some(record) = self.record()?.filter(|r| !r.decided() && r.node != following) else { return Ok(()) };
        if record.node != self.node()? {
            context.log.warning(format!("this server follows {following}, and the record names {}: following the record", record.node));
            state.following = Some(record.node.clone());
            state.record = Some(record.to_string());
        }
        Ok(())
    }

    /// Whom this server is to follow. When it was not told (an election whose end it did not hear, a replication that ran
    /// before us), the record tells.
    fn whom_to_follow(&self, context: &Context, state: &mut State, seen: &Observation) -> Result<Option<String>, Failure> {
        if let Some(primary) = &state.following {
            return Ok(Some(primary.clone()));
        }
        if !self.cluster.is_present() || (state.rested.is_none() && seen.replica.is_none()) {
            return Ok(None);
        }
        let Some(record) = self.record()?.filter(|r| !r.decided()) else { return Ok(None) };
        if record.node == self.node()? {
            return Ok(None);
        }
        let over = match &state.rested {
            // The election that its receiver was stopped for may still be going on.
            Some(round) => *round != Record::round(Some(&record)),
            None => {
                let host = self.address_of(context, state, &record.node);
                seen.replica.as_ref().is_some_and(|r| r.attached() && r.host == host)
            }
        };
        if !over {
            return Ok(None);
        }
        state.following = Some(record.node.clone());
        Ok(Some(record.node))
    }

    /// Before replication is started from a complete stop, where that deletes what was received: this server does not
    /// speak any more for what it acknowledged.
    fn forget_received(&self, state: &mut State, server: &mut Server, replica: &Replica, record: Option<&Record>) -> Outcome {
        if replica.applier != Thread::Stopped || !server.dialect().restart_loses_received() {
            return Ok(());
        }
        server.run_all(server.dialect().acknowledge(false))?;
        state.acknowledges = false;
        state.memory.change(|m| m.start_over(record.map(Record::stamp)));
        self.state_file.save(state)
    }

    /// Somebody wrote on this replica.
    fn find_errant(&self, context: &Context, state: &mut State, server: &mut Server, primary: &str, errant: &str) -> Outcome {
        let record = self.record()?;
        state.record = record.as_ref().map(ToString::to_string);
        // With the record of now: what is known may be older than the primary's last change.
        let seen = server.observe()?;
        let Some(still) = record.as_ref().and_then(|r| election::errant(&seen.executed, r)) else { return Ok(()) };
        // They came with the replication, probably. The primary's next monitor records them.
        if state.errant.is_none() && state.foreign_for < FOREIGN_PATIENCE && election::came_from_elsewhere(&still, &seen.server) {
            state.foreign_for = state.foreign_for.saturating_add(1);
            context.log.notice(format!("{still} was written by none of the recorded primaries: waiting for {primary} to record it"));
            return Ok(());
        }
        if state.errant.as_deref() != Some(errant) {
            if let Some(record) = &record {
                self.resign(context, state, server, record)?;
            }
            self.stop_replica(context, state, server)?;
        }
        self.refuse_to_follow(context, state, primary, still)
    }

    /// Replication cannot get on by itself. After a while the replica ceases to acknowledge, so that the primary can
    /// take it out of those that an election has to hear.
    fn tend_broken(&self, context: &Context, state: &mut State, server: &mut Server, replica: &Replica, why: String) -> Outcome {
        state.broken_for = state.broken_for.saturating_add(1);
        if state.broken.as_ref() != Some(&why) {
            context.log.error(&why);
            state.broken = Some(why);
        }
        if state.broken_for < PATIENCE {
            return Ok(());
        }
        let Some(record) = self.record()? else { return Ok(()) };
        let told = state.membership.as_deref().and_then(Membership::parse);
        let member = record.active.contains(self.node()?);
        if member && told != Some(Membership::Resigned(record.stamp())) {
            self.resign(context, state, server, &record)?;
        }
        state.record = Some(record.to_string());
        let primary = state.following.clone().filter(|primary| *primary == record.node);
        match (&replica.receiver_error, primary) {
            // A password or an address may have been corrected: it is told both anew.
            (Some(_), Some(primary)) if replica.applier_error.is_none() => {
                self.stop_replica(context, state, server)?;
                state.memory.change(|m| m.point(record.stamp()));
                state.addresses.remove(&primary);
                self.state_file.save(state)?;
                let host = self.address_of(context, state, &primary);
                self.point_to(server, &host)?;
                server.run(server.dialect().start_replica())?;
            }
            _ if replica.receiver == Thread::Stopped => server.run(server.dialect().start_receiver())?,
            _ => {}
        }
        Ok(())
    }

    /// Ceases to acknowledge, then says so: in this order, so that whoever reads it can rely on it.
    fn resign(&self, context: &Context, state: &mut State, server: &mut Server, record: &Record) -> Outcome {
        server.run_within(server.dialect().stop_receiver(), limits::STOPPING)?;
        server.run_all(server.dialect().acknowledge(false))?;
        state.acknowledges = false;
        let mut stamp = Stamp::default();
        state.memory.change(|m| stamp = m.resign(record));
        self.state_file.save(state)?;
        if let Some(replica) = server.replica()? {
            self.forget_received(state, server, &replica, Some(record))?;
        }
        self.tell_membership(state, Membership::Resigned(stamp))?;
        context.log.warning("this replica ceases to acknowledge until it is in order again");
        if state.errant.is_none() {
            server.run(server.dialect().start_receiver())?;
        }
        Ok(())
    }

    fn tell_membership(&self, state: &mut State, membership: Membership) -> Outcome {
        let text = membership.print();
        let now = process::since_boot();
        let stands = state.membership_at.is_some_and(|at| now.saturating_sub(at) < limits::MEMBERSHIP_STANDS);
        if state.membership.as_ref() == Some(&text) && stands {
            return Ok(());
        }
        self.cluster.publish_private(MEMBERSHIP, &text).map_err(cluster_failure)?;
        state.membership = Some(text);
        state.membership_at = Some(now);
        self.state_file.save(state)
    }

    /// A replica in order that does not acknowledge yet.
    fn tend_acknowledging(&self, context: &Context, state: &mut State, server: &mut Server, seen: &Observation, primary: &str) -> Outcome {
        let wanted = self.must_wait(state);
        if wanted && state.acknowledges && seen.acknowledges && state.memory.epoch() >= state.known_record().map_or(0, |r| r.epoch) {
            return Ok(());
        }
        if seen.acknowledges {
            // Switched on by somebody else, or in an epoch before: what it acknowledges is known to no record.
            server.run_within(server.dialect().stop_receiver(), limits::STOPPING)?;
            server.run_all(server.dialect().acknowledge(false))?;
            server.run(server.dialect().start_receiver())?;
            state.acknowledges = false;
        }
        if !wanted {
            return if seen.acknowledges { self.state_file.save(state) } else { Ok(()) };
        }
        let Some(mut record) = self.record()? else { return Ok(()) };
        state.record = Some(record.to_string());
        if seen.acknowledges {
            state.memory.change(|m| m.found_on(&record, primary));
        }
        // Not known yet since the server started.
        state.memory.change(|m| m.learn(record.stamp()));
        self.state_file.save(state)?;
        if self.ask_to_acknowledge(state, seen, &record, primary)? {
            let me = self.node()?;
            if record.active.iter().filter(|node| *node != me).count() < record.acknowledgements {
                record = self.await_record(record, limits::MEETING, |record| self.may_acknowledge(state, record, primary))?;
                state.record = Some(record.to_string());
            }
        }
        if self.may_acknowledge(state, &record, primary) {
            return self.begin_to_acknowledge(context, state, server, &record);
        }
        if let Some(lacking) = record.set.as_ref().and_then(|set| set.difference(&seen.have())) {
            context.log.notice(format!("not acknowledging yet: this replica still lacks {lacking}"));
        }
        Ok(())
    }

    /// The first acknowledgements under this record, which allows them.
    fn begin_to_acknowledge(&self, context: &Context, state: &mut State, server: &mut Server, record: &Record) -> Outcome {
        server.run_within(server.dialect().stop_receiver(), limits::STOPPING)?;
        let held = server.observe()?.have();
        state.memory.change(|m| m.acknowledge(record));
        state.acknowledges = true;
        self.state_file.save(state)?;
        server.run_all(server.dialect().acknowledge(true))?;
        server.run(server.dialect().start_receiver())?;
        context.log.notice(format!("acknowledging under record {}", record.stamp()));
        self.tell_membership(state, Membership::Acknowledges(record.stamp(), held))
    }

    /// Tells the primary that this replica has caught up, when it needs a newer record to acknowledge; whether it did.
    fn ask_to_acknowledge(&self, state: &mut State, seen: &Observation, record: &Record, primary: &str) -> Result<bool, Failure> {
        let caught_up = record.set.as_ref().is_none_or(|set| seen.have().contains(set));
        let asks = !self.may_acknowledge(state, record, primary)
            && caught_up
            && record.node == primary
            && record.durability == Durability::Lossless;
        if asks {
            self.tell_membership(state, Membership::Ready(state.memory.get().not_before.unwrap_or_default()))?;
        }
        Ok(asks)
    }

    /// On a server that was started, in the notification of that: the primary hears the same one and records whom it needs, so what
    /// waits for this replica goes on now, and not with the monitors. Nothing is lost by a primary that is notified later.
    pub(crate) fn after_own_start(&self, context: &Context) -> Outcome {
        self.acknowledge_within(context, &mut self.state_file.load(), limits::RECORDED_AT_START)
    }

    /// On a server whose data were copied, in the process that did it: the monitors are far apart, and where no other replica is,
    /// every write waits for this one.
    pub(crate) fn acknowledge_soon(&self, context: &Context) -> Outcome {
        let copied = self.state_file.load().server;
        let begin = Instant::now();
        while begin.elapsed() < limits::SOON {
            // Whoever has the lock acts on this server, and goes first.
            if let Some(_lock) = self.lock_now() {
                let mut state = self.state_file.load();
                if state.server != copied || state.promoted || state.acknowledges {
                    return Ok(());
                }
                self.acknowledge_within(context, &mut state, Duration::ZERO)?;
            }
            std::thread::sleep(limits::SOON_STEP);
        }
        Ok(())
    }

    /// Lets a replica that has just come acknowledge when it is connected and recorded within `limit`, each.
    fn acknowledge_within(&self, context: &Context, state: &mut State, limit: Duration) -> Outcome {
        let pointed = state.following.clone().filter(|_| !state.promoted && !state.acknowledges && state.errant.is_none());
        let Some(primary) = pointed.filter(|_| self.must_wait(state) && state.answered) else { return Ok(()) };
        if self.find_server(state).is_none() {
            return Ok(());
        }
        let mut server = self.connect(state.dialect.as_ref(), limits::ANSWER_IN_NOTIFICATION)?;
        let begin = Instant::now();
        let seen = loop {
            let seen = server.observe()?;
            if seen.replica.as_ref().is_some_and(Replica::attached) {
                break seen;
            }
            if begin.elapsed() >= limit {
                return Ok(());
            }
            std::thread::sleep(limits::MEETING_STEP);
        };
        // What somebody else switched on is the monitor's business.
        let Some(record) = self.record()?.filter(|_| !seen.acknowledges) else { return Ok(()) };
        self.ask_to_acknowledge(state, &seen, &record, &primary)?;
        let record = self.await_record(record, limit, |record| self.may_acknowledge(state, record, &primary))?;
        if !self.may_acknowledge(state, &record, &primary) {
            return Ok(());
        }
        state.record = Some(record.to_string());
        self.begin_to_acknowledge(context, state, &mut server, &record)
    }

    /// The primary is being asked as well, perhaps, and records this replica in a moment.
    fn await_record(&self, mut record: Record, limit: Duration, is_awaited: impl Fn(&Record) -> bool) -> Result<Record, Failure> {
        let (begin, limit) = (Instant::now(), self.within(limit));
        while !is_awaited(&record) && begin.elapsed() < limit {
            std::thread::sleep(limits::MEETING_STEP);
            record = self.record()?.unwrap_or(record);
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replica_tells_reads_back() {
        let stamp = Stamp { epoch: 7, change: 3 };
        let held = Gtids::parse_any("0-11-5,0-12-7").expect("a state");
        let all = [
            Membership::Ready(stamp),
            Membership::Resigned(stamp),
            Membership::Acknowledges(stamp, Gtids::Empty),
            Membership::Acknowledges(stamp, held),
        ];
        for membership in all {
            assert_eq!(Membership::parse(&membership.print()), Some(membership.clone()), "{}", membership.print());
        }
        // As before it said what it held.
        assert_eq!(Membership::parse("acknowledges 7.3"), Some(Membership::Acknowledges(stamp, Gtids::Empty)));
        assert_eq!(Membership::parse("resigned x"), None);
        assert_eq!(Membership::parse("acknowledges 7.3 nonsense"), None);
    }
}
