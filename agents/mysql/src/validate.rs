//! `validate-all`: what is wrong, with the line to write.

use std::os::unix::fs::PermissionsExt;

use ocf::{Context, Failure, Outcome};

use promotable::{is_placeholder, read_secret};

use crate::agent::MySql;
use crate::dialect::{Row, quoted};
use crate::limits;
use crate::params::Params;
use crate::premises;
use crate::rewind::{self, Refusal};
use crate::server::Server;

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
        if self.params.rejoin.takes_back() {
            findings.extend(self.check_rewind(context, &mut server)?);
        }
        let granted = server.granted()?;
        if self.params.rejoin.takes_back() {
            findings.extend(granted.missing_to_take_back(server.dialect(), &self.params.test_user));
        }
        if let Some(missing) = granted.missing(server.dialect()) {
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

    /// Whether transactions can be taken back on this server. Returns what makes that impossible, whatever is written. What makes it so for
    /// some tables is only told: the others' transactions can be.
    fn check_rewind(&self, context: &Context, server: &mut Server) -> Result<Vec<String>, Failure> {
        if !self.params.lossless {
            context.log.warning(
                "nothing is taken back with durability=async-allowed, because clients were told of it: set durability=lossless, or rejoin=clone",
            );
        }
        if self.params.replication.tls {
            context.log.warning(
                "with replication_require_ssl=yes nothing is taken back, because the rows could not be compared with the primary's: set rejoin=clone",
            );
        }
        let findings = rewind_settings(&server.rows(&rewind_settings_asked())?);
        let schemas = format!("{SCHEMAS_OF_SERVERS},{}", quoted(rewind::SCHEMA));
        for (sql, refusal) in REWIND_TABLES {
            // Where there are many tables that takes its time, and the rest of the answer does not depend on it.
            match server.rows(&sql.replace("SCHEMAS", &schemas)) {
                Ok(rows) => told(rows.iter().map(refusal)).into_iter().for_each(|line| context.log.warning(line)),
                Err(fault) => {
                    context.log.warning(format!("which tables a rewind can do without cannot be seen: {}", Failure::from(fault).reason))
                }
            }
        }
        Ok(findings)
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

/// What a server has to be set to, so that the end of its log can be taken back. One that it does not have is no obstacle.
const REWIND_SETTINGS: [(&str, &str); 5] = [
    ("binlog_format", "ROW"),
    ("binlog_row_image", "FULL"),
    ("binlog_row_value_options", ""),
    // MariaDB's and MySQL's name of the same.
    ("encrypt_binlog", "OFF"),
    ("binlog_encryption", "OFF"),
];

fn rewind_settings_asked() -> String {
    let names = REWIND_SETTINGS.iter().chain(&rewind::SETTINGS).map(|(name, _)| quoted(name));
    format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", names.collect::<Vec<_>>().join(","))
}

/// Which settings make a rewind impossible.
fn rewind_settings(rows: &[Row]) -> Vec<String> {
    let value = |row: &Row, name: &str| row.get(name).cloned().unwrap_or_default();
    let wrong = |row: &Row| {
        let (name, is) = (value(row, "variable_name"), value(row, "value"));
        let (_, should) = REWIND_SETTINGS.iter().chain(&rewind::SETTINGS).find(|(known, _)| *known == name)?;
        let refusal = Refusal::Setting(name, is.clone(), (*should).to_owned());
        (!is.eq_ignore_ascii_case(should)).then(|| format!("{refusal}; otherwise nothing is taken back from a server that has diverged"))
    };
    rows.iter().filter_map(wrong).collect()
}

/// Those of the server itself: nobody writes rows there.
const SCHEMAS_OF_SERVERS: &str = "'information_schema','mysql','performance_schema','sys'";

/// Why a table keeps a transaction that touches it from being taken back, and the question for such tables.
type OfTables = (&'static str, fn(&Row) -> Refusal);

const REWIND_TABLES: [OfTables; 3] = [
    (
        "SELECT table_schema AS s, table_name AS t, table_type AS k, COALESCE(engine, '') AS e FROM information_schema.tables WHERE table_schema \
         NOT IN (SCHEMAS) AND table_type NOT LIKE '%VIEW' AND (table_type<>'BASE TABLE' OR COALESCE(engine, '')<>'InnoDB') ORDER BY 1, 2",
        |row| match of_row(row, "k").as_str() {
            "BASE TABLE" => Refusal::Engine(table_of_row(row), of_row(row, "e")),
            kind => Refusal::Kind(table_of_row(row), kind.to_lowercase()),
        },
    ),
    (
        "SELECT unique_constraint_schema AS s, referenced_table_name AS t, constraint_schema AS os, table_name AS ot FROM \
         information_schema.referential_constraints WHERE constraint_schema NOT IN (SCHEMAS) AND (delete_rule NOT IN ('RESTRICT','NO ACTION') OR \
         update_rule NOT IN ('RESTRICT','NO ACTION')) ORDER BY 1, 2, 3, 4",
        |row| Refusal::Cascades(table_of_row(row), format!("{}.{}", of_row(row, "os"), of_row(row, "ot"))),
    ),
    (
        "SELECT s, t FROM (SELECT table_schema AS s, table_name AS t, index_name AS i, MAX(nullable='YES' OR column_name IS NULL) AS unfit FROM \
         information_schema.statistics WHERE non_unique=0 AND table_schema NOT IN (SCHEMAS) GROUP BY 1, 2, 3) AS keys_of_tables GROUP BY s, t \
         HAVING MIN(unfit)=1 ORDER BY s, t",
        |row| Refusal::NoKey(table_of_row(row)),
    ),
];

fn of_row(row: &Row, column: &str) -> String {
    row.get(column).cloned().unwrap_or_default()
}

fn table_of_row(row: &Row) -> String {
    format!("{}.{}", of_row(row, "s"), of_row(row, "t"))
}

/// How many tables are named for each reason.
const NAMED: usize = 5;

/// The lines about tables that a rewind cannot do.
fn told(refusals: impl ExactSizeIterator<Item = Refusal>) -> Vec<String> {
    let more = refusals.len().saturating_sub(NAMED);
    let named = refusals.take(NAMED).map(|refusal| format!("{refusal}; a transaction that changes its rows is not taken back"));
    named.chain((more > 0).then(|| format!("the same is so of {more} more tables"))).collect()
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
    fn a_setting_that_makes_a_rewind_impossible_is_named() {
        let row = |name: &str, is: &str| Row::from([("variable_name".to_owned(), name.to_owned()), ("value".to_owned(), is.to_owned())]);
        let right = ["binlog_format=ROW", "binlog_row_image=full", "slave_run_triggers_for_rbr=NO", "binlog_row_value_options="];
        let rows = |all: &[&str]| all.iter().filter_map(|one| one.split_once('=')).map(|(name, is)| row(name, is)).collect::<Vec<_>>();
        assert_eq!(rewind_settings(&rows(&right)), Vec::<String>::new());
        let wrong = ["binlog_format=MIXED", "binlog_row_image=MINIMAL", "encrypt_binlog=ON", "slave_exec_mode=IDEMPOTENT"];
        let said = rewind_settings(&rows(&wrong));
        let begin = [
            "binlog_format is MIXED: set it to ROW; ",
            "binlog_row_image is MINIMAL: set it to FULL; ",
            "encrypt_binlog is ON: set it to OFF; ",
        ];
        assert!(said.len() == 4 && begin.iter().zip(&said).all(|(begin, line)| line.starts_with(begin)), "{said:?}");
    }

    #[test]
    fn some_tables_are_named_and_the_others_counted() {
        let refusals: Vec<Refusal> = (0..7).map(|n| Refusal::NoKey(format!("shop.t{n}"))).collect();
        let said = told(refusals.into_iter());
        assert_eq!(said.len(), 6);
        assert!(said[0].starts_with("shop.t0 has no key that tells its rows apart"), "{said:?}");
        assert_eq!(said[5], "the same is so of 2 more tables");
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
