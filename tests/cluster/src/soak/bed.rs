//! What is soaked, as far as faults and rounds have to know: a site with a database, or jobs of cron's.

use std::time::Duration;

use lab::{Error, Lab, Node, Result};

use super::schedule::{Subject, Target};
use crate::jobs::Jobs;
use crate::{Kind, Site};

/// How long a cluster may take to be well again after the last fault.
const WHOLE: Duration = Duration::from_secs(180);
/// The resource of the jobs.
pub(crate) const JOBS: &str = "site-cron";

/// What runs under Pacemaker.
pub(crate) enum Bed {
    /// A database.
    Site(Site),
    /// A job of every minute.
    Jobs(Jobs),
}

impl Bed {
    pub(crate) fn lab(&self) -> &Lab {
        match self {
            Self::Site(site) => &site.lab,
            Self::Jobs(jobs) => &jobs.lab,
        }
    }

    pub(crate) fn subject(&self) -> Subject {
        match self {
            Self::Site(site) if site.server().kind == Kind::Redis => Subject::Redis,
            Self::Site(_) => Subject::MySql,
            Self::Jobs(_) => Subject::Cron,
        }
    }

    /// The site; an error where there is none, which a schedule for jobs does not ask for.
    pub(crate) fn site(&self) -> Result<&Site> {
        match self {
            Self::Site(site) => Ok(site),
            Self::Jobs(_) => Err(Error::Refused("the jobs have no database".into())),
        }
    }

    /// The primitive.
    pub(crate) fn resource(&self) -> &str {
        match self {
            Self::Site(site) => site.server().resource,
            Self::Jobs(_) => JOBS,
        }
    }

    /// What commands of operators name.
    pub(crate) fn managed(&self) -> String {
        match self {
            Self::Site(site) => format!("{}-clone", site.server().resource),
            Self::Jobs(_) => JOBS.to_owned(),
        }
    }

    /// The agent's program.
    pub(crate) fn agent(&self) -> String {
        let name = match self.subject() {
            Subject::Redis => "redis",
            Subject::MySql => "mysql",
            Subject::Cron => "cron-singleton",
        };
        format!("/usr/lib/ocf/resource.d/systole/{name}")
    }

    /// A node in that role now; where nobody has it, any node with power.
    pub(crate) fn node(&self, target: Target) -> Result<Node> {
        let lab = self.lab();
        let live = lab.live_nodes();
        let primary = match self {
            Self::Site(site) => site.primary().ok(),
            Self::Jobs(_) => lab.view()?.with_role(JOBS, "Started").first().and_then(|name| lab.node_named(name).ok()),
        };
        let is_primary = |node: &&Node| primary.as_ref().is_some_and(|primary| primary.name == node.name);
        let wanted = live.iter().find(|node| is_primary(node) == (target == Target::Primary));
        wanted.or(live.first()).cloned().ok_or_else(|| Error::Refused("no node has power".into()))
    }

    /// A planned move, as an operator does it.
    pub(crate) fn move_away(&self) -> Result<()> {
        match self {
            Self::Site(site) => site.move_primary().map(drop),
            Self::Jobs(jobs) => jobs.move_away(JOBS).map(drop),
        }
    }

    /// Waits until all is as it was before the first fault.
    pub(crate) fn wait_well(&self) -> Result<()> {
        match self {
            Self::Site(site) => site.wait_settled_within(WHOLE),
            Self::Jobs(jobs) => jobs.wait_on(JOBS, |_| true).and_then(|_| jobs.lab.wait_idle()),
        }
    }
}
