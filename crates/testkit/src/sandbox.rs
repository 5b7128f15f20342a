//! The tests write to /run, start servers and kill them: they belong into a container that is thrown away.

/// The agents, where `make install` puts them.
const AGENTS: &str = "/usr/lib/ocf/resource.d/systole";

/// The agent for Redis.
pub const AGENT: &str = "/usr/lib/ocf/resource.d/systole/redis";

/// Fails, with the command to use instead, outside such a container.
pub fn require() {
    let marked = std::env::var("SYSTOLE_SANDBOX").is_ok_and(|v| v == "1");
    assert!(
        marked && std::path::Path::new(AGENTS).exists(),
        "contract tests run real servers as root and only inside a sandbox with the agents installed: use `make contract`, \
         or see the head of a main.rs below tests/contract"
    );
}
