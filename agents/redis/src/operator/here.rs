//! What the operator's command asks of this node's instance, outside of any action.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ocf::{ResourceAgent as _, Values};
use promotable::operator::{self, Standing};

use crate::agent::Redis;
use crate::election::{Position, Unfit};
use crate::lifecycle::KEPT;
use crate::params;
use crate::server::{Fault, Server};

/// What all that is asked may take.
const ANSWER: Duration = Duration::from_secs(5);

/// The data files that were kept of a server, because the primary did not have all that is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Their directory.
    pub directory: PathBuf,
    /// How much of the replication stream is in them alone at most, in bytes; `None` when that cannot be known.
    pub at_most: Option<u64>,
}

/// The agent of a resource on this node.
pub struct Here {
    pub(super) agent: Redis,
    /// The connection on which a drill's markers are written.
    pub(super) writing: Option<Server>,
}

impl Here {
    /// That of this resource with these parameters, as they stand in the CIB.
    ///
    /// # Errors
    /// When a parameter is wrong.
    pub fn of(resource: &str, parameters: &BTreeMap<String, String>) -> Result<Self, String> {
        Self::lasting(resource, parameters, ANSWER)
    }

    /// The same for one that is asked for longer than a question takes.
    ///
    /// # Errors
    /// When a parameter is wrong.
    pub fn lasting(resource: &str, parameters: &BTreeMap<String, String>, limit: Duration) -> Result<Self, String> {
        let context = operator::context(resource, parameters, limit);
        let values = Values::read(params::ALL, &context.environment).map_err(|failure| failure.reason)?;
        Redis::new(&context, &values).map(|agent| Self { agent, writing: None }).map_err(|failure| failure.reason)
    }

    pub(super) fn connect(&self) -> Result<Server, Fault> {
        self.agent.connect(ANSWER)
    }

    /// Where the server stands.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn standing(&self) -> Result<Standing, String> {
        let seen = self.connect().and_then(|mut server| server.observe()).map_err(|fault| fault.to_string())?;
        let unfit = seen.info.loading.then_some(Unfit::Loading).or(seen.info.syncing.then_some(Unfit::Syncing));
        let position = Position {
            history: seen.info.replid,
            offset: seen.info.offset,
            has_keys: seen.info.has_keys,
            unfit,
            ..Position::nowhere(operator::NO_ROUND, Unfit::NoServer)
        };
        Ok(Standing { position: Some(position.print()), seconds: None, rejoining: None })
    }

    /// What was kept on this node, the oldest first.
    ///
    /// # Errors
    /// When it cannot be looked for.
    pub fn kept(&self) -> Result<Vec<Kept>, String> {
        let kept = self.agent.conf().map_err(|failure| failure.reason)?.data_directory().join(KEPT);
        let names = self.agent.files(|files| if files.exists(&kept)? { files.directory(&kept)?.names() } else { Ok(Vec::new()) });
        let mut names = names.map_err(|e| format!("{}: {e}", kept.display()))?;
        names.sort();
        let named = names.iter().map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.starts_with('.'));
        Ok(named.map(|name| Kept { at_most: at_most(&name), directory: kept.join(name) }).collect())
    }
}

/// What the name of a directory says: `0001-at-most-120-bytes`, `0002-not-comparable`.
fn at_most(name: &str) -> Option<u64> {
    name.split_once("-at-most-")?.1.strip_suffix("-bytes")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_was_kept_stands_in_the_name() {
        assert_eq!([at_most("0001-at-most-120-bytes"), at_most("0002-not-comparable"), at_most("x")], [Some(120), None, None]);
    }
}
