//! MySQL and MariaDB: option file, accounts, attachment.

use std::path::PathBuf;
use std::time::Duration;

use lab::{Database, Error, LoadOptions, Node, Result};

use crate::site::Site;
use crate::{Agent, Durability, Kind, Server, on_all, read, repository, stock};

/// The password of the replication account.
pub(crate) const PASSWORD: &str = "geheim";
/// The password of the load's account.
const LOAD_PASSWORD: &str = "lastwort";
const SOCKET: &str = "/run/mysqld/mysqld.sock";

/// Gives every node its option file, the accounts, and the file with the password of replication. All at once: the
/// servers need a second or two each.
pub(crate) fn configure(site: &Site, settings: &str) -> Result<()> {
    let server = site.server();
    on_all(&site.lab.nodes(), |node| prepare(node, server, settings))?;
    if server.kind == Kind::MariaDb { befriend(site) } else { Ok(()) }
}

/// The key for copies, as docs/mysql.md makes it: with rejoin=clone and rewind-or-clone a MariaDB gets its copy over ssh.
fn befriend(site: &Site) -> Result<()> {
    let nodes = site.lab.nodes();
    let key = nodes[0].sh("ssh-keygen -q -t ed25519 -N '' -C systole-copy -f /root/copy.key && cat /root/copy.key")?.stdout;
    let public = nodes[0].sh("cat /root/copy.key.pub && rm /root/copy.key /root/copy.key.pub")?.stdout;
    on_all(&nodes, |node| {
        node.sh("install -d -m 700 /root/.ssh; install -d /etc/systole; install -m 600 /dev/null /etc/systole/copy.key")?;
        node.write("/etc/systole/copy.key", &key)?;
        node.write("/root/.ssh/authorized_keys", &format!("command=\"/usr/libexec/systole/systole-send-backup\",restrict {public}"))?;
        node.write("/root/.ssh/config", "Host *\n  StrictHostKeyChecking accept-new\n")?;
        node.sh("chmod 600 /root/.ssh/*; systemctl enable --quiet --now ssh").map(drop)
    })
}

fn prepare(node: &Node, server: Server, settings: &str) -> Result<()> {
    node.sh("mkdir -p /etc/mysql /run/mysqld /var/log/mysql; chown mysql:mysql /run/mysqld /var/log/mysql /var/lib/mysql")?;
    node.write("/etc/mysql/site.cnf", &(option_file(server.kind, node.number)? + &settings.replace("NODE", &node.name) + "\n"))?;
    node.write("/etc/mysql/replication.password", &format!("{PASSWORD}\n"))?;
    node.write("/run/mysqld/accounts.sql", &accounts(server.kind)?)?;
    node.sh("chmod 600 /etc/mysql/replication.password; chmod 644 /run/mysqld/accounts.sql")?;
    let base = server.kind.base().unwrap_or_default();
    let unpacked = format!(
        "rm -rf /var/lib/mysql/*; {base}/bin/mysqld --no-defaults --basedir={base} --datadir=/var/lib/mysql --user=mysql --initialize-insecure"
    );
    let begin = match server.kind {
        Kind::MySql80 | Kind::MySql57 => unpacked.as_str(),
        Kind::MySql56 => "rm -rf /var/lib/mysql/*; /opt/mysql-5.6/scripts/mysql_install_db --datadir=/var/lib/mysql --user=mysql",
        // The nodes' disks are layers, and what is in the lower one cannot be renamed, which rejoin=clone does. With a disk of its own it is
        // empty.
        Kind::MySql => {
            "if [ -e /var/lib/mysql/mysql.ibd ]; then cd /var/lib && cp -a mysql copy && rm -rf mysql/* && cp -a copy/. mysql && rm -rf copy; \
             else mysqld --no-defaults --datadir=/var/lib/mysql --user=mysql --initialize-insecure; fi"
        }
        _ => "test -d /var/lib/mysql/mysql || mariadb-install-db --user=mysql --auth-root-authentication-method=socket",
    };
    let run = "--defaults-file=/etc/mysql/site.cnf --datadir=/var/lib/mysql --user=mysql --skip-networking --socket=/run/mysqld/setup.sock";
    let execute = match server.kind {
        // It cannot be told to end by its init file.
        Kind::MySql56 => format!(
            "/opt/mysql-5.6/bin/mysqld {run} --bootstrap --skip-log-bin --skip-log-slave-updates --gtid-mode=OFF --skip-enforce-gtid-consistency < /run/mysqld/accounts.sql"
        ),
        Kind::MySql80 | Kind::MySql57 => format!("timeout 60 {base}/bin/mysqld {run} --init-file=/run/mysqld/accounts.sql"),
        _ => format!("timeout 60 mysqld {run} --init-file=/run/mysqld/accounts.sql"),
    };
    node.sh(&format!("({begin}; {execute}) >/root/setup.log 2>&1 || {{ grep ERROR /root/setup.log >&2; exit 1; }}")).map(drop)
}

/// How the files of crm-snippets/server for this server are called.
fn name_in_files(kind: Kind) -> &'static str {
    match kind {
        Kind::MariaDb => "mariadb",
        Kind::MySql | Kind::MySql80 => "mysql",
        Kind::MySql57 => "mysql57",
        _ => "mysql56",
    }
}

/// What an operator installs, with a number of its own for each node.
fn option_file(kind: Kind, number: u8) -> Result<String> {
    let text = read(&repository().join(format!("crm-snippets/server/{}-site.cnf", name_in_files(kind))))?;
    // The files of the distribution are for the distribution's server.
    let text = match kind.base() {
        Some(base) => text.replace("!include /etc/mysql/my.cnf", &format!("[mysqld]\nbasedir = {base}")),
        None => text,
    };
    Ok(text.replace("server_id = 11", &format!("server_id = 1{number}")) + "\n[mysqld]\n")
}

/// The accounts as an operator makes them, and the load's. Nothing of it is logged: the servers begin with the same,
/// empty history. An init file has a statement on each line and no comments.
fn accounts(kind: Kind) -> Result<String> {
    let text = read(&repository().join(format!("crm-snippets/server/mysql-accounts-{}.sql", name_in_files(kind))))?;
    let statements: Vec<&str> = text.lines().filter(|l| !l.starts_with("--") && !l.trim().is_empty()).collect();
    // The last statement closes MySQL again.
    let text = statements.join("\n").replace("SET GLOBAL super_read_only = ON;", "").replace("'PASSWORD'", &format!("'{PASSWORD}'"));
    let monitor = if kind == Kind::MariaDb { "SLAVE MONITOR" } else { "REPLICATION CLIENT" };
    let (begin, end) = if kind == Kind::MySql56 { ("FLUSH PRIVILEGES;", "") } else { ("", "SHUTDOWN;") };
    Ok(format!(
        "{begin}\n{text}\n\
         CREATE DATABASE `load`;\n\
         CREATE USER 'load'@'%' IDENTIFIED BY '{LOAD_PASSWORD}';\n\
         GRANT CREATE, SELECT, INSERT, UPDATE ON `load`.* TO 'load'@'%';\n\
         GRANT {monitor} ON *.* TO 'load'@'%';\n{end}\n"
    ))
}

/// The snippet for this run.
pub(crate) fn edited(snippet: &str, agent: Agent, kind: Kind, durability: Durability, parameters: &str) -> String {
    let mut more = parameters.to_owned();
    if let Some(base) = kind.base() {
        more += &format!(" binary={base}/bin/mysqld");
    }
    match agent {
        Agent::Systole => {
            if durability == Durability::Async {
                more += " durability=async-allowed";
            }
            // A parameter stands there once.
            let snippet = if more.contains("rejoin=") { snippet.replace(" rejoin=rewind ", " ") } else { snippet.to_owned() };
            snippet.replace("params config=", &format!("params {more} config="))
        }
        _ => stock::edited(snippet, agent),
    }
}

/// The load's options. Its password is in a file of this process.
pub(crate) fn load_options() -> Result<LoadOptions> {
    let file: PathBuf = std::env::temp_dir().join(format!("systole-load-password-{}", std::process::id()));
    std::fs::write(&file, LOAD_PASSWORD).map_err(|e| Error::Refused(format!("{}: {e}", file.display())))?;
    Ok(LoadOptions { password_file: Some(file), ..LoadOptions::of(Database::MySql) })
}

/// Gives the replication account another password, which this number is in, as an operator does: the account on the primary, then the file
/// on each node.
pub(crate) fn change_password(site: &Site, number: u64) -> Result<()> {
    site.sql(&site.primary()?, &format!("ALTER USER 'replication'@'10.%' IDENTIFIED BY '{PASSWORD}{number}'"))?;
    // Nodes that are away get it when they are back.
    let _ = write_password(site, number);
    Ok(())
}

/// Writes its file on the nodes that have power.
pub(crate) fn write_password(site: &Site, number: u64) -> Result<()> {
    on_all(&site.lab.live_nodes(), |node| node.write("/etc/mysql/replication.password", &format!("{PASSWORD}{number}\n")))
}

/// The command of a client that connects, writes and ends.
pub(crate) fn request(site: &Site, port: u16) -> Result<String> {
    site.sql(&site.primary()?, "CREATE TABLE IF NOT EXISTS `load`.requests (n BIGINT AUTO_INCREMENT PRIMARY KEY)")?;
    let client = site.server().client;
    Ok(format!("env MYSQL_PWD={LOAD_PASSWORD} {client} -h127.0.0.1 -P{port} -uload load -e 'INSERT INTO requests VALUES (NULL)'"))
}

/// Whether that many replicas follow and, where that is promised, acknowledge this primary, which has the address.
pub(crate) fn attached(site: &Site, primary: &Node, replicas: usize) -> bool {
    let lossless = site.durability() == Durability::Quorum;
    let addressed = || primary.sh("ip -o addr show to 192.0.2.101").is_ok_and(|o| o.stdout.contains("192.0.2.101"));
    let open = || site.sql(primary, "SELECT @@GLOBAL.read_only").is_ok_and(|o| o.trim() == "0");
    let recorded = || {
        let Ok(record) = site.record() else { return false };
        let active = record.split_whitespace().find_map(|w| w.strip_prefix("active=")).unwrap_or_default();
        active.split(',').filter(|n| !n.is_empty()).count() >= replicas
    };
    let others = || site.lab.live_nodes().into_iter().filter(|n| n.name != primary.name);
    addressed() && open() && (!lossless || recorded()) && others().filter(|n| site.follows(n, lossless)).count() >= replicas
}

impl Site {
    /// Runs SQL on a node as root, over the socket; returns the rows, tabs between columns.
    pub fn sql(&self, node: &Node, sql: &str) -> Result<String> {
        self.sql_within(node, sql, Duration::from_secs(20))
    }

    /// The same with another limit.
    pub fn sql_within(&self, node: &Node, sql: &str, limit: Duration) -> Result<String> {
        let client = self.server().client;
        let seconds = limit.as_secs().to_string();
        let done = node.exec(&[
            "timeout",
            &seconds,
            client,
            "--no-defaults",
            "--user=root",
            "--socket",
            SOCKET,
            "--batch",
            "--skip-column-names",
            "--execute",
            sql,
        ])?;
        if done.success() {
            return Ok(done.stdout);
        }
        Err(Error::Refused(format!("{}: {sql}: {}", node.name, done.stderr.trim())))
    }

    /// Leaves SQL running on a node as root, over the socket; the session stays after the last statement.
    pub fn sql_in_background(&self, node: &Node, sql: &str) -> Result<()> {
        let client = self.server().client;
        node.write("/root/background.sql", &format!("{sql};\n"))?;
        node.sh(&format!(
            "({{ {{ cat /root/background.sql; sleep 3600; }} | setsid {client} --no-defaults --user=root --socket={SOCKET} --batch --unbuffered; }} \
             >/root/background.log 2>&1 &) ; sleep 0.5; ! grep ERROR /root/background.log >&2"
        ))
        .map(drop)
    }

    /// The status of replication of a node, a line for each field.
    pub fn replication(&self, node: &Node) -> Result<String> {
        let word = if matches!(self.server().kind, Kind::MySql | Kind::MySql80) { "REPLICA" } else { "SLAVE" };
        let client = self.server().client;
        let statement = format!("SHOW {word} STATUS");
        let done = node.exec(&[
            "timeout",
            "20",
            client,
            "--no-defaults",
            "--user=root",
            "--socket",
            SOCKET,
            "--vertical",
            "--execute",
            &statement,
        ])?;
        Ok(done.stdout)
    }

    /// Whether a node's server replicates, and acknowledges.
    pub fn follows(&self, node: &Node, acknowledging: bool) -> bool {
        let Ok(status) = self.replication(node) else { return false };
        let acknowledges = || {
            self.sql(node, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%_status'")
                .is_ok_and(|o| o.contains("replica_status\tON") || o.contains("slave_status\tON"))
        };
        status.contains("_IO_Running: Yes") && status.contains("_SQL_Running: Yes") && (!acknowledging || acknowledges())
    }

    /// The record in the CIB.
    pub fn record(&self) -> Result<String> {
        let resource = self.server().resource;
        let query = format!("crm_attribute --type crm_config --set-name systole --name systole-{resource}-primary --query --quiet");
        Ok(self.lab.quorate_node()?.sh(&query)?.stdout)
    }

    /// Whether the record lists the node among those that acknowledge.
    pub fn is_active(&self, node: &Node) -> bool {
        self.record().is_ok_and(|record| {
            record.split_whitespace().find_map(|w| w.strip_prefix("active=")).is_some_and(|a| a.split(',').any(|n| n == node.name))
        })
    }
}
