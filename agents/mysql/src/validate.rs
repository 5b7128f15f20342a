//! `validate-all`: what is wrong, with the line to write.

use std::os::unix::fs::PermissionsExt;

use ocf::{Context, Failure, Outcome};

use promotable::{is_placeholder, read_secret};

use crate::agent::MySql;
use crate::dialect::{Dialect, Row};
use crate::limits;
use crate::params::Params;
use crate::premises;

impl MySql {
    /// Level 0: what this node alone can tell. Level 10: the clone, and the running server's settings and grants.
    pub(crate) fn check_configuration(&self, context: &Context, level: u32) -> Outcome {
        self.check_node()?;
        self.refuse_exposure()?;
        if level < 10 {
            return Ok(());
        }
        if let Some(failure) = context.environment.without_notify(false) {
            return Err(failure);
        }
        if self.find_server(self.state_file.load().server()).is_none() {
            context.log.notice("the server does not run: its settings and grants were not checked");
            return Ok(());
        }
        let mut server = self.connect(None, limits::ANSWER)?;
        let seen = server.observe()?;
        let filters = server.filters()?;
        let found = premises::findings(server.dialect(), &seen, &filters, self.params.wanted(self.cluster.is_present()));
        let mut findings: Vec<String> = found.into_iter().map(|finding| finding.text).chain(self.exposed()).collect();
        findings.reverse();
        findings.extend(unreachable(&seen.variables, &self.params));
        let grants: Vec<String> = server.rows("SHOW GRANTS")?.into_iter().flat_map(std::collections::BTreeMap::into_values).collect();
        if let Some(missing) = missing_privileges(server.dialect(), &grants) {
            findings.push(format!(
                "the account {user} lacks {missing}: GRANT {missing} ON *.* TO {user}@localhost, as in mysql-accounts-*.sql",
                user = self.params.test_user
            ));
        }
        findings.extend(self.check_replication_password(server.dialect()).err().map(|failure| failure.reason));
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

    /// Whether the passwords are the operator's own. Apart from the checks below: a server that runs is not to be stopped for this.
    ///
    /// # Errors
    /// What is wrong, with the way out.
    pub(crate) fn refuse_exposure(&self) -> Outcome {
        self.exposed().map_or(Ok(()), |why| Err(Failure::installed(why)))
    }

    /// An account whose password everybody can read in the shipped files, with what to do. A password that cannot be read is none.
    pub(crate) fn exposed(&self) -> Option<String> {
        let agents = self.login().ok().and_then(|login| login.password);
        let passwords = [("test", agents), ("replication", self.replication_password().ok())];
        let (account, _) = passwords.into_iter().find(|(_, password)| password.as_ref().is_some_and(|p| is_placeholder(p.expose())))?;
        Some(format!(
            "the password of {account}_user is the placeholder of mysql-accounts-*.sql, which everybody knows: give the account another one \
             (`openssl rand -hex 16` makes one), and write that into {account}_passwd_file on every node"
        ))
    }

    /// What has to be there before a server can be started on this node.
    pub(crate) fn check_node(&self) -> Outcome {
        if let Some(contradiction) = &self.params.contradiction {
            return Err(contradiction.clone());
        }
        let program = self.params.program();
        #[allow(clippy::disallowed_methods, reason = "the program is root's")]
        let metadata = std::fs::metadata(&program)
            .map_err(|e| Failure::installed(format!("binary {}: {e}; install the server, or set binary", program.display())))?;
        if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
            return Err(Failure::permission(format!("binary {} is not an executable file", program.display())));
        }
        let account = self.account()?;
        if account.uid == 0 {
            return Err(Failure::installed(format!(
                "a server is not started as user {}, because whoever breaks into it would be root: set user to an account of its own",
                account.name
            )));
        }
        for (file, parameter) in
            [(&self.params.test_password_file, "test_passwd_file"), (&self.params.replication_password_file, "replication_passwd_file")]
        {
            if let Some(file) = file {
                read_secret(file, parameter)?;
            }
        }
        let config = self.config_path();
        let mode = self.files(|files| files.mode(&config)).map_err(|e| {
            Failure::installed(format!("config {}: {e}; write the server's option file there, or set config", config.display()))
        })?;
        if mode & 0o002 != 0 {
            let shown = config.display();
            return Err(Failure::permission(format!(
                "config {shown}: everybody can write it, so the server ignores it: chmod o-w {shown}"
            )));
        }
        let found = self
            .files(|files| files.is_directory(&self.params.datadir))
            .map_err(|e| not_its_data(&self.params.datadir, &e, &self.params.user))?;
        if !found && !self.params.enable_creation {
            return Err(Failure::installed(format!(
                "datadir {} does not exist: make a database there, or set enable_creation=yes",
                self.params.datadir.display()
            )));
        }
        Ok(())
    }
}

/// What the server's user is not let into.
pub(crate) fn not_its_data(datadir: &std::path::Path, why: &std::io::Error, user: &str) -> Failure {
    Failure::permission(format!("datadir {}: {why}; give it to user {user}", datadir.display()))
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

/// What keeps replicas from this server when it is the primary. Through tunnels it may be right.
fn unreachable(variables: &Row, params: &Params) -> Vec<String> {
    let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    let mut findings = Vec::new();
    let port = params.replication.port.to_string();
    if !value("port").is_empty() && value("port") != port {
        findings.push(format!(
            "the server listens on port {}, and replicas connect to {port}: make replication_port and port equal",
            value("port")
        ));
    }
    if matches!(value("bind_address"), "127.0.0.1" | "localhost" | "::1") {
        findings.push(format!(
            "the server listens on {} only, so no replica can attach: write `bind_address=*` into the option file",
            value("bind_address")
        ));
    }
    if matches!(value("require_secure_transport"), "1" | "ON") && !params.replication.tls {
        findings.push("the server takes TLS connections only, and replicas come without: set replication_require_ssl=yes".into());
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
