//! Redis and Valkey: configuration, certificate, attachment.

use lab::{Node, Result};

use crate::site::Site;
use crate::{Agent, Durability, read, repository, stock};

/// Writes the configuration that the snippet names, with further lines.
pub(crate) fn configure(site: &Site, settings: &str) -> Result<()> {
    let server = site.server();
    // The rehearsal's network is closed: scenarios that want a password bring their own. The page of the workshop writes one.
    let configuration = read(&repository().join(format!("crm-snippets/server/{}-site.conf", server.resource)))?;
    let configuration =
        configuration.replace("requirepass PASSWORD\nmasterauth PASSWORD\n", "protected-mode no\n") + "\n" + settings + "\n";
    for node in site.lab.nodes() {
        let path = format!("/etc/{0}/site.conf", server.directory);
        node.write(&path, &configuration)?;
        node.sh(&format!("chown {0}:{0} {path} /var/lib/{0}", server.directory))?;
    }
    Ok(())
}

/// One certificate for all nodes, with its key, where the servers can read it.
pub(crate) fn certify(site: &Site) -> Result<()> {
    let directory = site.server().directory;
    let path = format!("/etc/{directory}/node.pem");
    let nodes = site.lab.nodes();
    let made = nodes[0]
        .sh("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=lab -addext subjectAltName=DNS:lxc1,DNS:lxc2,DNS:lxc3 \
             -keyout /tmp/key.pem -out /tmp/cert.pem 2>&1 && cat /tmp/key.pem /tmp/cert.pem")?;
    for node in &nodes {
        node.write(&path, &made.stdout)?;
        node.sh(&format!("chown {directory}:{directory} {path}; chmod 600 {path}"))?;
    }
    Ok(())
}

/// Whether that many replicas are attached to this primary, which has the address.
pub(crate) fn attached(site: &Site, primary: &Node, replicas: usize) -> bool {
    let asked = primary.sh(&format!("{} info replication; ip -o addr show to 192.0.2.100", site.server().client));
    asked.is_ok_and(|o| o.stdout.matches("state=online").count() >= replicas && o.stdout.contains("192.0.2.100"))
}

/// The snippet for servers without a password.
fn open(snippet: &str) -> String {
    snippet.replace(" durability=async \\", " open_network=yes durability=async \\")
}

/// The snippet for this run.
pub(crate) fn edited(snippet: &str, agent: Agent, durability: Durability) -> String {
    match (agent, durability) {
        (Agent::Systole, Durability::Async) => open(snippet),
        (Agent::Systole, Durability::Quorum) => open(snippet).replace("durability=async", "durability=quorum"),
        (Agent::Stock | Agent::StockByPosition, _) => {
            snippet.replace("ocf:systole:redis", "ocf:heartbeat:redis").replace(" durability=async", "").replace(stock::WITHOUT, "")
        }
    }
}
