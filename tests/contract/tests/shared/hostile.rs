//! Parameter values that nobody should give: nothing is executed, nothing is forged, the reason names the parameter.

use testkit::{Kind, NodeOf};

const HOSTILE: [&str; 9] = [
    "a\nb",
    "a\rocf-exit-reason:all is well",
    "$(touch /tmp/contract/executed)",
    "`touch /tmp/contract/executed`",
    "; touch /tmp/contract/executed",
    "' || touch /tmp/contract/executed #",
    "\"",
    "%s%n%x",
    "\u{1b}[2J",
];

#[track_caller]
pub(crate) fn expect_one_clean_reason(stderr: &str, what: &str) {
    let reasons = stderr.lines().filter(|l| l.starts_with("ocf-exit-reason:")).count();
    assert!(reasons <= 1, "{what}: forged reasons:\n{stderr}");
    assert!(!stderr.contains('\u{1b}') && !stderr.contains('\r'), "{what}: control characters reach the terminal: {stderr:?}");
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
}

/// `option` is one that the server would take on its command line.
pub(crate) fn hostile_values_are_refused_or_taken_literally_and_never_executed<K: Kind>(
    node: &NodeOf<K>,
    parameters: &[impl AsRef<str>],
    option: &str,
) {
    for name in parameters.iter().map(AsRef::as_ref) {
        for value in HOSTILE.into_iter().chain([option]) {
            let what = format!("{name}={value:?}");
            let agent = node.agent().parameter(name, value);
            let validated = agent.run("validate-all");
            assert!((0..=6).contains(&validated.status), "{what}: validate-all ended with {}: {}", validated.status, validated.stderr);
            expect_one_clean_reason(&validated.stderr, &what);
            let probed = agent.clone().probing().run("monitor");
            assert!([5, 7].contains(&probed.status), "{what}: a probe ended with {}: {}", probed.status, probed.stderr);
            let stopped = agent.run("stop");
            assert_eq!(stopped.status, 0, "{what}: stop failed, which gets the node fenced: {}", stopped.stderr);
        }
    }
    assert!(!std::path::Path::new("/tmp/contract/executed").exists(), "a parameter's value was executed");
    assert!(node.servers().is_empty());
}

pub(crate) fn very_long_values<K: Kind>(node: &NodeOf<K>, parameters: &[impl AsRef<str>]) {
    let long = format!("/{}", "x".repeat(100_000));
    for name in parameters.iter().map(AsRef::as_ref) {
        let agent = node.agent().parameter(name, &long);
        let answer = agent.run("validate-all");
        assert!((0..=6).contains(&answer.status), "{name}: {}", answer.status);
        agent.clone().probing().run("monitor").expect(&[5, 7]);
        agent.run("stop").ok();
    }
}
