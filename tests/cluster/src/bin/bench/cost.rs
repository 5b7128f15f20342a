//! What a monitor costs: the program `measure`, run in a node.

use std::path::PathBuf;
use std::time::Duration;

use cluster_scenarios::{Agent, Site};
use lab::{Error, Node, Result};
use serde::{Deserialize, Serialize};

use crate::{MonitorCost, Options};

/// What `measure` prints.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    status: i32,
    pub(crate) wall_ms: Vec<f64>,
    pub(crate) cpu_ms: Vec<f64>,
    pub(crate) processes: Vec<u64>,
    pub(crate) max_resident_kb: u64,
}

/// A layer with the measuring program, which stands beside this one.
pub(crate) fn layer() -> Result<PathBuf> {
    let io = |e: std::io::Error| Error::Refused(format!("the measuring program: {e}; run this by `make bench`"));
    let program = std::env::current_exe().map_err(io)?.with_file_name("measure");
    let layer = std::env::temp_dir().join(format!("systole-bench-{}", std::process::id()));
    std::fs::create_dir_all(layer.join("usr/local/bin")).map_err(io)?;
    std::fs::copy(program, layer.join("usr/local/bin/measure")).map_err(io)?;
    Ok(layer)
}

/// What a steady monitor of the agent costs in both roles.
pub(crate) fn monitors(site: &Site, agent: Agent, name: &str, options: &Options) -> Result<MonitorCost> {
    let parameters = parameters(&site.snippet(agent)?, site.server().resource);
    // The first monitors after a start still publish scores; a steady one is what runs for years.
    std::thread::sleep(Duration::from_secs(15));
    let cost = |node: &Node, status| of(node, site.server().resource, name, &parameters, options.monitors, status);
    Ok(MonitorCost { primary: cost(&site.primary()?, 8)?, replica: cost(&site.replicas()?[0], 0)? })
}

/// Runs it with the environment that Pacemaker gives it. The exit code must be `status`.
fn of(node: &Node, resource: &str, agent: &str, parameters: &[(String, String)], runs: u32, status: i32) -> Result<Cost> {
    let path = agent.replacen("ocf:", "/usr/lib/ocf/resource.d/", 1).replace(':', "/");
    let parameters: String = parameters.iter().map(|(name, value)| format!("OCF_RESKEY_{name}='{value}' ")).collect();
    let line = format!(
        "env OCF_ROOT=/usr/lib/ocf OCF_RA_VERSION_MAJOR=1 OCF_RESOURCE_INSTANCE={resource} OCF_RESOURCE_TYPE={resource} \
         {parameters} OCF_RESKEY_crm_feature_set=3.16.2 OCF_RESKEY_CRM_meta_on_node={} \
         OCF_RESKEY_CRM_meta_interval=10000 OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_clone_max=3 \
         OCF_RESKEY_CRM_meta_notify=true OCF_RESKEY_CRM_meta_promotable=true OCF_RESKEY_CRM_meta_master_max=1 \
         measure {runs} {path} monitor",
        node.name
    );
    let output = node.sh(&line)?;
    let cost: Cost = serde_json::from_str(&output.stdout)
        .map_err(|e| Error::Refused(format!("measure on {}: {e}: {} {}", node.name, output.stdout, output.stderr)))?;
    if cost.status == status {
        return Ok(cost);
    }
    Err(Error::Refused(format!("the monitor of {agent} on {} ended with {}, not with {status}", node.name, cost.status)))
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
