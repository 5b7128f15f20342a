//! Draining at this node's proxy before a planned move, and undoing it. So no client's connection is on the old primary when that is
//! closed, and who comes meanwhile waits in the proxy for the next one.
//!
//! It is undone when the proxy's own check keeps the server out, and not before: a promotion can be over sooner than the proxy has seen the
//! demotion. A process that outlives the notification waits for that, and undoes it after a time in any case.
//!
//! It is a courtesy: whatever fails here is logged and holds no demotion up beyond [`limits::DRAINING`]. Nothing is decided by it, so it
//! is no part of the protocol and does not take the lock of the actions.

mod haproxy;

use std::path::Path;
use std::time::{Duration, Instant};

use ocf::{Failure, Log, Notification, Operation, Peers, Phase, Values};
use process::{Identity, own};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use haproxy::{HAPROXY_DRAIN, Haproxy};

use crate::limits;

/// When nobody has undone it, it undoes itself. Sooner than a proxy gives up those who wait (20 s): a transition may be aborted behind the
/// notification, and then the primary stays.
const BY_ITSELF: Duration = Duration::from_secs(15);
/// The longest that can be asked for: who waits for it stays in memory.
const LONGEST_BY_ITSELF: u64 = 3600;
/// How often the sessions are counted.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// How often it is looked whether it can be undone.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// How long the proxy may take to answer who can wait.
const ANSWER: Duration = Duration::from_secs(1);
/// How long it is tried to undo it by itself when the proxy does not answer.
const TRIED: Duration = Duration::from_secs(600);

/// The proxy of a node, in front of the servers. What it is asked it has to answer by `until`.
pub trait Proxy: Clone + Serialize + DeserializeOwned {
    /// For the log.
    const NAME: &'static str;
    /// What sets apart its file from another proxy's.
    const MARK: &'static str;

    /// How it sees a server; nothing when it has none of that name.
    ///
    /// # Errors
    /// Why it cannot be asked.
    fn look(&self, node: &str, until: Instant) -> Result<Option<Seen>, Fault>;

    /// Has it pass nobody on to that server any more.
    ///
    /// # Errors
    /// Why it was not done.
    fn drain(&self, node: &str, until: Instant) -> Result<(), Fault>;

    /// Takes that back. It may have been taken back already.
    ///
    /// # Errors
    /// Why it was not done.
    fn ready(&self, node: &str, until: Instant) -> Result<(), Fault>;

    /// Where in it the servers are.
    fn place(&self) -> String;

    /// How a server is called there.
    fn server(&self, node: &str) -> String {
        format!("{}/{node}", self.place())
    }
}

/// A server as a proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether connections are passed on to it.
    pub serves: bool,
    /// Whether it does not pass the proxy's check of a primary.
    pub kept_out: bool,
    /// How many are there.
    pub sessions: u64,
}

/// Why a proxy did not do what it was told.
#[derive(Debug)]
pub enum Fault {
    /// The proxy says so.
    Refused(String),
    /// It was not heard, or not answered in time.
    Failed(String),
    /// Nobody listens there: that proxy has ended, and the next one begins with all servers ready.
    Over(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Refused(text) | Self::Failed(text) | Self::Over(text)) = self;
        f.write_str(text)
    }
}

/// What the parameter of a proxy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain<P> {
    /// The proxy of this node.
    pub proxy: P,
    by_itself: Duration,
}

/// What was drained here, in a file that every boot removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark<P> {
    /// As it was told.
    proxy: P,
    node: String,
    /// Who undoes it by itself.
    undoer: Identity,
}

impl<P: Proxy> Drain<P> {
    /// What the parameter says: two words, of which `proxy` makes the proxy, and the seconds. Nothing when it is empty.
    ///
    /// # Errors
    /// That it is not of its form.
    pub fn read(
        values: &Values,
        parameter: &ocf::Parameter,
        form: &str,
        proxy: impl FnOnce(&str, &str) -> Option<P>,
    ) -> Result<Option<Self>, Failure> {
        let text = values.text(parameter);
        if text.trim().is_empty() {
            return Ok(None);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let drain = match words.as_slice() {
            [first, second] => proxy(first, second).zip(Some(BY_ITSELF)),
            [first, second, seconds] => {
                let seconds = seconds.parse().ok().filter(|seconds| (1..=LONGEST_BY_ITSELF).contains(seconds));
                proxy(first, second).zip(seconds.map(Duration::from_secs))
            }
            _ => None,
        };
        drain.map(|(proxy, by_itself)| Some(Self { proxy, by_itself })).ok_or_else(|| {
            values.contradiction(format!("parameter {} ({}) is not of the form {form}", parameter.name, text.escape_debug()))
        })
    }

    /// Does what a notification asks for: drains before a planned move, undoes it after the promotion. To be called without the lock of
    /// the actions, which the process that undoes it by itself would keep.
    pub fn notified(&self, directory: &Path, resource: &str, notification: &Notification, log: &Log) {
        let mark = directory.join(format!("systole-{resource}.{}", P::MARK));
        match (notification.phase, notification.operation) {
            (Phase::Pre, Operation::Demote) => {
                // What is drained since the last move, and cannot be undone, is enough to wait for.
                if let Some(node) = leaving(&notification.peers).filter(|_| undo::<P>(&mark, log)) {
                    let said =
                        own::make_directories(directory, 0o755).map_err(|e| e.to_string()).and_then(|()| self.drain(&mark, node, log));
                    if let Err(why) = said {
                        log.warning(format!("{why}: {node} is not drained before the move, and clients may fail"));
                    }
                }
            }
            (Phase::Post, Operation::Promote) => promoted::<P>(&mark, &notification.peers, log),
            _ => {}
        }
    }

    fn drain(&self, mark: &Path, node: &str, log: &Log) -> Result<(), String> {
        let until = Instant::now() + limits::DRAINING;
        let unknown = || format!("{} has no server {} in {}", P::NAME, node.escape_debug(), self.proxy.place());
        if !is_name(node) {
            return Err(unknown());
        }
        let found = self.proxy.look(node, until).map_err(|e| e.to_string())?.ok_or_else(unknown)?;
        if !found.serves {
            // It died, or an operator has drained it: neither is ours to undo.
            return Ok(());
        }
        let remember = |undoer: &Identity| {
            let mark_of_ours = Mark { proxy: self.proxy.clone(), node: node.to_owned(), undoer: undoer.clone() };
            serde_json::to_vec(&mark_of_ours)
                .map_err(|e| e.to_string())
                .and_then(|text| own::write(mark, &text, 0o600).map_err(|e| format!("{}: {e}", mark.display())))
        };
        // First, so that it is undone whatever becomes of this action. An answer that comes too late is an order that may be carried out.
        process::detach(remember, || self.undo_by_itself(mark, node))?;
        match self.proxy.drain(node, until) {
            Ok(()) => {}
            Err(Fault::Refused(said)) => {
                forget::<P>(mark);
                return Err(said);
            }
            Err(fault) => return Err(fault.to_string()),
        }
        let mut sessions = found.sessions;
        while sessions > 0 && Instant::now() + BETWEEN_LOOKS < until {
            std::thread::sleep(BETWEEN_LOOKS);
            // Time is over, or it is gone: nobody is waited for any more.
            match self.proxy.look(node, until) {
                Ok(Some(server)) => sessions = server.sessions,
                _ => break,
            }
        }
        log.notice(format!("{} passes nobody on to {} any more; sessions there: {sessions}", P::NAME, self.proxy.server(node)));
        Ok(())
    }

    /// Undoes it when its check keeps it out, or nobody has done it for so long. A proxy that has ended begins anew, with all servers
    /// ready.
    fn undo_by_itself(&self, mark: &Path, node: &str) {
        let (begun, me) = (Instant::now(), i32::try_from(std::process::id()).ok().and_then(Identity::of));
        while begun.elapsed() < self.by_itself + TRIED {
            std::thread::sleep(BETWEEN_TRIES);
            let Some(marked) = marked::<P>(mark).filter(|marked| Some(&marked.undoer) == me.as_ref()) else { return };
            let until = Instant::now() + ANSWER;
            let kept_out = || self.proxy.look(node, until).is_ok_and(|server| server.is_some_and(|server| server.kept_out));
            if begun.elapsed() < self.by_itself && !kept_out() {
                continue;
            }
            if !matches!(marked.proxy.ready(node, until), Err(Fault::Failed(_))) {
                let _ = own::remove(mark);
                return;
            }
        }
    }
}

/// Undoes it if it is time: it is promoted again, or its check keeps it out. Otherwise its process does that in a moment.
fn promoted<P: Proxy>(mark: &Path, peers: &Peers, log: &Log) {
    let Some(Mark { proxy, node, .. }) = marked::<P>(mark) else { return };
    let again = peers.promote.iter().any(|m| m.node == node);
    match proxy.look(&node, Instant::now() + limits::DRAINING) {
        Ok(Some(server)) if !again && !server.kept_out => {}
        Err(why) => log.warning(format!("{why}: {node} is still drained there; it is tried again")),
        Ok(_) => drop(undo::<P>(mark, log)),
    }
}

/// Whose clients are to be drained: the promoted instance that is to be demoted so that another node's is promoted.
fn leaving(peers: &Peers) -> Option<&str> {
    let leaves = peers.demote.iter().find(|m| peers.promoted.iter().any(|promoted| promoted.node == m.node))?;
    peers.promote.iter().any(|m| m.node != leaves.node).then_some(leaves.node.as_str())
}

/// Whether it can stand in a command as it is.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
}

fn marked<P: Proxy>(mark: &Path) -> Option<Mark<P>> {
    serde_json::from_slice(&own::read(mark).ok()?).ok()
}

/// What was not drained need not be undone.
fn forget<P: Proxy>(mark: &Path) {
    if let Some(marked) = marked::<P>(mark) {
        marked.undoer.kill();
    }
    let _ = own::remove(mark);
}

/// Makes ready what was drained here, if anything was. Returns whether nothing is drained by us any more.
fn undo<P: Proxy>(mark: &Path, log: &Log) -> bool {
    let Some(Mark { proxy, node, .. }) = marked::<P>(mark) else { return true };
    match proxy.ready(&node, Instant::now() + limits::DRAINING) {
        Ok(()) | Err(Fault::Over(_)) => {
            forget::<P>(mark);
            true
        }
        // It does not know the server any more, or takes no orders: not now, and not the next time.
        Err(Fault::Refused(why)) => {
            log.warning(format!("{why}: {} is not made ready there", proxy.server(&node)));
            forget::<P>(mark);
            true
        }
        Err(Fault::Failed(why)) => {
            log.warning(format!("{why}: {} is still drained there; it is tried again", proxy.server(&node)));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocf::Member;

    fn members(nodes: &[&str]) -> Vec<Member> {
        nodes.iter().map(|node| Member { instance: "r".into(), node: (*node).to_owned() }).collect()
    }

    #[test]
    fn only_a_move_to_another_node_drains() {
        let peers = |promoted: &[&str], demote: &[&str], promote: &[&str]| Peers {
            promoted: members(promoted),
            demote: members(demote),
            promote: members(promote),
            ..Peers::default()
        };
        assert_eq!(leaving(&peers(&["a"], &["a"], &["b"])), Some("a"));
        assert_eq!(leaving(&peers(&["a"], &["a"], &[])), None, "nobody is promoted: the clone is stopped");
        assert_eq!(leaving(&peers(&["a"], &["a"], &["a"])), None, "it is only restarted");
        assert_eq!(leaving(&peers(&["a", "b"], &["b"], &[])), None, "one too many is demoted");
        assert_eq!(leaving(&peers(&[], &["a"], &["b"])), None, "it was not promoted");
    }
}
