//! HAProxy in front of the servers, as docs/haproxy.md sets it up.

use std::time::Duration;

use lab::{Load, LoadOptions, Node, Result};

use crate::site::Site;
use crate::{on_all, snippet};

/// Where it listens.
const PORT: u16 = 6390;

/// Puts the configuration of crm-snippets/server on every node and loads haproxy.crm. The lab's clients are on no node, so each
/// HAProxy listens at its node's own address as well; nothing else is changed.
pub fn install(site: &Site) -> Result<()> {
    let configuration = snippet("server/haproxy-redis.cfg")?;
    on_all(&site.lab.nodes(), |node| {
        let bind = format!("bind 127.0.0.1:{PORT}");
        node.write("/etc/haproxy/haproxy.cfg", &configuration.replace(&bind, &format!("{bind},{}:{PORT}", node.address())))?;
        node.sh("chmod 600 /etc/haproxy/haproxy.cfg && haproxy -c -f /etc/haproxy/haproxy.cfg").map(drop)
    })?;
    site.lab.load_crm(&snippet("haproxy.crm")?)?;
    site.lab.wait_idle()?;
    wait_agreed(site)
}

/// Which servers pass the checks of a node's HAProxy.
pub fn passing(node: &Node) -> Result<Vec<String>> {
    let table = node.sh("echo 'show stat redis 4 -1' | socat - /run/haproxy/admin.sock")?.stdout;
    let rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    Ok(rows.filter(|row| row.get(17).is_some_and(|status| status.starts_with("UP"))).map(|row| row[1].to_owned()).collect())
}

/// Waits until each HAProxy passes on to the promoted server and to nobody else.
pub fn wait_agreed(site: &Site) -> Result<()> {
    site.lab.wait_for("every HAProxy at the promoted server", Duration::from_secs(20), || {
        site.primary()
            .is_ok_and(|primary| site.lab.live_nodes().iter().all(|node| passing(node).is_ok_and(|up| up == [primary.name.as_str()])))
    })
}

/// Starts writers that go through the HAProxy of this node, and lets them write for two seconds.
pub fn load_through(site: &Site, node: &Node) -> Result<Load> {
    let address = format!("{}:{PORT}", node.address());
    let load = site.lab.start_load(&LoadOptions { address, ..site.load_options()? })?;
    site.lab.wait_for("writes through HAProxy", Duration::from_secs(20), || load.writing())?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(load)
}

/// The processes of all HAProxies: what was not restarted keeps them.
#[must_use]
pub fn processes(site: &Site) -> Vec<i32> {
    let mut all: Vec<i32> = site.lab.live_nodes().iter().flat_map(|node| node.pids("haproxy")).collect();
    all.sort_unstable();
    all
}
