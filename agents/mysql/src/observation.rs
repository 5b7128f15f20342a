//! What a server says of itself, read. No I/O.

use crate::dialect::{Dialect, Row};
use crate::gtid::{Flavour, Gtids};

/// A look at a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Observation {
    /// Nobody can write, as far as this server can forbid it.
    pub(crate) closed: bool,
    /// Accounts without administrators' privileges cannot.
    pub(crate) closed_for_applications: bool,
    /// The transactions in its own log.
    pub(crate) executed: Gtids,
    /// Who it is in the GTIDs of what it writes: server_uuid, or MariaDB's server_id.
    pub(crate) server: String,
    /// A committed transaction is on its disk.
    pub(crate) durable: bool,
    /// Commits wait for acknowledgements.
    pub(crate) waits: bool,
    /// It acknowledges.
    pub(crate) acknowledges: bool,
    /// The event scheduler is on.
    pub(crate) events_run: bool,
    /// It follows somebody, or did.
    pub(crate) replica: Option<Replica>,
    /// All variables that were asked for: for `validate-all`.
    pub(crate) variables: Row,
}

impl Observation {
    pub(crate) fn of(dialect: &Dialect, variables: Row, replica: Option<Replica>) -> Result<Self, String> {
        let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
        // MariaDB 12 has further words for read_only; only these two mean no.
        let on = |name: &str| !matches!(value(name), "" | "0" | "OFF" | "DISABLED");
        // They go into the record and to the other nodes, between words of ours.
        for (name, is_none) in [("server_id", not_a_number as fn(&str) -> bool), ("server_uuid", not_a_uuid)] {
            if is_none(value(name)) {
                return Err(format!("the server says {:?} when it is asked for its {name}: look into its log", head(value(name))));
            }
        }
        let [source, acknowledger] = dialect.semi_sync.map(|s| s.switches()).unwrap_or_default();
        Ok(Self {
            closed: on("read_only") && (!variables.contains_key("super_read_only") || on("super_read_only")),
            closed_for_applications: on("read_only"),
            executed: executed(dialect, &variables)?,
            server: value(if dialect.flavour == Flavour::MySql { "server_uuid" } else { "server_id" }).to_owned(),
            durable: value("sync_binlog") == "1" && value("innodb_flush_log_at_trx_commit") == "1",
            events_run: on("event_scheduler"),
            waits: on(&source),
            acknowledges: on(&acknowledger),
            replica,
            variables,
        })
    }

    /// Everything that is on this server: in its own log, or received and not applied yet.
    pub(crate) fn have(&self) -> Gtids {
        match self.replica.as_ref().and_then(|r| r.received.as_ref()) {
            Some(received) => self.executed.union(received),
            None => self.executed.clone(),
        }
    }
}

/// Whether a text is neither empty nor a number of a server.
fn not_a_number(text: &str) -> bool {
    !text.is_empty() && (text.len() > 20 || !text.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a text is neither empty nor the name of a server.
fn not_a_uuid(text: &str) -> bool {
    !text.is_empty() && (text.len() != 36 || !text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'))
}

/// As much of a text as is shown.
fn head(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The transactions in a server's own log, from the answer to `Dialect::executed` or `Dialect::observe`.
pub(crate) fn executed(dialect: &Dialect, row: &Row) -> Result<Gtids, String> {
    let parse = |name: &str| Gtids::parse(row.get(name).map(String::as_str).unwrap_or_default(), dialect.flavour);
    match dialect.flavour {
        Flavour::MySql => parse("gtid_executed"),
        // A replica made from a backup has nothing in its own log until the first transaction after it.
        Flavour::MariaDb => Ok(parse("gtid_slave_pos")?.union(&parse("gtid_binlog_state")?)),
    }
}

/// All that is in a server's log, from the answer to `Dialect::logged`.
pub(crate) fn logged(dialect: &Dialect, row: &Row) -> Result<Gtids, String> {
    let executed = executed(dialect, row)?;
    match row.get("gtid_owned") {
        Some(owned) => Ok(executed.union(&Gtids::parse(&without_owners(owned), dialect.flavour)?)),
        None => Ok(executed),
    }
}

/// `uuid:5#12:6#13` is `uuid:5:6` with the sessions that are writing them.
fn without_owners(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut owner = false;
    for c in text.chars() {
        owner = c == '#' || (owner && c.is_ascii_digit());
        if !owner {
            plain.push(c);
        }
    }
    plain
}

/// What a replica's status calls what it leaves out.
const FILTERS: &[&str] = &[
    "replicate_do_db",
    "replicate_ignore_db",
    "replicate_do_table",
    "replicate_ignore_table",
    "replicate_wild_do_table",
    "replicate_wild_ignore_table",
    "replicate_rewrite_db",
    "replicate_do_domain_ids",
    "replicate_ignore_domain_ids",
    "replicate_ignore_server_ids",
    "source_server_ids_ignored",
];

/// How a thread of replication does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Thread {
    Running,
    Connecting,
    Stopped,
}

/// A server's replication.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Replica {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) receiver: Thread,
    pub(crate) applier: Thread,
    /// Number and text of the receiver's last error, when it has one.
    pub(crate) receiver_error: Option<(u32, String)>,
    /// The same of the applier.
    pub(crate) applier_error: Option<(u32, String)>,
    /// The applier has worked off all that was received.
    pub(crate) applier_idle: bool,
    /// What was received from the source and can still be applied.
    pub(crate) received: Option<Gtids>,
    /// What was received, and is deleted when it is started again: MariaDB's, when both threads stand still.
    pub(crate) gone: Option<Gtids>,
    /// Seconds that the applier is behind, when known.
    pub(crate) behind: Option<u64>,
    /// It asks its source for the transactions that it lacks, and not for those behind a position in a file: only then it is known what
    /// it has received.
    pub(crate) by_gtid: bool,
    /// Seconds that it applies everything late.
    pub(crate) delay: u64,
    /// What it leaves out, as `replicate_do_db=t`; empty for nothing.
    pub(crate) filters: String,
}

impl Replica {
    /// From the rows of the status; only the unnamed channel counts.
    pub(crate) fn of(dialect: &Dialect, rows: &[Row]) -> Result<Option<Self>, String> {
        let unnamed = |r: &&Row| ["connection_name", "channel_name"].iter().all(|c| r.get(*c).is_none_or(String::is_empty));
        let Some(row) = rows.iter().find(unnamed) else { return Ok(None) };
        let either = |new: &str, old: &str| row.get(new).or_else(|| row.get(old)).cloned().unwrap_or_default();
        let host = either("source_host", "master_host");
        if host.is_empty() {
            return Ok(None);
        }
        let thread = |text: String| match text.as_str() {
            "Yes" => Thread::Running,
            "Connecting" | "Preparing" => Thread::Connecting,
            _ => Thread::Stopped,
        };
        let error = |number: &str, text: &str| {
            let number: u32 = either(number, number).parse().ok().filter(|n| *n != 0)?;
            Some((number, either(text, text)))
        };
        let received = match dialect.flavour {
            Flavour::MySql => either("retrieved_gtid_set", "retrieved_gtid_set"),
            Flavour::MariaDb => either("gtid_io_pos", "gtid_io_pos"),
        };
        let state = either("replica_sql_running_state", "slave_sql_running_state").to_lowercase();
        let by_gtid = match dialect.flavour {
            Flavour::MySql => either("auto_position", "auto_position") == "1",
            Flavour::MariaDb => !matches!(either("using_gtid", "using_gtid").as_str(), "" | "No"),
        };
        let (receiver, applier) =
            (thread(either("replica_io_running", "slave_io_running")), thread(either("replica_sql_running", "slave_sql_running")));
        // MariaDB deletes what was received when replication starts from a complete stop: it is as good as gone then.
        let lost = dialect.flavour == Flavour::MariaDb && (receiver, applier) == (Thread::Stopped, Thread::Stopped);
        let received = Some(Gtids::parse(&received, dialect.flavour)?).filter(|r| !r.is_empty());
        Ok(Some(Self {
            host,
            port: either("source_port", "master_port").parse().unwrap_or_default(),
            receiver,
            applier,
            receiver_error: error("last_io_errno", "last_io_error"),
            applier_error: error("last_sql_errno", "last_sql_error"),
            applier_idle: state.contains("has read all relay log"),
            received: received.clone().filter(|_| !lost),
            gone: received.filter(|_| lost),
            behind: either("seconds_behind_source", "seconds_behind_master").parse().ok(),
            by_gtid,
            delay: either("sql_delay", "sql_delay").parse().unwrap_or_default(),
            filters: FILTERS
                .iter()
                // Those that are variables as well are seen there.
                .filter(|name| !dialect.settings.iter().any(|known| known.as_str() == **name))
                .filter_map(|name| row.get(*name).filter(|value| !value.is_empty()).map(|value| format!("{name}={value}")))
                .collect::<Vec<_>>()
                .join(" "),
        }))
    }

    /// Whether it follows as the agent points it: by GTID, without delay.
    pub(crate) fn in_order(&self) -> bool {
        self.by_gtid && self.delay == 0
    }

    /// Connected to its source and receiving.
    pub(crate) fn attached(&self) -> bool {
        self.receiver == Thread::Running
    }

    /// Nobody is reached where its source should be: that one may be dead.
    pub(crate) fn misses_its_source(&self) -> bool {
        let unreachable = |number: u32| matches!(number, 2002 | 2003 | 2005 | 2006 | 2013);
        self.receiver != Thread::Running && self.receiver_error.as_ref().is_some_and(|(number, _)| unreachable(*number))
    }

    /// Why it cannot go on by itself, with the remedy.
    pub(crate) fn broken(&self) -> Option<String> {
        if let Some((number, text)) = self.applier_error.as_ref().filter(|_| self.applier == Thread::Stopped) {
            return Some(format!("the applier stopped with error {number} ({text}): correct the data, or make this replica anew"));
        }
        let (number, text) = self.receiver_error.as_ref().filter(|_| self.receiver != Thread::Running)?;
        let (host, port) = (&self.host, self.port);
        Some(match number {
            1045 | 2061 | 1698 => {
                format!(
                    "{host} refuses the login of replicas (error {number}): correct replication_user and replication_passwd or its file ({text})"
                )
            }
            1130 => format!(
                "{host} lets no replica in from here (error {number}): create the accounts there, with mysql-accounts-*.sql ({text})"
            ),
            1593 => format!(
                "another server has the server_id or server_uuid of this one (error {number}): write another server_id into the option file, or \
                 delete auto.cnf in datadir, and restart ({text})"
            ),
            1236 | 13114 if text.contains("purged") => {
                format!("{host} has purged what is missing here (error {number}): make this replica anew ({text})")
            }
            1236 | 13114 => format!(
                "this server has transactions that {host} does not have, or that one has lost some (error {number}): compare their GTIDs ({text})"
            ),
            2003 | 2002 | 2005 => format!(
                "{host}:{port} cannot be reached (error {number}): check that the name resolves, the port is open and the primary runs ({text})"
            ),
            _ => format!("the receiver stopped with error {number} ({text}): see the server's error log"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_errors_of_a_receiver_name_the_cause_first_and_the_remedy() {
        let dialect = Dialect::of(&[Row::from([("variable_name".to_owned(), "gtid_binlog_state".to_owned())])]).unwrap();
        let said = |number: &str| {
            let row = [("master_host", "lxc1"), ("master_port", "3306"), ("slave_io_running", "No"), ("using_gtid", "Slave_Pos")];
            let error = [("last_io_errno", number), ("last_io_error", "what the server says, at length")];
            let row: Row = row.into_iter().chain(error).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            Replica::of(&dialect, &[row]).unwrap().unwrap().broken().unwrap()
        };
        for (number, begins, remedy) in [
            ("1045", "lxc1 refuses the login of replicas", "replication_passwd"),
            ("1130", "lxc1 lets no replica in", "mysql-accounts-*.sql"),
            ("1593", "another server has the server_id", "write another server_id"),
            ("2003", "lxc1:3306 cannot be reached", "the port is open"),
        ] {
            let said = said(number);
            assert!(said.starts_with(begins) && said.contains(number), "{said}");
            // What crm_mon shows of it.
            assert!(said.chars().take(160).collect::<String>().contains(remedy), "{said}");
        }
    }

    /// The text stood in the record, and its words counted as the record's.
    #[test]
    fn who_a_server_is_holds_no_words_of_a_record() {
        let dialect = Dialect::of(&[Row::from([("variable_name".to_owned(), "gtid_executed".to_owned())])]).unwrap();
        let of = |name: &str, value: &str| Observation::of(&dialect, Row::from([(name.to_owned(), value.to_owned())]), None);
        for uuid in ["", "3e11fa47-71ca-11e1-9e33-c80aa9429562"] {
            assert_eq!(of("server_uuid", uuid).unwrap().server, uuid);
        }
        assert!(of("server_id", "4294967295").is_ok());
        for (name, value) in [("server_uuid", "x node=lxc9"), ("server_id", "7 active=lxc9"), ("server_id", "-1"), ("server_uuid", "x")] {
            let error = of(name, value).unwrap_err();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn a_commit_that_waits_is_in_the_log() {
        assert_eq!(without_owners("3e11fa47-71ca-11e1-9e33-c80aa9429562:5#12:6#13"), "3e11fa47-71ca-11e1-9e33-c80aa9429562:5:6");
        assert_eq!(without_owners(""), "");
    }
}
