//! What other programs make of the agent: ocf-tester, xmllint, the cluster shells.

use std::process::{Command, Output};

use testkit::{Kind, NodeOf, require};

/// Runs a program in the directory of the DTD and fails with what it said.
#[track_caller]
pub(crate) fn accepts(program: &str, arguments: &[&str]) -> String {
    let output = output(program, arguments);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?} ended with {}:\n{text}", output.status);
    text
}

pub(crate) fn output(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).current_dir("/usr/share/resource-agents").output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Newer releases of resource-agents come without it.
pub(crate) fn has(program: &str) -> bool {
    Command::new("sh").args(["-c", "command -v \"$1\" >/dev/null", "sh", program]).status().unwrap().success()
}

/// The meta-data in a file.
pub(crate) fn metadata_file<K: Kind>(node: &NodeOf<K>) -> String {
    let path = node.directory.join("agent.xml");
    std::fs::write(&path, node.agent().run("meta-data").ok().stdout.as_bytes()).unwrap();
    path.display().to_string()
}

pub(crate) fn the_metadata_is_valid_under_the_dtd<K: Kind>() {
    let node = NodeOf::<K>::alone();
    accepts("xmllint", &["--noout", "--valid", "--path", ".", &metadata_file(&node)]);
}

pub(crate) fn the_order_of_ocf_tester<K: Kind>() {
    let node = NodeOf::<K>::alone();
    let agent = node.agent().without("OCF_RESKEY_CRM_meta_timeout");
    for (action, statuses) in [
        ("validate-all", &[0][..]),
        ("monitor", &[7]),
        ("start", &[0]),
        ("monitor", &[0, 190]),
        ("notify", &[0]),
        ("demote", &[0]),
        ("promote", &[0]),
        ("demote", &[0]),
        ("demote", &[0]),
        ("promote", &[0]),
        ("promote", &[0]),
        ("demote", &[0]),
        ("stop", &[0]),
        ("monitor", &[7]),
        ("start", &[0]),
        ("monitor", &[0]),
        ("start", &[0]),
        ("monitor", &[0]),
        ("stop", &[0]),
        ("monitor", &[7]),
        ("stop", &[0]),
        ("migrate_to", &[3]),
        ("migrate_from", &[3]),
        ("reload", &[3]),
    ] {
        agent.run(action).expect(statuses);
    }
    assert!(node.servers().is_empty(), "after the last stop nothing runs");
}

/// In every shell that there is, or in all of them.
pub(crate) fn the_cluster_shells_show_the_parameters<K: Kind>(parameters: &[&str], all: bool) {
    require();
    let agent = format!("ocf:systole:{}", K::AGENT.rsplit('/').next().unwrap_or_default());
    for (program, arguments) in [
        ("crm_resource", &["--show-metadata", agent.as_str()][..]),
        ("crm", &["ra", "info", agent.as_str()]),
        ("pcs", &["resource", "describe", agent.as_str(), "--full"]),
    ] {
        if !all && !has(program) {
            continue;
        }
        let text = accepts(program, arguments);
        for word in parameters {
            assert!(text.contains(word), "{program} does not show {word}:\n{text}");
        }
    }
}
