//! Draining at this node's ProxySQL, through its admin interface: SQLite behind the protocol of MySQL.
//!
//! What is drained is the old primary in the group of the writer: OFFLINE_SOFT keeps the connections of transactions that are open and gives
//! out no other one. ProxySQL itself undoes it when it has seen the demotion: it takes the server out of that group, and a server that
//! comes into a group again is ONLINE. So this undoes it only where the server stays.
//!
//! ProxySQL has no statement for one server. What it runs by is loaded as a whole from a table, `mysql_servers`, in which an operator may
//! have changes that are not meant to be loaded yet. So that table is filled with what ProxySQL runs by, changed and loaded, and then it
//! gets back what it had.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ocf::{Failure, Kind, Parameter, Secret, Values};
use process::Account;
use promotable::{Drain, Proxy, ProxyFault, Seen, read_private};
use serde::{Deserialize, Serialize};

use crate::dialect::Row;
use crate::server::{Fault, Server};

/// The parameter.
pub(crate) const PROXYSQL_DRAIN: Parameter =
    Parameter::new("proxysql_drain", Kind::Text, "ProxySQL of each node that is told of a planned move").reloadable().about(
        "FILE HOSTGROUP: the option file for the admin interface of each node's ProxySQL (host, port, user and password under [client]), and the \
         hostgroup of the writer, in which the servers have the names of the nodes. With the files of crm-snippets that is /root/proxysql.cnf 10. \
         Before a planned move the agent on every node sets the old primary to OFFLINE_SOFT there, so that no statement is sent to it any more, \
         and waits until the transactions that are open have ended, 0.3 s at most. ProxySQL undoes that when it sees the demotion; a third word \
         is the number of seconds after which the agent does so in any case (15). Empty: ProxySQL is told nothing.",
    );

/// The ProxySQL of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProxySql {
    /// Who may log in, and where.
    file: PathBuf,
    hostgroup: u32,
}

/// What the drain of ProxySQL is read from.
///
/// # Errors
/// That the parameter is not of its form.
pub(crate) fn read(values: &Values) -> Result<Option<Drain<ProxySql>>, Failure> {
    Drain::read(values, &PROXYSQL_DRAIN, "FILE HOSTGROUP", |file, hostgroup| {
        let hostgroup = hostgroup.parse().ok()?;
        file.starts_with('/').then(|| ProxySql { file: file.into(), hostgroup })
    })
}

/// How a server is in a hostgroup, as ProxySQL calls it.
const ONLINE: &str = "ONLINE";
const DRAINED: &str = "OFFLINE_SOFT";

impl Proxy for ProxySql {
    const NAME: &'static str = "ProxySQL";
    const MARK: &'static str = "proxysql-drain";

    fn look(&self, node: &str, until: Instant) -> Result<Option<Seen>, ProxyFault> {
        let mut admin = self.connect(until)?;
        let servers = admin.ask(&format!("SELECT hostgroup_id, status FROM runtime_mysql_servers WHERE hostname = '{node}'"))?;
        let connections = format!(
            "SELECT ConnUsed AS used FROM stats_mysql_connection_pool WHERE hostgroup = {} AND srv_host = '{node}'",
            self.hostgroup
        );
        Ok(seen(self.hostgroup, &servers, &admin.ask(&connections)?))
    }

    fn drain(&self, node: &str, until: Instant) -> Result<(), ProxyFault> {
        let mut admin = self.connect(until)?;
        // One that is OFFLINE_SOFT is not asked whether it is read_only any more: what else there is of it has to be asked.
        let asked = format!(
            "SELECT hostgroup_id FROM runtime_mysql_servers WHERE hostname = '{node}' AND hostgroup_id <> {} AND status NOT LIKE 'OFFLINE%'",
            self.hostgroup
        );
        if admin.ask(&asked)?.is_empty() {
            return Err(ProxyFault::Refused(NO_READER.to_owned()));
        }
        admin.set(node, &format!(" AND hostgroup_id = {}", self.hostgroup), DRAINED)
    }

    fn ready(&self, node: &str, until: Instant) -> Result<(), ProxyFault> {
        // What is wrong with the file or the login now may be right in a moment: it stays drained until then.
        let mut admin = self.connect(until).map_err(|fault| match fault {
            ProxyFault::Refused(why) => ProxyFault::Failed(why),
            other => other,
        })?;
        // There it is only when the agent was killed before it gave the table back what it had.
        let of_writer = format!("WHERE hostname = '{node}' AND hostgroup_id = {} AND status = '{DRAINED}'", self.hostgroup);
        admin.ask(&format!("UPDATE mysql_servers SET status = '{ONLINE}' {of_writer}"))?;
        let drained = format!("SELECT hostgroup_id FROM runtime_mysql_servers WHERE hostname = '{node}' AND status = '{DRAINED}'");
        if admin.ask(&drained)?.is_empty() { Ok(()) } else { admin.set(node, &format!(" AND status = '{DRAINED}'"), ONLINE) }
    }

    fn place(&self) -> String {
        format!("hostgroup {}", self.hostgroup)
    }
}

impl ProxySql {
    fn connect(&self, until: Instant) -> Result<Admin, ProxyFault> {
        let refused = |why: String| ProxyFault::Refused(format!("ProxySQL cannot be asked: {why}"));
        let text = read_private(&self.file, PROXYSQL_DRAIN.name).map_err(|failure| refused(failure.reason))?;
        let login = Login::of(&text).ok_or_else(|| {
            refused(format!(
                "{} has no user, password and address of host under [client]: correct it as docs/proxysql.md has it",
                self.file.display()
            ))
        })?;
        demand_proxysql(&login)?;
        let server = Server::log_in(&login.host.to_string(), login.port, &login.user, &login.password, left(until)?).map_err(fault)?;
        Ok(Admin { server, until })
    }
}

/// ProxySQL would not see the demotion of what is drained.
const NO_READER: &str = "ProxySQL would not see its demotion, since it is in no group for readers: SET mysql-monitor_writer_is_also_reader='true', \
                         then LOAD MYSQL VARIABLES TO RUNTIME";

/// Any user may listen on its port while ProxySQL is down, and would get the password.
fn demand_proxysql(login: &Login) -> Result<(), ProxyFault> {
    if !login.host.is_loopback() {
        return Ok(());
    }
    let place = format!("{}:{}", login.host, login.port);
    let users =
        process::loopback_listeners(login.port).map_err(|e| ProxyFault::Failed(format!("ProxySQL: who listens on {place}: {e}")))?;
    if users.is_empty() {
        return Err(ProxyFault::Over(format!("ProxySQL: nobody listens on {place}")));
    }
    let own = [Some(0), Account::find(PROXYSQL).ok().map(|account| account.uid)];
    match users.into_iter().find(|uid| !own.contains(&Some(*uid))) {
        None => Ok(()),
        Some(uid) => Err(ProxyFault::Refused(format!(
            "ProxySQL: user {uid} listens on {place}, and neither root nor {PROXYSQL}: nobody logs in there; see ss -ltnp"
        ))),
    }
}

/// Who ProxySQL runs as, by its package.
const PROXYSQL: &str = "proxysql";

/// The admin interface.
struct Admin {
    server: Server,
    until: Instant,
}

impl Admin {
    fn ask(&mut self, statement: &str) -> Result<Vec<Row>, ProxyFault> {
        self.server.rows_within(statement, left(self.until)?).map_err(fault)
    }

    /// Has ProxySQL run by another status of these servers.
    fn set(&mut self, node: &str, and: &str, status: &str) -> Result<(), ProxyFault> {
        let mut configured = Vec::new();
        for table in SAVED {
            configured.push((table, self.ask(&format!("SELECT * FROM {table}"))?));
        }
        let set = self
            .ask("SAVE MYSQL SERVERS TO MEMORY")
            .and_then(|_| self.ask(&format!("UPDATE mysql_servers SET status = '{status}' WHERE hostname = '{node}'{and}")))
            .and_then(|_| self.ask("LOAD MYSQL SERVERS TO RUNTIME"));
        // In any case: what is left there would be loaded with the next change of an operator's.
        self.until = self.until.max(Instant::now() + RESTORING);
        for statement in configured.iter().flat_map(|(table, rows)| restore(table, rows)) {
            self.ask(&statement)?;
        }
        set.map(drop)
    }
}

/// What SAVE fills, of what is used with servers that replicate.
const SAVED: [&str; 2] = ["mysql_servers", "mysql_replication_hostgroups"];

/// How long it may take to give the tables back what they had, whatever became of the rest.
const RESTORING: Duration = Duration::from_millis(200);

/// The statements that give a table back these rows.
fn restore(table: &str, rows: &[Row]) -> Vec<String> {
    let mut statements = vec![format!("DELETE FROM {table}")];
    let Some(first) = rows.first() else { return statements };
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    let mut insert = format!("INSERT INTO {table} ({})", names.join(", "));
    for (i, row) in rows.iter().enumerate() {
        let values: Vec<String> = row.values().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
        let _ = write!(insert, "{} ({})", if i == 0 { " VALUES" } else { "," }, values.join(", "));
    }
    statements.push(insert);
    statements
}

/// What ProxySQL says of a server: its rows of `runtime_mysql_servers`, and its connections in the writer's group that are in use.
fn seen(hostgroup: u32, servers: &[Row], connections: &[Row]) -> Option<Seen> {
    let status = |row: &Row| row.get("status").map_or("", String::as_str).to_owned();
    let writer = servers.iter().find(|row| row.get("hostgroup_id").is_some_and(|id| *id == hostgroup.to_string())).map(status);
    let drained = servers.iter().any(|row| status(row) == DRAINED);
    let used = connections.iter().filter_map(|row| row.get("used")?.parse::<u64>().ok()).sum();
    (!servers.is_empty()).then(|| Seen {
        serves: writer.as_deref() == Some(ONLINE) && !drained,
        kept_out: writer.is_none_or(|status| status == "OFFLINE_HARD"),
        sessions: used,
    })
}

/// What the option file has under `[client]`.
#[derive(Debug, PartialEq, Eq)]
struct Login {
    host: IpAddr,
    port: u16,
    user: String,
    password: Secret,
}

impl Login {
    fn of(text: &str) -> Option<Self> {
        let mut values = BTreeMap::new();
        let mut client = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                client = line == "[client]";
            } else if let Some((name, value)) = line.split_once('=').filter(|_| client && !line.starts_with(['#', ';'])) {
                values.insert(name.trim().to_owned(), unquoted(value.trim()).to_owned());
            }
        }
        let host = values.get("host").map_or("127.0.0.1", String::as_str);
        Some(Self {
            host: if host == "localhost" { IpAddr::from([127, 0, 0, 1]) } else { host.parse().ok()? },
            port: values.get("port").map_or(Some(6032), |port| port.parse().ok())?,
            user: values.remove("user")?,
            password: Secret::new(values.remove("password")?),
        })
    }
}

fn unquoted(value: &str) -> &str {
    ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value)
}

fn left(until: Instant) -> Result<Duration, ProxyFault> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ProxyFault::Failed("ProxySQL: no answer in time".into())) } else { Ok(left) }
}

fn fault(fault: Fault) -> ProxyFault {
    let text = format!("ProxySQL: {fault}");
    match fault {
        Fault::Absent(_) => ProxyFault::Over(text),
        Fault::Denied(_) | Fault::Error(..) | Fault::Refused(_) => ProxyFault::Refused(text),
        Fault::Silent(_) | Fault::Broken(_) | Fault::Engaged(_) => ProxyFault::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocf::Environment;

    fn rows(of: &[&[(&str, &str)]]) -> Vec<Row> {
        of.iter().map(|row| row.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).collect()
    }

    #[test]
    fn the_parameter_is_a_file_and_a_hostgroup() {
        let read = |text: &str| {
            let environment = Environment::from_pairs([("OCF_RESKEY_proxysql_drain".to_owned(), text.to_owned())]);
            read(&Values::read(&[PROXYSQL_DRAIN], &environment).unwrap())
        };
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("/root/proxysql.cnf 10 5").unwrap().unwrap().proxy, ProxySql { file: "/root/proxysql.cnf".into(), hostgroup: 10 });
        for wrong in ["/f", "f 10", "/f ten", "/f -1", "/f 10 0", "/f 10 5 5"] {
            assert!(read(wrong).unwrap_err().reason.contains("not of the form FILE HOSTGROUP"), "{wrong}");
        }
    }

    #[test]
    fn the_writer_is_who_is_in_its_group() {
        let one = |hostgroup: &'static str, status: &'static str| [("hostgroup_id", hostgroup), ("status", status)];
        let (writer, reader) = (one("10", "ONLINE"), one("20", "ONLINE"));
        let used = rows(&[&[("used", "3")]]);
        let seen = |servers: &[&[(&str, &str)]]| seen(10, &rows(servers), &used);
        assert_eq!(seen(&[]), None);
        assert_eq!(seen(&[&writer, &reader]), Some(Seen { serves: true, kept_out: false, sessions: 3 }));
        assert_eq!(seen(&[&one("10", "OFFLINE_SOFT"), &reader]), Some(Seen { serves: false, kept_out: false, sessions: 3 }));
        assert_eq!(seen(&[&one("10", "SHUNNED"), &reader]), Some(Seen { serves: false, kept_out: false, sessions: 3 }));
        // An operator has drained it for readers: what would be made ready again is not ours.
        assert_eq!(seen(&[&writer, &one("20", "OFFLINE_SOFT")]).map(|seen| seen.serves), Some(false));
        assert_eq!(seen(&[&reader]).map(|seen| seen.kept_out), Some(true), "it is demoted");
        assert_eq!(seen(&[&one("10", "OFFLINE_HARD"), &reader]).map(|seen| seen.kept_out), Some(true));
    }

    #[test]
    fn the_table_gets_back_what_it_had() {
        assert_eq!(restore("mysql_servers", &[]), ["DELETE FROM mysql_servers"]);
        let had = rows(&[
            &[("hostname", "a"), ("comment", "the boss's"), ("port", "3306")],
            &[("hostname", "b"), ("comment", ""), ("port", "1")],
        ]);
        assert_eq!(
            restore("mysql_servers", &had)[1],
            "INSERT INTO mysql_servers (comment, hostname, port) VALUES ('the boss''s', 'a', '3306'), ('', 'b', '1')"
        );
    }

    #[test]
    fn the_option_file_is_that_of_the_client() {
        let file = "# our own\n[client]\nhost = 127.0.0.1\nport=6032\nuser = admin\n#user = x\npassword = \"a = b\"\nloose-skip-ssl\n[mysqld]\nuser = other\n";
        let login = Login::of(file).unwrap();
        assert_eq!((login.host.to_string().as_str(), login.port, login.user.as_str()), ("127.0.0.1", 6032, "admin"));
        assert_eq!(login.password.expose(), "a = b");
        assert_eq!(Login::of("[client]\nuser=a\npassword='x\n").unwrap().password.expose(), "'x");
        for wrong in
            ["", "user=a\npassword=b", "[client]\nuser=a", "[client]\npassword=b", "[client]\nuser=a\npassword=b\nhost=db.example\n"]
        {
            assert_eq!(Login::of(wrong), None, "{wrong}");
        }
    }
}
