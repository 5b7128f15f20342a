//! Sentinel instead of our agent, as docs/sentinel.md goes over to it and comes back.

use std::time::Duration;

use lab::{Node, Result};

use crate::site::Site;
use crate::{on_all, snippet};

/// The three files of crm-snippets/server on every node, for a first primary.
pub fn configure(site: &Site, primary: &Node) -> Result<()> {
    // In the closed network of the rehearsal, as in redis.rs.
    let server = snippet("server/redis-under-sentinel.conf")? + "\nprotected-mode no\n";
    let sentinel = snippet("server/redis-sentinel.conf")?
        .replace("protected-mode yes", "protected-mode no")
        .replace("redis lxc1 6379", &format!("redis {} 6379", primary.name));
    let unit = snippet("server/redis-under-sentinel.service")?;
    on_all(&site.lab.nodes(), |node| {
        let follows = server.replace("#replicaof lxc1 6379", &format!("replicaof {} 6379", primary.name));
        node.write("/etc/redis/under-sentinel.conf", if node.name == primary.name { &server } else { &follows })?;
        node.write("/etc/redis/sentinel.conf", &sentinel)?;
        node.sh("cd /etc/redis && chown redis:redis under-sentinel.conf sentinel.conf && chmod 640 under-sentinel.conf sentinel.conf")?;
        node.sh("mkdir -p /etc/systemd/system/redis-server.service.d")?;
        node.write("/etc/systemd/system/redis-server.service.d/under-sentinel.conf", &unit)?;
        node.sh("systemctl daemon-reload").map(drop)
    })
}

/// From redis.crm to Sentinel. Returns the primary, which stays the same one.
pub fn go_over(site: &Site) -> Result<Node> {
    let primary = site.primary()?;
    site.lab.crm("resource stop redis-clone")?;
    site.lab.wait_idle()?;
    configure(site, &primary)?;
    site.lab.crm("configure delete redis-ip-after-promotion redis-ip-with-primary redis-ip")?;
    site.lab.load_crm(&snippet("redis-sentinel-instead.crm")?)?;
    site.lab.wait_idle()?;
    wait_settled(site)?;
    Ok(primary)
}

/// From Sentinel to redis.crm: nobody decides, then everything is stopped, then the operator names the primary that was.
pub fn come_back(site: &Site) -> Result<Node> {
    let primary = stop(site)?;
    site.lab
        .quorate_node()?
        .sh(&format!("crm_attribute --type crm_config --set-name systole --name systole-redis-primary --update 'node={}'", primary.name))?;
    site.lab.load_crm(&site.snippet(crate::Agent::Systole)?)?;
    site.wait_settled()?;
    Ok(primary)
}

/// Ends the reign of Sentinel: nobody decides, then nothing runs. Returns who was the primary.
pub fn stop(site: &Site) -> Result<Node> {
    let primary = primary(site)?;
    site.lab.crm("resource stop sentinel-clone")?;
    site.lab.wait_idle()?;
    site.lab.crm("configure delete sentinel-not-beside-the-agent sentinel-after-redis sentinel-clone sentinel")?;
    site.lab.crm("resource stop redis-clone")?;
    site.lab.wait_idle()?;
    Ok(primary)
}

/// Whom the Sentinel of a node takes for the primary: its address.
pub fn named(node: &Node) -> Result<String> {
    let answer = node.sh("redis-cli -p 26379 sentinel get-master-addr-by-name redis")?.stdout;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// The node that all Sentinels name.
pub fn primary(site: &Site) -> Result<Node> {
    let nodes = site.lab.live_nodes();
    let first = nodes.first().map(named).transpose()?.unwrap_or_default();
    for node in &nodes {
        crate::expect(named(node)? == first, &format!("the Sentinel of {} names another primary than {first}", node.name))?;
    }
    nodes.into_iter().find(|node| node.address() == first).ok_or_else(|| lab::Error::Refused(format!("no node has the address {first:?}")))
}

/// Waits until all Sentinels know each other and the replicas (they ask the primary for these every 10 s), name one primary, and it
/// has all its replicas.
pub fn wait_settled(site: &Site) -> Result<()> {
    let nodes = site.lab.live_nodes();
    let others = nodes.len().saturating_sub(1);
    let knows = [format!("num-slaves\n{others}\n"), format!("num-other-sentinels\n{others}\n")];
    site.lab.wait_for("one primary that all Sentinels name, with its replicas", Duration::from_secs(90), || {
        let attached =
            |node: &Node| node.sh("redis-cli info replication").is_ok_and(|o| o.stdout.matches("state=online").count() == others);
        let asked = |node: &Node| node.sh("redis-cli -p 26379 sentinel master redis");
        let known = |node: &Node| asked(node).is_ok_and(|o| knows.iter().all(|words| o.stdout.contains(words)));
        primary(site).is_ok_and(|primary| attached(&primary)) && nodes.iter().all(known)
    })
}
