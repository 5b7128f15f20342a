//! `validate-all`, and settings without which the clone cannot work.

use testkit::{Group, Node};

promised!(validate(): validate_at_level_0_looks_at_this_node_only, validate_at_level_10_demands_notify);
promised!(validate(): a_clone_without_notify_does_not_start, a_start_without_fencing_tells_what_that_means);

#[test]
fn validate_at_level_10_passes_with_a_good_configuration_and_names_the_line_of_a_bad_one() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    let agent = node.agent().variable("OCF_CHECK_LEVEL", "10");
    agent.run("validate-all").ok();
    node.configure("repl-backlog-size 1mb");
    agent.run("validate-all").refused(5, &["repl-backlog-size 64mb"]);
}

#[test]
fn what_is_missing_on_this_node_bans_the_node_and_not_the_cluster() {
    let node = Node::alone();
    for (name, value, words) in [
        ("bin", "/no/such/server", &["/no/such/server", "install"][..]),
        ("bin", "/no/such/valkey-server", &["bin"]),
        ("config", "/no/such/redis.conf", &["/no/such/redis.conf", "create it"]),
        ("user", "nosuchuser", &["nosuchuser", "create it"]),
        ("password_file", "/no/such/secret", &["/no/such/secret", "mode 600"]),
        ("masterauth_file", "/no/such/secret", &["/no/such/secret", "mode 600"]),
    ] {
        for action in ["validate-all", "start"] {
            node.agent().parameter(name, value).run(action).refused(5, words);
        }
    }
    node.agent().parameter("bin", "/etc/passwd").run("start").refused(4, &["/etc/passwd", "not an executable"]);
}

#[test]
fn a_port_other_than_the_servers_is_wrong_on_this_node() {
    let node = Node::alone();
    node.agent().parameter("port", "1234").run("start").refused(5, &["1234", &node.port.to_string(), "equal"]);
}
