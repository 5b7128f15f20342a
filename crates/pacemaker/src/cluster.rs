//! The calls: score, private attributes, CIB properties, quorum, this node's name.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use crate::local::Local;
use crate::score::{Memory, Score};

/// The property that says whether there is fencing, by its name of today and the one before, in the order in which Pacemaker looks at them.
pub const FENCING: [&str; 2] = ["fencing-enabled", "stonith-enabled"];

/// Who we are in the cluster.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The resource, without an instance number.
    pub resource: String,
    /// This node's name, when Pacemaker told it.
    pub node: Option<String>,
    /// Whether there is a cluster.
    pub present: bool,
    /// Where to remember things until the next boot. It exists.
    pub state_directory: PathBuf,
}

/// A call that failed. The text says which and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tool did not run or did not end.
    #[error(transparent)]
    Command(#[from] process::CommandError),
    /// The tool refused.
    #[error("{call} failed with status {status}: {stderr}")]
    Refused {
        /// The call.
        call: String,
        /// Its exit status; -1 for a signal.
        status: i32,
        /// What it said.
        stderr: String,
    },
    /// A property is not what it was to be replaced from: somebody else wrote it.
    #[error("{name} was changed by somebody else, and reads as {found:?}")]
    Changed {
        /// The property.
        name: String,
        /// What it reads as.
        found: Option<String>,
    },
    /// A property that was written reads otherwise.
    #[error("{name} was written, but reads as {found:?}")]
    NotVisible {
        /// The property.
        name: String,
        /// What it reads as.
        found: Option<String>,
    },
}

/// What is asked of Pacemaker, whoever answers. Names are those of the cluster; what a resource calls its own is [`Cluster`]'s matter, and so
/// is what is remembered.
pub trait Pacemaker {
    /// Bounds what is asked by the end of an action.
    fn answer_by(&mut self, _until: Instant) {}

    /// This node's name.
    ///
    /// # Errors
    /// When nobody says it.
    fn own_name(&self) -> Result<String, Error>;

    /// The nodes that are there.
    ///
    /// # Errors
    /// When nobody says it.
    fn partition(&self) -> Result<Vec<String>, Error>;

    /// Whether every node that the cluster knows is there.
    ///
    /// # Errors
    /// When nobody says it.
    fn all_present(&self) -> Result<bool, Error>;

    /// Publishes the promotion score of a node, or takes it away.
    ///
    /// # Errors
    /// When it is not taken.
    fn set_score(&self, node: &str, score: Option<Score>) -> Result<(), Error>;

    /// Publishes an attribute of a node that never enters the CIB.
    ///
    /// # Errors
    /// When it is not taken.
    fn set_private(&self, name: &str, value: &str, node: &str) -> Result<(), Error>;

    /// Publishes an attribute of a node that lasts until the node leaves.
    ///
    /// # Errors
    /// When it is not taken.
    fn set_attribute(&self, name: &str, value: &str, node: &str) -> Result<(), Error>;

    /// The values of an attribute by node.
    ///
    /// # Errors
    /// When nobody says it.
    fn attribute(&self, name: &str) -> Result<BTreeMap<String, String>, Error>;

    /// Takes away what is kept of a recurring monitor of a resource on a node that answered degraded.
    ///
    /// # Errors
    /// When the CIB is not changed.
    fn forget_degraded(&self, node: &str, resource: &str) -> Result<(), Error>;

    /// A property of the cluster, in this set or in any.
    ///
    /// # Errors
    /// When the CIB cannot be read.
    fn property(&self, set: Option<&str>, name: &str) -> Result<Option<String>, Error>;

    /// A lasting attribute of a node.
    ///
    /// # Errors
    /// When the CIB cannot be read.
    fn node_attribute(&self, node: &str, name: &str) -> Result<Option<String>, Error>;

    /// Gives a property another value where it has this one, `None` for none, in one step. Whether it had.
    ///
    /// # Errors
    /// When the CIB is not changed at all: no quorum, no controller.
    fn swap(&self, set: &str, name: &str, before: Option<&str>, value: &str) -> Result<bool, Error>;
}

/// The cluster.
pub struct Cluster {
    membership: Membership,
    node: OnceCell<String>,
    pacemaker: Box<dyn Pacemaker>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.membership.fmt(f)
    }
}

impl Cluster {
    /// The cluster for a member, by the daemons and tools of this node; `observer` is told of each call (for the trace).
    pub fn new(membership: Membership, observer: impl Fn(&str) + 'static) -> Self {
        Self::asking(membership, Local::new(observer))
    }

    /// The same, and somebody else answers.
    pub fn asking(membership: Membership, pacemaker: impl Pacemaker + 'static) -> Self {
        Self { membership, node: OnceCell::new(), pacemaker: Box::new(pacemaker) }
    }

    /// Bounds the calls by the end of the action: each may take half of what is left, so that something can still be
    /// done after one that hangs.
    pub fn answering_by(mut self, until: Instant) -> Self {
        self.pacemaker.answer_by(until);
        self
    }

    /// Who we are in it.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether there is a cluster.
    pub fn is_present(&self) -> bool {
        self.membership.present
    }

    /// This node's name: as Pacemaker told it, or asked for once; the host's name without a cluster.
    ///
    /// # Errors
    /// When nobody says it.
    pub fn node(&self) -> Result<&str, Error> {
        if let Some(node) = self.membership.node.as_deref().or(self.node.get().map(String::as_str)) {
            return Ok(node);
        }
        let node = if self.membership.present {
            self.pacemaker.own_name()?
        } else {
            std::fs::read_to_string("/proc/sys/kernel/hostname").map(|s| s.trim().to_owned()).unwrap_or_default()
        };
        Ok(self.node.get_or_init(|| node))
    }

    /// Publishes this node's promotion score, when it is not the one that stands there. Nothing is forked when it is.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn publish_score(&self, score: Score) -> Result<(), Error> {
        let memory = self.score_memory();
        if !self.membership.present || memory.holds(score) {
            return Ok(());
        }
        // Forgotten first: killed in between, the next action publishes again.
        memory.forget();
        self.set_score(self.node()?, score)?;
        memory.remember(score);
        Ok(())
    }

    /// Publishes another node's promotion score: how a candidate hands over to a better one. That node's own monitor
    /// corrects it later.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn publish_score_of(&self, node: &str, score: Score) -> Result<(), Error> {
        if !self.membership.present {
            return Ok(());
        }
        self.set_score(node, score)
    }

    /// Takes this node's promotion score away: it is no candidate.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn withdraw_score(&self) -> Result<(), Error> {
        if !self.membership.present {
            return Ok(());
        }
        self.score_memory().forget();
        self.pacemaker.set_score(self.node()?, None)
    }

    /// Has Pacemaker start this node's recurring monitor again if a plan that comes to nothing has cancelled it. Pacemaker keeps a monitor
    /// that answered degraded as the last failure, and takes that for the monitor itself for as long as nothing is started, promoted or
    /// demoted there.
    ///
    /// # Errors
    /// When the CIB is not changed.
    pub fn forget_degraded(&self) -> Result<(), Error> {
        if !self.membership.present {
            return Ok(());
        }
        self.pacemaker.forget_degraded(self.node()?, &self.membership.resource)
    }

    /// Forgets which score was published, so that the next publication is made in any case.
    pub fn forget_score(&self) {
        self.score_memory().forget();
    }

    pub(crate) fn set_score(&self, node: &str, score: Score) -> Result<(), Error> {
        self.pacemaker.set_score(node, Some(score))
    }

    /// Publishes a private attribute of this node. Private: it never enters the CIB, so it starts no transition.
    /// Asynchronous: whoever depends on it polls [`Self::private_values`], with a bound.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn publish_private(&self, name: &str, value: &str) -> Result<(), Error> {
        if !self.membership.present {
            return Ok(());
        }
        self.pacemaker.set_private(&self.own(name), value, self.node()?)
    }

    /// Publishes a private attribute for every node that is there, so that it is known as long as one of them is: attributes of a
    /// lost node are lost with it. What fails for one of them is done for the others all the same.
    ///
    /// # Errors
    /// When the tools fail: the first failure. Some nodes may have it then.
    pub fn publish_everywhere(&self, name: &str, value: &str) -> Result<(), Error> {
        if !self.membership.present {
            return Ok(());
        }
        let name = self.own(name);
        let each = self.pacemaker.partition()?.into_iter().map(|node| self.pacemaker.set_private(&name, value, &node));
        each.fold(Ok(()), Result::and)
    }

    /// Publishes an attribute of this node for rules of the administrator. It is the attribute's full name, and lasts
    /// until the node leaves the cluster.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn publish_attribute(&self, name: &str, value: &str) -> Result<(), Error> {
        if !self.membership.present {
            return Ok(());
        }
        self.pacemaker.set_attribute(name, value, self.node()?)
    }

    /// A lasting attribute of a node, as an administrator set it; the full name.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn node_attribute(&self, node: &str, name: &str) -> Result<Option<String>, Error> {
        if !self.membership.present {
            return Ok(None);
        }
        Ok(self.pacemaker.node_attribute(node, name)?.map(|value| value.trim().to_owned()))
    }

    /// The values of a private attribute by node. Nodes without one are missing.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn private_values(&self, name: &str) -> Result<BTreeMap<String, String>, Error> {
        if !self.membership.present {
            return Ok(BTreeMap::new());
        }
        self.pacemaker.attribute(&self.own(name))
    }

    /// A property of this resource in the CIB's configuration, `None` when it is not set.
    ///
    /// # Errors
    /// When the CIB cannot be read: that is not the same as nothing being there.
    pub fn property(&self, name: &str) -> Result<Option<String>, Error> {
        if self.membership.present { self.pacemaker.property(Some(PROPERTY_SET), &self.own(name)) } else { Ok(None) }
    }

    /// Replaces a property, if it still has the value that the new one was made from: compare-and-swap. Both happen in the CIB manager, in
    /// one step, on all nodes in the same order; so of two writers one fails, and a write that arrives late changes nothing. Read back, so
    /// that the caller knows that it stands in the CIB of the whole partition.
    ///
    /// `before` is the text as [`Self::property`] returned it, `None` for no property.
    ///
    /// # Errors
    /// When the tool fails (no quorum, no controller), [`Error::Changed`] when another value is there, [`Error::NotVisible`] when it is
    /// there in spite of the tool's word.
    pub fn replace_property(&self, name: &str, before: Option<&str>, value: &str) -> Result<(), Error> {
        if !self.membership.present {
            return Ok(());
        }
        let name = self.own(name);
        let swapped = self.pacemaker.swap(PROPERTY_SET, &name, before, value)?;
        match self.pacemaker.property(Some(PROPERTY_SET), &name)? {
            // Also when a call before this one was killed, and its request was not.
            Some(found) if found == value => Ok(()),
            found if swapped => Err(Error::NotVisible { name, found }),
            found => Err(Error::Changed { name, found }),
        }
    }

    /// The command that takes a property of this resource away.
    pub fn property_withdrawal(&self, name: &str) -> String {
        format!("crm_attribute --type crm_config --set-name {PROPERTY_SET} --name {} --delete", self.own(name))
    }

    /// Whether every node that the cluster knows is there; `true` without a cluster.
    pub fn all_present(&self) -> bool {
        !self.membership.present || self.pacemaker.all_present().unwrap_or(false)
    }

    /// Whether the administrator has switched fencing off. `false` when it is on, which it is without a word, and when nobody can be
    /// asked: the question is put by hand as well, where there may be no cluster.
    pub fn fencing_is_off(&self) -> bool {
        let said = FENCING.iter().find_map(|name| self.pacemaker.property(None, name).ok().flatten());
        said.is_some_and(|value| ["false", "no", "off", "0", "n"].iter().any(|no| value.trim().eq_ignore_ascii_case(no)))
    }

    /// Names in the CIB and the attribute manager are shared by all resources.
    fn own(&self, name: &str) -> String {
        format!("systole-{}-{name}", self.membership.resource)
    }

    pub(crate) fn score_memory(&self) -> Memory {
        Memory::at(&self.membership.state_directory.join(format!("systole-{}.score", self.membership.resource)))
    }
}

/// The set of CIB properties that holds what systole records, apart from the administrator's own.
const PROPERTY_SET: &str = "systole";
