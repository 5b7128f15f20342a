//! What other programs make of the agent.

use std::process::Command;

use crate::{AGENT, Site};

#[test]
fn ocf_tester_is_content() {
    let site = Site::with("tester", "0 4 * * * wpsite true\n");
    let output =
        Command::new("ocf-tester").args(["-n", "tester", "-o", &format!("source={}", site.source.display()), AGENT]).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("passed all tests"), "{text}");
}
