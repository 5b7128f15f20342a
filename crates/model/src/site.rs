//! Pacemaker's transitions in the usual order, for nodes on which an agent's own engine works.

use std::path::PathBuf;

use ocf::{Context, Deadline, Environment, Failure, Log, Operation, Outcome, Phase, Status};

use crate::{Kind, Subject, name};

/// The directories for state of a test's nodes, which end with it.
#[derive(Debug)]
pub struct Directories(PathBuf);

impl Directories {
    /// Those of so many nodes.
    pub fn new(test: &str, nodes: usize) -> Self {
        let all = Self(std::env::temp_dir().join(format!("systole-{test}-{}", std::process::id())));
        (0..nodes).for_each(|n| std::fs::create_dir_all(all.of(n)).unwrap());
        all
    }

    /// That of a node.
    pub fn of(&self, node: usize) -> PathBuf {
        self.0.join(name(node))
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Nodes on which an agent's actions are carried out.
pub trait Site {
    /// How many there are.
    const NODES: usize;

    /// Carries an action out, `None` for a monitor.
    ///
    /// # Errors
    /// What the agent says.
    fn act(&self, node: usize, kind: Option<Kind>, subject: Subject) -> Result<Status, Failure>;

    /// Who is promoted, as the cluster sees it.
    fn promoted(&self) -> Option<usize>;

    /// The cluster sees that another is promoted, or nobody.
    fn set_promoted(&self, node: Option<usize>);

    /// An instance runs.
    fn set_started(&self, node: usize);

    /// Starts all of them, one after the other.
    fn start_all(&self) {
        for n in 0..Self::NODES {
            self.act(n, Some(Kind::Start), Subject { start: Some(n), ..Subject::default() }).unwrap();
            self.set_started(n);
        }
    }

    /// Tells everybody; the candidate last: it has nobody to wait for then.
    fn notify(&self, phase: Phase, operation: Operation, subject: Subject) {
        let mut nodes: Vec<usize> = (0..Self::NODES).collect();
        nodes.sort_by_key(|n| subject.promote == Some(*n));
        for n in nodes {
            self.act(n, Some(Kind::Notify(phase, operation)), subject).unwrap();
        }
    }

    /// What comes between the death or the demotion of a primary and a promotion.
    fn elect(&self, candidate: usize) -> Subject {
        let old = self.promoted();
        let subject = Subject { demote: old, promote: Some(candidate), ..Subject::default() };
        if let Some(old) = old {
            self.act(old, Some(Kind::Demote), subject).unwrap();
            self.set_promoted(None);
            self.notify(Phase::Post, Operation::Demote, subject);
        }
        self.notify(Phase::Pre, Operation::Promote, subject);
        subject
    }

    /// A whole transition that promotes this one.
    ///
    /// # Errors
    /// Why it is not promoted.
    fn promote(&self, candidate: usize) -> Outcome {
        let subject = self.elect(candidate);
        self.act(candidate, Some(Kind::Promote), subject)?;
        self.set_promoted(Some(candidate));
        self.notify(Phase::Post, Operation::Promote, subject);
        Ok(())
    }

    /// What a monitor of each says.
    fn monitors(&self) -> Vec<Result<Status, Failure>> {
        (0..Self::NODES).map(|n| self.act(n, None, Subject::default())).collect()
    }

    /// What an action has at hand, on a node of a clone with notifications.
    fn context(node: usize, resource: &str) -> Context {
        let (node, servers) = (name(node), Self::NODES.to_string());
        let pairs = [
            ("OCF_RESOURCE_INSTANCE", resource),
            ("OCF_RESKEY_crm_feature_set", "3.19.0"),
            ("OCF_RESKEY_CRM_meta_on_node", &node),
            ("OCF_RESKEY_CRM_meta_clone_max", &servers),
            ("OCF_RESKEY_CRM_meta_interval", "10000"),
            ("HA_LOGFACILITY", "none"),
        ];
        let environment = Environment::from_pairs(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let log = std::rc::Rc::new(Log::open(resource, "test", &environment));
        Context { environment, log, deadline: Deadline::after(std::time::Duration::from_secs(60)) }
    }
}
