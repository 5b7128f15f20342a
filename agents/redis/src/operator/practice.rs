//! A drill on the server of this node: markers as keys that expire, and a SIGKILL. By the agent's own login, over the socket.

use std::collections::BTreeSet;

use promotable::operator::{Marked, Marker, Practice, killed, marker_name};

use super::here::Here;
use crate::info::ReplicationRole;
use crate::server::Fault;

/// How the keys of markers begin.
const KEYS: &str = "systole:drill:";
/// The key by which it is tried whether markers can be written.
const PROBE: &str = "systole:drill:probe";
/// The rules that a user of the agent's own needs beyond those of an agent.
const RULES: &str = "~systole:drill:* +set +exists +del";

fn key(drill: &str, marker: &Marker) -> String {
    format!("{KEYS}{}", marker_name(drill, marker))
}

impl Here {
    fn keys(drill: &str, among: &[Marker]) -> Vec<String> {
        among.iter().map(|marker| key(drill, marker)).collect()
    }

    /// A refusal of the user's rights, with the rules that it lacks.
    fn told(&self, fault: &Fault) -> String {
        match (fault, &self.agent.params.acl_user) {
            (Fault::Denied(_), Some(user)) => format!("the user {user} may not write markers: ACL SETUSER {user} {RULES}, on every node"),
            _ => fault.to_string(),
        }
    }
}

/// What the answers mean: to the write, and, where it was taken, how many replicas confirmed it of those that have to.
fn judged(written: Result<(), Fault>, confirmed: impl FnOnce() -> Result<u64, Fault>, needed: u64) -> Marked {
    match written {
        Err(fault @ (Fault::Silent(_) | Fault::Closed(_))) => Marked::Unknown(fault.to_string()),
        Err(fault) => Marked::Refused(fault.to_string()),
        Ok(()) => match confirmed() {
            Ok(confirmed) if confirmed >= needed => Marked::Acknowledged,
            Ok(confirmed) => Marked::Unknown(format!("{confirmed} replicas confirmed it, and {needed} have to")),
            Err(fault) => Marked::Unknown(fault.to_string()),
        },
    }
}

impl Practice for Here {
    fn prepare(&self) -> Result<(), String> {
        let mut server = self.connect().map_err(|fault| fault.to_string())?;
        let probe = [PROBE.to_owned()];
        let tried = server.write_marker(PROBE).and_then(|()| server.existing(&probe)).and_then(|_| server.delete(&probe));
        tried.map_err(|fault| self.told(&fault))
    }

    fn mark(&mut self, name: &str, confirmations: u64) -> Marked {
        let mut server = match self.writing.take().map_or_else(|| self.connect(), Ok) {
            Ok(server) => server,
            Err(fault) => return Marked::Refused(fault.to_string()),
        };
        let written = server.write_marker(&format!("{KEYS}{name}"));
        let answered = written.is_ok();
        let marked = judged(written, || server.confirmed(confirmations), confirmations);
        // An answer that came late would be taken for that of the next question.
        self.writing = Some(server).filter(|_| answered && marked == Marked::Acknowledged);
        marked
    }

    fn held(&self, drill: &str, among: &[Marker]) -> Result<BTreeSet<Marker>, String> {
        let mut server = self.connect().map_err(|fault| fault.to_string())?;
        let there = server.existing(&Self::keys(drill, among)).map_err(|fault| self.told(&fault))?;
        Ok(among.iter().zip(there).filter(|(_, there)| *there).map(|(marker, _)| marker.clone()).collect())
    }

    fn forget(&self, drill: &str, among: &[Marker]) -> Result<(), String> {
        let mut server = self.connect().map_err(|fault| fault.to_string())?;
        server.delete(&Self::keys(drill, among)).map_err(|fault| self.told(&fault))
    }

    fn kill(&self) -> Result<(), String> {
        let seen = self.connect().and_then(|mut server| server.observe()).map_err(|fault| fault.to_string())?;
        if seen.info.role != ReplicationRole::Primary || !seen.gate_open() {
            return Err("its server takes no writes: see who is promoted with: systole status".into());
        }
        killed(self.agent.find_server(self.agent.state_file.load().server()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_counts_as_acknowledged_when_as_many_replicas_confirmed_it_as_have_to() {
        let wait = |confirmed| move || Ok(confirmed);
        assert_eq!(judged(Ok(()), wait(1), 1), Marked::Acknowledged);
        assert!(matches!(judged(Ok(()), wait(1), 2), Marked::Unknown(why) if why.contains("1 replicas confirmed it, and 2 have to")));
        assert!(matches!(judged(Ok(()), || Err(Fault::Silent("x".into())), 1), Marked::Unknown(_)), "it is written on the primary");
        assert!(matches!(judged(Err(Fault::Silent("x".into())), wait(1), 1), Marked::Unknown(_)));
        for refusal in [Fault::Absent("x".into()), Fault::Refused("READONLY".into()), Fault::Denied("NOPERM".into())] {
            assert!(matches!(judged(Err(refusal), wait(1), 1), Marked::Refused(_)));
        }
    }

    #[test]
    fn keys_are_named_as_the_page_says() {
        assert_eq!(key("20261130-4711", &("lxc1".into(), 7)), "systole:drill:20261130-4711:lxc1:7");
        let page = include_str!("../../../../docs/redis.md");
        assert!(page.contains(RULES) && page.contains("systole:drill:"), "{RULES}");
    }
}
