//! What other programs make of the agent: ocf-tester, xmllint, the cluster shells.

use std::process::Command;

use testkit::{AGENT, Node};

use crate::shared::tester::{accepts, metadata_file, output};

promised!(tester(): the_order_of_ocf_tester, the_metadata_is_valid_under_the_dtd);
promised!(tester(&["tunnel_port_map", "durability", "password_file", "wait_last_known_master"], true): the_cluster_shells_show_the_parameters);

#[test]
fn ocf_tester_passes_with_and_without_values_and_with_a_trace() {
    let node = Node::alone();
    let (config, rundir, port) = (
        format!("config={}", node.config().display()),
        format!("rundir={}", node.directory.join("run").display()),
        format!("port={}", node.port),
    );
    accepts("ocf-tester", &["-n", "redis-plain", AGENT]);
    let values = ["-n", "redis-values", "-o", &config, "-o", &rundir, "-o", &port, AGENT];
    accepts("ocf-tester", &values);
    let trace = Command::new("ocf-tester").args(values).env("OCF_TRACE_RA", "1").env("HA_VARLIB", &node.directory).output().unwrap();
    assert!(trace.status.success(), "ocf-tester with OCF_TRACE_RA: {}", String::from_utf8_lossy(&trace.stdout));
    let traces = std::fs::read_dir(node.directory.join("trace_ra/redis")).map_or(0, Iterator::count);
    assert!(traces > 20, "every action leaves a trace, but {traces} did");
}

/// The RELAX NG schema of resource-agents 4.12 (Debian 12) knows OCF 1.0 only.
#[test]
fn what_the_relax_ng_schema_rejects_is_ocf_1_1_and_nothing_else() {
    let node = Node::alone();
    let file = metadata_file(&node);
    let said = output("xmllint", &["--noout", "--relaxng", "metadata.rng", &file]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    let known = ["Invalid attribute reloadable", "Invalid attribute unique-group"];
    let complaints: Vec<&str> = text.lines().filter(|l| l.contains("validity error") && !known.iter().any(|k| l.contains(k))).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
