//! Corosync and Pacemaker over the nodes: the first start in order, who is online, who is promoted.
//! Reads the cluster through `crm_mon --output-as=xml`; configures it only through crmsh.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::host;
use crate::node::Node;

/// The cluster as one live node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Nodes that are online (in standby too).
    pub online: Vec<String>,
    /// Nodes whose state is unclean: not fenced yet.
    pub unclean: Vec<String>,
    /// The designated controller.
    pub dc: Option<String>,
    /// Whether that node has quorum.
    pub quorum: bool,
    /// Active instances: resource (without the clone's instance number), node, role.
    pub instances: Vec<Instance>,
}

/// One active instance of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The primitive's name.
    pub resource: String,
    /// The clone that holds it, if any.
    pub clone: Option<String>,
    /// Where it runs.
    pub node: String,
    /// `Promoted`, `Unpromoted`, `Started`, ...: today's spelling, whatever this Pacemaker writes.
    pub role: String,
    /// Whether Pacemaker calls it failed.
    pub failed: bool,
}

impl ClusterView {
    /// Reads the XML that `crm_mon --output-as=xml` writes (Pacemaker 2.1 and 3).
    pub fn parse(xml: &str) -> Result<ClusterView> {
        let document = roxmltree::Document::parse(xml).map_err(|e| Error::Refused(format!("output of crm_mon is not XML: {e}")))?;
        let mut view = ClusterView::default();
        let yes = |value: Option<&str>| value == Some("true");
        for element in document.descendants() {
            match element.tag_name().name() {
                "current_dc" => {
                    view.dc = element.attribute("name").map(str::to_owned);
                    view.quorum = yes(element.attribute("with_quorum"));
                }
                // `node` also stands below resources; only those of the node list say whether they are online.
                "node" if element.attribute("online").is_some() => {
                    let name = element.attribute("name").unwrap_or_default().to_owned();
                    if yes(element.attribute("unclean")) {
                        view.unclean.push(name.clone());
                    }
                    if yes(element.attribute("online")) && !yes(element.attribute("pending")) {
                        view.online.push(name);
                    }
                }
                "resource" if element.attribute("role").is_some_and(|role| role != "Stopped") => {
                    let clone =
                        element.ancestors().find(|a| a.tag_name().name() == "clone").and_then(|c| c.attribute("id")).map(str::to_owned);
                    for place in element.children().filter(|c| c.tag_name().name() == "node") {
                        let id = element.attribute("id").unwrap_or_default();
                        view.instances.push(Instance {
                            resource: id.split(':').next().unwrap_or_default().to_owned(),
                            clone: clone.clone(),
                            node: place.attribute("name").unwrap_or_default().to_owned(),
                            role: modern_role(element.attribute("role").unwrap_or_default()).to_owned(),
                            failed: yes(element.attribute("failed")),
                        });
                    }
                }
                _ => {}
            }
        }
        view.online.sort();
        Ok(view)
    }

    /// Nodes where `resource` (or the clone of that name) has `role`.
    #[must_use]
    pub fn with_role(&self, resource: &str, role: &str) -> Vec<String> {
        self.instances
            .iter()
            .filter(|i| (i.resource == resource || i.clone.as_deref() == Some(resource)) && i.role == role)
            .map(|i| i.node.clone())
            .collect()
    }
}

fn modern_role(role: &str) -> &str {
    match role {
        "Master" => "Promoted",
        "Slave" => "Unpromoted",
        other => other,
    }
}

/// What the node's Pacemaker says, or why it says nothing.
pub fn view(node: &Node) -> Result<ClusterView> {
    let done = node.exec(&["timeout", "60", "crm_mon", "-1", "--output-as=xml"])?;
    if !done.success() {
        return Err(Error::Refused(format!("Pacemaker on {} does not answer: {}", node.name, done.stderr.trim())));
    }
    ClusterView::parse(&done.stdout)
}

/// Runs the same on every node at once and returns the first error.
pub(crate) fn on_all(nodes: &[Node], action: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let running: Vec<_> = nodes.iter().map(|node| scope.spawn(|| action(node))).collect();
        let joined = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(Error::Refused("a thread of the lab panicked".to_owned())))
        };
        // All are waited for before the first error is looked at.
        let outcomes: Vec<Result<()>> = running.into_iter().map(joined).collect();
        outcomes.into_iter().collect()
    })
}

/// The first start. All corosyncs come before the first Pacemaker: two nodes with quorum would otherwise fence the
/// third, which they never saw.
pub(crate) fn first_start(nodes: &[Node]) -> Result<()> {
    on_all(nodes, |node| node.sh("systemctl start corosync").map(drop))?;
    for node in nodes {
        host::poll(
            &format!("membership of all {} nodes seen by {}", nodes.len(), node.name),
            Duration::from_secs(20),
            Duration::from_millis(100),
            || {
                let text = node.exec(&["corosync-quorumtool", "-s"]).map_err(|e| e.to_string())?.stdout;
                let total = text.lines().find_map(|l| l.strip_prefix("Total votes:")).map(str::trim).unwrap_or_default();
                if total == nodes.len().to_string() { Ok(()) } else { Err(format!("{total:?} votes")) }
            },
        )?;
    }
    on_all(nodes, |node| node.sh("systemctl start pacemaker").map(drop))
}

/// From the second boot on a node rejoins by itself.
pub(crate) fn enable_at_boot(nodes: &[Node]) -> Result<()> {
    on_all(nodes, |node| {
        node.sh("d=/etc/systemd/system/multi-user.target.wants; mkdir -p $d; \
             for u in corosync pacemaker; do ln -sfn /lib/systemd/system/$u.service $d/$u.service; done")
            .map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"<pacemaker-result api-version="2.25">
<summary><current_dc present="true" name="lxc2" with_quorum="true"/></summary>
<nodes><node name="lxc1" online="true" pending="false" unclean="false"/><node name="lxc2" online="true" pending="false" unclean="false"/>
<node name="lxc3" online="false" pending="false" unclean="true"/></nodes>
<resources><clone id="db-clone"><resource id="db:0" role="Master" failed="false"><node name="lxc1" id="1" cached="true"/></resource>
<resource id="db" role="Slave" failed="false"><node name="lxc2" id="2" cached="true"/></resource>
<resource id="db" role="Stopped" failed="false"/></clone></resources></pacemaker-result>"#;

    #[test]
    fn reads_old_role_names_as_new_ones() -> Result<()> {
        let view = ClusterView::parse(XML)?;
        assert_eq!(view.online, ["lxc1", "lxc2"]);
        assert_eq!(view.unclean, ["lxc3"]);
        assert_eq!(view.dc.as_deref(), Some("lxc2"));
        assert_eq!(view.with_role("db", "Promoted"), ["lxc1"]);
        assert_eq!(view.with_role("db-clone", "Unpromoted"), ["lxc2"]);
        Ok(())
    }
}
