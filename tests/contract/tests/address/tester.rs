//! What other programs make of the agent.

use std::process::Command;

use crate::{AGENT, Net, VIP};

#[test]
fn ocf_tester_is_content() {
    let net = Net::new("tester");
    let (ip, namespace) = (format!("ip={VIP}"), format!("network_namespace={}", net.namespace("a")));
    let output = Command::new("ocf-tester").args(["-n", "tester", "-o", &ip, "-o", &namespace, AGENT]).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("passed all tests"), "{text}");
}
