//! The drills: what an operator does or what happens to them, and how long it takes until all is as before.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use lab::{CheckOptions, Database, Error, Load, LoadOptions, Node, Result, VisitOptions, host, visitors};
use nix::sys::signal::Signal;

use super::{Kind, Outcome, Tally, Verdict, Workshop, bring};
use crate::expect;

/// How long it may take until all is as before.
const RECOVERY: Duration = Duration::from_secs(120);
/// So that one drill is not seen in the next one's numbers.
const REST: Duration = Duration::from_secs(2);

/// Something to rehearse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// A public address goes to the spare node and back.
    MoveAddress(&'static str),
    /// The role of a database goes to another node.
    MovePrimary(&'static str),
    /// `kill -9` of a primary: the resource, and its process.
    Kill(&'static str, &'static str),
    /// A node is taken out and back.
    Standby(&'static str),
    /// Every node in turn is taken out, booted anew and taken back, the primary of MySQL last.
    RollingUpdate,
    /// A node loses its power, and gets it back.
    PowerCut(&'static str),
}

impl Drill {
    /// The server of MySQL dies.
    pub const KILL_MYSQL: Drill = Drill::Kill("mysql", "--datadir=/var/lib/mysql");
    /// That of Redis does.
    pub const KILL_REDIS: Drill = Drill::Kill("redis", "redis-server");
    /// All of them, each node's and each role's.
    pub const ALL: [Drill; 13] = [
        Drill::MoveAddress("public-ip-1"),
        Drill::MoveAddress("public-ip-2"),
        Drill::MovePrimary("mysql"),
        Drill::MovePrimary("redis"),
        Drill::KILL_MYSQL,
        Drill::KILL_REDIS,
        Drill::Standby("lxc1"),
        Drill::Standby("lxc2"),
        Drill::Standby("lxc3"),
        Drill::RollingUpdate,
        Drill::PowerCut("lxc1"),
        Drill::PowerCut("lxc2"),
        Drill::PowerCut("lxc3"),
    ];

    /// Whether it takes seconds only, so that it can be done again and again.
    #[must_use]
    pub fn is_short(self) -> bool {
        matches!(self, Drill::MoveAddress(_) | Drill::MovePrimary(_) | Drill::Kill(..))
    }

    /// How an operator calls it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Drill::MoveAddress(address) => format!("{address} to another node and back"),
            Drill::MovePrimary(resource) => format!("the primary of {resource} moved"),
            Drill::Kill(resource, _) => format!("the primary of {resource}: kill -9"),
            Drill::Standby(node) => format!("{node} on standby and back"),
            Drill::RollingUpdate => "rolling update of all nodes".to_owned(),
            Drill::PowerCut(node) => format!("power cut of {node}"),
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Drill::Kill(..) => Kind::Crash,
            Drill::PowerCut(_) => Kind::PowerCut,
            _ => Kind::Planned,
        }
    }
}

/// How systole's package is upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Where everything runs.
    InPlace,
    /// The same, to the version before.
    Back,
    /// On nodes that were taken out before.
    OnStandby,
}

impl Upgrade {
    /// How an operator calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Upgrade::InPlace => "systole upgraded in place",
            Upgrade::Back => "systole back to the version before, in place",
            Upgrade::OnStandby => "systole upgraded on standby",
        }
    }
}

/// The servers, which must not notice an upgrade, by process id.
fn servers(node: &Node) -> Vec<Vec<i32>> {
    ["--datadir=/var/lib/mysql", "redis-server", "nginx", "/usr/sbin/cron"].map(|name| node.pids(name)).into()
}

/// What watches them, and the program that it is. One of the same program is left alone; an agent replaces the one of an earlier program,
/// which may not do what it asks for.
fn watchers(node: &Node) -> Result<(Vec<i32>, String)> {
    Ok((node.pids("systole-watch"), node.sh("sha256sum /usr/libexec/systole/systole-watch")?.stdout))
}

/// Installs the package that was brought, and insists that it is the one that dpkg knows then.
fn install(node: &Node) -> Result<()> {
    node.sh("cd /root && DEBIAN_FRONTEND=noninteractive apt-get install -y --allow-downgrades ./systole_*.deb")?;
    node.sh("test \"$(dpkg-query -f '${Version}' -W systole)\" = \"$(dpkg-deb -f /root/systole_*.deb Version)\"")?;
    node.sh("dpkg -V systole").map(drop)
}

/// Drills while visitors come.
pub struct Drills<'a> {
    site: &'a Workshop,
    visitors: Load,
    writers: Vec<(Load, CheckOptions)>,
    done: Vec<Outcome>,
}

impl<'a> Drills<'a> {
    /// Lets visitors and writers come.
    ///
    /// # Errors
    /// When the site does not take them.
    pub fn begin(site: &'a Workshop) -> Result<Self> {
        Self::with(site, &site.visit_options())
    }

    /// The same with other visitors.
    ///
    /// # Errors
    /// When the site does not take them.
    pub fn with(site: &'a Workshop, visitors: &VisitOptions) -> Result<Self> {
        let mut writers = Vec::new();
        for database in [Database::MySql, Database::Redis] {
            let options: LoadOptions = site.load_options(database);
            writers.push((site.lab.start_load(&options)?, CheckOptions::of(&options)?));
        }
        let drills = Self { site, visitors: site.lab.start_visitors(visitors)?, writers, done: Vec::new() };
        drills.as_before()?;
        Ok(drills)
    }

    /// Does one drill and waits until all is as before.
    ///
    /// # Errors
    /// When a command fails, or all is not as before in time.
    pub fn run(&mut self, drill: Drill) -> Result<()> {
        self.watch(drill.name(), drill.kind(), |drills| drills.perform(drill))
    }

    /// Upgrades systole on every node, one after the other, the primary of MySQL last: as docs/install.md says it. What
    /// runs must not notice.
    ///
    /// # Errors
    /// When apt fails, or anything that runs was touched, or all is not as before in time.
    pub fn upgrade(&mut self, package: &Path, upgrade: Upgrade) -> Result<()> {
        // Not those of the drills before: a killed primary that had diverged is in the list while it gets a copy.
        let failures_before = self.failures()?;
        self.watch(upgrade.name().to_owned(), Kind::Planned, |drills| {
            for node in drills.primary_last()? {
                bring(package, &node)?;
                match upgrade {
                    Upgrade::InPlace | Upgrade::Back => {
                        let (before, (watched, program)) = (servers(&node), watchers(&node)?);
                        install(&node)?;
                        // For longer than a monitor takes to come by, with the new program.
                        std::thread::sleep(Duration::from_secs(10));
                        let (watched_now, program_now) = watchers(&node)?;
                        let untouched = before == servers(&node) && (watched == watched_now || program != program_now);
                        expect(untouched, &format!("the upgrade of {} has touched what runs there", node.name))?;
                    }
                    Upgrade::OnStandby => {
                        drills.out(&node.name)?;
                        install(&node)?;
                        drills.site.lab.crm(&format!("node online {}", node.name))?;
                    }
                }
                drills.as_before()?;
            }
            let failures = drills.failures()?;
            let failed: Vec<_> = failures.difference(&failures_before).collect();
            expect(failed.is_empty(), &format!("actions have failed: {failed:?}"))?;
            Ok("lxc1, lxc2, lxc3".to_owned())
        })
    }

    /// What the cluster says of actions that have failed, each with its time.
    fn failures(&self) -> Result<BTreeSet<String>> {
        let list = self.site.lab.quorate_node()?.exec(&["crm_mon", "-1", "--exclude=all", "--include=failures"])?.stdout;
        Ok(list.lines().filter_map(|line| line.trim().strip_prefix("* ")).map(str::to_owned).collect())
    }

    /// Does something, waits until all is as before, and remembers the span of time.
    fn watch(&mut self, drill: String, kind: Kind, action: impl FnOnce(&Self) -> Result<String>) -> Result<()> {
        let begin = host::monotonic_us();
        self.site.lab.event(&format!("drill: {drill}"))?;
        let place = action(self)?;
        self.as_before()?;
        self.done.push(Outcome { drill, kind, place, span: (begin, host::monotonic_us()), tally: Tally::default() });
        std::thread::sleep(REST);
        Ok(())
    }

    /// Where it was done.
    fn perform(&self, drill: Drill) -> Result<String> {
        let lab = &self.site.lab;
        Ok(match drill {
            Drill::MoveAddress(address) => self.move_address(address)?,
            Drill::MovePrimary(resource) => {
                let from = self.site.primary(resource)?;
                format!("{} to {}", from.name, lab.move_promoted(resource)?)
            }
            Drill::Kill(resource, process) => {
                let primary = self.site.primary(resource)?;
                primary.kill(process, Signal::SIGKILL)?;
                // The visitors have to notice first.
                std::thread::sleep(Duration::from_millis(500));
                primary.name
            }
            Drill::Standby(node) => {
                let roles = self.what_runs_on(node)?;
                self.out(node)?;
                lab.crm(&format!("node online {node}"))?;
                roles
            }
            Drill::RollingUpdate => {
                for node in self.primary_last()? {
                    self.update(&node)?;
                    self.as_before()?;
                }
                "lxc1, lxc2, lxc3".to_owned()
            }
            Drill::PowerCut(node) => {
                let roles = self.what_runs_on(node)?;
                let node = lab.node_named(node)?;
                node.power_off()?;
                std::thread::sleep(Duration::from_millis(500));
                self.visitors_write()?;
                std::thread::sleep(REST);
                lab.power_back(&node)?;
                roles
            }
        })
    }

    /// Sends the visitors home and counts.
    ///
    /// # Errors
    /// When a node cannot be asked for its articles.
    pub fn end(self) -> Result<Verdict> {
        let Self { site, visitors, writers, mut done } = self;
        let journal = visitors.stop()?;
        let run = journal.run().unwrap_or_default().to_owned();
        let mut reports = Vec::new();
        for (load, check) in writers {
            reports.push((check.database.name(), site.lab.check(&load.stop()?, &check)?));
        }
        // After a drill that was done these are all.
        let nodes = site.lab.live_nodes();
        let held = nodes.iter().map(|node| Ok(site.articles(node, &visitors::slug_begin(&run))?.into_iter().collect()));
        let held: Vec<BTreeSet<String>> = held.collect::<Result<_>>()?;
        for outcome in &mut done {
            outcome.tally = Tally::of(&journal, &run, outcome.span, &held);
        }
        Ok(Verdict { drills: done, journal, reports })
    }

    /// The roles and addresses that a node has now.
    fn what_runs_on(&self, node: &str) -> Result<String> {
        let view = self.site.lab.view()?;
        let has = |name: &str, role: &str| view.with_role(name, role).iter().any(|on| on == node);
        let primaries = [("mysql", "MySQL"), ("redis", "Redis")].into_iter().filter(|(r, _)| has(r, "Promoted")).map(|(_, n)| n);
        let addresses =
            [("public-ip-1", "address 1"), ("public-ip-2", "address 2")].into_iter().filter(|(r, _)| has(r, "Started")).map(|(_, n)| n);
        let all: Vec<&str> = primaries.chain(addresses).collect();
        Ok(if all.is_empty() { "nothing that visitors use".to_owned() } else { format!("with {}", all.join(", ")) })
    }

    fn move_address(&self, address: &str) -> Result<String> {
        let lab = &self.site.lab;
        let on = || Ok::<_, Error>(lab.view()?.with_role(address, "Started").into_iter().next().unwrap_or_default());
        let from = on()?;
        let taken: Vec<String> =
            ["public-ip-1", "public-ip-2"].iter().map(|a| Ok(lab.view()?.with_role(a, "Started"))).collect::<Result<Vec<_>>>()?.concat();
        let spare = lab.live_nodes().into_iter().find(|node| !taken.contains(&node.name));
        let spare = spare.ok_or_else(|| Error::Refused("no node is without a public address".into()))?;
        lab.crm(&format!("resource move {address} {}", spare.name))?;
        lab.wait_idle()?;
        lab.crm(&format!("resource clear {address}"))?;
        lab.wait_idle()?;
        Ok(format!("{from}, {}, {}", spare.name, on()?))
    }

    /// Takes a node out; returns when nothing runs there.
    fn out(&self, node: &str) -> Result<()> {
        let lab = &self.site.lab;
        lab.crm(&format!("node standby {node}"))?;
        lab.wait_for(&format!("nothing that runs on {node}"), RECOVERY, || {
            lab.view().is_ok_and(|view| view.instances.iter().all(|instance| instance.node != node))
        })
    }

    /// As docs/drills.md says: what is promoted there moves first, by itself.
    fn update(&self, node: &Node) -> Result<()> {
        for resource in ["mysql", "redis"] {
            if self.site.primary(resource)?.name == node.name {
                self.site.lab.move_promoted(resource)?;
                self.site.lab.wait_idle()?;
            }
        }
        self.out(&node.name)?;
        node.sh("systemctl stop pacemaker corosync")?;
        node.power_off()?;
        node.power_on()?;
        self.site.lab.wait_online()?;
        self.site.lab.crm(&format!("node online {}", node.name)).map(drop)
    }

    fn primary_last(&self) -> Result<Vec<Node>> {
        let primary = self.site.primary("mysql")?;
        let (last, mut nodes): (Vec<Node>, Vec<Node>) = self.site.lab.nodes().into_iter().partition(|node| node.name == primary.name);
        nodes.extend(last);
        Ok(nodes)
    }

    fn visitors_write(&self) -> Result<()> {
        self.site.lab.wait_for("articles", RECOVERY, || self.visitors.writing())
    }

    /// Everything runs where it can, and every server of a database is in step.
    fn as_before(&self) -> Result<()> {
        let lab = &self.site.lab;
        lab.wait_online()?;
        lab.wait_idle()?;
        self.visitors_write()?;
        for (load, check) in &self.writers {
            lab.wait_for("writes", RECOVERY, || load.writing())?;
            lab.wait_for("every server in step", RECOVERY, || lab.in_step(check).unwrap_or(false))?;
        }
        lab.wait_for("every replica of MySQL acknowledges", RECOVERY, || self.acknowledging().unwrap_or(0) == lab.nodes().len() - 1)?;
        lab.wait_for("the addresses apart, the web servers on every node", RECOVERY, || {
            let Ok(view) = lab.view() else { return false };
            let (one, two) = (view.with_role("public-ip-1", "Started"), view.with_role("public-ip-2", "Started"));
            one.len() == 1 && two.len() == 1 && one != two && view.with_role("nginx", "Started").len() == lab.nodes().len()
        })
    }

    /// How many replicas acknowledge writes. Until another one does, the loss of the only one is an outage.
    fn acknowledging(&self) -> Result<usize> {
        let asked = "mariadb -N -e \"SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'\"";
        let answer = self.site.primary("mysql")?.sh(asked)?.stdout;
        Ok(answer.split_whitespace().last().and_then(|count| count.parse().ok()).unwrap_or(0))
    }
}
