//! What a monitor costs: the program `measure`, run in a node. Owns the layer with what the benchmark brings along.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use cluster_scenarios::figures::{Cost, MonitorCost};
use cluster_scenarios::{Agent, Site, stub};
use lab::{Error, Node, Result};

use crate::Options;

/// A layer with the measuring program and the stub, which stand beside this one: made once, because a lab may stand on it.
pub(crate) fn layer() -> Result<PathBuf> {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(layer) = MADE.get() {
        return Ok(layer.clone());
    }
    let io = |e: std::io::Error| Error::Refused(format!("the programs measure and stub: {e}; run this by `make bench`"));
    let programs = std::env::current_exe().map_err(io)?;
    let layer = place();
    for (program, path) in [("measure", "usr/local/bin/measure"), ("stub", stub::PLACE)] {
        let place = layer.join(path);
        std::fs::create_dir_all(place.parent().unwrap_or(&layer)).map_err(io)?;
        std::fs::copy(programs.with_file_name(program), place).map_err(io)?;
    }
    Ok(MADE.get_or_init(|| layer).clone())
}

fn place() -> PathBuf {
    std::env::temp_dir().join(format!("systole-bench-{}", std::process::id()))
}

/// Takes it away again, when no lab stands on it any more.
pub(crate) fn remove_layer() {
    let _ = std::fs::remove_dir_all(place());
}

/// What a steady monitor of the agent costs in both roles.
pub(crate) fn monitors(site: &Site, agent: Agent, name: &str, options: &Options) -> Result<MonitorCost> {
    let parameters = parameters(&site.snippet(agent)?, site.server().resource);
    // The first monitors after a start still publish scores; a steady one is what runs for years.
    std::thread::sleep(Duration::from_secs(15));
    let monitor = Call { resource: site.server().resource, agent: name, parameters: &parameters, action: "monitor" };
    let cost = |node: &Node, status| monitor.cost(node, options.monitors, status);
    Ok(MonitorCost { primary: cost(&site.primary()?, 8)?, replica: cost(&site.replicas()?[0], 0)? })
}

/// An action of an agent, as Pacemaker calls it.
pub(crate) struct Call<'a> {
    pub(crate) resource: &'a str,
    pub(crate) agent: &'a str,
    pub(crate) parameters: &'a [(String, String)],
    pub(crate) action: &'a str,
}

impl Call<'_> {
    /// What it costs, so many times on a node. The exit code must be `status`.
    pub(crate) fn cost(&self, node: &Node, runs: u32, status: i32) -> Result<Cost> {
        let Self { resource, agent, action, .. } = self;
        let path = agent.replacen("ocf:", "/usr/lib/ocf/resource.d/", 1).replace(':', "/");
        let parameters: String = self.parameters.iter().map(|(name, value)| format!("OCF_RESKEY_{name}='{value}' ")).collect();
        let line = format!(
            "env OCF_ROOT=/usr/lib/ocf OCF_RA_VERSION_MAJOR=1 OCF_RESOURCE_INSTANCE={resource} OCF_RESOURCE_TYPE={resource} \
             {parameters} OCF_RESKEY_crm_feature_set=3.16.2 OCF_RESKEY_CRM_meta_on_node={} \
             OCF_RESKEY_CRM_meta_interval=10000 OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_clone_max=3 \
             OCF_RESKEY_CRM_meta_notify=true OCF_RESKEY_CRM_meta_promotable=true OCF_RESKEY_CRM_meta_master_max=1 \
             measure {runs} {path} {action}",
            node.name
        );
        let cost = read(node, &line)?.pop().unwrap_or_default();
        if cost.status == status {
            return Ok(cost);
        }
        Err(Error::Refused(format!("{action} of {agent} on {} ended with {}, not with {status}", node.name, cost.status)))
    }
}

/// Runs shell with calls of `measure` in it; what each of them has printed.
pub(crate) fn read(node: &Node, shell: &str) -> Result<Vec<Cost>> {
    let output = node.sh(shell)?;
    let line = |line: &str| {
        serde_json::from_str(line).map_err(|e| Error::Refused(format!("measure on {}: {e}: {line} {}", node.name, output.stderr)))
    };
    output.stdout.lines().map(line).collect()
}

/// The parameters that a snippet gives a primitive.
fn parameters(snippet: &str, primitive: &str) -> Vec<(String, String)> {
    let text = snippet.replace("\\\n", " ");
    let line = text.lines().find(|l| l.starts_with(&format!("primitive {primitive} "))).unwrap_or_default();
    let (mut words, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    let given = words.into_iter().skip_while(|w| w != "params").take_while(|w| w != "op");
    given.filter_map(|w| w.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
}
