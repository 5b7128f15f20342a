//! The calls: score, private attributes, CIB properties, quorum, this node's name.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use process::Finished;

use crate::ipc::{Daemons, Modification, Taken, Unanswered, Update};
use crate::score::{Memory, Score};
use crate::tools::{self, attribute_values};

/// How long one call of a tool may take. They answer in 5 to 15 ms; a cluster that is busy electing a controller can
/// take longer.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// What a call gets even when no time is left: a healthy tool answers in it.
const SHORTEST_LIMIT: Duration = Duration::from_millis(100);
/// The exit status with which Pacemaker's tools say that something does not exist.
const NO_SUCH: i32 = 105;
/// And that something does already.
const EXISTS: i32 = 108;

/// What one call of a tool may take when so much is left of an action: half of it, so that something can still be done after one that
/// hangs.
pub fn longest_call(left: Duration) -> Duration {
    (left / 2).clamp(SHORTEST_LIMIT, CALL_LIMIT)
}

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

type Observer = Box<dyn Fn(&str)>;

/// The cluster.
pub struct Cluster {
    membership: Membership,
    observer: Observer,
    node: OnceCell<String>,
    until: Option<Instant>,
    daemons: Daemons,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.membership.fmt(f)
    }
}

impl Cluster {
    /// The cluster for a member; `observer` is told of each call (for the trace).
    pub fn new(membership: Membership, observer: impl Fn(&str) + 'static) -> Self {
        Self { membership, observer: Box::new(observer), node: OnceCell::new(), until: None, daemons: Daemons::new() }
    }

    /// Bounds the calls by the end of the action: each may take half of what is left, so that something can still be
    /// done after one that hangs.
    pub fn answering_by(mut self, until: Instant) -> Self {
        self.until = Some(until);
        self
    }

    /// Whether there is a cluster.
    pub fn is_present(&self) -> bool {
        self.membership.present
    }

    /// This node's name: as Pacemaker told it, or asked for once; the host's name without a cluster.
    ///
    /// # Errors
    /// When `crm_node` fails.
    pub fn node(&self) -> Result<&str, Error> {
        if let Some(node) = self.membership.node.as_deref().or(self.node.get().map(String::as_str)) {
            return Ok(node);
        }
        let node = if self.membership.present {
            self.call("crm_node", &["-n"])?.stdout.trim().to_owned()
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
        let node = self.node()?.to_owned();
        let name = name_of_score();
        let update = name.as_deref().map(|name| Update { name, value: None, node: &node, private: false });
        match self.update(update, "crm_attribute", &["--promotion", "--lifetime", "reboot", "--node", &node, "--delete"]) {
            Err(Error::Refused { status: NO_SUCH, .. }) => Ok(()),
            other => other,
        }
    }

    /// Forgets which score was published, so that the next publication is made in any case.
    pub fn forget_score(&self) {
        self.score_memory().forget();
    }

    pub(crate) fn set_score(&self, node: &str, score: Score) -> Result<(), Error> {
        let (name, value) = (name_of_score(), score.to_string());
        let update = name.as_deref().map(|name| Update { name, value: Some(&value), node, private: false });
        // crm_attribute takes the resource's name from OCF_RESOURCE_INSTANCE, which children may see.
        // With "=": "-INFINITY" alone would read as an option.
        self.update(update, "crm_attribute", &["--promotion", "--lifetime", "reboot", "--node", node, &format!("--update={value}")])
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
        let node = self.node()?.to_owned();
        self.set_private(name, value, &node)
    }

    fn set_private(&self, name: &str, value: &str, node: &str) -> Result<(), Error> {
        let name = self.own(name);
        let update = Update { name: &name, value: Some(value), node, private: true };
        self.update(Some(update), "attrd_updater", &["--name", &name, "--update", value, "--private", "--node", node])
    }

    /// Asks the attribute manager for a new value itself, else by a tool.
    fn update(&self, update: Option<Update<'_>>, tool: &str, arguments: &[&str]) -> Result<(), Error> {
        let turn = self.turn();
        let asked = update.and_then(|update| {
            let Update { name, value, node, private } = update;
            let kind = if private { "private attribute" } else { "attribute" };
            let question = || format!("{kind} {name} of {node} to be {}", value.unwrap_or("none"));
            self.ask(turn, question, |daemons, until| daemons.update(&update, until))
        });
        asked.map_or_else(|| self.call_in(turn, tool, arguments).map(drop), |Taken| Ok(()))
    }

    /// Publishes a private attribute for every node that is there, so that it is known as long as one of them is: attributes of a
    /// lost node are lost with it.
    ///
    /// # Errors
    /// When the tools fail. Some nodes may have it then.
    pub fn publish_everywhere(&self, name: &str, value: &str) -> Result<(), Error> {
        if !self.membership.present {
            return Ok(());
        }
        let nodes = self.call("crm_node", &["--partition"])?.stdout;
        nodes.split_whitespace().try_for_each(|node| self.set_private(name, value, node))
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
        let node = self.node()?.to_owned();
        let update = Update { name, value: Some(value), node: &node, private: false };
        self.update(Some(update), "attrd_updater", &["--name", name, "--update", value, "--node", &node])
    }

    /// A lasting attribute of a node, as an administrator set it; the full name.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn node_attribute(&self, node: &str, name: &str) -> Result<Option<String>, Error> {
        if !self.membership.present {
            return Ok(None);
        }
        let arguments = ["--type", "nodes", "--node", node, "--name", name, "--query", "--quiet"];
        let value = self.look_up(&tools::path_of_node_attribute(node, name), name, &arguments)?;
        Ok(value.map(|value| value.trim().to_owned()))
    }

    /// The values of a private attribute by node. Nodes without one are missing.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn private_values(&self, name: &str) -> Result<BTreeMap<String, String>, Error> {
        if !self.membership.present {
            return Ok(BTreeMap::new());
        }
        self.query_attribute(&self.own(name))
    }

    fn query_attribute(&self, name: &str) -> Result<BTreeMap<String, String>, Error> {
        let turn = self.turn();
        if let Some(values) = self.ask(turn, || format!("attribute {name} of all nodes"), |daemons, until| daemons.values(name, until)) {
            return Ok(values);
        }
        match self.call_in(turn, "attrd_updater", &["--name", name, "--query", "--all"]) {
            Ok(done) => Ok(attribute_values(&done.stdout)),
            // Nobody has published it yet. The status for that differs between releases.
            Err(Error::Refused { status: NO_SUCH, .. }) => Ok(BTreeMap::new()),
            Err(Error::Refused { stderr, .. }) if tools::says_that_nothing_is_there(&stderr) => Ok(BTreeMap::new()),
            Err(e) => Err(e),
        }
    }

    /// A property of this resource in the CIB's configuration, `None` when it is not set.
    ///
    /// # Errors
    /// When the CIB cannot be read: that is not the same as nothing being there.
    pub fn property(&self, name: &str) -> Result<Option<String>, Error> {
        if self.membership.present { self.stored(&self.own(name)) } else { Ok(None) }
    }

    /// The same by its full name, as it stands there.
    fn stored(&self, name: &str) -> Result<Option<String>, Error> {
        let arguments = ["--type", "crm_config", "--set-name", PROPERTY_SET, "--name", name, "--query", "--quiet"];
        self.look_up(&tools::path_of_property(Some(PROPERTY_SET), name), name, &arguments)
    }

    /// The value that the CIB has for a name: where the XPath finds it, or what `crm_attribute` says. `None` for none and for an empty one.
    fn look_up(&self, path: &str, name: &str, arguments: &[&str]) -> Result<Option<String>, Error> {
        let turn = self.turn();
        let asked = self.ask(turn, || format!("CIB {name}"), |daemons, until| daemons.value(path, name, until));
        let value = match asked {
            Some(value) => value,
            None => match self.call_in(turn, "crm_attribute", arguments) {
                Ok(done) => Some(done.stdout.trim_end_matches('\n').to_owned()),
                Err(Error::Refused { status: NO_SUCH, .. }) => None,
                Err(e) => return Err(e),
            },
        };
        Ok(value.filter(|value| !value.trim().is_empty() && value != "(null)"))
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
        let swapped = match before {
            Some(before) => self.swap(&tools::replace_nvpair(PROPERTY_SET, &name, before, value))?,
            // The set that it goes into may be missing as well.
            None => {
                self.swap(&tools::create_nvpair(PROPERTY_SET, &name, value))?
                    || self.swap(&tools::create_set(PROPERTY_SET, &name, value))?
            }
        };
        match self.stored(&name)? {
            // Also when a call before this one was killed, and its request was not.
            Some(found) if found == value => Ok(()),
            found if swapped => Err(Error::NotVisible { name, found }),
            found => Err(Error::Changed { name, found }),
        }
    }

    /// Whether one modification of the CIB found what it was to change.
    fn swap(&self, modification: &Modification) -> Result<bool, Error> {
        let turn = self.turn();
        let question = || format!("CIB {}", tools::cibadmin(modification).join(" "));
        if let Some(swapped) = self.ask(turn, question, |daemons, until| daemons.modify(modification, until)) {
            return Ok(swapped);
        }
        match self.call_in(turn, "cibadmin", &tools::cibadmin(modification)) {
            Ok(_) => Ok(true),
            Err(Error::Refused { status: NO_SUCH | EXISTS, .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The command with which an operator sets a property of this resource: for the remedies of refusals.
    pub fn property_remedy(&self, name: &str, value: &str) -> String {
        format!("crm_attribute --type crm_config --set-name {PROPERTY_SET} --name {} --update '{value}'", self.own(name))
    }

    /// The command that takes a property of this resource away.
    pub fn property_withdrawal(&self, name: &str) -> String {
        format!("crm_attribute --type crm_config --set-name {PROPERTY_SET} --name {} --delete", self.own(name))
    }

    /// Whether every node that the cluster knows is there; `true` without a cluster.
    pub fn all_present(&self) -> bool {
        let all = |text: &str| text.lines().all(|line| line.trim().is_empty() || line.split_whitespace().nth(2) == Some("member"));
        !self.membership.present || self.call("crm_node", &["--list"]).is_ok_and(|done| all(&done.stdout))
    }

    /// Whether the administrator has switched fencing off. `false` when it is on, which it is without a word, and when nobody can be
    /// asked: the question is put by hand as well, where there may be no cluster.
    pub fn fencing_is_off(&self) -> bool {
        let name = "stonith-enabled";
        let answer =
            self.look_up(&tools::path_of_property(None, name), name, &["--type", "crm_config", "--name", name, "--query", "--quiet"]);
        answer.is_ok_and(|value| value.is_some_and(|value| ["false", "no", "off", "0", "n"].contains(&value.trim())))
    }

    /// Names in the CIB and the attribute manager are shared by all resources.
    fn own(&self, name: &str) -> String {
        format!("systole-{}-{name}", self.membership.resource)
    }

    pub(crate) fn score_memory(&self) -> Memory {
        Memory::at(&self.membership.state_directory.join(format!("systole-{}.score", self.membership.resource)))
    }

    /// What a question may take from now on.
    fn turn(&self) -> Turn {
        let begin = Instant::now();
        let limit = self.until.map_or(CALL_LIMIT, |until| longest_call(until.saturating_duration_since(begin)));
        Turn { begin, limit }
    }

    /// Asks a daemon itself. `None`: the same is to be asked with the tool, in what is left of the turn. A daemon that says nothing gets half of
    /// it, so that both together end when the tool alone would.
    fn ask<T: std::fmt::Debug>(
        &self,
        turn: Turn,
        question: impl FnOnce() -> String,
        ask: impl FnOnce(&Daemons, Instant) -> Result<T, Unanswered>,
    ) -> Option<T> {
        let answer = ask(&self.daemons, turn.begin + turn.limit / 2);
        let took = turn.begin.elapsed().as_secs_f64() * 1000.0;
        match answer {
            Ok(answer) => {
                (self.observer)(&format!("{}: {answer:?} in {took:.1} ms", question()));
                Some(answer)
            }
            Err(Unanswered::NotAsked) => None,
            Err(Unanswered::Because(reason)) => {
                (self.observer)(&format!("{}: {reason} in {took:.1} ms; the tool is asked", question()));
                None
            }
        }
    }

    fn call(&self, program: &str, arguments: &[&str]) -> Result<Finished, Error> {
        self.call_in(self.turn(), program, arguments)
    }

    fn call_in(&self, turn: Turn, program: &str, arguments: &[&str]) -> Result<Finished, Error> {
        let begin = Instant::now();
        let limit = turn.limit.saturating_sub(begin.saturating_duration_since(turn.begin)).max(SHORTEST_LIMIT / 2);
        let done = process::run(program, arguments, limit);
        let took = begin.elapsed().as_secs_f64() * 1000.0;
        let call = format!("{program} {}", arguments.join(" "));
        match done {
            Ok(done) => {
                (self.observer)(&format!("{call}: {} in {took:.1} ms: {}", done.status, done.stdout.trim()));
                if done.status.success() {
                    return Ok(done);
                }
                Err(Error::Refused { call, status: done.status.code().unwrap_or(-1), stderr: done.stderr.trim().to_owned() })
            }
            Err(e) => {
                (self.observer)(&format!("{call}: {e}"));
                Err(e.into())
            }
        }
    }
}

/// The time of one question.
#[derive(Clone, Copy, Debug)]
struct Turn {
    begin: Instant,
    limit: Duration,
}

/// The attribute that is the promotion score, by the name that `crm_attribute --promotion` gives it.
fn name_of_score() -> Option<String> {
    std::env::var("OCF_RESOURCE_INSTANCE").ok().filter(|instance| !instance.is_empty()).map(|instance| format!("master-{instance}"))
}

/// The set of CIB properties that holds what systole records, apart from the administrator's own.
const PROPERTY_SET: &str = "systole";
