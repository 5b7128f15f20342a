//! All SQL. Which words a server understands is found out by asking which variables it has, not by its version.
//!
//! Nothing is sent from here: statements are built, answers are read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::gtid::Flavour;

/// One row of an answer, by column name in lower case.
pub(crate) type Row = BTreeMap<String, String>;

/// The words of semi-synchronous replication; the plugin has one of two sets of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Words {
    /// rpl_semi_sync_master_*, SHOW SLAVE STATUS
    Old,
    /// rpl_semi_sync_source_*, SHOW REPLICA STATUS
    New,
}

/// What the loaded semi-synchronous replication can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SemiSync {
    words: Words,
    /// It waits *before* it commits in the engine (AFTER_SYNC): nobody sees a write that could still be lost.
    pub(crate) lossless: bool,
    /// The number of acknowledgements can be chosen.
    pub(crate) counts: bool,
}

/// `Flavour` as it stands in the state file: the pure modules know no files.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Flavour")]
enum FlavourInFile {
    MySql,
    MariaDb,
}

/// How a server is to be spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Dialect {
    /// For messages only.
    pub(crate) version: String,
    #[serde(with = "FlavourInFile")]
    pub(crate) flavour: Flavour,
    words: Words,
    super_read_only: bool,
    /// caching_sha2_password is there: over plain TCP a replica needs the primary's public key.
    public_keys: bool,
    pub(crate) plugin_directory: String,
    /// `None` when the plugins are not loaded.
    pub(crate) semi_sync: Option<SemiSync>,
    /// [`Self::counts_what_began_to_arrive`].
    counts_begun: bool,
    /// Which of [`SETTINGS`] it has.
    #[serde(default)]
    pub(crate) settings: Vec<String>,
}

/// Variables that not every server has, and that the premises are about.
const SETTINGS: &[&str] = &[
    "port",
    "bind_address",
    "skip_networking",
    "require_secure_transport",
    "replica_exec_mode",
    "slave_exec_mode",
    "replica_skip_errors",
    "slave_skip_errors",
    "replicate_do_db",
    "replicate_ignore_db",
    "replicate_do_table",
    "replicate_ignore_table",
    "replicate_wild_do_table",
    "replicate_wild_ignore_table",
];

/// The variables whose existence tells the dialect.
const TELLING: &[&str] = &[
    "version",
    "plugin_dir",
    "super_read_only",
    "gtid_executed",
    "gtid_binlog_state",
    // Since 5.7.
    "gtid_executed_compression_period",
    "log_replica_updates",
    "caching_sha2_password_auto_generate_rsa_keys",
    "rpl_semi_sync_source_enabled",
    "rpl_semi_sync_replica_enabled",
    "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_slave_enabled",
    "rpl_semi_sync_source_wait_point",
    "rpl_semi_sync_master_wait_point",
    "rpl_semi_sync_source_wait_for_replica_count",
    "rpl_semi_sync_master_wait_for_slave_count",
];

/// Asks for the variables that [`Dialect::of`] needs.
pub(crate) fn probe() -> String {
    let names: Vec<String> = TELLING.iter().chain(SETTINGS).map(|name| format!("'{name}'")).collect();
    format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", names.join(","))
}

/// The transactions that have changed rows and are not committed.
pub(crate) const WRITING: &str = "SELECT trx_mysql_thread_id AS session, TIMESTAMPDIFF(SECOND, trx_started, NOW()) AS seconds, \
     trx_rows_modified AS written FROM information_schema.innodb_trx WHERE trx_rows_modified > 0";

/// As long as the server can count: nobody's patience decides that a write need not be on a replica. Milliseconds; what
/// both families accept.
const WAITS_FOR_EVER: u64 = 4_294_967_295;

/// A statement that changes nothing and is logged.
pub(crate) const BARRIER: &str = "FLUSH USER_RESOURCES";

impl Dialect {
    /// From the answer to [`probe`]; `None` when the server has no GTIDs at all.
    pub(crate) fn of(rows: &[Row]) -> Option<Self> {
        let column = |row: &Row, name: &str| row.get(name).cloned().unwrap_or_default();
        let variables: BTreeMap<String, String> =
            rows.iter().map(|row| (column(row, "variable_name").to_lowercase(), column(row, "value"))).collect();
        let has = |name: &str| variables.contains_key(name);
        let flavour = match (has("gtid_binlog_state"), has("gtid_executed")) {
            (true, _) => Flavour::MariaDb,
            (false, true) => Flavour::MySql,
            (false, false) => return None,
        };
        let text = |name: &str| variables.get(name).cloned().unwrap_or_default();
        let semi_sync = if has("rpl_semi_sync_source_enabled") && has("rpl_semi_sync_replica_enabled") {
            Some(SemiSync {
                words: Words::New,
                lossless: has("rpl_semi_sync_source_wait_point"),
                counts: has("rpl_semi_sync_source_wait_for_replica_count"),
            })
        } else if has("rpl_semi_sync_master_enabled") && has("rpl_semi_sync_slave_enabled") {
            Some(SemiSync {
                words: Words::Old,
                lossless: has("rpl_semi_sync_master_wait_point"),
                counts: has("rpl_semi_sync_master_wait_for_slave_count"),
            })
        } else {
            None
        };
        Some(Self {
            version: text("version"),
            flavour,
            words: if has("log_replica_updates") && flavour == Flavour::MySql { Words::New } else { Words::Old },
            super_read_only: has("super_read_only"),
            counts_begun: flavour == Flavour::MySql && !has("gtid_executed_compression_period"),
            public_keys: has("caching_sha2_password_auto_generate_rsa_keys"),
            plugin_directory: text("plugin_dir"),
            semi_sync,
            // A server that has a new word has the old one as well.
            settings: SETTINGS
                .iter()
                .filter(|name| has(name) && !(name.starts_with("slave_") && has(&name.replacen("slave", "replica", 1))))
                .map(|name| (*name).to_owned())
                .collect(),
        })
    }

    /// Before anything was asked: good for [`probe`] only.
    pub(crate) fn unknown() -> Self {
        Self {
            version: String::new(),
            flavour: Flavour::MySql,
            words: Words::Old,
            super_read_only: false,
            counts_begun: false,
            public_keys: false,
            plugin_directory: String::new(),
            semi_sync: None,
            settings: vec![],
        }
    }

    /// It can fetch a copy of another server's data itself.
    pub(crate) fn has_clone_plugin(&self) -> bool {
        self.flavour == Flavour::MySql
    }

    /// Whether an acknowledged write can be made to survive the primary.
    pub(crate) fn can_be_lossless(&self) -> bool {
        self.semi_sync.is_some_and(|s| s.lossless)
    }

    /// Whether the number of acknowledgements can be chosen.
    pub(crate) fn counts_acknowledgements(&self) -> bool {
        self.semi_sync.is_some_and(|s| s.counts)
    }

    /// Whether what it says it received may hold a transaction that did not arrive whole (MySQL 5.6).
    pub(crate) fn counts_what_began_to_arrive(&self) -> bool {
        self.counts_begun
    }

    fn old(&self) -> bool {
        self.words == Words::Old
    }

    /// The privileges that the agent's account needs, each with what may stand in its place.
    pub(crate) fn privileges(&self) -> &'static [&'static [&'static str]] {
        match (self.flavour, self.public_keys) {
            // Since 8.0, whose first versions had the old words still. An account that came from 5.7 has SUPER, which still holds.
            (Flavour::MySql, true) => &[
                &["SYSTEM_VARIABLES_ADMIN", "SUPER"],
                &["REPLICATION_SLAVE_ADMIN", "SUPER"],
                &["REPLICATION CLIENT"],
                &["REPLICATION SLAVE"],
                &["CONNECTION_ADMIN", "SUPER"],
                &["RELOAD"],
                &["PROCESS"],
            ],
            (Flavour::MySql, false) => &[&["SUPER"], &["REPLICATION CLIENT"], &["REPLICATION SLAVE"], &["RELOAD"], &["PROCESS"]],
            (Flavour::MariaDb, _) => &[
                &["BINLOG MONITOR"],
                &["SLAVE MONITOR", "REPLICA MONITOR"],
                &["REPLICATION MASTER ADMIN"],
                &["REPLICATION SLAVE ADMIN", "REPLICATION REPLICA ADMIN"],
                &["READ_ONLY ADMIN", "READ ONLY ADMIN"],
                &["CONNECTION ADMIN"],
                &["RELOAD"],
                &["PROCESS"],
            ],
        }
    }

    /// What it needs besides to take transactions back, on all schemas. REFERENCES lets it see foreign keys, and nothing else.
    pub(crate) fn privileges_to_take_back(&self) -> &'static [&'static [&'static str]] {
        match (self.flavour, self.public_keys) {
            (Flavour::MySql, true) => &[&["BINLOG_ADMIN", "REPLICATION_APPLIER", "SUPER"], &["SELECT"], &["REFERENCES"]],
            (Flavour::MySql, false) => &[&["SELECT"], &["REFERENCES"]],
            (Flavour::MariaDb, _) => &[&["BINLOG ADMIN"], &["BINLOG REPLAY"], &["SELECT"], &["REFERENCES"]],
        }
    }

    /// What a look at the server asks for; the columns are read by `Observation`.
    pub(crate) fn observe(&self) -> String {
        let mut columns =
            vec!["read_only", "server_id", "log_bin", "sync_binlog", "innodb_flush_log_at_trx_commit", "event_scheduler", "binlog_format"];
        if self.super_read_only {
            columns.push("super_read_only");
        }
        match self.flavour {
            Flavour::MySql => columns.extend(["gtid_executed", "server_uuid", "gtid_mode", "enforce_gtid_consistency"]),
            Flavour::MariaDb => columns.extend(["gtid_binlog_state", "gtid_slave_pos", "gtid_strict_mode", "gtid_domain_id"]),
        }
        columns.push(if self.old() { "log_slave_updates" } else { "log_replica_updates" });
        let semi_sync: Vec<String> = self.semi_sync.map(|s| s.switches()).into_iter().flatten().collect();
        columns.extend(semi_sync.iter().map(String::as_str));
        let waiting = self.waiting(1);
        columns.extend(waiting.iter().map(|(name, _)| name.as_str()).filter(|name| !semi_sync.iter().any(|known| known == name)));
        columns.extend(self.settings.iter().map(String::as_str));
        let listed: Vec<String> = columns.iter().map(|name| format!("@@global.{name} AS {name}")).collect();
        format!("SELECT {}", listed.join(", "))
    }

    /// Only the transactions that it has: cheap enough to ask every few milliseconds.
    pub(crate) fn executed(&self) -> &'static str {
        match self.flavour {
            Flavour::MySql => "SELECT @@global.gtid_executed AS gtid_executed",
            Flavour::MariaDb => "SELECT @@global.gtid_binlog_state AS gtid_binlog_state, @@global.gtid_slave_pos AS gtid_slave_pos",
        }
    }

    /// All that is in its log, commits that wait for an acknowledgement included. What is on its way is read first:
    /// between the two it only becomes executed.
    pub(crate) fn logged(&self) -> &'static str {
        match self.flavour {
            Flavour::MySql => "SELECT @@global.gtid_owned AS gtid_owned, @@global.gtid_executed AS gtid_executed",
            Flavour::MariaDb => self.executed(),
        }
    }

    /// Where it writes, beside its data directory.
    pub(crate) fn places() -> &'static str {
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
         ('log_bin_basename', 'relay_log_basename', 'innodb_log_group_home_dir', 'innodb_data_home_dir', 'innodb_undo_directory')"
    }

    pub(crate) fn replica_status(&self) -> &'static str {
        match (self.flavour, self.words) {
            (Flavour::MariaDb, _) => "SHOW ALL SLAVES STATUS",
            (Flavour::MySql, Words::Old) => "SHOW SLAVE STATUS",
            (Flavour::MySql, Words::New) => "SHOW REPLICA STATUS",
        }
    }

    /// Only the receiver. What it has received stays.
    pub(crate) fn stop_receiver(&self) -> &'static str {
        if self.old() { "STOP SLAVE IO_THREAD" } else { "STOP REPLICA IO_THREAD" }
    }

    pub(crate) fn stop_replica(&self) -> &'static str {
        if self.old() { "STOP SLAVE" } else { "STOP REPLICA" }
    }

    pub(crate) fn start_receiver(&self) -> &'static str {
        if self.old() { "START SLAVE IO_THREAD" } else { "START REPLICA IO_THREAD" }
    }

    /// Only the applier: it works off what was received.
    pub(crate) fn start_applier(&self) -> &'static str {
        if self.old() { "START SLAVE SQL_THREAD" } else { "START REPLICA SQL_THREAD" }
    }

    pub(crate) fn start_replica(&self) -> &'static str {
        if self.old() { "START SLAVE" } else { "START REPLICA" }
    }

    /// The sessions of the applier's workers, where they can be ended one by one.
    pub(crate) fn appliers(&self) -> Option<&'static str> {
        (self.flavour == Flavour::MySql).then_some(
            "SELECT processlist_id AS id FROM performance_schema.threads WHERE name LIKE '%replica_worker%' OR name LIKE '%slave_worker%'",
        )
    }

    /// Whether starting a stopped applier while the receiver is stopped, too, deletes what was received.
    pub(crate) fn restart_loses_received(&self) -> bool {
        self.flavour == Flavour::MariaDb
    }

    /// Never before everything received has been applied: it deletes that.
    pub(crate) fn forget_source(&self) -> &'static str {
        if self.old() { "RESET SLAVE ALL" } else { "RESET REPLICA ALL" }
    }

    /// The replicas that are connected to this server.
    pub(crate) fn replicas(&self) -> &'static str {
        if self.old() { "SHOW SLAVE HOSTS" } else { "SHOW REPLICAS" }
    }

    /// Points the server at a source, with the transactions it lacks to be found out by both. Several statements.
    pub(crate) fn follow(&self, source: &Source<'_>) -> Vec<String> {
        let (what, prefix) = if self.old() { ("CHANGE MASTER TO", "MASTER") } else { ("CHANGE REPLICATION SOURCE TO", "SOURCE") };
        let mut options = vec![
            format!("{prefix}_HOST={}", quoted(source.host)),
            format!("{prefix}_PORT={}", source.port),
            format!("{prefix}_USER={}", quoted(source.user)),
            format!("{prefix}_PASSWORD={}", quoted(source.password)),
            // What it receives counts as acknowledged, so it is applied at once.
            format!("{prefix}_DELAY=0"),
            // Seconds. A source that restarts is found at once; the default is a minute.
            format!("{prefix}_CONNECT_RETRY=1"),
            format!("{prefix}_HEARTBEAT_PERIOD=2"),
            format!("{prefix}_SSL={}", u8::from(source.tls)),
        ];
        for (name, file) in [("CA", source.ca), ("CERT", source.certificate), ("KEY", source.key)] {
            if let Some(file) = file.filter(|_| source.tls) {
                options.push(format!("{prefix}_SSL_{name}={}", quoted(file)));
            }
        }
        let mut statements = Vec::new();
        match self.flavour {
            Flavour::MySql => {
                options.push(format!("{prefix}_AUTO_POSITION=1"));
                // MySQL 9 gives up after ten attempts by default.
                options.push(format!("{prefix}_RETRY_COUNT=86400"));
                if self.public_keys && !source.tls {
                    // Just after a promotion the new primary has nobody's password in its cache, and asks for it whole.
                    options.push(if self.old() { "GET_MASTER_PUBLIC_KEY=1".into() } else { "GET_SOURCE_PUBLIC_KEY=1".into() });
                }
            }
            Flavour::MariaDb => {
                // A server that was a primary has its own transactions in the binary log only.
                statements.push("SET GLOBAL gtid_slave_pos = @@global.gtid_current_pos".to_owned());
                options.push(format!("{prefix}_USE_GTID=slave_pos"));
            }
        }
        statements.push(format!("{what} {}", options.join(", ")));
        statements
    }

    /// Closes it, for administrators too where the server can do that.
    pub(crate) fn close_writes(&self) -> &'static str {
        if self.super_read_only { "SET GLOBAL super_read_only=1" } else { "SET GLOBAL read_only=1" }
    }

    pub(crate) fn open_writes(&self) -> &'static str {
        // Switching read_only off switches super_read_only off as well.
        "SET GLOBAL read_only=0"
    }

    /// Lifts the lock that holds for administrators too, or puts it back. Everybody else stays locked out.
    pub(crate) fn let_administrators_write(&self, on: bool) -> Option<&'static str> {
        self.super_read_only.then_some(if on { "SET GLOBAL super_read_only=0" } else { "SET GLOBAL super_read_only=1" })
    }

    /// Makes a statement that needs the global read lock give up, in seconds.
    pub(crate) fn lock_patience(&self) -> &'static str {
        "SET SESSION lock_wait_timeout=1"
    }

    /// Makes acknowledgements of replicas a condition for commits: nothing is acknowledged without them, however long
    /// that takes.
    pub(crate) fn wait_for_replicas(&self, acknowledgements: usize) -> Vec<String> {
        self.waiting(acknowledgements).into_iter().map(|(name, value)| format!("SET GLOBAL {name}={value}")).collect()
    }

    /// The variables of that, with their values, in the order in which they are set.
    pub(crate) fn waiting(&self, acknowledgements: usize) -> Vec<(String, String)> {
        let Some(semi_sync) = self.semi_sync else { return vec![] };
        let prefix = semi_sync.source();
        let mut variables = vec![(format!("{prefix}_timeout"), WAITS_FOR_EVER.to_string())];
        if semi_sync.lossless {
            variables.push((format!("{prefix}_wait_point"), "AFTER_SYNC".to_owned()));
        }
        if semi_sync.counts {
            variables.push((format!("{prefix}_wait_for_{}_count", semi_sync.replica_word()), acknowledgements.to_string()));
        }
        variables.push((format!("{prefix}_wait_no_{}", semi_sync.replica_word()), "1".to_owned()));
        variables.push((format!("{prefix}_enabled"), "1".to_owned()));
        variables
    }

    /// How many characters the password of a source may have. 5.6 cuts a longer one off without a word.
    pub(crate) fn longest_password(&self) -> usize {
        match self.flavour {
            Flavour::MySql => 32,
            Flavour::MariaDb => 96,
        }
    }

    /// What the binary log leaves out. It is fixed when the server starts.
    pub(crate) fn binary_log(&self) -> &'static [&'static str] {
        match (self.flavour, self.words) {
            (Flavour::MySql, Words::New) => &["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"],
            _ => &["SHOW MASTER STATUS"],
        }
    }

    /// Ends the waiting. It *releases* what waits, as committed: never on a server that may have been cut off.
    pub(crate) fn wait_for_nobody(&self) -> Option<String> {
        self.semi_sync.map(|s| format!("SET GLOBAL {}_enabled=0", s.source()))
    }

    /// Whether `wait_for_nobody` takes long: MySQL waits for a thread that looks up once a second.
    pub(crate) fn stops_waiting_slowly(&self) -> bool {
        self.flavour == Flavour::MySql && self.can_be_lossless()
    }

    /// Lets a replica acknowledge, or not. The receiver takes it over when it connects.
    pub(crate) fn acknowledge(&self, on: bool) -> Option<String> {
        self.semi_sync.map(|s| format!("SET GLOBAL {}_enabled={}", s.replica(), u8::from(on)))
    }

    /// Loads what is missing of semi-synchronous replication. Nothing for MariaDB, which has it built in.
    pub(crate) fn load_semi_sync(&self, library_is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
        if self.flavour == Flavour::MariaDb || self.semi_sync.is_some() {
            return vec![];
        }
        // The old and the new plugins exclude each other.
        if library_is_there("semisync_source.so") {
            vec![
                "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
                "INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'",
            ]
        } else if library_is_there("semisync_master.so") {
            vec![
                "INSTALL PLUGIN rpl_semi_sync_master SONAME 'semisync_master.so'",
                "INSTALL PLUGIN rpl_semi_sync_slave SONAME 'semisync_slave.so'",
            ]
        } else {
            vec![]
        }
    }

    pub(crate) fn semi_sync_status(&self) -> &'static str {
        "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%'"
    }

    /// A statement that changes nothing, is logged, and so waits until replicas have everything logged before it.
    pub(crate) fn barrier(&self) -> &'static str {
        BARRIER
    }

    /// Whether the barrier cannot pass a commit that waits.
    pub(crate) fn barrier_queues(&self) -> bool {
        self.flavour == Flavour::MariaDb
    }

    pub(crate) fn event_scheduler(&self, on: bool) -> &'static str {
        if on { "SET GLOBAL event_scheduler=1" } else { "SET GLOBAL event_scheduler=0" }
    }

    pub(crate) fn sessions(&self) -> &'static str {
        "SHOW PROCESSLIST"
    }

    /// The statements that wait for an acknowledgement, by a number that no other statement ever has. MariaDB only.
    pub(crate) fn waiting_statements(&self) -> &'static str {
        "SELECT query_id AS id FROM information_schema.processlist WHERE state LIKE 'Waiting for semi-sync ACK%'"
    }

    /// The arguments that a server starts with so that it is closed, follows nobody and acknowledges nothing, whatever
    /// the option file or a persisted variable says. Options that a server does not know are passed over (loose).
    ///
    /// init-rpl-role: with SLAVE, MariaDB takes back in its recovery what it takes for unacknowledged, and loses commits that
    /// clients saw succeed, and rows of transactions that stay in its log.
    pub(crate) const ARGUMENTS: &'static [&'static str] = &[
        "--read-only=1",
        "--loose-super-read-only=1",
        "--loose-persisted-globals-load=OFF",
        "--loose-skip-slave-start",
        "--loose-skip-replica-start",
        "--event-scheduler=OFF",
        "--loose-init-rpl-role=MASTER",
        // Containment of sets rests on it: with two transactions of one number, neither tells what a server holds.
        "--loose-gtid-strict-mode=1",
        "--loose-rpl-semi-sync-master-enabled=0",
        "--loose-rpl-semi-sync-slave-enabled=0",
        "--loose-rpl-semi-sync-source-enabled=0",
        "--loose-rpl-semi-sync-replica-enabled=0",
        // Seconds that stopping MariaDB's receiver waits for a primary that may be dead.
        "--loose-rpl-semi-sync-slave-kill-conn-timeout=1",
    ];
}

impl SemiSync {
    fn source(&self) -> &'static str {
        if self.words == Words::New { "rpl_semi_sync_source" } else { "rpl_semi_sync_master" }
    }

    fn replica(&self) -> &'static str {
        if self.words == Words::New { "rpl_semi_sync_replica" } else { "rpl_semi_sync_slave" }
    }

    fn replica_word(&self) -> &'static str {
        if self.words == Words::New { "replica" } else { "slave" }
    }

    /// Names of the two switches: of the source's side, of the replica's.
    pub(crate) fn switches(&self) -> [String; 2] {
        [format!("{}_enabled", self.source()), format!("{}_enabled", self.replica())]
    }

    /// Names of the status values: connected replicas that acknowledge, sessions that wait for one, whether they wait at all.
    pub(crate) fn status_names(&self) -> [String; 3] {
        ["clients", "wait_sessions", "status"].map(|name| format!("{}_{name}", self.source()))
    }
}

/// Where a replica gets its transactions.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) tls: bool,
    pub(crate) ca: Option<&'a str>,
    pub(crate) certificate: Option<&'a str>,
    pub(crate) key: Option<&'a str>,
}

/// A string literal, for a session with an empty sql_mode.
pub(crate) fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for c in text.chars() {
        match c {
            '\'' | '\\' => {
                let _ = write!(literal, "\\{c}");
            }
            '\0' => literal.push_str("\\0"),
            _ => literal.push(c),
        }
    }
    literal.push('\'');
    literal
}

/// A client's session, as opposed to the server's own threads and to replication.
pub(crate) fn is_client(row: &Row) -> bool {
    let column = |name: &str| row.get(name).map(String::as_str).unwrap_or_default();
    let of_the_server = matches!(column("user"), "system user" | "event_scheduler" | "mysql.session");
    !of_the_server && !column("command").starts_with("Binlog Dump") && !matches!(column("command"), "Daemon" | "Slave_IO" | "Slave_SQL")
}

/// Whether a session's commit waits for a replica, in the words of a list of sessions.
pub(crate) fn waits_for_acknowledgement(row: &Row) -> bool {
    row.get("state").is_some_and(|state| state.starts_with("Waiting for semi-sync ACK"))
}

/// Whether a session waits for a lock that another may hold, in the same words. A row's lock is not seen so.
pub(crate) fn waits_for_a_lock(row: &Row) -> bool {
    row.get("state").is_some_and(|state| state.starts_with("Waiting for") && state.contains("lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_waits_for_is_read_from_its_state() {
        let session = |state: &str| Row::from([("state".to_owned(), state.to_owned())]);
        for acknowledgement in ["Waiting for semi-sync ACK from slave", "Waiting for semi-sync ACK from replica"] {
            assert!(waits_for_acknowledgement(&session(acknowledgement)) && !waits_for_a_lock(&session(acknowledgement)));
        }
        for lock in ["Waiting for table metadata lock", "Waiting for global read lock", "Waiting for backup lock"] {
            assert!(waits_for_a_lock(&session(lock)) && !waits_for_acknowledgement(&session(lock)), "{lock}");
        }
        assert!(!waits_for_a_lock(&session("Waiting for the next event in relay log")));
    }

    fn dialect(names: &[&str]) -> Dialect {
        let rows: Vec<Row> = names
            .iter()
            .map(|n| Row::from([("variable_name".to_owned(), (*n).to_owned()), ("value".to_owned(), "x".to_owned())]))
            .collect();
        Dialect::of(&rows).unwrap()
    }

    const MYSQL_9: &[&str] = &[
        "version",
        "super_read_only",
        "gtid_executed",
        "gtid_executed_compression_period",
        "log_replica_updates",
        "caching_sha2_password_auto_generate_rsa_keys",
        "rpl_semi_sync_source_enabled",
        "rpl_semi_sync_replica_enabled",
        "rpl_semi_sync_source_wait_point",
        "rpl_semi_sync_source_wait_for_replica_count",
    ];
    const MYSQL_56: &[&str] = &["gtid_executed", "rpl_semi_sync_master_enabled", "rpl_semi_sync_slave_enabled"];
    const MARIADB: &[&str] =
        &["gtid_binlog_state", "rpl_semi_sync_master_enabled", "rpl_semi_sync_slave_enabled", "rpl_semi_sync_master_wait_point"];

    fn source<'a>() -> Source<'a> {
        Source { host: "lxc1", port: 3306, user: "r", password: "it's \\", tls: false, ca: None, certificate: None, key: None }
    }

    #[test]
    fn each_server_gets_its_own_words() {
        let new = dialect(MYSQL_9);
        assert_eq!((new.replica_status(), new.forget_source()), ("SHOW REPLICA STATUS", "RESET REPLICA ALL"));
        assert!(new.follow(&source())[0].contains("GET_SOURCE_PUBLIC_KEY=1"));
        assert!(new.wait_for_replicas(2).contains(&"SET GLOBAL rpl_semi_sync_source_wait_for_replica_count=2".to_owned()));
        let old = dialect(MYSQL_56);
        assert!(!old.can_be_lossless() && new.can_be_lossless());
        assert!(old.counts_what_began_to_arrive() && !new.counts_what_began_to_arrive());
        let without_plugins = dialect(&["gtid_executed", "gtid_executed_compression_period", "super_read_only"]);
        assert!(!without_plugins.counts_what_began_to_arrive(), "5.7 is no 5.6, whatever it has loaded");
        assert_eq!((old.close_writes(), new.close_writes()), ("SET GLOBAL read_only=1", "SET GLOBAL super_read_only=1"));
        assert!(old.follow(&source())[0].contains("MASTER_AUTO_POSITION=1") && !old.follow(&source())[0].contains("PUBLIC_KEY"));
        let maria = dialect(MARIADB);
        assert_eq!(maria.replica_status(), "SHOW ALL SLAVES STATUS");
        assert!(maria.follow(&source())[1].contains("MASTER_USE_GTID=slave_pos"));
        assert!(!maria.wait_for_replicas(1).iter().any(|s| s.contains("count")));
    }

    /// Not by its words: 8.0 said slave until 8.0.26, and its accounts are those of mysql-accounts-mysql.sql all the same.
    #[test]
    fn the_first_versions_of_8_0_are_asked_for_the_privileges_of_8_0() {
        const MYSQL_8_0_12: &[&str] =
            &["gtid_executed", "gtid_executed_compression_period", "super_read_only", "caching_sha2_password_auto_generate_rsa_keys"];
        let first = dialect(MYSQL_8_0_12);
        assert_eq!(first.replica_status(), "SHOW SLAVE STATUS");
        assert_eq!(first.privileges(), dialect(MYSQL_9).privileges());
        let of_an_account_from_5_7 = ["SUPER", "REPLICATION CLIENT", "REPLICATION SLAVE", "RELOAD", "PROCESS"];
        assert!(first.privileges().iter().all(|any| any.iter().any(|p| of_an_account_from_5_7.contains(p))));
        assert_eq!(dialect(MYSQL_56).privileges()[0], ["SUPER"]);
    }

    #[test]
    fn a_server_without_gtids_has_no_dialect() {
        assert_eq!(Dialect::of(&[]), None);
    }

    #[test]
    fn a_password_stays_inside_its_literal() {
        assert_eq!(quoted("it's \\"), r"'it\'s \\'");
    }

    #[test]
    fn replication_and_the_servers_own_threads_are_no_clients() {
        let row = |user: &str, command: &str| Row::from([("user".into(), user.into()), ("command".into(), command.into())]);
        assert!(is_client(&row("app", "Sleep")) && is_client(&row("root", "Query")));
        for (user, command) in [("system user", "Connect"), ("r", "Binlog Dump GTID"), ("event_scheduler", "Daemon"), ("x", "Daemon")] {
            assert!(!is_client(&row(user, command)), "{user} {command}");
        }
    }
}
