//! `validate-all`: what is wrong, with the line to write.

use std::os::unix::fs::PermissionsExt;

use ocf::{Context, Failure, Outcome};

use promotable::read_secret;

use crate::agent::MySql;
use crate::dialect::{Dialect, Row};
use crate::gtid::Flavour;
use crate::observation::Observation;
use crate::params::Params;

impl MySql {
    /// Level 0: what this node alone can tell. Level 10: the clone, and the running server's settings and grants.
    pub(crate) fn check_configuration(&self, context: &Context, level: u32) -> Outcome {
        self.check_node()?;
        if level < 10 {
            return Ok(());
        }
        if let Some(failure) = context.environment.without_notify(false) {
            return Err(failure);
        }
        let mut state = self.state_file.load();
        if self.find_server(&mut state).is_none() {
            context.log.notice("the server does not run: its settings and grants were not checked");
            return Ok(());
        }
        let mut server = self.connect(None, Params::ANSWER_LIMIT)?;
        let seen = server.observe()?;
        let mut findings = findings(server.dialect(), &seen);
        let grants: Vec<String> = server.rows("SHOW GRANTS")?.into_iter().flat_map(std::collections::BTreeMap::into_values).collect();
        if let Some(missing) = missing_privileges(server.dialect(), &grants) {
            findings.push(format!(
                "the account {user} lacks {missing}: GRANT {missing} ON *.* TO {user}@localhost, as in mysql-accounts-*.sql",
                user = self.params.test_user
            ));
        }
        // The limit of CHANGE REPLICATION SOURCE; 5.6 cuts it off without a word.
        let too_long = self.replication_password().is_ok_and(|p| p.expose().chars().count() > 32);
        if server.dialect().flavour == Flavour::MySql && too_long {
            findings.push(
                "the password of replication_user is longer than the 32 characters that a replica can be told: choose a shorter one".into(),
            );
        }
        if let Some(advice) =
            connections(&server.rows("SELECT @@GLOBAL.max_connections AS all_of_them, @@GLOBAL.max_user_connections AS of_one")?)
        {
            context.log.warning(advice);
        }
        match findings.pop() {
            None => Ok(()),
            Some(last) => {
                findings.iter().for_each(|line| context.log.warning(line));
                Err(Failure::installed(last))
            }
        }
    }

    /// What has to be there before a server can be started on this node.
    pub(crate) fn check_node(&self) -> Outcome {
        if let Some(contradiction) = &self.params.contradiction {
            return Err(contradiction.clone());
        }
        let program = self.params.program();
        let metadata = std::fs::metadata(&program)
            .map_err(|e| Failure::installed(format!("binary {}: {e}; install the server, or set binary", program.display())))?;
        if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
            return Err(Failure::permission(format!("binary {} is not an executable file", program.display())));
        }
        self.account()?;
        for (file, parameter) in
            [(&self.params.test_password_file, "test_passwd_file"), (&self.params.replication_password_file, "replication_passwd_file")]
        {
            if let Some(file) = file {
                read_secret(file, parameter)?;
            }
        }
        if !self.params.datadir.is_dir() && !self.params.enable_creation {
            return Err(Failure::installed(format!(
                "datadir {} does not exist: make a database there, or set enable_creation=yes",
                self.params.datadir.display()
            )));
        }
        Ok(())
    }
}

/// The privileges that are not granted, by the text of the grants.
fn missing_privileges(dialect: &Dialect, grants: &[String]) -> Option<String> {
    let global: Vec<&str> = grants.iter().filter_map(|g| g.strip_prefix("GRANT ")?.split_once(" ON *.* ")).map(|(list, _)| list).collect();
    let granted: Vec<&str> = global.iter().flat_map(|list| list.split(',')).map(str::trim).collect();
    if granted.contains(&"ALL PRIVILEGES") {
        return None;
    }
    let missing: Vec<&str> =
        dialect.privileges().iter().filter(|any| !any.iter().any(|p| granted.contains(p))).filter_map(|any| any.first().copied()).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// Settings without which an acknowledged write can be lost, or a failover fails.
fn findings(dialect: &Dialect, seen: &Observation) -> Vec<String> {
    let value = |name: &str| seen.variables.get(name).map(String::as_str).unwrap_or_default();
    let on = |name: &str| matches!(value(name), "1" | "ON");
    let mut findings = Vec::new();
    let mut wants = |fine: bool, line: &str, why: &str| {
        if !fine {
            findings.push(format!("{why}: write `{line}` into the option file"));
        }
    };
    wants(on("log_bin"), "log_bin=binlog", "the server writes no binary log, so that nobody can follow it");
    wants(value("sync_binlog") == "1", "sync_binlog=1", "a power cut loses committed transactions from the binary log");
    wants(
        value("innodb_flush_log_at_trx_commit") == "1",
        "innodb_flush_log_at_trx_commit=1",
        "a power cut loses committed transactions from the tables",
    );
    wants(value("server_id") != "0" && !value("server_id").is_empty(), "server_id=N, another number on each node", "the server has no id");
    wants(value("binlog_format") != "STATEMENT", "binlog_format=ROW", "statements can have another effect on a replica");
    let (updates, line) = if seen.variables.contains_key("log_replica_updates") {
        ("log_replica_updates", "log_replica_updates=ON")
    } else {
        ("log_slave_updates", "log_slave_updates=ON")
    };
    wants(on(updates), line, "a replica does not log what it applies, so that nobody could follow it after a promotion");
    match dialect.flavour {
        Flavour::MySql => {
            wants(value("gtid_mode") == "ON", "gtid_mode=ON", "transactions have no GTIDs");
            wants(on("enforce_gtid_consistency"), "enforce_gtid_consistency=ON", "statements are possible that GTIDs cannot name");
        }
        Flavour::MariaDb => {
            wants(on("gtid_strict_mode"), "gtid_strict_mode=ON", "transactions that went different ways can get the same number");
            wants(
                value("server_id") != "1",
                "server_id=N, another number on each node",
                "the server has the id that every server has by default",
            );
        }
    }
    findings
}

/// What is to be said of how many connections an account may have.
fn connections(rows: &[Row]) -> Option<String> {
    let value = |name: &str| rows.first()?.get(name)?.parse::<u32>().ok();
    let (all, one) = (value("all_of_them")?, value("of_one")?);
    let few = all.saturating_sub(all.div_ceil(10).max(10)).max(1);
    (one == 0 || one >= all).then(|| {
        format!(
            "an account of clients can take all connections, and none is left for the replica that their commits wait for: write `max_user_connections={few}` into the option file (max_connections is {all})"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_granted_is_named() {
        let dialect = Dialect::unknown();
        let grants = |text: &str| missing_privileges(&dialect, &[text.to_owned()]);
        assert_eq!(grants("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"), None);
        assert_eq!(
            grants("GRANT RELOAD, PROCESS, SUPER, REPLICATION CLIENT ON *.* TO `systole`@`localhost`").as_deref(),
            Some("REPLICATION SLAVE")
        );
        assert!(grants("GRANT ALL PRIVILEGES ON `load`.* TO `x`@`%`").is_some_and(|missing| missing.contains("SUPER")));
    }

    #[test]
    fn who_can_take_all_connections_is_told() {
        let said = |all: &str, one: &str| {
            connections(&[Row::from([("all_of_them".to_owned(), all.to_owned()), ("of_one".to_owned(), one.to_owned())])])
        };
        assert_eq!(said("300", "250"), None);
        assert!(said("151", "0").is_some_and(|text| text.contains("`max_user_connections=135`")));
        assert!(said("300", "300").is_some_and(|text| text.contains("`max_user_connections=270`")));
    }
}
