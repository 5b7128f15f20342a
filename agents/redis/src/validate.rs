//! `validate-all`: what is wrong, with the line to write.

use std::os::unix::fs::PermissionsExt;

use ocf::{Context, Failure, Outcome};

use promotable::read_secret;

use crate::agent::Redis;
use crate::exposure::is_loopback;
use crate::params::Durability;

/// What the agent says to its server and to nobody else.
const NEEDED: [&str; 7] = ["config", "info", "replicaof", "client", "auth", "psync", "replconf"];

/// Below this a partial resynchronisation fails under any load: the default of 1 MB is a fraction of a second.
const BACKLOG_WORTH_HAVING: u64 = 16 * 1024 * 1024;

impl Redis {
    /// Level 0: what this node alone can tell. Level 10: the clone, and settings that make a failover slow or lossy.
    pub(crate) fn check_configuration(&self, context: &Context, level: u32) -> Outcome {
        self.check_node(context)?;
        self.refuse_exposure()?;
        let mut advice = self.advice(context);
        if level < 10 {
            return Ok(());
        }
        if let Some(failure) = context.environment.without_notify(false) {
            return Err(failure);
        }
        match advice.pop() {
            None => Ok(()),
            Some(last) => {
                advice.iter().for_each(|line| context.log.warning(line));
                Err(Failure::installed(last))
            }
        }
    }

    /// What has to be there before a server can be started on this node.
    pub(crate) fn check_node(&self, context: &Context) -> Outcome {
        if let Some(contradiction) = &self.params.contradiction {
            return Err(contradiction.clone());
        }
        let bin = &self.params.bin;
        #[allow(clippy::disallowed_methods, reason = "the program is root's")]
        let metadata = std::fs::metadata(bin).map_err(|e| {
            Failure::installed(format!(
                "bin {}: {e}; install redis-server, or set bin (for Valkey: bin=/usr/bin/valkey-server)",
                bin.display()
            ))
        })?;
        if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
            return Err(Failure::permission(format!("bin {} is not an executable file", bin.display())));
        }
        let account = self.account()?;
        if account.uid == 0 {
            return Err(Failure::installed(format!(
                "a server is not started as user {}, because whoever breaks into it would be root: set user to an account of its own",
                account.name
            )));
        }
        let conf = self.conf()?;
        if let Some(file) = &self.params.password_file {
            read_secret(file, "password_file")?;
        }
        if let Some(file) = &self.params.masterauth_file {
            read_secret(file, "masterauth_file")?;
        }
        conf.check_passwords()?;
        if let Some(name) = conf.renamed_commands().find(|name| NEEDED.contains(&name.as_str())) {
            return Err(Failure::installed(format!(
                "rename-command takes {} from the agent, which needs it: remove the line, and keep others from it with an ACL",
                name.to_ascii_uppercase()
            )));
        }
        let directory = conf.data_directory();
        if !directory.is_absolute() {
            return Err(Failure::installed(
                "the configuration names no data directory (dir) from the root on, so the data would be gone with the next boot: \
                 write `dir /var/lib/redis`",
            ));
        }
        let found = self.files(|files| files.is_directory(&directory)).map_err(|e| not_its_data(&directory, &e, &self.params.user))?;
        if !found {
            return Err(Failure::installed(format!(
                "data directory {} (dir in the configuration) does not exist: create it for user {}",
                directory.display(),
                self.params.user
            )));
        }
        let tls = conf.last("tls-replication").is_some_and(|v| v.eq_ignore_ascii_case("yes"));
        let listens = conf.last(if tls { "tls-port" } else { "port" }).unwrap_or("6379");
        if self.params.tunnels.is_empty() && listens != self.params.port.to_string() {
            let name = if tls { "tls-port" } else { "port" };
            // This node's file, not the parameter: elsewhere it may be right.
            return Err(Failure::installed(format!(
                "the server listens on {name} {listens}, but the parameter port is {}: make them equal",
                self.params.port
            )));
        }
        if context.environment.clone_max().is_some_and(|n| n < 3) && self.params.durability == Durability::Quorum {
            context.log.notice("durability=quorum with two servers: the loss of either stops writes");
        }
        Ok(())
    }

    /// Whether nobody is let in who should not be. Apart from the checks before: a server that runs is not to be stopped for this.
    ///
    /// # Errors
    /// What is wrong in this node's file, with the lines to write.
    pub(crate) fn refuse_exposure(&self) -> Outcome {
        self.exposed().map_or(Ok(()), |why| Err(Failure::installed(why)))
    }

    /// Settings that a failover suffers from.
    fn advice(&self, context: &Context) -> Vec<String> {
        let Ok(conf) = self.conf() else { return vec![] };
        let mut advice = Vec::new();
        let several = context.environment.clone_max().is_none_or(|n| n > 1) && self.params.tunnels.is_empty();
        if several && conf.last_all("bind").is_some_and(|addresses| addresses.iter().all(|address| is_loopback(address))) {
            advice.push("the configuration binds loopback addresses only, so that no replica can attach: write `bind * -::*`".into());
        }
        let protected = conf.last("protected-mode").is_none_or(|v| v.eq_ignore_ascii_case("yes"));
        if several && protected && conf.requirepass().is_none() && conf.last("user").is_none() && conf.last("aclfile").is_none() {
            advice.push(
                "protected-mode without a password lets no replica attach: write `requirepass` and `masterauth`, the same on every node"
                    .into(),
            );
        }
        if conf.last("repl-backlog-size").and_then(bytes).unwrap_or(1024 * 1024) < BACKLOG_WORTH_HAVING {
            advice.push("repl-backlog-size is too small for a partial resynchronisation under load: write `repl-backlog-size 64mb`".into());
        }
        if conf.last("repl-diskless-sync-delay").and_then(|v| v.parse::<u32>().ok()).unwrap_or(5) > 2 {
            advice.push("repl-diskless-sync-delay makes every first copy wait: write `repl-diskless-sync-delay 1`".into());
        }
        advice
    }
}

/// What the server's user is not let into.
pub(crate) fn not_its_data(directory: &std::path::Path, why: &dyn std::fmt::Display, user: &str) -> Failure {
    Failure::permission(format!("data directory {}: {why}; give it to user {user}", directory.display()))
}

/// A size as the server writes it: 64mb, 1gb, 1024.
fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1024,
        "m" => 1_000_000,
        "mb" => 1024 * 1024,
        "g" => 1_000_000_000,
        "gb" => 1024 * 1024 * 1024,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_the_servers_units() {
        assert_eq!(
            [bytes("64mb"), bytes("1GB"), bytes("7"), bytes("1k"), bytes("x"), bytes("1tb")],
            [Some(67_108_864), Some(1_073_741_824), Some(7), Some(1000), None, None]
        );
    }
}
