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

/// A crash and a planned move under the load of an application beside a replica; no HAProxy may notice.
pub fn crash_and_move(site: &Site, longest: Duration) -> Result<()> {
    let before = processes(&site.lab);
    let load = load_through(site, &site.replicas()?[0])?;
    site.kill_primary()?;
    site.wait_settled()?;
    wait_agreed(site)?;
    site.move_primary()?;
    site.wait_settled()?;
    wait_agreed(site)?;
    held(site, load, longest, "")?;
    expect(processes(&site.lab) == before, "no HAProxy was restarted")
}
