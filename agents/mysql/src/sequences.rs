//! What takes several statements of a server's, with waiting between them.

use std::time::{Duration, Instant};

use ocf::Log;

use crate::limits;
use crate::observation::{Observation, Replica, Thread};
use crate::server::{Fault, LAST_OF_BACKUP, Server};

/// In how many looks in a row what was received has to stand still.
const STILL: u32 = 4;

/// Stops the receiver, with everything that the old primary sent before it died. Its last events are still in the
/// socket: they end with the connection. When that stays up (a power cut sends no farewell), what was received has to
/// stand still for a while, unless `everything` is known to be here.
pub(crate) fn bring_to_rest(server: &mut Server, replica: &Replica, everything: bool) -> Result<Observation, Fault> {
    let begin = Instant::now();
    let (mut last, mut still) = (replica.received.clone(), 0);
    let mut attached = replica.attached() && !everything;
    while attached && begin.elapsed() < limits::LAST_OF_STREAM && still < STILL {
        std::thread::sleep(Duration::from_millis(5));
        let Some(now) = server.replica()? else { break };
        attached = now.attached();
        still = if now.received == last { still + 1 } else { 0 };
        last = now.received;
    }
    // Where an applier that starts after the receiver has stopped would find nothing left, it starts before.
    if replica.applier == Thread::Stopped && server.dialect().restart_loses_received() {
        let _ = server.run(server.dialect().start_applier());
    }
    server.run_within(server.dialect().stop_receiver(), limits::STOPPING_IN_NOTIFICATION)?;
    server.observe()
}

/// Waits until the transactions of a closed server stand still: a group commit may still be on its way.
pub(crate) fn settle(server: &mut Server) -> Result<(), Fault> {
    let mut last = server.executed()?;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(5));
        let now = server.executed()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(())
}

/// Stops receiver and applier; whether they did.
pub(crate) fn stops_by_itself(server: &mut Server) -> Result<bool, Fault> {
    match server.run_within(server.dialect().stop_replica(), limits::STOPS_BY_ITSELF) {
        // Refused: it follows nobody.
        Ok(()) | Err(Fault::Error(..)) => Ok(true),
        Err(Fault::Silent(_) | Fault::Broken(_)) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Ends the workers of an applier that was told to stop and does not. One that waits for the rest of a transaction whose sender is dead
/// would take a minute (MySQL). What they were applying is rolled back.
pub(crate) fn end_appliers(server: &mut Server, limit: Duration) -> Result<(), Fault> {
    let begin = Instant::now();
    while server.replica()?.is_some_and(|r| r.applier != Thread::Stopped || r.receiver != Thread::Stopped) {
        if begin.elapsed() > limit {
            return Err(Fault::Refused("the applier cannot be stopped: it may be applying a large transaction; trying again later".into()));
        }
        for id in server.rows_of(server.dialect().appliers())?.iter().filter_map(|row| row.get("id")) {
            // It may have ended by itself.
            let _ = server.run(&format!("KILL {id}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Keeps new commits from joining those that wait, by a backup that makes none: it stays in the server for a few seconds, or
/// until nothing waits. Whether it does: then the connection is given up.
pub(crate) fn hold_commits(server: &mut Server, log: &Log) -> Result<bool, Fault> {
    server.run(server.dialect().lock_patience())?;
    if let Err(fault) = server.run("BACKUP STAGE START") {
        log.notice(format!("commits wait, and their sessions are not ended while a backup is made: {fault}"));
        return Ok(false);
    }
    server.run("SET SESSION lock_wait_timeout=5")?;
    match server.run_within(LAST_OF_BACKUP, limits::MOMENT) {
        Ok(()) => server.run("BACKUP STAGE END").map(|()| false),
        Err(Fault::Silent(_) | Fault::Broken(_)) => Ok(true),
        Err(fault) => Err(fault),
    }
}
