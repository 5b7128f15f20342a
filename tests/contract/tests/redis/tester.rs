//! What other programs make of the agent: ocf-tester, xmllint, the cluster shells.

use std::process::{Command, Output};

use testkit::{AGENT, Node, require};

/// Runs a program in the directory of the DTD and fails with what it said.
#[track_caller]
fn accepts(program: &str, arguments: &[&str]) -> String {
    let output = output(program, arguments);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?} ended with {}:\n{text}", output.status);
    text
}

fn output(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).current_dir("/usr/share/resource-agents").output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// The meta-data in a file.
fn metadata_file(node: &Node) -> String {
    let path = node.directory.join("redis.xml");
    std::fs::write(&path, node.agent().run("meta-data").ok().stdout.as_bytes()).unwrap();
    path.display().to_string()
}

#[test]
fn the_order_of_ocf_tester() {
    let node = Node::alone();
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

#[test]
fn the_metadata_is_valid_under_the_dtd() {
    let node = Node::alone();
    accepts("xmllint", &["--noout", "--valid", "--path", ".", &metadata_file(&node)]);
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

#[test]
fn the_cluster_shells_show_the_parameters() {
    require();
    for (program, arguments) in [
        ("crm_resource", &["--show-metadata", "ocf:systole:redis"][..]),
        ("crm", &["ra", "info", "ocf:systole:redis"]),
        ("pcs", &["resource", "describe", "ocf:systole:redis", "--full"]),
    ] {
        let text = accepts(program, arguments);
        for word in ["tunnel_port_map", "durability", "password_file", "wait_last_known_master"] {
            assert!(text.contains(word), "{program} does not show {word}:\n{text}");
        }
    }
}
