//! What other programs make of the agent: ocf-tester, xmllint, the cluster shells.

use std::process::{Command, Output};

use testkit::mysql::{AGENT, Node};
use testkit::require;

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

/// Newer releases of resource-agents come without it.
fn has(program: &str) -> bool {
    Command::new("sh").args(["-c", "command -v \"$1\" >/dev/null", "sh", program]).status().unwrap().success()
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
fn ocf_tester_passes() {
    let node = Node::alone();
    assert!(has("ocf-tester"), "the image has no ocf-tester");
    let values: Vec<String> = [
        ("binary", node.server.binary().to_owned()),
        ("config", node.config().display().to_string()),
        ("datadir", node.data().display().to_string()),
        ("socket", node.socket().display().to_string()),
        ("pid", node.pid_file().display().to_string()),
        ("log", node.error_log().display().to_string()),
        ("replication_port", node.port.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| format!("{name}={value}"))
    .collect();
    let mut arguments = vec!["-n", "db"];
    for value in &values {
        arguments.extend(["-o", value]);
    }
    arguments.push(AGENT);
    let text = accepts("ocf-tester", &arguments);
    assert!(text.contains("passed all tests"), "{text}");
    assert!(node.servers().is_empty());
}

#[test]
fn the_metadata_is_valid_under_the_dtd() {
    let node = Node::alone();
    let path = node.directory.join("mysql.xml");
    std::fs::write(&path, node.agent().run("meta-data").ok().stdout.as_bytes()).unwrap();
    accepts("xmllint", &["--noout", "--valid", "--path", ".", &path.display().to_string()]);
}

#[test]
fn the_cluster_shells_show_the_parameters() {
    require();
    for (program, arguments) in [
        ("crm_resource", &["--show-metadata", "ocf:systole:mysql"][..]),
        ("crm", &["ra", "info", "ocf:systole:mysql"]),
        ("pcs", &["resource", "describe", "ocf:systole:mysql", "--full"]),
    ] {
        if !has(program) {
            continue;
        }
        let text = accepts(program, arguments);
        for word in ["replication_passwd_file", "durability", "max_slave_lag", "reader_attribute", "rejoin"] {
            assert!(text.contains(word), "{program} does not show {word}:\n{text}");
        }
    }
}
