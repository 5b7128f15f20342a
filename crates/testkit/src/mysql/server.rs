//! The servers: where they are, how a data directory is made, and where their words differ.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::mysql::client::Client;
use crate::mysql::node::{APP_PASSWORD, REPLICATION_PASSWORD};
use crate::processes::signal;
use nix::sys::signal::Signal;

/// A family of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// MariaDB.
    MariaDb,
    /// MySQL 8.4 and later.
    MySql,
    /// MySQL 8.0, from 8.0.26 on: it has the new words and most of the old ones.
    MySql80,
    /// MySQL 5.7, here without semi-synchronous replication: what it is packed in has no plugins.
    MySql57,
    /// MySQL 5.6, without semi-synchronous replication.
    MySql56,
}

impl Server {
    /// The one that these tests are about.
    ///
    /// # Panics
    /// When SYSTOLE_SERVER is none of them.
    pub fn here() -> Self {
        match std::env::var("SYSTOLE_SERVER").as_deref() {
            Ok("mariadb") => Self::MariaDb,
            Ok("mysql") => Self::MySql,
            Ok("mysql80") => Self::MySql80,
            Ok("mysql57") => Self::MySql57,
            Ok("mysql56") => Self::MySql56,
            Ok(other) => panic!("SYSTOLE_SERVER={other} is none of mariadb, mysql, mysql80, mysql57, mysql56"),
            Err(_) if Path::new("/usr/sbin/mariadbd").exists() => Self::MariaDb,
            Err(_) => Self::MySql,
        }
    }

    /// The server program.
    pub fn binary(self) -> &'static str {
        match self {
            Self::MariaDb => "/usr/sbin/mariadbd",
            Self::MySql => "/usr/sbin/mysqld",
            Self::MySql80 => "/opt/mysql-8.0/bin/mysqld",
            Self::MySql57 => "/opt/mysql-5.7/bin/mysqld",
            Self::MySql56 => "/opt/mysql-5.6/bin/mysqld",
        }
    }

    /// Where it has the rest of what it consists of, if that is not where it looks by itself.
    fn base(self) -> Option<&'static str> {
        self.binary().strip_suffix("/bin/mysqld").filter(|base| base.starts_with("/opt"))
    }

    /// Whether a write can be made to wait until a replica has it.
    pub fn is_lossless(self) -> bool {
        !matches!(self, Self::MySql56 | Self::MySql57)
    }

    /// Whether it can be closed for administrators, too.
    pub fn closes_for_administrators(self) -> bool {
        matches!(self, Self::MySql | Self::MySql80 | Self::MySql57)
    }

    /// Whether it says source and replica where others say master and slave.
    pub fn says_source(self) -> bool {
        matches!(self, Self::MySql | Self::MySql80)
    }

    /// Whether a transaction's GTID can have a tag.
    pub fn has_tags(self) -> bool {
        self == Self::MySql
    }

    /// Whether it can fetch a copy of another server's data itself.
    pub fn clones(self) -> bool {
        matches!(self, Self::MySql | Self::MySql80)
    }

    /// Gives an account another password, which stands here as a literal without its quotes.
    pub fn set_password(self, account: &str, literal: &str) -> String {
        match self {
            Self::MariaDb | Self::MySql56 => format!("SET PASSWORD FOR {account} = PASSWORD('{literal}')"),
            Self::MySql | Self::MySql80 | Self::MySql57 => format!("ALTER USER {account} IDENTIFIED BY '{literal}'"),
        }
    }

    /// Its own lines of the option file.
    pub fn options(self) -> &'static str {
        match self {
            Self::MariaDb => "log_slave_updates=1\ngtid_strict_mode=1\n",
            Self::MySql => "gtid_mode=ON\nenforce_gtid_consistency=ON\nmysqlx=OFF\nbinlog_format=ROW\n",
            Self::MySql80 => "basedir=/opt/mysql-8.0\ngtid_mode=ON\nenforce_gtid_consistency=ON\nmysqlx=OFF\nbinlog_format=ROW\n",
            Self::MySql57 => {
                "basedir=/opt/mysql-5.7\ngtid_mode=ON\nenforce_gtid_consistency=ON\nlog_slave_updates=1\nbinlog_format=ROW\n\
                 master_info_repository=TABLE\nrelay_log_info_repository=TABLE\n"
            }
            Self::MySql56 => {
                "basedir=/opt/mysql-5.6\ngtid_mode=ON\nenforce_gtid_consistency=ON\nlog_slave_updates=1\nbinlog_format=ROW\n\
                 master_info_repository=TABLE\nrelay_log_info_repository=TABLE\n"
            }
        }
    }

    /// What makes it small: hundreds of servers start in a run of the tests, and what a start costs is the memory and the log that it fills.
    pub fn small(self) -> &'static [&'static str] {
        match self {
            // The keys' buffer is a fifth of a start: 128 MB for tables that no test has.
            Self::MariaDb => {
                &["innodb_buffer_pool_size=16M", "innodb_log_file_size=8M", "innodb_log_buffer_size=2M", "key_buffer_size=64K"]
            }
            Self::MySql | Self::MySql80 => &[
                "innodb_buffer_pool_size=16M",
                "innodb_redo_log_capacity=8M",
                "innodb_log_buffer_size=256K",
                "max_digest_length=128",
                "performance_schema_digests_size=100",
                "performance_schema_max_digest_length=128",
                "performance_schema_max_sql_text_length=128",
                "performance_schema_error_size=10",
                "performance_schema_session_connect_attrs_size=0",
                "performance_schema_events_stages_history_long_size=10",
                "performance_schema_events_statements_history_long_size=10",
                "performance_schema_events_transactions_history_long_size=10",
                "performance_schema_events_waits_history_long_size=10",
                // A sixth of a start: no test asks how often a mutex was waited for. The tables about threads, statements and replication are
                // none of these.
                "performance_schema_max_mutex_classes=0",
                "performance_schema_max_rwlock_classes=0",
                "performance_schema_max_cond_classes=0",
                "performance_schema_max_memory_classes=0",
                "performance_schema_max_file_classes=0",
                "performance_schema_max_stage_classes=0",
            ],
            Self::MySql57 => &["innodb_buffer_pool_size=16M", "innodb_log_file_size=8M", "innodb_log_buffer_size=2M"],
            Self::MySql56 => &["innodb_buffer_pool_size=16M"],
        }
    }

    /// The beginning of the source's variables of semi-synchronous replication.
    pub fn source(self) -> &'static str {
        if self.says_source() { "rpl_semi_sync_source" } else { "rpl_semi_sync_master" }
    }

    /// The beginning of the replica's variables of semi-synchronous replication.
    pub fn acknowledger(self) -> &'static str {
        if self.says_source() { "rpl_semi_sync_replica" } else { "rpl_semi_sync_slave" }
    }

    /// REPLICA or SLAVE, as in `STOP REPLICA`.
    pub fn replica(self) -> &'static str {
        if self.says_source() { "REPLICA" } else { "SLAVE" }
    }

    /// The transactions of a server, as text; of a MariaDB at rest.
    pub fn executed(self) -> &'static str {
        if self == Self::MariaDb { "SELECT @@gtid_current_pos" } else { "SELECT @@global.gtid_executed" }
    }

    /// Empties the binary log and with it the history.
    pub fn forget_history(self) -> &'static str {
        if self == Self::MySql { "RESET BINARY LOGS AND GTIDS" } else { "RESET MASTER" }
    }

    /// Closes it.
    pub fn close(self) -> &'static str {
        if self.closes_for_administrators() { "SET GLOBAL super_read_only=1" } else { "SET GLOBAL read_only=1" }
    }

    /// A data directory with the accounts and the table of the tests, made once and to be copied. Its server has no
    /// history: nothing of this was logged.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn template(self) -> &'static Path {
        static MADE: OnceLock<PathBuf> = OnceLock::new();
        MADE.get_or_init(|| self.make_template(Path::new("/tmp/contract/template")))
    }

    fn make_template(self, directory: &Path) -> PathBuf {
        let data = directory.join("data");
        std::fs::create_dir_all(&data).unwrap();
        run(Command::new("chown").args(["-R", "mysql:mysql"]).arg(directory));
        let (datadir, socket) = (format!("--datadir={}", data.display()), directory.join("sock"));
        match self {
            Self::MariaDb => {
                run(Command::new("mariadb-install-db").args([
                    "--no-defaults",
                    "--user=mysql",
                    &datadir,
                    "--auth-root-authentication-method=socket",
                    "--skip-test-db",
                    // It wants to resolve this machine's name otherwise.
                    "--force",
                ]));
            }
            Self::MySql | Self::MySql80 | Self::MySql57 => {
                let mut command = Command::new(self.binary());
                command.args(["--no-defaults", "--user=mysql", &datadir, "--initialize-insecure"]);
                run(command.args(self.base().map(|base| format!("--basedir={base}"))))
            }
            Self::MySql56 => run(Command::new("/opt/mysql-5.6/scripts/mysql_install_db").args([&datadir, "--user=mysql"])),
        }
        let mut command = Command::new(self.binary());
        command.args(["--no-defaults", "--user=mysql", &datadir, "--skip-networking", "--skip-log-bin"]);
        command.arg(format!("--socket={}", socket.display())).arg(format!("--pid-file={}", directory.join("pid").display()));
        command.args(self.small().iter().map(|option| format!("--{option}")));
        command.args(self.base().map(|base| format!("--basedir={base}")));
        if matches!(self, Self::MySql | Self::MySql80) {
            command.arg("--mysqlx=OFF");
        }
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let mut server = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let client = crate::within(Duration::from_secs(60), || Client::root(&socket).ok());
        let mut client = client.unwrap_or_else(|| panic!("{}", std::fs::read_to_string(directory.join("log")).unwrap()));
        for statement in [
            format!("CREATE USER replication@'%' IDENTIFIED BY '{REPLICATION_PASSWORD}'"),
            "GRANT REPLICATION SLAVE, SELECT ON *.* TO replication@'%'".to_owned(),
            "CREATE DATABASE t".to_owned(),
            "CREATE TABLE t.k (name VARCHAR(100) PRIMARY KEY, value LONGTEXT) ENGINE=InnoDB".to_owned(),
            format!("CREATE USER app@'%' IDENTIFIED BY '{APP_PASSWORD}'"),
            "GRANT ALL ON t.* TO app@'%'".to_owned(),
        ] {
            client.ask(&statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
        drop(client);
        signal(i32::try_from(server.id()).unwrap(), Signal::SIGTERM);
        server.wait().unwrap();
        // Each copy makes its own identity.
        let _ = std::fs::remove_file(data.join("auto.cnf"));
        // Most of it are zeros: with holes for them a copy is made in half the time.
        let thin = directory.join("thin");
        run(Command::new("cp").args(["-a", "--sparse=always"]).args([&data, &thin]));
        std::fs::remove_dir_all(&data).unwrap();
        thin
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
