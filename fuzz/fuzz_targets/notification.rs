//! Notification lists: the text is split at newlines into the values of the variables that make a notification.
#![no_main]

use ocf::{Environment, Notification, Peers};

const VARIABLES: [&str; 16] = [
    "type", "operation", "promote_resource", "promote_uname", "promoted_resource", "promoted_uname", "master_resource", "master_uname",
    "unpromoted_resource", "unpromoted_uname", "slave_resource", "slave_uname", "start_resource", "start_uname", "stop_resource",
    "stop_uname",
];

libfuzzer_sys::fuzz_target!(|text: &str| {
    let variables = VARIABLES.iter().map(|name| format!("OCF_RESKEY_CRM_meta_notify_{name}"));
    let environment = Environment::from_pairs(variables.zip(text.split('\n').map(str::to_owned)));
    let peers = Peers::read(&environment);
    let running = peers.running_nodes();
    assert!(running.iter().all(|node| !node.is_empty()), "a node without a name: {running:?}");
    let _ = peers.candidate();
    let _ = Notification::read(&environment);
});
