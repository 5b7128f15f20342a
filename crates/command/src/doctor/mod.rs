//! `systole doctor`: all nodes are asked what they know of themselves (`facts`), over ssh and at once; what is wrong with that and with the
//! configuration is found without asking anybody (`findings`, `cluster`).

mod cluster;
pub mod configuration;
pub mod facts;
pub mod findings;
pub mod shown;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::arguments::Format;
use crate::cib::Cib;
use crate::notices::Level;
use crate::{ask, complain, ended, print, print_json, print_pretty, remote};
use configuration::{Configuration, Operation};
use facts::Facts;
use findings::{Clustered, Examined, Heard};

/// What all may take: the validation asks the servers, which takes longest. A node that is not there is given up after 2 s.
const LIMIT: Duration = Duration::from_secs(15);
/// Where Pacemaker finds the agents.
const AGENTS: &str = "/usr/lib/ocf/resource.d/systole";

/// Examines the nodes of the cluster; with names the machines of one to be, and without a cluster this one.
pub(crate) fn doctor(names: &[String], format: Format) -> ExitCode {
    let cluster = match seen(names.is_empty().then(clustered), process::own::is_file(Path::new(facts::KEPT_CIB))) {
        Ok(cluster) => cluster,
        Err(why) => {
            complain(&why);
            return ended(Level::Unknown);
        }
    };
    let nodes = match &cluster {
        Some(cluster) => cluster.cib.nodes.clone(),
        None if names.is_empty() => vec![this_host()],
        None => names.to_vec(),
    };
    let Ok(salt) = process::own::text(Path::new("/proc/sys/kernel/random/uuid")) else {
        complain("/proc/sys/kernel/random/uuid cannot be read, and passwords are compared by nothing else");
        return ended(Level::Unknown);
    };
    let names = nodes.iter().map(String::as_str);
    let argv: Vec<&str> = ["systole", "here", "facts", salt.trim()].into_iter().chain(names).collect();
    let answers = remote::ask_timed(&nodes, &argv, LIMIT);
    let examined = Examined { cluster, heard: answers.into_iter().map(|(node, answer)| (node, heard(&answer))).collect() };
    let findings = findings::of(&examined);
    match format {
        Format::Pretty => print_pretty(&shown::pretty(&examined, &findings)),
        Format::Tsv => print(&shown::tsv(&findings)),
        Format::Json => print_json(&shown::json(&examined, &findings)),
    }
    ended(examined.level(&findings))
}

fn heard(answer: &remote::Answer) -> Heard {
    let facts = answer.said.as_ref().map_err(Clone::clone).and_then(|text| {
        serde_json::from_str::<Facts>(text)
            .map_err(|e| format!("answers with something else than facts ({e}): is systole of another version there?"))
    });
    Heard { facts, begun: milliseconds(answer.begun), ended: milliseconds(answer.ended) }
}

fn milliseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or_default())
}

fn this_host() -> String {
    process::own::text(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default().trim().to_owned()
}

/// The cluster that is examined: the one that was asked, if one was. `member`: this node belongs to one.
///
/// # Errors
/// When there is one that could not be asked: its machines are not those of a cluster to be.
fn seen(asked: Option<Result<Clustered, String>>, member: bool) -> Result<Option<Clustered>, String> {
    match asked {
        None => Ok(None),
        Some(Ok(cluster)) => Ok(Some(cluster)),
        Some(Err(why)) if member => Err(format!(
            "this node belongs to a cluster, which cannot be asked: {why}; ask on another node, or look at this machine alone: systole doctor \
             --nodes {}; then start it: systemctl start corosync pacemaker",
            this_host()
        )),
        Some(Err(_)) => Ok(None),
    }
}

/// The cluster of this node.
fn clustered() -> Result<Clustered, String> {
    let text = ask::tool("cibadmin", &["--query"])?;
    let (cib, configuration) = (Cib::parse(&text)?, Configuration::parse(&text)?);
    let minimums: BTreeMap<_, _> =
        configuration.resources.iter().map(|resource| (resource.agent.clone(), minimums(&resource.agent))).collect();
    Ok(Clustered { cib, configuration, minimums })
}

/// What an agent asks for, in its own words.
fn minimums(agent: &str) -> Result<Vec<Operation>, String> {
    let program = PathBuf::from(AGENTS).join(agent);
    let done = process::run(&program.display().to_string(), &["meta-data"], ask::LIMIT).map_err(|e| e.to_string())?;
    configuration::asked_for(&done.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its machines were examined as those of a cluster to be, and the line to write stopped their servers.
    #[test]
    fn a_cluster_that_cannot_be_asked_is_not_taken_for_none() {
        let silent = || Some(Err("cibadmin failed (status 102)".to_owned()));
        let said = seen(silent(), true).unwrap_err();
        assert!(said.contains("belongs to a cluster, which cannot be asked: cibadmin failed (status 102)"), "{said}");
        assert!(matches!(seen(silent(), false), Ok(None)) && matches!(seen(None, true), Ok(None)));
        assert!(matches!(seen(Some(Ok(Clustered::default())), true), Ok(Some(_))));
    }
}
