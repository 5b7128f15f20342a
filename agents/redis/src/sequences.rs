//! Words to the server that belong together, each with its limit in time.

use std::time::{Duration, Instant};

use crate::info::{Info, ReplicationRole};
use crate::limits;
use crate::server::{Fault, Server};

/// Waits until a replica's position stands still. A dead primary's last bytes are still in the socket: they end with
/// the link. When the link stays up (a power cut sends no farewell), the position has to stand still for a while, and
/// the link is cut then.
pub(crate) fn bring_to_rest(server: &mut Server, seen: &Info) -> Result<Info, Fault> {
    if seen.role == ReplicationRole::Primary || !seen.link_up {
        return Ok(seen.clone());
    }
    let begin = Instant::now();
    let mut last = seen.clone();
    let mut still = 0;
    while begin.elapsed() < limits::LAST_OF_STREAM && still < 4 {
        std::thread::sleep(Duration::from_millis(5));
        let now = server.replication()?;
        if !now.link_up {
            return Ok(now);
        }
        still = if now.offset == last.offset { still + 1 } else { 0 };
        last = now;
    }
    server.follow_nobody()?;
    server.replication()
}

/// Waits until the target, or every attached replica, has acknowledged everything, and leaves the server paused: even
/// without clients a primary writes (it expires keys, it pings), and that must not move the position any more. Returns
/// what was missing at the end.
pub(crate) fn drain(server: &mut Server, target: Option<&str>, limit: Duration) -> Result<Option<String>, Fault> {
    let begin = Instant::now();
    loop {
        let everything = server.replication()?.offset;
        match server.request_acknowledgements() {
            // Without the right to ask, they say it by themselves, once a second.
            // Nor where an operator has renamed the command.
            Ok(()) | Err(Fault::Denied(_) | Fault::Refused(_)) => {}
            Err(fault) => return Err(fault),
        }
        let asked = Instant::now();
        let (info, missing) = loop {
            let info = server.replication()?;
            // The request is itself a part of the stream, and an answer tells the position before it.
            let missing = missing(&info, target, everything);
            if missing.is_none() || asked.elapsed() >= limits::ASK_AGAIN {
                break (info, missing);
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if missing.is_none() || begin.elapsed() >= limit || !info.replicas.iter().any(|r| r.online) {
            match server.pause_writes(limits::PAUSE) {
                // The gate keeps the clients out; what the server writes by itself the election finds.
                Err(Fault::Denied(_)) => return Ok(missing),
                paused => paused?,
            }
            if missing.is_some() {
                return Ok(missing);
            }
            let paused = server.replication()?;
            if paused.offset == info.offset {
                return Ok(None);
            }
            // One that writes by itself before each pause must not be waited for for ever.
            if begin.elapsed() >= limit {
                return Ok(self::missing(&paused, target, paused.offset));
            }
            match server.resume_writes() {
                // The pause ends by itself.
                Err(Fault::Denied(_)) => return Ok(missing),
                resumed => resumed?,
            }
        }
    }
}

/// What the replicas lack: the target, if it is attached under its name, otherwise all of them.
fn missing(info: &Info, target: Option<&str>, everything: u64) -> Option<String> {
    let attached: Vec<_> = info.replicas.iter().filter(|r| r.online).collect();
    if attached.is_empty() {
        return Some("no replica is attached".into());
    }
    let named = attached.iter().any(|r| Some(r.node.as_str()) == target);
    let behind = attached.iter().find(|r| (!named || Some(r.node.as_str()) == target) && r.offset < everything)?;
    Some(format!("{} lacks {} bytes", behind.node, everything - behind.offset))
}

/// Waits until so many attached replicas among these nodes hold everything up to `offset`. Whether they do.
pub(crate) fn held_by_others(server: &mut Server, enough: usize, among: &[String], offset: u64) -> Result<bool, Fault> {
    let holds = |info: &Info| info.replicas.iter().filter(|r| r.online && r.offset >= offset && among.contains(&r.node)).count();
    let begin = Instant::now();
    while holds(&server.replication()?) < enough {
        if begin.elapsed() > limits::HELD_BY_OTHERS {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(true)
}

/// What holds copies back while a backlog is begun.
const LATE: [(&str, &str); 2] = [("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "60")];

/// What [`begin_backlog`] is going to change, as the server has it.
pub(crate) fn copy_settings(server: &mut Server) -> Result<Vec<(String, String)>, Fault> {
    server.settings(&LATE.map(|(name, _)| name))
}

/// Makes a new primary begin its backlog now. After a cold start it has none, and its first replica would make it
/// begin one and, with it, another history than the recorded one. A connection of ours passes for that replica,
/// while copies are set to begin late, and goes before one is made. The caller gives back what was set before.
pub(crate) fn begin_backlog(server: &mut Server, other: Result<Server, Fault>) -> Result<(), Fault> {
    server.set_all(&LATE)?;
    let passed = other.and_then(Server::pass_for_replica);
    let begin = Instant::now();
    while passed.is_ok() && begin.elapsed() < limits::BACKLOG {
        let info = server.replication()?;
        if info.backlog && info.replicas.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    passed
}
