//! Pacemaker, asked by its daemons' connections or its tools.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use process::Finished;

use crate::ipc::{Daemons, Modification, Taken, Unanswered, Update};
use crate::score::Score;
use crate::tools::{self, attribute_values};
use crate::{Error, Pacemaker};

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

type Observer = Box<dyn Fn(&str)>;

/// The daemons and the tools of this node.
pub(crate) struct Local {
    observer: Observer,
    until: Option<Instant>,
    daemons: Daemons,
}

impl Pacemaker for Local {
    fn answer_by(&mut self, until: Instant) {
        self.until = Some(until);
    }

    fn own_name(&self) -> Result<String, Error> {
        Ok(self.call("crm_node", &["-n"])?.stdout.trim().to_owned())
    }

    fn partition(&self) -> Result<Vec<String>, Error> {
        let nodes = self.call("crm_node", &["--partition"])?.stdout;
        Ok(nodes.split_whitespace().map(str::to_owned).collect())
    }

    fn all_present(&self) -> Result<bool, Error> {
        let all = |text: &str| text.lines().all(|line| line.trim().is_empty() || line.split_whitespace().nth(2) == Some("member"));
        Ok(all(&self.call("crm_node", &["--list"])?.stdout))
    }

    fn set_score(&self, node: &str, score: Option<Score>) -> Result<(), Error> {
        let (name, value) = (name_of_score(), score.map(|score| score.to_string()));
        let update = name.as_deref().map(|name| Update { name, value: value.as_deref(), node, private: false });
        // crm_attribute takes the resource's name from OCF_RESOURCE_INSTANCE, which children may see.
        // With "=": "-INFINITY" alone would read as an option.
        let last = value.as_ref().map_or_else(|| "--delete".to_owned(), |value| format!("--update={value}"));
        match self.update(update, "crm_attribute", &["--promotion", "--lifetime", "reboot", "--node", node, &last]) {
            Err(Error::Refused { status: NO_SUCH, .. }) if score.is_none() => Ok(()),
            other => other,
        }
    }

    fn set_private(&self, name: &str, value: &str, node: &str) -> Result<(), Error> {
        let update = Update { name, value: Some(value), node, private: true };
        self.update(Some(update), "attrd_updater", &["--name", name, "--update", value, "--private", "--node", node])
    }

    fn set_attribute(&self, name: &str, value: &str, node: &str) -> Result<(), Error> {
        let update = Update { name, value: Some(value), node, private: false };
        self.update(Some(update), "attrd_updater", &["--name", name, "--update", value, "--node", node])
    }

    fn attribute(&self, name: &str) -> Result<BTreeMap<String, String>, Error> {
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

    fn forget_degraded(&self, node: &str, resource: &str) -> Result<(), Error> {
        self.modify(&tools::delete_degraded(node, resource)).map(drop)
    }

    fn property(&self, set: Option<&str>, name: &str) -> Result<Option<String>, Error> {
        let mut arguments = vec!["--type", "crm_config"];
        arguments.extend(set.iter().flat_map(|set| ["--set-name", set]));
        arguments.extend(["--name", name, "--query", "--quiet"]);
        self.look_up(&tools::path_of_property(set, name), name, &arguments)
    }

    fn node_attribute(&self, node: &str, name: &str) -> Result<Option<String>, Error> {
        let arguments = ["--type", "nodes", "--node", node, "--name", name, "--query", "--quiet"];
        self.look_up(&tools::path_of_node_attribute(node, name), name, &arguments)
    }

    fn swap(&self, set: &str, name: &str, before: Option<&str>, value: &str) -> Result<bool, Error> {
        match before {
            Some(before) => self.modify(&tools::replace_nvpair(set, name, before, value)),
            // The set that it goes into may be missing as well.
            None => Ok(self.modify(&tools::create_nvpair(set, name, value))? || self.modify(&tools::create_set(set, name, value))?),
        }
    }
}

impl Local {
    /// Asked when it is needed; `observer` is told of each call (for the trace).
    pub(crate) fn new(observer: impl Fn(&str) + 'static) -> Self {
        Self { observer: Box::new(observer), until: None, daemons: Daemons::new() }
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

    /// Whether one modification of the CIB found what it was to change.
    fn modify(&self, modification: &Modification) -> Result<bool, Error> {
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
