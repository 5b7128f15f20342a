//! HAProxy in front of the servers, as docs/haproxy.md and docs/recipes/mariadb-behind-haproxy.md set it up.

use std::time::Duration;

use lab::{Lab, Load, LoadOptions, Node, Result};

use crate::site::Site;
use crate::{Kind, expect, held, on_all, snippet};

/// A configuration of crm-snippets/server.
#[derive(Clone, Copy, Debug)]
pub struct Front {
    /// Its file.
    file: &'static str,
    /// The section with the servers.
    section: &'static str,
    /// Where it listens.
    port: u16,
}

/// In front of Redis.
const REDIS: Front = Front { file: "server/haproxy-redis.cfg", section: "redis", port: 6390 };
/// In front of the MariaDB of mysql.crm.
const MARIADB: Front = Front { file: "server/haproxy-mariadb.cfg", section: "mariadb", port: 3307 };
/// In front of Galera: who is in step.
pub const GALERA: Front = Front { file: "server/haproxy-galera.cfg", section: "galera-synced", port: 3307 };

/// How many planned moves a scenario makes.
const MOVES: usize = 3;

impl Front {
    fn of(site: &Site) -> Self {
        if site.server().kind == Kind::Redis { REDIS } else { MARIADB }
    }

    /// Puts the configuration on every node and loads haproxy.crm. The lab's clients are on no node, so each HAProxy listens at its
    /// node's own address as well; nothing else is changed.
    pub fn install(self, lab: &Lab) -> Result<()> {
        let configuration = snippet(self.file)?;
        on_all(&lab.nodes(), |node| {
            let bind = format!("bind 127.0.0.1:{}", self.port);
            node.write("/etc/haproxy/haproxy.cfg", &configuration.replace(&bind, &format!("{bind},{}", self.address(node))))?;
            node.sh("chmod 600 /etc/haproxy/haproxy.cfg && haproxy -c -f /etc/haproxy/haproxy.cfg").map(drop)
        })?;
        lab.load_crm(&snippet("haproxy.crm")?)?;
        lab.wait_idle()
    }

    /// Where the lab's clients reach the HAProxy of a node.
    #[must_use]
    pub fn address(self, node: &Node) -> String {
        format!("{}:{}", node.address(), self.port)
    }

    /// Which servers pass the checks of a node's HAProxy.
    pub fn passing(self, node: &Node) -> Result<Vec<String>> {
        let table = node.sh(&format!("echo 'show stat {} 4 -1' | socat - /run/haproxy/admin.sock", self.section))?.stdout;
        let rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
        Ok(rows.filter(|row| row.get(17).is_some_and(|status| status.starts_with("UP"))).map(|row| row[1].to_owned()).collect())
    }
}

/// HAProxy in front of the servers of this site.
pub fn install(site: &Site) -> Result<()> {
    if site.server().kind != Kind::Redis {
        // As an operator does it: the page's file, on the primary.
        let accounts = snippet("server/haproxy-mariadb.sql")?;
        site.sql(&site.primary()?, &accounts)?;
    }
    Front::of(site).install(&site.lab)?;
    wait_agreed(site)
}

/// Which servers pass the checks of a node's HAProxy.
pub fn passing(site: &Site, node: &Node) -> Result<Vec<String>> {
    Front::of(site).passing(node)
}

/// Waits until each HAProxy passes on to the promoted server and to nobody else.
pub fn wait_agreed(site: &Site) -> Result<()> {
    site.lab.wait_for("every HAProxy at the promoted server", Duration::from_secs(20), || {
        site.primary()
            .is_ok_and(|primary| site.lab.live_nodes().iter().all(|node| passing(site, node).is_ok_and(|up| up == [primary.name.as_str()])))
    })
}

/// Starts writers that go through the HAProxy of this node, and lets them write for two seconds.
pub fn load_through(site: &Site, node: &Node) -> Result<Load> {
    let address = Front::of(site).address(node);
    let load = site.lab.start_load(&LoadOptions { address, ..site.gentle_load_options()? })?;
    site.lab.wait_for("writes through HAProxy", Duration::from_secs(20), || load.writing())?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(load)
}

/// The processes of all HAProxies: what was not restarted keeps them.
#[must_use]
pub fn processes(lab: &Lab) -> Vec<i32> {
    let mut all: Vec<i32> = lab.live_nodes().iter().flat_map(|node| node.pids("haproxy")).collect();
    all.sort_unstable();
    all
}

/// Tells the agent of the HAProxies, as docs/haproxy.md does: they are drained before a planned move.
pub fn drain(site: &Site) -> Result<()> {
    let (resource, section) = (site.server().resource, Front::of(site).section);
    let value = format!("/run/haproxy/admin.sock {section}");
    let command = format!("crm_resource --resource {resource} --set-parameter haproxy_drain --parameter-value '{value}'");
    site.lab.nodes()[0].sh(&command)?;
    site.lab.wait_idle()
}

/// Clients on every node that connect to its HAProxy for each request, as PHP does.
pub struct Requests {
    nodes: Vec<Node>,
}

/// What became of their requests.
#[derive(Debug, Default)]
pub struct Counted {
    /// How many were answered.
    pub done: usize,
    /// How many were not.
    pub failed: usize,
    /// The slowest one, in milliseconds.
    pub slowest: u64,
    /// Why the first ones failed.
    pub why: Vec<String>,
}

impl Requests {
    /// Starts them on all nodes, and lets them write for a second.
    pub fn start(site: &Site) -> Result<Self> {
        let script = include_str!("../files/requests.py");
        let front = Front::of(site);
        let command = match site.server().kind {
            Kind::Redis => String::new(),
            _ => crate::mysql::request(site, front.port)?,
        };
        let nodes = site.lab.live_nodes();
        on_all(&nodes, |node| {
            node.write("/root/requests.py", script)?;
            node.sh(&format!(
                "cd /root; setsid python3 requests.py {} {command} > requests.out 2>&1 < /dev/null & echo $! > /root/requests.pid",
                front.port
            ))
            .map(drop)
        })?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(Self { nodes })
    }

    /// Ends them, and counts.
    pub fn stop(self) -> Result<Counted> {
        std::thread::sleep(Duration::from_secs(1));
        let mut all = Counted::default();
        for node in &self.nodes {
            let said = node.sh("pid=$(cat /root/requests.pid); kill $pid; tail --pid=$pid -f /dev/null; cat /root/requests.out")?.stdout;
            let mut lines = said.lines();
            let counts: Vec<u64> = lines.next().unwrap_or_default().split(' ').filter_map(|word| word.parse().ok()).collect();
            let [done, failed, slowest] = counts[..] else {
                return Err(lab::Error::Refused(format!("the clients of {} said: {said}", node.name)));
            };
            all.done += usize::try_from(done).unwrap_or_default();
            all.failed += usize::try_from(failed).unwrap_or_default();
            all.slowest = all.slowest.max(slowest);
            all.why.extend(lines.map(|line| format!("{}: {line}", node.name)));
        }
        Ok(all)
    }
}

/// A crash and planned moves under the load of an application beside a replica, and of clients that connect for each request; no HAProxy
/// may notice, and no such request may fail in a move.
pub fn crash_and_move(site: &Site, longest: Duration) -> Result<()> {
    drain(site)?;
    let before = processes(&site.lab);
    let load = load_through(site, &site.replicas()?[0])?;
    let requests = Requests::start(site)?;
    site.kill_primary()?;
    site.wait_settled()?;
    wait_agreed(site)?;
    println!("a crash, a connection for each request: {:?}", requests.stop()?);
    for number in 1..=MOVES {
        let requests = Requests::start(site)?;
        site.move_primary()?;
        site.wait_settled()?;
        wait_agreed(site)?;
        let counted = requests.stop()?;
        println!("planned move {number}, a connection for each request: {counted:?}");
        expect(counted.done > 0 && counted.failed == 0, &format!("no request fails in a planned move: {counted:?}"))?;
    }
    held(site, load, longest, "")?;
    expect(processes(&site.lab) == before, "no HAProxy was restarted")
}
