//! What other programs make of the agent: ocf-tester, xmllint, the cluster shells.

use testkit::mysql::{AGENT, Node};

use crate::shared::tester::{accepts, has};

/// What an operator looks for.
const PARAMETERS: &[&str] = &["replication_passwd_file", "durability", "max_slave_lag", "reader_attribute", "rejoin"];

promised!(tester(): the_order_of_ocf_tester, the_metadata_is_valid_under_the_dtd);
// Not every image has all shells.
promised!(tester(PARAMETERS, false): the_cluster_shells_show_the_parameters);

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
