//! What Pacemaker tells an agent through its environment, read once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::{Deadline, Failure, Log};

/// The environment of the process, as a map. Tests build it from pairs.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of this process. Values that are no UTF-8 are read with replacement characters, which no
    /// parameter accepts.
    pub fn of_process() -> Self {
        Self::from_pairs(std::env::vars_os().map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned())))
    }

    /// An environment made of these pairs.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { variables: pairs.into_iter().collect() }
    }

    /// A variable, `None` when it is not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A variable that must not be empty to count.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// The value of a resource parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.get(&format!("OCF_RESKEY_{name}"))
    }

    /// A meta attribute of the operation or resource, such as `timeout`.
    pub fn meta(&self, name: &str) -> Option<&str> {
        self.get(&format!("OCF_RESKEY_CRM_meta_{name}"))
    }

    /// The resource's name with the instance number, `redis:0`; `default` when run by hand.
    pub fn instance(&self) -> &str {
        self.non_empty("OCF_RESOURCE_INSTANCE").unwrap_or("default")
    }

    /// The resource's name without the instance number.
    pub fn resource(&self) -> &str {
        let instance = self.instance();
        match instance.rsplit_once(':') {
            Some((name, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => instance,
        }
    }

    /// The operation's timeout.
    pub fn timeout(&self) -> Option<Duration> {
        self.meta("timeout").and_then(|v| v.parse().ok()).filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// Whether a monitor is a probe: asked to find out what is there, with nothing expected. Its interval is 0, or
    /// missing: Pacemaker 2.1 sends none with a probe.
    pub fn is_probe(&self) -> bool {
        self.meta("interval").map_or(self.under_pacemaker(), |interval| interval == "0")
    }

    /// Whether a monitor is that of nodes on which the resource is stopped (`role=Stopped`).
    pub fn is_of_stopped_role(&self) -> bool {
        self.meta("role") == Some("Stopped")
    }

    /// `OCF_CHECK_LEVEL`; 0 when absent or no number.
    pub fn check_level(&self) -> u32 {
        self.get("OCF_CHECK_LEVEL").and_then(|v| v.parse().ok()).unwrap_or(0)
    }

    /// Whether Pacemaker started this process: it alone sets the feature set. `ocf-tester` and a person at the
    /// shell do not, and there no cluster must be expected.
    pub fn under_pacemaker(&self) -> bool {
        self.non_empty("OCF_RESKEY_crm_feature_set").is_some()
    }

    /// The name of this node in the cluster, when Pacemaker told it.
    pub fn node(&self) -> Option<&str> {
        self.meta("on_node").filter(|v| !v.trim().is_empty())
    }

    /// How many instances the clone may have.
    pub fn clone_max(&self) -> Option<u32> {
        self.meta("clone_max").and_then(|v| v.parse().ok())
    }

    /// Whether the clone sends notifications. `None` when not known (no clone, or run by hand).
    pub fn notify(&self) -> Option<bool> {
        self.meta("notify").map(|v| matches!(v.to_ascii_lowercase().as_str(), "true" | "yes" | "1" | "on"))
    }

    /// The failure of a promotable clone without notifications: without them nobody can be elected. `assumed`: whether they count as sent
    /// where Pacemaker did not say.
    pub fn without_notify(&self, assumed: bool) -> Option<Failure> {
        let missing = self.is_promotable() && !self.notify().unwrap_or(assumed);
        missing.then(|| Failure::configured("the clone has no notify=true, without which nobody can be elected: set meta notify=true"))
    }

    /// Whether the resource is a promotable clone, by either spelling.
    pub fn is_promotable(&self) -> bool {
        self.meta("promotable").is_some_and(|v| matches!(v, "true" | "yes" | "1" | "on"))
            || ["promoted_max", "master_max"].iter().any(|n| self.meta(n).and_then(|v| v.parse::<u32>().ok()).is_some_and(|n| n > 0))
    }

    /// The directory for state that must not survive a boot.
    pub fn temporary_directory(&self) -> PathBuf {
        Path::new(self.non_empty("HA_RSCTMP").unwrap_or("/run/resource-agents")).to_path_buf()
    }

    /// The directory for what is kept for people, when it is not the usual one.
    pub fn kept_directory(&self) -> Option<PathBuf> {
        self.non_empty("SYSTOLE_KEPT").map(PathBuf::from)
    }

    /// All variables whose name starts with `prefix`, for the trace.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.variables.iter().filter(move |(k, _)| k.starts_with(prefix)).map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

/// What an action has at hand: the environment, the log and its deadline.
#[derive(Debug)]
pub struct Context {
    /// What Pacemaker said.
    pub environment: Environment,
    /// Where to speak to the operator.
    pub log: Rc<Log>,
    /// By when the action must have answered.
    pub deadline: Deadline,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_pairs(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_resource_is_the_instance_without_its_number() {
        for (instance, resource) in [("redis:0", "redis"), ("redis", "redis"), ("a:b:12", "a:b"), ("a:b", "a:b"), ("a:", "a:")] {
            assert_eq!(with(&[("OCF_RESOURCE_INSTANCE", instance)]).resource(), resource);
        }
    }

    #[test]
    fn both_spellings_make_a_promotable_clone() {
        assert!(with(&[("OCF_RESKEY_CRM_meta_promotable", "true")]).is_promotable());
        assert!(with(&[("OCF_RESKEY_CRM_meta_master_max", "1")]).is_promotable());
        assert!(with(&[("OCF_RESKEY_CRM_meta_promoted_max", "1")]).is_promotable());
        assert!(!with(&[("OCF_RESKEY_CRM_meta_clone_max", "3")]).is_promotable());
    }

    #[test]
    fn a_probe_is_a_monitor_with_interval_zero() {
        assert!(with(&[("OCF_RESKEY_CRM_meta_interval", "0")]).is_probe());
        assert!(!with(&[("OCF_RESKEY_CRM_meta_interval", "10000")]).is_probe());
        assert!(with(&[("OCF_RESKEY_crm_feature_set", "3.16.2")]).is_probe());
        assert!(!with(&[]).is_probe());
    }

    #[test]
    fn a_monitor_of_the_stopped_role_is_no_probe() {
        let stopped = with(&[("OCF_RESKEY_CRM_meta_role", "Stopped"), ("OCF_RESKEY_CRM_meta_interval", "60000")]);
        assert!(stopped.is_of_stopped_role() && !stopped.is_probe());
        assert!(!with(&[("OCF_RESKEY_CRM_meta_role", "Started")]).is_of_stopped_role() && !with(&[]).is_of_stopped_role());
    }
}
