//! Which servers are the cluster's: each node publishes how its own is known to the others, so that a replica that is none of theirs is
//! told from a member, and two with one server_id are found.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ocf::{Failure, Outcome, Peers};

use super::{Attribute, Instance, OfAttributes, OfHost, OfServer, answer, no_such_failure, no_such_fault};
use crate::limits;
use crate::observation::Observation;
use crate::server::Attached;

/// The replicas that are connected to this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Connected {
    /// The nodes whose servers they are.
    pub(super) nodes: BTreeSet<String>,
    /// Those that are none of the cluster's, as they are to be named to an operator.
    pub(super) strangers: Vec<String>,
}

impl Instance<'_> {
    /// Tells the other nodes how this one's server is known; whether that is another id than they were told before.
    async fn publish_server_id(&mut self, seen: &Observation) -> Result<bool, Failure> {
        let id = seen.variables.get("server_id").cloned().unwrap_or_default();
        let now = self.now();
        let telling = telling(self.state.told.server_id.as_ref(), &id, now);
        if !self.rules.clustered || telling == Telling::Stands {
            return Ok(false);
        }
        self.perform(OfAttributes::Publish(Attribute::ServerId(id.clone()))).await?;
        self.state.told.server_id = Some((id, now));
        Ok(telling == Telling::Changed)
    }

    /// The same with each monitor. When somebody changed the id it looks whether another server has it, and goes on to look until that is
    /// over. Only who changed it looks: if the other one did as well, both would leave the primary, and writes could wait for nobody.
    pub(super) async fn tend_server_id(&mut self, seen: &Observation) -> Outcome {
        if self.publish_server_id(seen).await? || self.state.twin.is_some() {
            let known = self.server_ids().await?;
            self.state.twin = self.twin_of(seen, &known).await?;
        }
        Ok(())
    }

    /// Which other node's server has the id of this one.
    async fn twin_of(&mut self, seen: &Observation, known: &BTreeMap<String, String>) -> Result<Option<String>, Failure> {
        let me = self.me()?;
        let mine = seen.variables.get("server_id").map(String::as_str).unwrap_or_default();
        let Some((other, _)) = known.iter().find(|(node, id)| *node != me && *id == mine) else { return Ok(None) };
        let file = self.texts(OfHost::OptionFile).await.pop().unwrap_or_default();
        Ok(Some(twin(me.min(other), me.max(other), mine, &file)))
    }

    /// Refuses a server whose server_id another running one has: each throws the other out of the primary, and it looks as if that were
    /// stuck.
    pub(super) async fn check_server_id(&mut self, seen: &Observation, peers: &Peers) -> Outcome {
        self.publish_server_id(seen).await?;
        let others: Vec<String> = peers.running_nodes();
        if others.is_empty() || !self.rules.clustered {
            return Ok(());
        }
        let me = self.me()?;
        let mut known = self.server_ids().await?;
        known.retain(|node, _| node == me || others.contains(node));
        self.twin_of(seen, &known).await?.map_or(Ok(()), |why| Err(Failure::installed(why)))
    }

    async fn server_ids(&mut self) -> Result<BTreeMap<String, String>, Failure> {
        answer!(self.ask(OfAttributes::ServerIds).await, ServerIds, no_such_failure)
    }

    /// Whose the connected replicas are. The cluster is asked when one of them is not known, or `anew`.
    pub(super) async fn connected(&mut self, anew: bool) -> Result<Connected, Failure> {
        let attached = answer!(self.ask(OfServer::Attached).await, Attached, no_such_fault)?;
        let (ids, strangers) =
            self.state.primary().map(|primary| (primary.server_ids.clone(), primary.strangers.clone())).unwrap_or_default();
        let known = sort(&attached, &ids, &self.state.recorded_members());
        if (known.strangers.is_empty() && !anew) || !self.rules.clustered {
            return Ok(known);
        }
        // A stranger that stays is not asked about with each monitor.
        if !anew && strangers == known.strangers {
            return Ok(known);
        }
        let ids = self.server_ids().await?;
        let known = sort(&attached, &ids, &self.state.recorded_members());
        let strangers = known.strangers.clone();
        self.state.as_primary(|primary| (primary.server_ids, primary.strangers) = (ids, strangers));
        Ok(known)
    }
}

/// Two nodes whose servers have one id.
pub(super) fn twins(ids: &BTreeMap<String, String>) -> Option<String> {
    let mut nodes: BTreeMap<&str, &str> = BTreeMap::new();
    ids.iter().find_map(|(node, id)| Some(twin(nodes.insert(id, node)?, node, id, "the option file")))
}

fn twin(one: &str, other: &str, id: &str, file: &str) -> String {
    format!("{one} and {other} have server_id {id}: write another server_id into {file} of one of them")
}

/// What the other nodes are to be told of this one's server_id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// Nothing: they have been told.
    Stands,
    /// The same as before.
    Again,
    /// Another one, or the first.
    Changed,
}

fn telling(told: Option<&(String, Duration)>, id: &str, now: Duration) -> Telling {
    match told {
        Some((known, at)) if known == id && now.saturating_sub(*at) < limits::SERVER_ID_STANDS => Telling::Stands,
        Some((known, _)) if known == id => Telling::Again,
        _ => Telling::Changed,
    }
}

/// Whose the attached replicas are, by the ids that the nodes published. A node that has published none is known by the name that its
/// server reports, if it is a recorded member: its agent may be an older one.
fn sort(attached: &[Attached], ids: &BTreeMap<String, String>, members: &BTreeSet<String>) -> Connected {
    let mut connected = Connected::default();
    for replica in attached {
        let mut owners = ids.iter().filter(|(_, id)| **id == replica.server_id).map(|(node, _)| node);
        let named = owners.clone().find(|node| **node == replica.host);
        let unpublished = || members.contains(&replica.host) && !ids.contains_key(&replica.host);
        match named.or_else(|| owners.next()) {
            Some(node) => drop(connected.nodes.insert(node.clone())),
            None if unpublished() => drop(connected.nodes.insert(replica.host.clone())),
            None => {
                let name = if replica.host.is_empty() { "a replica without a name" } else { replica.host.as_str() };
                connected.strangers.push(format!("{name} (server_id {})", replica.server_id));
            }
        }
    }
    connected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(replicas: &[(&str, &str)]) -> Vec<Attached> {
        replicas.iter().map(|(host, id)| Attached { host: (*host).to_owned(), server_id: (*id).to_owned() }).collect()
    }

    fn nodes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Two that have one id must not both leave the primary: whose it was tells it again, and does not look.
    #[test]
    fn only_who_changed_the_id_looks_for_another_with_it() {
        let (told, later) = (("12".to_owned(), Duration::from_secs(5)), limits::SERVER_ID_STANDS + Duration::from_secs(5));
        assert_eq!(telling(None, "12", Duration::from_secs(6)), Telling::Changed);
        assert_eq!(telling(Some(&told), "12", Duration::from_secs(6)), Telling::Stands);
        assert_eq!(telling(Some(&told), "12", later), Telling::Again);
        for now in [Duration::from_secs(6), later] {
            assert_eq!(telling(Some(&told), "13", now), Telling::Changed);
        }
    }

    #[test]
    fn a_member_is_known_by_what_its_node_published_whatever_it_is_called() {
        let ids = BTreeMap::from([("10.0.0.2".to_owned(), "12".to_owned()), ("c".to_owned(), "13".to_owned())]);
        let members = nodes(&["b", "c"]);
        let sorted = sort(&attached(&[("10.0.0.2", "12"), ("", "13")]), &ids, &members);
        assert_eq!((sorted.nodes, sorted.strangers), (nodes(&["10.0.0.2", "c"]), vec![]));
        let sorted = sort(&attached(&[("b", "12"), ("c", "99"), ("dr1", "98"), ("", "97")]), &ids, &members);
        assert_eq!(sorted.nodes, nodes(&["10.0.0.2"]));
        assert_eq!(sorted.strangers, ["c (server_id 99)", "dr1 (server_id 98)", "a replica without a name (server_id 97)"]);
        let sorted = sort(&attached(&[("b", "77")]), &ids, &members);
        assert_eq!(sorted.nodes, nodes(&["b"]), "an older agent publishes nothing");
    }
}
