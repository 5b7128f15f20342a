//! `rejoin`: what becomes of a server that has diverged, in a process of its own.
//!
//! An action only begins it: it may take hours, and while any action runs, the cluster begins no failover. What it does stands in `taking_back`
//! and `copy`. A note beside the data says that it is in the middle: a server with such a note is nobody's equal, whatever its GTIDs say, and the
//! next start goes on with it.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ocf::{Context, Deadline, Failure, Outcome, Peers, Status};
use process::Identity;
use serde::{Deserialize, Serialize};

use crate::agent::MySql;
use crate::copy::cannot_keep;
use crate::election::{self, Divergence};
use crate::engine::{Local, MEMBERSHIP};
use crate::limits;
use crate::membership::Membership;
use crate::operator::Progress;
use crate::protocol::Instance;
use crate::record::{Record, Stamp};
use crate::server::Server;
use crate::state::State;

/// Why a server does not follow yet.
#[derive(Clone, Debug)]
pub(crate) enum Halt {
    /// It will not by itself: an operator has to do something.
    Refused(String),
    /// It is tried again.
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for Halt {
    fn from(failure: F) -> Self {
        Self::Failed(failure.into())
    }
}

/// A server that is made to follow again, since the node booted, in a file while it lasts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rejoining {
    /// The process that does it: the leader of a session.
    pub(crate) worker: Identity,
    /// Whose data.
    pub(crate) primary: String,
    /// When it began, since boot.
    pub(crate) since: Duration,
    /// Why it failed last.
    pub(crate) failure: Option<String>,
    /// How often.
    #[serde(default)]
    pub(crate) failures: u32,
    /// When it is tried again, since boot.
    #[serde(default)]
    pub(crate) next: Option<Duration>,
    /// Whose copy is made first.
    #[serde(default)]
    pub(crate) after: Option<String>,
    /// What is being done, where it is no copy.
    #[serde(default)]
    pub(crate) doing: Option<String>,
    /// How many bytes the program has said that it copies.
    #[serde(default)]
    pub(crate) announced: Option<u64>,
    /// Why it came to its end without success, and under a record of which epoch.
    #[serde(default)]
    pub(crate) refused: Option<(String, u64)>,
    /// Its server is gone, or has a receiver that nobody starts: it acknowledges nothing before this is taken back, which needs the lock.
    #[serde(default)]
    pub(crate) is_mute: bool,
}

/// What an instance says that begins to take something back. Pacemaker shows the first reason that a recurring monitor gives with an exit code,
/// and no later one with the same: this has to be true also when nothing can be taken back.
fn first_of_rewind(primary: &str) -> String {
    format!(
        "it does not follow: it has transactions that {primary} does not have, and taking them back is tried first; its log and systole diverged \
         say what came of it"
    )
}

impl Rejoining {
    /// Whether data are being copied at this moment.
    pub(crate) fn copies(&self) -> bool {
        self.doing.is_none() && self.after.is_none() && self.next.is_none()
    }

    /// Whether nothing is done at this moment: it waits for another attempt, or for its turn.
    pub(crate) fn waits(&self) -> bool {
        self.next.is_some() || self.after.is_some()
    }

    /// What a monitor says of it.
    pub(crate) fn status(&self) -> Result<Status, Failure> {
        if self.worker.is_alive() {
            return Ok(Status::Degraded(self.told(true, process::since_boot(), None)));
        }
        let broken_off = || self.told(false, process::since_boot(), None);
        Err(Failure::generic(self.failure.clone().unwrap_or_else(broken_off)))
    }

    /// What is said of it: by a monitor, which does not know how far it is, and by the operator's command.
    pub(crate) fn told(&self, is_alive: bool, now: Duration, progress: Option<Progress>) -> String {
        let Self { primary, since, failure, failures, next, after, doing, .. } = self;
        let of_rewind = doing.is_some();
        if !is_alive {
            let what =
                if of_rewind { format!("taking back what {primary} does not have") } else { format!("the copy of {primary}'s data") };
            return format!("{what} was broken off; it is begun anew");
        }
        match (failure, next, doing, after, progress) {
            (Some(why), Some(next), ..) => {
                let minutes = next.saturating_sub(now).as_secs().div_ceil(60);
                let what = if of_rewind { "to make this server follow".to_owned() } else { format!("the copy of {primary}'s data") };
                format!("{what} failed {failures} times: {why}; next attempt in {minutes} min")
            }
            (_, _, Some(doing), ..) => doing.clone(),
            (_, _, None, Some(other), _) => format!("the data of {primary} are copied here after those on {other}: one copy at a time"),
            (.., Some(progress)) => {
                let seconds = now.saturating_sub(*since).as_secs();
                format!("the data of {primary} are being copied here, for {seconds} s so far: {}", progress.print())
            }
            // Pacemaker shows the first of a monitor's reasons for as long as it lasts: this one has to stay true.
            _ => format!("the data of {primary} are being copied here; systole status --live says how far, and what goes wrong"),
        }
    }
}

impl MySql {
    #[allow(clippy::disallowed_methods, reason = "what is remembered of it is root's")]
    fn remembered_rejoining(&self) -> Option<Rejoining> {
        serde_json::from_slice(&std::fs::read(self.volatile_file("copy")).ok()?).ok()
    }

    /// What is under way, or was broken off.
    pub(crate) fn rejoining(&self) -> Option<Rejoining> {
        self.remembered_rejoining().filter(|rejoining| rejoining.refused.is_none())
    }

    /// Why this server is not made to follow, where that was tried under a record of the same epoch.
    pub(crate) fn not_rejoined(&self, epoch: Option<u64>) -> Option<String> {
        let (why, under) = self.remembered_rejoining()?.refused?;
        (epoch.is_none() || epoch == Some(under)).then_some(why)
    }

    #[allow(clippy::disallowed_methods, reason = "what is remembered of it is root's")]
    fn remember_rejoining(&self, rejoining: &Rejoining) -> Result<(), String> {
        let path = self.volatile_file("copy");
        let text = serde_json::to_vec(rejoining).map_err(|e| e.to_string())?;
        process::write_atomically(&path, &text, 0o600).map_err(|e| format!("{}: {e}", path.display()))
    }

    #[allow(clippy::disallowed_methods, reason = "what is remembered of it is root's")]
    fn forget_rejoining(&self) {
        let _ = std::fs::remove_file(self.volatile_file("copy"));
    }

    /// What cannot be said is not: the monitor finds one that lasts.
    pub(crate) fn change_rejoining(&self, change: impl FnOnce(Rejoining) -> Rejoining) {
        if let Some(rejoining) = self.remembered_rejoining() {
            let _ = self.remember_rejoining(&change(rejoining));
        }
    }

    /// Says what is being done.
    pub(crate) fn tell_doing(&self, context: &Context, doing: String) {
        context.log.notice(&doing);
        self.change_rejoining(|rejoining| Rejoining { doing: Some(doing), ..rejoining });
    }

    /// Begins to make a server follow that has diverged, and does not wait for it.
    pub(crate) fn begin_rejoin(&self, context: &Context, primary: &str) -> Outcome {
        let begun = |worker: &Identity| Rejoining {
            worker: worker.clone(),
            primary: primary.to_owned(),
            since: process::since_boot(),
            failure: None,
            failures: 0,
            next: None,
            after: None,
            doing: self.params.rejoin.takes_back().then(|| first_of_rewind(primary)),
            announced: None,
            refused: None,
            is_mute: false,
        };
        let work = || {
            let unlimited = Context {
                deadline: Deadline::after(limits::FOR_EVER),
                environment: context.environment.clone(),
                log: Rc::clone(&context.log),
            };
            Self::with(&unlimited, self.params.clone()).rejoin_at_last(&unlimited, primary);
        };
        process::detach(|worker| self.remember_rejoining(&begun(worker)), work)
            .map_err(|e| Failure::generic(format!("the copy of {primary}'s data cannot be begun: {e}")))?;
        if !self.params.rejoin.takes_back() {
            context.log.notice(format!("copying {primary}'s data; this instance neither follows nor can be promoted until that is done"));
        }
        Ok(())
    }

    /// Tried again here, after a pause that grows: an instance that failed and was restarted for each attempt would count as failed for good after
    /// some, and would begin a whole copy with every monitor.
    fn rejoin_at_last(&self, context: &Context, primary: &str) {
        for failures in 1.. {
            let halt = self.rejoin_once(context, primary);
            self.end_turn();
            let failure = match halt {
                Ok(()) => break,
                Err(Halt::Refused(why)) => {
                    context.log.error(format!("this server is not made to follow: {why}"));
                    let epoch = self.record().ok().flatten().map_or(0, |record| record.epoch);
                    return self.change_rejoining(|rejoining| Rejoining { refused: Some((why, epoch)), ..rejoining });
                }
                Err(Halt::Failed(failure)) => failure,
            };
            context.log.error(format!("copy: {}", failure.reason));
            let next = process::since_boot() + pause_after(failures);
            self.change_rejoining(|rejoining| Rejoining {
                failure: Some(failure.reason),
                failures,
                next: Some(next),
                after: None,
                ..rejoining
            });
            while process::since_boot() < next {
                std::thread::sleep(limits::KNOWN);
            }
            self.change_rejoining(|rejoining| Rejoining { next: None, since: process::since_boot(), ..rejoining });
        }
        self.forget_rejoining();
        if let Err(failure) = self.acknowledge_soon(context) {
            context.log.warning(format!("this replica acknowledges with one of its next monitors: {}", failure.reason));
        }
    }

    fn rejoin_once(&self, context: &Context, primary: &str) -> Result<(), Halt> {
        let rejoin = self.params.rejoin;
        let copied_in_part = self.copy_note_is_there();
        if rejoin.takes_back() && !copied_in_part {
            match self.take_back(context, primary) {
                Err(Halt::Refused(why)) if rejoin.copies() => {
                    context.log.warning(format!("nothing is taken back here ({why}): copying {primary}'s data instead"));
                }
                done => return done,
            }
        } else if !rejoin.copies() {
            return Err(Halt::Refused(UNFINISHED.to_owned()));
        }
        self.change_rejoining(|rejoining| Rejoining { doing: None, since: process::since_boot(), ..rejoining });
        Ok(self.copy_in_turn(context, primary)?)
    }

    /// Breaks off what is under way, and forgets it.
    ///
    /// # Errors
    /// When something of it goes on: it would write into what comes after it.
    pub(crate) fn end_rejoin(&self) -> Outcome {
        let Some(rejoining) = self.remembered_rejoining() else { return Ok(()) };
        if !process::kill_session(&rejoining.worker, self.within(limits::BREAKING_OFF)) {
            return Err(Failure::generic(format!(
                "the processes of a copy (session {}) cannot be killed: they hang in the kernel, probably on the disk or the network",
                rejoining.worker.pid
            )));
        }
        self.end_turn();
        self.forget_rejoining();
        Ok(())
    }

    /// What was refused may be tried again: an operator has changed the parameters.
    pub(crate) fn forget_refusal(&self) {
        if self.rejoining().is_none() {
            self.forget_rejoining();
        }
    }

    /// Whether a server that has diverged is to be made to follow now, and of which primary. Asked after an action, without the lock: whoever does
    /// it must not keep that.
    pub(crate) fn rejoin_due(&self) -> Option<String> {
        let state = self.state_file.load();
        state.errant()?;
        let epoch = state.record.as_ref().map(|record| record.epoch);
        let waits = self.rejoining().is_some() || self.not_rejoined(epoch).is_some() || self.is_cramped();
        if !self.params.rejoin.takes_back() || waits {
            return None;
        }
        state.following().map(str::to_owned)
    }

    /// The server that runs, or one that is started now: an attempt before this one may have ended it.
    pub(crate) fn server_to_rejoin(&self, context: &Context) -> Result<Server, Failure> {
        let state = self.state_file.load();
        match self.find_server(state.server()) {
            Some(_) => Ok(self.connect(state.dialect(), limits::ANSWER)?),
            None => self.launch_and_connect(context),
        }
    }

    pub(crate) fn launch_and_connect(&self, context: &Context) -> Result<Server, Failure> {
        let peers = Peers::read(&context.environment);
        let limit = context.deadline.left();
        let launched = self.act(context, &self.rules(context), self.state_file.load(), |i| i.launch_to_copy(limit, peers))?;
        if !launched {
            return Err(Failure::generic("the server does not answer after its start"));
        }
        Ok(self.connect(self.state_file.load().dialect(), limits::ANSWER)?)
    }

    /// Has the server follow, over this connection.
    pub(crate) fn follow(&self, context: &Context, server: Server, state: State, primary: &str, record: Option<&Record>) -> Outcome {
        self.act_by(Local::over(self, context, server), context, &self.rules(context), state, |i| i.follow_after_copy(primary, record))
    }

    /// A last look before data are replaced: the server, if it has still what the primary has not. What others wrote may have come from the
    /// primary itself, which records it with its next monitor.
    pub(crate) fn diverged(&self, context: &Context, mut server: Server, primary: &str) -> Result<Option<Server>, Failure> {
        let until = process::since_boot() + limits::RECORDING;
        loop {
            let Some(record) = self.record()? else { return Ok(Some(server)) };
            let seen = server.observe()?;
            if record.decided() {
                return Err(Failure::generic("an operator has decided which data are right, and nobody was promoted since"));
            }
            let Some(divergence) = election::divergence(&seen.executed, &seen.server, &record) else {
                context.log.notice("the primary has all that is here: no copy is needed");
                let (state, record) = self.speak_again()?;
                self.follow(context, server, state, primary, record.as_ref())?;
                return Ok(None);
            };
            let foreign = matches!(&divergence, Divergence::Errant(errant) if election::came_from_elsewhere(errant, &seen.server));
            if !foreign || process::since_boot() >= until {
                return Ok(Some(server));
            }
            std::thread::sleep(limits::KNOWN);
        }
    }

    /// With each monitor while data are copied, which may take hours: a member that can acknowledge nothing leaves the record. As long as it is
    /// there, an election has to hear it.
    pub(crate) fn leave_the_record(&self) {
        let Some(_lock) = self.lock_now() else { return };
        if !self.rejoining().is_some_and(|rejoining| rejoining.is_mute) {
            return;
        }
        let (Ok(Some(record)), Ok(me)) = (self.record(), self.node()) else { return };
        if record.active.contains(me) {
            // What is not told now is told by the next one.
            let _ = self.cluster.publish_private(MEMBERSHIP, &Membership::Resigned(record.stamp()).print());
        }
    }

    /// Nothing is acknowledged here from now on.
    pub(crate) fn fall_mute(&self) {
        let state = self.state_file.load();
        let stopped = match self.find_server(state.server()) {
            None => true,
            Some(_) => self
                .connect(state.dialect(), limits::ANSWER)
                .and_then(|mut server| server.run_within(server.dialect().stop_replica(), limits::STOPPING))
                .is_ok(),
        };
        self.change_rejoining(|rejoining| Rejoining { is_mute: stopped, ..rejoining });
    }

    /// It may acknowledge again, under records later than the one that is read now: monitors have said under those before that it does not.
    pub(crate) fn speak_again(&self) -> Result<(State, Option<Record>), Failure> {
        let lock = loop {
            match self.lock_now() {
                Some(lock) => break lock,
                None => std::thread::sleep(limits::SOON_STEP),
            }
        };
        self.change_rejoining(|rejoining| Rejoining { is_mute: false, ..rejoining });
        drop(lock);
        self.left_the_record()
    }

    /// What is remembered here, and the record that is read now: only under later ones it acknowledges.
    pub(crate) fn left_the_record(&self) -> Result<(State, Option<Record>), Failure> {
        let record = self.record()?;
        let mut state = self.state_file.load();
        state.told.membership = None;
        match &record {
            Some(record) => {
                state.memory.resign(record);
            }
            None => state.memory.learn(Stamp::default()),
        }
        Ok((state, record))
    }

    /// Where what only this server had is kept, and the notes.
    pub(crate) fn kept_directory(&self) -> PathBuf {
        let name = self.params.datadir.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        self.params.datadir.with_file_name(format!("{name}.systole-kept"))
    }

    /// Makes it, where only root can, and gives it to the server's user.
    pub(crate) fn make_kept_directory(&self) -> Outcome {
        let directory = self.kept_directory();
        self.account()?.give_directory(&directory).map_err(|e| cannot_keep(&directory, e))
    }

    /// Whether a copy, or taking back, was begun and not ended: the data are neither the old nor the new ones.
    pub(crate) fn rejoin_is_unfinished(&self) -> bool {
        self.copy_note_is_there() || self.rewind_note_is_there()
    }

    /// What is written here from now on must not get the names of what was given up: the next start of a MySQL makes a new server_uuid.
    pub(crate) fn forget_server_uuid(&self) -> Outcome {
        match self.files(|files| files.remove(&self.params.datadir.join("auto.cnf"))) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::generic(format!("{}/auto.cnf cannot be removed: {e}; remove it", self.params.datadir.display())))
            }
            _ => Ok(()),
        }
    }

    /// On a server that follows again: the monitors are far apart, and where no other replica is, every write waits for this one.
    fn acknowledge_soon(&self, context: &Context) -> Outcome {
        let copied = self.state_file.load().server().cloned();
        let begin = Instant::now();
        while begin.elapsed() < limits::SOON {
            // Whoever has the lock acts on this server, and goes first.
            if let Some(_lock) = self.lock_now() {
                let state = self.state_file.load();
                if state.server() != copied.as_ref() || state.promoted() || state.acknowledges() {
                    return Ok(());
                }
                self.act(context, &self.rules(context), state, Instance::acknowledge_after_copy)?;
            }
            std::thread::sleep(limits::SOON_STEP);
        }
        Ok(())
    }

    /// # Errors
    /// When it cannot be ended: nothing else may touch its data then.
    pub(crate) fn end_server(&self) -> Outcome {
        let Some(process) = self.find_server(self.state_file.load().server()) else { return Ok(()) };
        self.watcher().end();
        process.terminate();
        if process.wait_gone(limits::BEFORE_COPY) {
            return Ok(());
        }
        process.kill();
        if process.wait_gone(limits::BEFORE_COPY) {
            return Ok(());
        }
        Err(Failure::generic(format!("the server (pid {}) cannot be ended, so its data are not replaced", process.pid)))
    }
}

/// What an operator is told of data that are neither the old nor the new ones, where nobody goes on with it.
pub(crate) const UNFINISHED: &str = "a copy of the primary's data, or taking back what that one does not have, was begun here and not ended; it does not follow. Set rejoin as it was \
     and restart this instance (crm resource restart), or make this replica anew (docs/mysql.md)";

/// How long after so many failures it is tried again.
fn pause_after(failures: u32) -> Duration {
    limits::FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(limits::LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_lxc1() -> Rejoining {
        Rejoining {
            worker: Identity::own().unwrap(),
            primary: "lxc1".to_owned(),
            since: Duration::from_secs(100),
            failure: None,
            failures: 0,
            next: None,
            after: None,
            doing: None,
            announced: None,
            refused: None,
            is_mute: false,
        }
    }

    /// Pacemaker has shown "for 0 s so far" for hours.
    #[test]
    fn what_a_monitor_says_first_of_a_copy_stays_true_and_the_command_says_how_far_it_is() {
        let (rejoining, at) = (of_lxc1(), Duration::from_secs(195));
        let first = rejoining.told(true, at, None);
        assert_eq!(first, rejoining.told(true, Duration::from_secs(9000), None));
        assert!(first.contains("systole status --live") && first.len() < 110, "{first}");
        let progress = Progress { here: 2150 << 20, whole: Some(5000 << 20) };
        let told = rejoining.told(true, at, Some(progress));
        assert_eq!(told, "the data of lxc1 are being copied here, for 95 s so far: 43 %, 2150 of 5000 MB");
    }

    #[test]
    fn what_failed_waits_or_was_broken_off_is_said_before_how_far_it_is() {
        let at = Duration::from_secs(195);
        let failed = Rejoining { failure: Some("no room".to_owned()), failures: 3, next: Some(Duration::from_secs(300)), ..of_lxc1() };
        assert_eq!(failed.told(true, at, None), "the copy of lxc1's data failed 3 times: no room; next attempt in 2 min");
        let waits = Rejoining { after: Some("lxc3".to_owned()), ..of_lxc1() };
        assert_eq!(waits.told(true, at, None), "the data of lxc1 are copied here after those on lxc3: one copy at a time");
        assert!(!failed.copies() && !waits.copies() && of_lxc1().copies());
        assert!(failed.waits() && waits.waits() && !of_lxc1().waits());
        assert_eq!(of_lxc1().told(false, at, None), "the copy of lxc1's data was broken off; it is begun anew");
    }

    #[test]
    fn the_pause_grows_up_to_an_hour() {
        let pauses: Vec<u64> = [1, 2, 3, 8, 100, u32::MAX].into_iter().map(|n| pause_after(n).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 3600, 3600, 3600]);
    }
}
